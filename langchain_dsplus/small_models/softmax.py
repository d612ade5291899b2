"""The trainable head: softmax regression on fixed features, for labels and soft targets alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from langchain_dsplus._arrays import Floats
from langchain_dsplus._imports import require
from langchain_dsplus.calibration import TemperatureScaling, log_softmax

_FOLDS = 5
_ENOUGH_HELD_OUT = 1000
_LEAST_HELD_OUT = 20
_BIAS_L2 = 1e-3
_MOST = 1e9
_PENALTIES = (1.0, 0.1, 0.01)


def fit_softmax(
    features: Any, targets: Floats, weights: Floats, *, l2: float, start: tuple[Any, Any] | None = None
) -> tuple[Any, Any]:
    """Fit softmax regression by L-BFGS; deterministic.

    Minimises sum_i w_i * cross-entropy(y_i, softmax(x_i W + b)) + l2/2 * |W|^2, where y_i may be any distribution: with
    one-hot rows it is the logistic regression of scikit-learn with C = 1 / l2.

    Args:
        features: Shape (n, d).
        targets: Distributions, shape (n, K).
        weights: Shape (n,).
        l2: Strength of the penalty. The bias carries a thousandth of it, so that a class without a row stays finite.
        start: W and b to start from.

    Returns:
        W, shape (d, K), and b, shape (K,); float32.
    """
    optimize: Any = require("scipy.optimize", "sklearn")
    x = np.ascontiguousarray(features, dtype=np.float32)
    d, k = x.shape[1], targets.shape[1]
    # Weights relative to the largest, and the penalty with them: the same minimum, and no sum overflows.
    # Beyond _MOST a penalty holds W at 0 as it is.
    largest = float(weights.max()) or 1.0  # a fold may hold rows of no weight only
    weights = weights / largest
    l2 = min(l2, _MOST * largest) / largest if largest < 1 else l2 / largest
    scale = 1.0 / (float(weights.sum()) or 1.0)

    def loss(flat: Floats) -> tuple[float, Floats]:
        w, b = flat[: d * k].reshape(d, k), flat[d * k :]
        z = (x @ w.astype(np.float32)).astype(np.float64) + b
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        entropy = (np.log(total[:, 0]) - (targets * z).sum(axis=1)) @ weights
        penalty = 0.5 * l2 * (w.ravel() @ w.ravel() + _BIAS_L2 * (b @ b))
        g = (p - targets) * weights[:, None]
        gradient = np.empty_like(flat)
        gradient[: d * k] = (x.T @ g.astype(np.float32)).ravel()
        gradient[: d * k] += l2 * flat[: d * k]
        gradient[d * k :] = g.sum(axis=0) + l2 * _BIAS_L2 * b
        return (entropy + penalty) * scale, gradient * scale

    options = {"maxiter": 500, "ftol": 1e-7, "gtol": 1e-5, "maxcor": 10}
    first = np.zeros((d + 1) * k) if start is None else np.concatenate([p.ravel() for p in start]).astype(np.float64)
    # One BLAS thread: the matrices are small, and spinning threads on a busy machine make it ten times slower.
    with require("threadpoolctl", "sklearn").threadpool_limits(1, user_api="blas"):
        found = optimize.minimize(loss, first, jac=True, method="L-BFGS-B", options=options)
    solution = found.x.astype(np.float32)
    return solution[: d * k].reshape(d, k), solution[d * k :]


def calibrate(
    features: Any, targets: Floats, weights: Floats, groups: NDArray[np.intp], *, l2: float | None, seed: int
) -> tuple[float, float]:
    """Choose the penalty (where `l2` is None) and the temperature, on rows that the head has not seen.

    Out-of-fold logits of stratified folds, scaled by their own best temperature; the penalty with the least
    negative log-likelihood wins. Rows of one group (equal texts) stay together; a class with one group only stays in
    training. Folds are worked off until 1,000 rows are held out, which is plenty for two numbers. With fewer
    than 20, T is 1.

    Returns:
        The penalty and the temperature.
    """
    choices = _PENALTIES if l2 is None else (l2,)
    folds = assign_folds(targets.argmax(axis=1), groups, seed=seed)
    held: list[list[Floats]] = [[] for _ in choices]
    used: list[NDArray[np.bool_]] = []
    for fold in range(_FOLDS):
        out = folds == fold
        if not out.any() or out.all():
            continue
        start = None
        for place, choice in enumerate(choices):  # from strong to weak, each from where the last one ended
            w, b = start = fit_softmax(features[~out], targets[~out], weights[~out], l2=choice, start=start)
            held[place].append((features[out] @ w).astype(np.float64) + b)
        used.append(out)
        if sum(int(rows.sum()) for rows in used) >= _ENOUGH_HELD_OUT:
            break
    if sum(int(rows.sum()) for rows in used) < _LEAST_HELD_OUT:
        return (_PENALTIES[1] if l2 is None else l2), 1.0
    wanted = np.vstack([targets[rows] for rows in used])
    mass = np.concatenate([weights[rows] for rows in used])
    if not mass.any():
        return (_PENALTIES[1] if l2 is None else l2), 1.0
    mass = mass / mass.max()
    best = (np.inf, choices[0], 1.0)
    for place, choice in enumerate(choices):
        logits = np.vstack(held[place])
        t = TemperatureScaling(bounds=(0.2, 10.0)).fit(logits, wanted, weights=mass).temperature
        loss = float(-(mass * (wanted * log_softmax(logits / t)).sum(axis=1)).sum())
        best = min(best, (loss, choice, t))
    return best[1], best[2]


def assign_folds(classes: NDArray[np.intp], groups: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    """Deal groups of rows into folds, class by class; -1 for those that always stay in training."""
    rng = np.random.default_rng(seed)
    _, first = np.unique(groups, return_index=True)  # a group counts under the class of its first row
    owner = classes[first]
    fold_of = np.full(len(first), -1, dtype=np.intp)
    start = 0
    for label in np.unique(owner):
        members = rng.permutation(np.flatnonzero(owner == label))
        if len(members) < 2:
            continue
        fold_of[members] = (np.arange(len(members)) + start) % _FOLDS
        start += len(members)  # go on where the last class stopped, so that small classes do not all fill fold 0
    _, position = np.unique(groups, return_inverse=True)
    result: NDArray[np.intp] = fold_of[position]
    return result


class SoftmaxHead:
    """A trained head, W (d, K), b (K,) and T; replaced as a whole, never changed in place."""

    __slots__ = ("bias", "temperature", "weight")

    def __init__(self, weight: Any, bias: Any, temperature: float) -> None:
        self.weight = np.array(weight, dtype=np.float32)
        self.bias = np.array(bias, dtype=np.float32)
        self.temperature = float(temperature)
        self.weight.setflags(write=False)
        self.bias.setflags(write=False)
