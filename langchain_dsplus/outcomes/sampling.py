"""What rows that somebody chose to label say about all rows: the one place where such figures are made.

After `Outcomes.to_label` gold is known for nearly all rows on which the models disagree, and for few of those on which
they agree. The labelled rows alone are no sample: on them the small model is wrong far more often than elsewhere. So
every row belongs to a stratum (by default: do the models agree?), within which the labelled rows are a random sample,
and each figure of accuracy type is put together from the strata (Horvitz and Thompson 1952, with agreement as the
prediction as in Angelopoulos et al. 2023). Rates within a stratum get exact binomial limits, since errors among agreed
rows are rare; the limits of several strata are joined by MOVER (Zou and Donner 2008). A stratum without a label may be
anything from 0 to 1, and rows that somebody left open ("unclear") count both ways.

Every figure of accuracy type in the package comes from here: the report, the curves, the commands, `Outcomes.estimate`.
Where every row that counts is labelled, it is the usual figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from langchain_dsplus._arrays import Bools, Floats, Places
from langchain_dsplus._imports import require
from langchain_dsplus.calibration import aurc_weights, auroc, bin_places

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from langchain_dsplus.outcomes.rows import Rows


WIDEST = 0.2
"""An interval wider than this says too little: `Estimate` names the labels that are needed instead."""
DISAGREE, CHANGED, AGREE, GIVEN = "disagree", "changed", "agree", "given"
STRATA = (DISAGREE, CHANGED, AGREE, GIVEN)
"""Where a small model says something else than the large one; else, where the large model changed its answer on the
pruned prompt; all other rows; rows whose gold was there before anything was drawn (only in the column `stratum`)."""
_FIRST = 9.0
"""Labels of a stratum without any, times its share and divided by `WIDEST`: enough where one in ten is wrong."""
_UNLIKE = 3.0
"""From so many standard deviations on, gold is no random sample: with regard to agreement, or to confidence."""
_PIECE = 10
"""Labels of a piece of like confidence at least, and such pieces of a stratum at most."""
_CUT = 1e-6
"""A smaller chance than this that so many rows of a stratum are labelled: the others were taken away."""
_ABS_NORMAL = math.sqrt(2.0 / math.pi)
"""Mean of |z| for a standard normal z: how much noise adds to an absolute value at most."""


@dataclass(frozen=True)
class Estimate:
    """A figure about all rows, from those that are labelled.

    Attributes:
        value: The figure; None where a part of the rows that matters has no label.
        low: Lower end of its interval.
        high: Upper end.
        labels: Labelled rows that it rests on.
        needed: About how many more labels would bring the interval down to `WIDEST`; 0 where it is narrow enough.
        census: Whether every row that counts is labelled.
    """

    value: float | None
    low: float
    high: float
    labels: int
    needed: int = 0
    census: bool = False

    @property
    def width(self) -> float:
        """Of the interval."""
        return self.high - self.low

    @property
    def known(self) -> bool:
        """Whether there is a figure, and its interval is narrow enough to be shown; or no label is left to be had."""
        return self.value is not None and (self.census or self.width <= WIDEST)

    def words(self, digits: int = 1) -> str:
        """Return it in percent with its interval, or what it needs.

        Example:
            >>> Estimate(0.021, 0.011, 0.043, 120).words()
            '2.1 % (1.1 to 4.3)'
            >>> Estimate(None, 0.0, 0.8, 0, needed=40).words()
            'needs about 40 more labels (0.0 to 80.0 % as it is)'
        """
        low, high = f"{100 * self.low:.{digits}f}", f"{100 * self.high:.{digits}f}"
        if (self.value is None or not self.known) and not self.needed:
            return f"from {low} to {high} %"  # all that is left was skipped
        if self.value is None or not self.known:
            return f"needs about {self.needed:,} more labels ({low} to {high} % as it is)"
        return f"{100 * self.value:.{digits}f} % ({low} to {high})"

    def __str__(self) -> str:
        return self.words()

    def complement(self) -> Estimate:
        """One minus it: an accuracy from an error rate."""
        value = None if self.value is None else 1.0 - self.value
        return replace(self, value=value, low=1.0 - self.high, high=1.0 - self.low)


@dataclass(frozen=True)
class Rates:
    """Rates over all rows, one for each step: what `Estimate` is for one. Every array has shape (T,).

    Attributes:
        value: NaN where a part of the rows that matters has no label.
        low: Lower ends of their intervals.
        high: Upper ends.
        labels: Labelled rows.
        needed: As in `Estimate`.
        census: Whether every row that counts is labelled.
    """

    value: Floats
    low: Floats
    high: Floats
    labels: Floats
    needed: Floats
    census: Bools

    @property
    def known(self) -> Bools:
        """Where the figure may be shown, shape (T,)."""
        return ~np.isnan(self.value) & (self.census | (self.high - self.low <= WIDEST))

    def at(self, step: int) -> Estimate:
        """Return one of them."""
        value = float(self.value[step])
        return Estimate(
            None if math.isnan(value) else value,
            float(self.low[step]),
            float(self.high[step]),
            int(self.labels[step]),
            int(self.needed[step]),
            bool(self.census[step]),
        )


class _Cell(NamedTuple):
    """Rows of a stratum that are alike: how much they weigh together, and how often it is so among the labelled."""

    mass: float
    value: float  # estimated part of the total
    labels: int
    low: float  # limits of the rate
    high: float
    rate: float


@dataclass(frozen=True)
class LabelSample:
    """Which rows are labelled, and how they were chosen.

    Attributes:
        strata: A number for the stratum of each row, shape (n,). Within one, the labelled rows are a random sample.
        labelled: Where the truth is known, shape (n,).
        skipped: Rows that were drawn, but left open, shape (n,).
        level: Confidence level of the intervals.

    Example:
        >>> agreed = np.arange(1000) < 900
        >>> labelled = np.arange(1000) >= 800  # 100 that the models agree about, 100 that they do not
        >>> sample = LabelSample(agreed.astype(int), labelled, np.zeros(1000, dtype=bool))
        >>> print(sample.rate(~agreed))  # wrong on each of the latter and on none of the former, as far as is known
        10.0 % (8.1 to 13.8)
    """

    strata: Places
    labelled: Bools
    skipped: Bools
    level: float = 0.95

    @classmethod
    def of(
        cls, outcomes: Rows, right: ArrayLike | None = None, *, who: str = "small", level: float = 0.95
    ) -> LabelSample:
        """Read off a table which rows are labelled, and how they were chosen.

        By the columns `stratum` and `draw`, as `to_label` and `with_gold` leave them. Without them, rows on which the
        models agree and rows on which they do not are a stratum each, and gold counts as a random sample of each; where
        it hangs on the confidence (somebody looked at the unsure rows first), of rows of like confidence.

        Args:
            outcomes: The table.
            right: Whether somebody is right, NaN where nobody knows, shape (n,); by default `outcomes.correct(who)`.
            who: Whose answers.
            level: Confidence level of the intervals.

        Raises:
            ValueError: If rows without gold were taken out of the table, so that what is left is no sample.
        """
        known = ~np.isnan(outcomes.correct(who) if right is None else np.asarray(right, dtype=np.float64))
        found = strata(outcomes)
        _refuse_cut(outcomes, found)
        drawn = ~np.isnan(outcomes["draw"]) if "draw" in outcomes else np.zeros(len(known), dtype=bool)
        codes = np.full(len(found), len(STRATA), dtype=np.intp)
        for code, name in enumerate(STRATA):
            codes[found == name] = code
        if not drawn.any():
            codes = _cut_where_chosen(codes, known, _confidence(outcomes))
        return cls(codes, known, drawn & ~known, level)

    def __len__(self) -> int:
        return len(self.strata)

    @property
    def census(self) -> bool:
        """Whether every row is labelled."""
        return bool(self.labelled.all())

    def within(self, rows: ArrayLike) -> LabelSample:
        """Return the same of some rows, by a mask: a class, the accepted rows, those with a confidence."""
        mask = np.asarray(rows, dtype=bool)
        return LabelSample(self.strata[mask], self.labelled[mask], self.skipped[mask], self.level)

    def at(self, places: Places) -> LabelSample:
        """Return the same of some rows, by their numbers, in that order."""
        return LabelSample(self.strata[places], self.labelled[places], self.skipped[places], self.level)

    # --- figures ------------------------------------------------------------------------------------------------

    def rate(self, happened: ArrayLike) -> Estimate:
        """Return how often something is so over all rows, such as that the small model is wrong.

        Args:
            happened: 1 or 0 for each row, shape (n,); what stands in rows without a label does not count.
        """
        if not len(self):
            return Estimate(None, 0.0, 1.0, 0, census=True)
        return self.along(np.asarray(happened, dtype=np.float64)[None, :]).at(0)

    def along(self, happened: ArrayLike, counts: ArrayLike | None = None) -> Rates:
        """Return `rate` for each of several steps.

        Args:
            happened: 1 or 0 for each step and row, shape (T, n).
            counts: Which rows count at each step, shape (T, n); by default all.
        """
        y = np.asarray(happened, dtype=np.float64)
        inside = np.ones(y.shape, dtype=bool) if counts is None else np.asarray(counts, dtype=bool)
        names = np.unique(self.strata)
        masks = np.stack([self.strata == name for name in names] or [np.zeros(len(self), dtype=bool)])
        parts = np.stack([masks, masks & self.labelled, masks & self.skipped]).astype(np.float64)
        sizes, labels, skipped = (inside.astype(np.float64) @ part.T for part in parts)
        return rates(sizes, labels, np.where(inside, np.nan_to_num(y), 0.0) @ parts[1].T, skipped, level=self.level)

    def first(self, happened: ArrayLike, ends: ArrayLike, otherwise: ArrayLike | None = None) -> Rates:
        """Return `rate` over the first rows, for several numbers of them.

        Args:
            happened: 1 or 0 for each row, shape (n,).
            ends: How many rows, shape (T,).
            otherwise: What counts for the rows after those; by default they do not count at all. Shape (n,).
        """
        names = np.unique(self.strata)
        masks = np.stack([self.strata == name for name in names] or [np.zeros(len(self), dtype=bool)])

        def sums(rows: Bools, values: ArrayLike = 1.0) -> Floats:
            weights = np.where(rows, np.nan_to_num(np.asarray(values, dtype=np.float64)), 0.0)
            return np.concatenate([np.zeros((1, len(masks))), np.cumsum(weights, axis=1).T])

        at, known = np.asarray(ends, dtype=np.intp), masks & self.labelled
        sizes, labels, open_ = (sums(rows) for rows in (masks, known, masks & self.skipped))
        yes = sums(known, happened)[at]
        if otherwise is None:
            return rates(sizes[at], labels[at], yes, open_[at], level=self.level)
        rest = sums(known, otherwise)
        every = [np.broadcast_to(part[-1], yes.shape) for part in (sizes, labels, open_)]
        return rates(every[0], every[1], yes + rest[-1] - rest[at], every[2], level=self.level)

    def aurc(self, confidence: ArrayLike, wrong: ArrayLike) -> Estimate:
        """Return the area under the risk-coverage curve (`calibration.aurc`): a weighted sum of the errors."""
        return self.total(wrong, aurc_weights(confidence))

    def e_aurc(self, confidence: ArrayLike, wrong: ArrayLike) -> Estimate:
        """Return the excess area (`calibration.e_aurc`): what a perfect order of the same rows would save."""
        area, errors, n = self.aurc(confidence, wrong), self.rate(wrong), len(self)

        def best(rate: float) -> float:
            steps = np.arange(1, n + 1)
            return float((np.maximum(steps - n * (1.0 - rate), 0.0) / steps).mean()) if n else 0.0

        low, high = max(area.low - best(errors.high), 0.0), max(area.high - best(errors.low), 0.0)
        if area.value is None or errors.value is None:
            return self._told(replace(area, value=None, low=low, high=high))
        middle = min(max(area.value - best(errors.value), low), high)
        return self._told(replace(area, value=middle, low=low, high=high))

    def total(self, happened: ArrayLike, weights: ArrayLike) -> Estimate:
        """Return the sum of `weights` over the rows where something is so.

        Args:
            happened: 1 or 0 for each row, shape (n,).
            weights: At least 0, known for every row, shape (n,).
        """
        y, w = np.asarray(happened, dtype=np.float64), np.asarray(weights, dtype=np.float64)
        if not len(y):
            return Estimate(None, 0.0, 1.0, 0, census=True)
        strata = np.zeros(len(y), dtype=np.intp) if self.census else self.strata
        cells = [
            self._cell(part, y, w)
            for stratum in np.unique(strata)
            for part in self._alike(np.flatnonzero(strata == stratum), w)
        ]
        low, high, value = 0.0, 0.0, math.fsum(cell.value for cell in cells if cell.labels)
        for cell in cells:
            if cell.labels:
                low += ((cell.rate - cell.low) * cell.mass) ** 2
                high += ((cell.high - cell.rate) * cell.mass) ** 2
        # Other rows would have fallen into other cells.
        mass = w.sum()
        center = math.fsum(cell.mass * cell.rate for cell in cells) / mass if mass > 0 else 0.0
        between = math.fsum(cell.mass * mass * (cell.rate - center) ** 2 for cell in cells) / len(y)
        between *= _quantile(self.level) ** 2
        empty = [cell for cell in cells if not cell.labels]
        return self._told(
            Estimate(
                value=None if empty else value,
                low=max(value - math.sqrt(low + between), 0.0) + math.fsum(c.low * c.mass for c in empty),
                high=min(value + math.sqrt(high + between) + math.fsum(c.high * c.mass for c in empty), float(mass)),
                labels=int(self.labelled.sum()),
                census=self.census,
            ),
            [cell.mass for cell in empty],
        )

    def calibration_error(self, confidence: ArrayLike, right: ArrayLike, *, bins: int = 15) -> Estimate:
        """Return how far confidence is from accuracy, on average over bins of equal mass (adaptive ECE).

        Taken from a sample as it stands this figure is too high, since noise adds to every |accuracy - confidence|. So
        the noise of each bin is taken out of the figure, and the interval allows for none of it and for all of it.
        Where every row is labelled the figure is the usual one, and the interval is about inputs like these.

        Args:
            confidence: Probabilities of the chosen class, shape (n,).
            right: 1 or 0 for each row, shape (n,).
            bins: How many bins at most.
        """
        p, wrong = np.asarray(confidence, dtype=np.float64), 1.0 - np.asarray(right, dtype=np.float64)
        if not len(p):
            return Estimate(None, 0.0, 1.0, 0, census=True)
        usual = {stratum: self._likely(self.strata == stratum, wrong, 0.5, 1.0) for stratum in np.unique(self.strata)}
        places = bin_places(p, bins=bins)
        value, as_it_stands, noise, variance = 0.0, 0.0, 0.0, 0.0
        for place in np.unique(places):
            inside = places == place
            share = float(inside.mean())
            gap, var = float(p[inside].mean()) - 1.0, 0.0
            for stratum, rate in usual.items():
                rows = inside & (self.strata == stratum)
                known, count = rows & self.labelled, int(rows.sum())
                if not count:
                    continue
                part, n = count / inside.sum(), int(known.sum())
                likely = self._likely(rows, wrong, rate, 2.0)
                gap += part * (float(wrong[known].mean()) if n else rate)
                open_, left = int((rows & self.skipped).sum()) / count, 1.0 if self.census else 1.0 - n / count
                var += part**2 * (likely * (1.0 - likely) / max(n, 0.5) * left + open_**2 / 4.0)
            value += share * math.sqrt(max(gap**2 - var, 0.0))
            as_it_stands += share * abs(gap)
            noise += share * _ABS_NORMAL * math.sqrt(var)
            variance += share**2 * var
        # Where errors are rare, those that were seen say little about how they vary: no less than the exact limits do.
        far = max(_quantile(self.level) * math.sqrt(variance), math.sqrt(math.fsum(self._off(wrong))))
        low, high = max(as_it_stands - noise - far, 0.0), min(as_it_stands + far, 1.0)
        missing = [float((self.strata == s).mean()) for s in usual if not (self.labelled & (self.strata == s)).any()]
        if missing:  # a whole stratum without a label
            low, high = max(low - math.fsum(missing), 0.0), min(high + math.fsum(missing), 1.0)
            return self._told(Estimate(None, low, high, int(self.labelled.sum())), missing)
        value = as_it_stands if self.census else min(max(value, low), high)
        return self._told(Estimate(value, low, high, int(self.labelled.sum()), census=self.census))

    def _off(self, wrong: Floats) -> list[float]:
        """How far each labelled stratum's share of errors may be off by its exact limits, squared."""
        found = []
        for stratum in np.unique(self.strata):
            rows = self.strata == stratum
            known, n = rows & self.labelled, int((rows & self.labelled).sum())
            if n and n < rows.sum():
                seen = float(wrong[known].sum())
                low, high = _limits(seen, n, self.level, float((rows & self.skipped).sum()))
                found.append((float(rows.mean()) * max(seen / n - low, high - seen / n)) ** 2)
        return found

    def auroc(self, confidence: ArrayLike, right: ArrayLike) -> Estimate:
        """Return how well confidence tells right from wrong (`calibration.auroc`).

        It is the mean place of a wrong answer among the right ones. Each stratum adds its wrong answers, so many as
        they are, at the places where its labelled ones were seen; where few were seen their place is nearly unknown.

        Args:
            confidence: Finite numbers, shape (n,).
            right: 1 or 0 for each row, shape (n,).
        """
        s, y = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
        labels = int(self.labelled.sum())
        if self.census:
            if not 0 < int(y.sum()) < len(y):
                return Estimate(None, 0.0, 1.0, labels, census=True)
            value, far = auroc(s, y), _quantile(self.level) * _auroc_deviation(s, y)
            return Estimate(value, max(value - far, 0.0), min(value + far, 1.0), labels, census=True)
        place = self._places(s, y)
        errors, places, missing = [], [], []
        for stratum in np.unique(self.strata):
            rows = self.strata == stratum
            known, size = rows & self.labelled, int(rows.sum())
            n, seen = int(known.sum()), place[known & (y == 0.0)]
            least, most = _limits(len(seen), n, self.level, int((rows & self.skipped).sum()))
            errors.append((size * (len(seen) / n if n else 0.5), size * least, size * most))
            middle = float(seen.mean()) if len(seen) else 0.5
            places.append((middle, *_limits(float(seen.sum()), len(seen), self.level, 0)))
            if not n:
                missing.append(size / len(s))

        def area(amounts: Sequence[float], where: Sequence[float]) -> float:
            total = math.fsum(amounts)
            return math.fsum(a * b for a, b in zip(amounts, where, strict=True)) / total if total > 0 else 0.5

        amounts, where = [error[0] for error in errors], [place_[0] for place_ in places]
        value, low, high = area(amounts, where), 0.0, 0.0
        for k, (error, ends) in enumerate(zip(errors, places, strict=True)):
            number = amounts[k] or error[2]  # errors that were not seen may be so many as the limit says
            for tried in (
                [area([*amounts[:k], amount, *amounts[k + 1 :]], where) for amount in error[1:]],
                [
                    area([*amounts[:k], number, *amounts[k + 1 :]], [*where[:k], end, *where[k + 1 :]])
                    for end in ends[1:]
                ],
            ):
                low += max(value - min(tried), 0.0) ** 2
                high += max(max(tried) - value, 0.0) ** 2
        unknown = bool(missing) or math.fsum(amounts) <= 0
        low, high = max(value - math.sqrt(low), 0.0), min(value + math.sqrt(high), 1.0)
        if missing:  # nobody knows how many of its rows are wrong, nor where they stand
            low, high = 0.0, 1.0
        return self._told(Estimate(None if unknown else value, low, high, labels), missing)

    def _places(self, scores: Floats, right: Floats) -> Floats:
        """Share of right answers with a higher score than each row's, ties half, shape (n,)."""
        counts = np.zeros(len(scores))
        for stratum in np.unique(self.strata):
            rows = self.strata == stratum
            known = rows & self.labelled
            if not known.any():
                counts[rows] = 0.5
            elif right[known].mean() >= 0.5:  # all of them, less what is known of their errors
                counts[rows] = 1.0
                counts[known & (right == 0.0)] -= rows.sum() / known.sum()
            else:
                counts[known & (right == 1.0)] = rows.sum() / known.sum()
        order = np.argsort(scores, kind="stable")
        above = np.concatenate([np.cumsum(counts[order][::-1])[::-1], [0.0]])
        ordered = scores[order]
        higher = above[np.searchsorted(ordered, scores, side="right")]
        equal = above[np.searchsorted(ordered, scores, side="left")] - higher
        places: Floats = np.clip((higher + 0.5 * equal) / max(float(counts.sum()), 1e-12), 0.0, 1.0)
        return places

    # --- parts --------------------------------------------------------------------------------------------------

    def _alike(self, rows: Places, weights: Floats) -> list[Places]:
        """Rows of a stratum, cut where their weights differ, so that each piece has labels enough for a rate."""
        low, high = weights[rows].min(), weights[rows].max()
        pieces = min(int(self.labelled[rows].sum()) // 25, 6)
        if pieces < 2 or high <= low * (1.0 + 1e-9):
            return [rows]
        ordered = rows[np.argsort(weights[rows], kind="stable")]
        return [piece for piece in np.array_split(ordered, pieces) if len(piece)]

    def _cell(self, rows: Places, y: Floats, weights: Floats) -> _Cell:
        known = rows[self.labelled[rows]]
        mass, n = float(weights[rows].sum()), len(known)
        low, high = _limits(float(y[known].sum()), n, self.level, int(self.skipped[rows].sum()))
        if not n:
            return _Cell(mass, 0.0, 0, low, high, 0.5)
        heavy = float(weights[known].sum())  # by what the labelled rows weigh (Hajek 1971), so never above the mass
        value = mass * float(y[known] @ weights[known]) / heavy if heavy > 0.0 else 0.0
        return _Cell(mass, value, n, low, high, float(y[known].mean()))

    def _likely(self, rows: Bools, happened: Floats, prior: float, worth: float) -> float:
        """A rate that is never 0 or 1: the labelled rows, and a prior worth so many of them."""
        known = rows & self.labelled
        return (float(happened[known].sum()) + worth * prior) / (int(known.sum()) + worth)

    def _told(self, found: Estimate, missing: Sequence[float] = ()) -> Estimate:
        """The same, with the labels that it needs: errors fall with the root of their number."""
        if found.width <= WIDEST and found.value is not None:
            return found
        more = math.fsum(math.ceil(_FIRST * share / WIDEST) for share in missing)
        rest = found.width - math.fsum(missing)
        if rest > WIDEST:
            more += max(found.labels, 8) * ((rest / WIDEST) ** 2 - 1.0)
        left = int((~self.labelled & ~self.skipped).sum())
        return replace(found, needed=min(max(math.ceil(more), 1), left))


def rates(
    sizes: ArrayLike, labels: ArrayLike, happened: ArrayLike, skipped: ArrayLike, *, level: float = 0.95
) -> Rates:
    """Put rates together from the counts of strata, for several steps at once.

    Args:
        sizes: Rows of each stratum at each step, shape (T, S).
        labels: Labelled ones.
        happened: Labelled ones where it is so.
        skipped: Rows that were drawn, but left open.
        level: Of the intervals.
    """
    size, n, x, open_ = (np.asarray(part, dtype=np.float64) for part in (sizes, labels, happened, skipped))
    rows = size.sum(axis=1)
    census = n.sum(axis=1) >= rows
    # With every row labelled the strata do not matter.
    whole = [part.sum(axis=1, keepdims=True) * (np.arange(part.shape[1]) == 0) for part in (size, n, x, open_)]
    size, n, x, open_ = (np.where(census[:, None], a, b) for a, b in zip(whole, (size, n, x, open_), strict=True))
    mass = size / np.maximum(rows, 1.0)[:, None]
    least, most = _limits(x, n, level, open_)
    seen = (n > 0) & (size > 0)
    rate = np.where(seen, x / np.maximum(n, 1.0), 0.5)
    value = np.where(seen, mass * rate, 0.0).sum(axis=1)
    # Other rows would have fallen into other strata.
    between = (mass * (rate - (mass * rate).sum(axis=1, keepdims=True)) ** 2).sum(axis=1) / np.maximum(rows, 1.0)
    between *= _quantile(level) ** 2
    below, above = (
        np.sqrt((np.where(seen, (rate - end) * mass, 0.0) ** 2).sum(axis=1) + between) for end in (least, most)
    )
    missing = np.where(seen | (size <= 0), 0.0, mass)
    low = np.maximum(value - below, 0.0) + (missing * least).sum(axis=1)
    high = np.minimum(value + above + (missing * most).sum(axis=1), 1.0)
    none = rows <= 0
    value = np.where((missing > 0).any(axis=1) | none, np.nan, value)
    low, high = np.where(none, 0.0, low), np.where(none, 1.0, high)
    # More labels that would do: errors fall with the root of their number.
    width, bare = high - low, missing.sum(axis=1)
    more = np.where(missing > 0, np.ceil(_FIRST * missing / WIDEST), 0.0).sum(axis=1)
    got = n.sum(axis=1)
    rest = np.maximum((width - bare) / WIDEST, 1.0)
    more = np.ceil(more + np.maximum(got, 8.0) * (rest**2 - 1.0))
    left = rows - got - open_.sum(axis=1)
    fine = (width <= WIDEST) & ~np.isnan(value)
    needed = np.where(fine, 0.0, np.minimum(np.maximum(more, 1.0), left))
    return Rates(value, low, high, got, needed, census)


def strata(outcomes: Rows) -> NDArray[Any]:
    """Return the stratum of each row: what the table says, or else by its answers."""
    made = strata_by_answers(outcomes)
    if "stratum" not in outcomes:
        return made
    return np.where(outcomes.said("stratum"), outcomes["stratum"], made)


def strata_by_answers(outcomes: Rows) -> NDArray[Any]:
    """Return the stratum of each row by what the models say alone; a part of `STRATA`."""
    n = len(outcomes)
    differ, changed = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    if "large" in outcomes:
        for name in outcomes.small_names or [""]:
            small, score = (f"{column}.{name}" if name else column for column in ("small", "confidence"))
            if small in outcomes:
                answered = np.isfinite(np.asarray(outcomes[score], dtype=np.float64)) & outcomes.valid(small)
                differ |= answered & _said(outcomes, small) & ~outcomes.agree(small, "large")
        if "large_pruned" in outcomes:
            changed = _said(outcomes, "large_pruned") & ~outcomes.agree("large_pruned", "large") & ~differ
    return np.array([AGREE, CHANGED, DISAGREE], dtype=object)[np.where(differ, 2, changed)]


def _said(outcomes: Rows, column: str) -> Bools:
    return outcomes.said(column)


def refuse_chosen(outcomes: Rows, what: str) -> None:
    """Refuse a table whose gold was drawn by `to_label`, where only rows that are a sample as they stand will do.

    Raises:
        ValueError: If only some rows of such a table have gold.
    """
    known = outcomes.known_gold()
    if known.any() and not known.all() and chosen(outcomes, known):
        raise ValueError(
            f"{what} needs gold of all rows, or of a random sample of them: here rows were chosen for labelling, such "
            "as those on which the models disagree or which the small model is unsure of. Take other rows, or label "
            "these all"
        )


def chosen(outcomes: Rows, known: Bools, rows: Bools | None = None) -> bool:
    """Whether gold is no random sample: drawn by `to_label`, or hanging on agreement or confidence beyond chance.

    Args:
        outcomes: The table.
        known: Rows with gold, shape (n,).
        rows: Rows that count, shape (n,); by default all.
    """
    if "stratum" in outcomes and any(value is not None for value in outcomes.values("stratum")):
        return True
    mine = np.ones(len(known), dtype=bool) if rows is None else rows
    differ = np.asarray(strata_by_answers(outcomes) == DISAGREE, dtype=bool)
    (a, n), (b, m) = [(int((known & part).sum()), int(part.sum())) for part in (mine & differ, mine & ~differ)]
    if n and m:
        share = (a + b) / (n + m)
        spread = math.sqrt(share * (1.0 - share) * (1.0 / n + 1.0 / m))
        if spread > 0.0 and abs(a / n - b / m) > _UNLIKE * spread:
            return True
    sure = _confidence(outcomes)
    mine = mine & np.isfinite(sure)
    return hangs_on(known[mine], sure[mine])


def _confidence(outcomes: Rows) -> Floats:
    """Of the (first) small model; NaN or infinite where it failed."""
    names = [name for name in outcomes.columns if name == "confidence" or name.startswith("confidence.")]
    return np.asarray(outcomes[names[0]], dtype=np.float64) if names else np.full(len(outcomes), np.nan)


def hangs_on(known: Bools, numbers: ArrayLike) -> bool:
    """Whether rows are known for their numbers, beyond chance: the two-sided test of Kolmogorov and Smirnov."""
    n, k = len(known), int(known.sum())
    if not 0 < k < n:
        return False
    _, code = np.unique(np.asarray(numbers), return_inverse=True)
    ends = [np.cumsum(np.bincount(code[part], minlength=code.max() + 1)) / part.sum() for part in (known, ~known)]
    far = float(np.abs(ends[0] - ends[1]).max()) * math.sqrt(k * (n - k) / n)
    special: Any = require("scipy.special", "sklearn")
    return 2.0 * math.exp(-2.0 * far * far) < 2.0 * float(special.ndtr(-_UNLIKE))


def _cut_where_chosen(codes: Places, known: Bools, sure: Floats) -> Places:
    """Cut strata in which gold hangs on the confidence into pieces of like confidence, shape (n,).

    What is less sure, or surer, than every row with gold is a piece without a label: nobody knows about it.
    """
    found = codes * (_PIECE + 3)
    for code in np.unique(codes):
        rows = np.flatnonzero((codes == code) & np.isfinite(sure))
        labelled, score = known[rows], sure[rows]
        if not hangs_on(labelled, score):
            continue
        pieces = min(max(int(labelled.sum()) // _PIECE, 1), _PIECE)
        cuts = np.quantile(score[labelled], np.arange(1, pieces) / pieces)
        place = 2 + np.searchsorted(cuts, score, side="left")
        place[score < score[labelled].min()], place[score > score[labelled].max()] = 1, pieces + 2
        found[rows] += place
    return found


def _refuse_cut(outcomes: Rows, names: NDArray[Any]) -> None:
    """Refuse a table out of which rows without gold were taken."""
    if "label_probability" not in outcomes or not len(outcomes):
        return
    special: Any = require("scipy.special", "sklearn")
    known = outcomes.known_gold()
    chance = np.asarray(outcomes["label_probability"], dtype=np.float64)
    for name in (DISAGREE, CHANGED, AGREE):
        mine = names == name
        expected = chance[mine][~np.isnan(chance[mine])]
        if not len(expected):
            continue
        p, labels, n = float(expected.mean()), int((known & mine).sum()), int(mine.sum())
        if p < 1.0 and labels > p * n and float(special.betainc(labels, n - labels + 1, p)) < _CUT:
            raise ValueError(
                f"of the rows in stratum {name!r} a share of {p:.3f} was labelled, here it is {labels / n:.3f}: rows "
                "without gold were taken out of this table, so what is left says nothing about all rows. Take the "
                "table as `with_gold` returned it"
            )


def _auroc_deviation(scores: Floats, right: Floats) -> float:
    """Standard deviation of AUROC (DeLong et al. 1988)."""
    good, bad = scores[right == 1.0], scores[right == 0.0]
    variance = 0.0
    for mine, other in ((good, np.sort(bad)), (bad, np.sort(good))):
        ends = [np.searchsorted(other, mine, side=side) for side in ("left", "right")]
        place = (ends[0] + ends[1]) / (2.0 * len(other))
        variance += float(place.var(ddof=1)) / len(mine) if len(mine) > 1 else 0.25
    return math.sqrt(variance)


def _quantile(level: float) -> float:
    special: Any = require("scipy.special", "sklearn")
    return -float(special.ndtri((1.0 - level) / 2.0))


def _limits(happened: ArrayLike, n: ArrayLike, level: float, skipped: ArrayLike) -> tuple[Any, Any]:
    """Exact limits of rates (Clopper and Pearson 1934); skipped rows may have gone either way.

    For numbers in [0, 1] instead of counts they hold as well: nothing varies more than 0 and 1 do.
    """
    special: Any = require("scipy.special", "sklearn")
    x, k, tail = np.asarray(happened, dtype=np.float64), np.asarray(skipped, dtype=np.float64), (1.0 - level) / 2.0
    everything = np.asarray(n, dtype=np.float64) + k
    most = x + k
    lowest, highest = (x <= 0) | (everything <= 0), most >= everything
    low = np.where(
        lowest, 0.0, special.betaincinv(np.where(lowest, 1.0, x), np.where(lowest, 1.0, everything - x + 1.0), tail)
    )
    high = np.where(
        highest,
        1.0,
        special.betaincinv(np.where(highest, 1.0, most + 1.0), np.where(highest, 1.0, everything - most), 1.0 - tail),
    )
    return (float(low), float(high)) if not low.ndim else (low, high)
