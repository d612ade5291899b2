"""Conformal candidates: the arithmetic, the promise by simulation, what falls back to all labels, files."""

from __future__ import annotations

import json
import math
from enum import Enum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.prompts.conformal import Band, ConformalCandidates, contradicts
from langchain_dsplus.threshold.certificate import Certificate

LABELS = ["cat", "dog", "owl", "ant", "bee", "elk"]


def row(p, confidence=0.5, gold="cat", **more):
    """A row whose true class got probability p."""
    rest = (1.0 - p) / (len(LABELS) - 1)
    probabilities = {label: p if label == gold else rest for label in LABELS}
    return {"probabilities": probabilities, "confidence": confidence, "gold": gold, **more}


def spread(n, confidence=0.5):
    """n rows whose true class got 1 / n, 2 / n, ..., 1."""
    return [row((i + 1) / n, confidence) for i in range(n)]


# --- arithmetic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [(19, 0.05, 1), (18, 0.05, 0), (59, 0.05, 3), (58, 0.05, 2), (99, 0.1, 10), (9, 0.1, 1), (8, 0.1, 0), (6, 0.3, 2)],
)
def test_the_finite_sample_quantile(n, alpha, rank):
    """The ceil((n + 1)(1 - alpha))-th smallest 1 - p; all labels where there is none."""
    (band,) = ConformalCandidates.fit(spread(n), alpha, bands=1).bands
    assert band.n == n
    assert band.least == (rank / n if rank else 0.0)
    assert band.quantile == 1.0 - band.least
    assert rank == 0 or n + 1 - rank == math.ceil(round((n + 1) * (1 - alpha), 9))


def test_bands_hold_their_upper_end():
    conformal = ConformalCandidates.fit(spread(50, 0.3) + spread(100, 0.7), bands=[0.3, 0.7])
    assert [(b.low, b.high, b.n) for b in conformal.bands] == [
        (-math.inf, 0.3, 50),
        (0.3, 0.7, 100),
        (0.7, math.inf, 0),
    ]
    assert [b.least for b in conformal.bands] == [2 / 50, 5 / 100, 0.0]
    assert [b.share for b in conformal.bands] == [1 / 3, 2 / 3, 0.0]
    assert conformal.bands[2].mean_size == len(LABELS)
    numbers = {"cat": 0.96, "dog": 0.04}
    assert conformal.predict_set(numbers, 0.3) == ["cat", "dog"]
    assert conformal.predict_set(numbers, math.nextafter(0.3, 1.0)) == ["cat"]
    assert conformal.predict_set(numbers, 0.71) == LABELS


def test_default_bands_have_equally_many_rows_and_leave_out_what_defines_them():
    rng = np.random.default_rng(0)
    rows = [row(float(p), float(c)) for p, c in zip(rng.random(1000), rng.random(1000), strict=True)]
    conformal = ConformalCandidates.fit(rows)
    assert len(conformal.bands) == 10
    assert [b.n for b in conformal.bands] == [99] * 9 + [100]
    assert [round(b.share, 3) for b in conformal.bands] == [0.1] * 10
    edges = [b.high for b in conformal.bands[:-1]]
    assert set(edges) < {r["confidence"] for r in rows}
    assert len(ConformalCandidates.fit(rows[:250]).bands) == 2
    assert len(ConformalCandidates.fit(rows[:99]).bands) == 1
    assert len(ConformalCandidates.fit(rows, bands=4).bands) == 4
    assert conformal.mean_size == pytest.approx(
        np.average([b.mean_size for b in conformal.bands], weights=[b.n for b in conformal.bands])
    )


def test_bands_do_not_depend_on_gold():
    rng = np.random.default_rng(1)
    rows = [row(float(p), float(c)) for p, c in zip(rng.random(400), rng.random(400), strict=True)]
    other = [r | {"gold": LABELS[i % 3]} for i, r in enumerate(rows)]
    ends = [[b.high for b in ConformalCandidates.fit(t, bands=5).bands] for t in (rows, other)]
    assert ends[0] == ends[1]


def test_a_threshold_becomes_an_edge():
    rng = np.random.default_rng(2)
    rows = [row(float(p), float(c)) for p, c in zip(rng.random(2000), rng.random(2000), strict=True)]
    conformal = ConformalCandidates.fit(rows, threshold=0.33)
    ends = [b.high for b in conformal.bands]
    assert 0.33 in ends
    assert len(ends) == 10
    assert all(b.n >= 150 for b in conformal.bands)
    several = ConformalCandidates.fit(rows, threshold=[0.2, math.inf, 0.6], bands=4)
    assert {0.2, 0.6} < {b.high for b in several.bands}
    explicit = ConformalCandidates.fit(rows, threshold=0.33, bands=[0.5])
    assert [b.high for b in explicit.bands] == [0.33, 0.5, math.inf]
    certificate = object.__new__(Certificate)
    for name, value in {"threshold": 0.33, "thresholds": {"two": 0.33}}.items():
        object.__setattr__(certificate, name, value)
    assert ConformalCandidates.fit(rows, threshold=certificate) == conformal
    object.__setattr__(certificate, "threshold", None)
    with pytest.raises(ValueError, match="`model`"):  # of which small model?
        ConformalCandidates.fit(rows, threshold=certificate)
    assert ConformalCandidates.fit(rows, threshold=None) == ConformalCandidates.fit(rows, threshold=math.inf)


def test_equal_confidences_share_a_band():
    rows = spread(200, 0.5) + spread(200, 0.9)
    conformal = ConformalCandidates.fit(rows, bands=8)
    assert [b.high for b in conformal.bands] == [0.5, math.inf]
    assert [b.n for b in conformal.bands] == [199, 200]
    assert len(ConformalCandidates.fit(spread(400, 0.5), bands=8).bands) == 1


def test_rows_that_cannot_be_used_are_left_out():
    rows = [
        *spread(19),
        row(0.01, gold="dog") | {"gold": None},
        row(0.01) | {"confidence": None},
        row(0.01) | {"probabilities": None},
        row(0.01) | {"probabilities": {}},
    ]
    (band,) = ConformalCandidates.fit(rows).bands
    assert (band.n, band.least) == (19, 1 / 19)


def test_a_label_without_a_probability_has_none():
    rows = [{"probabilities": {"cat": 1.0}, "confidence": 0.5, "gold": "dog"}] * 50
    conformal = ConformalCandidates.fit(rows, labels=LABELS)
    assert conformal.bands[0].least == 0.0
    assert conformal.predict_set({"cat": 1.0}, 0.5) == LABELS
    assert conformal.promised(math.inf) == 0.95


def test_a_true_class_that_is_no_label_is_a_miss():
    few = [*spread(98), row(0.5) | {"gold": "yak"}]
    (band,) = ConformalCandidates.fit(few, labels=LABELS).bands
    assert (band.n, band.outside, band.promised) == (99, 1, True)
    assert band.least == 4 / 98  # the fifth smallest, of which the yak is the first
    many = spread(90) + [row(0.5) | {"gold": "yak"}] * 9
    conformal = ConformalCandidates.fit(many, labels=LABELS)
    assert (conformal.bands[0].least, conformal.bands[0].promised) == (0.0, False)
    assert conformal.promised(math.inf) == 0.0
    assert [c.covered for c in conformal.coverage(many)] == [90]
    hardly = ConformalCandidates.fit([row(0.5), row(0.5) | {"gold": "yak"}], labels=LABELS)
    assert not hardly.bands[0].promised


def test_what_is_promised_inside_a_band():
    conformal = ConformalCandidates.fit(
        [r for c in (0.2, 0.4, 0.6, 0.8) for r in spread(100, c)], bands=[0.3, 0.5, 0.7]
    )
    assert conformal.promised(0.3) == pytest.approx(0.95)
    assert conformal.promised(0.7) == pytest.approx(0.95)
    assert conformal.promised(math.inf) == pytest.approx(0.95)
    assert conformal.promised(0.4) == pytest.approx(1 - 0.05 * 2 / 1)
    assert conformal.promised(0.6) == pytest.approx(1 - 0.05 * 3 / 2)
    assert conformal.promised(0.1) == 0.0
    assert conformal.promised(-math.inf) == 0.0


# --- the promise ----------------------------------------------------------------------------------------------------

# c is uniform on (0, 1), and P(p(true class) < t | c) = t ** (0.2 + c): the true class fares worse at low confidence.


def draw(rng, n):
    c = rng.random(n)
    p = rng.random(n) ** (1.0 / (0.2 + c))
    return [
        {"probabilities": {"a": a, "b": 1.0 - a}, "confidence": b, "gold": "a"}
        for a, b in zip(p.tolist(), c.tolist(), strict=True)
    ]


def missed(least, low, high):
    """P(p(true class) < least | low < c <= high), exactly."""
    low, high = max(low, 0.0), min(high, 1.0)
    if least <= 0.0:
        return 0.0
    if least >= 1.0:
        return 1.0
    log = math.log(least)
    return least**0.2 * (least**high - least**low) / log / (high - low)


def misses(runs, n, alpha, seed, **kwargs):
    """For each run the exact share missed in each band, and the width of the band."""
    rng = np.random.default_rng(seed)
    shares, widths = [], []
    for _ in range(runs):
        conformal = ConformalCandidates.fit(draw(rng, n), alpha, **kwargs)
        shares.append([missed(b.least, b.low, b.high) for b in conformal.bands])
        widths.append([min(b.high, 1.0) - max(b.low, 0.0) for b in conformal.bands])
    return np.array(shares), np.array(widths)


@pytest.mark.no_cover
@pytest.mark.parametrize("kwargs", [{"bands": [0.3, 0.6]}, {"bands": 3}, {"bands": 2, "threshold": 0.5}])
def test_every_band_covers_what_it_promises(kwargs):
    """2,000 calibrations: the mean miss is at most alpha in each band, within Monte Carlo error, and not far below."""
    alpha, n = 0.1, 120
    shares, _ = misses(2000, n, alpha, 7, **kwargs)
    mean, error = shares.mean(axis=0), shares.std(axis=0) / math.sqrt(len(shares))
    assert (mean <= alpha + 3 * error).all(), mean
    assert (mean >= alpha - 1 / (n / 3 * 0.7) - 3 * error).all(), mean


@pytest.mark.no_cover
def test_quantile_bands_are_exact():
    """Two bands of 40 rows less the one that defines the edge, and one of 40: rank / (n + 1) is missed, no more."""
    shares, _ = misses(2500, 120, 0.1, 12, bands=3)
    mean, error = shares.mean(axis=0), shares.std(axis=0) / math.sqrt(len(shares))
    assert (abs(mean - [4 / 40, 4 / 40, 4 / 41]) <= 3 * error).all(), mean


@pytest.mark.no_cover
def test_an_edge_is_a_good_threshold_and_one_quantile_for_all_is_not():
    """Among the escalated, at every edge: bands keep alpha, one marginal quantile misses far more."""
    alpha = 0.1
    shares, widths = misses(1500, 120, alpha, 8, bands=[0.3, 0.6])
    for last in (1, 2, 3):
        among = (shares[:, :last] * widths[:, :last]).sum(axis=1) / widths[:, :last].sum(axis=1)
        assert among.mean() <= alpha + 3 * among.std() / math.sqrt(len(among))
    rng = np.random.default_rng(9)
    plain = [ConformalCandidates.fit(draw(rng, 120), alpha, bands=1).bands[0].least for _ in range(300)]
    assert np.mean([missed(t, 0.0, 1.0) for t in plain]) < 0.105
    assert np.mean([missed(t, 0.0, 0.3) for t in plain]) > 0.14


def test_inside_a_band_the_weaker_promise_holds():
    alpha = 0.1
    rng = np.random.default_rng(10)
    gaps, short = [], []
    for _ in range(300):
        conformal = ConformalCandidates.fit(draw(rng, 400), alpha, bands=[0.3])
        first, second = (b.least for b in conformal.bands)
        among = (0.3 * missed(first, 0.0, 0.3) + 0.2 * missed(second, 0.3, 0.5)) / 0.5
        gaps.append(among - (1.0 - conformal.promised(0.5)))
        short.append(among - alpha)
    assert np.mean(gaps) < 0.0
    assert np.mean(short) > 0.005  # so there is a reason not to promise 1 - alpha


@pytest.mark.parametrize("outside", [0.0, 0.04])
def test_ties_and_unknown_classes_do_not_break_it(outside):
    """Five levels of confidence, few levels of probability, some true classes that are no label."""
    alpha, runs, n = 0.1, 800, 150
    rng = np.random.default_rng(11)
    hits = np.zeros((2, 2))
    for _ in range(runs):

        def some(size):
            c = rng.integers(1, 6, size) / 5
            p = np.round(rng.random(size) ** (1.0 / (0.2 + c)), 1)
            gold = np.where(rng.random(size) < outside, "z", "a")
            return [
                {"probabilities": {"a": a, "b": 1.0 - a}, "confidence": b, "gold": g}
                for a, b, g in zip(p.tolist(), c.tolist(), gold.tolist(), strict=True)
            ]

        conformal = ConformalCandidates.fit(some(n), alpha, bands=2, labels=["a", "b"])
        for counted in conformal.coverage(some(40)):
            hits[int(counted.low > 0)] += (counted.n, counted.covered)
    for n_seen, covered in hits:
        share = covered / n_seen
        assert share >= 1 - alpha - 3 * math.sqrt(alpha * (1 - alpha) / n_seen) * 1.5, share


# --- what is offered ------------------------------------------------------------------------------------------------


def fitted(about=None, **kwargs):
    """Below 0.7 labels with .3 stay, above those with .9; from 0.95 on there were too few rows."""
    rows = [row(0.3, 0.5)] * 40 + [row(0.9, 0.9)] * 40 + [row(0.9, 0.97)] * 5
    return ConformalCandidates.fit(
        Outcomes.from_records([r | {"small": "cat", "large": "cat"} for r in rows], about=about),
        bands=[0.7, 0.95],
        **kwargs,
    )


def answer(probabilities, confidence, choice="cat"):
    return {"choice": choice, "probabilities": probabilities, "confidence": confidence}


def test_the_set_is_offered():
    offered = fitted().offer(answer({"cat": 0.35, "owl": 0.33, "dog": 0.32}, 0.5))
    assert offered == (["cat", "dog", "owl"], ["cat", "dog", "owl"], None)
    assert fitted().candidates({"cat": 0.6, "elk": 0.4}, 0.5) == ["cat", "elk"]


@pytest.mark.parametrize(
    ("probabilities", "confidence", "why"),
    [
        ({"cat": 0.29, "dog": 0.29, "owl": 0.21, "elk": 0.21}, 0.5, "empty"),
        ({"cat": 0.97, "dog": 0.03}, 0.96, "too few rows"),
        ({"cat": 0.5, "dog": 0.5}, None, "missing"),
        ({"cat": 0.5, "dog": 0.5}, math.nan, "missing"),
    ],
)
def test_all_labels_are_offered_where_the_set_says_nothing(probabilities, confidence, why):
    offered = fitted().offer(probabilities, confidence)
    assert offered.labels == LABELS
    assert offered.conformal_set == []
    assert why in offered.why_all
    assert fitted().candidates(probabilities, confidence) == LABELS


def test_a_set_that_is_too_big():
    value = answer({"cat": 0.34, "owl": 0.33, "dog": 0.33}, 0.5)
    offered = fitted().offer(value, max_share=0.4)
    assert offered.labels == LABELS
    assert offered.conformal_set == ["cat", "dog", "owl"]
    assert "too big" in offered.why_all
    assert fitted().candidates(value, max_share=0.5) == ["cat", "dog", "owl"]


def test_one_label_gets_company():
    offered = fitted().offer(answer({"dog": 0.92, "bee": 0.05, "cat": 0.03}, 0.9, "dog"))
    assert offered == (["dog", "bee"], ["dog"], None)


def test_exclusion():
    value = answer({"cat": 0.35, "owl": 0.33, "dog": 0.32}, 0.5)
    assert fitted().offer(value, exclude=["owl", "bee"]) == (["cat", "dog"], ["cat", "dog", "owl"], None)
    assert fitted().offer(value, exclude=["cat"]).labels == ["cat", "dog", "owl"]
    assert fitted().offer(value, exclude=["owl", "dog"]).labels == ["cat", "dog", "owl"]


def test_the_score_is_checked_where_it_can_be():
    conformal = fitted({"score": "margin", "labels": LABELS, "small": "abc", "prompt": "x"})
    assert {k: v for k, v in conformal.about.items() if k != "data"} == {
        "score": "margin", "labels": LABELS, "small": "abc", "rows": 85,
    }  # fmt: skip
    assert len(conformal.about["data"]) == 64
    numbers = {"cat": 0.6, "dog": 0.4}
    assert conformal.predict_set(numbers) == conformal.predict_set(numbers, 0.2) == ["cat", "dog"]
    assert conformal.predict_set(answer(numbers, 0.2)) == ["cat", "dog"]
    with pytest.raises(ValueError, match="margin"):
        conformal.predict_set(answer(numbers, 0.6))
    assert "margin" in conformal.offer(answer(numbers, 0.6)).why_all
    with pytest.raises(ValueError, match="missing"):
        fitted().predict_set(numbers)


def test_other_labels_are_refused():
    for value in ({"wolf-4711": 1.0}, {}):
        with pytest.raises(ValueError, match="label") as caught:
            fitted().offer(value, 0.5)
        assert "4711" not in str(caught.value)


def test_several_small_models():
    rows = [
        {"id": str(i), "small.one": "cat", "confidence.one": 0.1, "small.two": "cat", "confidence.two": 0.5, "large": "cat",
         "probabilities.two": r["probabilities"], "gold": "cat"}
        for i, r in enumerate(spread(40))
    ]  # fmt: skip
    conformal = ConformalCandidates.fit(Outcomes.from_records(rows), model="two")
    assert conformal.bands[0].least == 2 / 40
    assert conformal.about["model"] == "two"
    assert [c.covered for c in conformal.coverage(rows)] == [39]


def test_coverage_by_band_and_threshold():
    conformal = fitted()
    report = conformal.coverage([row(0.4, 0.5), row(0.2, 0.5), row(0.95, 0.9), row(0.4, 0.5) | {"gold": None}])
    assert [(c.n, c.covered) for c in report] == [(2, 1), (1, 1), (0, 0)]
    assert report[0].coverage == 0.5
    assert report[1].mean_size == 1.0
    assert math.isnan(report[2].coverage)
    assert math.isnan(report[2].mean_size)
    below = conformal.coverage([row(0.4, 0.5), row(0.95, 0.9)], threshold=0.5)
    assert [c.n for c in below] == [1, 0, 0]


@given(
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    st.floats(-1, 2),
    st.lists(st.sampled_from(LABELS), unique=True),
    st.floats(0.01, 1),
)
def test_what_is_offered_holds_together(numbers, confidence, exclude, max_share):
    conformal = fitted()
    probabilities = dict(zip(LABELS, numbers, strict=True))
    found = conformal.predict_set(probabilities, confidence)
    plain = conformal.offer(probabilities, confidence, max_share=max_share)
    offered = conformal.offer(probabilities, confidence, max_share=max_share, exclude=exclude)
    assert [label for label in LABELS if label in offered.labels] == offered.labels
    assert len(offered.labels) >= 2
    assert set(plain.labels) >= set(found)
    assert max(numbers) in [probabilities[label] for label in offered.labels]
    if offered.why_all is None:
        assert len(offered.labels) <= max_share * len(LABELS)
        assert set(offered.labels) <= set(plain.labels) or plain.why_all is None
    else:
        assert offered.labels == LABELS


# --- files and errors -----------------------------------------------------------------------------------------------


def test_files(tmp_path):
    rows = [r | {"probabilities": {k: np.float32(v) for k, v in r["probabilities"].items()}} for r in spread(60)]
    for conformal in (fitted({"score": "max_probability"}), ConformalCandidates.fit(rows)):
        text = conformal.to_json()
        json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert ConformalCandidates.from_json(text) == conformal
        conformal.save(tmp_path / "c.json")
        assert ConformalCandidates.load(tmp_path / "c.json") == conformal


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0},
        {"alpha": None},
        {"labels": ["a"]},
        {"labels": ["a", "a"]},
        {"bands": []},
        {"bands": [{"low": None}]},
        {"bands": None},
        {"about": None},
    ],
)
def test_files_are_checked(change):
    with pytest.raises(ValueError, match=r"alpha|labels|bands|conformal"):
        ConformalCandidates.from_dict(fitted().to_dict() | change)


def test_bands_are_checked():
    band = Band(-math.inf, math.inf, 20, 1.0, 0.5, 2.0)
    ConformalCandidates(0.05, ("a", "b"), (band,))
    for bands in (
        (Band(-math.inf, 0.5, 20, 1.0, 0.5, 2.0),),
        (Band(-math.inf, 0.5, 20, 0.5, 0.5, 2.0), Band(0.6, math.inf, 20, 0.5, 0.5, 2.0)),
        (Band(-math.inf, math.inf, 20, 1.0, math.nan, 2.0),),
        (Band(-math.inf, math.inf, -1, 1.0, 0.5, 2.0),),
    ):
        with pytest.raises(ValueError, match="bands"):
            ConformalCandidates(0.05, ("a", "b"), bands)
    with pytest.raises(ValueError, match="JSON"):
        ConformalCandidates.from_json("[1]")


@pytest.mark.parametrize(
    ("rows", "kwargs", "match"),
    [
        (spread(5), {"alpha": 0.0}, "alpha"),
        (spread(5), {"alpha": 1.0}, "alpha"),
        (spread(5), {"bands": 0}, "bands"),
        (spread(5), {"bands": True}, "bands"),
        (spread(5), {"bands": [0.5, 0.5]}, "bands"),
        (spread(5), {"bands": [math.inf]}, "bands"),
        (spread(5), {"threshold": math.nan}, "threshold"),
        (spread(5), {"threshold": True}, "threshold"),
        (spread(5), {"labels": ["cat", "dog"]}, "row 1"),
        (spread(5), {"model": "two"}, "confidence.two"),
        ([row(0.5) | {"gold": None}], {}, "nothing to calibrate"),
        ([], {}, "columns"),
        ([row(0.5, math.inf)], {}, "finite"),
        ([row(0.5, "much")], {}, "numbers"),
        ([{"probabilities": {"a": 1.0}, "confidence": 1.0, "gold": "a"}], {}, "two labels"),
    ],
)
def test_errors_of_fit(rows, kwargs, match):
    with pytest.raises(ValueError, match=match):
        ConformalCandidates.fit(rows, **kwargs)


def test_rows_that_are_no_rows():
    with pytest.raises(TypeError, match="row 1"):
        ConformalCandidates.fit([("cat", 0.5)])


# --- conflicts ------------------------------------------------------------------------------------------------------


class Animal(Enum):
    CAT = "cat"
    OWL = "owl"


def test_contradicts():
    for output, expected in (
        ("owl", True), ("cat", False), ("It is a cat.", False), ("no idea", None), (None, None), (3, None),
        ({"choice": "owl", "probabilities": {}, "confidence": 0.0}, True), ({"animal": Animal.CAT}, False),
        ({"a": "cat", "b": "owl"}, None), (["owl"], None),
    ):  # fmt: skip
        assert contradicts(output, ["cat", "dog"], LABELS) is expected
