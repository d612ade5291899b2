"""What is watched while a router runs: audits with their alarms, drift, budgets."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.monitoring.audit import Alarm, AuditMonitor, AuditPlan, AuditStateError, plan_audits
    from langchain_dsplus.monitoring.budget import BudgetPacer, BudgetStateError
    from langchain_dsplus.monitoring.drift import Drift, DriftMonitor

__all__ = [
    "Alarm",
    "AuditMonitor",
    "AuditPlan",
    "AuditStateError",
    "BudgetPacer",
    "BudgetStateError",
    "Drift",
    "DriftMonitor",
    "plan_audits",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "audit": "Alarm AuditMonitor AuditPlan AuditStateError plan_audits",
        "budget": "BudgetPacer BudgetStateError",
        "drift": "Drift DriftMonitor",
    },
)
