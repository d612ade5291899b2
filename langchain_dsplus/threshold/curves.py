"""What every threshold would have given on a table of outcomes: accuracy, LLM calls, risk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from langchain_dsplus._imports import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from langchain_dsplus.outcomes import Outcomes

    Floats: TypeAlias = NDArray[np.float64]

Prompt: TypeAlias = Literal["plain", "pruned"]


def candidate_thresholds(confidences: ArrayLike) -> Floats:
    """Return the thresholds that tell rows apart, from strict to lax; an input is accepted iff confidence > threshold.

    The first is infinity (accept nothing), then one midway between each two neighbouring distinct scores, last the next
    float below the smallest score (accept everything). Scores that are not finite are accepted by none.

    Args:
        confidences: Shape (n,); NaN where the small model failed.

    Returns:
        Shape (m + 1,), with m distinct finite scores.

    Example:
        >>> candidate_thresholds([0.5, 0.75, 0.75]).tolist()
        [inf, 0.625, 0.49999999999999994]
    """
    scores = np.asarray(confidences, dtype=np.float64)
    distinct = np.unique(scores[np.isfinite(scores)])[::-1]
    if not len(distinct):
        return np.array([math.inf])
    high, low = distinct[:-1], distinct[1:]
    middle = low / 2 + high / 2  # not (low + high) / 2, which may overflow
    # Between two floats that touch there is none: the lower one does, since acceptance is strict.
    middle = np.where((middle < high) & (middle >= low), middle, low)
    return np.concatenate([[math.inf], middle, [math.nextafter(float(distinct[-1]), -math.inf)]])


@dataclass(frozen=True)
class Sweep:
    """The rows that count, and the cascade's record at every candidate threshold.

    Attributes:
        thresholds: From strict to lax, shape (m,).
        accepted: Rows accepted at each, shape (m,).
        right: Rows that the cascade gets right at each, shape (m,).
        small: Whether the small model is right, per row from confident to unsure, shape (n,); 0 where it failed.
        escalated: Whether the large model is right when it is asked, same order.
        large: Whether the large model is right on the plain prompt, same order.
        left_out: Rows that were left out, since the large model failed or nobody knows who was right.
    """

    thresholds: Floats
    accepted: NDArray[np.intp]
    right: Floats
    small: Floats
    escalated: Floats
    large: Floats
    left_out: int

    @property
    def n(self) -> int:
        """Rows that count."""
        return len(self.large)


def sweep(outcomes: Outcomes, *, prompt: Prompt = "plain") -> Sweep:
    """Follow every candidate threshold over the rows.

    Args:
        outcomes: The table.
        prompt: What escalated rows are asked: `plain` counts `large`, `pruned` counts `large_pruned`.

    Raises:
        ValueError: If no row tells who was right, or `prompt` is unknown.
    """
    if prompt not in ("plain", "pruned"):
        msg = f"`prompt` must be 'plain' or 'pruned', not {prompt!r}"
        raise ValueError(msg)
    confidence = np.asarray(outcomes["confidence"], dtype=np.float64)
    small, large = outcomes.correct("small"), outcomes.correct("large")
    escalated = large if prompt == "plain" else outcomes.correct("large_pruned")
    failed = ~np.isfinite(confidence)
    counts = ~np.isnan(large) & ~np.isnan(escalated) & (failed | ~np.isnan(small))
    if not counts.any():
        msg = "`outcomes` holds no row where small, large and gold are all known: nothing can be compared"
        raise ValueError(msg)
    confidence, small = confidence[counts], np.where(failed, 0.0, small)[counts]
    large, escalated = large[counts], escalated[counts]
    key = np.where(np.isfinite(confidence), -confidence, math.inf)
    order = np.argsort(key, kind="stable")
    key, small, large, escalated = key[order], small[order], large[order], escalated[order]
    thresholds = candidate_thresholds(confidence)
    # -confidence < -threshold: the same strict comparison as the router's.
    accepted = np.searchsorted(key, -thresholds, side="left").astype(np.intp)
    gained = np.concatenate([[0.0], np.cumsum(small - escalated)])
    right = escalated.sum() + gained[accepted]
    return Sweep(thresholds, accepted, right, small, escalated, large, int((~counts).sum()))


class CurvePoint(NamedTuple):
    """One threshold and what it gives."""

    threshold: float
    coverage: float
    large_share: float
    accuracy: float


@dataclass(frozen=True)
class CostQualityCurve:
    """Accuracy against the share of LLM calls; iterate for `CurvePoint`s, from strict to lax.

    Attributes:
        thresholds: Shape (m,); the first is infinity.
        coverage: Share of inputs answered locally, shape (m,).
        accuracy: Of the cascade, shape (m,).
        large_accuracy: Of the large model alone.
        small_accuracy: Of the small model alone.
        n: Rows that count.
        left_out: Rows that do not: the large model failed, or nobody knows who was right.
    """

    thresholds: Floats
    coverage: Floats
    accuracy: Floats
    large_accuracy: float
    small_accuracy: float
    n: int
    left_out: int

    @property
    def large_share(self) -> Floats:
        """Share of inputs that reach the large model (the paper's query proportion), shape (m,)."""
        return 1.0 - self.coverage

    def __len__(self) -> int:
        return len(self.thresholds)

    def __iter__(self) -> Iterator[CurvePoint]:
        for row in zip(
            self.thresholds.tolist(),
            self.coverage.tolist(),
            self.large_share.tolist(),
            self.accuracy.tolist(),
            strict=True,
        ):
            yield CurvePoint(*row)


def cost_quality_curve(outcomes: Outcomes, *, prompt: Prompt = "plain") -> CostQualityCurve:
    """Return accuracy and LLM calls at every threshold that tells rows apart (paper, Fig. 4).

    It is hindsight: the best point of it is an optimistic estimate for new inputs.

    Args:
        outcomes: The table.
        prompt: As in `sweep`.

    Example:
        ```python
        curve = cost_quality_curve(outcomes)
        axes.plot(curve.large_share, curve.accuracy)
        ```
    """
    found = sweep(outcomes, prompt=prompt)
    return CostQualityCurve(
        thresholds=found.thresholds,
        coverage=found.accepted / found.n,
        accuracy=found.right / found.n,
        large_accuracy=float(found.large.mean()),
        small_accuracy=float(found.small.mean()),
        n=found.n,
        left_out=found.left_out,
    )


@dataclass(frozen=True)
class RiskCoverageCurve:
    """The small model's own error among the inputs it accepts.

    Attributes:
        thresholds: From strict to lax, shape (m,); the first accepts the most confident rows.
        coverage: Share accepted, shape (m,).
        risk: Share of wrong answers among those accepted, shape (m,).
        aurc: Mean risk over the n coverages 1/n, 2/n, ..., ties taken at their mean; lower is better.
        e_aurc: `aurc` minus that of a perfect order at the same accuracy; 0 is perfect.
        n: Rows that count.
    """

    thresholds: Floats
    coverage: Floats
    risk: Floats
    aurc: float
    e_aurc: float
    n: int


def risk_coverage_curve(outcomes: Outcomes) -> RiskCoverageCurve:
    """Return the small model's risk at every coverage (Geifman and El-Yaniv 2017); the large model plays no part.

    Rows where the small model failed, or nobody knows whether it was right, are left out.

    Raises:
        ValueError: If no row is left.
    """
    confidence = np.asarray(outcomes["confidence"], dtype=np.float64)
    right = outcomes.correct("small")
    known = np.isfinite(confidence) & ~np.isnan(right)
    if not known.any():
        msg = "`outcomes` holds no row where the small model's answer and gold are known"
        raise ValueError(msg)
    confidence, wrong = confidence[known], 1.0 - right[known]
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    n = len(wrong)
    thresholds = candidate_thresholds(confidence)[1:]
    accepted = np.searchsorted(-confidence, -thresholds, side="left")
    errors = np.concatenate([[0.0], np.cumsum(wrong)])[accepted]
    # Within a tie any order is as good as another: spread its errors evenly.
    steps = np.arange(1, n + 1)
    expected = np.interp(steps, np.concatenate([[0], accepted]), np.concatenate([[0.0], errors]))
    aurc = float((expected / steps).mean())
    misses = int(wrong.sum())
    best = np.maximum(steps - (n - misses), 0) / steps
    return RiskCoverageCurve(thresholds, accepted / n, errors / accepted, aurc, aurc - float(best.mean()), n)


def accuracy_interval(
    right: int, n: int, *, level: float = 0.95, method: Literal["exact", "wilson"] = "exact"
) -> tuple[float, float]:
    """Return a two-sided confidence interval for an accuracy.

    Args:
        right: How many were right.
        n: Out of how many.
        level: Confidence level.
        method: `exact` (Clopper and Pearson 1934, never covers less than `level`) or `wilson` (1927, shorter).

    Raises:
        ValueError: If the counts are impossible or `level` is outside (0, 1).

    Example:
        >>> [round(x, 3) for x in accuracy_interval(90, 100)]
        [0.824, 0.951]
    """
    if not 0 <= right <= n or n < 1:
        msg = f"`right` must lie in 0..n, and n be at least 1: got {right} of {n}"
        raise ValueError(msg)
    if not 0.0 < level < 1.0:
        msg = "`level` must lie between 0 and 1"
        raise ValueError(msg)
    if method not in ("exact", "wilson"):
        msg = f"`method` must be 'exact' or 'wilson', not {method!r}"
        raise ValueError(msg)
    special: Any = require("scipy.special", "sklearn")
    tail = (1.0 - level) / 2
    if method == "exact":
        low = 0.0 if right == 0 else float(special.betaincinv(right, n - right + 1, tail))
        high = 1.0 if right == n else float(special.betaincinv(right + 1, n - right, 1 - tail))
        return low, high
    z = -float(special.ndtri(tail))
    share = right / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, center - half), min(1.0, center + half)
