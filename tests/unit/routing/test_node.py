"""A router as a node: what it writes into each kind of state."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, FakeSmallModel


class Shown(TypedDict):
    """What a node with a schema of its own is shown."""

    text: str


class Plain(TypedDict):
    """One value under each key."""

    text: str
    out: Any
    routes: Any


class Lists(TypedDict):
    """Reducers of lists."""

    text: str
    out: Annotated[list, operator.add]
    messages: Annotated[list[AnyMessage], add_messages]
    routes: Annotated[list, operator.add]


class Sequences(TypedDict):
    """The same by other names."""

    text: str
    out: Annotated[Sequence[Any], operator.add]
    messages: Annotated[Sequence[AnyMessage], add_messages]
    routes: Annotated[tuple, operator.add]


class Model(BaseModel):
    """The same as a pydantic class."""

    text: str
    out: Annotated[list, operator.add] = Field(default_factory=list)
    messages: Annotated[list[AnyMessage], add_messages] = Field(default_factory=list)
    routes: Annotated[list, operator.add] = Field(default_factory=list)


@dataclass
class Record:
    """The same as a dataclass."""

    text: str
    out: Annotated[list, operator.add] = field(default_factory=list)
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    routes: Annotated[list, operator.add] = field(default_factory=list)


def small():
    return FakeSmallModel({"easy": {"x": 0.99, "y": 0.01}, "hard": {"x": 0.5, "y": 0.5}}, name="few")


def written(router, state, shown, key, text, *, is_async):
    graph = StateGraph(state)
    node = router.as_node(input_key="text", output_key=key, route_key="routes")
    options = {"input_schema": shown} if shown else {}
    graph.add_node("first", node, **options)
    graph.add_node("second", node, **options)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    app = graph.compile()
    return asyncio.run(app.ainvoke({"text": text})) if is_async else app.invoke({"text": text})


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("text", ["easy", "hard"])
@pytest.mark.parametrize("shown", [None, Shown], ids=["whole", "part"])
@pytest.mark.parametrize("state", [Lists, Sequences, Model, Record])
@pytest.mark.parametrize("key", ["out", "messages"])
def test_reducers_of_lists_get_every_answer_and_every_route(key, state, shown, text, is_async):
    router = ConfidenceRouter(small=small(), large=FakeListChatModel(responses=["y"]), threshold=0.9)
    found = written(router, state, shown, key, text, is_async=is_async)
    choice = "x" if text == "easy" else "y"
    assert [(type(message), message.content) for message in found[key]] == [(AIMessage, choice)] * 2
    assert [route["accepted"] for route in found["routes"]] == [text == "easy"] * 2


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("text", ["easy", "hard"])
@pytest.mark.parametrize("shown", [None, Shown], ids=["whole", "part"])
def test_one_value_stays_one_value(shown, text, is_async):
    router = ConfidenceRouter(small=small(), large=FakeListChatModel(responses=["y"]), threshold=0.9)
    found = written(router, Plain, shown, "out", text, is_async=is_async)
    assert isinstance(found["out"], AIMessage)
    assert found["routes"]["accepted"] is (text == "easy")


@pytest.mark.parametrize("text", ["easy", "hard"])
def test_a_text_among_messages_is_the_models(text):
    large = RunnableLambda(lambda _: "y", name="words").with_types(output_type=str)
    router = ConfidenceRouter(small=small(), large=large, threshold=0.9)
    graph = StateGraph(Lists)
    graph.add_node("router", router.as_node(input_key="text", output_key="messages"))
    graph.add_edge(START, "router")
    found = graph.compile().invoke({"text": text, "messages": [HumanMessage("hello")]})["messages"]
    assert [type(message) for message in found] == [HumanMessage, AIMessage]


def test_a_key_that_the_graph_lacks_is_langgraphs_error():
    router = ConfidenceRouter(small=small(), large=FakeListChatModel(responses=["y"]), threshold=0.9)
    assert isinstance(router.as_node(input_key="text", output_key="z").invoke({"text": "easy"})["z"], AIMessage)
    with pytest.raises(KeyError, match="no 'other'"):
        router.as_node(input_key="other").invoke({"text": "easy"})


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("text", ["easy", "hard"])
@pytest.mark.parametrize("name", ["router", "other"])
def test_a_message_stream_shows_each_answer_once(name, text, is_async):
    """Also where the node has the router's name, so that LangGraph takes the router's runs for the node's."""
    router = ConfidenceRouter(small=small(), large=FakeListChatModel(responses=["y"]), threshold=0.9, name="router")
    graph = StateGraph(Lists)
    graph.add_node(name, router.as_node(input_key="text", output_key="messages", route_key="routes"))
    graph.add_edge(START, name)
    app, given = graph.compile(), {"text": text}

    async def collect():
        return [part async for part in app.astream(given, stream_mode="messages")]

    parts = asyncio.run(collect()) if is_async else list(app.stream(given, stream_mode="messages"))
    assert [message.content for message, _ in parts if message.content] == ["x" if text == "easy" else "y"]
