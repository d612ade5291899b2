"""What a teacher says, as distributions over the small model's labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from langchain_core.messages import BaseMessage

from langchain_dsplus.labels import match_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.small_models.base import SmallModel

    Floats: TypeAlias = NDArray[np.float64]


def read_target(value: Any, labels: Sequence[str]) -> Floats | None:
    """Return one answer of a teacher as a distribution, shape (len(labels),); None where it is no answer.

    Args:
        value: A label, or a text or message that names one (all mass on it); a mapping from label to probability
            (log-probabilities and vote shares give one); an `Answer`; or None.
        labels: The labels of the small model.

    Returns:
        None for None, an exception, a text without one of `labels`, or numbers that are no distribution: such a row
        teaches nothing, and a large model's slip must not stop the training. A mapping that puts mass outside `labels`
        is scaled to those inside, unless they hold less than half.

    Example:
        >>> read_target("a", ["a", "b"]).tolist(), read_target({"a": 0.25, "b": 0.75}, ["a", "b"]).tolist()
        ([1.0, 0.0], [0.25, 0.75])
    """
    if isinstance(value, Mapping) and "choice" in value and isinstance(value.get("probabilities"), Mapping):
        value = value["probabilities"] or value["choice"]
    row = np.zeros(len(labels))
    if isinstance(value, BaseMessage):
        value = value.text
    if isinstance(value, str):
        label = value if value in labels else match_label(value, labels)
        if label is None:
            return None
        row[labels.index(label)] = 1.0
        return row
    if not isinstance(value, Mapping):
        return None
    try:
        numbers = {str(label): float(number) for label, number in value.items()}
    except (TypeError, ValueError, OverflowError):
        return None
    if not all(math.isfinite(number) and number >= 0.0 for number in numbers.values()):
        return None
    if not abs(math.fsum(numbers.values()) - 1.0) <= 1e-3:
        return None
    for place, label in enumerate(labels):
        row[place] = numbers.get(label, 0.0)
    inside = float(row.sum())
    return row / inside if inside >= 0.5 else None


def read_targets(values: Sequence[Any], labels: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the answers as distributions, shape (n, K), and which of them are answers at all, shape (n,)."""
    rows = np.zeros((len(values), len(labels)))
    usable = np.zeros(len(values), dtype=bool)
    for place, value in enumerate(values):
        row = read_target(value, labels)
        if row is not None:
            rows[place], usable[place] = row, True
    return rows, usable


def ask(model: SmallModel, inputs: Sequence[Any]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Ask a small model about many inputs, one batch.

    Returns:
        Probabilities (n, K), confidences (n,) by the model's own score, and which inputs it answered (n,). Rows that it
        did not answer hold 0 and minus infinity.
    """
    rows = np.zeros((len(inputs), len(model.labels)))
    confidence = np.full(len(inputs), -math.inf)
    answered = np.zeros(len(inputs), dtype=bool)
    for place, answer in enumerate(model.answers(list(inputs)) if len(inputs) else []):
        if isinstance(answer, Exception):
            continue
        rows[place] = [answer["probabilities"].get(label, 0.0) for label in model.labels]
        confidence[place] = answer["confidence"]
        answered[place] = True
    return rows, confidence, answered


def ask_large(large: Any, values: Sequence[Any], chosen: Sequence[int]) -> list[Any]:
    """Return the large model's answers on the chosen inputs; an exception where it failed, which teaches nothing.

    Args:
        large: A Runnable (one batch), a callable from one input to an answer, or recorded answers, one per input.
        values: All inputs.
        chosen: Places of those to ask about.

    Raises:
        ValueError: If there are not as many recorded answers as inputs.
    """
    if hasattr(large, "batch") and hasattr(large, "invoke"):
        return list(large.batch([values[place] for place in chosen], return_exceptions=True)) if len(chosen) else []
    if callable(large):
        return [large(values[place]) for place in chosen]
    if len(large) != len(values):
        msg = f"`large` has {len(large)} answers, `inputs` has {len(values)} rows"
        raise ValueError(msg)
    return [large[place] for place in chosen]


def soften(row: Floats, labels: Sequence[str]) -> dict[str, float]:
    """Return a distribution as a dict of plain floats, without the labels that have none."""
    return {label: float(p) for label, p in zip(labels, row, strict=True) if p > 0.0}
