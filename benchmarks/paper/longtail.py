"""Table 3 of the paper: long-tailed pictures, a small model trained on the long tail in front of a larger one.

Fashion-MNIST made long-tailed (`benchmarks.paper.images`), and Banking77 made long-tailed (30 down to 1 training query
for each intent) with recorded answers of GPT-4, which nothing prunes. `ds` is the cascade with the largest probability,
`ds_plus` the paper's whole method: F_s1, then F_s2 from 2CD, then the large model with the soft prompt.

`--full` is the paper's own set and models instead (`benchmarks.paper.cifar`): what `differs` says of pictures and
large model does not hold there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, number
from benchmarks.paper import Routed, against, choose, cifar, gain, over_seeds, route, table
from benchmarks.paper.images import DIFFERS as IMAGES
from benchmarks.paper.images import REGIONS, SEEDS, best, collect, draw, of, pruned, routed, soft_weight

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAPER = {
    "small.accuracy": 48.84,
    "large.accuracy": 58.18,
    "ds.accuracy": 61.63,
    "ds.calls": 67.48,
    "ds_plus.accuracy": 63.25,
    "ds_plus.calls": 66.10,
    "who": "ResNet-32 in front of CLIP on CIFAR-100-LT; head, medium, tail: small 70.25, 46.61, 29.28, DS+ 71.99, "
    "59.91, 57.61",
}
DIFFERS = [*IMAGES, "Banking77 beside it: TF-IDF in front of recorded GPT-4 labels"]
ARMS = {
    "small": "small model alone",
    "large": "large model alone",
    "ds": "DS: F_s1, then the large model",
    "ds_plus": "DS+: F_s1, F_s2, soft prompt",
    "banking.small": "Banking77-LT: TF-IDF alone",
    "banking.large": "Banking77-LT: GPT-4 alone",
    "banking.ds": "Banking77-LT: DS",
}
PAIRS = [("ds", "large"), ("ds_plus", "large"), ("ds_plus", "ds")]
NOT_RECHECKED = "every figure comes from networks that are trained for it"


SIZES = {"full": SEEDS}


def run(context: Context) -> Figures:
    if context.full:
        return collect(cifar.full(context, SIZES["full"]), PAIRS)
    found: dict[str, list[tuple[Routed, Figures]]] = {arm: [] for arm in ("small", "large", "ds", "ds_plus")}
    seeds = context.pick(SEEDS, 2)
    with context.progress("orders of the classes", seeds) as advance:
        for seed in range(seeds):
            drawn = draw(context, seed)
            one, two = of(drawn, "small"), of(drawn, "small", "learned")

            def plain(part: str, _: float = 0.0, drawn: object = drawn) -> NDArray[np.intp]:
                return pruned(drawn.large[part], drawn.small[part], "none")  # type: ignore[attr-defined]

            def soft(part: str, _: float = 0.0, drawn: object = drawn) -> NDArray[np.intp]:
                return pruned(drawn.large[part], drawn.small[part], "soft", weight=soft_weight(drawn))  # type: ignore[attr-defined,arg-type]

            found["small"].append(routed(drawn, one("report"), plain("report"), -1e-6))
            found["large"].append(routed(drawn, one("report"), plain("report"), 1.0))
            found["ds"].append(routed(drawn, one("report"), plain("report"), best(drawn, one, plain)))
            found["ds_plus"].append(routed(drawn, two("report"), soft("report"), best(drawn, two, soft)))
            advance(1)
    figures = collect(found, PAIRS)
    return figures | banking(context)


def banking(context: Context) -> Figures:
    """Banking77 made long-tailed, with recorded labels of GPT-4."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    train, test = data.banking77_gpt("train"), data.banking77_gpt("test")
    labels = sorted({row.label for row in train})
    found: dict[str, list[Routed]] = {"small": [], "large": [], "ds": []}
    for seed in range(context.pick(SEEDS, 1)):
        rng = context.random(f"Banking77 {seed}")
        order = {label: rank for rank, label in enumerate(rng.sample(labels, len(labels)))}
        rng.shuffle(train)
        rng.shuffle(test)
        taken: dict[str, int] = {}
        kept = []
        for row in train:
            if taken.get(row.label, 0) < max(1, round(30 * 30 ** (-order[row.label] / 76))):
                taken[row.label] = taken.get(row.label, 0) + 1
                kept.append(row)
        pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=30.0))
        small = SklearnClassifier(
            pipeline.fit([row.text for row in kept], [row.label for row in kept]), input_key="text"
        )
        rows = [{"text": row.text, "large": row.large["gpt-4"], "gold": row.label} for row in test]
        choosing, reported = rows[:1000], rows[1000 : context.pick(None, 1300)]
        probabilities = np.asarray(small.predict_proba([row["text"] for row in choosing]))
        said = [small.labels[place] for place in probabilities.argmax(1)]
        large, true = [row["large"] for row in choosing], [row["gold"] for row in choosing]
        threshold = choose(probabilities.max(1).tolist(), said, large, true)
        gold = [row["gold"] for row in reported]
        for arm, cut in (("small", -1.0), ("large", 1.0), ("ds", threshold)):
            found[arm].append(route(small, lambda row: str(row["large"]), reported, gold, cut))
    figures: Figures = {}
    for arm, runs in found.items():
        figures |= over_seeds(f"banking.{arm}", runs)
    return figures | {f"banking.{key}": value for key, value in gain("ds", "large", found).items()}


def verdict(figures: Figures) -> str:
    return (
        f"The cascade against the large model alone: {against(figures, 'ds', 'large')}, at {figures['ds.calls']:.0f} % "
        f"of its calls; with F_s2 and soft pruning {against(figures, 'ds_plus', 'large')}, at "
        f"{figures['ds_plus.calls']:.0f} %."
    )


def tables(figures: Figures) -> list[Table]:
    by_region = [
        [ARMS[arm], *(number(figures, f"{arm}.{region}", 1) for region in REGIONS)]
        for arm in ("small", "large", "ds", "ds_plus")
    ]
    regions = Table("paper_longtail.regions", "Head, medium, tail: accuracy, %", ["", *REGIONS], by_region)
    return [*table("longtail", "Long-tailed classes (Table 3)", figures, PAPER, ARMS), regions]
