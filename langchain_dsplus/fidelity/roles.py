"""Who somebody is: a role that the source gives to somebody else, and a relative whom it does not have.

`the chef, Marco` and `Ines, the team lead` bind a role to a name by their form alone. Words for relatives are a closed
class, so a `brother` who is in no form in the source was made up.
"""

from __future__ import annotations

import re

from langchain_dsplus.fidelity.names import NOT_GIVEN
from langchain_dsplus.fidelity.sentences import HAN, split_sentences

_NO_NAME = "".join(sorted(NOT_GIVEN))
_NAME = r"(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?(?:[A-Z][\w-]{1,30} )?[A-Z][\w-]{1,30}"
_OF = r"(?:the|our|my|his|her|their|its|The|Our|My|His|Her|Their)"
_BINDINGS = (
    re.compile(rf"\b(?P<name>{_NAME}), (?:{_OF}|an?) (?P<role>(?:[a-z'-]{{1,30}} ){{0,2}}[a-z-]{{3,30}})(?=[,.;:])"),
    re.compile(
        rf"\b(?P<name>{_NAME}),? (?:who )?(?:is|was) (?:the|our|my|an?) "
        rf"(?P<role>(?:[a-z'-]{{1,30}} ){{0,2}}[a-z-]{{3,30}})(?=[,.;:])"
    ),
    re.compile(rf"\b(?P<name>{_NAME}), who (?P<role>[a-z]{{4,30}}) (?:the|our|my)\b"),
    re.compile(
        rf"\b(?:{_OF}|[A-Z][\w-]{{1,30}}'s) (?P<role>(?:[a-z'-]{{1,30}} ){{0,2}}[a-z-]{{3,30}}),? (?P<name>{_NAME})"
    ),
    re.compile(
        r"(?P<role>[\u4e00-\u9fff][长员师东客管任友理])(?:叫|是|姓)?(?P<name>[小老阿]?(?!["
        + _NO_NAME
        + r"])[\u4e00-\u9fff])(?=[\u4e00-\u9fff]?(?:先生|女士|老师|[^\u4e00-\u9fff]|说|称|让|要|不|只|也|就|给|把|却))"
    ),
    re.compile(r"(?P<role>[\u4e00-\u9fff][长员师东客管任友理练手工生医板])(?P<name>[小老阿][\u4e00-\u9fff])"),
    re.compile(rf"\b[A-Z][\w-]{{1,30}}'s (?P<role>[a-z-]{{3,30}}),? (?P<name>{_NAME})"),
)
_AT_MOST = 8
"""Names with another role that are looked for in the source."""
_COMMON = 5
"""Letters that `manager` and `manages` share."""
_KIN = tuple(
    (re.compile(rf"\b(?:{told})s?\b"), re.compile(rf"\b(?:{known})"))
    for told, known in (
        ("mother|mum|mom", "mother|mum|mom|mama|parent|famil"),
        ("father|dad", "father|dad|papa|parent|famil"),
        ("sister", "sister|sibling|twin|girl"),
        ("brother", "brother|sibling|twin|boy"),
        ("son", "son|child|kid|boy|baby|twin|teen|toddler|lad"),
        ("daughter", "daughter|child|kid|girl|baby|twin|teen|toddler|lass"),
        ("wife", "wife|spouse|partner|married|missus|wedding"),
        ("husband", "husband|spouse|partner|married|hubby|wedding"),
        ("aunt", "aunt"),
        ("uncle", "uncle"),
        ("cousin", "cousin|uncle|aunt"),
        ("niece", "niece|(?:sister|brother)s?'"),
        ("nephew", "nephew|(?:sister|brother)s?'"),
        ("grandmother", "gran|nan"),
        ("grandfather", "gran"),
        ("grandson|granddaughter|grandchild", "grand"),
        ("stepmother|stepfather|stepson|stepdaughter|stepbrother|stepsister", "step"),
        ("girlfriend|boyfriend", "girlfriend|boyfriend|partner|dat(?:e|ing)|lover"),
        ("fianc[eé]e?", "fianc|engage|partner"),
    )
) + tuple(
    (re.compile(told), re.compile(known))
    for told, known in (
        ("母亲|妈妈", "[妈母娘]"),
        ("父亲|爸爸", "[爸父爹]"),
        ("哥哥|兄长|表哥|堂哥", "[哥兄]"),
        ("姐姐|表姐|堂姐", "姐"),
        ("弟弟|表弟|堂弟", "弟"),
        ("妹妹|表妹|堂妹", "妹"),
        ("儿子", "儿子|孩|娃|男|崽"),
        ("女儿", "女儿|孩|娃|闺女|姑娘|丫头"),
        ("妻子|老婆", "妻|老婆|媳妇|爱人|太太|夫妻|两口"),
        ("丈夫|老公", "丈夫|老公|爱人|先生|夫妻|两口|男人"),
        ("奶奶|祖母", "奶奶|祖母"),
        ("爷爷|祖父", "爷爷|祖父"),
        ("外婆|姥姥|外祖母", "外婆|姥姥|外祖母|阿婆"),
        ("外公|姥爷|外祖父", "外公|姥爷|外祖父|阿公"),
        ("姑姑|姑妈|姑父", "姑"),
        ("舅舅|舅妈", "舅"),
        ("姨妈|小姨|姨父", "姨"),
        ("伯伯|婶婶|伯母", "[叔伯婶]|大爷"),
        ("婆婆|公公", "婆婆|公公|公婆"),
        ("岳母|岳父|丈母娘|丈人", "岳|丈[母人]"),
    )
)


def roles_changed(source: str, rewrite: str) -> int:
    """In how many places a rewrite gives a role to another than the source does, or has a relative that it lacks.

    Example:
        >>> roles_changed("The chef, Marco, apologised to Ines.", "Ines, the chef, apologised.")
        1
    """
    known, told = _bindings(source), _bindings(rewrite)
    holders: dict[str, set[str]] = {}
    for role, name in known:
        holders.setdefault(role, set()).add(name)
    moved = sum(role in holders and name not in holders[role] and name in source for role, name in told)
    moved += _renamed(source, known, told)
    old, new = source.casefold(), rewrite.casefold()
    return moved + sum(bool(kin.search(new)) and not had.search(old) for kin, had in _KIN)


def _bindings(text: str) -> set[tuple[str, str]]:
    """Roles (the first letters of their last word) and the last name of who has them."""
    return {
        (match["role"].split()[-1][:_COMMON], match["name"].split()[-1])
        for pattern in _BINDINGS
        for match in pattern.finditer(text)
    }


def _renamed(source: str, known: set[tuple[str, str]], told: set[tuple[str, str]]) -> int:
    """Names that the source binds to another role: `教练老田` for `队长老田`, or a role told of far from the name."""
    theirs: dict[str, set[str]] = {}
    for role, name in known:
        theirs.setdefault(name, set()).add(role)
    others = sorted((role, name) for role, name in told if name in theirs and role not in theirs[name])[:_AT_MOST]
    sentences = split_sentences(source.casefold()) if others else []
    found = 0
    for role, name in others:
        if HAN.match(role):
            found += not any(char in source for char in role)
            continue
        near = {i + d for i, s in enumerate(sentences) if name.casefold() in s for d in (-1, 0, 1)}
        having = {i for i, s in enumerate(sentences) if role in s}
        found += bool(having) and near.isdisjoint(having)
    return found
