from langchain_dsplus.monitoring.audit import Alarm as Alarm
from langchain_dsplus.monitoring.audit import AuditMonitor as AuditMonitor
from langchain_dsplus.monitoring.audit import AuditStateError as AuditStateError
from langchain_dsplus.monitoring.budget import BudgetPacer as BudgetPacer
from langchain_dsplus.monitoring.budget import BudgetStateError as BudgetStateError
from langchain_dsplus.monitoring.drift import Drift as Drift
from langchain_dsplus.monitoring.drift import DriftMonitor as DriftMonitor
