"""What every decision model must do, in the form of `langchain-tests`, which has none for them: all of ours, one by one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.decisions import BaseDecisionModel, ClassifierResponse
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.decisions import CascadeDecisionModel, LocalDecisionModel, as_decisions
from tests.unit.decisions.parts import TEAM, URGENT, Hosted, ask, ask_all
from tests.unit.decisions.test_large import Chat, first_labels

BOTH = pytest.mark.parametrize("how", ["sync", "async"])
STATES = ["a text", HumanMessage("a message"), [HumanMessage("one"), AIMessage("two")], {"json": [1, None]}, [], ""]


def small(question):
    labels = ["yes", "no"] if question is URGENT else list(TEAM.criteria)
    return FakeSmallModel(lambda _: {labels[0]: 0.8, labels[1]: 0.2}, labels)


def local():
    return LocalDecisionModel({"team": small(TEAM), "urgent": small(URGENT)})


def router():
    chain = ConfidenceRouter(
        small=small(URGENT), large=lambda _: "no", to_output=lambda a, _: a["choice"], threshold=0.7
    )
    return chain.as_decision_model(URGENT)


MODELS = {
    "local": local,
    "cascade": lambda: CascadeDecisionModel(small=local(), large=Hosted(), threshold=0.7),
    "cascade, all large": lambda: CascadeDecisionModel(small=local(), large=Hosted(), threshold=None),
    "router": router,
    "chat": lambda: as_decisions(Chat(reply=first_labels)),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture
def questions(model):
    return {"urgent": URGENT} if model.get_name().startswith("Router") else {"team": TEAM, "urgent": URGENT}


@BOTH
@pytest.mark.parametrize("state", STATES, ids=lambda state: type(state).__name__)
async def test_every_state_gets_typed_answers_in_the_questions_order(model, questions, how, state):
    response = await ask(model, how, {"state": state, "questions": questions})
    assert isinstance(model, BaseDecisionModel)
    assert isinstance(response, ClassifierResponse)
    assert list(response.answers) == list(questions)
    assert {name: answer.type for name, answer in response.answers.items()} == {n: q.type for n, q in questions.items()}
    assert 0.0 <= response.nouls["urgent"].noul <= 1.0
    for choice in response.choices.values():
        assert choice.choice in TEAM.criteria
        assert sum(choice.probabilities.values()) == pytest.approx(1.0)
    assert ClassifierResponse.model_validate_json(response.model_dump_json()).answers == response.answers


@BOTH
async def test_a_batch_gives_what_single_requests_give(model, questions, how):
    requests = [{"state": state, "questions": questions} for state in STATES]
    alone = [await ask(model, how, one) for one in requests]
    assert [r.answers for r in await ask_all(model, how, requests)] == [r.answers for r in alone]
    configs = [{"tags": [str(place)]} for place in range(len(requests))]
    assert len(await ask_all(model, how, requests, configs)) == len(requests)


@BOTH
async def test_a_run_says_what_it_is(model, questions, how):
    runs = RunCollectorCallbackHandler()
    await ask(model, how, {"state": "x", "questions": questions}, {"callbacks": [runs], "run_name": "mine"})
    (run,) = runs.traced_runs
    told = run.extra["metadata"]
    assert (run.name, run.run_type, told["ls_model_name"], told["ls_model_type"]) == (
        "mine",
        "llm",
        model.model,
        "chat",
    )
    assert told["ls_provider"] == "langchain_dsplus"


@BOTH
async def test_it_composes(model, questions, how):
    chain = RunnableLambda(lambda text: {"state": text, "questions": questions}) | model.with_retry()
    chain = chain | RunnableLambda(lambda response: response.nouls["urgent"].noul)
    assert 0.0 <= await ask(chain, how, "x") <= 1.0


def test_threads_do_not_get_in_each_others_way(model, questions):
    requests = [{"state": f"state {place}", "questions": questions} for place in range(40)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model.invoke, requests))
    assert all(list(response.answers) == list(questions) for response in found)


@BOTH
async def test_what_is_no_question_fails_its_own_request_alone(model, questions, how):
    requests = [{"state": "x", "questions": {"urgent": "Is it?"}}, {"state": "x", "questions": questions}]
    bad, good = await ask_all(model, how, requests, return_exceptions=True)
    assert isinstance(bad, (TypeError, ValueError))
    assert list(good.answers) == list(questions)
