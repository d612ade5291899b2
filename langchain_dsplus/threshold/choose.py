"""Choosing a threshold on validation rows, the paper's way: the best there, and no promise about tomorrow."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from langchain_dsplus.threshold.curves import sweep

if TYPE_CHECKING:
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.curves import Prompt, Sweep

Objective: TypeAlias = Literal["match_large", "max_accuracy", "budget", "target_accuracy"]

_NO_PROMISE = (
    "Chosen in sight of these rows: it promises nothing about new inputs, where accuracy is often lower. "
    "The interval is for this threshold as if it had been fixed beforehand."
)


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold and what it did on the rows it was chosen on.

    Attributes:
        threshold: Accept iff confidence > threshold; infinity accepts nothing.
        objective: What was asked for.
        met: Whether any threshold could do that.
        coverage: Share answered locally.
        accuracy: Of the cascade.
        low: Lower end of its interval (percentile bootstrap).
        high: Upper end.
        large_accuracy: Of the large model alone, on the plain prompt, over the same rows.
        gain: `accuracy` - `large_accuracy`.
        gain_low: Lower end of the gain's interval (paired bootstrap).
        gain_high: Upper end.
        level: Of the intervals.
        n: Rows that count.
        left_out: Rows that do not: the large model failed, or nobody knows who was right.
        note: In words, what this number does not say.
    """

    threshold: float
    objective: Objective
    met: bool
    coverage: float
    accuracy: float
    low: float
    high: float
    large_accuracy: float
    gain: float
    gain_low: float
    gain_high: float
    level: float
    n: int
    left_out: int
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: a threshold of infinity is None."""
        values = asdict(self)
        if math.isinf(self.threshold):
            values["threshold"] = None
        return values


def choose_threshold(
    outcomes: Outcomes,
    objective: Objective = "match_large",
    *,
    budget: float | None = None,
    target: float | None = None,
    prompt: Prompt = "plain",
    seed: int = 0,
    bootstrap: int = 1000,
    level: float = 0.95,
) -> ThresholdChoice:
    """Choose the threshold that does best on validation rows (paper, 4.7).

    The candidates lie midway between distinct scores, with infinity (accept nothing) and the next float below the
    smallest score (accept all), so that equal scores stand or fall together and the router accepts what was accepted
    here.

    Args:
        outcomes: Rows that no small model was trained on.
        objective: `match_large`: the highest coverage at which the cascade is at least as accurate as the large model.
            `max_accuracy`: the highest accuracy, and of equals the highest coverage. `budget`: the same among
            thresholds that escalate at most `budget` of the inputs. `target_accuracy`: the highest coverage at which
            the accuracy is at least `target`; where there is none, the highest accuracy, and `met` is False.
        budget: Share of inputs that may reach the large model, in [0, 1].
        target: An accuracy in [0, 1].
        prompt: What escalated rows are asked: `plain`, or `pruned`, which counts the column `large_pruned`.
        seed: Of the bootstrap.
        bootstrap: Resamples; 0 gives intervals of no width.
        level: Of the intervals.

    Raises:
        ValueError: If an argument is out of range or missing, or no row tells who was right.

    Example:
        ```python
        choice = choose_threshold(outcomes, "match_large")
        router = ConfidenceRouter(small=small, large=chain, threshold=choice.threshold)
        ```
    """
    _check(objective, budget, target, bootstrap, level)
    found = sweep(outcomes, prompt=prompt)
    accuracy = found.right / found.n
    large = float(found.large.sum())
    # Counts are whole numbers in float64: compare those, not quotients.
    met = True
    if objective == "match_large":
        place, met = _laxest(found, found.right >= large)
    elif objective == "target_accuracy":
        assert target is not None
        place, met = _laxest(found, found.right >= target * found.n - 1e-9)
    elif objective == "budget":
        assert budget is not None
        place, met = _best(found, found.n - found.accepted <= budget * found.n + 1e-9)
    else:
        place, met = _best(found, np.ones(len(found.right), dtype=bool))
    k = int(found.accepted[place])
    outcome = np.concatenate([found.small[:k], found.escalated[k:]])
    (low, high), (gain_low, gain_high) = _intervals(outcome, found.large, seed, bootstrap, level)
    return ThresholdChoice(
        threshold=float(found.thresholds[place]),
        objective=objective,
        met=met,
        coverage=k / found.n,
        accuracy=float(accuracy[place]),
        low=low,
        high=high,
        large_accuracy=large / found.n,
        gain=float(accuracy[place]) - large / found.n,
        gain_low=gain_low,
        gain_high=gain_high,
        level=level,
        n=found.n,
        left_out=found.left_out,
        note=_note(objective, met=met, found=found),
    )


def _check(objective: str, budget: float | None, target: float | None, bootstrap: int, level: float) -> None:
    if objective not in ("match_large", "max_accuracy", "budget", "target_accuracy"):
        msg = f"`objective` must be 'match_large', 'max_accuracy', 'budget' or 'target_accuracy', not {objective!r}"
        raise ValueError(msg)
    for name, value, wanted in (("budget", budget, "budget"), ("target", target, "target_accuracy")):
        if (objective == wanted) != (value is not None):
            msg = f"`{name}` goes with objective {wanted!r}, and with no other"
            raise ValueError(msg)
        if value is not None and not 0.0 <= value <= 1.0:
            msg = f"`{name}` must lie in [0, 1]"
            raise ValueError(msg)
    if bootstrap < 0 or not 0.0 < level < 1.0:
        msg = "`bootstrap` must be at least 0, and `level` lie between 0 and 1"
        raise ValueError(msg)


def _laxest(found: Sweep, allowed: Any) -> tuple[int, bool]:
    places = np.flatnonzero(allowed)
    if len(places):
        return int(places[-1]), True
    return _best(found, np.ones(len(found.right), dtype=bool))[0], False


def _best(found: Sweep, allowed: Any) -> tuple[int, bool]:
    """The most accurate of those allowed, the laxest of equals; if none is, the laxest of all."""
    if not allowed.any():
        return len(found.right) - 1, False
    right = np.where(allowed, found.right, -1.0)
    return int(np.flatnonzero(right == right.max())[-1]), True


def _intervals(
    cascade: Any, large: Any, seed: int, bootstrap: int, level: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile bootstrap over rows. Rows fall into four kinds, so a resample is one multinomial draw."""
    n = len(large)
    kinds = np.bincount((2 * cascade + large).astype(np.intp), minlength=4) / n
    if not bootstrap:
        return (float(cascade.mean()),) * 2, (float(cascade.mean() - large.mean()),) * 2
    draws = np.random.default_rng(seed).multinomial(n, kinds, size=bootstrap) / n
    tails = [(1 - level) / 2, (1 + level) / 2]
    accuracy = np.quantile(draws[:, 2] + draws[:, 3], tails)
    gain = np.quantile(draws[:, 2] - draws[:, 1], tails)
    return (float(accuracy[0]), float(accuracy[1])), (float(gain[0]), float(gain[1]))


def _note(objective: str, *, met: bool, found: Sweep) -> str:
    parts = []
    if not met:
        parts.append(
            {
                "match_large": "No threshold is as accurate as the large model on the plain prompt; this is the best.",
                "target_accuracy": "No threshold reaches the target; this is the most accurate.",
                "budget": "No threshold keeps to the budget; this one escalates least.",
            }[objective]
        )
    if found.left_out:
        parts.append(f"{found.left_out} rows are left out: the large model failed there, or who was right is unknown.")
    parts.append(_NO_PROMISE)
    return " ".join(parts)
