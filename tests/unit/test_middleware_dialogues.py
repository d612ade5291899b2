"""The shunt in conversations: which turns it answers, what it reads, what streams and ledgers say of the rest."""

# ruff: noqa: RUF001 - other scripts are meant

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    HumanInTheLoopMiddleware,
    ModelFallbackMiddleware,
    SummarizationMiddleware,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_dsplus import ChatClassifier, CostLedger, FakeSmallModel
from langchain_dsplus.conversation import user_turn
from langchain_dsplus.middleware import ConfidenceShuntMiddleware

both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


class Large(BaseChatModel):
    """A chat model that says one thing, word by word in a stream; it may break behind the second word."""

    says: Any = "from the large model"
    name_: str = "big"
    breaks: bool = False

    @property
    def _llm_type(self) -> str:
        return "large"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.breaks:
            raise ConnectionError
        said = self.says(messages) if callable(self.says) else self.says
        message = said if isinstance(said, AIMessage) else AIMessage(said)
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        made = message.model_copy(update={"usage_metadata": usage, "response_metadata": {"model_name": self.name_}})
        return ChatResult(generations=[ChatGeneration(message=made)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        words = str(self.says).split(" ")
        for place, word in enumerate(words):
            if self.breaks and place == 2:
                raise ConnectionError
            chunk = ChatGenerationChunk(message=AIMessageChunk(word if place == 0 else f" {word}"))
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk

    def bind_tools(self, tools, **kwargs):
        return self


def sure(label="confirm", other="rest"):
    """A small model that is always sure of one thing, whatever it reads."""
    return FakeSmallModel(lambda _: {label: 0.99, other: 0.01}, labels=[label, other], name="eager")


def ask(agent, given, *, is_async, config=None):
    if is_async:
        return asyncio.run(agent.ainvoke(given, config))
    return agent.invoke(given, config)


def stream(agent, given, mode, *, is_async, config=None):
    if not is_async:
        return list(agent.stream(given, config, stream_mode=mode))

    async def collect():
        return [part async for part in agent.astream(given, config, stream_mode=mode)]

    return asyncio.run(collect())


@tool
def delete(account: str) -> str:
    """Delete an account."""
    return f"Shall I delete {account} for good?"


LOCAL, PASSED = "Great, your order is confirmed.", "from the large model"
CALLED = AIMessage("", tool_calls=[{"name": "delete", "args": {"account": "mine"}, "id": "c1"}])
ASKED = ToolMessage("Shall I delete it for good?", tool_call_id="c1", name="delete")
DONE = ToolMessage("deleted", tool_call_id="c1", name="delete")


def u(text):
    return HumanMessage(text)


def a(text):
    return AIMessage(text)


# A small model that is always sure may answer these turns by itself, or not.
DIALOGUES = [
    ([u("delete my account"), a("Shall I delete it for good?"), u("yes")], PASSED),
    ([u("delete my account"), a("Shall I delete it? It cannot be undone."), u("yes, do it")], PASSED),
    ([u("delete my account"), a("Reply DELETE to go on."), u("DELETE")], PASSED),
    ([u("I need a refund"), a("Please tell me your order number."), u("17")], PASSED),
    ([u("Konto eröffnen"), a("Girokonto oder Depot?"), u("das zweite")], PASSED),
    ([u("アカウントを削除して"), a("本当に削除しますか？"), u("はい")], PASSED),
    ([u("アカウントを削除して"), a("本当に削除しますか。"), u("はい")], PASSED),
    ([u("احذف حسابي"), a("هل أنت متأكد؟"), u("نعم")], PASSED),
    ([u("Διαγραφή"), a("Είσαι σίγουρος;"), u("ναι")], PASSED),
    ([u("borra mi cuenta"), a("¿La borro para siempre?"), u("sí")], PASSED),
    ([u("order shoes"), a("Which ones: 1) red 2) blue"), u("2")], PASSED),
    ([u("order shoes"), a("Red or blue?"), u("When do you open?")], PASSED),
    ([u("delete it"), a("Sure?"), u("what is lost?"), a("All of it."), u("ok, go on")], PASSED),
    ([u("delete my account"), CALLED, ASKED, u("yes")], PASSED),
    ([u("delete my account"), CALLED, ASKED], PASSED),
    ([u("delete my account"), CALLED, ASKED, a("It waits for your word."), u("you have it")], PASSED),
    ([a("Hi, are you calling about order 17?"), u("yes")], PASSED),
    ([u("delete my account"), u("for good")], PASSED),
    ([u("confirm order 17, please")], LOCAL),
    ([a("Welcome."), u("Can I confirm order 17?")], LOCAL),
    ([u("Where is my order?"), a("It left yesterday."), u("When do you open?")], LOCAL),
    ([u("delete it"), CALLED, DONE, a("That is done."), u("And when do you open?")], LOCAL),
    ([u("Öffnungszeiten"), a("Von 9 bis 17 Uhr."), u("Kann ich Bestellung 17 bestätigen? 🙂")], LOCAL),
    ([u("営業時間"), a("9時からです。"), u("注文17を確認できますか？")], LOCAL),
]


@both
@pytest.mark.parametrize(("said", "answer"), DIALOGUES, ids=range(len(DIALOGUES)))
def test_a_turn_that_answers_something_is_left_to_the_agent(said, answer, is_async):
    small = sure()
    shunt = ConfidenceShuntMiddleware(small, threshold=0.9, answers={"confirm": LOCAL})
    agent = create_agent(Large(), tools=[delete], middleware=[shunt])
    state = ask(agent, {"messages": said}, is_async=is_async)
    assert state["messages"][-1].content == answer
    assert (state["dsplus_route"] is None) is (answer == PASSED)
    assert bool(small.calls) is (answer == LOCAL)


@both
def test_over_its_own_answers_the_shunt_goes_on(is_async):
    shunt = ConfidenceShuntMiddleware(sure(), threshold=0.9, answers=lambda *_: LOCAL)
    agent = create_agent(Large(), middleware=[shunt], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    for turn in ("confirm", "thanks", "and the next one"):
        state = ask(agent, {"messages": [u(turn)]}, is_async=is_async, config=config)
        assert state["messages"][-1].content == LOCAL
    asking = ConfidenceShuntMiddleware(sure(), threshold=0.9, answers={"confirm": "Which one?"})
    agent = create_agent(Large(), middleware=[asking], checkpointer=InMemorySaver())
    said = [ask(agent, {"messages": [u("x")]}, is_async=is_async, config=config)["messages"][-1] for _ in range(2)]
    assert [message.content for message in said] == ["Which one?", PASSED]


@both
def test_an_answer_of_another_router_is_no_answer_of_the_shunt(is_async):
    """A large model that is a cascade itself marks its drafts as accepted, too."""
    draft = AIMessage("Reply DELETE.", response_metadata={"dsplus": {"accepted": True, "model": "draft"}})
    agent = create_agent(Large(), middleware=[ConfidenceShuntMiddleware(sure(), threshold=0.9)])
    state = ask(agent, {"messages": [u("delete my account"), draft, u("DELETE")]}, is_async=is_async)
    assert state["messages"][-1].content == PASSED


class Shortens(AgentMiddleware):
    """Shows the model the last message only."""

    def wrap_model_call(self, request, handler):
        return handler(request.override(messages=request.messages[-1:]))

    async def awrap_model_call(self, request, handler):
        return await handler(request.override(messages=request.messages[-1:]))


class Reminds(AgentMiddleware):
    """Puts a text behind what is shown to the model, in the user's name."""

    def wrap_model_call(self, request, handler):
        return handler(request.override(messages=[*request.messages, u("Be brief.")]))

    async def awrap_model_call(self, request, handler):
        return await handler(request.override(messages=[*request.messages, u("Be brief.")]))


@both
@pytest.mark.parametrize("other", [Shortens(), Reminds(), None], ids=["shortens", "reminds", "summary"])
@pytest.mark.parametrize("read", ["turn", "conversation"])
def test_other_middleware_cannot_make_an_answer_stand_alone(other, read, is_async):
    if other is None:
        other = SummarizationMiddleware(
            Large(says="They want it deleted."), trigger=("messages", 3), keep=("messages", 1)
        )
    shunt = ConfidenceShuntMiddleware(sure(), threshold=0.9, answers={"confirm": LOCAL}, read=read)
    agent = create_agent(Large(), tools=[delete], middleware=[other, shunt])
    said = [u("delete my account"), a("Shall I delete it for good?"), u("yes")]
    state = ask(agent, {"messages": said}, is_async=is_async)
    if read == "turn":
        assert state["messages"][-1].content == PASSED
    state = ask(agent, {"messages": [u("delete my account"), CALLED, ASKED]}, is_async=is_async)
    assert state["messages"][-1].content == PASSED


@both
@pytest.mark.parametrize("read", ["turn", "conversation"])
def test_an_interrupted_tool_call_is_the_agents(read, is_async):
    large = Large(says=lambda messages: "gone" if isinstance(messages[-1], ToolMessage) else CALLED)
    shunt = ConfidenceShuntMiddleware(
        FakeSmallModel(
            lambda text: {"c": 0.5, "d": 0.5} if "delete" in text else {"c": 0.99, "d": 0.01}, labels=["c", "d"]
        ),
        threshold=0.9,
        read=read,
    )
    agent = create_agent(
        large,
        tools=[delete],
        middleware=[HumanInTheLoopMiddleware({"delete": True}), shunt],
        checkpointer=InMemorySaver(),
    )
    config = {"configurable": {"thread_id": "t"}}
    state = ask(agent, {"messages": [u("delete mine")]}, is_async=is_async, config=config)
    assert "__interrupt__" in state
    state = ask(agent, Command(resume={"decisions": [{"type": "approve"}]}), is_async=is_async, config=config)
    assert state["messages"][-1].content == "gone"
    assert state["dsplus_route"] is None


# --- reading the conversation -----------------------------------------------------------------------------------------


def reader(text):
    """Reads who asked what: a stand-in for a model that was trained on renderings."""
    lines = text.splitlines()
    asked = len(lines) > 1 and "delete it for good" in lines[-2] and lines[-2].startswith("assistant: ")
    if asked and lines[-1] == "user: yes":
        return {"delete": 0.99, "confirm": 0.01}
    return {"delete": 0.01, "confirm": 0.99} if lines[-1] == "user: yes" else {"delete": 0.5, "confirm": 0.5}


@both
def test_with_the_conversation_a_yes_means_what_was_asked(is_async):
    small = FakeSmallModel(reader, labels=["delete", "confirm"])
    shunt = ConfidenceShuntMiddleware(
        small, threshold=0.9, answers={"delete": "It is deleted.", "confirm": LOCAL}, read="conversation"
    )
    agent = create_agent(Large(), middleware=[shunt], checkpointer=InMemorySaver())
    for place, (question, answer) in enumerate(
        [("Shall I delete it for good?", "It is deleted."), ("Shall I order it?", LOCAL)]
    ):
        config = {"configurable": {"thread_id": str(place)}}
        ask(agent, {"messages": [u("my account"), a(question), u("hm")]}, is_async=is_async, config=config)
        ask(agent, {"messages": [a(question), u("yes")]}, is_async=is_async, config=config)
        assert agent.get_state(config).values["messages"][-1].content == answer
    assert small.calls[-1][0].splitlines() == [
        "user: my account",
        "assistant: Shall I order it?",
        "user: hm",
        "assistant: from the large model",
        "assistant: Shall I order it?",
        "user: yes",
    ]


@both
def test_the_recorder_keeps_the_rendering_and_the_pruner_gets_it(is_async):
    rows: list[Any] = []

    class Recorder:
        def record(self, row):
            rows.append(row)

    shunt = ConfidenceShuntMiddleware(
        sure(), threshold=0.9, read="conversation", mode="shadow", recorder=Recorder(), background=False
    )
    agent = create_agent(Large(), middleware=[shunt])
    state = ask(agent, {"messages": [u("a"), a("b?"), u("yes")]}, is_async=is_async)
    assert state["messages"][-1].content == PASSED
    assert rows[0]["input"] == "user: a\nassistant: b?\nuser: yes"


def test_read_is_one_of_two_words_or_a_callable():
    with pytest.raises(ValueError, match="`read` must be one of"):
        ConfidenceShuntMiddleware(sure(), read="last")
    with pytest.raises(ValueError, match="own node"):
        ConfidenceShuntMiddleware(sure(), name="model")

    def last(request):
        return user_turn(request.messages)

    shunt = ConfidenceShuntMiddleware(sure(), threshold=0.9, answers={"confirm": LOCAL}, read=last)
    state = create_agent(Large(), middleware=[shunt]).invoke({"messages": [u("a"), a("b?"), u("yes")]})
    assert state["messages"][-1].content == LOCAL  # whoever asks for the last text gets it


# --- ledger -----------------------------------------------------------------------------------------------------------


def sides(ledger):
    return {(row["side"], row["model"], row["calls"]) for row in ledger.table() if row["side"] != "small"}


@both
@pytest.mark.parametrize(
    "said",
    [
        [u("delete it"), CALLED, DONE],
        [u("a"), a("Sure?"), u("yes")],
        [u([{"type": "text", "text": "this"}, {"type": "image", "url": "https://x.test/a.png"}])],
        [u("unsure")],
    ],
    ids=["tool", "answer", "image", "unsure"],
)
def test_every_call_of_the_agent_is_booked_as_large(said, is_async):
    small = FakeSmallModel({}, default={"confirm": 0.5, "rest": 0.5}, labels=["confirm", "rest"])
    agent = create_agent(Large(), tools=[delete], middleware=[ConfidenceShuntMiddleware(small)])
    with CostLedger() as ledger:
        ask(agent, {"messages": said}, is_async=is_async)
    assert sides(ledger) == {("large", "big", 1)}
    whole = CostLedger()
    ask(agent, {"messages": said}, is_async=is_async, config={"callbacks": [whole]})
    assert sides(whole) == {("large", "big", 1)}


@both
def test_a_round_with_tools_is_all_large(is_async):
    large = Large(says=lambda messages: "done" if isinstance(messages[-1], ToolMessage) else CALLED)
    small = FakeSmallModel({}, default={"confirm": 0.5, "rest": 0.5}, labels=["confirm", "rest"])
    outer = ConfidenceShuntMiddleware(small, name="outer")
    agent = create_agent(large, tools=[delete], middleware=[outer, ConfidenceShuntMiddleware(small)])
    with CostLedger() as ledger:
        ask(agent, {"messages": [u("delete it")]}, is_async=is_async)
    assert sides(ledger) == {("large", "big", 2)}


# --- streams ----------------------------------------------------------------------------------------------------------


@both
def test_custom_streams_carry_the_route(is_async):
    shunt = ConfidenceShuntMiddleware(sure(), threshold=0.9, answers={"confirm": LOCAL}, name="shunt")
    agent = create_agent(Large(), middleware=[shunt])
    (local,) = stream(agent, {"messages": [u("confirm")]}, "custom", is_async=is_async)
    assert (local["type"], local["node"], local["route"]["accepted"]) == ("dsplus_route", "shunt", True)
    config = {"configurable": {"dsplus_threshold": 0.995}}
    (passed,) = stream(agent, {"messages": [u("confirm")]}, "custom", is_async=is_async, config=config)
    assert (passed["route"]["accepted"], passed["route"]["reason"]) == (False, "unsure")
    # Nobody decided about a turn that the small model does not read.
    assert stream(agent, {"messages": [u("a"), a("b?"), u("yes")]}, "custom", is_async=is_async) == []


def shown(agent, said, *, is_async, config=None):
    parts = stream(agent, {"messages": said}, "messages", is_async=is_async, config=config)
    assert all(type(message) in {AIMessage, AIMessageChunk} for message, _ in parts)
    return [message.content for message, _ in parts if message.content]


WORDS = ["from", " the", " large", " model"]


def chat_judge():
    """A small model that is a chat model: its own words are nobody's business."""
    return ChatClassifier(
        Large(says="confirm", name_="tiny"), labels=["confirm", "rest"], method="votes", votes=3, name="judge"
    )


@both
@pytest.mark.parametrize("options", [{}, {"mode": "shadow"}, {"audit_rate": 1.0}], ids=["live", "shadow", "audit"])
@pytest.mark.parametrize("background", [True, False])
def test_message_streams_show_one_answer_and_nothing_of_the_shunt(options, background, is_async):
    shunt = ConfidenceShuntMiddleware(
        chat_judge(), threshold=0.9, answers={"confirm": LOCAL}, background=background, **options
    )
    agent = create_agent(Large(), middleware=[shunt])
    expected = WORDS if options.get("mode") == "shadow" else [LOCAL]
    assert shown(agent, [u("confirm")], is_async=is_async) == expected
    assert shown(agent, [u("a"), a("b?"), u("yes")], is_async=is_async) == WORDS
    shunt.router.drain(5)


class Stops(AgentMiddleware):
    """Answers by itself, in a message without an id."""

    def wrap_model_call(self, request, handler):
        return AIMessage("closed")

    async def awrap_model_call(self, request, handler):
        return AIMessage("closed")


@both
def test_message_streams_over_other_middleware(is_async):
    unsure = FakeSmallModel({}, default={"confirm": 0.5, "rest": 0.5}, labels=["confirm", "rest"], name="unsure")
    for inner, expected in (
        (Stops(), "closed"),
        (ConfidenceShuntMiddleware(sure(), threshold=0.9, answers={"confirm": LOCAL}), LOCAL),
    ):
        agent = create_agent(Large(), middleware=[ConfidenceShuntMiddleware(unsure, name="outer"), inner])
        assert shown(agent, [u("confirm")], is_async=is_async) == [expected]


@both
def test_a_cheaper_model_that_breaks_leaves_no_words_in_the_stream(is_async):
    cheap = Large(says="this is only half", name_="cheap", breaks=True)
    shunt = ConfidenceShuntMiddleware(sure(), threshold=0.9, models={"confirm": cheap})
    agent = create_agent(Large(), middleware=[shunt])
    assert shown(agent, [u("confirm")], is_async=is_async) == WORDS
    cheap.breaks = False
    with CostLedger() as ledger:
        assert shown(agent, [u("confirm")], is_async=is_async) == ["this is only half"]
    assert {row["side"] for row in ledger.table() if row["model"] != "eager"} == {"large"}


# --- fallbacks --------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("outer", [True, False], ids=["around", "under"])
@pytest.mark.parametrize(
    ("said", "sides_of"),
    [([u("unsure")], 1), ([u("a"), a("b?"), u("yes")], 0)],
    ids=["decided", "unseen"],
)
def test_with_model_fallback_both_ways(outer, said, sides_of, is_async):
    small = FakeSmallModel(
        lambda text: {"confirm": 0.99, "rest": 0.01} if text == "confirm" else {"confirm": 0.5, "rest": 0.5},
        labels=["confirm", "rest"],
    )
    shunt = ConfidenceShuntMiddleware(small, threshold=0.9, answers={"confirm": LOCAL})
    fallback = ModelFallbackMiddleware(Large(says="spare", name_="spare"))
    agent = create_agent(Large(breaks=True), middleware=[shunt, fallback] if outer else [fallback, shunt])
    with CostLedger() as ledger:
        state = ask(agent, {"messages": said}, is_async=is_async)
    assert state["messages"][-1].content == "spare"
    assert {row["side"] for row in ledger.table()} - {"small"} == {"large"}
    assert (state["dsplus_route"] is not None) == bool(sides_of)
    assert len(stream(agent, {"messages": said}, "custom", is_async=is_async)) == sides_of
    assert ask(agent, {"messages": [u("confirm")]}, is_async=is_async)["messages"][-1].content == LOCAL


@both
def test_a_fallback_takes_the_place_of_a_cheaper_model(is_async):
    cheap, spare = Large(breaks=True, name_="cheap"), Large(says="spare", name_="spare")
    shunt = ConfidenceShuntMiddleware(sure(), threshold=0.9, models={"confirm": cheap})
    agent = create_agent(Large(), middleware=[shunt, ModelFallbackMiddleware(spare)])
    assert ask(agent, {"messages": [u("confirm")]}, is_async=is_async)["messages"][-1].content == "spare"
