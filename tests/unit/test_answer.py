import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel, ValidationError, field_validator

from langchain_dsplus.answer import (
    CertificateError,
    EscalationContext,
    InvalidAnswerError,
    MismatchError,
    check_answer,
    is_context,
    note,
    plain_mismatch,
)

LABELS = frozenset({"neg", "pos"})


def answer(**changes):
    return {"choice": "pos", "probabilities": {"neg": 0.25, "pos": 0.75}, "confidence": 0.75, **changes}


def test_a_good_answer_comes_back_as_a_copy():
    given_ = answer()
    checked = check_answer(given_, LABELS)
    assert checked == given_
    checked["probabilities"]["pos"] = 0.0
    assert given_["probabilities"]["pos"] == 0.75


def test_numpy_scalars_become_python_floats():
    checked = check_answer(
        answer(confidence=np.float32(0.75), probabilities={"neg": np.float64(0.25), "pos": np.float32(0.75)}), LABELS
    )
    assert type(checked["confidence"]) is float
    assert {type(value) for value in checked["probabilities"].values()} == {float}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"confidence": math.nan}, "confidence"),
        ({"confidence": math.inf}, "confidence"),
        ({"confidence": "high"}, "confidence"),
        ({"choice": 3}, "choice"),
        ({"choice": "maybe"}, "label"),
        ({"probabilities": {"neg": 0.5, "maybe": 0.5}}, "label"),
        ({"probabilities": {"neg": -0.5, "pos": 1.5}}, "negative"),
        ({"probabilities": {"neg": math.nan, "pos": 1.0}}, "NaN"),
        ({"probabilities": {"neg": 0.5, "pos": 0.6}}, "sum to 1"),
        ({"probabilities": {"neg": math.inf, "pos": 0.0}}, "sum to 1"),
        ({"probabilities": None}, "probabilities"),
        ({"probabilities": [0.5, 0.5]}, "probabilities"),
    ],
)
def test_a_bad_answer_is_refused(changes, match):
    with pytest.raises(InvalidAnswerError, match=match):
        check_answer(answer(**changes), LABELS)


@pytest.mark.parametrize("missing", ["choice", "probabilities", "confidence"])
def test_a_missing_field_is_refused(missing):
    given_ = answer()
    del given_[missing]
    with pytest.raises(InvalidAnswerError, match="must return"):
        check_answer(given_, LABELS)


def test_free_text_needs_no_labels_and_no_probabilities():
    text = {"choice": "any text", "probabilities": {}, "confidence": -3.5}
    assert check_answer(text, frozenset()) == text


def test_the_error_never_carries_the_choice():
    secret = "a user's own words"
    with pytest.raises(InvalidAnswerError) as caught:
        check_answer(answer(choice=secret), LABELS)
    assert secret not in str(caught.value)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6).filter(lambda xs: sum(xs) > 0))
def test_any_distribution_passes_and_survives_json_and_msgpack(weights):
    labels = [f"label {place}" for place in range(len(weights))]
    probabilities = {label: w / sum(weights) for label, w in zip(labels, weights, strict=True)}
    top = max(probabilities, key=probabilities.get)
    checked = check_answer(
        {"choice": top, "probabilities": probabilities, "confidence": probabilities[top]}, frozenset(labels)
    )
    assert json.loads(json.dumps(checked, allow_nan=False)) == checked
    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    assert serde.loads_typed(serde.dumps_typed(checked)) == checked


def test_an_escalation_context_is_a_context_with_notes_beside_it():
    context = EscalationContext(None, {})
    note(context, pruning="soft", candidates=["a"])
    note(context, pruning="none")
    assert is_context(context)
    assert context == {"answer": None, "probabilities": {}}
    assert context.notes == {"pruning": "none", "candidates": ["a"]}
    assert json.loads(json.dumps(context)) == {"answer": None, "probabilities": {}}


@pytest.mark.parametrize("value", [None, "text", {}, {"answer": None}, {"answer": 1, "probabilities": {}, "more": 2}])
def test_other_values_are_no_context_and_take_no_notes(value):
    assert not is_context(value)
    note(value, pruning="soft")


class _Given(BaseModel):
    part: Any = None
    number: int = 0

    @field_validator("part")
    @classmethod
    def _check(cls, value):
        if isinstance(value, Exception):
            raise value
        return value


def test_a_mismatch_comes_out_of_pydantics_errors_as_itself():
    mine = MismatchError("other parts", ["large"])
    with pytest.raises(MismatchError) as caught, plain_mismatch():
        _Given(part=mine)
    assert caught.value is mine
    for values in ({"part": CertificateError("unreadable")}, {"part": mine, "number": "x"}, {"number": "x"}):
        with pytest.raises(ValidationError), plain_mismatch():
            _Given(**values)
