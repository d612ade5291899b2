"""Verdicts: a word of right and wrong that nobody is said to say, or a sentence that sounds like one.

What a linear model over words cannot see is whose words they are; what a list of words cannot see is a verdict in other
words. So both are asked: the list only outside of what somebody is said to say, the model (`voices`) for the rest.
"""

# ruff: noqa: RUF001, SIM905 - Chinese punctuation is meant; words are easier to read as text

from __future__ import annotations

import re
from itertools import pairwise

from langchain_dsplus.fidelity.sentences import FUNCTION, HAN, QUOTED, TOKEN, normalize, split_sentences
from langchain_dsplus.fidelity.voices import heard_voice, known_words

_ADVERB = r"(?:(?:\w+ly|not|also|more|both|therefore|now) )?"
_JUDGED = re.compile(
    rf"\bat {_ADVERB}fault\b|\bto blame\b"
    r"|\b(?:the|own|no|\w+'s|his|her|their|my|share|all) (?:fault|blame)\b(?! in\b)"
    r"|\b(?:fault|blame|responsibility) (?:lies|rests|falls|is)\b"
    r"|\b(?<!to )bears? (?:\w+ ){0,3}(?:responsib|blame|liab)\w*"
    rf"|\b(?:is|was|are|were|be|been|as|found|held) {_ADVERB}"
    r"(?:guilty|liable|innocent|right|wrong|in the (?:right|wrong)|fair|just)"
    r"(?=[.,;!]|$| (?:to|in|of|for|and|by|as)\b)"
    r"|\b(?:held|\w+ly) responsible\b|\b(?:no|every|any) right to\b|\b(?:nothing|anything|something) wrong\b"
    r"|\bdeserve[sd]?\b|\bverdict\b|\bowes? (?:\w+ ){0,3}(?:nothing|refund|apology|compensation)\b"
    rf"|\b(?:must|should|ought to) {_ADVERB}(?:pay|return|refund|reimburse|compensate|cover|lose"
    r"|win|apologi[sz]e|be (?:held|found|paid|blamed|refunded|compensated|punished))\b"
    r"|(?:责任|过错)(?:完全|主要|全部|都)?(?:在|属于|归|应)|[应该须负](?:由[^。，,\n]{1,6})?(?:负|承担)[^。，,\n]{0,4}(?:责任|赔偿|费用)"
    r"|(?:(?<!答)应当?|应该|必须|本该|不该|活该)[^。，,\n]{0,6}(?:负责|承担|赔|退|返还|支付|道歉|受罚|胜诉|判)"
    r"|[全主]责|[有无没是](?:任何|明显)?(?:过错|做?错)(?!过)|[的是]错|错在|的过错|理亏|占理|活该|判决|裁定"
    r"|是[^。，,\n]{1,5}(?:不对|的错|的责任)|是(?:错误|不?对|不?合理|正当|不当|无理|违约|违法)的",
    re.IGNORECASE,
)
"""Who is in the right, who bears the fault, what the other owes for it."""
_JUDGING = re.compile(
    r"\b(?:(?:should|ought to) (?:not |never )?have"
    r"|right to|wrong(?:ly|ful\w*| to| of)|rightly|only fair|(?:un)?justifi\w+|(?:un)?reasonabl[ey]"
    r"|un(?:just|fair)\w*|(?:in)?valid|(?:il)?legitimate\w*|(?:un)?lawful\w*|entitled|within \w+ rights"
    r"|breach\w*|negligen\w+|(?:in|un)(?:excus|accept)abl[ey]|responsible(?! for \w+ing)|irresponsib\w+"
    r"|culpab\w+|guilt\w*|blame(?:less|worth\w*))\b"
    r"|不公|公道|合理|合情|有理(?!由)|无理|道理|[不欠]妥|不当(?!真|回)|过分|失职|违约|难辞其咎|不应该|不该|没错|有责任",
    re.IGNORECASE,
)
"""Words of right and wrong in any place: they count where the source does not have them."""
_STEM = 6
"""Letters by which `wrongly` and `wrongful` are one word."""
_SAID_HAN = re.compile(
    "(?<!的)(?:说(?![明服])|称|认为|觉得|表示|主张|指责|[承否]认|要求|质?问|怪|谁|是否|拒绝|不[愿肯])"
)
"""Chinese has no `that`: a report is known by its verb of saying."""
_CLAUSE = re.compile(
    r"[;；:：]|[,，]\s*(?:(?:who|which|as|but|so|though|since|and (?!that))\b|其实|确实|显然|讲述者|叙述者)"
    r"|^(?:since|because|as|although|though|when|while|after|if|on|in|at|by)\b[^,]{1,99},"
    r"|^it (?:is|was) [^,]{1,60}? who\b"
    r"|\band (?=(?:is|was|are|were|must|should|ought|has|have|had|owes?|did|does|therefore|thus|deserves?)\b|$)",
    re.IGNORECASE,
)
"""Where a report ends and the teller goes on."""
_SUBJECT = frozenset("he she they it i we you the a an his her their my our its this these those nobody".split())
_LINKS = frozenset("that whether why how what who whom whose".split())
_SAID_AFTER = re.compile(
    r"[^,.;]{0,60},\s*(?:(?:he|she|they|i|the \w+|(?-i:[A-Z])\w+) \w+|according to \w+(?: \w+)?)\W{0,3}$", re.IGNORECASE
)


def _is_reported(sentence: str, place: int) -> bool:
    """Whether what stands at a place of a sentence is what somebody is said to say.

    By grammar, in the clause in front of it: `that`, `whether`, ..., or a subject, a verb and another subject (`he
    claims the neighbor`, `she told him`).
    """
    clause = _CLAUSE.split(sentence[max(0, place - 200) : place])[-1]
    if HAN.search(clause):
        return bool(_SAID_HAN.search(clause))
    told = TOKEN.findall(clause)
    if _LINKS.intersection(map(str.casefold, told[1:])) or _SAID_AFTER.match(sentence, place):
        return True
    start = 1 + (bool(told) and told[0].casefold() in FUNCTION - _SUBJECT)  # behind `on balance` the subject begins
    return any(
        (word.casefold() in _SUBJECT or word[0].isupper()) and before.islower() and before not in FUNCTION
        for before, word in pairwise(told[start:])
    )


def count_verdicts(text: str, source: str | None = None) -> int:
    """Sentences that decide who is right or at fault, and do not report that somebody says so.

    Args:
        text: Anything.
        source: Where it is given, sentences count too that only sound like a verdict, the sooner, the more of their
            words the source does not have. In a review or a letter such sentences are what is told.

    Example:
        >>> count_verdicts("The neighbor is at fault. The narrator says that the neighbor is at fault.")
        1
        >>> count_verdicts("Nothing better can be said of the narrator's conduct.", "I left. He called me rude.")
        1
    """
    told = None if source is None else normalize(source).casefold()
    known = None if source is None else known_words(source)

    def judges(sentence: str) -> bool:
        plain = QUOTED.sub(" ", sentence)
        places = [match.start() for match in _JUDGED.finditer(plain)]
        if told is not None:
            places += [m.start() for m in _JUDGING.finditer(plain) if m.group().casefold()[:_STEM] not in told]
        if any(not _is_reported(plain, place) for place in places):
            return True
        return known is not None and heard_voice(sentence, known)[1]

    return sum(map(judges, split_sentences(normalize(text))))
