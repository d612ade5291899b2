"""LangChain's messages and settings into a request of `ChatLocal`, and an engine's pieces back into messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage, convert_to_openai_messages
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_dsplus.local.jobs import End, LogprobEntry, Piece

MAX_TOP_LOGPROBS = 20

_MARK = re.compile(
    r"<[|\uff5c][^<>\n]{1,64}[|\uff5c]>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk|sop|eop)>|\[gMASK\]|\[/?INST\]"
)


def check_stop(stop: Sequence[str]) -> tuple[str, ...]:
    """Refuse stop words that are none."""
    if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
        raise ValueError("`stop` must be a list of texts, none of them empty")
    return tuple(stop)


def check_sampling(settings: Mapping[str, Any], top: Any, timeout: Any) -> None:
    """Check what a call overrides; the fields were checked at construction."""
    least = {"temperature": 0.0, "top_k": 1, "seed": 0, "max_tokens": 1}
    for name, bound in least.items():
        value = settings[name]
        if value is None and name != "temperature":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= bound:
            raise ValueError(f"`{name}` must be at least {bound}")
    top_p = settings["top_p"]
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError("`top_p` must lie in (0, 1]")
    if top is not None and not 0 <= top <= MAX_TOP_LOGPROBS:
        raise ValueError(f"`top_logprobs` must lie in [0, {MAX_TOP_LOGPROBS}]")
    if timeout is not None and not timeout > 0.0:
        raise ValueError("`timeout` must be greater than 0")


def plain_messages(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    """Roles and texts for the chat template."""
    if not messages:
        raise ValueError("`messages` is empty")
    plain = []
    for place, message in enumerate(messages):
        if isinstance(message, ToolMessage) or getattr(message, "tool_calls", None):
            raise NotImplementedError(f"message {place} calls a tool or answers one: ChatLocal knows no tools")
        [turned] = convert_to_openai_messages([message], text_format="string")
        content = turned["content"]
        if not isinstance(content, str):
            raise ValueError(  # noqa: TRY004
                f"message {place} holds something other than text (an image, a file): ChatLocal reads text only"
            )
        plain.append({"role": turned["role"], "content": inert(clean(content))})
    return plain


def inert(text: str) -> str:
    """Break up what looks like a mark of a chat template."""
    return _MARK.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)


def clean(text: str) -> str:
    """Replace lone surrogates, which no tokenizer can read."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _metadata(end: End | None, logprobs: Sequence[LogprobEntry], name: str) -> dict[str, Any]:
    """`response_metadata` of a piece; in a stream name and reason come once, since chunks add up."""
    metadata: dict[str, Any] = {}
    if end is not None:
        metadata.update(model_name=name, finish_reason=end.finish)
    if logprobs:
        metadata["logprobs"] = {"content": list(logprobs)}
    return metadata


def _usage(end: End) -> UsageMetadata:
    read, written, cached = end.tokens
    usage = UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
    if cached:
        usage["input_token_details"] = {"cache_read": cached}
    return usage


def to_chunk(piece: Piece, name: str) -> ChatGenerationChunk:
    """A piece of a reply as a chunk of a stream."""
    metadata = _metadata(piece.end, piece.logprobs, name)
    message = AIMessageChunk(
        content=piece.text,
        response_metadata=metadata,
        usage_metadata=None if piece.end is None else _usage(piece.end),
        chunk_position=None if piece.end is None else "last",
    )
    return ChatGenerationChunk(message=message, generation_info=dict(metadata) or None)


def to_result(pieces: Sequence[Piece], name: str) -> ChatResult:
    """The pieces of a reply as a whole one."""
    text = "".join(piece.text for piece in pieces)
    end = pieces[-1].end
    assert end is not None
    metadata = _metadata(end, list(chain.from_iterable(piece.logprobs for piece in pieces)), name)
    message = AIMessage(content=text, response_metadata=metadata, usage_metadata=_usage(end))
    generation = ChatGeneration(message=message, generation_info={"finish_reason": end.finish})
    usage = {
        "prompt_tokens": end.tokens.read,
        "completion_tokens": end.tokens.written,
        "total_tokens": end.tokens.read + end.tokens.written,
    }
    return ChatResult(generations=[generation], llm_output={"model_name": name, "token_usage": usage})
