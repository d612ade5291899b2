"""Batching across concurrent `ainvoke`s: one call of the small model for many waiting inputs."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langchain_dsplus.answer import Answer

AskBatch: TypeAlias = "Callable[[list[Any], list[RunnableConfig] | None], Awaitable[Sequence[Answer | Exception]]]"
_Waiting = tuple[Any, "RunnableConfig | None", "asyncio.Future[Answer | Exception]"]


class _Queue:
    __slots__ = ("tasks", "timer", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Waiting] = []
        self.timer: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()


class MicroBatcher:
    """Collects inputs until `max_size` wait, or the first of them has waited `max_wait` seconds.

    Args:
        ask_batch: Answers a list of inputs, with their configs.
        max_wait: Seconds that batching may add to an input at most.
        max_size: Inputs in one call at most.
    """

    def __init__(self, ask_batch: AskBatch, *, max_wait: float, max_size: int) -> None:
        self.ask_batch = ask_batch
        self.max_wait = max_wait
        self.max_size = max_size
        self._queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue] = weakref.WeakKeyDictionary()

    async def ask(self, value: Any, config: RunnableConfig | None) -> Answer | Exception:
        """Answer one input, together with whoever else is waiting."""
        loop = asyncio.get_running_loop()
        waiting = self._queues.setdefault(loop, _Queue())
        future: asyncio.Future[Answer | Exception] = loop.create_future()
        waiting.waiting.append((value, config, future))
        if len(waiting.waiting) >= self.max_size:
            self._flush(waiting)
        elif waiting.timer is None:
            # An empty context: the shared call belongs to nobody, and must not run with one caller's variables.
            waiting.timer = loop.call_later(self.max_wait, self._flush, waiting, context=contextvars.Context())
        return await future

    def _flush(self, waiting: _Queue) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None
        batch = [entry for entry in waiting.waiting if not entry[2].done()]  # a cancelled caller waits no more
        waiting.waiting = []
        if batch:
            loop = asyncio.get_running_loop()
            task = loop.create_task(self._answer(batch), context=contextvars.Context())
            waiting.tasks.add(task)
            task.add_done_callback(waiting.tasks.discard)

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        results: Sequence[Answer | Exception]
        try:
            configs = [config for _, config, _ in batch if config is not None]
            results = await self.ask_batch([value for value, _, _ in batch], configs or None)
        except Exception as error:  # noqa: BLE001
            results = [error] * len(batch)
        except BaseException as error:
            for _, _, future in batch:  # else they would wait for ever
                if not future.done():
                    if isinstance(error, asyncio.CancelledError):
                        future.cancel()
                    else:
                        future.set_exception(error)
            raise
        for (_, _, future), result in zip(batch, results, strict=False):
            if not future.done():
                future.set_result(result)
