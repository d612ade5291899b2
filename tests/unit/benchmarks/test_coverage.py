"""The coverage benchmark: one split measured again, and its own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import coverage, data, harness


def test_hindsight_is_the_last_share_that_keeps_the_promise():
    lost = np.zeros(1000, dtype=bool)
    lost[[500, 600, *range(700, 800)]] = True
    score = -np.arange(1000.0)
    assert coverage.hindsight(score, lost) == pytest.approx(0.718)  # 2 + 18 lost of 1,000
    assert coverage.hindsight(score, np.ones(1000, dtype=bool)) == pytest.approx(0.02)


def test_the_rival_stops_where_its_bound_is_above_the_promise():
    score = np.linspace(0, 1, 2000)
    lost = np.zeros(2000, dtype=bool)
    assert coverage.rival(score, lost) <= 0.0
    lost[:1000] = True  # the less sure half
    assert 0.47 < coverage.rival(score, lost) < 0.5
    assert coverage.rival(score, np.ones(2000, dtype=bool)) > 0.98


def test_one_split_of_the_results_file():
    try:
        data.find("llm_uncertainty_bench")
    except FileNotFoundError as error:
        pytest.skip(str(error).split(". ")[0])
    body = harness.read("coverage")
    context = harness.Context("coverage", seed=body["seeds"]["seed"] if body else 0)
    order = coverage.orders_of(context, 1)[0]
    found = coverage.one_split(coverage.World("cosmosqa", *coverage.PAIRS[0]), order)
    assert set(found) == set(coverage.ARMS)
    assert 0.45 < found["max"][0] <= found["max_fine"][0] < 0.75
    assert all(arm[0] <= arm[3] + 0.08 for arm in found.values())
    if body is not None:
        assert body["seeds"] == body["seeds"] | context.seeds
        shares = [body["figures"][f"cosmosqa.Yi-6B.{arm}.local"] for arm in coverage.ARMS]
        assert np.abs(np.array(shares) - [100 * found[arm][0] for arm in coverage.ARMS]).max() < 15
