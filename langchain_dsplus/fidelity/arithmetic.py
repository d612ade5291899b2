"""Comparing the numbers of two texts: which are in both, what follows from others, what took another's place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from itertools import chain, islice, pairwise, zip_longest
from typing import NamedTuple

from langchain_dsplus.fidelity.numbers import SAME, Number, Value, read_numbers
from langchain_dsplus.fidelity.sentences import BREAK, FUNCTION, HAN, TOKEN, normalize, stem_of

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
_KINDS = {"seconds": "span", "months": "span", "past": "clock", "th": "date", **dict.fromkeys("$€£¥", "money")} | {
    u: u for u in (*_MOMENTS, "%", "times", "cm", "g")
}
"""What is measured, by the smallest unit of it."""
_NEAR, _REACH = 10, 90
"""Words and letters on either side of a number that tell what it is about."""
_GAP = 30
_SMALL, _LARGE, _MARGIN = 0.17, 0.5, 1.3
"""How near another number of the source must be to have been exchanged for one up to 31 and for a larger one that the
source has, too; and how much nearer than that one. Of 425 honest rewrites 3 % are refused by all rules of numbers."""
_DAYS = 31
_COMPARED = 100
"""Numbers of each text that are compared by what stands around them."""


class _Known(NamedTuple):
    """A number to reckon with, by one of its readings."""

    value: Fraction
    unit: str
    rate: bool
    shown: bool
    """Whether the rewrite has it."""
    place: int


class Numbers:
    """The numbers of a text, indexed.

    A number of another text is supported where this one has its value under the same unit, or where it follows: by one
    sum, difference, product or share, as the span between two moments, as a rounding that says so, as the count of a
    list. It is not where the same thing is counted here with other numbers only, nor where it took another's place:
    what stands around it stands here around a number of its kind that the other text lacks, and not around its own.
    """

    def __init__(self, text: str) -> None:
        self.text = normalize(text)
        self.all = read_numbers(text)
        self.units: dict[Value, set[str]] = {}
        self.places: dict[Value, list[int]] = {}
        self.things: dict[str, set[Value]] = {}
        """What is counted -> the numbers of it."""
        self.uncounted: set[Value] = set()
        """The numbers that name no thing and no unit."""
        self.next_day = bool(_NEXT_DAY.search(text))
        lists = [m.group() for m in _LIST.finditer(text)]
        self.listed = {m.count("、") + 1 if "、" in m else m.rstrip(", ").count(",") + 2 for m in lists}
        self.listed |= {max(items - 1, 3) for items in self.listed}
        units = [unit for number in self.all for _, unit in number.readings if unit in {"date", "month", "weekday"}]
        self.listed |= {units.count(unit) for unit in set(units)} - {1}
        self._around: dict[int, dict[str, float]] = {}
        for place, number in enumerate(self.all):
            for value, unit in number.readings:
                self.units.setdefault(value, set()).add(unit)
                self.places.setdefault(value, []).append(place)
                if not unit and not number.thing and not number.weak:
                    self.uncounted.add(value)
            for thing in _things(number):
                self.things.setdefault(thing, set()).update(v for v, _ in number.readings)

    @cached_property
    def kinds(self) -> list[frozenset[str]]:
        """What each number measures."""
        return [_kinds(number) for number in self.all[:_COMPARED]]

    @cached_property
    def values(self) -> list[set[Value]]:
        """What each number may be."""
        return [{v for v, _ in number.readings} for number in self.all[:_COMPARED]]

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
        compare = _Comparison(self, other)
        return [number.text for place, number in enumerate(other.all) if not compare(place, number)]

    def counts_differently(self, number: Number) -> bool:
        """Whether the same thing is counted here, and never with this number; `50 each` may be 50 of anything."""
        values = {v for v, _ in number.readings}
        if not number.weak and not values.isdisjoint(self.uncounted):
            return False
        return any(values.isdisjoint(self.things.get(thing, values)) for thing in _things(number))

    def kept(self, other: Numbers) -> tuple[int, list[str]]:
        """How many of this text's numbers there are, and those that another text lost."""
        firm = [number for number in self.all if not number.weak]
        return len(firm), [number.text for number in firm if not other.has(number)]

    def around(self, place: int) -> dict[str, float]:
        """The words near a number, in its sentence, and how near they are."""
        if place not in self._around:
            start, end = self.all[place].span
            before = _keys(BREAK.split(self.text[max(0, start - _REACH) : start])[-1])[::-1]
            after = _keys(BREAK.split(self.text[end : end + _REACH], maxsplit=1)[0])
            near = zip_longest(before[:_NEAR], after[:_NEAR], fillvalue="")
            found = {word: 1 / (2 + far) for far, words in reversed([*enumerate(near)]) for word in words if word}
            for at in (place - 1, place + 1):
                if 0 <= at < len(self.all):
                    first, second = sorted((self.all[at].span, self.all[place].span))
                    gap = self.text[first[1] : second[0]]
                    if len(gap) < _GAP and not BREAK.search(gap):
                        weight = 1 / (2 + len(TOKEN.findall(gap))) / len(self.all[at].readings)
                        found |= {f"{v} {u}": weight for v, u in self.all[at].readings}
            self._around[place] = found
        return self._around[place]

    def like(self, place: int, other: Numbers, theirs: int) -> float:
        """How much alike what stands around two numbers is: the words of both, the nearer the more."""
        one, two = self.around(place), other.around(theirs)
        return sum(min(weight, two[word]) for word, weight in one.items() if word in two)


def _keys(text: str) -> list[str]:
    """The words of a text by what they are compared by: a stem, two Han characters, nothing for grammar."""
    return [
        (one + two if HAN.match(two) else "")
        if HAN.match(one)
        else ""
        if one.casefold() in FUNCTION or one[0].isdigit() or len(one) < 2
        else stem_of(one.casefold())[:6]
        for one, two in pairwise([*TOKEN.findall(text), ""])
    ]


def _kinds(number: Number) -> frozenset[str]:
    """What a number measures; nothing where it counts things, or does not say."""
    year = any(isinstance(v, int) and 1900 <= v < 2100 and not u for v, u in number.readings)
    found = frozenset(_KINDS[unit] for _, unit in number.readings if unit in _KINDS)
    text = any(isinstance(v, str) for v, _ in number.readings)
    return found or frozenset({"text" if text else "year" if year else ""})


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


class _Comparison:
    """The numbers of a source and of a rewrite, compared."""

    def __init__(self, source: Numbers, rewrite: Numbers) -> None:
        self.source, self.rewrite = source, rewrite
        self.listed = source.listed | rewrite.listed
        self.readings = {n.readings for n in source.all}
        self._known: list[_Known] = []
        self._derived: dict[Fraction, list[tuple[str, frozenset[int]]]] = {}
        self._shares: list[tuple[Fraction, frozenset[int]]] = []
        for place, number in enumerate(source.all[:_COMPUTED]):
            self._learn(number, place)
        if source.next_day:
            self._known.append(_Known(Fraction(1), "days", False, False, -1))
            for known in self._known[:-1]:
                self._combine(known, self._known[-1])

    def __call__(self, place: int, number: Number) -> bool:
        """Whether a number of the rewrite is in the source or follows, and stands where the source has it."""
        ways = self._ways(number)
        way = next(ways, None)
        has = self.source.has(number)
        if (way is None and not number.weak) or ((number.weak or has) and self.source.counts_differently(number)):
            return False
        large = any(not isinstance(v, str) and (v > _DAYS or v.denominator > 1) for v, _ in number.readings)
        rivals = self._rivals(place, _LARGE if has and large else _SMALL) if way is not None else {}
        if rivals and not any(self._stands(place, way, rivals) for way in chain([way], islice(ways, _COMPARED))):
            return False
        if number.readings not in self.readings:
            self._learn(number, -2 - place)
        return True

    def _stands(self, place: int, way: frozenset[int] | None, rivals: dict[int, float]) -> bool:
        """Whether none of the numbers that the rewrite lacks is nearer to the place than those that make its number."""
        own = max((self.rewrite.like(place, self.source, at) for at in way or () if at >= 0), default=0.0)
        return all(near <= _MARGIN * own or at in (way or ()) for at, near in rivals.items())

    def _rivals(self, place: int, least: float) -> dict[int, float]:
        """The numbers of the source that could stand there, that the rewrite lacks, and how near they are."""
        if place >= _COMPARED or (1 in self.rewrite.values[place] and self.rewrite.kinds[place].isdisjoint(_MOMENTS)):
            return {}
        found = {}
        for at, rival in enumerate(self.source.all[:_COMPARED]):
            if self._exchangeable(place, at):
                near = self.rewrite.like(place, self.source, at)
                if near > least and not self.rewrite.has(rival):
                    found[at] = near
        return found

    def _exchangeable(self, place: int, at: int) -> bool:
        """Whether a number of the source, another one, could stand in the place of one of the rewrite."""
        one, other = self.rewrite.all[place], self.source.all[at]
        a, b = self.rewrite.kinds[place], self.source.kinds[at]
        if other.readings == one.readings or (1 in self.source.values[at] and b.isdisjoint(_MOMENTS)):
            return False
        if (a & b) - {""} or (one.thing == other.thing != ""):
            return True
        if one.weak or other.weak or not a | b <= {"", "money"}:
            return False
        return not (one.thing and other.thing) if a == b else not (one.thing or other.thing)

    def _ways(self, number: Number) -> Iterator[frozenset[int]]:
        """The numbers of the source that it is, or follows from."""
        for value, unit in number.readings:
            if unit == "clock" and "past" in self.source.units.get(int(value) % 60, ()):
                yield from (frozenset({at}) for at in self.source.places[int(value) % 60])
            for at in self.source.places.get(value, [])[:_COMPARED]:
                if any(_fit(unit, u) for v, u in self.source.all[at].readings if v == value):
                    yield frozenset({at})
        moment = not {"date", "month"}.isdisjoint(u for _, u in number.readings)
        for value, unit in number.readings:
            if isinstance(value, str) or (moment and not unit):
                continue
            if unit in {"", "times"} and value in self.listed:
                yield frozenset({-1})
            for other, parts in self._derived.get(Fraction(value), ()):
                if _fit(unit, other) and (value > _FEW or not (number.thing and other)):
                    yield parts
            yield from self._near(Fraction(value), unit, rough=number.rough)

    def _near(self, value: Fraction, unit: str, *, rough: bool) -> Iterator[frozenset[int]]:
        """A rounding that says so and has no more digits, days told in months, a share to half a percent."""
        for known in self._known:
            v, u = known.value, known.unit
            if {u, unit} == {"days", "months"}:
                days, months = (v, value) if u == "days" else (value, v)
                if abs(30 * months - days) * 14 <= days:
                    yield frozenset({known.place})
            elif rough and u == unit and _digits_of(value) <= min(2, _digits_of(v)) and abs(v - value) * 10 <= v:
                yield frozenset({known.place})
        if unit == "%" or (not unit and 0 < value < 1):
            share = value / 100 if unit == "%" else value
            slack = Fraction(1, 20) if rough else Fraction(1, 200)
            yield from (parts for other, parts in self._shares if abs(share - other) <= slack)

    def _learn(self, number: Number, place: int) -> None:
        """Reckon with a number: spans of time in one unit, of a bare number also the day and the hour."""
        if len(self._known) >= _COMPUTED or (number.weak and any(v == 1 for v, _ in number.readings)):
            return
        plain = [(Fraction(v), u) for v, u in number.readings if not isinstance(v, str)]
        units = {u for _, u in plain}
        span = next((u for u in ("days", "minutes", "months") if u in units), "")
        own = units - {SAME[u][1] for u in units & SAME.keys()} | {span}
        own -= {""} if units & {"date", "month"} else set()
        for value, unit in plain:
            if unit in own:
                known = _Known(value, unit, number.rate, place < 0 or value in self.rewrite.units, place)
                self._known.append(known)
                for other in self._known:
                    self._combine(known, other)
                    self._combine(other, known)

    def _combine(self, a: _Known, b: _Known) -> None:
        """Keep what one operation makes of two numbers."""
        parts = frozenset({a.place, b.place})
        for value, unit in _moved(a, b) if {a.unit, b.unit} & _MOMENTS.keys() else _combined(a, b):
            large = max(value, a.value, b.value) > _FEW or value.denominator > 1
            if value > 0 and (large or unit in _SPANS):
                self._derived.setdefault(value, []).append((unit, parts))
        if 0 < a.value < b.value and not {a.unit, b.unit} & {"%", *_MOMENTS} and _like(a, b):
            self._shares.append((a.value / b.value, parts))
        if a is b and a.unit == "%":
            self._shares.append((a.value / 100, parts))


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
    elif b.unit == span and a.shown:
        yield (a.value + b.value - first) % turn + first, a.unit
        yield (a.value - b.value - first) % turn + first, a.unit


def _combined(a: _Known, b: _Known) -> Iterator[tuple[Fraction, str]]:
    """Differences, sums, products and parts of two amounts."""
    if a.place == b.place:
        return
    if _like(a, b):
        yield a.value - b.value, a.unit or b.unit
        if not a.shown and not b.shown and a.unit == b.unit and a.value != b.value:
            yield a.value + b.value, a.unit
    both = a.shown and b.shown
    if b.value.denominator == 1 and 1 < b.value <= 400 and (not b.unit or a.unit != b.unit):
        if a.rate or both:
            yield a.value * b.value, a.unit or "#"
        if both and (not b.unit or a.unit):
            yield a.value / b.value, a.unit or "#"
    if b.unit == "%" or (not b.unit and 0 < b.value < 1):
        part = a.value * b.value / (100 if b.unit == "%" else 1)
        for value in (part, a.value - part, a.value + part):
            yield value, a.unit


def _digits_of(value: Fraction) -> int:
    """How many digits a number has, without the zeros at its ends."""
    return len(f"{float(value):.6g}".replace(".", "").strip("0"))
