"""What is watched while a router runs: audits with their alarms, drift, budgets."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
