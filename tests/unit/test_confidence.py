import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.confidence import (
    OWN_SCORES,
    SCORES,
    energy,
    entropy,
    margin,
    max_probability,
    prediction_entropy,
    resolve_score,
)
from langchain_dsplus.labels import NoLabelMassError, mean_token_probability
from langchain_dsplus.labels.tokens import token_quantile

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


# --- scores that need more than probabilities ------------------------------------------------------------------------


@given(st.lists(st.floats(-800, 800), min_size=1, max_size=8), st.floats(0.05, 20))
def test_energy_is_scipys_logsumexp(logits, temperature):
    special = pytest.importorskip("scipy.special")
    theirs = temperature * special.logsumexp([z / temperature for z in logits])
    assert energy(logits, temperature=temperature) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_energy_tells_what_probabilities_cannot():
    sure, lost = [4.0, 0.0], [-6.0, -10.0]
    assert energy(sure) > energy(lost)
    assert energy([math.log(p) for p in (0.7, 0.3)]) == pytest.approx(0.0)
    assert energy([-math.inf, 2.0]) == 2.0
    assert energy([-math.inf]) == -math.inf
    for bad in (lambda: energy([]), lambda: energy([1.0], temperature=0.0)):
        with pytest.raises(ValueError, match="temperature"):
            bad()


def tokens(*probabilities):
    listed = [{"token": "x", "logprob": math.log(p) if p else -math.inf} for p in probabilities]
    return [*listed, {"token": "<|im_end|>", "logprob": -9.0}]


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=12), st.floats(0, 1))
def test_token_quantiles_are_numpys(probabilities, quantile):
    np = pytest.importorskip("numpy")
    ours = token_quantile(tokens(*probabilities), quantile)
    assert ours == pytest.approx(float(np.quantile(probabilities, quantile)), rel=1e-9)


def test_the_least_sure_token_does_not_vanish_in_a_long_reply():
    short, long = tokens(0.3, 0.9), tokens(0.3, *[0.99] * 40)
    assert token_quantile(short) == token_quantile(long) == pytest.approx(0.3)
    assert mean_token_probability(long) > mean_token_probability(short) + 0.3
    assert token_quantile([*tokens(0.5), {"token": "y"}, "odd"]) == pytest.approx(0.5)
    with pytest.raises(NoLabelMassError):
        token_quantile([{"token": "</s>", "logprob": 0.0}])
    with pytest.raises(ValueError, match="quantile"):
        token_quantile(short, 1.5)


def test_a_score_of_the_model_s_own_is_no_score_of_a_router():
    for name, kinds in OWN_SCORES.items():
        with pytest.raises(ValueError, match=f"needs more than probabilities.+{kinds}"):
            resolve_score(name)


def test_prediction_entropy_is_bounded_by_the_log_of_the_candidates() -> None:
    """Eq. 4: with M candidates at most log M, reached where all are equally likely."""
    for m in (2, 5, 77):
        assert prediction_entropy(dict.fromkeys(map(str, range(m)), 1 / m)) == pytest.approx(math.log(m))
    assert prediction_entropy({"a": 1.0, "b": 0.0}) == 0.0
    assert prediction_entropy({"a": 0.9, "b": 0.1}) == -entropy({"a": 0.9, "b": 0.1})
