"""`ChatLocal` on a real model in a GGUF file, and LangChain's own integration suite on it.

Not tried, since ChatLocal has no tool calling: the tests of tool calls, tool messages and agents skip themselves. No
test is expected to fail.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import threading
import time
from typing import Literal

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from pydantic import BaseModel, Field

from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.labels import token_logprobs
from langchain_dsplus.local.chat import ChatLocal
from langchain_dsplus.local.jobs import LocalModelError, LocalTimeoutError, PromptTooLongError
from langchain_dsplus.small_models.chat import ChatClassifier
from langchain_dsplus.transfer import PromptTransfer

pytestmark = [pytest.mark.llm]
pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def llm(smollm_path):
    """Held, so that instances with the same settings need not load it again."""
    with ChatLocal(smollm_path, n_ctx=1024, max_tokens=24, threads=1) as model:
        model.warmup()
        yield model


class TestIntegrationSuite(ChatModelIntegrationTests):
    """Invoke, stream, batch, events, usage, stop, structured output: sync and async."""

    folder = ""

    @pytest.fixture(autouse=True)
    def _gguf(self, llm):
        self.file = llm.model

    @property
    def chat_model_class(self):
        return ChatLocal

    @property
    def chat_model_params(self):
        return {"model": self.file, "n_ctx": 1024, "max_tokens": 64, "threads": 1}

    @property
    def structured_output_kwargs(self):
        return {"method": "json_schema", "max_length": 30}  # so small a model may repeat itself for ever

    @property
    def model_override_value(self):
        return "smollm2-135m"


async def _both(llm, text, async_, **kwargs):
    """The reply and the chunks of the same call."""
    if async_:
        return await llm.ainvoke(text, **kwargs), [chunk async for chunk in llm.astream(text, **kwargs)]
    return llm.invoke(text, **kwargs), list(llm.stream(text, **kwargs))


def _added(chunks):
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


QUESTION = "Count from one to ten, in words."


@pytest.mark.parametrize("async_", [False, True])
async def test_a_reply_and_its_stream_say_the_same(llm, async_):
    reply, chunks = await _both(llm, QUESTION, async_, logprobs=True, top_logprobs=3)
    added = _added(chunks)
    assert added.content == reply.content
    assert reply.content
    assert reply.usage_metadata["output_tokens"] == added.usage_metadata["output_tokens"] == 24
    assert reply.usage_metadata["input_tokens"] == added.usage_metadata["input_tokens"] > 10
    assert (chunks[0].usage_metadata, chunks[-1].chunk_position) == (None, "last")
    for message in (reply, added):
        entries = token_logprobs(message)
        assert len(entries) == 24
        assert "".join(entry["token"] for entry in entries) == reply.content
        for entry in entries:
            assert entry["logprob"] == pytest.approx(entry["top_logprobs"][0]["logprob"])  # greedy
            assert len(entry["top_logprobs"]) == 3
        assert message.response_metadata["finish_reason"] == "length"
        assert message.response_metadata["model_name"] == llm._get_ls_params()["ls_model_name"]
        json.dumps(message.response_metadata, allow_nan=False)


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("logprobs", [False, True])
async def test_a_stop_string_across_tokens_never_shows(llm, async_, logprobs):
    whole = llm.invoke(QUESTION).content
    words = whole.split(" ")
    stop = words[1][-1] + " " + words[2][:2]
    wanted = whole[: whole.index(stop)]
    reply, chunks = await _both(llm, QUESTION, async_, stop=[stop], logprobs=logprobs)
    assert reply.content == wanted
    shown = ""
    for chunk in chunks:
        shown += chunk.content
        assert wanted.startswith(shown)
    assert shown == wanted
    for message in (reply, chunks[-1]):
        assert message.response_metadata["finish_reason"] == "stop"
        assert 0 < message.usage_metadata["output_tokens"] < 24
    if logprobs:
        assert stop not in "".join(entry["token"] for entry in token_logprobs(reply))


async def test_characters_of_several_tokens(llm):
    settings = {"logprobs": True, "top_logprobs": 1, "temperature": 1.5, "seed": 3, "max_tokens": 20}
    reply, chunks = await _both(llm, "用中文写一句关于猫的诗", False, **settings)
    raw = b"".join(bytes(entry["bytes"]) for entry in token_logprobs(reply))
    assert reply.content == raw.decode("utf-8", "replace")
    assert any(len(entry["bytes"]) > 1 and not entry["token"].isascii() for entry in token_logprobs(reply))
    assert _added(chunks).content == reply.content
    assert token_logprobs(_added(chunks)) == token_logprobs(reply)


def test_a_seed_fixes_the_draws(llm):
    def draw(seed):
        return llm.invoke("Tell me a story.", temperature=1.5, seed=seed, max_tokens=8).content

    draw(1)  # from now on the prompt is known, and read in the same way each time
    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1


class Color(BaseModel):
    """A color."""

    name: Literal["red", "blue", "green"]
    warm: bool
    note: str = Field(max_length=12)


@pytest.mark.parametrize("async_", [False, True])
async def test_structured_output_always_fits(llm, async_):
    chain = llm.model_copy(update={"max_tokens": 80}).with_structured_output(Color, include_raw=True)
    question = "What color is the sky?"
    out = await chain.ainvoke(question) if async_ else chain.invoke(question)
    assert out["parsing_error"] is None
    assert isinstance(out["parsed"], Color)
    assert Color.model_validate_json(out["raw"].content) == out["parsed"]


def test_a_schema_that_cannot_be_followed_is_named(llm):
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "wrong"}}}
    with pytest.raises(ValueError, match=r"JSON schema that llama\.cpp cannot follow"):
        llm.invoke("Hello", response_format=wrong)


@pytest.mark.parametrize("async_", [False, True])
async def test_a_prompt_beyond_the_context(llm, async_):
    for logprobs in (False, True):
        with pytest.raises(PromptTooLongError, match="`n_ctx` 1024: shorten") as caught:
            await _both(llm, "secret " * 3000, async_, logprobs=logprobs)
        assert "secret" not in str(caught.value)
    assert llm.invoke("Hello", max_tokens=1).content


def test_tokens_are_the_model_s_own(llm):
    ids = llm.get_token_ids("the cat sat \ud800")
    assert 3 <= len(ids) <= 12
    assert llm.get_num_tokens("the cat sat") == 3


def test_marks_of_the_template_in_a_text_do_nothing(llm):
    plain = llm.get_num_tokens("<|im_end|>")
    assert plain == 1  # read as it stands, it would end the message
    broken = llm._job([HumanMessage("<|im_end|>")], None, {})[1]._request.messages[0]["content"]
    assert llm.get_num_tokens(broken) > 3


def test_roles_reach_the_template(llm):
    told = [SystemMessage("Answer in one word: yes."), HumanMessage("Well?")]
    one = llm.invoke(told, max_tokens=1).usage_metadata["input_tokens"]
    assert one > llm.invoke(told[1:], max_tokens=1).usage_metadata["input_tokens"] - 20


def test_eight_threads(llm):
    got = [None] * 8

    def ask(n):
        got[n] = llm.invoke(f"Say the number {n}.", max_tokens=4, logprobs=True)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(math.isfinite(entry["logprob"]) for reply in got for entry in token_logprobs(reply))
    assert {reply.usage_metadata["output_tokens"] for reply in got} <= {1, 2, 3, 4}
    prompts = {reply.usage_metadata["input_tokens"] for reply in got}
    assert len(prompts) == 1  # digits are one token each: nobody got another's prompt


async def test_the_event_loop_runs_on_and_a_cancelled_call_ends(llm):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    task = asyncio.create_task(llm.ainvoke("Write a long story.", max_tokens=900))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = time.perf_counter()
    await llm.ainvoke("Hello", max_tokens=1)
    ticking.cancel()
    assert ticks > 50
    assert time.perf_counter() - started < 15  # 900 tokens take longer


@pytest.mark.parametrize("async_", [False, True])
async def test_a_timeout(llm, async_):
    with pytest.raises(LocalTimeoutError):
        await _both(llm, "Write a long story.", async_, max_tokens=900, timeout=0.2)


def test_the_same_file_is_in_memory_once(llm, smollm_path):
    with ChatLocal("smollm2-135m", n_ctx=1024, threads=1, temperature=0.5) as other:
        assert other._engine(other.model) is llm._engine(llm.model)
        assert other.version == llm.version


def test_broken_files(tmp_path, smollm_path):
    text = tmp_path / "text.gguf"
    text.write_text("no model")
    with pytest.raises(ValueError, match="is not a GGUF file"):
        ChatLocal(text).invoke("Hello")
    cut = tmp_path / "cut.gguf"
    with smollm_path.open("rb") as source, cut.open("wb") as target:
        target.write(source.read(1_000_000))
    with pytest.raises(LocalModelError, match=r"llama\.cpp cannot load"):
        ChatLocal(cut).invoke("Hello")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"holds no .safetensors or .gguf file"):
        ChatLocal(folder).invoke("Hello")
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(text, folder / name)
    with pytest.raises(ValueError, match="holds 2 GGUF files: name one"):
        ChatLocal(folder).invoke("Hello")


@pytest.mark.parametrize("async_", [False, True])
async def test_it_classifies_by_its_logprobs_and_counts_as_the_small_side(llm, async_):
    small = ChatClassifier(llm, ["negative", "positive"], prior="content_free", method="logprobs")
    texts = ["I love this lamp, it is wonderful and bright.", "Terrible, it broke after a single day."]
    with CostLedger() as ledger:
        answers = await small.abatch(texts) if async_ else small.batch(texts)
    assert answers[0]["probabilities"]["positive"] > answers[1]["probabilities"]["positive"]
    [row] = ledger.table()
    assert (row["side"], row["calls"]) == ("small", 2 + 3)  # three content-free ones
    assert row["input_tokens"] > 100


def test_it_rewrites_for_prompt_transfer(llm):
    transfer = PromptTransfer(llm.model_copy(update={"max_tokens": 40}), fidelity=lambda source, rewrite: True)
    out = transfer.invoke({"text": "I lent my ladder to Piet Vos. He did not bring it back."})
    assert out["transfer"]["used"] == "rewrite"
    assert out["rewrite"].strip()
    assert 0 < out["transfer"]["usage"]["output_tokens"] <= 40


def test_a_certificate_can_tell_it_by_its_weights(smollm_path, tmp_path):
    """Where the file lies says nothing; what is in it, and how it is sampled, does."""
    from langchain_dsplus.identity import identify

    copy = tmp_path / "renamed.gguf"
    copy.hardlink_to(smollm_path) if smollm_path.stat().st_dev == tmp_path.stat().st_dev else copy.symlink_to(
        smollm_path
    )
    first, same = identify(ChatLocal(smollm_path)), identify(ChatLocal(smollm_path))
    other = identify(ChatLocal(smollm_path, temperature=0.5))
    assert not first.unverifiable
    assert first == same
    assert first.large != other.large
    assert ChatLocal(copy).version == ChatLocal(smollm_path).version
