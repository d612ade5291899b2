"""State that processes and hosts share: named values in the trace store's database, changed by one at a time."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus.traces.database import Database, parse_url

logger = logging.getLogger(__name__)

TABLE = "dsplus_state"
_FOLLOW_SECONDS = 2.0
"""Between two looks for what others have changed."""
_ABANDONED = 10
"""Waits for a lock after which the server ends a change that its host no longer speaks of."""


class SharedStateError(RuntimeError):
    """The database of a shared state cannot be reached, or another one holds the state for too long."""


@dataclass
class Held:
    """A value that nobody else changes now; what it is at the end is written.

    Attributes:
        value: Plain JSON; None where there is none yet.
    """

    value: Any


class SharedState:
    """One named JSON value in a database.

    Args:
        url: As of `TraceStore`, PostgreSQL or a SQLite file; what follows a `#` tells it from others of its kind:
            `postgresql://user@host/database#support`.
        kind: What it is the state of.
        busy_seconds: How long a change waits for another one, and a connection for an answer.
        rest: Seconds after a failure in which nothing is tried again, so that a database that is down delays one
            answer and not each.

    Raises:
        ImportError: As `TraceStore`.
        ValueError: As `TraceStore`.

    Example:
        ```python
        state = SharedState("postgresql://user@host/database#support", "counter")
        with state.changing() as held:
            held.value = (held.value or 0) + 1
        ```
    """

    def __init__(self, url: str, kind: str, *, busy_seconds: float = 5.0, rest: float = 0.0) -> None:
        address, _, own = url.partition("#")
        self.name = f"{kind}:{own}"[:200]
        self.busy_seconds = busy_seconds
        self.rest = rest
        self._database = Database(parse_url(address), busy_seconds)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Without a connection: at the start, and in a fork, whose connection is its parent's."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._connection: Any = None
        self._serial = -1
        self._tried_at = self._looked_at = float("-inf")
        self._database.forget()

    def __repr__(self) -> str:
        return f"SharedState({self.name!r})"

    @contextlib.contextmanager
    def changing(self) -> Iterator[Held]:
        """Hold the value alone, here and everywhere; where anything is raised, it stays as it was.

        Raises:
            SharedStateError: If it cannot be had, or what it became cannot be written.
        """
        columns = _table().c
        mine = columns.name == self.name
        with self._begin(write=True) as connection:
            wanted = require("sqlalchemy", "store").select(columns.serial, columns.body).where(mine).with_for_update()
            found = connection.execute(wanted).first()
            if found is None:  # a row of its own, which another one may make at the same time
                connection.execute(_first(self._database.sqlite), {"name": self.name, "serial": 0, "body": "null"})
                found = connection.execute(wanted).first()
            serial, body = found
            held = Held(load_json(body))
            yield held
            after = json.dumps(held.value, ensure_ascii=True, allow_nan=False)
            if after != body:
                serial += 1
                connection.execute(_table().update().where(mine).values(serial=serial, body=after))
        self._serial = serial

    def read(self) -> Any:
        """The value as it is now; None where there is none.

        Raises:
            SharedStateError: If the database cannot be reached.
        """
        columns = _table().c
        wanted = require("sqlalchemy", "store").select(columns.serial, columns.body).where(columns.name == self.name)
        with self._begin(write=False) as connection:
            found = connection.execute(wanted).first()
        self._serial, body = (-1, "null") if found is None else found
        return load_json(body)

    def follow(self, changed: Callable[[Any], None]) -> None:
        """Call `changed` with the value, soon and in another thread, where others changed it; looks every 2 seconds."""
        self._after_fork()
        if time.monotonic() - self._looked_at >= _FOLLOW_SECONDS:
            self._looked_at = time.monotonic()
            threading.Thread(target=self._look, args=(changed,), name="dsplus-follow", daemon=True).start()

    def _look(self, changed: Callable[[Any], None]) -> None:
        before = self._serial
        try:
            value = self.read()
            if self._serial != before:
                changed(value)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; what holds goes on to hold
            logger.warning("the shared state could not be followed: %s", type(error).__name__)

    @contextlib.contextmanager
    def _begin(self, *, write: bool) -> Iterator[Any]:
        """A transaction on the connection that is kept; SQLite's are opened each time, as threads may not share one."""
        self._after_fork()
        errors = require("sqlalchemy", "store").exc
        with self._lock:
            if time.monotonic() - self._tried_at < self.rest:
                raise SharedStateError("the database of the shared state was out of reach a moment ago")
            try:
                connection = self._connection = self._connection or self._open()
                with self._database.transaction(connection, write=write):
                    yield connection
                if self._database.sqlite:
                    self._drop()
            except BaseException as error:
                self._drop()
                if not isinstance(error, errors.SQLAlchemyError):
                    raise
                self._tried_at = time.monotonic()
                kind = type(getattr(error, "orig", None) or error).__name__
                raise SharedStateError(
                    f"the shared state {self.name!r} cannot be reached, or another process holds it ({kind})"
                ) from None

    def _open(self) -> Any:
        connection = self._database.connect()
        if not self._database.sqlite:
            wait = int(1000 * self.busy_seconds)
            connection.exec_driver_sql(f"SET lock_timeout = {wait}")
            connection.exec_driver_sql(f"SET idle_in_transaction_session_timeout = {_ABANDONED * wait}")
            connection.commit()
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:  # noqa: BLE001 - it is broken already
                connection.invalidate()

    def _after_fork(self) -> None:
        if os.getpid() != self._process:
            if self._connection is not None:
                self._connection.detach()  # its parent's: not to be closed here
            self._begin_anew()


def shared_state(path: Any, kind: str, **options: Any) -> SharedState | None:
    """The state behind a URL; None where `path` is that of a file, or there is none."""
    return SharedState(path, kind, **options) if isinstance(path, str) and "://" in path else None


@functools.cache
def _table() -> Any:
    sa = require("sqlalchemy", "store")
    return sa.table(TABLE, *(sa.column(name) for name in ("name", "serial", "body")))


@functools.cache
def _first(sqlite: bool) -> Any:
    dialect = require(f"sqlalchemy.dialects.{'sqlite' if sqlite else 'postgresql'}", "store")
    return dialect.insert(_table()).on_conflict_do_nothing(index_elements=["name"])
