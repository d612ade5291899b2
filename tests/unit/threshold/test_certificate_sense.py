"""A certificate file that no `certify` could have written is refused, whatever was changed in it."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.answer import CertificateError
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify

ABOUT = {"score": "max_probability", "labels": ["a", "b"]}


@cache
def made(kind: str = "certified") -> dict[str, Any]:
    """What `certify` writes, certified or refused, with groups and slices."""
    rows = [
        {
            "id": str(i),
            "small": "a" if i % 40 else "b",
            "confidence": (i % 997) / 997 if i % 40 else 0.01,
            "large": "ab"[i % 2] if kind == "refused" else "a",
            "gold": "ab"[i % 2] if i % 3 or kind == "refused" else "a",
            "slices": {"language": "de" if i % 2 else "en"},
        }
        for i in range(3000)
    ]
    slices = ["language"] if kind == "sliced" else []
    max_loss = "0.3 points" if kind == "refused" else "3 points"
    return certify(Outcomes.from_records(rows, about=ABOUT), max_loss, slices=slices).to_dict()


@pytest.mark.parametrize("kind", ["certified", "refused", "sliced"])
def test_what_certify_writes_is_read(kind):
    body = made(kind)
    assert Certificate.from_json(json.dumps(body)).to_dict() == body
    assert (body["status"] == "CERTIFIED") == (kind != "refused")


NONSENSE: dict[str, Any] = {
    "p_value": [0.2, 1.5, -0.1, None, True, "0.01"],
    "alpha": [0.0, 0.06, 0.5, -0.05, 2],
    "level": [0.2, 1.0, 95],
    "max_loss": [0.0, 1.0, 5, -0.01],
    "harms": [-1, 2999, 3001, 1.5, True, 10**400],
    "gains": [-1, 3001],
    "n": [0, 1, -5, 2.5],
    "coverage": [-0.1, 1.1, 0.0, 0.5],
    "certification": [0, 5, -1],
    "unlabeled": [2999],
    "unusable": [3001, -1],
    "unanswered": [3001],
    "unusable_large": ["right"],
    "groups": [0, 3001],
    "loss": [0.5, -2.0],
    "loss_upper": [2.0, "0"],
    "error_cost": [-1.0],
    "threshold": [0.123, None, 10**400],
    "thresholds": [{}, {"small": None}, {"small": 0.1}, {"other": 0.1}],
    "status": ["NOT_CERTIFIED", "PERHAPS"],
    "verdict": ["LARGE ALONE: no", 3],
    "steps": [[{}], 5],
    "help": ["x"],
    "unusable_pruned": [3001, -1],
    "about": [
        {**ABOUT, "labels": "ab"},
        {**ABOUT, "labels": ["a", "b", "a"]},
        {**ABOUT, "labels": [["a"], ["b"]]},
        {**ABOUT, "labels": {"small": "ab"}},
        {**ABOUT, "labels": 2},
    ],
    "never_local": [["zebra"], ["a", "zebra"], "a", [1]],
    "by_class": [
        [{"class": "a"}],
        [{"class": 1, "n": 5, "harms": 0, "gains": 0, "loss": 0.0}],
        [{"class": "a", "n": 5, "harms": 4, "gains": 2, "loss": 0.4}],
    ],
    "by_slice": [[{"class": "a", "n": 5, "harms": 0, "gains": 0, "loss": 0.0}]],
    "losing_classes": [[{"class": "a", "n": -5, "harms": 0, "gains": 0, "loss": 0.0}], [{}]],
    "findings": [[{"kind": "repeats"}], [{"kind": "repeats", "severity": "name", "sentence": 5}], ["repeats"]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values])
def test_one_field_that_makes_no_sense(name, value):
    with pytest.raises(CertificateError, match=r"."):
        Certificate.from_dict({**copy.deepcopy(made()), name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p_value", 0.9),
        ("p_value", 2),
        ("harms", 5000),
        ("coverage", 2),
        ("passed", 1),
        ("accepted", -1),
        ("thresholds", {"small": 5.0}),
        ("thresholds", {"x": 0.5}),
        ("cost", "1"),
        ("disagreements", -2),
    ],
)
def test_one_field_of_a_step(name, value):
    body = copy.deepcopy(made())
    body["steps"][2][name] = value
    with pytest.raises(CertificateError, match=r"."):
        Certificate.from_dict(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_change_of_a_number_certifies_more_than_was_tested(data):
    """Whatever one number becomes: an error, or a certificate whose own figures still carry it."""
    body = copy.deepcopy(made())
    name = data.draw(st.sampled_from([key for key, value in body.items() if isinstance(value, int | float)]))
    body[name] = data.draw(st.floats(allow_nan=True) | st.integers(-(10**320), 10**320) | st.none() | st.booleans())
    try:
        found = Certificate.from_dict(body)
    except CertificateError:
        return
    assert found.p_value <= found.alpha * 1.000001
    assert found.harms + found.gains <= found.n
    assert found.harms - found.gains < found.max_loss * found.n
    assert 0 < found.alpha <= (1 - found.level) * 1.000001


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 400])
@pytest.mark.parametrize("name", ["p_value", "threshold", "harms", "n", "loss_upper", "error_cost"])
def test_numbers_that_are_none(name, number):
    text = json.dumps({**made(), name: "HERE"}).replace('"HERE"', number)
    with pytest.raises(CertificateError):
        Certificate.from_json(text)


def test_nested_too_deeply():
    for inside in ("[" * 100_000, "[" * 500 + "]" * 500):
        text = json.dumps({**made(), "about": "HERE"}).replace('"HERE"', '{"a": ' + inside + "}")
        with pytest.raises(CertificateError):
            Certificate.from_json(text)


def test_a_range_that_is_upside_down():
    body = copy.deepcopy(made())
    for low, high in (("low", "high"), ("loss_low", "loss_high")):
        turned = copy.deepcopy(body)
        turned["baselines"][1] |= {low: 0.5, high: 0.25}
        with pytest.raises(CertificateError, match=f"`{low}` of a baseline is above"):
            Certificate.from_dict(turned)


@pytest.mark.parametrize("before", ["", "\n", "\ufeff", "\ufeff\r\n "])
def test_what_an_editor_puts_in_front_is_no_part_of_it(tmp_path, before):
    text = before + json.dumps(made())
    assert Certificate.from_json(text).to_dict() == made()
    path = tmp_path / "certificate.json"
    path.write_text(text, encoding="utf-8")
    assert Certificate.from_json(path).to_dict() == made()
