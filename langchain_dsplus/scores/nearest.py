"""`NearestOutcomes`: what happened to the most similar past inputs, and how far away they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Answer
from langchain_dsplus.scores.encoding import InputEncoder
from langchain_dsplus.scores.ready import Arrays, ReadyScore, inputs_of, losses_of
from langchain_dsplus.small_models.encoder import DEFAULT_ENCODER

if TYPE_CHECKING:
    from langchain_dsplus.outcomes import Outcomes


_CHUNK = 1 << 22  # similarities held at once


class NearestOutcomes(Shown, ReadyScore):
    """What staying local won or lost on the nearest past inputs, in [-1, 1]; below -1 where none is near.

    As in OrchestraLLM (Lee et al. 2023, 2311.09758), similar past inputs say who should answer. Their losses are
    averaged with weights exp(-distance / s), where s is the median distance of a fitted row to its nearest other one,
    and with the mean loss of all fitted rows, of weight 1: far from everything that mean is what is left. The distance
    is 1 - cosine. An input whose nearest row is farther away than all but `outside` of the fitted rows are from each
    other is out of distribution: its score is -1 minus the distance, so it never stays local before one that is not.

    Args:
        encoder: A folder, a name, an `Encoder`, or any object with `encode(list of str) -> (n, d) array`.
        k: Neighbors.
        outside: Share of the fitted rows whose own nearest row is farther away than the gate allows, in [0, 1).
        input_key: Where a dict input holds its text.

    Example:
        ```python
        score = NearestOutcomes(small.encoder).fit(fit_outcomes, fit_texts)
        router = ConfidenceRouter(small=small, large=large, score=score, threshold=certificate)
        ```
    """

    name = "nearest_outcomes"

    def __init__(
        self, encoder: Any = DEFAULT_ENCODER, *, k: int = 20, outside: float = 0.01, input_key: str | None = None
    ) -> None:
        super().__init__()
        if k < 1 or not 0.0 <= outside < 1.0:
            raise ValueError("`k` must be at least 1 and `outside` in [0, 1)")
        self.encoder = InputEncoder(encoder, input_key)
        self.k = int(k)
        self.outside = float(outside)
        self._rows: Floats | None = None
        self._losses: Floats = np.zeros(0)
        self._scale = 1.0
        self._limit = 2.0

    def fit(self, outcomes: Outcomes, inputs: Sequence[Any] | None = None) -> Self:
        """Keep the rows in which both models answered: their vectors, and what staying local lost.

        Args:
            outcomes: The fit rows, not those that certify.
            inputs: Their inputs, in the order of the rows; by default the column `input`.

        Raises:
            ValueError: If there are fewer than two such rows.
        """
        loss, both = losses_of(outcomes)
        values = [value for value, used in zip(inputs_of(outcomes, inputs), both, strict=True) if used]
        if len(values) < 2:
            raise ValueError("nearest outcomes need at least two rows in which both models answered")
        self._rows, self._losses = self.encoder(values), loss[both]
        apart = np.concatenate([one.min(axis=1) for one in self._apart(self._rows, leave_out=True)])
        self._scale = max(float(np.median(apart)), 1e-3)
        self._limit = float(np.quantile(apart, 1.0 - self.outside)) + 1e-6
        self._remember(outcomes)
        return self

    def __call__(self, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> list[float]:
        """Return one number for each input; `answers` are not looked at."""
        if self._rows is None:
            raise self._unfitted()
        found: list[Floats] = []
        k, prior = min(self.k, len(self._losses)), float(self._losses.mean())
        for apart in self._apart(self.encoder(inputs)):
            # All that are as near as the k-th: which of equal ones come first must not decide.
            near = apart <= np.partition(apart, k - 1, axis=1)[:, k - 1 : k]
            weight = np.exp(-apart / self._scale) * near
            gain = -(weight @ self._losses + prior) / (weight.sum(axis=1) + 1.0)
            nearest = apart.min(axis=1)
            found.append(np.where(nearest > self._limit, -1.0 - nearest, gain))
        # Rounded: the last digits depend on how many rows are scored at once.
        return [] if not found else [float(value) for value in np.round(np.concatenate(found), 10)]

    def distance(self, inputs: Sequence[Any]) -> list[float]:
        """How far away the nearest fitted row is, in [0, 2]; the gate is at `limit`."""
        if self._rows is None:
            raise self._unfitted()
        return [float(value) for part in self._apart(self.encoder(inputs)) for value in part.min(axis=1)]

    @property
    def limit(self) -> float:
        """The distance beyond which an input is out of distribution."""
        return self._limit

    def _apart(self, vectors: Floats, *, leave_out: bool = False) -> list[Floats]:
        """Distances to the fitted rows, in parts of at most 4 million."""
        assert self._rows is not None
        parts = []
        step = max(1, _CHUNK // len(self._rows))
        for start in range(0, len(vectors), step):
            apart: Floats = np.round(1.0 - vectors[start : start + step] @ self._rows.T, 9)
            if leave_out:
                apart[np.arange(len(apart)), start + np.arange(len(apart))] = np.inf
            parts.append(apart)
        return parts

    def _settings(self) -> dict[str, Any]:
        if self._rows is None:
            raise self._unfitted()
        numbers = {"k": self.k, "outside": self.outside, "scale": self._scale, "limit": self._limit}
        return {**self.encoder.settings(), **numbers}

    def _arrays(self) -> Arrays:
        return {"rows": self._rows, "losses": self._losses}

    @classmethod
    def _made(cls, settings: Mapping[str, Any], arrays: Arrays, folder: Path, options: Mapping[str, Any]) -> Self:
        score = cls(k=settings["k"], outside=settings["outside"])
        score.encoder = InputEncoder.made(settings, folder, options)
        score._rows, score._losses = arrays["rows"], arrays["losses"]
        score._scale, score._limit = float(settings["scale"]), float(settings["limit"])
        fine = score._rows.ndim == 2 and score._losses.shape == (len(score._rows),) and len(score._rows) > 1
        if not (fine and np.isfinite(score._rows).all() and np.isin(score._losses, (-1, 0, 1)).all()):
            raise ValueError(f"{folder} is damaged: its rows do not fit. Save the score again")
        return score
