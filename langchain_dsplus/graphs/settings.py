"""What a run of a graph may set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig


@dataclass(frozen=True, slots=True)
class GraphContext:
    """Settings of one run of a graph: its `context_schema`.

    Each field is also read from `config["configurable"]`, which wins; None, or no context at all, leaves what the
    graph was built with.

    Example:
        ```python
        graph.invoke({"text": "Where is my card?"}, context=GraphContext(dsplus_threshold=0.9))
        ```
    """

    dsplus_threshold: Any = None
    """Of the small models: a number, a list, or a dict by name. Looser than the graph's it is refused."""
    dsplus_mode: str | None = None
    """`live`, `shadow` or `off`; looser than the graph's it is refused."""
    dsplus_audit_rate: float | None = None
    """Share of local answers that the large model checks in the background."""
    dsplus_min_confidence: float | None = None
    """Least confidence of an adjudicator's verdict, in [0, 1]; below the graph's it is refused."""


def read_setting(config: RunnableConfig, key: str) -> Any:
    """One setting of this run: of the config, else of the graph's context; None where nobody set it."""
    configurable = config.get("configurable") or {}
    if configurable.get(key) is not None:
        return configurable[key]
    context = getattr(configurable.get("__pregel_runtime"), "context", None)
    return context.get(key) if isinstance(context, Mapping) else getattr(context, key, None)
