"""`CascadeDecisionModel`: the router underneath, one large call for the questions that are left, and what goes wrong."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.decisions import BaseDecisionModel, Box, BoxAnswer, BoxCoordinates, ClassifierResponse, NoulAnswer
from langchain_core.messages import HumanMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_dsplus import ConfidenceRouter, CostLedger, FakeSmallModel, JSONLRecorder, Outcomes, certify
from langchain_dsplus.answer import AttachmentError
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.decisions import (
    CascadeDecisionModel,
    CascadeResponse,
    DecisionSmallModel,
    LocalDecisionModel,
)
from langchain_dsplus.monitoring.audit import AuditMonitor
from langchain_dsplus.routing.binding import MismatchError
from langchain_dsplus.routing.decision import SettingsError
from tests.unit.decisions.parts import ANGER, QUESTIONS, TEAM, URGENT, Hosted, Rows, ask, ask_all, request

BOTH = pytest.mark.parametrize("how", ["sync", "async"])
NEW = URGENT.model_copy(update={"instructions": "Is it written in anger?"})


def smalls(**kwargs):
    """Sure about "easy", unsure about "team?" in one question and about "hard" in all, broken on "broken"."""
    labels = {"team": list(TEAM.criteria), "urgent": ["yes", "no"], "anger": ["0", "1", "2"]}
    models = {}
    for name, own in labels.items():
        sure = {label: 0.98 if label == own[0] else 0.02 / (len(own) - 1) for label in own}
        unsure = {label: 0.6 if label == own[0] else 0.4 / (len(own) - 1) for label in own}
        table = {"easy": sure, "team?": unsure if name == "team" else sure, "broken": ValueError("secret")}
        models[name] = FakeSmallModel(table, own, default=unsure, name=f"small_{name}", **kwargs)
    return models


def cascade(large=None, **kwargs):
    local = LocalDecisionModel(smalls(), questions=QUESTIONS)
    return CascadeDecisionModel(small=local, large=large or Hosted(), **{"threshold": 0.9, **kwargs})


@BOTH
async def test_each_question_goes_its_own_way_and_the_large_model_is_asked_once_about_the_rest(how):
    large = Hosted()
    model = cascade(large)
    assert isinstance(model, BaseDecisionModel)
    easy = await ask(model, how, request("easy"))
    assert large.requests == []
    assert (easy.choices["team"].choice, easy.nouls["urgent"].noul, easy.scores["anger"].legend[2]) == (
        "billing",
        0.98,
        "furious",
    )
    mixed = await ask(model, how, request("team?"))
    assert large.requests == [("team?", {"team": TEAM})]
    hard = await ask(model, how, request("hard"))
    assert large.requests[1:] == [("hard", QUESTIONS)]
    assert {n: r["model"] for n, r in mixed.routes.items()} == {
        "team": "large",
        "urgent": "small_urgent",
        "anger": "small_anger",
    }
    own = {name: Hosted.answer(question) for name, question in QUESTIONS.items()}
    assert hard.answers == own  # the large model's own, without loss
    assert mixed.answers == {**easy.answers, "team": own["team"]}
    assert (hard.model, hard.request_id, hard.usage["input_tokens"]) == ("hosted-1-2026", "req-1", 300)
    assert (easy.model, easy.usage) == ("cascade", None)
    assert isinstance(easy, CascadeResponse)


@BOTH
async def test_a_batch_is_one_batch_of_each_small_model_and_one_request_per_state_left(how):
    large, models = Hosted(), smalls()
    model = CascadeDecisionModel(small=models, large=large, threshold=0.9)
    requests = [request(state) for state in ("easy", "hard", "team?", "easy")]
    responses = await ask_all(model, how, requests)
    assert all(small.calls == [["easy", "hard", "team?", "easy"]] for small in models.values())
    assert sorted((state, sorted(questions)) for state, questions in large.requests) == [
        ("hard", ["anger", "team", "urgent"]),
        ("team?", ["team"]),
    ]
    alone = [await ask(model, how, one) for one in requests]
    assert [r.answers for r in responses] == [r.answers for r in alone]
    assert await ask_all(model, how, []) == []


@given(st.data())
@settings(max_examples=60)
def test_it_decides_as_a_router_of_each_question_alone(data):
    """The cascade is `ConfidenceRouter` per question: same answers, whoever is asked together with whom."""
    levels = [0.5, 0.7, 0.9]
    threshold = data.draw(st.sampled_from([0.6, 0.7, 0.95]))
    states = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4))
    tables = {
        name: {s: {"yes": p, "no": 1 - p} for s in "abcd" for p in [data.draw(st.sampled_from(levels))]}
        for name in ("one", "two", "three")
    }
    questions = {name: URGENT.model_copy(update={"instructions": name}) for name in tables}
    mode = data.draw(st.sampled_from(["live", "off"]))
    never = data.draw(st.sampled_from([(), ("yes",)]))
    models = {name: FakeSmallModel(table) for name, table in tables.items()}
    large = Hosted()
    model = CascadeDecisionModel(small=models, large=large, threshold=threshold, mode=mode, never_local=never)
    responses = model.batch([request(state, questions=questions) for state in states])
    for name, table in tables.items():
        router = ConfidenceRouter(
            small=FakeSmallModel(table),
            large=lambda _: {"choice": "large"},
            to_output=lambda answer, _: answer,
            threshold=threshold,
            mode=mode,
            never_local=never,
            include_route=True,
        )
        for state, response in zip(states, responses, strict=True):
            alone = router.invoke(state)["route"]
            mine = response.routes[name]
            for field in ("model", "accepted", "reason", "threshold", "answers"):
                assert mine[field] == alone[field]
            expected = table[state]["yes"] if alone["accepted"] else 0.3
            assert response.nouls[name].noul == expected
    asked = [sorted(left) for _, left in large.requests]
    assert len(asked) == sum(any(not r["accepted"] for r in x.routes.values()) for x in responses)


# --- who is asked -----------------------------------------------------------------------------------------------------


@BOTH
async def test_what_is_not_known_is_the_large_models(how):
    large = Hosted()
    response = await ask(cascade(large), how, {"state": "easy", "questions": {"team": TEAM, "new": NEW}})
    assert large.requests == [("easy", {"new": NEW})]
    assert response.nouls["new"].noul == 0.3
    assert "new" not in response.routes
    rows = Rows()
    recorded = cascade(large, recorder=rows)
    response = await ask(recorded, how, {"state": "easy", "questions": {"new": NEW}})
    (row,) = rows.rows  # so that it can be learned
    assert (row["router"], row["route"]["reason"], row["output"]["probabilities"]) == (
        "new",
        "off",
        {"yes": 0.3, "no": 0.7},
    )


@BOTH
async def test_media_are_the_large_models(how):
    large = Hosted()
    state = HumanMessage([{"type": "text", "text": "easy"}, {"type": "image", "url": "http://x/y.png"}])
    response = await ask(cascade(large), how, request(state))
    assert large.requests == [(state, QUESTIONS)]
    assert response.routes["team"]["error"].startswith("AttachmentError")


@BOTH
async def test_a_box_question_is_the_large_models(how):
    box = Box(instructions="Where is the cat?")

    class Boxes(Hosted):
        @staticmethod
        def answer(question):
            if question.type != "box":
                return Hosted.answer(question)
            return BoxAnswer(type="box", box=BoxCoordinates(top=0, bottom=1, left=0, right=1))

    response = await ask(
        cascade(Boxes(), recorder=Rows()), how, {"state": "easy", "questions": {"b": box, "team": TEAM}}
    )
    assert (response.boxes["b"].box.right, response.choices["team"].choice) == (1, "billing")


@BOTH
async def test_two_ids_of_one_question_are_two_decisions(how):
    rows = Rows()
    response = await ask(
        cascade(recorder=rows), how, {"state": "easy", "questions": {"team": TEAM, "desk": TEAM.model_copy()}}
    )
    assert len({r["route_id"] for r in response.routes.values()}) == 2 == len(rows.rows)
    assert response.answers["team"] == response.answers["desk"]


# --- what goes wrong --------------------------------------------------------------------------------------------------


@BOTH
async def test_a_small_model_that_fails_escalates(how):
    large = Hosted()
    response = await ask(cascade(large), how, request("broken"))
    assert large.requests == [("broken", QUESTIONS)]
    assert {r["reason"] for r in response.routes.values()} == {"error"}
    assert "secret" not in str(response.routes)


@BOTH
@pytest.mark.parametrize("error", [ConnectionError("down"), TimeoutError(), ValueError("bad reply")])
async def test_where_the_large_model_is_down_the_small_answers_stand_in(how, error):
    large = Hosted(error=error)
    response = await ask(cascade(large), how, request("hard"))
    assert response.choices["team"].choice == "billing"
    assert all(r["degraded"] and not r["accepted"] for r in response.routes.values())
    with pytest.raises(type(error)) as caught:
        await ask(cascade(large, on_large_error="raise"), how, request("team?"))
    assert caught.value.dsplus_finished.keys() == {"urgent", "anger"}
    for nobody in (request("broken"), {"state": "easy", "questions": {"new": NEW}}):
        with pytest.raises(type(error)):
            await ask(cascade(large), how, nobody)


@BOTH
async def test_what_must_never_be_local_never_stands_in(how):
    large = Hosted(error=ConnectionError("down"))
    for never in ({"urgent": [True]}, {"urgent": ["yes"]}, [True], ["yes"]):
        model = cascade(large, never_local=never)
        with pytest.raises(ConnectionError):
            await ask(model, how, request("easy", "urgent"))
        assert (await ask(model, how, request("easy", "team"))).choices["team"].choice == "billing"


@BOTH
async def test_one_failed_request_of_a_batch_leaves_the_others(how):
    large = Hosted(error=lambda questions: ConnectionError("down") if "new" in questions else None)
    requests = [request("hard"), {"state": "x", "questions": {"new": NEW}}, request("easy")]
    found = await ask_all(cascade(large), how, requests, return_exceptions=True)
    assert isinstance(found[1], ConnectionError)
    assert (found[0].choices["team"].choice, found[2].choices["team"].choice) == ("other", "billing")
    with pytest.raises(ConnectionError) as caught:
        await ask_all(cascade(large), how, requests)
    assert caught.value.dsplus_finished.keys() == {0, 2}


@BOTH
async def test_an_answer_that_is_missing_or_of_another_type_is_no_answer(how):
    class Odd(Hosted):
        def _classify(self, state, questions):
            found = super()._classify(state, questions)
            answers = {"team": NoulAnswer(type="noul", noul=1.0)}
            return found.model_copy(update={"answers": answers})

    response = await ask(cascade(Odd()), how, request("hard"))
    assert all(r["degraded"] for r in response.routes.values())
    with pytest.raises(ValueError, match="question 'team'"):
        await ask(cascade(Odd(), on_large_error="raise"), how, request("hard", "team"))


@BOTH
async def test_cancellation_passes_through(how):
    large = Hosted(error=asyncio.CancelledError() if how == "async" else KeyboardInterrupt())
    with pytest.raises(type(large.error)):
        await ask(cascade(large), how, request("hard"))


# --- everything that the router has -----------------------------------------------------------------------------------


@BOTH
async def test_shadow_answers_like_the_large_model_and_writes_down_what_the_small_ones_would(how):
    rows, large = Rows(), Hosted()
    model = cascade(large, mode="shadow", recorder=rows)
    response = await ask(model, how, request("easy"))
    assert await model.adrain(10)
    assert response.answers == {name: Hosted.answer(question) for name, question in QUESTIONS.items()}
    assert len(large.requests) == 1
    shadow = {row["route_id"]: row for row in rows.of("shadow")}
    assert {r["route_id"] for r in response.routes.values()} == shadow.keys()
    for row in rows.of("route"):
        table = Outcomes.from_traces([row, shadow[row["route_id"]]], about=model.routers[row["router"]].about)
        assert table.values("large") == [large_label(row["router"])]
        assert table.values("confidence") == [pytest.approx(0.98)]


def large_label(name):
    return {"team": "other", "urgent": "no", "anger": "1"}[name]


@BOTH
async def test_audits_ask_the_large_model_about_local_answers_in_the_background(how):
    rows, large = Rows(), Hosted()
    model = cascade(large, audit_rate=1.0, recorder=rows)
    response = await ask(model, how, request("easy"))
    assert await model.adrain(10)
    assert response.choices["team"].choice == "billing"
    assert {row["output"]["choice"] for row in rows.of("audit")} == {"other", "no", "1"}
    assert [state for state, _ in large.requests] == ["easy"] * 3


@BOTH
@pytest.mark.parametrize("word", ["off", "nonsense"])
async def test_the_kill_switch_holds(how, word, monkeypatch):
    models, large = smalls(), Hosted()
    model = CascadeDecisionModel(small=models, large=large, threshold=0.9)
    monkeypatch.setenv("DSPLUS_MODE", word)
    response = await ask(model, how, request("easy"))
    assert large.requests == [("easy", QUESTIONS)]
    assert {r["reason"] for r in response.routes.values()} == {"off"}
    assert all(small.calls == [] for small in models.values())


@BOTH
async def test_a_call_may_be_stricter_and_not_looser(how):
    model = cascade(mode="live")
    strict = {"configurable": {"dsplus_team_threshold": 0.99}}
    response = await ask(model, how, request("easy"), strict)
    assert [r["accepted"] for r in response.routes.values()] == [False, True, True]
    shadowed = cascade(mode="shadow")
    with pytest.raises(SettingsError):
        await ask(shadowed, how, request("easy"), {"configurable": {"dsplus_mode": "live"}})


@BOTH
async def test_the_ledger_counts_the_large_model_once_and_the_small_ones(how):
    prices = {"hosted-1-2026": Price(input=1.0, output=2.0)}
    with CostLedger(prices=prices) as ledger:
        model = cascade()
        for state in ("easy", "team?", "hard"):
            await ask(model, how, request(state))
        await ask_all(model, how, [request("easy"), request("hard")])
    rows = {(row["side"], row["model"]): row for row in ledger.table()}
    assert set(rows) == {("large", "hosted-1-2026"), *(("small", f"small_{name}") for name in QUESTIONS)}
    large = rows["large", "hosted-1-2026"]
    assert (large["calls"], large["input_tokens"], large["output_tokens"], large["unmetered"]) == (3, 700, 7, 0)
    assert all(row["calls"] == 5 for (side, _), row in rows.items() if side == "small")


@BOTH
async def test_rows_hold_the_large_models_whole_distribution_and_its_tokens_once(how, tmp_path):
    path = tmp_path / "rows.jsonl"
    with JSONLRecorder(path) as recorder:
        await ask(cascade(recorder=recorder), how, request("hard"))
    rows = list(JSONLRecorder.read(path))
    assert [row["router"] for row in rows] == list(QUESTIONS)
    assert [row["output"]["choice"] for row in rows] == ["other", "no", "1"]
    assert rows[1]["output"]["probabilities"] == {"yes": 0.3, "no": 0.7}
    assert [row.get("usage", {}).get("input_tokens") for row in rows] == [300, None, None]


@BOTH
async def test_traces_show_one_run_and_the_large_models_below_it(how):
    runs = RunCollectorCallbackHandler()
    await ask(cascade(), how, request("easy"), {"callbacks": [runs]})
    await ask(cascade(), how, request("hard"), {"callbacks": [runs]})
    easy, hard = runs.traced_runs
    assert easy.child_runs == []
    (child,) = hard.child_runs
    assert (child.name, "large" in child.tags, child.run_type) == ("Hosted", True, "llm")


@BOTH
async def test_handlers_hear_one_route_per_question(how):
    class Ears(BaseCallbackHandler):
        heard = []

        def on_custom_event(self, name, data, **kwargs):
            self.heard.append((name, data["route_id"]))

    ears = Ears()
    response = await ask(cascade(), how, request("team?"), {"callbacks": [ears]})
    assert sorted(ears.heard) == sorted(("dsplus_route", r["route_id"]) for r in response.routes.values())


async def test_embedded_small_models_take_one_thread_per_request_in_async_code():
    threads = []

    def seen(_):
        threads.append(threading.get_ident())
        return {"yes": 1.0, "no": 0.0}

    models = {name: FakeSmallModel(seen, ["yes", "no"]) for name in ("a", "b", "c")}
    model = CascadeDecisionModel(small=models, large=Hosted(), threshold=0.9)
    await model.ainvoke({"state": "x", "questions": dict.fromkeys(models, URGENT)})
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


@BOTH
async def test_a_small_model_that_takes_too_long_escalates(how):
    model = CascadeDecisionModel(
        small={"urgent": FakeSmallModel({}, default={"yes": 1.0, "no": 0.0}, latency=1.0)},
        large=Hosted(),
        small_timeout=0.05,
    )
    response = await ask(model, how, request("x", "urgent"))
    assert response.nouls["urgent"].noul == 0.3
    assert response.routes["urgent"]["reason"] == "error"


# --- certificates and settings ----------------------------------------------------------------------------------------


def certificate_for(model, name, *, sure=True, n=400):
    router = model.routers[name]
    labels = router.about["labels"]
    rows = [
        {
            "id": str(place),
            "small": labels[place % len(labels)],
            "confidence": 0.8 + 0.0004 * place,
            "large": labels[place % len(labels)] if sure else labels[(place + 1) % len(labels)],
        }
        for place in range(n)
    ]
    return certify(Outcomes.from_records(rows, about=router.about), max_loss=0.02)


@BOTH
async def test_one_certificate_per_question(how):
    free = cascade(version="1")
    told = {"team": certificate_for(free, "team"), "urgent": certificate_for(free, "urgent", sure=False), "anger": 0.9}
    assert [told["team"].certified, told["urgent"].certified] == [True, False]
    model = cascade(version="1", threshold=told)
    response = await ask(model, how, request("easy"))
    assert [r["accepted"] for r in response.routes.values()] == [True, False, True]
    assert response.routes["urgent"]["reason"] == "not_certified"
    assert response.routes["team"]["certificate"] == told["team"].id
    with pytest.raises(SettingsError):
        await ask(model, how, request("easy", "team"), {"configurable": {"dsplus_threshold": 0.1}})


def test_a_certificate_of_another_question_model_or_cut_is_refused():
    free = cascade(version="1")
    team, urgent = certificate_for(free, "team"), certificate_for(free, "urgent")
    with pytest.raises(MismatchError):
        cascade(version="1", threshold={"team": urgent})
    other = {**QUESTIONS, "team": TEAM.model_copy(update={"instructions": "Which desk?"})}
    local = LocalDecisionModel(smalls(), questions=other)
    with pytest.raises(MismatchError, match="large"):
        CascadeDecisionModel(small=local, large=Hosted(), version="1", threshold={"team": team})
    with pytest.raises(MismatchError, match="small"):
        models = {**smalls(), "team": FakeSmallModel({}, list(TEAM.criteria), default={"billing": 1.0})}
        local = LocalDecisionModel(models, questions=QUESTIONS)
        CascadeDecisionModel(small=local, large=Hosted(), version="1", threshold={"team": team})
    local = LocalDecisionModel(smalls(), questions=QUESTIONS, cut={"urgent": 0.2})
    with pytest.raises(MismatchError, match="score"):
        CascadeDecisionModel(small=local, large=Hosted(), version="1", threshold={"urgent": urgent})
    with pytest.raises(MismatchError, match="large"):
        cascade(version="2", threshold={"team": team})
    with pytest.raises(ValueError, match="one certificate for 3 questions"):
        cascade(threshold=team)


async def test_an_alarm_on_one_question_leaves_the_others():
    free = cascade(version="1")
    told = {"team": certificate_for(free, "team"), "urgent": 0.9, "anger": 0.9}
    monitor = AuditMonitor(told["team"])
    model = cascade(version="1", threshold=told, monitor={"team": monitor}, audit_rate={"team": 1.0})
    for _ in range(400):
        monitor.observe(False)
    response = model.invoke(request("easy"))
    assert [r["reason"] for r in response.routes.values()] == ["alarm", "confident", "confident"]


@BOTH
async def test_a_setting_of_one_router_takes_effect(how):
    model = cascade()
    model.routers["team"].threshold = None
    response = await ask(model, how, request("easy"))
    assert [r["accepted"] for r in response.routes.values()] == [False, True, True]


def test_questions_without_a_threshold_are_the_large_models():
    response = cascade(threshold={"team": 0.9}).invoke(request("easy"))
    assert [r["accepted"] for r in response.routes.values()] == [True, False, False]


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"threshold": {"tema": 0.9}}, ValueError, "tema"),
        ({"never_local": {"team": ["sales"]}}, ValueError, "labels"),
        ({"mod": "live"}, TypeError, "mod"),
        ({"mode": "on"}, ValueError, "mode"),
        ({"threshold": float("nan")}, ValueError, "threshold"),
        ({"large": object()}, TypeError, "large"),
        ({"small": object()}, TypeError, "large"),
        ({"small": {}}, ValueError, "at least one"),
    ],
)
def test_what_is_malformed_is_refused_at_once(settings, error, match):
    local = LocalDecisionModel(smalls(), questions=QUESTIONS)
    with pytest.raises(error, match=match):
        CascadeDecisionModel(**{"small": local, "large": Hosted(), **settings})


# --- a cut ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "cut", "choice", "confidence"),
    [(0.3, 0.2, "yes", 0.5625), (0.1, 0.2, "no", 0.75), (0.2, 0.2, "yes", 0.5), (1.0, 0.2, "yes", 1.0)],
)
def test_the_cut_of_a_noul_moves_the_label_and_the_confidence_not_the_probability(yes, cut, choice, confidence):
    local = LocalDecisionModel({"urgent": FakeSmallModel({}, default={"yes": yes, "no": 1 - yes})}, cut=cut)
    response = CascadeDecisionModel(small=local, large=Hosted(), threshold=0.0).invoke(request("x", "urgent"))
    (answer,) = response.routes["urgent"]["answers"]
    assert (answer["choice"], answer["confidence"]) == (choice, pytest.approx(confidence))
    assert response.nouls["urgent"].noul == pytest.approx(yes)


# --- decision models as small models ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("question", [TEAM, URGENT, ANGER], ids=["choice", "noul", "score"])
async def test_a_decision_model_in_front_of_a_chain(how, question):
    hosted = Hosted()
    small = DecisionSmallModel(hosted, question, name="cheap")
    router = ConfidenceRouter(
        small=small, large=lambda _: "large", to_output=lambda a, _: a["choice"], threshold=0.5, include_route=True
    )
    found = await ask(router, how, "a text")
    own = Hosted.answer(question)
    (answer,) = found["route"]["answers"]
    assert hosted.requests == [("a text", {"question": question})]
    assert answer["choice"] == {"choice": "other", "noul": "no", "score": "1"}[question.type]
    assert answer["confidence"] == getattr(own, "confidence", 0.7)
    assert found["route"]["model"] == "cheap"


@BOTH
async def test_a_decision_model_that_fails_escalates(how):
    small = DecisionSmallModel(Hosted(error=ConnectionError("down")), URGENT)
    router = ConfidenceRouter(small=small, large=lambda _: "large", to_output=lambda a, _: a["choice"])
    assert await ask(router, how, "x") == "large"


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: m.with_retry(), lambda m: m.with_config(tags=["x"])])
def test_a_decision_model_as_small_is_told_how(wrap):
    with pytest.raises(TypeError, match="DecisionSmallModel"):
        ConfidenceRouter(small=wrap(Hosted()), large=lambda _: "large", to_output=lambda a, _: a["choice"])
    with pytest.raises(TypeError, match="DecisionSmallModel"):
        LocalDecisionModel({"urgent": wrap(Hosted())})


@BOTH
async def test_a_hosted_model_may_be_the_small_side(how):
    cheap, large = Hosted(), Hosted()
    model = CascadeDecisionModel(small=cheap, large=large, threshold={"team": 0.5, "urgent": 0.9, "anger": 0.9})
    response = await ask(model, how, request("x"))
    assert [r["accepted"] for r in response.routes.values()] == [True, False, False]
    assert len(cheap.requests) == 3
    assert [list(questions) for _, questions in large.requests] == [["urgent", "anger"]]


@BOTH
@pytest.mark.parametrize("wrap", [lambda m: m.with_retry(), lambda m: m.with_fallbacks([Hosted()])])
async def test_a_large_model_may_be_wrapped(how, wrap):
    response = await ask(cascade(wrap(Hosted())), how, request("hard"))
    assert response.choices["team"].choice == "other"


def test_a_media_error_of_the_local_model_alone_is_no_answer():
    with pytest.raises(AttachmentError):
        LocalDecisionModel(smalls()).invoke(request("data:image/png;base64,aGk="))


def test_response_is_langchains():
    assert issubclass(CascadeResponse, ClassifierResponse)
    dumped = cascade().invoke(request("team?")).model_dump(mode="json")
    assert dumped["routes"]["team"]["model"] == "large"
