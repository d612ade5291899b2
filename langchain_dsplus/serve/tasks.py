"""Which requests a shunt may answer, what its small model reads of them, and how a local answer looks on the wire."""

from __future__ import annotations

import json
import string
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.decisions import Choice, ChoiceAnswer, Noul, NoulAnswer, Score, ScoreAnswer
from langchain_core.messages import AIMessage

from langchain_dsplus._json import load_json
from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Answer
from langchain_dsplus.costs.usage import Usage, read_usage
from langchain_dsplus.questions import AnyQuestion, from_typed, question_labels, to_typed

_ROLES = {"developer": "system", "human": "user", "ai": "assistant"}
_NUMBER = (int, float)
_CHAT: dict[str, tuple[type, ...]] = {
    "model": (str,), "messages": (list,), "stream": (bool,), "stream_options": (dict,), "n": (int,),
    "temperature": _NUMBER, "top_p": _NUMBER, "seed": (int,), "max_tokens": (int,), "max_completion_tokens": (int,),
    "reasoning_effort": (str,), "service_tier": (str,), "user": (str,), "safety_identifier": (str,),
    "prompt_cache_key": (str,),
}  # fmt: skip
"""What a request may say and still be answered locally. Anything else (tools, formats, log-probabilities) is for the
upstream alone."""


class Task(ABC):
    """One task, as clients ask it.

    Args:
        model: The large model's name, as clients send it.
    """

    path: str
    """Below `/v1/`."""

    def __init__(self, model: str) -> None:
        self.model = model

    @property
    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What it is, in plain JSON; `read_task` makes it again."""

    @abstractmethod
    def read(self, body: Mapping[str, Any]) -> str | None:
        """The input in a request, or None where the request is not this task."""

    @abstractmethod
    def heard(self, reply: bytes) -> Any:
        """What the large model said: a message or an `Answer`.

        Raises:
            ValueError: If nothing can be read from it.
        """

    @abstractmethod
    def reply(self, answer: Answer, body: Mapping[str, Any], name: str, usage: Usage) -> tuple[str, bytes]:
        """A local answer as content type and body.

        Args:
            answer: With the shunt's labels.
            body: The request's.
            name: Of the decision; the reply's id.
            usage: Tokens of the small side.
        """

    def alone(self, body: bytes) -> bytes:
        """The request as it is sent where nobody waits for the reply."""
        return body


class ChatTask(Shown, Task):
    """A prompt of `/v1/chat/completions`: fixed messages, and a last one from the user with one place for the input.

    Args:
        model: The large model's name.
        messages: Pairs (role, text). The last is the user's and holds the input as `{text}`, or whatever name stands in
            braces; `{{` and `}}` are braces. No place at all is allowed in a lone text: it is the system's then, and
            the whole last message is the input.
        reply: What a local answer says; `{label}` is the label.

    Raises:
        ValueError: If there is no such place, or more than one.

    Example:
        >>> task = ChatTask("big-1", [("system", "Say refund or other."), ("user", "Text: {text}")])
        >>> task.read(
        ...     {
        ...         "model": "big-1",
        ...         "messages": [
        ...             {"role": "system", "content": "Say refund or other."},
        ...             {"role": "user", "content": "Text: hello"},
        ...         ],
        ...     }
        ... )
        'hello'
    """

    path = "chat/completions"

    def __init__(self, model: str, messages: Sequence[tuple[str, str]], reply: str = "{label}") -> None:
        super().__init__(model)
        found = [(_ROLES.get(role, role), _split(text)) for role, text in messages]
        if len(found) == 1 and len(found[0][1]) == 1:
            found = [("system", found[0][1]), ("user", ["", ""])]
        if (
            not found
            or found[-1][0] != "user"
            or len(found[-1][1]) != 2
            or any(len(parts) != 1 for _, parts in found[:-1])
        ):
            raise ValueError(
                "the prompt must hold exactly one place for the input, such as {text}, and that in its last message, "
                "which is the user's; write a brace that is text as {{ or }}"
            )
        if len(_split(reply)) != 2:
            raise ValueError("the reply must hold {label} exactly once; write a brace that is text as {{ or }}")
        self.messages = [(role, text) for role, text in messages]
        self.fixed = [(role, parts[0]) for role, parts in found[:-1]]
        self.before, self.after = found[-1][1]
        self.template = reply
        self._around = _split(reply)

    @property
    def parts(self) -> dict[str, Any]:
        """What it is."""
        return {"model": self.model, "messages": [list(pair) for pair in self.messages], "reply": self.template}

    def read(self, body: Mapping[str, Any]) -> str | None:
        """The input, where the messages are the prompt's and nothing is asked for that a label alone cannot be."""
        if body.get("model") != self.model or body.get("n") not in (None, 1):
            return None
        for name, value in body.items():
            if value and (name not in _CHAT or not isinstance(value, _CHAT[name])):
                return None
        found = [_turn(message) for message in body.get("messages") or ()]
        if found[:-1] != self.fixed or not found or found[-1] is None or found[-1][0] != "user":
            return None
        text = found[-1][1]
        inner = text[len(self.before) : len(text) - len(self.after)]
        return inner if inner.strip() and text == self.before + inner + self.after else None

    def heard(self, reply: bytes) -> AIMessage:
        """The reply as a message, whole or out of its stream, with its log-probabilities and its usage."""
        pieces: list[str] = []
        tokens: list[Any] = []
        metadata: dict[str, Any] = {}
        usage = None
        for part in _parts(reply):
            usage = part.get("usage") or usage
            metadata |= {"model_name": part["model"]} if isinstance(part.get("model"), str) else {}
            for choice in part.get("choices") or ():
                said = choice.get("message") or choice.get("delta") or {}
                pieces.append(said.get("content") or "")
                tokens += (choice.get("logprobs") or {}).get("content") or ()
                metadata |= {"finish_reason": choice["finish_reason"]} if choice.get("finish_reason") else {}
        counted = read_usage(usage)
        return AIMessage(
            "".join(pieces),
            response_metadata=metadata | ({"logprobs": {"content": tokens}} if tokens else {}),
            usage_metadata=None if counted is None else counted.to_metadata(),
        )

    def reply(self, answer: Answer, body: Mapping[str, Any], name: str, usage: Usage) -> tuple[str, bytes]:
        """A completion, or its stream."""
        text = answer["choice"].join(self._around)
        counts = {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
        }
        head = {"id": f"chatcmpl-{name}", "created": int(time.time()), "model": f"dsplus/{self.model}"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
            return "application/json", _json(
                {**head, "object": "chat.completion", "choices": [choice], "usage": counts}
            )
        head["object"] = "chat.completion.chunk"
        wanted = bool((body.get("stream_options") or {}).get("include_usage"))
        extra = {"usage": None} if wanted else {}
        deltas: list[tuple[dict[str, Any], str | None]] = [
            ({"role": "assistant", "content": ""}, None), ({"content": text}, None), ({}, "stop")
        ]  # fmt: skip
        events = [
            {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": ending}], **extra}
            for delta, ending in deltas
        ]
        if wanted:
            events.append({**head, "choices": [], "usage": counts})
        lines = [b"data: " + _json(event) + b"\n\n" for event in events]
        return "text/event-stream; charset=utf-8", b"".join([*lines, b"data: [DONE]\n\n"])

    def alone(self, body: bytes) -> bytes:
        """Without a stream."""
        asked = load_json(body)
        return _json({k: v for k, v in asked.items() if k not in ("stream", "stream_options")})


class DecisionTask(Shown, Task):
    """One question of `/v1/decisions`, as `OpenAIDecisions` asks it.

    Args:
        model: The large model's name.
        question: As on the wire, without a name: `{"type": "choice", "instructions": "...", "choices": [{"value":
            "refund"}, ...]}`; of type `predicate`, with the labels `yes` and `no`; or of type `score`, with `"levels":
            [{"label": "calm"}, ...]` and the labels `0`, `1`, ...

    Raises:
        ValueError: If it is no such question.
    """

    path = "decisions"

    def __init__(self, model: str, question: Mapping[str, Any]) -> None:
        super().__init__(model)
        self.question = _unnamed(question)
        try:
            self.typed = _typed(self.question)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                'the question must be one of /v1/decisions, such as {"type": "choice", "instructions": "...", '
                '"choices": [{"value": "refund"}, {"value": "other"}]}'
            ) from error
        self.values = {str(one["value"]): one["value"] for one in self.question.get("choices", ())}

    @property
    def parts(self) -> dict[str, Any]:
        """What it is."""
        return {"model": self.model, "question": self.question}

    @property
    def labels(self) -> list[str]:
        """Of the question."""
        return question_labels(self.typed)

    def read(self, body: Mapping[str, Any]) -> str | None:
        """The input, where the question stands alone and the input is one text."""
        asked = body.get("questions")
        if body.get("model") != self.model or any(
            v for k, v in body.items() if k not in ("model", "input", "questions")
        ):
            return None
        if not isinstance(asked, list) or len(asked) != 1 or not isinstance(asked[0], Mapping):
            return None
        given = body.get("input")
        if isinstance(given, list):
            turn = _turn(given[0]) if len(given) == 1 else None
            given = turn[1] if turn is not None and turn[0] == "user" else None
        same = isinstance(asked[0].get("name"), str) and _unnamed(asked[0]) == self.question
        return given if same and isinstance(given, str) and given.strip() and _encodes(given) else None

    def heard(self, reply: bytes) -> Answer:
        """The answer to the question, with its probabilities."""
        try:
            (found,) = load_json(reply)["answers"]
            return from_typed(_read_answer(found, self.typed), self.typed)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the upstream's reply is no answer to the question") from error

    def reply(self, answer: Answer, body: Mapping[str, Any], name: str, usage: Usage) -> tuple[str, bytes]:
        """A response with one answer."""
        typed = to_typed(answer, self.typed)
        said: dict[str, Any] = {"type": self.question["type"], "name": body["questions"][0]["name"]}
        if isinstance(typed, NoulAnswer):
            said["probability"] = typed.noul
        elif isinstance(typed, ChoiceAnswer):
            said["choice"] = self.values[typed.choice]
            said["probabilities"] = [
                {"value": self.values[label], "probability": p} for label, p in typed.probabilities.items()
            ]
            said["confidence"] = typed.confidence
        else:
            said["score"] = typed.score
            said["probabilities"] = [
                {"value": level, "label": self.question["levels"][level]["label"], "probability": p}
                for level, p in typed.probabilities.items()
            ]
            said["confidence"] = typed.confidence
        counts = {"input_tokens": usage.input, "output_tokens": usage.output}
        found = {"id": f"dec-{name}", "model": f"dsplus/{self.model}", "answers": [said], "usage": counts}
        return "application/json", _json(found)


def read_task(parts: Mapping[str, Any]) -> Task:
    """Make a task of its `parts`. Raises ValueError if they make none."""
    if "question" in parts:
        return DecisionTask(parts["model"], parts["question"])
    return ChatTask(parts["model"], [(role, text) for role, text in parts["messages"]], parts.get("reply", "{label}"))


# --- reading ---------------------------------------------------------------------------------------------------------


def _split(template: str) -> list[str]:
    """The texts around the places of a template. Raises ValueError if a brace stands alone."""
    found = [""]
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            "a brace stands alone in the prompt or the reply: write one that is text as {{ or }}"
        ) from error
    for text, name, _, _ in parts:
        found[-1] += text
        if name is not None:
            found.append("")
    return found


def _turn(message: Any) -> tuple[str, str] | None:
    """Role and text of a message that is text and nothing else."""
    if not isinstance(message, Mapping) or any(v for k, v in message.items() if k not in ("role", "content")):
        return None
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], Mapping):
        (part,) = content
        content = (
            part.get("text") if part.keys() == {"type", "text"} and part["type"] in ("text", "input_text") else None
        )
    if not isinstance(role, str) or not isinstance(content, str) or not _encodes(content):
        return None
    return _ROLES.get(role, role), content


def _encodes(text: str) -> bool:
    """Whether it is text: half a surrogate, which JSON may hold, cannot be written down."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(reply: bytes) -> list[Any]:
    """The objects of a reply: one, or those of its stream. Raises ValueError if it is neither."""
    if reply.lstrip()[:1] == b"{":
        return [load_json(reply)]
    lines = (line[5:].strip() for line in reply.splitlines() if line.startswith(b"data:"))
    found = [part for part in (load_json(line) for line in lines if line != b"[DONE]") if isinstance(part, dict)]
    if not found:
        raise ValueError("the upstream's reply is neither a completion nor a stream of one")
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# --- questions on the wire -------------------------------------------------------------------------------------------


def _unnamed(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question whatever it is called; the order of a choice's values does not count."""
    found = {k: v for k, v in question.items() if k != "name" and v is not None}
    if isinstance(found.get("choices"), list):
        found["choices"] = sorted(found["choices"], key=lambda one: json.dumps(one, sort_keys=True))
    return found


def _typed(question: Mapping[str, Any]) -> AnyQuestion:
    kind, text = question["type"], question["instructions"]
    if kind == "predicate":
        return Noul(instructions=text)
    if kind == "choice":
        return Choice(instructions=text, criteria={str(c["value"]): c.get("description") for c in question["choices"]})
    if kind == "score":
        return Score(instructions=text, criteria=[level["label"] for level in question["levels"]])
    raise ValueError(kind)


def _read_answer(found: Mapping[str, Any], question: AnyQuestion) -> Any:
    if isinstance(question, Noul):
        return NoulAnswer(type="noul", noul=found["probability"])
    told = {one["value"]: one["probability"] for one in found["probabilities"]}
    if isinstance(question, Choice):
        return ChoiceAnswer(
            type="choice", choice=str(found["choice"]), probabilities={str(k): p for k, p in told.items()},
            confidence=found["confidence"],
        )  # fmt: skip
    return ScoreAnswer(
        type="score", score=found["score"], legend=dict(enumerate(question.criteria)), probabilities=told,
        confidence=found["confidence"],
    )  # fmt: skip
