"""LangChain's decision models: small models as one, a cascade as one, and one as a small model."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.decisions.cascade import CascadeDecisionModel, CascadeResponse
    from langchain_dsplus.decisions.large import RefusedError, as_decisions
    from langchain_dsplus.decisions.local import LocalDecisionModel, UnknownQuestionError
    from langchain_dsplus.decisions.small import DecisionSmallModel
    from langchain_dsplus.decisions.state import render_state

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

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cascade": "CascadeDecisionModel CascadeResponse",
        "large": "RefusedError as_decisions",
        "local": "LocalDecisionModel UnknownQuestionError",
        "small": "DecisionSmallModel",
        "state": "render_state",
    },
)
