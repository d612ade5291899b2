"""Cutting English and Chinese text into sentences and words."""

# ruff: noqa: RUF001, SIM905 - words are easier to read as text; Chinese punctuation is meant

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
TOKEN = re.compile(
    r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|\d+(?:[.,:/]\d+)*|[^\W\d_\u3400-\u4dbf\u4e00-\u9fff]+(?:'[^\W\d_]+)*"
)
FUNCTION = frozenset(
    """a an the this that these those i me my mine myself we us our ours ourselves you your yours yourself he
    him his himself she her hers herself it its itself they them their theirs themselves who whom whose
    which what when where why how there here and or but nor so yet if then than as at by for from in into
    of off on onto out over to up down with within upon about above below under after before during since
    until till while because although though however also too very much many more most some any all both
    each every either other others another such same own just only even still again already ever once am is
    are was were be been being do does did doing done have has had having will would shall should can could
    may might must not no never none nobody nothing neither nowhere cannot without i'm i've i'd i'll he's
    she's it's they're we're that's there's don't didn't doesn't isn't wasn't weren't won't wouldn't can't
    couldn't hasn't haven't hadn't shouldn't""".split()
)
"""English words that carry no fact of their own: pronouns, articles, conjunctions, prepositions, auxiliaries."""


def normalize(text: str) -> str:
    """One writing for full-width letters, curly quotes, and spaces inside numbers."""
    text = re.sub(r"(?<=\d)[\u00a0\u202f\u2009](?=\d{3}(?!\d))", "", text)  # 12 000 with a hard space
    text = re.sub(r"(\d{0,9})([\u00bc-\u00be\u2150-\u215e])", _fraction, text)
    text = unicodedata.normalize("NFKC", text)
    return text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')


def _fraction(match: re.Match[str]) -> str:
    return f"{int(match[1] or 0) + unicodedata.numeric(match[2]):.6g}"


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
        if match.group().startswith(".") and ABBREVIATION.search(text[max(start, end - 16) : end].rstrip()):
            continue
        if piece := text[start:end].strip():
            sentences.append(piece)
        start = end
    if text[start:].strip():
        sentences.append(text[start:].strip())
    return sentences


# The look-behind and the possessive runs keep a long row of marks linear.
BREAK = re.compile(
    r"(?:(?<![.!?\u2026])[.!?\u2026]++[\"')\]\u201d\u2019]*(?=\s|[\u4e00-\u9fff]|$))|[。！？]+[\"'”’」』）]*|\n+"
)
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|No|Nr|vs|etc|approx|Inc|Ltd|Co|e\.g|i\.e|a\.m|p\.m|[A-Z])\.$"
)


@lru_cache(maxsize=1 << 14)
def stem_of(word: str) -> str:
    """A word without its ending, so that `pushed` and `pushing` are one."""
    for ending in ("ing", "ed", "es", "s", "d"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem.removesuffix("e")
    return word.removesuffix("e")


def content_words(tokens: list[str]) -> set[str]:
    """The stems of what says something among tokens; of Chinese the pairs of characters side by side."""
    words = {stem_of(t) for t in map(str.casefold, tokens) if t not in FUNCTION and not HAN.match(t)}
    return words | {a + b for a, b in pairwise(tokens) if HAN.match(a) and HAN.match(b)}


QUOTED = re.compile(
    r"\"[^\"\n]{0,500}\"|\u201c[^\u201d\n]{0,500}\u201d|\u300c[^\u300d\n]{0,500}\u300d|(?<!\w)'[^'\n]{2,200}'(?!\w)"
)
"""What stands in quotation marks."""
