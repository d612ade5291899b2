"""Choosing a threshold on validation rows, the paper's way: the best there, and no promise about tomorrow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.curves import Prompt, Sweep, costs_along, known_costs, lacking, resampled_weights, sweep
from langchain_dsplus.threshold.differences import UnusableLarge, model_names
from langchain_dsplus.threshold.path import PathSweep, coverage_path, path_sweep

Objective: TypeAlias = Literal["match_large", "max_accuracy", "budget", "target_accuracy"]

_NO_PROMISE = (
    "Chosen in sight of these rows: it promises nothing about new inputs, where accuracy is often lower. "
    "The interval is for this threshold as if it had been fixed beforehand."
)


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold and what it did on the rows it was chosen on.

    Attributes:
        threshold: Accept iff confidence > threshold; infinity accepts nothing. None with several small models.
        objective: What was asked for.
        met: Whether any threshold could do that.
        coverage: Share answered locally.
        accuracy: Of the cascade; NaN where rows were chosen for labelling and this needs more labels.
        low: Lower end of its interval (percentile bootstrap).
        high: Upper end.
        large_accuracy: Of the large model alone, on the plain prompt, over the same rows.
        gain: `accuracy` - `large_accuracy`.
        gain_low: Lower end of the gain's interval (paired bootstrap).
        gain_high: Upper end.
        level: Of the intervals.
        n: Rows that count.
        left_out: Rows that do not: the large model gave no label there, or nobody knows who was right.
        note: In words, what this number does not say.
        thresholds: By small model; `{"small": threshold}` where there is one.
        cost: Money per 1,000 inputs, small side included, as `cascade.Costs` counts it; None where nobody knows what
            the large model costs.
        large_cost: The same for the large model alone, on the plain prompt.
    """

    threshold: float | None
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
    thresholds: dict[str, float]
    cost: float | None = None
    large_cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: a threshold of infinity is None, and so is an accuracy that needs more labels."""
        values = asdict(self)
        if self.threshold is not None and math.isinf(self.threshold):
            values["threshold"] = None
        values |= {name: None for name in ("accuracy", "large_accuracy") if math.isnan(values[name])}
        values["thresholds"] = {name: None if math.isinf(t) else t for name, t in self.thresholds.items()}
        return values


def choose_threshold(
    outcomes: Outcomes,
    objective: Objective = "match_large",
    *,
    budget: float | None = None,
    budget_money: float | None = None,
    target: float | None = None,
    path: Sequence[Mapping[str, float]] | None = None,
    prompt: Prompt = "plain",
    unusable_large: UnusableLarge = "unknown",
    seed: int = 0,
    bootstrap: int = 1000,
    level: float = 0.95,
) -> ThresholdChoice:
    """Choose the threshold that does best on validation rows (paper, 4.7).

    The candidates lie midway between distinct scores, with infinity (accept nothing) and the next float below the
    smallest score (accept all), so that equal scores stand or fall together and the router accepts what was accepted
    here. With several small models (`small.<name>`, `confidence.<name>`) the candidates are the steps of a path.

    Args:
        outcomes: Rows that no small model was trained on.
        objective: `match_large`: the highest coverage at which the cascade is at least as accurate as the large model.
            `max_accuracy`: the highest accuracy, and of equals the highest coverage. `budget`: the same among
            thresholds that keep to `budget` or `budget_money`. `target_accuracy`: the highest coverage at which
            the accuracy is at least `target`; where there is none, the highest accuracy, and `met` is False.
        budget: Share of inputs that may reach the large model, in [0, 1].
        budget_money: Money for 1,000 inputs, in the unit of the columns `cost_large` (`cost_large_pruned` with
            `prompt="pruned"`) and `cost_small`: the large model's cost of the rows that escalate, and the small side's
            of all rows (of several models, `cost_small.<name>` of the rows that reach it). Without a column for the
            small side that is free, and the note says so.
        target: An accuracy in [0, 1].
        path: Thresholds by model, from strict to lax, for several small models; by default `coverage_path(outcomes)`.
        prompt: What escalated rows are asked: `plain`, or `pruned`, which counts the column `large_pruned`.
        unusable_large: What a reply of the large model counts as that is no label, as in `certify`: by default such
            rows are left out.
        seed: Of the bootstrap.
        bootstrap: Resamples; 0 gives intervals of no width. Rows of one `group` are drawn together.
        level: Of the intervals.

    Raises:
        ValueError: If an argument is out of range or missing, no row tells who was right, or a row's cost is missing
            where `budget_money` needs it.

    Example:
        ```python
        choice = choose_threshold(outcomes, "match_large")
        router = ConfidenceRouter(small=small, large=chain, threshold=choice.threshold)

        cheap = choose_threshold(outcomes, "budget", budget_money=2.50)  # dollars for 1,000 inputs
        ```
    """
    _check(objective, budget=budget, budget_money=budget_money, target=target, bootstrap=bootstrap, level=level)
    found: Sweep | PathSweep
    if path is None and model_names(outcomes) == ["small"]:
        found = sweep(outcomes, prompt=prompt, unusable_large=unusable_large)
    else:
        steps = coverage_path(outcomes) if path is None else path
        found = path_sweep(outcomes, steps, prompt=prompt, unusable_large=unusable_large)
    options = found.path
    if budget_money is not None:
        known_costs(outcomes, found.rows, prompt)
    paid = costs_along(outcomes, found.rows, options, prompt)
    costs, large_cost = (None, None) if paid is None else (paid[0] * 1000.0 / found.n, paid[1] * 1000.0 / found.n)
    large = float(found.large.sum())
    lacks = found.shift()
    if objective == "target_accuracy" and lacks is not None and lacks.value is None:
        raise ValueError(
            f"a target for accuracy needs about {lacks.needed:,} more labels of rows on which the models agree: draw "
            "them with `Outcomes.to_label(agreements=)`"
        )
    level_, level_low, level_high = lacking(lacks)
    # Counts are whole numbers in float64: compare those, not quotients.
    met = True
    if objective == "match_large":
        place, met = _laxest(found, found.right >= large)
    elif objective == "target_accuracy":
        assert target is not None
        place, met = _laxest(found, found.right + level_ * found.n >= target * found.n - 1e-9)
    elif objective == "budget" and budget is not None:
        place, met = _best(found, found.n - found.accepted <= budget * found.n + 1e-9)
    elif objective == "budget":
        assert budget_money is not None
        assert costs is not None
        place, met = _best(found, costs <= budget_money * (1.0 + 1e-12))
    else:
        place, met = _best(found, np.ones(len(found.right), dtype=bool))
    (low, high), (gain_low, gain_high) = _intervals(found.cascade(place), found, seed, bootstrap, level)
    accuracy = float(found.right[place]) / found.n
    free = budget_money is not None and not any(name.startswith("cost_small") for name in outcomes.columns)
    return ThresholdChoice(
        threshold=options[place]["small"] if list(options[place]) == ["small"] else None,
        objective=objective,
        met=met,
        coverage=int(found.accepted[place]) / found.n,
        accuracy=accuracy + level_,
        low=max(low + level_low, 0.0),
        high=min(high + level_high, 1.0),
        large_accuracy=large / found.n + level_,
        gain=accuracy - large / found.n,
        gain_low=gain_low,
        gain_high=gain_high,
        level=level,
        n=found.n,
        left_out=found.left_out,
        note=_note(objective, met=met, left_out=found.left_out, free=free, needed=0 if lacks is None else lacks.needed),
        thresholds=dict(options[place]),
        cost=None if costs is None else float(costs[place]),
        large_cost=large_cost,
    )


def _check(
    objective: str,
    *,
    budget: float | None,
    budget_money: float | None,
    target: float | None,
    bootstrap: int,
    level: float,
) -> None:
    if objective not in ("match_large", "max_accuracy", "budget", "target_accuracy"):
        raise ValueError(
            f"`objective` must be 'match_large', 'max_accuracy', 'budget' or 'target_accuracy', not {objective!r}"
        )
    for name, value, wanted in (
        ("budget", budget, "budget"),
        ("budget_money", budget_money, "budget"),
        ("target", target, "target_accuracy"),
    ):
        if value is not None and objective != wanted:
            raise ValueError(f"`{name}` goes with objective {wanted!r}, and with no other")
    if objective == "budget" and (budget is None) == (budget_money is None):
        raise ValueError(
            "objective 'budget' needs one of `budget` (a share of calls) and `budget_money` (per 1,000 inputs)"
        )
    if objective == "target_accuracy" and target is None:
        raise ValueError("objective 'target_accuracy' needs `target`")
    for name, value in (("budget", budget), ("target", target)):
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"`{name}` must lie in [0, 1]")
    if budget_money is not None and not 0.0 <= budget_money < math.inf:
        raise ValueError("`budget_money` must be a finite number, at least 0")
    if bootstrap < 0 or not 0.0 < level < 1.0:
        raise ValueError("`bootstrap` must be at least 0, and `level` lie between 0 and 1")


def _laxest(found: Sweep | PathSweep, allowed: Any) -> tuple[int, bool]:
    places = np.flatnonzero(allowed)
    if len(places):
        return int(places[-1]), True
    return _best(found, np.ones(len(found.right), dtype=bool))[0], False


def _best(found: Sweep | PathSweep, allowed: Any) -> tuple[int, bool]:
    """The most accurate of those allowed, the laxest of equals; if none is, the laxest of all."""
    if not allowed.any():
        return len(found.right) - 1, False
    right = np.where(allowed, found.right, -1.0)
    return int(np.flatnonzero(right == right.max())[-1]), True


def _intervals(
    cascade: Floats, found: Sweep | PathSweep, seed: int, bootstrap: int, level: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile bootstrap over rows, or over groups of rows."""
    if not bootstrap:
        return (float(cascade.mean()),) * 2, (float((cascade - found.large).mean()),) * 2
    n = found.n
    kinds = (2 * cascade + found.large).astype(np.intp)  # four: who of the two is right
    if found.groups is None:
        # A resample of rows is then one multinomial draw.
        draws = np.random.default_rng(seed).multinomial(n, np.bincount(kinds, minlength=4) / n, size=bootstrap) / n
    else:
        weights = resampled_weights(n, found.groups, seed=seed, bootstrap=bootstrap)
        draws = np.array([np.bincount(kinds, weights=w, minlength=4) / w.sum() for w in weights])
    tails = [(1 - level) / 2, (1 + level) / 2]
    accuracy = np.quantile(draws[:, 2] + draws[:, 3], tails)
    gain = np.quantile(draws[:, 2] - draws[:, 1], tails)
    return (float(accuracy[0]), float(accuracy[1])), (float(gain[0]), float(gain[1]))


def _note(objective: str, *, met: bool, left_out: int, free: bool, needed: int) -> str:
    parts = []
    if needed:
        parts.append(f"How accurate each is needs about {needed:,} more labels; the difference between them does not.")
    if not met:
        parts.append(
            {
                "match_large": "No threshold is as accurate as the large model on the plain prompt; this is the best.",
                "target_accuracy": "No threshold reaches the target; this is the most accurate.",
                "budget": "No threshold keeps to the budget; this one escalates least.",
            }[objective]
        )
    if left_out:
        parts.append(f"{left_out} rows are left out: the large model gave no label there, or who was right is unknown.")
    if free:
        parts.append("The small side counts as free: there is no column `cost_small`.")
    parts.append(_NO_PROMISE)
    return " ".join(parts)
