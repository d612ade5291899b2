"""Finding names: by capitals in English, by surnames and titles in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator

from langchain_dsplus.fidelity.numbers import DAYS, MONTHS, NUMBER_WORDS
from langchain_dsplus.fidelity.sentences import WORD, split_sentences
from langchain_dsplus.prompts._words import FUNCTION, NEUTRAL, STRONG

_EXCLAMATIONS = frozenset({"god", "lord", "heaven", "heavens", "jesus", "christ", "goodness"})
TITLES = frozenset("mr mrs ms miss dr prof sir madam mister".split())  # noqa: SIM905
CAPITALIZED = re.compile(r"(?<![\w'])[A-Z\u00c0-\u00de][\w]*(?:[-'][A-Z\u00c0-\u00de]?[\w]+)*")
SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔"
    "白崔康毛邱秦江史顾侯邵孟龙段雷钱汤尹黎易常武乔贺赖龚文"
)
NAME_HAN = re.compile(
    f"[{SURNAMES}](?:先生|女士|小姐|师傅|阿姨|叔叔|大爷|大妈|太太|经理|医生|老师|某某?)"
    f"|(?<![\u4e00-\u9fff])[小老阿](?:[王李张刘陈杨赵周吴徐孙胡朱林何郭罗梁宋郑谢韩唐冯董程曹袁邓许沈彭吕苏蒋蔡贾丁魏薛潘杜钟汪姜姚谭廖邹明红刚强华丽芳军])"
    f"|[小老](?:[王李张刘陈杨赵吴徐孙胡朱林郭罗梁宋郑谢韩唐冯董程曹袁邓许沈彭吕苏蒋蔡贾丁魏薛潘杜钟汪姜姚谭廖邹]|明(?!白|显|天|年))"
)


def read_names(text: str, extra: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Names as tuples of lower-case words."""
    for name in extra:
        if name and name.casefold() in text.casefold():
            yield tuple(name.casefold().split()) or (name,)
    for match in NAME_HAN.finditer(text):
        yield (match.group(),)
    letters = [c for c in text if c.isalpha() and c.isascii()]
    if not letters or sum(c.isupper() for c in letters) > 0.5 * len(letters):
        return  # shouted: capitals say nothing
    lower_words = {w for w in WORD.findall(text) if w[:1].islower()}
    for sentence in split_sentences(text):
        run: list[str] = []
        last_end = -1
        for match in CAPITALIZED.finditer(sentence):
            word = match.group()
            starts = not WORD.search(sentence[: match.start()]) or bool(
                re.search(r"[:\"\u201c(]\s*$", sentence[: match.start()])
            )
            usable = _nameable(word, starts=starts, lower_words=lower_words)
            adjacent = run and sentence[last_end : match.start()] in {" ", ". "}
            if run and not (adjacent and usable):
                yield from _finish(run)
                run = []
            if usable:
                run.append(("^" if starts else "") + _bare(word))
                last_end = match.end()
        if run:
            yield from _finish(run)


def _bare(word: str) -> str:
    return word.removesuffix("'s").removesuffix("'").casefold()


def _finish(run: list[str]) -> Iterator[tuple[str, ...]]:
    """A run of capitalized words: alone at the start of a sentence it may be any word."""
    if len(run) == 1 and run[0].startswith("^"):
        return
    words = tuple(w.removeprefix("^") for w in run if w.removeprefix("^") not in TITLES)
    if words:
        yield words


def _nameable(word: str, *, starts: bool, lower_words: set[str]) -> bool:
    bare = _bare(word)
    if bare in _EXCLAMATIONS or bare in FUNCTION or bare in STRONG or word.endswith(("n't", "N'T")) or len(bare) < 2:
        return False
    if word.startswith("I'") or bare in DAYS or bare in MONTHS:
        return False
    if bare in NEUTRAL or bare in {"mr", "mrs", "ms", "am", "pm"} or bare in NUMBER_WORDS:
        return bare in TITLES and not starts
    return not (bare in lower_words and (starts or word.isupper()))
