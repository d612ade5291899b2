"""Prompts for the large model: pruned candidates, the parser of its answers, and the classes that may be removed."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.prompts.conformal import ConformalCandidates
    from langchain_dsplus.prompts.extractive import ExtractiveSummarizer
    from langchain_dsplus.prompts.images import ClipClassifier
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.proficient import ProficientClasses, proficient_classes
    from langchain_dsplus.prompts.pruner import PromptPruner
    from langchain_dsplus.prompts.tokens import estimate_tokens

__all__ = [
    "ClipClassifier",
    "ConformalCandidates",
    "ExtractiveSummarizer",
    "LabelParser",
    "ProficientClasses",
    "PromptPruner",
    "estimate_tokens",
    "proficient_classes",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "conformal": "ConformalCandidates",
        "extractive": "ExtractiveSummarizer",
        "images": "ClipClassifier",
        "parser": "LabelParser",
        "proficient": "ProficientClasses proficient_classes",
        "pruner": "PromptPruner",
        "tokens": "estimate_tokens",
    },
)
