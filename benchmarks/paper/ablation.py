"""Table 5 of the paper: DS+ without 2CD, without prompt pruning, without both; soft, hard and no pruning.

The long-tailed pictures of `benchmarks.paper.images`, and the same models. `hard` removes the classes that the small
model excels at with our bound on the accuracy at risk (1 %), `hard_paper` all of them, as the paper says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Context, Figures, Table, number
from benchmarks.paper import Routed, against, average, table
from benchmarks.paper.images import DIFFERS as IMAGES
from benchmarks.paper.images import (
    REGIONS,
    SEEDS,
    Drawn,
    best,
    collect,
    draw,
    of,
    proficient,
    pruned,
    routed,
    soft_weight,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

PAPER = {
    "ds_plus.accuracy": 63.25,
    "ds_plus.calls": 66.10,
    "no_2cd.accuracy": 62.11,
    "no_2cd.calls": 67.48,
    "no_pp_no_2cd.accuracy": 61.63,
    "no_pp_no_2cd.calls": 67.48,
    "who": "ResNet-32 and CLIP on CIFAR-100-LT",
}
DIFFERS = IMAGES
ARMS = {
    "ds_plus": "DS+: 2CD and soft pruning",
    "no_2cd": "without 2CD",
    "no_pp": "without pruning",
    "no_pp_no_2cd": "without both",
    "hard": "2CD and hard pruning, our bound",
    "hard_paper": "2CD and hard pruning, the paper's rule",
}
NOT_RECHECKED = "every figure comes from networks that are trained for it"


def run(context: Context) -> Figures:
    found: dict[str, list[tuple[Routed, Figures]]] = {arm: [] for arm in ARMS}
    removed: dict[str, list[float]] = {"hard": [], "hard_paper": []}
    seeds = context.pick(SEEDS, 2)
    with context.progress("orders of the classes", seeds) as advance:
        for seed in range(seeds):
            drawn = draw(context, seed)
            for arm in ARMS:
                smalls = of(drawn, "small") if "no_2cd" in arm else of(drawn, "small", "learned")
                large = _large(drawn, arm)
                threshold = best(drawn, smalls, large)
                found[arm].append(routed(drawn, smalls("report"), large("report", threshold), threshold))
                if arm in removed:
                    removed[arm].append(len(_removed(drawn, arm, threshold)))
            advance(1)
    pairs = [("ds_plus", "no_2cd"), ("ds_plus", "no_pp"), ("ds_plus", "no_pp_no_2cd"), ("hard_paper", "no_pp")]
    return collect(found, pairs) | {f"{arm}.removed": average(counts) for arm, counts in removed.items()}


def _removed(drawn: Drawn, arm: str, threshold: float) -> list[int]:
    return proficient(drawn, threshold, max_risk=None if arm == "hard_paper" else 0.01)


def _large(drawn: Drawn, arm: str) -> Callable[[str, float], NDArray[np.intp]]:
    def say(part: str, threshold: float) -> NDArray[np.intp]:
        large, small = drawn.large[part], drawn.small[part]
        if arm.startswith("hard"):
            return pruned(large, small, "hard", _removed(drawn, arm, threshold))
        return pruned(large, small, "none" if "no_pp" in arm else "soft", weight=soft_weight(drawn))

    return say


def verdict(figures: Figures) -> str:
    return (
        f"2CD gives {against(figures, 'ds_plus', 'no_2cd')} without it, and the calls go from "
        f"{figures['no_2cd.calls']:.0f} to {figures['ds_plus.calls']:.0f} %; soft pruning gives "
        f"{against(figures, 'ds_plus', 'no_pp')} without it; hard pruning with our bound removes "
        f"{figures['hard.removed']:.1f} of ten classes, the paper's rule {figures['hard_paper.removed']:.1f}."
    )


def tables(figures: Figures) -> list[Table]:
    rows = [[ARMS[arm], *(number(figures, f"{arm}.{region}", 1) for region in REGIONS)] for arm in ARMS]
    regions = Table("paper_ablation.regions", "Head, medium, tail: accuracy, %", ["", *REGIONS], rows)
    return [*table("ablation", "Ablation (Table 5)", figures, PAPER, ARMS), regions]
