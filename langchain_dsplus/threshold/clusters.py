"""A test of the loss per input when inputs come in groups: threads, customers, documents.

Rows of one group resemble each other, so a thousand rows of ten customers say little more than ten rows do. The usual
answers (a t test on group totals, cluster-robust variances, their bootstrap) are too lenient just where it matters:
when the loss sits in few groups and the sample happens to hold none of them, the variance that they estimate is small
as well. The test of this module adds one group that was not seen, as large as one may still turn up, all of it harmed,
and lets the data speak against it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from langchain_dsplus._arrays import Floats
from langchain_dsplus.threshold.exact import least_rows

MINIMUM_GROUPS = 50
"""Effective groups below which `clustered_p_value` refuses: found by simulation, see there."""

_NODES = 500_000
"""Numbers held at once by the integral."""


def clustered_p_value(
    sums: ArrayLike, sizes: ArrayLike, max_loss: float, *, largest: float | None = None, refuse: bool = True
) -> float:
    """Return the one-sided p-value for "the loss per input is below `max_loss`" when rows come in groups.

    The loss per input is E[sum of a group] / E[size of a group]. Groups are independent draws; inside a group anything
    may happen, and the size may go with the difficulty. With u = sum - max_loss * size, the hypothesis to be refuted is
    E[u] >= 0. The p-value is the probability that a weighted total of u is at least 0, where the weights are drawn from
    the flat Dirichlet distribution over the groups and one more, which was not seen and is harmed in all its rows: the
    Bayesian bootstrap with the worst possible extra group. It is computed, not simulated, so it does not depend on a
    seed. For groups of one size, each harmed altogether or not at all, it is the exact binomial test on groups: without
    any harm p = (1 - max_loss) ** groups, so that at half a point 598 groups are the fewest, as 598 rows are.

    What holds, and what does not:

    - For groups of at most `largest` rows this is Gaffke's bound for the mean of a bounded variable. That it never
      rejects too often is proved for variables of two values and a conjecture beyond; no case is known to us where it
      fails, and for groups of one row (-1, 0, 1) its size, computed for 200 to 1,500 rows, is at most the level.
    - Where `largest` is not given, it is taken as far above the largest group seen as that is above the mean group, or
      further, times the squared coefficient of variation of the sizes where that exceeds 1. A group yet larger, in
      which the loss sits while the sample holds none like it, deceives any test: a few large customers may be missing.
      Give `largest` where you know it; sample anew when a larger customer arrives.
    - Simulated at a true loss of exactly `max_loss`, 0.5 and 2 points, 20 to 2,000 groups: sizes equal, uniform,
      lognormal, Pareto (tail 1.5 and 2.5); loss in single rows, in groups by a beta distribution, in few groups
      altogether, in the largest groups alone; without gains, and with gains elsewhere that make up for up to 35 % of
      the rows harmed. Where the rows make up at least 50 groups of the largest size the test rejects in at most 5 % of
      samples, within what the simulation can tell; below that it refuses. A t test on the group totals, a jackknife
      with reduced degrees of freedom and a skewness-corrected t test reject in up to 99 % of the same samples.
    - Few large groups cost power: about `least_groups` groups are needed even without a single harm.

    Args:
        sums: For each group the sum of D over its rows: harms minus gains, shape (groups,).
        sizes: Rows of each group, those without a difference and the escalated ones included, same shape.
        max_loss: The loss per input that must not be reached, in (0, 1).
        largest: The most rows that a group can have, where that is known (a cap on the length of a thread).
        refuse: Whether too few effective groups raise. Without it the p-value is given, and may be too small.

    Returns:
        In [0, 1]. At or below 1 - level it shows that the loss per input is below `max_loss`.

    Raises:
        ValueError: If the groups are too few or too unequal, or an argument is out of range.

    References:
        Gaffke, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable"
        (Mathematical Methods of Statistics 14, 2005). Learned-Miller and Thomas, "A new confidence interval for the
        mean of a bounded random variable" (2019), arXiv:1905.06208. Rubin, "The Bayesian bootstrap" (Annals of
        Statistics 9, 1981). Daniels, "Saddlepoint approximations in statistics" (Annals of Mathematical Statistics 25,
        1954), for the path of integration.

    Example:
        >>> round(clustered_p_value([0] * 598, [1] * 598, 0.005), 4)
        0.0499
        >>> round(clustered_p_value([0] * 598, [7] * 598, 0.005), 4)
        0.0499
        >>> clustered_p_value([0] * 598 + [40], [1] * 598 + [40], 0.005, refuse=False) > 0.5
        True
    """
    total, size = _check(sums, sizes, largest)
    if not 0.0 < max_loss < 1.0:
        raise ValueError(f"`max_loss` must lie between 0 and 1, not {max_loss}")
    if refuse:
        check_groups(size)
    values, counts = _distinct(total, size)
    return _p(values, counts, _unseen(size, largest), max_loss)


def clustered_upper_bound(
    sums: ArrayLike, sizes: ArrayLike, level: float = 0.95, *, largest: float | None = None, refuse: bool = True
) -> float:
    """Return an upper confidence bound for the loss per input: the smallest `max_loss` that the groups would show.

    Args:
        sums: As in `clustered_p_value`.
        sizes: As there.
        level: Of the bound, in [0.5, 1).
        largest: As there.
        refuse: As there.

    Returns:
        To 1e-6, from above; 1.0 where nothing can be shown.

    Example:
        >>> round(clustered_upper_bound([0] * 598, [7] * 598), 4)
        0.005
    """
    total, size = _check(sums, sizes, largest)
    if not 0.5 <= level < 1.0:
        raise ValueError("`level` must lie in [0.5, 1)")
    if refuse:
        check_groups(size)
    values, counts = _distinct(total, size)
    unseen = _unseen(size, largest)
    low, high = 0.0, 1.0  # `high` is refuted, or is 1; `low` is not, or is 0
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        if _p(values, counts, unseen, middle) <= 1.0 - level:
            high = middle
        else:
            low = middle
    return high


def effective_groups(sizes: ArrayLike) -> float:
    """Return how many groups of the largest size the rows would make up: the number of groups if all are of one size.

    Example:
        >>> effective_groups([5, 5, 5, 5]), effective_groups([100, 5, 5, 5, 5])
        (4.0, 1.2)
    """
    _, size = _check(np.zeros(np.shape(sizes)), sizes, None)
    return float(size.sum() / size.max())


def check_groups(sizes: ArrayLike) -> None:
    """Raise where groups are too few or too unequal for `clustered_p_value`.

    Raises:
        ValueError: If there are fewer than `MINIMUM_GROUPS` effective groups; it says how many there are.
    """
    found = effective_groups(sizes)
    if found < MINIMUM_GROUPS:
        count = int(np.size(np.asarray(sizes)))
        raise ValueError(
            f"the loss per input cannot be tested with so few groups: {count:,} groups, the largest of which holds "
            f"{1.0 / found:.1%} of the rows, count as {math.floor(found)}, and {MINIMUM_GROUPS} are needed. Collect "
            "more groups, or use unit='group'"
        )


def least_groups(sizes: ArrayLike, max_loss: float, level: float = 0.95, *, largest: float | None = None) -> int:
    """Return about how many groups of such sizes are needed if not one row is harmed.

    Gains need fewer, harms more. It is never below what `clustered_p_value` asks for.

    Example:
        >>> least_groups([5] * 100, 0.005), least_groups([1, 3] * 50, 0.005)
        (598, 1196)
    """
    _, size = _check(np.zeros(np.shape(sizes)), sizes, largest)
    rows = max(least_rows(max_loss, level) * _unseen(size, largest), MINIMUM_GROUPS * float(size.max()))
    return math.ceil(rows / float(size.mean()))


def _check(sums: ArrayLike, sizes: ArrayLike, largest: float | None) -> tuple[Floats, Floats]:
    total, size = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if total.ndim != 1 or total.shape != size.shape or not len(size):
        raise ValueError(
            f"`sums` and `sizes` must be two lists of one length, at least 1: got shapes {total.shape}, {size.shape}"
        )
    if not (np.isfinite(size).all() and size.min() >= 1.0):
        raise ValueError("`sizes` must be at least 1: leave out groups without rows")
    if not (np.abs(total) <= size).all():  # NaN fails as well
        raise ValueError("`sums` must lie between -size and size: each row counts -1, 0 or 1")
    if largest is not None and not size.max() <= largest < math.inf:
        raise ValueError(f"`largest` must be finite and at least the largest group seen, {size.max():g}")
    return total, size


def _unseen(size: Floats, largest: float | None) -> float:
    """Rows of the group that was not seen."""
    if largest is not None:
        return float(largest)
    # The largest seen is too small just when larger ones happen to be missing: go as far again above the mean, and
    # further where the tail is heavy (beyond its maximum a Pareto tail of index a has mean a / (a - 1) times it).
    mean, most = float(size.mean()), float(size.max())
    return most + max(1.0, float(size.var()) / mean**2) * (most - mean)


def _distinct(total: Floats, size: Floats) -> tuple[Any, Floats]:
    """The distinct pairs as complex numbers (sum + i size), and how often each occurs: mostly few."""
    values, counts = np.unique(total + 1j * size, return_counts=True)
    return values, counts.astype(np.float64)


def _p(values: Any, counts: Floats, unseen: float, max_loss: float) -> float:
    """P(sum of w u >= 0), w flat Dirichlet: the same as with independent exponential weights."""
    worst = (1.0 - max_loss) * unseen
    u = np.append((values.real - max_loss * values.imag) / worst, 1.0)
    return _positive(u, np.append(counts, 1.0))


def _positive(u: Floats, counts: Floats) -> float:
    """P(sum_j u_j (sum of counts_j unit exponentials) >= 0); at least one u is positive.

    With K(s) = -sum counts log(1 - u s), this is the integral of exp(K(s)) / s along a vertical line, over 2 pi i. The
    line goes through the lowest point of the integrand on the real axis (the saddle), where it swings least; the
    trapezoid rule is then exact to about 1e-10.
    """
    low, high = 0.0, 1.0 / float(u.max())
    for _ in range(60):
        s = (low + high) / 2.0
        if s in (low, high):
            break
        if float((counts * u / (1.0 - u * s)).sum()) > 1.0 / s:
            high = s
        else:
            low = s
    s = (low + high) / 2.0
    slopes = u / (1.0 - u * s)
    width = 1.0 / math.sqrt(float((counts * slopes * slopes).sum()) + 1.0 / (s * s))
    peak = -float((counts * np.log1p(-u * s)).sum()) - math.log(s)
    step = width / 4.0
    total, start, block = 0.5, 1, 32
    while True:
        t = step * np.arange(start, start + block)
        y = np.outer(t, slopes)
        size = np.exp(-0.5 * (np.log1p(y * y) @ counts + np.log1p((t / s) ** 2)))
        total += float((size * np.cos(np.arctan(y) @ counts - np.arctan(t / s))).sum())
        if size[-1] < 1e-13:
            break
        start += block
        block = max(32, min(2 * block, _NODES // len(u)))
    return min(max(math.exp(peak) * step * total / math.pi, 0.0), 1.0)
