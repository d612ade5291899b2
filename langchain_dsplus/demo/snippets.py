"""The demo's data: sentences of Amazon reviews that people rated (Hutto and Gilbert, ICWSM 2014)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from typing_extensions import TypedDict

from langchain_dsplus.demo.weights import register_packages
from langchain_dsplus.weights import resolve

LABELS = ["negative", "positive"]
HELD_OUT = 700


class Snippet(TypedDict):
    """One sentence and what people said about it."""

    id: str
    text: str
    gold: str


class Splits(NamedTuple):
    """Train the small models, choose the threshold, report: each on rows that the others never see."""

    train: list[Snippet]
    validation: list[Snippet]
    test: list[Snippet]


def snippets_file(*, download: bool = True) -> Path:
    """Return the file of the sentences, fetching it first if it must be.

    Raises:
        langchain_dsplus.weights.WeightsError: If it cannot be had, or is not here and `download` is False.
    """
    register_packages()
    return resolve("amazon-snippets", download=download)


def read_snippets(path: str | Path | None = None, least: float = 0.5) -> list[Snippet]:
    """Read the sentences that are clearly negative or positive.

    Args:
        path: The tab-separated file: id, mean rating from -4 to 4, text. By default `snippets_file()`.
        least: Absolute mean rating below which a sentence counts as neutral and is left out.
    """
    path = snippets_file() if path is None else path
    rows: list[Snippet] = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, rating, text = line.split("\t", 2)
        if abs(float(rating)) >= least:
            gold = LABELS[float(rating) > 0]
            rows.append({"id": key.lstrip("\ufeff"), "text": text.strip(), "gold": gold})
    return rows


def split_snippets(rows: list[Snippet], *, validation: int, test: int, seed: int = 0) -> Splits:
    """Shuffle with a fixed seed and split; the last 700 are never trained on, whatever the sizes.

    Raises:
        ValueError: If validation and test do not fit into the held-out part.
    """
    if validation + test > HELD_OUT:
        raise ValueError(f"`validation` + `test` must not exceed the {HELD_OUT} held-out rows")
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - a split, no secret
    held_out = shuffled[-HELD_OUT:]
    return Splits(shuffled[:-HELD_OUT], held_out[:validation], held_out[validation : validation + test])
