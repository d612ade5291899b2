"""Language models on this machine: `ChatLocal`, its engines, and a server for GGUF files."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
