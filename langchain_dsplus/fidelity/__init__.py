"""The check of a rewrite against its source, and what it reads texts with: sentences, numbers, names, forged orders."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_dsplus.fidelity.check import Fidelity, FidelityResult, Recall, describe
    from langchain_dsplus.fidelity.nli import ClassifierNLI, Follows, NLIModel, OnnxNLI, aegis_nli, default_nli
    from langchain_dsplus.fidelity.numbers import Number, read_numbers
    from langchain_dsplus.fidelity.sentences import split_sentences
    from langchain_dsplus.fidelity.untrusted import count_instructions, count_verdicts, quote_untrusted

_HOME = {
    **dict.fromkeys(("Fidelity", "FidelityResult", "Recall", "describe"), "check"),
    **dict.fromkeys(("ClassifierNLI", "Follows", "NLIModel", "OnnxNLI", "aegis_nli", "default_nli"), "nli"),
    **dict.fromkeys(("Number", "read_numbers"), "numbers"),
    **dict.fromkeys(("count_instructions", "count_verdicts", "quote_untrusted"), "untrusted"),
    "split_sentences": "sentences",
}

__all__ = [
    "ClassifierNLI",
    "Fidelity",
    "FidelityResult",
    "Follows",
    "NLIModel",
    "Number",
    "OnnxNLI",
    "Recall",
    "aegis_nli",
    "count_instructions",
    "count_verdicts",
    "default_nli",
    "describe",
    "quote_untrusted",
    "read_numbers",
    "split_sentences",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
