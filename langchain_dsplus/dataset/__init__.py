"""A router over a whole data set, on this machine or on Ray: nothing is asked twice, every call is counted."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.dataset.desk import SpentError
    from langchain_dsplus.dataset.folder import Routed
    from langchain_dsplus.dataset.run import route_dataset

__all__ = ["Routed", "SpentError", "route_dataset"]

__getattr__, __dir__ = lazy(__name__, {"desk": "SpentError", "folder": "Routed", "run": "route_dataset"})
