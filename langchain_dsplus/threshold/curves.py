"""What every threshold would have given on a table of outcomes: accuracy, LLM calls, risk."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from langchain_dsplus import calibration
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
        rows: Which row of the table each is, same order.
        groups: Number of each row's group, same order; None where every row stands for itself.
        left_out: Rows that do not count, since the large model gave no answer there or nobody knows who was right.
    """

    thresholds: Floats
    accepted: NDArray[np.intp]
    right: Floats
    small: Floats
    escalated: Floats
    large: Floats
    rows: NDArray[np.intp]
    groups: NDArray[np.intp] | None
    left_out: int

    @property
    def n(self) -> int:
        """Rows that count."""
        return len(self.large)

    def cascade(self, place: int) -> Floats:
        """Whether the cascade is right at one of the thresholds, per row in the order of `rows`."""
        k = int(self.accepted[place])
        return np.concatenate([self.small[:k], self.escalated[k:]])


def sweep(outcomes: Outcomes, *, prompt: Prompt = "plain") -> Sweep:
    """Follow every candidate threshold over the rows.

    A row counts where small model, large model and gold are known. It is left out where the large model failed on the
    plain prompt, or answered outside `about["labels"]` and was wrong, so that it is never a gain. Where the small model
    failed or named an unknown label the row always escalates, with the plain prompt.

    Args:
        outcomes: The table, of one small model.
        prompt: What escalated rows are asked: `plain` counts `large`, `pruned` counts `large_pruned`.

    Raises:
        ValueError: If no row tells who was right, `prompt` is unknown, or there are several small models.
    """
    _check_prompt(prompt)
    if "confidence" not in outcomes:
        msg = (
            "`outcomes` holds several small models (`confidence.<name>`), and this curve is about one: rename the "
            "columns of the one you mean to `small` and `confidence`"
        )
        raise ValueError(msg)
    confidence = np.asarray(outcomes["confidence"], dtype=np.float64)
    failed = ~np.isfinite(confidence) | ~_usable(outcomes, "small")
    small = outcomes.correct("small")
    large, escalated = large_correct(outcomes, prompt)
    escalated = np.where(failed, large, escalated)
    counts = ~np.isnan(large) & ~np.isnan(escalated) & (failed | ~np.isnan(small))
    if not counts.any():
        msg = "`outcomes` holds no row where small, large and gold are all known: nothing can be compared"
        raise ValueError(msg)
    key = np.where(failed, math.inf, -np.where(failed, 0.0, confidence))
    rows = np.flatnonzero(counts)
    rows = rows[np.argsort(key[rows], kind="stable")]
    key, small = key[rows], np.where(failed, 0.0, small)[rows]
    large, escalated = large[rows], escalated[rows]
    thresholds = candidate_thresholds(-key)
    # -confidence < -threshold: the same strict comparison as the router's.
    accepted = np.searchsorted(key, -thresholds, side="left").astype(np.intp)
    gained = np.concatenate([[0.0], np.cumsum(small - escalated)])
    right = escalated.sum() + gained[accepted]
    groups = group_numbers(outcomes, rows)
    return Sweep(thresholds, accepted, right, small, escalated, large, rows, groups, int((~counts).sum()))


def _check_prompt(prompt: str) -> None:
    if prompt not in ("plain", "pruned"):
        msg = f"`prompt` must be 'plain' or 'pruned', not {prompt!r}"
        raise ValueError(msg)


def large_correct(outcomes: Outcomes, prompt: Prompt) -> tuple[Floats, Floats]:
    """Whether the large model is right on the plain prompt, and when it is asked; shape (n,) each, NaN unknown.

    On the plain prompt an answer outside the labels is unknown where it is not right: it must never count as a gain. On
    the pruned prompt it is wrong: that is a harm of the prompt's.
    """
    plain = outcomes.correct("large")
    if "large" in outcomes:
        plain = np.where(_usable(outcomes, "large") | (plain == 1.0), plain, np.nan)
    if prompt == "plain":
        return plain, plain
    if "large_pruned" not in outcomes and "large_pruned_ok" not in outcomes:
        msg = "`prompt='pruned'` needs a column 'large_pruned': what the large model said to the pruned prompt"
        raise ValueError(msg)
    return plain, outcomes.correct("large_pruned")


def _usable(outcomes: Outcomes, who: str) -> NDArray[np.bool_]:
    """Whether there is an answer, and one of the labels where they are known; True where only a verdict is kept."""
    if who not in outcomes:
        return np.ones(len(outcomes), dtype=bool)
    return outcomes.valid(who)


def group_numbers(outcomes: Outcomes, rows: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """Number the groups of some rows; a row without one is a group of its own. None where there are no groups."""
    if "group" not in outcomes:
        return None
    names = outcomes.values("group")
    seen: dict[Any, int] = {}
    keys = ((names[row], None) if names[row] is not None else (None, row) for row in rows.tolist())
    numbers = np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.intp)
    return None if len(seen) == len(numbers) else numbers


def resampled_weights(n: int, groups: NDArray[np.intp] | None, *, seed: int, bootstrap: int) -> Iterator[Floats]:
    """Yield bootstrap weights, shape (n,) each: how often each row was drawn; rows of one group are drawn together."""
    rng = np.random.default_rng(seed)
    units = n if groups is None else int(groups.max()) + 1
    for _ in range(bootstrap):
        drawn = np.bincount(rng.integers(0, units, units), minlength=units).astype(np.float64)
        yield drawn if groups is None else drawn[groups]


def row_costs(outcomes: Outcomes, rows: NDArray[np.intp], prompt: Prompt = "plain") -> tuple[Floats, Floats, Floats]:
    """What some rows cost: the small side; the large model when it is asked; the large model alone, plain prompt.

    Money in the unit of the columns `cost_small` (0 everywhere where there is no such column), `cost_large_pruned` or
    `cost_large`, and `cost_large`. Rows whose small model failed are asked the plain prompt.

    Returns:
        Three arrays, each the shape of `rows`.

    Raises:
        ValueError: If there is no column `cost_large` (or `cost_large_pruned`), or one of the rows has no number there.
    """
    plain = money(outcomes, "cost_large", rows)
    asked = plain
    if prompt == "pruned":
        failed = ~np.isfinite(np.asarray(outcomes["confidence"], dtype=np.float64)) | ~_usable(outcomes, "small")
        asked = plain.copy()
        asked[~failed[rows]] = money(outcomes, "cost_large_pruned", rows[~failed[rows]])
    small = money(outcomes, "cost_small", rows) if "cost_small" in outcomes else np.zeros(len(rows))
    return small, asked, plain


def money(outcomes: Outcomes, name: str, rows: NDArray[np.intp]) -> Floats:
    """Return a column of costs for some rows.

    Raises:
        ValueError: If there is no such column, or one of the rows has no number in it.
    """
    if name not in outcomes:
        msg = f"`outcomes` has no column {name!r}: money needs what each row cost. Collect with prices, or add it"
        raise ValueError(msg)
    values: Floats = np.asarray(outcomes[name], dtype=np.float64)[rows]
    missing = int(np.isnan(values).sum())
    if missing:
        msg = (
            f"column {name!r} is empty in {missing} of {len(rows)} rows: write what they cost, 0 where nothing was paid"
        )
        raise ValueError(msg)
    return values


def sweep_costs(outcomes: Outcomes, found: Sweep, *, prompt: Prompt = "plain") -> Floats:
    """Return what the cascade costs at each threshold, all rows together, shape (m,).

    The small model is paid for every row, the large one for those that escalate.

    Raises:
        ValueError: As in `row_costs`.
    """
    small, asked, _ = row_costs(outcomes, found.rows, prompt)
    later = np.concatenate([np.cumsum(asked[::-1])[::-1], [0.0]])  # of the rows from this one on
    costs: Floats = small.sum() + later[found.accepted]
    return costs


class CurvePoint(NamedTuple):
    """One threshold and what it gives."""

    threshold: float
    coverage: float
    escalation_rate: float
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
        left_out: Rows that do not: the large model gave no answer there, or nobody knows who was right.
        cost: Money per 1,000 inputs, small side included, shape (m,); None where a row's cost is not known.
    """

    thresholds: Floats
    coverage: Floats
    accuracy: Floats
    large_accuracy: float
    small_accuracy: float
    n: int
    left_out: int
    cost: Floats | None = None

    @property
    def escalation_rate(self) -> Floats:
        """Share of inputs that reach the large model (the paper's query proportion), shape (m,)."""
        return 1.0 - self.coverage

    def __len__(self) -> int:
        return len(self.thresholds)

    def __iter__(self) -> Iterator[CurvePoint]:
        for row in zip(
            self.thresholds.tolist(),
            self.coverage.tolist(),
            self.escalation_rate.tolist(),
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
        axes.plot(curve.escalation_rate, curve.accuracy)
        ```
    """
    found = sweep(outcomes, prompt=prompt)
    cost = None
    with suppress(ValueError):  # not every table knows money
        cost = sweep_costs(outcomes, found, prompt=prompt) * (1000.0 / found.n)
    return CostQualityCurve(
        thresholds=found.thresholds,
        coverage=found.accepted / found.n,
        accuracy=found.right / found.n,
        large_accuracy=float(found.large.mean()),
        small_accuracy=float(found.small.mean()),
        n=found.n,
        left_out=found.left_out,
        cost=cost,
    )


@dataclass(frozen=True)
class RiskCoverageCurve:
    """The small model's own error among the inputs it accepts.

    Attributes:
        thresholds: From strict to lax, shape (m,); the first accepts the most confident rows.
        coverage: Share accepted, shape (m,).
        risk: Share of wrong answers among those accepted, shape (m,).
        aurc: Area under it, as `calibration.aurc` counts it; lower is better.
        e_aurc: `aurc` minus that of a perfect order of the same rows; 0 is perfect.
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
    aurc, e_aurc = calibration.aurc(confidence, 1.0 - wrong), calibration.e_aurc(confidence, 1.0 - wrong)
    return RiskCoverageCurve(thresholds, accepted / n, errors / accepted, aurc, e_aurc, n)


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
