"""Several small models, one number: a path of thresholds from strict to lax, and the cascade's record along it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.outcomes.sampling import LabelSample
from langchain_dsplus.threshold.cascade import candidate_thresholds
from langchain_dsplus.threshold.curves import Counted, Prompt, group_numbers, rows_that_count, rows_to_compare
from langchain_dsplus.threshold.differences import UnusableLarge, differences, model_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes


def coverage_path(outcomes: Outcomes, steps: int = 50) -> list[dict[str, float]]:
    """Return thresholds for each small model, step by step from strict to lax, without looking at any label.

    With several models there is no single threshold to move. Here one number moves all: at each step every model by
    itself would accept the same share of *all* inputs (its own most confident ones), and that share is such that the
    models together, asked in turn, accept 1/steps, 2/steps, ..., of the inputs. So every threshold only falls along the
    path, what one step accepts the next accepts as well, and no model's threshold depends on how sure another one is of
    what is left over. With one model it is its coverage grid.

    Equal scores stand or fall together: a threshold lies midway between distinct scores, or is infinity where a model
    accepts nothing yet. Steps that the scores cannot tell apart are merged. A row where a model fails reaches none
    after it.

    Fix the path on the fit split, and certify on another: `certify(outcomes, path=path)`.

    Args:
        outcomes: Rows with `confidence.<name>` (or `confidence`); models in the order of their columns, as asked.
        steps: How many, at least 1.

    Returns:
        At most `steps` dicts from a model's name to its threshold; empty where no row has a confidence.

    Raises:
        ValueError: If `steps` is less than 1.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [
        ...     {"small.a": "x", "confidence.a": a, "small.b": "x", "confidence.b": b, "large": "x"}
        ...     for a, b in [(0.9, 0.1), (0.7, 0.2), (0.5, 0.8), (0.3, 0.6)]
        ... ]
        >>> coverage_path(Outcomes.from_records(rows), steps=2)
        [{'a': 0.8, 'b': 0.7}, {'a': 0.6, 'b': 0.4}]
    """
    if steps < 1:
        raise ValueError("`steps` must be at least 1")
    n = len(outcomes)
    # For each row, how many rows its first willing model would have to accept by itself before it accepts this one.
    least = np.full(n, n + 1, dtype=np.int64)
    reached = np.ones(n, dtype=bool)
    grids: dict[str, tuple[Floats, NDArray[np.int64]]] = {}
    for name in model_names(outcomes):
        scores = _scores(outcomes, name)
        usable = np.isfinite(scores)
        descending = np.sort(-scores[usable])
        rank = np.searchsorted(descending, -scores[usable], side="right")
        mine = np.full(n, n + 1, dtype=np.int64)
        mine[usable] = rank
        reached &= usable
        least = np.where(reached, np.minimum(least, mine), least)
        grids[name] = candidate_thresholds(scores), np.unique(rank)
    accepted = np.sort(least[least <= n])
    if not len(accepted):
        return []
    wanted = {min(max(round(n * step / steps), 1), len(accepted)) for step in range(1, steps + 1)}
    shares = np.unique([int(accepted[place - 1]) for place in wanted]).tolist()
    return [
        {
            name: float(thresholds[np.searchsorted(counts, share, side="right")])
            for name, (thresholds, counts) in grids.items()
        }
        for share in shares
    ]


def _scores(outcomes: Outcomes, name: str) -> Floats:
    column = f"confidence.{name}"
    values = outcomes[column if column in outcomes else "confidence"]
    return np.asarray(values, dtype=np.float64)


def check_path(path: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[dict[str, float]]:
    """Return a path as plain dicts in the models' order.

    Raises:
        ValueError: If it is empty, a step does not name every model, a threshold is NaN, or one rises along the path.
    """
    if not path:
        raise ValueError("`path` is empty: it needs at least one step, as `coverage_path` makes them")
    checked: list[dict[str, float]] = []
    for place, step in enumerate(path):
        if not isinstance(step, Mapping) or set(step) != set(names):
            raise ValueError(f"step {place + 1} of `path` must name each of {list(names)}, with its threshold")
        values = {name: float(step[name]) for name in names}
        if any(math.isnan(value) for value in values.values()):
            raise ValueError(f"step {place + 1} of `path` holds NaN")
        if checked and any(values[name] > checked[-1][name] for name in names):
            raise ValueError(
                f"step {place + 1} of `path` is stricter than the one before: it must go from strict to lax"
            )
        checked.append(values)
    return checked


@dataclass(frozen=True, kw_only=True)
class PathSweep(Counted):
    """The cascade's record at every step of a path.

    Attributes:
        path: Thresholds by model, from strict to lax, m of them; the first accepts nothing.
        answers: Which model answers each row at each step, shape (m, n); -1 is the large one.
        small: Whether each small model is right, shape (models, n).
    """

    path: list[dict[str, float]]
    answers: NDArray[np.int8]
    small: Floats

    def cascade(self, place: int) -> Floats:
        """Whether the cascade is right at one of the steps, per row in the order of `rows`."""
        right = self.escalated.copy()
        for model, correct in enumerate(self.small):
            mine = self.answers[place] == model
            right[mine] = correct[mine]
        return right


def path_sweep(
    outcomes: Outcomes,
    path: Sequence[Mapping[str, float]],
    *,
    prompt: Prompt = "plain",
    unusable_large: UnusableLarge = "unknown",
) -> PathSweep:
    """Follow a path over the rows, each row through the small models in turn (Algorithm 2).

    A row counts where every small model that answered, the large model and gold are known, as in `curves.sweep`. Where
    a small model failed the row escalates at once, with the plain prompt.

    Args:
        outcomes: The table.
        path: As `coverage_path` makes it; a first step that accepts nothing is put before it.
        prompt: What escalated rows are asked.
        unusable_large: As in `certify`.

    Raises:
        ValueError: If the path does not fit, no row tells who was right, or `prompt` is unknown.
    """
    steps = [dict.fromkeys(model_names(outcomes), math.inf), *check_path(path, model_names(outcomes))]
    cascade = differences(outcomes, prompt=prompt, unusable_large=unusable_large)
    counts = rows_that_count(cascade)
    if not counts.any():
        raise ValueError(
            "`outcomes` holds no row where the small models, large and gold are all known: nothing can be compared"
        )
    known, same = rows_to_compare(outcomes, cascade, counts)
    rows = np.flatnonzero(known | same)
    none = same[rows]
    large = len(cascade.models)
    answers = np.array([np.where(who < large, who, -1) for who, _ in cascade.turns(steps, rows).walk()], dtype=np.int8)
    found = PathSweep(
        path=steps,
        accepted=(answers >= 0).sum(axis=1),
        right=np.zeros(len(steps)),
        answers=answers,
        small=np.where(none, 0.0, np.where(cascade.failed, 0.0, cascade.right[:large])[:, rows]),
        # A row that escalates has passed every model, so it met the failing one if there is one: the prompt is plain.
        escalated=np.where(none, 0.0, np.where(cascade.failed.any(axis=0), cascade.large, cascade.asked)[rows]),
        large=np.where(none, 0.0, cascade.large[rows]),
        rows=rows,
        groups=group_numbers(outcomes, rows),
        left_out=int((~(known | same)).sum()),
        sample=LabelSample.of(outcomes, np.where(known, 1.0, np.nan)).at(rows) if same.any() else None,
    )
    found.right[:] = [found.cascade(place).sum() for place in range(len(steps))]
    return found
