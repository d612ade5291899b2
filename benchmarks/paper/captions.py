"""Table 4 of the paper: captions, with the mean token probability (Eq. 9) as confidence.

Scenes of two shapes with their captions, rendered here. A small and a larger captioner (CNN, attention, LSTM), trained
on 2,000 and 6,000 scenes, write greedily; the confidence is the arithmetic mean of the written tokens' probabilities
(Eq. 9), beside it the geometric one. BLEU-1 to 4 by sacrebleu against five references. The threshold comes from scenes
of its own: the one with the best mean BLEU. Accuracy is the mean of BLEU-1 to 4, as in the paper's table. `--full` is
COCO and BLIP-2 instead (`benchmarks.paper.coco`): what `differs` says of scenes does not hold there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from benchmarks.harness import Context, Figures, Table, number
from benchmarks.paper import Routed, against, gain, mean, need, over_seeds, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from random import Random

Said = list[tuple[str, list[float]]]
"""Captions, each with the probabilities of its tokens, the end left out."""
SEEDS = 5
PAPER = {
    "small.accuracy": 50.03,
    "large.accuracy": 54.10,
    "router.accuracy": 54.52,
    "router.calls": 65.36,
    "who": "ResNet-101 and LSTM in front of BLIP-2 on COCO; better in BLEU-1 and 2, not in 3 and 4",
}
DIFFERS = [
    "rendered scenes of two shapes instead of COCO; no captioner is to be had here",
    "two captioners of the same kind instead of an LSTM and BLIP-2",
    "the threshold is chosen on scenes that are not reported; the paper sets .55",
]
ARMS = {
    "small": "small captioner alone",
    "large": "large captioner alone",
    "router": "router, Eq. 9 (arithmetic mean)",
    "geometric": "router, geometric mean",
}
KINDS: tuple[Literal["arithmetic", "geometric"], ...] = ("arithmetic", "geometric")
NOT_RECHECKED = "every figure comes from networks that are trained for it"
COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220), "yellow": (230, 210, 50),
          "white": (240, 240, 240), "purple": (150, 60, 190)}  # fmt: skip
SHAPES = ("square", "circle", "triangle", "cross")
RADII = {"small": 4, "big": 7}
SIZES = {"full": SEEDS}
SIDE = 36
WORDS = ["<end>", "<start>", "a", "is", "to", "the", "left", "right", "of", "above", "below", "and", "sits", "there",
         "picture", "shows", *COLORS, *SHAPES, *RADII]  # fmt: skip
NUMBER = {word: place for place, word in enumerate(WORDS)}
LENGTH = 16


class Piece(NamedTuple):
    """What one seed scores: captions of both models, references, and how many of the first choose the threshold."""

    said: dict[str, Said]
    references: list[list[str]]
    cut: int


def scene(rng: Random) -> tuple[np.ndarray, list[str]]:
    """A noisy picture (3, 36, 36) and its references, the usual one first."""
    picture = rng.randint(0, 60) + np.random.default_rng(rng.getrandbits(32)).normal(0, 14, (SIDE, SIDE, 3))
    things = [(rng.choice(list(RADII)), rng.choice(list(COLORS)), rng.choice(SHAPES)) for _ in range(2)]
    across = rng.random() < 0.5
    spots = [(rng.randint(8, 27), rng.randint(7, 11)), (rng.randint(8, 27), rng.randint(24, 28))]
    if not across:
        spots = [(x, y) for y, x in spots]
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for (size, color, shape), (row, column) in zip(things, spots, strict=True):
        r = RADII[size]
        dy, dx = np.abs(rows - row), np.abs(columns - column)
        inside = {
            "square": (dy <= r) & (dx <= r),
            "circle": dy**2 + dx**2 <= r**2,
            "triangle": (dx <= (rows - row + r) / 2) & (dy <= r),
            "cross": ((dy <= r / 3) & (dx <= r)) | ((dx <= r / 3) & (dy <= r)),
        }[shape]
        picture[inside] = np.array(COLORS[color]) + rng.gauss(0, 18)
    one, two = (f"a {size} {color} {shape}" for size, color, shape in things)
    where, back = ("to the left of", "to the right of") if across else ("above", "below")
    references = [
        f"{one} is {where} {two}",
        f"{one} sits {where} {two}",
        f"{two} is {back} {one}",
        f"the picture shows {one} {where} {two}",
        f"there is {one} {where} {two}",
    ]
    return np.clip(picture, 0, 255).transpose(2, 0, 1).astype(np.float32) / 255, references


def captioner(width: int, seed: int) -> Any:
    """CNN, soft attention over its map, LSTM (Xu et al. 2015, as the paper's [45])."""
    import torch
    from torch import nn

    torch.manual_seed(seed)

    class Captioner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.see = nn.Sequential(
                nn.Conv2d(3, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()
            )
            self.place = nn.Parameter(torch.randn(81, width) * 0.1)
            self.words = nn.Embedding(len(WORDS), width)
            self.ask = nn.Linear(width, width)
            self.cell = nn.LSTMCell(2 * width, width)
            self.say = nn.Linear(2 * width, len(WORDS))

        def step(self, seen: Any, word: Any, state: Any) -> tuple[Any, Any]:
            looked = torch.softmax((seen @ self.ask(state[0])[..., None]) / math.sqrt(width), 1)
            context = (looked * seen).sum(1)
            state = self.cell(torch.cat([self.words(word), context], 1), state)
            return self.say(torch.cat([state[0], context], 1)), state

        def look(self, pictures: Any) -> tuple[Any, Any]:
            seen = self.see(pictures).flatten(2).transpose(1, 2) + self.place
            zero = seen.mean(1)
            return seen, (zero, torch.zeros_like(zero))

    return Captioner()


def train(net: Any, pictures: np.ndarray, captions: Sequence[str], epochs: int, rng: Random) -> None:
    import torch

    ids = np.zeros((len(captions), LENGTH), dtype=np.int64)
    for place, caption in enumerate(captions):
        words = [NUMBER[word] for word in caption.split()]
        ids[place, : len(words)] = words
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    order = list(range(len(captions)))
    for _ in range(epochs):
        rng.shuffle(order)
        for start in range(0, len(order), 64):
            some = order[start : start + 64]
            target = torch.from_numpy(ids[some])
            seen, state = net.look(torch.from_numpy(pictures[some]))
            word = torch.full((len(some),), NUMBER["<start>"])
            loss = 0.0
            for at in range(LENGTH):
                logits, state = net.step(seen, word, state)
                # Behind the first end nothing counts.
                counts = (target[:, at - 1] != 0) if at else torch.ones(len(some), dtype=torch.bool)
                if not counts.any():
                    break
                loss = loss + torch.nn.functional.cross_entropy(logits[counts], target[counts, at])
                word = target[:, at]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()


def write(net: Any, pictures: np.ndarray) -> Said:
    """Greedy captions, each with its words' probabilities."""
    import torch

    found: Said = []
    net.eval()
    with torch.inference_mode():
        for start in range(0, len(pictures), 256):
            seen, state = net.look(torch.from_numpy(pictures[start : start + 256]))
            word = torch.full((len(seen),), NUMBER["<start>"])
            said: list[list[tuple[int, float]]] = [[] for _ in range(len(seen))]
            for _ in range(LENGTH):
                logits, state = net.step(seen, word, state)
                p, word = torch.softmax(logits, 1).max(1)
                for row, (number_of, sure) in zip(said, zip(word.tolist(), p.tolist(), strict=True), strict=True):
                    if not row or row[-1][0] != 0:
                        row.append((number_of, sure))
            found += [(" ".join(WORDS[n] for n, _ in row if n), [sure for n, sure in row if n]) for row in said]
    return found


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to 4 of all captions together, by sacrebleu."""
    metric = need("sacrebleu.metrics").BLEU
    columns = [list(column) for column in zip(*references, strict=True)]
    return [
        metric(max_ngram_order=n, tokenize="none", effective_order=False).corpus_score(list(texts), columns).score
        for n in (1, 2, 3, 4)
    ]


def mean_of(probabilities: Sequence[float], kind: Literal["arithmetic", "geometric"]) -> float:
    """Eq. 9 by the package, of the tokens without the end."""
    from langchain_dsplus.labels import mean_token_probability

    tokens = [{"token": "word", "logprob": math.log(max(p, 1e-30))} for p in probabilities]
    return mean_token_probability(tokens, kind=kind) if tokens else 0.0


def rendered(context: Context, seeds: int) -> Iterator[Piece]:
    """Scenes of each seed, and what captioners that were trained on others of them say."""
    for seed in range(seeds):
        rng = context.random(f"scenes {seed}")
        counts = [context.pick(6000, 800), context.pick(800, 200), context.pick(1500, 300)]
        made = [scene(rng) for _ in range(sum(counts))]
        pictures = np.stack([picture for picture, _ in made])
        references = [several for _, several in made]
        taught = [several[0] for several in references[: counts[0]]]
        said: dict[str, Said] = {}
        for name, width, size in (("small", 32, counts[0] // 3), ("large", 96, counts[0])):
            net = captioner(width, seed)
            train(net, pictures[:size], taught[:size], context.pick(30 if name == "small" else 12, 3), rng)
            said[name] = write(net, pictures[counts[0] :])
        yield Piece(said, references[counts[0] :], counts[1])


def run(context: Context) -> Figures:
    import torch

    from benchmarks.paper import coco

    torch.set_num_threads(1)
    found: dict[str, list[Routed]] = {arm: [] for arm in ARMS}
    scores: dict[str, list[list[float]]] = {arm: [] for arm in ARMS}
    ranks: list[float] = []
    seeds = context.pick(SEEDS, 2)
    with context.progress("seeds", seeds) as advance:
        for piece in (coco.pieces if context.full else rendered)(context, seeds):
            for arm, (routed, four) in arms_of(piece).items():
                found[arm].append(routed)
                scores[arm].append(four)
            ranks.append(rank_correlation(piece))
            advance(1)
    figures: Figures = {}
    for arm in ARMS:
        figures |= over_seeds(arm, found[arm])
        for n in range(4):
            figures |= mean(f"{arm}.bleu_{n + 1}", [four[n] for four in scores[arm]])
    figures |= mean("rank_correlation", ranks)
    return figures | gain("router", "large", found) | gain("router", "geometric", found)


def arms_of(piece: Piece) -> dict[str, tuple[Routed, list[float]]]:
    """Each arm through the package's router, on the reported pictures: what it got, and BLEU-1 to 4."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import ConfidenceRouter
    from langchain_dsplus.small_models import GeneratedText

    said, cut = piece.said, piece.cut
    reported, found = list(range(cut, len(piece.references))), {}
    for kind in KINDS:
        sure = [mean_of(chances, kind) for _, chances in said["small"]]

        def quality(threshold: float, sure: list[float] = sure) -> float:
            texts = [said["small" if sure[n] > threshold else "large"][n][0] for n in range(cut)]
            return float(np.mean(bleu(texts, piece.references[:cut])))

        threshold = float(max(np.quantile(sure[:cut], np.linspace(0, 1, 21)[:-1]), key=quality))
        small = GeneratedText(runnable=lambda n: said["small"][n], kind=kind)
        large = RunnableLambda(lambda n: said["large"][n][0]).with_types(output_type=str)
        arms = {"small": -1.0, "large": 1.0, "router": threshold} if kind == "arithmetic" else {kind: threshold}
        for arm, at in arms.items():
            with ConfidenceRouter(
                small=small, large=large, threshold=at, include_route=True, to_output=lambda a, _: a["choice"]
            ) as router:
                results = router.batch(reported)
            four = bleu([result["output"] for result in results], piece.references[cut:])
            calls = np.mean([not result["route"]["accepted"] for result in results])
            found[arm] = Routed(float(np.mean(four)), 100 * float(calls)), four
    return found


def rank_correlation(piece: Piece) -> float:
    """Of Eq. 9 and a caption's own BLEU, on the first reported pictures."""
    from scipy import stats

    some = range(piece.cut, min(piece.cut + 500, len(piece.references)))
    singles = [np.mean(bleu([piece.said["small"][n][0]], [piece.references[n]])) for n in some]
    sure = [mean_of(piece.said["small"][n][1], "arithmetic") for n in some]
    return float(stats.spearmanr(sure, singles).statistic)


def verdict(figures: Figures) -> str:
    return (
        f"The router against the large captioner alone: {against(figures, 'router', 'large')}, at "
        f"{figures['router.calls']:.0f} % of its calls; Eq. 9 and the quality of a caption have a rank correlation of "
        f"{figures['rank_correlation']:.2f}."
    )


def tables(figures: Figures) -> list[Table]:
    rows = [[ARMS[arm], *(number(figures, f"{arm}.bleu_{n}", 1) for n in range(1, 5))] for arm in ARMS]
    each = Table("paper_captions.bleu", "BLEU-1 to 4", ["", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"], rows)
    return [*table("captions", "Captions (Table 4)", figures, PAPER, ARMS), each]
