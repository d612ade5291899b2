"""What a shunt says of itself names a class that loses before what is live."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from langchain_dsplus.shunt.rows import PaidRow
from langchain_dsplus.shunt.shunt import _Notes
from langchain_dsplus.shunt.status import ShuntStatus, losing_words, unread_words

LABELS = ["a", "b", "x"]


def seen(seed: int, collapse: float, *, gold: bool) -> tuple[SimpleNamespace, SimpleNamespace]:
    """A folder and a store of a shunt whose small model takes class `x` for `a`, however sure it is."""
    draw = random.Random(seed)
    rows, told = [], []
    for place in range(2000):
        true = draw.choices(LABELS, [0.5, 0.44, 0.06])[0]
        small = "a" if true == "x" and draw.random() < collapse else true
        rows.append({"route_id": str(place), "small": small, "confidence": draw.random(), "large": true})
        if gold and small != true:
            told.append({"route_id": str(place), "gold": true})
    terms = SimpleNamespace(labels=LABELS, max_loss=0.05)
    folder = SimpleNamespace(evidence=lambda: rows, terms=lambda: terms, path=Path("shunt"))
    return folder, SimpleNamespace(rows=lambda kind: told)


@pytest.mark.parametrize("gold", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_class_that_collapses_is_named_first(seed: int, *, gold: bool) -> None:
    words = losing_words(*seen(seed, 0.7, gold=gold), [0.2])
    assert words.startswith("not for every class: 'x' loses ")
    assert ("only for lack of gold" in words) != gold
    status = ShuntStatus(
        live=True, version=2, since="2026-01-01", coverage=0.8, promise="less than 5 points below", inputs=10, local=8,
        calls=2, saved=None, currency="", labels=0, worth=None, spent=0.01, certifications="1 certified",
        why_not_more="", waits="", losing=words,
    )  # fmt: skip
    assert str(status).index("'x'") < str(status).index("80% local")


def test_no_class_is_named_without_ground() -> None:
    assert [losing_words(*seen(seed, 0.0, gold=True), [0.2]) for seed in range(5)] == [""] * 5
    folder, store = seen(0, 0.7, gold=True)
    folder.evidence = list
    assert losing_words(folder, store, [0.2]) == ""


def test_labels_that_the_chain_never_says_are_told(caplog: pytest.LogCaptureFixture) -> None:
    said = ["zebra"] * 30
    notes = _Notes(SimpleNamespace(record=lambda row: None), None, ["a", "b"], None, "x")
    for text in said:
        notes.record({"kind": "route", "output": text, "route": {"accepted": False}})
    assert caplog.text.count("name none of `labels` (a, b)") == 1
    assert "zebra" not in caplog.text
    caplog.clear()
    notes = _Notes(SimpleNamespace(record=lambda row: None), None, ["a", "zebra"], None, "x")
    for text in said:
        notes.record({"kind": "route", "output": text, "route": {"accepted": False}})
    assert caplog.text == ""


def test_why_not_more_says_that_the_labels_are_wrong() -> None:
    row = PaidRow("1", "text", "now", "fair", certify=False)
    assert "30 of 30 outputs of the chain name none of `labels` (a, b)" in unread_words(["a", "b"], [row] * 30)
    assert unread_words(["a", "b"], [row] * 9) == ""
    assert unread_words(["a", "b"], [replace(row, label="a")] * 60 + [row] * 30) == ""
    assert unread_words(["a", "b"], [replace(row, way="local")] * 60) == ""
