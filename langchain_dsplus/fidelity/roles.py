"""Who somebody is: a role that the source gives to somebody else, and a relative whom it does not have.

`the chef, Marco` and `Ines, the team lead` bind a role to a name by their form alone. Words for relatives are a closed
class, so a `brother` who is in no form in the source was made up.
"""

from __future__ import annotations

import re

from langchain_dsplus.fidelity.names import NOT_GIVEN
from langchain_dsplus.fidelity.sentences import FUNCTION, HAN, split_sentences

_NAME = r"(?P<name>(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?(?:[A-Z][\w-]{1,30} )?[A-Z][\w-]{1,30})"
_OF = r"(?:an?|(?i:the|our|my|his|her|their|its))"
_ROLE = r"(?P<role>(?:[a-z'-]{1,30} ){0,2}[a-z-]{3,30})"
_BINDINGS = (
    re.compile(rf"\b{_NAME}(?:, |,? (?:who )?(?:is|was) ){_OF} {_ROLE}(?=[,.;:])"),
    re.compile(rf"\b(?=(?:{_OF}|[A-Z][\w-]{{1,30}}'s) {_ROLE},? {_NAME})"),
    re.compile(
        r"(?P<role>[\u4e00-\u9fff][长员师东客管任友理练手工生医板])(?:叫|是|姓)?"
        rf"(?P<name>[小老阿][\u4e00-\u9fff]|(?![{''.join(sorted(NOT_GIVEN))}])[\u4e00-\u9fff](?=先生|女士|老师|[^\u4e00-\u9fff]))"
    ),
)
_AT_MOST = 8
"""Names with another role that are looked for in the source."""
_COMMON = 5
"""Letters that `manager` and `manages` share."""
_KIN = """
mother mum mom: mother mum mom mama parent famil|father dad: father dad papa parent famil|aunt: aunt|uncle: uncle
sister: sister sibling twin girl|brother: brother sibling twin boy|son: son child kid boy baby twin teen toddler lad
daughter: daughter child kid girl baby twin teen toddler lass|wife: wife spouse partner marri wedding
husband: husband spouse partner marri hubby wedding|niece: niece sister's brother's|nephew: nephew sister's brother's
cousin: cousin uncle aunt|grandmother: gran nan|grandfather: gran|grandson granddaughter: grand
girlfriend boyfriend: girlfriend boyfriend partner date dating lover
母亲 妈妈: 妈 母 娘|父亲 爸爸: 爸 父 爹|哥哥 兄长 表哥 堂哥: 哥 兄|姐姐 表姐 堂姐: 姐|弟弟 表弟 堂弟: 弟
妹妹 表妹 堂妹: 妹|儿子: 儿子 孩 娃 男|女儿: 女儿 孩 娃 闺女 姑娘|妻子 老婆: 妻 老婆 媳妇 爱人 太太 夫
丈夫 老公: 夫 老公 爱人 先生 男人|奶奶 祖母: 奶奶 祖母|爷爷 祖父: 爷爷 祖父|外婆 姥姥: 外婆 姥姥 外祖母 阿婆
外公 姥爷: 外公 姥爷 外祖父 阿公|姑姑 姑妈: 姑|舅舅 舅妈: 舅|姨妈 小姨: 姨|伯伯 婶婶: 叔 伯 婶 大爷
婆婆 公公: 婆婆 公公 公婆|岳母 岳父 丈人: 岳 丈
"""
"""Words for relatives: whom a rewrite may not have, unless the source has one of the words behind the colon."""


def _either(words: str, *, whole: bool = False) -> re.Pattern[str]:
    told = "|".join(words.split())
    return re.compile(told if not told.isascii() else rf"\b(?:{told})s?\b" if whole else rf"\b(?:{told})")


_RELATIVES = [
    (_either(told, whole=True), _either(known))
    for told, _, known in (row.partition(": ") for row in re.split(r"[|\n]", _KIN.strip()))
]


def roles_changed(source: str, rewrite: str) -> int:
    """In how many places a rewrite gives a role to another than the source does, or has a relative that it lacks.

    Example:
        >>> roles_changed("The chef, Marco, apologised to Ines.", "Ines, the chef, apologised.")
        1
    """
    holders: dict[str, set[str]] = {}
    for role, name in _bindings(source):
        holders.setdefault(role, set()).add(name)
    named = set().union(*holders.values())
    told = _bindings(rewrite)
    found = sum(role in holders and name not in holders[role] and name in source for role, name in told)
    others = sorted((role, name) for role, name in told if role not in holders and name in named)[:_AT_MOST]
    sentences = split_sentences(source) if others else []
    for role, name in others:  # who has another role in the source: `headteacher`, told of far from the name
        near = {i + d for i, s in enumerate(sentences) if name in s for d in (-1, 0, 1)}
        having = {i for i, s in enumerate(sentences) if role in s}
        found += not any(c in source for c in role) if HAN.match(role) else bool(having) and near.isdisjoint(having)
    old, new = source.casefold(), rewrite.casefold()
    return found + sum(bool(told.search(new)) and not known.search(old) for told, known in _RELATIVES)


def _bindings(text: str) -> set[tuple[str, str]]:
    """Roles (the first letters of their last word) and the last name of who has them."""
    return {
        (match["role"].split()[-1][:_COMMON], match["name"].split()[-1])
        for pattern in _BINDINGS
        for match in pattern.finditer(text)
        if FUNCTION.isdisjoint(match["role"].split())  # `Farah, an appointment was missed` binds nothing
    }
