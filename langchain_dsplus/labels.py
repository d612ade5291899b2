"""From what a language model wrote to one of the labels it was offered.

`match_label` reads a text, `label_probabilities` reads token log-probabilities. Both only ever return labels that were
offered, and nothing where the model's words do not decide between them. Pure Python; `LabelParser` and `ChatClassifier`
share it.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

LONGEST_TEXT = 200_000
"""Characters of a text that are read. A model that wrote more than that has not answered with a label."""


class NoLabelMassError(ValueError):
    """The log-probabilities give no offered label any probability."""


# --- one text form ------------------------------------------------------------------------------------------------

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4", "'") | {"\u2581": " "})
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_BLANKS = re.compile(r"[^\S\n]+")
_NEWLINES = re.compile(r"\s*\n\s*")
_SEPARATORS = re.compile(r"[\s_\-]+")
_INNER_SEPARATOR = re.compile(r"((?<=[^\W_])[\s_\-]+(?=[^\W_]))")
_OPENING = " \n\"'`*_#>~-\u2013\u2014\u2022\u201c\u201e\u00ab\u300c\u300e\u300a\u3010([{<"
_CLOSING = " \n\"'`*_~\u201d\u201c\u00bb\u300d\u300f\u300b\u3011)]}>.,;:!?\u2026\u3002\u3001"


def _fold(text: str) -> str:
    """One form for all spellings that differ only in case, width, or white space. Line breaks stay."""
    text = _INVISIBLE.sub("", text.translate(_APOSTROPHES))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _NEWLINES.sub("\n", _BLANKS.sub(" ", text))


def _plain(text: str) -> str:
    return " ".join(_fold(text).split())


def _bare(text: str) -> str:
    return _plain(text).lstrip(_OPENING).rstrip(_CLOSING)


def _loose(text: str) -> str:
    return _SEPARATORS.sub(" ", _bare(text)).strip()


_LEVELS: tuple[Callable[[str], str], ...] = (str.strip, _plain, _bare, _loose)
"""From strict to lax. The first level at which a text equals a label decides."""


def list_labels(labels: Iterable[str]) -> list[str]:
    """Labels as a list.

    Raises:
        TypeError: If they are one str, which would be taken apart into letters.
    """
    if isinstance(labels, str):
        msg = "`labels` must be a list of labels, not one str"
        raise TypeError(msg)
    return list(labels)


def show_label(label: str) -> str:
    r"""Write a label on one line so that it can be read back: as it is, or as a JSON string where it must be.

    A label is quoted where it is empty, holds a control character or a line break of any script, begins or ends with
    white space, or begins with a quote. Distinct labels stay distinct.

    Example:
        >>> show_label("card {arrival}"), show_label("two" + chr(10) + "lines")
        ('card {arrival}', '"two\\nlines"')
    """
    if label and label == label.strip() and label[0] != '"' and not any(map(_breaks, label)):
        return label
    quoted = json.dumps(label, ensure_ascii=False)
    return "".join(f"\\u{ord(c):04x}" if _breaks(c) else c for c in quoted)


def _breaks(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs")


# --- a text -------------------------------------------------------------------------------------------------------

_THINKING = re.compile(r"\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_UNFINISHED_THINKING = re.compile(r"\s*<(?:think|thinking|reasoning)>", re.IGNORECASE)
_FENCE = re.compile(r"\s*```[a-zA-Z]*\s*\n?(.*?)(?:```\s*)?$", re.DOTALL)
_PREFIX = re.compile(
    r"[\s\"'`*_#>(\[-]{0,8}(?:(?:the|my|its|this|final|correct|best|right|most|likely|predicted|output|text)\s+){0,4}"
    r"(?:(?:label|answer|category|class|classification|intent|topic|sentiment|prediction|response|result|choice|option|"
    r"output|type)[\s*_\"'`]{0,4}(?:(?:is|would\s+be|should\s+be)\b\s*:?|[:=\uff1a]|->|\u2192)"
    r"|(?:\u6807\u7b7e|\u7b54\u6848|\u7c7b\u522b|\u5206\u7c7b|\u7c7b\u578b|\u610f\u56fe|\u60c5\u611f|\u7ed3\u679c"
    r"|\u6a19\u7c64|\u985e\u5225|\u5206\u985e)\s*(?:[\u662f\u4e3a\u70ba]\s*[:\uff1a]?|[:\uff1a]))",
    re.IGNORECASE,
)
_NOT_BEFORE = re.compile(
    r"(?:^|[^\w'])(?:not|no|never|nor|neither|without|cannot|hardly|unlikely|than|instead\s+of|opposite\s+of|\w+n't"
    r"|far\s+from|anything\s+but|fail(?:s|ed)?\s+to|lack(?:s|ed|ing)?|unable\s+to\s+\w+"
    r"|nicht|keine?[rsnm]?|weder|pas|jamais|non|ni|nunca|n\u00e3o|nem|sin|\u043d\u0435|\u043d\u0438|ikke|inte|niet"
    r"|geen)"
    r"(?:[ ](?!(?:but|only|just|rather|instead|doubt|question|sondern|sino|mais)\b)[\w'-]+){0,3}"
    r"[ \"'`*_\u201c\u201e\u00ab\u300c\u300e(\[]*$"
)
_NOT_BEFORE_HAN = re.compile(
    r"(?:(?:\u4e0d|\u975e|\u6ca1\u6709|\u6c92\u6709|\u672a)(?:\u662f|\u5f88|\u592a|\u7b97|\u5c5e\u4e8e|\u5c6c\u65bc|\u591f"
    r"|\u8db3\u591f)?|(?:\u4e0d\u80fd[\u8bf4\u8aaa]|[\u79f0\u7a31\u8c08\u8ac7\u7b97]\u4e0d\u4e0a)\u662f?)"
    r"[ \"'`*_\u201c\u300c\u300e(\[]*$"
)
_NOT_AFTER = re.compile(
    r"[\"'`*_\u201d\u00bb\u300d\u300f)\]]* ?(?:(?:is|are|was|were|does|do|did|would|could|can|should|may|seems?) "
    r"(?:not\b|never\b|wrong\b|incorrect\b|unlikely\b|false\b)|\w+n't\b|cannot\b"
    r"|(?:\u3067\u306f|\u3058\u3083)(?:\u306a|\u3042\u308a)|[\uc774\uac00\uc740\ub294]? ?(?:\uc544\ub2c8|\uc544\ub2d9)"
    r"|[?:][\s\"'`*_)\]]*(?:(?:most )?(?:definitely|certainly|probably|absolutely|clearly|surely|of course),? )?"
    r"(?:no|not|nope|never)\b)"
)
_REFUSAL = re.compile(
    r"(?:can't|cannot|can not|couldn't|could not|unable|not able|not sure|unsure|not certain|uncertain"
    r"|(?:don't|do not|doesn't|does not) know|whether)(?!\w)"
    r"|\u65e0\u6cd5|\u7121\u6cd5|\u4e0d\u786e\u5b9a|\u4e0d\u78ba\u5b9a|\u4e0d\u77e5\u9053|\u662f\u5426"
)
"""Words by which a whole sentence names no label."""
_SENTENCE_END = re.compile(r"[.!](?=\s|$)|[\n\u3002]")
_NEGATIVE_WORD = re.compile(
    r"\b(?:not|no|never|nor|neither|without|hardly|unlikely|than|wrong|false|incorrect|instead|opposite|far|anything"
    r"|fail(?:s|ed)?|lack(?:s|ed|ing)?|\w+n't)\b|" + _REFUSAL.pattern
)
"""Inside a label these words belong to its name and negate nothing around it."""
_COORDINATION = re.compile(
    r"[ \"'`*_\u201d\u00bb\u300d\u300f)\]]*(?:, ?(?:or|and|nor)\b|\b(?:or|and|nor)\b|[,/&\u3001\uff0c\u6216\u548c])"
    r" ?(?:(?:as|to|in|of|for|even|either|a|an|the) ){0,3}[ \"'`*_\u201c\u201e\u00ab\u300c\u300e(\[]*"
)
_WORDS_WITHOUT_BLANKS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
_HANGUL = ((0x1100, 0x11FF), (0xAC00, 0xD7AF))


def _within(char: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    code = ord(char)
    return code >= 0x0E00 and any(low <= code <= high for low, high in ranges)


def _is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def _word_ends(text: str, edge: int, step: int) -> bool:
    """Whether a phrase whose outermost character is `text[edge]` ends there, going left (-1) or right (+1).

    Chinese, Japanese and Thai write no blanks between words, and Korean puts endings right after a word.
    """
    near = edge + step
    if not 0 <= near < len(text):
        return True
    inner, outer = text[edge], text[near]
    if not _is_word(inner):
        return True
    if _within(inner, _WORDS_WITHOUT_BLANKS) or (step > 0 and _within(inner, _HANGUL)):
        return True
    if _is_word(outer):
        return _within(outer, _WORDS_WITHOUT_BLANKS)
    if step > 0 and outer in "+#":
        return False
    far = near + step
    if not 0 <= far < len(text) or not _is_word(text[far]):
        return True
    if outer in ".,":
        return not (inner.isdigit() and text[far].isdigit())
    return outer not in "_-'@&"


class _Labels:
    """A set of labels, prepared once."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.levels: list[dict[str, list[str]]] = []
        for form in _LEVELS:
            table: dict[str, list[str]] = {}
            for label in labels:
                if key := form(label):
                    table.setdefault(key, []).append(label)
            self.levels.append(table)
        self._patterns: list[tuple[str, re.Pattern[str]]] | None = None

        # Underscores and hyphens count as blanks only where that keeps all labels apart.
        prefix_forms = {_SEPARATORS.sub(" ", _plain(label)) for label in labels}
        self.merge_separators = len(prefix_forms) == len({_plain(label) for label in labels})
        self.keys = {label: self.prefix_keys(label) for label in labels}

    @property
    def patterns(self) -> list[tuple[str, re.Pattern[str]]]:
        if self._patterns is None:
            self._patterns = [(label, _pattern(label)) for label in self.labels if _plain(label)]
        return self._patterns

    def exact(self, text: str) -> tuple[bool, str | None]:
        """Whether the text equals a label at some level, and which; None where it equals several."""
        if text in self.labels:
            return True, text
        for form, table in zip(_LEVELS, self.levels, strict=True):
            hits = table.get(form(text))
            if hits:
                return True, hits[0] if len(hits) == 1 else None
        return False, None

    def prefix_keys(self, text: str) -> tuple[str, str]:
        """The forms in which prefixes are compared: with and without leading quotes and markdown."""
        plain, bare = _beginnings(text)
        if self.merge_separators:
            plain, bare = _SEPARATORS.sub(" ", plain), _SEPARATORS.sub(" ", bare)
        return plain, bare


def _beginnings(text: str) -> tuple[str, str]:
    """A text that may go on, folded, with and without leading quotes and markdown. A blank at its end stays."""
    folded = _BLANKS.sub(" ", _fold(text).replace("\n", " "))
    return folded.lstrip(" "), folded.lstrip(_OPENING)


def _pattern(label: str) -> re.Pattern[str]:
    parts = _INNER_SEPARATOR.split(_bare(label) or _plain(label))
    return re.compile("".join(r"[\s_\-]+" if odd % 2 else re.escape(part) for odd, part in enumerate(parts)))


@lru_cache(maxsize=256)
def _prepare(labels: tuple[str, ...]) -> _Labels:
    return _Labels(labels)


def match_label(text: str, labels: Sequence[str], *, known: Sequence[str] = ()) -> str | None:
    """Find the one offered label that a text names.

    In this order, and the first that decides wins: a block of thinking in front is dropped; a JSON object (or a fenced
    one) with exactly one string value that is a label; the whole text; the text after words such as "Label:" or "The
    category is"; the first line, likewise; one label mentioned in the text as a whole phrase. Case, width, white space,
    quotes, markdown and final punctuation do not matter; nor do underscores and hyphens in place of blanks, unless that
    would make two labels equal. Of a label inside a longer label, the longer one is meant. A negated mention ("not
    positive", "isn't positive", "not positive or neutral") does not count, nor does one in a sentence that refuses
    ("I cannot tell whether it is positive"); two different labels, or a spelling that fits two labels equally well, is
    no match.

    In a JSON object the keys `label`, `answer`, `category`, `choice` and `class` are read before all others; where the
    object itself names no label, the strings of objects in it are read.

    Args:
        text: What the model wrote. Any script; at most the first 200,000 characters are read.
        labels: The labels that were offered.
        known: Further labels that exist and were not offered: a text that names one of them does not name an offered
            label that is a part of it ("card_arrival" is not "card").

    Returns:
        The label as it was given, or None.

    Example:
        >>> match_label("**Label:** Card arrival.", ["card", "card_arrival"])
        'card_arrival'
        >>> match_label("It is not positive.", ["positive", "negative"]) is None
        True
    """
    offered = tuple(dict.fromkeys(labels))
    everything = tuple(dict.fromkeys((*offered, *known)))
    if not everything:
        return None
    prepared = _prepare(everything)
    found = _match(text[:LONGEST_TEXT], prepared, frozenset(offered))
    return found if found in offered else None


def _match(text: str, prepared: _Labels, offered: frozenset[str]) -> str | None:
    hit, label = prepared.exact(text)
    if hit:
        return label
    text = _THINKING.sub("", text, count=1) if _THINKING.match(text) else text
    if _UNFINISHED_THINKING.match(text):
        return None
    fence = _FENCE.match(text)
    body = (fence.group(1) if fence else text).strip()
    if body[:1] in ("{", "[", '"') and len(body) > 1:
        parsed, value = _from_json(body, prepared)
        if parsed:
            return value
    for part in _whole_then_first_line(body):
        for form in _without_prefixes(part):
            hit, label = prepared.exact(form)
            if hit:
                return label
    return _mention(body, prepared, offered)


def _from_json(body: str, prepared: _Labels) -> tuple[bool, str | None]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False, None
    if isinstance(value, dict):
        return True, _from_object(value, prepared)
    return True, _only(_hits(value if isinstance(value, list) else [value], prepared))


_LABEL_KEYS = frozenset({"label", "answer", "category", "choice", "class"})


def _hits(values: Iterable[Any], prepared: _Labels) -> set[str | None]:
    """The labels among some JSON values; None stands for a text that equals several labels."""
    texts = [v if isinstance(v, str) else json.dumps(v) for v in values if isinstance(v, (str, int))]
    return {label for hit, label in map(prepared.exact, texts) if hit}


def _only(hits: set[str | None]) -> str | None:
    return hits.pop() if len(hits) == 1 else None


def _from_object(value: Mapping[str, Any], prepared: _Labels) -> str | None:
    preferred = [v for key, v in value.items() if key.strip().casefold() in _LABEL_KEYS]
    hits = _hits(preferred, prepared)
    # A label key that holds another text, or null, is an answer too: none of the labels.
    if hits or any(v is None or isinstance(v, str) for v in preferred):
        return _only(hits)
    hits = _hits(value.values(), prepared)
    if hits:
        return _only(hits)
    inner: set[str | None] = set()
    for part in value.values():
        if isinstance(part, dict):
            named = [v for key, v in part.items() if key.strip().casefold() in _LABEL_KEYS] or list(part.values())
            inner |= _hits([v for v in named if isinstance(v, str)], prepared)
    return _only(inner)


def _whole_then_first_line(body: str) -> Iterator[str]:
    yield body
    lines = body.splitlines()
    if len(lines) > 1:
        first = next((line for line in lines if line.strip(_OPENING + _CLOSING)), None)
        if first is not None:
            yield first


def _without_prefixes(text: str) -> Iterator[str]:
    yield text
    for _ in range(3):
        prefix = _PREFIX.match(text)
        if prefix is None:
            return
        text = text[prefix.end() :]
        yield text


class _Span(NamedTuple):
    start: int
    end: int
    label: str


def _mention(body: str, prepared: _Labels, offered: frozenset[str]) -> str | None:
    folded = _fold(body)
    spans = [
        _Span(hit.start(), hit.end(), label)
        for label, pattern in prepared.patterns
        if not _is_idle_letter(label, body, prepared.labels)
        for hit in pattern.finditer(folded)
        if hit.end() > hit.start() and _word_ends(folded, hit.start(), -1) and _word_ends(folded, hit.end() - 1, +1)
    ]
    settled = _settle(_outermost(spans), folded, body)
    negated = _negated(folded, sorted({(s.start, s.end) for s in settled}))
    named = {s.label for s in settled if (s.start, s.end) not in negated} & offered
    return named.pop() if len(named) == 1 else None


def _outermost(spans: list[_Span]) -> list[_Span]:
    """Leave out what lies inside a longer mention."""
    kept: list[_Span] = []
    reach = (0, 0)  # of the mentions so far, the one that goes farthest
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        place = span[:2]
        if span.end > reach[1]:
            reach = place
        elif place != reach:
            continue
        kept.append(span)
    return kept


def _is_idle_letter(label: str, body: str, labels: Sequence[str]) -> bool:
    """Whether a one-letter label is not named inside a sentence.

    It is named by an upper-case letter that is no English word there or follows "answer:" or "is", and by a letter that
    is coordinated with another label ("a or b").
    """
    letter = label.strip()
    if len(letter) > 1 or not letter.isalpha() or not letter.isascii():
        return False
    alone = rf"(?<![\w'-]){letter}(?![\w'+#-])"
    others = "|".join(re.escape(other.strip()) for other in labels if other.strip() and other != label)
    if others and re.search(
        rf"(?i:{alone}[\"'`*)]*\s*(?:,\s*(?:or|and)|or|and|/|,|&)\s*[\"'`*(]*(?:{others})(?!\w))", body
    ):
        return False
    if letter != letter.upper():
        return True
    article = r"(?!\s+[a-z])" if letter in "AI" else ""
    return re.search(rf"{alone}{article}|(?i:answer\s*:|\bis)[\s\"'`*(]*{alone}", body) is None


def _settle(spans: list[_Span], folded: str, body: str) -> list[_Span]:
    """Where one place fits several labels, keep the one spelled exactly so; where that fails keep them all."""
    places: dict[tuple[int, int], list[_Span]] = {}
    for span in spans:
        places.setdefault((span.start, span.end), []).append(span)
    settled: list[_Span] = []
    for (start, end), rivals in places.items():
        if len(rivals) > 1:
            exact = [s for s in rivals if _plain(s.label) == folded[start:end]] or rivals
            raw = [s for s in exact if s.label in body]
            rivals = raw if len(exact) > 1 and len(raw) == 1 else exact  # noqa: PLW2901
        settled.extend(rivals)
    return settled


def _negated(folded: str, places: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """The mentions that are negated, by words around them, by a coordinated mention, or by a refusing sentence."""
    text = folded
    names = [(start, end) for start, end in places if _NEGATIVE_WORD.search(folded[start:end].replace("_", " "))]
    if names:
        chars = list(folded)
        for start, end in names:
            chars[start:end] = "x" * (end - start)
        text = "".join(chars)
    ends = [hit.start() for hit in _SENTENCE_END.finditer(text)]
    refusing = {bisect_left(ends, hit.start()) for hit in _REFUSAL.finditer(text)}
    found = [_is_negated(text, *place) or bisect_left(ends, place[0]) in refusing for place in places]
    joined = [
        after[0] - before[1] < 40 and _COORDINATION.fullmatch(text, before[1], after[0]) is not None
        for before, after in pairwise(places)
    ]
    for n, together in enumerate(joined):
        found[n + 1] = found[n + 1] or (together and found[n])
    for n in reversed(range(len(joined))):
        # Backwards not across a comma: "positive, negative is wrong".
        found[n] = found[n] or (joined[n] and found[n + 1] and text[places[n][1] : places[n + 1][0]].strip() != ",")
    return {place for place, no in zip(places, found, strict=True) if no}


def _is_negated(text: str, start: int, end: int) -> bool:
    before = re.split(r"[.,;:!?\n]", text[max(0, start - 60) : start])[-1]
    return bool(_NOT_BEFORE.search(before) or _NOT_BEFORE_HAN.search(before) or _NOT_AFTER.match(text, end, end + 40))


# --- token log-probabilities --------------------------------------------------------------------------------------

_STOP = re.compile(r"<\|[^|<>]*\|>|<\uff5c[^\uff5c<>]*\uff5c>|</s>|<eos>|<end_of_turn>|<EOS_TOKEN>|\[EOS\]|\[/INST\]")


class _Token(NamedTuple):
    raw: bytes
    probability: float

    @property
    def stops(self) -> bool:
        return not self.raw or _STOP.fullmatch(self.raw.decode("utf-8", "replace")) is not None


def _token(entry: Mapping[str, Any]) -> _Token | None:
    """Read one token; None where it has no usable probability."""
    logprob = entry.get("logprob")
    if isinstance(logprob, bool) or not isinstance(logprob, (int, float)) or math.isnan(logprob):
        return None
    raw = entry.get("bytes")
    text = entry.get("token")
    if isinstance(raw, (list, tuple)) and all(isinstance(b, int) and 0 <= b <= 255 for b in raw) and (raw or not text):
        data = bytes(raw)
    elif isinstance(text, str):
        data = text.encode("utf-8", "replace")
    else:
        return None
    return _Token(data, math.exp(min(float(logprob), 0.0)))


class _Position(NamedTuple):
    sampled: _Token
    others: list[_Token]
    hidden: float
    """Probability that no listed token accounts for."""
    listed: bool
    """Whether there are alternatives at all."""


def _position(entry: object) -> _Position | None:
    if not isinstance(entry, Mapping):
        return None
    top = entry.get("top_logprobs")
    top = top if isinstance(top, list) else []
    alternatives = [t for t in map(_token, (e for e in top if isinstance(e, Mapping))) if t]
    sampled = _token(entry)
    if sampled is None:
        text = entry.get("token")
        sampled = next(
            (t for t in alternatives if isinstance(text, str) and t.raw == text.encode("utf-8", "replace")), None
        )
        if sampled is None:
            return None
    others = [t for t in alternatives if t.raw != sampled.raw]
    total = sampled.probability + sum(t.probability for t in others)
    if total > 1.0:  # rounding, or a server that lists a token twice
        sampled = _Token(sampled.raw, sampled.probability / total)
        others = [_Token(t.raw, t.probability / total) for t in others]
        total = 1.0
    return _Position(sampled, others, 1.0 - total, bool(alternatives))


def _text(raw: bytes) -> str:
    """Decode, leaving out a character that is not complete yet."""
    return raw.decode("utf-8", "ignore")


class _Reader:
    """Which labels a beginning may still become."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.prepared = _prepare(labels)

    def fits(self, text: str) -> list[str]:
        """Labels that the text begins, is, or begins with as a whole phrase; the longest of the latter only."""
        plain, bare = self.prepared.prefix_keys(text)
        keys = self.prepared.keys
        begun = [
            label
            for label, (k_plain, k_bare) in keys.items()
            if (plain and (k_plain.startswith(plain) or k_plain == plain.rstrip()))
            or (bare and (k_bare.startswith(bare) or k_bare == bare.rstrip()))
        ]
        if not begun:
            done: dict[str, int] = {}
            for own in _beginnings(text):
                for label, pattern in self.prepared.patterns:
                    hit = pattern.match(own)
                    if hit and hit.end() and _word_ends(own, hit.end() - 1, +1):
                        done[label] = max(done.get(label, 0), hit.end())
            longest = max(done.values(), default=0)
            begun = [label for label, length in done.items() if length == longest]
        return self.by_spelling(begun, text)

    def is_label(self, text: str) -> str | None:
        """The label that a finished text is."""
        return self.prepared.exact(_text(text.encode("utf-8", "replace")))[1]

    def by_spelling(self, labels: list[str], text: str) -> list[str]:
        """Of labels that are the same but for case or width, keep those spelled like the text."""
        if len(labels) > 1 and len({self.prepared.keys[label] for label in labels}) < len(labels):
            stripped = text.strip()
            return [label for label in labels if label.startswith(stripped)] or labels
        return labels


def label_probabilities(
    tokens: Sequence[Mapping[str, Any]], labels: Sequence[str], *, floor: float = 1e-6
) -> tuple[dict[str, float], float]:
    """Turn the token log-probabilities of one reply into probabilities of the offered labels.

    Walks along the tokens that were sampled. At each position every listed alternative makes the text "sampled so far +
    alternative", with its probability. Case, white space, quotes and (where unambiguous) underscores do not matter.

    - A text that is, or begins, exactly one label gives its probability to that label.
    - A text that begins several labels is followed further where it was sampled (an alternative that differs from the
      sampled token only in case or space goes along with it); else its probability is shared evenly among them.
    - A label that begins another one ("card", "card_arrival") is decided by what follows. The end of the reply comes
      as an empty token, as a special token such as `<|im_end|>`, or not at all.
    - A lead-in ("The label is", a JSON key) is skipped where `match_label` finds a label in the reply; its probability
      is carried along.
    - Everything else is `unassigned`: tokens that begin no label, blanks, and what no listed token accounts for. Where
      a reply lists no alternatives at all, what the sampled token leaves is shared evenly among the other labels it
      might have gone to, since a lone token must not look certain.

    Before they are normalized, assigned and unassigned probability sum to 1.

    Args:
        tokens: `logprobs.content` in OpenAI's form: `{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}`;
            `bytes` are used where given. A logprob of minus infinity is probability 0; an alternative without a number
            is skipped; a position without a number ends the walk. Natural logarithms.
        labels: The labels that were offered; distinct.
        floor: Least probability of a label, so that logarithms stay finite; 0 <= floor < 1 / number of labels.

    Returns:
        Probabilities over all labels, in their order, summing to 1; and the unassigned probability, in [0, 1].

    Raises:
        NoLabelMassError: If there are no tokens, or no label got anything.
        ValueError: If `labels` is empty or `floor` is out of range.

    Example:
        >>> top = [{"token": "Yes", "logprob": -0.2231}, {"token": "no", "logprob": -1.6094}]
        >>> p, left = label_probabilities([{**top[0], "top_logprobs": top}], ["yes", "no"])
        >>> round(p["yes"], 2), round(left, 2)
        (0.8, 0.0)
    """
    offered = tuple(dict.fromkeys(labels))
    if not offered:
        msg = "`labels` is empty"
        raise ValueError(msg)
    if not 0.0 <= floor < 1.0 / len(offered):
        msg = f"`floor` must be at least 0 and below 1 / {len(offered)} labels"
        raise ValueError(msg)
    positions: list[_Position] = []
    for entry in tokens:
        position = _position(entry)
        if position is None:
            break
        positions.append(position)
    if not positions:
        msg = "the reply carries no token log-probabilities; ask the model for `logprobs`"
        raise NoLabelMassError(msg)
    mass, unassigned = _walk(positions, _Reader(offered))
    total = math.fsum(mass.values())
    if not total > 0.0:
        msg = (
            "no offered label has any probability in the reply; ask for the label alone, raise `top_logprobs`, "
            "or raise `max_tokens`"
        )
        raise NoLabelMassError(msg)
    room = 1.0 - floor * len(offered)
    probabilities = {label: floor + room * (mass[label] / total) for label in offered}
    return probabilities, min(1.0, max(0.0, unassigned))


def _walk(positions: list[_Position], reader: _Reader) -> tuple[dict[str, float], float]:
    mass = dict.fromkeys(reader.labels, 0.0)
    unassigned = 0.0
    reach = 1.0  # probability of the text sampled so far, its spelling variants included
    path = b""
    start = 0
    open_labels = list(reader.labels)
    alone = not any(p.listed for p in positions)
    last = len(positions) - 1
    restarted = False
    at = 0
    while at <= last:
        sampled, others, hidden, _ = positions[at]
        stops = sampled.stops and at == last
        ahead = path if sampled.stops else path + sampled.raw
        ahead_text = _text(ahead)
        ahead_keys = reader.prepared.prefix_keys(ahead_text)
        step = sampled.probability
        for other in others:
            other_text = _text(path) if other.stops else _text(path + other.raw)
            if (
                not other.stops
                and not stops
                and ahead_keys[1]
                and reader.prepared.prefix_keys(other_text) == ahead_keys
            ):
                step += other.probability
                continue
            heirs = _heirs(reader, other_text, ended=other.stops)
            for heir in heirs:
                mass[heir] += reach * other.probability / len(heirs)
            if not heirs:
                unassigned += reach * other.probability
        # Blanks, quotes and markdown alone decide nothing, unless a label begins with them.
        fits = reader.fits(ahead_text) or ([] if ahead_keys[1] else open_labels)
        if alone and (rest := [label for label in open_labels if label not in fits]) and fits:
            for label in rest:
                mass[label] += reach * hidden / len(rest)
        else:
            unassigned += reach * hidden
        reach *= step
        path = ahead
        at += 1
        if stops:
            break
        if not fits:
            begin = None if restarted else _restart(positions, start, at, reader)
            if begin is None:
                unassigned += reach
                return mass, unassigned
            restarted = True
            for position in positions[at:begin]:
                unassigned += reach * (1.0 - position.sampled.probability)
                reach *= position.sampled.probability
            at = start = begin
            path = b""
            open_labels = list(reader.labels)
            continue
        open_labels = fits
        if len(fits) == 1 and fits == reader.fits(_text(path + _sampled(positions[at:]))):
            mass[fits[0]] += reach
            return mass, unassigned
    heirs = _heirs(reader, _text(path), ended=True) or (
        [] if positions[last].sampled.stops else reader.fits(_text(path)) if _text(path).strip() else []
    )
    for heir in heirs:
        mass[heir] += reach / len(heirs)
    return mass, unassigned if heirs else unassigned + reach


def _heirs(reader: _Reader, text: str, *, ended: bool) -> list[str]:
    """The labels that share the probability of a text that is not followed further."""
    if not any(reader.prepared.prefix_keys(text)):
        return []
    if ended:
        label = reader.is_label(text)
        if label is not None:
            return [label]
        fits = reader.fits(text)
        return fits if len(fits) == 1 else []
    return reader.fits(text)


def _sampled(positions: Sequence[_Position]) -> bytes:
    return b"".join(p.sampled.raw for p in positions if not p.sampled.stops)


def _restart(positions: list[_Position], start: int, at: int, reader: _Reader) -> int | None:
    """Where the label begins in a reply that begins with other words; None where the reply names no label."""
    label = match_label(_text(_sampled(positions[start:])), reader.labels)
    if label is None:
        return None
    for begin in range(at, len(positions)):
        before = _text(_sampled(positions[start:begin]))
        after = _text(_sampled(positions[begin:]))
        if not after.strip(_OPENING) or reader.fits(after) != [label]:
            continue
        whole = before + after
        if not before or _word_ends(whole, len(before), -1):
            return begin
    return None


def token_logprobs(reply: object) -> list[Any]:
    """The token log-probabilities that a message carries, in OpenAI's form; empty where there are none."""
    metadata = getattr(reply, "response_metadata", None)
    logprobs = metadata.get("logprobs") if isinstance(metadata, Mapping) else None
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else logprobs
    return content if isinstance(content, list) else []


def mean_token_probability(tokens: Sequence[Mapping[str, Any]]) -> float:
    """The mean probability of the tokens of a reply (paper, Section 4.3 and Eq. 9); in [0, 1].

    The arithmetic mean of the probabilities with which the words were predicted, the end token left out.

    Args:
        tokens: `logprobs.content` in OpenAI's form.

    Raises:
        NoLabelMassError: If there is no token with a probability.

    Example:
        >>> mean_token_probability([{"token": "a", "logprob": 0.0}, {"token": "b", "logprob": float("-inf")}])
        0.5
    """
    read = [t for t in map(_token, (e for e in tokens if isinstance(e, Mapping))) if t is not None]
    values = [t.probability for t in read if not t.stops]
    if not values:
        msg = "the reply carries no token log-probabilities; ask the model for `logprobs`"
        raise NoLabelMassError(msg)
    return math.fsum(values) / len(values)
