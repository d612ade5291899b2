"""A shunt behind the OpenAI protocol: any client, one changed base URL; and a page to label its disagreements."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
