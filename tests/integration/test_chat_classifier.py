"""`ChatClassifier` and `PrunedChain` with a real `ChatOpenAI` against a real small model."""

from __future__ import annotations

import math

import pytest
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.exceptions import OutputParserException

from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.labels import label_probabilities, token_logprobs
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.small_models.chat import ChatClassifier

pytestmark = [pytest.mark.llm]
pytest.importorskip("langchain_openai")

REMARKS = [
    ("I love this lamp, it is wonderful and bright.", "positive"),
    ("Great sound, and it works perfectly.", "positive"),
    ("The best purchase of the year, highly recommended!", "positive"),
    ("Terrible, it broke after a single day.", "negative"),
    ("A waste of money, do not buy it.", "negative"),
    ("The worst headphones I have ever had.", "negative"),
    ("It is beautiful and very well made.", "positive"),
    ("Fast delivery, my children adore it.", "positive"),
    ("So comfortable that I would buy it again.", "positive"),
    ("Cheap plastic, and it arrived broken.", "negative"),
    ("It stopped working and nobody answered my mails.", "negative"),
    ("Ugly, loud and far too small.", "negative"),
]
TEXTS = [text for text, _ in REMARKS]


@pytest.fixture(scope="module")
def llm(smollm_server):
    return smollm_server.chat_model()


@pytest.mark.parametrize("async_", [False, True])
async def test_label_probabilities_of_a_real_model(llm, async_):
    small = ChatClassifier(llm, ["negative", "positive"], method="logprobs")
    if async_:
        await small.afit_prior(TEXTS)
        found = await small.abatch(TEXTS, return_exceptions=True)
    else:
        found = small.fit_prior(TEXTS).batch(TEXTS, return_exceptions=True)
    # What the list leaves out might change some choices of a model this small: those escalate.
    pairs = [
        (answer, gold) for answer, (_, gold) in zip(found, REMARKS, strict=True) if not isinstance(answer, Exception)
    ]
    assert all(isinstance(answer, (dict, InvalidAnswerError)) for answer in found)
    answers = [answer for answer, _ in pairs]
    assert len(answers) >= 2
    assert sum(answer["choice"] == gold for answer, gold in pairs) >= 0.6 * len(pairs)
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
        assert math.isfinite(answer["confidence"])
        assert 0.5 <= answer["confidence"] < 1.0


def test_labels_of_several_tokens_that_begin_alike(llm):
    labels = ["card payment wrong", "card payment fee", "card lost"]
    small = ChatClassifier(llm, labels, method="logprobs", score="mean_token_probability")
    texts = ["I lost my card on the train.", "Why was there a fee on my card payment?"]
    for text, answer in zip(texts, small.batch(texts, return_exceptions=True), strict=True):
        if isinstance(answer, Exception):  # too much is not listed to say which
            assert isinstance(answer, InvalidAnswerError)
            continue
        assert list(answer["probabilities"]) == labels
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
        assert 0.0 < answer["confidence"] <= 1.0
        assert ("lost" in answer["choice"]) == ("lost" in text)


def test_token_probabilities_add_up(llm):
    reply = llm.bind(logprobs=True, top_logprobs=20, max_tokens=8).invoke(
        "Answer with one word: is snow white or black?"
    )
    probabilities, unassigned = label_probabilities(token_logprobs(reply), ["white", "black"])
    assert probabilities["white"] + probabilities["black"] == pytest.approx(1.0)
    assert 0.0 <= unassigned < 1.0


def test_votes_of_a_real_model_and_token_usage(llm):
    small = ChatClassifier(llm, ["negative", "positive"], method="votes", votes=3, max_tokens=6)
    with get_usage_metadata_callback() as usage:
        (answer,) = small.batch(TEXTS[:1], return_exceptions=True)
    (counts,) = usage.usage_metadata.values()
    assert counts["input_tokens"] > 3 * 10
    if not isinstance(answer, Exception):
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)


def test_the_content_free_prior_of_a_real_model(llm):
    small = ChatClassifier(llm, ["negative", "positive"], prior="content_free")
    small.warmup()
    raw = ChatClassifier(llm, ["negative", "positive"])
    corrected, plain = (model.batch(TEXTS, return_exceptions=True) for model in (small, raw))
    shift = [
        math.log(c["probabilities"]["positive"] / c["probabilities"]["negative"])
        - math.log(p["probabilities"]["positive"] / p["probabilities"]["negative"])
        for c, p in zip(corrected, plain, strict=True)
        if not isinstance(c, Exception) and not isinstance(p, Exception) and c["choice"] == p["choice"]
    ]
    assert all(isinstance(a, (dict, InvalidAnswerError)) for a in [*corrected, *plain])
    if shift:
        assert max(shift) - min(shift) < 1.0  # about one and the same bias is taken out of every item
        assert abs(shift[0]) > 1e-3


def test_the_version_is_the_same_for_the_same_server_and_carries_no_key(llm):
    small = ChatClassifier(llm, ["negative", "positive"])
    assert len(small.version) == 64
    assert ChatClassifier(llm, ["negative", "positive"]).version == small.version


class Prompts(BaseCallbackHandler):
    def __init__(self):
        self.texts = []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.texts += [message.text for batch in messages for message in batch]


@pytest.mark.parametrize("async_", [False, True])
async def test_a_pruned_prompt_reaches_the_model_and_only_offered_labels_come_back(llm, async_):
    labels = ["animal", "plant", "tool"]
    pruner = PromptPruner.from_messages([("human", "What is a {text}?")], labels=labels, pruning="keep", top_k=2)
    # min_mass: a model this small may say something else; its log-probabilities then decide.
    model = llm.bind(max_tokens=12, logprobs=True, top_logprobs=20)
    chain = pruner.chain(model, min_mass=1e-9)
    prompts = Prompts()
    values = [
        {"text": "hammer", "probabilities": {"animal": 0.1, "tool": 0.8, "plant": 0.1}},
        {"text": "horse", "probabilities": {"animal": 0.8, "tool": 0.15, "plant": 0.05}},
    ]
    kwargs = {"config": {"callbacks": [prompts]}, "return_exceptions": True}
    first, second = await chain.abatch(values, **kwargs) if async_ else chain.batch(values, **kwargs)
    assert first == "tool" or isinstance(first, OutputParserException)  # cut prose is no label
    assert second in ("animal", "tool") or isinstance(second, OutputParserException)
    assert len(prompts.texts) == 2
    assert all("- animal\n- tool\n" in text and "plant" not in text for text in prompts.texts)
