"""A budget is kept, the least sure go first, and what gives way is said."""

from __future__ import annotations

import copy
import json
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.monitoring import budget
from langchain_dsplus.monitoring.budget import BudgetPacer, BudgetStateError


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


# --- the state ------------------------------------------------------------------------------------------------------


def act(pacer, clock, steps):
    """What is decided, step by step."""
    decided = []
    for kind, confidence, wait in steps:
        clock.now += wait
        if kind == "unsure":
            decided.append(pacer.escalate(answer(confidence)))
        elif kind == "audit":
            pacer.charge()
        elif kind == "settle":
            pacer.settle(confidence)
        else:
            pacer.count(escalated=kind == "must")
    return decided


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["unsure", "must", "local", "audit", "settle"]), st.floats(0.0, 1.0), st.floats(0.0, 5000.0)
    ),
    max_size=120,
)


@given(STEPS, STEPS)
@settings(max_examples=40, deadline=None)
def test_what_goes_on_from_a_state_decides_as_if_nothing_had_happened(before, after):
    clock = Clock()
    limits = {"per_1000": 25, "per_day": 30.0, "on_conflict": "budget", "clock": clock}
    whole = BudgetPacer(**limits)
    act(whole, clock, before)
    again = BudgetPacer(**limits)
    again.restore(json.loads(json.dumps(whole.to_dict(), allow_nan=False)))
    assert again.to_dict() == whole.to_dict()
    now = clock.now
    decided = act(whole, clock, after)
    clock.now = now
    assert act(again, clock, after) == decided
    assert again.spent_1000 == pytest.approx(whole.spent_1000)
    assert again.spent_day == pytest.approx(whole.spent_day)


def test_a_restart_does_not_forget_what_the_day_has_spent(tmp_path):
    clock, path = Clock(), tmp_path / "deep" / "budget.json"
    limits = {"per_day": 10, "per_1000": 500, "on_conflict": "budget", "path": path, "clock": clock}
    first = BudgetPacer(**limits)
    for _ in range(30):
        first.count(escalated=False)
    assert not path.exists()  # nothing was spent
    for _ in range(9):
        clock.now += 60
        first.count(escalated=True)
    first.charge()  # an audit
    second = BudgetPacer(**limits)
    assert second.spent_day == first.spent_day == 10
    assert (second.inputs, second.escalated, second.price) == (39, 9, first.price)
    assert not second.escalate(answer(0.5))
    clock.now += 2 * 86_400
    third = BudgetPacer(**limits)
    assert third.spent_day == 0
    assert third.spent_1000 == 10  # inputs are counted, not hours
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_inputs_that_cost_nothing_are_written_with_the_next_that_does_or_when_asked(tmp_path):
    path = tmp_path / "budget.json"
    pacer = BudgetPacer(per_1000=5, path=path)
    pacer.count(escalated=True)
    written = path.read_text()
    for _ in range(998):
        pacer.count(escalated=False)
    assert path.read_text() == written
    assert BudgetPacer(per_1000=5, path=path).spent_1000 == 1
    pacer.save()
    again = BudgetPacer(per_1000=5, path=path)
    assert (again.inputs, again.spent_1000) == (999, 1)
    again.count(escalated=False)
    assert again.spent_1000 == 0


def test_a_kill_loses_no_spending(tmp_path):
    path = tmp_path / "budget.json"
    code = (
        "import os, signal\n"
        "from langchain_dsplus.monitoring.budget import BudgetPacer\n"
        f"pacer = BudgetPacer(per_day=1000, path={str(path)!r})\n"
        "for _ in range(137): pacer.count(escalated=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode < 0
    assert BudgetPacer(per_day=1000, path=path).spent_day == 137


@given(STEPS, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_the_file_says_what_the_pacer_knows(steps, lines):
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "_LINES", lines)  # written anew every so often
        limits = {"per_1000": 25, "per_day": 30.0, "clock": clock, "path": f"{folder}/budget.json"}
        pacer = BudgetPacer(**limits)
        act(pacer, clock, [*steps, ("must", 0.0, 1.0)])
        assert BudgetPacer(**limits).to_dict() == pacer.to_dict()


def test_a_line_that_was_cut_off_is_left_out_and_one_in_the_middle_is_no_state(tmp_path):
    path = tmp_path / "budget.json"
    pacer = BudgetPacer(per_day=100, path=path)
    for _ in range(5):
        pacer.count(escalated=True)
    whole = path.read_text()
    path.write_text(whole[:-9])
    again = BudgetPacer(per_day=100, path=path)
    assert again.spent_day == 4
    again.count(escalated=True)
    assert BudgetPacer(per_day=100, path=path).spent_day == 5
    for bad in ("nonsense", "[1, 2]", "[1, 2, 3, 4, 5, 6]", "7", "[0, 1, 1, 0, 0, 1, 0, 0, 0, 0]"):
        path.write_text(f"{whole}{bad}\n{whole.splitlines()[-1]}\n")
        with pytest.raises(BudgetStateError, match="remove it"):
            BudgetPacer(per_day=100, path=path)


def test_a_file_that_was_taken_away_is_written_anew(tmp_path):
    path = tmp_path / "budget.json"
    pacer = BudgetPacer(per_day=100, path=path)
    for _ in range(3):
        pacer.count(escalated=True)
        path.unlink()
    pacer.charge()
    assert BudgetPacer(per_day=100, path=path).spent_day == 4


def test_a_learned_cost_is_kept_unless_another_is_set():
    first = BudgetPacer(per_day=10.0, cost=1.0)
    for _ in range(500):
        first.settle(0.5)
    same, other = BudgetPacer(per_day=10.0, cost=1.0), BudgetPacer(per_day=10.0, cost=2.0)
    same.restore(first.to_dict())
    other.restore(first.to_dict())
    assert same.cost == first.cost
    assert other.cost == 2.0


GOOD = BudgetPacer(per_1000=5).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"counts": {}},
        {"counts": {**GOOD["counts"], "inputs": -1}},
        {"cost": float("nan")},
        {"cost": 0},
        {"dual": 1e9},
        {"time": "today"},
        {"latest": [[0, -1.0]]},
        {"latest": [[999, 1.0]]},
        {"latest": [[True, 1.0]]},
        {"latest": 3},
        {"day": [[1.0]]},
        {"day": [[1.0, float("inf")]]},
        {"told": None},
    ],
)
def test_what_is_no_state_is_refused_and_changes_nothing(change):
    pacer = BudgetPacer(per_1000=5)
    pacer.count(escalated=True)
    before = pacer.to_dict()
    with pytest.raises(BudgetStateError, match="not the state"):
        pacer.restore({**GOOD, **change})
    assert pacer.to_dict() == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps({**GOOD, "format": 0}), "\ud800"])
def test_a_file_that_cannot_be_read_is_never_ignored(tmp_path, text):
    path = tmp_path / "budget.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BudgetStateError, match="remove it to start anew"):
        BudgetPacer(per_1000=5, path=path)


def test_a_disk_that_fails_fails_no_answer_and_is_told_once(tmp_path, caplog):
    folder = tmp_path / "gone"
    pacer = BudgetPacer(per_1000=5, on_conflict="budget", path=folder / "budget.json")
    folder.write_text("a file where a folder should be")
    for _ in range(3):
        pacer.count(escalated=True)
    assert pacer.spent_1000 == 3
    assert [record for record in caplog.records if "could not be written" in record.message] == caplog.records[:1]
    folder.unlink()
    pacer.count(escalated=True)
    assert BudgetPacer(per_1000=5, path=folder / "budget.json").spent_1000 == 4


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


@pytest.mark.parametrize("async_", [False, True])
async def test_a_router_goes_on_under_the_same_budget_after_a_restart(tmp_path, async_):
    path = tmp_path / "budget.json"
    reasons = []
    for _ in range(2):
        routed = router(BudgetPacer(per_1000=3, on_conflict="budget", path=path))
        inputs = ["unsure", "sure", "unsure"]
        results = await routed.abatch(inputs) if async_ else routed.batch(inputs)
        reasons += [result["route"]["reason"] for result in results]
    assert reasons == ["unsure", "confident", "unsure", "unsure", "confident", "budget"]
