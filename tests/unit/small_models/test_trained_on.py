"""What a small model was trained on: remembered, saved, compared, never as text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from langchain_dsplus import (
    ConfidenceRouter,
    Distiller,
    FakeSmallModel,
    JSONLRecorder,
    Outcomes,
    SentenceClassifier,
    SklearnClassifier,
    collect_outcomes,
)
from langchain_dsplus.small_models.runnable import as_small_model

TEXTS = [f"{word} {place}" for place in range(12) for word in ("good phone", "bad phone")]
TARGETS = ["pos", "neg"] * 12


class Bags:
    """An encoder: counts of letters."""

    version = "bags"

    def encode(self, texts):
        return np.array([[text.count(letter) for letter in "abdgo"] for text in texts], dtype=np.float32)


def sentence():
    return SentenceClassifier(Bags()).fit(TEXTS, TARGETS)


def sklearn():
    estimator = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, TARGETS)
    return SklearnClassifier(estimator, trained_on=TEXTS)


MADE = {
    "sentence": (sentence, lambda path: SentenceClassifier.load(path, encoder=Bags())),
    "sklearn": (sklearn, SklearnClassifier.load),
}


@pytest.mark.parametrize(("make", "load"), MADE.values(), ids=MADE)
def test_it_goes_through_copies_and_files(tmp_path, make, load):
    model = make()
    model.save(tmp_path)
    for one in (model, model.clone(), load(tmp_path), as_small_model(model.with_retry())):
        assert one.in_training([TEXTS[0], f" {TEXTS[1]}\n", "never seen"]) == [True, True, False]
    assert model.version == load(tmp_path).version
    kept = (tmp_path / "model.json").read_text()
    assert not any(text in kept for text in TEXTS)
    body = json.loads(kept)
    body["trained_on"]["hashes"] = []
    (tmp_path / "model.json").write_text(json.dumps(body))
    with pytest.raises(ValueError, match="SHA-256"):
        load(tmp_path)


def test_two_models_have_two_keys():
    one, other = (make()._trained for make, _ in MADE.values())
    assert not one.hashes & other.hashes
    assert one.key.hex() not in repr(one)


def test_fit_anew_forgets_and_distilling_adds():
    model = sentence()
    made = (
        Distiller(model, name_weight=0.0)
        .distil(list(zip(TEXTS, TARGETS, strict=True)), [("a new text", "pos"), ("one more", "neg")])
        .model
    )
    assert made.in_training(["a new text", TEXTS[0]]) == [True, True]
    assert model.in_training(["a new text"]) == [False]
    model.fit([*TEXTS[2:], "else"], [*TARGETS[2:], "pos"])
    assert model.in_training([TEXTS[0], "else"]) == [False, True]


def test_a_text_is_no_list_of_texts():
    with pytest.raises(TypeError, match="`trained_on`"):
        FakeSmallModel({}, ["a", "b"], trained_on="text")


def test_an_estimator_from_elsewhere_knows_nothing():
    estimator = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, TARGETS)
    assert SklearnClassifier(estimator).in_training(TEXTS[:1]) == [None]


def test_what_it_cannot_see_into_is_unknown():
    small = FakeSmallModel({}, ["a", "b"], trained_on=["a text"])
    assert small.in_training([object()]) == [None]


def test_recorder_and_collecting_say_the_same(tmp_path):
    small = FakeSmallModel(
        {text: {"a": 0.9, "b": 0.1} for text in ("one", "two")}, ["a", "b"], input_key="text", trained_on=["two"]
    )
    large = RunnableLambda(lambda _: "a").with_types(output_type=str)
    recorder = JSONLRecorder(tmp_path / "routes.jsonl", texts=False)
    texts = ["one", "two", "one"]
    with ConfidenceRouter(small=small, large=large, threshold=0.5, mode="shadow", recorder=recorder) as router:
        router.batch([{"text": text, "at": place} for place, text in enumerate(texts)])
        router.drain()
    rows = [row for row in JSONLRecorder.read(recorder.path) if row["kind"] == "route"]
    data = [{"input": {"text": text}} for text in texts]
    made = collect_outcomes(small, large, data, path=tmp_path / "answers.jsonl", progress=False)
    assert sorted(row["input_hash"] for row in rows) == sorted(made.values("input_hash"))
    assert sorted(row["in_training"] for row in rows) == sorted(made.values("in_training")) == [False, False, True]
    assert "one" not in recorder.path.read_text()


def test_traces_keep_both_columns(tmp_path):
    small = FakeSmallModel({"one": {"a": 0.9, "b": 0.1}}, ["a", "b"], trained_on=["two"])
    large = RunnableLambda(lambda _: "a").with_types(output_type=str)
    recorder = JSONLRecorder(tmp_path / "routes.jsonl", key="a key that all processes share")
    with ConfidenceRouter(small=small, large=large, threshold=0.5, mode="shadow", recorder=recorder) as router:
        router.batch(["one", "one"])
        router.drain()
    table = Outcomes.from_traces(JSONLRecorder.read(recorder.path))
    assert len(set(table.values("input_hash"))) == 1
    assert table.values("in_training") == [False, False]
    assert not (tmp_path / ".dsplus").exists()
