"""`route_dataset`: a router over a whole data set, block by block, on this machine or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus._inputs import hash_of
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.dataset.block import BlockRouter, checked
from langchain_dsplus.dataset.desk import Desk
from langchain_dsplus.dataset.folder import JOURNAL, Routed, digest_of
from langchain_dsplus.identity import identify
from langchain_dsplus.routing.router import ConfidenceRouter

Block = tuple[int, list[Any]]
"""The place of the first input in the data set, and the inputs."""


def route_dataset(
    ds: Any,
    make_router: Callable[[], ConfidenceRouter],
    output: str | Path,
    *,
    input_column: str | None = None,
    run: str = "",
    ray: str | bool | None = None,
    workers: int | None = None,
    restarts: int = 3,
    block_size: int = 1024,
    attempts: int = 3,
    max_concurrency: int = 8,
    per_second: float | None = None,
    max_cost: float | None = None,
    prices: Mapping[str, Price] | Price | None = None,
    keep_inputs: bool = True,
    progress: bool = True,
) -> Routed:
    """Answer a whole data set and write answers and Routes to Parquet files, a block at a time.

    On Ray every worker is an actor that loads the small model once; one more actor, beside the caller, holds the rate
    limit, the budget and the journal of the large model's replies. Without Ray the same blocks go through the same
    code in this process, so the answers and Routes are the same.

    A run that was killed goes on where it was, with the same call: blocks that are written are left alone, and the
    large model is not asked again about what it has answered, calls under way at the kill excepted. Blocks in which an
    input failed are done again, for these inputs alone.

    The router's own `monitor` and `pacer` are each worker's own, and which answers are audited is drawn anew in every
    worker; `max_cost` and `per_second` hold for all together.

    Args:
        ds: The inputs: anything to iterate over, or a Ray Dataset, whose columns are a dict of each row. The order must
            be the same in every run.
        make_router: Makes the router; called in every worker. Ray sends it there, so it must not hold open files or
            connections: `functools.partial(make, "folder/")` does.
        output: The folder to write: `part-*.parquet`, `replies.jsonl`, `run.json`. Only the caller's machine needs it.
        input_column: The column of a Ray Dataset, or the key of dict rows, that is the input; None takes the row.
        run: Names the run in the ids of decisions: another name in another folder asks everything anew.
        ray: None uses Ray for a Ray Dataset alone; True the cluster that is running or a new one here; a text is a
            cluster's address.
        workers: Actors; by default one for each CPU of the cluster. Without Ray it is not used.
        restarts: How often a worker that died is started again, and its block given to it.
        block_size: Inputs that the small model sees as one batch, and rows of a file.
        attempts: How often the large model is asked about one input, with growing pauses.
        max_concurrency: Calls of the large model at a time, of each worker.
        per_second: Calls of the large model that may begin in a second.
        max_cost: What the large model may cost in all, earlier runs into the folder included; needs its price.
        prices: As in `CostLedger`.
        keep_inputs: Whether the files hold the inputs.
        progress: Whether there is a bar on standard error.

    Raises:
        SpentError: If `max_cost` does not pay for the rest; everything answered is kept.
        ValueError: If a number makes no sense, or the folder holds another data set, router or block size.
        TypeError: If `make_router` makes something else, or an input cannot be read.
        ImportError: If pyarrow, or Ray where it is asked for, is not installed.

    Example:
        ```python
        routed = route_dataset(texts, make_router, "routed/", max_cost=20.0)
        routed = route_dataset(ray.data.read_parquet("texts/"), make_router, "routed/", input_column="text")
        routed.outputs(), routed.ledger().summary()
        ```
    """
    _check(block_size=block_size, attempts=attempts, max_concurrency=max_concurrency, workers=workers or 1)
    require("pyarrow", "parquet")
    on_ray = ray not in (None, False) or _is_ray(ds)
    first = checked(make_router())
    routed = Routed(output)
    with _alone(routed.path):
        routed.agree({"format": 1, "run": run, "block_size": block_size, "router": _router_hash(first)})
        limits = {"per_second": per_second, "max_cost": max_cost, "prices": prices}
        options = {
            "run": run,
            "attempts": attempts,
            "max_concurrency": max_concurrency,
            "keep_inputs": keep_inputs,
        }
        total = _length(ds)
        with progress_bar("routing", total, show=progress) as advance:
            if on_ray:
                from langchain_dsplus.dataset.cluster import Cluster

                answered: Any = Cluster(ray, workers=workers, restarts=restarts)
            else:
                answered = _Here(first)
            identity = identify(first.large, version=first.version).large
            desk = answered.desk(routed.path / JOURNAL, identity, limits)
            todo = _todo(routed, blocks_of(ds, input_column, block_size), advance)
            for place, rows, table in answered.route(todo, make_router, desk, options):
                routed.write(place, table)
                advance(rows)
    return routed


class _Here:
    """This process does the blocks, one after the other, with the router that is here."""

    def __init__(self, router: ConfidenceRouter) -> None:
        self.router = router

    @staticmethod
    def desk(path: Path, identity: str | None, limits: Mapping[str, Any]) -> Desk:
        return Desk(path, identity, **limits)

    def route(
        self, blocks: Iterator[Block], make_router: object, desk: Desk, options: Mapping[str, Any]
    ) -> Iterator[tuple[int, int, Any]]:
        worker: BlockRouter | None = None  # a run with nothing to do loads nothing
        for place, inputs in blocks:
            worker = worker or BlockRouter(lambda: self.router, desk, **options)
            yield place, len(inputs), worker.route(place, inputs)


def blocks_of(ds: Any, column: str | None, size: int) -> Iterator[Block]:
    """The data set in blocks.

    Raises:
        TypeError: If `ds` is a text, or nothing that can be iterated over.
        ValueError: If a row has no such column.
    """
    if isinstance(ds, (str, bytes, Mapping)) or not (_is_ray(ds) or isinstance(ds, Iterable)):
        raise TypeError(f"`ds` must be a Ray Dataset or an iterable of inputs, not {type(ds).__name__}")
    rows = iter(ds.iter_rows() if _is_ray(ds) else ds)
    place = 0
    while block := list(islice(rows, size)):
        if column is not None:
            try:
                block = [row[column] for row in block]
            except (KeyError, TypeError, IndexError):
                raise ValueError(f"`input_column`: a row of `ds` has no column {column!r}") from None
        yield place, block
        place += len(block)


def _todo(routed: Routed, blocks: Iterator[Block], advance: Callable[[int], None]) -> Iterator[Block]:
    """The blocks that are not done. Raises ValueError if a file answers other inputs than the block with its place."""
    for place, inputs in blocks:
        file = routed.file_of(place)
        if file.exists():
            said = routed.said_by(file)
            if said["digest"] != digest_of(map(hash_of, inputs)):
                raise ValueError(
                    f"{file} answers other inputs than `ds` has there: choose another folder, or the same order"
                )
            if not said["failed"]:
                advance(len(inputs))
                continue
        yield place, inputs


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep a second run out of the folder; the lock of one that was killed is gone with it.

    Raises:
        ValueError: If one is at work there.
    """
    from filelock import FileLock, Timeout

    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another run is at work in {path}: wait for it, or choose another folder") from None
    try:
        yield
    finally:
        lock.release()


def _router_hash(router: ConfidenceRouter) -> str:
    """What decides: the parts as a certificate names them, thresholds, mode."""
    certificate = router.certificate
    threshold = router.threshold if certificate is None else certificate.id
    return hash_of([router.about, threshold, router.mode, sorted(router.never_local), router.on_large_error])


def _is_ray(ds: Any) -> bool:
    return type(ds).__module__.partition(".")[0] == "ray" and hasattr(ds, "iter_rows")


def _length(ds: Any) -> int | None:
    if _is_ray(ds):
        return int(ds.count())
    return len(ds) if hasattr(ds, "__len__") else None


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a whole number, at least 1")
