"""What `certify` tests at every step: all rows, the named slices, and under a floor every class with enough rows."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._arrays import Bools, Numbers
from langchain_dsplus.losses import points
from langchain_dsplus.threshold.cascade import Costs
from langchain_dsplus.threshold.certificate import Step, TestResult
from langchain_dsplus.threshold.classes import Classes
from langchain_dsplus.threshold.clusters import check_groups, clustered_p_value, clustered_upper_bound
from langchain_dsplus.threshold.differences import Differences
from langchain_dsplus.threshold.exact import count_significant, least_rows, loss_upper_bound, paired_p_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes


_CLASS = "class="


class Hypothesis:
    """The null hypothesis about some rows, and their groups where they do not count singly.

    Of `max_loss`, `hidden` is taken up by harms that these rows may not show; the test is about the rest.
    """

    def __init__(self, rows: Bools, groups: Numbers | None, max_loss: float, hidden: float = 0.0) -> None:
        self.rows = rows
        self.max_loss = max_loss
        self.hidden = hidden
        self.n = int(rows.sum())
        self.harms: list[int] = []
        self.gains: list[int] = []
        self.sums: list[Any] = []
        self.codes: Any = None
        self.sizes: Any = None
        self.refused: str | None = None
        if not self.n:
            raise ValueError("a named slice has no row left to test")
        if hidden >= max_loss:
            self.refused = (
                f"the judge may hide {points(hidden)} of loss: label more outputs for its `calibrate`, or take a judge "
                "that is wrong more seldom"
            )
        if groups is None:
            return
        _, codes = np.unique(groups[rows], return_inverse=True)
        sizes = np.bincount(codes)
        if sizes.max() > 1:
            self.codes, self.sizes = codes, sizes
            try:
                check_groups(sizes)
            except ValueError as error:
                self.refused = str(error)

    def anew(self) -> Hypothesis:
        """The same without any step."""
        fresh = copy.copy(self)
        fresh.harms, fresh.gains, fresh.sums = [], [], []
        return fresh

    def add(self, loss: NDArray[np.int8]) -> None:
        """One more step: every row's loss there."""
        mine = loss[self.rows]
        self.harms.append(int((mine > 0).sum()))
        self.gains.append(int((mine < 0).sum()))
        if self.codes is not None:
            self.sums.append(np.bincount(self.codes, weights=mine))

    def leading(self, alpha: float) -> int:
        """How many steps pass before the first that fails."""
        if self.refused:
            return 0
        if self.codes is None:
            return count_significant(self.harms, self.gains, self.n, self.max_loss - self.hidden, alpha)
        for place in range(len(self.harms)):
            if (self.result(place).p_value or 0.0) > alpha:
                return place
        return len(self.harms)

    def result(self, place: int) -> TestResult:
        """The test at one step."""
        harms, gains = self.harms[place], self.gains[place]
        p: Any
        if self.refused:
            p = 1.0
        elif self.codes is None:  # an exact p-value takes long, and most are never looked at
            p = partial(paired_p_value, harms, gains, self.n, self.max_loss - self.hidden)
        else:
            p = clustered_p_value(self.sums[place], self.sizes, self.max_loss - self.hidden)
        return TestResult(harms, gains, self.n, p)

    def upper(self, place: int, alpha: float) -> float | None:
        """An upper confidence bound of the loss at one step, hidden harms included."""
        if self.refused:
            return None
        if self.codes is not None:
            seen = clustered_upper_bound(self.sums[place], self.sizes, 1.0 - alpha)
        else:
            seen = loss_upper_bound(self.harms[place], self.gains[place], self.n, 1.0 - alpha)
        return min(seen + self.hidden, 1.0)


class Hypotheses:
    """Everything that must be shown at a step, so that the step passes.

    Args:
        outcomes: The rows that certify.
        max_loss: What all of them together, and each named slice, may lose.
        slices: As in `certify`.
        groups: A number for each row's group; None where rows count singly.
        draw: The rows drawn from the groups, where one stands for each; None where all count.
        hidden: Share of all rows whose harm a judge may hide.

    Attributes:
        whole: About all rows.
        named: The slices, by name.
        classes: The classes that have rows enough to be tested against the floor, by name.
        few: How many rows each other class has.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        max_loss: float,
        *,
        slices: Sequence[str] = (),
        groups: Numbers | None = None,
        draw: Bools | None = None,
        hidden: float = 0.0,
    ) -> None:
        self._groups, self._draw, self._hidden = groups, draw, hidden
        self.whole = self._about(np.ones(len(outcomes), dtype=bool), max_loss)
        self.named = {name: self._about(mask, max_loss) for name, mask in _masks(outcomes, slices).items()}
        self.classes: dict[str, Hypothesis] = {}
        self.few: dict[str, int] = {}
        self.floor: float | None = None

    def _about(self, mask: Bools, limit: float) -> Hypothesis:
        if self._draw is None:
            return Hypothesis(mask, self._groups, limit, self._hidden)
        return Hypothesis(mask & self._draw, None, limit, self._hidden)

    def add_classes(self, outcomes: Outcomes, floor: float, alpha: float) -> None:
        """Test every class that has rows enough to show that it loses less than `floor`."""
        self.floor = floor
        classes = Classes.of(outcomes)
        for code, name in enumerate(classes.names):
            mask = classes.codes == code
            n = int((mask if self._draw is None else mask & self._draw).sum())
            one = self._about(mask, floor) if n >= least_rows(floor, 1.0 - alpha) else None
            if one is None or one.refused:
                self.few[name] = n
            else:
                self.classes[name] = one

    @property
    def covered(self) -> dict[str, int]:
        """How many rows each tested class has."""
        return {name: one.n for name, one in self.classes.items()}

    def without_classes(self) -> Hypotheses:
        """The same without a floor and without any step."""
        fresh = copy.copy(self)
        fresh.whole, fresh.named = self.whole.anew(), {name: one.anew() for name, one in self.named.items()}
        fresh.classes, fresh.few, fresh.floor = {}, {}, None
        return fresh

    def __iter__(self) -> Iterator[Hypothesis]:
        yield from (self.whole, *self.named.values(), *self.classes.values())

    def passed(self, alpha: float) -> int:
        """How many steps pass before the first that fails; none where a floor would be promised for no class."""
        return 0 if self.floor is not None and not self.classes else min(one.leading(alpha) for one in self)

    def mark(self, records: list[Step], passed: int) -> None:
        """Write the tests into the steps that passed, and into the one after them, which failed."""
        beside = {**self.named, **{f"{_CLASS}{name}": one for name, one in self.classes.items()}}
        for place in range(min(passed + 1, len(records))):
            results = {name: one.result(place) for name, one in beside.items()}
            records[place] = replace(
                records[place],
                # Counted when it is read.
                p_value=partial(_largest, [self.whole.result(place), *results.values()]),  # type: ignore[arg-type]
                passed=place < passed,
                tests=results,
            )

    def refused(self, alpha: float, passed: int, idle: int) -> str | None:
        """Why nothing could be certified, where that is known."""
        reason = next((one.refused for one in self if one.refused), None)
        if self.floor is None:
            return reason
        if not self.classes:
            return (
                f"no class has the {least_rows(self.floor, 1.0 - alpha):,} rows that show a loss below "
                f"{points(self.floor)}, so `class_floor` would promise nothing"
            )
        if passed == idle and self.whole.leading(alpha) > passed:
            for name, one in self.classes.items():
                if one.leading(alpha) == passed:
                    return reason or (
                        f"class {name!r} could not be shown to lose less than {points(self.floor)} at any threshold "
                        f"(n = {one.n:,})"
                    )
        return reason


def _masks(outcomes: Outcomes, slices: Sequence[str]) -> dict[str, Bools]:
    """The rows of every named slice."""
    masks: dict[str, Bools] = {}
    wanted = [slices] if isinstance(slices, str) else list(slices)
    if not wanted:
        return masks
    if "slices" not in outcomes:
        raise ValueError('`slices` needs the column \'slices\': a dict per row, such as {"language": "de"}')
    kept = [value or {} for value in outcomes.values("slices")]
    for name in wanted:
        key, equals, value = str(name).partition("=")
        values = {str(row[key]) for row in kept if row.get(key) is not None}
        if (not equals and not values) or (equals and value not in values):
            raise ValueError(f"no row of `outcomes` is in slice {name!r}")
        for one in [value] if equals else sorted(values):
            row_in = (row.get(key) is not None and str(row[key]) == one for row in kept)
            masks[f"{key}={one}"] = np.fromiter(row_in, dtype=bool, count=len(kept))
    return masks


def draw_rows(groups: Numbers, seed: int) -> Bools:
    """One row of each group, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[first]] = True
    return mask


def _disagreeing(outcomes: Outcomes, found: Differences) -> list[Bools] | None:
    """By small model, the rows that it answers otherwise than the large one; None where an answer is no column."""
    several = len(found.models) > 1 or f"confidence.{found.models[0].name}" in outcomes
    columns = [f"small.{model.name}" if several else "small" for model in found.models]
    if "large" not in outcomes or any(column not in outcomes for column in columns):
        return None
    return [~outcomes.agree(column, "large") for column in columns]


def _largest(results: Iterable[TestResult]) -> float:
    return max(result.p_value or 0.0 for result in results)


def walk(
    outcomes: Outcomes,
    found: Differences,
    sequence: Sequence[dict[str, float]],
    hypotheses: Hypotheses,
) -> list[Step]:
    """Count harms, gains, disagreements and costs at every step."""
    whole = hypotheses.whole
    models, loss = len(found.models), np.zeros(found.n, dtype=np.int8)
    disagreeing = _disagreeing(outcomes, found)
    names = [model.name for model in found.models]
    costs = Costs.of(outcomes, names, found.prompt).take(whole.rows).along(found.turns(sequence, whole.rows))
    records = []
    for place, (who, changed) in enumerate(found.turns(sequence).walk()):
        loss[changed] = found.loss[who[changed], changed]
        for hypothesis in hypotheses:
            hypothesis.add(loss)
        mine = (who < models)[whole.rows]
        differing = None
        if disagreeing is not None:
            differing = sum(int((other & (who == m) & whole.rows).sum()) for m, other in enumerate(disagreeing))
        records.append(
            Step(
                thresholds=dict(sequence[place]),
                coverage=float(mine.mean()),
                accepted=int(mine.sum()),
                harms=whole.harms[-1],
                gains=whole.gains[-1],
                p_value=None,
                passed=False,
                cost=float(costs[place]) / whole.n,
                disagreements=differing,
            )
        )
    return records
