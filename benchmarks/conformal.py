"""Conformal candidates on Banking77: coverage among escalated inputs, by band and with one quantile; GPT-4's conflicts.

TF-IDF and logistic regression, trained on gold rows, say how likely each intent is; random halves of the 3,080 test
rows calibrate and judge. `marginal` has one quantile for all inputs, `mondrian` one for each band of confidence, whose
upper ends are the thresholds shown. `escalated70` has one quantile, calibrated on the 70 % least sure rows and used on
fewer. GPT-4's recorded answers are split by whether they lie in the set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

ALPHA = 0.05
SHARES = (10, 20, 30, 50, 70, 100)
"""Shares of the inputs that are escalated, in percent: the least sure ones. Edges of the ten bands."""
INSIDE = 25
"""A share whose threshold lies inside a band."""
METHODS = ("marginal", "escalated70", "mondrian")
GOLD = 2000


class Split:
    """Two halves of the test rows as the package's rows, with what GPT-4 said."""

    def __init__(self, probabilities: np.ndarray, labels: Sequence[str], rows: Sequence[data.RecordedRow], order: Any):
        whole = [
            {
                "choice": labels[int(p.argmax())],
                "small": labels[int(p.argmax())],
                "confidence": float(p.max()),
                "probabilities": dict(zip(labels, p.tolist(), strict=True)),
                "gold": row.label,
                "large": row.large["gpt-4"],
            }
            for row, p in zip(rows, probabilities, strict=True)
        ]
        shuffled = [whole[i] for i in order]
        half = len(shuffled) // 2
        self.calibrate, self.judge = shuffled[:half], shuffled[half:]
        self.labels = list(labels)

    def threshold(self, percent: int) -> float:
        """The confidence at most which this share of the calibration rows has: no label is looked at."""
        ordered = sorted(row["confidence"] for row in self.calibrate)
        return ordered[round(percent / 100 * len(ordered)) - 1] if percent < 100 else float("inf")


def measure(split: Split) -> Figures:
    """One calibration, judged on the other half; everything in percent but sizes."""
    from langchain_dsplus.prompts.conformal import ConformalCandidates
    from langchain_dsplus.prompts.proficient import proficient_classes

    low70 = [row for row in split.calibrate if row["confidence"] <= split.threshold(70)]
    made = {
        "marginal": ConformalCandidates.fit(split.calibrate, ALPHA, bands=1, labels=split.labels),
        "escalated70": ConformalCandidates.fit(low70, ALPHA, bands=1, labels=split.labels),
        "mondrian": ConformalCandidates.fit(split.calibrate, ALPHA, bands=10, labels=split.labels),
    }
    figures: Figures = {}
    for name, conformal in made.items():
        for percent in (*SHARES, INSIDE):
            if name == "escalated70" and percent > 70:
                continue
            counted = conformal.coverage(split.judge, threshold=split.threshold(percent))
            n = sum(band.n for band in counted)
            figures[f"{name}.coverage.low{percent}"] = 100 * sum(band.covered for band in counted) / n
            figures[f"{name}.size.low{percent}"] = sum(band.total_size for band in counted) / n
    bands = made["mondrian"]
    for place, band in enumerate(bands.coverage(split.judge), 1):
        figures[f"mondrian.coverage.band{place}"] = 100 * band.coverage
        figures[f"mondrian.size.band{place}"] = band.mean_size
    figures[f"mondrian.promised.low{INSIDE}"] = 100 * bands.promised(split.threshold(INSIDE))
    figures |= conflicts(bands, split.judge, "all")
    half = split.threshold(50)
    offers = [bands.offer(row) for row in split.judge if row["confidence"] <= half]
    figures["mondrian.cut.low50"] = 100 * sum(offer.why_all is None for offer in offers) / len(offers)
    figures |= conflicts(bands, [row for row in split.judge if row["confidence"] <= half], "low50")
    left_out = proficient_classes(split.calibrate, half, labels=split.labels)
    hard = [row["gold"] in set(left_out) for row in split.judge if row["confidence"] <= half]
    figures |= {"proficient.classes": len(left_out), "proficient.risk": 100 * sum(hard) / len(hard)}
    small = [row["small"] == row["gold"] for row in split.judge]
    return figures | {"small": 100 * sum(small) / len(small)}


def conflicts(conformal: Any, rows: Sequence[dict[str, Any]], where: str) -> Figures:
    """How often GPT-4 is right, by whether its answer lies in the conformal set."""
    right: dict[bool, list[bool]] = {True: [], False: []}
    for row in rows:
        inside = row["large"] in conformal.predict_set(row["probabilities"], row["confidence"])
        right[inside].append(row["large"] == row["gold"])
    every = right[True] + right[False]
    return {
        f"large.{where}": 100 * sum(every) / len(every),
        f"large.{where}.inside": 100 * sum(right[True]) / len(right[True]),
        f"large.{where}.outside": 100 * sum(right[False]) / max(1, len(right[False])),
        f"large.{where}.conflicts": 100 * len(right[False]) / len(every),
    }


def probabilities(train: Sequence[data.RecordedRow], rows: Sequence[data.RecordedRow]) -> tuple[list[str], np.ndarray]:
    """Labels and probabilities, shape (rows, labels), of a small model trained on gold rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=30, max_iter=200, random_state=0),
    )
    pipeline.fit([row.text for row in train], [row.label for row in train])
    return [str(label) for label in pipeline.classes_], pipeline.predict_proba([row.text for row in rows])


def spread(runs: Sequence[Figures]) -> Figures:
    """Means over the splits; `.low` and `.high` are where 95 % of the single splits lie."""
    import numpy as np

    figures: Figures = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        low, high = np.percentile(values, [2.5, 97.5])
        mean = float(np.mean(values))
        figures |= {key: mean, f"{key}.low": min(float(low), mean), f"{key}.high": max(float(high), mean)}
    return figures


def drawn(context: Context) -> tuple[int, list[tuple[list[data.RecordedRow], list[list[int]]]]]:
    """How many models there are, and of each its training rows and the orders that cut the test rows into halves.

    Behind them stands the weak one, trained on the few-shot rows.
    """
    folder = data.find("banking77_gpt")
    for file in ("few_shot_train.csv", "train.csv", "test.csv"):
        context.hash_file(folder / file)
    train, n = data.banking77_gpt("train"), len(data.banking77_gpt("test"))
    models, splits = context.pick(10, 2), context.pick(5, 2)
    rng = context.random("Banking77: training rows and halves")
    draws = []
    for place in range(models + 1):
        last = place == models
        rows = data.banking77_gpt("few_shot_train") if last else rng.sample(train, GOLD)
        draws.append((rows, [rng.sample(range(n), n) for _ in range(models * splits if last else splits)]))
    return models, draws


def run(context: Context) -> Figures:
    models, draws = drawn(context)
    test = data.banking77_gpt("test")
    good, weak = [], []
    with context.progress("Banking77", models + 1) as advance:
        for number_of_model, (rows, orders) in enumerate(draws):
            labels, p = probabilities(rows, test)
            (weak if number_of_model == models else good).extend(
                measure(Split(p, labels, test, order)) for order in orders
            )
            advance(1)
    figures: Figures = {
        "banking77.n": len(test),
        "banking77.splits": len(good),
        "banking77.models": models,
        "banking77.gold": GOLD,
        "banking77.weak.gold": len(rows),
    }
    figures |= {f"banking77.{key}": value for key, value in spread(good).items()}
    shown = ("small", "large.", "mondrian.coverage.low", "mondrian.size.low", "mondrian.cut")
    figures |= {f"banking77.weak.{key}": value for key, value in spread(weak).items() if key.startswith(shown)}
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """GPT-4 on every half, for which no model is trained, and the weak model on its halves."""
    del figures
    import numpy as np

    models, draws = drawn(context)
    test = data.banking77_gpt("test")
    large = np.array([row.large["gpt-4"] == row.label for row in test])
    labels, p = probabilities(draws[-1][0], test)
    small = np.array(labels)[p.argmax(axis=1)] == np.array([row.label for row in test])
    halves = [[order[len(order) // 2 :] for order in orders] for _, orders in draws]

    def means(right: Any, parts: Sequence[list[int]], key: str) -> Figures:
        return spread([{key: 100 * float(right[part].mean())} for part in parts])

    good = [half for part in halves[:-1] for half in part]
    found = means(large, good, "large.all") | means(large, halves[-1], "weak.large.all")
    found |= means(small, halves[-1], "weak.small") | {"n": len(test), "splits": len(good), "models": models}
    return {f"banking77.{key}": value for key, value in found.items()}


def tables(figures: Figures) -> list[Table]:
    shares = [
        [
            f"{percent} %" + (" (inside a band)" if percent == INSIDE else ""),
            *(interval(figures, f"banking77.{name}.coverage.low{percent}") for name in METHODS),
            *(number(figures, f"banking77.{name}.size.low{percent}", 1) for name in METHODS),
        ]
        for percent in sorted((*SHARES, INSIDE))
    ]
    n, splits = (number(figures, f"banking77.{key}", 0) for key in ("n", "splits"))
    coverage = Table(
        "conformal.coverage",
        "Banking77: true class in the set, among the inputs escalated, in % (promised: 95)",
        [
            "escalated",
            "one quantile",
            "one quantile, from the least sure 70 %",
            "by band",
            "size, one quantile",
            "size, from 70 %",
            "size, by band",
        ],
        shares,
        f"Means of {splits} random halves of {n} rows ({number(figures, 'banking77.models', 0)} small models, trained "
        f"on {number(figures, 'banking77.gold', 0)} rows, {number(figures, 'banking77.small', 1)} % right); in "
        "brackets where 95 % of the single halves lie; sizes of 77. Inside a band less is promised: "
        f"{number(figures, f'banking77.mondrian.promised.low{INSIDE}', 1)} % at {INSIDE} %. Classes that may be left "
        f"out at half the calls with at most 1 % at risk: {interval(figures, 'banking77.proficient.classes')}; at risk "
        f"on the other rows: {interval(figures, 'banking77.proficient.risk', 2)} %.",
    )
    rows = []
    for key in ("banking77.", "banking77.weak."):
        name = f"trained on {number(figures, f'{key}gold', 0)} rows"
        for where, words in (("all", "all"), ("low50", "the less sure half")):
            start = f"{key}large.{where}"
            rows.append(
                [
                    f"{name}, {number(figures, f'{key}small', 1)} % right",
                    words,
                    number(figures, f"{key}mondrian.cut.low50", 0) if where == "low50" else "-",
                    number(figures, start, 1),
                    interval(figures, f"{start}.inside"),
                    interval(figures, f"{start}.outside"),
                    interval(figures, f"{start}.conflicts"),
                ]
            )
    conflict = Table(
        "conformal.conflict",
        "Banking77: GPT-4's answer inside and outside the 95 % set (by band)",
        [
            "small model",
            "inputs",
            "candidates cut, %",
            "GPT-4 right, %",
            "inside: right, %",
            "outside: right, %",
            "outside, % of answers",
        ],
        rows,
        "Means of the halves; in brackets where 95 % of them lie. Candidates are cut where the set has at most half of "
        "the labels.",
    )
    return [coverage, conflict]
