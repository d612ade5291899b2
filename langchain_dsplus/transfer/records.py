"""What a transfer leaves behind: tokens, time, money, and what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from langchain_dsplus.costs.usage import add_up


class TransferUsage(TypedDict):
    """Tokens that the rewriting model reported, summed over its calls; cache hits cost nothing and are not in it."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class TransferMoney(TypedDict):
    """What a transfer cost and saved."""

    spent: float
    """On the small model's calls."""
    saved: float
    """On the large model's prompt: tokens before less tokens after, at its price."""
    net: float
    """`saved` less `spent`: below zero where the transfer cost more than it saved."""
    currency: str


class TransferRecord(TypedDict):
    """What `PromptTransfer` did with one text. Plain Python types."""

    subtask: str
    """What the small model was to do: `rewrite`, `summarise`, ...; of a `Decompose` the steps, joined by ` > `."""
    fidelity: str
    """Which check spoke: `default`, `off`, or `own`."""
    certificate: str | None
    """Under which certificate the text was transferred; None where nothing is proven, or the original went on."""
    used: Literal["rewrite", "original", "both", "mixed"]
    """What goes on to the large model. `mixed`: of some chunks of a long text the rewrite, of others not."""
    faithful: bool
    """Whether there is a rewrite and all of it passed the check."""
    reasons: list[str]
    """Why it did not, as `code: explanation`, without the text's words. Empty where faithful."""
    missing: list[str]
    """Spans of the original that the rewrite lost."""
    added: list[str]
    """Spans of the rewrite that the original does not support."""
    recall: dict[str, Any]
    """What the check measured of what was lost, by its own names; of several chunks the least. Empty where it measures
    nothing."""
    layers: list[str]
    """Which layers of the check spoke: `rules`, `nli`, `judge`. Empty for a check of your own."""
    fields: dict[str, Any] | None
    """What the small model filled in, where the subtask has a schema and its result goes on."""
    chunks: int
    """Pieces that the text was cut into; 0 where it was not rewritten at all."""
    chunks_rewritten: int
    """Those of which the rewrite goes on."""
    instructions: int
    """Places of the original that speak to a model instead of telling what happened."""
    tokens_before: int
    """Of the original text."""
    tokens_after: int
    """Of what goes on, without the marked lines of `label`."""
    tokens_estimated: bool
    """True where no `token_counter` was given."""
    usage: TransferUsage | None
    """What the rewriting itself took; None where the model reports nothing."""
    money: TransferMoney | None
    """None where `large_price` is not given, or where `price` is and the model reported no tokens."""
    calls: int
    """Calls of the rewriting model: one for each chunk."""
    seconds: float
    """Wall time of rewriting and checking."""
    steps: NotRequired[list[dict[str, Any]]]
    """Of a `Decompose`: the record of each step, in order."""


_OF_THE_TEXT = frozenset({"missing", "added", "fields"})


def told(record: TransferRecord) -> dict[str, Any]:
    """A record without the spans of the text: what may go to routes, handlers and logs."""
    kept: dict[str, Any] = {key: item for key, item in record.items() if key not in _OF_THE_TEXT}
    if "steps" in kept:
        kept["steps"] = [told(step) for step in kept["steps"]]
    return kept


def usage_of(outputs: list[Any]) -> TransferUsage | None:
    """Sum the `usage_metadata` of messages; a cache hit (`total_cost` of 0) is 0; None where none is reported."""
    found = add_up(getattr(output, "usage_metadata", None) for output in outputs)
    if found is None:
        return None
    return {"input_tokens": found.input, "output_tokens": found.output, "total_tokens": found.input + found.output}


def money_of(
    price: Any, large_price: Any, usage: TransferUsage | None, before: int, after: int
) -> TransferMoney | None:
    """What a transfer cost and saved."""
    if large_price is None or (price is not None and usage is None):
        return None
    spent = 0.0 if price is None else float(price.cost(usage))
    cost: Callable[[Mapping[str, int]], float] = large_price.cost
    saved = cost({"input_tokens": before, "output_tokens": 0}) - cost({"input_tokens": after, "output_tokens": 0})
    return {"spent": spent, "saved": saved, "net": saved - spent, "currency": str(large_price.currency)}
