"""`PromptPruner`: a chat prompt whose candidates the small model has pruned (paper, Section 3.1)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.prompts import ChatPromptTemplate, HumanMessagePromptTemplate, PromptTemplate
from langchain_core.prompts.chat import BaseChatPromptTemplate, MessageLikeRepresentation
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import ConfigurableFieldSpec, get_unique_config_specs
from pydantic import ConfigDict, Field, InstanceOf, field_validator, model_validator

from langchain_dsplus import _drive
from langchain_dsplus._drive import Call
from langchain_dsplus._planned import PlannedBatch
from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import EscalationContext, note, note_later, pass_on
from langchain_dsplus.labels import list_labels, show_label
from langchain_dsplus.prompts.conformal import ConformalCandidates, Offered, contradicts
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.tags import ROUTE_KEY

Pruning = Literal["soft", "hard", "keep", "none"]

_DEFAULT_TAIL = """\
Candidates:
{candidates}

Answer with one of the candidates, exactly as it is written, and nothing else."""
_INERT = (
    "`proficient` is empty, so pruning='hard' removes nothing and every prompt is the plain one. `proficient_classes` "
    "needs some 600 escalated rows at its default `max_risk`; give it more rows or a larger `max_risk`, or take "
    "pruning='keep', which needs neither"
)


class Offer(NamedTuple):
    """What one input is offered.

    Attributes:
        labels: The candidates, in their order.
        numbers: Probabilities that stand beside their labels.
        pruning: What was done, as the `Route` says it.
        conformal_set: The labels that the small model holds possible, where that was asked.
    """

    labels: list[str]
    numbers: dict[str, float]
    pruning: str
    conformal_set: Sequence[str] = ()


class _Seen(NamedTuple):
    """What the small model said about one input."""

    answer: Mapping[str, Any]
    """Its `Answer`, or {} where only probabilities are known."""
    choice: str | None
    probabilities: dict[str, float]
    """Empty: the plain prompt."""
    reason: str | None
    """Why the input was escalated, where the router says so."""


class PromptPruner(BaseChatPromptTemplate):
    """A chat prompt that carries the small model's knowledge to the large one.

    It fills `{candidates}` with one line for each candidate, by what the small model said about this input:

    - `soft`: every candidate with its probability; with `proficient`, only those classes carry one.
    - `hard`: the `proficient` classes, which the small model excels at, are removed. If there are none, fewer than two
      would remain, or the small model's own choice would go, all are offered, and the `Route` says so.
    - `keep`, the default: the `top_k` most likely, without numbers. With `conformal`, its set for this input instead,
      less the `proficient` classes where there are some; all are offered, and the `Route` says why, where that set is
      empty or bigger than `max_share` of the labels, and where the input was escalated for another reason than that the
      small model was unsure (a label in `never_local`, a budget), for which the set was not calibrated.
    - `none`: every candidate, without numbers.

    What the small model said comes from the key `dsplus`, which a `ConfidenceRouter` adds, or from a variable
    `probabilities` (a dict from label to probability, or a small model's whole `Answer`). Where both are missing or
    empty, the prompt is the plain one: all labels in their given order, without numbers, in every mode.

    Why `keep` is the default: with a local model of half a billion parameters, on average of three sets and five seeds,
    it and `hard` were right more often than the plain prompt, `keep` by the most (`benchmarks paper_entropy`);
    `soft`, the paper's prompt, was level with the plain one there, and below it in `benchmarks prompts`. With one of
    1.5 billion, on fewer rows, `keep` had the highest average too, and all were level within the noise. With at most
    `top_k` labels `keep` is the plain prompt. It loses a right answer that the small model ranks below the `top_k`,
    which costs a strong large model more than a weak one, and no strong one was measured: certify with the prompt that
    you use. `hard` needs classes that `proficient_classes` proves to be safe, which takes some 600 escalated rows at
    its usual bound; it was measured with a rule of thumb instead. Where it finds none, `hard` removes nothing: a
    warning says so here, and each `Route`.

    Everything else is a chat prompt template: the user's own variables, `partial`, pipes, a place inside a bigger
    `ChatPromptTemplate`, `dumps`, `loads` (list every class in it, and pass `valid_namespaces=["langchain_dsplus"]`).
    Values and labels are put in once and never read as templates. The `Route` of an escalated input says which
    candidates were offered, where they were cut.

    With `conformal`, in every mode, the `Route` also has the conformal set, and `conflict`: whether the label that the
    large model named lies outside it. Such answers are far less often right than the others: worth a second look. Where
    only offered candidates are accepted (`chain`), a conflict can come up only where more than the set was offered.

    Args:
        prompt: The messages; `{candidates}` must be among their variables. Use `from_messages`, which puts it in.
        labels: All candidates, in the order of the plain prompt.
        pruning: `keep`, `soft`, `hard` or `none`.
        proficient: Classes that the small model excels at; `proficient_classes` finds them. Needed for `hard`.
        conformal: The `ConformalCandidates` for `keep`, and for finding conflicts in every mode; over the same labels.
        max_share: Largest share of the labels that is worth offering as a conformal set, in (0, 1].
        top_k: How many `keep` keeps without `conformal`, at least 2.
        order: `given`, or `probability` (most likely first; equal ones, and those without one, in given order).
        decimals: Of the probabilities. What rounds to 0 or 1 is written as "<0.01" or ">0.99".
        hide_below: Probabilities below it are not written (soft), which saves tokens where there are many classes.
        descriptions: What a label means, written behind it.
        context_key: Where the router's context is found.
        candidates_key: The placeholder for the candidates.
        probabilities_key: The variable that is read where there is no context.

    Raises:
        ValueError: If an argument does not fit; the message names it.

    Example:
        >>> labels = ["cat", "dog", "owl"]
        >>> pruner = PromptPruner.from_messages([("human", "{text}")], labels=labels, pruning="keep", top_k=2)
        >>> pruner.offered({"text": "It purrs.", "probabilities": {"cat": 0.7, "dog": 0.1, "owl": 0.2}})
        ['cat', 'owl']
    """

    __str__ = fields_in_words

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    input_variables: list[str] = Field(default_factory=list)
    prompt: ChatPromptTemplate
    speaks_labels: ClassVar[str] = "PromptPruner"
    """A part of a chain with `labels` that small models must share: see `chain_labels`."""

    labels: list[str]
    pruning: Pruning = "keep"
    proficient: list[str] | None = None
    conformal: InstanceOf[ConformalCandidates] | None = None
    max_share: float = 0.5
    top_k: int = 5
    order: Literal["given", "probability"] = "given"
    decimals: int = 2
    hide_below: float = 0.0
    descriptions: dict[str, str] | None = None
    context_key: str = ROUTE_KEY
    candidates_key: str = "candidates"
    probabilities_key: str = "probabilities"

    @classmethod
    def from_messages(
        cls,
        messages: Sequence[MessageLikeRepresentation],
        *,
        labels: Sequence[str],
        pruning: Pruning = "keep",
        proficient: Sequence[str] | None = None,
        template_format: Literal["f-string", "mustache", "jinja2"] = "f-string",
        candidates_key: str = "candidates",
        **kwargs: Any,
    ) -> PromptPruner:
        """Make a pruner from messages, as `ChatPromptTemplate.from_messages` does.

        Where no message has a `{candidates}`, the candidates and a line that asks for one of them are put last, so that
        what stays the same comes first and a provider's prompt cache keeps it: at the end of the last message where
        that is a human text template, else as a human message of their own.

        Args:
            messages: Templates or messages.
            labels: All candidates.
            pruning: `keep`, `soft`, `hard` or `none`.
            proficient: Classes that the small model excels at.
            template_format: Of the messages. A Mustache `{{candidates}}` is read as `{{{candidates}}}`, since labels
                are no HTML.
            candidates_key: The placeholder for the candidates.
            **kwargs: Further fields of `PromptPruner`.
        """
        if template_format == "mustache":
            messages = [_unescaped(message, candidates_key) for message in messages]
        prompt = ChatPromptTemplate.from_messages(messages, template_format=template_format)
        if candidates_key not in prompt.input_variables:
            prompt = _with_candidates_last(prompt, candidates_key)
        return cls(
            prompt=prompt,
            labels=list_labels(labels),
            pruning=pruning,
            proficient=None if proficient is None else list(proficient),
            candidates_key=candidates_key,
            **kwargs,
        )

    @model_validator(mode="before")
    @classmethod
    def _infer_variables(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("prompt"), ChatPromptTemplate):
            prompt = values["prompt"]
            context = values.get("context_key", ROUTE_KEY)
            probabilities = values.get("probabilities_key", "probabilities")
            own = {values.get("candidates_key", "candidates"), context, probabilities}
            given = set(values.get("partial_variables") or ())
            optional = {*prompt.optional_variables, context, probabilities} - given
            values = {
                **values,
                "input_variables": sorted(set(prompt.input_variables) - own - given),
                "optional_variables": sorted(optional),
                "input_types": {
                    **prompt.input_types,
                    context: dict[str, Any] | None,
                    probabilities: dict[str, float] | None,
                },
            }
        return values

    @field_validator("conformal", mode="before")
    @classmethod
    def _read_conformal(cls, value: Any) -> Any:
        return ConformalCandidates.from_dict(value) if isinstance(value, Mapping) else value

    def model_post_init(self, context: Any, /) -> None:
        """Check what belongs together."""
        super().model_post_init(context)
        problem = self._problem()
        if problem:
            raise ValueError(problem)
        if self.pruning == "hard" and not self.proficient:
            warnings.warn(_INERT, UserWarning, stacklevel=4)

    def _problem(self) -> str | None:
        known = set(self.labels)
        if len(known) < 2 or len(known) != len(self.labels):
            return "`labels` needs at least two labels, and they must be distinct"
        if len({self.context_key, self.candidates_key, self.probabilities_key}) < 3:
            return "`context_key`, `candidates_key` and `probabilities_key` must differ"
        if self.candidates_key not in self.prompt.input_variables:
            return (
                f"`prompt` has no place for the candidates: write {{{self.candidates_key}}} in it, or use from_messages"
            )
        if self.pruning == "hard" and self.proficient is None:
            return (
                "`pruning='hard'` needs `proficient`: the classes that the small model excels at "
                "(proficient_classes finds them on validation rows)"
            )
        if self.proficient is not None and not known.issuperset(self.proficient):
            return "`proficient` names a class that is not in `labels`"
        if self.descriptions is not None and not known.issuperset(self.descriptions):
            return "`descriptions` names a label that is not in `labels`"
        if self.conformal is not None and known != set(self.conformal.labels):
            return (
                "`conformal` was calibrated over other labels than `labels`: calibrate it again with "
                "ConformalCandidates.fit(..., labels=labels)"
            )
        if not 0.0 < self.max_share <= 1.0:
            return "`max_share` must be greater than 0 and at most 1"
        if self.top_k < 2:
            return "`top_k` must be at least 2: a single candidate would decide the answer"
        if not 1 <= self.decimals <= 12 or not 0.0 <= self.hide_below <= 1.0:
            return "`decimals` must lie in 1..12 and `hide_below` in [0, 1]"
        if self.candidates_key in self.partial_variables:
            return f"`{self.candidates_key}` is filled by the pruner and cannot be a partial variable"
        return None

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `loads` finds the class (LangChain's prompt classes answer with a path of their own)."""
        return cls.__module__.split(".")

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Nothing beyond the fields, since the variables are inferred anew; the conformal candidates as plain JSON."""
        return {} if self.conformal is None else {"conformal": self.conformal.to_dict()}

    @property
    def _prompt_type(self) -> str:
        return "dsplus-pruner"

    def partial(self, **kwargs: Any) -> PromptPruner:
        """Return a pruner with some variables filled in."""
        return self._with(partial_variables={**self.partial_variables, **kwargs})

    def __add__(self, other: Any) -> PromptPruner:
        """Return a pruner with further messages behind its own."""
        if isinstance(other, PromptPruner):
            return NotImplemented
        return self._with(prompt=self.prompt + other)

    def _with(self, **changes: Any) -> PromptPruner:
        # Not model_copy: the variables must be inferred anew.
        return type(self)(**{**{field: getattr(self, field) for field in type(self).model_fields}, **changes})

    # --- formatting ---------------------------------------------------------------------------------------------

    def _validate_input(self, inner_input: Any) -> dict[str, Any]:
        if not isinstance(inner_input, dict):
            raise TypeError(f"PromptPruner needs a dict with {self.input_variables}, not {type(inner_input).__name__}")
        return super()._validate_input(inner_input)

    def format_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """Return the messages, and leave a note for the `Route` on the context."""
        return self.prompt.format_messages(**self._filled(kwargs))

    async def aformat_messages(self, **kwargs: Any) -> list[BaseMessage]:
        """Async twin of `format_messages`."""
        return await self.prompt.aformat_messages(**self._filled(kwargs))

    def offer(self, input: Mapping[str, Any]) -> Offer:
        """Return what this input is offered, and leave a note for the `Route` on its context.

        For large models that read no chat prompt; `format_messages` does the same for those that do.

        Raises:
            TypeError: If the input is not a mapping, or its probabilities are not.
            ValueError: If the probabilities name unknown labels or are no probabilities.
        """
        return self._noted(self._values(input))

    def _noted(self, values: Mapping[str, Any]) -> Offer:
        offer = self._offer(values)
        notes: dict[str, Any] = {"pruning": offer.pruning}
        if len(offer.labels) < len(self.labels):
            notes["candidates"] = list(offer.labels)
        context = values.get(self.context_key)
        if offer.conformal_set:
            found = notes["conformal_set"] = list(offer.conformal_set)
            note_later(context, conflict=lambda output: contradicts(output, found, self.labels))
        note(context, **notes)
        return offer

    def _filled(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        values = self._values(kwargs)
        offer = self._noted(values)
        return {**values, self.candidates_key: "\n".join(self._line(label, offer.numbers) for label in offer.labels)}

    def offered(self, input: Mapping[str, Any]) -> list[str]:
        """Return the candidates that this input would be offered, in their order in the prompt.

        Raises:
            TypeError: If the input is not a mapping, or its probabilities are not.
            ValueError: If the probabilities name unknown labels or are no probabilities.
        """
        return self._offer(self._values(input)).labels

    def _values(self, input: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(input, Mapping):
            raise TypeError(f"PromptPruner needs a dict, not {type(input).__name__}")
        values: dict[str, Any] = self._merge_partial_and_user_variables(**input)
        return values

    def chain(self, model: Any, *, parser: Runnable[Any, Any] | None = None, **parser_kwargs: Any) -> PrunedChain:
        """Compose prompt, model and parser, so that the parser accepts only what this input was offered.

        Args:
            model: The large chat model, or a chain that begins with it.
            parser: Takes `{"output": reply, "candidates": [labels]}`; by default a `LabelParser` over all labels.
            **parser_kwargs: For that `LabelParser`: `output`, `fallback`, `min_mass`.

        Returns:
            A Runnable from the input dict to the label, with `batch`, async and streaming (the label comes whole).

        Raises:
            ValueError: If both `parser` and its arguments are given.

        Example:
            ```python
            router = ConfidenceRouter(small=small, large=pruner.chain(ChatOpenAI()), threshold=0.9)
            ```
        """
        if parser is not None and parser_kwargs:
            raise ValueError(f"give either `parser` or its arguments {sorted(parser_kwargs)}, not both")
        return PrunedChain(pruner=self, model=model, parser=parser or LabelParser(self.labels, **parser_kwargs))

    def pretty_repr(self, html: bool = False) -> str:
        """Human-readable form: the messages, with their placeholders."""
        return self.prompt.pretty_repr(html=html)

    # --- pruning ------------------------------------------------------------------------------------------------

    def _offer(self, values: Mapping[str, Any]) -> Offer:
        seen = self._read(values)
        conformal = self._conformal(seen)
        found = () if conformal is None else conformal.conformal_set
        probabilities, choice = seen.probabilities, seen.choice
        if not probabilities or self.pruning == "none":
            return Offer(list(self.labels), {}, "none", found)
        ranked = sorted(self.labels, key=lambda label: -probabilities.get(label, 0.0))
        everything = ranked if self.order == "probability" else list(self.labels)
        if choice is None:
            choice = ranked[0]
        if self.pruning == "soft":
            written = self.labels if self.proficient is None else self.proficient
            numbers = {y: probabilities[y] for y in written if probabilities.get(y, -1.0) >= self.hide_below}
            return Offer(everything, numbers, "soft", found)
        if self.pruning == "hard":
            removed = set(self.proficient or ())
            if not removed:
                return Offer(list(self.labels), {}, "hard: all offered, no class may be removed", found)
            left = [label for label in everything if label not in removed]
            if len(left) < 2:
                return Offer(list(self.labels), {}, "hard: all offered, fewer than two would remain", found)
            if choice in removed or ranked[0] in removed:
                return Offer(list(self.labels), {}, "hard: all offered, the small model's own choice would go", found)
            return Offer(left, {}, "hard", found)
        if conformal is not None:
            if conformal.why_all is not None:
                return Offer(list(self.labels), {}, f"keep: all offered, {conformal.why_all}", found)
            kept = set(conformal.labels)
        else:
            kept = set(ranked[: self.top_k])
            if choice not in kept:
                kept = {choice, *ranked[: self.top_k - 1]}
        return Offer([label for label in everything if label in kept], {}, "keep", found)

    def _conformal(self, seen: _Seen) -> Offered | None:
        """What the conformal candidates say about this input; None without them, or where the small model is silent.

        They are asked under the plain prompt too, where the small model's answer is known: to see a conflict.
        """
        probabilities = seen.probabilities or seen.answer.get("probabilities") or {}
        if self.conformal is None or not probabilities or not set(self.labels).issuperset(probabilities):
            return None
        if seen.reason not in (None, "unsure"):
            return Offered(list(self.labels), [], f"escalated for another reason ({seen.reason})")
        answer = {
            "choice": seen.choice or seen.answer.get("choice"),
            "probabilities": probabilities,
            "confidence": seen.answer.get("confidence"),
        }
        return self.conformal.offer(answer, max_share=self.max_share, exclude=self.proficient or ())

    def _read(self, values: Mapping[str, Any]) -> _Seen:
        """What the small model said; no probabilities for the plain prompt."""
        key, answer, reason = self.context_key, None, None
        found = values.get(key)
        if found is not None:
            if not isinstance(found, Mapping) or "probabilities" not in found:
                raise TypeError(
                    f"the input's {key!r} must be a dict with 'answer' and 'probabilities', as a router makes it"
                )
            own = found if isinstance(found, EscalationContext) else None
            reason = None if own is None else own.reason
            answer, found = found.get("answer") or (None if own is None else own.watched), found["probabilities"]
        else:
            key = self.probabilities_key
            found = values.get(key)
            if isinstance(found, Mapping) and {"choice", "probabilities", "confidence"} <= found.keys():
                answer, found = found, found["probabilities"]
        answer = answer if isinstance(answer, Mapping) else {}
        if found is None:
            return _Seen(answer, None, {}, reason)
        if not isinstance(found, Mapping):
            raise TypeError(
                f"the probabilities in {key!r} must be a dict from label to number, not {type(found).__name__}"
            )
        known = set(self.labels)
        unknown = sum(label not in known for label in found)
        if unknown:
            raise ValueError(
                f"the probabilities in {key!r} name {unknown} label(s) that are not in `labels` of the PromptPruner"
            )
        try:
            probabilities = {label: float(p) for label, p in found.items()}
        except (TypeError, ValueError) as error:
            raise TypeError(f"the probabilities in {key!r} must be numbers") from error
        if not all(0.0 <= p <= 1.0 + 1e-6 for p in probabilities.values()):
            raise ValueError(f"the probabilities in {key!r} must lie in [0, 1]")
        choice = answer.get("choice")
        return _Seen(answer, choice if choice in known else None, probabilities, reason)

    def _line(self, label: str, numbers: Mapping[str, float]) -> str:
        line = f"- {show_label(label)}"
        if label in numbers:
            line += f" (probability {self.write_number(numbers[label])})"
        text = (self.descriptions or {}).get(label)
        return f"{line}: {' '.join(text.split())}" if text else line

    def write_number(self, p: float) -> str:
        """Return a probability as it stands in the prompt: what rounds to 0 or 1 is written as "<0.01" or ">0.99"."""
        text = f"{p:.{self.decimals}f}"
        least = 10.0**-self.decimals
        if float(text) == 0.0 and p > 0.0:
            return f"<{least:.{self.decimals}f}"
        if float(text) >= 1.0 and p < 1.0:
            return f">{1.0 - least:.{self.decimals}f}"
        return text


def _unescaped(message: Any, key: str) -> Any:
    """The Mustache templates of one message, with a `{{key}}` that does not escape HTML."""
    if isinstance(message, str):
        return re.sub(rf"(?<!\{{)\{{\{{\s*{re.escape(key)}\s*\}}\}}(?!\}})", lambda _: f"{{{{{{{key}}}}}}}", message)
    if isinstance(message, tuple) and len(message) == 2:
        return (message[0], _unescaped(message[1], key))
    if isinstance(message, list):
        return [_unescaped(part, key) for part in message]
    if isinstance(message, dict):
        return {k: _unescaped(v, key) if k in ("content", "text") else v for k, v in message.items()}
    return message


def _with_candidates_last(prompt: ChatPromptTemplate, key: str) -> ChatPromptTemplate:
    tail = _DEFAULT_TAIL.replace("{candidates}", f"{{{key}}}")
    last = prompt.messages[-1] if prompt.messages else None
    own = isinstance(last, HumanMessagePromptTemplate) and isinstance(last.prompt, PromptTemplate)
    if own and last.prompt.template_format == "f-string":  # type: ignore[union-attr]
        text = last.prompt.template  # type: ignore[union-attr]
        joined = HumanMessagePromptTemplate.from_template(f"{text}\n\n{tail}")
        return ChatPromptTemplate([*prompt.messages[:-1], joined])
    return ChatPromptTemplate([*prompt.messages, HumanMessagePromptTemplate.from_template(tail)])


class PrunedChain(PlannedBatch[dict[str, Any], Any]):
    """Prompt, large model, parser: from an input dict to a label out of those offered.

    `PromptPruner.chain` makes it. A batch is one batch of the model. The label is streamed whole, once it is known.

    Args:
        pruner: The prompt.
        model: The large model.
        parser: Takes `{"output": reply, "candidates": [labels]}`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    pruner: PromptPruner
    model: Any
    parser: Any

    def model_post_init(self, context: Any, /) -> None:
        """Check the parts."""
        super().model_post_init(context)
        if not isinstance(self.model, Runnable) or not isinstance(self.parser, Runnable):
            raise TypeError("`model` and `parser` must be Runnables")

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be dumped and loaded where its model can."""
        return True

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """Those of the parts."""
        return get_unique_config_specs([*self.pruner.config_specs, *self.model.config_specs, *self.parser.config_specs])

    @property
    def InputType(self) -> Any:
        """The input dict of the prompt."""
        return dict[str, Any]

    def get_input_schema(self, config: RunnableConfig | None = None) -> Any:
        """The schema of the prompt's input."""
        return self.pruner.get_input_schema(config)

    @property
    def OutputType(self) -> Any:
        """What the parser gives."""
        return self.parser.OutputType

    def _plan(self, value: dict[str, Any], run_manager: Any, config: RunnableConfig, **kwargs: Any) -> _drive.Plan[Any]:
        step = _steps(config, run_manager)
        prompt = yield Call(self.pruner.invoke, self.pruner.ainvoke, value, step("prompt"))
        reply = yield Call(self.model.invoke, self.model.ainvoke, prompt, step("model"), **kwargs)
        read = self._read(value, reply)
        return (yield Call(self.parser.invoke, self.parser.ainvoke, read, step("parser")))

    def _plan_all(
        self,
        values: list[dict[str, Any]],
        run_manager: list[Any],
        config: list[RunnableConfig],
        **kwargs: Any,
    ) -> _drive.Plan[list[Any]]:
        """The three batches; a failed item goes no further."""
        steps = [_steps(c, m) for c, m in zip(config, run_manager, strict=True)]
        results = list(pass_on((yield _batch(self.pruner, values, [step("prompt") for step in steps], {}))))
        for runnable, name, settings in ((self.model, "model", kwargs), (self.parser, "parser", {})):
            alive = [n for n, result in enumerate(results) if not isinstance(result, Exception)]
            if alive:
                inputs = [results[n] if name == "model" else self._read(values[n], results[n]) for n in alive]
                done = yield _batch(runnable, inputs, [steps[n](name) for n in alive], settings)
                for n, result in zip(alive, pass_on(done), strict=True):
                    results[n] = result
        return results

    def _read(self, value: dict[str, Any], reply: Any) -> dict[str, Any]:
        return {"output": reply, "candidates": self.pruner.offered(value)}


def _batch(runnable: Any, inputs: list[Any], configs: list[RunnableConfig], kwargs: dict[str, Any]) -> Call:
    return Call(runnable.batch, runnable.abatch, inputs, configs, return_exceptions=True, **kwargs)


def _steps(config: RunnableConfig, run_manager: Any) -> Callable[[str], RunnableConfig]:
    """Child configs by the name of the step."""
    return lambda name: patch_config(config, callbacks=run_manager.get_child(f"dsplus:{name}"))
