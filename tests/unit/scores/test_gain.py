"""LearnedGain: what it learns, what it refuses, and that it scores the same everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Outcomes
from langchain_dsplus.answer import NotFittedError
from langchain_dsplus.scores import LearnedGain, load_score

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


def one(gain, probabilities):
    """The score of one input."""
    return gain([None], [{"choice": "", "probabilities": probabilities, "confidence": 0.0}])[0]


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
def test_alone_and_in_a_batch_the_score_is_the_same(seed, n):
    gain = _GAIN
    p = np.random.default_rng(seed).dirichlet([0.3, 0.3, 0.3], size=n)
    together = gain.scores(p)
    alone = [one(gain, dict(zip(LABELS, row.tolist(), strict=True))) for row in p]
    assert np.abs(together - alone).max() <= 1e-9
    assert np.isfinite(together).all()


_GAIN = fitted()


def test_far_away_and_certain_rows_score_finite():
    gain = fitted(bandwidth=1e-3)
    for row in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]):
        assert math.isfinite(one(gain, dict(zip(LABELS, row, strict=True))))
    assert gain.scores(np.zeros((0, 3))).shape == (0,)


def test_many_rows_are_scored_in_parts(monkeypatch):
    p, _, _ = stream(500, 9)
    whole = _GAIN.scores(p)
    monkeypatch.setattr("langchain_dsplus.scores.gain._CHUNK", 1)
    assert np.abs(_GAIN.scores(p) - whole).max() <= 1e-9


def test_two_labels():
    rng = np.random.default_rng(0)
    first = rng.random(200)
    p = np.stack([first, 1 - first], axis=1)
    gain = LearnedGain().fit_rows(p, np.where(first > 0.9, -1, 1), labels=["x", "y"])
    assert one(gain, {"x": 0.99, "y": 0.01}) > one(gain, {"x": 0.5, "y": 0.5})


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
    with pytest.raises(NotFittedError, match="not fitted"):
        one(LearnedGain(), {"a": 1.0})
    with pytest.raises(ValueError, match="needs the answers"):
        _GAIN(["text"])
    with pytest.raises(NotFittedError, match="not fitted"):
        _ = LearnedGain().version
    for probabilities in ({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.25, "z": 0.25}):
        with pytest.raises(ValueError, match="exactly the labels"):
            one(_GAIN, probabilities)
    with pytest.raises(ValueError, match="probabilities"):
        LearnedGain().fit(Outcomes({"small": ["a"], "confidence": [0.5], "large": ["a"]}))
    with pytest.raises(ValueError, match=r"shape \(300, d\)"):
        LearnedGain().fit(table(), embeddings=np.zeros((10, 2)))
    assert "300 rows" in repr(_GAIN)


def test_saved_and_loaded(tmp_path):
    _GAIN.save(tmp_path)
    loaded = load_score(tmp_path)
    assert isinstance(loaded, LearnedGain)
    assert loaded.version == _GAIN.version
    p, _, _ = stream(50, 3)
    assert np.array_equal(loaded.scores(p), _GAIN.scores(p))


@pytest.mark.parametrize(
    "change",
    [
        lambda settings, arrays: arrays.pop("weight"),
        lambda settings, arrays: arrays.update(bias=np.zeros(1)),
        lambda settings, arrays: arrays.update(scale=np.array([0.0, 1.0, 1.0, 1.0, 1.0])),
        lambda settings, arrays: arrays["losses"].__setitem__(0, 7),
        lambda settings, arrays: arrays.update(losses=arrays["losses"][1:]),
        lambda settings, arrays: arrays["roots"].__setitem__(0, np.nan),
        lambda settings, arrays: settings.update(bandwidth="wide"),
        lambda settings, arrays: settings.update(labels=5),
    ],
)
def test_what_is_damaged_is_refused(change, tmp_path, monkeypatch):
    settings = dict(_GAIN._settings())
    arrays = {name: array.copy() for name, array in _GAIN._arrays().items()}
    change(settings, arrays)
    broken = fitted()
    monkeypatch.setattr(broken, "_settings", lambda: settings)
    monkeypatch.setattr(broken, "_arrays", lambda: arrays)
    broken.save(tmp_path)
    with pytest.raises(ValueError, match=r"damaged|wrong shape|finite|above 0"):
        LearnedGain.load(tmp_path)


# --- as a score ---------------------------------------------------------------------------------------------------------

RESPONSES = {
    "sure": {"a": 0.98, "b": 0.01, "c": 0.01},
    "torn": {"a": 0.4, "b": 0.35, "c": 0.25},
    "weak spot": {"a": 0.1, "b": 0.3, "c": 0.6},
}


class Lengths:
    """Two columns per text."""

    version = "lengths"

    def encode(self, texts):
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_the_router_takes_it_as_a_score():
    small = FakeSmallModel(RESPONSES, labels=["b", "a", "c"])
    large = RunnableLambda(lambda _: "large").with_types(output_type=str)
    with ConfidenceRouter(small=small, large=large, score=_GAIN, threshold=-2.0, include_route=True) as router:
        out = router.batch(list(RESPONSES))
    for text, result in zip(RESPONSES, out, strict=True):
        assert result["route"]["answers"][0]["confidence"] == pytest.approx(one(_GAIN, RESPONSES[text]), abs=1e-9)


def test_embeddings_come_from_the_encoder(tmp_path):
    texts = ["x" * (1 + i % 5) for i in range(300)]
    encoder = Lengths()
    gain = LearnedGain(encoder=encoder).fit(table(), texts)
    given = LearnedGain().fit(table(), embeddings=encoder.encode(texts))
    answer = {"choice": "a", "probabilities": RESPONSES["torn"], "confidence": 0.4}
    expected = given.scores([list(RESPONSES["torn"].values())], encoder.encode(["torn"]))[0]
    assert gain(["torn"], [answer])[0] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ValueError, match="give it an `encoder`"):
        given(["torn"], [answer])
    with pytest.raises(ValueError, match="pass `inputs=`"):
        LearnedGain(encoder=encoder).fit(table())
    gain.save(tmp_path)
    with pytest.raises(ValueError, match="encoder of your own"):
        LearnedGain.load(tmp_path)
    loaded = LearnedGain.load(tmp_path, encoder=Lengths())
    assert loaded.version == gain.version
    assert loaded(["torn"], [answer]) == gain(["torn"], [answer])
