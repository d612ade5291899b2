"""Reading a text for the fidelity check: what is said, negated and done, and by whom."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from langchain_dsplus.fidelity.numbers import NOT_CONTENT, read_numbers
from langchain_dsplus.fidelity.sentences import HAN, TOKEN, WORD, clauses, normalize, split_sentences
from langchain_dsplus.prompts._gravity import BACKGROUND
from langchain_dsplus.prompts._names import TITLES, read_names
from langchain_dsplus.prompts._synonyms import GROUPS_HAN, LOOSE, SYNONYMS, is_synonym
from langchain_dsplus.prompts._words import (
    ACTS_ZH,
    CONVERSE,
    FUNCTION,
    FUNCTION_HAN,
    HABITS,
    IRREGULAR,
    JUDGEMENT,
    KINDS_BY_STEM,
    LIGHT,
    MENTAL,
    MENTAL_HAN,
    MOVING,
    NARRATOR_HAN,
    NARRATOR_WORDS,
    NEGATION_HAN,
    NEUTRAL,
    NOT_GRAVE,
    NOT_NEGATION,
    NOT_NEGATION_HAN,
    NOT_STRIKE_HAN,
    OTHER_HAN,
    OTHERS,
    RECIPROCAL,
    REPORTED,
    SAYING,
    SKIP_HAN,
    SOFT,
    SPEECH,
    STRONG,
    SUPPORTED_BY,
    VAGUE,
    VERBS_HAN,
    WEAK,
    WEAK_HAN,
    stem_of,
)

_A_BIT = re.compile(r"\b(?:a|little) bit\b")


_PARTS = re.compile(
    r"([,;:()\u2014]|\b(?:but|because|that|when|while|(?<!ran )(?<!run )(?<!went )after|before|since|as|if|who)\b)",
    re.IGNORECASE,
)
_COMMAS = re.compile(r"[,;:()\u2014\n]|[.!?](?=\s)")
_NOT_DONE = re.compile(r"\b(?:did not|didn't|never (?:did|\w+ed))\b", re.IGNORECASE)
_FREE = re.compile(r"\b(\w+)-free\b")
_LEASH = re.compile(r"\boff (?:the|a|his|her|its|their) leash\b", re.IGNORECASE)
_HE_OF_NARRATOR = re.compile(
    r"(\bnarrator (?:\w+ly )?(?:says?|said|states?|stated|claims?|claimed|maintains?|denies|denied|insists?|adds?"
    r"|believes?"
    r"|argues?|asserts?"
    r"|admits?|admitted|reports?|acknowledges?) (?:that )?)(?:he|she|they)\b",
    re.IGNORECASE,
)
"""Either party may be meant: `the narrator says he left`."""
_RELATIVE = re.compile(r"\b(?:whose|who|which|whom)\b", re.IGNORECASE)
_SETTINGS = frozenset("when while after before since as if".split())  # noqa: SIM905
"""What such a clause tells is when something happened: told by the clause beside it."""


_PHRASES = (
    (re.compile(r"\btwo times\b", re.IGNORECASE), "twice"),
    (re.compile(r"\bright away\b|\bat once\b|\bstraight away\b", re.IGNORECASE), "immediately"),
    (re.compile(r"\b(?:make|made|making|give|gave) way\b", re.IGNORECASE), "step aside"),
    (re.compile(r"\bshut ((?:the )?\w+) out\b", re.IGNORECASE), r"locked \1 out"),
    (re.compile(r"\bgave ((?:\w+ ){1,3})a (push|shove|kick|punch|slap|call)\b", re.IGNORECASE), r"\2ed \1"),
    (re.compile(r"\bin front of\b", re.IGNORECASE), "before"),
    (
        re.compile(
            "(?:要求|要|让|叫)(?:我们?|他们?|她们?|对方|叙述者|[^，。；、要让叫的]{2,3})?赔偿?(?!礼)|索要赔偿|索赔"
        ),
        "索赔",
    ),
    (re.compile(r"\b(?:took|takes?|taking|grabbed) hold of\b", re.IGNORECASE), "grabbed"),
    (re.compile("报了(?=[警案])"), "报"),
)
"""Turns of phrase that differ in words only, as one."""


def _plain(text: str) -> str:
    for pattern, words in _PHRASES:
        text = pattern.sub(words, text)
    return text


_ENOUGH = 50
_NO_GROUPS: frozenset[int] = frozenset()
_NO_STEMS: frozenset[str] = frozenset()


class Deed(NamedTuple):
    """Something that a party does."""

    party: str
    verb: str
    words: frozenset[str]
    """The other content words of the clause: stems; of Chinese its characters."""
    text: str
    """The clause."""

    @property
    def denied(self) -> bool:
        """Whether the clause denies it: `did not answer`."""
        words = WORD.findall(NOT_NEGATION.sub(" ", self.text).casefold())
        for i, word in enumerate(words):
            if stem_of(word) == self.verb:
                before = words[max(0, i - 4) : i]
                return any(w in STRONG or w.endswith("n't") or stem_of(w) in WEAK for w in before)
        return False


class Reading:
    """One text, read once."""

    def __init__(
        self, text: str, names: tuple[str, ...] = (), acts: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        self.text = _plain(normalize(text))
        self.lower = self.text.casefold()
        self.told = " , ".join(c for c in _COMMAS.split(self.lower) if not BACKGROUND.search(c))
        """The text without its clauses of opinion and general talk."""
        self.words = TOKEN.findall(self.lower)
        self.han = " ".join(re.findall(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+", self.text))
        self.han_set = frozenset(self.han)
        plain = list(WORD.findall(_A_BIT.sub(" ", self.lower)))
        self.all_words = frozenset(plain) | {w.removesuffix("'s") for w in plain}
        self.content = [
            w.removesuffix("'s") for w in plain
            if w not in FUNCTION and not w.endswith("n't") and w.removesuffix("'s") not in FUNCTION
            and w not in NOT_CONTENT and len(w) > 1
        ]  # fmt: skip
        self.stems = frozenset(stem_of(w) for w in self.all_words)
        self.groups = frozenset(group for stem in self.stems for group in SYNONYMS.get(stem, _NO_GROUPS))
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

    def supports(self, word: str, stem: str, *, loose: bool = True) -> bool:
        """Whether a content word of the rewrite has support here; `loose`: by words that are no synonyms, too."""
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
        if SYNONYMS.get(stem, _NO_GROUPS) & self.groups:
            return True
        if loose and not LOOSE.get(stem, _NO_STEMS).isdisjoint(self.stems):
            return True
        return any(related(stem, other) for other in self.stems)

    def supported_han(self, other: Reading) -> str:
        """The Chinese of another text without the words that stand here, or for which a word of their group does."""
        rest = other.han
        for group in GROUPS_HAN:
            if any(word in self.han for word in group):
                for word in sorted(group, key=len, reverse=True):
                    if len(word) > 1 or word not in self.han_set:
                        rest = rest.replace(word, " ")
        return rest

    def tells(self, deed: Deed) -> bool:
        """Whether a deed of another text is told here too: by its verb, of the same party, or by most of the rest."""
        if HAN.search(deed.verb):
            known = sum(char in self.han_set for char in deed.words)
            named = deed.verb in self.han and deed.party in self.actors.get(deed.verb, ())
            grave = any(deed.verb in words for words in ACTS_ZH.values())
            need = 0.6 if not named else 0.3 if len(deed.words) > 2 and not grave else 0.0
            return known >= need * len(deed.words) and (bool(deed.words) or deed.verb in self.han)
        if deed.verb in SPEECH and not deed.words:
            return any(verb in SPEECH for verb in self.actors) or not SAYING.isdisjoint(self.all_words)
        either = deed.party == "both" or deed.verb in RECIPROCAL
        said = any(
            (either or deed.party in who) and (verb == deed.verb or _same(deed.verb, verb))
            for verb, who in self.actors.items()
        ) or any(
            verb in CONVERSE.get(deed.verb, ()) and (either or who != {deed.party}) for verb, who in self.actors.items()
        )
        if not said and not any(verb == deed.verb or _same(deed.verb, verb) for verb in self.actors):
            said = self.supports(deed.verb, deed.verb)  # told, but not of whom: `it was paid back`
        if not deed.words:
            return said or self.supports(deed.verb, deed.verb)
        known = sum(self.supports(word, word, loose=False) for word in deed.words)
        if said:
            return known >= 0.25 * len(deed.words) or len(deed.words) == 1
        return known >= 0.5 * len(deed.words) and (
            len(deed.words) > 1 or deed.verb in VAGUE or self.supports(deed.verb, deed.verb)
        )

    def _kinds(self, acts: Mapping[str, tuple[str, ...]]) -> None:
        kinds: dict[str, None] = {}
        grave = frozenset(stem_of(w) for w in WORD.findall(NOT_GRAVE.sub(" ", _A_BIT.sub(" ", self.told))))
        grave |= {stem[2:] for stem in grave if stem.startswith("un")}
        for stem in sorted(grave):
            for kind in KINDS_BY_STEM.get(stem, ()):
                kinds[kind] = None
        hit = NOT_STRIKE_HAN.sub(" ", self.han)
        for kind, words in ACTS_ZH.items():
            if hit and any(w in hit for w in words.split()):
                kinds[kind] = None
        for kind, more in acts.items():
            if any(stem_of(w.casefold()) in self.stems or (HAN.search(w) and w in self.han) for w in more):
                kinds[kind] = None
        self.kinds = sorted(kinds)

    def _negation(self) -> None:
        """Find negators, the words right after them (`heads`), words in their reach, and words stated outside."""
        self.negations = 0
        self.weak_negations = 0
        self.past_negations = 0
        self.unwilling: set[str] = set()
        """Words after `will not` or `refused to`: nothing that happened is denied."""
        heads: set[str] = set()
        negated: set[str] = set()
        stated: set[str] = set()
        undone: set[str] = set()
        around: set[str] = set()
        plain = _LEASH.sub("without leash", _FREE.sub(r"no \1", NOT_NEGATION.sub(" ", self.text)))
        for clause in clauses(plain):
            words = WORD.findall(clause.casefold())
            reach = 0
            fresh = mild = False
            before = self.negations + self.weak_negations
            self.past_negations += bool(_NOT_DONE.search(clause))
            talk = BACKGROUND.search(clause) is not None
            for i, word in enumerate(words):
                strong = word in STRONG or word.endswith("n't") or word == "n't"
                weak = stem_of(word) in WEAK
                if strong or weak:
                    self.negations += strong and not talk
                    self.weak_negations += weak
                    reach, fresh, mild = 5, True, weak and not strong
                    continue
                self.weak_negations += stem_of(word) in SOFT
                if word in FUNCTION and word not in MOVING:
                    continue
                stem = stem_of(word)
                if word.startswith("un") and len(word) > 5:
                    undone.add(stem_of(word[2:]))
                if reach:
                    negated.add(stem)
                    if fresh and words[i - 1] == "no" and word.endswith(("ed", "en")):
                        continue  # `no written contract` negates the contract
                    if fresh:
                        heads.add(stem)
                        if mild:
                            self.unwilling.add(stem)
                        if not {"will", "would", "won't", "wouldn't"}.isdisjoint(words[max(0, i - 3) : i]):
                            self.unwilling.add(stem)
                        fresh = False
                    reach -= 1
                else:
                    stated.add(stem)
            if self.negations + self.weak_negations > before or talk:
                around.update(stem_of(w) for w in words)
        self.denied: set[str] = set()
        self.finished: set[str] = set()
        self.done: set[str] = set()
        """Chinese verbs that are denied, and that are stated."""
        for clause in clauses(NOT_NEGATION_HAN.sub("\u3000", self.han_clauses())):
            self.weak_negations += len(WEAK_HAN.findall(clause))
            places: list[int] = []
            spoken_of: set[int] = set()
            for match in NEGATION_HAN.finditer(clause):
                self.negations += 1
                rest = clause[match.end() :]
                skipped = SKIP_HAN.match(rest)
                begin = match.end() + (skipped.end() if skipped else 0)
                head = clause[begin : begin + 2]
                self._deny(clause, begin, spoken_of)
                if len(head) == 2 and all(HAN.match(c) for c in head):
                    heads.add(head)
                    negated.add(head)
                places.append(match.end())
            for match in WEAK_HAN.finditer(clause):
                places.append(match.end())
                self._deny(clause, match.end(), spoken_of)
            self.finished |= {
                m.group() for m in VERBS_HAN.finditer(clause)
                if m.start() not in spoken_of and "了" in clause[m.end() : m.end() + 2]
            }  # fmt: skip
            self.done |= {m.group() for m in VERBS_HAN.finditer(clause) if m.start() not in spoken_of}
            for i in range(len(clause) - 1):
                pair = clause[i : i + 2]
                if all(HAN.match(c) for c in pair):
                    (negated if any(0 <= i - p <= 4 for p in places) else stated).add(pair)
        self.heads, self.stated = frozenset(heads), frozenset(stated)
        self.negated = frozenset(negated | undone)
        self.around = frozenset(negated | undone | around)
        """Words of clauses that negate something."""
        self.undone = frozenset(undone)
        """Of words such as `unpaid`: what comes after `un`."""

    def _deny(self, clause: str, begin: int, spoken_of: set[int]) -> None:
        """Note the Chinese verb that a negation just before `begin` denies."""
        verb = VERBS_HAN.search(clause, begin, begin + 3)
        if verb:
            self.denied.add(verb.group())
            spoken_of.add(verb.start())

    def flips(self, other: Reading) -> list[str]:
        """Verbs of what a party did not do here and did there, of about the same."""
        theirs: dict[tuple[str, str], list[Deed]] = {}
        for deed in other.deeds:
            same = theirs.setdefault((deed.party, deed.verb), [])
            if len(same) < _ENOUGH:
                same.append(deed)
        found = []
        for deed in self.deeds:
            if (deed.party, deed.verb) not in theirs or HAN.search(deed.verb) or not deed.denied:
                continue
            same = [d for d in theirs[deed.party, deed.verb] if 2 * len(d.words & deed.words) >= len(deed.words)]
            if same and not any(d.denied for d in same):
                found.append(deed.verb)
        return found

    def han_clauses(self) -> str:
        """The text without its words in alphabets, so that only Chinese is read in it."""
        return WORD.sub(" ", self.text)

    def _actors(self) -> None:
        """Find who does what: for each act (a verb's stem) the parties that do it."""
        actors: dict[str, set[str]] = {}
        self.narrator = bool(re.search(r"\bnarrators?\b", self.lower)) or "叙述者" in self.han or "叙述人" in self.han
        quoted = re.sub(r'"[^"]*"|「[^」]*」', " ", self.text)
        quoted = _HE_OF_NARRATOR.sub(r"\1eitherparty", quoted)
        self.first_person = bool(re.search(r"\b(?:I|I'm|I've|I'd|I'll|my|me|we|our)\b", quoted)) or "我" in quoted
        people = {w for name in self.names for w in name}
        self.deeds: list[Deed] = []
        """What the parties do, but for what they only feel, think or say."""
        self.unowned: list[Deed] = []
        """What is told in the passive voice, without saying by whom."""
        self.claimed: set[str] = set()
        self.asserted: set[str] = set()
        """Verbs in the past of what somebody only says that happened, and of what the text itself says."""
        for sentence in split_sentences(quoted):
            opening, actor, said = "", None, False
            for part in _PARTS.split(sentence):
                if _PARTS.fullmatch(part):
                    opening = part.casefold()
                    continue
                found, last = _scan(
                    part.casefold(),
                    people,
                    actors,
                    actor if opening == "," else None,
                    reported=opening == "that" and said,
                )
                aside = not found and len(part.split()) <= 7 and actor != "narrator"  # `Bruno, not on a leash, ran`
                actor = last if (found or aside) and not _RELATIVE.search(part) else None
                reported = opening == "that" and said
                for who, verb, spoken in found:
                    if not who:
                        continue
                    (self.claimed if spoken or reported else self.asserted).add(verb)
                acts = [(who, verb) for who, verb, _ in found]
                found = [f for f in found if f[0]]
                for who, verb in acts:
                    if not who:
                        self._add_deeds(part, [("both", verb)], self.unowned)
                if found and opening not in _SETTINGS and not BACKGROUND.search(part):
                    self._add_deeds(part, [(party, verb) for party, verb, _ in found])
                said = not SAYING.isdisjoint(WORD.findall(part.casefold()))
                opening = ""
            subject: str | None = None
            for part in re.split("[，、；：。（）,;:]", sentence):
                done, subject = _scan_han(part, people, actors, subject)
                for party, verb in done:
                    if not MENTAL_HAN.search(part):
                        rest = set(HAN.findall(NARRATOR_HAN.sub("", part))) - FUNCTION_HAN - set(verb)
                        self.deeds.append(Deed(party, verb, frozenset(rest), part.strip()))
        self.actors = {act: frozenset(who) for act, who in actors.items()}

    def _add_deeds(self, clause: str, found: list[tuple[str, str]], into: list[Deed] | None = None) -> None:
        named = {w for name in self.names for w in name} | TITLES
        words = [w.removesuffix("'s") for w in WORD.findall(clause.casefold())]
        if not HABITS.isdisjoint(words):
            return
        verbs = {verb for _, verb in found}
        owned: dict[str, set[str]] = {verb: set() for verb in verbs}
        current = found[0][1]
        for w in words:
            if stem_of(w) in verbs:
                current = stem_of(w)
                continue
            if (
                w not in FUNCTION and w not in NOT_CONTENT and w not in OTHERS and len(w) > 1
                and w not in NARRATOR_WORDS and w not in named and w not in NEUTRAL and not w.endswith(("n't", "ly"))
            ):  # fmt: skip
                owned[current].add(stem_of(w))
        for party, verb in found:
            if verb not in MENTAL:
                (self.deeds if into is None else into).append(Deed(party, verb, frozenset(owned[verb]), clause.strip()))


def _same(verb: str, other: str) -> bool:
    """Whether two verbs may stand for each other: by a kind of grave act, or as synonyms."""
    kinds = KINDS_BY_STEM.get(verb)
    if kinds and set(kinds) & set(KINDS_BY_STEM.get(other, ())):
        return True
    return is_synonym(verb, frozenset({other}))


def _scan(
    clause: str,
    people: set[str],
    actors: dict[str, set[str]],
    subject: str | None = None,
    *,
    reported: bool = False,
) -> tuple[list[tuple[str, str, bool]], str | None]:
    """Read one English clause: a subject and its verbs; in the passive voice, who stands after `by`.

    A clause that begins with a verb (`, apologized and left`) goes on with the subject of the clause before.

    Returns:
        Who does what, and whether only by somebody's words, of verbs in the past (habits and opinions stand in the
        present); and the last subject.
    """
    found: list[tuple[str, str, bool]] = []
    words: list[str] = []
    owners: set[int] = set()  # possessives act no more than `his` does
    for word in WORD.findall(clause):
        if word.endswith("'s") and word not in FUNCTION:
            owners.add(len(words))
            word = word.removesuffix("'s")  # noqa: PLW2901
        words.append(word)
    who: str | None = None
    want = acted = False
    first = next((w for w in words if w not in {"and", "then", "also", "or"} and not w.endswith("ly")), "")
    if subject and first not in OTHERS and (first.endswith("ed") or first in IRREGULAR or first in _UNCHANGED):
        who, want = subject, True
    spoken = False
    for i, word in enumerate(words):
        if i in owners:
            continue
        spoken = spoken or word in SAYING
        before = words[i - 1] if i else ""
        if (before in _BE or words[i + 1 : i + 2] == ["by"]) and (
            word.endswith(("ed", "en")) or word in IRREGULAR or word in _UNCHANGED
        ):
            doer = _agent(words, i, people)
            if doer is not None:
                actors.setdefault(stem_of(word), set()).add(doer)
                found.append((doer, stem_of(word), spoken))
            else:
                found.append(("", stem_of(word), spoken))
            want = False
            continue
        party = _party(word, before, people)
        if party and _is_subject(words, i, acted=acted):
            who, want = party, True
        elif word == "and":
            want = who is not None
            if want and acted and reported:
                who = "both"  # `I said that he lied and left`: either may have left
        elif want and (_is_state(words, i) or (i and (word in _DETERMINERS or word in NOT_CONTENT))):
            want = False
        elif (
            want
            and (word not in LIGHT or word in MOVING)
            and word not in STRONG
            and word not in _ADVERBS
            and not word.endswith(("n't", "ly"))
        ):
            actors.setdefault(stem_of(word), set()).update(
                ("narrator", "other") if who == "both" else (who or "other",)
            )
            if _is_past(words, i):
                found.append((who or "other", stem_of(word), spoken))
            want, acted = False, True
    return found, who or subject


def _is_past(words: list[str], i: int) -> bool:
    word = words[i]
    if word.endswith("ed") or word in IRREGULAR or word in _UNCHANGED:
        return True
    return not {"did", "didn't", "had", "hadn't", "refused", "failed", "wouldn't"}.isdisjoint(words[:i])


def _is_state(words: list[str], i: int) -> bool:
    """Whether a form of be, have or tell is the clause's whole verb: `was angry`, `had a permit`, `told the guests`."""
    word = words[i]
    after = words[i + 1 : i + 4]
    if word in {"have", "has", "had"} and after[:1] == ["no"]:
        return True
    while after and (after[0] in STRONG or after[0] in _ADVERBS or after[0].endswith("ly")):
        after = after[1:]
    following = after[0] if after else ""
    if word in _BE or word == "am":
        return not following.endswith(("ing", "ed", "en")) and following not in IRREGULAR
    if word in {"have", "has", "had"}:
        return following in _DETERMINERS or following in {"no", "one", "two", "three"}
    return word in _HOLDERS


_HOLDERS = frozenset("tell tells told feel feels felt think thinks thought believe believes believed".split())  # noqa: SIM905
_ADVERBS = frozenset(
    """always twice once thrice often again ever soon later still even just also already yesterday today tonight never
    politely front""".split()  # noqa: SIM905
)
_UNCHANGED = frozenset({"hit", "cut", "hurt", "shut", "beat", "burst", "put", "run", "overrun", "bit"})
_BE = frozenset({"was", "were", "been", "being", "is", "are", "be", "got"})
_BEFORE_OBJECT = frozenset({"to", "with", "at", "by", "from", "for", "of", "on", "against"})


_DETERMINERS = frozenset({"the", "a", "an", "my", "our", "his", "her", "their", "this", "that", "other"})


def _is_subject(words: list[str], i: int, *, acted: bool) -> bool:
    """`he` always is; a noun is before the clause's first verb, or right after `and`, and not after a preposition."""
    if words[i].partition("'")[0] in {"i", "we", "he", "she", "they", "eitherparty"}:
        return True
    while i and (words[i - 1] in _DETERMINERS or words[i - 1] in TITLES):
        i -= 1
    before = words[i - 1] if i else ""
    return before not in _BEFORE_OBJECT and before not in _BE and (not acted or before == "and")


def _party(word: str, before: str, people: set[str]) -> str | None:
    if word == "eitherparty":
        return "both"
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


def _scan_han(
    clause: str, people: set[str], actors: dict[str, set[str]], subject: str | None = None
) -> tuple[list[tuple[str, str]], str | None]:
    """Read one Chinese clause: an act belongs to the first party before it; after `被`, to the party behind that.

    A clause that goes on (`就把...`) and names nobody before the verb has the subject of the clause before.
    """
    found: list[tuple[str, str]] = []
    spots = [(m.start(), m.end(), "narrator") for m in NARRATOR_HAN.finditer(clause)]
    spots += [(m.start(), m.end(), "other") for m in OTHER_HAN.finditer(clause)]
    for name in people:
        if HAN.search(name):
            spots += [(m.start(), m.end(), "other") for m in re.finditer(re.escape(name), clause)]
    spots = sorted(
        s
        for s in spots
        if clause[s[0] - 1 : s[0]] not in _OBJECT_HAN
        and clause[s[1] : s[1] + 1] != "的"
        and clause[s[1] : s[1] + 1] != "家"
    )
    goes_on = _GOES_ON_HAN.match(clause.strip()) or VERBS_HAN.match(clause.strip())
    for match in VERBS_HAN.finditer(clause):
        before = [s for s in spots if s[1] <= match.start()]
        said = max(clause.rfind(word, 0, match.start()) for word in ("说", "称", "表示", "回答是"))
        if said >= 0 and any(s[0] > said for s in before):
            before = [s for s in before if s[0] > said]
        passive = clause.rfind("被", 0, match.start())
        if passive >= 0:
            before = [s for s in before if s[0] > passive]
        caused = [s for s in before if clause[s[0] - 1 : s[0]] in _CAUSING_HAN]
        who = caused[-1][2] if caused else before[0][2] if before else subject if goes_on and passive < 0 else None
        if not before and _BOTH_HAN.search(clause):
            for party in ("narrator", "other"):
                actors.setdefault(match.group(), set()).add(party)
        elif who:
            actors.setdefault(match.group(), set()).add(who)
            found.append((who, match.group()))
    return found, spots[0][2] if spots else subject


_BOTH_HAN = re.compile("双方|两人|二人|两个人|互相")
_CAUSING_HAN = frozenset("要让叫逼使求")
_OBJECT_HAN = frozenset("给跟对向和与找为替把")
"""Who stands behind one of these does nothing here."""
_GOES_ON_HAN = re.compile("就|便|又|还|也|并|把|于是|然后|随后|一气之下|用|没")


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
