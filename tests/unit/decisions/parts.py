"""Questions, real small models, and a decision model that stands in for a hosted one."""

from __future__ import annotations

import threading

import pytest
from langchain_core.decisions import (
    BaseDecisionModel,
    Choice,
    ChoiceAnswer,
    ClassifierResponse,
    Noul,
    NoulAnswer,
    Score,
    ScoreAnswer,
)
from pydantic import ConfigDict, PrivateAttr

from langchain_dsplus import SklearnClassifier

TEAM = Choice(
    instructions="Which team should handle this?",
    criteria={"billing": "Payment issues.", "technical": "Bugs.", "other": None},
)
URGENT = Noul(instructions="Does this need an answer at once?")
ANGER = Score(instructions="How angry is the customer?", criteria=["calm", "annoyed", "furious"])
QUESTIONS = {"team": TEAM, "urgent": URGENT, "anger": ANGER}
TEXTS = {
    "billing": ["refund my payment", "the invoice is wrong", "charged twice on my card", "payment of the invoice"],
    "technical": ["the app crashes", "error on export", "bug in the login page", "it crashes with an error"],
    "other": ["where is your office", "do you hire people", "nice weather in town", "hello people of the office"],
}
ROWS = [(text, team) for team, texts in TEXTS.items() for text in texts]


def trained(labels: list[str]):
    """A text pipeline fitted on the rows above, with these labels in turn."""
    linear = pytest.importorskip("sklearn.linear_model")
    text = pytest.importorskip("sklearn.feature_extraction.text")
    pipeline = pytest.importorskip("sklearn.pipeline")
    names = list(TEXTS)
    estimator = pipeline.make_pipeline(text.TfidfVectorizer(), linear.LogisticRegression(C=100.0))
    estimator.fit([row for row, _ in ROWS], [labels[names.index(team) % len(labels)] for _, team in ROWS])
    return SklearnClassifier(estimator)


class Hosted(BaseDecisionModel):
    """Answers every question in its own way, counts tokens, and remembers what it was asked."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = "hosted-1"
    error: object = None
    """Raised, until it is taken away; or a function from questions to an exception or None."""
    _requests: list = PrivateAttr(default_factory=list)
    _lock: object = PrivateAttr(default_factory=threading.Lock)

    @property
    def _provider(self) -> str:
        return "hosted"

    @property
    def requests(self) -> list:
        return self._requests

    def _classify(self, state, questions):
        with self._lock:
            self._requests.append((state, dict(questions)))
        error = self.error(questions) if callable(self.error) else self.error
        if error is not None:
            raise error
        return ClassifierResponse(
            model="hosted-1-2026",
            answers={name: self.answer(one) for name, one in questions.items()},
            usage={"input_tokens": 100 * len(questions), "output_tokens": len(questions)},
            request_id="req-1",
        )

    @staticmethod
    def answer(question):
        if question.type == "noul":
            return NoulAnswer(type="noul", noul=0.3)
        if question.type == "choice":
            labels = list(question.criteria)
            rest = 0.3 / max(len(labels) - 1, 1)
            probabilities = {label: 0.7 if label == labels[-1] else rest for label in labels}
            return ChoiceAnswer(type="choice", choice=labels[-1], probabilities=probabilities, confidence=0.55)
        levels = len(question.criteria)
        return ScoreAnswer(
            type="score",
            score=1.25,
            legend=dict(enumerate(question.criteria)),
            probabilities={level: 0.6 if level == 1 else 0.4 / (levels - 1) for level in range(levels)},
            confidence=0.6,
        )


class Rows:
    """A recorder that keeps its rows."""

    def __init__(self) -> None:
        self.rows = []

    def record(self, row):
        self.rows.append(row)

    def of(self, kind):
        return [row for row in self.rows if row["kind"] == kind]


async def ask(model, how, request, config=None):
    """One request, in sync or async code."""
    return model.invoke(request, config) if how == "sync" else await model.ainvoke(request, config)


async def ask_all(model, how, requests, config=None, **kwargs):
    """A batch, in sync or async code."""
    if how == "sync":
        return model.batch(requests, config, **kwargs)
    return await model.abatch(requests, config, **kwargs)


def request(state, *names, questions=QUESTIONS):
    """A request about these questions, or all."""
    return {"state": state, "questions": {name: questions[name] for name in names or questions}}
