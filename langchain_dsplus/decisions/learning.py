"""What a cascade's rows teach, question by question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from typing_extensions import TypedDict

from langchain_dsplus.decisions.cascade import CascadeDecisionModel


class Teaching(TypedDict):
    """Pairs of what a small model reads and what the large said; `Distiller.distil(gold, **teaching)` takes them."""

    large: list[tuple[Any, dict[str, float]]]
    """Of inputs that escalated: hard ones."""
    audits: list[tuple[Any, dict[str, float]]]
    """Of audits, and of shadow and off mode: inputs that were not chosen for being hard."""


def teaching_rows(rows: Iterable[Mapping[str, Any]], cascade: CascadeDecisionModel, name: str) -> Teaching:
    """Return what a cascade's recorded rows teach the small model of one question.

    The large model's whole distribution is the target, in the small model's own labels.

    Args:
        rows: Of the recorder: `store.rows()`, `JSONLRecorder.read(path)`.
        cascade: The cascade that wrote them, or one with the same questions.
        name: The question's id.

    Raises:
        KeyError: If no such question is known.
        ValueError: If several labels of the small model stand for one of the question: nobody knows which to teach.

    Example:
        ```python
        teaching = teaching_rows(JSONLRecorder.read("rows.jsonl"), cascade, "urgent")
        result = Distiller(small).distil(gold_rows, **teaching)
        ```
    """
    meanings = cascade.asked({})[name].meanings
    labels = {meaning: label for label, meaning in meanings.items()}
    if len(labels) < len(meanings):
        raise ValueError(
            f"question {name!r}: several labels of the small model stand for one, so its rows cannot teach it"
        )
    inputs: dict[str, Any] = {}
    found = Teaching(large=[], audits=[])
    for row in rows:
        if row.get("router") != name or row.get("kind") not in ("route", "audit"):
            continue
        route = row.get("route") or {}
        if row["kind"] == "route":
            if "input" not in row:  # recorded without texts
                continue
            inputs[row["route_id"]] = row["input"]
            if route.get("model") != "large":
                continue
        said = row.get("output")
        told = said.get("probabilities") if isinstance(said, Mapping) else None
        if not told or row["route_id"] not in inputs:
            continue
        target = {labels[label]: p for label, p in told.items() if label in labels}
        random = row["kind"] == "audit" or route.get("reason") in ("shadow", "off")
        found["audits" if random else "large"].append((inputs[row["route_id"]], target))
    return found
