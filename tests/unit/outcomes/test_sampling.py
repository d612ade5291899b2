"""Figures of rows that were chosen for labelling, against the truth of all rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus import calibration
from langchain_dsplus.outcomes.sampling import WIDEST, Estimate, LabelSample

FIGURES = {
    "errors": lambda s, p, y: s.rate(1.0 - y),
    "errors of the sure": lambda s, p, y: s.within(p > 0.8).rate(1.0 - y[p > 0.8]),
    "ece": lambda s, p, y: s.calibration_error(p, y),
    "auroc": lambda s, p, y: s.auroc(p, y),
    "aurc": lambda s, p, y: s.aurc(p, 1.0 - y),
    "e_aurc": lambda s, p, y: s.e_aurc(p, 1.0 - y),
}
TRUTH = {
    "errors": lambda p, y: 1.0 - y.mean(),
    "errors of the sure": lambda p, y: 1.0 - y[p > 0.8].mean(),
    "ece": calibration.expected_calibration_error,
    "auroc": calibration.auroc,
    "aurc": calibration.aurc,
    "e_aurc": calibration.e_aurc,
}


def _rows(seed, n=2000, agreed_errors=0.03):
    rng = np.random.default_rng(seed)
    p = np.round(0.5 + 0.5 * rng.beta(2.0, 0.8, n), 3)
    agree = rng.random(n) < 0.35 + 0.6 * (p - 0.5) / 0.5
    right = rng.random(n) < np.where(agree, 1.0 - agreed_errors * (2.2 - 1.6 * p), 0.35)
    return p, agree, right.astype(float)


def _sample(agree, rng, *, agreements, disagreements=1.0):
    labelled = np.zeros(len(agree), dtype=bool)
    differ, same = np.flatnonzero(~agree), np.flatnonzero(agree)
    labelled[rng.permutation(differ)[: round(disagreements * len(differ))]] = True
    labelled[rng.permutation(same)[:agreements]] = True
    return LabelSample(agree.astype(np.intp), labelled, np.zeros(len(agree), dtype=bool))


@pytest.mark.parametrize(("agreements", "disagreements"), [(40, 1.0), (100, 1.0), (100, 0.5), (400, 1.0)])
def test_intervals_cover_the_truth_of_all_rows(agreements, disagreements):
    p, agree, right = _rows(7)
    rng = np.random.default_rng(11)
    covered = {name: [] for name in FIGURES}
    for _ in range(150):
        sample = _sample(agree, rng, agreements=agreements, disagreements=disagreements)
        # What nobody labelled must not matter.
        seen = np.where(sample.labelled, right, rng.integers(0, 2, len(right)))
        for name, figure in FIGURES.items():
            found = figure(sample, p, seen)
            assert found.low <= found.high
            if found.known:
                truth = TRUTH[name](p, right)
                covered[name].append(found.low - 1e-9 <= truth <= found.high + 1e-9)
    for name, hits in covered.items():
        assert len(hits) == 0 or np.mean(hits) >= 0.93 - 2.0 * np.sqrt(0.93 * 0.07 / len(hits)), name
    assert len(covered["errors"]) == 150


def test_the_labelled_rows_alone_would_mislead():
    _, agree, right = _rows(3)
    sample = _sample(agree, np.random.default_rng(0), agreements=100)
    naive = 1.0 - right[sample.labelled].mean()
    found = sample.rate(1.0 - right)
    assert abs(naive - (1.0 - right.mean())) > 0.15
    assert abs(found.value - (1.0 - right.mean())) < 0.03


@pytest.mark.parametrize("name", FIGURES)
def test_with_every_row_labelled_it_is_the_usual_figure(name):
    p, agree, right = _rows(5, n=400)
    everything = np.ones(400, dtype=bool)
    found = FIGURES[name](LabelSample(agree.astype(np.intp), everything, ~everything), p, right)
    assert found.census
    assert found.value == pytest.approx(TRUTH[name](p, right))
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("name", FIGURES)
def test_without_agreed_labels_there_are_bounds_and_no_figure(name):
    p, agree, right = _rows(5)
    found = FIGURES[name](_sample(agree, np.random.default_rng(0), agreements=0), p, right)
    assert found.value is None
    assert found.low <= TRUTH[name](p, right) <= found.high
    assert found.needed > 0
    assert str(found).startswith("needs about")


def test_rows_left_open_count_both_ways():
    agree = np.ones(200, dtype=np.intp)
    labelled, skipped = np.arange(200) < 80, (np.arange(200) >= 80) & (np.arange(200) < 100)
    wrong = np.zeros(200)
    strict = LabelSample(agree, labelled, skipped).rate(wrong)
    kind = LabelSample(agree, labelled, np.zeros(200, dtype=bool)).rate(wrong)
    assert strict.high > 0.2 > kind.high
    assert strict.low == kind.low == 0.0


def test_labels_that_it_asks_for_do():
    _, agree, right = _rows(9)
    rng = np.random.default_rng(2)
    sample = _sample(agree, rng, agreements=8)
    found = sample.rate(1.0 - right)
    assert found.width > WIDEST
    more = _sample(agree, rng, agreements=8 + found.needed)
    assert more.rate(1.0 - right).width <= WIDEST


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.floats(0, 1), st.floats(0, 1))
def test_any_table_gives_finite_ends_in_order(seed, n, agreeing, known):
    rng = np.random.default_rng(seed)
    strata = (rng.random(n) < agreeing).astype(np.intp)
    labelled = rng.random(n) < known
    skipped = ~labelled & (rng.random(n) < 0.2)
    p, y = np.round(rng.random(n), 1), rng.integers(0, 2, n).astype(float)
    sample = LabelSample(strata, labelled, skipped)
    for figure in FIGURES.values():
        found = figure(sample, p, y)
        assert isinstance(found, Estimate)
        assert np.isfinite([found.low, found.high]).all()
        assert found.low <= found.high + 1e-12
        assert found.value is None or found.low - 1e-9 <= found.value <= found.high + 1e-9
        assert found.known or found.needed >= 0


def test_the_complement_turns_the_ends():
    found = Estimate(0.1, 0.05, 0.2, 50).complement()
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.8, 0.95))
