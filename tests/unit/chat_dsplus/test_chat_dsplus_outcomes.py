"""From judged outcomes to a certificate to a cascade that keeps it."""

import asyncio
import math
import random

import pytest
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from langchain_dsplus import Certificate, Outcomes, certify
from langchain_dsplus.answer import MismatchError
from langchain_dsplus.chat_dsplus.model import ChatDSPlus
from langchain_dsplus.chat_dsplus.outcomes import acollect_chat_outcomes, collect_chat_outcomes

N = 300


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def sure_of(number):
    """Above 0.5 the small model is right, below it guesses."""
    return (number + 0.5) / N


@pytest.fixture
def parts(scripted):
    """A small model that knows when it knows, and a large one that is right nearly always, in its own words."""

    class Small(scripted):
        @classmethod
        def get_lc_namespace(cls):
            return ["tests"]

        def _message(self, messages, stop, kwargs):
            number = int(messages[-1].text.split()[-1])
            right = sure_of(number) > 0.5 or random.Random(number).random() < 0.3
            tokens = [{"token": "x", "logprob": math.log(sure_of(number))}]
            if number == 7:
                raise RuntimeError
            return AIMessage(f"It is {number if right else -1}.", response_metadata={"logprobs": {"content": tokens}})

    class Large(scripted):
        @classmethod
        def get_lc_namespace(cls):
            return ["tests"]

        def _message(self, messages, stop, kwargs):
            number = int(messages[-1].text.split()[-1])
            return AIMessage(f"{number}" if number % 50 else "no idea", response_metadata={"model_name": "big-1"})

    return Small(name="tiny"), Large(name="big")


def ok(question, answer, gold):
    return gold in answer.removesuffix(".").split()


def rows():
    return [{"id": f"r{n}", "input": f"Say {n}", "gold": str(n)} for n in range(N)]


def collect(way, cascade, *args, **kwargs):
    if way == "sync":
        return collect_chat_outcomes(cascade, *args, progress=False, **kwargs)
    return asyncio.run(acollect_chat_outcomes(cascade, *args, progress=False, **kwargs))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_outcomes_say_who_was_right(parts, way):
    outcomes = collect(way, ChatDSPlus(models=list(parts)), rows(), ok)
    assert len(outcomes) == N
    table = {row["id"]: row for row in outcomes.to_records()}
    assert table["r299"] == table["r299"] | {"small": "It is 299.", "small_ok": True, "large": "299", "large_ok": True}
    assert table["r250"]["large_ok"] is False
    assert table["r7"]["small_ok"] is None
    assert table["r7"]["small_error"] == "RuntimeError"
    assert 0.3 < outcomes.correct("small")[outcomes["confidence"] < 0.5].mean() + 0.1 < 0.6
    assert outcomes.about["score"] == "sequence_mean"
    assert outcomes.about["labels"] == []
    assert outcomes.about["large_reported"] == ["big-1"]


def test_a_certificate_makes_a_cascade_that_keeps_it(parts, tmp_path):
    outcomes = collect("sync", ChatDSPlus(models=list(parts)), rows(), ok)
    path = tmp_path / "outcomes.jsonl"
    outcomes.to_jsonl(path)
    certificate = Certificate.from_json(certify(Outcomes.from_jsonl(path), max_loss=0.05).to_json())
    assert certificate.certified
    assert 0.3 < certificate.threshold < 0.7
    live = ChatDSPlus(models=list(parts), threshold=certificate)
    assert live.router.unverifiable == ()
    replies = live.batch([row["input"] for row in rows()])
    accepted = [reply.response_metadata["dsplus"]["accepted"] for reply in replies]
    assert sum(accepted) / N == pytest.approx(certificate.coverage)
    assert all(reply.response_metadata["dsplus"]["certificate"] == certificate.id for reply in replies)
    right = [ok(row["input"], reply.text, row["gold"]) for row, reply in zip(rows(), replies, strict=True)]
    assert sum(right) / N > outcomes.correct("large").mean() - 0.05
    with pytest.raises(ValueError, match="looser"):
        live.invoke("Say 1", {"configurable": {"dsplus_threshold": 0.01}})


def test_a_refusal_accepts_nothing(parts):
    refused = certify(collect("sync", ChatDSPlus(models=list(parts)), rows(), lambda q, a, g: not a.startswith("It")))
    assert not refused.certified
    route = ChatDSPlus(models=list(parts), threshold=refused).invoke("Say 299").response_metadata["dsplus"]
    assert (route["model"], route["reason"]) == ("large", "not_certified")


def test_a_certificate_of_other_parts_is_refused(parts, scripted):
    certificate = certify(collect("sync", ChatDSPlus(models=list(parts)), rows(), ok), max_loss=0.05)
    small, large = parts
    other = large.model_copy(update={"model_name": "other"})
    for kwargs, what in [
        ({"models": [small, other]}, ("large",)),
        ({"models": [small.model_copy(update={"model_name": "other"}), large]}, ("small",)),
        ({"models": [small, large], "sequence": "min"}, ("score",)),
        ({"models": [small, large], "max_tokens": 5}, ("small", "large")),
    ]:
        with pytest.raises(MismatchError) as caught:
            ChatDSPlus(threshold=certificate, **kwargs)
        assert caught.value.mismatches == what
    with pytest.warns(UserWarning, match="something else"):
        void = ChatDSPlus(models=[small, other], threshold=certificate, on_mismatch="escalate_all")
    assert void.invoke("Say 299").response_metadata["dsplus"]["reason"] == "mismatch"


def test_tools_belong_to_what_is_certified(parts):
    cascade = ChatDSPlus(models=list(parts))
    plain = certify(collect("sync", cascade, rows(), ok), max_loss=0.05)
    with pytest.raises(MismatchError):
        ChatDSPlus(models=list(parts), threshold=plain).bind_tools([add])
    certificate = certify(collect("sync", cascade.bind_tools([add]), rows(), ok), max_loss=0.05)
    with pytest.raises(MismatchError):
        ChatDSPlus(models=list(parts), threshold=certificate)
    live = ChatDSPlus(models=[part.bind_tools([add]) for part in parts], threshold=certificate)
    assert live.invoke("Say 299").response_metadata["dsplus"]["certificate"] == certificate.id
    again = live.bind_tools([add])  # as an agent does
    assert again.invoke("Say 299").response_metadata["dsplus"]["accepted"] is True


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_prompt_makes_the_messages(parts, way):
    prompt = ChatPromptTemplate.from_messages([("human", "Say {n}")])
    data = [{"question": {"n": n}, "answer": n} for n in (250, 251)]
    seen = []

    def judge(question, answer, gold):
        seen.append((question, gold))
        return ok(question, answer, str(gold))

    options = {"prompt": prompt, "input_key": "question", "gold_key": "answer"}
    outcomes = collect(way, ChatDSPlus(models=list(parts)), data, judge, **options)
    assert outcomes.values("large_ok") == [False, True]
    assert outcomes.values("small_ok") == [True, True]
    assert seen == [({"n": 250}, 250), ({"n": 251}, 251)] * 2


def test_an_async_judge(parts):
    async def judge(question, answer, gold):
        return ok(question, answer, gold)

    pairs = [("Say 299", "299"), ("Say 298", "0")]
    outcomes = collect("async", ChatDSPlus(models=list(parts)), pairs, judge)
    assert outcomes.values("small_ok") == outcomes.values("large_ok") == [True, False]
    with pytest.raises(TypeError, match="acollect_chat_outcomes"):
        collect("sync", ChatDSPlus(models=list(parts)), pairs, judge)


def test_three_models_have_a_column_each(parts):
    small, large = parts
    middle = small.model_copy(update={"name": "mid"})
    outcomes = collect("sync", ChatDSPlus(models=[small, middle, large]), rows(), ok)
    assert {"small.tiny_ok", "small.mid_ok", "large_ok"} <= set(outcomes.columns)
    path = [{"tiny": t, "mid": t} for t in (0.9, 0.7, 0.6)]
    certificate = certify(outcomes, max_loss=0.05, path=path)
    assert certificate.certified
    live = ChatDSPlus(models=[small, middle, large], threshold=certificate)
    assert live.invoke("Say 299").response_metadata["dsplus"]["model"] == "tiny"


def test_what_is_collected_is_resumed(parts, tmp_path):
    cascade = ChatDSPlus(models=list(parts))
    first = collect("sync", cascade, rows()[:20], ok, path=tmp_path / "answers.jsonl")
    parts[1].error = RuntimeError("must not be asked")
    object.__setattr__(parts[1], "_message", None)
    again = collect("sync", cascade, rows()[:20], ok, path=tmp_path / "answers.jsonl")
    assert again.values("large_ok") == first.values("large_ok")


def test_what_is_no_cascade_or_no_row_is_refused(parts):
    with pytest.raises(TypeError, match="`cascade`"):
        collect("sync", parts[0], rows(), ok)
    with pytest.raises(ValueError, match="row 1"):
        collect("sync", ChatDSPlus(models=list(parts)), [{"text": "x"}], ok)
    with pytest.raises(ValueError, match="row 1"):
        collect("sync", ChatDSPlus(models=list(parts)), ["x"], ok)
