"""Which classes a hard prompt may leave out: those that the small model excels at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def proficient_classes(
    outcomes: Any,
    threshold: float | None,
    *,
    labels: Sequence[str] | None = None,
    min_recall: float = 0.9,
    min_precision: float = 0.95,
    min_rows: int = 10,
) -> list[str]:
    """Find the classes that the small model excels at (paper, Section 3.1), by a plain rule on validation rows.

    An input of such a class has nearly always been answered before the large model is asked, so a hard prompt may
    leave the class out. A class is proficient where at least `min_rows` rows are truly of it, the small model accepts
    (confidence > threshold, strictly) at least `min_recall` of them, and of those it gets at least `min_precision`
    right. Removing a class costs the large model its rows that were not accepted, a share of 1 - recall.

    This is a rule of thumb on one sample, without a bound on the accuracy at risk; a later version bounds the share of
    such classes among the escalated rows. Choose the classes on rows that are not used to certify.

    Args:
        outcomes: Rows with `small` (the small model's choice), `confidence` and `gold`; an iterable of mappings, or an
            object with `to_records()` that returns such rows. Rows whose `gold` is None do not count.
        threshold: Of the small model. None and infinity accept nothing, and then no class is proficient.
        labels: The classes, in the order to return; by default those of the rows' `probabilities`, else by name.
        min_recall: Least share of a class's rows that is accepted, in (0, 1].
        min_precision: Least share right among those, in (0, 1].
        min_rows: Fewest rows of a class to judge it by; at least 1.

    Returns:
        Proficient classes in label order.

    Raises:
        TypeError: If a row is not a mapping.
        ValueError: If a row lacks a field, or an argument is out of range.

    Example:
        >>> rows = [{"small": "cat", "confidence": 0.99, "gold": "cat"}] * 10
        >>> proficient_classes([*rows, {"small": "cat", "confidence": 0.6, "gold": "dog"}], 0.9)
        ['cat']
    """
    if not (0.0 < min_recall <= 1.0 and 0.0 < min_precision <= 1.0 and min_rows >= 1):
        msg = "`min_recall` and `min_precision` must lie in (0, 1], `min_rows` must be at least 1"
        raise ValueError(msg)
    rows: Iterable[Any] = outcomes.to_records() if hasattr(outcomes, "to_records") else outcomes
    total: dict[str, int] = {}
    accepted: dict[str, int] = {}
    right: dict[str, int] = {}
    seen: dict[str, None] = {}
    for row in rows:
        if not isinstance(row, Mapping):
            msg = f"`outcomes` must hold mappings, not {type(row).__name__}; for a DataFrame pass df.to_dict('records')"
            raise TypeError(msg)
        try:
            small, confidence, gold = row["small"], float(row["confidence"]), row["gold"]
        except (KeyError, TypeError, ValueError) as error:
            msg = "every row of `outcomes` needs `small`, `gold` and a number as `confidence`"
            raise ValueError(msg) from error
        probabilities = row.get("probabilities")
        if isinstance(probabilities, Mapping):
            seen.update(dict.fromkeys(probabilities))
        if gold is None:
            continue
        total[gold] = total.get(gold, 0) + 1
        if threshold is not None and confidence > threshold:
            accepted[gold] = accepted.get(gold, 0) + 1
            right[gold] = right.get(gold, 0) + (small == gold)
    order = list(labels) if labels is not None else [*seen, *sorted(set(total) - set(seen))]
    return [
        label
        for label in order
        if (n := total.get(label, 0)) >= min_rows
        and (kept := accepted.get(label, 0)) / n >= min_recall
        and right[label] / kept >= min_precision
    ]
