"""Recorders: where a router writes down what it decided."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel

from langchain_dsplus._inputs import read_key
from langchain_dsplus._journal import append_lines, parse_line
from langchain_dsplus._shown import Shown
from langchain_dsplus.outcomes.uses import table_key
from langchain_dsplus.routing.rows import Row


class JSONLRecorder(Shown):
    """Appends one JSON line per row.

    A row is written as a whole, by one thread and one process at a time, so lines do not mix, and a kill loses nothing
    that was recorded before it. A line that was cut off (a full disk, a power failure, another process that was killed)
    is skipped by `read`, and the next row starts on a line of its own: the end of the file is looked at whenever this
    recorder was not the last to write, or failed. A row of which `record` raised is not counted as written.

    Args:
        path: The file. Missing folders are made; an existing file is continued.
        texts: Whether inputs and outputs are written. Without them the rows say what was decided, not about what.
        redact: Maps each row before it is written; None drops it.
        key: Under which inputs are hashed, at least 16 characters: repeats are seen without their texts. By default the
            file's folder has one, made at first use (`.dsplus/key`, for its owner alone).

    Example:
        ```python
        router = ConfidenceRouter(small=small, large=llm, recorder=JSONLRecorder("routes.jsonl"))
        ```
    """

    def __init__(
        self,
        path: str | Path,
        *,
        texts: bool = True,
        redact: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
        key: str | bytes | None = None,
    ) -> None:
        self.path = Path(path)
        self._key = None if key is None else read_key(key)
        self.texts = texts
        self.redact = redact
        self._begin()

    def _begin(self) -> None:
        """At the start, and in a fork: that has the object, but must not share lock and file with its parent."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._file: int | None = None
        self._end: int | None = None
        """Where our last row ended; None where that is not known to be the end of a line."""

    @property
    def key(self) -> bytes:
        """Under which inputs are hashed."""
        if self._key is None:
            self._key = table_key(None, self.path.absolute().parent)
        return self._key

    def record(self, row: Row) -> None:
        """Append a row.

        Raises:
            ValueError: If it holds a number beyond what a float can be, or is nested more than 100 deep.
            OSError: If it cannot be written.
        """
        body: dict[str, Any] = {"time": datetime.now(UTC).isoformat()}
        body.update((key, plain(value)) for key, value in row.items())
        if not self.texts:
            drop_texts(body)
        if self.redact is not None:
            redacted = self.redact(body)
            if redacted is None:
                return
            body = plain(redacted)
        line = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        data = line.encode("utf-8", errors="backslashreplace")
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with _alone(self._file):
                self._append(self._file, data)

    def _append(self, file: int, data: bytes) -> None:
        end, self._end = self._end, None
        self._end = append_lines(file, data, end)

    def close(self) -> None:
        """Close the file; the next row opens it again."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None and self._pid == os.getpid():
            self.close()

    @staticmethod
    def read(path: str | Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of a file; lines that are cut off are skipped."""
        with Path(path).open("rb") as file:
            for line in file:
                row = parse_line(line)
                if row is not None:
                    yield row


def drop_texts(body: dict[str, Any]) -> None:
    """Take input and output, and answers that are free text, out of a row of plain values."""
    body.pop("input", None)
    body.pop("output", None)
    for answer in [*body.get("answers", ()), *body.get("route", {}).get("answers", ())]:
        if not answer["probabilities"]:
            answer["choice"] = ""  # free text, not a label


@contextlib.contextmanager
def _alone(file: int) -> Iterator[None]:
    """Keep other processes from writing between the look at the end of a file and what is put there."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    except (ImportError, OSError):  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


_DEPTH = 100


def plain(value: Any, *, depth: int = 0) -> Any:
    """Turn a value into strict JSON: messages become their text, unknown objects their type's name.

    Raises:
        ValueError: If it holds a whole number that no float can hold, or is nested more than 100 deep.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if abs(value) > sys.float_info.max:
            raise ValueError("a row holds a whole number beyond the largest float")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > _DEPTH:
        raise ValueError(f"a row is nested more than {_DEPTH} deep")
    depth += 1
    if not isinstance(value, (dict, list)):  # most are
        if isinstance(value, BaseMessage):
            return {"type": value.type, "content": plain(value.content, depth=depth)}
        if isinstance(value, PromptValue):
            return plain(value.to_messages(), depth=depth)
        if isinstance(value, BaseModel):
            return plain(value.model_dump(), depth=depth)
    if isinstance(value, Mapping):
        return {str(k): plain(v, depth=depth) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(v, depth=depth) for v in value]
    item = getattr(value, "item", None)  # a NumPy scalar
    if callable(item) and getattr(value, "ndim", None) == 0:
        return plain(item(), depth=depth)
    return f"<{type(value).__name__}>"
