"""Prompt transfer: a small model does a subtask on a text, a large one decides, and what that costs is certified."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
