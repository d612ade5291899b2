"""Every fault of a provider, on every way of asking: what a cell does, and what is right in it.

A cell is (fault, way, policy, cancelled). Its provider is a real HTTP server on loopback that counts; its client a real
`ChatOpenAI`. Right is: the answer that the provider gave as a whole, the small model's where the policy says so and the
large one failed, or an error; and recorder, ledger and server agree on what was asked and paid for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import warnings
from collections.abc import Iterator
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
SYNC = ("invoke", "batch", "batch_as_completed", "stream", "node", "agent")
ASYNC = ("ainvoke", "abatch", "astream", "astream_events", "anode", "aagent")
OWN = tuple(
    f"{who}.{how}" for who in ("ChatDSPlus", "CascadeDecisionModel", "DataShunt") for how in ("invoke", "ainvoke")
)
WAYS = (*SYNC, *ASYNC, *OWN)
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
    cancelled: bool

    @property
    def name(self) -> str:
        return "-".join((self.fault, self.way, self.policy, *(["cancelled"] if self.cancelled else [])))

    @property
    def is_async(self) -> bool:
        return self.way in ASYNC or self.way.endswith(".ainvoke")

    @property
    def passes_on(self) -> bool:
        """Whether the chain's own type is a message: whatever the provider said comes through as it is."""
        return self.way in ("agent", "aagent") or self.way.startswith("ChatDSPlus")


CELLS = [Cell(*parts) for parts in product(FAULTS, WAYS, POLICIES, (False, True))]


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

    hold: bool = False
    """Whether it says nothing until `go`: the caller is cancelled meanwhile."""
    requests: int = 0
    delivered: int = 0
    """Replies that ended, with their usage in them."""
    go: threading.Event = field(default_factory=threading.Event)


@dataclass
class Provider:
    """An OpenAI-compatible server with one fault, which counts what it was asked and what it delivered."""

    fault: str = "none"
    book: Book = field(default_factory=lambda: Book())
    url: str = ""

    def reset(self, fault: str, *, hold: bool) -> Book:
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
            found[1] = b"data: {not json\n\n"
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
        while book.hold and not book.go.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)
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
        if legible:
            book.delivered += 1  # before the last byte: its reader may look at once
        for part in parts:
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
    """A recorder."""

    def record(self, row: Any) -> None:
        self.append(dict(row))


def _chat(url: str, timeout: float) -> Any:
    import httpx
    from langchain_openai import ChatOpenAI

    # A client of its own for each cell: no connection outlives its loop.
    kwargs = {"timeout": httpx.Timeout(timeout), "limits": httpx.Limits(max_keepalive_connections=0)}
    return ChatOpenAI(
        base_url=url, api_key="none", model="asked", max_retries=0, timeout=timeout, stream_usage=True,
        http_client=httpx.Client(**kwargs), http_async_client=httpx.AsyncClient(**kwargs),
    )  # fmt: skip


def _build(cell: Cell, chat: Any, rows: Rows, folder: Path) -> Any:
    """What is asked, and with what."""
    from langchain_dsplus import ConfidenceRouter, FakeSmallModel, LabelParser, PromptPruner

    unsure = {SMALL: 0.5, CUT: 0.3, RIGHT: 0.2}
    options: dict[str, Any] = {"threshold": 0.9, "on_large_error": cell.policy, "recorder": rows}
    small = FakeSmallModel(default=unsure, labels=LABELS)
    if cell.way.startswith("CascadeDecisionModel"):
        from langchain_core.decisions import Choice, ClassifierRequest

        from langchain_dsplus import CascadeDecisionModel

        model = CascadeDecisionModel(small={"label": small}, large=chat, **options)
        question = Choice(instructions="Which?", criteria=dict.fromkeys(LABELS))
        return model, ClassifierRequest(state=TEXT, questions={"label": question})
    if cell.way.startswith("ChatDSPlus"):
        from langchain_core.messages import AIMessage

        from langchain_dsplus import ChatDSPlus
        from tests.unit.chat_dsplus.conftest import Scripted

        draft = Scripted(reply=lambda *_: AIMessage(SMALL), p=0.5)
        return ChatDSPlus(models=[draft, chat], accept=lambda *_: 0.1, **options), TEXT
    if cell.way in ("agent", "aagent"):
        from langchain.agents import create_agent

        from langchain_dsplus import ConfidenceShuntMiddleware

        if cell.policy == "small":
            options.pop("on_large_error")  # an agent's errors pass through, whatever is wished
        return create_agent(chat, middleware=[ConfidenceShuntMiddleware(small, **options)]), {
            "messages": [("human", TEXT)]
        }
    prompt = PromptPruner.from_messages([("human", "{text}")], labels=LABELS)
    large = prompt | chat | LabelParser(LABELS)
    if cell.way.startswith("DataShunt"):
        from langchain_dsplus import DataShunt

        options.pop("threshold")
        return DataShunt(
            large, LABELS, folder, "5 points", small=None, background=False, version="1", follow=None,
            input_key="text", store=rows_store(rows), **{**options, "recorder": None},
        ), {"text": TEXT}  # fmt: skip
    keyed = FakeSmallModel(default=unsure, labels=LABELS, input_key="text")
    router = ConfidenceRouter(small=keyed, large=large, **options)
    if cell.way in ("node", "anode"):
        from langgraph.graph import START, StateGraph
        from typing_extensions import TypedDict

        class State(TypedDict, total=False):
            text: str
            label: str

        graph: Any = StateGraph(State)
        graph.add_node("ask", router.as_node(output_key="label"))
        graph.add_edge(START, "ask")
        return graph.compile(), {"text": TEXT}
    return router, {"text": TEXT}


def rows_store(rows: Rows) -> Any:
    """A store that a `DataShunt` takes."""

    class Store:
        key = None

        def record(self, row: Any) -> None:
            rows.record(row)

        def rows(self, **_: Any) -> Iterator[Any]:
            return iter(rows)

        def flush(self, *_: Any) -> bool:
            return True

    return Store()


def _sync(cell: Cell, asked: Any, value: Any, config: Any) -> list[Any]:
    way = cell.way
    if way == "batch":
        return list(asked.batch([value, value], config))
    if way == "batch_as_completed":
        return [found for _, found in asked.batch_as_completed([value, value], config)]
    if way == "stream":
        stream = asked.stream(value, config)
        if cell.cancelled:
            with contextlib.closing(stream):
                next(stream)
            return ["left"]
        return ["".join(stream)]
    return [_read(cell, asked.invoke(value, config))]


async def _async(cell: Cell, asked: Any, value: Any, config: Any) -> list[Any]:
    way = cell.way
    if way == "abatch":
        return list(await asked.abatch([value, value], config))
    if way == "astream":
        return ["".join([chunk async for chunk in asked.astream(value, config)])]
    if way == "astream_events":
        found = [event async for event in asked.astream_events(value, config, version="v2")]
        return [found[-1]["data"]["output"]]
    return [_read(cell, await asked.ainvoke(value, config))]


def _read(cell: Cell, output: Any) -> Any:
    if cell.way in ("node", "anode"):
        return output["label"]
    if cell.way in ("agent", "aagent"):
        return output["messages"][-1].text
    if cell.way.startswith("ChatDSPlus"):
        return output.text
    if cell.way.startswith("CascadeDecisionModel"):
        return output.answers["label"].choice
    return output


async def _cancelled(cell: Cell, book: Book, asked: Any, value: Any, config: Any) -> list[Any]:
    """Cancel it once the provider has been reached; it must end with the cancellation, soon."""
    task = asyncio.create_task(_async(cell, asked, value, config))
    for _ in range(2000):
        if book.requests == (2 if "batch" in cell.way else 1) or task.done():
            break
        await asyncio.sleep(0.005)
    task.cancel()
    try:
        return await asyncio.wait_for(task, PATIENCE)
    finally:
        book.go.set()


def run_cell(cell: Cell, server: Provider, folder: Path) -> list[str]:
    """Run one cell; what is wrong in it."""
    from langchain_dsplus import CostLedger, Price

    stopped = cell.cancelled and cell.is_async
    book = server.reset(cell.fault, hold=stopped)
    rows, ledger = Rows(), CostLedger(Price(input=1.0, output=1.0))
    config = {"callbacks": [ledger]}
    chat = _chat(server.url, TIMEOUTS.get(cell.fault, 20.0))
    answers: list[Any] = []
    error: BaseException | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        asked, value = _build(cell, chat, rows, folder)
        try:
            if stopped:
                answers = asyncio.run(_closing(chat, _cancelled(cell, book, asked, value, config)))
            elif cell.is_async:
                answers = asyncio.run(_closing(chat, _async(cell, asked, value, config)))
            else:
                answers = _sync(cell, asked, value, config)
        except (Exception, asyncio.CancelledError, KeyboardInterrupt) as found:
            error = found
        finally:
            chat.http_client.close()
    return [f"{cell.name}: {problem}" for problem in _problems(cell, book, rows, ledger, answers, error)]


async def _closing(chat: Any, work: Any) -> Any:
    try:
        return await work
    finally:
        await chat.http_async_client.aclose()


# --- what is right ----------------------------------------------------------------------------------------------------


def _problems(
    cell: Cell, book: Book, rows: Rows, ledger: Any, answers: list[Any], error: BaseException | None
) -> Iterator[str]:
    yield from _wrong_answer(cell, answers, error)
    yield from _wrong_books(cell, book, rows, ledger)


def _wrong_answer(cell: Cell, answers: list[Any], error: BaseException | None) -> Iterator[str]:
    if cell.cancelled and cell.is_async:
        if not isinstance(error, asyncio.CancelledError):
            yield f"cancelled, and it came back with {type(error).__name__ if error else answers!r}"
        return
    if error is not None:
        if not isinstance(error, Exception) or not str(error):
            yield f"the error says nothing: {type(error).__name__}"
        if isinstance(error, (AttributeError, KeyError, AssertionError, UnboundLocalError, RecursionError)):
            yield f"not a clear error: {error!r}"
        if cell.fault in WHOLE:
            yield f"a whole reply became {error!r}"
        # An agent's errors pass through; a shunt that has learned nothing has no small answer; what has begun to stream stays.
        stands_in = (
            not cell.way.startswith("DataShunt") and cell.way not in ("agent", "aagent") and "stream" not in cell.way
        )
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
    if cell.fault == "clean_early_end" and "stream" not in cell.way:
        allowed.add(CUT)  # a whole reply that names no reason to end, as some servers write it
    for answer in answers:
        if answer not in allowed:
            yield f"answered {answer!r}"


def _wrong_books(cell: Cell, book: Book, rows: Rows, ledger: Any) -> Iterator[str]:
    inputs = 2 if "batch" in cell.way else 1
    routes = [row for row in rows if row["kind"] in ("route", "shadow")]
    if len(routes) != inputs:
        yield f"{len(routes)} rows for {inputs} inputs"
    total = ledger.total()
    large = [row for row in ledger.table() if row["side"] != "small"]
    calls, failed = sum(row["calls"] for row in large), sum(row["failed"] for row in large)
    if calls + failed + total["open"] != book.requests:
        yield f"ledger: {calls} calls, {failed} failed, {total['open']} open; the server was asked {book.requests} times"
    tokens = sum(row["input_tokens"] for row in large), sum(row["output_tokens"] for row in large)
    left = cell.cancelled and cell.way == "stream"
    if not (cell.cancelled and cell.is_async) and not left:
        wanted = book.delivered * USAGE["prompt_tokens"], book.delivered * USAGE["completion_tokens"]
        silent = total["unmetered"] + total["open"]
        if tokens != wanted and not (silent and tokens <= wanted):
            yield f"ledger: {tokens} tokens, the server delivered {wanted}, {silent} said to be unknown"
    unknown = book.requests - book.delivered
    if unknown and cell.fault not in UNPAID and total["complete"]:
        yield f"ledger says that it is complete, and {unknown} calls did not say what they cost"
    told = sum((row.get("usage") or {}).get("input_tokens", 0) for row in routes)
    if told != tokens[0] and not cell.way.startswith("ChatDSPlus"):
        yield f"recorder: {told} tokens, ledger: {tokens[0]}"
