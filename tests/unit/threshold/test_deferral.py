"""Deferral curve, APGR, CPT and parity, against routing row by row."""

import copy
import itertools
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.deferral import Estimate, apgr, cost_at_parity, cpt

scores = st.none() | st.sampled_from([0.2, 0.5, 0.5000000000000001, 0.9]) | st.floats(0, 1)
money = st.sampled_from([0.25, 1.0, 3.0])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "confidence": scores,
            "small_ok": st.booleans(),
            "large_ok": st.sampled_from([True, True, True, False]),
            "large_pruned_ok": st.sampled_from([True, True, False]),
            "cost_small": money,
            "cost_large": money,
            "cost_large_pruned": money,
        }
    ),
    min_size=1,
    max_size=12,
)
prompts = pytest.mark.parametrize("prompt", ["plain", "pruned"])


def routed(table, threshold, prompt):
    """Share of calls, accuracy and money at one threshold, row by row."""
    calls = right = cost = 0.0
    for row in table:
        cost += row["cost_small"]
        failed = row["confidence"] is None
        if not failed and row["confidence"] > threshold:
            right += row["small_ok"]
            continue
        used = "large_pruned" if prompt == "pruned" and not failed else "large"
        calls += 1
        right += row[f"{used}_ok"]
        cost += row[f"cost_{used}"]
    return calls / len(table), right / len(table), cost / len(table)


def everything(table, prompt):
    """All that thresholds can reach, from few calls to all."""
    thresholds = sorted({r["confidence"] for r in table} - {None} | {-math.inf, math.inf})
    return [routed(table, t, prompt) for t in thresholds]


def accuracies(table):
    small = sum(r["small_ok"] for r in table if r["confidence"] is not None) / len(table)
    return small, sum(r["large_ok"] for r in table) / len(table)


@prompts
@given(table=rows)
def test_apgr_is_the_area_under_the_gap(prompt, table):
    small, large = accuracies(table)
    assume(large > small)
    points = everything(table, prompt)
    points.insert(0, (0.0, small, 0.0))  # nobody is asked, and where the small model fails it is wrong
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    assert apgr(Outcomes.from_records(table), prompt=prompt) == pytest.approx((area - small) / (large - small))


@prompts
@given(table=rows, x=st.floats(0.05, 1.0))
def test_cpt_is_the_fewest_calls(prompt, table, x):
    small, large = accuracies(table)
    assume(large > small)
    enough = [calls for calls, right, _ in everything(table, prompt) if (right - small) / (large - small) >= x - 1e-9]
    outcomes = Outcomes.from_records(table)
    if not enough:
        assert prompt == "pruned"
        with pytest.raises(ValueError, match="no threshold recovers"):
            cpt(outcomes, x, prompt=prompt)
    else:
        assert cpt(outcomes, x, prompt=prompt) == pytest.approx(min(enough))


@prompts
@given(table=rows)
def test_parity_is_where_the_cascade_first_equals_the_large_model(prompt, table):
    large = accuracies(table)[1]
    equal = [point for point in everything(table, prompt) if point[1] >= large - 1e-9]
    outcomes = Outcomes.from_records(table)
    if not equal:
        assert prompt == "pruned"
        with pytest.raises(ValueError, match="no threshold is as accurate"):
            cost_at_parity(outcomes, prompt=prompt)
        return
    found = cost_at_parity(outcomes, prompt=prompt)
    assert (found.escalation_rate, found.accuracy, found.cost / 1000) == pytest.approx(min(equal))
    assert routed(table, found.threshold, prompt) == pytest.approx(min(equal))
    alone = sum(r["cost_large"] for r in table) / len(table)
    assert found.large_cost == pytest.approx(1000 * alone)
    assert found.cost_share == pytest.approx(found.cost / found.large_cost)


def stream(n=1500, seed=0, **more):
    """A small model that knows when it is right, and a better large one."""
    rng = np.random.default_rng(seed)
    c = rng.uniform(0.5, 1.0, n)
    return Outcomes(
        {
            "confidence": c.tolist(),
            "small_ok": (rng.random(n) < c).tolist(),
            "large_ok": (rng.random(n) < 0.93).tolist(),
            "cost_large": [0.002] * n,
            **more,
        }
    )


def test_random_confidence_recovers_half_and_a_perfect_order_the_most():
    rng = np.random.default_rng(3)
    n = 20_000
    small, large = rng.random(n) < 0.7, rng.random(n) < 0.9
    right = {"small_ok": small.tolist(), "large_ok": large.tolist()}
    chance = Outcomes({"confidence": rng.random(n).tolist(), **right})
    assert apgr(chance) == pytest.approx(0.5, abs=0.03)
    assert cpt(chance, 0.5) == pytest.approx(0.5, abs=0.06)
    perfect = Outcomes({"confidence": (small.astype(float) - large).tolist(), **right})
    assert apgr(perfect) > 1.0  # beyond the large model, where harms are kept from it
    assert cpt(perfect, 1.0) < 0.3
    flat = Outcomes({"confidence": [0.5] * n, **right})
    assert apgr(flat) == pytest.approx(0.5)
    assert cpt(flat, 0.5) == 1.0  # equal scores stand or fall together
    assert apgr(chance) < apgr(stream(n)) < apgr(perfect)


def test_a_large_model_that_is_no_better_leaves_no_gap():
    rng = np.random.default_rng(0)
    table = [{"confidence": c, "small_ok": True, "large_ok": False} for c in rng.random(20)]
    outcomes = Outcomes.from_records(table)
    for undefined in (lambda: apgr(outcomes), lambda: cpt(outcomes, 0.5)):
        with pytest.raises(ValueError, match=r"0\.0000.+no better.+1\.0000.+not defined"):
            undefined()
    found = cost_at_parity(outcomes)
    assert (found.escalation_rate, found.accuracy, found.cost, found.cost_share) == (0.0, 1.0, None, None)
    equal = Outcomes.from_records([{"confidence": 0.5, "small_ok": ok, "large_ok": ok} for ok in (True, False)])
    with pytest.raises(ValueError, match="not defined"):
        apgr(equal)


def test_a_small_side_that_costs_more_than_it_saves():
    found = cost_at_parity(stream(cost_small=[0.0015] * 1500))
    assert found.cost_share == pytest.approx(found.escalation_rate + 0.75)
    assert found.cost_share > 1.0
    free = cost_at_parity(stream())
    assert free.cost_share == pytest.approx(free.escalation_rate)
    assert free.cost == pytest.approx(1000 * 0.002 * free.escalation_rate)
    unpaid = cost_at_parity(
        Outcomes(
            {**{k: stream().values(k) for k in ("confidence", "small_ok", "large_ok")}, "cost_large": [0.0] * 1500}
        )
    )
    assert (unpaid.large_cost, unpaid.cost_share) == (0.0, None)


def test_no_gain_from_a_large_model_that_failed_or_said_something_else():
    """Without the rule the small model would beat a large one that is out of order."""
    fine = [
        {"confidence": 0.6, "small": "b", "large": "a", "gold": "a"},
        {"confidence": 0.9, "small": "a", "large": "a", "gold": "a"},
    ]
    odd = [{"confidence": 0.95, "small": "a", "large": large, "gold": "a"} for large in (None, "I cannot say.", "c")]
    outcomes = Outcomes.from_records(fine + odd, about={"labels": ["a", "b"]})
    found = cost_at_parity(outcomes)
    assert (found.n, found.left_out, found.escalation_rate, found.large_accuracy) == (2, 3, 0.5, 1.0)
    assert apgr(outcomes) == apgr(Outcomes.from_records(fine))


# --- intervals ------------------------------------------------------------------------------------------------------


def by_hand(outcomes, function, times, seed):
    """Resample the table itself."""
    rng = np.random.default_rng(seed)
    values = []
    records = outcomes.to_records()
    for _ in range(times):
        drawn = [{**records[i], "id": str(k)} for k, i in enumerate(rng.integers(0, len(records), len(records)))]
        values.append(function(Outcomes.from_records(drawn)))
    return np.quantile(values, [0.05, 0.95])


@pytest.mark.parametrize("function", [apgr, lambda o, **k: cpt(o, 0.5, **k)], ids=["apgr", "cpt"])
def test_the_interval_is_that_of_resampled_tables(function):
    outcomes = stream(300)
    value = function(outcomes, bootstrap=2000, level=0.9)
    low, high = by_hand(outcomes, function, 250, 1)
    width = high - low
    assert value.low == pytest.approx(low, abs=0.2 * width)
    assert value.high == pytest.approx(high, abs=0.2 * width)
    assert value.low <= value <= value.high
    assert value.level == 0.9
    assert value == function(outcomes)


def test_intervals_of_parity():
    outcomes = stream(400)
    found = cost_at_parity(outcomes, bootstrap=500)
    assert found.low <= found.escalation_rate <= found.high
    assert (found.cost_share_low, found.cost_share_high) == pytest.approx((found.low, found.high))
    assert cost_at_parity(outcomes, bootstrap=500) == found


@pytest.mark.no_cover
def test_the_interval_covers():
    """The APGR of a large population lies in the 90 % interval of samples from it about nine times of ten."""
    truth = apgr(stream(40_000, seed=99))
    values = [apgr(stream(400, seed=seed), bootstrap=150, level=0.9) for seed in range(120)]
    assert 0.82 <= np.mean([value.low <= truth <= value.high for value in values]) <= 0.97


def test_rows_of_one_group_are_drawn_together():
    table = stream(200).to_records()
    repeated = [{**row, "id": f"{row['id']}-{k}", "group": row["id"]} for row in table for k in range(8)]
    grouped = Outcomes.from_records(repeated)
    loose = Outcomes.from_records({k: v for k, v in row.items() if k != "group"} for row in repeated)
    one, eight, naive = (apgr(o, bootstrap=400) for o in (stream(200), grouped, loose))
    assert one == pytest.approx(eight)
    assert eight.high - eight.low == pytest.approx(one.high - one.low, rel=0.2)
    assert naive.high - naive.low < 0.6 * (one.high - one.low)


def test_an_interval_without_an_end_is_refused():
    table = [{"confidence": 0.1 * k, "small_ok": k > 2, "large_ok": k > 1} for k in range(1, 9)]
    with pytest.raises(ValueError, match=r"in \d+% of the resamples"):
        apgr(Outcomes.from_records(table), bootstrap=200)


def test_an_estimate_is_a_float():
    plain, full = Estimate(0.5), Estimate(0.5, 0.4, 0.6, 0.95)
    assert plain == full == 0.5
    assert (plain.low, plain.high, plain.level) == (None, None, None)
    assert json.loads(json.dumps({"v": full}, allow_nan=False)) == {"v": 0.5}
    assert repr(full) == "Estimate(0.5, low=0.4, high=0.6, level=0.95)"
    assert f"{full:.1%}" == "50.0%"
    for again in (copy.deepcopy(full), pickle.loads(pickle.dumps(full))):
        assert (again, again.low, again.high, again.level) == (0.5, 0.4, 0.6, 0.95)


@pytest.mark.parametrize("x", [0.0, -0.1, 1.1, 50, math.nan])
def test_x_is_a_share(x):
    with pytest.raises(ValueError, match=r"0\.5 for 50 %"):
        cpt(stream(20), x)


def test_bad_arguments_are_refused():
    outcomes = stream(30)
    for call in (apgr, cost_at_parity):
        with pytest.raises(ValueError, match="bootstrap"):
            call(outcomes, bootstrap=-1)
        with pytest.raises(ValueError, match="level"):
            call(outcomes, level=95)
        with pytest.raises(ValueError, match="prompt"):
            call(outcomes, prompt="soft")
        with pytest.raises(ValueError, match="large_pruned"):
            call(outcomes, prompt="pruned")
    with pytest.raises(ValueError, match="nothing can be compared"):
        apgr(Outcomes.from_records([{"confidence": 0.5, "small": "a", "large": "a", "gold": None}]))
