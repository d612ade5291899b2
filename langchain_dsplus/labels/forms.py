"""Labels and texts in the forms in which they are compared."""

# ruff: noqa: RUF001

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

SEPARATORS = re.compile(r"(?<=[^\W_])(?:[^\S\n]|[_-])+(?=[^\W_])")
"""What stands between the words of a label."""
OPEN_SEPARATOR = re.compile(r"(?<=[^\W_])[\s_\-]+$")
PAIRS = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」", "『": "』", "《": "》", "【": "】"}
PAIRS |= {"(": ")", "[": "]", "{": "}", "<": ">"}
BULLET = re.compile(r"[^\S\n]*(?:(?:[-*•+—|→]|#{1,6}|\d{1,2}[.)])[^\S\n]+)?")
_EMPHASIS = re.compile(r"(?<![\w*`])(\*{1,3}|_{1,3}|`{1,3})(?=[^\s*_`])(.{1,200}?)(?<=\S)\1(?!\w)")
_CLUSTER = re.compile("(?s).[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\u3099\u309a]*")
_SPELLINGS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-")
    | {"\u2264": "<=", "\u2265": ">=", "\u2581": " "}
    | dict.fromkeys("\u200b\u2060\ufeff\u00ad\ufe0f", "")
)
_STOPS = " \n\t\r.,;:!…。、！：，"
_UNSPACED = re.compile(
    "[\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af]"
)
"""Scripts without blanks between words, and Hangul, where endings follow a word."""


@lru_cache(maxsize=4096)
def _fold_cluster(cluster: str) -> str:
    spelled = unicodedata.normalize("NFKC", cluster.translate(_SPELLINGS)).translate(_SPELLINGS)
    return unicodedata.normalize("NFKC", spelled.casefold())


def fold(text: str) -> str:
    """One form for all spellings that differ only in case, width, or the shape of quotes and dashes."""
    return text.lower() if text.isascii() else "".join(map(_fold_cluster, _CLUSTER.findall(text)))


def _barer(text: str) -> Iterator[str]:
    """A text as it is, then without a bullet, what stands around it in pairs, and a final stop, one after the other."""
    yield text
    text = fold(text).strip()
    text = text[BULLET.match(text).end() :].strip()  # type: ignore[union-attr]
    for _ in range(8):
        yield text
        if len(text) > 2 and PAIRS.get(text[0]) == text[-1]:
            text = text[1:-1].strip()
        elif hit := _EMPHASIS.fullmatch(text):
            text = hit[2]
        elif shorter := text.rstrip(_STOPS):
            text = shorter


def list_labels(labels: Iterable[str]) -> list[str]:
    """Labels as a list.

    Raises:
        TypeError: If they are one str, which would be taken apart into letters.
    """
    if isinstance(labels, str):
        raise TypeError("`labels` must be a list of labels, not one str")
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


def is_unspaced(char: str) -> bool:
    """Whether a character belongs to a script without blanks between words."""
    return _UNSPACED.match(char) is not None


def _splits(text: str, at: int) -> bool:
    """Whether a place in a text lies inside a word."""
    pair = text[max(at - 1, 0) : at + 1] if at else ""
    return len(pair) == 2 and all(
        (char.isalnum() or unicodedata.category(char)[0] == "M") and not is_unspaced(char) for char in pair
    )


class LabelSet:
    """A set of labels, prepared once."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.shown = {**{show_label(label): label for label in labels}, **{label: label for label in labels}}
        # Underscores and hyphens count as blanks only where that keeps all labels apart.
        self.merge_separators = False
        plain = {self.key(label).strip() for label in labels}
        self.merge_separators = len(plain) == len({SEPARATORS.sub(" ", key) for key in plain})
        self.keys = {label: self.key(label).strip() for label in labels}
        self.by_key: dict[str, list[str]] = {}
        for label, key in self.keys.items():
            if key:
                self.by_key.setdefault(key, []).append(label)
        blank = r"(?:(?:[^\S\n]|_)+|-+)" if self.merge_separators else r"[^\S\n]+"
        parts = [re.escape(key).replace(r"\ ", blank) for key in sorted(self.by_key, key=len, reverse=True)]
        parts = [re.sub(r"(?<=[<>=])(?=\w)", r"\\s?", part) for part in parts]
        self.any = re.compile("|".join(parts) or r"(?!)")
        """Matches the longest label at a place of a folded text."""

    def key(self, text: str) -> str:
        """The form in which labels and beginnings are compared; a blank at the end stays."""
        folded = re.sub(r"\s+", " ", fold(unicodedata.normalize("NFC", text)))
        folded = re.sub(r"(?<=[<>=]) (?=\w)", "", folded)  # "<= 50K"
        return SEPARATORS.sub(" ", folded) if self.merge_separators else folded

    def exact(self, text: str) -> tuple[bool, str | None]:
        """Whether the text is a label, as it is or without what stands around it; None where it may be several."""
        if (label := self.shown.get(text.strip(), self.shown.get(text))) is not None:
            return True, label
        for form in _barer(text):
            hits = self.by_key.get(self.key(form).strip())
            if hits and "\n" not in form.strip():
                named = hits if len(hits) == 1 else [label for label in hits if label in text]
                return True, named[0] if len(named) == 1 else None
        return False, None

    def spelled(self, text: str) -> str | None:
        """The label that a matched place of a text is; the one spelled so where several differ in case or width."""
        hits = self.by_key.get(self.key(text).strip(), [])
        return hits[0] if len(hits) == 1 else text.strip() if text.strip() in hits else None

    def begun(self, text: str, other_than: str) -> bool:
        """Whether another label begins with this text."""
        key = self.key(text).strip()
        if self.merge_separators:
            key = OPEN_SEPARATOR.sub("", key)  # "abc-" begins "abc- de", whose hyphen counts as a blank
        return any(label != other_than and own.startswith(key) for label, own in self.keys.items())

    def mentions(self, text: str) -> Iterator[tuple[int, int, str | None]]:
        """Where a folded text holds labels as whole words; None for one of several that differ in case only."""
        for hit in self.any.finditer(text):
            if _splits(text, hit.start()) or _splits(text, hit.end()):
                continue
            if len(hit[0]) == 1 and hit[0].isalpha() and re.match(r"\s+\w", text[hit.end() : hit.end() + 3]):
                continue  # a letter in front of a word is an article
            names = self.by_key.get(self.key(hit[0]).strip(), [])
            yield hit.start(), hit.end(), names[0] if len(names) == 1 else None


@lru_cache(maxsize=256)
def prepare(labels: tuple[str, ...]) -> LabelSet:
    """The prepared set of these labels."""
    return LabelSet(labels)


class View:
    """A folded text without its markdown, which knows where its characters came from."""

    def __init__(self, text: str) -> None:
        self.text = text
        hidden: set[int] = set()
        for hit in _EMPHASIS.finditer(text):
            inner = _EMPHASIS.fullmatch(text, hit.start(2), hit.end(2))
            for pair in (hit, inner) if inner else (hit,):
                hidden |= {*range(pair.start(1), pair.end(1)), *range(pair.end(2), pair.end())}
        self.starts: Sequence[int] = range(len(text) + 1)
        self.ends: Sequence[int] = range(1, len(text) + 1)
        self.folded: str = text.lower()
        if hidden or not text.isascii():
            folded = [(hit, _fold_cluster(hit[0])) for hit in _CLUSTER.finditer(text) if hit.start() not in hidden]
            self.folded = "".join(form for _, form in folded)
            self.starts = [*(hit.start() for hit, form in folded for _ in form), len(text)]
            self.ends = [hit.end() for hit, form in folded for _ in form]

    def raw(self, start: int, end: int) -> str:
        """The characters that a place of the folded text was made of."""
        return self.text[self.starts[start] : self.ends[end - 1]] if end > start else ""
