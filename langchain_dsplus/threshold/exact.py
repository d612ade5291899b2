"""The exact paired test behind a certificate: is the cascade's loss below `max_loss`?

Every row is one of three: harm (the large model alone is right, the cascade is not), gain (the other way round), or no
difference. With harm rate r + q and gain rate q, the loss per input is r. The null hypothesis is r >= max_loss; the
gain rate q is a nuisance, and the p-value is the largest probability over q of data at least as good as those seen.
"Good" is ordered by Tango's score statistic (Statistics in Medicine 17, 1998, pp. 891-908).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from langchain_dsplus._arrays import Floats
from langchain_dsplus._imports import require

_TIE = 1e-9
_TAIL = 1e-10
"""Probability that a window may leave out at each end; it is added to the p-value."""
_MOST_GAINS = 0.45
"""Largest gain rate that is searched, unless the gains seen are so many that a larger one is not absurd: there nearly
every row would be a harm or a gain."""
_ABSURD = 1e-9
"""How absurd: the probability of so few gains at a larger rate. It is added to the p-value, which stays exact so
(Berger and Boos, Journal of the American Statistical Association 89, 1994, pp. 1012-1016)."""
_FEW = 400
"""Rows up to which the probability has a top for nearly every number of gains: it is searched in finer steps."""
_SCREEN = 20_000
"""Most rows at which the critical value is worth its computation."""


def tango_score(harms: ArrayLike, gains: ArrayLike, n: float, max_loss: float) -> Any:
    """Return Tango's score statistic for the loss (harms - gains) / n against `max_loss`.

    Negative where the loss seen is below `max_loss`; the smaller, the stronger the evidence. It rises with `harms`
    and falls with `gains`.

    Args:
        harms: Rows that the cascade loses; a number or an array.
        gains: Rows that it wins, same shape.
        n: All rows, at least harms + gains.
        max_loss: The loss that must not be reached, in (0, 1).

    Returns:
        A float, or an array of the shape of `harms`.

    Example:
        >>> round(tango_score(3, 3, 2000, 0.005), 3)
        -2.721
    """
    b, c = np.asarray(harms, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    # The gain rate's maximum-likelihood estimate when the loss is `max_loss`.
    first = 2.0 * n
    second = -b - c + (2.0 * n - b + c) * max_loss
    third = -c * max_loss * (1.0 - max_loss)
    rate = (np.sqrt(second * second - 4.0 * first * third) - second) / (2.0 * first)
    score = (b - c - n * max_loss) / np.sqrt(n * (2.0 * rate + max_loss * (1.0 - max_loss)))
    return float(score) if score.ndim == 0 else score


def paired_p_value(harms: int, gains: int, n: int, max_loss: float) -> float:
    """Return the exact one-sided p-value for "the loss is below `max_loss`", the largest over the gain rates.

    Args:
        harms: Rows that the cascade loses against the large model alone.
        gains: Rows that it wins.
        n: All rows, those without a difference included.
        max_loss: The loss that must not be reached, in (0, 1).

    Returns:
        In [0, 1], computed to within two thousandths of itself. At or below 1 - level it shows that the loss is below
        `max_loss`.

    Raises:
        ValueError: If the counts are impossible, or `max_loss` is outside (0, 1).

    Example:
        >>> round(paired_p_value(0, 0, 598, 0.005), 4)
        0.0499
        >>> round(paired_p_value(10, 5, 3000, 0.005), 3)
        0.016
    """
    _check(harms, gains, n, max_loss)
    return _p(harms, gains, n, max_loss)


@lru_cache(maxsize=4096)
def critical_value(n: int, max_loss: float, alpha: float) -> float:
    """Return the largest score that is significant.

    A `tango_score` at or below it rejects at `alpha`: one number for all counts of a table, so that many thresholds
    cost one comparison each. It is found from below, to within 0.001: counts that it rejects, `paired_p_value` rejects
    too, unless gains make up 40 % of the rows or there are fewer than 40; just above it the p-value may reject as well.

    Args:
        n: All rows.
        max_loss: The loss that must not be reached, in (0, 1).
        alpha: Size of the test, in (0, 0.5].

    Returns:
        A score; minus infinity where no data of n rows could reject.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> critical_value(598, 0.005, 0.05) >= tango_score(0, 0, 598, 0.005)
        True
        >>> critical_value(100, 0.005, 0.05) >= tango_score(0, 0, 100, 0.005)
        False
    """
    _check(0, 0, n, max_loss)
    if not 2 * _ABSURD < alpha <= 0.5:
        raise ValueError("`alpha` must lie between 0 and 0.5")
    alpha -= _ABSURD
    normal: Any = require("scipy.special", "sklearn")
    wanted = float(normal.ndtri(alpha))
    low: float = tango_score(0, n, n, max_loss)
    high = 0.0
    if _largest(low, n, max_loss) > alpha:
        return -math.inf
    guess = wanted
    while high - low > 1e-3:
        guess = min(max(guess, low + 0.1 * (high - low)), high - 0.1 * (high - low))
        p = _largest(guess, n, max_loss)
        if p <= alpha:
            low = guess
        else:
            high = guess
        # Nearly normal: the distance in quantiles is the distance in scores. A small push makes the bracket close.
        step = wanted - float(normal.ndtri(min(max(p, 1e-12), 1 - 1e-12)))
        guess = guess + step + math.copysign(2e-4, step)
    return low


def significant(harms: int, gains: int, n: int, max_loss: float, alpha: float) -> bool:
    """Whether `paired_p_value(...) <= alpha`, decided by the score alone where that is clear and saves time.

    Example:
        >>> significant(0, 0, 598, 0.005, 0.05), significant(0, 0, 597, 0.005, 0.05)
        (True, False)
    """
    _check(harms, gains, n, max_loss)
    score = tango_score(harms, gains, n, max_loss)
    if score >= 0.0:
        return False
    if n <= _SCREEN and _usual(gains, n) and score <= critical_value(n, max_loss, alpha):
        return True
    return paired_p_value(harms, gains, n, max_loss) <= alpha


def count_significant(harms: ArrayLike, gains: ArrayLike, n: int, max_loss: float, alpha: float) -> int:
    """Return how many steps of a fixed sequence pass before the first that fails; each is tested at `alpha`.

    Args:
        harms: Of each step, in the order of the sequence, shape (m,).
        gains: Same shape.
        n: All rows.
        max_loss: The loss that must not be reached.
        alpha: Size of each test, and so of the whole sequence.

    Example:
        >>> count_significant([0, 1, 9, 0], [0, 0, 0, 9], 1000, 0.005, 0.05)
        2
    """
    b, c = np.asarray(harms, dtype=np.int64), np.asarray(gains, dtype=np.int64)
    if not len(b):
        return 0
    # A higher score has a higher p-value, so the worst step so far decides: search for the first bad one by halves.
    worst = np.maximum.accumulate(tango_score(b, c, n, max_loss))
    first = [int(place) for place in np.flatnonzero(np.diff(worst, prepend=-math.inf) > 0.0)]
    low, high = 0, len(first)  # of `first`: those before `low` pass, those from `high` on do not
    while low < high:
        middle = (low + high) // 2
        if significant(int(b[first[middle]]), int(c[first[middle]]), n, max_loss, alpha):
            low = middle + 1
        else:
            high = middle
    return len(b) if low == len(first) else first[low]


def loss_upper_bound(harms: int, gains: int, n: int, level: float = 0.95) -> float:
    """Return an upper confidence bound for the loss: the smallest `max_loss` that these counts would show.

    Args:
        harms: Rows that the cascade loses.
        gains: Rows that it wins.
        n: All rows.
        level: Of the bound, in [0.5, 1).

    Returns:
        To 1e-6, from above; 1.0 where nothing can be shown.

    Example:
        >>> round(loss_upper_bound(0, 0, 598), 4)
        0.005
    """
    _check(harms, gains, n, 0.5)
    if not 0.5 <= level < 1.0:
        raise ValueError("`level` must lie in [0.5, 1)")
    alpha = 1.0 - level
    if _p(harms, gains, n, 1e-7) <= alpha:
        return 1e-7
    # The asymptotic bound is close: bracket from there.
    start = max(loss_interval(harms, gains, n, 1.0 - 2.0 * alpha)[1], 1e-6)
    low, high, step = 1e-7, 1.0, 0.01
    probe = start
    while high - low > max(1e-6, 1e-4 * high):
        if _p(harms, gains, n, probe) <= alpha:
            high = probe
        else:
            low = probe
        if low > 1e-7 and high < 1.0:
            probe = (low + high) / 2.0
        else:  # only one end is known: widen
            probe = min(max(start * (1.0 + step) if high == 1.0 else start * (1.0 - step), low), high)
            step *= 2.0
            if probe in {low, high}:
                probe = (low + high) / 2.0
    return high


def loss_interval(harms: int, gains: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Tango's two-sided score interval for the loss (harms - gains) / n; asymptotic, for description.

    Example:
        >>> [round(x, 4) for x in loss_interval(10, 5, 3000)]
        [-0.0009, 0.0046]
    """
    _check(harms, gains, n, 0.5)
    if not 0.0 <= level < 1.0:
        raise ValueError("`level` must lie in [0, 1)")
    special: Any = require("scipy.special", "sklearn")
    z = -float(special.ndtri((1.0 - level) / 2.0))

    def search(wanted: float) -> float:
        low, high = -1.0 + 1e-12, 1.0 - 1e-12
        for _ in range(60):
            middle = (low + high) / 2.0
            with np.errstate(divide="ignore", invalid="ignore"):
                score: float = tango_score(harms, gains, n, middle)
            score = 0.0 if math.isnan(score) else score  # no harm, no gain, and a loss of 0
            low, high = (middle, high) if score > wanted else (low, middle)
        return (low + high) / 2.0

    return search(z), search(-z)


@lru_cache(maxsize=256)
def least_rows(max_loss: float, level: float = 0.95) -> int:
    """Return the fewest rows at which anything can be shown: those that suffice without a harm and without a gain.

    At level 0.95 that is ln(0.05) / ln(1 - max_loss), as in a binomial test; at higher levels a few more.

    Example:
        >>> [least_rows(loss) for loss in (0.0025, 0.005, 0.01, 0.02, 0.03)]
        [1197, 598, 299, 149, 99]
    """
    if not (0.0 < max_loss < 1.0 and 0.0 < level < 1.0):
        raise ValueError("`max_loss` and `level` must lie between 0 and 1")
    alpha = 1.0 - level
    low = math.ceil(math.log(alpha) / math.log1p(-max_loss) - 1e-9)
    if _p(0, 0, low, max_loss) <= alpha:
        return low
    high = 2 * low
    while _p(0, 0, high, max_loss) > alpha:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _p(0, 0, middle, max_loss) <= alpha else (middle, high)
    return high


# --- the supremum ---------------------------------------------------------------------------------------------------


def _check(harms: int, gains: int, n: int, max_loss: float) -> None:
    if not (harms >= 0 and gains >= 0 and harms + gains <= n and n >= 1):
        raise ValueError(f"`harms` and `gains` must be at least 0 and together at most `n`: got {harms}, {gains}, {n}")
    if not 0.0 < max_loss < 1.0:
        raise ValueError(f"`max_loss` must lie between 0 and 1, not {max_loss}")


@lru_cache(maxsize=4096)
def _p(harms: int, gains: int, n: int, max_loss: float) -> float:
    if not 0.0 < max_loss < 1.0:
        return 1.0
    most = _MOST_GAINS if _usual(gains, n) else 1.0
    return min(_largest(tango_score(harms, gains, n, max_loss), n, max_loss, most) + _ABSURD, 1.0)


def _usual(gains: int, n: int) -> bool:
    """Whether so few gains would be absurd at a rate above `_MOST_GAINS`."""
    special: Any = require("scipy.special", "sklearn")
    return float(special.bdtr(gains, n, _MOST_GAINS)) < _ABSURD


def _largest(score: float, n: int, max_loss: float, most: float = _MOST_GAINS) -> float:
    """The largest probability of a score this small, over the gain rates up to `most`."""
    chances = _Chances(score, n, max_loss)

    def probability(s: float) -> float:
        return chances.at(_rate(s, n))

    # No gain rate can be larger: harm rate and gain rate sum to at most 1.
    end = 2.0 * math.sqrt(n * min(most, (1.0 - max_loss) / 2.0))
    coarse = np.geomspace(20.0, max(end, 20.0), 12)
    step, tops = (0.5, 2) if n > _FEW else (0.125, 12)
    grid = np.unique(np.concatenate([np.arange(0.0, min(20.0, end), step), np.minimum(coarse, end)]))
    values = [probability(s) for s in grid.tolist()]
    best = max(values)
    # Between grid points the probability is smooth: look closer on both sides of the highest, each by itself.
    gaps: set[int] = set()
    for place in sorted(range(len(values)), key=values.__getitem__)[-tops:]:
        near = values[max(place - 1, 0) : place + 2]
        if n > _SCREEN and max(near) - min(near) < 1e-3 * best:
            continue  # flat there, and each value costs a second at a million rows
        gaps |= {gap for gap in (place - 1, place) if 0 <= gap < len(grid) - 1}
    for gap in sorted(gaps):
        best = max(best, _golden(probability, float(grid[gap]), float(grid[gap + 1])))
    return min(best, 1.0)


def _rate(s: float, n: int) -> float:
    """The gain rate at s = 2 sqrt(n q): on this scale the number of gains has about the same spread everywhere."""
    return s * s / (4.0 * n)


def _golden(function: Callable[[float], float], low: float, high: float, steps: int = 6) -> float:
    shrink = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - shrink * (high - low), low + shrink * (high - low)
    at_left, at_right = function(left), function(right)
    best = max(at_left, at_right)
    for _ in range(steps):
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - shrink * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + shrink * (high - low)
            at_right = function(right)
        best = max(best, at_left, at_right)
    return best


class _Chances:
    """P(Tango's score <= `score`) by gain rate, when the harm rate is `max_loss` higher.

    The largest number of harms that still passes depends on the number of gains, not on the rate: it is kept.
    """

    def __init__(self, score: float, n: int, max_loss: float) -> None:
        self.score, self.n, self.max_loss = score, n, max_loss
        self._start, self._most = 0, np.empty(0)

    def at(self, rate: float) -> float:
        special: Any = require("scipy.special", "sklearn")
        n = self.n
        q = min(rate, (1.0 - self.max_loss) / 2.0)
        low, high = _window(n, q)
        most = self._passing(low, high)
        if q == 0.0:
            return float(special.bdtr(most[0], n, self.max_loss)) if most[0] >= 0 else 0.0
        gains = np.arange(low, high + 1, dtype=np.float64)
        weights = np.exp(
            special.gammaln(n + 1.0)
            - special.gammaln(gains + 1.0)
            - special.gammaln(n - gains + 1.0)
            + special.xlogy(gains, q)
            + special.xlog1py(n - gains, -q)
        )
        share = min((q + self.max_loss) / (1.0 - q), 1.0)
        inner = np.where(most < 0, 0.0, special.bdtr(np.maximum(most, 0.0), (n - gains).astype(np.int64), share))
        return float(weights @ inner) + 2.0 * _TAIL

    def _passing(self, low: int, high: int) -> Floats:
        """The most harms that pass, for each number of gains from `low` to `high`."""
        stop = self._start + len(self._most)
        if low < self._start or high >= stop:
            # Far ahead: rates are tried upwards, in steps.
            self._start, stop = low, min(high + max(64, (high - low) // 2), self.n) + 1
            self._most = _most_harms(self.score, np.arange(low, stop, dtype=np.float64), self.n, self.max_loss)
        return self._most[low - self._start : high + 1 - self._start]


def _window(n: int, q: float) -> tuple[int, int]:
    """The numbers of gains that matter: all but 1e-10 of the probability at each end (Bernstein's inequality)."""
    if q == 0.0:
        return 0, 0
    log = -math.log(_TAIL)
    reach = log / 3.0 + math.sqrt(log * log / 9.0 + 2.0 * log * n * q * (1.0 - q))
    return max(0, math.floor(n * q - reach)), min(n, math.ceil(n * q + reach))


def _most_harms(score: float, gains: Floats, n: int, max_loss: float) -> Floats:
    """For each number of gains the most harms whose score is at most `score`; -1 where there are none."""
    low, high = np.full_like(gains, -1.0), n - gains + 1.0  # low passes (or is -1), high does not (or is impossible)
    # A first guess narrows the search: the score is nearly normal, with variance 2 gains + n max_loss.
    guess = np.floor(gains + n * max_loss + score * np.sqrt(2.0 * gains + n * max_loss))
    reach = 4.0
    while True:
        for side in (guess - reach, guess + reach):
            probe = np.clip(side, low + 1.0, np.maximum(high - 1.0, low + 1.0))
            passes = (probe < high) & (tango_score(probe, gains, n, max_loss) <= score + _TIE)
            open_ = probe < high
            low = np.where(open_ & passes, probe, low)
            high = np.where(open_ & ~passes, probe, high)
        if bool(np.all(high - low <= 4.0 * reach)) or reach > n:
            break
        reach *= 4.0
    while bool(np.any(high - low > 1.0)):
        middle = np.floor((low + high) / 2.0)
        passes = tango_score(middle, gains, n, max_loss) <= score + _TIE
        open_ = high - low > 1.0
        low, high = np.where(open_ & passes, middle, low), np.where(open_ & ~passes, middle, high)
    return low
