"""Who answers an input: the decision, the router that drives it, streams, nodes and what a router is bound to."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
