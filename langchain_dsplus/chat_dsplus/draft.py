"""A chat model as a small model: it writes a draft, and says how sure it is of it."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from pydantic import Field

from langchain_dsplus import _drive
from langchain_dsplus.answer import Answer, InputError, failure, pass_on
from langchain_dsplus.chat_dsplus.checks import Checks, DraftError, answer_text
from langchain_dsplus.chat_dsplus.scores import (
    NO,
    VERIFIER_PROMPT,
    YES,
    Equal,
    Sequence_,
    agreement,
    conversation_text,
    same,
    sequence_confidence,
)
from langchain_dsplus.identity import identify, score_name
from langchain_dsplus.labels import token_logprobs
from langchain_dsplus.small_models.base import UNVERIFIABLE, AskingModel
from langchain_dsplus.small_models.chat import ChatClassifier, copied_with, is_cached, quieted
from langchain_dsplus.tags import NOSTREAM_TAG

Accept: TypeAlias = (
    Literal["sequence", "consistency", "agreement", "verifier"] | Callable[[list[BaseMessage], AIMessage], Any]
)
"""How a small model's draft is judged."""
ACCEPTS = ("sequence", "consistency", "agreement", "verifier")


class Asked(list[BaseMessage]):
    """The messages of a call, on their way through the cascade.

    An ordinary list, which the large model gets as it is. `kwargs` are the call's other arguments (`stop`, ...), which
    the small models need too.
    """

    __slots__ = ("kwargs",)

    def __init__(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(messages)
        self.kwargs: dict[str, Any] = dict(kwargs or {})


class DraftAnswer(dict[str, Any]):
    """An `Answer` that also carries the draft itself, with its tool calls. The message is no part of the value."""

    __slots__ = ("message",)

    def __init__(self, message: AIMessage, confidence: float) -> None:
        super().__init__(choice=answer_text(message), probabilities={}, confidence=confidence)
        self.message = message


def inner_model(model: Any) -> BaseChatModel:
    """The chat model inside `bind`, `with_config` and `with_retry`. Raises TypeError if there is none."""
    inner = model
    while isinstance(inner, RunnableBindingBase):
        inner = inner.bound
    if not isinstance(inner, BaseChatModel):
        raise TypeError(
            "`models` must be chat models, or chat models with `bind`, `with_config` or `with_retry` around them, not "
            f"{type(inner).__name__}"
        )
    return inner


def rebind(model: Any, function: Callable[[BaseChatModel], Any]) -> Any:
    """Put a function's result in the place of the chat model; what is bound around it stays."""
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": rebind(model.bound, function)})
    return function(model)


def read_messages(value: Any) -> list[BaseMessage]:
    """The messages of whatever a chat model takes. Raises InputError if it takes no such thing."""
    if isinstance(value, str):
        return [HumanMessage(value)]
    if isinstance(value, PromptValue):
        return value.to_messages()
    if isinstance(value, Sequence):
        return convert_to_messages(list(value))
    raise InputError(f"a chat model takes a text, a prompt or messages, not {type(value).__name__}")


# --- what is asked, sync or async -------------------------------------------------------------------------------------


def _send(
    model: Any, prompts: list[Any], configs: list[RunnableConfig], arguments: list[dict[str, Any]]
) -> _drive.Plan[list[Any]]:
    """Ask a chat model; a reply or an exception for each prompt. Prompts with the same arguments are one batch."""
    found: list[Any] = [None] * len(prompts)
    left = list(range(len(prompts)))
    while left:
        first = arguments[left[0]]
        alike = [place for place in left if arguments[place] == first]
        left = [place for place in left if arguments[place] != first]
        part, its = [prompts[place] for place in alike], [configs[place] for place in alike]
        replies = yield _drive.Call(model.batch, model.abatch, part, its, return_exceptions=True, **first)
        for place, reply in zip(alike, pass_on(replies), strict=True):
            found[place] = reply
    return found


@dataclass
class _Judge:
    """Ask the user's function; gives a number or an exception for each draft."""

    function: Callable[[list[BaseMessage], AIMessage], Any]
    pairs: list[tuple[list[BaseMessage], AIMessage]]

    def run(self) -> list[Any]:
        found: list[Any] = []
        for messages, draft in self.pairs:
            try:
                score = self.function(messages, draft)
                if inspect.isawaitable(score):
                    if inspect.iscoroutine(score):
                        score.close()
                    msg = "`accept` is async: call the model by `ainvoke`, `astream` or `abatch`"
                    score = DraftError(msg)
            except Exception as error:  # noqa: BLE001 - accepting needs proof
                score = failure(error)
            found.append(score)
        return found

    async def arun(self) -> list[Any]:
        found: list[Any] = []
        for messages, draft in self.pairs:
            try:
                score = self.function(messages, draft)
                found.append(await score if inspect.isawaitable(score) else score)
            except Exception as error:  # noqa: BLE001 - accepting needs proof
                found.append(failure(error))
        return found


class DraftModel(AskingModel):
    """A chat model that writes drafts for a cascade; `Answer.choice` is the draft's text, without probabilities.

    A draft that is cut off, empty, malformed (tool calls, structured output), or of which nobody can say how sure the
    model is, is an exception in the place of an answer: that input escalates.

    Args:
        model: The chat model, tools bound.
        accept: How a draft is judged.
        sequence: What `accept="sequence"` makes of the tokens' probabilities.
        samples: Drafts for each input with `accept="consistency"`.
        temperature: Of those.
        equal: Whether two of them, or a draft and a peer's, say the same.
        peers: With `accept="agreement"`: other cheap chat models, tools bound, whose drafts are compared.
        peer_checks: What must hold of a draft of each.
        verifier: With `accept="verifier"`: who says yes or no.
        settings: Sent with every call: `temperature` and so on.
        checks: What must hold of a draft.
    """

    model: Any = Field(repr=False)
    accept: Any = "sequence"
    sequence: Sequence_ = "mean"
    samples: int = 5
    temperature: float = 0.7
    equal: Equal | None = None
    peers: Sequence[Any] = Field(default=(), repr=False)
    peer_checks: Sequence[Any] = ()
    verifier: ChatClassifier | None = None
    settings: Mapping[str, Any] = Field(default_factory=dict)
    checks: Any = Field(default_factory=Checks)

    own_scores: ClassVar[frozenset[str]] = frozenset(
        {"sequence_mean", "sequence_min", "sequence_product", "consistency", "agreement", "verifier"}
    )
    traces_calls: ClassVar[bool] = True

    def __init__(self, **kwargs: Any) -> None:
        accept = kwargs.get("accept", "sequence")
        name = f"sequence_{kwargs.get('sequence', 'mean')}" if accept == "sequence" else accept
        super().__init__(score=name, **kwargs)

    def predict_proba(self, inputs: list[Any]) -> Any:
        """A generator of texts has no classes.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a draft has no class probabilities: use `answers`")

    def fingerprint(self) -> str:
        """SHA-256 of the chat model without its secrets, and of all that shapes drafts and scores."""
        models = [identify(self.model), *(identify(peer) for peer in self.peers)]
        if self.verifier is not None:
            if self.verifier.version == UNVERIFIABLE:
                return UNVERIFIABLE
            models.append(identify(self.verifier, version=self.verifier.version))
        parts = [identity.large for identity in models]
        if None in parts:
            return UNVERIFIABLE
        details: list[Any] = [self.sequence] if self.accept == "sequence" else []
        if self.accept in ("consistency", "agreement"):
            details = [None if self.equal is None else score_name(self.equal)]
            details = [self.samples, self.temperature, *details] if self.accept == "consistency" else details
        text = json.dumps([parts, score_name(self.accept), details, dict(self.settings)], sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).hexdigest()

    # --- answers ------------------------------------------------------------------------------------------------

    def _answering(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None
    ) -> _drive.Plan[list[Answer | Exception]]:
        """Write a draft for each input, and say how sure it is; an exception where there is none to be used."""
        results: list[Answer | Exception | None] = [None] * len(inputs)
        asked: dict[int, Asked] = {}
        for place, value in enumerate(inputs):
            try:
                kwargs = value.kwargs if isinstance(value, Asked) else {}
                asked[place] = Asked(read_messages(value), kwargs)
            except Exception as error:  # noqa: BLE001
                results[place] = failure(error)
        tagged = [self._tagged(config) for config in configs or [RunnableConfig()] * len(inputs)]
        if asked:
            k = self.samples if self.accept == "consistency" else 1
            places = [place for place in asked for _ in range(k)]
            replies = yield from _send(
                self._sender(),
                [list(asked[place]) for place in places],
                [tagged[place] for place in places],
                [self._arguments(asked[place]) for place in places],
            )
            drafts: dict[int, AIMessage] = {}
            for number, (place, request) in enumerate(asked.items()):
                found = self._read(request, replies[number * k : (number + 1) * k])
                if isinstance(found, AIMessage):
                    drafts[place] = found
                else:
                    results[place] = found
            if drafts:  # still without a number
                chosen = {place: asked[place] for place in drafts}
                its = [tagged[place] for place in drafts]
                if self.accept == "agreement":
                    scores = yield from self._agreement(chosen, drafts, its)
                else:
                    scores = yield self._ask(chosen, drafts, its)
                for (place, draft), score in zip(drafts.items(), scores, strict=True):
                    results[place] = self._scored(draft, score)
        return [DraftError("not asked") if result is None else result for result in results]

    def _agreement(
        self, asked: Mapping[int, Asked], drafts: Mapping[int, AIMessage], configs: list[RunnableConfig]
    ) -> _drive.Plan[list[Any]]:
        """The share of the peers that say what each draft says; a peer that fails agrees with nothing."""
        votes = dict.fromkeys(drafts, 0)
        prompts, arguments = ([list(asked[k]) for k in drafts], [self._arguments(asked[k]) for k in drafts])
        for peer, checks in zip(self.peers, self.peer_checks, strict=True):
            replies = yield from _send(quieted(peer), prompts, configs, arguments)
            for (place, draft), reply in zip(drafts.items(), replies, strict=True):
                theirs = _checked(checks, asked[place], reply)
                if isinstance(theirs, AIMessage):
                    votes[place] += self._same(answer_text(draft), answer_text(theirs))
        return [vote / len(self.peers) for vote in votes.values()]

    def _same(self, one: str, other: str) -> bool:
        """Whether two drafts say the same."""
        return bool(same(one, other, self.checks.tools) if self.equal is None else self.equal(one, other))

    def _ask(
        self, asked: Mapping[int, Asked], drafts: Mapping[int, AIMessage], configs: list[RunnableConfig]
    ) -> _drive.Work:
        """Who says how sure a draft is."""
        if self.verifier is None:
            return _Judge(self.accept, [(list(asked[place]), draft) for place, draft in drafts.items()])
        questions = [
            {"conversation": conversation_text(asked[place]), "answer": answer_text(draft)}
            for place, draft in drafts.items()
        ]
        return _drive.Call(self.verifier.answers, self.verifier.aanswers, questions, configs)

    def _sender(self) -> Any:
        model = quieted(self.model)
        if self.accept == "consistency" and is_cached(model):
            model = copied_with(model, {"cache": False})  # one cached reply would agree with itself
        return model

    def _arguments(self, request: Asked) -> dict[str, Any]:
        own: dict[str, Any] = {}
        if self.accept == "sequence":
            own = {"logprobs": True}
        elif self.accept == "consistency":
            own = {"temperature": self.temperature}
        return {**self.settings, **request.kwargs, **own}

    def _tagged(self, config: RunnableConfig) -> RunnableConfig:
        own = [self.name, NOSTREAM_TAG] if self.name else [NOSTREAM_TAG]
        return {**config, "tags": [*(config.get("tags") or []), *own]}

    def _read(self, request: Asked, replies: Sequence[Any]) -> Answer | Exception | AIMessage:
        """An answer, what is wrong, or a draft whose number somebody else must say."""
        try:
            if self.accept == "consistency":
                checked = [_checked(self.checks, request, reply) for reply in replies]
                texts = [answer_text(reply) if isinstance(reply, AIMessage) else None for reply in checked]
                if not any(text is not None for text in texts):
                    return next(error for error in checked if isinstance(error, Exception))
                place, share = agreement(texts, self._same)
                return self._scored(cast("AIMessage", checked[place]), share)
            draft = _checked(self.checks, request, replies[0])
            if isinstance(draft, Exception) or self.accept != "sequence":
                return draft
            tokens = token_logprobs(draft)
            if "logprobs" not in request.kwargs:  # asked for by us, and long
                kept = {key: value for key, value in draft.response_metadata.items() if key != "logprobs"}
                draft = draft.model_copy(update={"response_metadata": kept})
            return self._scored(draft, sequence_confidence(tokens, self.sequence))
        except Exception as error:  # noqa: BLE001 - whatever it is, accepting needs proof
            return failure(error)

    def _scored(self, draft: AIMessage, score: Any) -> Answer | Exception:
        if isinstance(score, Exception):
            return score
        if isinstance(score, Mapping):  # a verifier's answer
            score = score["probabilities"][YES]
        try:
            confidence = float(score)
        except (TypeError, ValueError):
            return DraftError(f"`accept` must return a number, not {type(score).__name__}")
        if not math.isfinite(confidence):
            return DraftError("the confidence is not finite")
        return cast("Answer", DraftAnswer(draft, confidence))


def _checked(checks: Checks, request: Asked, reply: Any) -> AIMessage | Exception:
    if isinstance(reply, Exception):
        return reply
    try:
        return checks.check(reply, request.kwargs)
    except DraftError as error:
        return error


def make_verifier(model: Any, prompt: str | None, name: str) -> ChatClassifier:
    """Make the one who says whether a draft is right: a chat model, or a `ChatClassifier` as it is.

    Raises:
        ValueError: If the classifier's labels are others than yes and no, or the prompt lacks a variable.
    """
    if isinstance(model, ChatClassifier):
        if model.label_set != {YES, NO}:
            raise ValueError(f"`verifier` must have the labels {[YES, NO]}, not {model.labels}")
        return model
    text = VERIFIER_PROMPT if prompt is None else prompt
    if "{answer}" not in text or "{conversation}" not in text:
        raise ValueError("`verifier_prompt` must have places for {conversation} and {answer}")
    return ChatClassifier(model, [YES, NO], text, name=name)
