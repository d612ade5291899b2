"""Evidence that grows while one watches: a test by betting that may be looked at after every observation.

`BettingProcess` starts with capital 1 and bets on observations at odds that are fair if their mean is at its limit. By
Ville's inequality a capital of 1 / alpha is then reached with probability alpha at most, ever; so an alarm may go off
at any time (Waudby-Smith and Ramdas 2020, arXiv 2010.09686; Podkopaev and Ramdas 2021, arXiv 2110.06177).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

_SHARES = np.append(np.geomspace(0.012, 0.16, 9), 0.32)
_BOLD = np.geomspace(0.02, 0.5, 9)
"""Bets where an observation may lie far below the limit (`low` below 0): there each moves the capital little."""
_STRIDE = 50
_SPREAD = 80
_EARLY, _EVEN, _LATE = 0.8, 0.18, 0.02
"""Of the capital: staked at starts that soon grow small; evenly at the first `_SPREAD` starts (those of some 19,000
observations); and at those after them."""


def _stake(start: int) -> float:
    """What the first, second, ... start (from 0) is given; all together at most 1.

    With the early part alone, late changes would be slow to be noticed: the stake of the start before them would be
    next to nothing. Simulated (`benchmarks/drift.py`), the even part saves a fifth of the audits there, and costs a few
    percent more at the beginning.
    """
    early = _EARLY / ((start + 1) * (start + 2))
    return early + (_EVEN / _SPREAD if start < _SPREAD else _LATE * _SPREAD / (start * (start + 1)))


class BettingProcess:
    """An e-process against "the mean of what is observed is at most `limit`".

    The capital is spread over bets from shy to bold. Two fifths of it are staked at the first observation, the rest in
    parts later on: at first every 50 observations, then ever more rarely (a mixture over starting times). So a change
    is noticed that comes late, after the first bets have lost what they had; all parts together are still one capital
    of 1.

    Args:
        limit: The mean that is still allowed, above `low` and below 1.
        low: The least an observation can be; the most is 1.

    Attributes:
        n: Observations so far.

    Example:
        >>> process = BettingProcess(0.02)
        >>> for disagree in [0, 1, 1, 0, 1]:
        ...     evidence = process.add(disagree)
        >>> evidence > 20
        True
    """

    def __init__(self, limit: float, low: float = 0.0) -> None:
        if not low < limit < 1.0:
            raise ValueError(f"`limit` must lie between {low:g} and 1, not {limit}")
        self.limit = float(limit)
        self.low = float(low)
        self.n = 0
        self._starts = 0
        self._next = 0
        self._shares = _SHARES if low >= 0.0 else _BOLD
        self._capital: Any = np.zeros(len(self._shares))

    def add(self, value: Any, limit: Any = None) -> Any:
        """Take one observation, or one of each of many processes that run side by side, shape (runs,).

        Args:
            value: From `low` to 1.
            limit: Holds for this observation, where the limit changes, chosen before it was seen; one number, or one
                for each of many processes.

        Returns:
            The capital: at least 1 / alpha with probability alpha at most, ever, if the limit is kept.
        """
        if self.n >= self._next:
            self._capital = self._capital + _stake(self._starts) / len(self._shares)
            self._starts += 1
            self._next = self.n + max(_STRIDE, self.n // 20)
        limit = np.asarray(self.limit if limit is None else limit, dtype=np.float64)[..., None]
        gain = np.asarray(value, dtype=np.float64)[..., None] - limit
        # After an alarm nobody may look for long: the capital is kept finite.
        self._capital = np.minimum(self._capital * (1.0 + self._shares / (limit - self.low) * gain), 1e200)
        self.n += 1
        return self.evidence

    @property
    def evidence(self) -> Any:
        """The capital in play."""
        total = self._capital.sum(axis=-1)
        return float(total) if np.ndim(total) == 0 else total

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "limit": self.limit,
            "low": self.low,
            "n": self.n,
            "starts": self._starts,
            "next": self._next,
            "capital": [float(value) for value in self._capital],
        }

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Continue where `to_dict` was called. Raises ValueError if it is not what `to_dict` returns."""
        try:
            process = cls(float(body["limit"]), float(body["low"]))
            process.n, process._starts, process._next = (int(body[name]) for name in ("n", "starts", "next"))
            capital = np.asarray(body["capital"], dtype=np.float64)
        except (KeyError, TypeError) as error:
            raise ValueError("not the state of a betting process") from error
        if capital.shape != process._shares.shape or not (np.isfinite(capital).all() and (capital >= 0).all()):
            raise ValueError("not the state of a betting process")
        process._capital = capital
        return process


def alarm_times(values: Any, limit: Any, alpha: float, *, low: float = 0.0) -> Any:
    """Return after how many observations each run raises an alarm, 0 where it never does.

    Args:
        values: Shape (runs, n).
        limit: Of the mean; one number, or one for each run.
        alpha: Error probability: the alarm goes off at capital 1 / alpha.
        low: The least that a value can be.

    Returns:
        Whole numbers, shape (runs,).
    """
    values = np.asarray(values)
    runs, length = values.shape
    times = np.zeros(runs, dtype=np.int64)
    process = BettingProcess(float(np.max(limit)), low)
    for place in range(length):
        reached = process.add(values[:, place], limit) >= 1.0 / alpha
        times[reached & (times == 0)] = place + 1
        if place % 256 == 255 and times.all():
            break
    return times
