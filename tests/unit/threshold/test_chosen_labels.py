"""Curves and choices on tables whose rows were chosen for labelling, against those of all rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.choose import choose_threshold
from langchain_dsplus.threshold.curves import cost_quality_curve, risk_coverage_curve
from langchain_dsplus.threshold.deferral import apgr, cost_at_parity, cpt

NAMES = np.array(["a", "b", "c", "d"])


def table_of(n=1500, seed=0, models=("",)):
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, 4, n)
    sure = np.round(draw.random(n), 3)
    columns = {"id": [f"r{k}" for k in range(n)]}
    hard = draw.random(n) < 0.05
    for name in models:
        small = np.where(~hard & (draw.random(n) < 0.5 + 0.5 * np.sqrt(sure)), gold, (gold + 1) % 4)
        columns |= {f"small{name}": NAMES[small].tolist(), f"confidence{name}": sure.tolist()}
    large = np.where(~hard & (draw.random(n) < 0.95), gold, (gold + 1) % 4)
    columns |= {"large": NAMES[large].tolist(), "cost_large": [1.0] * n}
    table = Outcomes(columns, about={"labels": NAMES.tolist()})
    return table, dict(zip(columns["id"], NAMES[gold].tolist(), strict=True))


def labelled(table, truth, **options):
    rows = [{**line, "gold": truth[line["id"]]} for line in table.to_label(**options)]
    return table.with_gold(rows)


@pytest.mark.parametrize("agreements", [0, 0.1])
@pytest.mark.parametrize("models", [("",), (".x", ".y")])
def test_a_threshold_is_chosen_as_with_all_gold(agreements, models):
    table, truth = table_of(models=models)
    whole, part = table.with_gold(truth), labelled(table, truth, agreements=agreements)
    for objective in ("match_large", "max_accuracy"):
        want, found = (choose_threshold(t, objective, bootstrap=200) for t in (whole, part))
        assert found.thresholds == want.thresholds
        assert (found.coverage, found.n, found.left_out) == (want.coverage, want.n, want.left_out)
        assert found.gain == pytest.approx(want.gain)
        assert found.low <= want.accuracy <= found.high
        if agreements:
            assert found.accuracy == pytest.approx(want.accuracy, abs=0.06)
        else:
            assert math.isnan(found.accuracy)
            assert found.to_dict()["accuracy"] is None
            assert "more labels" in found.note
            with pytest.raises(ValueError, match="more labels of rows on which the models agree"):
                choose_threshold(part, "target_accuracy", target=0.9)


@pytest.mark.parametrize("agreements", [0, 0.1])
def test_what_compares_answers_needs_no_agreed_row(agreements):
    table, truth = table_of()
    whole, part = table.with_gold(truth), labelled(table, truth, agreements=agreements)
    assert float(apgr(part)) == pytest.approx(float(apgr(whole)))
    assert float(cpt(part, 0.5)) == pytest.approx(float(cpt(whole, 0.5)))
    want, found = cost_at_parity(whole), cost_at_parity(part)
    assert (found.threshold, found.escalation_rate, found.cost) == (want.threshold, want.escalation_rate, want.cost)
    assert found.n == 1500
    assert np.isnan(found.accuracy) == (not agreements)


@pytest.mark.parametrize("curve", [cost_quality_curve, risk_coverage_curve])
def test_a_curve_says_what_all_gold_would_or_nothing(curve):
    table, truth = table_of()
    name = "accuracy" if curve is cost_quality_curve else "risk"
    want = curve(table.with_gold(truth))
    assert want.estimates is None
    found = curve(labelled(table, truth, agreements=0.2))
    assert found.n == 1500
    assert np.array_equal(found.coverage, want.coverage)
    shown = ~np.isnan(getattr(found, name))
    assert shown.mean() > 0.5
    inside = (found.estimates.low <= getattr(want, name) + 1e-9) & (found.estimates.high >= getattr(want, name) - 1e-9)
    assert inside[shown].mean() > 0.9
    bare = curve(labelled(table, truth, agreements=0))
    assert np.isnan(getattr(bare, name)).mean() > 0.9
    assert (bare.estimates.low <= getattr(want, name) + 1e-9).all()
    assert (bare.estimates.high >= getattr(want, name) - 1e-9).all()


def test_with_a_part_of_the_disagreements_as_large_a_part_of_the_others_counts():
    table, truth = table_of(4000)
    whole = table.with_gold(truth)
    gaps, shares = [], []
    for seed in range(10):
        part = labelled(table, truth, agreements=0.1, max_rows=400, seed=seed)
        curve = cost_quality_curve(part)
        assert 0 < curve.left_out < 4000
        drawn = choose_threshold(part, "max_accuracy", bootstrap=0)
        differ = (~part.agree("small", "large")).mean()
        known = (~np.isnan(part.correct("small")) & ~part.agree("small", "large")).sum()
        assert known / drawn.n == pytest.approx(differ, abs=0.01), "as frequent as among all rows"
        gaps.append(curve.large_accuracy - curve.small_accuracy)
        shares.append(float(apgr(part)))
    want = cost_quality_curve(whole)
    assert np.mean(gaps) == pytest.approx(want.large_accuracy - want.small_accuracy, abs=0.01)
    assert np.mean(shares) == pytest.approx(float(apgr(whole)), abs=0.04)


def test_without_any_disagreement_there_is_no_ground_for_a_choice():
    table, truth = table_of()
    same = table.agree("small", "large")
    part = table.with_gold({name: truth[name] for name, yes in zip(truth, same, strict=True) if yes})
    for door in (choose_threshold, apgr, cost_quality_curve, cost_at_parity):
        with pytest.raises(ValueError, match="rows on which the models disagree none of a kind has a label"):
            door(part)


def test_gold_at_random_is_a_sample_as_it_stands():
    table, truth = table_of()
    known = np.random.default_rng(0).random(1500) < 0.5
    part = table.with_gold({name: truth[name] for name, yes in zip(truth, known, strict=True) if yes})
    alone = table.with_gold(truth).select(known)
    assert np.array_equal(cost_quality_curve(part).accuracy, cost_quality_curve(alone).accuracy)
    assert risk_coverage_curve(part).aurc == risk_coverage_curve(alone).aurc
    assert choose_threshold(part) == choose_threshold(alone).__class__(
        **{**choose_threshold(alone).__dict__, "left_out": int((~known).sum()), "note": choose_threshold(part).note}
    )
