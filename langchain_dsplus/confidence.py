"""Confidence scores: one number that is compared with the threshold. Higher means keep local."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

Probabilities: TypeAlias = Mapping[str, float]
ScoreFunction: TypeAlias = Callable[[Probabilities], float]


def max_probability(probabilities: Probabilities) -> float:
    """The largest probability (paper, Eq. 1 and Algorithm 2); in [1/K, 1].

    Example:
        >>> max_probability({"a": 0.7, "b": 0.3})
        0.7
    """
    return max(probabilities.values())


def margin(probabilities: Probabilities) -> float:
    """The largest probability minus the second; in [0, 1]. A single label has margin 1.

    Example:
        >>> margin({"a": 0.75, "b": 0.25})
        0.5
    """
    if len(probabilities) == 1:
        return max(probabilities.values())
    first = second = -math.inf
    for p in probabilities.values():
        if p > first:
            first, second = p, first
        elif p > second:
            second = p
    return first - second


def entropy(probabilities: Probabilities) -> float:
    """The negative Shannon entropy in nats, sum of p log p; in [-log K, 0]. 0 is certain.

    Example:
        >>> entropy({"a": 1.0, "b": 0.0})
        0.0
    """
    return math.fsum(p * math.log(p) for p in probabilities.values() if p > 0.0) + 0.0


SCORES: dict[str, ScoreFunction] = {"max_probability": max_probability, "margin": margin, "entropy": entropy}
"""The scores that need nothing but the probabilities."""


def resolve_score(score: str | ScoreFunction) -> ScoreFunction:
    """Return the function behind a score's name; a callable passes through.

    Raises:
        ValueError: If the name is unknown.
    """
    if callable(score):
        return score
    try:
        return SCORES[score]
    except KeyError:
        msg = f"`score` must be one of {sorted(SCORES)} or a callable, not {score!r}"
        raise ValueError(msg) from None
