"""Handlers that a cascade gets at construction hear the models inside, as those of a call do."""

import asyncio

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler

from langchain_dsplus import ChatDSPlus, CostLedger


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("both", [False, True], ids=["constructor", "constructor and call"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_counter_of_the_constructor_counts_each_token_once(scripted, async_, both, stream):
    counter, ledger = UsageMetadataCallbackHandler(), CostLedger()
    model = ChatDSPlus(
        models=[scripted(name="tiny", model_name="tiny-1", p=0.1), scripted(model_name="big-1", usage=(20, 7))],
        threshold=0.5,
        callbacks=[counter, ledger],
    )
    config = {"callbacks": [counter, ledger]} if both else None

    async def pieces():
        return [chunk async for chunk in model.astream("Hi", config)]

    if stream:
        assert asyncio.run(pieces()) if async_ else list(model.stream("Hi", config))
    else:
        assert asyncio.run(model.ainvoke("Hi", config)) if async_ else model.invoke("Hi", config)
    assert {name: one["total_tokens"] for name, one in counter.usage_metadata.items()} == {"tiny-1": 15, "big-1": 27}
    assert {(row["side"], row["calls"]) for row in ledger.table()} == {("small", 1), ("large", 1)}
