"""Reading a text for the fidelity check: what is said, negated and done, and by whom."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
from collections.abc import Mapping

from langchain_dsplus.prompts._names import read_names
from langchain_dsplus.prompts._numbers import NOT_CONTENT, read_numbers
from langchain_dsplus.prompts._sentences import HAN, TOKEN, WORD, clauses, normalize, split_sentences
from langchain_dsplus.prompts._words import (
    ACTS_ZH,
    FUNCTION,
    IRREGULAR,
    JUDGEMENT,
    KINDS_BY_STEM,
    LIGHT,
    MOVING,
    NARRATOR_HAN,
    NARRATOR_WORDS,
    NEGATION_HAN,
    NOT_NEGATION,
    NOT_NEGATION_HAN,
    OTHER_HAN,
    OTHERS,
    REPORTED,
    SKIP_HAN,
    STRONG,
    SUPPORTED_BY,
    VERBS_HAN,
    WEAK,
    WEAK_HAN,
    stem_of,
)


class Reading:
    """One text, read once."""

    def __init__(
        self, text: str, names: tuple[str, ...] = (), acts: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.text = normalize(text)
        self.lower = self.text.casefold()
        self.words = TOKEN.findall(self.lower)
        self.han = " ".join(re.findall(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+", self.text))
        self.han_set = frozenset(self.han)
        plain = list(WORD.findall(re.sub(r"\b(?:a|little) bit\b", " ", self.lower)))
        self.all_words = frozenset(plain) | {w.removesuffix("'s") for w in plain}
        self.content = [
            w.removesuffix("'s") for w in plain
            if w not in FUNCTION and not w.endswith("n't") and w.removesuffix("'s") not in FUNCTION
            and w not in NOT_CONTENT and len(w) > 1
        ]  # fmt: skip
        self.stems = frozenset(stem_of(w) for w in self.all_words)
        self.numbers = frozenset(read_numbers(self.text))
        self.names = frozenset(read_names(self.text, names))
        self._kinds(acts or {})
        self._negation()
        self._actors()
        sentences = split_sentences(self.text)
        self.verdicts = sum(bool(JUDGEMENT.search(s)) and not REPORTED.search(s) for s in sentences)

    def has(self, word: str) -> bool:
        """Whether a name's word stands in the text."""
        if word in self.all_words or HAN.search(word):
            return word in self.all_words or word in self.lower
        return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", self.lower) is not None  # Smith-Jones, B2B

    def supports(self, word: str, stem: str) -> bool:
        """Whether a content word of the rewrite has support here."""
        if stem in self.stems or word in self.all_words:
            return True
        kinds = KINDS_BY_STEM.get(stem)
        if kinds and any(kind in self.kinds for kind in kinds):
            return True
        for pronouns in SUPPORTED_BY.get(word, ()):
            if pronouns in self.all_words or (pronouns in self.lower and " " in pronouns):
                return True
        if stem.startswith(("un", "non")) and stem_of(stem.removeprefix("non").removeprefix("un")) in self.negated:
            return True
        return any(related(stem, other) for other in self.stems)

    def _kinds(self, acts: Mapping[str, tuple[str, ...]]) -> None:
        kinds: dict[str, None] = {}
        for stem in sorted(self.stems):
            for kind in KINDS_BY_STEM.get(stem, ()):
                kinds[kind] = None
        for kind, words in ACTS_ZH.items():
            if self.han and any(w in self.han for w in words.split()):
                kinds[kind] = None
        for kind, more in acts.items():
            if any(stem_of(w.casefold()) in self.stems or (HAN.search(w) and w in self.han) for w in more):
                kinds[kind] = None
        self.kinds = sorted(kinds)

    def _negation(self) -> None:
        """Find negators, the words right after them (`heads`), words in their reach, and words stated outside."""
        self.negations = 0
        self.weak_negations = 0
        heads: set[str] = set()
        negated: set[str] = set()
        stated: set[str] = set()
        undone: set[str] = set()
        for clause in clauses(NOT_NEGATION.sub(" ", self.text)):
            words = WORD.findall(clause.casefold())
            reach = 0
            fresh = False
            for word in words:
                strong = word in STRONG or word.endswith("n't") or word == "n't"
                weak = stem_of(word) in WEAK
                if strong or weak:
                    self.negations += strong
                    self.weak_negations += weak
                    reach, fresh = 5, True
                    continue
                if word in FUNCTION and word not in MOVING:
                    continue
                stem = stem_of(word)
                if word.startswith("un") and len(word) > 5:
                    undone.add(stem_of(word[2:]))
                if reach:
                    negated.add(stem)
                    if fresh:
                        heads.add(stem)
                        fresh = False
                    reach -= 1
                else:
                    stated.add(stem)
        for clause in clauses(NOT_NEGATION_HAN.sub("\u3000", self.han_clauses())):
            self.weak_negations += len(WEAK_HAN.findall(clause))
            places: list[int] = []
            for match in NEGATION_HAN.finditer(clause):
                self.negations += 1
                rest = clause[match.end() :]
                skipped = SKIP_HAN.match(rest)
                begin = match.end() + (skipped.end() if skipped else 0)
                head = clause[begin : begin + 2]
                if len(head) == 2 and all(HAN.match(c) for c in head):
                    heads.add(head)
                    negated.add(head)
                places.append(match.end())
            places.extend(m.end() for m in WEAK_HAN.finditer(clause))
            for i in range(len(clause) - 1):
                pair = clause[i : i + 2]
                if all(HAN.match(c) for c in pair):
                    (negated if any(0 <= i - p <= 4 for p in places) else stated).add(pair)
        self.heads, self.stated = frozenset(heads), frozenset(stated)
        self.negated = frozenset(negated | undone)
        self.undone = frozenset(undone)
        """Of words such as `unpaid`: what comes after `un`."""

    def han_clauses(self) -> str:
        """The text without its words in alphabets, so that only Chinese is read in it."""
        return WORD.sub(" ", self.text)

    def _actors(self) -> None:
        """Find who does what: for each act (a verb's stem) the parties that do it."""
        actors: dict[str, set[str]] = {}
        self.narrator = bool(re.search(r"\bnarrators?\b", self.lower)) or "叙述者" in self.han or "叙述人" in self.han
        quoted = re.sub(r'"[^"]*"|「[^」]*」', " ", self.text)
        self.first_person = bool(re.search(r"\b(?:I|I'm|I've|I'd|I'll|my|me|we|our)\b", quoted)) or "我" in quoted
        people = {w for name in self.names for w in name}
        for sentence in split_sentences(quoted):
            for part in re.split(r"[,;:()\u2014]|\b(?:but|because|that|when|while|after|before|as|if|who)\b", sentence):
                _scan(part.casefold(), people, actors)
            for part in re.split("[，、；：。（）,;:]", sentence):
                _scan_han(part, people, actors)
        self.actors = {act: frozenset(who) for act, who in actors.items()}


def _scan(clause: str, people: set[str], actors: dict[str, set[str]]) -> None:
    """Read one English clause: a subject and its verbs; in the passive voice, who stands after `by`."""
    words: list[str] = []
    owners: set[int] = set()  # possessives act no more than `his` does
    for word in WORD.findall(clause):
        if word.endswith("'s") and word not in FUNCTION:
            owners.add(len(words))
            word = word.removesuffix("'s")  # noqa: PLW2901
        words.append(word)
    who: str | None = None
    want = acted = False
    for i, word in enumerate(words):
        if i in owners:
            continue
        before = words[i - 1] if i else ""
        if before in _BE and (word.endswith(("ed", "en")) or word in IRREGULAR or word in _UNCHANGED):
            doer = _agent(words, i, people)
            if doer is not None:
                actors.setdefault(stem_of(word), set()).add(doer)
            want = False
            continue
        party = _party(word, before, people)
        if party and _is_subject(words, i, acted=acted):
            who, want = party, True
        elif word == "and":
            want = who is not None
        elif want and (word not in LIGHT or word in MOVING) and word not in STRONG and not word.endswith(("n't", "ly")):
            actors.setdefault(stem_of(word), set()).add(who or "other")
            want, acted = False, True


_UNCHANGED = frozenset({"hit", "cut", "hurt", "shut", "beat", "burst", "put", "run", "overrun"})
_BE = frozenset({"was", "were", "been", "being", "is", "are", "be", "got"})
_BEFORE_OBJECT = frozenset({"to", "with", "at", "by", "from", "for", "of", "on", "against"})


_DETERMINERS = frozenset({"the", "a", "an", "my", "our", "his", "her", "their", "this", "that", "other"})


def _is_subject(words: list[str], i: int, *, acted: bool) -> bool:
    """`he` always is; a noun is before the clause's first verb, or right after `and`, and not after a preposition."""
    if words[i].partition("'")[0] in {"i", "we", "he", "she", "they"}:
        return True
    while i and words[i - 1] in _DETERMINERS:
        i -= 1
    before = words[i - 1] if i else ""
    return before not in _BEFORE_OBJECT and (not acted or before == "and")


def _party(word: str, before: str, people: set[str]) -> str | None:
    if word in NARRATOR_WORDS or word.startswith(("i'", "we'")):
        return "narrator"
    if word in OTHERS or word in people or word.startswith(("he'", "she'", "they'")):
        return "other"
    return "other" if word == "party" and before == "other" else None


def _agent(words: list[str], verb: int, people: set[str]) -> str | None:
    """Who stands after `by` in a passive clause."""
    if "by" not in words[verb + 1 :]:
        return None
    start = words.index("by", verb + 1) + 1
    for i in range(start, min(start + 4, len(words))):
        if words[i] in {"me", "us"}:
            return "narrator"
        if words[i] in {"him", "her", "them"}:
            return "other"
        party = _party(words[i], words[i - 1], people)
        if party:
            return party
    return None


def _scan_han(clause: str, people: set[str], actors: dict[str, set[str]]) -> None:
    """Read one Chinese clause: an act belongs to the first party before it; after `被`, to the party behind that."""
    spots = [(m.start(), m.end(), "narrator") for m in NARRATOR_HAN.finditer(clause)]
    spots += [(m.start(), m.end(), "other") for m in OTHER_HAN.finditer(clause)]
    for name in people:
        if HAN.search(name):
            spots += [(m.start(), m.end(), "other") for m in re.finditer(re.escape(name), clause)]
    spots = sorted(s for s in spots if clause[s[1] : s[1] + 1] != "的" and clause[s[1] : s[1] + 1] != "家")
    for match in VERBS_HAN.finditer(clause):
        before = [s for s in spots if s[1] <= match.start()]
        passive = clause.rfind("被", 0, match.start())
        if passive >= 0:
            before = [s for s in before if s[0] > passive]
        if before:
            actors.setdefault(match.group(), set()).add(before[0][2])


def related(stem: str, other: str) -> bool:
    """Whether two stems share enough of their beginning to be one word family: `argu`, `argument`."""
    if len(stem) < 4 or len(other) < 4:
        return False
    shortest = min(len(stem), len(other))
    need = max(4, shortest - 1)
    return stem[:need] == other[:need] and abs(len(stem) - len(other)) <= 5


def copied_share(old: list[str], new: list[str], n: int = 8) -> float:
    """Share of the rewrite's n-word runs that stand in the source; 0 for shorter rewrites."""
    if len(new) < n:
        return 0.0
    known = {tuple(old[i : i + n]) for i in range(len(old) - n + 1)}
    runs = [tuple(new[i : i + n]) for i in range(len(new) - n + 1)]
    return sum(run in known for run in runs) / len(runs)
