"""Any Runnable that returns an `Answer`, as a small model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.runnables import Runnable, RunnableConfig

from langchain_dsplus._drive import Call, Plan
from langchain_dsplus._inputs import canonical, hash_input
from langchain_dsplus.answer import Answer, check_answer, pass_on
from langchain_dsplus.small_models.base import AskingModel, SmallModel

_DECISION_MODELS = frozenset({"BaseDecisionModel", "OpenAIDecisions"})


class RunnableSmallModel(AskingModel):
    """Wraps a Runnable from input to `Answer`: a small model with retries, or a chain of your own.

    `labels` may be empty: then any choice counts as known. The confidence is the one in the answer.
    """

    runnable: Runnable[Any, Any]

    traces_calls: ClassVar[bool] = True

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be dumped where the Runnable can."""
        return True

    def _answering(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None
    ) -> Plan[list[Answer | Exception]]:
        """Ask the Runnable, in one batch."""
        ask, aask, config = self.runnable.batch, self.runnable.abatch, None if configs is None else list(configs)
        return self._check((yield Call(ask, aask, list(inputs), config, return_exceptions=True)))

    def identity(self, value: Any) -> bytes | None:
        """As the small model inside, where there is one."""
        inner = inside(self.runnable)
        return inner.identity(value) if isinstance(inner, SmallModel) else super().identity(value)

    def in_training(self, inputs: Sequence[Any]) -> list[bool | None]:
        """As the small model inside, where there is one."""
        inner = inside(self.runnable)
        return inner.in_training(inputs) if isinstance(inner, SmallModel) else super().in_training(inputs)

    def _check(self, raw: list[Any]) -> list[Answer | Exception]:
        results: list[Answer | Exception] = []
        for value in pass_on(raw):
            try:
                results.append(value if isinstance(value, Exception) else check_answer(value, self.label_set))
            except ValueError as error:
                results.append(error)
        return results


def inside(value: Any) -> Any:
    """What is inside a binding, a retry and the like: a small model, or whatever it is."""
    while not isinstance(value, SmallModel):
        within = getattr(value, "bound", None) or getattr(value, "runnable", None)
        if within is None:
            break
        value = within
    return value


def mark_inputs(models: Sequence[SmallModel], inputs: Sequence[Any], key: bytes) -> list[dict[str, Any]]:
    """Return what a table keeps of inputs besides answers: `input_hash`, `in_training`, each where it is known.

    The hash is of what the first model reads; where it cannot read an input, of the input as it is.
    """
    known = [model.in_training(inputs) for model in models]
    marks: list[dict[str, Any]] = []
    for place, value in enumerate(inputs):
        form = models[0].identity(value) or canonical(value)
        flags = {found[place] for found in known}
        mark = {
            "input_hash": None if form is None else hash_input(form, key),
            "in_training": True if True in flags else None if None in flags else False,
        }
        marks.append({name: item for name, item in mark.items() if item is not None})
    return marks


def as_small_model(value: Any) -> SmallModel:
    """Make a small model of what a user passes as one.

    A `SmallModel` passes; a fitted classifier with `predict_proba` becomes a `SklearnClassifier`; a Runnable that
    returns an `Answer` is wrapped.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(value, SmallModel):
        return value
    if isinstance(value, Runnable):  # before `predict_proba`: a binding passes on the attributes of what it binds
        inner = inside(value)
        if not _DECISION_MODELS.isdisjoint(kind.__name__ for kind in type(inner).__mro__):
            raise TypeError(
                f"`small` is a decision model ({type(inner).__name__}), which is asked questions: say which one with "
                "`DecisionSmallModel(model, question)` (`langchain_dsplus.decisions`)"
            )
        name = inner.name if isinstance(inner, SmallModel) else getattr(value, "name", None)
        labels = list(getattr(inner, "labels", None) or ())
        return RunnableSmallModel(runnable=value, labels=labels, name=name or "small")
    if callable(getattr(value, "predict_proba", None)):
        from langchain_dsplus.small_models.sklearn import SklearnClassifier

        return SklearnClassifier(value)
    raise TypeError(
        f"`small` needs a SmallModel, a classifier with `predict_proba` and `classes_`, or a Runnable that returns "
        f"an Answer, not {type(value).__name__}"
    )


def distinct_names(models: Sequence[SmallModel]) -> list[str]:
    """Return the models' names as routes, thresholds and outcomes use them: a repeated one gets a number."""
    names: list[str] = []
    for model in models:
        base = name = model.name or "small"
        number = 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names
