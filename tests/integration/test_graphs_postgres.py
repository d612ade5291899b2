"""The graphs with checkpoints in a real PostgreSQL, started for these tests on a free port."""

import json

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from langchain_dsplus import FakeSmallModel
from langchain_dsplus.graphs import create_dispute_graph, create_dsplus_graph

pytest.importorskip("psycopg", reason="psycopg 3 is not installed (extra `postgres`)")
postgres = pytest.importorskip("langgraph.checkpoint.postgres", reason="langgraph-checkpoint-postgres is not installed")

THREAD = {"configurable": {"thread_id": "1"}}


@pytest.fixture(scope="module")
def url(database):
    made = database.fresh("graphs")
    with postgres.PostgresSaver.from_conn_string(made) as saver:
        saver.setup()
    return made


@pytest.fixture
def connect(url):
    """Opens a new connection each time, with strict msgpack."""

    def open_saver():
        serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        manager = postgres.PostgresSaver.from_conn_string(url)
        saver = manager.__enter__()
        saver.serde = serde
        managers.append(manager)
        return saver

    managers = []
    yield open_saver
    for manager in managers:
        manager.__exit__(None, None, None)


def test_a_dispute_waits_for_a_person(connect):
    asked = []

    def judge(messages):
        asked.append(messages)
        return "narrator" if len(asked) == 1 else "both"

    def graph():
        return create_dispute_graph(None, RunnableLambda(judge), review=True, checkpointer=connect())

    stopped = graph().invoke({"statement": "I broke his window, and he broke mine."}, THREAD)
    assert stopped["__interrupt__"][0].value["check"]["reason"] == "disagreement"
    later = graph()
    state = later.invoke(Command(resume={"verdict": "both"}), THREAD)
    assert (state["verdict"]["verdict"], state["verdict"]["method"], len(asked)) == ("both", "person", 2)
    saved = later.get_state(THREAD).values
    assert saved == state
    assert json.loads(json.dumps(saved, allow_nan=False)) == saved


def test_a_classification_is_replayed_from_any_node(connect):
    small = FakeSmallModel({"hard \x7f ü 中": {"pos": 0.5, "neg": 0.5}})
    asked = []

    def large(prompt):
        asked.append(prompt)
        return "neg"

    config = {"configurable": {"thread_id": "2"}}
    graph = create_dsplus_graph(small, RunnableLambda(large), threshold=0.9, checkpointer=connect())
    state = graph.invoke({"text": "hard \x7f ü 中"}, config)
    again = create_dsplus_graph(small, RunnableLambda(large), threshold=0.9, checkpointer=connect())
    history = {s.next: s for s in again.get_state_history(config)}
    assert history[()].values == state
    assert again.invoke(None, history["parse",].config)["label"] == "neg"
    assert len(asked) == 1


async def test_the_async_saver_too(url):
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

    config = {"configurable": {"thread_id": "3"}}
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        small = FakeSmallModel({"easy": {"pos": 0.99, "neg": 0.01}})
        graph = create_dsplus_graph(small, RunnableLambda(lambda _: "neg"), threshold=0.9, checkpointer=saver)
        state = await graph.ainvoke({"text": "easy"}, config)
        assert (await graph.aget_state(config)).values == state
        assert state["label"] == "pos"
