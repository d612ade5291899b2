"""Cutting English and Chinese text into sentences, clauses and words."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
WORD = re.compile(r"[^\W\d_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+(?:'[^\W\d_]+)*")
TOKEN = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|\d+(?:[.,:/]\d+)*|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff]+(?:'[^\W\d_]+)*"
)
CLAUSE_END = re.compile(
    r"[,;:()\u2014\u2013，、；：（）]|\b(?:but|because|although|though|while|whereas|so)\b|但是?|因为|所以"
)


def normalize(text: str) -> str:
    """One writing for full-width letters, curly quotes, and spaces inside numbers."""
    text = re.sub(r"(?<=\d)[\u00a0\u202f\u2009](?=\d{3}(?!\d))", "", text)  # 12 000 with a hard space
    text = unicodedata.normalize("NFKC", text)
    return text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')


def split_sentences(text: str) -> list[str]:
    """Split English and Chinese text into sentences, each a verbatim piece of the text.

    Abbreviations (`Mr.`, `e.g.`, initials) and decimal points do not end a sentence; line breaks do.

    Example:
        >>> split_sentences("Mr. Lind paid 3.50. Then he left! 他走了。我没走。")
        ['Mr. Lind paid 3.50.', 'Then he left!', '他走了。', '我没走。']
    """
    sentences: list[str] = []
    start = 0
    for match in BREAK.finditer(text):
        end = match.end()
        piece = text[start:end]
        if match.group().lstrip("\"')]”’」』）").startswith(".") and ABBREVIATION.search(piece.rstrip()):
            continue
        if piece.strip():
            sentences.append(piece.strip())
        start = end
    if text[start:].strip():
        sentences.append(text[start:].strip())
    return sentences


BREAK = re.compile(r"(?:[.!?\u2026]+[\"')\]\u201d\u2019]*(?=\s|[\u4e00-\u9fff]|$))|[。！？]+[\"'”’」』）]*|\n+")
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|No|Nr|vs|etc|approx|Inc|Ltd|Co|e\.g|i\.e|a\.m|p\.m|[A-Z])\.$"
)


def clauses(text: str) -> Iterator[str]:
    """The parts of sentences between commas and conjunctions."""
    for sentence in split_sentences(text):
        for clause in CLAUSE_END.split(sentence):
            if clause.strip():
                yield clause
