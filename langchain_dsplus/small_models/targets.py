"""What a small model is fitted to: labels, or distributions over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Floats


def read_targets(targets: Sequence[str | Mapping[str, float]], labels: list[str] | None) -> tuple[list[str], Floats]:
    """Return the labels and the targets as distributions, shape (n, K)."""
    seen: set[str] = set()
    for place, target in enumerate(targets):
        if isinstance(target, str):
            seen.add(str(target))
        elif isinstance(target, Mapping) and all(isinstance(label, str) for label in target):
            seen.update(str(label) for label in target)
        else:
            raise TypeError(f"item {place} of `targets` must be a label (str) or a dict from label to probability")
    if labels is None:
        labels = sorted(seen)
    unknown = sorted(seen - set(labels))
    if unknown:
        raise ValueError(
            f"`targets` hold labels that are not in `labels`: {unknown[:10]}; name all of them in `labels=`"
        )
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
            raise ValueError(f"item {place} of `targets` must hold probabilities, at least 0, that sum to 1")
        wanted[place] /= total
    return labels, wanted


def read_inputs(read: Callable[[Any], Any], inputs: Sequence[Any], name: str) -> list[Any]:
    """Read each input; an error names its place in the argument `name`, never the input."""
    if isinstance(inputs, (str, bytes)):
        raise TypeError(f"`{name}` must be a list of inputs, not one {type(inputs).__name__}")
    rows = []
    for place, item in enumerate(inputs):
        try:
            rows.append(read(item))
        except TypeError as error:
            raise TypeError(f"item {place} of `{name}`: {error}") from None
    return rows


def read_weighted(
    rows: Sequence[Any], targets: Sequence[Any], weights: Sequence[float] | None, labels: list[str] | None, name: str
) -> tuple[list[str], Floats, Floats]:
    """Return the labels, the targets as distributions, shape (n, K), and the weights of the rows, shape (n,).

    Raises:
        ValueError: If there are not as many targets or weights as rows, or a weight cannot be one.
    """
    if len(rows) != len(targets):
        raise ValueError(f"`{name}` has {len(rows)} rows, `targets` has {len(targets)}")
    labels, wanted = read_targets(targets, labels)
    mass = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    if mass.shape != (len(rows),) or not (np.isfinite(mass) & (mass >= 0)).all() or (rows and not mass.any()):
        raise ValueError(f"`weights` must be {len(rows)} finite numbers, at least 0, not all 0")
    return labels, wanted, mass


def check_classes(wanted: Floats, mass: Floats, name: str) -> None:
    """Refuse what no classifier can be fitted on: no row, or one class only."""
    if not len(wanted):
        raise ValueError(f"`{name}` is empty: there is nothing to fit on")
    if (wanted[mass > 0] > 0).any(axis=0).sum() < 2:
        raise ValueError("`targets` hold one class only: a classifier needs at least two")
