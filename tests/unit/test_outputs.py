"""From an Answer to the large chain's own type, also where annotations are strings."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import BaseModel, Field

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.outputs import default_to_output, to_chunk, with_route

ANSWER = {"choice": "pos", "probabilities": {"pos": 1.0}, "confidence": 1.0}


class Aliased(BaseModel):
    label: str = Field(alias="Label")


class Two(BaseModel):
    label: str
    reason: str


def as_text(_: str) -> str:
    return "LARGE"


def as_message(_: str) -> AIMessage:
    return AIMessage("LARGE")


def as_anything(_: str) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("output_type", "expected"),
    [
        (str, "pos"),
        (AIMessage, AIMessage("pos")),
        (BaseMessage, AIMessage("pos")),
        (AnyMessage, AIMessage("pos")),
        (Annotated[AIMessage | AIMessageChunk, "x"], AIMessage("pos")),
        (Aliased, Aliased(Label="pos")),
    ],
    ids=["str", "AIMessage", "BaseMessage", "AnyMessage", "Annotated", "Aliased"],
)
def test_by_output_type(output_type, expected):
    assert default_to_output(output_type)(ANSWER, "x") == expected


@pytest.mark.parametrize("output_type", [Any, dict, int, Two, "str", str | None], ids=str)
def test_whatever_else_is_refused(output_type):
    with pytest.raises(TypeError, match="to_output="):
        default_to_output(output_type)


def test_string_annotations_are_read():
    small = FakeSmallModel({"x": {"pos": 1.0}})
    for large, expected in ((as_text, "pos"), (as_message, AIMessage("pos"))):
        for chain in (RunnableLambda(large), RunnablePassthrough() | RunnableLambda(large)):
            output = ConfidenceRouter(small=small, large=chain, threshold=0.9).invoke("x")
            assert getattr(output, "content", output) == getattr(expected, "content", expected)
    with pytest.raises(TypeError, match="to_output="):
        ConfidenceRouter(small=small, large=RunnableLambda(as_anything))


def test_a_message_keeps_its_tool_calls_as_a_chunk():
    call = {"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}
    chunk = to_chunk(AIMessage("x", tool_calls=[call]))
    assert isinstance(chunk, AIMessageChunk)
    assert chunk.tool_calls == [call]
    assert to_chunk("text") == "text"


def test_only_messages_carry_a_route():
    assert with_route("text", {"model": "small"}) == "text"
    message = AIMessage("x")
    assert with_route(message, {"model": "small"}).response_metadata == {"dsplus": {"model": "small"}}
    assert message.response_metadata == {}
