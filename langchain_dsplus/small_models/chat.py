"""`ChatClassifier`: any chat model as a small model, by token log-probabilities or by votes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.prompts.chat import BaseChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase
from pydantic import Field, PrivateAttr

from langchain_dsplus import _drive
from langchain_dsplus._secrets import without_url_secrets
from langchain_dsplus.answer import Answer, InvalidAnswerError, check_answer, pass_on
from langchain_dsplus.confidence import ScoreFunction, energy
from langchain_dsplus.labels import (
    LabelMass,
    NoLabelMassError,
    ending,
    label_mass,
    list_labels,
    match_reply,
    mean_token_probability,
    show_label,
    token_logprobs,
)
from langchain_dsplus.labels.tokens import token_quantile
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel, read_text
from langchain_dsplus.tags import NOSTREAM_TAG

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Inputs that say nothing; what a model answers to them is its bias (Zhao et al. 2021, 2102.09690)."""

_REPLIES_WITHOUT = 3
"""Successful replies without log-probabilities after which a model is taken to have none."""

ENERGY = "energy"
MEAN_TOKEN_PROBABILITY = "mean_token_probability"  # noqa: S105
TOKEN_QUANTILE = "token_quantile"  # noqa: S105
VOTE_SHARE = "vote_share"

_TINY = 1e-12
_FLOOR = 1e-6
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP states that say nothing of an option."""
DEFAULT_PROMPT = """\
Classify the text as one of these labels:
{labels}

Text: {text}

Answer with the label only."""
"""One human message, since some chat templates know no system role."""


class _Request(NamedTuple):
    """A batch that the plan wants sent."""

    prompts: list[Any]
    configs: list[RunnableConfig]
    settings: dict[str, Any]
    fresh: bool
    """Whether a cached reply will not do."""


class _Row(NamedTuple):
    mass: LabelMass
    mean_token_probability: float | None
    vague: float = 0.0
    """Probability that fits no label, where that is most of it."""
    tokens: Sequence[Any] = ()
    votes: Mapping[str, float] | None = None
    """Share of all calls that named a label."""

    @property
    def probabilities(self) -> dict[str, float]:
        """Those that were seen, scaled to 1; none is zero where they come from log-probabilities."""
        seen, total = self.mass.labels, math.fsum(self.mass.labels.values())
        floor = 0.0 if self.votes is not None else _FLOOR
        return {y: floor + (1.0 - floor * len(seen)) * p / total for y, p in seen.items()}


_Plan = Generator[_Request, list[Any], Any]


class ChatClassifier(SmallModel):
    """Any chat model as a classifier: label probabilities from log-probabilities, or vote shares.

    With log-probabilities an input costs one call at temperature 0, and the probabilities of the labels are read off
    the tokens (`langchain_dsplus.labels.label_probabilities`): labels of several tokens, case and space variants. A
    reply in which the labels together get less than `min_mass` says something else: it is no proof of any of them.
    Probability that the server did not list is unknown: it counts for the strongest rival, so that the confidence is
    a lower bound, and where it could change the choice the input has no answer (it escalates).

    With votes an input costs `votes` calls at `temperature`. Shares are taken over all of them: a call that failed or
    named no label counts as an even vote for every label, so that doubt lowers the confidence; where no call names a
    label, the input has no answer.

    `auto` tries log-probabilities. An input whose reply lacks them, or whose model refuses them with any error that
    names them (message, code or parameter; not a passing one such as 429 or 503), is voted on. A
    model that has answered three times without them, and never with them, is asked for votes alone from then on; one
    that refuses the option is asked anew for each input, so set `votes` for it. Once a reply has carried
    log-probabilities, one without them is an error of that input.

    Small language models prefer some labels whatever the text is. `prior` takes that out: p'(y|x) is proportional to
    p(y|x) / prior(y). It comes from content-free inputs (three calls, once), from a dict, or from `fit_prior`.

    A text that ends in another label's words flips most of a small model's answers, as sure as before (`benchmarks
    adversarial`). Where strangers write the texts, another kind of small model is safer.

    Child runs carry the model's name and `nostream` as tags and are never streamed, also where the model has
    `streaming=True`, so that no draft leaks into a LangGraph message stream, and token usage is complete.

    Args:
        model: A chat model, or a chat model with `bind`, `with_config` or `with_retry` around it.
        labels: The classes, in the words in which the model shall answer.
        prompt: A chat prompt template, or a text, with `{text}` and, where wanted, `{labels}`. Further variables come
            from a dict input. By default a plain instruction.
        method: `auto`, `logprobs` or `votes`.
        votes: Calls for each input where votes are taken.
        temperature: Of the votes.
        prior: None, `content_free`, or a probability for each label.
        top_logprobs: Alternatives to ask for at each token. OpenAI allows up to 20; a label that is not among them
            gets (nearly) nothing.
        max_tokens: Limit for a reply; by default enough for the longest label.
        min_mass: Least probability of all labels together, in [0, 1], at which log-probabilities speak for one. Below
            it, what fits no label is spread evenly over them: the choice stays, the confidence falls.
        descriptions: What a label means, shown behind it in the default prompt.
        quantile: Which quantile `score="token_quantile"` takes, in [0, 1]; 0 is the least sure token.
        **kwargs: `name`, `input_key`, `score`, `version` as in `SmallModel`, with four more scores.
            `mean_token_probability`: the mean probability of the reply's tokens, the paper's score for generated text
            (Section 4.3, Eq. 9). `token_quantile`: a quantile of them (Gupta et al. 2024, 2404.10136). `energy`: the
            logarithm of the probability that the reply is a label at all, before prior and normalization: low where the
            model would rather say something else. These three need log-probabilities. `vote_share`: the share of all
            calls that named the choice, failed and unreadable calls included; needs `method="votes"`.

    Raises:
        ValueError: If an argument does not fit; the message names it.
        TypeError: If `model` is not a Runnable.

    Example:
        ```python
        from langchain_openai import ChatOpenAI

        llm = ChatOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none", model="local")
        small = ChatClassifier(llm, ["negative", "positive"], prior="content_free")
        small.invoke("I would buy it again.")["probabilities"]
        ```
    """

    model: Any = Field(repr=False)  # its headers may hold a key
    prompt: Any = None
    method: Literal["auto", "logprobs", "votes"] = "auto"
    votes: int = 5
    temperature: float = 0.7
    prior: Literal["content_free"] | dict[str, float] | None = None
    top_logprobs: int = 20
    max_tokens: int | None = None
    min_mass: float = 0.5
    descriptions: dict[str, str] | None = None
    quantile: float = 0.0

    own_scores: ClassVar[frozenset[str]] = frozenset({ENERGY, MEAN_TOKEN_PROBABILITY, TOKEN_QUANTILE, VOTE_SHARE})
    traces_calls: ClassVar[bool] = True
    reads_text: ClassVar[bool] = True

    _seen_logprobs: bool = PrivateAttr(default=False)
    _without_logprobs: int = PrivateAttr(default=0)
    _content_free: dict[str, float] | None = PrivateAttr(default=None)
    _quiet: Any = PrivateAttr(default=None)

    def __init__(self, model: Any = None, labels: Sequence[str] = (), prompt: Any = None, **kwargs: Any) -> None:
        if not isinstance(model, Runnable):
            raise TypeError(f"`model` must be a chat model (a Runnable), not {type(model).__name__}")
        if isinstance(prompt, str):
            prompt = ChatPromptTemplate.from_messages([("human", prompt)])
        super().__init__(model=model, labels=list_labels(labels), prompt=prompt, **kwargs)

    def model_post_init(self, context: Any, /) -> None:
        """Check what belongs together."""
        super().model_post_init(context)
        problem = self._problem()
        if problem:
            raise ValueError(problem)

    def _problem(self) -> str | None:
        if len(self.labels) < 2 or not all(label.strip() for label in self.labels):
            return "`labels` needs at least two labels, none of them blank"
        if self.prompt is not None and not isinstance(self.prompt, BaseChatPromptTemplate):
            return f"`prompt` must be a chat prompt template or a str, not {type(self.prompt).__name__}"
        if not self._free_variables:
            return "`prompt` has no place for the input: write {text} in it"
        if self.votes < 1 or self.top_logprobs < 1 or (self.max_tokens is not None and self.max_tokens < 1):
            return "`votes`, `top_logprobs` and `max_tokens` must be at least 1"
        if not 0.0 <= self.min_mass <= 1.0:
            return "`min_mass` must lie in [0, 1]"
        if self.temperature <= 0.0:
            return "`temperature` must be greater than 0"
        if not 0.0 <= self.quantile <= 1.0:
            return "`quantile` must lie in [0, 1]"
        if self.score in (ENERGY, MEAN_TOKEN_PROBABILITY, TOKEN_QUANTILE) and self.method == "votes":
            return f"`score={self.score!r}` needs log-probabilities: use method='logprobs'"
        if self.score == VOTE_SHARE and self.method != "votes":
            return f"`score={self.score!r}` needs votes: use method='votes'"
        if isinstance(self.prior, dict) and (
            self.prior.keys() != self.label_set or not all(0.0 < p < math.inf for p in self.prior.values())
        ):
            return "`prior` must name every label once, each with a number greater than 0"
        if self.prior == "content_free" and len(self._free_variables) > 1:
            return "`prior='content_free'` needs a prompt whose only variables are {text} and {labels}; use `fit_prior`"
        if self.descriptions and not self.label_set.issuperset(self.descriptions):
            return "`descriptions` names a label that is not in `labels`"
        return None

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be dumped and loaded where its chat model can."""
        return True

    # --- prompts ------------------------------------------------------------------------------------------------

    @property
    def _template(self) -> BaseChatPromptTemplate:
        if self.prompt is None:
            return ChatPromptTemplate.from_messages([("human", DEFAULT_PROMPT)])
        template: BaseChatPromptTemplate = self.prompt
        return template

    @property
    def _free_variables(self) -> list[str]:
        return [v for v in self._template.input_variables if v != "labels"]

    def _listing(self) -> str:
        notes = self.descriptions or {}
        return "\n".join(
            f"- {show_label(label)}" + (f": {' '.join(notes[label].split())}" if label in notes else "")
            for label in self.labels
        )

    def _format(self, value: Any, template: BaseChatPromptTemplate, free: list[str]) -> Any:
        """Make the prompt for one input.

        Raises:
            TypeError: If the input has no text, or lacks a variable of the prompt.
        """
        if isinstance(value, Mapping) and all(v in value for v in free):
            variables = {v: value[v] for v in free}
            if free == ["text"]:
                variables = {"text": read_text(value["text"])}
        elif len(free) == 1:
            variables = {free[0]: read_text(value)}
        else:
            raise TypeError(f"the input must be a dict with the keys {sorted(free)} (the variables of `prompt`)")
        return template.invoke({**variables, "labels": self._listing()}, {"callbacks": []})

    # --- asking -------------------------------------------------------------------------------------------------

    @property
    def _reply_limit(self) -> int:
        # A token is at least a byte; common tokens are longer, and a chatty model is cut off soon.
        return self.max_tokens or 8 + max(len(label.encode()) for label in self.labels)

    def _quiet_model(self) -> Any:
        """The model, never streaming: a streamed draft would leak, and streaming may lose the token usage."""
        if self._quiet is None or self._quiet[0] is not self.model:
            self._quiet = (self.model, quieted(self.model))
        return self._quiet[1]

    def _sender(self, request: _Request) -> Any:
        model = self._quiet_model()
        if request.fresh and is_cached(model):
            model = copied_with(model, {"cache": False})  # one cached reply would vote for all
        return model.bind(**request.settings)

    def _send(self, request: _Request) -> list[Any]:
        found = self._sender(request).batch(request.prompts, request.configs, return_exceptions=True)
        return list(pass_on(found))

    async def _asend(self, request: _Request) -> list[Any]:
        found = await self._sender(request).abatch(request.prompts, request.configs, return_exceptions=True)
        return list(pass_on(found))

    # The plans know nothing of sync and async: they yield what to send and get the replies back.

    def _plan_answers(self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None) -> _Plan:
        if not inputs:
            return []
        tagged = [self._tagged(c) for c in configs] if configs else [self._tagged({}) for _ in inputs]
        rows: list[_Row | Exception] = yield from self._plan_rows(inputs, tagged)
        prior: Mapping[str, float] | Exception | None = self._known_prior()
        if prior is None and self.prior == "content_free" and any(isinstance(r, _Row) for r in rows):
            prior = yield from self._plan_content_free(tagged[0])
        function = self._score_function()
        return [self._finish(row, prior, function) for row in rows]

    @property
    def _no_logprobs(self) -> bool:
        """Whether the model has shown that it has none."""
        return not self._seen_logprobs and self._without_logprobs >= _REPLIES_WITHOUT

    def _plan_rows(self, inputs: Sequence[Any], configs: list[RunnableConfig]) -> _Plan:
        """One `_Row` or exception for each input, before any correction."""
        results: list[_Row | Exception | None] = [None] * len(inputs)
        prompts: dict[int, Any] = {}
        template, free = self._template, self._free_variables
        for place, item in enumerate(inputs):
            try:
                prompts[place] = self._format(self.read(item), template, free)
            except Exception as error:  # noqa: BLE001
                results[place] = error
        to_vote = list(prompts)
        if prompts and self.method != "votes" and not self._no_logprobs:
            to_vote = []
            settings = {
                "logprobs": True,
                "top_logprobs": self.top_logprobs,
                "temperature": 0.0,
                "max_tokens": self._reply_limit,
            }
            replies = yield _Request([*prompts.values()], [configs[i] for i in prompts], settings, fresh=False)
            # All of them first, so that their order in a batch does not matter.
            good = [bool(token_logprobs(reply)) for reply in replies if not isinstance(reply, Exception)]
            self._seen_logprobs = self._seen_logprobs or any(good)
            self._without_logprobs += good.count(False)
            for place, reply in zip(prompts, replies, strict=True):
                results[place] = outcome = self._read_logprobs(reply)
                if outcome is None:
                    to_vote.append(place)
        if to_vote:
            k = self.votes
            settings = {"temperature": self.temperature, "max_tokens": self._reply_limit}
            replies = yield _Request(
                [prompts[i] for i in to_vote for _ in range(k)],
                [configs[i] for i in to_vote for _ in range(k)],
                settings,
                fresh=True,
            )
            for n, place in enumerate(to_vote):
                results[place] = self._count_votes(replies[n * k : (n + 1) * k])
        return results

    def _read_logprobs(self, reply: Any) -> _Row | Exception | None:
        """None means: ask for votes instead."""
        may_vote = self.method == "auto" and not self._seen_logprobs
        if isinstance(reply, Exception):
            return None if may_vote and _refuses_logprobs(reply) else reply
        try:
            tokens = token_logprobs(reply)
            if not tokens:
                if may_vote:
                    return None
                return NoLabelMassError(
                    "the reply carries no token log-probabilities; use a model that returns them "
                    "(OpenAI: use_responses_api=False), or method='votes'"
                )
            mass = label_mass(tokens, self.labels, finish_reason=ending(reply))
            vague = mass.other if 1.0 - mass.other < self.min_mass else 0.0
            return _Row(mass, mean_token_probability(tokens), vague, tokens)
        except Exception as error:  # noqa: BLE001 - a malformed reply must not spoil the batch
            return error

    def _count_votes(self, replies: list[Any]) -> _Row | Exception:
        named = [match_reply(r, self.labels) for r in replies if not isinstance(r, Exception)]
        counted = [label for label in named if label is not None]
        if not counted:
            failures = [r for r in replies if isinstance(r, Exception)]
            return failures[0] if failures else InvalidAnswerError("none of the votes names one of the labels")
        even = (len(replies) - len(counted)) / len(self.labels)
        probabilities = {label: (counted.count(label) + even) / len(replies) for label in self.labels}
        return _Row(
            LabelMass(probabilities, 0.0, 0.0),
            None,
            votes={label: counted.count(label) / len(replies) for label in self.labels},
        )

    def _plan_content_free(self, config: RunnableConfig) -> _Plan:
        values = [{self.input_key: text} if self.input_key is not None else text for text in CONTENT_FREE]
        rows: list[_Row | Exception] = yield from self._plan_rows(values, [config] * len(values))
        prior = self._mean(rows)
        if not isinstance(prior, Exception):
            self._content_free = prior
        return prior

    def _plan_prior(self, texts: Sequence[Any]) -> _Plan:
        configs = [self._tagged({}) for _ in texts]
        rows: list[_Row | Exception] = yield from self._plan_rows(texts, configs)
        return self._mean(rows)

    def _mean(self, rows: Sequence[_Row | Exception]) -> dict[str, float] | Exception:
        good = [r.probabilities for r in rows if isinstance(r, _Row)]
        if not good:
            return next((r for r in rows if isinstance(r, Exception)), ValueError("`texts` is empty"))
        # A hundredth of an even share at least: a prior of nearly 0 would make its label win everywhere.
        least = 0.01 / len(self.labels)
        means = {label: max(least, math.fsum(p[label] for p in good) / len(good)) for label in self.labels}
        total = math.fsum(means.values())
        return {label: p / total for label, p in means.items()}

    def _known_prior(self) -> dict[str, float] | None:
        return self.prior if isinstance(self.prior, dict) else self._content_free if self.prior else None

    def _finish(
        self, row: _Row | Exception, prior: Mapping[str, float] | Exception | None, function: ScoreFunction | None
    ) -> Answer | Exception:
        if isinstance(row, Exception):
            return row
        if isinstance(prior, Exception):
            return prior
        try:
            corrected = self._least(row, prior)
            # What the model would rather have said than any label speaks for none of them: spread evenly, it lowers
            # the confidence and changes no choice.
            even = row.vague / len(self.labels)
            probabilities = {y: (1.0 - row.vague) * p + even for y, p in corrected.items()}
            choice = max(self.labels, key=probabilities.__getitem__)
            answer = {
                "choice": choice,
                "probabilities": probabilities,
                "confidence": self._own_score(row, choice) if function is None else function(probabilities),
            }
            return check_answer(answer, self.label_set)
        except Exception as error:  # noqa: BLE001
            return error

    def _least(self, row: _Row, prior: Mapping[str, float] | None) -> dict[str, float]:
        """Corrected probabilities in which what nobody has seen counts where it takes the most from the choice.

        So the choice has at least this probability, whoever the unseen tokens belong to.

        Raises:
            InvalidAnswerError: If they might change the choice.
        """
        corrected = self._corrected(row.probabilities, prior)
        if not row.mass.unseen > 0.0:
            return corrected
        known = 1.0 - row.mass.other
        share = min(1.0, row.mass.unseen / known) if known > 0.0 else 1.0
        choice = max(self.labels, key=corrected.__getitem__)
        seen = {y: (1.0 - share) * p for y, p in row.probabilities.items()}
        weight = {y: 1.0 / prior[y] if prior else 1.0 for y in self.labels}
        rivals = [y for y in self.labels if y != choice]
        if seen[choice] * weight[choice] < max((seen[y] + share) * weight[y] for y in rivals):
            raise InvalidAnswerError(
                "the model's server did not list enough of the probability to say which label it prefers: raise "
                "`top_logprobs`, or use method='votes'"
            )
        seen[max(rivals, key=weight.__getitem__)] += share
        return self._corrected(seen, prior)

    def _own_score(self, row: _Row, choice: str) -> float:
        """One of `own_scores`. Raises InvalidAnswerError if the reply does not carry what it needs."""
        if self.score == VOTE_SHARE and row.votes is not None:
            return row.votes[choice]
        if row.mean_token_probability is None:
            raise InvalidAnswerError(f"`score={self.score!r}` needs log-probabilities, and the model returned none")
        if self.score == ENERGY:
            mass = max(math.fsum(row.mass.labels.values()), _TINY)
            logits = [math.log(p * mass) if p > 0.0 else -math.inf for p in row.probabilities.values()]
            return energy(logits)
        if self.score == TOKEN_QUANTILE:
            return token_quantile(row.tokens, self.quantile) * (1.0 - row.vague)
        return row.mean_token_probability * (1.0 - row.vague)

    def _corrected(self, row: Mapping[str, float], prior: Mapping[str, float] | None) -> dict[str, float]:
        if prior is None:
            return dict(row)
        weights = {y: p / prior[y] for y, p in row.items()}
        total = math.fsum(weights.values())
        return {y: w / total for y, w in weights.items()}

    def _tagged(self, config: RunnableConfig) -> RunnableConfig:
        own = [self.name, NOSTREAM_TAG] if self.name else [NOSTREAM_TAG]
        return {**config, "tags": [*(config.get("tags") or []), *own]}

    # --- SmallModel ---------------------------------------------------------------------------------------------

    def answers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Answer a batch with one batch of the chat model (or `votes` times as many calls).

        Errors of the provider come back as they were raised, each in the place of its input.
        """
        results: list[Answer | Exception] = _drive.run(self._plan_answers(inputs, configs), self._send)
        return results

    async def aanswers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Async twin of `answers`, by the chat model's own `abatch`."""
        results: list[Answer | Exception] = await _drive.arun(self._plan_answers(inputs, configs), self._asend)
        return results

    def predict_proba(self, inputs: list[Any]) -> Any:
        """Return the corrected label probabilities, shape (len(inputs), len(labels)); NaN where there is no answer.

        Raises:
            Exception: What the first input raised, where no input has an answer.
        """
        answers = self.answers(inputs)
        errors = [a for a in answers if isinstance(a, Exception)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        return np.array(
            [
                [math.nan] * len(self.labels)
                if isinstance(a, Exception)
                else [a["probabilities"][label] for label in self.labels]
                for a in answers
            ]
        ).reshape(len(answers), len(self.labels))

    def warmup(self) -> None:
        """Ask for the content-free prior now, so that the first input does not wait for it."""
        if self.prior == "content_free" and self._content_free is None:
            _drive.run(self._plan_content_free(self._tagged({})), self._send)

    def fingerprint(self) -> str:
        """SHA-256 of the chat model without its secrets, the prompt, and everything that shapes the answers."""
        parts = [dumpd(self.model), dumpd(self._template)]
        if any(_is_opaque(part) for part in parts):
            return UNVERIFIABLE
        parts += [
            self.labels,
            self.descriptions,
            self.method,
            self.votes,
            self.temperature,
            self.prior,
            self.top_logprobs,
            self._reply_limit,
            self.min_mass,
            self.quantile,
            self.input_key,
        ]
        text = json.dumps(_without_secrets(parts), sort_keys=True, ensure_ascii=False, default=repr)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def clone(self) -> Self:
        """Return a copy with its own prior; the chat model, which nothing here trains, is shared."""
        settings: dict[str, Any] = {field: getattr(self, field) for field in type(self).model_fields}
        copies: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in settings.items()}
        return type(self)(copies.pop("model"), copies.pop("labels"), **copies)

    # --- fitting ------------------------------------------------------------------------------------------------

    def fit_prior(self, texts: Sequence[Any]) -> Self:
        """Set `prior` to the mean prediction over unlabelled inputs (batch calibration, Zhou et al. 2023, 2309.17249).

        Right where the classes are about equally frequent among them. Inputs without an answer are left out.

        Args:
            texts: Inputs like those to come; a few dozen will do.

        Raises:
            Exception: What the first input raised, where no input has an answer.
        """
        return self._set_prior(_drive.run(self._plan_prior(list(texts)), self._send))

    async def afit_prior(self, texts: Sequence[Any]) -> Self:
        """Async twin of `fit_prior`."""
        return self._set_prior(await _drive.arun(self._plan_prior(list(texts)), self._asend))

    def _set_prior(self, prior: dict[str, float] | Exception) -> Self:
        if isinstance(prior, Exception):
            raise prior
        self.prior = prior
        self.set_version(None)
        return self


def _refuses_logprobs(error: BaseException) -> bool:
    """Whether a model failed because it gives no log-probabilities, and not for a passing reason.

    It says so in its message, its code or the parameter that it names, or its cause does.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < 5:
        chain.append(cause)
        cause = cause.__cause__
    if any(isinstance(one, (ConnectionError, TimeoutError)) or _state(one) in _PASSING for one in chain):
        return False
    said = [str(getattr(one, name, "")) for one in chain for name in ("code", "param", "body", "message")]
    return _LOGPROBS.search(" ".join([*map(str, chain), *said])) is not None


_LOGPROBS = re.compile(r"log[\s_-]?prob", re.IGNORECASE)


def _state(error: BaseException) -> int | None:
    """The HTTP state of a provider's error."""
    response = getattr(error, "response", None)
    for value in (
        getattr(error, "status_code", None),
        getattr(error, "code", None),
        getattr(error, "http_status", None),
        getattr(response, "status_code", None),
    ):
        number = getattr(value, "value", value)  # an enum
        if isinstance(number, str) and number.isascii() and number.isdigit():
            number = int(number)
        if isinstance(number, int) and not isinstance(number, bool):
            return number
    return None


def quieted(model: Any) -> Any:
    """A copy of a chat model that does not stream: a streamed draft would leak, and streaming may lose token usage.

    `disable_streaming` alone is not enough where a model's own `streaming` or a bound `stream` asks the server for a
    stream.
    """
    if isinstance(model, BaseChatModel):
        own = {"streaming": False} if getattr(model, "streaming", None) else {}
        return model.model_copy(update={"disable_streaming": True, **own})
    if isinstance(model, RunnableBindingBase):
        kwargs = {key: value for key, value in model.kwargs.items() if key not in ("stream", "stream_options")}
        return model.model_copy(update={"bound": quieted(model.bound), "kwargs": kwargs})
    return model


def copied_with(model: Any, settings: dict[str, Any]) -> Any:
    """A copy of the chat model with other settings, also inside `bind`, `with_config` and `with_retry`."""
    if isinstance(model, BaseChatModel):
        return model.model_copy(update=settings)
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": copied_with(model.bound, settings)})
    return model


def is_cached(model: Any) -> bool:
    """Whether LangChain may answer for the chat model from a cache."""
    if isinstance(model, RunnableBindingBase):
        return is_cached(model.bound)
    if not isinstance(model, BaseChatModel):
        return False
    return model.cache not in (None, False) or (model.cache is None and get_llm_cache() is not None)


def _is_opaque(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("type") == "not_implemented" or any(map(_is_opaque, value.values()))
    return isinstance(value, list) and any(map(_is_opaque, value))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("type") == "secret" and "lc" in value:
            return None
        return {k: _without_secrets(v) for k, v in value.items() if "headers" not in str(k)}
    if isinstance(value, str):
        return without_url_secrets(value)
    return [_without_secrets(v) for v in value] if isinstance(value, (list, tuple)) else value
