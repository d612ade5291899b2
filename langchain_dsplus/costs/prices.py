"""What tokens cost."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache, lru_cache
from typing import Any, Final

from langchain_dsplus.costs.usage import Usage

logger = logging.getLogger(__name__)

PRICES_DATE = "2025-08"
"""When the prices in `PRICES` were published. Providers change them: check before you rely on a sum."""

_MILLION = 1_000_000
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|latest)")
# Models that their maker alone sells: of any other the name does not say who serves it, and so not what it costs.
_CLOSED = re.compile(r"gpt-(?!oss)|chatgpt-|o\d|claude-|gemini-|grok-")
# Our fields -> those of genai-prices, all per million tokens.
_RATES: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
}


@dataclass(frozen=True)
class Price:
    """What a model costs, per million tokens.

    Args:
        input: Per million prompt tokens.
        output: Per million completion tokens.
        cached_input: Per million prompt tokens that the provider took from its own cache; by default as `input`.
        currency: ISO code.
        source: Where the price is from, and when.
        cache_write: Per million prompt tokens that the provider wrote into its cache; by default as `input`.
        cache_write_1h: The same where it keeps them for an hour; by default as `cache_write`.

    Raises:
        ValueError: If a price is negative or not finite.

    Example:
        >>> round(Price(input=0.15, output=0.60).cost({"input_tokens": 1000, "output_tokens": 100}), 6)
        0.00021
    """

    input: float
    output: float
    cached_input: float | None = None
    currency: str = "USD"
    source: str = ""
    cache_write: float | None = None
    cache_write_1h: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "cache_write", "cache_write_1h"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                raise ValueError(f"`{name}` must be a finite price per million tokens, at least 0")

    def cost(self, usage: Mapping[str, Any] | Usage) -> float:
        """Return what a call cost, in `currency`.

        Args:
            usage: A message's `usage_metadata`, a `Usage`, or whatever else `read_usage` reads.

        Raises:
            ValueError: If a count is missing or negative.
        """
        usage = Usage.read(usage)
        read = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        hour = write if self.cache_write_1h is None else self.cache_write_1h
        plain = usage.input - usage.cached - usage.written - usage.written_1h
        return (
            plain * self.input
            + usage.cached * read
            + usage.written * write
            + usage.written_1h * hour
            + usage.output * self.output
        ) / _MILLION


def _openai(input_: float, output: float, cached: float | None) -> Price:
    return Price(input_, output, cached, source=f"openai.com/api/pricing, {PRICES_DATE}")


def _anthropic(input_: float, output: float) -> Price:
    return Price(
        input_,
        output,
        cached_input=input_ / 10,
        source=f"anthropic.com/pricing, {PRICES_DATE}",
        cache_write=input_ * 1.25,
        cache_write_1h=input_ * 2,
    )


PRICES: dict[str, Price] = {
    "claude-3-5-haiku": _anthropic(0.80, 4.00),
    "claude-opus-4": _anthropic(15.00, 75.00),
    "claude-opus-4-1": _anthropic(15.00, 75.00),
    "claude-sonnet-4": _anthropic(3.00, 15.00),
    "gpt-3.5-turbo": _openai(0.50, 1.50, None),
    "gpt-4-turbo": _openai(10.00, 30.00, None),
    "gpt-4.1": _openai(2.00, 8.00, 0.50),
    "gpt-4.1-mini": _openai(0.40, 1.60, 0.10),
    "gpt-4.1-nano": _openai(0.10, 0.40, 0.025),
    "gpt-4o": _openai(2.50, 10.00, 1.25),
    "gpt-4o-mini": _openai(0.15, 0.60, 0.075),
    "gpt-5": _openai(1.25, 10.00, 0.125),
    "gpt-5-mini": _openai(0.25, 2.00, 0.025),
    "gpt-5-nano": _openai(0.05, 0.40, 0.005),
}
"""List prices of some models, as published in `PRICES_DATE`. Pass your own `Price` for your contract."""


def find_price(model: str, prices: Mapping[str, Price] | None = None) -> Price | None:
    """Return the price of a model by the name that its replies carry; dated names (`gpt-4o-2024-08-06`) count.

    Without `prices` these are list prices: of the package `genai-prices` where it is installed (extra `prices`; it
    bundles its data, and no server is asked), else of `PRICES`, and the log says once how old those are. Where a model
    costs more for long prompts, it is the price of short ones.

    Args:
        model: The name.
        prices: Prices by name.

    Example:
        >>> find_price("gpt-4o-mini-2024-07-18").input
        0.15
    """
    if prices is not None:
        return _by_name(model, prices)
    listed = _maintained(model, datetime.now(UTC).date()) if _CLOSED.match(model.lower()) else None
    if listed is None:
        listed = _by_name(model, PRICES)
        if listed is not None:
            _say_age()
    return listed


def _by_name(model: str, prices: Mapping[str, Price]) -> Price | None:
    if model in prices:
        return prices[model]
    for name, price in prices.items():
        if model.startswith(name) and _DATED.fullmatch(model[len(name) :]):
            return price
    return None


@lru_cache(maxsize=256)
def _maintained(model: str, day: date) -> Price | None:
    """What `genai-prices` says of a model on a day; None where it is not installed or has no price per token."""
    try:
        import genai_prices
    except ImportError:
        return None
    probe = genai_prices.Usage(input_tokens=1, output_tokens=1)
    try:
        found = genai_prices.calc_price(probe, model, genai_request_timestamp=datetime.combine(day, time(), UTC))
    except (LookupError, ValueError):
        return None
    rates: dict[str, Any] = {}
    for ours, theirs in _RATES.items():
        rate: Any = getattr(found.model_price, theirs, None)
        if rate is not None:
            rates[ours] = float(getattr(rate, "base", rate))  # the first of tiers
    if not {"input", "output"} <= rates.keys():
        return None
    return Price(**rates, source=f"{found.provider.name}, genai-prices {genai_prices.__version__}")


@cache
def _say_age() -> None:
    year, month = map(int, PRICES_DATE.split("-"))
    today = datetime.now(UTC).date()
    logger.warning(
        "list prices of %s are used, %d months old: pip install 'langchain-dsplus[prices]' for those of genai-prices, "
        "or pass your own `Price`",
        PRICES_DATE,
        12 * (today.year - year) + today.month - month,
    )
