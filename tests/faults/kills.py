"""SIGKILL, a full disk and other trouble over everything that writes: nothing acknowledged is lost, nothing unreadable.

`python -m tests.faults.kills WRITER[,WRITER...] KILLS SEED FOLDER` kills each writer that many times, each time at a
random moment of its work, puts it through each of `TROUBLES`, and prints for each a line `{"writer": ..., "kills": ...,
"lost": ..., "twice": ..., "troubles": ...}`, or `{"writer": ..., "error": ...}`. The process imports everything once
and forks: a writer and a kill cost the work, not the start.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import itertools
import json
import os
import random
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SLOTS = 4
"""Calls of a large model that may be in flight."""


@dataclass
class Place:
    """Where a writer writes."""

    folder: Path
    url: str = ""
    poke: Callable[[], None] = lambda: None
    """Says that the work has begun, where nothing is acknowledged before it ends."""
    memo: dict[str, int] = field(default_factory=dict)
    back: float = 0.0
    """Seconds that the clock is set back."""
    server: Any = None
    """The PostgreSQL behind `url`."""
    inputs: int = 4000
    rounds: int = 10**6
    heard: list[str] | None = None
    """What a large model was asked, where it is counted in this process; the trouble begins after some of it."""
    at: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return time.time() - self.back

    def ask(self, name: str) -> None:
        """Note that a large model is asked, as its provider would."""
        if self.heard is not None:
            self.heard.append(name)
            self.at()
            return
        with (self.folder / "asked").open("ab", buffering=0) as file:
            file.write(f"{name}\n".encode())
        self.poke()
        time.sleep(0.002)

    def asked_twice(self) -> int:
        file = self.folder / "asked"
        asked = file.read_text().split() if file.exists() else []
        return len(asked) - len(set(asked))


@dataclass(frozen=True)
class Writer:
    """Something that writes.

    Attributes:
        open: Makes it.
        write: Does the n-th write; whether it is acknowledged.
        kept: How many writes are there, or which; raises where something cannot be read.
        pause: Seconds between the first acknowledgement and the latest kill.
        asks: Whether a large model is asked, which may not be asked twice beyond the calls in flight.
        local: Whether it writes into its folder.
        alone: Whether it says that one process at a time may write.
        slow: Whether a write takes long: with one kill, a sample of the troubles does.
    """

    open: Callable[[Place], Any]
    write: Callable[[Any, int], bool]
    kept: Callable[[Place], int | set[int]]
    pause: float = 0.05
    asks: bool = False
    local: bool = True
    alone: bool = False
    slow: bool = False


# --- recorders --------------------------------------------------------------------------------------------------------


def _row(number: int) -> dict[str, Any]:
    return {"kind": "route", "route_id": str(number), "router": "r", "input": "x" * 300}


def _lines(place: Place) -> Any:
    from langchain_dsplus import JSONLRecorder

    return JSONLRecorder(place.folder / "rows.jsonl")


def _record(recorder: Any, number: int) -> bool:
    recorder.record(_row(number))
    return True


def _lines_kept(place: Place) -> set[int]:
    file = place.folder / "rows.jsonl"
    return {int(entry["route_id"]) for entry in _lines(place).read(file)} if file.exists() else set()


def _store(place: Place) -> Any:
    from langchain_dsplus import TraceStore

    return TraceStore(place.url or place.folder / "traces.db", busy_seconds=0.5)


def _store_row(store: Any, number: int) -> bool:
    store.record(_row(number))
    return bool(store.flush(2.0))


def _store_kept(place: Place) -> set[int]:
    with _store(place) as store:
        found = {int(entry["route_id"]) for entry in store.rows()}
    if not place.url:
        with sqlite3.connect(place.folder / "traces.db") as connection:
            (said,) = connection.execute("PRAGMA quick_check").fetchone()
        assert said == "ok", said
    return found


# --- counters ---------------------------------------------------------------------------------------------------------


def _shared(place: Place) -> str:
    return place.url or f"sqlite:///{place.folder / 'state.db'}"


def _pacer(where: Callable[[Place], Any]) -> dict[str, Any]:
    def made(place: Place) -> Any:
        from langchain_dsplus.monitoring import BudgetPacer

        return BudgetPacer(per_day=1e9, path=where(place), clock=place.clock)

    def count(pacer: Any, _: int) -> bool:
        pacer.count(escalated=True)
        if pacer._shared is not None:
            pacer._shared.rest = 0.0
        return not pacer._unsaved

    return {"open": made, "write": count, "kept": lambda place: int(made(place).spent_day)}


def _monitor(where: Callable[[Place], Any]) -> dict[str, Any]:
    def made(place: Place) -> Any:
        from langchain_dsplus import AuditMonitor

        return AuditMonitor(max_disagreement=0.5, path=where(place))

    def count(monitor: Any, number: int) -> bool:
        monitor.observe(agree=True, route_id=str(number), confidences=[0.9])
        if monitor._shared is not None:
            monitor._shared.rest = 0.0
        return not monitor._unwritten

    def kept(place: Place) -> int:
        monitor = made(place)
        monitor._change(None)
        return int(monitor.audits)

    return {"open": made, "write": count, "kept": kept}


# --- models -----------------------------------------------------------------------------------------------------------


def _classifier() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    rows = [(f"{'x' if n % 2 else 'y'} {n}", "a" if n % 2 else "b") for n in range(40)]
    made = make_pipeline(TfidfVectorizer(token_pattern=r"\S+"), LogisticRegression())
    return SklearnClassifier(made.fit(*map(list, zip(*rows, strict=True))))


def _registry(where: Callable[[Place], str | None]) -> dict[str, Any]:
    def made(place: Place) -> Any:
        from langchain_dsplus import ModelRegistry

        registry = ModelRegistry(place.folder / "registry", state=where(place), timeout=1.0)
        if not registry.exists:
            with contextlib.suppress(ValueError):  # another process was quicker
                registry.start(_classifier(), trained_on=[])
        return registry

    def step(registry: Any, _: int) -> bool:
        """Add, gate, promote, roll back, whichever is next; another process may be quicker."""
        before = registry.serial
        try:
            status = registry.status()
            last = status.versions[-1]
            if status.live.number > 1:
                registry.rollback("again")
            elif last.state != "candidate":
                registry.add(_classifier(), trained_on=[(f"x {registry.serial}", "a")])
            elif not registry.gates(last.number):
                once = f"{registry.serial}-{os.getpid()}"  # a gate's rows serve once, whoever was killed over them
                rows = [(f"{'x' if n % 2 else 'y'} new{once}-{n}", "a" if n % 2 else "b") for n in range(200)]
                gate = registry.gate(last.number, rows, max_loss="9 points", max_calibration_error=1.0)
                assert gate.report.promoted, gate.report
            else:
                registry.promote(last.number)
        except ValueError as error:
            busy = ("was", "is live", "try again", "holds it")
            quicker = registry.serial != before  # what was read is no longer so
            return not quicker and not any(word in str(error) for word in busy) and _raise(error)
        return True

    def kept(place: Place) -> int:
        registry = made(place)
        registry.status()
        registry.load()
        return int(registry.serial)

    return {"open": made, "write": step, "kept": kept, "pause": 0.3}


def _raise(error: Exception) -> bool:
    raise error


def _shunt(place: Place) -> Any:
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import DataShunt

    chain = RunnableLambda(lambda text: "a" if text.startswith("x") else "b").with_types(output_type=str)
    shunt = DataShunt(
        chain, ["a", "b"], place.folder / "shunt", "5 points", version="1", background=False, follow=0.0,
        small=_classifier(), key="k" * 32,
    )  # fmt: skip
    if not list(shunt.store.rows()):
        shunt.batch([f"{'x' if n % 2 else 'y'} {n}" for n in range(300)])
    return shunt


def _shunt_works(shunt: Any, number: int) -> bool:
    from langchain_dsplus.shunt.folder import ShuntError

    shunt.batch([f"{'x' if n % 2 else 'y'} {n} {number} {time.time_ns()}" for n in range(30)])
    shunt.store.flush()
    try:
        shunt.work()
    except ShuntError as error:
        return "another process is at work" not in str(error) and _raise(error)
    return True


def _shunt_kept(place: Place) -> int:
    """What was spent and what was learned never goes back."""
    from langchain_dsplus.shunt.folder import ShuntFolder

    uses = len(ShuntFolder(place.folder / "shunt").life()["uses"])
    _shunt(place).status()
    gone, place.memo["uses"] = uses < place.memo.get("uses", 0), uses
    return 0 if gone else 10**9


# --- large models asked -----------------------------------------------------------------------------------------------


def _collects(place: Place, _: int) -> bool:
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import FakeSmallModel, collect_outcomes

    def answer(value: Any) -> str:
        place.ask(value["text"])
        return "a"

    small = FakeSmallModel(default={"a": 1.0}, input_key="text")
    data = [{"id": str(n), "input": {"text": str(n)}} for n in range(place.inputs)]
    collect_outcomes(
        small, RunnableLambda(answer), data, path=place.folder / "answers.jsonl", version="1", progress=False,
        max_concurrency=SLOTS,
    )  # fmt: skip
    return False


def _journal_kept(place: Place) -> set[int]:
    from langchain_dsplus._journal import Journal

    assert None not in Journal(place.folder / "answers.jsonl").entries, "a line cannot be read"
    return set()


def _distils(place: Place, _: int) -> bool:
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import TwoStageConfidenceDistillation

    def answer(text: str) -> str:
        place.ask(text.replace(" ", "_"))
        return "a" if int(text.split()[1]) % 3 else "b"

    place.poke()  # once all is paid for, nothing is asked any more
    texts = [f"{'x' if n % 2 else 'y'} {n}" for n in range(min(place.inputs, 400))]
    TwoStageConfidenceDistillation(
        _classifier(), small_threshold=0.999999, large_threshold=0.0, rounds=place.rounds, checkpoint=place.folder / "state",
    ).distil(texts, RunnableLambda(answer).with_config(max_concurrency=SLOTS))  # fmt: skip
    return False


def _checkpoint_kept(place: Place) -> set[int]:
    state = place.folder / "state" / "state.json"
    assert not state.exists() or isinstance(json.loads(state.read_text()), dict)
    return set()


# --- downloads --------------------------------------------------------------------------------------------------------


_DOWNLOADS = 500
"""More than 36 kills let happen, of some four each. To look for each of them takes the square of this."""


@functools.cache  # by the process that forks: hashes of two hundred megabytes are no part of the work
def _artifacts() -> list[Any]:
    from langchain_dsplus import weights

    def artifact(number: int) -> Any:
        body = _weights(number)
        file = weights.File("model.gguf", len(body), hashlib.sha256(body).hexdigest())
        return weights.Artifact(f"kill-{number}", "A file", "gguf", (file,), "MIT")

    return [artifact(number) for number in range(_DOWNLOADS)]


def _weights(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * 3000


class _Slowly:
    """A source that brings files in small pieces."""

    name = "slowly"

    def find(self, _: Any) -> None:
        return None

    def fetch(self, wanted: Any) -> None:
        body = _weights(int(wanted.artifact.name.removeprefix("kill-")))
        with (wanted.ready / "model.gguf").open("wb") as file:
            for begin in range(0, len(body), 8000):
                file.write(body[begin : begin + 8000])
                file.flush()
                time.sleep(0.001)


def _cache(place: Place) -> Any:
    from langchain_dsplus import weights

    os.environ["DSPLUS_CACHE"] = str(place.folder / "cache")
    weights.register_source(_Slowly(), *_artifacts())
    return weights


def _pulls(weights: Any, number: int) -> bool:
    weights.pull(f"kill-{number}", progress=False)
    return True


def _cache_kept(place: Place) -> set[int]:
    weights = _cache(place)
    found = {n: path for n in range(_DOWNLOADS) if (path := weights.cached_path(f"kill-{n}")) is not None}
    wrong = [n for n, path in found.items() if path.read_bytes() != _weights(n)]
    assert not wrong, f"files that are not whole count as fetched: {wrong}"
    return set(found)


WRITERS: dict[str, Writer] = {
    "jsonl": Writer(_lines, _record, _lines_kept),
    "sqlite": Writer(_store, _store_row, _store_kept),
    "postgres": Writer(_store, _store_row, _store_kept, local=False),
    "pacer": Writer(**_pacer(lambda place: place.folder / "budget.json"), alone=True),
    "pacer.sqlite": Writer(**_pacer(_shared)),
    "pacer.postgres": Writer(**_pacer(_shared), local=False),
    "monitor": Writer(**_monitor(lambda place: place.folder / "audits.json"), alone=True),
    "monitor.postgres": Writer(**_monitor(_shared), local=False),
    "registry": Writer(**_registry(lambda _: None)),
    "registry.postgres": Writer(**_registry(_shared), local=False),
    "collect": Writer(lambda place: place, _collects, _journal_kept, pause=0.3, asks=True),
    "checkpoint": Writer(lambda place: place, _distils, _checkpoint_kept, pause=0.3, asks=True),
    "shunt": Writer(_shunt, _shunt_works, _shunt_kept, pause=0.6, slow=True),
    "downloads": Writer(_cache, _pulls, _cache_kept),
}


# --- kills ------------------------------------------------------------------------------------------------------------


def _forked(work: Callable[[], Any]) -> int:
    """A child that does that and ends; its process id."""
    child = os.fork()
    if child:
        return child
    code = 0
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 3
    os._exit(code)


def _ended(child: int) -> None:
    """Wait for its end, which must be good."""
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        msg = "a writer failed by itself"
        raise RuntimeError(msg)


def _started(writer: Writer, place: Place, numbers: Iterator[int]) -> tuple[int, int]:
    """A child that writes without an end, and where to read what it acknowledges."""
    read, write = os.pipe()

    def say(number: int) -> None:
        os.write(write, number.to_bytes(8, "little"))

    def work() -> None:
        os.close(read)
        place.poke = lambda: say(2**63)
        thing = writer.open(place)
        for number in numbers:
            if writer.write(thing, number):
                say(number)

    child = _forked(work)
    os.close(write)
    return child, read


def _killed(child: int, read: int, pause: float) -> set[int]:
    """Kill it that much after its first word; what it had acknowledged."""
    said = os.read(read, 8) if select.select([read], [], [], 60.0)[0] else b""
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    while part := os.read(read, 1 << 16):
        said += part
    os.close(read)
    _ended(child)
    words = (int.from_bytes(said[i : i + 8], "little") for i in range(0, len(said) // 8 * 8, 8))
    return {word for word in words if word != 2**63}


def _lost(kept: int | set[int], acked: set[int]) -> int:
    return len(acked - kept) if isinstance(kept, set) else max(0, len(acked) - kept)


# --- other trouble ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _full(place: Place) -> Iterator[None]:
    """A disk on which no file grows."""
    largest = max((file.stat().st_size for file in place.folder.rglob("*") if file.is_file()), default=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(largest, 4096), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def _read_only(place: Place) -> Iterator[None]:
    """A folder that cannot be written; root needs a mount for it."""
    if os.geteuid():
        place.folder.chmod(0o555)
    else:
        folder = str(place.folder)
        subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
        told = ["mount", "-o", "remount,ro,bind", folder]
        while subprocess.run(told, check=False, capture_output=True).returncode:  # a file is being written
            time.sleep(0.01)
    try:
        yield
    finally:
        if os.geteuid():
            place.folder.chmod(0o755)
        else:
            subprocess.run(["umount", "-l", str(place.folder)], check=True, capture_output=True)


@contextlib.contextmanager
def _deleted(place: Place) -> Iterator[None]:
    """A folder that goes away, and comes back as it was."""
    away = place.folder.with_name("away")
    place.folder.rename(away)
    try:
        yield
    finally:
        shutil.rmtree(place.folder, ignore_errors=True)  # what was written meanwhile into a new one
        away.rename(place.folder)


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Another process holds what can be held."""
    with contextlib.ExitStack() as stack:
        for file in sorted(place.folder.rglob("*")):
            if file.suffix == ".db":
                other = stack.enter_context(contextlib.closing(sqlite3.connect(file, isolation_level=None)))
                other.execute("BEGIN IMMEDIATE")
                stack.callback(other.execute, "ROLLBACK")
            elif file.suffix == ".lock":
                opened = stack.enter_context(file.open())
                fcntl.flock(opened, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _stopped(place: Place) -> Iterator[None]:
    """A server that is gone without a word, and comes back."""
    place.server.stop("immediate")
    try:
        yield
    finally:
        place.server.start()


@contextlib.contextmanager
def _backwards(place: Place) -> Iterator[None]:
    """A clock that was set back by a day and two hours."""
    place.back = 26 * 3600.0
    try:
        yield
    finally:
        place.back = 0.0


TROUBLES: dict[str, Callable[[Place], Any]] = {
    "full": _full, "read_only": _read_only, "deleted": _deleted, "locked": _locked, "backwards": _backwards,
    "stopped": _stopped,
}  # fmt: skip


def _troubles(writer: Writer) -> list[str]:
    """What may happen to a writer."""
    if not writer.local:
        return ["backwards", "stopped"]
    if writer.asks:
        return ["full", "read_only", "deleted"]
    return [kind for kind in TROUBLES if kind != "stopped"]


UNCLEAR = (AttributeError, KeyError, IndexError, TypeError, AssertionError, UnboundLocalError, RecursionError)


def _through(name: str, kind: str, place: Place) -> None:
    """Write before, during and after; raises where something acknowledged is gone, or an error is not clear."""
    writer = WRITERS[name]
    place.folder.mkdir()
    thing = writer.open(place)
    acked: set[int] = set()
    for number in range(3):
        assert writer.write(thing, number), f"{name}: nothing was wrong yet"
        acked.add(number)
    with TROUBLES[kind](place):
        for number in range(3, 6):
            try:
                done = writer.write(thing, number)
            except UNCLEAR as error:
                msg = f"{name}, {kind}: not a clear error"
                raise RuntimeError(msg) from error
            except Exception:  # it said that it could not
                continue
            if done and kind != "deleted":
                acked.add(number)
    for number in range(6, 9):
        if not writer.write(thing, number):
            msg = f"{name}, {kind}: it does not go on afterwards"
            raise RuntimeError(msg)
        if kind != "deleted" or number > 6:  # a file that was opened meanwhile may be one that is gone
            acked.add(number)
    lost = _lost(writer.kept(place), acked)
    if lost:
        msg = f"{name}, {kind}: {lost} of {len(acked)} acknowledged writes are gone"
        raise RuntimeError(msg)


def _asks_through(name: str, kind: str, place: Place) -> None:
    """Trouble in the middle of a work that asks; raises where what was answered before is asked again afterwards."""
    writer = WRITERS[name]
    place.folder.mkdir()
    place.inputs, place.rounds, place.heard = 60, 1, []
    before, lock = [], threading.Lock()
    with contextlib.ExitStack() as trouble:

        def begin() -> None:
            with lock:  # meanwhile nobody is answered
                if len(place.heard or ()) > 20 and not before:
                    trouble.enter_context(TROUBLES[kind](place))
                    before.extend(place.heard or ())

        place.at = begin
        try:
            writer.write(writer.open(place), 0)
        except UNCLEAR as error:
            msg = f"{name}, {kind}: not a clear error"
            raise RuntimeError(msg) from error
        except Exception:  # it said that it could not
            stopped = True
        else:
            stopped = False
    during, place.heard, place.at = place.heard[len(before) :], [], lambda: None
    assert before, f"{name}: the trouble did not begin"
    if stopped and kind != "deleted" and len(during) > SLOTS:
        msg = f"{name}, {kind}: {len(during)} more were asked about, whose answers could not be kept"
        raise RuntimeError(msg)
    writer.write(writer.open(place), 1)
    writer.kept(place)
    again = set(before) & set(place.heard)
    if len(again) > SLOTS:
        msg = f"{name}, {kind}: {len(again)} of {len(before)} answers are gone, and are asked for again"
        raise RuntimeError(msg)


def _two(writer: Writer, place: Place, seconds: float) -> int:
    """Two processes at once, both killed; how much is lost."""
    place.folder.mkdir()
    _ended(_forked(lambda: writer.open(place)))  # no connection of SQLite's may live through a fork
    children = [_started(writer, place, itertools.count(first, 2)) for first in (0, 1)]
    acked = [_killed(*child, seconds if turn == 0 else 0.0) for turn, child in enumerate(children)]
    return _lost(writer.kept(place), acked[0] | acked[1])


WARM = (
    "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.pipeline", "skops.io", "sqlalchemy", "alembic",
    "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql", "alembic.command", "langchain_dsplus.traces.store",
    "langchain_dsplus.traces.collect", "langchain_dsplus.learning.two_stage", "langchain_dsplus.registry.registry",
    "langchain_dsplus.shunt.worker", "langchain_dsplus.monitoring.budget", "langchain_dsplus.monitoring.audit",
    "langchain_dsplus.threshold.certify", "langchain_dsplus.small_models.sklearn", "langchain_dsplus.shunt",
    "langchain_dsplus.weights", "filelock",
)  # fmt: skip


def run(name: str, kills: int, seed: int, folder: Path, url: str = "", server: Any = None) -> dict[str, int]:
    """Kill one writer, and trouble it; what was lost."""
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads of a library at rest
    shutil.rmtree(folder, ignore_errors=True)
    rng, writer = random.Random(f"{seed}:{name}"), WRITERS[name]
    folder.mkdir(parents=True)

    def place(own: str) -> Place:
        return Place(folder / own, f"{url}#{own}" if url and "." in name else url, server=server)

    found = {"kills": 0, "lost": 0, "twice": 0, "troubles": 0}
    here, acked = place("kills"), set()
    here.folder.mkdir()
    for _ in range(kills):
        acked |= _killed(
            *_started(writer, here, itertools.count(max(acked, default=-1) + 1)), rng.random() * writer.pause
        )
        found["lost"] += _lost(writer.kept(here), acked)
        found["kills"] += 1
    if writer.asks:
        found["twice"] = max(0, here.asked_twice() - SLOTS * kills)
    kinds = _troubles(writer) + ["two"] * (not writer.alone and not writer.asks)
    if kills == 1 and writer.slow:
        kinds = rng.sample(kinds, 2)
    for kind in kinds:
        if kind == "two":
            found["lost"] += _two(writer, place("two"), 2 * writer.pause)
        else:
            through = _asks_through if writer.asks else _through
            _ended(_forked(lambda kind=kind, through=through: through(name, kind, place(kind))))
        found["troubles"] += 1
    return found


def _reported(name: str, kills: int, seed: int, folder: Path, url: str, server: Any) -> None:
    found: dict[str, Any] = {"kills": 0, "lost": 0, "twice": 0, "troubles": 0}
    try:
        if url or not name.endswith("postgres"):
            found = run(name, kills, seed, folder, url, server)
    except BaseException:
        found = {"error": traceback.format_exc()}
    print(json.dumps({"writer": name, **found}), flush=True)


def main() -> None:
    """As a command; a PostgreSQL is started where a writer needs one."""
    names, kills, seed, folder = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    for module in WARM:  # once, here: a child that still imports is killed before it writes
        importlib.import_module(module)
    with contextlib.ExitStack() as stack:
        server = None
        if any(name.endswith("postgres") for name in names):
            from tests.postgres import running

            server = stack.enter_context(running())
        for name in names:
            url = server.fresh("kills") if server is not None and name.endswith("postgres") else ""
            _ended(_forked(lambda name=name, url=url: _reported(name, kills, seed, folder / name, url, server)))


if __name__ == "__main__":
    main()
