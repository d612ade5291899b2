"""A shunt behind the OpenAI protocol: any client, one changed base URL; and a page to label its disagreements."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.serve.app import Limits, create_app
    from langchain_dsplus.serve.label import label_app
    from langchain_dsplus.serve.open import open_shunt
    from langchain_dsplus.serve.tasks import ChatTask, DecisionTask
    from langchain_dsplus.serve.upstream import Upstream

__all__ = ["ChatTask", "DecisionTask", "Limits", "Upstream", "create_app", "label_app", "open_shunt"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "app": "Limits create_app",
        "label": "label_app",
        "open": "open_shunt",
        "tasks": "ChatTask DecisionTask",
        "upstream": "Upstream",
    },
)
