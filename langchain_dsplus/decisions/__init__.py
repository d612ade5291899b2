"""LangChain's decision models: small models as one, a cascade as one, and one as a small model."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
