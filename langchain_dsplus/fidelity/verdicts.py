"""Verdicts: a word of right and wrong that nobody is said to say."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re

from langchain_dsplus.fidelity.numbers import is_number_word
from langchain_dsplus.fidelity.sentences import HAN, QUOTED, TOKEN, content_words, is_reported, split_sentences

_STEM = 6
"""Letters by which `wrongly` and `wrongful` are one word."""
_ADVERB = r"(?:(?:\w+ly|not|also|more|both|therefore|now) )?"
_MORAL = (
    r"(?:guilty|liable|culpable|negligent|innocent|right|wrong|entitled|in the (?:right|wrong)"
    r"|(?:ir)?responsible(?! for)"
    r"|(?:un|in|il)?(?:justified|reasonable|lawful|legitimate|excusable|acceptable|fair|just|valid))"
)
_JUDGED = re.compile(
    rf"\bat {_ADVERB}fault\b|\bto blame\b"
    r"|\b(?:the|own|no|\w+'s|his|her|their|my|share|all) (?:fault|blame)\b(?! in\b)"
    r"|\b(?:fault|blame|responsibility) (?:lies|rests|falls|is)\b"
    r"|\b(?<!to )bears? (?:\w+ ){0,3}(?:responsib|blame|liab)\w*"
    rf"|\b(?:is|was|are|were|be|been|as|found|held) {_ADVERB}{_MORAL}(?=[.,;!]|$| (?:to|in|of|for|and|by|as)\b)"
    rf"|\b(?:held|\w+ly) responsible\b|\b(?:no|every|any) right to\b|\b(?:nothing|anything|something) wrong\b"
    rf"|\bdeserve[sd]?\b|\bverdict\b"
    rf"|\b(?:must|should|ought to) {_ADVERB}(?:pay|return|refund|reimburse|compensate|cover|lose"
    r"|win|apologi[sz]e|be (?:held|found|paid|blamed|refunded|compensated|punished))\b"
    r"|\bowes? (?:\w+ ){0,3}(?:nothing|refund|apology|compensation)\b"
    r"|(?:责任|过错)(?:完全|主要|全部|都)?(?:在|属于|归|应)|[应该须负](?:由[^。，,\n]{1,6})?(?:负|承担)[^。，,\n]{0,4}(?:责任|赔偿|费用)"
    r"|(?:(?<!答)应当?|应该|必须|本该|不该|活该)[^。，,\n]{0,6}(?:负责|承担|赔|退|返还|支付|道歉|受罚|胜诉|判)"
    r"|[全主]责|[有无没是](?:任何|明显)?(?:过错|做?错)(?!过)|[的是]错|错在|的过错|理亏|占理|活该|判决|裁定"
    r"|是[^。，,\n]{1,5}(?:不对|的错|的责任)|是(?:错误|不?对|不?合理|正当|不当|无理|违约|违法)的",
    re.IGNORECASE,
)
"""Who is in the right, who bears the fault, what the other owes for it."""
_JUDGING = re.compile(
    r"\b(?:should|ought|right to|wrong(?:ly|ful\w*| to| of)|rightly|only fair|(?:un)?justifi\w+"
    r"|(?:un)?reasonabl[ey]"
    r"|un(?:just|fair)\w*|(?:in)?valid|(?:il)?legitimate\w*|(?:un)?lawful\w*|entitled|within \w+ rights"
    r"|breach\w*|negligen\w+"
    r"|(?:in|un)(?:excus|accept)abl[ey]|responsible(?! for \w+ing)|irresponsib\w+|culpab\w+|guilt\w*"
    r"|blame(?:less|worth\w*))\b"
    r"|不公|公道|合理|合情|有理(?!由)|无理|道理|[不欠]妥|不当(?!真|回)|过分|失职|违约|难辞其咎|不应该|不该|不对|没错|有错|有责任",
    re.IGNORECASE,
)
"""Words of right and wrong in any place: they count where the source does not have the same."""

_DUTY = re.compile(
    r"\b(?:should|ought|shall|must(?! have\b)|(?:has|have|needs?) to(?! do with)|(?:is|are) to be|dut(?:y|ies) to"
    r"|oblig(?!ing)\w+)\b"
    r"|应该|应当|[理本]应|应(?=[由予向将把给])|必须|(?<![必胡])须(?!知)|[有无没](?:有)?(?:权|义务|资格)",
    re.IGNORECASE,
)
"""Modal verbs of what somebody is bound or free to do: a closed class. `had to` tells what happened."""
_BOUND = re.compile(
    _DUTY.pattern + r"|\b(?:had|having|supposed|required|allowed) to\b|[得要该]|只能|不得不", re.IGNORECASE
)
"""How a source may say so."""


def _plain_words(sentence: str) -> set[str]:
    """The content words of a sentence, but for names and what its duty is told with."""
    tokens = TOKEN.findall(_BOUND.sub(" ", sentence))
    return content_words([t for t in tokens if not t[0].isupper() or is_number_word(t.casefold())])


def _told_duties(source: str) -> set[str]:
    """The words of what the source says that somebody is bound to."""
    return set().union(*(_plain_words(sentence) for sentence in split_sentences(source) if _BOUND.search(sentence)))


def count_verdicts(text: str, source: str | None = None) -> int:
    """Sentences that decide who is at fault, and do not report that somebody says so.

    Args:
        text: Anything.
        source: Where it is given, other words of right and wrong count too, and what somebody must or should do, if the
            source does not have them.

    Example:
        >>> count_verdicts("The neighbor is at fault. The narrator says that the neighbor is at fault.")
        1
        >>> count_verdicts("The narrator acted unreasonably.", "I left. He called me rude.")
        1
    """
    known = None if source is None else source.casefold()
    duties = None if source is None or not _DUTY.search(text) else _told_duties(source)

    def judges(sentence: str) -> bool:
        places = [match.start() for match in _JUDGED.finditer(sentence)]
        if known is not None:
            found = _JUDGING.finditer(sentence)
            places += [m.start() for m in found if m.group().casefold()[:_STEM] not in known]
        if source is not None and duties is not None and sentence not in source:
            shared = len(duties & _plain_words(sentence))
            places += [m.start() for m in _DUTY.finditer(sentence) if shared < (2 if HAN.search(sentence) else 1)]
        return any(not is_reported(sentence, place) for place in places)

    return sum(map(judges, split_sentences(QUOTED.sub(" ", text))))
