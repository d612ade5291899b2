"""A real `ChatOpenAI` against a real model behind the local server: what the rest of the package relies on."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
from pydantic import BaseModel

from langchain_dsplus.local.server import serve_model

pytestmark = [pytest.mark.llm]
pytest.importorskip("langchain_openai")

SENTIMENT = "Is this remark positive or negative? Answer with one word.\n\nThe handle came off on the second day."


async def call(runnable, method, *args, async_):
    if async_:
        return await getattr(runnable, f"a{method}")(*args)
    return getattr(runnable, method)(*args)


@pytest.mark.parametrize("async_", [False, True])
async def test_logprobs_and_usage(smollm_server, async_):
    llm = smollm_server.chat_model(logprobs=True, top_logprobs=5, max_tokens=1)
    message = await call(llm, "invoke", SENTIMENT, async_=async_)
    (token,) = message.response_metadata["logprobs"]["content"]
    tops = token["top_logprobs"]
    assert len(tops) == 5
    assert sorted((t["logprob"] for t in tops), reverse=True) == [t["logprob"] for t in tops]
    assert 0 < sum(math.exp(t["logprob"]) for t in tops) <= 1 + 1e-6
    assert message.usage_metadata["output_tokens"] == 1
    assert message.usage_metadata["input_tokens"] > 15
    assert message.usage_metadata["total_tokens"] == message.usage_metadata["input_tokens"] + 1
    assert message.response_metadata["model_name"] == "smollm2-135m"


def test_the_greedy_choice_is_the_likeliest_token(smollm_server):
    message = smollm_server.chat_model(logprobs=True, top_logprobs=3, max_tokens=1).invoke(SENTIMENT)
    (token,) = message.response_metadata["logprobs"]["content"]
    assert token["token"] == token["top_logprobs"][0]["token"] == message.content


@pytest.mark.parametrize("async_", [False, True])
async def test_streaming_joins_to_the_whole_and_counts_tokens(smollm_server, async_):
    llm = smollm_server.chat_model(max_tokens=12, stream_usage=True)
    prompt = "Count from one to five."
    chunks = [c async for c in llm.astream(prompt)] if async_ else list(llm.stream(prompt))
    assert "".join(c.content for c in chunks) == llm.invoke(prompt).content
    assert sum(1 for c in chunks if c.content) > 3
    (usage,) = [c.usage_metadata for c in chunks if c.usage_metadata]
    assert usage["output_tokens"] == 12


def test_a_schema_is_kept_to(smollm_server):
    class Verdict(BaseModel):
        label: Literal["positive", "negative"]
        stars: Literal[1, 2, 3, 4, 5]

    llm = smollm_server.chat_model(max_tokens=60).with_structured_output(Verdict, method="json_schema")
    assert isinstance(llm.invoke(SENTIMENT), Verdict)


def test_an_equal_beginning_is_read_once(smollm_server):
    llm = smollm_server.chat_model(max_tokens=1)
    system = "You sort remarks of customers. " + "Be brief and exact in everything that you say. " * 20
    first = llm.invoke([("system", system), ("human", "The lid leaks.")])
    second = llm.invoke([("system", system), ("human", "It arrived early.")])
    cached = second.usage_metadata["input_token_details"]["cache_read"]
    assert cached > 0.8 * first.usage_metadata["input_tokens"]
    assert second.usage_metadata["input_tokens"] - cached < 40


def test_prompts_that_take_turns_are_read_once_each(smollm_server):
    llm = smollm_server.chat_model(max_tokens=1)
    systems = ["You sort remarks of customers by mood. " * 30, "You shorten texts and keep every number. " * 30]
    for system in systems:
        llm.invoke([("system", system), ("human", "First.")])
    for system in systems * 2:
        usage = llm.invoke([("system", system), ("human", "Another.")]).usage_metadata
        assert usage["input_token_details"]["cache_read"] > 0.8 * usage["input_tokens"]


def test_a_prompt_that_is_too_long_is_an_error_and_the_server_lives(smollm_server):
    import openai

    llm = smollm_server.chat_model(max_tokens=1, max_retries=0)
    with pytest.raises(openai.BadRequestError, match="context"):
        llm.invoke("long " * 5000)
    assert llm.invoke("Hello").usage_metadata["output_tokens"] == 1


async def test_requests_at_the_same_time_are_all_answered(smollm_server):
    llm = smollm_server.chat_model(max_tokens=2)
    remarks = [f"Remark {n}: fine." for n in range(6)]
    at_once = await asyncio.gather(*(llm.ainvoke(r) for r in remarks))
    assert [m.content for m in at_once] == [llm.invoke(r).content for r in remarks]


def test_parallel_slots_share_the_work(smollm_path):
    with serve_model(smollm_path, n_ctx=512, parallel=2, name="two") as server:
        llm = server.chat_model(max_tokens=24)
        start = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            texts = list(pool.map(lambda n: llm.invoke(f"Write about the number {n}.").content, range(2)))
        assert time.monotonic() - start < 60
        assert all(texts)
        # A context of 512 tokens is for each of them, not shared between them.
        assert llm.invoke("word " * 350).usage_metadata["input_tokens"] > 300
