import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.curves import (
    accuracy_interval,
    candidate_thresholds,
    cost_quality_curve,
    risk_coverage_curve,
    sweep,
)

scores = st.one_of(
    st.sampled_from([0.2, 0.5, 0.5000000000000001, 0.9]), st.floats(allow_nan=False, allow_infinity=False)
)
bits = st.sampled_from([True, True, False, None])
rows = st.lists(
    st.fixed_dictionaries(
        {"confidence": st.none() | scores, "small_ok": bits, "large_ok": bits, "large_pruned_ok": bits}
    ),
    min_size=1,
    max_size=12,
)


def counted(table, prompt="plain"):
    """The rows that count, by the plain meaning of the words; `asked` is right when the large model is asked."""
    used = "large_ok" if prompt == "plain" else "large_pruned_ok"
    # Where the small model failed there is nothing to prune with.
    rows = [{**r, "asked": r["large_ok"] if r["confidence"] is None else r[used]} for r in table]
    kept = [r for r in rows if r["large_ok"] is not None and r["asked"] is not None]
    return [r for r in kept if r["confidence"] is None or r["small_ok"] is not None], "asked"


def cascade(table, used, threshold):
    """Route row by row, as Algorithm 2 does."""
    accepted = [r["confidence"] is not None and r["confidence"] > threshold for r in table]
    right = [r["small_ok"] if yes else r[used] for r, yes in zip(table, accepted, strict=True)]
    return sum(accepted), sum(right)


def test_candidates():
    found = candidate_thresholds([0.9, 0.5, 0.9, math.nan])
    assert found.tolist() == [math.inf, 0.7, math.nextafter(0.5, -math.inf)]
    assert candidate_thresholds([]).tolist() == [math.inf]
    assert candidate_thresholds([math.nan, math.inf]).tolist() == [math.inf]


@given(st.lists(scores, min_size=1, max_size=20))
def test_each_candidate_accepts_one_more_group_of_equal_scores(values):
    found = candidate_thresholds(values)
    distinct = sorted(set(values), reverse=True)
    assert len(found) == len(distinct) + 1
    assert (np.diff(found) < 0).all()
    for place, threshold in enumerate(found.tolist()):
        assert {value for value in values if value > threshold} == set(distinct[:place])


@pytest.mark.parametrize("high", [0.7, 1.0, -3.0, 1e308, 5e-324])
def test_scores_that_touch_are_still_told_apart(high):
    low = math.nextafter(high, -math.inf)
    _, middle, lowest = candidate_thresholds([high, low]).tolist()
    assert high > middle
    assert not low > middle
    assert low > lowest


@pytest.mark.parametrize("prompt", ["plain", "pruned"])
@given(table=rows)
def test_the_sweep_is_what_routing_row_by_row_gives(prompt, table):
    kept, used = counted(table, prompt)
    outcomes = Outcomes.from_records({"id": str(place), **row} for place, row in enumerate(table))
    if not kept:
        with pytest.raises(ValueError, match="nothing can be compared"):
            sweep(outcomes, prompt=prompt)
        return
    found = sweep(outcomes, prompt=prompt)
    assert found.n == len(kept)
    assert found.left_out == len(table) - len(kept)
    for threshold, accepted, right in zip(found.thresholds.tolist(), found.accepted, found.right, strict=True):
        assert (accepted, right) == cascade(kept, used, threshold)


def example():
    """Three confident and right, then ties, then two that only the large model gets."""
    table = [
        (0.9, "a", "a", "a"),
        (0.8, "a", "b", "a"),
        (0.6, "b", "a", "a"),
        (0.6, "a", "a", "a"),
        (0.3, "b", "a", "a"),
    ]
    return Outcomes.from_records({"confidence": c, "small": s, "large": large, "gold": g} for c, s, large, g in table)


def test_the_cost_quality_curve():
    curve = cost_quality_curve(example())
    assert [tuple(round(x, 9) for x in point) for point in curve] == [
        (math.inf, 0.0, 1.0, 0.8),
        (0.85, 0.2, 0.8, 0.8),
        (0.7, 0.4, 0.6, 1.0),
        (0.45, 0.8, 0.2, 0.8),
        (round(math.nextafter(0.3, 0), 9), 1.0, 0.0, 0.6),
    ]
    assert len(curve) == 5
    assert (curve.large_accuracy, curve.small_accuracy, curve.n, curve.left_out) == (0.8, 0.6, 5, 0)
    best = max(curve, key=lambda point: point.accuracy)
    assert (best.accuracy, best.escalation_rate) == (1.0, 0.6)


def test_a_failed_large_model_is_no_gain():
    table = [{"confidence": 0.9, "small": "a", "large": None, "gold": "a"}] * 3
    table += [{"confidence": 0.8, "small": "b", "large": "a", "gold": "a"}]
    curve = cost_quality_curve(Outcomes.from_records(table))
    assert (curve.n, curve.left_out, curve.large_accuracy) == (1, 3, 1.0)
    assert curve.accuracy.tolist() == [1.0, 0.0]


def test_a_failed_small_model_is_always_escalated():
    table = [{"confidence": None, "small": None, "large": "a", "gold": "a"}]
    table += [{"confidence": 0.8, "small": "a", "large": "b", "gold": "a"}]
    curve = cost_quality_curve(Outcomes.from_records(table))
    assert curve.coverage.tolist() == [0.0, 0.5]
    assert curve.accuracy.tolist() == [0.5, 1.0]


def test_a_large_model_outside_the_labels_is_no_gain_but_may_be_a_harm():
    about = {"labels": ["a", "b"]}
    table = [
        {"confidence": 0.9, "small": "a", "large": "Sorry!", "gold": "a"},
        {"confidence": 0.8, "small": "b", "large": "A.", "gold": "a", "large_ok": True},
        {"confidence": 0.7, "small": "a", "large": "b", "gold": "a"},
    ]
    curve = cost_quality_curve(Outcomes.from_records(table, about=about))
    assert (curve.n, curve.left_out, curve.large_accuracy) == (2, 1, 0.5)
    assert curve.accuracy.tolist() == [0.5, 0.0, 0.5]
    assert cost_quality_curve(Outcomes.from_records(table)).left_out == 0


def test_a_small_answer_outside_the_labels_escalates():
    table = [
        {"confidence": 0.9, "small": "c", "large": "b", "gold": "b"},
        {"confidence": 0.8, "small": "b", "large": "b", "gold": "b"},
    ]
    curve = cost_quality_curve(Outcomes.from_records(table, about={"labels": ["a", "b"]}))
    assert curve.coverage.tolist() == [0.0, 0.5]
    assert curve.small_accuracy == 0.5


def test_money_along_the_curve():
    table = [
        {"confidence": c, "small_ok": True, "large_ok": True, "cost_small": 0.001, "cost_large": cost}
        for c, cost in [(0.9, 0.01), (0.8, 0.02), (0.7, 0.03), (0.7, 0.04)]
    ]
    curve = cost_quality_curve(Outcomes.from_records(table))
    assert curve.cost == pytest.approx([26.0, 23.5, 18.5, 1.0])
    table[0]["cost_large"] = None
    # What is not known is the mean of what is.
    assert cost_quality_curve(Outcomes.from_records(table)).cost == pytest.approx([31.0, 23.5, 18.5, 1.0])
    table = [{**row, "cost_large": None} for row in table]
    assert cost_quality_curve(Outcomes.from_records(table)).cost is None


def test_a_pruned_prompt_needs_its_column():
    with pytest.raises(ValueError, match="large_pruned"):
        sweep(example(), prompt="pruned")


def test_an_unknown_prompt_is_refused():
    with pytest.raises(ValueError, match="prompt"):
        sweep(example(), prompt="soft")


def test_risk_and_coverage():
    curve = risk_coverage_curve(example())
    assert curve.coverage.tolist() == [0.2, 0.4, 0.8, 1.0]
    assert curve.risk.tolist() == [0.0, 0.0, 0.25, 0.4]
    assert curve.aurc == pytest.approx(np.mean([0, 0, 0.5 / 3, 1 / 4, 2 / 5]))
    assert curve.e_aurc == pytest.approx(curve.aurc - np.mean([0, 0, 0, 1 / 4, 2 / 5]))
    assert curve.n == 5
    with pytest.raises(ValueError, match="no row"):
        risk_coverage_curve(Outcomes.from_records([{"confidence": None, "small": "a", "large": "a", "gold": "a"}]))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_no_order_beats_the_perfect_one(table):
    outcomes = Outcomes.from_records({"confidence": c, "small_ok": ok, "large_ok": True} for c, ok in table)
    curve = risk_coverage_curve(outcomes)
    assert curve.e_aurc >= -1e-12
    perfect = Outcomes.from_records({"confidence": float(ok), "small_ok": ok, "large_ok": True} for _, ok in table)
    assert risk_coverage_curve(perfect).e_aurc == pytest.approx(0.0, abs=1e-12)
    flat = Outcomes.from_records({"confidence": 0.5, "small_ok": ok, "large_ok": True} for _, ok in table)
    assert risk_coverage_curve(flat).aurc == pytest.approx(1 - np.mean([ok for _, ok in table]))


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (37, 40), (849, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_the_interval_is_scipys(right, n, level):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(right, n).proportion_ci(level, "exact")
    assert accuracy_interval(right, n, level=level) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("right", "n", "options", "match"),
    [
        (2, 1, {}, "hits"),
        (-1, 1, {}, "hits"),
        (1, 2, {"level": 1.0}, "alpha"),
    ],
)
def test_impossible_counts_are_refused(right, n, options, match):
    with pytest.raises(ValueError, match=match):
        accuracy_interval(right, n, **options)
