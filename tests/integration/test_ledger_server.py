"""The ledger against the books of a real HTTP server that speaks the OpenAI protocol: equal to the token."""

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from werkzeug import Response

from langchain_dsplus import ChatClassifier, ConfidenceRouter, FakeSmallModel
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.costs.prices import Price

pytest.importorskip("langchain_openai")
pytestmark = pytest.mark.usefixtures("unpooled_openai")

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)


class Provider:
    """Keeps its own books: what it was asked, what it refused, what it served. Only what is served costs."""

    def __init__(self, server):
        self.server = server
        self.lock = threading.Lock()
        self.requests = 0
        self.refused = Counter()
        self.served = 0
        self.input = self.cached = self.output = 0
        self.by_model = Counter()
        self.slow = threading.Event()  # cleared: nothing is answered
        self.slow.set()
        self.reached = threading.Event()
        self.refuse = {}  # text -> statuses that come before an answer
        server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(self.answer)

    def answer(self, request):
        body = request.get_json()
        text = body["messages"][-1]["content"]
        prompt = sum(len(m["content"].split()) for m in body["messages"])
        # Long prompts start with what the provider has in its own cache.
        usage = {"input": prompt, "cached": 4 if prompt > 8 else 0, "output": 1 + len(text) % 5}
        self.reached.set()
        self.slow.wait(10)
        with self.lock:
            self.requests += 1
            waiting = self.refuse.get(text)
            if waiting:
                status = waiting.pop(0)
                self.refused[status] += 1
                return Response(json.dumps({"error": {"message": "no"}}), status, mimetype="application/json")
            self.served += 1
            self.input += usage["input"]
            self.cached += usage["cached"]
            self.output += usage["output"]
            self.by_model[body["model"]] += usage["input"] + usage["output"]
        if body.get("stream"):
            return Response(self.events(body, usage), mimetype="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": "pos"}, "finish_reason": "stop"}
        choices = [{**choice, "index": place} for place in range(body.get("n") or 1)]
        return Response(
            json.dumps(self.head(body) | {"choices": choices, "usage": self.usage(usage)}), mimetype="application/json"
        )

    @staticmethod
    def head(body):
        return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"] + "-2026-01-01"}

    @staticmethod
    def usage(usage):
        return {
            "prompt_tokens": usage["input"],
            "completion_tokens": usage["output"],
            "total_tokens": usage["input"] + usage["output"],
            "prompt_tokens_details": {"cached_tokens": usage["cached"]},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }

    def events(self, body, usage):
        head = self.head(body) | {"object": "chat.completion.chunk"}
        for content in ("p", "os"):
            choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}
            yield f"data: {json.dumps(head | {'choices': [choice]})}\n\n"
        yield f"data: {json.dumps(head | {'choices': [], 'usage': self.usage(usage)})}\n\n"
        yield "data: [DONE]\n\n"

    def model(self, name="big", **options):
        from langchain_openai import ChatOpenAI

        options = {"max_retries": 0, "stream_usage": True, "timeout": 60.0, **options}
        return ChatOpenAI(base_url=self.server.url_for("/v1"), api_key="none", model=name, **options)

    @property
    def cost(self):
        return ((self.input - self.cached) * 2.0 + self.cached * 0.5 + self.output * 8.0) / 1e6


@pytest.fixture
def provider(server):
    return Provider(server)


def same(ledger, provider):
    total = ledger.total()
    # In-process small models are counted by inputs, without a token: the server never hears of them.
    rows = {(row["side"], row["model"]): row for row in ledger.table() if row["input_tokens"] or row["side"] != "small"}
    assert sum(row["calls"] for row in rows.values()) == provider.served
    assert total["input_tokens"] == provider.input
    assert total["cached_tokens"] == provider.cached
    assert total["output_tokens"] == provider.output
    assert total["unmetered"] == 0
    assert total["complete"] or not {row["model"] for row in rows.values()} & set(total["unpriced"])
    assert not total["open"]
    assert total["cost"] == pytest.approx(provider.cost, rel=1e-12)
    assert ledger.cost == pytest.approx(provider.cost, rel=1e-12)
    assert not ledger._runs
    return rows


def chain(model):
    prompt = ChatPromptTemplate.from_messages([("system", "Is the text pos or neg?"), ("human", "{text}")])
    return prompt | model


async def test_64_tasks_with_refusals_retries_cache_hits_and_streams(provider):
    plain = provider.model()
    cached = provider.model(cache=InMemoryCache())
    patient = provider.model().with_retry(stop_after_attempt=4, wait_exponential_jitter=False)
    client = provider.model(max_retries=3)
    provider.refuse = {f"retry {i}": [500, 429][: 1 + i // 2 % 2] for i in range(0, 64, 2)}
    provider.refuse |= {f"client {i}": [500] for i in range(0, 64, 8)}
    provider.refuse |= {f"lost {i}": [429] for i in range(8)}
    ledger = CostLedger(PRICE)
    config = {"callbacks": [ledger]}

    async def task(i):
        await chain(plain).ainvoke({"text": f"plain {i} " + "word " * (i % 7)}, config)
        await chain(patient).ainvoke({"text": f"retry {i}"}, config)
        await chain(cached).ainvoke({"text": f"first {i}"}, config)
        await chain(cached).ainvoke({"text": f"first {i}"}, config)  # a hit
        async for _ in (chain(plain) | StrOutputParser()).astream({"text": f"stream {i}"}, config):
            pass
        await chain(plain).abatch([{"text": f"batch {i} {j}"} for j in range(3)], config)
        await chain(client).ainvoke({"text": f"client {i}"}, config)
        if i < 8:
            with pytest.raises(Exception, match="no"):
                await chain(plain).ainvoke({"text": f"lost {i}"}, config)

    await asyncio.gather(*(task(i) for i in range(64)))
    rows = same(ledger, provider)
    assert provider.served == 64 * 8
    assert provider.refused == {500: 32 + 8, 429: 16 + 8}
    row = rows["other", "big-2026-01-01"]
    assert len(rows) == 1
    assert row["cache_hits"] == 64
    assert row["failed"] == 32 + 16 + 8  # what the client repeats by itself is not seen, and costs nothing
    assert row["seconds"] > 0


def test_threads_streams_and_several_choices(provider):
    model = provider.model()
    with CostLedger(PRICE) as ledger:
        from langchain_core.runnables import RunnableLambda

        def work(i):
            list(chain(model).stream({"text": f"stream {i}"}))
            model.invoke(f"choices {i}", n=3)  # three answers, paid for once
            return model.batch([f"a {i}", f"b {i}"])

        RunnableLambda(work).batch(list(range(16)), {"max_concurrency": 8})
    same(ledger, provider)
    assert ledger.total()["calls"] == 16 * 4
    model.invoke("after the end")
    assert ledger.total()["calls"] == 16 * 4


def router(provider, **options):
    table = {f"easy {i}": {"pos": 0.95, "neg": 0.05} for i in range(64)}
    small = FakeSmallModel(table, default={"pos": 0.6, "neg": 0.4}, labels=["pos", "neg"], input_key="text")
    large = chain(provider.model()).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    return ConfidenceRouter(small=small, large=large, threshold=0.9, **options)


@pytest.mark.parametrize("async_", [False, True])
async def test_a_router_with_audits_retries_and_batches(provider, async_):
    provider.refuse = {"hard 3": [500, 429], "easy 1": [500]}
    inputs = [{"text": f"{kind} {i}"} for i in range(32) for kind in ("easy", "hard")]
    ledger = CostLedger(PRICE, small_price_per_hour=0.0)
    with router(provider, audit_rate=0.5, background=True) as cascade:
        config = {"callbacks": [ledger]}
        if async_:
            await cascade.abatch(inputs, config)
            await asyncio.gather(*(cascade.ainvoke(value, config) for value in inputs))
            async for _ in cascade.astream({"text": "hard 5"}, config):
                pass
            await cascade.adrain()
        else:
            cascade.batch(inputs, config)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda value: cascade.invoke(value, config), inputs))
            list(cascade.stream({"text": "hard 5"}, config))
            cascade.drain()
    rows = same(ledger, provider)
    large, audit = rows["large", "big-2026-01-01"], rows["audit", "big-2026-01-01"]
    assert large["calls"] == 65
    assert large["failed"] >= 2
    assert 0 < audit["calls"] < 64
    assert large["calls"] + audit["calls"] == provider.served
    saved = ledger.saved()
    assert saved["accepted"] == 64
    assert saved["escalated"] == 65
    assert saved["basis"] == "plain"
    assert saved["sample"] == 65 + audit["calls"]
    # Every prompt has eight words, and "easy 1" and "hard 1" are equally long.
    assert saved["input_tokens"]["estimate"] == pytest.approx(64 * 8, rel=1e-6)
    assert saved["net"]["estimate"] == pytest.approx(saved["avoided"]["estimate"] - audit["cost"])


def test_routers_inside_each_other_and_a_small_model_on_the_same_server(provider):
    small = ChatClassifier(
        provider.model("little", logprobs=False), labels=["pos", "neg"], votes=2, name="votes", input_key="text"
    )
    inner = ConfidenceRouter(small=small, large=chain(provider.model()), threshold=None, name="inner")
    table = {"easy": {"pos": 0.95, "neg": 0.05}, "hard": {"pos": 0.6, "neg": 0.4}}
    outer = ConfidenceRouter(small=FakeSmallModel(table, input_key="text"), large=inner, threshold=0.9, name="outer")
    ledger = CostLedger({"big": PRICE, "little": PRICE})
    with ledger, CostLedger(PRICE) as second:
        outer.batch([{"text": "easy"}, {"text": "hard"}, {"text": "hard"}], {"callbacks": [ledger]})
        outer.invoke({"text": "hard"})
    rows = same(ledger, provider)
    same(second, provider)
    assert rows["large", "big-2026-01-01"]["calls"] == 3
    assert rows["small", "little-2026-01-01"]["calls"] >= 3
    assert set(rows) == {("large", "big-2026-01-01"), ("small", "little-2026-01-01")}
    assert ledger.saved()["accepted"] == 1
    assert ledger.saved()["escalated"] == 3 + 3


def test_a_node_of_a_graph_that_is_cached_costs_nothing_the_second_time(provider):
    from langgraph.cache.memory import InMemoryCache as NodeCache
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import CachePolicy, RetryPolicy
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        text: str
        label: str

    model = provider.model()
    graph = StateGraph(State)
    graph.add_node(
        "ask",
        lambda state: {"label": chain(model).invoke(state).content},
        cache_policy=CachePolicy(),
        retry_policy=RetryPolicy(initial_interval=0.01, retry_on=Exception),
    )
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    app = graph.compile(cache=NodeCache())
    provider.refuse = {"once": [500]}
    with CostLedger(PRICE) as ledger:
        for _ in range(3):
            assert app.invoke({"text": "once"})["label"] == "pos"
    (row,) = same(ledger, provider).values()
    assert row["calls"] == 1
    assert row["failed"] == 1


def test_a_stream_that_is_left_early_is_not_passed_off_as_free(provider):
    ledger = CostLedger(PRICE)
    stream = chain(provider.model()).stream({"text": "left"}, {"callbacks": [ledger]})
    next(stream)
    stream.close()
    total = ledger.total()
    assert total["calls"] == 0
    assert total["failed"] == total["unmetered"] == 1
    assert not total["complete"]
    assert "≥" in ledger.summary()


@pytest.mark.parametrize("bare", [False, True])
async def test_calls_that_are_cancelled_are_not_passed_off_as_free(provider, bare):
    ledger = CostLedger(PRICE)
    model = provider.model() if bare else provider.model() | StrOutputParser()
    provider.slow.clear()
    tasks = [asyncio.create_task(model.ainvoke(f"x {i}", {"callbacks": [ledger]})) for i in range(4)]
    await asyncio.to_thread(provider.reached.wait, 10)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    provider.slow.set()
    await asyncio.sleep(0.05)
    total = ledger.total()
    assert total["calls"] == 0
    if bare:  # LangChain says nothing of these
        assert total["open"] == 4
    else:
        assert total["failed"] == total["unmetered"] == 4
        assert total["open"] == 0
    assert not total["complete"]
