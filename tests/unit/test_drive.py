"""Plans and their two drivers: what comes back, what is thrown in, what passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from langchain_dsplus import _drive
from langchain_dsplus._drive import Attempt, Call, Every, Out, told

ERRORS = [
    ValueError("bad"),
    StopIteration("over"),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    GeneratorExit(),
    SystemExit(2),
]
IDS = [type(error).__name__ for error in ERRORS]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Either driver, to be called the same way."""

    def adrive(plan: Any, *args: Any) -> Any:
        async def body() -> Any:
            return await _drive.arun(plan, *args)

        return asyncio.run(body())

    return adrive if request.param else _drive.run


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def collect(request: pytest.FixtureRequest) -> Callable[[Any], list[Any]]:
    """Either driver of plans with a consumer."""

    def acollect(plan: Any) -> list[Any]:
        async def body() -> list[Any]:
            return [value async for value in _drive.aiterate(plan)]

        return asyncio.run(body())

    return acollect if request.param else lambda plan: list(_drive.iterate(plan))


def double(value: int) -> int:
    return 2 * value


async def adouble(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


def failing(error: BaseException) -> Call:
    def fail() -> None:
        raise error

    async def afail() -> None:
        raise error

    return Call(fail, afail)


def test_a_plan_gets_what_came_of_its_work_and_returns(drive):
    def plan() -> Generator[Any, Any, list[int]]:
        first = yield Call(double, adouble, 1)
        both = yield Every([Call(double, adouble, first), Call(double, adouble, value=10)])
        return [first, *both]

    assert drive(plan()) == [2, 4, 20]


def test_a_plan_without_work_returns_too(drive):
    def plan() -> Generator[Any, Any, str]:
        yield from ()
        return "done"

    assert drive(plan()) == "done"


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_what_was_raised_is_thrown_in_and_passes_out_itself(drive, error):
    if isinstance(error, StopIteration) and drive is not _drive.run:
        pytest.skip("a coroutine cannot raise it: Python makes a RuntimeError of it")
    seen: list[Any] = []

    def plan() -> Generator[Any, Any, None]:
        try:
            yield failing(error)
        except BaseException as thrown:
            seen.append(thrown)
            yield Call(double, adouble, 1)  # the outermost plan may go on, whatever was thrown
            raise

    with pytest.raises(type(error)) as caught:
        drive(plan())
    assert caught.value is error
    assert seen == [error]


@pytest.mark.parametrize("error", ERRORS, ids=IDS)
def test_an_attempt_gives_the_error_back(drive, error):
    call = failing(error)
    if isinstance(error, StopIteration) and drive is not _drive.run:
        pytest.skip("a coroutine cannot raise it")

    def plan() -> Generator[Any, Any, Any]:
        return (yield Attempt(call.function, call.asynchronous))

    assert drive(plan()) is error


def test_an_attempt_in_a_nested_plan_survives_the_end_of_a_generator(drive):
    """A `GeneratorExit` that is thrown would close the nested plan, and what was paid for would have no row."""
    seen: list[Any] = []

    def nested() -> Generator[Any, Any, Any]:
        call = failing(GeneratorExit())
        found = yield Attempt(call.function, call.asynchronous)
        seen.append(type(found))
        return (yield Call(double, adouble, 2))

    def plan() -> Generator[Any, Any, Any]:
        return (yield from nested())

    assert drive(plan()) == 4
    assert seen == [GeneratorExit]


def test_a_coroutine_that_is_closed_tells_its_plan():
    seen: list[Any] = []

    def nested() -> Generator[Any, Any, Any]:
        found = yield Attempt(None, forever)
        seen.append(type(found))
        raise found

    async def forever() -> None:
        await asyncio.Event().wait()

    def plan() -> Generator[Any, Any, Any]:
        return (yield from nested())

    async def body() -> None:
        coroutine = _drive.arun(plan())
        coroutine.send(None)
        coroutine.close()

    asyncio.run(body())
    assert seen == [GeneratorExit]


def test_an_error_that_a_plan_handles_is_over(drive):
    def plan() -> Generator[Any, Any, Any]:
        try:
            yield failing(ValueError("bad"))
        except ValueError:
            return (yield Call(double, adouble, 4))

    assert drive(plan()) == 8


def test_a_cancellation_that_another_error_hides_is_what_is_thrown(drive):
    cancelled = asyncio.CancelledError()

    def plan() -> Generator[Any, Any, None]:
        yield failing(AttributeError("no generations", name="generations", obj=cancelled))

    with pytest.raises(asyncio.CancelledError) as caught:
        drive(plan())
    assert caught.value is cancelled


def test_a_runtime_error_of_its_own_stays(drive):
    def plan() -> Generator[Any, Any, None]:
        yield failing(RuntimeError("mine"))

    with pytest.raises(RuntimeError, match="mine"):
        drive(plan())


def test_what_is_done_can_be_said_by_the_caller():
    def plan() -> Generator[int, int, int]:
        return (yield 20) + (yield 1)

    assert _drive.run(plan(), double) == 42
    assert asyncio.run(_drive.arun(plan(), adouble)) == 42


def test_a_method_of_one_name_in_both_worlds():
    assert _drive.run((x for x in ()), double) is None

    def plan(function: Any) -> Generator[Any, Any, Any]:
        return (yield told(function, 3))

    assert _drive.run(plan(double)) == asyncio.run(_drive.arun(plan(adouble))) == 6


def test_outs_reach_the_consumer_in_order(collect):
    def plan() -> Generator[Any, Any, None]:
        yield Out("a")
        value = yield Call(double, adouble, 2)
        assert (yield Out(value)) is None

    assert collect(plan()) == ["a", 4]


def test_an_error_ends_the_iteration_after_what_the_plan_still_does(collect):
    done: list[str] = []

    async def anote() -> None:
        done.append("after")

    def plan() -> Generator[Any, Any, None]:
        try:
            yield Out(1)
            yield failing(ValueError("bad"))
        finally:
            yield Call(lambda: done.append("after"), anote)

    with pytest.raises(ValueError, match="bad"):
        collect(plan())
    assert done == ["after"]


def test_a_consumer_that_has_enough_closes_the_plan():
    done: list[Any] = []

    async def anote() -> None:
        done.append("after")

    def plan() -> Generator[Any, Any, None]:
        try:
            yield Out(1)
            yield Out(2)
        except GeneratorExit as error:
            done.append(type(error).__name__)
            raise
        finally:
            yield Call(lambda: done.append("after"), anote)

    source = _drive.iterate(plan())
    assert next(source) == 1
    source.close()

    async def body() -> None:
        values = _drive.aiterate(plan())
        assert await anext(values) == 1
        await values.aclose()

    asyncio.run(body())
    assert done == ["GeneratorExit", "after"] * 2
