"""What small models saved: what accepted inputs would have cost, by what the large model cost for others."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue

from langchain_dsplus.answer import is_context
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.usage import Usage

KEPT = 4096  # escalations remembered per router, a random sample of all
_LEAST = 5  # fewer escalations than this say nothing about the rest


class PaidCall(NamedTuple):
    """One call of a model that had to be paid for."""

    model: str
    usage: Usage


class Sample:
    """A uniform random sample of what was seen, and how much that was."""

    def __init__(self, seed: int) -> None:
        self.count = 0
        self.characters = 0
        self.items: list[tuple[int, tuple[PaidCall, ...]]] = []
        self._random = random.Random(seed)  # noqa: S311 - statistics, no secret

    def add(self, characters: int, calls: Sequence[PaidCall]) -> None:
        """Take in one input: the characters of its texts, and the calls that answered it."""
        self.count += 1
        self.characters += characters
        if len(self.items) < KEPT:
            self.items.append((characters, tuple(calls)))
            return
        place = self._random.randrange(self.count)
        if place < KEPT:
            self.items[place] = (characters, tuple(calls))


class Decisions:
    """The decisions of one router: of the accepted the number and length, of the others also what they took."""

    def __init__(self, seed: int) -> None:
        self.accepted = 0
        self.accepted_characters = 0
        self.unknown = 0  # escalations whose tokens are not known
        self.plain = Sample(seed)
        self.changed = Sample(seed + 1)
        self.audits = Sample(seed + 2)

    def snapshot(self) -> Decisions:
        """Return a copy that does not change."""
        same = copy.copy(self)
        for name in ("plain", "changed", "audits"):
            sample = copy.copy(getattr(self, name))
            sample.items = list(sample.items)
            setattr(same, name, sample)
        return same

    @property
    def escalated(self) -> int:
        """Inputs that went to the large model."""
        return self.plain.count + self.changed.count + self.unknown


def is_plain(route: Mapping[str, Any]) -> bool:
    """Whether the large model was asked what it would have been asked without small models."""
    pruning = route.get("pruning") or "none"
    return str(pruning).startswith("none") and not route.get("candidates") and not route.get("transfer")


def count_characters(value: Any) -> int:
    """Count the characters of the texts in an input; a router's notes to the large chain do not count.

    Example:
        >>> count_characters({"text": "abc", "dsplus": {"answer": None, "probabilities": {"yes": 1.0}}})
        3
    """
    if isinstance(value, str):
        return len(value)
    if isinstance(value, BaseMessage):
        return len(str(value.text))
    if isinstance(value, PromptValue):
        return count_characters(value.to_messages())
    if isinstance(value, Mapping):
        return sum(count_characters(item) for item in value.values() if not is_context(item))
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return sum(count_characters(item) for item in value)
    return 0


class Estimate(NamedTuple):
    """A number, the variance of its error, and the degrees of freedom of that variance."""

    value: float
    variance: float = 0.0
    freedom: float = math.inf


NOTHING = Estimate(0.0)


@dataclass(slots=True)
class Savings:
    """One router's part."""

    accepted: int
    escalated: int
    basis: str | None = None
    sample: int = 0
    avoided: Estimate | None = None
    prompts: Estimate | None = None
    both: Estimate | None = None
    cache_lost: float | None = None
    tokens_in: Estimate | None = None
    tokens_out: Estimate | None = None
    needed: bool = True


_Item: TypeAlias = "tuple[int, tuple[PaidCall, ...]]"


def estimate_savings(router: Decisions, price: Callable[[str], Price | None]) -> Savings:
    """Estimate one router's part of what was saved; see `CostLedger.saved`. None stands for what is not known.

    Args:
        router: What it decided.
        price: A model's price by name, or None.
    """
    part = Savings(router.accepted, router.escalated)
    part.needed = router.accepted > 0
    # What plain prompts show of the provider's cache goes before what changed ones do.
    usual = _usual_cached(router.changed.items) | _usual_cached([*router.plain.items, *router.audits.items])

    def spent(calls: Iterable[PaidCall]) -> float:
        total = 0.0
        for call in calls:
            rate = price(call.model)
            if rate is None:
                return math.nan
            total += rate.cost(call.usage)
        return total

    def base(calls: Iterable[PaidCall]) -> float:
        return spent(PaidCall(call.model, _as_usual(call.usage, usual.get(call.model, 0))) for call in calls)

    def mean(sample: Sample, function: Any) -> float:
        return math.fsum(function(calls) for _, calls in sample.items) / len(sample.items) if sample.items else 0.0

    # What escalations paid more than they would have with the usual share from the provider's cache.
    lost = math.fsum(s.count * (mean(s, spent) - mean(s, base)) for s in (router.plain, router.changed))
    part.cache_lost = None if math.isnan(lost) else lost
    items = [*router.plain.items, *router.audits.items]
    part.basis = "plain"
    if len(items) < _LEAST:
        items += router.changed.items
        part.basis = "escalations"
    if len(items) < _LEAST:
        part.basis = None
        if not part.needed:  # nothing was accepted: nothing was avoided
            part.avoided = part.prompts = part.both = part.tokens_in = part.tokens_out = NOTHING
        return part
    part.sample = len(items)

    def line(function: Any, count: int, characters: int) -> Estimate | None:
        return _predict([(x, function(calls)) for x, calls in items], count, characters)

    n, length = router.accepted, router.accepted_characters
    part.tokens_in = line(lambda calls: sum(c.usage.input for c in calls), n, length)
    part.tokens_out = line(lambda calls: sum(c.usage.output for c in calls), n, length)
    part.avoided = line(base, n, length)
    if part.basis == "plain" and router.changed.count:
        did = router.changed.count * mean(router.changed, base)
        if math.isnan(did):  # a price is missing
            return part
        more = line(base, router.changed.count, router.changed.characters)
        both = line(base, n + router.changed.count, length + router.changed.characters)
        part.prompts = None if more is None else more._replace(value=more.value - did)
        part.both = None if both is None else both._replace(value=both.value - did)
    else:
        part.prompts, part.both = NOTHING, part.avoided
    return part


def _usual_cached(items: Iterable[_Item]) -> dict[str, int]:
    """Tokens that a provider usually takes from its cache where it takes any: the median, by model."""
    seen: dict[str, list[int]] = {}
    for _, calls in items:
        for call in calls:
            if call.usage.cached > 0:
                seen.setdefault(call.model, []).append(call.usage.cached)
    return {model: sorted(counts)[len(counts) // 2] for model, counts in seen.items()}


def _as_usual(usage: Usage, usual: int) -> Usage:
    """The same call with the usual number of tokens from the provider's cache, if it had fewer."""
    cached = min(usage.input, usual)
    if cached <= usage.cached:
        return usage
    return replace(usage, cached=cached, written=0, written_1h=0)


def _predict(points: Sequence[tuple[int, float]], count: int, characters: int) -> Estimate | None:
    """Predict the sum over `count` inputs with `characters` in all, by a straight line through points."""
    import numpy as np

    if count == 0:
        return NOTHING
    x = np.array([p[0] for p in points], dtype=float)
    y = np.array([p[1] for p in points], dtype=float)
    if np.isnan(y).any():
        return None
    n = len(y)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    if n < 3 or slope <= 0.0:  # a longer prompt does not cost less: then the length says nothing
        variance = float(y.var(ddof=1))
        return Estimate(count * float(y.mean()), variance * (count + count**2 / n), n - 1)
    offset = float(y.mean()) - slope * float(x.mean())
    residuals = y - offset - slope * x
    noise = float((residuals**2).sum()) / (n - 2)
    leverage = 1.0 / n + (x - x.mean()) ** 2 / spread
    scaled = (residuals / np.maximum(1.0 - leverage, 0.05)) ** 2
    # The sum is linear in y: its weights give the variance that the line itself adds.
    weights = count / n + (characters - count * x.mean()) * (x - x.mean()) / spread
    variance = float((weights**2 * scaled).sum()) + count * noise
    return Estimate(count * offset + slope * characters, variance, n - 2)


def add_estimates(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Add independent estimates; None where one is unknown. The fewest degrees of freedom stay: that is cautious."""
    total = NOTHING
    for one in estimates:
        if one is None:
            return None
        total = Estimate(total.value + one.value, total.variance + one.variance, min(total.freedom, one.freedom))
    return total


def interval(estimate: Estimate | None, level: float) -> dict[str, float] | None:
    """Return `estimate`, `low` and `high`, by Student's t."""
    if estimate is None:
        return None
    half = 0.0
    if estimate.variance > 0:
        from scipy.stats import norm, t

        tail = 0.5 + level / 2
        factor = t.ppf(tail, estimate.freedom) if math.isfinite(estimate.freedom) else norm.ppf(tail)
        half = float(factor) * math.sqrt(estimate.variance)
    return {"estimate": estimate.value, "low": estimate.value - half, "high": estimate.value + half}
