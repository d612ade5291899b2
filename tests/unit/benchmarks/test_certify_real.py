"""The benchmark of certified thresholds on recorded answers: its parts on small made-up tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import certify_real, data
from benchmarks.certify_real import HALF, Certified, certify_fast, check, hindsight, judge, plain_score, summarize
from benchmarks.certify_real_models import Banking, Recorded
from benchmarks.harness import Context
from langchain_dsplus.confidence import SCORES

LABELS = ["a", "b", "c"]


def recorded(n, seed, *, large=0.85):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.3, 0.3, 0.3], size=n)
    gold = np.array([rng.choice(3, p=row) for row in p])
    said = np.where(rng.random(n) < large, gold, (gold + 1) % 3)
    return Recorded([str(place) for place in range(n)], gold, said), p


@pytest.mark.parametrize("name", certify_real.PLAIN_SCORES)
def test_the_scores_are_those_of_the_package(name):
    _, p = recorded(50, 0)
    p[0] = [1.0, 0.0, 0.0]
    expected = [SCORES[name](dict(zip(LABELS, row.tolist(), strict=True))) for row in p]
    assert plain_score(name, p) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("large", [0.6, 0.85, 0.99])
@pytest.mark.parametrize("digits", [1, 12])
def test_the_fast_way_finds_what_certify_finds(large, digits):
    rows, p = recorded(900, 3, large=large)
    score = plain_score("margin", p).round(digits)  # with one digit there are ties everywhere
    assert check(rows, p.argmax(axis=1), score, LABELS) == 2


def test_a_difference_would_be_noticed(monkeypatch):
    rows, p = recorded(900, 3, large=0.6)
    fast = certify_fast(plain_score("margin", p), rows.loss(p), HALF)
    assert fast.passed > 1
    monkeypatch.setattr(certify_real, "certify_fast", lambda *_: replace(fast, passed=fast.passed - 1))
    with pytest.raises(RuntimeError, match="its parts"):
        check(rows, p.argmax(axis=1), plain_score("margin", p), LABELS)


def test_the_price_of_an_error_chooses_among_the_certified():
    steps = Certified([0.9, 0.5, 0.1], np.array([0.2, 0.6, 1.0]), np.array([0, 1, 5]), np.array([4, 9, 9]), 3, 1000)
    assert steps.threshold() == 0.1
    assert steps.threshold(1000.0) == 0.5
    assert replace(steps, passed=1).threshold(1000.0) == 0.9
    assert replace(steps, passed=0).threshold() == math.inf


def test_too_few_rows_certify_nothing():
    rows, p = recorded(500, 1, large=0.0)
    assert certify_fast(np.linspace(0, 1, 500), np.zeros(500, dtype=int), HALF).threshold() == math.inf
    # So many gains pass with any number of rows.
    assert certify_fast(plain_score("margin", p), rows.loss(p), HALF).passed > 0


def test_hindsight_is_the_best_point_of_the_curve():
    score = np.array([0.9, 0.8, 0.8, 0.7, 0.1])
    loss = np.array([-1, 1, -1, -1, 1])
    right, calls = hindsight(score, loss, 0.5)
    assert right == pytest.approx(100 * (0.5 + 2 / 5))
    assert calls == pytest.approx(20.0)
    assert hindsight(score, np.ones(5, dtype=int), 0.5) == (50.0, 100.0)
    # Equal scores stand or fall together.
    assert hindsight(np.ones(2), np.array([-1, 1]), 0.5)[0] == 50.0


def test_what_untouched_rows_say():
    score = np.linspace(1, 0, 1000)
    loss = np.where(np.arange(1000) < 30, 1, 0)
    trial = judge(0.5, score, loss, HALF, 0)
    assert trial.calls == pytest.approx(0.5)
    assert trial.gain == pytest.approx(-0.03)
    assert (trial.certified, trial.above, trial.broke) == (True, True, True)
    assert trial.random == pytest.approx(-0.015)
    refused = judge(math.inf, score, loss, HALF, 1)
    assert (refused.calls, refused.gain, refused.certified, refused.broke) == (1.0, 0.0, False, False)
    little = judge(0.5, score, np.where(np.arange(1000) < 6, 1, 0), HALF, 0)
    assert little.above
    assert not little.broke
    assert little.noise == pytest.approx(1.645 * math.sqrt(0.006 * 0.994 / 1000))
    figures = summarize([trial, refused])
    assert figures["calls"] == pytest.approx(75.0)
    assert (figures["calls.seeds.low"], figures["calls.seeds.high"]) == pytest.approx((50.0, 100.0))
    assert figures["certified"] == figures["broke"] == 50.0


def test_a_small_set(monkeypatch):
    rows, p = recorded(1000, 5, large=0.7)
    figures = certify_real.small_set(Context("certify_real", quick=True), "made up", rows, p, LABELS)
    assert figures["half.certified"] == 100.0
    assert figures["half.calls"] > figures["two.calls"] - 1e-9
    assert figures["small"] < figures["oracle"]
    named = {f"imdb.{key}": value for key, value in figures.items()}
    table = next(t for t in certify_real.tables(named) if t.name == "certify_real.small_sets")
    assert [row[0] for row in table.rows] == ["IMDB, GPT-3.5"] * 3


def test_tables_of_nothing_and_of_one_model():
    assert all(not table.rows for table in certify_real.tables({}))
    key = "banking77.minilm.231"
    figures = {"banking77.large": 83.05, f"{key}.small": 74.0}
    for suffix in ("margin", "margin.priced", "margin.point"):
        for name in ("calls", "gain", "certified", "broke", "random"):
            for end in ("", ".low", ".high"):
                figures[f"{key}.{suffix}.{name}{end}"] = 1.0
    first, second, *_ = certify_real.tables(figures)
    assert len(first.rows) == len(second.rows) == 1
    assert first.rows[0][-1] == "1 / +1.0"
    assert "84.0 (84.0 to 84.0)" in second.rows[0][3]
    for table in (first, second):
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize(
    ("certified", "alone", "said"),
    [
        (100.0, 96.0, "SMALL ALONE 96, CASCADE 4"),
        (60.0, 0.0, "CASCADE 60, nothing certified 40"),
        (0.0, 0.0, "nothing certified 100"),
    ],
)
def test_a_win_of_the_small_model_alone_is_not_the_cascade_s(certified, alone, said):
    key = "banking77.minilm.231.margin"
    figures = {f"{key}.calls": 0.0, f"{key}.gain": 4.9, f"{key}.small": 4.9}
    figures |= {f"{key}.certified": certified, f"{key}.alone": alone}
    tables = {table.name: table for table in certify_real.tables(figures)}
    for name in ("certify_real.banking77", "certify_real.short"):
        table = tables[name]
        row = dict(zip(table.columns, table.rows[0], strict=True))
        assert row["verdict, % of splits"] == said
        assert next(cell for column, cell in row.items() if column.startswith("small alone")) == "+4.9"


@pytest.fixture(scope="module")
def banking():
    try:
        return Banking(Context("certify_real"))
    except FileNotFoundError:
        pytest.skip("the data are not here")


def test_the_final_rows_are_apart(banking):
    final = set(banking.final.texts)
    for part in (banking.few, banking.train, banking.develop, banking.draw(500, 1)):
        assert not final & set(part.texts)
    assert len(banking.final.texts) == 3080
    assert data.banking77_labels() == banking.labels


def test_training_rows_depend_on_the_seed_alone(banking):
    assert banking.draw(500, 1).texts == banking.draw(500, 1).texts
    assert banking.draw(500, 1).texts != banking.draw(500, 2).texts
    assert banking.draw(231, 1) is banking.few


def test_no_gain_is_learned_on_rows_that_trained_the_model(banking):
    few = banking.draw(231, 0)
    fitted = banking.fit("tfidf", few)
    assert fitted.final.shape == (3080, 77)
    assert fitted.final.sum(axis=1) == pytest.approx(1.0)
    used = {text for text, usable in zip(banking.develop.texts, fitted.usable, strict=True) if usable}
    assert not used & set(few.texts)
    assert len(banking.develop.texts) - len(used) == 24
