"""`LearnedGain`: a confidence score that knows where the large model is weak, learned from paired outcomes.

The usual scores ask how sure the small model is. What decides whether an input may stay local is another thing: how
often the large model would be right where the small one is wrong, and the other way round. Both are estimated here from
rows where both have answered. Keeping what has the highest expected gain first is the Bayes rule for deferral
(Jitkrittum et al. 2023, 2307.02764); FORC's meta-model is one such estimate. It needs rows of its own, never those
that certify.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.answer import Answer
from langchain_dsplus.labels import list_labels
from langchain_dsplus.scores.encoding import InputEncoder, unit_rows
from langchain_dsplus.scores.ready import Arrays, ReadyScore, inputs_of, losses_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from langchain_dsplus.outcomes import Outcomes


SCORE = "learned_gain"

_LEAST_ROWS = 50
_DIGITS = 5  # of the stored rows: rounded before the fit, so that what is loaded scores like what was fitted
_TINY = 1e-6
_FEATURES = 5
_CHUNK = 1 << 22  # similarities held at once
_KINDS = (-1, 0, 1)
_ARRAYS = ("roots", "losses", "center", "scale", "weight", "bias")


class LearnedGain(ReadyScore):
    """P(small right, large wrong) - P(large right, small wrong), from the probabilities of the small model.

    Two things are put together by a multinomial logistic regression: how sure the small model is (largest probability,
    margin, log-odds of the best two), and what happened to similar inputs: the shares of fitted rows that were lost and
    won, weighted by exp(similarity / bandwidth). The similarity of two inputs is the Bhattacharyya coefficient of their
    probabilities, the sum of sqrt(p_k q_k); where embeddings are given too, the mean of that and their cosine.

    What counts is the order it puts inputs in; as a probability it is rough. Fit it on rows of its own: not those that
    the small model was trained on, and never those that certify. With gold for all of these rows, training the small
    model on them as well may be worth more.

    Args:
        bandwidth: Of the similarity, above 0; small looks at the nearest rows only.
        l2: Penalty of the regression on standardized features, above 0.
        encoder: What makes embeddings of the inputs; None looks at the probabilities alone.
        input_key: Where a dict input holds its text.

    Attributes:
        labels: The classes, in the order of the columns; empty before `fit`.

    Example:
        ```python
        gain = LearnedGain().fit(fit_outcomes)  # a table with `probabilities`
        router = ConfidenceRouter(small=small, large=large, score=gain, threshold=certificate)
        ```
    """

    name = SCORE
    before = False

    def __init__(
        self, *, bandwidth: float = 0.05, l2: float = 10.0, encoder: Any = None, input_key: str | None = None
    ) -> None:
        super().__init__()
        if not (0.0 < bandwidth < math.inf and 0.0 < l2 < math.inf):
            raise ValueError("`bandwidth` and `l2` must be finite and above 0")
        self.bandwidth = float(bandwidth)
        self.l2 = float(l2)
        self.encoder = None if encoder is None else InputEncoder(encoder, input_key)
        self.labels: list[str] = []
        self._roots: Floats | None = None
        self._embeddings: Floats | None = None
        self._losses: Floats = np.zeros(0)
        self._center: Floats = np.zeros(_FEATURES)
        self._scale: Floats = np.ones(_FEATURES)
        self._weight: Floats = np.zeros((_FEATURES, len(_KINDS)))
        self._bias: Floats = np.zeros(len(_KINDS))

    def __repr__(self) -> str:
        return f"LearnedGain({len(self._losses)} rows, {len(self.labels)} labels)"

    # --- fitting ------------------------------------------------------------------------------------------------

    def fit(
        self, outcomes: Outcomes, inputs: Sequence[Any] | None = None, *, embeddings: ArrayLike | None = None
    ) -> Self:
        """Learn from a table. The one rule for gold holds: it is needed only where small and large disagree.

        Rows without probabilities, and rows whose large model failed, are left out. A disagreement without gold counts
        as a harm, as in `certify`.

        Args:
            outcomes: The fit split, with `probabilities`.
            inputs: The inputs of its rows, where there is an encoder; by default the column `input`.
            embeddings: Vectors in their place, shape (len(outcomes), d).

        Raises:
            ValueError: If there are fewer than 50 usable rows, the labels of two rows differ, or small and large are
                equally right everywhere, so that there is nothing to learn.
        """
        if "probabilities" not in outcomes:
            raise ValueError("`outcomes` needs the column 'probabilities' of the small model")
        loss, usable = losses_of(outcomes)
        said = outcomes.values("probabilities")
        places = np.flatnonzero(usable & np.array([bool(row) for row in said])).tolist()
        labels = list_labels(outcomes.about.get("labels") or sorted({key for place in places for key in said[place]}))
        rows = [read_probabilities(said[place], labels) for place in places]
        vectors = None
        if embeddings is not None:
            vectors = unit_rows(embeddings, len(outcomes))[places]
        elif self.encoder is not None:
            values = inputs_of(outcomes, inputs)
            vectors = self.encoder([values[place] for place in places])
        self.fit_rows(rows, loss[places], labels=labels, embeddings=vectors)
        self._remember(outcomes)
        return self

    def fit_rows(
        self,
        probabilities: ArrayLike,
        losses: ArrayLike,
        *,
        labels: Sequence[str],
        embeddings: ArrayLike | None = None,
    ) -> Self:
        """Learn from arrays.

        Args:
            probabilities: Of the small model, shape (n, K).
            losses: What accepting each row loses against the large model: 1 lost, 0, -1 won; shape (n,).
            labels: The K classes.
            embeddings: Shape (n, d).

        Raises:
            ValueError: As `fit`; or shapes do not fit.
        """
        from langchain_dsplus.small_models.softmax import fit_softmax

        names = list_labels(labels)
        p = _checked(probabilities, len(names))
        loss = np.asarray(losses, dtype=np.float64)
        if loss.shape != (len(p),) or not np.isin(loss, _KINDS).all():
            raise ValueError(f"`losses` must be {len(p)} numbers out of -1, 0 and 1")
        if len(p) < _LEAST_ROWS:
            raise ValueError(f"a learned gain needs at least {_LEAST_ROWS} rows with probabilities, got {len(p)}")
        if not loss.any():
            raise ValueError(
                "small and large model are equally right on every row: there is no gain to learn; use the margin"
            )
        vectors = None if embeddings is None else unit_rows(embeddings, len(p))
        self.labels = names
        roots: Floats = np.sqrt(p).round(_DIGITS)
        self._roots = roots
        self._embeddings = None if vectors is None else vectors.round(_DIGITS)
        self._losses = loss
        # A row must not see its own loss, or the regression would trust its neighbors too much.
        local = self._local(roots, self._embeddings, leave_out=True)
        raw = _features(p, local)
        self._center, self._scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), _TINY)
        kinds = (loss[:, None] == np.array(_KINDS)).astype(np.float64)
        weight, bias = fit_softmax((raw - self._center) / self._scale, kinds, np.ones(len(p)), l2=self.l2)
        self._weight, self._bias = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
        return self

    # --- scoring ------------------------------------------------------------------------------------------------

    @property
    def needs_embeddings(self) -> bool:
        """Whether it was fitted with embeddings."""
        return self._embeddings is not None

    def __call__(self, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> list[float]:
        """Score inputs by what the small model said about them: in [-1, 1], higher keeps local.

        Raises:
            ValueError: If answers are missing, their labels are not those of the fit, or it was fitted with embeddings
                and has no encoder.
        """
        self._fitted()
        if answers is None:
            raise ValueError("a learned gain needs the answers of the small model")
        rows = [read_probabilities(answer["probabilities"], self.labels) for answer in answers]
        vectors = None if self.encoder is None else self.encoder(inputs)
        return [float(value) for value in self.scores(rows, vectors)]

    def scores(self, probabilities: ArrayLike, embeddings: ArrayLike | None = None) -> Floats:
        """Score many inputs, shape (n,).

        Args:
            probabilities: Shape (n, K), columns in the order of `labels`.
            embeddings: Shape (n, d), where it was fitted with them.

        Raises:
            ValueError: If it is not fitted, shapes do not fit, or embeddings are missing or not wanted.
        """
        self._fitted()
        p = _checked(probabilities, len(self.labels))
        if (embeddings is None) == self.needs_embeddings:
            how = "was fitted with embeddings: give it an `encoder`, or pass `embeddings`"
            raise ValueError(f"this LearnedGain {how if self.needs_embeddings else 'was fitted without embeddings'}")
        vectors = None if embeddings is None else unit_rows(embeddings, len(p))
        result: list[Floats] = [np.zeros(0)]
        step = max(1, _CHUNK // len(self._losses))
        for start in range(0, len(p), step):
            part = slice(start, start + step)
            local = self._local(np.sqrt(p[part]), None if vectors is None else vectors[part])
            z = ((_features(p[part], local) - self._center) / self._scale) @ self._weight + self._bias
            e = np.exp(z - z.max(axis=1, keepdims=True))
            # Rounded: the last digits depend on how many rows are scored at once.
            result.append(np.round((e[:, 0] - e[:, 2]) / e.sum(axis=1), 10))
        return np.concatenate(result)

    def _local(self, roots: Floats, vectors: Floats | None, *, leave_out: bool = False) -> Floats:
        """Shares of the fitted rows that were lost and won, weighted by similarity; shape (n, 2)."""
        similarity = roots @ self._known().T
        if vectors is not None and self._embeddings is not None:
            if vectors.shape[1] != self._embeddings.shape[1]:
                raise ValueError(f"`embeddings` must have {self._embeddings.shape[1]} columns, not {vectors.shape[1]}")
            similarity = (similarity + vectors @ self._embeddings.T) / 2
        if leave_out:
            np.fill_diagonal(similarity, -np.inf)
        weight = np.exp((similarity - similarity.max(axis=1, keepdims=True)) / self.bandwidth)
        kinds = np.stack([self._losses > 0, self._losses < 0], axis=1).astype(np.float64)
        result: Floats = (weight @ kinds) / weight.sum(axis=1, keepdims=True)
        return result

    def _known(self) -> Floats:
        assert self._roots is not None
        return self._roots

    def _fitted(self) -> None:
        if self._roots is None:
            raise self._unfitted()

    def _settings(self) -> dict[str, Any]:
        self._fitted()
        encoder = {} if self.encoder is None else self.encoder.settings()
        return {**encoder, "labels": self.labels, "bandwidth": self.bandwidth, "l2": self.l2}

    def _arrays(self) -> Arrays:
        kept = {name: getattr(self, f"_{name}") for name in _ARRAYS}
        return kept if self._embeddings is None else {**kept, "embeddings": self._embeddings}

    @classmethod
    def _made(cls, settings: Mapping[str, Any], arrays: Arrays, folder: Path, options: Mapping[str, Any]) -> Self:
        self = cls(bandwidth=settings["bandwidth"], l2=settings["l2"])
        if "encoder" in settings:
            self.encoder = InputEncoder.made(settings, folder, options)
        self.labels = list_labels(settings["labels"])
        n, k, kinds = len(arrays["losses"]), len(self.labels), len(_KINDS)
        shapes = {"losses": (n,), "roots": (n, k), "center": (_FEATURES,), "scale": (_FEATURES,)}
        shapes |= {"weight": (_FEATURES, kinds), "bias": (kinds,)}
        for name in _ARRAYS:
            setattr(self, f"_{name}", _numbers(arrays[name], shapes[name]))
        if "embeddings" in arrays:
            self._embeddings = _numbers(arrays["embeddings"], (n, None))
        if n < _LEAST_ROWS or not np.isin(self._losses, _KINDS).all() or not (self._scale > 0).all():
            raise ValueError(f"{folder} is damaged: its numbers are out of range. Save the score again")
        return self


def _features(p: Floats, local: Floats) -> Floats:
    """How sure the small model is, and what happened nearby; shape (n, 5)."""
    if p.shape[1] == 1:
        first, second = p[:, 0], np.zeros(len(p))
    else:
        top = np.partition(p, -2, axis=1)[:, -2:]
        first, second = top[:, 1], top[:, 0]
    odds = np.log(first + _TINY) - np.log(second + _TINY)
    return np.column_stack([first, first - second, odds, local])


def _checked(probabilities: ArrayLike, k: int) -> Floats:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.size == 0:
        p = p.reshape(0, k)
    if p.ndim != 2 or p.shape[1] != k or not (np.isfinite(p) & (p >= 0.0)).all():
        raise ValueError(f"`probabilities` must be finite, at least 0, and have shape (n, {k}); the shape is {p.shape}")
    return p


def read_probabilities(probabilities: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    """Probabilities in the order of the labels that a score was fitted with.

    Raises:
        ValueError: If they are of other labels.
    """
    if len(probabilities) != len(labels) or not all(label in probabilities for label in labels):
        raise ValueError("`probabilities` must name exactly the labels that the score was fitted with")
    return [float(probabilities[label]) for label in labels]


def _numbers(values: Any, shape: tuple[int | None, ...]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    fits = found.ndim == len(shape) and all(w in (None, g) for w, g in zip(shape, found.shape, strict=True))
    if not fits or not np.isfinite(found).all():
        raise ValueError("an array has the wrong shape, or a number that is not finite")
    return found
