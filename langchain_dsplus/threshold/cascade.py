"""Who answers each row of a cascade (Algorithm 2), and what that costs: the one place where tables are followed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from langchain_dsplus._arrays import Floats, Places

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_dsplus.outcomes import Outcomes


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
class Turn:
    """Rows that one small model begins to be sure of, at some step, while no model before it is sure by then.

    Attributes:
        model: Which.
        rows: Shape (k,).
        step: When that begins, shape (k,).
        before: Who answered until then, shape (k,).
        after: Who answers from then on, shape (k,); until a model before it becomes sure.
    """

    model: int
    rows: Places
    step: Places
    before: Places
    after: Places


class Turns:
    """Who answers each row at every step of a path of thresholds, from strict to lax.

    Who answers is a number: a small model's place; M, the large model; or M + 1, the large model with its plain prompt,
    since a small model failed. A row goes from model to model. The first whose confidence is above its threshold,
    strictly, answers; is its choice one that must never stay local, the row escalates at once. So it does at the first
    model that failed.

    Args:
        confidence: Of M small models, shape (M, n); minus infinity where one failed or named an unknown label.
        barred: Whether its choice must never stay local, shape (M, n).
        thresholds: Shape (T, M), each column falling or level.

    Example:
        >>> turns = Turns([[0.9, 0.4, -np.inf]], [[False, False, False]], [[0.5], [0.3]])
        >>> turns.at(0).tolist(), turns.at(1).tolist()
        ([0, 1, 2], [0, 0, 2])
    """

    def __init__(self, confidence: ArrayLike, barred: ArrayLike, thresholds: ArrayLike) -> None:
        scores = np.asarray(confidence, dtype=np.float64)
        limits = np.asarray(thresholds, dtype=np.float64).reshape(-1, len(scores))
        self.models, self.n = scores.shape
        self.steps = len(limits)
        self.barred = np.asarray(barred, dtype=bool)
        self.asked = np.ones(scores.shape, dtype=bool)
        """Rows on which no model before this one failed, shape (M, n)."""
        self.first = np.full(scores.shape, self.steps, dtype=np.intp)
        """The first step at which each model is sure, shape (M, n); T where it never is, or is never asked."""
        alive = np.ones(self.n, dtype=bool)
        for place, score in enumerate(scores):
            self.asked[place] = alive
            alive &= ~np.isneginf(score)
            # How many thresholds are not below the score: the strict comparison, as the router makes it.
            self.first[place] = np.where(alive, np.searchsorted(-limits[:, place], -score, side="right"), self.steps)
        self.base = np.where(alive, self.models, self.models + 1)
        """Who answers where no model is sure, shape (n,)."""
        self.taker = np.where(self.barred, self.models, np.arange(self.models, dtype=self.base.dtype)[:, None])
        """Who answers where a model is sure, shape (M, n)."""

    def at(self, step: int) -> Places:
        """Return who answers at one step, shape (n,)."""
        who: Places = self.base
        for place in range(self.models - 1, -1, -1):
            who = np.where(self.first[place] <= step, self.taker[place], who)
        return who

    @cached_property
    def changes(self) -> tuple[Turn, ...]:
        """Where who answers changes along the path, by model."""
        found = []
        for place in range(self.models):
            taken = (self.first[:place] <= self.first[place]).any(axis=0)
            rows = np.flatnonzero((self.first[place] < self.steps) & ~taken)
            step = self.first[place, rows]
            before = self.base[rows]
            for later in range(self.models - 1, place, -1):
                before = np.where(self.first[later, rows] < step, self.taker[later, rows], before)
            found.append(Turn(place, rows, step, before, self.taker[place, rows]))
        return tuple(found)

    def walk(self) -> Iterator[tuple[Places, Places]]:
        """Yield at every step who answers, shape (n,), and on which rows another than before; at first on all.

        It is one array, changed from step to step.
        """
        step, rows, after = (
            np.concatenate([getattr(turn, name) for turn in self.changes]) for name in ("step", "rows", "after")
        )
        small = self.steps < 2**16  # numbers of two bytes are sorted without comparing them
        order = np.argsort(step.astype(np.uint16 if small else np.int64), kind="stable")
        starts = np.searchsorted(step[order], np.arange(self.steps + 1)).tolist()
        who, every = self.base.copy(), np.arange(self.n)
        for start, stop in itertools.pairwise(starts):
            changed = order[start:stop]
            who[rows[changed]] = after[changed]
            yield who, every if not start else rows[changed]


@dataclass(frozen=True)
class Costs:
    """What each row of a table would pay, in the unit of its columns.

    `cost_small` is paid by every row; `cost_small.<name>` by those that reach that model; the large model by those that
    escalate: `cost_large_pruned` with the pruned prompt, `cost_large` with the plain one, which a row gets whose small
    model failed, too. A cost that is not known is the mean of those that are, in its column; a small side without a
    column is free. Without what the large model costs, its calls are counted instead, and nothing else is.

    Attributes:
        always: Shape (n,).
        each: Of the small models, shape (M, n).
        asked: Of the large model when it is asked, shape (n,).
        plain: Of the large model with the plain prompt, shape (n,).
        money: Whether the table knows what the large model costs.
        gaps: Columns in which costs are missing, and in how many rows.
    """

    always: Floats
    each: Floats
    asked: Floats
    plain: Floats
    money: bool
    gaps: dict[str, int]

    @classmethod
    def of(cls, outcomes: Outcomes, names: Sequence[str], prompt: Literal["plain", "pruned"] = "plain") -> Costs:
        """Read the costs of a table."""
        n, gaps = len(outcomes), {}
        free = np.zeros(n)

        def column(name: str) -> Floats | None:
            if name not in outcomes:
                return None
            cost = np.asarray(outcomes[name], dtype=np.float64)
            known = ~np.isnan(cost)
            if not known.any():
                return None
            if not known.all():
                gaps[name] = int((~known).sum())
            return np.where(known, cost, cost[known].mean())

        plain = column("cost_large")
        asked = plain if prompt == "plain" else column("cost_large_pruned")
        if plain is None or asked is None:
            ones = np.ones(n)
            return cls(free, np.zeros((len(names), n)), ones, ones, money=False, gaps={})
        always = column("cost_small")
        several = list(names) != ["small"]
        each = [column(f"cost_small.{name}") if several else None for name in names]
        return cls(
            free if always is None else always,
            np.stack([free if cost is None else cost for cost in each]),
            asked,
            plain,
            money=True,
            gaps=gaps,
        )

    def take(self, rows: Any) -> Costs:
        """Return those of some rows: a mask, or their numbers."""
        return Costs(
            self.always[rows], self.each[:, rows], self.asked[rows], self.plain[rows], money=self.money, gaps=self.gaps
        )

    def paid(self, turns: Turns, step: int) -> Floats:
        """Return what each row pays at one step, shape (n,)."""
        large = np.vstack([np.zeros((turns.models, turns.n)), self.asked, self.plain])
        costs: Floats = self.always + large[turns.at(step), np.arange(turns.n)]
        left = np.ones(turns.n, dtype=bool)
        for place in range(turns.models):
            costs += np.where(left & turns.asked[place], self.each[place], 0.0)
            left &= turns.first[place] > step
        return costs

    def along(self, turns: Turns) -> Floats:
        """Return what all rows together pay at every step, shape (T,): the sum of `paid`, at once."""
        large = np.vstack([np.zeros((turns.models, turns.n)), self.asked, self.plain])
        begin = float(self.always.sum() + large[turns.base, np.arange(turns.n)].sum())
        changed = np.zeros(turns.steps + 1)
        for turn in turns.changes:
            by = large[turn.after, turn.rows] - large[turn.before, turn.rows]
            changed += np.bincount(turn.step, weights=by, minlength=turns.steps + 1)
        stop = np.full(turns.n, turns.steps, dtype=np.intp)  # from this step on a model before keeps the row
        for place in range(turns.models):
            paying = np.where(turns.asked[place], self.each[place], 0.0)
            begin += float(paying.sum())
            changed -= np.bincount(stop, weights=paying, minlength=turns.steps + 1)
            stop = np.minimum(stop, turns.first[place])
        total: Floats = np.maximum(begin + np.cumsum(changed[:-1]), 0.0)
        return total
