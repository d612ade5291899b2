"""What an input holds beside its text: images, files, audio. A model that reads text alone must not answer for them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel

_WORDS = frozenset(
    {
        *("text", "input_text", "output_text", "refusal", "reasoning", "thinking", "redacted_thinking"),
        *("tool_call", "tool_call_chunk", "tool_use", "server_tool_call", "function_call", "invalid_tool_call"),
        *("reasoning_content", "input_json_delta", "citations"),
    }
)
"""Types of content blocks that a model writes in words; whatever else stands in a message is an attachment."""

_DATA = frozenset(
    {
        *("image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file"),
        *("document", "media", "text-plain"),
    }
)
"""Types of content blocks that are attachments wherever they stand (LangChain, OpenAI, Anthropic, Google)."""

_MIME = ("mime_type", "mimeType", "media_type", "content_type")
"""What says beside some data what they are."""

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*,", re.IGNORECASE)
_DEPTH = 20


def find_attachment(value: Any) -> str | None:
    """Name the first thing in an input that is no text, number or the like; None where there is none.

    Args:
        value: A text, a message in any of LangChain's forms, a prompt, a list of messages, a dict of any of these.

    Returns:
        The type of a content block ("image_url"), or of an object ("bytes"); never a part of the input.

    Example:
        >>> find_attachment([("human", "Look!"), {"role": "user", "content": [{"type": "image", "url": "..."}]}])
        'image'
        >>> find_attachment({"text": "Look!", "scan": b"%PDF-1.7"})
        'bytes'
    """
    return _find(value, 0)


def _find(value: Any, depth: int) -> str | None:
    if value is None or isinstance(value, (bool, int, float)):
        return None
    if isinstance(value, str):
        return "data URL" if _DATA_URL.match(value) else None
    if depth > _DEPTH:
        return "nesting"
    if isinstance(value, PromptValue):
        value = value.to_messages()
    if isinstance(value, BaseMessage):
        more = value.additional_kwargs
        return _in_message(value.content, depth) or _is_there(more.get("audio")) or _find(more, depth + 1)
    if isinstance(value, Mapping):
        return _in_mapping(value, depth)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):  # ("human", content)
        return _in_message(value[1], depth) if isinstance(value[1], list) else _find(value[1], depth + 1)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _first(value, lambda part: _find(part, depth + 1))
    if _is_data(value):
        return type(value).__name__
    if isinstance(value, BaseModel):
        return _find(vars(value), depth + 1)
    if is_dataclass(value) and not isinstance(value, type):
        return _first((getattr(value, one.name, None) for one in fields(value)), lambda part: _find(part, depth + 1))
    return None


def _in_mapping(value: Mapping[Any, Any], depth: int) -> str | None:
    kind = value.get("type")
    if isinstance(kind, str) and kind in _DATA and len(value) > 1:
        return kind
    if len(value) > 1 and any("/" in mime for name in _MIME if isinstance(mime := value.get(name), str)):
        return "a file with its type"
    if isinstance(value.get("content"), list) and isinstance(value.get("role", kind), str):  # a message as a dict
        return _in_message(value["content"], depth)
    return _first(value.values(), lambda part: _find(part, depth + 1))


def _in_message(content: Any, depth: int) -> str | None:
    """In a message every block counts that is not in words."""

    def in_block(block: Any) -> str | None:
        if isinstance(block, Mapping):
            kind = block.get("type", "text" if "text" in block else "block")
            return None if kind in _WORDS else str(kind)
        return _find(block, depth + 1)

    return _first(content, in_block) if isinstance(content, list) else _find(content, depth + 1)


def _first(parts: Iterable[Any], look: Callable[[Any], str | None]) -> str | None:
    return next((found for found in map(look, parts) if found is not None), None)


def _is_there(audio: Any) -> str | None:
    return "audio" if audio else None


def _is_data(value: Any) -> bool:
    """Whether an object holds data of its own: bytes, a path, an open file, an image, an array, a LangChain blob."""
    if isinstance(value, (bytes, bytearray, memoryview, os.PathLike)):
        return True
    if any(callable(getattr(value, name, None)) for name in ("read", "as_bytes", "tobytes")):
        return getattr(value, "ndim", 1) != 0  # a NumPy scalar is a number
    return bool(getattr(value, "shape", ()))


def is_row(value: Any) -> bool:
    """Whether a value is the row of a table: a pandas Series, or one of the tuples of `itertuples`."""
    named = isinstance(value, tuple) and hasattr(value, "_fields")
    return named or (hasattr(value, "index") and hasattr(value, "to_dict") and not isinstance(value, (str, Mapping)))


def row_to_dict(value: Any) -> dict[str, Any]:
    """The row of a table as a dict from column to value."""
    as_dict = getattr(value, "_asdict", None) or value.to_dict
    return dict(as_dict())
