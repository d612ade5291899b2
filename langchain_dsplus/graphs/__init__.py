"""Ready-made LangGraph graphs, and their nodes."""

from langchain_dsplus.graphs.adjudicator import (
    SWAPPED_PROMPT,
    Adjudicator,
    Verdict,
    VerdictRecord,
)
from langchain_dsplus.graphs.classification import ClassificationState, GraphRouter, create_dsplus_graph
from langchain_dsplus.graphs.dispute import DisputeState, create_dispute_graph
from langchain_dsplus.graphs.review import CheckRecord, Review, SwapCheck
from langchain_dsplus.graphs.settings import GraphContext
from langchain_dsplus.graphs.triage import Triage
from langchain_dsplus.transfer.verdicts import ADJUDICATE_PROMPT, VERDICTS

__all__ = [
    "ADJUDICATE_PROMPT",
    "SWAPPED_PROMPT",
    "VERDICTS",
    "Adjudicator",
    "CheckRecord",
    "ClassificationState",
    "DisputeState",
    "GraphContext",
    "GraphRouter",
    "Review",
    "SwapCheck",
    "Triage",
    "Verdict",
    "VerdictRecord",
    "create_dispute_graph",
    "create_dsplus_graph",
]
