"""`plan_sample_size`, checked by drawing samples of the planned size."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_dsplus.threshold.exact import critical_value, tango_score
from langchain_dsplus.threshold.planning import plan_sample_size


def test_known_plans() -> None:
    assert plan_sample_size(0.005).n == 598
    assert plan_sample_size(0.01).n == 299
    assert int(plan_sample_size(0.005, harm_rate=0.02, gain_rate=0.02)) == pytest.approx(9_900, rel=0.01)
    assert int(plan_sample_size(0.005, harm_rate=0.019, gain_rate=0.021)) == pytest.approx(5_000, rel=0.02)
    assert int(plan_sample_size(0.01, harm_rate=0.02, gain_rate=0.02)) == pytest.approx(2_500, rel=0.02)


@pytest.mark.parametrize(
    ("max_loss", "harm", "gain", "power"),
    [
        (0.01, 0.02, 0.02, 0.8),
        (0.02, 0.03, 0.02, 0.9),
        (0.01, 0.0, 0.0, 0.8),
        (0.02, 0.002, 0.0, 0.8),
        (0.05, 0.1, 0.12, 0.6),
    ],
)
def test_the_power_is_what_was_asked_for(max_loss: float, harm: float, gain: float, power: float) -> None:
    n = int(plan_sample_size(max_loss, harm_rate=harm, gain_rate=gain, power=power))
    draws = np.random.default_rng(5).multinomial(n, [harm, gain, 1 - harm - gain], size=4000)
    passed = (tango_score(draws[:, 0], draws[:, 1], n, max_loss) <= critical_value(n, max_loss, 0.05)).mean()
    assert passed >= power - 0.06
    assert passed <= max(power + 0.12, 1.0 if harm == 0 else 0)


def test_a_loss_that_is_too_large_has_no_plan() -> None:
    plan = plan_sample_size(0.005, harm_rate=0.03, gain_rate=0.02)
    assert plan.n is None
    assert "no number of rows" in plan.note
    with pytest.raises(ValueError, match="no number"):
        int(plan)


@pytest.mark.parametrize(
    "bad", [{"max_loss": 0}, {"level": 1.0}, {"power": 0.0}, {"harm_rate": -1}, {"harm_rate": 0.6, "gain_rate": 0.6}]
)
def test_bad_arguments_are_named(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        plan_sample_size(**bad)
