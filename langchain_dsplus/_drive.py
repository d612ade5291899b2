"""One plan, two drivers: what is done stands once, as a generator, and sync and async code both drive it.

A plan yields what it needs done and gets back what came of it; what was raised is thrown into it. It knows nothing of
sync or async. The idea is that of httpx' `auth_flow`.

A nested plan (`yield from`) is closed by a `GeneratorExit` and may not ask for more then; the outermost gets it thrown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from langchain_dsplus.answer import unhidden

T = TypeVar("T")
Plan: TypeAlias = Generator[Any, Any, T]
"""Yields what it needs done, gets what came of it, returns its result."""


class Work(Protocol):
    """Something to be done, in sync and in async code."""

    def run(self) -> Any:
        """Do it."""

    def arun(self) -> Awaitable[Any]:
        """Async twin of `run`."""


class Call:
    """A call of a function, or in async code of its async twin, with the same arguments.

    Example:
        >>> Call(max, None, 1, 2).run()
        2
    """

    __slots__ = ("args", "asynchronous", "function", "kwargs")

    def __init__(self, function: Any, asynchronous: Any, /, *args: Any, **kwargs: Any) -> None:
        self.function = function
        self.asynchronous = asynchronous
        self.args = args
        self.kwargs = kwargs

    def run(self) -> Any:
        """Call the function."""
        return self.function(*self.args, **self.kwargs)

    def arun(self) -> Awaitable[Any]:
        """Call the async one."""
        found: Awaitable[Any] = self.asynchronous(*self.args, **self.kwargs)
        return found


class Attempt(Call):
    """A call whose plan gets what it raises, whatever that is, in the place of a result: nothing is thrown into it."""

    __slots__ = ()


class Every(NamedTuple):
    """Several things: one after the other, in async code at once. Gives a list."""

    works: Sequence[Work]

    def run(self) -> list[Any]:
        """Do all of them."""
        return [work.run() for work in self.works]

    async def arun(self) -> list[Any]:
        """Async twin of `run`."""
        return list(await asyncio.gather(*(work.arun() for work in self.works)))


class Out(NamedTuple):
    """What a plan for `iterate` gives to its consumer."""

    value: Any


def told(function: Callable[..., Any], *args: Any) -> Call:
    """A call of a method that has one name in both worlds, as those of LangChain's run managers."""
    return Call(function, function, *args)


def _do(work: Work) -> Any:
    return work.run()


def _ado(work: Work) -> Awaitable[Any]:
    return work.arun()


def _failed(plan: Plan[Any], work: Any, error: BaseException) -> Any:
    """Tell the plan that its work raised something; what it wants next."""
    return plan.send(error) if isinstance(work, Attempt) else plan.throw(unhidden(error))


def run(plan: Plan[T], do: Callable[[Any], Any] = _do) -> T:
    """Drive a plan in sync code.

    Args:
        plan: A generator.
        do: What is done with what it yields; by default its `run()`.

    Returns:
        What the plan returns.

    Raises:
        BaseException: What the plan raises; what `do` raises is thrown into it first, cancellation and Ctrl-C too.

    Example:
        >>> def double():
        ...     return 2 * (yield Call(max, None, 3, 4))
        >>> run(double())
        8
    """
    try:
        work = next(plan)
        while True:
            try:
                done = do(work)
            except BaseException as error:  # noqa: BLE001 - the plan judges it
                work = _failed(plan, work, error)
            else:
                work = plan.send(done)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except RuntimeError as error:
        if isinstance(error.__cause__, StopIteration) and error.args == ("generator raised StopIteration",):
            raise error.__cause__ from None  # Python's rule for generators; whoever calls this is no generator
        raise


async def arun(plan: Plan[T], do: Callable[[Any], Awaitable[Any]] = _ado) -> T:
    """Async twin of `run`: `do` is awaited, by default `arun()`."""
    try:
        work = next(plan)
        while True:
            try:
                done = await do(work)
            except BaseException as error:  # noqa: BLE001 - the plan judges it
                work = _failed(plan, work, error)
            else:
                work = plan.send(done)
    except StopIteration as stop:
        result: T = stop.value
        return result


def driven(plan: Callable[..., Plan[T]]) -> Callable[..., T]:
    """A plan as the function that LangChain's `_call_with_config` and `_batch_with_config` want."""

    def call(value: Any, run_manager: Any, config: Any, **kwargs: Any) -> T:
        return run(plan(value, run_manager, config, **kwargs))

    return call


def adriven(plan: Callable[..., Plan[T]]) -> Callable[..., Awaitable[T]]:
    """Async twin of `driven`."""

    async def call(value: Any, run_manager: Any, config: Any, **kwargs: Any) -> T:
        return await arun(plan(value, run_manager, config, **kwargs))

    return call


def iterate(plan: Plan[None]) -> Generator[Any, None, None]:
    """Drive a plan that also yields `Out`s, and give those on as they come; closed early, the plan hears of it.

    Example:
        >>> def twice(value):
        ...     yield Out(value)
        ...     yield Out(value)
        >>> list(iterate(twice("a")))
        ['a', 'a']
    """
    try:
        work = next(plan)
        while True:
            try:
                done = (yield work.value) if isinstance(work, Out) else _do(work)
            except BaseException as error:  # noqa: BLE001 - the plan judges it
                work = _failed(plan, work, error)
            else:
                work = plan.send(done)
    except StopIteration:
        return


async def aiterate(plan: Plan[None]) -> AsyncGenerator[Any, None]:
    """Async twin of `iterate`."""
    try:
        work = next(plan)
        while True:
            try:
                done = (yield work.value) if isinstance(work, Out) else await _ado(work)
            except BaseException as error:  # noqa: BLE001 - the plan judges it
                work = _failed(plan, work, error)
            else:
                work = plan.send(done)
    except StopIteration:
        return
