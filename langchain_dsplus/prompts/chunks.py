"""How much a small model takes at once, and cutting a text into such pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable

from langchain_dsplus.fidelity.sentences import split_sentences
from langchain_dsplus.prompts.tokens import estimate_tokens

USUAL_TOKENS = 1_500
"""Of a chunk, where nothing is known of the model: small models lose the thread in longer ones."""
_FEWEST_TOKENS = 48
_SLACK = 0.8
"""The estimate may be wrong."""


def find_chat_model(model: Any) -> tuple[BaseChatModel | None, dict[str, Any]]:
    """The chat model inside bindings, retries and fallbacks, and what was bound to it."""
    bound: dict[str, Any] = {}
    for _ in range(10):
        if isinstance(model, BaseChatModel):
            return model, bound
        for name, value in (getattr(model, "kwargs", None) or {}).items():
            bound.setdefault(name, value)
        inner = getattr(model, "bound", None) or getattr(model, "runnable", None) or getattr(model, "default", None)
        if not isinstance(inner, Runnable):
            return None, bound
        model = inner
    return None, bound


def window(model: Any, prompt_tokens: int) -> int:
    """The longest chunk for a model, in estimated tokens.

    A chunk and its rewrite, which may be as long, must fit beside the prompt into the context (`n_ctx` of `ChatLocal`,
    `num_ctx`, or `max_input_tokens` of the model's profile), and the rewrite into the longest reply (`max_tokens`,
    `max_completion_tokens`, `num_predict`, or `max_output_tokens` of the profile); at most 1,500.

    Args:
        model: Whatever rewrites; what is no chat model gets the usual size.
        prompt_tokens: Of the instructions around the chunk.
    """
    chat, bound = find_chat_model(model)
    if chat is None:
        return USUAL_TOKENS
    profile: Any = getattr(chat, "profile", None) or {}
    context = _first(chat, bound, "n_ctx", "num_ctx") or _positive(profile.get("max_input_tokens"))
    reply = _first(chat, bound, "max_tokens", "max_completion_tokens", "num_predict", "max_new_tokens")
    reply = reply or _positive(profile.get("max_output_tokens"))
    sizes = [USUAL_TOKENS]
    if context:
        sizes.append(int((context - prompt_tokens) * _SLACK / 2))
    if reply:
        sizes.append(int(reply * _SLACK))
    return max(_FEWEST_TOKENS, min(sizes))


def _first(chat: Any, bound: dict[str, Any], *names: str) -> int | None:
    for name in names:
        found = _positive(bound.get(name)) or _positive(getattr(chat, name, None))
        if found:
            return found
    return None


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def cut(text: str, size: int, measure: Callable[[str], int] = estimate_tokens) -> list[str]:
    """Cut a text into pieces of at most `size`, where a sentence ends if one does; pieces do not overlap.

    Args:
        text: Any text.
        size: In the unit of `measure`.
        measure: Tokens or characters of a text.

    Example:
        >>> cut("He left. She stayed. They cried.", 20, len)
        ['He left. She stayed.', 'They cried.']
    """
    if measure(text) <= size:
        return [text]
    chunks: list[str] = []
    current, used = "", 0
    for sentence in split_sentences(text):
        for piece in _pieces(sentence, size, measure):
            length = measure(piece) + (1 if current else 0)
            if current and used + length > size:
                chunks.append(current)
                current, used, length = "", 0, measure(piece)
            current = f"{current} {piece}" if current else piece
            used += length
    if current:
        chunks.append(current)
    return chunks


def _pieces(sentence: str, size: int, measure: Callable[[str], int]) -> list[str]:
    if measure(sentence) <= size:
        return [sentence]
    # A token is at least a character long: pieces of `size` characters fit whatever they are made of.
    return [sentence[i : i + size] for i in range(0, len(sentence), size)]
