"""The second verdict, the person, and the triage of the dispute graph, with scripted models."""

import itertools
import json

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.graphs import (
    VERDICTS,
    Adjudicator,
    DisputeState,
    GraphContext,
    Review,
    SwapCheck,
    Triage,
    create_dispute_graph,
)
from langchain_dsplus.graphs.triage import settled
from langchain_dsplus.routing.decision import SettingsError

STATEMENT = "My neighbor Jon Ruiz parked on my lawn for 2 days. I let the air out of his tires."


class Judge:
    """Answers in turn, as a Runnable from messages to one word; remembers what it was sent."""

    def __init__(self, *words, default=None):
        self.words, self.default, self.sent = list(words), default, []

    def __call__(self, messages):
        self.sent.append(messages)
        return self.words.pop(0) if self.words else self.default

    @property
    def runnable(self):
        return RunnableLambda(self)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def async_(request):
    return request.param


async def call(graph, value, async_, config=None, **kwargs):
    return await graph.ainvoke(value, config, **kwargs) if async_ else graph.invoke(value, config, **kwargs)


def strict_saver():
    return InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))


def thread(number=1):
    return {"configurable": {"thread_id": str(number)}}


# --- the check ------------------------------------------------------------------------------------------------------


async def test_two_equal_verdicts_stand(async_):
    judge = Judge("narrator", "narrator")
    state = await call(create_dispute_graph(None, judge.runnable), {"statement": STATEMENT}, async_)
    assert state["verdict"]["verdict"] == "narrator"
    assert "needs_review" not in state["verdict"]
    check = state["check"]
    assert (check["agree"], check["reason"], check["first"], check["second"]["verdict"]) == (
        True,
        None,
        "narrator",
        "narrator",
    )


async def test_the_second_time_the_parties_are_swapped(async_):
    judge = Judge("both", "both")
    await call(create_dispute_graph(None, judge.runnable), {"statement": STATEMENT}, async_)
    (first_system, first), (second_system, second) = judge.sent
    assert "the narrator or the other party?" in first.text
    assert '"narrator", "other party", "both", "unclear"' in first.text
    assert "the other party or the narrator?" in second.text
    assert '"unclear", "both", "other party", "narrator"' in second.text
    assert first.text.split("\n\n")[0] == second.text.split("\n\n")[0], "the statement itself stays as it is"
    assert "the other party is the one who asks" not in first_system.text
    assert "other party is the one who asks" in second_system.text


def test_the_schema_offers_the_verdicts_in_reverse():
    shown = []

    class Large(FakeListChatModel):
        def with_structured_output(self, schema, **kwargs):
            shown.append(schema["properties"]["verdict"]["enum"])
            return RunnableLambda(lambda _: {"raw": AIMessage(""), "parsed": None, "parsing_error": None})

    for swapped in (False, True):
        Adjudicator(model=Large(responses=["x"]), swapped=swapped)
    assert shown == [list(VERDICTS), list(VERDICTS)[::-1]]


class Winner:
    """A judge that holds the one who asks to be right."""

    def __call__(self, messages):
        return "narrator" if "who asks you now" in messages[0].text else "other party"


async def test_a_judge_that_sides_with_whoever_asks_is_found_out(async_):
    graph = create_dispute_graph(None, RunnableLambda(Winner()))
    state = await call(graph, {"statement": STATEMENT}, async_)
    assert (state["verdict"]["verdict"], state["verdict"]["needs_review"]) == ("unclear", True)
    check = state["check"]
    assert (check["agree"], check["reason"], check["first"]) == (False, "disagreement", "other party")
    assert check["second"]["verdict"] == "narrator"
    assert json.loads(json.dumps(state, allow_nan=False)) == state


async def test_an_unreadable_verdict_does_not_stand_and_no_second_is_paid_for(async_):
    judge = Judge("I cannot tell you that", default="both")
    state = await call(create_dispute_graph(None, judge.runnable), {"statement": STATEMENT}, async_)
    assert len(judge.sent) == 1
    assert (state["check"]["reason"], state["check"]["second"]) == ("unreadable", None)
    assert state["verdict"]["needs_review"] is True


async def test_an_unreadable_second_verdict_is_none(async_):
    judge = Judge("both", "hm")
    state = await call(create_dispute_graph(None, judge.runnable), {"statement": STATEMENT}, async_)
    assert (state["check"]["reason"], state["verdict"]["verdict"]) == ("unreadable", "unclear")


async def test_unclear_twice_is_a_verdict(async_):
    judge = Judge("unclear", "unclear")
    state = await call(create_dispute_graph(None, judge.runnable), {"statement": STATEMENT}, async_)
    assert state["check"]["agree"] is True
    assert state["verdict"]["verdict"] == "unclear"
    assert "needs_review" not in state["verdict"]


async def test_no_statement_is_no_case_for_anybody(async_):
    judge = Judge()
    graph = create_dispute_graph(None, judge.runnable, review=True, checkpointer=strict_saver())
    state = await call(graph, {"statement": " "}, async_, thread())
    assert judge.sent == []
    assert state["check"]["agree"] is True
    assert "__interrupt__" not in state


async def test_another_model_checks(async_):
    judge, other = Judge("both"), Judge("narrator")
    graph = create_dispute_graph(None, judge.runnable, check=other.runnable)
    state = await call(graph, {"statement": STATEMENT}, async_)
    assert (len(judge.sent), len(other.sent), state["check"]["reason"]) == (1, 1, "disagreement")


class Sure(BaseModel):
    """A verdict that says how sure it is."""

    verdict: str
    confidence: float


class Speaker(FakeListChatModel):
    """Gives verdicts with a confidence."""

    verdicts: list = []

    def with_structured_output(self, schema, **kwargs):
        def answer(_):
            verdict, confidence = self.verdicts.pop(0)
            return {"raw": AIMessage(""), "parsed": Sure(verdict=verdict, confidence=confidence), "parsing_error": None}

        return RunnableLambda(answer)


def speaker(*verdicts):
    return Speaker(responses=["x"], verdicts=list(verdicts))


@pytest.mark.parametrize(
    ("verdicts", "least", "reason", "calls"),
    [
        ([("both", 0.9), ("both", 0.8)], 0.8, None, 2),
        ([("both", 0.7), ("both", 0.8)], 0.8, "low_confidence", 1),
        ([("both", 0.9), ("both", 0.79)], 0.8, "low_confidence", 2),
        ([("both", 0.9), ("narrator", 0.1)], 0.8, "disagreement", 2),
        ([("both", 0.1), ("both", 0.1)], None, None, 2),
    ],
)
async def test_low_confidence_does_not_stand(async_, verdicts, least, reason, calls):
    large = speaker(*verdicts)
    graph = create_dispute_graph(None, large, verdict_schema=Sure, min_confidence=least)
    state = await call(graph, {"statement": STATEMENT}, async_)
    assert (state["check"]["reason"], len(verdicts) - len(large.verdicts)) == (reason, calls)
    # The same least confidence for one run: by the graph's context, or by the config, which wins.
    graph = create_dispute_graph(None, speaker(*verdicts), verdict_schema=Sure)
    state = await call(
        graph, {"statement": STATEMENT}, async_, context=GraphContext(dsplus_min_confidence=least or 0.0)
    )
    assert state["check"]["reason"] == reason
    graph = create_dispute_graph(None, speaker(*verdicts), verdict_schema=Sure)
    config = {"configurable": {"dsplus_min_confidence": least or 0.0}}
    state = await call(graph, {"statement": STATEMENT}, async_, config, context={"dsplus_min_confidence": 0.99})
    assert state["check"]["reason"] == reason


async def test_without_a_second_verdict_the_confidence_alone_is_held_to(async_):
    for confidence, stands in ((0.9, True), (0.4, False)):
        large = speaker(("both", confidence))
        graph = create_dispute_graph(None, large, verdict_schema=Sure, check=False, min_confidence=0.5)
        state = await call(graph, {"statement": STATEMENT}, async_)
        assert state["check"]["agree"] is stands
        assert state["check"]["second"] is None


@pytest.mark.parametrize("least", [1.5, "much", True, float("nan")])
def test_a_run_cannot_ask_for_nonsense(least):
    graph = create_dispute_graph(None, Judge("both", "both").runnable)
    with pytest.raises(ValueError, match="dsplus_min_confidence"):
        graph.invoke({"statement": STATEMENT}, {"configurable": {"dsplus_min_confidence": least}})


async def test_a_run_may_only_be_stricter(async_):
    for least, refused in ((0.0, True), (0.79, True), (0.8, False), (0.95, False)):
        graph = create_dispute_graph(None, speaker(*[("both", 0.9)] * 2), verdict_schema=Sure, min_confidence=0.8)
        config = {"configurable": {"dsplus_min_confidence": least}}
        if refused:
            with pytest.raises(SettingsError, match="looser"):
                await call(graph, {"statement": STATEMENT}, async_, config)
        else:
            state = await call(graph, {"statement": STATEMENT}, async_, config)
            assert state["check"]["agree"] is (least <= 0.9)


def test_the_check_needs_a_verdict():
    with pytest.raises(TypeError, match="verdict_key"):
        SwapCheck().invoke({"statement": STATEMENT})


# --- the person -----------------------------------------------------------------------------------------------------


async def test_a_person_decides_and_nothing_is_paid_for_twice(async_):
    judge = Judge("narrator", "other party")
    graph = create_dispute_graph(None, judge.runnable, review=True, checkpointer=strict_saver())
    stopped = await call(graph, {"statement": STATEMENT}, async_, thread())
    (pause,) = stopped["__interrupt__"]
    asked = pause.value
    assert json.loads(json.dumps(asked, allow_nan=False)) == asked
    assert asked["options"] == list(VERDICTS)
    assert asked["statement"] == STATEMENT
    assert asked["check"]["first"] == "narrator"
    assert asked["check"]["second"]["verdict"] == "other party"
    assert graph.get_state(thread()).next == ("review",)
    assert stopped["verdict"]["needs_review"] is True

    # An answer that is none is asked for again.
    for wrong, message in (({"verdict": "the moon"}, "must be one of"), (7, "answer with"), ({"reasons": []}, "with")):
        again = await call(graph, Command(resume=wrong), async_, thread())
        assert message in again["__interrupt__"][0].value["error"]
        assert "moon" not in again["__interrupt__"][0].value["error"]
    resume = Command(resume={"verdict": "both", "reasons": ["each did damage"]})
    state = await call(graph, resume, async_, thread())
    assert "__interrupt__" not in state
    verdict = state["verdict"]
    assert (verdict["verdict"], verdict["reasons"], verdict["method"]) == ("both", ["each did damage"], "person")
    assert verdict["needs_review"] is False
    assert graph.get_state(thread()).next == ()
    assert len(judge.sent) == 2
    assert json.loads(json.dumps(state, allow_nan=False)) == state


async def test_nobody_is_asked_where_the_verdicts_agree(async_):
    judge = Judge("both", "both")
    graph = create_dispute_graph(None, judge.runnable, review=True, checkpointer=strict_saver())
    state = await call(graph, {"statement": STATEMENT}, async_, thread())
    assert "__interrupt__" not in state
    assert state["verdict"]["method"] == "text"


async def test_one_word_is_an_answer_too(async_):
    graph = create_dispute_graph(None, Judge("narrator", "both").runnable, review=True, checkpointer=strict_saver())
    await call(graph, {"statement": STATEMENT}, async_, thread())
    state = await call(graph, Command(resume="other party"), async_, thread())
    assert (state["verdict"]["verdict"], state["verdict"]["reasons"]) == ("other party", [])


async def test_a_second_dispute_of_the_same_thread_starts_anew(async_):
    judge = Judge("narrator", "both", "both", "both")
    graph = create_dispute_graph(None, judge.runnable, review=True, checkpointer=strict_saver())
    await call(graph, {"statement": STATEMENT}, async_, thread())
    await call(graph, Command(resume="narrator"), async_, thread())
    state = await call(graph, {"statement": STATEMENT + " Again."}, async_, thread())
    assert (state["verdict"]["verdict"], state["check"]["agree"]) == ("both", True)
    assert "needs_review" not in state["verdict"]


def test_a_review_without_what_it_needs_says_so():
    judge = Judge().runnable
    with pytest.raises(ValueError, match="needs a checkpointer"):
        create_dispute_graph(None, judge, review=True)
    with pytest.raises(ValueError, match="leave `check` on"):
        create_dispute_graph(None, judge, review=True, check=False, checkpointer=strict_saver())
    assert create_dispute_graph(None, judge, review=True, checkpointer=True)  # a parent graph brings it


async def test_a_review_works_inside_a_parent_graph(async_):
    inner = create_dispute_graph(None, Judge("narrator", "both").runnable, review=True, checkpointer=True)
    parent = StateGraph(DisputeState)
    parent.add_node("dispute", inner)
    parent.add_edge(START, "dispute")
    graph = parent.compile(checkpointer=strict_saver())
    stopped = await call(graph, {"statement": STATEMENT}, async_, thread())
    assert stopped["__interrupt__"][0].value["options"] == list(VERDICTS)
    state = await call(graph, Command(resume="both"), async_, thread())
    assert state["verdict"]["verdict"] == "both"


async def test_the_review_works_in_a_graph_of_your_own(async_):
    class State(TypedDict, total=False):
        question: str
        outcome: dict

    graph = StateGraph(State)
    graph.add_node("ask", Review(verdicts=(), verdict_key="outcome", shown={"about": "question"}))
    graph.add_edge(START, "ask")
    graph = graph.compile(checkpointer=strict_saver())
    stopped = await call(graph, {"question": "who?"}, async_, thread())
    assert stopped["__interrupt__"][0].value["about"] == "who?"
    state = await call(graph, Command(resume="the cat"), async_, thread())
    assert (state["outcome"]["verdict"], state["outcome"]["method"]) == ("the cat", "person")


# --- the triage -----------------------------------------------------------------------------------------------------


def classifier(**kwargs):
    def read(text):
        if "lawn" in text:
            return {"narrator": 0.6, "no dispute": 0.4}
        return {"narrator": 0.01, "no dispute": 0.99} if "weather" in text else {"narrator": 0.99, "no dispute": 0.01}

    return FakeSmallModel(read, labels=["narrator", "no dispute"], **kwargs)


async def test_what_the_small_classifier_is_sure_of_is_settled(async_):
    judge = Judge(default="both")
    graph = create_dispute_graph(None, judge.runnable, triage=classifier(), triage_threshold=0.9)
    state = await call(graph, {"statement": "What fine weather."}, async_)
    assert judge.sent == []
    verdict = state["verdict"]
    assert (verdict["verdict"], verdict["method"], verdict["confidence"]) == ("no dispute", "triage", 0.99)
    assert state["triage"]["accepted"] is True
    state = await call(graph, {"statement": STATEMENT}, async_)
    assert state["triage"]["accepted"] is False
    assert (state["verdict"]["verdict"], len(judge.sent)) == ("both", 2)
    assert json.loads(json.dumps(state, allow_nan=False)) == state


@pytest.mark.parametrize("how", ["context", "config", "off"])
async def test_a_run_sets_the_triages_threshold(async_, how):
    graph = create_dispute_graph(None, RunnableLambda(Judge(default="both")), triage=classifier(), triage_threshold=0.9)
    more = {"context": {"context": GraphContext(dsplus_threshold=0.999)}, "off": {"context": {"dsplus_mode": "off"}}}
    config = {"configurable": {"dsplus_threshold": 0.999}} if how == "config" else None
    state = await call(graph, {"statement": "What fine weather."}, async_, config, **more.get(how, {}))
    assert state["triage"]["accepted"] is False  # without a setting it is accepted, see above
    assert state["triage"]["threshold"] == (None if how == "off" else 0.999)
    assert state["verdict"]["method"] == "text"


async def test_a_router_of_your_own_decides_and_its_large_chain_is_not_asked(async_):
    def never(_):
        raise AssertionError

    router = ConfidenceRouter(
        small=classifier(), large=RunnableLambda(never).with_types(output_type=str), threshold=0.9,
        never_local=["narrator"],
    )  # fmt: skip
    rows = []
    router.recorder = type("R", (), {"record": lambda _, row: rows.append(row)})()
    judge = Judge(default="both")
    graph = create_dispute_graph(None, judge.runnable, triage=router)
    state = await call(graph, {"statement": "He hit me."}, async_)
    assert (state["triage"]["reason"], state["verdict"]["verdict"]) == ("never_local", "both")
    assert rows == []
    state = await call(graph, {"statement": "weather"}, async_)
    assert state["verdict"]["verdict"] == "no dispute"
    assert [row["route"]["accepted"] for row in rows] == [True]


async def test_a_triage_that_fails_lets_everything_go_on(async_):
    broken = FakeSmallModel(lambda _: ValueError("x"), labels=["narrator", "both"])
    graph = create_dispute_graph(None, RunnableLambda(Judge(default="both")), triage=broken)
    state = await call(graph, {"statement": STATEMENT}, async_)
    assert (state["triage"]["reason"], state["verdict"]["verdict"]) == ("error", "both")


async def test_nothing_of_an_earlier_dispute_is_left_beside_a_settled_one(async_):
    graph = create_dispute_graph(
        RunnableLambda(lambda text: text),
        RunnableLambda(Judge(default="both")),
        triage=classifier(),
        triage_threshold=0.9,
        checkpointer=strict_saver(),
    )
    await call(graph, {"statement": STATEMENT}, async_, thread())
    state = await call(graph, {"statement": "weather"}, async_, thread())
    assert state["verdict"]["method"] == "triage"
    assert {key: state[key] for key in ("rewrite", "transfer", "check")} == dict.fromkeys(
        ("rewrite", "transfer", "check")
    )


async def test_the_triage_works_in_a_graph_of_your_own(async_):
    class State(TypedDict, total=False):
        mail: str
        kind: dict
        why: dict

    graph = StateGraph(State)
    graph.add_node("sort", Triage(classifier(), threshold=0.9, input_key="mail", output_key="kind", route_key="why"))
    graph.add_node("ask", lambda _: {"kind": {"verdict": "asked"}})
    graph.add_edge(START, "sort")
    graph.add_conditional_edges("sort", lambda state: settled(state["why"]), {"accept": END, "escalate": "ask"})
    graph = graph.compile()
    assert (await call(graph, {"mail": "weather"}, async_))["kind"]["verdict"] == "no dispute"
    assert (await call(graph, {"mail": STATEMENT}, async_))["kind"]["verdict"] == "asked"
    with pytest.raises(TypeError, match="input_key"):
        await call(graph, {"why": {}}, async_)


# --- picture and streams --------------------------------------------------------------------------------------------


def edges(graph):
    drawn = graph.get_graph()
    return {(edge.source, edge.target, edge.data if edge.conditional else None) for edge in drawn.edges}


def test_the_picture_shows_the_branches():
    graph = create_dispute_graph(
        "extractive", Judge().runnable, triage=classifier(), review=True, checkpointer=strict_saver()
    )
    assert edges(graph) == {
        ("__start__", "triage", None),
        ("triage", "__end__", "accept"),
        ("triage", "transfer", "escalate"),
        ("transfer", "adjudicate", None),
        ("adjudicate", "check", None),
        ("check", "__end__", "agree"),
        ("check", "review", "doubt"),
        ("review", "__end__", None),
    }
    picture = graph.get_graph().draw_mermaid()
    for branch in ("accept", "escalate", "agree", "doubt"):
        assert f"&nbsp;{branch}&nbsp;" in picture
    assert edges(create_dispute_graph(None, Judge().runnable, check=False)) == {
        ("__start__", "adjudicate", None),
        ("adjudicate", "__end__", None),
    }


async def test_streams_tell_what_happens(async_):
    graph = create_dispute_graph(
        None,
        FakeListChatModel(responses=["narrator", "both"]),
        triage=classifier(),
        review=True,
        checkpointer=strict_saver(),
    )
    modes = ["updates", "messages", "custom"]
    value, config = {"statement": STATEMENT}, thread()
    chunks = (
        [c async for c in graph.astream(value, config, stream_mode=modes)]
        if async_
        else list(graph.stream(value, config, stream_mode=modes))
    )
    updates = [name for mode, chunk in chunks if mode == "updates" for name in chunk]
    assert updates == ["triage", "adjudicate", "check", "__interrupt__"]
    custom = [chunk for mode, chunk in chunks if mode == "custom"]
    assert [(c["type"], c["node"]) for c in custom] == [
        ("dsplus_route", "triage"),
        ("dsplus_verdict", "adjudicate"),
        ("dsplus_verdict", "swapped"),
        ("dsplus_check", "check"),
    ]
    assert STATEMENT not in json.dumps(custom)
    texts = {}
    for mode, chunk in chunks:
        if mode == "messages":
            message, metadata = chunk
            texts[metadata["langgraph_node"]] = texts.get(metadata["langgraph_node"], "") + message.text
    assert texts == {"adjudicate": "narrator", "check": "both"}


def test_a_judge_is_asked_once_per_verdict_in_any_order_of_batches():
    words = itertools.cycle(["both"])
    graph = create_dispute_graph(None, RunnableLambda(lambda _: next(words)))
    states = graph.batch([{"statement": STATEMENT}, {"statement": ""}])
    assert [s["check"]["agree"] for s in states] == [True, True]
    assert [s["verdict"]["verdict"] for s in states] == ["both", "unclear"]
