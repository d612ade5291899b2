"""What an adversarial reading of the router found, so that it stays found."""

import asyncio
import copy
import itertools
import logging
import pickle
import subprocess
import sys
import threading
import time
from typing import Literal

import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from pydantic import BaseModel

from langchain_dsplus import (
    ConfidenceRouter,
    FakeSmallModel,
    JSONLRecorder,
    PromptPruner,
    SklearnClassifier,
    SmallModel,
)

LABELS = ["pos", "neg"]
TABLE = {"easy": {"pos": 0.99, "neg": 0.01}, "hard": {"pos": 0.6, "neg": 0.4}}
both = pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])


def small_model(**kwargs):
    return FakeSmallModel(TABLE, LABELS, **kwargs)


def ask(_) -> str:
    return "LARGE"


LARGE = RunnableLambda(ask)


def build(**kwargs):
    return ConfidenceRouter(**{"small": small_model(), "large": LARGE, "threshold": 0.9, **kwargs})


class Rows:
    def __init__(self):
        self.rows = []

    def record(self, row):
        self.rows.append(row)

    def kinds(self):
        return [row["kind"] for row in self.rows]


def call(router, value, async_, **kwargs):
    return asyncio.run(router.ainvoke(value, **kwargs)) if async_ else router.invoke(value, **kwargs)


def stream(router, value, async_):
    if async_:

        async def collect():
            return [chunk async for chunk in router.astream(value)]

        return asyncio.run(collect())
    return list(router.stream(value))


# --- time limits -------------------------------------------------------------------------------------------------


async def test_many_healthy_calls_at_once_are_no_timeouts():
    router = build(small=small_model(latency=0.1), small_timeout=10)
    assert await asyncio.gather(*(router.ainvoke("easy") for _ in range(32))) == ["pos"] * 32


def test_many_healthy_calls_from_threads_are_no_timeouts():
    router, results = build(small=small_model(latency=0.1), small_timeout=10), []
    threads = [threading.Thread(target=lambda: results.append(router.invoke("easy"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["pos"] * 16


def test_a_hung_model_in_a_shared_call_does_not_hold_up_the_loops_end():
    router = build(small=small_model(latency=2), small_timeout=0.05, batch_wait=0.01)
    started = time.perf_counter()
    assert asyncio.run(router.ainvoke("easy")) == "LARGE"
    assert time.perf_counter() - started < 1.5


@both
def test_too_few_answers_escalate(async_):
    class Short(FakeSmallModel):
        def answers(self, inputs, configs=None):
            return super().answers(inputs, configs)[:-1]

    for extra in ({}, {"batch_wait": 0.01}):
        router = build(small=Short(TABLE, LABELS), include_route=True, **extra)
        assert call(router, "easy", async_)["route"]["reason"] == "error"


# --- what may be a small model, and what it can read ------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: m.with_config(tags=["x"]),
        lambda m: m.with_retry(),
        lambda m: m.bind(),
        lambda m: m.with_types(input_type=str),
        lambda m: m.with_fallbacks([small_model()]),
    ],
    ids=["config", "retry", "bind", "types", "fallbacks"],
)
def test_a_wrapped_small_model_keeps_its_name_and_labels(wrap):
    router = build(small=wrap(small_model(name="fast")), threshold={"fast": 0.9})
    assert router.batch(["easy", "hard"]) == ["pos", "LARGE"]
    assert router.small_models[0].labels == LABELS


def test_a_small_model_must_not_be_called_large():
    with pytest.raises(ValueError, match="large"):
        build(small=small_model(name="large"))


@pytest.mark.parametrize(
    "value",
    [
        "easy",
        HumanMessage("easy"),
        [HumanMessage("x"), HumanMessage("easy")],
        [{"role": "user", "content": "easy"}],
        [("human", "easy")],
        ChatPromptTemplate.from_messages([("human", "{x}")]).invoke({"x": "easy"}),
        {"text": "easy"},
    ],
    ids=str,
)
def test_whatever_a_chat_model_reads_a_text_model_reads_too(value):
    assert build().invoke(value) == "pos"


def test_a_mistake_in_the_configuration_is_said_once_and_in_the_route(caplog):
    router = build(include_route=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            route = router.invoke({"text": "easy", "other": "secret words"})["route"]
    assert "input_key" in route["error"]
    assert caplog.text.count("escalate to the large model") == 1
    assert "secret words" not in caplog.text


def test_a_text_pipeline_that_gets_dicts_is_pointed_to_the_key(caplog):
    class Texts:
        classes_ = LABELS

        def predict_proba(self, rows):
            return [[0.9, 0.1] for row in rows if row.lower()]

    build(small=SklearnClassifier(Texts())).invoke({"text": "easy"})
    assert "input_key=" in caplog.text


def test_numpy_strings_do_not_get_out():
    def answer(_):
        return {
            "choice": np.str_("pos"),
            "probabilities": {np.str_("pos"): np.float32(1.0)},
            "confidence": np.float64(0.99),
        }

    result = build(small=RunnableLambda(answer), include_route=True).invoke("x")
    choice = result["route"]["answers"][0]["choice"]
    assert type(result["output"]) is type(choice) is str
    assert {type(k) for k in result["route"]["answers"][0]["probabilities"]} == {str}


# --- settings -------------------------------------------------------------------------------------------------------


def test_a_field_that_is_set_takes_effect_and_a_bad_value_changes_nothing():
    router = build()
    router.threshold = 0.5
    assert router.invoke("hard") == "pos"
    router.mode = "off"
    assert router.invoke("easy") == "LARGE"
    router.mode = "live"
    with pytest.raises(ValueError, match="threshold"):
        router.threshold = "high"
    assert router.invoke("hard") == "pos"
    router.never_local = ["pos"]
    assert router.invoke("easy") == "LARGE"


def test_minus_infinity_accepts_everything_and_the_route_says_so():
    route = build(threshold=-np.inf, include_route=True).invoke("hard")["route"]
    assert route["accepted"]
    assert route["threshold"] < -1e300


@pytest.mark.parametrize(
    "labels", [{"neg"}, frozenset(["neg"]), ("neg",), iter(["neg"])], ids=lambda v: type(v).__name__
)
def test_never_local_takes_any_collection(labels):
    assert build(never_local=labels).never_local == ("neg",)


@pytest.mark.parametrize("recorder", ["routes.jsonl", object()])
def test_something_that_cannot_record_is_refused(recorder):
    with pytest.raises(TypeError, match="JSONLRecorder"):
        build(recorder=recorder)


def test_an_async_recorder_is_refused():
    class Async:
        async def record(self, row): ...

    with pytest.raises(TypeError, match="plain method"):
        build(recorder=Async())


def test_a_function_may_be_the_large_chain():
    assert build(large=ask).invoke("hard") == "LARGE"


def test_copies_and_pickles():
    router = build()
    for other in (copy.copy(router), copy.deepcopy(router)):
        assert other.batch(["easy", "hard"]) == ["pos", "LARGE"]
    state = router.__getstate__()
    assert "_state" not in state["__dict__"]
    assert pickle.dumps(small_model().__getstate__())


def test_the_kill_switch_stands_above_a_malformed_setting(monkeypatch):
    monkeypatch.setenv("DSPLUS_MODE", "off")
    assert build().invoke("easy", {"configurable": {"dsplus_threshold": "nonsense"}}) == "LARGE"


def test_a_bound_routers_node_keeps_the_binding():
    plain = build().as_node(input_key="text", output_key="label")
    node = build().with_config(configurable={"dsplus_threshold": 0.999}).as_node(input_key="text", output_key="label")
    assert plain.invoke({"text": "easy"}) == {"label": "pos"}
    assert node.invoke({"text": "easy"}) == {"label": "LARGE"}


def test_joined_routers_are_drawn_apart():
    graph = (build(to_output=lambda a, _: "easy") | build()).get_graph()
    assert [node.name for node in graph.nodes.values()].count("small") == 2


# --- the large chain -------------------------------------------------------------------------------------------------


class Fussy(BaseModel):
    label: Literal["positive", "negative"]


def test_a_class_that_does_not_take_the_labels_is_refused_at_construction():
    def fussy(_) -> Fussy:
        return Fussy(label="positive")

    with pytest.raises(TypeError, match="neg"):
        build(large=RunnableLambda(fussy))


@both
def test_a_mapper_that_fails_harms_only_its_item_and_is_no_failure_of_the_large_model(async_):
    def to_large(value, _):
        if value == "hard":
            raise ZeroDivisionError
        return value

    router = build(to_large=to_large, on_large_error="small")
    values = ["easy", "hard", "unheard-of"]
    run = router.abatch(values, return_exceptions=True) if async_ else None
    results = asyncio.run(run) if async_ else router.batch(values, return_exceptions=True)
    assert (results[0], type(results[1]), results[2]) == ("pos", ZeroDivisionError, "LARGE")
    with pytest.raises(ZeroDivisionError):
        call(router, "hard", async_)
    completed = dict(router.batch_as_completed(values, return_exceptions=True))
    assert type(completed[1]) is ZeroDivisionError


def test_what_the_large_chain_does_to_its_input_does_not_change_the_route():
    def vandal(value) -> str:
        value["dsplus"]["answer"]["choice"] = "HACK"
        value["dsplus"]["answer"]["probabilities"].clear()
        return "LARGE"

    router = build(large=vandal, include_route=True, score=lambda p: p.pop("pos"))
    answer = router.invoke({"text": "hard"})["route"]["answers"][0]
    assert (answer["choice"], answer["probabilities"]) == ("pos", TABLE["hard"])


def test_notes_reach_the_route_through_a_mapper():
    pruner = PromptPruner.from_messages([("human", "{text}")], labels=["pos", "neg", "odd"], pruning="keep", top_k=2)
    small = FakeSmallModel({"x": {"pos": 0.5, "neg": 0.4, "odd": 0.1}})
    chat = GenericFakeChatModel(messages=itertools.cycle([AIMessage("pos")]))
    router = ConfidenceRouter(
        small=small,
        large=pruner | chat,
        threshold=0.9,
        include_route=True,
        to_large=lambda v, a: {"text": v, "dsplus": {"answer": a, "probabilities": a["probabilities"]}},
    )
    assert router.invoke("x")["route"]["candidates"] == ["pos", "neg"]


class Chunks:
    """A large chain whose stream shows some chunks and then fails."""

    def __init__(self, *chunks, error=RuntimeError):
        self.chunks, self.error = chunks, error

    def runnable(self):
        def run(inputs):
            for _ in inputs:
                yield from self.chunks
                raise self.error

        async def arun(inputs):
            async for _ in inputs:
                for chunk in self.chunks:
                    yield chunk
                raise self.error

        return RunnableGenerator(run, arun).with_types(output_type=AIMessage)


@both
def test_an_empty_first_chunk_shows_nothing_yet(async_):
    large = Chunks(AIMessageChunk(content=""), AIMessageChunk(content="")).runnable()
    chunks = stream(build(large=large, on_large_error="small"), "hard", async_)
    assert "".join(c.text for c in chunks) == "pos"
    large = Chunks(AIMessageChunk(content=""), AIMessageChunk(content="ha")).runnable()
    with pytest.raises(RuntimeError):
        stream(build(large=large, on_large_error="small"), "hard", async_)


@both
def test_a_stream_that_is_left_early_is_recorded(async_):
    rows = Rows()
    chat = GenericFakeChatModel(messages=itertools.cycle([AIMessage("one two three")]))
    router = build(large=chat, recorder=rows)
    if async_:

        async def go():
            source = router.astream("hard")
            await anext(source)
            await source.aclose()

        asyncio.run(go())
    else:
        source = router.stream("hard")
        next(source)
        source.close()
    assert rows.kinds() == ["route"]


def test_an_interrupt_is_not_recorded_as_a_failure():
    from langgraph.errors import GraphInterrupt

    def pause(_) -> str:
        raise GraphInterrupt

    rows = Rows()
    router = build(large=pause, recorder=rows)
    with pytest.raises(GraphInterrupt):
        router.invoke("hard")
    assert rows.rows == []
    with pytest.raises(GraphInterrupt):
        build(small=RunnableLambda(pause)).invoke("hard")


class Draft(SmallModel):
    """An embedded small model that asks a chat model by itself."""

    labels: list[str] = LABELS
    chat: object = None

    def predict_proba(self, inputs):
        for value in inputs:
            self.chat.invoke(value)
        return [[0.5, 0.5]] * len(inputs)


@both
def test_a_draft_inside_an_embedded_small_model_does_not_leak(async_):
    from langgraph.graph import START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        text: str
        label: object

    draft = GenericFakeChatModel(messages=itertools.cycle([AIMessage("draft")]))
    chat = GenericFakeChatModel(messages=itertools.cycle([AIMessage("final")]))
    router = ConfidenceRouter(small=Draft(chat=draft), large=chat, threshold=0.9)
    graph = StateGraph(State).add_node("n", router.as_node(input_key="text", output_key="label")).add_edge(START, "n")
    app = graph.compile()
    if async_:

        async def collect():
            return [m async for m in app.astream({"text": "x"}, stream_mode="messages")]

        messages = asyncio.run(collect())
    else:
        messages = list(app.stream({"text": "x"}, stream_mode="messages"))
    assert "".join(m.text for m, _ in messages) == "final"


# --- background work ------------------------------------------------------------------------------------------------


@both
def test_shadow_runs_also_where_the_large_chain_fails(async_):
    def fail(_) -> str:
        raise RuntimeError

    rows = Rows()
    router = build(large=fail, mode="shadow", recorder=rows, background=False)
    with pytest.raises(RuntimeError):
        call(router, "easy", async_)
    with pytest.raises(RuntimeError):
        stream(router, "easy", async_)
    assert rows.kinds() == ["route", "shadow"] * 2


@both
def test_the_route_is_recorded_before_what_follows_from_it(async_):
    rows = Rows()
    router = build(mode="shadow", recorder=rows, background=False)
    stream(router, "easy", async_)
    list(router.batch_as_completed(["easy", "hard"]))
    assert rows.kinds() == ["route", "shadow", "route", "route", "shadow", "shadow"]


def test_a_shadow_row_says_what_live_mode_would_have_decided():
    rows = Rows()
    broken = FakeSmallModel({"easy": RuntimeError("text")}, LABELS, name="broken", default=TABLE["hard"])
    router = build(small=[small_model(name="first"), broken], mode="shadow", recorder=rows, background=False)
    router.batch(["easy", "hard"])
    easy, hard = (row for row in rows.rows if row["kind"] == "shadow")
    assert (easy["route"]["accepted"], easy["route"]["model"], easy["route"]["threshold"]) == (True, "first", 0.9)
    assert easy["errors"] == {"broken": "RuntimeError"}
    assert (hard["route"]["accepted"], hard["route"]["reason"], len(hard["answers"])) == (False, "unsure", 2)


def test_work_that_is_lost_with_its_loop_is_counted(caplog):
    router = build(mode="shadow", small=small_model(latency=0.2))
    asyncio.run(router.ainvoke("easy"))
    assert router.drain(5)
    assert router.background_skipped == 1
    assert "adrain" in caplog.text


def test_draining_never_hangs_on_a_loop_that_does_not_run():
    router = build(mode="shadow", small=small_model(latency=0.05))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(router.ainvoke("easy"))
    with pytest.raises(RuntimeError, match="not running"):
        router.drain(5)
    assert loop.run_until_complete(router.adrain(5))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert asyncio.run(router.adrain(1))


def test_idle_workers_end(monkeypatch):
    from langchain_dsplus.routing import background

    monkeypatch.setattr(background, "_IDLE_SECONDS", 0.05)
    work = background.Background(workers=2)
    before = threading.active_count()
    for _ in range(4):
        work.submit(lambda: time.sleep(0.01))
    assert work.drain(5)
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() <= before
    assert work.submit(lambda: None)
    assert work.drain(5)


EXIT = """
import sys
from langchain_dsplus import ConfidenceRouter, FakeSmallModel, JSONLRecorder

def ask(text) -> str:
    return "LARGE"

router = ConfidenceRouter(
    small=FakeSmallModel({"x": {"a": 1.0}}), large=ask, threshold=0.5, audit_rate=1.0, background_workers=1,
    recorder=JSONLRecorder(sys.argv[1]),
)
router.invoke("x")
router.batch(["x"] * 3)
"""


def test_audits_of_a_batch_are_finished_at_exit(tmp_path):
    path = tmp_path / "routes.jsonl"
    subprocess.run([sys.executable, "-c", EXIT, str(path)], check=True, timeout=60)
    rows = list(JSONLRecorder.read(path))
    assert sorted(r["kind"] for r in rows) == ["audit"] * 4 + ["route"] * 4
    assert {r.get("output") for r in rows if r["kind"] == "audit"} == {"LARGE"}


def test_an_audit_does_not_write_into_the_users_thread():
    seen = []

    def spy(_, config) -> str:
        seen.append(config["configurable"].get("thread_id"))
        return "LARGE"

    router = build(large=RunnableLambda(spy), audit_rate=1.0, background=False)
    router.invoke("easy", {"configurable": {"thread_id": "user-1"}})
    assert seen[0].startswith("dsplus-")
    router.invoke("hard", {"configurable": {"thread_id": "user-1"}})
    assert seen[1] == "user-1"


def test_a_handler_that_raises_closes_the_run():
    ended = []

    class Handler(BaseCallbackHandler):
        raise_error = True

        def on_custom_event(self, name, data, **kwargs):
            raise RuntimeError

        def on_chain_error(self, error, **kwargs):
            ended.append(type(error))

    with pytest.raises(RuntimeError):
        build().invoke("easy", {"callbacks": [Handler()]})
    assert ended == [RuntimeError]
