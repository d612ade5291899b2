"""`LearnedAgreement`: how likely the large model would say the same, from the small model's probabilities alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Answer
from langchain_dsplus.labels import list_labels
from langchain_dsplus.scores.gain import read_probabilities
from langchain_dsplus.scores.ready import Arrays, ReadyScore, losses_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_dsplus.outcomes import Outcomes


SOFT = "large_probabilities"
"""The column with what the large model holds likely: a dict from label to probability."""
_PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0)
_FOLDS = 5
_LEAST = 50
_TINY = 1e-6
_DIGITS = 10  # the last digits depend on how many rows are scored at once


class LearnedAgreement(Shown, ReadyScore):
    """The log-odds that accepting loses nothing, by a logistic regression that leans on the largest probability.

    The log-odds of the largest probability are free; what each label's probability adds, and which label was chosen, is
    shrunk towards nothing as far as cross-validation says. So with few rows it is the largest probability, and with
    more it learns which options the small model takes too often. A row is lost where `certify` says so: without gold,
    where the two disagree. Where the large model tells its own probabilities (column `large_probabilities`: decision
    models do), what it holds likely is learned from, which says more than its choice: 200 rows are enough.

    Example:
        ```python
        fit_rows, certify_rows = table.split(0.1)
        score = LearnedAgreement().fit(fit_rows)
        certificate = certify(score_outcomes(certify_rows, score), "2 points")
        ```
    """

    name = "learned_agreement"
    before = False

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[str] = []
        self.penalty = 0.0
        self._center: Floats = np.zeros(0)
        self._scale: Floats = np.zeros(0)
        self._weight: Floats = np.zeros(0)

    def fit(self, outcomes: Outcomes, inputs: Sequence[Any] | None = None) -> Self:
        """Learn from a table with `probabilities`, and `large_probabilities` where they are known.

        Args:
            outcomes: The fit rows, not those that certify.
            inputs: Not looked at.

        Raises:
            ValueError: If there are fewer than 50 usable rows, or the labels of two rows differ.
        """
        if "probabilities" not in outcomes:
            raise ValueError("`outcomes` needs the column 'probabilities' of the small model")
        loss, both = losses_of(outcomes)
        said = outcomes.values("probabilities")
        places = [place for place in np.flatnonzero(both) if said[place]]
        labels = list_labels(outcomes.about.get("labels") or sorted({key for place in places for key in said[place]}))
        lost = np.maximum(loss, 0.0)
        if SOFT in outcomes:
            # Of rows without gold alone: where who was right is known, that counts.
            unknown = ~outcomes.known_gold()
            for place, spread in enumerate(outcomes.values(SOFT)):
                if spread and said[place] and unknown[place]:
                    lost[place] = 1.0 - float(spread.get(max(said[place], key=said[place].get), 0.0))
        rows = [read_probabilities(said[place], labels) for place in places]
        self.fit_rows(rows, lost[places], labels=labels)
        self._remember(outcomes)
        return self

    def fit_rows(self, probabilities: ArrayLike, lost: ArrayLike, *, labels: Sequence[str]) -> Self:
        """Learn from arrays.

        Args:
            probabilities: Of the small model, shape (n, K).
            lost: How likely accepting each row loses, in [0, 1]; shape (n,).
            labels: The K classes.

        Raises:
            ValueError: If there are fewer than 50 rows, or shapes do not fit.
        """
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(lost, dtype=np.float64)
        names = list_labels(labels)
        if p.ndim != 2 or p.shape[1] != len(names) or y.shape != (len(p),) or not ((y >= 0.0) & (y <= 1.0)).all():
            raise ValueError(f"`probabilities` must have shape (n, {len(names)}) and `lost` be n numbers in [0, 1]")
        if len(p) < _LEAST:
            raise ValueError(f"a learned agreement needs at least {_LEAST} rows with probabilities, got {len(p)}")
        raw = _features(p)
        self.labels = names
        self._center, self._scale = raw.mean(axis=0), raw.std(axis=0) + _TINY
        x = self._standard(raw)
        folds = np.arange(len(x)) % _FOLDS
        missed = [
            sum(
                _missed(x[folds == fold], y[folds == fold], _fitted(x[folds != fold], y[folds != fold], penalty))
                for fold in range(_FOLDS)
            )
            for penalty in _PENALTIES
        ]
        self.penalty = _PENALTIES[int(np.argmin(missed))]
        self._weight = _fitted(x, y, self.penalty)
        return self

    def __call__(self, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> list[float]:
        """Score inputs by what the small model said about them; `inputs` are not looked at.

        Raises:
            ValueError: If answers are missing, or their labels are not those of the fit.
        """
        if answers is None:
            raise ValueError("a learned agreement needs the answers of the small model")
        rows = [read_probabilities(answer["probabilities"], self.labels) for answer in answers]
        return [float(value) for value in self.scores(rows)]

    def scores(self, probabilities: ArrayLike) -> Floats:
        """Score many rows of probabilities, shape (n, K), in the order of `labels`."""
        if not self.labels:
            raise self._unfitted()
        p = np.asarray(probabilities, dtype=np.float64).reshape(-1, len(self.labels))
        found: Floats = np.round(-(self._standard(_features(p)) * self._weight).sum(axis=1), _DIGITS)
        return found

    def _standard(self, raw: Floats) -> Floats:
        return np.column_stack([np.ones(len(raw)), (raw - self._center) / self._scale])

    def _settings(self) -> dict[str, Any]:
        if not self.labels:
            raise self._unfitted()
        return {"labels": self.labels, "penalty": self.penalty}

    def _arrays(self) -> Arrays:
        return {"center": self._center, "scale": self._scale, "weight": self._weight}

    @classmethod
    def _made(cls, settings: Mapping[str, Any], arrays: Arrays, folder: Path, options: Mapping[str, Any]) -> Self:
        score = cls()
        score.labels, score.penalty = list_labels(settings["labels"]), float(settings["penalty"])
        score._center, score._scale, score._weight = (arrays[name] for name in ("center", "scale", "weight"))
        width = 1 + 2 * len(score.labels)
        shapes = score._center.shape, score._scale.shape, score._weight.shape
        if shapes != ((width,), (width,), (width + 1,)) or not all(np.isfinite(part).all() for part in arrays.values()):
            raise ValueError(f"{folder} is damaged: its numbers do not fit. Save the score again")
        return score


def _features(p: Floats) -> Floats:
    """The log-odds of the largest probability, the logarithm of each, and which is the largest; shape (n, 1 + 2 K)."""
    top = p.max(axis=1)
    odds = np.log(top + _TINY) - np.log(np.maximum(1.0 - top, 0.0) + _TINY)
    return np.column_stack([odds, np.log(p + _TINY), np.eye(p.shape[1])[p.argmax(axis=1)]])


def _fitted(x: Floats, y: Floats, penalty: float) -> Floats:
    """Logistic regression by Newton's method; the first two columns, 1 and the odds, are next to free."""
    cost = np.concatenate([[_TINY, 1e-3], np.full(x.shape[1] - 2, penalty)])
    weight = np.zeros(x.shape[1])
    weight[1] = -1.0
    for _ in range(30):
        m = 1.0 / (1.0 + np.exp(-np.clip(x @ weight, -30.0, 30.0)))
        slope = x.T @ (m - y) + cost * weight
        step = np.linalg.solve((x.T * (m * (1.0 - m))) @ x + np.diag(cost), slope)
        weight = weight - step
        if np.abs(step).max() < _TINY:
            break
    return weight


def _missed(x: Floats, y: Floats, weight: Floats) -> float:
    """The negative log-likelihood of soft targets."""
    z = x @ weight
    return float((np.logaddexp(0.0, z) - y * z).sum())
