"""`ConfidenceRouter`: what goes where, what comes back, and what it says about it."""

import asyncio
import itertools
import json
import math
import time
import warnings
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.load import dumpd, dumps, load, loads
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnablePassthrough
from pydantic import BaseModel

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, SklearnClassifier, SmallModel
from langchain_dsplus.routing.decision import SettingsError

LABELS = ["neg", "pos"]
TABLE = {
    "great": {"pos": 0.99, "neg": 0.01},
    "good": {"pos": 0.9, "neg": 0.1},
    "hm": {"pos": 0.6, "neg": 0.4},
    "bad": {"pos": 0.05, "neg": 0.95},
    "broken": ValueError("a user's secret text"),
    "nan": {"pos": math.nan, "neg": 0.5},
}


def small_model(**kwargs):
    return FakeSmallModel(TABLE, LABELS, **kwargs)


class Large:
    """A large chain that remembers what it got."""

    def __init__(self, answer="LARGE"):
        self.answer = answer
        self.inputs = []
        self.configs = []
        self.kwargs = []

    def __call__(self, value, config, **kwargs) -> str:
        self.inputs.append(value)
        self.configs.append(config)
        self.kwargs.append(kwargs)
        answer = self.answer(value) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def runnable(self):
        def ask(value, config, **kwargs) -> str:
            return self(value, config, **kwargs)

        return RunnableLambda(ask)


def build(large=None, threshold=0.9, small=None, **kwargs):
    large = large or Large()
    small = small or small_model()
    return ConfidenceRouter(small=small, large=large.runnable(), threshold=threshold, **kwargs), small, large


def call(router, value, async_, config=None, **kwargs):
    if async_:
        return asyncio.run(router.ainvoke(value, config, **kwargs))
    return router.invoke(value, config, **kwargs)


def call_batch(router, values, async_, config=None, **kwargs):
    if async_:
        return asyncio.run(router.abatch(values, config, **kwargs))
    return router.batch(values, config, **kwargs)


def call_stream(router, value, async_, config=None, **kwargs):
    if async_:

        async def collect():
            return [chunk async for chunk in router.astream(value, config, **kwargs)]

        return asyncio.run(collect())
    return list(router.stream(value, config, **kwargs))


both = pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])


# --- the threshold ---------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("text", "expected"), [("great", "pos"), ("good", "LARGE"), ("hm", "LARGE"), ("bad", "neg")], ids=str
)
def test_accepts_strictly_above_the_threshold(async_, text, expected):
    router, _, large = build(threshold=0.9)
    assert call(router, text, async_) == expected
    assert large.inputs == ([] if expected != "LARGE" else [text])


@pytest.mark.parametrize("threshold", [None, math.inf])
def test_no_threshold_accepts_nothing(threshold):
    router, _, _ = build(threshold=threshold, include_route=True)
    result = router.invoke("great")
    assert result["output"] == "LARGE"
    assert result["route"]["threshold"] is None
    assert result["route"]["reason"] == "unsure"


@pytest.mark.parametrize("threshold", [math.nan, "0.9", True, [0.9, 0.8], {"other": 0.9}, {}])
def test_a_bad_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        build(threshold=threshold)


def test_a_numpy_threshold_is_a_number():
    router, _, _ = build(threshold=np.float64(0.9), include_route=True)
    assert type(router.invoke("great")["route"]["threshold"]) is float


@given(
    confidences=st.lists(st.floats(0.5, 1.0), min_size=1, max_size=8),
    threshold=st.one_of(st.floats(0.4, 1.1), st.sampled_from([0.5, 1.0, math.inf])),
)
def test_order_counts_and_threshold_semantics(confidences, threshold):
    table = {f"t{i}": {"pos": c, "neg": 1.0 - c} for i, c in enumerate(confidences)}
    small = FakeSmallModel(table, LABELS)
    router, _, large = build(Large(lambda v: f"L:{v}"), threshold, small)
    expected = [
        ("pos" if c > 1.0 - c else "neg") if max(c, 1.0 - c) > threshold else f"L:t{i}"
        for i, c in enumerate(confidences)
    ]
    inputs = list(table)
    assert router.batch(inputs) == expected
    assert len(small.calls) == 1
    assert len(large.inputs) == sum(e.startswith("L:") for e in expected)
    assert [router.invoke(text) for text in inputs] == expected
    assert asyncio.run(router.abatch(inputs)) == expected
    assert ["".join(router.stream(text)) for text in inputs] == expected
    completed = dict(router.batch_as_completed(inputs))
    assert [completed[i] for i in range(len(inputs))] == expected


@given(st.floats(0.500001, 0.999999))
def test_a_confidence_survives_json_and_still_stands_on_the_same_side(confidence):
    small = FakeSmallModel({"x": {"pos": confidence, "neg": 1.0 - confidence}}, LABELS)
    recorded = json.loads(json.dumps(small.invoke("x")))["confidence"]
    just_below = math.nextafter(recorded, -math.inf)
    assert build(threshold=recorded, small=small)[0].invoke("x") == "LARGE"
    assert build(threshold=just_below, small=small)[0].invoke("x") == "pos"


# --- Algorithm 2 -------------------------------------------------------------------------------------------------


def two_models():
    specific = FakeSmallModel(
        {"a": {"pos": 0.99, "neg": 0.01}}, LABELS, default={"pos": 0.6, "neg": 0.4}, name="specific"
    )
    learnable = FakeSmallModel(
        {"a": {"pos": 0.0, "neg": 1.0}, "b": {"pos": 0.1, "neg": 0.9}},
        LABELS,
        default={"pos": 0.55, "neg": 0.45},
        name="learnable",
    )
    return specific, learnable


@both
def test_specific_then_learnable_then_large(async_):
    specific, learnable = two_models()
    router, _, large = build(small=[specific, learnable], threshold=[0.9, 0.8], include_route=True)
    results = call_batch(router, ["a", "b", "c"], async_)
    assert [r["output"] for r in results] == ["pos", "neg", "LARGE"]
    assert [r["route"]["model"] for r in results] == ["specific", "learnable", "large"]
    assert [r["route"]["threshold"] for r in results] == [0.9, 0.8, 0.8]
    assert [len(r["route"]["answers"]) for r in results] == [1, 2, 2]
    assert specific.calls == [["a", "b", "c"]]
    assert learnable.calls == [["b", "c"]]
    assert large.inputs == ["c"]


def test_thresholds_by_name_and_names_that_collide():
    specific, learnable = two_models()
    router, _, _ = build(small=[specific, learnable], threshold={"learnable": 0.8, "specific": 0.995})
    assert router.batch(["a", "b"]) == ["neg", "neg"]
    router = build(small=[small_model(), small_model()], threshold={"small": 0.9, "small_2": 0.5})[0]
    assert router.small_names == ["small", "small_2"]
    assert router.invoke("hm") == "pos"


def test_the_large_model_gets_the_last_answer():
    specific, learnable = two_models()
    router, _, large = build(small=[specific, learnable], threshold=0.99)
    router.invoke({"text": "b"})
    assert large.inputs[0]["dsplus"]["answer"]["choice"] == "neg"


# --- accepting needs proof --------------------------------------------------------------------------------------


class Duck:
    classes_ = LABELS

    def __init__(self, row):
        self.row = row

    def predict_proba(self, inputs):
        if isinstance(self.row, Exception):
            raise self.row
        return [self.row for _ in inputs]


@both
@pytest.mark.parametrize(
    "row",
    [
        [math.nan, math.nan],
        [math.inf, 0.0],
        [0.1, 0.1],
        [-0.5, 1.5],
        [1.0],
        RuntimeError("the user's text"),
        TimeoutError(),
    ],
    ids=repr,
)
def test_whatever_is_wrong_with_a_small_model_escalates(async_, row):
    router, _, large = build(small=SklearnClassifier(Duck(row)), threshold=0.0, include_route=True)
    result = call(router, {"text": "x"}, async_)
    assert result["output"] == "LARGE"
    route = result["route"]
    assert (route["reason"], route["model"], route["accepted"], route["answers"]) == ("error", "large", False, [])
    assert "user's text" not in route["error"]
    assert large.inputs[0]["dsplus"] == {"answer": None, "probabilities": {}}


@both
def test_one_bad_item_never_spoils_its_batch(async_):
    router, _, large = build(include_route=True)
    results = call_batch(router, ["great", "broken", "bad", 7, "nan", "great"], async_)
    assert [r["route"]["reason"] for r in results] == ["confident", "error", "confident", "error", "error", "confident"]
    assert large.inputs == ["broken", 7, "nan"]


def test_a_label_that_the_model_does_not_have_escalates():
    def strange(value):
        return {"choice": "unheard-of", "probabilities": {}, "confidence": 1.0}

    runnable = RunnableLambda(strange)
    runnable.labels = LABELS
    router, _, _ = build(small=runnable, include_route=True)
    assert router.invoke("x")["route"]["reason"] == "error"


def test_any_runnable_that_returns_an_answer_is_a_small_model():
    router, _, _ = build(small=small_model().with_retry(), threshold=0.9)
    assert router.batch(["great", "hm"]) == ["pos", "LARGE"]


def test_labels_that_are_never_local():
    router, _, large = build(never_local=["neg"], include_route=True)
    results = router.batch([{"text": "bad"}, {"text": "great"}])
    assert [r["route"]["reason"] for r in results] == ["never_local", "confident"]
    assert large.inputs[0]["dsplus"]["probabilities"] == TABLE["bad"]
    with pytest.raises(ValueError, match=r"never_local.*typo"):
        build(never_local=["typo"])
    with pytest.raises(ValueError, match="never_local"):
        build(never_local="neg")


@both
def test_a_small_model_that_is_too_slow_escalates(async_):
    router, small, _ = build(small=small_model(latency=0.3), small_timeout=0.02, include_route=True)
    started = time.perf_counter()
    result = call(router, "great", async_)
    assert time.perf_counter() - started < 0.25
    assert result["output"] == "LARGE"
    assert "SmallModelTimeoutError" in result["route"]["error"]
    small.latency = 0.0
    time.sleep(0.35)
    assert call(router, "great", async_)["output"] == "pos"


def test_hung_threads_do_not_pile_up():
    router, small, _ = build(small=small_model(latency=0.5), small_timeout=0.01)
    for _ in range(12):
        assert router.invoke("great") == "LARGE"
    assert len(small.calls) <= 8


@pytest.mark.parametrize(
    ("score", "threshold", "local"),
    [("margin", 0.7, True), ("margin", 0.8, False), ("entropy", -0.4, True), ("entropy", -0.3, False)],
)
def test_the_router_may_have_its_own_score(score, threshold, local):
    router, _, _ = build(score=score, threshold=threshold, include_route=True)
    route = router.invoke("good")["route"]
    assert route["accepted"] is local
    assert route["answers"][0]["confidence"] == pytest.approx({"margin": 0.8, "entropy": -0.3250829734}[score])


def test_a_callable_score_that_fails_escalates():
    router, _, _ = build(score=lambda probabilities: probabilities["no such label"], include_route=True)
    assert router.invoke("great")["route"]["reason"] == "error"
    with pytest.raises(ValueError, match="score"):
        build(score="no such score")


# --- what the large chain receives -------------------------------------------------------------------------------


@both
def test_a_dict_gets_one_extra_key_and_is_not_changed(async_):
    router, _, large = build()
    value = {"text": "hm", "other": 1}
    call(router, value, async_)
    assert value == {"text": "hm", "other": 1}
    answer = {"choice": "pos", "probabilities": TABLE["hm"], "confidence": 0.6}
    assert large.inputs == [{**value, "dsplus": {"answer": answer, "probabilities": {"neg": 0.4, "pos": 0.6}}}]


def dict_model(**kwargs):
    return small_model(input_key="text", **kwargs)


def test_the_key_can_be_renamed_and_must_be_free():
    router, _, large = build(small=dict_model(), context_key="hint")
    router.invoke({"text": "hm"})
    assert large.inputs[0].keys() == {"text", "hint"}
    with pytest.raises(ValueError, match="hint"):
        router.invoke({"text": "hm", "hint": "mine"})
    with pytest.raises(ValueError, match="hint"):
        router.invoke({"text": "hm", "hint": {"answer": None, "probabilities": {}, "more": 1}})


def test_an_enclosing_routers_context_is_replaced():
    inner, _, large = build(small=dict_model(), threshold=0.9)
    outer = ConfidenceRouter(small=dict_model(name="outer"), large=inner, threshold=0.9995)
    assert outer.invoke({"text": "great"}) == "pos"
    assert outer.invoke({"text": "hm"}) == "LARGE"
    assert large.inputs[0]["dsplus"]["answer"]["confidence"] == 0.6


def test_to_large_maps_other_inputs():
    router, _, large = build(to_large=lambda value, answer: f"{value}|{answer and answer['choice']}")
    router.batch(["hm", "broken"])
    assert sorted(large.inputs) == ["broken|None", "hm|pos"]


@both
def test_arguments_reach_the_large_chain(async_):
    router, _, large = build()
    call(router, "hm", async_, stop=["x"])
    call_batch(router, ["hm", "great"], async_, stop=["y"])
    assert large.kwargs == [{"stop": ["x"]}, {"stop": ["y"]}]


# --- what comes back -----------------------------------------------------------------------------------------------


class Verdict(BaseModel):
    label: Literal["pos", "neg", "odd", "LARGE"]
    note: str = ""


class TwoRequired(BaseModel):
    label: str
    score: float


def chat_model(*texts):
    return GenericFakeChatModel(messages=itertools.cycle([AIMessage(t) for t in texts or ("LARGE answer",)]))


def test_the_output_has_the_large_chains_own_type():
    def typed(_) -> Verdict:
        return Verdict(label="LARGE")

    small = small_model()
    assert ConfidenceRouter(small=small, large=RunnableLambda(typed)).invoke("great") == Verdict(label="pos")
    assert ConfidenceRouter(small=small, large=chat_model()).invoke("great").content == "pos"
    assert ConfidenceRouter(small=small, large=chat_model() | StrOutputParser()).invoke("great") == "pos"


@pytest.mark.parametrize("output_type", [TwoRequired, dict, int])
def test_an_unknown_output_type_is_an_error_at_construction_that_shows_the_way(output_type):
    large = RunnableLambda(lambda _: None).with_types(output_type=output_type)
    with pytest.raises(TypeError, match=r"to_output=lambda answer, input"):
        ConfidenceRouter(small=small_model(), large=large)
    router = ConfidenceRouter(
        small=small_model(), large=large, to_output=lambda answer, value: (value, answer["choice"])
    )
    assert router.invoke("great") == ("great", "pos")


def test_a_local_answer_that_cannot_be_turned_escalates():
    def fail(answer, value):
        raise RuntimeError

    router, _, _ = build(to_output=fail, include_route=True)
    result = router.invoke("great")
    assert result["output"] == "LARGE"
    assert result["route"]["error"] == "to_output: RuntimeError"


@both
def test_messages_carry_the_route_on_a_copy(async_):
    shared = AIMessage("LARGE answer", response_metadata={"model_name": "m"})
    large = RunnableLambda(lambda _: shared).with_types(output_type=AIMessage)
    router = ConfidenceRouter(small=small_model(), large=large, threshold=0.9)
    local, escalated = call_batch(router, ["great", "hm"], async_)
    assert local.response_metadata["dsplus"]["model"] == "small"
    assert escalated.response_metadata["dsplus"]["reason"] == "unsure"
    assert escalated.response_metadata["model_name"] == "m"
    assert shared.response_metadata == {"model_name": "m"}


@both
def test_a_stream_is_one_answer_with_the_route_on_its_first_chunk(async_):
    router = ConfidenceRouter(small=small_model(), large=chat_model(), threshold=0.9)
    for text in ("great", "hm"):
        chunks = call_stream(router, text, async_)
        assert ["dsplus" in c.response_metadata for c in chunks] == [True] + [False] * (len(chunks) - 1)
        joined = sum(chunks[1:], chunks[0])
        assert joined.content == call(router, text, async_).content
    assert len(chunks) == 3


@both
def test_a_stream_with_the_route_says_it_once_and_first(async_):
    router = ConfidenceRouter(
        small=small_model(), large=chat_model() | StrOutputParser(), threshold=0.9, include_route=True
    )
    for text in ("great", "hm"):
        chunks = call_stream(router, text, async_)
        assert [set(c) for c in chunks] == [{"route"}] + [{"output"}] * (len(chunks) - 1)
        joined = sum(chunks[1:], chunks[0])
        assert joined["output"] == call(router, text, async_)["output"]


def test_chunks_that_come_in_are_joined_before_the_decision():
    router, small, _ = build()
    assert list(router.transform(iter(["gr", "eat"]))) == ["pos"]
    assert small.calls == [["great"]]


@both
def test_it_pipes_both_ways(async_):
    prompt = ChatPromptTemplate.from_messages([("human", "{text} {dsplus}")])
    router = ConfidenceRouter(small=small_model(input_key="text"), large=prompt | chat_model(), threshold=0.9)
    chain = RunnablePassthrough() | router | StrOutputParser()
    assert call_batch(chain, [{"text": "great"}, {"text": "hm"}], async_) == ["pos", "LARGE answer"]
    assert "".join(call_stream(chain, {"text": "hm"}, async_)) == "LARGE answer"


# --- batches --------------------------------------------------------------------------------------------------------


@both
def test_one_batch_of_each_side(async_):
    seen = []

    class Chain(GenericFakeChatModel):
        def batch(self, inputs, config=None, **kwargs):
            seen.append(list(inputs))
            return super().batch(inputs, config, **kwargs)

        async def abatch(self, inputs, config=None, **kwargs):
            seen.append(list(inputs))
            return await super().abatch(inputs, config, **kwargs)

    small = small_model()
    router = ConfidenceRouter(small=small, large=Chain(messages=itertools.cycle([AIMessage("x")])), threshold=0.9)
    call_batch(router, ["hm", "great", "good", "bad"], async_)
    assert small.calls == [["hm", "great", "good", "bad"]]
    assert seen == [["hm", "good"]]


@both
def test_an_empty_batch_asks_nobody(async_):
    router, small, large = build()
    assert call_batch(router, [], async_) == []
    assert small.calls == large.inputs == []


class RateLimitError(Exception):
    pass


def failing(value):
    return RateLimitError("slow down") if value == "hm" else f"L:{value}"


@both
def test_an_error_carries_the_finished_answers(async_):
    router, _, _ = build(Large(failing))
    with pytest.raises(RateLimitError, match="slow down") as caught:
        call_batch(router, ["great", "hm", "good"], async_)
    assert caught.value.dsplus_finished == {0: "pos", 2: "L:good"}
    assert "dsplus_finished" in caught.value.__notes__[0]


@both
def test_exceptions_per_item(async_):
    router, _, _ = build(Large(failing))
    results = call_batch(router, ["great", "hm", "good"], async_, return_exceptions=True)
    assert results[0] == "pos"
    assert isinstance(results[1], RateLimitError)
    assert results[2] == "L:good"


@both
def test_local_answers_complete_first(async_):
    router, _, _ = build(Large(failing))
    texts = ["hm", "great", "good", "bad"]

    async def collect():
        return [pair async for pair in router.abatch_as_completed(texts, return_exceptions=True)]

    pairs = asyncio.run(collect()) if async_ else list(router.batch_as_completed(texts, return_exceptions=True))
    assert pairs[:2] == [(1, "pos"), (3, "neg")]
    rest = dict(pairs[2:])
    assert rest[2] == "L:good"
    assert isinstance(rest[0], RateLimitError)


@both
def test_max_concurrency_holds_for_the_large_chain(async_):
    running, peak = 0, 0

    def slow(_) -> str:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        time.sleep(0.02)
        running -= 1
        return "x"

    async def aslow(_) -> str:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.02)
        running -= 1
        return "x"

    router = ConfidenceRouter(small=small_model(), large=RunnableLambda(slow, afunc=aslow), threshold=0.9)
    call_batch(router, ["hm"] * 8, async_, {"max_concurrency": 2})
    assert peak == 2


# --- when the large chain fails --------------------------------------------------------------------------------------


@both
def test_errors_of_the_large_chain_pass_through(async_):
    router, _, _ = build(Large(failing))
    with pytest.raises(RateLimitError, match="slow down"):
        call(router, "hm", async_)
    with pytest.raises(RateLimitError):
        call_stream(router, "hm", async_)


@both
def test_the_small_answer_may_stand_in_and_says_so(async_):
    router, _, _ = build(Large(failing), on_large_error="small", include_route=True)
    one = call(router, "hm", async_)
    many = call_batch(router, ["hm"], async_)[0]
    streamed = call_stream(router, "hm", async_)
    for result in (one, many, sum(streamed[1:], streamed[0])):
        assert result["output"] == "pos"
        route = result["route"]
        assert (route["degraded"], route["accepted"], route["model"]) == (True, False, "small")
        assert route["error"] == "large: RateLimitError"


@both
def test_no_stand_in_without_a_small_answer(async_):
    router, _, _ = build(Large(RateLimitError("x")), on_large_error="small", never_local=["neg"])
    for text in ("broken", "bad"):
        with pytest.raises(RateLimitError):
            call(router, text, async_)


def test_an_interrupt_of_a_graph_is_no_failure():
    from langgraph.errors import GraphInterrupt

    router, _, _ = build(Large(GraphInterrupt()), on_large_error="small")
    with pytest.raises(GraphInterrupt):
        router.invoke("hm")


@both
def test_a_stream_that_breaks_after_its_first_chunk_raises(async_):
    def broken(chunks):
        for _ in chunks:
            yield "half "
            raise RateLimitError

    async def abroken(chunks):
        async for _ in chunks:
            yield "half "
            raise RateLimitError

    large = RunnableGenerator(broken, abroken).with_types(output_type=str)
    router = ConfidenceRouter(small=small_model(), large=large, threshold=0.9, on_large_error="small")
    with pytest.raises(RateLimitError):
        call_stream(router, "hm", async_)


# --- modes and per-call settings -----------------------------------------------------------------------------------


@both
def test_off_runs_no_small_model(async_):
    router, small, large = build(mode="off", include_route=True)
    result = call(router, {"text": "great"}, async_)
    assert (result["output"], result["route"]["reason"], result["route"]["threshold"]) == ("LARGE", "off", None)
    assert small.calls == []
    assert large.inputs[0]["dsplus"] == {"answer": None, "probabilities": {}}


@both
@pytest.mark.parametrize("word", ["off", " OFF ", "no-such-word"])
def test_the_kill_switch_is_read_at_every_call(async_, word, monkeypatch):
    router, small, _ = build()
    assert call(router, "great", async_) == "pos"
    monkeypatch.setenv("DSPLUS_MODE", word)
    assert call(router, "great", async_) == "LARGE"
    assert len(small.calls) == 1
    monkeypatch.delenv("DSPLUS_MODE")
    assert call(router, "great", async_) == "pos"


def test_the_kill_switch_never_loosens(monkeypatch):
    monkeypatch.setenv("DSPLUS_MODE", "live")
    router, small, _ = build(mode="off")
    assert router.invoke("great") == "LARGE"
    assert small.calls == []


@both
def test_settings_per_call_and_per_item_keep_the_batch(async_):
    router, small, _ = build(allow_override=True)
    configs = [{"configurable": {"dsplus_threshold": t}} for t in (0.995, 0.5, 0.9)]
    assert call_batch(router, ["great", "hm", "great"], async_, configs) == ["LARGE", "pos", "pos"]
    assert len(small.calls) == 1
    off = {"configurable": {"dsplus_mode": "off"}}
    assert call_batch(router, ["great", "great"], async_, [off, {}]) == ["LARGE", "pos"]


def test_a_named_routers_own_setting_wins():
    router, _, _ = build(name="triage", allow_override=True)
    config = {"configurable": {"dsplus_threshold": 0.5, "dsplus_triage_threshold": 0.995}}
    assert router.invoke("great", config) == "LARGE"
    assert router.invoke("hm", {"configurable": {"dsplus_threshold": 0.5}}) == "pos"
    ids = {spec.id for spec in router.config_specs}
    assert {"dsplus_threshold", "dsplus_mode", "dsplus_audit_rate", "dsplus_triage_threshold"} <= ids


@pytest.mark.parametrize(("mode", "asked"), [("off", "shadow"), ("off", "live"), ("shadow", "live")])
def test_a_looser_mode_is_refused(mode, asked):
    router, _, _ = build(mode=mode)
    config = {"configurable": {"dsplus_mode": asked}}
    with pytest.raises(SettingsError, match="allow_override"):
        router.invoke("great", config)
    allowed, _, _ = build(mode=mode, allow_override=True)
    assert allowed.invoke("great", config) == ("pos" if asked == "live" else "LARGE")
    allowed.drain()


@both
@given(
    own=st.lists(st.one_of(st.none(), st.floats(-1, 1)), min_size=1, max_size=3),
    asked=st.lists(st.one_of(st.floats(-2, 2), st.just(math.inf)), min_size=3, max_size=3),
    form=st.sampled_from(["list", "dict", "named"]),
)
def test_a_looser_threshold_than_a_plain_number_is_refused(async_, own, asked, form):
    """Whatever form it has, and if it is looser for one small model only; a stricter one holds."""
    names = [f"m{place}" for place in range(len(own))]
    smalls = [FakeSmallModel({"hm": {"pos": 0.6, "neg": 0.4}}, ["pos", "neg"], name=name) for name in names]
    asked = asked[: len(own)]
    value = dict(zip(names, asked, strict=True)) if form == "dict" else asked
    config = {"configurable": {"dsplus_triage_threshold" if form == "named" else "dsplus_threshold": value}}
    router, _, _ = build(small=smalls, threshold=own, name="triage", include_route=True)
    looser = any(
        math.inf if mine is None else mine > one for mine, one in zip(own, asked, strict=True) if one != math.inf
    )
    if looser:
        with pytest.raises(SettingsError, match="looser than the router's"):
            call(router, "hm", async_, config)
    else:
        accepted = any(one < 0.6 for one in asked)
        assert call(router, "hm", async_, config)["route"]["accepted"] is accepted


def test_a_bad_setting_fails_only_its_item():
    router, _, _ = build()
    configs = [{"configurable": {"dsplus_threshold": "high"}}, {}]
    results = router.batch(["great", "great"], configs, return_exceptions=True)
    assert isinstance(results[0], SettingsError)
    assert results[1] == "pos"
    with pytest.raises(SettingsError, match="dsplus_threshold"):
        router.batch(["great", "great"], configs)


# --- nodes, graphs, serialization, tracing --------------------------------------------------------------------------


class Recorder(BaseCallbackHandler):
    def __init__(self):
        self.runs = []
        self.events = []
        self.ended = []

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, tags=None, name=None, **kwargs):
        self.runs.append((name, parent_run_id, tags or []))

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, tags=None, **kwargs):
        self.runs.append(("chat", parent_run_id, tags or []))

    def on_chain_end(self, outputs, *, run_id, **kwargs):
        self.ended.append(outputs)

    def on_custom_event(self, name, data, *, run_id, **kwargs):
        self.events.append((name, data["route_id"], str(run_id)))


@both
def test_a_local_answer_is_one_traced_run_and_an_escalated_one_has_a_child(async_):
    router = ConfidenceRouter(small=small_model(), large=chat_model(), threshold=0.9)
    handler = Recorder()
    call(router, "great", async_, {"callbacks": [handler]})
    assert [(name, parent) for name, parent, _ in handler.runs] == [("ConfidenceRouter", None)]
    handler = Recorder()
    call(router, "hm", async_, {"callbacks": [handler]})
    assert [name for name, _, _ in handler.runs] == ["ConfidenceRouter", "chat"]
    assert handler.runs[1][1] is not None
    assert "large" in handler.runs[1][2]
    assert len(handler.ended) == 1


@both
def test_the_route_reaches_handlers_that_listen(async_):
    router, _, _ = build(include_route=True)
    handler = Recorder()
    result = call(router, "great", async_, {"callbacks": [handler]})
    assert handler.events == [("dsplus_route", result["route"]["route_id"], result["route"]["route_id"])]


async def test_events_of_the_inner_model_and_the_route_are_streamed():
    router = ConfidenceRouter(small=small_model(), large=chat_model(), threshold=0.9)
    events = [e async for e in router.astream_events("hm", version="v2")]
    kinds = [e["event"] for e in events]
    assert "on_chat_model_stream" in kinds
    assert [e["data"]["reason"] for e in events if e["event"] == "on_custom_event"] == ["unsure"]
    assert kinds[-1] == "on_chain_end"


def test_an_error_is_traced():
    errors = []

    class Errors(BaseCallbackHandler):
        def on_chain_error(self, error, **kwargs):
            errors.append(type(error))

    router, _, _ = build(Large(failing))
    with pytest.raises(RateLimitError):
        router.batch(["hm", "great"], {"callbacks": [Errors()]})
    assert errors.count(RateLimitError) == 2  # the large chain's run and the router's


@both
def test_as_a_node_it_returns_only_its_keys(async_):
    from langgraph.graph import END, START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        text: str
        label: str
        route: dict
        content: str

    router, _, _ = build()
    graph = StateGraph(State)
    graph.add_node("classify", router.as_node(input_key="text", output_key="label", route_key="route"))
    graph.add_edge(START, "classify")
    graph.add_edge("classify", END)
    app = graph.compile()
    state = {"text": "great", "content": "mine"}
    result = asyncio.run(app.ainvoke(state)) if async_ else app.invoke(state)
    assert (result["label"], result["content"], result["route"]["model"]) == ("pos", "mine", "small")
    with pytest.raises(KeyError, match="no_such"):
        call(router.as_node(input_key="no_such"), {"text": "x"}, async_)


def test_the_runtime_context_of_a_graph_sets_the_threshold():
    from langgraph.graph import START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        text: str
        label: str

    class Settings(TypedDict, total=False):
        dsplus_threshold: float

    router, _, _ = build(allow_override=True)
    graph = StateGraph(State, context_schema=Settings)
    graph.add_node("classify", router.as_node(input_key="text", output_key="label"))
    graph.add_edge(START, "classify")
    app = graph.compile()
    assert app.invoke({"text": "hm"}, context={"dsplus_threshold": 0.5})["label"] == "pos"
    assert app.invoke({"text": "hm"})["label"] == "LARGE"
    config = {"configurable": {"dsplus_threshold": 0.995}}
    assert app.invoke({"text": "great"}, config, context={"dsplus_threshold": 0.5})["label"] == "LARGE"


def test_the_route_is_plain_enough_for_a_strict_checkpointer():
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    router, _, _ = build(include_route=True)
    route = router.invoke("great")["route"]
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert serde.loads_typed(serde.dumps_typed(route)) == route
    assert json.loads(json.dumps(route, allow_nan=False)) == route


def test_the_graph_shows_both_branches():
    specific, learnable = two_models()
    router, _, _ = build(small=[specific, learnable])
    mermaid = router.get_graph().draw_mermaid()
    for part in ("specific", "learnable", "large", "confident", "unsure"):
        assert part in mermaid


def test_it_is_serializable_where_its_parts_are():
    prompt = ChatPromptTemplate.from_messages([("human", "{text}")]) | StrOutputParser()
    router = ConfidenceRouter(small=FakeSmallModel({"x": {"a": 1.0}}, name="s"), large=prompt, threshold=0.7, name="r")
    text = dumps(router)
    from langchain_core.prompts import HumanMessagePromptTemplate, PromptTemplate
    from langchain_core.runnables import RunnableSequence

    classes = [
        ConfidenceRouter,
        FakeSmallModel,
        RunnableSequence,
        ChatPromptTemplate,
        HumanMessagePromptTemplate,
        PromptTemplate,
        StrOutputParser,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `loads` is in beta
        again = loads(text, allowed_objects=classes, valid_namespaces=["langchain_dsplus"])
        assert load(dumpd(router), allowed_objects=classes, valid_namespaces=["langchain_dsplus"]).name == "r"
    assert (again.threshold, again.name, again.invoke({"text": "x"})) == (0.7, "r", "a")


def test_a_copy_has_its_own_settings():
    router, _, _ = build(threshold=0.9)
    looser = router.model_copy(update={"threshold": 0.5})
    assert (router.invoke("hm"), looser.invoke("hm")) == ("LARGE", "pos")


def test_inherited_methods_keep_the_batch():
    router, small, _ = build()
    for variant in (router.with_config(tags=["x"]), router.with_retry(), router | RunnableLambda(str)):
        small.calls.clear()
        assert variant.batch(["great", "hm"]) == ["pos", "LARGE"]
        assert len(small.calls) == 1


def test_warmup_reaches_every_model():
    warm = []

    class Cold(FakeSmallModel):
        def warmup(self):
            warm.append(self.name)

    models = [Cold({"x": {"a": 1.0}}, name=n) for n in ("one", "two")]
    build(small=models)[0].warmup()
    assert warm == ["one", "two"]


# --- concurrent ainvokes ---------------------------------------------------------------------------------------------


async def test_64_concurrent_ainvokes_share_calls():
    router, small, _ = build(batch_wait=0.05)
    texts = ["great", "hm"] * 32
    assert await asyncio.gather(*(router.ainvoke(t) for t in texts)) == ["pos", "LARGE"] * 32
    assert [len(batch) for batch in small.calls] == [64]


async def test_the_added_wait_is_bounded_and_a_lone_input_is_not_lost():
    router, small, _ = build(batch_wait=0.02, batch_size=8)
    started = time.perf_counter()
    assert await router.ainvoke("great") == "pos"
    assert time.perf_counter() - started < 1.0
    small.calls.clear()
    await asyncio.gather(*(router.ainvoke("great") for _ in range(20)))
    assert sorted(len(batch) for batch in small.calls) == [4, 8, 8]


async def test_a_cancelled_caller_harms_nobody():
    router, _, _ = build(batch_wait=0.05)
    first = asyncio.create_task(router.ainvoke("great"))
    second = asyncio.create_task(router.ainvoke("bad"))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == "neg"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_failing_item_in_a_shared_call_harms_only_itself():
    router, _, _ = build(batch_wait=0.02, include_route=True)
    results = await asyncio.gather(*(router.ainvoke(t) for t in ("great", "broken", "bad")))
    assert [r["route"]["reason"] for r in results] == ["confident", "error", "confident"]


class _Slow(SmallModel):
    """A small model that is still asked when the caller goes away."""

    def predict_proba(self, inputs):
        raise AssertionError(inputs)

    async def aanswers(self, inputs, configs=None):
        await asyncio.sleep(30)
        raise AssertionError(inputs, configs)

    def fingerprint(self):
        return "slow"


@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch", "abatch_as_completed"])
@pytest.mark.parametrize("batch_wait", [None, 0.001])
async def test_whoever_goes_away_while_the_small_model_is_asked_leaves_a_row(way, batch_wait):
    rows = []
    recorder = type("Rows", (), {"record": lambda _, row: rows.append(row)})()
    router = ConfidenceRouter(
        small=_Slow(labels=["a", "b"]), large=RunnableLambda(lambda _: "b").with_types(output_type=str), threshold=0.9,
        recorder=recorder, batch_wait=batch_wait,
    )  # fmt: skip

    async def ask():
        if "batch" in way:
            found = getattr(router, way)(["x", "y"])
            return [one async for one in found] if "completed" in way else await found
        if way == "astream":
            return [chunk async for chunk in router.astream("x")]
        return await router.ainvoke("x")

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [row["error"] for row in rows] == ["small: CancelledError"] * (2 if "batch" in way else 1)
    assert not any(row["route"]["accepted"] for row in rows)
