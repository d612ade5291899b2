"""What rows that teach let expect: against many tests on rows that are drawn then."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_dsplus.shunt.plan import Evidence, Judged, forecast
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
def test_the_chance_that_is_told_is_near_the_share_that_passes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, told, passed = 400, [], []
    limit = critical_value(n, MAX_LOSS, ALPHA)
    for _ in range(150):
        share, chance = draw(rng, 250).best(n, MAX_LOSS, ALPHA, 1.0)
        told.append(chance)
        test = draw(rng, n)
        kept = test.confidence >= np.quantile(test.confidence, 1.0 - share) if share else np.zeros(n, dtype=bool)
        passed.append(tango_score(int(test.harm[kept].sum()), int(test.gain[kept].sum()), n, MAX_LOSS) <= limit)
    assert abs(np.mean(told) - np.mean(passed)) < 0.15


def test_labels_and_rows_buy_coverage_and_less_error_probability_costs_some() -> None:
    found = draw(np.random.default_rng(0), 600)

    def expected(n: int, alpha: float, labelled: float) -> float:
        return float(np.prod(found.best(n, MAX_LOSS, alpha, labelled)))

    assert expected(400, ALPHA, 1.0) > expected(400, ALPHA, 0.0)
    assert expected(800, ALPHA, 1.0) >= expected(400, ALPHA, 1.0) >= expected(400, ALPHA / 50, 1.0)
    assert found.best(50, MAX_LOSS, ALPHA, 1.0) == (0.0, 0.0), "fifty rows show nothing"
    assert Evidence.of([]).best(500, MAX_LOSS, ALPHA, 1.0) == (0.0, 0.0)


def test_only_disagreements_without_a_label_are_open_and_the_surest_come_into_question() -> None:
    found = draw(np.random.default_rng(1), 300, labelled=0.5)
    open_ = found.open(0.7)
    assert open_
    assert all(row.small != row.large and row.gold is None for row in open_)
    assert min(row.confidence for row in open_) >= np.quantile(found.confidence, 0.3) - 1e-12
    assert not found.open(0.0)


def test_a_forecast_is_plain_and_says_what_labels_are_worth() -> None:
    found = forecast(draw(np.random.default_rng(2), 300, labelled=0.0), 300, MAX_LOSS, ALPHA, 0.0)
    assert all(isinstance(value, (int, float)) for value in found.to_dict().values())
    assert found.labels >= found.expected
    assert found.disagreements > 0
