"""Figure 8 of the paper: shunting by confidence, by predicted distribution, by predicted correctness.

The long-tailed pictures of `benchmarks.paper.images`. By distribution: a model of head, medium and tail, and the small
model answers what looks like the head. By correctness: a model that predicts whether the small model is right, with a
threshold chosen as for the confidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Context, Figures, Table, number
from benchmarks.paper import Routed, against, table
from benchmarks.paper.images import DIFFERS as IMAGES
from benchmarks.paper.images import REGIONS, SEEDS, best, collect, draw, of, pruned, routed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PAPER = {"who": "Figure 8 gives no numbers: by distribution far below the large model, by prediction slightly above"}
DIFFERS = IMAGES
ARMS = {
    "small": "small model alone",
    "large": "large model alone",
    "confidence": "by confidence",
    "distribution": "by predicted distribution",
    "correctness": "by predicted correctness",
}
NOT_RECHECKED = "every figure comes from networks that are trained for it"


def run(context: Context) -> Figures:
    found: dict[str, list[tuple[Routed, Figures]]] = {arm: [] for arm in ARMS}
    seeds = context.pick(SEEDS, 2)
    with context.progress("orders of the classes", seeds) as advance:
        for seed in range(seeds):
            drawn = draw(context, seed)
            plain = {part: pruned(drawn.large[part], drawn.small[part], "none") for part in ("choose", "report")}

            def large(part: str, _: float, plain: dict[str, NDArray[np.intp]] = plain) -> NDArray[np.intp]:
                return plain[part]

            by = {
                "confidence": of(drawn, "small"),
                "distribution": lambda part, d=drawn: [
                    (d.small[part].argmax(1), (d.region[part].argmax(1) == 0).astype(float))
                ],
                "correctness": lambda part, d=drawn: [(d.small[part].argmax(1), d.right[part][:, 0])],
            }
            found["small"].append(routed(drawn, by["confidence"]("report"), plain["report"], -1e-6))
            found["large"].append(routed(drawn, by["confidence"]("report"), plain["report"], 1.0))
            for arm, smalls in by.items():
                threshold = 0.5 if arm == "distribution" else best(drawn, smalls, large)
                found[arm].append(routed(drawn, smalls("report"), plain["report"], threshold))
            advance(1)
    pairs = [(arm, "large") for arm in ("confidence", "distribution", "correctness")]
    return collect(found, [*pairs, ("confidence", "correctness")])


def verdict(figures: Figures) -> str:
    return (
        f"Against the large model alone: by confidence {against(figures, 'confidence', 'large')}; by distribution "
        f"{against(figures, 'distribution', 'large')}; by correctness {against(figures, 'correctness', 'large')}."
    )


def tables(figures: Figures) -> list[Table]:
    rows = [[ARMS[arm], *(number(figures, f"{arm}.{region}", 1) for region in REGIONS)] for arm in ARMS]
    regions = Table("paper_shunts.regions", "Head, medium, tail: accuracy, %", ["", *REGIONS], rows)
    return [*table("shunts", "Ways of shunting (Figure 8)", figures, PAPER, ARMS), regions]
