"""How much of the large model's lead a cascade keeps for how many of its calls: APGR, CPT, parity.

All of it is hindsight on the rows at hand, like every curve: it compares small models and scores, and promises nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, Unpack

import numpy as np
from typing_extensions import TypedDict

from langchain_dsplus._arrays import Floats
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.cascade import Costs
from langchain_dsplus.threshold.curves import Prompt, Sweep, lacking, resampled_weights, sweep
from langchain_dsplus.threshold.differences import UnusableLarge, differences

_NEAR = 1e-9


class Estimate(float):
    """A float that may carry its bootstrap interval.

    Attributes:
        low: Lower end; None where no bootstrap was asked for.
        high: Upper end.
        level: Of the interval.
    """

    low: float | None
    high: float | None
    level: float | None

    def __new__(
        cls, value: float, low: float | None = None, high: float | None = None, level: float | None = None
    ) -> Self:
        """Make one from a number and the ends of its interval."""
        number = super().__new__(cls, value)
        number.low, number.high, number.level = low, high, level
        return number

    def __repr__(self) -> str:
        interval = "" if self.low is None else f", low={self.low!r}, high={self.high!r}, level={self.level!r}"
        return f"Estimate({float(self)!r}{interval})"


class Options(TypedDict, total=False):
    """How rows are read, and whether there is an interval."""

    prompt: Prompt
    """What escalated rows are asked, `plain` by default; the gap is always to the plain prompt."""
    unusable_large: UnusableLarge
    """As in `certify`."""
    bootstrap: int
    """Resamples of the interval (percentile); 0, the default, makes none. Rows of one `group` are drawn together."""
    level: float
    """Of the interval; .95 by default."""
    seed: int
    """Of the bootstrap."""


def apgr(outcomes: Outcomes, **options: Unpack[Options]) -> Estimate:
    """Return the average performance gap recovered (RouteLLM, 2406.18665): the mean PGR over all shares of calls.

    PGR = (accuracy - small's) / (large's - small's). Random deferral has 0.5; higher is better. The area is exact, by
    trapezoids over every threshold that tells rows apart (RouteLLM's own code takes ten points).

    Args:
        outcomes: The table, of one small model.
        **options: `prompt`, `unusable_large`, `bootstrap`, `level`, `seed`: see `Options`.

    Returns:
        A float; with `bootstrap` it has `.low` and `.high`.

    Raises:
        ValueError: If the large model is no better than the small one, since there is no gap to recover then; or in so
            many of the resamples that the interval has no end.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [(0.9, True, True), (0.8, True, True), (0.7, False, True), (0.6, False, True)]
        >>> apgr(Outcomes.from_records({"confidence": c, "small_ok": s, "large_ok": g} for c, s, g in rows))
        Estimate(0.75)
    """

    def area(rates: Floats, pgr: Floats) -> float:
        return float((np.diff(rates) * (pgr[1:] + pgr[:-1]) / 2.0).sum())

    return _estimate(outcomes, area, _How(**options))


def cpt(outcomes: Outcomes, x: float, **options: Unpack[Options]) -> Estimate:
    """Return the call-performance threshold CPT(x) (RouteLLM, 2406.18665): the smallest share of calls with PGR >= x.

    Only shares that a threshold can reach count; nothing is interpolated. Lower is better; random deferral needs x.

    Args:
        outcomes: The table, of one small model.
        x: Share of the gap to recover, in (0, 1]: 0.5 for RouteLLM's CPT(50 %).
        **options: `prompt`, `unusable_large`, `bootstrap`, `level`, `seed`: see `Options`.

    Returns:
        A float in [0, 1]; with `bootstrap` it has `.low` and `.high`.

    Raises:
        ValueError: If `x` is out of range, the large model is no better than the small one, no threshold recovers so
            much (with pruned prompts), or that is so in too many of the resamples.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [(0.9, True, True), (0.8, True, True), (0.7, False, True), (0.6, False, True)]
        >>> cpt(Outcomes.from_records({"confidence": c, "small_ok": s, "large_ok": g} for c, s, g in rows), 0.5)
        Estimate(0.25)
    """
    if not 0.0 < x <= 1.0:
        raise ValueError("`x` is the share of the gap to recover, in (0, 1]: 0.5 for 50 %")

    def smallest(rates: Floats, pgr: Floats) -> float:
        enough = np.flatnonzero(pgr >= x - _NEAR)
        return float(rates[enough[0]]) if len(enough) else math.nan

    how = _How(**options)
    value = _estimate(outcomes, smallest, how)
    if math.isnan(value):
        raise ValueError(f"no threshold recovers {x:g} of the gap with prompt={how.prompt!r}")
    return value


@dataclass(frozen=True)
class Parity:
    """The fewest calls at which the cascade is as accurate as the large model, in hindsight.

    Attributes:
        threshold: Where that is; accept iff confidence > threshold. Infinity: only by asking it everything.
        escalation_rate: Share of inputs that reach the large model there.
        accuracy: Of the cascade there.
        large_accuracy: Of the large model alone, on the plain prompt.
        cost: Money per 1,000 inputs there, small side included; None where a row's cost is not known.
        large_cost: The same for the large model alone.
        cost_share: `cost` / `large_cost`. Above 1 where the small side costs more than it saves.
        n: Rows that count.
        left_out: Rows that do not: the large model gave no answer there, or nobody knows who was right.
        low: Lower end of the bootstrap interval of `escalation_rate`; None where no bootstrap was asked for.
        high: Upper end.
        cost_share_low: Lower end of that of `cost_share`.
        cost_share_high: Upper end.
        level: Of the intervals.
    """

    threshold: float
    escalation_rate: float
    accuracy: float
    large_accuracy: float
    cost: float | None
    large_cost: float | None
    cost_share: float | None
    n: int
    left_out: int
    low: float | None = None
    high: float | None = None
    cost_share_low: float | None = None
    cost_share_high: float | None = None
    level: float | None = None


def cost_at_parity(outcomes: Outcomes, **options: Unpack[Options]) -> Parity:
    """Return the smallest share of calls, and its money, at which the cascade is as accurate as the large model.

    Money needs a column `cost_large` (and `cost_large_pruned` with pruned prompts); the small side's, `cost_small`, is
    paid for every row, and is free without such a column.

    Args:
        outcomes: The table, of one small model. It need not be worse than the large one: the share is then about 0.
        **options: `prompt`, `unusable_large`, `bootstrap`, `level`, `seed`: see `Options`.

    Raises:
        ValueError: If no threshold reaches parity (possible with pruned prompts only), or not in too many of the
            resamples, or no row tells who was right.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [(0.9, True, True), (0.8, True, False), (0.7, False, True), (0.6, False, True)]
        >>> table = Outcomes.from_records({"confidence": c, "small_ok": s, "large_ok": g} for c, s, g in rows)
        >>> found = cost_at_parity(table)
        >>> found.escalation_rate, round(found.threshold, 2)
        (0.25, 0.65)
    """
    how = _How(**options)
    found, prompt, level = how.sweep(outcomes), how.prompt, how.level
    place = _laxest_parity(found, np.ones(found.n))
    if place is None:
        raise ValueError(f"no threshold is as accurate as the large model on the plain prompt, with prompt={prompt!r}")
    costs = Costs.of(outcomes, ["small"], prompt).take(found.rows)
    turns = differences(outcomes, prompt=prompt).turns(found.path, found.rows)
    priced = costs.money and bool(costs.plain.sum() > 0.0)

    def spent(weights: Floats, at: int) -> tuple[float, float, float]:
        """Share of calls, money of the cascade, money of the large model alone."""
        share = float(weights[int(found.accepted[at]) :].sum() / weights.sum())
        if not costs.money:  # not every table knows it
            return share, math.nan, math.nan
        return share, float(weights @ costs.paid(turns, at)), float(weights @ costs.plain)

    share, cost, large_cost = spent(np.ones(found.n), place)
    thousand = 1000.0 / found.n
    lacks = lacking(found.shift())[0]
    parity = Parity(
        threshold=float(found.thresholds[place]),
        escalation_rate=share,
        accuracy=float(found.right[place]) / found.n + lacks,
        large_accuracy=float(found.large.mean()) + lacks,
        cost=None if math.isnan(cost) else cost * thousand,
        large_cost=None if math.isnan(large_cost) else large_cost * thousand,
        cost_share=cost / large_cost if priced else None,
        n=found.n,
        left_out=found.left_out,
    )
    if not how.bootstrap:
        return parity
    draws = [
        (math.nan, math.nan, math.nan) if (at := _laxest_parity(found, weights)) is None else spent(weights, at)
        for weights in how.weights(found)
    ]
    why = "no threshold reaches parity"
    low, high = _interval([share for share, _, _ in draws], level, why)
    share_low = share_high = None
    if priced:
        ratios = [mine / other if other > 0.0 else math.nan for _, mine, other in draws]
        share_low, share_high = _interval(ratios, level, f"{why}, or the large model costs nothing")
    return replace(parity, low=low, high=high, cost_share_low=share_low, cost_share_high=share_high, level=level)


@dataclass(frozen=True)
class _How:
    """`Options`, each with its default."""

    prompt: Prompt = "plain"
    unusable_large: UnusableLarge = "unknown"
    bootstrap: int = 0
    level: float = 0.95
    seed: int = 0

    def sweep(self, outcomes: Outcomes) -> Sweep:
        if self.bootstrap < 0 or not 0.0 < self.level < 1.0:
            raise ValueError("`bootstrap` must be at least 0, and `level` lie between 0 and 1")
        return sweep(outcomes, prompt=self.prompt, unusable_large=self.unusable_large)

    def weights(self, found: Sweep) -> Iterator[Floats]:
        return resampled_weights(found.n, found.groups, seed=self.seed, bootstrap=self.bootstrap)


def _curve(found: Sweep, weights: Floats) -> tuple[Floats, Floats]:
    """Shares of calls, ascending from 0 to 1, and the cascade's accuracy there, each row counted `weights` times."""
    total = weights.sum()
    kept = np.concatenate([[0.0], np.cumsum(weights)])[found.accepted]
    gained = np.concatenate([[0.0], np.cumsum(weights * (found.small - found.escalated))])[found.accepted]
    rates, accuracy = 1.0 - kept[::-1] / total, (weights @ found.escalated + gained[::-1]) / total
    if found.accepted[-1] < found.n:  # where the small model failed nothing is accepted: by itself it is wrong there
        rates = np.concatenate([[0.0], rates])
        accuracy = np.concatenate([[weights @ found.small / total], accuracy])
    return rates, accuracy


def _lead(small: float, large: float) -> float:
    if large - small < _NEAR:
        raise ValueError(
            f"the large model (accuracy {large:.4f}) is no better than the small one ({small:.4f}) on these rows: "
            "there is no gap to recover, so PGR, APGR and CPT are not defined. `cost_at_parity` and "
            "`cost_quality_curve` are"
        )
    return large - small


def _estimate(outcomes: Outcomes, statistic: Callable[[Floats, Floats], float], how: _How) -> Estimate:
    """A statistic of shares and PGR, with its interval where one is asked for; NaN where it does not exist."""
    found = how.sweep(outcomes)

    def value(weights: Floats) -> float:
        rates, accuracy = _curve(found, weights)
        small, large = (float(weights @ right / weights.sum()) for right in (found.small, found.large))
        return statistic(rates, (accuracy - small) / _lead(small, large))

    def or_nan(weights: Floats) -> float:
        try:
            return value(weights)
        except ValueError:  # no gap in this resample
            return math.nan

    whole = value(np.ones(found.n))
    if not how.bootstrap or math.isnan(whole):
        return Estimate(whole)
    draws = [or_nan(weights) for weights in how.weights(found)]
    why = "the large model is no better, or the gap is not recovered"
    return Estimate(whole, *_interval(draws, how.level, why), how.level)


def _interval(draws: Sequence[float], level: float, why: str) -> tuple[float, float]:
    """Percentiles of the draws; those without a value count as the worst at either end.

    Raises:
        ValueError: If they are so many that an end is not known.
    """
    values = np.asarray(draws)
    none = np.isnan(values)
    tail = (1.0 - level) / 2.0
    low = float(np.quantile(np.where(none, -math.inf, values), tail, method="lower"))
    high = float(np.quantile(np.where(none, math.inf, values), 1.0 - tail, method="higher"))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"in {none.mean():.0%} of the resamples {why}: the interval has no end. Take more rows, or bootstrap=0"
        )
    return low, high


def _laxest_parity(found: Sweep, weights: Floats) -> int | None:
    """The laxest threshold at which the cascade is right as often as the large model; None where there is none."""
    gained = np.concatenate([[0.0], np.cumsum(weights * (found.small - found.escalated))])[found.accepted]
    enough = np.flatnonzero(weights @ found.escalated + gained >= weights @ found.large - _NEAR)
    return int(enough[-1]) if len(enough) else None
