"""A chat model that remembers what it was asked: a run that was cut off goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, Field


class Answers:
    """Answers by the hash of what was asked, in a JSONL file; each is on disk before the next is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 0.0
        self.remembered = 0.0  # what the answers that were there already, and were read, took when they were asked
        self.asked = 0
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # the run was cut off while it wrote this line
                    continue
                self._known[row["key"]] = row
        self._unread = {key: row["seconds"] for key, row in self._known.items()}

    def get(self, asked: Any, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer, from the file where it was asked before."""
        text = json.dumps(asked, ensure_ascii=False, sort_keys=True)
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        with self._lock:
            row = self._known.get(key)
            self.remembered += self._unread.pop(key, 0.0)
        if row is None:
            started = time.perf_counter()
            answer = ask()
            seconds = time.perf_counter() - started
            row = {"key": key, "seconds": round(seconds, 3), **answer}
            with self._lock:
                self._known[key] = row
                self.seconds += seconds
                self.asked += 1
                # The leading line break ends a line that an earlier run left half written.
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n" + json.dumps(row, ensure_ascii=False) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
        return row


class Remembered(BaseChatModel):
    """The chat model `start()` gives, started at the first question that is not remembered."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str
    start: Callable[[], BaseChatModel] = Field(exclude=True)
    answers: Any = Field(exclude=True)
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def _llm_type(self) -> str:
        return "remembered"

    def with_settings(self, **settings: Any) -> Remembered:
        """The same model, asked differently."""
        return self.model_copy(update={"settings": {**self.settings, **settings}})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: Any = None,
        **kwargs: Any,
    ) -> ChatResult:
        settings = {**self.settings, **kwargs, **({"stop": stop} if stop else {})}
        asked = {"model": self.model, "messages": [[m.type, m.content] for m in messages], "settings": settings}

        def ask() -> dict[str, Any]:
            result = self.start().generate([messages], **settings)
            replies = [generation.message for generation in result.generations[0]]  # type: ignore[union-attr]
            usage = getattr(replies[0], "usage_metadata", None) or {}
            return {
                "replies": [
                    {
                        "text": str(reply.text),
                        "logprobs": reply.response_metadata.get("logprobs"),
                        "finish_reason": reply.response_metadata.get("finish_reason"),
                    }
                    for reply in replies
                ],
                "input_tokens": int(usage.get("input_tokens", 0)),
                "output_tokens": int(usage.get("output_tokens", 0)),
            }

        row = self.answers.get(asked, ask)
        usage = {key: row[key] for key in ("input_tokens", "output_tokens")}
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
        messages_out = [
            AIMessage(
                reply["text"],
                response_metadata={
                    "model_name": self.model,
                    "finish_reason": reply["finish_reason"],
                    "logprobs": reply["logprobs"],
                    "seconds": row["seconds"],
                },
                usage_metadata=usage if place == 0 else None,
            )
            for place, reply in enumerate(row["replies"])
        ]
        return ChatResult(generations=[ChatGeneration(message=message) for message in messages_out])
