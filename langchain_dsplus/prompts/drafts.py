"""What a model made of a chunk: its text without wrappings, or why there is none."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from langchain_dsplus.labels import ending, is_cut

_THINKING = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_HEADING = re.compile(
    r"^\s*(?:\*\*|#+\s*)?"
    r"(?:rewritten (?:account|statement)|rewrite|(?:neutral )?summary|改写(?:后的陈述)?|摘要|总结)\s*"
    r"(?:\*\*)?[:\uff1a](?:\*\*)?\s*",
    re.IGNORECASE,
)
_MARKED_LINE = re.compile(r"^\s*<<<(?:END OF )?(?:ACCOUNT|TEXT|陈述|文字) [0-9a-f]*>>>\s*$", re.MULTILINE)


class Draft(NamedTuple):
    """What came of one chunk, before the check."""

    text: str | None
    reason: str | None = None
    error: Exception | None = None
    fields: dict[str, Any] | None = None
    """What a model filled in, where it fills a schema."""


def read_draft(output: Any) -> Draft:
    """Read one output of the rewriting model.

    The message of an error may quote the input: only its type is kept.
    """
    if isinstance(output, Exception):
        return Draft(None, f"model_error: {type(output).__name__}", output)
    if isinstance(output, BaseMessage):
        text = str(output.text)
    elif isinstance(output, str):
        text = output
    else:
        return Draft(None, f"model_error: the model returned {type(output).__name__}, not a text")
    text = cleaned(text)
    if not text:
        return Draft(None, "empty: the model wrote nothing")
    if is_cut(reason := ending(output)):
        return Draft(None, f"cut_off: the rewrite is not whole ({reason})")
    return Draft(text)


def cleaned(text: str) -> str:
    """Drop what chat models put around a text: thinking, a heading, a fence, the marked lines."""
    text = _THINKING.sub("", text)
    text = _MARKED_LINE.sub("", text)
    fenced = re.fullmatch(r"\s*```\w*\n(.*?)\n?```\s*", text, flags=re.DOTALL)
    text = _HEADING.sub("", fenced[1] if fenced else text).strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]
    return text[1:-1].strip() if quoted else text
