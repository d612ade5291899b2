"""Asking a small model on a router's behalf: time limits, shared calls, and whatever goes wrong as an exception."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables.config import set_config_context

from langchain_dsplus.answer import Answer, AttachmentError, InvalidAnswerError, describe_error, pass_on
from langchain_dsplus.routing.microbatch import MicroBatcher

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langchain_dsplus.scores.protocol import Rated
    from langchain_dsplus.small_models.base import SmallModel

logger = logging.getLogger(__name__)
T = TypeVar("T")
_MAX_HUNG = 8


class SmallModelTimeoutError(TimeoutError):
    """A small model took longer than `small_timeout`. Such inputs escalate."""


class Asker:
    """Asks one small model. What it raises comes back in place of the answers, so that those inputs escalate.

    Args:
        model: The small model, or one with a score around it.
        name: Its name in routes and logs.
        timeout: Seconds that one call may take.
        batch_wait: Seconds that concurrent single inputs in async code may wait for each other; None asks at once.
        batch_size: Inputs in such a shared call at most.
    """

    def __init__(
        self,
        model: SmallModel | Rated,
        name: str,
        *,
        timeout: float | None = None,
        batch_wait: float | None = None,
        batch_size: int = 64,
    ) -> None:
        self.model = model
        self.name = name
        self.timeout = timeout
        self._batcher: MicroBatcher | None = None
        if batch_wait is not None:
            self._batcher = MicroBatcher(self._aanswers, max_wait=batch_wait, max_size=batch_size)
        self._hung = 0
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def ask(
        self,
        values: Sequence[Any],
        configs: Sequence[RunnableConfig] | None = None,
        within: RunnableConfig | None = None,
    ) -> Sequence[Answer | Exception]:
        """Ask about a batch.

        Args:
            values: The inputs.
            configs: Child configs, for a model whose calls are traced.
            within: For an embedded model: the config that Runnables inside it inherit.
        """
        try:
            job = self._job(values, configs, within)
            return self._checked(job() if self.timeout is None else self._wait(job), values)
        except Exception as error:  # noqa: BLE001 - judged by whoever asked
            return self._checked([error] * len(values), values)

    async def aask(
        self,
        values: Sequence[Any],
        configs: Sequence[RunnableConfig] | None = None,
        within: RunnableConfig | None = None,
    ) -> Sequence[Answer | Exception]:
        """Async twin of `ask`."""
        try:
            if self._batcher is not None and len(values) == 1:
                results: Sequence[Answer | Exception] = [
                    await self._batcher.ask(values[0], configs[0] if configs else None)
                ]
            else:
                results = await self._aanswers(values, configs, within)
            return self._checked(results, values)
        except Exception as error:  # noqa: BLE001 - judged by whoever asked
            return self._checked([error] * len(values), values)

    def _job(
        self, values: Sequence[Any], configs: Sequence[RunnableConfig] | None, within: RunnableConfig | None
    ) -> Callable[[], Sequence[Answer | Exception]]:
        if within is None:
            return lambda: self.model.answers(values, configs)

        def inside() -> Sequence[Answer | Exception]:
            with set_config_context(within) as context:
                return context.run(self.model.answers, values, configs)

        return inside

    async def _aanswers(
        self,
        values: Sequence[Any],
        configs: Sequence[RunnableConfig] | None,
        within: RunnableConfig | None = None,
    ) -> Sequence[Answer | Exception]:
        if self.timeout is not None and not self.model.traces_calls:
            return self._complete(await self._await_thread(self._job(values, configs, within)), values)
        asked = self.model.aanswers(values, configs)
        if within is not None:
            with set_config_context(within) as context:
                return self._complete(await asyncio.get_running_loop().create_task(asked, context=context), values)
        if self.timeout is None:
            return self._complete(await asked, values)
        try:
            return self._complete(await asyncio.wait_for(asked, self.timeout), values)
        except TimeoutError:
            raise self._timed_out() from None

    @staticmethod
    def _complete(results: Sequence[Answer | Exception], values: Sequence[Any]) -> Sequence[Answer | Exception]:
        if len(results) != len(values):
            raise InvalidAnswerError(f"the small model returned {len(results)} answers for {len(values)} inputs")
        return results

    def _checked(self, results: Sequence[Answer | Exception], values: Sequence[Any]) -> Sequence[Answer | Exception]:
        """Say once for each kind of failure that inputs escalate because of it: that costs money."""
        results = pass_on(self._complete(results, values))
        for result in results:
            if isinstance(result, Exception):
                self._warn(result, values)
        return results

    def _warn(self, error: Exception, values: Sequence[Any]) -> None:
        kind = type(error).__name__
        if kind in self._warned:
            return
        self._warned.add(kind)
        hint = ""
        unnamed = self.model.input_key is None and any(isinstance(value, Mapping) for value in values)
        if unnamed and not isinstance(error, AttachmentError):
            hint = "; its inputs are dicts: is `input_key=` missing?"
        logger.warning(
            "small model %r failed with %s: such inputs escalate to the large model; ask it alone for one to see why%s",
            self.name,
            describe_error(error),
            hint,
        )

    # --- the time limit -----------------------------------------------------------------------------------------

    def _timed_out(self) -> SmallModelTimeoutError:
        return SmallModelTimeoutError(f"no answer within {self.timeout:g} s")

    def _wait(self, job: Callable[[], T]) -> T:
        future = self._in_thread(job)
        try:
            return future.result(self.timeout)
        except FutureTimeoutError:
            if future.done():  # the model's own error
                raise
            self._abandon(future)
            raise self._timed_out() from None

    async def _await_thread(self, job: Callable[[], T]) -> T:
        future = self._in_thread(job)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.timeout)
        except TimeoutError:
            if future.done():
                raise
            self._abandon(future)
            raise self._timed_out() from None
        except asyncio.CancelledError:
            self._abandon(future)
            raise

    def _in_thread(self, job: Callable[[], T]) -> Future[T]:
        """Run a job in a daemon thread, so that one that hangs holds up neither an executor nor the exit."""
        if self._hung >= _MAX_HUNG:  # do not pile up threads behind a model that hangs
            raise self._timed_out()
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on a cancelled waiter leaves it alone
        context = contextvars.copy_context()

        def work() -> None:
            try:
                result = context.run(job)
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="dsplus-small", daemon=True).start()
        return future

    def _abandon(self, future: Future[Any]) -> None:
        """Count a call that nobody waits for any more, until it comes back after all."""

        def recovered(_: Future[Any]) -> None:
            with self._lock:
                self._hung -= 1

        with self._lock:
            self._hung += 1
        future.add_done_callback(recovered)
