"""How many tokens a call took: the one place that reads it, from whichever provider."""

from __future__ import annotations

import operator
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler

from langchain_dsplus.answer import is_empty_reply
from langchain_dsplus.tags import BACKGROUND_TAG, ROUTE_KEY

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

OWN_PROVIDER = "langchain_dsplus"
"""As whose the decision models of this package are traced: they call nothing, or what they call is counted itself."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call or of several.

    Args:
        input: Prompt tokens, all of them.
        output: Completion tokens, reasoning included.
        cached: Prompt tokens that the provider took from its own cache.
        written: Prompt tokens that the provider wrote into its cache, for the usual time.
        written_1h: Those that it wrote for an hour.
        reasoning: Completion tokens that were spent on reasoning.

    Example:
        >>> Usage.read({"input_tokens": 9, "output_tokens": 1, "input_token_details": {"cache_read": 4}})
        Usage(input=9, output=1, cached=4, written=0, written_1h=0, reasoning=0)
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    written_1h: int = 0
    reasoning: int = 0

    @classmethod
    def read(cls, usage: Any) -> Self:
        """Read what `read_usage` reads.

        Raises:
            ValueError: If a count is missing, negative or no whole number.
        """
        return cls(*_read(_plain(usage)))

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.written + other.written,
            self.written_1h + other.written_1h,
            self.reasoning + other.reasoning,
        )

    def to_metadata(self) -> dict[str, Any]:
        """The same as LangChain's `usage_metadata`, without counts of 0 in the details.

        Example:
            >>> Usage(9, 1, cached=4).to_metadata()["input_token_details"]
            {'cache_read': 4}
        """
        result: dict[str, Any] = {
            "input_tokens": self.input,
            "output_tokens": self.output,
            "total_tokens": self.input + self.output,
        }
        details = {
            "cache_read": self.cached,
            "cache_creation": self.written,
            "ephemeral_1h_input_tokens": self.written_1h,
        }
        details = {name: count for name, count in details.items() if count}
        if details:
            result["input_token_details"] = details
        if self.reasoning:
            result["output_token_details"] = {"reasoning": self.reasoning}
        return result


def reported_by(message: Any) -> tuple[str | None, str | None]:
    """Return what a large model calls itself in a reply, and its fingerprint; None where it does not say.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> reported_by(AIMessage("hi", response_metadata={"model_name": "big-1"}))
        ('big-1', None)
    """
    metadata = getattr(message, "response_metadata", None)
    if hasattr(message, "answers"):  # a decision model's response
        metadata = {"model": getattr(message, "model", None)}
    if not isinstance(metadata, Mapping):
        return None, None
    name = metadata.get("model_name") or metadata.get("model")
    fingerprint = metadata.get("system_fingerprint")
    return (
        name if isinstance(name, str) and name else None,
        fingerprint if isinstance(fingerprint, str) and fingerprint else None,
    )


def read_usage(value: Any) -> Usage | None:
    """Read the tokens of a call, in the form of LangChain, OpenAI, Anthropic, Google, Bedrock, Ollama or LangSmith.

    Args:
        value: A message (its `usage_metadata`), a mapping, an object with such attributes, a `Usage`, or None. A
            mapping may be the counts themselves, or hold them under `usage`, `token_usage` or `usage_metadata`.

    Returns:
        None where the counts of prompt and completion are not there, or make no sense: unknown is not zero.

    Example:
        >>> read_usage({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}})
        Usage(input=9, output=1, cached=4, written=0, written_1h=0, reasoning=0)
        >>> read_usage({"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 1}).input  # Anthropic's own
        9
        >>> read_usage({"input_tokens": 5}) is None
        True
    """
    try:
        return Usage.read(value)
    except ValueError:
        return None


def add_up(usages: Iterable[Any]) -> Usage | None:
    """Sum what `read_usage` reads; an answer out of LangChain's cache is 0; None where none could be read."""
    total: Usage | None = None
    for value in usages:
        found = paid_usage(value)
        if found is not None:
            total = found if total is None else total + found
    return total


def paid_usage(value: Any) -> Usage | None:
    """What `read_usage` reads, as far as it was paid for: an answer out of LangChain's cache is 0."""
    return Usage() if is_cache_hit(_counts(value)) else read_usage(value)


def is_cache_hit(usage: object) -> bool:
    """Whether a message came out of LangChain's own cache: it marks such a `usage_metadata` with a cost of 0.

    Example:
        >>> is_cache_hit({"input_tokens": 9, "output_tokens": 1, "total_cost": 0})
        True
    """
    return isinstance(usage, Mapping) and usage.get("total_cost") == 0


# --- forms ------------------------------------------------------------------------------------------------------------

_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count", "input_token_count", "prompt_eval_count")
_OUTPUT = (
    *("output_tokens", "completion_tokens", "candidates_token_count", "output_token_count", "eval_count"),
    "generated_tokens",
)
_INPUT_DETAILS = ("input_token_details", "input_tokens_details", "prompt_token_details", "prompt_tokens_details")
_OUTPUT_DETAILS = (
    *("output_token_details", "output_tokens_details", "completion_token_details", "completion_tokens_details"),
)
_BESIDE = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_write_input_tokens")
"""Anthropic and Bedrock count cached tokens beside `input_tokens`, not as a part of them."""
_DETAILS = (
    *("cache_read", "cached_tokens", "cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    *("reasoning", "reasoning_tokens"),
)
_OTHERS = (
    *("tool_use_prompt_token_count", "cached_content_token_count", "prompt_cache_hit_tokens", "cache_creation"),
    *("thoughts_token_count", "total_tokens"),
)
_NAMES = (*_INPUT, *_OUTPUT, *_INPUT_DETAILS, *_OUTPUT_DETAILS, *_BESIDE, *_OTHERS)
_HOLDERS = ("usage_metadata", "token_usage", "usage")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _counts(value: Any) -> Any:
    """The mapping that has the counts: of a message, of an object, or inside another mapping."""
    if value is None or isinstance(value, (Usage, str, bytes)):
        return value
    if isinstance(value, Mapping):
        inner = next((value[name] for name in _HOLDERS if value.get(name) is not None), None)
        return value if inner is None else _counts(inner)
    for name in _HOLDERS:
        inner = getattr(value, name, None)
        if inner is not None:
            return _counts(inner)
    return None if hasattr(value, "usage_metadata") else _attributes(value, _NAMES)


def _attributes(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """An object of a provider's own library as a mapping."""
    found = {name: getattr(value, name, None) for name in names}
    return {name: part for name, part in found.items() if part is not None}


def _plain(value: Any) -> Any:
    """The counts under names in small letters with underscores."""
    value = _counts(value)
    if not isinstance(value, Mapping):
        return value
    return {_HUMP.sub("_", str(name)).lower(): count for name, count in value.items()}


def _read(usage: Any) -> tuple[int, int, int, int, int, int]:
    if isinstance(usage, Usage):
        return usage.input, usage.output, usage.cached, usage.written, usage.written_1h, usage.reasoning
    counts: Mapping[str, Any] = usage if isinstance(usage, Mapping) else {}
    tokens_in, tokens_out = _first(counts, _INPUT), _first(counts, _OUTPUT)
    if tokens_in is None or tokens_out is None:
        raise ValueError("`usage` needs `input_tokens` and `output_tokens`")
    reasons = _details(counts, _OUTPUT_DETAILS)
    reasoning = sum(count for name, count in reasons.items() if name.endswith(("reasoning", "reasoning_tokens")))
    # xAI counts reasoning beside the completion, others within it: the sum tells.
    if reasoning > tokens_out or counts.get("total_tokens") == tokens_in + tokens_out + reasoning:
        tokens_out += reasoning
    details = _details(counts, _INPUT_DETAILS)
    beside = {name: _count(counts[name]) for name in _BESIDE if counts.get(name) is not None}
    if "input_tokens" in counts:
        tokens_in += sum(beside.values())
    tokens_in += _first(counts, ("tool_use_prompt_token_count",)) or 0
    # Some services put the name of their tier in front: `flex_cache_read`.
    cached = sum(count for name, count in details.items() if name.endswith("cache_read"))
    cached = cached or details.get("cached_tokens", 0) or beside.get("cache_read_input_tokens", 0)
    cached = cached or _first(counts, ("cached_content_token_count", "prompt_cache_hit_tokens")) or 0
    spans = _details(counts, ("cache_creation",)) or details
    hour = spans.get("ephemeral_1h_input_tokens", 0)
    written = details.get("cache_creation", 0) + spans.get("ephemeral_5m_input_tokens", 0)
    if not written:  # Anthropic's sum is over both spans
        written = max(sum(count for name, count in beside.items() if name != "cache_read_input_tokens") - hour, 0)
    thoughts = _first(counts, ("thoughts_token_count",)) or 0  # Google counts them beside the candidates
    cached = min(cached, tokens_in)
    hour = min(hour, tokens_in - cached)
    written = min(written, tokens_in - cached - hour)
    tokens_out += thoughts
    return tokens_in, tokens_out, cached, written, hour, min(reasoning + thoughts, tokens_out)


def _first(counts: Mapping[str, Any], names: Iterable[str]) -> int | None:
    found = next((counts[name] for name in names if counts.get(name) is not None), None)
    return None if found is None else _count(found)


def _details(counts: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    found = next((counts[name] for name in names if counts.get(name)), None)
    if found is not None and not isinstance(found, Mapping):
        found = _attributes(found, _DETAILS)
    return {str(name): _count(count) for name, count in (found or {}).items() if count is not None}


def _count(value: Any) -> int:
    """A number of tokens. Raises ValueError if it is negative or no whole number."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        raise ValueError("`usage` holds something else than whole numbers of tokens") from None
    if number < 0:
        raise ValueError("`usage` holds a negative number of tokens")
    return number


# --- calls ------------------------------------------------------------------------------------------------------------


def is_free(error: BaseException) -> bool:
    """Whether a failed call surely cost nothing: the server refused it, or was never reached.

    A connection that broke is another matter: the server may have been at work by then.
    """
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status >= 400
    seen: BaseException | None = error
    for _ in range(_DEEPEST):  # a client's own error names what broke as its cause
        if seen is None:
            break
        if type(seen) is ConnectionError or not _UNREACHED.isdisjoint(kind.__name__ for kind in type(seen).__mro__):
            return True
        seen = seen.__cause__
    return False


_DEEPEST = 20
_UNREACHED = frozenset({"ConnectError", "ConnectTimeout", "ConnectionRefusedError", "NewConnectionError", "gaierror"})
"""Errors of httpx, urllib3 and Python before a connection stands."""


def read_result(result: Any) -> tuple[Any, Any]:
    """The first message of an `LLMResult`, and what `read_usage` can read of it.

    Several choices of one call carry its usage each: only the first counts.
    """
    generations = getattr(result, "generations", None) or []
    first = generations[0][0] if generations and generations[0] else None
    message = getattr(first, "message", None)
    if message is not None:
        return message, getattr(message, "usage_metadata", None)
    return None, (getattr(result, "llm_output", None) or {}).get("token_usage")


def counts_itself(message: Any) -> bool:
    """Whether a chat model that is a router in disguise answered: it called nothing, or what it called is counted."""
    return ROUTE_KEY in (getattr(message, "response_metadata", None) or {})


_NO_REPLY = ("choices", "No generation")
"""In the errors of LangChain and its OpenAI package about a reply without one."""


def _text_of(result: Any) -> str:
    """The text of a completion that is no chat message."""
    generations = getattr(result, "generations", None) or []
    return str(getattr(generations[0][0], "text", "")).strip() if generations and generations[0] else ""


def is_decision_call(told: Mapping[str, Any]) -> bool:
    """Whether a run that begins is a decision model's: LangChain tells of a chain of type `llm`. Ours call nothing."""
    return told.get("run_type") == "llm" and (told.get("metadata") or {}).get("ls_provider") != OWN_PROVIDER


def requested_model(
    serialized: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None, kwargs: Mapping[str, Any]
) -> str:
    """The name of a model as it was asked for, from what a handler hears when a call begins."""
    asked = kwargs.get("invocation_params") or {}
    name = (metadata or {}).get("ls_model_name") or asked.get("model_name") or asked.get("model")
    if not isinstance(name, str) or not name:
        name = kwargs.get("name") or ((serialized or {}).get("id") or [None])[-1]
    return name if isinstance(name, str) and name else "unknown"


class CallListener(BaseCallbackHandler):
    """Hears of each call of a model as it begins and ends, whatever kind of model it is.

    LangChain tells of chat models, of text models, and of decision models, whose runs are a chain's, by events of their
    own. A subclass says what follows, by the four methods that come first.
    """

    run_inline = True

    def __init__(self) -> None:
        self._decisions: set[UUID] = set()

    def on_begin(self, run_id: UUID, model: str | None, told: Mapping[str, Any]) -> None:
        """A run begins.

        Args:
            run_id: Its id.
            model: What the model was asked for as, where the run is a call; else None.
            told: What LangChain tells of it: `inputs`, `parent_run_id`, `tags`, `metadata`, `name`.
        """

    def on_answer(self, run_id: UUID, message: Any, counts: Any, result: Any) -> None:
        """A call has ended.

        Args:
            run_id: Of its run.
            message: The reply, where it is a chat model's or a decision model's.
            counts: What `read_usage` can read of it.
            result: The `LLMResult`; None for a decision model.
        """

    def on_failure(self, run_id: UUID, error: BaseException, result: Any) -> None:
        """A call has failed; `result` is what came before that, where anything did."""

    def on_end(self, run_id: UUID, told: Mapping[str, Any], *, failed: bool) -> None:
        """A run that is no call has ended."""

    # --- LangChain's events ---------------------------------------------------------------------------------------

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A call begins."""
        kwargs["inputs"] = messages
        self.on_begin(run_id, requested_model(serialized, kwargs.get("metadata"), kwargs), kwargs)

    on_llm_start = on_chat_model_start  # type: ignore[assignment]

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A run begins; a decision model's is a call."""
        if is_decision_call(kwargs):
            self._decisions.add(run_id)
            self.on_chat_model_start(serialized, inputs, run_id=run_id, **kwargs)
        else:
            kwargs["inputs"] = inputs
            self.on_begin(run_id, None, kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """A call has ended."""
        message, counts = read_result(response)
        self.on_answer(run_id, message, counts, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call has failed."""
        self.on_failure(run_id, error, kwargs.get("response"))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A run has ended."""
        if run_id in self._decisions:
            self._decisions.discard(run_id)
            self.on_answer(run_id, outputs, getattr(outputs, "usage", None), None)
        else:
            self.on_end(run_id, kwargs, failed=False)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A run has failed."""
        if run_id in self._decisions:
            self._decisions.discard(run_id)
            self.on_failure(run_id, error, None)
        else:
            self.on_end(run_id, kwargs, failed=True)


class UsageMeter(CallListener):
    """Adds up the tokens of one input's calls, however deep in a chain.

    Args:
        background: Whether background work (audits, shadow answers) is what counts; else it is left out.

    Attributes:
        calls: Calls of models that ended.
        model: What the model that was asked last is called.
        empty: Whether it said nothing: no choice, or an empty message.
    """

    def __init__(self, *, background: bool = False) -> None:
        super().__init__()
        self.background = background
        self.calls = 0
        self.model: str | None = None
        self.empty = False
        self._told: list[Any] = []  # counts as they came: most inputs have nobody who asks for them
        self._usage: Usage | None = None
        self._silent = 0
        self._above: dict[UUID, UUID | None] = {}
        self._open: set[UUID] = set()
        self._lock = threading.Lock()

    @property
    def usage(self) -> Usage | None:
        """Tokens that were paid for; None where no call said anything about them."""
        return self._read()[0]

    @property
    def silent(self) -> int:
        """Calls that may have cost something and reported no tokens: they failed, or the model does not say."""
        return self._read()[1]

    @property
    def unreported(self) -> int:
        """`silent`, and the calls that have no end: LangChain does not tell of one that is cancelled."""
        return self._read()[2]

    def _read(self) -> tuple[Usage | None, int, int]:
        with self._lock:
            found = [paid_usage(counts) for counts in self._told]
            self._told.clear()
            for usage in found:
                if usage is None:
                    self._silent += 1
                else:
                    self._usage = usage if self._usage is None else self._usage + usage
            return self._usage, self._silent, self._silent + len(self._open)

    def on_begin(self, run_id: UUID, model: str | None, told: Mapping[str, Any]) -> None:
        """Note where the calls below it belong; a model around a call only passes it on."""
        with self._lock:
            self._above[run_id] = above = told.get("parent_run_id")
            if model is None:
                return
            self.model, self.empty = model, False
            while above is not None:
                self._open.discard(above)
                above = self._above.get(above)
            if self.background or BACKGROUND_TAG not in (told.get("tags") or ()):
                self._open.add(run_id)

    def on_answer(self, run_id: UUID, message: Any, counts: Any, result: Any) -> None:
        """Add the tokens of a call."""
        with self._lock:
            if run_id not in self._open:
                return
            self._open.discard(run_id)
            if not counts_itself(message):
                self.calls += 1
                self._told.append(counts)
                if result is not None:
                    self.empty = is_empty_reply(message) if message is not None else not _text_of(result)

    def on_failure(self, run_id: UUID, error: BaseException, result: Any) -> None:
        """Note a call that failed, and what it may have cost all the same."""
        message, counts = read_result(result)
        found = paid_usage(counts)
        with self._lock:
            if run_id not in self._open:
                return
            self._open.discard(run_id)
            self.empty = any(text in str(error) for text in _NO_REPLY)
            if found is not None:
                self._told.append(found)
            if found is not None or getattr(message, "content", None) or not is_free(error):
                self._silent += 1  # what came before it failed is not all
