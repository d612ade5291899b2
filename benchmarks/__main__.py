"""`python -m benchmarks`: list the benchmarks. `python -m benchmarks NAME [--quick | --full] [--seed N]`: run one.

The tables go to stdout, progress to stderr; the very last line of stdout is one JSON object with the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from benchmarks import harness
from langchain_dsplus.demo import register_packages


def show(table: harness.Table, console: Console) -> None:
    """Print a table for people."""
    shape = RichTable(title=table.title, title_justify="left", caption=table.note or None)
    for place, column in enumerate(table.columns):
        shape.add_column(escape(column), justify="left" if place == 0 else "right", overflow="fold")
    for row in table.rows:
        shape.add_row(*map(escape, row))
    console.print(shape)


def main(arguments: list[str] | None = None) -> int:
    """List or run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What is claimed, measured.")
    parser.add_argument("name", nargs="?", help="the benchmark; without it, the list")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the same, smaller: within a minute on two cores")
    size.add_argument("--full", action="store_true", help="the same, larger, where a benchmark has more to ask")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--names", action="store_true", help="only the names, one a line")
    options = parser.parse_args(arguments)
    known = harness.registry()

    if options.names:
        sys.stdout.write("".join(f"{name}\n" for name in known))
        return 0
    if options.name is None:
        width = max(map(len, known))
        sys.stdout.write("".join(f"{name:{width}}  {line}\n" for name, line in known.items()))
        return 0
    if options.name not in known:
        parser.error(f"no benchmark {options.name!r}; there are {', '.join(known)}")
    if options.full and "full" not in getattr(harness.load(options.name), "SIZES", {}):
        parser.error(f"{options.name!r} has one size and --quick: leave --full out")

    # A benchmark never downloads a model behind the reader's back, and draws without a window.
    os.environ.setdefault("MPLBACKEND", "Agg")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    register_packages()
    body, tables = harness.run(
        options.name, quick=options.quick, seed=options.seed, console=Console(stderr=True), full=options.full
    )
    suffix = harness.size_suffix(quick=options.quick, full=options.full)
    path = harness.RESULTS / f"{options.name}{suffix}.json"
    harness.write(path, body)
    out = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables:
        show(table, out)
    out.print(f"{body['seconds']} s; written to {path.relative_to(harness.ROOT.parent)}", highlight=False)
    sys.stdout.write(json.dumps(body, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
