"""Tables, certificates and lessons, question by question, from one call of the large model for all."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.decisions import ChoiceAnswer, ClassifierResponse, Noul, NoulAnswer, Score, ScoreAnswer
from langchain_core.messages import HumanMessage

from langchain_dsplus import Distiller, FakeSmallModel, JSONLRecorder, ModelRegistry, Outcomes
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.decisions import (
    CascadeDecisionModel,
    LocalDecisionModel,
    acollect_decision_outcomes,
    certify_decisions,
    collect_decision_outcomes,
    render_state,
    teaching_rows,
)
from langchain_dsplus.questions import from_typed, question_labels, to_typed
from tests.unit.decisions.parts import ANGER, QUESTIONS, TEAM, URGENT, Hosted, Rows, ask, request

BOTH = pytest.mark.parametrize("how", ["sync", "async"])


async def collect(how, cascade, rows, **options):
    options = {"progress": False, **options}
    if how == "sync":
        return collect_decision_outcomes(cascade, rows, **options)
    return await acollect_decision_outcomes(cascade, rows, **options)


def smalls():
    return {
        "team": FakeSmallModel({}, list(TEAM.criteria), default={"other": 0.8, "billing": 0.2}),
        "urgent": FakeSmallModel({}, default={"yes": 0.9, "no": 0.1}),
        "anger": FakeSmallModel({}, ["0", "1", "2"], default={"1": 0.7, "2": 0.3}),
    }


def cascade(large=None, **kwargs):
    local = LocalDecisionModel(smalls(), questions=QUESTIONS)
    return CascadeDecisionModel(small=local, large=large or Hosted(), **kwargs)


ROWS = [
    {"id": "a", "input": "one", "gold": {"team": "billing", "urgent": True, "anger": 2}},
    {"id": "b", "input": [HumanMessage("two")], "gold": {"team": None}},
    {"id": "c", "input": {"text": "three"}},
]


@BOTH
async def test_one_call_for_all_questions_and_a_table_for_each(how):
    large = Hosted()
    tables = await collect(how, cascade(large, threshold=0.5), ROWS)
    assert [sorted(questions) for _, questions in large.requests] == [sorted(QUESTIONS)] * 3
    assert {name: table.values("large") for name, table in tables.items()} == {
        "team": ["other"] * 3,
        "urgent": ["no"] * 3,
        "anger": ["1"] * 3,
    }
    assert {name: table.values("gold") for name, table in tables.items()} == {
        "team": ["billing", None, None],
        "urgent": ["yes", None, None],
        "anger": ["2", None, None],
    }
    assert tables["anger"].values("small") == ["1"] * 3
    assert tables["team"].values("confidence") == [0.8] * 3
    assert tables["urgent"].about["labels"] == ["yes", "no"]


@BOTH
async def test_the_certificates_fit_the_cascade(how):
    rows = [{"input": f"state {n}"} for n in range(400)]
    free = cascade(threshold=None)
    tables = await collect(how, free, rows)
    certificates = certify_decisions(tables, max_loss="2 points")
    assert {name: one.certified for name, one in certificates.items()} == {"team": True, "urgent": False, "anger": True}
    live = cascade(threshold=certificates, on_mismatch="raise")
    response = await ask(live, how, request("state 7"))
    assert [r["accepted"] for r in response.routes.values()] == [True, False, True]
    assert all(router.unverifiable == () for router in live.routers.values())


@BOTH
async def test_answers_that_were_paid_for_are_found_again(how, tmp_path):
    path = tmp_path / "answers.jsonl"
    large = Hosted(error=lambda _: ConnectionError("down") if len(large.requests) > 2 else None)
    options = {"path": path, "price": Price(input=1.0, output=1.0), "max_concurrency": 1}
    first = await collect(how, cascade(large), ROWS, **options)
    assert sorted(first["team"].values("large"), key=str) == [None, "other", "other"]
    large.error = None
    again = await collect(how, cascade(large), ROWS, **options)
    assert len(large.requests) == 4
    assert again["team"].values("large") == ["other"] * 3
    cost = [again[name].values("cost_large")[0] for name in QUESTIONS]
    assert sum(cost) == pytest.approx(303 / 1e6)


@BOTH
async def test_questions_behind_ids_are_told(how):
    model = CascadeDecisionModel(small=smalls(), large=Hosted())
    with pytest.raises(ValueError, match="questions="):
        await collect(how, model, ROWS)
    tables = await collect(how, model, [("one", True)], questions={"urgent": URGENT})
    assert (list(tables), tables["urgent"].values("gold")) == (["urgent"], ["yes"])
    with pytest.raises(ValueError, match="no small model"):
        await collect(how, model, ROWS, questions={"new": URGENT})


@pytest.mark.parametrize(
    ("gold", "match"),
    [({"team": "sales"}, "gold of 'team'"), ({"anger": 3}, "gold of 'anger'"), ({"new": 1}, "'new'"), ("x", "dict")],
)
def test_gold_that_is_no_label_is_refused_before_anything_is_paid(gold, match):
    large = Hosted()
    with pytest.raises(ValueError, match=match):
        collect_decision_outcomes(cascade(large), [{"input": "x", "gold": gold}], progress=False)
    assert large.requests == []


# --- losses -----------------------------------------------------------------------------------------------------------


class Says(Hosted):
    """Says what stands in the state: a probability, or an expected level."""

    def _classify(self, state, questions):
        told = {}
        for name, question in questions.items():
            number = float(state.split()[1])
            if isinstance(question, Noul):
                told[name] = NoulAnswer(type="noul", noul=number)
            else:
                low = math.floor(number)
                probabilities = {low: 1 - (number - low), low + 1: number - low} if number > low else {low: 1.0}
                told[name] = ScoreAnswer(
                    type="score", score=number, legend={}, probabilities=probabilities, confidence=0.5
                )
        return ClassifierResponse(model="says", answers=told)


def table_of(question, small, large, gold, **options):
    """One row: what both say as a number, and what is true."""
    labels = question_labels(question)

    def said(text):
        number = float(text.split()[0])
        if isinstance(question, Noul):
            return {"yes": number, "no": 1 - number}
        low = math.floor(number)
        return {labels[low]: 1 - (number - low), **({labels[low + 1]: number - low} if number > low else {})}

    cut = options.pop("cut", 0.5)
    local = LocalDecisionModel({"q": FakeSmallModel(said, labels)}, questions={"q": question}, cut=cut)
    row = {"input": f"{small} {large}", "gold": None if gold is None else {"q": gold}}
    model = CascadeDecisionModel(small=local, large=Says())
    return collect_decision_outcomes(model, [row], progress=False, **options)["q"]


def loss(table):
    from langchain_dsplus.threshold.differences import differences

    return differences(table).models[0].loss.tolist()[0]


@pytest.mark.parametrize(
    ("question", "small", "large", "gold", "options", "expected"),
    [
        (URGENT, 0.3, 0.4, None, {}, 0),
        (URGENT, 0.3, 0.4, None, {"cut": 0.35}, 1),
        (URGENT, 0.3, 0.4, False, {"cut": 0.35}, -1),
        (URGENT, 0.3, 0.4, None, {"tolerance": {"q": 0.1}}, 0),
        (URGENT, 0.3, 0.45, None, {"tolerance": {"q": 0.1}}, 1),
        (URGENT, 0.95, 0.7, True, {"tolerance": {"q": 0.1}}, -1),
        (URGENT, 0.7, 0.95, True, {"tolerance": {"q": 0.1}}, 1),
        (ANGER, 0.9, 1.1, None, {}, 0),
        (ANGER, 0.2, 1.1, None, {}, 1),
        (ANGER, 0.2, 1.1, None, {"tolerance": {"q": 1}}, 0),
        (ANGER, 0.6, 1.4, None, {"tolerance": {"q": 0.5}}, 1),  # one label, and too far all the same
        (ANGER, 1.5, 0.0, 2, {"tolerance": {"q": 0.5}}, -1),
        (ANGER, 0.0, 0.0, 2, {"tolerance": {"q": 0.5}}, 0),
    ],
)
def test_what_counts_as_a_loss(question, small, large, gold, options, expected):
    assert loss(table_of(question, small, large, gold, **options)) == expected


@given(st.data())
@settings(max_examples=40)
def test_a_tolerance_compares_numbers_with_the_truth(data):
    question = data.draw(st.sampled_from([URGENT, ANGER]))
    top = 1.0 if question is URGENT else 2.0
    numbers = st.integers(0, 20).map(lambda n: n * top / 20)
    small, large = data.draw(numbers), data.draw(numbers)
    gold = data.draw(st.sampled_from([None, *range(int(top) + 1)]))
    width = data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]))
    truth = gold if question is ANGER or gold is None else bool(gold)
    found = loss(table_of(question, small, large, truth, tolerance={"q": width}))
    if gold is None:
        assert found == int(abs(small - large) > width + 1e-9)
    else:
        assert found == int(abs(large - gold) <= width + 1e-9) - int(abs(small - gold) <= width + 1e-9)


@pytest.mark.parametrize("tolerance", [{"team": 1}, {"new": 1}, {"anger": -1}])
def test_a_tolerance_that_means_nothing_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        collect_decision_outcomes(cascade(), ROWS, tolerance=tolerance, progress=False)


# --- answers to and fro -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=5), st.floats(0, 1))
def test_a_choice_answer_converts_to_an_answer_and_back_without_loss(weights, confidence):
    labels = [f"label {n}" for n in range(len(weights))]
    question = TEAM.model_copy(update={"criteria": dict.fromkeys(labels)})
    probabilities = {label: weight / sum(weights) for label, weight in zip(labels, weights, strict=True)}
    typed = ChoiceAnswer(
        type="choice", choice=max(labels, key=probabilities.get), probabilities=probabilities, confidence=confidence
    )
    answer = from_typed(typed, question)
    assert to_typed(answer, question) == typed
    assert answer == {k: v for k, v in typed.model_dump().items() if k != "type"}
    assert from_typed(to_typed(answer, question), question) == answer


@given(st.floats(0, 1), st.integers(1, 19).map(lambda n: n / 20))
def test_a_noul_answer_keeps_its_probability_and_falls_on_its_side_of_the_cut(yes, cut):
    typed = NoulAnswer(type="noul", noul=yes)
    answer = from_typed(typed, URGENT, cut=cut)
    assert answer["choice"] == ("yes" if yes >= cut else "no")
    assert 0.5 <= answer["confidence"] <= 1.0
    assert to_typed(answer, URGENT) == typed


@given(st.lists(st.integers(0, 100), min_size=2, max_size=6).filter(sum), st.floats(0, 1))
def test_a_score_answer_keeps_its_distribution(weights, confidence):
    question = Score(instructions="How?", criteria=[f"level {n}" for n in range(len(weights))])
    probabilities = {level: weight / sum(weights) for level, weight in enumerate(weights)}
    typed = ScoreAnswer(
        type="score",
        score=math.fsum(level * p for level, p in probabilities.items()),
        legend=dict(enumerate(question.criteria)),
        probabilities=probabilities,
        confidence=confidence,
    )
    assert to_typed(from_typed(typed, question), question) == typed


# --- learning ---------------------------------------------------------------------------------------------------------


@BOTH
async def test_rows_teach_the_small_model_of_their_question_with_whole_distributions(how, tmp_path, team_model):
    path = tmp_path / "rows.jsonl"
    local = LocalDecisionModel({"team": team_model, "urgent": smalls()["urgent"]}, questions={"team": TEAM})
    state = [HumanMessage("the zebra"), HumanMessage("again")]
    with JSONLRecorder(path) as recorder:
        model = CascadeDecisionModel(
            small=local, large=Hosted(), threshold={"team": 0.8, "urgent": 0.5}, audit_rate=1.0, recorder=recorder
        )
        await ask(model, how, request(state, "team", "urgent"))
        await ask(model, how, request("refund my payment", "team", "urgent"))
        await ask(model, how, request("hello", "team"), {"configurable": {"dsplus_mode": "shadow"}})
        assert await model.adrain(10)
    rows = list(JSONLRecorder.read(path))
    target = {"billing": 0.15, "technical": 0.15, "other": 0.7}
    teaching = teaching_rows(rows, model, "team")
    assert teaching["large"] == [(render_state(state), target)]
    assert sorted(text for text, _ in teaching["audits"]) == ["hello", "refund my payment"]
    assert all(told == target for _, told in teaching["audits"])
    assert teaching_rows(rows, model, "urgent")["large"] == []
    assert len(teaching_rows(rows, model, "urgent")["audits"]) == 2


async def test_a_registry_keeps_the_small_model_of_a_question_and_the_cascade_follows(tmp_path, team_model):
    pytest.importorskip("skops")
    registry = ModelRegistry(tmp_path / "team")
    registry.start(team_model)
    rows = Rows()
    local = LocalDecisionModel({"team": registry.load()}, questions={"team": TEAM})
    model = CascadeDecisionModel(small=local, large=Hosted(), threshold={"team": None}, mode="shadow", recorder=rows)
    for place in range(60):
        await model.ainvoke(request(f"hello people {place}", "team"))
    assert await model.adrain(30)
    table = Outcomes.from_traces(rows.rows, router="team", about=model.routers["team"].about)
    certificate = registry.certify(table, max_loss="9 points", since_promotion=True)
    assert certificate.certified
    live = CascadeDecisionModel(small=local, large=Hosted(), threshold={"team": registry.certificate})
    assert live.invoke(request("hello people 7", "team")).routes["team"]["accepted"]
    teaching = teaching_rows(rows.rows, model, "team")
    assert len(teaching["audits"]) == 60
    gold = [("refund my payment", "billing"), ("the app crashes", "technical"), ("hello people", "other")]
    new = Distiller(registry.load()).distil(gold, **teaching).model
    version = registry.add(new, trained_on=[value for value, _ in [*gold, *teaching["audits"]]])
    live.put("team", registry.load(version.number))
    again = live.invoke(request("hello people 7", "team"))
    assert not again.routes["team"]["accepted"]  # nothing stays local until it is certified
    live.put("team", registry.load(version.number), threshold=0.4)
    assert live.invoke(request("hello people 7", "team")).routes["team"]["accepted"]
    with pytest.raises(ValueError, match="no small model"):
        live.put("new", new)
    with pytest.raises(ValueError, match="labels"):
        live.put("team", smalls()["urgent"])


def test_labels_that_cannot_be_told_apart_teach_nothing():
    local = LocalDecisionModel(
        {"q": FakeSmallModel({}, default={"spam": 0.5, "fraud": 0.3, "fine": 0.2})},
        questions={"q": URGENT},
        meanings={"q": {"spam": True, "fraud": True, "fine": False}},
    )
    with pytest.raises(ValueError, match="several labels"):
        teaching_rows([], CascadeDecisionModel(small=local, large=Hosted()), "q")


@BOTH
async def test_a_large_model_that_calls_itself_by_a_new_name_voids_the_certificates(how):
    tables = await collect(how, cascade(threshold=None, version="1"), [{"input": f"state {n}"} for n in range(400)])
    assert tables["team"].about["large_reported"] == ["hosted-1-2026"]
    certificates = certify_decisions(tables, max_loss="2 points")

    class Later(Hosted):
        def _classify(self, state, questions):
            return super()._classify(state, questions).model_copy(update={"model": "hosted-2"})

    live = cascade(Later(), threshold=certificates, version="1", on_mismatch="escalate_all")
    first = await ask(live, how, request("x"))
    assert first.routes["team"]["accepted"]
    assert not first.routes["urgent"]["accepted"]
    assert live.routers["urgent"].void == ("large_reported",)
    assert live.routers["team"].void == ()  # its question was not asked
    await ask(live, how, request("x"), {"configurable": {"dsplus_mode": "off"}})
    assert live.routers["team"].void == ("large_reported",)
