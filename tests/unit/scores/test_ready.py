"""The ready scores: what each learns, what it needs, and that it is the same after saving."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from langchain_dsplus import Outcomes, SentenceClassifier
from langchain_dsplus.answer import NotFittedError
from langchain_dsplus.calibration import auroc
from langchain_dsplus.scores import (
    NearestOutcomes,
    PredictedCorrectness,
    PredictedDistribution,
    WinProbability,
    load_score,
)
from langchain_dsplus.small_models.base import UNVERIFIABLE
from tests.unit.scores.conftest import LABELS, Lengths, stream

PREDICTED = [PredictedCorrectness, WinProbability]


def ready(kind):
    return kind(Lengths()) if kind is NearestOutcomes else kind(SentenceClassifier(Lengths(), l2=0.01))


@pytest.mark.parametrize("kind", [*PREDICTED, NearestOutcomes])
@pytest.mark.parametrize("seed", range(3))
def test_it_knows_from_the_input_alone_where_the_small_model_is_weak(kind, seed):
    score = ready(kind).fit(*stream(600, seed))
    table, texts = stream(2000, seed + 100)
    right = np.asarray(table.correct("small"))
    assert score.before
    assert auroc(score(texts), right) > 0.72  # the largest probability is a coin here
    assert abs(auroc(table["confidence"], right) - 0.5) < 0.05


def test_head_middle_and_tail():
    words = ["apple", "pear", "plum"]
    rng = np.random.default_rng(0)
    gold = rng.choice(3, p=[0.6, 0.3, 0.1], size=400)
    texts = [f"{words[k]} {rng.integers(99)}" for k in gold]
    rows = [{"small": "a", "confidence": 0.5, "large": words[k], "gold": words[k] if k else None} for k in gold]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    score = PredictedDistribution(pipeline).fit(Outcomes.from_records(rows), texts)
    head, middle, tail = score(["apple", "pear", "plum"])
    assert head > middle > tail
    assert not hasattr(pipeline, "classes_")  # what was given is left as it is


@pytest.mark.parametrize("kind", [*PREDICTED, NearestOutcomes])
def test_saved_and_loaded(kind, tmp_path):
    table, texts = stream(200, input_hash=lambda place: f"key-{place}")
    score = ready(kind).fit(table, texts)
    score.save(tmp_path / "score")
    loaded = load_score(tmp_path / "score", encoder=Lengths())
    assert type(loaded) is kind
    assert (loaded.version, loaded.fitted_on, loaded.name) == (score.version, score.fitted_on, score.name)
    assert loaded(texts[:20]) == score(texts[:20])
    assert len(score.fitted_on) == 200
    assert score.version != ready(kind).fit(*stream(200, 9)).version
    other = Lengths()
    other.version = "another"
    with pytest.raises(ValueError, match="encoder"):
        load_score(tmp_path / "score", encoder=other)
    files = sorted(file.name for file in (tmp_path / "score").rglob("*") if file.is_file())
    assert all(name.endswith((".json", ".safetensors")) for name in files)


def test_a_pipeline_of_scikit_learn_is_saved_too(tmp_path):
    table, texts = stream(200)
    texts = [f"{'long' if len(text) > 30 else 'short'} {text}" for text in texts]
    score = WinProbability(make_pipeline(TfidfVectorizer(), LogisticRegression())).fit(table, texts)
    score.save(tmp_path)
    loaded = load_score(tmp_path)
    assert loaded.version == score.version != UNVERIFIABLE
    assert loaded(texts[:9]) == score(texts[:9])


@pytest.mark.parametrize("kind", [*PREDICTED, NearestOutcomes])
def test_what_is_damaged_is_refused(kind, tmp_path):
    score = ready(kind).fit(*stream(200))
    with pytest.raises(ValueError, match="no saved score"):
        load_score(tmp_path / "nowhere")
    for file in ("model.json", "score.safetensors"):
        score.save(tmp_path)
        body = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(body[:-9] + b"damaged!!")
        with pytest.raises(ValueError, match="damaged|no saved"):  # noqa: RUF043
            load_score(tmp_path, encoder=Lengths())
    score.save(tmp_path)
    settings_ = json.loads((tmp_path / "model.json").read_text())
    settings_["kind"] = "Other"
    (tmp_path / "model.json").write_text(json.dumps(settings_))
    with pytest.raises(ValueError, match="no saved score"):
        load_score(tmp_path)


@pytest.mark.parametrize("kind", [*PREDICTED, NearestOutcomes])
def test_what_cannot_be_fitted(kind):
    table, texts = stream(100)
    with pytest.raises(NotFittedError, match="not fitted"):
        ready(kind)(["a"])
    with pytest.raises(NotFittedError, match="not fitted"):
        _ = ready(kind).version
    with pytest.raises(ValueError, match="pass `inputs=`"):
        ready(kind).fit(table)
    with pytest.raises(ValueError, match="100 rows"):
        ready(kind).fit(table, texts[:-1])
    with pytest.raises(ValueError, match="nothing to learn|at least two"):  # noqa: RUF043
        ready(kind).fit(table.select([0]), texts[:1])
    keyed = Outcomes.from_records([{**row, "input": text} for row, text in zip(table.to_records(), texts, strict=True)])
    assert ready(kind).fit(keyed)(texts[:3]) == ready(kind).fit(table, texts)(texts[:3])


def test_unknown_is_unknown():
    """Rows without gold teach correctness nothing; where the models agree they teach the win."""
    table, texts = stream(300)
    rows = [{**row, "gold": None if row["small"] == row["large"] else row["gold"]} for row in table.to_records()]
    unlabeled = Outcomes.from_records(rows, about={"labels": LABELS})
    assert ready(WinProbability).fit(unlabeled, texts).version == ready(WinProbability).fit(table, texts).version
    with pytest.raises(ValueError, match="chosen for labelling"):
        ready(PredictedCorrectness).fit(unlabeled, texts)


def test_far_from_everything_is_out_of_distribution():
    table, texts = stream(400)
    score = NearestOutcomes(Lengths(), outside=0.0).fit(table, texts)
    far = "x" * 110  # an angle that none of the texts has
    (gone,) = score([far])
    assert gone < -1.0
    assert score.distance([far])[0] > score.limit >= max(score.distance(texts))
    assert min(score(texts)) >= -1.0
    with pytest.raises(ValueError, match="outside"):
        NearestOutcomes(Lengths(), outside=1.0)


_NEAREST = NearestOutcomes(Lengths()).fit(*stream(300))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=200), min_size=1, max_size=20))
def test_alone_in_a_batch_and_whatever_is_asked_it_is_a_finite_number(texts):
    together = _NEAREST(texts)
    assert together == [_NEAREST([text])[0] for text in texts]
    assert all(math.isfinite(value) for value in together)


def test_many_rows_are_scored_in_parts(monkeypatch):
    _, texts = stream(50, 5)
    whole = _NEAREST(texts)
    monkeypatch.setattr("langchain_dsplus.scores.nearest._CHUNK", 1)
    assert _NEAREST(texts) == whole
    assert NearestOutcomes(Lengths()).fit(*stream(300)).version == _NEAREST.version


def test_dict_inputs_have_a_key():
    table, texts = stream(200)
    inputs = [{"text": text, "other": "y"} for text in texts]
    keyed = NearestOutcomes(Lengths(), input_key="text").fit(table, inputs)
    assert keyed(inputs[:5]) == NearestOutcomes(Lengths()).fit(table, texts)(texts[:5])
    predicted = WinProbability(SentenceClassifier(Lengths(), l2=0.1, input_key="text")).fit(table, inputs)
    assert len(predicted(inputs[:5])) == 5
