"""Does anything grow? Decisions without an end, and what the process holds meanwhile.

First synchronous calls, then concurrent ones with audits, micro-batches and cancellations. Every decision, a cancelled
one too, must leave its row: `lost` are those without. Memory, handles, threads and tasks are looked at forty times;
growth is that of the last fifth over the second one, when everything is warm.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.harness import Context, Figures, Table, number

NOT_RECHECKED = "what is measured is the process"
LOOKS = 40
SECONDS = 240.0
"""For each half: what does not fit in is left out, and `decisions` says so."""
WAVE = 250


class Counter:
    """A recorder that keeps nothing but counts."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self._lock = threading.Lock()

    def record(self, row: Any) -> None:
        with self._lock:
            self.kinds[row["kind"]] = self.kinds.get(row["kind"], 0) + 1


def held(tasks: int = 0) -> dict[str, float]:
    """What the process holds: megabytes, handles, threads, tasks."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE") / 1e6, "handles": len([*Path("/proc/self/fd").iterdir()]),
        "threads": threading.active_count(), "tasks": tasks,
    }  # fmt: skip


class _Looks:
    """Looks at the process now and then, and says when it is enough: after so many decisions, or so many seconds."""

    def __init__(self, context: Context, half: str, wanted: int) -> None:
        self.context, self.half, self.wanted = context, half, wanted
        self.begun, self.seen = time.monotonic(), [held()]

    def go_on(self, made: int, tasks: int = 0) -> bool:
        share = max(made / self.wanted, (time.monotonic() - self.begun) / SECONDS)
        if share * LOOKS >= len(self.seen):
            self.seen.append(held(tasks))
            if len(self.seen) % 10 == 0:
                self.context.say(f"{self.half}: {made:,} decisions")
        return share < 1.0


def _router(recorder: Counter, **options: Any) -> Any:
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import ConfidenceRouter, SmallModel

    class Small(SmallModel):
        """Sure of nine in ten; keeps nothing."""

        def predict_proba(self, inputs: list[Any]) -> Any:
            return [[0.6, 0.4] if text.endswith("0") else [0.99, 0.01] for text in inputs]

        def fingerprint(self) -> str:
            return "soak"

    async def ask(_: Any) -> str:
        await asyncio.sleep(0.001)
        return "b"

    small = Small(labels=["a", "b"])
    large = RunnableLambda(lambda _: "b", afunc=ask).with_types(output_type=str)
    return ConfidenceRouter(small=small, large=large, threshold=0.9, recorder=recorder, **options)


def _sync(context: Context, wanted: int) -> tuple[int, int, list[dict[str, float]]]:
    """Decisions made, rows missing, and what was held."""
    recorder = Counter()
    router = _router(recorder)
    looks, made = _Looks(context, "sync", wanted), 0
    while looks.go_on(made):
        for _ in range(WAVE):
            router.invoke(f"text {made % 1000}")
            made += 1
    router.drain()
    return made, made - recorder.kinds.get("route", 0), looks.seen


async def _async(context: Context, wanted: int) -> tuple[int, int, int, int, list[dict[str, float]]]:
    """Decisions begun, of these cancelled, audited, without a row, and what was held."""
    recorder, rng = Counter(), context.random("cancelled")
    router = _router(recorder, audit_rate=0.05, batch_wait=0.002)
    looks, made, cancelled = _Looks(context, "async", wanted), 0, 0

    async def one(number: int) -> None:
        if number % 7:
            await router.ainvoke(f"text {number % 1000}")
        else:
            async for _ in router.astream(f"text {number % 1000}"):
                pass

    while looks.go_on(made, len(asyncio.all_tasks())):
        tasks = [asyncio.create_task(one(made + n)) for n in range(WAVE)]
        made += WAVE
        await asyncio.sleep(rng.random() * 0.02)
        for task in rng.sample(tasks, WAVE // 10):
            cancelled += task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await router.adrain()
    return made, cancelled, recorder.kinds.get("audit", 0), made - recorder.kinds.get("route", 0), looks.seen


def _growth(seen: list[dict[str, float]], what: str) -> float:
    """The last fifth over the second, less one."""
    fifth = max(1, len(seen) // 5)
    early = statistics.median(one[what] for one in seen[fifth : 2 * fifth])
    late = statistics.median(one[what] for one in seen[-fifth:])
    return late / early - 1.0 if early else late


def run(context: Context) -> Figures:
    """Both halves."""
    warnings.simplefilter("ignore")
    gc.collect()
    figures: Figures = {}
    figures["sync.decisions"], figures["sync.lost"], first = _sync(context, context.pick(1_000_000, 20_000))
    begun, cancelled, audits, lost, second = asyncio.run(_async(context, context.pick(100_000, 10_000)))
    figures |= {"async.decisions": begun, "async.cancelled": cancelled, "async.audits": audits, "async.lost": lost}
    figures["decisions"] = figures["sync.decisions"] + begun
    figures["lost"] = figures["sync.lost"] + lost
    for half, seen in (("sync", first), ("async", second)):
        for what in ("rss", "handles", "threads", "tasks"):
            figures[f"{half}.{what}_growth"] = _growth(seen, what)
            for place, one in enumerate(seen):
                figures[f"{half}.{what}.{place}"] = one[what]
    figures["rss_growth"] = max(figures["sync.rss_growth"], figures["async.rss_growth"])
    _draw(figures, context.result_path("png"))
    return figures


def _draw(figures: Figures, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kinds = {"rss": "memory, MB", "handles": "handles", "threads": "threads", "tasks": "tasks"}
    figure, axes = plt.subplots(2, len(kinds), figsize=(3.2 * len(kinds), 5), layout="constrained", squeeze=False)
    for row, half in zip(axes, ("sync", "async"), strict=True):
        for axis, (what, title) in zip(row, kinds.items(), strict=True):
            line = [figures[f"{half}.{what}.{n}"] for n in range(LOOKS + 1) if f"{half}.{what}.{n}" in figures]
            axis.plot([n / LOOKS for n in range(len(line))], line)
            axis.set_ylim(0, 1.2 * max(*line, 1))
            axis.set_title(f"{half}: {title}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def tables(figures: Figures) -> list[Table]:
    """What was done, and what grew."""
    rows = [
        (
            half, *(number(figures, f"{half}.{name}", 0) for name in ("decisions", "cancelled", "audits", "lost")),
            *(number(figures, f"{half}.{name}_growth", 3) for name in ("rss", "handles", "threads", "tasks")),
        )
        for half in ("sync", "async")
    ]  # fmt: skip
    columns = ("half", "decisions", "cancelled", "audits", "lost", "memory", "handles", "threads", "tasks")
    note = "Memory, handles, threads, tasks: the last fifth over the second, less one."
    return [Table("soak", "Without an end", columns, rows, note)]
