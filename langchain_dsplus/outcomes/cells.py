"""Labels as a table and its `about` hold them: which there are, how a cell becomes one, what a text resembles."""

from __future__ import annotations

import enum
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
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


def bare(word: str) -> str:
    """Return a text without what cannot be seen at its ends: blanks of all kinds, marks of byte order and direction."""
    visible = [place for place, mark in enumerate(word) if not _unseen(mark)]
    return word[visible[0] : visible[-1] + 1] if visible else ""


def _unseen(mark: str) -> bool:
    return mark.isspace() or unicodedata.category(mark) in {"Cc", "Cf", "Zs", "Zl", "Zp"}


def quoted(word: str) -> str:
    r"""Return a text as Python writes it, in double quotes, with what cannot be seen escaped.

    Example:
        >>> print(quoted('\u00a0a "b"'))
        "\xa0a \"b\""
    """
    escaped = (
        f"\\{mark}" if mark in '"\\' else mark if mark.isprintable() else mark.encode("unicode_escape").decode("ascii")
        for mark in word
    )
    return f'"{"".join(escaped)}"'


# --- what a text looks like -----------------------------------------------------------------------------------------


def _unquoted(word: str) -> str:
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'`" else word


_SEPARATORS = re.compile(r"(?<=\w)[\s_\-./]+(?=\w)|(?<=[^\W_])_+(?=[^\W_])")


def _one_form(word: str) -> str:
    return unicodedata.normalize("NFKC", bare(word))


def written_number(word: str) -> float | None:
    """The number that a text writes, a truth value as 0 or 1."""
    text = "".join("-" if mark == "\u2212" or unicodedata.category(mark) == "Pd" else mark for mark in _one_form(word))
    truth = {"true": 1.0, "false": 0.0}.get(text.casefold())
    if truth is not None:
        return truth
    try:
        number = float(text.replace(",", ".")) if "_" not in text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_FORMS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    ("blanks or unseen marks around them", bare),
    ("quotes around them", lambda word: bare(_unquoted(bare(word)))),
    ("characters in another form", _one_form),
    ("other capitals", lambda word: _one_form(word).casefold()),
    ("other separators", lambda word: _SEPARATORS.sub(" ", _unquoted(_one_form(word)).casefold())),
    ("numbers or truth values written in another way", written_number),
)
"""From strict to loose; the first under which a value is one label alone says what it looks like."""


class Likeness:
    """Finds the one label that a text resembles. It is only ever shown: nobody's label is changed by a guess.

    Args:
        labels: Those that it may be.

    Example:
        >>> alike = Likeness(["billing", "0", "1"])
        >>> alike(" Billing"), alike("1.0"), alike("n/a")
        (('other capitals', 'billing'), ('numbers or truth values written in another way', '1'), None)
    """

    def __init__(self, labels: Collection[str]) -> None:
        self._forms = [(difference, form, _by(form, labels)) for difference, form in _FORMS]

    def __call__(self, word: str) -> tuple[str, str] | None:
        """Return in what it differs, and from which label; None without one, or with several."""
        for difference, form, labels in self._forms:
            alike = labels.get(form(word), [])
            if alike:
                return (difference, alike[0]) if len(alike) == 1 else None
        return None


def _by(form: Callable[[str], Any], labels: Collection[str]) -> dict[Any, list[str]]:
    found: dict[Any, list[str]] = {}
    for label in labels:
        key = form(label)
        if key is not None and key != "":
            found.setdefault(key, []).append(label)
    return found
