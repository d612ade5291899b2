"""Two replies make the same calls: generated calls, and what must not count or must."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from langchain_dsplus.chat_dsplus.calls import call_keys, same_calls
from langchain_dsplus.chat_dsplus.checks import answer_text, fits

SCALAR = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e6, 1e6) | st.text(max_size=8)
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ARGS = st.dictionaries(st.text(min_size=1, max_size=5), VALUE, max_size=4)
CALL = st.fixed_dictionaries({"name": st.sampled_from(["add", "now", "a.b"]), "args": ARGS})
CALLS = st.lists(CALL, max_size=4)


@tool
def book(city: str, nights: int, price: float = 80.0, breakfast: bool = False) -> str:
    """Book a room."""
    return city


def shuffled(value, rng):
    """The same JSON with its keys in another order and whole numbers as floats or integers."""
    if isinstance(value, dict):
        items = [(key, shuffled(part, rng)) for key, part in value.items()]
        rng.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(part, rng) for part in value]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return float(value)
    return value


def forms(calls):
    """The ways in which models and providers write calls."""
    yield calls
    yield json.dumps(calls)
    yield {"tool_calls": [{"name": call["name"], "arguments": call["args"]} for call in calls]}
    yield [{"type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["args"])}} for c in calls]
    yield AIMessage("", tool_calls=[{**call, "id": str(place)} for place, call in enumerate(calls)])
    if calls:
        yield answer_text(AIMessage("", tool_calls=[{**call, "id": "1"} for call in calls]))


@given(calls=CALLS, seed=st.integers(0, 99))
def test_neither_order_nor_form_counts(calls, seed):
    rng = random.Random(seed)
    other = shuffled(calls, rng)
    rng.shuffle(other)
    for form in forms(other):
        assert same_calls(calls, form), form
        assert same_calls(form, calls), form


@given(calls=st.lists(CALL, min_size=1, max_size=4), seed=st.integers(0, 99), value=SCALAR)
def test_what_differs_differs(calls, seed, value):
    rng = random.Random(seed)
    place = rng.randrange(len(calls))
    changed = json.loads(json.dumps(calls))
    changed[place]["args"]["one more"] = value
    assert not same_calls(calls, changed)
    assert not same_calls(calls, calls[:place] + calls[place + 1 :])
    assert not same_calls(calls, [*calls, calls[place]])  # a multiset: twice is not once
    renamed = [{**call, "name": call["name"] + "_"} if n == place else call for n, call in enumerate(calls)]
    assert not same_calls(calls, renamed)


@pytest.mark.parametrize(
    ("one", "other"), [(1, "1"), (1, True), (0, False), (0, None), ("", None), ([1], 1), ([1, 2], [2, 1])]
)
def test_types_and_the_order_of_lists_count(one, other):
    assert not same_calls([{"name": "f", "args": {"x": one}}], [{"name": "f", "args": {"x": other}}])


@given(calls=st.lists(CALL, min_size=1, max_size=3), share=st.floats(0.1, 0.99))
def test_a_cut_call_equals_nothing(calls, share):
    text = json.dumps(calls)
    cut = text[: max(1, int(len(text) * share))]
    assert call_keys(cut) is None
    assert not same_calls(cut, cut)
    assert not same_calls(cut, calls)


def test_a_malformed_call_equals_nothing():
    bad = {"name": "f", "args": "{", "id": "1", "error": "cut", "type": "invalid_tool_call"}
    message = AIMessage("", invalid_tool_calls=[bad])
    assert not same_calls(message, message)
    for call in ({"name": "f", "args": [1]}, {"name": "f", "arguments": "{"}, {"name": "f", "args": float("nan")}):
        assert not same_calls([call], [call])
    assert not same_calls([{"name": "f", "args": {}}, 3], [{"name": "f", "args": {}}])


def test_replies_without_a_call_are_the_same():
    assert same_calls("Hello.", AIMessage("Good day."))
    assert same_calls("[]", [])
    assert not same_calls("Hello.", [{"name": "f", "args": {}}])


@pytest.mark.parametrize("form", ["tool", "schema"])
def test_arguments_are_what_the_tool_gets(form):
    parameters = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "price": {"type": "number", "default": 80.0},
            "breakfast": {"type": "boolean", "default": False},
        },
        "required": ["city", "nights"],
    }
    tools = [book] if form == "tool" else [{"type": "function", "function": {"name": "book", "parameters": parameters}}]

    def call(**args):
        return [{"name": "book", "args": args}]

    full = call(city="Bonn", nights=2, price=80, breakfast=False)
    assert same_calls(call(city="Bonn", nights=2), full, tools)
    assert same_calls(call(city="Bonn", nights=2.0), full, tools)
    assert not same_calls(call(city="Bonn", nights=2), full)  # nobody knows the defaults
    for wrong in (
        call(city="Bonn"),  # a required argument is missing
        call(city="Bonn", nights="2"),
        call(city=3, nights=2),
        call(city="Bonn", nights=2.5),
        call(city="Bonn", nights=2, breakfast=1),
        [{"name": "hotel", "args": {}}],
    ):
        assert not same_calls(wrong, wrong, tools), wrong


@pytest.mark.parametrize("value", [True, False, "1", None, 2, [1]])
@pytest.mark.parametrize("schema", [{"enum": [1, 0]}, {"const": 1}, {"type": "integer", "enum": [1]}])
def test_an_enumeration_holds_values_of_their_own_type(schema, value):
    assert fits(1, schema)
    assert fits(1.0, schema)
    assert not fits(value, schema)
