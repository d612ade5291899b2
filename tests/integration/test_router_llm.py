"""The whole chain on real parts: a real encoder, a real local LLM behind a real HTTP server, a real `ChatOpenAI`."""

import asyncio

import pytest

from langchain_dsplus import ConfidenceRouter, JSONLRecorder
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.small_models.sentence import SentenceClassifier

pytestmark = [pytest.mark.llm, pytest.mark.encoder]

LABELS = ["complaint", "praise"]
TRAIN = [
    ("The zip broke on the first day.", "complaint"),
    ("Nobody answers my emails.", "complaint"),
    ("It arrived with a scratch and a part was missing.", "complaint"),
    ("I want my money back.", "complaint"),
    ("The worst kettle that I ever had.", "complaint"),
    ("It stopped working after a week.", "complaint"),
    ("A wonderful lamp, I love the light.", "praise"),
    ("Quick delivery and friendly people.", "praise"),
    ("It works perfectly, I would buy it again.", "praise"),
    ("My children are delighted with it.", "praise"),
    ("Excellent sound for the price.", "praise"),
    ("The best chair that I ever had.", "praise"),
]
INPUTS = [
    {"text": "I love it, perfect quality and a lovely color."},
    {"text": "It broke at once and the seller does not reply."},
    {"text": "The box is blue."},
    {"text": "Hm."},
]


@pytest.fixture(scope="module")
def small(encoder_path):
    texts, gold = zip(*TRAIN, strict=True)
    return SentenceClassifier(encoder_path, labels=LABELS, input_key="text").fit(list(texts), list(gold))


def chat_model(server, **kwargs):
    return server.chat_model(max_tokens=8, timeout=120.0, **kwargs)


def build(small, server, recorder=None, parser=True, **kwargs):
    prompt = PromptPruner.from_messages(
        [("system", "Is the sentence a complaint or praise? Answer with one word."), ("human", "{text}")], labels=LABELS
    )
    large = prompt | chat_model(server)
    confidences = sorted(answer["confidence"] for answer in small.batch(INPUTS))
    threshold = (confidences[1] + confidences[2]) / 2  # two stay local, two are asked about
    if parser:
        large = large | LabelParser(LABELS, fallback="complaint")
    return ConfidenceRouter(small=small, large=large, threshold=threshold, recorder=recorder, **kwargs)


def test_half_stays_local_and_half_is_asked(small, smollm_server, tmp_path):
    path = tmp_path / "routes.jsonl"
    router = build(small, smollm_server, JSONLRecorder(path), include_route=True)
    results = router.batch(INPUTS)
    assert [r["route"]["accepted"] for r in results].count(True) == 2
    assert {r["output"] for r in results} <= set(LABELS)
    assert [r["output"] for r in results[:2]] == ["praise", "complaint"]
    assert [r["route"]["model"] for r in results[:2]] == ["small", "small"]
    assert len(list(JSONLRecorder.read(path))) == 4
    again = asyncio.run(router.abatch(INPUTS))
    # A model's word on "Hm." may differ from call to call; who answers may not.
    assert [r["route"]["model"] for r in again] == [r["route"]["model"] for r in results]
    assert [r["output"] for r in again[:2]] == ["praise", "complaint"]


def test_streams_join_to_the_answer_and_usage_is_real(small, smollm_server):
    router = build(small, smollm_server, parser=False)
    asked = next(v for v in INPUTS if not router.invoke(v).response_metadata["dsplus"]["accepted"])
    whole = router.invoke(asked)
    assert whole.usage_metadata["input_tokens"] > 10
    chunks = list(router.stream(asked))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert sum("dsplus" in chunk.response_metadata for chunk in chunks) == 1


def test_shadow_and_audits_ask_the_real_model_in_the_background(small, smollm_server, tmp_path):
    path = tmp_path / "routes.jsonl"
    with build(small, smollm_server, JSONLRecorder(path), mode="shadow") as router:
        router.batch(INPUTS)
    rows = list(JSONLRecorder.read(path))
    assert sorted(row["kind"] for row in rows) == ["route"] * 4 + ["shadow"] * 4
    path.unlink()
    with build(small, smollm_server, JSONLRecorder(path), audit_rate=1.0) as router:
        router.batch(INPUTS)
    rows = list(JSONLRecorder.read(path))
    audits = [row for row in rows if row["kind"] == "audit"]
    assert len(audits) == 2
    assert all(row["output"] in LABELS for row in audits)


def test_a_server_that_dies_leaves_the_small_answer(small, smollm_server):
    dead = smollm_server.chat_model(base_url="http://127.0.0.1:9/v1", max_retries=0, timeout=2.0)
    prompt = PromptPruner.from_messages([("human", "{text}")], labels=LABELS)
    router = ConfidenceRouter(
        small=small,
        large=prompt | dead | LabelParser(LABELS),
        threshold=None,
        on_large_error="small",
        include_route=True,
    )
    result = router.invoke(INPUTS[0])
    assert (result["output"], result["route"]["degraded"]) == ("praise", True)
