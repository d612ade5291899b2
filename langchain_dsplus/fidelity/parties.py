"""Are the parties confused: does one do what in the source only another did?

The narrator is `I` in the source and `the narrator` (or `I`) in the rewrite. A deed is whatever word stands between a
subject and its object: no list of verbs is needed. Only the same deed counts: a rewrite may well say of one party what
the source says in other words. Of Chinese only the narrator is looked for: it has no capitals and leaves subjects out.
"""

# ruff: noqa: RUF001, SIM905 - words are easier to read as text; Chinese punctuation is meant

from __future__ import annotations

import re
from itertools import pairwise

from langchain_dsplus.fidelity.numbers import is_number_word
from langchain_dsplus.fidelity.sentences import FUNCTION, QUOTED, stem_of

_TOKEN = re.compile(r"[^\W\d_\u3040-\u9fff]+(?:['-][^\W\d_\u3040-\u9fff]+)*|[.!?;:,\n]")
_CUT = frozenset(".!?;:,\n")
_FIRST = frozenset("i me my mine myself i'm i'd i've i'll".split())
_ME = _FIRST | {"narrator", "narrator's"}
_THEM = frozenset("he she they him her them his their hers theirs himself herself themselves".split())
_BE = frozenset("am is are was were be been being got".split())
_SKIPPED = _BE | frozenset(
    "have has had do does did then also just only never not still again already even finally both first soon".split()
)
_SAID = frozenset("that whether if how why what about".split())

_ME_HAN = re.compile("我(?!们)|叙述[者人]|陈述人|讲述者|本人")
_THEM_HAN = re.compile("[他她](?!们)|对方|另一方|邻居")
_LEAD_HAN = frozenset("时后前天日号月年但而且果先")
"""What may stand in front of the subject of a clause: `退房时我扣了钱`."""
_PASSED_HAN = re.compile(
    "[了着过的地得就也又便才再还都只已经先后来突然当场立刻首在从是有要会能可不没于最随倒下零一二两三四五六七八九十]"
)
"""Characters that tell no deed: aspects, adverbs, numerals."""
_SAID_HAN = frozenset("说称问答叫喊骂告让请跟和与给对向找")
"""What people do to each other in turn, and prepositions."""


class Parties:
    """Who does what to whom, as far as a text shows it.

    Args:
        text: A text.
        names: Its names, in lower case.
    """

    def __init__(self, text: str, names: frozenset[str]) -> None:
        plain = QUOTED.sub(" ", text)
        tokens = [t.casefold() for t in _TOKEN.findall(plain)]
        self.says_i = not _FIRST.isdisjoint(tokens) or "我" in plain
        self.says_narrator = "narrator" in tokens or "narrator's" in tokens or "叙述者" in plain
        self.names = names
        self._longest = max(map(len, names), default=0)
        self.on: set[tuple[str, str, str]] = set()
        """Who (`me`, `them`, a name, a noun), does what, to whom."""
        self.did: dict[tuple[str, str], set[str]] = {}
        """What is done, with the next word that says something -> who does it."""
        alias = {two: one for one, two in pairwise(tokens) if {one, two} <= names}  # `Ben Miller` is also `Ben`
        for place, token in enumerate(tokens):
            if not (len(token) < 3 or token in _CUT or token in FUNCTION or token in _ME or token.endswith("s'")):
                self._read(tokens, place, alias)
        for clause in re.split(r"\W+", re.sub("[:：][^。！？\n]*", "", plain)):
            if _ME_HAN.search(clause):
                self._read_han(_ME_HAN.sub("我", clause))

    def _read(self, tokens: list[str], place: int, alias: dict[str, str]) -> None:
        """Take the word there for a verb, if a subject stands in front of it."""
        left, passive, verb = place - 1, False, stem_of(tokens[place])
        while left >= 0 and place - left <= 4 and (tokens[left] in _SKIPPED or tokens[left].endswith("ly")):
            passive |= tokens[left] in _BE
            left -= 1
        who = _who(tokens[left]) if left >= 0 else ""
        whom, thing, said = self._after(tokens, place)
        if passive:
            if not tokens[place].endswith("ing"):
                by = tokens[place + 1 : place + 2] == ["by"]
                self._add((self._after(tokens, place + 1)[0] if by else "") or "them", verb, who)
        elif who:
            if not said:
                self._add(who, verb, whom)
            agents = {who, alias.get(who, who)}
            if tokens[max(0, left - 1)] == "and":
                agents |= {_who(tokens[left - 2])}
            if thing:
                self.did.setdefault((verb, thing), set()).update(agents)

    def _after(self, tokens: list[str], place: int) -> tuple[str, str, bool]:
        """To whom it is done, to what, and whether something is said to them."""
        whom = thing = ""
        for at in range(place + 1, min(place + 6, len(tokens))):
            word = tokens[at]
            if word in _CUT:
                break
            if whom and (word in _SAID or (word == "to" and not FUNCTION.issuperset(tokens[at + 1 : at + 2]))):
                return whom, thing, True
            plain = word.removesuffix("'s")
            if plain in _ME or plain in _THEM or plain in self.names:
                whom = whom or _who(plain)
            elif not (plain in FUNCTION or is_number_word(plain)):
                whom, thing = whom or plain, stem_of(plain)
                break
        return whom, thing, False

    def _read_han(self, clause: str) -> None:
        """What the narrator does, or has done to them, in a clause."""
        told = _THEM_HAN.sub("他", clause)
        spans = (told[i:j] for i in range(len(told)) for j in range(i + 1, min(i + self._longest, len(told)) + 1))
        for name in sorted(self.names.intersection(spans), key=len, reverse=True):
            told = told.replace(name, "他")
        told = _PASSED_HAN.sub("", told)
        before, _, after = told.partition("我")
        deed = after.lstrip("被把将他")[:1]
        if after.startswith("被") or before.endswith(("把", "将")):
            self._add("them", deed, "me")
        elif not before or before[-1] in _LEAD_HAN:
            self._add("me", deed, "them" if "他" in after else "")
        else:
            self._add("them", (before.rpartition("他")[2] or before[-1])[:1], "me")

    def _add(self, agent: str, verb: str, patient: str) -> None:
        """Keep it where both are known; beside the narrator everybody is `them`."""
        if not (agent and patient and verb) or agent == patient or verb in _SAID_HAN:
            return
        self.on.add((agent, verb, patient))
        if "me" in {agent, patient} and {agent, patient} & (self.names | {"them"}):
            self.on.add(("me", verb, "them") if agent == "me" else ("them", verb, "me"))

    def reversed_in(self, other: Parties) -> int:
        """In how many places another text says the reverse of this one, and this one never says anything like it."""
        found = sum(self._not_by(told, deed) for deed, told in other.did.items())
        mine = {verb for agent, verb, _ in self.on if agent == "me"}
        at_me = {verb for _, verb, patient in self.on if patient == "me"}
        for agent, verb, patient in other.on:
            if (agent == "me" and verb in mine) or (patient == "me" and verb in at_me):
                continue
            turned = ("me", verb, "them") if patient == "me" else (patient, verb, agent)
            found += (agent, verb, patient) not in self.on and not {turned, (patient, verb, agent)}.isdisjoint(self.on)
        return found

    def _not_by(self, told: set[str], deed: tuple[str, str]) -> bool:
        """Whether nobody of those told of does it here: the narrator, and two names, are never one."""
        known = self.did.get(deed, set())
        if not known or not known.isdisjoint(told):
            return False
        return "me" in told or (not told.isdisjoint(self.names) and known <= self.names | {"me"})

    @property
    def mixed(self) -> bool:
        """Whether the text speaks of `I` and of the narrator at once."""
        return self.says_i and self.says_narrator


def _who(word: str) -> str:
    """`me`, `them` for a pronoun, a name or noun, or nothing."""
    if word in {"i", "me", "narrator"}:
        return "me"
    if word in _THEM:
        return "them"
    return "" if word in _CUT or word in FUNCTION or word.endswith(("'s", "ly", "s'")) else word
