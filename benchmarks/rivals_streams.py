"""Recorded answers of large models with a small model in front: what `rivals` decides about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Context


@dataclass(frozen=True)
class Stream:
    """Recorded answers as places in `labels`, shape (n,), with the scores of the small model."""

    name: str
    certify: int
    max_loss: float
    labels: list[str]
    small: np.ndarray
    large: np.ndarray
    gold: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(
        cls, classes: Sequence[str], probabilities: np.ndarray, large: Sequence[str], gold: Sequence[str], **about: Any
    ) -> Stream:
        """From names; an answer that the small model has no class for gets a place behind them."""
        labels = [*classes, *sorted({*large, *gold} - set(classes))]
        place = {label: number for number, label in enumerate(labels)}
        return cls(
            labels=labels,
            small=probabilities.argmax(axis=1),
            large=np.array([place[label] for label in large]),
            gold=np.array([place[label] for label in gold]),
            probabilities=probabilities,
            **about,
        )

    @property
    def top(self) -> np.ndarray:
        return self.probabilities.max(axis=1)

    @property
    def score(self) -> np.ndarray:
        ordered = np.sort(self.probabilities, axis=1)
        return ordered[:, -1] - ordered[:, -2]

    @property
    def harm(self) -> np.ndarray:
        return (self.large == self.gold) & (self.small != self.gold)

    def lost(self, answers: np.ndarray, rows: np.ndarray | slice = slice(None)) -> float:
        """The accuracy that these answers lose against the large model on these rows."""
        return float((self.large == self.gold)[rows].mean() - (answers == self.gold)[rows].mean())

    def breaks(self, answers: np.ndarray, rows: np.ndarray | slice = slice(None)) -> bool:
        """Whether they lose more than may be lost."""
        return self.lost(answers, rows) > self.max_loss + 1e-12

    def answers(self, escalated: np.ndarray) -> np.ndarray:
        return np.where(escalated, self.large, self.small)


def text_model(texts: Sequence[str], labels: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2 if len(texts) > 5000 else 1),
        LogisticRegression(C=30, max_iter=200, random_state=0),
    )
    return model.fit(texts, labels)


def banking77(context: Context, gold: int) -> Stream:
    train, rows = data.banking77_gpt("train"), data.banking77_gpt("test")
    context.random("Banking77: gold rows").shuffle(train)
    model = text_model([row.text for row in train[:gold]], [row.label for row in train[:gold]])
    return Stream.of(
        list(model.classes_),
        model.predict_proba([row.text for row in rows]),
        [row.large["gpt-4"] for row in rows],
        [row.label for row in rows],
        name=f"banking77_{gold}",
        certify=2000,
        max_loss=0.005,
    )


def imdb(context: Context) -> Stream:
    train, rows = data.amazon_multidomain(), data.imdb_gpt35()
    context.random("IMDB: gold rows").shuffle(train)
    train = train[: context.pick(None, 2000)]
    model = text_model([row.text for row in train], [row.label for row in train])
    return Stream.of(
        list(model.classes_),
        model.predict_proba([row.text for row in rows]),
        [row.large["gpt-3.5"] for row in rows],
        [row.label for row in rows],
        name="imdb",
        certify=650,
        max_loss=0.02,
    )


def chaosnli(_context: Context) -> Stream:
    rows = [row for row in data.chaosnli() if row.o4mini is not None and row.probabilities is not None]
    labels = list(data.NLI_LABELS.values())
    return Stream.of(
        labels,
        np.array([[row.probabilities[label] for label in labels] for row in rows]),
        [str(row.o4mini) for row in rows],
        [row.label for row in rows],
        name="chaosnli",
        certify=650,
        max_loss=0.02,
    )


@dataclass(frozen=True)
class Source:
    """How a stream is made, and of which data sets."""

    title: str
    make: Callable[[Context], Stream]
    data_sets: tuple[str, ...]


STREAMS = {
    "banking77_1000": Source(
        "Banking77, recorded GPT-4, small model from 1,000 gold rows",
        lambda context: banking77(context, 1000),
        ("banking77_gpt",),
    ),
    "banking77_2000": Source(
        "Banking77, recorded GPT-4, small model from 2,000 gold rows",
        lambda context: banking77(context, 2000),
        ("banking77_gpt",),
    ),
    "imdb": Source(
        "IMDB, recorded GPT-3.5, small model from Amazon reviews", imdb, ("amazon_multidomain", "imdb_gpt35")
    ),
    "chaosnli": Source("ChaosNLI, recorded o4-mini, recorded RoBERTa", chaosnli, ("chaosnli",)),
}
QUICK = ("banking77_1000", "chaosnli")
