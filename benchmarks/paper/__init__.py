"""The paper's experiments, run again: one module each, `python -m benchmarks paper_NAME`, all of them `make paper`.

A module says what the paper reports (`PAPER`), what differs here (`DIFFERS`), and turns its figures into a sentence
(`verdict`). Every arm has `ARM.accuracy` (percent) with its 95 % interval under `.low` and `.high`, over seeds, and
`ARM.calls` (percent of the inputs that reach the large model). A seed draws the split anew: rows that train, rows that
choose the threshold and rows that are reported are never the same.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Context, Figures, Table, interval, number, wilson

if TYPE_CHECKING:
    import numpy as np

    from benchmarks.disputes import Models

SEEDS = 5


@dataclass(frozen=True)
class Routed:
    """What a router gave on the reported rows: in percent."""

    accuracy: float
    calls: float


def route(small: Any, large: Callable[[Any], str], rows: Sequence[Any], gold: Sequence[str], threshold: Any) -> Routed:
    """Route rows through the package's own router; `rows` are its inputs."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import ConfidenceRouter

    asked = RunnableLambda(large).with_types(output_type=str)
    with ConfidenceRouter(small=small, large=asked, threshold=threshold, include_route=True) as router:
        results = router.batch(list(rows))
    right = [result["output"] == label for result, label in zip(results, gold, strict=True)]
    calls = [not result["route"]["accepted"] for result in results]
    return Routed(100 * sum(right) / len(right), 100 * sum(calls) / len(calls))


def choose(confidence: Sequence[float], small: Sequence[str], large: Sequence[str], gold: Sequence[str]) -> float:
    """The paper's way: the threshold with the best accuracy on rows of its own; the fewest calls among equals."""
    from langchain_dsplus import Outcomes, choose_threshold

    table = Outcomes.from_records(
        {"id": str(n), "small": s, "confidence": float(c), "large": big, "gold": g}
        for n, (c, s, big, g) in enumerate(zip(confidence, small, large, gold, strict=True))
    )
    return float(choose_threshold(table, objective="max_accuracy").threshold)


def over_seeds(arm: str, found: Sequence[Routed]) -> Figures:
    """Mean over seeds, with Student's 95 % interval of the mean."""
    return mean(f"{arm}.accuracy", [r.accuracy for r in found]) | {f"{arm}.calls": average([r.calls for r in found])}


def average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def mean(key: str, values: Sequence[float]) -> Figures:
    """A mean under `key` with Student's 95 % interval; without an interval where there is one value."""
    from scipy import stats

    middle = average(values)
    if len(values) < 2:
        return {key: middle}
    spread = math.sqrt(math.fsum((v - middle) ** 2 for v in values) / (len(values) - 1) / len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return {key: middle, f"{key}.low": middle - half, f"{key}.high": middle + half}


def wilson_of(arm: str, accuracy: float, n: int) -> Figures:
    """The interval of an arm that was measured once, on n rows."""
    low, high = wilson(round(accuracy * n / 100), n)
    return {f"{arm}.accuracy.low": 100 * low, f"{arm}.accuracy.high": 100 * high}


def arms_of(figures: Mapping[str, float]) -> list[str]:
    """The arms in their order."""
    return [key.removesuffix(".accuracy") for key in figures if key.endswith(".accuracy")]


def table(name: str, title: str, figures: Figures, paper: Mapping[str, Any], arms: Mapping[str, str]) -> list[Table]:
    """One row an arm: ours with its interval, calls, and what the paper reports."""
    rows = [
        [
            arms.get(arm, arm),
            interval(figures, f"{arm}.accuracy"),
            number(figures, f"{arm}.calls", 1, " %"),
            _said(paper.get(f"{arm}.accuracy")),
            _said(paper.get(f"{arm}.calls")),
        ]
        for arm in arms_of(figures)
    ]
    return [Table(f"paper_{name}", title, ["", "accuracy, %", "calls", "paper: accuracy, %", "paper: calls"], rows)]


def _said(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, (int, float)) else str(value)


def against(figures: Figures, ours: str, theirs: str) -> str:
    """Whether an arm beats another beyond the noise over seeds, in words; `gain` must be among the figures."""
    low, high = figures[f"gain.{ours}.{theirs}.low"], figures[f"gain.{ours}.{theirs}.high"]
    word = "better than" if low > 0 else "worse than" if high < 0 else "level with"
    return f"{figures[f'gain.{ours}.{theirs}']:+.1f} points ({low:+.1f} to {high:+.1f}), {word}"


def gain(ours: str, theirs: str, found: Mapping[str, Sequence[Routed]]) -> Figures:
    """The difference of two arms' accuracies in points, paired by seed."""
    gaps = [a.accuracy - b.accuracy for a, b in zip(found[ours], found[theirs], strict=True)]
    return mean(f"gain.{ours}.{theirs}", gaps)


def cached_array(name: str, about: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array under `DSPLUS_CACHE`, made once: its name carries the hash of what it is about."""
    import numpy as np

    from langchain_dsplus.weights import cache_dir

    key = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    path = cache_dir() / "benchmarks" / f"{name}-{key}.npy"
    if path.is_file():
        found: np.ndarray = np.load(path, allow_pickle=False)
        return found
    value = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{path}.{os.getpid()}.npy")
    np.save(partial, value, allow_pickle=False)
    partial.replace(path)
    return value


@contextmanager
def local_models(context: Context, name: str) -> Iterator[Models]:
    """Local language models; answers lie in the cache under a name, and a run that was cut off goes on."""
    from benchmarks.disputes import Models
    from benchmarks.disputes.memory import Answers
    from langchain_dsplus.weights import cache_dir

    answers = Answers(cache_dir() / "benchmarks" / f"{name}.jsonl")
    with ExitStack() as stack:
        yield Models(stack, answers)
    context.remembered += answers.remembered


def with_paid(context: Context, local: Mapping[str, str]) -> dict[str, str]:
    """The local models by their keys in the figures; with `--full` and a key in the environment that one as `api`."""
    from benchmarks.disputes import paid_model

    paid = paid_model() if context.full else None
    if paid is None:
        return dict(local)
    context.facts["api"] = paid
    return {**local, "api": paid}


def ask_each(
    context: Context,
    name: str,
    texts: Sequence[str],
    prompt: Callable[[str], list[tuple[str, str]]],
    *,
    paid: bool = False,
    **settings: Any,
) -> list[Any]:
    """Ask a language model about each text once: a local one, or that of the user's key."""
    with (
        local_models(context, context.name) as models,
        context.progress(f"{name}: {len(texts)} questions", len(texts)) as advance,
    ):
        chat = (models.paid(name) if paid else models.local(name)).with_settings(temperature=0, **settings)
        replies = []
        for text in texts:
            replies.append(chat.invoke(prompt(text)))
            advance(1)
    return replies


def need(module: str) -> Any:
    """A package that only these experiments use (`pip install --group bench`)."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        msg = f"`{root}` is not installed: pip install {root}, or `pip install --group bench` in the repository"
        raise ImportError(msg) from error
