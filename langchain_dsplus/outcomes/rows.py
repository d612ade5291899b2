"""What the modules below the table may ask of one: so they need not import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

from numpy.typing import ArrayLike, NDArray

from langchain_dsplus._arrays import Bools, Floats


class Cells(Protocol):
    """Columns that can be looked at."""

    def __len__(self) -> int: ...

    def __contains__(self, name: object) -> bool: ...

    def values(self, name: str) -> list[Any]:
        """A column as plain Python values, None where nothing is known."""


class Rows(Cells, Protocol):
    """Rows of outcomes; `Outcomes` is one, and its docstrings say the whole of each method."""

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""

    @property
    def small_names(self) -> list[str]:
        """The names of several small models; empty where there is one without a name."""

    @property
    def folder(self) -> Path | None:
        """Where the table was read from or first written to."""

    def __getitem__(self, name: str) -> NDArray[Any]: ...

    def known_gold(self) -> Bools:
        """Where gold is known and is evidence, shape (n,)."""

    def correct(self, who: str = "small") -> Floats:
        """Who was right, shape (n,): 1 right, 0 wrong, NaN unknown."""

    def valid(self, who: str = "large") -> Bools:
        """Where there is an answer that may be compared, shape (n,)."""

    def agree(self, one: str, other: str) -> Bools:
        """Where two columns of answers say the same, shape (n,)."""

    def said(self, column: str) -> Bools:
        """Where a column says something."""

    def select(self, rows: ArrayLike) -> Self:
        """Some rows, by a bool mask or by row numbers."""
