"""The pieces that a text may be shortened by: whole sentences, what must stay beside them, whom they speak of."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from langchain_dsplus.fidelity.sentences import HAN, TOKEN, split_sentences

_QUOTED_AT_MOST = 8
"""Sentences of one quotation; a mark that is not closed by then is taken for a stray one."""

_LOOK_BACK = 12
"""Sentences in which the antecedent of a pronoun is looked for."""

_NAMED_BACK = 4
"""Sentences in which a name goes before any other noun."""

_REPLY_WORDS = 4
_REPLY_HAN = 6
_REPLY = re.compile(
    r"[\"'“‘「]|(?:I|he|she|we|they|you|no|nope|yes|never|not|nothing|none|neither|okay|ok|sure)\b|[我他她你您不没别是对好行嗯]",
    re.IGNORECASE,
)
"""A reply begins with a pronoun, a yes or a no, a quotation, or a name."""

_MARKS = re.compile(
    r"[“”„「」『』\"]"
    r"|(?:(?<=\s)|(?<=^)|(?<=[(：:]))['‘](?=\w)"  # a single mark that opens: at a word's beginning
    r"|(?<=[.,!?…。！？])['’]"  # and one that closes: behind punctuation
)
_OPENING, _CLOSING = "“„「『", "”」』"

_PERSON = re.compile(r"\b(?:he|she|him|his|her|hers|himself|herself)\b", re.IGNORECASE)
_THING = re.compile(
    r"\b(?:it|its|itself|they|them|their|theirs|themselves)\b|^(?:this|that|these|those)\b", re.IGNORECASE
)
_HAN_PRONOUN = re.compile(r"^[“「\"]?(?:但是?|可是?|后来|然后|于是|结果|所以|接着|而且|不过|当时)?[，,]?[他她它]")
_CAPITAL = re.compile(r"(?<![.!?…:\"“”'\s])\s+(?!I\b)([A-Z][\w-]+)|\b(?:Mr|Mrs|Ms|Dr|Prof|Miss)\.? ([A-Z]\w+)")
_NAMED_THING = re.compile(r"\b(?:[Tt]he|[Aa]n?) ([A-Z][\w-]+)")
_CALENDAR = re.compile(
    r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|(?:Janu|Febru)ary|March|April|May|June|July|August|October|\w+ember"
)
_WORD = re.compile(r"\w[\w-]*")
_SUBJECT = re.compile(
    r"(?:^|[,;:(]\s*|\b(?:and|but|so|then|when|because|that|while|as|if|after|before)\s+)"
    r"(?:the|this|that|these|those|an?|another|one|some|my|our|your)\s+\w+",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(r"\b(?:an?|another|one|some|my|our|your)\s+\w+", re.IGNORECASE)
_ANY_NOUN = re.compile(
    r"\b(?:the|an?|another|this|that|these|those|some|my|our|your|his|her|their|two|three|both|all)\s+\w+",
    re.IGNORECASE,
)
_SELF = re.compile(r"\b(?:I|me|my|mine|myself|we|us|our|ours|ourselves)\b|[我咱俺]", re.IGNORECASE)
_OTHER = re.compile(
    r"\b(?:he|she|him|his|her|hers|himself|herself|they|them|their|theirs|themselves)\b|[他她]|对方", re.IGNORECASE
)


def whole_sentences(text: str) -> list[str]:
    """Sentences as `split_sentences` finds them, those of one quotation together, each a verbatim piece of the text.

    Example:
        >>> whole_sentences('"I saw you. It was red," she said. I left.')
        ['"I saw you. It was red," she said.', 'I left.']
    """
    found: list[str] = []
    cursor = 0
    spans = []
    for sentence in split_sentences(text):
        start = text.index(sentence, cursor)
        cursor = start + len(sentence)
        spans.append((start, cursor))
    place = 0
    while place < len(spans):
        start, end = spans[place]
        stop = _quotation(text, spans, place)
        while stop + 1 < len(spans) and _goes_on(text, spans[stop][1], spans[stop + 1][0]):
            stop += 1
        end = spans[stop][1]
        found.append(text[start:end])
        place = stop + 1
    return found


def _quotation(text: str, spans: Sequence[tuple[int, int]], place: int) -> int:
    """The last sentence of the quotation that is open at the end of a sentence; the sentence itself if none is."""
    open_ = _still_open(text[slice(*spans[place])], "")
    last = place
    while open_:
        last += 1
        if last >= len(spans) or last - place >= _QUOTED_AT_MOST or "\n" in text[spans[last - 1][1] : spans[last][0]]:
            return place
        open_ = _still_open(text[slice(*spans[last])], open_)
    return last


def _still_open(sentence: str, open_: str) -> str:
    """The opening mark that is not closed at the end of a sentence."""
    for match in _MARKS.finditer(sentence):
        mark = match.group()
        if not open_:
            opens = mark in _OPENING or mark == '"' or (mark in "'‘" and match.end() < len(sentence))
            behind = sentence[match.start() - 1 : match.start()]
            if opens and not (mark in "'‘" and behind in ".,!?…。！？" and behind):
                open_ = mark
        elif mark in _CLOSING or (mark == '"' and open_ == '"') or (mark in "'’" and open_ in "'‘"):
            open_ = ""
    return open_


def _goes_on(text: str, end: int, start: int) -> bool:
    """Whether a sentence goes on behind a quotation or dots that end inside it: `"Go!" he said`."""
    before, after = text[end - 1], text[start]
    if before in "\"'”’」』…" and after.islower() and "\n" not in text[end:start]:
        return True
    return before in "”」』" and end == start and bool(HAN.match(after))


def is_reply(sentence: str, known: frozenset[str] = frozenset()) -> bool:
    """Whether a sentence is so short that it says something only beside the one before, as "She said no." does."""
    words = TOKEN.findall(sentence)
    if not 0 < len(words) <= (_REPLY_HAN if HAN.search(sentence) else _REPLY_WORDS):
        return False
    return _REPLY.match(sentence) is not None or words[0] in known


def units(sentences: Sequence[str], barred: Sequence[bool], known: frozenset[str]) -> list[list[int]]:
    """Sentences that stand or fall together, as places: a short reply with what it answers.

    Args:
        sentences: In their order.
        barred: Which of them must not be kept; they belong to no unit.
        known: The `names` of the text.
    """
    found: list[list[int]] = []
    for place, sentence in enumerate(sentences):
        if barred[place]:
            continue
        before = found[-1] if found else []
        if before and before[-1] == place - 1 and len(before) == 1 and is_reply(sentence, known):
            before.append(place)
        else:
            found.append([place])
    return found


def names(sentences: Sequence[str]) -> frozenset[str]:
    """Words that stand with a capital inside a sentence or behind a title. Languages without capitals have none.

    What has an article somewhere is a thing, such as a boat (`the Heron`), unless it is a family (`the Lunds`).
    """
    found = {m[1] or m[2] for s in sentences for m in _CAPITAL.finditer(s)}
    things = {m[1] for s in sentences for m in _NAMED_THING.finditer(s) if not m[1].endswith("s")}
    return frozenset(name for name in found - things if not _CALENDAR.fullmatch(name))


class References:
    """Which earlier sentence says whom an open pronoun means, and whether what is kept still says it.

    The antecedent of a person's pronoun is the nearest earlier sentence with a name, else with a noun that is
    introduced or that a clause begins with; of a thing's, the nearest with a noun. No grammar is read, so this may
    bring a sentence that nobody needs, and may miss one.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        self.known = names(sentences)
        self._named = [self.known.intersection(_WORD.findall(s)) for s in sentences]
        nouns = [bool(_SUBJECT.search(s) or _INTRODUCED.search(s)) for s in sentences]
        things = [bool(named) or bool(_ANY_NOUN.search(s)) for named, s in zip(self._named, sentences, strict=True)]
        han = [bool(HAN.search(s)) for s in sentences]
        plain = [not _HAN_PRONOUN.match(s) and not is_reply(s, self.known) for s in sentences]
        self.links: list[int | None] = []
        for place, sentence in enumerate(sentences):
            back = range(place - 1, max(-1, place - 1 - _LOOK_BACK), -1)
            link: int | None = None
            if han[place]:
                if _HAN_PRONOUN.match(sentence):
                    link = next((i for i in back if plain[i]), None)
            elif _is_open(sentence, _PERSON, _SUBJECT, self.known):
                link = next((i for i in back[:_NAMED_BACK] if self._named[i]), None)
                link = next((i for i in back if self._named[i] or nouns[i]), None) if link is None else link
            elif _is_open(sentence, _THING, _ANY_NOUN, self.known):
                link = next((i for i in back if things[i]), None)
            self.links.append(link)

    def lost(self, place: int, kept: Container[int]) -> int | None:
        """The sentence that a kept one needs and has not: its antecedent, where no nearer one tells the same name."""
        link = self.links[place]
        if link is None or link in kept:
            return None
        for i in range(place - 1, max(-1, place - 1 - _LOOK_BACK), -1):
            if i in kept and self._named[i]:
                return None if self._named[i] & self._named[link] else link
        return link

    def after(self, place: int) -> range:
        """The sentences whose antecedent a new one could hide."""
        return range(place + 1, min(len(self.links), place + 1 + _LOOK_BACK)) if self._named[place] else range(0)


def _is_open(sentence: str, pronoun: re.Pattern[str], noun: re.Pattern[str], known: frozenset[str]) -> bool:
    """Whether a pronoun stands in a sentence before anything that it could mean."""
    match = pronoun.search(sentence)
    if match is None:
        return False
    before = sentence[: match.start()]
    return not (_named(before, known) or noun.search(before))


def _named(sentence: str, known: frozenset[str]) -> bool:
    return not known.isdisjoint(_WORD.findall(sentence))


def about(sentence: str, known: frozenset[str] = frozenset()) -> tuple[bool, bool]:
    """Whether a sentence speaks of the narrator, and whether of somebody else.

    Example:
        >>> about("I told him."), about("Ada left.", frozenset({"Ada"})), about("It rained.")
        ((True, True), (False, True), (False, False))
    """
    return bool(_SELF.search(sentence)), bool(_OTHER.search(sentence)) or _named(sentence, known)
