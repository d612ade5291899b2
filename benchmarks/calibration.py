"""Confidence across distributions: ECE and AUROC in and out of distribution, and inputs that belong to no class.

CLINC150: ten queries of each of 150 intents train, the validation rows choose a threshold (the lowest at which 95 % of
the accepted are right), test rows are scored, and 1,000 out-of-scope queries, which no answer fits. Sentences from
three sites (UCI): trained on 600 of Amazon's, chosen on 200, scored on the other 200 and on IMDB's and Yelp's. AUROC
says whether confidence puts right answers above wrong ones, `outside` whether it puts rows of the distribution above
those that are not; beside it the distance of `NearestOutcomes`. Means over seeds with Student's intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data
from benchmarks.adversarial import threshold_of
from benchmarks.distil import Rows, make_small
from benchmarks.harness import Context, Figures, Table, interval
from benchmarks.paper import mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = {"tfidf": "TF-IDF", "minilm": "MiniLM head"}
SEEDS = 5
PARTS = {
    "clinc150": {"inside": "CLINC150, test", "oos": "CLINC150, out of scope"},
    "sites": {"inside": "Amazon, test", "imdb": "IMDB", "yelp": "Yelp"},
}
COLUMNS = {"accuracy": "right", "ece": "ECE", "auroc": "AUROC", "local": "local", "local_right": "right of these"}


def rows_of(some: Sequence[data.TextRow]) -> Rows:
    return Rows([row.text for row in some], [row.label for row in some], [row.label for row in some])


def clinc(context: Context, seed: int) -> dict[str, Rows]:
    rng = context.random(f"clinc150 {seed}")
    taken: dict[str, int] = {}
    train = []
    for row in rng.sample(every := data.clinc150("train"), len(every)):
        if taken.get(row.label, 0) < 10:
            taken[row.label] = taken.get(row.label, 0) + 1
            train.append(row)
    test = data.clinc150("test", out_of_scope=True)
    inside = rng.sample([row for row in test if row.label != "oos"], 500)
    choose = rng.sample(data.clinc150("val"), 500)
    parts = {"train": train, "choose": choose, "inside": inside, "oos": [row for row in test if row.label == "oos"]}
    return {name: rows_of(some) for name, some in parts.items()}


def sites(context: Context, seed: int) -> dict[str, Rows]:
    every = data.uci_sentences()
    amazon = [row for row in every if row.source == "amazon"]
    context.random(f"sites {seed}").shuffle(amazon)
    parts = {"train": amazon[:600], "choose": amazon[600:800], "inside": amazon[800:]}
    others = {site: [row for row in every if row.source == site] for site in ("imdb", "yelp")}
    return {name: rows_of(some) for name, some in (parts | others).items()}


SETS = {"clinc150": clinc, "sites": sites}


def measure(parts: dict[str, Rows], small: Any, gate: Any) -> Figures:
    """One model, one seed: each part's figures."""
    from langchain_dsplus.calibration import auroc, expected_calibration_error

    labels = list(small.labels)
    cut = threshold_of(np.asarray(small.predict_proba(parts["choose"].texts)), parts["choose"].gold, labels)
    figures: Figures = {}
    sure: dict[str, NDArray[np.float64]] = {}
    for name in [name for name in parts if name not in ("train", "choose")]:
        p = np.asarray(small.predict_proba(parts[name].texts))
        sure[name] = p.max(axis=1)
        right = np.array([labels[k] == label for k, label in zip(p.argmax(axis=1), parts[name].gold, strict=True)])
        local = sure[name] > cut
        found = {
            "accuracy": 100 * float(right.mean()),
            "ece": expected_calibration_error(sure[name], right),
            "local": 100 * float(local.mean()),
            "local_right": 100 * float(right[local].mean()) if local.any() else 100.0,
        }
        if 0 < right.mean() < 1:
            found["auroc"] = auroc(sure[name], right)
        if name != "inside":
            known = np.repeat([True, False], [len(sure["inside"]), len(sure[name])])
            found["outside"] = auroc(np.concatenate([sure["inside"], sure[name]]), known)
            if gate is not None:
                away = gate.distance([*parts["inside"].texts, *parts[name].texts])
                found["distance"] = auroc(-np.array(away), known)
        figures |= {f"{name}.{key}": value for key, value in found.items()}
    return figures


def run(context: Context) -> Figures:
    from benchmarks.scores import Vectors, table_of
    from langchain_dsplus import scores

    vectors = Vectors()
    seeds = context.pick(SEEDS, 2)
    figures: Figures = {}
    with context.progress("calibration", len(SETS) * seeds) as advance:
        context.hash_file(data.find("clinc150") / "data_full.json")
        for key, draw in SETS.items():
            runs: dict[str, list[Figures]] = {name: [] for name in MODELS}
            for seed in range(seeds):
                parts = draw(context, seed)
                labels = sorted(set(parts["train"].gold))
                for name in MODELS:
                    small = make_small(name, parts["train"], labels, vectors)
                    p = np.asarray(small.predict_proba(parts["choose"].texts))
                    table = table_of(p, list(small.labels), parts["choose"].gold, parts["choose"].gold)
                    gate = scores.NearestOutcomes(vectors).fit(table, parts["choose"].texts)
                    runs[name].append(measure(parts, small, gate))
                advance(1)
            for name, found in runs.items():
                figures |= over(f"{key}.{name}", found)
    return figures


def over(key: str, found: Sequence[Figures]) -> Figures:
    """Means over seeds."""
    figures: Figures = {}
    for part in found[0]:
        figures |= mean(f"{key}.{part}", [one[part] for one in found])
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """What needs no encoder: TF-IDF on the three sites."""
    del figures
    found = []
    for seed in range(context.pick(SEEDS, 2)):
        parts = sites(context, seed)
        small = make_small("tfidf", parts["train"], ["negative", "positive"], None)
        found.append(measure(parts, small, None))
    return over("sites.tfidf", found)


def tables(figures: Figures) -> list[Table]:
    rows = []
    for key, parts in PARTS.items():
        for name, title in MODELS.items():
            for part, words in parts.items():
                at = f"{key}.{name}.{part}"
                digits = {"ece": 3, "auroc": 3}
                cells = [interval(figures, f"{at}.{column}", digits.get(column, 1)) for column in COLUMNS]
                rows.append(
                    [f"{title}, {words}", *cells, *(interval(figures, f"{at}.{n}", 3) for n in ("outside", "distance"))]
                )
    columns = ["", *COLUMNS.values(), "AUROC inside/outside", "the same by distance"]
    return [Table("calibration", "Confidence in and out of distribution", columns, rows)]
