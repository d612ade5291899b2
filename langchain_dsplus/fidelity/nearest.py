"""The sentences of a source that a sentence of the rewrite can be about, so that long texts can be compared."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import Any

from langchain_dsplus.fidelity.sentences import HAN, TOKEN, content_words, split_sentences
from langchain_dsplus.fidelity.vectors import as_encode, unit_rows

AT_MOST = 200
"""Sentences of a rewrite that a model is asked about."""
_TOGETHER = 3
_TOO_COMMON = 200

_PERSONS = (
    (re.compile(r"\bI'm\b"), "the narrator is"),
    (re.compile(r"\bI've\b"), "the narrator has"),
    (re.compile(r"\b(?:I|me|myself)\b"), "the narrator"),
    (re.compile(r"\b(?:my|mine)\b", re.IGNORECASE), "the narrator's"),
    (re.compile("我(?!们)"), "叙述者"),
)


def third_person(text: str) -> str:
    """A text as a rewrite tells it: of the narrator. So that the person makes no difference to a model.

    Example:
        >>> third_person("I hit my brother.")
        "the narrator hit the narrator's brother."
    """
    for pattern, words in _PERSONS:
        text = pattern.sub(words, text)
    return text


def facts_of(source: str, rewrite: str, encoder: Any = None) -> list[tuple[str, str]]:
    """Each sentence of the rewrite, with the passage of the source that it can be about.

    Args:
        source: The original text.
        rewrite: What was made of it.
        encoder: Finds the nearest sentences by meaning; None: by the words that they share.

    Returns:
        For each of the first 200 sentences: the sentence, and the three nearest sentences in their order. Both told in
        the third person.
    """
    old = split_sentences(third_person(source))
    new = split_sentences(third_person(rewrite))[:AT_MOST]
    if not old or not new:
        return []
    ranked = _by_words(old, new) if encoder is None else _by_meaning(old, new, encoder)
    return [(sentence, " ".join(old[i] for i in sorted(best))) for sentence, best in zip(new, ranked, strict=True)]


def _by_words(old: Sequence[str], new: Sequence[str]) -> list[list[int]]:
    index: dict[str, list[int]] = defaultdict(list)
    for place, sentence in enumerate(old):
        for word in _content(sentence):
            index[word].append(place)
    found = []
    for number, sentence in enumerate(new):
        scores: Counter[int] = Counter()
        for word in _content(sentence):
            places = index.get(word, ())
            if len(places) <= _TOO_COMMON:
                weight = math.log(1 + len(old) / len(places)) if places else 0.0
                for place in places:
                    scores[place] += weight  # type: ignore[assignment]
        best = [place for place, _ in scores.most_common(_TOGETHER)]
        # Nothing shared: a rewrite keeps the order, so the sentences at the same height.
        height = number * len(old) // len(new)
        spare = (i for i in range(max(0, height - 1), len(old)) if i not in best)
        found.append([*best, *islice(spare, _TOGETHER - len(best))])
    return found


def _by_meaning(old: Sequence[str], new: Sequence[str], encoder: Any) -> list[list[int]]:
    rows = unit_rows(as_encode(encoder), [*old, *new])
    near = rows[len(old) :] @ rows[: len(old)].T
    return [[int(i) for i in (-row).argsort()[:_TOGETHER]] for row in near]


def _content(sentence: str) -> set[str]:
    tokens = TOKEN.findall(sentence)
    return content_words(tokens) | set(filter(HAN.match, tokens))
