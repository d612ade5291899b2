"""The numbers of the report: what every threshold of a grid gives, in all and for each class and slice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._arrays import Bools, Floats, Places
from langchain_dsplus.calibration import ReliabilityBin, bin_places, reliability_bins
from langchain_dsplus.outcomes.sampling import Estimate, LabelSample, Rates, rates
from langchain_dsplus.threshold.cascade import Costs, Turn, Turns, candidate_thresholds
from langchain_dsplus.threshold.curves import Prompt, accuracy_interval, group_numbers
from langchain_dsplus.threshold.differences import UnusableLarge, differences
from langchain_dsplus.threshold.exact import loss_interval
from langchain_dsplus.threshold.path import coverage_path

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_dsplus.outcomes import Outcomes


MAX_THRESHOLDS = 500


@dataclass(frozen=True)
class Rows:
    """What the report needs of each row; M small models, n rows.

    Whoever answers is a number, as in `cascade.Turns`: a small model's place, or M for the large model, or M + 1 for
    the large model with its plain prompt since a small model failed.

    Attributes:
        names: Of the small models, in the order they are asked.
        confidence: Shape (M, n); -inf where the model failed.
        barred: Whether its choice always escalates, shape (M, n).
        loss: Against the large model on the plain prompt, -1, 0 or +1, by who answers, shape (M + 2, n).
        guessed: Whether that loss is +1 only since nobody knows who is right, shape (M + 2, n).
        right: Whether that answer is right, 1 or 0, NaN unknown, shape (M + 2, n).
        known: Rows where it is known who is right, whoever answers, shape (n,).
        compared: Rows on which the large model gave a label, shape (n,): accuracies are over those of them that are
            known.
        groups: Number of each row's group, shape (n,); None where every row stands for itself.
        sample: How these rows came to have gold or not, shape (n,); labelled are the known ones.
    """

    names: list[str]
    confidence: Floats
    barred: Bools
    loss: Floats
    guessed: Bools
    right: Floats
    known: Bools
    compared: Bools
    groups: Places | None
    sample: LabelSample

    def __len__(self) -> int:
        return len(self.known)

    @property
    def census(self) -> bool:
        """Whether it is known who is right wherever that can be compared."""
        return bool(self.known[self.compared].all())

    @property
    def large(self) -> Floats:
        """Whether the large model is right on the plain prompt, NaN unknown, shape (n,)."""
        large: Floats = self.right[-1]
        return large

    @property
    def failed(self) -> Bools:
        """Rows that a small model failed on, shape (n,)."""
        failed: Bools = np.asarray(np.isneginf(self.confidence).any(axis=0))
        return failed

    def turns(self, thresholds: Floats) -> Turns:
        """Follow the rows along a grid of thresholds, shape (T, M)."""
        return Turns(self.confidence, self.barred, thresholds)


def read_rows(
    outcomes: Outcomes,
    *,
    prompt: Prompt = "plain",
    never_local: Sequence[str] = (),
    unusable_large: UnusableLarge = "unknown",
    level: float = 0.95,
) -> Rows:
    """Take from the table what the report shows; losses are those of `threshold.differences`.

    Args:
        outcomes: The table.
        prompt: What escalated rows are asked: `plain`, or `pruned`, which takes the column `large_pruned`.
        never_local: Labels of the small model that always escalate.
        unusable_large: As in `certify`.
        level: Of intervals of accuracies.

    Raises:
        ValueError: If the table has no rows, or lacks a column, or rows without gold were taken out of it.
    """
    found = differences(outcomes, never_local=never_local, prompt=prompt, unusable_large=unusable_large)
    n, models = found.n, found.models
    barred = np.stack([model.barred for model in models])
    # Nobody asks a failed model, nor any after it, nor the pruned prompt then.
    reached = np.logical_and.accumulate(~found.failed, axis=0)
    escalates = reached[-1] | (barred & reached).any(axis=0)
    needed = np.vstack([reached & ~barred, escalates, np.ones(n, dtype=bool)])
    known = ~(np.isnan(found.right) & needed).any(axis=0)
    return Rows(
        names=[model.name for model in models],
        confidence=np.stack([model.confidence for model in models]),
        barred=barred,
        loss=found.loss.astype(np.float64),
        guessed=found.unlabeled,
        right=found.right,
        known=known,
        compared=found.compared,
        groups=group_numbers(outcomes, np.arange(n)),
        sample=LabelSample.of(outcomes, np.where(known, 1.0, np.nan), level=level),
    )


def model_column(outcomes: Outcomes, name: str) -> str:
    """The column of a small model's answers."""
    return "small" if name == "small" and "confidence" in outcomes else f"small.{name}"


# --- the grid -------------------------------------------------------------------------------------------------------


def threshold_grid(
    outcomes: Outcomes, rows: Rows, wanted: ArrayLike | None = None, *, limit: int = MAX_THRESHOLDS
) -> Floats:
    """Return the thresholds that the slider stops at, from strict to lax, shape (T, M); T <= `limit` + 1 + wanted ones.

    With one small model: infinity, then those midway between distinct scores, thinned to equal steps of coverage. With
    several: infinity, then `wanted`, or where there are none the steps of `coverage_path`.

    Args:
        outcomes: The table.
        rows: From `read_rows`.
        wanted: Thresholds that must be there, shape (k, M), such as a certificate's.
        limit: At most so many of the rest.
    """
    models = len(rows.names)
    extra = np.empty((0, models)) if wanted is None else np.asarray(wanted, dtype=np.float64).reshape(-1, models)
    if models > 1:  # a path is an order: another one beside it has no place on the same slider
        if not len(extra):
            steps = coverage_path(outcomes, min(limit, 100))
            extra = np.array([[step[name] for name in rows.names] for step in steps]).reshape(-1, models)
        rest = np.full((1, models), math.inf)
    else:
        score = rows.confidence[0][np.isfinite(rows.confidence[0])]
        rest = candidate_thresholds(score)[:, None]
        ordered = np.sort(-score)
        accepted = np.searchsorted(ordered, -rest[:, 0], side="left")
        # Where two thresholds accept the same rows here, the certificate's is shown.
        rest = rest[~np.isin(accepted, np.searchsorted(ordered, -extra[:, 0], side="left")) | np.isinf(rest[:, 0])]
        if len(rest) > limit:
            accepted = np.searchsorted(ordered, -rest[:, 0], side="left")
            rest = rest[np.unique(np.searchsorted(accepted, np.linspace(0, accepted[-1], limit), side="left"))]
    return np.unique(np.vstack([rest, extra]), axis=0)[::-1]


@dataclass(frozen=True)
class Tally:
    """What each threshold gives; every array has shape (T,), from strict to lax.

    Attributes:
        thresholds: Shape (T, M).
        n: Rows that count.
        known: Of them, rows where it is known who is right.
        compared: Rows on which the large model gave a label.
        accepted: Rows that a small model answers.
        harms: Rows that the cascade gets wrong and the large model alone right (unknown ones count as such).
        gains: The other way round.
        guessed: Rows among `harms` that count as such only for lack of gold.
        right: Rows among `known` that the cascade gets right.
        large: Rows among `known` that the large model alone gets right (a number).
        cost: Money per 1,000 inputs, small models included; None where the table holds no cost.
        large_cost: The same for the large model alone.
        levels: Accuracy over all compared rows at each threshold, where it is not known of some who is right; else
            None.
        large_level: The same for the large model alone.
    """

    thresholds: Floats
    n: int
    known: int
    compared: int
    accepted: Places
    harms: Places
    gains: Places
    guessed: Places
    right: Places
    large: int
    cost: Floats | None
    large_cost: float | None
    levels: Rates | None
    large_level: Estimate | None

    @property
    def accuracy(self) -> Floats:
        """Of the cascade over the rows that can be compared."""
        if self.levels is not None:
            return self.levels.value
        result: Floats = self.right / max(self.known, 1)
        return result

    @property
    def large_accuracy(self) -> float:
        """Of the large model alone over the same rows; NaN where it needs more labels."""
        if self.large_level is not None:
            return math.nan if self.large_level.value is None else self.large_level.value
        return self.large / max(self.known, 1)

    @property
    def has_accuracy(self) -> bool:
        """Whether accuracies are known, and well enough at every threshold to be shown."""
        if self.levels is None or self.large_level is None:
            return self.known > 0
        return bool(self.levels.known.all()) and self.large_level.known

    @property
    def coverage(self) -> Floats:
        """Share accepted."""
        result: Floats = self.accepted / self.n
        return result

    @property
    def loss(self) -> Floats:
        """(harms - gains) / n."""
        result: Floats = (self.harms - self.gains) / self.n
        return result


def tally(outcomes: Outcomes, rows: Rows, thresholds: Floats, *, prompt: Prompt = "plain") -> Tally:
    """Count what each threshold gives."""
    steps, every = len(thresholds), np.arange(len(rows))
    turns = rows.turns(thresholds)
    base = turns.base
    loss = rows.loss[base, every]
    begin = {
        "accepted": 0,
        "harms": int((loss > 0).sum()),
        "gains": int((loss < 0).sum()),
        "guessed": int(rows.guessed[base, every].sum()),
        "right": int(rows.right[base, every][rows.known].sum()),
    }
    moved = {name: np.zeros(steps) for name in begin}
    for event in turns.changes:
        for name, values in _changes(rows, event).items():
            moved[name] += np.bincount(event.step, weights=values, minlength=steps)
    counts = {name: np.rint(begin[name] + np.cumsum(moved[name])).astype(np.intp) for name in begin}
    levels, large_level = accuracies(rows, turns, rows.compared)
    costs, scale = Costs.of(outcomes, rows.names, prompt), 1000.0 / len(rows)
    plain = float(costs.plain.sum())
    return Tally(
        thresholds=thresholds,
        n=len(rows),
        known=int(rows.known.sum()),
        compared=int(rows.compared.sum()),
        large=int(rows.large[rows.known].sum()),
        cost=scale * _rounded(costs.along(turns), plain) if costs.money else None,
        large_cost=scale * plain if costs.money else None,
        levels=levels,
        large_level=large_level,
        **counts,
    )


def _rounded(costs: Floats, whole: float) -> Floats:
    """What is nothing but the rounding of a sum is 0."""
    return np.where(np.abs(costs) < 1e-12 * whole, 0.0, costs)


def accuracies(rows: Rows, turns: Turns, inside: Bools) -> tuple[Rates | None, Estimate | None]:
    """How often the cascade is right at each threshold, and the large model alone, from the rows with gold.

    None where it is known of all rows, or of none.

    Args:
        rows: All rows.
        turns: Along the thresholds.
        inside: Which of the compared rows count, shape (n,).
    """
    mine, every = inside & rows.compared, np.arange(len(rows))
    if rows.census or not rows.known.any() or not mine.any():
        return None, None
    steps, base = turns.steps, turns.base
    names = np.unique(rows.sample.strata[mine])
    parts = [mine & (rows.sample.strata == name) for name in names]
    known = [part & rows.known for part in parts]
    begin = np.array([rows.right[base, every][part].sum() for part in known])
    moved = np.zeros((steps, len(names)))
    for event in turns.changes:
        right = _changes(rows, event)["right"]
        for place, part in enumerate(known):
            moved[:, place] += np.bincount(event.step, weights=np.where(part[event.rows], right, 0.0), minlength=steps)
    right = np.rint(begin + np.cumsum(moved, axis=0))

    def repeated(counts: Sequence[int]) -> Floats:
        return np.tile(np.array(counts, dtype=np.float64), (steps, 1))

    found = rates(
        repeated([int(part.sum()) for part in parts]),
        repeated([int(part.sum()) for part in known]),
        right,
        repeated([int((part & rows.sample.skipped).sum()) for part in parts]),
        level=rows.sample.level,
    )
    return found, rows.sample.within(mine).rate(rows.large[mine])


def _changes(rows: Rows, event: Turn) -> dict[str, Floats]:
    at, before, after, models = event.rows, event.before, event.after, len(rows.names)
    old, new = rows.loss[before, at], rows.loss[after, at]
    right = np.where(rows.known[at], rows.right[after, at] - rows.right[before, at], 0.0)
    return {
        "accepted": (after < models).astype(np.float64) - (before < models),
        "harms": (new > 0).astype(np.float64) - (old > 0),
        "gains": (new < 0).astype(np.float64) - (old < 0),
        "guessed": rows.guessed[after, at].astype(np.float64) - rows.guessed[before, at],
        "right": right,
    }


# --- classes and slices ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One class or slice: counts before the first step, and how each step changes them.

    Attributes:
        name: Of the class, or `key=value` of the slice.
        n: Rows.
        known: Of them, rows where it is known who is right.
        large: Of those, rows that the large model alone gets right.
        begin: accepted, harms, gains, right with nothing accepted.
        change: What each step adds to the four, shape (4, T).
        levels: As in `Tally`, where some rows lack gold; else None.
        large_level: Likewise.
    """

    name: str
    n: int
    known: int
    large: int
    begin: tuple[int, int, int, int]
    change: Places
    levels: Rates | None = None
    large_level: Estimate | None = None

    def accuracy(self, step: int) -> Estimate | None:
        """Of the cascade at a step; None where nothing is known."""
        if self.levels is not None:
            return self.levels.at(step)
        return None


_MEASURES = ("accepted", "harms", "gains", "right")


def parts(rows: Rows, thresholds: Floats, members: Mapping[str, Places]) -> list[Part]:
    """Count each class or slice. `members`: row numbers by name; a row may be in several."""
    steps, every, turns = len(thresholds), np.arange(len(rows)), rows.turns(thresholds)
    base = turns.base
    names = list(members)
    if not names:
        return []
    # One entry for each pair of a row and a part that it is in, grouped by part.
    row = np.concatenate([members[name] for name in names])
    part = np.repeat(np.arange(len(names)), [len(members[name]) for name in names])
    change = np.zeros((4, len(names) * steps))
    for event in turns.changes:
        where = np.full(len(rows), -1, dtype=np.intp)
        where[event.rows] = np.arange(len(event.rows))
        index = where[row]
        hit = index >= 0
        cell = part[hit] * steps + event.step[index[hit]]
        values = _changes(rows, event)
        for place, name in enumerate(_MEASURES):
            change[place] += np.bincount(cell, weights=values[name][index[hit]], minlength=change.shape[1])
    found = np.rint(change).astype(np.intp).reshape(4, len(names), steps)

    def count(mask: Any) -> list[int]:
        counts = np.bincount(part, weights=np.asarray(mask, dtype=np.float64)[row], minlength=len(names))
        return [round(value) for value in counts.tolist()]

    loss, right = rows.loss[base, every], rows.right[base, every]
    begin = [count(loss > 0), count(loss < 0), count(rows.known & (right == 1))]
    n, known, large = count(np.ones(len(rows))), count(rows.known), count(rows.known & (rows.large == 1))
    levels = []
    for name in names:
        inside = np.zeros(len(rows), dtype=bool)
        inside[members[name]] = True
        levels.append(accuracies(rows, turns, inside))
    return [
        Part(
            name=name,
            n=n[k],
            known=known[k],
            large=large[k],
            begin=(0, begin[0][k], begin[1][k], begin[2][k]),
            change=found[:, k],
            levels=levels[k][0],
            large_level=levels[k][1],
        )
        for k, name in enumerate(names)
    ]


def class_members(outcomes: Outcomes, *, most: int = 200, column: str = "gold") -> dict[str, Places]:
    """Row numbers by true class, the most frequent first; {} where the truth is no class.

    Rows beyond the `most` classes go into one named part, and so do rows without gold.

    Args:
        outcomes: The table.
        most: Classes.
        column: With `large` instead, by what the large model said: that is known of rows without gold, too.
    """
    found: dict[str, list[int]] = {}
    unknown: list[int] = []
    for row, value in enumerate(outcomes.values(column)):
        if value is None:
            unknown.append(row)
        else:
            found.setdefault(value, []).append(row)
    if not found or (len(found) > 20 and len(found) > len(outcomes) / 4):  # free text: every row its own
        return {}
    ordered = sorted(found, key=lambda name: (-len(found[name]), name))
    result = {name: np.asarray(found[name], dtype=np.intp) for name in ordered[:most]}
    rest = [row for name in ordered[most:] for row in found[name]]
    if rest:
        result[f"({len(ordered) - most} other classes)"] = np.asarray(rest, dtype=np.intp)
    if unknown:
        result["(gold unknown)" if column == "gold" else "(no answer)"] = np.asarray(unknown, dtype=np.intp)
    return result


def slice_members(outcomes: Outcomes, *, most: int = 100) -> dict[str, Places]:
    """Row numbers by `key=value` of the column `slices`, keys by name, their most frequent values first."""
    if "slices" not in outcomes:
        return {}
    found: dict[str, dict[str, list[int]]] = {}
    for row, kept in enumerate(outcomes.values("slices")):
        for key, value in (kept or {}).items():
            if value is not None:
                found.setdefault(key, {}).setdefault(str(value), []).append(row)
    result: dict[str, Places] = {}
    for key, members in sorted(found.items()):
        for value in sorted(members, key=lambda name: (-len(members[name]), name))[:most]:
            result[f"{key}={value}"] = np.asarray(members[value], dtype=np.intp)
    return dict(list(result.items())[:most])


# --- intervals ------------------------------------------------------------------------------------------------------


def intervals(rows: Rows, count: Tally, *, level: float = 0.95) -> tuple[Floats, Floats, Floats, Floats]:
    """Intervals at each threshold by itself: accuracy low and high, loss low and high, each shape (T,).

    Exact (Clopper and Pearson) for the accuracy, Tango's score interval for the loss: neither is empty where nothing
    was wrong or lost, as a bootstrap's would be. Where rows come in groups, both are widened by the square root of the
    design effect.
    """
    wide_accuracy, wide_loss = design_effects(rows, count.thresholds)
    shares = (
        {}
        if count.levels is not None
        else {
            right: accuracy_interval(right, count.known, level=level) if count.known else (0.0, 1.0)
            for right in set(count.right.tolist())
        }
    )
    losses = {
        pair: loss_interval(*pair, count.n, level)
        for pair in set(zip(count.harms.tolist(), count.gains.tolist(), strict=True))
    }
    if count.levels is None:
        accuracy = np.array([shares[right] for right in count.right.tolist()])
    else:
        accuracy = np.stack([count.levels.low, count.levels.high], axis=1)
    loss = np.array([losses[pair] for pair in zip(count.harms.tolist(), count.gains.tolist(), strict=True)])

    def widened(ends: Floats, middle: Floats, effect: Floats) -> Floats:
        return middle[:, None] + (ends - middle[:, None]) * np.sqrt(effect)[:, None]

    middle = np.where(np.isnan(count.accuracy), accuracy.mean(axis=1), count.accuracy)
    accuracy = np.clip(widened(accuracy, middle, wide_accuracy), 0.0, 1.0)
    loss = np.clip(widened(loss, count.loss, wide_loss), -1.0, 1.0)
    return accuracy[:, 0], accuracy[:, 1], loss[:, 0], loss[:, 1]


def design_effects(rows: Rows, thresholds: Floats) -> tuple[Floats, Floats]:
    """How much larger variances are since rows of a group are alike, for accuracy and loss, each shape (T,).

    The variance of a mean over clusters (linearized ratio estimator, Cochran 1977, 9.2) over that of independent rows;
    at least 1. All 1 without groups.
    """
    steps = len(thresholds)
    accuracy, loss = np.ones(steps), np.ones(steps)
    if rows.groups is None:
        return accuracy, loss
    turns, every = rows.turns(thresholds), np.arange(len(rows))
    who = turns.base.copy()
    moves = []
    for event in turns.changes:
        order = np.argsort(event.step, kind="stable")
        moves.append((event, order, np.searchsorted(event.step[order], np.arange(steps + 1))))
    sizes = np.bincount(rows.groups).astype(np.float64)
    known = rows.groups[rows.known]
    known_sizes = np.bincount(known, minlength=len(sizes)).astype(np.float64)
    for step in range(steps):
        for event, order, bounds in moves:
            now = order[bounds[step] : bounds[step + 1]]
            who[event.rows[now]] = event.after[now]
        accuracy[step] = _design_effect(rows.right[who, every][rows.known], known, known_sizes)
        loss[step] = _design_effect(rows.loss[who, every], rows.groups, sizes)
    return accuracy, loss


def _design_effect(values: Floats, groups: Places, sizes: Floats) -> float:
    clusters = int((sizes > 0).sum())
    if clusters < 2:
        return 1.0
    mean = values.mean()
    alone = float(((values - mean) ** 2).sum())
    if alone <= 0:
        return 1.0
    sums = np.bincount(groups, weights=values, minlength=len(sizes)) - mean * sizes
    return max(1.0, float((sums**2).sum()) * clusters / (clusters - 1) / alone)


# --- the small model by itself --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        bins: Its dots.
        low: Lower ends of the intervals of their accuracies.
        high: Upper ends.
        error: How far confidence is from accuracy, over all.
        what: What was binned.
    """

    bins: list[ReliabilityBin]
    low: list[float]
    high: list[float]
    error: Estimate
    what: str


def reliability(outcomes: Outcomes, rows: Rows) -> Reliability | None:
    """Confidence against accuracy of the (first) small model, in bins of equal mass.

    The confidence where it is a probability (score `max_probability`, or none named and all in [0, 1]), else the
    largest of `probabilities`. None where there is neither, or nobody knows who was right. Where some rows lack gold,
    bins are those of all rows, and a dot whose interval is too wide is left out.
    """
    score = np.where(np.isfinite(rows.confidence[0]), rows.confidence[0], np.nan)
    suffix = "" if model_column(outcomes, rows.names[0]) == "small" else f".{rows.names[0]}"
    what, named = "confidence", outcomes.about.get("score")
    inside = score[~np.isnan(score)]
    if named not in (None, "max_probability") or not ((inside >= 0) & (inside <= 1)).all():
        if f"probabilities{suffix}" not in outcomes:
            return None
        largest = [max(p.values()) if p else np.nan for p in outcomes.values(f"probabilities{suffix}")]
        score, what = np.asarray(largest, dtype=np.float64), "largest probability"
    right = rows.right[0]
    counts = (score >= 0) & (score <= 1)
    usable = counts & ~np.isnan(right)
    if not usable.any():
        return None
    sample = LabelSample.of(outcomes, right, level=rows.sample.level).within(counts)
    p, y = score[counts], right[counts]
    error = sample.calibration_error(p, y)
    if sample.census:
        bins = reliability_bins(p, y)
        ends = [accuracy_interval(round(item.n * item.accuracy), item.n, level=sample.level) for item in bins]
        return Reliability(bins, [low for low, _ in ends], [high for _, high in ends], error, what)
    for count in (15, 10, 6, 4, 3):  # the finest bins that have labels enough
        places = bin_places(p, bins=count)
        masks = np.stack([places == place for place in np.unique(places)])
        found = sample.along(np.tile(y, (len(masks), 1)), masks)
        if found.known.all():
            break
    shown = np.flatnonzero(found.known)
    bins = [ReliabilityBin(int(masks[k].sum()), float(p[masks[k]].mean()), float(found.value[k])) for k in shown]
    return Reliability(bins, found.low[shown].tolist(), found.high[shown].tolist(), error, what)


@dataclass(frozen=True)
class LocalErrors:
    """Share of wrong answers among those accepted at each step; every array has shape (T,).

    Attributes:
        value: NaN where nothing is accepted, nothing is known, or more labels are needed.
        rates: The same with intervals, where some accepted rows lack gold; else None.
    """

    value: Floats
    rates: Rates | None


def local_errors(rows: Rows, thresholds: Floats) -> LocalErrors:
    """Count wrong answers among those accepted at each step."""
    models, steps = len(rows.names), len(thresholds)
    names, code = np.unique(rows.sample.strata, return_inverse=True)
    counts = {name: np.zeros((steps, len(names))) for name in ("size", "known", "wrong", "open")}
    drawn = rows.sample.skipped
    for event in rows.turns(thresholds).changes:
        for who, sign in ((event.before, -1.0), (event.after, 1.0)):
            right, local = rows.right[who, event.rows], who < models
            mine = local & ~np.isnan(right)
            place = event.step * len(names) + code[event.rows]
            for name, weight in (
                ("size", local),
                ("known", mine),
                ("wrong", np.where(mine, 1.0 - right, 0.0)),
                ("open", local & ~mine & drawn[event.rows]),
            ):
                flat = np.bincount(place, weights=weight.astype(np.float64), minlength=steps * len(names))
                counts[name] += sign * flat.reshape(steps, len(names))
    size, known, wrong, open_ = (np.rint(np.cumsum(part, axis=0)) for part in counts.values())
    if (known == size).all() or not known.any():
        taken, bad = known.sum(axis=1), wrong.sum(axis=1)
        return LocalErrors(np.where(taken > 0, bad / np.maximum(taken, 1.0), np.nan), None)
    found = rates(size, known, wrong, open_, level=rows.sample.level)
    return LocalErrors(np.where(found.known, found.value, np.nan), found)


def oracle(rows: Rows) -> tuple[Floats, Floats]:
    """The best that any choice of rows to escalate can do: escalation rate and accuracy, where the lines bend.

    Over rows where it is known who is right; nobody has this in practice.
    """
    models, known = len(rows.names), rows.known
    usable = np.isfinite(rows.confidence) & ~rows.barred
    best = np.where(usable, np.nan_to_num(rows.right[:models]), -1.0).max(axis=0)[known]
    base = rows.turns(np.full((1, models), math.inf)).base
    large = rows.right[base, np.arange(len(rows))][known]
    n = max(len(large), 1)
    must = best < 0  # no small model may answer
    better, worse = int((must | (large > best)).sum()), int((~must & (large < best)).sum())
    small = float(np.where(must, 0.0, best).sum())
    top = float(np.maximum(np.where(must, large, best), large).sum())
    share = np.array([float(must.sum()), better, n - worse, n]) / n
    base = small + float(large[must].sum())
    return share, np.array([base, top, top, float(large.sum())]) / n


# --- rows that would be lost ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lost:
    """A row that would be lost at some thresholds.

    Attributes:
        row: Its number in the table.
        who: Whose answer it is: a small model's number, or M for the large model with the pruned prompt.
        confidence: Of that small model; -inf for the large one.
        first: First step of the grid at which that answer is used.
        end: The step at which it no longer is.
        guessed: Whether it counts as lost only for lack of gold.
    """

    row: int
    who: int
    confidence: float
    first: int
    end: int
    guessed: bool


def lost_rows(rows: Rows, thresholds: Floats) -> list[Lost]:
    """Return the rows that are lost somewhere on the grid: those lost at the strictest threshold first."""
    steps, models = len(thresholds), len(rows.names)
    path = rows.turns(thresholds)
    base = path.base
    turns: dict[int, list[tuple[int, int]]] = {
        row: [(0, int(base[row]))] for row in np.flatnonzero((rows.loss > 0).any(axis=0)).tolist()
    }
    for event in path.changes:
        for row, step, who in zip(event.rows.tolist(), event.step.tolist(), event.after.tolist(), strict=True):
            if row in turns:
                turns[row].append((step, who))
    found: list[Lost] = []
    for row, changes in turns.items():
        changes.sort(key=lambda change: change[0])
        for (begin, who), (end, _) in zip(changes, [*changes[1:], (steps, models)], strict=True):
            if rows.loss[who, row] > 0 and begin < end:
                score = float(rows.confidence[who, row]) if who < models else -math.inf
                found.append(Lost(row, who, score, begin, end, bool(rows.guessed[who, row])))
    return sorted(found, key=lambda lost: (lost.first, -lost.confidence, lost.row))
