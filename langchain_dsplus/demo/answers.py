"""What the large model said, once for each sentence, and what a way of answering came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_dsplus._journal import Journal
from langchain_dsplus.costs.usage import Usage, read_usage
from langchain_dsplus.demo.snippets import LABELS, Snippet
from langchain_dsplus.labels import match_reply
from langchain_dsplus.tags import LARGE_TAG

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.runnables import Runnable

    from langchain_dsplus.costs.prices import Price

_CHUNK = 8


@dataclass
class Arm:
    """What one way of answering cost, and how often it was right."""

    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def correct(self) -> list[bool]:
        """Per row, in order; an answer that is no label is wrong."""
        return [row["label"] == row["gold"] for row in self.rows]

    @property
    def accuracy(self) -> float:
        """Share of rows answered right."""
        return sum(self.correct) / len(self.rows)

    @property
    def calls(self) -> int:
        """Rows about which the large model was asked."""
        return sum(row["model"] == LARGE_TAG for row in self.rows)

    @property
    def share(self) -> float:
        """Share of rows about which the large model was asked."""
        return self.calls / len(self.rows)

    def tokens(self, side: str) -> int:
        """Tokens that the large model read (`input`) or wrote (`output`)."""
        return sum(row[side] for row in self.rows if row["model"] == LARGE_TAG)

    def dollars(self, price: Price) -> float:
        """What the tokens cost at a price."""
        return float(price.cost({"input_tokens": self.tokens("input"), "output_tokens": self.tokens("output")}))


class Answers:
    """Asks the large model about each sentence once; a run that was cut off does not ask again.

    Args:
        path: JSON lines, one per answer, each on disk before the next ones are asked for.
        chain: From `{"text": ...}` to a message.
        concurrency: Requests at the same time.
    """

    def __init__(self, path: Path, chain: Runnable[Any, BaseMessage], concurrency: int = 1) -> None:
        self.chain, self.concurrency = chain, concurrency
        self._journal = Journal(path)
        # A line that was cut off, or an answer that failed, is asked again.
        self._known = {
            entry["text"]: entry for entry in self._journal.entries if entry is not None and not entry.get("error")
        }

    def __call__(self, value: dict[str, Any]) -> str:
        """Return what the large model says of a sentence: the chain that a shunt stands in front of.

        Raises:
            RuntimeError: If it failed.
        """
        answer = self.ask([value["text"]])[0]
        if answer.get("error"):
            raise RuntimeError(f"the large model failed ({answer['error']})")
        return str(answer["reply"])

    def ask(self, texts: Sequence[str], advance: Callable[[int], None] = lambda _: None) -> list[dict[str, Any]]:
        """Return one entry for each text: `reply`, `label` (None where it names none), `input`, `output`, `error`."""
        todo = [text for text in dict.fromkeys(texts) if text not in self._known]
        failed: dict[str, dict[str, Any]] = {}
        advance(len(texts) - len(todo))
        with ThreadPoolExecutor(self.concurrency) as pool:
            for start in range(0, len(todo), _CHUNK):
                entries = list(pool.map(self._one, todo[start : start + _CHUNK]))
                self._journal.append(*entries)
                for entry in entries:
                    (failed if entry.get("error") else self._known)[entry["text"]] = entry
                advance(len(entries))
        return [self._known.get(text) or failed[text] for text in texts]

    def _one(self, text: str) -> dict[str, Any]:
        try:
            message = self.chain.invoke({"text": text})
        except Exception as error:  # noqa: BLE001 - a provider's error may be of any class, and is told by its name
            failed = {"reply": "", "label": None, "input": 0, "output": 0}
            return {"text": text, **failed, "error": type(error).__name__}
        usage = read_usage(message) or Usage()
        label = match_reply(message, LABELS)
        return {
            "text": text, "reply": label or message.text, "label": label, "input": usage.input, "output": usage.output,
        }  # fmt: skip


def arm(name: str, rows: Sequence[Snippet], said: Sequence[str | None], large: Sequence[dict[str, Any] | None]) -> Arm:
    """Put together what a way of answering said of rows."""
    return Arm(
        name,
        [
            {
                "id": row["id"], "gold": row["gold"], "label": label, "model": "small" if entry is None else LARGE_TAG,
                "input": 0 if entry is None else entry["input"], "output": 0 if entry is None else entry["output"],
            }
            for row, label, entry in zip(rows, said, large, strict=True)
        ],
    )  # fmt: skip
