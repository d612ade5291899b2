"""LangChain's decision models: small models as one, a cascade as one, and one as a small model."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_dsplus.decisions.cascade import CascadeDecisionModel, CascadeResponse
    from langchain_dsplus.decisions.large import RefusedError, as_decisions
    from langchain_dsplus.decisions.local import LocalDecisionModel, UnknownQuestionError
    from langchain_dsplus.decisions.small import DecisionSmallModel
    from langchain_dsplus.decisions.state import render_state

_HOME = {
    "CascadeDecisionModel": "cascade",
    "CascadeResponse": "cascade",
    "DecisionSmallModel": "small",
    "LocalDecisionModel": "local",
    "RefusedError": "large",
    "UnknownQuestionError": "local",
    "as_decisions": "large",
    "render_state": "state",
}
__all__ = [
    "CascadeDecisionModel",
    "CascadeResponse",
    "DecisionSmallModel",
    "LocalDecisionModel",
    "RefusedError",
    "UnknownQuestionError",
    "as_decisions",
    "render_state",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
