"""Answering as plans: one input, a batch, and the decision alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config

from langchain_dsplus._drive import Attempt, Call, Every, Plan, told
from langchain_dsplus.answer import Answer, Route, must_pass
from langchain_dsplus.routing.decision import BEFORE, Asked, Item
from langchain_dsplus.routing.runs import Apart, announce, start, tell_failure, tell_time
from langchain_dsplus.routing.shadow import after
from langchain_dsplus.routing.state import State
from langchain_dsplus.routing.steps import (
    finish,
    gather,
    given_up,
    large_config,
    large_input,
    localize,
    make_item,
    make_items,
    present,
    ready,
    small_configs,
    try_finish,
)


def answer(state: State, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> Plan[tuple[Any, Route]]:
    """One input, as one traced run: the output and its route."""
    config = ensure_config(config)
    run = yield start(state, value, config)
    try:
        item = make_item(state, value, config, run)
        yield from ask_small(state, [item])
        result = item.output if item.accepted is not None else (yield from _ask_large(state, item, kwargs))
        finished = try_finish(state, item, result)
        if not must_pass(finished):
            yield from after(state, [item], kwargs)
        if isinstance(finished, BaseException):
            tell_failure(state, run, item, finished)
            raise finished
        output, route = finished
        yield from announce(state, run, route)
    except BaseException as error:
        yield told(run.on_chain_error, error)
        raise
    yield told(run.on_chain_end, present(state, output, route))
    return output, route


def answer_all(
    state: State, values: Sequence[Any], configs: Sequence[RunnableConfig], kwargs: dict[str, Any]
) -> Plan[list[Any]]:
    """A batch: one call of each small model, one of the large chain. Per input `(output, route)` or its error."""
    runs = yield Every([start(state, value, config) for value, config in zip(values, configs, strict=True)])
    try:
        items = make_items(state, values, configs, runs)
        yield from ask_small(state, [i for i in items if isinstance(i, Item)])
        items, hard, asked = ready(state, items)
        answers = (yield from _ask_large_all(state, hard, asked, kwargs)) if hard else []
        results = gather(state, items, hard, answers)
    except BaseException as error:
        yield Every([told(run.on_chain_error, error) for run in runs])
        raise
    for run, item, result in zip(runs, items, results, strict=True):
        if isinstance(result, Exception):
            tell_failure(state, run, item, result)
            yield told(run.on_chain_error, result)
        else:
            yield from announce(state, run, result[1])
            yield told(run.on_chain_end, present(state, *result))
    yield from after(state, [i for i in items if isinstance(i, Item)], kwargs)
    return results


def triage(state: State, value: Any, config: RunnableConfig | None) -> Plan[tuple[Any, Route]]:
    """The decision without the large chain: a local answer and its route, or None and the route."""
    config = ensure_config(config)
    run = yield start(state, value, config)
    try:
        item = make_item(state, value, config, run)
        yield from ask_small(state, [item])
        if item.accepted is None:
            output, route = None, item.route(state.names)
        else:
            output, route = finish(state, item, item.output)
        yield from after(state, [item], {})
        if route["accepted"]:
            yield from announce(state, run, route)
    except BaseException as error:
        yield told(run.on_chain_error, error)
        raise
    yield told(run.on_chain_end, route)
    return output, route


def ask_small(state: State, items: Sequence[Item]) -> Plan[None]:
    """Algorithm 2: ask the small models in their order, and write into the items what is accepted."""
    try:
        yield from follow(state, state.decide(items))
    except BaseException as error:
        if must_pass(error):  # whoever asked went away: a decision that began has a row all the same
            given_up(state, items, error)
        raise
    localize(state, items)


def follow(state: State, steps: Generator[Asked, Sequence[Answer | Exception], None], first: int = 0) -> Plan[None]:
    """Ask whoever a decision wants asked, until it is made; `first` is the model that it calls 0."""
    with contextlib.suppress(StopIteration):
        model, pending = next(steps)
        while True:
            number = model if model == BEFORE else model + first
            asker, configs = state.askers[number], small_configs(state, number, pending)
            started = time.perf_counter()
            with Apart(pending[0].config):
                results = yield Call(asker.ask, asker.aask, [i.input for i in pending], *configs)
            seconds = time.perf_counter() - started
            for item in pending:
                item.small_seconds += seconds
            tell_time(state, pending, number, seconds)
            model, pending = steps.send(results)


def _ask_large(state: State, item: Item, kwargs: dict[str, Any]) -> Plan[Any]:
    """What the large chain says, or the error that it raises."""
    asked, config = large_input(state, item), large_config(state, item)
    started = time.perf_counter()
    with Apart(item.config):
        result = yield Attempt(state.large.invoke, state.large.ainvoke, asked, config, **kwargs)
    item.large_seconds = time.perf_counter() - started
    return result


def _ask_large_all(state: State, items: Sequence[Item], asked: list[Any], kwargs: dict[str, Any]) -> Plan[list[Any]]:
    configs = [large_config(state, item) for item in items]
    started = time.perf_counter()
    with Apart(items[0].config):
        answers = yield Attempt(state.large.batch, state.large.abatch, asked, configs, return_exceptions=True, **kwargs)
    seconds = time.perf_counter() - started
    for item in items:
        item.large_seconds = seconds
    return [answers] * len(items) if isinstance(answers, BaseException) else answers
