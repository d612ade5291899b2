"""From a small model's `Answer` to the type that the large chain returns."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from pydantic import BaseModel

from langchain_dsplus.answer import Answer, Route

ToOutput: TypeAlias = Callable[[Answer, Any], Any]

ROUTE_KEY = "dsplus"
"""Where an AIMessage carries its `Route`: `response_metadata["dsplus"]`."""


def to_message(answer: Answer, _: Any) -> AIMessage:
    """Answer with an AIMessage whose content is the choice."""
    return AIMessage(content=answer["choice"])


def to_text(answer: Answer, _: Any) -> str:
    """Answer with the choice itself."""
    return answer["choice"]


def default_to_output(output_type: Any) -> ToOutput:
    """Choose the conversion by the large chain's `OutputType`.

    Raises:
        TypeError: If it cannot be told; the message shows how to pass `to_output=`.
    """
    if output_type is str:
        return to_text
    members = _union_members(output_type)
    if members and all(isinstance(m, type) and issubclass(m, BaseMessage) for m in members):
        return to_message
    if isinstance(output_type, type) and issubclass(output_type, BaseModel):
        required = [name for name, field in output_type.model_fields.items() if field.is_required()]
        if len(required) == 1:
            info = output_type.model_fields[required[0]]
            alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
            field = alias or required[0]

            def to_model(answer: Answer, _: Any) -> Any:
                return output_type.model_validate({field: answer["choice"]})

            return to_model
    msg = (
        f"cannot tell how a local answer becomes what `large` returns (its OutputType is {output_type}). "
        "Pass `to_output=lambda answer, input: ...`, which gets the small model's Answer and the input and returns "
        "the large chain's type, for example `to_output=lambda answer, input: answer['choice']`"
    )
    raise TypeError(msg)


def check_labels(to_output: ToOutput, output_type: Any, labels: Sequence[str]) -> None:
    """Try the default conversion to a pydantic class on every label, before the first input.

    Raises:
        TypeError: If the class does not take a label.
    """
    if not (isinstance(output_type, type) and issubclass(output_type, BaseModel)):
        return
    refused = []
    for label in labels:
        try:
            to_output(Answer(choice=label, probabilities={}, confidence=1.0), None)
        except ValueError:
            refused.append(label)
    if refused:
        msg = (
            f"{output_type.__name__}, which `large` returns, does not take these labels: {refused}. Rename them, put "
            "them into `never_local=`, or pass `to_output=lambda answer, input: ...`"
        )
        raise TypeError(msg)


def _union_members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, through `Annotated`; a single type is its own only member."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _union_members(typing.get_args(annotation)[0])
    if origin is typing.Union or isinstance(annotation, types.UnionType):
        return tuple(m for arg in typing.get_args(annotation) for m in _union_members(arg))
    return (annotation,)


def with_route(output: Any, route: Route) -> Any:
    """Put the route on a copy of an AIMessage; anything else passes."""
    if isinstance(output, AIMessage):
        metadata = {**output.response_metadata, ROUTE_KEY: route}
        return output.model_copy(update={"response_metadata": metadata})
    return output


def is_blank(chunk: Any) -> bool:
    """Whether a chunk of a stream shows nothing yet, as the first one of many providers."""
    return isinstance(chunk, AIMessageChunk) and not chunk.content and not chunk.tool_call_chunks


def to_chunk(output: Any) -> Any:
    """Make a stream's chunk of a whole output: an AIMessage becomes an AIMessageChunk, so that chunks add up."""
    if type(output) is AIMessage:
        return AIMessageChunk(
            content=output.content,
            additional_kwargs=output.additional_kwargs,
            response_metadata=output.response_metadata,
            usage_metadata=output.usage_metadata,
            name=output.name,
            id=output.id,
            tool_call_chunks=[
                {
                    "name": c["name"],
                    "args": json.dumps(c["args"]),
                    "id": c["id"],
                    "index": i,
                    "type": "tool_call_chunk",
                }
                for i, c in enumerate(output.tool_calls)
            ],
            chunk_position="last",
        )
    return output
