"""What `ChatLocal` shares between its two engines: requests, stop strings, workers, and how a reply reaches its reader.

An engine pushes tokens from a worker thread of its own; a `Job` turns them into an iterator, sync or async, that can
time out and be left. So a reader that is slow, or that asks the same model again while it reads, blocks nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from langchain_core.exceptions import ContextOverflowError, ModelTimeoutError

LogprobEntry = dict[str, Any]
"""One position as in OpenAI's `logprobs.content`: token, bytes, logprob, top_logprobs."""


class PromptTooLongError(ContextOverflowError, ValueError):
    """The prompt alone fills the model's context. The message names the numbers and the fix."""

    def __init__(self, tokens: int, n_ctx: int) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens, the context `n_ctx` {n_ctx}: shorten the input, or raise `n_ctx` if the "
            "model allows more"
        )


class LocalTimeoutError(ModelTimeoutError, TimeoutError):
    """No whole reply within `timeout` seconds, the wait for other calls included."""


class LocalModelError(RuntimeError):
    """The model could not be loaded, or refused a request."""


@dataclass(frozen=True, slots=True)
class Request:
    """One reply to make.

    Attributes:
        messages: `role` and `content` of each, in the chat template's terms.
        max_tokens: None goes on to the end of the context.
        temperature: 0 takes the likeliest token.
        stop: Texts before which the reply ends.
        top_logprobs: Alternatives at each position; None reports no log-probabilities.
        schema: JSON schema that the reply must fit.
        template: Further variables of the chat template.
    """

    messages: list[dict[str, str]]
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    schema: Mapping[str, Any] | None = None
    template: Mapping[str, Any] = field(default_factory=dict)


class Tokens(NamedTuple):
    """Tokens in and out; `cached` of those in were known from an earlier prompt."""

    read: int
    written: int
    cached: int = 0


class End(NamedTuple):
    """How an engine ended: `stop` or `length`."""

    finish: str
    tokens: Tokens


class Piece(NamedTuple):
    """A part of a reply; the last one has `end`."""

    text: str = ""
    logprobs: Sequence[LogprobEntry] = ()
    end: End | None = None


Emit = Callable[[str, Sequence[LogprobEntry]], bool]
"""Takes the text of one more token and its log-probabilities; True asks the engine to end."""


class StopFilter:
    """Lets tokens through until a stop string shows, across token boundaries, and none of a stop string ever.

    A token waits while the end of the text may still become a stop string. What was sampled after the stop is dropped,
    log-probabilities included.

    Example:
        >>> stops = StopFilter(["END"])
        >>> [stops.feed(token)[0] for token in ("a", " E", "N", "Dx")], stops.hit
        (['a', '', '', ' '], True)
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = tuple(stop)
        self.hit = False
        self._waiting: list[tuple[str, Sequence[LogprobEntry]]] = []

    def feed(self, text: str, logprobs: Sequence[LogprobEntry] = ()) -> tuple[str, list[LogprobEntry]]:
        """Take one token; return what may be shown now."""
        if self.hit:
            return "", []
        self._waiting.append((text, logprobs))
        waiting = "".join(part for part, _ in self._waiting)
        cuts = [at for at in (waiting.find(stop) for stop in self.stop) if at >= 0]
        if cuts:
            self.hit = True
            return self._release(min(cuts), split=True)
        return self._release(len(waiting) - self._held(waiting), split=False)

    def flush(self) -> tuple[str, list[LogprobEntry]]:
        """Return what waited, once nothing more comes."""
        return self._release(sum(len(part) for part, _ in self._waiting), split=False)

    def _held(self, waiting: str) -> int:
        """Length of the longest end of the text with which a stop string begins."""
        longest = 0
        for stop in self.stop:
            for length in range(min(len(stop) - 1, len(waiting)), longest, -1):
                if waiting.endswith(stop[:length]):
                    longest = length
                    break
        return longest

    def _release(self, until: int, *, split: bool) -> tuple[str, list[LogprobEntry]]:
        shown: list[str] = []
        entries: list[LogprobEntry] = []
        at = 0
        while self._waiting:
            part, logprobs = self._waiting[0]
            if at + len(part) > until:
                if split and at < until:
                    shown.append(part[: until - at])
                    entries.extend(logprobs)
                break
            if split and at == until:  # nothing of it is before the stop
                break
            shown.append(part)
            entries.extend(logprobs)
            at += len(part)
            self._waiting.pop(0)
        if split:
            self._waiting.clear()
        return "".join(shown), entries


class Engine(ABC):
    """A loaded model and the threads that run it: as many as it takes requests at a time.

    Attributes:
        pid: The process that loaded it; a fork has none of its threads.
    """

    def __init__(self, workers: int) -> None:
        self.pid = os.getpid()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="dsplus-local")

    def submit(self, work: Callable[[], None]) -> Any:
        """Run in a worker, in the order of arrival."""
        return self._pool.submit(work)

    @abstractmethod
    def run(self, request: Request, emit: Emit) -> End:
        """Make a reply, token by token. Called in a worker.

        Raises:
            PromptTooLongError: If the prompt leaves no room for a token.
            ValueError: If the request does not fit the model.
        """

    @abstractmethod
    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text."""


_engines: WeakValueDictionary[tuple[Any, ...], Engine] = WeakValueDictionary()
_loading: dict[tuple[Any, ...], threading.Lock] = {}
_registry = threading.Lock()


def shared_engine(key: tuple[Any, ...], load: Callable[[], Engine]) -> Engine:
    """Return the engine under a key, loading it at most once however many threads ask; it lives while it is held."""
    key = (*key, os.getpid())
    with _registry:
        lock = _loading.setdefault(key, threading.Lock())
    with lock:
        engine = _engines.get(key)
        if engine is None:
            _engines[key] = engine = load()
        return engine


class Job:
    """One request on its way through an engine. Read it once, with `pieces` or `apieces`.

    Leaving the iterator early, by `close`, an exception or a cancelled task, ends the generation at the next token.

    Args:
        engine: Returns the engine; called in a thread where the reader is async, since it may load a model.
        request: What to make.
        timeout: Seconds for all of it; None waits for ever.
    """

    def __init__(self, engine: Callable[[], Engine], request: Request, timeout: float | None) -> None:
        self._engine = engine
        self._request = request
        self._timeout = timeout
        self._left = threading.Event()

    def pieces(self) -> Iterator[Piece]:
        """Yield the reply's pieces. Raises LocalTimeoutError if the time is over."""
        inbox: queue.SimpleQueue[Piece | BaseException] = queue.SimpleQueue()
        deadline = self._deadline()
        engine = self._engine()
        work = engine.submit(self._work_for(engine, inbox.put))
        try:
            while True:
                try:
                    piece = inbox.get(timeout=_remaining(deadline))
                except queue.Empty:
                    raise self._timed_out() from None
                yield _checked(piece)
                if isinstance(piece, Piece) and piece.end is not None:
                    return
        finally:
            self._left.set()
            work.cancel()

    async def apieces(self) -> AsyncGenerator[Piece, None]:
        """Async twin of `pieces`; blocks no event loop, also while the model loads."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[Piece | BaseException] = asyncio.Queue()

        def put(piece: Piece | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
                loop.call_soon_threadsafe(inbox.put_nowait, piece)

        deadline = self._deadline()
        engine = await asyncio.to_thread(self._engine)
        work = engine.submit(self._work_for(engine, put))
        try:
            while True:
                try:
                    piece = await asyncio.wait_for(inbox.get(), _remaining(deadline))
                except TimeoutError:
                    raise self._timed_out() from None
                yield _checked(piece)
                if isinstance(piece, Piece) and piece.end is not None:
                    return
        finally:
            self._left.set()
            work.cancel()

    def _work_for(self, engine: Engine, put: Callable[[Piece | BaseException], None]) -> Callable[[], None]:
        """The worker's part, for both twins."""
        request = self._request

        def work() -> None:
            stops = StopFilter(request.stop)

            def emit(text: str, logprobs: Sequence[LogprobEntry]) -> bool:
                shown, entries = stops.feed(text, logprobs)
                if shown or entries:
                    put(Piece(shown, entries))
                return stops.hit or self._left.is_set()

            try:
                if self._left.is_set():
                    return
                end = engine.run(request, emit)
                shown, entries = stops.flush()
                finish = "stop" if stops.hit else end.finish
                put(Piece(shown, entries, End(finish, end.tokens)))
            except BaseException as error:  # noqa: BLE001
                put(error)

        return work

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _timed_out(self) -> LocalTimeoutError:
        return LocalTimeoutError(f"no whole reply within `timeout` of {self._timeout:g} s")


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _checked(piece: Piece | BaseException) -> Piece:
    if isinstance(piece, BaseException):
        raise piece
    return piece
