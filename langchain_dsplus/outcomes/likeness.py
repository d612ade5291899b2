"""Which label a text resembles, and how: for errors that say what to do. Nobody's label is changed by a guess."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection
from typing import Any


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


def bare(word: str) -> str:
    """Return a text without what cannot be seen at its ends: blanks of all kinds, marks of byte order and direction."""
    visible = [place for place, mark in enumerate(word) if not _unseen(mark)]
    return word[visible[0] : visible[-1] + 1] if visible else ""


def _unseen(mark: str) -> bool:
    return mark.isspace() or unicodedata.category(mark) in {"Cc", "Cf", "Zs", "Zl", "Zp"}


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
