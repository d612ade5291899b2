"""Token usage is read in one place: every provider's form and every door say the same."""

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult

from langchain_dsplus import ConfidenceRouter, CostLedger, FakeSmallModel, Outcomes, TraceStore
from langchain_dsplus.chat_dsplus.callbacks import Meter as ChatMeter
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.usage import Usage, UsageMeter, add_up, is_free, read_usage
from langchain_dsplus.traces.calls import _reply, run_output
from langchain_dsplus.traces.replies import Meter
from langchain_dsplus.transfer.records import usage_of

PRICE = Price(1.0, 10.0, cached_input=0.1, cache_write=1.25, cache_write_1h=2.0)


@st.composite
def usages(draw):
    count = st.integers(0, 10**6)
    cached, written, hour, rest = (draw(count) for _ in range(4))
    reasoning = draw(st.integers(0, 1000))
    output = reasoning + draw(count)
    return Usage(cached + written + hour + rest, output, cached, written, hour, reasoning)


def camel(counts):
    def name(text):
        first, *rest = text.split("_")
        return first + "".join(part.capitalize() for part in rest)

    return {name(key): value for key, value in counts.items()}


def google(u):
    return {
        "prompt_token_count": u.input,
        "candidates_token_count": u.output - u.reasoning,
        "thoughts_token_count": u.reasoning,
        "cached_content_token_count": u.cached,
        "total_token_count": u.input + u.output,
        "prompt_tokens_details": [{"modality": "TEXT", "token_count": u.input}],
    }


def beside(u):
    rest = u.input - u.cached - u.written - u.written_1h
    return {"input_tokens": rest, "output_tokens": u.output, "cache_read_input_tokens": u.cached}


FORMS = {
    "langchain": lambda u: u.to_metadata(),
    "langchain-tier": lambda u: {
        **u.to_metadata(),
        "input_token_details": {"flex_cache_read": u.cached, "cache_read": 0},
    },
    "langsmith": lambda u: {
        "prompt_tokens": u.input,
        "completion_tokens": u.output,
        "prompt_token_details": {"cache_read": u.cached},
    },
    "openai": lambda u: {
        "prompt_tokens": u.input,
        "completion_tokens": u.output,
        "total_tokens": u.input + u.output,
        "prompt_tokens_details": {"cached_tokens": u.cached, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": u.reasoning},
    },
    "xai": lambda u: {
        "prompt_tokens": u.input,
        "completion_tokens": u.output - u.reasoning,
        "total_tokens": u.input + u.output,
        "prompt_tokens_details": {"cached_tokens": u.cached},
        "completion_tokens_details": {"reasoning_tokens": u.reasoning},
    },
    "xai-object": lambda u: SimpleNamespace(
        prompt_tokens=u.input,
        completion_tokens=u.output - u.reasoning,
        total_tokens=u.input + u.output,
        prompt_tokens_details=SimpleNamespace(cached_tokens=u.cached),
        completion_tokens_details=SimpleNamespace(reasoning_tokens=u.reasoning),
    ),
    "xai-langchain": lambda u: {**u.to_metadata(), "output_tokens": u.output - u.reasoning},
    "openai-responses": lambda u: {
        "input_tokens": u.input,
        "output_tokens": u.output,
        "input_tokens_details": {"cached_tokens": u.cached},
        "output_tokens_details": {"reasoning_tokens": u.reasoning},
    },
    "openai-object": lambda u: SimpleNamespace(
        prompt_tokens=u.input,
        completion_tokens=u.output,
        prompt_tokens_details=SimpleNamespace(cached_tokens=u.cached),
        completion_tokens_details=None,
    ),
    "openai-completion": lambda u: SimpleNamespace(
        usage=SimpleNamespace(prompt_tokens=u.input, completion_tokens=u.output)
    ),
    "deepseek": lambda u: {
        "prompt_tokens": u.input,
        "completion_tokens": u.output,
        "prompt_cache_hit_tokens": u.cached,
        "prompt_cache_miss_tokens": u.input - u.cached,
    },
    "anthropic": lambda u: {
        **beside(u),
        "cache_creation_input_tokens": u.written + u.written_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": u.written, "ephemeral_1h_input_tokens": u.written_1h},
    },
    "anthropic-old": lambda u: {**beside(u), "cache_creation_input_tokens": u.written + u.written_1h},
    "bedrock": lambda u: camel({**beside(u), "cache_write_input_tokens": u.written + u.written_1h}),
    "google": google,
    "google-rest": lambda u: camel(google(u)),
    "ollama": lambda u: {"prompt_eval_count": u.input, "eval_count": u.output, "total_duration": 5},
    "floats": lambda u: {"input_tokens": float(u.input), "output_tokens": float(u.output)},
    "message": lambda u: AIMessage("x", usage_metadata=u.to_metadata()),
    "response": lambda u: {"id": "r", "usage": {"prompt_tokens": u.input, "completion_tokens": u.output}},
    "itself": lambda u: u,
}
CACHED = {
    "langchain",
    "langchain-tier",
    "langsmith",
    "openai",
    "openai-responses",
    "openai-object",
    "xai",
    "xai-object",
    "xai-langchain",
    "deepseek",
    "google",
    "google-rest",
}
CACHED |= {"anthropic", "anthropic-old", "bedrock", "message", "itself"}
WRITTEN = {"langchain", "anthropic", "message", "itself"}


@pytest.mark.parametrize("form", FORMS)
@given(usage=usages())
def test_every_form_says_the_same(form, usage):
    found = read_usage(FORMS[form](usage))
    assert (found.input, found.output) == (usage.input, usage.output)
    assert found.cached == (usage.cached if form in CACHED else 0)
    if form in WRITTEN:
        assert (found.written, found.written_1h) == (usage.written, usage.written_1h)
    assert found.cached + found.written + found.written_1h <= found.input
    assert found.reasoning in (usage.reasoning, 0)
    assert read_usage(found.to_metadata()) == found


BAD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.integers(max_value=-1),
    st.floats(),
    st.lists(st.none(), max_size=1),
)


@given(tokens_in=BAD, tokens_out=st.one_of(BAD, st.integers(0, 9)))
def test_what_cannot_be_read_is_unknown_and_never_zero(tokens_in, tokens_out):
    found = read_usage({"input_tokens": tokens_in, "output_tokens": tokens_out})
    if isinstance(tokens_in, float) and tokens_in.is_integer() and tokens_in >= 0:
        return
    assert found is None


@pytest.mark.parametrize(
    "value",
    [None, {}, "12", [], 3, AIMessage("x"), {"usage": None}, {"usage": "x"}, object()],
    ids=lambda value: type(value).__name__ + str(value)[:20] * (type(value) is dict),
)
def test_nothing_is_unknown(value):
    assert read_usage(value) is None


class Chat(BaseChatModel):
    """Replies with a usage."""

    told: dict

    @property
    def _llm_type(self):
        return "chat"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=AIMessage("a", usage_metadata=self.told))])


def heard(meter, message):
    run = uuid4()
    meter.on_chat_model_start({}, [[]], run_id=run, tags=["large"])
    meter.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run)
    return meter


def ledger_row(message):
    ledger = heard(CostLedger(PRICE), message)
    (row,) = ledger.table()
    return row


def trace_row(usage):
    route = {"route_id": "r", "model": "large", "accepted": False, "threshold": 0.9, "answers": [], "reason": "unsure"}
    shadow = {
        "kind": "shadow",
        "route_id": "r",
        "router": "x",
        "route": route,
        "answers": [{"choice": "a", "probabilities": {"a": 1.0}, "confidence": 0.5}],
    }
    return [
        {
            "kind": "route",
            "route_id": "r",
            "router": "x",
            "route": {**route, "reason": "shadow"},
            "output": "a",
            "usage": usage,
        },
        shadow,
    ]


def picked(row, *names):
    return tuple(row.get(name) or 0 for name in names)


def imported(told):
    return run_output({"output": "a", "usage_metadata": told}) + run_output({"choices": [{"text": "a"}], "usage": told})


TOKENS = ("input_tokens", "output_tokens", "cached_tokens")
COLUMNS = ("tokens_input", "tokens_output", "tokens_cached")
DOORS = {
    "read_usage": lambda told, _: read_usage(told),
    "ledger": lambda _, message: picked(ledger_row(message), *TOKENS),
    "router": lambda _, message: heard(UsageMeter(), message).usage,
    "chat": lambda _, message: read_usage(heard(ChatMeter(["large"]), message).usage()["large"]),
    "collect": lambda _, message: picked(heard(Meter(), message).usage, *TOKENS),
    "transfer": lambda _, message: picked(usage_of([message]), "input_tokens", "output_tokens"),
    "export": lambda told, _: read_usage(imported(told)[1]),
    "export-openai": lambda told, _: read_usage(imported(told)[3]),
    "calls": lambda told, _: picked(_reply({"output": "a", "usage": told}, str), *TOKENS),
    "traces": lambda told, _: picked(Outcomes.from_traces(trace_row(told)).to_records()[0], *COLUMNS),
}


@pytest.mark.parametrize("door", DOORS)
@given(usage=usages(), tier=st.sampled_from(["", "flex_", "priority_"]))
def test_every_door_says_the_same(door, usage, tier):
    told = usage.to_metadata()
    details = told.get("input_token_details", {})
    if "cache_read" in details:
        details[f"{tier}cache_read"] = details.pop("cache_read")
    found = DOORS[door](told, AIMessage("a", usage_metadata=told))
    if isinstance(found, Usage):
        found = (found.input, found.output, found.cached)
    assert found == (usage.input, usage.output, usage.cached)[: len(found)]


@given(usage=usages())
def test_every_door_asks_the_same_price(usage):
    told = usage.to_metadata()
    message = AIMessage("a", usage_metadata=told)
    wanted = PRICE.cost(usage)
    assert PRICE.cost(told) == pytest.approx(wanted)
    assert ledger_row(message)["cost"] == pytest.approx(wanted)
    assert heard(Meter(), message).row(PRICE)["cost"] == pytest.approx(wanted)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_router_and_the_ledger_agree(is_async, tmp_path):
    told = Usage(100, 7, cached=40, written=20, reasoning=3).to_metadata()
    small = FakeSmallModel({}, ["a", "b"], default={"a": 0.5, "b": 0.5})
    with TraceStore(tmp_path / "t.db", price=PRICE) as store, CostLedger(PRICE) as ledger:
        router = ConfidenceRouter(small=small, large=Chat(told=told), threshold=0.9, recorder=store)
        asyncio.run(router.ainvoke("x")) if is_async else router.invoke("x")
        store.flush()
        (row,) = store.rows(kind="route")
    assert row["cost"] == pytest.approx(ledger.cost)
    assert row["usage"] == told


@given(st.lists(usages(), min_size=1, max_size=5))
def test_adding_up(parts):
    total = add_up(
        [*(part.to_metadata() for part in parts), {"input_tokens": 5, "output_tokens": 5, "total_cost": 0}, None]
    )
    assert total == sum(parts[1:], parts[0])
    assert add_up([None]) is None


def test_which_failures_cost_nothing():
    refused = ConnectionError()
    late = TimeoutError()
    busy = ValueError()
    busy.status_code = 429
    assert (is_free(refused), is_free(busy), is_free(late), is_free(asyncio.CancelledError())) == (
        True,
        True,
        False,
        False,
    )


def test_more_reasoning_than_completion_stands_beside_it():
    told = {"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 3}}
    assert read_usage(told) == Usage(9, 4, reasoning=3)
