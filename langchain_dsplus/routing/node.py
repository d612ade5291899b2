"""The form of a router for a LangGraph node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.runnables.config import merge_configs

from langchain_dsplus import _drive
from langchain_dsplus._drive import Plan
from langchain_dsplus.answer import Route
from langchain_dsplus.routing.answering import answer
from langchain_dsplus.routing.state import State
from langchain_dsplus.state import as_update, emit
from langchain_dsplus.tags import ROUTE_EVENT


def make_node(
    current: Callable[[], State],
    input_key: str | None,
    output_key: str,
    route_key: str | None,
    bound: RunnableConfig | None,
) -> RunnableLambda[Any, dict[str, Any]]:
    """A Runnable from a graph's state to an update; `ConfidenceRouter.as_node` says what is what."""

    def plan(values: Any, config: RunnableConfig) -> Plan[tuple[Any, Route]]:
        if input_key is None:
            value = values
        else:
            try:
                value = values[input_key] if isinstance(values, Mapping) else getattr(values, input_key)
            except (KeyError, AttributeError):
                name = current().shown_name
                raise KeyError(f"the state has no {input_key!r} (`input_key` of the node of {name})") from None
        return answer(current(), value, merge_configs(bound, config), {})

    def update(values: Any, config: RunnableConfig, output: Any, route: Route) -> dict[str, Any]:
        emit(config, {"type": ROUTE_EVENT, "node": current().shown_name, "route": route})
        return as_update(values, {output_key: output} | ({} if route_key is None else {route_key: route}))

    def node(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return update(state, config, *_drive.run(plan(state, config)))

    async def anode(state: Any, config: RunnableConfig) -> dict[str, Any]:
        return update(state, config, *await _drive.arun(plan(state, config)))

    return RunnableLambda(node, afunc=anode, name=current().shown_name)
