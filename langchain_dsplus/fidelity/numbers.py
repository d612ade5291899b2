"""Reading the numbers of a text by value: digits, words, Chinese numerals, amounts, dates and times.

Every number has the readings that it may be meant by: `20 %` is also a fifth, `3 pm` is also 15, `2 weeks` are also 14
days, and `1,250` may be a thousand or a decimal. Two texts agree on a number where they share a reading.
"""

# ruff: noqa: RUF001, SIM905 - words are easier to read as text; Chinese punctuation is meant

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from langchain_dsplus.fidelity.sentences import FUNCTION, TOKEN, normalize

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
    """`one`, `once`, `second`, `both`: as often no number at all."""
    text: str
    before: str = ""
    """The characters in front of it, in lower case."""
    after: str = ""


_ONES = {
    w: i
    for i, w in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""".split()
    )
}
_HALFDAYS = {"noon": (12, 0), "midday": (12, 0), "midnight": (0, 0)}
_NOTES = {"fiver": 5, "tenner": 10}
_TENS = {w: 10 * i for i, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 1000, "grand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_ORDINALS = {
    w: i
    for i, w in enumerate(
        """first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
    fifteenth sixteenth seventeenth eighteenth nineteenth""".split(),
        start=1,
    )
} | {w[:-1] + "ieth": v for w, v in _TENS.items()}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4}
_COUNTS = {"once": 1, "twice": 2, "thrice": 3}
_PAIRS = frozenset({"both", "couple", "pair", "twins", "double"})
_AFTER_SHARE = FUNCTION | {"", "less"}
"""`a third of it`, `down by a third since`: but `a third man`."""
_ARTICLES = frozenset("the these those both our all their".split())
"""`the two argued`: two parties, and no number is meant."""
_MONTHS = {
    w: i
    for i, w in enumerate(
        "january february march april may june july august september october november december".split(),
        start=1,
    )
}
_MONTHS |= {w[:3]: i for w, i in _MONTHS.items()} | {"sept": 9}
_DAYS = {
    w: i for i, w in enumerate(["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], start=1)
}
_ALSO_WORDS = frozenset({"may", "march", "mar", "jan", "dec", "jun"})
"""Months that are also words or names: read as months beside a number or after `in`, `of`, `last`, ..."""
_BEFORE_DATE = frozenset(
    "in of on since until till last next this by early late mid from to and during before after".split()
)

_UNIT_WORDS = {
    "%": "% percent", "$": "$ usd dollar dollars bucks buck 美元",
    "€": "€ eur euro euros 欧元", "£": "£ gbp pound pounds quid 英镑",
    "¥": "¥ yuan rmb cny 元 块 块钱 圆 人民币", "am": "am a.m", "pm": "pm p.m",
    "seconds": "second seconds sec secs 秒", "minutes": "minute minutes mins min 分钟",
    "hours": "hour hours hrs hr 小时 个小时 钟头 个钟头",
    "days": "day days 天",
    "weeks": "week weeks 周 星期 个星期 礼拜 个礼拜", "months": "month months 个月", "years": "year years yr yrs 年 岁",
    "decades": "decade decades", "fortnights": "fortnight fortnights",
    "cm": "cm centimeter centimeters centimetre centimetres 厘米 公分", "m": "m meter meters metre metres 米",
    "km": "km kilometer kilometers kilometre kilometres 公里 千米", "g": "g gram grams gramme grammes 克",
    "kg": "kg kilo kilos kilogram kilograms 公斤 千克", "jin": "斤", "times": "time times 次 回 遍",
}  # fmt: skip
_UNITS = {word: unit for unit, words in _UNIT_WORDS.items() for word in words.split()}
_HAN_UNITS = sorted((w for w in _UNITS if ord(w[0]) > 0x3000), key=len, reverse=True)
_SAME = {
    "weeks": (7, "days"), "fortnights": (14, "days"), "days": (24, "hours"), "hours": (60, "minutes"),
    "minutes": (60, "seconds"),
    "years": (12, "months"), "decades": (10, "years"), "km": (1000, "m"), "m": (100, "cm"), "kg": (1000, "g"),
    "jin": (500, "g"),
}  # fmt: skip
_PAIR = re.compile(
    r"\btwo of (?:us|them|you)\b|\b(?:the|a) third part(?:y|ies)\b"
    r"|\bthird person\b"
    r"|\bone another\b|两人|两个人|俩人|两方|两边|两家|双方|第三方|第三者",
    re.IGNORECASE,
)
"""Two parties, and others: no number is meant."""
_HAN_IDIOM = re.compile(
    "十分(?!钟|之)|万一|千万(?![元块人])|四处|四周|四面|八方|再三|百般|万分|千方百计|百姓|万事|五金|五官|九牛一毛"
    "|乱七八糟|七上八下|三番五次|三番两次|不三不四|一五一十|五花八门|七嘴八舌|接二连三|丢三落四|三心二意|说三道四|隔三差五|一干二净"
    "|一清二楚|二话|三轮|五一(?![十百千万])|四川"
)
_HAN_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")}
_HAN_DIGITS |= {"〇": 0, "两": 2, "俩": 2, "仨": 3}
_HAN_DIGITS |= {c: i for i, c in enumerate("壹贰叁肆伍陆柒捌玖", start=1)}
_HAN_SCALES = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_HAN_BIG = {"万": 10**4, "亿": 10**8}
_TWO_NUMBERS = re.compile("[十百千万][二三四五六七八九一]一$")
_SMALL_CHANGE = re.compile(
    "([一二三四五六七八九])(?![零〇二三四五六七八九十百千万个天年月点号小斤次节人件只条份位])[毛角]?"
)
"""三块五: but not 三块一斤."""
_LARGE = frozenset("百千万亿")
_CLASSIFIERS = "个位名只条辆张件把台部间家口盆棵瓶袋箱"
_N = "零〇一二三四五六七八九十百千万亿两廿卅俩仨壹贰叁肆伍陆柒捌玖拾佰仟"
_HAN_WEEKDAY = re.compile("(?:星期|周|礼拜)([一二三四五六日天])(?!个)")
_HAN_NUMBER = re.compile(
    "(?P<hour>凌晨|清晨|早上|早晨|上午|中午|下午|傍晚|晚上|夜里|深夜)?(?P<ordinal>第)?"
    f"(?P<of>[{_N}]+分之)?(?P<number>(?<![\\d,.])\\d[\\d,.]{{0,20}}[万亿千百](?:\\d(?![\\d多]))?|[{_N}]+|(?<=[点时])半)(?:点(?P<decimal>[零〇一二三四五六七八九]+)(?!分))?"
    f"(?P<half>个半|半(?=[年月天小钟斤块公里])|(?<=[年月天斤])半)?"
)
_PM = frozenset({"afternoon", "evening", "night", "tonight"})
_LATE = frozenset({"下午", "傍晚", "晚上", "中午", "夜里", "深夜"})
_HALF_HAN = re.compile(
    "(?<![一大小多夜个])(?:一半|半(?=个?(?:多)?(?:小时|分钟|钟头|月|天|年|斤|公里|米|块|价|碗|瓶|杯)))"
)
_TOKEN = re.compile(
    r"(?P<money>[$€£¥])\s?(?=\d)"
    r"|(?P<plate>(?:[^\W\d_\u3400-\u9fff]{1,3}-|[^\W\d_\u3400-\u9fff]+)\d[\w-]*)"
    r"|(?P<digits>\d+(?:[.,:/'-]\d+)*)(?P<ordinal>(?:st|nd|rd|th)\b)?(?P<scale>k|m|mn|bn)?(?![^\W\d_\u3400-\u9fff])"
    r"|(?P<split>\d+)"
    r"|(?P<word>[^\W\d_\u3400-\u9fff]+(?:'[a-z]+)?)"
    r"|(?P<mark>[%$€£¥]|a\.m|p\.m)"
    r"|(?P<stop>[.!?;:,()\u3400-\u9fff\u3000-\u303f\uff00-\uffef]+)",
    re.IGNORECASE,
)


class _Token(NamedTuple):
    kind: str
    text: str
    match: re.Match[str]


def is_number_word(word: str) -> bool:
    """Whether a word in lower case is a number, a unit, a month or a weekday."""
    return any(word in words for words in (_ONES, _TENS, _SCALES, _ORDINALS, _COUNTS, _MONTHS, _DAYS, _UNITS)) or (
        word.removesuffix("s") in _DAYS
    )


def read_numbers(text: str) -> list[Number]:
    """All numbers of a text, in time linear in its length; dates and times in their parts.

    Example:
        >>> [sorted(map(str, (v for v, _ in n.readings))) for n in read_numbers("three and a half thousand, 三千五")]
        [['3500'], ['3500']]
    """
    text = _clocks(normalize(text))
    pairs = [Number(frozenset({(Fraction(2), "")}), "", weak=True, text=m.group()) for m in _PAIR.finditer(text)]
    text = _PAIR.sub(" , ", text)
    return [*pairs, *_english(text), *_chinese(text)]


# --- times of the day -----------------------------------------------------------------------------------------------


_HOURS = "|".join([*list(_ONES)[1:13], r"\d{1,2}"])
_SAID = "|".join([*list(_ONES)[1:], "twenty", "twenty-five"])
_MINUTES = rf"a quarter|quarter|half|(?:{_SAID})(?: minutes?)?|\d{{1,2}} minutes|[0-5]?[05]"
_PAST = re.compile(rf"\b({_MINUTES}) (past) ({_HOURS})\b", re.IGNORECASE)
_TO = re.compile(
    rf"(?:(?<=\bat )|(?<=\bby )|(?<=\btill )|(?<=\buntil )|(?<=\bsince )|(?<=\babout )|(?<=\baround )|(?<=\bwas )"
    rf"|(?<=\bonly )|(?=a? ?quarter))({_MINUTES}) (to) ({_HOURS})\b(?! \w+s\b)",
    re.IGNORECASE,
)
_SPOKEN = re.compile(
    rf"(?<=\bat )({'|'.join(list(_ONES)[1:13])})[ -](fifteen|thirty|forty-five|forty five|twenty|forty|fifty|ten)\b",
    re.IGNORECASE,
)
_HAN_N = "零〇一二两三四五六七八九十"
_DAY_PARTS = "凌晨|清晨|早上|早晨|清早|上午|中午|下午|傍晚|晚上|夜里|深夜"
_HAN_CLOCK = re.compile(
    f"(?P<h>(?<!\\d)\\d{{1,2}}|(?<![{_HAN_N}])[{_HAN_N}]{{1,3}})[点时](?:(?P<half>半)|(?P<q>[一三])刻"
    f"|(?P<m>\\d{{1,2}}分?|[零〇][一二三四五六七八九]分?|[{_HAN_N}]{{1,3}}分|[一二三四五]?十[一二三四五六七八九]?)|(?=[钟整]))"
)
_HAN_SHIFT = re.compile(f"朝([{_HAN_N}]{{1,2}})晚([{_HAN_N}]{{1,2}})")
_CLOCK = re.compile(r"(\d{1,2})[:.](\d\d)")
_PREFIX = re.compile(f"(?:{_DAY_PARTS})(?:的|差不多|大概|快|将近|近|大约|约|还不到|不到)?$")
_GLUED = re.compile(r"(\d)(?=[ap]\.?m\b)", re.IGNORECASE)
_COUPLE_OF = re.compile(r"\b(?:a )?couple (?:of )?(?=(?:hundred|thousand|grand|million|dozen)\b)", re.IGNORECASE)
_HALVED = re.compile(
    r"\ban? (hour|year|month|week|day|mile|meter|metre|kilo|kilometer|kilometre) and (a half|a quarter)\b"
)


def _clocks(text: str) -> str:
    """Times in words as digits: `a quarter to four`, `七点一刻`, `朝九晚六`."""
    text = _GLUED.sub(r"\1 ", text)  # 2.15pm
    text = _COUPLE_OF.sub("two ", text)
    text = _PAST.sub(lambda m: _time(m[3], m[1], 1) or m[0], text)
    text = _TO.sub(lambda m: _time(m[3], m[1], -1) or m[0], text)
    text = _SPOKEN.sub(lambda m: _time(m[1], m[2], 1) or m[0], text)
    text = _HALVED.sub(r"one and \2 \1", text)
    text = _HAN_SHIFT.sub(lambda m: f"早上{_small(m[1])}:00,晚上{_small(m[2])}:00", text)
    return _HAN_CLOCK.sub(_han_time, text)


def _time(hour: str, minutes: str, sign: int) -> str:
    words = minutes.casefold().removesuffix("s").removesuffix(" minute").split()
    minute = {"quarter": 15, "half": 30}.get(words[-1]) or _small(words[-1].replace("-", " "))
    at = 60 * _small(hour) + sign * minute
    return f"{at // 60}:{at % 60:02d}" if 0 <= at < 24 * 60 and minute < 60 else ""


def _small(word: str) -> int:
    """A number below a hundred in digits, in English or in Chinese."""
    if word.isdigit():
        return int(word)
    if word[0] >= "\u3000":
        return int(max(_han_values(word.lstrip("零〇")), default=Fraction(0)))
    return sum(_ONES.get(w.casefold(), _TENS.get(w.casefold(), 0)) for w in word.split())


def _han_time(match: re.Match[str]) -> str:
    hour = _small(match["h"])
    minute = 30 if match["half"] else {"一": 15, "三": 45}.get(match["q"] or "", 0)
    if match["m"]:
        minute = _small(match["m"].removesuffix("分"))
    return f"{hour}:{minute:02d} " if hour <= 24 and minute < 60 else match.group()


def _clock(tokens: Sequence[_Token], place: int, hour: int, minute: int) -> Number:
    """A time of the day, as minutes since midnight; of the full hour also the hour."""
    match = tokens[place].match
    near = [_word(tokens, i).replace(".", "") for i in range(place + 1, place + 5)]
    before = _PREFIX.search(match.string[max(0, match.start() - 8) : match.start()])
    part = before.group()[:2] if before else ""
    late = near[0] == "pm" or part in _LATE or (not part and not _PM.isdisjoint(near))
    early = near[0] == "am" or (bool(part) and not late)
    readings = _times(hour, minute, early=early, late=late)
    if not minute:
        readings |= {(Fraction(at, 60), "") for at, _ in readings if isinstance(at, int)}
        readings |= {(hour, "am" if early else "pm")} if early or late else set()
    return _made(readings, "", match, weak=False)


def _times(hour: int, minute: int, *, early: bool = False, late: bool = False) -> set[Reading]:
    """The minutes since midnight that a time may be."""
    halves = {hour + 12 * late} if early or late else {hour, hour + 12}
    return {
        (60 * (h % 24) + minute, "clock")
        for h in (halves if 0 < hour < 12 else {hour, hour % 12} if hour == 12 else {hour})
    }


# --- digits and English words ------------------------------------------------------------------------------------


def _english(text: str) -> Iterator[Number]:
    tokens = [
        _Token(str(m.lastgroup), m.group().casefold(), m)
        for m in _TOKEN.finditer(text.replace("per cent", "percent").replace("Per cent", "percent"))
    ]
    # `lastgroup` is the last named group that matched: of digits also their suffix.
    tokens = [t._replace(kind="digits") if t.kind in {"ordinal", "scale"} else t for t in tokens]
    tokens = [t for t in tokens if not (t.kind == "stop" and t.text == "-")]
    place = 0
    while place < len(tokens):
        found, place = _read_at(tokens, place)
        yield from found


def _word(tokens: Sequence[_Token], place: int) -> str:
    """The word there, or nothing."""
    return tokens[place].text if 0 <= place < len(tokens) and tokens[place].kind in {"word", "mark"} else ""


def _read_at(tokens: Sequence[_Token], place: int) -> tuple[list[Number], int]:
    token = tokens[place]
    if token.kind == "plate":
        return [_one({(token.text, "")}, token)], place + 1
    if token.kind in {"digits", "split"}:
        return _digits(tokens, place)
    if token.kind != "word":
        return [], place + 1
    word = token.text.removesuffix("'s")  # January's rent
    if word in _HALFDAYS:
        return [_made(_times(*_HALFDAYS[word]) | {(12, "")}, "", token.match, weak=False)], place + 1
    if word in _NOTES:
        return [_one({(Fraction(_NOTES[word]), "")}, token)], place + 1
    if word in _DAYS or (word.endswith("s") and word[:-1] in _DAYS):
        return [_one({(Fraction(_DAYS.get(word) or _DAYS[word[:-1]]), "weekday")}, token)], place + 1
    if word in _MONTHS:
        weak = word in _ALSO_WORDS and not _dated(tokens, place)
        return [_one({(Fraction(_MONTHS[word]), "month")}, token, weak=weak)], place + 1
    if word == "once" and _word(tokens, place - 1) == "at":
        return [], place + 1
    if word in _COUNTS:
        return [_one({(Fraction(_COUNTS[word]), "times")}, token, weak=True)], place + 1
    if word in _PAIRS:
        return [_one({(Fraction(2), "")}, token, weak=True)], place + 1
    minute = {"half": 30, "quarter": 15}.get(word) or _ONES.get(word) or _TENS.get(word)
    turn = place + 1 + (_word(tokens, place + 1) in {"minute", "minutes"})
    if minute and _word(tokens, turn) in {"past", "to"} and (word in _PARTS or not _word(tokens, turn + 1)):
        at = minute if tokens[turn].text == "past" else 60 - minute
        return [_one({(Fraction(at), ""), (Fraction(at, 60), ""), (Fraction(at), "past")}, token)], turn + 1
    value, end, weak = _spelled(tokens, place)
    if value is None:
        if word in {"a", "an"} and _word(tokens, place + 1) in _UNITS:
            return [_finish(tokens, place, place + 1, Fraction(1), weak=True)], place + 2
        return [], place + 1
    weak |= value == 2 and _word(tokens, place - 1) in _ARTICLES
    return [_finish(tokens, place, end, value, weak=weak)], end


def _one(readings: Iterable[Reading], token: _Token, *, weak: bool = False) -> Number:
    return _made(readings, "", token.match, weak=weak)


def _made(readings: Iterable[Reading], thing: str, match: re.Match[str], *, weak: bool, end: int = 0) -> Number:
    """A number with the conversions of its units, and what stands around it."""
    start, end, text = match.start(), end or match.end(), match.string
    around = text[max(0, start - 24) : start].casefold(), text[end : end + 16].casefold()
    return Number(_converted(frozenset(readings)), thing, weak, text[start:end].strip(), *around)


def _dated(tokens: Sequence[_Token], place: int) -> bool:
    near = [tokens[i].kind == "digits" for i in (place - 1, place + 1) if 0 <= i < len(tokens)]
    before = _word(tokens, place - 1)
    capital = tokens[place].match.group()[0].isupper()
    return (
        any(near)
        or before in _ORDINALS
        or _word(tokens, place + 1) in _ORDINALS
        or (before in _BEFORE_DATE and (capital or before in {"in", "since", "last", "of"}))
    )


def _spelled(tokens: Sequence[_Token], place: int) -> tuple[Fraction | None, int, bool]:
    """Read a number in words: its value, where it ends, and whether it is weak."""
    start = place
    word = _word(tokens, place)
    total = Fraction(0)
    if word in {"a", "an"} and _word(tokens, place + 1) in _SCALES:
        word, place = _word(tokens, place + 1), place + 1
    elif word in {"a", "an", "half", "halve", "halved"}:
        return *_one_part(tokens, place), False
    if word in _ORDINALS and word not in _TENS:
        return Fraction(_ORDINALS[word]), place + 1, _ORDINALS[word] <= 2
    current: Fraction | None = None
    last = 0
    while True:
        word = _word(tokens, place)
        if word in _ONES or word in _TENS:
            value = _ONES.get(word, _TENS.get(word, 0))
            if current is None:
                current = Fraction(value)
            elif 10 <= current < 100 and value >= 10 and total == 0 and last >= 10:
                current = current * 100 + value  # nineteen eighty-four
            elif (last >= 20 and value < 10) or last == 100:
                current += value
            else:
                break
            last = value
        elif word in _ORDINALS and current is not None and (last >= 20 or last >= 100) and _ORDINALS[word] < 20:
            return total + current + _ORDINALS[word], place + 1, False
        elif word in _SCALES and (current is not None or place > start or _word(tokens, place - 1) in {"a", "an"}):
            scale = _SCALES[word]
            current = (current if current is not None else Fraction(1)) * scale
            last = 100
            if scale >= 1000:
                total, current = total + current, Fraction(0)
        elif word == "and" and current is not None:
            extra, end = _part_after(tokens, place)
            if extra is not None:
                current += extra
                place = end
                if _word(tokens, place) in _SCALES:
                    current *= _SCALES[_word(tokens, place)]
                    place += 1
                return total + current, place, False
            if last == 100 and (_word(tokens, place + 1) in _ONES or _word(tokens, place + 1) in _TENS):
                place += 1
                continue
            break
        else:
            break
        place += 1
    if current is None:
        return None, start, False
    name = _word(tokens, place)
    single = name.removesuffix("s")
    if current < 20 and total == 0 and (name in _PARTS or single in _ORDINALS) and single not in {"second", "first"}:
        below = _PARTS.get(name) or _ORDINALS[single]
        if below > 1 and (name.endswith("s") or current == 1):
            return current / below, place + 1, False
    return total + current, place, total + current == 1


def _one_part(tokens: Sequence[_Token], place: int) -> tuple[Fraction | None, int]:
    """`a third`, `half a million`, `half`: how much, and where it ends."""
    after, following = place + 1, _word(tokens, place + 1)
    if _word(tokens, place) in {"a", "an"}:
        if following in _PARTS or (following in _ORDINALS and _word(tokens, place + 2) in _AFTER_SHARE):
            return Fraction(1, _PARTS.get(following) or _ORDINALS[following]), place + 2
        return None, place
    if following in {"a", "an"}:
        after, following = place + 2, _word(tokens, place + 2)
    return (Fraction(_SCALES[following], 2), after + 1) if following in _SCALES else (Fraction(1, 2), after)


def _part_after(tokens: Sequence[_Token], place: int) -> tuple[Fraction | None, int]:
    """`and a half`, `and three quarters` at a place: how much, and where it ends."""
    count, part = _word(tokens, place + 1), _word(tokens, place + 2)
    if part in _PARTS and (count in {"a", "one"} or count in _ONES):
        return Fraction(_ONES.get(count, 1), _PARTS[part]), place + 3
    return None, place


def _digits(tokens: Sequence[_Token], place: int) -> tuple[list[Number], int]:
    token = tokens[place]
    raw = token.match["digits"] or token.match["split"] or ""
    text, begin, stop = token.match.string, token.match.start(), token.match.end()
    if text[stop : stop + 1] in _LARGE or (len(raw) == 1 and text[begin - 1 : begin] in _LARGE):
        return [], place + 1  # 3万5: read with the Chinese numerals
    if len(raw) > 40:  # no number that anybody reads
        return [_one({(raw, "")}, token)], place + 1
    after = _word(tokens, place + 1)
    clock = after in {"am", "pm", "a.m", "p.m"}
    parts = re.split(r"[:/-]|(?<=\d)\.(?=\d+\.)", raw) if re.search(r"[:/-]|\.\d+\.", raw) else [raw]
    if clock and len(parts) == 1 and "." in raw:
        parts = raw.split(".")
    if len(parts) == 2 and "/" in raw and not clock and int(parts[1] or 0) in range(2, 11) and parts[0] < parts[1]:
        return [
            _one({(Fraction(int(parts[0]), int(parts[1])), "")}, token),
            *([_one({(Fraction(int(p)), "")}, token, weak=True) for p in parts]),
        ], place + 1
    time = _CLOCK.fullmatch(raw)
    if time and (":" in raw or clock) and int(time[1]) <= 24 and int(time[2]) < 60:
        return [_clock(tokens, place, int(time[1]), int(time[2]))], place + 1 + clock
    if len(parts) > 1:
        end = place + 1
        found = []
        for i, part in enumerate(p for p in parts if p):
            readings = set(_written(part))
            if i == 0 and clock:
                readings = _clocked(readings, after)
            if ":" not in raw:  # which part of a date is the month is a matter of the country
                readings |= {(v, "month") for v, _ in readings if not isinstance(v, str) and 1 <= v <= 12}
            found.append(_one(readings, token))
        return found, end + clock
    readings = set(_written(raw))
    if token.match["scale"]:
        times = {"k": 1000, "m": 10**6, "mn": 10**6, "bn": 10**9}[token.match["scale"].casefold()]
        readings = {(v * times, u) for v, u in readings if not isinstance(v, str)} | (
            {(v, "m") for v, _ in readings} if times == 10**6 else set()
        )
    end = place + 1
    if not token.match["ordinal"]:
        extra, after_part = _part_after(tokens, end) if after == "and" else (None, end)
        if extra is not None:
            readings, end = {(v + extra, u) for v, u in readings if not isinstance(v, str)}, after_part
        if _word(tokens, end) in _SCALES:
            readings = {(v * _SCALES[_word(tokens, end)], u) for v, u in readings if not isinstance(v, str)}
            end += 1
    return [_finish(tokens, place, end, readings, weak=False)], end


@lru_cache(maxsize=4096)
def _written(raw: str) -> frozenset[Reading]:
    """What a token of digits may be: `1,250` is a thousand or a decimal, by the country."""
    raw = raw.replace("'", "").strip(".,")
    values = set()
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", raw):
        values.add(raw.replace(",", ""))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", raw):
        values.add(raw.replace(".", "").replace(",", "."))
    if raw.count(",") == 1 and "." not in raw:
        values.add(raw.replace(",", "."))
    if raw.count(".") <= 1 and "," not in raw:
        values.add(raw)
    return frozenset((int(v) if v.isdigit() else Fraction(v), "") for v in values) or frozenset({(raw, "")})


def _clocked(readings: Iterable[Reading], half: str) -> set[Reading]:
    half = half.replace(".", "")[:2]
    readings = list(readings)
    found: set[Reading] = {(v, half) for v, _ in readings}
    if half == "pm":
        found |= {(v + 12, "") for v, _ in readings if not isinstance(v, str) and v < 12}
    return found


_NOT_COUNTED = frozenset(
    """of and or to in on at the a an for from by with than more less other i he she they we it was were is
    are that who""".split()
)


def _finish(tokens: Sequence[_Token], start: int, end: int, value: Fraction | set[Reading], *, weak: bool) -> Number:
    """Add the unit, what follows from it, and what is counted."""
    readings: set[Reading] = {(value, "")} if isinstance(value, (int, Fraction)) else set(value)
    after = _word(tokens, end)
    if after == "of" and _word(tokens, end + 1) in {"a", "an"}:  # three quarters of an hour
        after = _word(tokens, end + 2)
    unit = _UNITS.get(after, "")
    if not unit and tokens[end - 1].kind in {"digits", "split"}:
        match = tokens[end - 1].match
        unit, _ = _han_unit(match.string, match.end())
        if not unit and match.string[match.end() : match.end() + 1] == "月":
            unit = "month"
        if unit == "years" and max(v for v, _ in readings if not isinstance(v, str)) >= 1000:
            unit = ""
    if start and tokens[start - 1].kind == "money":
        unit = tokens[start - 1].text
    elif _word(tokens, start - 1) in {"usd", "eur", "gbp", "rmb", "cny"}:
        unit = _UNITS[_word(tokens, start - 1)]
    first, last = tokens[start].match, tokens[end - 1].match.end()
    if unit in {"am", "pm"}:
        return _made(_clocked(readings, unit), "", first, weak=False, end=last)
    near = [_word(tokens, i) for i in range(end, end + 4)]
    if not unit and not _PM.isdisjoint(near) and any(n in {"in", "at", "o'clock", "this", "that"} for n in near):
        readings |= {(v + 12, "") for v, _ in readings if not isinstance(v, str) and 0 < v < 12}
    if unit:
        readings = {(v, unit) for v, _ in readings}
    elif end == start + 1 and (time := _CLOCK.fullmatch(first.group())) and int(time[1]) < 24 and int(time[2]) < 60:
        readings |= _times(int(time[1]), int(time[2]))  # 7.25 may be a time
    thing = (
        ""
        if unit
        else _counted(tokens[end - 1].match.string, tokens[end - 1].match.end())
        if tokens[end - 1].kind in {"digits", "split"}
        else ""
    )
    if not unit and not thing and after.isalpha() and after not in _NOT_COUNTED:
        thing = after.removesuffix("s")
    return _made(readings, thing, first, weak=weak, end=last)


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
        while name in _SAME:
            times, name = _SAME[name]
            amount *= times
            found.add((amount, name))
    return frozenset(found)


# --- Chinese -----------------------------------------------------------------------------------------------------


def _chinese(text: str) -> Iterator[Number]:
    for match in _HAN_WEEKDAY.finditer(text):
        value = {"日": 7, "天": 7}.get(match[1]) or _HAN_DIGITS[match[1]]
        yield _made({(Fraction(value), "weekday")}, "", match, weak=False)
    rest = _HAN_IDIOM.sub("　", _HAN_WEEKDAY.sub("　", text))
    skip = 0
    for match in _HALF_HAN.finditer(rest):
        unit, _ = _han_unit(rest, match.end())
        yield _made({(Fraction(1, 2), unit)}, "", match, weak=False)
    for match in _HAN_NUMBER.finditer(rest):
        if match.start() < skip:
            continue
        found, skip = _han_at(rest, match)
        if found is not None:
            yield found


def _han_at(text: str, match: re.Match[str]) -> tuple[Number | None, int]:
    raw, end = match["number"], match.end()
    if _TWO_NUMBERS.search(raw) and end == match.end("number"):  # 两千八一年
        raw, end = raw[:-1], end - 1
    if raw == "半":
        return _made({(Fraction(30), ""), (Fraction(1, 2), "")}, "", match, weak=False), end
    if len(raw) > 40:
        return _made({(raw, "")}, "", match, weak=False), end
    if raw[0].isdigit():
        head, tail = (raw[:-1], raw[-1]) if raw[-1].isdigit() else (raw, "0")
        scale = _HAN_BIG.get(head[-1]) or _HAN_SCALES[head[-1]]
        values = {
            Fraction(v) * scale + int(tail) * scale // 10 for v, _ in _written(head[:-1]) if not isinstance(v, str)
        }
    else:
        values = set(_han_values(raw))
    if not values or text[match.start() : match.start() + 2] == "一半":
        return None, end
    if match["decimal"]:
        digits = "".join(str(_HAN_DIGITS[c]) for c in match["decimal"])
        values = {v + Fraction(int(digits), 10 ** len(digits)) for v in values}
    if match["of"]:
        below = {Fraction(100)} if match["of"] == "百分之" else _han_values(match["of"][:-2])
        values = {v / b for v in values for b in below if b}
        return _made({(v, "") for v in values}, "", match, weak=False), end
    if match["half"]:
        values = {v + Fraction(1, 2) for v in values}
    after = text[end : end + 1]
    if after in "成折" and after and text[end : end + 2] not in {"成为", "成了", "成功", "成员"}:
        return _made({(v * 10, "%") for v in values}, "", match, weak=False), end
    unit, stop = _han_unit(text, end)
    if unit == "¥" and (small := _SMALL_CHANGE.match(text, stop)) and text[stop - 1] in "块元":
        values = {v + Fraction(_HAN_DIGITS[small[1]], 10) for v in values}  # 三块五
        stop = small.end()
    if unit in {"years", "months", "days"} and text[stop : stop + 1] == "半":
        values = {v + Fraction(1, 2) for v in values}
        stop += 1
    readings: set[Reading] = {(v, unit if unit != "years" or v < 1000 else "") for v in values}
    if not unit and after == "月":
        readings = {(v, "months" if match["half"] else "month") for v in values}  # 一个半月
    if match["hour"] in _LATE:
        readings |= {(v, "pm") for v in values} | {(v + 12, "") for v in values if v < 12}
    elif match["hour"]:
        readings = {(v, "am") for v in values}
    thing = "" if unit else _counted(text, end)
    weak = values == {Fraction(1)} or (bool(match["ordinal"]) and max(values) <= 2)
    return _made(readings, thing, match, weak=weak, end=max(end, stop)), stop


def _han_unit(text: str, place: int) -> tuple[str, int]:
    if text[place : place + 1] < "\u3000":
        return "", place
    if text[place] in "多来":
        place += 1
    for word in _HAN_UNITS:
        if text.startswith(word, place):
            return _UNITS[word], place + len(word)
    return "", place


def _counted(text: str, place: int) -> str:
    """The Chinese word that a number before it counts: its first character."""
    after = text[place : place + 1]
    if not "\u4e00" <= after <= "\u9fff" or after in "点号日月成折分年时":
        return ""
    following = text[place + 1 : place + 2]
    return following if after in _CLASSIFIERS and "\u4e00" <= following <= "\u9fff" else after


@lru_cache(maxsize=4096)
def _han_values(raw: str) -> frozenset[Fraction]:
    """The values of Chinese numerals: colloquial tails (三千五), digit by digit (二零二四), and `seven or eight`."""
    raw = raw.replace("廿", "二十").replace("卅", "三十")
    if raw in {"零", "〇"} or (len(raw) == 1 and (raw in _HAN_BIG or raw in "百千佰仟")):
        return frozenset()
    if all(c in _HAN_DIGITS for c in raw):
        digits = [_HAN_DIGITS[c] for c in raw]
        whole = frozenset({Fraction(int("".join(map(str, digits))))})
        return whole | frozenset(map(Fraction, digits)) if len(digits) == 2 and digits[1] == digits[0] + 1 else whole
    total = section = 0
    digit: int | None = None
    scale = 0
    for char in raw:
        if char in _HAN_DIGITS:
            digit = _HAN_DIGITS[char] or None
            continue
        if char in _HAN_SCALES:
            scale = _HAN_SCALES[char]
            section += (1 if digit is None else digit) * scale
        else:
            scale = _HAN_BIG[char]
            total = (total + section + (digit or 0)) * scale
            section = 0
        digit = None
    if digit is not None:
        tail = raw[-2] not in "零〇" and scale >= 100
        section += digit * (scale // 10 if tail else 1)
    return frozenset({Fraction(total + section)})


# --- comparing ---------------------------------------------------------------------------------------------------

_COMPUTED = 72
"""Numbers of a text that arithmetic is tried with, in all pairs; and a quarter as many are explained by it."""
_SMALL = 12
"""Up to here a number counts things: a sum that happens to fit proves nothing, unless it is marked as one."""
_TOLERANCE = Fraction(1, 10)
_MONTH = 30
"""Days: six weeks are a month and a half, 半个月 is 15 days."""
_SUMMED = re.compile(
    r"\b(?:total|altogether|together|in all|in sum|sum|other|others|another|remaining|rest|left|more|fewer|less|each"
    r"|later|earlier|before|after|by)\b|[共总计合余剩另其每各差即值欠早晚多少后前]"
)
_ROUGHLY = re.compile(
    r"\b(?:about|around|roughly|approximately|nearly|almost|some|over|under|than|least|most|close to|circa|approx|or so"
    r"|odd)\b|约(?![定会好])|[近超余来多]|左右|上下|不到|不足|大概|差不多"
)
_LESS_BEFORE = re.compile(r"(?:差|少|短|多|还剩|剩下|余下)(?:了|付|收|拿|给)?的?$")
_LESS_AFTER = re.compile(
    r"^ ?(?:\w+ )?(?:less|fewer|more|extra|cheaper|late|later|earlier|longer|short|missing|left|remain)\b"
)
"""A difference that says that it is one."""
_EACH_BEFORE = re.compile(r"(?:每|一)[^\W\d_]{1,2}$|每[^\W\d_]{1,4}$")
_EACH_AFTER = re.compile(
    r"^ ?(?:\w+ )?(?:each|apiece|per|every|an? (?:night|day|week|month|year|hour|head|person|piece))\b"
)
"""So much for each."""
_CLAUSE = re.compile(r"[,;:，；：、。!?()\n]|\.(?= |$)")
_NEXT_DAY = re.compile(
    r"\b(?:next|following|previous) (?:day|morning|evening|night)\b|\bday (?:after|before)\b|\btomorrow\b|\byesterday\b"
    r"|\bovernight\b|第二天|次日|隔[天日]|转天|前一[天晚]|昨[天晚]|明天"
)
_MOMENTS = frozenset({"month", "weekday", "am", "pm", "clock", "hour", "date"})
_DATES = frozenset(range(1, 32))
_HOURS_OF_DAY = frozenset(range(1, 25))
_OTHERS = re.compile(r"\b(?:other|others|another)\b|另外?|其[他余它]")
_PEOPLE = frozenset({"people", "person", "人", "名", "位"})
"""`me and two friends` are three people."""
_SPANS = frozenset({"days", "hours", "minutes", "seconds"})
_LIST = re.compile(
    r"(?:, (?:(?:an?|the|my|his|her|their|two) )?[\w'-]{1,30}){1,12},? (?:and|or) (?=\w)|(?:、[^\W、]{1,12}){1,12}"
)
_COUPLE = re.compile(r"\b(?:[A-Z][a-z]+|me|I) and (?:[A-Z][a-z]+|me|I)\b")


class Numbers:
    """The numbers of a text, indexed: comparing two texts is linear."""

    def __init__(self, text: str) -> None:
        self.all = read_numbers(text)
        self.units: dict[Value, set[str]] = {}
        self.things: dict[str, set[Value]] = {}
        """What is counted -> the numbers of it."""
        self.placed: dict[tuple[str, ...], set[Reading]] = {}
        """The two words in front -> the numbers behind them."""
        self.uncounted: set[Value] = set()
        """The numbers that name no thing and no unit."""
        self.next_day = bool(_NEXT_DAY.search(text))
        self.listed: set[int] = set()
        """How many things are listed somewhere: `April, May and June`; of an apposition also one less."""
        for match in _LIST.finditer(text):
            items = (
                match.group().count("、") + 1 if "、" in match.group() else match.group().rstrip(", ").count(",") + 2
            )
            self.listed |= {items, max(items - 1, 3)}
        if _COUPLE.search(text):
            self.listed.add(2)
        for number in self.all:
            self._add(number)

    def _add(self, number: Number) -> None:
        for value, unit in number.readings:
            self.units.setdefault(value, set()).add(unit)
            if not unit and not number.thing and not number.weak:
                self.uncounted.add(value)
        for thing in _things(number):
            self.things.setdefault(thing, set()).update(v for v, _ in number.readings)
        if key := _key(number):
            self.placed.setdefault(key, set()).update(number.readings)

    def has(self, number: Number) -> bool:
        """Whether the same value stands here, under the same unit where both have one."""
        for value, unit in number.readings:
            if unit == "clock" and "past" in self.units.get(Fraction(value) % 60, ()):
                return True  # 8:05 for `at five past`
            units = self.units.get(value, set())
            moment = unit in {"weekday", "month", "clock"}
            if unit in units or ("" in units and not moment) or (not unit and units - {"weekday", "month", "clock"}):
                return True
        return False

    def added(self, other: Numbers) -> list[str]:
        """The numbers of another text that this one neither has nor implies."""
        sums = _Arithmetic(self, other)
        return [number.text for number in other.all if not self._supports(number, sums)]

    def _supports(self, number: Number, sums: _Arithmetic) -> bool:
        differs = self._counts_differently(number) or self._places_differently(number)
        if number.weak or (number.text.casefold() == "two" and number.thing):  # `Two colleagues`: the parties
            return not differs
        if self.has(number):
            sums.know(number)
            return not differs
        return sums.implies(number, counted=differs)

    def _counts_differently(self, number: Number) -> bool:
        """Whether the same thing is counted here, and never with this number; `50 each` may be 50 of anything."""
        values = {v for v, _ in number.readings}
        if number.thing in _PEOPLE:
            values |= {v - 1 for v in values if not isinstance(v, str)}
        if not number.weak and not values.isdisjoint(self.uncounted):
            return False
        return any(values.isdisjoint(self.things.get(thing, values)) for thing in _things(number))

    def _places_differently(self, number: Number) -> bool:
        """Whether the same two words stand here in front of another number of the unit: `hot water for eleven days`."""
        there = self.placed.get(_key(number), set())
        units = {u for _, u in number.readings}
        return bool(there) and there.isdisjoint(number.readings) and {u for _, u in there} >= units

    def kept(self, other: Numbers) -> tuple[int, list[str]]:
        """How many of this text's numbers there are, and those that another text lost."""
        firm = [number for number in self.all if not number.weak]
        return len(firm), [number.text for number in firm if not other.has(number)]


def _things(number: Number) -> set[str]:
    """What a number counts: `times` is a thing like any other, an ordinal or an article counts nothing."""
    if number.weak and number.text.casefold() in _NO_COUNT:
        return set()
    return ({number.thing} if number.thing else set()) | (
        {"times"} if any(u == "times" for _, u in number.readings) else set()
    )


def _key(number: Number) -> tuple[str, ...]:
    """The two words in front of a number, where one of them says something."""
    return () if number.weak else _last_two(number.before)


@lru_cache(maxsize=1 << 14)
def _last_two(before: str) -> tuple[str, ...]:
    words = tuple(TOKEN.findall(_CLAUSE.split(before)[-1]))[-2:]
    if len(words) < 2 or words[1] in {"a", "an", "the"} or all(word in FUNCTION for word in words):
        return ()
    return words


_NO_COUNT = frozenset("a an first second 1st 2nd both pair couple double twins 第一 第二 一".split())


def _digits_of(value: Fraction) -> int:
    """How many digits a number has, without the zeros at its ends."""
    return len(f"{float(value):.6g}".replace(".", "").strip("0"))


class _Arithmetic:
    """What follows from the numbers of a text: sums and differences, spans, products, shares, lists, roundings."""

    def __init__(self, source: Numbers, rewrite: Numbers) -> None:
        self.listed = source.listed
        self.rewrite = rewrite
        self.known: dict[Reading, None] = {}
        self.rates: set[Reading] = set()
        self.left = _COMPUTED // 4
        for number in source.all[:_COMPUTED]:
            self.know(number)
        if source.next_day:
            self.known[Fraction(1), "next day"] = None

    def know(self, number: Number) -> None:
        if _EACH_BEFORE.search(number.before) or _EACH_AFTER.search(number.after):
            self.rates |= number.readings
        if len(self.known) < _COMPUTED and not number.weak:
            self.known |= {(v, u): None for v, u in number.readings if not isinstance(v, str)}
            if not number.thing:
                self.known |= {(v, "date"): None for v, u in number.readings if not u and v in _DATES}
                self.known |= {(60 * v, "hour"): None for v, u in number.readings if not u and v in _HOURS_OF_DAY}

    def implies(self, number: Number, *, counted: bool) -> bool:
        """Whether a number follows.

        Args:
            number: Of the rewrite; the source does not have it.
            counted: Whether the source counts the same thing with another number: then no sum excuses it.
        """
        if self.left <= 0:
            return False
        self.left -= 1
        around = f"{_CLAUSE.split(number.before[-16:])[-1]}|{_CLAUSE.split(number.after[:12])[0]}"
        near = bool(_LESS_BEFORE.search(number.before) or _LESS_AFTER.search(number.after))
        marked, rough = near or bool(_SUMMED.search(around)), bool(_ROUGHLY.search(around))
        # In its own unit: of 17 days not the minutes.
        spans = [v for v, u in number.readings if not isinstance(v, str) and u in {*_SAME, "seconds"}]
        plain = [v for v, _ in number.readings if not isinstance(v, str)]
        large = min(spans, default=max(plain, default=0)) > max(_DATES)
        for value, unit in number.readings:
            if isinstance(value, str):
                continue
            if (
                (not counted and value in self.listed and unit in {"", "times"})
                or (_OTHERS.search(number.before[-8:]) and (value + 1, unit) in self.known)
                or (rough and self._rounded(Fraction(value), unit))
                or self._as_months(Fraction(value), unit)
                or (
                    (not counted or marked)
                    and self._follows(
                        Fraction(value), unit, marked=marked, free=near or (marked and large), rough=rough
                    )
                )
            ):
                self.know(number)
                return True
        return False

    def _as_months(self, value: Fraction, unit: str) -> bool:
        """Whether it is a number of the source in months instead of days or weeks, or the other way round."""
        for v, other in self.known:
            if {unit, other} == {"months", "days"}:
                months, days = (value, Fraction(v)) if unit == "months" else (Fraction(v), value)
                if abs(_MONTH * months - days) * 14 <= days:
                    return True
        return False

    def _rounded(self, value: Fraction, unit: str) -> bool:
        """Marked as rounded, round, and near to a number of the source that has as many digits or more."""
        digits = _digits_of(value)
        return digits <= 2 and any(
            digits <= _digits_of(Fraction(v)) and abs(Fraction(v) - value) <= _TOLERANCE * abs(Fraction(v))
            for v, u in self.known
            if v and u == unit
        )

    @staticmethod
    def _is_share(value: Fraction, unit: str) -> bool:
        return unit == "%" or (not unit and 0 < value < 1)

    def _shown(self, value: Value) -> bool:
        return value in self.rewrite.units

    def _follows(self, value: Fraction, unit: str, *, marked: bool, free: bool, rough: bool) -> bool:
        share = self._is_share(value, unit)
        if unit == "%" and any(two == "%" and abs(Fraction(b) - value) <= Fraction(1, 2) for b, two in self.known):
            return True  # a third is 33 %
        if share and any(self._is_share(Fraction(v), u) and not self._shown(v) for v, u in self.known):
            return False  # the source's own share was replaced
        for a, one in self.known:
            for b, two in self.known:
                if (a, one) == (b, two) and not share and one not in _MOMENTS:
                    continue
                part_of = self._is_share(Fraction(b), two)  # `40 % of the 1,500`: 600 of 1,500
                rate = (a, one) in self.rates and value == Fraction(a) * Fraction(b)  # `seventy quid each`: 140
                any_of = free or rate or share or part_of or one in _MOMENTS or self._shown(a) == self._shown(b)
                if any_of and self._pair(
                    value, unit, (Fraction(a), one), (Fraction(b), two), marked=marked, rough=rough, share=share
                ):
                    return True
        return False

    def _pair(
        self,
        value: Fraction,
        unit: str,
        one: tuple[Fraction, str],
        two: tuple[Fraction, str],
        *,
        marked: bool,
        rough: bool,
        share: bool,
    ) -> bool:
        (a, ua), (b, ub) = one, two
        if ua in _MOMENTS or ub in _MOMENTS:
            if {ua, ub} <= {"clock", "hour"}:
                return unit == "minutes" and (a - b) % 720 == value % 720 and value <= 1440
            if "next day" in {ua, ub}:
                days = 7 if unit == "weekday" else 400
                moved = ua == (unit or "date") and abs(a - value) % days in {1, days - 1}
                return moved and unit in {"weekday", ""}
            if ua == ub == "weekday":
                return unit == "days" and (a - b) % 7 == value
            if ua == ub == "month":
                return unit == "months" and (a - b) % 12 in {value, value - 1}
            if ua == ub == "date":
                return unit in {"days", "weeks"} and value == a - b
            return unit == "clock" and ua == "clock" and ub == "minutes" and value in {(a + b) % 1440, (a - b) % 1440}
        if share:
            near = Fraction(1, 20) if rough else Fraction(1, 200)
            return (
                bool(b)
                and "%" not in {ua, ub}
                and (ua in {ub, ""} or not ub)
                and a < b
                and abs(a / b - (value / 100 if unit == "%" else value)) <= near
            )
        if value <= _SMALL and not marked:
            return ua == ub == unit and unit in _SPANS and value == a - b
        alike = ua == ub or (marked and "" in {ua, ub})  # `ten days. It took nineteen.`
        known = {ua, ub} <= {unit, ""} or (not unit and "" in {ua, ub})
        if alike and known and unit != "times" and value in {a + b, a - b}:
            return True
        if ua not in {unit, ""} or value <= _SMALL or unit in _SPANS:
            return False
        whole = b.denominator == 1 and 1 < b <= 400 and (ub != unit or not unit)
        part = (ub == "%" and a * b / 100) or (not ub and 0 < b < 1 and a * b)
        return (whole and value in {a * b, a / b}) or bool(part and value in {part, a - part, a + part})
