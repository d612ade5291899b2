"""The gate before a new small model goes live: it must forget nothing, keep more local, and stay calibrated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from langchain_dsplus.calibration import expected_calibration_error
from langchain_dsplus.learning.targets import ask
from langchain_dsplus.losses import Loss, parse_loss, points
from langchain_dsplus.threshold.exact import least_rows, loss_upper_bound, paired_p_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.small_models.base import SmallModel

    Floats: TypeAlias = NDArray[np.float64]
    Bools: TypeAlias = NDArray[np.bool_]

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
        n: Gold rows that both models were asked about.
        n_answered: Rows that the old model answered (above `old_threshold`): the slice that must not be forgotten.
        accuracy_old: On all rows.
        accuracy_new: On all rows.
        negative_flips: Rows of the slice that the old model has right and the new one wrong.
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
    gold_rows: Sequence[tuple[Any, str] | Mapping[str, Any]],
    *,
    old_threshold: float = -math.inf,
    max_loss: Loss = 0.02,
    level: float = 0.95,
    max_calibration_error: float = 0.02,
    min_coverage_gain: float = 0.0,
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
        gold_rows: Pairs (input, true label), or mappings with `input` and `gold`.
        old_threshold: The threshold that is live; by default every row counts as answered.
        max_loss: Loss of accuracy on the old model's slice that must be excluded: `"2 points"`, or a share below .1.
        level: Of the test, in [0.5, 1).
        max_calibration_error: Rise of the calibration error that is allowed.
        min_coverage_gain: Rise of the coverage at equal risk that is wanted. At 0 any rise will do; where the old
            model answers everything, as much as that.

    Returns:
        The report; `reasons` names the gates that failed.

    Raises:
        ValueError: If there is no row, the labels differ, or an argument is out of range.

    Example:
        ```python
        report = promotion(router_model, result.model, held_out, old_threshold=0.8)
        if not report.promoted:
            print(report.reasons)
        ```
    """
    if set(old.labels) != set(new.labels):
        msg = "`old` and `new` must have the same labels"
        raise ValueError(msg)
    max_loss = parse_loss(max_loss)
    if not 0.5 <= level < 1.0:
        msg = "`level` must lie in [0.5, 1)"
        raise ValueError(msg)
    inputs, gold = read_gold(gold_rows)
    if not inputs:
        msg = "`gold_rows` is empty: nothing can be shown"
        raise ValueError(msg)
    before, after = _Asked(old, inputs, gold), _Asked(new, inputs, gold)
    answered = before.answered & (before.confidence > old_threshold)
    lost, won = before.right & ~after.right, ~before.right & after.right
    harms, gains, n_slice = int((lost & answered).sum()), int((won & answered).sum()), int(answered.sum())
    p_value = paired_p_value(harms, gains, n_slice, max_loss) if n_slice else 1.0
    classes = [
        ClassChange(label, int(rows.sum()), int((lost & rows).sum()), int((won & rows).sum()))
        for label in sorted(set(gold))
        for rows in [np.array([g == label for g in gold])]
    ]
    worst = _worst(classes, 1.0 - level)
    coverage_old = n_slice / len(inputs)
    accuracy_slice = float(before.right[answered].mean()) if n_slice else 1.0
    coverage_new = after.coverage_at(accuracy_slice)
    calibration_old, calibration_new = before.calibration(), after.calibration()
    reasons = []
    if p_value > 1.0 - level:
        least = least_rows(max_loss, level)
        few = f"; at least {least} are needed" if n_slice < least else ""
        reasons.append(
            f"not shown that it forgets less than {points(max_loss)} of what the old one answered: p = {p_value:.3g} "
            f"({harms} lost, {gains} won on {n_slice} rows{few})"
        )
    if worst:
        reasons.append(f"classes that lose significantly: {', '.join(worst)}")
    wanted = min(1.0, coverage_old + min_coverage_gain)
    if coverage_new < wanted or coverage_old == coverage_new < 1.0:
        reasons.append(f"coverage at equal risk does not rise as wanted: {coverage_new:.3f} after {coverage_old:.3f}")
    if calibration_new > calibration_old + max_calibration_error:
        reasons.append(
            f"calibration error rises from {calibration_old:.3f} to {calibration_new:.3f}, by more than "
            f"{max_calibration_error:.3f}"
        )
    return PromotionReport(
        promoted=not reasons,
        reasons=reasons,
        n=len(inputs),
        n_answered=n_slice,
        accuracy_old=float(before.right.mean()),
        accuracy_new=float(after.right.mean()),
        negative_flips=harms,
        positive_flips=gains,
        p_value=float(p_value),
        loss_upper=loss_upper_bound(harms, gains, n_slice, level) if n_slice else 1.0,
        classes=sorted(classes, key=lambda change: (-change.negative_flips, change.label)),
        worst_classes=worst,
        coverage_old=coverage_old,
        coverage_new=coverage_new,
        calibration_old=calibration_old,
        calibration_new=calibration_new,
    )


def read_gold(rows: Sequence[tuple[Any, str] | Mapping[str, Any]]) -> tuple[list[Any], list[str]]:
    """Return the inputs and the labels of gold rows.

    Raises:
        TypeError: If a row is neither a pair nor a mapping with `input` and `gold`; the message gives its place.
    """
    inputs, gold = [], []
    for place, row in enumerate(rows):
        if isinstance(row, Mapping) and {"input", "gold"} <= row.keys():
            value, label = row["input"], row["gold"]
        elif isinstance(row, tuple) and len(row) == 2:
            value, label = row
        else:
            msg = f"gold row {place} must be a pair (input, label), or a mapping with `input` and `gold`"
            raise TypeError(msg)
        if not isinstance(label, str):
            msg = f"the label of gold row {place} must be a str, not {type(label).__name__}"
            raise TypeError(msg)
        inputs.append(value)
        gold.append(str(label))
    return inputs, gold


class _Asked:
    """A model's answers on the gold rows. What it could not answer is wrong, and below every threshold."""

    def __init__(self, model: SmallModel, inputs: list[Any], gold: list[str]) -> None:
        rows, self.confidence, self.answered = ask(model, inputs)
        choice = rows.argmax(axis=1)
        named = [model.labels[place] == label for place, label in zip(choice.tolist(), gold, strict=True)]
        self.right: Bools = np.array(named) & self.answered
        self.largest: Floats = rows.max(axis=1)

    def coverage_at(self, accuracy: float) -> float:
        """The largest share that a threshold accepts at this accuracy or better; equal scores stand together."""
        scores = self.confidence[self.answered]
        order = np.argsort(-scores, kind="stable")
        right = np.cumsum(self.right[self.answered][order])
        count = np.arange(1, len(order) + 1)
        sorted_scores = scores[order]
        last = np.append(sorted_scores[1:] != sorted_scores[:-1], True) if len(order) else np.zeros(0, dtype=bool)
        fits = last & (right / count >= accuracy - 1e-12)
        return float(count[fits].max() / len(self.right)) if fits.any() else 0.0

    def calibration(self) -> float:
        """Expected calibration error over bins of equal mass; 0 where nothing was answered."""
        p, right = self.largest[self.answered], self.right[self.answered]
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
