"""Small local models and a paid large model, together in LangChain and LangGraph.

Every public name is imported when it is first used: `import langchain_dsplus` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from langchain_dsplus._version import __version__

if TYPE_CHECKING:
    from langchain_dsplus.answer import Answer, Route
    from langchain_dsplus.operations.recorder import JSONLRecorder, Recorder
    from langchain_dsplus.router import ConfidenceRouter
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.small_models.fake import FakeSmallModel
    from langchain_dsplus.small_models.sklearn import SklearnClassifier

_HOME = {
    "Answer": "answer",
    "Route": "answer",
    "ConfidenceRouter": "router",
    "JSONLRecorder": "operations.recorder",
    "Recorder": "operations.recorder",
    "SmallModel": "small_models.base",
    "FakeSmallModel": "small_models.fake",
    "SklearnClassifier": "small_models.sklearn",
}

__all__ = [
    "Answer",
    "ConfidenceRouter",
    "FakeSmallModel",
    "JSONLRecorder",
    "Recorder",
    "Route",
    "SklearnClassifier",
    "SmallModel",
    "__version__",
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
