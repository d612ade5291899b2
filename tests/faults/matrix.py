"""Every fault of a provider, on every way of asking: what a cell does, and what is right in it.

A cell is (fault, way, policy, end). Its provider is a real HTTP server on loopback that counts; its client a real
`ChatOpenAI`, or behind `dsplus serve` plain HTTP. Right is: the answer that the provider gave as a whole, the small
model's where the policy says so and the large one failed, or an error; and recorder, ledger and server agree on what
was asked and paid for. An end is none, `cancelled` (once the provider was asked: a task is cancelled, a synchronous
call gets Ctrl-C, a client of the proxy goes away), or `midway` (the same once a part of the reply is there).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

LABELS = ["card", "card_arrival", "refund"]
RIGHT, CUT, SMALL = "card_arrival", "card", "refund"
"""What a whole reply says, what one says that was cut (a label too), and what the small model thinks."""
TEXT = "hard"
USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "total_tokens": 23}
TIMEOUTS = {"timeout": 0.6, "slow_trickle": 1.2}
"""Seconds that the client waits for a byte; else so many that a busy machine does not matter."""
PATIENCE = 20.0

FAULTS = (
    "none", "429", "429_retry_after", "500", "timeout", "reset", "cut_stream", "clean_early_end", "slow_trickle",
    "malformed_json", "empty_choices", "null_choices", "null_content", "missing_logprobs", "empty_logprobs",
    "wrong_label", "cut_reply", "content_filter",
)  # fmt: skip
WAYS = tuple(
    f"{who}.{how}"
    for who, hows in {
        "router": "invoke ainvoke batch abatch batch_as_completed abatch_as_completed stream astream astream_events",
        "messages": "invoke ainvoke stream astream",
        "node": "invoke ainvoke",
        "agent": "invoke ainvoke",
        "ChatDSPlus": "invoke ainvoke batch abatch stream astream",
        "CascadeDecisionModel": "invoke ainvoke batch abatch",
        "DataShunt": "invoke ainvoke batch abatch stream astream",
        "serve": "ainvoke astream",
    }.items()
    for how in hows.split()
)
"""Who is asked, and how; `messages` is a router in front of a bare chat model."""
POLICIES = ("raise", "small")
WHOLE = {"none", "slow_trickle", "missing_logprobs", "empty_logprobs"}
"""Where a right answer comes, whole."""
UNPAID = {"429", "429_retry_after", "500"}
"""What costs nothing: the provider refused before it worked."""


class Cell(NamedTuple):
    """One case."""

    fault: str
    way: str
    policy: str
    end: str

    @property
    def name(self) -> str:
        return "-".join(part for part in self if part)

    @property
    def who(self) -> str:
        return self.way.partition(".")[0]

    @property
    def how(self) -> str:
        return self.way.partition(".")[2]

    @property
    def is_async(self) -> bool:
        return self.how.startswith("a")

    @property
    def streams(self) -> bool:
        return "stream" in self.how

    @property
    def inputs(self) -> int:
        return 2 if "batch" in self.how else 1

    @property
    def passes_on(self) -> bool:
        """Whether the chain's own type is a message: whatever the provider said comes through as it is."""
        return self.who in ("agent", "ChatDSPlus", "messages", "serve")

    @property
    def closes(self) -> bool:
        """Whether it reads a first chunk and leaves, as a `for` with a `break` does."""
        return self.end == "midway" and self.how == "stream"


CELLS = [
    cell
    for parts in product(FAULTS, WAYS, POLICIES, ("", "cancelled", "midway"))
    if (cell := Cell(*parts)).streams or cell.end != "midway"
]


# --- the provider -----------------------------------------------------------------------------------------------------


def _choice(fault: str, said: str, logprobs: bool) -> dict[str, Any]:
    finish = {"cut_reply": "length", "content_filter": "content_filter"}.get(fault, "stop")
    shown = {"content": [{"token": said, "logprob": -0.01, "bytes": None, "top_logprobs": []}], "refusal": None}
    kept: dict[str, Any] = {
        "missing_logprobs": {},
        "empty_logprobs": {"logprobs": {"content": [], "refusal": None}},
    }.get(fault, {"logprobs": shown if logprobs else None})
    return {"index": 0, "finish_reason": finish, **kept}


@dataclass
class Book:
    """What a provider did in one cell; all of it in its own thread."""

    hold: str = ""
    """Where it waits for `go`, while its caller is stopped: before it says anything (`cancelled`), or `midway`."""
    requests: int = 0
    held: int = 0
    """Requests that wait for `go`."""
    delivered: int = 0
    """Replies that ended, with their usage in them."""
    go: threading.Event = field(default_factory=threading.Event)

    stopped: bool = False
    """Whether its caller was stopped while it held."""

    def stop(self) -> None:
        """The caller goes now: what is delivered later nobody hears."""
        self.stopped = self.held > 0

    async def wait(self, where: str) -> None:
        """Hold here, if this is the place."""
        if self.hold == where:
            self.held += 1
            while not self.go.is_set():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.005)


@dataclass
class Provider:
    """An OpenAI-compatible server with one fault, which counts what it was asked and what it delivered."""

    fault: str = "none"
    book: Book = field(default_factory=lambda: Book())
    url: str = ""

    def reset(self, fault: str, hold: str) -> Book:
        """Begin a new cell: what an old one still has under way counts in its own book."""
        self.fault, self.book = fault, Book(hold)
        return self.book

    def said(self, body: dict[str, Any]) -> str | None:
        label = {"wrong_label": "some refund card, or none", "null_content": None}.get(self.fault, RIGHT)
        if self.fault in ("cut_reply", "content_filter", "clean_early_end"):
            label = CUT
        if label is not None and (body.get("tools") or body.get("response_format")):
            return json.dumps({"answer_0": label})
        return label

    def whole(self, body: dict[str, Any]) -> bytes:
        said, tools = self.said(body), body.get("tools")
        message: dict[str, Any] = {"role": "assistant", "content": said}
        if tools and said is not None:
            call = {"name": tools[0]["function"]["name"], "arguments": said}
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": call}],
            }
        choices: Any = [{**_choice(self.fault, said or "", bool(body.get("logprobs"))), "message": message}]
        if self.fault == "clean_early_end":
            choices[0]["finish_reason"] = None
        choices = {"empty_choices": [], "null_choices": None}.get(self.fault, choices)
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "served"}
        return json.dumps({**head, "choices": choices, "usage": USAGE}).encode()

    def pieces(self, body: dict[str, Any]) -> list[bytes]:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served"}
        said = self.said(body)
        own = _choice(self.fault, said or "", bool(body.get("logprobs")))
        end = own.pop("finish_reason")
        texts = [None] if said is None else [CUT, said.removeprefix(CUT)] if said.startswith(CUT) else [said]
        deltas = [{"role": "assistant", "content": ""}, *({"content": text} for text in texts if text != "")]
        choices: list[Any] = [[{**own, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices.append([{**own, "delta": {}, "finish_reason": end}])
        choices = {"empty_choices": [[], []], "null_choices": [None, None]}.get(self.fault, choices)
        rows: list[Any] = [{**head, "choices": part} for part in choices]
        if self.fault in ("cut_stream", "clean_early_end"):
            return [_event(row) for row in rows[:2]]
        rows.append({**head, "choices": [], "usage": USAGE})
        found = [_event(row) for row in rows]
        if self.fault == "malformed_json":
            found[(len(found) + 1) // 2] = b"data: {not json\n\n"  # the first after a pause midway
        return [*found, b"data: [DONE]\n\n"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
                await self.reply(json.loads(await reader.readexactly(length)), writer)
        writer.close()

    async def reply(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        fault, book = self.fault, self.book
        book.requests += 1
        await book.wait("cancelled")
        if fault == "timeout":
            await asyncio.sleep(3 * TIMEOUTS[fault])
        if fault in ("timeout", "reset"):
            writer.transport.abort()
            raise ConnectionResetError
        if fault in UNPAID:
            status = "500 No" if fault == "500" else "429 Later"
            text = json.dumps({"error": {"message": "no", "type": "x", "code": None}}).encode()
            more = b"retry-after: 0\r\n" if fault == "429_retry_after" else b""
            writer.write(_head(status, len(text), more) + text)
            return
        stream = bool(body.get("stream"))
        parts = self.pieces(body) if stream else [self.whole(body)]
        if fault == "malformed_json" and not stream:
            parts = [b"{not json"]
        whole = b"".join(parts)
        if not stream:
            parts = [whole[:40], whole[40:]]
        cut = fault == "cut_stream"
        kind = b"text/event-stream" if stream else b"application/json"
        writer.write(_head("200 OK", len(whole) + (100 if cut else 0), kind=kind))
        legible = fault not in ("malformed_json", "cut_stream") and not (stream and fault == "clean_early_end")
        for place, part in enumerate(parts):
            if place == len(parts) // 2:
                await book.wait("midway")
            # With the row of usage, and before the last byte: its reader may look at once.
            book.delivered += legible and place == max(len(parts) - 2, 0) if stream else legible and place == 1
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.3 if fault == "slow_trickle" and len(parts) < 9 else 0)
        if cut:
            writer.transport.abort()
            raise ConnectionResetError


def _event(row: Any) -> bytes:
    return f"data: {json.dumps(row)}\n\n".encode()


def _head(status: str, length: int, more: bytes = b"", kind: bytes = b"application/json") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\ncontent-length: {length}\r\n".encode()
        + b"content-type: "
        + kind
        + b"\r\n"
        + more
        + b"\r\n"
    )


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """A running one."""
    made, there, state = Provider(), threading.Event(), {}

    async def main() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        there.set()
        await state["stop"].wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert there.wait(30)
    try:
        yield made
    finally:
        made.book.go.set()
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(30)


# --- one cell ---------------------------------------------------------------------------------------------------------


class Rows(list):  # type: ignore[type-arg]
    """A recorder, and what a `DataShunt` needs of a store."""

    key = None

    def record(self, row: Any) -> None:
        self.append(dict(row))

    def rows(self, **_: Any) -> Iterator[Any]:
        return iter(self)

    def follow(self, **_: Any) -> Rows:
        return self

    def flush(self, *_: Any) -> bool:
        return True

    def close(self, *_: Any) -> None:
        """Nothing is open."""


def _chat(url: str, timeout: float) -> Any:
    import httpx
    from langchain_openai import ChatOpenAI

    # A client of its own for each cell: no connection outlives its loop.
    kwargs = {"timeout": httpx.Timeout(timeout), "limits": httpx.Limits(max_keepalive_connections=0)}
    return ChatOpenAI(
        base_url=url, api_key="none", model="asked", max_retries=0, timeout=timeout, stream_usage=True,
        http_client=httpx.Client(**kwargs), http_async_client=httpx.AsyncClient(**kwargs),
    )  # fmt: skip


def _small(**options: Any) -> Any:
    from langchain_dsplus import FakeSmallModel

    return FakeSmallModel(default={SMALL: 0.5, CUT: 0.3, RIGHT: 0.2}, labels=LABELS, **options)


def _router(chat: Any, options: dict[str, Any], _: Path) -> Any:
    from langchain_dsplus import ConfidenceRouter

    return ConfidenceRouter(small=_small(input_key="text"), large=_labelling(chat), **options), {"text": TEXT}


def _messages(chat: Any, options: dict[str, Any], _: Path) -> Any:
    from langchain_dsplus import ConfidenceRouter

    return ConfidenceRouter(small=_small(), large=chat, **options), TEXT


def _node(chat: Any, options: dict[str, Any], folder: Path) -> Any:
    from langgraph.graph import START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        text: str
        label: str

    router, value = _router(chat, options, folder)
    graph: Any = StateGraph(State)
    graph.add_node("ask", router.as_node(output_key="label"))
    graph.add_edge(START, "ask")
    return graph.compile(), value


def _agent(chat: Any, options: dict[str, Any], _: Path) -> Any:
    from langchain.agents import create_agent

    from langchain_dsplus import ConfidenceShuntMiddleware

    if options["on_large_error"] == "small":
        options.pop("on_large_error")  # an agent's errors pass through, whatever is wished
    return create_agent(chat, middleware=[ConfidenceShuntMiddleware(_small(), **options)]), {
        "messages": [("human", TEXT)]
    }


def _chat_dsplus(chat: Any, options: dict[str, Any], _: Path) -> Any:
    from langchain_core.messages import AIMessage

    from langchain_dsplus import ChatDSPlus
    from tests.unit.chat_dsplus.conftest import Scripted

    draft = Scripted(reply=lambda *_: AIMessage(SMALL), p=0.5)
    return ChatDSPlus(models=[draft, chat], accept=lambda *_: 0.1, **options), TEXT


def _decisions(chat: Any, options: dict[str, Any], _: Path) -> Any:
    from langchain_core.decisions import Choice, ClassifierRequest

    from langchain_dsplus import CascadeDecisionModel

    question = Choice(instructions="Which?", criteria=dict.fromkeys(LABELS))
    model = CascadeDecisionModel(small={"label": _small()}, large=chat, **options)
    return model, ClassifierRequest(state=TEXT, questions={"label": question})


def _shunt(chat: Any, options: dict[str, Any], folder: Path) -> Any:
    from langchain_dsplus import DataShunt

    rows = options["recorder"]
    return DataShunt(
        _labelling(chat), LABELS, folder, "5 points", background=False, version="1", follow=None, input_key="text",
        store=rows, on_large_error=options["on_large_error"],
    ), {"text": TEXT}  # fmt: skip


def _labelling(chat: Any) -> Any:
    from langchain_dsplus import LabelParser, PromptPruner

    return PromptPruner.from_messages([("human", "{text}")], labels=LABELS) | chat | LabelParser(LABELS)


class _Client:
    """Somebody who asks `dsplus serve`: nothing of LangChain, a real proxy on a real socket, one for each question."""

    def __init__(self, url: str, timeout: float, options: dict[str, Any], folder: Path) -> None:
        from langchain_dsplus.serve import ChatTask, Upstream, create_app, open_shunt

        upstream = Upstream(url, timeout=timeout, connect_timeout=5.0)
        task = ChatTask("asked", [("system", "Which?"), ("user", "{text}")])
        shunt = open_shunt(
            folder, task, upstream, labels=LABELS, max_loss="5 points", version="1", follow=None,
            store=options["recorder"], on_large_error=options["on_large_error"],
        )  # fmt: skip
        self.app = create_app(shunt, upstream)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The proxy's root; at the end it is drained."""
        import uvicorn

        from langchain_dsplus.serve.run import config_of

        server = uvicorn.Server(config_of(self.app, "127.0.0.1", 0, 10.0))
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            await task

    async def ask(self, root: str, *, stream: bool) -> str:
        """The text of the reply, out of its bytes.

        Raises:
            httpx.HTTPError: If it is an error, or cut.
            ValueError: If it is no completion.
        """
        import httpx

        messages = [{"role": "system", "content": "Which?"}, {"role": "user", "content": TEXT}]
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        async with httpx.AsyncClient(timeout=30) as client:
            reply = await client.post(
                f"{root}/v1/chat/completions", json={"model": "asked", "messages": messages, **more}
            )
        reply.raise_for_status()
        if not stream:
            (choice,) = reply.json()["choices"] or [{}]
            return choice["message"]["content"] or ""
        lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line]
        found = [json.loads(line) for line in lines if line != "[DONE]"]
        return "".join(c["delta"].get("content") or "" for part in found for c in part["choices"] or ())


BUILDERS: dict[str, Callable[[Any, dict[str, Any], Path], Any]] = {
    "router": _router, "messages": _messages, "node": _node, "agent": _agent, "ChatDSPlus": _chat_dsplus,
    "CascadeDecisionModel": _decisions, "DataShunt": _shunt,
}  # fmt: skip


def _sync(cell: Cell, asked: Any, value: Any, config: Any) -> list[Any]:
    if cell.how == "batch":
        return [_read(cell, output) for output in asked.batch([value, value], config)]
    if cell.how == "batch_as_completed":
        return [found for _, found in asked.batch_as_completed([value, value], config)]
    if cell.how == "stream":
        stream = asked.stream(value, config)
        if cell.closes:
            with contextlib.closing(stream):
                next(stream)
            return ["left"]
        return [_joined([*stream])]
    return [_read(cell, asked.invoke(value, config))]


async def _async(cell: Cell, asked: Any, value: Any, config: Any) -> list[Any]:
    if cell.who == "serve":
        return [await asked.ask(value, stream=cell.streams)]
    if cell.how == "abatch":
        return [_read(cell, output) for output in await asked.abatch([value, value], config)]
    if cell.how == "abatch_as_completed":
        return [found async for _, found in asked.abatch_as_completed([value, value], config)]
    if cell.how == "astream":
        return [_joined([chunk async for chunk in asked.astream(value, config)])]
    if cell.how == "astream_events":
        found = [event async for event in asked.astream_events(value, config, version="v2")]
        return [found[-1]["data"]["output"]]
    return [_read(cell, await asked.ainvoke(value, config))]


def _joined(chunks: list[Any]) -> str:
    return "".join(chunk if isinstance(chunk, str) else chunk.text for chunk in chunks)


def _read(cell: Cell, output: Any) -> Any:
    if cell.who == "node":
        return output["label"]
    if cell.who == "agent":
        return output["messages"][-1].text
    if cell.who in ("ChatDSPlus", "messages"):
        return output.text
    if cell.who == "CascadeDecisionModel":
        return output.answers["label"].choice
    return output


# --- stopping it ------------------------------------------------------------------------------------------------------


async def _cancelled(cell: Cell, book: Book, work: Awaitable[list[Any]]) -> list[Any]:
    """Cancel it once the provider holds every question; it must end with the cancellation, soon."""
    task = asyncio.ensure_future(work)
    end = time.monotonic() + PATIENCE
    while book.held < cell.inputs and not task.done() and time.monotonic() < end:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.005)
    if cell.end == "midway":
        await asyncio.sleep(0.02)  # what was sent arrives
    if not task.done():
        book.stop()
    try:
        while not task.done() and time.monotonic() < end:
            if (
                book.stopped
            ):  # again and again: a client may lose one that meets a chunk, with nothing of ours around it
                task.cancel()
            await asyncio.wait({task}, timeout=0.3)
        return await asyncio.wait_for(task, 0.1)
    finally:
        book.go.set()


def _interrupted(cell: Cell, book: Book, work: Callable[[], list[Any]]) -> list[Any]:
    """The same with Ctrl-C."""
    over = threading.Event()

    def stop() -> None:
        end = time.monotonic() + PATIENCE
        while book.held < cell.inputs and not over.is_set() and time.monotonic() < end:
            time.sleep(0.005)
        if not over.is_set():
            book.stop()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.05)
        book.go.set()

    thread = threading.Thread(target=stop)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    try:
        return work()
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGINT, before)


def _run(cell: Cell, book: Book, asked: Any, value: Any, config: Any) -> list[Any]:
    """Synchronously."""

    def work() -> list[Any]:
        return _sync(cell, asked, value, config)

    if cell.closes:
        book.go.set()
    return _interrupted(cell, book, work) if cell.end and not cell.closes else work()


async def _arun(cell: Cell, book: Book, chat: Any, asked: Any, value: Any, config: Any) -> list[Any]:
    """In a loop of its own."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(chat.http_async_client.aclose)
        if cell.who == "serve":
            value = await stack.enter_async_context(asked.running())
        work = _async(cell, asked, value, config)
        return await (_cancelled(cell, book, work) if cell.end else work)


def run_cell(cell: Cell, server: Provider, folder: Path) -> list[str]:
    """Run one cell in the main thread; what is wrong in it."""
    from langchain_dsplus import CostLedger, Price

    book = server.reset(cell.fault, cell.end)
    rows, ledger = Rows(), CostLedger(Price(input=1.0, output=1.0))
    timeout = TIMEOUTS.get(cell.fault, 20.0)
    options: dict[str, Any] = {"threshold": 0.9, "on_large_error": cell.policy, "recorder": rows}
    chat = _chat(server.url, timeout)
    answers: list[Any] = []
    error: BaseException | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        if cell.who == "serve":
            asked, value = _Client(server.url, timeout, options, folder), None
        else:
            asked, value = BUILDERS[cell.who](chat, options, folder)
        config = {"callbacks": [ledger]}
        try:
            if cell.is_async:
                answers = asyncio.run(_arun(cell, book, chat, asked, value, config))
            else:
                answers = _run(cell, book, asked, value, config)
        except (Exception, asyncio.CancelledError, KeyboardInterrupt) as found:
            error = found
        finally:
            chat.http_client.close()
    told = _told_by_proxy(asked) if cell.who == "serve" else _told_by(ledger)
    found = [*_wrong_answer(cell, book, answers, error), *_wrong_books(cell, book, rows, told)]
    return [f"{cell.name}: {problem}" for problem in found]


# --- what is right ----------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What a ledger says of the large side."""

    asked: int
    tokens: tuple[int, int] | None
    """None where it counts none."""
    silent: int
    """Calls of which it says that their cost is not known."""


def _told_by(ledger: Any) -> Told:
    total = ledger.total()
    large = [row for row in ledger.table() if row["side"] != "small"]
    calls = sum(row["calls"] + row["failed"] for row in large) + total["open"]
    tokens = sum(row["input_tokens"] for row in large), sum(row["output_tokens"] for row in large)
    return Told(calls, tokens, total["unmetered"] + total["open"])


def _told_by_proxy(client: _Client) -> Told:
    """A proxy counts requests; tokens are in its rows."""
    (health,) = (route for route in client.app.routes if route.path == "/metrics")
    text = health.endpoint.__self__.metrics.text()[0].decode()
    counted = [line.rpartition(" ") for line in text.splitlines() if line.startswith("dsplus_requests_total{")]
    return Told(int(sum(float(value) for _, _, value in counted)), None, 1)


def _wrong_answer(cell: Cell, book: Book, answers: list[Any], error: BaseException | None) -> Iterator[str]:
    if book.stopped:
        wanted = asyncio.CancelledError if cell.is_async else KeyboardInterrupt
        if not isinstance(error, wanted):
            yield f"stopped, and it came back with {type(error).__name__ if error else answers!r}"
        return
    if error is not None:
        if not isinstance(error, Exception) or not str(error):
            yield f"the error says nothing: {type(error).__name__}"
        unclear = (AttributeError, KeyError, AssertionError, UnboundLocalError, RecursionError)
        if isinstance(error, unclear) and cell.who != "serve":
            yield f"not a clear error: {error!r}"
        if cell.fault in WHOLE:
            yield f"a whole reply became {error!r}"
        # An agent's errors pass through; a shunt that has learned nothing has no small answer; what has begun to stream
        # stays.
        stands_in = cell.who not in ("DataShunt", "serve", "agent") and not cell.streams
        if cell.policy == "small" and stands_in:
            yield f"the small model was to stand in: {error!r}"
        return
    if answers == ["left"]:
        return
    allowed = {RIGHT} if cell.fault in WHOLE else set()
    if cell.policy == "small" and cell.fault not in WHOLE:
        allowed.add(SMALL)
    if cell.passes_on:  # what the provider said, as it is today: it says itself how it ended
        allowed |= {"some refund card, or none", "", CUT} if cell.fault not in WHOLE else set()
    if cell.fault == "clean_early_end" and not cell.streams:
        allowed.add(CUT)  # a whole reply that names no reason to end, as some servers write it
    for answer in answers:
        if answer not in allowed:
            yield f"answered {answer!r}"


def _wrong_books(cell: Cell, book: Book, rows: Rows, told: Told) -> Iterator[str]:
    routes = [row for row in rows if row["kind"] in ("route", "shadow")]
    if len(routes) != cell.inputs:
        yield f"{len(routes)} rows for {cell.inputs} inputs"
    if told.asked != book.requests:
        yield f"ledger: {told.asked} calls; the server was asked {book.requests} times"
    in_rows = sum((row.get("usage") or {}).get("input_tokens", 0) for row in routes)
    tokens = told.tokens or (in_rows, book.delivered * USAGE["completion_tokens"])
    if not cell.end:
        wanted = book.delivered * USAGE["prompt_tokens"], book.delivered * USAGE["completion_tokens"]
        if tokens != wanted and not (told.silent and tokens <= wanted):
            yield f"ledger: {tokens} tokens, the server delivered {wanted}, {told.silent} said to be unknown"
    metered = tokens[0] // USAGE["prompt_tokens"]
    if metered + told.silent < book.requests and ((book.stopped and cell.is_async) or cell.fault not in UNPAID):
        yield f"ledger: {metered} calls metered, {told.silent} unknown; the server was asked {book.requests} times"
    if in_rows != tokens[0] and cell.who != "ChatDSPlus":
        yield f"recorder: {in_rows} tokens, ledger: {tokens[0]}"
