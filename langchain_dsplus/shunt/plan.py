"""What rows that only teach let expect of the rows that certify: how much would pass, and what labels would buy.

Nothing here looks at a row that is set apart, so what it says may decide which policy is tested, and when.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from langchain_dsplus.threshold.exact import critical_value, least_rows, tango_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

_STEPS = 50
_LABELS = 50
LIKELY = 0.6
"""How likely a certification should pass, to be worth its part of the error probability."""
_QUANTILES = np.array([-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28])
"""Of the normal distribution: where the loss of a test may come to lie."""
_HARM, _GAIN, _PRIOR = 0.5, 0.25, 8.0
"""Of a disagreement whose truth nobody knows: how often the large model alone is right, the small one alone; and how
many labels that guess is worth."""


class Judged(NamedTuple):
    """One row that teaches, and what a model that had not seen it says."""

    route_id: str
    confidence: float
    small: str
    large: str
    gold: str | None


@dataclass(frozen=True)
class Evidence:
    """Rows that teach, judged by models that had not seen them.

    Attributes:
        rows: The rows.
        confidence: Of the small model, shape (m,).
        agree: Whether it says what the large model says.
        harm: Whether only the large model is right; NaN where they disagree and nobody knows.
        gain: Whether only the small one is right; NaN likewise.
    """

    rows: list[Judged]
    confidence: Floats
    agree: NDArray[np.bool_]
    harm: Floats
    gain: Floats

    @classmethod
    def of(cls, rows: Sequence[Judged]) -> Evidence:
        """From what was said."""

        def only(one: str, other: str, gold: str | None) -> float:
            return 0.0 if one == other else math.nan if gold is None else float(one == gold)

        return cls(
            rows=list(rows),
            confidence=np.array([row.confidence for row in rows], dtype=float),
            agree=np.array([row.small == row.large for row in rows], dtype=bool),
            harm=np.array([only(row.large, row.small, row.gold) for row in rows], dtype=float),
            gain=np.array([only(row.small, row.large, row.gold) for row in rows], dtype=float),
        )

    def open(self, reach: float) -> list[Judged]:
        """Disagreements without a label among that share of the rows that the model is surest of."""
        if not self.rows or not reach:
            return []
        least = float(np.quantile(self.confidence, 1.0 - reach))
        return [
            row for row, harm in zip(self.rows, self.harm, strict=True) if math.isnan(harm) and row.confidence >= least
        ]

    def rates(self, labelled: float) -> tuple[Floats, Floats, Floats]:
        """Harms, gains and disagreements per input at coverage 1/50, 2/50, ..., shape (50,) each.

        Args:
            labelled: Share of the disagreements that have gold; the others are harms.
        """
        order = np.argsort(-self.confidence, kind="stable")
        differs, harm, gain = ~self.agree[order], self.harm[order], self.gain[order]
        known = differs & ~np.isnan(harm)
        seen = float(known.sum())
        q_harm = (float(harm[known].sum()) + _HARM * _PRIOR) / (seen + _PRIOR)
        q_gain = (float(gain[known].sum()) + _GAIN * _PRIOR) / (seen + _PRIOR)
        harm = np.where(differs, np.where(known, harm, q_harm), 0.0)
        gain = np.where(differs, np.where(known, gain, q_gain), 0.0)
        harm = labelled * harm + (1.0 - labelled) * differs
        gain = labelled * gain
        m = len(order)
        ends = np.maximum(1, np.round(np.arange(1, _STEPS + 1) * m / _STEPS).astype(int)) - 1
        return np.cumsum(harm)[ends] / m, np.cumsum(gain)[ends] / m, np.cumsum(differs)[ends] / m

    def best(self, n: int, max_loss: float, alpha: float, labelled: float) -> tuple[float, float]:
        """The share of inputs whose policy is the best bet in a test on n rows, and how likely it passes.

        The best bet is the largest product of both among those that are likely to pass: a test that fails costs error
        probability, and lets out what it found. How likely: over where the loss seen on n rows may come to lie, given
        what was seen on these m.
        """
        m = len(self.confidence)
        if not m or n < least_rows(max_loss, 1.0 - alpha):
            return 0.0, 0.0
        harm, gain, _ = self.rates(labelled)
        spread = np.sqrt((harm + gain + 1.0 / m) * (1.0 / m + 1.0 / n))
        harms = np.clip(harm + _QUANTILES[:, None] * spread, 0.0, 1.0 - gain) * n
        passed = tango_score(harms, gain * n, n, max_loss) <= critical_value(n, max_loss, alpha)
        chance = np.minimum.accumulate(passed.mean(axis=0))
        shares = np.arange(1, _STEPS + 1) / _STEPS
        place = int(np.argmax(shares * np.where(chance >= LIKELY, 1.0, 1e-3) * chance))
        return (float(shares[place]), float(chance[place])) if chance[place] > 0.0 else (0.0, 0.0)


@dataclass(frozen=True)
class Forecast:
    """What the next certification should give.

    Attributes:
        coverage: Share of the inputs that the policy would keep local which is the best bet now.
        chance: How likely it passes.
        with_twice: What may be expected (share times chance) with twice as many certify rows.
        labels: What may be expected with 50 more labels of disagreements.
        disagreements: Share of the inputs on which the models disagree and nobody told who is right.
        reach: Share of inputs that twice the rows and all labels would keep local.
        n: Certify rows there are.
        needed: The least that could show anything.
        alpha: What the next certification may err with.
        rows: Rows that this rests on.
    """

    coverage: float
    chance: float
    with_twice: float
    labels: float
    disagreements: float
    reach: float
    n: int
    needed: int
    alpha: float
    rows: int

    @property
    def expected(self) -> float:
        """Share times chance."""
        return self.coverage * self.chance

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def forecast(found: Evidence, n: int, max_loss: float, alpha: float, labelled: float) -> Forecast:
    """Say what a certification on n rows should give.

    Args:
        found: Rows that teach.
        n: Rows that certify.
        max_loss: The promise.
        alpha: What it may err with.
        labelled: Share of the disagreements whose truth will be known.
    """
    m = len(found.confidence)

    def expected(rows: int, share: float) -> float:
        return math.prod(found.best(rows, max_loss, alpha, share))

    coverage, chance = found.best(n, max_loss, alpha, labelled)
    reach, _ = found.best(2 * n, max_loss, alpha, 1.0)
    wanted = float(found.rates(1.0)[2][max(1, round(max(reach, 0.5) * _STEPS)) - 1]) * n if m else 0.0
    more = min(1.0, labelled + _LABELS / wanted) if wanted else 1.0
    return Forecast(
        coverage=coverage,
        chance=chance,
        with_twice=expected(2 * n, labelled),
        labels=max(coverage * chance, expected(n, more)),
        disagreements=float((~found.agree & np.isnan(found.harm)).mean()) if m else 0.0,
        reach=reach,
        n=n,
        needed=least_rows(max_loss, 1.0 - alpha),
        alpha=alpha,
        rows=m,
    )
