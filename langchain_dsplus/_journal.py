"""Lines of JSON that outlive a crash: each is on the disk before anything else is done."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from langchain_dsplus._json import load_json


def parse_line(line: str | bytes) -> dict[str, Any] | None:
    """Read one line; None where it is no JSON object: cut off, damaged, or something else.

    Example:
        >>> parse_line('{"id": "a"}'), parse_line('{"id": "a')
        ({'id': 'a'}, None)
    """
    try:
        entry = load_json(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def to_line(entry: Mapping[str, Any]) -> bytes:
    """An entry as a line; half of a surrogate pair becomes a question mark.

    Raises:
        ValueError: If it holds a number that is not finite.
    """
    return (json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def append_lines(file: int, lines: bytes, end: int | None = None) -> int:
    """Append whole lines to a file that was opened to read and to append; return where they end.

    A line that was cut off there is ended first.

    Args:
        file: The descriptor.
        lines: With their line ends.
        end: Where lines are known to end; a file of just that size is not looked at.

    Raises:
        OSError: If they cannot be written; a part of them may be there.
    """
    size = os.fstat(file).st_size
    if size and size != end and os.pread(file, 1, size - 1) != b"\n":
        lines = b"\n" + lines
    end = size + len(lines)
    while lines:  # a full disk or a signal may cut a write short
        lines = lines[os.write(file, lines) :]
    return end


class Journal:
    """A file of one writer that a run which was cut off goes on with.

    Reading changes nothing. A last line that was cut off goes when the first entry is appended; one that lacks only its
    line end stays.

    Attributes:
        path: The file.
        entries: What it holds, line by line; None for a line that is no JSON object.
        tail: What was cut off at its end.

    Example:
        ```python
        journal = Journal(Path("paid.jsonl"))
        known = {entry["id"] for entry in journal.entries if entry is not None}
        journal.append({"id": "a", "answer": "yes"})  # on the disk when this returns
        ```
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        body = path.read_bytes() if path.exists() else b""
        self._end = body.rfind(b"\n") + 1
        self.tail = body[self._end :]
        self.entries = [parse_line(line) for line in body[: self._end].split(b"\n")[:-1]]
        if (last := parse_line(self.tail)) is not None:
            self.entries.append(last)
            self._end, self.tail = len(body), b""
        self._lock = threading.Lock()

    def append(self, *entries: Mapping[str, Any]) -> None:
        """Write entries down, each a line; they are on the disk when this returns.

        Raises:
            ValueError: If one holds a number that is not finite.
            OSError: If they cannot be written; then none of them is there.
        """
        lines = b"".join(map(to_line, entries))
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as opened:
                file = opened.fileno()
                if self.tail:
                    os.ftruncate(file, self._end)
                    self.tail = b""
                size = os.fstat(file).st_size
                try:
                    append_lines(file, lines)
                    os.fsync(file)
                except BaseException:
                    with suppress(OSError):
                        os.ftruncate(file, size)
                    raise
            self.entries += map(dict, entries)
