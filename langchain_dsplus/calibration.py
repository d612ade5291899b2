"""Calibration: make probabilities mean what they say, and measure how far they do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_dsplus._arrays import Floats
from langchain_dsplus._imports import require
from langchain_dsplus._shown import Shown

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
            raise ValueError("`targets` of one dimension must be class numbers (int)")
        if values.size and (values.min() < 0 or values.max() >= classes):
            raise ValueError(f"`targets` must lie in 0..{classes - 1}")
        rows = np.zeros((len(values), classes))
        rows[np.arange(len(values)), values.astype(np.intp)] = 1.0
        return rows
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != classes:
        raise ValueError(f"`targets` must have shape (n,) or (n, {classes}), not {values.shape}")
    if not ((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1.0) <= 1e-3).all()):
        raise ValueError("`targets` as distributions must be at least 0 and sum to 1")
    return rows


class TemperatureScaling(Shown):
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
            raise ValueError("`bounds` must be two finite numbers, 0 < low < high")
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
            ValueError: If shapes do not fit, a number is not finite, or `weights` are negative or all 0.
        """
        logits = self._logits(rows)
        wanted = one_hot(targets, logits.shape[1])
        if len(wanted) != len(logits):
            raise ValueError(f"`targets` has {len(wanted)} rows, `rows` has {len(logits)}")
        if not len(logits):
            self.temperature = 1.0
            return self
        w = np.ones(len(logits)) if weights is None else np.asarray(weights, dtype=np.float64)
        if w.shape != (len(logits),):
            raise ValueError(f"`weights` must have shape ({len(logits)},), not {w.shape}")
        if not (np.isfinite(w) & (w >= 0)).all() or not w.any():
            raise ValueError("`weights` must be finite numbers, at least 0, not all 0")

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

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {
            "kind": "temperature",
            "temperature": self.temperature,
            "bounds": list(self.bounds),
            "from_probabilities": self.from_probabilities,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: If a field is missing or holds what `to_dict` does not write; the message names it.
        """
        _check_kind(state, "temperature")
        low, high = _state_numbers(state, "bounds", length=2)
        (temperature,) = _state_numbers(state, "temperature")
        if not temperature > 0.0:
            raise ValueError("`temperature` of the saved state must be greater than 0")
        if not isinstance(state.get("from_probabilities"), bool):
            raise ValueError("`from_probabilities` of the saved state must be true or false")  # noqa: TRY004
        scaling = cls(bounds=(low, high), from_probabilities=state["from_probabilities"])
        scaling.temperature = temperature
        return scaling

    def _logits(self, rows: ArrayLike) -> Floats:
        values = np.asarray(rows, dtype=np.float64)
        if values.ndim == 1:
            other = 1.0 - values if self.from_probabilities else np.zeros_like(values)
            values = np.stack([other, values], axis=1)
        if values.ndim != 2 or values.shape[1] < 1:
            raise ValueError(f"`rows` must have shape (n, K) or (n,), not {values.shape}")
        if self.from_probabilities:
            if not ((values >= 0).all() and (values <= 1 + 1e-6).all()):
                raise ValueError("`rows` must be probabilities in [0, 1]; for logits leave `from_probabilities` off")
            values = np.log(np.maximum(values, _TINY))
        if not np.isfinite(values).all():
            raise ValueError("`rows` holds a number that is not finite")
        return values


def _check_kind(state: Mapping[str, Any], kind: str) -> None:
    if not isinstance(state, Mapping) or state.get("kind") != kind:
        raise ValueError(f"the saved state is not of kind {kind!r}: pass what `to_dict` returned")


def _state_numbers(state: Mapping[str, Any], name: str, *, length: int | None = None) -> list[float]:
    value = state.get(name)
    values: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value]
    fine = all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in values)
    if not fine or (length is not None and len(values) != length):
        raise ValueError(f"`{name}` of the saved state is missing, or holds what is no finite number")
    return [float(x) for x in values]


def _scored(confidences: ArrayLike, correct: ArrayLike, name: str = "confidences") -> tuple[Floats, Floats]:
    p = np.asarray(confidences, dtype=np.float64)
    y = np.asarray(correct, dtype=np.float64)
    if p.ndim != 1 or p.shape != y.shape or not len(p):
        raise ValueError(f"`{name}` and `correct` must have the same shape (n,), n > 0, not {p.shape} and {y.shape}")
    if not np.isfinite(p).all():
        raise ValueError(f"`{name}` holds a number that is not finite: leave out the rows where the small model failed")
    if not ((y == 0.0) | (y == 1.0)).all():
        raise ValueError(
            "`correct` must hold True or False (1 or 0): leave out the rows where nobody knows if they are a random "
            "part of all; where rows were chosen for labelling, ask the table (`Outcomes.estimate`)"
        )
    return p, y


# --- how honest -----------------------------------------------------------------------------------------------------

Scheme: TypeAlias = Literal["equal_mass", "equal_width"]


class ReliabilityBin(NamedTuple):
    """Rows of about the same confidence: a point of a reliability diagram."""

    n: int
    """Rows in the bin, at least 1."""
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """Share of them that is right."""


def bin_places(confidences: ArrayLike, *, bins: int = 15, scheme: Scheme = "equal_mass") -> NDArray[np.intp]:
    """Return the bin of each row, shape (n,): what `reliability_bins` puts together. Needs no truth.

    Raises:
        ValueError: If `scheme` is unknown.
    """
    p = np.asarray(confidences, dtype=np.float64)
    if scheme == "equal_width":
        return np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], p, side="left")
    if scheme == "equal_mass":
        # A row's bin comes from the rank of the first row with its confidence, so that ties stay together.
        return np.searchsorted(np.sort(p), p, side="left") * bins // max(len(p), 1)
    raise ValueError(f"`scheme` must be 'equal_mass' or 'equal_width', not {scheme!r}")


def reliability_bins(
    confidences: ArrayLike, correct: ArrayLike, *, bins: int = 15, scheme: Scheme = "equal_mass"
) -> list[ReliabilityBin]:
    """Return the points of a reliability diagram, from unsure to sure; bins without a row are left out.

    Args:
        confidences: Probabilities of the chosen class, shape (n,).
        correct: Whether the choice was right, shape (n,).
        bins: How many bins at most.
        scheme: `equal_mass`: bins hold equally many rows, and equal confidences never part. `equal_width`: bins
            (0, 1/bins], (1/bins, 2/bins], ..., the first with 0 (Guo et al. 2017).

    Raises:
        ValueError: If there is no row, shapes differ, or a confidence is outside [0, 1].

    Example:
        >>> [tuple(b) for b in reliability_bins([0.5, 0.5, 1.0, 1.0], [True, False, True, True], bins=2)]
        [(2, 0.5, 0.5), (2, 1.0, 1.0)]
    """
    p, y = _scored(confidences, correct)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("`confidences` must lie in [0, 1]")
    if bins < 1:
        raise ValueError("`bins` must be at least 1")
    places = bin_places(p, bins=bins, scheme=scheme)
    counts = np.bincount(places, minlength=bins)
    sure, right = (np.bincount(places, weights=w, minlength=bins) for w in (p, y))
    return [
        ReliabilityBin(n, s / n, r / n)
        for n, s, r in zip(counts.tolist(), sure.tolist(), right.tolist(), strict=True)
        if n
    ]


def expected_calibration_error(
    confidences: ArrayLike, correct: ArrayLike, *, bins: int = 15, scheme: Scheme = "equal_mass"
) -> float:
    """How far confidence is from accuracy, on average over bins; in [0, 1], 0 is calibrated.

    ECE = sum over bins of (rows in it / n) * |its accuracy - its mean confidence| (Naeini et al. 2015). With bins of
    equal mass it is the adaptive ECE (Nguyen and O'Connor 2015).

    Args:
        confidences: Probabilities of the chosen class, shape (n,).
        correct: Whether the choice was right, shape (n,).
        bins: How many bins at most.
        scheme: How to cut them, as in `reliability_bins`.

    Raises:
        ValueError: If there is no row, shapes differ, or a confidence is outside [0, 1].

    Example:
        >>> round(expected_calibration_error([0.9, 0.9, 0.6, 0.6], [True, True, True, False], bins=2), 3)
        0.1
    """
    found = reliability_bins(confidences, correct, bins=bins, scheme=scheme)
    return math.fsum(b.n * abs(b.accuracy - b.confidence) for b in found) / sum(b.n for b in found)


# --- how well it ranks ----------------------------------------------------------------------------------------------


def auroc(confidences: ArrayLike, correct: ArrayLike) -> float:
    """How well confidence tells right from wrong: P(a right answer has more of it than a wrong one); ties count half.

    1 is perfect, 0.5 no better than chance (Hanley and McNeil 1982). Any score will do; only its order matters.

    Args:
        confidences: Finite numbers, shape (n,).
        correct: Whether the choice was right, shape (n,).

    Raises:
        ValueError: If there is no row, shapes differ, or all rows are right, or all wrong: then there is nothing to
            tell apart.

    Example:
        >>> auroc([0.9, 0.8, 0.8, 0.3], [True, True, False, False])
        0.875
    """
    s, y = _scored(confidences, correct)
    right = int(y.sum())
    wrong = len(y) - right
    if not right or not wrong:
        raise ValueError(f"`correct` holds {'no' if not right else 'only'} right answers: AUROC is not defined")
    ordered = np.sort(s)
    # The mean of a tie's first and last rank, from 1.
    ranks = (np.searchsorted(ordered, s, side="left") + np.searchsorted(ordered, s, side="right") + 1) / 2.0
    return float((ranks[y == 1.0].sum() - right * (right + 1) / 2.0) / (right * wrong))


def aurc(confidences: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk-coverage curve: the mean risk over the n coverages 1/n, 2/n, ..., 1; lower is better.

    The risk at a coverage is the share of wrong answers among the rows accepted there (Geifman and El-Yaniv 2017).
    Within a tie any order is as good as another: its errors are spread evenly.

    Args:
        confidences: Finite numbers, shape (n,).
        correct: Whether the choice was right, shape (n,).

    Raises:
        ValueError: If there is no row, shapes differ, or a value is not what it should be.

    Example:
        >>> round(aurc([0.9, 0.8, 0.3], [True, True, False]), 4)
        0.1111
    """
    s, y = _scored(confidences, correct)
    return float(aurc_weights(s) @ (1.0 - y))


def aurc_weights(confidences: ArrayLike) -> Floats:
    """Return what an error in each row adds to `aurc`, shape (n,): the more confident, the more. Needs no truth.

    A row at rank r counts in the risks at coverages r/n, ..., 1, so an error there adds (1/r + ... + 1/n) / n.

    Example:
        >>> aurc_weights([0.9, 0.3]).tolist()
        [0.75, 0.25]
    """
    s = np.asarray(confidences, dtype=np.float64)
    n = len(s)
    if not n:
        return np.zeros(0)
    _, place, size = np.unique(-s, return_inverse=True, return_counts=True)
    last = np.cumsum(size)  # rows accepted with each tie, from sure to unsure
    steps = np.arange(1, n + 1)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / steps)])
    before = last - size
    # Within a tie, errors are spread evenly: at step k a share (k - before) / size of them has been accepted.
    inside = (size - before * (harmonic[last] - harmonic[before])) / size
    weights: Floats = ((inside + harmonic[n] - harmonic[last]) / n)[place]
    return weights


def e_aurc(confidences: ArrayLike, correct: ArrayLike) -> float:
    """Excess AURC: `aurc` minus that of a perfect order of the same rows; 0 is perfect (Geifman et al. 2019).

    Counted on the n rows, not by the formula for n towards infinity, r + (1 - r) ln(1 - r).

    Example:
        >>> e_aurc([0.9, 0.8, 0.3], [True, True, False])
        0.0
    """
    s, y = _scored(confidences, correct)
    best = aurc_weights(y)  # a perfect order: all right answers before all wrong ones
    return max(0.0, float(aurc_weights(s) @ (1.0 - y)) - float(best @ (1.0 - y)))


def binomial_upper(hits: int, n: int, alpha: float) -> float:
    """Return the upper limit of a share: exact, one-sided, wrong with probability `alpha` (Clopper and Pearson 1934).

    Args:
        hits: How often.
        n: Out of how many; 0 knows nothing.
        alpha: Error probability, in (0, 1).

    Raises:
        ValueError: If the counts are impossible, or `alpha` is out of range.

    Example:
        >>> round(binomial_upper(0, 598, 0.05), 4), binomial_upper(0, 0, 0.05)
        (0.005, 1.0)
    """
    if not 0 <= hits <= n or not 0.0 < alpha < 1.0:
        raise ValueError("`hits` must lie in [0, n] and `alpha` in (0, 1)")
    special: Any = require("scipy.special", "sklearn")
    return 1.0 if hits == n else float(special.betaincinv(hits + 1, n - hits, 1.0 - alpha))


def binomial_lower(hits: int, n: int, alpha: float) -> float:
    """Return the lower limit of a share; see `binomial_upper`."""
    return 1.0 - binomial_upper(n - hits, n, alpha)
