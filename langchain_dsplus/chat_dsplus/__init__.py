"""A chat model that is a cascade of chat models, and judges of what it says."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
