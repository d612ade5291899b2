"""P(correct | score), and how well scores rank: scikit-learn and brute force are the oracles."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.answer import NotFittedError
from langchain_dsplus.calibration import (
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    aurc,
    auroc,
    brier_score,
    e_aurc,
    expected_calibration_error,
    log_softmax,
    negative_log_likelihood,
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
CALIBRATIONS = [PlattScaling, IsotonicCalibration]


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


def test_platt_finds_the_log_odds():
    scores, correct = stream(20_000)
    platt = PlattScaling().fit(scores, correct)
    assert platt.slope == pytest.approx(4.0, rel=0.05)
    assert platt.intercept == pytest.approx(-1.0, abs=0.1)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 0.5), (300.0, -5000.0)])
def test_platt_is_scikit_learns_sigmoid(scale, shift):
    """Its own `_SigmoidCalibration` has the same targets; with many rows the plain regression is close as well."""
    calibration = pytest.importorskip("sklearn.calibration")
    linear = pytest.importorskip("sklearn.linear_model")
    scores, correct = stream(2000, scale=scale, shift=shift)
    ours = PlattScaling().fit(scores, correct)
    base = (scores - shift) / scale  # the oracles are fitted in a unit that suits them
    if hasattr(calibration, "_SigmoidCalibration"):
        theirs = calibration._SigmoidCalibration().fit(base, correct)
        np.testing.assert_allclose(ours.predict(scores), theirs.predict(base), atol=1e-4)
    plain = linear.LogisticRegression(C=1e10, tol=1e-8).fit(base[:, None], correct)
    np.testing.assert_allclose(ours.predict(scores), plain.predict_proba(base[:, None])[:, 1], atol=5e-3)


def test_platt_stays_finite_where_a_score_never_errs():
    for correct in ([False] * 5 + [True] * 5, [True] * 10, [False] * 10):
        platt = PlattScaling().fit(np.linspace(0, 1, 10), correct)
        p = platt.predict([-1e300, 0.0, 1.0, 1e300])
        assert np.isfinite(p).all()
        assert math.isfinite(platt.slope)
    assert PlattScaling().fit([0.5, 0.5], [True, True]).predict([0.5]) == pytest.approx(0.75)


def test_a_score_that_is_wrong_way_round_has_a_negative_slope():
    scores, correct = stream()
    assert PlattScaling().fit(-scores, correct).slope < 0
    flat = IsotonicCalibration().fit(-scores, correct).predict([-2.0, 0.0, 2.0])
    assert np.ptp(flat) < 0.1


@settings(deadline=None)
@given(pairs, st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=10))
def test_isotonic_is_scikit_learns(table, new):
    isotonic = pytest.importorskip("sklearn.isotonic")
    scores, correct = zip(*table, strict=True)
    theirs = isotonic.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, np.array(correct, float))
    ours = IsotonicCalibration().fit(scores, correct)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), atol=1e-12)


def test_isotonic_is_what_pooling_adjacent_violators_gives():
    scores, correct = [0.1, 0.2, 0.2, 0.3, 0.4], [True, False, True, False, True]
    # 0.1: 1; 0.2: 1/2 of two rows; 0.3: 0 -> all four pooled to 1/2; 0.4: 1.
    assert IsotonicCalibration().fit(scores, correct).predict(scores) == pytest.approx([0.5, 0.5, 0.5, 0.5, 1.0])


@settings(deadline=None, max_examples=50)
@given(pairs)
@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_a_calibration_never_turns_two_scores_around(kind, table):
    scores, correct = zip(*table, strict=True)
    calibration = kind().fit(scores, correct)
    p = calibration.predict(sorted(scores))
    steps = np.diff(p)
    assert (steps >= -1e-12).all() or (kind is PlattScaling and calibration.slope < 0 and (steps <= 1e-12).all())
    assert ((p >= 0) & (p <= 1)).all()


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_a_calibration_is_honest_on_new_rows_and_ranks_no_better(kind):
    calibration = kind().fit(*stream(4000, seed=1))
    scores, correct = stream(20_000, seed=2)
    p = calibration.predict(scores)
    assert expected_calibration_error(p, correct) < 0.03
    assert auroc(p, correct) == pytest.approx(auroc(scores, correct), abs=0.003)


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_a_calibration_survives_json(kind):
    scores, correct = stream(300)
    calibration = kind().fit(scores, correct)
    state = json.loads(json.dumps(calibration.to_dict(), allow_nan=False))
    again = kind.from_dict(state)
    np.testing.assert_array_equal(again.predict(scores), calibration.predict(scores))
    assert again.to_dict() == calibration.to_dict()


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_a_score_that_is_not_finite_has_no_probability(kind):
    p = kind().fit([0.1, 0.9, 0.5], [False, True, True]).predict([math.nan, math.inf, -math.inf, 0.5])
    assert np.isnan(p[:3]).all()
    assert 0 < p[3] <= 1


@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_before_fit(kind):
    with pytest.raises(NotFittedError, match="fit"):
        kind().predict([0.5])


@pytest.mark.parametrize("kind", CALIBRATIONS)
@pytest.mark.parametrize(
    ("scores", "correct", "match"),
    [
        ([], [], "n > 0"),
        ([0.1], [True, False], "same shape"),
        ([[0.1]], [[True]], "same shape"),
        ([math.nan], [True], "not finite"),
        ([math.inf], [True], "not finite"),
        ([0.1], [0.5], "True or False"),
        ([0.1], [math.nan], "True or False"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(kind, scores, correct, match):
    with pytest.raises(ValueError, match=match):
        kind().fit(scores, correct)


@pytest.mark.parametrize(
    ("kind", "state", "match"),
    [
        (PlattScaling, {"kind": "isotonic"}, "kind"),
        (PlattScaling, None, "kind"),
        (PlattScaling, {"kind": "platt", "slope": 1.0}, "intercept"),
        (PlattScaling, {"kind": "platt", "slope": "1", "intercept": 0.0}, "slope"),
        (PlattScaling, {"kind": "platt", "slope": math.inf, "intercept": 0.0}, "slope"),
        (IsotonicCalibration, {"kind": "isotonic", "scores": [0.1]}, "probabilities"),
        (IsotonicCalibration, {"kind": "isotonic", "scores": [0.1], "probabilities": [0.1, 0.2]}, "one for each"),
        (IsotonicCalibration, {"kind": "isotonic", "scores": [0.2, 0.1], "probabilities": [0.1, 0.2]}, "ascend"),
        (IsotonicCalibration, {"kind": "isotonic", "scores": [0.1, 0.2], "probabilities": [0.2, 0.1]}, "never fall"),
        (IsotonicCalibration, {"kind": "isotonic", "scores": [0.1, 0.2], "probabilities": [0.2, 1.1]}, "0, 1"),
        (IsotonicCalibration, {"kind": "isotonic", "scores": [True], "probabilities": [0.1]}, "scores"),
        (TemperatureScaling, {"kind": "temperature", "bounds": [0.1]}, "bounds"),
        (TemperatureScaling, {"kind": "temperature", "bounds": [0.1, 2.0], "temperature": 0.0}, "greater than 0"),
        (TemperatureScaling, {"kind": "temperature", "bounds": [0.1, 2.0], "temperature": 1.0}, "from_probabilities"),
    ],
)
def test_a_damaged_state_is_refused(kind, state, match):
    with pytest.raises(ValueError, match=match):
        kind.from_dict(state)


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


@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 2**20))
def test_brier_and_likelihood_are_scikit_learns(classes, n, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), n)
    y = rng.integers(0, classes, n)
    labels = list(range(classes))
    assert negative_log_likelihood(p, y) == pytest.approx(metrics.log_loss(y, p, labels=labels))
    truth = np.eye(classes)[y]
    assert brier_score(p, y) == pytest.approx(((p - truth) ** 2).sum() / n)
    right, sure = y == p.argmax(axis=1), p.max(axis=1)
    assert brier_score(sure, right) == pytest.approx(metrics.brier_score_loss(right, sure, pos_label=True))
    assert negative_log_likelihood(sure, right) == pytest.approx(metrics.log_loss(right, sure, labels=[False, True]))
    two = np.stack([1 - sure, sure], axis=1)
    assert brier_score(two, right) == pytest.approx(2 * brier_score(sure, right))
    assert negative_log_likelihood(two, right) == pytest.approx(negative_log_likelihood(sure, right))


def test_probabilities_that_are_none_are_refused():
    for score in (brier_score, negative_log_likelihood):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            score([1.5, 0.2], [1, 0])
        with pytest.raises(ValueError, match="shape"):
            score([], [])


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
