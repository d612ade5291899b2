"""A table that is there already, with another score as its confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_dsplus.answer import Answer
from langchain_dsplus.identity import score_name
from langchain_dsplus.outcomes.table import Outcomes
from langchain_dsplus.outcomes.uses import IN_TRAINING, INPUT_HASH
from langchain_dsplus.scores.protocol import RouteScore, asks_before, rate
from langchain_dsplus.scores.ready import inputs_of


def score_outcomes(outcomes: Outcomes, score: RouteScore, inputs: Sequence[Any] | None = None) -> Outcomes:
    """Return the table with a score as its confidence, and the score's name and version in `about`.

    No model is asked anew. Rows of which the score says nothing have no confidence, and are never accepted. Rows that
    the score was fitted on are marked as `in_training` where the table has `input_hash`: `certify` leaves them out.

    Choose the score on other rows than those that certify: to certify with several and keep the best is a promise
    about none of them.

    Args:
        outcomes: The table.
        score: The score, fitted.
        inputs: The inputs of the rows, in their order, by default the column `input`; None for a score that looks at
            answers alone.

    Raises:
        ValueError: If inputs are missing that the score needs, or there is another number of them.

    Example:
        ```python
        certificate = certify(score_outcomes(certify_rows, score, certify_texts), "1 point")
        ```
    """
    given = inputs is not None or "input" in outcomes
    values = inputs_of(outcomes, inputs) if asks_before(score) or given else [None] * len(outcomes)
    columns = {name: outcomes.values(name) for name in outcomes.columns}
    for name in outcomes.small_names or [""]:
        suffix = f".{name}" if name else ""
        said = [
            Answer(choice=choice or "", probabilities=probabilities or {}, confidence=confidence)
            for choice, probabilities, confidence in zip(
                *(columns.get(f"{part}{suffix}", [None] * len(outcomes)) for part in _PARTS), strict=True
            )
        ]
        places = [place for place, answer in enumerate(said) if answer["confidence"] is not None]
        answers = None if asks_before(score) else [said[place] for place in places]
        rated = rate(score, [values[place] for place in places], answers)
        if rated and all(isinstance(value, Exception) for value in rated):
            raise next(value for value in rated if isinstance(value, Exception))
        found: list[float | None] = [None] * len(outcomes)
        for place, value in zip(places, rated, strict=True):
            found[place] = None if isinstance(value, Exception) else value
        columns[f"confidence{suffix}"] = found
    seen: frozenset[str] = getattr(score, "fitted_on", frozenset())
    if seen and INPUT_HASH in outcomes:
        marks = columns.get(IN_TRAINING, [None] * len(outcomes))
        columns[IN_TRAINING] = [
            True if key in seen else mark for key, mark in zip(columns[INPUT_HASH], marks, strict=True)
        ]
    table = Outcomes(columns, about={**outcomes.about, "score": score_name(score)})
    table.folder = outcomes.folder
    return table


_PARTS = ("small", "probabilities", "confidence")
