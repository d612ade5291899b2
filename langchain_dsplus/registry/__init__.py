"""Versions of a small model in one folder: what is live, what may be promoted, and who follows."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
