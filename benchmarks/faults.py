"""Every fault of a provider on every way of asking, and kills of everything that writes: `tests/faults`, in full.

A cell is right where the answer is the provider's whole one (or the small model's, where that was wished), or a clear
error, and where recorder, ledger and server agree on what was asked and paid. A kill is SIGKILL at a random moment;
lost is what was acknowledged and is gone, or was asked again beyond the calls in flight.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Context, Figures, Table, number

NOT_RECHECKED = "a test of its own runs a seeded sample (tests/faults)"


def run(context: Context) -> Figures:
    """All cells, and the kills."""
    from tests.faults.kills import WRITERS
    from tests.faults.matrix import CELLS, provider, run_cell

    cells = list(CELLS)
    if context.quick:
        cells = context.random("cells").sample(cells, 60)
    figures: Figures = {"cells": len(cells), "wrong": 0}
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder, provider() as server, context.progress("cells", len(cells)) as done:
        for place, cell in enumerate(cells):
            try:
                problems = run_cell(cell, server, Path(folder) / str(place))
            except Exception as error:
                problems = [f"{cell.name}: {type(error).__name__}"]
            figures["wrong"] += bool(problems)
            found += problems
            done(1)
    for problem in found:
        context.say(problem)
    context.facts["problems"] = found
    each = context.pick(-(-500 // len(WRITERS)), 3)
    figures["kills"] = figures["lost"] = 0
    with context.progress("kills", each * len(WRITERS)) as done:
        for name in WRITERS:
            counted = _killed(name, each, context.seed)
            figures[f"{name}.kills"], figures[f"{name}.lost"] = counted["kills"], counted["lost"] + counted["twice"]
            figures["kills"] += figures[f"{name}.kills"]
            figures["lost"] += figures[f"{name}.lost"]
            done(each)
    return figures


def _killed(name: str, kills: int, seed: int) -> dict[str, int]:
    """One writer, in a process of its own."""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.faults.kills", name, str(kills), str(seed), f"{folder}/work"]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def tables(figures: Figures) -> list[Table]:
    """What was tried, and what went wrong."""
    rows = [("faults x ways x policies x cancelled", number(figures, "cells", 0), number(figures, "wrong", 0))]
    names = sorted(key.removesuffix(".kills") for key in figures if key.endswith(".kills"))
    rows += [
        (f"SIGKILL over {name}", number(figures, f"{name}.kills", 0), number(figures, f"{name}.lost", 0))
        for name in names
    ]
    rows.append(("SIGKILL, all", number(figures, "kills", 0), number(figures, "lost", 0)))
    return [Table("faults", "Faults and kills", ("what", "tried", "wrong or lost"), rows)]
