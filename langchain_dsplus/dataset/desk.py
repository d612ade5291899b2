"""The large model's desk: one rate, one budget and one memory of what was paid for, whoever asks from wherever."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

from langchain_dsplus._inputs import hash_of
from langchain_dsplus.answer import EscalationContext, failure, must_pass
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.routing.state import output_type_of
from langchain_dsplus.tags import BACKGROUND_TAG, ROUTE_ID_KEY
from langchain_dsplus.traces.recorder import plain
from langchain_dsplus.traces.replies import ReplyStore

_SIDE = "large"
_LONGEST = 30.0  # seconds between two attempts at most


class SpentError(RuntimeError):
    """The budget does not pay for another call. What was answered is kept: a run with more money goes on from there."""


class Desk:
    """Says whether the large model may be asked, remembers what it replied, and counts what that took.

    It asks nobody itself, so that it can be an actor on Ray that many workers talk to.

    Args:
        path: The journal of replies; each is on the disk before the next step.
        identity: What the large chain is; a journal of another one is refused.
        per_second: Calls that may begin in a second, all workers together.
        max_cost: What may be spent in all, earlier runs into this folder included.
        prices: As in `CostLedger`.

    Raises:
        ValueError: If a limit makes no sense, or the journal is another chain's.
    """

    def __init__(
        self,
        path: str | Path,
        identity: str | None,
        *,
        per_second: float | None = None,
        max_cost: float | None = None,
        prices: Mapping[str, Price] | Price | None = None,
    ) -> None:
        if per_second is not None and not per_second > 0:
            raise ValueError("`per_second` must be a positive number of calls, or None")
        if max_cost is not None and not max_cost >= 0:
            raise ValueError("`max_cost` must be a number, at least 0, or None")
        self._every = 0.0 if per_second is None else 1.0 / per_second
        self._max_cost = max_cost
        self._lock = threading.Lock()
        self._next = 0.0
        self._out: set[str] = set()  # a worker that was killed asks again under the same key
        self._dearest: float | None = None
        self.ledger = CostLedger(prices)
        self._store = ReplyStore(path, {_SIDE: identity}, {}, writer="route_dataset")
        for entry in self._store.entries():
            self.ledger.add_counts(entry["counts"])
        self._store.__enter__()

    def begin(self, key: str) -> dict[str, Any]:
        """Ask for leave to ask.

        Returns:
            `reply` and `notes`, where the answer is here already; else `wait`, the seconds until the call may begin,
            `again` where leave must be asked for anew then, or `spent`, why there is none. With it `counts`, what
            attempts before took.
        """
        with self._lock:
            entry = self._store.get(key, _SIDE)
            if self._store.has(key, _SIDE):
                return entry
            leave: dict[str, Any] = {"counts": entry.get("counts", [])}
            why = self._refusal(key)
            if why == "later":
                return leave | {"again": True, "wait": 0.02}
            if why is not None:
                return leave | {"spent": why}
            self._out.add(key)
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._every
            return leave | {"wait": start - now}

    def _refusal(self, key: str) -> str | None:
        """Why the money does not last; `later` while calls under way may still leave enough."""
        if self._max_cost is None:
            return None
        total = self.ledger.total()
        if total["unmetered"] or total["unpriced"]:
            return "a call reported no usage or has no price, and `max_cost` cannot be kept without: pass `prices=`"
        under_way = len(self._out - {key})
        reserve = 0.0 if self._dearest is None else self._dearest * (1 - 1e-9)
        if total["cost"] + (under_way + 1) * reserve <= self._max_cost and (self._dearest is not None or not under_way):
            return None if total["cost"] < self._max_cost else "`max_cost` is spent"
        return "later" if under_way else "`max_cost` does not pay for another call"

    def end(self, entry: dict[str, Any], fresh: Sequence[Mapping[str, Any]], *, over: bool) -> None:
        """Keep what came of a call."""
        with self._lock:
            before = self.ledger.total()["cost"]
            self.ledger.add_counts(fresh)
            took = self.ledger.total()["cost"] - before
            self._dearest = max(took, self._dearest or 0.0)
            self._store.put(entry)
            if over:
                self._out.discard(entry["id"])


class AskOnce(Runnable[Any, Any]):
    """A large chain that asks only with the desk's leave, tries again, and never asks what was answered.

    Args:
        chain: The large chain.
        desk: A `Desk`, or whatever passes its two methods on to one.
        attempts: How often one input is tried.

    Attributes:
        hidden: A ledger that must not hear the calls, since they are counted here.
        counts: What the decisions took so far, of earlier runs too.
    """

    def __init__(self, chain: Runnable[Any, Any], desk: Any, *, attempts: int = 3) -> None:
        self.chain = chain
        self.desk = desk
        self.attempts = attempts
        self.hidden: CostLedger | None = None
        self.counts: list[dict[str, Any]] = []
        self.name = chain.get_name()

    def identity_of(self) -> Any:
        """It is what it asks."""
        return self.chain

    @property
    def InputType(self) -> Any:
        """The chain's."""
        return self.chain.InputType

    @property
    def OutputType(self) -> Any:
        """The chain's."""
        return output_type_of(self.chain)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Answer one input, from the desk's memory or the chain.

        Raises:
            SpentError: If the budget does not pay for it.
            TypeError: If the reply is neither plain JSON nor a message, and so could not be kept.
        """
        config = ensure_config(config)
        key, context = _key(config), _context(input)
        asked = hash_of(input)
        for attempt in range(1, self.attempts + 1):
            leave = self._leave(key)
            if "label" in leave:
                self.counts += leave["counts"]
                if context is not None:
                    context.notes.update(leave["notes"])
                return unpack(leave["label"])
            entry: dict[str, Any] = {"id": key, "side": _SIDE, "hash": asked, "asked": asked}
            output, fresh = self._ask(input, config, kwargs)
            entry["counts"] = [*leave["counts"], *fresh]
            error = output if isinstance(output, BaseException) else None
            if error is None:
                try:
                    entry["label"], entry["notes"] = pack(output), _notes(context, output)
                except TypeError as broken:
                    error = broken
            last = error is None or must_pass(error) or isinstance(error, TypeError) or attempt == self.attempts
            if error is not None:
                entry["error"] = type(error).__name__
            self.desk.end(entry, fresh, over=last)
            if last:
                self.counts += entry["counts"]
                if error is not None:
                    raise error
                return output
            time.sleep(min(_LONGEST, 0.25 * 2**attempt))
        raise AssertionError  # pragma: no cover - the last attempt returns or raises

    def _leave(self, key: str) -> dict[str, Any]:
        while True:
            leave: dict[str, Any] = self.desk.begin(key)
            if "spent" in leave:
                raise SpentError(leave["spent"])
            time.sleep(leave.get("wait", 0.0))
            if not leave.get("again"):
                return leave

    def _ask(self, value: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
        """One attempt: the reply or the error, and what it took, heard by a ledger of its own."""
        ledger = counter()
        callbacks = get_callback_manager_for_config(config)
        if self.hidden is not None and self.hidden in callbacks.handlers:
            callbacks.remove_handler(self.hidden)
        callbacks.add_handler(ledger, inherit=True)
        try:
            output = self.chain.invoke(value, {**config, "callbacks": callbacks}, **kwargs)
        except BaseException as error:  # noqa: BLE001 - it may have been paid for
            output = failure(error) if isinstance(error, Exception) else error
        return output, ledger.counts()


def counter() -> CostLedger:
    """A ledger whose counts alone are wanted: it says nothing of unknown prices."""
    return CostLedger(Price(0.0, 0.0))


def _key(config: RunnableConfig) -> str:
    """The decision that a call belongs to; an audit of it is a call of its own."""
    if BACKGROUND_TAG in (config.get("tags") or ()):
        return f"{(config.get('metadata') or {}).get(ROUTE_ID_KEY)} audit"
    return str(getattr(config.get("callbacks"), "parent_run_id", None))


def _context(value: Any) -> EscalationContext | None:
    parts = value.values() if isinstance(value, Mapping) else ()
    return next((part for part in parts if isinstance(part, EscalationContext)), None)


def _notes(context: EscalationContext | None, output: Any) -> dict[str, Any]:
    """What the chain noted for the Route, so that a reply out of memory is noted alike."""
    if context is None:
        return {}
    notes = dict(context.notes)
    for name, function in context.later.items():
        try:
            notes[name] = function(output)
        except Exception as error:  # noqa: BLE001 - the router says so
            failure(error)
    found: dict[str, Any] = plain({name: value for name, value in notes.items() if value is not None})
    return found


def pack(value: Any) -> str:
    """A reply as a text that `unpack` turns into the same value. Raises TypeError if it cannot be."""
    if isinstance(value, BaseMessage):
        return json.dumps({"message": message_to_dict(value)}, ensure_ascii=False)
    try:
        text = json.dumps({"value": value}, ensure_ascii=False, allow_nan=False)
        same = bool(unpack(text) == value)
    except (TypeError, ValueError):
        same = False
    if not same:
        raise TypeError(
            f"the large chain's reply is {type(value).__name__}, which a file cannot keep: end the chain in a parser "
            "that gives plain JSON or a message"
        )
    return text


def unpack(text: str) -> Any:
    """What `pack` has packed."""
    body = json.loads(text)
    return messages_from_dict([body["message"]])[0] if "message" in body else body["value"]
