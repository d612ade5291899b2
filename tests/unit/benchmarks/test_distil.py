import numpy as np
import pytest

from benchmarks import distil
from benchmarks.distil import Rows, judge, local_share, mean_interval


def test_local_share_stops_where_the_loss_is_too_large():
    confidence = np.linspace(1, 0, 1000)
    small = np.ones(1000, dtype=bool)
    small[100:105] = False  # five losses are half a point; the sixth is too much
    small[300] = False
    large = np.ones(1000, dtype=bool)
    assert local_share(confidence, small, large) == pytest.approx(0.3)
    # Later gains make up for it.
    large[400:402] = False
    assert local_share(confidence, small, large) == 1.0


def test_equal_scores_stand_or_fall_together():
    small = np.array([True, False])
    assert local_share(np.ones(2), small, np.ones(2, dtype=bool)) == 0.0
    assert local_share(np.array([0.9, 0.8]), small, np.ones(2, dtype=bool)) == 0.5


def test_measures():
    hold = Rows(["x"] * 4, ["a", "a", "b", "b"], ["a", "b", "b", "b"])
    eye = np.eye(2)
    old, new = eye[[0, 0, 0, 1]], eye[[0, 1, 1, 1]]
    found = judge(old, new, ["a", "b"], hold)
    assert found["accuracy"] == 0.75
    assert found["negative_flips"] == 0.25
    assert found["local_share"] == 1.0  # as right as the large model: wrong together


def test_intervals_allow_for_splits_that_overlap():
    values = [0.1, 0.2, 0.3]
    figures = mean_interval("k", values, 0.5)
    assert figures["k"] == pytest.approx(0.2)
    half = 4.302653 * 0.1 * np.sqrt(1 / 3 + 0.5)
    assert (figures["k.low"], figures["k.high"]) == pytest.approx((0.2 - half, 0.2 + half))
    assert mean_interval("k", [0.1], 0.5) == {"k": 0.1}


def test_tables():
    figures = {"seeds": 2, "calls": 400}
    for method in distil.METHODS:
        for measure in distil.MEASURES:
            figures[f"tfidf.{method}.{measure}"] = 0.5
            figures[f"tfidf.{method}.{measure}_over_2cd"] = 0.1
    figures["large.accuracy"] = 0.83
    first, *others = distil.tables(figures)
    assert [row[0] for row in first.rows] == [*(distil.TITLES[name] for name in distil.METHODS), "large model, alone"]
    assert all(len(row) == len(first.columns) for row in first.rows)
    assert not any(table.rows for table in others)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.1, "more accurate than one fit"), (-0.1, 0.1, "no difference"), (-0.1, -0.01, "One fit on gold")],
)
def test_what_is_said_of_one_fit_follows_from_the_interval(low, high, said):
    gap = "tfidf.distiller.accuracy_over_one_fit"
    first = distil.tables({gap: (low + high) / 2, f"{gap}.low": low, f"{gap}.high": high})[0]
    assert said in first.note
    assert "one fit" not in distil.tables({})[0].note


@pytest.mark.parametrize("arm", list(distil.PARTS))
@pytest.mark.parametrize(("measure", "sign"), [("accuracy", -1), ("negative_flips", 1)])
def test_a_part_gains_what_the_distiller_loses_without_it(arm, measure, sign):
    gap = f"tfidf.distiller_{arm}.{measure}_over_distiller"
    figures = {gap: 0.02, f"{gap}.low": 0.01, f"{gap}.high": 0.03}
    gain = distil.gain(figures, "tfidf", arm, measure)
    assert gain["x"] == pytest.approx(2 * sign)
    assert gain["x.low"] < gain["x"] < gain["x.high"]
    (row,) = distil.tables(figures)[-1].rows
    assert (row[-1] == "nothing") == (sign < 0)


def test_a_router_asks_about_the_least_sure_rows_of_each_class_and_some_random_ones():
    rows = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.55, 0.45, 0], [0, 0.8, 0.2], [0, 0, 1.0], *[[1.0, 0, 0]] * 15])

    class Small:
        labels = ["a", "b", "c"]

        def predict_proba(self, texts):
            return rows[[int(text) for text in texts]]

    class Made:
        model = Small()

        def acquire(self, texts, budget, exclude):
            return [n for n in range(len(texts)) if n not in exclude][:budget]

    texts = [str(n) for n in range(20)]
    assert distil.asked(Made(), texts, 10) == ([2, 3, 4, 1, 0, 5, 6, 7, 8], [9])


def test_every_method_keeps_to_the_calls(monkeypatch):
    rng = np.random.default_rng(0)
    words = {"a": ["apple", "arm", "ant"], "b": ["bee", "boat", "bar"], "c": ["cat", "cow", "cup"]}

    def draw(n):
        labels = [("a", "b", "c")[i] for i in rng.integers(0, 3, n)]
        texts = [f"{words[label][rng.integers(3)]} word{i}" for i, label in enumerate(labels)]
        return Rows(texts, labels, labels)

    gold, pool, hold = draw(30), draw(200), draw(60)
    monkeypatch.setattr(distil, "INVERSE_PENALTY", 10.0)
    small = distil.make_small("tfidf", gold, ["a", "b", "c"], None)
    from langchain_dsplus.learning import distiller, two_stage
    from langchain_dsplus.learning.targets import ask_large

    asked = []

    def counting(large, values, chosen, paid=None):
        asked.append(len(chosen))
        return ask_large(large, values, chosen, paid)

    monkeypatch.setattr(distiller, "ask_large", counting)
    monkeypatch.setattr(two_stage, "ask_large", counting)
    found = distil.trial(small, gold, pool, hold, calls=40, seed=0, methods=distil.METHOD)
    assert set(found) == set(distil.METHODS)
    assert found["none"]["negative_flips"] == 0
    assert found["distiller"]["accuracy"] >= found["none"]["accuracy"]
    assert all(count <= 40 for count in asked)
    assert len(asked) == 2  # 2cd, and the Distiller that asks itself
