"""The plain rule for classes that a hard prompt may leave out."""

from __future__ import annotations

import math

import pytest

from langchain_dsplus.prompts.proficient import proficient_classes


def rows(gold, *, right=0, wrong=0, unsure=0, other="other"):
    """Rows of one class: accepted and right, accepted and wrong, not accepted."""
    return (
        [{"small": gold, "confidence": 0.95, "gold": gold}] * right
        + [{"small": other, "confidence": 0.95, "gold": gold}] * wrong
        + [{"small": gold, "confidence": 0.9, "gold": gold}] * unsure
    )


def test_a_class_that_is_accepted_and_right_is_proficient():
    table = rows("dog", right=20) + rows("cat", right=9, unsure=11) + rows("ant", right=10, unsure=1)
    assert proficient_classes(table, 0.9) == ["ant", "dog"]
    assert proficient_classes(table, 0.9, labels=["dog", "cat", "ant", "owl"]) == ["dog", "ant"]
    assert proficient_classes(table, 0.9, min_recall=0.4) == ["ant", "cat", "dog"]


def test_acceptance_is_strict():
    assert proficient_classes(rows("dog", right=10), 0.95) == []
    assert proficient_classes(rows("dog", right=10), math.nextafter(0.95, 0.0)) == ["dog"]


def test_accepted_and_wrong_does_not_count_as_excelling():
    table = rows("dog", right=18, wrong=2)
    assert proficient_classes(table, 0.9) == []
    assert proficient_classes(table, 0.9, min_precision=0.9) == ["dog"]


def test_few_rows_prove_nothing():
    assert proficient_classes(rows("dog", right=9), 0.9) == []
    assert proficient_classes(rows("dog", right=9), 0.9, min_rows=9) == ["dog"]


@pytest.mark.parametrize("threshold", [None, math.inf])
def test_no_threshold_accepts_nothing(threshold):
    assert proficient_classes(rows("dog", right=99), threshold) == []


def test_rows_without_gold_do_not_count():
    table = [*rows("dog", right=10), *[{"small": "cat", "confidence": 0.1, "gold": None}] * 50]
    assert proficient_classes(table, 0.9) == ["dog"]


def test_label_order_comes_from_the_probabilities():
    table = [
        r | {"probabilities": {"owl": 0.0, "dog": 0.9, "ant": 0.1}}
        for r in rows("dog", right=10) + rows("ant", right=10)
    ]
    assert proficient_classes(table, 0.9) == ["dog", "ant"]


def test_objects_with_records_and_numbers_as_text():
    class Table:
        def to_records(self):
            return [r | {"confidence": str(r["confidence"])} for r in rows("dog", right=10)]

    assert proficient_classes(Table(), 0.9) == ["dog"]


def test_errors():
    with pytest.raises(ValueError, match="`confidence`"):
        proficient_classes([{"small": "a", "gold": "a"}], 0.5)
    with pytest.raises(TypeError, match="records"):
        proficient_classes([("a", 0.5, "a")], 0.5)
    for wrong in ({"min_recall": 0.0}, {"min_precision": 1.1}, {"min_rows": 0}):
        with pytest.raises(ValueError, match="min_"):
            proficient_classes([], 0.5, **wrong)
    assert proficient_classes([], 0.5) == []
