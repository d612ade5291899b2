"""LangChain's typed questions in our words: their labels, their fingerprint, and `Answer` to a typed answer and back.

A `Choice` has its own labels, a `Noul` has `yes` and `no`, a `Score` has its levels as texts, `"0"` and so on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.decisions import Box, Choice, ChoiceAnswer, Noul, NoulAnswer, Score, ScoreAnswer

from langchain_dsplus._inputs import canonical
from langchain_dsplus.answer import Answer, InvalidAnswerError, check_answer

AnyQuestion: TypeAlias = Noul | Choice | Score
"""A question with labels; a `Box` has none."""
AnyAnswer: TypeAlias = NoulAnswer | ChoiceAnswer | ScoreAnswer

YES, NO = "yes", "no"
_BOOLEAN = {"yes": YES, "true": YES, "1": YES, "no": NO, "false": NO, "0": NO}
_KNOWN: dict[tuple[type, str | None], tuple[tuple[Any, str], ...]] = {}
"""Questions by type and instructions, with their fingerprints: the same few are asked again and again."""
_MOST = 4096
_ROUNDED = 0.05
"""How far the numbers of a hosted model may be from a sum of 1, since services round them."""


class UnknownQuestionError(ValueError):
    """A decision model is asked a question that nobody there answers."""


def fingerprint(question: Any) -> str:
    """Return what a question is: a hash of its type, instructions and criteria, whatever id it is asked under.

    White space and the order of a `Choice`'s labels do not count; the order of a `Score`'s levels does.

    Example:
        >>> one = Noul(instructions="Is it urgent?")
        >>> fingerprint(one) == fingerprint(Noul(instructions="Is it  urgent?"))
        True
    """
    text = check_question(question).instructions
    key = type(question), text if isinstance(text, str) else None
    for known, found in _KNOWN.get(key, ()):
        if known == question:  # much quicker than to write it down
            return found
    body = json.loads(question.model_dump_json())
    found = "q-" + hashlib.sha256(canonical(body) or b"").hexdigest()[:24]
    if len(_KNOWN) >= _MOST:
        _KNOWN.clear()
    _KNOWN[key] = (*_KNOWN.get(key, ())[-7:], (question.model_copy(deep=True), found))
    return found


def check_question(question: Any) -> Any:
    """Return the question, if it is one of LangChain's. Raises TypeError if it is not."""
    if isinstance(question, (Noul, Choice, Score, Box)):
        return question
    kind = f"{type(question).__module__}.{type(question).__name__}"
    raise TypeError(f"a question must be a Noul, Choice, Score or Box of `langchain_core.decisions`, not {kind}")


def question_labels(question: AnyQuestion) -> list[str]:
    """Return the labels of a question, in its order.

    Raises:
        TypeError: If it is a `Box`, which has none.

    Example:
        >>> question_labels(Score(instructions="How angry?", criteria=["calm", "angry"]))
        ['0', '1']
    """
    check_question(question)
    if isinstance(question, Noul):
        return [YES, NO]
    if isinstance(question, Choice):
        return list(question.criteria)
    if isinstance(question, Score):
        return [str(level) for level in range(len(question.criteria))]
    raise TypeError("a Box question has no labels: no small model can answer it")


def read_value(question: AnyQuestion, value: Any) -> str:
    """Return the label that a value stands for: a label, for a `Noul` also a bool, for a `Score` also a level.

    Raises:
        ValueError: If it is none of the question's.
    """
    labels = question_labels(question)
    if isinstance(question, Noul) and isinstance(value, bool):
        return YES if value else NO
    if isinstance(question, Score) and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(question, Noul) and isinstance(value, str):
        value = _BOOLEAN.get(value.strip().casefold(), value)
    if value in labels:
        return str(value)
    raise ValueError(f"a {question.type} question has the labels {labels}; what was given is none of them")


def read_meanings(
    question: AnyQuestion, labels: Sequence[str], told: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return which label of a question each label of a small model stands for.

    Args:
        question: The question.
        labels: The small model's; none means those of the question.
        told: The user's own, from each of `labels` to a label, a bool or a level.

    Raises:
        ValueError: If it cannot be told. The message shows `meanings=`.

    Example:
        >>> read_meanings(Noul(instructions="Is it spam?"), ["False", "True"])
        {'False': 'no', 'True': 'yes'}
    """
    wanted = question_labels(question)
    if told is not None:
        if set(told) != set(labels or wanted):
            raise ValueError(
                f"`meanings` must name every label of the small model and no other: {list(labels or wanted)}"
            )
        return {label: read_value(question, told[label]) for label in labels or wanted}
    if not labels or set(labels) <= set(wanted):
        return {label: label for label in labels or wanted}
    texts = {}
    if isinstance(question, Noul):
        texts = {label: _BOOLEAN.get(label.strip().casefold()) for label in labels}
    elif isinstance(question, Score):
        levels = {text: str(level) for level, text in enumerate(question.criteria) if isinstance(text, str)}
        texts = {label: levels.get(label) if len(levels) == len(wanted) else None for label in labels}
    found = {label: text for label, text in texts.items() if text is not None}
    if len(found) == len(labels) == len(set(found.values())):
        return found
    example = {"noul": "True", "score": "0"}.get(question.type, repr(wanted[0]))
    raise ValueError(
        f"the small model's labels {list(labels)} are not those of the {question.type} question, {wanted}: say what "
        f"each stands for with `meanings={{{labels[0]!r}: {example}, ...}}`"
    )


# --- answers ----------------------------------------------------------------------------------------------------------


def noul_confidence(yes: float, cut: float = 0.5) -> float:
    """How far a probability of yes is from the user's cut, from .5 to 1; at the cut .5 it is the larger probability.

    Example:
        >>> noul_confidence(0.9), noul_confidence(0.2, cut=0.2), noul_confidence(0.1, cut=0.2)
        (0.9, 0.5, 0.75)
    """
    if cut == 0.5:
        return max(yes, 1.0 - yes)
    return 0.5 + 0.5 * ((yes - cut) / (1.0 - cut) if yes >= cut else (cut - yes) / cut)


def to_typed(answer: Answer, question: AnyQuestion, *, checked: bool = False) -> AnyAnswer:
    """Return an `Answer` as the answer of LangChain's type. A `ChoiceAnswer` has the same three fields.

    A confidence outside [0, 1], as an energy or entropy has, cannot stand there: then it is the largest probability.

    Args:
        answer: With the question's labels.
        question: The question.
        checked: Whether it is known to have no others.

    Raises:
        InvalidAnswerError: If it names other labels, or has no probabilities.

    Example:
        >>> question = Noul(instructions="Is it urgent?")
        >>> to_typed({"choice": "yes", "probabilities": {"yes": 0.75, "no": 0.25}, "confidence": 0.75}, question).noul
        0.75
    """
    labels = question_labels(question)
    if not checked:
        answer = check_answer(answer, frozenset(labels))
    probabilities = answer["probabilities"]
    if not probabilities:
        raise InvalidAnswerError("`probabilities` is empty: a typed answer needs one for each label")
    if isinstance(question, Noul):
        return NoulAnswer(type="noul", noul=_unit(probabilities.get(YES, 0.0)))
    confidence = answer["confidence"]
    if not -1e-9 <= confidence <= 1.0 + 1e-9:
        confidence = max(probabilities.values())
    if isinstance(question, Choice):
        told = {**dict.fromkeys(labels, 0.0), **probabilities}
        return ChoiceAnswer(type="choice", choice=answer["choice"], probabilities=told, confidence=_unit(confidence))
    levels = {level: probabilities.get(label, 0.0) for level, label in enumerate(labels)}
    return ScoreAnswer(
        type="score",
        score=math.fsum(level * p for level, p in levels.items()),
        legend=dict(enumerate(question.criteria)),
        probabilities=levels,
        confidence=_unit(confidence),
    )


def _unit(value: float) -> float:
    """Without what rounding added: a sum of floats may be a hair above 1."""
    return min(max(value, 0.0), 1.0)


def from_typed(answer: Any, question: AnyQuestion, *, cut: float = 0.5) -> Answer:
    """Return an answer of LangChain's type as an `Answer` with the question's labels.

    Args:
        answer: A `ChoiceAnswer`, `NoulAnswer` or `ScoreAnswer`.
        question: The question.
        cut: From which probability on a `Noul` counts as yes.

    Raises:
        InvalidAnswerError: If it is of another type than the question, or its numbers are no distribution.

    Example:
        >>> from_typed(NoulAnswer(type="noul", noul=0.25), Noul(instructions="Is it urgent?"))["choice"]
        'no'
    """
    if not isinstance(answer, (NoulAnswer, ChoiceAnswer, ScoreAnswer)) or answer.type != question.type:
        raise InvalidAnswerError(f"the answer to a {question.type} question is {type(answer).__name__}")
    if isinstance(answer, NoulAnswer):
        yes = answer.noul
        choice = YES if yes >= cut else NO
        return Answer(choice=choice, probabilities={YES: yes, NO: 1.0 - yes}, confidence=noul_confidence(yes, cut))
    probabilities = _scaled({str(label): p for label, p in answer.probabilities.items()})
    likeliest = max(probabilities, key=probabilities.__getitem__, default="")
    choice = answer.choice if isinstance(answer, ChoiceAnswer) else likeliest
    found = Answer(choice=choice, probabilities=probabilities, confidence=answer.confidence)
    return check_answer(found, frozenset(question_labels(question)))


def _scaled(probabilities: dict[str, float]) -> dict[str, float]:
    total = math.fsum(probabilities.values())
    if abs(total - 1.0) <= 1e-3 or not abs(total - 1.0) <= _ROUNDED:
        return probabilities
    return {label: p / total for label, p in probabilities.items()}
