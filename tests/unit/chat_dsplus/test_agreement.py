"""A small model's tool call stays local when other cheap models make the same one."""

import asyncio

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_dsplus.chat_dsplus.judges import CallJudge
from langchain_dsplus.chat_dsplus.model import ChatDSPlus
from langchain_dsplus.chat_dsplus.outcomes import collect_chat_outcomes
from langchain_dsplus.routing.binding import MismatchError
from langchain_dsplus.threshold.certify import certify

N = 240


@tool
def book(city: str, nights: int = 1) -> str:
    """Book a room."""
    return city


def call(*calls):
    made = [{"name": name, "args": args, "id": str(place)} for place, (name, args) in enumerate(calls)]
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return AIMessage("", tool_calls=made, usage_metadata=usage)


def right(number):
    return [("book", {"city": f"c{number}", "nights": 2}), ("book", {"nights": 1, "city": "Bonn"})]


@pytest.fixture
def models(scripted):
    """Small, peer and large: the peer turns the calls around, and errs otherwise than the small one."""

    class Caller(scripted):
        wrong: int = 10_007
        turn: bool = False

        @classmethod
        def get_lc_namespace(cls):
            return ["tests"]

        def _message(self, messages, stop, kwargs):
            super()._message(messages, stop, kwargs)
            number = int(messages[-1].text)
            calls = right(-self.wrong * number if number % self.wrong == 0 else number)
            return call(*(reversed(calls) if self.turn else calls))

    return (
        Caller(model_name="small", wrong=5),
        Caller(model_name="peer", wrong=7, turn=True),
        Caller(model_name="large"),
    )


def invoke(way, chain, value):
    return chain.invoke(value) if way == "sync" else asyncio.run(chain.ainvoke(value))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_who_agrees_stays_local(models, way):
    small, peer, large = models
    cascade = ChatDSPlus(models=[small, large], accept="agreement", peers=[peer], threshold=0.5).bind_tools([book])
    for number, who in ((1, "small"), (5, "large"), (7, "large"), (35, "large")):
        reply = invoke(way, cascade, str(number))
        route = reply.response_metadata["dsplus"]
        assert (route["model"], route["reason"]) == (who, "confident" if who == "small" else "unsure")
        assert route["usage"]["small"]["total_tokens"] == 30  # of the draft and of the peer
        assert len(peer.calls[-1]["tools"]) == 1
    assert [one["args"]["city"] for one in invoke(way, cascade, "1").tool_calls] == ["c1", "Bonn"]


@pytest.mark.parametrize(
    "said",
    [
        call(("hotel", {"city": "c1"})),
        call(("book", {"nights": 2})),
        call(("book", {"city": "c1", "nights": "2"})),
        AIMessage("", invalid_tool_calls=[{"name": "book", "args": "{", "id": "1", "error": None}]),
        AIMessage("no call"),
        AIMessage(""),
        RuntimeError("away"),
    ],
)
@pytest.mark.parametrize("who", ["small", "peer"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_call_that_fits_no_tool_is_never_accepted(scripted, models, said, who, way):
    small, peer, large = models
    options = {"error": said} if isinstance(said, Exception) else {"reply": lambda *_: said}
    other = scripted(model_name="other", **options)
    small, peer = (other, peer) if who == "small" else (small, other)
    cascade = ChatDSPlus(models=[small, large], accept="agreement", peers=[peer], threshold=0.0).bind_tools([book])
    route = invoke(way, cascade, "1").response_metadata["dsplus"]
    assert route["model"] == "large"
    failed = isinstance(said, Exception) or said.content != "no call"
    assert route["reason"] == ("error" if who == "small" and failed else "unsure")


def test_two_peers_give_shares(models, scripted):
    small, peer, large = models
    third = scripted(model_name="third", reply=lambda *_: AIMessage("I do not know."))
    cascade = ChatDSPlus(models=[small, large], accept="agreement", peers=[peer, third]).bind_tools([book])
    assert cascade.invoke("1", {"configurable": {"dsplus_threshold": 0.99}}).response_metadata["dsplus"]["answers"][0][
        "confidence"
    ] == pytest.approx(0.5)


def test_a_certificate_on_tool_calls_in_one_call(models):
    small, peer, large = models
    cascade = ChatDSPlus(models=[small, large], accept="agreement", peers=[peer])
    rows = [
        {"input": str(n), "gold": [{"name": name, "args": args} for name, args in right(n)]} for n in range(1, N + 1)
    ]
    outcomes = collect_chat_outcomes(cascade.bind_tools([book]), rows, CallJudge([book]), progress=False)
    assert outcomes.about["score"] == "agreement"
    assert outcomes.correct("small").mean() == pytest.approx(0.8)
    certificate = certify(outcomes, "2 points")
    assert certificate.certified
    assert certificate.coverage == pytest.approx(1 - (N // 5 + N // 7 - N // 35) / N)
    live = ChatDSPlus(
        models=[one.bind_tools([book]) for one in (small, large)],
        accept="agreement",
        peers=[peer.bind_tools([book])],
        threshold=certificate,
    )
    assert live.invoke("1").response_metadata["dsplus"]["accepted"] is True
    assert live.invoke("5").response_metadata["dsplus"]["accepted"] is False
    with pytest.raises(MismatchError):  # another peer is another small model
        ChatDSPlus(models=live.models, accept="agreement", peers=[small.bind_tools([book])], threshold=certificate)


def test_structured_output_has_peers_too(scripted):
    class Stay(BaseModel):
        city: str

    def model(name, city):
        return scripted(model_name=name, reply=lambda *_: call(("Stay", {"city": city})))

    for city, who in (("Bonn", "small"), ("Rome", "large")):
        cascade = ChatDSPlus(
            models=[model("small", "Bonn"), model("large", "Kiel")],
            accept="agreement",
            peers=[model("peer", city)],
            threshold=0.5,
        ).with_structured_output(Stay, include_raw=True)
        found = cascade.invoke("?")
        assert found["raw"].response_metadata["dsplus"]["model"] == who
        assert found["parsed"] == Stay(city="Bonn" if who == "small" else "Kiel")


def test_peers_and_agreement_belong_together(models):
    small, peer, large = models
    for options in ({"accept": "agreement"}, {"peers": [peer]}, {"accept": "consistency", "peers": [peer]}):
        with pytest.raises(ValueError, match="peers"):
            ChatDSPlus(models=[small, large], **options)
    with pytest.raises(TypeError, match="chat models"):
        ChatDSPlus(models=[small, large], accept="agreement", peers=["peer"])
