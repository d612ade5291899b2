"""LearnedGain: what it learns, what it refuses, and that it scores the same everywhere."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Outcomes, SmallModel
from langchain_dsplus.confidence import margin
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.threshold.gain import GainModel, LearnedGain

LABELS = ["a", "b", "c"]


def stream(n, seed, *, bad="c"):
    """A small model that is calibrated; a large one that is right on 9 in 10, but on class `bad` on 1 in 10."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.6, 0.6, 0.6], size=n)
    gold = np.array([rng.choice(3, p=row) for row in p])
    good = rng.random(n) < np.where(gold == LABELS.index(bad), 0.1, 0.9)
    large = np.where(good, gold, (gold + 1) % 3)
    return p, gold, large


def losses(p, gold, large):
    return (large == gold).astype(int) - (p.argmax(axis=1) == gold)


def table(n=300, seed=1):
    p, gold, large = stream(n, seed)
    rows = [
        {
            "small": LABELS[int(row.argmax())],
            "confidence": float(row.max()),
            "probabilities": dict(zip(LABELS, row.tolist(), strict=True)),
            "large": LABELS[said],
            "gold": LABELS[true],
        }
        for row, true, said in zip(p, gold, large, strict=True)
    ]
    return Outcomes.from_records(rows, about={"labels": LABELS})


def fitted(n=300, seed=1, **kwargs):
    p, gold, large = stream(n, seed)
    return LearnedGain(**kwargs).fit_rows(p, losses(p, gold, large), labels=LABELS)


def area(score, loss):
    """Mean gain over all coverages."""
    order = np.argsort(-score, kind="stable")
    return float((-np.cumsum(loss[order])).mean()) / len(loss)


@pytest.mark.parametrize("seed", range(5))
def test_it_beats_the_margin_where_the_large_model_has_a_weak_class(seed):
    gain = fitted(1000, seed)
    p, gold, large = stream(4000, seed + 100)
    loss = losses(p, gold, large)
    ordered = np.sort(p, axis=1)
    assert area(gain.scores(p), loss) > area(ordered[:, -1] - ordered[:, -2], loss) + 0.01


def test_the_higher_the_score_the_higher_the_gain():
    gain = fitted(2000, 3)
    p, gold, large = stream(20_000, 4)
    score, won = gain.scores(p), -losses(p, gold, large)
    means = [float(won[part].mean()) for part in np.array_split(np.argsort(score), 5)]
    assert means == sorted(means)
    assert means[-1] - means[0] > 0.5
    assert (np.abs(score) <= 1.0).all()


def test_embeddings_help_where_the_probabilities_say_nothing():
    rng = np.random.default_rng(5)

    def rows(n):
        p = np.tile([0.5, 0.3, 0.2], (n, 1))
        side = rng.random(n) < 0.5
        vectors = np.where(side[:, None], [1.0, 0.0], [0.0, 1.0]) + 0.1 * rng.normal(size=(n, 2))
        return p, np.where(side, 1, -1) * (rng.random(n) < 0.8), vectors

    p, loss, vectors = rows(400)
    with_them = LearnedGain().fit_rows(p, loss, labels=LABELS, embeddings=vectors)
    without = LearnedGain().fit_rows(p, loss, labels=LABELS)
    p, loss, vectors = rows(400)
    assert with_them.needs_embeddings
    assert not without.needs_embeddings
    assert np.corrcoef(with_them.scores(p, vectors), -loss)[0, 1] > 0.8
    assert np.ptp(without.scores(p)) < 1e-6
    with pytest.raises(ValueError, match="fitted with embeddings"):
        with_them.scores(p)
    with pytest.raises(ValueError, match="without embeddings"):
        without.scores(p, vectors)
    with pytest.raises(ValueError, match="2 columns"):
        with_them.scores(p, vectors[:, :1])


def test_from_a_table_and_from_arrays_it_is_the_same():
    p, gold, large = stream(300, 1)
    other = LearnedGain().fit_rows(p, losses(p, gold, large), labels=LABELS)
    assert LearnedGain().fit(table()).version == other.version


def test_the_one_rule_for_gold_holds():
    found = table()
    rows = found.to_records()
    agree = [row["small"] == row["large"] for row in rows]
    forgotten = [{**row, "gold": None if same else row["gold"]} for row, same in zip(rows, agree, strict=True)]
    about = {"labels": LABELS}
    assert LearnedGain().fit(Outcomes.from_records(forgotten, about=about)).version == LearnedGain().fit(found).version
    # A disagreement without gold counts as a harm.
    place = next(i for i, row in enumerate(rows) if not agree[i] and row["small"] == row["gold"])
    rows[place]["gold"] = None
    p, gold, large = stream(300, 1)
    loss = losses(p, gold, large)
    loss[place] = 1
    expected = LearnedGain().fit_rows(p, loss, labels=LABELS)
    assert LearnedGain().fit(Outcomes.from_records(rows, about=about)).version == expected.version


def test_rows_that_say_nothing_are_left_out():
    rows = table().to_records()
    extra = [
        {**rows[0], "id": "failed", "small": None, "confidence": None, "probabilities": None},
        {**rows[1], "id": "large failed", "large": None},
    ]
    assert (
        LearnedGain().fit(Outcomes.from_records([*rows, *extra], about={"labels": LABELS})).version
        == LearnedGain().fit(table()).version
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40))
def test_alone_in_a_batch_and_after_json_the_score_is_the_same(seed, n):
    gain = _GAIN
    p = np.random.default_rng(seed).dirichlet([0.3, 0.3, 0.3], size=n)
    together = gain.scores(p)
    alone = [gain(dict(zip(LABELS, row.tolist(), strict=True))) for row in p]
    assert np.abs(together - alone).max() <= 1e-9
    assert np.array_equal(LearnedGain.from_json(gain.to_json()).scores(p), together)
    assert np.isfinite(together).all()


_GAIN = fitted()


def test_far_away_and_certain_rows_score_finite():
    gain = fitted(bandwidth=1e-3)
    for row in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]):
        assert math.isfinite(gain(dict(zip(LABELS, row, strict=True))))
    assert gain.scores(np.zeros((0, 3))).shape == (0,)


def test_many_rows_are_scored_in_parts(monkeypatch):
    p, _, _ = stream(500, 9)
    whole = _GAIN.scores(p)
    monkeypatch.setattr("langchain_dsplus.threshold.gain._CHUNK", 1)
    assert np.abs(_GAIN.scores(p) - whole).max() <= 1e-9


def test_two_labels():
    rng = np.random.default_rng(0)
    first = rng.random(200)
    p = np.stack([first, 1 - first], axis=1)
    gain = LearnedGain().fit_rows(p, np.where(first > 0.9, -1, 1), labels=["x", "y"])
    assert gain({"x": 0.99, "y": 0.01}) > gain({"x": 0.5, "y": 0.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, loss: (p[:40], loss[:40]), "at least 50 rows"),
        (lambda p, loss: (p, 0 * loss), "nothing|no gain to learn"),
        (lambda p, loss: (p, loss[:-1]), "`losses` must be 300"),
        (lambda p, loss: (p, loss + 0.5), "out of -1, 0 and 1"),
        (lambda p, loss: (p[:, :2], loss), r"shape \(n, 3\)"),
        (lambda p, loss: (np.where(p == p[0, 0], np.nan, p), loss), "finite"),
    ],
)
def test_what_cannot_be_fitted(change, message):
    p, gold, large = stream(300, 1)
    p, loss = change(p, losses(p, gold, large))
    with pytest.raises(ValueError, match=message):
        LearnedGain().fit_rows(p, loss, labels=LABELS)


def test_arguments():
    for bad in ({"bandwidth": 0.0}, {"bandwidth": math.inf}, {"l2": -1.0}, {"l2": math.nan}):
        with pytest.raises(ValueError, match="above 0"):
            LearnedGain(**bad)
    with pytest.raises(ValueError, match="not fitted"):
        LearnedGain()({"a": 1.0})
    with pytest.raises(ValueError, match="not fitted"):
        _ = LearnedGain().version
    for probabilities in ({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.25, "z": 0.25}):
        with pytest.raises(ValueError, match="exactly the labels"):
            _GAIN(probabilities)
    with pytest.raises(ValueError, match="probabilities"):
        LearnedGain().fit(Outcomes({"small": ["a"], "confidence": [0.5], "large": ["a"]}))
    with pytest.raises(ValueError, match=r"shape \(300, d\)"):
        LearnedGain().fit(table(), embeddings=np.zeros((10, 2)))
    assert "300 rows" in repr(_GAIN)


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "gain.json"
    _GAIN.save(path)
    assert LearnedGain.load(path).version == _GAIN.version
    body = json.loads(path.read_text(encoding="utf-8"))
    assert set(body) >= {"kind", "format", "labels", "losses", "roots"}


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.pop("weight"),
        lambda body: body.update(kind="Other"),
        lambda body: body.update(format=99),
        lambda body: body.update(bias=[0.0]),
        lambda body: body.update(scale=[0.0, 1.0, 1.0, 1.0, 1.0]),
        lambda body: body["losses"].__setitem__(0, 7),
        lambda body: body["losses"].pop(),
        lambda body: body["roots"].__setitem__(0, ["x", 0, 0]),
        lambda body: body["roots"].__setitem__(0, [float("nan"), 0, 0]),
        lambda body: body.update(bandwidth="wide"),
        lambda body: body.update(labels=5),
    ],
)
def test_what_is_damaged_is_refused(change):
    body = json.loads(_GAIN.to_json())
    change(body)
    with pytest.raises(ValueError, match="no saved LearnedGain"):
        LearnedGain.from_json(json.dumps(body))
    for text in ("", "[]", "{", "null"):
        with pytest.raises(ValueError, match="no saved LearnedGain"):
            LearnedGain.from_json(text)


# --- as a small model ---------------------------------------------------------------------------------------------------

RESPONSES = {
    "sure": {"a": 0.98, "b": 0.01, "c": 0.01},
    "torn": {"a": 0.4, "b": 0.35, "c": 0.25},
    "weak spot": {"a": 0.1, "b": 0.3, "c": 0.6},
}


class Counting:
    """Two columns per text; counts the texts."""

    version = "counting"

    def __init__(self):
        self.seen = 0

    def encode(self, texts):
        self.seen += len(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_the_router_takes_it_as_a_score():
    small = FakeSmallModel(RESPONSES)
    with ConfidenceRouter(small=small, large=answer_large(), score=_GAIN, threshold=-2.0, include_route=True) as router:
        out = router.batch(list(RESPONSES))
    for text, result in zip(RESPONSES, out, strict=True):
        assert result["route"]["answers"][0]["confidence"] == pytest.approx(_GAIN(RESPONSES[text]), abs=1e-9)


def test_the_wrapped_model_answers_alike_with_another_confidence():
    small = FakeSmallModel(RESPONSES, labels=["b", "a", "c"], version="v1")
    model = GainModel(small, _GAIN)
    for text, probabilities in RESPONSES.items():
        answer, plain = model.invoke(text), small.invoke(text)
        assert (answer["choice"], answer["probabilities"]) == (plain["choice"], plain["probabilities"])
        assert answer["confidence"] == pytest.approx(_GAIN(probabilities), abs=1e-9)
    assert model.score == "learned_gain"
    assert model.name == small.name
    assert model.labels == small.labels
    assert model.version not in (UNVERIFIABLE, small.version)
    assert GainModel(small, fitted(seed=2)).version != model.version
    plain = GainModel(small, _GAIN, score="margin")
    assert plain.invoke("torn")["confidence"] == pytest.approx(margin(RESPONSES["torn"]))


class Broken(SmallModel):
    labels: list[str] = LABELS

    def predict_proba(self, inputs):
        return [[math.nan] * 3 if text == "bad" else [0.8, 0.1, 0.1] for text in inputs]


def test_a_row_without_an_answer_harms_nobody_else():
    model = GainModel(Broken(), _GAIN)
    good, bad = model.batch(["good", "bad"], return_exceptions=True)
    assert good["choice"] == "a"
    assert isinstance(bad, Exception)
    assert model.version == UNVERIFIABLE


def gain_with_embeddings(encoder):
    p, gold, large = stream(300, 1)
    rows = encoder.encode(["x" * (1 + i % 5) for i in range(300)])
    return LearnedGain().fit_rows(p, losses(p, gold, large), labels=LABELS, embeddings=rows)


def test_embeddings_come_from_the_encoder():
    encoder = Counting()
    gain = gain_with_embeddings(encoder)
    small = FakeSmallModel(RESPONSES)
    with pytest.raises(ValueError, match="pass `encoder=`"):
        GainModel(small, gain)
    model = GainModel(small, gain, encoder=encoder)
    expected = gain.scores([list(RESPONSES["torn"].values())], encoder.encode(["torn"]))[0]
    assert model.invoke("torn")["confidence"] == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match="same labels"):
        GainModel(FakeSmallModel({"x": {"y": 0.5, "z": 0.5}}), gain)


def test_a_sentence_classifier_encodes_each_text_once():
    from langchain_dsplus import SentenceClassifier

    encoder = Counting()
    texts = ["x" * (1 + i % 9) for i in range(60)]
    small = SentenceClassifier(encoder, l2=0.1).fit(texts, [LABELS[len(text) // 4] for text in texts])
    gain = gain_with_embeddings(encoder)
    model = GainModel(small, gain)
    encoder.seen = 0
    answers = model.batch(["xx", "xxxxx"])
    assert encoder.seen == 2
    plain = small.batch(["xx", "xxxxx"])
    assert [answer["probabilities"] for answer in answers] == [answer["probabilities"] for answer in plain]
    scores = gain.scores(small.predict_proba(["xx", "xxxxx"]), small.embeddings(["xx", "xxxxx"]))
    assert [answer["confidence"] for answer in answers] == pytest.approx(scores.tolist(), abs=1e-9)
    assert small.encoder is encoder


def answer_large():
    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(lambda _: "large").with_types(output_type=str)
