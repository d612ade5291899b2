"""Verdicts of a schema of your own: an Enum is one too, and a model that only speaks text is offered them."""

from enum import Enum
from typing import Literal

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command
from pydantic import BaseModel

from langchain_dsplus.graphs import VERDICTS, Adjudicator, create_dispute_graph

STATEMENT = "The landlord kept the deposit of 300 euros, and the tenant had broken a window."


class Side(Enum):
    TENANT = "tenant"
    LANDLORD = "landlord"


class ByEnum(BaseModel):
    verdict: Side


class ByLiteral(BaseModel):
    verdict: Literal["tenant", "landlord"]


@pytest.mark.parametrize("schema", [ByEnum, ByLiteral])
def test_a_model_that_only_speaks_text_is_offered_the_schemas_verdicts(schema):
    asked = []

    def say(messages):
        asked.append(messages[-1].text)
        return "Landlord."

    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    graph = create_dispute_graph(None, RunnableLambda(say), verdict_schema=schema, checkpointer=saver)
    state = graph.invoke({"statement": STATEMENT}, {"configurable": {"thread_id": "1"}})
    assert state["verdict"]["verdict"] == "landlord"
    assert state["check"]["agree"]
    first, second = asked
    assert first.endswith('"tenant", "landlord".')
    assert second.endswith('"landlord", "tenant".')


def test_a_person_is_offered_the_values_of_an_enum():
    large = FakeListChatModel(responses=["nobody knows"])
    graph = create_dispute_graph(None, large, verdict_schema=ByEnum, review=True, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    state = graph.invoke({"statement": STATEMENT}, config)
    assert state["__interrupt__"][0].value["options"] == ["tenant", "landlord"]
    state = graph.invoke(Command(resume="somebody"), config)
    assert state["__interrupt__"][0].value["error"] == "`verdict` must be one of ['tenant', 'landlord']"
    assert graph.invoke(Command(resume="tenant"), config)["verdict"]["verdict"] == "tenant"


def test_a_schema_without_a_list_is_asked_for_the_usual_verdicts():
    class Free(BaseModel):
        verdict: str

    judge = Adjudicator(model=FakeListChatModel(responses=["both"]), verdict_schema=Free, input_key="statement")
    assert judge.verdicts == ()
    assert judge.invoke({"statement": STATEMENT})["verdict"]["verdict"] == "both"
    assert VERDICTS[2] == "both"
