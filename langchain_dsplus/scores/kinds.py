"""The ready scores by the name that stands in their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_dsplus._json import load_json
from langchain_dsplus.scores.agreement import LearnedAgreement
from langchain_dsplus.scores.gain import LearnedGain
from langchain_dsplus.scores.nearest import NearestOutcomes
from langchain_dsplus.scores.predicted import PredictedCorrectness, PredictedDistribution, WinProbability
from langchain_dsplus.scores.ready import ReadyScore
from langchain_dsplus.small_models.files import SETTINGS

KINDS: dict[str, type[ReadyScore]] = {
    kind.__name__: kind
    for kind in (
        PredictedDistribution,
        PredictedCorrectness,
        WinProbability,
        NearestOutcomes,
        LearnedGain,
        LearnedAgreement,
    )
}


def load_score(path: str | Path, **options: Any) -> ReadyScore:
    """Read a ready score of any kind from the folder of its `save`; runs no code.

    Args:
        path: The folder.
        **options: As for the score's own `load`.

    Raises:
        ValueError: If it is no saved score, or damaged.
    """
    try:
        body = load_json((Path(path) / SETTINGS).read_text(encoding="utf-8"))
        kind = KINDS[body["kind"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} holds no saved score") from error
    return kind.load(path, **options)
