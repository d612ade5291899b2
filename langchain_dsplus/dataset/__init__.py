"""A router over a whole data set, on this machine or on Ray: nothing is asked twice, every call is counted."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
