"""`paper_longtail --full`: the paper's own set and models, CIFAR-100 made long-tailed, ResNet-32 in front of CLIP.

CIFAR-100 in its binary form (`python -m benchmarks.data cifar100`, 161 MB, checked) and a folder of a CLIP model of the
transformers library that `DSPLUS_CLIP` names. The k-th class of an order that the seed draws has 500 * 100^(-k/99)
training pictures; of those left, some are 2CD's pool without labels, some choose the threshold; the test set is
reported. Classes with more than 100 training pictures are the head, with fewer than 20 the tail, as in the paper.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data
from benchmarks.harness import Context, Figures
from benchmarks.paper import Routed
from benchmarks.paper.images import GRID, cascade

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARMS = ("small", "large", "ds", "ds_plus")


@dataclass(frozen=True)
class Sizes:
    """How large a run is: the paper's, or a test's."""

    most: int = 500
    pool: int = 10_000
    choose: int = 5_000
    epochs: int = 200
    rounds: int = 10
    blocks: int = 5
    head: int = 100
    tail: int = 20


def resnet(classes: int, blocks: int) -> Any:
    """ResNet-(6 blocks + 2) for 32x32 pictures (He et al. 2016, 4.2)."""
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inside: int, outside: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
                nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside),
            )  # fmt: skip
            self.stride, self.more = stride, outside - inside

        def forward(self, x: Any) -> Any:
            # The way past a block has no weights: every other pixel, zeros for new channels.
            past = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
            return functional.relu(self.body(x) + past)

    widths = [16, *[16] * blocks, *[32] * blocks, *[64] * blocks]
    body = [Block(a, b, 1 if a == b else 2) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *body,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes),
    )  # fmt: skip


def clip_folder() -> Path:
    """The folder of a CLIP model.

    Raises:
        FileNotFoundError: If `DSPLUS_CLIP` names none.
    """
    folder = Path(os.environ.get("DSPLUS_CLIP", "")).expanduser()
    if not (folder / "config.json").is_file():
        msg = "`--full` needs a CLIP model: name its folder (openai/clip-vit-base-patch32, safetensors) in DSPLUS_CLIP"
        raise FileNotFoundError(msg)
    return folder


def seed_arms(
    context: Context, seed: int, found: data.Cifar, folder: Path, sizes: Sizes
) -> dict[str, tuple[Routed, Figures]]:
    """One seed: every arm's accuracy and calls on the test set, and by region."""
    from langchain_dsplus import ImageClassifier, TwoStageConfidenceDistillation
    from langchain_dsplus.prompts import ClipClassifier
    from langchain_dsplus.small_models import ImagePreprocess

    labels, (x, y) = found.labels, found.train
    k = len(labels)
    order = context.random(f"classes {seed}").sample(range(k), k)
    places = np.random.default_rng(context.random(f"pictures {seed}").getrandbits(32)).permutation(len(x))
    counts = {label: max(1, round(sizes.most * 100 ** (-rank / (k - 1)))) for rank, label in enumerate(order)}
    long = np.concatenate([places[y[places] == label][:count] for label, count in counts.items()])
    left = places[~np.isin(places, long)]
    pool, choose = left[: sizes.pool], left[sizes.pool : sizes.pool + sizes.choose]
    seen = ImagePreprocess(mean=(0.507, 0.487, 0.441), std=(0.267, 0.256, 0.276))
    small = ImageClassifier(resnet(k, sizes.blocks), labels, preprocess=seen, input_key="image", batch_size=128)
    small.fit(rows(x[long]), [labels[n] for n in y[long]], epochs=sizes.epochs, lr=2e-3, seed=seed)
    plain, soft = (ClipClassifier(folder, labels, pruning=mode, image={"batch_size": 128}) for mode in ("none", "soft"))
    teacher = [found if isinstance(found, dict) else None for found in plain.answers(rows(x[pool]))]
    distilled = TwoStageConfidenceDistillation(small, threshold=0.9, rounds=sizes.rounds, seed=seed, lr=2e-3)
    learned = distilled.distil(rows(x[pool]), teacher).model
    region = ["head" if counts[n] > sizes.head else "tail" if counts[n] < sizes.tail else "medium" for n in range(k)]
    arms: dict[str, tuple[Routed, Figures]] = {}
    for arm, (models, large) in {"ds": ([small], plain), "ds_plus": ([small, learned], soft)}.items():
        cut = threshold(models, large, rows(x[choose]), y[choose], labels)
        arms[arm] = routed(models, large, found, cut, region)
    alone = [("small", -1.0), ("large", 1.0)]
    return {arm: routed([small], plain, found, cut, region) for arm, cut in alone} | arms


def rows(pictures: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [{"image": picture} for picture in pictures]


def threshold(models: list[Any], large: Any, values: list[Any], gold: NDArray[np.intp], labels: list[str]) -> float:
    """The threshold with the best accuracy on the rows that choose, the lowest among equals."""
    said = [np.asarray(model.predict_proba([value["image"] for value in values])) for model in models]
    probabilities = [dict(zip(labels, row, strict=True)) for row in said[-1].tolist()]
    told = [{**value, "probabilities": row} for value, row in zip(values, probabilities, strict=True)]
    big = np.array([labels.index(label) for label in large.batch(told)])
    smalls = [(p.argmax(1), p.max(1)) for p in said]
    scores = [np.mean(cascade(smalls, big, t)[0] == gold) for t in GRID]
    return float(GRID[int(np.argmax(scores))])


def routed(models: list[Any], large: Any, found: data.Cifar, cut: float, region: list[str]) -> tuple[Routed, Figures]:
    """The test set through the package's router, overall and by region."""
    from langchain_dsplus import ConfidenceRouter

    x, y = found.test
    with ConfidenceRouter(small=models, large=large, threshold=[cut] * len(models), include_route=True) as router:
        results = router.batch(rows(x))
    right = np.array([result["output"] == found.labels[n] for result, n in zip(results, y, strict=True)])
    calls = np.mean([not result["route"]["accepted"] for result in results])
    of = np.array([region[n] for n in y])
    by = {name: 100 * float(right[of == name].mean()) for name in ("head", "medium", "tail") if (of == name).any()}
    return Routed(100 * float(right.mean()), 100 * float(calls)), by


def full(context: Context, seeds: int, sizes: Sizes | None = None) -> Mapping[str, list[tuple[Routed, Figures]]]:
    """Every arm over seeds.

    Raises:
        FileNotFoundError: If the pictures or the CLIP model are not here; the message says what to do.
    """
    found, folder = data.cifar100(), clip_folder()
    arms: dict[str, list[tuple[Routed, Figures]]] = {arm: [] for arm in ARMS}
    with context.progress("orders of the classes", seeds) as advance:
        for seed in range(seeds):
            for arm, one in seed_arms(context, seed, found, folder, sizes or Sizes()).items():
                arms[arm].append(one)
            advance(1)
    return arms
