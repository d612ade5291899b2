"""Classes under a good average: the ones that collapse are named, and a floor keeps them up."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from langchain_dsplus import Certificate, ConfidenceRouter, FakeSmallModel, Outcomes, certify
from langchain_dsplus.answer import CertificateError
from langchain_dsplus.threshold.classes import Classes, losing_classes
from langchain_dsplus.threshold.differences import differences

LABELS = ["a", "b", "c", "x"]


def _table(n, seed=1, collapse=0.65, share=0.06, gold=True):
    """Class `x` is answered as `a` by the small model in a share of its rows, however sure it is."""
    rng = random.Random(seed)
    rows = []
    for place in range(n):
        true = rng.choices(LABELS, [0.4, 0.3, 0.3 - share, share])[0]
        sure = rng.random()
        large = true if rng.random() < 0.9 else rng.choice("abc")
        small = true if rng.random() < 0.85 + 0.13 * sure else rng.choice("abc")
        if true == "x" and rng.random() < collapse:
            small = "a"
        known = true if gold or small == large else None
        rows.append({"id": str(place), "small": small, "confidence": sure, "large": large, "gold": known})
    return Outcomes.from_records(rows, about={"labels": LABELS, "score": "max_probability"})


@pytest.mark.parametrize("seed", range(5))
def test_a_class_that_collapses_is_named_before_any_praise(seed):
    certificate = certify(_table(2500, seed), "4 points")
    assert certificate.certified
    assert certificate.losing_classes[0]["class"] == "x"
    item = certificate.losing_classes[0]
    assert item["large"] - item["cascade"] == pytest.approx(item["loss"], abs=1e-9)
    for words in (certificate.text, certificate.verdict, str(certificate)):
        assert "'x' falls from" in words
        assert words.index("'x'") < words.index("% of" if "% of" in words else "accuracy")
    assert certificate.decision in {"CASCADE", "SMALL ALONE"}
    assert certificate.text.splitlines()[0].index("'x'") < certificate.text.splitlines()[0].index("4 percentage points")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("agreements", [0.0, 0.05, 0.3])
def test_labels_that_were_chosen_do_not_make_a_fall_steeper(seed, agreements):
    """The shares right of the labelled rows alone are those of disagreements: 80 to 30 % would read as 70 to 5 %."""
    whole = _table(2500, seed, collapse=0.5)
    truth = dict(zip(whole.values("id"), whole.values("gold"), strict=True))
    open_ = Outcomes({name: whole.values(name) for name in whole.columns if name != "gold"}, about=whole.about)
    lines = [{**line, "gold": truth[line["id"]]} for line in open_.to_label(agreements=agreements)]
    certificate = certify(open_.with_gold(lines), "5 points")
    assert certificate.certified
    item = certificate.losing_classes[0]
    assert (item["class"], item["large"], item["cascade"], item["unlabeled"]) == ("x", None, None, 0)
    assert f"'x' loses {100 * item['loss']:.1f} points (n = {item['n']}, {item['harms']} lost" in certificate.text
    assert "falls from" not in certificate.text


def test_without_gold_the_class_is_what_the_large_model_said():
    certificate = certify(_table(2500, 2, gold=False, collapse=0.3, share=0.04), "9 points")
    named = {item["class"]: item for item in certificate.losing_classes}
    assert named["x"]["unlabeled"] > 0
    assert "only for lack of gold" in certificate.verdict


def test_classes_are_not_named_by_chance():
    """No class loses: one is named in 5 % of tables at the most."""
    rng = np.random.default_rng(5)
    named, runs = 0, 600
    for _ in range(runs):
        n, classes = 400, 10
        true = rng.integers(0, classes, n)
        differs = rng.random(n) < 0.3
        large_right = np.where(differs, rng.random(n) < 0.5, True)
        small_right = np.where(differs, ~large_right, True)
        other = (true + 1) % classes
        columns = {
            "small": [str(t if ok else o) for t, o, ok in zip(true, other, small_right, strict=True)],
            "confidence": rng.random(n).tolist(),
            "large": [str(t if ok else o) for t, o, ok in zip(true, other, large_right, strict=True)],
            "gold": [str(t) for t in true],
        }
        table = Outcomes(columns, about={"labels": [str(c) for c in range(classes)]})
        found = differences(table)
        named += bool(losing_classes(table, found, {"small": -1.0}, np.ones(n, dtype=bool), 0.005))
    assert named <= 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)


def test_free_text_has_no_classes():
    rows = [{"small": f"t{i}", "confidence": 0.5, "large": f"t{i}", "gold": f"t{i}"} for i in range(100)]
    assert Classes.of(Outcomes.from_records(rows)).names == ()


# --- the floor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_floor_keeps_every_class_up(seed):
    table = _table(4000, seed)
    certificate = certify(table, "4 points", class_floor="10 points")
    floor = certificate.class_floor
    assert certificate.certified
    assert "x" in floor.covered
    assert "a" in floor.kept
    assert "a" in certificate.never_local
    assert floor.fit_rows + certificate.n == len(table)
    assert floor.coverage_without > certificate.coverage
    for words in ("No class of these loses 10 points or more", "'x'", "Without the floor", "may not answer 'a'"):
        assert words in certificate.text
    assert certificate.decision == "CASCADE"
    # On fresh rows the class holds.
    fresh = _table(20_000, 100 + seed)
    found = differences(fresh, never_local=certificate.never_local)
    loss = found.at(certificate.thresholds)[0]
    mine = np.array([gold == "x" for gold in fresh.values("gold")])
    assert loss[mine].mean() < 0.10


def test_classes_with_few_rows_are_named_as_not_shown():
    certificate = certify(_table(1200, 3, collapse=0.0, share=0.01), "5 points", class_floor="10 points")
    assert certificate.certified
    assert set(certificate.class_floor.not_shown) == {"x"}
    n = certificate.class_floor.not_shown["x"]
    assert n < 29
    assert f"Not shown, n = {n}: 'x'" in certificate.text


def test_where_no_class_has_enough_rows_it_refuses_and_says_so():
    certificate = certify(_table(200), "9 points", class_floor="2 points")
    assert not certificate.certified
    assert "no class has the 149 rows" in certificate.verdict


def test_the_floor_survives_json_and_a_router_takes_it():
    certificate = certify(_table(4000), "4 points", class_floor="10 points")
    assert Certificate.from_json(certificate.to_json()) == certificate
    small = FakeSmallModel({"easy": {"a": 0.99, "b": 0.01, "c": 0.0, "x": 0.0}}, LABELS)
    router = ConfidenceRouter(
        small=small,
        large=lambda _: "b",
        threshold=certificate,
        never_local=certificate.never_local,
        on_mismatch="warn",
        to_output=lambda answer, _: answer["choice"],
    )
    assert router.invoke("easy") == "b"  # the small model may not answer `a`
    broken = certificate.to_dict()
    broken["class_floor"]["floor"] = 7
    with pytest.raises(CertificateError, match="floor"):
        Certificate.from_dict(broken)


@pytest.mark.parametrize("wrong", [0.5, 2, "ten", -0.1])
def test_the_floor_is_a_loss_with_its_unit(wrong):
    with pytest.raises((ValueError, TypeError), match="class_floor"):
        certify(_table(300), "4 points", class_floor=wrong)


# --- alternatives ---------------------------------------------------------------------------------------------------


def test_alternatives_stand_beside_the_default():
    certificate = certify(_table(3000), "4 points", error_cost=20.0)
    lax, accurate, cheapest = certificate.alternatives
    passed = [step for step in certificate.steps if step.passed]
    assert lax.calls == pytest.approx(1.0 - max(step.coverage for step in passed))
    assert accurate.loss == pytest.approx(min((step.harms - step.gains) / certificate.n for step in passed))
    assert cheapest.thresholds == certificate.thresholds
    for one in (lax, accurate, cheapest):
        assert one.loss_low <= one.loss <= one.loss_high
    assert certify(_table(50), "1 point").alternatives == ()


def test_by_default_the_laxest_is_taken():
    certificate = certify(_table(3000), "4 points")
    assert certificate.alternatives[0].thresholds == certificate.thresholds
