"""Evaluators on what graphs and data sets really hold, the ledger on a rewriter that fails, commands that can be copied."""

from __future__ import annotations

from pathlib import Path

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import CostLedger, FakeSmallModel, PromptTransfer, create_dispute_graph, evaluation
from langchain_dsplus.cli.options import quoted

EASY, HARD = "We settled it long ago.", "He pushed me and I pushed him."


@pytest.mark.parametrize(("text", "score"), [(EASY, 0.0), (HARD, 1.0)])
def test_the_triage_of_a_dispute_graph_is_a_route(text, score):
    small = FakeSmallModel({EASY: {"no dispute": 0.99, "dispute": 0.01}, HARD: {"no dispute": 0.6, "dispute": 0.4}})
    graph = create_dispute_graph(None, RunnableLambda(lambda _: "both"), triage=small)
    outputs = evaluation.Target(graph)({"statement": text})
    assert evaluation.escalation(outputs)["score"] == score


@pytest.mark.parametrize(
    ("found", "wanted", "score"), [("3", 3, 1.0), (3, 3, 1.0), ("4", 3, 0.0), (True, "true", 1.0), (0, 0, 1.0)]
)
def test_labels_may_be_numbers(found, wanted, score):
    assert evaluation.accuracy({"output": found}, {"label": wanted})["score"] == score


def test_a_rewriter_that_fails_is_counted_once():
    class Broken(GenericFakeChatModel):
        def _generate(self, *args, **kwargs):
            raise ConnectionError

    ledger = CostLedger()
    model = Broken(messages=iter([AIMessage("")]))
    state = PromptTransfer(model).invoke({"text": HARD}, {"callbacks": [ledger]})
    assert state["transfer"]["used"] == "original"
    assert [(row["side"], row["calls"], row["failed"]) for row in ledger.table()] == [("transfer", 0, 1)]


def test_a_path_with_spaces_can_be_copied():
    assert quoted(Path("my models")) == "'my models'"
    assert quoted(Path("models")) == "models"
