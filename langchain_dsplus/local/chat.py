"""`ChatLocal`: a chat model that runs in this process, from a GGUF file or a transformers folder."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from operator import itemgetter
from types import TracebackType
from typing import Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.local.files import Place, check_model, hash_weights, locate, shown_name, stamp
from langchain_dsplus.local.jobs import Engine, Job, Request, shared_engine
from langchain_dsplus.local.messages import (
    MAX_TOP_LOGPROBS,
    check_sampling,
    check_stop,
    clean,
    plain_messages,
    to_chunk,
    to_result,
)
from langchain_dsplus.local.schema import WholeJson, WholeModel, closed, read_schema, with_schema

_UNUSED = frozenset({"api_key", "base_url", "max_retries", "timeout", "streaming"})
"""Settings that LangChain gives to every chat model; those that mean nothing here are passed over."""


class ChatLocal(BaseChatModel):
    """A chat model of the ChatGLM class (GLM, Qwen, SmolLM, ...) in this process: no server, no key, no cost per call.

    GGUF files run in llama.cpp (xllamacpp), transformers folders in torch, both with the model's own chat template.
    Weights load at the first call, once for all equal instances, and stay until the last of them is closed or gone.
    Calls from many threads are safe: a transformers model takes one at a time, a GGUF file `parallel`; the others wait
    in line. Async calls block no event loop, and a stream that is left ends its generation.

    Replies carry `usage_metadata`, and in `response_metadata` the `model_name`, the `finish_reason` (`stop` or
    `length`) and, with `logprobs`, log-probabilities in OpenAI's form: natural logarithms, before temperature and
    schema. So `ChatClassifier`, `LabelParser` and `CostLedger` read them as they read those of a paid model. llama.cpp
    reports a character of several tokens as one entry, with the log-probability of the last of them.

    Structured output works by constrained decoding: the reply fits the JSON schema whatever the model would rather say.
    There is no tool calling: `bind_tools` raises `NotImplementedError`.

    Texts in messages that look like marks of a chat template (`<|user|>`, `</s>`) are broken up by a blank, so that a
    text cannot end its own message and begin another one. Never runs code from a folder or the hub, reads only
    safetensors and GGUF, and sends nothing anywhere.

    Args:
        model: A GGUF file, a transformers folder, a name that `dsplus models list` shows (`smollm2-135m`), or a name on
            the Hugging Face hub: `owner/name` for a transformers model, `owner/name/file.gguf` for one file.
        **kwargs: The fields below; each call may override the sampling ones, and `bind` fixes them.

    Raises:
        ValueError: If `model` can be none, or a setting is unknown or out of range. In a call: if the messages hold
            anything but text, or the prompt is longer than the context (`PromptTooLongError`).
        LocalTimeoutError: In a call, if `timeout` is over.
        LocalModelError: In the first call, if the weights cannot be loaded.

    Example:
        ```python
        llm = ChatLocal("smollm2-135m", max_tokens=60)
        llm.invoke("Name a color.").content
        small = ChatClassifier(llm, ["negative", "positive"])
        ```
    """

    __str__ = fields_in_words

    model_config = ConfigDict(hide_input_in_errors=True)

    model: str
    revision: str | None = None
    """Commit or tag on the hub; the newest by default."""
    temperature: float = Field(default=0.0, ge=0.0)
    """0 takes the likeliest token."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    """Of the draws, where `temperature` is above 0."""
    max_tokens: int | None = Field(default=512, ge=1)
    """None goes on until the model ends, or the context does."""
    stop: list[str] | None = None
    """Texts before which the reply ends."""
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    """Alternatives at each token, with `logprobs`."""
    timeout: float | None = Field(default=None, gt=0.0)
    """Seconds for one call, waiting in line included."""
    streaming: bool = False
    """Whether `invoke` streams inside, for handlers that read tokens."""
    n_ctx: int = Field(default=4096, ge=16)
    """Tokens of context, prompt and reply together; transformers models take no more than they were made for."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a GGUF file; by default those that the process may use."""
    parallel: int = Field(default=1, ge=1)
    """Calls that a GGUF file works on at the same time; each takes memory for `n_ctx` tokens."""
    device: str | None = None
    """torch's name of a device for a transformers folder; by default the first accelerator, else the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of a transformers folder's weights; `auto` takes the folder's own."""
    chat_template: str | None = None
    """Jinja text instead of the model's own template."""
    template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further variables of the chat template, such as `{"enable_thinking": False}`."""

    _engines: dict[str, Engine] = PrivateAttr(default_factory=dict)
    _places: dict[str, Place] = PrivateAttr(default_factory=dict)
    _versions: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, model: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        if model is not None:
            kwargs["model"] = os.fspath(model)
        super().__init__(**kwargs)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: Any) -> Any:
        """Refuse misspelled settings, which pydantic would pass over."""
        if isinstance(values, Mapping):
            names = {*cls.model_fields, *(f.alias for f in cls.model_fields.values() if f.alias), *_UNUSED}
            unknown = sorted(str(name) for name in values if name not in names)
            if unknown:
                raise ValueError(f"ChatLocal has no setting {', '.join(f'`{name}`' for name in unknown)}")
        return values

    @field_validator("model")
    @classmethod
    def _findable(cls, value: str) -> str:
        return check_model(value)

    @field_validator("stop")
    @classmethod
    def _stops(cls, value: list[str] | None) -> list[str] | None:
        return list(check_stop(value)) if value else None

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "dsplus-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """All that may change an answer: LangChain's cache tells models apart by it."""
        told = (
            "revision", "temperature", "top_p", "top_k", "seed", "max_tokens", "stop", "logprobs", "top_logprobs",
            "n_ctx", "device", "dtype", "chat_template", "template_kwargs",
        )  # fmt: skip
        return {
            "model": self.model,
            "model_name": shown_name(self.model),
            "files": stamp(self.model),
            **{name: getattr(self, name) for name in told},
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Return what traces show of a call."""
        asked = kwargs.get("model")
        temperature = kwargs.get("temperature", self.temperature)
        params = LangSmithParams(
            ls_provider="local",
            ls_model_name=shown_name(asked if isinstance(asked, str) else self.model),
            ls_model_type="chat",
            ls_temperature=temperature,
        )
        most = kwargs.get("max_tokens", self.max_tokens)
        if most is not None:
            params["ls_max_tokens"] = most
        stops = stop if stop is not None else self.stop
        if stops:
            params["ls_stop"] = list(stops)
        return params

    @property
    def version(self) -> str:
        """SHA-256 over weights, tokenizer, chat template and configuration; reads them all at the first use.

        Fetches what is not on this machine yet.
        """
        if self.model not in self._versions:
            self._versions[self.model] = hash_weights(self._place(self.model))
        return self._versions[self.model]

    def get_token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text, as the model reads them; loads the model."""
        return self._engine(self.model).token_ids(clean(text))

    # --- life ---------------------------------------------------------------------------------------------------

    def warmup(self) -> None:
        """Load the weights now."""
        self._engine(self.model)

    def close(self) -> None:
        """Let the weights go; the memory is free once no other instance uses them. The next call loads them again."""
        self._engines.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, model: str) -> Place:
        place = self._places.get(model)
        if place is None:
            self._places[model] = place = locate(model, self.revision)
        return place

    def _engine(self, model: str) -> Engine:
        """Return the loaded model, loading it if it must be."""
        engine = self._engines.get(model)
        if engine is None or engine.pid != os.getpid():
            place = self._place(check_model(model))
            # Dicts change in one step; two threads that come here at once get the same engine.
            self._engines[model] = engine = shared_engine(self._key(place), lambda: self._load(place))
        return engine

    def _key(self, place: Place) -> tuple[Any, ...]:
        own: tuple[Any, ...] = (self.threads, self.parallel) if place.kind == "gguf" else (self.device, self.dtype)
        files = json.dumps(stamp(str(place.path)))
        return (place.kind, str(place.path.resolve()), files, self.n_ctx, self.chat_template, *own)

    def _load(self, place: Place) -> Engine:
        if place.kind == "gguf":
            from langchain_dsplus.local.gguf import GgufEngine

            return GgufEngine(
                place.path,
                n_ctx=self.n_ctx,
                threads=self.threads,
                parallel=self.parallel,
                chat_template=self.chat_template,
            )
        from langchain_dsplus.local.transformers import TorchEngine

        return TorchEngine(
            place.path, n_ctx=self.n_ctx, device=self.device, dtype=self.dtype, chat_template=self.chat_template
        )

    # --- answers ------------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Make a whole reply."""
        name, job = self._job(messages, stop, kwargs)
        return to_result(list(job.pieces()), name)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        """Async twin of `_generate`."""
        name, job = self._job(messages, stop, kwargs)
        async with aclosing(job.apieces()) as pieces:
            return to_result([piece async for piece in pieces], name)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        """Make a reply, piece by piece."""
        name, job = self._job(messages, stop, kwargs)
        for piece in job.pieces():
            chunk = to_chunk(piece, name)
            if run_manager is not None:
                run_manager.on_llm_new_token(piece.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Async twin of `_stream`."""
        name, job = self._job(messages, stop, kwargs)
        async with aclosing(job.apieces()) as pieces:  # left to itself, it would end when Python gets round to it
            async for piece in pieces:
                chunk = to_chunk(piece, name)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(piece.text, chunk=chunk)
                yield chunk

    def _job(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> tuple[str, Job]:
        """Read a call's settings; the model's shown name and the work to do."""
        given = dict(kwargs)
        model = str(given.pop("model", self.model))
        timeout = given.pop("timeout", self.timeout)
        schema = read_schema(given.pop("response_format", None))
        instruct = given.pop("schema_in_prompt", False)
        for other in ("stream", "streaming", "ls_structured_output_format"):
            given.pop(other, None)
        settings = {name: given.pop(name, getattr(self, name)) for name in _SAMPLING}
        if "max_completion_tokens" in given:
            settings["max_tokens"] = given.pop("max_completion_tokens")
        if given.keys() & {"tools", "tool_choice", "functions"}:
            raise NotImplementedError("ChatLocal calls no tools; structured output works with `with_structured_output`")
        if given:
            raise ValueError(f"ChatLocal has no setting {', '.join(f'`{name}`' for name in sorted(given))}")
        logprobs, top = settings.pop("logprobs"), settings.pop("top_logprobs")
        check_sampling(settings, top, timeout)
        plain = plain_messages(messages)
        if schema is not None and instruct:
            plain = with_schema(plain, schema)
        request = Request(
            messages=plain,
            stop=check_stop(stop if stop is not None else self.stop or ()),
            top_logprobs=(top or 0) if logprobs else None,
            schema=schema,
            **settings,
            template=self.template_kwargs,
        )
        return shown_name(model), Job(lambda: self._engine(model), request, timeout)

    # --- structured output --------------------------------------------------------------------------------------

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Literal["json_schema", "json_mode", "function_calling"] = "json_schema",
        strict: bool | None = None,
        schema_in_prompt: bool = True,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a Runnable whose output has the given form.

        Args:
            schema: A pydantic class, a `TypedDict`, a JSON schema or an OpenAI tool schema.
            include_raw: Return `raw` (the message), `parsed` and `parsing_error` instead of raising.
            method: `json_schema` and `function_calling` hold every reply to the schema while it is written, which is
                all that calling a function would give; `json_mode` to JSON of any form.
            strict: Taken for other models' sake: the schema always holds.
            schema_in_prompt: Whether the schema is put behind the last message of the user. A small model has not
                learned to guess what belongs into the fields; their names and descriptions tell it.
            max_length: Longest text, in characters, of fields that state no bound of their own. A small model that
                repeats itself would otherwise not close its quotation before `max_tokens`, which is an error.
            **kwargs: None.

        Raises:
            ValueError: If `method` or another argument is unknown. Later, if the schema uses what the engine cannot
                follow.

        Example:
            ```python
            class Verdict(BaseModel):
                at_fault: Literal["narrator", "other", "both"]


            ChatLocal("smollm2-135m").with_structured_output(Verdict).invoke("...").at_fault
            ```
        """
        if kwargs:
            raise ValueError(f"with_structured_output takes no {', '.join(f'`{name}`' for name in sorted(kwargs))}")
        if method not in ("json_schema", "json_mode", "function_calling"):
            raise ValueError("`method` must be 'json_schema', 'json_mode' or 'function_calling'")
        if max_length is not None and max_length < 1:
            raise ValueError("`max_length` must be at least 1")
        form = convert_to_json_schema(schema)
        response_format: dict[str, Any] = {"type": "json_object"}
        if method != "json_mode":
            response_format = {
                "type": "json_schema",
                "json_schema": {"name": str(form.get("title", "reply")), "schema": closed(form, max_length)},
            }
        llm = self.bind(
            response_format=response_format,
            schema_in_prompt=schema_in_prompt and method != "json_mode",
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
        )
        parser: Runnable[Any, Any]
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            parser = WholeModel(pydantic_object=schema)
        else:
            parser = WholeJson()
        if not include_raw:
            return llm | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=llm) | parsed.with_fallbacks([failed], exception_key="parsing_error")


_SAMPLING = ("temperature", "top_p", "top_k", "seed", "max_tokens", "logprobs", "top_logprobs")
