"""Shadow mode, audits, recorders: what no reply waits for."""

import asyncio
import itertools
import json
import math
import threading
import time

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, JSONLRecorder

LABELS = ["neg", "pos"]
TABLE = {"great": {"pos": 0.99, "neg": 0.01}, "hm": {"pos": 0.6, "neg": 0.4}}


class Rows:
    def __init__(self):
        self.rows = []

    def record(self, row):
        self.rows.append(row)

    def kinds(self):
        return sorted(row["kind"] for row in self.rows)

    def of(self, kind):
        return [row for row in self.rows if row["kind"] == kind]


def build(**kwargs):
    seen = []

    def ask(value) -> str:
        seen.append(value)
        return "LARGE"

    small = kwargs.pop("small", None) or FakeSmallModel(TABLE, LABELS, input_key="text")
    router = ConfidenceRouter(small=small, large=RunnableLambda(ask), threshold=0.9, **kwargs)
    return router, small, seen


def run(router, values, async_, *, drain=True):
    if async_:

        async def go():
            async with router:
                return await router.abatch(values) if len(values) > 1 else [await router.ainvoke(values[0])]

        return asyncio.run(go())
    results = router.batch(values) if len(values) > 1 else [router.invoke(values[0])]
    if drain:
        assert router.drain(5)
    return results


both = pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
many = pytest.mark.parametrize("texts", [["great"], ["great", "hm", "great"]], ids=["invoke", "batch"])
PLAIN = {"answer": None, "probabilities": {}}


@both
@many
@pytest.mark.parametrize("background", [True, False])
def test_shadow_asks_the_large_model_plainly_and_records_what_it_would_have_done(async_, texts, background):
    rows = Rows()
    router, small, seen = build(mode="shadow", recorder=rows, background=background, include_route=True)
    values = [{"text": t} for t in texts]
    results = run(router, values, async_, drain=background)
    assert [r["output"] for r in results] == ["LARGE"] * len(texts)
    assert [r["route"]["answers"] for r in results] == [[]] * len(texts)
    assert {r["route"]["reason"] for r in results} == {"shadow"}
    assert [value["dsplus"] for value in seen] == [PLAIN] * len(texts)
    assert small.calls == [values and [v["text"] for v in values]]
    shadow = {row["route_id"]: row["answers"][0]["confidence"] for row in rows.of("shadow")}
    assert shadow == {r["route"]["route_id"]: max(TABLE[t].values()) for r, t in zip(results, texts, strict=True)}
    assert all(row["input"] == v for row, v in zip(rows.of("route"), values, strict=True))


def test_shadow_never_waits():
    small = FakeSmallModel(TABLE, LABELS, latency=0.5)
    router, _, _ = build(mode="shadow", small=small)
    started = time.perf_counter()
    router.invoke("great")
    assert time.perf_counter() - started < 0.3
    assert not router.drain(0.01)
    assert router.drain(5)
    assert small.calls == [["great"]]


def test_shadow_asks_every_small_model():
    rows = Rows()
    models = [FakeSmallModel(TABLE, LABELS, name=n) for n in ("specific", "learnable")]
    router, _, _ = build(mode="shadow", small=models, recorder=rows)
    with router:
        router.invoke("great")
    assert len(rows.of("shadow")[0]["answers"]) == 2


def test_a_full_queue_skips_and_counts():
    small = FakeSmallModel(TABLE, LABELS, latency=0.2)
    router, _, _ = build(mode="shadow", small=small, background_limit=2, background_workers=1)
    for _ in range(5):
        router.invoke("great")
    assert router.background_skipped == 3
    assert router.drain(5)
    assert len(small.calls) == 2


@both
@many
def test_audits_ask_the_large_model_plainly_about_local_answers(async_, texts):
    rows = Rows()
    router, _, seen = build(audit_rate=1.0, recorder=rows, include_route=True)
    values = [{"text": t} for t in texts]
    results = run(router, values, async_)
    local = [r for r in results if r["route"]["accepted"]]
    assert [r["route"].get("audited") for r in results] == [True if t == "great" else None for t in texts]
    assert sum(value["dsplus"] == PLAIN for value in seen) == len(local)
    audits = {row["route_id"]: (row["output"], row["answers"][0]["choice"]) for row in rows.of("audit")}
    assert audits == {r["route"]["route_id"]: ("LARGE", "pos") for r in local}


def test_audits_are_a_random_share_whatever_the_content():
    rows = Rows()
    router, _, _ = build(audit_rate=0.2, recorder=rows)
    with router:
        for _ in range(20):
            router.batch([{"text": "great"}] * 50)
    audited = len(rows.of("audit"))
    expected, sd = 200, math.sqrt(1000 * 0.2 * 0.8)
    assert abs(audited - expected) < 5 * sd
    assert audited != 0


@both
def test_what_is_always_asked_is_marked_whoever_answers(async_):
    rows = Rows()
    router, _, seen = build(always_ask=lambda value: value["n"] < 2, recorder=rows, include_route=True)
    values = [{"text": text, "n": n} for text in ("great", "hm") for n in range(4)]
    results = run(router, values, async_)
    assert [r["route"].get("asked", False) for r in results] == [v["n"] < 2 for v in values]
    assert [r["route"]["accepted"] for r in results] == [v["text"] == "great" for v in values]
    assert [r["output"] for r in results] == ["pos"] * 4 + ["LARGE"] * 4
    assert len(rows.of("audit")) == 2
    assert len(seen) == 6


def test_a_rule_that_fails_costs_no_answer(caplog):
    router, _, seen = build(always_ask=lambda _: 1 / 0)
    assert run(router, [{"text": "great"}], async_=False) == ["pos"]
    assert not seen
    assert "`always_ask` failed with ZeroDivisionError" in caplog.text


def test_a_calls_own_audit_rate():
    rows = Rows()
    router, _, _ = build(recorder=rows)
    with router:
        router.invoke({"text": "great"}, {"configurable": {"dsplus_audit_rate": 1.0}})
        router.invoke({"text": "great"})
    assert rows.kinds() == ["audit", "route", "route"]


class Tags(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_chat_model_start(
        self, serialized, messages, *, run_id, parent_run_id=None, tags=None, metadata=None, **kwargs
    ):
        self.seen.append((tags, parent_run_id, metadata))


@both
def test_background_calls_are_tagged_and_reach_the_same_handlers(async_):
    handler = Tags()
    chat = GenericFakeChatModel(messages=itertools.cycle([AIMessage("x")]))
    router = ConfidenceRouter(small=FakeSmallModel(TABLE, LABELS), large=chat, threshold=0.9, audit_rate=1.0)
    config = {"callbacks": [handler], "tags": ["mine"]}
    if async_:

        async def go():
            async with router:
                return await router.ainvoke("great", config)

        result = asyncio.run(go())
    else:
        with router:
            result = router.invoke("great", config)
    ((tags, parent, metadata),) = handler.seen
    assert {"dsplus:background", "mine"} <= set(tags)
    assert "large" not in tags
    assert parent is None
    assert metadata["dsplus_route_id"] == result.response_metadata["dsplus"]["route_id"]


async def test_a_stream_of_events_shows_no_audit():
    chat = GenericFakeChatModel(messages=itertools.cycle([AIMessage("x")]))
    router = ConfidenceRouter(
        small=FakeSmallModel(TABLE, LABELS), large=chat, threshold=0.9, audit_rate=1.0, background=False
    )
    events = [e async for e in router.astream_events("great", version="v2")]
    assert not [e for e in events if "chat_model" in e["event"]]


def test_the_context_is_copied():
    import contextvars

    tenant = contextvars.ContextVar("tenant", default=None)
    seen = []

    def probabilities(_):
        seen.append((tenant.get(), threading.current_thread().name))
        return {"pos": 1.0}

    router, _, _ = build(mode="shadow", small=FakeSmallModel(probabilities, LABELS))
    tenant.set("acme")
    with router:
        router.invoke("great")
    ((who, thread),) = seen
    assert who == "acme"
    assert thread == "dsplus-background"


@both
def test_work_that_fails_in_the_background_is_counted_not_raised(async_):
    def fail(value) -> str:
        raise RuntimeError

    rows = Rows()
    router = ConfidenceRouter(
        small=FakeSmallModel(TABLE, LABELS), large=RunnableLambda(fail), threshold=0.9, audit_rate=1.0, recorder=rows
    )
    assert run(router, ["great"], async_) == ["pos"]
    assert rows.of("audit")[0]["error"] == "large: RuntimeError"


async def test_drain_in_the_loop_that_it_would_wait_for_says_what_to_do():
    router, _, _ = build(mode="shadow", small=FakeSmallModel(TABLE, LABELS, latency=0.1))
    await router.ainvoke("great")
    with pytest.raises(RuntimeError, match="adrain"):
        router.drain()
    assert await router.adrain(5)


def test_tasks_of_a_closed_loop_are_not_waited_for():
    router, _, _ = build(mode="shadow", small=FakeSmallModel(TABLE, LABELS, latency=0.05))
    asyncio.run(router.ainvoke("great"))
    assert router.drain(1)


# --- recorders ------------------------------------------------------------------------------------------------------


class Broken:
    def record(self, row):
        raise OSError


@both
def test_a_broken_recorder_never_breaks_an_answer(async_):
    router, _, _ = build(recorder=Broken())
    assert run(router, [{"text": "great"}, {"text": "hm"}], async_) == ["pos", "LARGE"]
    assert router.recorder_errors == 2


@both
def test_every_way_of_asking_is_recorded_once(async_, tmp_path):
    path = tmp_path / "deep" / "routes.jsonl"
    with JSONLRecorder(path) as recorder:
        router, _, _ = build(recorder=recorder)
        values = [{"text": "great"}, {"text": "hm"}]
        if async_:

            async def go():
                await router.ainvoke(values[0])
                await router.abatch(values)
                [_ async for _ in router.astream(values[1])]
                [_ async for _ in router.abatch_as_completed(values)]

            asyncio.run(go())
        else:
            router.invoke(values[0])
            router.batch(values)
            list(router.stream(values[1]))
            list(router.batch_as_completed(values))
    rows = list(JSONLRecorder.read(path))
    assert [(r["input"]["text"], r["output"]) for r in rows] == [
        ("great", "pos"),
        ("great", "pos"),
        ("hm", "LARGE"),
        ("hm", "LARGE"),
        ("great", "pos"),
        ("hm", "LARGE"),
    ]
    assert len({r["route_id"] for r in rows}) == 6
    assert rows[0]["route"]["answers"][0]["probabilities"] == {"neg": 0.01, "pos": 0.99}


@both
def test_a_failed_large_call_is_recorded(async_):
    def fail(value) -> str:
        raise RuntimeError("a user's text")

    rows = Rows()
    router = ConfidenceRouter(
        small=FakeSmallModel(TABLE, LABELS), large=RunnableLambda(fail), threshold=0.9, recorder=rows
    )
    with pytest.raises(RuntimeError):
        run(router, ["hm"], async_)
    (row,) = rows.rows
    assert (row["output"], row["error"]) == (None, "large: RuntimeError")


def test_usage_is_recorded_where_the_message_has_it():
    usage = {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4}
    chat = RunnableLambda(lambda _: AIMessage("x", usage_metadata=usage)).with_types(output_type=AIMessage)
    rows = Rows()
    ConfidenceRouter(small=FakeSmallModel(TABLE, LABELS), large=chat, threshold=0.9, recorder=rows).invoke("hm")
    assert rows.rows[0]["usage"] == usage
    assert json.dumps(rows.rows[0]["route"], allow_nan=False)


def test_a_stream_that_was_left_early_is_marked_cut():
    rows = []

    class Rows:
        def record(self, row):
            rows.append(row)

    small = FakeSmallModel({"x": {"a": 0.6, "b": 0.4}})
    large = GenericFakeChatModel(messages=iter([AIMessage("one two three"), AIMessage("one two three")]))
    router = ConfidenceRouter(small=small, large=large, threshold=0.9, recorder=Rows())
    stream = router.stream("x")
    next(stream)
    stream.close()
    assert rows[-1]["cut"] is True
    assert list(router.stream("x"))
    assert "cut" not in rows[-1]
