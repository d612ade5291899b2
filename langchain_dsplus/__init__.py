"""Small local models and a paid large model, together in LangChain and LangGraph.

Every public name is imported when it is first used: `import langchain_dsplus` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_dsplus._version import __version__

if sys.version_info < (3, 11):  # noqa: UP036 - where pip was told to look away, the first error would be a riddle
    msg = f"langchain-dsplus needs Python 3.11 or newer, and this is {sys.version_info[0]}.{sys.version_info[1]}"
    raise ImportError(msg)

if TYPE_CHECKING:
    from langchain_dsplus.answer import Answer
    from langchain_dsplus.chat_dsplus.model import ChatDSPlus
    from langchain_dsplus.chat_dsplus.outcomes import collect_chat_outcomes
    from langchain_dsplus.costs.ledger import CostLedger
    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.decisions.cascade import CascadeDecisionModel
    from langchain_dsplus.decisions.local import LocalDecisionModel
    from langchain_dsplus.decisions.small import DecisionSmallModel
    from langchain_dsplus.fidelity.check import Fidelity
    from langchain_dsplus.graphs import create_dispute_graph, create_dsplus_graph
    from langchain_dsplus.learning.distiller import Distiller
    from langchain_dsplus.learning.promotion import promotion
    from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
    from langchain_dsplus.local.chat import ChatLocal
    from langchain_dsplus.middleware import ConfidenceShuntMiddleware as ConfidenceShuntMiddleware
    from langchain_dsplus.monitoring.audit import AuditMonitor
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.pruner import PromptPruner
    from langchain_dsplus.registry.live import LiveRouter
    from langchain_dsplus.registry.registry import ModelRegistry
    from langchain_dsplus.report import write_report
    from langchain_dsplus.routing.persistence import load_router, save_router
    from langchain_dsplus.routing.router import ConfidenceRouter
    from langchain_dsplus.scores.protocol import RouteScore
    from langchain_dsplus.shunt.shunt import DataShunt
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.small_models.chat import ChatClassifier
    from langchain_dsplus.small_models.fake import FakeSmallModel
    from langchain_dsplus.small_models.image import ImageClassifier
    from langchain_dsplus.small_models.sentence import SentenceClassifier
    from langchain_dsplus.small_models.sklearn import SklearnClassifier
    from langchain_dsplus.small_models.transformers import TransformersClassifier
    from langchain_dsplus.threshold.certificate import Certificate
    from langchain_dsplus.threshold.certify import certify
    from langchain_dsplus.threshold.choose import choose_threshold
    from langchain_dsplus.traces.collect import collect_outcomes
    from langchain_dsplus.traces.recorder import JSONLRecorder
    from langchain_dsplus.traces.store import TraceStore
    from langchain_dsplus.transfer import PromptTransfer, certify_transfer

_HOME = {
    "Answer": "answer",
    "AuditMonitor": "monitoring.audit",
    "CascadeDecisionModel": "decisions.cascade",
    "Certificate": "threshold.certificate",
    "ChatClassifier": "small_models.chat",
    "ChatDSPlus": "chat_dsplus.model",
    "ChatLocal": "local.chat",
    "ConfidenceRouter": "routing.router",
    "ConfidenceShuntMiddleware": "middleware",
    "CostLedger": "costs.ledger",
    "DataShunt": "shunt.shunt",
    "DecisionSmallModel": "decisions.small",
    "Distiller": "learning.distiller",
    "FakeSmallModel": "small_models.fake",
    "Fidelity": "fidelity.check",
    "ImageClassifier": "small_models.image",
    "JSONLRecorder": "traces.recorder",
    "LabelParser": "prompts.parser",
    "LiveRouter": "registry.live",
    "LocalDecisionModel": "decisions.local",
    "ModelRegistry": "registry.registry",
    "Outcomes": "outcomes",
    "Price": "costs.prices",
    "PromptPruner": "prompts.pruner",
    "PromptTransfer": "transfer",
    "RouteScore": "scores.protocol",
    "SentenceClassifier": "small_models.sentence",
    "SklearnClassifier": "small_models.sklearn",
    "SmallModel": "small_models.base",
    "TraceStore": "traces.store",
    "TransformersClassifier": "small_models.transformers",
    "TwoStageConfidenceDistillation": "learning.two_stage",
    "certify": "threshold.certify",
    "certify_transfer": "transfer",
    "choose_threshold": "threshold.choose",
    "collect_chat_outcomes": "chat_dsplus.outcomes",
    "collect_outcomes": "traces.collect",
    "create_dispute_graph": "graphs",
    "create_dsplus_graph": "graphs",
    "load_router": "routing.persistence",
    "promotion": "learning.promotion",
    "save_router": "routing.persistence",
    "write_report": "report",
}

# Not in `__all__`: a star import must work without the extra `middleware`, which its base class comes from.
__all__ = [
    "Answer",
    "AuditMonitor",
    "CascadeDecisionModel",
    "Certificate",
    "ChatClassifier",
    "ChatDSPlus",
    "ChatLocal",
    "ConfidenceRouter",
    "CostLedger",
    "DataShunt",
    "DecisionSmallModel",
    "Distiller",
    "FakeSmallModel",
    "Fidelity",
    "ImageClassifier",
    "JSONLRecorder",
    "LabelParser",
    "LiveRouter",
    "LocalDecisionModel",
    "ModelRegistry",
    "Outcomes",
    "Price",
    "PromptPruner",
    "PromptTransfer",
    "RouteScore",
    "SentenceClassifier",
    "SklearnClassifier",
    "SmallModel",
    "TraceStore",
    "TransformersClassifier",
    "TwoStageConfidenceDistillation",
    "__version__",
    "certify",
    "certify_transfer",
    "choose_threshold",
    "collect_chat_outcomes",
    "collect_outcomes",
    "create_dispute_graph",
    "create_dsplus_graph",
    "load_router",
    "promotion",
    "save_router",
    "write_report",
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
    return sorted({*_HOME, "__version__"})
