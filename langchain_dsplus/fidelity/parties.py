"""Are the parties confused, where pronouns and possessives show it?

The narrator is `I` in the source and `the narrator` (or `I`) in the rewrite. A verb is whatever stands behind its
subject: no list of verbs is needed to see that only `I` pushed in one text, and only somebody else in the other.
"""

# ruff: noqa: SIM905 - words are easier to read as text

from __future__ import annotations

import re
from collections import Counter, defaultdict

from langchain_dsplus.fidelity.sentences import FUNCTION
from langchain_dsplus.fidelity.untrusted import QUOTED

_TOKEN = re.compile(r"[^\W\d_\u3040-\u9fff]+(?:['-][^\W\d_\u3040-\u9fff]+)*|[.!?;:,\n]")
_ME = frozenset({"i", "me", "narrator", "myself"})
_FIRST = frozenset({"i", "me", "my", "mine", "myself", "i'm", "i'd", "i've", "i'll"})
_OTHERS = frozenset({"party", "neighbor", "neighbour", "man", "woman", "opponent"})
"""What a rewrite may call somebody whom the source only calls `he` or `she`."""
_BE = frozenset("am is are was were be been being got".split())
_SKIPPED = _BE | frozenset(
    """have has had do does did then also just only never not still again already even finally both first
    almost soon""".split()
)
_CUT = frozenset(".!?;:,\n")
_LIGHT = frozenset("the a an at to with his her their my our this that".split())

_ME_HAN = "(?:我(?!们)|叙述者|叙述人|陈述人|本人)"
_THEM_HAN = "(?:他(?!们)|她(?!们)|对方|另一方|邻居|[\u4e00-\u9fff]先生|[\u4e00-\u9fff]女士|[小老阿][\u4e00-\u9fff])"
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
_DID_HAN = re.compile(f"(?:(?P<me>{_ME_HAN})|(?P<them>{_THEM_HAN})){_LEAD_HAN}(?P<v>[\u4e00-\u9fff]{{2}})")
_OWN_HAN = re.compile(f"(?:(?P<me>{_ME_HAN})|(?P<them>{_THEM_HAN}))的(?P<v>[\u4e00-\u9fff]{{1,2}})")


def stem_of(word: str) -> str:
    """A word without its ending, so that `pushed` and `pushing` are one."""
    for ending in ("ing", "ed", "es", "s", "d"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            stem = word[: -len(ending)]
            return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem.removesuffix("e")
    return word.removesuffix("e")


class Parties:
    """Who does what and who owns what, as far as a text shows it."""

    def __init__(self, text: str) -> None:
        plain = QUOTED.sub(" ", text)
        tokens = [t.casefold() for t in _TOKEN.findall(plain)]
        self.says_i = not _FIRST.isdisjoint(tokens) or "我" in plain
        self.says_narrator = "narrator" in tokens or "narrator's" in tokens or "叙述者" in plain
        self._others_certain = not self.says_narrator
        self.did: dict[str, Counter[str]] = defaultdict(Counter)
        """Stem -> how often the narrator (`me`), somebody else (`them`) or nobody known (`?`) does it."""
        self.undergone: dict[str, set[str]] = defaultdict(set)
        """Stem -> to whom it is done, in the passive."""
        self.on: set[tuple[str, str, str]] = set()
        """Who, does what, to whom."""
        self.owns: dict[str, set[str]] = defaultdict(set)
        self.subjects: set[str] = set()
        """Nouns and names that do something."""
        self._english(tokens)
        self._chinese(plain)

    def _english(self, tokens: list[str]) -> None:
        subject = "?"
        for place, token in enumerate(tokens):
            if token in _CUT or token in FUNCTION or token in _ME or len(token) < 3:
                subject = "?" if token in _CUT - {","} else subject
                continue
            if token.endswith(("'s", "s'")):
                continue
            self._possessive(tokens, place)
            stem = stem_of(token)
            left, passive = place - 1, False
            while left >= 0 and place - left <= 4 and (tokens[left] in _SKIPPED or tokens[left].endswith("ly")):
                passive |= tokens[left] in _BE
                left -= 1
            passive = passive and not token.endswith("ing")
            who = self._who(tokens, left)
            if who == "?" and left >= 0 and tokens[left] in {"and", "then"}:
                who = subject
            if passive:
                self._passive(tokens, place, left, stem)
                self.did[stem]["?"] += 1
                continue
            self.did[stem][who] += 1
            if who != "?":
                subject = who
                if who.startswith("them:"):
                    self.subjects.add(who.partition(":")[2])
                target = self._object(tokens, place)
                if target and who not in {target, "?"}:
                    self.on.add((who, stem, target))

    def _who(self, tokens: list[str], place: int) -> str:
        """`me`, `them`, `them:tomas`, or `?`."""
        if place < 0:
            return "?"
        word = tokens[place]
        if word in {"i", "narrator"}:
            return "me"
        if word in {"he", "she", "they"}:
            return "them" if self._others_certain else "?"
        if word in _CUT or word in FUNCTION or word.endswith(("'s", "ly", "s'")):
            return "?"
        return f"them:{word}"

    def _object(self, tokens: list[str], place: int) -> str:
        for word in tokens[place + 1 : place + 4]:
            if word in {"me", "narrator"}:
                return "me"
            if word in {"him", "them"}:
                return "them" if self._others_certain else ""
            if word in _CUT or (word in FUNCTION and word not in _LIGHT) or word.endswith(("'s", "s'")):
                return ""
            if word not in _LIGHT:
                return f"them:{word}"
        return ""

    def _passive(self, tokens: list[str], place: int, left: int, stem: str) -> None:
        who = self._who(tokens, left)
        if who == "?":
            return
        self.undergone[stem].add(who.partition(":")[0])
        if tokens[place + 1 : place + 2] == ["by"]:
            agent = self._object(tokens, place + 1)
            if agent:
                self.on.add((agent, stem, who))

    def _possessive(self, tokens: list[str], place: int) -> None:
        for word in (tokens[place - 1], tokens[place - 2]) if place > 1 else tokens[:place]:
            if word in {"my", "our", "narrator's"}:
                self.owns[stem_of(tokens[place])].add("me")
            elif (word == "his" and self._others_certain) or (
                word.endswith("'s") and word not in {"it's", "he's", "she's", "that's", "there's", "let's", "what's"}
            ):
                self.owns[stem_of(tokens[place])].add("them")
            elif word not in _CUT and word not in FUNCTION:
                continue
            return

    def _chinese(self, text: str) -> None:
        for patterns, a, b in ((_ON_HAN, "me", "them"), (_BY_HAN, "them", "me")):
            for pattern in patterns:
                self.on |= {(a, match["v"], b) for match in pattern.finditer(text)}
        for match in _DID_HAN.finditer(text):
            self.did[match["v"]]["me" if match["me"] else "them"] += 1
        for match in _OWN_HAN.finditer(text):
            self.owns[match["v"]].add("me" if match["me"] else "them")

    def confused(self, other: Parties) -> int:
        """In how many places another text gives to one party what this one only gives to the other."""
        found = len({x for x in other.on if (x[2], x[1], x[0]) in self.on and x not in self.on})
        if not self.says_i:
            return found
        others = self.subjects | _OTHERS
        for stem, who in other.did.items():
            here = {w.partition(":")[0] for w in self.did.get(stem, ())}
            if stem in self.subjects or stem in other.subjects or len(here) != 1:
                continue
            them = any(w == "them" or (w.startswith("them:") and w[5:] in others) for w in who)
            found += (here == {"me"} and them and "me" not in who) or (
                here == {"them"} and "me" in who and not any(w.startswith("them") for w in who)
            )
        for stem, patients in other.undergone.items():
            found += set(self.did.get(stem, ())) == {"me"} and patients == {"me"}
        for stem, owners in other.owns.items():
            mine = self.owns.get(stem, set())
            found += len(mine) == 1 and len(owners) == 1 and mine != owners
        return found

    @property
    def mixed(self) -> bool:
        """Whether the text speaks of `I` and of the narrator at once."""
        return self.says_i and self.says_narrator
