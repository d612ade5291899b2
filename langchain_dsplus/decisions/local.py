"""`LocalDecisionModel`: LangChain's decision model over small models, one for each question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from langchain_core.decisions import ClassifierRequest, ClassifierResponse, Question
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config, run_in_executor

from langchain_dsplus._drive import Call, Plan
from langchain_dsplus.answer import pass_on
from langchain_dsplus.decisions.asked import AskedModel, Reading
from langchain_dsplus.decisions.base import PlannedDecisionModel
from langchain_dsplus.questions import UnknownQuestionError, check_question, fingerprint, to_typed
from langchain_dsplus.small_models.runnable import as_small_model

_Groups: TypeAlias = Sequence[tuple[AskedModel, list[tuple[int, str]]]]
"""Each small model with the requests that it is asked about, and under which ids."""
_MOST = 1024
"""So many questions are remembered under ids that small models are named for."""


class LocalDecisionModel(PlannedDecisionModel):
    """A decision model that runs here: small models, one for each question.

    A question is known by what it is (type, instructions, criteria), whatever id it is asked under; or, where only an
    id is given, by that id, whatever is asked. A `Choice` is answered by any small model with its labels, a `Noul` by
    two classes, a `Score` by its levels as ordered classes. A small model reads a state as text (see `render_state`),
    unless `read` says otherwise. What is not known, and a state with media, is an error.

    Args:
        models: From a question's id to its small model; or pairs of a question, or an id, and a small model.
        questions: The questions behind ids: such an id is only a name, and the question is known by what it is.
        meanings: What labels stand for, by id, where they are not the question's own: `{"urgent": {"late": True,
            "fine": False}}`. A bool for a `Noul`, a level for a `Score`, a label for a `Choice`.
        cut: From which probability on a `Noul` counts as yes: for the label in tables, `never_local` and certificates,
            and for the confidence. One number, or by id.
        read: What the small models get of a state: `text`, `state` (as it is), or a function; for all, or by id.
        model: Name in responses and traces.

    Raises:
        TypeError: If a part is no small model or no question.
        ValueError: If a small model's labels are not those of its question; the message shows `meanings=`.

    Example:
        ```python
        from langchain_core.decisions import Noul
        from langchain_dsplus import FakeSmallModel, LocalDecisionModel

        small = FakeSmallModel({"Help!": {"yes": 0.9, "no": 0.1}}, default={"yes": 0.2, "no": 0.8})
        local = LocalDecisionModel({"urgent": small})
        request = {"state": "Help!", "questions": {"urgent": Noul(instructions="Is it urgent?")}}
        local.invoke(request).nouls["urgent"].noul  # 0.9
        ```
    """

    model: str = "local"
    models: dict[str, Any]
    questions: dict[str, Any]
    meanings: dict[str, Any]
    cut: Any = 0.5
    read: Any = "text"

    @cached_property
    def _known(self) -> dict[str, tuple[str, AskedModel]]:
        """By fingerprint: the id, and the small model as it is asked."""
        return {}

    @cached_property
    def _by_id(self) -> dict[tuple[str, str], AskedModel | ValueError]:
        """Of models that are known by an id alone: by id and fingerprint of what was asked."""
        return {}

    def __init__(
        self,
        models: Mapping[str, Any] | Iterable[tuple[Any, Any]],
        *,
        questions: Mapping[str, Question] | None = None,
        meanings: Mapping[str, Mapping[str, Any]] | None = None,
        cut: float | Mapping[str, float] = 0.5,
        read: Reading | Mapping[str, Reading] = "text",
        **kwargs: Any,
    ) -> None:
        given = dict(questions or {})
        named: dict[str, Any] = {}
        for key, value in models.items() if isinstance(models, Mapping) else models:
            name = key
            if not isinstance(key, str):
                name = fingerprint(key)
                given[name] = key
            named[name] = as_small_model(value)
        if not named:
            raise ValueError("`models` needs at least one small model")
        for what, names in (("questions", given), ("meanings", meanings), ("cut", cut), ("read", read)):
            unknown = sorted(set(names) - set(named)) if isinstance(names, Mapping) else []
            if unknown:
                raise ValueError(f"`{what}` names ids that have no small model: {unknown}")
        own: Any = {"models": named, "questions": given, "meanings": dict(meanings or {}), "cut": cut, "read": read}
        super().__init__(**own, **kwargs)
        for name, question in given.items():
            self._known[fingerprint(question)] = name, self._asked(name, question)

    def _asked(self, name: str, question: Any) -> AskedModel:
        try:
            return AskedModel(
                self.models[name],
                question,
                meanings=self.meanings.get(name),
                cut=of_question(self.cut, name, 0.5),
                reading=of_question(self.read, name, "text"),
            )
        except ValueError as error:
            raise ValueError(f"question {name!r}: {error}") from None

    @property
    def embedded(self) -> bool:
        """Whether no small model makes traced runs of its own."""
        return not any(model.traces_calls for model in self.models.values())

    def find(self, name: str, question: Question) -> tuple[str, AskedModel]:
        """Return under which id a question is known, and the small model that answers it.

        Args:
            name: The id that it is asked under.
            question: The question.

        Raises:
            UnknownQuestionError: If there is none.
        """
        if self._known:
            known = self._known.get(fingerprint(question))
            if known is not None:
                return known
        if name not in self.models:
            raise UnknownQuestionError(
                f"no small model is known for question {name!r}: there are some for {sorted(self.models)}"
            )
        if name in self.questions:
            raise UnknownQuestionError(
                f"question {name!r} is another than the one that the small model of this id is for"
            )
        key = name, fingerprint(question)
        found = self._by_id.get(key)
        if found is None:
            try:
                found = self._asked(name, check_question(question))
            except ValueError as error:
                found = error
            except TypeError as error:
                found = ValueError(f"question {name!r}: {error}")
            while len(self._by_id) >= _MOST:
                self._by_id.pop(next(iter(self._by_id)))
            self._by_id[key] = found
        if isinstance(found, ValueError):
            raise UnknownQuestionError(str(found))
        return name, found

    def replaced(self, name: str, model: Any) -> LocalDecisionModel:
        """Return the same with another small model for one id."""
        own: Any = {"questions": self.questions, "meanings": self.meanings, "cut": self.cut, "read": self.read}
        return LocalDecisionModel({**self.models, name: model}, model=self.model, **own)

    def warmup(self) -> None:
        """Load the small models now, so that the first request does not pay for it."""
        for model in self.models.values():
            model.warmup()

    def _answer(
        self, requests: Sequence[ClassifierRequest], runs: Sequence[Any], configs: Sequence[RunnableConfig]
    ) -> Plan[list[ClassifierResponse | Exception]]:
        found: list[dict[str, Any] | Exception] = []
        asked: dict[int, tuple[AskedModel, list[tuple[int, str]]]] = {}
        for place, request in enumerate(requests):
            try:
                models = {name: self.find(name, one)[1] for name, one in request["questions"].items()}
            except (ValueError, TypeError) as error:  # a question that is none is one request's own mistake
                found.append(error)
                continue
            found.append(dict.fromkeys(models))
            for name, model in models.items():
                asked.setdefault(id(model), (model, []))[1].append((place, name))
        groups = list(asked.values())
        if not self.embedded:
            configs = [patch_config(c, callbacks=run.get_child()) for run, c in zip(runs, configs, strict=True)]
        told = yield Call(self._ask, self._aask, groups, requests, configs)
        for (model, places), answers in zip(groups, told, strict=True):
            for (place, name), answer in zip(places, answers, strict=True):
                answers_of = found[place]
                if isinstance(answers_of, Exception):
                    continue
                if isinstance(answer, Exception):
                    found[place] = answer
                else:
                    answers_of[name] = to_typed(answer, model.question, checked=True)
        return [
            said if isinstance(said, Exception) else ClassifierResponse(model=self.model, answers=said)
            for said in found
        ]

    @staticmethod
    def _ask(groups: _Groups, requests: Sequence[ClassifierRequest], configs: Sequence[RunnableConfig]) -> list[Any]:
        return [
            pass_on(model.answers([requests[p]["state"] for p, _ in places], [configs[p] for p, _ in places]))
            for model, places in groups
        ]

    async def _aask(
        self, groups: _Groups, requests: Sequence[ClassifierRequest], configs: Sequence[RunnableConfig]
    ) -> list[Any]:
        if self.embedded:  # one thread for all of them
            return await run_in_executor(None, self._ask, groups, requests, configs)
        return [
            pass_on(await model.aanswers([requests[p]["state"] for p, _ in places], [configs[p] for p, _ in places]))
            for model, places in groups
        ]


def of_question(value: Any, name: str, default: Any) -> Any:
    """A setting for one question: the same for all, or by its id."""
    return value.get(name, default) if isinstance(value, Mapping) else value
