"""Texts as vectors: what any sentence encoder gives, as rows of length one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_encode(encoder: Any) -> Callable[[list[str]], Any]:
    """The function from texts to vectors of an encoder: its `embeddings`, `encode` or `embed_documents`, or itself.

    Raises:
        TypeError: If it has none of these.
    """
    for name in ("encode", "embeddings", "embed_documents"):
        method = getattr(encoder, name, None)
        if callable(method):
            return method  # type: ignore[no-any-return]
    if callable(encoder):
        return encoder  # type: ignore[no-any-return]
    msg = f"`encoder` needs an `encode` method or must be callable; {type(encoder).__name__} is neither"
    raise TypeError(msg)


def unit_rows(encode: Callable[[list[str]], Any], texts: Sequence[str]) -> NDArray[np.float64]:
    """Encode texts as unit vectors, shape (len(texts), dimensions).

    Raises:
        ValueError: If the encoder returns another shape, or numbers that are not finite.
    """
    rows = np.asarray(encode(list(texts)), dtype=np.float64)
    if rows.ndim != 2 or len(rows) != len(texts):
        msg = f"`encoder` returned shape {rows.shape}; expected ({len(texts)}, dimensions)"
        raise ValueError(msg)
    if not np.isfinite(rows).all():
        msg = "`encoder` returned numbers that are not finite"
        raise ValueError(msg)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    result: NDArray[np.float64] = rows / np.where(norms > 0, norms, 1.0)
    return result
