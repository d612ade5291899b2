"""The test for groups: against exact cases, against simulation of its weights, and its size."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from langchain_dsplus.threshold.clusters import (
    MINIMUM_GROUPS,
    check_groups,
    clustered_p_value,
    clustered_upper_bound,
    effective_groups,
    least_groups,
)
from langchain_dsplus.threshold.exact import least_rows, paired_p_value

# --- the value ---


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize(("bad", "groups", "max_loss"), [(0, 598, 0.005), (0, 60, 0.1), (3, 700, 0.01), (9, 80, 0.1)])
def test_equal_groups_harmed_altogether_or_not_are_the_binomial_test(
    bad: int, groups: int, max_loss: float, size: int
) -> None:
    sums = [size] * bad + [0] * (groups - bad)
    p = clustered_p_value(sums, [size] * groups, max_loss)
    assert p == pytest.approx(stats.binom.cdf(bad, groups, max_loss), rel=1e-8)


def test_without_a_harm_as_many_groups_are_needed_as_rows() -> None:
    assert clustered_p_value([0] * 598, [4] * 598, 0.005) <= 0.05 < clustered_p_value([0] * 597, [4] * 597, 0.005)
    assert clustered_p_value([0] * 60, [100] * 60, 0.005) == pytest.approx(0.995**60)  # 6,000 rows, not enough


@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_is_the_share_of_random_weights_above_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, 120)
    sums = np.round(sizes * rng.uniform(-0.4, 0.3 + 0.1 * seed, 120))
    unseen = sizes.max() + max(1.0, sizes.var() / sizes.mean() ** 2) * (sizes.max() - sizes.mean())
    weights = rng.exponential(size=(100_000, 121))
    u = np.append(sums - 0.02 * sizes, 0.98 * unseen)
    share = (weights @ u >= 0).mean()
    p = clustered_p_value(sums, sizes, 0.02, refuse=False)
    assert abs(p - share) < 4 * math.sqrt(share * (1 - share) / 100_000) + 1e-5


def test_a_far_tail_keeps_its_relative_precision() -> None:
    """All of 2,000 rows are gains: the integral is known in closed form."""
    p = clustered_p_value([-1] * 2000, [1] * 2000, 0.02, refuse=False)
    # P(0.98 w0 >= 1.02 (1 - w0)) with w0 ~ Beta(1, 2000)
    assert p == pytest.approx((1 - 1.02 / 2.0) ** 2000, rel=1e-6, abs=1e-300)
    p = clustered_p_value([-1] * 60, [1] * 60, 0.02)
    assert p == pytest.approx((1 - 0.51) ** 60, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_it_moves_the_right_way(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    groups = data.draw(st.integers(1, 80))
    sizes = rng.integers(1, data.draw(st.integers(1, 40)) + 1, groups)
    sums = np.round(sizes * rng.uniform(-1, 1, groups))
    max_loss = data.draw(st.floats(0.001, 0.5))
    p = clustered_p_value(sums, sizes, max_loss, refuse=False)
    assert 0.0 <= p <= 1.0
    assert clustered_p_value(sums, sizes, min(1.5 * max_loss, 0.99), refuse=False) <= p + 1e-9
    assert clustered_p_value(np.minimum(sums + 1, sizes), sizes, max_loss, refuse=False) >= p - 1e-9
    more = 3 * float(sizes.max())
    assert clustered_p_value(sums, sizes, max_loss, largest=more, refuse=False) >= p - 1e-9
    assert clustered_p_value(np.tile(sums, 2)[::-1], np.tile(sizes, 2)[::-1], max_loss, refuse=False) == pytest.approx(
        clustered_p_value(np.tile(sums, 2), np.tile(sizes, 2), max_loss, refuse=False), rel=1e-9, abs=1e-12
    )


def test_rows_that_stand_alone_are_judged_about_as_the_exact_test_does() -> None:
    for harms, gains, n, max_loss in [(3, 3, 2000, 0.005), (10, 5, 3000, 0.005), (20, 25, 1500, 0.01)]:
        sums = np.zeros(n)
        sums[:harms], sums[n - gains :] = 1, -1
        p, exact = clustered_p_value(sums, np.ones(n), max_loss), paired_p_value(harms, gains, n, max_loss)
        assert 0.4 < p / exact < 2.5


def test_rows_of_a_group_do_not_count_as_so_many_rows() -> None:
    """1 % of 200 groups of ten rows are harmed, 2 % are gained: clear row by row, not group by group."""
    sums = [10] * 2 + [-10] * 4 + [0] * 194
    assert paired_p_value(20, 40, 2000, 0.005) < 1e-3
    assert clustered_p_value(sums, [10] * 200, 0.005) > 0.1


def test_the_bound_is_where_the_test_turns() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 4, 900)
    sums = np.where(rng.random(900) < 0.01, sizes, 0)
    bound = clustered_upper_bound(sums, sizes)
    assert clustered_p_value(sums, sizes, bound) <= 0.05 < clustered_p_value(sums, sizes, bound - 1e-5)
    assert clustered_upper_bound(sums, sizes, 0.99) > bound > sums.sum() / sizes.sum()
    assert clustered_upper_bound([1] * 60, [1] * 60) == 1.0


# --- refusal and arguments ---


def test_few_or_unequal_groups_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ValueError, match=r"49 groups.*count as 49, and 50 are needed"):
        clustered_p_value([0] * 49, [3] * 49, 0.02)
    assert clustered_p_value([0] * MINIMUM_GROUPS, [3] * MINIMUM_GROUPS, 0.02) > 0
    lopsided = [1] * 1000 + [500]
    assert effective_groups(lopsided) == 3.0
    with pytest.raises(ValueError, match=r"1,001 groups, the largest of which holds 33.3% of the rows, count as 3"):
        clustered_upper_bound([0] * 1001, lopsided)
    with pytest.raises(ValueError, match="unit='group'"):
        check_groups(lopsided)


def test_the_example_of_thirty_customers_is_not_certified() -> None:
    """They have half of the traffic and all of the loss: 1.5 points per input, at half a point."""
    rng = np.random.default_rng(0)
    for n in (2_000, 20_000, 200_000):
        sizes = np.concatenate([np.full(30, n // 60), np.ones(n // 2, dtype=int)])
        sums = np.concatenate([rng.binomial(n // 60, 0.03, 30), np.zeros(n // 2)])
        assert clustered_p_value(sums, sizes, 0.005) > 0.5


def test_least_groups_are_enough_without_a_harm_and_one_in_ten_fewer_are_not() -> None:
    for pattern in ([5], [1, 3], [1, 2, 2, 2, 8]):
        groups = least_groups(pattern * 40, 0.01)
        assert groups >= least_rows(0.01)
        enough = np.resize(pattern, groups)
        assert clustered_p_value(np.zeros(groups), enough, 0.01) <= 0.055
        assert clustered_p_value(np.zeros(int(0.9 * groups)), enough[: int(0.9 * groups)], 0.01) > 0.05
    assert least_groups([5] * 10, 0.5) == MINIMUM_GROUPS


@pytest.mark.parametrize(
    ("sums", "sizes", "max_loss", "largest", "words"),
    [
        ([], [], 0.01, None, "two lists of one length"),
        ([0], [1, 1], 0.01, None, "two lists of one length"),
        ([[0]], [[1]], 0.01, None, "two lists of one length"),
        ([0], [0], 0.01, None, "`sizes` must be at least 1"),
        ([0], [math.nan], 0.01, None, "`sizes` must be at least 1"),
        ([0], [math.inf], 0.01, None, "`sizes` must be at least 1"),
        ([3], [2], 0.01, None, "`sums` must lie between"),
        ([math.nan], [2], 0.01, None, "`sums` must lie between"),
        ([0], [2], 0.0, None, "`max_loss` must lie"),
        ([0], [2], 1.0, None, "`max_loss` must lie"),
        ([0], [2], math.nan, None, "`max_loss` must lie"),
        ([0], [2], 0.01, 1.0, "`largest` must be finite"),
        ([0], [2], 0.01, math.inf, "`largest` must be finite"),
        ([0], [2], 0.01, math.nan, "`largest` must be finite"),
    ],
)
def test_bad_arguments_are_named(sums: list, sizes: list, max_loss: float, largest: float | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clustered_p_value(sums, sizes, max_loss, largest=largest, refuse=False)


def test_a_level_below_a_half_is_refused() -> None:
    with pytest.raises(ValueError, match="`level`"):
        clustered_upper_bound([0] * 60, [1] * 60, 0.4)


# --- its size, by simulation at a loss of exactly `max_loss` ---

RUNS = 400


def _sizes(kind: str, rng: np.random.Generator, count: int) -> np.ndarray:
    if kind == "equal":
        return np.full(count, 4)
    if kind == "lognormal":
        return np.ceil(np.exp(rng.normal(0.5, 1.0, count))).astype(int)
    return np.ceil(2 * rng.pareto(2.5, count) + 1e-9).astype(int)


@functools.cache
def _large(kind: str, share: float) -> tuple[int, float]:
    """The size above which groups hold this share of the rows, and how many of that size belong to them."""
    sizes = np.sort(_sizes(kind, np.random.default_rng(1), 1_000_000))[::-1]
    total = share * sizes.sum()
    size = int(sizes[np.searchsorted(np.cumsum(sizes), total)])
    return size, (total - sizes[sizes > size].sum()) / sizes[sizes == size].sum()


def _draw(where: str, kind: str, max_loss: float, groups: int, rng: np.random.Generator) -> tuple:
    """One sample at a true loss of `max_loss`."""
    sizes = _sizes(kind, rng, groups)
    if where == "rows":
        harms = rng.binomial(sizes, max_loss + 0.02)
        return harms - rng.binomial(sizes - harms, 0.02 / (0.98 - max_loss)), sizes
    share = {"few groups": 1, "few groups, gains elsewhere": 3, "largest groups": 1, "largest, gains elsewhere": 5}[
        where
    ]
    if where.startswith("few"):
        bad = rng.random(groups) < share * max_loss
    else:
        size, part = _large(kind, share * max_loss)
        bad = (sizes > size) | ((sizes == size) & (rng.random(groups) < part))
    gain = (share - 1) * max_loss / (1 - share * max_loss)
    return np.where(bad, sizes, -rng.binomial(sizes, gain)), sizes


@pytest.mark.parametrize(
    "where", ["rows", "few groups", "few groups, gains elsewhere", "largest groups", "largest, gains elsewhere"]
)
@pytest.mark.parametrize(("kind", "groups"), [("equal", 200), ("lognormal", 600), ("pareto", 800)])
def test_it_rejects_in_at_most_five_percent_of_samples(kind: str, groups: int, where: str) -> None:
    rng = np.random.default_rng([groups, len(where)])
    rejected = lenient = 0
    for _ in range(RUNS):
        sums, sizes = _draw(where, kind, 0.02, groups, rng)
        if effective_groups(sizes) >= MINIMUM_GROUPS:
            rejected += clustered_p_value(sums, sizes, 0.02) <= 0.05
        u = sums - 0.02 * sizes
        lenient += stats.t.cdf(u.mean() / (u.std(ddof=1) / math.sqrt(groups) + 1e-12), groups - 1) <= 0.05
    low = stats.beta.ppf(0.025, rejected, RUNS - rejected + 1) if rejected else 0.0
    assert low <= 0.05
    if where == "largest groups" and kind != "equal":  # what the usual test does there
        assert lenient / RUNS > 0.3


def test_it_can_show_what_is_there() -> None:
    """Threads of one to three rows, loss well below the promise: most samples of 2,000 threads are enough."""
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(100):
        sizes = rng.integers(1, 4, 2000)
        sums = rng.binomial(sizes, 0.005) - rng.binomial(sizes, 0.005)
        found += clustered_p_value(np.clip(sums, -sizes, sizes), sizes, 0.01) <= 0.05
    assert found >= 80
