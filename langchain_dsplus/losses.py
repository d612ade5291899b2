"""A loss of accuracy, a change of it, a threshold: how they are read and how they are written, once for all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import TypeAlias

Loss: TypeAlias = float | str
"""What an argument that is a loss takes: see `parse_loss`."""

_TEXT = re.compile(
    r"\s*(?P<number>[0-9]{1,30}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})"
    r"\s*(?P<unit>(?:percentage )?points?|pp|%|percent)?\s*",
    re.ASCII | re.IGNORECASE,
)
_BARE_BELOW = 0.1
_LARGEST = 1e300
_SMALLEST = 2.3e-308  # below, a float is subnormal: the neighbor of 0 is one


def parse_loss(value: Loss, name: str = "max_loss") -> float:
    """Return a loss as a share of inputs, in (0, 1).

    A text with a unit says it best: `"0.5 points"`, `"0.5 pp"`, `"0.5 %"`, `"0.5 percentage points"` and
    `"0.5 percent"` all mean 5 in 1,000 inputs. Without a unit (`0.005`, or the text `"0.005"`) it is a share, and must
    be below .1: from there on it could as well be meant in points.

    Raises:
        ValueError: If it is not between 0 and 100 points, lacks the unit that it needs, or cannot be read.
        TypeError: If it is neither a number nor a text.

    Example:
        >>> parse_loss("0.5 points"), parse_loss("2%"), parse_loss(0.005)
        (0.005, 0.02, 0.005)
        >>> parse_loss(0.5)
        Traceback (most recent call last):
        ...
        ValueError: `max_loss` has no unit, and 0.5 can be read in two ways: write '0.5 points' or '50 points'
    """
    if isinstance(value, str):
        found = _TEXT.fullmatch(value)
        if found is None:
            raise ValueError(
                f"`{name}` is a text that is no loss: write a number and its unit, such as '0.5 points' or '0.5 %'"
            )
        number, unit = Decimal(found["number"]), found["unit"]
        share = float(number / 100) if unit else float(number)
    elif isinstance(value, Real | Decimal) and not isinstance(value, bool):
        share, unit = _share(value), None
    else:
        raise TypeError(
            f"`{name}` must be a text such as '0.5 points', or a share below .1, not {type(value).__name__}"
        )
    if unit is None and _BARE_BELOW <= share < math.inf:
        one, other = f"{share:.15g} points", f"{float(Decimal(repr(share)) * 100):.15g} points"
        ways = f"can be read in two ways: write {one!r} or {other!r}"
        if share >= 1.0:
            ways = f"is no share below 1: write {one!r} if points are meant ({other!r} would be everything)"
        raise ValueError(f"`{name}` has no unit, and {share:.15g} {ways}")
    if not 0.0 < share < 1.0:
        raise ValueError(f"`{name}` must be more than 0 and less than 100 points, such as '0.5 points'")
    return share


def _share(value: Real | Decimal) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def points(share: float) -> str:
    """A loss in words, which `parse_loss` reads again.

    Example:
        >>> points(0.005), points(0.01)
        ('0.5 percentage points', '1 percentage point')
    """
    number = f"{float(f'{100.0 * share:.4g}') + 0.0:.12f}".rstrip("0").rstrip(".")  # no exponent
    number = "0" if float(number) == 0.0 else number
    return f"{number} percentage point" + ("" if number == "1" else "s")


def signed_points(share: float, digits: int = 2) -> str:
    """A change of accuracy in points, without the word: its sign, and none where nothing is left of it.

    Example:
        >>> signed_points(0.0012), signed_points(-0.012), signed_points(-0.00001)
        ('+0.12', '-1.20', '0.00')
    """
    number = f"{100.0 * share:+.{digits}f}"
    return number[1:] if float(number) == 0.0 else number


def threshold_words(thresholds: float | Mapping[str, float], digits: int | None = 6) -> str:
    """A threshold in words, or one for each small model.

    The laxest threshold of a table is the float below its smallest score: that is said, not written out. Without
    `digits` the number stands there exactly, as a router needs it.

    Example:
        >>> threshold_words(0.91875), threshold_words(math.inf), threshold_words(-5e-324)
        ('0.91875', 'accept nothing', 'just below 0')
    """
    if isinstance(thresholds, Mapping):
        if len(thresholds) > 1:
            return ", ".join(f"{name}: {threshold_words(value, digits)}" for name, value in thresholds.items())
        (thresholds,) = thresholds.values()
    value = float(thresholds)
    if abs(value) >= _LARGEST:
        return "accept nothing" if value > 0.0 else "accept everything"
    if value and abs(value) < _SMALLEST:
        return "just below 0" if value < 0.0 else "just above 0"
    if digits is None:
        return repr(value)
    near = float(f"{value:.{digits}g}") + 0.0
    return ("just below " if math.nextafter(near, -math.inf) == value else "") + f"{near:.{digits}g}"
