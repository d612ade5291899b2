"""Shadow answers and audits: what no reply waits for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig

from langchain_dsplus import _drive
from langchain_dsplus._drive import Call, Plan
from langchain_dsplus.answer import EscalationContext
from langchain_dsplus.costs.usage import UsageMeter
from langchain_dsplus.routing.decision import BEFORE, Item
from langchain_dsplus.routing.recording import record_audits, record_shadow
from langchain_dsplus.routing.runs import Apart, tell_time
from langchain_dsplus.routing.state import State
from langchain_dsplus.routing.steps import for_large
from langchain_dsplus.tags import BACKGROUND_TAG, NOSTREAM_TAG, ROUTE_ID_KEY


class _Later(NamedTuple):
    """A plan that is started, not waited for; with `background=False` it is done at once."""

    state: State
    plan: Callable[[], Plan[None]]
    size: int

    def run(self) -> None:
        """Start it in a thread."""
        if self.state.in_background:
            self.state.working().submit(lambda: _drive.run(self.plan()), self.size)
        else:
            with contextlib.suppress(Exception):
                _drive.run(self.plan())

    async def arun(self) -> None:
        """Start it as a task."""
        if self.state.in_background:
            self.state.working().spawn(lambda: _drive.arun(self.plan()), self.size)
        else:
            with contextlib.suppress(Exception):
                await _drive.arun(self.plan())


def jobs(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Whose small models are asked in the background, and whose local answer is audited."""
    return [i for i in items if i.settings.mode == "shadow"], [i for i in items if i.audited]


def after(state: State, items: Sequence[Item], kwargs: dict[str, Any]) -> Plan[None]:
    """Start what no reply waits for."""
    shadows, audits = jobs(items)
    if shadows:
        yield _Later(state, lambda: _shadow(state, shadows), len(shadows))
    if audits:
        yield _Later(state, lambda: _audit(state, audits, kwargs), len(audits))


def _shadow(state: State, items: Sequence[Item]) -> Plan[None]:
    """Ask every small model, whatever the first says: a certificate wants all of them."""
    configs = [_background_config(item) for item in items]
    values = [item.input for item in items]
    asked = {}
    for model, asker in state.askers.items():
        started = time.perf_counter()
        with Apart(items[0].config):
            asked[model] = yield Call(asker.ask, asker.aask, values, *_shadow_configs(state, model, configs))
        tell_time(state, items, model, time.perf_counter() - started)
    record_shadow(state, items, asked)


def _audit(state: State, items: Sequence[Item], kwargs: dict[str, Any]) -> Plan[None]:
    """Ask the large chain, with the plain prompt, about inputs that were answered locally."""
    with Apart(items[0].config):
        outputs = yield Call(
            state.large.batch,
            state.large.abatch,
            [for_large(state, item.input, EscalationContext(None, {})) for item in items],
            [_audit_config(item) for item in items],
            return_exceptions=True,
            **kwargs,
        )
    record_audits(state, items, outputs)


def _shadow_configs(
    state: State, model: int, configs: list[RunnableConfig]
) -> tuple[list[RunnableConfig] | None, RunnableConfig | None]:
    if model == BEFORE:
        return None, None
    name = state.names[model]
    named = [RunnableConfig(**{**c, "tags": [*(c.get("tags") or []), name, NOSTREAM_TAG]}) for c in configs]
    if state.models[model].traces_calls:
        return named, None
    return None, named[0] if named[0]["callbacks"] else None


def _audit_config(item: Item) -> RunnableConfig:
    config = _background_config(item)
    item.audit_meter = UsageMeter(background=True)
    return {**config, "callbacks": [*cast("list[Any]", config["callbacks"]), item.audit_meter]}


def _background_config(item: Item) -> RunnableConfig:
    """A config for work whose run has ended: runs of its own, for the same handlers, tagged.

    Streaming handlers are left out, since a stream shows one answer; so are a graph's internals.
    """
    from langchain_core.tracers._streaming import _StreamingCallbackHandler

    manager = item.run.get_child()
    config = RunnableConfig(
        callbacks=[h for h in manager.inheritable_handlers if not isinstance(h, _StreamingCallbackHandler)],
        tags=[*manager.inheritable_tags, BACKGROUND_TAG],
        metadata={**manager.inheritable_metadata, ROUTE_ID_KEY: item.route_id},
        configurable={
            # A check must not write into the user's own thread or history.
            key: f"dsplus-{item.route_id}" if key in {"thread_id", "session_id"} else value
            for key, value in (item.config.get("configurable") or {}).items()
            if not key.startswith(("__pregel", "checkpoint"))
        },
    )
    if item.config.get("max_concurrency") is not None:
        config["max_concurrency"] = item.config["max_concurrency"]
    return config
