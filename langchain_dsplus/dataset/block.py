"""One block of inputs through a router: what a worker does, here or on Ray."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_dsplus._inputs import hash_of
from langchain_dsplus.dataset.desk import AskOnce, SpentError, counter
from langchain_dsplus.dataset.folder import digest_of, encode_rows
from langchain_dsplus.routing.router import ConfidenceRouter


class Kept:
    """A recorder that keeps rows, and gives them on to the router's own."""

    def __init__(self, other: Any) -> None:
        self.other = other
        self.key = getattr(other, "key", None)
        self.rows: list[Mapping[str, Any]] = []

    def record(self, row: Any) -> None:
        """Keep a row."""
        self.rows.append(row)
        if self.other is not None:
            self.other.record(row)


class BlockRouter:
    """A router with its small model loaded, that takes blocks.

    Args:
        make_router: Makes the router.
        desk: Where the large model's replies are asked for.
        run: Names the run; decisions have ids that follow from it, the input and its place.
        attempts: How often the large model is asked about one input.
        max_concurrency: Calls of the large model at a time.
        keep_inputs: Whether the inputs are written down.

    Raises:
        TypeError: If `make_router` makes something else.
    """

    def __init__(
        self,
        make_router: Callable[[], ConfidenceRouter],
        desk: Any,
        *,
        run: str,
        attempts: int,
        max_concurrency: int,
        keep_inputs: bool,
    ) -> None:
        router = checked(make_router())
        self.large = AskOnce(router.large, desk, attempts=attempts)
        self.kept = Kept(router.recorder)
        router.large = self.large
        router.recorder = self.kept
        router.background = False  # audits and shadow answers belong to the block
        router.include_route = False
        router.warmup()
        self.router = router
        self.run, self.max_concurrency, self.keep_inputs = run, max_concurrency, keep_inputs

    def route(self, place: int, inputs: Sequence[Any]) -> Any:
        """Answer a block; the small model sees it as one batch.

        Returns:
            An Arrow table, see `encode_rows`. An input that failed has a row with its error and no output.

        Raises:
            SpentError: If the budget does not pay for the block; what was answered is at the desk.
        """
        heard = counter()
        self.large.hidden, self.large.counts, self.kept.rows = heard, [], []
        keys = [hash_of(value) for value in inputs]
        ids = [uuid.uuid5(uuid.NAMESPACE_OID, f"{self.run} {place + i} {key}") for i, key in enumerate(keys)]
        configs: Any = [{"run_id": name, "callbacks": [heard], "max_concurrency": self.max_concurrency} for name in ids]
        results = self.router.batch(list(inputs), configs, return_exceptions=True)
        spent = next((result for result in results if isinstance(result, SpentError)), None)
        if spent is not None:
            raise spent
        at = {str(name): i for i, name in enumerate(ids)}
        seen = {row["route_id"] for row in self.kept.rows if row["kind"] == "route"}
        rows = [(at[row["route_id"]], self._slim(row)) for row in self.kept.rows if row["route_id"] in at]
        bare = {"kind": "route", "router": self.router.get_name()}
        refused = [
            (i, {**bare, "route_id": name, "error": type(results[i]).__name__})
            for name, i in at.items()
            if name not in seen
        ]
        said = {
            "inputs": len(inputs),
            "digest": digest_of(keys),
            "failed": sum(isinstance(result, Exception) for result in results),
            "counts": [*heard.counts(), *self.large.counts],
        }
        return encode_rows(place, sorted([*rows, *refused], key=lambda pair: pair[0]), said)

    def _slim(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        return row if self.keep_inputs else {name: value for name, value in row.items() if name != "input"}


def checked(router: Any) -> ConfidenceRouter:
    """What `make_router` made. Raises TypeError if it is no router."""
    if not isinstance(router, ConfidenceRouter):
        raise TypeError(f"`make_router` must return a `ConfidenceRouter`, not {type(router).__name__}")
    return router
