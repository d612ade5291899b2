"""Finding names, with and without capitals: a name is a word that no dictionary of ordinary words holds.

`words/en.txt.gz` and `words/zh.txt.gz` are general dictionaries (see `words/NOTICE.txt`); of Chinese, the words with a
character that may also be a surname.
"""

# ruff: noqa: SIM905 - words are easier to read as text

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

from langchain_dsplus.fidelity.numbers import is_number_word
from langchain_dsplus.fidelity.sentences import FUNCTION

_TITLES = "先生|女士|小姐|师傅|阿姨|叔叔|大爷|大妈|大娘|太太|经理|医生|老师|老板|主任|某某?|总|姐|哥|叔|婶|伯"
SURNAMES = frozenset(
    "王李刘陈杨赵吴徐孙胡朱郭罗梁宋郑谢韩唐冯董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛阎余潘杜戴夏钟汪任姜范姚谭廖邹熊陆郝孔崔康邱秦史顾侯邵孟龙"
    "段汤尹黎易武乔贺赖龚张周黄林何高马方于白常江石金万钱田叶毛雷文"
)
_ALSO_WORDS = frozenset("曾许余任段汤易武龙史顾戴周黄林何高马方于白常江石金万钱田叶毛雷文谢")
"""Surnames that are as often words: names only before a title, or after 小 and 老."""
_GIVEN = frozenset(
    "明红刚强华丽芳军伟杰敏静磊洋勇艳娟涛超秀霞平鹏辉玲桂兰梅玉英珍凯欣婷雪佳莉萍琴燕波斌宇浩轩晨琳倩颖慧菲薇莹洁璐媛俊峰哲辰豪坤锋旭森彬晖"
)
NOT_GIVEN = frozenset(
    "的了着过是在有和与及跟同对向从到把被将给让说称就也都才又再还很太最只不没未去来要会能可想打骂推拉踢拿走问答叫喊看听他她它我你们这那开贴嘴口脸姓两"
)
_MEASURED = frozenset("一二两三四五六七八九十几这那每半数")
_NO_NAME = NOT_GIVEN | _MEASURED | frozenset("男女新老大小本该位名个们旧前副正")
_SURE = SURNAMES - _ALSO_WORDS
_HAN_NICK = re.compile(f"[小老]([{''.join(sorted(SURNAMES | _GIVEN))}])|阿([^姨\\W\\da-zA-Z])")
_HAN_TITLED = re.compile(
    f"([{''.join(sorted(SURNAMES))}])(?:{_TITLES})|([\u4e00-\u9fff])(?:先生|女士|小姐|师傅|阿姨|叔叔|经理|医生|老师)"
)
"""Behind any other character that is no part of a word: 褚老师, but not 钢琴老师."""
_HAN_SURNAME = re.compile(f"[{''.join(sorted(SURNAMES))}]")
_HAN_CALLED = re.compile(
    "(?<![百同])姓([\u4e00-\u9fff])(?<![名氏什谁啥甚的])|(?:名叫|名字叫)([\u4e00-\u9fff]{2})"
    "|(欧阳|司马|上官|诸葛|司徒|夏侯|皇甫|尉迟|慕容|令狐|端木|公孙|东方(?=[^\u4e00-\u9fff]))"
)
"""Who is said to be called so: a name by the form alone; and surnames of two characters."""
_HAN_FULL = re.compile(
    f"[{''.join(sorted(SURNAMES - _ALSO_WORDS))}](?=[\u4e00-\u9fff])"
    f"|[{''.join(sorted(_ALSO_WORDS))}](?=[{''.join(sorted(_GIVEN))}])"
    "|(?:^|(?<=[^\u4e00-\u9fff])|(?<=[和与跟对给向让叫被找]))[汤武龙史周黄林何高马江石金田叶雷](?=[\u4e00-\u9fff])"
)
_LATIN = re.compile(r"(?<![\w'])[^\W\d_\u3040-\u9fff\uac00-\ud7a3]+(?:[-'][^\W\d_\u3040-\u9fff\uac00-\ud7a3]+)*")
_OPENS = re.compile(r"(?:^|[.!?:;\u2026\n\"\u201c\u2018(\[*#>\u2022-])\s*$|['\u2019]\s*$")
_UNIT = re.compile(r"\d\s?$")
"""`40 GB`: capitals behind a number are a unit."""
_ROLES = frozenset({"narrator", "party", "parties"})
"""What our own instructions call the people of a text."""
_DETERMINERS = frozenset(
    "the a an this that these those his her its their my our your each every any other no some".split()
)


class Name(NamedTuple):
    """A word of a text that looks like a name."""

    word: str
    """In lower case, without the possessive."""
    text: str


@lru_cache(maxsize=2)
def _words(language: str) -> frozenset[str]:
    data = (files("langchain_dsplus.fidelity") / "words" / f"{language}.txt.gz").read_bytes()
    return frozenset(gzip.decompress(data).decode("utf-8").split("\n"))


_ENDINGS = (
    ("ies", "y"), ("ied", "y"), ("ier", "y"), ("ily", "y"), ("iness", "y"), ("es", ""), ("s", ""), ("ed", ""),
    ("ed", "e"), ("ing", ""), ("ing", "e"), ("ly", ""), ("er", ""), ("er", "e"), ("est", ""), ("est", "e"), ("ers", ""),
    ("ers", "e"), ("ness", ""), ("less", ""), ("ful", ""), ("able", ""), ("able", "e"), ("ment", ""), ("ments", ""),
)  # fmt: skip


_LONGEST = 30
"""Letters of a word: what is longer is nobody's name."""


@lru_cache(maxsize=1 << 14)
def is_ordinary(word: str) -> bool:
    """Whether an English word, in lower case, is in the dictionary in some form.

    Example:
        >>> is_ordinary("quarrelled"), is_ordinary("tomas")
        (True, False)
    """
    known = _words("en")
    if len(word) < 3 or len(word) > _LONGEST or word in known or word in FUNCTION:
        return True
    for ending, put in _ENDINGS:
        stem = word[: -len(ending)] + put
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            if stem in known:
                return True
            if not put and stem[-1] == stem[-2] and stem[:-1] in known:
                return True
    if any(
        word.startswith(start) and word[len(start) :] in known for start in ("un", "re", "non", "mis", "over", "out")
    ):
        return True
    parts = re.split("[-']", word)
    if len(parts) > 1:
        return all(is_ordinary(part) for part in parts)
    halves = [(word[:i], word[i:]) for i in range(3, len(word) - 2)]
    return any({one, two} <= known and FUNCTION.isdisjoint({one, two}) for one, two in halves)


def is_ordinary_han(text: str, place: int) -> bool:
    """Whether the character there is a part of an ordinary Chinese word."""
    start = max(0, place - 3)
    return _in_word(text[start : place + 4], place - start)


@lru_cache(maxsize=1 << 14)
def _in_word(window: str, place: int) -> bool:
    known = _words("zh")
    return any(
        window[start : start + size] in known
        for size in (2, 3, 4)
        for start in range(max(0, place - size + 1), place + 1)
    )


def bare(word: str) -> str:
    """A word in lower case, without the possessive."""
    return word.casefold().removesuffix("'s").removesuffix("'")


def latin_words(text: str) -> set[str]:
    """The words of a text in Latin letters, in lower case, whole and by the parts of `Smith-Jones`."""
    found = set()
    for match in _LATIN.finditer(text):
        word = bare(match.group())
        found.add(word)
        if "-" in word:
            found.update(word.split("-"))
    return found


def read_names(text: str) -> list[Name]:
    """The words of a text that look like names.

    By capitals: a capital inside a sentence, unless it is an ordinary word behind an article (`the Complainant`); at
    the start of a sentence, a word that is not ordinary. In a text without capitals, every word that is not ordinary.
    In Chinese: a surname with a title, 小 or 老 with a name, a surname that is not a part of an ordinary word.

    Example:
        >>> [n.text for n in read_names("Yesterday Tomas hit Mark.")], [n.text for n in read_names("then tomas ran")]
        (['Tomas', 'Mark'], ['tomas'])
    """
    return [*_latin_names(text), *_han_names(text)]


def _latin_names(text: str) -> Iterator[Name]:
    words = list(_LATIN.finditer(text))
    known = sum(is_ordinary(bare(m.group())) for m in words)
    capitals = sum(m.group()[0].isupper() for m in words)
    shouted = sum(m.group().isupper() and len(m.group()) > 1 for m in words) > len(words) / 2
    # A text that begins in small letters may write its names so, too.
    cased = capitals > 0 and not shouted and not (words and words[0].group().islower())
    if 2 * known < len(words) and not cased:
        return  # another language: the dictionary knows nothing of it
    lower = {m.group() for m in words if m.group().islower()}
    before = ""
    for match in words:
        word = match.group()
        plain = bare(word)
        last, before = before, plain
        if len(plain) < 2 or plain.startswith("i'") or plain in _ROLES or is_number_word(plain) or plain in FUNCTION:
            continue
        if cased:
            if not word[0].isupper():
                continue
            if len(plain) > _LONGEST or (
                word.isupper() and _UNIT.search(text[max(0, match.start() - 3) : match.start()])
            ):
                continue
            ordinary = is_ordinary(plain)
            opens = bool(_OPENS.search(text[max(0, match.start() - 8) : match.start()])) or match.start() == 0
            if ordinary and (opens or last in _DETERMINERS or plain in lower):
                continue
        elif is_ordinary(plain) or len(plain) > _LONGEST:
            continue
        yield Name(plain, word)


def _han_names(text: str) -> Iterator[Name]:
    taken: set[int] = set()
    for match in _HAN_TITLED.finditer(text):  # 王女士, 褚老师
        word, start = match[1] or match[2], match.start()
        if word in _SURE or not (word in _NO_NAME or is_ordinary_han(text, start)):
            taken.add(start)
            yield Name(word, match.group())
    for match in _HAN_CALLED.finditer(text):
        yield Name(next(filter(None, match.groups())), match.group())
    for match in _HAN_NICK.finditer(text):
        if match.group() not in _words("zh") and not is_ordinary_han(text, match.start() + 1):
            taken.add(match.start() + 1)
            yield Name(match.group(), match.group())
    for match in _HAN_FULL.finditer(text):
        start = match.start()
        word, before = text[start : start + 2], text[start - 1 : start]
        if not (start in taken or word[1] in NOT_GIVEN or before in _MEASURED or is_ordinary_han(text, start)):
            yield Name(word, word)


class Names:
    """The names of a text, and its words, to compare with another text's."""

    def __init__(self, text: str, extra: tuple[str, ...] = ()) -> None:
        self.text = text.casefold()
        self.words = latin_words(text)
        self.all = list(dict.fromkeys(read_names(text)))
        known = {n.word for n in self.all}
        self.all += [Name(n.casefold(), n) for n in extra if n.casefold() in self.text and n.casefold() not in known]
        self._starts = {n.word[:size] for n in self.all for size in range(3, min(len(n.word), 20) + 1)}
        self.latin = len(self.words) > 3

    @cached_property
    def _pairs(self) -> set[str]:
        """What two Chinese characters stand side by side."""
        return {a + b for a, b in pairwise(self.text) if a >= "\u3400" and b >= "\u3400"}

    @cached_property
    def _surnames(self) -> set[str]:
        """Of the names, and those that are no part of an ordinary word."""
        alone = {m.group() for m in _HAN_SURNAME.finditer(self.text) if not is_ordinary_han(self.text, m.start())}
        return alone | {n.word[0] for n in self.all if n.word}

    def has(self, name: Name) -> bool:
        """Whether a name of another text stands here: whole, shortened, or in another form of the word."""
        word = name.word
        if "\u4e00" <= word[0] <= "\u9fff":
            if len(word) == 1:
                return word in (self._surnames if word in SURNAMES else self.text)
            return all(a + b in self._pairs for a, b in pairwise(word))
        if word in self.words or word in self._starts or (" " in word and word in self.text):
            return True
        stems = [word[:size] for size in range(max(3, len(word) - 2), len(word))]
        if any(stem in self.words and stem not in FUNCTION for stem in stems):
            return True  # `Petersens`
        parts = word.split("-")
        return len(parts) > 1 and all(part in self.words or is_ordinary(part) for part in parts)

    def added(self, other: Names) -> list[str]:
        """The names of another text that this one does not have."""
        found = [name.text for name in other.all if self._comparable(name, other) and not self.has(name)]
        return list(dict.fromkeys(found))

    def _comparable(self, name: Name, other: Names) -> bool:
        """A translation writes names in other letters."""
        han = "\u4e00" <= name.word[0] <= "\u9fff"
        return bool(self.latin or not other.latin) if not han else any("\u4e00" <= c <= "\u9fff" for c in self.text)

    def kept(self, other: Names) -> tuple[int, list[str]]:
        """How many names this text has, and those that another lost."""
        words = {name.word: name.text for name in self.all}
        return len(words), [text for word, text in words.items() if not other.has(Name(word, text))]
