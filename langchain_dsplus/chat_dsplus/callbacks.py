"""Who hears what of the models inside a chat model: streams and watchers one run, tracers and counters all of them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.context import _configure_hooks

from langchain_dsplus.costs.usage import CallListener, Usage, add_up, paid_usage
from langchain_dsplus.tags import BACKGROUND_TAG

_TOKENS = ("on_llm_new_token", "on_stream_event")


def has_own(handler: Any, event: str) -> bool:
    """Whether a handler does something at an event."""
    own = getattr(type(handler), event, None)
    return own is not None and own not in (
        getattr(BaseCallbackHandler, event, None),
        getattr(AsyncCallbackHandler, event, None),
    )


class Muted:
    """A handler that hears everything of an inner run but its tokens: the outer run has sent it those already."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        # In async code a handler's plain method may cost a thread.
        event = _anothing if inspect.iscoroutinefunction(handler.on_llm_new_token) else _nothing
        self.on_llm_new_token = event
        self.on_stream_event = event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)


def _nothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs


async def _anothing(*args: Any, **kwargs: Any) -> None:
    del args, kwargs


def inner_handlers(handlers: Iterable[Any]) -> list[Any]:
    """Those of a run's handlers that hear the models inside it.

    Handlers of streams (LangGraph's messages, `astream_events`, whatever can be iterated over) are left out: a stream
    shows one answer, and the outer run is it; one that waits for `on_llm_end` would end with the first draft. So are
    handlers without an `on_llm_end`: they watch one call of one chat model, as they would with any other. Tracers stay,
    and whoever counts at `on_llm_end`; they do not hear the tokens a second time.
    """
    from langchain_core.tracers._streaming import _StreamingCallbackHandler, _V2StreamingCallbackHandler

    found: list[Any] = []
    for handler in handlers:
        if isinstance(handler, (_StreamingCallbackHandler, _V2StreamingCallbackHandler)) or _is_iterable(handler):
            continue
        # LangChain would add a handler of a `with` again, and a stand-in beside it would count twice.
        if isinstance(handler, (BaseTracer, Muted)) or _is_hooked(handler):
            found.append(handler)
        elif has_own(handler, "on_llm_end"):
            found.append(Muted(handler) if any(has_own(handler, event) for event in _TOKENS) else handler)
    return found


def _is_iterable(handler: Any) -> bool:
    """Whether a handler hands tokens on to a loop, as LangChain's `AsyncIteratorCallbackHandler` does by `aiter`."""
    return any(hasattr(type(handler), name) for name in ("aiter", "__aiter__"))


def _is_hooked(handler: Any) -> bool:
    return any(hook[0].get() is handler for hook in _configure_hooks)


class Meter(CallListener):
    """Adds up the tokens of the models inside one call, by who used them.

    Every call of a model counts, drafts that were thrown away and votes included. An answer out of LangChain's cache
    costs nothing; background work (shadow answers, audits) is not what this answer costs.

    Args:
        names: Of the small models, and `large`: they are tags of the child runs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self._lock = threading.Lock()
        self._runs: dict[UUID | None, tuple[str | None, frozenset[str]]] = {}
        self._usage: dict[str, Usage] = {}

    def usage(self) -> dict[str, UsageMetadata]:
        """Tokens so far by name, in the order of the names; whoever used none is missing."""
        with self._lock:
            found = {name: self._usage[name] for name in self.names if name in self._usage}
        return {name: cast("UsageMetadata", usage.to_metadata()) for name, usage in found.items()}

    def on_begin(self, run_id: UUID, model: str | None, told: Mapping[str, Any]) -> None:
        """Note whose run it is."""
        own = frozenset(told.get("tags") or ())
        nobody: tuple[str | None, frozenset[str]] = (None, frozenset())
        with self._lock:
            above, theirs = self._runs.get(told.get("parent_run_id"), nobody)
            new = own - theirs
            who = next((name for name in reversed(self.names) if name in new), above)
            self._runs[run_id] = (None if BACKGROUND_TAG in own else who, own)

    def on_answer(self, run_id: UUID, message: Any, counts: Any, result: Any) -> None:
        """Add the tokens of a call."""
        paid = paid_usage(counts)
        with self._lock:
            who, _ = self._runs.pop(run_id, (None, frozenset()))
            if who is not None and paid is not None:
                self._usage[who] = paid + self._usage.get(who, Usage())


def total(usage: Mapping[str, UsageMetadata]) -> UsageMetadata | None:
    """All tokens together; None where nobody reported any."""
    found = add_up(usage.values())
    return None if found is None else cast("UsageMetadata", found.to_metadata())
