"""What certifying costs: 50 thresholds on 10,000, 100,000 and 1,000,000 rows, seconds and memory.

Time is that of one call of `certify` on a table that is in memory and was never seen before, median of several tables,
with the sizes in turn; growth is that of processor time. Memory is the most that Python and NumPy held at once beyond
the table itself.

Reading is that of a Parquet file of such a table, with a hash for each input, by a new process: `batches` is
`Outcomes.from_parquet`, `whole` makes the table from all rows as Python objects. Memory is the most that the process
held, the table included, beyond what it held before.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from benchmarks import streams
from benchmarks.harness import Context, Figures, Table, number

SIZES = (10_000, 100_000, 1_000_000)
QUICK = (1_000, 10_000, 100_000)
WAYS = {"batches": "in batches", "whole": "all rows at once"}
_READER = """
import json, sys, time
from pathlib import Path
from pyarrow.parquet import read_table
from langchain_dsplus.outcomes import Outcomes
def most():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
read = Outcomes.from_parquet if sys.argv[2] == "batches" else lambda path: Outcomes(read_table(path).to_pydict())
read(sys.argv[3])  # imports
before, start = most(), time.process_time()
rows = len(read(sys.argv[1]))
used = time.process_time() - start
print(json.dumps({"cpu_seconds": used, "megabytes": (most() - before) * 1024 / 1e6, "rows": rows}))
"""


def table_of(n: int, seed: int, *, hashed: bool = False) -> Any:
    """A table of the synthetic stream; `hashed`: with a hash for each input."""
    import numpy as np

    from langchain_dsplus.outcomes import Outcomes

    sample = streams.SYNTHETIC.draw(np.random.default_rng(seed), n)
    loss = sample.loss
    answers = np.array(["a", "b"], dtype=object)
    return Outcomes(
        {
            "small": ["a"] * n,
            "large": answers[(loss != 0).astype(int)].tolist(),
            "gold": answers[(loss > 0).astype(int)].tolist(),
            "confidence": sample.scores.tolist(),
            **({"input_hash": [f"{place:032x}" for place in range(n)]} if hashed else {}),
        }
    )


def reading(table: Any) -> Figures:
    """What a process takes to read a table from Parquet."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        path, few = Path(folder) / "rows.parquet", Path(folder) / "few.parquet"
        table.to_parquet(path)
        table.select(range(10)).to_parquet(few)
        for way in WAYS:
            told = [sys.executable, "-c", _READER, str(path), way, str(few)]
            done = subprocess.run(told, capture_output=True, check=True)
            found = json.loads(done.stdout)
            if found.pop("rows") != len(table):
                msg = "rows are missing"
                raise RuntimeError(msg)
            figures |= {f"{len(table)}.{way}.{name}": value for name, value in found.items()}
    return figures


def run(context: Context) -> Figures:
    from langchain_dsplus.threshold.certify import certify

    sizes, rounds = context.pick(SIZES, QUICK), context.pick(3, 2)
    figures: Figures = {}
    seconds: dict[int, list[float]] = {n: [] for n in sizes}
    busy: dict[int, list[float]] = {n: [] for n in sizes}
    certify(table_of(1000, 0))  # imports
    with context.progress("certify", rounds * len(sizes)) as advance:
        for turn in range(rounds):
            for n in sizes:
                # Another table and another number of rows each time: the exact test remembers what it has worked out.
                table = table_of(n - turn, context.random(f"{n}.{turn}").getrandbits(32))
                gc.collect()
                start, start_busy = time.perf_counter(), time.process_time()
                certificate = certify(table)
                seconds[n].append(time.perf_counter() - start)
                busy[n].append(time.process_time() - start_busy)
                figures[f"{n}.steps"] = len(certificate.steps)
                figures[f"{n}.coverage"] = certificate.coverage
                advance(1)
    for n in sizes:
        figures[f"{n}.seconds"] = statistics.median(seconds[n])
        figures[f"{n}.seconds.low"], figures[f"{n}.seconds.high"] = min(seconds[n]), max(seconds[n])
        figures[f"{n}.cpu_seconds"] = statistics.median(busy[n])
        table = table_of(n, context.random(f"{n}.memory").getrandbits(32))
        gc.collect()
        tracemalloc.start()
        certify(table)
        figures[f"{n}.megabytes"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        figures |= reading(table_of(n, context.random(f"{n}.memory").getrandbits(32), hashed=True))
    # Growth per tenfold rows: 10 is linear.
    for before, after in itertools.pairwise(sizes):
        figures[f"{after}.growth"] = figures[f"{after}.cpu_seconds"] / figures[f"{before}.cpu_seconds"]
        figures[f"{after}.memory_growth"] = figures[f"{after}.megabytes"] / figures[f"{before}.megabytes"]
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """What is no time and no memory, at the least size."""
    del figures
    from langchain_dsplus.threshold.certify import certify

    n, turn = context.pick(SIZES, QUICK)[0], context.pick(3, 2) - 1
    certificate = certify(table_of(n - turn, context.random(f"{n}.{turn}").getrandbits(32)))
    return {f"{n}.steps": len(certificate.steps), f"{n}.coverage": certificate.coverage}


def tables(figures: Figures) -> list[Table]:
    sizes = [n for n in sorted({*SIZES, *QUICK}) if f"{n}.seconds" in figures]
    rows = [
        [
            f"{n:,}",
            number(figures, f"{n}.steps", 0),
            number(figures, f"{n}.seconds"),
            f"{number(figures, f'{n}.seconds.low')} to {number(figures, f'{n}.seconds.high')}",
            number(figures, f"{n}.cpu_seconds"),
            number(figures, f"{n}.growth", 1),
            number(figures, f"{n}.megabytes", 0),
            number(figures, f"{n}.memory_growth", 1),
        ]
        for n in sizes
    ]
    read = [
        [f"{n:,}", said, number(figures, f"{n}.{way}.cpu_seconds"), number(figures, f"{n}.{way}.megabytes", 0)]
        for n in sizes
        for way, said in WAYS.items()
        if f"{n}.{way}.megabytes" in figures
    ]
    found = [
        Table(
            "certify_scale",
            "Certifying 50 thresholds",
            ["rows", "steps", "seconds", "least to most", "processor seconds", "growth", "MB", "growth"],
            rows,
            "Growth is the ratio to the row above, 10 if linear: of processor seconds, since others may use the "
            "machine. MB: the most held at once beyond the table.",
        )
    ]
    if read:
        found.append(
            Table(
                "certify_scale_read",
                "Reading the table from Parquet",
                ["rows", "way", "processor seconds", "MB"],
                read,
                "MB: the most that the process held beyond its start, the table included.",
            )
        )
    return found
