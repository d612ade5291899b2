"""`ChatClassifier` on fake chat models: log-probabilities, votes, priors, tracing, errors."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core._api import LangChainBetaWarning
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.load import dumps, loads
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate
from pydantic import Field

from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.labels import NoLabelMassError
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.chat import ChatClassifier

LABELS = ["negative", "positive"]


def content(distribution):
    """Token log-probabilities of a reply that is one label of one token."""
    listed = [{"token": t, "logprob": math.log(p)} for t, p in distribution.items()]
    return [{**max(listed, key=lambda e: e["logprob"]), "top_logprobs": listed}]


class Scripted(BaseChatModel):
    """Replies by the last line of the prompt that it knows; remembers every call."""

    replies: Any = Field(default_factory=dict)
    calls: list = Field(default_factory=list)
    streamed: list = Field(default_factory=list)
    refuses: str | None = None

    @property
    def _llm_type(self):
        return "scripted"

    def _reply(self, messages, kwargs):
        text = messages[-1].text
        self.calls.append((text, kwargs))
        if self.refuses and "logprobs" in kwargs:
            raise TypeError(self.refuses)
        reply = next((r for key, r in self.replies.items() if key in text), None)
        if reply is None:
            reply = self.replies["*"]
        if isinstance(reply, list):
            reply = reply.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, AIMessage):
            return reply
        if isinstance(reply, dict):
            metadata = {"logprobs": {"content": content(reply)}} if "logprobs" in kwargs else {}
            usage = {"input_tokens": 7, "output_tokens": 1, "total_tokens": 8}
            return AIMessage(max(reply, key=reply.get).strip(), response_metadata=metadata, usage_metadata=usage)
        return AIMessage(reply)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages, kwargs))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        self.streamed.append(kwargs)
        yield ChatGenerationChunk(message=AIMessageChunk(self._reply(messages, kwargs).text))


class Streaming(Scripted):
    """Like `ChatOpenAI`: `streaming` or `stream` asks the server for a stream, which `_generate` cannot read."""

    streaming: bool = False

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        assert not self.streaming
        assert not kwargs.get("stream")
        return super()._generate(messages, stop, run_manager, **kwargs)


class Gathering(Scripted):
    """Streams whatever it is told, and adds the chunks up itself."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        whole = self._reply(messages, kwargs)
        found = whole.response_metadata["logprobs"]["content"]
        parts = [
            ChatGenerationChunk(message=AIMessageChunk(""), generation_info={"logprobs": {"content": found}}),
            ChatGenerationChunk(message=AIMessageChunk(whole.text)),
            ChatGenerationChunk(message=AIMessageChunk(""), generation_info={"finish_reason": "stop"}),
        ]
        return generate_from_stream(iter(parts))


class Runs(BaseCallbackHandler):
    def __init__(self):
        self.tags, self.parents, self.tokens = [], [], 0

    def on_chat_model_start(self, serialized, messages, *, run_id, parent_run_id=None, tags=None, **kwargs):
        self.tags.append(tags)
        self.parents.append(parent_run_id)

    def on_llm_end(self, response, **kwargs):
        usage = response.generations[0][0].message.usage_metadata
        self.tokens += usage["total_tokens"] if usage else 0


GOOD = {
    "fine": {"positive": 0.6, " Positive": 0.2, "negative": 0.1, "So": 0.1},
    "bad": {"negative": 0.9, "positive": 0.1},
}


def small(replies=None, **kwargs):
    return ChatClassifier(Scripted(replies=GOOD if replies is None else replies), LABELS, **kwargs)


async def ask(model, inputs, async_, **kwargs):
    if async_:
        return await model.abatch(inputs, **kwargs)
    return model.batch(inputs, **kwargs)


@pytest.mark.parametrize("async_", [False, True])
async def test_probabilities_from_logprobs(async_):
    model = small()
    fine, bad = await ask(model, ["fine thing", "bad thing"], async_)
    assert fine["choice"] == "positive"
    assert fine["probabilities"] == pytest.approx({"negative": 1 / 9, "positive": 8 / 9}, abs=1e-5)
    assert fine["confidence"] == fine["probabilities"]["positive"]
    assert bad["choice"] == "negative"
    assert len(model.model.calls) == 2
    text, settings = model.model.calls[0]
    assert "- negative\n- positive" in text
    assert "fine thing" in text
    assert settings["logprobs"] is True
    assert settings["top_logprobs"] == 20
    assert settings["temperature"] == 0.0
    assert settings["max_tokens"] >= len("negative")


@pytest.mark.parametrize("async_", [False, True])
async def test_empty_batch_asks_nothing(async_):
    model = small()
    assert await ask(model, [], async_) == []
    assert model.answers([]) == []
    assert model.model.calls == []


@pytest.mark.parametrize("async_", [False, True])
async def test_errors_of_the_provider_come_back_as_they_were(async_):
    failure = ConnectionError("down")
    model = small({**GOOD, "broken": failure, "odd": {"perhaps": 1.0}})
    results = await ask(model, ["fine", "broken", 3, "bad", "odd"], async_, return_exceptions=True)
    assert results[0]["choice"] == "positive"
    assert results[1] is failure
    assert isinstance(results[2], TypeError)
    assert results[3]["choice"] == "negative"
    assert isinstance(results[4], NoLabelMassError)
    with pytest.raises(ConnectionError):
        await ask(model, ["fine", "broken"], async_)


@pytest.mark.parametrize("async_", [False, True])
async def test_auto_falls_back_to_votes_and_remembers(async_):
    model = small({"fine": "Positive!"}, votes=4)
    (answer,) = await ask(model, ["fine"], async_)
    assert answer == {
        "choice": "positive",
        "probabilities": {"negative": 0.0, "positive": 1.0},
        "confidence": 1.0,
    }
    assert len(model.model.calls) == 5
    await ask(model, ["fine", "fine"], async_)
    assert len(model.model.calls) == 5 + 2 * 5  # three replies without: that is enough
    await ask(model, ["fine"], async_)
    assert len(model.model.calls) == 15 + 4
    assert "logprobs" not in model.model.calls[-1][1]
    assert model.model.calls[-1][1]["temperature"] == 0.7


def test_auto_votes_where_the_model_refuses_the_option():
    model = ChatClassifier(
        Scripted(replies={"*": "negative"}, refuses="create() got an unexpected keyword argument 'logprobs'"), LABELS
    )
    assert model.invoke("x")["choice"] == "negative"
    assert len(model.model.calls) == 6
    strict = ChatClassifier(Scripted(replies={"*": "negative"}, refuses="no logprobs here"), LABELS, method="logprobs")
    with pytest.raises(TypeError, match="no logprobs here"):
        strict.invoke("x")
    silent = small({"*": "negative"}, method="logprobs")
    with pytest.raises(NoLabelMassError, match="method='votes'"):
        silent.invoke("x")


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("inputs", [["fine", "odd"], ["odd", "fine"]])
async def test_a_reply_without_logprobs_is_an_error_once_others_had_them(inputs, async_):
    model = small({**GOOD, "odd": "negative", "late": ValueError("logprobs are off")}, votes=3)
    odd = inputs.index("odd")
    results = await ask(model, inputs, async_, return_exceptions=True)
    assert isinstance(results[odd], NoLabelMassError)
    assert results[1 - odd]["choice"] == "positive"
    later = await ask(model, ["odd"] * 5 + ["late", "bad"], async_, return_exceptions=True)
    assert [type(r) for r in later[:6]] == [NoLabelMassError] * 5 + [ValueError]
    assert later[6]["choice"] == "negative"
    assert len(model.model.calls) == 2 + 7


@pytest.mark.parametrize("async_", [False, True])
async def test_one_odd_reply_does_not_condemn_the_model(async_):
    model = small({**GOOD, "odd": "negative"}, votes=3)
    assert (await ask(model, ["odd"], async_))[0]["confidence"] == 1.0
    (fine,) = await ask(model, ["fine"], async_)
    assert fine["probabilities"]["negative"] == pytest.approx(1 / 9, abs=1e-5)
    assert len(model.model.calls) == 1 + 3 + 1


class RejectedError(Exception):
    def __init__(self, status_code, said="the field logprobs is unknown", **fields):
        super().__init__(said)
        self.status_code = status_code
        self.__dict__.update(fields)


def caused_by(error):
    outer = ValueError("the call failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "votes"),
    [
        (RejectedError(400), True),
        (RejectedError(422), True),
        (TypeError("logprobs"), True),
        (RejectedError(403), True),
        (RejectedError(404), True),
        (RejectedError(501), True),
        (RejectedError(None), True),
        (RejectedError(400, "not allowed", param="logprobs"), True),
        (RejectedError(400, "not allowed", body={"param": "top_logprobs"}), True),
        (RejectedError(None, "bad request", code="logprobs_not_supported"), True),
        (RejectedError(None, "Log probabilities are not available for this model", code=400), True),
        (caused_by(RejectedError(403)), True),
        (RejectedError(403, "not allowed"), False),
        (RejectedError(None, code=429), False),
        (RejectedError(None, code="503"), False),
        (caused_by(RejectedError(429)), False),
        (TimeoutError("logprobs"), False),
        (ValueError("other"), False),
        (RejectedError(429), False),
        (ConnectionError("while reading logprobs"), False),
    ],
)
def test_only_a_rejected_option_is_voted_on_and_no_error_is_remembered(error, votes):
    model = small({**GOOD, "odd": [error, "negative", "negative", error, "negative", "negative"]}, votes=2)
    for _ in range(2):
        (result,) = model.batch(["odd"], return_exceptions=True)
        assert result["choice"] == "negative" if votes else result is error
        if not votes:
            model.model.replies["odd"] = [error]
    model.invoke("fine")
    assert "logprobs" in model.model.calls[-1][1]


@pytest.mark.parametrize("async_", [False, True])
async def test_labels_with_little_mass_are_no_proof(async_):
    replies = {"q": {"I": 0.9989, "a": 0.001}, "half": {"a": 0.5, "I": 0.49}}
    model = ChatClassifier(Scripted(replies=replies), ["a", "b"])
    low, half = await ask(model, ["q", "half"], async_)
    assert low["choice"] == half["choice"] == "a"
    assert low["confidence"] == pytest.approx(0.5, abs=0.01)
    assert sum(low["probabilities"].values()) == pytest.approx(1.0)
    assert half["confidence"] == pytest.approx(0.5 / 0.51, abs=1e-4)  # a hundredth was not listed
    lax = ChatClassifier(Scripted(replies=replies), ["a", "b"], min_mass=0.0)
    assert (await ask(lax, ["q"], async_))[0]["confidence"] == pytest.approx(0.001 / 0.0011, abs=1e-4)


def test_a_content_free_prior_may_have_little_mass():
    replies = {"x1": {"negative": 0.6, "positive": 0.4}, "*": {"negative": 0.15, "positive": 0.05, "So": 0.8}}
    assert small(replies, prior="content_free").invoke("x1")["choice"] == "positive"


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize(
    "content",
    [[5], [{"token": "positive", "logprob": 10**400}], [{"token": "positive", "logprob": "x", "top_logprobs": 5}]],
)
async def test_a_malformed_reply_spoils_no_other(content, async_):
    odd = AIMessage("positive", response_metadata={"logprobs": {"content": content}})
    results = await ask(small({**GOOD, "odd": odd}), ["fine", "odd", "bad"], async_, return_exceptions=True)
    assert isinstance(results[1], Exception)
    assert [results[0]["choice"], results[2]["choice"]] == ["positive", "negative"]


def test_malformed_alternatives_are_left_out():
    entry = {"token": "positive", "logprob": math.log(0.9), "top_logprobs": 5}
    odd = AIMessage("positive", response_metadata={"logprobs": {"content": [entry]}})
    assert small({"odd": odd}).invoke("odd")["probabilities"]["positive"] == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize(
    ("p", "labels", "choice"),
    [(0.3, ["yes", "no"], None), (0.55, ["yes", "no", "maybe"], "no"), (0.8, ["yes", "no"], "no")],
)
async def test_what_the_server_did_not_list_is_nobody_s(p, labels, choice, async_):
    entry = {"token": "no", "logprob": math.log(p), "top_logprobs": []}
    model = ChatClassifier(
        Scripted(replies={"q": AIMessage("no", response_metadata={"logprobs": {"content": [entry]}})}), labels
    )
    (answer,) = await ask(model, ["q"], async_, return_exceptions=True)
    if choice is None:
        assert isinstance(answer, InvalidAnswerError)
        return
    assert answer["choice"] == choice
    assert answer["confidence"] == pytest.approx(p, abs=1e-5)
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)


@given(
    seen=st.lists(st.floats(0.001, 1.0), min_size=3, max_size=3),
    other=st.floats(0.0, 1.0),
    unseen=st.floats(0.0, 1.0),
    gift=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3),
    prior=st.lists(st.floats(0.1, 1.0), min_size=3, max_size=3),
)
@example([1.0, 1.0, 0.5], 0.0, 0.25, [0.0, 0.0, 1.0], [0.5, 0.75, 0.5])
@example([0.9527141026891385] + [0.801706358047639] * 2, 1e-130, 0.703125, [0.0] * 3, [1.0] + [0.801706358047639] * 2)
def test_whoever_the_unseen_belongs_to_the_choice_stays_and_is_at_least_as_sure(seen, other, unseen, gift, prior):
    labels = ["a", "b", "c"]
    total = sum(seen) + other + unseen
    seen, other, unseen = [p / total for p in seen], other / total, unseen / total

    def answer(masses, listed):
        entries = [*zip(labels, masses, strict=True), ("zzz", listed)]
        content_ = [{"token": t, "logprob": math.log(p)} for t, p in entries if p > 0.0]
        first = max(content_[: len(labels)], key=lambda e: e["logprob"])
        reply = AIMessage(
            first["token"], response_metadata={"logprobs": {"content": [{**first, "top_logprobs": content_}]}}
        )
        model = ChatClassifier(
            Scripted(replies={"q": reply}),
            labels,
            prior=dict(zip(labels, prior, strict=True)),
            min_mass=0.0,
        )
        return model.answers(["q"])[0]

    known = answer(seen, other)
    share = sum(gift) + 1e-9
    # A token that is not listed has at most as much as the least of the list; four of them may begin a label.
    most = 4 * min(p for p in [*seen, other] if p > 0.0)
    given_ = [min(unseen * g / share, most) for g in gift]
    truth = answer([p + g for p, g in zip(seen, given_, strict=True)], other + unseen - sum(given_))
    if isinstance(known, Exception):
        assert isinstance(known, InvalidAnswerError)
        return
    if isinstance(truth, Exception):  # of two labels that are level, what rounding leaves over may prefer either
        first, second = sorted(known["probabilities"].values())[:-3:-1]
        assert first == pytest.approx(second)
        return
    assert known["confidence"] <= truth["probabilities"][known["choice"]] + 1e-4
    if known["confidence"] > 0.5 + 1e-3:
        assert truth["choice"] == known["choice"]


@pytest.mark.parametrize("async_", [False, True])
@pytest.mark.parametrize("bound", [False, True])
async def test_a_model_that_streams_is_asked_without_a_stream(bound, async_):
    inner = Streaming(replies=GOOD, streaming=True)
    model = ChatClassifier(inner.bind(stream=True, stream_options={"include_usage": True}) if bound else inner, LABELS)
    (fine,) = await ask(model, ["fine"], async_)
    assert fine["probabilities"] == pytest.approx({"negative": 1 / 9, "positive": 8 / 9}, abs=1e-5)
    assert inner.streamed == []
    assert not any("stream" in kwargs for _, kwargs in inner.calls)


async def test_log_probabilities_that_a_model_gathers_over_chunks():
    model = ChatClassifier(Gathering(replies=GOOD), LABELS)
    assert model.invoke("fine")["probabilities"] == pytest.approx({"negative": 1 / 9, "positive": 8 / 9}, abs=1e-5)


@pytest.mark.parametrize("async_", [False, True])
async def test_vote_shares(async_):
    replies = {"q1": ["positive", "negative", "It is positive.", "no idea"], "q2": ["?", "??", "", "-"]}
    model = small(replies, method="votes", votes=4)
    first, second = await ask(model, ["q1"], async_) + await ask(model, ["q2"], async_, return_exceptions=True)
    assert first["probabilities"] == pytest.approx({"negative": 1.5 / 4, "positive": 2.5 / 4})
    assert isinstance(second, ValueError)
    assert "votes" in str(second)


@pytest.mark.parametrize("other", ["I cannot say.", TimeoutError("late")])
def test_votes_that_name_no_label_lower_the_confidence(other):
    model = ChatClassifier(Scripted(replies={"*": ["a"] + [other] * 4}), ["a", "b", "c", "d"], method="votes")
    answer = model.invoke("x")
    assert answer["choice"] == "a"
    assert answer["probabilities"] == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.2, "d": 0.2})


def test_a_failing_vote_is_an_even_one_and_only_failing_votes_are_the_error():
    failure = TimeoutError("late")
    model = small({"q1": ["positive", failure, "positive"], "q2": [failure] * 3}, method="votes", votes=3)
    assert model.invoke("q1")["confidence"] == pytest.approx(2.5 / 3)
    assert model.batch(["q2"], return_exceptions=True)[0] is failure


def test_a_cache_does_not_make_one_reply_vote_for_all():
    cache = InMemoryCache()
    votes = ["positive", "negative", "positive", "negative", "negative"]
    model = ChatClassifier(Scripted(replies={"*": votes}, cache=cache), LABELS, method="votes")
    assert model.invoke("x")["probabilities"] == pytest.approx({"negative": 0.6, "positive": 0.4})


# --- priors -------------------------------------------------------------------------------------------------------


def test_a_prior_is_divided_out():
    model = small({"*": {"negative": 0.6, "positive": 0.4}}, prior={"negative": 0.75, "positive": 0.25})
    answer = model.invoke("x")
    assert answer["choice"] == "positive"
    assert answer["probabilities"] == pytest.approx({"negative": 1 / 3, "positive": 2 / 3}, abs=1e-5)


@pytest.mark.parametrize("async_", [False, True])
async def test_the_content_free_prior_is_asked_once(async_):
    replies = {"x1": {"negative": 0.6, "positive": 0.4}, "*": {"negative": 0.75, "positive": 0.25}}
    model = small(replies, prior="content_free")
    first = await ask(model, ["x1", "x1"], async_)
    assert first[0]["probabilities"] == pytest.approx({"negative": 1 / 3, "positive": 2 / 3}, abs=1e-5)
    assert len(model.model.calls) == 2 + 3
    await ask(model, ["x1"], async_)
    assert len(model.model.calls) == 6
    assert any("N/A" in text for text, _ in model.model.calls)


def test_warmup_asks_for_the_prior():
    model = small({"*": {"negative": 0.75, "positive": 0.25}}, prior="content_free")
    model.warmup()
    assert len(model.model.calls) == 3
    model.warmup()
    model.invoke("x")
    assert len(model.model.calls) == 4
    plain = small()
    plain.warmup()
    assert plain.model.calls == []


def test_a_failing_content_free_prior_fails_the_items_and_is_tried_again():
    failure = ConnectionError("down")
    model = small({"x1": {"negative": 0.6, "positive": 0.4}, "*": [failure] * 3 + ["-"] * 9}, prior="content_free")
    assert model.batch(["x1"], return_exceptions=True)[0] is failure
    model.model.replies["*"] = {"negative": 0.5, "positive": 0.5}
    assert model.invoke("x1")["choice"] == "negative"


@pytest.mark.parametrize("async_", [False, True])
async def test_fit_prior_is_the_mean_prediction(async_):
    model = small({"t1": {"negative": 0.9, "positive": 0.1}, "t2": {"negative": 0.5, "positive": 0.5}, "*": "?"})
    before = model.version
    fitted = await model.afit_prior(["t1", "t2"]) if async_ else model.fit_prior(["t1", "t2"])
    assert fitted is model
    assert model.prior == pytest.approx({"negative": 0.7, "positive": 0.3}, abs=1e-5)
    assert model.invoke("t2")["choice"] == "positive"
    assert model.version == before == UNVERIFIABLE  # a fake model cannot be seen into
    with pytest.raises(ValueError, match="texts"):
        model.fit_prior([])


def test_a_prior_is_never_nearly_zero():
    model = small({"*": {"negative": 1.0 - 1e-9, "positive": 1e-9}}).fit_prior(["x"])
    assert model.prior["positive"] >= 0.004


# --- scores -------------------------------------------------------------------------------------------------------


def test_mean_token_probability_is_the_score_of_generated_text():
    assert small(score="mean_token_probability").invoke("fine")["confidence"] == pytest.approx(0.6)
    assert small(score="margin").invoke("bad")["confidence"] == pytest.approx(0.8, abs=1e-5)
    assert small(score=lambda p: p["negative"]).invoke("bad")["confidence"] == pytest.approx(0.9, abs=1e-5)
    with pytest.raises(ValueError, match="log-probabilities"):
        small({"*": "positive"}, score="mean_token_probability").invoke("x")
    with pytest.raises(ValueError, match="method='logprobs'"):
        small(score="mean_token_probability", method="votes")


def test_predict_proba():
    model = small({**GOOD, "broken": ConnectionError("down")})
    rows = np.asarray(model.predict_proba(["fine", "broken", "bad"]))
    assert rows.shape == (3, 2)
    assert np.isnan(rows[1]).all()
    assert rows[[0, 2]].sum(axis=1) == pytest.approx([1.0, 1.0])
    with pytest.raises(ConnectionError):
        model.predict_proba(["broken"])


# --- prompts and inputs -------------------------------------------------------------------------------------------


def test_inputs():
    model = small()
    assert model.invoke({"text": "fine"})["choice"] == "positive"
    assert model.invoke({"review": "bad"})["choice"] == "negative"
    assert small(input_key="review").invoke({"review": "bad", "title": "fine"})["choice"] == "negative"
    with pytest.raises(TypeError):
        model.invoke({"review": "bad", "title": "fine"})
    braces = small({"{x} bad": {"negative": 1.0}})
    assert braces.invoke("{x} bad")["choice"] == "negative"


def test_a_prompt_of_one_s_own():
    model = small(prompt="Say {labels} about: {review}")
    assert model.invoke("fine")["choice"] == "positive"
    assert model.model.calls[0][0] == "Say - negative\n- positive about: fine"
    two = ChatPromptTemplate.from_messages([("system", "{labels}"), ("human", "{title}: {body}")])
    assert small(prompt=two).invoke({"title": "fine", "body": "b"})["choice"] == "positive"
    with pytest.raises(TypeError, match="body"):
        small(prompt=two).invoke("fine")
    with pytest.raises(ValueError, match="fit_prior"):
        small(prompt=two, prior="content_free")


def test_descriptions_and_unusual_labels_in_the_prompt():
    model = ChatClassifier(
        Scripted(replies={"*": {"a{b}": 0.9}}), ["a{b}", "two\nlines"], descriptions={"a{b}": "braces\n-  b"}
    )
    assert model.invoke("x")["choice"] == "a{b}"
    assert '- a{b}: braces - b\n- "two\\nlines"\n' in model.model.calls[0][0]


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"labels": ["one"]}, "labels"),
        ({"labels": ["a", " "]}, "labels"),
        ({"labels": ["a", "a"]}, "distinct"),
        ({"prompt": "no place"}, "text"),
        ({"prompt": 3}, "prompt"),
        ({"votes": 0}, "votes"),
        ({"min_mass": -0.1}, "min_mass"),
        ({"min_mass": 1.1}, "min_mass"),
        ({"temperature": 0.0}, "temperature"),
        ({"prior": {"negative": 1.0}}, "prior"),
        ({"prior": {"negative": 1.0, "positive": 0.0}}, "prior"),
        ({"descriptions": {"other": "x"}}, "descriptions"),
        ({"method": "guess"}, "method"),
        ({"score": "nope"}, "score"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        ChatClassifier(**{"model": Scripted(), "labels": LABELS, **kwargs})


def test_the_model_must_be_a_runnable():
    with pytest.raises(TypeError, match="chat model"):
        ChatClassifier("gpt", LABELS)


# --- tracing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("async_", [False, True])
async def test_child_runs_are_tagged_nested_and_keep_their_usage(async_):
    runs = Runs()
    model = small(name="tiny")
    await ask(model, ["fine", "bad"], async_, config={"callbacks": [runs], "tags": ["mine"]})
    assert len(runs.tags) == 2
    assert all({"tiny", "nostream", "mine"} <= set(tags) for tags in runs.tags)
    assert all(runs.parents)
    assert runs.tokens == 16


async def test_no_draft_is_streamed():
    model = small()
    events = [event async for event in model.astream_events("fine", version="v2")]
    assert model.model.streamed == []
    assert not [e for e in events if e["event"] == "on_chat_model_stream"]
    assert [e for e in events if e["event"] == "on_chat_model_end"]


async def test_nothing_reaches_a_graph_s_message_stream():
    from langgraph.graph import END, START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict):
        text: str
        choice: str

    model = small()

    def node(state: State):
        return {"choice": model.invoke(state["text"])["choice"]}

    graph = StateGraph(State).add_node("n", node).add_edge(START, "n").add_edge("n", END).compile()
    parts = list(graph.stream({"text": "fine"}, stream_mode=["messages", "values"]))
    assert [mode for mode, _ in parts if mode == "messages"] == []
    assert parts[-1][1]["choice"] == "positive"


def test_a_bound_and_retried_model():
    base = Scripted(replies=GOOD)
    model = ChatClassifier(base.with_retry(stop_after_attempt=2).with_config(tags=["t"]), LABELS)
    assert model.invoke("fine")["choice"] == "positive"


# --- what it is ---------------------------------------------------------------------------------------------------


class Open(Scripted):
    """A chat model that can be dumped."""

    endpoint: str = "here"
    api_key: str = "sk-secret"

    @classmethod
    def is_lc_serializable(cls):
        return True

    @property
    def lc_secrets(self):
        return {"api_key": "OPEN_KEY"}


def test_the_version_follows_everything_that_shapes_the_answers():
    def version(model=None, **kwargs):
        return ChatClassifier(model or Open(), LABELS, **kwargs).version

    base = version()
    assert len(base) == 64
    assert version() == base
    assert version(Open(api_key="sk-other")) == base
    assert version(ChatClassifier(Open(), LABELS).clone().model) == base
    changed = [
        version(Open(endpoint="there")),
        version(prompt="{labels} {text}"),
        version(method="votes"),
        version(votes=3),
        version(min_mass=0.4),
        version(prior="content_free"),
        version(prior={"negative": 0.5, "positive": 0.5}),
        version(score="margin"),
        version(descriptions={"negative": "bad"}),
        ChatClassifier(Open(), ["negative", "neutral"]).version,
    ]
    assert len({base, *changed}) == len(changed) + 1
    assert version(version="v7") == "v7"
    assert small().version == UNVERIFIABLE
    assert version(score=lambda p: 1.0) != base


def test_the_repr_leaves_the_chat_model_out():
    text = repr(ChatClassifier(Open(api_key="sk-secret"), LABELS, votes=3))
    assert "sk-secret" not in text
    assert "votes=3" in text


def test_a_dump_names_the_class_and_no_secret():
    text = dumps(ChatClassifier(Open(), LABELS))
    assert "sk-secret" not in text
    assert json.loads(text)["id"] == ["langchain_dsplus", "small_models", "chat", "ChatClassifier"]


def test_dumps_and_loads_with_a_real_chat_model():
    openai = pytest.importorskip("langchain_openai")
    llm = openai.ChatOpenAI(model="m", base_url="http://127.0.0.1:9/v1", api_key="sk-secret", temperature=0.5)
    model = ChatClassifier(llm, LABELS, "About {text}: {labels}", votes=3, prior={"negative": 0.4, "positive": 0.6})
    text = dumps(model)
    assert "sk-secret" not in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        again = loads(
            text,
            secrets_map={"OPENAI_API_KEY": "sk-other"},
            allowed_objects=[
                ChatClassifier, ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate, openai.ChatOpenAI,
            ],
            valid_namespaces=["langchain_dsplus"],
        )  # fmt: skip
    assert again.version == model.version
    assert (again.labels, again.votes, again.prior, again.model.model_name) == (LABELS, 3, model.prior, "m")


def test_clone_shares_the_chat_model_and_nothing_else():
    model = small(prior={"negative": 0.5, "positive": 0.5})
    copy = model.clone()
    copy.prior["negative"] = 0.9
    copy.labels.append("x")
    assert model.prior["negative"] == 0.5
    assert model.labels == LABELS
    assert copy.model is model.model
