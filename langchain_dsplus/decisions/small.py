"""`DecisionSmallModel`: a decision model, hosted or local, as small model in front of a large chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import Field, PrivateAttr

from langchain_dsplus._drive import Call, Plan
from langchain_dsplus.answer import Answer, pass_on
from langchain_dsplus.confidence import ScoreFunction, resolve_score
from langchain_dsplus.decisions.asked import chosen
from langchain_dsplus.decisions.large import as_answer, as_decisions, one_answer
from langchain_dsplus.identity import identify
from langchain_dsplus.questions import AnyQuestion, fingerprint, question_labels
from langchain_dsplus.small_models.base import UNVERIFIABLE, AskingModel

_ID = "question"


class DecisionSmallModel(AskingModel):
    """A decision model as a small model: it is asked one question about every input.

    Args:
        model: A `BaseDecisionModel`, an `OpenAIDecisions`, or a chat model with structured output.
        question: The question. A `Choice` has its own labels, a `Noul` has `yes` and `no`, a `Score` its levels as
            texts, `"0"` and so on.
        cut: From which probability on a `Noul` counts as yes.
        score: `confidence` is the decision model's own (of a `Noul` the distance from `cut`); or another of
            `confidence.SCORES`, or a callable.
        name: Name in routes and thresholds.

    Raises:
        TypeError: If it is no such model, or the question is a `Box`.

    Example:
        ```python
        question = Choice(instructions="Which team?", criteria={"billing": None, "technical": None})
        router = ConfidenceRouter(small=DecisionSmallModel(hosted, question), large=prompt | llm | parser)
        ```
    """

    model: Any
    question: Any
    cut: float = 0.5
    score: str | ScoreFunction = Field(default="confidence", frozen=True)

    own_scores: ClassVar[frozenset[str]] = frozenset({"confidence"})
    traces_calls: ClassVar[bool] = True

    _asks: Any = PrivateAttr(default=None)

    def __init__(self, model: Any, question: AnyQuestion, **kwargs: Any) -> None:
        asks = as_decisions(model)
        super().__init__(model=model, question=question, labels=question_labels(question), **kwargs)
        self._asks: Runnable[Any, Any] = asks

    def fingerprint(self) -> str:
        """The decision model, where it can be seen into, and the question."""
        found = identify(self._asks).large
        return UNVERIFIABLE if found is None else f"{found} {fingerprint(self.question)} {self.cut:g}"

    def _answering(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None
    ) -> Plan[list[Answer | Exception]]:
        """Ask the decision model about each input, in one batch."""
        results, places, states = self.read_all(inputs)
        requests = [{"state": state, "questions": {_ID: self.question}} for state in states]
        ask, aask = self._asks.batch, self._asks.abatch
        told = yield Call(ask, aask, requests, chosen(configs, places), return_exceptions=True)
        for place, said in zip(places, pass_on(told), strict=True):
            results[place] = self._read(said)
        return results

    def _read(self, said: Any) -> Answer | Exception:
        found = said if isinstance(said, Exception) else one_answer(said, _ID, self.question)
        answer = as_answer(found, self.question, self.cut)
        if isinstance(answer, Exception) or self.score == "confidence":
            return answer
        return {**answer, "confidence": float(resolve_score(self.score)(answer["probabilities"]))}
