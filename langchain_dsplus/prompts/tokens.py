"""A count of tokens that needs no tokenizer."""

from __future__ import annotations


def estimate_tokens(text: str) -> int:
    """A rough count of tokens without a tokenizer: one per Han, Kana or Hangul character, else one per four characters.

    Example:
        >>> estimate_tokens("He left at nine."), estimate_tokens("他走了")
        (4, 3)
    """
    wide = sum("\u2e80" <= c <= "\ud7a3" or "\uf900" <= c <= "\ufaff" or "\uff00" <= c <= "\uffef" for c in text)
    return wide + -(-(len(text) - wide) // 4)
