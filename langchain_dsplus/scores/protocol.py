"""What a score is that may look at the input and at the small model's answer, and how one is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from langchain_core.runnables.config import run_in_executor

from langchain_dsplus.answer import Answer, InvalidAnswerError, failure, with_confidence
from langchain_dsplus.confidence import is_route_score

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langchain_dsplus.small_models.base import SmallModel


class RouteScore(Protocol):
    """How far an input may stay local: one number for each, higher keeps local.

    Anything with these members is one; nothing is inherited. It goes wherever a score goes: `ConfidenceRouter(score=)`,
    `ChatDSPlus(score=)`, `collect_outcomes(score=)`, `score_outcomes` for a table that is there already.

    Attributes:
        name: What it is called in tables, certificates and reports.
        version: Changes whenever its numbers may change. A certificate is bound to name and version.
        before: True where it needs no answer of the small model (may be missing: False). Then a router asks it first,
            and the small model is not run for what escalates.

    Example:
        ```python
        class Short:  # a query-only score: short inputs stay local
            name, version, before = "short", "1", True

            def fit(self, outcomes, inputs=None):
                return self

            def __call__(self, inputs, answers=None):
                return [-float(len(text)) for text in inputs]


        router = ConfidenceRouter(small=small, large=large, score=Short(), threshold=-40.0)
        ```
    """

    name: str

    @property
    def version(self) -> str:
        """Changes whenever its numbers may change."""

    def fit(self, outcomes: Any, inputs: Sequence[Any] | None = None) -> Any:
        """Learn from a table, and where it needs them from the inputs of its rows; a score without parts returns self.

        The rows must be others than those that certify.
        """

    def __call__(self, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> Sequence[float]:
        """Return one number for each input.

        Args:
            inputs: What the router gets.
            answers: What the small model said about each; None for a score that is asked before.
        """


def asks_before(score: object) -> bool:
    """Whether a score needs no answer of the small model."""
    return is_route_score(score) and bool(getattr(score, "before", False))


def rate(score: RouteScore, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> list[float | Exception]:
    """Ask a score about a batch: a finite number each, or what is wrong.

    Where the whole batch raises, each input is asked about alone, so that a bad one harms only itself.
    """
    if not inputs:
        return []
    try:
        found = [float(value) for value in score(list(inputs), None if answers is None else list(answers))]
        if len(found) != len(inputs):
            msg = f"the score {score.name!r} returned {len(found)} numbers for {len(inputs)} inputs"
            return [InvalidAnswerError(msg)] * len(inputs)
    except Exception as error:  # noqa: BLE001 - whatever it is, accepting needs proof
        failed = failure(error)
        if len(inputs) == 1:
            return [failed]
        alone = [rate(score, [value], None if answers is None else [answers[k]]) for k, value in enumerate(inputs)]
        return [one for (one,) in alone]
    msg = f"the score {score.name!r} is not finite"
    return [value if math.isfinite(value) else InvalidAnswerError(msg) for value in found]


def around(score: RouteScore, models: Mapping[int, SmallModel], before: int) -> dict[int, Rated | SmallModel]:
    """Who is asked where a score decides: the models with the score around them, or the score first, as `before`.

    Raises:
        NotFittedError: If the score is not fitted: now, and not at the first input.
    """
    _ = score.version
    if asks_before(score):
        return {before: Rated(score), **models}
    return {number: Rated(score, model) for number, model in models.items()}


class Rated:
    """What a router asks in a small model's place: its answers, with a score as their confidence."""

    def __init__(self, score: RouteScore, model: SmallModel | None = None) -> None:
        self.score = score
        self.model = model
        self.traces_calls: bool = model is not None and model.traces_calls
        self.input_key = None if model is None else model.input_key

    def answers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Answer a batch; an exception in the place of an answer."""
        return self._rated(inputs, None if self.model is None else self.model.answers(inputs, configs))

    async def aanswers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Async twin of `answers`; the score runs in an executor thread."""
        said = None if self.model is None else await self.model.aanswers(inputs, configs)
        return await run_in_executor(None, self._rated, inputs, said)

    def _rated(self, inputs: Sequence[Any], said: Sequence[Answer | Exception] | None) -> list[Answer | Exception]:
        if said is None:
            said = [Answer(choice="", probabilities={}, confidence=0.0) for _ in inputs]
        good = [(place, answer) for place, answer in enumerate(said) if not isinstance(answer, Exception)]
        answers = None if asks_before(self.score) else [answer for _, answer in good]
        rated = rate(self.score, [inputs[place] for place, _ in good], answers)
        results = list(said)
        for (place, answer), value in zip(good, rated, strict=True):
            results[place] = value if isinstance(value, Exception) else with_confidence(answer, value)
        return results
