"""How small models learn from the large one: 2-stage distillation, the Distiller, the gate."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
