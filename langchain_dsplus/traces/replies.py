"""What chains replied, row by row: measured while it comes, on disk before the next one is awaited."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from langchain_dsplus._journal import Journal, to_line
from langchain_dsplus.costs.usage import CallListener, Usage, is_cache_hit, read_usage, reported_by

if TYPE_CHECKING:
    from langchain_dsplus.costs.prices import Price


class Meter(CallListener):
    """Tokens and seconds of one input's calls, however deep in the chain."""

    def __init__(self) -> None:
        super().__init__()
        self.began: float | None = None
        self.ended: float | None = None
        self.usage: dict[str, int] | None = None
        self.paid: list[Usage] = []
        self.silent = 0  # replies without usage
        self.names: set[str] = set()
        self._lock = threading.Lock()

    def on_begin(self, run_id: UUID, model: str | None, told: Mapping[str, Any]) -> None:
        """Note when the first run began."""
        with self._lock:
            if self.began is None:
                self.began = time.perf_counter()

    def on_end(self, run_id: UUID, told: Mapping[str, Any], *, failed: bool) -> None:
        """Note when the last run ended."""
        self.ended = time.perf_counter()

    def on_failure(self, run_id: UUID, error: BaseException, result: Any) -> None:
        """Note when the last run ended."""
        self.ended = time.perf_counter()

    def on_answer(self, run_id: UUID, message: Any, counts: Any, result: Any) -> None:
        """Note when the last run ended, and count a call's tokens."""
        self.ended = time.perf_counter()
        self.name(message)
        self._count(counts)

    def _count(self, usage: Any) -> None:
        """Add the tokens of one call, or note that it did not say."""
        if read_usage(usage) is None:
            self.silent += 1
        self.add(usage)

    def name(self, message: Any) -> None:
        """Note what the model calls itself."""
        self.names.update(name for name in reported_by(message) if name is not None)

    def add(self, usage: Any) -> None:
        """Add the tokens of one message."""
        found = read_usage(usage)
        if found is None:
            return
        with self._lock:
            total = self.usage or {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}
            total["input_tokens"] += found.input
            total["output_tokens"] += found.output
            total["cached_tokens"] += found.cached
            self.usage = total
            if not is_cache_hit(usage):
                self.paid.append(found)

    def row(self, price: Price | None) -> dict[str, Any]:
        """What is written down."""
        result: dict[str, Any] = dict(self.usage or {})
        if self.names:
            result["reported"] = sorted(self.names)
        if self.began is not None and self.ended is not None:
            result["seconds"] = self.ended - self.began
        if price is not None and self.usage is not None:
            with suppress(ValueError):  # counts that make no sense: the cost is unknown, the answer is kept
                result["cost"] = sum(price.cost(usage) for usage in self.paid)
        return result


_NUMBERS = ("seconds", "cost", "input_tokens", "output_tokens", "cached_tokens")


def _is_ours(entry: dict[str, Any] | None) -> bool:
    """Whether an entry is what a `ReplyStore` writes."""
    if entry is None:
        return False
    if "chains" in entry:
        chains = entry["chains"]
        fine = isinstance(chains, dict) and all(isinstance(value, str | None) for value in chains.values())
    else:
        fine = (
            all(isinstance(entry.get(key), str) for key in ("id", "side", "hash", "asked"))
            and isinstance(entry.get("label"), str | int | None)
            and isinstance(entry.get("error"), str | None)
            and all(isinstance(entry.get(key, 0), int | float) for key in _NUMBERS)
            and isinstance(entry.get("reported", []), list)
        )
    return fine


def answered_ids(path: Path) -> set[str]:
    """Ids of the rows that a file of replies holds the large model's answer for; none where there is no file."""
    if not path.exists():
        return set()
    return {
        entry["id"]
        for entry in Journal(path).entries
        if entry is not None and _is_ours(entry) and entry.get("side") == "large" and entry.get("label") is not None
    }


class ReplyStore:
    """The replies of chains by row and side; appended to a file, one line each.

    Args:
        path: The file; None keeps them in memory alone.
        chains: What each chain is, by its name: a file with answers of another one is refused.
        hashes: Of the inputs, by row.
        writer: Whose file it is, for messages.
    """

    def __init__(
        self,
        path: str | Path | None,
        chains: Mapping[str, str | None],
        hashes: Mapping[str, str],
        *,
        writer: str = "collect_outcomes",
    ) -> None:
        self._journal = None if path is None else Journal(Path(path))
        self._writer = writer
        self.retry_unparsed = False
        self._replies: dict[tuple[str, str], dict[str, Any]] = {}
        self._chains = dict(chains)
        self._open = False
        if self._journal is not None:
            self._read(self._journal, hashes)

    def _read(self, journal: Journal, hashes: Mapping[str, str]) -> None:
        """Check every line, and change nothing."""
        path = journal.path
        if not journal.entries and not to_line(self._head()).startswith(journal.tail):
            raise ValueError(
                f"{path} is no file that `{self._writer}` wrote; it is left as it is. Choose another `path`"
            )
        for number, entry in enumerate(journal.entries, 1):
            if entry is None or not _is_ours(entry) or (number == 1 and "chains" not in entry):
                raise ValueError(
                    f"{path}: line {number} is not what `{self._writer}` writes. The file is left as it is: choose "
                    "another `path`"
                )
            if "chains" in entry:
                if entry.get("writer", "collect_outcomes") != self._writer:
                    raise ValueError(
                        f"{path} is no file that `{self._writer}` wrote; it is left as it is. Choose another `path`"
                    )
                for side, identity in entry["chains"].items():
                    mine = self._chains.get(side)
                    if identity is not None and mine is not None and identity != mine:
                        raise ValueError(
                            f"{path} holds answers of another `{side}` chain. Choose another `path`, or remove it"
                        )
                continue
            if entry["id"] in hashes and hashes[entry["id"]] != entry["hash"]:
                raise ValueError(
                    f"{path}: line {number} answers another input than the row with its id. Choose another `path`"
                )
            self._replies[entry["id"], entry["side"]] = entry

    def __enter__(self) -> Self:
        self._open = True
        if self._journal is not None:
            self._journal.append(self._head())
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False

    def _head(self) -> dict[str, Any]:
        mine = self._writer == "collect_outcomes"  # its files were there first, and name no writer
        return {"chains": self._chains} if mine else {"chains": self._chains, "writer": self._writer}

    def get(self, name: str, side: str) -> dict[str, Any]:
        """The reply, or an empty dict."""
        return self._replies.get((name, side), {})

    def entries(self) -> list[dict[str, Any]]:
        """All replies."""
        return list(self._replies.values())

    def asked(self, name: str, side: str) -> bool:
        """Whether the model was asked, whatever came of it."""
        return (name, side) in self._replies

    def has(self, name: str, side: str, asked: str | None = None) -> bool:
        """Whether there is an answer (to this very question, where `asked` says which)."""
        reply = self.get(name, side)
        answered = reply.get("label") is not None or (bool(reply.get("unparsed")) and not self.retry_unparsed)
        return answered and (asked is None or reply["asked"] == asked)

    def reported(self) -> list[str]:
        """What the large models called themselves in the replies that count."""
        names = {name for reply in self._replies.values() for name in reply.get("reported", ())}
        return sorted(name for name in names if isinstance(name, str))

    def put(self, entry: dict[str, Any]) -> None:
        """Keep a reply."""
        self._replies[entry["id"], entry["side"]] = entry
        if self._open and self._journal is not None:
            self._journal.append(entry)
