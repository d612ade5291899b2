"""P(correct | score), and how well scores rank: scikit-learn and brute force are the oracles."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.calibration import (
    TemperatureScaling,
    aurc,
    auroc,
    e_aurc,
    expected_calibration_error,
    log_softmax,
    reliability_bins,
    softmax,
)

metrics = pytest.importorskip("sklearn.metrics")
optimize = pytest.importorskip("scipy.optimize")

pairs = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.floats(0, 1)), st.booleans()),
    min_size=1,
    max_size=40,
)


def stream(n=3000, seed=0, scale=1.0, shift=0.0):
    """Scores whose log-odds of being right are 4 s - 1."""
    rng = np.random.default_rng(seed)
    s = rng.uniform(-1, 1.5, n)
    return s * scale + shift, rng.random(n) < 1 / (1 + np.exp(-(4 * s - 1)))


# --- temperature ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "one_column"), [(2, False), (2, True), (5, False)])
def test_the_temperature_is_the_one_that_scipy_finds(classes, one_column):
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(400, classes)) * 3
    labels = (softmax(logits / 2.5).cumsum(axis=1) > rng.random((400, 1))).argmax(axis=1)

    def loss(t):
        return -log_softmax(logits / t[0])[np.arange(400), labels].mean()

    theirs = optimize.minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x[0]
    rows = logits[:, 1] - logits[:, 0] if one_column else logits
    assert TemperatureScaling().fit(rows, labels).temperature == pytest.approx(theirs, rel=1e-4)


def test_weights_that_weigh_nothing_are_refused():
    for weights in ([0.0, 0.0], [-1.0, 2.0], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="weights"):
            TemperatureScaling().fit([[0.0, 1.0], [1.0, 0.0]], [1, 0], weights=weights)


def test_a_temperature_survives_json():
    logits = np.random.default_rng(0).normal(size=(100, 3))
    scaling = TemperatureScaling(bounds=(0.1, 5.0)).fit(logits, logits.argmax(axis=1))
    again = TemperatureScaling.from_dict(json.loads(json.dumps(scaling.to_dict(), allow_nan=False)))
    assert again.to_dict() == scaling.to_dict()
    np.testing.assert_array_equal(again.transform(logits), scaling.transform(logits))


# --- P(correct | score) ---------------------------------------------------------------------------------------------


# --- how honest -----------------------------------------------------------------------------------------------------


@given(pairs, st.integers(1, 12))
def test_equal_width_bins_are_scikit_learns(table, bins):
    calibration = pytest.importorskip("sklearn.calibration")
    p, y = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    accuracy, confidence = calibration.calibration_curve(y, p, n_bins=bins, pos_label=1.0)
    ours = reliability_bins(p, y, bins=bins, scheme="equal_width")
    assert [b.accuracy for b in ours] == pytest.approx(accuracy.tolist())
    assert [b.confidence for b in ours] == pytest.approx(confidence.tolist())
    assert sum(b.n for b in ours) == len(p)
    by_hand = sum(b.n / len(p) * abs(b.accuracy - b.confidence) for b in ours)
    assert expected_calibration_error(p, y, bins=bins, scheme="equal_width") == pytest.approx(by_hand)


@given(pairs, st.integers(1, 12))
def test_equal_mass_bins_hold_equally_many_rows_and_part_no_tie(table, bins):
    p, y = zip(*table, strict=True)
    found = reliability_bins(p, y, bins=bins)
    assert len(found) <= bins
    assert sum(b.n for b in found) == len(p)
    centers = [b.confidence for b in found]
    assert centers == sorted(centers)
    if len(set(p)) == len(p):
        assert max(b.n for b in found) <= math.ceil(len(p) / bins)


# --- how well it ranks ----------------------------------------------------------------------------------------------


@given(pairs.filter(lambda rows: len({y for _, y in rows}) == 2))
def test_auroc_is_scikit_learns(table):
    p, y = zip(*table, strict=True)
    assert auroc(p, y) == pytest.approx(metrics.roc_auc_score(y, p))
    wins = [(a > b) + 0.5 * (a == b) for a, right in table if right for b, other in table if not other]
    assert auroc(p, y) == pytest.approx(np.mean(wins))


def test_auroc_of_one_kind_of_row_is_not_defined():
    for y in ([True, True], [False, False]):
        with pytest.raises(ValueError, match="not defined"):
            auroc([0.1, 0.2], y)


@given(pairs.map(lambda rows: rows[:5]))
def test_aurc_is_the_mean_over_all_orders_of_the_ties(table):
    """Against its definition: risks at each coverage, averaged over every order that falls in confidence."""
    values = []
    for order in itertools.permutations(table):
        if all(a[0] >= b[0] for a, b in itertools.pairwise(order)):
            wrong = [not right for _, right in order]
            values.append(np.mean([np.mean(wrong[:k]) for k in range(1, len(wrong) + 1)]))
    p, y = (np.array(column) for column in zip(*table, strict=True))
    assert aurc(p, y) == pytest.approx(np.mean(values))
    assert aurc(p, y) - e_aurc(p, y) == pytest.approx(aurc(y.astype(float), y))
    assert e_aurc(y.astype(float), y) == 0.0


def test_e_aurc_nears_the_formula_for_many_rows():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    r = 1 - y.mean()
    assert e_aurc(p, y) == pytest.approx(aurc(p, y) - (r + (1 - r) * math.log(1 - r)), abs=1e-4)
