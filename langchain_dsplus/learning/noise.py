"""What is likely true where a teacher that errs has answered."""

from __future__ import annotations

import numpy as np

from langchain_dsplus._arrays import Floats

_STRENGTH = 20.0
_STEPS = 10
_TINY = 1e-12


def correct(
    said: Floats, before: Floats, *, error: float, known: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """Estimate the true classes behind a teacher's answers, and which classes it takes for which.

    Expectation-maximization after Dawid and Skene (1979), with a classifier in the place of further annotators: the
    posterior of a row is `before` times the chance that the teacher says what it said, and the teacher's confusion
    matrix is counted from the posteriors. A few hundred answers over many classes say little about it, so it starts
    from a guess that counts as twenty answers for each class: the teacher is wrong at the rate `error`, and then says a
    class that `before` mixes up with the true one.

    Args:
        said: The teacher's answers, distributions, shape (n, K).
        before: What a classifier thinks that has not seen these answers, distributions, shape (n, K).
        error: The share of answers that are wrong, as far as known beforehand, in (0, 1).
        known: Answers on rows whose truth is known, and that truth, each of shape (m, K): certain evidence.

    Returns:
        The posteriors, shape (n, K), and the confusion matrix, row = true class, shape (K, K).

    Example:
        >>> said, before = np.eye(2)[[0, 1, 1]], np.array([[0.9, 0.1], [0.2, 0.8], [0.95, 0.05]])
        >>> correct(said, before, error=0.2)[0].argmax(axis=1).tolist()  # the third answer is doubted
        [0, 1, 0]
    """
    k = said.shape[1]
    if k < 2 or not len(said):
        return said, np.eye(k)
    alike = before.T @ before + 1e-3 / k
    np.fill_diagonal(alike, 0.0)
    alike /= alike.sum(axis=1, keepdims=True)
    usual = (1.0 - error) * np.eye(k) + error * alike
    sure = _STRENGTH * usual
    if known is not None:
        sure = sure + known[1].T @ known[0]
    confusion = sure / sure.sum(axis=1, keepdims=True)
    posterior = said
    for _ in range(_STEPS):
        posterior = np.maximum(before, _TINY) * (said @ confusion.T)
        posterior = posterior / np.maximum(posterior.sum(axis=1, keepdims=True), _TINY * _TINY)
        counts = sure + posterior.T @ said
        confusion = counts / counts.sum(axis=1, keepdims=True)
    return posterior, confusion
