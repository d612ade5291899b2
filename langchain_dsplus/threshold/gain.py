"""`LearnedGain`: a confidence score that knows where the large model is weak, learned from paired outcomes.

The usual scores ask how sure the small model is. What decides whether an input may stay local is another thing: how
often the large model would be right where the small one is wrong, and the other way round. Both are estimated here from
rows where both have answered. Keeping what has the highest expected gain first is the Bayes rule for deferral
(Jitkrittum et al. 2023, 2307.02764); it needs rows of its own, never those that certify.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np
from pydantic import Field

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel, read_text
from langchain_dsplus.threshold.differences import differences

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from langchain_dsplus.outcomes import Outcomes

    Floats: TypeAlias = NDArray[np.float64]

SCORE = "learned_gain"

_FORMAT = 1
_LEAST_ROWS = 50
_DIGITS = 5  # of the stored rows: rounded before the fit, so that what is loaded scores like what was fitted
_TINY = 1e-6
_FEATURES = 5
_CHUNK = 1 << 22  # similarities held at once
_KINDS = (-1, 0, 1)


class LearnedGain:
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

    Attributes:
        labels: The classes, in the order of the columns; empty before `fit`.

    Example:
        ```python
        gain = LearnedGain().fit(fit_outcomes)  # a table with `probabilities`
        router = ConfidenceRouter(small=small, large=large, score=gain, threshold=certificate)
        ```
    """

    def __init__(self, *, bandwidth: float = 0.05, l2: float = 10.0) -> None:
        if not (0.0 < bandwidth < math.inf and 0.0 < l2 < math.inf):
            msg = "`bandwidth` and `l2` must be finite and above 0"
            raise ValueError(msg)
        self.bandwidth = float(bandwidth)
        self.l2 = float(l2)
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

    def fit(self, outcomes: Outcomes, *, embeddings: ArrayLike | None = None) -> Self:
        """Learn from a table. The one rule for gold holds: it is needed only where small and large disagree.

        Rows without probabilities, and rows whose large model failed, are left out. A disagreement without gold counts
        as a harm, as in `certify`.

        Args:
            outcomes: The fit split, with `probabilities`.
            embeddings: One vector per row of the table, shape (len(outcomes), d). What scores must give them too.

        Returns:
            Itself.

        Raises:
            ValueError: If there are fewer than 50 usable rows, the labels of two rows differ, or small and large are
                equally right everywhere, so that there is nothing to learn.
        """
        if "probabilities" not in outcomes:
            msg = "`outcomes` needs the column 'probabilities' of the small model"
            raise ValueError(msg)
        found = differences(outcomes).models
        if len(found) != 1:
            msg = "`outcomes` must be about one small model"
            raise ValueError(msg)
        said = outcomes.values("probabilities")
        usable = np.isfinite(found[0].confidence) & np.array([bool(row) for row in said])
        if "large" in outcomes:
            usable &= np.array([answer is not None for answer in outcomes.values("large")])
        places = np.flatnonzero(usable).tolist()
        labels = list_labels(outcomes.about.get("labels") or sorted({key for place in places for key in said[place]}))
        rows = [_read(said[place], labels) for place in places]
        vectors = None
        if embeddings is not None:
            vectors = np.asarray(embeddings, dtype=np.float64)
            if vectors.ndim != 2 or len(vectors) != len(outcomes):
                msg = f"`embeddings` must have shape ({len(outcomes)}, d), not {vectors.shape}"
                raise ValueError(msg)
            vectors = vectors[places]
        return self.fit_rows(rows, found[0].loss[places], labels=labels, embeddings=vectors)

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

        Returns:
            Itself.

        Raises:
            ValueError: As `fit`; or shapes do not fit.
        """
        from langchain_dsplus.small_models.softmax import fit_softmax

        names = list_labels(labels)
        p = _checked(probabilities, len(names))
        loss = np.asarray(losses, dtype=np.float64)
        if loss.shape != (len(p),) or not np.isin(loss, _KINDS).all():
            msg = f"`losses` must be {len(p)} numbers out of -1, 0 and 1"
            raise ValueError(msg)
        if len(p) < _LEAST_ROWS:
            msg = f"a learned gain needs at least {_LEAST_ROWS} rows with probabilities, got {len(p)}"
            raise ValueError(msg)
        if not loss.any():
            msg = "small and large model are equally right on every row: there is no gain to learn; use the margin"
            raise ValueError(msg)
        vectors = None if embeddings is None else _unit(embeddings, len(p))
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
        """Whether it was fitted with embeddings: then use it through `GainModel`."""
        return self._embeddings is not None

    def __call__(self, probabilities: Mapping[str, float]) -> float:
        """Score one input: in [-1, 1], higher means keep local.

        Raises:
            ValueError: If the labels are not those of the fit, or it needs embeddings.
        """
        self._fitted()
        return float(self.scores([_read(probabilities, self.labels)])[0])

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
            how = "was fitted with embeddings: pass `embeddings`, or use GainModel"
            msg = f"this LearnedGain {how if self.needs_embeddings else 'was fitted without embeddings'}"
            raise ValueError(msg)
        vectors = None if embeddings is None else _unit(embeddings, len(p))
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
                msg = f"`embeddings` must have {self._embeddings.shape[1]} columns, not {vectors.shape[1]}"
                raise ValueError(msg)
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
            msg = "this LearnedGain is not fitted: call `fit(outcomes)`, or `load` a saved one"
            raise ValueError(msg)

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """SHA-256 of everything that scores depend on."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Plain JSON: numbers and labels, no texts."""
        self._fitted()
        body = {
            "format": _FORMAT,
            "kind": "LearnedGain",
            "labels": self.labels,
            "bandwidth": self.bandwidth,
            "l2": self.l2,
            "center": self._center.tolist(),
            "scale": self._scale.tolist(),
            "weight": self._weight.tolist(),
            "bias": self._bias.tolist(),
            "losses": [int(value) for value in self._losses],
            "roots": self._known().tolist(),
            "embeddings": None if self._embeddings is None else self._embeddings.tolist(),
        }
        return json.dumps(body, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is something else, or damaged.
        """
        try:
            body = load_json(text)
            if not isinstance(body, dict) or body.get("kind") != "LearnedGain" or body.get("format") != _FORMAT:
                msg = "not a saved LearnedGain of this version"
                raise ValueError(msg)
            self = cls(bandwidth=body["bandwidth"], l2=body["l2"])
            self.labels = list_labels(body["labels"])
            k = len(self.labels)
            self._losses = _numbers(body["losses"], (None,))
            n = len(self._losses)
            self._roots = _numbers(body["roots"], (n, k))
            if body["embeddings"] is not None:
                self._embeddings = _numbers(body["embeddings"], (n, None))
            self._center = _numbers(body["center"], (_FEATURES,))
            self._scale = _numbers(body["scale"], (_FEATURES,))
            self._weight = _numbers(body["weight"], (_FEATURES, len(_KINDS)))
            self._bias = _numbers(body["bias"], (len(_KINDS),))
            if n < _LEAST_ROWS or not np.isin(self._losses, _KINDS).all() or not (self._scale > 0).all():
                msg = "its numbers are out of range"
                raise ValueError(msg)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else "it is damaged, or something else"
            msg = f"this is no saved LearnedGain: {reason}"
            raise ValueError(msg) from None
        return self

    def save(self, path: str | Path) -> None:
        """Write `to_json` into a file."""
        replace_file(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote; runs no code.

        Raises:
            ValueError: If it is something else, or damaged.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


class GainModel(SmallModel):
    """A small model whose confidence is a `LearnedGain`: same answers, another order of what stays local.

    Unlike a callable given as `score=`, it can use embeddings, and its score has a name and its `version` covers the
    gain, so that certificates can be bound to it.

    Args:
        small: The fitted small model; it must run in this process.
        gain: The fitted gain.
        encoder: What makes the embeddings, where the gain needs them; by default the small model's own encoder. A
            `SentenceClassifier` with that encoder encodes each batch once.
        **kwargs: As in `SmallModel`; labels and name are those of `small`.

    Example:
        ```python
        gain = LearnedGain().fit(fit_outcomes, embeddings=small.embeddings(fit_texts))
        model = GainModel(small, gain)
        model.invoke("where is my card?")["confidence"]  # expected gain of staying local
        ```
    """

    small: Any = Field(exclude=True)
    gain: Any = Field(exclude=True)
    encoder: Any = Field(default=None, exclude=True)

    own_scores: ClassVar[frozenset[str]] = frozenset({SCORE})

    def __init__(self, small: SmallModel, gain: LearnedGain, **kwargs: Any) -> None:
        if small.traces_calls:
            msg = f"`small` must run in this process; {type(small).__name__} calls a chat model"
            raise TypeError(msg)
        if set(small.labels) != set(gain.labels):
            msg = "`small` and `gain` must have the same labels: fit the gain on outcomes of this small model"
            raise ValueError(msg)
        if gain.needs_embeddings and kwargs.get("encoder") is None:
            kwargs["encoder"] = getattr(small, "encoder", None)
            if kwargs["encoder"] is None:
                msg = "`gain` needs embeddings: pass `encoder=`"
                raise ValueError(msg)
        kwargs = {"name": small.name, "score": SCORE, "labels": list(small.labels), **kwargs}
        super().__init__(small=small, gain=gain, **kwargs)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is built again from its parts."""
        return False

    def read(self, value: Any) -> Any:
        """Read an input as the small model does."""
        return self.small.read(super().read(value))

    def predict_proba(self, inputs: list[Any]) -> Any:
        """Ask the small model."""
        return self.small.predict_proba(inputs)

    def _predict(self, values: list[Any]) -> tuple[Any, Floats | None]:
        if not self.gain.needs_embeddings:
            probabilities = np.asarray(self.predict_proba(values), dtype=np.float64)
            return probabilities, self._gains(probabilities, None)
        rows = self.encoder.encode([read_text(value) for value in values])
        small = self.small
        if getattr(small, "encoder", None) is self.encoder:
            small = small.model_copy(update={"encoder": _Given(rows)})  # so that nothing is encoded twice
        probabilities = np.asarray(small.predict_proba(values), dtype=np.float64)
        return probabilities, self._gains(probabilities, rows)

    def _gains(self, probabilities: Floats, rows: Any) -> Floats | None:
        if self.score != SCORE:
            return None
        order = [self.labels.index(label) for label in self.gain.labels]
        scores = np.full(len(probabilities), np.nan)
        good = np.isfinite(probabilities).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1.0) <= 1e-3)
        if good.any():
            vectors = None if rows is None else np.asarray(rows)[good]
            scores[good] = self.gain.scores(probabilities[good][:, order], vectors)
        return scores

    def warmup(self) -> None:
        """Warm the small model up."""
        self.small.warmup()

    def fingerprint(self) -> str:
        """The versions of the small model, the gain and the encoder."""
        parts = [self.small.version, self.gain.version]
        if self.gain.needs_embeddings:
            parts.append(getattr(self.encoder, "version", None))
        if not all(isinstance(part, str) and part != UNVERIFIABLE for part in parts):
            return UNVERIFIABLE
        return " ".join(parts)


class _Given:
    """An encoder that hands out rows that are already there."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def encode(self, texts: list[str]) -> Any:
        """Return the rows; `texts` are those that they were made from."""
        del texts
        return self.rows


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
        msg = f"`probabilities` must be finite, at least 0, and have shape (n, {k}); the shape is {p.shape}"
        raise ValueError(msg)
    return p


def _read(probabilities: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    if len(probabilities) != len(labels) or not all(label in probabilities for label in labels):
        msg = "`probabilities` must name exactly the labels that the gain was fitted with"
        raise ValueError(msg)
    return [float(probabilities[label]) for label in labels]


def _unit(embeddings: ArrayLike, n: int) -> Floats:
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != n or not np.isfinite(rows).all():
        msg = f"`embeddings` must be finite and have shape ({n}, d); the shape is {rows.shape}"
        raise ValueError(msg)
    result: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)
    return result


def _numbers(values: Any, shape: tuple[int | None, ...]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    fits = found.ndim == len(shape) and all(w in (None, g) for w, g in zip(shape, found.shape, strict=True))
    if not fits or not np.isfinite(found).all():
        msg = "an array has the wrong shape, or a number that is not finite"
        raise ValueError(msg)
    return found
