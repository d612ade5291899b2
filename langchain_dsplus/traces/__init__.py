"""What was decided, written down and read again: recorders, the store, past calls, asking both sides."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.traces.calls import outcomes_from_calls
    from langchain_dsplus.traces.collect import CostLimitError, acollect_outcomes, collect_outcomes
    from langchain_dsplus.traces.recorder import JSONLRecorder, drop_texts
    from langchain_dsplus.traces.store import TraceStore

__all__ = [
    "CostLimitError",
    "JSONLRecorder",
    "TraceStore",
    "acollect_outcomes",
    "collect_outcomes",
    "drop_texts",
    "outcomes_from_calls",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "calls": "outcomes_from_calls",
        "collect": "CostLimitError acollect_outcomes collect_outcomes",
        "recorder": "JSONLRecorder drop_texts",
        "store": "TraceStore",
    },
)
