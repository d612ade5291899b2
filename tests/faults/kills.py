"""SIGKILL over everything that writes: nothing acknowledged is lost, nothing is unreadable, nothing is asked twice.

`python -m tests.faults.kills WRITER KILLS SEED FOLDER` kills a writer that many times, each time at a random moment of
its work, and prints `{"kills": ..., "lost": ..., "twice": ...}` as its last line. The process that kills imports
everything once and forks: a kill costs the work, not the start.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import select
import shutil
import signal
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ack = Callable[[int], None]
SLOTS = 4
"""Calls of a large model that may be in flight."""


class Writer(ABC):
    """Something that writes into a folder."""

    patience = 30.0
    """Seconds that the first acknowledgement may take; one that has nothing to acknowledge is killed then."""
    pause = 0.02
    """Seconds between the first acknowledgement and the latest kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.acked = -1

    def prepare(self) -> None:  # noqa: B027
        """What is there before the first kill."""

    @abstractmethod
    def work(self, ack: Ack) -> None:
        """Write without an end, from where it stands; `ack(n)` once the n-th write is said to be done."""

    @abstractmethod
    def lost(self) -> int:
        """How much of what was acknowledged is gone; raises where something cannot be read."""

    def twice(self, kills: int) -> int:
        """How often the large model was asked again beyond the calls that were in flight."""
        del kills
        return 0


def row(number: int) -> dict[str, Any]:
    return {"kind": "route", "route_id": str(number), "router": "r", "input": "x" * 300}


class Lines(Writer):
    """`JSONLRecorder`."""

    def work(self, ack: Ack) -> None:
        from langchain_dsplus import JSONLRecorder

        with JSONLRecorder(self.folder / "rows.jsonl") as recorder:
            for number in range(self.acked + 1, 10**9):
                recorder.record(row(number))
                ack(number)

    def lost(self) -> int:
        from langchain_dsplus import JSONLRecorder

        found = {int(entry["route_id"]) for entry in JSONLRecorder.read(self.folder / "rows.jsonl")}
        return len(set(range(self.acked + 1)) - found)


class Store(Writer):
    """`TraceStore` on SQLite."""

    pause = 0.1

    def work(self, ack: Ack) -> None:
        from langchain_dsplus import TraceStore

        store = TraceStore(self.folder / "traces.db")
        for number in range(self.acked + 1, 10**9):
            store.record(row(number))
            if number % 5 == 4 and store.flush(30):
                ack(number)

    def lost(self) -> int:
        import sqlite3

        from langchain_dsplus import TraceStore

        with TraceStore(self.folder / "traces.db") as store:
            found = {int(entry["route_id"]) for entry in store.rows()}
        with sqlite3.connect(self.folder / "traces.db") as connection:
            (said,) = connection.execute("PRAGMA quick_check").fetchone()
        assert said == "ok", said
        return len(set(range(self.acked + 1)) - found)


class Pacer(Writer):
    """`BudgetPacer`: what was spent stays spent."""

    def work(self, ack: Ack) -> None:
        from langchain_dsplus.monitoring import BudgetPacer

        pacer = BudgetPacer(per_day=1e9, path=self.folder / "budget.json")
        for number in range(self.acked + 1, 10**9):
            pacer.count(escalated=True)
            ack(number)

    def lost(self) -> int:
        from langchain_dsplus.monitoring import BudgetPacer

        return max(0, self.acked + 1 - int(BudgetPacer(per_day=1e9, path=self.folder / "budget.json").spent_day))


class Monitor(Writer):
    """`AuditMonitor`: an audit that was counted stays counted."""

    def _made(self) -> Any:
        from langchain_dsplus import AuditMonitor, Outcomes, certify

        rows = [
            {"id": str(i), "small": "a", "confidence": 0.5 + i / 1000, "large": "a", "gold": "a"} for i in range(400)
        ]
        about = {"score": "max_probability", "labels": ["a", "b"]}
        made = certify(Outcomes.from_records(rows, about=about), max_loss=0.05)
        file = self.folder / "certificate.json"
        if not file.exists():
            made.to_json(file)
        return AuditMonitor(type(made).from_json(file), path=self.folder / "monitor.json")

    def prepare(self) -> None:
        self._made()

    def work(self, ack: Ack) -> None:
        monitor = self._made()
        answer = {"choice": "a", "probabilities": {"a": 1.0}, "confidence": 0.99}
        for number in range(self.acked + 1, 10**9):
            monitor.record(
                {"kind": "audit", "route_id": str(number), "router": "r", "answers": [answer], "output": "a"}
            )
            ack(number)

    def lost(self) -> int:
        return max(0, self.acked + 1 - self._made().audits)


class Collect(Writer):
    """`collect_outcomes` with a journal; an acknowledgement is a line in it."""

    pause = 0.3
    rows = 4000

    def work(self, ack: Ack) -> None:
        from langchain_core.runnables import RunnableLambda

        from langchain_dsplus import FakeSmallModel, collect_outcomes

        file = os.open(self.folder / "asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def answer(value: Any) -> str:
            os.write(file, f"{value['text']}\n".encode())
            ack(0)
            time.sleep(0.002)
            return "a"

        small = FakeSmallModel(default={"a": 1.0}, input_key="text")
        data = [{"id": str(n), "input": {"text": str(n)}} for n in range(self.rows)]
        collect_outcomes(
            small, RunnableLambda(answer), data, path=self.folder / "answers.jsonl", version="1", progress=False,
            max_concurrency=SLOTS,
        )  # fmt: skip

    def lost(self) -> int:
        from langchain_dsplus._journal import Journal

        journal = Journal(self.folder / "answers.jsonl")
        return sum(entry is None for entry in journal.entries)

    def twice(self, kills: int) -> int:
        return asked_again(self.folder, kills)


class Checkpoint(Writer):
    """`TwoStageConfidenceDistillation` with a checkpoint: what the large model was paid for is not asked again."""

    pause = 0.3
    patience = 0.5

    def work(self, ack: Ack) -> None:
        from langchain_core.runnables import RunnableLambda

        from langchain_dsplus import TwoStageConfidenceDistillation

        file = os.open(self.folder / "asked", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def answer(text: str) -> str:
            os.write(file, f"{text.replace(' ', '_')}\n".encode())
            ack(0)
            time.sleep(0.002)
            return "a" if int(text.split()[1]) % 3 else "b"

        texts = [f"{'x' if n % 2 else 'y'} {n}" for n in range(400)]
        large = RunnableLambda(answer).with_config(max_concurrency=SLOTS)
        TwoStageConfidenceDistillation(
            _classifier(), small_threshold=0.999999, large_threshold=0.0, rounds=10**6, checkpoint=self.folder / "state",
        ).distil(texts, large)  # fmt: skip

    def lost(self) -> int:
        state = self.folder / "state" / "state.json"
        return 0 if not state.exists() or isinstance(json.loads(state.read_text()), dict) else 1

    def twice(self, kills: int) -> int:
        return asked_again(self.folder, kills)


def asked_again(folder: Path, kills: int) -> int:
    """Questions that were asked again, but for those in flight at a kill."""
    file = folder / "asked"
    asked = file.read_text().split() if file.exists() else []
    return max(0, len(asked) - len(set(asked)) - SLOTS * kills)


def _classifier() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    pattern = {"token_pattern": r"\S+"}
    rows = [(f"{'x' if n % 2 else 'y'} {n}", "a" if n % 2 else "b") for n in range(40)]
    made = make_pipeline(TfidfVectorizer(**pattern), LogisticRegression()).fit(*map(list, zip(*rows, strict=True)))
    return SklearnClassifier(made)


class Registry(Writer):
    """`ModelRegistry.add`; promotion and rollback are killed at each of their writes in `test_versions`."""

    pause = 0.3

    def _registry(self) -> Any:
        from langchain_dsplus import ModelRegistry

        return ModelRegistry(self.folder / "registry")

    def prepare(self) -> None:
        self._registry().start(_classifier(), trained_on=[])

    def work(self, ack: Ack) -> None:
        model = _classifier()
        while True:
            registry = self._registry()
            registry.add(model, trained_on=[(f"x {registry.serial}", "a")])
            ack(registry.serial)

    def lost(self) -> int:
        registry = self._registry()
        registry.status()
        registry.load()
        return max(0, self.acked - registry.serial)


class Shunt(Writer):
    """`DataShunt.work` while it learns: what was spent and what was learned never goes back."""

    pause = 0.4

    def _shunt(self) -> Any:
        from langchain_core.runnables import RunnableLambda

        from langchain_dsplus import DataShunt

        chain = RunnableLambda(lambda text: "a" if text.startswith("x") else "b").with_types(output_type=str)
        return DataShunt(
            chain, ["a", "b"], self.folder / "shunt", "5 points", version="1", background=False, follow=0.0,
            small=_classifier(), key="k" * 32,
        )  # fmt: skip

    def prepare(self) -> None:
        shunt = self._shunt()
        shunt.batch([f"{'x' if n % 2 else 'y'} {n}" for n in range(300)])
        shunt.store.flush()
        self.uses = 0

    def work(self, ack: Ack) -> None:
        shunt = self._shunt()
        number = 0
        while True:
            shunt.batch([f"{'x' if n % 2 else 'y'} {n} {time.time_ns()}" for n in range(30)])
            shunt.store.flush()
            ack(0)
            shunt.work()
            number += 1
            ack(number)

    def lost(self) -> int:
        from langchain_dsplus.shunt.folder import ShuntFolder

        uses = len(ShuntFolder(self.folder / "shunt").life()["uses"])
        self._shunt().status()
        gone, self.uses = max(0, self.uses - uses), uses
        return gone


WRITERS: dict[str, type[Writer]] = {
    "jsonl": Lines, "store": Store, "pacer": Pacer, "monitor": Monitor, "collect": Collect, "checkpoint": Checkpoint,
    "registry": Registry, "shunt": Shunt,
}  # fmt: skip


def kill_once(writer: Writer, rng: random.Random) -> None:
    """Fork, let it work, kill it at a random moment after its first acknowledgement, and note the last one."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            writer.work(lambda number: void(os.write(write, number.to_bytes(8, "little"))))
        except BaseException as error:
            print(f"{type(writer).__name__}: {error!r}", file=sys.stderr, flush=True)
            os._exit(3)
        os._exit(0)
    os.close(write)
    said = b""
    if select.select([read], [], [], writer.patience)[0]:
        said = os.read(read, 8)
    time.sleep(rng.random() * writer.pause)
    os.kill(child, signal.SIGKILL)
    while part := os.read(read, 1 << 16):
        said += part
    os.close(read)
    _, status = os.waitpid(child, 0)
    whole = len(said) // 8 * 8
    if whole:
        writer.acked = max(writer.acked, int.from_bytes(said[whole - 8 : whole], "little"))
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        msg = f"{type(writer).__name__} failed by itself"
        raise RuntimeError(msg)


def void(_: Any) -> None:
    """Nothing."""


WARM = (
    "sklearn.feature_extraction.text", "sklearn.linear_model", "sklearn.pipeline", "skops.io", "sqlalchemy", "alembic",
    "langchain_dsplus.traces.store", "langchain_dsplus.traces.collect", "langchain_dsplus.learning.two_stage",
    "langchain_dsplus.registry.registry", "langchain_dsplus.shunt.worker", "langchain_dsplus.monitoring.budget",
    "langchain_dsplus.threshold.certify", "langchain_dsplus.small_models.sklearn", "langchain_dsplus.shunt",
)  # fmt: skip


def run(name: str, kills: int, seed: int, folder: Path) -> dict[str, int]:
    """Kill one writer; what was lost."""
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads of a library at rest
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for module in WARM:  # once, here: a child that still imports is killed before it writes
        importlib.import_module(module)
    rng = random.Random(f"{seed}:{name}")
    writer = WRITERS[name](folder)
    if os.fork() == 0:  # what opens threads and databases stays in a child
        code = 0
        try:
            writer.prepare()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            code = 3
        os._exit(code)
    _, status = os.wait()
    assert status == 0, f"{name} could not be prepared"
    if name == "shunt":
        writer.uses = 0  # type: ignore[attr-defined]
    lost = 0
    for _ in range(kills):
        kill_once(writer, rng)
        lost += writer.lost()
    return {"kills": kills, "lost": lost, "twice": writer.twice(kills)}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
