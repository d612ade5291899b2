"""Tables of outcomes as CSV, JSONL and Parquet: the same values back to the last bit, and errors that say where."""

from __future__ import annotations

import csv
import json
import math
import operator
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._files import replacing
from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json as load
from langchain_dsplus.outcomes.columns import CHUNK, WANTED, Builder, Column, Kind, Labels, Numbers, kind_of
from langchain_dsplus.outcomes.likeness import bare

ABOUT = "__about__"
COLUMNS = "__columns__"
_ALWAYS = frozenset({"id", "small", "confidence", "large", "gold"})
_MARK = b"langchain_dsplus"
_FORMAT = 1
_BATCH = 2 * CHUNK
"""Rows that are read from a Parquet file together, and that a row group has."""


# Made once: making it takes longer than most values do.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def dump(value: Any) -> str:
    """Strict JSON on one line."""
    return _ENCODER.encode(value)


_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_FIRST = frozenset("'=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like one (or in wide forms) gets a quote more."""
    return f"'{text}" if text and text[0] in _FIRST and _FORMULA.match(text) else text


def freed(cell: str) -> str:
    """Undo `guarded`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


# --- CSV ------------------------------------------------------------------------------------------------------------


@contextmanager
def csv_rows(path: Path, *, errors: str = "strict") -> Iterator[tuple[Iterator[list[str]], str]]:
    """Open a CSV file: its lines of cells, the header first, and what separates the cells.

    What is empty above the header is left out; below it, a line without a mark in any cell has no cells.
    Cells are separated by commas, semicolons (spreadsheets in many a language) or tabs, whatever gives the header most
    of a table's columns. A first line `sep=;` is taken at its word. `errors` says what becomes of bytes that are not
    UTF-8, as in `open`.

    Raises:
        ValueError: If it is no CSV file, or not UTF-8; the message names file and line.
    """
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding="utf-8-sig", errors=errors, newline="") as file:
            first = file.readline()
            told = first.strip().lower()
            if len(told) == 5 and told.startswith("sep="):
                delimiter = first.strip()[-1]
            else:
                delimiter = max(",;\t", key=lambda mark: _columns_in(first, mark))
                file.seek(0)
            rows = csv.reader(file, delimiter=delimiter)
            lines = (cells if any(map(str.strip, cells)) else [] for cells in rows)
            yield dropwhile(operator.not_, lines), delimiter
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: line {_undecodable(path)} is not UTF-8") from None
    finally:
        csv.field_size_limit(limit)


def _columns_in(line: str, mark: str) -> tuple[int, int]:
    """How many of a table's columns a header names, and how many at all."""
    names = [_named(name) for name in next(csv.reader([line], delimiter=mark), [])]
    return sum(kind_of(name) != "any" for name in names), len(names)


def _named(name: str) -> str:
    """A column's name; blanks around it count only where it is not one of a table's."""
    return bare(name) if kind_of(bare(name)) != "any" else name


def _undecodable(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def read_csv(path: Path) -> tuple[dict[str, Column], dict[str, Any]]:
    """Read a table, and what it is about."""
    where = f"{path}: "
    about: dict[str, Any] = {}
    with csv_rows(path) as (lines, delimiter):
        header = [_named(freed(name)) for name in next(lines, [])]
        named = [name for name in header if name]
        if len(set(named)) != len(named):
            raise ValueError(f"{where}two columns have the same name")
        builders = [Builder(name, where) for name in header]
        row = 0
        while chunk := list(islice(lines, CHUNK)):
            for place, cells in enumerate(chunk):
                row += 1
                if not cells:
                    chunk[place] = [""] * len(header)
                elif len(cells) != len(header):
                    raise ValueError(f"{where}row {row} has {len(cells)} cells, the header has {len(header)}")
            for builder, column in zip(builders, zip(*chunk, strict=True), strict=True):
                if builder.name == ABOUT:
                    about.update(_about(column, where, row - len(chunk)))
                elif builder.name:
                    builder.add(_parsed(builder, column, where, comma=delimiter == ";"))
                elif any(column):  # a spreadsheet writes empty columns to the right of a table
                    place = next(place for place, cell in enumerate(column, 1) if cell)
                    raise ValueError(f"{where}row {row - len(chunk) + place}: a cell in a column without a name")
    return {builder.name: builder.done() for builder in builders if builder.name not in ("", ABOUT)}, about


def _about(cells: Sequence[str], where: str, before: int) -> dict[str, Any]:
    """What the first row's cell says, wherever a spreadsheet has sorted it to."""
    found: dict[str, Any] = {}
    for place, cell in enumerate(cells, 1):
        if cell:
            try:
                found.update(load(cell))
            except (ValueError, TypeError):
                raise ValueError(
                    f"{where}row {before + place}, column '{ABOUT}': must be a JSON object, or empty"
                ) from None
    return found


def _parsed(builder: Builder, cells: Sequence[str], where: str, *, comma: bool) -> list[Any]:
    """Cells as values; with `comma` a number may have one in place of its point: `0,93`."""
    parse = _PARSERS[builder.kind]
    if builder.kind in ("label", "id"):
        return [freed(cell) or None for cell in cells]
    if builder.kind in ("float", "int"):
        if comma:
            cells = [cell if "." in cell else cell.replace(",", ".") for cell in cells]
        every = "".join(cells)
        if "_" not in every and every.isascii():
            parse = float
    try:
        return [None if cell == "" else parse(cell) for cell in cells]
    except ValueError:
        for place, cell in enumerate(cells, builder.length + 1):
            try:
                None if cell == "" else parse(cell)
            except ValueError:
                raise ValueError(f"{where}row {place}, column {builder.name!r}: {WANTED[builder.kind]}") from None
        raise


def _parse_number(cell: str) -> float:
    if "_" in cell or not cell.isascii():  # Python's own notation: `1_5` is 15 to `float`
        raise ValueError
    return float(cell)


def _parse_any(cell: str) -> Any:
    cell = freed(cell)
    try:
        value = load(cell)
        dump(value)  # 1e999 reads as infinity
    except (ValueError, RecursionError):
        return cell
    return value


def _parse_bool(cell: str) -> bool:
    try:
        return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}[cell.strip().lower()]
    except KeyError:
        raise ValueError from None


_PARSERS: dict[Kind, Callable[[str], Any]] = {
    "float": _parse_number,
    "int": _parse_number,
    "bool": _parse_bool,
    "dict": load,
    "id": str,
    "label": str,
    "any": _parse_any,
}


def _cells(kind: Kind, values: list[Any]) -> list[Any]:
    """Texts, and what the csv module writes as it should be: numbers to the last digit, None as nothing."""
    if kind in ("id", "label"):
        return [value if value is None else guarded(value) for value in values]
    return values if kind in ("float", "int") else [_cell(kind, value) for value in values]


def _cell(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        shown = guarded(value)
        mistaken = kind == "any" and (not value or _parse_any(shown) != value)
        return dump(value) if mistaken else shown
    return dump(value)


def write_csv(path: Path, columns: Mapping[str, Column], about: Mapping[str, Any]) -> None:
    """Write a table."""
    kinds = [kind_of(name) for name in columns]
    said = dump(about) if about else ""
    with replacing(path) as file, _encodable(columns):
        writer = csv.writer(file)
        header = [guarded(name) for name in columns]
        writer.writerow([*header, ABOUT] if said else header)
        for values in _chunks(columns):
            cells = [_cells(kind, column) for kind, column in zip(kinds, values, strict=True)]
            if about:
                cells.append([said, *[""] * (len(values[0]) - 1)])
                said = ""
            writer.writerows(zip(*cells, strict=True))


def _chunks(columns: Mapping[str, Column]) -> Iterator[list[list[Any]]]:
    length = len(next(iter(columns.values()))) if columns else 0
    for start in range(0, length, CHUNK):
        places = np.arange(start, min(start + CHUNK, length))
        yield [column.take(places).values() for column in columns.values()]


@contextmanager
def _encodable(columns: Mapping[str, Column]) -> Iterator[None]:
    """Say where, when a text has half a surrogate pair, which no file of UTF-8 can hold."""
    try:
        yield
    except UnicodeEncodeError:
        for name, column in columns.items():
            for row, value in enumerate(column.values(), 1):
                try:
                    dump(value).encode()
                except UnicodeEncodeError:
                    raise ValueError(
                        f"row {row}, column {name!r}: half a surrogate pair, which is no character"
                    ) from None
        raise


# --- JSONL ----------------------------------------------------------------------------------------------------------


class Header:
    """What a file says beside its rows."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self.names: dict[str, None] = {}


def read_jsonl(path: Path, header: Header) -> Iterator[Any]:
    """Yield the rows; `header` is complete after the last one."""
    where = f"{path}: "
    for number, row in json_lines(path):
        if not isinstance(row, dict) or not row or not row.keys() <= {ABOUT, COLUMNS}:
            yield row
            continue
        said, listed = row.get(ABOUT, {}), row.get(COLUMNS, [])
        if not isinstance(said, dict):
            raise ValueError(f"{where}line {number}: `{ABOUT}` must be a JSON object")  # noqa: TRY004
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"{where}line {number}: `{COLUMNS}` must be a list of texts")
        header.about.update(said)
        header.names.update(dict.fromkeys(listed))


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line numbers and what stands there; empty lines are left out.

    Raises:
        ValueError: If a line is not JSON or not UTF-8; the message names file and line.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"{path}: line {number} is not UTF-8") from None
            if text.strip():
                try:
                    value = load(text)
                except ValueError:
                    raise ValueError(f"{path}: line {number} is not JSON") from None
                yield number, value


def json_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines; anything else is an error, as in `json_lines`."""
    for number, row in json_lines(path):
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is not a JSON object")  # noqa: TRY004 - a malformed file
        yield row


def write_jsonl(path: Path, columns: Mapping[str, Column], about: Mapping[str, Any]) -> None:
    """Write a table."""
    names = list(columns)
    with replacing(path) as file, _encodable(columns):
        file.write(dump({ABOUT: about, COLUMNS: names}) + "\n")
        for values in _chunks(columns):
            file.writelines(
                dump({k: v for k, v in zip(names, row, strict=True) if v is not None or k in _ALWAYS}) + "\n"
                for row in zip(*values, strict=True)
            )


# --- Parquet --------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, columns: Mapping[str, Column], about: Mapping[str, Any]) -> None:
    """Write a table, a row group at a time."""
    pa, pq = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    kinds = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
    fields = []
    for name, column in columns.items():
        kind = kinds[column.kind] if isinstance(column, Numbers) else pa.string()
        fields.append(pa.field(name, kind, metadata={_MARK: b"json"} if _as_json(name, column) else None))
    schema = pa.schema(fields, metadata={_MARK: dump({"about": about, "format": _FORMAT}).encode()})
    length = len(next(iter(columns.values()), ()))
    with (
        replacing(path, binary=True) as file,
        _encodable(columns),
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for start in range(0, length, _BATCH):
            places = np.arange(start, min(start + _BATCH, length))
            arrays = [_arrow(pa, name, column.take(places)) for name, column in columns.items()]
            writer.write_table(pa.table(arrays, schema=schema))


def _as_json(name: str, column: Column) -> bool:
    return not isinstance(column, (Numbers, Labels)) and kind_of(name) != "id"


def _arrow(pa: Any, name: str, column: Column) -> Any:
    """An Arrow array."""
    if isinstance(column, Numbers):
        nothing = np.isnan(column.data)
        data = np.where(nothing, 0.0, column.data)
        if column.kind != "float":
            data = data.astype(np.int64 if column.kind == "int" else np.bool_)
        return pa.array(data, mask=nothing)
    values = column.values()
    if _as_json(name, column):
        values = [None if value is None else dump(value) for value in values]
    return pa.array(values, type=pa.string())


def read_parquet(path: Path) -> tuple[dict[str, Column], dict[str, Any]]:
    """Read a table, or a folder of parts of one, and what it is about; rows are looked at `_BATCH` at a time."""
    pa, pq = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    where = f"{path}: "
    builders: dict[str, Builder] = {}
    about: dict[str, Any] | None = None
    length = 0
    for part in _parts_of(path):
        try:
            with part.open("rb") as file, pq.ParquetFile(file) as opened:
                said = _said_by(opened.schema_arrow, f"{part}: ")
                if about is not None and about != said:
                    raise ValueError(f"{part}: it is about something else than the parts before: read them one by one")
                about = said
                for name in opened.schema_arrow.names:
                    builders.setdefault(name, Builder(name, where)).pad(length)
                for batch in opened.iter_batches(batch_size=_BATCH):
                    for field, values in zip(batch.schema, batch.columns, strict=True):
                        _feed(pa, builders[field.name], values, field.metadata or {})
                    length += len(batch)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # Arrow's own have none: a page that is cut
                raise
            raise ValueError(f"{part}: not a Parquet file that can be read ({type(error).__name__})") from None
        for builder in builders.values():
            builder.pad(length)
    return {name: builders.pop(name).done() for name in list(builders)}, about or {}  # each goes when it is done


def _parts_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(part for part in path.glob("*.parquet") if part.is_file())
    if not found:
        raise ValueError(f"{path} is a folder without a `*.parquet` file")
    return found


def _said_by(schema: Any, where: str) -> dict[str, Any]:
    """What a file is about."""
    if len(set(schema.names)) != len(schema.names):
        raise ValueError(f"{where}two columns have the same name")
    mark = (schema.metadata or {}).get(_MARK)
    if mark is None:
        return {}
    try:
        said = load(mark.decode())
        about, known = dict(said["about"]), said["format"] == _FORMAT
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{where}the metadata `{_MARK.decode()}` is not what `to_parquet` writes; what `route_dataset` wrote is "
            "read by `Routed(folder).outcomes()`"
        ) from None
    if not known:
        raise ValueError(f"{where}it has another `format`; this version reads {_FORMAT}")
    return about


def _feed(pa: Any, builder: Builder, array: Any, metadata: Mapping[bytes, bytes]) -> None:
    """Give a column some more of its values, as arrays where they are numbers or labels."""
    types, kind, form = pa.types, builder.kind, array.type
    if types.is_dictionary(form) and kind != "label":
        array = array.dictionary_decode()
        form = array.type
    numeric = types.is_floating(form) or types.is_integer(form) or types.is_boolean(form)
    if kind in ("float", "int", "bool") and numeric and not (kind == "float" and types.is_boolean(form)):
        data = array.cast(pa.float64(), safe=False).fill_null(math.nan)
        builder.add_numbers(np.array(data, dtype=np.float64), np.array(array.is_null(), dtype=np.bool_))
        return
    text = form.value_type if types.is_dictionary(form) else form
    if kind == "label" and (types.is_string(text) or types.is_large_string(text)):
        array = array.dictionary_encode() if text is form else array
        # A part's dictionary may hold the words of a million rows.
        used, codes = np.unique(np.array(array.indices.fill_null(-1), dtype=np.int64), return_inverse=True)
        start = int(len(used) > 0 and used[0] < 0)
        builder.add_coded(codes, [*[None] * start, *array.dictionary.take(pa.array(used[start:])).to_pylist()])
        return
    if not _readable(types, form):
        raise ValueError(f"{builder.where}column {builder.name!r}: {WANTED[kind]}, not {form}")
    is_json = metadata.get(_MARK) == b"json" or (
        kind == "dict" and (types.is_string(form) or types.is_large_string(form))
    )
    for start in range(0, len(array), CHUNK):
        values = array.slice(start, CHUNK).to_pylist()
        if is_json:
            values = _loaded(builder, values)
        elif kind == "dict":
            values = [None if value is None else _present(value) for value in values]
        builder.add(values)


def _readable(types: Any, form: Any) -> bool:
    """Whether the values are plain JSON."""
    if types.is_struct(form):
        return all(_readable(types, form.field(place).type) for place in range(form.num_fields))
    if types.is_map(form):
        return _readable(types, form.key_type) and _readable(types, form.item_type)
    if types.is_list(form) or types.is_large_list(form):
        return _readable(types, form.value_type)
    checks = (
        types.is_null,
        types.is_boolean,
        types.is_integer,
        types.is_floating,
        types.is_string,
        types.is_large_string,
        types.is_decimal,
    )
    return any(check(form) for check in checks)


def _loaded(builder: Builder, values: Sequence[Any]) -> list[Any]:
    result = []
    for place, value in enumerate(values):
        try:
            result.append(None if value is None else load(value))
        except ValueError:
            raise builder.wrong(place) from None
    return result


def _present(value: Any) -> Any:
    """A struct or map as a dict; a struct has every key in every row, where some mean nothing."""
    pairs = value.items() if isinstance(value, Mapping) else value
    return {key: item for key, item in pairs if item is not None} if isinstance(value, (Mapping, list)) else value


# --- writing --------------------------------------------------------------------------------------------------------
