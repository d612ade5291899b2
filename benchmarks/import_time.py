"""What importing the package costs, next to langchain-core's own Runnable.

Fresh interpreters, interleaved; processor seconds of the import statement alone, not of the
interpreter's own start; medians. `ratio` compares `from langchain_dsplus import ConfidenceRouter` with
`from langchain_core.runnables import RunnableSerializable`, which the router cannot do without.
"""

from __future__ import annotations

from benchmarks.harness import Context, Figures, Table, interval, number, python, quartiles, ratio

STATEMENTS = {
    "core": "from langchain_core.runnables import RunnableSerializable",
    "router": "from langchain_dsplus import ConfidenceRouter",
    "bare": "import langchain_dsplus",
}


def measure(statement: str) -> float:
    """Processor seconds of one import statement in a fresh interpreter."""
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    return float(python(code))


def run(context: Context) -> Figures:
    rounds = context.pick(25, 9)
    rng = context.random("order")
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    names = list(STATEMENTS)
    with context.progress("imports", (rounds + 1) * len(names)) as advance:
        for turn in range(rounds + 1):
            rng.shuffle(names)
            for name in names:
                spent = measure(STATEMENTS[name])
                if turn > 0:  # the first writes the bytecode caches
                    seconds[name].append(spent)
                advance(1)
    figures = ratio("ratio", seconds["router"], seconds["core"])
    figures |= ratio("bare_ratio", seconds["bare"], seconds["core"])
    for name, values in seconds.items():
        figures[f"milliseconds.{name}"] = 1000 * quartiles(values)[1]
    return figures | {"heavy_packages": heavy_packages()}


def heavy_packages() -> float:
    """How many packages that must not be loaded by importing the router are."""
    heavy = "torch transformers sentence_transformers sklearn scipy openai langgraph pandas matplotlib"
    code = f"import sys; {STATEMENTS['router']}; print(sum(m in sys.modules for m in '{heavy}'.split()))"
    return float(python(code))


def recheck(context: Context, figures: Figures) -> Figures:
    """What is no time."""
    del context, figures
    return {"heavy_packages": heavy_packages()}


def tables(figures: Figures) -> list[Table]:
    rows = [
        [f"`{STATEMENTS['core']}`", number(figures, "milliseconds.core", 0), "1"],
        [
            f"`{STATEMENTS['router']}`",
            number(figures, "milliseconds.router", 0),
            interval(figures, "ratio", 2),
        ],
        [
            f"`{STATEMENTS['bare']}`",
            number(figures, "milliseconds.bare", 1),
            interval(figures, "bare_ratio", 3),
        ],
    ]
    return [
        Table(
            "import_time",
            "Importing",
            ["statement", "CPU ms", "ratio (quartiles)"],
            rows,
            f"Heavy packages loaded by the router's import: {number(figures, 'heavy_packages', 0)}.",
        )
    ]
