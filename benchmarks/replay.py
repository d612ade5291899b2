"""Recorded answers of real large models, routed by the public `ConfidenceRouter` at a sweep of thresholds.

ChaosNLI: 979 pairs with RoBERTa's recorded probabilities and o4-mini's recorded label; right means what
most of a hundred people said. Banking77: TF-IDF and logistic regression, trained on the gold training
rows, in front of GPT-4's recorded labels. The sweep shows every threshold; `chosen` is the one that is
best on one half of the rows, scored on the other half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval, number, paired, share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NLI_THRESHOLDS = (0.8, 0.9, 0.95)
BANKING_THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class Recorded:
    """An estimator that answers with recorded probabilities: the rows carry them."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes_ = list(classes)

    def predict_proba(self, rows: list[dict[str, Any]]) -> list[list[float]]:
        return [row["recorded"] for row in rows]


def ask_recorded(row: dict[str, Any]) -> str:
    """The large model: its recorded label."""
    return str(row["large"])


def route(small: Any, rows: list[dict[str, Any]], threshold: float) -> tuple[list[bool], list[bool]]:
    """For each row: was it escalated, and was the output right. Both are read off the router."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import ConfidenceRouter

    large = RunnableLambda(ask_recorded).with_types(output_type=str)
    with ConfidenceRouter(small=small, large=large, threshold=threshold, include_route=True) as router:
        results = router.batch(rows)
    escalated = [not result["route"]["accepted"] for result in results]
    right = [result["output"] == row["gold"] for result, row in zip(results, rows, strict=True)]
    return escalated, right


def sweep(
    context: Context, small: Any, rows: list[dict[str, Any]], thresholds: Sequence[float], name: str
) -> tuple[Figures, dict[float, tuple[list[bool], list[bool]]]]:
    """Route all rows at every threshold."""
    large_right = [row["large"] == row["gold"] for row in rows]
    _, small_right = route(small, rows, -1.0)
    figures: Figures = {"n": len(rows)} | share("large", large_right) | share("small", small_right)
    routed = {}
    rng = context.random(f"{name}: bootstrap")
    with context.progress(name, len(thresholds)) as advance:
        for threshold in thresholds:
            escalated, right = routed[threshold] = route(small, rows, threshold)
            figures |= share(f"escalated_{threshold:g}", escalated) | share(f"right_{threshold:g}", right)
            figures |= paired(f"gain_{threshold:g}", right, large_right, rng)
            advance(1)
    return figures, routed


def chaosnli(context: Context) -> Figures:
    from langchain_dsplus import SklearnClassifier

    context.hash_file(data.find("chaosnli") / "mnli_matched.csv")
    labels = list(data.NLI_LABELS.values())
    rows = [
        {
            "premise": row.premise,
            "hypothesis": row.hypothesis,
            "gold": row.label,
            "large": row.o4mini,
            "recorded": [row.probabilities[label] for label in labels],
        }
        for row in data.chaosnli()
        if row.o4mini is not None and row.probabilities is not None
    ]
    return sweep(context, SklearnClassifier(Recorded(labels)), rows, NLI_THRESHOLDS, "ChaosNLI")[0]


def banking77(context: Context) -> tuple[Figures, Figures]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    folder = data.find("banking77_gpt")
    for file in ("train.csv", "test.csv"):
        context.hash_file(folder / file)
    rng = context.random("Banking77: order")
    train, test = data.banking77_gpt("train"), data.banking77_gpt("test")
    rng.shuffle(train)
    rng.shuffle(test)
    train, test = train[: context.pick(None, 3000)], test[: context.pick(None, 1000)]
    context.say(f"Banking77: training on {len(train)} rows")
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=30, max_iter=200, random_state=0),
    )
    pipeline.fit([row.text for row in train], [row.label for row in train])
    small = SklearnClassifier(pipeline, input_key="text")
    rows = [{"text": row.text, "gold": row.label, "large": row.large["gpt-4"]} for row in test]
    figures, routed = sweep(context, small, rows, BANKING_THRESHOLDS, "Banking77")

    # The rows are shuffled already: the first half chooses, the second is scored.
    half = len(rows) // 2

    def right_in_first_half(threshold: float) -> tuple[int, float]:
        return sum(routed[threshold][1][:half]), -threshold

    best = max(BANKING_THRESHOLDS, key=right_in_first_half)
    escalated, right = routed[best][0][half:], routed[best][1][half:]
    large_right = [row["large"] == row["gold"] for row in rows[half:]]
    chosen: Figures = {"threshold": best, "n": len(right)} | share("escalated", escalated) | share("right", right)
    chosen |= share("large", large_right)
    chosen |= paired("gain", right, large_right, context.random("Banking77: chosen"))
    small_right = routed[BANKING_THRESHOLDS[0]][1][half:]  # at 0 every answer is accepted
    chosen |= paired("gain_over_small", right, small_right, context.random("Banking77: chosen, small"))
    return figures, chosen


def run(context: Context) -> Figures:
    nli = chaosnli(context)
    banking, chosen = banking77(context)
    figures = {f"chaosnli.{k}": v for k, v in nli.items()}
    figures |= {f"banking77.{k}": v for k, v in banking.items()}
    figures |= {f"banking77.chosen.{k}": v for k, v in chosen.items()}
    draw(figures, context.result_path("png"))
    return figures


def draw(figures: Figures, path: Path) -> None:
    """Accuracy against the share of calls to the large model."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    sets = {
        "chaosnli": ("ChaosNLI, o4-mini", NLI_THRESHOLDS),
        "banking77": ("Banking77, GPT-4", BANKING_THRESHOLDS),
    }
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, (key, (title, thresholds)) in zip(axes, sets.items(), strict=True):
        calls = [figures[f"{key}.escalated_{t:g}"] for t in thresholds]
        right = [figures[f"{key}.right_{t:g}"] for t in thresholds]
        low = [figures[f"{key}.right_{t:g}.low"] for t in thresholds]
        high = [figures[f"{key}.right_{t:g}.high"] for t in thresholds]
        axis.fill_between(calls, low, high, alpha=0.15, linewidth=0)
        axis.plot(calls, right, marker="o", label="cascade, one point per threshold")
        for x, y, t in zip(calls, right, thresholds, strict=True):
            axis.annotate(f"{t:g}", (x, y), textcoords="offset points", xytext=(4, -11), fontsize=7)
        axis.axhline(figures[f"{key}.large"], color="black", linewidth=1, label="large model alone")
        axis.axhline(figures[f"{key}.small"], color="gray", linewidth=1, linestyle="--", label="small model alone")
        axis.set(title=title, xlabel="calls to the large model, %", ylabel="right, %")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def recheck(context: Context, figures: Figures) -> Figures:
    """ChaosNLI whole; of Banking77 what needs no training: GPT-4 alone."""
    del figures
    found = {f"chaosnli.{key}": value for key, value in chaosnli(context).items()}
    rows = data.banking77_gpt("test")
    right = share("banking77.large", [row.large["gpt-4"] == row.label for row in rows])
    return {**found, "banking77.n": len(rows), **right}


def tables(figures: Figures) -> list[Table]:
    sets = (
        ("chaosnli", "ChaosNLI, recorded RoBERTa and o4-mini", NLI_THRESHOLDS, 2),
        ("banking77", "Banking77, TF-IDF in front of recorded GPT-4", BANKING_THRESHOLDS, 1),
    )
    columns = [
        "threshold",
        "escalated, %",
        "right, % (95 %)",
        "random at equal calls: right, %",
        "against the large alone, points (95 %)",
    ]
    chosen = (
        f" Threshold chosen on one half ({number(figures, 'banking77.chosen.threshold', 2)}), scored on the other: "
        f"{interval(figures, 'banking77.chosen.gain', sign=True)} points over the large model and "
        f"{interval(figures, 'banking77.chosen.gain_over_small', sign=True)} over the small one at "
        f"{number(figures, 'banking77.chosen.escalated', 1)} % of the calls."
    )
    return [
        Table(
            f"replay.{key}",
            title,
            columns,
            [*_ends(figures, key, digits), *_sweep(figures, key, thresholds, digits)] if f"{key}.n" in figures else [],
            f"n = {number(figures, f'{key}.n', 0)}. Random: as many inputs escalated, drawn without looking, in "
            f"expectation.{chosen if key == 'banking77' else ''}",
        )
        for key, title, thresholds, digits in sets
    ]


def _ends(figures: Figures, key: str, digits: int) -> list[list[str]]:
    """The two models alone."""
    small, large = (number(figures, f"{key}.{side}", digits) for side in ("small", "large"))
    gap = "-" if f"{key}.n" not in figures else f"{figures[f'{key}.small'] - figures[f'{key}.large']:+.{digits}f}"
    return [
        ["small model alone", "0", interval(figures, f"{key}.small", digits), small, gap],
        ["large model alone", "100", interval(figures, f"{key}.large", digits), large, "0"],
    ]


def _sweep(figures: Figures, key: str, thresholds: Sequence[float], digits: int) -> list[list[str]]:
    rows = []
    for threshold in thresholds:
        t = f"{threshold:g}"
        calls = figures[f"{key}.escalated_{t}"] / 100
        random = figures[f"{key}.small"] + calls * (figures[f"{key}.large"] - figures[f"{key}.small"])
        rows.append(
            [
                t,
                number(figures, f"{key}.escalated_{t}", digits),
                interval(figures, f"{key}.right_{t}", digits),
                f"{random:.{digits}f}",
                interval(figures, f"{key}.gain_{t}", digits, sign=True),
            ]
        )
    return rows
