"""Outcomes: what each model said about each input, how sure it was, what was true, and what it cost."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_dsplus.outcomes.table import Outcomes
    from langchain_dsplus.outcomes.traces import default_label

__all__ = ["Outcomes", "default_label"]

_HOMES = {"Outcomes": "table", "default_label": "traces"}


def __getattr__(name: str) -> Any:
    """Load the table when somebody asks for it: a router needs the names of labels only."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
