"""Section 3.1 of the paper (Eqs. 2 to 4): how sure the large model is with each prompt, and whether it is right more.

Questions (TREC, six classes), bank queries (20 intents) and requests of ten domains (CLINC150) that a small model
escalates, asked of local language models with no, soft, hard and keep pruning. Their distribution over the offered
labels comes from the log-probabilities; its entropy is bounded by log M for M offered labels. The paper infers a better
model from a lower bound: here accuracy stands beside it. Each seed draws the rows that train the small model and those
that set its threshold and its proficient classes anew, and is scored on a part of the test rows that no other seed has.
`--full` asks the second local model too and, with `OPENAI_API_KEY` and `OPENAI_MODEL`, that one: it costs money.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks import data, prompts
from benchmarks.harness import Context, Figures, Table, interval, number
from benchmarks.paper import SEEDS, average, local_models, mean, table, with_paid

if TYPE_CHECKING:
    from random import Random

PAPER = {"who": "a proof, no measurement: soft prompts lower the entropy of the input, hard ones the bound to log M"}
DIFFERS = [
    "measured on local models of 0.5 and 1.5 billion parameters, the second on fewer rows and with `--full` only",
    "hard removes the classes that a rule of thumb finds: the bound of `proficient_classes` allows none on so few rows",
    "labels whose tokens the server does not list count as having no probability",
]
NOT_RECHECKED = "every figure comes from a language model that reads the prompts"
MODELS = {"qwen_0_5b": "Qwen-0.5B", "qwen_1_5b": "Qwen-1.5B", "api": "the model of your key"}
LOCAL = {"qwen_0_5b": "qwen2.5-coder-0.5b", "qwen_1_5b": "qwen2.5-coder-1.5b"}
SIZES = {"quick": {"qwen_0_5b": 2}, "default": {"qwen_0_5b": 8}, "full": {"qwen_0_5b": 8, "qwen_1_5b": 3}}
"""Escalated test rows of each set, for each seed."""
TASKS = {name: prompts.TITLES[name] for name in ("trec6", "banking20")} | {"clinc10": "CLINC150, 10 domains"}
PRUNED = {"soft": "soft", "hard": "hard", "keep": "keep"}
ARMS = {
    f"{model}.{task}.{mode}": f"{MODELS[model]}, {title}: {name}"
    for model in MODELS
    for task, title in TASKS.items()
    for mode, name in {"plain": "no pruning", **PRUNED}.items()
}


def clinc(context: Context, rng: Random) -> prompts.Task:
    """Requests by domain: classes that are wider than those of the other sets."""
    import json

    domains = json.loads(context.hash_file(data.find("clinc150") / "domains.json").read_text(encoding="utf-8"))
    domain = {intent: name for name, intents in domains.items() for intent in intents}
    context.hash_file(data.find("clinc150") / "data_full.json")
    train, validation, test = (
        [replace(row, label=domain[row.label]) for row in data.clinc150(split)] for split in ("train", "val", "test")
    )
    for rows in (train, validation, test):
        rng.shuffle(rows)
    return prompts.Task(
        name="clinc10",
        about="You sort what people ask an assistant by its domain.",
        labels=sorted(domains),
        train=prompts.per_class(train, 20),
        validation=validation[: context.pick(800, 300)],
        test=test,
        shots=2,
        rows=len(test),
        right=0.95,
        keep=3,
    )


def tasks(context: Context, seed: int, seeds: int) -> list[prompts.Task]:
    """The sets of one seed: its test rows are those of no other seed."""
    rng = context.random(f"rows {seed}")
    found = [
        prompts.trec(context, rng, fine=False, train=context.pick(1500, 500), shots=3, rows=1000, keep=3),
        prompts.banking(context, rng, per_intent=5, shots=1, rows=1000),
        clinc(context, rng),
    ]
    for place, task in enumerate(found):
        test = sorted(task.test, key=lambda row: row.id)
        context.random(f"test rows of {task.name}").shuffle(test)  # the same order for every seed
        found[place] = replace(task, test=test[seed::seeds][: context.pick(200, 60)])
    return found


def run(context: Context) -> Figures:
    from benchmarks.scores import Vectors

    asked = SIZES["quick" if context.quick else "full" if context.full else "default"]
    seeds = context.pick(SEEDS, 2)
    found: dict[str, list[float]] = {}
    names = with_paid(context, {model: LOCAL[model] for model in asked})
    asked = {model: asked.get(model, max(asked.values())) for model in names}
    total = seeds * len(TASKS) * sum(asked.values())
    with local_models(context, context.name) as models, context.progress("prompts", total) as advance:
        vectors = Vectors()
        cut = [[(t, prompts.prepare(t, vectors)) for t in tasks(context, seed, seeds)] for seed in range(seeds)]
        for model, rows in asked.items():
            chat = models.paid(names[model]) if model == "api" else models.local(names[model])
            chat = chat.with_settings(temperature=0, max_tokens=12, logprobs=True, top_logprobs=20)
            for ready_tasks in cut:
                for task, ready in ready_tasks:
                    for key, value in measure(task, ready, chat, rows, advance).items():
                        found.setdefault(f"{model}.{task.name}.{key}", []).append(value)
    return summarize(found, list(asked))


def measure(task: prompts.Task, ready: prompts.Ready, chat: Any, rows: int, advance: Any) -> Figures:
    """One set and seed: every prompt on the same escalated rows."""
    from langchain_core.exceptions import OutputParserException

    from langchain_dsplus import LabelParser
    from langchain_dsplus.confidence import prediction_entropy

    asked = ready.asked[:rows]
    parser = LabelParser(task.labels, output="answer")
    # Without proficient classes `hard` is the plain prompt, word for word.
    pruners = {mode: ready.pruner(task, mode) for mode in prompts.MODES if mode != "hard" or ready.proficient}
    right: dict[str, int] = dict.fromkeys(pruners, 0)
    entropies: dict[str, list[float]] = {mode: [] for mode in pruners}
    bounds: dict[str, list[float]] = {mode: [] for mode in pruners}
    for row, answer in asked:
        for mode, pruner in pruners.items():
            shown = {"text": row.text, "probabilities": answer}
            offered = pruner.offered(shown)
            reply = chat.invoke(pruner.invoke(shown))
            bounds[mode].append(math.log(len(offered)))
            try:
                said = parser.invoke({"output": reply, "candidates": offered})
            except OutputParserException:
                continue
            right[mode] += said["choice"] == row.label
            entropies[mode].append(prediction_entropy(said["probabilities"]))
        advance(1)
    figures: Figures = {"n": len(asked), "removed": len(ready.proficient)}
    for mode in prompts.MODES:
        like = mode if mode in pruners else "plain"
        figures[f"{mode}.accuracy"] = 100 * right[like] / len(asked)
        figures[f"{mode}.log_m"] = average(bounds[like])
        # Where no reply names a label at all, nothing is known of any.
        figures[f"{mode}.entropy"] = average(entropies[like] or bounds[like])
    return figures


def summarize(found: dict[str, list[float]], models: list[str]) -> Figures:
    """Means over seeds; gains are paired by seed, for each set and over all sets of a model."""
    figures: Figures = {}
    for key, values in found.items():
        figures |= {key: average(values)} if key.endswith((".n", ".removed")) else mean(key, values)
        if key.endswith(".accuracy"):
            figures[key.replace(".accuracy", ".calls")] = 100.0
    for model, mode, kind in itertools.product(models, PRUNED, ("accuracy", "entropy")):
        gaps = []
        for task in TASKS:
            ours, plain = (found[f"{model}.{task}.{each}.{kind}"] for each in (mode, "plain"))
            gaps.append([a - b for a, b in zip(ours, plain, strict=True)])
            figures |= mean(f"{model}.{task}.{kind}_over_plain.{mode}", gaps[-1])
        figures |= mean(f"{model}.{kind}_over_plain.{mode}", [average(each) for each in zip(*gaps, strict=True)])
    return figures


def verdict(figures: Figures) -> str:
    lower, better = [], []
    for arm in ARMS:
        cell, _, mode = arm.rpartition(".")
        if mode in PRUNED and f"{arm}.accuracy" in figures:
            lower.append(figures[f"{cell}.entropy_over_plain.{mode}"] < 0.0)
            better.append(figures[f"{cell}.accuracy_over_plain.{mode}"] > 0.0)
    both = sum(a and b for a, b in zip(lower, better, strict=True))
    gains = []
    for model, title in MODELS.items():
        said = ", ".join(f"{mode} {_gain(figures, model, mode)}" for mode in PRUNED)
        gains += [f"{title} {said}"] * (f"{model}.accuracy_over_plain.keep" in figures)
    return (
        f"Of {len(lower)} pruned prompts {sum(lower)} make the model surer (lower entropy), {sum(better)} make it "
        f"right more often, {both} do both. Points of accuracy over the plain prompt, all sets: {'; '.join(gains)}."
    )


def _gain(figures: Figures, model: str, mode: str) -> str:
    return interval(figures, f"{model}.accuracy_over_plain.{mode}", sign=True)


def tables(figures: Figures) -> list[Table]:
    rows = []
    for arm, title in ARMS.items():
        cell, _, mode = arm.rpartition(".")
        if f"{arm}.accuracy" in figures:
            gap = f"{cell}.accuracy_over_plain.{mode}"
            entropy = interval(figures, f"{arm}.entropy", 2)
            rows.append([title, entropy, number(figures, f"{arm}.log_m"), interval(figures, gap, sign=True)])
    for model, mode in itertools.product(MODELS, PRUNED):
        key = f"{model}.entropy_over_plain.{mode}"
        if key in figures:
            title = f"{MODELS[model]}, all sets: {mode}"
            entropy = f"{interval(figures, key, 2, sign=True)} over no pruning"
            rows.append([title, entropy, "-", _gain(figures, model, mode)])
    columns = ["", "entropy, nats", "log M", "accuracy over no pruning, points"]
    bounds = Table("paper_entropy.bounds", "Entropy and its bound (3.1)", columns, rows)
    return [*table("entropy", "Accuracy of each prompt (3.1)", figures, PAPER, ARMS), bounds]
