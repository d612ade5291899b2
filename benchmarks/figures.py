"""Write the tables of the READMEs and of `docs/ray.md` from `benchmarks/results/*.json`: `make figures`.

`--check` only compares. A table stands between two markers, `<!-- figures:NAME -->` and `<!-- /figures:NAME -->`; NAME
is a table's name (`replay.chaosnli`) or a benchmark's (all of its tables); `paper` is one line for each of the paper's
experiments, with its verdict.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGES = (harness.ROOT.parent / "README.md", harness.ROOT / "README.md", harness.ROOT.parent / "docs" / "ray.md")
_BLOCK = re.compile(r"(<!-- figures:(?P<name>[\w.-]+) -->\n).*?(<!-- /figures:(?P=name) -->)", re.DOTALL)


def tables_of(benchmark: str) -> list[Table] | None:
    """The tables of a benchmark's results file; None where it was not run.

    Raises:
        KeyError: If there is no such benchmark.
    """
    if benchmark == "paper":
        return [paper_table()]
    module, runs = harness.load(benchmark), harness.runs(benchmark)
    found = [(command_of(body), table) for body in runs for table in module.tables(body["figures"])]
    # Of two sizes each table says whose it is.
    return [replace(t, title=f"{t.title}: {c}") if len(runs) > 1 else t for c, t in found] or None


def paper_table() -> Table:
    """The paper's experiments, one row each: what it is, what came out here, the command."""
    rows, together = [], 0.0
    for name, about in harness.registry().items():
        if not name.startswith("paper_"):
            continue
        where, _, what = about.rstrip(".").partition(": ")
        runs = harness.runs(name)
        said = harness.load(name).verdict(runs[-1]["figures"])
        # Answers that lay in the cache count with the time that they took when they were asked.
        minutes = [(run["seconds"] + run.get("seconds_remembered", 0.0)) / 60 for run in runs]
        together += minutes[0] if name != "paper_lora" else 0.0
        took = [f"{max(1.0, each):.0f}" for each in minutes]
        rows.append([f"{where.replace(' of the paper', '')}: {what}", said, command_of(runs[-1]), ", full ".join(took)])
    note = f"minutes (`make paper`, all but Figure 6: {together:.0f})"
    return Table("paper", "The paper's experiments, run again", ["in the paper", "here (95 %)", "command", note], rows)


def command_of(body: dict[str, Any]) -> str:
    """What a results file was written by."""
    return f"`{body['command'].removesuffix(' --seed 0')}`"


def block(name: str, find: Callable[[str], list[Table] | None] = tables_of) -> str:
    """What stands between the markers of a name.

    Raises:
        KeyError: If no benchmark, or no table of it, has this name.
    """
    benchmark = name.partition(".")[0]
    tables = find(benchmark)
    if tables is None:
        return f"Not run yet: `python -m benchmarks {benchmark}`.\n"
    chosen = [table for table in tables if name in {benchmark, table.name}]
    if not chosen:
        raise KeyError(name)
    if len(chosen) == 1:
        return f"{chosen[0].markdown()}\n"
    return "\n".join(f"**{table.title}**\n\n{table.markdown()}\n" for table in chosen)


def render(text: str, find: Callable[[str], list[Table] | None] = tables_of) -> str:
    """A page with every marked block written anew; the rest stays as it is."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{block(match['name'], find)}\n{match[3]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Write, or compare; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description="Tables into the READMEs.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is out of date")
    options = parser.parse_args(arguments)
    stale: list[Path] = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = render(old)
        if new == old:
            continue
        stale.append(page)
        if not options.check:
            page.write_text(new, encoding="utf-8")
    for page in stale:
        verb = "out of date: run `make figures`" if options.check else "written"
        sys.stdout.write(f"{page.relative_to(harness.ROOT.parent)}: {verb}\n")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
