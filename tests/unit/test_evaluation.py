"""LangSmith's `evaluate`, offline, on a router, a graph, a chat model and an agent."""

from __future__ import annotations

import asyncio
import math
import uuid
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Price, evaluation
from langchain_dsplus.evaluation import Target, accuracy, cost, escalation, swap_consistency

langsmith = pytest.importorskip("langsmith")

ROWS = [("great!", "pos"), ("awful!", "neg"), ("well...", "neg"), ("hm", "pos")]
SURE = {
    "great!": {"pos": 0.99, "neg": 0.01},
    "awful!": {"pos": 0.01, "neg": 0.99},
    "well...": {"pos": 0.6, "neg": 0.4},
    "hm": {"pos": 0.5, "neg": 0.5},
}
PRICES = {"fake-large": Price(input=1e6, output=2e6)}  # one unit of money per token


def large():
    """A chat model that always says neg, for 10 + 1 tokens."""

    def messages():
        while True:
            yield AIMessage(
                "neg",
                usage_metadata={"input_tokens": 10, "output_tokens": 1, "total_tokens": 11},
                response_metadata={"model_name": "fake-large"},
            )

    return GenericFakeChatModel(messages=messages())


def router():
    return ConfidenceRouter(small=FakeSmallModel(SURE), large=large(), threshold=0.9)


def graph():
    class State(TypedDict, total=False):
        text: str
        label: AIMessage
        route: dict

    built = StateGraph(State)
    built.add_node("classify", router().as_node(input_key="text", output_key="label", route_key="route"))
    built.add_edge(START, "classify")
    built.add_edge("classify", END)
    return built.compile()


def examples(rows):
    return [
        langsmith.schemas.Example(
            id=uuid.uuid4(), dataset_id=uuid.UUID(int=1), inputs={"text": text}, outputs={"label": label}
        )
        for text, label in rows
    ]


@pytest.fixture
def client(monkeypatch):
    """A client that would fail if anything were sent (sockets beyond loopback are blocked)."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    return langsmith.Client(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)


def scores(results):
    return {
        (row["example"].inputs["text"], r.key): r.score for row in results for r in row["evaluation_results"]["results"]
    }


KINDS = {
    "router": (router, "text"),
    "with_route": (lambda: router().model_copy(update={"include_route": True}), "text"),
    "graph": (graph, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_offline(kind, client):
    make, key = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langsmith's own: `upload_results` is in beta
        results = langsmith.evaluate(
            Target(make(), input_key=key, prices=PRICES),
            data=examples(ROWS),
            evaluators=[accuracy, escalation, cost],
            client=client,
            upload_results=False,
        )
        found = scores(list(results))
    assert len(found) == 12
    assert [found[text, "accuracy"] for text, _ in ROWS] == [1, 1, 1, 0]
    assert [found[text, "escalation"] for text, _ in ROWS] == [0, 0, 1, 1]
    assert [found[text, "cost"] for text, _ in ROWS] == [0, 0, 12, 12]


@pytest.mark.parametrize("kind", KINDS)
def test_the_async_target_says_the_same(kind):
    make, key = KINDS[kind]
    target = Target(make(), input_key=key, prices=PRICES)
    for text, _ in ROWS:
        found, twin = target({"text": text}), asyncio.run(target.acall({"text": text}))
        for outputs in (found, twin):
            outputs["route"].pop("route_id")
            for row in outputs.pop("ledger"):
                assert row["seconds"] >= 0
        assert found == twin


def test_a_chat_model_as_target(client):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = list(
            langsmith.evaluate(
                Target(large(), input_key="text", prices=PRICES),
                data=examples(ROWS[:2]),
                evaluators=[accuracy, escalation, cost],
                client=client,
                upload_results=False,
            )
        )
    found = scores(results)
    assert found["great!", "accuracy"] == 0
    assert found["awful!", "accuracy"] == 1
    assert found["awful!", "escalation"] is None  # nobody decided anything
    assert found["awful!", "cost"] == 12


def test_a_summary_over_pairs(client):
    """A judge that always blames whoever does not speak is accurate on half, and consistent on none."""
    judge = RunnableLambda(lambda _: {"verdict": {"verdict": "other party", "reasons": []}})
    data = [
        langsmith.schemas.Example(
            id=uuid.uuid4(), dataset_id=uuid.UUID(int=1), inputs={"statement": text}, outputs=outputs
        )
        for text, outputs in [
            ("my side", {"verdict": "other party", "pair": 1}),
            ("their side", {"verdict": "narrator", "pair": 1}),
        ]
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = langsmith.evaluate(
            Target(judge),
            data=data,
            evaluators=[accuracy],
            summary_evaluators=[swap_consistency],
            client=client,
            upload_results=False,
        )
        rows = list(results)
    assert sorted(r.score for row in rows for r in row["evaluation_results"]["results"]) == [0, 1]
    assert [r.score for r in results._summary_results["results"]] == [0]


# --- the evaluators by themselves -------------------------------------------------------------------------------


class Structured(BaseModel):
    verdict: str


@pytest.mark.parametrize(
    "outputs",
    [
        "pos",
        {"label": "POS "},
        {"output": AIMessage(" pos")},
        {"verdict": {"verdict": "pos"}},
        {"output": Structured(verdict="pos")},
        {"messages": [AIMessage("x"), AIMessage("pos")]},
        {"messages": [{"type": "ai", "content": "pos"}]},
        {"answer": {"choice": "pos", "confidence": 1.0, "probabilities": {}}},
    ],
)
def test_labels_are_found(outputs):
    assert accuracy(outputs, {"label": "pos"})["score"] == 1.0
    assert accuracy(outputs, {"label": "neg"})["score"] == 0.0


def test_what_cannot_be_told_has_no_score():
    assert accuracy({"output": "pos"}, {"text": "pos"})["score"] is None
    assert accuracy({"n": 1}, {"label": "pos"})["score"] == 0.0
    assert escalation({"output": "pos"})["score"] is None
    assert "Target" in cost({"output": "pos"})["comment"]
    assert cost({"cost": None})["score"] is None
    assert swap_consistency([{"label": "x"}], [{"pair": 1}])["score"] is None
    assert swap_consistency([{}, {}], [{"pair": 1}, {"pair": 1}])["score"] == 0.0


def test_an_unknown_price_is_said():
    outputs = Target(large(), input_key="text", prices={"other": Price(input=1.0, output=1.0)})({"text": "hm"})
    assert outputs["cost"] is None
    assert "prices" in cost(outputs)["comment"]


def test_a_wrong_input_key_is_named():
    with pytest.raises(KeyError, match="input_key"):
        Target(router(), input_key="body")({"text": "hm"})


@given(st.lists(st.tuples(st.sampled_from(["narrator", "other party", "both", "unclear"]), st.booleans()), min_size=1))
def test_swap_consistency_counts_what_it_says(rows):
    outputs, references = [], []
    for number, (verdict, same) in enumerate(rows):
        swapped = evaluation.SWAPPED.get(verdict, verdict)
        second = swapped if same else next(v for v in ("narrator", "both", "unclear") if v != swapped)
        outputs += [{"verdict": verdict}, {"verdict": second}]
        references += [{"pair": number}] * 2
    score = swap_consistency(outputs, references)["score"]
    assert score == pytest.approx(sum(same for _, same in rows) / len(rows))


def test_accuracy_over_known_labels_never_takes_a_strange_reference_for_a_miss():
    judge = evaluation.Accuracy(["0", "1"], gold_map={"1.00": "1"}, unknown_gold="n/a", other_gold="other")
    scores = [
        judge({"label": "1"}, {"label": gold})["score"] for gold in ("1", 1.0, "1.00", 0, "n/a", math.nan, "other")
    ]
    assert scores == [1.0, 1.0, 1.0, 0.0, None, None, 0.0]
    with pytest.raises(ValueError, match=r"`reference_outputs`: row 1, column 'gold': .*gold_map=\{\"1.0\": \"1\"\}"):
        judge({"label": "1"}, {"label": "1.0"})
