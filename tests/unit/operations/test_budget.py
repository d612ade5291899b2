"""A budget is kept, the least sure go first, and what gives way is said."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.operations.budget import BudgetPacer


def answer(confidence: float):
    return {"choice": "a", "probabilities": {"a": confidence, "b": 1 - confidence}, "confidence": confidence}


class Clock:
    def __init__(self):
        self.now = 1e6

    def __call__(self):
        return self.now


def traffic(pacer, n, seed=0, unsure=0.4):
    """Which inputs escalated, and what asking would have gained."""
    rng = np.random.default_rng(seed)
    asked, gains = [], []
    for _ in range(n):
        if rng.random() < unsure:
            gain = float(rng.random()) / 2
            gains.append(gain)
            asked.append(pacer.escalate(answer(1 - gain)))
        else:
            pacer.count(escalated=False)
            gains.append(0.0)
            asked.append(False)
    return np.array(asked), np.array(gains)


def test_the_hard_cap_holds_in_every_window_and_the_least_sure_go_first():
    pacer = BudgetPacer(per_1000=150, on_conflict="budget")
    asked, gains = traffic(pacer, 12_000)
    windows = np.convolve(asked, np.ones(1000), mode="valid")
    assert windows.max() <= 150
    assert asked[2000:].mean() > 0.13  # what may be spent is spent
    unsure = gains[2000:] > 0
    mean = gains[2000:][asked[2000:]].mean()
    assert mean > gains[2000:][unsure].mean() * 1.3  # first come, first served would give the plain mean
    assert pacer.kept > 0
    assert pacer.overruns == 0


def test_an_ample_budget_changes_nothing():
    pacer = BudgetPacer(per_1000=700, on_conflict="budget")
    asked, gains = traffic(pacer, 5000)
    assert asked[gains > 0].all()
    assert not list(pacer.events())


def test_the_certificate_wins_by_default_and_the_overrun_is_told_once_in_a_while():
    pacer = BudgetPacer(per_1000=100)
    asked, gains = traffic(pacer, 3000)
    assert asked[gains > 0].all()
    assert pacer.kept == 0
    assert pacer.overruns > 500
    told = list(pacer.events())
    assert [name for name, _ in told] == ["dsplus_budget"]
    assert told[0][1]["kind"] == "over"
    assert list(pacer.events()) == []


def test_a_day_has_a_ceiling_and_the_next_one_has_another():
    clock = Clock()
    pacer = BudgetPacer(per_day=1.0, cost=0.01, on_conflict="budget", clock=clock)
    asked = []
    for _ in range(2 * 1440):
        clock.now += 60
        asked.append(pacer.escalate(answer(0.5)))
    first, second = sum(asked[:1440]), sum(asked[1440:])
    assert 80 <= first <= 100
    assert 80 <= second <= 101
    assert max(np.convolve(asked, np.ones(1440))) <= 100
    assert pacer.spent_day <= 1.0 + 1e-9
    clock.now += 2 * 86_400
    assert pacer.spent_day == 0.0


@given(
    st.lists(st.tuples(st.sampled_from(["unsure", "must", "local", "audit"]), st.floats(0.0, 1.0)), max_size=200),
    st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_unsure_inputs_never_break_the_cap(steps, ceiling):
    pacer = BudgetPacer(per_1000=ceiling, on_conflict="budget")
    for kind, confidence in steps:
        before = pacer.spent_1000
        if kind == "unsure":
            assert not pacer.escalate(answer(confidence)) or before + 1 <= ceiling
        elif kind == "audit":
            pacer.charge()
        else:
            pacer.count(escalated=kind == "must")
    assert pacer.inputs == sum(kind != "audit" for kind, _ in steps)


def test_what_calls_really_cost_is_learned():
    pacer = BudgetPacer(per_1000=10.0, cost=1.0, on_conflict="budget")
    for _ in range(1000):
        pacer.settle(0.5)
    assert pacer.cost == pytest.approx(0.5, abs=0.01)
    pacer.settle(float("nan"))
    assert pacer.cost == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "per_1000"),
        ({"per_1000": -1}, "per_1000"),
        ({"per_day": float("inf")}, "per_day"),
        ({"per_1000": 1, "cost": 0}, "cost"),
        ({"per_1000": 1, "step": 0}, "step"),
        ({"per_1000": 1, "on_conflict": "quality"}, "on_conflict"),
    ],
)
def test_settings_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        BudgetPacer(**options)


# --- in a router ----------------------------------------------------------------------------------------------------


class Listener(BaseCallbackHandler):
    def __init__(self):
        self.heard = []

    def on_custom_event(self, name, data, **_):
        self.heard.append((name, data))


def router(pacer, table=None, **more):
    table = table or {"sure": {"a": 0.99, "b": 0.01}, "unsure": {"a": 0.6, "b": 0.4}}
    small = FakeSmallModel(table, ["a", "b"], name="tiny")

    def ask(text: str) -> str:
        return "b"

    return ConfidenceRouter(
        small=small, large=RunnableLambda(ask), threshold=0.9, pacer=pacer, include_route=True, **more
    )


@pytest.mark.parametrize("async_", [False, True])
async def test_without_budget_the_small_answer_has_to_do(async_):
    pacer = BudgetPacer(per_1000=2, on_conflict="budget")
    routed = router(pacer)
    inputs = ["unsure", "sure", "unsure", "unsure"]
    results = await routed.abatch(inputs) if async_ else routed.batch(inputs)
    assert [r["output"] for r in results] == ["b", "a", "b", "a"]
    assert [r["route"]["reason"] for r in results] == ["unsure", "confident", "unsure", "budget"]
    last = results[-1]["route"]
    assert (last["model"], last["accepted"]) == ("tiny", True)
    assert "audited" not in last
    assert (pacer.inputs, pacer.escalated, pacer.kept) == (4, 2, 1)


def test_where_quality_wins_it_escalates_and_listeners_hear_of_the_overrun():
    pacer = BudgetPacer(per_1000=1)
    listener = Listener()
    routed = router(pacer)
    results = routed.batch(["unsure", "unsure"], {"callbacks": [listener]})
    assert [r["output"] for r in results] == ["b", "b"]
    assert [name for name, _ in listener.heard if name == "dsplus_budget"] == ["dsplus_budget"]


def test_what_must_escalate_does_and_audits_cost_too():
    pacer = BudgetPacer(per_1000=0, on_conflict="budget")
    routed = router(pacer, never_local=("a",))
    assert routed.invoke("unsure")["route"]["reason"] == "unsure"  # never local, whatever the budget says
    assert routed.invoke("sure")["route"]["reason"] == "never_local"
    assert pacer.overruns == 2
    pacer = BudgetPacer(per_1000=5)
    with router(pacer, audit_rate=1.0) as routed:
        assert routed.invoke("sure")["route"]["audited"]
    assert pacer.spent_1000 == 1.0


def test_a_pacer_is_checked_and_shared_by_copies():
    with pytest.raises((TypeError, ValueError), match="BudgetPacer"):
        router(object())
    routed = router(BudgetPacer(per_1000=1))
    assert copy.deepcopy(routed).pacer is routed.pacer
    broken = BudgetPacer(per_1000=10, on_conflict="budget", gain=lambda _: 1 / 0)
    assert router(broken).invoke("unsure")["route"]["reason"] == "unsure"
