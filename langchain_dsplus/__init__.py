"""Small local models and a paid large model, together in LangChain and LangGraph.

Every public name is imported when it is first used: `import langchain_dsplus` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_dsplus._version import __version__

if TYPE_CHECKING:
    from langchain_dsplus.answer import Answer, Route
    from langchain_dsplus.calibration import (
        IsotonicCalibration,
        PlattScaling,
        TemperatureScaling,
        aurc,
        auroc,
        brier_score,
        expected_calibration_error,
    )
    from langchain_dsplus.chat_dsplus.model import ChatDSPlus
    from langchain_dsplus.chat_dsplus.outcomes import acollect_chat_outcomes, collect_chat_outcomes
    from langchain_dsplus.costs.ledger import CostLedger
    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.fidelity.check import Fidelity
    from langchain_dsplus.graphs import (
        Adjudicator,
        ClassificationState,
        DisputeState,
        GraphContext,
        GraphRouter,
        Review,
        SwapCheck,
        Triage,
        create_dispute_graph,
        create_dsplus_graph,
    )
    from langchain_dsplus.learning.distiller import Distiller
    from langchain_dsplus.learning.promotion import promotion
    from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation
    from langchain_dsplus.local.chat import ChatLocal
    from langchain_dsplus.middleware import ConfidenceShuntMiddleware as ConfidenceShuntMiddleware
    from langchain_dsplus.monitoring.audit import AuditMonitor, plan_audits
    from langchain_dsplus.monitoring.budget import BudgetPacer
    from langchain_dsplus.monitoring.drift import DriftMonitor
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.procedure import certify_cascade
    from langchain_dsplus.prompts.conformal import ConformalCandidates
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.proficient import proficient_classes
    from langchain_dsplus.prompts.pruner import PromptPruner
    from langchain_dsplus.registry.live import LiveRouter
    from langchain_dsplus.registry.registry import ModelRegistry, NotPromotedError, RegistryError
    from langchain_dsplus.report import render_report, write_report
    from langchain_dsplus.routing.binding import MismatchError
    from langchain_dsplus.routing.decision import SettingsError
    from langchain_dsplus.routing.persistence import load_router, load_small_models, save_router
    from langchain_dsplus.routing.router import ConfidenceRouter
    from langchain_dsplus.routing.rows import Recorder
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
    from langchain_dsplus.threshold.curves import cost_quality_curve, risk_coverage_curve
    from langchain_dsplus.threshold.deferral import apgr, cost_at_parity, cpt, deferral_curve
    from langchain_dsplus.threshold.gain import GainModel, LearnedGain
    from langchain_dsplus.threshold.path import coverage_path
    from langchain_dsplus.threshold.planning import plan_sample_size
    from langchain_dsplus.traces.calls import outcomes_from_calls
    from langchain_dsplus.traces.collect import CostLimitError, acollect_outcomes, collect_outcomes
    from langchain_dsplus.traces.recorder import JSONLRecorder
    from langchain_dsplus.traces.store import TraceStore
    from langchain_dsplus.transfer import PromptTransfer, UnfaithfulRewriteError, certify_transfer

_HOME = {
    "Adjudicator": "graphs",
    "Answer": "answer",
    "AuditMonitor": "monitoring.audit",
    "BudgetPacer": "monitoring.budget",
    "Certificate": "threshold.certificate",
    "ChatClassifier": "small_models.chat",
    "ChatDSPlus": "chat_dsplus.model",
    "ChatLocal": "local.chat",
    "ClassificationState": "graphs",
    "ConfidenceRouter": "routing.router",
    "ConfidenceShuntMiddleware": "middleware",
    "ConformalCandidates": "prompts.conformal",
    "CostLedger": "costs.ledger",
    "CostLimitError": "traces.collect",
    "DisputeState": "graphs",
    "Distiller": "learning.distiller",
    "DriftMonitor": "monitoring.drift",
    "ExtractiveSummarizer": "prompts.extractive",
    "FakeSmallModel": "small_models.fake",
    "Fidelity": "fidelity.check",
    "GainModel": "threshold.gain",
    "GraphContext": "graphs",
    "GraphRouter": "graphs",
    "ImageClassifier": "small_models.image",
    "IsotonicCalibration": "calibration",
    "JSONLRecorder": "traces.recorder",
    "LabelParser": "prompts.parser",
    "LearnedGain": "threshold.gain",
    "LiveRouter": "registry.live",
    "MismatchError": "routing.binding",
    "ModelRegistry": "registry.registry",
    "NotPromotedError": "registry.registry",
    "Outcomes": "outcomes",
    "PlattScaling": "calibration",
    "Price": "costs.prices",
    "PromptPruner": "prompts.pruner",
    "PromptTransfer": "transfer",
    "Recorder": "routing.rows",
    "RegistryError": "registry.registry",
    "Review": "graphs",
    "Route": "answer",
    "SentenceClassifier": "small_models.sentence",
    "SettingsError": "routing.decision",
    "SklearnClassifier": "small_models.sklearn",
    "SmallModel": "small_models.base",
    "SwapCheck": "graphs",
    "TemperatureScaling": "calibration",
    "TraceStore": "traces.store",
    "TransformersClassifier": "small_models.transformers",
    "Triage": "graphs",
    "TwoStageConfidenceDistillation": "learning.two_stage",
    "UnfaithfulRewriteError": "transfer",
    "acollect_chat_outcomes": "chat_dsplus.outcomes",
    "acollect_outcomes": "traces.collect",
    "apgr": "threshold.deferral",
    "aurc": "calibration",
    "auroc": "calibration",
    "brier_score": "calibration",
    "certify": "threshold.certify",
    "certify_cascade": "procedure",
    "certify_transfer": "transfer",
    "choose_threshold": "threshold.choose",
    "collect_chat_outcomes": "chat_dsplus.outcomes",
    "collect_outcomes": "traces.collect",
    "cost_at_parity": "threshold.deferral",
    "cost_quality_curve": "threshold.curves",
    "coverage_path": "threshold.path",
    "cpt": "threshold.deferral",
    "create_dispute_graph": "graphs",
    "create_dsplus_graph": "graphs",
    "deferral_curve": "threshold.deferral",
    "expected_calibration_error": "calibration",
    "load_router": "routing.persistence",
    "load_small_models": "routing.persistence",
    "outcomes_from_calls": "traces.calls",
    "plan_audits": "monitoring.audit",
    "plan_sample_size": "threshold.planning",
    "proficient_classes": "prompts.proficient",
    "promotion": "learning.promotion",
    "render_report": "report",
    "risk_coverage_curve": "threshold.curves",
    "save_router": "routing.persistence",
    "write_report": "report",
}

# Not in `__all__`: a star import must work without the extra `middleware`, which its base class comes from.
__all__ = [
    "Adjudicator",
    "Answer",
    "AuditMonitor",
    "BudgetPacer",
    "Certificate",
    "ChatClassifier",
    "ChatDSPlus",
    "ChatLocal",
    "ClassificationState",
    "ConfidenceRouter",
    "ConformalCandidates",
    "CostLedger",
    "CostLimitError",
    "DisputeState",
    "Distiller",
    "DriftMonitor",
    "ExtractiveSummarizer",
    "FakeSmallModel",
    "Fidelity",
    "GainModel",
    "GraphContext",
    "GraphRouter",
    "ImageClassifier",
    "IsotonicCalibration",
    "JSONLRecorder",
    "LabelParser",
    "LearnedGain",
    "LiveRouter",
    "MismatchError",
    "ModelRegistry",
    "NotPromotedError",
    "Outcomes",
    "PlattScaling",
    "Price",
    "PromptPruner",
    "PromptTransfer",
    "Recorder",
    "RegistryError",
    "Review",
    "Route",
    "SentenceClassifier",
    "SettingsError",
    "SklearnClassifier",
    "SmallModel",
    "SwapCheck",
    "TemperatureScaling",
    "TraceStore",
    "TransformersClassifier",
    "Triage",
    "TwoStageConfidenceDistillation",
    "UnfaithfulRewriteError",
    "__version__",
    "acollect_chat_outcomes",
    "acollect_outcomes",
    "apgr",
    "aurc",
    "auroc",
    "brier_score",
    "certify",
    "certify_cascade",
    "certify_transfer",
    "choose_threshold",
    "collect_chat_outcomes",
    "collect_outcomes",
    "cost_at_parity",
    "cost_quality_curve",
    "coverage_path",
    "cpt",
    "create_dispute_graph",
    "create_dsplus_graph",
    "deferral_curve",
    "expected_calibration_error",
    "load_router",
    "load_small_models",
    "outcomes_from_calls",
    "plan_audits",
    "plan_sample_size",
    "proficient_classes",
    "promotion",
    "render_report",
    "risk_coverage_curve",
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
