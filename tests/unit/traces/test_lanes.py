"""Asking several at a time."""

import asyncio

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.traces.lanes import AskEach


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("last", [0, 7])
def test_where_an_answer_cannot_be_kept_nothing_more_is_asked(asynchronous, slots, last):
    asked, kept = [], []

    def take(place, output):
        if len(kept) == last:
            raise OSError(28, "no space left")
        kept.append((place, output))

    chain = RunnableLambda(lambda value: asked.append(value) or value)
    job = AskEach([(chain, n) for n in range(40)], [{"max_concurrency": slots}] * 40, take)
    with pytest.raises(OSError, match="no space"):
        asyncio.run(job.arun()) if asynchronous else job.run()
    assert len(kept) == last
    assert len(asked) <= last + slots
