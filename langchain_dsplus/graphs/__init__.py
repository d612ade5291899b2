"""Ready-made LangGraph graphs, and their nodes."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
