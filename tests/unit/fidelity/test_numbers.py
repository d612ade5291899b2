"""Numbers by value: two writings of one number agree, two numbers do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus.fidelity.arithmetic import Numbers
from langchain_dsplus.fidelity.numbers import read_numbers

EQUAL = [
    ("3,500", "three and a half thousand"),
    ("3500", "三千五"),
    ("3.5k", "三千五百"),
    ("12,000", "一万二"),
    ("12000", "1.2万"),
    ("35000", "3万5"),
    ("20%", "a fifth of it"),
    ("20 %", "百分之二十"),
    ("twenty percent", "两成"),
    ("two thirds", "三分之二"),
    ("3½ hours", "three and a half hours"),
    ("2.5 hours", "两个半小时"),
    ("2 weeks", "fourteen days"),
    ("18 months", "一年半"),
    ("half an hour", "30 minutes"),
    ("half an hour", "半个小时"),
    ("¥3.5", "三块五"),
    ("$40", "forty dollars"),
    ("40 dollars", "四十美元"),
    ("3:30 pm", "15:30"),
    ("half past three in the afternoon", "下午三点半"),
    ("8 in the evening", "20:00"),
    ("March 3", "3月3日"),
    ("3 March 2024", "2024-03-03"),
    ("the 21st", "twenty-first"),
    ("1984", "nineteen eighty-four"),
    ("2024", "二零二四年"),
    ("on Tuesday", "星期二"),
    ("tuesday", "周二"),
    ("3 times", "three times"),
    ("三次", "3次"),
    ("two dozen", "24"),
    ("half a million", "500,000"),
    ("1.250,50", "1,250.50"),
    ("one hundred and five", "一百零五"),
    ("two people", "俩"),
    ("two people", "两个人"),
    ("2.15pm", "14:15"),
    ("a quarter to four", "3:45"),
    ("at ten to two", "1:50"),
    ("七点一刻", "7:15"),
    ("晚上十点半", "22:30"),
    ("an hour and a half", "90 minutes"),
    ("a quarter of an hour", "15 minutes"),
    ("nine seconds", "a 9-second clip"),
    ("两千八一年", "2800元"),
    ("三块钱一小时", "3元"),
    ("廿五", "25"),
]
DIFFERENT = [
    ("3,500", "三千"),
    ("40 dollars", "40 euros"),
    ("3 weeks", "3 days"),
    ("3 am", "3 pm"),
    ("tuesday", "wednesday"),
    ("march 3", "april 3"),
    ("三次", "五次"),
    ("三千五", "三千六"),
    ("a third of it", "a quarter of it"),
    ("20 %", "30 %"),
    ("nine years", "nineteen years"),
    ("B12", "B13"),
    ("打了三拳", "打了五拳"),
    ("2.15pm", "14:25"),
    ("七点一刻", "7:30"),
    ("晚上十点半", "11:30"),
    ("nine seconds", "a 7-second clip"),
]


def agrees(source, rewrite):
    return not Numbers(source).added(Numbers(rewrite))


@pytest.mark.parametrize(("one", "other"), [*EQUAL, *((b, a) for a, b in EQUAL)])
def test_equal_numbers_agree_in_every_writing(one, other):
    assert agrees(one, other)


@pytest.mark.parametrize(("one", "other"), [*DIFFERENT, *((b, a) for a, b in DIFFERENT)])
def test_different_numbers_do_not(one, other):
    assert not agrees(one, other)


ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()  # noqa: SIM905
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905


def in_english(n):
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        return f"{ONES[n // 100]} hundred" + (f" and {in_english(n % 100)}" if n % 100 else "")
    return f"{in_english(n // 1000)} thousand" + (f" {in_english(n % 1000)}" if n % 1000 else "")


def in_chinese(n):
    digits, units = "零一二三四五六七八九", ["", "十", "百", "千"]
    text = ""
    for i, d in enumerate(map(int, str(n))):
        text += digits[d] + (units[len(str(n)) - 1 - i] if d else "")
    text = text.rstrip("零")
    while "零零" in text:
        text = text.replace("零零", "零")
    return text


@given(st.integers(2, 9999), st.integers(2, 9999))
def test_any_number_is_read_in_digits_words_and_chinese(n, other):
    writings = [str(n), f"{n:,}", in_chinese(n), in_english(n)]
    for one in writings:
        for two in writings:
            assert agrees(f"It was {one} euros.", f"It was {two} euros."), (one, two)
    if n != other:
        assert not agrees(f"It was {n} euros.", f"It was {in_english(other)} euros.")
        assert not agrees(f"花了{in_chinese(n)}元。", f"花了{other}元。")


@pytest.mark.parametrize(
    "text",
    [
        "十分生气",
        "万一下雨",
        "乱七八糟",
        "老百姓",
        "the two of them",
        "两人争吵",
        "双方",
        "a third party",
        "may",
        "the march home",
    ],
)
def test_words_that_only_look_like_numbers_are_none(text):
    assert [n for n in read_numbers(text) if not n.weak] == []


def test_what_is_counted_must_not_be_exchanged():
    assert not agrees("2 dogs and 3 cats were there", "3 dogs and 2 cats were there")
    assert agrees("2 dogs and 3 cats were there", "3 cats and 2 dogs")
    assert not agrees("he hit me three times", "he hit the narrator once")
    assert agrees("he hit me once", "he hit the narrator one time")


PIECES = (  # noqa: SIM905 - words are easier to read as text
    "one two twenty hundred thousand half quarters thirds and a past to at of % $ 3 3.5 1,250 12:30 7.25 2/3 2024-03-03 "
    "pm o'clock second once March noon dozen th k 十 百 千 万 一 两 零 五 半 点 分 刻 月 日 个 天 块 毛 第 分之 百分之 成 多 晚上 - , . ½ ٣"
).split()


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["", " "])), max_size=8))
def test_any_row_of_number_words_is_read_and_agrees_with_itself(pieces):
    text = "".join(piece + gap for piece, gap in pieces)
    assert agrees(text, text)
    Numbers("1 2 3 40 euros on 3 May at 5").added(Numbers(text))


@pytest.mark.parametrize("code", ["B217", "A-33", "XK9931"])
@pytest.mark.parametrize(
    ("before", "behind"), [("在", "车位"), ("的", "号柜"), ("", "是空的"), ("。", "、"), ("见", "和它")]
)
def test_a_code_ends_where_chinese_begins(code, before, behind):
    assert {n.text for n in read_numbers(f"{before}{code}{behind}")} == {code}
    assert not Numbers(f"我停在{code}。").added(Numbers(f"{before}{code}{behind}"))
