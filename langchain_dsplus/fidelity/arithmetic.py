"""Comparing the numbers of two texts: which of them are in both, and what follows from those of one."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cached_property

from langchain_dsplus.fidelity.numbers import SAME, Number, Reading, Value, read_numbers

_COMPUTED = 72
"""Readings of a text that arithmetic is tried with, in all pairs."""
_FEW = 12
"""Up to here a number counts things: a sum that happens to fit proves nothing, unless it is a span of time."""
_MOMENTS: dict[str, tuple[int, str]] = {
    "clock": (720, "minutes"), "weekday": (7, "days"), "month": (12, "months"), "date": (400, "days"),
}  # fmt: skip
"""What a moment is counted in, and after how much of it comes round."""
_NEXT_DAY = re.compile(
    r"\b(?:next|following|previous) (?:day|morning|evening|night)\b|\bday (?:after|before)\b|\btomorrow\b|\byesterday\b"
    r"|\bovernight\b|第二天|次日|隔[天日]|转天|前一[天晚]|昨[天晚]|明天"
)
_LIST = re.compile(
    r"(?:, (?:(?:an?|the|my|his|her|their) )?[\w'-]{1,30}){1,12},? (?:and|or) (?=\w)|(?:、[^\W、]{1,12}){1,12}"
)


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
        self.listed = {
            m.group().count("、") + 1 if "、" in m.group() else m.group().rstrip(", ").count(",") + 2
            for m in _LIST.finditer(text)
        }
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


_SPANS = frozenset({"days", "weeks", "minutes", "months", *_MOMENTS})


class _Arithmetic:
    """What follows from the numbers of a text, worked out once."""

    def __init__(self, source: Numbers, rewrite: Numbers) -> None:
        self.source, self.rewrite = source, rewrite

    def __call__(self, number: Number) -> bool:
        """Whether a number that the source does not have follows from it."""
        moment = not {"date", "month"}.isdisjoint(u for _, u in number.readings)
        for value, unit in number.readings:
            if isinstance(value, str) or (moment and not unit):
                continue
            if unit in {"", "times"} and value in self.source.listed:
                return True
            for other in self._derived.get(Fraction(value), ()):
                if _fit(unit, other) and (value > _FEW or not (number.thing and other)):
                    return True
            if self._near(Fraction(value), unit, rough=number.rough):
                return True
        return False

    def _near(self, value: Fraction, unit: str, *, rough: bool) -> bool:
        """A rounding that says so and has no more digits, days told in months, a share to half a percent."""
        for v, u in self._known:
            if {u, unit} == {"days", "months"}:
                days, months = (v, value) if u == "days" else (value, v)
                if abs(30 * months - days) * 14 <= days:
                    return True
            elif rough and u == unit and _digits_of(value) <= min(2, _digits_of(v)) and abs(v - value) * 10 <= v:
                return True
        if unit == "%" or (not unit and 0 < value < 1):
            share = value / 100 if unit == "%" else value
            return any(abs(share - other) <= (Fraction(1, 20) if rough else Fraction(1, 200)) for other in self._shares)
        return False

    @cached_property
    def _rates(self) -> set[Reading]:
        return {reading for number in self.source.all if number.rate for reading in number.readings}

    @cached_property
    def _known(self) -> list[tuple[Fraction, str]]:
        """The readings to reckon with, spans of time in one unit; of a bare number also the day and the hour."""
        known: dict[tuple[Fraction, str], None] = {}
        for number in self.source.all:
            if number.weak and any(v == 1 for v, _ in number.readings):
                continue
            plain = [(Fraction(v), u) for v, u in number.readings if not isinstance(v, str)]
            units = {u for _, u in plain}
            span = next((u for u in ("days", "minutes", "months") if u in units), "")
            own = units - {SAME[u][1] for u in units & SAME.keys()} | {span}
            own -= {""} if units & {"date", "month"} else set()
            known |= {(v, u): None for v, u in plain if u in own}
            if len(known) >= _COMPUTED:
                break
        return list(known) + [(Fraction(1), "days")] * self.source.next_day

    @cached_property
    def _pairs(self) -> list[tuple[Fraction, str, bool, Fraction, str, bool]]:
        """Two numbers, and whether the rewrite shows them."""
        shown = [v in self.rewrite.units for v, _ in self._known]
        known = list(zip(self._known, shown, strict=True))
        return [(a, ua, one, b, ub, two) for (a, ua), one in known for (b, ub), two in known]

    @cached_property
    def _derived(self) -> dict[Fraction, set[str]]:
        """Value -> units of what one operation makes of two numbers."""
        made: dict[Fraction, set[str]] = {}
        for a, ua, one, b, ub, two in self._pairs:
            if ua in _MOMENTS:
                size, span = _MOMENTS[ua]
                if ua == ub:
                    found = [((a - b) % size, span)] + [((a - b) % size + 1, span)] * (ua == "month")
                elif ub == span:
                    turn = 1440 if ua == "clock" else size
                    found = (
                        [((a + b - 1) % turn + 1, ua), ((a - b - 1) % turn + 1, ua)]
                        if ua != "clock"
                        else [((a + b) % turn, ua), ((a - b) % turn, ua)]
                    )
                else:
                    continue
            elif ub in _MOMENTS:
                continue
            else:
                found = [(a - b, ua or ub)] if ua == ub or "" in {ua, ub} else []
                if b.denominator == 1 and 1 < b <= 400 and (not ub or ua != ub) and (a, ua) != (b, ub):
                    found += [(a * b, ua or "#")] * ((a, ua) in self._rates)
                    found += [(a / b, ua or "#")] * (one and two and (not ub or bool(ua)))
                if one == two and ua == ub and a != b:
                    found.append((a + b, ua))
                if ub == "%" or (not ub and 0 < b < 1):
                    part = a * b / 100 if ub == "%" else a * b
                    found += [(part, ua), (a - part, ua), (a + part, ua)]
            for value, unit in found:
                large = max(value, a, b) > _FEW or value.denominator > 1
                if value > 0 and (large or unit in _SPANS):
                    made.setdefault(value, set()).add(unit)
        return made

    @cached_property
    def _shares(self) -> list[Fraction]:
        """What part one number is of another, unless the source tells a share that the rewrite replaced."""
        told = [v for v, u in self._known if u == "%" or (not u and v < 1)]
        if any(v not in self.rewrite.units for v in told):
            return [v / 100 if v >= 1 else v for v in told]
        return [
            a / b
            for a, ua, _, b, ub, _ in self._pairs
            if 0 < a < b
            and ua not in _MOMENTS
            and ub not in _MOMENTS
            and "%" not in {ua, ub}
            and (ua == ub or "" in {ua, ub})
        ] + [v / 100 for v, u in self._known if u == "%"]


def _digits_of(value: Fraction) -> int:
    """How many digits a number has, without the zeros at its ends."""
    return len(f"{float(value):.6g}".replace(".", "").strip("0"))
