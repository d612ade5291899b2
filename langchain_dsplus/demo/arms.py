"""One arm of the comparison: a router over the test rows, measured as it answers, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_dsplus._journal import Journal
from langchain_dsplus.costs.usage import Usage, read_usage
from langchain_dsplus.demo.snippets import LABELS, Snippet
from langchain_dsplus.labels import match_reply
from langchain_dsplus.tags import LARGE_TAG, ROUTE_KEY

if TYPE_CHECKING:
    from langchain_dsplus.costs.prices import Price
    from langchain_dsplus.routing.router import ConfidenceRouter

_CHUNK = 8


@dataclass
class Arm:
    """What one way of answering cost, and how often it was right."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        """Of the rows."""
        return {row["id"] for row in self.rows}

    @property
    def correct(self) -> list[bool]:
        """Per test row, in order."""
        return [row["label"] == row["gold"] for row in self.rows]

    @property
    def accuracy(self) -> float:
        """Share of test rows answered right; an LLM that failed or said no label is wrong."""
        return sum(self.correct) / len(self.rows)

    @property
    def calls(self) -> int:
        """Rows about which the large model was asked."""
        return sum(row["model"] == LARGE_TAG for row in self.rows)

    @property
    def input_tokens(self) -> int:
        """Tokens that the large model read."""
        return sum(row["input_tokens"] for row in self.rows)

    @property
    def output_tokens(self) -> int:
        """Tokens that it wrote."""
        return sum(row["output_tokens"] for row in self.rows)

    @property
    def seconds(self) -> float:
        """Wall-clock time, small models included."""
        return float(sum(row["seconds"] for row in self.rows))

    def dollars(self, price: Price) -> float:
        """What the tokens cost at a price."""
        return float(price.cost({"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}))


def run_arm(
    name: str,
    router: ConfidenceRouter,
    test: Sequence[Snippet],
    *,
    path: Path,
    concurrency: int,
    advance: Callable[[int], None],
) -> Arm:
    """Route the test rows in small batches; every answer is on disk before the next batch starts.

    Args:
        name: The arm's name.
        router: What answers. Its large chain must return messages.
        test: The rows.
        path: JSON lines, one per answer; rows that are there already are not asked again.
        concurrency: Requests to the large model at the same time.
        advance: Called with the number of rows that were finished.
    """
    journal = Journal(path)  # a line that was cut off, or an answer that failed, is asked again
    done = {entry["id"]: entry for entry in journal.entries if entry is not None and not entry.get("error")}
    todo = [row for row in test if row["id"] not in done]
    advance(len(test) - len(todo))
    for start in range(0, len(todo), _CHUNK):
        chunk = todo[start : start + _CHUNK]
        began = time.perf_counter()
        replies = router.batch(
            [{"text": row["text"]} for row in chunk], {"max_concurrency": concurrency}, return_exceptions=True
        )
        seconds = (time.perf_counter() - began) / len(chunk)
        measured = [_measured(row, reply, seconds) for row, reply in zip(chunk, replies, strict=True)]
        journal.append(*measured)
        done.update((row["id"], row) for row in measured)
        advance(len(chunk))
    return Arm(name, [done[row["id"]] for row in test])


def _measured(row: Snippet, reply: Any, seconds: float) -> dict[str, Any]:
    measured: dict[str, Any] = {"id": row["id"], "gold": row["gold"], "seconds": seconds}
    if isinstance(reply, Exception):
        failed = {"label": None, "model": LARGE_TAG, "input_tokens": 0, "output_tokens": 0, "confidence": None}
        return {**measured, **failed, "error": type(reply).__name__}
    route = reply.response_metadata[ROUTE_KEY]
    usage = read_usage(reply) or Usage()
    return {
        **measured,
        "label": match_reply(reply, LABELS),
        "model": route["model"],
        "confidence": route["answers"][0]["confidence"] if route["answers"] else None,
        "small": route["answers"][0]["choice"] if route["answers"] else None,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
    }
