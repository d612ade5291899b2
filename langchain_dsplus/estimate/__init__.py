"""What a shunt would save, told from a log of past calls: tasks, cross-fitted small models, figures with intervals."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.estimate.figures import estimate
    from langchain_dsplus.estimate.record import LogEstimate, Share
    from langchain_dsplus.estimate.tasks import Task

__all__ = ["LogEstimate", "Share", "Task", "estimate"]

__getattr__, __dir__ = lazy(__name__, {"figures": "estimate", "record": "LogEstimate Share", "tasks": "Task"})
