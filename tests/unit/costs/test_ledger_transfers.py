"""What prompt transfer did, as the ledger tells it."""

from __future__ import annotations

import asyncio
import json

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import CostLedger, Price, PromptTransfer

TEXT = "He parked the car at my gate. I am so tired of it, really, so tired. I pushed the car away. He shouted at me twice."


def run(transfer, ledger, *, is_async):
    config = {"callbacks": [ledger]}
    if is_async:
        return asyncio.run(transfer.ainvoke({"text": TEXT}, config))
    return transfer.invoke({"text": TEXT}, config)


def chat():
    usage = {"input_tokens": 40, "output_tokens": 20, "total_tokens": 60}
    reply = AIMessage(TEXT, usage_metadata=usage, response_metadata={"model_name": "writer"})
    return GenericFakeChatModel(messages=iter([reply] * 9))


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@both
def test_a_chat_models_calls_are_counted_once(is_async):
    ledger = CostLedger({"writer": Price(input=1e6, output=1e6)})
    record = run(PromptTransfer(chat()), ledger, is_async=is_async)["transfer"]
    rows = ledger.table()
    assert [(row["side"], row["model"], row["calls"]) for row in rows] == [("transfer", "writer", record["calls"])]
    assert ledger.cost == 60 * record["calls"]
    done = ledger.transfers()
    assert done["texts"] == 1
    assert (done["tokens_before"], done["tokens_after"]) == (record["tokens_before"], record["tokens_after"])
    json.dumps(ledger.to_dict(), allow_nan=False)
    assert "Prompt transfer:" in ledger.summary()


@both
@pytest.mark.parametrize("kind", ["extractive", "function"])
def test_a_rewriter_without_runs_of_its_own_has_its_seconds(kind, is_async):
    model = "extractive" if kind == "extractive" else RunnableLambda(lambda text: text)
    ledger = CostLedger()
    for _ in range(2):
        record = run(PromptTransfer(model), ledger, is_async=is_async)["transfer"]
    rows = ledger.table()
    assert [(row["side"], row["model"], row["calls"]) for row in rows] == [("transfer", "local", 2 * record["calls"])]
    assert rows[0]["seconds"] > 0
    assert rows[0]["cost"] in {0.0, None}
    assert ledger.cost == 0
    assert ledger.transfers()["texts"] == 2
    assert ledger.transfers()["rewritten"] == 2 * (record["used"] == "rewrite")


def test_a_ledger_that_saw_none_says_nothing():
    ledger = CostLedger()
    assert ledger.transfers()["texts"] == 0
    assert "Prompt transfer" not in ledger.summary()
    run(PromptTransfer("extractive"), ledger, is_async=False)
    ledger.reset()
    assert ledger.transfers()["texts"] == 0
