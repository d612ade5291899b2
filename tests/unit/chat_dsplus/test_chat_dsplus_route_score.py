"""A `RouteScore` in a cascade of chat models: chosen by the messages before any draft, or with the draft in sight."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.tools import tool

from langchain_dsplus import certify
from langchain_dsplus.answer import MismatchError
from langchain_dsplus.chat_dsplus.model import ChatDSPlus
from langchain_dsplus.chat_dsplus.outcomes import collect_chat_outcomes
from langchain_dsplus.small_models.base import read_text


class Short:
    """Query-only: short questions stay local."""

    name, before = "short", True

    def __init__(self, version="1"):
        self.version = version

    def fit(self, outcomes, inputs=None):
        del outcomes, inputs
        return self

    def __call__(self, inputs, answers=None):
        assert answers is None
        return [-float(len(read_text(value))) for value in inputs]


class Draft(Short):
    """Looks at the draft, and at what `accept` says of it."""

    name, before = "draft", False

    def __call__(self, inputs, answers=None):
        assert len(inputs) == len(answers)
        return [answer["confidence"] + len(answer["choice"]) for answer in answers]


def backwards(messages, number):
    del number
    return messages[-1].text[::-1]


def short_is_right(messages, number):
    del number
    return "right" if len(messages[-1].text) <= 6 else "wrong"


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
def test_no_draft_is_written_for_what_escalates(scripted, way):
    small, large = scripted(text="local", p=None, name="tiny"), scripted(text="hosted")
    cascade = ChatDSPlus(models=[small, large], score=Short(), threshold=-5.0)

    def ask(text):
        if way == "stream":
            return "".join(str(chunk.text) for chunk in cascade.stream(text))
        return cascade.batch([text])[0].text if way == "batch" else cascade.invoke(text).text

    async def aask(text):
        if way == "astream":
            return "".join([str(chunk.text) async for chunk in cascade.astream(text)])
        return (await cascade.abatch([text]))[0].text if way == "abatch" else (await cascade.ainvoke(text)).text

    said = [asyncio.run(aask(text)) if way.startswith("a") else ask(text) for text in ("hi", "a long question")]
    assert said == ["local", "hosted"]
    assert (len(small.calls), len(large.calls)) == (1, 1)  # and no log-probabilities are needed


def test_the_route_says_what_the_score_said(scripted):
    cascade = ChatDSPlus(models=[scripted(text="local", name="tiny"), scripted()], score=Short(), threshold=-5.0)
    routes = [cascade.invoke(text).response_metadata["dsplus"] for text in ("hi", "a long question")]
    assert [(route["model"], route["score"]) for route in routes] == [("tiny", -2.0), ("large", -15.0)]
    assert routes[1]["answers"] == []
    assert set(routes[1]["usage"]) == {"large"} or len(routes[1]["usage"]) == 1


def test_a_score_that_sees_the_draft(scripted):
    small = scripted(reply=backwards, p=0.5, name="tiny")
    cascade = ChatDSPlus(models=[small, scripted(text="hosted")], score=Draft(), threshold=5.0)
    assert [cascade.invoke(text).text for text in ("abc", "abcdefgh")] == ["hosted", "hgfedcba"]
    answer = cascade.invoke("abcdefgh").response_metadata["dsplus"]["answers"][0]
    assert answer["confidence"] == pytest.approx(8.5)


def test_with_tools_the_chosen_model_calls_them(scripted):
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    cascade = ChatDSPlus(models=[scripted(name="tiny"), scripted()], score=Short(), threshold=-5.0).bind_tools([add])
    reply = cascade.invoke("hi")
    assert reply.tool_calls
    assert reply.response_metadata["dsplus"]["model"] == "tiny"


def test_a_certificate_is_bound_to_the_score(scripted):
    class Named(scripted):
        @classmethod
        def get_lc_namespace(cls):
            return ["tests"]

    small, large = Named(reply=short_is_right, name="tiny"), Named(text="right", name="big")
    cascade = ChatDSPlus(models=[small, large], score=Short(), threshold=None)
    rows = [{"input": f"{k:04d}{'x' * (k % 5)}"} for k in range(1000)]
    table = collect_chat_outcomes(cascade, rows, lambda _q, answer, _g: answer == "right", progress=False)
    assert table.about["score"] == "short 1"
    certificate = certify(table, "1 point")
    assert certificate.certified
    assert -7.0 < certificate.threshold < -6.0
    live = ChatDSPlus(models=[small, large], score=Short(), threshold=certificate)
    assert live.invoke("0001x").response_metadata["dsplus"]["model"] == "tiny"
    for other in (Short("2"), Draft(), None):
        with pytest.raises(MismatchError, match="score"):
            ChatDSPlus(models=[small, large], score=other, threshold=certificate)


def test_a_name_or_a_function_is_no_score_of_a_draft(scripted):
    for score in ("margin", max):
        with pytest.raises(ValueError, match="RouteScore"):
            ChatDSPlus(models=[scripted(), scripted()], score=score)
