"""Ten rounds of distillation in a row: what the new small model still knows of what the first one knew.

Banking77, as in `distil`: F_s1 from the 231 few-shot gold rows, 2,000 of the queries with recorded GPT-4 labels as
traffic, 1,080 as a hold-out that nothing else sees. The traffic comes in ten parts of 200; each round may read 40 of
GPT-4's labels of its part, and its model is the F_s1 of the next round, as the paper's loop would have it. The
Distiller keeps the rows it paid for, and gold. `one_fit` is what anybody would write: 40 random rows of each part with
GPT-4's labels as they are, added to gold and to those before, one fit. Kept: the share right of the hold-out rows that
the very first F_s1 had right. Accuracy: over the whole hold-out. The settings are those of `distil`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.certify_real_models import Banking, _Rows
from benchmarks.distil import HOLD_OUT, STUDENTS, Rows, asked, fit_anew, make_small, mean_interval, twocd
from benchmarks.harness import Context, Figures, Table, interval, number

METHODS = ("2cd", "one_fit", "distiller")
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
    answered = Rows([], [], [])
    pairs = list(zip(gold.texts, gold.gold, strict=True))
    for turn, part in enumerate(parts):
        if method == "2cd":
            model = twocd(model, gold, part, CALLS, seed + turn)
        elif method == "one_fit":
            places = np.random.default_rng([seed, turn]).permutation(len(part.texts))[:CALLS]
            more = part.take(places.tolist())
            answered = Rows(answered.texts + more.texts, answered.gold + more.gold, answered.large + more.large)
            model = fit_anew(small, gold, answered)
        else:
            made = Distiller(model, seed=seed + turn)
            for places, goal in zip(asked(made, part.texts, CALLS), (paid, drawn), strict=True):
                goal += [(part.texts[place], part.large[place]) for place in places]
            model = made.distil(pairs, paid, audits=drawn, unlabeled=part.texts).model
        yield model


def rows_of(banking: Banking) -> tuple[Rows, Rows]:
    """Gold rows, and all rows of the traffic."""
    names = [*banking.labels, "no class"]
    final = banking.final
    gold = Rows(banking.few.texts, [names[place] for place in banking.few.gold], [])
    return gold, Rows(final.texts, [names[place] for place in final.gold], [names[place] for place in final.large])


def cut(whole: Rows, seed: int, turn: int) -> tuple[Rows, list[Rows]]:
    """The hold-out, and the traffic in its parts."""
    order = np.random.default_rng([seed, turn]).permutation(len(whole.texts)).tolist()
    pool = order[HOLD_OUT:]
    size = len(pool) // ROUNDS
    parts = [whole.take(pool[size * part : size * (part + 1)]) for part in range(ROUNDS)]
    return whole.take(order[:HOLD_OUT]), parts


def run(context: Context) -> Figures:
    banking = Banking(context)
    gold, whole = rows_of(banking)
    seeds, students = context.pick(10, 1), context.pick(STUDENTS, STUDENTS[:1])
    encoder = _Rows(banking)
    if "minilm" in students:
        banking.embed([*gold.texts, *whole.texts])
    figures: Figures = {"seeds": seeds, "calls": CALLS, "rounds": ROUNDS}
    with context.progress("retention", len(students) * len(METHODS) * seeds) as advance:
        for student in students:
            small = make_small(student, gold, banking.labels, encoder)
            found: dict[str, list[list[dict[str, float]]]] = {method: [] for method in METHODS}
            for turn in range(seeds):
                hold, parts = cut(whole, context.seed, turn)
                knew = _right(small, hold)
                for method in METHODS:
                    models = rounds_of(method, small, gold, parts, 1000 * (context.seed + turn))
                    found[method].append([judge(model, hold, knew) for model in models])
                    advance(1)
            ratio = HOLD_OUT / (len(whole.texts) - HOLD_OUT)
            for place in range(ROUNDS):
                for measure in ("kept", "accuracy"):
                    key = f"{student}.round{place + 1}.{measure}"
                    every = {m: [one[place][measure] for one in found[m]] for m in METHODS}
                    for method, values in every.items():
                        figures |= mean_interval(f"{student}.{method}.round{place + 1}.{measure}", values, ratio)
                    for other in METHODS[:-1]:
                        gaps = [b - a for a, b in zip(every[other], every["distiller"], strict=True)]
                        figures |= mean_interval(f"{key}_over_{other}", gaps, ratio)
            figures |= mean_interval(f"{student}.small.accuracy", alone(small, whole, context.seed, seeds), ratio)
    figures["large.accuracy"] = float(np.mean([a == b for a, b in zip(whole.large, whole.gold, strict=True)]))
    return figures


def alone(small: Any, whole: Rows, seed: int, seeds: int) -> list[float]:
    """The accuracy of the first small model on each hold-out."""
    return [float(_right(small, cut(whole, seed, turn)[0]).mean()) for turn in range(seeds)]


def recheck(context: Context, figures: Figures) -> Figures:
    """The two models alone: TF-IDF on each hold-out, and GPT-4. What learns takes minutes."""
    banking = Banking(context)
    gold, whole = rows_of(banking)
    small = make_small("tfidf", gold, banking.labels, None)
    ratio = HOLD_OUT / (len(whole.texts) - HOLD_OUT)
    large = float(np.mean([a == b for a, b in zip(whole.large, whole.gold, strict=True)]))
    accuracy = alone(small, whole, context.seed, int(figures["seeds"]))
    return {"large.accuracy": large, **mean_interval("tfidf.small.accuracy", accuracy, ratio)}


def tables(figures: Figures) -> list[Table]:
    rows = []
    titles = {"tfidf": "TF-IDF", "minilm": "MiniLM"}
    for student in STUDENTS:
        for turn in SHOWN:
            if f"{student}.2cd.round{turn}.kept" not in figures:
                continue
            key = f"round{turn}"
            rows.append(
                [
                    f"{titles[student]}, after round {turn}",
                    *(
                        text
                        for measure in ("kept", "accuracy")
                        for text in (
                            *(interval(figures, f"{student}.{method}.{key}.{measure}", 3) for method in METHODS),
                            interval(figures, f"{student}.{key}.{measure}_over_one_fit", 3, sign=True),
                            interval(figures, f"{student}.{key}.{measure}_over_2cd", 3, sign=True),
                        )
                    ),
                ]
            )
    alone = ", ".join(
        f"{titles[student]} {number(figures, f'{student}.small.accuracy', 3)}"
        for student in STUDENTS
        if f"{student}.small.accuracy" in figures
    )
    return [
        Table(
            "retention",
            "Banking77: ten rounds of 40 labels of GPT-4",
            [
                "",
                *(
                    title
                    for measure in ("kept", "accuracy")
                    for title in (
                        f"{measure}, 2CD",
                        f"{measure}, one fit",
                        f"{measure}, Distiller",
                        "Distiller over one fit",
                        "Distiller over 2CD",
                    )
                ),
            ],
            rows,
            f"{figures.get('seeds', 0):.0f} random splits; corrected resampled t intervals. Kept: share right of the "
            "hold-out rows that the first small model had right. One fit: gold and GPT-4's labels of as many random "
            f"rows, all rounds so far. Accuracy without learning: {alone or '-'}; GPT-4 alone "
            f"{number(figures, 'large.accuracy', 3)}.",
        )
    ]
