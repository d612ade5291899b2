from langchain_dsplus.costs.ledger import CostLedger as CostLedger
from langchain_dsplus.costs.ledger import LedgerRow as LedgerRow
from langchain_dsplus.costs.prices import Price as Price
from langchain_dsplus.costs.prices import find_price as find_price
from langchain_dsplus.costs.savings import Savings as Savings
from langchain_dsplus.costs.savings import estimate_savings as estimate_savings
from langchain_dsplus.costs.usage import Usage as Usage
from langchain_dsplus.costs.usage import read_usage as read_usage
