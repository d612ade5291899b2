"""Columns of equal length with facts about them: what a table of outcomes is before anybody asks who was right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from langchain_dsplus.outcomes.columns import Column, kind_of
from langchain_dsplus.outcomes.uses import blocks


class Table:
    """Checked columns, and `about`; `Outcomes` says what may stand in them."""

    def _set(self, columns: dict[str, Column], length: int, about: Mapping[str, Any]) -> None:
        self.about: dict[str, Any] = {str(key): _json(value, str(key)) for key, value in about.items()}
        self._columns = columns
        self._length = length
        self.folder: Path | None = None

    @classmethod
    def _of(cls, columns: dict[str, Column], length: int, about: Mapping[str, Any], folder: Path | None = None) -> Self:
        """A table of columns that were checked before."""
        result = cls.__new__(cls)
        result._set(columns, length, about)  # noqa: SLF001 - its own
        result.folder = folder
        return result

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return (
            self.about == other.about
            and self.columns == other.columns
            and all(self.values(name) == other.values(name) for name in self.columns)
        )

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
        column = self._columns[name].array()
        column.setflags(write=False)
        return column

    def values(self, name: str) -> list[Any]:
        """Return a column as a list of plain Python values, None where nothing is known."""
        return self._columns[name].values()

    def to_records(self) -> list[dict[str, Any]]:
        """Return the rows as dicts of plain Python values; None where nothing is known."""
        names = self.columns
        lists = [self.values(name) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]

    def select(self, rows: ArrayLike) -> Self:
        """Return some rows: by a bool mask of length n, or by distinct row numbers."""
        places = np.asarray(rows)
        if places.dtype == bool:
            if places.shape != (self._length,):
                raise ValueError(f"`rows` as a mask must have shape ({self._length},), not {places.shape}")
            places = np.flatnonzero(places)
        places = places.astype(np.intp).reshape(-1)
        if len(np.unique(places % self._length if self._length else places)) != len(places):
            raise ValueError("`rows` names a row twice: ids must be distinct")
        columns = {name: column.take(places) for name, column in self._columns.items()}
        return self._of(columns, len(places), self.about, self.folder)

    def split(self, share: float = 0.5, *, seed: int = 0) -> tuple[Self, Self]:
        """Return two random parts, the first with about `share` of the rows; rows of one `group` stay together.

        So do rows with one `input_hash`: an input that stands twice must not be on both sides.
        """
        if not 0.0 < share < 1.0:
            raise ValueError("`share` must lie between 0 and 1")
        found = blocks(self)  # numbered as they first appear
        block = np.arange(self._length) if found is None else found
        sizes = np.bincount(block) if self._length else np.zeros(0, dtype=np.intp)
        order = np.random.default_rng(seed).permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]
        chosen = np.zeros(len(sizes), dtype=bool)
        chosen[order[before < round(share * self._length)]] = True
        mask = chosen[block]
        return self.select(mask), self.select(~mask)

    def data_hash(self) -> str:
        """Return a SHA-256 of the rows, in hex.

        It is the same for the same rows in another order (of rows or columns), in another process, and after CSV, JSONL
        and Parquet, since it goes by `id`. A column in which nothing is known does not count, nor does `about`. Any
        other change gives another hash, one in an id included.

        Example:
            >>> rows = [{"id": str(i), "small": "a", "confidence": i / 10, "large": "b"} for i in range(3)]
            >>> table = Outcomes.from_records(rows)
            >>> (
            ...     table.data_hash() == table.select([2, 0, 1]).data_hash(),
            ...     table.data_hash() == table.select([0]).data_hash(),
            ... )
            (True, False)
        """
        ids = self._columns["id"].values()
        order = np.array(sorted(range(self._length), key=ids.__getitem__), dtype=np.intp)
        digest = hashlib.sha256(f"outcomes 1\n{self._length}\n".encode())
        for name in sorted(self._columns):
            column = self._columns[name]
            if not column.empty():
                digest.update(f"{kind_of(name)} {name!r}\n".encode("utf-8", "backslashreplace"))
                column.feed(digest.update, order)
        return digest.hexdigest()


_INFINITE = (float("inf"), float("-inf"))


def _json(value: Any, key: str) -> Any:
    """A fact in `about` as plain JSON of its own: arrays, tuples and NumPy's scalars become what they stand for."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _json(item, key) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item, key) for item in value]
    if not (value is None or isinstance(value, (str, bool, int, float))) or value in _INFINITE or value != value:  # noqa: PLR0124
        raise ValueError(
            f"`about[{key!r}]` must be plain JSON (texts, finite numbers, lists, dicts), not {type(value).__name__}"
        )
    return value
