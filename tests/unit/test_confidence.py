import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.confidence import SCORES, entropy, margin, max_probability, resolve_score

distributions = (
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)
    .filter(lambda xs: sum(xs) > 1e-9)
    .map(lambda xs: {str(place): x / sum(xs) for place, x in enumerate(xs)})
)


@pytest.mark.parametrize(
    ("probabilities", "largest", "gap", "negative_entropy"),
    [
        ({"a": 1.0}, 1.0, 1.0, 0.0),
        ({"a": 1.0, "b": 0.0}, 1.0, 1.0, 0.0),
        ({"a": 0.5, "b": 0.5}, 0.5, 0.0, -math.log(2)),
        ({"a": 0.25, "b": 0.5, "c": 0.25}, 0.5, 0.25, -1.5 * math.log(2)),
    ],
)
def test_known_values(probabilities, largest, gap, negative_entropy):
    assert max_probability(probabilities) == largest
    assert margin(probabilities) == gap
    assert entropy(probabilities) == pytest.approx(negative_entropy)


@given(distributions)
def test_bounds(probabilities):
    classes = len(probabilities)
    assert 1 / classes - 1e-9 <= max_probability(probabilities) <= 1 + 1e-9
    assert 0.0 <= margin(probabilities) <= 1 + 1e-9
    assert -math.log(classes) - 1e-9 <= entropy(probabilities) <= 1e-9


@given(distributions)
def test_the_order_of_the_labels_does_not_matter(probabilities):
    turned = dict(reversed(probabilities.items()))
    for name, score in SCORES.items():
        assert score(turned) == pytest.approx(score(probabilities), abs=1e-12), name


@given(st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_with_two_classes_every_score_puts_inputs_in_the_same_order(p, q):
    rows = [{"a": x, "b": 1 - x} for x in sorted((p, q))]
    for score in SCORES.values():
        assert score(rows[0]) <= score(rows[1]) + 1e-12


def test_certainty_is_plain_zero_entropy():
    assert math.copysign(1.0, entropy({"a": 1.0, "b": 0.0})) == 1.0


def test_resolve():
    assert resolve_score("margin") is margin
    assert resolve_score(max) is max
    with pytest.raises(ValueError, match=r"entropy.+margin.+max_probability.+not .sure."):
        resolve_score("sure")
