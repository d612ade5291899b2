"""Asking chains about cases: caches off, order shuffled, every call counted, every reply on disk before the next."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.savings import count_characters
from langchain_dsplus.costs.usage import Usage, is_cache_hit, read_usage
from langchain_dsplus.labels import ending, match_label
from langchain_dsplus.outcomes import default_label
from langchain_dsplus.outcomes.files import json_objects
from langchain_dsplus.tags import TRANSFER_TAG
from langchain_dsplus.traces.collect import read_dataset
from langchain_dsplus.traces.lanes import AskEach
from langchain_dsplus.traces.replies import Meter, ReplyStore

Call: TypeAlias = tuple[str, int, int, int, int, int]
"""Who (`small` or `large`), and the fields of its `Usage`."""

_CHARACTERS_PER_TOKEN = 4
_REPLY_TOKENS = 20


class CachedReplyError(ValueError):
    """A reply came out of a cache: it is no independent answer, and so no evidence."""


@dataclass(frozen=True)
class Question:
    """One call of a chain about one case."""

    row: Mapping[str, Any]
    side: str
    """Under which name the reply is kept."""
    chain: Runnable[Any, Any]
    value: Any


class Bill(Meter):
    """The calls of one question: of the small model (below a run tagged `transfer`) and of the large one."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.hits = 0
        self._parents: dict[UUID, UUID | None] = {}
        self._tagged: set[UUID] = set()

    def on_begin(self, run_id: UUID, model: str | None, told: Mapping[str, Any]) -> None:
        """Note whose run it is."""
        super().on_begin(run_id, model, told)
        self._parents[run_id] = told.get("parent_run_id")
        if TRANSFER_TAG in (told.get("tags") or ()):
            self._tagged.add(run_id)

    def on_answer(self, run_id: UUID, message: Any, counts: Any, result: Any) -> None:
        """Count a call's tokens."""
        super().on_answer(run_id, message, counts, result)
        run: UUID | None = run_id
        while run is not None and run not in self._tagged:
            run = self._parents.get(run)
        self.hits += is_cache_hit(counts)
        read = read_usage(counts)
        if read is not None:
            side = "large" if run is None else "small"
            self.calls.append((side, read.input, read.output, read.cached, read.written, read.written_1h))


class Asker:
    """Turns questions into requests, and keeps the replies."""

    def __init__(
        self,
        store: ReplyStore,
        to_label: Callable[[Any], str | None],
        config: RunnableConfig | None,
        max_concurrency: int,
        seed: int,
        more: Callable[[Any], dict[str, Any]] | None = None,
    ) -> None:
        self.store = store
        self.more = more
        self.to_label = to_label
        self.config: Any = {**(config or {}), "max_concurrency": max_concurrency}
        self.random = random.Random(seed)  # noqa: S311 - an order, no secret

    def ask(self, questions: Iterable[Question], advance: Callable[[int], None]) -> Iterator[AskEach]:
        """Yield the request for what has no reply yet; the order is random."""
        every = list(questions)
        due = [q for q in every if not self.store.has(q.row["id"], q.side)]
        advance(len(every) - len(due))
        if not due:
            return
        self.random.shuffle(due)
        bills = [Bill() for _ in due]

        def take(place: int, output: Any) -> None:
            self._take(due[place], bills[place], output)
            advance(1)

        yield AskEach(
            [(q.chain, q.value) for q in due],
            [merge_configs(self.config, {"callbacks": [bill]}) for bill in bills],
            take,
        )

    def _take(self, question: Question, bill: Bill, output: Any) -> None:
        if bill.hits:
            raise CachedReplyError(
                "a reply came out of a cache, so it is no independent answer: pass models with `cache=False`, and no "
                "`set_llm_cache`"
            )
        entry: dict[str, Any] = {
            "id": question.row["id"],
            "side": question.side,
            "hash": question.row["hash"],
            "asked": question.row["hash"],
        }
        if isinstance(output, BaseException):
            entry["error"] = type(output).__name__
        else:
            bill.name(output)
            label = self.to_label(output)
            entry |= {"error": "NoLabel", "unparsed": True} if label is None else {"label": str(label)}
            entry |= {} if self.more is None else self.more(output)
        self.store.put({**entry, **bill.row(None), "calls": [list(call) for call in bill.calls]})


def labeller(labels: Sequence[str] | None, to_label: Callable[[Any], Any] | None) -> Callable[[Any], str | None]:
    """How an output's decision is read: by the user's function, as one of the labels, or as its text."""

    def read(output: Any) -> str | None:
        if to_label is not None:
            found = to_label(output)
            if found is not None and not isinstance(found, str):
                raise TypeError(f"`to_label` must return a str or None, not {type(found).__name__}")
            return found
        text = default_label(output)
        return text if labels is None else match_label(text, labels, finish_reason=ending(output))

    return read


def read_cases(cases: Any, input_key: str | None, gold_key: str, id_key: str) -> list[dict[str, Any]]:
    """Cases as rows: mappings, (input, gold) pairs, or the path of a JSONL file of mappings.

    Raises:
        ValueError: If they are malformed or none; the message names the line.
    """
    if isinstance(cases, (str, Path)):
        cases = json_objects(Path(cases))
    rows = read_dataset(cases, input_key, gold_key, id_key, "group")
    if not rows:
        raise ValueError("`cases` is empty")
    return rows


@contextmanager
def caches_off(*chains: Runnable[Any, Any]) -> Iterator[None]:
    """Switch LangChain's caches of replies off while asking: the global one, and those of the models in the chains."""
    from langchain_core.globals import get_llm_cache, set_llm_cache

    before = get_llm_cache()
    models = [(model, model.cache) for model in _models(chains) if model.cache is not False]
    set_llm_cache(None)
    for model, _ in models:
        model.cache = False
    try:
        yield
    finally:
        set_llm_cache(before)
        for model, cache in models:
            model.cache = cache


def _models(parts: Iterable[Any]) -> list[BaseLanguageModel[Any]]:
    found: list[BaseLanguageModel[Any]] = []
    seen: set[int] = set()
    todo = list(parts)
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, BaseLanguageModel):
            found.append(part)
        if isinstance(part, Mapping):
            todo += part.values()
        elif isinstance(part, (list, tuple)):
            todo += part
        elif isinstance(part, Runnable):
            todo += vars(part).values()
            todo += (getattr(part, "__pydantic_private__", None) or {}).values()
            todo += getattr(part, "deps", [])
    return found


def tell_estimate(
    questions: Iterable[Question], price_of: Callable[[Question], Price | None], *, calls_of: str
) -> None:
    """Say on standard error about how much is to be asked, from below: prompts around the inputs are not known."""
    from rich.console import Console

    count, tokens, cost, currency = 0, 0, 0.0, None
    for question in questions:
        count += 1
        mine = math.ceil(count_characters(question.value) / _CHARACTERS_PER_TOKEN)
        tokens += mine
        price = price_of(question)
        if price is not None:
            currency = price.currency
            cost += price.cost({"input_tokens": mine, "output_tokens": _REPLY_TOKENS})
    text = f"{calls_of}: every call is answered already"
    if count:
        text = f"{calls_of}: {count:,} calls, at least {tokens:,} tokens, without the prompts around them"
        if currency is not None:
            text += f", or {cost:.2g} {currency}"
    Console(stderr=True).print(text, markup=False, highlight=False)


def tokens_of(reply: Mapping[str, Any], *sides: str) -> int:
    """Tokens in and out of the calls of some sides."""
    return sum(call[1] + call[2] for call in reply.get("calls", ()) if call[0] in sides)


def cost_of(reply: Mapping[str, Any], price: Price, small_price: Price | None) -> float:
    """What a reply cost, prompt-cache prices counted; a small model without a price is free."""
    total = 0.0
    for side, *counts in reply.get("calls", ()):
        paid = price if side == "large" else small_price
        total += 0.0 if paid is None else paid.cost(Usage(*counts))
    return total
