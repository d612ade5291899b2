"""What every benchmark shares: the registry, its context, timing, intervals, tables, the results file.

A benchmark is a module of this package with a docstring, a function `run(context) -> figures` and a function
`tables(figures) -> list[Table]`. Tables are made from the figures alone: the terminal, `README.md` and
`benchmarks/README.md` show the same, and a test can tell when one of them is out of date.

A results file must not be edited by hand. `write` puts a digest of the figures beside them, and a benchmark's function
`recheck(context, figures) -> figures` measures a small seeded part anew, in seconds and without a language model;
`recheck` here compares both, and a test asks it about every results file. A module whose figures are all times, or
that needs what a test cannot have, says so in `NOT_RECHECKED`.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import gc
import hashlib
import importlib
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
PACKAGES = (
    "langchain-dsplus",
    "langchain-core",
    "langgraph",
    "langchain-openai",
    "numpy",
    "pydantic",
    "scikit-learn",
    "sentence-transformers",
    "torch",
    "xllamacpp",
    "cascadeflow",
)

Figures = dict[str, float]


@dataclass(frozen=True)
class Table:
    """A table made from figures: the same in the terminal and in Markdown."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """GitHub Markdown; the first column to the left, numbers to the right."""
        lines = [
            "| " + " | ".join(self.columns) + " |",
            "|" + "|".join(["---", *["---:"] * (len(self.columns) - 1)]) + "|",
            *("| " + " | ".join(_cell(value) for value in row) + " |" for row in self.rows),
        ]
        return "\n".join(lines) + (f"\n\n{self.note}" if self.note else "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


@dataclass
class Context:
    """What a benchmark is given: how big, which seed, where to show progress, what to remember."""

    name: str
    quick: bool = False
    seed: int = 0
    console: Console | None = None
    full: bool = False
    hashes: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    remembered: float = 0.0
    """Seconds that answers from a cache took when they were asked."""

    def pick(self, full: Any, quick: Any) -> Any:
        """One of two sizes."""
        return quick if self.quick else full

    def random(self, purpose: str) -> random.Random:
        """A generator of its own for each purpose, so that adding one never moves another."""
        digest = hashlib.sha256(f"{self.seed}:{purpose}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        self.seeds[purpose] = seed
        return random.Random(seed)

    def hash_file(self, path: str | Path) -> Path:
        """Remember the SHA-256 of a file that the figures depend on."""
        path = Path(path)
        with path.open("rb") as file:
            self.hashes[f"{path.parent.name}/{path.name}"] = hashlib.file_digest(file, "sha256").hexdigest()
        return path

    def hash_value(self, name: str, value: Any) -> None:
        """Remember the SHA-256 of a JSON value."""
        text = json.dumps(value, ensure_ascii=False, sort_keys=True)
        self.hashes[name] = hashlib.sha256(text.encode()).hexdigest()

    def say(self, text: str) -> None:
        """A line for the reader, on stderr."""
        if self.console is not None:
            self.console.print(text, highlight=False)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar on stderr; call what it gives with the steps done."""
        if self.console is None:
            yield lambda _steps: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(description, total=total)
            yield lambda steps: bar.advance(task, steps)

    def result_path(self, suffix: str) -> Path:
        """`results/NAME.json`, `results/NAME.quick.json` or `results/NAME.full.json`."""
        return RESULTS / f"{self.name}{size_suffix(quick=self.quick, full=self.full)}.{suffix}"

    @property
    def command(self) -> str:
        """What to type to get these figures again."""
        size = " --quick" if self.quick else " --full" if self.full else ""
        return f"python -m benchmarks {self.name}{size} --seed {self.seed}"


# --- registry -----------------------------------------------------------------------------------------------


@functools.cache  # sixty files are parsed
def registry() -> dict[str, str]:
    """Every benchmark's name with the first line of its docstring, read without importing anything."""
    found = {}
    # A benchmark is a module, or a package that holds its data too.
    files = {path.stem: path for path in ROOT.glob("*.py")} | {
        path.parent.name: path for path in ROOT.glob("*/__init__.py")
    }
    # The paper's experiments: `paper_NAME` is `paper/NAME.py`.
    files |= {f"paper_{path.stem}": path for path in (ROOT / "paper").glob("*.py")}
    for name, path in sorted(files.items()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            if name in {"harness", "__main__"}:
                continue
            found[name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def load(name: str) -> Any:
    """The module of a benchmark.

    Raises:
        KeyError: If there is none of this name.
    """
    if name not in registry():
        raise KeyError(name)
    family, _, inner = name.partition("_")
    dotted = f"{family}.{inner}" if (ROOT / family / f"{inner}.py").is_file() else name
    return importlib.import_module(f"benchmarks.{dotted}")


def run(
    name: str, *, quick: bool = False, seed: int = 0, console: Console | None = None, full: bool = False
) -> tuple[dict[str, Any], list[Table]]:
    """Run one benchmark; its results file's content and its tables. Writes nothing but the plots it draws."""
    module = load(name)
    context = Context(name, quick=quick, seed=seed, console=console, full=full)
    RESULTS.mkdir(exist_ok=True)
    start = time.monotonic()
    figures = clean(module.run(context))
    body = {
        "figures": figures,
        "digest": digest(figures),
        "command": context.command,
        "seconds": round(time.monotonic() - start, 1),
        "seconds_remembered": round(context.remembered, 1),
        "seeds": {"seed": seed, **context.seeds},
        "hashes": context.hashes,
        "versions": versions(),
        **({"facts": context.facts} if context.facts else {}),
        **said_of(module, figures),
    }
    return body, module.tables(figures)


def said_of(module: Any, figures: Figures) -> dict[str, Any]:
    """For an experiment of the paper: what it reports, what differs here, and the verdict on our figures."""
    if not hasattr(module, "PAPER"):
        return {}
    return {"paper": module.PAPER, "differs": module.DIFFERS, "verdict": module.verdict(figures)}


def clean(figures: Mapping[str, Any]) -> Figures:
    """Flatten nested mappings to dotted keys, plain floats, finite.

    Raises:
        ValueError: If a figure is no finite number.
    """
    flat: Figures = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": number for inner, number in clean(value).items()}
            continue
        number = float(value)
        if not math.isfinite(number):
            msg = f"figure {key!r} is not finite"
            raise ValueError(msg)
        # Six significant digits: what is beyond is noise, and would change the file on every run.
        number = float(f"{number:.6g}")
        flat[key] = int(number) if number.is_integer() and abs(number) < 1e15 else number
    return flat


def digest(figures: Mapping[str, float]) -> str:
    """SHA-256 of figures, whatever their order."""
    text = json.dumps(figures, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: Path, body: Mapping[str, Any]) -> None:
    """Write a results file."""
    path.write_text(json.dumps(body, ensure_ascii=False, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(name: str) -> dict[str, Any] | None:
    """A results file, of the full size where there is one, or None where the benchmark was not run."""
    found = runs(name)
    return found[-1] if found else None


def runs(name: str) -> list[dict[str, Any]]:
    """The results files of a benchmark, that of `--full` last; none where it was not run."""
    paths = (RESULTS / f"{name}.json", RESULTS / f"{name}.full.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def recheck(body: Mapping[str, Any], name: str) -> list[str]:
    """What is wrong with a results file: figures, seeds or hashes that a new measurement of a part does not give.

    Args:
        body: The file's content.
        name: Of the benchmark.

    Returns:
        One line for each thing that is wrong; nothing where all that was measured anew agrees to six digits, or to
        within the module's `RECHECK_TOLERANCE` where its figures hang on the last digits of an encoder.
    """
    figures = body["figures"]
    wrong = [] if body.get("digest") == digest(figures) else ["the figures are not those that the run wrote (digest)"]
    module = load(name)
    if not hasattr(module, "recheck"):
        return wrong
    command = body["command"].split()
    context = Context(name, quick="--quick" in command, full="--full" in command, seed=body["seeds"]["seed"])
    found = clean(module.recheck(context, dict(figures)))
    tolerance = getattr(module, "RECHECK_TOLERANCE", 0.0)
    for key, value in found.items():
        said = figures.get(key, value)  # a file may be older than a figure
        if abs(said - value) > max(tolerance, 2e-5 * abs(value), 1e-9):
            wrong.append(f"{key} is {said}, measured anew {value:.6g}")
    for what, mine in (("seeds", context.seeds), ("hashes", context.hashes)):
        wrong += [f"{what}: {key} differs" for key, value in mine.items() if body[what].get(key, value) != value]
    if not figures.keys() & found:
        wrong.append("nothing was measured anew")
    return wrong


def size_suffix(*, quick: bool, full: bool) -> str:
    """What the name of a results file says about the size of the run."""
    return ".quick" if quick else ".full" if full else ""


def versions() -> dict[str, str]:
    """What the figures were measured on."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    found["cores"] = str(os.cpu_count())
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


# --- timing -------------------------------------------------------------------------------------------------


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection inside a measurement, as `timeit` does it."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def interleave(
    candidates: Mapping[str, Callable[[], Any]],
    *,
    rounds: int,
    number: int,
    rng: random.Random,
    advance: Callable[[int], None] = lambda _steps: None,
) -> dict[str, list[float]]:
    """Time functions side by side: in every round each is called `number` times, in a shuffled order.

    Returns:
        For each candidate the wall seconds of one call in each round. Round i of one belongs with round i of
        another: take ratios round by round, then the median.
    """
    for call in candidates.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(rounds):
        rng.shuffle(names)
        for name in names:
            call = candidates[name]
            with _quiet():
                start = time.perf_counter()
                for _ in range(number):
                    call()
                seconds[name].append((time.perf_counter() - start) / number)
        advance(1)
    return seconds


async def ainterleave(
    candidates: Mapping[str, Callable[[], Awaitable[Any]]],
    *,
    rounds: int,
    number: int,
    rng: random.Random,
    advance: Callable[[int], None] = lambda _steps: None,
) -> dict[str, list[float]]:
    """Async twin of `interleave`, in the running loop; calls one after another."""
    for call in candidates.values():
        await call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for _ in range(rounds):
        rng.shuffle(names)
        for name in names:
            call = candidates[name]
            with _quiet():
                start = time.perf_counter()
                for _ in range(number):
                    await call()
                seconds[name].append((time.perf_counter() - start) / number)
        advance(1)
        await asyncio.sleep(0)
    return seconds


def ratio(key: str, over: Sequence[float], under: Sequence[float]) -> Figures:
    """The median of the round-by-round ratios, with the quartiles of the rounds as `.low` and `.high`."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    low, middle, high = quartiles(ratios)
    return {key: middle, f"{key}.low": low, f"{key}.high": high}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def python(code: str, *, timeout: float = 120.0) -> str:
    """Run a line in a fresh interpreter; its stdout.

    Raises:
        RuntimeError: If it fails; the message carries the end of its stderr.
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT.parent,
        check=False,
    )
    if done.returncode != 0:
        msg = f"a fresh interpreter failed: {done.stderr.strip()[-500:]}"
        raise RuntimeError(msg)
    return done.stdout


# --- statistics ---------------------------------------------------------------------------------------------


def wilson(right: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; (0, 1) without data.

    Source: Wilson (1927), JASA 22(158).
    """
    if n == 0:
        return 0.0, 1.0
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return (0.0 if right == 0 else middle - half), (1.0 if right == n else middle + half)


def share(key: str, hits: Sequence[bool]) -> Figures:
    """A share in percent under `key`, with its Wilson interval."""
    n, right = len(hits), sum(map(bool, hits))
    low, high = wilson(right, n)
    return {key: 100 * right / max(n, 1), f"{key}.low": 100 * low, f"{key}.high": 100 * high}


def paired(key: str, ours: Sequence[bool], theirs: Sequence[bool], rng: random.Random, draws: int = 4000) -> Figures:
    """The difference of two shares on the same rows in points, with a 95 % percentile-bootstrap interval."""
    import numpy as np

    gaps: np.ndarray = np.asarray(ours, dtype=np.int8) - np.asarray(theirs, dtype=np.int8)
    generator = np.random.default_rng(rng.getrandbits(32))
    # Resampling n paired differences in {-1, 0, 1} is one multinomial draw of their counts.
    counts = np.array([(gaps < 0).sum(), (gaps == 0).sum(), (gaps > 0).sum()])
    drawn = generator.multinomial(len(gaps), counts / len(gaps), size=draws)
    low, high = np.percentile((drawn[:, 2] - drawn[:, 0]) / len(gaps), [2.5, 97.5])
    return {key: 100 * float(gaps.mean()), f"{key}.low": 100 * float(low), f"{key}.high": 100 * float(high)}


# --- words --------------------------------------------------------------------------------------------------


def number(figures: Figures, key: str, digits: int = 2, unit: str = "") -> str:
    """A figure for a table; a dash where it was not measured."""
    value = figures.get(key)
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def interval(figures: Figures, key: str, digits: int = 1, *, sign: bool = False) -> str:
    """A figure with its interval."""
    value = figures.get(key)
    if value is None:
        return "-"
    plus = "+" if sign else ""
    low, high = figures.get(f"{key}.low"), figures.get(f"{key}.high")
    text = f"{value:{plus}.{digits}f}"
    return text if low is None or high is None else f"{text} ({low:{plus}.{digits}f} to {high:{plus}.{digits}f})"
