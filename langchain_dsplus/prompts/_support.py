"""What a sentence encoder or an NLI model adds to the fidelity check: paraphrases that no list of words holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from langchain_dsplus.fidelity.sentences import HAN, TOKEN, split_sentences
from langchain_dsplus.fidelity.vectors import unit_rows
from langchain_dsplus.prompts._synonyms import OPPOSITES
from langchain_dsplus.prompts._words import KINDS_BY_STEM, stem_of
from langchain_dsplus.prompts.entailment import Entailment, entailed

_PULL = 4.0
"""What a change of a sentence's similarity counts against a similarity of words; chosen on the tuning pairs."""

_AT_MOST_SENTENCES = 2_000
"""Of a text; beyond, nothing is forgiven."""


def windows(sentences: Sequence[str], longest: int = 2) -> list[str]:
    """Sentences, and runs of up to `longest` neighbors: a rewrite may join two sentences into one."""
    found = list(sentences)
    for size in range(2, longest + 1):
        found += [" ".join(sentences[i : i + size]) for i in range(len(sentences) - size + 1)]
    return found


_PERSONS = (
    (re.compile(r"\bI'm\b"), "the narrator is"),
    (re.compile(r"\b(?:I|me|myself)\b"), "the narrator"),
    (re.compile(r"\b(?:my|mine)\b", re.IGNORECASE), "the narrator's"),
    (re.compile("我"), "叙述者"),
)


def third_person(text: str) -> str:
    """A text as a rewrite tells it: of the narrator. So that the person makes no difference to an encoder."""
    for pattern, words in _PERSONS:
        text = pattern.sub(words, text)
    return text


_CLAUSE = re.compile(r"[,;:]|\band\b")


class Support:
    """One source and one rewrite, encoded once."""

    def __init__(self, encode: Callable[[list[str]], Any], source: str, rewrite: str) -> None:
        self._encode = encode
        self.source = split_sentences(third_person(source))
        self.rewrite = split_sentences(rewrite)
        self.usable = 0 < len(self.source) <= _AT_MOST_SENTENCES and 0 < len(self.rewrite) <= _AT_MOST_SENTENCES
        if not self.usable:
            return
        old, new = windows(self.source), windows(self.rewrite)
        rows = unit_rows(encode, [*old, *new])
        self._old, self._new = rows[: len(old)], rows[len(old) :]

    def nearest(self) -> list[float]:
        """Of each sentence of the rewrite, the cosine to what is nearest to it in the source; 1 for Chinese.

        An encoder may or may not read Chinese: there the words decide.
        """
        rows = (self._new[: len(self.rewrite)] @ self._old.T).max(axis=1)
        return [1.0 if HAN.search(s) else float(x) for s, x in zip(self.rewrite, rows, strict=True)]

    def covered(self, clauses: Sequence[str]) -> list[float]:
        """Of each clause of the source, the cosine to the nearest clause or sentence of the rewrite; -1 for Chinese."""
        mine = [c for c in clauses if not HAN.search(c)]
        if not mine or not self.usable:
            return [-1.0] * len(clauses)
        theirs = [piece for sentence in self.rewrite for piece in _CLAUSE.split(sentence) if piece.strip()]
        rows = unit_rows(self._encode, [*(third_person(c) for c in mine), *self.rewrite, *theirs])
        near = iter((rows[: len(mine)] @ rows[len(mine) :].T).max(axis=1))
        return [-1.0 if HAN.search(c) else float(next(near)) for c in clauses]

    def forgiven(self, words: Sequence[str], known: Sequence[str], least: float) -> set[str]:
        """Which words without lexical support are paraphrases, not additions.

        A word is, where its similarity to the nearest word of the source, plus what it adds to the similarity of its
        sentence to the source (four times that), reaches `least`: a synonym leaves its sentence as near as it was or
        brings it nearer, an invention takes it away. Grave acts are never forgiven, nor are opposites of a word of the
        source.

        Args:
            words: Of the rewrite, in lower case.
            known: Content words of the source.
            least: In units of cosine similarity.
        """
        open_ = [w for w in dict.fromkeys(words) if stem_of(w) not in KINDS_BY_STEM and not HAN.search(w)]
        stems = {stem_of(w) for w in known}
        open_ = [w for w in open_ if not OPPOSITES.get(stem_of(w), frozenset()) & stems]
        if not open_ or not known or not self.usable:
            return set()
        cases = [
            (word, sentence, re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "", sentence, flags=re.IGNORECASE))
            for word in open_
            for sentence in self.rewrite
            if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE)
        ]
        vocabulary = list(dict.fromkeys(known))
        rows = unit_rows(self._encode, [*open_, *vocabulary, *(c[1] for c in cases), *(c[2] for c in cases)])
        n, m, k = len(open_), len(vocabulary), len(cases)
        near = dict(zip(open_, (rows[:n] @ rows[n : n + m].T).max(axis=1), strict=True))
        whole = (rows[n + m : n + m + k] @ self._old.T).max(axis=1) if k else np.zeros(0)
        without = (rows[n + m + k :] @ self._old.T).max(axis=1) if k else np.zeros(0)
        pulls: dict[str, list[float]] = {}
        for case, a, b in zip(cases, whole, without, strict=True):
            pulls.setdefault(case[0], []).append(float(a - b))
        return {w for w in open_ if float(near[w]) + _PULL * min(pulls.get(w, [-1.0])) >= least}


class EncoderJudge:
    """Forgives and refuses by similarity."""

    def __init__(self, support: Support, synonym: float, similarity: float, coverage: float) -> None:
        self._support, self._synonym, self._similarity, self._coverage = support, synonym, similarity, coverage

    def forgiven_words(self, words: Sequence[str], known: Sequence[str]) -> set[str]:
        """Which words are paraphrases."""
        return self._support.forgiven(words, known, self._synonym)

    def told(self, clauses: Sequence[str]) -> set[str]:
        """Which clauses of the source the rewrite tells in other words."""
        near = self._support.covered(clauses)
        return {clause for clause, x in zip(clauses, near, strict=True) if x >= self._coverage}

    def complaints(self) -> list[str]:
        """What is wrong with whole sentences of the rewrite."""
        if not self._support.usable:
            return []
        near = self._support.nearest()
        far = sum(x < self._similarity for x in near)
        if not far:
            return []
        found = f"cosine {min(near):.2f}, at least {self._similarity:g}"
        return [f"unsupported: {far} of {len(near)} sentences are near to none of the source ({found})"]


class EntailmentJudge:
    """Forgives and refuses by entailment, in both directions (as SummaC does, Laban et al., 2022)."""

    def __init__(self, nli: Entailment, source: str, rewrite: str, least: float) -> None:
        self._nli, self._least = nli, least
        self._source = split_sentences(third_person(source))
        self._rewrite = split_sentences(rewrite)

    def forgiven_words(self, words: Sequence[str], known: Sequence[str]) -> set[str]:
        """All but grave acts: what no sentence of the source entails is in `complaints`."""
        del known
        return {w for w in words if stem_of(w) not in KINDS_BY_STEM}

    def told(self, clauses: Sequence[str]) -> set[str]:
        """Which clauses of the source the rewrite entails."""
        found = self._follow(self._rewrite, [third_person(clause) for clause in clauses])
        return {clause for clause, follows in zip(clauses, found, strict=True) if follows}

    def complaints(self) -> list[str]:
        """Sentences of the rewrite that do not follow from the source."""
        if len(self._rewrite) > _AT_MOST_HYPOTHESES:
            return [f"not_entailed: more than {_AT_MOST_HYPOTHESES} sentences to prove"]
        wrong = self._follow(self._source, self._rewrite).count(False)
        return (
            [f"not_entailed: {wrong} of {len(self._rewrite)} sentences do not follow from the source"] if wrong else []
        )

    def _follow(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[bool]:
        pairs: list[tuple[str, str]] = []
        owners: list[int] = []
        chunks = _premises(premises)
        for place, hypothesis in enumerate(hypotheses):
            words = set(TOKEN.findall(hypothesis.casefold()))
            best = sorted(chunks, key=lambda c: -len(words & c.words))[:_PREMISES_EACH]
            pairs += [(chunk.text, hypothesis) for chunk in best]
            owners += [place] * len(best)
        highest = [0.0] * len(hypotheses)
        for owner, p in zip(owners, entailed(self._nli, pairs), strict=True):
            highest[owner] = max(highest[owner], p)
        return [p >= self._least for p in highest]


class _Premise(NamedTuple):
    text: str
    words: set[str]


_AT_MOST_HYPOTHESES = 200
_PREMISE_SENTENCES = 12
_PREMISES_EACH = 3


def _premises(sentences: Sequence[str]) -> list[_Premise]:
    """A short text whole; of a long one, overlapping runs of sentences that a model can read at once."""
    step = _PREMISE_SENTENCES // 2
    starts = range(0, max(1, len(sentences) - step), step)
    texts = [" ".join(sentences[i : i + _PREMISE_SENTENCES]) for i in starts]
    return [_Premise(text, set(TOKEN.findall(text.casefold()))) for text in texts]
