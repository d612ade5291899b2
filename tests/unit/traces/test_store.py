"""The trace store on SQLite: rows come back, forks and kills and broken databases do no harm."""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.costs.prices import Price
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.routing.rows import Recorder
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.traces import database as traces_database
from langchain_dsplus.traces.recorder import JSONLRecorder
from langchain_dsplus.traces.store import Follower, TraceStore
from tests.unit.traces.stores import ids, row, write_and_kill


@pytest.fixture
def path(tmp_path):
    return tmp_path / "traces.db"


@pytest.fixture
def store(path):
    with TraceStore(path) as store:
        yield store
        assert store.errors == 0


def direct(path, sql, *values):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(sql, values).fetchall()
        connection.commit()
    return found


# --- what goes in comes out -----------------------------------------------------------------------------------------


def test_it_is_a_recorder(store):
    assert isinstance(store, Recorder)


def test_rows_come_back_as_the_jsonl_recorder_writes_them(tmp_path, store):
    given = [
        row(1, output=AIMessage("pos"), large_seconds=0.1),
        row(2, input={"text": "\ud800 half, \x00 nothing, ü, 中", "n": float("nan")}),
        {"kind": "shadow", "route_id": "2", "router": "r", "answers": [], "errors": {"small": "KeyError"}},
    ]
    lines = JSONLRecorder(tmp_path / "routes.jsonl")
    for each in given:
        store.record(each)
        lines.record(each)
    lines.close()

    def without_time(rows):
        return [{k: v for k, v in r.items() if k != "time"} for r in rows]

    assert without_time(store.rows())[0] == without_time(JSONLRecorder.read(lines.path))[0]
    found = without_time(store.rows())
    assert found[1]["input"] == {"text": "\ud800 half, \x00 nothing, ü, 中", "n": None}
    assert found[2]["errors"] == {"small": "KeyError"}
    assert (store.written, store.pending, store.dropped) == (3, 0, 0)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values, name=st.text(st.characters(), min_size=1), router=st.text(st.characters()))
def test_any_value_and_any_name_comes_back(store, value, name, router):
    store.record({"kind": "route", "route_id": name, "router": router, "input": value})
    assert store.flush()
    found = [r for r in store.rows(route_id=name) if r["route_id"] == name][-1]
    assert (found["input"], found["router"]) == (value, router)


def test_columns_are_for_queries(path, store):
    route = {
        "route_id": "1",
        "model": "small",
        "accepted": True,
        "reason": "confident",
        "certificate": "c-1",
        "answers": [],
    }
    store.record(row(1, route=route, cost=0.5))
    store.flush()
    assert direct(
        path, "SELECT kind, route_id, router, model, accepted, reason, certificate, cost FROM dsplus_traces"
    ) == [("route", "1", "r", "small", 1, "confident", "c-1", 0.5)]


def test_price_fills_the_cost_and_a_cache_hit_costs_nothing(path):
    usage = {"input_tokens": 1000, "output_tokens": 0}
    with TraceStore(path, price=Price(input=2.0, output=4.0)) as store:
        store.record(row(1, usage=usage))
        store.record(row(2, usage={**usage, "total_cost": 0}))
        store.record(row(3, usage={"input_tokens": "many"}))
        store.record(row(4, usage=usage, cost=7.0))
        assert [r.get("cost") for r in store.rows()] == [0.002, 0.0, None, 7.0]
        assert store.errors == 0


def test_rows_by_kind_router_decision_and_time(store):
    old = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    store.record(row(1, time=old))
    store.record(row(2, router="other"))
    store.record(row(3, kind="audit"))
    store.flush()
    store.add_gold("1", "pos")
    assert ids(store) == ["1", "2", "3", "1"]
    assert ids(store, kind="audit") == ["3"]
    assert ids(store, kind=("audit", "gold")) == ["3", "1"]
    assert ids(store, router="other") == ["2", "1"], "gold belongs to no router"
    assert ids(store, route_id="1") == ["1", "1"]
    assert ids(store, route_id=("1", "3", "none")) == ["1", "3", "1"]
    assert ids(store, since=timedelta(days=1)) == ["2", "3", "1"]
    assert ids(store, until=timedelta(days=1)) == ["1"]
    assert ids(store, since=datetime.now(UTC) + timedelta(days=1)) == []
    for bad in (datetime(2026, 1, 1), "2026-01-01", "yesterday"):  # noqa: DTZ001
        with pytest.raises(ValueError, match="`since`"):
            store.rows(since=bad)


def test_many_rows_are_read_a_page_at_a_time(store):
    for number in range(701):
        store.record(row(number))
    reader = store.rows()
    first = next(reader)
    store.record(row("while reading"))
    store.flush()
    rest = [r["route_id"] for r in reader]
    assert [first["route_id"], *rest] == [str(n) for n in range(701)]


def test_who_follows_sees_each_row_once(store):
    news = store.follow(kind=("route", "gold"))
    for count in (3, 0, 250):
        for number in range(count):
            store.record(row(number))
            store.record(row(number, kind="audit"))
        assert [r["route_id"] for r in news.rows()] == [str(n) for n in range(count)]
    store.add_gold("1", "pos")
    assert [r["gold"] for r in news.rows()] == ["pos"]
    assert not list(store.follow(since=datetime.now(UTC) + timedelta(days=1)).rows())


@pytest.mark.parametrize("seed", range(5))
def test_rows_that_a_server_shows_late_are_seen_all_the_same(seed):
    """Numbers are given out in order, and become visible in any."""
    shown, seen = set(), []
    news = Follower(lambda done: iter([(n, f"{n}") for n in sorted(shown) if n > done]), 40)
    waiting = random.Random(seed).sample(range(1, 201), 200)
    waiting.sort(key=lambda n: n // 30)  # none is later than the follower expects
    while waiting:
        shown.update(waiting[:7])
        del waiting[:7]
        seen += news.rows()
    assert sorted(seen) == list(range(1, 201))


def test_texts_may_be_left_out(path):
    answer = {"choice": "free text", "probabilities": {}, "confidence": 0.5}
    with TraceStore(path, texts=False) as store:
        store.record(row(1, answers=[answer]))
        (found,) = store.rows()
    assert found.keys() & {"input", "output"} == set()
    assert found["answers"][0]["choice"] == ""


# --- redaction ------------------------------------------------------------------------------------------------------


def test_redaction_comes_before_the_queue(path, caplog):
    def redact(body):
        if body["input"] == "drop":
            return None
        if body["input"] == "fail":
            raise RuntimeError("secret")
        body["input"] = "***"
        return body

    given = {"deep": ["secret"]}
    with TraceStore(path, redact=redact) as store:
        for value in ("secret", "drop", "fail"):
            store.record(row(value, input=value))
        assert not any('"input":"secret"' in packed["body"] for packed in list(store._queue))
        store.record(row("deep", input=given))
        assert [(r["route_id"], r["input"]) for r in store.rows()] == [("secret", "***"), ("deep", "***")]
        assert (store.errors, store.dropped) == (1, 0)
    assert given == {"deep": ["secret"]}, "it got a copy"
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "broken", [{}, {"kind": "route"}, {"kind": 1, "route_id": "1"}, {"kind": "route", "route_id": "1", "time": "?"}]
)
def test_a_row_that_is_none_is_counted(path, broken):
    with TraceStore(path) as store:
        store.record(broken)
        assert (store.errors, store.pending) == (1, 0)


# --- gold -----------------------------------------------------------------------------------------------------------


def test_gold_comes_later_alone_or_many(path, store):
    assert store.add_gold("1", "pos") == 1
    assert store.add_gold({"2": "neg", "3": 7, "4": None}) == 3
    assert [(r["route_id"], r["gold"]) for r in store.rows(kind="gold")] == [
        ("1", "pos"),
        ("2", "neg"),
        ("3", "7"),
        ("4", None),
    ]
    for arguments in (("", "a"), ("1", 1.5), ({"1": ["a"]},), ({"1": "a"}, "b"), (3, "a")):
        with pytest.raises(ValueError, match=r"`gold`|`route_id`"):
            store.add_gold(*arguments)


@pytest.mark.parametrize("gold", ["Pos", " pos", "1.0", "n/a", 1, True])
def test_with_labels_gold_outside_them_is_an_error_and_nothing_is_written(store, gold):
    with pytest.raises(ValueError, match=r"entry 2 of the gold, column 'gold': 1 of 2 values.*gold_map"):
        store.add_gold({"1": "neg", "2": gold}, labels=["pos", "neg"])
    assert not list(store.rows(kind="gold"))
    assert store.add_gold({"1": "neg", "2": gold}, labels=["pos", "neg"], gold_map={gold: "pos"}) == 2
    assert store.add_gold("3", gold, labels=["pos", "neg"], unknown_gold=gold) == 1
    assert [row["gold"] for row in store.rows(kind="gold")] == ["neg", "pos", None]


# --- with a router --------------------------------------------------------------------------------------------------

TABLE = {"sure": {"pos": 0.95, "neg": 0.05}, "unsure": {"pos": 0.6, "neg": 0.4}}


def router(store, **options):
    def large(_):
        return AIMessage("neg ")

    return ConfidenceRouter(
        small=FakeSmallModel(TABLE, input_key="text"),
        large=RunnableLambda(large),
        threshold=0.9,
        recorder=store,
        to_output=lambda answer, _: AIMessage(answer["choice"]),
        **options,
    )


def test_shadow_rows_become_outcomes(store):
    with router(store, mode="shadow") as shadow:
        shadow.batch([{"text": "sure"}, {"text": "unsure"}])
        shadow.drain()
        first = next(store.rows(kind="route"))["route_id"]
        store.add_gold(first, "pos")
        outcomes = store.to_outcomes(about={"labels": ["pos", "neg"]})
    assert outcomes.about == {"labels": ["pos", "neg"]}
    found = {r["id"]: r for r in outcomes.to_records()}
    assert found[first]["gold"] == "pos"
    assert sorted((r["confidence"], r["large"]) for r in found.values()) == [(0.6, "neg"), (0.95, "neg")]
    assert Outcomes.from_traces(store.rows()).to_records() == outcomes.to_records()
    assert len(store.to_outcomes(since=timedelta(days=1))) == 2
    with pytest.raises(ValueError, match="`since`"):
        store.to_outcomes(since="last week")


def test_an_audit_reaches_the_store(store):
    with router(store, audit_rate=1.0) as live:
        live.invoke({"text": "sure"})
        live.drain()
        (found,) = store.to_outcomes(live=True).to_records()
    assert (found["source"], found["small"], found["large"]) == ("audit", "pos", "neg")


def test_a_broken_store_breaks_no_answer(tmp_path):
    folder = tmp_path / "folder.db"
    folder.mkdir()
    store = TraceStore(folder)
    answer = router(store, name="x").invoke({"text": "sure"})
    assert answer.content == "pos"
    assert store.flush(0.3) is False
    assert store.failures > 0
    store.close(0.2)
    assert (store.written, store.dropped, store.pending) == (0, 1, 0)
    with pytest.raises(sa.exc.OperationalError):
        store.check()


def test_a_file_of_something_else_is_left_as_it_is(path):
    path.write_bytes(b"no database " * 1000)
    with TraceStore(path) as store, pytest.raises(sa.exc.DatabaseError):
        store.check()
    with TraceStore(path) as store:
        store.record(row(1))
        assert store.flush(0.3) is False
        store.close(0.1)
        assert (store.dropped, store.written) == (1, 0)
    assert path.read_bytes() == b"no database " * 1000


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(path):
    """A store whose file another connection holds."""
    store = TraceStore(path, queue_size=5, busy_seconds=0.05)
    store.check()
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.isolation_level = None
    connection.execute("BEGIN EXCLUSIVE")
    yield store, connection
    connection.close()
    store.close()


def test_a_slow_store_slows_nothing_and_the_newest_are_dropped(locked, caplog):
    store, connection = locked
    started = time.perf_counter()
    for number in range(200):
        store.record(row(number))
    assert time.perf_counter() - started < 1.0
    assert (store.pending, store.dropped) == (5, 195)
    assert caplog.text.count("queue of the trace store is full") == 1
    assert store.flush(0.3) is False
    connection.execute("ROLLBACK")
    assert store.flush(20)
    assert ids(store) == ["0", "1", "2", "3", "4"]
    assert store.failures >= 1
    assert (store.written, store.errors) == (5, 0)


def test_large_rows_are_bounded_by_bytes(path):
    with TraceStore(path, queue_bytes=10_000) as store:
        store.record(row(1, input="x" * 20_000))
        assert (store.pending, store.dropped) == (0, 1)
        store.record(row(2, input="x" * 9_000))
        assert ids(store) == ["2"]
        store.record(row(3, input="x" * 9_000))
        assert ids(store) == ["2", "3"], "what was written is not counted any more"


def test_closing_is_bounded_and_counts_what_is_lost(locked):
    store, connection = locked
    store.record(row(1))
    started = time.perf_counter()
    store.close(0.2)
    assert time.perf_counter() - started < 5
    assert (store.dropped, store.pending) == (1, 0)
    connection.execute("ROLLBACK")
    store.record(row(2))
    assert ids(store) == ["2"], "a row opens it again"
    assert store.flush()


def test_a_row_that_the_database_refuses_takes_no_other_with_it(path, caplog):
    with TraceStore(path) as store:
        store.check()
        direct(
            path,
            "CREATE TRIGGER no BEFORE INSERT ON dsplus_traces WHEN new.route_id = '7' BEGIN SELECT RAISE(ABORT, 'secret'); END",
        )
        for number in range(20):
            store.record(row(number))
        assert store.flush()
        assert ids(store) == [str(n) for n in range(20) if n != 7]
        assert (store.written, store.errors) == (19, 1)
    assert "secret" not in caplog.text
    assert "text" not in [r.getMessage() for r in caplog.records]


def test_flush_of_nothing_starts_nothing(path):
    store = TraceStore(path)
    assert store.flush()
    assert store._thread is None
    assert not path.exists(), "nothing is opened before the first row"


def test_threads_record_and_read_at_once(store):
    def work(worker):
        for number in range(100):
            store.record(row(f"{worker}-{number}"))
            if number % 50 == 0:
                list(store.rows(kind="gold"))

    threads = [threading.Thread(target=work, args=(w,)) for w in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(store)) == sorted(f"{w}-{n}" for w in range(6) for n in range(100))


def test_transactions_that_read_first_wait_for_their_turn(path, tmp_path):
    """Each counts what is new before it writes, from a store of its own."""
    files = [tmp_path / f"{n}.jsonl" for n in range(4)]
    for file in files:
        file.write_text("".join(f'{{"id": "{file.stem}-{n}", "input": "a", "output": "b"}}\n' for n in range(2000)))
    new = {}

    def work(file):
        with TraceStore(path) as store:
            new[file] = store.import_calls(file)

    threads = [threading.Thread(target=work, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert new == dict.fromkeys(files, 2000)


# --- processes, kills, forks, exits ---------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="needs kill -9")
def test_processes_write_at_once_and_a_kill_loses_nothing_that_was_flushed(path):
    """All start on a file that is not there: the tables are made once."""
    kept = write_and_kill(path, rows=300, flushed=100)
    assert direct(path, "PRAGMA integrity_check") == [("ok",)]
    with TraceStore(path) as store:
        found = set(ids(store))
        store.record(row("after"))
        assert store.flush()
    assert kept <= found


EXIT = """
import multiprocessing, sys
from langchain_core.runnables import RunnableLambda
from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.traces.store import TraceStore

def ask(text) -> str:
    return "LARGE"

small = FakeSmallModel({"x": {"a": 1.0}}, latency=0.3)
router = ConfidenceRouter(small=small, large=RunnableLambda(ask), mode="shadow", recorder=TraceStore(sys.argv[1]))
if sys.argv[2] == "program":
    router.invoke("x")
else:
    process = multiprocessing.get_context("fork").Process(target=router.invoke, args=("x",))
    process.start()
    process.join()
    assert process.exitcode == 0
"""


@pytest.mark.parametrize(
    "kind", ["program", pytest.param("worker", marks=pytest.mark.skipif(os.name == "nt", reason="needs fork"))]
)
def test_what_waits_is_written_at_exit_background_answers_too(path, kind):
    subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:.*fork:DeprecationWarning", "-c", EXIT, str(path), kind],
        check=True,
        timeout=60,
    )
    with TraceStore(path) as store:
        assert [r["kind"] for r in store.rows()] == ["route", "shadow"]


FORK = """
import multiprocessing, os, sys, threading
from langchain_dsplus.traces.store import TraceStore
store = TraceStore(sys.argv[1])

def row(name):
    return {"kind": "route", "route_id": name, "router": "r"}

def child():
    store.record(row("process"))  # written when the child ends

store.record(row("before"))
store.flush()
store.record(row("waiting"))  # in the queue, or half written, while the process forks
pid = os.fork()
if pid == 0:
    store.record(row("child"))
    os._exit(0 if store.flush(20) and store.written == 1 else 1)
assert os.waitpid(pid, 0)[1] == 0
store._changed.acquire()  # as another thread might hold it
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
store._changed.release()
process.join()
assert process.exitcode == 0
store.record(row("after"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_writes_its_own_rows_and_no_others(path):
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(path)], check=True, timeout=60)
    with TraceStore(path) as store:
        assert sorted(ids(store)) == ["after", "before", "child", "process", "waiting"]
    assert direct(path, "PRAGMA integrity_check") == [("ok",)]


# --- retention ------------------------------------------------------------------------------------------------------


def aged(number, days, **more):
    return row(number, time=(datetime.now(UTC) - timedelta(days=days)).isoformat(), **more)


def test_old_rows_are_deleted_and_their_texts_overwritten(path):
    with TraceStore(path) as store:
        for number in range(1200):
            store.record(aged(number, 10, input=f"confidential {number}"))
        store.record(aged("new", 1))
        store.flush()
        with pytest.raises(ValueError, match="`retention_days`"):
            store.prune()
        assert store.prune(5) == 1200
        assert store.prune(5) == 0
        assert ids(store) == ["new"]
    for file in path.parent.iterdir():
        assert b"confidential" not in file.read_bytes()


def test_retention_works_by_itself(path, monkeypatch):
    with TraceStore(path) as store:
        store.record(aged("old", 3))
    with TraceStore(path, retention_days=2) as store:
        store.record(row("new"))
        store.flush()
        end = time.monotonic() + 10
        # The rows are gone a moment before the writer notes when it was.
        while (ids(store) != ["new"] or store._pruned is None) and time.monotonic() < end:
            time.sleep(0.02)
        assert ids(store) == ["new"]
        direct(path, "UPDATE dsplus_traces SET time_us = 0")
        store._pruned -= 3601  # an hour later, without a new row
        with store._changed:
            store._changed.notify_all()
        while ids(store) and time.monotonic() < end:
            time.sleep(0.02)
        assert ids(store) == []


# --- database -------------------------------------------------------------------------------------------------------


def test_wal_and_the_owners_only(path, store):
    store.record(row(1))
    store.flush()
    with store._database.begin(write=False) as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("secure_delete", "synchronous", "busy_timeout")
        ]
    assert found == [1, 2, 30_000]
    assert direct(path, "PRAGMA journal_mode") == [("wal",)]
    for file in path.parent.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_folders_are_made_and_odd_paths_work(tmp_path):
    folder = tmp_path / "a 100% odd, ü" / "deeper"
    with TraceStore(folder / "x.db") as store:
        store.record(row(1))
        assert ids(store) == ["1"]
    with TraceStore(f"sqlite:///{folder / 'y.db'}") as store:
        store.check()
    assert (folder / "y.db").exists()


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("sqlite://", "must name a SQLite file"),
        ("sqlite:///:memory:", "must name a SQLite file"),
        ("", "is empty"),
        ("mysql://user:hunter2@host/db", "must be of SQLite"),
        ("post gres://user:hunter2", "cannot be read|must be of SQLite"),
    ],
)
def test_other_urls_are_refused_without_showing_them(url, match):
    with pytest.raises(ValueError, match=match) as caught:
        TraceStore(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"queue_size": 0},
        {"queue_bytes": 0},
        {"retention_days": 0},
        {"retention_days": float("nan")},
        {"busy_seconds": 0},
    ],
)
def test_arguments_are_checked(path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TraceStore(path, **options)


def test_an_older_database_is_brought_up_to_date_with_its_rows(path, tmp_path, monkeypatch):
    with TraceStore(path) as store:
        store.record(row(1))
    folder = tmp_path / "migrations"
    shutil.copytree(traces_database.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "v9999_more.py").write_text(
        f"revision = '9999'\ndown_revision = {traces_database.HEAD!r}\n"
        "def upgrade():\n    import sqlalchemy as sa\n    from alembic import op\n"
        "    op.add_column('dsplus_traces', sa.Column('more', sa.Text()))\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(traces_database, "MIGRATIONS", folder)
        patch.setattr(traces_database, "HEAD", "9999")
        with TraceStore(path) as store:
            store.record(row(2))
            assert ids(store) == ["1", "2"]
    assert direct(path, "SELECT more FROM dsplus_traces") == [(None,), (None,)]
    with TraceStore(path) as store, pytest.raises(RuntimeError, match="newer langchain-dsplus"):
        store.check()


def test_a_step_that_fails_leaves_nothing_behind(path, tmp_path, monkeypatch):
    folder = tmp_path / "migrations"
    shutil.copytree(traces_database.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "v9999_more.py").write_text(
        f"revision = '9999'\ndown_revision = {traces_database.HEAD!r}\n"
        "def upgrade():\n    from alembic import op\n"
        "    op.execute('CREATE TABLE half (x)')\n    raise OSError\n"
    )
    monkeypatch.setattr(traces_database, "MIGRATIONS", folder)
    monkeypatch.setattr(traces_database, "HEAD", "9999")
    with TraceStore(path) as store, pytest.raises(OSError):
        store.check()
    assert direct(path, "SELECT name FROM sqlite_master") == []


def test_the_newest_step_is_the_one_the_store_expects():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(traces_database.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == traces_database.HEAD


def test_a_missing_extra_is_named(path):
    code = f"import sys; sys.modules['sqlalchemy'] = None\nfrom langchain_dsplus.traces.store import TraceStore\nTraceStore({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "langchain-dsplus[store]" in done.stderr


def test_importing_the_module_imports_no_database():
    code = "import sys, langchain_dsplus.traces.store; print('sqlalchemy' in sys.modules, 'alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "False",
        "False",
    ]


def test_no_password_in_its_name():
    pytest.importorskip("psycopg")
    assert "hunter2" not in repr(TraceStore("postgresql://u:hunter2@127.0.0.1:1/x"))


def test_rows_are_json_lines_that_another_reader_understands(path, store):
    store.record(row(1))
    store.flush()
    ((body,),) = direct(path, "SELECT body FROM dsplus_traces")
    assert json.loads(body)["route_id"] == "1"


# --- rows that no database takes --------------------------------------------------------------------------------------


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**63, 2**64, 10**400, float("inf"), float("nan"), "\ud800", "\x00", "a\x00b", "", "x" * 10_000, b"\xff", object()]),
    st.text(alphabet=st.characters(exclude_categories=()), max_size=5),
)  # fmt: skip
COLUMNS = (
    "uid",
    "kind",
    "route_id",
    "router",
    "model",
    "cost",
    "time",
    "input",
    "output",
    "usage",
    "route",
    "certificate",
)


@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), ODD, max_size=6), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_an_odd_row_is_kept_or_counted_and_holds_up_no_other(tmp_path, odd):
    with TraceStore(tmp_path / f"{time.monotonic_ns()}.db", price=Price(1, 1)) as store:
        for number, body in enumerate(odd):
            store.record({**row(f"odd-{number}"), **body})
            store.record(row(f"good-{number}"))
        assert store.flush(20)
        assert (store.pending, store.failures) == (0, 0)
        assert store.written + store.errors == 2 * len(odd)
        assert {f"good-{n}" for n in range(len(odd))} <= set(ids(store))


@pytest.mark.parametrize(
    "error",
    [
        lambda: UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        lambda: OverflowError("Python int too large to convert to SQLite INTEGER"),
        lambda: sa.exc.DataError("x", None, ValueError()),
        lambda: sa.exc.StatementError("x", "x", None, TypeError()),
        lambda: ValueError("A string literal cannot contain NUL (0x00) characters."),
    ],
)
def test_a_row_that_the_database_refuses_is_set_aside_alone(path, monkeypatch, error):
    with TraceStore(path) as store:
        insert = store._insert

        def refuse(connection, rows, **more):
            if any(one["route_id"] == "bad" for one in rows):
                raise error()
            return insert(connection, rows, **more)

        monkeypatch.setattr(store, "_insert", refuse)
        for name in ("one", "bad", "two"):
            store.record(row(name))
        assert store.flush(20)
        assert (store.errors, store.failures, store.pending) == (1, 0, 0)
        assert ids(store) == ["one", "two"]


def test_an_error_of_the_connection_is_no_fault_of_the_rows(path, monkeypatch):
    with TraceStore(path) as store:
        connect, failing = store._database.connect, [ValueError("down"), ValueError("down")]
        monkeypatch.setattr(
            store._database, "connect", lambda: (_ for _ in ()).throw(failing.pop()) if failing else connect()
        )
        store.record(row("one"))
        assert store.flush(20)
        assert (store.errors, store.failures) == (0, 2)
        assert ids(store) == ["one"]


def test_equal_odd_uids_stay_equal(path):
    with TraceStore(path) as store:
        for _ in range(2):
            store.record(row("one", uid=2**64))
        assert store.flush(20)
        assert ids(store) == ["one"]
