"""Processes that share a budget, an alarm and what is live by a real PostgreSQL; what one host's file does, on several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg 3 is not installed (extra `postgres`)")

from langchain_dsplus import AuditMonitor, ModelRegistry
from langchain_dsplus.monitoring import BudgetPacer
from langchain_dsplus.registry import RegistryError
from langchain_dsplus.traces.shared import SharedState, SharedStateError
from tests.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
ANSWER = {"choice": "a", "probabilities": {"a": 0.6, "b": 0.4}, "confidence": 0.6}
WITHIN = 60.0
"""Seconds after which a process that does not know never will, on a busy machine; they look every two."""


@pytest.fixture
def url(database):
    return database.fresh("shared")


class Process:
    """A process that does what lines say and answers each with a line of JSON."""

    def __init__(self, code: str, *arguments: str) -> None:
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code) + TALK, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def tell(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, line: str):
        self.tell(line)
        return self.hear()

    def end(self, number=signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.communicate()


TALK = """
for line in sys.stdin:
    print(json.dumps(do(*line.split())), flush=True)
"""


@pytest.fixture
def start():
    made = []

    def one(*arguments):
        made.append(Process(*arguments))
        return made[-1]

    yield one
    for process in made:
        process.end(signal.SIGKILL)


def soon(look):
    """What it says at last; None where it never does."""
    end = time.monotonic() + WITHIN
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


SPENDER = """
import json, sys
from langchain_dsplus.monitoring import BudgetPacer
always = lambda _: 2.0  # worth any price, so that the ceiling alone decides
pacer = BudgetPacer(per_day=60, per_1000=1000, on_conflict="budget", path=sys.argv[1], gain=always)
answer = {"choice": "a", "probabilities": {"a": 0.6, "b": 0.4}, "confidence": 0.6}
def do(n):
    return sum(pacer.escalate(answer) for _ in range(int(n)))
"""


def test_processes_have_one_budget_also_when_some_are_killed(start, url):
    processes = [start(SPENDER, url) for _ in range(4)]
    assert all(process.ask("5") == 5 for process in processes)
    for process in processes:
        process.tell("25")
    processes[0].end(signal.SIGKILL)  # in the middle, perhaps with the state in its hand
    spent = sum(process.hear() for process in processes[1:])
    pacer = BudgetPacer(per_day=60, per_1000=1000, on_conflict="budget", path=url)
    assert pacer.spent_day == 60, "neither more than the ceiling nor less"
    assert 20 + spent <= 60 <= 20 + spent + 25
    assert not pacer.escalate(ANSWER)
    assert BudgetPacer(per_day=60, path=f"{url}#other").spent_day == 0


WATCHER = """
import json, sys
from langchain_dsplus import AuditMonitor
monitor = AuditMonitor(max_disagreement=0.05, ladder=("large",), path=sys.argv[1])
def do(what, n):
    for place in range(int(n)):
        monitor.observe(what != "differ", route_id=str(place), confidences=[0.9])
        if what == "differ" and monitor.limit is not None:
            break
    return [monitor.audits, len(monitor.alarms), monitor.limit is not None]
"""


def test_processes_count_audits_as_one_and_all_obey_one_alarm(start, url):
    processes = [start(WATCHER, url) for _ in range(3)]
    assert [process.ask("agree 10")[1:] for process in processes] == [[0, False]] * 3
    assert processes[0].ask("agree 0")[0] in (10, 20, 30)
    alone = AuditMonitor(max_disagreement=0.05, ladder=("large",))
    for _ in range(30):
        alone.observe(agree=True)
    needed = 0
    while alone.limit is None:
        needed += 1
        alone.observe(agree=False)
    turns = 0
    while not processes[turns % 3].ask("differ 1")[2]:
        turns += 1
    assert turns + 1 == needed, "three that see a third each notice as soon as one that sees all"
    for process in processes:
        assert soon(lambda process=process: process.ask("agree 0")[2])
        assert process.ask("agree 0")[1] == 1
    late = AuditMonitor(max_disagreement=0.05, ladder=("large",), path=url)
    assert soon(lambda: late.limit), "one that starts later too"


FOLLOWER = """
import json, sys
sys.path.insert(0, ".")
from langchain_core.runnables import RunnableLambda
from langchain_dsplus import ModelRegistry
chain = RunnableLambda(lambda text: "a").with_types(output_type=str)
router = ModelRegistry(sys.argv[1], state=sys.argv[2]).router(chain, follow=0.5, version="1")
def do(text):
    router.invoke(text)
    return router.registry.live.number, router._known[0] == router.registry.in_force()[1]
"""


def _model(weight: float):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    texts = [f"{'x' if n % 2 else 'y'} {n}" for n in range(40)]
    made = make_pipeline(TfidfVectorizer(token_pattern=r"\S+"), LogisticRegression(C=weight))
    return SklearnClassifier(made.fit(texts, ["a" if n % 2 else "b" for n in range(40)]))


def test_what_is_live_is_followed_everywhere_and_a_lost_host_holds_nothing(start, url, tmp_path):
    registry = ModelRegistry(tmp_path / "models", state=f"{url}#support")
    assert not registry.exists
    registry.start(_model(1.0))
    processes = [start(FOLLOWER, str(tmp_path / "models"), f"{url}#support") for _ in range(2)]
    assert [process.ask("hello") for process in processes] == [[1, True]] * 2
    candidate = registry.add(_model(50.0))
    rows = [(f"{'x' if n % 2 else 'y'} new{n}", "a" if n % 2 else "b") for n in range(400)]
    gate = registry.gate(candidate.number, rows, max_loss="5 points", max_calibration_error=1.0)
    assert gate.report.promoted, gate.report
    registry.promote(candidate.number)
    for process in processes:
        assert soon(lambda process=process: process.ask("hello") == [2, True])
    registry.rollback("it was worse")
    processes[1].end(signal.SIGKILL)
    assert soon(lambda: processes[0].ask("hello") == [1, True])
    assert not (tmp_path / "models" / "live.json").exists(), "one place for it"
    assert not ModelRegistry(tmp_path / "models", state=f"{url}#other").exists


HOLDER = """
import json, sys, time
from langchain_dsplus.traces.shared import SharedState
state = SharedState(sys.argv[1], "test")
def do(_):
    with state.changing() as held:
        held.value = "half"
        print("1", flush=True)
        time.sleep(600)
"""


def test_a_killed_holder_lets_go_and_one_that_hangs_delays_but_never_blocks(start, url):
    state = SharedState(url, "test", busy_seconds=0.5, rest=30.0)
    with state.changing() as held:
        held.value = {"n": 1}
    holder = start(HOLDER, url)
    assert holder.ask("hold") == 1
    assert state.read() == {"n": 1}, "who reads waits for nobody"
    with pytest.raises(SharedStateError, match="holds it"), state.changing():
        pass
    begun = time.perf_counter()
    with pytest.raises(SharedStateError, match="a moment ago"), state.changing():
        pass
    assert time.perf_counter() - begun < 0.2
    holder.end(signal.SIGKILL)
    again = SharedState(url, "test")
    with again.changing() as held:
        assert held.value == {"n": 1}
        held.value = {"n": 2}
    with pytest.raises(ZeroDivisionError), again.changing() as held:
        held.value = {"n": 1 / 0}
    assert again.read() == {"n": 2}


def test_without_its_database_each_goes_on_and_tells_later(database, url):
    pacer = BudgetPacer(per_day=100, path=url, on_conflict="certificate")
    monitor = AuditMonitor(max_disagreement=0.5, path=url)
    pacer.escalate(ANSWER)
    monitor.observe(agree=True)
    database.stop()
    try:
        for _ in range(5):
            assert pacer.escalate(ANSWER)
            monitor.observe(agree=True)
        assert (pacer.escalated, monitor.audits) == (6, 6)
        with pytest.raises(RegistryError, match="cannot be reached"):
            ModelRegistry("nowhere", state=url, timeout=1).status()
    finally:
        database.start()
    pacer._shared.rest = monitor._shared.rest = 0.0
    pacer.escalate(ANSWER)
    monitor.observe(agree=True)
    assert BudgetPacer(per_day=100, path=url).spent_day == 7
    late = AuditMonitor(max_disagreement=0.5, path=url)
    late.observe(agree=True)
    assert late.audits == 8


def test_no_start_waits_for_a_database_and_no_password_is_shown():
    url = f"postgresql://tester:hunter2@127.0.0.1:{free_port()}/x"
    pacer, monitor = BudgetPacer(per_day=5, path=url), AuditMonitor(max_disagreement=0.5, path=url)
    registry = ModelRegistry("models", state=url, timeout=1.0)
    assert "hunter2" not in f"{pacer!r} {monitor!r} {registry!r} {pacer._shared!r}"
    with pytest.raises(RegistryError) as caught:
        registry.status()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match="must be of SQLite"):
        BudgetPacer(per_day=5, path="mysql://host/x")


def test_threads_and_forks_of_one_process_share_it_too(url):
    from concurrent.futures import ThreadPoolExecutor

    pacer = BudgetPacer(per_day=1000, per_1000=25, on_conflict="budget", path=url, gain=lambda _: 2.0)
    assert pacer.escalate(ANSWER)
    child = os.fork()
    if child == 0:
        os._exit(sum(pacer.escalate(ANSWER) for _ in range(10)))
    with ThreadPoolExecutor(4) as pool:
        asked = sum(pool.map(pacer.escalate, [ANSWER] * 20))
    _, status = os.waitpid(child, 0)
    assert pacer.spent_1000 == 1 + asked + os.waitstatus_to_exitcode(status) == 25
