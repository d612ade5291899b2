"""Tool calls against a loopback server that speaks the OpenAI protocol: collect, judge, certify, live, sync and async."""

import asyncio
import json
import threading
from collections import Counter

import pytest
from langchain_core.tools import tool
from werkzeug import Response

from langchain_dsplus.chat_dsplus import ChatDSPlus, acollect_chat_outcomes, collect_chat_outcomes
from langchain_dsplus.chat_dsplus.judges import CallJudge, LLMJudge
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify

pytest.importorskip("langchain_openai")
pytestmark = pytest.mark.usefixtures("unpooled_openai")

N = 200
WAYS = ["sync", "async"]
WRONG = {"cheap": 5, "peer": 7, "big": 10_007}
"""By model: multiples of this number are called wrongly."""


@tool
def book(city: str, nights: int, breakfast: bool = False) -> str:
    """Book a room."""
    return city


def gold(number):
    return [
        {"name": "book", "args": {"city": f"c{number}", "nights": 2}},
        {"name": "book", "args": {"city": "B", "nights": 1}},
    ]


class Provider:
    """Calls `book` twice, the peer in the other order and with defaults written out; `judge` compares the last words."""

    def __init__(self, server):
        self.url = server.url_for("/v1")
        self.lock = threading.Lock()
        self.asked = Counter()
        server.expect_request("/v1/chat/completions", method="POST").respond_with_handler(self.answer)

    def answer(self, request):
        body = request.get_json()
        model = body["model"]
        with self.lock:
            self.asked[model] += 1
        if model == "judge":
            parts = body["messages"][-1]["content"].split("<<<ANSWER")[1:]
            one, other = (part.split(">>>\n")[1].split("\n<<<END")[0].split()[-1] for part in parts)
            message = {"role": "assistant", "content": "yes" if one == other else "no"}
            return self.reply(body, message, "stop")
        number = int(body["messages"][-1]["content"])
        calls = gold(number if number % WRONG[model] else -number * WRONG[model])
        if model == "peer":
            calls = [{**call, "args": {**call["args"], "breakfast": False}} for call in reversed(calls)]
        if number == 11 and model == "cheap":
            calls[0]["args"].pop("nights")
        made = [
            {"id": f"call_{k}", "type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["args"])}}
            for k, c in enumerate(calls)
        ]
        assert [one["function"]["name"] for one in body["tools"]] == ["book"]
        return self.reply(body, {"role": "assistant", "content": None, "tool_calls": made}, "tool_calls")

    @staticmethod
    def reply(body, message, reason):
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        return Response(json.dumps({**head, "choices": [choice], "usage": usage}), mimetype="application/json")

    def model(self, name):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(base_url=self.url, api_key="none", model=name, max_retries=0, timeout=60.0)

    def cascade(self, **options):
        models = [self.model("cheap"), self.model("big")]
        return ChatDSPlus(models=models, accept="agreement", peers=[self.model("peer")], **options)


@pytest.fixture
def provider(server):
    return Provider(server)


def collect(way, *args, **options):
    if way == "sync":
        return collect_chat_outcomes(*args, progress=False, **options)
    return asyncio.run(acollect_chat_outcomes(*args, progress=False, **options))


def invoke(way, chain, value, **config):
    return chain.invoke(value, config) if way == "sync" else asyncio.run(chain.ainvoke(value, config))


@pytest.mark.parametrize("way", WAYS)
def test_from_recorded_calls_to_a_certified_agent_model(provider, way, tmp_path):
    rows = [{"input": str(n), "gold": gold(n)} for n in range(1, N + 1)]
    judge = CallJudge([book])
    outcomes = collect(way, provider.cascade().bind_tools([book]), rows, judge)
    certificate = certify(outcomes, "2 points")
    assert certificate.certified
    right = sum(n % 5 != 0 and n % 7 != 0 and n != 11 for n in range(1, N + 1))
    assert certificate.coverage == pytest.approx(right / N)
    path = tmp_path / "certificate.json"
    certificate.to_json(path)
    live = ChatDSPlus(
        models=[provider.model(name).bind_tools([book]) for name in ("cheap", "big")],
        accept="agreement",
        peers=[provider.model("peer").bind_tools([book])],
        threshold=Certificate.from_json(path),
    )
    assert live.router.unverifiable == ()
    provider.asked.clear()
    for number, local in ((1, True), (5, False), (7, False), (11, False), (12, True)):
        with CostLedger({}) as ledger:
            reply = invoke(way, live, str(number))
        assert reply.response_metadata["dsplus"]["accepted"] is local, number
        assert judge("", json.dumps([{"name": c["name"], "args": c["args"]} for c in reply.tool_calls]), gold(number))
        asked = {"cheap", "big"} | {"peer"} if number != 11 else {"cheap", "big"}
        assert reply.usage_metadata["total_tokens"] == 15 * (len(asked) - local)
        assert ledger.total()["input_tokens"] == 10 * (len(asked) - local)
    assert provider.asked == {"cheap": 5, "peer": 4, "big": 3}  # a call that fits no schema asks no peer


@pytest.mark.parametrize("way", WAYS)
def test_a_judge_behind_the_same_protocol(provider, way):
    judge = LLMJudge(provider.model("judge"))
    items = [("?", "it is 4", "4"), ("?", "it is 5", "4"), ("?", "4", None)]
    found = judge.judge(items) if way == "sync" else asyncio.run(judge.ajudge(items))
    assert found == [True, False, None]
    assert provider.asked == {"judge": 4}  # both orders
