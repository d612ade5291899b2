"""Asking several at a time, where each answer is kept by whoever asked, before anything else is asked there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig


@dataclass(frozen=True)
class AskEach:
    """Several questions, each to a chain; a `Work` of `_drive`.

    A thread or task takes its answer before it asks again. So a kill costs the calls in flight and no answer more:
    where one reader took all of them, whatever had come while it wrote was lost.

    Attributes:
        questions: Chain and input.
        configs: One for each.
        take: Gets the place and the output, or the `Exception` in its place; called by one thread at a time. What it
            raises ends the asking: nothing more is asked, since its answer could not be kept either.
    """

    questions: Sequence[tuple[Runnable[Any, Any], Any]]
    configs: list[RunnableConfig]
    take: Callable[[int, Any], None]

    def run(self) -> None:
        """Ask in threads."""
        places = [*range(len(self.questions))]
        found = _Lane(self).batch_as_completed(places, self.configs, return_exceptions=True)
        _raise_first(failed for _, failed in found)

    async def arun(self) -> None:
        """Ask in tasks."""
        places = [*range(len(self.questions))]
        found = _Lane(self).abatch_as_completed(places, self.configs, return_exceptions=True)
        _raise_first([failed async for _, failed in found])


def _raise_first(failed: Iterable[Exception | None]) -> None:
    """Wait for all, since calls may be under way, and raise what ended the asking."""
    first = [error for error in failed if error is not None][:1]
    if first:
        raise first[0]


@dataclass
class _Lane(Runnable[int, "Exception | None"]):
    """One question: asked, and its answer taken. No run of its own in traces."""

    job: AskEach
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: BaseException | None = None

    def invoke(self, input: int, config: RunnableConfig | None = None, **kwargs: Any) -> None:
        chain, value = self._question(input)
        try:
            output = chain.invoke(value, config, **kwargs)
        except Exception as error:  # noqa: BLE001 - `take` judges it
            output = error
        with self.lock:
            self._take(input, output)

    async def ainvoke(self, input: int, config: RunnableConfig | None = None, **kwargs: Any) -> None:
        chain, value = self._question(input)
        try:
            output = await chain.ainvoke(value, config, **kwargs)
        except Exception as error:  # noqa: BLE001 - `take` judges it
            output = error
        self._take(input, output)

    def _question(self, place: int) -> tuple[Runnable[Any, Any], Any]:
        if self.ended is not None:
            raise self.ended
        return self.job.questions[place]

    def _take(self, place: int, output: Any) -> None:
        try:
            self.job.take(place, output)
        except BaseException as error:
            self.ended = error
            raise
