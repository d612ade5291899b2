"""Audits: alarms that may be looked at at any time, a ladder that acts, a state that survives a restart."""

from __future__ import annotations

import copy
import json
import math
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Outcomes
from langchain_dsplus.calibration import binomial_lower, binomial_upper
from langchain_dsplus.monitoring.audit import AuditMonitor, AuditStateError
from langchain_dsplus.monitoring.betting import BettingProcess, _stake, alarm_times
from langchain_dsplus.monitoring.drift import DriftMonitor
from langchain_dsplus.routing.decision import Settings, limited
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify

RUNS = 1000
AUDITS = 20_000


def make(n: int = 2000, wrong_below: float = 0.3, seed: int = 0, **more: Any) -> Certificate:
    """Below that share of confidence every tenth row is wrong; above, every hundredth row disagrees, without harm."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        wrong = i / n < wrong_below and rng.random() < 0.1
        gain = not wrong and rng.random() < 0.01
        rows.append(
            {
                "small": "b" if wrong else "a",
                "confidence": (i + 0.5) / n,
                "large": "b" if gain else "a",
                "gold": "a",
            }
        )
    about = {"score": "max_probability", "labels": ["a", "b"]}
    return certify(Outcomes.from_records(rows, about=about), 0.01, **more)


CERTIFICATE = make()


def disagree(monitor: AuditMonitor, times: int = 2000, confidence: float = 0.99) -> int:
    """Audits that disagree until the next alarm."""
    before = len(monitor.alarms)
    for count in range(1, times + 1):
        monitor.observe(False, confidences=[confidence])
        if len(monitor.alarms) > before:
            return count
    pytest.fail("no alarm")


# --- the statistics -------------------------------------------------------------------------------------------------


@pytest.mark.no_cover
@pytest.mark.parametrize("share", [0.02, 0.08])
def test_alarm_a_is_false_in_at_most_five_percent_of_runs(share):
    """At the worst there is: the share is exactly what is allowed, and the whole error probability is the alarm's."""
    draws = np.random.default_rng(1).random((RUNS, AUDITS)) < share
    false = (alarm_times(draws, share, 0.05) > 0).mean()
    assert false <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)
    assert false > 0.005  # not so shy that it could not go off


@pytest.mark.no_cover
def test_alarm_b_is_false_in_at_most_five_percent_of_runs():
    draws = np.random.default_rng(2).choice([-1, 0, 1], p=[0.02, 0.953, 0.027], size=(RUNS, AUDITS))
    false = (alarm_times(draws, 0.007, 0.05, low=-1.0) > 0).mean()
    assert 0.0 < false <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.no_cover
def test_from_sample_to_alarm_it_is_false_in_at_most_five_percent_of_runs():
    """The bound is from a sample, half of the error probability goes to it."""
    rng = np.random.default_rng(3)
    share = 0.03
    bounds = np.array([binomial_upper(int(hits), 1000, 0.025) for hits in rng.binomial(1000, share, size=RUNS)])
    draws = rng.random((RUNS, AUDITS)) < share
    assert (alarm_times(draws, bounds, 0.025) > 0).mean() <= 0.05
    assert 0.005 < (bounds < share).mean() < 0.045


@pytest.mark.parametrize(("share", "reference"), [(0.04, 440), (0.06, 129)])
def test_a_change_is_noticed_about_as_soon_as_it_can_be(share, reference):
    draws = np.random.default_rng(4).random((600, 8000)) < share
    times = alarm_times(draws, 0.02, 0.05)
    assert (times > 0).all()
    assert np.median(times) < reference * 1.25


def test_a_late_change_is_noticed_too():
    rng = np.random.default_rng(5)
    draws = np.hstack([rng.random((300, 5000)) < 0.015, rng.random((300, 3000)) < 0.06])
    times = alarm_times(draws, 0.02, 0.05)
    late = times[times > 5000] - 5000
    assert len(late) > 290
    assert np.median(late) < 430


def test_a_late_change_is_noticed_by_alarm_b_too():
    rng = np.random.default_rng(8)
    kinds = np.array([-1, 0, 1])
    draws = np.hstack(
        [
            rng.choice(kinds, p=[0.02, 0.96, 0.02], size=(200, 4000)),
            rng.choice(kinds, p=[0.01, 0.93, 0.06], size=(200, 3000)),
        ]
    )
    times = alarm_times(draws, 0.007, 0.045, low=-1.0)
    late = times[times > 4000] - 4000
    assert len(late) > 190
    assert np.median(late) < 900


def test_what_is_staked_at_all_starts_is_one_capital():
    stakes = [_stake(start) for start in range(100_000)]
    assert 0.999 < sum(stakes) <= 1.0
    assert all(stake > 0 for stake in stakes)
    assert stakes[79] > 0.002  # what a change after 19,000 observations can be noticed by


def test_the_limit_may_change_from_one_observation_to_the_next():
    rng = np.random.default_rng(6)
    limits = rng.uniform(0.01, 0.2, size=3000)
    process = BettingProcess(0.5)
    for place in range(3000):
        evidence = process.add(rng.random(RUNS) < limits[place], limits[place])
    assert np.mean(evidence >= 20) <= 0.05
    assert np.mean(evidence) < 1.5  # a fair game


@given(st.integers(0, 400), st.integers(0, 400), st.floats(0.001, 0.4))
@settings(max_examples=60, deadline=None)
def test_exact_bounds_of_a_share(hits, more, alpha):
    from scipy.stats import beta

    n = hits + more
    if n == 0:
        assert (binomial_lower(0, 0, alpha), binomial_upper(0, 0, alpha)) == (0.0, 1.0)
        return
    upper = beta.ppf(1 - alpha, hits + 1, more) if more else 1.0
    lower = beta.ppf(alpha, hits, more + 1) if hits else 0.0
    assert binomial_upper(hits, n, alpha) == pytest.approx(upper, abs=1e-9)
    assert binomial_lower(hits, n, alpha) == pytest.approx(lower, abs=1e-9)


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_a_process_goes_on_where_it_was_written_down(values, cut):
    whole, first = BettingProcess(0.1), BettingProcess(0.1)
    for value in values:
        whole.add(float(value))
    for value in values[:cut]:
        first.add(float(value))
    second = BettingProcess.from_dict(json.loads(json.dumps(first.to_dict())))
    for value in values[cut:]:
        second.add(float(value))
    assert second.to_dict() == whole.to_dict()


@pytest.mark.parametrize("body", [{}, {"limit": 0.1}, {**BettingProcess(0.1).to_dict(), "capital": [1.0]}])
def test_what_is_no_process_is_refused(body):
    with pytest.raises(ValueError, match="not the state"):
        BettingProcess.from_dict(body)


# --- what a certificate says about disagreement ---------------------------------------------------------------------


def test_steps_count_accepted_rows_that_disagree():
    rows = [
        {"small": "a", "confidence": 0.9, "large": "a"},
        {"small": "a", "confidence": 0.8, "large": "b", "gold": "a"},
        {"small": "a", "confidence": 0.7, "large": None},
        {"small": "a", "confidence": 0.6, "large": "a"},
    ]
    found = certify(Outcomes.from_records(rows), steps=4)
    assert [(step.accepted, step.disagreements) for step in found.steps] == [(1, 0), (2, 1), (3, 2), (4, 2)]
    again = Certificate.from_json(found.to_json())
    assert [step.disagreements for step in again.steps] == [0, 1, 2, 2]
    correct = Outcomes.from_records([{"confidence": i / 9, "small_ok": True, "large_ok": True} for i in range(9)])
    assert {step.disagreements for step in certify(correct).steps} == {None}


def test_several_small_models_are_counted_where_they_answer():
    rows = [
        {"small.x": "a", "confidence.x": 0.9, "small.y": "b", "confidence.y": 0.9, "large": "a"},
        {"small.x": "a", "confidence.x": 0.1, "small.y": "b", "confidence.y": 0.9, "large": "a"},
        {"small.x": "b", "confidence.x": 0.1, "small.y": "a", "confidence.y": 0.1, "large": "a"},
    ]
    found = certify(Outcomes.from_records(rows), path=[{"x": 0.5, "y": 0.95}, {"x": 0.5, "y": 0.5}])
    assert [(step.accepted, step.disagreements) for step in found.steps] == [(1, 0), (2, 1)]


# --- the monitor ----------------------------------------------------------------------------------------------------


def test_the_bound_is_the_certificates():
    monitor = AuditMonitor(CERTIFICATE)
    step = next(step for step in CERTIFICATE.steps if step.thresholds == CERTIFICATE.thresholds)
    assert monitor.max_disagreement == binomial_upper(step.disagreements, step.accepted, 0.025)
    assert monitor.max_disagreement > step.disagreements / step.accepted


def test_the_ladder_goes_down_step_by_step():
    heard = []
    monitor = AuditMonitor(CERTIFICATE, on_alarm=heard.append)
    for number in range(150):  # all is well where the small model is very sure, and nowhere else
        sure = number % 2 == 0
        monitor.observe(sure or number < 60, confidences=[0.98 if sure else 0.4])
        if monitor.alarms:
            break
    first = monitor.alarms[0]
    assert (first.kind, first.rung) == ("evidence", "tighter")
    assert "no longer fits" in first.message
    assert first.evidence >= 40
    assert monitor.needs_certification
    assert not monitor.broken
    tighter = monitor.limit.thresholds["small"]
    passed = {step.thresholds["small"] for step in CERTIFICATE.steps if step.passed}
    assert tighter in passed
    assert 0.4 <= tighter < 0.98  # the laxest at which the audits still agree
    assert tighter > CERTIFICATE.threshold
    for _ in range(50):  # these were accepted before the step: they say nothing about what is accepted now
        monitor.observe(False, confidences=[CERTIFICATE.threshold + 0.01])
    assert len(monitor.alarms) == 1
    disagree(monitor)
    assert monitor.alarms[1].rung == "large"
    assert monitor.limit.thresholds is None
    assert heard == list(monitor.alarms)
    for _ in range(50):
        monitor.observe(False, confidences=[0.99])
    assert len(monitor.alarms) == 2
    monitor.reset(make(seed=1))
    assert (monitor.alarms, monitor.limit, monitor.audits) == ((), None, 0)


def test_a_reset_that_fails_forgets_nothing():
    monitor = AuditMonitor(CERTIFICATE)
    disagree(monitor)
    correct = [{"confidence": i / 2000, "small_ok": True, "large_ok": True} for i in range(2000)]
    with pytest.raises(ValueError, match="max_disagreement"):
        monitor.reset(certify(Outcomes.from_records(correct)))
    assert monitor.alarms
    assert monitor.limit.thresholds is None
    assert monitor.certificate is CERTIFICATE
    monitor.reset()
    assert not monitor.alarms


def test_without_a_tighter_step_that_agrees_everything_goes_to_the_large_model():
    monitor = AuditMonitor(CERTIFICATE)
    disagree(monitor)
    assert monitor.alarms[0].rung == "large"
    assert monitor.limit.thresholds is None


def test_a_ladder_may_begin_with_a_warning():
    monitor = AuditMonitor(CERTIFICATE, ladder=("warn", "large"))
    disagree(monitor)
    assert (monitor.alarms[0].rung, monitor.limit) == ("warn", None)
    disagree(monitor)
    assert monitor.limit.thresholds is None


def test_gold_alone_says_broken():
    monitor = AuditMonitor(CERTIFICATE, max_disagreement=0.5)
    for _ in range(3000):
        if monitor.broken:
            break
        for _ in range(9):
            monitor.observe(True, confidences=[0.9])
        monitor.observe(False, route_id="x", confidences=[0.9])
        assert monitor.observe_loss("x", 1)
    alarm = monitor.alarms[-1]
    assert (alarm.kind, alarm.rung) == ("broken", "large")
    assert alarm.observed > alarm.allowed
    assert alarm.message.startswith("BROKEN")
    assert monitor.limit.thresholds is None
    with pytest.raises(ValueError, match="loss"):
        monitor.observe_loss("x", 2)


def test_what_gains_as_often_as_it_loses_breaks_nothing():
    monitor = AuditMonitor(CERTIFICATE, max_disagreement=0.5)
    for _ in range(300):
        for loss in (1, -1, 0, 0, 0):
            monitor.observe(loss == 0, route_id="x")
            monitor.observe_loss("x", loss)
    assert not monitor.alarms
    assert (monitor.harms, monitor.gains) == (300, 300)


def test_gold_that_comes_all_at_once_is_no_burst_of_losses():
    """800 labels in a row lose 20 % net; but of all audits they are 4 %, and 1 % is allowed."""
    rng = np.random.default_rng(0)
    differs = rng.random(20_000) < 0.04
    losses = np.where(differs, rng.choice([1, -1, 0], p=[0.5, 0.3, 0.2], size=20_000), 0)
    naive = alarm_times(np.concatenate([losses[~differs], losses[differs]])[None], 0.01, 0.045, low=-1.0)
    assert naive[0] > 0  # in the order in which the labels come
    monitor = AuditMonitor(CERTIFICATE, max_disagreement=0.5, coverage=1.0, gold_within=100_000)
    for number, differ in enumerate(differs):
        monitor.observe(not differ, route_id=str(number))
    for number in np.flatnonzero(differs)[::-1]:
        assert monitor.observe_loss(str(number), int(losses[number]))
    assert not monitor.alarms
    assert monitor._loss.n == 20_000
    assert (monitor.harms, monitor.gains) == (int((losses > 0).sum()), int((losses < 0).sum()))


def test_what_gets_no_gold_in_time_counts_as_nothing_lost():
    monitor = AuditMonitor(CERTIFICATE, max_disagreement=0.5, gold_within=10)
    monitor.observe(False, route_id="late")
    for _ in range(9):
        monitor.observe(True)
    assert monitor._loss.n == 0
    monitor.observe(True)
    assert monitor._loss.n == 11
    assert not monitor.observe_loss("late", 1)
    assert monitor.harms == 0


def test_what_waits_for_gold_survives_a_restart(tmp_path):
    path = tmp_path / "audits.json"
    monitor = AuditMonitor(CERTIFICATE, path=path)
    monitor.record(row("a", "a", "1"))
    monitor.record(row("a", "b", "2"))
    for name in "345":
        monitor.record(row("a", "a", name))
    assert monitor._loss.n == 1
    again = AuditMonitor(CERTIFICATE, path=path)
    assert again.to_dict() == monitor.to_dict()
    assert again.observe_gold("2", "b")
    assert (again._loss.n, again.harms) == (5, 1)


def test_coverage_turns_the_loss_per_input_into_one_per_accepted_input():
    monitor = AuditMonitor(CERTIFICATE)
    certified = 0.01 / CERTIFICATE.coverage
    assert certified < monitor._allowed_loss() < certified * 1.1  # the bound errs towards no alarm
    route = {"reason": "unsure", "answers": []}
    for number in range(4000):
        monitor.record({"kind": "route", "route": {**route, "reason": "confident" if number % 2 else "unsure"}})
    assert 0.02 < monitor._allowed_loss() < 0.022
    assert (monitor.inputs, monitor.accepted) == (4000, 2000)
    for reason in ("off", "shadow", "alarm", "mismatch", "not_certified"):
        monitor.record({"kind": "route", "route": {**route, "reason": reason}})
    assert monitor.inputs == 4000


def row(choice: str, output: Any, name: str = "1", **more: Any) -> Any:
    answer = {"choice": choice, "probabilities": {choice: 1.0}, "confidence": 0.99}
    return {"kind": "audit", "route_id": name, "router": "r", "answers": [answer], "output": output, **more}


@pytest.mark.parametrize(
    ("output", "same"),
    [("a", True), (AIMessage("Label: a."), True), ({"label": "a"}, True), ("b", False), ("I cannot tell", False)],
)
def test_audits_are_read_off_the_recorders_rows(output, same):
    monitor = AuditMonitor(CERTIFICATE)
    monitor.record(row("a", output))
    assert (monitor.audits, monitor.disagreements) == (1, 0 if same else 1)


def test_audits_that_tell_nothing_do_not_count(caplog):
    monitor = AuditMonitor(CERTIFICATE)
    failed = row("a", None, error="large: TimeoutError")
    del failed["output"]
    monitor.record(failed)
    for _ in range(3):
        monitor.record(row("a", 17))
    assert (monitor.audits, monitor.failed) == (0, 4)
    assert caplog.text.count("agree=") == 1
    silent = AuditMonitor(CERTIFICATE, agree=lambda answer, output: None)
    silent.record(row("a", "b"))
    assert (silent.audits, silent.failed) == (0, 1)
    lenient = AuditMonitor(CERTIFICATE, agree=lambda answer, output: answer["choice"].lower() == output.lower())
    lenient.record(row("a", "A"))
    assert lenient.disagreements == 0


def test_gold_may_come_later_and_only_once():
    monitor = AuditMonitor(CERTIFICATE)
    monitor.record(row("a", "Label: b", "x"))
    monitor.record(row("a", "b", "y"))
    monitor.record(row("a", "a", "z"))
    assert monitor.observe_gold("x", "b")
    assert not monitor.observe_gold("x", "b")
    assert not monitor.observe_gold("z", "a")
    monitor.record({"kind": "gold", "route_id": "y", "router": "r", "gold": "a"})
    assert (monitor.harms, monitor.gains) == (1, 1)


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_restart_forgets_no_alarm(tmp_path):
    path = tmp_path / "state" / "audits.json"
    monitor = AuditMonitor(CERTIFICATE, path=path)
    for _ in range(30):
        monitor.observe(True, confidences=[0.9])
    disagree(monitor)
    again = AuditMonitor(CERTIFICATE, path=path)
    assert again.alarms == monitor.alarms
    assert again.limit == monitor.limit
    assert again.to_dict() == monitor.to_dict()
    assert [file.name for file in path.parent.iterdir()] == ["audits.json"]
    assert not AuditMonitor(make(seed=1), path=path).alarms  # certified anew


@pytest.mark.no_cover
@settings(max_examples=25, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.integers(0, 60))
def test_a_restart_at_any_time_changes_nothing(tmp_path_factory, audits, cut):
    path = tmp_path_factory.mktemp("state") / "audits.json"
    whole, first = AuditMonitor(CERTIFICATE), AuditMonitor(CERTIFICATE, path=path)
    for agree in audits:
        whole.observe(agree, confidences=[0.95])
    for agree in audits[:cut]:
        first.observe(agree, confidences=[0.95])
    second = AuditMonitor(CERTIFICATE, path=path)
    for agree in audits[cut:]:
        second.observe(agree, confidences=[0.95])
    mine, other = second.to_dict(), whole.to_dict()
    for body in (mine, other):
        for alarm in body["alarms"]:
            del alarm["time"]
    assert mine == other


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 1, "certificate": null}'])
def test_a_broken_file_is_never_taken_for_no_alarm(tmp_path, content):
    path = tmp_path / "audits.json"
    path.write_text(content)
    with pytest.raises(AuditStateError, match="may have held an alarm"):
        AuditMonitor(max_disagreement=0.02, path=path)


def test_other_settings_keep_the_alarm_and_start_the_evidence_anew(tmp_path):
    path = tmp_path / "audits.json"
    monitor = AuditMonitor(max_disagreement=0.02, path=path)
    disagree(monitor)
    again = AuditMonitor(max_disagreement=0.03, path=path)
    assert again.limit == monitor.limit
    assert again.evidence == 0.0


def test_a_disk_that_cannot_be_written_is_said_and_harms_nobody(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monitor = AuditMonitor(CERTIFICATE, path=tmp_path / "file" / "audits.json")
    monitor.observe(True)
    assert "could not be written" in caplog.text


def test_threads_lose_no_audit():
    monitor = AuditMonitor(max_disagreement=0.9)
    threads = [
        threading.Thread(target=lambda: [monitor.observe(number % 5 > 0) for number in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (monitor.audits, monitor.disagreements) == (2000, 400)


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "max_disagreement"),
        ({"max_disagreement": 0.02, "level": 0.2}, "level"),
        ({"max_disagreement": 0.02, "ladder": ()}, "ladder"),
        ({"max_disagreement": 0.02, "ladder": "warn"}, "ladder"),
        ({"max_disagreement": 0.02, "ladder": ("stop",)}, "ladder"),
        ({"max_disagreement": 0}, "max_disagreement"),
        ({"max_disagreement": 0.02, "coverage": 1.2}, "coverage"),
        ({"max_disagreement": 0.02, "gold_within": -1}, "gold_within"),
    ],
)
def test_settings_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        AuditMonitor(**options)


def test_certificates_that_say_too_little_are_refused():
    refusal = certify(Outcomes.from_records([{"small": "a", "confidence": 0.5, "large": "a"}]))
    with pytest.raises(ValueError, match="NOT_CERTIFIED"):
        AuditMonitor(refusal)
    rows = [{"small": "a", "confidence": i / 4000, "large": "a", "group": str(i // 2)} for i in range(4000)]
    grouped = certify(Outcomes.from_records(rows))
    with pytest.raises(ValueError, match="groups"):
        AuditMonitor(grouped)
    assert AuditMonitor(grouped, max_disagreement=0.05).max_disagreement == 0.05
    correct = [{"confidence": i / 2000, "small_ok": True, "large_ok": True} for i in range(2000)]
    with pytest.raises(ValueError, match="does not say"):
        AuditMonitor(certify(Outcomes.from_records(correct)))


# --- in a router ----------------------------------------------------------------------------------------------------

SURE = {"a": 0.995, "b": 0.005}
LESS = {"a": 0.9, "b": 0.1}


class Listener(BaseCallbackHandler):
    def __init__(self):
        self.heard = []

    def on_custom_event(self, name, data, **_):
        self.heard.append((name, data))


def router(monitor: AuditMonitor, says: str = "b", **more: Any) -> tuple[ConfidenceRouter, list[Any]]:
    seen = []
    small = FakeSmallModel(lambda value: {"sure": SURE, "less": LESS}[value["text"]], labels=["a", "b"])

    def ask(value: dict) -> str:
        seen.append(value["dsplus"])
        return says

    options: dict[str, Any] = {"audit_rate": 1.0, "background": False, "include_route": True, **more}
    threshold = options.pop("threshold", monitor.certificate or 0.8)
    built = ConfidenceRouter(
        small=small, large=RunnableLambda(ask), threshold=threshold, monitor=monitor, version="v", **options
    )
    return built, seen


@pytest.mark.parametrize("async_", [False, True])
async def test_after_an_alarm_everything_goes_to_the_large_model(async_):
    monitor = AuditMonitor(CERTIFICATE)
    built, seen = router(monitor)
    listener = Listener()

    async def ask() -> Any:
        config = {"callbacks": [listener]}
        return await built.ainvoke({"text": "sure"}, config) if async_ else built.invoke({"text": "sure"}, config)

    first = await ask()
    assert (first["output"], first["route"]["certificate"]) == ("a", CERTIFICATE.id)
    for _ in range(20):
        await ask()
    last = await ask()
    assert monitor.alarms[0].rung == "large"
    assert (last["output"], last["route"]["reason"], last["route"]["threshold"]) == ("b", "alarm", None)
    assert "certificate" not in last["route"]
    assert seen[-1] == {"answer": None, "probabilities": {}}  # the plain prompt
    assert monitor.audits == monitor.accepted
    told = [data for name, data in listener.heard if name == "dsplus_alarm"]
    assert [data["kind"] for data in told] == ["evidence"]
    assert told[0]["certificate"] == CERTIFICATE.id


def test_a_tighter_threshold_is_a_fallback_without_promise():
    monitor = AuditMonitor(CERTIFICATE)
    built, _ = router(monitor, says="a")
    assert built.invoke({"text": "less"})["route"]["accepted"]
    for _ in range(100):
        monitor.observe(True, confidences=[0.99])
    while not monitor.alarms:
        monitor.observe(False, confidences=[0.9])
    assert monitor.alarms[0].rung == "tighter"
    less, sure = built.batch([{"text": "less"}, {"text": "sure"}])
    assert (less["route"]["accepted"], less["route"]["reason"]) == (False, "unsure")
    assert sure["route"]["accepted"]
    assert sure["route"]["threshold"] == monitor.limit.thresholds["small"]
    assert "certificate" not in sure["route"]
    stricter = built.invoke({"text": "sure"}, {"configurable": {"dsplus_threshold": 0.999}})
    assert not stricter["route"]["accepted"]  # the stricter of the two


def test_it_works_without_a_certificate_and_beside_a_recorder():
    rows: list[Any] = []

    class Rows:
        def record(self, row):
            rows.append(row)

    monitor = AuditMonitor(max_disagreement=0.05)
    built, _ = router(monitor, recorder=Rows())
    for _ in range(30):
        built.invoke({"text": "sure"})
    assert monitor.alarms
    assert {row["kind"] for row in rows} == {"route", "audit"}
    assert built.recorder_errors == 0
    attached, _ = router(AuditMonitor(max_disagreement=0.5))
    attached.monitor = monitor
    assert attached.invoke({"text": "sure"})["route"]["reason"] == "alarm"
    assert copy.deepcopy(attached).monitor is monitor


def test_a_monitor_of_another_certificate_is_refused():
    with pytest.raises(ValueError, match="another certificate"):
        router(AuditMonitor(CERTIFICATE), threshold=make(seed=3, wrong_below=0.5))
    rows = [{"small.x": "a", "confidence.x": 0.9, "small.y": "a", "confidence.y": 0.9, "large": "a"}] * 700
    several = certify(Outcomes.from_records(rows), path=[{"x": 0.5, "y": 0.5}])
    with pytest.raises(ValueError, match="small models"):
        router(AuditMonitor(several), threshold=0.8)


def test_a_limit_for_other_models_accepts_nothing():
    settings_ = Settings((0.5, 0.5), "live", 0.0)
    assert limited(settings_, {"x": 0.7, "y": 0.1}, ["x", "y"]).thresholds == (0.7, 0.5)
    assert limited(settings_, {"x": 0.1, "y": 0.1}, ["x", "y"]) is settings_
    other = limited(settings_, {"x": 0.7}, ["x", "y"])
    assert (other.thresholds, other.refused) == ((math.inf, math.inf), "alarm")
    assert limited(Settings((0.5,), "live", 0.0), {"tiny": 0.6}, ["small"]).thresholds == (0.6,)


def test_a_monitor_that_is_the_recorder_too_sees_everything_once():
    monitor = AuditMonitor(max_disagreement=0.5)
    built, _ = router(monitor, says="a", recorder=monitor)
    built.invoke({"text": "sure"})
    assert (monitor.inputs, monitor.audits) == (1, 1)


def test_something_else_is_no_monitor():
    with pytest.raises((TypeError, ValueError), match="AuditMonitor"):
        router(AuditMonitor(max_disagreement=0.1))[0].monitor = object()


def test_in_a_run_the_event_is_sent_at_once():
    monitor = AuditMonitor(max_disagreement=0.05)
    listener = Listener()
    RunnableLambda(lambda _: disagree(monitor)).invoke(None, {"callbacks": [listener]})
    assert [name for name, _ in listener.heard] == ["dsplus_alarm"]
    assert not list(monitor.events())


def test_drift_is_watched_along_and_changes_nothing():
    drift = DriftMonitor.from_certificate(CERTIFICATE, window=100)
    monitor = AuditMonitor(CERTIFICATE, drift=drift)
    built, _ = router(monitor, says="a", audit_rate=0.0)
    listener = Listener()
    for _ in range(11):
        built.batch([{"text": "sure"}] * 10, {"callbacks": [listener]})
    assert {data["kind"] for name, data in listener.heard if name == "dsplus_drift"} >= {"confidence"}
    assert monitor.limit is None


# --- planning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gold", ["B", " b", "b\n", "nan", "n/a", 1.0, True, "another"])
def test_gold_that_is_no_label_is_no_evidence(gold):
    monitor = AuditMonitor(CERTIFICATE)
    monitor.record(row("a", "b", "x"))
    with pytest.raises(ValueError, match=r"gold.*none of the labels"):
        monitor.observe_gold("x", gold)
    for nothing in (None, "", " ", float("nan")):
        assert not monitor.observe_gold("x", nothing)
    assert monitor.observe_gold("x", "b")  # it still waits
    assert monitor.harms == 1


def test_an_input_that_now_and_then_stands_twice_makes_no_groups():
    """Repeats count as groups in a certificate; a few of them leave the audits' bound as it is."""
    rows = [
        {"small": "a", "confidence": i / 1500, "large": "a", "input_hash": str(i if i > 20 else i % 10)}
        for i in range(1500)
    ]
    certificate = certify(Outcomes.from_records(rows), "3 points")
    assert certificate.groups is not None
    assert AuditMonitor(certificate).certificate is certificate
