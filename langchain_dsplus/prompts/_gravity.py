"""What weighs in the fidelity check, and what a neutral rewrite may leave out or word freely."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from langchain_dsplus.fidelity.numbers import NOT_CONTENT
from langchain_dsplus.fidelity.sentences import HAN, WORD
from langchain_dsplus.prompts._synonyms import related_words
from langchain_dsplus.prompts._words import (
    ACTS_ZH,
    FUNCTION,
    FUNCTION_HAN,
    KINDS_BY_STEM,
    NEUTRAL_HAN,
    NEUTRAL_STEMS,
    stem_of,
)

if TYPE_CHECKING:
    from langchain_dsplus.prompts._reading import Deed, Reading

LOADED = frozenset(
    stem_of(w)
    for w in """drunk drunken intoxicated sober drug drugs afraid scared frightened terrified deliberate deliberately
    intentional intentionally purpose malicious maliciously aggressive aggressively violent violently violence brutal
    dishonest honest dishonestly honestly liar fraud fraudulent illegal illegally unlawful unlawfully law crime criminal
    guilty innocent innocence fault blame negligent negligence careless carelessly reckless recklessly revenge
    retaliation retaliate provoke provoked provocation racist sexist harass harassed harassment abuse abusive abused
    bully bullied unjustified justified justify unfair unfairly unreasonable reasonable rude rudely hidden secretly
    secret lie lied liar poison poisoned kill killed murder rape knife gun weapon pepper blood bleeding injury injured
    unconscious ambulance hospital concussion arrest arrested police jail prison convicted sue sued insane crazy
    mentally jealous greedy lazy incompetent unprofessional irresponsible violate violated violation breach breached
    accidentally accident accidental mistakenly unprovoked self-defense defense apologize apologized apology regret
    regretted remorse forgive forgave bribe bribed blackmail extort cheat cheated scam swindle
    evidence proof proved proven confess confessed confession divorced pregnant disabled foreigner foreign immigrant
    young elderly fat rich wealthy""".split()  # noqa: SIM905
)
"""Stems of words that color, excuse or accuse: one of them without support is an invention, not a paraphrase."""

LOADED_HAN = re.compile(
    "年轻|年老|醉|喝酒|酒后|故意|恶意|蓄意|报复|违法|违反|违约|犯罪|非法|责任|过错|有错|无理|蛮横|粗暴|暴力|欺诈|诈骗|骗子|骨折|流血|摔倒|昏迷|住院|救护"
    "|警察|报警|拘留|逮捕|起诉|道歉|承认错误|威胁|恐吓|偷|害怕|惊吓|不小心|意外|挑衅|激怒|侮辱|刀|撒谎|谎"
)

MINOR = frozenset(
    stem_of(w)
    for w in """arrive come go walk stand sit wait ring knock open look park drive ride ask return turn step stop start
    try help begin enter leave say speak talk pass move follow meet stay visit plan decide happen finish work use
    change order bake play sleep wake travel celebrate smile nod""".split()  # noqa: SIM905
)
"""Stems of verbs whose loss, once in a while, changes nobody's part in what happened."""

MILD = frozenset("shout throw cut block lock".split())  # noqa: SIM905
"""Kinds of acts that one word in another sense, or a paraphrase, may bring in or leave out."""

MOTION = frozenset(stem_of(w) for w in "come go walk stand sit wait park live stay arrive drive ride move use".split())  # noqa: SIM905
"""Stems of verbs that several people do in one story: told of another party, they are no swap by themselves."""

MINOR_HAN = frozenset("买卖搬住跑冲爬停放拿花取追送换")

BACKGROUND = re.compile(
    r"^\W*(?:and |so |but |that |because |since )*(?:anybody|anyone|everybody|everyone|nobody|no one|people|who|one)\b"
    r"(?! (?:was|were|did|had|came|told|said)\b)"
    r"|\bask (?:anyone|anybody|around)\b|\b(?:believe|trust) me\b|\bthank (?:god|goodness|heaven)\b"
    r"|\bin my (?:whole |entire )?life\b|\bso many people\b|\blook(?:ing|ed)? forward\b"
    r"|\b(?:asked|asking) for it\b|\bhad it coming\b|\bhurts? (?:me|us|my feelings)\b|\bbroke my heart\b"
    r"|\bnever (?:\w+ )(?:anybody|anyone|a soul)\b|\bi(?:'m| am|'ve| have) (?:not|never) "
    r"(?:been )?(?:a|an|proud|sorry|the)\b"
    r"|\bi(?:'m| am) (?:a|an|known|sure|proud|still|only|just)\b|\bwe are (?:a|an)\b"
    r"|\bi (?:do not|don't|cannot|can't|could not|couldn't) (?:regret|care|feel|know|think|understand|believe)\b"
    r"|^\W*(?:it|this|that|which|these things|life|there) (?:never|is not|isn't|was not|wasn't) "
    r"(?:\w+s$|my|our|like|fair|right|about)"
    r"|^\W*(?:it|this|that|which) never \w+s\b",
    re.IGNORECASE,
)
"""A clause of opinion, feeling or general talk: it tells nothing that happened."""

_CLAUSES = re.compile(
    r"[.!?,;:()\n，。；：！？]|\b(?:and|but|because|that|who|which|while|when|after|before|since|as|whose)\b",
    re.IGNORECASE,
)


EITHER_WAY = frozenset({"rent", "leas"})
"""Stems of verbs that both sides of a deal do."""

LIGHT_VERBS = frozenset("giv tak mak hav get put".split())  # noqa: SIM905
"""Stems of verbs that say nothing without their object: `did not give it back` says nothing of another gift."""


def is_minor(deed: Deed, new: Reading) -> bool:
    """Whether a deed may go untold, now and then: a minor verb, or one whose object is told; nothing denied."""
    if HAN.search(deed.verb):
        return deed.verb in MINOR_HAN and "没" not in deed.text and "不" not in deed.text
    if KINDS_BY_STEM.get(deed.verb):
        return False
    if deed.verb not in MINOR and not (len(deed.words) == 1 and new.supports(*deed.words, *deed.words, loose=False)):
        return False
    words = WORD.findall(deed.text.casefold())
    return not any(w in {"not", "never", "no", "refused", "without"} or w.endswith("n't") for w in words)


def is_loaded(word: str) -> bool:
    """Whether a word may not be added, whatever else the rewrite says: a grave act, or one that colors or accuses."""
    if HAN.search(word):
        return bool(LOADED_HAN.search(word)) or any(w in word for words in ACTS_ZH.values() for w in words.split())
    stem = stem_of(word)
    return stem in LOADED or not MILD.issuperset(KINDS_BY_STEM.get(stem, ()))


def invented(old: Reading, new: Reading, strange: set[str]) -> list[str]:
    """Words of clauses that are mostly without support: paraphrase scatters new words, invention heaps them."""
    found: dict[str, None] = {}
    runs = sorted(strange)
    marks = frozenset("".join(runs))
    for clause in _CLAUSES.split(new.text):
        words = [w.removesuffix("'s") for w in WORD.findall(clause.casefold())]
        content = {w for w in words if w not in FUNCTION and w not in NOT_CONTENT and len(w) > 1}
        content -= {"narrator", "party", "other"}
        unknown = content & strange
        if len(unknown) >= 2 and len(unknown) >= 0.6 * (len(content) + len(re.findall(r"\d+", clause))):
            found |= dict.fromkeys(sorted(unknown))
        rest = "".join(HAN.findall(clause))
        if rest:
            for word in NEUTRAL_HAN:
                rest = rest.replace(word, "")
            chars = [c for c in rest if c not in FUNCTION_HAN and c not in "零〇二两三四五六七八九十百千万亿"]
            fresh = [c for c in chars if c not in old.han_set and c in marks]
            if len(fresh) >= 4 and len(fresh) >= 0.75 * len(chars):
                found |= dict.fromkeys(run for run in runs[:_AT_MOST_PAIRS] if run in clause)
        if len(found) > _ENOUGH:
            break
    return list(found)


_ENOUGH = 50
_AT_MOST_PAIRS = 10_000
"""Of deeds compared with each other; a text with more has none forgiven."""


def paired(lost: list[Deed], strange: list[Deed], *, bare: bool = False) -> tuple[list[Deed], list[Deed]]:
    """Take a lost deed and a new one of the same party for one told in other words, where they share a word.

    `bare`: a deed without words goes with any of its party.

    Returns:
        The deeds that are lost, and those that are added, without the pairs.
    """
    if len(lost) * len(strange) > _AT_MOST_PAIRS:
        return lost, strange
    open_ = list(strange)
    left = []
    for deed in lost:
        match = next((d for d in open_ if _may_tell(d, deed, bare=bare)), None)
        if match is None:
            left.append(deed)
        else:
            open_.remove(match)
    return left, open_


def _may_tell(new: Deed, old: Deed, *, bare: bool) -> bool:
    if HAN.search(old.verb) or (KINDS_BY_STEM.get(old.verb) and not MILD.issuperset(KINDS_BY_STEM[old.verb])):
        return False
    if new.party not in ("both", old.party):
        return False
    if not old.words or not new.words:
        return not old.words and (bare or not new.words)
    return any(w in old.words or any(related_words(w, o) for o in old.words) for w in new.words)


def strange_deeds(old: Reading, new: Reading) -> list[Deed]:
    """What the rewrite tells by a verb that the source does not have."""
    return [
        deed
        for deed in dict.fromkeys([*new.deeds, *new.unowned])
        if not HAN.search(deed.verb) and deed.verb not in old.actors
    ]


def is_invented(deed: Deed, old: Reading) -> bool:
    """Whether neither the verb nor most of the clause has support."""
    if deed.party == "both" or deed.verb in NEUTRAL_STEMS or old.supports(deed.verb, deed.verb):
        return False
    known = sum(old.supports(w, w) or w in NEUTRAL_STEMS for w in deed.words)
    if not deed.words:
        return not re.search(r"\d", deed.text)
    return known < 0.5 * len(deed.words)


def alike(verb: str, old: Reading, new: Reading, *, half: bool = True) -> bool:
    """Whether both texts tell of the same where they use this verb."""
    theirs = list({deed.words for deed in new.deeds if deed.verb == verb})[:_ENOUGH]
    mine = list({deed.words for deed in old.deeds if deed.verb == verb})[:_ENOUGH]
    if not mine or not theirs:
        return not half
    return any((2 if half else 4) * len(a & b) >= max(half, min(len(a), len(b))) for a in mine for b in theirs)
