"""What was decided, written down and read again: recorders, the store, past calls, asking both sides."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
