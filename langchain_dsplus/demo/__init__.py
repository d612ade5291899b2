"""`dsplus demo`: the main job on real parts, from reviews to a table; and the packages that carry what it needs."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
