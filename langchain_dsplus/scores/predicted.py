"""Scores that a model of their own predicts from the input alone, before any small model is asked."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Answer
from langchain_dsplus.outcomes.sampling import refuse_chosen
from langchain_dsplus.scores.ready import Arrays, ReadyScore, inputs_of, losses_of
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel
from langchain_dsplus.small_models.kinds import load_small_model
from langchain_dsplus.small_models.sklearn import SklearnClassifier

if TYPE_CHECKING:
    from langchain_dsplus.outcomes import Outcomes

_MODEL = "predictor"


class _Predicted(Shown, ReadyScore):
    """A classifier of inputs, trained on what happened to past ones; the score is what it says of staying local.

    Args:
        model: What is trained: a small model with `fit(texts, targets)` such as a `SentenceClassifier` (default, with
            its default encoder), or an unfitted estimator or pipeline of scikit-learn that reads the inputs.
    """

    goal: ClassVar[dict[str, float]]
    """The classes it is trained on, and what each adds to the score."""

    def __init__(self, model: Any = None) -> None:
        super().__init__()
        self._template = model
        self.model: SmallModel | None = None

    @abstractmethod
    def _targets(self, outcomes: Outcomes) -> Sequence[str | None]:
        """The class of each row, None where nobody knows."""

    def fit(self, outcomes: Outcomes, inputs: Sequence[Any] | None = None) -> Self:
        """Train the classifier; rows without a class are left out.

        Args:
            outcomes: The fit rows, not those that certify.
            inputs: Their inputs, in the order of the rows; by default the column `input`.

        Raises:
            ValueError: If the rows hold fewer than two of the classes, so that there is nothing to learn.
        """
        values = inputs_of(outcomes, inputs)
        rows = [(value, target) for value, target in zip(values, self._targets(outcomes), strict=True) if target]
        if len({target for _, target in rows}) < 2:
            raise ValueError(
                f"{len(rows)} rows say which of {sorted(self.goal)} they are, and not of two of them: nothing to learn"
            )
        self.model = _trained(self._template, [value for value, _ in rows], [str(target) for _, target in rows])
        self._remember(outcomes)
        return self

    def __call__(self, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> list[float]:
        """Return one number for each input; `answers` are not looked at."""
        if self.model is None:
            raise self._unfitted()
        found = []
        for answer in self.model.answers(inputs):
            if isinstance(answer, Exception):
                raise answer
            found.append(sum(self.goal.get(label, 0.0) * p for label, p in answer["probabilities"].items()))
        return found

    def _settings(self) -> dict[str, Any]:
        if self.model is None:
            raise self._unfitted()
        return {"model": self.model.version}

    def save(self, path: str | Path) -> None:
        """Write the score and, below it, its classifier."""
        super().save(path)
        assert self.model is not None
        self.model.save(Path(path) / _MODEL)

    @classmethod
    def _made(cls, settings: Mapping[str, Any], arrays: Arrays, folder: Path, options: Mapping[str, Any]) -> Self:
        score = cls()
        score.model = load_small_model(folder / _MODEL, options)
        if settings["model"] not in (score.model.version, UNVERIFIABLE):
            raise ValueError(f"{folder}: the classifier inside is not the one that was saved")
        return score


class PredictedCorrectness(_Predicted):
    """The probability that the small model is right, predicted from the input (Data Shunt+, section 4.8).

    Rows whose truth is unknown are left out. The paper finds it only slightly better than the large model alone: the
    small model's own confidence knows more.

    Example:
        ```python
        score = PredictedCorrectness().fit(fit_outcomes, fit_texts)
        router = ConfidenceRouter(small=small, large=large, score=score, threshold=certificate)
        ```
    """

    name = "predicted_correctness"
    goal: ClassVar[dict[str, float]] = {"right": 1.0, "wrong": 0.0}

    def _targets(self, outcomes: Outcomes) -> list[str | None]:
        refuse_chosen(outcomes, "`PredictedCorrectness`")
        words = {1.0: "right", 0.0: "wrong"}
        return [words.get(float(value)) for value in outcomes.correct("small")]


class WinProbability(_Predicted):
    """The probability that the small model does at least as well as the large one, predicted from the input.

    This is the query-only router of RouteLLM (Ong et al. 2024, 2406.18665) and Hybrid LLM (Ding et al. 2024,
    2404.14618). Gold is needed only where the two disagree; a disagreement without gold counts as lost, as in
    `certify`. It pays where asking the small model costs something: a small language model, not a classifier.

    Example:
        ```python
        score = WinProbability().fit(fit_outcomes, fit_texts)
        chat = ChatDSPlus(models=[small_chat, large_chat], score=score, threshold=0.9)
        ```
    """

    name = "win_probability"
    goal: ClassVar[dict[str, float]] = {"local": 1.0, "large": 0.0}

    def _targets(self, outcomes: Outcomes) -> list[str | None]:
        loss, both = losses_of(outcomes)
        return [
            ("local" if value <= 0 else "large") if known else None for value, known in zip(loss, both, strict=True)
        ]


class PredictedDistribution(_Predicted):
    """How likely an input is of a frequent class, not of a rare one (Data Shunt+, section 4.8).

    The labels are put in order of their frequency in the fit rows: the first third is the head, the last third the
    tail, what is between the middle. A classifier learns these three from the inputs, and the score is P(head) -
    P(tail). The class of a row is its gold, or what the large model said where that is unknown. The paper finds that
    this loses accuracy overall, and so do we; it is here to be compared with.

    Example:
        ```python
        score = PredictedDistribution().fit(fit_outcomes, fit_texts)
        ```
    """

    name = "predicted_distribution"
    goal: ClassVar[dict[str, float]] = {"head": 1.0, "middle": 0.0, "tail": -1.0}

    def _targets(self, outcomes: Outcomes) -> list[str | None]:
        gold = outcomes.values("gold")
        large = outcomes.values("large") if "large" in outcomes else gold
        said = [one if one is not None else other for one, other in zip(gold, large, strict=True)]
        order = [label for label, _ in sorted(Counter(filter(None, said)).items(), key=lambda one: (-one[1], one[0]))]
        third = len(order) / 3
        part = {
            label: "head" if place < third else "tail" if place >= len(order) - third else "middle"
            for place, label in enumerate(order)
        }
        return [part.get(label) for label in said]


def _trained(template: Any, inputs: list[Any], targets: list[str]) -> SmallModel:
    """Train a copy of what was given, and leave that as it is."""
    if template is None:
        from langchain_dsplus.small_models.sentence import SentenceClassifier

        template = SentenceClassifier()
    if isinstance(template, SmallModel):
        model: Any = template.clone()
        return model.fit(inputs, targets)  # type: ignore[no-any-return]
    from sklearn.base import clone

    return SklearnClassifier(clone(template).fit(inputs, np.array(targets)), trained_on=inputs)
