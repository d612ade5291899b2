"""What a small model is fitted to: labels, or distributions over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


def read_targets(targets: Sequence[str | Mapping[str, float]], labels: list[str] | None) -> tuple[list[str], Floats]:
    """Return the labels and the targets as distributions, shape (n, K)."""
    seen: set[str] = set()
    for place, target in enumerate(targets):
        if isinstance(target, str):
            seen.add(str(target))
        elif isinstance(target, Mapping) and all(isinstance(label, str) for label in target):
            seen.update(str(label) for label in target)
        else:
            msg = f"item {place} of `targets` must be a label (str) or a dict from label to probability"
            raise TypeError(msg)
    if labels is None:
        labels = sorted(seen)
    unknown = sorted(seen - set(labels))
    if unknown:
        msg = f"`targets` hold labels that are not in `labels`: {unknown[:10]}; name all of them in `labels=`"
        raise ValueError(msg)
    column = {label: place for place, label in enumerate(labels)}
    wanted = np.zeros((len(targets), len(labels)))
    for place, target in enumerate(targets):
        if isinstance(target, str):
            wanted[place, column[target]] = 1.0
            continue
        numbers = list(target.values())
        total = math.nan
        if all(isinstance(number, (int, float, np.integer, np.floating)) for number in numbers):
            with suppress(OverflowError):  # a whole number too large for a float
                for label, number in target.items():
                    wanted[place, column[label]] = number
                total = wanted[place].sum()
        if not (wanted[place] >= 0).all() or not abs(total - 1.0) <= 1e-3:
            msg = f"item {place} of `targets` must hold probabilities, at least 0, that sum to 1"
            raise ValueError(msg)
        wanted[place] /= total
    return labels, wanted
