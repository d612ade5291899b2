"""The graphs on a real HTTP server that counts what it is asked, with real checkpoint files and killed processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import CachePolicy, Command, RetryPolicy
from werkzeug import Response

from langchain_dsplus import CostLedger, FakeSmallModel, Price
from langchain_dsplus.graphs import create_dispute_graph, create_dsplus_graph

pytest.importorskip("langchain_openai")
sqlite = pytest.importorskip("langgraph.checkpoint.sqlite", reason="langgraph-checkpoint-sqlite is not installed")
pytestmark = pytest.mark.usefixtures("unpooled_openai")

STATEMENT = "My neighbor Eva Brandt left her bike in the stairway. I threw it into the yard."
REWRITE = "Eva Brandt left her bike in the stairway. The narrator threw it into the yard."
PRICE = Price(input=2.0, output=8.0)
SURE, DOUBT = {"pos": 0.99, "neg": 0.01}, {"pos": 0.5, "neg": 0.5}


class Provider:
    """Keeps its own books, by what it is asked: rewrite, adjudicate, check, classify."""

    def __init__(self, server):
        self.server = server
        self.lock = threading.Lock()
        self.asked = Counter()
        self.served = Counter()
        self.input = self.output = 0
        self.refuse = Counter()  # kind -> answers of 500 that come first
        self.verdicts = {"adjudicate": "narrator", "check": "narrator"}
        self.hold = None  # a kind that is not answered
        self.release, self.reached = threading.Event(), threading.Event()
        server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(self.answer)

    @staticmethod
    def kind(body):
        system = body["messages"][0]["content"]
        if "rewrite one person" in system:
            return "rewrite"
        if "asks you now" in system:
            return "check"
        return "adjudicate" if "at fault" in system else "classify"

    def answer(self, request):
        body = request.get_json()
        kind = self.kind(body)
        with self.lock:
            self.asked[kind] += 1
        if self.hold == kind:
            self.reached.set()
            self.release.wait(60)
            return Response("", 500)
        if self.refuse[kind]:
            self.refuse[kind] -= 1
            return Response(json.dumps({"error": {"message": "no"}}), 500, mimetype="application/json")
        text = {"rewrite": REWRITE, "classify": "neg"}.get(kind)
        if text is None:
            text = json.dumps({"facts": ["a"], "reasons": ["b"], "verdict": self.verdicts[kind]})
        prompt = sum(len(m["content"].split()) for m in body["messages"])
        usage = {"prompt_tokens": prompt, "completion_tokens": 7, "total_tokens": prompt + 7}
        with self.lock:
            self.served[kind] += 1
            self.input += prompt
            self.output += 7
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "big-2026-01-01"}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return Response(json.dumps({**head, "choices": [choice], "usage": usage}), mimetype="application/json")

    def model(self):
        return chat_model(self.server.url_for("/v1"))


def chat_model(url):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(base_url=url, api_key="none", model="big", max_retries=0, timeout=60.0)


@pytest.fixture
def provider(server):
    provider = Provider(server)
    yield provider
    provider.release.set()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


async def call(graph, value, async_, config=None, **kwargs):
    return await graph.ainvoke(value, config, **kwargs) if async_ else graph.invoke(value, config, **kwargs)


@contextlib.asynccontextmanager
async def sqlite_saver(path, async_):
    strict = JsonPlusSerializer(allowed_msgpack_modules=None)
    if async_:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            saver.serde = strict
            yield saver
    else:
        with sqlite.SqliteSaver.from_conn_string(str(path)) as saver:
            saver.serde = strict
            yield saver


THREAD = {"configurable": {"thread_id": "1"}}


# --- checkpoint files -----------------------------------------------------------------------------------------------


async def test_a_dispute_waits_for_a_person_in_a_file(provider, tmp_path, async_):
    provider.verdicts["check"] = "both"
    settings = {"review": True}
    async with sqlite_saver(tmp_path / "graph.db", async_) as saver:
        graph = create_dispute_graph(provider.model(), provider.model(), checkpointer=saver, **settings)
        stopped = await call(graph, {"statement": STATEMENT}, async_, THREAD)
        assert stopped["__interrupt__"][0].value["check"]["reason"] == "disagreement"
    # Another day, another process: here another graph on another connection.
    async with sqlite_saver(tmp_path / "graph.db", async_) as saver:
        graph = create_dispute_graph(provider.model(), provider.model(), checkpointer=saver, **settings)
        state = await call(graph, Command(resume={"verdict": "other party"}), async_, THREAD)
        verdict = state["verdict"]
        assert (verdict["verdict"], verdict["method"], state["transfer"]["used"]) == (
            "other party",
            "person",
            "rewrite",
        )
        assert verdict["usage"]["output_tokens"] == 7
        saved = (await graph.aget_state(THREAD) if async_ else graph.get_state(THREAD)).values
        assert saved == state
        assert json.loads(json.dumps(saved, allow_nan=False)) == saved
    assert provider.asked == {"rewrite": 1, "adjudicate": 1, "check": 1}


async def test_a_classification_is_saved_replayed_and_changed(provider, tmp_path, async_):
    small = FakeSmallModel({"hard": DOUBT, "easy": SURE})
    async with sqlite_saver(tmp_path / "graph.db", async_) as saver:
        graph = create_dsplus_graph(small, provider.model(), threshold=0.9, checkpointer=saver)
        state = await call(graph, {"text": "hard"}, async_, THREAD)
        assert (state["label"], state["reply"].usage_metadata["output_tokens"]) == ("neg", 7)
        if async_:
            history = {s.next: s async for s in graph.aget_state_history(THREAD)}
        else:
            history = {s.next: s for s in graph.get_state_history(THREAD)}
        assert history[()].values == state
        again = await call(graph, None, async_, history["parse",].config)
        assert (again["label"], provider.asked) == ("neg", {"classify": 1})
        await call(graph, None, async_, history["large",].config)
        assert provider.asked == {"classify": 2}
        assert len(small.calls) == 1


# --- killed ---------------------------------------------------------------------------------------------------------

CHILD = """
import sys, time
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver
from langchain_dsplus import FakeSmallModel
from langchain_dsplus.graphs import create_dispute_graph, create_dsplus_graph

kind, url, path = sys.argv[1:]
model = ChatOpenAI(base_url=url, api_key="none", model="big", max_retries=0, timeout=60.0)
config = {"configurable": {"thread_id": "1"}}


def hang(_) -> str:
    print("parsing", flush=True)
    time.sleep(60)


with SqliteSaver.from_conn_string(path) as saver:
    if kind == "dispute":
        graph = create_dispute_graph(model, model, checkpointer=saver)
        value = {"statement": sys.stdin.read()}
    else:
        small = FakeSmallModel({"hard": {"pos": 0.5, "neg": 0.5}})
        graph = create_dsplus_graph(small, model, threshold=0.9, parser=RunnableLambda(hang), checkpointer=saver)
        value = {"text": "hard"}
    graph.invoke(value, config, durability="sync")
"""


@contextlib.contextmanager
def child(kind, provider, path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LANG"))}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, kind, provider.server.url_for("/v1"), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        process.stdin.write(STATEMENT)
        process.stdin.close()
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        process.stdout.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_classification_goes_on_without_asking_the_large_model_again(provider, tmp_path):
    path = tmp_path / "graph.db"
    with child("classification", provider, path) as process:
        assert process.stdout.readline() == "parsing\n"
    assert provider.asked == {"classify": 1}
    with sqlite.SqliteSaver.from_conn_string(str(path)) as saver:
        small = FakeSmallModel({"hard": DOUBT})
        graph = create_dsplus_graph(small, provider.model(), threshold=0.9, checkpointer=saver)
        assert graph.get_state(THREAD).next == ("parse",)
        state = graph.invoke(None, THREAD)
    assert (state["label"], state["route"]["model"], small.calls) == ("neg", "large", [])
    assert provider.asked == {"classify": 1}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_dispute_goes_on_where_it_was(provider, tmp_path):
    path = tmp_path / "graph.db"
    provider.hold = "check"
    with child("dispute", provider, path):
        assert provider.reached.wait(60)
    provider.hold = None
    assert provider.asked == {"rewrite": 1, "adjudicate": 1, "check": 1}
    ledger = CostLedger(PRICE)
    with sqlite.SqliteSaver.from_conn_string(str(path)) as saver:
        graph = create_dispute_graph(provider.model(), provider.model(), checkpointer=saver)
        assert graph.get_state(THREAD).next == ("check",)
        state = graph.invoke(None, {**THREAD, "callbacks": [ledger]})
    assert (state["verdict"]["verdict"], state["check"]["agree"]) == ("narrator", True)
    assert provider.asked == {"rewrite": 1, "adjudicate": 1, "check": 2}
    assert [(row["side"], row["calls"]) for row in ledger.table()] == [("large", 1)]


STRICT = """
import sys
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from langchain_openai import ChatOpenAI
from langchain_dsplus import FakeSmallModel
from langchain_dsplus.graphs import create_dispute_graph, create_dsplus_graph

assert _msgpack.STRICT_MSGPACK_ENABLED
url, path = sys.argv[1:]
model = ChatOpenAI(base_url=url, api_key="none", model="big", max_retries=0, timeout=60.0)
small = FakeSmallModel(lambda _: {"narrator": 0.5, "both": 0.5}, labels=["narrator", "both"])
with SqliteSaver.from_conn_string(path) as saver:
    one, two = ({"configurable": {"thread_id": thread}} for thread in "12")
    graph = create_dsplus_graph(
        FakeSmallModel({"hard": {"pos": 0.5, "neg": 0.5}}), model, threshold=0.9, checkpointer=saver
    )
    state = graph.invoke({"text": "hard"}, one)
    assert graph.get_state(one).values == state and state["reply"].text == "neg"
    graph = create_dispute_graph(model, model, triage=small, review=True, checkpointer=saver)
    graph.invoke({"statement": sys.stdin.read()}, two)
    state = graph.invoke(Command(resume="both"), two)
    assert graph.get_state(two).values == state and state["verdict"]["verdict"] == "both"
"""


def test_a_process_with_strict_msgpack_has_nothing_to_complain_about(provider, tmp_path):
    provider.verdicts["check"] = "both"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-c", STRICT, provider.server.url_for("/v1"), str(tmp_path / "graph.db")],
        input=STATEMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**environment, "LANGGRAPH_STRICT_MSGPACK": "true"},
    )
    assert done.returncode == 0, done.stderr
    assert "nregistered" not in done.stderr
    assert "locked" not in done.stderr


# --- retries and caches ---------------------------------------------------------------------------------------------


def same(ledger, provider):
    total = ledger.total()
    rows = [row for row in ledger.table() if row["side"] != "small"]
    assert sum(row["calls"] for row in rows) == sum(provider.served.values())
    assert (total["input_tokens"], total["output_tokens"]) == (provider.input, provider.output)
    assert total["cost"] == pytest.approx((provider.input * 2.0 + provider.output * 8.0) / 1e6, rel=1e-12)
    return {row["side"]: row["calls"] for row in rows}


def policies():
    import openai

    return {
        "retry_policy": RetryPolicy(max_attempts=4, initial_interval=0.01, retry_on=openai.InternalServerError),
        "cache_policy": CachePolicy(),
        "cache": InMemoryCache(),
    }


async def test_a_dispute_with_retries_and_a_cache_is_counted_to_the_token(provider, async_):
    provider.refuse.update(adjudicate=2, check=1)
    ledger = CostLedger(PRICE)
    graph = create_dispute_graph(provider.model(), provider.model(), **policies())
    for _ in range(3):
        state = await call(graph, {"statement": STATEMENT}, async_, {"callbacks": [ledger]})
        assert (state["verdict"]["verdict"], state["check"]["agree"]) == ("narrator", True)
    assert provider.served == {"rewrite": 1, "adjudicate": 1, "check": 3}  # a check is never cached
    assert provider.asked == {"rewrite": 1, "adjudicate": 3, "check": 4}
    assert same(ledger, provider) == {"transfer": 1, "large": 4}
    assert sum(row["failed"] for row in ledger.table()) == 3


async def test_a_classification_with_retries_and_a_cache_is_counted_to_the_token(provider, async_):
    provider.refuse.update(classify=2)
    ledger = CostLedger(PRICE)
    small = FakeSmallModel({"hard": DOUBT, "easy": SURE})
    graph = create_dsplus_graph(small, provider.model(), threshold=0.9, **policies())
    for text in ("hard", "easy", "hard", "hard"):
        state = await call(graph, {"text": text}, async_, {"callbacks": [ledger]})
        assert state["label"] == ("pos" if text == "easy" else "neg")
    assert (provider.served, provider.asked) == ({"classify": 1}, {"classify": 3})
    assert same(ledger, provider) == {"large": 1}
    small_rows = [row for row in ledger.table() if row["side"] == "small"]
    assert [row["calls"] for row in small_rows] == [4]
