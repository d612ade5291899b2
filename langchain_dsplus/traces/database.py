"""The trace store's database: engine, tables, migrations. SQLAlchemy is imported when the first row needs it."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from langchain_dsplus._imports import require

HEAD = "0002"
"""The newest step in `migrations/versions`."""

MIGRATIONS = Path(__file__).parent / "migrations"
TABLE = "dsplus_traces"
VERSION_TABLE = "dsplus_traces_version"
_PG_LOCK = 0x64735F7472616365
"""Held while tables are made: several processes may start at once."""
_MIGRATING = threading.Lock()
"""Alembic keeps its context in a global."""

COLUMNS = (
    "uid",
    "time_us",
    "kind",
    "route_id",
    "router",
    "model",
    "accepted",
    "reason",
    "certificate",
    "cost",
    "body",
)


def parse_url(url: str | Path) -> Any:
    """Return the SQLAlchemy URL of a store; a plain path is a SQLite file.

    Raises:
        ImportError: If SQLAlchemy, or for PostgreSQL psycopg 3, is not installed.
        ValueError: If it is neither a SQLite file nor PostgreSQL.
    """
    sa = require("sqlalchemy", "store")
    require("alembic", "store")
    if isinstance(url, Path) or "://" not in url:
        if not str(url):
            raise ValueError("`url` is empty: pass a path, 'sqlite:///traces.db', or 'postgresql://...'")
        return sa.URL.create("sqlite", database=str(url))
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ValueError(
            "`url` cannot be read: pass 'sqlite:///traces.db' or 'postgresql://user@host/database'"
        ) from None  # the text may hold a password
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if parsed.database in {None, "", ":memory:"} or str(parsed.database).startswith("file:"):
            raise ValueError(
                "`url` must name a SQLite file: several threads use the store, which a database in memory is not for"
            )
        return parsed
    if parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        require("psycopg", "postgres")
        return parsed.set(drivername="postgresql+psycopg")
    raise ValueError(
        "`url` must be of SQLite ('sqlite:///traces.db') or PostgreSQL ('postgresql://user@host/database')"
    )


class Database:
    """Opens connections, and makes the tables when the first one is opened.

    Args:
        url: As `parse_url` returns it.
        busy_seconds: How long a SQLite write waits for another process's, and a connection to PostgreSQL for an answer.
    """

    def __init__(self, url: Any, busy_seconds: float) -> None:
        self.url = url
        self.busy_seconds = busy_seconds
        self.sqlite = url.get_backend_name() == "sqlite"
        self._engine: Any = None
        self._ready = False
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Leave the connections to the process that opened them: this one is its fork."""
        self._engine = None
        self._ready = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def begin(self, *, write: bool) -> Iterator[Any]:
        """Open a connection and a transaction on it; commit at the end."""
        with self.connect() as connection, self.transaction(connection, write=write):
            yield connection

    @contextlib.contextmanager
    def transaction(self, connection: Any, *, write: bool) -> Iterator[None]:
        """One transaction on an open connection."""
        # A SQLite transaction that begins by reading cannot wait for its turn to write.
        connection.execution_options(dsplus_begin="BEGIN IMMEDIATE" if write else "BEGIN")
        with connection.begin():
            yield

    def connect(self) -> Any:
        """Open a connection to tables that are there."""
        if not self._ready:
            with self._lock:
                if not self._ready:
                    self._prepare()
                    self._ready = True
        return self._engine.connect()

    def shrink_log(self, connection: Any) -> None:
        """Empty SQLite's log, which still has what was deleted; where readers are at work, another time."""
        cursor = connection.connection.dbapi_connection.cursor()
        try:
            cursor.execute("PRAGMA busy_timeout=500")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            cursor.execute(f"PRAGMA busy_timeout={int(1000 * self.busy_seconds)}")
        finally:
            cursor.close()

    def _prepare(self) -> None:
        if self._engine is None:
            self._engine = self._make_engine()
        with self._engine.connect() as connection:
            with self.transaction(connection, write=False):
                found = self._version(connection)
            if found == HEAD:
                return
            with self.transaction(connection, write=True):
                if not self.sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_PG_LOCK})")
                migrate(connection)  # does nothing where another process was quicker

    @staticmethod
    def _version(connection: Any) -> str | None:
        sa = require("sqlalchemy", "store")
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        version = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608
        return None if version is None else str(version)

    def _make_engine(self) -> Any:
        sa = require("sqlalchemy", "store")
        # Texts of users must not stand in an error's message. No pool: the writer keeps its connection, others are
        # opened for a page, and a fork inherits nothing that it could use by mistake.
        options: dict[str, Any] = {"hide_parameters": True, "poolclass": sa.pool.NullPool}
        if not self.sqlite:
            # The query of the URL is stronger.
            defaults = {"connect_timeout": str(max(1, int(self.busy_seconds))), "application_name": "langchain-dsplus"}
            options["connect_args"] = {k: v for k, v in defaults.items() if k not in self.url.query}
            return sa.create_engine(self.url, **options)
        self._make_file()
        engine = sa.create_engine(self.url, connect_args={"timeout": self.busy_seconds}, **options)
        sa.event.listen(engine, "connect", self._on_connect)
        sa.event.listen(engine, "begin", _on_begin)
        return engine

    def _make_file(self) -> None:
        """The file is the owner's only, and so are the two that SQLite puts beside it."""
        path = Path(self.url.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    def _on_connect(self, connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        cursor = connection.cursor()
        end = time.monotonic() + self.busy_seconds
        try:
            # Deleted texts are overwritten, and a commit is on disk before it counts.
            cursor.execute("PRAGMA secure_delete=ON")
            cursor.execute("PRAGMA synchronous=FULL")
            while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                try:
                    cursor.execute("PRAGMA journal_mode=WAL").fetchone()
                except sqlite3.OperationalError:  # another process is at it: here SQLite does not wait by itself
                    if time.monotonic() > end:
                        raise
                time.sleep(0.01)
                if time.monotonic() > end:
                    break  # a file system without shared memory: slower, and as safe
        finally:
            cursor.close()


def _on_begin(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("dsplus_begin", "BEGIN"))


@functools.cache
def table() -> Any:
    """Return the table, for statements."""
    sa = require("sqlalchemy", "store")
    return sa.table(TABLE, *(sa.column(name) for name in ("id", *COLUMNS)))


def insert_statement(*, sqlite: bool) -> Any:
    """Return an INSERT that leaves a row alone which is there already, so that writing twice does no harm."""
    dialect = require(f"sqlalchemy.dialects.{'sqlite' if sqlite else 'postgresql'}", "store")
    return dialect.insert(table()).on_conflict_do_nothing(index_elements=["uid"])


def migrate(connection: Any, folder: Path | None = None) -> None:
    """Bring the tables to the newest version, in the connection's transaction.

    Raises:
        RuntimeError: If a newer version of this package made them.
    """
    command = require("alembic.command", "store")
    config = require("alembic.config", "store").Config()
    util = require("alembic.util", "store")
    config.set_main_option("script_location", str(folder or MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, version_table=VERSION_TABLE)
    with _MIGRATING:
        try:
            command.upgrade(config, "head")
        except util.CommandError:
            raise RuntimeError("the trace store was written by a newer langchain-dsplus: update this one") from None
