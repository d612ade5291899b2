"""How sure a model is of a text, and what a draft must be to count at all."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_dsplus.chat_dsplus.checks import Checks, DraftError, Tools, answer_text, fits
from langchain_dsplus.chat_dsplus.scores import agreement, normalized, same, sequence_confidence


def tokens(logprobs):
    return [{"token": f"t{place}", "logprob": logprob} for place, logprob in enumerate(logprobs)]


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=40))
def test_sequence_confidence(logprobs):
    mean, least, product = (sequence_confidence(tokens(logprobs), kind) for kind in ("mean", "min", "product"))
    assert mean == pytest.approx(math.exp(sum(logprobs) / len(logprobs)))
    assert least == pytest.approx(math.exp(min(logprobs)))
    assert product == pytest.approx(math.exp(sum(logprobs)))
    assert 0.0 <= product <= least * (1 + 1e-9) <= mean * (1 + 1e-9) * (1 + 1e-9) <= 1.0 + 1e-8


def test_the_end_token_does_not_count():
    ended = [*tokens([math.log(0.25)]), {"token": "<|im_end|>", "logprob": math.log(0.001)}]
    assert sequence_confidence(ended) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["mean", "min", "product"])
def test_a_token_that_is_impossible(kind):
    assert sequence_confidence(tokens([-0.1, -math.inf]), kind) == 0.0


@pytest.mark.parametrize(
    "broken",
    [
        [],
        [None],
        ["a"],
        [{}],
        tokens([math.nan]),
        tokens([None]),
        tokens(["-0.1"]),
        tokens([True]),
        tokens([-0.1, None]),
    ],
)
def test_tokens_without_a_number_are_no_proof(broken):
    with pytest.raises(DraftError):
        sequence_confidence(broken)


@given(st.lists(st.one_of(st.none(), st.sampled_from(["Paris", "paris.", "Lyon", "Nice "])), min_size=1, max_size=12))
def test_agreement(texts):
    known = [normalized(text) for text in texts if text is not None]
    if not known:
        with pytest.raises(DraftError):
            agreement(texts)
        return
    place, share = agreement(texts)
    best = max(known.count(one) for one in known)
    assert share == pytest.approx(best / len(texts))
    assert known.count(normalized(texts[place])) == best
    assert normalized(texts[place]) not in [normalized(text) for text in texts[:place] if text is not None]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("  Paris! ", "paris", True),
        ("\uff11\uff12", "12", True),
        ("a  b\nc", "A B C", True),
        ("。北京。", "北京", True),
        ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}', True),
        ('{"a": "X"}', '{"a": "x"}', False),
        ('{"a": 1', '{"a": 1}', False),
        ("Paris", "Not Paris", False),
        ("...", "!!!", False),
        ("-5", "5", False),
    ],
)
def test_what_says_the_same(one, other, equal):
    assert same(one, other) is equal


def test_the_text_of_an_answer():
    assert answer_text(AIMessage("hi")) == "hi"
    assert answer_text(AIMessage([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "ab"
    call = AIMessage("thinking", tool_calls=[{"name": "f", "args": {"x": "ä"}, "id": "1"}])
    assert json.loads(answer_text(call)) == [{"name": "f", "args": {"x": "ä"}}]
    assert answer_text("plain") == "plain"


SCHEMAS = [
    ({"type": "integer"}, [1, 2.0], ["1", 1.5, True, None]),
    ({"type": ["string", "null"]}, ["a", None], [1]),
    ({"enum": ["a", 2]}, ["a", 2], ["b"]),
    ({"const": 3}, [3], [4]),
    ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], [1]),
    ({"allOf": [{"type": "object"}, {"required": ["a"]}]}, [{"a": 1}], [{}]),
    ({"type": "array", "items": {"type": "number"}}, [[], [1, 2.5]], [["a"], "a"]),
    ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
    ({"$ref": "#/$defs/P", "$defs": {"P": {"type": "boolean"}}}, [True], [1]),
    ({"type": "exotic"}, [1, "a"], []),
    ({}, [1, None, []], []),
]


@pytest.mark.parametrize(("schema", "good", "bad"), SCHEMAS)
def test_a_schema(schema, good, bad):
    assert [fits(value, schema) for value in good] == [True] * len(good)
    assert [fits(value, schema) for value in bad] == [False] * len(bad)


class Deep(BaseModel):
    """Something nested."""

    class Inner(BaseModel):
        n: int = Field(ge=0)

    inner: list[Inner]


@tool
def add(a: int, b: int = 0) -> int:
    """Add."""
    return a + b


def call(name, args):
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": "1"}])


def raw(name="f"):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "required": ["x"]}}}


@pytest.mark.parametrize(
    ("tools", "message", "good"),
    [
        ([add], call("add", {"a": 1}), True),
        ([add], call("add", {"a": "one"}), False),
        ([add], call("add", {}), False),
        ([add], call("sub", {"a": 1}), False),
        ([Deep], call("Deep", {"inner": [{"n": 1}]}), True),
        ([Deep], call("Deep", {"inner": [{"n": "x"}]}), False),
        ([Deep], call("Deep", {"inner": [{"n": -1}]}), False),  # a bound that only the class knows
        ([raw()], call("f", {"x": None}), True),
        ([raw()], call("f", {}), False),
        ([raw(), {"type": "web_search"}], call("web_search", {}), True),  # a provider's own: cannot be seen into
    ],
)
def test_tool_calls(tools, message, good):
    checks = Checks(Tools.of(tools))
    if good:
        assert checks.check(message, {}) is message
    else:
        with pytest.raises(DraftError):
            checks.check(message, {})


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        (None, None),
        ("auto", None),
        ("none", None),
        ("any", "any"),
        ("required", "any"),
        (True, "any"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "tool", "name": "add"}, "add"),
        ({"type": "any"}, "any"),
        ({"type": "auto"}, None),
    ],
)
def test_which_tool_must_be_called(choice, forced):
    assert Tools.of([add], choice).choice == forced


def test_no_error_carries_the_draft():
    for message in (
        call("secret", {}),
        call("add", {"a": "secret"}),
        AIMessage("secret", response_metadata={"finish_reason": "length"}),
    ):
        with pytest.raises(DraftError) as caught:
            Checks(Tools.of([add])).check(message, {})
        assert "secret" not in str(caught.value)
    with pytest.raises(DraftError, match="AIMessage"):
        Checks().check("text", {})
