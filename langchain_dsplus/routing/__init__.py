"""Who answers an input: the decision, the router that drives it, streams, nodes and what a router is bound to."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.answer import MismatchError
    from langchain_dsplus.routing.background import drain_all
    from langchain_dsplus.routing.decision import SettingsError
    from langchain_dsplus.routing.persistence import SavedRouterError, load_router, load_small_models, save_router
    from langchain_dsplus.routing.router import ConfidenceRouter
    from langchain_dsplus.routing.rows import Recorder, Row

__all__ = [
    "ConfidenceRouter",
    "MismatchError",
    "Recorder",
    "Row",
    "SavedRouterError",
    "SettingsError",
    "drain_all",
    "load_router",
    "load_small_models",
    "save_router",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "background": "drain_all",
        "decision": "MismatchError SettingsError",
        "persistence": "SavedRouterError load_router load_small_models save_router",
        "router": "ConfidenceRouter",
        "rows": "Recorder Row",
    },
)
