"""The small models that `certify_real` certifies, and the rows with recorded answers of a large model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.harness import Context

HEADS = ("tfidf", "chars", "minilm")
GOLD = (231, 500, 1000, 2000)


@dataclass(frozen=True)
class Recorded:
    """Texts with their true class and the large model's recorded class, as numbers; -1 is no class."""

    texts: list[str]
    gold: np.ndarray
    large: np.ndarray

    def take(self, rows: np.ndarray) -> Recorded:
        """Some of the rows."""
        return Recorded([self.texts[row] for row in rows], self.gold[rows], self.large[rows])

    def loss(self, probabilities: np.ndarray) -> np.ndarray:
        """What accepting each row loses against the large model: 1, 0 or -1."""
        right = probabilities.argmax(axis=1) == self.gold
        return (self.large == self.gold).astype(int) - right


@dataclass(frozen=True)
class Fitted:
    """What a small model says: on the development rows that it was not trained on, and on the final rows.

    Attributes:
        develop: Probabilities, shape (rows, classes).
        final: The same for the final rows.
        usable: Which development rows the model was not trained on.
    """

    develop: np.ndarray
    final: np.ndarray
    usable: np.ndarray


class Banking:
    """Banking77: rows to train on, development rows (few-shot dev file), and the final 3,080 rows."""

    def __init__(self, context: Context) -> None:
        folder = data.find("banking77_gpt")
        for file in ("few_shot_train.csv", "few_shot_dev.csv", "train.csv", "test.csv"):
            context.hash_file(folder / file)
        self.labels = data.banking77_labels()
        self._place = {label: place for place, label in enumerate(self.labels)}
        self.few = self._read("few_shot_train")
        self.train = self._read("train")
        self.develop = self._read("few_shot_dev")
        self.final = self._read("test")
        self._context = context
        self._embedded: dict[str, np.ndarray] = {}

    def _read(self, split: Any) -> Recorded:
        rows = data.banking77_gpt(split)
        gold = np.array([self._place[row.label] for row in rows])
        large = np.array([self._place.get(row.large.get("gpt-4", ""), -1) for row in rows])
        return Recorded([row.text for row in rows], gold, large)

    def draw(self, gold: int, seed: int) -> Recorded:
        """Training rows: the few-shot file for 231, else a random draw."""
        if gold == len(self.few.texts):
            return self.few
        rows = np.random.default_rng([seed, gold]).permutation(len(self.train.texts))[:gold]
        return Recorded([self.train.texts[row] for row in rows], self.train.gold[rows], self.train.large[rows])

    @cached_property
    def _encoder(self) -> Any:
        from langchain_dsplus.small_models.encoder import Encoder

        return Encoder(backend="torch")

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """MiniLM's vectors; each text is encoded once in the whole run."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._embedded]
        if missing:
            self._context.say(f"MiniLM: encoding {len(missing):,} texts")
            self._embedded |= dict(zip(missing, self._encoder.encode(missing), strict=True))
        return np.stack([self._embedded[text] for text in texts])

    def fit(self, head: str, train: Recorded) -> Fitted:
        """Train a small model, and ask it."""
        seen = set(train.texts)
        usable = np.array([text not in seen for text in self.develop.texts])
        ask = self._minilm(train) if head == "minilm" else self._tfidf(train, characters=head == "chars")
        return Fitted(ask(self.develop.texts), ask(self.final.texts), usable)

    def _minilm(self, train: Recorded) -> Callable[[list[str]], np.ndarray]:
        """The package's sentence classifier; penalty and temperature come from folds of the training rows."""
        from langchain_dsplus import SentenceClassifier

        small = SentenceClassifier(_Rows(self), labels=self.labels)
        small.fit(train.texts, [self.labels[place] for place in train.gold])
        return small.predict_proba

    def _tfidf(self, train: Recorded, *, characters: bool) -> Callable[[list[str]], np.ndarray]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline, make_union

        parts = [TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)]
        if characters:
            parts.append(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True))
        pipeline = make_pipeline(make_union(*parts), LogisticRegression(C=30, max_iter=100))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 100 steps are plenty; the solver says that it could go on
            pipeline.fit(train.texts, train.gold)
        classes = pipeline[-1].classes_

        def ask(texts: list[str]) -> np.ndarray:
            probabilities = np.zeros((len(texts), len(self.labels)))
            probabilities[:, classes] = pipeline.predict_proba(texts)
            return probabilities

        return ask


class _Rows:
    """An encoder that remembers: `Banking`'s vectors."""

    version = "all-MiniLM-L6-v2"

    def __init__(self, banking: Banking) -> None:
        self._banking = banking

    def encode(self, texts: list[str]) -> np.ndarray:
        return self._banking.embed(texts)


def imdb(context: Context) -> tuple[Recorded, np.ndarray, list[str]]:
    """IMDB with GPT-3.5, and TF-IDF trained on other sites' reviews: there are no gold rows to train on."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    context.hash_file(data.find("imdb_gpt35") / "dev.csv")
    labels = ["negative", "positive"]
    rows = data.imdb_gpt35()
    final = Recorded(
        [row.text for row in rows],
        np.array([labels.index(row.label) for row in rows]),
        np.array([labels.index(row.large["gpt-3.5"]) if row.large["gpt-3.5"] in labels else -1 for row in rows]),
    )
    train = [*data.amazon_multidomain(), *data.uci_sentences()]
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=200)
    )
    pipeline.fit([row.text for row in train], [labels.index(row.label) for row in train])
    return final, pipeline.predict_proba(final.texts), labels


def chaosnli(context: Context) -> tuple[Recorded, np.ndarray, list[str]]:
    """ChaosNLI with o4-mini; the small model is RoBERTa-base as it was recorded."""
    context.hash_file(data.find("chaosnli") / "mnli_matched.csv")
    labels = list(data.NLI_LABELS.values())
    rows = [row for row in data.chaosnli() if row.o4mini is not None and row.probabilities is not None]
    final = Recorded(
        [row.id for row in rows],
        np.array([labels.index(row.label) for row in rows]),
        np.array([labels.index(row.o4mini) for row in rows]),
    )
    probabilities = np.array([[row.probabilities[label] for label in labels] for row in rows])
    return final, probabilities / probabilities.sum(axis=1, keepdims=True), labels
