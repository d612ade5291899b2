"""What tokens cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PRICES_DATE = "2025-08"
"""When the prices in `PRICES` were published. Providers change them: check before you rely on a sum."""

_MILLION = 1_000_000


@dataclass(frozen=True)
class Price:
    """What a model costs, per million tokens.

    Args:
        input: Per million prompt tokens.
        output: Per million completion tokens.
        cached_input: Per million prompt tokens that the provider took from its own cache; by default as `input`.
        currency: ISO code.
        source: Where the price is from, and when.

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

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < math.inf:
                msg = f"`{name}` must be a finite price per million tokens, at least 0"
                raise ValueError(msg)

    def cost(self, usage: Mapping[str, Any]) -> float:
        """Return what a call cost, in `currency`.

        Args:
            usage: A message's `usage_metadata`: `input_tokens` and `output_tokens`, and where the provider says so
                `input_token_details.cache_read`.

        Raises:
            ValueError: If a count is missing or negative.
        """
        try:
            tokens_in, tokens_out = int(usage["input_tokens"]), int(usage["output_tokens"])
        except (KeyError, TypeError):
            msg = "`usage` needs `input_tokens` and `output_tokens`"
            raise ValueError(msg) from None
        cached = int((usage.get("input_token_details") or {}).get("cache_read") or 0)
        if tokens_in < 0 or tokens_out < 0 or cached < 0:
            msg = "`usage` holds a negative number of tokens"
            raise ValueError(msg)
        cached = min(cached, tokens_in)
        rate = self.input if self.cached_input is None else self.cached_input
        return ((tokens_in - cached) * self.input + cached * rate + tokens_out * self.output) / _MILLION


def _openai(input_: float, output: float, cached: float | None) -> Price:
    return Price(input_, output, cached, source=f"openai.com/api/pricing, {PRICES_DATE}")


PRICES: dict[str, Price] = {
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


def find_price(model: str) -> Price | None:
    """Return the list price of a model by the name that its replies carry; dated names (`gpt-4o-2024-08-06`) count.

    Example:
        >>> find_price("gpt-4o-mini-2024-07-18") is PRICES["gpt-4o-mini"]
        True
    """
    if model in PRICES:
        return PRICES[model]
    for name, price in PRICES.items():
        rest = model.removeprefix(name + "-")
        if rest != model and rest.replace("-", "").isdigit():
            return price
    return None
