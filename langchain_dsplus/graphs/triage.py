"""Triage: a small classifier settles what it is sure of, before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import ensure_config

from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Route
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.state import as_update, emit
from langchain_dsplus.tags import ROUTE_EVENT


class Triage(Shown, Runnable[dict[str, Any], dict[str, Any]]):
    """A node that asks small models alone: what they are sure of is settled, the rest goes on.

    Their label becomes the verdict: one of the adjudicator's, or one of your own such as "no dispute". A label that
    must always go on belongs into the router's `never_local`. The node returns the `Route`, and the verdict where it
    was accepted.

    Args:
        small: A `ConfidenceRouter`, of which only the decision is used and the large chain never asked (but for audits,
            if it has some), or a small model.
        threshold: For a small model: accept iff confidence > threshold; or a `Certificate`.
        input_key: Where the statement is; the small model gets its bare value.
        output_key: Where the verdict goes.
        route_key: Where the `Route` goes.
        clear: Keys of the state to set to None where an earlier input of the same thread has left something in them.
        name: Of the node.

    Example:
        ```python
        graph.add_node("triage", Triage(small, threshold=0.95))
        graph.add_conditional_edges("triage", settled, {"accept": END, "escalate": "transfer"})
        ```
    """

    def __init__(
        self,
        small: Any,
        *,
        threshold: Any = 0.97,
        input_key: str = "statement",
        output_key: str = "verdict",
        route_key: str = "triage",
        clear: tuple[str, ...] = (),
        name: str = "triage",
    ) -> None:
        if not isinstance(small, ConfidenceRouter):
            small = ConfidenceRouter(small=small, large=RunnableLambda(_hand_over), threshold=threshold, name=name)
        self.router = small
        self.input_key = input_key
        self.output_key = output_key
        self.route_key = route_key
        self.clear = clear
        self.name = name

    def invoke(
        self,
        input: dict[str, Any],
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Decide about one statement.

        Raises:
            TypeError: If the state has no statement.
        """
        config = ensure_config(config)
        _, route = self.router.triage(self._read(input), config)
        return self._update(input, route, config)

    async def ainvoke(
        self,
        input: dict[str, Any],
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Async twin of `invoke`."""
        config = ensure_config(config)
        _, route = await self.router.atriage(self._read(input), config)
        return self._update(input, route, config)

    def _read(self, state: Any) -> Any:
        if not isinstance(state, Mapping) or self.input_key not in state:
            raise TypeError(f"the triage needs a dict with the key {self.input_key!r} (`input_key`)")
        return state[self.input_key]

    def _update(self, state: Mapping[str, Any], route: Route, config: RunnableConfig) -> dict[str, Any]:
        emit(config, {"type": ROUTE_EVENT, "node": self.name, "route": route})
        update: dict[str, Any] = {key: None for key in self.clear if state.get(key) is not None}
        update[self.route_key] = route
        if route["accepted"]:
            answer = route["answers"][-1]
            update[self.output_key] = {
                "verdict": answer["choice"],
                "facts": [],
                "reasons": [],
                "confidence": answer["confidence"],
                "method": "triage",
                "error": None,
                "usage": None,
                "tokens_in": 0,
            }
        return as_update(state, update)


def settled(route: Route | None) -> str:
    """The branch that a route takes: `accept` or `escalate`."""
    return "accept" if route is not None and route["accepted"] else "escalate"


def _hand_over(_: Any) -> str:
    """Stands where a router has its large chain: what escalates goes on in the graph."""
    raise NotImplementedError(
        "a triage has no large chain to ask: set `audit_rate` on a ConfidenceRouter of your own with one"
    )
