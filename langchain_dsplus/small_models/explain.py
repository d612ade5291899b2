"""Why a small model was sure: the terms of a linear head, the nearest labelled rows of an encoder's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import TypedDict


class Because(TypedDict):
    """One reason."""

    what: str
    """A term of the input, or the text of a labelled row."""
    label: str
    """What it speaks for."""
    weight: float
    """How much: what the term adds to the log-odds of the answer over the runner-up, or the row's similarity."""


def terms_of(estimator: Any, value: Any, labels: Sequence[str], k: int) -> list[Because]:
    """The terms that speak most for a linear estimator's answer, against the runner-up.

    Args:
        estimator: A pipeline of scikit-learn whose last step has `coef_`, and whose steps before name their features.
        value: The input, as the estimator reads it.
        labels: In the order of `classes_`.
        k: How many terms at most.

    Raises:
        TypeError: If it is no such pipeline.
    """
    steps = [step for _, step in getattr(estimator, "steps", ())]
    head = steps[-1] if len(steps) > 1 and hasattr(steps[-2], "get_feature_names_out") else None
    weight = getattr(head, "coef_", None)
    if weight is None:
        raise TypeError(
            "only a pipeline of scikit-learn with named features and a linear head (`coef_`) is explained by terms"
        )
    before = estimator[:-1]
    row = before.transform([value])
    x = np.asarray(row.todense() if hasattr(row, "todense") else row, dtype=np.float64).ravel()
    first, second = np.argsort(-np.asarray(estimator.predict_proba([value]))[0], kind="stable")[:2]
    # Two classes share one row of weights, which speaks for the second.
    difference = weight[0] * (1.0 if first else -1.0) if len(weight) == 1 else weight[first] - weight[second]
    added = x * difference
    names = before.get_feature_names_out()
    best = [place for place in np.argsort(-added, kind="stable")[:k] if added[place] > 0.0]
    return [Because(what=str(names[place]), label=labels[first], weight=float(added[place])) for place in best]


def nearest_rows(vector: Any, known: Any, rows: Sequence[tuple[str, str]], k: int) -> list[Because]:
    """The labelled rows whose vectors are nearest by cosine.

    Args:
        vector: Of the input, shape (d,).
        known: Of the rows, shape (n, d).
        rows: Their texts and labels.
        k: How many.
    """
    known, vector = np.asarray(known, dtype=np.float64), np.asarray(vector, dtype=np.float64)
    length = np.linalg.norm(known, axis=1) * np.linalg.norm(vector)
    similarity = np.round(known @ vector / np.maximum(length, 1e-12), 9)
    best = np.argsort(-similarity, kind="stable")[:k]
    return [Because(what=rows[i][0], label=rows[i][1], weight=float(similarity[i])) for i in best]
