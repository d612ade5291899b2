"""A page about a shunt: what each threshold would give, on rows that teach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.shunt.folder import ShuntError, ShuntFolder


def shunt_outcomes(folder: ShuntFolder, store: Any) -> Outcomes:
    """Return rows that teach, as models that had not seen them answer them, with the gold that was told.

    Rows that certify are not among them: what they say may not reach whoever decides, as long as they are in use.

    Args:
        folder: The shunt's.
        store: Its store.

    Raises:
        ShuntError: If nothing was trained yet.
    """
    rows = [row for row in folder.evidence() if row.get("fair", True)]
    if not rows:
        raise ShuntError(f"{folder.path}: nothing was trained yet, so there is nothing to show (`dsplus work` trains)")
    gold = {row["route_id"]: row.get("gold") for row in store.rows(kind="gold")}
    labels = folder.terms().labels
    return Outcomes.from_records(
        [
            {
                "id": row["route_id"], "small": row["small"], "confidence": row["confidence"], "large": row["large"],
                "gold": gold.get(row["route_id"]),
            }
            for row in rows
        ],
        about={"labels": labels, "score": "max_probability"},
    )  # fmt: skip


def write_shunt_report(folder: ShuntFolder, store: Any, path: str | Path) -> Path:
    """Write the page of `report.write_report` about a shunt.

    Args:
        folder: The shunt's.
        store: Its store.
        path: The file.
    """
    from langchain_dsplus.report import write_report

    return write_report(path, shunt_outcomes(folder, store), title=f"{folder.path.name}: what may stay local")
