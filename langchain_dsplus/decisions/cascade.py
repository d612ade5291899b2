"""`CascadeDecisionModel`: small models answer the questions they are sure of, a large decision model the rest."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from langchain_core.decisions import ClassifierRequest, ClassifierResponse, Question, State
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config
from pydantic import Field

from langchain_dsplus._drive import Attempt, Plan
from langchain_dsplus.answer import Route, must_pass
from langchain_dsplus.decisions.asked import AskedModel
from langchain_dsplus.decisions.base import PlannedDecisionModel, finished, small_side
from langchain_dsplus.decisions.large import as_answer, as_decisions, one_answer
from langchain_dsplus.decisions.local import LocalDecisionModel, of_question
from langchain_dsplus.decisions.question import AsRead, OneQuestion, QuestionRouter
from langchain_dsplus.decisions.small import DecisionSmallModel
from langchain_dsplus.decisions.state import render_state
from langchain_dsplus.questions import UnknownQuestionError, fingerprint, question_labels, read_value, to_typed
from langchain_dsplus.routing.decision import Item
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.routing.runs import Apart
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.tags import LARGE_TAG
from langchain_dsplus.threshold.certificate import Certificate

_MOST = 1024
"""So many questions have a router at a time, where they are not known beforehand."""
_FIXED = frozenset({"small", "large", "threshold", "to_output", "to_large", "include_route", "name", "context_key"})
_OPTIONS = frozenset(ConfidenceRouter.model_fields) - _FIXED
_BY_QUESTION = frozenset({"threshold", "never_local", "audit_rate", "mode", "monitor", "score"})


class CascadeResponse(ClassifierResponse):
    """A response that also says who answered what."""

    routes: dict[str, Any] = Field(default_factory=dict)
    """One `Route` per question that has a router, by the question's id."""


@dataclass(slots=True)
class _Ticket:
    """One question of one request on its way."""

    place: int
    name: str
    question: Any
    router: QuestionRouter | None
    """None where nobody local is asked, and nobody writes down."""
    cut: float = 0.5
    item: Item | None = None
    said: Any = None
    """What the large model answered, in LangChain's type; an exception where it failed."""
    answer: Any = None
    """The typed answer; an exception where there is none."""
    route: Route | None = None

    @property
    def left(self) -> bool:
        """Whether the large model is to be asked."""
        if isinstance(self.answer, BaseException):
            return False
        return self.item is None or self.item.accepted is None


class _Nobody(SmallModel):
    """Stands where a question has no small model yet: never asked, so that its rows can be written down."""

    def predict_proba(self, inputs: list[Any]) -> list[list[float]]:
        """Nobody knows."""
        return [[float("nan")] * len(self.labels) for _ in inputs]


class CascadeDecisionModel(PlannedDecisionModel):
    """A decision model that asks a large one only about the questions that its small models are unsure of.

    Every question has a `ConfidenceRouter` of its own (see `routers`). What their small models are sure of is answered
    here; the large model is asked once about the questions that are left. A question that no small model is known for,
    and a state whose media it does not read, is the large model's. In shadow and off mode all questions are.

    It fails open: a small model that fails escalates, and where the large model is down the small answer stands in
    (`on_large_error="small"`, the default here), so an agent goes on. Where a wrong local answer would do harm, name
    the labels in `never_local` (they never stand in), or pass `on_large_error="raise"`.

    Args:
        small: A `LocalDecisionModel`, or what it is made of; or any other decision model, which is then asked about one
            question at a time.
        large: A `BaseDecisionModel`, an `OpenAIDecisions`, or a chat model with structured output.
        threshold: Of all questions, or by id: a number or a `Certificate`. A question that is not named there is the
            large model's.
        model: Name in responses and traces.
        **options: As in `ConfidenceRouter`: `mode`, `audit_rate`, `never_local`, `small_timeout`, `on_large_error`,
            `recorder`, `monitor`, `version`, and so on. `never_local`, `audit_rate`, `mode`, `monitor` and `score` may
            be given by id.

    Raises:
        TypeError: If a part is none of these, or there is no such option.
        ValueError: If a setting is malformed, or names a question that is not known.
        MismatchError: If a certificate is about other parts. A question that is known by its id alone is checked when
            it is first asked.

    Example:
        ```python
        cascade = CascadeDecisionModel(
            small=LocalDecisionModel({"is_risky": small}), large=hosted, threshold={"is_risky": certificate}
        )
        agent = create_agent(model, tools, middleware=[AutoModeMiddleware(tools=["delete"], classifier=cascade)])
        ```
    """

    model: str = "cascade"
    small: Any
    large: Any
    threshold: Any = 0.97
    options: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    def _routers(self) -> dict[tuple[str, str], QuestionRouter]:
        """By id and fingerprint."""
        return {}

    @cached_property
    def asks(self) -> Runnable[Any, Any]:
        """The large model, in LangChain's types."""
        return as_decisions(self.large)

    @property
    def _local(self) -> LocalDecisionModel | None:
        return self.small if isinstance(self.small, LocalDecisionModel) else None

    def __init__(
        self, *, small: Any, large: Any, threshold: Any = 0.97, model: str = "cascade", **options: Any
    ) -> None:
        base = {name: options.pop(name) for name in ("name", "cache") if name in options}
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise TypeError(f"CascadeDecisionModel has no option {unknown}; there are {sorted(_OPTIONS)}")
        local = _read_small(small)
        own: Any = {"small": small if local is None else local, "large": large, "threshold": threshold}
        own["options"] = {"on_large_error": "small", **options}
        super().__init__(model=model, **own, **base)
        for part in (large, *([small] if local is None else [])):
            as_decisions(part)
        self._check_names()
        for name, question in () if local is None else local.questions.items():
            self._router(name, question)

    def _check_names(self) -> None:
        """Settings by id name known ids; one certificate is for one question."""
        if self._local is None:
            return
        known = set(self._local.models)
        for what, value in {"threshold": self.threshold, **self.options}.items():
            if isinstance(value, Mapping) and what in _BY_QUESTION and not set(value) <= known:
                raise ValueError(f"`{what}` names ids that have no small model: {sorted(set(value) - known)}")
        if isinstance(self.threshold, Certificate) and len(known) > 1:
            raise ValueError(
                f"`threshold` is one certificate for {len(known)} questions: give each its own, by id: {sorted(known)}"
            )

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def routers(self) -> dict[str, QuestionRouter]:
        """The routers of the questions that are known so far, by id; where several share an id, the latest.

        A setting that is changed there (`cascade.routers["urgent"].threshold = certificate`) takes effect.
        """
        return {name: router for (name, _), router in self._routers.items()}

    def asked(self, questions: Mapping[str, Question]) -> dict[str, AskedModel]:
        """Return the small models as they are asked, by id.

        Args:
            questions: Those behind ids that the small models are known by alone.

        Raises:
            ValueError: If a question is not known, or none is.
        """
        if self._local is None:
            raise ValueError("`small` must be a LocalDecisionModel, or what it is made of")
        wanted = {**self._local.questions, **questions}
        for (name, _), router in self._routers.items():
            wanted.setdefault(name, router.large.question)  # type: ignore[attr-defined]
        if not wanted:
            raise ValueError("the small models are known by their ids alone: pass `questions={id: question}`")
        found = {}
        for name, question in wanted.items():
            found[name] = self._local.find(name, question)[1]
            self._router(name, question)
        return found

    def put(self, name: str, model: Any, threshold: Any = None) -> None:
        """Put another small model in the place of a question's, as after it was distilled and promoted.

        Requests that are under way end with the one before. Its background work goes on.

        Args:
            name: The question's id.
            model: The small model, with the same labels.
            threshold: Its own; None keeps nothing local until it is certified.

        Raises:
            ValueError: If there is no such question, or the labels are not its own.
            MismatchError: If the certificate is about another model.
        """
        if self._local is None or name not in self._local.models:
            raise ValueError(f"there is no small model for question {name!r}")
        local = self._local.replaced(name, model)
        before = {key: router for key, router in self._routers.items() if key[0] == name}
        given = self.threshold if isinstance(self.threshold, Mapping) else dict.fromkeys(local.models, self.threshold)
        other = CascadeDecisionModel(
            small=local, large=self.large, threshold={**given, name: threshold}, model=self.model, **self.options
        )
        made = {key: other._router(name, router.large.question) for key, router in before.items()}  # type: ignore[attr-defined]
        for key, router in made.items():
            if router is not None:
                self._routers[key] = router.take_over(before[key])
        self.small, self.threshold = local, other.threshold

    def _find(self, name: str, question: Question) -> tuple[str, SmallModel] | None:
        """Under which id a question is known, and its small model; None where it is the large model's."""
        if self._local is None:
            return None if question.type == "box" else (name, DecisionSmallModel(self.small, question))
        try:
            return self._local.find(name, question)
        except UnknownQuestionError:
            return None

    def _router(self, name: str, question: Question) -> QuestionRouter | None:
        """The router of a question; made when it is first asked. None where there is nothing for it to do."""
        key = name, fingerprint(question)
        if key in self._routers:
            return self._routers[key]
        found = self._find(name, question)
        if found is not None and (found[0], key[1]) in self._routers:
            return self._routers[found[0], key[1]]
        if found is None and (self.options.get("recorder") is None or question.type == "box"):
            return None
        router = self._made(name, question, None) if found is None else self._made(found[0], question, found[1])
        while len(self._routers) >= _MOST:
            self._routers.pop(next(iter(self._routers)))
        self._routers[name if found is None else found[0], key[1]] = router
        return router

    def _made(self, name: str, question: Any, small: SmallModel | None) -> QuestionRouter:
        options = {
            what: of_question(value, name, None) if what in _BY_QUESTION else value
            for what, value in self.options.items()
        }
        options = {what: value for what, value in options.items() if value is not None}
        never = options.get("never_local", ())
        if not isinstance(self.options.get("never_local"), Mapping):
            never = [value for value in never if _is_label(question, value)]
        cut = small.cut if isinstance(small, (AskedModel, DecisionSmallModel)) else 0.5
        options["never_local"] = [read_value(question, value) for value in never]
        threshold = of_question(self.threshold, name, None)
        if small is None:
            small, threshold, options["mode"] = _Nobody(labels=question_labels(question)), None, "off"
            options["never_local"] = []
        if "version" in options:
            options["version"] = f"{options['version']} {fingerprint(question)}"
        recorder = options.get("recorder")
        if recorder is not None and recorder is not options.get("monitor"):
            options["recorder"] = AsRead(recorder, small.read if isinstance(small, AskedModel) else render_state)
        large = OneQuestion(asks=self.asks, question=question, cut=cut)
        return QuestionRouter(small=small, large=large, threshold=threshold, name=name, **options)

    # --- lifetime -----------------------------------------------------------------------------------------------

    def warmup(self) -> Self:
        """Load the small models now, so that the first request does not pay for it."""
        if self._local is not None:
            self._local.warmup()
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for background work (shadow answers, audits) of all questions. False when the time ran out first."""
        done = [router.drain(timeout) for router in list(self._routers.values())]
        return all(done)

    async def adrain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Async twin of `drain`."""
        done = [await router.adrain(timeout) for router in list(self._routers.values())]
        return all(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.adrain()

    # --- answers ------------------------------------------------------------------------------------------------

    def _answer(
        self, requests: Sequence[ClassifierRequest], runs: Sequence[Any], configs: Sequence[RunnableConfig]
    ) -> Plan[list[CascadeResponse | Exception]]:
        tickets = [
            self._ticket(place, name, question, request["state"], run, config)
            for place, (request, run, config) in enumerate(zip(requests, runs, configs, strict=True))
            for name, question in request["questions"].items()
        ]
        groups: dict[int, list[_Ticket]] = {}
        for ticket in tickets:
            if ticket.item is not None:
                groups.setdefault(id(ticket.router), []).append(ticket)
        if groups:
            waits = any(mine[0].router.waits for mine in groups.values() if mine[0].router is not None)
            yield small_side(_ask_small(list(groups.values())), inline=waits)
        left: dict[int, list[_Ticket]] = {}
        for ticket in tickets:
            if ticket.left:
                left.setdefault(ticket.place, []).append(ticket)
        replies = (yield from self._ask_large(left, requests, runs, configs)) if left else {}
        for mine in groups.values():
            yield from _conclude(mine)
        return [
            self._response([ticket for ticket in tickets if ticket.place == place], replies.get(place))
            for place in range(len(requests))
        ]

    def _ticket(
        self, place: int, name: str, question: Question, state: State, run: Any, config: RunnableConfig
    ) -> _Ticket:
        ticket = _Ticket(place, name, question, None)
        try:
            ticket.router = self._router(name, question)
            if ticket.router is not None:
                ticket.cut = ticket.router.large.cut  # type: ignore[attr-defined]
                ticket.item = ticket.router.take(state, run, config, name)
        except (ValueError, TypeError) as error:
            ticket.answer = error
        return ticket

    def _ask_large(
        self,
        left: Mapping[int, list[_Ticket]],
        requests: Sequence[ClassifierRequest],
        runs: Sequence[Any],
        configs: Sequence[RunnableConfig],
    ) -> Plan[dict[int, Any]]:
        """Ask about the questions that are left, one request per state; write into the tickets what was said."""
        asked: list[Any] = []
        children: list[RunnableConfig] = []
        for place, mine in left.items():
            asked.append({"state": requests[place]["state"], "questions": {one.name: one.question for one in mine}})
            first = next((one for one in mine if one.router is not None and one.item is not None), None)
            if first is None or first.router is None or first.item is None:
                children.append(patch_config(configs[place], callbacks=runs[place].get_child(LARGE_TAG)))
            else:
                others = [one.router for one in mine if one is not first and one.router is not None]
                children.append(first.router.for_large(first.item, others))
        started = time.perf_counter()
        with Apart(configs[next(iter(left))]):
            if len(asked) == 1:
                told = [(yield Attempt(self.asks.invoke, self.asks.ainvoke, asked[0], children[0]))]
            else:
                told = yield Attempt(self.asks.batch, self.asks.abatch, asked, children, return_exceptions=True)
        seconds = time.perf_counter() - started
        replies = dict(zip(left, [told] * len(asked) if isinstance(told, BaseException) else told, strict=True))
        for place, mine in left.items():
            reply = replies[place]
            for one in mine:
                one.said = reply if isinstance(reply, BaseException) else one_answer(reply, one.name, one.question)
                if one.item is not None:
                    one.item.large_seconds = seconds
                elif must_pass(one.said):
                    raise one.said
                else:
                    one.answer = one.said
        return replies

    def _response(self, tickets: Sequence[_Ticket], reply: Any) -> CascadeResponse | Exception:
        answers = {one.name: one.answer for one in tickets if not isinstance(one.answer, BaseException)}
        for one in tickets:
            if isinstance(one.answer, Exception):
                finished(one.answer, answers)
                return one.answer
        answered = isinstance(reply, ClassifierResponse)
        return CascadeResponse(
            model=reply.model if answered else self.model,
            answers=answers,
            usage=reply.usage if answered else None,
            request_id=reply.request_id if answered else None,
            routes={one.name: one.route for one in tickets if one.route is not None},
        )


def _read_small(small: Any) -> LocalDecisionModel | None:
    """A `LocalDecisionModel`, or None where it is another decision model."""
    if isinstance(small, LocalDecisionModel):
        return small
    if isinstance(small, (Mapping, list, tuple)):
        return LocalDecisionModel(small)
    return None


def _is_label(question: Any, value: Any) -> bool:
    try:
        read_value(question, value)
    except ValueError:
        return False
    return True


def _ask_small(groups: Sequence[Sequence[_Ticket]]) -> Plan[None]:
    for mine in groups:
        router = mine[0].router
        assert router is not None
        yield from router.ask([one.item for one in mine if one.item is not None])


def _conclude(mine: Sequence[_Ticket]) -> Plan[None]:
    """Take what is decided about one question's items, as LangChain's types."""
    router = mine[0].router
    assert router is not None
    items = [one.item for one in mine if one.item is not None]
    hard = [one for one in mine if one.item is not None and one.item.accepted is None]
    said = [as_answer(one.said, one.question, one.cut) for one in hard]
    results = yield from router.conclude(items, [one.item for one in hard if one.item is not None], said)
    for one, result in zip(mine, results, strict=True):
        if isinstance(result, BaseException):
            one.answer = result
            continue
        answer, one.route = result
        large = one.route is not None and one.route["model"] == LARGE_TAG
        one.answer = one.said if large else to_typed(answer, one.question, checked=True)
