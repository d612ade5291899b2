"""What the tests of scores share: a stream of inputs where length says who should answer."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_dsplus import Outcomes

LABELS = ["pos", "neg"]


class Lengths:
    """An encoder: the length of a text as an angle."""

    version = "lengths"

    def encode(self, texts):
        angles = np.array([len(text) / 40 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def stream(n, seed=0, **columns):
    """A table and its texts: the small model is right on short texts, and a coin on the long ones."""
    rng = np.random.default_rng(seed)
    texts = ["x" * int(k) for k in rng.integers(1, 61, size=n)]
    gold = rng.integers(0, 2, size=n)
    right = np.array([len(text) <= 30 for text in texts]) | (rng.random(n) < 0.5)
    small = np.where(right, gold, 1 - gold)
    sure = rng.uniform(0.5, 1.0, size=n)
    rows = [
        {
            "small": LABELS[said],
            "confidence": float(p),
            "probabilities": {LABELS[said]: float(p), LABELS[1 - said]: float(1 - p)},
            "large": LABELS[true],
            "gold": LABELS[true],
            **{name: make(place) for name, make in columns.items()},
        }
        for place, (said, true, p) in enumerate(zip(small, gold, sure, strict=True))
    ]
    return Outcomes.from_records(rows, about={"labels": LABELS, "score": "max_probability"}), texts


@pytest.fixture
def encoder():
    return Lengths()
