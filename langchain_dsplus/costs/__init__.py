"""What calls cost: tokens as every provider reports them, prices, the ledger, what was saved."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.costs.ledger import CostLedger, LedgerRow
    from langchain_dsplus.costs.prices import Price, find_price
    from langchain_dsplus.costs.savings import Savings, estimate_savings
    from langchain_dsplus.costs.usage import Usage, read_usage

__all__ = ["CostLedger", "LedgerRow", "Price", "Savings", "Usage", "estimate_savings", "find_price", "read_usage"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ledger": "CostLedger LedgerRow",
        "prices": "Price find_price",
        "savings": "Savings estimate_savings",
        "usage": "Usage read_usage",
    },
)
