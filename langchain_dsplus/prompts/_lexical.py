"""Vectors from words alone, where there is no sentence encoder: cheap, in any language, blind to meaning."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from langchain_dsplus.fidelity.sentences import HAN, TOKEN

_SIZE = 512


def lexical_vectors(texts: Sequence[str]) -> NDArray[np.float64]:
    """Rows of hashed words, rare ones weighing more; two texts are near where they share words.

    A word counts by its first five letters, which brings "parked" and "parking" together; Chinese by
    characters and pairs of neighboring ones.

    Args:
        texts: All that will be compared; the weights come from them.

    Returns:
        Shape (len(texts), 512).
    """
    rows = np.zeros((len(texts), _SIZE))
    for row, text in zip(rows, texts, strict=True):
        for feature in set(_features(text)):
            row[zlib.crc32(feature.encode()) % _SIZE] = 1.0
    weight: NDArray[np.float64] = rows * np.log1p(len(texts) / np.maximum(rows.sum(axis=0), 1.0))
    return weight


def _features(text: str) -> list[str]:
    tokens = TOKEN.findall(text.casefold())
    han = [bool(HAN.match(token)) for token in tokens]
    pairs = [a + b for a, b, x, y in zip(tokens, tokens[1:], han, han[1:], strict=False) if x and y]
    return [token[:5] for token in tokens] + pairs
