"""What a claims team can use: facts that are in the text, a person's word, a judge that is measured, lists in states."""

import itertools
import logging
import operator
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, PromptTransfer
from langchain_dsplus.graphs import Adjudicator, Review, SwapCheck, Triage, create_dispute_graph
from langchain_dsplus.graphs.grounding import grounded, in_text
from langchain_dsplus.transfer import Decompose

STATEMENT = (
    "The evening was quiet. My neighbor Sven Holm played music until 2 at night. I am a person who "
    "needs sleep. I knocked and asked him to stop, and he did not answer. So I cut the cable of his stereo."
)


class Structured(GenericFakeChatModel):
    """Answers with one tool call, as LangChain's own `with_structured_output` asks for."""

    def bind_tools(self, tools, **kwargs):
        return self

    _stream = BaseChatModel._stream  # none: whole messages


def judge(*verdicts):
    calls = [{"name": "Verdict", "args": verdict, "id": "call"} for verdict in verdicts]
    return Structured(messages=iter([AIMessage("", tool_calls=[call]) for call in calls]))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


async def call(runnable, value, async_, config=None):
    return await runnable.ainvoke(value, config) if async_ else runnable.invoke(value, config)


# --- facts and quotes -----------------------------------------------------------------------------------------------

WORDS = STATEMENT.split()


@given(start=st.integers(0, len(WORDS) - 1), length=st.integers(1, 9), data=st.data())
def test_any_run_of_the_texts_own_words_is_in_it(start, length, data):
    span = " ".join(WORDS[start : start + length])
    written = data.draw(st.sampled_from([span, span.upper(), f' "{span}" ', span.replace(" ", "  "), f"{span} ..."]))
    if any(c.isalnum() for c in span):
        assert in_text(written, STATEMENT)


@given(start=st.integers(0, len(WORDS) - 3), length=st.integers(2, 9), place=st.integers(0, 8))
def test_a_run_with_a_word_that_the_text_does_not_have_is_not(start, length, place):
    span = WORDS[start : start + length]
    span.insert(place % (len(span) + 1), "deliberately")
    assert not in_text(" ".join(span), STATEMENT)


@pytest.mark.parametrize(
    ("span", "text", "found"),
    [
        ("The narrator cut the cable", "So I cut the cable.", True),
        ("I cut the cable", "The narrator cut the cable of his stereo.", True),
        ("the narrator's fence", "He kicked my fence.", True),
        ("He cut the cable", "So I cut the cable.", False),
        ("able", "So I cut the cable.", False),
        ("叙述者推了他", "然后我推了他一下。", True),
        ("他推了我", "然后我推了他一下。", False),
        ("", "anything", False),
        ("...", "anything...", False),
    ],
)
def test_the_narrator_is_one_person_and_words_are_whole(span, text, found):
    assert in_text(span, text) is found


async def test_a_verdict_keeps_only_what_the_text_has(async_):
    said = {
        "facts": ["So I cut the cable of his stereo.", "Sven Holm threatened the narrator."],
        "reasons": ['The narrator "cut the cable".', 'He "hit me first".', "Damage weighs more."],
        "verdict": "narrator",
    }
    graph = create_dispute_graph(None, judge(said), check=False)
    verdict = (await call(graph, {"statement": STATEMENT}, async_))["verdict"]
    assert verdict["facts"] == said["facts"][:1]
    assert verdict["reasons"] == [said["reasons"][0], said["reasons"][2]]
    assert verdict["quotes"] == ["cut the cable"]
    assert verdict["unsupported"] == [said["facts"][1], said["reasons"][1]]
    assert verdict["verdict"] == "narrator"


def test_fields_of_another_kind_are_left_alone():
    record = {"facts": "one text", "reasons": [1], "score": 3}
    assert grounded(record, STATEMENT) == record


# --- a person's word ------------------------------------------------------------------------------------------------

FIRST = {"facts": ["I cut the cable of his stereo"], "reasons": ["Damage weighs more."], "verdict": "narrator"}
SECOND = {"facts": [], "reasons": [], "verdict": "other party"}


async def reviewed(answer, async_):
    graph = create_dispute_graph(None, judge(FIRST, SECOND), review=True, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    state = await call(graph, {"statement": STATEMENT}, async_, config)
    assert state["verdict"]["verdict"] == "unclear"
    return (await call(graph, Command(resume=answer), async_, config))["verdict"]


async def test_a_person_who_overrules_replaces_the_facts(async_):
    verdict = await reviewed({"verdict": "both", "facts": ["It was 2 at night."], "reasons": ["Both acted."]}, async_)
    assert (verdict["verdict"], verdict["method"]) == ("both", "person")
    assert (verdict["facts"], verdict["reasons"]) == (["It was 2 at night."], ["Both acted."])
    assert verdict["overruled"] == {"verdict": "narrator", "facts": FIRST["facts"], "reasons": FIRST["reasons"]}


async def test_without_facts_of_their_own_there_are_none(async_):
    assert (await reviewed("other party", async_))["facts"] == []


async def test_a_person_who_confirms_keeps_the_facts(async_):
    verdict = await reviewed({"verdict": "narrator"}, async_)
    assert verdict["facts"] == FIRST["facts"]
    assert "overruled" not in verdict


# --- a judge that cannot judge --------------------------------------------------------------------------------------


def deciding(*verdicts):
    said = itertools.cycle(verdicts)
    return RunnableLambda(lambda _: next(said))


async def test_a_judge_that_contradicts_itself_cannot_judge(async_, caplog):
    caplog.set_level(logging.WARNING)
    # In pairs: it disagrees with itself in every other case.
    graph = create_dispute_graph(None, deciding("narrator", "narrator", "narrator", "other party"))
    states = [await call(graph, {"statement": f"{STATEMENT} {n}"}, async_) for n in range(14)]
    agreed = states[::2]
    assert [state["verdict"]["verdict"] for state in agreed[:5]] == ["narrator"] * 5
    late = [state for n, state in enumerate(states) if n > 9 and n % 2 == 0]
    assert [state["verdict"]["verdict"] for state in late] == ["unclear"] * len(late)
    assert {state["check"]["reason"] for state in late} == {"judge_unfit"}
    assert all(state["verdict"]["needs_review"] for state in late)
    assert states[8]["check"]["consistency"] is None
    assert states[9]["check"]["consistency"] == 0.5
    assert sum("cannot judge" in line for line in caplog.messages) == 1
    assert "stereo" not in caplog.text


async def test_a_consistent_judge_judges_on(async_, caplog):
    graph = create_dispute_graph(None, deciding("narrator"))
    states = [await call(graph, {"statement": STATEMENT}, async_) for _ in range(12)]
    assert {state["verdict"]["verdict"] for state in states} == {"narrator"}
    assert states[-1]["check"]["consistency"] == 1.0
    assert not any("cannot judge" in line for line in caplog.messages)


async def test_it_can_be_measured_on_cases_beforehand(async_):
    second = Adjudicator(model=deciding("other party"), input_key="statement", swapped=True)
    first = Adjudicator(model=deciding("narrator"), input_key="statement")
    check = SwapCheck(judge=second)
    cases = [f"{STATEMENT} {n}" for n in range(10)]
    found = await check.ameasure(first, cases) if async_ else check.measure(first, cases)
    assert found == check.consistency == 0.0
    verdict = {"verdict": "other party", "facts": [], "reasons": [], "error": None}
    out = await call(check, {"statement": STATEMENT, "verdict": verdict}, async_)
    assert (out["check"]["reason"], out["verdict"]["verdict"]) == ("judge_unfit", "unclear")
    lenient = SwapCheck(judge=second, min_consistency=0.0)
    lenient.measure(first, cases)
    assert lenient.invoke({"statement": STATEMENT, "verdict": verdict})["check"]["agree"]


# --- lists in states, and the custom stream -------------------------------------------------------------------------


class Lists(TypedDict, total=False):
    statement: str
    out: Annotated[list, operator.add]
    record: Annotated[list, operator.add]
    messages: Annotated[list, add_messages]
    verdict: Annotated[list, operator.add]
    check: Annotated[list, operator.add]


def router():
    small = FakeSmallModel({STATEMENT: {"narrator": 0.99, "both": 0.01}})
    return ConfidenceRouter(small=small, large=lambda _: "both", to_output=lambda a, _: a["choice"], threshold=0.9)


VERDICT = {"verdict": "narrator", "facts": [], "reasons": [], "error": None}
NODES = {
    "router": (lambda: router().as_node("statement", "out", "record"), ["out", "record"], "dsplus_route"),
    "messages": (
        lambda: ConfidenceRouter(
            small=FakeSmallModel({STATEMENT: {"a": 0.99, "b": 0.01}}), large=judge(FIRST), threshold=0.9
        ).as_node("statement", "messages"),
        ["messages"],
        "dsplus_route",
    ),
    "transfer": (
        lambda: PromptTransfer(
            lambda _: "He left.", input_key="statement", output_key="out", record_key="record", fidelity="off"
        ),
        ["out", "record"],
        "dsplus_transfer",
    ),
    "decompose": (
        lambda: Decompose(
            [PromptTransfer(lambda _: "He left.", fidelity="off")] * 2,
            input_key="statement",
            output_key="out",
            record_key="record",
        ),
        ["out", "record"],
        "dsplus_transfer",
    ),
    "adjudicate": (
        lambda: Adjudicator(model=deciding("narrator"), input_key="statement"),
        ["verdict"],
        "dsplus_verdict",
    ),
    "triage": (
        lambda: Triage(router(), route_key="record"),
        ["verdict", "record"],
        "dsplus_route",
    ),
    "check": (
        lambda: SwapCheck(judge=Adjudicator(model=deciding("both"), input_key="statement", swapped=True)),
        ["check"],
        "dsplus_check",
    ),
}


@pytest.mark.parametrize("name", NODES)
async def test_nodes_append_where_the_state_keeps_a_list(name, async_):
    make, keys, event = NODES[name]
    graph = StateGraph(Lists)
    graph.add_node("one", make())
    graph.add_node("two", make())
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", END)
    graph = graph.compile()
    value = {"statement": STATEMENT, **({"verdict": [VERDICT]} if name == "check" else {})}
    if async_:
        chunks = [chunk async for chunk in graph.astream(value, stream_mode=["custom", "values"])]
    else:
        chunks = list(graph.stream(value, stream_mode=["custom", "values"]))
    events = [chunk for mode, chunk in chunks if mode == "custom"]
    assert [found["type"] for found in events if found["type"] == event] == [event, event]
    state = chunks[-1][1]
    for key in keys:
        assert len(state[key]) == 2, key
    assert STATEMENT not in str(events) or name in {"router", "messages", "triage"}


@pytest.mark.parametrize("name", NODES)
def test_nodes_give_bare_values_elsewhere(name):
    make, keys, _ = NODES[name]
    out = make().invoke({"statement": STATEMENT, "verdict": VERDICT})
    assert not any(isinstance(out[key], list) for key in keys)


def test_a_person_decides_in_a_state_that_keeps_lists():
    graph = StateGraph(Lists)
    graph.add_node("review", Review())
    graph.add_edge(START, "review")
    graph = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    graph.invoke({"statement": STATEMENT, "verdict": [VERDICT]}, config)
    state = graph.invoke(Command(resume="both"), config)
    assert [verdict["verdict"] for verdict in state["verdict"]] == ["narrator", "both"]
