"""The report: one HTML file that shows what a threshold gives, what a certificate promises, and what would be lost."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
