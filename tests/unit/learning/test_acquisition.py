import pytest

from langchain_dsplus.learning.acquisition import acquire
from langchain_dsplus.small_models.fake import FakeSmallModel


def answer(p, label="a"):
    other = "b" if label == "a" else "a"
    return {"choice": label, "probabilities": {label: p, other: 1 - p}, "confidence": p}


def model(rows):
    return FakeSmallModel(rows, labels=["a", "b", "c"])


ROWS = {
    "a1": {"a": 0.9, "b": 0.1},
    "a2": {"a": 0.6, "b": 0.4},
    "a3": {"a": 0.55, "b": 0.45},
    "b1": {"b": 0.8, "c": 0.2},
    "c1": {"c": 1.0},
}
INPUTS = list(ROWS)


def test_classes_take_turns_by_margin():
    small = model(ROWS)
    assert [INPUTS[p] for p in acquire(small, INPUTS, 5, random_share=0.0).uncertain] == ["a3", "b1", "c1", "a2", "a1"]
    assert len(small.calls) == 1


def test_the_rest_is_drawn_at_random_from_what_is_left():
    small = model(ROWS)
    drawn = []
    for seed in range(60):
        chosen = acquire(small, INPUTS, 4, random_share=0.25, seed=seed)
        assert len(chosen.uncertain) == 3
        assert len(chosen.random) == 1
        assert not set(chosen.uncertain) & set(chosen.random)
        assert chosen.places == [*chosen.uncertain, *chosen.random]
        drawn += chosen.random
    assert {INPUTS[p] for p in drawn} == {"a1", "a2"}
    assert acquire(small, INPUTS, 4, seed=3) == acquire(small, INPUTS, 4, seed=3)


def test_no_input_is_chosen_twice_or_beyond_the_budget():
    small = model(ROWS)
    assert set(acquire(small, INPUTS, 9, random_share=0.5).places) == set(range(5))
    assert acquire(small, INPUTS, 0).places == []
    assert acquire(small, [], 3).places == []
    assert acquire(small, INPUTS, 9, exclude={2, 4}, random_share=0.0).uncertain == [1, 3, 0]


def test_what_the_model_cannot_answer_comes_last():
    assert acquire(model(ROWS), ["unknown", *INPUTS], 6, random_share=0.0).uncertain[-1] == 0


@pytest.mark.parametrize(("budget", "share"), [(-1, 0.1), (3, 1.5)])
def test_bad_arguments(budget, share):
    with pytest.raises(ValueError, match="`budget`"):
        acquire(model(ROWS), INPUTS, budget, random_share=share)
