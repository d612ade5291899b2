"""The shunt inside real agents: who answers, what the state keeps, what streams show, and how it gets on with others."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ModelRetryMiddleware
from langchain.agents.middleware.types import ExtendedModelResponse, ModelResponse
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from langchain_dsplus import ConfidenceRouter, CostLedger, FakeSmallModel, PromptPruner, SklearnClassifier
from langchain_dsplus.middleware import ConfidenceShuntMiddleware

HOURS = "When do you open?"
ORDER = "Where is my order 17?"
CHAT = "Nice weather today."
HARD = "It is all wrong, somehow."

SURE = {
    HOURS: {"hours": 0.98, "order": 0.01, "chat": 0.01},
    ORDER: {"hours": 0.01, "order": 0.98, "chat": 0.01},
    CHAT: {"hours": 0.01, "order": 0.01, "chat": 0.98},
    HARD: {"hours": 0.4, "order": 0.35, "chat": 0.25},
}


def small():
    return FakeSmallModel(SURE, name="intents")


class Scripted(BaseChatModel):
    """A chat model that answers by a function of its messages, streams word by word, and writes down its calls."""

    script: Any = "from the large model"
    calls: list[Any] = Field(default_factory=list)
    model: str = "scripted"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _message(self, messages, kwargs):
        self.calls.append((messages, kwargs))
        reply = self.script(messages) if callable(self.script) else self.script
        if isinstance(reply, Exception):
            raise reply
        message = AIMessage(reply) if isinstance(reply, str) else reply
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        return message.model_copy(update={"usage_metadata": usage, "response_metadata": {"model_name": self.model}})

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._message(messages, kwargs))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._message(messages, kwargs)
        words = str(message.content).split(" ")
        for place, word in enumerate(words):
            last = place == len(words) - 1
            chunk = AIMessageChunk(
                word if place == 0 else f" {word}",
                usage_metadata=message.usage_metadata if last else None,
                response_metadata=message.response_metadata if last else {},
                tool_call_chunks=[
                    {"name": c["name"], "args": json.dumps(c["args"]), "id": c["id"], "index": i}
                    for i, c in enumerate(message.tool_calls)
                ]
                if last
                else [],
            )
            if run_manager:
                run_manager.on_llm_new_token(chunk.content, chunk=ChatGenerationChunk(message=chunk))
            yield ChatGenerationChunk(message=chunk)

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        return self.bind(tools=[getattr(t, "name", t) for t in tools], tool_choice=tool_choice, **kwargs)


def run(agent, text, *, is_async, config=None, **kwargs):
    given = {"messages": [HumanMessage(text)]}
    if is_async:
        return asyncio.run(agent.ainvoke(given, config, **kwargs))
    return agent.invoke(given, config, **kwargs)


both = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@both
def test_a_sure_turn_is_answered_without_a_call(is_async):
    large = Scripted()
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, answers={"hours": "From 9 to 17."})
    agent = create_agent(large, middleware=[shunt])
    state = run(agent, HOURS, is_async=is_async)
    assert [m.content for m in state["messages"]] == [HOURS, "From 9 to 17."]
    assert large.calls == []
    route = state["dsplus_route"]
    assert route["accepted"]
    assert route["model"] == "intents"
    assert state["messages"][-1].response_metadata["dsplus"] == route
    assert type(state["messages"][-1]) is AIMessage

    state = run(agent, HARD, is_async=is_async)
    assert state["messages"][-1].content == "from the large model"
    assert type(state["messages"][-1]) is AIMessage
    assert state["messages"][-1].usage_metadata["total_tokens"] == 10
    assert state["messages"][-1].response_metadata["model_name"] == "scripted"
    assert state["dsplus_route"]["reason"] == "unsure"
    assert len(large.calls) == 1

    state = run(agent, CHAT, is_async=is_async)  # sure, but nothing to answer it with
    assert state["dsplus_route"]["reason"] == "never_local"
    assert len(large.calls) == 2


@both
def test_without_answers_the_label_is_the_answer(is_async):
    agent = create_agent(Scripted(), middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    assert run(agent, CHAT, is_async=is_async)["messages"][-1].content == "chat"


@both
def test_a_cheaper_model_takes_its_labels(is_async):
    large, cheap = Scripted(), Scripted(script="cheap talk", model="cheap")
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, answers={"hours": "9"}, models={"chat": cheap})
    agent = create_agent(large, middleware=[shunt])
    with CostLedger() as ledger:
        state = run(agent, CHAT, is_async=is_async)
    assert state["messages"][-1].content == "cheap talk"
    assert (len(large.calls), len(cheap.calls)) == (0, 1)
    assert not state["dsplus_route"]["accepted"]
    assert [(row["side"], row["model"], row["input_tokens"]) for row in ledger.table() if row["side"] == "large"] == [
        ("large", "cheap", 7)
    ]
    run(agent, HARD, is_async=is_async)
    assert (len(large.calls), len(cheap.calls)) == (1, 1)


@both
def test_a_cheaper_model_that_fails_gives_way(is_async, caplog):
    large, cheap = Scripted(), Scripted(script=ConnectionError("secret"))
    agent = create_agent(large, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9, models={"chat": cheap})])
    with caplog.at_level(logging.WARNING):
        state = run(agent, CHAT, is_async=is_async)
    assert state["messages"][-1].content == "from the large model"
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text


@both
def test_candidates_go_behind_the_system_prompt(is_async):
    large = Scripted()
    pruner = PromptPruner.from_messages(
        [("system", "Likely topics:\n{candidates}")], labels=small().labels, pruning="keep", top_k=2
    )
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, answers={"hours": "9"}, pruner=pruner)
    agent = create_agent(large, system_prompt="You are a clerk.", middleware=[shunt])
    state = run(agent, HARD, is_async=is_async)
    system = large.calls[-1][0][0]
    assert isinstance(system, SystemMessage)
    assert system.text.startswith("You are a clerk.\n\nLikely topics:\n")
    assert "hours" in system.text
    assert "order" in system.text
    assert "chat" not in system.text
    assert state["dsplus_route"]["candidates"] == ["hours", "order"]
    # The plain prompt: nothing of ours where the small model must not have said anything.
    run(agent, HARD, is_async=is_async, config={"configurable": {"dsplus_mode": "off"}})
    assert large.calls[-1][0][0].text == "You are a clerk."
    run(agent, "never heard", is_async=is_async)  # the fake fails on what it does not know
    assert large.calls[-1][0][0].text == "You are a clerk."


def test_candidates_without_a_system_prompt_and_with_blocks():
    large = Scripted()
    pruner = PromptPruner.from_messages([("system", "Topics: {candidates}")], labels=small().labels, pruning="soft")
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, pruner=pruner, never_local=["chat"])
    run(create_agent(large, middleware=[shunt]), HARD, is_async=False)
    assert large.calls[-1][0][0].text.startswith("Topics: - hours (probability 0.40)")
    block = {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}}
    run(create_agent(large, system_prompt=SystemMessage([block]), middleware=[shunt]), HARD, is_async=False)
    assert large.calls[-1][0][0].content[0] == block
    assert large.calls[-1][0][0].content[1]["text"].startswith("Topics:")


@tool
def lookup(order: int) -> str:
    """Look up an order."""
    return f"order {order} is on its way"


@both
def test_a_local_answer_may_call_tools(is_async):
    large = Scripted(script=lambda messages: f"Summary: {messages[-1].content}")
    call = AIMessage("", tool_calls=[{"name": "lookup", "args": {"order": 17}, "id": None}])
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, answers={"order": call})
    agent = create_agent(large, tools=[lookup], middleware=[shunt])
    for _ in range(2):  # the same message twice must not become one
        state = run(agent, ORDER, is_async=is_async)
        kinds = [type(m) for m in state["messages"]]
        assert kinds == [HumanMessage, AIMessage, ToolMessage, AIMessage]
        assert state["messages"][-1].content == "Summary: order 17 is on its way"
        assert state["dsplus_route"] is None  # the way back from the tool was not the small model's turn
        assert state["messages"][1].response_metadata["dsplus"]["accepted"]
    assert call.tool_calls[0]["id"] is None
    assert len(large.calls) == 2


@both
def test_a_tool_that_the_agent_lacks_escalates(is_async):
    call = AIMessage("", tool_calls=[{"name": "refund", "args": {}, "id": "1"}])
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, answers={"order": call})
    state = run(create_agent(Scripted(), tools=[lookup], middleware=[shunt]), ORDER, is_async=is_async)
    assert state["messages"][-1].content == "from the large model"
    assert state["dsplus_route"]["reason"] == "error"


@both
def test_the_large_model_keeps_its_tools(is_async):
    def script(messages):
        if isinstance(messages[-1], ToolMessage):
            return "done"
        return AIMessage("", tool_calls=[{"name": "lookup", "args": {"order": 4}, "id": "c1"}])

    large = Scripted(script=script)
    agent = create_agent(large, tools=[lookup], middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    state = run(agent, HARD, is_async=is_async)
    assert state["messages"][-1].content == "done"
    assert [c[1]["tools"] for c in large.calls] == [["lookup"], ["lookup"]]


class Label(BaseModel):
    """An intent."""

    intent: Literal["hours", "order", "chat"]
    note: str = ""


@dataclass
class Record:
    """An intent."""

    intent: str


class Typed(TypedDict):
    """An intent."""

    intent: str


JSON_SCHEMA = {
    "title": "Intent",
    "description": "An intent.",
    "type": "object",
    "properties": {"intent": {"type": "string"}},
    "required": ["intent"],
}


@both
@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (Label, Label(intent="hours")),
        (Record, Record("hours")),
        (Typed, {"intent": "hours"}),
        (JSON_SCHEMA, {"intent": "hours"}),
        (ToolStrategy(Label), Label(intent="hours")),
        (ProviderStrategy(Label), Label(intent="hours")),
    ],
    ids=["pydantic", "dataclass", "typeddict", "json", "tool", "provider"],
)
def test_structured_output(schema, expected, is_async):
    def script(messages):
        return AIMessage("", tool_calls=[{"name": "Label", "args": {"intent": "order"}, "id": "c"}])

    large = Scripted(script='{"intent": "order"}' if isinstance(schema, ProviderStrategy) else script)
    agent = create_agent(large, response_format=schema, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    state = run(agent, HOURS, is_async=is_async)
    assert state["structured_response"] == expected
    assert json.loads(state["messages"][-1].content)["intent"] == "hours"
    assert large.calls == []
    if schema is Label or isinstance(schema, (ToolStrategy, ProviderStrategy)):
        assert run(agent, HARD, is_async=is_async)["structured_response"] == Label(intent="order")


class Two(BaseModel):
    """More than a label."""

    intent: str
    urgency: int


@both
def test_structured_output_that_a_label_cannot_fill(is_async, caplog):
    def script(messages):
        return AIMessage("", tool_calls=[{"name": "Two", "args": {"intent": "order", "urgency": 2}, "id": "c"}])

    large = Scripted(script=script)
    agent = create_agent(large, response_format=ToolStrategy(Two), middleware=[ConfidenceShuntMiddleware(small())])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert run(agent, HOURS, is_async=is_async)["structured_response"] == Two(intent="order", urgency=2)
    assert caplog.text.count("needs more than a label") == 1

    def answers(answer, request):
        made = Two(intent=answer["choice"], urgency=1)
        return ModelResponse(result=[AIMessage("noted")], structured_response=made)

    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, answers=answers)
    agent = create_agent(large, response_format=ToolStrategy(Two), middleware=[shunt])
    assert run(agent, HOURS, is_async=is_async)["structured_response"] == Two(intent="hours", urgency=1)


# --- failing open -----------------------------------------------------------------------------------------------


@both
def test_it_fails_open(is_async, caplog):
    large = Scripted()

    def broken(*_):
        raise RuntimeError("my text")

    for shunt in (
        ConfidenceShuntMiddleware(small(), read=broken),
        ConfidenceShuntMiddleware(small(), threshold=0.9, answers=broken),
        ConfidenceShuntMiddleware(FakeSmallModel({}, labels=["hours", "order", "chat"])),
    ):
        with caplog.at_level(logging.WARNING):
            state = run(create_agent(large, middleware=[shunt]), HOURS, is_async=is_async)
        assert state["messages"][-1].content == "from the large model"
        assert len(state["messages"]) == 2
    assert "my text" not in caplog.text


@both
def test_the_large_models_error_passes(is_async):
    large = Scripted(script=ConnectionError("down"))
    agent = create_agent(large, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    with pytest.raises(ConnectionError):
        run(agent, HARD, is_async=is_async)
    assert run(agent, HOURS, is_async=is_async)["messages"][-1].content == "hours"


@both
def test_an_image_and_an_empty_turn_are_not_looked_at(is_async):
    large = Scripted()
    agent = create_agent(large, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    for content in ([{"type": "text", "text": HOURS}, {"type": "image", "url": "https://x.test/a.png"}], "  "):
        given = {"messages": [HumanMessage(content)]}
        state = asyncio.run(agent.ainvoke(given)) if is_async else agent.invoke(given)
        assert state["dsplus_route"] is None
        assert state["messages"][-1].content == "from the large model"
    # Text in blocks is text.
    given = {"messages": [HumanMessage([{"type": "text", "text": HOURS}])]}
    assert agent.invoke(given)["messages"][-1].content == "hours"


# --- together with others ---------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("outer", [True, False])
def test_with_model_fallback(outer, is_async):
    broken, spare = Scripted(script=ConnectionError("down")), Scripted(script="spare")
    shunt, fallback = ConfidenceShuntMiddleware(small(), threshold=0.9), ModelFallbackMiddleware(spare)
    agent = create_agent(broken, middleware=[shunt, fallback] if outer else [fallback, shunt])
    assert run(agent, HARD, is_async=is_async)["messages"][-1].content == "spare"
    assert (len(broken.calls), len(spare.calls)) == (1, 1)
    assert run(agent, HOURS, is_async=is_async)["messages"][-1].content == "hours"
    assert (len(broken.calls), len(spare.calls)) == (1, 1)


@both
def test_with_model_retry(is_async):
    replies = iter([ConnectionError("once"), "at last"])
    large = Scripted(script=lambda _: next(replies))
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.0, jitter=False)
    agent = create_agent(large, middleware=[retry, ConfidenceShuntMiddleware(small(), threshold=0.9)])
    assert run(agent, HARD, is_async=is_async)["messages"][-1].content == "at last"


class Counting(AgentMiddleware):
    """An inner middleware with a command of its own."""

    def wrap_model_call(self, request, handler):
        return ExtendedModelResponse(handler(request), Command(update={"messages": [SystemMessage("counted")]}))

    async def awrap_model_call(self, request, handler):
        return ExtendedModelResponse(await handler(request), Command(update={"messages": [SystemMessage("counted")]}))


@both
def test_commands_of_inner_middleware_arrive_once(is_async):
    agent = create_agent(Scripted(), middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9), Counting()])
    state = run(agent, HARD, is_async=is_async)
    assert [m.content for m in state["messages"]] == [HARD, "from the large model", "counted"]


@both
def test_two_shunts_in_one_agent(is_async):
    other = FakeSmallModel({HARD: {"rant": 0.99, "other": 0.01}, HOURS: {"rant": 0.5, "other": 0.5}}, name="tone")
    agent = create_agent(
        Scripted(),
        middleware=[
            ConfidenceShuntMiddleware(small(), threshold=0.9, name="intent"),
            ConfidenceShuntMiddleware(other, threshold=0.9, answers={"rant": "I am sorry."}, name="tone"),
        ],
    )
    assert run(agent, HARD, is_async=is_async)["messages"][-1].content == "I am sorry."
    assert run(agent, HOURS, is_async=is_async)["messages"][-1].content == "hours"
    loose = {"configurable": {"dsplus_intent_threshold": 0.99}}
    assert run(agent, HOURS, is_async=is_async, config=loose)["messages"][-1].content == "from the large model"


# --- the router's own semantics -----------------------------------------------------------------------------------


@both
def test_settings_of_a_call_and_the_kill_switch(is_async, monkeypatch):
    large = Scripted()
    agent = create_agent(large, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    state = run(agent, HOURS, is_async=is_async, config={"configurable": {"dsplus_threshold": 0.98}})
    assert state["dsplus_route"]["reason"] == "unsure"  # strictly above
    monkeypatch.setenv("DSPLUS_MODE", "off")
    assert run(agent, HOURS, is_async=is_async)["dsplus_route"]["reason"] == "off"
    assert len(large.calls) == 2


class Rows:
    def __init__(self):
        self.rows = []

    def record(self, row):
        self.rows.append(row)


@both
def test_shadow_records_and_audits_ask_again(is_async):
    rows, large = Rows(), Scripted()
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, mode="shadow", recorder=rows, background=False)
    run(create_agent(large, middleware=[shunt]), HOURS, is_async=is_async)
    assert [row["kind"] for row in rows.rows] == ["route", "shadow"]
    assert rows.rows[0]["input"] == HOURS
    assert rows.rows[0]["output"].content == "from the large model"
    assert rows.rows[0]["usage"]["total_tokens"] == 10

    rows, large = Rows(), Scripted(script="what the large model says")
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, audit_rate=1.0, recorder=rows, background=False)
    state = run(create_agent(large, middleware=[shunt]), HOURS, is_async=is_async)
    assert [m.content for m in state["messages"]] == [HOURS, "hours"]
    assert [row["kind"] for row in rows.rows] == ["route", "audit"]
    assert rows.rows[1]["output"].content == "what the large model says"


@both
def test_the_same_decisions_as_a_router(is_async):
    router = ConfidenceRouter(small=small(), large=lambda text: f"large: {text}", threshold=0.9, to_output=_choice)
    large = Scripted(script=lambda messages: f"large: {messages[-1].content}")
    agent = create_agent(large, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    for text in SURE:
        assert run(agent, text, is_async=is_async)["messages"][-1].content == router.invoke(text)


def _choice(answer, _):
    return answer["choice"]


def test_a_trained_small_model_and_a_checkpoint_on_disk(tmp_path):
    texts = [f"{word} {n}" for n in range(12) for word in ("open hours close time", "order parcel delivery where")]
    trained = _tfidf(texts, ["hours", "order"] * 12)
    shunt = ConfidenceShuntMiddleware(trained, threshold=0.6)
    with SqliteSaver.from_conn_string(str(tmp_path / "state.sqlite")) as saver:
        saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        agent = create_agent(Scripted(), middleware=[shunt], checkpointer=saver)
        config = {"configurable": {"thread_id": "t"}}
        state = agent.invoke({"messages": [HumanMessage("when are your open hours?")]}, config)
        assert state["messages"][-1].content == "hours"
        kept = create_agent(Scripted(), middleware=[shunt], checkpointer=saver).get_state(config).values
        assert kept["dsplus_route"] == state["dsplus_route"]
        assert kept["messages"][-1].response_metadata["dsplus"]["accepted"]
        state = agent.invoke({"messages": [HumanMessage("zzz")]}, config)
        assert len(state["messages"]) == 4
        assert not state["dsplus_route"]["accepted"]


def _tfidf(texts, targets):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return SklearnClassifier(make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(texts, targets))


# --- streams and traces -----------------------------------------------------------------------------------------


def messages_of(agent, text, *, is_async, config=None):
    given = {"messages": [HumanMessage(text)]}
    if not is_async:
        return [(c, m) for c, m in agent.stream(given, config, stream_mode="messages")]

    async def collect():
        return [(c, m) async for c, m in agent.astream(given, config, stream_mode="messages")]

    return asyncio.run(collect())


@both
def test_streams_show_one_answer(is_async):
    large = Scripted()
    agent = create_agent(large, middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    seen = messages_of(agent, HOURS, is_async=is_async)
    assert [chunk.content for chunk, _ in seen] == ["hours"]
    seen = messages_of(agent, HARD, is_async=is_async)
    assert "".join(chunk.content for chunk, _ in seen) == "from the large model"
    assert len([chunk for chunk, _ in seen if chunk.content]) == 4  # word by word
    assert len(large.calls) == 1


class Runs(BaseCallbackHandler):
    def __init__(self):
        self.events = []
        self.starts = []

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, tags=None, name=None, **kwargs):
        self.starts.append((run_id, parent_run_id, name, tuple(tags or ())))

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, tags=None, **kwargs):
        self.starts.append((run_id, parent_run_id, "llm", tuple(tags or ())))

    def on_custom_event(self, name, data, *, run_id, **kwargs):
        self.events.append((name, data))


@both
def test_traced_once_with_its_event(is_async):
    runs = Runs()
    shunt = ConfidenceShuntMiddleware(small(), threshold=0.9, name="shunt")
    agent = create_agent(Scripted(), middleware=[shunt])
    run(agent, HOURS, is_async=is_async, config={"callbacks": [runs]})
    assert [name for _, _, name, _ in runs.starts].count("shunt") == 1
    assert not [1 for *_, name, _ in runs.starts if name == "llm"]
    assert [(name, data["accepted"]) for name, data in runs.events] == [("dsplus_route", True)]

    runs = Runs()
    run(agent, HARD, is_async=is_async, config={"callbacks": [runs]})
    parents = {run_id: (parent, name, tags) for run_id, parent, name, tags in runs.starts}
    llm = [run_id for run_id, (_, name, _) in parents.items() if name == "llm"]
    assert len(llm) == 1
    above, chain = parents[llm[0]][0], []
    while above is not None:
        chain.append(parents[above][1])
        above = parents[above][0]
    assert chain[:2] == ["large", "shunt"]  # nested, not beside it
    assert any("large" in tags for _, _, tags in parents.values())


# --- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"answers": {"hour": "9"}}, "no small model has: \\['hour'\\]"),
        ({"models": {"hour": Scripted()}}, "no small model has"),
        ({"answers": {"chat": "x"}, "models": {"chat": Scripted()}}, "in `answers` and in `models`"),
        ({"large": Scripted()}, "set by the middleware"),
        ({"never_local": ["what"]}, "never_local"),
    ],
)
def test_mistakes_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ConfidenceShuntMiddleware(small(), **kwargs)


def test_a_pruner_with_other_variables_is_refused():
    pruner = PromptPruner.from_messages([("system", "{topic} {candidates}")], labels=small().labels)
    with pytest.raises(ValueError, match="may use the variables text and candidates"):
        ConfidenceShuntMiddleware(small(), pruner=pruner)


def test_without_langchain_the_extra_is_named(monkeypatch):
    for name in [n for n in sys.modules if n == "langchain" or n.startswith("langchain.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "langchain", None)
    monkeypatch.delitem(sys.modules, "langchain_dsplus.middleware")
    with pytest.raises(ImportError, match=r"langchain-dsplus\[middleware\]"):
        importlib.import_module("langchain_dsplus.middleware")


def test_every_local_answer_has_an_id_of_its_own():
    agent = create_agent(Scripted(), middleware=[ConfidenceShuntMiddleware(small(), threshold=0.9)])
    ids = {run(agent, HOURS, is_async=False)["messages"][-1].id for _ in range(3)}
    assert len(ids) == 3
    assert all(uuid.UUID(i) for i in ids)
