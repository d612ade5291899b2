"""Bounded background work: shadow answers and audits, which no reply waits for."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

_ALL: weakref.WeakSet[Background] = weakref.WeakSet()
_EXIT_SECONDS = 10.0


class Background:
    """Runs jobs in a few daemon threads, or as tasks in async code; at most `limit` jobs wait or run at a time.

    Args:
        workers: Threads at most.
        limit: Jobs that may wait or run at a time. One more is skipped and counted.

    Attributes:
        skipped: Jobs that were not taken, since the queue was full.
        failed: Jobs that raised.
    """

    def __init__(self, workers: int = 2, limit: int = 256) -> None:
        if workers < 1 or limit < 1:
            msg = "`workers` and `limit` must be at least 1"
            raise ValueError(msg)
        self.workers = workers
        self.limit = limit
        self.skipped = 0
        self.failed = 0
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._queue: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._pending = 0
        self._threads = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    def _admit(self) -> bool:
        if self._pid != os.getpid():  # a forked child has this object, but none of its threads
            self._reset()
        with self._idle:
            if self._pending >= self.limit:
                self.skipped += 1
                return False
            self._pending += 1
            return True

    def _done(self, error: BaseException | None = None) -> None:
        if error is not None:
            # The type only: the message may hold a user's text.
            logger.warning("background work of a ConfidenceRouter failed: %s", type(error).__name__)
        with self._idle:
            self.failed += error is not None
            self._pending -= 1
            self._idle.notify_all()

    def submit(self, job: Callable[[], Any]) -> bool:
        """Run a job in a thread, in a copy of this context. Returns False where the queue is full."""
        if not self._admit():
            return False
        context = contextvars.copy_context()
        self._queue.put(lambda: context.run(job))
        with self._idle:
            start = self._threads < min(self.workers, self._pending)
            self._threads += start
        if start:
            threading.Thread(target=self._work, args=(self._queue,), name="dsplus-background", daemon=True).start()
        return True

    def spawn(self, job: Callable[[], Coroutine[Any, Any, Any]]) -> bool:
        """Run a coroutine as a task of the running loop. Returns False where the queue is full."""
        if not self._admit():
            return False
        task = asyncio.get_running_loop().create_task(job())
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return True

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._done(None if task.cancelled() else task.exception())

    def _work(self, jobs: queue.SimpleQueue[Callable[[], Any]]) -> None:
        while True:
            job = jobs.get()
            try:
                job()
            except Exception as error:  # noqa: BLE001
                self._done(error)
            else:
                self._done()
            del job

    @property
    def pending(self) -> int:
        """Jobs that wait or run."""
        return self._pending if self._pid == os.getpid() else 0

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits or runs. Returns False when the time ran out first.

        Raises:
            RuntimeError: In a running event loop that has tasks to finish, since waiting would block them.
        """
        if self._pid != os.getpid():
            return True
        if self._tasks:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self._forget_dead_tasks()
            else:
                if any(task.get_loop() is loop for task in self._tasks):
                    msg = "`drain` would block the event loop that it waits for: use `await router.adrain()`"
                    raise RuntimeError(msg)
        with self._idle:
            return self._idle.wait_for(lambda: self._pending == 0, timeout)

    def _forget_dead_tasks(self) -> None:
        """A task of a closed loop can never finish: do not wait for it."""
        for task in [t for t in self._tasks if t.get_loop().is_closed()]:
            self._tasks.discard(task)
            task.remove_done_callback(self._task_done)
            self._done()

    async def adrain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Async twin of `drain`."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.pending:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            tasks = [t for t in self._tasks if t.get_loop() is asyncio.get_running_loop()]
            if tasks:
                await asyncio.wait(tasks, timeout=left)
                await asyncio.sleep(0)  # lets the done callbacks count
            else:
                await asyncio.sleep(0.005)
        return True


def _drain_all() -> None:
    end = time.monotonic() + _EXIT_SECONDS
    for background in list(_ALL):
        if background.pending and not background.drain(max(0.0, end - time.monotonic())):
            logger.warning("%d background jobs were not finished at exit", background.pending)


atexit.register(_drain_all)
