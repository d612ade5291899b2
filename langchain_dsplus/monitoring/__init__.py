"""What is watched while a router runs: audits with their alarms, drift, budgets."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.monitoring.audit import Alarm, AuditMonitor, AuditStateError
    from langchain_dsplus.monitoring.budget import BudgetPacer, BudgetStateError
    from langchain_dsplus.monitoring.drift import Drift, DriftMonitor

__all__ = [
    "Alarm",
    "AuditMonitor",
    "AuditStateError",
    "BudgetPacer",
    "BudgetStateError",
    "Drift",
    "DriftMonitor",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "audit": "Alarm AuditMonitor AuditStateError",
        "budget": "BudgetPacer BudgetStateError",
        "drift": "Drift DriftMonitor",
    },
)
