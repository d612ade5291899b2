"""Small local models and a paid large model, together in LangChain and LangGraph.

Every public name is imported when it is first used: `import langchain_dsplus` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_dsplus._version import __version__

if TYPE_CHECKING:
    from langchain_dsplus.answer import Answer, Route
    from langchain_dsplus.calibration import TemperatureScaling, expected_calibration_error
    from langchain_dsplus.graphs import create_dispute_graph
    from langchain_dsplus.operations.collect import collect_outcomes
    from langchain_dsplus.operations.prices import Price
    from langchain_dsplus.operations.recorder import JSONLRecorder, Recorder
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
    from langchain_dsplus.prompts.fidelity import Fidelity
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.proficient import proficient_classes
    from langchain_dsplus.prompts.pruner import PromptPruner
    from langchain_dsplus.prompts.transfer import PromptTransfer
    from langchain_dsplus.router import ConfidenceRouter
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.small_models.chat import ChatClassifier
    from langchain_dsplus.small_models.fake import FakeSmallModel
    from langchain_dsplus.small_models.sentence import SentenceClassifier
    from langchain_dsplus.small_models.sklearn import SklearnClassifier
    from langchain_dsplus.threshold.choose import choose_threshold
    from langchain_dsplus.threshold.curves import cost_quality_curve, risk_coverage_curve

_HOME = {
    "Answer": "answer",
    "ChatClassifier": "small_models.chat",
    "ConfidenceRouter": "router",
    "ExtractiveSummarizer": "prompts.extractive",
    "FakeSmallModel": "small_models.fake",
    "Fidelity": "prompts.fidelity",
    "JSONLRecorder": "operations.recorder",
    "LabelParser": "prompts.parser",
    "Outcomes": "outcomes",
    "Price": "operations.prices",
    "PromptPruner": "prompts.pruner",
    "PromptTransfer": "prompts.transfer",
    "Recorder": "operations.recorder",
    "Route": "answer",
    "SentenceClassifier": "small_models.sentence",
    "SklearnClassifier": "small_models.sklearn",
    "SmallModel": "small_models.base",
    "TemperatureScaling": "calibration",
    "choose_threshold": "threshold.choose",
    "collect_outcomes": "operations.collect",
    "cost_quality_curve": "threshold.curves",
    "create_dispute_graph": "graphs",
    "expected_calibration_error": "calibration",
    "proficient_classes": "prompts.proficient",
    "risk_coverage_curve": "threshold.curves",
}

__all__ = [
    "Answer",
    "ChatClassifier",
    "ConfidenceRouter",
    "ExtractiveSummarizer",
    "FakeSmallModel",
    "Fidelity",
    "JSONLRecorder",
    "LabelParser",
    "Outcomes",
    "Price",
    "PromptPruner",
    "PromptTransfer",
    "Recorder",
    "Route",
    "SentenceClassifier",
    "SklearnClassifier",
    "SmallModel",
    "TemperatureScaling",
    "__version__",
    "choose_threshold",
    "collect_outcomes",
    "cost_quality_curve",
    "create_dispute_graph",
    "expected_calibration_error",
    "proficient_classes",
    "risk_coverage_curve",
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
