"""The check of a rewrite against its source, and what it reads texts with: sentences, numbers, names, forged orders."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.fidelity.check import Fidelity, FidelityResult, Recall, describe
    from langchain_dsplus.fidelity.nli import ClassifierNLI, Follows, NLIModel, OnnxNLI, default_nli
    from langchain_dsplus.fidelity.numbers import Number, read_numbers
    from langchain_dsplus.fidelity.sentences import split_sentences
    from langchain_dsplus.fidelity.untrusted import count_instructions, quote_untrusted
    from langchain_dsplus.fidelity.verdicts import count_verdicts

__all__ = [
    "ClassifierNLI",
    "Fidelity",
    "FidelityResult",
    "Follows",
    "NLIModel",
    "Number",
    "OnnxNLI",
    "Recall",
    "count_instructions",
    "count_verdicts",
    "default_nli",
    "describe",
    "quote_untrusted",
    "read_numbers",
    "split_sentences",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "check": "Fidelity FidelityResult Recall describe",
        "nli": "ClassifierNLI Follows NLIModel OnnxNLI default_nli",
        "numbers": "Number read_numbers",
        "sentences": "split_sentences",
        "untrusted": "count_instructions quote_untrusted",
        "verdicts": "count_verdicts",
    },
)
