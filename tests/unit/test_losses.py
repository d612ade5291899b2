import math
import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.losses import parse_loss, points, signed_points, threshold_words

UNITS = ["point", "points", "pp", "%", "percent", "percentage point", "percentage points"]


@given(
    st.decimals("0.0001", "99.9999", places=4),
    st.sampled_from(UNITS),
    st.sampled_from(["", " ", "  "]),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_a_text_with_a_unit_is_points(number, unit, blank, case):
    assert parse_loss(case(f" {number:f}{blank}{unit} ")) == float(number / 100)


@given(st.floats(1e-12, 0.1, exclude_max=True))
def test_a_small_share_needs_no_unit_as_number_or_text(share):
    assert parse_loss(share) == share
    assert parse_loss(f"{share:.30f}") == pytest.approx(share, rel=1e-9)
    assert parse_loss(np.float64(share)) == share
    assert parse_loss(Decimal(share)) == share


@given(st.decimals("0.1", "0.9999", places=4).map(float))
def test_from_a_tenth_on_both_readings_are_shown_and_can_be_used(share):
    with pytest.raises(ValueError, match="two ways") as found:
        parse_loss(share, "max_loss")
    one, other = re.findall(r"'([^']*)'", str(found.value))
    assert parse_loss(one) == pytest.approx(share / 100)
    assert parse_loss(other) == pytest.approx(share)


@pytest.mark.parametrize(
    "value", [0, 0.0, -0.005, "0 points", "100 points", "250 %", math.nan, math.inf, -math.inf, 10**400]
)
def test_no_loss_at_all(value):
    with pytest.raises(ValueError, match="`floor` must be more than 0"):
        parse_loss(value, "floor")


@pytest.mark.parametrize("value", [1, 2.0, "5", 1e6])
def test_a_whole_number_without_a_unit(value):
    with pytest.raises(ValueError, match=r"`max_loss` has no unit.*points"):
        parse_loss(value)


@pytest.mark.parametrize(
    "value",
    ["", "half", "-0.5 points", "0,5 points", "0.5 apples", "nan", "nan points", "1e-3", "inf %", "0.5 points!"],
)
def test_texts_that_are_no_loss(value):
    with pytest.raises(ValueError, match="write a number and its unit") as found:
        parse_loss(value)
    assert not value or value not in str(found.value)


@pytest.mark.parametrize("value", [True, False, None, [0.5], b"0.5 points", np.bool_(True), 1j])
def test_other_types(value):
    with pytest.raises(TypeError, match="must be a text such as"):
        parse_loss(value)


@given(st.floats(-1.0, 1.0), st.integers(0, 4))
def test_no_change_has_a_minus_and_nothing_behind_it(share, digits):
    shown = signed_points(share, digits)
    assert float(shown) == pytest.approx(100 * share, abs=0.6 / 10**digits)
    assert float(shown) != 0 or shown[0] not in "+-"
    assert not re.match(r"-0(\.0*)? ", points(share) + " ")
    assert share <= 1e-12 or share >= 0.999 or parse_loss(points(share)) == pytest.approx(share, rel=1e-3)


@given(st.one_of(st.floats(allow_nan=False), st.floats(0, 1).map(lambda x: math.nextafter(x, -math.inf))))
def test_thresholds_are_short_words(value):
    shown = threshold_words(value)
    assert len(shown) < 25
    assert "e-3" not in shown or abs(value) > 1e-308


def test_thresholds_of_several():
    assert threshold_words({"a": 0.5, "b": math.inf}) == "a: 0.5, b: accept nothing"
    assert threshold_words({"small": math.nextafter(0.5, 0)}) == "just below 0.5"
    assert threshold_words(-0.0) == "0"
