"""Comparing the numbers of two texts: which of them are in both, and what follows from those of one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from langchain_dsplus.fidelity.numbers import SAME, Number, Value, read_numbers

_COMPUTED = 72
"""Readings of a text that arithmetic is tried with, in all pairs."""
_FEW = 12
"""Up to here a number counts things: a sum that happens to fit proves nothing, unless it is a span of time."""
_MOMENTS: dict[str, tuple[int, str]] = {
    "clock": (720, "minutes"), "weekday": (7, "days"), "month": (12, "months"), "date": (400, "days"),
}  # fmt: skip
"""What a moment is counted in, and after how much of it comes round."""
_SPANS = frozenset({"days", "weeks", "minutes", "months", *_MOMENTS})
_NEXT_DAY = re.compile(
    r"\b(?:next|following|previous) (?:day|morning|evening|night)\b|\bday (?:after|before)\b|\btomorrow\b|\byesterday\b"
    r"|\bovernight\b|第二天|次日|隔[天日]|转天|前一[天晚]|昨[天晚]|明天"
)
_LIST = re.compile(
    r"(?:, (?:(?:an?|the|my|his|her|their) )?[\w'-]{1,30}){1,12},? (?:and|or) (?=\w)|(?:、[^\W、]{1,12}){1,12}"
)


class _Known(NamedTuple):
    """A number to reckon with, by one of its readings."""

    value: Fraction
    unit: str
    rate: bool
    shown: bool
    """Whether the rewrite has it."""
    place: int


class Numbers:
    """The numbers of a text, indexed: comparing two texts is linear.

    A number of another text is supported where this one has its value under the same unit, or where it follows: by one
    sum, difference, product or share of two numbers that are both shown or both left out; as the span between two
    moments; as a rounding that says so; as the count of a list. It is not where the same thing is counted here with
    other numbers only.
    """

    def __init__(self, text: str) -> None:
        self.all = read_numbers(text)
        self.units: dict[Value, set[str]] = {}
        self.things: dict[str, set[Value]] = {}
        """What is counted -> the numbers of it."""
        self.uncounted: set[Value] = set()
        """The numbers that name no thing and no unit."""
        self.next_day = bool(_NEXT_DAY.search(text))
        lists = [m.group() for m in _LIST.finditer(text)]
        self.listed = {m.count("、") + 1 if "、" in m else m.rstrip(", ").count(",") + 2 for m in lists}
        self.listed |= {max(items - 1, 3) for items in self.listed}
        for number in self.all:
            for value, unit in number.readings:
                self.units.setdefault(value, set()).add(unit)
                if not unit and not number.thing and not number.weak:
                    self.uncounted.add(value)
            for thing in _things(number):
                self.things.setdefault(thing, set()).update(v for v, _ in number.readings)

    def has(self, number: Number) -> bool:
        """Whether the same value stands here, under the same unit where both have one."""
        for value, unit in number.readings:
            if unit == "clock" and "past" in self.units.get(int(value) % 60, ()):
                return True  # 8:05 for `at five past`
            if any(_fit(unit, other) for other in self.units.get(value, ())):
                return True
        return False

    def added(self, other: Numbers) -> list[str]:
        """The numbers of another text that this one neither has nor implies."""
        follows = _Arithmetic(self, other)
        return [
            number.text
            for number in other.all
            if (self._counts_differently(number) if number.weak or self.has(number) else not follows(number))
        ]

    def _counts_differently(self, number: Number) -> bool:
        """Whether the same thing is counted here, and never with this number; `50 each` may be 50 of anything."""
        values = {v for v, _ in number.readings}
        if not number.weak and not values.isdisjoint(self.uncounted):
            return False
        return any(values.isdisjoint(self.things.get(thing, values)) for thing in _things(number))

    def kept(self, other: Numbers) -> tuple[int, list[str]]:
        """How many of this text's numbers there are, and those that another text lost."""
        firm = [number for number in self.all if not number.weak]
        return len(firm), [number.text for number in firm if not other.has(number)]


def _things(number: Number) -> list[str]:
    """What a number counts: `times` is a thing like any other."""
    single = any(v == 1 for v, _ in number.readings)  # one of many is no other number
    return ([number.thing] if number.thing and not single else []) + ["times"] * any(
        u == "times" for _, u in number.readings
    )


def _fit(one: str, other: str) -> bool:
    """Whether two units can be the same: where one of them is not told, unless it is a moment."""
    if other == "#":  # a product of bare numbers
        return one in {"", "$", "€", "£", "¥"}
    return one == other or (one == "" and other not in _MOMENTS) or (other == "" and one not in _MOMENTS)


class _Arithmetic:
    """What follows from the numbers of a text, worked out once."""

    def __init__(self, source: Numbers, rewrite: Numbers) -> None:
        self.source, self.rewrite = source, rewrite
        self.listed = source.listed | rewrite.listed

    def __call__(self, number: Number) -> bool:
        """Whether a number that the source does not have follows from it."""
        moment = not {"date", "month"}.isdisjoint(u for _, u in number.readings)
        for value, unit in number.readings:
            if isinstance(value, str) or (moment and not unit):
                continue
            if unit in {"", "times"} and value in self.listed:
                return True
            for other in self._derived.get(Fraction(value), ()):
                if _fit(unit, other) and (value > _FEW or not (number.thing and other)):
                    return True
            if self._near(Fraction(value), unit, rough=number.rough):
                return True
        return False

    def _near(self, value: Fraction, unit: str, *, rough: bool) -> bool:
        """A rounding that says so and has no more digits, days told in months, a share to half a percent."""
        for known in self._known:
            v, u = known.value, known.unit
            if {u, unit} == {"days", "months"}:
                days, months = (v, value) if u == "days" else (value, v)
                if abs(30 * months - days) * 14 <= days:
                    return True
            elif rough and u == unit and _digits_of(value) <= min(2, _digits_of(v)) and abs(v - value) * 10 <= v:
                return True
        if unit == "%" or (not unit and 0 < value < 1):
            share = value / 100 if unit == "%" else value
            slack = Fraction(1, 20) if rough else Fraction(1, 200)
            return any(abs(share - other) <= slack for other in self._shares)
        return False

    @cached_property
    def _known(self) -> list[_Known]:
        """The readings to reckon with, spans of time in one unit; of a bare number also the day and the hour."""
        known: dict[_Known, None] = {}
        for place, number in enumerate(self.source.all):
            if number.weak and any(v == 1 for v, _ in number.readings):
                continue
            plain = [(Fraction(v), u) for v, u in number.readings if not isinstance(v, str)]
            units = {u for _, u in plain}
            span = next((u for u in ("days", "minutes", "months") if u in units), "")
            own = units - {SAME[u][1] for u in units & SAME.keys()} | {span}
            own -= {""} if units & {"date", "month"} else set()
            known |= {_Known(v, u, number.rate, v in self.rewrite.units, place): None for v, u in plain if u in own}
            if len(known) >= _COMPUTED:
                break
        return [*known] + [_Known(Fraction(1), "days", False, False, -1)] * self.source.next_day

    @cached_property
    def _derived(self) -> dict[Fraction, set[str]]:
        """Value -> units of what one operation makes of two numbers."""
        made: dict[Fraction, set[str]] = {}
        for a in self._known:
            for b in self._known:
                for value, unit in _moved(a, b) if {a.unit, b.unit} & _MOMENTS.keys() else _combined(a, b):
                    large = max(value, a.value, b.value) > _FEW or value.denominator > 1
                    if value > 0 and (large or unit in _SPANS):
                        made.setdefault(value, set()).add(unit)
        return made

    @cached_property
    def _shares(self) -> list[Fraction]:
        """What part one number is of another, and the shares that are told."""
        return [k.value / 100 for k in self._known if k.unit == "%"] + [
            a.value / b.value
            for a in self._known
            for b in self._known
            if 0 < a.value < b.value and not {a.unit, b.unit} & {"%", *_MOMENTS} and _like(a, b)
        ]


def _like(a: _Known, b: _Known) -> bool:
    """Whether two amounts may be of one unit."""
    return a.unit == b.unit or "" in {a.unit, b.unit}


def _moved(a: _Known, b: _Known) -> Iterator[tuple[Fraction, str]]:
    """The span between two moments; a moment so much later or earlier."""
    if a.unit not in _MOMENTS:
        return
    size, span = _MOMENTS[a.unit]
    turn, first = (1440, 0) if a.unit == "clock" else (size, 1)
    if a.unit == b.unit:
        yield (a.value - b.value) % size, span
        if a.unit == "month":
            yield (a.value - b.value) % size + 1, span
    elif b.unit == span:
        yield (a.value + b.value - first) % turn + first, a.unit
        yield (a.value - b.value - first) % turn + first, a.unit


def _combined(a: _Known, b: _Known) -> Iterator[tuple[Fraction, str]]:
    """Differences, sums, products and parts of two amounts."""
    if a.place != b.place and _like(a, b):
        yield a.value - b.value, a.unit or b.unit
        if a.shown == b.shown and (a.unit == b.unit):
            yield a.value + b.value, a.unit or b.unit
    if b.value.denominator == 1 and 1 < b.value <= 400 and (not b.unit or a.unit != b.unit) and a.place != b.place:
        if a.rate:
            yield a.value * b.value, a.unit or "#"
        if a.shown and b.shown and (not b.unit or a.unit):
            yield a.value / b.value, a.unit or "#"
    if b.unit == "%" or (not b.unit and 0 < b.value < 1):
        part = a.value * b.value / (100 if b.unit == "%" else 1)
        for value in (part, a.value - part, a.value + part):
            yield value, a.unit


def _digits_of(value: Fraction) -> int:
    """How many digits a number has, without the zeros at its ends."""
    return len(f"{float(value):.6g}".replace(".", "").strip("0"))
