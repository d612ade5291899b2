"""The scores that a model computes itself, on fakes and on a real encoder and a real language model."""

from __future__ import annotations

import math

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field, ValidationError

from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.chat import ChatClassifier
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier

LABELS = ["negative", "positive"]
TOKEN_SCORES = ["energy", "mean_token_probability", "token_quantile"]


def token(distribution):
    listed = [{"token": t, "logprob": math.log(p)} for t, p in distribution.items()]
    return {**max(listed, key=lambda e: e["logprob"]), "top_logprobs": listed}


class Scripted(BaseChatModel):
    """Gives the next reply: a list of token distributions, a text, or an exception."""

    replies: list = Field(default_factory=list)

    @property
    def _llm_type(self):
        return "scripted"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        message = AIMessage(reply if isinstance(reply, str) else "".join(max(d, key=d.get) for d in reply))
        if not isinstance(reply, str):
            message.response_metadata["logprobs"] = {"content": [token(d) for d in reply]}
        return ChatResult(generations=[ChatGeneration(message=message)])


TWO_TOKENS = [{"pos": 0.6, "neg": 0.2, "So": 0.2}, {"itive": 0.9, "x": 0.1}]


def ask(*replies, **options):
    return ChatClassifier(Scripted(replies=list(replies)), LABELS, **options).invoke("a text")


def test_energy_is_the_mass_that_goes_to_labels():
    answer = ask([{"positive": 0.3, "negative": 0.5, "So": 0.2}], score="energy")
    assert answer["choice"] == "negative"
    assert answer["confidence"] == pytest.approx(math.log(0.8), abs=1e-5)
    off = ask([{"positive": 0.02, "negative": 0.01, "So": 0.97}], score="energy")
    assert off["confidence"] == pytest.approx(math.log(0.03), abs=1e-5)
    # Two labels equally lost are as sure of each other as two that are not.
    assert ask([{"positive": 0.02, "negative": 0.01, "So": 0.97}], min_mass=0.0)["confidence"] == pytest.approx(
        2 / 3, abs=1e-4
    )


def test_energy_with_a_prior():
    reply = [{"positive": 0.3, "negative": 0.5, "So": 0.2}]
    prior = ask(reply, score="energy", prior={"negative": 0.9, "positive": 0.1})
    assert prior["choice"] == "positive"
    assert prior["confidence"] == pytest.approx(math.log(0.8), abs=1e-5)


@pytest.mark.parametrize(("quantile", "expected"), [(0.0, 0.6), (0.5, 0.75), (1.0, 0.9)])
def test_token_quantiles(quantile, expected):
    assert ask(TWO_TOKENS, score="token_quantile", quantile=quantile)["confidence"] == pytest.approx(expected)
    assert ask(TWO_TOKENS, score="mean_token_probability")["confidence"] == pytest.approx(0.75)


@pytest.mark.parametrize("score", ["mean_token_probability", "token_quantile"])
def test_a_sure_reply_that_is_no_label_is_no_proof(score):
    sure = ask([{"I": 0.97, "positive": 0.03}], score=score)
    assert sure["confidence"] == pytest.approx(0.97 * 0.03, abs=1e-6)


@pytest.mark.parametrize("score", TOKEN_SCORES)
def test_token_scores_need_log_probabilities(score):
    with pytest.raises(InvalidAnswerError, match=f"{score}.+needs log-probabilities"):
        ask("positive", *["positive"] * 5, score=score)
    with pytest.raises(ValueError, match="method='logprobs'"):
        ask(score=score, method="votes")


def test_vote_share_counts_every_call():
    replies = ["positive", "positive", "no idea", TimeoutError("late"), "negative"]
    answer = ask(*replies, score="vote_share", method="votes", votes=5)
    assert answer["choice"] == "positive"
    assert answer["confidence"] == pytest.approx(2 / 5)
    assert answer["probabilities"]["positive"] == pytest.approx(3 / 5)
    for method in ("auto", "logprobs"):
        with pytest.raises(ValueError, match="method='votes'"):
            ask(score="vote_share", method=method)


def test_vote_share_of_the_choice_that_the_prior_turned():
    answer = ask(
        *["negative"] * 3,
        *["positive"] * 2,
        score="vote_share",
        method="votes",
        prior={"negative": 0.9, "positive": 0.1},
    )
    assert (answer["choice"], answer["confidence"]) == ("positive", pytest.approx(2 / 5))


def test_settings_are_checked_and_shape_the_version():
    with pytest.raises(ValueError, match="quantile"):
        ask(score="token_quantile", quantile=1.5)
    with pytest.raises(ValueError, match=r"ChatClassifier.+energy.+entropy.+vote_share.+not 'sure'"):
        ask(score="sure")
    with pytest.raises(ValueError, match=r"FakeSmallModel.+max_probability.+not 'energy'"):
        FakeSmallModel(default={"a": 1.0}, score="energy")


def test_the_score_is_fixed_at_construction():
    """A threshold holds for the score that it was chosen with, and so does the version in a certificate."""
    model = FakeSmallModel(default={"a": 0.75, "b": 0.25}, score="margin")
    version = model.version
    with pytest.raises(ValidationError, match="frozen"):
        model.score = "entropy"
    assert model.clone().invoke("x")["confidence"] == 0.5
    assert model.version == version


def test_a_router_s_own_score_and_the_model_s():
    small = FakeSmallModel(default={"a": 0.75, "b": 0.25}, score="margin")

    def large(_) -> str:
        return "LARGE"

    route = {
        "include_route": True,
        "threshold": 0.4,
        "small": small,
        "large": large,
        "to_output": lambda a, _: a["choice"],
    }
    for score, confidence in ((None, 0.5), ("max_probability", 0.75), (lambda p: p["b"], 0.25)):
        found = ConfidenceRouter(**route, score=score).invoke("x")["route"]
        assert found["answers"][0]["confidence"] == confidence
        assert found["accepted"] == (confidence > 0.4)
    with pytest.raises(ValueError, match="Set it where the small model is made"):
        ConfidenceRouter(**route, score="energy")


# --- real parts -----------------------------------------------------------------------------------------------------

PRAISE = ["great sound", "a lovely lamp", "works perfectly", "very solid and quick", "I would buy it again"]
BLAME = ["awful sound", "broken after a day", "does not work", "slow and dull", "a waste of money"]


@pytest.mark.encoder
def test_energy_of_a_real_encoder_falls_far_from_the_training_texts(encoder_path):
    pytest.importorskip("sentence_transformers")
    texts, labels = PRAISE + BLAME, ["pos"] * 5 + ["neg"] * 5
    small = SentenceClassifier(encoder_path, score="energy", l2=0.1).fit(texts, labels)
    near = small.batch(["lovely sound", "broken and slow", "a great lamp", "awful waste of money"])
    far = small.batch(["qx7 zz 0x3f", "The treaty was signed in 1648.", "x = [i**2 for i in range(9)]", "雪の日"])
    mean = [sum(a["confidence"] for a in answers) / 4 for answers in (near, far)]
    assert mean[0] > mean[1]
    assert all(math.isfinite(a["confidence"]) for a in near + far)
    plain = SentenceClassifier(encoder_path, l2=0.1).fit(texts, labels)
    assert plain.batch(PRAISE)[0]["probabilities"] == small.batch(PRAISE)[0]["probabilities"]


@pytest.mark.llm
def test_token_scores_of_a_real_language_model(smollm_server):
    llm = smollm_server.chat_model()
    found = {}
    for score in TOKEN_SCORES:
        small = ChatClassifier(llm, LABELS, method="logprobs", score=score)
        answers = small.batch([*PRAISE, *BLAME], return_exceptions=True)
        found[score] = [a["confidence"] for a in answers if not isinstance(a, Exception)]
    assert found["energy"]
    assert all(
        low <= mean + 1e-9 for low, mean in zip(found["token_quantile"], found["mean_token_probability"], strict=True)
    )
    assert all(0.0 < p <= 1.0 for p in found["token_quantile"])
    assert all(math.isfinite(e) and e <= 1e-6 for e in found["energy"])


@pytest.mark.llm
def test_vote_shares_of_a_real_language_model(smollm_server):
    small = ChatClassifier(
        smollm_server.chat_model(), LABELS, method="votes", votes=4, max_tokens=6, score="vote_share"
    )
    answers = [
        a for a in small.batch([*PRAISE[:2], *BLAME[:2]], return_exceptions=True) if not isinstance(a, Exception)
    ]
    assert answers
    assert {a["confidence"] for a in answers} <= {0.25, 0.5, 0.75, 1.0}
