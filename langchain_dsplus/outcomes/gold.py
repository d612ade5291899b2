"""The one rule for gold: a value outside the label set is unknown, or an error that says what to do, never evidence."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypedDict

import numpy as np

from langchain_dsplus._arrays import Bools
from langchain_dsplus._json import load_json
from langchain_dsplus.outcomes.cells import other_gold, to_text
from langchain_dsplus.outcomes.columns import Labels, build
from langchain_dsplus.outcomes.likeness import Likeness, bare, quoted, written_number

NEVER_SAID = 0.01
"""Where no labels are named: from this share of the rows with gold on, gold that no model ever says is refused."""
_EXAMPLES = 3
_LONGEST = 40  # a longer text may be an input that stands in the wrong column
_MOST_LABELS = 6


class GoldOptions(TypedDict, total=False):
    """What every door takes that reads gold, see `GoldRules`: any of the three, as a user gives it."""

    gold_map: Mapping[Any, Any] | None
    unknown_gold: str | Iterable[Any]
    other_gold: str | Iterable[Any]


@dataclass(frozen=True)
class GoldRules:
    """What a user says about values of gold that are no labels.

    Attributes:
        gold_map: From a value to the label that it stands for.
        unknown_gold: Values that mean that nobody knows. Where the models disagree, such a row counts as lost.
        other_gold: True classes that no model offers: every answer is wrong there.
    """

    gold_map: Mapping[str, str] = field(default_factory=dict)
    unknown_gold: tuple[str, ...] = ()
    other_gold: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        gold_map: Mapping[Any, Any] | None = None,
        unknown_gold: str | Iterable[Any] = (),
        other_gold: str | Iterable[Any] = (),
    ) -> Self:
        """Read what a user gave; numbers are read as those of a table are.

        Raises:
            TypeError: If `gold_map` is no dict.
            ValueError: If a value is no text, or is named twice with different meanings.

        Example:
            >>> GoldRules.of({1.0: "1"}, unknown_gold="n/a").unknown_gold
            ('n/a',)
        """
        if gold_map is not None and not isinstance(gold_map, Mapping):
            raise TypeError(f"`gold_map` must be a dict from a value to a label, not {type(gold_map).__name__}")
        mapped = {_word(key, "gold_map"): _word(value, "gold_map") for key, value in (gold_map or {}).items()}
        unknown, other = _words(unknown_gold, "unknown_gold"), _words(other_gold, "other_gold")
        for one, two, both in (
            ("gold_map", "unknown_gold", mapped.keys() & set(unknown)),
            ("gold_map", "other_gold", mapped.keys() & set(other)),
            ("unknown_gold", "other_gold", set(unknown) & set(other)),
        ):
            if both:
                raise ValueError(f"`{one}` and `{two}` both name {quoted(min(both))}: it can mean one thing only")
        return cls(mapped, unknown, other)

    def fit(self, labels: Collection[str]) -> None:
        """Check that the rules go with a set of labels.

        Raises:
            ValueError: If `gold_map` leads to what is no label, or `other_gold` names a label.
        """
        reachable = {*labels, *self.other_gold, *self.unknown_gold}
        if wrong := [value for value in self.gold_map.values() if value not in reachable]:
            raise ValueError(f"`gold_map` leads to {quoted(wrong[0])}, which is none of the labels ({_listed(labels)})")
        if offered := [value for value in self.other_gold if value in labels]:
            raise ValueError(
                f"`other_gold` names {quoted(offered[0])}, one of the labels: it is for classes that no model offers"
            )

    def apply(self, column: Labels, words: Collection[str], *, named: bool) -> Labels:
        """Return a column of gold with every value read."""
        told = {*words, *self.gold_map, *self.unknown_gold, *self.other_gold}

        def mean(word: str) -> str | None:
            if word not in told:
                inner = _unpacked(word)
                if inner is not None and (named or not inner or inner in told):
                    word = inner
                if word not in told and not bare(word):
                    return None
            word = self.gold_map.get(word, word)
            return None if word in self.unknown_gold else word

        known: dict[str, int] = {}
        codes = np.full(len(column.words) + 1, -1, dtype=np.int32)
        for place, word in enumerate(column.words):
            read = mean(word)
            if read is not None:
                codes[place] = known.setdefault(read, len(known))
        return column if list(known) == column.words else Labels(codes[column.codes], list(known))


def _word(value: Any, name: str) -> str:
    try:
        word = to_text(value)
    except (TypeError, ValueError):
        word = None
    if word is None:
        raise ValueError(f"`{name}` must name texts or whole numbers, not {type(value).__name__}")
    return word


def _words(values: str | Iterable[Any], name: str) -> tuple[str, ...]:
    given = [values] if isinstance(values, str) or not isinstance(values, Iterable) else values
    return tuple(dict.fromkeys(_word(value, name) for value in given))


def with_other(about: Mapping[str, Any], rules: GoldRules) -> dict[str, Any]:
    """Return a table's `about` with further classes that no model offers."""
    if not rules.other_gold:
        return dict(about)
    return {**about, "other_gold": sorted(other_gold(about) | set(rules.other_gold))}


def read_labels(
    values: Sequence[Any],
    labels: Collection[str],
    rules: GoldRules,
    *,
    where: str = "",
    name: str = "gold",
    row: Callable[[int], str] = lambda place: f"row {place + 1}",
) -> list[str | None]:
    """Return a list of gold as labels: None where nobody knows; of `other_gold` the class as it is.

    Args:
        values: As they came: texts, numbers, NaN, None.
        labels: All labels.
        rules: What the user says about other values.
        where: What an error begins with: the file, or the argument.
        name: Of the column.
        row: Names a row by its place.

    Raises:
        ValueError: If a value is none of the labels; the message says what to do.

    Example:
        >>> read_labels([1.0, "0", None, "?"], ["0", "1"], GoldRules.of(unknown_gold="?"))
        ['1', '0', None, None]
    """
    rules.fit(labels)
    column = build("gold", values, where)
    assert isinstance(column, Labels)
    column = rules.apply(column, labels, named=True)
    strange = column.known() & ~column.within({*labels, *rules.other_gold})
    if strange.any():
        first = int(np.argmax(strange))
        raise ValueError(refusal(column, strange, labels, f"{where}{row(first)}, column {name!r}", named=True))
    return column.values()


# --- the error ------------------------------------------------------------------------------------------------------


def refusal(column: Labels, strange: Bools, words: Collection[str], at: str, *, named: bool) -> str:
    """Say which values of gold are no evidence, what they look like, and what can be done, as code to paste.

    Args:
        column: Gold.
        strange: The rows whose gold is none of `words`.
        words: The labels, or what the models say.
        at: File, row and column of the first.
        named: Whether `words` are the labels.
    """
    places = np.flatnonzero(strange)
    found = list(dict.fromkeys(column.words[code] for code in column.codes[places].tolist()))
    longest = max(_LONGEST, *(len(word) + 8 for word in words)) if words else _LONGEST
    shown = ", ".join(_shown(word, longest) for word in found[:_EXAMPLES])
    what = f"none of the labels ({_listed(words)})" if named else f"never said by any model (they say {_listed(words)})"
    known = int(column.known().sum())
    parts = [f"{at}: {len(places):,} of {known:,} values of gold are {what}: {shown}."]
    mapped: dict[str, str] = {}
    kinds: dict[str, None] = {}
    resembled = Likeness(words)
    for word in found:
        if len(word) <= longest and (like := resembled(word)) is not None:
            mapped[word] = like[1]
            kinds.setdefault(like[0])
    rest = [word for word in found if word not in mapped and len(word) <= longest]
    if mapped:
        each = ", ".join(f"{quoted(word)}: {quoted(label)}" for word, label in mapped.items())
        parts.append(
            f"They look like labels with {' and '.join(kinds)}. If they are: gold_map={{{each}}} (on the command line: "
            f"{_option(mapped)})."
        )
    if rest:
        some = rest[:_MOST_LABELS]
        listed, more = ", ".join(quoted(word) for word in some), ", ..." if len(rest) > len(some) else ""
        comma = "," if len(some) == 1 and not more else ""
        codes = ", ".join(f'{quoted(word)}: "<label>"' for word in some)
        parts.append(
            f"{'These' if len(rest) > 1 else 'This'} {_guess(rest, words)}: unknown_gold=({listed}{more}{comma}) where "
            f"nobody knows the truth, other_gold=({listed}{more}{comma}) for a true class that no model offers, "
            f"gold_map={{{codes}{more}}} where it stands for a label (on the command line: --unknown-gold VALUE, "
            "--other-gold VALUE, --gold-map VALUE=LABEL)."
        )
    if len(found) > len(mapped) + len(rest):
        parts.append("Long texts are no labels: is this the right column?")
    if not named:
        parts.append('Or name the labels: about={"labels": [...]}. As it stands it would count as both models wrong.')
    return " ".join(parts)


def _shown(word: str, longest: int) -> str:
    return quoted(word) if len(word) <= longest else f"a text of {len(word):,} characters"


def _listed(words: Collection[str]) -> str:
    some = sorted(words)[:_MOST_LABELS]
    return ", ".join(_shown(word, _LONGEST) for word in some) + (", ..." if len(words) > len(some) else "")


def _option(mapped: Mapping[str, str]) -> str:
    """The same on the command line."""
    if all(word.isprintable() and not set("={[") & set(word + label) for word, label in mapped.items()):
        return " ".join(f"--gold-map {shlex.quote(f'{word}={label}')}" for word, label in mapped.items())
    return f"--gold-map {shlex.quote(json.dumps(dict(mapped)))}"


def _guess(rest: Sequence[str], words: Collection[str]) -> str:
    """What values look like that resemble no label."""
    if all(not _letters(word) or _letters(word) in _NOTHING for word in rest):
        return f"look{'s' * (len(rest) == 1)} like what programs write into an empty cell"
    if len(rest) > 1 and len(rest) <= len(words) + 1 and all(written_number(word) is not None for word in rest):
        return "look like codes of another list"
    return f"resemble{'s' * (len(rest) == 1)} no label"


_NOTHING = {"na", "nan", "nat", "none", "null", "nil"}
"""What programs write for nothing, in letters alone; it shapes the words of an error and decides nothing."""


def _letters(word: str) -> str:
    return "".join(mark for mark in word.casefold() if mark.isalnum())


# --- what a value looks like ----------------------------------------------------------------------------------------


def _unpacked(word: str) -> str | None:
    """The label in a JSON text: a text of its own, the only field of an object, or its `choice`; None without one."""
    text = word.strip()
    if text[:1] not in ("{", '"'):
        return None
    try:
        value = load_json(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("choice", next(iter(value.values())) if len(value) == 1 else value)
    try:
        found = to_text(value)
    except (TypeError, ValueError):
        return None
    return "" if found is None else found
