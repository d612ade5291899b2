"""Choosing the threshold, and what a threshold costs. `certify` is both a module here and a name at the top."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
