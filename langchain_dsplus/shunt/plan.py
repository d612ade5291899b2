"""What rows that only teach let expect of the rows that certify: how much would pass, and what labels would buy.

Nothing here looks at a row that is set apart, so what it says may decide which policy is tested, and when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus.threshold.exact import critical_value, least_rows, tango_score

_STEPS = 50
_TABLES = (100, 200, 400, 800, 1600, 3200)
"""Sizes that a table may be wanted to reach."""
_LABELS = 50
FIRST, _STEP = 0.4, 0.04
"""Share of the inputs that the first certification, and each one behind it, adds to what stays local, at most."""
_NEAR = 0.05
"""How far, as a share of the inputs, a row speaks for those that a model is as sure of."""
_DRAWS = 400
"""Tables that are drawn, to see which tests would pass."""
_FEW = 20
"""Of these, the least that must bear out what the tests so far have said."""
_HARM, _GAIN = 0.5, 0.25
"""Of a disagreement whose truth nobody knows: how often the large model alone is right, the small one alone."""


class Judged(NamedTuple):
    """One row that teaches, and what a model that had not seen it says."""

    route_id: str
    confidence: float
    small: str
    large: str
    gold: str | None
    fair: bool = True
    """Whether it was asked by chance; else because it escalated."""


class Bit(NamedTuple):
    """What a test on the same table has shown."""

    share: float
    n: int
    alpha: float
    passed: bool


@dataclass(frozen=True)
class Evidence:
    """Rows that teach, judged by models that had not seen them, the surest first.

    Attributes:
        rows: The rows.
        place: Which share of the inputs a model is surer of, shape (m,), rising.
        weight: Which share of the inputs a row stands for, shape (m,).
        agree: Whether small and large model say the same.
        harm: Whether only the large model is right; NaN where they disagree and nobody knows.
        gain: Whether only the small one is right; NaN likewise.
    """

    rows: list[Judged]
    place: Floats
    weight: Floats
    agree: Bools
    harm: Floats
    gain: Floats

    @classmethod
    def of(cls, rows: Sequence[Judged], known: float = 1.0) -> Evidence:
        """From what was said.

        Args:
            rows: Judged.
            known: Share of the inputs, the surest, for which only rows stand that were asked by chance: what stays
                local now, or all. Below it everything is asked.
        """

        def only(one: str, other: str, gold: str | None) -> float:
            return 0.0 if one == other else math.nan if gold is None else float(one == gold)

        confidence = np.array([row.confidence for row in rows], dtype=float)
        chance = np.array([row.fair for row in rows], dtype=bool)
        fair = np.sort(confidence[chance])
        place = 1.0 - np.searchsorted(fair, confidence, side="right") / max(1, len(fair))
        above = place < known
        kept = np.flatnonzero(~above | chance)
        kept = kept[np.argsort(place[kept], kind="stable")]
        weight = np.ones(len(kept))
        for side, share in ((above[kept], known), (~above[kept], 1.0 - known)):
            weight[side] = share / max(1, int(side.sum()))
        ordered = [rows[number] for number in kept.tolist()]
        return cls(
            rows=ordered,
            place=place[kept],
            weight=weight,
            agree=np.array([row.small == row.large for row in ordered], dtype=bool),
            harm=np.array([only(row.large, row.small, row.gold) for row in ordered], dtype=float),
            gain=np.array([only(row.small, row.large, row.gold) for row in ordered], dtype=float),
        )

    def open(self, reach: float) -> list[Judged]:
        """Disagreements without a label among that share of the inputs that the model is surest of."""
        return [
            row
            for row, place, harm in zip(self.rows, self.place, self.harm, strict=True)
            if math.isnan(harm) and place < reach
        ]

    def rates(self, labelled: float) -> tuple[Floats, Floats]:
        """For each row, how likely it counts as a harm, and as a gain.

        Args:
            labelled: Share of the disagreements that have gold; the others are harms.
        """
        differs = ~self.agree
        harm, gain = np.nan_to_num(self.harm, nan=_HARM), np.nan_to_num(self.gain, nan=_GAIN)
        return labelled * harm + (1.0 - labelled) * differs, labelled * gain

    def chances(self, n: int, max_loss: float, alpha: float, labelled: float, tested: Sequence[Bit] = ()) -> Floats:
        """How likely a test on n rows passes with 1/50, 2/50, ... of the inputs local, shape (50,).

        Tables are drawn from the evidence, each from weights of its own (the Bayesian bootstrap), since the evidence
        is a draw too; those that bear out the tests so far count.
        """
        m = len(self.rows)
        if not self.weight.any() or n < least_rows(max_loss, 1.0 - alpha):
            return np.zeros(_STEPS)
        rng = np.random.default_rng(0)
        differs = np.flatnonzero(~self.agree)
        drawn = rng.exponential(size=(_DRAWS, m)) * self.weight
        drawn /= drawn.sum(axis=1, keepdims=True)
        counts = rng.poisson(n * drawn[:, differs])
        moved = self.place[differs] + rng.uniform(-_NEAR, _NEAR, size=counts.shape)
        step = np.clip(moved * _STEPS, 0, _STEPS - 1).astype(int) + _STEPS * np.arange(_DRAWS)[:, None]
        harm, gain = (
            np.bincount(step.ravel(), (counts * rate[differs]).ravel(), _DRAWS * _STEPS)
            .reshape(_DRAWS, _STEPS)
            .cumsum(axis=1)
            for rate in self.rates(labelled)
        )
        shares = np.arange(1, _STEPS + 1) / _STEPS
        # A disagreement that the evidence is too small to hold: half a row.
        harm = harm + n * rng.gamma(0.5, size=(_DRAWS, 1)) / (m + 0.5) * shares
        score = tango_score(np.minimum(harm, n - gain), gain, n, max_loss)
        fits = np.zeros(_DRAWS)
        for test in tested:
            at = score[:, max(0, round(test.share * _STEPS) - 1)]
            fits += (at <= critical_value(test.n, max_loss, test.alpha)) == test.passed
        kept = fits == len(tested)
        if int(kept.sum()) < _FEW:
            kept = np.argsort(-fits, kind="stable")[:_FEW]
        return np.asarray((score[kept] <= critical_value(n, max_loss, alpha)).mean(axis=0), dtype=float)

    def best(
        self, n: int, max_loss: float, alpha: float, labelled: float, held: float = 0.0, tested: Sequence[Bit] = ()
    ) -> tuple[float, float]:
        """The share of the inputs whose policy is the best bet in a test on n rows, and how likely it passes.

        What it adds to the share `held` that stays local now, times its chance, against a refusal: the tests behind it
        have far less error probability, so all that could still be added counts as lost. From there it goes in small
        steps: as long as they pass, the next costs nothing, and knows of those before.
        """
        chance = self.chances(n, max_loss, alpha, labelled, tested)
        shares = np.arange(1, _STEPS + 1) / _STEPS
        value = chance * (shares - held) - (1.0 - chance) * (1.0 - held)
        value[(shares <= held) | (shares > (held + _STEP if held else FIRST))] = -1.0
        place = int(np.argmax(value))
        return (float(shares[place]), float(chance[place])) if value[place] > 0.0 else (0.0, 0.0)


@dataclass(frozen=True)
class Forecast:
    """What the next certification should give.

    Attributes:
        coverage: Share of the inputs that the policy would keep local which is the best bet now; 0 where none is.
        chance: How likely it passes.
        expected: The largest share times its chance, at least what is held.
        with_twice: The same with twice as many certify rows.
        wish: How many certify rows would be worth their price; n where no more than there are.
        labels: The same with 50 more labels of disagreements.
        disagreements: Share of the inputs on which the models disagree and nobody told who is right.
        reach: Share of inputs that twice the rows and all labels would keep local.
        n: Certify rows there are, different inputs.
        needed: The least that could show anything.
        alpha: What the next certification may err with.
        rows: Rows that this rests on.
    """

    coverage: float
    chance: float
    expected: float
    with_twice: float
    wish: int
    labels: float
    disagreements: float
    reach: float
    n: int
    needed: int
    alpha: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def forecast(
    found: Evidence,
    n: int,
    max_loss: float,
    alpha: float,
    labelled: float,
    held: float = 0.0,
    tested: Sequence[Bit] = (),
    price: float = 0.0,
) -> Forecast:
    """Say what a certification on n rows should give.

    Args:
        found: Rows that teach.
        n: Rows that certify.
        max_loss: The promise.
        alpha: What it may err with.
        labelled: Share of the disagreements whose truth will be known.
        held: Share of the inputs that stays local now.
        tested: What tests of the version have shown.
        price: What a further certify row costs, as a share of the inputs that it may serve.
    """

    @cache
    def expected(rows: int, share: float) -> float:
        chance = found.chances(rows, max_loss, alpha, share, tested)
        return max(held, float((chance * np.arange(1, _STEPS + 1)).max()) / _STEPS)

    wish = max(
        (n, *(size for size in _TABLES if size > n)), key=lambda size: expected(size, labelled) - (size - n) * price
    )
    coverage, chance = found.best(n, max_loss, alpha, labelled, held, tested)
    all_told = found.chances(2 * n, max_loss, alpha, 1.0) * np.arange(1, _STEPS + 1) / _STEPS
    reach = float(np.argmax(all_told) + 1) / _STEPS if all_told.any() else 0.0
    wanted = float(found.weight[~found.agree & (found.place < max(reach, 0.5))].sum()) * n
    more = min(1.0, labelled + _LABELS / wanted) if wanted else 1.0
    return Forecast(
        coverage=coverage,
        chance=chance,
        expected=expected(n, labelled),
        with_twice=expected(2 * n, labelled),
        wish=wish,
        labels=expected(n, more),
        disagreements=float(found.weight[~found.agree & np.isnan(found.harm)].sum()),
        reach=reach,
        n=n,
        needed=least_rows(max_loss, 1.0 - alpha),
        alpha=alpha,
        rows=len(found.rows),
    )
