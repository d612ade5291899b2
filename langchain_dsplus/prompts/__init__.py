"""Prompts for the large model: pruned candidates, the parser of its answers, and the classes that may be removed."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
