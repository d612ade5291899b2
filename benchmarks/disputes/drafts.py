"""What the rewriting model wrote, also where the gate lets the original go on."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult


class Drafts(BaseCallbackHandler):
    """Keeps the texts of the model's calls, in order, and how long they took when they were made."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.seconds = 0.0

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        generation = response.generations[0][0]
        self.texts.append(generation.text)
        message: Any = getattr(generation, "message", None)
        self.seconds += float(message.response_metadata.get("seconds", 0.0)) if message is not None else 0.0
