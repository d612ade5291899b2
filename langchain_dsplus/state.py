"""What a node writes into a graph: updates that reducers take, and events for `stream_mode="custom"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


def as_update(state: Any, update: Mapping[str, Any]) -> dict[str, Any]:
    """Return an update that fits the state: where the state keeps a list, a single value becomes a list of one.

    LangGraph's reducers of lists (`operator.add`, `add_messages`) then append it; a key that keeps one value gets it as
    it is.

    Args:
        state: What the node was given, a mapping or an object with attributes.
        update: The node's outputs by key.

    Example:
        >>> as_update({"labels": ["yes"], "last": "yes"}, {"labels": "no", "last": "no"})
        {'labels': ['no'], 'last': 'no'}
    """
    return {
        key: [value] if isinstance(held(state, key), list) and not isinstance(value, list) else value
        for key, value in update.items()
    }


def held(state: Any, key: str) -> Any:
    """What a state has under a key; None where it has nothing."""
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)


def latest(state: Any, key: str) -> Any:
    """What a state has under a key; of a list the last; None where it has nothing.

    Example:
        >>> latest({"verdict": [1, 2]}, "verdict"), latest({"verdict": 3}, "verdict"), latest({}, "verdict")
        (2, 3, None)
    """
    value = held(state, key)
    if isinstance(value, list):
        return value[-1] if value else None
    return value


def emit(config: RunnableConfig, event: dict[str, Any]) -> None:
    """Tell `stream_mode="custom"` something; outside of a graph nobody listens."""
    runtime = (config.get("configurable") or {}).get("__pregel_runtime")
    writer = getattr(runtime, "stream_writer", None)
    if writer is not None:
        writer(event)
