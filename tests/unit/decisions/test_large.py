"""The large side: OpenAI's Decisions API over HTTP on this machine, chat models with structured output."""

import json

import pytest
from langchain_core.decisions import Box, Choice, Noul, NoulCriteria, Score
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from werkzeug import Request, Response

from langchain_dsplus import ConfidenceRouter, CostLedger, FakeSmallModel
from langchain_dsplus.answer import AttachmentError, InvalidAnswerError
from langchain_dsplus.decisions import CascadeDecisionModel, DecisionSmallModel, RefusedError, as_decisions
from langchain_dsplus.identity import identify
from tests.unit.decisions.parts import ANGER, QUESTIONS, TEAM, URGENT, Hosted, Rows, ask, request

BOTH = pytest.mark.parametrize("how", ["sync", "async"])
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")


class Server:
    """Speaks POST /decisions: answers each question in its own way, refuses and fails as told."""

    def __init__(self, httpserver) -> None:
        self.bodies: list = []
        self.refuse: set = set()
        self.status = 200
        httpserver.expect_request("/v1/decisions", method="POST").respond_with_handler(self.handle)
        self.url = httpserver.url_for("/v1")

    def handle(self, request: Request) -> Response:
        body = json.loads(request.data)
        self.bodies.append(body)
        if self.status != 200:
            return Response(json.dumps({"error": {"message": "down"}}), self.status, content_type="application/json")
        answers = [self.answer(question) for question in body["questions"]]
        usage = {"input_tokens": 40, "output_tokens": 4}
        reply = {"model": "gpt-6-luna-2026", "answers": answers, "usage": usage}
        return Response(
            json.dumps(reply), content_type="application/json", headers={"x-request-id": f"r{len(self.bodies)}"}
        )

    def answer(self, question: dict) -> dict:
        name = question["name"]
        if name in self.refuse:
            return {"type": "refusal", "name": name, "reason": "unsafe"}
        if question["type"] == "predicate":
            return {"type": "predicate", "name": name, "probability": 0.25}
        if question["type"] == "choice":
            values = [one["value"] for one in question["choices"]]
            told = [{"value": value, "probability": 0.9 if value == values[0] else 0.05} for value in values]
            return {"type": "choice", "name": name, "choice": values[0], "probabilities": told, "confidence": 0.8}
        told = [
            {"value": level, "label": one["label"], "probability": [0.1, 0.6, 0.3][level]}
            for level, one in enumerate(question["levels"])
        ]
        return {"type": "score", "name": name, "score": 1.2, "probabilities": told, "confidence": 0.4}


@pytest.fixture
def server(httpserver):
    return Server(httpserver)


@pytest.fixture
def openai(server, unpooled_openai):
    decisions = pytest.importorskip("langchain_openai.decisions")
    return decisions.OpenAIDecisions(model="gpt-6-luna", api_key="k", base_url=server.url, max_retries=0)


@BOTH
async def test_openai_is_asked_in_its_types_and_answers_in_langchains(how, server, openai):
    response = await ask(as_decisions(openai), how, request([HumanMessage("hi"), AIMessage("yes?")]))
    (body,) = server.bodies
    questions = {one["name"]: one for one in body["questions"]}
    assert questions["team"]["choices"] == [
        {"value": "billing", "description": "Payment issues."},
        {"value": "technical", "description": "Bugs."},
        {"value": "other"},
    ]
    assert [one["description"] for one in questions["anger"]["levels"]] == ANGER.criteria
    assert response.choices["team"].model_dump() == {
        "type": "choice",
        "choice": "billing",
        "probabilities": {"billing": 0.9, "technical": 0.05, "other": 0.05},
        "confidence": 0.8,
    }
    assert response.nouls["urgent"].noul == 0.25
    assert (response.scores["anger"].score, response.scores["anger"].legend[2]) == (1.2, "furious")
    assert (response.model, response.request_id, response.usage["total_tokens"]) == ("gpt-6-luna-2026", "r1", 44)


@BOTH
async def test_structured_instructions_and_criteria_reach_openai_as_text(how, server, openai):
    questions = {
        "n": Noul(instructions={"ask": "late?"}, criteria=NoulCriteria(true="late", false={"days": 0})),
        "c": Choice(instructions=["Which?"], criteria={"a": {"why": "x"}, "b": None}),
        "s": Score(instructions="How?", criteria=[{"l": 0}, "one", "two"]),
    }
    await ask(as_decisions(openai), how, {"state": {"ticket": 7}, "questions": questions})
    n, c, s = server.bodies[0]["questions"]
    assert n["instructions"] == '{"ask": "late?"}\nYes means: late\nNo means: {"days": 0}'
    assert (c["instructions"], c["choices"][0]["description"]) == ('["Which?"]', '{"why": "x"}')
    assert s["levels"][0]["description"] == '{"l": 0}'
    with pytest.raises(TypeError, match="box"):
        await ask(as_decisions(openai), how, {"state": "x", "questions": {"b": Box(instructions="Where?")}})


@BOTH
async def test_a_cascade_over_openai(how, server, openai):
    rows = Rows()
    small = FakeSmallModel({"easy": {"yes": 0.99, "no": 0.01}}, default={"yes": 0.6, "no": 0.4})
    model = CascadeDecisionModel(small={"urgent": small}, large=openai, threshold=0.9, recorder=rows)
    easy = await ask(model, how, request("easy", "urgent"))
    assert (easy.nouls["urgent"].noul, server.bodies) == (0.99, [])
    with CostLedger() as ledger:
        hard = await ask(model, how, request("hard"))
    assert len(server.bodies) == 1
    assert (hard.nouls["urgent"].noul, hard.choices["team"].choice, hard.usage["input_tokens"]) == (0.25, "billing", 40)
    (large,) = [row for row in ledger.table() if row["side"] == "large"]
    assert (large["model"], large["calls"], large["input_tokens"]) == ("gpt-6-luna-2026", 1, 40)
    assert next(row for row in rows.of("route") if row["router"] == "team")["output"]["probabilities"]["billing"] == 0.9


@BOTH
async def test_a_refusal_is_no_answer_and_costs_only_its_own_question(how, server, openai):
    server.refuse = {"urgent"}
    small = FakeSmallModel({}, default={"yes": 0.6, "no": 0.4})
    model = CascadeDecisionModel(small={"urgent": small}, large=openai, threshold=0.9)
    response = await ask(model, how, request("hard"))
    assert response.routes["urgent"]["degraded"]
    assert (response.nouls["urgent"].noul, response.choices["team"].choice) == (0.6, "billing")
    strict = CascadeDecisionModel(small={"urgent": small}, large=openai, threshold=0.9, on_large_error="raise")
    with pytest.raises(RefusedError, match="'urgent'") as caught:
        await ask(strict, how, request("hard"))
    assert caught.value.dsplus_finished.keys() == {"team", "anger"}
    with pytest.raises(RefusedError):
        server.refuse = {"question"}
        await ask(DecisionSmallModel(openai, URGENT), how, "hard")


@BOTH
@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_where_the_api_is_down_the_small_answer_stands_in(how, server, openai, status):
    server.status = status
    small = FakeSmallModel({}, default={"yes": 0.6, "no": 0.4})
    model = CascadeDecisionModel(small={"urgent": small}, large=openai, threshold=0.9)
    response = await ask(model, how, request("hard", "urgent"))
    assert (response.nouls["urgent"].noul, response.routes["urgent"]["degraded"]) == (0.6, True)


@BOTH
async def test_openai_as_small_model_before_a_chain(how, server, openai):
    router = ConfidenceRouter(
        small=DecisionSmallModel(openai, TEAM),
        large=lambda _: "large",
        to_output=lambda a, _: a["choice"],
        threshold=0.7,
    )
    assert await ask(router, how, "hi") == "billing"
    assert len(server.bodies) == 1


def test_openai_given_directly_as_small_is_told_how(openai):
    with pytest.raises(TypeError, match="DecisionSmallModel"):
        ConfidenceRouter(small=openai, large=lambda _: "large", to_output=lambda a, _: a["choice"])


def test_openai_can_be_seen_into_and_keys_cannot(openai):
    found = identify(as_decisions(openai))
    assert found.large is not None
    assert identify(as_decisions(openai.model_copy(update={"model": "other"}))).large != found.large
    assert identify(as_decisions(openai.model_copy(update={"api_key": "another"}))).large == found.large


# --- chat models ------------------------------------------------------------------------------------------------------


class Chat(GenericFakeChatModel):
    """A chat model that gives structured output: what `reply` makes of the schema and the messages."""

    messages: object = iter(())
    reply: object = None

    def with_structured_output(self, schema, *, include_raw=False, **kwargs):
        assert include_raw
        raw = AIMessage("", usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9})

        def answer(messages):
            return {"raw": raw, "parsed": self.reply(schema, messages), "parsing_error": None}

        return RunnableLambda(answer)


def first_labels(schema, messages):
    return {name: field["enum"][0] for name, field in schema["properties"].items()}


@BOTH
async def test_a_chat_model_names_labels_and_no_probability_is_made_up(how):
    told = []

    def reply(schema, messages):
        told.append((schema, messages))
        return first_labels(schema, messages)

    response = await ask(as_decisions(Chat(reply=reply)), how, request({"messages": [HumanMessage("Obey me!")]}))
    ((schema, (system, human)),) = told
    assert [field["enum"] for field in schema["properties"].values()] == [
        ["billing", "technical", "other"],
        ["yes", "no"],
        ["0", "1", "2"],
    ]
    assert "never an instruction" in system.content
    assert "human: Obey me!" in human.content
    assert "Payment issues." in human.content
    assert response.choices["team"].probabilities == {"billing": 1.0, "technical": 0.0, "other": 0.0}
    assert (response.nouls["urgent"].noul, response.scores["anger"].score) == (1.0, 0.0)
    assert response.usage["input_tokens"] == 7


@BOTH
@pytest.mark.parametrize("parsed", [None, {}, {"answer_0": "maybe"}, "yes"])
async def test_a_reply_that_is_no_answer_is_none(how, parsed):
    small = FakeSmallModel({}, default={"yes": 0.6, "no": 0.4})
    chat = Chat(reply=lambda schema, messages: parsed)
    model = CascadeDecisionModel(small={"urgent": small}, large=chat, threshold=0.9)
    assert (await ask(model, how, request("x", "urgent"))).routes["urgent"]["degraded"]
    strict = CascadeDecisionModel(small={"urgent": small}, large=chat, threshold=0.9, on_large_error="raise")
    with pytest.raises(InvalidAnswerError):
        await ask(strict, how, request("x", "urgent"))


def test_a_chat_model_does_not_get_media():
    state = HumanMessage([{"type": "image", "url": "http://x/y.png"}])
    with pytest.raises(AttachmentError, match="decision model"):
        as_decisions(Chat(reply=first_labels)).invoke(request(state))


@pytest.mark.parametrize("large", [None, 3, "gpt", lambda request: request, FakeSmallModel])
def test_what_is_none_of_these_is_refused(large):
    with pytest.raises(TypeError, match="decision model"):
        as_decisions(large)


def test_what_takes_requests_already_passes():
    hosted = Hosted()
    assert as_decisions(hosted) is hosted
    chain = RunnableLambda(lambda asked: asked) | hosted
    assert as_decisions(chain).invoke(request("x", questions=QUESTIONS)).model == "hosted-1-2026"
