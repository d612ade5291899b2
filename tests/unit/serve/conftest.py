"""A provider on this machine that says and does what a test wants, and a proxy in front of it; both real servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from langchain_dsplus.registry.state import now
from langchain_dsplus.serve import ChatTask, Upstream, create_app, open_shunt
from langchain_dsplus.shunt import DataShunt
from tests.unit.shunt.conftest import LABELS, World

SYSTEM = "Say refund, delivery or login."
MODEL = "big-1"
CUT = object()
"""In what a provider does: it closes the connection."""


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


Deeds = list[Any]
"""Bytes are sent, numbers are seconds of rest, `CUT` closes."""


def whole(status: str, body: bytes, *headers: str, kind: str = "application/json") -> Deeds:
    head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return ["\r\n".join(head).encode() + b"\r\n\r\n" + body]


def chunked(parts: list[Any], *headers: str, kind: str = "text/event-stream", ends: bool = True) -> Deeds:
    head = ["HTTP/1.1 200 OK", f"content-type: {kind}", "transfer-encoding: chunked", *headers]
    deeds: Deeds = ["\r\n".join(head).encode() + b"\r\n\r\n"]
    for part in parts:
        deeds.append(part if not isinstance(part, bytes) else f"{len(part):x}\r\n".encode() + part + b"\r\n")
    return [*deeds, b"0\r\n\r\n" if ends else CUT]


def completion(text: str, **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({
        "id": "up-1", "object": "chat.completion", "created": 1, "model": "big-1-2026",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **more}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}, "unknown_to_us": [1, {"a": None}],
    }, indent=1).encode()  # fmt: skip


def events(text: str, *, usage: bool = False) -> list[bytes]:
    head = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "big-1-2026"}
    deltas: list[Any] = [{"role": "assistant", "content": ""}, *({"content": c} for c in text), {}]
    found = [{**head, "choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}]} for d in deltas]
    if usage:
        counts = {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}
        found.append({**head, "choices": [], "usage": counts})
    return [f"data: {json.dumps(one)}\n\n".encode() for one in found] + [b"data: [DONE]\n\n"]


@dataclass
class Provider:
    """An HTTP/1.1 server that does what `script` says; by default it answers chat completions as the world does."""

    world: World
    script: Callable[[Asked], Deeds] | None = None
    asked: list[Asked] = field(default_factory=list)
    closed: int = 0
    """Connections that the other side closed while a reply was under way."""
    url: str = ""

    def answer(self, asked: Asked) -> Deeds:
        if self.script is not None:
            return self.script(asked)
        if asked.path != "/v1/chat/completions":
            return whole("200 OK", b'{"path": "' + asked.path.encode() + b'"}')
        body = asked.json
        text = self.world.answer(body["messages"][-1]["content"]) if body["model"] == MODEL else "hello"
        if body.get("stream"):
            return chunked(events(text, usage=bool(body.get("stream_options"))))
        return whole("200 OK", completion(text), "x-request-id: req-7")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in head[1:] if line)]
                length = next((int(v) for k, v in headers if k.lower() == "content-length"), 0)
                asked = Asked(method, path, headers, await reader.readexactly(length))
                self.asked.append(asked)
                for deed in self.answer(asked):
                    if deed is CUT:
                        writer.transport.abort()
                        return
                    if isinstance(deed, bytes):
                        writer.write(deed)
                        await writer.drain()
                    else:
                        end = time.monotonic() + deed
                        while time.monotonic() < end:
                            await asyncio.sleep(0.01)
                            if reader.at_eof():
                                self.closed += 1
                                writer.close()
                                return
        writer.close()


@contextlib.contextmanager
def in_thread(main: Callable[[Callable[[Any], None], asyncio.Event], Any]) -> Iterator[Any]:
    """Run `main(ready, stop)` in an event loop of its own."""
    state: dict[str, Any] = {}
    there = threading.Event()

    def run() -> None:
        async def body() -> None:
            stop = asyncio.Event()
            state["stop"] = (asyncio.get_running_loop(), stop)

            def ready(value: Any) -> None:
                state["value"] = value
                there.set()

            await main(ready, stop)

        try:
            asyncio.run(body())
        except BaseException as error:
            state["error"] = error
        finally:
            there.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert there.wait(120), "it did not start"
    try:
        if "error" in state:
            raise state["error"]
        yield state["value"]
    finally:
        loop, stop = state["stop"]
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    if "error" in state:
        raise state["error"]


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = Provider(World(tmp_path))

    async def main(ready: Any, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready(made)
        await stop.wait()
        server.close()

    with in_thread(main):
        yield made


def eventually(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail("it never happened")


@dataclass
class Proxy:
    """A proxy that runs."""

    base_url: str
    shunt: DataShunt
    server: uvicorn.Server
    began: str

    @property
    def root(self) -> str:
        return self.base_url.removesuffix("/v1")

    def rows(self, n: int, kind: str = "route") -> list[dict[str, Any]]:
        """The rows, once there are `n`: the last one is written when its client has its answer already."""

        def look() -> list[dict[str, Any]]:
            self.shunt.store.flush()
            return [row for row in self.shunt.store.rows(kind=kind) if row["time"] > self.began]

        eventually(lambda: len(look()) >= n)
        found = look()
        assert len(found) == n
        return found


@pytest.fixture
def proxy(provider: Provider, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts proxies: `proxy(task=..., token=..., limits=..., **of DataShunt)`."""
    with contextlib.ExitStack() as stack:

        def make(task: Any = None, token: str | None = None, limits: Any = None, **options: Any) -> Proxy:
            timeout = options.pop("timeout", 30.0)
            options = {"labels": LABELS, "follow": 0.0, "max_loss": 0.05, **options}
            task = task or ChatTask(MODEL, [("system", SYSTEM), ("user", "{text}")])

            async def main(ready: Any, stop: asyncio.Event) -> None:
                upstream = Upstream(provider.url, timeout=timeout, connect_timeout=2.0)
                shunt = open_shunt(tmp_path / "shunt", task, upstream, **options)
                app = create_app(shunt, upstream, token=token, limits=limits)
                config = uvicorn.Config(
                    app, port=0, log_level="error", access_log=False, server_header=False, date_header=False,
                    timeout_graceful_shutdown=10,
                )  # fmt: skip
                server = uvicorn.Server(config)
                running = asyncio.create_task(server.serve())
                while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
                    await asyncio.sleep(0.005)
                port = server.servers[0].sockets[0].getsockname()[1]
                ready(Proxy(f"http://127.0.0.1:{port}/v1", shunt, server, now()))
                await stop.wait()
                server.should_exit = True
                await running

            return stack.enter_context(in_thread(main))

        yield make


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


@pytest.fixture(scope="session")
def live_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose shunt answers all but `login` locally, made by the chain itself; `version="1"` takes it up."""
    made = World(tmp_path_factory.mktemp("live"))
    with made.shunt(never_local=["login"]) as shunt:
        made.live(shunt)
    return made


@pytest.fixture
def live(live_world: World, provider: Provider, tmp_path: Path) -> dict[str, Any]:
    """What `proxy` needs so that all but `login` is answered locally."""
    shutil.copytree(live_world.folder / "shunt", tmp_path / "shunt")
    provider.world = live_world
    return {"version": "1", "labels": None, "max_loss": None}
