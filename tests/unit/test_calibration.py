import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.calibration import (
    TemperatureScaling,
    expected_calibration_error,
    log_softmax,
    one_hot,
    softmax,
)


def overconfident(n=4000, classes=3, factor=3.0, seed=0):
    """Logits that are `factor` times too large for their labels."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, classes)) * 1.5
    p = softmax(honest)
    labels = (p.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return honest * factor, labels


def negative_log_likelihood(probabilities, labels):
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_known_factor(classes, factor):
    logits, labels = overconfident(classes=classes, factor=factor)
    scaling = TemperatureScaling().fit(logits, labels)
    assert scaling.temperature == pytest.approx(factor, rel=0.1)
    before, after = softmax(logits), scaling.transform(logits)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
    assert negative_log_likelihood(after, labels) <= negative_log_likelihood(before, labels) + 1e-9
    right = after.argmax(axis=1) == labels
    assert expected_calibration_error(after.max(axis=1), right) < 0.05


def test_it_agrees_with_a_fine_grid():
    logits, labels = overconfident(n=300)
    found = TemperatureScaling().fit(logits, labels).temperature
    grid = np.geomspace(0.05, 20, 4001)
    losses = [negative_log_likelihood(softmax(logits / t), labels) for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=5e-3)


def test_it_agrees_with_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("needs a scikit-learn with temperature scaling")
    logits, labels = overconfident(n=500)
    oracle = calibration._TemperatureScaling().fit(logits, labels)
    np.testing.assert_allclose(
        TemperatureScaling().fit(logits, labels).transform(logits), oracle.predict(logits), atol=2e-3
    )


def test_probabilities_give_the_same_as_their_logits():
    logits, labels = overconfident(n=300)
    from_logits = TemperatureScaling().fit(logits, labels)
    from_rows = TemperatureScaling(from_probabilities=True).fit(softmax(logits), labels)
    assert from_rows.temperature == pytest.approx(from_logits.temperature, rel=1e-3)
    np.testing.assert_allclose(from_rows.transform(softmax(logits)), from_logits.transform(logits), atol=1e-6)


@pytest.mark.parametrize("from_probabilities", [False, True])
def test_two_classes_in_one_column(from_probabilities):
    logits, labels = overconfident(n=300, classes=2)
    z = logits[:, 1] - logits[:, 0]
    rows = softmax(logits)[:, 1] if from_probabilities else z
    one = TemperatureScaling(from_probabilities=from_probabilities).fit(rows, labels)
    two = TemperatureScaling().fit(logits, labels)
    assert one.temperature == pytest.approx(two.temperature, rel=1e-3)
    np.testing.assert_allclose(one.transform(rows), two.transform(logits), atol=1e-6)


def test_soft_targets_and_weights():
    logits, labels = overconfident(n=200)
    hard = TemperatureScaling().fit(logits, labels).temperature
    assert TemperatureScaling().fit(logits, one_hot(labels, 3)).temperature == pytest.approx(hard)
    twice = TemperatureScaling().fit(np.vstack([logits, logits[:50]]), np.concatenate([labels, labels[:50]]))
    weights = np.ones(200)
    weights[:50] = 2
    assert TemperatureScaling().fit(logits, labels, weights=weights).temperature == pytest.approx(
        twice.temperature, rel=1e-4
    )


def test_it_stays_within_its_bounds_and_no_rows_leave_it_at_one():
    logits = np.array([[0.1, 0.0], [0.0, 0.1]])
    assert TemperatureScaling().fit(logits, [0, 1]).temperature == pytest.approx(0.05)
    assert TemperatureScaling().fit(logits, [1, 0]).temperature == pytest.approx(20.0)
    assert TemperatureScaling(bounds=(0.5, 2.0)).fit(logits, [0, 1]).temperature == pytest.approx(0.5)
    assert TemperatureScaling().fit(np.zeros((0, 2)), np.zeros(0, dtype=int)).temperature == 1.0


@pytest.mark.parametrize(
    ("rows", "targets", "match"),
    [
        ([[np.nan, 0.0]], [0], "not finite"),
        ([[0.0, 1.0]], [2], "0..1"),
        ([[0.0, 1.0]], [0.5], "class numbers"),
        ([[0.0, 1.0]], [0, 1], "2 rows"),
        ([[0.0, 1.0]], [[0.2, 0.2]], "sum to 1"),
        ([[0.0, 1.0]], [[0.2, 0.2, 0.6]], "shape"),
        ([[[0.0]]], [0], "shape"),
    ],
)
def test_bad_rows_are_refused(rows, targets, match):
    with pytest.raises(ValueError, match=match):
        TemperatureScaling().fit(rows, targets)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="bounds"):
        TemperatureScaling(bounds=(2.0, 1.0))
    with pytest.raises(ValueError, match="from_probabilities"):
        TemperatureScaling(from_probabilities=True).fit([[3.0, -1.0]], [0])
    with pytest.raises(ValueError, match="weights"):
        TemperatureScaling().fit([[0.0, 1.0]], [0], weights=[1.0, 2.0])


@given(st.lists(st.lists(st.floats(-700, 700), min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_is_a_distribution_whatever_the_logits(rows):
    p = softmax(rows)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert (p >= 0).all()
    np.testing.assert_allclose(np.exp(log_softmax(rows)), p, atol=1e-12)


def test_ece_known_values():
    assert expected_calibration_error([1.0, 1.0], [True, True]) == 0.0
    assert expected_calibration_error([1.0, 1.0], [False, False]) == 1.0
    p, y = [0.9] * 10 + [0.6] * 10, [True] * 8 + [False] * 2 + [True] * 7 + [False] * 3
    assert expected_calibration_error(p, y, bins=2) == pytest.approx(0.1)
    assert expected_calibration_error(p, y, bins=10, scheme="equal_width") == pytest.approx(0.1)
    assert expected_calibration_error(p, y, bins=1) == pytest.approx(0.0)


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=60), st.randoms())
def test_ece_is_within_bounds_and_blind_to_the_order_of_rows(rows, random):
    for scheme in ("equal_mass", "equal_width"):
        before = expected_calibration_error(*zip(*rows, strict=True), bins=4, scheme=scheme)
        assert 0.0 <= before <= 1.0
        random.shuffle(rows)
        assert expected_calibration_error(*zip(*rows, strict=True), bins=4, scheme=scheme) == pytest.approx(before)


@pytest.mark.parametrize(
    ("p", "y", "options", "match"),
    [
        ([], [], {}, "same shape"),
        ([0.5], [True, False], {}, "same shape"),
        ([1.5], [True], {}, "lie in"),
        ([np.nan], [True], {}, "not finite"),
        ([0.5], [True], {"bins": 0}, "bins"),
        ([0.5], [True], {"scheme": "other"}, "scheme"),
    ],
)
def test_ece_refuses(p, y, options, match):
    with pytest.raises(ValueError, match=match):
        expected_calibration_error(p, y, **options)
