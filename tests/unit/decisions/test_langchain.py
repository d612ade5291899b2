"""LangChain's own agents and middlewares over our models: one argument is swapped."""

import pytest

# ruff: noqa: E402 - what follows needs these
middleware = pytest.importorskip("langchain.agents.middleware")
pytest.importorskip("sklearn")
from langchain.agents import create_agent
from langchain_core.decisions import Choice, Noul
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from langchain_dsplus import ConfidenceRouter, SentenceClassifier, SklearnClassifier
from langchain_dsplus.answer import InvalidAnswerError
from langchain_dsplus.decisions import CascadeDecisionModel, LocalDecisionModel, UnknownQuestionError, render_state
from tests.unit.decisions.parts import Hosted, ask, trained

BOTH = pytest.mark.parametrize("how", ["sync", "async"])
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")


class Says(GenericFakeChatModel):
    """A chat model that says the same for ever, and takes tools."""

    reply: object
    messages: object = iter(())

    def _generate(self, messages, *args, **kwargs):
        self.messages = iter([self.reply(messages)])
        return super()._generate(messages, *args, **kwargs)

    def bind_tools(self, tools, **kwargs):
        return self


def says(text):
    return Says(reply=lambda messages: AIMessage(text))


# --- ModelRouterMiddleware --------------------------------------------------------------------------------------------

ROUTE = {"billing": "Payments.", "technical": "Bugs.", "other": "All else."}


def routed(classifier):
    router = middleware.ModelRouterMiddleware(
        choices={n: middleware.ModelChoice(model=says(f"from {n}"), criteria=c) for n, c in ROUTE.items()},
        instructions="Which model suits the task?",
        classifier=classifier,
    )
    return create_agent(says("from nobody"), middleware=[router])


async def reply(agent, how, text):
    found = await ask(agent, how, {"messages": [HumanMessage(text)]})
    return found["messages"][-1].content, found["model_route"]


@BOTH
async def test_the_model_router_runs_on_a_local_model(how, team_model):
    agent = routed(LocalDecisionModel({"model_route": team_model}))
    content, route = await reply(agent, how, "refund my payment")
    assert (content, route.choice, route.model_dump()) == (
        "from billing",
        "billing",
        {"type": "choice", **team_model.invoke("refund my payment")},
    )
    assert (await reply(agent, how, "the app crashes"))[0] == "from technical"


@BOTH
async def test_the_model_router_runs_on_a_cascade_and_goes_on_where_the_hosted_model_is_down(how, team_model):
    question = Choice(instructions="Which model suits the task?", criteria=ROUTE)
    hosted = Hosted()
    local = LocalDecisionModel({"route": team_model}, questions={"route": question})
    agent = routed(CascadeDecisionModel(small=local, large=hosted, threshold=0.7))
    assert (await reply(agent, how, "refund my payment"))[0] == "from billing"
    assert hosted.requests == []
    assert (await reply(agent, how, "zebra"))[0] == "from other"  # as the hosted one says
    ((state, questions),) = hosted.requests
    assert (state.content, questions["model_route"]) == ("zebra", question)
    hosted.error = ConnectionError("down")
    content, route = await reply(agent, how, "zebra")
    assert content == f"from {team_model.invoke('zebra')['choice']}"
    assert route.confidence < 0.7
    with pytest.raises(ConnectionError):
        await reply(routed(hosted), how, "zebra")  # as it is without us


@pytest.mark.encoder
@BOTH
async def test_the_model_router_runs_on_an_encoder_with_a_head(how, encoder_path):
    head = SentenceClassifier(str(encoder_path)).fit(
        ["refund my money", "wrong invoice", "it crashes", "error on export", "who are you", "nice weather"],
        ["billing", "billing", "technical", "technical", "other", "other"],
    )
    agent = routed(CascadeDecisionModel(small={"model_route": head}, large=Hosted(), threshold=0.4))
    content, route = await reply(agent, how, "I want my payment back")
    assert (content, route.choice) == ("from billing", "billing")


@BOTH
async def test_the_model_router_runs_on_a_router(how, team_model):
    question = Choice(instructions="Which model suits the task?", criteria=ROUTE)
    asked = []

    def ask_large(value) -> str:
        asked.append(value)
        return "no idea" if value == "yak" else "Other."

    router = ConfidenceRouter(
        small=team_model, large=RunnableLambda(ask_large), threshold=0.7, include_route=True, name="desk"
    )
    model = router.as_decision_model(question, to_input=render_state)
    agent = routed(model)
    content, route = await reply(agent, how, "refund my payment")
    assert (content, route.model_dump()) == (
        "from billing",
        {"type": "choice", **team_model.invoke("refund my payment")},
    )
    content, route = await reply(agent, how, "zebra")
    assert (content, asked, route.probabilities["other"]) == ("from other", ["zebra"], 1.0)
    with pytest.raises(UnknownQuestionError):
        await ask(model, how, {"state": "x", "questions": {"q": Noul(instructions="?")}})
    with pytest.raises(ValueError, match="meanings"):
        router.as_decision_model(Noul(instructions="?"))
    noul = router.as_decision_model(
        Noul(instructions="A bug?"),
        meanings={"billing": False, "technical": True, "other": False},
        to_input=render_state,
    )
    request = {"state": "the app crashes", "questions": {"bug": noul.question}}
    said = team_model.invoke("the app crashes")["probabilities"]["technical"]
    response = await ask(noul, how, request)
    assert (response.nouls["bug"].noul, response.model) == (pytest.approx(said), "small")
    with pytest.raises(InvalidAnswerError, match="none of the question"):
        await ask(model, how, {"state": "yak", "questions": {"q": question}})


# --- AutoModeMiddleware -----------------------------------------------------------------------------------------------


@tool
def delete(path: str) -> str:
    """Delete a file for ever."""
    return f"deleted {path}"


@tool
def read(path: str) -> str:
    """Read a file."""
    return f"read {path}"


def calls(name, path):
    """Call a tool once, then say what came back."""

    def answer(messages):
        if isinstance(messages[-1], ToolMessage):
            return AIMessage(f"done: {messages[-1].content}")
        return AIMessage("", tool_calls=[{"name": name, "args": {"path": path}, "id": "c1"}])

    return Says(reply=answer)


def guarded(model, classifier):
    guard = middleware.AutoModeMiddleware(tools=[delete, read], classifier=classifier)
    return create_agent(model, [delete, read], middleware=[guard])


def state_of(name, path, text, description):
    return {
        "messages": [HumanMessage(text), AIMessage("", tool_calls=[{"name": name, "args": {"path": path}, "id": "x"}])],
        "tool_call": {"id": "x", "name": name, "args": {"path": path}},
        "tool_description": description,
    }


@pytest.fixture(scope="module")
def risk_model():
    """Trained on states as AutoMode makes them, rendered as text."""
    linear = pytest.importorskip("sklearn.linear_model")
    text = pytest.importorskip("sklearn.feature_extraction.text")
    pipeline = pytest.importorskip("sklearn.pipeline")
    rows = [
        (render_state(state_of(name, path, "please", shown)), risky)
        for path in ("a.txt", "b.txt", "c.txt")
        for name, shown, risky in (("delete", delete.description, "True"), ("read", read.description, "False"))
    ]
    model = pipeline.make_pipeline(text.TfidfVectorizer(), linear.LogisticRegression(C=100.0))
    return SklearnClassifier(model.fit([row for row, _ in rows], [risky for _, risky in rows]))


@BOTH
@pytest.mark.parametrize("kind", ["local", "cascade"])
async def test_auto_mode_runs_on_our_models(how, kind, risk_model):
    classifier = LocalDecisionModel({"is_risky": risk_model})
    hosted = Hosted()
    if kind == "cascade":
        classifier = CascadeDecisionModel(small=classifier, large=hosted, threshold=0.7)
    for name, done in (("delete", "was blocked"), ("read", "read z.txt")):
        agent = guarded(calls(name, "z.txt"), classifier)
        found = await ask(agent, how, {"messages": [HumanMessage("please")]})
        assert done in found["messages"][-1].content
    assert hosted.requests == []


@BOTH
async def test_auto_mode_goes_on_where_the_hosted_model_is_down_and_never_lets_through_what_must_not(how, risk_model):
    down = Hosted(error=ConnectionError("down"))
    agent = guarded(
        calls("read", "z.txt"), CascadeDecisionModel(small={"is_risky": risk_model}, large=down, threshold=2.0)
    )
    found = await ask(agent, how, {"messages": [HumanMessage("please")]})
    assert "read z.txt" in found["messages"][-1].content
    careful = CascadeDecisionModel(
        small={"is_risky": risk_model}, large=down, threshold=2.0, never_local={"is_risky": [False]}
    )
    with pytest.raises(ConnectionError):
        await ask(guarded(calls("read", "z.txt"), careful), how, {"messages": [HumanMessage("please")]})
    found = await ask(guarded(calls("delete", "z.txt"), careful), how, {"messages": [HumanMessage("please")]})
    assert "was blocked" in found["messages"][-1].content


@BOTH
async def test_both_middlewares_share_one_cascade(how, risk_model, team_model):
    hosted = Hosted()
    cascade = CascadeDecisionModel(
        small={"is_risky": risk_model, "model_route": team_model}, large=hosted, threshold={"is_risky": 0.7}
    )
    router = middleware.ModelRouterMiddleware(
        choices={n: middleware.ModelChoice(model=calls("read", n), criteria=c) for n, c in ROUTE.items()},
        instructions="Which?",
        classifier=cascade,
    )
    guard = middleware.AutoModeMiddleware(tools=["read"], classifier=cascade)
    agent = create_agent(says("nobody"), [read], middleware=[router, guard])
    found = await ask(agent, how, {"messages": [HumanMessage("refund my payment")]})
    assert found["messages"][-1].content == "done: read other"  # no threshold for the route: the hosted one says
    assert [list(questions) for _, questions in hosted.requests] == [["model_route"]]


def test_the_model_of_the_fixture_is_real():
    assert trained(["a", "b"]).invoke("refund my payment")["choice"] == "a"
    assert Noul(instructions="?").type == "noul"
