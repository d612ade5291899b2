"""Ten rounds of distillation in a row: what the new small model still knows of what the first one knew.

Banking77, as in `distil`: F_s1 from the 231 few-shot gold rows, 2,000 of the queries with recorded GPT-4 labels as
traffic, 1,080 as a hold-out that nothing else sees. The traffic comes in ten parts of 200; each round may read 40 of
GPT-4's labels of its part, and its model is the F_s1 of the next round, as the paper's loop would have it. The
Distiller keeps the rows it paid for, and gold. Kept: the share right of the hold-out rows that the very first F_s1 had
right. Accuracy: over the whole hold-out. The settings are those of `distil`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.certify_real_models import Banking, _Rows
from benchmarks.distil import HOLD_OUT, STUDENTS, Rows, make_small, mean_interval, twocd
from benchmarks.harness import Context, Figures, Table, interval

METHODS = ("2cd", "distiller")
ROUNDS = 10
CALLS = 40
SHOWN = (1, 3, 5, 10)


def judge(model: Any, hold: Rows, knew: np.ndarray) -> dict[str, float]:
    """Accuracy on the hold-out, and on what the first model had right."""
    right = _right(model, hold)
    return {"accuracy": float(right.mean()), "kept": float(right[knew].mean())}


def _right(model: Any, hold: Rows) -> np.ndarray:
    labels = list(model.labels)
    said = np.asarray(model.predict_proba(hold.texts)).argmax(axis=1)
    return np.array([labels[place] == truth for place, truth in zip(said, hold.gold, strict=True)])


def rounds_of(method: str, small: Any, gold: Rows, parts: list[Rows], seed: int) -> Any:
    """The model after each round."""
    from langchain_dsplus.learning.distiller import Distiller

    model, paid, drawn = small, [], []
    pairs = list(zip(gold.texts, gold.gold, strict=True))
    for number, part in enumerate(parts):
        if method == "2cd":
            model = twocd(model, gold, part, CALLS, seed + number)
        else:
            made = Distiller(model, seed=seed + number)
            chosen = made.acquire(part.texts, CALLS)
            random = set(chosen.random)
            for place in chosen.places:
                (drawn if place in random else paid).append((part.texts[place], part.large[place]))
            model = made.distil(pairs, paid, audits=drawn, unlabeled=part.texts).model
        yield model


def run(context: Context) -> Figures:
    banking = Banking(context)
    names = [*banking.labels, "no class"]
    gold = Rows(banking.few.texts, [names[place] for place in banking.few.gold], [])
    final = banking.final
    whole = Rows(final.texts, [names[place] for place in final.gold], [names[place] for place in final.large])
    seeds, students = context.pick(10, 1), context.pick(STUDENTS, STUDENTS[:1])
    encoder = _Rows(banking)
    if "minilm" in students:
        banking.embed([*gold.texts, *whole.texts])
    figures: Figures = {"seeds": seeds, "calls": CALLS, "rounds": ROUNDS}
    with context.progress("retention", len(students) * len(METHODS) * seeds) as advance:
        for student in students:
            small = make_small(student, gold, banking.labels, encoder)
            found: dict[str, list[list[dict[str, float]]]] = {method: [] for method in METHODS}
            for number in range(seeds):
                order = np.random.default_rng([context.seed, number]).permutation(len(whole.texts)).tolist()
                hold, pool = whole.take(order[:HOLD_OUT]), order[HOLD_OUT:]
                size = len(pool) // ROUNDS
                parts = [whole.take(pool[size * part : size * (part + 1)]) for part in range(ROUNDS)]
                knew = _right(small, hold)
                for method in METHODS:
                    models = rounds_of(method, small, gold, parts, 1000 * (context.seed + number))
                    found[method].append([judge(model, hold, knew) for model in models])
                    advance(1)
            ratio = HOLD_OUT / (len(whole.texts) - HOLD_OUT)
            for place in range(ROUNDS):
                for measure in ("kept", "accuracy"):
                    key = f"{student}.round{place + 1}.{measure}"
                    both = {m: [one[place][measure] for one in found[m]] for m in METHODS}
                    for method, values in both.items():
                        figures |= mean_interval(f"{student}.{method}.round{place + 1}.{measure}", values, ratio)
                    gaps = [b - a for a, b in zip(both["2cd"], both["distiller"], strict=True)]
                    figures |= mean_interval(f"{key}_over_2cd", gaps, ratio)
    return figures


def tables(figures: Figures) -> list[Table]:
    rows = []
    titles = {"tfidf": "TF-IDF", "minilm": "MiniLM"}
    for student in STUDENTS:
        for number in SHOWN:
            if f"{student}.2cd.round{number}.kept" not in figures:
                continue
            key = f"round{number}"
            rows.append(
                [
                    f"{titles[student]}, after round {number}",
                    *(interval(figures, f"{student}.{method}.{key}.kept", 3) for method in METHODS),
                    interval(figures, f"{student}.{key}.kept_over_2cd", 3, sign=True),
                    *(interval(figures, f"{student}.{method}.{key}.accuracy", 3) for method in METHODS),
                    interval(figures, f"{student}.{key}.accuracy_over_2cd", 3, sign=True),
                ]
            )
    return [
        Table(
            "retention",
            "Banking77: ten rounds of 40 labels of GPT-4",
            [
                "",
                "kept, 2CD",
                "kept, Distiller",
                "Distiller over 2CD",
                "accuracy, 2CD",
                "accuracy, Distiller",
                "Distiller over 2CD",
            ],
            rows,
            f"{figures.get('seeds', 0):.0f} random splits; corrected resampled t intervals. Kept: share right of the "
            "hold-out rows that the first small model had right.",
        )
    ]
