"""What earlier tables a table shares its inputs with: repeats inside it, and a journal of certifications beside it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._arrays import Numbers
from langchain_dsplus._inputs import new_key, read_key
from langchain_dsplus._journal import append_lines, parse_line

if TYPE_CHECKING:
    from langchain_dsplus.outcomes.rows import Cells, Rows


FOLDER = ".dsplus"
"""Where a folder of tables keeps its key and its journal."""
_KEY = "key"
INPUT_HASH = "input_hash"
IN_TRAINING = "in_training"
JOURNAL = "certified.jsonl"
SAMPLE = 4096
"""Hashes that the journal keeps of each table: the smallest ones, so that every table keeps the same of the same."""
OVERLAP = 0.2
"""Share of the smaller table's inputs in common from which two tables count as the same: fresh traffic repeats some."""


def table_key(key: str | bytes | None, folder: str | Path | None) -> bytes:
    """Return the key for a table's inputs: the one given, or the folder's, or one for this time alone.

    A folder that cannot be written to counts as none.

    Raises:
        TypeError: If `key` is neither text nor bytes.
        ValueError: If it is too short, or the folder's is damaged.
    """
    if key is not None:
        return read_key(key)
    if folder is None:
        return new_key()
    try:
        return folder_key(folder)
    except OSError:
        return new_key()


def folder_key(folder: str | Path) -> bytes:
    """Return the key of a folder of tables; made at first use, readable by its owner alone.

    Raises:
        OSError: If it can be neither read nor written.
        ValueError: If the file is damaged.
    """
    path = Path(folder) / FOLDER / _KEY
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_name(f".{_KEY}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(new_key().hex() + "\n")
        try:
            path.hardlink_to(part)  # the first of several processes wins
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    try:
        return read_key(bytes.fromhex(path.read_text(encoding="ascii").strip()))
    except ValueError:
        raise ValueError(
            f"{path} is damaged: it holds no key. Remove it, and earlier uses of tables here are forgotten"
        ) from None


def blocks(outcomes: Cells) -> Numbers | None:
    """Return a number for each row's block, shape (n,), in order of appearance; None where every row is its own.

    Rows of one `group` belong together, and so do rows with one `input_hash`: both relations, joined.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> row = {"small": "a", "confidence": 0.5, "large": "a"}
        >>> found = [{"group": "x", "input_hash": "1"}, {"group": "x"}, {"input_hash": "1"}, {}]
        >>> blocks(Outcomes.from_records([row | more for more in found])).tolist()
        [0, 0, 0, 1]
    """
    n = len(outcomes)
    parent = list(range(n))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    joined = False
    for name in ("group", INPUT_HASH):
        if name not in outcomes:
            continue
        first: dict[Any, int] = {}
        for place, value in enumerate(outcomes.values(name)):
            if value is not None and (other := first.setdefault(value, place)) != place:
                parent[root(place)] = root(other)
                joined = True
    if not joined:
        return None
    numbers: dict[int, int] = {}
    return np.fromiter((numbers.setdefault(root(place), len(numbers)) for place in range(n)), dtype=np.int64, count=n)


def repeats(outcomes: Rows) -> int | None:
    """Return how many rows have the input of a row before them; None where the table has no `input_hash`."""
    found = hashes(outcomes)
    return None if found is None else len(found) - len(set(found))


def hashes(outcomes: Rows) -> list[str] | None:
    """Return the known hashes of the inputs, repeats included; None where there are none."""
    if INPUT_HASH not in outcomes:
        return None
    found = [str(value) for value in outcomes.values(INPUT_HASH) if value is not None]
    return found or None


# --- the journal ----------------------------------------------------------------------------------------------------


def earlier_uses(outcomes: Rows) -> int | None:
    """Return how often tables with these inputs were certified in this folder; None where that cannot be seen.

    A table counts as used where it shares at least a fifth of the smaller table's inputs with one that was certified:
    the file read again, a part of it, or it with rows added.
    """
    mine = _sample(outcomes)
    if mine is None or outcomes.folder is None:
        return None
    return sum(_overlap(mine, old) >= OVERLAP for old in _read(outcomes.folder))


def note_use(outcomes: Rows) -> bool:
    """Write a certification into the journal; whether it is there now."""
    mine = _sample(outcomes)
    if mine is None or outcomes.folder is None:
        return False
    body = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "rows": len(outcomes), "inputs": mine}
    line = json.dumps(body, separators=(",", ":")) + "\n"
    path = outcomes.folder / FOLDER / JOURNAL
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        return False
    try:
        append_lines(file, line.encode())
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _sample(outcomes: Rows) -> list[str] | None:
    """The smallest hashes; None where there are none."""
    found = hashes(outcomes)
    return None if found is None else sorted(set(found))[:SAMPLE]


def _read(folder: Path) -> list[list[str]]:
    """The inputs of every earlier certification; lines that cannot be read are skipped."""
    try:
        lines = (folder / FOLDER / JOURNAL).read_bytes().split(b"\n")
    except OSError:
        return []
    entries = [entry for line in lines if (entry := parse_line(line)) is not None]
    return [
        [item for item in entry["inputs"] if isinstance(item, str)]
        for entry in entries
        if isinstance(entry.get("inputs"), list)
    ]


def _overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """The share of the smaller table's inputs that is in the larger, from the part of the hashes that both list."""
    # A full list ends somewhere: beyond, it says nothing.
    ends = [items[-1] for items in (one, other) if len(items) == SAMPLE]
    last = min(ends, default=None)
    first, second = ({item for item in items if last is None or item <= last} for items in (one, other))
    smaller = min(len(first), len(second))
    return len(first & second) / smaller if smaller else 0.0
