"""From a reply to an offered label; the rules stand in `langchain_dsplus.labels`."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from langchain_dsplus.labels.forms import BULLET, PAIRS, LabelSet, View, fold, is_unspaced, prepare

LONGEST_TEXT = 200_000
"""Characters of a text that are read. A model that wrote more than that has not answered with a label."""

# --- words --------------------------------------------------------------------------------------------------------

_NOUN = (
    r"(?:(?:label|category|class|classification|answer|intent|topic|sentiment|prediction|response|result|choice|option"
    r"|output|type|verdict|decision|tag|conclusion|score|grade|rating|kategorie|klasse|antwort|ergebnis|catégorie"
    r"|classe|réponse|étiquette|categoría|clase|respuesta|etiqueta|categoria|resposta|risposta|etichetta|categorie"
    r"|antwoord|kategori|svar|категория|метка|класс|ответ|التصنيف|الإجابة)(?!\w)"
    r"|标签|标注|答案|类别|分类(?:结果)?|ラベル|答え|回答|カテゴリー?|레이블|라벨|정답|답변?|분류)"
)
"""Words for "the label"; JSON keys and XML tags of these names hold the answer."""
_OF_NOUN = (
    r"(?:(?:the|my|your|this|a|final|predicted|correct|best|right|most|likely|overall|appropriate|suggested|new|die|das"
    r"|la|le|el|il|de|az|der)\s+|l'|正确|最终){0,5}"
)
_TEXT = r"(?:text|message|review|input|sentence|comment|document|e?mail|query|request|ticket|post)"
_IS = r"(?:is|would be|should be|must be|ist|lautet|est|es|è|é|är|это)(?:\s+(?:clearly|probably|most likely|likely))?"
_SO = r"(?:(?:so|therefore|thus|hence|overall|sure|ok|okay|based on (?:the|this) text)(?:\s*,\s*|\s+))?"
_MARK = re.compile(
    rf"(?:{_SO}(?:here(?:'s|\s+is)\s+)?{_OF_NOUN}{_NOUN}(?:\s+(?:of|for)\s+(?:the|this|that)\s+{_TEXT})?"
    rf"(?:\s*(?:[:=]|->|=>|→|\|)|[^\S\n]+-+(?=\s)|(?P<is>\s+{_IS}(?=[\s:])\s*:?|\s*(?:是|为|は)))"
    rf"|[{{\[\s]*(?P<quote>[\"']){_OF_NOUN}{_NOUN}(?P=quote)\s*:|(?<=[#] ){_OF_NOUN}{_NOUN}(?=\s*\n))\s*"
)
"""`label:`, `the category of this text is`, `"answer":`, a heading `# Label`."""
_TOLD = re.compile(
    rf"{_SO}(?:i(?:'d| would)?\s+(?:think|believe|say|guess)\s+(?:that\s+)?)?(?:"
    rf"(?:it|this|that|(?:the|this)\s+{_TEXT})(?:'s|\s+(?:{_IS}|seems|looks\s+like|belongs\s+to|falls\s+under))"
    rf"(?:\s+(?:about|classified\s+as))?\s+(?:(?:the|an?)\s+(?:{_NOUN}\s+)?)?"
    rf"|i(?:'d| would)?\s+(?:(?:say|choose|pick|select)"
    rf"|(?:classify|categorize|label|call)\s+(?:it|(?:the|this)\s+{_TEXT}|this)(?:\s+as)?)\s+"
    r"|(?:das ist|c'est|es|esto es|è|это)\s+|这(?:条评论)?是)"
)
"""`It is`, `I would classify this text as`."""
_HELLO = re.compile(r"(?:sure|ok|okay|of course|certainly)[,!.]\s+")
_THE = re.compile(r"(?:the|an?)\s+(?=\S)")
_AFFIRMATIVE = frozenset("yes true 1 1.0 y correct ja oui si sí sim да так 是 对 はい 예 네 evet ✓ ✔ ✅".split())  # noqa: SIM905
_NEGATIVE = frozenset("no false 0 0.0 n none null never off not wrong incorrect nein non нет 否 ❌ ✗".split())  # noqa: SIM905
"""What may stand behind "x:" and say whether it is x."""
_YES = re.compile(rf"(?:{'|'.join(map(re.escape, _AFFIRMATIVE))})(?:[.,;!]\s*|\s*$)")
_NEGATOR = re.compile(
    r"(?<!\w)(?:no|not|nope|never|none|nothing|neither|nor|if|unless|cannot|without|hardly|barely|unlikely|least|false|wrong"
    r"|incorrect|rejected|excluded|ruled|doubt|unsure|uncertain|mistake|anything|far|out|off|disagree|fails"
    r"|lacks|low|absent|n/a|nicht|nein|kein\w{0,2}|kaum|falsch|ne|n'\w+|pas|non|jamais|aucun|faux|ni|nunca|falso|sin|não"
    r"|nem|nessun\w?|niet|nee|geen|inte|ikke|nej|nie|není|не|нет|ні|ни|ложь|değil|hayır|yok|ei|bukan|tidak|không|nu|δεν"
    r"|ليس|لا|לא|אין|नहीं)(?!\w)|n't(?!\w)|[不非没沒無无否違]|ない|ません|なく|아니|아닙|않|없|ไม่|[✗✘❌×]"
)
"""Words that deny. They only ever take a label away: one that is not listed makes no label of a reply that has none."""

_ANSWERS = frozenset(("yes", "no", "true", "false"))
"""Labels that are an answer by themselves: "No, it is not." affirms."""

# --- the end of a reply -------------------------------------------------------------------------------------------

CUT_SHORT = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded", "incomplete"}
    | {"content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii"}
    | {"guardrail_intervened", "refusal", "error", "malformed_function_call", "pause_turn", "token_limit"}
)
"""Words of providers, in lower case, for a reply that is not whole."""
_ENDINGS = ("finish_reason", "stop_reason", "done_reason", "stopReason", "finishReason", "status")


def ending(reply: object) -> str | None:
    """Why a message ended, in lower case: "stop", "length", ...; None where it does not say.

    A stream that ends without a reason is "incomplete": its message is a chunk, or names a provider that tells reasons.

    Example:
        >>> from langchain_core.messages import AIMessage
        >>> ending(AIMessage("ca", response_metadata={"stop_reason": "MAX_TOKENS"}))
        'max_tokens'
    """
    metadata = getattr(reply, "response_metadata", None)
    if not isinstance(metadata, Mapping):
        return None
    said = [str(metadata[key]) for key in _ENDINGS if metadata.get(key)]
    # A member of a provider's enum shows as "FinishReason.MAX_TOKENS".
    reasons = [value.rpartition(".")[2].lower() for value in said]
    if reasons:
        return next((reason for reason in reasons if is_cut(reason)), reasons[0])
    streamed = "Chunk" in type(reply).__name__ or "model_provider" in metadata
    return "incomplete" if streamed else None


def is_cut(reason: str | None) -> bool:
    """Whether a reply that ended for this reason is not whole.

    Streams that were added up may say a reason twice ("lengthlength").
    """
    folded = (reason or "").rpartition(".")[2].lower()
    return folded in CUT_SHORT or any(folded == word * 2 for word in CUT_SHORT)


# --- matching -----------------------------------------------------------------------------------------------------


def match_label(
    text: str, labels: Sequence[str], *, known: Sequence[str] = (), finish_reason: str | None = None
) -> str | None:
    """Find the one offered label that a text names; the rules stand at the top of `langchain_dsplus.labels`.

    Args:
        text: What the model wrote. Any script; at most the first 200,000 characters are read.
        labels: The labels that were offered.
        known: Further labels that exist and were not offered: a text that names one of them does not name an offered
            label that is a part of it ("card_arrival" is not "card").
        finish_reason: Why the reply ended, as `ending` tells it. One that was cut ("length", "content_filter", ...)
            names no label where it ends in what might have become another one.

    Returns:
        The label as it was given, or None.

    Example:
        >>> match_label("**Label:** Card arrival.", ["card", "card_arrival"])
        'card_arrival'
        >>> match_label("It is not positive.", ["positive", "negative"]) is None
        True
        >>> match_label("card", ["card", "card_arrival"], finish_reason="length") is None
        True
    """
    offered = tuple(dict.fromkeys(labels))
    everything = tuple(dict.fromkeys((*offered, *known)))
    if not everything:
        return None
    found = locate(text[:LONGEST_TEXT], prepare(everything), cut=is_cut(finish_reason))
    return found.label if found is not None and found.label in offered else None


def match_reply(reply: object, labels: Sequence[str], *, known: Sequence[str] = ()) -> str | None:
    """`match_label` of a message, which knows why it ended, or of a text."""
    text = reply if isinstance(reply, str) else str(getattr(reply, "text", reply))
    return match_label(text, labels, known=known, finish_reason=ending(reply))


class Found(NamedTuple):
    """A label, and where in the text it stands."""

    label: str
    start: int


def locate(text: str, labels: LabelSet, *, cut: bool = False) -> Found | None:
    """The label that a text names."""
    start, end = (0, len(text)) if labels.exact(text)[0] else _answer_part(text)
    fence = _FENCE.fullmatch(text, start, end)
    if fence and "```" not in fence[1] and not labels.exact(text[start:end])[0]:
        start, end = fence.span(1)
    body = text[start:end]
    hit, label = labels.exact(body)
    if not hit:
        found = _Reading(body, labels, cut=cut).result()
        return None if found is None else Found(found.label, start + found.start)
    tail = body[BULLET.match(body).end() :].lstrip(" \n\t\"'`*_([{“„«「")  # type: ignore[union-attr]
    if label is None or (cut and not body.endswith("\n") and (labels.begun(body, label) or labels.begun(tail, label))):
        return None
    return Found(label, start + len(body) - len(body.lstrip()))


# Reasoning.

_TAG = r"(?:\w+:)?(?:think|reason|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection)"
_THINKING = re.compile(
    rf"(?P<closed></{_TAG}>|\[/{_TAG}\]|◁/think▷|<\|/?end_(?:of_thought|thinking)\|>)"
    rf"|<{_TAG}>|\[{_TAG}\]|◁think▷|<\|(?:begin_of_thought|start_thinking)\|>",
    re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,200}<\|message\|>", re.IGNORECASE)
_BARE_CHANNELS = re.compile(r"\s*(?:assistant)?analysis.*assistantfinal", re.DOTALL | re.IGNORECASE)
SPECIAL = re.compile(r"<\|[^|<>]{0,40}\|>|<｜[^｜<>]{0,40}｜>|</s>|<eos>|<end_of_turn>|<EOS_TOKEN>|\[EOS\]|\[/INST\]")
_PREFIX = re.compile(rf"(?:{SPECIAL.pattern})(?:assistant(?=\n|<\|)\s*)?")
_FENCE = re.compile(r"\s*```[a-zA-Z]*[^\S\n]*\n?(.*?)\s*(?:```\s*)?", re.DOTALL)


def _answer_part(text: str) -> tuple[int, int]:
    """Where in a text the answer stands, reasoning and special tokens left out; an empty place where it has none."""
    start, end = 0, len(text)
    channels = list(_CHANNEL.finditer(text))
    if channels:
        if channels[-1][1].lower() != "final":
            return end, end
        start = channels[-1].end()
    elif bare := _BARE_CHANNELS.match(text):
        start = bare.end()
    # Tags may be nested or unopened: what counts is the last one of either kind.
    tags = list(_THINKING.finditer(text, start))
    if tags and not tags[-1]["closed"]:
        return end, end
    if tags:
        if not text[tags[-1].end() :].strip() and not tags[0]["closed"]:
            end = tags[0].start()  # the answer stands in front of its reasons
        else:
            start = tags[-1].end()
    while special := _PREFIX.match(text, start, end):
        start = special.end()
    stop = SPECIAL.search(text, start, end)
    return start, end if stop is None else stop.start()


# JSON.

_KEY = re.compile(rf"{_OF_NOUN}(?:{_NOUN}|labels|categories|classes)(?:\s+(?:name|id|value))?")
_TRUTH = re.compile(r"(?:(?:is|label)\s+)*(?:true|match|matches|applies|applicable|fits|valid|correct|confirmed|value)")


def _words(key: str) -> str:
    """The words of a JSON key: "predictedLabel", "final_answer"."""
    return re.sub(r"[\W_]+", " ", fold(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key))).strip()


def _from_json(value: Any, labels: LabelSet, depth: int = 0) -> str | None:
    """The label that a JSON value names."""
    if isinstance(value, list):
        return _from_json(value[0], labels, depth + 1) if len(value) == 1 and depth < 4 else None
    if isinstance(value, dict):
        return _from_object(value, labels, depth) if depth < 4 else None
    return labels.exact(value if isinstance(value, str) else json.dumps(value))[1] if value is not None else None


def _from_object(value: Mapping[str, Any], labels: LabelSet, depth: int) -> str | None:
    verdicts = {label: verdict(part) for key, part in value.items() if (label := labels.exact(key)[1]) is not None}
    if verdicts and None not in verdicts.values():
        return _affirmed(verdicts)
    named = {key: part for key, part in value.items() if _KEY.fullmatch(_words(key))}
    if depth and not named:
        named = {key: part for key, part in value.items() if key.casefold() in ("name", "value", "id")}
    read = {key: _from_json(part, labels, depth + 1) for key, part in named.items()}
    found = {label for key, label in read.items() if label is not None or not isinstance(value[key], (int, float))}
    if len(found) != 1 or (label := found.pop()) is None:
        return None
    own = {_words(label), f"is {_words(label)}"}
    # Beside the label, "correct" or "is_spam" with the value false takes it back.
    for key, part in value.items():
        if key not in named and verdict(part) is False and (_TRUTH.fullmatch(_words(key)) or _words(key) in own):
            return None
    return label


def _affirmed(verdicts: Mapping[str, bool | None]) -> str | None:
    affirmed = [label for label, yes in verdicts.items() if yes]
    return affirmed[0] if len(affirmed) == 1 else None


def verdict(value: Any) -> bool | None:
    """Whether a value behind "x:" says that it is x: yes, no, a share above one half; None where it says neither."""
    if not isinstance(value, (bool, int, float, str)):
        return None
    word = fold(str(value)).strip(" \n\t\"'`*_.!,;。()[]}")
    number = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)(\s?%)?", word)
    if number is not None and (share := float(number[1]) / (100.0 if number[2] else 1.0)) <= 1.0:
        return share > 0.5
    return True if word in _AFFIRMATIVE else False if word in _NEGATIVE else None


# Prose.

_SENTENCE = re.compile(r"\n\s*|(?<=[.!?])[\"'”»)]{0,2}\s+|(?<=[。！？])|[,;]\s+(?=(?:so|therefore|thus|hence)\s)")
_STOP = re.compile(r"[.!?](?=\s|$|[\"'”»])|[。！？]|\n")
_QUOTED = re.compile(
    r'"[^"]*"|[“„][^“„”]*[“”]|«[^«»]*»|「[^「」]*」|『[^『』]*』|```.*?(?:```|$)|(?m:^> [^\n]*)', re.DOTALL
)
_TAGGED = re.compile(rf"<({_NOUN})>(.{{0,400}}?)</\1>|\\boxed\{{(?:\\text\{{)?([^{{}}]{{0,400}})\}}\}}?", re.DOTALL)
_BRACKET = re.compile(r"\{|(?:^|(?<=\n))[^\S\n]*\[")
_DECODER = json.JSONDecoder()
_ITEM = re.compile(
    r"\s*(?:[-*•]\s+)?(?:\[(?P<box>[ x✓])\]\s*(?P<boxed>.+?)"
    r"|(?P<label>.+?)\s*(?:[:=?]|->|=>|→|\s-)\s*(?P<value>\S+))\s*"
)
_TAIL = re.compile(rf"[^\S\n]*[✓✔✅]|[^\S\n]+(?:{_NOUN}|{_TEXT}(?!\w))|です|的(?=\W|$)|입니다")
_BEHIND = re.compile(
    r"[^\S\n]*(?:(?P<stop>[.!…]+[\"'”»)]*\s+|。|\n\s*)|(?:->|=>|→|[:=|](?!\d)|(?<=\s)-+\s|—|,(?!\d)|[;、]|(?=\())\s*"
    r"|(?<=\s)(?=(?:because|since|rather than|instead of|and not|not)\s))"
)
"""What parts a label from what is said of it."""
_FIELD = re.compile(r"[^\W\d][\w ]{0,20}:\s")
_BECAUSE = re.compile(r"(?:because|since|weil|da|car|parce que|porque|perché|потому)(?!\w)")
_FIRST_WORDS = re.compile(r"(?:[^\w]*[\w'/]+){0,5}[^\w]*")
_DENIED = re.compile(
    r"(?:(?<!\w)(?:no|not|nor|nothing|than|instead of|nicht|keine?|pas|не)|n't|[不非]是?)(?:\s+\w+){0,3}\s*[\"'“]?$"
)
"""In front of another label: denies that one."""
_CLAUSE = re.compile(r"[.,;:!?\n。]")
_LONGEST_ITEM = 100
_FEWEST_WORDS = 3
"""A shorter reason may be a denial in words that are not listed."""
_FEW_WORDS = 4
"""A later sentence of so few words beside another label names that one instead."""


def _sentence_at(text: str, at: int) -> str:
    """What is left of a sentence; of a longer one the first characters."""
    part = text[at : at + 500]
    end = _STOP.search(part)
    return (part if end is None else part[: end.end()]).strip()


class _Said(NamedTuple):
    """A label at the place of a text where an answer may stand; None where a mark names none."""

    start: int
    end: int
    label: str | None
    marked: bool
    whole: bool = False
    """Whether it is a structure, which says by itself where it ends."""


class _Reading:
    """One text, read for what it says at the beginnings of its sentences."""

    def __init__(self, text: str, labels: LabelSet, *, cut: bool) -> None:
        self.labels = labels
        self.cut = cut
        self.view = View(text)
        self.text = self.view.folded
        self.end = len(self.text.rstrip())

    def result(self) -> Found | None:
        if (found := self._items()) is not None:
            return found
        structures = list(self._structures())
        said = [*structures, *self._sentences(sorted((one.start, one.end) for one in structures))]
        said.sort(key=lambda one: one.start)
        marks = [at for at, one in enumerate(said) if one.marked]
        first = marks[-1] if marks else 0
        if not said[first:] or {one.label for one in said[first:]} != {said[first].label}:
            return None
        start, end, label, *_ = said[first]
        if label is None or not self._stands(said[first]):
            return None
        hits = self.labels.any.finditer(self.text, start, end)
        places = [hit.start() for hit in hits if self.labels.spelled(self.view.raw(*hit.span())) == label]
        return Found(label, self.view.starts[places[-1] if places else start])

    # --- where it may say something

    def _items(self) -> Found | None:
        """A text of nothing but labels with their values: "spam: no, ham: yes", "[x] ham"."""
        verdicts: dict[str, bool | None] = {}
        found = None
        at = 0
        for part in re.split(r"(\n|[,;]\s)", self.text):
            item = _ITEM.fullmatch(part) if len(part) < _LONGEST_ITEM else None
            if item is not None:
                group = "boxed" if item["box"] else "label"
                start, end = at + item.start(group), at + item.end(group)
                label = self.labels.exact(self.view.raw(start, end))[1]
                if label is None or self.labels.exact(item["value"] or "")[0]:
                    return None
                verdicts[label] = item["box"] != " " if item["box"] else verdict(item["value"])
                found = Found(label, self.view.starts[start]) if verdicts[label] else found
            elif part.strip(" \n,;"):
                return None
            at += len(part)
        return found if None not in verdicts.values() and _affirmed(verdicts) else None

    def _structures(self) -> Iterator[_Said]:
        """XML tags, LaTeX boxes and JSON inside a text: marked answers, where they have a key for one."""
        for hit in _TAGGED.finditer(self.text):
            label = self.labels.exact(self.view.raw(*hit.span(3 if hit[1] is None else 2)))[1]
            yield _Said(*hit.span(), label, marked=True, whole=True)
        end = 0
        for hit in islice(_BRACKET.finditer(self.text), 20):
            if hit.end() > end:
                place = self.view.starts[hit.end() - 1]
                try:
                    value, length = _DECODER.raw_decode(self.view.text[place:])
                except (ValueError, RecursionError):
                    continue
                end = bisect_left(self.view.starts, place + length)
                yield _Said(hit.end() - 1, end, _from_json(value, self.labels), marked=True, whole=True)

    def _sentences(self, structures: list[tuple[int, int]]) -> Iterator[_Said]:
        """What stands at the beginning of a sentence, outside of quotations and structures."""
        quoted = (hit.span() for hit in _QUOTED.finditer(self.text))
        quoted = ((start + (self.text[start] not in "`>"), end) for start, end in quoted)
        spans = iter(sorted([*quoted, *structures]))
        span = next(spans, None)
        taken = {start for start, _ in structures}
        beginnings = ((hit.end(), "\n" in hit[0]) for hit in _SENTENCE.finditer(self.text))
        for begin, at_line in [(0, True), *beginnings]:
            while span is not None and span[1] <= begin:
                span = next(spans, None)
            said = self._sentence(begin, at_line=at_line) if span is None or begin < span[0] else None
            if said is not None and said.start not in taken:
                yield said

    def _sentence(self, line: int, *, at_line: bool) -> _Said | None:
        text, begin = self.text, line
        if at_line and not self.labels.any.match(text, line):  # "- 1" is an item, "-1" is a label
            begin = BULLET.match(text, line).end()  # type: ignore[union-attr]
        mark = _MARK.match(text, begin)
        if mark is not None:
            if text[mark.end() : mark.end() + 1] != "{":
                mark = _MARK.match(text, mark.end()) or mark  # "Answer: the label is x"
            if said := self._label_at(mark.end(), marked=True, told=True):
                return said
            rest = _sentence_at(text, mark.end())
            speaks = not mark["is"] or _NEGATOR.search(rest) or self.labels.any.search(rest)
            return _Said(mark.end(), mark.end(), None, marked=True) if speaks else None
        if told := _TOLD.match(text, begin):
            return self._label_at(told.end(), marked=False, told=True)
        if not at_line or not self._stands_out(line):
            return None
        hello = _HELLO.match(text, begin)
        return self._label_at(hello.end() if hello else begin, marked=False, told=False)

    def _stands_out(self, line: int) -> bool:
        """Whether a line is the first one, or the last one behind a line that ends a sentence and denies nothing."""
        if line == 0 or line < self.text.rfind("\n", 0, self.end):
            return line == 0
        before = self.text[max(0, line - 300) : line].rstrip().rpartition("\n")[2]
        finished = before[-1:] in (".", "!", "。") and len(before.split()) > _FEWEST_WORDS - 1
        return finished and not any(self.labels.mentions(before)) and not _NEGATOR.search(before)

    def _label_at(self, at: int, *, marked: bool, told: bool) -> _Said | None:
        """The label that stands here, in quotes or not: its place, with its quotes and "label" behind it."""
        text, pattern = self.text, self.labels.any
        if (the := _THE.match(text, at)) and not pattern.match(text, at):
            at, told = the.end(), True
        closer = "" if pattern.match(text, at) else PAIRS.get(text[at : at + 1], "")
        hit = pattern.match(text, at + len(closer))
        label = self.labels.spelled(self.view.raw(*hit.span())) if hit else None
        if hit is None or label is None:
            return None
        end = hit.end()
        if closer:
            inside = end + (text[end : end + 1] in (".", "!", ",", "。"))
            if text.startswith(closer, inside):
                end = inside + 1
            elif end < len(text) or not self.cut:
                return None
        elif (tail := _TAIL.match(text, end)) and (told or not tail[0][-1].isascii()):
            end = tail.end()
        return _Said(hit.start(), end, label, marked)

    # --- what is said behind it

    def _stands(self, said: _Said) -> bool:
        """Whether a label stands alone, and what follows gives a reason and does not deny it."""
        text, label = self.text, said.label or ""
        if said.whole:
            return not self._denies(label, text[said.end : said.end + 500])
        if not text[said.end : said.end + 50].strip(" \n\t\"'”»」』)]}.!…。,;:✅"):
            return not (self.cut and self.labels.begun(text[said.start :].rstrip(" "), label))
        behind = _BEHIND.match(text, said.end)
        if behind is None or (text[said.end - 1] in "\"'”" and "," in behind[0]):
            return False  # '"x", she said'
        reason = _sentence_at(text, behind.end())
        apart = behind["stop"] is not None
        if self._names_another(said, behind.end(), apart=apart) or (not apart and verdict(reason) is False):
            return False
        yes = None if apart else _YES.match(reason)
        if self._denies(label, reason[yes.end() :] if yes else reason):
            return False
        words = len(re.findall(r"[^\W_]+", reason)) + sum(map(is_unspaced, reason)) // 2
        return bool(
            words >= _FEWEST_WORDS
            or yes
            or fold(label) in _ANSWERS
            or (not apart and verdict(reason))
            or (apart and (self.cut or (said.marked and _FIELD.match(reason.lstrip("-*• ")))))
            or _BECAUSE.match(reason)
            or any(name != label for *_, name in self.labels.mentions(reason))  # "not ham"
        )

    def _denies(self, label: str, reason: str) -> bool:
        """Whether one of the first words denies, and no other label by that; what denies agrees with a label "no"."""
        told = self._without_contrast(label, reason)
        first = _FIRST_WORDS.match(reason if told is None else told)
        return bool(first and _NEGATOR.search(first[0])) and fold(label) not in ("no", "false")

    def _without_contrast(self, label: str, text: str) -> str | None:
        """A text without its labels and what denies others ("not ham"); None where it names one without denying it."""
        kept, at = [], 0
        for start, end, name in self.labels.mentions(text):
            if name == label:
                kept.append(text[at:start])
                at = end
            else:
                clause = _CLAUSE.split(text[max(at, start - 60) : start])[-1]
                denied = _DENIED.search(clause)
                if denied is None:
                    return None
                kept.append(text[at : start - len(clause) + denied.start()])
                at = end
        return "".join([*kept, text[at:]])

    def _names_another(self, said: _Said, at: int, *, apart: bool) -> bool:
        """Whether what follows names another label: behind a mark in its own sentence, or in one of a few words."""
        label, text = said.label or "", self.text
        if not said.marked:
            return self._without_contrast(label, text[at:]) is None
        while at < len(text):
            stop = _STOP.search(text, at)
            end = len(text) if stop is None else stop.end()
            few = len(re.findall(r"\w+", self.labels.any.sub(" ", text[at:end]))) <= _FEW_WORDS
            if (few or not apart) and self._without_contrast(label, text[at:end]) is None:
                return True
            at, apart = end, True
        return False
