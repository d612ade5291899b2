"""The gate before a new small model goes live: it must forget nothing, keep more local, and stay calibrated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np

from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus.calibration import expected_calibration_error
from langchain_dsplus.learning.targets import ask
from langchain_dsplus.losses import Loss, parse_loss, points
from langchain_dsplus.outcomes.columns import rows_of
from langchain_dsplus.outcomes.gold import GoldOptions, GoldRules, read_labels
from langchain_dsplus.outcomes.sampling import hangs_on
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.threshold.exact import least_rows, loss_upper_bound, paired_p_value

_BINS = 10


@dataclass(frozen=True)
class ClassChange:
    """What became of one true class: rows, and how many only the new or only the old model has right."""

    label: str
    n: int
    negative_flips: int
    positive_flips: int


@dataclass(frozen=True)
class PromotionReport:
    """Whether a new small model may go live, and why.

    Attributes:
        promoted: True if every gate is passed.
        reasons: Why not; empty if promoted.
        n: Rows that both models were asked about.
        n_answered: Rows that the old model answered (above `old_threshold`): the slice that must not be forgotten.
        accuracy_old: On all rows with known gold.
        accuracy_new: On all rows with known gold.
        negative_flips: Rows of the slice that the old model has right and the new one wrong, and those where they
            disagree and nobody knows.
        positive_flips: The other way round.
        p_value: Of the exact paired test that the new model loses less than `max_loss` on the slice.
        loss_upper: The least loss that the test would show.
        classes: Changes on all rows by true class, those with most negative flips first.
        worst_classes: Labels whose negative flips alone are significant (exact sign test, Holm over the classes).
        coverage_old: Share that stays local at the old model's own risk: the accuracy that it has above
            `old_threshold`.
        coverage_new: Share that the new model keeps local at no lower an accuracy; hindsight on these rows.
        calibration_old: Expected calibration error of the largest probability (equal-mass bins).
        calibration_new: The same of the new model.
    """

    promoted: bool
    reasons: list[str]
    n: int
    n_answered: int
    accuracy_old: float
    accuracy_new: float
    negative_flips: int
    positive_flips: int
    p_value: float
    loss_upper: float
    classes: list[ClassChange]
    worst_classes: list[str]
    coverage_old: float
    coverage_new: float
    calibration_old: float
    calibration_new: float

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


def promotion(
    old: SmallModel,
    new: SmallModel,
    gold_rows: Any,
    *,
    old_threshold: float = -math.inf,
    max_loss: Loss = 0.02,
    level: float = 0.95,
    max_calibration_error: float = 0.02,
    min_coverage_gain: float = 0.0,
    **gold_rules: Unpack[GoldOptions],
) -> PromotionReport:
    """Decide whether a new small model may take an old one's place. A pure function: it asks both, and changes nothing.

    The gates: (1) on the rows that the old model answered, the new one is shown to lose less than `max_loss`, by the
    exact paired test of a certificate; (2) no class loses significantly (exact sign test on its flips, corrected for
    the number of classes); (3) at the old model's risk it keeps more local, by `min_coverage_gain`;
    (4) its calibration error is at most the old one's plus `max_calibration_error`.

    Too few rows refuse: gate 1 needs `least_rows(max_loss, level)` at the very least. The gates are about the rows
    given, so these must be rows that neither model was trained on, from today's traffic; a set that chose among many
    candidates no longer tells. The promoted model needs a threshold and a certificate of its own.

    Args:
        old: The model that is live.
        new: The candidate, with the same labels.
        gold_rows: Pairs (input, true label), mappings with `input` and `gold`, or a DataFrame with these columns. Where
            gold is None and the models disagree, the row counts as lost. Gold of some rows only must be that of a
            random sample of them: rows that were chosen for labelling refuse.
        old_threshold: The threshold that is live; by default every row counts as answered.
        max_loss: Loss of accuracy on the old model's slice that must be excluded: `"2 points"`, or a share below .1.
        level: Of the test, in [0.5, 1).
        max_calibration_error: Rise of the calibration error that is allowed.
        min_coverage_gain: Rise of the coverage at equal risk that is wanted. At 0 any rise will do; where the old
            model answers everything, as much as that.
        **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

    Returns:
        The report; `reasons` names the gates that failed.

    Raises:
        ValueError: If there is no row (with known gold), the labels differ, gold is none of them, or an argument is out
            of range.

    Example:
        ```python
        report = promotion(router_model, result.model, held_out, old_threshold=0.8)
        if not report.promoted:
            print(report.reasons)
        ```
    """
    if set(old.labels) != set(new.labels):
        raise ValueError("`old` and `new` must have the same labels")
    max_loss = parse_loss(max_loss)
    if not 0.5 <= level < 1.0:
        raise ValueError("`level` must lie in [0.5, 1)")
    inputs, gold = read_gold(gold_rows, old.labels, GoldRules.of(**gold_rules))
    known = np.array([label is not None for label in gold])
    if not known.any():
        raise ValueError("`gold_rows` holds no row with gold: nothing can be shown")
    before, after = _Asked(old, inputs, gold, known), _Asked(new, inputs, gold, known)
    answered = before.answered & (before.confidence > old_threshold)
    # Where nobody knows and the two say different things, the worst that can be: the old one was right.
    differ = np.array([mine != other for mine, other in zip(before.choices, after.choices, strict=True)], dtype=bool)
    lost = np.where(known, before.right & ~after.right, differ & before.answered)
    won = known & ~before.right & after.right
    harms, gains, n_slice = int((lost & answered).sum()), int((won & answered).sum()), int(answered.sum())
    p_value = float(paired_p_value(harms, gains, n_slice, max_loss)) if n_slice else 1.0
    classes = [
        ClassChange(label, int(rows.sum()), int((lost & rows).sum()), int((won & rows).sum()))
        for label in sorted({label for label in gold if label is not None})
        for rows in [np.array([g == label for g in gold])]
    ]
    worst = _worst(classes, 1.0 - level)
    reasons = [] if p_value <= 1.0 - level else [_not_shown(p_value, (harms, gains, n_slice), max_loss, level)]
    if worst:
        reasons.append(f"classes that lose significantly: {', '.join(worst)}")
    reasons += _chosen(before, known, differ)
    coverage_old = float((answered & known).sum() / known.sum())
    accuracy_slice = float(before.right[answered & known].mean()) if (answered & known).any() else 1.0
    coverage_new = after.coverage_at(accuracy_slice)
    calibration_old, calibration_new = before.calibration(), after.calibration()
    reasons += _no_better(coverage_old, coverage_new, min_coverage_gain)
    reasons += _worse_calibrated(calibration_old, calibration_new, max_calibration_error)
    return PromotionReport(
        promoted=not reasons,
        reasons=reasons,
        n=len(inputs),
        n_answered=n_slice,
        accuracy_old=float(before.right[known].mean()),
        accuracy_new=float(after.right[known].mean()),
        negative_flips=harms,
        positive_flips=gains,
        p_value=p_value,
        loss_upper=loss_upper_bound(harms, gains, n_slice, level) if n_slice else 1.0,
        classes=sorted(classes, key=lambda change: (-change.negative_flips, change.label)),
        worst_classes=worst,
        coverage_old=coverage_old,
        coverage_new=coverage_new,
        calibration_old=calibration_old,
        calibration_new=calibration_new,
    )


def _not_shown(p_value: float, counts: tuple[int, int, int], max_loss: float, level: float) -> str:
    harms, gains, n = counts
    least = least_rows(max_loss, level)
    few = f"; at least {least} are needed" if n < least else ""
    return (
        f"not shown that it forgets less than {points(max_loss)} of what the old one answered: p = {p_value:.3g} "
        f"({harms} lost, {gains} won on {n} rows{few})"
    )


def _chosen(before: _Asked, known: Bools, differ: Bools) -> list[str]:
    """Gold of rows that were chosen for labelling says nothing of accuracy, coverage and calibration over all."""
    if not (hangs_on(known[before.answered], before.confidence[before.answered]) or hangs_on(known, differ)):
        return []
    some = f"the {int(known.sum()):,} of {len(known):,} rows with gold were chosen, by disagreement or confidence"
    return [f"{some}: they say nothing of the others, so label all or a random sample"]


def _no_better(before: float, after: float, gain: float) -> list[str]:
    if after >= min(1.0, before + gain) and not before == after < 1.0:
        return []
    return [f"coverage at equal risk does not rise as wanted: {after:.3f} after {before:.3f}"]


def _worse_calibrated(before: float, after: float, rise: float) -> list[str]:
    if after <= before + rise:
        return []
    return [f"calibration error rises from {before:.3f} to {after:.3f}, by more than {rise:.3f}"]


def read_rows(rows: Any) -> list[tuple[Any, Any]]:
    """Return gold rows as pairs of an input and what stands for its label, as it came.

    Args:
        rows: Pairs, mappings with `input` and `gold`, or a DataFrame with these columns.

    Raises:
        TypeError: If a row is none of these; the message gives its place.
    """
    found: list[tuple[Any, Any]] = []
    for place, row in enumerate(rows_of(rows)):
        if isinstance(row, Mapping) and {"input", "gold"} <= row.keys():
            found.append((row["input"], row["gold"]))
        elif isinstance(row, tuple) and len(row) == 2:
            found.append(row)
        else:
            raise TypeError(f"gold row {place} must be a pair (input, label), or a mapping with `input` and `gold`")
    return found


def read_gold(
    rows: Any, labels: Sequence[str], rules: GoldRules, name: str = "gold_rows"
) -> tuple[list[Any], list[str | None]]:
    """Return the inputs and the labels of gold rows; None where nobody knows, of `other_gold` the class as it is.

    Raises:
        TypeError: As `read_rows`.
        ValueError: If gold is none of the labels; the message says what to do.
    """
    pairs = read_rows(rows)
    return [value for value, _ in pairs], read_labels([label for _, label in pairs], labels, rules, where=f"`{name}`: ")


class _Asked:
    """A model's answers on the gold rows. What it could not answer is wrong, and below every threshold."""

    def __init__(self, model: SmallModel, inputs: list[Any], gold: list[str | None], known: Bools) -> None:
        rows, self.confidence, self.answered = ask(model, inputs)
        places = rows.argmax(axis=1).tolist()
        self.choices = [model.labels[p] if told else None for p, told in zip(places, self.answered, strict=True)]
        self.known = known
        self.right: Bools = np.array([c == g for c, g in zip(self.choices, gold, strict=True)]) & self.answered & known
        self.largest: Floats = rows.max(axis=1)

    def coverage_at(self, accuracy: float) -> float:
        """The largest share that a threshold accepts at this accuracy or better; equal scores stand together."""
        used = self.answered & self.known
        scores = self.confidence[used]
        order = np.argsort(-scores, kind="stable")
        right = np.cumsum(self.right[used][order])
        count = np.arange(1, len(order) + 1)
        sorted_scores = scores[order]
        last = np.append(sorted_scores[1:] != sorted_scores[:-1], True) if len(order) else np.zeros(0, dtype=bool)
        fits = last & (right / count >= accuracy - 1e-12)
        return float(count[fits].max() / self.known.sum()) if fits.any() else 0.0

    def calibration(self) -> float:
        """Expected calibration error over bins of equal mass; 0 where nothing was answered."""
        used = self.answered & self.known
        p, right = self.largest[used], self.right[used]
        if not len(p):
            return 0.0
        return float(expected_calibration_error(np.minimum(p, 1.0), right, bins=_BINS))


def _worst(classes: Sequence[ClassChange], alpha: float) -> list[str]:
    """Classes with significantly more negative than positive flips: exact sign test, Holm's correction."""
    tests = sorted((_sign_test(change.negative_flips, change.positive_flips), change.label) for change in classes)
    found = []
    for rank, (p, label) in enumerate(tests):
        if p > alpha / (len(tests) - rank):
            break
        found.append(label)
    return sorted(found)


def _sign_test(lost: int, won: int) -> float:
    """P(at least `lost` of the flips are losses) if each is a loss with chance 1/2."""
    n = lost + won
    return math.fsum(math.comb(n, k) for k in range(lost, n + 1)) / 2.0**n
