"""Tables of outcomes for decisions: all models asked about all questions of a state, and one table per question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.decisions import Choice, ClassifierResponse, Noul, NoulAnswer, Question, ScoreAnswer
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from langchain_dsplus.decisions.asked import AskedModel
from langchain_dsplus.decisions.cascade import CascadeDecisionModel
from langchain_dsplus.decisions.large import as_answer, identity_of, one_answer
from langchain_dsplus.losses import Loss
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.questions import YES, AnyQuestion, fingerprint, read_value
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.traces.collect import acollect_outcomes, collect_outcomes, read_dataset

_ROUNDING = 1e-9
_KEPT = ("group", "input_hash", "latency_large", "error")


def collect_decision_outcomes(
    cascade: CascadeDecisionModel,
    dataset: Iterable[Any],
    *,
    questions: Mapping[str, Question] | None = None,
    tolerance: Mapping[str, float] | None = None,
    **options: Any,
) -> dict[str, Outcomes]:
    """Ask the small models and the large one about every state, and return one table of outcomes per question.

    The large model gets one request per state, about all questions. Each table goes to `certify`, and its certificate
    to the cascade: `threshold={id: certificate}`; `certify_decisions` does the former for all.

    What counts as a loss: of a `Choice` another label than the large model's (or than gold, where that is known); of a
    `Noul` the other side of its `cut`; of a `Score` another most probable level. With a `tolerance` a `Noul` or `Score`
    is as good as the truth where its probability, or its expected level, is at most so far from it.

    Args:
        cascade: The models, and the questions that they are for.
        dataset: As in `collect_outcomes`: a row's input is a state, its gold a mapping from a question's id to the
            truth (a label, a bool, a level); both may lack some.
        questions: The questions behind ids, where the cascade's small models are known by their ids alone.
        tolerance: By id: in probability for a `Noul`, in levels for a `Score`.
        **options: As in `collect_outcomes`: `input_key`, `gold_key`, `id_key`, `group_key`, `path` to resume from,
            `price`, `max_cost`, `progress`, `config`, ...

    Returns:
        Tables by id. What a request cost is shared among its questions.

    Raises:
        ValueError: As `collect_outcomes`; or if gold is none of a question's labels, or no question is known.

    Example:
        ```python
        tables = collect_decision_outcomes(cascade, rows, path="answers.jsonl")
        certificates = certify_decisions(tables, max_loss="1 point")
        live = CascadeDecisionModel(small=cascade.small, large=cascade.large, threshold=certificates)
        ```
    """
    options |= {"questions": questions, "tolerance": tolerance}
    job = _Job.of(cascade, dataset, options)
    return job.tables(collect_outcomes(list(job.models.values()), job.large, job.rows, **job.options(options)))


async def acollect_decision_outcomes(
    cascade: CascadeDecisionModel, dataset: Iterable[Any], **options: Any
) -> dict[str, Outcomes]:
    """Async twin of `collect_decision_outcomes`: the same arguments, files and result."""
    job = _Job.of(cascade, dataset, options)
    return job.tables(await acollect_outcomes(list(job.models.values()), job.large, job.rows, **job.options(options)))


def certify_decisions(
    tables: Mapping[str, Outcomes], max_loss: Loss = 0.005, level: float = 0.95, **options: Any
) -> dict[str, Certificate]:
    """Certify every question's table: what `threshold=` of a `CascadeDecisionModel` takes.

    Each certificate holds with probability `level` by itself. That all k hold at once is as sure with a level of
    1 - (1 - level) / k.

    Args:
        tables: By id, from `collect_decision_outcomes`.
        max_loss: As in `certify`.
        level: As in `certify`.
        **options: As in `certify`.
    """
    return {name: certify(table, max_loss, level, **options) for name, table in tables.items()}


class _AskAll(RunnableSerializable[Any, ClassifierResponse]):
    """From a state to the large model's answers to all questions."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    asks: Any
    questions: dict[str, Any]

    def identity_parts(self) -> Any:
        """What it is: a file of replies belongs to it."""
        return [identity_of(self.asks), {name: fingerprint(one) for name, one in self.questions.items()}]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> ClassifierResponse:
        """Ask about one state."""
        found: ClassifierResponse = self.asks.invoke({"state": input, "questions": self.questions}, config)
        return found

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> ClassifierResponse:
        """Async twin of `invoke`."""
        found: ClassifierResponse = await self.asks.ainvoke({"state": input, "questions": self.questions}, config)
        return found


def _written(response: Any) -> str:
    """What is kept of a response: all its answers, as JSON, so that they need not be paid for again."""
    return ClassifierResponse(model=response.model, answers=response.answers).model_dump_json()


@dataclass
class _Job:
    cascade: CascadeDecisionModel
    questions: dict[str, Any]
    models: dict[str, AskedModel]
    tolerance: Mapping[str, float]
    rows: list[dict[str, Any]]
    gold: dict[str, dict[str, str]]
    """By a row's id, then by question."""

    @classmethod
    def of(cls, cascade: CascadeDecisionModel, dataset: Iterable[Any], options: dict[str, Any]) -> _Job:
        """Take out of the options what is not for `collect_outcomes`."""
        keys = [options.pop(f"{name}_key", name) for name in ("input", "gold", "id", "group")]
        tolerance: Mapping[str, float] | None = options.pop("tolerance", None)
        asked = cascade.asked(options.pop("questions", None) or {})
        for name, width in (tolerance or {}).items():
            if name not in asked or isinstance(asked[name].question, Choice) or not width >= 0:
                raise ValueError(
                    f"`tolerance` of {name!r}: it must be at least 0, and of a Noul or Score that is asked"
                )
        models = {name: model.model_copy(update={"name": name}) for name, model in asked.items()}
        wanted = {name: model.question for name, model in asked.items()}
        rows, gold = [], {}
        for row in read_dataset(dataset, *keys):
            gold[row["id"]] = _read_gold(row["gold"], wanted, row["number"])
            rows.append({"id": row["id"], "input": row["input"], "group": row["group"]})
        return cls(cascade, wanted, models, tolerance or {}, rows, gold)

    @property
    def large(self) -> _AskAll:
        return _AskAll(asks=self.cascade.asks, questions=self.questions)

    def options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"version": self.cascade.options.get("version"), **given, "to_label": _written, "about": {"labels": []}}

    def tables(self, wide: Outcomes) -> dict[str, Outcomes]:
        ids = wide.values("id")
        states = {row["id"]: row["input"] for row in self.rows}
        told = [None if text is None else ClassifierResponse.model_validate_json(text) for text in wide.values("large")]
        found = {}
        for name, model in self.models.items():
            columns = self._columns(wide, name, told)
            columns["in_training"] = model.in_training([states[one] for one in ids])
            if all(value is None for value in columns["in_training"]):
                del columns["in_training"]
            about = {**self.cascade.routers[name].about, "question": fingerprint(model.question)}
            if "large_reported" in wide.about:
                about["large_reported"] = wide.about["large_reported"]
            if name in self.tolerance:
                about["tolerance"] = float(self.tolerance[name])
            found[name] = Outcomes(columns, about=about)
            found[name].folder = wide.folder
        return found

    def _columns(self, wide: Outcomes, name: str, told: Sequence[ClassifierResponse | None]) -> dict[str, list[Any]]:
        question = self.questions[name]
        suffix = f".{name}" if len(self.questions) > 1 else ""
        columns: dict[str, list[Any]] = {"id": list(wide.values("id"))}
        for column in ("small", "confidence", "probabilities", "small_error", "latency_small"):
            if f"{column}{suffix}" in wide:
                columns[column] = list(wide.values(f"{column}{suffix}"))
        columns.update({column: list(wide.values(column)) for column in _KEPT if column in wide})
        if "cost_large" in wide:
            columns["cost_large"] = [
                None if cost is None else cost / len(self.questions) for cost in wide.values("cost_large")
            ]
        typed = [None if response is None else one_answer(response, name, question) for response in told]
        said = [None if one is None else as_answer(one, question, self.models[name].cut) for one in typed]
        gold = [self.gold[one].get(name) for one in columns["id"]]
        columns["gold"] = gold
        failed = [type(one).__name__ if isinstance(one, Exception) else None for one in said]
        if any(failed):
            before = columns.get("error", [None] * len(failed))
            columns["error"] = [one or other for one, other in zip(failed, before, strict=True)]
        labels = [None if one is None or isinstance(one, Exception) else one["choice"] for one in said]
        if name not in self.tolerance:
            columns["large"] = labels
            return columns
        # Without a column `large`: two equal labels would count as agreement, however far apart the numbers are.
        width = self.tolerance[name] + _ROUNDING
        numbers = zip(columns["probabilities"], typed, gold, strict=True)
        marks = [_within(question, small, large, truth, width) for small, large, truth in numbers]
        return {**columns, "small_ok": [one for one, _ in marks], "large_ok": [one for _, one in marks]}


def _read_gold(value: Any, questions: Mapping[str, AnyQuestion], number: int) -> dict[str, str]:
    """A row's gold by question; of one question alone it may stand by itself."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        if len(questions) > 1:
            raise ValueError(f"row {number} of `dataset`: gold must be a dict from a question's id to the truth")
        value = {next(iter(questions)): value}
    found = {}
    for name, truth in value.items():
        if name not in questions:
            raise ValueError(f"row {number} of `dataset`: gold names {name!r}, which is none of {sorted(questions)}")
        if truth is not None:
            try:
                found[name] = read_value(questions[name], truth)
            except ValueError as error:
                raise ValueError(f"row {number} of `dataset`, gold of {name!r}: {error}") from None
    return found


def _within(
    question: AnyQuestion, small: Mapping[str, float] | None, large: Any, gold: str | None, width: float
) -> tuple[bool | None, bool | None]:
    """Whether small and large are near the truth; where that is unknown, both count as right where they agree."""
    mine = None if small is None else _number(question, small)
    theirs = large.noul if isinstance(large, NoulAnswer) else large.score if isinstance(large, ScoreAnswer) else None
    if gold is not None:
        truth = _number(question, {gold: 1.0})
        near = [None if number is None else abs(number - truth) <= width for number in (mine, theirs)]
        return near[0], near[1]
    if mine is None or theirs is None or abs(mine - theirs) > width:
        return None, None
    return True, True


def _number(question: AnyQuestion, probabilities: Mapping[str, float]) -> float:
    """The probability of yes, or the expected level."""
    if isinstance(question, Noul):
        return float(probabilities.get(YES, 0.0))
    return math.fsum(int(level) * p for level, p in probabilities.items())
