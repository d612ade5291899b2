"""Bounded background work."""

import asyncio
import os
import threading

import pytest

from langchain_dsplus.routing.background import Background


def test_jobs_run_and_drain_waits_for_them():
    work = Background(workers=2)
    done = []
    for number in range(20):
        assert work.submit(lambda number=number: done.append(number))
    assert work.drain(5)
    assert sorted(done) == list(range(20))
    assert work.pending == 0


def test_no_more_than_its_limit_and_its_workers():
    work = Background(workers=2, limit=3)
    gate = threading.Event()
    names = set()

    def job():
        names.add(threading.get_ident())
        gate.wait(5)

    assert [work.submit(job) for _ in range(5)] == [True, True, True, False, False]
    assert work.skipped == 2
    assert not work.drain(0.05)
    gate.set()
    assert work.drain(5)
    assert len(names) <= 2


def test_a_job_that_raises_is_counted_and_the_worker_lives_on(caplog):
    work = Background(workers=1)
    done = []

    def fail():
        raise RuntimeError("a user's text")

    work.submit(fail)
    work.submit(lambda: done.append(1))
    assert work.drain(5)
    assert (work.failed, done) == (1, [1])
    assert "RuntimeError" in caplog.text
    assert "a user's text" not in caplog.text


async def test_tasks():
    work = Background(limit=2)
    done = []

    async def job():
        await asyncio.sleep(0.01)
        done.append(1)

    assert [work.spawn(job) for _ in range(3)] == [True, True, False]
    assert not await work.adrain(0.001)
    assert await work.adrain(5)
    assert len(done) == 2


async def test_adrain_waits_for_threads_too():
    work = Background()
    gate = threading.Event()
    work.submit(lambda: gate.wait(5))
    assert not await work.adrain(0.02)
    gate.set()
    assert await work.adrain(5)


@pytest.mark.parametrize("kwargs", [{"workers": 0}, {"limit": 0}])
def test_bad_sizes_are_refused(kwargs):
    with pytest.raises(ValueError, match="at least 1"):
        Background(**kwargs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_its_own_threads():
    work = Background()
    work.submit(lambda: None)
    assert work.drain(5)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        done = threading.Event()
        work.submit(done.set)
        os._exit(0 if done.wait(5) else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
