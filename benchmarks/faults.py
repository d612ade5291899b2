"""Every fault of a provider on every way of asking, and kills of everything that writes: `tests/faults`, in full.

A cell is right where the answer is the provider's whole one (or the small model's, where that was wished), or a clear
error, and where recorder, ledger and server agree on what was asked and paid. A kill is SIGKILL at a random moment;
lost is what was acknowledged and is gone, or was asked again beyond the calls in flight. A trouble is a full disk, a
read-only or vanished folder, a lock that another process holds, a clock set back, a server that stops and comes back,
or two processes at once.
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
            for key in ("", f"way.{cell.who}.", f"fault.{cell.fault}.", f"end.{cell.end or 'left alone'}."):
                if key:
                    figures[f"{key}cells"] = figures.get(f"{key}cells", 0) + 1
                figures[f"{key}wrong"] = figures.get(f"{key}wrong", 0) + bool(problems)
            found += problems
            done(1)
    for problem in found:
        context.say(problem)
    context.facts["problems"] = found
    each = context.pick(-(-500 // len(WRITERS)), 2)
    figures |= dict.fromkeys(("kills", "lost", "troubles"), 0)
    with context.progress("kills", each * len(WRITERS)) as done:
        for name in WRITERS:
            counted = _killed(name, each, context.seed)
            counted["lost"] += counted.pop("twice")
            for key, value in counted.items():
                figures[f"writer.{name}.{key}"] = value
                figures[key] += value
            done(each)
    return figures


def _killed(name: str, kills: int, seed: int) -> dict[str, int]:
    """One writer, in a process of its own."""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.faults.kills", name, str(kills), str(seed), f"{folder}/work"]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    found = json.loads((done.stdout.splitlines() or ["{}"])[-1])
    if done.returncode or "error" in found:
        msg = f"{name}: {(found.get('error') or done.stderr).strip().splitlines()[-1:]}"
        raise RuntimeError(msg)
    return {key: found[key] for key in ("kills", "lost", "twice", "troubles")}


def tables(figures: Figures) -> list[Table]:
    """What was tried, how often, and what went wrong."""
    rows = []
    for part, title in (("way", "asking"), ("fault", "fault"), ("end", "end")):
        names = [key.split(".")[1] for key in figures if key.startswith(f"{part}.") and key.endswith(".cells")]
        rows += [
            (f"{title}: {name}", number(figures, f"{part}.{name}.cells", 0), number(figures, f"{part}.{name}.wrong", 0))
            for name in names
        ]
    rows.append(("all cells", number(figures, "cells", 0), number(figures, "wrong", 0)))
    names = [key[7:-6] for key in figures if key.startswith("writer.") and key.endswith(".kills")]
    killed = [
        (name, *(number(figures, f"writer.{name}.{key}", 0) for key in ("kills", "troubles", "lost"))) for name in names
    ]
    killed.append(("all", *(number(figures, key, 0) for key in ("kills", "troubles", "lost"))))
    return [
        Table(
            "faults", "Faults of a provider", ("tried", "cells", "wrong"), rows, "Each cell counts once in each part."
        ),
        Table("faults.kills", "SIGKILL and other trouble", ("writer", "kills", "troubles", "lost"), killed),
    ]
