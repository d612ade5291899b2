"""Batching across concurrent `ainvoke`s: one call of the small model for many waiting inputs."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig

    from langchain_dsplus.answer import Answer
    from langchain_dsplus.small_models.base import SmallModel

_Waiting = tuple[Any, "RunnableConfig", "asyncio.Future[Answer | Exception]"]


class _Queue:
    __slots__ = ("tasks", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Waiting] = []
        self.timer: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()


class MicroBatcher:
    """Collects inputs until `max_size` wait, or the first of them has waited `max_wait` seconds.

    Args:
        model: The small model to ask.
        max_wait: Seconds that batching may add to an input at most.
        max_size: Inputs in one call at most.
    """

    def __init__(self, model: SmallModel, *, max_wait: float, max_size: int) -> None:
        self.model = model
        self.max_wait = max_wait
        self.max_size = max_size
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = weakref.WeakKeyDictionary()

    async def ask(self, value: Any, config: RunnableConfig) -> Answer | Exception:
        """Answer one input, together with whoever else is waiting."""
        loop = asyncio.get_running_loop()
        waiting = self._queues.setdefault(loop, _Queue())
        future: asyncio.Future[Answer | Exception] = loop.create_future()
        waiting.waiting.append((value, config, future))
        if len(waiting.waiting) >= self.max_size:
            self._flush(waiting)
        elif waiting.timer is None:
            waiting.timer = loop.call_later(self.max_wait, self._flush, waiting)
        return await future

    def _flush(self, waiting: _Queue) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        batch = [entry for entry in waiting.waiting if not entry[2].done()]  # a cancelled caller waits no more
        waiting.waiting = []
        if batch:
            task = asyncio.get_running_loop().create_task(self._answer(batch))
            waiting.tasks.add(task)
            task.add_done_callback(waiting.tasks.discard)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        results: Sequence[Answer | Exception]
        try:
            results = await self.model.aanswers([value for value, _, _ in batch], [config for _, config, _ in batch])
        except Exception as error:  # noqa: BLE001
            results = [error] * len(batch)
        for (_, _, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
