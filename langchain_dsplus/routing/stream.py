"""Answers that come in pieces, as plans: streams, and batches as they are completed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import AddableDict

from langchain_dsplus._drive import Call, Every, Out, Plan, told
from langchain_dsplus.answer import Route, is_interrupt, must_pass
from langchain_dsplus.routing.answering import ask_small
from langchain_dsplus.routing.decision import Item
from langchain_dsplus.routing.outputs import NOTHING, add, is_blank, to_chunk, total, with_route
from langchain_dsplus.routing.recording import record_stream
from langchain_dsplus.routing.runs import Apart, announce, start, tell_failure
from langchain_dsplus.routing.shadow import after
from langchain_dsplus.routing.state import State
from langchain_dsplus.routing.steps import (
    finish,
    given_up,
    heard,
    large_config,
    large_input,
    make_item,
    make_items,
    present,
    ready,
    try_finish,
)


def stream(state: State, chunks: Any, run: Any, config: RunnableConfig, kwargs: Mapping[str, Any]) -> Plan[None]:
    """One answer in chunks, never a draft, to an input that itself arrives in chunks."""
    value = None
    source, number = (yield _opened(iter, aiter, chunks)), 0
    while (chunk := (yield _following(source))) is not NOTHING:
        value = chunk if number == 0 else add(value, chunk)
        number += 1
    item = make_item(state, value, config, run)
    yield from ask_small(state, [item])
    try:
        if item.accepted is None:
            yield from _stream_large(state, item, run, kwargs)
        else:
            output, route = finish(state, item, item.output)
            yield from announce(state, run, route)
            yield from _beginning(state, to_chunk(output), route)
    finally:
        yield from after(state, [item], dict(kwargs))


def _stream_large(state: State, item: Item, run: Any, kwargs: Mapping[str, Any]) -> Plan[None]:
    asked = large_input(state, item)
    started = time.perf_counter()
    try:
        source = yield _opened(state.large.stream, state.large.astream, asked, large_config(state, item), **kwargs)
        first = yield _following(source)
        while state.on_large_error == "small" and is_blank(first):  # shows nothing: the small answer may still come
            following = yield _following(source)
            if following is NOTHING:
                break
            first = add(first, following)
        if state.on_large_error == "small" and isinstance(said := heard(state, item, total([first])), Exception):
            raise said
    except BaseException as error:  # noqa: BLE001 - nothing was shown yet
        item.large_seconds = time.perf_counter() - started
        try:
            output, route = finish(state, item, error)
        except BaseException as unanswered:
            tell_failure(state, run, item, unanswered)
            raise
        yield from announce(state, run, route)
        yield from _beginning(state, to_chunk(output), route)
        return
    route = item.route(state.names)
    parts = [first]
    try:
        yield from announce(state, run, route)
        yield from _beginning(state, first, route)
        while (chunk := (yield _following(source))) is not NOTHING:
            parts.append(chunk)
            yield Out(_shown(state, chunk))
    except BaseException as error:
        item.large_seconds = time.perf_counter() - started
        if not is_interrupt(error):
            record_stream(state, item, route, parts, error)
        raise
    item.large_seconds = time.perf_counter() - started
    whole = heard(state, item, total(parts))
    failed = whole if isinstance(whole, Exception) else None
    record_stream(state, item, route, parts, failed)
    if failed is not None:
        raise failed


def _beginning(state: State, first: Any, route: Route) -> Plan[None]:
    """The start of a stream: the route, where it is asked for, then the first chunk."""
    if state.include_route:
        yield Out(AddableDict(route=route))
    if first is not NOTHING:
        yield Out(_shown(state, with_route(first, route)))


def _shown(state: State, chunk: Any) -> Any:
    return AddableDict(output=chunk) if state.include_route else chunk


def as_completed(
    state: State,
    values: Sequence[Any],
    configs: Sequence[RunnableConfig],
    kwargs: Mapping[str, Any],
    *,
    return_exceptions: bool,
) -> Plan[None]:
    """A batch, `(index, output)` by `(index, output)`: the local answers first, then the large chain's as they come."""
    runs = yield Every([start(state, value, config) for value, config in zip(values, configs, strict=True)])
    still_open = set(range(len(runs)))

    def close(place: int, result: tuple[Any, Route] | BaseException) -> Plan[Any]:
        still_open.discard(place)
        if isinstance(result, BaseException):
            tell_failure(state, runs[place], items[place], result)
            yield told(runs[place].on_chain_error, result)
            if return_exceptions and not must_pass(result):
                return result
            raise result
        yield from announce(state, runs[place], result[1])
        output = present(state, *result)
        yield told(runs[place].on_chain_end, output)
        return output

    items: list[Any] = []
    waiting: dict[int, Item] = {}
    source: Any = None
    try:
        items = make_items(state, values, configs, runs)
        yield from ask_small(state, [i for i in items if isinstance(i, Item)])
        items, hard, asked = ready(state, items)
        places = {id(item): place for place, item in enumerate(items)}
        for place, item in enumerate(items):
            if isinstance(item, Item) and item.accepted is not None:
                yield Out((place, (yield from close(place, try_finish(state, item, item.output)))))
        for place, item in enumerate(items):
            if isinstance(item, Exception):
                yield Out((place, (yield from close(place, item))))
        if hard:
            started = time.perf_counter()
            ask = _opened(
                state.large.batch_as_completed,
                state.large.abatch_as_completed,
                asked,
                [large_config(state, i) for i in hard],
                return_exceptions=True,
                **kwargs,
            )
            source = yield ask
            waiting = dict(enumerate(hard))
            while True:
                with Apart(hard[0].config):  # never while the consumer works
                    found = yield _following(source)
                if found is NOTHING:
                    break
                item = waiting.pop(found[0])
                item.large_seconds = time.perf_counter() - started
                place = places[id(item)]
                yield Out((place, (yield from close(place, try_finish(state, item, found[1])))))
    except BaseException as error:
        yield Call(_close, _aclose, source)
        given_up(state, waiting.values(), error)
        for place in still_open:
            yield told(runs[place].on_chain_error, error)
        raise
    finally:
        yield from after(state, [i for i in items if isinstance(i, Item)], dict(kwargs))


def _opened(function: Any, asynchronous: Any, /, *args: Any, **kwargs: Any) -> Call:
    """The start of an iterator, for `_following`."""
    return Call(_open, _aopen, (function, asynchronous), *args, **kwargs)


def _open(functions: tuple[Any, Any], /, *args: Any, **kwargs: Any) -> Iterator[Any]:
    return iter(functions[0](*args, **kwargs))


async def _aopen(functions: tuple[Any, Any], /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    return aiter(functions[1](*args, **kwargs))


def _following(source: Any) -> Call:
    """What an iterator gives next; `NOTHING` at its end."""
    return Call(next, anext, source, NOTHING)


def _close(source: Any) -> None:
    """Close an iterator: LangChain's waits there for threads, and must not be left to whichever collects garbage."""
    if isinstance(source, Generator):
        source.close()


async def _aclose(source: Any) -> None:
    if isinstance(source, AsyncGenerator):
        await source.aclose()
