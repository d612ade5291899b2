"""One call of a cascade: its place in the run tree, what it cost, and the form in which an answer is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun, Callbacks
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    patch_config,
)
from langchain_core.utils.uuid import uuid7

from langchain_dsplus.chat_dsplus.callbacks import Meter, has_own, inner_handlers, total
from langchain_dsplus.costs.usage import reported_by
from langchain_dsplus.routing.outputs import to_chunk
from langchain_dsplus.tags import LARGE_TAG, ROUTE_KEY

if TYPE_CHECKING:
    from langchain_dsplus.routing.router import ConfidenceRouter


Message = TypeVar("Message", bound=AIMessage)

_OWN_ID = ("run-", "lc_run-")
"""How the ids begin that LangChain gives messages whose provider gave none."""
_PIECES = re.compile(r"\S+\s*|\s+")


@dataclass
class Call:
    """What belongs to one call.

    Attributes:
        config: For the router inside: children of the model's run, for the handlers that shall hear them.
        run_id: Of the model's run.
        meter: Counts tokens.
        names: What the models are called by their providers, by their names here.
        listeners: Handlers that hear of a decision, but not of the models inside.
        tells: Whether the run itself carries the usage.
        route: What was decided.
    """

    config: RunnableConfig
    run_id: UUID
    meter: Meter
    names: Mapping[str, str]
    listeners: list[Any]
    tells: bool = False
    route: dict[str, Any] = field(default_factory=dict)

    def record(self, reported: str | None) -> dict[str, Any]:
        """What is known only at the end: tokens by model, and the name of who answered."""
        name = reported or self.names.get(str(self.route.get("model")), "")
        return {"usage": self.meter.usage(), "model_name": name}

    def finish(self, message: AIMessage) -> AIMessage:
        """The message as this model's run shows it: with the route, and without what is counted elsewhere."""
        self.route = dict(message.response_metadata.get(ROUTE_KEY) or {})
        record = self.record(reported_by(message)[0])
        metadata = {key: value for key, value in message.response_metadata.items() if key not in _COUNTED}
        metadata[ROUTE_KEY] = {**public(self.route), **record}
        return _bare(message).model_copy(update={"response_metadata": metadata})


_COUNTED = ("model_name", "token_usage")
"""Metadata by which handlers count tokens: in this model's run they would count them a second time."""


def _bare(message: Message) -> Message:
    """A copy without usage, and without the id of an inner run: the outer run gives its own."""
    own = isinstance(message.id, str) and message.id.startswith(_OWN_ID)
    return message.model_copy(update={"usage_metadata": None, "id": None if own else message.id})


def public(route: Mapping[str, Any]) -> dict[str, Any]:
    """A route without the texts of drafts, in plain dicts."""
    answers = [{**answer, "choice": ""} for answer in route.get("answers", ())]
    return {**route, "answers": answers}


def told(message: Any) -> Any:
    """A copy with usage and model name, for the caller; what carries no record of a call passes."""
    metadata = getattr(message, "response_metadata", None) or {}
    record = metadata.get(ROUTE_KEY) or {}
    if "usage" not in record or not isinstance(message, AIMessage):
        return message
    metadata = {**metadata, "model_name": record["model_name"]}
    return message.model_copy(update={"usage_metadata": total(record["usage"]), "response_metadata": metadata})


class Cascade(Protocol):
    """Who is called: a `ChatDSPlus`."""

    callbacks: Callbacks

    @property
    def router(self) -> ConfidenceRouter:
        """The router inside."""

    @property
    def model_names(self) -> dict[str, str]:
        """What the models are called by their providers, by their names here."""

    def get_name(self) -> str:
        """Its own name."""


def open_call(
    model: Cascade, config: RunnableConfig | None, *, asynchronous: bool, run_manager: Any = None
) -> tuple[RunnableConfig, Call]:
    """Give a call its place in the run tree, before its run begins.

    LangChain tells `_stream` neither config nor run. So the run's id is chosen here, and the handlers are found here;
    the config that is returned makes the run use both.
    """
    config = ensure_config(config)
    manager: Any
    if run_manager is not None:
        manager, run_id = run_manager, run_manager.run_id
    else:
        find = get_async_callback_manager_for_config if asynchronous else get_callback_manager_for_config
        manager, run_id = find(config), config.get("run_id") or uuid7()
    kind: Any = AsyncCallbackManagerForChainRun if asynchronous else CallbackManagerForChainRun
    meter = Meter([*model.router.small_names, LARGE_TAG])
    own = model.callbacks if isinstance(model.callbacks, list) else getattr(model.callbacks, "handlers", None) or []
    # A counter given at construction hears the models inside too: this model's own run carries no tokens.
    inheritable = inner_handlers(dict.fromkeys([*manager.inheritable_handlers, *own]))
    run = kind(
        run_id=run_id,
        handlers=[*inheritable, meter],
        inheritable_handlers=[*inheritable, meter],
        parent_run_id=manager.parent_run_id,
        tags=[],
        inheritable_tags=list(manager.inheritable_tags),
        metadata={},
        inheritable_metadata=dict(manager.inheritable_metadata),
    )
    heard = {id(getattr(handler, "_handler", handler)) for handler in inheritable}
    listeners = [
        handler
        for handler in dict.fromkeys([*manager.handlers, *own])
        if id(handler) not in heard
        and has_own(handler, "on_custom_event")
        and not getattr(handler, "ignore_custom_event", False)
    ]
    inner = patch_config(config, callbacks=run.get_child(), run_name=f"{model.get_name()} cascade")
    inner["tags"], inner["metadata"] = [], {}  # the manager has them
    outer = cast("RunnableConfig", {**config, "callbacks": manager, "run_id": run_id})
    return outer, Call(inner, run_id, meter, model.model_names, listeners)


class Stream:
    """Turns what a router streams into this model's chunks; shared by sync and async code."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.announced = False
        self._reported: str | None = None
        self._held: AIMessageChunk | None = None
        self._first = True

    def take(self, part: Any) -> list[ChatGenerationChunk]:
        """The chunks of one part: a draft's pieces, or the large model's own."""
        whole = not isinstance(part, AIMessageChunk)
        if self._first:
            self.call.route = dict(part.response_metadata.get(ROUTE_KEY) or {})
            whole = whole or bool(self.call.route.get("accepted") or self.call.route.get("degraded"))
        self._reported = reported_by(part)[0] or self._reported
        chunk = _bare(cast("AIMessageChunk", to_chunk(part)))
        metadata = {k: v for k, v in chunk.response_metadata.items() if k not in (*_COUNTED, ROUTE_KEY)}
        chunk = chunk.model_copy(update={"response_metadata": metadata})
        pieces = list(_pieces(chunk)) if whole else [chunk]
        if self._first:
            self._first = False
            first = pieces[0]
            metadata = {**first.response_metadata, ROUTE_KEY: public(self.call.route)}
            pieces[0] = first.model_copy(update={"response_metadata": metadata})
        if pieces[-1].chunk_position == "last":
            # Only when all is done are the tokens known.
            self._held = pieces.pop() if self._held is None else self._held + pieces.pop()
        return [ChatGenerationChunk(message=piece) for piece in pieces]

    def end(self) -> Iterator[ChatGenerationChunk]:
        """The last chunk, with what is known only now."""
        if self._first:  # nothing came: LangChain says so
            return
        last = self._held or AIMessageChunk(content="", chunk_position="last")
        metadata = last.response_metadata
        record = {**(metadata.get(ROUTE_KEY) or {}), **self.call.record(self._reported)}
        update: dict[str, Any] = {"response_metadata": {**metadata, ROUTE_KEY: record}}
        if self.call.tells:
            update["usage_metadata"] = total(record["usage"])
        yield ChatGenerationChunk(message=last.model_copy(update=update))


def _pieces(whole: AIMessageChunk) -> Iterator[AIMessageChunk]:
    """A whole answer word by word; tool calls and all else come with the last chunk."""
    if isinstance(whole.content, str) and whole.content:
        for match in _PIECES.finditer(whole.content):
            yield AIMessageChunk(content=match.group(), id=whole.id)
        yield whole.model_copy(update={"content": "", "chunk_position": "last"})
    else:
        yield whole.model_copy(update={"chunk_position": "last"})
