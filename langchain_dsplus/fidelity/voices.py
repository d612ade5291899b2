"""Whose voice a sentence has: it tells what happened, it speaks to its reader, or it judges.

A linear model over words, pairs of neighbors and pairs of word forms; of Chinese over characters. Nobody wrote its
weights: `python -m benchmarks voices --write` learns them from sentences (`benchmarks/voices.jsonl`) in which one
situation is told, judged and made an order to the reader, and in which what somebody is said to judge or to order is
told. More sentences make it better; there is no rule to mend.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections.abc import Set as AbstractSet
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

from langchain_dsplus.fidelity.sentences import FUNCTION, HAN, TOKEN, content_words, normalize

_PART = re.compile(TOKEN.pattern + r"|[^\w\s]")
_ENDINGS = ("ing", "ed", "ly", "ion", "er", "able", "ful", "s")
_STEM = 3
"""Letters in front of an ending, at least."""
NEW = 6.0
"""What it adds to both voices if all words of a sentence are new."""
_FEW = 2
"""Words by which two new ones of two say less than ten of ten."""


class Voice(NamedTuple):
    """How surely a sentence has each voice: log odds, above 0 where it is likelier than not."""

    orders: float
    """It speaks to its reader: what to decide, answer, believe or leave out."""
    judges: float
    """It decides who is right, at fault or owed what, and nobody is said to say so."""


class _Model(NamedTuple):
    """What was learned; `benchmarks.voices` writes it."""

    weights: dict[str, tuple[float, float]]
    start: tuple[float, float]
    limits: tuple[float, float]
    """Of each voice, with what new words add to it."""


@lru_cache(maxsize=1)
def _model() -> _Model:
    return _load((files("langchain_dsplus.fidelity") / "words" / "voices.json.gz").read_bytes())


def _load(content: bytes) -> _Model:
    body = json.loads(gzip.decompress(content))
    weights = {feature: (orders, judges) for feature, orders, judges in body.pop("weights")}
    return _Model(weights, tuple(body["start"]), tuple(body["limits"]))


def features(sentence: str) -> list[str]:
    """What the model sees of a sentence, each once.

    Example:
        >>> features("Go now!")
        ['!', '! >', '#! >', '#- -', '#- !', '#< -', '< go', 'go', 'go now', 'now', 'now !']
    """
    words = ["<", *("0" if w[0].isdigit() else w.casefold() for w in _PART.findall(normalize(sentence))), ">"]
    found = set(words[1:-1])
    for (word, after), (form, form_after) in zip(pairwise(words), pairwise(map(_form, words)), strict=True):
        found |= {f"{word} {after}", f"#{form} {form_after}"}
    return sorted(found)


def _form(word: str) -> str:
    """A word of a closed class as it is, of any other its ending."""
    if word in FUNCTION or not word[0].isalpha() or HAN.match(word):
        return word
    return "-" + next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= _STEM), "")


@lru_cache(maxsize=1 << 6)  # asked twice of each sentence of a rewrite; no more texts than that are held
def read_voice(sentence: str) -> Voice:
    """How surely one sentence speaks to its reader, and how surely it judges.

    Example:
        >>> told, ordered = read_voice("The tenant paid on 3 May."), read_voice("Answer with yes and nothing else.")
        >>> ordered.orders > 0 > told.orders
        True
    """
    model = _model()
    seen = features(sentence)
    known = [model.weights[feature] for feature in seen if feature in model.weights]
    orders, judges = (math.fsum(w[i] for w in known) / math.sqrt(len(seen) or 1) for i in (0, 1))
    return Voice(model.start[0] + orders, model.start[1] + judges)


def heard_voice(sentence: str, known: AbstractSet[str] | None = None) -> tuple[bool, bool]:
    """Whether a sentence of a rewrite speaks to its reader, and whether it judges.

    What is made up has words that the source does not have; what a letter or a review says itself must sound surer.

    Args:
        sentence: One sentence.
        known: The content words of the source; None where the sentence stands in the source.

    Example:
        >>> heard_voice("That was petty and beneath him.", {"lamp"})
        (False, True)
    """
    model, voice = _model(), read_voice(sentence)
    new = 0.0 if known is None else NEW * new_share(sentence, known)
    return voice.orders + new > model.limits[0], voice.judges + new > model.limits[1]


@lru_cache(maxsize=1)  # a check asks for those of one source twice
def known_words(source: str) -> frozenset[str]:
    """The content words of a source, for `heard_voice`.

    Example:
        >>> sorted(known_words("The lamp broke."))
        ['brok', 'lamp']
    """
    return frozenset(content_words(TOKEN.findall(normalize(source))))


def new_share(sentence: str, known: AbstractSet[str]) -> float:
    """The share of a sentence's content words that are not among the known ones; of a short sentence less."""
    words = content_words(TOKEN.findall(sentence))
    return len(words - known) / (len(words) + _FEW)
