"""Table 2 of the paper: ChaosNLI, recorded answers of RoBERTa-base in front of those of o4-mini.

979 pairs on which both were recorded; what most of a hundred people said is true. `fixed` is the threshold .9 on all
rows, exactly. `chosen` takes the threshold with the best accuracy on half of the rows (a seed draws them) and is
reported on the other half; `small` and `large` are reported on the same halves.
"""

from __future__ import annotations

from typing import Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table
from benchmarks.paper import Routed, against, choose, gain, over_seeds, route, table, wilson_of

SEEDS = 20
FIXED = 0.9
PAPER = {
    "small.accuracy": 61.85,
    "large.accuracy": 63.73,
    "chosen.accuracy": 67.29,
    "chosen.calls": 58.54,
    "who": "XLNet-large in front of ChatGPT; seven small models gain -0.4 to +3.6 points at 59 to 86 % of the calls",
}
DIFFERS = [
    "one small model, RoBERTa-base, instead of seven: of the others no probabilities are to be had",
    "o4-mini instead of ChatGPT; its answers were recorded by others",
    "only ChaosNLI-MNLI, 979 pairs",
    "the threshold is chosen on rows that are not reported",
]
ARMS = {
    "small": "RoBERTa-base alone",
    "large": "o4-mini alone",
    "fixed": "threshold .9, all rows",
    "chosen": "threshold chosen on other rows",
    "hindsight": "best threshold, in hindsight",
}
NOTE = "Intervals over 20 splits; `fixed` has one value, on all 979 rows."


class Recorded:
    """An estimator that answers with recorded probabilities."""

    def __init__(self, classes: list[str]) -> None:
        self.classes_ = classes

    def predict_proba(self, rows: list[dict[str, Any]]) -> list[list[float]]:
        return [row["recorded"] for row in rows]


def read(context: Context) -> tuple[list[str], list[dict[str, Any]]]:
    context.hash_file(data.find("chaosnli") / "mnli_matched.csv")
    labels = list(data.NLI_LABELS.values())
    return labels, [
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


def large(row: dict[str, Any]) -> str:
    return str(row["large"])


def run(context: Context) -> Figures:
    from langchain_dsplus import SklearnClassifier

    labels, rows = read(context)
    small = SklearnClassifier(Recorded(labels))

    def routed(some: list[dict[str, Any]], threshold: float) -> Routed:
        return route(small, large, some, [row["gold"] for row in some], threshold)

    found: dict[str, list[Routed]] = {arm: [] for arm in ARMS}
    found["fixed"].append(routed(rows, FIXED))
    seeds = context.pick(SEEDS, 5)
    with context.progress("splits", seeds) as advance:
        for seed in range(seeds):
            context.random(f"split {seed}").shuffle(rows)
            choosing, reported = rows[: len(rows) // 2], rows[len(rows) // 2 :]
            for some, arm in ((choosing, "chosen"), (reported, "hindsight")):
                confidence = [max(row["recorded"]) for row in some]
                said = [labels[row["recorded"].index(max(row["recorded"]))] for row in some]
                threshold = choose(confidence, said, [r["large"] for r in some], [r["gold"] for r in some])
                found[arm].append(routed(reported, threshold))
            found["small"].append(routed(reported, -1.0))
            found["large"].append(routed(reported, 1.0))
            advance(1)
    figures: Figures = {"n": len(rows)}
    for arm in ARMS:
        figures |= over_seeds(arm, found[arm])
    figures |= wilson_of("fixed", figures["fixed.accuracy"], len(rows))
    return figures | gain("chosen", "large", found) | gain("chosen", "small", found)


def recheck(context: Context, figures: Figures) -> Figures:
    """All rows at the fixed threshold."""
    from langchain_dsplus import SklearnClassifier

    del figures
    labels, rows = read(context)
    small = SklearnClassifier(Recorded(labels))
    return over_seeds("fixed", [route(small, large, rows, [row["gold"] for row in rows], FIXED)])


def verdict(figures: Figures) -> str:
    return (
        f"Threshold chosen on other rows: {against(figures, 'chosen', 'large')} the large model alone, "
        f"at {figures['chosen.calls']:.0f} % of its calls."
    )


def tables(figures: Figures) -> list[Table]:
    found = table("chaosnli", "ChaosNLI (Table 2)", figures, PAPER, ARMS)
    return [Table(t.name, t.title, t.columns, t.rows, NOTE) for t in found]
