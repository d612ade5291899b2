"""Bounded background work: shadow answers and audits, which no reply waits for."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - registers its own exit hook, see the end
import contextvars
import logging
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

logger = logging.getLogger(__name__)

_ALL: weakref.WeakSet[Background] = weakref.WeakSet()
_EXIT_SECONDS = 10.0
_IDLE_SECONDS = 5.0
_Jobs: TypeAlias = "queue.SimpleQueue[tuple[Callable[[], Any], int]]"


class Background:
    """Runs jobs in a few daemon threads, or as tasks in async code, and bounds how much may wait.

    Args:
        workers: Threads at most. One that has nothing to do for a while ends.
        limit: While this many inputs wait or run, further jobs are skipped and counted.

    Attributes:
        skipped: Inputs whose job was not taken, since too many waited, or was lost with its event loop.
        failed: Inputs whose job raised.
    """

    def __init__(self, workers: int = 2, limit: int = 256) -> None:
        if workers < 1 or limit < 1:
            raise ValueError("`workers` and `limit` must be at least 1")
        self.workers = workers
        self.limit = limit
        self.skipped = 0
        self.failed = 0
        self._reset()
        _ALL.add(self)

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._queue: _Jobs = queue.SimpleQueue()
        self._idle = threading.Condition()
        self._pending = 0
        self._threads = 0
        self._tasks: dict[asyncio.Task[Any], int] = {}

    def _admit(self, size: int) -> bool:
        if self._pid != os.getpid():  # a forked child has this object, but none of its threads
            self._reset()
        with self._idle:
            if self._pending >= self.limit:
                self.skipped += size
                return False
            self._pending += size
            return True

    def _done(self, size: int, error: BaseException | None = None, *, lost: bool = False) -> None:
        if error is not None:
            # The type only: the message may hold a user's text.
            logger.warning("background work of a ConfidenceRouter failed: %s", type(error).__name__)
        with self._idle:
            self.failed += size * (error is not None)
            self.skipped += size * lost
            self._pending -= size
            self._idle.notify_all()

    def submit(self, job: Callable[[], Any], size: int = 1) -> bool:
        """Run a job for `size` inputs in a thread, in a copy of this context. Returns False where too much waits."""
        if not self._admit(size):
            return False
        context = contextvars.copy_context()
        self._queue.put((lambda: context.run(job), size))
        with self._idle:
            start = self._threads < min(self.workers, self._pending)
            self._threads += start
        if start:
            threading.Thread(target=self._work, args=(self._queue,), name="dsplus-background", daemon=True).start()
        return True

    def spawn(self, job: Callable[[], Coroutine[Any, Any, Any]], size: int = 1) -> bool:
        """Run a coroutine for `size` inputs as a task of the running loop. Returns False where too much waits."""
        if not self._admit(size):
            return False
        task = asyncio.get_running_loop().create_task(job())
        self._tasks[task] = size
        task.add_done_callback(self._task_done)
        return True

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        size = self._tasks.pop(task, None)
        if size is None:
            return
        if task.cancelled():
            self._lose(size)
        else:
            self._done(size, task.exception())

    def _lose(self, size: int) -> None:
        logger.warning(
            "background work for %d inputs was lost with its event loop: `await router.adrain()` before it ends", size
        )
        self._done(size, lost=True)

    def _work(self, jobs: _Jobs) -> None:
        while True:
            try:
                job, size = jobs.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._idle:
                    if jobs.empty():  # a job put after this finds one thread less, and starts another
                        self._threads -= 1
                        return
                continue
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - in this thread there is nobody to pass it on to
                self._done(size, error)
            else:
                self._done(size)
            del job

    @property
    def pending(self) -> int:
        """Inputs whose jobs wait or run."""
        return self._pending if self._pid == os.getpid() else 0

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits or runs. Returns False when the time ran out first.

        Raises:
            RuntimeError: In a running event loop that has tasks to finish, since waiting would block them.
        """
        if self._pid != os.getpid():
            return True
        self._forget_dead_tasks()
        here = _running_loop()
        for loop in {task.get_loop() for task in self._tasks}:
            if loop is here:
                raise RuntimeError("`drain` would block the event loop that it waits for: use `await router.adrain()`")
            if not loop.is_running():
                raise RuntimeError(
                    "the event loop of background work is not running: `loop.run_until_complete(router.adrain())`"
                )
        with self._idle:
            return self._idle.wait_for(lambda: self._pending == 0, timeout)

    def _forget_dead_tasks(self) -> None:
        """A task of a closed loop can never finish: do not wait for it."""
        for task in [t for t in self._tasks if t.get_loop().is_closed()]:
            size = self._tasks.pop(task, None)
            if size is not None:
                self._lose(size)

    async def adrain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Async twin of `drain`."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._forget_dead_tasks()
            if not self.pending:
                return True
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            tasks = [t for t in self._tasks if t.get_loop() is asyncio.get_running_loop()]
            if tasks:
                await asyncio.wait(tasks, timeout=left)
                await asyncio.sleep(0)  # lets the done callbacks count
            else:
                await asyncio.sleep(0.005)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def drain_all() -> None:
    """Give all background work of this process a last while to finish; what does not is logged."""
    end = time.monotonic() + _EXIT_SECONDS
    for background in list(_ALL):
        try:
            if background.pending and not background.drain(max(0.0, end - time.monotonic())):
                logger.warning("background work for %d inputs was not finished at exit", background.pending)
        except RuntimeError:
            logger.warning("background work for %d inputs was lost with its event loop", background.pending)


# Thread pools stop taking work before `atexit` runs, and `Runnable.batch` needs one: drain before they stop. Hooks run
# in reverse order, so the pools' own must be there first.
try:
    threading._register_atexit(drain_all)  # type: ignore[attr-defined]  # noqa: SLF001
except (AttributeError, RuntimeError):
    atexit.register(drain_all)
