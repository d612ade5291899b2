"""What calls cost: tokens as every provider reports them, prices, the ledger, what was saved."""

from langchain_dsplus._imports import lazy

__getattr__, __dir__, __all__ = lazy(__spec__)
