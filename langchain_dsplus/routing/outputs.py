"""From a small model's `Answer` to the type that the large chain returns."""

from __future__ import annotations

import json
import re
import string
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from pydantic import AliasChoices, BaseModel, PydanticUserError, RootModel, TypeAdapter
from pydantic.fields import FieldInfo

from langchain_dsplus.answer import Answer, Route
from langchain_dsplus.tags import ROUTE_KEY

ToOutput: TypeAlias = Callable[[Answer, Any], Any]


def to_message(answer: Answer, _: Any) -> AIMessage:
    """Answer with an AIMessage whose content is the choice."""
    return AIMessage(content=answer["choice"])


def to_text(answer: Answer, _: Any) -> str:
    """Answer with the choice itself."""
    return answer["choice"]


def default_to_output(output_type: Any, labels: Sequence[str] = ()) -> ToOutput:
    """Choose the conversion by the large chain's `OutputType`.

    Of a pydantic class the field is filled whose type is a Literal, an Enum or a constrained str of the labels; a plain
    str only where it is the only field (see `label_field`).

    Args:
        output_type: The large chain's.
        labels: Those that may be answered locally; empty where they are not known.

    Raises:
        TypeError: If it cannot be told; the message shows how to pass `to_output=`.
    """
    if output_type is str:
        return to_text
    if is_message(output_type):
        return to_message
    if isinstance(output_type, type) and issubclass(output_type, BaseModel):
        root = issubclass(output_type, RootModel)
        field = "" if root else label_field(output_type, labels)

        def to_model(answer: Answer, _: Any) -> Any:
            return output_type.model_validate(answer["choice"] if root else {field: answer["choice"]})

        return to_model
    raise TypeError(
        f"cannot tell how a local answer becomes what `large` returns (its OutputType is {output_type}). "
        "Pass `to_output=lambda answer, input: ...`, which gets the small model's Answer and the input and returns "
        "the large chain's type, for example `to_output=lambda answer, input: answer['choice']`"
    )


def is_message(output_type: Any) -> bool:
    """Whether a type is a message, or a union of messages."""
    members = _union_members(output_type)
    return bool(members) and all(isinstance(m, type) and issubclass(m, BaseMessage) for m in members)


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
        raise TypeError(
            f"{output_type.__name__}, which `large` returns, does not take these labels: {refused}. Rename them, put "
            "them into `never_local=`, or pass `to_output=lambda answer, input: ...`"
        )


# --- which field holds the label --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Field:
    """One field of a schema: by which key it is filled, and what may stand in it, as JSON schema."""

    key: str
    required: bool
    spec: Mapping[str, Any]
    names: Mapping[str, Any]
    """What the references in `spec` mean."""

    def takes(self, text: str) -> bool:
        """Whether a text may stand there."""
        return any(_allows(part, text) for part in _members(self.spec, self.names))

    def closed(self, labels: Collection[str]) -> bool:
        """Whether only chosen texts may stand there: a list of them, or a pattern that takes none like the labels."""
        parts = _members(self.spec, self.names)
        if not labels or not parts or not all({"const", "enum", "pattern"} & part.keys() for part in parts):
            return False
        return not any(_is_general(part["pattern"], labels) for part in parts if "pattern" in part)


def label_field(schema: Any, labels: Collection[str]) -> str:
    """Return the key of the one field of a schema that a label goes into.

    That is the field whose type is a Literal, an Enum or a str with a pattern that takes all the labels and little
    else; with one field alone, any type of text will do.

    Args:
        schema: A pydantic class, a dataclass, a TypedDict, or a JSON schema of an object.
        labels: What may go into it; empty where that is not known, and then only a lone field will do.

    Raises:
        TypeError: If no field or several would do, or another one is required. The message shows `to_output=`.

    Example:
        >>> from typing import Literal
        >>> class Ticket(BaseModel):
        ...     label: Literal["refund", "delivery", "other"]
        ...     reasoning: str = ""
        >>> label_field(Ticket, ["refund", "delivery"])
        'label'
    """
    fields = _fields_of(schema)
    found = [f for f in fields if all(f.takes(text) for text in labels) and (len(fields) == 1 or f.closed(labels))]
    if len(found) == 1:
        others = [f.key for f in fields if f.required and f is not found[0]]
        if not others:
            return found[0].key
        why = f"{_listed(others)} must be filled as well"
    elif found:
        why = f"{_listed([f.key for f in found])} could all hold it"
    else:
        why = "of several fields none is a Literal, an Enum or a constrained str"
        for field in fields:
            refused = [text for text in labels if not field.takes(text)]
            if refused and (len(fields) == 1 or (field.closed(labels) and len(refused) < len(labels))):
                why = f"{field.key!r} does not take these labels: {refused}: rename them, or `never_local=`"
        why += "" if labels else ", or the small model does not name its labels"
    name = getattr(schema, "__name__", "the schema")
    raise TypeError(
        f"cannot tell which field of {name} a local label goes into: {why}. Pass `to_output=lambda answer, input: "
        f"{name}(...)`, which gets the small model's Answer and the input"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(repr(name) for name in names)


def _fields_of(schema: Any) -> list[_Field]:
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return [_field_of(name, info) for name, info in schema.model_fields.items()]
    if not isinstance(schema, Mapping):
        schema = TypeAdapter(schema).json_schema()
        schema = _resolved(schema, schema.get("$defs", {}))
    required = schema.get("required") or ()
    names = schema.get("$defs", {})
    return [_Field(str(key), key in required, spec, names) for key, spec in (schema.get("properties") or {}).items()]


def _field_of(name: str, info: FieldInfo) -> _Field:
    alias = info.validation_alias
    if isinstance(alias, AliasChoices):
        alias = next((choice for choice in alias.choices if isinstance(choice, str)), None)
    key = alias if isinstance(alias, str) else info.alias or name
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    try:
        spec = TypeAdapter(kind).json_schema()
    except (PydanticUserError, TypeError):  # no JSON can stand there, and so no label
        spec = {}
    return _Field(key, info.is_required(), spec, spec.get("$defs", {}))


def _resolved(spec: Mapping[str, Any], names: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = spec.get("$ref")
    if not isinstance(reference, str):
        return spec
    found = names.get(reference.rpartition("/")[2], {})
    return {**found, "$defs": names}


def _members(spec: Mapping[str, Any], names: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives that a JSON schema allows, without null."""
    spec = _resolved(spec, names)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(spec.get(key), list):
            return [member for part in spec[key] for member in _members(part, names)]
    return [] if spec.get("type") == "null" else [spec]


def _allows(part: Mapping[str, Any], text: str) -> bool:
    if "const" in part:
        return bool(part["const"] == text)
    if "enum" in part:
        return text in part["enum"]
    if "pattern" in part and re.search(part["pattern"], text) is None:
        return False
    return "type" not in part or (part["type"] == "string" and "format" not in part)


def _is_general(pattern: str, labels: Collection[str]) -> bool:
    """Whether a pattern holds for words or codes in general: also where a label's letters are exchanged for others."""

    def other(text: str, by: int) -> str:
        return "".join(_shifted(letter, by) for letter in text)

    for label in labels:
        unlike = [text for text in (other(label, by) for by in (1, 5, 7, 11)) if text not in labels]
        if unlike and all(re.search(pattern, text) for text in unlike):
            return True
    return False


def _shifted(letter: str, by: int) -> str:
    for alphabet in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
        if letter in alphabet:
            return alphabet[(alphabet.index(letter) + by) % len(alphabet)]
    return letter


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


NOTHING: Any = object()
"""The end of a stream, and the first chunk of one in which nothing came."""


def add(first: Any, second: Any) -> Any:
    """Two chunks as one; where they do not add up, the later one."""
    try:
        return first + second
    except TypeError:
        return second


def total(chunks: Sequence[Any]) -> Any:
    """All of a stream; None where nothing came."""
    output: Any = None
    for chunk in chunks:
        if chunk is not NOTHING:
            output = chunk if output is None else add(output, chunk)
    return output
