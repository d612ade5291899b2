"""How a table keeps a column: numbers as an array, labels as codes, dicts with the same keys as a matrix."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from langchain_dsplus._arrays import Codes, Floats, Places
from langchain_dsplus._json import load_json
from langchain_dsplus.outcomes.cells import missing, to_text

Kind: TypeAlias = Literal["float", "int", "bool", "dict", "id", "label", "any"]


CHUNK = 8192
"""Rows that are looked at together."""
_HASHED = 4096
"""Values that are hashed together: another number would be another hash."""


_LABELS = frozenset({"small", "large", "large_pruned", "gold", "group", "error", "source", "input_hash", "stratum"})


def kind_of(name: str) -> Kind:
    """What a column of that name holds."""
    if name == "id":
        return "id"
    if name in ("confidence", "label_probability") or name.startswith(("confidence.", "cost_", "latency_")):
        return "float"
    if name == "draw" or name.startswith("tokens_"):
        return "int"
    if name.endswith("_ok") or name == "in_training":
        return "bool"
    if name in ("probabilities", "slices") or name.startswith("probabilities."):
        return "dict"
    if name in _LABELS or name.startswith("small."):
        return "label"
    return "any"


WANTED: dict[Kind, str] = {
    "float": "must be a finite number, or empty",
    "int": "must be a whole number, or empty",
    "bool": "must be true or false, or empty",
    "dict": "must be a dict (JSON object), or empty",
    "id": "must be a text, and not empty",
    "label": "must be a text or a whole number, or empty",
    "any": "must be plain JSON",
}


class Column(ABC):
    """A column, never changed once it is made."""

    @abstractmethod
    def __len__(self) -> int:
        """Rows."""

    @abstractmethod
    def take(self, places: Places) -> Self:
        """Some rows."""

    @abstractmethod
    def values(self) -> list[Any]:
        """Plain Python values; None where nothing is known."""

    @abstractmethod
    def known(self) -> NDArray[np.bool_]:
        """Where something is known, shape (n,)."""

    @abstractmethod
    def feed(self, update: Callable[[bytes], None], order: Places) -> None:
        """Feed a hash with the values in that order, in a form that does not depend on how they are kept."""

    def array(self) -> NDArray[Any]:
        """Shape (n,), read-only."""
        return _objects(self.values())

    def empty(self) -> bool:
        """Whether nothing is known in any row."""
        return not self.known().any()


class Numbers(Column):
    """Numbers or bools, as float64; NaN where nothing is known."""

    def __init__(self, kind: Kind, data: Floats) -> None:
        self.kind = kind
        self.data = data
        self.data.setflags(write=False)

    def __len__(self) -> int:
        return len(self.data)

    def take(self, places: Places) -> Self:
        """Some rows."""
        return type(self)(self.kind, self.data[places])

    def values(self) -> list[Any]:
        """Plain floats, ints or bools."""
        cast: Callable[[float], Any] | None = {"int": int, "bool": bool}.get(self.kind)
        known = self.data.tolist()
        if cast is None:
            return [None if value != value else value for value in known]  # noqa: PLR0124
        return [None if value != value else cast(value) for value in known]  # noqa: PLR0124

    def array(self) -> Floats:
        """The array itself."""
        return self.data

    def known(self) -> NDArray[np.bool_]:
        """Where there is a number."""
        return ~np.isnan(self.data)

    def feed(self, update: Callable[[bytes], None], order: Places) -> None:
        """As float64, little-endian."""
        data = self.data[order] + 0.0  # minus zero becomes zero
        data[np.isnan(data)] = np.nan  # one NaN for all
        update(data.astype("<f8").tobytes())


class Labels(Column):
    """Texts of which many are equal: the place of each in a list of words; -1 where nothing is known."""

    def __init__(self, codes: Codes, words: list[str]) -> None:
        self.codes = codes
        self.words = words
        self.codes.setflags(write=False)

    @cached_property
    def used(self) -> list[str]:
        """The words that stand in some row."""
        counts = np.bincount(self.codes + 1, minlength=len(self.words) + 1)[1:]
        return [self.words[code] for code in np.flatnonzero(counts).tolist()]

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, places: Places) -> Self:
        """Some rows; of a few rows out of many, the words that they use."""
        codes = self.codes[places]
        if len(codes) * 4 >= len(self.words):
            return type(self)(codes, self.words)
        used, places = np.unique(codes, return_inverse=True)
        start = int(len(used) > 0 and used[0] < 0)
        return type(self)((places - start).astype(np.int32), [self.words[code] for code in used[start:]])

    def values(self) -> list[Any]:
        """Texts."""
        words: list[Any] = [*self.words, None]
        return [words[code] for code in self.codes.tolist()]

    def array(self) -> NDArray[Any]:
        """Texts, as objects."""
        return _objects([*self.words, None])[self.codes]

    def known(self) -> NDArray[np.bool_]:
        """Where there is a text."""
        return np.asarray(self.codes >= 0)

    def within(self, words: Iterable[str]) -> NDArray[np.bool_]:
        """Where the text is one of some."""
        wanted = frozenset(words)
        return np.array([*(word in wanted for word in self.words), False], dtype=bool)[self.codes]

    def equals(self, other: Labels) -> NDArray[np.bool_]:
        """Where two columns say the same; False where one says nothing."""
        if self.words is other.words:
            return np.asarray((self.codes == other.codes) & (self.codes >= 0))
        place = {word: code for code, word in enumerate(self.words)}
        here = np.array([*(place.get(word, -2) for word in other.words), -2], dtype=np.int32)
        return np.asarray(here[other.codes] == self.codes)

    def feed(self, update: Callable[[bytes], None], order: Places) -> None:
        """The words in use, sorted; then where each row's stands."""
        used = sorted({self.words[code] for code in np.unique(self.codes).tolist() if code >= 0})
        place = {word: code for code, word in enumerate(used)}
        update(_packed(used))
        rank = np.array([*(place.get(word, -1) for word in self.words), -1], dtype="<i4")
        update(rank[self.codes[order]].tobytes())


class Spread(Column):
    """Dicts with the same keys and floats as values, as probabilities are: one matrix."""

    def __init__(self, keys: tuple[str, ...], data: Floats, known: NDArray[np.bool_]) -> None:
        self.keys = keys
        self.data = data
        self._known = known

    def __len__(self) -> int:
        return len(self._known)

    def known(self) -> NDArray[np.bool_]:
        """Where there is a dict."""
        return self._known

    def take(self, places: Places) -> Self:
        """Some rows."""
        return type(self)(self.keys, self.data[places], self._known[places])

    def values(self) -> list[Any]:
        """Dicts, made anew."""
        keys = self.keys
        return [
            dict(zip(keys, row, strict=True)) if known else None
            for row, known in zip(self.data.tolist(), self._known.tolist(), strict=True)
        ]

    def feed(self, update: Callable[[bytes], None], order: Places) -> None:
        """As any other value."""
        for start in range(0, len(order), _HASHED):
            update(_packed(self.take(order[start : start + _HASHED]).values()))


class Plain(Column):
    """Whatever else, as it is: plain Python values."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def take(self, places: Places) -> Self:
        """Some rows."""
        data = self.data
        return type(self)([data[place] for place in places.tolist()])

    def values(self) -> list[Any]:
        """A copy of the list."""
        return list(self.data)

    def empty(self) -> bool:
        """Whether there is none."""
        return all(value is None for value in self.data)

    def known(self) -> NDArray[np.bool_]:
        """Where there is a value."""
        return np.fromiter((value is not None for value in self.data), dtype=bool, count=len(self.data))

    def feed(self, update: Callable[[bytes], None], order: Places) -> None:
        """As JSON with sorted keys."""
        data, places = self.data, order.tolist()
        for start in range(0, len(places), _HASHED):
            update(_packed([data[place] for place in places[start : start + _HASHED]]))


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    column.setflags(write=False)
    return column


_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":")).encode


def _packed(value: Any) -> bytes:
    """One value, so that what follows cannot be taken for a part of it."""
    return _encode(value).encode("ascii") + b"\n"


# --- from what users give -------------------------------------------------------------------------------------------


def to_float(value: Any) -> float:
    """A finite number."""
    if isinstance(value, (str, bytes, bool)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def to_int(value: Any) -> int:
    """A whole number."""
    number = to_float(value)
    if number != int(number):
        raise ValueError
    return int(number)


def to_bool(value: Any) -> bool:
    """A bool, or 0 or 1."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or (isinstance(value, (int, float)) and value in (0, 1)):
        return bool(value)
    raise TypeError


def to_dict(value: Any) -> dict[str, Any] | None:
    """A dict of plain values; an export may hold it as a JSON text."""
    if isinstance(value, str):
        value = load_json(value) if value.strip() else None
    if missing(value):
        return None
    if not isinstance(value, Mapping):
        raise TypeError
    return {str(key): to_any(item) for key, item in value.items()}


def rows_of(data: Any) -> Iterable[Any]:
    """Rows as they are, or those of a DataFrame (pandas, polars, an Arrow table): dicts, None where nothing is known.

    Raises:
        ValueError: If two columns of a DataFrame have the same name.
    """
    columns = frame_columns(data)
    if columns is None:
        return data  # type: ignore[no-any-return]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def frame_columns(data: Any) -> dict[str, list[Any]] | None:
    """The columns of a DataFrame as lists, None where nothing is known; None where it is none.

    Raises:
        ValueError: If two columns have the same name.
    """
    if not any(hasattr(type(data), name) for name in ("__dataframe__", "__arrow_c_stream__")):
        return None
    names = getattr(data, "column_names", None) or getattr(data, "columns", None)
    if names is None:  # one column of a table
        return None
    names = list(names)
    if len(set(names)) != len(names):
        raise ValueError("two columns of the DataFrame have the same name")
    return {str(name): [None if missing(value) else value for value in _listed(data[name])] for name in names}


def _listed(column: Any) -> list[Any]:
    for name in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, name):
            return list(getattr(column, name)())
    return list(column)


def to_any(value: Any) -> Any:
    """Whatever it is, but no NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value.isoformat() if hasattr(value, "isoformat") else value


def _to_gold(value: Any) -> str | None:
    """A label; an object around one as JSON, from which the rule for gold takes it."""
    return json.dumps(value) if isinstance(value, Mapping) else to_text(value)


_CONVERT: dict[Kind, Callable[[Any], Any]] = {
    "float": to_float,
    "int": to_int,
    "bool": to_bool,
    "dict": to_dict,
    "id": to_text,
    "label": to_text,
    "any": to_any,
}


class Builder:
    """Takes a column's values chunk by chunk, checks them, and keeps them small."""

    def __init__(self, name: str, where: str = "") -> None:
        self.name = name
        self.where = where
        self.kind = kind_of(name)
        self._convert = _to_gold if name == "gold" else _CONVERT[self.kind]
        self.length = 0
        self._parts: list[Any] = []
        self._words: dict[str, int] = {}
        self._keys: tuple[str, ...] | None = None
        self._alike = self.kind == "dict"

    def add(self, values: Sequence[Any]) -> None:
        """Take further values.

        Raises:
            ValueError: If one is not what the column holds; the message names file, row and column.
        """
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            if self.kind == "label":
                self._add_labels(chunk)
            elif self.kind == "dict":
                self._add_dicts(chunk)
            elif self.kind in ("id", "any"):
                self._add_any(chunk)
            else:
                self._add_numbers(chunk)
            self.length += len(chunk)

    def add_numbers(self, data: Floats, nothing: NDArray[np.bool_]) -> None:
        """Take further numbers as an array, and where there are none. Raises ValueError as in `add`."""
        bad = ~np.isfinite(data)
        if self.kind == "int":
            bad |= data != np.floor(data)
        elif self.kind == "bool":
            bad |= (data != 0) & (data != 1)
        bad &= ~nothing
        if bad.any():
            raise self.wrong(int(np.argmax(bad)))
        self._parts.append(data)
        self.length += len(data)

    def add_coded(self, codes: Places, words: Sequence[str | None]) -> None:
        """Take further labels as places in a list of them."""
        self._parts.append(np.array([self._code(word) for word in words], dtype=np.int32)[codes])
        self.length += len(codes)

    def _code(self, word: str | None) -> int:
        return -1 if word is None else self._words.setdefault(word, len(self._words))

    def pad(self, length: int) -> None:
        """Fill up with None to that length."""
        if length > self.length:
            self.add([None] * (length - self.length))

    def done(self) -> Column:
        """The column."""
        if self.kind in ("float", "int", "bool"):
            return Numbers(self.kind, _joined(self._parts, np.float64))
        if self.kind == "label":
            return Labels(_joined(self._parts, np.int32), list(self._words))
        if self._alike and self._keys is not None:
            width = len(self._keys)
            known = _joined([known for known, _ in self._parts], np.bool_)
            # Chunks without any dict came before the keys were known.
            rows = [
                part if part.shape[1] == width else np.full((len(part), width), math.nan) for _, part in self._parts
            ]
            return Spread(self._keys, _joined(rows, np.float64), known)
        if self.kind == "dict":
            self._loosen()
        return Plain([value for part in self._parts for value in part])

    def _checked(self, values: Sequence[Any]) -> list[Any]:
        convert = self._convert
        try:
            checked = [None if value is None else convert(value) for value in values]
        except (TypeError, ValueError, OverflowError):
            for place, value in enumerate(values):
                try:
                    None if value is None else convert(value)
                except (TypeError, ValueError, OverflowError):
                    raise self.wrong(place) from None
            raise
        return checked

    def wrong(self, place: int) -> ValueError:
        """The error about one of the values that come next."""
        row = self.length + place + 1
        return ValueError(f"{self.where}row {row}, column {self.name!r}: {WANTED[self.kind]}")

    def _add_numbers(self, values: Sequence[Any]) -> None:
        plain = float if self.kind == "float" else {"int": int, "bool": bool}[self.kind]
        kinds = set(map(type, values))
        if not kinds <= {plain, type(None)}:
            values = self._checked(values)
        try:
            part = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
        except OverflowError:
            part = np.array([math.inf])
        if np.isfinite(part).sum() + sum(value is None for value in values) != len(values):
            self._checked(values)  # says where
        self._parts.append(part)

    def _add_labels(self, values: Sequence[Any]) -> None:
        if not set(map(type, values)) <= {str, type(None)}:
            values = self._checked(values)
        place = {word: self._code(word) for word in dict.fromkeys(values)}
        self._parts.append(np.array([place[value] for value in values], dtype=np.int32))

    def _add_any(self, values: Sequence[Any]) -> None:
        if self.kind != "id" or set(map(type, values)) != {str}:
            values = self._checked(values)
        self._parts.append(list(values))

    def _add_dicts(self, values: Sequence[Any]) -> None:
        checked = self._checked(values)
        if self._keys is None:
            self._keys = next((tuple(value) for value in checked if value is not None), None)
        if not self._alike or not self._same(checked):
            self._loosen()
            self._parts.append(checked)
            return
        width = len(self._keys or ())
        nothing = (math.nan,) * width
        rows = [nothing if value is None else tuple(value.values()) for value in checked]
        known = np.array([value is not None for value in checked], dtype=np.bool_)
        self._parts.append((known, np.array(rows, dtype=np.float64).reshape(len(rows), width)))

    def _same(self, rows: Sequence[dict[str, Any] | None]) -> bool:
        keys = self._keys
        return all(
            row is None or (tuple(row) == keys and all(type(value) is float for value in row.values())) for row in rows
        )

    def _loosen(self) -> None:
        """The dicts are not alike after all."""
        if self._alike:
            self._alike = False
            keys = self._keys or ()
            self._parts = [Spread(keys, data, known).values() for known, data in self._parts]


def _joined(parts: list[Any], kind: Any) -> NDArray[Any]:
    if not parts:
        return np.empty(0, dtype=kind)
    return np.concatenate(parts) if len(parts) > 1 else np.asarray(parts[0])


def build(name: str, values: Iterable[Any], where: str = "") -> Column:
    """Check a whole column."""
    builder = Builder(name, where)
    builder.add(values if isinstance(values, (list, tuple)) else list(values))
    return builder.done()
