"""Confidence scores: one number that is compared with the threshold. Higher means keep local."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from langchain_dsplus.labels import NoLabelMassError, mean_token_probability

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
        msg = "`logits` must not be empty, and `temperature` must be greater than 0"
        raise ValueError(msg)
    top = max(logits)
    if not math.isfinite(top):
        return float(top)
    return top + temperature * math.log(math.fsum(math.exp((z - top) / temperature) for z in logits))


def token_quantile(tokens: Sequence[Mapping[str, Any]], quantile: float = 0.0) -> float:
    """A quantile of the probabilities of a reply's tokens (Gupta et al. 2024, 2404.10136); in [0, 1].

    The least sure token is quantile 0. Unlike the probability of the whole reply it does not fall with its length, and
    unlike the mean it is not lifted by the many tokens that follow by themselves. Between two tokens it is linear. The
    end token is left out.

    Args:
        tokens: `logprobs.content` in OpenAI's form.
        quantile: In [0, 1].

    Raises:
        NoLabelMassError: If there is no token with a probability.
        ValueError: If `quantile` is outside [0, 1].

    Example:
        >>> tokens = [{"token": t, "logprob": math.log(p)} for t, p in (("a", 0.9), ("b", 0.25), ("c", 0.75))]
        >>> [round(token_quantile(tokens, q), 3) for q in (0.0, 0.25, 0.5, 1.0)]
        [0.25, 0.5, 0.75, 0.9]
    """
    if not 0.0 <= quantile <= 1.0:
        msg = "`quantile` must lie in [0, 1]"
        raise ValueError(msg)
    values = []
    for token in tokens:
        with suppress(NoLabelMassError):  # the end token, or one without a number
            values.append(mean_token_probability([token]))
    if not values:
        msg = "the reply carries no token log-probabilities; ask the model for `logprobs`"
        raise NoLabelMassError(msg)
    values.sort()
    place = quantile * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


OWN_SCORES: dict[str, str] = {
    "energy": "SentenceClassifier, ChatClassifier, TransformersClassifier, ImageClassifier",
    "mean_token_probability": "ChatClassifier",
    "token_quantile": "ChatClassifier",
    "vote_share": "ChatClassifier",
}
"""Scores that need more than probabilities, and the kinds of model that compute them."""

SCORES: dict[str, ScoreFunction] = {"max_probability": max_probability, "margin": margin, "entropy": entropy}
"""The scores that need nothing but the probabilities."""


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
