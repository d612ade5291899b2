"""Outcomes: what each model said about each input, how sure it was, what was true, and what it cost."""

from langchain_dsplus.outcomes.table import Outcomes
from langchain_dsplus.outcomes.traces import default_label

__all__ = ["Outcomes", "default_label"]
