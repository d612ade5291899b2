"""Outcomes: what each model said about each input, how sure it was, what was true, and what it cost."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
