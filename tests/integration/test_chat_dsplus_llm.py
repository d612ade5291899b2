"""Two real local models behind two real servers: log-probabilities, streams, tokens by the servers' own count."""

import asyncio
import json

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage

from langchain_dsplus import CostLedger, Price, certify
from langchain_dsplus.chat_dsplus.model import ChatDSPlus
from langchain_dsplus.chat_dsplus.outcomes import collect_chat_outcomes

pytestmark = pytest.mark.llm

QUESTIONS = ["What is the capital of France? One word.", "Is 7 a prime number? Yes or no.", "Name a color of the sky."]


class Books:
    """What the servers say that each reply cost, as it came over the wire."""

    def __init__(self):
        self.usage = {}

    def take(self, model, body):
        for line in body.splitlines():
            text = line.removeprefix("data:").strip()
            if text.startswith("{") and (usage := json.loads(text).get("usage")):
                found = self.usage.setdefault(model, [0, 0])
                found[0] += usage["prompt_tokens"]
                found[1] += usage["completion_tokens"]

    def client(self, model, *, asynchronous):
        from langchain_openai._compat import httpx

        def hook(response):
            response.read()
            self.take(model, response.text)

        async def ahook(response):
            await response.aread()
            self.take(model, response.text)

        kind = httpx.AsyncClient if asynchronous else httpx.Client
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)  # each test has its own event loop
        return kind(event_hooks={"response": [ahook if asynchronous else hook]}, timeout=120.0, limits=limits)


@pytest.fixture
def books():
    return Books()


@pytest.fixture
def build(smollm_server, qwen_server, books):
    def chat(server, name):
        return server.chat_model(
            name=name,
            max_tokens=40,
            seed=1,
            stream_usage=True,
            http_client=books.client(name, asynchronous=False),
            http_async_client=books.client(name, asynchronous=True),
        )

    def make(**kwargs):
        models = [chat(smollm_server, "smol"), chat(qwen_server, "qwen")]
        return ChatDSPlus(models=models, **{"threshold": None, "stop": [".", "!", "\n"], **kwargs})  # one sentence

    return make


def ask(model, way, question, config):
    async def collect():
        return [chunk async for chunk in model.astream(question, config)]

    if way == "invoke":
        return model.invoke(question, config)
    if way == "ainvoke":
        return asyncio.run(model.ainvoke(question, config))
    chunks = list(model.stream(question, config)) if way == "stream" else asyncio.run(collect())
    assert len(chunks) > 1
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("accepted", [True, False])
def test_tokens_are_those_of_the_servers(build, books, way, accepted):
    model = build(threshold=0.0 if accepted else None)
    ledger, counter = CostLedger(Price(input=1.0, output=1.0)), UsageMetadataCallbackHandler()
    found = ask(model, way, QUESTIONS[0] + " Say no more than five words.", {"callbacks": [ledger, counter]})
    route = found.response_metadata["dsplus"]
    assert route["accepted"] is accepted, route
    assert set(books.usage) == ({"smol"} if route["accepted"] else {"smol", "qwen"})
    spent = [sum(parts) for parts in zip(*books.usage.values(), strict=True)]
    assert [found.usage_metadata["input_tokens"], found.usage_metadata["output_tokens"]] == spent
    by_name = {"smol" if name == "smol" else "qwen": usage for name, usage in route["usage"].items()}
    assert {name: [u["input_tokens"], u["output_tokens"]] for name, u in by_name.items()} == books.usage
    sides = {{"small": "smol", "large": "qwen"}[row["side"]]: row for row in ledger.table()}
    assert {name: [row["input_tokens"], row["output_tokens"]] for name, row in sides.items()} == books.usage
    assert sum(usage["total_tokens"] for usage in counter.usage_metadata.values()) == sum(spent)
    assert found.text.strip()


def test_confidence_is_that_of_real_log_probabilities(build):
    kinds = {kind: build(sequence=kind) for kind in ("mean", "min", "product")}
    scores = {}
    for kind, model in kinds.items():
        route = model.invoke(QUESTIONS[0]).response_metadata["dsplus"]
        (answer,) = route["answers"]
        scores[kind] = answer["confidence"]
    assert 0.0 < scores["product"] <= scores["min"] <= scores["mean"] <= 1.0


def test_samples_and_a_verifier(build):
    question = "Is 2 + 2 = 4? Answer yes or no."
    share = build(accept="consistency", samples=3).invoke(question).response_metadata["dsplus"]
    assert round(3 * share["answers"][0]["confidence"], 6) in (1, 2, 3)
    assert share["usage"]["smol"]["input_tokens"] > 60
    judged = build(accept="verifier").invoke(question).response_metadata["dsplus"]
    if judged["answers"]:
        assert 0.0 < judged["answers"][0]["confidence"] < 1.0
    else:  # the verifier could not say, so the large model was asked
        assert not judged["accepted"]


def test_a_graph_shows_no_word_of_the_draft(build):
    from langgraph.graph import START, MessagesState, StateGraph

    model = build()
    graph = StateGraph(MessagesState)
    graph.add_node("talk", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "talk")
    value = {"messages": [("human", QUESTIONS[0])]}
    shown, last = [], None
    for mode, part in graph.compile().stream(value, stream_mode=["messages", "values"]):
        if mode == "messages":
            shown.append(part[0])
        else:
            last = part["messages"][-1]
    assert isinstance(last, AIMessage)
    assert "".join(message.text for message in shown) == last.text
    assert {message.id for message in shown} == {last.id}
    alone = model.models[1].invoke(QUESTIONS[0], stop=model.stop)
    assert last.text == alone.text


def test_from_judged_outcomes_to_a_cascade(build, tmp_path):
    model = build()
    rows = [{"id": str(n), "input": question, "gold": None} for n, question in enumerate(QUESTIONS)]
    outcomes = collect_chat_outcomes(
        model, rows, lambda question, answer, gold: bool(answer.strip()), path=tmp_path / "a.jsonl", progress=False
    )
    assert outcomes.values("large_ok") == [True, True, True]
    certificate = certify(outcomes, max_loss="10 points")
    assert not certificate.certified  # three rows prove nothing
    live = ChatDSPlus(models=model.models, threshold=certificate, stop=model.stop)
    assert live.router.unverifiable == ()
    assert live.invoke(QUESTIONS[0]).response_metadata["dsplus"]["reason"] == "not_certified"
