"""What the paper's experiments on long-tailed images share: Fashion-MNIST made long-tailed, its models, its arms.

Fashion-MNIST (70,000 pictures, ten classes) comes from the Debian package `dataset-fashion-mnist`, or is downloaded. A
seed draws an order of the classes; the k-th has 1000 * 100^(-k/9) training pictures: 1,000 down to 10, a factor of 100.
The first three are the head, the last three the tail, those between medium. The small model is a small CNN trained on
these, the large one a larger CNN trained on few balanced pictures of its own. 2CD reads pictures without labels. All
these sets, the rows that choose the threshold and those that are reported share no picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data
from benchmarks.harness import Context, Figures
from benchmarks.paper import Routed, cached_array, gain, mean, over_seeds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
REGIONS = ("head", "medium", "tail")
REGION = ["head"] * 3 + ["medium"] * 4 + ["tail"] * 3
GRID = np.array([0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999])
SEEDS = 5
SIZES = {"most": 1000, "large": 500, "pool": 3000, "choose": 2000, "report": 4000}
DIFFERS = [
    "Fashion-MNIST instead of CIFAR-100, ten classes instead of a hundred; no CLIP is to be had here",
    "the large model is a CNN trained on 500 balanced pictures of its own and reads no prompt",
    "so soft pruning multiplies its probabilities by a power of the small model's, chosen on the rows that choose",
    "the threshold is chosen on rows that are not reported; five orders of the classes",
]


pictures = cache(data.fashion_mnist)


@dataclass(frozen=True)
class Drawn:
    """One seed's models, as what they say: probabilities (n, 10) on the rows that choose and on those reported.

    Attributes:
        order: The classes from head to tail.
        gold: Of the chosen and the reported rows.
        small: F_s1. `learned` is F_s2, `large` the large model.
        region: The distribution model's probabilities of head, medium and tail, (n, 3).
        right: The predicted probability that the small model is right, (n, 1).
    """

    order: list[int]
    gold: dict[str, NDArray[np.intp]]
    small: dict[str, Floats]
    learned: dict[str, Floats]
    large: dict[str, Floats]
    region: dict[str, Floats]
    right: dict[str, Floats]


def small_net(channels: int, classes: int) -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * channels * 49, classes),
    )  # fmt: skip


def train(net: Any, labels: list[str], x: Any, y: Sequence[Any], *, epochs: int, seed: int, lr: float = 2e-3) -> Any:
    from langchain_dsplus import ImageClassifier
    from langchain_dsplus.small_models import ImagePreprocess

    model = ImageClassifier(net, labels, preprocess=ImagePreprocess(channels=1), batch_size=64)
    return model.fit(list(x), list(y), epochs=epochs, seed=seed, lr=lr)


def draw(context: Context, seed: int) -> Drawn:
    """Train one seed's models, or read from the cache what they said."""
    import torch

    order = context.random(f"classes {seed}").sample(range(10), 10)
    shuffle = np.random.default_rng(context.random(f"pictures {seed}").getrandbits(32))
    sizes = {name: size if not context.quick or name == "most" else size // 4 for name, size in SIZES.items()}
    epochs = context.pick(12, 4)

    def make() -> Floats:
        from langchain_dsplus import TwoStageConfidenceDistillation

        torch.manual_seed(seed)
        x, y = pictures()
        places = shuffle.permutation(len(x))
        taken: list[int] = []
        for rank, label in enumerate(order):
            count = round(sizes["most"] * 100 ** (-rank / 9))
            taken += places[y[places] == label][:count].tolist()
        left = np.setdiff1d(places, taken, assume_unique=True)
        left = left[shuffle.permutation(len(left))]
        each = sizes["large"] // 10
        balanced = np.concatenate([left[y[left] == label][:each] for label in range(10)])
        left = np.setdiff1d(left, balanced, assume_unique=True)
        left = left[shuffle.permutation(len(left))]
        cuts = np.cumsum([sizes["pool"], sizes["choose"], sizes["report"]])
        pool, choose, report = np.split(left[: cuts[-1]], cuts[:-1])
        long = np.array(taken)
        names = [CLASSES[label] for label in y]
        small = train(small_net(8, 10), CLASSES, x[long], [names[n] for n in long], epochs=epochs, seed=seed)
        large = train(small_net(32, 10), CLASSES, x[balanced], [names[n] for n in balanced], epochs=epochs, seed=seed)
        rank_of = {label: rank for rank, label in enumerate(order)}
        regions = [REGION[rank_of[y[n]]] for n in long]
        region = train(small_net(8, 3), list(REGIONS), x[long], regions, epochs=epochs, seed=seed)
        # Predicted correctness (4.8): trained on what the small model gets right of its own training rows, by halves,
        # since it gets all of those right that it was trained on.
        half = shuffle.permutation(long)
        first, second = half[: len(half) // 2], half[len(half) // 2 :]
        judged = train(small_net(8, 10), CLASSES, x[first], [names[n] for n in first], epochs=epochs, seed=seed)
        said = judged.predict_proba(list(x[second])).argmax(1)
        truth = ["right" if CLASSES[s] == names[n] else "wrong" for s, n in zip(said, second, strict=True)]
        right = train(small_net(8, 2), ["right", "wrong"], x[second], truth, epochs=epochs, seed=seed)
        teacher = [dict(zip(CLASSES, row, strict=True)) for row in large.predict_proba(list(x[pool])).tolist()]
        distilled = TwoStageConfidenceDistillation(small, threshold=0.9, rounds=context.pick(10, 3), seed=seed, lr=2e-3)
        learned = distilled.distil(list(x[pool]), teacher).model
        rows = np.concatenate([choose, report])
        said_by = [m.predict_proba(list(x[rows])) for m in (small, learned, large, region, right)]
        return np.concatenate([y[rows][:, None], *said_by], axis=1)

    about = [SIZES, sizes, epochs, seed, order, context.seed, 5]
    found = cached_array(context.name.partition("_")[0] + "-images", about, make)
    first = sizes["choose"]
    parts = np.split(found, np.cumsum([1, 10, 10, 10, 3]), axis=1)
    both = [{"choose": part[:first], "report": part[first:]} for part in parts]
    gold = {name: part[:, 0].astype(int) for name, part in both[0].items()}
    both[5] = {name: part[:, :1] for name, part in both[5].items()}
    return Drawn(order, gold, *both[1:])


# --- arms -----------------------------------------------------------------------------------------------------------


WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""How much a soft prompt may count: the exponent of the small model's probabilities."""


def pruned(
    large: Floats, small: Floats, pruning: str, removed: Sequence[int] = (), *, weight: float = 1.0
) -> NDArray[np.intp]:
    """What the large model says when it is told what the small one thinks: the class of each row."""
    if pruning == "soft":
        return (large * small**weight).argmax(1)
    if pruning == "hard" and len(removed):
        large = large.copy()
        large[:, list(removed)] = -1.0
    return large.argmax(1)


def proficient(drawn: Drawn, threshold: float, *, max_risk: float | None) -> list[int]:
    """The classes that hard pruning removes: with our bound on the accuracy at risk, or by the paper's rule alone."""
    from langchain_dsplus.prompts import proficient_classes

    small, gold = drawn.small["choose"], drawn.gold["choose"]
    rows = [
        {"small": CLASSES[s], "confidence": float(c), "gold": CLASSES[g]}
        for s, c, g in zip(small.argmax(1), small.max(1), gold, strict=True)
    ]
    return [CLASSES.index(name) for name in proficient_classes(rows, threshold, labels=CLASSES, max_risk=max_risk)]


def cascade(
    smalls: Sequence[tuple[NDArray[np.intp], Floats]], large: NDArray[np.intp], threshold: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Answers and calls, by Algorithm 2: the first small model above the threshold, else the large one."""
    answer, called = large.copy(), np.ones(len(large), dtype=bool)
    for choice, confidence in reversed(smalls):
        sure = confidence > threshold
        answer[sure], called[sure] = choice[sure], False
    return answer, called


def soft_weight(drawn: Drawn) -> float:
    """How much the small model's probabilities count, chosen on the rows that choose among those it is unsure of."""
    small, large, gold = drawn.small["choose"], drawn.large["choose"], drawn.gold["choose"]
    unsure = small.max(1) <= 0.9
    scores = [np.mean(pruned(large, small, "soft", weight=w)[unsure] == gold[unsure]) for w in WEIGHTS]
    return WEIGHTS[int(np.argmax(scores))]


def best(
    drawn: Drawn, smalls: Callable[[str], Sequence[Any]], large: Callable[[str, float], NDArray[np.intp]]
) -> float:
    """The threshold with the best accuracy on the rows that choose, the lowest among equals."""
    gold = drawn.gold["choose"]
    scores = [np.mean(cascade(smalls("choose"), large("choose", t), t)[0] == gold) for t in GRID]
    return float(GRID[int(np.argmax(scores))])


class _Row(dict[str, Any]):
    """A row for the router: what each model says about it."""


class Recorded:
    """An estimator that answers with one column of the rows."""

    def __init__(self, column: str) -> None:
        self.column, self.classes_ = column, CLASSES

    def predict_proba(self, rows: list[dict[str, Any]]) -> list[list[float]]:
        return [row[self.column] for row in rows]


def _sure(choice: NDArray[np.intp], confidence: Floats) -> list[list[float]]:
    """Distributions whose largest probability is the confidence, scaled into (1/10, 1], at the choice."""
    top = 0.1 + 1e-6 + (0.9 - 1e-6) * np.clip(confidence, 0.0, 1.0)
    spread = np.repeat(((1.0 - top) / 9)[:, None], 10, axis=1)
    spread[np.arange(len(choice)), choice] = top
    return spread.tolist()


def routed(
    drawn: Drawn,
    smalls: Sequence[tuple[NDArray[np.intp], Floats]],
    large: NDArray[np.intp],
    threshold: float,
) -> tuple[Routed, Figures]:
    """The reported rows through the package's router; overall, and the accuracy of head, medium and tail."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import ConfidenceRouter, SklearnClassifier

    gold = drawn.gold["report"]
    columns = {f"small{n}": _sure(choice, confidence) for n, (choice, confidence) in enumerate(smalls)}
    rows = [
        {"large": CLASSES[big], **{name: column[place] for name, column in columns.items()}}
        for place, big in enumerate(large)
    ]
    models = [SklearnClassifier(Recorded(name), name=name) for name in columns]
    cut = 0.1 + 1e-6 + (0.9 - 1e-6) * threshold
    asked = RunnableLambda(lambda row: row["large"]).with_types(output_type=str)
    with ConfidenceRouter(small=models, large=asked, threshold=[cut] * len(models), include_route=True) as router:
        results = router.batch(rows)
    right = np.array([result["output"] == CLASSES[g] for result, g in zip(results, gold, strict=True)])
    calls = np.mean([not result["route"]["accepted"] for result in results])
    rank = {label: place for place, label in enumerate(drawn.order)}
    region = np.array([REGION[rank[g]] for g in gold])
    by = {name: 100 * float(right[region == name].mean()) for name in REGIONS}
    return Routed(100 * float(right.mean()), 100 * float(calls)), by


def of(drawn: Drawn, *names: str) -> Callable[[str], list[tuple[NDArray[np.intp], Floats]]]:
    """The small models by name, with their largest probability as confidence."""

    def smalls(part: str) -> list[tuple[NDArray[np.intp], Floats]]:
        return [(getattr(drawn, name)[part].argmax(1), getattr(drawn, name)[part].max(1)) for name in names]

    return smalls


def collect(arms: Mapping[str, list[tuple[Routed, Figures]]], pairs: Sequence[tuple[str, str]]) -> Figures:
    """Figures of all arms over seeds."""
    figures: Figures = {}
    for arm, found in arms.items():
        figures |= over_seeds(arm, [one for one, _ in found])
        for region in REGIONS:
            figures |= mean(f"{arm}.{region}", [by[region] for _, by in found])
    overall = {arm: [one for one, _ in found] for arm, found in arms.items()}
    for ours, theirs in pairs:
        figures |= gain(ours, theirs, overall)
    return figures
