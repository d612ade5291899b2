"""From an Answer to the large chain's own type, also where annotations are strings."""

from __future__ import annotations

import re
from dataclasses import make_dataclass
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, Required

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from pydantic import AliasChoices, BaseModel, Field, StringConstraints, create_model
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.routing.outputs import default_to_output, label_field, to_chunk, with_route

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


# --- the field that a label goes into ---------------------------------------------------------------------------------


LABEL_SETS = [["refund", "delivery"], ["1", "0"], ["yes", "no"], ["<=50K", ">50K"], ["card", "card_arrival", "other"]]


def closed_types(labels):
    """Types that take the labels and little else."""
    either = "|".join(re.escape(label) for label in labels)
    return {
        "literal": Literal[(*labels,)],
        "superset": Literal[(*labels, "none of these")],
        "optional": Literal[(*labels,)] | None,
        "enum": Enum("Kind", {f"k{n}": label for n, label in enumerate(labels)}),
        "str-enum": StrEnum("Kind", {f"k{n}": label for n, label in enumerate(labels)}),
        "pattern": Annotated[str, StringConstraints(pattern=f"^({either})$")],
        "field-pattern": Annotated[str, Field(pattern=f"^(?:{either})$")],
    }


OTHER_TYPES = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list[str],
    "short": Annotated[str, StringConstraints(min_length=1, max_length=99)],
    "word": Annotated[str, StringConstraints(pattern=r"^\S+$")],
    "state": Literal["open", "shut"],
    "digits": Literal[1, 0],
    "anything": Any,
}
HOW = list(closed_types(["a"]))


@given(st.data())
def test_a_label_goes_into_the_field_of_the_labels_wherever_it_stands(data):
    labels = data.draw(st.sampled_from(LABEL_SETS))
    kind = closed_types(labels)[data.draw(st.sampled_from(HOW))]
    default = ... if data.draw(st.booleans()) else labels[-1]
    others = data.draw(st.lists(st.sampled_from([*OTHER_TYPES]), unique=True, max_size=4))
    fields = {f"x_{name}": (OTHER_TYPES[name] | None, None) for name in others}
    fields = dict(data.draw(st.permutations([*fields.items(), ("kind", (kind, default))])))
    schema = create_model("Ticket", **fields)
    assert label_field(schema, labels) == "kind"
    made = default_to_output(schema, labels)({**ANSWER, "choice": labels[0]}, None)
    value = made.kind.value if isinstance(made.kind, Enum) else made.kind
    assert value == labels[0]
    assert {getattr(made, f"x_{name}") for name in others} <= {None}
    for more in (
        {"needed": (OTHER_TYPES[data.draw(st.sampled_from([*OTHER_TYPES]))], ...)},  # something else is required
        {"second": (closed_types(labels)[data.draw(st.sampled_from(HOW))], labels[0])},  # two could hold it
    ):
        with pytest.raises(TypeError, match="to_output="):
            default_to_output(create_model("Ticket", **fields, **more), labels)


@given(st.data())
def test_no_label_goes_into_a_field_of_something_else(data):
    labels = data.draw(st.sampled_from(LABEL_SETS))
    names = data.draw(st.lists(st.sampled_from([*OTHER_TYPES]), unique=True, min_size=2, max_size=4))
    schema = create_model("Ticket", **{f"x_{name}": (OTHER_TYPES[name], ...) for name in names[:1]}, **{
        f"x_{name}": (OTHER_TYPES[name] | None, None) for name in names[1:]
    })  # fmt: skip
    with pytest.raises(TypeError, match="to_output="):
        default_to_output(schema, labels)


@pytest.mark.parametrize("labels", LABEL_SETS)
@pytest.mark.parametrize("form", ["dataclass", "typeddict", "json"])
def test_other_forms_of_a_schema(form, labels):
    kind = Literal[(*labels,)]
    made = {
        "dataclass": lambda: make_dataclass("D", [("kind", kind), ("note", str, "")]),
        "typeddict": lambda: TypedDict("T", {"kind": Required[kind], "note": str}, total=False),
        "json": lambda: create_model("J", kind=(kind, ...), note=(str, "")).model_json_schema(),
    }[form]()
    assert label_field(made, labels) == "kind"


def test_a_lone_field_and_a_field_with_a_name_of_its_own():
    lone = create_model("Lone", text=(str, ...))
    assert label_field(lone, ["a"]) == label_field(lone, []) == "text"
    named = create_model(
        "Named", kind=(Literal["a"], Field(validation_alias=AliasChoices("Kind", "k"))), note=(str, "")
    )
    assert default_to_output(named, ["a"])({**ANSWER, "choice": "a"}, None).kind == "a"
    with pytest.raises(TypeError, match=r"does not take these labels: \['b'\]"):
        label_field(create_model("Half", kind=(Literal["a"], ...), note=(str, "")), ["a", "b"])
    with pytest.raises(TypeError, match="does not name its labels"):
        label_field(create_model("Two", kind=(Literal["a"], ...), note=(str, "")), [])
