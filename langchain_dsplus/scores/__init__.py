"""Scores that see the input, the small model's answer, or both: what is compared with the threshold."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.scores.agreement import LearnedAgreement
    from langchain_dsplus.scores.gain import LearnedGain
    from langchain_dsplus.scores.kinds import load_score
    from langchain_dsplus.scores.nearest import NearestOutcomes
    from langchain_dsplus.scores.outcomes import score_outcomes
    from langchain_dsplus.scores.predicted import PredictedCorrectness, PredictedDistribution, WinProbability
    from langchain_dsplus.scores.protocol import RouteScore

__all__ = [
    "LearnedAgreement",
    "LearnedGain",
    "NearestOutcomes",
    "PredictedCorrectness",
    "PredictedDistribution",
    "RouteScore",
    "WinProbability",
    "load_score",
    "score_outcomes",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "agreement": "LearnedAgreement",
        "gain": "LearnedGain",
        "kinds": "load_score",
        "nearest": "NearestOutcomes",
        "outcomes": "score_outcomes",
        "predicted": "PredictedCorrectness PredictedDistribution WinProbability",
        "protocol": "RouteScore",
    },
)
