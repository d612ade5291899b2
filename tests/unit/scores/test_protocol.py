"""Scores in a router: who is asked, in every way of asking; bound to certificates, recorded, saved."""

from __future__ import annotations

import asyncio
import math

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, certify, collect_outcomes
from langchain_dsplus.answer import MismatchError
from langchain_dsplus.confidence import is_route_score
from langchain_dsplus.identity import score_name
from langchain_dsplus.routing.persistence import SavedRouterError, load_router, save_router
from langchain_dsplus.scores import WinProbability, score_outcomes
from langchain_dsplus.scores.protocol import asks_before, rate
from tests.unit.scores.conftest import LABELS, stream


class Short:
    """Short inputs stay local; counts what it is asked."""

    name = "short"

    def __init__(self, *, before, version="1"):
        self.before = before
        self.version = version
        self.asked = []

    def fit(self, outcomes, inputs=None):
        del outcomes, inputs
        return self

    def __call__(self, inputs, answers=None):
        assert (answers is None) == self.before
        self.asked.append(list(inputs))
        if any(text == "bad" for text in inputs):
            raise ValueError
        return [math.nan if text == "nan" else -float(len(text)) for text in inputs]


class Agrees:
    """Looks at input and answer: whether the text says what the model says."""

    name, version = "agrees", "1"

    def fit(self, outcomes, inputs=None):
        del outcomes, inputs
        return self

    def __call__(self, inputs, answers=None):
        return [float(answer["choice"] in text) for text, answer in zip(inputs, answers, strict=True)]


def small_model(**kwargs):
    return FakeSmallModel(lambda text: {"pos": 0.9, "neg": 0.1}, LABELS, version="s1", **kwargs)


def large_chain(log=None):
    def ask(text: str) -> str:
        if log is not None:
            log.append(text)
        return "neg"

    return RunnableLambda(ask)


def ask_all(router, texts, way):
    """The outputs, in each way of asking."""
    if way == "invoke":
        return [router.invoke(text) for text in texts]
    if way == "batch":
        return router.batch(texts)
    if way == "stream":
        return [next(iter(router.stream(text))) for text in texts]
    if way == "as_completed":
        return [output for _, output in sorted(router.batch_as_completed(texts), key=lambda pair: pair[0])]
    if way == "node":
        node = router.as_node(input_key="text")
        return [node.invoke({"text": text})["output"] for text in texts]

    async def arun():
        if way == "ainvoke":
            return [await router.ainvoke(text) for text in texts]
        if way == "gather":
            return await asyncio.gather(*(router.ainvoke(text) for text in texts))
        if way == "abatch":
            return await router.abatch(texts)
        return [await anext(aiter(router.astream(text))) for text in texts]

    return asyncio.run(arun())


WAYS = ["invoke", "ainvoke", "gather", "batch", "abatch", "stream", "astream", "as_completed", "node"]


@pytest.mark.parametrize("way", WAYS)
def test_a_query_only_score_saves_the_small_model(way):
    small, log = small_model(), []
    router = ConfidenceRouter(
        small=small,
        large=large_chain(log),
        score=Short(before=True),
        threshold=-4.0,
        batch_wait=0.01 if way == "gather" else None,
    )
    assert ask_all(router, ["abc", "abcdef", "ab", "abcd"], way) == ["pos", "neg", "pos", "neg"]
    assert sorted(text for call in small.calls for text in call) == ["ab", "abc"]
    assert sorted(log) == ["abcd", "abcdef"]


@pytest.mark.parametrize("way", WAYS)
def test_a_score_that_sees_input_and_answer(way):
    small = small_model()
    router = ConfidenceRouter(small=small, large=large_chain(), score=Agrees(), threshold=0.5)
    assert ask_all(router, ["pos!", "what?", "a pos"], way) == ["pos", "neg", "pos"]
    assert sum(map(len, small.calls)) == 3


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("way", ["batch", "abatch", "invoke"])
def test_what_a_score_cannot_say_escalates_alone(before, way):
    small = small_model()
    score = Short(before=before)
    router = ConfidenceRouter(small=small, large=large_chain(), score=score, threshold=-9.0, include_route=True)
    found = ask_all(router, ["ok", "bad", "nan", "fine"], way)
    assert [one["output"] for one in found] == ["pos", "neg", "neg", "pos"]
    assert [one["route"]["reason"] for one in found] == ["confident", "error", "error", "confident"]
    # The plain prompt, and no word of the user's in the record.
    assert all("bad" not in one["route"].get("error", "") for one in found)


def test_the_route_says_what_a_query_only_score_said():
    router = ConfidenceRouter(
        small=small_model(), large=large_chain(), score=Short(before=True), threshold=-4.0, include_route=True
    )
    kept, gone = (one["route"] for one in router.batch(["abc", "abcdef"]))
    assert (kept["answers"][0]["confidence"], kept["score"]) == (-3.0, -3.0)
    assert (gone["answers"], gone["score"], gone["threshold"], gone["reason"]) == ([], -6.0, -4.0, "unsure")


def test_each_of_several_small_models_has_its_own_threshold():
    first, second = small_model(name="first"), small_model(name="second")
    router = ConfidenceRouter(
        small=[first, second],
        large=large_chain(),
        score=Short(before=True),
        threshold={"first": -3.0, "second": -5.0},
        include_route=True,
    )
    routes = [one["route"] for one in router.batch(["ab", "abcd", "abcdef"])]
    assert [route["model"] for route in routes] == ["first", "second", "large"]
    assert (first.calls, second.calls) == ([["ab"]], [["abcd"]])


def test_a_barred_label_still_escalates():
    router = ConfidenceRouter(
        small=small_model(),
        large=large_chain(),
        score=Short(before=True),
        threshold=-9.0,
        never_local=["pos"],
        include_route=True,
    )
    assert router.invoke("abc")["route"]["reason"] == "never_local"


@pytest.mark.parametrize("before", [True, False])
def test_shadow_records_what_would_have_been_decided(before):
    rows = []

    class Recorder:
        def record(self, row):
            rows.append(row)

    small = small_model()
    router = ConfidenceRouter(
        small=small,
        large=large_chain(),
        score=Short(before=before),
        threshold=-4.0,
        mode="shadow",
        recorder=Recorder(),
        background=False,
    )
    assert router.batch(["abc", "abcdef", "bad"]) == ["neg"] * 3
    shadows = [row for row in rows if row["kind"] == "shadow"]
    # A certificate wants every answer, also of what the score would have sent away.
    assert [[answer["confidence"] for answer in row["answers"]] for row in shadows] == [[-3.0], [-6.0], []]
    assert [row["route"]["accepted"] for row in shadows] == [True, False, False]
    assert "errors" in shadows[2]


@pytest.mark.parametrize("before", [True, False])
def test_a_certificate_holds_for_one_version_of_the_score(before):
    def rows(n):
        return [{"id": str(k), "input": f"{k:04d}" + "x" * (k % 50)} for k in range(n)]

    score = Short(before=before)
    small, large = (
        small_model(),
        RunnableLambda(lambda text: "pos" if len(text) < 30 else "neg").with_types(output_type=str),
    )
    table = collect_outcomes(small, large, rows(900), score=score, version="1", progress=False)
    assert table.about["score"] == "short 1"
    assert table.values("confidence")[:3] == [-4.0, -5.0, -6.0]
    certificate = certify(table, "1 point")
    assert certificate.certified
    assert 0.5 < certificate.coverage < 0.62

    def made(given):
        return ConfidenceRouter(small=small, large=large, score=given, threshold=certificate, version="1")

    router = made(Short(before=before))
    assert router.about["score"] == "short 1"
    assert router.batch(["x" * 9, "x" * 40]) == ["pos", "neg"]
    for other in (Short(before=before, version="2"), None, "margin"):
        with pytest.raises(MismatchError, match="score"):
            made(other)


def test_a_table_that_is_there_already():
    table, texts = stream(300)
    scored = score_outcomes(table, Short(before=True), texts)
    assert scored.values("confidence") == [-float(len(text)) for text in texts]
    assert scored.about["score"] == "short 1"
    assert table.about["score"] == "max_probability"
    assert scored.values("small") == table.values("small")
    with pytest.raises(ValueError, match="pass `inputs=`"):
        score_outcomes(table, Short(before=True))
    with pytest.raises(ValueError, match="300 rows"):
        score_outcomes(table, Short(before=True), texts[:9])
    # One that looks at answers alone needs no inputs; a row of which it says nothing is never accepted.
    table = score_outcomes(table, Agrees(), ["pos"] * 300)
    assert set(table.values("confidence")) == {0.0, 1.0}
    half = score_outcomes(table, Short(before=True), ["bad", *texts[1:]])
    assert half.values("confidence")[0] is None
    with pytest.raises(ValueError):
        score_outcomes(table, Short(before=True), ["bad"] * 300)


def test_rows_that_a_score_was_fitted_on_do_not_certify():
    table, texts = stream(400, input_hash=lambda place: f"k-{place:04d}")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    pipeline = make_pipeline(FunctionTransformer(lengths), LogisticRegression())
    score = WinProbability(pipeline).fit(table.select(range(40)), texts[:40])
    scored = score_outcomes(table, score, texts)
    assert scored.values("in_training")[:41] == [True] * 40 + [None]
    assert certify(scored, "5 points").n == 360
    half = WinProbability(pipeline).fit(table.select(range(200)), texts[:200])
    with pytest.raises(ValueError, match="in_training"):
        certify(score_outcomes(table, half, texts), "5 points")


def lengths(texts):
    return [[len(text)] for text in texts]


def test_a_router_with_its_score_in_a_folder(tmp_path, encoder):
    from langchain_dsplus import SentenceClassifier

    table, texts = stream(200)
    small = SentenceClassifier(encoder, l2=0.1).fit(texts, [str(value) for value in table.values("gold")])
    score = WinProbability(SentenceClassifier(encoder, l2=0.1)).fit(table, texts)
    router = ConfidenceRouter(small=small, large=large_chain(), score=score, threshold=0.8)
    save_router(router, tmp_path / "router")
    options = {"options": {"small": {"encoder": encoder}}, "score_options": {"encoder": encoder}}
    loaded = load_router(tmp_path / "router", large_chain(), **options)
    assert score_name(loaded.score) == score_name(score)
    assert loaded.batch(texts[:50]) == router.batch(texts[:50])
    # A score of the user's own has no files: it is given again.
    own = ConfidenceRouter(small=small, large=large_chain(), score=Short(before=True), threshold=-4.0)
    save_router(own, tmp_path / "own")
    with pytest.raises(SavedRouterError, match="score"):
        load_router(tmp_path / "own", large_chain(), options=options["options"])
    given = load_router(tmp_path / "own", large_chain(), options=options["options"], score=Short(before=True))
    assert given.invoke("x" * 9) == "neg"


def test_what_is_a_score():
    assert is_route_score(Short(before=True))
    assert is_route_score(Agrees())
    assert asks_before(Short(before=True))
    assert not asks_before(Agrees())
    assert not is_route_score(max)
    assert not is_route_score("margin")
    assert rate(Agrees(), []) == []
    (short,) = rate(Broken(), ["a"], [{"choice": "a", "probabilities": {}, "confidence": 0.5}])
    assert isinstance(short, Exception)


class Broken(Agrees):
    """Too few numbers."""

    def __call__(self, inputs, answers=None):
        del inputs, answers
        return []
