"""A recorder that keeps its rows in a database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import re
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, Unpack

from langchain_dsplus._imports import require
from langchain_dsplus._inputs import read_key
from langchain_dsplus._json import load_json
from langchain_dsplus._secrets import without_url_secrets
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.usage import paid_usage
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.cells import to_text
from langchain_dsplus.outcomes.gold import GoldOptions, GoldRules, read_labels
from langchain_dsplus.outcomes.uses import table_key
from langchain_dsplus.routing.background import drain_all
from langchain_dsplus.routing.rows import Row
from langchain_dsplus.traces.database import Database, insert_statement, parse_url, table
from langchain_dsplus.traces.logs import read_calls
from langchain_dsplus.traces.recorder import drop_texts, plain

logger = logging.getLogger(__name__)

_ALL: weakref.WeakSet[TraceStore] = weakref.WeakSet()
_BATCH = 500
_BATCH_BYTES = 4 << 20
_PAGE = 200
_EXIT_SECONDS = 10.0
_IDLE_SECONDS = 5.0
_GATHER_SECONDS = 0.05
"""How long the first row waits for others, so that a commit is of more than one."""
_RETRY_SECONDS = (0.1, 5.0)
_PRUNE_SECONDS = 3600.0
_LATE = 2000
"""Numbers behind the newest under which a row of a server's database may still turn up."""
_UID = re.compile(r"[\w.:+-]{1,40}", re.ASCII)
_NAME = 500
"""Characters of a name that are indexed."""


class TraceStore:
    """Keeps every decision, and what is learned about it later, in a database.

    A recorder: `ConfidenceRouter(recorder=TraceStore(...))`. `record` only copies the row into a queue; one thread
    writes. So a slow or broken database never slows or breaks an answer. The policy: a row that finds the queue full is
    dropped and counted (`dropped`); what waits is tried again, a little later each time, until it is written; a row
    that the database refuses for itself, or that `redact` fails on, is lost and counted (`errors`).

    A row counts as kept once `flush` returned True: from then on neither `kill -9` nor a power failure loses it. At
    exit, what waits is written (for up to 10 seconds). Threads, processes, and forks may share one database; the tables
    are made, and brought up to date, when the first connection is opened. SQLite runs in WAL mode: keep the file on a
    local disk. Nothing is connected before the first row, so a database that is down does not stop a start; `check`
    says what is wrong.

    Args:
        url: `sqlite:///traces.db`, a path, or `postgresql://user@host/database` (extra `postgres`, psycopg 3).
        texts: Whether inputs and outputs are kept. Without them the rows say what was decided, not about what.
        redact: Maps each row, a dict of plain values, before it is queued; None drops it, and where it raises nothing
            of the row is written. It runs where the answer is given: let it be quick.
        retention_days: Rows older than this are deleted, at the first write and every hour as long as the process
            uses the store. None keeps all. In SQLite deleted texts are overwritten.
        price: Fills `cost` of rows that carry token usage and no cost.
        queue_size: Rows that may wait.
        queue_bytes: Bytes that may wait.
        busy_seconds: How long a write to SQLite waits for another process's, and a connection to PostgreSQL for an
            answer.
        key: As in `JSONLRecorder`: by default that of the SQLite file's folder; a server's database needs one given,
            the same in every process, else inputs are not hashed.

    Attributes:
        written: Rows that this process has written.
        dropped: Rows that found the queue full, or still waited when the store was closed.
        errors: Rows that were lost since `redact` or the database refused them.
        failures: Attempts to write, connect or prune that failed; their rows were tried again.

    Raises:
        ImportError: If SQLAlchemy and Alembic (extra `store`), or psycopg for PostgreSQL, are not installed.
        ValueError: If an argument is out of range, or the URL is of another database.

    Example:
        ```python
        with TraceStore("sqlite:///traces.db", retention_days=90) as store:
            router = ConfidenceRouter(small=small, large=chain, mode="shadow", recorder=store)
            router.batch(inputs)
            router.drain()
            store.add_gold({"3f2a...": "refund"})
            outcomes = store.to_outcomes(about=router.about)
        ```
    """

    def __init__(
        self,
        url: str | Path = "sqlite:///dsplus_traces.db",
        *,
        texts: bool = True,
        redact: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None,
        retention_days: float | None = None,
        price: Price | None = None,
        queue_size: int = 10_000,
        queue_bytes: int = 64 << 20,
        busy_seconds: float = 30.0,
        key: str | bytes | None = None,
    ) -> None:
        if queue_size < 1 or queue_bytes < 1:
            raise ValueError("`queue_size` and `queue_bytes` must be at least 1")
        if retention_days is not None and not 0 < retention_days < 1e6:
            raise ValueError("`retention_days` must be a number of days above 0, or None")
        if not 0 < busy_seconds < 1e6:
            raise ValueError("`busy_seconds` must be above 0")
        self.texts = texts
        self.redact = redact
        self._key = None if key is None else read_key(key)
        self.retention_days = retention_days
        self.price = price
        self.queue_size = queue_size
        self.queue_bytes = queue_bytes
        self._database = Database(parse_url(url), busy_seconds)
        self._generation = 0
        self._told: set[str] = set()
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        """An empty queue without a writer: at the start, and in a fork, which has the object but not its thread."""
        self.written = self.dropped = self.errors = self.failures = 0
        self._changed = threading.Condition()
        self._queue: deque[dict[str, Any]] = deque()
        self._bytes = 0
        self._taken = self._settled = 0
        self._flushing = 0
        self._singly = 0
        self._pruned: float | None = None
        self._thread: threading.Thread | None = None
        self._generation += 1
        self._database.forget()

    def __repr__(self) -> str:
        return f"TraceStore({without_url_secrets(self._database.url.render_as_string())!r})"

    @property
    def key(self) -> bytes | None:
        """Under which inputs are hashed; None for a server's database without a `key`: processes must share it."""
        if self._key is None and self._database.sqlite:
            self._key = table_key(None, Path(str(self._database.url.database)).absolute().parent)
        return self._key

    # --- recording --------------------------------------------------------------------------------------------------

    def record(self, row: Row) -> None:
        """Queue a row. Never raises and never waits for the database."""
        try:
            packed = self._pack(dict(row))
        except Exception as error:  # noqa: BLE001 - the user's `redact`, or a row that is none
            with self._changed:
                self.errors += 1
            self._say("error", "a row was not recorded, since preparing it failed with %s", type(error).__name__)
            return
        if packed is None:
            return
        size = _size(packed)
        with self._changed:
            full = len(self._queue) >= self.queue_size or self._bytes + size > self.queue_bytes
            if full:
                self.dropped += 1
            else:
                self._queue.append(packed)
                self._bytes += size
                self._taken += 1
                self._start()
                if len(self._queue) == 1:
                    self._changed.notify_all()
        if full:
            self._say("dropped", "the queue of the trace store is full: rows are dropped, and counted in `dropped`")

    def _pack(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The columns of a row; None where it is not wanted."""
        body: dict[str, Any] = {"time": row.pop("time", None) or datetime.now(UTC).isoformat()}
        uid = row.pop("uid", None)
        if uid is None:
            uid = uuid.uuid4().hex
        elif not isinstance(uid, str) or not _UID.fullmatch(uid):  # the column takes no other; equal ones stay equal
            uid = hashlib.sha256(repr(uid).encode("utf-8", "backslashreplace")).hexdigest()[:32]
        body.update((key, plain(value)) for key, value in row.items())
        usage = paid_usage(body.get("usage"))
        # Where a call reported nothing, or counts make no sense, the cost is unknown.
        if self.price is not None and usage is not None and "cost" not in body and not body.get("calls_without_usage"):
            body["cost"] = self.price.cost(usage)
        if not self.texts:
            drop_texts(body)
        if self.redact is not None:
            redacted = self.redact(body)
            if redacted is None:
                return None
            body = plain(redacted)
        route = body.get("route")
        decided: Mapping[str, Any] = route if isinstance(route, Mapping) and body["kind"] == "route" else {}
        cost = body.get("cost")
        accepted = decided.get("accepted")
        return {
            "uid": uid,
            "time_us": _micros(_instant(str(body["time"]), "time")),
            "kind": _name(body["kind"], required=True),
            "route_id": _name(body["route_id"], required=True),
            "router": _name(body.get("router")),
            "model": _name(decided.get("model", body.get("model"))),
            "accepted": accepted if isinstance(accepted, bool) else None,
            "reason": _name(decided.get("reason")),
            "certificate": _name(decided.get("certificate")),
            "cost": float(cost) if isinstance(cost, (int, float)) else None,
            "body": _to_json(body),
        }

    def _say(self, kind: str, message: str, *values: object) -> None:
        """Log the first of its kind; later ones are only counted."""
        if kind not in self._told:
            self._told.add(kind)
            logger.warning("%s; later ones are only counted", message % values)

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return len(self._queue)

    # --- the writer -------------------------------------------------------------------------------------------------

    def _start(self) -> bool:
        """Start the writer where there is none; the lock is held."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, args=(self._generation,), name="dsplus-traces", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: who flushes writes
                return False
            self._thread = thread
        return True

    def _work(self, generation: int, *, inline: bool = False) -> None:
        """Write what waits, until nothing came for a while; `inline` until nothing waits or writing fails."""
        connection: Any = None
        delay = _RETRY_SECONDS[0]
        try:
            while True:
                batch = self._next(generation, inline=inline)
                if self._generation != generation or (batch is None):
                    return
                try:
                    if connection is None:
                        connection = self._database.connect()
                    if batch:
                        self._insert(connection, batch)
                        self._settle(generation, batch, written=True)
                        batch = []
                    if self._prune_due():
                        self._prune(connection)
                except Exception as error:  # noqa: BLE001 - a broken database is no reason to end
                    refused = self._judge(generation, error, [] if connection is None else batch)
                    _shut(connection)
                    connection = None
                    if refused:
                        continue
                    if inline:
                        return
                    self._wait(generation, delay)
                    delay = min(2 * delay, _RETRY_SECONDS[1])
                else:
                    delay = _RETRY_SECONDS[0]
        finally:
            _shut(connection)

    def _next(self, generation: int, *, inline: bool) -> list[dict[str, Any]] | None:
        """The next rows, which stay in the queue until they are settled; [] where it is time to prune, None to end."""
        with self._changed:
            if not inline:
                end = time.monotonic() + _IDLE_SECONDS
                while not self._queue and self._generation == generation and not self._prune_due():
                    left = end - time.monotonic()
                    if left <= 0:
                        if self.retention_days is None:
                            self._thread = None  # a row queued after this finds no thread, and starts one
                            return None
                        end = time.monotonic() + _IDLE_SECONDS
                    else:
                        self._changed.wait(left)
                if self._queue and len(self._queue) < _BATCH:
                    self._changed.wait_for(lambda: self._flushing or self._generation != generation, _GATHER_SECONDS)
            if self._generation != generation:
                return None
            if inline and not self._queue:
                return None
            if self._singly:
                self._singly -= 1
                return [self._queue[0]]
            batch: list[dict[str, Any]] = []
            size = 0
            for packed in itertools.islice(self._queue, _BATCH):
                size += _size(packed)
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(packed)
            return batch

    def _insert(self, connection: Any, rows: list[dict[str, Any]], *, count: bool = False) -> int:
        """Write rows in one transaction; with `count` say how many were new."""
        sa = require("sqlalchemy", "store")
        there = 0
        with self._database.transaction(connection, write=True):
            if count:
                uid = table().c.uid
                known = sa.select(sa.func.count()).select_from(table()).where(uid.in_([row["uid"] for row in rows]))
                there = int(connection.execute(known).scalar())
            connection.execute(insert_statement(sqlite=self._database.sqlite), rows)
        return len(rows) - there

    def _judge(self, generation: int, error: Exception, batch: list[dict[str, Any]]) -> bool:
        """Whether the rows are at fault, not the database: then they are tried one by one, and a lone one is lost."""
        errors = require("sqlalchemy", "store").exc
        # What Python's side cannot turn into the database's types comes as an error of Python, in a wrapping or not.
        data: tuple[type[Exception], ...] = (errors.DataError, errors.IntegrityError)
        data += (ValueError, TypeError, OverflowError, RecursionError)
        wrapped = isinstance(error, errors.StatementError) and isinstance(error.orig, data)
        if not batch or not (wrapped or isinstance(error, data)):
            with self._changed:
                self.failures += 1
            self._say("failure", "the trace store failed with %s: it is tried again", _kind(error))
            return False
        if len(batch) == 1:
            self._say("error", "the database refused a row with %s", _kind(error))
            self._settle(generation, batch, written=False)
        else:
            with self._changed:
                self._singly = len(batch)
        return True

    def _settle(self, generation: int, batch: list[dict[str, Any]], *, written: bool) -> None:
        with self._changed:
            if self._generation != generation:  # given up in the meantime, and counted so
                return
            for packed in batch:
                self._queue.popleft()
                self._bytes -= _size(packed)
            self._settled += len(batch)
            if written:
                self.written += len(batch)
            else:
                self.errors += len(batch)
            self._changed.notify_all()

    def _wait(self, generation: int, delay: float) -> None:
        """Before another attempt; shorter where somebody waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._generation != generation, _RETRY_SECONDS[0])
            self._changed.wait_for(
                lambda: self._flushing or self._generation != generation, max(0.0, delay - _RETRY_SECONDS[0])
            )

    def flush(self, timeout: float | None = 10.0) -> bool:
        """Wait until what is queued by now is written.

        In async code: `await asyncio.to_thread(store.flush)`.

        Args:
            timeout: Seconds; None waits for as long as it takes.

        Returns:
            False where the time ran out first. True says that nothing of it waits any more; what was lost is counted.
        """
        with self._changed:
            target, generation = self._taken, self._generation
            if self._settled >= target:
                return True
            self._flushing += 1
            try:
                if self._start():
                    self._changed.notify_all()
                    return self._changed.wait_for(
                        lambda: self._settled >= target or self._generation != generation, timeout
                    ) and (self._settled >= target)
            finally:
                self._flushing -= 1
        self._work(generation, inline=True)
        return self._settled >= target

    def close(self, timeout: float | None = 10.0) -> None:
        """Write what waits, and end the writer. What is not written in time is dropped and counted.

        A row recorded later opens the store again.
        """
        self.flush(timeout)
        with self._changed:
            thread, self._thread = self._thread, None
            left = len(self._queue)
            self.dropped += left
            self._queue.clear()
            self._bytes = 0
            self._settled += left
            self._singly = 0
            self._pruned = None
            self._generation += 1
            self._changed.notify_all()
        if left:
            logger.warning("the trace store was closed before %d rows were written", left)
        if thread is not None and thread is not threading.current_thread():
            thread.join(1.0)  # one that hangs in the database is left behind: it writes nothing more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Open the database, and make or update its tables now; raises what is wrong."""
        with self._database.begin(write=False) as connection:
            connection.execute(require("sqlalchemy", "store").select(table().c.id).limit(1))

    # --- what is learned later --------------------------------------------------------------------------------------

    def add_gold(
        self,
        route_id: str | Mapping[str, str | None],
        gold: str | None = None,
        *,
        labels: Sequence[str] | None = None,
        **gold_rules: Unpack[GoldOptions],
    ) -> int:
        """Write down what was true, now or much later; the last word counts.

        It is written before it returns, and raises where that fails.

        Args:
            route_id: The decision's id, or a mapping of ids to gold.
            gold: The truth; None takes an earlier one back. Not with a mapping.
            labels: All labels: then gold outside them is an error, and nothing is written. Without them gold is kept as
                it is; whoever makes a table of it (`outcomes_from_traces`) looks at it there.
            **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

        Returns:
            Rows that were written.

        Raises:
            ValueError: If an id is empty, or a gold is neither a text nor a whole number, or none of `labels`.

        Example:
            ```python
            store.add_gold(route["route_id"], "refund")
            ```
        """
        if isinstance(route_id, Mapping):
            if gold is not None:
                raise ValueError("`gold` goes with one `route_id`, not with a mapping")
            told = dict(route_id)
        else:
            told = {route_id: gold}
        rows = []
        for name, value in told.items():
            if not isinstance(name, str) or not name:
                raise ValueError("`route_id` must be a text that is not empty")
            try:
                text = None if value is None else to_text(value)
            except TypeError:
                raise ValueError(f"`gold` must be a text, a whole number or None, not {type(value).__name__}") from None
            rows.append({"kind": "gold", "route_id": name, "gold": text})
        if labels is not None:
            rules = GoldRules.of(**gold_rules)
            truths = read_labels(
                [row["gold"] for row in rows], labels, rules, row=lambda place: f"entry {place + 1} of the gold"
            )
            rows = [{**row, "gold": truth} for row, truth in zip(rows, truths, strict=True)]
        return self._write_now(rows)

    def import_calls(self, sources: str | Path | Sequence[str | Path], **options: Any) -> int:
        """Take past LLM calls over from files; importing a file twice adds nothing.

        They become rows of kind `call`: `outcomes_from_calls(small, store.rows(kind="call"))`. `redact`, `texts`, and
        retention, by the time of the call, hold for them too.

        Args:
            sources: Whatever `logs.Log` reads: pairs, LangSmith runs, OpenAI logs, CSV, Parquet, LangChain's cache.
            **options: As in `logs.read_calls`.

        Returns:
            Rows that were new.

        Raises:
            ValueError: If nothing in them can be used.

        Example:
            ```python
            store.import_calls("runs.jsonl", run_name="ChatOpenAI")
            ```
        """
        return self._write_now(read_calls(sources, **options))

    def _write_now(self, rows: Iterable[Mapping[str, Any]]) -> int:
        packed = (found for row in rows if (found := self._pack(dict(row))) is not None)
        new = 0
        with self._database.connect() as connection:
            while chunk := list(itertools.islice(packed, _BATCH)):
                new += self._insert(connection, chunk, count=True)
        with self._changed:
            self.written += new
        return new

    # --- reading ----------------------------------------------------------------------------------------------------

    def rows(
        self,
        *,
        kind: str | Iterable[str] | None = None,
        router: str | None = None,
        route_id: str | Iterable[str] | None = None,
        since: datetime | timedelta | str | None = None,
        until: datetime | timedelta | str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield rows in the order in which they were written, a page at a time; what this process has queued included.

        Args:
            kind: `route`, `shadow`, `audit`, `gold`, `call`, or several of them.
            router: The router's name. Rows of none, such as gold, are always there.
            route_id: Of one decision, or of several (at most some thousands).
            since: Only rows that are not older. A time with its zone, an ISO text, or an age (`timedelta(days=7)`).
            until: Only rows that are older.

        Returns:
            Dicts as `JSONLRecorder.read` gives them: for `Outcomes.from_traces`.

        Raises:
            ValueError: If a time has no zone or cannot be read.
        """
        columns = table().c
        wanted = _kind_and_time(kind, since, until)
        if router is not None:
            wanted.append((columns.router == _name(router)) | columns.router.is_(None))
        if route_id is not None:
            names = [route_id] if isinstance(route_id, str) else route_id
            wanted.append(columns.route_id.in_([_name(name) for name in names]))
        return (load_json(body) for _, body in self._read(wanted))

    def follow(
        self, *, kind: str | Iterable[str] | None = None, since: datetime | timedelta | str | None = None
    ) -> Follower:
        """Read the store again and again, each row once.

        Args:
            kind: As in `rows`.
            since: As in `rows`.

        Example:
            ```python
            news = store.follow(kind="route")
            print(len(list(news.rows())), "rows so far;", len(list(news.rows())), "since then")
            ```
        """
        wanted = _kind_and_time(kind, since, None)
        return Follower(functools.partial(self._read, wanted), 0 if self._database.sqlite else _LATE)

    def _read(self, wanted: list[Any], done: int = 0) -> Iterator[tuple[int, str]]:
        """Numbers and bodies of rows behind the number `done`."""
        self.flush()
        sa = require("sqlalchemy", "store")
        columns = table().c
        with self._database.begin(write=False) as connection:
            last = connection.execute(sa.select(sa.func.max(columns.id))).scalar() or 0
        while True:
            # A page is a transaction of its own: whoever reads slowly holds nothing that others wait for.
            page = (
                sa.select(columns.id, columns.body)
                .where(columns.id > done, columns.id <= last, *wanted)
                .order_by(columns.id)
                .limit(_PAGE)
            )
            with self._database.begin(write=False) as connection:
                found = connection.execute(page).all()
            yield from found
            if len(found) < _PAGE:
                return
            done = found[-1][0]

    def to_outcomes(
        self,
        *,
        router: str | None = None,
        since: datetime | timedelta | str | None = None,
        until: datetime | timedelta | str | None = None,
        **options: Any,
    ) -> Outcomes:
        """Return the decisions as outcomes: `Outcomes.from_traces(store.rows(...), ...)`.

        Args:
            router: The router's name, where the store holds several.
            since: As in `rows`. Gold is taken whenever it came.
            until: As in `rows`.
            **options: As in `Outcomes.from_traces`: `about`, `small`, `to_label`, `group_key`, `live`.
        """
        decisions = self.rows(kind=("route", "shadow", "audit"), router=router, since=since, until=until)
        return Outcomes.from_traces(itertools.chain(decisions, self.rows(kind="gold")), router=router, **options)

    # --- forgetting -------------------------------------------------------------------------------------------------

    def prune(self, retention_days: float | None = None) -> int:
        """Delete rows older than so many days, by default `retention_days`.

        Returns:
            Rows that were deleted.

        Raises:
            ValueError: If neither is given.
        """
        days = self.retention_days if retention_days is None else retention_days
        if days is None or not days >= 0:
            raise ValueError("`retention_days` must be a number of days, here or where the store is made")
        with self._database.connect() as connection:
            return self._prune(connection, days)

    def _prune_due(self) -> bool:
        return self.retention_days is not None and (
            self._pruned is None or time.monotonic() - self._pruned >= _PRUNE_SECONDS
        )

    def _prune(self, connection: Any, days: float | None = None) -> int:
        sa = require("sqlalchemy", "store")
        columns = table().c
        days = self.retention_days if days is None else days
        assert days is not None
        limit = _micros(datetime.now(UTC) - timedelta(days=days))
        gone = 0
        while True:  # in small steps, so that nobody waits long for their turn
            old = sa.select(columns.id).where(columns.time_us < limit).order_by(columns.time_us).limit(_BATCH)
            with self._database.transaction(connection, write=True):
                count = int(connection.execute(sa.delete(table()).where(columns.id.in_(old))).rowcount)
            gone += count
            if count < _BATCH:
                break
        if gone and self._database.sqlite:
            self._database.shrink_log(connection)
        self._pruned = time.monotonic()
        return gone


class Follower:
    """Rows that came since the last look; see `TraceStore.follow`.

    A server numbers rows before others may see them, and several processes write: rows with a number among the last
    few thousand are looked for again.
    """

    def __init__(self, read: Callable[[int], Iterator[tuple[int, str]]], late: int) -> None:
        self._read, self._late = read, late
        self._done = 0
        self._seen: set[int] = set()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield them in the order in which they were written; one that is yielded counts as seen."""
        for number, body in self._read(max(0, self._done - self._late)):
            if number not in self._seen:
                self._done = max(self._done, number)
                if self._late:
                    self._seen.add(number)
                yield load_json(body)
        self._seen = {number for number in self._seen if number > self._done - self._late}


def _kind_and_time(
    kind: str | Iterable[str] | None,
    since: datetime | timedelta | str | None,
    until: datetime | timedelta | str | None,
) -> list[Any]:
    """Conditions of a statement."""
    columns = table().c
    wanted = []
    if kind is not None:
        wanted.append(columns.kind.in_([kind] if isinstance(kind, str) else list(kind)))
    if since is not None:
        wanted.append(columns.time_us >= _micros(_instant(since, "since")))
    if until is not None:
        wanted.append(columns.time_us < _micros(_instant(until, "until")))
    return wanted


def _shut(connection: Any) -> None:
    if connection is not None:
        try:
            connection.close()
        except Exception:  # noqa: BLE001 - it is broken already
            connection.invalidate()


def _kind(error: Exception) -> str:
    """The database's own name for an error; its text may hold a row."""
    return type(getattr(error, "orig", None) or error).__name__


def _size(packed: Mapping[str, Any]) -> int:
    return len(packed["body"])


def _to_json(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half a character: only an escape can carry it
        return json.dumps(body, allow_nan=False, separators=(",", ":"))
    return text


def _name(value: Any, *, required: bool = False) -> str | None:
    """A text for an indexed column; the row's body has it as it is."""
    if not isinstance(value, str):
        if required:
            raise TypeError("a row needs `kind` and `route_id`, both texts")
        return None
    return value[:_NAME].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _instant(value: datetime | timedelta | str, field: str) -> datetime:
    if isinstance(value, timedelta):
        return datetime.now(UTC) - value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"`{field}` is no ISO time") from None
    if value.tzinfo is None:
        raise ValueError(f"`{field}` has no time zone: datetime.now(timezone.utc), or '2026-01-31T12:00:00+00:00'")
    return value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(value: datetime) -> int:
    return (value - _EPOCH) // timedelta(microseconds=1)


# --- forks and the end ----------------------------------------------------------------------------------------------


def _after_fork() -> None:
    for store in list(_ALL):
        store._reset()  # noqa: SLF001


def _close_all() -> None:
    if any(store._taken for store in list(_ALL)):  # noqa: SLF001
        drain_all()  # background answers still bring rows
    end = time.monotonic() + _EXIT_SECONDS
    for store in list(_ALL):
        if store.pending or store._thread is not None:  # noqa: SLF001
            store.close(max(0.1, end - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
# A child of `multiprocessing` runs the hook of `threading` only; rows of other exit hooks need the later one.
with contextlib.suppress(AttributeError, RuntimeError):
    threading._register_atexit(_close_all)  # type: ignore[attr-defined]  # noqa: SLF001
atexit.register(_close_all)
