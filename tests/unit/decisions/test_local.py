"""`LocalDecisionModel`: which small model answers which question, from which state, and as what."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.decisions import BaseDecisionModel, Box, Choice, Noul, NoulCriteria, Score
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_dsplus import FakeSmallModel
from langchain_dsplus.answer import AttachmentError, InputError
from langchain_dsplus.decisions import LocalDecisionModel, UnknownQuestionError, render_state
from langchain_dsplus.questions import fingerprint
from tests.unit.decisions.parts import ANGER, QUESTIONS, TEAM, URGENT, ask, ask_all, request

BOTH = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.fixture
def local(team_model, urgent_model, anger_model):
    models = {"team": team_model, "urgent": urgent_model, "anger": anger_model}
    return LocalDecisionModel(models, questions=QUESTIONS)


@BOTH
async def test_answers_are_of_the_questions_types_with_the_small_models_numbers(local, team_model, how):
    response = await ask(local, how, request("the app crashes"))
    said = team_model.invoke("the app crashes")
    assert isinstance(local, BaseDecisionModel)
    assert response.choices["team"].model_dump() == {"type": "choice", **said}
    assert response.nouls["urgent"].noul > 0.5
    score = response.scores["anger"]
    assert score.score == pytest.approx(sum(level * p for level, p in score.probabilities.items()))
    assert score.legend == {0: "calm", 1: "annoyed", 2: "furious"}
    assert list(response.answers) == list(QUESTIONS)


@BOTH
async def test_a_batch_is_one_call_of_each_small_model(how):
    first, second = FakeSmallModel({}, default={"yes": 1.0, "no": 0.0}), FakeSmallModel({}, default={"0": 1, "1": 0})
    score = Score(instructions="How?", criteria=["a", "b"])
    local = LocalDecisionModel({"one": first, "two": second})
    questions = {"one": URGENT, "two": score}
    requests = [request(text, *names, questions=questions) for text, names in (("a", ["one"]), ("b", []), ("c", []))]
    responses = await ask_all(local, how, requests)
    assert [list(r.answers) for r in responses] == [["one"], ["one", "two"], ["one", "two"]]
    assert (first.calls, second.calls) == ([["a", "b", "c"]], [["b", "c"]])


@BOTH
async def test_one_bad_request_does_not_spoil_a_batch(local, how):
    good, bad = request("the app crashes", "team"), {"state": "x", "questions": {"new": URGENT.model_copy()}}
    bad["questions"]["new"].instructions = "Something else?"
    found = await ask_all(local, how, [good, bad], return_exceptions=True)
    assert found[0].choices["team"].choice == "technical"
    assert isinstance(found[1], UnknownQuestionError)
    with pytest.raises(UnknownQuestionError) as caught:
        await ask_all(local, how, [good, bad])
    assert caught.value.dsplus_finished.keys() == {0}


async def test_a_question_is_known_by_what_it_is_under_any_id(local):
    twin = TEAM.model_copy(update={"instructions": "Which  team should\nhandle this?"})
    response = local.invoke({"state": "refund my payment", "questions": {"model_route": twin}})
    assert response.choices["model_route"].choice == "billing"


@pytest.mark.parametrize(
    "other",
    [
        TEAM.model_copy(update={"instructions": "Which desk?"}),
        TEAM.model_copy(update={"criteria": {**TEAM.criteria, "sales": None}}),
        TEAM.model_copy(update={"criteria": {**TEAM.criteria, "other": "What is left."}}),
        URGENT,
        Box(instructions="Where?"),
    ],
)
def test_another_question_under_a_known_id_is_not_answered(team_model, other):
    local = LocalDecisionModel({"team": team_model}, questions={"team": TEAM})
    with pytest.raises(UnknownQuestionError, match="team"):
        local.invoke({"state": "refund", "questions": {"team": other}})


def test_an_id_alone_takes_whatever_fits_its_labels(team_model):
    local = LocalDecisionModel({"team": team_model})
    other = TEAM.model_copy(update={"instructions": "Which desk?"})
    assert (
        local.invoke({"state": "refund my payment", "questions": {"team": other}}).choices["team"].choice == "billing"
    )
    for misfit in (URGENT, ANGER, Choice(instructions="Which?", criteria={"a": None}), Box(instructions="Where?")):
        with pytest.raises(UnknownQuestionError, match="team"):
            local.invoke({"state": "refund", "questions": {"team": misfit}})
    with pytest.raises(UnknownQuestionError, match="'urgent'"):
        local.invoke({"state": "refund", "questions": {"urgent": URGENT}})


def test_pairs_of_questions_and_models_need_no_id(team_model, urgent_model):
    local = LocalDecisionModel([(TEAM, team_model), (URGENT, urgent_model)])
    response = local.invoke({"state": "refund my payment", "questions": {"x": TEAM, "y": URGENT}})
    assert response.choices["x"].choice == "billing"
    assert response.nouls["y"].noul < 0.5


@given(st.text(min_size=1), st.one_of(st.none(), st.text()), st.one_of(st.none(), st.integers(), st.lists(st.text())))
def test_a_fingerprint_tells_questions_apart_and_nothing_else(instructions, true, false):
    one = Noul(instructions=instructions, criteria=NoulCriteria(true=true, false=false))
    assert fingerprint(one) == fingerprint(Noul.model_validate(json.loads(one.model_dump_json())))
    assert fingerprint(one) != fingerprint(one.model_copy(update={"instructions": [instructions, "x"]}))
    assert fingerprint(one) != fingerprint(Score(instructions=instructions, criteria=[true, false]))


def test_the_order_of_choices_does_not_count_that_of_levels_does():
    flipped = Choice(instructions=TEAM.instructions, criteria=dict(reversed(TEAM.criteria.items())))
    assert fingerprint(flipped) == fingerprint(TEAM)
    upside_down = Score(instructions=ANGER.instructions, criteria=list(reversed(ANGER.criteria)))
    assert fingerprint(upside_down) != fingerprint(ANGER)


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "labels", "meanings"),
    [
        (URGENT, ["late", "fine"], {"late": True, "fine": False}),
        (URGENT, ["NO", "Yes"], None),
        (ANGER, ["furious", "calm", "annoyed"], None),
        (ANGER, ["red", "green"], {"red": 2, "green": 0}),
        (TEAM, ["pay", "bug"], {"pay": "billing", "bug": "technical"}),
        (TEAM, ["billing", "technical"], None),
    ],
)
def test_labels_stand_for_answers(question, labels, meanings):
    small = FakeSmallModel({}, labels, default={labels[0]: 0.75, labels[1]: 0.25})
    local = LocalDecisionModel(
        {"q": small}, questions={"q": question}, meanings={} if meanings is None else {"q": meanings}
    )
    answer = local.invoke({"state": "x", "questions": {"any": question}}).answers["any"]
    if question is URGENT:
        assert answer.noul == (0.75 if labels[0] == "late" else 0.25)
    elif question is ANGER:
        assert answer.probabilities[2] == 0.75
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.confidence == 0.75
    else:
        assert (answer.choice, answer.confidence) == ("billing", 0.75)
        assert answer.probabilities == {"billing": 0.75, "technical": 0.25, "other": 0.0}


def test_several_labels_may_stand_for_one_answer():
    small = FakeSmallModel({}, default={"spam": 0.4, "fraud": 0.35, "fine": 0.25})
    told = {"spam": True, "fraud": True, "fine": False}
    local = LocalDecisionModel({"bad": small}, meanings={"bad": told})
    assert local.invoke({"state": "x", "questions": {"bad": URGENT}}).nouls["bad"].noul == pytest.approx(0.75)
    with pytest.raises(ValueError, match="max_probability"):
        LocalDecisionModel(
            {"bad": FakeSmallModel({}, default=small.default).model_copy(update={"score": "energy"})},
            questions={"bad": URGENT},
            meanings={"bad": told},
        )


@pytest.mark.parametrize(
    ("question", "labels", "meanings", "match"),
    [
        (URGENT, ["late", "fine"], None, r"meanings=\{'late': True"),
        (URGENT, ["yes", "no", "maybe"], None, "meanings="),
        (URGENT, ["True", "yes"], None, "meanings="),
        (ANGER, ["low", "mid", "high"], None, r"meanings=\{'low': 0"),
        (TEAM, ["billing", "sales"], None, "meanings="),
        (TEAM, ["a", "b"], {"a": "billing"}, "every label"),
        (ANGER, ["a", "b"], {"a": 0, "b": 3}, "none of them"),
    ],
)
def test_labels_that_are_not_the_questions_are_refused_at_once(question, labels, meanings, match):
    small = FakeSmallModel({}, labels, default={labels[0]: 1.0})
    with pytest.raises(ValueError, match=match):
        LocalDecisionModel({"q": small}, questions={"q": question}, meanings=meanings and {"q": meanings})


@pytest.mark.parametrize("score", ["entropy", lambda p: -5.0])
def test_a_confidence_outside_0_to_1_becomes_the_largest_probability(score):
    small = FakeSmallModel({}, default={"billing": 0.75, "technical": 0.25}, score=score)
    local = LocalDecisionModel({"team": small})
    assert local.invoke({"state": "x", "questions": {"team": TEAM}}).choices["team"].confidence == 0.75


def test_names_that_mean_nothing_are_refused(team_model):
    for setting in ({"questions": {"x": TEAM}}, {"cut": {"x": 0.5}}, {"read": {"x": "text"}}):
        with pytest.raises(ValueError, match="x"):
            LocalDecisionModel({"team": team_model}, **setting)
    with pytest.raises(TypeError, match="question must be"):
        LocalDecisionModel([(object(), team_model)])
    with pytest.raises(ValueError, match="at least one"):
        LocalDecisionModel({})
    with pytest.raises(ValueError, match="cut"):
        LocalDecisionModel({"team": team_model}, questions={"team": TEAM}, cut=1.0)


# --- states -----------------------------------------------------------------------------------------------------------

CALL = {"name": "delete", "args": {"b": 1, "a": "x"}, "id": "call-7", "type": "tool_call"}
STATES = [
    ("a text", "a text"),
    (HumanMessage("hi", id="m1"), "hi"),
    ([HumanMessage("hi"), AIMessage("yes?")], "human: hi\nai: yes?"),
    (AIMessage("", tool_calls=[CALL]), 'delete({"a": "x", "b": 1})'),
    ([ToolMessage("done", tool_call_id="call-7")], "tool: done"),
    ({"b": [1, None, True], "a": {"c": HumanMessage("hi")}}, '{"a": {"c": "human: hi"}, "b": [1, null, true]}'),
    ({"tool_call": CALL}, '{"tool_call": {"args": {"a": "x", "b": 1}, "name": "delete", "type": "tool_call"}}'),
    ([], "[]"),
    (["a", "b"], '["a", "b"]'),
    ([HumanMessage([{"type": "text", "text": "hi"}])], "human: hi"),
]


@pytest.mark.parametrize(("state", "text"), STATES)
def test_states_are_read_as_text(state, text):
    small = FakeSmallModel({text: {"yes": 1.0, "no": 0.0}})
    assert render_state(state) == text
    assert LocalDecisionModel({"q": small}).invoke({"state": state, "questions": {"q": URGENT}}).nouls["q"].noul == 1.0


IMAGE = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}


@BOTH
@pytest.mark.parametrize(
    "state",
    [
        HumanMessage([{"type": "text", "text": "look"}, IMAGE]),
        [AIMessage("ok"), HumanMessage([IMAGE])],
        {"scan": IMAGE},
        {"deep": [{"er": {"messages": [HumanMessage([{"type": "file", "file_id": "f"}])]}}]},
        "data:image/png;base64,aGk=",
    ],
)
async def test_media_are_a_clear_error_unless_told_otherwise(local, team_model, how, state):
    with pytest.raises(AttachmentError, match="read="):
        await ask(local, how, request(state))
    reading = LocalDecisionModel({"team": team_model}, read=lambda state: "refund my payment")
    response = await ask(reading, how, request(state, "team"))
    assert response.choices["team"].choice == "billing"


def test_a_state_that_is_no_json_is_a_clear_error(local):
    with pytest.raises(InputError, match="object"):
        local.invoke(request({"a": object()}, "team"))
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InputError):
        local.invoke(request({"a": nested}, "team"))


def test_a_model_with_an_input_key_gets_that_key():
    small = FakeSmallModel({"refund": {"billing": 1.0}}, ["billing", "technical"], input_key="text")
    local = LocalDecisionModel({"team": small})
    state = {"text": "refund", "customer": "c1"}
    assert local.invoke(request(state, "team")).choices["team"].choice == "billing"


def test_a_run_is_one_run_of_langchains_kind(local):
    runs = RunCollectorCallbackHandler()
    local.invoke(request("refund my payment"), {"callbacks": [runs]})
    (run,) = runs.traced_runs
    assert (run.run_type, run.extra["metadata"]["ls_model_name"], run.child_runs) == ("llm", "local", [])
