"""A router as LangChain's decision model, for one question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.decisions import BaseDecisionModel, ClassifierResponse, Question, State
from langchain_core.runnables.config import ensure_config
from pydantic import ConfigDict, PrivateAttr

from langchain_dsplus import _drive
from langchain_dsplus._drive import Plan
from langchain_dsplus.answer import Answer, InvalidAnswerError, Route
from langchain_dsplus.costs.usage import OWN_PROVIDER
from langchain_dsplus.labels import match_reply
from langchain_dsplus.questions import UnknownQuestionError, fingerprint, question_labels, read_meanings, to_typed
from langchain_dsplus.routing.answering import answer
from langchain_dsplus.routing.state import State as RouterState


class RouterDecisionModel(BaseDecisionModel):
    """What `ConfidenceRouter.as_decision_model` returns: the router answers one question, under any id.

    Thresholds, mode, certificate, recorder and all else are the router's. A local answer has the small model's
    probabilities. The large chain names a label and no more, so all probability is on that label, unless it returns an
    `Answer`.

    Args:
        question: The `Choice`, `Noul` or `Score` that the router decides.
        meanings: From the small models' labels to the question's, where they are others: True or False of a `Noul`, a
            level of a `Score`.
        to_input: From the state of a request to the router's input; by default the state itself.
        model: Name in responses and traces.

    Raises:
        ValueError: If the small models' labels are not the question's.

    Example:
        ```python
        question = Choice(instructions="Which team?", criteria={"billing": None, "technical": None})
        classifier = router.as_decision_model(question, to_input=lambda state: {"text": render_state(state)})
        ModelRouterMiddleware(choices=choices, instructions="Which team?", classifier=classifier)
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    model: str
    question: Any
    to_input: Callable[[Any], Any] | None = None

    _current: Callable[[], RouterState] = PrivateAttr()
    _meanings: dict[str, str] = PrivateAttr()

    def __init__(self, current: Callable[[], RouterState], question: Any, **kwargs: Any) -> None:
        state = current()
        labels = list(dict.fromkeys(label for model in state.models for label in model.labels))
        meanings = read_meanings(question, labels, kwargs.pop("meanings", None))
        super().__init__(question=question, **{"model": state.shown_name, **kwargs})
        self._current = current
        self._meanings = {**{label: label for label in question_labels(question)}, **meanings}

    @property
    def _provider(self) -> str:
        return OWN_PROVIDER  # what the router asks is counted itself

    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        return _drive.run(self._plan(state, questions))

    async def _aclassify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        return await _drive.arun(self._plan(state, questions))

    def _plan(self, state: State, questions: Mapping[str, Question]) -> Plan[ClassifierResponse]:
        own = fingerprint(self.question)
        for name, question in questions.items():
            if fingerprint(question) != own:
                raise UnknownQuestionError(f"question {name!r} is another than the one that this router answers")
        value = state if self.to_input is None else self.to_input(state)
        output, route = yield from answer(self._current(), value, ensure_config(), {})
        typed = to_typed(self._said(output, route), self.question)
        return ClassifierResponse(model=route["model"], answers=dict.fromkeys(questions, typed))

    def _said(self, output: Any, route: Route) -> Answer:
        """The answer in the question's labels: the small model's, or what the large chain said."""
        found: Any = route["answers"][-1] if route["accepted"] or route.get("degraded") else output
        if not (isinstance(found, Mapping) and isinstance(found.get("probabilities"), Mapping)):
            label = match_reply(found, list(self._meanings))
            if label is None:
                raise InvalidAnswerError("the large chain's reply names none of the question's labels")
            found = Answer(choice=label, probabilities={label: 1.0}, confidence=1.0)
        try:
            probabilities = dict.fromkeys(question_labels(self.question), 0.0)
            for label, p in found["probabilities"].items():
                probabilities[self._meanings[label]] += p
            return Answer(
                choice=self._meanings[found["choice"]], probabilities=probabilities, confidence=found["confidence"]
            )
        except KeyError:
            raise InvalidAnswerError("an answer of the router has labels other than the question's") from None
