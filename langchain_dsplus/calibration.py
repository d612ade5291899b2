"""Calibration: make probabilities mean what they say, and measure how far they do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np

from langchain_dsplus._imports import require

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

_TINY = 1e-12


def log_softmax(logits: ArrayLike) -> Floats:
    """Return log-probabilities, row by row; shape (n, K)."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    result: Floats = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return result


def softmax(logits: ArrayLike) -> Floats:
    """Return probabilities, row by row; shape (n, K). Rows sum to 1."""
    z = np.asarray(logits, dtype=np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    result: Floats = e / e.sum(axis=1, keepdims=True)
    return result


def one_hot(targets: ArrayLike, classes: int) -> Floats:
    """Return targets as distributions, shape (n, classes), from class numbers (n,) or distributions (n, classes).

    Raises:
        ValueError: If a class number is out of range, or a distribution is negative or does not sum to 1.
    """
    values = np.asarray(targets)
    if values.ndim == 1:
        if values.size and not np.issubdtype(values.dtype, np.integer):
            msg = "`targets` of one dimension must be class numbers (int)"
            raise ValueError(msg)
        if values.size and (values.min() < 0 or values.max() >= classes):
            msg = f"`targets` must lie in 0..{classes - 1}"
            raise ValueError(msg)
        rows = np.zeros((len(values), classes))
        rows[np.arange(len(values)), values.astype(np.intp)] = 1.0
        return rows
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != classes:
        msg = f"`targets` must have shape (n,) or (n, {classes}), not {values.shape}"
        raise ValueError(msg)
    if not ((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1.0) <= 1e-3).all()):
        msg = "`targets` as distributions must be at least 0 and sum to 1"
        raise ValueError(msg)
    return rows


class TemperatureScaling:
    """One number that makes a model's probabilities honest: softmax(z / T).

    The order of the classes, and so the choice, never changes; T > 1 takes confidence away, T < 1 adds some. It is
    fitted by minimal negative log-likelihood on rows that the model was not trained on (Guo et al. 2017, 1706.04599).

    Args:
        bounds: Between which T is sought.
        from_probabilities: Whether rows are probabilities; their logarithm is then taken as logits. Two classes may
            come as one column, shape (n,): the logit, or the probability, of the second.

    Attributes:
        temperature: T; 1.0 before `fit`.

    Example:
        >>> round(
        ...     TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]], [0, 0, 1, 1]).temperature,
        ...     2,
        ... )
        3.64
    """

    def __init__(self, *, bounds: tuple[float, float] = (0.05, 20.0), from_probabilities: bool = False) -> None:
        if not 0.0 < bounds[0] < bounds[1] < math.inf:
            msg = "`bounds` must be two finite numbers, 0 < low < high"
            raise ValueError(msg)
        self.bounds = bounds
        self.from_probabilities = from_probabilities
        self.temperature = 1.0

    def fit(self, rows: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None) -> Self:
        """Find T.

        Args:
            rows: Logits (or probabilities) of held-out rows, shape (n, K), or (n,) for two classes.
            targets: True class numbers, shape (n,), or distributions, shape (n, K).
            weights: How much each row counts, shape (n,).

        Returns:
            Itself. No rows leave T at 1.

        Raises:
            ValueError: If shapes do not fit, or a number is not finite.
        """
        logits = self._logits(rows)
        wanted = one_hot(targets, logits.shape[1])
        if len(wanted) != len(logits):
            msg = f"`targets` has {len(wanted)} rows, `rows` has {len(logits)}"
            raise ValueError(msg)
        if not len(logits):
            self.temperature = 1.0
            return self
        w = np.ones(len(logits)) if weights is None else np.asarray(weights, dtype=np.float64)
        if w.shape != (len(logits),):
            msg = f"`weights` must have shape ({len(logits)},), not {w.shape}"
            raise ValueError(msg)

        def loss(log_t: float) -> float:
            return float(-(w * (wanted * log_softmax(logits / math.exp(log_t))).sum(axis=1)).sum() / w.sum())

        optimize: Any = require("scipy.optimize", "sklearn")
        low, high = math.log(self.bounds[0]), math.log(self.bounds[1])
        found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
        best = min((float(found.x), 0.0, low, high) if low <= 0.0 <= high else (float(found.x), low, high), key=loss)
        self.temperature = math.exp(best)
        return self

    def transform(self, rows: ArrayLike) -> Floats:
        """Return calibrated probabilities, shape (n, K); for two classes in one column, shape (n, 2)."""
        return softmax(self._logits(rows) / self.temperature)

    def _logits(self, rows: ArrayLike) -> Floats:
        values = np.asarray(rows, dtype=np.float64)
        if values.ndim == 1:
            other = 1.0 - values if self.from_probabilities else np.zeros_like(values)
            values = np.stack([other, values], axis=1)
        if values.ndim != 2 or values.shape[1] < 1:
            msg = f"`rows` must have shape (n, K) or (n,), not {values.shape}"
            raise ValueError(msg)
        if self.from_probabilities:
            if not ((values >= 0).all() and (values <= 1 + 1e-6).all()):
                msg = "`rows` must be probabilities in [0, 1]; for logits leave `from_probabilities` off"
                raise ValueError(msg)
            values = np.log(np.maximum(values, _TINY))
        if not np.isfinite(values).all():
            msg = "`rows` holds a number that is not finite"
            raise ValueError(msg)
        return values


def expected_calibration_error(
    confidences: ArrayLike,
    correct: ArrayLike,
    *,
    bins: int = 15,
    scheme: Literal["equal_mass", "equal_width"] = "equal_mass",
) -> float:
    """How far confidence is from accuracy, on average over bins; in [0, 1], 0 is calibrated.

    ECE = sum over bins of (rows in it / n) * |its accuracy - its mean confidence| (Naeini et al. 2015). Equal-mass
    bins hold equally many rows (adaptive ECE, Nguyen and O'Connor 2015); equal confidences never part.

    Args:
        confidences: Probabilities of the chosen class, shape (n,).
        correct: Whether the choice was right, shape (n,).
        bins: How many bins at most.
        scheme: How to cut them.

    Raises:
        ValueError: If there is no row, shapes differ, or a confidence is outside [0, 1].

    Example:
        >>> round(expected_calibration_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False], bins=2), 3)
        0.1
    """
    p = np.asarray(confidences, dtype=np.float64)
    y = np.asarray(correct, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        msg = f"`confidences` and `correct` must have the same shape (n,), n > 0, not {p.shape} and {y.shape}"
        raise ValueError(msg)
    if not ((p >= 0) & (p <= 1)).all():
        msg = "`confidences` must lie in [0, 1]"
        raise ValueError(msg)
    if bins < 1:
        msg = "`bins` must be at least 1"
        raise ValueError(msg)
    if scheme == "equal_width":
        places = np.minimum((p * bins).astype(np.intp), bins - 1)
    elif scheme == "equal_mass":
        # A row's bin comes from the rank of the first row with its confidence, so that ties stay together.
        first = np.searchsorted(np.sort(p), p, side="left")
        places = (first * bins) // len(p)
    else:
        msg = f"`scheme` must be 'equal_mass' or 'equal_width', not {scheme!r}"
        raise ValueError(msg)
    gaps = np.bincount(places, weights=y - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def brier_score(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean squared distance between probabilities and truth, summed over classes; in [0, 2], 0 is perfect.

    Args:
        probabilities: Shape (n, K).
        targets: Class numbers, shape (n,), or distributions, shape (n, K).

    Example:
        >>> round(brier_score([[0.8, 0.2], [0.4, 0.6]], [0, 1]), 3)
        0.2
    """
    p, wanted = _pair(probabilities, targets)
    return float(((p - wanted) ** 2).sum(axis=1).mean())


def negative_log_likelihood(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Mean of -log p(truth) in nats; at least 0. Probabilities below 1e-12 count as 1e-12.

    Args:
        probabilities: Shape (n, K).
        targets: Class numbers, shape (n,), or distributions, shape (n, K).

    Example:
        >>> round(negative_log_likelihood([[0.5, 0.5]], [0]), 4)
        0.6931
    """
    p, wanted = _pair(probabilities, targets)
    return float(-(wanted * np.log(np.maximum(p, _TINY))).sum(axis=1).mean()) + 0.0


def _pair(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, Floats]:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not len(p):
        msg = f"`probabilities` must have shape (n, K), n > 0, not {p.shape}"
        raise ValueError(msg)
    wanted = one_hot(targets, p.shape[1])
    if len(wanted) != len(p):
        msg = f"`targets` has {len(wanted)} rows, `probabilities` has {len(p)}"
        raise ValueError(msg)
    return p, wanted
