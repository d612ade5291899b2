"""Drift of confidence, accept rate and classes: noticed where it is, silent where it is not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from langchain_dsplus import Outcomes
from langchain_dsplus.monitoring.drift import DriftMonitor, _chi_square, stability_index
from langchain_dsplus.threshold.certify import certify


def draw(n: int, seed: int, shape: float = 4.0) -> np.ndarray:
    return np.random.default_rng(seed).beta(shape, 1.0, n)


def monitor(**options) -> DriftMonitor:
    scores = draw(4000, 0)
    choices = ["a" if i % 2 else "b" for i in range(4000)]
    options = {"threshold": 0.8, "choices": choices, "window": 500, **options}
    return DriftMonitor.from_confidences(scores.tolist(), **options)


def feed(watch: DriftMonitor, scores, choice=lambda i: "a" if i % 2 else "b"):
    found = []
    for i, score in enumerate(scores):
        found += watch.observe(float(score), choice(i), accepted=bool(score > 0.8))
    return found


def test_the_same_traffic_is_no_drift():
    watch = monitor()
    assert feed(watch, draw(50_000, 1)) == []
    assert watch.windows == 100
    assert watch.found == ()


def test_less_sure_answers_are_noticed_and_fewer_local_ones():
    watch = monitor()
    found = feed(watch, draw(500, 2, shape=1.5))
    assert [drift.kind for drift in found] == ["confidence", "accept_rate"]
    assert "less sure" in found[0].message
    assert found[0].size > 0.25
    assert found[1].size < -0.1
    assert [name for name, _ in watch.events()] == ["dsplus_drift", "dsplus_drift"]
    assert list(watch.events()) == []
    assert watch.found == tuple(found)


def test_another_mix_of_classes_is_noticed_and_an_unknown_one():
    assert [d.kind for d in feed(monitor(), draw(500, 3), choice=lambda i: "a" if i % 10 else "b")] == ["classes"]
    assert [d.kind for d in feed(monitor(), draw(500, 3), choice=lambda i: "new" if i % 4 == 0 else "ab"[i % 2])] == [
        "classes"
    ]


def test_a_certificate_is_reference_enough():
    scores = draw(3000, 4)
    rows = [
        {"small": "a" if i % 3 else "b", "confidence": float(s), "large": "a" if i % 3 else "b"}
        for i, s in enumerate(scores)
    ]
    certificate = certify(Outcomes.from_records(rows))
    watch = DriftMonitor.from_certificate(certificate, window=500)
    assert watch.shares.sum() == pytest.approx(1.0)
    expected = np.bincount(np.searchsorted(watch.edges, scores), minlength=len(watch.shares)) / 3000
    assert watch.shares == pytest.approx(expected, abs=1e-9)
    assert watch.classes == {"a": 2 / 3, "b": 1 / 3}
    for i, score in enumerate(draw(5000, 5)):
        assert watch.observe(float(score), "a" if i % 3 else "b", accepted=True) == []
    found = [d for score in draw(500, 6, shape=1.0) for d in watch.observe(float(score))]
    assert [drift.kind for drift in found] == ["confidence"]  # nobody said what was accepted


def test_certificates_that_cannot_be_one_are_refused():
    rows = [{"small": "a", "confidence": 0.5, "large": "a"}] * 700
    with pytest.raises(ValueError, match="from_confidences"):
        DriftMonitor.from_certificate(certify(Outcomes.from_records(rows)))
    with pytest.raises(ValueError, match="finite"):
        DriftMonitor.from_confidences([float("nan"), None])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"edges": [0.5, 0.5], "shares": [0.5, 0.2, 0.3]}, "edges"),
        ({"edges": [0.5], "shares": [1.0]}, "edges"),
        ({"edges": [0.5], "shares": [0.5, 0.6]}, "sum to 1"),
        ({"edges": [0.5], "shares": [0.5, 0.5], "window": 1}, "window"),
    ],
)
def test_settings_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        DriftMonitor(size=100, **options)


def test_a_score_that_is_no_number_does_not_count_and_copies_share():
    watch = monitor(window=2)
    assert watch.observe(float("nan")) == []
    assert copy.deepcopy(watch) is watch
    watch.observe(0.5)
    assert watch.windows == 0


def test_chance_alone_hardly_ever_warns():
    """The warning needs size and p-value: over 400 small windows of the same traffic it stays silent."""
    silent = sum(not feed(monitor(window=200), draw(200, seed)) for seed in range(100, 500))
    assert silent >= 399


def test_the_stability_index_by_hand():
    first, second = [0.5, 0.5], [0.8, 0.2]
    by_hand = 0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5)
    assert stability_index(first, second, 10**9, 10**9) == pytest.approx(by_hand, abs=1e-6)
    assert stability_index(first, first, 100, 10**9) == pytest.approx(0.0, abs=1e-9)
    assert np.isfinite(stability_index([1.0, 0.0], [0.0, 1.0], 100, 100))


@given(st.lists(st.tuples(st.integers(5, 500), st.integers(5, 500)), min_size=2, max_size=12))
@settings(max_examples=50, deadline=None)
def test_the_mix_is_compared_as_chi_square_does(pairs):
    first, second = np.array(pairs, dtype=float).T
    reference = stats.chi2_contingency(np.stack([first, second]), correction=False).pvalue
    if not np.any((first + second) * min(first.sum(), second.sum()) / (first.sum() + second.sum()) < 3):
        assert _chi_square(first, second) == pytest.approx(reference, rel=1e-6, abs=1e-12)
