"""The edits keep what they say they keep, and the figures count what happened; calibration and overfitting likewise."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import adversarial, calibration, overfitting
from benchmarks.adversarial import KINDS, Task, audits, measure, threshold_of
from benchmarks.distil import Rows
from benchmarks.harness import Context

words = st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=12)


@given(words=words, seed=st.integers(0, 10**6))
def test_edits(words, seed):
    text, rng = " ".join(words), random.Random(seed)
    swapped = adversarial.swap(text, rng, "x")
    assert Counter(swapped.split()) == Counter(words)
    wrong = adversarial.typos(text, rng, "x").split()
    assert len(wrong) == len(words)
    assert sum(a != b for a, b in zip(wrong, words, strict=True)) <= 3
    assert all(a == b for a, b in zip(wrong, words, strict=True) if len(b) <= 3)
    padded = adversarial.padding(text, rng, "x")
    for sentence in adversarial.COURTESY:
        padded = padded.replace(sentence, "")
    assert padded.strip() == text
    pasted = adversarial.pasted(text, rng, "card_arrival")
    assert pasted.startswith(text)
    assert pasted.endswith("card arrival")
    for _, edit in KINDS.values():
        assert edit(text, random.Random(seed), "y") == edit(text, random.Random(seed), "y")


class Words:
    """Says "b" with .9 where a word b stands, else "a" with .9; with .6 where a text is long."""

    labels = ["a", "b"]

    def predict_proba(self, texts):
        rows = []
        for text in texts:
            p = 0.6 if len(text.split()) > 6 else 0.9
            rows.append([1 - p, p] if "b" in text.split() else [p, 1 - p])
        return np.array(rows)


def test_what_is_counted(monkeypatch):
    """Pasting flips all and stays sure; courtesy makes it unsure; the rest changes nothing."""
    monkeypatch.setattr(adversarial, "NEVER", {"words": ()})
    rows = Rows(["x y a"] * 30 + ["x y b"] * 10, ["a"] * 30 + ["b"] * 10, ["a"] * 40)
    # One long row that is wrong: so the threshold lies between the two confidences.
    choose = Rows([*rows.texts, "x x x x x x x"], [*rows.gold, "b"], [*rows.large, "b"])
    task = Task("words", ["a", "b"], rows, choose, rows)
    context = Context("adversarial")
    monkeypatch.setattr(adversarial, "threshold_of", lambda *_: 0.7)
    figures = measure(context, task, Words(), lambda texts: [-2.0 if "(" in text else 0.0 for text in texts], 40)
    assert (figures["n"], figures["local"], figures["right"], figures["refused"]) == (40, 100, 100, 0)
    assert figures["swap.worst"] == figures["typos.worst"] == figures["padding.worst"] == 0
    # "a (b" holds no word b, and what was b holds it still: only the thirty can flip.
    assert 0 < figures["pasted.one"] <= figures["pasted.worst"] <= 75
    assert (
        figures["pasted.remains"] == figures["pasted.gate"] <= figures["pasted.never_local"] == figures["pasted.worst"]
    )
    monkeypatch.setattr(adversarial, "NEVER", {"words": ("b",)})
    guarded = measure(context, task, Words(), None, 40)
    assert guarded["pasted.worst"] > guarded["pasted.never_local"] == 0
    assert guarded["n"] == 30
    assert "pasted.gate" not in guarded


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_lowest_that_is_right_enough(seed):
    rng = np.random.default_rng(seed)
    top = rng.uniform(0.5, 1, 300)
    gold = ["a" if rng.random() < p else "b" for p in top]
    cut = threshold_of(np.stack([top, 1 - top], axis=1), gold, ["a", "b"])
    right = np.array([label == "a" for label in gold])
    assert right[top > cut].mean() >= 0.95
    assert all(right[top > other].mean() < 0.95 for other in top if other < cut)
    assert threshold_of(np.stack([top, 1 - top], axis=1), ["b"] * 300, ["a", "b"]) == np.inf


def test_more_disagreement_rings_sooner():
    found = [audits(rate, 0.05, np.random.default_rng(0)) for rate in (0.05, 0.1, 0.3)]
    assert found[0] == adversarial.MOST > found[1] > found[2]


def test_a_model_that_knows_when_it_is_outside():
    """Sure inside, unsure outside: every figure follows."""

    class Sure:
        labels = ["a", "b"]

        def predict_proba(self, texts):
            return np.array([[0.99, 0.01] if text == "in" else [0.6, 0.4] for text in texts])

    inside = Rows(["in"] * 10, ["a"] * 10, ["a"] * 10)
    outside = Rows(["out"] * 10, ["oos"] * 10, ["oos"] * 10)
    choose = Rows(["in"] * 10 + ["out"] * 10, ["a"] * 10 + ["b"] * 10, [])
    found = calibration.measure({"train": inside, "choose": choose, "inside": inside, "oos": outside}, Sure(), None)
    assert (found["inside.local"], found["oos.local"], found["oos.outside"]) == (100, 0, 1)
    assert found["inside.ece"] == pytest.approx(0.01)
    assert found["oos.ece"] == pytest.approx(0.6)
    assert "inside.auroc" not in found  # nothing is wrong there


@pytest.mark.parametrize("module", [adversarial, calibration, overfitting])
def test_tables_of_nothing(module):
    for table in module.tables({}):
        assert all(len(row) == len(table.columns) for row in table.rows)
