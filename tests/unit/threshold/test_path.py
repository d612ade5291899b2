"""Several small models on one path: against routing row by row."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.choose import choose_threshold
from langchain_dsplus.threshold.curves import costs_along, sweep
from langchain_dsplus.threshold.differences import coverage_grid
from langchain_dsplus.threshold.path import check_path, coverage_path, path_sweep

scores = st.none() | st.sampled_from([0.2, 0.5, 0.5000000000000001, 0.9]) | st.floats(0, 1)
money = st.sampled_from([0.0, 0.5, 2.0])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "confidence.first": scores,
            "small.first_ok": st.booleans(),
            "confidence.second": scores,
            "small.second_ok": st.booleans(),
            "large_ok": st.booleans(),
            "large_pruned_ok": st.booleans(),
            "cost_large": money,
            "cost_large_pruned": money,
            "cost_small.first": money,
            "cost_small.second": money,
        }
    ),
    min_size=1,
    max_size=12,
)
NAMES = ["first", "second"]


def outcomes_of(table):
    """Models are asked in the order of their columns; hypothesis shuffles keys."""
    return Outcomes.from_records({key: row[key] for key in sorted(row)} for row in table)


def routed(row, thresholds, prompt="plain"):
    """Algorithm 2, one row: who answers (None: the large model), whether that is right, what it cost."""
    cost = 0.0
    asked = f"large_{'pruned_' if prompt == 'pruned' else ''}ok"
    paid = "cost_large_pruned" if prompt == "pruned" else "cost_large"
    for name in NAMES:
        cost += row[f"cost_small.{name}"]
        confidence = row[f"confidence.{name}"]
        if confidence is None:
            asked, paid = "large_ok", "cost_large"  # there is nothing to prune with
            break
        if confidence > thresholds[name]:
            return name, row[f"small.{name}_ok"], cost
    return None, row[asked], cost + row[paid]


@settings(deadline=None)
@given(rows, st.integers(1, 20))
def test_a_path_goes_from_strict_to_lax_in_even_steps(table, steps):
    outcomes = outcomes_of(table)
    path = coverage_path(outcomes, steps=steps)
    assert len(path) <= steps
    reach = sum(r["confidence.first"] is not None for r in table)
    assert bool(path) == bool(reach)
    accepted = [{place for place, r in enumerate(table) if routed(r, step)[0]} for step in path]
    for one, other in itertools.pairwise(path):
        assert all(other[name] <= one[name] for name in NAMES)
        assert one != other
    assert all(one < other for one, other in itertools.pairwise(accepted))
    everything = {place for place, r in enumerate(table) if routed(r, dict.fromkeys(NAMES, -1.0))[0]}
    if path:
        assert accepted[-1] == everything
    distinct = len({c for r in table for n in NAMES if (c := r[f"confidence.{n}"]) is not None}) == 2 * len(table)
    if distinct and path:
        # No ties, no failures: both models by themselves accept about as many rows at every step.
        for step in path:
            alone = [sum(r[f"confidence.{n}"] > step[n] for r in table) for n in NAMES]
            assert abs(alone[0] - alone[1]) <= 1


def test_the_steps_are_even_where_scores_are_distinct():
    rng = np.random.default_rng(0)
    n = 2000
    table = {"small.a": ["x"] * n, "small.b": ["x"] * n, "large": ["x"] * n}
    for correlation in (0.0, 0.9):
        one = rng.random(n)
        other = correlation * one + (1 - correlation) * rng.random(n)
        outcomes = Outcomes({**table, "confidence.a": one.tolist(), "confidence.b": other.tolist()})
        path = coverage_path(outcomes)
        assert len(path) == 50
        for place, step in enumerate(path, 1):
            alone = [(one > step["a"]).mean(), (other > step["b"]).mean()]
            assert ((one > step["a"]) | (other > step["b"])).mean() == pytest.approx(place / 50, abs=1.5 / n)
            assert alone[0] == pytest.approx(alone[1], abs=1e-9)


def test_the_path_does_not_look_at_answers_or_gold():
    rng = np.random.default_rng(1)
    scores = {f"confidence.{name}": rng.random(100).tolist() for name in "ab"}
    paths = [
        coverage_path(
            Outcomes({**scores, "small.a": [x] * 100, "small.b": [x] * 100, "large": [y] * 100, "gold": [y] * 100})
        )
        for x, y in (("p", "p"), ("p", "q"))
    ]
    assert paths[0] == paths[1]


@given(st.lists(scores, min_size=1, max_size=15), st.integers(1, 10))
def test_the_path_of_one_model_is_its_coverage_grid(values, steps):
    outcomes = Outcomes.from_records({"confidence": c, "small_ok": True, "large_ok": True} for c in values)
    assert [step["small"] for step in coverage_path(outcomes, steps)] == coverage_grid(outcomes["confidence"], steps)


def test_a_model_that_accepts_nothing_yet_has_no_finite_threshold():
    table = [
        {"confidence.a": a, "confidence.b": b, "small.a": "x", "small.b": "x", "large": "x"}
        for a, b in [(0.9, 0.5), (0.1, 0.5)]
    ]
    first, last = coverage_path(Outcomes.from_records(table), steps=2)
    assert first == {"a": 0.5, "b": math.inf}
    assert last["b"] < 0.5


@pytest.mark.parametrize("prompt", ["plain", "pruned"])
@settings(deadline=None)
@given(table=rows)
def test_the_sweep_of_a_path_is_what_routing_row_by_row_gives(prompt, table):
    outcomes = outcomes_of(table)
    path = coverage_path(outcomes, steps=6) or [dict.fromkeys(NAMES, 0.5)]
    found = path_sweep(outcomes, path, prompt=prompt)
    assert found.path == [dict.fromkeys(NAMES, math.inf), *path]
    costs, _ = costs_along(outcomes, found.rows, found.path, prompt)
    for place, step in enumerate(found.path):
        expected = [routed(r, step, prompt) for r in table]
        assert found.accepted[place] == sum(name is not None for name, _, _ in expected)
        assert found.right[place] == sum(right for _, right, _ in expected)
        assert found.cascade(place).tolist() == [float(right) for _, right, _ in expected]
        assert costs[place] == pytest.approx(sum(cost for _, _, cost in expected))


@settings(deadline=None)
@given(rows)
def test_choosing_on_a_path_finds_its_best_step(table):
    outcomes = outcomes_of(table)
    path = coverage_path(outcomes)
    if not path:
        return
    options = [dict.fromkeys(NAMES, math.inf), *path]
    results = []
    for step in options:
        expected = [routed(r, step) for r in table]
        share = sum(name is not None for name, _, _ in expected) / len(table)
        results.append(
            (
                sum(right for _, right, _ in expected) / len(table),
                share,
                1000 * sum(c for _, _, c in expected) / len(table),
            )
        )
    choice = choose_threshold(outcomes, "max_accuracy", bootstrap=0)
    assert choice.threshold is None
    assert (choice.accuracy, choice.coverage) == pytest.approx(max(r[:2] for r in results))
    place = options.index(choice.thresholds)
    assert (choice.accuracy, choice.coverage, choice.cost) == pytest.approx(results[place])
    dear = max(r[2] for r in results)
    cheap = choose_threshold(outcomes, "budget", budget_money=dear / 2, bootstrap=0)
    within = [r for r in results if r[2] <= dear / 2 * (1 + 1e-12)]
    assert cheap.met == bool(within)
    if within:
        assert (cheap.accuracy, cheap.coverage) == pytest.approx(max(r[:2] for r in within))


def test_a_path_of_one_s_own_and_plain_values():
    table = [
        {
            "confidence.first": c,
            "small.first": "a",
            "confidence.second": 1 - c,
            "small.second": "b",
            "large": g,
            "gold": g,
        }
        for c, g in [(0.9, "a"), (0.6, "a"), (0.2, "b")]
    ]
    outcomes = outcomes_of(table)
    choice = choose_threshold(outcomes, path=[{"second": 0.7, "first": 0.5}])
    assert choice.thresholds == {"first": 0.5, "second": 0.7}
    assert list(choice.thresholds) == NAMES
    assert (choice.coverage, choice.accuracy) == (1.0, 1.0)
    values = choose_threshold(outcomes, path=[dict.fromkeys(NAMES, math.inf)]).to_dict()
    assert values["threshold"] is None
    assert values["thresholds"] == {"first": None, "second": None}
    single = Outcomes.from_records([{"confidence": 0.5, "small_ok": True, "large_ok": True}])
    assert choose_threshold(single, path=[{"small": 0.4}]).threshold == 0.4


def test_a_row_that_one_model_fails_on_goes_to_the_large_one():
    table = [
        {
            "confidence.first": None,
            "small.first": None,
            "confidence.second": 0.9,
            "small.second": "a",
            "large": "b",
            "gold": "a",
        }
    ]
    outcomes = Outcomes.from_records(table * 2)
    assert coverage_path(outcomes) == []
    with pytest.raises(ValueError, match="empty"):
        choose_threshold(outcomes)


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ([], "empty"),
        ([{"first": 0.5}], "step 1"),
        ([{"first": 0.5, "second": 0.5, "third": 0.5}], "step 1"),
        ([{"first": 0.5, "second": math.nan}], "NaN"),
        ([{"first": 0.5, "second": 0.5}, {"first": 0.4, "second": 0.6}], "step 2"),
        ([0.5], "step 1"),
    ],
)
def test_a_path_that_does_not_fit_is_refused(path, match):
    with pytest.raises(ValueError, match=match):
        check_path(path, NAMES)


def test_bad_arguments_are_refused():
    outcomes = Outcomes.from_records([{"confidence.a": 0.5, "small.a": "x", "large": "x"}])
    with pytest.raises(ValueError, match="steps"):
        coverage_path(outcomes, steps=0)
    with pytest.raises(ValueError, match="several small models"):
        sweep(outcomes)
    with pytest.raises(ValueError, match="nothing can be compared"):
        path_sweep(outcomes, [{"a": 0.4}])
