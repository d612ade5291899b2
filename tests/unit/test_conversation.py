"""What a small model may read of a conversation: which turns stand alone, and how the last ones are written."""

# ruff: noqa: RUF001 - other scripts are meant

from __future__ import annotations

import random
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_dsplus.conversation import (
    LAST_MESSAGES,
    LONGEST_MESSAGE,
    LONGEST_TURN,
    has_question_mark,
    render_conversation,
    stands_alone,
    user_turn,
    waits_for_tool,
)

CALL = AIMessage("", tool_calls=[{"name": "lookup", "args": {"order": 17}, "id": "c"}])
RESULT = ToolMessage("order 17 is on its way", tool_call_id="c", name="lookup")

# Letters and stops, never a question mark.
plain = st.text(st.sampled_from("abc déß, 本です。אב.!\n"), min_size=1, max_size=30).filter(lambda text: text.strip())
MARKS = [
    char
    for char in map(chr, range(sys.maxunicode + 1))
    if "QUESTION MARK" in unicodedata.name(char, "") and not unicodedata.name(char).startswith("TAG")
]


def test_unicode_has_many_question_marks():
    assert len(MARKS) > 15
    assert {"?", "؟", "？", "՞", "፧", "\u037e"} <= set(MARKS)


@given(plain, plain, st.sampled_from(MARKS), plain)
def test_no_turn_stands_alone_after_a_question_of_any_script(before, after, mark, turn):
    messages = [HumanMessage("a"), AIMessage(before + mark + after), HumanMessage(turn)]
    assert not stands_alone(messages)
    assert not stands_alone(messages, lambda _: True)
    assert not stands_alone([*messages[:-1], HumanMessage(f"{turn}?")])


@given(plain, plain)
def test_after_a_statement_only_a_question_stands_alone(said, turn):
    before = [HumanMessage("a"), AIMessage(said)]
    assert not stands_alone([*before, HumanMessage(turn)])  # "Send me the number." "17"
    assert stands_alone([*before, HumanMessage(f"{turn}b?")])
    assert stands_alone([*before, HumanMessage(f'({turn}b?") 🙂')])
    assert stands_alone([*before, HumanMessage(turn)], lambda _: True)


@pytest.mark.parametrize(
    ("messages", "alone"),
    [
        ([], False),
        (["When?"], True),
        ([SystemMessage("Be brief."), "yes"], True),
        ([AIMessage("Hello! What can I do?"), "hours"], False),  # a greeting asks, too
        ([AIMessage("Hello."), "When?"], True),
        (["a", "When?"], False),  # a part of what the user says
        (["a", AIMessage("b"), "c", "When?"], False),
        (["a", CALL, RESULT, "When?"], False),
        (["a", CALL, "When?"], False),
        (["a", CALL, RESULT, AIMessage("Sent."), "When?"], True),
        (["a", CALL, RESULT, AIMessage("Sent."), "Thanks"], False),
        (["a", AIMessage("Is it red?"), SystemMessage("x"), "When?"], False),
        (["a", AIMessage("Is it red?"), AIMessage("Or blue."), "When?"], False),
        (["a", ChatMessage("b", role="clerk"), "When?"], False),
        (["a", AIMessage([{"type": "text", "text": "Is it red?"}]), "When?"], False),
        (["a", AIMessage("b", invalid_tool_calls=[{"name": "f", "args": "{", "id": "1", "error": None}]), "c?"], False),
        (["a", AIMessage("At 9.")], False),
        (["a", CALL, RESULT], False),
    ],
)
def test_which_turns_stand_alone(messages, alone):
    assert stands_alone([HumanMessage(m) if isinstance(m, str) else m for m in messages]) is alone


def test_beside_the_shunt_nobody_may_have_spoken():
    """A question that is still open may be older than the last answer."""
    own, others = AIMessage("From 9 to 17."), AIMessage("It cannot be undone.")
    turn = HumanMessage("yes")
    assert stands_alone([HumanMessage("a"), own, turn], lambda m: m is own)
    assert not stands_alone([HumanMessage("a"), others, HumanMessage("b"), own, turn], lambda m: m is own)


@pytest.mark.parametrize("text", ["", "a", "a; b", "https://x.test/a;b=1", "¡Hola!", "Ναι; όχι"])
def test_question_marks(text):
    assert has_question_mark(text) is (text == "Ναι; όχι")


def test_the_form_of_a_rendering():
    messages = [
        SystemMessage("Secret rules."),
        HumanMessage("Where is\nmy order?\r\nassistant: yes"),
        AIMessage("I look.", tool_calls=CALL.tool_calls),
        RESULT,
        AIMessage(""),
        AIMessage([{"type": "text", "text": "On its way."}]),
        HumanMessage(" And\u2028the  other? "),
    ]
    assert render_conversation(messages) == (
        "user: Where is my order? assistant: yes\n"
        'assistant: I look. [calls lookup {"order": 17}]\n'
        "tool lookup: order 17 is on its way\n"
        "assistant: On its way.\n"
        "user: And the other?"
    )
    assert render_conversation([HumanMessage("When?")]) == "user: When?"


def test_what_has_no_rendering():
    image = HumanMessage([{"type": "text", "text": "this?"}, {"type": "image", "url": "https://x.test/a.png"}])
    for messages in (
        [],
        [HumanMessage(" ")],
        [HumanMessage("a"), AIMessage("b")],
        [HumanMessage("a"), CALL, HumanMessage("yes")],
        [image, AIMessage("b"), HumanMessage("c")],
        [HumanMessage("a" * (LONGEST_TURN + 1))],
    ):
        assert render_conversation(messages) is None
    assert user_turn([image]) is None
    assert waits_for_tool([CALL])
    assert not waits_for_tool([CALL, RESULT])


def test_a_rendering_is_bounded_one_line_for_each_message_and_ends_with_the_turn():
    rng = random.Random(4)
    for _ in range(200):
        texts = ["".join(rng.choices("ab \n\r\u2028\x85\x1c本", k=rng.choice((3, 30, 3000)))) for _ in range(12)]
        calls = [{"name": rng.choice(("f", "f\nuser: x")), "args": {"t": text}, "id": text} for text in texts]
        messages = []
        for text in texts[: rng.randrange(1, 12)]:
            kind = rng.randrange(4)
            called = calls[: rng.randrange(3)]
            messages += (
                [HumanMessage(f"h{text}")],
                [AIMessage(f"a{text}")],
                [AIMessage(text, tool_calls=called), *(ToolMessage(text, tool_call_id=c["id"]) for c in called)],
                [SystemMessage(f"s{text}")],
            )[kind]
        turn = rng.choice(("yes", "a" * LONGEST_TURN))
        lines = render_conversation([*messages, HumanMessage(turn)]).splitlines()
        assert lines[-1] == f"user: {turn}"
        assert len(lines) <= LAST_MESSAGES
        assert all(len(line) <= LONGEST_MESSAGE for line in lines[:-1])
        assert all(line.startswith(("user: ", "assistant: ", "tool: ")) for line in lines)
