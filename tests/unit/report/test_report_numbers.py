"""The numbers of the report against the slow, obvious way: follow every row at every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.sampling import LabelSample
from langchain_dsplus.report import numbers
from langchain_dsplus.threshold.curves import cost_quality_curve, risk_coverage_curve
from langchain_dsplus.threshold.differences import differences
from langchain_dsplus.threshold.path import coverage_path

LABELS = ["a", "b", "c"]
ANSWER = st.sampled_from([*LABELS, None])
SCORE = st.sampled_from([0.1, 0.25, 0.5, 0.5000001, 0.75, 0.9, None])


def tables(models):
    """Small tables full of what goes wrong: ties, failures, missing gold, answers outside the labels."""
    fields = {
        "large": st.sampled_from([*LABELS, None, "refused"]),
        "large_pruned": st.sampled_from([*LABELS, None]),
        "gold": ANSWER,
        "cost_large": st.sampled_from([0.5, 1.0, None]),
        "cost_large_pruned": st.sampled_from([0.25, 0.5]),
        "group": st.sampled_from(["g", "h", "i", None]),
        "slices": st.fixed_dictionaries({"language": st.sampled_from(["de", "en"])}),
    }
    for name in models:
        fields |= {f"small{name}": ANSWER, f"confidence{name}": SCORE, f"cost_small{name}": st.just(0.01)}
    return st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=12).map(
        lambda rows: Outcomes.from_records(
            [{key: row[key] for key in fields} for row in rows], about={"labels": LABELS}
        )
    )


def place(rows, step):
    return dict(zip(rows.names, step.tolist(), strict=True))


def sampled(outcomes, right, inside):
    return LabelSample.of(outcomes, right).within(inside)


def same(one, other):
    assert (one.value is None) == (other.value is None)
    assert [one.low, one.high] == pytest.approx([other.low, other.high])
    assert one.value is None or one.value == pytest.approx(other.value)
    assert (one.needed, one.labels, one.census) == (other.needed, other.labels, other.census)


def check(outcomes, prompt, never_local):
    rows = numbers.read_rows(outcomes, prompt=prompt, never_local=never_local)
    grid = numbers.threshold_grid(outcomes, rows)
    count = numbers.tally(outcomes, rows, grid, prompt=prompt)
    truth = differences(outcomes, prompt=prompt, never_local=never_local)
    classes, slices = numbers.class_members(outcomes), numbers.slice_members(outcomes)
    tallies = {name: numbers.parts(rows, grid, members) for name, members in (("c", classes), ("s", slices))}
    lost = numbers.lost_rows(rows, grid)
    errors = numbers.local_errors(rows, grid)
    plain, asked = truth.large, truth.asked
    assert np.isinf(grid[0]).all()
    assert (grid[1:] <= grid[:-1]).all()
    for step, thresholds in enumerate(grid):
        loss, accepted, unlabeled = truth.at(place(rows, thresholds))
        assert count.accepted[step] == accepted.sum()
        assert count.harms[step] == (loss > 0).sum()
        assert count.gains[step] == (loss < 0).sum()
        assert count.guessed[step] == unlabeled.sum()
        who, failed = truth.who(place(rows, thresholds))
        right = np.where(failed, plain, asked)
        for model, name in enumerate(rows.names):
            mine = outcomes.correct(numbers.model_column(outcomes, name))
            right = np.where(who == model, mine, right)
        assert count.right[step] == right[rows.known].sum()
        local = right[accepted & ~np.isnan(right)]
        if errors.rates is not None:  # some lack gold
            same(errors.rates.at(step), sampled(outcomes, right, accepted).rate(1 - right[accepted]))
        elif len(local):
            assert errors.value[step] == pytest.approx(1 - local.mean())
        else:
            assert math.isnan(errors.value[step])
        if count.levels is not None:
            mine = np.where(rows.known, right, np.nan)
            same(count.levels.at(step), sampled(outcomes, mine, rows.compared).rate(mine[rows.compared]))
        if count.cost is not None:
            costs = np.asarray(outcomes["cost_large" if prompt == "plain" else "cost_large_pruned"])
            plain_costs = np.asarray(outcomes["cost_large"])
            costs, plain_costs = (np.where(np.isnan(c), np.nanmean(c), c) for c in (costs, plain_costs))
            paid = np.where(accepted, 0.0, np.where(rows.failed & (prompt == "pruned"), plain_costs, costs))
            if not never_local:  # a barred row that a later model fails on is asked the pruned prompt all the same
                reached = np.ones(len(rows), dtype=bool)
                asked_small = 0
                for model, score in enumerate(rows.confidence):
                    asked_small += reached.sum()
                    reached &= np.isfinite(score) & ~(score > thresholds[model])
                expected = 1000 / len(rows) * (paid.sum() + 0.01 * asked_small)
                assert count.cost[step] == pytest.approx(expected)
        shown = sorted(item.row for item in lost if item.first <= step < item.end)
        assert shown == np.flatnonzero(loss > 0).tolist()
        for found, members in ((tallies["c"], classes), (tallies["s"], slices)):
            for part in found:
                inside = members[part.name]
                now = [part.begin[k] + int(part.change[k, : step + 1].sum()) for k in range(4)]
                known = inside[rows.known[inside]]
                wanted = [
                    accepted[inside].sum(),
                    (loss[inside] > 0).sum(),
                    (loss[inside] < 0).sum(),
                    right[known].sum(),
                ]
                assert now == wanted
                assert (part.n, part.known) == (len(inside), len(known))
                assert part.large == plain[known].sum()


@settings(max_examples=40, deadline=None)
@given(tables([""]), st.sampled_from(["plain", "pruned"]), st.sampled_from([(), ("b",)]))
def test_every_step_counts_what_the_router_would_do(outcomes, prompt, never_local):
    check(outcomes, prompt, never_local)


@settings(max_examples=40, deadline=None)
@given(tables([".x", ".y", ".z"]), st.sampled_from(["plain", "pruned"]), st.sampled_from([(), ("b",)]))
def test_several_small_models_are_asked_in_turn(outcomes, prompt, never_local):
    assert numbers.read_rows(outcomes).names == ["x", "y", "z"]
    check(outcomes, prompt, never_local)


def simple(n=400, seed=0, **more):
    draw = np.random.default_rng(seed)
    sure = draw.random(n)
    gold = draw.integers(0, 3, n)
    small = np.where(draw.random(n) < 0.4 + 0.6 * sure, gold, (gold + 1) % 3)
    large = np.where(draw.random(n) < 0.85, gold, (gold + 2) % 3)
    columns = {
        "id": [f"i{row}" for row in range(n)],
        "small": [LABELS[x] for x in small],
        "confidence": sure.tolist(),
        "large": [LABELS[x] for x in large],
        "gold": [LABELS[x] for x in gold],
    }
    return Outcomes({**columns, **more}, about={"labels": LABELS})


def test_the_curve_is_the_cost_quality_curve():
    outcomes = simple()
    rows = numbers.read_rows(outcomes)
    grid = numbers.threshold_grid(outcomes, rows)
    count, curve = numbers.tally(outcomes, rows, grid), cost_quality_curve(outcomes)
    assert grid[:, 0].tolist() == curve.thresholds.tolist()
    np.testing.assert_allclose(count.accuracy, curve.accuracy)
    np.testing.assert_allclose(count.coverage, curve.coverage)
    risk = risk_coverage_curve(outcomes)
    np.testing.assert_allclose(numbers.local_errors(rows, grid).value[1:], risk.risk)


def test_the_grid_is_thinned_evenly_and_keeps_what_is_wanted():
    outcomes = simple(5000)
    rows = numbers.read_rows(outcomes)
    wanted = [[0.123456], [0.9]]
    grid = numbers.threshold_grid(outcomes, rows, wanted)
    assert len(grid) <= numbers.MAX_THRESHOLDS + len(wanted)
    assert {0.123456, 0.9} <= set(grid[:, 0].tolist())
    count = numbers.tally(outcomes, rows, grid)
    assert (count.accepted[0], count.accepted[-1]) == (0, 5000)
    steps = np.diff(count.accepted)
    assert steps.max() <= 5000 / numbers.MAX_THRESHOLDS + 2
    # A wanted threshold stands alone: no other stop accepts the same rows.
    at = grid[:, 0].tolist().index(0.9)
    assert (count.accepted == count.accepted[at]).sum() == 1


def test_several_models_stop_at_the_path():
    draw = np.random.default_rng(1)
    columns = {"large": ["a"] * 60, "gold": ["a"] * 60}
    for name in ("x", "y"):
        columns |= {f"small.{name}": ["a"] * 60, f"confidence.{name}": draw.random(60).tolist()}
    outcomes = Outcomes(columns)
    rows = numbers.read_rows(outcomes)
    path = [[step["x"], step["y"]] for step in coverage_path(outcomes, 100)]
    assert numbers.threshold_grid(outcomes, rows)[1:].tolist() == path
    assert numbers.threshold_grid(outcomes, rows, path[:3])[1:].tolist() == path[:3]


def test_intervals_hold_the_estimate_and_have_width_at_the_ends():
    rows = [{"small": "a", "confidence": i / 300, "large": "a", "gold": "a"} for i in range(300)]
    outcomes = Outcomes.from_records(rows)
    read = numbers.read_rows(outcomes)
    count = numbers.tally(outcomes, read, numbers.threshold_grid(outcomes, read))
    low, high, loss_low, loss_high = numbers.intervals(read, count)
    assert (high == 1.0).all()
    assert (low < 0.99).all()
    assert (loss_low < -0.01).all()
    assert (loss_high > 0.01).all()


def test_copies_in_a_group_count_once():
    outcomes = simple(300)
    k = 5
    records = [
        {**row, "id": f"{row['id']}-{copy}", "group": row["id"]} for row in outcomes.to_records() for copy in range(k)
    ]
    copied = Outcomes.from_records(records, about=outcomes.about)
    ends = []
    for table in (outcomes, copied):
        rows = numbers.read_rows(table)
        count = numbers.tally(table, rows, np.array([[math.inf], [0.5], [0.0]]))
        effects = numbers.design_effects(rows, count.thresholds)
        ends.append((effects, numbers.intervals(rows, count)))
    (alone, one), (together, many) = ends
    assert (np.concatenate(alone) == 1.0).all()
    np.testing.assert_allclose(together[0], k, rtol=0.02)
    np.testing.assert_allclose(together[1][1:], k, rtol=0.02)  # at infinity nothing differs: there is no variance
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a[1:], b[1:], atol=0.006)


@settings(max_examples=40, deadline=None)
@given(tables([""]), st.sampled_from([(), ("b",)]))
def test_the_oracle_is_the_best_of_all_choices(outcomes, never_local):
    rows = numbers.read_rows(outcomes, never_local=never_local)
    if not rows.known.any():
        return
    share, best = numbers.oracle(rows)
    may = (np.isfinite(rows.confidence[0]) & ~rows.barred[0])[rows.known]
    small, large = np.where(may, rows.right[0][rows.known], 0), rows.right[1][rows.known]
    n = len(large)
    for calls in range(int((~may).sum()), n + 1):
        gains = sorted((large - small)[may].tolist(), reverse=True)[: calls - int((~may).sum())]
        wanted = (small[may].sum() + large[~may].sum() + sum(gains)) / n
        got = np.interp(calls / n, share, best)
        assert got == pytest.approx(wanted)


def test_reliability_takes_probabilities_where_the_score_is_none():
    outcomes = simple()
    rows = numbers.read_rows(outcomes)
    found = numbers.reliability(outcomes, rows)
    assert (found.what, sum(item.n for item in found.bins)) == ("confidence", 400)
    outcomes.about["score"] = "margin"
    assert numbers.reliability(outcomes, rows) is None
    probabilities = [
        {answer: 0.5 + c / 2, "other": 0.5 - c / 2}
        for answer, c in zip(outcomes.values("small"), outcomes.values("confidence"), strict=True)
    ]
    more = simple(probabilities=probabilities)
    more.about["score"] = "margin"
    found = numbers.reliability(more, numbers.read_rows(more))
    assert found.what == "largest probability"
    assert min(item.confidence for item in found.bins) > 0.5


def test_free_text_has_no_classes_and_many_classes_are_lumped():
    judged = dict.fromkeys(("small_ok", "large_ok"), [True] * 400)
    texts = simple(gold=[f"text {row}" for row in range(400)], **judged)
    assert numbers.class_members(texts) == {}
    many = simple(gold=[f"c{row % 90:02}" if row else None for row in range(400)], **judged)
    found = numbers.class_members(many, most=10)
    assert len(found) == 12
    assert "(80 other classes)" in found
    assert found["(gold unknown)"].tolist() == [0]
    assert sum(map(len, found.values())) == 400
