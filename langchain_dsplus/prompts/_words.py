"""The words that the fidelity check knows: function words, neutral words, grave acts, negations, and stems."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

from __future__ import annotations

import re
from functools import lru_cache

# Function words carry no fact of their own. Negations are treated apart.
FUNCTION = frozenset(
    """a an the this that these those i me my mine myself we us our ours ourselves you your yours yourself he him his
    himself she her hers herself it its itself they them their theirs themselves one's who whom whose which what when
    where why how there here and or but nor so yet if then than as at by for from in into of off on onto out over to up
    down with within upon about above below under after before during since until till while because although though
    however therefore thus also too very much many more most some any all both each every either other others another
    such same own just only even still again already ever once well quite rather really actually simply almost
    is am are was were be been being do does did doing done have has had having will would shall should can could may
    might must ought let get gets got getting gotten go goes went gone going come comes came coming make makes made
    making take takes took taken taking put puts putting keep seem seems seemed become becomes became becoming
    i'm i've i'd i'll he's she's it's they're we're you're that's there's he'd she'd they'd we'd he'll she'll they'll
    they've we've you've let's what's who's s t d ll m re ve o
    not no never none nobody nothing neither nowhere cannot n't without
    against along around away back between beyond despite except instead like near next per through throughout toward
    towards via whether whatever whenever wherever whoever yes oh ok okay first second last later now today ago end
    ended ends ending up far kept keeps keeping longer
    start started starts begin began begun begins try tried tries trying want wanted wants decide
    decided decides happen happened happens use used uses using happening manage managed thing things something anything
    everything someone anyone everyone somebody anybody everybody way lot kind sort one
    """.split()  # noqa: SIM905
)
NEUTRAL = frozenset(
    """narrator narrators claim claims claimed claiming state states stated stating statement say says said saying
    according account allege alleges alleged allegedly report reports reported reportedly describe describes described
    mention mentions mentioned note notes noted express expresses expressed explain explains explained tell tells told
    add adds added party parties side sides person people individual individuals dispute disputes disputed incident
    incidents event events situation issue matter case argument conflict disagreement occur occurred occurs follow
    followed following involve involved involves involving regard regarding regards concern concerning due result
    resulted results resulting lead led leads cause caused reason respond responded responds response reply replied
    insist insists insisted assert asserts asserted argue argued argues maintain maintains maintained believe believes
    believed consider considers considered think thinks thought feel feels felt view opinion accuse accuses accused
    deny denies denied admit admits admitted acknowledge acknowledges acknowledged refuse refuses refused fail fails
    failed agree agrees agreed question questioned ask asks asked summary fact facts both two's respectively
    demand demands demanded request requests requested urge urged
    face faces faced facing number numbers detail details remaining various
    whereupon wherefore view consequently accordingly
    subsequently afterwards meanwhile eventually finally initially then earlier previously prior time day date
    """.split()  # noqa: SIM905
)
NEUTRAL_HAN = tuple(
    """叙述者 叙述人 陈述人 当事人 陈述 叙述 声称 宣称 据称 表示 认为 指出 承认 否认
    坚称 坚持 解释 对方 另一方 双方 一方 纠纷 争执 争吵 争议 发生 事件 事情
    互相 相互 情况 过程 导致 因此 随后 之后 之前 期间 同时 最终 最后 后来 并且 由于
    因为 根据 关于 拒绝 要求 没有 并未 未能 其 称""".split()  # noqa: SIM905
)
FUNCTION_HAN = frozenset(
    "的了着过是在有和与及跟同对向从到把被将给让使于以为而且并或但却也都就才又再还很太更最只仅这那此其之所者我你他她它们自己"
    "个些上下里中外前后掉住人起需点往入内便用块位因原时一不没未无非别勿来去要会能可以应该当如果若则因由据说称道等吗呢吧啊呀嘛得地"
)

IRREGULAR = {
    form: base
    for base, forms in {
        "pay": "paid", "repay": "repaid", "tell": "told", "say": "said", "give": "gave given", "break": "broke broken",
        "buy": "bought", "sell": "sold", "leave": "left", "throw": "threw thrown", "see": "saw seen", "run": "ran",
        "drive": "drove driven", "catch": "caught", "bring": "brought", "lend": "lent", "steal": "stole stolen",
        "write": "wrote written", "know": "knew known", "think": "thought", "feel": "felt", "lose": "lost",
        "find": "found", "fall": "fell fallen", "build": "built", "shake": "shook shaken", "bite": "bitten",
        "strike": "struck stricken", "speak": "spoke spoken", "send": "sent", "spend": "spent", "hold": "held",
        "stand": "stood", "sit": "sat", "hear": "heard", "meet": "met", "rise": "rose", "wear": "wore",
        "tear": "tore torn", "swear": "swore sworn", "choose": "chose chosen", "drink": "drank drunk",
        "shoot": "shot", "fight": "fought", "sleep": "slept", "wake": "woke woken", "hide": "hid hidden",
        "hang": "hung", "dig": "dug", "burn": "burnt", "spit": "spat", "lie": "lay lain lying", "lay": "laid",
        "light": "lit", "grow": "grew grown", "show": "shown", "draw": "drew drawn", "fly": "flew flown",
        "freeze": "froze frozen", "forget": "forgot forgotten", "eat": "ate eaten", "understand": "understood",
        "ring": "rang rung", "teach": "taught", "seek": "sought", "swing": "swung", "fling": "flung",
        "slide": "slid", "blow": "blew blown", "beat": "beaten", "feed": "fed", "flee": "fled", "ride": "rode ridden",
        "stick": "stuck", "sink": "sank sunk", "sweep": "swept", "bend": "bent", "creep": "crept", "weep": "wept",
        "leap": "leapt", "deal": "dealt", "spill": "spilt", "spoil": "spoilt",
        "win": "won", "keep": "kept", "begin": "began begun", "do": "did done", "come": "came",
        "go": "went gone", "take": "took taken", "make": "made", "child": "children", "man": "men",
        "woman": "women", "person": "people", "foot": "feet", "tooth": "teeth", "life": "lives", "wife": "wives",
    }.items()
    for form in forms.split()
}  # fmt: skip


_WHOLE = frozenset("letter shower tower number reply family apply supply rely only".split())  # noqa: SIM905
"""Words that end like an inflection, and are none."""


@lru_cache(maxsize=20_000)
def stem_of(word: str) -> str:
    """Strip English inflection, crudely: `placed`, `placing`, `places` -> `plac`."""
    word = word.removesuffix("'s").removesuffix("'")
    word = IRREGULAR.get(word, word)
    if len(word) <= 3 or word in _WHOLE:
        return word
    if word.endswith(("ies", "ied")):
        if word[:-3] + "y" in _WHOLE:
            return word[:-3] + "y"
        return word[:-3] + "i" if len(word) > 4 else word[:-1].removesuffix("e")
    for suffix in ("ingly", "edly", "ing", "ed", "ly", "es", "s", "e"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            if suffix == "s" and word.endswith("ss"):
                continue
            if suffix == "es" and not re.search(r"(?:s|x|z|ch|sh|[^aeiou]o|[cgvd])es$", word):
                continue
            word = word.removesuffix(suffix)
            if word in _WHOLE:
                return word
            if suffix in {"ing", "ed"} and len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
                word = word[:-1]
            break
    if word.endswith("er") and len(word) > 4:  # `answered`, `drivers` as `answer`, `driver`
        word = word[:-2]
        word = word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl" else word
    if word.endswith("ll") and len(word) > 5:  # `cancelled`, `canceled`
        word = word[:-1]
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word.endswith("y") else word


NEUTRAL_STEMS = frozenset(stem_of(w) for w in NEUTRAL)

# Grave acts by kind. A rewrite may say `hit` for `punched`, but must not lose the blow.
ACTS_EN: dict[str, str] = {
    "strike": "punch hit slap kick beat strike smack headbutt assault attack",
    "push": "push shove grab drag seize",
    "bite": "bite",
    "spit": "spit",
    "weapon": "stab knife shoot gun",
    "threaten": "threaten threat",
    "insult": "insult swear curse mock offend",
    "shout": "shout yell scream",
    "damage": "break smash damage destroy wreck ruin scratch dent crack shatter rip tear spoil fracture vandalize",
    "cut": "cut chop sawed slash slit",
    "collide": "crash collide collision rear-end bump",
    "steal": "steal theft rob",
    "throw": "throw toss dump hurl fling",
    "deceive": "lied cheat deceive forge fake",
    "block": "block obstruct",
    "burn": "burn ignite",
    "lock": "lock",
    "injure": "injure injury hurt wound bleed",
}
ACTS_ZH: dict[str, str] = {
    "strike": "打了 打他 打她 打我 打人 殴打 一拳 拳头 耳光 扇了 踢了 踢他 踹 揍 动手",
    "push": "推了 推倒 推搡 推他 推她 推我 拽 撞倒",
    "bite": "咬",
    "spit": "吐口水 吐痰",
    "weapon": "刀 捅 棍",
    "threaten": "威胁 恐吓",
    "insult": "骂 侮辱 辱骂",
    "damage": "砸 弄坏 损坏 打碎 摔坏 划伤 划了 毁 撕",
    "cut": "砍 剪断 锯",
    "collide": "撞上 撞了 追尾 碰撞 刮蹭 剐蹭",
    "steal": "偷 盗",
    "throw": "扔在 扔过 扔向 扔了 扔进 丢在 丢进 倒在",
    "deceive": "撒谎 欺骗 骗 伪造 隐瞒",
    "block": "堵 挡住 拦住 拦下",
    "burn": "烧了 烧毁 烧坏 放火",
    "injure": "受伤 打伤 流血 骨折",
}

STRONG = frozenset("not no never none nobody nothing neither nor nowhere cannot without".split())  # noqa: SIM905
WEAK = frozenset(
    stem_of(w)
    for w in "refuse deny fail lack unable decline instead reject avoid omit absent forget".split()  # noqa: SIM905
)
SOFT = frozenset(
    stem_of(w)
    for w in """ignore miss forbid dispute disagree contest remain stop cease exclude unable lose close shut block
    prevent deactivate hold retract""".split()  # noqa: SIM905
)
"""Stems of words that may stand for a negation, but deny nothing that follows."""
MOVING = frozenset(
    """let lets go goes went gone going come comes came coming take takes took taken make makes made put keep
    kept""".split()  # noqa: SIM905
)
"""Function words elsewhere, but `did not come` negates something."""
NOT_NEGATION = re.compile(
    r"\bdeclin\w+ (?:by|from|to \d)"
    r"|\bnot only\b|\bnot just\b|\bno doubt\b|\bno matter\b|\bno one else's\b|\bNo\.(?=\s*\d)",
    re.IGNORECASE,
)
NOT_NEGATION_HAN = re.compile(
    "不过|不仅|不但|不管|不论|不断|不久|差不多|对不起|不好意思|不小心|不料|不少|忍不住|要不是|要不|不得不|不禁|不由|不止|不满|不同"
    "|参差不齐|不下去|受不了|不可理喻|不要脸|不平衡|不爽|不高兴|不甘心|想不通|气不过|没办法|没天理|不讲理|毫不|从不缺斤少两"
    "|非常|非得|无论|无非|未来|特别|别人|别的|分别|区别|个别|没完没了|没想到|不由得|了不起|不一会儿?|不时"
)
NEGATION_HAN = re.compile("没有|没|不|未|无|别|勿")
WEAK_HAN = re.compile("拒绝|否认|拒不|拒(?=付|还|交|赔)|缺乏|并非")
SKIP_HAN = re.compile(
    "^(?:能|会|肯|敢|想|愿意?|要|得|给|有|是|再|曾经?|应该?|让|把|被|我|他|她|任何|及时|按时|好好|完全|经|在)+"
)

SAYING = frozenset(
    """claiming stating telling alleging asserting insisting arguing admitting writing accusing citing cite cites cited
    inform informs informed informing report reports reported reporting announce announces announced announcing
    replied reply replies answered answers complain complains complained
    say says said saying claim claims claimed state states stated tell tells told allege alleges alleged assert
    asserts asserted insist insists insisted argue argues argued admit admits admitted write writes wrote accuse
    accuses accused according maintain maintains maintained""".split()  # noqa: SIM905
)
RECIPROCAL = frozenset("meet argu quarrel talk marri agre agr shak disput fight".split())  # noqa: SIM905
"""Stems of what two do together: no party does it alone."""
VAGUE = frozenset("leav com go giv hav tak mak put".split())  # noqa: SIM905
"""Stems of verbs that say little without their object."""
CONVERSE: dict[str, tuple[str, ...]] = {
    "sell": ("buy", "purchas"), "buy": ("sell",), "purchas": ("sell",), "lend": ("borrow",), "loan": ("borrow",),
    "borrow": ("lend", "loan"), "giv": ("receiv", "get"), "receiv": ("giv", "send", "pay"), "pay": ("receiv",),
}  # fmt: skip
"""Stems of verbs that tell the same deal from its other side."""
SPEECH = frozenset(
    stem_of(w)
    for w in """answer reply respond say tell shout yell scream announce explain inform state claim write
    complain""".split()  # noqa: SIM905
)
"""Stems of verbs that only bring on somebody's words: `said` may stand for `answered`."""
HABITS = frozenset("always often usually".split())  # noqa: SIM905
NARRATOR_WORDS = frozenset({"i", "we", "narrator"})
OTHERS = frozenset(
    """he she they neighbor neighbour landlord landlady tenant seller buyer driver owner man woman colleague
    coworker boss manager employer employee customer contractor mechanic brother sister roommate flatmate guest host
    client vendor cyclist pedestrian renter lodger teacher student waiter guard builder painter plumber courier opponent
    respondent father mother son daughter wife husband cousin uncle aunt boy girl friend guy lady woman jogger guards
    apprentice doctor neighbors neighbours lawyer""".split()  # noqa: SIM905
)
LIGHT = FUNCTION | frozenset(
    """say says said claim claims claimed state states stated insist insists insisted tell tells told think thought
    believe believes believed feel felt admit admits admitted deny denies denied argue argues argued report reports
    reported describe describes described explain explains explained refuse refuses refused fail failed continue
    continued proceed proceeded suddenly immediately angrily finally simply deliberately accidentally eventually
    subsequently allegedly reportedly also then""".split()  # noqa: SIM905
)
JUDGEMENT = re.compile(
    r"\bat fault\b|\bto blame\b|\bguilty\b|\bliable\b|\b(?:is|was|are|were|bears?|fully|solely) (?:\w+ )?responsib"
    r"|\bin the (?:wrong|right)\b|\b(?:narrator|party|he|she) (?:is|was) (?:clearly |obviously )?(?:right|wrong)\b"
    r"|\bverdict\b"
    r"|负?(?:主要|全部|次要)?责任在|有过错|应负|负全责|负主责|有罪",
    re.IGNORECASE,
)
REPORTED = re.compile(
    r"\b(?:claim|sa(?:y|id)|state|insist|argu|accus|believ|think|thought|according|alleg|blam|assert|maintain|feel|felt"
    r"|consider|den(?:y|ie)|admit)|声称|认为|表示|坚称|指责|说|称|觉得|承认|否认",
    re.IGNORECASE,
)


KINDS_BY_STEM: dict[str, tuple[str, ...]] = {}
for _kind, _words in ACTS_EN.items():
    for _word in _words.split():
        KINDS_BY_STEM[stem_of(_word)] = (*KINDS_BY_STEM.get(stem_of(_word), ()), _kind)

_NEAR = (
    "neighbor",
    "neighbour",
    "next door",
    "neighbors",
    "neighbours",
    "upstairs",
    "downstairs",
    "below me",
    "above me",
)
# A word that another one in the source justifies.
SUPPORTED_BY: dict[str, tuple[str, ...]] = {
    "man": ("he", "him", "his", "mr", "husband", "father", "son", "brother", "guy"),
    "woman": ("she", "her", "mrs", "ms", "wife", "mother", "daughter", "sister", "lady"),
    "neighbor": _NEAR,
    "neighbour": _NEAR,
    "neighbors": _NEAR,
    "neighbours": _NEAR,
    "downstairs": ("below",),
    "upstairs": ("above",),
    "physical": ("punched", "hit", "slapped", "kicked", "pushed", "shoved", "beat"),
    "physically": ("punched", "hit", "slapped", "kicked", "pushed", "shoved", "beat"),
    "return": ("back",),
    "returned": ("back",),
    "returning": ("back",),
    "percent": ("per cent",),
    "promised": ("would", "will"),
    "promises": ("would", "will"),
}

NOT_GRAVE = re.compile(
    r"\b(?:thr[eo]w|throws|thrown|throwing)(?: (?:both|all|of|us|me|him|her|them)){1,4} out\b"
    r"|\bruin\w* (?:the|my|our|his|her|their) (?:day|evening|night|mood)\b"
    r"|\b(?:broke|broken|breaks?|breaking) (?:up|down|off|even|the news|the silence)\b"
    r"|\b(?:kick\w*|hit|hits|throw\w*|threw|toss\w*) (?:\w+ ){1,2}(?:foot|basket|tennis )?ball\b"
    r"|\bcut (?:off|short|back|down on)\b"
)
"""Of the words for grave acts, phrases that tell of none."""
NOT_STRIKE_HAN = re.compile(
    "打(?:了|过)?[^，。打]{0,4}(?:电话|球|工|车|招呼|字|折)|打(?:了|过)?[^，。打]{0,3}(?:差评|好评|分|赌)|打(?:得|开|算|扫|印|听|扰|包|断|碎|电|篮|排|羽|乒)"
)
"""Of `打`, where nobody is struck."""

MENTAL = frozenset(
    stem_of(w)
    for w in """think believe feel know love like hate care regret hope wish want need own mean expect understand
    remember forget see hear notice look watch enjoy admire prefer seem live lives have mind trust deserve swear suppose
    guess doubt wonder consider imagine dream suffer cry weep bother worry dislike stand sit rest grow turn
    retire assume presume suspect""".split()  # noqa: SIM905
)
"""Verbs of what somebody feels, is or knows: leaving such a sentence out loses no act."""
MENTAL_HAN = re.compile(
    "觉得|认为|相信|喜欢|知道|希望|以为|担心|感到|明白|后悔|委屈|讲道理|看到|听说|大家都|平时|经常|总是|一向|每天都"
)

VERBS_HAN = re.compile(
    "索赔|回(?!家|去|来|到)|删|打(?!得|电|车|球|工)|骂|推|踢|踹|撞|砸|偷|放|扔|丢|拿|付|还钱|还款|归还|借|欠|赔|签|修|卖|买|搬|停|咬|摔|抢|骗|威胁|弄坏|砍|剪|锯|堵|挡|吵|揍|拉|拆|换|花|敲|钻"
    "|写|同意|答应|承认|报警|报了警|租|扣|泼|撕|踩|拍|割|烧|锁|掀|贴|关|送|取|追|扯|抓|揪|捡|藏|寄|交|退|跑|冲|闯|爬|喊"
)
NARRATOR_HAN = re.compile("我们?|叙述者|叙述人|陈述人|本人")
OTHER_HAN = re.compile(
    "妻子|老婆|丈夫|老公|儿子|女儿|摊主|店主|店家|商家|保安|顾客|他们?|她们?|对方|另一方|邻居|房东|租客|卖家|买家|司机|车主|老板|同事|师傅|业主"
)
