"""Reading the numbers of a text by value: digits, words, Chinese numerals, amounts, dates and times.

Every number has the readings that it may be meant by: `20 %` is also a fifth, `3 pm` is also 15, `2 weeks` are also 14
days, and `1,250` may be a thousand or a decimal. Two texts agree on a number where they share a reading. All words
here are of closed classes: numerals, units, measure words, months, days, times of the day.
"""

# ruff: noqa: RUF001 - words are easier to read as text; Chinese punctuation is meant

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from langchain_dsplus.fidelity.sentences import FUNCTION, normalize

Value: TypeAlias = int | Fraction | str
"""Exact; a text where it is no number that anybody reads, such as a plate or forty digits."""
Reading: TypeAlias = tuple[Value, str]
"""Value and unit: a currency, `%`, `am`, `pm`, `month` (of the calendar), `weekday`, `days`, `cm`, ... or nothing."""


class Number(NamedTuple):
    """One number of a text."""

    readings: frozenset[Reading]
    thing: str
    """What is counted: the next word without its plural, or nothing."""
    weak: bool
    """`one`, `two`, `once`, `the third`: as often no number at all."""
    text: str
    rough: bool = False
    """Said to be rounded: `about 40`."""
    rate: bool = False
    """So much for each: `40 a day`."""
    span: tuple[int, int] = (0, 0)
    """Where it stands."""


def _counted_from(start: int, words: str) -> dict[str, int]:
    return {word: i for i, word in enumerate(words.split(), start=start)}


_ONES = _counted_from(
    0,
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen""",
)
_TENS = {w: 10 * i for w, i in _counted_from(2, "twenty thirty forty fifty sixty seventy eighty ninety").items()}
_SMALL = _ONES | _TENS | {"fiver": 5, "tenner": 10}
_SCALES = {"hundred": 100, "thousand": 1000, "grand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_ORDINALS = _counted_from(
    1,
    """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth
    sixteenth seventeenth eighteenth nineteenth""",
) | {w[:-1] + "ieth": v for w, v in _TENS.items()}
_PARTS = {"half": 2, "quarter": 4} | {w: v for w, v in _ORDINALS.items() if 3 <= v <= 12}
_PARTS |= {f"{w}s": v for w, v in _PARTS.items()} | {"halves": 2, "halve": 2, "halved": 2, "halving": 2}
_COUNTS = {"once": 1, "twice": 2, "thrice": 3}
_PAIRS = _counted_from(2, "both") | dict.fromkeys(("couple", "pair", "twins", "double"), 2)
_MONTHS = _counted_from(1, "january february march april may june july august september october november december")
_MONTHS |= {w[:3]: i for w, i in _MONTHS.items()} | {"sept": 9}
_ALSO_WORDS = frozenset({"may", "march", "mar", "jan", "dec", "jun"})
"""Months that are also words or names: read as months with a capital or beside a number."""
_DAYS = _counted_from(1, "monday tuesday wednesday thursday friday saturday sunday")
_DAYS |= {f"{w}s": i for w, i in _DAYS.items()}
_HALFDAYS = {"noon": 12, "midday": 12, "midnight": 0}

_UNIT_WORDS = {
    "%": "% percent", "$": "$ usd dollar dollars bucks buck 美元", "€": "€ eur euro euros 欧元",
    "£": "£ gbp pound pounds quid 英镑", "¥": "¥ yuan rmb cny 元 块钱 块 人民币 圆",
    "seconds": "second seconds sec secs 秒", "minutes": "minute minutes mins min 分钟",
    "hours": "hour hours hrs hr 个小时 小时 个钟头 钟头", "days": "day days 天",
    "weeks": "week weeks 个星期 星期 个礼拜 礼拜 周", "months": "month months 个月",
    "years": "year years yr yrs 年 岁", "decades": "decade decades", "fortnights": "fortnight fortnights",
    "cm": "cm centimeter centimeters centimetre centimetres 厘米 公分", "m": "m meter meters metre metres 米",
    "km": "km kilometer kilometers kilometre kilometres 公里 千米", "g": "g gram grams gramme grammes 克",
    "kg": "kg kilo kilos kilogram kilograms 公斤 千克", "jin": "斤", "times": "time times 次 回 遍",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split(" ")}
SAME = {
    "weeks": (7, "days"), "fortnights": (14, "days"), "days": (24, "hours"), "hours": (60, "minutes"),
    "minutes": (60, "seconds"), "years": (12, "months"), "decades": (10, "years"), "km": (1000, "m"), "m": (100, "cm"),
    "kg": (1000, "g"), "jin": (500, "g"),
}  # fmt: skip
_LARGE = 40
"""Digits of a number that nobody reads: a text."""


def _any(words: Iterable[str]) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


_L = r"[^\W\d_\u3400-\u9fff]"  # a letter
_W = r"[^\W\u3400-\u9fff]"  # a letter, a digit or `_`: Chinese words follow each other without spaces
_DIGITS = r"\d+(?:[.,']\d+)*"
_D = "零〇一二三四五六七八九两俩仨壹贰叁肆伍陆柒捌玖"
_S = "十拾百佰千仟万亿廿卅"
_HAN = rf"(?:(?:[{_D}](?=[{_D}][{_S}]))?(?:零?[{_D}]?[{_S}]{{1,2}}){{1,12}}零?[{_D}]?|[{_D}]+)"
_DAYPARTS = "凌晨|清晨|早上|早晨|上午|中午|下午|傍晚|晚上|夜里|深夜"
_MEASURES = (
    "个位名只条辆张件把台部间家口盆棵瓶袋箱拳脚下趟顿场笔份层楼本双套片根支枝颗粒滴杯碗盘包盒桶串排节课期集页封座栋扇幅匹头群批组级声句字人"
    "倍成折步圈号日月点时秒毛角元块圆斤克米公厘千天年岁周星礼小次回遍度道段盏针吨寸分"
)
"""What may stand behind a numeral of one character: without it, `四处` and `五金` are words."""
_HOUR = rf"(?:{_any(list(_ONES)[1:13])}|\d{{1,2}})"
_MINUTE = (
    rf"(?:a quarter|quarter|half|(?:{_any(_TENS)})(?:[ -](?:{_any(list(_ONES)[1:10])}))?|{_any(list(_ONES)[1:])}"
    r"|\d{1,2})"
)
_WORDS = _any({*_SMALL, *_SCALES, *_ORDINALS, *_PARTS})
_NUMBER = re.compile(
    rf"(?:(?=[\d{_D}{_S}第半星周礼])|(?<!{_W})(?={_L}))(?:"  # where one can begin: takes half the time
    rf"(?P<plate>(?<!{_W})(?:{_L}{{1,3}}-|{_L}{{1,12}})\d(?:{_W}|-)*)"
    rf"|(?P<past>\b{_MINUTE}(?: minutes?)? past\b(?: {_HOUR}\b)?|\b(?:(?:(?<=\bat )|(?<=\bby )|(?<=\btill )"
    rf"|(?<=\buntil )|(?<=\bsince )|(?<=\babout ))(?:{_MINUTE})(?: minutes?)?|(?:a )?quarter) to {_HOUR}\b(?! {_L}+s\b)"
    rf"|(?<=\bat )(?:{_any(list(_ONES)[1:13])})[ -](?:fifteen|(?:{_any(_TENS)})(?:[ -]five)?)\b)"
    rf"|(?P<clock>(?<![\d:])(?<!\d[.,])(?:\d{{1,2}}:\d\d(?!\d)|\d{{1,2}}\.\d\d(?= ?[ap]\.?m\b)))"
    rf"|(?P<date>\d{{1,4}}(?:[/-]\d{{1,4}}){{1,2}}(?!\d)|\d{{1,4}}\.\d{{1,4}}\.\d{{1,4}}(?![\d]))"
    rf"|(?P<hanclock>(?:\d{{1,2}}|{_HAN})(?:点|时(?=[\d{_D}{_S}]))(?![{_D}]+(?![{_D}{_S}分刻]))(?:半|[一三]刻|\d{{1,2}}分?|{_HAN}分?)?)"
    rf"|(?P<half>(?<![大小多夜])(?:一半|(?<!一)半(?=个?多?(?:小时|分钟|钟头|月|天|年|斤|公里|米|块|价|碗|瓶|杯))))"
    rf"|(?P<han>第?(?:(?:{_HAN}|百)分之)?(?:{_DIGITS}[万亿千百](?:\d(?![\d多]))?|(?![百千万亿]){_HAN}(?:点[{_D}]+)?))"
    rf"|(?P<digits>{_DIGITS}(?:(?:st|nd|rd|th|k|mn?|bn)(?!{_L}))?(?: and (?:a half|a quarter|three quarters)\b)?"
    rf"(?: (?:{_any(_SCALES)})\b)*)"
    rf"|(?P<words>\b(?:an? (?=(?:{_any({*_SCALES, *_PARTS})})\b))?(?:{_WORDS})\b"
    rf"(?:(?:[ -]| and (?:a )?| an? )(?:{_WORDS})\b){{0,12}})"
    rf"|(?P<named>\b(?:{_any({*_MONTHS, *_DAYS, *_HALFDAYS, *_COUNTS, *_PAIRS})})\b)"
    rf"|(?P<weekday>(?:星期|周|礼拜)[一二三四五六日天](?!个))"
    rf"|(?P<one>\ban? (?=(?:hour|day|week|month|year|minute|fortnight|decade|kilo|metre|meter)\b)))",
    re.IGNORECASE,
)
_LATIN_UNITS, _HAN_UNITS = (_any(w for w in _UNITS if (w[0] > "\u3000") == han) for han in (False, True))
_UNIT = re.compile(
    rf"[ -]?({_LATIN_UNITS})(?!{_L})|[多来]?({_HAN_UNITS})",
    re.IGNORECASE,
)
_OF_UNIT = re.compile(rf"(?: of)? an? ({_LATIN_UNITS})\b", re.IGNORECASE)
_AND_PART = re.compile(r" and (a half|a quarter|three quarters)\b", re.IGNORECASE)
_GAP = re.compile(r"(?: and )?|[ 零又]")
_THING = re.compile(rf"[ -]({_L}+)")
_MONEY = re.compile(r"(?:([$€£¥])|\b(usd|eur|gbp|rmb|cny)) ?$", re.IGNORECASE)
_HALFDAY = re.compile(
    r" ?(?:([ap])\.?m\b|(?:o'clock )?(?:(?:in the|at|this|that) )?(?:(morning)|(?:afternoon|evening|night|tonight))\b)",
    re.IGNORECASE,
)
_PART_BEFORE = re.compile(rf"({_DAYPARTS})(?:的|差不多|大概|快|将近|近|大约|约|还不到|不到)?$")
_MONTH = rf"(?:{_any(_MONTHS)})"
_DATE_BEFORE = re.compile(rf"\b{_MONTH}(?: the)? $", re.IGNORECASE)
_DATE_AFTER = re.compile(rf"(?: of)? {_MONTH}\b|[日号](?![子码])", re.IGNORECASE)
_HOUR_BEFORE = re.compile(r"\b(?:at|by|until|till|from|to|since) $", re.IGNORECASE)
_EACH_BEFORE = re.compile(r"(?:每|一)[^\W\d_]{1,2}$")
_EACH_AFTER = re.compile(rf" ?(?:{_L}+ )?(?:each|apiece|per|every|an? {_L}+)\b|一[^\W\d_]", re.IGNORECASE)
_ROUGH_BEFORE = re.compile(
    r"\b(?:about|around|roughly|approximately|nearly|almost|some|over|under|than|least|most|close to|circa|approx)\b"
    r"[^,.;]{0,12}$"
    r"|(?:约|近|超|余|大概|差不多|不到|不足|将近)[^，。；]{0,3}$",
    re.IGNORECASE,
)
_ROUGH_AFTER = re.compile(r"(?:[ -]\w+)? or so\b|[ -]odd\b|[^，。；]{0,2}(?:[多来余]|左右|上下)", re.IGNORECASE)


_NUMBER_WORDS = frozenset().union(_SMALL, _SCALES, _ORDINALS, _COUNTS, _MONTHS, _DAYS, _UNITS)


def is_number_word(word: str) -> bool:
    """Whether a word in lower case is a number, a unit, a month or a weekday."""
    return word in _NUMBER_WORDS


def read_numbers(text: str) -> list[Number]:
    """All numbers of a text, in time linear in its length; dates and times in their parts.

    Example:
        >>> [sorted(map(str, (v for v, _ in n.readings))) for n in read_numbers("three and a half thousand, 三千五")]
        [['3500'], ['3500']]
    """
    text = normalize(text).replace("per cent", "percent")
    found: list[Number] = []
    place = 0
    while match := _NUMBER.search(text, place):
        numbers, end = _READERS[str(match.lastgroup)](match)
        for number in numbers:
            if found and (whole := _together(found[-1], number, text)):
                found[-1] = whole
            else:
                found.append(number)
        place = max(end, match.start() + 1)
    return found


def _together(first: Number, second: Number, text: str) -> Number | None:
    """`an hour and fifty minutes`: one amount in two units, of which the first holds the second."""
    (start, gap), (after, end) = first.span, second.span
    if after - gap > 5 or not _GAP.fullmatch(text, gap, after):
        return None
    large, small = ({unit for _, unit in number.readings} - {""} for number in (first, second))
    readings = second.readings
    if not small and "hours" in large and text[end : end + 1] == "分":
        readings, small, end = frozenset((v, "minutes") for v, _ in readings), {"minutes"}, end + 1
    if not small or not small < large:
        return None
    sums = {
        (a + b, unit)
        for a, unit in first.readings
        for b, other in readings
        if unit == other and not (isinstance(a, str) or isinstance(b, str))
    }
    return first._replace(readings=frozenset(sums), weak=False, text=text[start:end].strip(), span=(start, end))


_Read: TypeAlias = tuple[list[Number], int]
"""The numbers at a place, and where they end."""


def _made(
    readings: Iterable[Reading], match: re.Match[str], end: int = 0, *, thing: str = "", weak: bool = False
) -> _Read:
    """A number with the conversions of its units."""
    start, end, text = match.start(), end or match.end(), match.string
    words = text[start:end].strip()
    before, after = _worded(text[max(0, start - 24) : start]), _worded(text[end : end + 24])
    rough = bool(
        (before and _ROUGH_BEFORE.search(text[max(0, start - 24) : start])) or (after and _ROUGH_AFTER.match(text, end))
    )
    rate = bool(
        (before and _EACH_BEFORE.search(text, max(0, start - 4), start)) or (after and _EACH_AFTER.match(text, end))
    )
    read = frozenset(readings) or frozenset[Reading]({(words, "")})  # what has no value is itself: `3.51,250 dozen`
    return [Number(_converted(read), thing, weak, words, rough, rate, (start, end))], end


def _worded(around: str) -> bool:
    """Whether a letter stands there: quick to tell, in a table of numbers."""
    return not around.isascii() or around.lower() != around.upper()


@lru_cache(maxsize=4096)
def _converted(readings: frozenset[Reading]) -> frozenset[Reading]:
    """The same in other units: shares as percentages, weeks as days."""
    found = set(readings)
    for value, unit in readings:
        if isinstance(value, str):
            continue
        if unit == "%":
            found.add((Fraction(value) / 100, ""))
        elif not unit and 0 < value < 1:
            found.add((value * 100, "%"))
        amount, name = value, unit
        while name in SAME:
            times, name = SAME[name]
            amount *= times
            found.add((amount, name))
    return frozenset(found)


def _finish(match: re.Match[str], end: int, values: Iterable[Value], *, weak: bool = False) -> _Read:
    """Read what stands around a number: its unit, the half of the day, what is counted."""
    text, start = match.string, match.start()
    values = list(values)
    plain = [v for v in values if not isinstance(v, str)]
    near = text[max(0, start - 16) : end + 16]
    if not (_worded(near) or "$" in near or "%" in near or _DECIMAL_TIME.fullmatch(match.group())):
        return _made({(v, "") for v in values}, match, end, weak=weak)
    if money := _MONEY.search(text, max(0, start - 5), start):
        return _made({(v, _UNITS[(money[1] or money[2]).casefold()]) for v in values}, match, end)
    below = bool(plain) and all(0 < v < 1 for v in plain)
    if (half := _HALFDAY.match(text, end)) and any(0 < v <= 12 and v == int(v) for v in plain):
        part = "am" if half[1] in {"a", "A"} or half[2] else "pm"
        times = [_times(int(v), 0, part) for v in plain if v == int(v)]
        return _made(set().union(*times), match, half.end() if half[1] else end)
    if found := _UNIT.match(text, end) or (_OF_UNIT.match(text, end) if below else None):
        unit, end = _UNITS[next(filter(None, found.groups())).casefold()], found.end()
        if more := _AND_PART.match(text, end):
            values, end = [v + _part(more[1]) for v in plain], more.end()
        elif unit == "¥" and text[end - 1] in "块元" and (change := _CHANGE.match(text, end)):
            values, end = [v + Fraction(_DIGIT[change[1]], 10) for v in plain], change.end()
        elif text[end : end + 1] == "半" and unit in {"years", "days", "jin"}:
            values, end = [v + Fraction(1, 2) for v in plain], end + 1
        year = unit == "years" and any(v >= 1000 for v in plain)
        return _made({(v, "" if year else unit) for v in values}, match, end, weak=weak and values == [1])
    month = text[end : end + 1] == "月"
    readings: set[Reading] = {(v, "month" if month else "") for v in values}
    if _DATE_BEFORE.search(text, max(0, start - 16), start) or _DATE_AFTER.match(text, end):
        readings |= {(v, "date") for v in plain if 0 < v < 32}
    elif _HOUR_BEFORE.search(text, max(0, start - 6), start):
        readings |= set().union(*(_times(int(v), 0) for v in plain if 0 < v <= 24 and v == int(v)))
    if (time := _DECIMAL_TIME.fullmatch(match.group())) and int(time[1]) < 24 and int(time[2]) < 60:
        readings |= _times(int(time[1]), int(time[2]))  # 7.25 may be a time
    return _made(readings, match, end + month, thing=_counted(text, end), weak=weak)


def _counted(text: str, place: int) -> str:
    """The next word without its plural; of Chinese the character behind the measure word."""
    if found := _THING.match(text, place):
        word = found[1].casefold()
        return "" if word in FUNCTION or is_number_word(word) else word.removesuffix("s")
    after, following = text[place : place + 1], text[place + 1 : place + 2]
    if not "\u4e00" <= after <= "\u9fff" or after in "点号日月成折分年时":
        return ""
    counted = after in _MEASURES and "\u4e00" <= following <= "\u9fff" and following not in "的了着在是和就都也不没"
    return following if counted else after


# --- times of the day, dates, names of days --------------------------------------------------------------------------


def _times(hour: int, minute: int, half: str = "") -> set[Reading]:
    """A time of the day, as minutes since midnight; of the full hour also the hour."""
    if half and hour <= 12:
        hours = {hour % 12 + (12 if half == "pm" else 0)}
    else:
        hours = {hour % 12, hour % 12 + 12} if 0 < hour <= 12 else {hour % 24}
    readings: set[Reading] = {(60 * h + minute, "clock") for h in hours}
    if not minute:
        readings |= {(hour, half)} | {(h, "") for h in hours if h > 12 or not half}
    return readings


def _half_around(text: str, start: int, end: int) -> str:
    """`am` or `pm`, where the text says it."""
    if part := _PART_BEFORE.search(text, max(0, start - 8), start):
        return {"下": "pm", "傍": "pm", "晚": "", "夜": "", "深": "", "中": ""}.get(part[1][0], "am")
    if after := _HALFDAY.match(text, end):
        return "am" if after[1] in {"a", "A"} or after[2] else "pm"
    return ""


def _at(match: re.Match[str], hour: int, minute: int) -> _Read:
    half = _half_around(match.string, match.start(), match.end())
    return _made(_times(hour, minute, half), match)


def _past(match: re.Match[str]) -> _Read:
    """`a quarter to four`, `half past three`, `five past`, `three thirty`."""
    words = match.group().casefold().replace("-", " ").split()
    turn = next((i for i, w in enumerate(words) if w in {"past", "to"}), None)
    if turn is None:
        return _at(match, _ONES[words[0]], sum(map(_below_hundred, words[1:])))
    minute = sum(map(_below_hundred, words[:turn]))
    if turn + 1 == len(words):
        return _made({(minute, ""), (minute, "past")}, match)
    hour = _below_hundred(words[-1])
    if not (0 < minute < 60 and hour <= 24):
        return _made({(minute, "")}, match)
    at = 60 * hour + (minute if words[turn] == "past" else -minute)
    return _at(match, at // 60, at % 60)


def _below_hundred(word: str) -> int:
    return int(word) if word.isdecimal() else {"quarter": 15, "half": 30}.get(word, _SMALL.get(word, 0))


def _clock(match: re.Match[str]) -> _Read:
    hour, minute = map(int, re.split("[:.]", match.group()))
    if hour > 24 or minute > 59:
        return _made({(hour, ""), (minute, "")}, match)
    return _at(match, hour, minute)


def _han_clock(match: re.Match[str]) -> _Read:
    hour, _, rest = match.group().replace("时", "点").partition("点")
    at = max(_han_values(hour), default=Fraction(99)) if hour[0] >= "\u3000" else int(hour)
    quarter = {"半": 30, "一刻": 15, "三刻": 45}.get(rest)
    told = rest.removesuffix("分")
    minute = quarter or (int(told) if told.isdecimal() else max(_han_values(told), default=0))
    if at > 24 or minute > 59:
        return _made({(v, "") for v in {at, minute}}, match)
    return _at(match, int(at), int(minute))


def _date(match: re.Match[str]) -> _Read:
    """The parts of `2024-03-03`; which of them is the month is a matter of the country. `3/4` is a share."""
    parts = [int(part) for part in re.split("[/.-]", match.group())]
    if len(parts) == 2 and "/" in match.group() and parts[0] < parts[1] <= 10:
        return _finish(match, match.end(), [Fraction(*parts)])
    made = [_made({(v, ""), *([(v, "month")] if 0 < v <= 12 else [])}, match)[0][0] for v in parts]
    return made, match.end()


def _named(match: re.Match[str]) -> _Read:
    word, text = match.group().casefold(), match.string
    if word in _HALFDAYS:
        return _made(_times(_HALFDAYS[word], 0) | {(12, "")}, match)
    if word in _DAYS:
        return _made({(_DAYS[word], "weekday")}, match)
    if word in _COUNTS:
        at_once = text[max(0, match.start() - 3) : match.start()].casefold() == "at "
        return _made({(_COUNTS[word], "" if at_once else "times")}, match, weak=True)
    if word in _PAIRS:
        return _made({(2, "")}, match, weak=True)
    before, after = text[max(0, match.start() - 3) : match.start()], text[match.end() : match.end() + 2]
    named = match.group()[0].isupper() and bool(before) and before.strip()[-1:] not in set('.!?"')
    sure = word not in _ALSO_WORDS or named or any(c.isdecimal() for c in before + after)
    return _made({(_MONTHS[word], "month")}, match, weak=not sure)


def _weekday(match: re.Match[str]) -> _Read:
    return _made({("一二三四五六日天".index(match.group()[-1]) + 1 - (match.group()[-1] == "天"), "weekday")}, match)


# --- digits and English words ------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _written(raw: str) -> frozenset[Value]:
    """What a token of digits may be: `1,250` is a thousand or a decimal, by the country."""
    raw = raw.replace("'", "")
    values = set()
    if len(raw) > _LARGE:
        return frozenset({raw})
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", raw):
        values.add(raw.replace(",", ""))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", raw):
        values.add(raw.replace(".", "").replace(",", "."))
    if raw.count(",") == 1 and "." not in raw:
        values.add(raw.replace(",", "."))
    if raw.count(".") <= 1 and "," not in raw:
        values.add(raw)
    return frozenset(_exact(v) for v in values) or frozenset({raw})


def _exact(digits: str) -> int | Fraction:
    whole, _, decimals = digits.partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals)) if decimals else int(whole)


def _digits(match: re.Match[str]) -> _Read:
    raw = _RAW.match(match.group())
    assert raw is not None
    values: list[Value] = list(_written(raw[1]))
    plain = [v for v in values if not isinstance(v, str)]
    suffix, rest = (raw[2] or "").casefold(), match.group()[raw.end() :].casefold()
    if suffix in {"st", "nd", "rd", "th"}:
        dates = {(v, "date") for v in plain if 0 < v < 32}
        return _made({(v, "") for v in values} | dates, match, match.start() + raw.end())
    times = {"k": 1000, "m": 10**6, "mn": 10**6, "bn": 10**9}.get(suffix, 1)
    for word in rest.split():
        times *= _SCALES.get(word, 1)
    if part := _AND_PART.match(rest):
        plain = [v + _part(part[1]) for v in plain]
    if times == 1 and not part:
        return _finish(match, match.end(), values)
    numbers, end = _finish(match, match.end(), [v * times for v in plain])
    if suffix == "m":  # 40m may be metres
        numbers = [n._replace(readings=n.readings | {(v, "m") for v in plain}) for n in numbers]
    return numbers, end


def _part(words: str) -> Fraction:
    """`a half`, `three quarters`."""
    count, _, part = words.casefold().partition(" ")
    return Fraction(_ONES.get(count, 1), _PARTS[part])


def _words(match: re.Match[str]) -> _Read:
    tokens = list(re.finditer("[a-z]+", match.group().casefold()))
    words = [token.group() for token in tokens]
    value, used, weak = _spelled(words)
    end = match.start() + tokens[used - 1].end()
    if value is None:
        return [], end
    after = _THING.match(match.string, end) if words[0] in {"a", "an"} and words[1] in _ORDINALS else None
    if after and after[1].casefold() not in FUNCTION | {"less", *_UNITS}:  # `a third of it`, but `a third man`
        return _made({(_ORDINALS[words[1]], "")}, match, end, weak=True)
    if words[used - 1] in _ORDINALS and value >= 1:
        return _made({(value, ""), (value, "th")}, match, end, weak=weak)
    return _finish(match, end, [value], weak=weak)


def _spelled(words: Sequence[str]) -> tuple[Fraction | None, int, bool]:
    """Read the number that a row of number words begins with: its value, how many words it has, whether it is weak."""
    first, at = words[0], 0
    total: int | Fraction = 0
    current: int | Fraction | None = None
    last = 0
    if first in {"a", "an"}:
        if words[1] in _PARTS:
            return Fraction(1, _PARTS[words[1]]), 2, False
        current, at = 1, 1
    elif _PARTS.get(first) == 2:
        if words[1:2] in (["a"], ["an"]) and words[2:3] and words[2] in _SCALES:
            return Fraction(_SCALES[words[2]], 2), 3, False
        return Fraction(1, 2), 1, False
    elif first in _ORDINALS:
        return Fraction(_ORDINALS[first]), 1, _ORDINALS[first] <= 3
    while at < len(words):
        word = words[at]
        small = _SMALL.get(word)
        if small is not None:
            if current is None:
                current = small
            elif total == 0 and 10 <= current < 100 and last >= 10 and small >= 10:
                current = current * 100 + small  # nineteen eighty-four
            elif (20 <= last < 100 and small < 10) or last == 100:
                current += small
            else:
                break
            last = small
        elif word in _SCALES and current is not None:
            current, last = current * _SCALES[word], 100
            if _SCALES[word] >= 1000:
                total, current = total + current, 0
        elif word in _ORDINALS and current is not None and last >= 20 and _ORDINALS[word] < 20:
            return Fraction(total + current + _ORDINALS[word]), at + 1, False
        elif word == "and" and current is not None and len(words) > at + 2 and words[at + 2] in _PARTS:
            current, at = current + _part(" ".join(words[at + 1 : at + 3])), at + 2
        elif word != "and" or current is None or last != 100 or words[at + 1] not in _SMALL:
            break
        at += 1
    if current is None:
        return None, 1, True
    following = words[at] if at < len(words) else ""
    if total == 0 and current < 20 and following in _PARTS and (following.endswith("s") or current == 1):
        return Fraction(current) / _PARTS[following], at + 1, False
    return Fraction(total + current), at, total + current <= 2


def _article(match: re.Match[str]) -> _Read:
    """`an hour`, which may be sixty minutes."""
    return _finish(match, match.end() - 1, [Fraction(1)], weak=True)


# --- Chinese -----------------------------------------------------------------------------------------------------

_DIGIT = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "俩": 2, "仨": 3}
_DIGIT |= {c: i for i, c in enumerate("壹贰叁肆伍陆柒捌玖", start=1)}
_SCALE = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000, "万": 10**4, "亿": 10**8}
_CHANGE = re.compile(f"([一二三四五六七八九])(?:[毛角]|(?![{_MEASURES}{_D}{_S}]))")
"""三块五, but not 三块一斤."""
_DECIMAL_TIME = re.compile(r"(\d{1,2})\.(\d\d)")
_RAW = re.compile(rf"({_DIGITS})(st|nd|rd|th|k|mn?|bn)?", re.IGNORECASE)


def _han(match: re.Match[str]) -> _Read:
    text, end = match.string, match.end()
    told = match.group()
    ordinal, told = told.startswith("第"), told.removeprefix("第")
    below, _, told = told.rpartition("分之")
    whole, _, decimals = told.partition("点")
    if len(told) > _LARGE:
        return _made({(told, "")}, match)
    values = _mixed(whole) if whole[0].isdecimal() else _han_values(whole)
    if decimals:
        values = [v + Fraction(int(d := "".join(str(_DIGIT[c]) for c in decimals)), 10 ** len(d)) for v in values]
    if below:
        by = {Fraction(100)} if below == "百" else _han_values(below)
        return _made({(v / b, "") for v in values for b in by if b}, match)
    if ordinal:
        return _made({(v, u) for v in values for u in ("", "th")}, match, weak=bool(values) and max(values) <= 3)
    if not values:
        return [], end
    if text[end : end + 1] in set("成折") and text[end + 1 : end + 2] not in set("为了功员长"):
        return _made({(v * 10, "%") for v in values}, match)
    if text.startswith("个半", end):
        values, end = [v + Fraction(1, 2) for v in values], end + 2
        if text[end : end + 1] == "月":
            return _made({(v, "months") for v in values}, match, end + 1)
    after = text[end : end + 1]
    counts = (
        len(whole) > 2
        or any(c in _SCALE for c in whole[1:])
        or (after in set(_MEASURES) and f"{whole}{after}" != "十分")
    )
    return _finish(match, end, values, weak=not counts or max(values) <= 2)


def _mixed(raw: str) -> list[Fraction]:
    """`3万5`, `1.2万`."""
    head, tail = (raw[:-1], int(raw[-1])) if raw[-1].isdecimal() else (raw, 0)
    scale = _SCALE[head[-1]]
    return [Fraction(v) * scale + tail * scale // 10 for v in _written(head[:-1]) if not isinstance(v, str)]


@lru_cache(maxsize=4096)
def _han_values(raw: str) -> frozenset[Fraction]:
    """The values of Chinese numerals: colloquial tails (三千五), digit by digit (二零二四), and `seven or eight`."""
    raw = raw.replace("廿", "二十").replace("卅", "三十")
    if not raw or raw in {"零", "〇"}:
        return frozenset()
    if all(c in _DIGIT for c in raw):
        digits = [_DIGIT[c] for c in raw]
        whole = frozenset({Fraction(int("".join(map(str, digits))))})
        if len(digits) != 2 or digits[0] == 0:
            return whole
        return whole | frozenset(map(Fraction, digits)) if digits[1] == digits[0] + 1 else frozenset()
    if len(raw) > 2 and raw[0] in _DIGIT and raw[1] in _DIGIT:  # 四五十
        return _han_values(raw[0] + raw[2:]) | _han_values(raw[1:])
    total = section = 0
    digit: int | None = None
    scale = 0
    for char in raw:
        if char in _DIGIT:
            digit = _DIGIT[char] or None
            continue
        scale = _SCALE[char]
        if scale < 10**4:
            section += (1 if digit is None else digit) * scale
        else:
            total, section = (total + section + (digit or 0)) * scale, 0
        digit = None
    if digit is not None:
        section += digit * (scale // 10 if raw[-2] not in "零〇" and scale >= 100 else 1)
    return frozenset({Fraction(total + section)})


def _half(match: re.Match[str]) -> _Read:
    """半个小时, 一半."""
    return _finish(match, match.end(), [Fraction(1, 2)])


_READERS = {
    "plate": lambda match: _made({(match.group().casefold(), "")}, match),
    "past": _past, "clock": _clock, "date": _date, "hanclock": _han_clock, "han": _han, "digits": _digits,
    "words": _words, "named": _named, "weekday": _weekday, "one": _article, "half": _half,
}  # fmt: skip
