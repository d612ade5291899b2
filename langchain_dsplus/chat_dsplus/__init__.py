"""A chat model that is a cascade of chat models, and judges of what it says."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.chat_dsplus.calls import same_calls
    from langchain_dsplus.chat_dsplus.judges import (
        CallJudge,
        ExactJudge,
        LLMJudge,
        NLIJudge,
        NumericJudge,
        ReadyJudge,
        SimilarityJudge,
    )
    from langchain_dsplus.chat_dsplus.model import ChatDSPlus
    from langchain_dsplus.chat_dsplus.outcomes import acollect_chat_outcomes, collect_chat_outcomes

__all__ = [
    "CallJudge",
    "ChatDSPlus",
    "ExactJudge",
    "LLMJudge",
    "NLIJudge",
    "NumericJudge",
    "ReadyJudge",
    "SimilarityJudge",
    "acollect_chat_outcomes",
    "collect_chat_outcomes",
    "same_calls",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "calls": "same_calls",
        "judges": "CallJudge ExactJudge LLMJudge NLIJudge NumericJudge ReadyJudge SimilarityJudge",
        "model": "ChatDSPlus",
        "outcomes": "acollect_chat_outcomes collect_chat_outcomes",
    },
)
