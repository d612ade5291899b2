"""The exact paired test, against published figures, direct sums and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from langchain_dsplus.threshold.exact import (
    count_significant,
    critical_value,
    least_rows,
    loss_interval,
    loss_upper_bound,
    paired_p_value,
    significant,
    tango_score,
)

COUNTS = st.integers(2, 60).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@pytest.mark.parametrize(
    ("counts", "p"),
    [
        ((0, 0, 598, 0.005), 0.0499),
        ((0, 0, 597, 0.005), 0.0502),
        ((3, 3, 2000, 0.005), 0.0031),
        ((10, 5, 3000, 0.005), 0.016),
        ((20, 25, 1500, 0.01), 0.0025),
    ],
)
def test_reference_p_values(counts: tuple[int, int, int, float], p: float) -> None:
    assert paired_p_value(*counts) == pytest.approx(p, abs=0.5 * 10 ** -(4 if p != 0.016 else 3) + 1e-6)


def test_without_harms_and_gains_it_is_never_below_the_binomial_test() -> None:
    for n in (50, 100, 300, 400, 1000):
        assert paired_p_value(0, 0, n, 0.01) >= 0.99**n
    assert paired_p_value(0, 0, 299, 0.01) == pytest.approx(0.99**299, abs=1e-6)


def direct(harms: int, gains: int, n: int, max_loss: float, rates: np.ndarray) -> float:
    """The supremum as a plain double sum over a grid of gain rates."""
    seen = tango_score(harms, gains, n, max_loss)
    b, c = (a.ravel() for a in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
    b, c = b[b + c <= n], c[b + c <= n]
    extreme = tango_score(b, c, n, max_loss) <= seen + 1e-9
    b, c = b[extreme], c[extreme]
    best = 0.0
    for rate in rates:
        p = [rate + max_loss, rate, max(1.0 - 2 * rate - max_loss, 0.0)]
        best = max(best, float(stats.multinomial.pmf(np.stack([b, c, n - b - c], axis=1), n, p).sum()))
    return best


@settings(max_examples=25, deadline=None)
@example((5, 13, 25), 0.2)
@given(COUNTS, st.sampled_from([0.01, 0.05, 0.2]))
def test_it_is_the_supremum_over_the_gain_rate(counts: tuple[int, int, int], max_loss: float) -> None:
    most = (1.0 - max_loss) / 2.0
    rates = np.linspace(0.0, most, 41)
    p = paired_p_value(*counts, max_loss)
    # The package may leave out rates at which so few gains would be absurd, and says what that costs: 1e-9.
    unusual = stats.binom.cdf(counts[1], counts[2], 0.45) < 1e-9
    wanted = direct(*counts, max_loss, rates[rates <= 0.45] if unusual else rates)
    assert p >= wanted - 1e-6
    assert p <= direct(*counts, max_loss, np.linspace(0.0, most, 161)) * 1.05 + 1e-4


@given(COUNTS, st.floats(0.001, 0.5))
def test_it_rises_with_harms_and_falls_with_gains(counts: tuple[int, int, int], max_loss: float) -> None:
    harms, gains, n = counts
    score = tango_score(harms, gains, n, max_loss)
    assert math.isfinite(score)
    if harms + gains < n:
        assert tango_score(harms + 1, gains, n, max_loss) > score
        assert tango_score(harms, gains + 1, n, max_loss) < score


@settings(max_examples=60, deadline=None)
@given(
    st.integers(30, 3000),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from([0.005, 0.02]),
    st.sampled_from([0.05, 0.025]),
)
def test_the_critical_value_never_contradicts_the_p_value(
    n: int, harms: int, gains: int, max_loss: float, alpha: float
) -> None:
    harms, gains = min(harms, n // 3), min(gains, n // 4)
    p = paired_p_value(harms, gains, n, max_loss)
    assert significant(harms, gains, n, max_loss, alpha) == (p <= alpha)
    score, critical = tango_score(harms, gains, n, max_loss), critical_value(n, max_loss, alpha)
    if score <= critical and n >= 200:
        assert p <= alpha
    if score > critical + 2e-3:
        assert p > alpha


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.04, 0.2])
def test_the_size_is_kept(rate: float) -> None:
    """At a loss of exactly `max_loss` it rejects in at most 5 % of 20,000 samples, whatever the gain rate."""
    n, max_loss, runs = 1000, 0.01, 20_000
    random = np.random.default_rng(7)
    counts = random.multinomial(n, [rate + max_loss, rate, 1 - 2 * rate - max_loss], size=runs)
    rejected = int((tango_score(counts[:, 0], counts[:, 1], n, max_loss) <= critical_value(n, max_loss, 0.05)).sum())
    assert stats.binomtest(rejected, runs, 0.05, alternative="greater").pvalue > 0.001
    assert rejected > 0.01 * runs  # and is not idle


def test_a_fixed_sequence_stops_at_the_first_failure() -> None:
    assert count_significant([0, 0, 30, 0], [0, 0, 0, 0], 1000, 0.005, 0.05) == 2
    assert count_significant([0, 0], [0, 0], 1000, 0.005, 0.05) == 2
    assert count_significant([9], [0], 1000, 0.005, 0.05) == 0
    assert count_significant([], [], 1000, 0.005, 0.05) == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=12))
def test_counting_by_halves_finds_the_first_failure(steps: list[tuple[int, int]]) -> None:
    harms, gains = [b for b, _ in steps], [c for _, c in steps]
    passes = [paired_p_value(b, c, 2000, 0.005) <= 0.05 for b, c in steps]
    wanted = passes.index(False) if False in passes else len(steps)
    assert count_significant(harms, gains, 2000, 0.005, 0.05) == wanted


@pytest.mark.parametrize(
    "counts", [(0, 0, 598), (10, 5, 3000), (20, 25, 1500), (60, 20, 400), (0, 40, 100), (50, 0, 50)]
)
def test_the_upper_bound_is_the_smallest_loss_that_is_shown(counts: tuple[int, int, int]) -> None:
    bound = loss_upper_bound(*counts)
    if 1e-6 < bound < 1.0:
        assert paired_p_value(*counts, bound) <= 0.05
        assert paired_p_value(*counts, bound * 0.99) > 0.05
    assert bound >= (counts[0] - counts[1]) / counts[2]


def test_the_interval_is_tangos() -> None:
    low, high = loss_interval(10, 5, 3000)
    z = stats.norm.ppf(0.975)
    assert tango_score(10, 5, 3000, high) == pytest.approx(-z, abs=1e-6)
    assert tango_score(10, 5, 3000, low) == pytest.approx(z, abs=1e-6)
    assert loss_interval(5, 10, 3000) == pytest.approx((-high, -low))
    assert loss_interval(0, 0, 598)[1] == pytest.approx(z * z / (598 + z * z), rel=1e-6)


def test_least_rows() -> None:
    assert [least_rows(loss) for loss in (0.0025, 0.005, 0.01, 0.02, 0.03)] == [1197, 598, 299, 149, 99]
    for level in (0.8, 0.95, 0.975, 0.99):
        n = least_rows(0.01, level)
        assert paired_p_value(0, 0, n, 0.01) <= 1 - level < paired_p_value(0, 0, n - 1, 0.01)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: paired_p_value(3, 3, 5, 0.01), "harms"),
        (lambda: paired_p_value(-1, 3, 5, 0.01), "harms"),
        (lambda: paired_p_value(0, 0, 5, 0.0), "max_loss"),
        (lambda: critical_value(100, 0.01, 0.6), "alpha"),
        (lambda: loss_upper_bound(0, 0, 10, 1.0), "level"),
        (lambda: loss_interval(0, 0, 10, 1.0), "level"),
        (lambda: least_rows(0.0), "max_loss"),
    ],
)
def test_bad_arguments_are_named(call: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()  # type: ignore[operator]
