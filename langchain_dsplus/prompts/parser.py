"""`LabelParser`: from what the large model wrote to one of the labels it was offered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers.base import BaseGenerationOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import RunnableConfig

from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import Answer
from langchain_dsplus.labels import (
    NoLabelMassError,
    ending,
    label_mass,
    list_labels,
    match_reply,
    token_logprobs,
)
from langchain_dsplus.outcomes import default_label


class LabelParser(BaseGenerationOutputParser[Any]):
    """Reads a label out of a large model's reply; only offered candidates count.

    The text decides where it names one label (`langchain_dsplus.labels.match_label`). Where it does not, and the reply
    carries token log-probabilities, the likeliest offered label is taken, if the offered labels together were seen to
    get at least `min_mass`, and no token that the server did not list could change the choice.

    A reply that was cut (`finish_reason` "length" or "content_filter", the like of other providers, a stream without
    an end) names no label where it ends in what might have become another one: "card" of "card_arrival".

    Input is a message, a text, or a dict `{"output": message or text, "candidates": [labels]}` that narrows the labels
    to those offered this time: a reply that names another label is a miss.

    Args:
        labels: All labels.
        output: `label` gives a str. `answer` gives an `Answer`: probabilities from the log-probabilities, where there
            are some; else the whole probability is the named label's, since a text alone says nothing of doubt.
        fallback: The label to return where no offered one can be read. Without it that is an error. As an `Answer` it
            has no probabilities and confidence 0.
        min_mass: Least probability of all offered labels together at which log-probabilities may decide, in (0, 1].

    Raises:
        ValueError: If `labels` is empty or not distinct, or `fallback` is none of them.

    Example:
        >>> LabelParser(["card_arrival", "card_linking"]).invoke("The answer is: Card arrival.")
        'card_arrival'
    """

    __str__ = fields_in_words

    speaks_labels: ClassVar[str] = "LabelParser"
    """A part of a chain with `labels` that small models must share: see `chain_labels`."""

    labels: list[str]
    output: Literal["label", "answer"] = "label"
    fallback: str | None = None
    min_mass: float = 0.5

    def __init__(self, labels: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(labels=list_labels(labels), **kwargs)

    def model_post_init(self, context: Any, /) -> None:
        """Check the labels."""
        super().model_post_init(context)
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` needs at least one label, and they must be distinct")
        if self.fallback is not None and self.fallback not in self.labels:
            raise ValueError("`fallback` must be one of `labels`")
        if not 0.0 < self.min_mass <= 1.0:
            raise ValueError("`min_mass` must be greater than 0 and at most 1")

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It holds nothing but plain values."""
        return True

    @property
    def InputType(self) -> Any:
        """A text, a message, or a dict with `output` and `candidates`."""
        return str | BaseMessage | dict[str, Any]

    @property
    def OutputType(self) -> Any:
        """`str`, or `Answer`."""
        return Answer if self.output == "answer" else str

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Parse one reply.

        Raises:
            OutputParserException: If it names no offered label and there is no `fallback`. The message never carries
                the reply; its attribute `llm_output` does.
            TypeError: If the input is none of the above.
        """
        return self._call_with_config(self._parse, input, config, run_type="parser")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any | None) -> Any:
        """Async twin of `invoke`."""

        async def parse(value: Any) -> Any:
            return self._parse(value)

        return await self._acall_with_config(parse, input, config, run_type="parser")

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse the first of several generations."""
        first = result[0]
        return self._parse(first.message if isinstance(first, ChatGeneration) else first.text)

    async def aparse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Async twin of `parse_result`."""
        return self.parse_result(result, partial=partial)

    def _parse(self, value: Any) -> Any:
        candidates = self.labels
        if isinstance(value, Mapping):
            if "output" not in value:
                raise TypeError("LabelParser got a dict without the key 'output'")
            wanted = value.get("candidates")
            value = value["output"]
            if wanted is not None:
                candidates = self._narrowed(wanted)
        if not isinstance(value, (str, BaseMessage)):
            raise TypeError(f"LabelParser reads a str, a message, or a dict with 'output', not {type(value).__name__}")
        text = value if isinstance(value, str) else str(value.text)
        choice = match_reply(value, candidates, known=self.labels)
        seen: dict[str, float] = {}
        unseen = 0.0
        tokens = token_logprobs(value)
        if tokens and (choice is None or self.output == "answer"):
            seen, unseen = self._read(tokens, candidates, ending(value))
            if choice is None and math.fsum(seen.values()) >= self.min_mass:
                best, *others = sorted(seen, key=seen.__getitem__, reverse=True)
                if not others or seen[best] > seen[others[0]] + unseen:
                    choice = best
        if choice is None:
            return self._missed(text, len(candidates))
        return self._answer(choice, seen, unseen) if self.output == "answer" else choice

    def _read(self, tokens: list[Any], candidates: Sequence[str], reason: str | None) -> tuple[dict[str, float], float]:
        """What each candidate was seen to get, and what nobody has seen."""
        # Read against all labels: "card_arrival" gives nothing to "card", also where only "card" was offered.
        try:
            mass = label_mass(tokens, self.labels, finish_reason=reason)
        except NoLabelMassError:
            return {}, 0.0
        return {label: mass.labels[label] for label in candidates}, mass.unseen

    def _narrowed(self, wanted: Any) -> list[str]:
        if (
            isinstance(wanted, str)
            or not isinstance(wanted, Sequence)
            or not all(isinstance(label, str) and label in self.labels for label in wanted)
        ):
            raise ValueError("'candidates' must be a list of labels out of `labels`")
        if not wanted:
            raise ValueError("'candidates' is empty: nothing was offered")
        return list(wanted)

    def _answer(self, choice: str, seen: Mapping[str, float], unseen: float) -> Answer:
        total = math.fsum(seen.values())
        if total > 0.0 and max(seen, key=seen.__getitem__) == choice:
            # What nobody has seen is not the choice's: it counts for the other candidates, so that the confidence is
            # no more than what is known. With one candidate there is nothing to doubt.
            others = [label for label in seen if label != choice]
            share = unseen / len(others) if others else 0.0
            total += unseen if others else 0.0
            given = {label: (seen[label] + (share if label != choice else 0.0)) / total for label in seen}
            probabilities = {label: given.get(label, 0.0) for label in self.labels}
        else:  # no log-probabilities, or they speak of another label than the text does
            probabilities = {label: float(label == choice) for label in self.labels}
        return {"choice": choice, "probabilities": probabilities, "confidence": probabilities[choice]}

    def _missed(self, text: str, offered: int) -> Any:
        if self.fallback is not None:
            if self.output == "answer":
                return {"choice": self.fallback, "probabilities": {}, "confidence": 0.0}
            return self.fallback
        raise OutputParserException(
            f"the model's reply names none, or more than one, of the {offered} labels it was offered. Ask for the "
            "label alone, give the reply more `max_tokens`, or pass `fallback=` to LabelParser",
            llm_output=text,
        )


def named_label(output: Any, labels: Sequence[str]) -> str | None:
    """Return the label that a large chain's output names, or None where it names none, or more than one.

    Args:
        output: A label, a text, a message, an `Answer`, or anything else that `default_label` reads.
        labels: All labels.

    Example:
        >>> named_label({"intent": "card_arrival"}, ["card_arrival", "card_linking"])
        'card_arrival'
    """
    if isinstance(output, BaseMessage):
        return match_reply(output, labels)
    try:
        text = output if isinstance(output, str) else default_label(output)
    except TypeError:
        return None
    return match_reply(text, labels)
