"""A small world: three classes of made-up words, a chain that is right on most texts, a TF-IDF model."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_dsplus.shunt import DataShunt

LABELS = ["refund", "delivery", "login"]


@dataclass
class World:
    """Texts, their truth, and a chain that is asked about them."""

    folder: Path
    seed: int = 0
    error: float = 0.0
    truth: dict[str, str] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def text(self, label: str | None = None) -> str:
        label = label or self.rng.choice(LABELS)
        words = [f"{label}{self.rng.randrange(6)}" for _ in range(3)] + [f"w{self.rng.randrange(99)}" for _ in range(3)]
        made = " ".join(words)
        self.truth.setdefault(made, label)
        return made

    def texts(self, n: int) -> list[str]:
        return [self.text() for _ in range(n)]

    def answer(self, text: str) -> str:
        self.asked.append(text)
        rng = random.Random(text)
        return rng.choice(LABELS) if rng.random() < self.error else self.truth[text]

    @property
    def chain(self) -> Any:
        return RunnableLambda(self.answer).with_types(output_type=str)

    def small(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        from langchain_dsplus import SklearnClassifier

        rows = [self.text(label) for label in LABELS for _ in range(4)]
        pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
        return SklearnClassifier(pipeline.fit(rows, [self.truth[row] for row in rows]))

    def shunt(self, **options: Any) -> DataShunt:
        options = {"version": "1", "background": False, "follow": 0.0, "key": "0123456789abcdef", **options}
        options.setdefault("small", self.small())
        return DataShunt(self.chain, LABELS, self.folder / "shunt", options.pop("max_loss", "5 points"), **options)

    def tell(self, shunt: DataShunt) -> int:
        """A person labels all that is wanted."""
        told = {row["id"]: self.truth[row["input"]] for row in shunt.to_label(None)}
        if told:
            shunt.add_gold(told)
        return len(told)

    def live(self, shunt: DataShunt, rows: int = 1200) -> None:
        """Run until something is answered locally."""
        for _ in range(0, rows, 60):
            shunt.batch(self.texts(60))
            shunt.work()
            self.tell(shunt)
            if shunt.certificate is not None:
                return
        pytest.fail(f"nothing went live: {shunt.status()}")

    def goes_on(self, other: World) -> World:
        """Take over another world's texts, and a copy of its shunt."""
        shutil.copytree(other.folder / "shunt", self.folder / "shunt")
        self.truth.update(other.truth)
        self.rng.setstate(other.rng.getstate())
        return self


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose shunt is live, for tests that begin there: they take a copy."""
    made = World(tmp_path_factory.mktemp("lived"))
    with made.shunt() as shunt:
        made.live(shunt)
    return made


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    def make(**options: Any) -> World:
        return World(tmp_path, **options)

    return make
