"""From what a language model wrote to one of the labels it was offered, or to none.

`match_label` reads a text, `label_probabilities` reads token log-probabilities. Both only ever return labels that were
offered. Pure Python; `LabelParser` and `ChatClassifier` share it.

How a text is read. Reasoning is dropped first: what stands between its tags, before a closing tag, or outside the final
channel; reasoning that has no end leaves no answer. Case, width, white space, quotes, emphasis and a final stop never
matter; underscores, hyphens and blanks are one, unless that makes two labels equal. A sign (-1, <=50K, A*, C#, .NET)
belongs to its label. Then:

1. The whole text is a label.
2. It is structured or marked. JSON: the value of `label`, `answer`, `category` ..., or the one label that is a key
   with a value like true. Text: "Label: x", "The category is x", "<answer>x</answer>"; of several the last counts, also
   where it names no label.
3. One label stands alone: first on its line ("x", "x - reason", "x: yes"), on the first line or the last, or behind
   words that do nothing but lead in ("I think it is x."). What is said elsewhere is not read.

Everything else is None: so are a question ("x?"), a denial ("x: no", "x - not at all", or a next sentence that begins
"No" or "That is wrong"), two labels that both stand alone, and a label that stands in any other sentence, whatever it
says and in whatever language. The words that lead in are few and listed below: an unknown word makes a miss, never a
label.
"""

# ruff: noqa: RUF001, SIM905

from __future__ import annotations

import codecs
import json
import math
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any, NamedTuple

LONGEST_TEXT = 200_000
"""Characters of a text that are read. A model that wrote more than that has not answered with a label."""
_LONGEST_LEAD = 16
"""Words that may lead in to a label."""


class NoLabelMassError(ValueError):
    """The log-probabilities give no offered label any probability."""


# --- words --------------------------------------------------------------------------------------------------------

_NOUNS = (
    "label category class classification answer intent topic sentiment prediction response result choice option output "
    "type verdict decision tag conclusion grade rating kategorie klasse antwort ergebnis etikett "
    "klassifikation étiquette catégorie "
    "classe réponse résultat etiqueta categoría clase respuesta resultado clasificación rótulo categoria resposta "
    "classificação etichetta risposta risultato classificazione categorie antwoord kategoria etykieta odpowiedź klasa "
    "kategori svar etiket cevap yanıt sınıf категория метка ответ класс категорія мітка відповідь التصنيف الفئة "
    "الإجابة "
    "תווית קטגוריה תשובה श्रेणी उत्तर लेबल"
).split()
_NOUNS_UNSPACED = (
    "标签 標籤 答案 类别 類別 分类 分類 类型 意图 情感 结果 標注 "
    "ラベル 答え 回答 カテゴリー カテゴリ 레이블 라벨 정답 답 분류 카테고리"
).split()
"""Words for "the label"; JSON keys and XML tags of these names hold the answer."""
_VERBS = (
    "is be it's that's think believe say classify categorize choose pick call belongs falls definitely clearly "
    "classified categorized labeled labelled looks seems appears certainly probably likely ist lautet est "
    "c'est es é è jest är er это це"
).split()
_VERBS_UNSPACED = "是 为 為 属于 屬於 は 은 는".split()
"""Words that tie something to a label."""
_FILLERS = (
    "the a an this that it i i'd i'm my its here here's would should as to in into under about of for final correct "
    "best right most predicted overall appropriate following given based on like so therefore thus hence sure "
    "ok okay answering name value "
    "text message review input sentence comment document email query request ticket "
    "das dies diese dieser der die es richtige also daher text nachricht gehört zur zu "
    "le la l' ce cette un une du texte donc el esto este esta texto correcta o um uma isto isso il questo questa testo "
    "de het dit deze to tekst det den"
).split()
_FILLERS_UNSPACED = (
    "这 這 该 該 条 條 本 的 评论 評論 文本 正确 正確 最终 最終 これ この 文 テキスト 이것 텍스트".split()
)
"""Words that may stand beside those."""
_ASKING = frozenset("is ist est are".split())
_ARTICLES = frozenset("the a an das der die le la el il o um uma un une una de het".split())
_NEGATORS = (
    "no not nope never none nothing neither nor cannot without hardly barely unlikely false wrong incorrect rejected "
    "excluded ruled doubt doubtful instead than unsure uncertain nicht nein kein keine keiner keinen kaum "
    "falsch non ne pas "
    "jamais "
    "aucun faux ni nunca falso sin não nem nunca nulla nie nigdy inte nej ikke niet nee geen ei eivät değil yok hayır "
    "нет не ни никогда ні nu nici δεν όχι לא אין ليس لا لیس نہیں नहीं bukan tidak không chẳng ingen nenhum nessuno"
).split()
_NEGATORS_UNSPACED = "不 非 没 沒 無 无 未 否 ない ません なく 아니 아닙 않 없 못 ไม่ ✗ ✘ ❌".split()
"""Words that deny. They only ever take a label away."""
_AFFIRMATIVE = frozenset("yes true 1 1.0 y correct ja oui si sí sim да так 是 对 對 はい 예 네 evet ✓ ✔ ✅".split())
_NEGATIVE = frozenset([*_NEGATORS, *_NEGATORS_UNSPACED, "0", "0.0", "n", "off", "不是", "いいえ", "아니요", "아니오"])
"""What may stand behind "x:" and say whether it is x."""


def _any_of(spaced: Iterable[str], unspaced: Iterable[str]) -> str:
    words = "|".join(re.escape(word) for word in sorted(set(spaced), key=len, reverse=True))
    return rf"(?:{words})(?![\w])|(?:{'|'.join(sorted(map(re.escape, set(unspaced)), key=len, reverse=True))})"


_LEAD = re.compile(
    rf"(?P<noun>{_any_of(_NOUNS, _NOUNS_UNSPACED)})|(?P<verb>{_any_of(_VERBS, _VERBS_UNSPACED)})"
    rf"|(?P<filler>{_any_of(_FILLERS, _FILLERS_UNSPACED)})"
)
_NEGATOR = re.compile(rf"(?<!\w)(?:{_any_of(_NEGATORS, ['n/a'])})|n't(?!\w)|{'|'.join(_NEGATORS_UNSPACED)}")
_TAIL = re.compile(
    r"[^\S\n]*[✓✔✅]|"
    r"[^\S\n]+(?:label|category|class|question|issue|problem|request|case|text|message|review|email|ticket|kategorie"
    r"|klasse)"
    r"(?!\w)|です|である|だ(?!\w)|的(?=\W|$)|类(?=\W|$)|입니다|이다(?!\w)|예요|이에요"
)


# --- one text form ------------------------------------------------------------------------------------------------

_SPELLINGS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-")
    | {"\u2264": "<=", "\u2265": ">=", "\u2581": " "}
    | dict.fromkeys("\u200b\u2060\ufeff\u00ad\ufe0f", "")
)
_CLUSTER = re.compile("(?s).[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\u3099\u309a]*")
_SEPARATORS = re.compile(r"((?<=[^\W_])(?:[\s_]|-)+(?=[^\W_]))")
"""What stands between the words of a label."""
_PAIRS = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」", "『": "』", "《": "》", "【": "】"}
_PAIRS |= {"(": ")", "[": "]", "{": "}", "<": ">"}
_EMPHASIS = re.compile(r"(?<![\w*`])(\*{1,3}|_{1,3}|`{1,3})(?=[^\s*_`])(.{1,200}?)(?<=\S)\1(?!\w)")
_MOST_PAIRS = 8
_BULLET = re.compile(r"[^\S\n]*(?:(?:[-*•+—]|#{1,6}|\d{1,2}[.)])[^\S\n]+)?")
_STOPS = " \n\t\r.,;:!…。、！：，"


@lru_cache(maxsize=4096)
def _fold_cluster(cluster: str) -> str:
    spelled = unicodedata.normalize("NFKC", cluster.translate(_SPELLINGS)).translate(_SPELLINGS)
    return unicodedata.normalize("NFKC", spelled.casefold())


def _fold(text: str) -> str:
    """One form for all spellings that differ only in case, width, or the shape of quotes and dashes."""
    return text.lower() if text.isascii() else "".join(map(_fold_cluster, _CLUSTER.findall(text)))


def _plain(text: str) -> str:
    return " ".join(_fold(unicodedata.normalize("NFC", text)).split())


def _bare(text: str) -> str:
    """Without a bullet, without what stands around in pairs, and without a final stop."""
    text = _plain(text)
    text = text[_BULLET.match(text).end() :]  # type: ignore[union-attr]
    for _ in range(_MOST_PAIRS):
        shorter = text.strip(" \n")
        if len(shorter) > 1:
            shorter = shorter.rstrip(_STOPS) or shorter
        if len(shorter) > 2 and _PAIRS.get(shorter[0]) == shorter[-1]:
            shorter = shorter[1:-1]
        hit = _EMPHASIS.fullmatch(shorter)
        if hit:
            shorter = hit[2]
        if shorter == text:
            break
        text = shorter
    return text


def _loose(text: str) -> str:
    return _SEPARATORS.sub(" ", _bare(text))


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


# --- the labels ---------------------------------------------------------------------------------------------------

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x109F),  # Tibetan, Myanmar
    (0x1100, 0x11FF),  # Hangul, where endings follow a word
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
"""Scripts without blanks between words."""


def _is_unspaced(char: str) -> bool:
    code = ord(char)
    return code >= 0x0E00 and any(low <= code <= high for low, high in _UNSPACED)


def _is_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def _splits(text: str, at: int) -> bool:
    """Whether a place in a text lies inside a word."""
    if not 0 < at < len(text):
        return False
    left, right = text[at - 1], text[at]
    return _is_word(left) and _is_word(right) and not (_is_unspaced(left) or _is_unspaced(right))


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
        # Underscores and hyphens count as blanks only where that keeps all labels apart.
        merged = {_SEPARATORS.sub(" ", _plain(label)) for label in labels}
        self.merge_separators = len(merged) == len({_plain(label) for label in labels})
        self.keys = {label: self.key(label).strip() for label in labels}
        self.by_key: dict[str, list[str]] = {}
        for label, key in self.keys.items():
            if key:
                self.by_key.setdefault(key, []).append(label)
        self.any = self._pattern()

    def _pattern(self) -> re.Pattern[str]:
        """Matches the longest label at a place of a folded text."""
        parts = []
        for key in sorted(self.by_key, key=len, reverse=True):
            escaped = re.escape(key).replace(r"\ ", " ")
            escaped = re.sub(r"(?<=[<>=])(?=\w)", r"\\s?", escaped)
            parts.append(escaped.replace(" ", r"[\s_\-]+" if self.merge_separators else r"\s+"))
        return re.compile("|".join(parts) or r"(?!)")

    def key(self, text: str) -> str:
        """The form in which labels and beginnings are compared; a blank at the end stays."""
        folded = re.sub(r"\s+", " ", _fold(unicodedata.normalize("NFC", text)))
        folded = re.sub(r"(?<=[<>=]) (?=\w)", "", folded)  # "<= 50K"
        return _SEPARATORS.sub(" ", folded) if self.merge_separators else folded

    def exact(self, text: str) -> tuple[bool, str | None]:
        """Whether the text equals a label at some level, and which; None where it equals several."""
        if text in self.labels:
            return True, text
        for form, table in zip(_LEVELS, self.levels, strict=True):
            hits = table.get(form(text))
            if hits and len(hits) > 1:
                hits = [label for label in hits if label in text]  # spelled so, where they differ in case or width
            if hits is not None:
                return True, hits[0] if len(hits) == 1 else None
        return False, None

    def spelled(self, text: str) -> str | None:
        """The label that a matched place of a text is; the one spelled so where several differ in case or width."""
        hits = self.by_key.get(self.key(text).strip(), [])
        if len(hits) > 1:
            hits = [label for label in hits if label == text.strip()]
        return hits[0] if len(hits) == 1 else None

    def begun(self, text: str, other_than: str) -> bool:
        """Whether another label begins with this text."""
        key = self.key(text).strip()
        if self.merge_separators:
            key = _OPEN_SEPARATOR.sub("", key)  # "abc-" begins "abc- de", whose hyphen counts as a blank
        return any(label != other_than and own.startswith(key) for label, own in self.keys.items())


@lru_cache(maxsize=256)
def _prepare(labels: tuple[str, ...]) -> _Labels:
    return _Labels(labels)


# --- a text -------------------------------------------------------------------------------------------------------

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


def match_label(
    text: str, labels: Sequence[str], *, known: Sequence[str] = (), finish_reason: str | None = None
) -> str | None:
    """Find the one offered label that a text names; the rules stand at the top of the module.

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
    found = _locate(text[:LONGEST_TEXT], _prepare(everything), cut=is_cut(finish_reason))
    return found.label if found is not None and found.label in offered else None


def match_reply(reply: object, labels: Sequence[str], *, known: Sequence[str] = ()) -> str | None:
    """`match_label` of a message, which knows why it ended, or of a text."""
    text = reply if isinstance(reply, str) else str(getattr(reply, "text", reply))
    return match_label(text, labels, known=known, finish_reason=ending(reply))


class _Found(NamedTuple):
    label: str
    start: int
    """Where in the text the label stands."""


def _locate(text: str, labels: _Labels, *, cut: bool = False) -> _Found | None:
    hit, label = labels.exact(text)
    if hit:
        blank = len(text) - len(text.lstrip())
        return None if label is None or (cut and _may_go_on(text, label, labels)) else _Found(label, blank)
    start, end = _answer_part(text)
    body = text[start:end]
    hit, label = labels.exact(body)
    if hit:
        blank = len(body) - len(body.lstrip())
        return None if label is None or (cut and _may_go_on(body, label, labels)) else _Found(label, start + blank)
    fence = _FENCE.fullmatch(body)
    if fence and "```" not in fence[1]:
        start, body = start + fence.start(1), fence[1]
    stripped = body.strip()
    if stripped[:1] in ("{", "[", '"'):
        try:
            value = json.loads(stripped)
        except (ValueError, RecursionError):
            pass
        else:
            label = _from_json(value, labels)
            return None if label is None else _Found(label, start + _place(body, label, labels))
    found = _Reading(body, labels, cut=cut).result()
    return None if found is None else _Found(found.label, start + found.start)


def _may_go_on(text: str, label: str, labels: _Labels) -> bool:
    """Whether a text that was cut behind a label might have become another label."""
    if text.endswith("\n"):
        return False
    tail = text.lstrip(" \n\t\"'`*_([{“„«「") if label[:1].isalnum() else text.lstrip()
    return labels.begun(tail, label)


# Reasoning.

_TAG = r"(?:\w+:)?(?:think|reason|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection)"
_CLOSED_THINKING = re.compile(
    rf"(?:</(?:{_TAG})>|\[/(?:{_TAG})\]|◁/think▷|<\|/?end_of_thought\|>|<\|end_thinking\|>)", re.IGNORECASE
)
_OPEN_THINKING = re.compile(
    rf"(?:<(?:{_TAG})>|\[(?:{_TAG})\]|◁think▷|<\|begin_of_thought\|>|<\|start_thinking\|>)", re.IGNORECASE
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,200}<\|message\|>", re.IGNORECASE)
_BARE_CHANNELS = re.compile(r"\s*(?:assistant)?analysis.*assistantfinal", re.DOTALL | re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[^|<>]{0,40}\|>|<｜[^｜<>]{0,40}｜>|</s>|<eos>|<end_of_turn>|<EOS_TOKEN>|\[EOS\]|\[/INST\]")
_ROLE = re.compile(r"assistant(?=\n|<\|)\s*")
_FENCE = re.compile(r"\s*```[a-zA-Z]*[^\S\n]*\n?(.*?)\s*(?:```\s*)?", re.DOTALL)


def _answer_part(text: str) -> tuple[int, int]:
    """Where in a text the answer stands, reasoning and special tokens left out; an empty place where it has none."""
    start, end = 0, len(text)
    channels = list(_CHANNEL.finditer(text)) or None
    if channels is not None:
        if channels[-1][1].lower() != "final":
            return end, end
        start = channels[-1].end()
    elif bare := _BARE_CHANNELS.match(text):
        start = bare.end()
    # Tags may be nested or unopened: what counts is the last one of either kind.
    closed = max((hit.end() for hit in _CLOSED_THINKING.finditer(text, start)), default=start)
    opened = next((hit.start() for hit in _OPEN_THINKING.finditer(text, closed)), None)
    if opened is not None:
        return end, end
    if closed > start:
        first = _OPEN_THINKING.search(text, start)
        if first is not None and text[start : first.start()].strip() and not text[closed:].strip():
            closed, end = start, first.start()  # the answer stands in front of its reasons
    start = closed
    while special := _SPECIAL.match(text, start, end):
        start = _end_of(_ROLE, text, special.end())
    stop = _SPECIAL.search(text, start, end)
    return start, end if stop is None else stop.start()


# JSON.


def _words_of(key: str) -> list[str]:
    """The words of a JSON key: "predictedLabel", "final_answer"."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key)
    return re.split(r"[\W_]+", _fold(apart).strip())


_NOUN_SET = frozenset([*map(_fold, _NOUNS), *map(_fold, _NOUNS_UNSPACED), "labels", "categories", "classes"])
_KEY_WORDS = _NOUN_SET | frozenset(map(_fold, [*_FILLERS, *_FILLERS_UNSPACED, *_VERBS, *_VERBS_UNSPACED, "id"]))
_TRUTH_WORDS = frozenset(
    "label it this that is a the true match matches applies applicable fits present valid correct confirmed "
    "value".split()
)


def _is_label_key(key: str) -> bool:
    words = _words_of(key)
    return not _NOUN_SET.isdisjoint(words) and _KEY_WORDS.issuperset(words)


def _from_json(value: Any, labels: _Labels, depth: int = 0) -> str | None:
    """The label that a JSON value names."""
    if depth > 4:
        return None
    if isinstance(value, list):
        named = [_from_json(part, labels, depth + 1) for part in value]
        return named[0] if len(named) == 1 else None
    if not isinstance(value, dict):
        if isinstance(value, str):
            return labels.exact(value)[1]
        return labels.exact(json.dumps(value))[1] if isinstance(value, (int, float)) else None
    return _from_object(value, labels, depth)


def _from_object(value: Mapping[str, Any], labels: _Labels, depth: int) -> str | None:
    judged = {label: part for key, part in value.items() if (label := labels.exact(key)[1]) is not None}
    if judged and all(isinstance(part, (bool, int, float, str)) for part in judged.values()):
        verdicts = {label: _verdict(json.dumps(p) if not isinstance(p, str) else p) for label, p in judged.items()}
        if None not in verdicts.values():
            affirmed = [label for label, verdict in verdicts.items() if verdict]
            return affirmed[0] if len(affirmed) == 1 else None
    named = {key: part for key, part in value.items() if _is_label_key(key)}
    if depth and not named:
        named = {key: part for key, part in value.items() if key.casefold() in ("name", "value", "id")}
    found = {_from_json(part, labels, depth + 1) for part in named.values()}
    if len(found) != 1 or None in found:
        return None
    own = set(_words_of(" ".join(str(label) for label in found)))
    # Beside the label, "correct" or "is_spam" with the value false takes it back.
    denied = any(
        key not in named and _verdict(str(part)) is False and (_TRUTH_WORDS | own).issuperset(_words_of(key))
        for key, part in value.items()
        if isinstance(part, (bool, str, int, float))
    )
    return None if denied else found.pop()


def _verdict(value: str) -> bool | None:
    """Whether a value behind "x:" says that it is x; None where it says neither."""
    word = _fold(value).strip(" \n\t\"'`*_.!,;。！()[]")
    if word in _AFFIRMATIVE:
        return True
    if word in _NEGATIVE:
        return False
    number = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)(\s?%)?", word)
    if number is None:
        return None
    share = float(number[1]) / (100.0 if number[2] else 1.0)
    return share > 0.5 if share <= 1.0 else None


def _place(text: str, label: str, labels: _Labels) -> int:
    """Where a label that JSON names stands: the last place that is quoted, or the last."""
    view = _View(text)
    last = 0
    for hit in labels.any.finditer(view.folded):
        if not _splits(view.folded, hit.start()) and labels.spelled(view.raw(hit.start(), hit.end())) == label:
            last = view.place(hit.start())
    return last


def _has_text(value: Any) -> bool:
    """Whether a JSON value is a list of more than numbers, which "[1]" is not."""
    return isinstance(value, list) and any(isinstance(part, (str, dict)) for part in value)


# Prose.


class _View:
    """A folded text that knows where its characters came from."""

    def __init__(self, text: str) -> None:
        self.text = text
        hidden = _emphasis(text)
        self.starts: Sequence[int] = range(len(text) + 1)
        self.ends: Sequence[int] = range(1, len(text) + 1)
        self.folded: str = text.lower()
        if hidden or not text.isascii():
            chars: list[str] = []
            starts: list[int] = []
            ends: list[int] = []
            for hit in _CLUSTER.finditer(text):
                if hit.start() not in hidden:
                    folded = _fold_cluster(hit[0])
                    chars.append(folded)
                    starts += [hit.start()] * len(folded)
                    ends += [hit.end()] * len(folded)
            self.starts, self.ends, self.folded = [*starts, len(text)], ends, "".join(chars)

    def place(self, at: int) -> int:
        return self.starts[at]

    def raw(self, start: int, end: int) -> str:
        return self.text[self.starts[start] : self.ends[end - 1]] if end > start else ""


def _emphasis(text: str) -> set[int]:
    """Places of markdown that stands around words in pairs."""
    hidden: set[int] = set()
    for hit in _EMPHASIS.finditer(text):
        inner = _EMPHASIS.fullmatch(text, hit.start(2), hit.end(2))
        for pair in (hit, inner) if inner else (hit,):
            hidden.update(range(pair.start(1), pair.end(1)))
            hidden.update(range(pair.end(2), pair.end()))
    return hidden


class _Event(NamedTuple):
    """What a text says at one place."""

    start: int
    end: int
    label: str | None
    kind: str
    """`marked`, `told` ("It is x."), `alone` (first on its line), `judged` ("x: yes"), `denied`, `asked`."""
    label_at: int = 0
    """In a structure: where the label stands."""


_SENTENCE = re.compile(r"\n\s*|(?<=[.!?])[\"'”»)]{0,2}\s+|(?<=[。！？])|[,;]\s+(?=(?:so|therefore|thus|hence)\s)")
_FENCED = re.compile(r"```[^\n]*\n.*?(?:```|$)", re.DOTALL)
_QUOTED = re.compile(r'"[^"\n]*"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』')
_OPENER = re.compile(r"[\"'“„«「『《【(\[{\s]*")
_AFTER_WORD = re.compile(r"['\"”»」』》】)\]}]*(?P<mark>\s*(?:[:=：]|->|=>|→|(?<=\s)-+(?=\s))+)?[^\S\n]*,?[^\S\n]*")
_CLEAN_END = re.compile(r"[^\S\n]*(?:[.!…。！]+(?=\s|$|[\"'”»」』)])|[。！])?[\"'”»」』》】)\]}]*[^\S\n]*(?=\n|$)")
_SENTENCE_GOES_ON = re.compile(r"[.!][\"'”»)]{0,2}[^\S\n]+|[。！]")
_JUDGED = re.compile(r"[\"'”»」』)]?\s*(?:[:=：]|->|=>|→)[^\S\n]*")
_BECAUSE = re.compile(r"(?:because|since|as|weil|da|car|parce que|porque|perché|потому)(?!\w)")
_GIVES_REASON = re.compile(
    r"[\"'”»」』)]?(?:[^\S\n]+-+[^\S\n]+|[^\S\n]*—[^\S\n]*|[,;，；、][^\S\n]*|[^\S\n]*(?=[(（])"
    r"|[^\S\n]+(?=(?:because|since|weil|car|porque|perché|потому|rather than|instead of|and not|not)(?!\w)))"
)
_LINE = re.compile(r"[^\n]*")
_SHORT_LINE = re.compile(r"[^\n]{0,40}(?=\n|$)")
_LONGEST_UNIT = 500
_FEWEST_WORDS = 3
"""A shorter reason may be a denial in a language that is not listed."""
_UNIT_END = re.compile(r"[.!?。！？](?=\s|$|[\"'”»])|[。！？]|\n")


def _sentence_at(text: str, at: int) -> str:
    """What is left of a sentence, its stop included; of a longer one the first characters."""
    part = text[at : at + _LONGEST_UNIT]
    end = _UNIT_END.search(part)
    return part if end is None else part[: end.end()].rstrip("\n")


_TAGGED = re.compile(
    r"<([^\W\d_]{2,20})>(.{0,400}?)</\1>|\\boxed\{(?:\\text\{)?([^{}]{0,400})\}", re.IGNORECASE | re.DOTALL
)
_BRACKET = re.compile(r"\{|(?:^|(?<=\n))[^\S\n]*\[")
_MOST_BRACKETS = 20
_DECODER = json.JSONDecoder()
_VALUE = re.compile(r"[^\s,;.!。，(（-]+(?:\.\d+)?%?|-")
_GAP = re.compile(r"[\s(\[.!。！\"'”»」』》】)\]}]*")
_PAUSE = re.compile(r"[\s,:;.…-]*")
_CONTRACTED = re.compile(r"\w{1,12}n't(?!\w)")
_HESITATION = re.compile(r"(?:does|do|did|wait|hm+|actually|oh|well|sorry|correction)(?!\w)")
_ITEMS = re.compile(r"[,;|，；]")


class _Reading:
    """One text, read for what it says at the beginnings of its sentences."""

    def __init__(self, text: str, labels: _Labels, *, cut: bool) -> None:
        self.labels = labels
        self.cut = cut
        self.view = _View(text)
        self.text = self.view.folded
        self.events: list[_Event] = []
        self._read()

    def result(self) -> _Found | None:
        event = self._chosen()
        if event is None or event.label is None:
            return None
        return _Found(event.label, self.view.place(event.start))

    def _chosen(self) -> _Event | None:
        denied = {event.label for event in self.events if event.kind == "denied"}
        marked = [event for event in self.events if event.kind == "marked"]
        others = [event for event in self.events if event.kind in ("told", "alone", "judged")]
        if marked:
            best = marked[-1]
            if any(event.label != best.label for event in others if event.start > best.start):
                return None
        else:
            if not others or len({event.label for event in others}) > 1:
                return None
            standing = [event for event in others if event.kind != "alone" or self._stands_out(event)]
            if not standing:
                return None
            best = standing[0]
            if best.kind != "judged" and self._others(best.label, self.text[best.end :]):
                return None
        if best.label is None or best.label in denied or self._taken_back(best):
            return None
        return best

    # --- where it may say something

    def _read(self) -> None:
        text = self.text
        structures = list(self._structures())
        opened = {event.start for event in structures}
        quoted = [(hit.start(), hit.end()) for hit in _QUOTED.finditer(text)]
        quoted += [(hit.start(), hit.end()) for hit in _FENCED.finditer(text)]
        quoted = [span for span in quoted if self._exact(*span) is None]
        quoted = sorted([*quoted, *((event.start, event.end) for event in structures)])
        q = 0
        done = before = 0
        beginnings = [0, *(hit.end() for hit in _SENTENCE.finditer(text))]
        pending = False
        for begin in beginnings:
            while q < len(quoted) and quoted[q][1] <= begin:
                q += 1
            if begin < done or (q < len(quoted) and quoted[q][0] <= begin and begin not in opened):
                continue
            if begin in opened:
                pending = False
                continue
            at_line = "\n" in text[before:begin] or not text[before:begin].strip()
            before = begin
            if at_line:
                if text.startswith("> ", begin):
                    done = _LINE.match(text, begin).end()  # type: ignore[union-attr]
                    continue
                listed = self._listed(begin)
                if listed:
                    self.events += listed
                    done = _LINE.match(text, begin).end()  # type: ignore[union-attr]
                    continue
            event, pending = self._sentence(begin, at_line=at_line, awaited=pending and at_line)
            if event is not None:
                self.events.append(event)
                done = max(done, event.end)
        if pending:
            self.events.append(_Event(len(text), len(text), None, "marked"))
        self.events += [event._replace(start=event.label_at) for event in structures if event.kind != "skipped"]
        self.events.sort(key=lambda event: event.start)

    def _structures(self) -> Iterator[_Event]:
        """XML tags, LaTeX boxes and JSON objects inside a text."""
        for hit in _TAGGED.finditer(self.text):
            if hit[1] is None or hit[1] in _NOUN_SET:
                group = 3 if hit[1] is None else 2
                start = hit.start(group) + len(hit[group]) - len(hit[group].lstrip())
                yield _Event(hit.start(), hit.end(), self._exact(hit.start(group), hit.end(group)), "marked", start)
        at = 0
        for hit in islice(_BRACKET.finditer(self.text), _MOST_BRACKETS):
            if hit.end() <= at:
                continue
            try:
                raw = self.view.text[self.view.place(hit.end() - 1) :]
                value, length = _DECODER.raw_decode(raw)
            except (ValueError, RecursionError):
                continue
            at = bisect_left(self.view.starts, self.view.place(hit.end() - 1) + length)
            label = _from_json(value, self.labels)
            start = hit.end() - 1
            if (isinstance(value, dict) and (label is not None or any(map(_is_label_key, value)))) or _has_text(value):
                inside = 0 if label is None else _place(raw[:length], label, self.labels)
                yield _Event(start, at, label, "marked", start + inside)
            elif isinstance(value, dict):
                yield _Event(start, at, None, "skipped")

    def _exact(self, start: int, end: int) -> str | None:
        return self.labels.exact(self.view.raw(start, end))[1]

    def _listed(self, begin: int) -> list[_Event]:
        """A line of several labels, each with its value: "spam: no, ham: yes"."""
        line = _LINE.match(self.text, begin)
        assert line is not None
        parts = _ITEMS.split(line[0])
        if not 1 < len(parts) <= len(self.labels.labels) + 1:
            return []
        events, at = [], begin
        for part in parts:
            event = self._at_label(at + len(part) - len(part.lstrip()), at + len(part))
            if event is None or event.kind not in ("judged", "denied"):
                return []
            events.append(event)
            at += len(part) + 1
        return events

    # --- one sentence

    def _sentence(self, begin: int, *, at_line: bool, awaited: bool) -> tuple[_Event | None, bool]:
        """What a sentence says; and whether it is a mark whose label must follow on the next line."""
        text = self.text
        at = begin
        if at_line:
            bullet = _BULLET.match(text, begin)
            # "- 1" is an item, "-1" is a label.
            at = begin if bullet is None or self.labels.any.match(text, begin) else bullet.end()
        noun = verb = mark = False
        bare = first = True
        asks = 0  # words of a question
        for _ in range(_LONGEST_LEAD):
            told = "marked" if (noun and (verb or mark)) or awaited else "told" if verb and not mark else None
            if asks > 1:
                break  # "Is this spam"
            if told is None and at_line and bare:
                told = "alone"
            if told is not None:
                event = self._at_label(at)
                if event is not None and (told != "alone" or event.kind != "asked"):
                    return (event._replace(kind=told) if event.kind in ("plain", "asked") else event), False
            opened = _OPENER.match(text, at)
            lead = _LEAD.match(text, opened.end() if opened else at)
            if lead is None or ("\n" in text[at : lead.start()]):
                break
            after = _AFTER_WORD.match(text, lead.end())
            if after is not None and "," in after[0] and lead[0] in self.labels.by_key:
                break  # "A, B" are two labels, whatever else "a" may be
            noun = noun or lead["noun"] is not None
            verb = verb or lead["verb"] is not None
            asks += bool(asks) or (first and lead[0] in _ASKING)
            first = False
            mark = after is not None and after["mark"] is not None
            bare = bare and lead[0] in _ARTICLES and not mark
            at = lead.end() if after is None else after.end()
        said = _sentence_at(text, at).strip()
        if noun and at_line and not said and text[at : at + 1] in (" ", "\n", "\t", "\r"):
            return None, True  # a mark, or a heading
        if noun and (mark or (verb and self._speaks_of_labels(said))):
            return _Event(at, at, None, "marked"), False
        if awaited:
            return _Event(at, at, None, "marked"), False
        return None, False

    def _speaks_of_labels(self, rest: str) -> bool:
        return bool(_NEGATOR.search(rest) or self.labels.any.search(rest))

    def _at_label(self, at: int, limit: int | None = None) -> _Event | None:
        """What is said by a label that stands here, by what follows it."""
        text = self.text if limit is None else self.text[:limit]
        hit = self.labels.any.match(text, at)
        start = at
        closer = ""
        if hit is None:
            if at < len(text) and text[at] in _PAIRS:
                closer = _PAIRS[text[at]]
                start = at + 1
                hit = self.labels.any.match(text, start)
            if hit is None:
                return None
        end = hit.end()
        raw = self.view.raw(start, end)
        label = self.labels.spelled(raw)
        if label is None or (_splits(text, end) and not _TAIL.match(text, end)):
            return None
        if re.search(r"\s-+\s", text[start:end]) and not re.search(r"\s-+\s", _fold(label)):
            return None  # "card - arrival" may be a card and its reason
        if closer:
            inside = end + (text[end : end + 1] in (".", "!", ",", "。"))
            if text.startswith(closer, inside):
                end = inside + 1
            elif end < len(text) or not self.cut:
                return None
        if tail := _TAIL.match(text, end):
            end = tail.end()
        return self._judge(text, start, end, label)

    def _judge(self, text: str, start: int, end: int, label: str) -> _Event | None:
        clean = _CLEAN_END.match(text, end)
        if clean is not None:
            if self.cut and not text[end:].strip(" ") and self.labels.begun(text[start:end], label):
                return None
            return _Event(start, end, label, "plain")
        if _SENTENCE_GOES_ON.match(text, end):
            return _Event(start, end, label, "plain")
        if text[end] in "?？":
            answer = _SHORT_LINE.match(text, end + 1)
            verdict = _verdict(answer[0]) if answer else None
            kind = "asked" if verdict is None else "judged" if verdict else "denied"
            return _Event(start, answer.end() if answer else end, label if verdict is not None else None, kind)
        judged = _JUDGED.match(text, end)
        if judged is not None:
            return self._valued(text, start, judged.end(), label)
        reason = _GIVES_REASON.match(text, end)
        if reason is None:
            return None
        return self._reasoned(text, start, reason.end(), label)

    def _valued(self, text: str, start: int, at: int, label: str) -> _Event | None:
        """A label and a colon: a value, or a reason."""
        if text[at : at + 1] in ("", "\n", "\r"):
            # A heading; what was cut here might have gone on "no".
            return None if self.cut and at == len(text) else _Event(start, at, label, "plain")
        word = _VALUE.match(text, at)
        verdict = _verdict(word[0]) if word else None
        if verdict is None or word is None:
            return self._reasoned(text, start, at, label)
        behind = _sentence_at(text, word.end())
        if verdict and (_NEGATOR.search(behind) or self._others(label, behind)):
            return None
        return _Event(start, word.end() + len(behind), label, "judged" if verdict else "denied")

    def _reasoned(self, text: str, start: int, at: int, label: str) -> _Event | None:
        """A label and a reason on its line; a single word is none, and may deny."""
        unit = _sentence_at(text, at)
        reason, end = unit.strip(), at + len(unit)
        if not reason:
            return None
        if self._others(label, reason):
            return None
        if (verdict := _verdict(reason)) is not None:
            return _Event(start, end, label, "judged" if verdict else "denied")
        told = self._without_contrast(label, reason)
        if _NEGATOR.search(told) and not self._denies_itself(label):
            return None
        words = len(re.findall(r"[^\W_]+", reason)) + sum(map(_is_unspaced, reason)) // 2
        short = words < _FEWEST_WORDS and told == reason and _verdict(label) is None
        if short and reason[0] not in "(（" and not _BECAUSE.match(reason):
            return None
        return _Event(start, at, label, "plain")

    # --- what else is said

    def _mentions(self, text: str) -> Iterator[tuple[int, int, str | None]]:
        for hit in self.labels.any.finditer(text):
            if _splits(text, hit.start()) or _splits(text, hit.end()):
                continue
            names = self.labels.by_key.get(self.labels.key(hit[0]).strip(), [])
            if len(hit[0]) == 1 and hit[0].isalpha() and re.match(r"\s+\w", text[hit.end() : hit.end() + 3]):
                continue  # a letter in front of a word is an article
            # Of labels that differ in case only, a folded text does not say which it mentions.
            yield hit.start(), hit.end(), names[0] if len(names) == 1 else None

    def _others(self, label: str | None, text: str) -> bool:
        """Whether a text speaks of another label but to deny it."""
        return any(name != label and not self._contrasted(text, start) for start, _, name in self._mentions(text))

    def _contrasted(self, text: str, start: int) -> bool:
        return _denial_before(text, start) is not None

    def _without_contrast(self, label: str, text: str) -> str:
        """A text without its mentions of labels, and without what denies the others."""
        kept, at = [], 0
        for start, end, name in self._mentions(text):
            since = _denial_before(text, start) if name != label else None
            kept.append(text[at : max(at, start if since is None else since)])
            at = max(at, end)
        return " ".join([*kept, text[at:]])

    def _denies_itself(self, label: str | None) -> bool:
        """Whether a label is a denial: what denies behind it agrees ("no, it is not")."""
        return label is not None and _NEGATOR.search(_fold(label).replace("_", " ")) is not None

    def _stands_out(self, event: _Event) -> bool:
        """Whether a label alone on its line is on the first line, or on the last one behind a finished sentence."""
        before = self.text[: self.text.rfind("\n", 0, event.start) + 1].rstrip(" \n\t\"'“„«「([{-*•#")
        if not before:
            return True
        last = before[before.rfind("\n") + 1 :]
        behind = self.text[event.end :].strip(" \n\t\"'”».!。)]}")
        return not behind and (before[-1] in ".!。" or last.startswith(">"))

    def _taken_back(self, event: _Event) -> bool:
        """Whether the next sentence begins with a denial: "No", "That is wrong"."""
        text = self.text
        at = event.end
        if event.kind == "judged" or self._denies_itself(event.label):
            return False
        at = _end_of(_GAP, text, at)
        for _ in range(_LONGEST_LEAD):
            negator = _NEGATOR.match(text, at)
            if negator is None:
                if _CONTRACTED.match(text, at):
                    return True
                hit = _LEAD.match(text, at) or _HESITATION.match(text, at)
                if hit is None:
                    return False
                at = _end_of(_PAUSE, text, hit.end())
                continue
            # "Not ham." behind "spam" denies another one.
            return not any(
                start - negator.end() < 40 and name != event.label and _denial_before(text, start) == negator.start()
                for start, _, name in self._mentions_near(negator.end())
            )
        return False

    def _mentions_near(self, at: int) -> Iterator[tuple[int, int, str | None]]:
        for start, end, name in self._mentions(self.text[at : at + 80]):
            yield start + at, end + at, name


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    hit = pattern.match(text, at)
    return at if hit is None else hit.end()


_CLAUSE = re.compile(r"[.,;:!?\n。，；：！？]")


def _denial_before(text: str, start: int) -> int | None:
    """Where, in the clause in front of a place, a negation stands at most three words before it."""
    low = max(0, start - 60)
    clause = _CLAUSE.split(text[low:start])[-1]
    hits = list(_NEGATOR.finditer(clause))
    if not hits or len(re.findall(r"\w+", clause[hits[-1].end() :])) > 3:
        return None
    return start - len(clause) + hits[-1].start()


# --- token log-probabilities --------------------------------------------------------------------------------------


class _Token(NamedTuple):
    raw: bytes
    probability: float

    @property
    def stops(self) -> bool:
        return not self.raw or _SPECIAL.fullmatch(self.raw.decode("utf-8", "replace")) is not None


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


class _Beginnings:
    """Which labels a beginning may still become."""

    def __init__(self, labels: _Labels) -> None:
        self.labels = labels

    def forms(self, text: str) -> tuple[str, str]:
        """The forms in which beginnings are compared: with and without leading quotes and emphasis."""
        key = self.labels.key(text).lstrip(" ")
        if self.labels.merge_separators:
            key = _OPEN_SEPARATOR.sub(" ", key)
        return key, key.lstrip(_LEADING)

    def begun(self, text: str) -> list[str]:
        """Labels that begin with a text, or are it."""
        forms = [form for form in self.forms(text) if form]
        begun = [
            label
            for label, key in self.labels.keys.items()
            if any(key.startswith(form) or key == form.rstrip() for form in forms)
        ]
        if len(begun) > 1 and len({self.labels.keys[label] for label in begun}) < len(begun):
            # Of labels that are the same but for case or width, keep those spelled like the text.
            return [label for label in begun if label.startswith(text.strip())] or begun
        return begun

    def fits(self, text: str) -> list[str]:
        """Labels that a text begins; else the one that it begins with, and that it has left behind."""
        begun = self.begun(text)
        if begun:
            return begun
        plain, bare = self.forms(text)
        for form in (plain, bare):
            hit = self.labels.any.match(form)
            if hit is None:
                continue
            behind = form[hit.end() :]
            closed = behind.lstrip("*_`") if bare != plain else behind
            if _LEFT_BEHIND.match(closed) or (closed and _is_unspaced(closed[0])):
                label = self.labels.spelled(text.lstrip(_LEADING if form == bare else " ")[: hit.end()])
                return [] if label is None else [label]
        return []


_OPEN_SEPARATOR = re.compile(r"(?<=[^\W_])[\s_\-]+$")
_LEADING = " \n\"'`*_([{“„«「『《【"
_LEFT_BEHIND = re.compile(r"\s*$|\s*\n|[.,](?!\w)|[;!…。，、！—]|[)\]}\"'”»」』》】]+(?!\w)|\s+[-(]")


class LabelMass(NamedTuple):
    """What token log-probabilities say of the labels; the three parts sum to 1."""

    labels: dict[str, float]
    """Probability that was seen to go to each label: a lower bound."""
    other: float
    """Probability that was seen to go to no label."""
    unseen: float
    """Probability of tokens that the server did not list: whose it is, nobody knows."""


def label_probabilities(
    tokens: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    *,
    floor: float = 1e-6,
    finish_reason: str | None = None,
) -> tuple[dict[str, float], float]:
    """Turn the token log-probabilities of one reply into probabilities of the offered labels.

    The label that `match_label` finds in the whole reply says where the label's tokens are: reasoning and a lead-in
    ("The label is", a JSON key) are passed over, and a reply that names no label gives nothing to any for what was
    sampled. From there it walks along the tokens that were sampled. At each position every listed alternative makes
    the text "sampled so far + alternative", with its probability. Case, white space, quotes and (where unambiguous)
    underscores do not matter.

    - A text that is, or begins, exactly one label gives its probability to that label.
    - A text that begins several labels is followed further where it was sampled (an alternative that differs from the
      sampled token only in case or space goes along with it); else its probability is shared evenly among them.
    - A label that begins another one ("card", "card_arrival") is decided by what follows. The end of the reply comes
      as an empty token, as a special token such as `<|im_end|>`, or not at all. In a reply that was cut it is shared.
    - Everything else is `unassigned`: tokens that begin no label, blanks, and what no listed token accounts for. It is
      nobody's: the probability of a label is at least its share of what is assigned, and may be more.

    Before they are normalized, assigned and unassigned probability sum to 1.

    Args:
        tokens: `logprobs.content` in OpenAI's form: `{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}`;
            `bytes` are used where given. A logprob of minus infinity is probability 0; an alternative without a number
            is skipped; a position without a number ends the walk. Natural logarithms.
        labels: The labels that were offered; distinct.
        floor: Least probability of a label, so that logarithms stay finite; 0 <= floor < 1 / number of labels.
        finish_reason: Why the reply ended, as `ending` tells it.

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
    mass = label_mass(tokens, offered, finish_reason=finish_reason)
    total = math.fsum(mass.labels.values())
    room = 1.0 - floor * len(offered)
    probabilities = {label: floor + room * (mass.labels[label] / total) for label in offered}
    return probabilities, min(1.0, max(0.0, mass.other + mass.unseen))


def label_mass(
    tokens: Sequence[Mapping[str, Any]], labels: Sequence[str], *, finish_reason: str | None = None
) -> LabelMass:
    """What `label_probabilities` reads, before it is normalized.

    Raises:
        NoLabelMassError: If there are no tokens, or no label got anything.

    Example:
        >>> label_mass([{"token": "no", "logprob": math.log(0.25)}], ["yes", "no"])
        LabelMass(labels={'yes': 0.0, 'no': 0.25}, other=0.0, unseen=0.75)
    """
    offered = tuple(dict.fromkeys(labels))
    positions: list[_Position] = []
    for entry in tokens:
        position = _position(entry)
        if position is None:
            break
        positions.append(position)
    if not positions:
        msg = "the reply carries no token log-probabilities; ask the model for `logprobs`"
        raise NoLabelMassError(msg)
    mass = _Walk(positions, _prepare(offered), cut=is_cut(finish_reason)).mass()
    if not math.fsum(mass.labels.values()) > 0.0:
        msg = (
            "no offered label has any probability in the reply; ask for the label alone, raise `top_logprobs`, "
            "or raise `max_tokens`"
        )
        raise NoLabelMassError(msg)
    return mass


class _Walk:
    """One walk along the tokens of a reply."""

    def __init__(self, positions: list[_Position], labels: _Labels, *, cut: bool) -> None:
        self.positions = positions
        self.beginnings = _Beginnings(labels)
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        pieces = [decoder.decode(p.sampled.raw) for p in positions]
        text = "".join(pieces)
        self.text = text
        self.ended = positions[-1].sampled.stops
        found = _locate(text[:LONGEST_TEXT], labels, cut=cut)
        self.label = None if found is None else found.label
        self.begin = self._begin(pieces, text, found)
        self.seen = dict.fromkeys(labels.labels, 0.0)
        self.other = self.unseen = 0.0

    @staticmethod
    def _begin(pieces: list[str], text: str, found: _Found | None) -> int:
        """The position at which the label begins; past the end where there is none."""
        if found is None:
            return len(pieces)
        if not text[: found.start].strip(_LEADING):
            return 0
        ends = list(accumulate(map(len, pieces)))
        return bisect_right(ends, found.start)

    def mass(self) -> LabelMass:
        """Walk."""
        reach = 1.0  # probability of the text sampled so far, its spelling variants included
        path = b""
        live = True  # whether the text so far may still become a label
        concluded = False
        for at, position in enumerate(self.positions):
            if at == self.begin and at > 0:
                path, live = b"", True
            sampled = position.sampled
            stops = sampled.stops and at == len(self.positions) - 1
            ahead = path if sampled.stops else path + sampled.raw
            step = self._alternatives(position, path, ahead, reach, live=live, stops=stops)
            self.unseen += reach * position.hidden
            reach *= step
            path = ahead
            if stops:
                break
            text = _text(path)
            if live and self.beginnings.forms(text)[1]:
                if at >= self.begin and self.beginnings.fits(text) == [self.label]:
                    concluded = True
                    break
                live = bool(self.beginnings.begun(text))
        heirs = [self.label] if self.label is not None else []
        if not concluded and self.label is None and live and not self.ended and self.text.strip():
            heirs = self.beginnings.begun(self.text)  # cut off: each of them may still come
        for heir in heirs:
            self.seen[heir] += reach / len(heirs)
        return LabelMass(self.seen, self.other if heirs else self.other + reach, self.unseen)

    def _alternatives(
        self, position: _Position, path: bytes, ahead: bytes, reach: float, *, live: bool, stops: bool
    ) -> float:
        """Give each alternative its probability; returns that of the sampled token and its variants of spelling."""
        step = position.sampled.probability
        forms = self.beginnings.forms(_text(ahead)) if live else ("", "")
        for other in position.others:
            text = _text(path if other.stops else path + other.raw) if live else ""
            if live and not other.stops and not stops and forms[1] and self.beginnings.forms(text) == forms:
                step += other.probability
                continue
            heirs = self._heirs(text, ended=other.stops) if live else []
            for heir in heirs:
                self.seen[heir] += reach * other.probability / len(heirs)
            if not heirs:
                self.other += reach * other.probability
        return step

    def _heirs(self, text: str, *, ended: bool) -> list[str]:
        """The labels that share the probability of a text that is not followed further."""
        if not any(self.beginnings.forms(text)):
            return []
        if ended:
            label = self.beginnings.labels.exact(text)[1]
            if label is not None:
                return [label]
        fits = self.beginnings.fits(text)
        return fits if not ended or len(fits) == 1 else []


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
