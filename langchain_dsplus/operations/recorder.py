"""Recorders: where a router writes down what it decided."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NotRequired, Protocol, Self, runtime_checkable

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_dsplus.answer import Answer, Route


class Row(TypedDict):
    """What a recorder gets. Rows with one `route_id` belong together.

    `kind` is `route` (a decision and what was returned), `shadow` (what the small models say, and under `route` what
    live mode would have decided), `audit` (what the large model says about an input that was answered locally), or
    `gold` (what was true, told later: `gold`). `cut` marks a stream whose reader stopped before its end: `output` is
    only what had come.
    """

    kind: Literal["route", "shadow", "audit", "gold"]
    route_id: str
    router: str
    input: NotRequired[Any]
    output: NotRequired[Any]
    cut: NotRequired[bool]
    gold: NotRequired[str | None]
    route: NotRequired[Route]
    answers: NotRequired[list[Answer]]
    errors: NotRequired[dict[str, str]]
    error: NotRequired[str]
    usage: NotRequired[dict[str, Any]]
    small_seconds: NotRequired[float]
    large_seconds: NotRequired[float]


@runtime_checkable
class Recorder(Protocol):
    """Anything with `record`. It must be quick and thread-safe; what it raises is logged and never reaches a reply."""

    def record(self, row: Row) -> None:
        """Write one row down."""


class JSONLRecorder:
    """Appends one JSON line per row.

    A row is one `write` to a file opened for appending, so threads and processes do not mix their lines, and a kill
    loses nothing that was recorded before it. A line cut off by a power failure is skipped by `read`.

    Args:
        path: The file. Missing folders are made; an existing file is continued.
        texts: Whether inputs and outputs are written. Without them the rows say what was decided, not about what.
        redact: Maps each row before it is written; None drops it.

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
    ) -> None:
        self.path = Path(path)
        self.texts = texts
        self.redact = redact
        self._lock = threading.Lock()
        self._file: int | None = None

    def record(self, row: Row) -> None:
        """Append a row."""
        body: dict[str, Any] = {"time": datetime.now(UTC).isoformat()}
        body.update((key, plain(value)) for key, value in row.items())
        if not self.texts:
            drop_texts(body)
        if self.redact is not None:
            redacted = self.redact(body)
            if redacted is None:
                return
            body = dict(redacted)
        line = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        data = line.encode("utf-8", errors="backslashreplace")
        with self._lock:
            if self._file is None:
                self._file = self._open()
            while data:  # a full disk or a signal may cut a write short
                data = data[os.write(self._file, data) :]

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.write(file, b"\n")  # an earlier process was cut off in the middle of a line
        return file

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
        if getattr(self, "_file", None) is not None:
            self.close()

    @staticmethod
    def read(path: str | Path) -> Iterator[dict[str, Any]]:
        """Yield the rows of a file; lines that are cut off are skipped."""
        with Path(path).open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row


def drop_texts(body: dict[str, Any]) -> None:
    """Take input and output, and answers that are free text, out of a row of plain values."""
    body.pop("input", None)
    body.pop("output", None)
    for answer in [*body.get("answers", ()), *body.get("route", {}).get("answers", ())]:
        if not answer["probabilities"]:
            answer["choice"] = ""  # free text, not a label


def plain(value: Any) -> Any:
    """Turn a value into strict JSON: messages become their text, unknown objects their type's name."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, BaseMessage):
        return {"type": value.type, "content": plain(value.content)}
    if isinstance(value, PromptValue):
        return plain(value.to_messages())
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [plain(v) for v in value]
    item = getattr(value, "item", None)  # a NumPy scalar
    if callable(item) and getattr(value, "ndim", None) == 0:
        return plain(item())
    return f"<{type(value).__name__}>"
