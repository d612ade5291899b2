"""Who answers, why, with what prompt, and what comes back."""

import asyncio
import json
import math
import threading
import time
from copy import deepcopy

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel, ValidationError

from langchain_dsplus import ChatClassifier, JSONLRecorder
from langchain_dsplus.chat_dsplus.draft import Asked
from langchain_dsplus.chat_dsplus.model import ChatDSPlus

MESSAGES = [SystemMessage("Be brief."), HumanMessage("What is the capital of {France}?")]
DRAFT, ANSWER = "Paris, the draft says.", "Paris, says the large model."
WAYS = ["invoke", "ainvoke", "batch", "abatch", "stream", "astream", "batch_as_completed", "abatch_as_completed"]


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.fixture
def build(scripted):
    def make(*, small=None, large=None, **kwargs):
        models = [
            scripted(name="tiny", model_name="tiny-1", **{"text": DRAFT, **(small or {})}),
            scripted(name="big", model_name="big-1", usage=(20, 7), **{"text": ANSWER, **(large or {})}),
        ]
        return ChatDSPlus(models=models, **{"threshold": 0.5, **kwargs})

    return make


def ask(model, way, value=MESSAGES, config=None, **kwargs):
    """One reply, whichever way it is asked for."""

    async def collect(found):
        return [item async for item in found]

    def add_up(chunks):
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole = whole + chunk
        return whole

    method = getattr(model, way)
    if way == "invoke":
        return method(value, config, **kwargs)
    if way == "ainvoke":
        return asyncio.run(method(value, config, **kwargs))
    if way == "batch":
        return method([value], config, **kwargs)[0]
    if way == "abatch":
        return asyncio.run(method([value], config, **kwargs))[0]
    if way == "stream":
        return add_up(list(method(value, config, **kwargs)))
    if way == "astream":
        return add_up(asyncio.run(collect(method(value, config, **kwargs))))
    if way == "batch_as_completed":
        return next(iter(method([value], config, **kwargs)))[1]
    return asyncio.run(collect(method([value], config, **kwargs)))[0][1]


def deepcopy_of(model):
    for one in model.models:
        one.lock = None
    copy = deepcopy(model)
    for one in (*model.models, *copy.models):
        one.lock = threading.Lock()
    return copy


def route_of(message):
    return message.response_metadata["dsplus"]


# --- who answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_sure_draft_is_the_answer(build, way):
    model = build()
    found = ask(model, way)
    assert found.text == DRAFT
    route = route_of(found)
    assert (route["model"], route["accepted"], route["reason"]) == ("tiny", True, "confident")
    assert route["answers"][0]["confidence"] == pytest.approx(0.9)
    assert route["model_name"] == found.response_metadata["model_name"] == "tiny-1"
    assert model.models[1].calls == []


@pytest.mark.parametrize("way", WAYS)
def test_an_unsure_draft_escalates_with_the_original_messages(build, way):
    model = build(threshold=0.95)
    found = ask(model, way, stop=["END"])
    assert found.text == ANSWER
    route = route_of(found)
    assert (route["model"], route["accepted"], route["reason"], route["threshold"]) == ("large", False, "unsure", 0.95)
    assert found.response_metadata["model_name"] == "big-1"
    (asked,) = model.models[1].calls
    assert asked == {"messages": MESSAGES, "stop": ["END"]}
    (small,) = model.models[0].calls
    assert small["messages"] == MESSAGES
    assert small["stop"] == ["END"]
    assert DRAFT not in json.dumps(found.model_dump(), default=str)


def test_equal_to_the_threshold_is_not_above_it(build):
    sure = build(threshold=0.1, accept=lambda messages, draft: 0.5)
    assert route_of(sure.invoke("Hi"))["accepted"] is True
    sure.threshold = 0.5
    assert route_of(sure.invoke("Hi"))["accepted"] is False
    sure.threshold = math.nextafter(0.5, 0)
    assert route_of(sure.invoke("Hi"))["accepted"] is True


def test_order_is_kept_in_a_batch(build):
    def reply(messages, number):
        return f"draft {messages[-1].text}"

    def sure(messages, draft):
        return int(messages[-1].text) % 2

    model = build(small={"reply": reply}, accept=sure)
    found = model.batch([str(n) for n in range(6)])
    assert [message.text for message in found] == [ANSWER if n % 2 == 0 else f"draft {n}" for n in range(6)]


def test_three_models_are_asked_in_order(scripted):
    models = [scripted(name=name, model_name=f"{name}-1", p=p) for name, p in (("a", 0.6), ("b", 0.8), ("c", 0.9))]
    model = ChatDSPlus(models=models, threshold={"a": 0.7, "b": 0.7})
    route = route_of(model.invoke("Hi"))
    assert route["model"] == "b"
    assert [answer["confidence"] for answer in route["answers"]] == pytest.approx([0.6, 0.8])
    assert list(route["usage"]) == ["a", "b"]
    model.threshold = [0.7, 0.85]
    assert route_of(model.invoke("Hi"))["model"] == "large"


def test_models_without_a_name_get_one(scripted):
    model = ChatDSPlus(models=[scripted(), scripted(), scripted()], threshold=[0.99, 0.1])
    assert model.router.small_names == ["small", "small_2"]
    assert route_of(model.invoke("Hi"))["model"] == "small_2"
    assert model.model_names == {"small": "scripted", "small_2": "scripted", "large": "scripted"}


# --- accepting needs proof ----------------------------------------------------------------------------------------


def said(**kwargs):
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    tokens = [{"token": "yes", "logprob": -0.01}]
    metadata = {"logprobs": {"content": tokens}, **kwargs.pop("metadata", {})}
    return AIMessage(**{"content": "yes", "usage_metadata": usage, "response_metadata": metadata, **kwargs})


BROKEN = {
    "raises": ({"error": RuntimeError("secret text")}, "RuntimeError"),
    "no log-probabilities": ({"p": None}, "log-probabilities"),
    "empty": ({"reply": lambda m, n: said(content="  ")}, "empty"),
    "length": ({"metadata_extra": {"finish_reason": "length"}}, "length"),
    "max_tokens": ({"metadata_extra": {"stop_reason": "MAX_TOKENS"}}, "max_tokens"),
    "filter": ({"metadata_extra": {"finish_reason": "content_filter"}}, "content_filter"),
    "refusal": ({"reply": lambda m, n: said(additional_kwargs={"refusal": "no"})}, "refused"),
    "NaN": (
        {"reply": lambda m, n: said(metadata={"logprobs": {"content": [{"token": "a", "logprob": math.nan}]}})},
        "log-prob",
    ),
    "null": (
        {"reply": lambda m, n: said(metadata={"logprobs": {"content": [{"token": "a", "logprob": None}]}})},
        "log-prob",
    ),
    "no tokens": ({"reply": lambda m, n: said(metadata={"logprobs": {"content": []}})}, "log-prob"),
    "malformed call": (
        {
            "reply": lambda m, n: said(
                invalid_tool_calls=[{"name": "add", "args": "{", "id": "1", "error": None, "type": "invalid_tool_call"}]
            )
        },
        "malformed",
    ),
    "unknown tool": (
        {"reply": lambda m, n: said(tool_calls=[{"name": "shell", "args": {}, "id": "1"}])},
        "does not exist",
    ),
}


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_draft_that_cannot_be_used_escalates(build, kind, async_):
    small, why = BROKEN[kind]
    model = build(small=small, threshold=-1.0)
    found = ask(model, "ainvoke" if async_ else "invoke")
    route = route_of(found)
    assert found.text == ANSWER
    assert (route["model"], route["reason"]) == ("large", "error")
    assert why in route["error"]
    assert "secret" not in route["error"]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_a_slow_draft_escalates(build, way):
    def slow(messages, number):
        time.sleep(0.4)
        return said()

    model = build(small={"reply": slow}, small_timeout=0.05)
    found = ask(model, way)
    assert found.text == ANSWER
    assert "SmallModelTimeoutError" in route_of(found)["error"]


@pytest.mark.parametrize("score", [math.nan, math.inf, "high", None, RuntimeError("x")])
@pytest.mark.parametrize("async_", [False, True])
def test_a_score_that_is_no_number_escalates(build, score, async_):
    def accept(messages, draft):
        if isinstance(score, Exception):
            raise score
        return score

    model = build(accept=accept, threshold=-1.0)
    route = route_of(ask(model, "ainvoke" if async_ else "invoke"))
    assert (route["accepted"], route["reason"], route["answers"]) == (False, "error", [])


def test_a_function_judges_messages_and_draft(build):
    seen = []

    async def later(messages, draft):
        seen.append((messages, draft.text))
        return 1.0

    model = build(accept=later)
    assert route_of(asyncio.run(model.ainvoke(MESSAGES)))["accepted"] is True
    assert seen == [(MESSAGES, DRAFT)]
    assert "async" in route_of(model.invoke(MESSAGES))["error"]


def test_what_the_large_model_raises_is_raised_or_replaced(build):
    large = {"error": RuntimeError("down")}
    with pytest.raises(RuntimeError, match="down"):
        build(large=large, threshold=None).invoke("Hi")
    for way in WAYS:
        found = ask(build(large=large, threshold=0.95, on_large_error="small"), way)
        assert found.text == DRAFT
        assert route_of(found)["degraded"] is True


# --- how sure -----------------------------------------------------------------------------------------------------


def test_the_share_of_samples_that_agree(build):
    texts = ["Paris.", "Lyon", "paris", "PARIS", "Nice"]
    model = build(small={"reply": lambda m, n: said(content=texts[(n - 1) % 5])}, accept="consistency", samples=5)
    found = model.invoke(MESSAGES)
    assert found.text == "Paris."
    assert route_of(found)["answers"][0]["confidence"] == pytest.approx(0.6)
    calls = model.models[0].calls
    assert [call["temperature"] for call in calls] == [0.7] * 5
    assert route_of(found)["usage"]["tiny"]["total_tokens"] == 10
    model.threshold = 0.6
    assert route_of(model.invoke(MESSAGES))["accepted"] is False


def test_failed_samples_agree_with_none(build):
    model = build(
        small={"error": lambda n: RuntimeError() if n % 4 else None}, accept="consistency", samples=4, threshold=0.1
    )
    assert route_of(model.invoke("Hi"))["answers"][0]["confidence"] == pytest.approx(0.25)
    broken = build(small={"error": RuntimeError("x")}, accept="consistency", threshold=0.1)
    assert route_of(broken.invoke("Hi"))["error"] == "RuntimeError"


def test_samples_are_not_taken_from_a_cache(build):
    set_llm_cache(InMemoryCache())
    try:
        model = build(accept="consistency", samples=3)
        model.invoke("Hi")
        assert len(model.models[0].calls) == 3
    finally:
        set_llm_cache(None)


def test_the_users_own_equality(build):
    texts = ["12 apples", "12", "about 12", "13"]
    model = build(
        small={"reply": lambda m, n: said(content=texts[(n - 1) % 4])},
        accept="consistency",
        samples=4,
        equal=lambda one, other: ("12" in one) == ("12" in other),
    )
    assert route_of(model.invoke("Hi"))["answers"][0]["confidence"] == pytest.approx(0.75)


def test_samples_of_tool_calls_agree_by_name_and_arguments(build):
    calls = [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3}]

    def reply(messages, number):
        return said(content="", tool_calls=[{"name": "add", "args": calls[(number - 1) % 3], "id": str(number)}])

    model = build(small={"reply": reply}, accept="consistency", samples=3).bind_tools([add])
    found = model.invoke("Hi")
    assert found.tool_calls[0]["args"] == {"a": 1, "b": 2}
    assert route_of(found)["answers"][0]["confidence"] == pytest.approx(2 / 3)


def yes(p):
    tops = [{"token": "yes", "logprob": math.log(p)}, {"token": "no", "logprob": math.log(1 - p)}]
    return AIMessage(
        "yes" if p > 0.5 else "no",
        response_metadata={
            "model_name": "judge",
            "logprobs": {"content": [{**max(tops, key=lambda t: t["logprob"]), "top_logprobs": tops}]},
        },
        usage_metadata={"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
    )


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("own", [True, False])
def test_a_verifier_says_yes_or_no(build, scripted, way, own):
    def reply(messages, number):
        return yes(0.8) if "<answer>" in messages[-1].text else said(content=DRAFT)

    judge = scripted(name="judge", reply=reply)
    model = build(small={"reply": reply}, accept="verifier", verifier=None if own else judge)
    found = ask(model, way)
    assert found.text == DRAFT
    assert route_of(found)["answers"][0]["confidence"] == pytest.approx(0.8)
    asked = model.models[0].calls[-1] if own else judge.calls[-1]
    assert DRAFT in asked["messages"][-1].text
    assert "{France}" in asked["messages"][-1].text
    assert route_of(found)["usage"] == {"tiny": {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6}}
    model.threshold = 0.8
    assert route_of(ask(model, way))["accepted"] is False


def test_a_verifier_that_fails_is_no_proof(build, scripted):
    model = build(accept="verifier", verifier=scripted(error=RuntimeError("x")), threshold=-1.0)
    assert route_of(model.invoke("Hi"))["reason"] == "error"


def test_settings_reach_every_model(build):
    model = build(threshold=0.95, temperature=0.0, max_tokens=12, stop=["X"])
    model.invoke("Hi")
    for one in model.models:
        (call,) = one.calls
        assert (call["temperature"], call["max_tokens"], call["stop"]) == (0.0, 12, ["X"])
    model.invoke("Hi", max_tokens=3)
    assert [one.calls[-1]["max_tokens"] for one in model.models] == [3, 3]
    with pytest.raises(ValueError, match="several models"):
        model.invoke("Hi", model="other")


# --- tools and structured output ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("malformed", [False, True])
def test_tools_reach_both_and_a_bad_call_escalates(build, way, malformed):
    model = build(small={"malformed": malformed})
    bound = model.bind_tools([add], tool_choice="add")
    found = ask(bound, way)
    assert found.tool_calls[0]["name"] == "add"
    assert found.tool_calls[0]["args"] == {"a": 3, "b": 3}
    assert route_of(found)["model"] == ("large" if malformed else "tiny")
    for one in model.models[: 1 + malformed]:
        assert one.calls[0]["tools"][0]["function"]["name"] == "add"
        assert one.calls[0]["tool_choice"] == "add"
    if malformed:
        assert "'add'" in route_of(found)["error"]


def test_a_tool_that_must_be_called_is(build):
    model = build(small={"reply": lambda m, n: said()})
    assert route_of(model.bind_tools([add]).invoke("Hi"))["model"] == "tiny"
    route = route_of(model.bind_tools([add], tool_choice="any").invoke("Hi"))
    assert route["model"] == "large"
    assert "tool_choice" in route["error"]
    assert "tool_choice" in route_of(model.bind_tools([add]).invoke("Hi", tool_choice="any"))["error"]


def test_tools_that_come_with_the_call_or_the_models(build, scripted):
    schema = {"type": "function", "function": {"name": "add", "parameters": add.args_schema.model_json_schema()}}
    model = build(small={"malformed": True})
    assert route_of(model.invoke("Hi", tools=[schema]))["model"] == "large"
    assert [len(one.calls[0]["tools"]) for one in model.models] == [1, 1]
    models = [one.bind_tools([add]).with_config(tags=["x"]) for one in model.models]
    assert "'add'" in route_of(ChatDSPlus(models=models, threshold=0.5).invoke("Hi"))["error"]


def test_binding_again_replaces_the_tools(build):
    @tool
    def other(x: str) -> str:
        """Something else."""
        return x

    model = build()
    bound = [one.bind_tools([add]).with_retry(stop_after_attempt=2) for one in model.models]
    found = ChatDSPlus(models=bound, threshold=0.5).bind_tools([other]).invoke("Hi")
    assert found.tool_calls[0]["name"] == "other"
    assert [t["function"]["name"] for t in model.models[0].calls[0]["tools"]] == ["other"]


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
@pytest.mark.parametrize("malformed", [False, True])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_structured_output_of_whoever_answers(build, method, malformed, way):
    model = build(small={"malformed": malformed})
    chain = model.with_structured_output(Person, method=method, include_raw=True)
    found = ask(chain, way, "A person, please.")
    assert isinstance(found["parsed"], Person)
    assert found["parsing_error"] is None
    assert route_of(found["raw"])["model"] == ("large" if malformed else "tiny")
    plain = ask(model.with_structured_output(Person.model_json_schema(), method=method), way, "A person, please.")
    assert plain == {"name": "你好 こんにちは", "age": 3}


def test_a_large_model_that_cannot_be_read_raises(build):
    model = build(small={"malformed": True}, large={"malformed": True})
    with pytest.raises(ValueError):
        model.with_structured_output(Person, method="json_schema").invoke("Hi")
    found = model.with_structured_output(Person, method="json_schema", include_raw=True).invoke("Hi")
    assert found["parsed"] is None
    assert isinstance(found["parsing_error"], ValueError)


def test_an_agent_works_on_it(build):
    agents = pytest.importorskip("langchain.agents")
    model = build(small={"text": "The sum is 6."})
    agent = agents.create_agent(model, [add])
    found = agent.invoke({"messages": [("human", "3 + 3?")]})["messages"]
    assert [message.type for message in found] == ["human", "ai", "tool", "ai"]
    assert found[2].content == "6"
    assert found[-1].text == "The sum is 6."
    assert {route_of(message)["model"] for message in found if message.type == "ai"} == {"tiny"}


# --- modes, settings, records ---------------------------------------------------------------------------------------


def test_off_asks_the_large_model_alone(build, monkeypatch):
    model = build(mode="off")
    assert route_of(model.invoke("Hi"))["reason"] == "off"
    live = build()
    monkeypatch.setenv("DSPLUS_MODE", "off")
    assert route_of(live.invoke("Hi"))["reason"] == "off"
    assert live.models[0].calls == model.models[0].calls == []


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
def test_shadow_answers_like_the_large_model_and_records_the_draft(build, way, tmp_path):
    path = tmp_path / "rows.jsonl"
    model = build(mode="shadow", recorder=JSONLRecorder(path), background=way in ("invoke", "stream"))
    found = ask(model, way)
    assert model.drain(10)
    assert found.text == ANSWER
    assert route_of(found)["reason"] == "shadow"
    assert list(route_of(found)["usage"]) == ["large"]
    rows = {row["kind"]: row for row in JSONLRecorder.read(path)}
    assert rows["shadow"]["answers"][0]["choice"] == DRAFT
    assert rows["shadow"]["route"]["model"] == "tiny"
    assert rows["route"]["output"]["content"] == ANSWER
    assert rows["route"]["route_id"] == rows["shadow"]["route_id"] == route_of(found)["route_id"]


def test_audits_ask_the_large_model_in_the_background(build, tmp_path):
    path = tmp_path / "rows.jsonl"
    model = build(audit_rate=1.0, recorder=JSONLRecorder(path))
    found = model.bind_tools([add]).invoke("Hi")
    assert found.tool_calls
    assert model.drain(10)
    rows = {row["kind"]: row for row in JSONLRecorder.read(path)}
    assert rows["audit"]["route_id"] == route_of(found)["route_id"]
    assert len(model.models[1].calls) == 1
    assert list(route_of(found)["usage"]) == ["tiny"]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch"])
def test_settings_of_a_call(build, way):
    model = build(name="chat")
    assert route_of(ask(model, way, config={"configurable": {"dsplus_threshold": 0.95}}))["model"] == "large"
    assert route_of(ask(model, way, config={"configurable": {"dsplus_mode": "off"}}))["reason"] == "off"
    named = {"configurable": {"dsplus_threshold": 0.1, "dsplus_chat_threshold": 0.95}}
    assert route_of(ask(model, way, config=named))["model"] == "large"
    assert "dsplus_chat_threshold" in {spec.id for spec in model.config_specs}
    with pytest.raises(ValueError, match="dsplus_threshold"):
        ask(model, way, config={"configurable": {"dsplus_threshold": "high"}})


def test_the_recorder_gets_what_the_message_leaves_out(build, tmp_path):
    path = tmp_path / "rows.jsonl"
    found = build(threshold=0.95, recorder=JSONLRecorder(path)).invoke(MESSAGES)
    (row,) = JSONLRecorder.read(path)
    assert row["route"]["answers"][0]["choice"] == DRAFT
    assert row["router"] == "ChatDSPlus"
    assert [message["content"] for message in row["input"]] == [message.content for message in MESSAGES]
    assert route_of(found)["answers"] == [{**row["route"]["answers"][0], "choice": ""}]


@pytest.mark.parametrize("threshold", [0.5, 0.95])
def test_a_reply_is_strict_json_and_passes_a_strict_checkpointer(build, threshold):
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    found = build(threshold=threshold).invoke("Hi")
    json.dumps(found.response_metadata, allow_nan=False)
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert serde.loads_typed(serde.dumps_typed(found)).response_metadata == found.response_metadata
    assert all(type(answer) is dict for answer in route_of(found)["answers"])


def test_a_prompt_in_front(build):
    chain = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{text}")]) | build(threshold=0.95)
    chain.invoke({"text": "Why {x}?"})
    assert [m.text for m in chain.last.models[1].calls[0]["messages"]] == ["Be brief.", "Why {x}?"]


def test_a_cache_holds_replies_and_not_decisions(build):
    set_llm_cache(InMemoryCache())
    try:
        model = build()
        first, second = model.invoke("Hi"), model.invoke("Hi")
        assert len(model.models[0].calls) == 1
        assert first.usage_metadata["total_tokens"] == 15
        assert second.usage_metadata["total_tokens"] == 0
        assert route_of(first)["route_id"] != route_of(second)["route_id"]
        model.threshold = 0.95
        assert model.invoke("Hi").text == ANSWER
    finally:
        set_llm_cache(None)


# --- construction -------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_at_construction(scripted):
    two = [scripted(), scripted()]
    for kwargs, what in [
        ({"models": two[:1]}, "at least two"),
        ({"models": two, "threshold": math.nan}, "NaN"),
        ({"models": two, "threshold": [0.1, 0.2]}, "2 entries"),
        ({"models": two, "threshold": {"other": 0.1}}, "every small model"),
        ({"models": two, "accept": "gut"}, "accept"),
        ({"models": two, "mode": "fast"}, "mode"),
        ({"models": two, "accept": "verifier", "verifier_prompt": "Right?"}, "verifier_prompt"),
        ({"models": two, "cache": True}, "cache"),
        ({"models": two, "treshold": 0.1}, "treshold"),
        ({"models": [scripted(name="large"), scripted()]}, "large"),
        ({"models": two, "samples": 1}, "samples"),
    ]:
        with pytest.raises(ValidationError, match=what):
            ChatDSPlus(**kwargs)
    with pytest.raises(TypeError, match="`models` must be chat models"):
        ChatDSPlus(models=[add, scripted()])


def test_a_setting_takes_effect(build):
    model = build()
    router = model.router
    assert model.router is router
    model.mode = "off"
    assert route_of(model.invoke("Hi"))["reason"] == "off"
    model.models = list(reversed(model.models))
    assert model.router.small_names == ["big"]
    copy = model.model_copy(update={"threshold": 0.2, "mode": "live"})
    assert route_of(copy.invoke("Hi"))["threshold"] == 0.2
    assert route_of(model.invoke("Hi"))["reason"] == "off"
    with pytest.raises(ValueError, match="mode"):
        model.model_copy(update={"mode": "fast"}).invoke("Hi")


def test_copies_and_configurable_fields(build, scripted):
    model = build()
    assert route_of(deepcopy_of(model).invoke("Hi"))["model"] == "tiny"
    free = model.configurable_fields(threshold=ConfigurableField(id="strict"))
    assert route_of(free.invoke("Hi", {"configurable": {"strict": 0.95}}))["model"] == "large"
    assert route_of(free.invoke("Hi"))["model"] == "tiny"
    assert model.router.background_skipped == 0
    assert asyncio.run(model.adrain(1))


# --- what a draft model is ------------------------------------------------------------------------------------------


def test_versions_tell_draft_models_apart(build, scripted):
    def first(messages, draft):
        return 1.0

    judge = scripted(model_name="judge")
    classifier = ChatClassifier(judge, ["yes", "no"], "{conversation} {answer}")
    kinds = [
        {},
        {"sequence": "min"},
        {"accept": "consistency"},
        {"accept": "consistency", "samples": 7},
        {"accept": "verifier"},
        {"accept": "verifier", "verifier": judge},
        {"accept": "verifier", "verifier": classifier},
        {"accept": "verifier", "verifier_prompt": "{conversation} {answer} Right?"},
        {"accept": first},
        {"max_tokens": 5},
    ]
    versions = [build(**kind).router.small_models[0].version for kind in kinds]
    assert len(set(versions)) == len(kinds)
    assert versions == [build(**kind).router.small_models[0].version for kind in kinds]
    opaque = build(small={"reply": lambda m, n: said()}).router.small_models[0]
    assert opaque.version == "unverifiable"
    hidden = build(accept="verifier", verifier=scripted(reply=lambda m, n: said())).router.small_models[0]
    assert hidden.version == "unverifiable"
    with pytest.raises(ValueError, match="labels"):
        build(accept="verifier", verifier=ChatClassifier(judge, ["good", "bad"]))


def test_a_draft_model_alone(build):
    (draft,) = build(threshold=0.1).router.small_models
    good, bad, prompt = draft.answers(["Hi", 3, ChatPromptTemplate.from_messages(MESSAGES).invoke({})])
    assert good == {"choice": DRAFT, "probabilities": {}, "confidence": pytest.approx(0.9)}
    assert prompt == good
    assert isinstance(bad, TypeError)
    assert draft.answers([]) == []
    assert draft.invoke("Hi") == good
    with pytest.raises(NotImplementedError):
        draft.predict_proba(["Hi"])


def test_calls_with_different_arguments_are_different_batches(build):
    model = build()
    (draft,) = model.router.small_models
    draft.answers([Asked([HumanMessage("a")], {"stop": ["x"]}), "b", Asked([HumanMessage("c")], {"stop": ["x"]})])
    assert {(call["messages"][0].text, str(call["stop"])) for call in model.models[0].calls} == {
        ("a", "['x']"),
        ("b", "None"),
        ("c", "['x']"),
    }


def test_structured_output_that_cannot_be_taken_apart_is_refused(scripted):
    class Odd(scripted):
        def with_structured_output(self, schema, **kwargs):
            return self.bind() | str

    with pytest.raises(NotImplementedError, match="Odd"):
        ChatDSPlus(models=[scripted(), Odd()]).with_structured_output(Person)


def test_a_providers_own_tool_passes(build):
    class Own(type(build().models[0])):
        def bind_tools(self, tools, *, tool_choice=None, **kwargs):
            return self.bind(tools=list(tools), **kwargs)

    own = {"type": "web_search"}
    model = ChatDSPlus(models=[Own(reply=lambda m, n: said()), Own()], threshold=0.5)
    bound = model.bind_tools([own])
    assert bound.kwargs["tools"] == [own]
    assert route_of(bound.invoke("Hi"))["model"] == "small"
    assert model.models[0].calls[0]["tools"] == [own]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bound", [False, True])
def test_a_model_that_streams_drafts_without_a_stream(scripted, way, bound):
    class Streaming(scripted):
        """Like `ChatOpenAI`: what asks the server for a stream breaks a call that reads none."""

        streaming: bool = False

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            assert not self.streaming
            assert not kwargs.get("stream")
            return super()._generate(messages, stop, run_manager, **kwargs)

    small = Streaming(name="tiny", model_name="tiny-1", text=DRAFT, streaming=True)
    models = [small.bind(stream=True) if bound else small, scripted(name="big", model_name="big-1", text=ANSWER)]
    assert ask(ChatDSPlus(models=models, threshold=0.5), way).text == DRAFT
