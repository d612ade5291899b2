"""What a node writes into a graph: updates that reducers take, and events for `stream_mode="custom"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config


def as_update(state: Any, update: Mapping[str, Any]) -> dict[str, Any]:
    """Return an update that fits the state: where the state keeps a list, a single value becomes a list of one.

    LangGraph's reducers of lists (`operator.add`, `add_messages`) then append it; a key that keeps one value gets it as
    it is. A tuple is kept as a list is.

    Args:
        state: What the node was given, a mapping or an object with attributes. Where it lacks a key, since the node has
            an `input_schema` of its own, the graph's own state is asked.
        update: The node's outputs by key.

    Example:
        >>> as_update({"labels": ["yes"], "last": "yes"}, {"labels": "no", "last": "no"})
        {'labels': ['no'], 'last': 'no'}
    """
    return {key: _like(_in_graph(state, key), value) for key, value in update.items()}


def _like(kept: Any, value: Any) -> Any:
    """A value in the form of what is kept: a list or a tuple of one, or itself.

    A text among messages is the model's: `add_messages` alone would take it for the user's.
    """
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, str) and isinstance(kept, (list, tuple)) and any(isinstance(m, BaseMessage) for m in kept):
        value = AIMessage(value)
    return [value] if isinstance(kept, list) else (value,) if isinstance(kept, tuple) else value


def _in_graph(state: Any, key: str) -> Any:
    """What is kept under a key, also where the node is not shown it; outside of a graph only what it is shown."""
    if key in state if isinstance(state, Mapping) else hasattr(state, key):
        return held(state, key)
    read = (ensure_config().get("configurable") or {}).get("__pregel_read")
    try:
        return None if read is None else read(key)
    except KeyError:  # no such key: LangGraph says so itself
        return None


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
