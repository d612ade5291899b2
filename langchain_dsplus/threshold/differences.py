"""What each row loses or wins if it stays local: the one rule for gold, for one small model or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus.outcomes.cells import known_labels
from langchain_dsplus.threshold.cascade import Turns, candidate_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes

    Losses: TypeAlias = NDArray[np.int8]

UnusableLarge: TypeAlias = Literal["unknown", "wrong"]
"""What a reply of the large model counts as that is none of the labels."""


@dataclass(frozen=True)
class SmallSide:
    """One small model's part of a table.

    Attributes:
        name: Its name.
        confidence: Shape (n,); minus infinity where it failed or named an unknown label: never accepted.
        barred: Whether its choice is one of `never_local`: above the threshold the row escalates at once.
        loss: In {-1, 0, 1}, what accepting its answer loses against the large model alone on the plain prompt.
        unlabeled: Whether that loss is 1 only since nobody knows who was right.
        right: Whether its answer is right, 1 or 0, NaN unknown.
    """

    name: str
    confidence: Floats
    barred: Bools
    loss: Losses
    unlabeled: Bools
    right: Floats


@dataclass(frozen=True)
class Differences:
    """What every row of a table loses or wins, and who is right in it: what all doors read.

    Attributes:
        models: The small models, in the order in which they are asked.
        escalated: In {-1, 0, 1}, what escalating loses: 0 with the plain prompt, shape (n,).
        escalated_unlabeled: Whether that is 1 only since nobody knows who was right.
        prompt: What escalated rows are asked.
        large: Whether the large model is right on the plain prompt, 1 or 0, NaN unknown.
        asked: The same of what escalated rows are asked.
        unusable: Whether its reply to the plain prompt is no label.
        unanswered: Whether it gave no reply to the plain prompt.
        compared: Whether the row counts where accuracies are compared: not where the large model gave no reply, nor
            where its reply is no label and counts as unknown.
        unusable_pruned: Whether its reply to the pruned prompt is no label; such a reply is wrong.
    """

    models: tuple[SmallSide, ...]
    escalated: Losses
    escalated_unlabeled: Bools
    prompt: Literal["plain", "pruned"]
    large: Floats
    asked: Floats
    unusable: Bools
    unanswered: Bools
    compared: Bools
    unusable_pruned: Bools

    @property
    def n(self) -> int:
        """All rows."""
        return len(self.escalated)

    @cached_property
    def loss(self) -> Losses:
        """What a row loses, by who answers (see `cascade.Turns`), shape (M + 2, n)."""
        return np.stack([*(model.loss for model in self.models), self.escalated, np.zeros_like(self.escalated)])

    @cached_property
    def unlabeled(self) -> Bools:
        """Whether that is 1 only since nobody knows who was right, shape (M + 2, n)."""
        none = np.zeros(self.n, dtype=bool)
        return np.stack([*(model.unlabeled for model in self.models), self.escalated_unlabeled, none])

    @cached_property
    def right(self) -> Floats:
        """Whether the answer is right, by who answers, shape (M + 2, n)."""
        return np.stack([*(model.right for model in self.models), self.asked, self.large])

    @cached_property
    def failed(self) -> Bools:
        """Whether each small model failed, shape (M, n)."""
        return np.stack([np.isneginf(model.confidence) for model in self.models])

    def turns(self, path: Sequence[Mapping[str, float]], rows: Any = None) -> Turns:
        """Follow the rows along a path of thresholds, from strict to lax.

        Args:
            path: Thresholds by name.
            rows: Which rows, a mask or numbers; by default all.
        """
        chosen = slice(None) if rows is None else rows
        return Turns(
            np.stack([model.confidence[chosen] for model in self.models]),
            np.stack([model.barred[chosen] for model in self.models]),
            [[step[model.name] for model in self.models] for step in path],
        )

    def who(self, thresholds: Mapping[str, float]) -> tuple[NDArray[np.int8], Bools]:
        """Follow the rows through the small models (Algorithm 2).

        Args:
            thresholds: By name.

        Returns:
            Which model answers, shape (n,), -1 where the large one does; and which rows escalate with the plain prompt,
            since a small model failed.
        """
        who = self.turns([thresholds]).at(0)
        return np.where(who < len(self.models), who, -1).astype(np.int8), who > len(self.models)

    def at(self, thresholds: Mapping[str, float]) -> tuple[Losses, Bools, Bools]:
        """Return every row's loss, whether it is accepted, and whether it is a harm only for lack of gold."""
        who, every = self.turns([thresholds]).at(0), np.arange(self.n)
        return self.loss[who, every], who < len(self.models), self.unlabeled[who, every]

    def correct(self, thresholds: Mapping[str, float]) -> Floats:
        """Return whether the cascade is right, shape (n,), NaN unknown."""
        right: Floats = self.right[self.turns([thresholds]).at(0), np.arange(self.n)]
        return right


def model_names(outcomes: Outcomes) -> list[str]:
    """Return the small models' names, in the order of the columns; `["small"]` where there is one."""
    several = [name.removeprefix("confidence.") for name in outcomes.columns if name.startswith("confidence.")]
    return several or ["small"]


def differences(
    outcomes: Outcomes,
    *,
    never_local: Sequence[str] = (),
    prompt: Literal["plain", "pruned"] = "plain",
    unusable_large: UnusableLarge = "unknown",
) -> Differences:
    """Return what every row loses or wins, by one rule without modes.

    Where an answer agrees with the large model's on the plain prompt the difference is 0, whatever is true. Where they
    disagree and who was right is known, it is -1 (won), 0 or 1 (lost). Where it is not known, the worst that can be is
    assumed, so a row counts as lost. So gold is needed only where they disagree.

    Where the large model gave no reply, or one outside `about["labels"]`, nobody knows what it would have been worth,
    gold or not (unless a judge says that it was right): such a row is never won; it is lost where the answer that
    replaces it is not known to be right. With `unusable_large="wrong"` a reply outside the labels was wrong, so the row
    may be won; no reply at all stays unknown. A small model's answer outside its labels escalates.

    Args:
        outcomes: The table.
        never_local: Labels that always escalate.
        prompt: What escalated rows are asked. With `pruned`, `large_pruned` is compared with `large` by the same rule;
            rows whose small model failed are asked the plain prompt.
        unusable_large: What a reply of the large model to the plain prompt counts as that is none of the labels.

    Raises:
        ValueError: If the table lacks a column, or `prompt` or `unusable_large` is unknown.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [
        ...     {"small": "a", "confidence": 0.9, "large": "a", "gold": None},
        ...     {"small": "a", "confidence": 0.8, "large": "b", "gold": "a"},
        ...     {"small": "a", "confidence": 0.7, "large": "b", "gold": None},
        ... ]
        >>> differences(Outcomes.from_records(rows)).models[0].loss.tolist()
        [0, -1, 1]
    """
    if prompt not in ("plain", "pruned"):
        raise ValueError(f"`prompt` must be 'plain' or 'pruned', not {prompt!r}")
    if unusable_large not in get_args(UnusableLarge):
        raise ValueError(f"`unusable_large` must be 'unknown' or 'wrong', not {unusable_large!r}")
    if not len(outcomes):
        raise ValueError("`outcomes` has no rows")
    barred = frozenset([never_local] if isinstance(never_local, str) else never_local)
    if (known := known_labels(outcomes.about)) is not None and not barred <= known:
        raise ValueError(f"`never_local` names labels that are not in `about['labels']`: {sorted(barred - known)}")
    names = model_names(outcomes)
    large = _large_side(outcomes, unusable_large)
    models = []
    for name in names:
        suffix = "" if names == ["small"] else f".{name}"
        column = f"small{suffix}"
        said = outcomes.said(column) if column in outcomes else None
        if said is not None and f"{column}_ok" in outcomes and not said.any():
            said = None  # no answers were kept, only who was right
        confidence = np.asarray(outcomes[f"confidence{suffix}"], dtype=np.float64)
        usable = np.isfinite(confidence)
        if said is not None:
            usable &= said
            if (known := known_labels(outcomes.about, column)) is not None:
                usable &= outcomes.within(column, known)
        blocked = np.zeros(len(confidence), dtype=bool)
        if barred:
            if said is None:
                raise ValueError(f"`never_local` needs the column {column!r}")
            blocked = outcomes.within(column, barred)
        right = _correct(outcomes, column)
        loss, unlabeled = _losses(outcomes, column, right, large.right)
        models.append(SmallSide(name, np.where(usable, confidence, -math.inf), blocked, loss, unlabeled, right))
    compared = ~large.unanswered & (~large.unusable | (unusable_large == "wrong"))
    kept = large.unusable, large.unanswered, compared
    if prompt == "plain":
        none = np.zeros(len(outcomes), dtype=bool)
        return Differences(tuple(models), none.astype(np.int8), none, prompt, large.right, large.right, *kept, none)
    if "large_pruned" not in outcomes and "large_pruned_ok" not in outcomes:
        raise ValueError(
            "`prompt='pruned'` needs a column 'large_pruned': what the large model said to the pruned prompt"
        )
    right = _correct(outcomes, "large_pruned")
    loss, unlabeled = _losses(outcomes, "large_pruned", right, large.right)
    wrong = np.zeros(len(outcomes), dtype=bool)
    if "large_pruned" in outcomes:
        said = np.fromiter((value is not None for value in outcomes["large_pruned"]), dtype=bool, count=len(outcomes))
        wrong = said & ~outcomes.valid("large_pruned") & ~(right == 1.0)
    return Differences(tuple(models), loss, unlabeled, prompt, large.right, right, *kept, wrong)


@dataclass(frozen=True)
class _LargeSide:
    """The large model on the plain prompt: whether it is right, where its reply is no label, where there is none."""

    right: Floats
    unusable: Bools
    unanswered: Bools


def _large_side(outcomes: Outcomes, unusable_large: UnusableLarge) -> _LargeSide:
    right = _correct(outcomes, "large")
    usable = (outcomes.valid("large") if "large" in outcomes else np.ones(len(right), dtype=bool)) | (right == 1.0)
    said = np.zeros(len(right), dtype=bool)
    if "large" in outcomes:
        said = outcomes.said("large")
    unusable = said & ~usable
    right = np.where(usable, right, np.nan)
    if unusable_large == "wrong":
        right = np.where(unusable, 0.0, right)
    return _LargeSide(right, unusable, ~said & ~usable)


def _losses(outcomes: Outcomes, who: str, answer: Floats, large: Floats) -> tuple[Losses, Bools]:
    """What answering as `who` does loses against the large model on the plain prompt; which are harms by default."""
    # Unknown: the worst that can be.
    worst = np.where(np.isnan(large), 1.0, large) - np.where(np.isnan(answer), 0.0, answer)
    agree = (
        outcomes.agree(who, "large") if who in outcomes and "large" in outcomes else np.zeros(len(worst), dtype=bool)
    )
    worst = np.where(agree, 0.0, worst)
    # Gold helps where it is missing; where only verdicts are kept, one of those.
    missing = ~outcomes.known_gold()
    open_ = np.zeros(len(worst), dtype=bool)
    for name, right in ((who, answer), ("large", large)):
        open_ |= np.isnan(right) & (missing | (name not in outcomes))
    unlabeled = ~agree & (worst > 0.0) & open_
    return worst.astype(np.int8), unlabeled


def _correct(outcomes: Any, who: str) -> Floats:
    """Who was right: an answer outside the labels was wrong, whatever gold says."""
    try:
        return np.asarray(outcomes.correct(who), dtype=np.float64)
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def coverage_grid(confidence: Any, steps: int = 50) -> list[float]:
    """Return thresholds at coverage 1/steps, 2/steps, ..., 1, from strict to lax, without looking at any label.

    Equal scores stand or fall together, so a threshold lies midway between distinct scores, the last one at the next
    float below the smallest. Steps that the scores cannot tell apart are merged. Shares are of all rows, those where
    the small model failed included.

    Args:
        confidence: Shape (n,); not finite where the small model failed.
        steps: How many, at least 1.

    Example:
        >>> coverage_grid([0.2, 0.4, 0.6, 0.8], steps=2)
        [0.5, 0.19999999999999998]
    """
    if steps < 1:
        raise ValueError("`steps` must be at least 1")
    scores = np.asarray(confidence, dtype=np.float64)
    n = len(scores)
    finite = np.sort(scores[np.isfinite(scores)])[::-1]
    candidates = candidate_thresholds(scores)[1:]  # from strict to lax; the k-th accepts the k highest distinct scores
    if not len(finite):
        return []
    distinct = np.unique(finite)[::-1]
    wanted = np.unique([min(max(round(n * step / steps), 1), len(finite)) for step in range(1, steps + 1)])
    # The score at that place, and the threshold right below it.
    places = np.searchsorted(-distinct, -finite[wanted - 1], side="left")
    return [float(candidates[place]) for place in np.unique(places)]
