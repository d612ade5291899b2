"""Real clients, changed by their base URL alone: `openai`, `ChatOpenAI`, `OpenAIDecisions`; sync and async."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langchain_openai.decisions import Choice, OpenAIDecisions, Predicate, Score

from langchain_dsplus.serve import DecisionTask
from tests.unit.serve.conftest import MODEL, SYSTEM, Asked, Deeds, Provider, Proxy, messages, whole
from tests.unit.shunt.conftest import LABELS

Make = Callable[..., Proxy]
pytestmark = [
    pytest.mark.usefixtures("unpooled_openai"),
    pytest.mark.filterwarnings("ignore:The class `OpenAIDecisions` is in beta"),
]


def both(name: str, sync: Callable[[], Any], twin: Callable[[], Any]) -> Any:
    return sync() if name == "sync" else asyncio.run(twin())


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True])
def test_openai_gets_its_types_whoever_answers(
    proxy: Make, provider: Provider, live: Any, how: str, stream: bool
) -> None:
    here = proxy(**live)
    world = provider.world
    routes: dict[str, int] = {"small": 0, "large": 0}
    more: Any = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}

    def read(text: str, raw: Any, parts: list[Any]) -> None:
        route = raw.headers["x-dsplus-route"]
        routes[route] += 1
        said = "".join(c.delta.content or "" if stream else c.message.content for p in parts for c in p.choices)
        assert said == world.answer(text)
        assert [c.finish_reason for c in parts[-1 - stream].choices] == ["stop"]
        assert parts[-1].usage.total_tokens == (0 if route == "small" else 22)

    async def asked(text: str) -> None:
        async with openai.AsyncOpenAI(base_url=here.base_url, api_key="sk-x", max_retries=0) as client:
            ask = client.chat.completions.with_raw_response.create
            raw = await ask(model=MODEL, messages=messages(text), **more)
            found = raw.parse()
            read(text, raw, [part async for part in found] if stream else [found])

    def ask(text: str) -> None:
        with openai.OpenAI(base_url=here.base_url, api_key="sk-x", max_retries=0) as client:
            raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages(text), **more)
            found = raw.parse()
            read(text, raw, list(found) if stream else [found])

    for text in [world.text(label) for label in LABELS * 3]:
        both(how, lambda text=text: ask(text), lambda text=text: asked(text))
    assert min(routes.values()) > 0
    beside = len(provider.asked) - routes["large"]  # local ones that are set apart are asked about in the background
    assert 0 <= beside <= routes["small"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [("429 Too Many Requests", "RateLimitError"), ("500 Oh", "InternalServerError"), ("401 No", "AuthenticationError"),
     ("400 Bad", "BadRequestError"), ("404 Not Found", "NotFoundError")],
)  # fmt: skip
def test_openai_raises_what_it_would_raise_without_a_proxy(
    proxy: Make, provider: Provider, status: str, kind: str
) -> None:
    provider.script = lambda _: whole(
        status, b'{"error": {"message": "theirs", "type": "t", "code": "c"}}', "retry-after: 9"
    )
    here = proxy()
    caught = []
    for url in (provider.url, here.base_url):
        with (
            openai.OpenAI(base_url=url, api_key="sk-x", max_retries=0) as client,
            pytest.raises(openai.APIError) as error,
        ):
            client.chat.completions.create(model=MODEL, messages=messages("x"))
        caught.append(error.value)
    assert [type(one).__name__ for one in caught] == [kind, kind]
    assert str(caught[0]) == str(caught[1])
    assert [one.response.headers["retry-after"] for one in caught] == ["9", "9"]


def test_openai_waits_as_the_upstream_says_and_tries_again(proxy: Make, provider: Provider) -> None:
    def once(asked: Asked) -> Deeds:
        provider.script = None
        return whole("429 Too Many Requests", b"{}", "retry-after-ms: 10")

    provider.script = once
    here = proxy()
    text = provider.world.text()
    with openai.OpenAI(base_url=here.base_url, api_key="sk-x", max_retries=1) as client:
        reply = client.chat.completions.create(model=MODEL, messages=messages(text))
    assert reply.choices[0].message.content == provider.world.truth[text]
    assert ["error" in row for row in here.rows(2)] == [True, False]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_chat_openai_answers_streams_and_calls_tools(proxy: Make, provider: Provider, live: Any, how: str) -> None:
    here = proxy(**live)
    chat = ChatOpenAI(model=MODEL, base_url=here.base_url, api_key="sk-x", temperature=0, max_retries=0)
    local = 0
    for text in [provider.world.text(label) for label in LABELS * 2]:
        asked = [SystemMessage(SYSTEM), HumanMessage(text)]
        reply = both(how, lambda asked=asked: chat.invoke(asked), lambda asked=asked: chat.ainvoke(asked))
        assert reply.content == provider.world.truth[text]
        local += reply.response_metadata["model_name"].startswith("dsplus/")

        async def streamed(asked: Any = asked) -> str:
            return "".join([part.text async for part in chat.astream(asked)])

        said = both(how, lambda asked=asked: "".join(p.text for p in chat.stream(asked)), streamed)
        assert said == provider.world.truth[text]
    assert 0 < local <= 4
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
    answer = {"id": "u", "object": "chat.completion", "created": 1, "model": "m", "choices": [
        {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}  # fmt: skip
    provider.script = lambda _: whole("200 OK", json.dumps(answer).encode())
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    bound = chat.bind_tools([tool])
    reply = both(how, lambda: bound.invoke(asked), lambda: bound.ainvoke(asked))
    assert reply.tool_calls[0]["name"] == "look"
    assert provider.asked[-1].json["tools"] == [tool]


# --- decisions -------------------------------------------------------------------------------------------------------

CHOICE = {"type": "choice", "instructions": "Which team?", "choices": [{"value": name} for name in LABELS]}
QUESTIONS: dict[str, tuple[Any, Any, list[str]]] = {
    "choice": (CHOICE, Choice(instructions="Which team?", choices=dict.fromkeys(reversed(LABELS))), LABELS),
    "predicate": ({"type": "predicate", "instructions": "Urgent?"}, Predicate(instructions="Urgent?"), ["yes", "no"]),
    "score": (
        {"type": "score", "instructions": "How angry?", "levels": [{"label": "calm"}, {"label": "angry"}]},
        Score(instructions="How angry?", levels=["calm", "angry"]), ["0", "1"],
    ),
}  # fmt: skip


def decided(label: str, kind: str, labels: list[str]) -> bytes:
    """What the provider says to the one question."""
    p = {name: 0.9 if name == label else 0.1 / (len(labels) - 1) for name in labels}
    answer: dict[str, Any] = {"type": kind, "name": "team", "confidence": 0.8}
    if kind == "predicate":
        answer["probability"] = p["yes"]
    elif kind == "choice":
        answer |= {"choice": label, "probabilities": [{"value": name, "probability": p[name]} for name in labels]}
    else:
        named = [{"value": int(name), "label": ["calm", "angry"][int(name)], "probability": p[name]} for name in labels]
        answer |= {"score": p["1"], "probabilities": named}
    return json.dumps({"model": "d-1", "answers": [answer], "usage": {"input_tokens": 9, "output_tokens": 1}}).encode()


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("kind", QUESTIONS)
def test_openai_decisions_are_recorded_with_their_probabilities(
    proxy: Make, provider: Provider, how: str, kind: str
) -> None:
    wire, question, labels = QUESTIONS[kind]
    here = proxy(DecisionTask("d-1", wire), labels=None)
    provider.script = lambda _: whole("200 OK", decided(labels[1], kind, labels))
    for given in ("where is it", HumanMessage("where is it")):
        model = OpenAIDecisions(model="d-1", base_url=here.base_url, api_key="sk-x", max_retries=0)
        request = {"input": given, "questions": {"team": question}}

        async def asked(request: Any = request, model: Any = model) -> Any:
            async with model._async_client:
                return await model.ainvoke(request)

        reply = both(how, lambda request=request, model=model: model.invoke(request), asked)
        assert reply.answers["team"].type == kind
    rows = here.rows(2)
    assert [row["input"] for row in rows] == ["where is it"] * 2
    assert [row["large_said"]["label"] for row in rows] == [labels[1]] * 2
    assert rows[0]["large_said"]["probabilities"][labels[1]] == pytest.approx(0.9)


def test_openai_decisions_are_answered_locally(proxy: Make, provider: Provider, live: Any) -> None:
    here = proxy(DecisionTask("d-1", CHOICE), **live)
    world = provider.world
    provider.script = lambda asked: whole("200 OK", decided(world.answer(asked.json["input"]), "choice", LABELS))
    model = OpenAIDecisions(model="d-1", base_url=here.base_url, api_key="sk-x", max_retries=0)
    for text in [world.text(label) for label in LABELS * 3]:
        reply = model.invoke({"input": text, "questions": {"team": QUESTIONS["choice"][1]}})
        answer = reply.choices["team"]
        assert answer.choice == world.truth[text]
        assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert 3 <= len(provider.asked) < 9


@pytest.mark.parametrize(
    "request_",
    [
        {"input": "a", "questions": {"team": QUESTIONS["choice"][1], "more": Predicate(instructions="Urgent?")}},
        {"input": "a", "questions": {"team": Choice(instructions="Another?", choices=dict.fromkeys(LABELS))}},
        {"input": "a", "questions": {"team": Choice(instructions="Which team?", choices={"refund": None, "x": None})}},
        {"input": [HumanMessage("a"), HumanMessage("b")], "questions": {"team": QUESTIONS["choice"][1]}},
    ],
)  # fmt: skip
def test_other_decisions_pass_untouched(proxy: Make, provider: Provider, live: Any, request_: Any) -> None:
    here = proxy(DecisionTask("d-1", CHOICE), **live)
    provider.script = lambda _: whole("200 OK", decided("refund", "choice", LABELS))
    model = OpenAIDecisions(model="d-1", base_url=here.base_url, api_key="sk-x", max_retries=0)
    assert model.invoke(request_).choices["team"].choice == "refund"
    here.rows(0)
    assert [asked.path for asked in provider.asked] == ["/v1/decisions"]
