"""`Certificate`: JSON and back, what is refused, what it says."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from langchain_dsplus import Outcomes
from langchain_dsplus.answer import CertificateError
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify


def table(n: int) -> Outcomes:
    rows = [{"small": "a", "confidence": i / n, "large": "a", "slices": {"lang": "en"}} for i in range(n)]
    return Outcomes.from_records(rows, about={"score": "margin", "labels": ["a", "b"]})


@pytest.fixture(scope="module")
def good() -> Certificate:
    return certify(table(700), slices=["lang"])


@pytest.fixture(scope="module")
def refusal() -> Certificate:
    return certify(table(100))


@pytest.mark.parametrize("name", ["good", "refusal"])
def test_json_and_back(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    certificate: Certificate = request.getfixturevalue(name)
    text = certificate.to_json(tmp_path / "certificate.json")
    assert json.loads(text, parse_constant=lambda _: pytest.fail("not strict JSON"))["format"] == 1
    assert Certificate.from_json(text) == certificate
    assert Certificate.from_json(tmp_path / "certificate.json") == certificate
    assert Certificate.from_json(str(tmp_path / "certificate.json")).id == certificate.id


def test_infinity_is_null_in_json(refusal: Certificate) -> None:
    assert refusal.threshold == math.inf
    assert json.loads(refusal.to_json())["threshold"] is None


def test_words(good: Certificate, refusal: Certificate) -> None:
    assert "0.5 percentage points" in good.text.splitlines()[0]
    assert good.unverifiable == ("small", "large", "prompt")
    assert "lang=en" in good.text
    assert refusal.text.startswith("NOT_CERTIFIED")
    assert "1 percentage point " in dataclasses.replace(good, max_loss=0.01).text
    assert "used 2 times" in dataclasses.replace(good, certification=2).text


def test_bind_says_more_and_changes_nothing(good: Certificate) -> None:
    bound = good.bind(large="v1", prompt="v1", small="v1")
    assert bound.unverifiable == ()
    assert bound.bind(large="v1") == bound
    with pytest.raises(CertificateError, match="large"):
        bound.bind(large="v2")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 2}, "format"),
        ({"status": "FINE"}, "status"),
        ({"threshold": None}, "threshold"),
        ({"threshold": 0.1}, "differ"),
        ({"threshold": "0.1"}, "threshold"),
        ({"thresholds": {}}, "thresholds"),
        ({"p_value": 2}, "p_value"),
        ({"coverage": "all"}, "coverage"),
        ({"harms": -1}, "harms"),
        ({"n": True}, "`n`"),
        ({"unit": "row"}, "unit"),
        ({"about": []}, "about"),
        ({"baselines": [{}]}, "not a certificate"),
        ({"extra": 1}, "extra"),
        ({"status": "NOT_CERTIFIED"}, "threshold"),
    ],
)
def test_what_is_no_certificate_is_refused(good: Certificate, change: dict[str, Any], named: str) -> None:
    with pytest.raises(CertificateError, match=named):
        Certificate.from_dict({**good.to_dict(), **change})


def test_missing_fields_are_named(good: Certificate) -> None:
    body = good.to_dict()
    del body["p_value"]
    with pytest.raises(CertificateError, match="p_value"):
        Certificate.from_dict(body)
    with pytest.raises(CertificateError, match="not JSON"):
        Certificate.from_json("{")
