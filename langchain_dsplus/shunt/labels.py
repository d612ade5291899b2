"""Which disagreements a person should label, and where the answers go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from langchain_dsplus.registry.folders import reader
from langchain_dsplus.shunt.folder import ShuntFolder


def to_label(folder: ShuntFolder, store: Any, max_rows: int | None = 50) -> list[dict[str, Any]]:
    """Return the disagreements that are most worth a label, those that a certification waits for first.

    Args:
        folder: The shunt's.
        store: Its store.
        max_rows: How many at most; None: all.

    Returns:
        Dicts: `id`; `input`; `choices`, the two labels that are in question, in an order that does not say whose they
        are; `needed`, whether a certification waits for it. Rows that got gold since, or a word that nobody can tell,
        are left out.
    """
    wanted = folder.wanted()
    if not wanted:
        return []
    told = {row["route_id"] for row in store.rows(kind="gold", route_id=[row["id"] for row in wanted])}
    wanted = [row for row in wanted if row["id"] not in told][:max_rows]
    inputs = inputs_of(folder, store, {row["id"] for row in wanted})
    found = []
    for row in wanted:
        if row["id"] not in inputs:
            continue
        choices = [label for label in (row["small"], row["large"]) if label is not None]
        if hashlib.sha256(row["id"].encode()).digest()[0] % 2:
            choices.reverse()
        found.append({"id": row["id"], "input": inputs[row["id"]], "choices": choices, "needed": row["needed"]})
    return found


def inputs_of(folder: ShuntFolder, store: Any, ids: set[str]) -> dict[str, Any]:
    """What the small model reads of these decisions, by id."""
    read = reader(folder.terms().input_key)
    return {row["route_id"]: read(row.get("input")) for row in store.rows(kind="route", route_id=ids)}


def add_gold(folder: ShuntFolder, store: Any, gold: Mapping[str, str | None]) -> int:
    """Write down what is true.

    Args:
        folder: The shunt's.
        store: Its store.
        gold: By id; None says that nobody can tell, and takes an earlier word back.

    Returns:
        Rows that were written.

    Raises:
        ValueError: If a value is none of the labels; then nothing is written.
    """
    return int(store.add_gold(dict(gold), labels=folder.terms().labels))
