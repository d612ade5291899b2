"""`Outcomes`: what each model said about each input, how sure it was, what was true, and what it cost."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats: TypeAlias = NDArray[np.float64]

_ABOUT = "__about__"
_COLUMNS = "__columns__"


class Outcomes:
    """A table with one row per input, kept by columns.

    Columns:
        `id`: distinct; numbered where it is missing.
        `small`, `confidence`: the small model's choice and score. Both None where it failed: never accepted.
        `large`: what the large model said to the plain prompt. None where it failed: such a row is left out of every
            comparison, so that it never counts as a gain.
        `gold`: what is true; None where nobody knows.
        Optional: `probabilities` (dict), `large_pruned`, `group`, `slices` (dict), `cost_*`, `latency_*` (seconds),
        `tokens_*`, `error`; `small_ok`, `large_ok`, `large_pruned_ok` (bool) where right and wrong come from a judge or
        a test; `small.<name>`, `confidence.<name>` for several small models. Other columns are kept as they are.

    Args:
        columns: Equally long sequences by name.
        about: What the rows are about: score, labels, small (version), large, prompt, ... Plain JSON.

    Raises:
        ValueError: If a column is missing, or a value is not what its column holds; the message names row and column.

    Example:
        >>> rows = [{"id": "1", "small": "a", "confidence": 0.9, "large": "b", "gold": "a"}]
        >>> Outcomes.from_records(rows).correct("small").tolist()
        [1.0]
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], *, about: Mapping[str, Any] | None = None) -> None:
        self._fill({name: list(values) for name, values in columns.items()}, about, where="")

    def _fill(self, columns: dict[str, list[Any]], about: Mapping[str, Any] | None, where: str) -> None:
        self.about: dict[str, Any] = dict(about or {})
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            msg = f"{where}columns differ in length: {sorted(lengths)}"
            raise ValueError(msg)
        self._length = lengths.pop() if lengths else 0
        if self._length or columns:
            _require(columns, where)
        if "id" not in columns:
            columns = {"id": [str(place) for place in range(self._length)], **columns}
        columns.setdefault("gold", [None] * self._length)
        self._columns: dict[str, Any] = {}
        for name, values in columns.items():
            self._columns[name] = _store(name, values, where)
        ids = self._columns["id"]
        if len(set(ids)) != len(ids):
            seen: set[Any] = set()
            for place, value in enumerate(ids, 1):
                if value in seen:
                    msg = f"{where}row {place}, column 'id': the same id as in a row before"
                    raise ValueError(msg)
                seen.add(value)

    # --- columns ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Outcomes({self._length} rows, columns {self.columns})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes):
            return NotImplemented
        return self.about == other.about and self.columns == other.columns and self.to_records() == other.to_records()

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._columns)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column, shape (n,), read-only: numbers and bools as float64, NaN for None; the rest as objects.

        Raises:
            KeyError: If there is no such column.
        """
        values = self._columns[name]
        if isinstance(values, np.ndarray):
            return values
        column = np.empty(self._length, dtype=object)
        column[:] = values
        column.setflags(write=False)
        return column

    def values(self, name: str) -> list[Any]:
        """Return a column as a list of plain Python values, None where nothing is known."""
        stored = self._columns[name]
        return list(stored) if isinstance(stored, list) else _plain(name, stored)

    def correct(self, who: str = "small") -> Floats:
        """Return who was right, shape (n,): 1 right, 0 wrong, NaN unknown.

        `<who>_ok` decides where it is known; else the answer is compared with `gold`. An answer that is None is
        unknown, since it failed.

        Args:
            who: `small`, `large`, `large_pruned`, or `small.<name>`.

        Raises:
            KeyError: If the table has neither the answers nor their correctness.
        """
        answers, judged = self._columns.get(who), self._columns.get(f"{who}_ok")
        if answers is None and judged is None:
            msg = f"these outcomes have no column {who!r} and no column {who + '_ok'!r}"
            raise KeyError(msg)
        right = np.full(self._length, np.nan)
        if answers is not None:
            gold = self._columns["gold"]
            right = np.fromiter(
                (math.nan if a is None or g is None else float(a == g) for a, g in zip(answers, gold, strict=True)),
                dtype=np.float64,
                count=self._length,
            )
        if judged is not None:
            right = np.where(np.isnan(judged), right, judged)
        return right

    # --- parts --------------------------------------------------------------------------------------------------

    def select(self, rows: ArrayLike) -> Outcomes:
        """Return some rows: by a bool mask of length n, or by row numbers."""
        places = np.asarray(rows)
        if places.dtype == bool:
            if places.shape != (self._length,):
                msg = f"`rows` as a mask must have shape ({self._length},), not {places.shape}"
                raise ValueError(msg)
            places = np.flatnonzero(places)
        index = places.astype(np.intp).tolist()
        return Outcomes(
            {name: [values[place] for place in index] for name in self._columns for values in (self.values(name),)},
            about=self.about,
        )

    def split(self, share: float = 0.5, *, seed: int = 0) -> tuple[Outcomes, Outcomes]:
        """Return two random parts, the first with about `share` of the rows; rows of one `group` stay together."""
        if not 0.0 < share < 1.0:
            msg = "`share` must lie between 0 and 1"
            raise ValueError(msg)
        groups = self._columns.get("group") or list(range(self._length))
        members: dict[Any, list[int]] = {}
        for place, group in enumerate(groups):
            members.setdefault(("row", place) if group is None else ("group", group), []).append(place)
        blocks = list(members.values())
        first: list[int] = []
        order = np.random.default_rng(seed).permutation(len(blocks))
        for block in order.tolist():
            if len(first) >= round(share * self._length):
                break
            first.extend(blocks[block])
        mask = np.zeros(self._length, dtype=bool)
        mask[first] = True
        return self.select(mask), self.select(~mask)

    # --- records and files --------------------------------------------------------------------------------------

    @classmethod
    def from_records(cls, rows: Iterable[Mapping[str, Any]], *, about: Mapping[str, Any] | None = None) -> Outcomes:
        """Build a table from dicts; a key that a row lacks is None there."""
        return cls._from_rows(rows, about, where="")

    @classmethod
    def _from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        about: Mapping[str, Any] | None,
        where: str,
        names: Iterable[str] = (),
    ) -> Outcomes:
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for count, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                msg = f"{where}row {count} is {type(row).__name__}, not a dict"
                raise TypeError(msg)
            for name, value in row.items():
                if name not in columns:
                    columns[name] = [None] * (count - 1)
                columns[name].append(value)
            for values in columns.values():
                if len(values) < count:
                    values.append(None)
        result = cls.__new__(cls)
        result._fill(columns, about, where)  # noqa: SLF001
        return result

    @classmethod
    def from_csv(cls, path: str | Path, *, about: Mapping[str, Any] | None = None) -> Outcomes:
        """Read a CSV file with a header. An empty cell is None; dicts are JSON; numbers come back exactly.

        A cell of a column that this class does not know is read as JSON where it is JSON (`3`, `true`, `["a"]`,
        `"3"` for the text), and is a text otherwise (`free`, `007`).

        Raises:
            ValueError: If a cell cannot be read; the message names file, row (the first under the header is 1) and
                column, never the cell's text. If bytes are not UTF-8, it names file and line.
        """
        where = f"{path}: "
        limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        try:
            with io.StringIO(_text(Path(path).read_bytes(), where), newline="") as file:
                reader = csv.reader(file)
                header = next(reader, [])
                if len(set(header)) != len(header):
                    msg = f"{where}two columns have the same name"
                    raise ValueError(msg)
                parsers = [_parser(name) for name in header]
                columns: list[list[Any]] = [[] for _ in header]
                row = 0
                for cells in reader:
                    if not cells:
                        continue
                    row += 1
                    if len(cells) != len(header):
                        msg = f"{where}row {row} has {len(cells)} cells, the header has {len(header)}"
                        raise ValueError(msg)
                    for name, parse, cell, column in zip(header, parsers, cells, columns, strict=True):
                        try:
                            column.append(None if cell == "" else parse(cell))
                        except ValueError:
                            msg = f"{where}row {row}, column {name!r}: {_wanted(name)}"
                            raise ValueError(msg) from None
        except csv.Error as error:
            msg = f"{where}not a CSV file: {error}"
            raise ValueError(msg) from error
        finally:
            csv.field_size_limit(limit)
        result = cls.__new__(cls)
        result._fill(dict(zip(header, columns, strict=True)), about, where)  # noqa: SLF001
        return result

    @classmethod
    def from_jsonl(cls, path: str | Path, *, about: Mapping[str, Any] | None = None) -> Outcomes:
        """Read a file with one JSON object per line; a line with `about` and columns, as `to_jsonl` writes it, is used.

        Raises:
            ValueError: If a line cannot be read; the message names file, row and column, never the text.
        """
        where = f"{path}: "
        found: dict[str, Any] = {}

        rows: list[Any] = []
        names: dict[str, None] = {}
        for number, line in enumerate(_text(Path(path).read_bytes(), where).split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_constant=_no_constant)
            except (ValueError, RecursionError):
                msg = f"{where}line {number} is not JSON"
                raise ValueError(msg) from None
            if not isinstance(row, dict) or not row or not row.keys() <= {_ABOUT, _COLUMNS}:
                rows.append(row)
                continue
            said, listed = row.get(_ABOUT, {}), row.get(_COLUMNS, [])
            if not isinstance(said, dict):
                msg = f"{where}line {number}: `{_ABOUT}` must be a JSON object"
                raise ValueError(msg)  # noqa: TRY004
            if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
                msg = f"{where}line {number}: `{_COLUMNS}` must be a list of texts"
                raise ValueError(msg)
            found.update(said)
            names.update(dict.fromkeys(listed))
        if not rows and names.keys() <= {"id", "gold"}:  # what a table without any column is written as
            names = {}
        return cls._from_rows(rows, {**found, **(about or {})}, where, names)

    def to_records(self) -> list[dict[str, Any]]:
        """Return the rows as dicts of plain Python values; None where nothing is known."""
        names = self.columns
        lists = [self.values(name) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file with a header; `from_csv` reads the same numbers back, to the last bit.

        `about` is not in it, and an empty text in one of the columns named above reads back as None: `to_jsonl` keeps
        both. In other columns what is no text is written as JSON, and so is a text that would read as JSON or is empty.
        An older file of that name is replaced when the new one is whole, and stays where writing fails.
        """
        names = self.columns
        cells = [[_cell(name, value) for value in self.values(name)] for name in names]
        with _replacing(path) as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(zip(*cells, strict=True))

    def to_jsonl(self, path: str | Path) -> None:
        """Write a line with `about` and the columns, then one JSON object per row; None is left out.

        An older file of that name is replaced when the new one is whole, and stays where writing fails.
        """
        with _replacing(path) as file:
            file.write(_dump({_ABOUT: self.about, _COLUMNS: self.columns}) + "\n")
            file.writelines(
                _dump({k: v for k, v in row.items() if v is not None or k in _ALWAYS}) + "\n"
                for row in self.to_records()
            )


_ALWAYS = frozenset({"id", "small", "confidence", "large", "gold"})


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _no_constant(name: str) -> float:
    msg = f"{name} is not a number"
    raise ValueError(msg)


def _kind(name: str) -> str:
    """What a column holds: `float`, `int`, `bool`, `dict`, `label` or `any`."""
    if name == "confidence" or name.startswith(("confidence.", "cost_", "latency_")):
        return "float"
    if name.startswith("tokens_"):
        return "int"
    if name.endswith("_ok"):
        return "bool"
    if name in ("probabilities", "slices") or name.startswith("probabilities."):
        return "dict"
    if name in ("id", "small", "large", "large_pruned", "gold", "group", "error") or name.startswith("small."):
        return "label"
    return "any"


_WANTED = {
    "float": "must be a finite number, or empty",
    "int": "must be a whole number, or empty",
    "bool": "must be true or false, or empty",
    "dict": "must be a dict (JSON object), or empty",
    "label": "must be a text, or empty",
    "any": "must be plain JSON",
}


def _wanted(name: str) -> str:
    return _WANTED[_kind(name)]


def _require(columns: Mapping[str, Any], where: str) -> None:
    def has(*names: str) -> bool:
        return any(name in columns for name in names)

    several = any(name.startswith("small.") for name in columns)
    for found, names in (
        (has("small", "small_ok") or several, "`small` (or `small_ok`)"),
        (has("confidence") or any(name.startswith("confidence.") for name in columns), "`confidence`"),
        (has("large", "large_ok"), "`large` (or `large_ok`)"),
    ):
        if not found:
            msg = f"{where}outcomes need a column {names}"
            raise ValueError(msg)


def _store(name: str, values: list[Any], where: str) -> Any:
    """Check a column and turn it into what is kept: a read-only float64 array, or a list."""
    kind = _kind(name)
    convert = _CONVERT[kind]
    try:
        checked = [None if value is None else convert(value) for value in values]
    except (TypeError, ValueError):
        for place, value in enumerate(values):
            try:
                None if value is None else convert(value)
            except (TypeError, ValueError):
                msg = f"{where}row {place + 1}, column {name!r}: {_WANTED[kind]}"
                raise ValueError(msg) from None
        raise
    if name == "id" and None in checked:
        msg = f"{where}row {checked.index(None) + 1}, column 'id': must not be empty"
        raise ValueError(msg)
    if kind in ("float", "int", "bool"):
        array = np.array([math.nan if value is None else value for value in checked], dtype=np.float64)
        array.setflags(write=False)
        return array
    return checked


def _to_float(value: Any) -> float:
    if isinstance(value, (str, bytes, bool)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _to_int(value: Any) -> int:
    number = _to_float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _to_bool(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, float)) and value in (0, 1)):
        return bool(value)
    raise TypeError


def _to_dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(key): _to_any(item) for key, item in value.items()}


def _to_label(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError
    return str(int(value))  # an id or a class number


def _to_any(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "float": _to_float,
    "int": _to_int,
    "bool": _to_bool,
    "dict": _to_dict,
    "label": _to_label,
    "any": _to_any,
}


def _plain(name: str, stored: Floats) -> list[Any]:
    kind = _kind(name)
    cast: Callable[[float], Any] = {"int": int, "bool": bool}.get(kind, float)
    return [None if value != value else cast(value) for value in stored.tolist()]  # noqa: PLR0124


def _parser(name: str) -> Callable[[str], Any]:
    return _PARSERS[_kind(name)]


def _parse_number(cell: str) -> float:
    if "_" in cell or not cell.isascii():  # Python's own notation: `1_5` is 15 to `float`
        raise ValueError
    return float(cell)


def _parse_dict(cell: str) -> Any:
    try:
        return json.loads(cell, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError from None


def _parse_any(cell: str) -> Any:
    try:
        value = json.loads(cell, parse_constant=_no_constant)
        _dump(value)  # 1e999 reads as infinity
    except (ValueError, RecursionError):
        return cell
    return value


def _parse_bool(cell: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[cell.strip().lower()]
    except KeyError:
        raise ValueError from None


_PARSERS: dict[str, Callable[[str], Any]] = {
    "float": _parse_number,
    "int": _parse_number,
    "bool": _parse_bool,
    "dict": _parse_dict,
    "label": str,
    "any": _parse_any,
}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        mistaken = _kind(name) == "any" and (not value or _parse_any(value) != value)
        return _dump(value) if mistaken else value
    return repr(value) if isinstance(value, float) else _dump(value)


def _text(body: bytes, where: str) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Of the body without its mark, where it has one.
        line = error.object.count(b"\n", 0, error.start) + 1
        msg = f"{where}line {line} is not UTF-8"
        raise ValueError(msg) from None


@contextmanager
def _replacing(path: str | Path) -> Iterator[IO[str]]:
    """Open a temporary file beside `path`, and put it in its place once it is whole."""
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file():  # a pipe or a device: nothing to lose, and not to be replaced
        with target.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
