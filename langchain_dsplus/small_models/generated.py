"""A model that writes, such as a captioner, as a small model: sure by the mean probability of its tokens (Eq. 9)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda
from pydantic import field_validator

from langchain_dsplus.answer import Answer, InvalidAnswerError
from langchain_dsplus.labels import ending, is_cut, mean_token_probability, token_logprobs
from langchain_dsplus.small_models.runnable import RunnableSmallModel

Kind = Literal["arithmetic", "geometric"]


class GeneratedText(RunnableSmallModel):
    """A model that writes a text, as the small model of a `ConfidenceRouter` (paper, Section 4.3).

    Its answer is the text, without probabilities of labels; its confidence is the mean probability of the tokens that
    it wrote. A text without a token, without probabilities, or cut off in the middle is no answer: that input
    escalates. The threshold belongs to the kind of mean: the paper sets .55 for the arithmetic one.

    Args:
        runnable: A Runnable or a function from an input to what was written: a message with log-probabilities (a chat
            model with `logprobs=True`), or a pair of the text and its tokens' probabilities, each in [0, 1], the end
            token left out.
        kind: `arithmetic`, Eq. 9, or `geometric`, which one unlikely token lowers more.

    Example:
        >>> captioner = GeneratedText(runnable=lambda picture: ("a dog on grass", [0.9, 0.8, 0.6, 0.9]))
        >>> answer = captioner.invoke("dog.png")
        >>> answer["choice"], round(answer["confidence"], 2), answer["probabilities"]
        ('a dog on grass', 0.8, {})
    """

    kind: Kind = "arithmetic"

    @field_validator("runnable", mode="before")
    @classmethod
    def _as_runnable(cls, value: Any) -> Any:
        return RunnableLambda(value) if callable(value) and not isinstance(value, Runnable) else value

    def _check(self, raw: list[Any]) -> list[Answer | Exception]:
        return super()._check([self._read(value) for value in raw])

    def _read(self, value: Any) -> Answer | BaseException:
        """An answer out of what was written; what is no answer comes back as the error that says why."""
        if isinstance(value, BaseException):
            return value
        try:
            if isinstance(value, BaseMessage):
                if is_cut(reason := ending(value)):
                    msg = f"the text is not whole ({reason}): give the model more tokens"
                    return InvalidAnswerError(msg)
                return self._told(str(value.text), token_logprobs(value))
            text, probabilities = value
            return self._told(text, _tokens(probabilities))
        except (TypeError, ValueError):
            msg = (
                "the model must return a message with log-probabilities, or a pair (text, its tokens' probabilities "
                "in [0, 1], at least one)"
            )
            return InvalidAnswerError(msg)

    def _told(self, text: str, tokens: Sequence[Mapping[str, Any]]) -> Answer:
        if not isinstance(text, str) or not text.strip():
            raise ValueError("there is no text")
        return {"choice": text, "probabilities": {}, "confidence": mean_token_probability(tokens, kind=self.kind)}


def _tokens(probabilities: Any) -> list[dict[str, Any]]:
    values = [float(p) for p in probabilities]
    if not all(0.0 <= p <= 1.0 for p in values):  # catches NaN
        raise ValueError("a token's probability must lie in [0, 1]")
    return [{"token": "-", "logprob": math.log(p) if p > 0.0 else -math.inf} for p in values]
