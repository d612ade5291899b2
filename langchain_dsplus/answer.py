"""The two records that flow: what a small model says, and what was decided about it.

Both are `TypedDict`s of plain Python types, so they pass through LCEL, LangGraph state, strict msgpack checkpointers
and strict JSON unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Literal, NotRequired, TypeVar

from pydantic import ValidationError
from typing_extensions import TypedDict

T = TypeVar("T")

Reason = Literal[
    "confident", "unsure", "error", "off", "shadow", "audit", "budget", "never_local", "not_certified", "mismatch",
    "alarm",
]  # fmt: skip
"""Why an input was accepted or escalated. `not_certified`: the certificate is a refusal. `mismatch`: the router's parts
are not those of its certificate, which is void so. `alarm`: audits say that its evidence no longer fits. `budget`: the
small model was unsure, and there was no money to ask the large one."""


class Answer(TypedDict):
    """What a small model says about one input.

    The three fields are those of LangChain's own `ChoiceAnswer`.
    """

    choice: str
    """The label, or the generated text."""
    probabilities: dict[str, float]
    """Sums to 1 over the labels; empty for free text."""
    confidence: float
    """The score that is compared with the threshold. Finite; higher means keep local."""


def with_confidence(answer: Answer, value: float) -> Answer:
    """A copy with another confidence, of the same kind: a draft stays one."""
    found = copy(answer)
    found["confidence"] = value
    return found


class Route(TypedDict):
    """One decision, explainable later."""

    route_id: str
    """Unique; the recorder files everything about this decision under it."""
    model: str
    """Who answered: the small model's name, or `large`."""
    accepted: bool
    """Whether a small model's answer was accepted: by its threshold, or, where `reason` says so, for lack of budget."""
    threshold: float | None
    """Of the last model asked. None accepts nothing."""
    answers: list[Answer]
    """Of every small model that was asked, in order."""
    reason: Reason
    """Why it was accepted or escalated."""
    score: NotRequired[float]
    """What a score said that is asked before the small models (`RouteScore`, `before`): they may not have been run."""
    error: NotRequired[str]
    """What failed, without the user's text."""
    degraded: NotRequired[bool]
    """True where the large model failed and the small answer came back in its place."""
    audited: NotRequired[bool]
    """True where the large model is asked as well, in the background, to check a local answer."""
    asked: NotRequired[bool]
    """True where the large model was to be asked whoever answers (`always_ask`)."""
    candidates: NotRequired[list[str]]
    """The labels that the large model was offered, where a pruner cut them."""
    pruning: NotRequired[str]
    """What the pruner did: `soft`, `hard`, `keep`, `none`; with the reason where it offered all instead."""
    certificate: NotRequired[str]
    """The id of the certificate under which it was decided."""
    conformal_set: NotRequired[list[str]]
    """The labels that the small model holds possible, where a pruner has conformal candidates."""
    conflict: NotRequired[bool]
    """Whether the large model named a label outside `conformal_set`; missing where it was not compared.

    In a stream the route goes first, without it: then it is in the recorder's row."""
    usage: NotRequired[dict[str, Any]]
    """Tokens by model, of a cascade of chat models."""
    model_name: NotRequired[str]
    """What the model that answered calls itself, in a cascade of chat models."""
    transfer: NotRequired[dict[str, Any]]
    """What prompt transfer did, where it ran: tokens before and after, faithful or not, why."""


class Context(TypedDict):
    """What the large chain receives under the key `dsplus`. Empty probabilities mean the plain prompt."""

    answer: Answer | None
    probabilities: dict[str, float]


class EscalationContext(dict[str, Any]):
    """A `Context` that also carries notes back to the router.

    It is an ordinary dict with exactly the keys `answer` and `probabilities`. Whoever formats the prompt may leave in
    `notes` what the `Route` should say about it (the candidates offered, say), and in `later` functions of the large
    model's output that return such a note, or None. `reason` says why the input escalated, None where nobody knows.
    `watched` is the small model's answer where the prompt must stay plain: for notes, never for the prompt. None of
    these is part of the value.
    """

    __slots__ = ("later", "notes", "reason", "watched")

    def __init__(
        self,
        answer: Answer | None,
        probabilities: Mapping[str, float],
        reason: Reason | None = None,
        *,
        watched: Answer | None = None,
    ) -> None:
        super().__init__(answer=answer, probabilities=dict(probabilities))
        self.notes: dict[str, Any] = {}
        self.later: dict[str, Callable[[Any], Any]] = {}
        self.reason: Reason | None = reason
        self.watched: Answer | None = watched

    def take_over(self, other: EscalationContext) -> None:
        """Stand in for another context: what is noted here is noted there."""
        self.notes, self.later, self.reason, self.watched = other.notes, other.later, other.reason, other.watched


def note(context: object, **notes: Any) -> None:
    """Leave notes for the `Route` on an escalation context; anything else is ignored."""
    if isinstance(context, EscalationContext):
        context.notes.update(notes)


def note_later(context: object, **notes: Callable[[Any], Any]) -> None:
    """Leave notes that need the large model's output: functions of it. Anything but an escalation context is ignored.

    A note that is None, or whose function fails, is left out.
    """
    if isinstance(context, EscalationContext):
        context.later.update(notes)


def is_context(value: object) -> bool:
    """Whether a value has exactly the keys of a `Context`."""
    return isinstance(value, Mapping) and value.keys() == {"answer", "probabilities"}


class InvalidAnswerError(ValueError):
    """A small model returned something that is not a usable answer. Such an input escalates."""


class NotFittedError(RuntimeError):
    """A small model is asked before it was fitted or loaded."""


class InputError(TypeError):
    """A small model cannot read an input. The message says what to change, and never carries the input."""


class AttachmentError(InputError):
    """An input holds an image, a file or audio that a small model does not read. Such an input escalates."""


class EmptyReplyError(ValueError):
    """A large model was asked and said nothing: no choice, null, or an empty message. The message names the model."""


class CertificateError(ValueError):
    """A certificate that cannot be read, or that does not fit what it is used for."""


class MismatchError(CertificateError):
    """A router's parts are not those that its certificate is about.

    Attributes:
        mismatches: Which: `small`, `small_order`, `large`, `prompt`, `never_local`, ...
    """

    def __init__(self, message: str, mismatches: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.mismatches = tuple(mismatches)


@contextmanager
def plain_mismatch() -> Iterator[None]:
    """Let a `MismatchError` out of what pydantic wraps around it, so that it can be told from a typing error."""
    try:
        yield
    except ValidationError as error:
        causes = [(line.get("ctx") or {}).get("error") for line in error.errors()]
        if len(causes) == 1 and isinstance(causes[0], MismatchError):
            raise causes[0] from None
        raise


_SILENT = frozenset({"text", "output_text", "reasoning", "thinking", "redacted_thinking", "reasoning_content"})


def is_empty_reply(message: object) -> bool:
    """Whether a chat model's message says nothing: no text, no tool call, no block but thoughts.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> (
        ...     is_empty_reply(AIMessage(" ")),
        ...     is_empty_reply(AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])),
        ... )
        (True, False)
    """
    if str(getattr(message, "text", None) or "").strip():
        return False
    extra = getattr(message, "additional_kwargs", None) or {}
    said = [getattr(message, name, None) for name in ("tool_calls", "invalid_tool_calls", "tool_call_chunks")]
    if any(said) or any(extra.get(name) for name in ("audio", "refusal", "function_call")):
        return False
    content = getattr(message, "content", None)
    blocks = content if isinstance(content, list) else []
    return all(isinstance(block, str) or block.get("type", "text") in _SILENT for block in blocks)


def check_answer(answer: Mapping[str, Any], labels: frozenset[str]) -> Answer:
    """Return a checked copy in plain Python types.

    Args:
        answer: A mapping with the fields of `Answer`.
        labels: The model's labels; empty means free text or unknown labels, and then any choice will do.

    Raises:
        InvalidAnswerError: If a field is missing, a number is not finite, or a label is unknown. The message never
            carries the choice itself, which may hold a user's text.
    """
    try:
        choice = answer["choice"]
        probabilities = {_text(k): float(v) for k, v in answer["probabilities"].items()}
        confidence = float(answer["confidence"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidAnswerError(
            "a small model must return `choice` (str), `probabilities` (dict of floats) and `confidence` (float)"
        ) from error
    if not isinstance(choice, str):
        raise InvalidAnswerError(f"`choice` must be a str, not {type(choice).__name__}")
    if not math.isfinite(confidence):
        raise InvalidAnswerError("`confidence` is not finite")
    if probabilities:
        total = 0.0
        for value in probabilities.values():
            if not value >= 0.0:  # also catches NaN
                raise InvalidAnswerError("`probabilities` holds a negative number or NaN")
            total += value
        if not abs(total - 1.0) <= 1e-3:
            raise InvalidAnswerError(f"`probabilities` must sum to 1, not {total:.6g}")
    if labels and (choice not in labels or not labels.issuperset(probabilities)):
        raise InvalidAnswerError("`choice` or `probabilities` names a label that the model does not have")
    return {"choice": _text(choice), "probabilities": probabilities, "confidence": confidence}


def _text(value: Any) -> str:
    """A plain str: also of a NumPy string or of a member of a str Enum."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def describe_error(error: BaseException) -> str:
    """Name an error without its text, which may hold a user's; our own errors never do."""
    kind = type(error)
    if kind.__module__.startswith("langchain_dsplus"):
        return f"{kind.__name__}: {error}"
    return kind.__name__


def is_interrupt(error: object) -> bool:
    """Whether an exception is LangGraph's way of pausing or jumping, which is no failure."""
    return any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def must_pass(error: object) -> bool:
    """Whether an exception is no failure of whoever was asked, and so passes through everything.

    Cancellation, Ctrl-C, the end of the program, the end of a generator, and LangGraph's interrupts.

    Example:
        >>> must_pass(KeyboardInterrupt()), must_pass(ValueError()), must_pass("an answer")
        (True, False, False)
    """
    return isinstance(error, BaseException) and (not isinstance(error, Exception) or is_interrupt(error))


def unhidden(result: Any) -> Any:
    """A result, or the exception that must pass and that it hides.

    Where a chat model raises `CancelledError` by itself, LangChain's `agenerate` takes that for a reply and trips over
    it with an `AttributeError`, whose `obj` is the cancellation.
    """
    hidden = result.obj if isinstance(result, AttributeError) else None
    return hidden if must_pass(hidden) else result


def failure(error: Exception) -> Exception:
    """The exception, to be kept in the place of an answer; raised where it is none to be kept (`must_pass`)."""
    found = unhidden(error)
    if must_pass(found):
        raise found
    return error


def pass_on(results: Sequence[T]) -> Sequence[T]:
    """The results of a batch, if all of them are answers or failures.

    LangChain's `batch(return_exceptions=True)` gives cancellation and the like back as if it were an answer: the first
    of these is raised here.
    """
    for result in map(unhidden, results):
        if isinstance(result, BaseException) and must_pass(result):
            raise result
    return results
