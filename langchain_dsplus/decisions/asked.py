"""A small model as it is asked one question: what it reads of a state, and what its labels stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from langchain_core.runnables import RunnableConfig

from langchain_dsplus._drive import Call, Plan
from langchain_dsplus.answer import Answer, AttachmentError, InvalidAnswerError
from langchain_dsplus.confidence import OWN_SCORES, SCORES, resolve_score
from langchain_dsplus.decisions.state import render_state
from langchain_dsplus.identity import score_name
from langchain_dsplus.questions import (
    NO,
    YES,
    AnyQuestion,
    fingerprint,
    noul_confidence,
    question_labels,
    read_meanings,
)
from langchain_dsplus.small_models.attachments import find_attachment
from langchain_dsplus.small_models.base import UNVERIFIABLE, AskingModel, SmallModel, probability_rows

Reading: TypeAlias = Literal["text", "state"] | Callable[[Any], Any]
"""What a small model gets of a state: its text (`render_state`), the state itself, or what a function makes of it."""


class CutScore:
    """The confidence of a `Noul` at a cut other than .5: how far the probability of yes is from it."""

    def __init__(self, cut: float) -> None:
        self.cut = cut
        self.version = f"noul_cut_{cut:g}"

    def __call__(self, probabilities: Mapping[str, float]) -> float:
        """From .5, at the cut, to 1."""
        return noul_confidence(probabilities.get(YES, 0.0), self.cut)


class AskedModel(AskingModel):
    """A small model that answers one question about states, with the question's labels.

    Args:
        model: The small model.
        question: The question.
        meanings: From the model's labels to the question's, see `read_meanings`.
        cut: From which probability on a `Noul` counts as yes.
        reading: What the model gets of a state.

    Raises:
        ValueError: If the model's labels are not the question's, or its score cannot be had for them.
    """

    model: SmallModel
    question: Any
    meanings: dict[str, str]
    cut: float = 0.5
    reading: Any = "text"

    own_scores: ClassVar[frozenset[str]] = frozenset(OWN_SCORES) | {"confidence"}

    def __init__(
        self,
        model: SmallModel,
        question: AnyQuestion,
        *,
        meanings: Mapping[str, Any] | None = None,
        cut: float = 0.5,
        reading: Reading = "text",
    ) -> None:
        if not 0.0 < cut < 1.0:
            raise ValueError(f"`cut` must lie between 0 and 1, not at {cut!r}")
        if reading not in ("text", "state") and not callable(reading):
            raise ValueError("`read` must be 'text', 'state' or a function from the state to what the small model gets")
        found = read_meanings(question, model.labels, meanings)
        score: Any = model.score
        if question.type == "noul" and cut != 0.5:
            score = CutScore(cut)
        elif len(set(found.values())) < len(found) and not (callable(score) or score in SCORES):
            raise ValueError(
                f"several labels stand for one, and the score {score!r} cannot be had for them: use 'max_probability'"
            )
        labels = [label for label in question_labels(question) if label in found.values()]
        super().__init__(
            model=model,
            question=question,
            meanings=found,
            cut=cut,
            reading=reading,
            labels=labels,
            name=model.name,
            score=score,
            ignore_attachments=model.ignore_attachments,
        )

    @cached_property
    def _recompute(self) -> bool:
        """Whether choice and confidence must be found anew in the question's labels."""
        return len(self.labels) < len(self.meanings) or self.score is not self.model.score

    @cached_property
    def _same(self) -> bool:
        """Whether the model's answers can stay as they are."""
        return not self._recompute and all(label == meaning for label, meaning in self.meanings.items())

    @property
    def traces_calls(self) -> bool:  # type: ignore[override]
        """As the model inside."""
        return self.model.traces_calls

    @property
    def version(self) -> str:
        """The model's own, where it answers as it is asked: which question that is stands with the large model."""
        return self.model.version if self._same and self.reading == "text" else super().version

    def fingerprint(self) -> str:
        """The model, the question, and how the one is made to answer the other."""
        inner = self.model.version
        how = self.reading if isinstance(self.reading, str) else score_name(self.reading)
        if inner == UNVERIFIABLE:
            return UNVERIFIABLE
        return json.dumps([inner, fingerprint(self.question), self.meanings, self.cut, how], ensure_ascii=False)

    def read(self, value: Any) -> Any:
        """Take out of a state what the model inside reads.

        Raises:
            InputError: If it cannot be read as text, or holds media that the model would not see.
        """
        if callable(self.reading):
            return self.reading(value)
        if self.reading == "state" or (self.model.input_key is not None and isinstance(value, Mapping)):
            return value
        found = None if self.ignore_attachments else find_attachment(value)
        if found is not None:
            raise AttachmentError(
                f"the state has media ({found}) that small model {self.name!r} does not read; `read=` says what it "
                "gets instead, `ignore_attachments=True` of the model answers without"
            )
        return render_state(value)

    def in_training(self, inputs: Sequence[Any]) -> list[bool | None]:
        """As the model inside, about what it reads."""
        _, places, values = self.read_all(inputs)
        found = dict(zip(places, self.model.in_training(values), strict=True))
        return [found.get(place) for place in range(len(inputs))]

    def warmup(self) -> None:
        """Load what the model inside loads late."""
        self.model.warmup()

    def predict_proba(self, inputs: list[Any]) -> list[list[float]]:
        """Return the probabilities alone, of what `read` took out."""
        return probability_rows(map(self._translated, self.model.answers(inputs)), self.labels)

    def _answering(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None
    ) -> Plan[list[Answer | Exception]]:
        """Ask the model inside, in one batch."""
        results, places, values = self.read_all(inputs)
        if values:
            told = yield Call(self.model.answers, self.model.aanswers, values, chosen(configs, places))
            for place, answer in zip(places, told, strict=True):
                results[place] = self._translated(answer)
        return results

    def _translated(self, answer: Answer | Exception) -> Answer | Exception:
        """The answer in the question's labels, with its own score where the model's says something else of them."""
        if isinstance(answer, Exception):
            return answer
        if not answer["probabilities"]:
            return InvalidAnswerError("`probabilities` is empty: a question needs one for each label")
        if self._same:
            return answer
        probabilities = dict.fromkeys(self.labels, 0.0)
        for label, p in answer["probabilities"].items():
            meaning = self.meanings.get(label)
            if meaning is None:
                return InvalidAnswerError("`probabilities` names a label that the small model does not have")
            probabilities[meaning] += p
        if not self._recompute:
            return Answer(
                choice=self.meanings.get(answer["choice"], ""),
                probabilities=probabilities,
                confidence=answer["confidence"],
            )
        if isinstance(self.score, CutScore):
            choice = YES if probabilities.get(YES, 0.0) >= self.cut else NO
        else:
            choice = max(probabilities, key=probabilities.__getitem__)
        confidence = float(resolve_score(self.score)(probabilities))
        return Answer(choice=choice, probabilities=probabilities, confidence=confidence)


def chosen(configs: Sequence[RunnableConfig] | None, places: Sequence[int]) -> list[RunnableConfig] | None:
    """The configs of some inputs of a batch."""
    return None if configs is None else [configs[place] for place in places]
