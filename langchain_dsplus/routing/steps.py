"""The steps of a decision, each once: none of them waits for a model or a handler."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config

from langchain_dsplus.answer import (
    EmptyReplyError,
    EscalationContext,
    Route,
    describe_error,
    failure,
    is_context,
    is_empty_reply,
    is_interrupt,
    must_pass,
    unhidden,
)
from langchain_dsplus.costs.usage import UsageMeter, reported_by
from langchain_dsplus.routing.decision import BEFORE, Item, call_settings, limited, sampled
from langchain_dsplus.routing.outputs import with_route
from langchain_dsplus.routing.recording import record_route
from langchain_dsplus.routing.state import State
from langchain_dsplus.tags import LARGE_TAG, NOSTREAM_TAG

logger = logging.getLogger(__name__)


def make_item(state: State, value: Any, config: RunnableConfig, run: Any) -> Item:
    """An input with what holds for it: its settings, tightened by what voids the certificate or by the monitor.

    Raises:
        ValueError: If a setting of the call is malformed or refused, or the input's context key is taken.
    """
    settings = call_settings(
        state.settings,
        config.get("configurable") or {},
        router=state.name,
        names=state.names,
        allow_override=state.allow_override,
        certified=state.certified,
    )
    if state.void:  # whatever the call asks for
        nothing = (math.inf,) * len(state.names)
        settings = replace(settings, thresholds=nothing, plain=True, refused="mismatch", certificate=None)
    elif state.monitor is not None and state.monitor.limit is not None:
        settings = limited(settings, state.monitor.limit.thresholds, state.names)
    if isinstance(value, Mapping) and state.context_key in value and not is_context(value[state.context_key]):
        raise ValueError(
            f"the input already has a key {state.context_key!r} with something else in it: rename it, or choose "
            "another with `context_key=`"
        )
    return Item(value, config, run, settings, str(run.run_id))


def make_items(
    state: State, values: Sequence[Any], configs: Sequence[RunnableConfig], runs: Sequence[Any]
) -> list[Any]:
    """Items, or what is wrong with an input or its settings."""
    items: list[Item | Exception] = []
    for value, config, run in zip(values, configs, runs, strict=True):
        try:
            items.append(make_item(state, value, config, run))
        except ValueError as error:
            items.append(error)
    return items


def small_configs(
    state: State, model: int, items: Sequence[Item]
) -> tuple[list[RunnableConfig] | None, RunnableConfig | None]:
    """Child configs for a model whose calls are traced; else what Runnables inside an embedded one inherit."""
    if model == BEFORE:
        return None, None
    part, name = state.models[model], state.names[model]

    def child(item: Item) -> RunnableConfig:
        callbacks = item.run.get_child(name)
        # Keeps a small chat model's draft out of LangGraph's message stream.
        callbacks.add_tags([NOSTREAM_TAG], inherit=True)
        return patch_config(item.config, callbacks=callbacks)

    if part.traces_calls:
        return [child(item) for item in items], None
    return None, child(items[0]) if items[0].run.handlers else None


def localize(state: State, items: Sequence[Item]) -> None:
    """Turn accepted answers into the large chain's type; one that cannot be turned escalates."""
    if state.pacer is not None:
        _pace(state, items)
    for item in items:
        if state.always_ask is not None and item.settings.mode == "live":
            item.asked = _always(state, item.input)
        if item.accepted is None:
            continue
        try:
            item.output = state.to_output(item.answers[-1], item.input)
        except Exception as error:  # noqa: BLE001
            failure(error)
            logger.warning("`to_output` failed with %s: the input escalates", type(error).__name__)
            item.accepted = None
            item.failed = True
            item.reason = "error"
            item.error = f"to_output: {describe_error(error)}"
        else:
            rate = item.settings.audit_rate if item.reason == "confident" else 0.0
            item.audited = item.asked or sampled(item.route_id, state.salt, rate)
            if item.audited and state.pacer is not None:
                state.pacer.charge()


def _always(state: State, value: Any) -> bool:
    try:
        return bool(state.always_ask(value))  # type: ignore[misc]
    except Exception as error:  # noqa: BLE001 - the user's; an answer does not hang on it
        failure(error)
        logger.warning("`always_ask` failed with %s: the input counts as another", type(error).__name__)
        return False


def _pace(state: State, items: Sequence[Item]) -> None:
    """Tell the pacer what escalates; where it says so, an unsure small answer has to do."""
    for item in items:
        unsure = item.reason == "unsure" and bool(item.answers)
        if unsure and item.answers[-1]["choice"] not in state.never_local:
            if not state.pacer.escalate(item.answers[-1]):
                item.accepted, item.reason = len(item.answers) - 1, "budget"
        else:
            state.pacer.count(escalated=item.accepted is None)


def large_input(state: State, item: Item) -> Any:
    """What the large chain gets for an item."""
    return for_large(state, item.input, item.escalation())


def for_large(state: State, value: Any, context: EscalationContext) -> Any:
    """An input with what the large chain may know: mapped by `to_large`, a dict with the context key."""
    mapped = value if state.to_large is None else state.to_large(value, context["answer"])
    if isinstance(mapped, Mapping):
        theirs: Any = mapped.get(state.context_key)
        if mapped is not value and is_context(theirs):  # made by `to_large`: its notes belong to the Route
            own = EscalationContext(theirs["answer"], theirs["probabilities"])
            own.take_over(context)
            return {**mapped, state.context_key: own}
        if isinstance(value, Mapping):
            return {**mapped, state.context_key: context}
    return mapped


def large_config(state: State, item: Item) -> RunnableConfig:
    """The config of the large chain's run; a meter in it hears what its calls use."""
    callbacks = item.run.get_child(LARGE_TAG)
    item.meter = UsageMeter()
    callbacks.add_handler(item.meter, inherit=True)
    if state.reported is not None:
        callbacks.add_handler(state.reported, inherit=True)
    return patch_config(item.config, callbacks=callbacks)


def ready(state: State, items: Sequence[Any]) -> tuple[list[Any], list[Item], list[Any]]:
    """What goes to the large chain; an item whose input `to_large` cannot map becomes that error."""
    ready: list[Any] = []
    hard: list[Item] = []
    asked: list[Any] = []
    for item in items:
        ready.append(item)
        if isinstance(item, Item) and item.accepted is None:
            try:
                asked.append(large_input(state, item))
            except Exception as error:  # noqa: BLE001
                ready[-1] = failure(error)
            else:
                hard.append(item)
    return ready, hard, asked


def finish(state: State, item: Item, result: Any) -> tuple[Any, Route]:
    """Turn what came back into the output and its route; record it; raise what must be raised."""
    if item.accepted is None:
        result = heard(state, item, unhidden(result))
    error = result if isinstance(result, BaseException) else None
    if error is not None:
        stand_in = _stand_in(state, item, error)
        if stand_in is None:
            if not is_interrupt(error):
                record_route(state, item, item.route(state.names), None, error)
            raise error
        item.degraded, result = stand_in
        item.error = f"large: {describe_error(error)}"
        logger.warning("the large model failed with %s: the small answer stands in", type(error).__name__)
    route = item.route(state.names)
    if error is None:
        item.note_output(route, result)
    record_route(state, item, route, result, None)
    return with_route(result, route), route


def heard(state: State, item: Item, result: Any) -> Any:
    """What came back, or the error that the large model said nothing, whatever was made of that."""
    if must_pass(result):
        return result
    silent = item.meter is not None and item.meter.empty
    if isinstance(result, BaseException):
        cause: BaseException | None = result
        empty = silent
    else:
        cause = None
        # A message of a class of its own means what its maker says; a text may only be empty where it is a reply.
        empty = type(result) in {AIMessage, AIMessageChunk} and is_empty_reply(result)
        if state.replies and (result is None or isinstance(result, str)):
            empty = not (result or "").strip()
    if not empty:
        return result
    name = reported_by(result)[0] or (item.meter.model if item.meter is not None else None)
    error = EmptyReplyError(f"the large model {name or state.large.get_name()!r} said nothing: its reply is empty")
    error.__cause__ = cause
    return error


def try_finish(state: State, item: Item, result: Any) -> tuple[Any, Route] | BaseException:
    """As `finish`, with the error in the place of a result; one that was not the large chain's passes."""
    try:
        return finish(state, item, result)
    except BaseException as error:
        if error is unhidden(result) or not must_pass(error):
            return error
        raise


def _stand_in(state: State, item: Item, error: BaseException) -> tuple[int, Any] | None:
    """The small answer in place of a failed large one, where that is wanted and there is one."""
    if state.on_large_error != "small" or not item.answers or must_pass(error):
        return None
    answer = item.answers[-1]
    if answer["choice"] in state.never_local:
        return None
    try:
        return len(item.answers) - 1, state.to_output(answer, item.input)
    except Exception as broken:  # noqa: BLE001
        failure(broken)
        return None


def given_up(state: State, items: Iterable[Item], error: BaseException) -> None:
    """Record those whose call nobody waits for any more: it may have been paid for all the same."""
    if is_interrupt(error):
        return
    for item in items:
        reason = error if must_pass(error) else GeneratorExit()
        record_route(state, item, item.route(state.names), None, reason)


def gather(state: State, items: Sequence[Any], hard: Sequence[Item], answers: Sequence[Any]) -> list[Any]:
    """Per input `(output, route)` or its exception, in order.

    Raises:
        BaseException: One that passes through everything, once all that came back is recorded.
    """
    by_item = {id(item): answer for item, answer in zip(hard, answers, strict=True)}
    results = [
        try_finish(state, item, by_item.get(id(item), item.output)) if isinstance(item, Item) else item
        for item in items
    ]
    passing = next((r for r in results if isinstance(r, BaseException) and must_pass(r)), None)
    if passing is not None:
        _raise_with(passing, _finished(state, results))
    return results


def _finished(state: State, results: Sequence[Any]) -> dict[int, Any]:
    return {i: present(state, *r) for i, r in enumerate(results) if not isinstance(r, BaseException)}


def unpack(state: State, results: Sequence[Any], *, return_exceptions: bool) -> list[Any]:
    """The outputs of a batch; its first error is raised where the caller did not ask for exceptions."""
    error = next((r for r in results if isinstance(r, Exception)), None)
    if error is not None and not return_exceptions:
        _raise_with(error, _finished(state, results))
    return [r if isinstance(r, Exception) else present(state, *r) for r in results]


def present(state: State, output: Any, route: Route) -> Any:
    """What the caller sees of an answer."""
    return {"output": output, "route": route} if state.include_route else output


def _raise_with(error: BaseException, finished: dict[int, Any]) -> NoReturn:
    with contextlib.suppress(AttributeError, TypeError):
        error.dsplus_finished = finished  # type: ignore[attr-defined]
        if not getattr(error, "__notes__", None):  # the same error may be raised again and again
            error.add_note(f"{len(finished)} items of this batch are finished: see the attribute `dsplus_finished`")
    raise error
