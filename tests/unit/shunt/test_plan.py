"""What rows that teach let expect: against many tests on rows that are drawn then."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_dsplus.shunt.plan import Bit, Evidence, Judged, forecast
from langchain_dsplus.threshold.exact import critical_value, tango_score

MAX_LOSS, ALPHA = 0.03, 0.025


def draw(rng: np.random.Generator, m: int, *, labelled: float = 1.0, slope: float = 0.3) -> Evidence:
    """Rows whose harms grow with the share that stays local, as many gains as half of them."""
    rows = []
    for place in range(m):
        u = float(rng.random())
        harm = rng.random() < slope * u**3
        gain = not harm and rng.random() < slope / 2 * u**3
        gold = "a" if rng.random() < labelled else None
        small, large = ("b", "a") if harm else ("a", "b") if gain else ("a", "a")
        rows.append(Judged(str(place), 1.0 - u, small, large, gold))
    return Evidence.of(rows)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.no_cover
def test_the_chance_that_is_told_is_near_the_share_that_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, told, passed = 400, [], []
    limit = critical_value(n, MAX_LOSS, ALPHA)
    for _ in range(150):
        share, chance = draw(rng, 250).best(n, MAX_LOSS, ALPHA, 1.0)
        told.append(chance)
        test = draw(rng, n)
        kept = test.place < share
        passed.append(tango_score(int(test.harm[kept].sum()), int(test.gain[kept].sum()), n, MAX_LOSS) <= limit)
    assert abs(np.mean(told) - np.mean(passed)) < 0.15


def test_labels_and_rows_buy_coverage_and_less_error_probability_costs_some() -> None:
    found = draw(np.random.default_rng(0), 600)

    def expected(n: int, alpha: float, labelled: float) -> float:
        return float((np.arange(1, 51) * found.chances(n, MAX_LOSS, alpha, labelled)).max() / 50.0)

    assert expected(400, ALPHA, 1.0) > expected(400, ALPHA, 0.0)
    assert expected(800, ALPHA, 1.0) >= expected(400, ALPHA, 1.0) >= expected(400, ALPHA / 50, 1.0)
    assert found.best(50, MAX_LOSS, ALPHA, 1.0) == (0.0, 0.0), "fifty rows show nothing"
    assert Evidence.of([]).best(500, MAX_LOSS, ALPHA, 1.0) == (0.0, 0.0)


def test_what_tests_have_shown_counts_and_steps_behind_the_first_are_small() -> None:
    found = draw(np.random.default_rng(3), 200)
    plain = found.chances(400, MAX_LOSS, ALPHA, 1.0)
    share = (int(np.flatnonzero(plain > 0.5)[-1]) + 1) / 50.0
    for passed in (True, False):
        after = found.chances(400, MAX_LOSS, ALPHA, 1.0, [Bit(share, 400, ALPHA, passed)])
        here = round(share * 50) - 1
        assert after[here] == float(passed)
        assert (after[here + 1] > plain[here + 1]) == passed
    held = 0.2
    coverage, _ = found.best(400, MAX_LOSS, ALPHA, 1.0, held, [Bit(held, 400, ALPHA, True)])
    assert held < coverage <= 0.25


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_escalated_do_not_stand_for_those_that_stay_local(seed: int) -> None:
    """Only the unsure half is asked, beside a few by chance: the rates come out as where all are asked."""
    rng = np.random.default_rng(seed)
    whole = draw(rng, 4000)
    asked = [
        row._replace(fair=bool(fair))
        for row, fair in zip(whole.rows, rng.random(4000) < 0.2, strict=True)
        if fair or row.confidence < 0.5 or rng.random() < 0.1
    ]
    found = Evidence.of(asked, 0.5)
    assert found.weight.sum() == pytest.approx(1.0)
    assert all(row.fair for row, place in zip(found.rows, found.place, strict=True) if place < 0.5)
    for share in (0.5, 1.0):
        told = (found.weight * found.harm)[found.place < share].sum()
        assert told == pytest.approx(whole.harm[whole.place < share].sum() / 4000, abs=0.02)


def test_only_disagreements_without_a_label_are_open_and_the_surest_come_into_question() -> None:
    found = draw(np.random.default_rng(1), 300, labelled=0.5)
    open_ = found.open(0.7)
    assert open_
    assert all(row.small != row.large and row.gold is None for row in open_)
    confidence = [row.confidence for row in found.rows]
    assert min(row.confidence for row in open_) >= np.quantile(confidence, 0.3) - 0.01
    assert not found.open(0.0)


def test_a_forecast_is_plain_and_says_what_labels_are_worth() -> None:
    found = forecast(draw(np.random.default_rng(2), 300, labelled=0.0), 300, MAX_LOSS, ALPHA, 0.0)
    assert all(isinstance(value, (int, float)) for value in found.to_dict().values())
    assert found.labels >= found.expected
    assert found.disagreements > 0
