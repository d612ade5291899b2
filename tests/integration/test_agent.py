"""The shunt in an agent over a real local model behind the OpenAI protocol."""

from __future__ import annotations

import asyncio

import pytest

pytestmark = pytest.mark.llm

INTENTS = {
    "hours": ["when do you open", "until when are you open", "are you open on sunday", "what are your opening hours"],
    "delivery": ["where is my parcel", "has my order left", "when will the parcel arrive", "track my delivery"],
}


@pytest.fixture(scope="module")
def intents():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    texts = [text for texts in INTENTS.values() for text in texts]
    targets = [label for label, texts in INTENTS.items() for _ in texts]
    return SklearnClassifier(make_pipeline(TfidfVectorizer(), LogisticRegression(C=30)).fit(texts, targets))


@pytest.fixture
def agent(intents, smollm_server):
    agents = pytest.importorskip("langchain.agents")
    from langchain_dsplus import PromptPruner
    from langchain_dsplus.middleware import ConfidenceShuntMiddleware

    pruner = PromptPruner.from_messages(
        [("system", "Likely topics:\n{candidates}")], labels=intents.labels, pruning="soft"
    )
    shunt = ConfidenceShuntMiddleware(
        intents, threshold=0.7, answers={"hours": "We are open from 9 to 17."}, pruner=pruner
    )
    large = smollm_server.chat_model(temperature=0.0, max_tokens=12, stream_usage=True)
    return agents.create_agent(large, system_prompt="Answer in one short sentence.", middleware=[shunt])


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_real_model_answers_the_rest(agent, is_async):
    from langchain_core.messages import HumanMessage

    from langchain_dsplus import CostLedger

    def ask(text):
        given = {"messages": [HumanMessage(text)]}
        return asyncio.run(agent.ainvoke(given)) if is_async else agent.invoke(given)

    with CostLedger() as ledger:
        local = ask("what are your opening hours?")
    assert local["messages"][-1].content == "We are open from 9 to 17."
    assert local["dsplus_route"]["accepted"]
    assert not [row for row in ledger.table() if row["side"] == "large"]

    with CostLedger() as ledger:
        passed = ask("Tell me a story about a fox.")
    message = passed["messages"][-1]
    assert message.text
    assert not passed["dsplus_route"]["accepted"]
    large = [row for row in ledger.table() if row["side"] == "large"]
    assert len(large) == 1
    assert large[0]["input_tokens"] == message.usage_metadata["input_tokens"] > 0
    assert large[0]["calls"] == 1


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_tokens_stream_from_inside_the_agent(agent, is_async):
    from langchain_core.messages import HumanMessage

    given = {"messages": [HumanMessage("Tell me a story about a fox.")]}

    async def collect():
        return [chunk async for chunk, _ in agent.astream(given, stream_mode="messages")]

    sync = [] if is_async else [chunk for chunk, _ in agent.stream(given, stream_mode="messages")]
    chunks = asyncio.run(collect()) if is_async else sync
    words = [chunk.text for chunk in chunks if chunk.text]
    assert len(words) > 3
    assert len({chunk.id for chunk in chunks if chunk.text}) == 1  # one answer, shown once
