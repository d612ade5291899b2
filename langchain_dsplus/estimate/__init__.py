"""What a shunt would save, told from a log of past calls: tasks, cross-fitted small models, figures with intervals."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
