"""Confidence scores: one number that is compared with the threshold. Higher means keep local."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import getattr_static
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
    return 0.0 - prediction_entropy(probabilities)


def prediction_entropy(probabilities: Probabilities) -> float:
    """The Shannon entropy of a prediction in nats (paper, 3.1); in [0, log K] for K labels.

    Hard pruning to M of N candidates lowers its bound from log N to log M (paper, Eq. 4).

    Example:
        >>> round(prediction_entropy({"a": 0.5, "b": 0.5}), 4)
        0.6931
    """
    return 0.0 - math.fsum(p * math.log(p) for p in probabilities.values() if p > 0.0)


def energy(logits: Sequence[float], *, temperature: float = 1.0) -> float:
    """The free energy with its sign turned, T * logsumexp(z / T) (Liu et al. 2020, 2010.03759); any number.

    It is low where all logits are low, so an input unlike all that was seen, which a softmax may still be sure of. It
    needs logits: of probabilities, which sum to 1, it is always 0.

    Args:
        logits: One for each label; minus infinity is allowed while another is finite.
        temperature: T, greater than 0.

    Raises:
        ValueError: If there is no logit, or T is not greater than 0.

    Example:
        >>> round(energy([3.0, 0.0]), 3), round(energy([-3.0, -6.0]), 3)
        (3.049, -2.951)
    """
    if not len(logits) or not temperature > 0.0:
        raise ValueError("`logits` must not be empty, and `temperature` must be greater than 0")
    top = max(logits)
    if not math.isfinite(top):
        return float(top)
    return top + temperature * math.log(math.fsum(math.exp((z - top) / temperature) for z in logits))


OWN_SCORES: dict[str, str] = {
    "energy": "SentenceClassifier, ChatClassifier, TransformersClassifier, ImageClassifier",
    "mean_token_probability": "ChatClassifier",
    "token_quantile": "ChatClassifier",
    "vote_share": "ChatClassifier",
}
"""Scores that need more than probabilities, and the kinds of model that compute them."""

SCORES: dict[str, ScoreFunction] = {"max_probability": max_probability, "margin": margin, "entropy": entropy}
"""The scores that need nothing but the probabilities."""


def is_route_score(score: object) -> bool:
    """Whether something is a `scores.RouteScore`: a callable with a name, a version and `fit`."""
    # Without running a property: the version of one that is not fitted yet is an error.
    return callable(score) and all(
        getattr_static(score, name, score) is not score for name in ("name", "version", "fit")
    )


def resolve_score(score: str | ScoreFunction) -> ScoreFunction:
    """Return the function behind a score's name; a callable passes through.

    Raises:
        ValueError: If the name is unknown, or is that of a score which a small model computes itself.
    """
    if callable(score):
        return score
    try:
        return SCORES[score]
    except KeyError:
        msg = f"`score` must be one of {sorted(SCORES)} or a callable, not {score!r}"
        if score in OWN_SCORES:
            msg += (
                f": it needs more than probabilities. Set it where the small model is made ({OWN_SCORES[score]}: "
                f"score={score!r}), and leave the router's `score` at None"
            )
        raise ValueError(msg) from None
