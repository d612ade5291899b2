"""Four verdicts, each with one meaning and the line to run next; numbers in words."""

from __future__ import annotations

import ast
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold import hypotheses
from langchain_dsplus.threshold.certificate import DECISIONS, Certificate
from langchain_dsplus.threshold.certify import certify


def table(n, small, large, *, scores=None):
    """Rows whose gold is `a`; `small` and `large` say by row what the models answer."""
    return Outcomes.from_records(
        [
            {
                "id": str(i),
                "small": small(i),
                "confidence": (i % 100) / 100 if scores is None else scores(i),
                "large": large(i),
                "gold": "a",
            }
            for i in range(n)
        ],
        about={"labels": ["a", "b"]},
    )


CASES = {
    "CASCADE": lambda: table(2000, lambda i: "b" if i % 100 < 20 else "a", lambda _: "a"),
    "LARGE ALONE": lambda: table(3000, lambda i: "b" if i % 3 == 0 else "a", lambda _: "a"),
    "SMALL ALONE": lambda: table(1000, lambda _: "a", lambda i: "b" if i % 20 == 0 else "a"),
    "NOT ENOUGH DATA": lambda: table(100, lambda _: "a", lambda _: "a"),
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_each_has_its_meaning_and_its_line(decision):
    found = certify(CASES[decision]())
    assert found.decision == decision
    assert found.verdict.startswith(f"{decision}: ")
    assert "DO NOT CASCADE" not in found.text
    assert found.text.splitlines()[-1] == f"Next: {found.next_line}"
    ast.parse(found.next_line)
    assert Certificate.from_json(found.to_json()).next_line == found.next_line
    wanted = {"CASCADE": "threshold=certificate", "LARGE ALONE": "large.invoke", "SMALL ALONE": "small.invoke"}
    assert wanted.get(decision, 'mode="shadow"') in found.next_line


def test_a_small_model_that_is_better_needs_no_calls():
    found = certify(CASES["SMALL ALONE"]())
    assert found.coverage == 1.0
    assert "changes accuracy by +5.00 points" in found.verdict


@pytest.mark.parametrize("laxest", [{"one": -1.0, "two": -1.0}, {"one": 0.7, "two": -1.0}, {"one": 0.7, "two": 0.6}])
def test_several_small_models_may_be_enough_by_themselves(laxest):
    rows = [
        {
            "id": str(i),
            "small.one": "a",
            "confidence.one": 0.5 + (i % 50) / 100,
            "small.two": "a",
            "confidence.two": 0.5,
            "large": "b" if i % 20 == 0 else "a",
            "gold": "a",
        }
        for i in range(1000)
    ]
    path = [{"one": 0.9, "two": 0.9}, laxest]
    found = certify(Outcomes.from_records(rows, about={"labels": ["a", "b"]}), path=path)
    calls = next(way for way in found.baselines if way.name == "cascade").escalation_rate
    assert found.certified
    assert found.decision == ("CASCADE" if calls else "SMALL ALONE")
    assert bool(calls) == (laxest["two"] > 0.5)
    assert "small=[one, two]" in found.next_line


def test_lines_differ_between_the_four_and_name_what_must_stay():
    assert len({certify(case()).next_line for case in CASES.values()}) == 4
    barred = certify(table(2000, lambda i: "b" if i % 100 < 20 else "a", lambda _: "a"), never_local=["b"])
    assert "never_local=['b']" in barred.next_line
    unlabeled = Outcomes.from_records({**row, "gold": None} for row in _records(CASES["LARGE ALONE"]()))
    assert "to_label" in certify(unlabeled).next_line


def _records(outcomes):
    return [
        dict(zip(outcomes.columns, values, strict=True))
        for values in zip(*(outcomes.values(name) for name in outcomes.columns), strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 900),
    st.sampled_from([0, 1, 7, 50]),
    st.sampled_from([0, 1, 7, 50]),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-310, 0.5, -1.0]),
    st.sampled_from(["0.5 points", "2 points", "30 points"]),
)
def test_words_hold_no_odd_numbers(n, small, large, score, loss):
    wrong = lambda every: lambda i: "b" if every and i % every == 0 else "a"  # noqa: E731
    outcomes = table(n, wrong(small), wrong(large), scores=lambda i: score if i % 3 else score + i % 5)
    found = certify(outcomes, loss)
    assert found.decision in DECISIONS
    assert found.certified == (found.decision in ("CASCADE", "SMALL ALONE")) or found.coverage == 0.0
    for line in found.text.splitlines():
        assert not re.search(r"-0(\.0+)?(?![.\d])", line), line
        assert not re.search(r"e-3\d\d", line), line
    assert f"{loss.split()[0]} percentage point" in found.text.splitlines()[0]


def test_p_values_are_counted_when_they_are_read(monkeypatch):
    counted = []

    def count(*args):
        counted.append(args)
        return exact(*args)

    exact = hypotheses.paired_p_value
    monkeypatch.setattr(hypotheses, "paired_p_value", count)
    found = certify(CASES["SMALL ALONE"]())
    assert len(counted) == 1, "that of the certified step"
    assert sum(step.passed for step in found.steps) == len(found.steps) == 50
    assert all(step.p_value <= found.alpha for step in found.steps)
    again = len(counted)
    assert json.loads(found.to_json())["steps"][3]["p_value"] == found.steps[3].p_value
    assert len(counted) == again == 50
    assert found.id == Certificate.from_json(found.to_json()).id
