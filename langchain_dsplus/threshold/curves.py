"""What every threshold would have given on a table of outcomes: accuracy, LLM calls, risk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from langchain_dsplus import calibration
from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus.outcomes.sampling import Estimate, LabelSample, Rates, chosen, strata
from langchain_dsplus.threshold.cascade import Costs, candidate_thresholds
from langchain_dsplus.threshold.differences import Differences, UnusableLarge, differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes


Prompt: TypeAlias = Literal["plain", "pruned"]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The rows that count, and how many are accepted and right, step by step from strict to lax.

    Attributes:
        accepted: Rows accepted at each step, shape (m,).
        right: Rows that the cascade gets right at each, shape (m,).
        escalated: Whether the large model is right when it is asked, shape (n,).
        large: Whether the large model is right on the plain prompt, shape (n,).
        rows: Which row of the table each is, shape (n,).
        groups: Number of each row's group, shape (n,); None where every row stands for itself.
        left_out: Rows that do not count, since the large model gave no answer there or nobody knows who was right.
        sample: Where rows were chosen for labelling, which of these are labelled, same order; else None. Rows without a
            label count as wrong whoever answers: all say the same there, so no difference between answers depends on
            them. How often somebody is right does: see `Sweep.levels`.
    """

    accepted: NDArray[np.intp]
    right: Floats
    escalated: Floats
    large: Floats
    rows: NDArray[np.intp]
    groups: NDArray[np.intp] | None
    left_out: int
    sample: LabelSample | None

    @property
    def n(self) -> int:
        """Rows that count."""
        return len(self.large)

    def shift(self) -> Estimate | None:
        """What an accuracy counted over these rows lacks, where some have no label: a share of all of them."""
        return None if self.sample is None else shift(self.sample, self.large)


@dataclass(frozen=True, kw_only=True)
class Sweep(Counted):
    """The cascade's record at every candidate threshold; rows stand from confident to unsure.

    Attributes:
        thresholds: From strict to lax, shape (m,).
        small: Whether the small model is right, shape (n,); 0 where it failed.
    """

    thresholds: Floats
    small: Floats

    @property
    def path(self) -> list[dict[str, float]]:
        """The thresholds as a path of one small model."""
        return [{"small": threshold} for threshold in self.thresholds.tolist()]

    def cascade(self, place: int) -> Floats:
        """Whether the cascade is right at one of the thresholds, per row in the order of `rows`."""
        k = int(self.accepted[place])
        return np.concatenate([self.small[:k], self.escalated[k:]])

    def levels(self) -> Rates | None:
        """How often the cascade is right at each threshold, where rows were chosen for labelling; else None."""
        return None if self.sample is None else self.sample.first(self.small, self.accepted, self.escalated)


def shift(sample: LabelSample, right: Floats) -> Estimate:
    """What a mean of `right` lacks where rows without a label count as wrong, the same for whoever answers."""
    found, counted = sample.rate(right), float(right.mean())
    value = None if found.value is None or not found.known else found.value - counted
    return replace(found, value=value, low=found.low - counted, high=found.high - counted)


def lacking(found: Estimate | None) -> tuple[float, float, float]:
    """A `shift` and its limits as numbers: 0 where there is none, NaN where it needs more labels."""
    if found is None:
        return 0.0, 0.0, 0.0
    return math.nan if found.value is None else found.value, found.low, found.high


def sweep(outcomes: Outcomes, *, prompt: Prompt = "plain", unusable_large: UnusableLarge = "unknown") -> Sweep:
    """Follow every candidate threshold over the rows.

    A row counts where small model, large model and gold are known. It is left out where the large model gave no reply
    to the plain prompt, or one that is no label and counts as unknown. Where the small model failed or named an unknown
    label the row always escalates, with the plain prompt.

    Where rows were chosen for labelling (`to_label`), rows without gold on which all say the same count too, since
    leaving them out would make disagreements look frequent (`rows_to_compare`).

    Args:
        outcomes: The table, of one small model.
        prompt: What escalated rows are asked: `plain` counts `large`, `pruned` counts `large_pruned`.
        unusable_large: As in `certify`.

    Raises:
        ValueError: If no row tells who was right, `prompt` is unknown, there are several small models, or rows were
            chosen for labelling and no disagreement has a label yet.
    """
    if "confidence" not in outcomes:
        raise ValueError(
            "`outcomes` holds several small models (`confidence.<name>`), and this curve is about one: rename the "
            "columns of the one you mean to `small` and `confidence`"
        )
    found = differences(outcomes, prompt=prompt, unusable_large=unusable_large)
    counts = rows_that_count(found)
    if not counts.any():
        raise ValueError("`outcomes` holds no row where small, large and gold are all known: nothing can be compared")
    known, same = rows_to_compare(outcomes, found, counts)
    counts = known | same
    (model,), failed = found.models, found.failed[0]
    rows = np.flatnonzero(counts)
    rows = rows[np.argsort(-model.confidence[rows], kind="stable")]  # failed ones last
    thresholds = candidate_thresholds(model.confidence[rows])
    first = found.turns([{model.name: threshold} for threshold in thresholds.tolist()], rows).first[0]
    accepted = np.searchsorted(first, np.arange(len(thresholds)), side="right").astype(np.intp)
    small = np.where(failed | same, 0.0, model.right)[rows]
    large = np.where(same, 0.0, found.large)[rows]
    escalated = np.where(same, 0.0, np.where(failed, found.large, found.asked))[rows]
    gained = np.concatenate([[0.0], np.cumsum(small - escalated)])
    return Sweep(
        thresholds=thresholds,
        accepted=accepted,
        right=escalated.sum() + gained[accepted],
        small=small,
        escalated=escalated,
        large=large,
        rows=rows,
        groups=group_numbers(outcomes, rows),
        left_out=int((~counts).sum()),
        sample=LabelSample.of(outcomes, np.where(known, 1.0, np.nan)).at(rows) if same.any() else None,
    )


def rows_to_compare(outcomes: Outcomes, found: Differences, known: Bools) -> tuple[Bools, Bools]:
    """Return the rows that a comparison counts: those where it is known who is right, and those where all say the same.

    The latter only where rows were chosen for labelling; else gold is known for all rows, or for what looks like a
    random sample of them, and the rows with gold count. Where disagreements have labels in part, as large a part of the
    other rows counts, spread evenly over the confidences, so that disagreements are as frequent as among all rows.

    Returns:
        Two masks without a row in common, shape (n,).

    Raises:
        ValueError: If rows were chosen for labelling and no disagreement has a label.
    """
    open_ = found.compared & ~known
    if not open_.any() or not chosen(outcomes, known, found.compared):
        return known, np.zeros_like(open_)
    same: Bools = open_ & (found.loss == 0).all(axis=0)
    names = strata(outcomes)
    shares = {
        str(name): float((known & mine).sum() / (mine & found.compared).sum())
        for name in np.unique(names)
        if (open_ & ~same & (mine := names == name)).any()
    }
    least = min(shares.values(), default=1.0)
    if least <= 0.0:
        raise ValueError(
            f"rows were chosen for labelling, and of {int((open_ & ~same).sum()):,} rows on which the models disagree "
            "none of a kind has a label: label some (`Outcomes.to_label`)"
        )
    kept = np.zeros_like(known)
    order = np.argsort(-found.models[0].confidence, kind="stable")
    for name in np.unique(names):
        share = least / shares.get(str(name), 1.0)
        usable = order[((known | same) & (names == name))[order]]
        kept[usable[np.diff(np.floor(share * np.arange(len(usable) + 1) + 0.5 + 1e-9)) > 0]] = True
    return known & kept, same & kept


def rows_that_count(found: Differences) -> NDArray[np.bool_]:
    """Rows where it is known who is right, whoever answers, shape (n,): accuracies are compared over these.

    A row whose large model gave no reply, or one that is no label and counts as unknown, is none of them. Where a small
    model failed the row escalates with the plain prompt, so nobody is asked who is right otherwise.
    """
    failed = found.failed
    small = np.stack([model.right for model in found.models])
    asked = failed.any(axis=0) | ~np.isnan(found.asked)
    counts: NDArray[np.bool_] = ~np.isnan(found.large) & asked & (failed | ~np.isnan(small)).all(axis=0)
    return counts


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


def known_costs(outcomes: Outcomes, rows: NDArray[np.intp], prompt: Prompt = "plain") -> None:
    """Make sure that some rows' costs are all known, where a budget has to be kept.

    Raises:
        ValueError: If there is no column `cost_large` (`cost_large_pruned` with pruned prompts), or one of the rows has
            no number in one of the columns that count.
    """
    found = differences(outcomes, prompt=prompt)
    failed = np.asarray(found.failed.any(axis=0))[rows]
    several = [model.name for model in found.models] != ["small"]
    reached = np.logical_and.accumulate(~found.failed[:, rows], axis=0)
    asked = [rows, *(rows[mask] for mask in reached[:-1])]
    wanted = {"cost_large": rows if prompt == "plain" else rows[failed]}
    if prompt == "pruned":
        wanted["cost_large_pruned"] = rows[~failed]
    if "cost_small" in outcomes:
        wanted["cost_small"] = rows
    for model, mine in zip(found.models, asked, strict=True):
        if several and f"cost_small.{model.name}" in outcomes:
            wanted[f"cost_small.{model.name}"] = mine
    for name, mine in wanted.items():
        if name not in outcomes:
            raise ValueError(
                f"`outcomes` has no column {name!r}: money needs what each row cost. Collect with prices, or add it"
            )
        missing = int(np.isnan(np.asarray(outcomes[name], dtype=np.float64)[mine]).sum())
        if missing:
            raise ValueError(
                f"column {name!r} is empty in {missing} of {len(mine)} rows: write what they cost, 0 where nothing was "
                "paid"
            )


def costs_along(
    outcomes: Outcomes, rows: NDArray[np.intp], path: Sequence[Mapping[str, float]], prompt: Prompt = "plain"
) -> tuple[Floats, float] | None:
    """Return what the cascade costs at each step of a path, and the large model alone, over some rows together.

    As `cascade.Costs` counts it; None where the table does not know what the large model costs.
    """
    found = differences(outcomes, prompt=prompt)
    costs = Costs.of(outcomes, [model.name for model in found.models], prompt).take(rows)
    return (costs.along(found.turns(path, rows)), float(costs.plain.sum())) if costs.money else None


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
        accuracy: Of the cascade, shape (m,). NaN where rows were chosen for labelling and more labels are needed.
        large_accuracy: Of the large model alone; NaN likewise.
        small_accuracy: Of the small model alone; NaN likewise.
        n: Rows that count.
        left_out: Rows that do not: the large model gave no answer there, or nobody knows who was right.
        cost: Money per 1,000 inputs, small side included, shape (m,), as `cascade.Costs` counts it; None where nobody
            knows what the large model costs.
        estimates: Where rows were chosen for labelling: the accuracies with their intervals, and the labels that they
            need; else None.
    """

    thresholds: Floats
    coverage: Floats
    accuracy: Floats
    large_accuracy: float
    small_accuracy: float
    n: int
    left_out: int
    cost: Floats | None = None
    estimates: Rates | None = None

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


def cost_quality_curve(
    outcomes: Outcomes, *, prompt: Prompt = "plain", unusable_large: UnusableLarge = "unknown"
) -> CostQualityCurve:
    """Return accuracy and LLM calls at every threshold that tells rows apart (paper, Fig. 4).

    It is hindsight: the best point of it is an optimistic estimate for new inputs.

    Args:
        outcomes: The table.
        prompt: As in `sweep`.
        unusable_large: As in `certify`.

    Example:
        ```python
        curve = cost_quality_curve(outcomes)
        axes.plot(curve.escalation_rate, curve.accuracy)
        ```
    """
    found = sweep(outcomes, prompt=prompt, unusable_large=unusable_large)
    costs = costs_along(outcomes, found.rows, found.path, prompt)
    levels, further = found.levels(), lacking(found.shift())[0]
    return CostQualityCurve(
        thresholds=found.thresholds,
        coverage=found.accepted / found.n,
        accuracy=found.right / found.n if levels is None else np.where(levels.known, levels.value, np.nan),
        large_accuracy=float(found.large.mean()) + further,
        small_accuracy=float(found.small.mean()) + further,
        n=found.n,
        left_out=found.left_out,
        cost=None if costs is None else costs[0] * (1000.0 / found.n),
        estimates=levels,
    )


@dataclass(frozen=True)
class RiskCoverageCurve:
    """The small model's own error among the inputs it accepts.

    Attributes:
        thresholds: From strict to lax, shape (m,); the first accepts the most confident rows.
        coverage: Share accepted, shape (m,).
        risk: Share of wrong answers among those accepted, shape (m,). NaN where rows were chosen for labelling and more
            labels are needed.
        aurc: Area under it, as `calibration.aurc` counts it; lower is better. NaN likewise.
        e_aurc: `aurc` minus that of a perfect order of the same rows; 0 is perfect. NaN likewise.
        n: Rows that count.
        estimates: Where rows were chosen for labelling: the risks with their intervals, and the labels that they need;
            else None. (`Outcomes.estimate` has those of the areas.)
    """

    thresholds: Floats
    coverage: Floats
    risk: Floats
    aurc: float
    e_aurc: float
    n: int
    estimates: Rates | None = None


def risk_coverage_curve(outcomes: Outcomes) -> RiskCoverageCurve:
    """Return the small model's risk at every coverage (Geifman and El-Yaniv 2017); the large model plays no part.

    Rows where the small model failed are left out, and so are rows without gold where those with gold are a random
    sample. Where rows were chosen for labelling all count, each by its stratum (`outcomes.sampling`).

    Raises:
        ValueError: If no row is left.
    """
    confidence = np.asarray(outcomes["confidence"], dtype=np.float64)
    right = outcomes.correct("small")
    answered = np.isfinite(confidence) & (outcomes.valid("small") | ~np.isnan(right))
    known = np.isfinite(confidence) & ~np.isnan(right)
    if not known.any():
        raise ValueError("`outcomes` holds no row where the small model's answer and gold are known")
    selective = not known[answered].all() and chosen(outcomes, known, answered)
    rows = np.flatnonzero(answered if selective else known)
    order = rows[np.argsort(-confidence[rows], kind="stable")]
    confidence, wrong = confidence[order], 1.0 - right[order]
    n = len(wrong)
    thresholds = candidate_thresholds(confidence)[1:]
    accepted = np.searchsorted(-confidence, -thresholds, side="left")
    if selective:
        sample = LabelSample.of(outcomes, right).at(order)
        found = sample.first(wrong, accepted)
        areas = [area(confidence, wrong) for area in (sample.aurc, sample.e_aurc)]
        aurc, e_aurc = (area.value if area.value is not None and area.known else math.nan for area in areas)
        return RiskCoverageCurve(
            thresholds, accepted / n, np.where(found.known, found.value, np.nan), aurc, e_aurc, n, found
        )
    errors = np.concatenate([[0.0], np.cumsum(wrong)])[accepted]
    aurc, e_aurc = calibration.aurc(confidence, 1.0 - wrong), calibration.e_aurc(confidence, 1.0 - wrong)
    return RiskCoverageCurve(thresholds, accepted / n, errors / accepted, aurc, e_aurc, n)


def accuracy_interval(right: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of an accuracy: `right` out of `n` (Clopper and Pearson 1934).

    Raises:
        ValueError: If the counts are impossible or `level` is outside (0, 1).

    Example:
        >>> [round(x, 3) for x in accuracy_interval(90, 100)]
        [0.824, 0.951]
    """
    tail = (1.0 - level) / 2
    return calibration.binomial_lower(right, n, tail), calibration.binomial_upper(right, n, tail)
