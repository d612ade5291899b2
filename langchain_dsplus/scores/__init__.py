"""Scores that see the input, the small model's answer, or both: what is compared with the threshold."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
