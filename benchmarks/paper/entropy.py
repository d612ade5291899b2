"""Section 3.1 of the paper (Eqs. 2 to 4): how sure the large model is with each prompt, and whether it is right more.

Questions (TREC, six classes) and bank queries (20 intents) that the small model escalates, asked of a local language
model with no, soft, hard and keep pruning. Its distribution over the offered labels comes from the log-probabilities;
its entropy is bounded by log M for M offered labels. The paper infers a better model from a lower bound: here accuracy
stands beside it.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

from benchmarks import prompts
from benchmarks.harness import Context, Figures, Table, number, paired, share
from benchmarks.paper import average, mean, table

PAPER = {"who": "a proof, no measurement: soft prompts lower the entropy of the input, hard ones the bound to log M"}
DIFFERS = [
    "measured on a local model of half a billion parameters",
    "intervals over the rows, not over seeds: one split, since each reply takes seconds",
    "labels whose tokens the server does not list count as having no probability",
]
NOT_RECHECKED = "every figure comes from a language model that reads the prompts"
TASKS = ("trec6", "banking20")
ARMS = {
    f"{task}.{mode}": f"{prompts.TITLES[task]}: {name}"
    for task in TASKS
    for mode, name in {"plain": "no pruning", "soft": "soft", "hard": "hard", "keep": "keep"}.items()
}


def run(context: Context) -> Figures:
    from benchmarks.disputes import Models
    from benchmarks.disputes.memory import Answers
    from langchain_dsplus.weights import cache_dir

    answers = Answers(cache_dir() / "benchmarks" / f"{context.name}.jsonl")
    figures: Figures = {}
    with ExitStack() as stack:
        chat = Models(stack, answers).local(prompts.LOCAL)
        chat = chat.with_settings(temperature=0, max_tokens=12, logprobs=True, top_logprobs=20)
        for task in prompts.tasks(context):
            if task.name in TASKS:
                figures |= {f"{task.name}.{key}": value for key, value in measure(context, task, chat).items()}
    return figures


def measure(context: Context, task: prompts.Task, chat: Any) -> Figures:
    """One set: every prompt on the same escalated rows."""
    from langchain_core.exceptions import OutputParserException

    from langchain_dsplus import LabelParser
    from langchain_dsplus.confidence import prediction_entropy

    ready = prompts.prepare(task)
    rows = ready.asked[: context.pick(40, 3)]
    parser = LabelParser(task.labels, output="answer")
    right: dict[str, list[bool]] = {}
    figures: Figures = {"n": len(rows), "labels": len(task.labels), "removed": len(ready.proficient)}
    with context.progress(task.name, len(rows) * len(prompts.MODES)) as advance:
        for mode in prompts.MODES:
            pruner = ready.pruner(task, mode)
            entropies, bounds, right[mode] = [], [], []
            for row, answer in rows:
                asked = {"text": row.text, "probabilities": answer}
                offered = pruner.offered(asked)
                reply = chat.invoke(pruner.invoke(asked))
                try:
                    found = parser.invoke({"output": reply, "candidates": offered})
                except OutputParserException:
                    right[mode].append(False)
                else:
                    right[mode].append(found["choice"] == row.label)
                    entropies.append(prediction_entropy(found["probabilities"]))
                bounds.append(math.log(len(offered)))
                advance(1)
            accuracy = share(mode, right[mode])
            figures |= {key.replace(mode, f"{mode}.accuracy", 1): value for key, value in accuracy.items()}
            figures |= mean(f"{mode}.entropy", entropies) if entropies else {}
            figures[f"{mode}.log_m"] = average(bounds)
            figures[f"{mode}.calls"] = 100.0
    rng = context.random(f"{task.name}: pairs")
    for mode in ("soft", "hard", "keep"):
        figures |= paired(f"gain.{mode}", right[mode], right["plain"], rng)
    return figures


def verdict(figures: Figures) -> str:
    lower, better = [], []
    for task in TASKS:
        for mode in ("soft", "hard", "keep"):
            plain, ours = figures.get(f"{task}.plain.entropy"), figures.get(f"{task}.{mode}.entropy")
            if plain is None or ours is None:
                continue
            lower.append(ours < plain)
            better.append(figures[f"{task}.gain.{mode}"] > 0.0)
    both = sum(a and b for a, b in zip(lower, better, strict=True))
    return (
        f"Of {len(lower)} pruned prompts {sum(lower)} make the model surer (lower entropy), {sum(better)} make it "
        f"right more often, {both} do both."
    )


def tables(figures: Figures) -> list[Table]:
    rows = [
        [
            ARMS[arm],
            number(figures, f"{arm}.entropy", 3),
            number(figures, f"{arm}.log_m", 3),
            number(figures, f"{arm.replace('.', '.gain.')}", 1),
        ]
        for arm in ARMS
    ]
    columns = ["", "entropy, nats", "log M", "accuracy against no pruning, points"]
    entropy = Table("paper_entropy.bounds", "Entropy and its bound (3.1)", columns, rows)
    return [*table("entropy", "Accuracy of each prompt (3.1)", figures, PAPER, ARMS), entropy]
