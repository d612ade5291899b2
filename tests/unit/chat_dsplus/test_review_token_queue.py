"""A handler that hands tokens to a loop until the model's end: it waits for the answer, and not for a draft."""

import asyncio

import pytest
from langchain_core.callbacks import AsyncCallbackHandler

from langchain_dsplus import ChatDSPlus


class Queue(AsyncCallbackHandler):
    """As LangChain's `AsyncIteratorCallbackHandler`."""

    def __init__(self):
        self.queue = asyncio.Queue()

    async def on_llm_new_token(self, token, **kwargs):
        self.queue.put_nowait(token)

    async def on_llm_end(self, response, **kwargs):
        self.queue.put_nowait(None)

    async def aiter(self):
        while (token := await self.queue.get()) is not None:
            yield token


@pytest.mark.parametrize(("p", "answer"), [(0.9, "the draft of the small one"), (0.1, "what the large one says")])
def test_a_queue_of_tokens_ends_with_the_answer(scripted, p, answer):
    model = ChatDSPlus(
        models=[scripted(text="the draft of the small one", p=p), scripted(text="what the large one says")],
        threshold=0.5,
    )

    async def ask():
        handler = Queue()

        async def run():
            return [chunk async for chunk in model.astream("Hi", {"callbacks": [handler]})]

        task = asyncio.create_task(run())
        shown = [token async for token in handler.aiter()]
        await task
        return "".join(shown)

    assert asyncio.run(ask()) == answer
