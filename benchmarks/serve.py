"""`dsplus serve` between a client and an upstream on this machine: what it adds, and a soak.

Four ways to ask, interleaved in rounds by the same client over kept connections: the bare upstream, and through the
proxy what passes untouched, what a shunt sends up and records, and what it answers itself. Latency is a ratio to the
bare upstream's, of an upstream that answers at once (nothing else is in the measurement: the worst case) and of one
that takes 200 ms. The soak mixes all ways with streams, cut streams, refusals (429) and clients that go away, and then
counts the rows: each request that was the shunt's task must have one, whose client stayed. Growth is the proxy's memory
at the end against that after the first fifth. Upstream, proxy and client are three processes on the same cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Context, Figures, Table, interval, number, quartiles, ratio

NOT_RECHECKED = "every figure is a time, a ratio of times, or a count of a soak of minutes"
SIZES = {"quick": 2_000, "plain": 20_000, "full": 100_000}
CALLERS = 8
LABELS = ["refund", "delivery", "login"]
SYSTEM = "Say refund, delivery or login."
WAYS = {"untouched": "passes untouched", "large": "sent up by the shunt, recorded", "small": "answered by the shunt"}
LEFT = " left"
"""Ends the text of a client that goes away: whether it was asked about depends on who was quicker."""
DELAYS = {"at_once": 0.0, "200ms": 0.2}


# --- the upstream ----------------------------------------------------------------------------------------------------


def upstream(port: Any) -> None:
    """A process: an HTTP server that does what a request's `x-deed` says."""
    asyncio.run(_upstream(port))


async def _upstream(port: Any) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1000)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))
            deed = re.search(rb"x-deed: (\w+)", head)
            label = next((name for name in LABELS if f"{name}0" in body.decode()), "refund")
            name = deed[1].decode() if deed else ""
            if name == "slow":
                await asyncio.sleep(DELAYS["200ms"])
            writer.write(_reply(name, label))
            await writer.drain()
            if name == "cut":
                writer.transport.abort()
                return


def _reply(deed: str, label: str) -> bytes:
    if deed == "refuse":
        return b"HTTP/1.1 429 Too Many\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"
    head: dict[str, Any] = {"id": "u", "created": 1, "model": "big-1"}
    if deed in ("stream", "cut"):
        parts = [{"role": "assistant", "content": ""}, {"content": label[:3]}, {"content": label[3:]}, {}]
        events = [
            {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": p, "finish_reason": None}]}
            for p in parts
        ]
        lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
        chunks = b"".join(f"{len(line):x}\r\n".encode() + line + b"\r\n" for line in lines)
        end = b"" if deed == "cut" else b"0\r\n\r\n"
        return (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + end
        )
    choice = {"index": 0, "message": {"role": "assistant", "content": label}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    body = json.dumps({**head, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


# --- the client ------------------------------------------------------------------------------------------------------


class Caller:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: Any = None

    async def ask(self, content: bytes, *, leave: bool = False) -> str:
        """Send a request; return who answered, or how it ended."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        try:
            writer.write(content)
            if leave:
                await asyncio.sleep(0.001)
                await self.close()
                return "left"
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = re.search(rb"content-length: (\d+)", head)
            if length:
                await reader.readexactly(int(length[1]))
            else:
                while (size := int(await reader.readline(), 16)) or not await reader.readline():
                    await reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            await self.close()
            return "cut"
        if head[9:12] == b"429":
            return "refused"
        if head[9:12] != b"200":
            return f"status {head[9:12].decode()}"
        route = re.search(rb"x-dsplus-route: (\w+)", head)
        return route[1].decode() if route else "bare"

    async def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


def request(text: str, *, model: str = "big-1", deed: str = "", stream: bool = False) -> bytes:
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    body = json.dumps({"model": model, "messages": turns, **({"stream": True} if stream else {})}).encode()
    more = f"x-deed: {deed}\r\n" if deed else ""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sk-x\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def text_of(label: str, rng: random.Random) -> str:
    words = [
        f"{label}0",
        *(f"{label}{rng.randrange(6)}" for _ in range(2)),
        *(f"w{rng.randrange(99)}" for _ in range(3)),
    ]
    return " ".join(words)


# --- the shunt -------------------------------------------------------------------------------------------------------


def make_live(folder: Path, rng: random.Random) -> None:
    """A folder in which everything but `login` is answered locally."""
    from langchain_core.runnables import RunnableLambda
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier
    from langchain_dsplus.shunt import DataShunt

    def answer(text: str) -> str:
        return text.split("0", maxsplit=1)[0]

    rows = [text_of(label, rng) for label in LABELS for _ in range(4)]
    small = SklearnClassifier(
        make_pipeline(TfidfVectorizer(), LogisticRegression(C=10)).fit(rows, [*map(answer, rows)])
    )
    chain = RunnableLambda(answer).with_types(output_type=str)
    with DataShunt(
        chain,
        LABELS,
        folder,
        "5 points",
        small=small,
        version="1",
        never_local=["login"],
        background=False,
        audit_rate=0.03,
    ) as shunt:
        for _ in range(20):
            shunt.batch([text_of(rng.choice(LABELS), rng) for _ in range(60)])
            shunt.work()
            if shunt.certificate is not None:
                return
    msg = "nothing went live: there is no local answer to measure"
    raise RuntimeError(msg)


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[tuple[int, int]]:
    """`dsplus serve` in a process: its port and its number."""
    prompt = folder.parent / "prompt.json"
    prompt.write_text(json.dumps([["system", SYSTEM], ["human", "{text}"]]))
    command = [
        sys.executable, "-u", "-m", "langchain_dsplus.cli", "serve", str(folder), "--upstream", f"http://127.0.0.1:{port}/v1",
        "--model", "big-1", "--prompt", str(prompt), "--version", "1", "--port", "0",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield int(re.search(r":(\d+)/v1", process.stdout.readline())[1]), process.pid
        process.terminate()
        process.wait(60)
    finally:
        process.kill()
        process.communicate()


# --- what is measured ------------------------------------------------------------------------------------------------


async def latencies(port: int, contents: list[bytes], want: str) -> list[float]:
    """Seconds of each request, `CALLERS` at a time."""
    waiting = list(contents)
    seconds: list[float] = []

    async def caller() -> None:
        here = Caller(port)
        while waiting:
            content = waiting.pop()
            began = time.perf_counter()
            said = await here.ask(content)
            if (said, want) == ("large", "small"):  # one of which the small model is not sure
                continue
            seconds.append(time.perf_counter() - began)
            if said != want:
                msg = f"asked for {want}, got {said}"
                raise RuntimeError(msg)
        await here.close()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return sorted(seconds)


def added(context: Context, proxy: int, bare: int, advance: Any) -> Figures:
    """Latency through the proxy against that of the bare upstream."""
    rng = context.random("latency")
    rounds = context.pick(9, 5)
    found: dict[str, list[float]] = {}
    for delay, seconds_ in DELAYS.items():
        n = context.pick(240, 80) if delay == "at_once" else context.pick(80, 40)
        deed = "slow" if seconds_ else ""
        for turn in range(rounds + 1):
            for way in rng.sample(["bare", *WAYS], 4):
                texts = [text_of("refund" if way == "small" else "login", rng) for _ in range(n)]
                model = "big-2" if way == "untouched" else "big-1"
                contents = [request(text, model=model, deed=deed) for text in texts]
                seconds = asyncio.run(latencies(bare if way == "bare" else proxy, contents, way))
                if len(seconds) < n / 2:
                    msg = "too little is answered locally for a measurement"
                    raise RuntimeError(msg)
                if turn:  # the first one warms up
                    for part, share in (("p50", 0.5), ("p99", 0.99)):
                        found.setdefault(f"{delay}.{way}.{part}", []).append(seconds[int(share * (len(seconds) - 1))])
            advance(1)
    figures: Figures = {}
    for key, values in found.items():
        figures[f"ms.{key}"] = 1e3 * quartiles(values)[1]
        delay, way, part = key.split(".")
        if way != "bare":
            figures |= ratio(f"added.{key}", values, found[f"{delay}.bare.{part}"])
    return figures


async def soak(port: int, n: int, rng: random.Random, look: Any) -> dict[str, int]:
    """All kinds of requests at random; how they ended."""
    ends: dict[str, int] = {}
    left = n

    async def caller() -> None:
        nonlocal left
        here = Caller(port)
        while left > 0:
            left -= 1
            kind = rng.choices(
                ["small", "large", "untouched", "stream", "cut", "refuse", "leave"], [45, 20, 15, 15, 2, 2, 1]
            )[0]
            label = rng.choice(LABELS[:2]) if kind in ("small", "stream") else "login"
            text = text_of(label, rng) + (LEFT if kind == "leave" else "")
            content = request(
                text, model="big-2" if kind == "untouched" else "big-1",
                deed=kind if kind in ("stream", "cut", "refuse") else "slow" if kind == "leave" else "",
                stream=kind in ("stream", "cut"),
            )  # fmt: skip
            said = await here.ask(content, leave=kind == "leave")
            ends[said] = ends.get(said, 0) + 1
            look(n - left)
        await here.close()

    await asyncio.gather(*(caller() for _ in range(2 * CALLERS)))
    return ends


def run(context: Context) -> Figures:
    import psutil

    from langchain_dsplus.traces.store import TraceStore

    n = SIZES["quick" if context.quick else "full" if context.full else "plain"]
    context.facts["requests"] = (
        f"{n:,}: what two minutes of CPU allow; --full asks 100,000" if n == 20_000 else f"{n:,}"
    )
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=upstream, args=(theirs,), daemon=True)
    process.start()
    bare = ours.recv()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "shunt"
        make_live(folder, context.random("rows"))
        with TraceStore(f"sqlite:///{folder / 'traces.db'}") as store:
            with served(folder, bare) as (proxy, number_):
                watched = psutil.Process(number_)
                with context.progress("rounds", 2 * (context.pick(9, 5) + 1)) as advance:
                    figures = added(context, proxy, bare, advance)
                time.sleep(1.0)  # what the rounds recorded is written
                counted = sum(1 for _ in store.rows(kind="route"))
                memory: dict[int, float] = {}

                def look(done: int) -> None:
                    if done % (n // 10) == 0:
                        memory[done] = watched.memory_info().rss / 1e6

                used, began = watched.cpu_times(), time.perf_counter()
                with context.progress("requests of the soak", n) as advance:
                    ends = asyncio.run(soak(proxy, n, context.random("soak"), lambda d: (look(d), advance(1))))
                seconds, after = time.perf_counter() - began, watched.cpu_times()
                cpu = after.user + after.system - used.user - used.system
            found = [str(row["input"]).endswith(LEFT) for row in store.rows(kind="route")]
            rows = found.count(False) - counted
    process.terminate()
    context.facts |= {"ends": ends, "memory_mb": memory, "rows_of_those_who_left": found.count(True)}
    tasks = n - ends.get("untouched", 0) - ends.get("left", 0)
    marks = sorted(memory)
    return figures | {
        "soak.requests": float(n),
        "soak.tasks": float(tasks),
        "soak.rows": float(rows),
        "soak.rows_lost": float(tasks - rows),
        "soak.local": ends.get("small", 0) / n,
        "soak.unexpected": float(sum(v for k, v in ends.items() if k.startswith("status"))),
        "soak.per_second": n / seconds,
        "soak.cpu_ms": 1e3 * cpu / n,
        "soak.memory_growth": memory[marks[-1]] / memory[marks[1]],
        "soak.memory_mb": memory[marks[-1]],
    }


def tables(figures: Figures) -> list[Table]:
    rows = [
        [f"{title}, upstream {'at once' if delay == 'at_once' else 'after 200 ms'}",
         *(interval(figures, f"added.{delay}.{way}.{part}", 2) for part in ("p50", "p99")),
         *(number(figures, f"ms.{delay}.{way}.{part}", 1) for part in ("p50", "p99"))]
        for delay in DELAYS for way, title in WAYS.items()
    ]  # fmt: skip
    latency = Table(
        "serve.latency",
        "Latency through the proxy against the bare upstream",
        ["", "p50, ratio (quartiles)", "p99, ratio (quartiles)", "p50, ms", "p99, ms"],
        rows,
        f"Bare upstream: {number(figures, 'ms.at_once.bare.p50', 1)} ms (p50) at once, "
        f"{number(figures, 'ms.200ms.bare.p50', 1)} ms where it takes 200. {CALLERS} callers at a time.",
    )  # fmt: skip
    soaked = Table(
        "serve.soak",
        "Soak",
        ["requests", "per second", "share local", "rows lost", "unexpected", "memory, end / first fifth", "CPU ms"],
        [[
            number(figures, "soak.requests", 0), number(figures, "soak.per_second", 0), number(figures, "soak.local"),
            number(figures, "soak.rows_lost", 0), number(figures, "soak.unexpected", 0),
            number(figures, "soak.memory_growth", 3), number(figures, "soak.cpu_ms", 1),
        ]],
    )  # fmt: skip
    return [latency, soaked]
