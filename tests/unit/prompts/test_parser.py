"""`LabelParser`: replies of the large model to offered labels."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core._api import LangChainBetaWarning
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, Generation

from langchain_dsplus.prompts.parser import LabelParser, named_label

LABELS = ["card", "card_arrival", "lost_card"]


def reply(text, *tokens):
    """A message with the log-probabilities of its tokens: `(sampled, {alternative: p})`."""
    content = [
        {
            "token": sampled,
            "logprob": math.log(listed[sampled]),
            "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in listed.items()],
        }
        for sampled, listed in tokens
    ]
    return AIMessage(text, response_metadata={"logprobs": {"content": content}})


async def parse(parser, value, async_):
    return await parser.ainvoke(value) if async_ else parser.invoke(value)


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        "Card arrival.",
        AIMessage("card_arrival"),
        AIMessage([{"type": "text", "text": "It is card_arrival."}]),
        {"output": "card_arrival"},
        {"output": AIMessage("card_arrival"), "candidates": ["card_arrival", "card"]},
    ],
)
async def test_a_label(value, async_):
    assert await parse(LabelParser(LABELS), value, async_) == "card_arrival"


@pytest.mark.parametrize("async_", [False, True])
async def test_a_miss_says_what_to_do_and_keeps_the_text_out_of_the_message(async_):
    with pytest.raises(OutputParserException, match="fallback") as caught:
        await parse(LabelParser(LABELS), "my number is 4711", async_)
    assert "4711" not in str(caught.value)
    assert caught.value.llm_output == "my number is 4711"


@pytest.mark.parametrize(
    "text", ["card_arrival", "It is card arrival.", "card arrival, surely", "nothing", "card or lost_card"]
)
def test_only_offered_candidates_count(text):
    parser = LabelParser(LABELS)
    with pytest.raises(OutputParserException):
        parser.invoke({"output": text, "candidates": ["card", "lost_card"]})


def test_the_fallback():
    parser = LabelParser(LABELS, fallback="card")
    assert parser.invoke("nothing") == "card"
    assert LabelParser(LABELS, fallback="card", output="answer").invoke("nothing") == {
        "choice": "card",
        "probabilities": {},
        "confidence": 0.0,
    }
    with pytest.raises(ValueError, match="fallback"):
        LabelParser(LABELS, fallback="other")


def test_logprobs_decide_where_the_text_does_not():
    unclear = reply("card or lost_card", ("lost", {"lost": 0.7, "card": 0.1, "Card": 0.1, "x": 0.1}))
    assert LabelParser(LABELS).invoke(unclear) == "lost_card"
    vague = reply("hm", ("hm", {"hm": 0.6, "lost": 0.3}))
    with pytest.raises(OutputParserException):
        LabelParser(LABELS).invoke(vague)
    assert LabelParser(LABELS, min_mass=0.2).invoke(vague) == "lost_card"


def test_logprobs_of_a_label_that_was_not_offered_do_not_help_the_one_inside_it():
    message = reply("card_arrival", ("card", {"card": 1.0}), ("_arrival", {"_arrival": 0.9, "": 0.1}))
    with pytest.raises(OutputParserException):
        LabelParser(LABELS).invoke({"output": message, "candidates": ["card", "lost_card"]})
    low = LabelParser(LABELS, min_mass=0.05)
    assert low.invoke({"output": message, "candidates": ["card", "lost_card"]}) == "card"


def test_an_answer_carries_the_probabilities_of_the_offered_labels():
    message = reply("lost_card", ("lost", {"lost": 0.6, "card": 0.2}), ("_card", {"_card": 1.0}))
    answer = LabelParser(LABELS, output="answer").invoke({"output": message, "candidates": ["card", "lost_card"]})
    assert answer["choice"] == "lost_card"
    assert list(answer["probabilities"]) == LABELS
    assert answer["probabilities"]["card_arrival"] == 0.0
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert answer["confidence"] == answer["probabilities"]["lost_card"]
    # 0.6 was seen to be its own; 0.1 the other candidate's ("card" may go on), and 0.2 nobody's that was listed.
    assert answer["confidence"] == pytest.approx(0.6 / 0.9)


def test_an_answer_from_a_text_alone():
    assert LabelParser(LABELS, output="answer").invoke("card") == {
        "choice": "card",
        "probabilities": {"card": 1.0, "card_arrival": 0.0, "lost_card": 0.0},
        "confidence": 1.0,
    }
    other = reply("card", ("lost", {"lost": 1.0}))
    assert LabelParser(LABELS, output="answer").invoke(other)["choice"] == "card"


def test_it_works_as_an_output_parser():
    parser = LabelParser(LABELS)
    assert parser.parse_result([ChatGeneration(message=AIMessage("card")), Generation(text="lost_card")]) == "card"
    assert parser.parse_result([Generation(text="lost_card")]) == "lost_card"
    chain = FakeListChatModel(responses=["card_", "lost_card"]) | parser
    assert chain.batch(["a", "b"], return_exceptions=True)[1] == "lost_card"


async def test_a_stream_is_read_as_a_whole():
    chain = FakeListChatModel(responses=["card_arrival"]) | LabelParser(LABELS)
    assert list(chain.stream("x")) == ["card_arrival"]
    assert [part async for part in chain.astream("x")] == ["card_arrival"]
    chunks = [{"output": AIMessageChunk("lost")}]
    with pytest.raises(OutputParserException):
        LabelParser(LABELS).invoke(chunks[0])


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (3, TypeError),
        (None, TypeError),
        ({"text": "card"}, TypeError),
        ({"output": "card", "candidates": []}, ValueError),
        ({"output": "card", "candidates": ["other"]}, ValueError),
        ({"output": "card", "candidates": "card"}, ValueError),
    ],
)
def test_wrong_inputs(value, error):
    with pytest.raises(error):
        LabelParser(LABELS).invoke(value)


@pytest.mark.parametrize("candidates", [[["card"]], [{}], [None], 3, {"card"}])
def test_candidates_must_be_labels(candidates):
    with pytest.raises(ValueError, match="candidates"):
        LabelParser(LABELS).invoke({"output": "card", "candidates": candidates})


@pytest.mark.parametrize("text", ["I can't classify this as card or lost_card.", "Is it lost_card? No."])
def test_refusals_are_misses(text):
    with pytest.raises(OutputParserException):
        LabelParser(LABELS).invoke(text)


def test_wrong_arguments():
    for kwargs in ({"labels": []}, {"labels": ["a", "a"]}, {"labels": ["a"], "min_mass": 0.0}):
        with pytest.raises(ValueError, match=r"labels|min_mass"):
            LabelParser(**kwargs)


def test_schemas():
    assert LabelParser(LABELS).output_schema.model_json_schema()["type"] == "string"
    schema = LabelParser(LABELS, output="answer").output_schema.model_json_schema()
    assert set(schema["$defs"]["Answer"]["properties"]) == {"choice", "probabilities", "confidence"}


def test_dumps_and_loads():
    parser = LabelParser(["a{b}", "two\nlines"], output="answer", fallback="a{b}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        again = loads(dumps(parser), allowed_objects=[LabelParser], valid_namespaces=["langchain_dsplus"])
    assert again == parser


@given(
    labels=st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=5, unique=True),
    data=st.data(),
)
def test_every_label_comes_back_and_nothing_else_ever_does(labels, data):
    parser = LabelParser(labels)
    label = data.draw(st.sampled_from(labels))
    assert parser.invoke(label) == label
    offered = data.draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
    text = data.draw(st.one_of(st.text(max_size=30), st.sampled_from(labels)))
    try:
        assert parser.invoke({"output": text, "candidates": offered}) in offered
    except OutputParserException:
        assert text not in offered


# --- labels in outputs of any kind ----------------------------------------------------------------------------------


class Holder:
    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("card", "card"),
        ("  The answer is: Card arrival.", "card_arrival"),
        (AIMessage("card"), "card"),
        (AIMessage([{"type": "text", "text": "card_arrival"}]), "card_arrival"),
        ({"choice": "card", "probabilities": {}, "confidence": 0.0}, "card"),
        ({"intent": "card"}, "card"),
        (Holder(intent="card"), "card"),
        (Holder(choice="card", why="x"), "card"),
        ("card or card_arrival", None),
        ({"a": "card", "b": "x"}, None),
        ({"a": 3}, None),
        (Holder(), None),
        (None, None),
        (3, None),
        (["card"], None),
    ],
)
def test_named_label(output, expected):
    assert named_label(output, ["card", "card_arrival"]) == expected
