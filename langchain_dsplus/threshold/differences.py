"""What each row loses or wins if it stays local: the one rule for gold, for one small model or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from langchain_dsplus.outcomes.columns import known_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes

    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]
    Losses: TypeAlias = NDArray[np.int8]


@dataclass(frozen=True)
class SmallSide:
    """One small model's part of a table.

    Attributes:
        name: Its name.
        confidence: Shape (n,); minus infinity where it failed or named an unknown label: never accepted.
        barred: Whether its choice is one of `never_local`: above the threshold the row escalates at once.
        loss: In {-1, 0, 1}, what accepting its answer loses against the large model alone on the plain prompt.
        unlabeled: Whether that loss is 1 only since nobody knows who was right.
    """

    name: str
    confidence: Floats
    barred: Bools
    loss: Losses
    unlabeled: Bools


@dataclass(frozen=True)
class Differences:
    """Losses of every row of a table.

    Attributes:
        models: The small models, in the order in which they are asked.
        escalated: In {-1, 0, 1}, what escalating loses: 0 with the plain prompt, shape (n,).
        escalated_unlabeled: Whether that is 1 only since nobody knows who was right.
        prompt: What escalated rows are asked.
    """

    models: tuple[SmallSide, ...]
    escalated: Losses
    escalated_unlabeled: Bools
    prompt: Literal["plain", "pruned"]

    @property
    def n(self) -> int:
        """All rows."""
        return len(self.escalated)

    def who(self, thresholds: Mapping[str, float]) -> tuple[NDArray[np.int8], Bools]:
        """Follow the rows through the small models (Algorithm 2).

        Args:
            thresholds: By name.

        Returns:
            Which model answers, shape (n,), -1 where the large one does; and which rows escalate with the plain prompt,
            since a small model failed.
        """
        answers = np.full(self.n, -1, dtype=np.int8)
        failed = np.zeros(self.n, dtype=bool)
        pending = np.ones(self.n, dtype=bool)
        for place, model in enumerate(self.models):
            above = pending & (model.confidence > thresholds[model.name])
            answers[above & ~model.barred] = place
            broken = pending & np.isneginf(model.confidence)
            failed |= broken
            pending &= ~above & ~broken
        return answers, failed

    def at(self, thresholds: Mapping[str, float]) -> tuple[Losses, Bools, Bools]:
        """Return every row's loss, whether it is accepted, and whether it is a harm only for lack of gold."""
        who, failed = self.who(thresholds)
        loss = np.where(failed, 0, self.escalated).astype(np.int8)
        unlabeled = self.escalated_unlabeled & ~failed
        for place, model in enumerate(self.models):
            mine = who == place
            loss[mine] = model.loss[mine]
            unlabeled = np.where(mine, model.unlabeled, unlabeled)
        return loss, who >= 0, unlabeled


def model_names(outcomes: Outcomes) -> list[str]:
    """Return the small models' names, in the order of the columns; `["small"]` where there is one."""
    several = [name.removeprefix("confidence.") for name in outcomes.columns if name.startswith("confidence.")]
    return several or ["small"]


def differences(
    outcomes: Outcomes, *, never_local: Sequence[str] = (), prompt: Literal["plain", "pruned"] = "plain"
) -> Differences:
    """Return what every row loses or wins, by one rule without modes.

    Where an answer agrees with the large model's on the plain prompt the difference is 0, whatever is true. Where they
    disagree and who was right is known, it is -1 (won), 0 or 1 (lost). Where it is not known, the worst that can be is
    assumed, so a row counts as lost. A row whose large model failed, or answered outside `about["labels"]`, never
    counts as won. So gold is needed only where they disagree.

    Args:
        outcomes: The table.
        never_local: Labels that always escalate.
        prompt: What escalated rows are asked. With `pruned`, `large_pruned` is compared with `large` by the same rule;
            rows whose small model failed are asked the plain prompt.

    Raises:
        ValueError: If the table lacks a column, or `prompt` is unknown.

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
        msg = f"`prompt` must be 'plain' or 'pruned', not {prompt!r}"
        raise ValueError(msg)
    if not len(outcomes):
        msg = "`outcomes` has no rows"
        raise ValueError(msg)
    barred = frozenset([never_local] if isinstance(never_local, str) else never_local)
    if (known := known_labels(outcomes.about)) is not None and not barred <= known:
        msg = f"`never_local` names labels that are not in `about['labels']`: {sorted(barred - known)}"
        raise ValueError(msg)
    names = model_names(outcomes)
    models = []
    for name in names:
        suffix = "" if names == ["small"] else f".{name}"
        column = f"small{suffix}"
        said = outcomes[column] if column in outcomes else None  # noqa: SIM401 - no dict
        if said is not None and f"{column}_ok" in outcomes and all(answer is None for answer in said):
            said = None  # no answers were kept, only who was right
        confidence = np.asarray(outcomes[f"confidence{suffix}"], dtype=np.float64)
        usable = np.isfinite(confidence)
        if said is not None:
            usable &= np.fromiter((answer is not None for answer in said), dtype=bool, count=len(said))
            if (known := known_labels(outcomes.about, column)) is not None:
                usable &= np.fromiter((answer in known for answer in said), dtype=bool, count=len(said))
        blocked = np.zeros(len(confidence), dtype=bool)
        if barred:
            if said is None:
                msg = f"`never_local` needs the column {column!r}"
                raise ValueError(msg)
            blocked = np.fromiter((answer in barred for answer in said), dtype=bool, count=len(said))
        loss, unlabeled = _losses(outcomes, column)
        models.append(SmallSide(name, np.where(usable, confidence, -math.inf), blocked, loss, unlabeled))
    if prompt == "plain":
        none = np.zeros(len(outcomes), dtype=bool)
        return Differences(tuple(models), none.astype(np.int8), none, prompt)
    if "large_pruned" not in outcomes and "large_pruned_ok" not in outcomes:
        msg = "`prompt='pruned'` needs a column 'large_pruned': what the large model said to the pruned prompt"
        raise ValueError(msg)
    loss, unlabeled = _losses(outcomes, "large_pruned")
    return Differences(tuple(models), loss, unlabeled, prompt)


def _losses(outcomes: Outcomes, who: str) -> tuple[Losses, Bools]:
    """What answering as `who` does loses against the large model on the plain prompt; which are harms by default."""
    answer, large = _correct(outcomes, who), _correct(outcomes, "large")
    # Unknown: the worst that can be.
    worst = np.where(np.isnan(large), 1.0, large) - np.where(np.isnan(answer), 0.0, answer)
    agree = np.zeros(len(worst), dtype=bool)
    if who in outcomes and "large" in outcomes:
        mine, other = outcomes[who], outcomes["large"]
        present = np.fromiter((value is not None for value in other), dtype=bool, count=len(other))
        agree = np.asarray(mine == other, dtype=bool) & present
    valid = outcomes.valid("large") if "large" in outcomes else ~np.isnan(large)
    worst = np.where(agree, 0.0, np.where(valid, worst, np.maximum(worst, 0.0)))
    # Gold helps where it is missing; where only verdicts are kept, one of those.
    missing = np.fromiter((gold is None for gold in outcomes["gold"]), dtype=bool, count=len(worst))
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
    from langchain_dsplus.threshold.curves import candidate_thresholds  # noqa: PLC0415

    if steps < 1:
        msg = "`steps` must be at least 1"
        raise ValueError(msg)
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
