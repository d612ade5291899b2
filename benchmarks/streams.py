"""Synthetic streams whose true loss is known at every threshold, and certification of very many samples of them.

What `certify` decides from a sample is a handful of calls: the grid from the scores, counts of harms and gains at its
thresholds, the exact test up to the first failure (for groups, the cluster-robust one). `certified_step` makes the same
calls on plain arrays, thousands of times; `by_certify` asks `certify` itself, and the benchmark compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from langchain_dsplus.threshold.clusters import check_groups, clustered_p_value
from langchain_dsplus.threshold.differences import coverage_grid
from langchain_dsplus.threshold.exact import critical_value, significant, tango_score

Array = Any
ALPHA = 0.05
FLAT = 1.02
"""True loss of the flat streams, in units of `max_loss`."""


@dataclass(frozen=True)
class Sample:
    """One certify split: scores, the loss of each row if it stays local (-1, 0, 1), and its group."""

    scores: Array
    loss: Array
    groups: Array | None = None

    def sorted(self) -> tuple[Array, Array]:
        """Scores from high to low, and the losses in the same order."""
        order = np.argsort(-self.scores, kind="stable")
        return self.scores[order], self.loss[order]


@dataclass(frozen=True)
class Stream:
    """A kind of traffic.

    Attributes:
        name: Key of its figures.
        title: For tables.
        max_loss: The promise that is tested on it.
        draw: (generator, n) -> a sample of n rows (with groups: of about n).
        truth: The true loss per input at thresholds, an array function.
    """

    name: str
    title: str
    max_loss: float
    draw: Callable[[np.random.Generator, int], Sample]
    truth: Callable[[Array], Array]


# --- the streams ----------------------------------------------------------------------------------------------------


def small_right(confidence: Array) -> Array:
    return confidence - 0.01


def large_right(confidence: Array, small: Array) -> Array:
    """Probability that the large model is right, given whether the small one is."""
    base = 0.86 + 0.105 * ((confidence - 0.5) / 0.5) ** 2
    return np.where(small, np.minimum(base + 0.01, 0.999), base - 0.10)


def expected_loss(confidence: Array) -> Array:
    """E[loss | confidence] of the synthetic stream: harms minus gains if the row stays local."""
    small = small_right(confidence)
    harm = (1 - small) * large_right(confidence, np.zeros_like(confidence, dtype=bool))
    gain = small * (1 - large_right(confidence, np.ones_like(confidence, dtype=bool)))
    return harm - gain


@lru_cache(maxsize=1)
def _table() -> tuple[Array, Array]:
    """Confidences from high to low at equal steps of coverage, and the true loss at each as a threshold."""
    from scipy import special

    steps = 400_000
    coverage = (np.arange(steps) + 0.5) / steps
    confidence = 0.5 + 0.5 * special.betaincinv(3.2, 0.45, 1 - coverage)
    return confidence, np.cumsum(expected_loss(confidence)) / steps


def true_coverage(threshold: Array) -> Array:
    """Share of the synthetic stream above a threshold."""
    from scipy import special

    share = np.clip(2 * (np.asarray(threshold, dtype=float) - 0.5), 0, 1)
    return 1 - special.betainc(3.2, 0.45, share)


def _synthetic_truth(threshold: Array) -> Array:
    _, loss = _table()
    place = true_coverage(threshold) * len(loss)
    return np.where(place <= 0, 0.0, loss[np.clip(np.ceil(place).astype(int) - 1, 0, len(loss) - 1)])


def _synthetic(rng: np.random.Generator, n: int) -> Sample:
    confidence = 0.5 + 0.5 * rng.beta(3.2, 0.45, n)
    small = rng.random(n) < small_right(confidence)
    large = rng.random(n) < large_right(confidence, small)
    return Sample(confidence, large.astype(np.int8) - small.astype(np.int8))


def _signs(rng: np.random.Generator, harm: Array, gain: Array) -> Array:
    """-1, 0, 1 with the given probabilities."""
    u = rng.random(len(harm))
    return (u < harm).astype(np.int8) - (u > 1 - gain).astype(np.int8)


def _flat(max_loss: float, top: float = 0.02, noise: float = 0.03) -> tuple[Any, Any]:
    """All loss in the top of the confidence, then as many harms as gains. Scores are uniform: coverage = 1 - score."""

    def draw(rng: np.random.Generator, n: int) -> Sample:
        u = rng.random(n)
        first = u < top
        harm = np.where(first, FLAT * max_loss / top, noise)
        return Sample(1 - u, _signs(rng, harm, np.where(first, 0.0, noise)))

    def truth(threshold: Array) -> Array:
        return FLAT * max_loss * np.clip((1 - np.asarray(threshold)) / top, 0, 1)

    return draw, truth


TIES = (0.02, 0.05, 0.10, 0.20, 0.35, 0.50, 0.70, 0.85, 0.95, 1.00)
"""Coverage at the ten distinct scores of the stream with ties."""


def _ties(max_loss: float) -> tuple[Any, Any]:
    """The flat stream seen through ten distinct scores, as vote shares of ten samples give them."""
    draw, _ = _flat(max_loss)
    levels = np.array(TIES)

    def tied(rng: np.random.Generator, n: int) -> Sample:
        sample = draw(rng, n)
        level = np.searchsorted(levels, 1 - sample.scores, side="left")
        return Sample(1.0 - level / 10, sample.loss)

    def truth(threshold: Array) -> Array:
        # The laxest level that is above the threshold; 2 % at the first, and all loss is in there.
        accepted = np.asarray(threshold) < 1.0
        return np.where(accepted, FLAT * max_loss, 0.0)

    return tied, truth


def _imbalance(max_loss: float, minority: float = 0.03, spread: float = 0.4, noise: float = 0.002) -> tuple[Any, Any]:
    """97 % of one class, where the models hardly differ; the rare class carries the loss, at high confidence too."""
    harm = FLAT * max_loss / minority

    def draw(rng: np.random.Generator, n: int) -> Sample:
        rare = rng.random(n) < minority
        u = np.where(rare, spread * rng.random(n), rng.random(n))
        chance = np.where(rare, harm, noise)
        return Sample(1 - u, _signs(rng, chance, np.where(rare, 0.0, noise)))

    def truth(threshold: Array) -> Array:
        return FLAT * max_loss * np.clip((1 - np.asarray(threshold)) / spread, 0, 1)

    return draw, truth


def _rows(sizes: Array, *values: Array) -> tuple[Array, ...]:
    """Values of groups, repeated for their rows, and the groups' numbers."""
    return (*(np.repeat(value, sizes) for value in values), np.repeat(np.arange(len(sizes)), sizes))


def _threads(max_loss: float, top: float = 0.05, noise: float = 0.03) -> tuple[Any, Any]:
    """Threads of one to three rows that share score and fate; flat loss."""

    def draw(rng: np.random.Generator, n: int) -> Sample:
        sizes = rng.integers(1, 4, n // 2)
        u = rng.random(len(sizes))
        first = u < top
        fate = _signs(rng, np.where(first, FLAT * max_loss / top, noise), np.where(first, 0.0, noise))
        scores, loss, groups = _rows(sizes, 1 - u, fate)
        return Sample(scores, loss, groups)

    def truth(threshold: Array) -> Array:
        return FLAT * max_loss * np.clip((1 - np.asarray(threshold)) / top, 0, 1)

    return draw, truth


@lru_cache(maxsize=4)
def _large_groups(share: float) -> tuple[float, float, float]:
    """Of lognormal sizes: the size above which groups hold `share` of the rows, the part of that size, the mean."""
    sizes = np.sort(_lognormal(np.random.default_rng(0), 2_000_000))[::-1]
    total = sizes.sum()
    size = sizes[np.searchsorted(np.cumsum(sizes), share * total)]
    above, at = sizes[sizes > size].sum(), sizes[sizes == size].sum()
    return float(size), float((share * total - above) / at), float(sizes.mean())


def _lognormal(rng: np.random.Generator, count: int) -> Array:
    return np.ceil(np.exp(rng.normal(0.5, 1.0, count))).astype(int)


def _heavy(max_loss: float, top: float = 0.1, noise: float = 0.03) -> tuple[Any, Any]:
    """Heavy-tailed customers: the largest, with twice the loss in rows, are harmed throughout; gains elsewhere."""
    bad_share = 2 * FLAT * max_loss

    def draw(rng: np.random.Generator, n: int) -> Sample:
        size, part, mean = _large_groups(bad_share)
        sizes = _lognormal(rng, round(n / mean))
        bad = (sizes > size) | ((sizes == size) & (rng.random(len(sizes)) < part))
        worst, groups = _rows(sizes, bad)
        u = np.where(worst, top, 1.0) * rng.random(len(worst))
        gain = FLAT * max_loss / (top * (1 - bad_share))  # balances half of the harms, within the top
        other = _signs(rng, np.where(u < top, 0.0, noise), np.where(u < top, gain, noise))
        return Sample(1 - u, np.where(worst, 1, other).astype(np.int8), groups)

    def truth(threshold: Array) -> Array:
        return FLAT * max_loss * np.clip((1 - np.asarray(threshold)) / top, 0, 1)

    return draw, truth


def _customers(big: int = 30, harm: float = 0.03) -> tuple[Any, Any]:
    """Thirty customers with half the traffic and all of the loss; all the others with one row each."""

    def draw(rng: np.random.Generator, n: int) -> Sample:
        sizes = np.concatenate([np.full(big, max(1, n // (2 * big))), np.ones(n // 2, dtype=int)])
        large, groups = _rows(sizes, np.arange(len(sizes)) < big)
        loss = _signs(rng, np.where(large, harm, 0.0), np.zeros(len(large)))
        return Sample(rng.random(len(large)), loss, groups)

    def truth(threshold: Array) -> Array:
        return harm / 2 * np.clip(1 - np.asarray(threshold), 0, 1)

    return draw, truth


def _knee(safe: float) -> tuple[Any, Any]:
    """2 % gains and 1 % harms up to a coverage, 2 % gains and 5 % harms beyond."""

    def draw(rng: np.random.Generator, n: int) -> Sample:
        u = rng.random(n)
        return Sample(1 - u, _signs(rng, np.where(u < safe, 0.01, 0.05), np.full(n, 0.02)))

    def truth(threshold: Array) -> Array:
        coverage = np.clip(1 - np.asarray(threshold), 0, 1)
        return -0.01 * np.minimum(coverage, safe) + 0.03 * np.maximum(coverage - safe, 0)

    return draw, truth


SYNTHETIC = Stream("synthetic", "synthetic", 0.005, _synthetic, _synthetic_truth)
FLAT_LOSS = Stream("flat", "flat loss", 0.005, *_flat(0.005))
SINGLE = (
    SYNTHETIC,
    FLAT_LOSS,
    Stream("ties", "heavy ties", 0.005, *_ties(0.005)),
    Stream("imbalance", "class imbalance", 0.005, *_imbalance(0.005)),
)
GROUPED = (
    Stream("clusters", "threads", 0.02, *_threads(0.02)),
    Stream("clusters_heavy", "heavy-tailed customers", 0.02, *_heavy(0.02)),
    Stream("customers", "30 customers, half the traffic", 0.005, *_customers()),
)
KNEES = (
    Stream("knee15", "safe up to 15 %", 0.005, *_knee(0.15)),
    Stream("knee40", "safe up to 40 %", 0.005, *_knee(0.40)),
)


# --- certifying -----------------------------------------------------------------------------------------------------


def passing(harms: Array, gains: Array, n: int, max_loss: float, alpha: float = ALPHA) -> Array:
    """Whether each count passes the exact test: by the critical value, by the p-value where that is close."""
    scores = np.asarray(tango_score(harms, gains, n, max_loss))
    limit = critical_value(n, max_loss, alpha)
    passed = scores <= limit
    # The critical value is found from below to 0.001: in the gap, ask the test itself.
    for place in zip(*np.nonzero((scores > limit) & (scores <= limit + 2e-3)), strict=True):
        passed[place] = significant(int(harms[place]), int(gains[place]), n, max_loss, alpha)
    return passed


@dataclass(frozen=True)
class Steps:
    """A sample's record along the grid, strict to lax."""

    thresholds: Array
    accepted: Array
    harms: Array
    gains: Array
    n: int


def follow(sample: Sample, steps: int = 50) -> Steps:
    """Harms and gains at the thresholds that `certify` tests."""
    thresholds = np.array(coverage_grid(sample.scores, steps))
    scores, loss = sample.sorted()
    accepted = np.searchsorted(-scores, -thresholds, side="left")
    harms = np.concatenate([[0], np.cumsum(loss > 0)])[accepted]
    gains = np.concatenate([[0], np.cumsum(loss < 0)])[accepted]
    return Steps(thresholds, accepted, harms, gains, len(scores))


def leading(passed: Array) -> int:
    """How many pass before the first that fails."""
    return len(passed) if passed.all() else int(np.argmin(passed))


def last(passed: Array) -> int:
    """How many there are up to the last that passes, whatever failed before."""
    return int(np.flatnonzero(passed)[-1]) + 1 if passed.any() else 0


def leading_groups(sample: Sample, found: Steps, max_loss: float) -> int:
    """The same for a sample with groups, by the cluster-robust test; 0 where that refuses."""
    sizes = np.bincount(sample.groups)
    try:
        check_groups(sizes)
    except ValueError:
        return 0
    for place, threshold in enumerate(found.thresholds):
        sums = np.bincount(sample.groups, weights=np.where(sample.scores > threshold, sample.loss, 0))
        if clustered_p_value(sums, sizes, max_loss) > ALPHA:
            return place
    return len(found.thresholds)


def certified_step(sample: Sample, found: Steps, max_loss: float) -> int:
    """How many steps `certify` certifies."""
    if sample.groups is not None:
        return leading_groups(sample, found, max_loss)
    return leading(passing(found.harms, found.gains, found.n, max_loss))


def threshold_after(found: Steps, count: int) -> float:
    """The threshold after so many certified steps; infinity after none."""
    return float(found.thresholds[count - 1]) if count else math.inf


def by_certify(sample: Sample, max_loss: float, unit: str = "input") -> Any:
    """The certificate that the package gives for the sample, as a table of answers."""
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.certify import certify

    loss = sample.loss.tolist()
    columns: dict[str, Any] = {
        "small": ["a"] * len(loss),
        "large": ["b" if value else "a" for value in loss],
        "gold": ["b" if value > 0 else "a" for value in loss],
        "confidence": sample.scores.tolist(),
    }
    if sample.groups is not None:
        columns["group"] = [str(group) for group in sample.groups.tolist()]
    return certify(Outcomes(columns), max_loss, unit=unit)
