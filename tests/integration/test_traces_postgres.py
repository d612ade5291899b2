"""The trace store on a real PostgreSQL, started for these tests on a free port."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.traces.store import TraceStore
from tests.postgres import free_port
from tests.unit.traces.stores import ids, row, write_and_kill

psycopg = pytest.importorskip("psycopg", reason="psycopg 3 is not installed (extra `postgres`)")


@pytest.fixture
def url(database):
    return database.fresh("traces")


def test_rows_come_back(url):
    odd = {"text": "\ud800 half, \x00 nothing, ü, 中", "big": 2**70}
    with TraceStore(url) as store:
        store.record(row(1, input=odd, router="r\x00\ud800"))
        store.record(row("n\x00m"))
        found = list(store.rows())
        assert found[0]["input"] == odd
        assert [r["route_id"] for r in found] == ["1", "n\x00m"]
        assert ids(store, route_id="n\x00m") == ["n\x00m"]
        assert ids(store, router="r\x00\ud800") == ["1"]
        assert (store.written, store.errors, store.failures) == (2, 0, 0)


def test_decisions_with_gold_become_outcomes(url):
    answer = {"choice": "pos", "probabilities": {"pos": 0.9, "neg": 0.1}, "confidence": 0.9}
    route = {"route_id": "1", "model": "large", "accepted": False, "threshold": None, "answers": [], "reason": "shadow"}
    with TraceStore(url) as store:
        assert store.add_gold({"1": "pos"}) == 1, "gold may come first"
        store.record(row(1, route=route, output="neg"))
        store.record({"kind": "shadow", "route_id": "1", "router": "r", "answers": [answer]})
        (found,) = store.to_outcomes().to_records()
        assert (found["small"], found["large"], found["gold"]) == ("pos", "neg", "pos")
        assert len(Outcomes.from_traces(store.rows())) == 1


def test_import_adds_nothing_twice(url, tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text('{"input": "a", "output": "b"}\n' * 700)
    with TraceStore(url) as store:
        assert store.import_calls(path) == 700
        assert store.import_calls(path) == 0
        assert len(ids(store, kind="call")) == 700


def test_who_follows_sees_a_row_that_is_committed_after_a_later_one(url):
    with TraceStore(url) as store:
        news = store.follow()
        store.check()
        with psycopg.connect(url.replace("+psycopg", "")) as slow:  # it has its number, and is not committed yet
            slow.execute(
                "INSERT INTO dsplus_traces (uid, time_us, kind, route_id, body)"
                " VALUES ('slow', 0, 'route', 'slow', '{\"route_id\": \"slow\"}')"
            )
            store.record(row("quick"))
            assert [r["route_id"] for r in news.rows()] == ["quick"]
        assert [r["route_id"] for r in news.rows()] == ["slow"]
        assert not list(news.rows())


def test_retention(url):
    with TraceStore(url) as store:
        for number in range(600):
            store.record(row(number, time=(datetime.now(UTC) - timedelta(days=9)).isoformat()))
        store.record(row("new"))
        store.flush()
        assert store.prune(3) == 600
        assert ids(store) == ["new"]


def test_processes_start_at_once_and_one_is_killed(url):
    kept = write_and_kill(url, rows=100, flushed=60)
    with TraceStore(url) as store:
        found = ids(store)
    assert len(found) == len(set(found))
    assert kept <= set(found)


def test_a_connection_that_is_cut_costs_no_row(database, url):
    with TraceStore(url) as store:
        store.record(row(1))
        assert store.flush()
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'traces'")
        store.record(row(2))
        assert store.flush()
        assert ids(store) == ["1", "2"]
        assert store.failures >= 1


def test_a_restart_costs_no_row_and_no_answer_waits(database, url):
    with TraceStore(url, busy_seconds=2) as store:
        store.record(row(0))
        assert store.flush()
        database.stop()
        started = time.perf_counter()
        for number in range(1, 50):
            store.record(row(number))
        assert time.perf_counter() - started < 0.5
        assert store.flush(0.3) is False
        database.start()
        assert store.flush(30)
        assert ids(store) == [str(n) for n in range(50)]
        assert (store.written, store.dropped, store.errors) == (50, 0, 0)


def test_a_row_that_the_database_refuses_takes_no_other_with_it(database, url):
    with TraceStore(url) as store:
        store.check()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE dsplus_traces ADD CHECK (route_id <> '7')")
        for number in range(20):
            store.record(row(number))
        assert store.flush()
        assert ids(store) == [str(n) for n in range(20) if n != 7]
        assert (store.written, store.errors) == (19, 1)


FORK = """
import os, sys
from langchain_dsplus.traces.store import TraceStore
store = TraceStore(sys.argv[1])

def row(name):
    return {"kind": "route", "route_id": name, "router": "r"}

store.record(row("before"))
store.flush()
pid = os.fork()
if pid == 0:
    store.record(row("child"))
    sys.exit(0)  # it ends as a program does: the connection of the parent must live on
assert os.waitpid(pid, 0)[1] == 0
store.record(row("after"))
assert store.flush() and store.failures == 0, store.failures
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_a_connection_of_its_own(url):
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, url], check=True, timeout=60)
    with TraceStore(url) as store:
        assert ids(store) == ["before", "child", "after"]


def test_a_server_that_is_not_there_stops_no_start():
    store = TraceStore(f"postgresql://tester:hunter2@127.0.0.1:{free_port()}/x", busy_seconds=1)
    store.record(row(1))
    assert store.flush(0.5) is False
    with pytest.raises(Exception, match=r"(?i)connection") as caught:
        store.check()
    assert "hunter2" not in str(caught.value)
    store.close(0.1)
    assert (store.dropped, store.pending) == (1, 0)
