import numpy as np
import pytest

from langchain_dsplus.learning.acquisition import StreamAcquisition, acquire
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
    with pytest.raises(ValueError, match="`budget`"):
        StreamAcquisition(budget=budget, horizon=9, random_share=share)


def test_a_stream_keeps_to_its_budget_and_takes_the_uncertain_ones():
    rng = np.random.default_rng(0)
    stream = StreamAcquisition(budget=200, horizon=2000, random_share=0.1)
    kept = {"uncertain": [], "random": [], None: []}
    for p in rng.uniform(0.5, 1.0, 2000):
        kept[stream.keep(answer(float(p)))].append(p)
    assert stream.seen == 2000
    assert 190 <= stream.kept <= 200
    assert 5 <= len(kept["random"]) <= 40
    assert np.median(kept["uncertain"]) < 0.54
    assert np.mean(kept["random"]) == pytest.approx(0.75, abs=0.12)


def test_a_stream_spends_evenly():
    stream = StreamAcquisition(budget=100, horizon=1000)
    rng = np.random.default_rng(1)
    spent = []
    for p in rng.uniform(0.5, 1.0, 1000):
        stream.keep(answer(float(p)))
        spent.append(stream.kept)
    assert 35 <= spent[499] <= 65


def test_equal_margins_do_not_stop_or_flood_a_stream():
    stream = StreamAcquisition(budget=50, horizon=1000, random_share=0.0)
    for _ in range(1000):
        stream.keep(answer(1.0))
    assert 40 <= stream.kept <= 50


def test_failures_are_kept_by_chance_only():
    stream = StreamAcquisition(budget=50, horizon=100, random_share=0.5)
    assert {stream.keep(None) for _ in range(100)} == {None, "random"}
    beyond = StreamAcquisition(budget=1, horizon=1)
    assert [beyond.keep(answer(0.5)) for _ in range(50)].count(None) >= 49


def test_an_old_window_is_forgotten():
    stream = StreamAcquisition(budget=5000, horizon=10000, random_share=0.0)
    for _ in range(1500):
        stream.keep(answer(0.9))
    assert len(stream._sorted) == len(stream._recent) == 1000
