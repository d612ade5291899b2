"""Versions of a small model in one folder: what is live, what may be promoted, and who follows."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.registry.live import LiveRouter
    from langchain_dsplus.registry.records import Gate, ModelVersion, RegistryStatus
    from langchain_dsplus.registry.registry import ModelRegistry
    from langchain_dsplus.registry.rules import NotPromotedError
    from langchain_dsplus.registry.state import RegistryError

__all__ = ["Gate", "LiveRouter", "ModelRegistry", "ModelVersion", "NotPromotedError", "RegistryError", "RegistryStatus"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "live": "LiveRouter",
        "records": "Gate ModelVersion RegistryStatus",
        "registry": "ModelRegistry",
        "rules": "NotPromotedError",
        "state": "RegistryError",
    },
)
