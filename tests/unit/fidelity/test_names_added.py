"""A name that the source does not have is found in nine of ten rewrites; what follows from numbers is honest."""

# ruff: noqa: RUF001 - Chinese punctuation is meant; words are easier to read as text

import json
import random
from pathlib import Path

import pytest

from langchain_dsplus.fidelity import Fidelity
from langchain_dsplus.fidelity.names import Names, read_names

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
NEW = {
    "en": "Marcus Olivia Bernd Tanya Kwame Siobhan Rajesh Henrik Paloma Zoltan Dustin Felix Yara Sven Lucia Mark Ruth",
    "zh": "王丽 小周 老孙 阿强 赵敏 陈晨 小娟 李明 刘洋 老何 小高 张伟 孙悦 周凯 老白 欧阳 阿珍 郭涛",
}


def exchanged(lang):
    """Honest rewrites with one of their names exchanged for one that the source lacks."""
    rng = random.Random(3)
    for pair in json.loads((BENCHMARKS / "fidelity_dev.json").read_text(encoding="utf-8")):
        old = [n.text for n in read_names(pair["rewrite"]) if lang == "en" or n.word[0] >= "\u4e00"]
        if pair["kind"] == "faithful" and pair["lang"] == lang and old:
            new = rng.choice([n for n in NEW[lang].split() if n.lower() not in pair["source"].lower()])
            yield pair["source"], pair["rewrite"].replace(rng.choice(old).removesuffix("'s"), new)


@pytest.mark.parametrize(("lang", "lower"), [("en", False), ("en", True), ("zh", False)])
def test_nine_of_ten_new_names_are_found(lang, lower):
    pairs = [(s.lower(), r.lower()) if lower else (s, r) for s, r in exchanged(lang)]
    assert len(pairs) >= 20
    assert sum(bool(Names(s).added(Names(r))) for s, r in pairs) >= 0.9 * len(pairs)


@pytest.mark.parametrize(
    ("source", "rewrite"),
    [
        (
            "I wrote on a Monday and they replied the next day.",
            "The narrator wrote on Monday; they replied on Tuesday.",
        ),
        (
            "On the 11th Maud told them. The day after I wrote too.",
            "Maud told them on the 11th, the narrator on the 12th.",
        ),
        ("He kept 600 of my 900 euro deposit.", "He kept two thirds of the 900 euro deposit."),
        ("The rent went from 740 to 810.", "The rent went up by 70 to 810."),
        ("She offered to halve the fee.", "She offered 50 % off the fee."),
        ("She said wake me at three. I let her sleep until half past four.", "She slept another ninety minutes."),
        ("一年三千，他退我一千五。", "一年三千元，他退了一半。"),
    ],
)
def test_what_follows_is_honest(source, rewrite):
    assert not any(reason.startswith("number") for reason in Fidelity()(source, rewrite)["reasons"])


@pytest.mark.parametrize(
    ("source", "rewrite"),
    [
        ("I wrote on a Monday and they replied the next day.", "The narrator wrote on Monday; they replied on Friday."),
        (
            "On the 11th Maud told them. The day after I wrote too.",
            "Maud told them on the 11th, the narrator on the 14th.",
        ),
        ("He kept 600 of my 900 euro deposit.", "He kept three quarters of the 900 euro deposit."),
        ("The rent went from 740 to 810.", "The rent went up by 90 to 810."),
    ],
)
def test_what_does_not_follow_is_invented(source, rewrite):
    assert any(reason.startswith("number_added") for reason in Fidelity()(source, rewrite)["reasons"])


@pytest.mark.parametrize(
    ("source", "rewrite"),
    [
        ("队长老田劝我算了。我没听。", "教练老田劝讲述者算了，讲述者没听。"),
        ("我拦住浩浩的奶奶，让她给个说法。", "讲述者拦住浩浩的外婆，让她给个说法。"),
        (
            "I asked Adam's girlfriend, Noor, to help. Petra paid.",
            "The narrator asked Adam's girlfriend, Petra, to help.",
        ),
    ],
)
def test_another_role_is_found(source, rewrite):
    assert any(reason.startswith("role_changed") for reason in Fidelity()(source, rewrite)["reasons"])
