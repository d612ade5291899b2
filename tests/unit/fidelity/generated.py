"""Pairs of an account and its rewrite, drawn by a seed: honest ones, and ones with a fault in a number, name or verdict."""

# ruff: noqa: RUF001 - Chinese punctuation is meant; a text is one line

import random

from tests.unit.fidelity.test_numbers import in_chinese, in_english

FRAMES = {
    "en": [
        (
            "I rented a room from {A} from March to September, {p} euros a month. {B} from next door had a key. In July somebody broke the mirror in the hall. I had a cold that week, by the way. {A} kept {d} of my {D} deposit and wrote to me on the {k}th. I asked {B} for help and she gave me a drill, and I took the lamp from the ceiling.",
            [
                "{A} kept {d} of the {D} deposit after a mirror broke. The narrator asked {B} for help and took the lamp.",
                "The narrator paid {p} euros a month. {A} kept {d} euros of the deposit and paid back {D-d}. {B} gave the narrator a drill.",
                "{A} kept the narrator's deposit and wrote on the {k}th. {B} had a key.",
            ],
            ["{A} kept", "{B} gave", "{B} had"],
        ),
        (
            "{A} lent me his trailer for {n} days, at {p} dollars a day. On the way back {B} drove into it at the lights, at {t} in the evening. I waited an hour and {m} minutes for the police. {A} says the repair costs {D}. I offered {d} in April and {d} again in May. I like dogs. {B} laughed at me and drove away.",
            [
                "{A} lent the narrator a trailer for {n} days. {B} drove into it. The narrator waited {60+m} minutes for the police. The repair costs {D} dollars, and the narrator offered {d} twice, in April and May.",
                "The narrator rented {A}'s trailer for {n*p} dollars in all. {B} drove into it at {t} and drove away. The narrator offered {d+d} altogether.",
                "{B} laughed at the narrator, who waited for the police. The repair costs {D}, says {A}.",
            ],
            ["{B} drove", "{A} lent", "{B} laughed"],
        ),
        (
            "We were {n} people at the table. {A} ordered wine for {p} and fish for {q}, and {B} ordered only soup. The bill was {D}. {A} wanted to split it. I paid {d} and left at {t}. My aunt cooks better than they do. {B} called the waiter and {A} threw a glass on the floor.",
            [
                "{A} ordered wine for {p} and fish for {q}; {B} ordered soup. Of the {D} the narrator paid {d} and left. {A} threw a glass on the floor.",
                "There were {n} people. {A} ordered wine and fish, together {p+q}. The bill came to {D}, of which {D-d} was left after the narrator had paid. {B} called the waiter.",
                "The bill was {D}. The narrator paid {d} and went home at {t}. {A} threw a glass.",
            ],
            ["{A} threw", "{B} called", "{A} ordered"],
        ),
        (
            "My dog ran into {A}'s garden on the {k}th and dug up {n} roses, tulips and a small tree. {A} shouted that he would shoot it. {B} filmed everything with her phone. I had slept for {m} minutes. {A} wants {D} for the plants, the vet took {p} and the fence cost {q}. I think {A} should have closed the gate.",
            [
                "The narrator's dog dug up {n} roses in {A}'s garden on the {k}th. {A} shouted; {B} filmed it. {A} wants {D} for the plants.",
                "The dog dug up plants. {A} demands {D}. The vet and the fence cost {p+q} together. {B} filmed everything with a phone.",
                "{A} demands {D} for plants that the narrator's dog dug up. The narrator thinks that {A} should have closed the gate.",
            ],
            ["{B} filmed", "{A} shouted", "{A} demands"],
        ),
        (
            "I have worked with {A} for {n} years. On Tuesday and on Friday he took my seat in the office. {B} told me that he had asked for it. I wrote {k} mails about it. {B} moved my screen to the other room and {A} deleted my files. It cost me {m} hours and a bonus of {D}. I cried in the kitchen.",
            [
                "{A} took the narrator's seat twice, on Tuesday and Friday. {B} moved the screen to the other room, and {A} deleted the files. The narrator lost {m} hours and {D}.",
                "The narrator wrote {k} mails about the seat. {A} deleted files and {B} moved the screen. The narrator lost a bonus of {D}.",
                "After {n} years with {A} there was a row about a seat. {B} said that he had asked for it.",
            ],
            ["{A} took", "{B} moved", "{A} deleted"],
        ),
        (
            "My cousin {A} sold me her car for {D}, and said it had new brakes. After {n} weeks the brakes failed. {B}, the mechanic, found rust and asked {p} for the parts plus {q} for the work. I was on holiday for {k} days before. {A} refused to pay and blocked my number. {B} kept the car until I paid him.",
            [
                "{A} sold the narrator a car for {D}. After {n} weeks the brakes failed. {B}, the mechanic, found rust. {A} refused to pay.",
                "The brakes failed {7*n} days after {A} had sold the car. {B} charged {p+q} in total for parts and work and kept the car until he was paid.",
                "{A} refused to pay and blocked the narrator. {B} kept the car. The car had cost {D}.",
            ],
            ["{B} kept", "{A} sold", "{A} refused"],
        ),
    ],
    "zh": [
        (
            "我在{A}那里租房，每月{p}元，押金{D}元。{k}号我退房，{A}说墙上有印子，扣了我{d}元。其实印子早就有了。{B}是隔壁邻居，帮我搬了沙发，还拍了照片。那天我有点感冒。我骂了{A}，把钥匙扔在桌上。",
            [
                "叙述者租{A}的房子，押金{D}元。退房时{A}扣了{d}元，退回{D-d}元。{B}帮忙搬了沙发。",
                "{k}号退房时，{A}称墙上有印子，扣了{d}元。叙述者骂了{A}。{B}拍了照片。",
                "叙述者每月付{p}元租金。{A}扣了部分押金，叙述者把钥匙扔在桌上。",
            ],
            ["{A}扣了", "{B}拍了", "{B}帮忙"],
        ),
        (
            "{A}向我借了{D}元，说{n}个月还。十一月和十二月我各催了一次，{A}只还了{d}元。{B}是我同事，劝我算了。我平时很大方。我等了一个小时{m}分钟，{A}没来，{B}请我吃了面。",
            [
                "{A}借了叙述者{D}元，约定{n}个月还。叙述者在十一月和十二月催了两次，{A}还了{d}元，还欠{D-d}元。",
                "{B}劝叙述者算了。{A}只还了{d}元。叙述者等了{60+m}分钟，{A}没有来。",
                "{A}没有按时还{D}元。叙述者催过他，{B}请叙述者吃了面。",
            ],
            ["{A}借了", "{B}请", "{B}劝"],
        ),
        (
            "上周三我在{A}的店里买了{n}箱苹果，每箱{p}元，回家发现烂了{k}个。{A}不肯退，说我放坏了。{B}是店员，悄悄给了我{q}元。我住得远，来回要{m}分钟。{A}关了店门，我踢了一脚门。",
            [
                "叙述者在{A}的店里买了{n}箱苹果，一共{n*p}元，烂了{k}个。{A}不肯退。店员{B}给了{q}元。",
                "{A}不愿退货，关了店门，叙述者踢了门。苹果每箱{p}元。",
                "叙述者上周三买的苹果有{k}个烂的，{A}说是叙述者放坏的。",
            ],
            ["{A}关了", "{A}不肯", "{B}给了"],
        ),
        (
            "{A}和我合租了{n}年。这个月水费{p}元，电费{q}元，{A}不想分。{B}来住了{k}天，用了我的锅，还打碎了碗。我喜欢安静。{A}晚上{t}还在唱歌，{B}录了像。房租一共{D}元，我先付了{d}元。",
            [
                "{A}和叙述者合租了{n}年，水电费共{p+q}元，{A}不想分。{B}打碎了碗。",
                "{B}住了{k}天，用了叙述者的锅。{A}晚上{t}唱歌，{B}录了像。",
                "房租{D}元，叙述者付了{d}元。{A}不愿分摊水费{p}元和电费{q}元。",
            ],
            ["{B}录了", "{B}打碎", "{A}不想"],
        ),
        (
            "我开车送{A}去车站，路上{B}的电动车撞了我的车门。修门要{D}元，{B}只肯出{d}元。{A}在旁边说我开得快，时速有{m}。警察过了{k}分钟才来。我那天没吃早饭。{B}推了我一下，{A}拉住了他。",
            [
                "{B}的电动车撞了叙述者的车门，修理要{D}元，{B}只肯出{d}元。{A}说叙述者开得快。",
                "警察{k}分钟后才到。{B}推了叙述者，{A}拉住了他。差额是{D-d}元。",
                "{B}撞了车门，推了叙述者。修车要{D}元。",
            ],
            ["{B}推了", "{A}拉住", "{B}撞了"],
        ),
    ],
}
NAMES = {
    "en": "Tomas Ingrid Kemal Yvonne Hassan Theresa Ben Samir Marisol Norman Andrea Wasim Dorota Grace Oskar Priya".split(),  # noqa: SIM905
    "zh": "王丽 赵敏 小周 老孙 周建国 黄志远 林小雨 小滕 陈老师 刘先生 阿强 高洁 何晓东 欧阳明".split(),  # noqa: SIM905
}
VERDICTS = {
    "en": [
        "The fault lies with {A}.", "{A} should give the money back.", "{A} owes the narrator an apology.",
        "{A} has to make up for it.", "It is {A} who is to blame.", "The narrator is entitled to the full amount.",
        "{A} must bear the costs.", "The narrator had every right to react like this.", "{A} ought to answer for this.",
        "Legally the matter is clear: {A} is liable.", "The narrator acted unreasonably.", "{A} needs to return everything.",
        "The responsibility rests with {A} alone.", "The damage is to be paid by {A}.", "What {A} did was not acceptable.",
        "The narrator has a duty to explain this.",
    ],
    "zh": [
        "这件事是{A}的责任。", "{A}应该把钱退回来。", "{A}理应道歉。", "错在{A}。", "叙述者有权要回全部的钱。", "{A}必须承担损失。",
        "主要责任在{A}。", "{A}有义务说明情况。", "叙述者做得不对。", "{A}应当补偿叙述者。", "{A}无权这么做。", "这是{A}的过错。",
        "{A}须赔付全款。", "叙述者没有错。",
    ],
}  # fmt: skip


def _writings(value, lang, rng):
    forms = (
        [str(value), f"{value:,}"]
        if lang == "en"
        else [str(value), in_chinese(value) if value < 10_000 else f"{value}"]
    )
    if lang == "en" and value < 1000:
        forms.append(in_english(value))
    return rng.choice(forms)


def _clock(value, lang):
    hour, minute = divmod(value, 60)
    return f"{hour}:{minute:02}" if lang == "en" else f"{hour}点{minute}分"


def _fill(template, values, lang, rng):
    """Put names and numbers in; `{D-d}` is reckoned."""
    for name in ("A", "B"):
        template = template.replace("{" + name + "}", values[name])
    parts = template.split("{")
    text = parts[0]
    for part in parts[1:]:
        slot, _, rest = part.partition("}")
        value = 0
        for term in slot.replace("-", "+-").split("+"):
            product = 1
            for factor in term.removeprefix("-").split("*"):
                product *= int(factor) if factor.isdecimal() else values[factor]
            value += -product if term.startswith("-") else product
        written = _clock(value, lang) if slot == "t" else _writings(abs(value) or 1, lang, rng)
        if rest.startswith(("th", " in the evening")) and slot != "t":
            written = str(value)
        text += written + rest
    return text


def _values(rng, lang):
    first, second = rng.sample(NAMES[lang], 2)
    whole = rng.randrange(600, 4000, rng.choice([10, 50]))
    return {
        "A": first, "B": second, "D": whole, "d": rng.randrange(110, whole // 2, 10), "p": rng.randrange(31, 300),
        "q": rng.randrange(31, 300), "n": rng.randrange(3, 10), "k": rng.randrange(11, 20), "m": rng.randrange(21, 59),
        "t": 60 * rng.randrange(6, 12) + rng.choice([10, 15, 25, 40]),
    }  # fmt: skip


def _changed(value, name, rng):
    """Another value that somebody might write by mistake."""
    if name == "t":
        return value + rng.choice([60, -60, 15, 30])
    near = [value + 1, value - 1, 2 * value, value + 10, value * 3 // 2, int(str(value)[::-1]), value + 100]
    return rng.choice([v for v in near if v not in {value, 0} and (name != "k" or 10 < v < 21)])


def draw(kind, lang, rng):
    """A source and its rewrite, of a kind; None where the frame has nothing to change."""
    source, honest, frames = rng.choice(FRAMES[lang])
    values = _values(rng, lang)
    told = _fill(source, values, lang, rng)
    rewrite = rng.choice(honest)
    if kind == "changed_number":
        slots = [s for s in "Ddpqnkmt" if "{" + s + "}" in rewrite]
        if not slots:
            return None
        slot = rng.choice(slots)
        values = values | {slot: _changed(values[slot], slot, rng)}
    elif kind == "verdict":
        judged = rng.choice(VERDICTS[lang])
        rewrite += ("" if lang == "zh" else " ") + judged
    elif kind in {"other_name", "other_name_lower"}:
        new = rng.choice([n for n in NAMES[lang] if n not in {values["A"], values["B"]}])
        which = rng.choice([s for s in "AB" if "{" + s + "}" in rewrite])
        values = values | {which: new}
    elif kind in {"exchanged_names", "exchanged_lower"}:
        if not any(frame in rewrite for frame in frames):
            return None
        values = values | {"A": values["B"], "B": values["A"]}
    rewrite = _fill(rewrite, values, lang, rng)
    if kind.endswith("lower"):
        return (told.lower(), rewrite.lower()) if lang == "en" else None
    if kind == "honest_lower":
        return told.lower(), rewrite.lower()
    return told, rewrite


def drawn(kind, lang, count, seed=0):
    """So many pairs of a kind."""
    rng = random.Random(f"{kind} {lang} {seed}")
    found = []
    for _ in range(5 * count):
        pair = draw(kind, lang, rng)
        if pair is not None and len(found) < count:
            found.append(pair)
    return found
