"""The whole loop around one chain as one object and one folder: what it learns, certifies, watches and says."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.shunt.check import Moved, check_shunt
    from langchain_dsplus.shunt.folder import ShuntError, ShuntFolder, Terms
    from langchain_dsplus.shunt.labels import add_gold, to_label
    from langchain_dsplus.shunt.report import shunt_outcomes, write_shunt_report
    from langchain_dsplus.shunt.shunt import DataShunt
    from langchain_dsplus.shunt.status import ShuntStatus, shunt_status
    from langchain_dsplus.shunt.worker import Work, Worker

__all__ = [
    "DataShunt",
    "Moved",
    "ShuntError",
    "ShuntFolder",
    "ShuntStatus",
    "Terms",
    "Work",
    "Worker",
    "add_gold",
    "check_shunt",
    "shunt_outcomes",
    "shunt_status",
    "to_label",
    "write_shunt_report",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "check": "Moved check_shunt",
        "folder": "ShuntError ShuntFolder Terms",
        "labels": "add_gold to_label",
        "report": "shunt_outcomes write_shunt_report",
        "shunt": "DataShunt",
        "status": "ShuntStatus shunt_status",
        "worker": "Work Worker",
    },
)
