"""What is written down about decisions: rows for the recorder and the monitor."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_dsplus.answer import Answer, Route, describe_error, failure, must_pass, pass_on
from langchain_dsplus.costs.usage import UsageMeter
from langchain_dsplus.routing.decision import BEFORE, Item, Settings, judge
from langchain_dsplus.routing.outputs import total
from langchain_dsplus.routing.rows import Row
from langchain_dsplus.routing.state import State
from langchain_dsplus.small_models.runnable import mark_inputs

logger = logging.getLogger(__name__)


def record(state: State, row: Row) -> None:
    """Hand a row to all that want it."""
    for recorder in state.recorders:
        try:
            recorder.record(_hashed(state, row, recorder))
        except Exception as error:  # noqa: BLE001 - a broken recorder never breaks an answer
            failure(error)
            with state.lock:
                state.recorder_errors += 1
                first = state.recorder_errors == 1
            if first:
                logger.warning("the recorder failed with %s; later failures are only counted", type(error).__name__)


def _hashed(state: State, row: Row, recorder: Any) -> Row:
    """The row with its input's hash under the recorder's key, where it has one."""
    key = getattr(recorder, "key", None)
    if row["kind"] != "route" or not isinstance(key, bytes):
        return row
    mark = mark_inputs(state.models, [row["input"]], key)[0].get("input_hash")
    return row if mark is None else {**row, "input_hash": mark}


def record_route(
    state: State,
    item: Item,
    route: Route,
    output: Any,
    error: BaseException | None,
    *,
    cut: bool = False,
    paid: Any = None,
) -> None:
    """Record a decision; `paid` is the reply that carries the usage, where that is not the output."""
    if not state.recorders:
        return
    row = Row(
        kind="route",
        route_id=item.route_id,
        router=state.shown_name,
        input=_without_context(state, item.input),
        output=output,
        route=route,
    )
    if item.timed:
        row["small_seconds"], row["large_seconds"] = item.small_seconds, item.large_seconds
    if error is not None:
        side = "small" if item.meter is None and must_pass(error) else "large"
        row["error"] = f"{side}: {describe_error(error)}"
    if cut:
        row["cut"] = True
    _count(row, item.meter, output if paid is None else paid)
    record(state, _marked(state, row))


def _marked(state: State, row: Row) -> Row:
    """The row, and whether a small model was trained on its input."""
    flags = {model.in_training([row["input"]])[0] for model in state.models}
    if True in flags:
        row["in_training"] = True
    elif None not in flags:
        row["in_training"] = False
    return row


def _count(row: Row, meter: UsageMeter | None, output: Any) -> None:
    """Write down the tokens of the large chain's calls, and how many of them did not say."""
    said = getattr(output, "usage_metadata", None)
    heard = None if meter is None else meter.usage
    if said and (meter is None or meter.calls <= 1):
        row["usage"] = dict(said)
    elif heard is not None:
        row["usage"] = heard.to_metadata()
    if meter is not None and meter.unreported:
        row["calls_without_usage"] = meter.unreported


def record_stream(
    state: State, item: Item, route: Route, chunks: Sequence[Any], error: BaseException | None = None
) -> None:
    """Record what a stream gave; `error` is what ended it early, `GeneratorExit` where its reader had enough."""
    if not state.recorders:
        return
    if isinstance(error, Exception):
        record_route(state, item, route, None, error)
        return
    output = total(chunks)
    if error is None and output is not None:
        route = route.copy()  # the consumer has the other one already
        item.note_output(route, output)
    failed = None if isinstance(error, GeneratorExit) else error
    record_route(state, item, route, output, failed, cut=error is not None)


def _without_context(state: State, value: Any) -> Any:
    if isinstance(value, Mapping) and state.context_key in value:
        return {k: v for k, v in value.items() if k != state.context_key}
    return value


def record_shadow(state: State, items: Sequence[Item], asked: Mapping[int, Sequence[Answer | Exception]]) -> None:
    """Record what every small model said, and what would have been decided."""
    if not state.recorders:
        return
    for place, item in enumerate(items):
        results = {model: answers[place] for model, answers in asked.items()}
        live = Settings(item.settings.thresholds, "live", 0.0)
        would = Item(item.input, item.config, item.run, live, item.route_id)
        steps = state.decide([would])
        with contextlib.suppress(StopIteration):
            model, _ = next(steps)
            while True:
                model, _ = steps.send([results[model]])
        row = Row(kind="shadow", route_id=item.route_id, router=state.shown_name, answers=[])
        for model, (name, part) in enumerate(zip(state.names, state.models, strict=True)):
            failed = results.get(BEFORE) if would.rated is None else None
            checked = judge(failed or results[model], part.labels, state.score, would.rated)
            if isinstance(checked, Exception):
                row.setdefault("errors", {})[name] = describe_error(checked)
            else:
                row["answers"].append(checked)
        row["route"] = would.route(state.names)
        record(state, row)


def record_audits(state: State, items: Sequence[Item], outputs: Sequence[Any]) -> None:
    """Record what the large chain said about inputs that were answered locally."""
    if not state.recorders:
        pass_on(outputs)
        return
    for item, output in zip(items, outputs, strict=True):
        row = Row(kind="audit", route_id=item.route_id, router=state.shown_name, answers=item.answers)
        if isinstance(output, BaseException):
            row["error"] = f"large: {describe_error(output)}"
        else:
            row["output"] = output
        _count(row, item.audit_meter, output)
        record(state, row)
    pass_on(outputs)
