"""A routed data set on disk: one Parquet file for each block, with its rows and what they took, whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_dsplus._files import replace_file, replacing
from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.dataset.desk import pack, unpack
from langchain_dsplus.traces.recorder import plain

if TYPE_CHECKING:
    from langchain_dsplus.outcomes import Outcomes

JOURNAL = "replies.jsonl"
_TERMS = "run.json"
_MARK = b"langchain_dsplus"
_TEXTS = ("kind", "route_id", "router", "model", "error")


def digest_of(keys: Iterable[str]) -> str:
    """The hash of a block, from its inputs' hashes."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def encode_rows(place: int, rows: Sequence[tuple[int, Mapping[str, Any]]], said: Mapping[str, Any]) -> Any:
    """A block as an Arrow table: a recorder's rows, and what a reader filters by as columns of their own."""
    pa = require("pyarrow", "parquet")
    columns: dict[str, list[Any]] = {name: [] for name in ("place", *_TEXTS, "accepted", "input", "output", "more")}
    for at, row in rows:
        more = {name: value for name, value in row.items() if name not in (*_TEXTS, "input", "output")}
        route = row.get("route", {})
        columns["place"].append(place + at)
        columns["accepted"].append(route.get("accepted"))
        for name in _TEXTS:
            columns[name].append(route.get("model") if name == "model" else row.get(name))
        for name in ("input", "output"):
            value = row.get(name)
            text = value is None or isinstance(value, str)
            columns[name].append(value if text else json.dumps(plain(value), ensure_ascii=False))
            if name in row and not isinstance(value, str):
                more[f"{name}_kept"] = pack(value) if name == "output" else "json"
        columns["more"].append(json.dumps(plain(more), ensure_ascii=False, allow_nan=False))
    kinds = {"place": pa.int64(), "accepted": pa.bool_()}
    schema = pa.schema(
        [pa.field(name, kinds.get(name, pa.string())) for name in columns],
        metadata={_MARK: json.dumps({"format": 1, "place": place, **said}).encode()},
    )
    return pa.table(columns, schema=schema)


def _decode(row: Mapping[str, Any]) -> dict[str, Any]:
    more = load_json(row["more"])
    found = {name: row[name] for name in ("kind", "route_id", "router") if row[name] is not None}
    if row["error"] is not None:
        found["error"] = row["error"]
    for name in ("input", "output"):
        kept = more.pop(f"{name}_kept", None)
        if kept == "json":
            found[name] = None if row[name] is None else load_json(row[name])
        elif kept is not None or row[name] is not None:
            found[name] = row[name] if kept is None else unpack(kept)
    return {**found, **more}


class Routed:
    """What `route_dataset` wrote: a folder of Parquet files, read a block at a time.

    Args:
        path: The folder.

    Raises:
        ValueError: When it is read: if a file in it is none that `route_dataset` wrote.

    Example:
        ```python
        routed = Routed("routed/")
        routed.outputs()  # in the order of the data set
        routed.ledger().total()["calls"]
        routed.outcomes(about=router.about)  # what `certify` and `report` take
        ```
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<Routed: {len(self):,} inputs in {self.path.name}>"

    def __len__(self) -> int:
        return sum(said["inputs"] for said in self.parts().values())

    def file_of(self, place: int) -> Path:
        """The file of the block that begins with this input."""
        return self.path / f"part-{place:012d}.parquet"

    def said_by(self, path: Path) -> dict[str, Any]:
        """What a block's file says about itself: `place`, `inputs`, `digest`, `failed`, `counts`."""
        parquet, arrow = require("pyarrow.parquet", "parquet"), require("pyarrow", "parquet")
        try:
            said: dict[str, Any] = load_json((parquet.read_schema(path).metadata or {})[_MARK])
            fine = said["format"] == 1 and {"place", "inputs", "digest", "failed", "counts"} <= said.keys()
        except (arrow.ArrowInvalid, KeyError, TypeError, ValueError):
            fine = False
        if not fine:
            raise ValueError(f"{path} is no file that `route_dataset` wrote; remove it, or choose another folder")
        return said

    def parts(self) -> dict[Path, dict[str, Any]]:
        """The files, in the order of the data set, with what each says about itself."""
        return {path: self.said_by(path) for path in sorted(self.path.glob("part-*.parquet"))}

    def write(self, place: int, table: Any) -> None:
        """Put a block in its place, as a whole."""
        with replacing(self.file_of(place), binary=True) as file:
            require("pyarrow.parquet", "parquet").write_table(table, file, compression="zstd")

    def agree(self, terms: Mapping[str, Any]) -> None:
        """Make the folder, or check that it was begun on the same terms.

        Raises:
            ValueError: If a term is another one than the folder's.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / _TERMS
        if not file.exists():
            replace_file(file, json.dumps(terms) + "\n")
            return
        try:
            before = dict(load_json(file.read_bytes()))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file} is damaged: choose another folder") from error
        other = sorted(name for name in terms if before.get(name) != terms[name])
        if other:
            raise ValueError(
                f"{self.path} was begun with another {', '.join(f'`{name}`' for name in other)}: choose another folder"
            )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a recorder's rows, as `JSONLRecorder.read` would."""
        for _, row in self._rows():
            yield row

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        parquet = require("pyarrow.parquet", "parquet")
        for path in self.parts():
            with path.open("rb") as file:
                for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
                    for row in batch.to_pylist():
                        yield row["place"], _decode(row)

    def outputs(self) -> list[Any]:
        """The answers in the order of the data set; None for an input that failed."""
        found: dict[int, Any] = {}
        for place, row in self._rows():
            if row["kind"] == "route":
                found[place] = row.get("output")
        return [found[place] for place in sorted(found)]

    def routes(self) -> list[dict[str, Any] | None]:
        """The Routes in the order of the data set; None for an input that was refused."""
        found = {place: row.get("route") for place, row in self._rows() if row["kind"] == "route"}
        return [found[place] for place in sorted(found)]

    def ledger(self, prices: Mapping[str, Price] | Price | None = None, **options: Any) -> CostLedger:
        """One ledger over all blocks: each call of the large model once, whichever run or worker made it.

        Args:
            prices: As in `CostLedger`.
            **options: Of `CostLedger`.
        """
        ledger = CostLedger(prices, **options)
        for said in self.parts().values():
            ledger.add_counts(said["counts"])
        return ledger

    def outcomes(self, **options: Any) -> Outcomes:
        """A table of outcomes; see `Outcomes.from_traces` for the options, and for what may be certified on."""
        from langchain_dsplus.outcomes import Outcomes

        return Outcomes.from_traces(self.rows(), **options)


def is_routed(path: Path) -> bool:
    """Whether a path is a folder that `route_dataset` wrote."""
    return (path / _TERMS).is_file() and next(path.glob("part-*.parquet"), None) is not None
