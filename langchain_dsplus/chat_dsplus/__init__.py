"""A chat model that is a cascade of chat models."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.chat_dsplus.model import ChatDSPlus
    from langchain_dsplus.chat_dsplus.outcomes import acollect_chat_outcomes, collect_chat_outcomes

__all__ = ["ChatDSPlus", "acollect_chat_outcomes", "collect_chat_outcomes"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "model": "ChatDSPlus",
        "outcomes": "acollect_chat_outcomes collect_chat_outcomes",
    },
)
