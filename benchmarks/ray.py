"""A data set on Ray: the same answers and Routes as here, two workers against one, a worker killed in the middle.

Inputs are vectors that were computed before, as for a data set that an encoder has been over; the small model is one
matrix; the large model is a loopback server that speaks OpenAI's protocol and counts what it is asked. Each run begins
with its own workers, whose start is in its seconds; the cluster's is not. `equal` is the share of Routes and outputs
on Ray that equal those of this process, bit for bit. Where no worker is killed, a merged ledger that is not what the
server counted is an error. In the run `killed` one of two workers is killed, once the server has answered some.
`cpu_seconds` are those of the process that calls and of the workers; `linear` is how much more of them a row takes in
the largest run in this process than in the smallest: 1 is linear. `caller_megabytes` is the most that the process that
calls held beyond its start.
"""

from __future__ import annotations

import functools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Context, Figures, Table, number
from langchain_dsplus.small_models.base import SmallModel

SIZES = {"full": (10_000, 100_000, 1_000_000), "usual": (10_000, 100_000), "quick": (2_000,)}
WIDTH, CLASSES, ESCALATED, BLOCK = 32, 8, 0.002, 1_000
NOT_RECHECKED = "its figures are times of the machine, and a cluster has to be started"


class Matrix(SmallModel):
    """Vectors to probabilities, the same in every process."""

    seed: int = 0

    def predict_proba(self, inputs: Any) -> Any:
        weights = np.random.default_rng(self.seed).standard_normal((WIDTH, CLASSES))
        logits = np.asarray(inputs, dtype=np.float64) @ weights
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def small_model(seed: int) -> Matrix:
    return Matrix(labels=[f"class {i}" for i in range(CLASSES)], seed=seed)


def make_router(url: str, seed: int, threshold: float) -> Any:
    """What every worker makes."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda
    from langchain_openai import ChatOpenAI

    from langchain_dsplus import ConfidenceRouter

    def shown(vector: Any) -> dict[str, str]:
        return {"vector": " ".join(f"{value:.3f}" for value in vector[:4])}

    chat = ChatOpenAI(base_url=url, api_key="none", model="loopback", max_retries=0, timeout=60)
    chain = RunnableLambda(shown) | ChatPromptTemplate.from_messages([("human", "{vector}")]) | chat | StrOutputParser()
    return ConfidenceRouter(small=small_model(seed), large=chain, threshold=threshold, version="loopback")


class Counter:
    """The server's own books."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = self.tokens = 0

    def answer(self, text: str) -> dict[str, Any]:
        with self.lock:
            self.calls += 1
            self.tokens += len(text)
        message = {"role": "assistant", "content": f"class {len(text) % CLASSES}"}
        usage = {"prompt_tokens": len(text), "completion_tokens": 1, "total_tokens": len(text) + 1}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {"id": "x", "object": "chat.completion", "model": "loopback", "choices": [choice], "usage": usage}


@contextmanager
def loopback(books: Counter) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = json.dumps(books.answer(body["messages"][-1]["content"])).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that was killed
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def kill_one(books: Counter, calls: int) -> None:
    """Kill a worker, once the server was asked so often."""
    import psutil

    deadline = time.monotonic() + 120
    while books.calls < calls and time.monotonic() < deadline:
        time.sleep(0.01)
    for child in psutil.Process(os.getpid()).children(recursive=True):
        if any("BlockRouter.route" in part for part in child.cmdline()):
            child.kill()
            return


def one(
    vectors: Any, make: Any, books: Counter, folder: Path, workers: int | None, *, kill: bool = False
) -> tuple[Any, Figures]:
    """Route once; what was written, and what it took."""
    from langchain_dsplus.dataset import route_dataset

    books.calls = books.tokens = 0
    if kill:
        threading.Thread(target=kill_one, args=(books, 3), daemon=True).start()
    with measured() as figures:
        routed = route_dataset(
            vectors, make, folder, ray=None if workers is None else True, workers=workers, block_size=BLOCK,
            keep_inputs=False, progress=False,
        )  # fmt: skip
    large = next((row for row in routed.ledger().table() if row["side"] == "large"), None)
    calls, tokens = (large["calls"], large["input_tokens"]) if large else (0, 0)
    if not kill and (calls, tokens) != (books.calls, books.tokens):
        msg = f"the merged ledger says {calls} calls and {tokens} tokens, the server {books.calls} and {books.tokens}"
        raise RuntimeError(msg)
    return routed, {**figures, "calls": calls, "again": books.calls - calls}


@contextmanager
def measured() -> Iterator[Figures]:
    """What a run takes: seconds, the most that this process holds beyond its start, processor seconds, workers' too."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    found: Figures = {"caller_megabytes": 0.0}
    workers: dict[int, float] = {}
    first, began, busy = process.memory_info().rss, time.perf_counter(), time.process_time()

    def look() -> None:
        while not done.wait(0.5):
            held = (process.memory_info().rss - first) / 1e6
            found["caller_megabytes"] = max(found["caller_megabytes"], held)
            for child in process.children(recursive=True):
                with suppress(psutil.Error):
                    if "BlockRouter" in " ".join(child.cmdline()):
                        workers[child.pid] = sum(child.cpu_times()[:2])

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield found
    finally:
        found["seconds"] = time.perf_counter() - began
        done.set()
        watch.join()
        found["cpu_seconds"] = time.process_time() - busy + sum(workers.values())


def same(one: Any, other: Any) -> int:
    """How many outputs with their Routes are equal; two rows at a time are held."""
    from langchain_dsplus.dataset import Routed

    def decided(routed: Routed) -> Iterator[Any]:
        return ((row.get("output"), row.get("route")) for row in routed.rows() if row["kind"] == "route")

    return sum(a == b for a, b in zip(decided(one), decided(other), strict=True))


def run(context: Context) -> Figures:
    import ray

    sizes = SIZES["full"] if context.full else SIZES["quick"] if context.quick else SIZES["usual"]
    context.seeds["vectors"] = context.seed
    figures: Figures = {"rows": sizes[-1]}
    equal = total = 0
    books = Counter()
    ray.init(num_cpus=2, object_store_memory=400_000_000, include_dashboard=False, log_to_driver=False)
    try:
        with loopback(books) as url:
            for size in sizes:
                vectors = np.random.default_rng(context.seed).standard_normal((size, WIDTH)).astype(np.float32)
                confidence = small_model(context.seed).predict_proba(vectors).max(axis=1)
                threshold = float(np.quantile(confidence, ESCALATED))
                make = functools.partial(make_router, url, context.seed, threshold)
                runs = {"local": (None, False), "one": (1, False), "two": (2, False)}
                runs |= {"killed": (2, True)} if size == sizes[0] else {}
                if context.full and size == sizes[-1]:
                    del runs["one"]  # it takes as long as all others
                with tempfile.TemporaryDirectory() as folder:
                    one(vectors[:1], make, books, Path(folder) / "imports", None)
                    for name, (workers, kill) in runs.items():
                        context.say(f"{size:,} rows, {WORDS[name]}")
                        routed, found = one(vectors, make, books, Path(folder) / name, workers, kill=kill)
                        figures |= {f"{size}.{name}.{key}": value for key, value in found.items()}
                        if name == "local":
                            local = routed
                            continue
                        alike = same(routed, local)
                        figures[f"{size}.{name}.equal"] = alike / size
                        equal, total = equal + alike, total + size
                if "one" in runs:
                    figures["two_vs_one"] = figures[f"{size}.one.seconds"] / figures[f"{size}.two.seconds"]
                    figures[f"{size}.two_vs_one"] = figures["two_vs_one"]
    finally:
        ray.shutdown()
    figures["equal"] = equal / total
    rates = [figures[f"{size}.local.cpu_seconds"] / size for size in sizes]
    figures["linear"] = rates[-1] / rates[0]
    return figures


def tables(figures: Figures) -> list[Table]:
    sizes = sorted({int(name.partition(".")[0]) for name in figures if name[0].isdigit()})
    rows: list[list[str]] = []
    known = 2 * any(name.endswith("caller_megabytes") for name in figures)
    for size in sizes:
        for name in ("local", "one", "two", "killed"):
            at = f"{size}.{name}"
            if f"{at}.seconds" not in figures:
                continue
            seconds = figures[f"{at}.seconds"]
            said = (
                ["", "", ""]
                if name == "local"
                else [
                    f"{100 * figures[f'{at}.equal']:.4g} %",
                    f"{figures[f'{at}.calls']:,.0f}",
                    f"{figures[f'{at}.again']:.0f}",
                ]
            )
            took = [number(figures, f"{at}.{key}", 0) for key in ("cpu_seconds", "caller_megabytes")]
            rows.append([f"{size:,}, {WORDS[name]}", f"{seconds:.1f}", f"{size / seconds:,.0f}", *said, *took[:known]])
    columns = ["rows", "seconds", "rows per second", "equal Routes", "calls in the ledger", "calls asked again"]
    columns += ["processor seconds", "caller, MB"][:known]
    compared = max((size for size in sizes if f"{size}.two_vs_one" in figures), default=0)
    what = "processor seconds (in this process)" if known else "time"
    note = (
        ""
        if not sizes
        else (
            f"Two workers against one at {compared:,} rows: {figures['two_vs_one']:.2f} times as fast. A row "
            f"of the largest run takes {figures['linear']:.2f} times the {what} of one of the smallest."
        )
    )
    return [Table("ray", "A data set, here and on Ray", columns, rows, note)]


WORDS = {
    "local": "in this process",
    "one": "one worker",
    "two": "two workers",
    "killed": "two workers, one killed",
}
