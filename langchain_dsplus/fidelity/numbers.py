"""Reading the numbers of a text by value: digits, words, Chinese numerals, amounts, dates and times."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import NamedTuple


class Number(NamedTuple):
    """One number of a text."""

    value: str
    unit: str
    """`%`, a currency, `am`, `pm`, `month`, or nothing."""

    @property
    def label(self) -> str:
        """As it is shown."""
        return f"{self.unit} {self.value}" if self.unit in {"month", "day"} else f"{self.value} {self.unit}".strip()

    def in_(self, others: Iterable[Number]) -> bool:
        """Whether the same value stands there, under the same unit where both have one."""
        return any(
            self.value == other.value
            and (self.unit == other.unit or ("" in (self.unit, other.unit) and "day" not in (self.unit, other.unit)))
            for other in others
        )


ONES: dict[str, int] = {
    "zero": 0, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS: dict[str, int] = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000, "dozen": 12}
NUMBER_WORDS = frozenset({*ONES, *TENS, *SCALES, "hundreds", "thousands", "millions"})
MONTHS: dict[str, int] = {
    "january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8, "september": 9,
    "october": 10, "november": 11, "december": 12, "jan": 1, "feb": 2, "mar": 3, "apr": 4, "jun": 6, "jul": 7, "aug": 8,
    "sep": 9, "sept": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
DAYS: dict[str, int] = {
    "monday": 1, "tuesday": 2, "wednesday": 3, "thursday": 4, "friday": 5, "saturday": 6, "sunday": 7,
}  # fmt: skip
UNITS = {
    "%": "%", "percent": "%", "per cent": "%", "$": "$", "usd": "$", "dollar": "$", "dollars": "$", "bucks": "$",
    "€": "€", "eur": "€", "euro": "€", "euros": "€", "£": "£", "gbp": "£", "pound": "£", "pounds": "£",
    "¥": "¥", "yuan": "¥", "rmb": "¥", "元": "¥", "块": "¥", "块钱": "¥", "人民币": "¥",
    "am": "am", "a.m.": "am", "a.m": "am", "pm": "pm", "p.m.": "pm", "p.m": "pm",
}  # fmt: skip
NOT_CONTENT = NUMBER_WORDS | MONTHS.keys() | DAYS.keys() | UNITS.keys()
UNIT_AFTER = "|".join(re.escape(u) for u in sorted(UNITS, key=len, reverse=True) if u not in {"€", "£"})
DIGITS = re.compile(
    r"(?P<before>[$€£¥]|\b(?:usd|eur|gbp|rmb)\s)?\s?"
    r"(?P<number>(?<![\w.])\d+(?:[.,:/'\u00a0\u202f\u2009-]\d+)*|(?<=[\u3400-\u9fff])\d+(?:[.,:/-]\d+)*)"
    rf"(?:\s?(?P<after>(?:{UNIT_AFTER}|€|£)(?![a-z])))?(?P<wan>[万亿千百])?",
    re.IGNORECASE,
)
NUMBER_PHRASE = re.compile(
    r"\b(?:a |half a )?(?:" + "|".join(sorted(NUMBER_WORDS, key=len, reverse=True)) + r")"
    r"(?:(?:-|\s|\sand\s)(?:one|" + "|".join(sorted(NUMBER_WORDS, key=len, reverse=True)) + r"))*\b"
    rf"(?:\s(?P<after>(?:{UNIT_AFTER})(?![a-z])))?",
    re.IGNORECASE,
)
PAIR = re.compile(
    r"\b(?:the |these |those )?two (?:parties|sides|of (?:us|them|you)|people|neighbou?rs)\b"
    r"|两人|两个人|俩人|两方|两边|二人",
    re.IGNORECASE,
)
DATE_HAN = re.compile("(?:星期|周|礼拜)([一二三四五六日天])")
HAN_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
HAN_SCALES = {"十": 10, "百": 100, "千": 1000}
HAN_IDIOM = re.compile(
    "十分(?!钟|之)|万一|千万(?!元|块|人)|四处|四周|乱七八糟|七上八下|三番五次|三番两次|不三不四|再三|百般|万分|千方百计|一五一十|五花八门|七嘴八舌|接二连三|"
    "丢三落四|一清二楚|三心二意|九牛一毛|百姓|万事|四面八方|说三道四|隔三差五|一干二净"
)
HAN_NUMBER = re.compile(
    "(?P<percent>百分之)?(?P<number>[零〇一二两三四五六七八九十百千万亿]+)(?:点(?P<decimal>[零〇一二三四五六七八九]+))?"
    "(?P<unit>[个块元角毛天日年月周点时秒次米厘公斤克吨升人名位户间层楼号岁辆台件条只张份倍成度页分小]?)"
)


def _canonical(value: Decimal | int) -> str:
    number = Decimal(value)
    return format(number.to_integral_value() if number == number.to_integral_value() else number.normalize(), "f")


def _read_digits(raw: str) -> list[str]:
    """The values in a token of digits: one number, or the parts of a date or a time."""
    if len(raw) > 40:
        return [raw]
    raw = re.sub(r"(?<=\d)['\u00a0\u202f\u2009](?=\d{3}(?!\d))", "", raw)
    if re.fullmatch(r"\d+(?:[:/-]\d+)+", raw) or re.fullmatch(r"\d{1,4}(?:\.\d{1,4}){2,}", raw):
        parts = re.split(r"[:/.-]", raw)
        if ":" in raw and len(parts) == 2 and int(parts[1]) == 0:
            parts = parts[:1]  # 10:00 is 10 o'clock
        return [_canonical(int(p)) for p in parts]
    if re.search(r"[:/'\u00a0\u202f\u2009-]", raw):  # mixed, such as 2,000-3,000
        return [v for p in re.split(r"[:/'\u00a0\u202f\u2009-]", raw) for v in _read_digits(p)]
    if "," in raw and "." in raw:
        point = max(raw.rfind(","), raw.rfind("."))
        return [_canonical(Decimal(re.sub(r"[.,]", "", raw[:point]) + "." + re.sub(r"[.,]", "", raw[point + 1 :])))]
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", raw):
        return [_canonical(int(raw.replace(",", "")))]
    if raw.count(",") == 1:
        return [_canonical(Decimal(raw.replace(",", ".")))]
    try:
        return [_canonical(Decimal(p)) for p in raw.split(",")]
    except InvalidOperation:  # a version number, say: kept as it is written
        return [raw]


def _read_words(phrase: str) -> int:
    total = current = 0
    for word in re.split(r"[\s-]+", phrase.casefold()):
        singular = word.removesuffix("s") if word not in ONES and word not in TENS else word
        if word in ONES or word == "one":
            current += ONES.get(word, 1)
        elif word in TENS:
            current += TENS[word]
        elif singular == "hundred":
            current = max(1, current) * 100
        elif singular in SCALES:
            total += max(1, current) * SCALES[singular]
            current = 0
    return total + current


def _read_han(raw: str) -> int:
    if not any(c in raw for c in "十百千万亿"):
        return int("".join(str(HAN_DIGITS[c]) for c in raw))  # written digit by digit, as a year is
    total = section = digit = 0
    for char in raw:
        if char in HAN_DIGITS:
            digit = HAN_DIGITS[char]
        elif char in HAN_SCALES:
            section += max(1, digit) * HAN_SCALES[char]
            digit = 0
        else:
            total = (total + section + digit) * (10_000 if char == "万" else 100_000_000)
            section = digit = 0
    return total + section + digit


def _unit(*names: str | None) -> str:
    for name in names:
        if name:
            found = UNITS.get(name.strip().casefold())
            if found:
                return found
    return ""


def read_numbers(text: str) -> Iterator[Number]:
    """All numbers of a text by value, dates and times in their parts."""
    text = PAIR.sub(" ", text)
    for match in DIGITS.finditer(text):
        values = _read_digits(match["number"])
        unit = _unit(match["before"], match["after"])
        if match["wan"] and len(values) == 1:
            scale = {"百": 100, "千": 1000, "万": 10_000, "亿": 100_000_000}[match["wan"]]
            with contextlib.suppress(InvalidOperation):
                values = [_canonical(Decimal(values[0]) * scale)]
            unit = unit or _unit(text[match.end() : match.end() + 1])
        for value in values:
            yield Number(value, unit)
    for match in re.finditer(r"(?<![\w])[^\W\d_\u3400-\u9fff]+-?(\d+)(?![\w])", text):  # flat B12
        yield Number(match.group().casefold(), "")
    for match in NUMBER_PHRASE.finditer(text):
        phrase = match.group()[: match.start("after") - match.start()] if match["after"] else match.group()
        if phrase.casefold().startswith(("hundreds", "thousands", "millions")):
            continue
        yield Number(_canonical(_read_words(phrase)), _unit(match["after"]))
    for match in re.finditer(r"\b[A-Za-z]{3,9}\b", text):
        word = match.group().casefold()
        if word in DAYS:
            yield Number(str(DAYS[word]), "day")
        elif (
            word in MONTHS
            and match.group()[0].isupper()
            and (word not in {"may", "march", "mar", "jan", "dec"} or _dated(text, match))
        ):
            yield Number(str(MONTHS[word]), "month")
    for match in DATE_HAN.finditer(text):
        yield Number(str({"日": 7, "天": 7}.get(match[1]) or HAN_DIGITS[match[1]]), "day")
    rest = HAN_IDIOM.sub(" ", DATE_HAN.sub(" ", text))
    for match in HAN_NUMBER.finditer(rest):
        raw = match["number"]
        if len(raw) > 40:  # no number that anybody reads
            yield Number(raw, "")
            continue
        if raw == "一" and not (match["percent"] or match["decimal"]):
            continue
        if len(raw) == 1 and not (match["unit"] or match["percent"] or match["decimal"]):
            continue
        if match.start() and rest[match.start() - 1].isdigit():
            continue  # 3万: read with the digits
        amount = Decimal(_read_han(raw))
        if match["decimal"]:
            amount += Decimal("0." + "".join(str(HAN_DIGITS[c]) for c in match["decimal"]))
        unit = "%" if match["percent"] else _unit(match["unit"])
        yield Number(_canonical(amount), unit)


def _dated(text: str, match: re.Match[str]) -> bool:
    """Whether a month's name that is also a word stands beside a number or after `in`, `of`, ..."""
    near = text[match.end() : match.end() + 4]
    before = text[max(0, match.start() - 9) : match.start()].casefold()
    return bool(
        re.match(r"\s\d", near)
        or re.search(
            r"(?:january|february|march|april|june|july|august|september|october|november) (?:and|or|to|until)\s$",
            text[max(0, match.start() - 16) : match.start()].casefold(),
        )
        or re.search(r"(?:\d(?:st|nd|rd|th)?|\b(?:in|of|last|next|since|until|this|by))\s$", before)
    )
