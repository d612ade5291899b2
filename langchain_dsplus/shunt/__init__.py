"""The whole loop around one chain as one object and one folder: what it learns, certifies, watches and says."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
