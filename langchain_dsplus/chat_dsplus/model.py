"""`ChatDSPlus`: a chat model that is a cascade of chat models, small ones first."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Literal, Self, cast

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import PrivateAttr

from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import plain_mismatch
from langchain_dsplus.chat_dsplus.build import ROUTED, Cascade, build_router, model_name, settings_of
from langchain_dsplus.chat_dsplus.call import Call, Stream, open_call, public, told
from langchain_dsplus.chat_dsplus.draft import Asked
from langchain_dsplus.chat_dsplus.tools import Bound, bind, structure, take_apart
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.routing.runs import Apart
from langchain_dsplus.tags import LARGE_TAG, ROUTE_EVENT

CALL = "dsplus_call"
"""Under which a call's own things travel through LangChain's methods, which pass `_stream` no run."""


class ChatDSPlus(Cascade):
    """A chat model that is a cascade: small chat models answer what they are sure of, the last one gets the rest.

    Each small model writes a whole draft. It is accepted only if the confidence in it is strictly above the threshold;
    else the next model is asked, with exactly the original messages. A draft that failed, took too long, is cut off,
    empty or malformed (a tool call that fits no tool, structured output that fits no schema) is never accepted. All
    that `ConfidenceRouter` promises holds here too, since one is inside: `router`.

    What comes back is an AIMessage with `response_metadata["dsplus"]`: the `Route`, with `usage` (tokens by model) and
    `model_name` (of who answered). Texts of drafts are left out of it; a `recorder` gets them.

    Streams: a draft is shown only after it was accepted, then in pieces; of a large model every token as it comes. The
    runs of the models inside are children of this model's run. Tracers hear them, and so does every handler that has
    an `on_llm_end`, so that tokens are counted for each model; tokens come once, from this model's run. Handlers of
    streams (LangGraph's messages, `astream_events`) hear this model's run alone.

    Usage: `usage_metadata` of the message is what this answer cost: all models together. In callbacks and traces each
    token stands exactly once, in the run of the model that used it; this model's own run carries none, so that sums
    over runs (`UsageMetadataCallbackHandler`, LangSmith, `CostLedger`) are right.

    Args:
        models: Two or more chat models, the large one last. `bind`, `with_config` and `with_retry` around one are fine.
        threshold: Accept iff confidence > threshold: one number, one per small model, a dict by name, or a
            `Certificate` (see `collect_chat_outcomes`). None accepts nothing.
        accept: `sequence`: the probability of the draft's tokens; the small models must return log-probabilities, which
            most providers do not do for tool calls: there, take one of the others. `consistency`: the share of several
            samples that say the same. `agreement`: the share of other cheap models (`peers`) that say the same; for
            tool calls without log-probabilities. `verifier`: the probability of "yes" to the question whether the
            draft is right. Or a function of the messages and the draft that returns a number.
        score: A `RouteScore`, compared with the threshold in the place of what `accept` says. One that needs no answer
            (`before`) chooses by the messages alone: no draft is written for what escalates, and `accept` is not asked.
            Any other sees the messages and the draft, whose confidence is what `accept` says.
        sequence: With `accept="sequence"`: `mean` (geometric mean of the token probabilities), `min` or `product`.
        samples: With `accept="consistency"`: how many.
        equal: Whether two replies say the same, by their texts (tool calls as JSON); by default the same tool calls
            (`same_calls`), or the same text without regard to case, spaces and punctuation at the edges.
        peers: With `accept="agreement"`: the other cheap chat models. Tools are bound to them too, and what they cost
            is counted as the small model's.
        verifier: With `accept="verifier"`: the chat model that is asked, or a `ChatClassifier` with the labels yes and
            no; by default each small model judges its own drafts.
        verifier_prompt: What it is asked, with `{conversation}` and `{answer}`.
        mode: `live`; `shadow` (the large model answers, the small ones run in the background and are recorded); `off`.
        audit_rate: Share of accepted drafts about which the large model is asked as well, in the background.
        small_timeout: Seconds that a small model may take for a draft, its verification included.
        on_large_error: `raise`, or `small`: the last draft stands in for a large model that failed.
        recorder: Writes down every decision (see `JSONLRecorder`).
        on_mismatch: What happens when models are not those of the certificate; see `ConfidenceRouter`.
        version: Your own text for what the large model is, where it cannot be seen into.
        allow_override: Whether a call's config may loosen mode or threshold.
        background: False does shadow work and audits before returning.
        background_workers: Threads for them.
        background_limit: While this many wait, more are skipped.
        temperature: Sent to every model with every call; so are `max_tokens` and `stop`. None leaves it to each model.
        max_tokens: See there.
        stop: See there.
        streaming: Whether `invoke` streams inside, so that token callbacks come.

    Raises:
        TypeError: If `models` holds something else than chat models.
        ValueError: If a setting is malformed.
        MismatchError: If the certificate is about other models.

    Example:
        ```python
        from langchain_openai import ChatOpenAI

        small = ChatOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none", model="local")
        cascade = ChatDSPlus(models=[small, ChatOpenAI(model="gpt-4.1")], threshold=0.9)
        reply = cascade.invoke("What is the capital of France?")
        reply.response_metadata["dsplus"]["model"]  # "small"
        reply.usage_metadata["total_tokens"]  # of both
        ```
    """

    __str__ = fields_in_words

    streaming: bool = False
    cache: Literal[False] = False
    """A cascade is not cached itself: the models inside are, and a decision is made anew each time."""

    _bound: Bound | None = PrivateAttr(default=None)
    _built: tuple[tuple[Any, ...], ConfidenceRouter] | None = PrivateAttr(default=None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See the class."""
        with plain_mismatch():
            super().__init__(*args, **kwargs)

    def model_post_init(self, context: Any, /) -> None:
        """Check everything that can be checked before the first call."""
        super().model_post_init(context)
        _ = self.router

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be dumped where its models can."""
        return True

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def router(self) -> ConfidenceRouter:
        """The router inside: names, certificate, `about`, `drain()`, counters."""
        fields = tuple(getattr(self, name) for name in ROUTED)
        key = (*fields, *self.models, self._bound)
        if self._built is not None:
            if len(self._built[0]) == len(key) and all(a is b for a, b in zip(self._built[0], key, strict=True)):
                return self._built[1]
            before: ConfidenceRouter | None = self._built[1]
        else:
            before = None
        router = build_router(self, self._bound)
        if before is not None:  # background work that is under way stays known
            router.take_over(before)
        self._built = (key, router)
        return router

    @property
    def model_names(self) -> builtins.dict[str, str]:
        """What the models are called by their providers, by their names here."""
        names = [*self.router.small_names, LARGE_TAG]
        return {name: model_name(model) for name, model in zip(names, self.models, strict=True)}

    @property
    def _llm_type(self) -> str:
        return "dsplus"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        accept = self.accept if isinstance(self.accept, str) else "function"
        threshold = self.threshold if isinstance(self.threshold, (int, float, list, tuple, dict)) else None
        return {
            "models": [model_name(model) for model in self.models],
            "accept": accept,
            "threshold": threshold,
            "mode": self.mode,
            **settings_of(self),
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        names = " > ".join(model_name(model) for model in self.models)
        model = kwargs.get("model")
        params: dict[str, Any] = {
            "ls_provider": "dsplus",
            "ls_model_name": model if isinstance(model, str) else names,
            "ls_model_type": "chat",
        }
        for name, kind in (("temperature", (int, float)), ("max_tokens", int)):
            value = kwargs.get(name, getattr(self, name))
            if isinstance(value, kind):
                params[f"ls_{name}"] = value
        if stop or self.stop:
            params["ls_stop"] = stop or self.stop
        return cast("LangSmithParams", params)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> builtins.dict[str, Any]:
        return super()._get_invocation_params(stop=stop, **{k: v for k, v in kwargs.items() if k != CALL})

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The per-call settings."""
        return self.router.config_specs

    # --- lifetime -----------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for background work (shadow drafts, audits). Returns False when the time ran out first."""
        return self.router.drain(timeout)

    async def adrain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Async twin of `drain`."""
        return await self.router.adrain(timeout)

    # --- tools --------------------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[Any],
        *,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools to every model, each in its provider's form.

        A draft that calls an unknown tool, or one with arguments that do not fit its schema, is not accepted.

        Args:
            tools: As in `BaseChatModel.bind_tools`.
            tool_choice: Which tool to call: `any`, a name, or what the models take.
            **kwargs: Passed on to every model's `bind_tools`.

        Raises:
            MismatchError: If the threshold is a certificate about models without these tools: collect and certify with
                the tools bound, and pass the models bound.
        """
        shown_format = kwargs.pop("ls_structured_output_format", None)
        bound = bind([*self.models, *self.peers], tools, tool_choice, kwargs)
        shown = bound.shown if shown_format is None else {**bound.shown, "ls_structured_output_format": shown_format}
        return self._with(bound).bind(**shown)

    def with_structured_output(
        self,
        schema: Any,
        *,
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return what the schema asks for, each model in its own way.

        A draft that cannot be read, or does not fit the schema, is not accepted.

        Args:
            schema: As in `BaseChatModel.with_structured_output`.
            include_raw: Return `{"raw", "parsed", "parsing_error"}`.
            **kwargs: Passed on to every model's `with_structured_output`: `method`, `strict` and so on.

        Raises:
            NotImplementedError: If a model builds its output in a way that cannot be taken apart.
            MismatchError: As in `bind_tools`.
        """
        bound, parsers = structure([*self.models, *self.peers], schema, kwargs)
        shown = {"kwargs": {"method": kwargs.get("method") or "function_calling"}, "schema": schema}
        model = self._with(bound)
        names = [*model.router.small_names, LARGE_TAG]
        asked = model.bind(ls_structured_output_format=shown)
        return take_apart(asked, dict(zip(names, parsers[: len(names)], strict=True)), include_raw=include_raw)

    def _with(self, bound: Bound) -> Self:
        """A copy with other things bound to its models."""
        copy = self.model_copy()
        copy._bound = bound  # noqa: SLF001 - its own
        _ = copy.router
        return copy

    # --- calls --------------------------------------------------------------------------------------------------

    def _opened(
        self, config: RunnableConfig | None, kwargs: builtins.dict[str, Any], *, asynchronous: bool
    ) -> tuple[RunnableConfig | None, builtins.dict[str, Any]]:
        """Config and arguments of a call that has its own things with it."""
        if CALL in kwargs:  # LangChain's `stream` falls back to `invoke`
            return config, kwargs
        outer, call = open_call(self, config, asynchronous=asynchronous)
        return outer, {**kwargs, CALL: call}

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Answer."""
        config, kwargs = self._opened(config, kwargs, asynchronous=False)
        return super().invoke(input, config, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Async twin of `invoke`."""
        config, kwargs = self._opened(config, kwargs, asynchronous=True)
        return await super().ainvoke(input, config, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Stream one answer, never a draft; the last chunk carries the usage."""
        config, kwargs = self._opened(config, kwargs, asynchronous=False)
        with contextlib.closing(cast("Any", super().stream(input, config, **kwargs))) as source:
            for chunk in source:
                yield told(chunk)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Async twin of `stream`."""
        config, kwargs = self._opened(config, kwargs, asynchronous=True)
        async with contextlib.aclosing(cast("Any", super().astream(input, config, **kwargs))) as source:
            async for chunk in source:
                yield told(chunk)

    def stream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Stream events; of `version="v3"` the run carries the usage, since there is no later place for it."""
        if kwargs.get("version") == "v3":
            config, kwargs = self._opened(config, kwargs, asynchronous=False)
            kwargs[CALL].tells = True
        return super().stream_events(input, config, **kwargs)

    def astream_events(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        """Async twin of `stream_events`."""
        if kwargs.get("version") == "v3":
            config, kwargs = self._opened(config, kwargs, asynchronous=True)
            kwargs[CALL].tells = True
        return super().astream_events(input, config, **kwargs)

    def generate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer several conversations, one after the other."""
        return _told_all(super().generate(messages, *args, **kwargs))

    async def agenerate(self, messages: list[list[BaseMessage]], *args: Any, **kwargs: Any) -> LLMResult:
        """Async twin of `generate`."""
        return _told_all(await super().agenerate(messages, *args, **kwargs))

    def _begin(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: Any,
        kwargs: builtins.dict[str, Any],
        *,
        asynchronous: bool,
    ) -> tuple[Call, Asked]:
        """What every way of asking needs."""
        call = kwargs.pop(CALL, None)
        if call is None:
            _, call = open_call(self, None, asynchronous=asynchronous, run_manager=run_manager)
        if "model" in kwargs:
            raise ValueError("`model` cannot be chosen for a call: this is a cascade of several models")
        shown = {} if self._bound is None else self._bound.shown
        passed = {name: value for name, value in kwargs.items() if not (name in shown and shown[name] == value)}
        if stop:
            passed["stop"] = stop
        return call, Asked(messages, passed)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, asked = self._begin(messages, stop, run_manager, kwargs, asynchronous=False)
        with Apart(call.config):
            found = call.finish(self.router.invoke(asked, call.config, **asked.kwargs))
        self._announce(call)
        return ChatResult(generations=[ChatGeneration(message=found)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call, asked = self._begin(messages, stop, run_manager, kwargs, asynchronous=True)
        with Apart(call.config):
            found = call.finish(await self.router.ainvoke(asked, call.config, **asked.kwargs))
        await self._aannounce(call)
        return ChatResult(generations=[ChatGeneration(message=found)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, asked = self._begin(messages, stop, run_manager, kwargs, asynchronous=False)
        shown = Stream(call)
        with contextlib.closing(cast("Any", self.router.stream(asked, call.config, **asked.kwargs))) as source:
            for part in source:
                chunks = shown.take(part)
                if not shown.announced:
                    shown.announced = True
                    self._announce(call)
                yield from chunks
        yield from shown.end()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, asked = self._begin(messages, stop, run_manager, kwargs, asynchronous=True)
        shown = Stream(call)
        async with contextlib.aclosing(cast("Any", self.router.astream(asked, call.config, **asked.kwargs))) as source:
            async for part in source:
                chunks = shown.take(part)
                if not shown.announced:
                    shown.announced = True
                    await self._aannounce(call)
                for chunk in chunks:
                    yield chunk
        for chunk in shown.end():
            yield chunk

    def _announce(self, call: Call) -> None:
        """Tell the handlers that hear nothing of the models inside what was decided."""
        if call.listeners and call.route:
            manager = CallbackManager(handlers=call.listeners)
            manager.on_custom_event(ROUTE_EVENT, public(call.route), run_id=call.run_id)

    async def _aannounce(self, call: Call) -> None:
        if call.listeners and call.route:
            manager = AsyncCallbackManager(handlers=call.listeners)
            await manager.on_custom_event(ROUTE_EVENT, public(call.route), run_id=call.run_id)


def _told_all(result: LLMResult) -> LLMResult:
    """The same with usage and the model's name; callbacks have seen the one without."""
    generations: list[Any] = [
        [
            ChatGeneration(message=told(one.message), generation_info=one.generation_info)
            if isinstance(one, ChatGeneration)
            else one
            for one in group
        ]
        for group in result.generations
    ]
    return LLMResult(generations=generations, llm_output=result.llm_output, run=result.run)
