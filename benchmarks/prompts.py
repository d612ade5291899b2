"""Four prompts for what the small model is unsure of, answered by a real LLM that sees them.

Plain, soft (every candidate with its probability), hard (the classes that the small model excels at are removed), keep
(its few likeliest candidates), on sets with many classes. Scored on test rows that the small model escalates: the only
rows on which prompts differ. The small model is trained on few rows; threshold and proficient classes come from
validation rows; differences are to the plain prompt on the same rows. `small` is the small model's own answer on those
rows, `offered` the share of rows whose true class a prompt still offers.

The LLM is the local one over HTTP (`--quick` asks it about fewer rows); with `OPENAI_API_KEY` set (and
`OPENAI_BASE_URL`, `OPENAI_MODEL`) it is that one, and the run costs money.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval, number, paired, share

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

MODES = {"plain": "none", "soft": "soft", "hard": "hard", "keep": "keep"}
TITLES = {"trec6": "TREC, 6 classes", "trec50": "TREC, 50 classes", "banking20": "Banking77, 20 intents on cards"}
LOCAL = "qwen2.5-coder-0.5b"
RECHECK_TOLERANCE = 2.5  # an encoder's last digits may move a row or two of fifty over the threshold
MIN_RECALL = 0.8  # share of a class's validation rows that must be accepted before `hard` leaves the class out


@dataclass(frozen=True)
class Task:
    """One data set, cut: nothing is chosen on `test`."""

    name: str
    about: str
    labels: list[str]
    train: list[data.TextRow]
    validation: list[data.TextRow]
    test: list[data.TextRow]
    shots: int
    """Examples for each class in the prompt, the same in every mode."""
    rows: int
    """Escalated test rows to ask about."""
    right: float
    """Share that must be right among accepted validation rows: the rule that sets the threshold."""
    keep: int
    """Candidates that `keep` offers."""


def per_class(rows: Sequence[data.TextRow], count: int) -> list[data.TextRow]:
    """The first rows of each class."""
    seen: dict[str, int] = {}
    chosen = []
    for row in rows:
        seen[row.label] = seen.get(row.label, 0) + 1
        if seen[row.label] <= count:
            chosen.append(row)
    return chosen


def trec(context: Context, rng: Random, *, fine: bool, train: int, shots: int, rows: int, keep: int) -> Task:
    for file in ("train_5500.label", "TREC_10.label"):
        context.hash_file(data.find("trec") / file)
    known, test = data.trec("train", fine=fine), data.trec("test", fine=fine)
    rng.shuffle(known)
    rng.shuffle(test)
    return Task(
        name=f"trec{50 if fine else 6}",
        about="You classify questions by the kind of answer they ask for.",
        labels=sorted({row.label for row in known}),
        train=known[:train],
        validation=known[train : train + context.pick(1400, 400)],
        test=test[: context.pick(None, 150)],
        shots=shots,
        rows=rows,
        right=0.9,
        keep=keep,
    )


def banking(context: Context, rng: Random, *, per_intent: int, shots: int, rows: int) -> Task:
    folder = data.find("banking77_gpt")
    for file in ("train.csv", "test.csv", "categories.json"):
        context.hash_file(folder / file)
    labels = [name for name in data.banking77_labels() if "card" in name][:20]
    known: list[data.TextRow] = [row for row in data.banking77_gpt("train") if row.label in labels]
    test: list[data.TextRow] = [row for row in data.banking77_gpt("test") if row.label in labels]
    rng.shuffle(known)
    rng.shuffle(test)
    train = per_class(known, per_intent)
    taken = {row.id for row in train}
    return Task(
        name="banking20",
        about="You sort messages to a bank by what the customer wants.",
        labels=labels,
        train=train,
        validation=[row for row in known if row.id not in taken][: context.pick(800, 300)],
        test=test[: context.pick(None, 150)],
        shots=shots,
        rows=rows,
        right=0.95,
        keep=5,
    )


def tasks(context: Context) -> list[Task]:
    rng = context.random("rows")
    found = [
        trec(context, rng, fine=False, train=context.pick(1500, 500), shots=3, rows=context.pick(80, 4), keep=3),
        banking(context, rng, per_intent=5, shots=1, rows=context.pick(50, 2)),
    ]
    if not context.quick:
        found.insert(1, trec(context, rng, fine=True, train=4000, shots=1, rows=40, keep=5))
    return found


@contextmanager
def language_model(context: Context) -> Iterator[Any]:
    """The model that sees the prompts."""
    settings = {"temperature": 0, "max_tokens": 16, "logprobs": True, "top_logprobs": 5}
    if os.environ.get("OPENAI_API_KEY"):
        from langchain_openai import ChatOpenAI

        name = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
        context.facts["model"] = name
        yield ChatOpenAI(model=name, **settings)
        return
    from langchain_dsplus.local.server import serve_model

    context.facts["model"] = LOCAL
    with serve_model(LOCAL, n_ctx=4096) as server:
        yield server.chat_model(**settings)


def messages(task: Task) -> list[tuple[str, str]]:
    """One prompt for all modes; only what stands for {candidates} differs."""
    examples = "\n".join(f"{row.text} -> {row.label}" for row in per_class(task.train, task.shots))
    escaped = f"{task.about}\n\nExamples:\n{examples}".replace("{", "{{").replace("}", "}}")
    question = "Candidates:\n{candidates}\n\nText: {text}\n\nAnswer with exactly one candidate, and nothing else."
    return [("system", escaped), ("human", question)]


def set_threshold(confidences: Sequence[float], right: Sequence[bool], wanted: float) -> float:
    """The lowest threshold above which the wanted share of validation rows is right; the highest confidence if none."""
    ordered = sorted(zip(confidences, right, strict=True), reverse=True)
    best, hits = ordered[0][0], 0
    for place, (confidence, hit) in enumerate(ordered, 1):
        hits += hit
        following = ordered[place][0] if place < len(ordered) else 0.0
        if hits / place >= wanted and following < confidence:
            best = (confidence + following) / 2
    return best


@dataclass(frozen=True)
class Ready:
    """What is known before any prompt is asked.

    Attributes:
        small: The small model.
        threshold: From the validation rows.
        proficient: Classes that `hard` removes.
        asked: The escalated test rows, with the small model's answers, that are asked about.
        figures: What these say by themselves.
    """

    small: Any
    threshold: float
    proficient: Any
    asked: list[tuple[data.TextRow, Any]]
    figures: Figures

    def pruner(self, task: Task, mode: str) -> Any:
        """The prompt of a mode."""
        from langchain_dsplus import PromptPruner

        return PromptPruner.from_messages(
            messages(task),
            labels=task.labels,
            pruning=MODES[mode],
            proficient=self.proficient if mode == "hard" else None,
            top_k=task.keep,
        )

    def offered(self, pruner: Any) -> float:
        """Share of the asked rows whose true class a prompt still offers, in percent."""
        kept = [row.label in pruner.offered({"text": row.text, "probabilities": answer}) for row, answer in self.asked]
        return 100 * sum(kept) / len(kept)


def prepare(task: Task, encoder: Any = "sentence-transformers/all-MiniLM-L6-v2") -> Ready:
    """Train the small model, set the threshold, find the rows to ask about."""
    from langchain_dsplus import SentenceClassifier
    from langchain_dsplus.prompts import proficient_classes

    small = SentenceClassifier(encoder, labels=task.labels, input_key="text")
    small.fit([row.text for row in task.train], [row.label for row in task.train])
    seen = small.batch([row.text for row in task.validation])
    right = [answer["choice"] == row.label for answer, row in zip(seen, task.validation, strict=True)]
    threshold = set_threshold([answer["confidence"] for answer in seen], right, task.right)
    outcomes = [
        {"small": answer["choice"], "confidence": answer["confidence"], "gold": row.label}
        for row, answer in zip(task.validation, seen, strict=True)
    ]
    proficient = proficient_classes(outcomes, threshold, labels=task.labels, max_risk=None, min_recall=MIN_RECALL)

    answers = small.batch([row.text for row in task.test])
    hard = [(row, a) for row, a in zip(task.test, answers, strict=True) if not a["confidence"] > threshold]
    asked = hard[: task.rows]
    if not asked:
        msg = f"the small model escalates no test row of {task.name}: train it on fewer rows"
        raise RuntimeError(msg)
    figures: Figures = {
        "n": len(asked),
        "labels": len(task.labels),
        "threshold": threshold,
        "escalated": 100 * len(hard) / len(task.test),
        "removed": len(proficient),
        **share("small", [answer["choice"] == row.label for row, answer in asked]),
    }
    return Ready(small, threshold, proficient, asked, figures)


def measure(context: Context, task: Task, llm: Any) -> Figures:
    """Put the same escalated rows to every prompt."""
    from langchain_core.callbacks import UsageMetadataCallbackHandler
    from langchain_core.exceptions import OutputParserException

    from langchain_dsplus import ConfidenceRouter

    ready = prepare(task)
    asked, figures = ready.asked, dict(ready.figures)
    gold = [row.label for row, _ in asked]
    by_mode: dict[str, list[bool]] = {}
    with context.progress(task.name, len(MODES) * len(asked)) as advance:
        for mode in MODES:
            if mode == "hard" and not ready.proficient:  # nothing to remove: the plain prompt, word for word
                by_mode[mode] = by_mode["plain"]
                figures |= {k.replace("plain", mode): v for k, v in figures.items() if "plain" in k}
                advance(len(asked))
                continue
            pruner = ready.pruner(task, mode)
            usage = UsageMetadataCallbackHandler()
            router = ConfidenceRouter(small=ready.small, large=pruner.chain(llm), threshold=ready.threshold)
            outputs = []
            start = time.perf_counter()
            for row, _ in asked:
                # A reply that names no candidate is an exception in its place, and counts as wrong.
                outputs += router.batch([{"text": row.text}], {"callbacks": [usage]}, return_exceptions=True)
                advance(1)
            seconds = time.perf_counter() - start
            by_mode[mode] = [output == label for output, label in zip(outputs, gold, strict=True)]
            figures |= share(mode, by_mode[mode])
            tokens = sum(used["input_tokens"] for used in usage.usage_metadata.values())
            missed = sum(isinstance(output, OutputParserException) for output in outputs)
            failed = next(
                (e for e in outputs if isinstance(e, Exception) and not isinstance(e, OutputParserException)), None
            )
            if failed is not None:
                raise failed
            figures[f"tokens.{mode}"] = tokens / len(asked)
            figures[f"seconds.{mode}"] = seconds / len(asked)
            figures[f"unmatched.{mode}"] = 100 * missed / len(asked)
            figures[f"offered.{mode}"] = ready.offered(pruner)
    rng = context.random(f"{task.name}: bootstrap")
    for mode in ("soft", "hard", "keep"):
        figures |= paired(f"{mode}_gain", by_mode[mode], by_mode["plain"], rng)
    return figures


def run(context: Context) -> Figures:
    figures: Figures = {}
    with language_model(context) as llm:
        for task in tasks(context):
            context.say(f"{TITLES[task.name]}: training the small model")
            figures |= {f"{task.name}.{key}": value for key, value in measure(context, task, llm).items()}
    draw(figures, context.result_path("png"))
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """All that needs no language model, of the set with the shortest texts."""
    del figures
    task = next(task for task in tasks(context) if task.name == "banking20")
    ready = prepare(task)
    found = {**ready.figures, **{f"offered.{mode}": ready.offered(ready.pruner(task, mode)) for mode in MODES}}
    return {f"{task.name}.{key}": value for key, value in found.items()}


def draw(figures: Figures, path: Path) -> None:
    """Accuracy of each prompt with its interval."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [name for name in TITLES if f"{name}.n" in figures]
    figure, axes = plt.subplots(1, len(shown), figsize=(4 * len(shown), 3.6), layout="constrained", sharey=True)
    for axis, name in zip(axes if len(shown) > 1 else [axes], shown, strict=True):
        bars = ["small", *MODES]
        values = [figures[f"{name}.{bar}"] for bar in bars]
        below = [value - figures[f"{name}.{bar}.low"] for bar, value in zip(bars, values, strict=True)]
        above = [figures[f"{name}.{bar}.high"] - value for bar, value in zip(bars, values, strict=True)]
        colors = ["lightgray", *["tab:blue"] * len(MODES)]
        axis.bar(bars, values, yerr=[below, above], color=colors, capsize=3)
        axis.set(title=f"{TITLES[name]} (n = {figures[f'{name}.n']:.0f})", ylim=(0, 100))
    figure.supylabel("right on escalated rows, %", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def tables(figures: Figures) -> list[Table]:
    found = []
    for name, title in TITLES.items():
        if f"{name}.n" not in figures:
            continue
        rows = [["small model itself", interval(figures, f"{name}.small"), "", "", "", ""]]
        rows += [
            [
                mode,
                interval(figures, f"{name}.{mode}"),
                interval(figures, f"{name}.{mode}_gain", sign=True) if mode != "plain" else "",
                number(figures, f"{name}.offered.{mode}", 0),
                number(figures, f"{name}.unmatched.{mode}", 0),
                number(figures, f"{name}.tokens.{mode}", 0),
            ]
            for mode in MODES
        ]
        note = (
            f"{number(figures, f'{name}.escalated', 0)} % of the test rows are escalated at threshold "
            f"{number(figures, f'{name}.threshold')}; {number(figures, f'{name}.n', 0)} of them are asked. "
            f"hard removes {number(figures, f'{name}.removed', 0)} of {number(figures, f'{name}.labels', 0)} classes."
        )
        columns = [
            "prompt",
            "right on escalated rows, % (95 %)",
            "against plain, points (95 %)",
            "true class offered, %",
            "no label, %",
            "tokens per prompt",
        ]
        found.append(Table(f"prompts.{name}", title, columns, rows, note))
    return found or [Table("prompts.none", "Prompts", ["prompt"], [])]
