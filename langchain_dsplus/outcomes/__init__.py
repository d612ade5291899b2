"""Outcomes: what each model said about each input, how sure it was, what was true, and what it cost."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.outcomes.sampling import Estimate, LabelSample
    from langchain_dsplus.outcomes.table import Outcomes
    from langchain_dsplus.outcomes.traces import default_label

__all__ = ["Estimate", "LabelSample", "Outcomes", "default_label"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "sampling": "Estimate LabelSample",
        "table": "Outcomes",
        "traces": "default_label",
    },
)
