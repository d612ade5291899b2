"""LangChain's decision models: small models as one, a cascade as one, and one as a small model."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.decisions.cascade import CascadeDecisionModel, CascadeResponse
    from langchain_dsplus.decisions.large import RefusedError, as_decisions
    from langchain_dsplus.decisions.learning import Teaching, teaching_rows
    from langchain_dsplus.decisions.local import LocalDecisionModel
    from langchain_dsplus.decisions.outcomes import (
        acollect_decision_outcomes,
        certify_decisions,
        collect_decision_outcomes,
    )
    from langchain_dsplus.decisions.small import DecisionSmallModel
    from langchain_dsplus.decisions.state import render_state
    from langchain_dsplus.questions import UnknownQuestionError, fingerprint

__all__ = [
    "CascadeDecisionModel",
    "CascadeResponse",
    "DecisionSmallModel",
    "LocalDecisionModel",
    "RefusedError",
    "Teaching",
    "UnknownQuestionError",
    "acollect_decision_outcomes",
    "as_decisions",
    "certify_decisions",
    "collect_decision_outcomes",
    "fingerprint",
    "render_state",
    "teaching_rows",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "cascade": "CascadeDecisionModel CascadeResponse",
        "large": "RefusedError as_decisions",
        "learning": "Teaching teaching_rows",
        "local": "LocalDecisionModel UnknownQuestionError fingerprint",
        "outcomes": "acollect_decision_outcomes certify_decisions collect_decision_outcomes",
        "small": "DecisionSmallModel",
        "state": "render_state",
    },
)
