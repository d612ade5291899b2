import asyncio
import contextlib
import copy
import json
import math
import threading
import time
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from pydantic import Field

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, PromptTransfer
from langchain_dsplus.costs import ledger as module
from langchain_dsplus.costs import savings
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.costs.savings import count_characters
from langchain_dsplus.costs.usage import Usage

PRICE = Price(input=1_000_000, output=2_000_000, cached_input=500_000)  # a dollar per token, two for output


class Model(BaseChatModel):
    """Ten tokens and one per word in, two out; fails as often as it is told to."""

    model: str = "big"
    fails: list = Field(default_factory=list)
    usage: dict | None = None
    silent: bool = False
    says: str = "pos"

    @property
    def _llm_type(self):
        return "fake"

    def _get_ls_params(self, **kwargs):
        return {"ls_model_name": self.model}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.fails:
            raise self.fails.pop(0)
        words = sum(len(str(m.content).split()) for m in messages)
        usage = {"input_tokens": 10 + words, "output_tokens": 2, "total_tokens": 12 + words}
        message = AIMessage(
            self.says,
            usage_metadata=None if self.silent else self.usage or usage,
            response_metadata={"model_name": self.model + "-2026-01-01"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class RefusedError(Exception):
    status_code = 429


def only(ledger):
    (row,) = ledger.table()
    return row


def test_a_call():
    ledger = CostLedger(PRICE)
    Model().invoke("one two", {"callbacks": [ledger]})
    row = only(ledger)
    assert row.pop("seconds") > 0
    assert row == {
        "side": "other",
        "model": "big-2026-01-01",
        "calls": 1,
        "failed": 0,
        "cache_hits": 0,
        "unmetered": 0,
        "input_tokens": 12,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 2,
        "cost": 16.0,
    }
    assert ledger.cost == 16.0
    assert ledger.total()["complete"]
    ledger.reset()
    assert ledger.table() == []
    assert ledger.cost == 0.0


def test_provider_caches_have_their_prices():
    usage = {
        "input_tokens": 10,
        "output_tokens": 1,
        "total_tokens": 11,
        "input_token_details": {
            "cache_read": 4,
            "cache_creation": 0,
            "ephemeral_5m_input_tokens": 3,
            "ephemeral_1h_input_tokens": 1,
        },
    }
    price = Price(1e6, 2e6, cached_input=1e5, cache_write=1.25e6, cache_write_1h=2e6)
    ledger = CostLedger(price)
    Model(usage=usage).invoke("x", {"callbacks": [ledger]})
    row = only(ledger)
    assert (row["cached_tokens"], row["cache_write_tokens"]) == (4, 4)
    assert row["cost"] == pytest.approx(2 + 0.4 + 3.75 + 2 + 2)


@pytest.mark.parametrize("async_", [False, True])
async def test_a_hit_in_the_cache_costs_nothing(async_):
    model = Model(cache=InMemoryCache())
    ledger = CostLedger(PRICE)
    for _ in range(3):
        if async_:
            await model.ainvoke("x", {"callbacks": [ledger]})
        else:
            model.invoke("x", {"callbacks": [ledger]})
    row = only(ledger)
    assert (row["calls"], row["cache_hits"], row["input_tokens"], row["cost"]) == (1, 2, 11, 15.0)


def test_retries_count_once_each():
    model = Model(fails=[RefusedError(), RefusedError()])
    ledger = CostLedger(PRICE)
    model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).invoke("x", {"callbacks": [ledger]})
    row = only(ledger)  # the attempts that failed never heard the dated name, and are with the others all the same
    assert (row["calls"], row["failed"], row["unmetered"], row["cost"]) == (1, 2, 0, 15.0)


def caused(name, cause):
    """A client's error, with what broke as its cause."""
    error = type(name, (Exception,), {})("no")
    error.__cause__ = None if cause is None else type(cause, (Exception,), {})("broken")
    return error


@pytest.mark.parametrize(
    ("error", "free"),
    [
        (RefusedError(), True),
        (ConnectionError(), True),
        (ConnectionRefusedError(), True),
        (caused("APIConnectionError", "ConnectError"), True),
        (caused("APITimeoutError", "ConnectTimeout"), True),
        (caused("APIConnectionError", "ReadError"), False),
        (caused("APIConnectionError", "RemoteProtocolError"), False),
        (caused("APIConnectionError", None), False),
        (ConnectionResetError(), False),
        (BrokenPipeError(), False),
        (TimeoutError(), False),
        (ValueError("not JSON"), False),
        (type("APITimeoutError", (Exception,), {})(), False),
        (type("APITimeoutError", (type("APIConnectionError", (Exception,), {}),), {})(), False),
    ],
)
def test_a_failed_call_is_free_only_where_that_is_sure(error, free):
    ledger = CostLedger(PRICE)
    with pytest.raises(type(error)):
        Model(fails=[error]).invoke("x", {"callbacks": [ledger]})
    row = only(ledger)
    assert (row["calls"], row["failed"], row["unmetered"]) == (0, 1, 0 if free else 1)
    assert row["cost"] == 0.0
    assert ledger.total()["complete"] == free


def test_a_reply_without_usage_makes_the_sum_a_lower_bound():
    ledger = CostLedger(PRICE)
    Model(silent=True).invoke("x", {"callbacks": [ledger]})
    assert only(ledger)["unmetered"] == 1
    assert not ledger.total()["complete"]
    assert "at least" in repr(ledger)
    assert "1 calls reported no tokens" in ledger.summary()


def test_an_unknown_price_is_said_once_and_its_money_is_unknown(caplog):
    ledger = CostLedger({"known": PRICE})
    for name in ("known", "strange", "strange"):
        Model(model=name).invoke("x", {"callbacks": [ledger]})
    (said,) = [r.message for r in caplog.records if "strange" in r.message]
    assert said.startswith("no price in USD is known for 'strange-2026-01-01'")
    known, strange = ledger.table()
    assert known["cost"] == 15.0
    assert strange["cost"] is None
    assert strange["input_tokens"] == 22
    assert ledger.cost is None
    total = ledger.total()
    assert total["cost"] == 15.0
    assert total["unpriced"] == ["strange-2026-01-01"]
    assert not total["complete"]
    json.dumps(ledger.to_dict(), allow_nan=False)


def test_list_prices_and_currencies(caplog):
    assert CostLedger().price("gpt-4o-mini-2024-07-18").input == 0.15
    assert CostLedger({"gpt-4o-mini": PRICE}).price("gpt-4o-mini-2024-07-18") is PRICE
    assert CostLedger(currency="EUR").price("gpt-4o-mini") is None
    euros = Price(1.0, 1.0, currency="EUR")
    assert CostLedger(euros, currency="EUR").price("whatever") is euros


@pytest.mark.parametrize("prices", [{"a": 1.0}, [PRICE], 1.0])
def test_prices_of_another_kind_are_refused(prices):
    with pytest.raises(TypeError, match="`prices`"):
        CostLedger(prices)


@pytest.mark.parametrize("price", [-1.0, math.inf, math.nan])
def test_an_impossible_price_per_hour_is_refused(price):
    with pytest.raises(ValueError, match="small_price_per_hour"):
        CostLedger(small_price_per_hour=price)


# --- contexts -------------------------------------------------------------------------------------------------------


def test_context_and_config_together_count_once():
    with CostLedger(PRICE) as ledger:
        Model().invoke("x", {"callbacks": [ledger]})
        RunnableLambda(lambda text: Model().invoke(text)).invoke("x", {"callbacks": [ledger, ledger]})
        with ledger:
            Model().invoke("x")
        Model().invoke("x")
    Model().invoke("x")
    assert only(ledger)["calls"] == 4


def test_ledgers_inside_each_other_each_count_all_inside():
    variables = len(module._ACTIVE)
    for _ in range(3):
        with CostLedger(PRICE) as outer:
            Model().invoke("x")
            with CostLedger(PRICE) as inner:
                Model().invoke("x")
            Model().invoke("x")
        assert (outer.total()["calls"], inner.total()["calls"]) == (3, 1)
    assert len(module._ACTIVE) <= max(variables, 2)  # variables are used again: they can never be taken back


async def test_tasks_have_ledgers_of_their_own():
    async def work(count):
        with CostLedger(PRICE) as ledger:
            for _ in range(count):
                await Model().ainvoke("x")
                await asyncio.sleep(0)
            return ledger.total()["calls"]

    async with CostLedger(PRICE) as outside:
        assert await asyncio.gather(*(work(i) for i in range(6))) == list(range(6))
    assert outside.total()["calls"] == 15


def test_threads_lose_nothing():
    ledger = CostLedger(PRICE)
    chain = RunnableLambda(lambda text: text) | Model()

    def work():
        for _ in range(50):
            chain.invoke("x", {"callbacks": [ledger]})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert only(ledger)["calls"] == 400
    assert not ledger._runs


def test_a_copy_counts_into_the_same_ledger():
    ledger = CostLedger(PRICE)
    assert copy.deepcopy({"callbacks": [ledger]})["callbacks"][0] is ledger


# --- sides ----------------------------------------------------------------------------------------------------------

TABLE = {"easy": {"pos": 0.95, "neg": 0.05}, "hard": {"pos": 0.6, "neg": 0.4}}


def router(**options):
    options = {"small": FakeSmallModel(TABLE), "large": Model(), "threshold": 0.9, **options}
    return ConfidenceRouter(**options)


def sides(ledger):
    """Calls of language models."""
    return {(row["side"], row["model"]): row["calls"] for row in ledger.table() if row["model"] != "small"}


def test_the_large_side_is_what_is_below_it():
    deep = RunnableLambda(lambda text: (RunnableLambda(lambda t: t) | Model()).invoke(text))
    with CostLedger(PRICE) as ledger:
        router(large=deep, to_output=lambda answer, _: answer["choice"]).batch(["easy", "hard", "hard"])
        Model(model="beside").invoke("x")
    assert sides(ledger) == {("large", "big-2026-01-01"): 2, ("other", "beside-2026-01-01"): 1}


def test_audits_are_their_own_side_whatever_they_call():
    inner = router(small=FakeSmallModel({"easy": {"pos": 0.6, "neg": 0.4}}), name="inner")
    ledger = CostLedger(PRICE)
    with router(large=inner, audit_rate=1.0, name="outer") as outer:
        outer.batch(["easy"] * 3, {"callbacks": [ledger]})
    assert sides(ledger) == {("audit", "big-2026-01-01"): 3}
    saved = ledger.saved()
    assert (saved["accepted"], saved["escalated"]) == (3, 0)  # what an audit decides is no decision


def test_shadow_work_of_a_small_chat_model_is_small():
    from langchain_dsplus import ChatClassifier

    small = ChatClassifier(Model(model="little"), labels=["pos", "neg"], votes=2, name="votes")
    ledger = CostLedger(PRICE)
    with router(small=small, mode="shadow") as shadow:
        shadow.invoke("hard", {"callbacks": [ledger]})
    found = sides(ledger)
    assert found["large", "big-2026-01-01"] == 1
    assert found["small", "little-2026-01-01"] >= 1
    assert len(found) == 2


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_a_model_inside_a_small_runnable_is_small(mode):
    def answer(text):
        Model(model="little").invoke(text)
        return {"choice": "pos", "probabilities": {"pos": 0.6, "neg": 0.4}, "confidence": 0.6}

    ledger = CostLedger(PRICE)
    with router(small=RunnableLambda(answer), mode=mode) as cascade:
        cascade.invoke("hard", {"callbacks": [ledger]})
    assert sides(ledger) == {("small", "little-2026-01-01"): 1, ("large", "big-2026-01-01"): 1}


def test_transfer_is_its_own_side():
    transfer = PromptTransfer(
        Model(model="little", says="short"), input_key="text", output_key="text", fidelity=lambda *_: True
    )
    prompt = ChatPromptTemplate.from_messages([("human", "{text}")])
    small = FakeSmallModel(default={"pos": 0.6, "neg": 0.4}, labels=["pos", "neg"], input_key="text")
    ledger = CostLedger(PRICE)
    for _ in range(6):
        router(small=small, large=transfer.as_assign() | prompt | Model()).invoke(
            {"text": "a b c"}, {"callbacks": [ledger]}
        )
    assert sides(ledger) == {("transfer", "little-2026-01-01"): 6, ("large", "big-2026-01-01"): 6}
    saved = ledger.saved()
    assert saved["basis"] is None  # nothing was accepted
    assert saved["net"]["estimate"] == pytest.approx(-saved["overhead"])
    assert saved["overhead"] > 0


def test_a_tool_between_keeps_the_side():
    @tool
    def ask(text: str) -> str:
        """Ask."""
        return Model().invoke(text).content

    ledger = CostLedger(PRICE)
    large = RunnableLambda(lambda text: ask.invoke({"text": text}))
    router(large=large, to_output=lambda answer, _: answer["choice"]).invoke("hard", {"callbacks": [ledger]})
    assert sides(ledger) == {("large", "big-2026-01-01"): 1}
    assert not ledger._runs


class Facade(BaseChatModel):
    """A chat model that asks another, and reports the other's usage as its own."""

    inner: Model = Field(default_factory=Model)
    local: bool = False

    @property
    def _llm_type(self):
        return "facade"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.local:
            message = AIMessage("pos", response_metadata={"dsplus": {"accepted": True}})
        else:
            below = CallbackManager(handlers=run_manager.handlers, parent_run_id=run_manager.run_id)
            message = self.inner.invoke(messages, {"callbacks": below})
        return ChatResult(generations=[ChatGeneration(message=message)])


def test_a_model_that_passes_calls_on_is_not_counted_twice():
    ledger = CostLedger(PRICE)
    Facade().invoke("x", {"callbacks": [ledger]})
    Facade(local=True).invoke("x", {"callbacks": [ledger]})
    with pytest.raises(RefusedError):
        Facade(inner=Model(fails=[RefusedError()])).invoke("x", {"callbacks": [ledger]})
    row = only(ledger)
    assert (row["calls"], row["failed"], row["unmetered"]) == (1, 1, 0)


async def test_a_call_that_outlives_what_failed_around_it_counts_once():
    class Slow(Model):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.sleep(0.05)
            return self._generate(messages)

    async def fail(_):
        await asyncio.sleep(0.01)
        raise RefusedError

    ledger = CostLedger(PRICE)
    with pytest.raises(RefusedError):
        await RunnableParallel(a=Slow(), b=RunnableLambda(fail)).ainvoke("x", {"callbacks": [ledger]})
    early = ledger.total()
    assert (early["calls"], early["failed"], early["unmetered"]) == (0, 1, 1)
    await asyncio.sleep(0.1)
    row = only(ledger)
    assert (row["calls"], row["failed"], row["unmetered"], row["cost"]) == (1, 0, 0, 15.0)
    assert not ledger._left


def test_text_models_report_usage_in_their_own_way():
    ledger = CostLedger(PRICE)
    FakeListLLM(responses=["a"]).invoke("x", {"callbacks": [ledger]})
    assert only(ledger)["unmetered"] == 1
    run = uuid4()
    ledger.reset()
    ledger.on_llm_start({}, ["x"], run_id=run, metadata={"ls_model_name": "text-1"})
    counts = {"prompt_tokens": 3, "completion_tokens": 4}
    reply = LLMResult(generations=[[Generation(text="a")]], llm_output={"token_usage": counts, "model_name": "text-1"})
    for _ in range(2):  # heard twice
        ledger.on_llm_end(reply, run_id=run)
    row = only(ledger)
    assert (row["calls"], row["input_tokens"], row["output_tokens"], row["cost"]) == (1, 3, 4, 11.0)


def test_in_process_small_models_by_the_hour():
    ledger = CostLedger(PRICE, small_price_per_hour=36.0)
    unpriced = CostLedger(PRICE)
    for one in (ledger, unpriced):
        for _ in range(2):
            one.on_small_model("tfidf", 0.5)
    row = only(ledger)
    assert (row["side"], row["calls"], row["seconds"]) == ("small", 2, 1.0)
    assert row["cost"] == pytest.approx(0.01)
    assert ledger.total()["complete"]
    assert only(unpriced)["cost"] is None
    assert unpriced.cost == 0.0  # no token was paid for
    assert unpriced.total()["unpriced"] == ["tfidf"]
    assert unpriced.saved()["without"] == ["tfidf"]


@pytest.mark.parametrize("mode", ["live", "shadow"])
@pytest.mark.parametrize("async_", [False, True])
async def test_a_router_says_how_long_its_small_models_took(mode, async_):
    small = FakeSmallModel(TABLE, latency=0.02, name="table")
    ledger = CostLedger(PRICE, small_price_per_hour=3600.0)
    config = {"callbacks": [ledger, ledger]}
    began = time.perf_counter()
    with router(small=small, mode=mode) as cascade:
        if async_:
            await cascade.abatch(["easy", "hard", "hard"], config)
            await cascade.ainvoke("hard", config)
            await cascade.adrain()
        else:
            cascade.batch(["easy", "hard", "hard"], config)
            list(cascade.stream("hard", config))
            cascade.drain()
    small_row = next(row for row in ledger.table() if row["side"] == "small")
    assert (small_row["model"], small_row["calls"]) == ("table", 4)
    lanes = 1 if mode == "live" else 2  # threads of background work
    assert 0.04 <= small_row["seconds"] <= lanes * (time.perf_counter() - began)  # a batch takes its time once
    assert small_row["cost"] == pytest.approx(small_row["seconds"])


def test_a_small_chat_model_without_a_token_price_costs_its_time(caplog):
    ledger = CostLedger({"big": PRICE}, small_price_per_hour=3600.0)
    Model(model="little").with_config(tags=["nostream"]).invoke("x", {"callbacks": [ledger]})
    row = only(ledger)
    assert row["cost"] == pytest.approx(row["seconds"])
    assert not caplog.records


# --- what was saved -------------------------------------------------------------------------------------------------


def texts(rng, count, kind):
    return [f"{kind} " + "word " * int(rng.integers(1, 60)) for _ in range(count)]


def simulate(rng, accepted, escalated, noise=20):
    """Decisions whose tokens follow from their length, with noise; returns what the accepted would have cost."""
    ledger = CostLedger(PRICE)
    truth = 0.0
    for place in range(accepted + escalated):
        characters = int(rng.gamma(2.0, 150))
        usage = Usage(200 + round(characters / 4) + int(rng.integers(0, noise)), int(rng.integers(1, 40)))
        run = uuid4()
        ledger.on_chain_start(None, "x" * characters, run_id=run, name="router")
        if place < accepted:
            truth += PRICE.cost(usage)
        else:
            child = uuid4()
            ledger.on_chat_model_start({}, [], run_id=child, parent_run_id=run, tags=["large"], metadata={})
            message = AIMessage(
                "",
                usage_metadata={"input_tokens": usage.input, "output_tokens": usage.output, "total_tokens": 0},
            )
            ledger.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=child)
        ledger.on_custom_event("dsplus_route", {"route_id": str(run), "accepted": place < accepted}, run_id=run)
        ledger.on_chain_end(None, run_id=run)
    return ledger, truth


@pytest.mark.parametrize(("accepted", "escalated"), [(100, 12), (200, 60), (5, 50)])
@pytest.mark.no_cover
def test_the_interval_holds_what_the_accepted_would_have_cost(accepted, escalated):
    rng = np.random.default_rng(7)
    runs, hits, widths = 150, 0, []
    for _ in range(runs):
        ledger, truth = simulate(rng, accepted, escalated)
        net = ledger.saved(level=0.9)["net"]
        hits += net["low"] <= truth <= net["high"]
        widths.append((net["high"] - net["low"]) / truth)
    assert 0.84 <= hits / runs <= 0.97
    assert np.median(widths) < 0.35  # and it is of use


def test_savings_of_a_real_router_add_up():
    rng = np.random.default_rng(3)
    easy, hard = texts(rng, 40, "easy"), texts(rng, 20, "hard")
    small = FakeSmallModel(lambda text: TABLE[text.split()[0]], labels=["pos", "neg"])
    ledger = CostLedger(PRICE)
    router(small=small).batch([*easy, *hard], {"callbacks": [ledger]})
    saved = ledger.saved()
    truth = sum(10 + len(text.split()) + 4 for text in easy)
    assert saved["avoided"]["estimate"] == pytest.approx(truth, rel=1e-6)  # all words are equally long
    assert saved["net"] == saved["avoided"]
    assert saved["output_tokens"]["estimate"] == pytest.approx(80)
    assert "40 of 60 inputs stayed local." in ledger.summary()
    json.dumps(ledger.to_dict(), allow_nan=False)


def test_a_stream_counts_its_input_too():
    small = FakeSmallModel(lambda text: TABLE[text.split()[0]], labels=["pos", "neg"])
    ledger = CostLedger(PRICE)
    stream = router(small=small)
    for number in range(6):
        list(stream.stream("hard " * (number + 1), {"callbacks": [ledger]}))
        list(stream.stream("easy " * 4, {"callbacks": [ledger]}))
    saved = ledger.saved()
    assert saved["input_tokens"]["estimate"] == pytest.approx(6 * 14)


def test_too_little_is_said_to_be_too_little():
    ledger = CostLedger(PRICE)
    router().batch(["easy", "easy", "hard"], {"callbacks": [ledger]})
    saved = ledger.saved()
    assert saved["basis"] is saved["net"] is saved["avoided"] is None
    assert "not known: too few escalations" in ledger.summary()


def test_a_missing_price_leaves_the_tokens():
    ledger = CostLedger()
    router().batch(["easy"] * 4 + ["hard"] * 6, {"callbacks": [ledger]})
    saved = ledger.saved()
    assert saved["net"] is None
    assert saved["input_tokens"]["estimate"] == pytest.approx(44)
    assert "not known: a price is missing" in ledger.summary()


def decision(ledger, usage, *, accepted=False, **route):
    run, child = uuid4(), uuid4()
    ledger.on_chain_start(None, "x" * 100, run_id=run, name="router")
    if not accepted:
        ledger.on_chat_model_start({}, [], run_id=child, parent_run_id=run, tags=["large"], metadata={})
        details = {"cache_read": usage.cached}
        message = AIMessage(
            "",
            usage_metadata={
                "input_tokens": usage.input,
                "output_tokens": usage.output,
                "total_tokens": 0,
                "input_token_details": details,
            },
        )
        ledger.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=child)
    ledger.on_custom_event("dsplus_route", {"route_id": str(run), "accepted": accepted, **route}, run_id=run)
    ledger.on_chain_end(None, run_id=run)


def test_a_lost_prompt_cache_counts_against_the_saving():
    # The plain prompt: 100 tokens, of which 80 come from the provider's cache. A changed one: 70, all at full price.
    ledger = CostLedger(PRICE)
    for _ in range(10):
        decision(ledger, Usage(100, 0, cached=80))
    for _ in range(10):
        decision(ledger, Usage(90, 0), pruning="soft")
    for _ in range(5):
        decision(ledger, Usage(), accepted=True)
    saved = ledger.saved()
    plain = 20 + 80 * 0.5
    assert saved["basis"] == "plain"
    assert saved["avoided"]["estimate"] == pytest.approx(5 * plain)
    assert saved["cache_lost"] == pytest.approx(10 * 80 * 0.5)
    assert saved["net"]["estimate"] == pytest.approx(5 * plain + 10 * (plain - 90))


def test_without_a_plain_prompt_to_compare_with_escalations_stand_in():
    ledger = CostLedger(PRICE)
    for number in range(10):
        decision(ledger, Usage(100, 0, cached=60 if number % 2 else 0), pruning="hard")
    decision(ledger, Usage(), accepted=True)
    saved = ledger.saved()
    assert saved["basis"] == "escalations"
    assert saved["avoided"]["estimate"] == pytest.approx(70)
    assert saved["cache_lost"] == pytest.approx(5 * 30)
    assert saved["net"]["estimate"] == pytest.approx(70 - 150)
    assert saved["prompts"]["estimate"] == 0


def test_failed_and_unmetered_escalations_are_no_evidence():
    ledger = CostLedger(PRICE)
    model = Model(fails=[RefusedError(), RefusedError()])
    cascade = router(large=model, on_large_error="small")
    for _ in range(8):
        cascade.invoke("hard", {"callbacks": [ledger]})
    saved = ledger.saved()
    assert saved["escalated"] == 8
    assert saved["sample"] == 6


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "batch, all back", "as completed"])
@pytest.mark.parametrize("error", [RefusedError, ValueError])
async def test_an_input_that_failed_did_not_stay_local(error, way, async_):
    ledger = CostLedger(PRICE)
    cascade, config = router(large=Model(fails=[error(), error()])), {"callbacks": [ledger]}

    async def one_by_one(name):
        for text in ("easy", "hard"):
            with contextlib.suppress(error):
                if async_:
                    done = getattr(cascade, f"a{name}")(text, config)
                    _ = [part async for part in done] if name == "stream" else await done
                else:
                    done = getattr(cascade, name)(text, config)
                    _ = list(done) if name == "stream" else done

    async def together():
        given, all_back = ["easy", "hard"], {"return_exceptions": way != "batch"}
        with contextlib.suppress(error):
            if way == "as completed" and async_:
                _ = [part async for part in cascade.abatch_as_completed(given, config, **all_back)]
            elif way == "as completed":
                _ = list(cascade.batch_as_completed(given, config, **all_back))
            else:
                _ = (
                    await cascade.abatch(given, config, **all_back)
                    if async_
                    else cascade.batch(given, config, **all_back)
                )

    await (one_by_one(way) if way in {"invoke", "stream"} else together())
    assert "1 of 2 inputs stayed local." in ledger.summary()
    saved = ledger.saved()
    assert (saved["accepted"], saved["escalated"], saved["sample"]) == (1, 1, 0)


async def test_a_cancelled_calls_tokens_are_said_to_be_unknown():
    class Slow(Model):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.sleep(5)

    for said in (False, True):
        ledger = CostLedger(PRICE)
        if said:
            Model().invoke("x", {"callbacks": [ledger]})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(router(large=Slow()).ainvoke("hard", {"callbacks": [ledger]}), 0.05)
        row = next(row for row in ledger.table() if row["side"] == "large")
        assert (row["failed"], row["unmetered"]) == (1, 1)
        summary = ledger.summary()
        assert "1 calls reported no tokens: theirs are unknown." in summary
        assert "unknown" in next(line for line in summary.splitlines() if "large" in line)
        assert ("≥ 11" if said else "unknown") in next(line for line in summary.splitlines() if "│ all" in line)


def test_audits_are_evidence_of_the_plain_prompt():
    ledger = CostLedger(PRICE)
    with router(audit_rate=1.0, background=False) as cascade:
        for _ in range(6):
            cascade.invoke("easy", {"callbacks": [ledger]})
        cascade.batch(["easy"] * 4, {"callbacks": [ledger]})
    saved = ledger.saved()
    assert saved["basis"] == "plain"
    assert saved["sample"] == 10
    assert saved["avoided"]["estimate"] == pytest.approx(10 * 15)
    assert saved["overhead"] == 150
    assert saved["net"]["estimate"] == pytest.approx(0)
    assert not ledger._audits


def test_routers_of_one_name_inside_each_other_are_told_apart():
    inner = router(small=FakeSmallModel({"hard": {"pos": 0.95, "neg": 0.05}, "x": {"pos": 0.6, "neg": 0.4}}))
    outer = router(small=FakeSmallModel({**TABLE, "x": {"pos": 0.6, "neg": 0.4}}), large=inner)
    ledger = CostLedger(PRICE)
    outer.batch(["easy"] * 3 + ["hard"] * 4 + ["x"] * 6, {"callbacks": [ledger]})
    assert len(ledger._routers) == 2
    saved = ledger.saved()
    assert saved["accepted"] == 3 + 4
    # The inner one kept four calls of 15 away; the outer three inputs, that cost 15 six times in ten.
    assert saved["avoided"]["estimate"] == pytest.approx(4 * 15 + 3 * 15 * 6 / 10, rel=0.35)
    assert sides(ledger) == {("large", "big-2026-01-01"): 6}


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 50)
    monkeypatch.setattr(savings, "KEPT", 50)
    ledger = CostLedger(PRICE)
    for _ in range(120):
        decision(ledger, Usage(10, 0), audited=True)
        decision(ledger, Usage(), accepted=True, audited=True)
    (one,) = ledger._routers.values()
    assert one.plain.count == 120
    assert len(one.plain.items) == 50
    assert len(ledger._audits) == 50
    assert ledger.saved()["avoided"]["estimate"] == pytest.approx(1200)


def test_runs_that_never_end_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(module, "_OPEN", 10)
    ledger = CostLedger(PRICE)
    for _ in range(100):
        ledger.on_chain_start(None, "x", run_id=uuid4())
    assert len(ledger._runs) == 10


@pytest.mark.parametrize("level", [0.0, 1.0, -1])
def test_a_level_that_is_none_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        CostLedger().saved(level)


# --- words ----------------------------------------------------------------------------------------------------------


def test_a_name_from_a_server_is_no_markup():
    ledger = CostLedger(PRICE)
    Model(model="[red]x[/red]").invoke("x", {"callbacks": [ledger]})
    assert "[red]x[/red]" in ledger.summary(width=160)
    assert "\x1b" not in ledger.summary()


def test_an_empty_ledger_speaks_too():
    ledger = CostLedger()
    assert "all" in ledger.summary()
    assert ledger.saved()["net"] == {"estimate": 0.0, "low": 0.0, "high": 0.0}
    json.dumps(ledger.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("abc", 3),
        (HumanMessage("abc"), 3),
        ([HumanMessage("abc"), HumanMessage("d")], 4),
        ({"a": "abc", "n": 7, "dsplus": {"answer": None, "probabilities": {"long label": 1.0}}}, 3),
        (ChatPromptTemplate.from_messages([("human", "ab{x}")]).invoke({"x": "c"}), 3),
        (b"abc", 0),
        (None, 0),
    ],
)
def test_characters(value, count):
    assert count_characters(value) == count


@given(
    st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(0, 50), st.sampled_from(["big", "huge"])),
        max_size=20,
    )
)
def test_sums_are_the_sums_of_the_calls(calls):
    prices = {"big": Price(3.0, 5.0, 1.0), "huge": Price(30.0, 50.0)}
    ledger = CostLedger(prices)
    expected = 0.0
    for tokens, cached, out, name in calls:
        usage = {
            "input_tokens": tokens,
            "output_tokens": out,
            "total_tokens": 0,
            "input_token_details": {"cache_read": cached},
        }
        Model(model=name, usage=usage).invoke("x", {"callbacks": [ledger]})
        expected += prices[name].cost(usage)
    assert ledger.total()["input_tokens"] == sum(c[0] for c in calls)
    assert ledger.total()["output_tokens"] == sum(c[2] for c in calls)
    assert ledger.cost == pytest.approx(expected, rel=1e-9)
