"""Labels as a table and its `about` hold them: which there are, and how a cell becomes one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np


def known_labels(about: Mapping[str, Any], who: str = "large") -> frozenset[str] | None:
    """Return the labels that an answer may be, by `about["labels"]`; None where it names none.

    Args:
        about: Of a table. Its labels are a list, or lists by the names of several small models. `large_labels` are
            further ones, which only the large model knows.
        who: Whose answer: `small.<name>` has its own list where there is one; anybody else may say any of them. What
            the large model may say, gold may be.
    """
    labels = about.get("labels")
    if isinstance(labels, Mapping):
        own = labels.get(who.partition(".")[2]) if who.startswith("small.") else None
        labels = own or [label for part in labels.values() for label in part or ()]
    if labels and not who.startswith("small"):
        labels = [*labels, *(about.get("large_labels") or ())]
    return frozenset(label if isinstance(label, str) else _label(label) for label in labels or ()) or None


def _label(value: Any) -> str:
    """A label that is no text, as it is kept in the columns."""
    try:
        return to_text(value) or str(value)
    except TypeError:
        return str(value)


def other_gold(about: Mapping[str, Any]) -> frozenset[str]:
    """Return the true classes that no model offers, by a table's `about`."""
    found = about.get("other_gold") or ()
    return frozenset(str(value) for value in ([found] if isinstance(found, str) else found))


# --- as a cell of a table -------------------------------------------------------------------------------------------


def to_text(value: Any) -> str | None:
    """A text, or a whole number as one: an id, a class number, a label. None where a program means nothing by it.

    The one rule for cells of texts, in every loader: a text is taken as it is, an enum by its value, `True` and `False`
    by those names. A whole number is written without a point, also where it came as a float, as all numbers of a column
    do once one is missing: 1.0 is "1". NaN, NaT and pandas' NA are None.

    Raises:
        TypeError: If it is none of these, a number with a fraction among them: nobody knows which label 0.5 is.

    Example:
        >>> to_text(1.0), to_text("1.0"), to_text(True), to_text(float("nan"))
        ('1', '1.0', 'True', None)
    """
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bool)):
        return str(value)
    if missing(value):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (float, Decimal)) and -_EXACT < value < _EXACT and value == int(value):
        return str(int(value))
    raise TypeError


_EXACT = 2**53
"""From here on not every whole number is a float."""


def missing(value: Any) -> bool:
    """Whether a program means by it that nothing is known: None, NaN, NaT, pandas' NA."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, (float, np.floating, Decimal)) and bool(value != value)  # noqa: PLR0124
