"""The traced run of a decision: how it starts, what its handlers hear, and what must not hang beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    var_child_runnable_config,
)

from langchain_dsplus._drive import Call, Plan, told
from langchain_dsplus.answer import Route, must_pass
from langchain_dsplus.routing.decision import BEFORE, Item
from langchain_dsplus.routing.state import State
from langchain_dsplus.tags import ROUTE_EVENT

_OWN = frozenset({"callbacks", "run_name", "run_id"})


def start(state: State, value: Any, config: RunnableConfig) -> Call:
    """The start of a decision's run; gives its run manager. A `run_id` in the config is used up."""
    return Call(_start, _astart, state, value, config)


def _start(state: State, value: Any, config: RunnableConfig) -> CallbackManagerForChainRun:
    manager = get_callback_manager_for_config(config)
    name = config.get("run_name") or state.shown_name
    return manager.on_chain_start(None, value, name=name, run_id=config.pop("run_id", None))


async def _astart(state: State, value: Any, config: RunnableConfig) -> AsyncCallbackManagerForChainRun:
    manager = get_async_callback_manager_for_config(config)
    name = config.get("run_name") or state.shown_name
    return await manager.on_chain_start(None, value, name=name, run_id=config.pop("run_id", None))


def announce(state: State, run: Any, route: Route) -> Plan[None]:
    """Tell the handlers that listen who answered, and what monitor and pacer have to say that no run was there for."""
    if not any(_listens(handler) for handler in run.handlers):
        return
    yield told(_custom_event, run, ROUTE_EVENT, route)
    for part in (state.monitor, state.pacer):
        if part is not None:
            for name, body in part.events():
                yield told(_custom_event, run, name, body)


def _custom_event(run: Any, name: str, body: Any) -> Any:
    return run.get_child().on_custom_event(name, body, run_id=run.run_id)


def _listens(handler: Any) -> bool:
    """Whether a handler has an `on_custom_event` of its own."""
    from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler

    own = getattr(type(handler), "on_custom_event", None)
    inherited = (BaseCallbackHandler.on_custom_event, AsyncCallbackHandler.on_custom_event)
    return own not in inherited and not getattr(handler, "ignore_custom_event", False)


def tell_time(state: State, items: Sequence[Item], model: int, seconds: float) -> None:
    """Tell the handlers that ask for it how long an embedded small model took: it has no run. Inputs share it."""
    if model == BEFORE or state.models[model].traces_calls:
        return
    for item in items:
        for handler in dict.fromkeys(item.run.handlers):
            tell = getattr(handler, "on_small_model", None)  # as `CostLedger` has it
            if tell is not None:
                tell(state.names[model], seconds / len(items))


def tell_failure(state: State, run: Any, item: Item | Exception, error: BaseException) -> None:
    """Tell the handlers that ask for it who was asked where nobody answered: such an input did not stay local."""
    if isinstance(item, Item) and item.accepted is None and not must_pass(error):
        for handler in dict.fromkeys(run.handlers):
            tell = getattr(handler, "on_unanswered", None)  # as `CostLedger` has it
            if tell is not None:
                tell(item.route(state.names), run_id=run.run_id)


class Apart:
    """Hold off what LangChain keeps in the context about the runs around the router, as a context manager.

    A Runnable with something bound to it (`bind`, `with_retry`) takes its parent run from there before it looks at the
    config that it is given, and so would hang beside the router in a trace, not below it.
    """

    __slots__ = ("config", "token")  # it stands around every local answer, where `contextmanager` would be felt

    def __init__(self, config: RunnableConfig) -> None:
        self.config = config

    def __enter__(self) -> None:
        config: Any = {k: v for k, v in self.config.items() if k not in _OWN}
        self.token = var_child_runnable_config.set(config)

    def __exit__(self, *_: object) -> None:
        var_child_runnable_config.reset(self.token)
