"""The classification graph with real models: scikit-learn in this process, a small open LLM over HTTP."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langchain_dsplus import ConfidenceRouter, CostLedger, LabelParser, Price, PromptPruner, SklearnClassifier
from langchain_dsplus.graphs import create_dsplus_graph

pytest.importorskip("sklearn", reason="needs the extra `sklearn`")

LABELS = ["delivery", "refund", "password"]
EXAMPLES = {
    "delivery": ["Where is my parcel?", "the parcel has not arrived", "when will it be delivered"],
    "refund": ["I want my money back", "please refund me", "how do I get a refund"],
    "password": ["I forgot my password", "cannot log in", "reset my password please"],
}
TEXTS = ["Where is my parcel now?", "I cannot log in", "it is broken, what now?", "the courier never came"]


def fitted(ngrams):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [text for examples in EXAMPLES.values() for text in examples]
    gold = [label for label, examples in EXAMPLES.items() for _ in examples]
    pipeline = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=ngrams), LogisticRegression(C=50.0))
    return SklearnClassifier(pipeline.fit(texts, gold), input_key="text")


@pytest.mark.llm
@pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])
async def test_the_graph_answers_as_the_router_does(smollm_server, async_):
    specific, learnable = fitted((1, 3)), fitted((2, 5))
    prompt = PromptPruner.from_messages([("system", "What is the message about?"), ("human", "{text}")], labels=LABELS)
    parser = LabelParser(LABELS, fallback="refund")

    def chat():
        return smollm_server.chat_model(temperature=0, max_tokens=6, seed=1, stream_usage=True)

    router = ConfidenceRouter(
        small=[specific, learnable], large=prompt.chain(chat(), parser=parser), threshold=0.7, include_route=True
    )
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None))
    graph = create_dsplus_graph(
        specific, chat(), learnable=learnable, prompt=prompt, parser=parser, threshold=0.7, checkpointer=saver
    )
    ledger, used, asked = CostLedger(Price(input=1.0, output=1.0)), 0, 0
    for number, text in enumerate(TEXTS):
        wanted = router.invoke({"text": text})
        config = {"configurable": {"thread_id": str(number)}, "callbacks": [ledger]}
        value = {"text": text}
        chunks = (
            [c async for c in graph.astream(value, config, stream_mode=["messages", "values"])]
            if async_
            else list(graph.stream(value, config, stream_mode=["messages", "values"]))
        )
        state = [chunk for mode, chunk in chunks if mode == "values"][-1]
        route, other = state["route"], wanted["route"]
        assert (state["label"], route["model"], route["answers"]) == (
            wanted["output"],
            other["model"],
            other["answers"],
        )
        tokens = [chunk for mode, chunk in chunks if mode == "messages" and chunk[1]["langgraph_node"] == "large"]
        if route["accepted"]:
            assert tokens == []
            continue
        asked += 1
        assert "".join(message.text for message, _ in tokens) == state["reply"].text
        used += state["reply"].usage_metadata["total_tokens"]
        saved = (await graph.aget_state(config) if async_ else graph.get_state(config)).values
        assert saved == state
    total = ledger.total()
    assert 0 < asked < len(TEXTS)
    assert total["input_tokens"] + total["output_tokens"] == used
    assert sum(row["calls"] for row in ledger.table() if row["side"] == "large") == asked
