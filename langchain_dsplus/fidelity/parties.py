"""Are the parties reversed: does one do to the other what in the source only the other did to them?

The narrator is `I` in the source and `the narrator` (or `I`) in the rewrite. A verb is whatever stands between its
subject and its object: no list of verbs is needed. Only who does it **to whom** counts: a rewrite may well say of one
party what the source says in other words.
"""

# ruff: noqa: SIM905 - words are easier to read as text

from __future__ import annotations

import re
from itertools import pairwise

from langchain_dsplus.fidelity.sentences import FUNCTION, QUOTED

_TOKEN = re.compile(r"[^\W\d_\u3040-\u9fff]+(?:['-][^\W\d_\u3040-\u9fff]+)*|[.!?;:,\n]")
_ME = frozenset({"i", "me", "narrator", "myself"})
_FIRST = frozenset({"i", "me", "my", "mine", "myself", "i'm", "i'd", "i've", "i'll"})
_BE = frozenset("am is are was were be been being got".split())
_SKIPPED = _BE | frozenset(
    """have has had do does did then also just only never not still again already even finally both first
    almost soon""".split()
)
_CUT = frozenset(".!?;:,\n")
_LIGHT = frozenset("the a an at to with this that".split())
_OWNERS = {"my": "me", "narrator's": "me", "his": "them", "her": "them", "their": "them"}

_ME_HAN = "(?:我(?!们|的)|叙述者(?!的)|叙述人(?!的)|陈述人(?!的)|本人)"
_THEM_HAN = (
    "(?:他(?![们的])|她(?![们的])|对方(?!的)|另一方|邻居|[\u4e00-\u9fff]先生|[\u4e00-\u9fff]女士"
    "|[小老阿][\u4e00-\u9fff])"
)
_LEAD_HAN = "(?:先|就|也|又|便|才|突然|随后|后来|最后|于是|当场|立刻|首先|忍不住|没忍住)?"
_TAIL_HAN = "[了着过倒伤开住走上下到给]{0,2}"
_ON_HAN = (
    re.compile(f"(?P<a>{_ME_HAN}){_LEAD_HAN}[把将](?P<b>{_THEM_HAN})(?P<v>[\u4e00-\u9fff])"),
    re.compile(f"(?P<b>{_ME_HAN}){_LEAD_HAN}被(?P<a>{_THEM_HAN})(?P<v>[\u4e00-\u9fff])"),
    re.compile(f"(?P<a>{_ME_HAN}){_LEAD_HAN}(?P<v>[\u4e00-\u9fff]){_TAIL_HAN}(?P<b>{_THEM_HAN})"),
)
_BY_HAN = tuple(
    re.compile(p.pattern.replace(_ME_HAN, "\0").replace(_THEM_HAN, _ME_HAN).replace("\0", _THEM_HAN)) for p in _ON_HAN
)
_SAID_HAN = frozenset("说称问答叫喊骂告让请跟和与给对向找")
"""Verbs that people do to each other in turn, and prepositions."""


def stem_of(word: str) -> str:
    """A word without its ending, so that `pushed` and `pushing` are one."""
    for ending in ("ing", "ed", "es", "s", "d"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem.removesuffix("e")
    return word.removesuffix("e")


class Parties:
    """Who does what to whom, as far as a text shows it."""

    def __init__(self, text: str) -> None:
        plain = QUOTED.sub(" ", text)
        tokens = [t.casefold() for t in _TOKEN.findall(plain)]
        self.says_i = not _FIRST.isdisjoint(tokens) or "我" in plain
        self.says_narrator = "narrator" in tokens or "narrator's" in tokens or "叙述者" in plain
        self.on: set[tuple[str, str, str]] = set()
        """Who (`me`, `them`, a noun, or nothing in a passive without an agent), does what, to whom."""
        self._english(tokens)
        for patterns, a, b in ((_ON_HAN, "me", "them"), (_BY_HAN, "them", "me")):
            for pattern in patterns:
                self.on |= {(a, m["v"], b) for m in pattern.finditer(plain) if m["v"] not in _SAID_HAN}

    def _english(self, tokens: list[str]) -> None:
        for place, token in enumerate(tokens):
            if token in _CUT or token in FUNCTION or token in _ME or len(token) < 3 or token.endswith(("'s", "s'")):
                continue
            left, passive = place - 1, False
            while left >= 0 and place - left <= 4 and (tokens[left] in _SKIPPED or tokens[left].endswith("ly")):
                passive |= tokens[left] in _BE
                left -= 1
            subject = _who(tokens[left]) if left >= 0 else ""
            if not passive and not _speaks(tokens, place):
                self._add(subject, stem_of(token), _object(tokens, place))
                thing, owner = _belonging(tokens, place)
                self._add(subject, f"{stem_of(token)} {thing}", owner)
            elif passive and not token.endswith("ing"):
                agent = _object(tokens, place + 1) if tokens[place + 1 : place + 2] == ["by"] else "?"
                self._add(agent, stem_of(token), subject)

    def _add(self, agent: str, verb: str, patient: str) -> None:
        """Keep it where both are known; a pronoun beside the narrator is not the narrator."""
        if agent == patient or not agent or not patient:
            return
        if "me" in {agent, patient}:
            agent, patient = ("them" if who == "he" else who for who in (agent, patient))
        if "he" not in {agent, patient}:
            self.on.add((agent, verb, patient))

    def reversed_in(self, other: Parties) -> int:
        """In how many places another text says the reverse of this one, and this one never says anything like it."""
        agents = {(agent, verb) for agent, verb, _ in self.on}
        patients = {(verb, patient) for _, verb, patient in self.on}
        found = 0
        for agent, verb, patient in other.on:
            if agent == "?":
                found += (patient, verb) in agents and (verb, patient) not in patients
            elif (agent == "me" and ("me", verb) in agents) or (patient == "me" and (verb, "me") in patients):
                continue
            elif (agent, verb, patient) not in self.on:
                found += (patient, verb, agent) in self.on or (patient == "me" and ("me", verb, "them") in self.on)
        return found

    @property
    def mixed(self) -> bool:
        """Whether the text speaks of `I` and of the narrator at once."""
        return self.says_i and self.says_narrator


def _who(word: str) -> str:
    """`me`, `he` for a pronoun, a noun, or nothing."""
    if word in {"i", "me", "narrator"}:
        return "me"
    if word in {"he", "she", "they", "him", "them"}:
        return "he"
    return "" if word in _CUT or word in FUNCTION or word.endswith(("'s", "ly", "s'")) else word


def _object(tokens: list[str], place: int) -> str:
    for i in range(place + 1, min(place + 4, len(tokens))):
        word = tokens[i]
        if word == "her" and tokens[i + 1 : i + 2] and tokens[i + 1] not in _CUT | FUNCTION:
            return ""
        if word in _OWNERS or word in _CUT or word.endswith("'s"):
            return "he" if word == "her" else ""
        if word not in _LIGHT:
            return _who(word)
    return ""


def _speaks(tokens: list[str], place: int) -> bool:
    """`told him to leave`, `told him that`: what people do to each other in turn."""
    after = tokens[place + 1 : place + 6]
    return any(
        word in {"that", "whether", "if", "how", "why", "what", "about"}
        or (word == "to" and verb not in FUNCTION | _CUT)
        for word, verb in pairwise(after[1:])
    )


def _belonging(tokens: list[str], place: int) -> tuple[str, str]:
    """`knocked on his window`: the window, and whose it is."""
    for i in range(place + 1, min(place + 4, len(tokens) - 1)):
        word, thing = tokens[i], tokens[i + 1]
        if word in _CUT or (word not in FUNCTION and not word.endswith("'s")):
            return "", ""
        owner = _OWNERS.get(word) or ("them" if word.endswith("'s") else "")
        if owner and thing not in _CUT and thing not in FUNCTION:
            return stem_of(thing), owner
    return "", ""
