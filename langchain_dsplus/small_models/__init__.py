"""Small models: cheap, local, and able to say how sure they are."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
