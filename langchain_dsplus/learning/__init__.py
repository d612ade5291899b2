"""How small models learn from the large one: 2-stage distillation, the Distiller, the gate."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.learning.distiller import Distiller, DistillerResult
    from langchain_dsplus.learning.promotion import PromotionReport
    from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation, TwoStageResult

__all__ = [
    "Distiller",
    "DistillerResult",
    "PromotionReport",
    "TwoStageConfidenceDistillation",
    "TwoStageResult",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "distiller": "Distiller DistillerResult",
        "promotion": "PromotionReport",
        "two_stage": "TwoStageConfidenceDistillation TwoStageResult",
    },
)
