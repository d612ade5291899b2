"""Words that may stand for each other in a rewrite, and words that must not."""

from __future__ import annotations

from langchain_dsplus.prompts._words import stem_of

_GROUPS = """
lend loan borrow
return refund repay reimburse back bring give
buy purchase
sell sale
rent lease tenant landlord
pay payment repay charge cost price fee
promise pledge assure agree
refuse decline reject
ask request demand require urge
answer reply respond response
tell inform announce say
phone telephone ring dial
write letter message email text note
remove detach dismantle take
build erect construct install put
hire employ engage
leave depart exit move
arrive come reach appear
enter walk step
follow chase pursue run
stop halt cease
start begin
continue keep carry
wait stay remain
drive ride steer
cycle cyclist bike bicycle ride
car vehicle automobile sedan
truck lorry van
apartment flat home residence
house home
trash garbage rubbish waste litter
yard garden lawn
photo picture photograph image
cellphone phone mobile smartphone
cop police officer
doctor physician hospital medical
repair fix mend restore
broken defective faulty damaged failed
scratch scrape
noise noisy loud loudly
quiet silence silent
angry anger furious upset mad
scared afraid frightened
money sum amount cash
debt owe owed
contract agreement
kid child son daughter
spouse wife husband partner
boss manager employer supervisor
worker employee staff
colleague coworker
shop store
job work employment
street road
doorstep doormat door entrance
hallway corridor stairwell
fence barrier
seat chair
bag sack
big large
small little
wrong incorrect
sick ill unwell
appear show come
queue line
spot place position
snatch grab seize take
witness see
online internet web
throw toss
add put
lower reduce turn
slash slit cut
son boy
visit come
carry take
whole entire complete
rest remainder remaining balance
twice two repeatedly again
again repeatedly
several multiple
often frequently repeatedly
nearly almost
immediately instantly
afterward later subsequently
pour spill empty tip
place put lay set leave
hide conceal
show display
give hand pass provide deliver
get receive obtain gain
use employ
help assist aid
call phone summon ring
complain complaint
apologize apology sorry
block obstruct prevent
cancel annul
sign signature
lie untrue false
laugh mock
knock bang pound hammer
sit seated
dispute disagree contest deny
sawed cut
drill bore
tear rip pull
fracture break broken
steal theft stolen
warn warning
sue lawsuit court
lawyer attorney
""".strip().splitlines()

SYNONYMS: dict[str, frozenset[int]] = {}
"""From a stem to the groups that it is in."""
for _place, _line in enumerate(_GROUPS):
    for _word in _line.split():
        _stem = stem_of(_word)
        SYNONYMS[_stem] = SYNONYMS.get(_stem, frozenset()) | {_place}

_OPPOSITES = """
buy sell
lend borrow
give take
give receive
open close
open shut
lock unlock
accept refuse
accept reject
admit deny
agree refuse
agree disagree
allow forbid
before after
early late
first last
arrive leave
come leave
enter leave
push pull
left right
win lose
more less
higher lower
raise lower
up down
old new
old young
light dark
loud quiet
sober drunk
clean dirty
day night
morning evening
husband wife
brother sister
son daughter
mother father
landlord tenant
buyer seller
employer employee
legal illegal
true false
right wrong
alone together
inside outside
start stop
begin end
keep return
pass fail
remember forget
""".strip().splitlines()

OPPOSITES: dict[str, frozenset[str]] = {}
"""From a stem to those that say the contrary: near for an encoder, and never a paraphrase."""
for _line in _OPPOSITES:
    _one, _other = (stem_of(w) for w in _line.split())
    OPPOSITES[_one] = OPPOSITES.get(_one, frozenset()) | {_other}
    OPPOSITES[_other] = OPPOSITES.get(_other, frozenset()) | {_one}

GROUPS_HAN: tuple[tuple[str, ...], ...] = tuple(
    tuple(line.split())
    for line in """
赔偿 赔付 赔 索赔 要求赔
支付 付 付款 付了 花费 花了 花 给钱 出钱 自费
归还 返还 退还 还钱 还款 还
费用 修理费 维修费 花费 花了 花 价格 修车要 要 值 价值
维修 修理 修 修补
更换 替换 换
购买 买 买入 购得
出售 卖 售出 卖掉
居住 住 住在 住处 租住 租
租住 租用 租 承租 租了
搬离 搬走 搬出 离开 搬
带走 拿走 拆走 取走
损坏 坏 坏了 破损 损毁 故障
变质 坏了 腐坏
破碎 碎 碎了 打碎 摔碎
辱骂 骂 谩骂 责骂
互骂 互相辱骂 骂
扣除 扣 抵扣
回复 回 回信 答复 理会 回应
理会 理睬 理 搭理
来不及 没来得及
右边 右侧
左边 左侧
驾车 开车 驾驶
车辆 车 轿车 汽车
摔倒 跌倒 倒地
碰撞 撞 撞到 撞上 相撞
仍 仍然 还在 还
工作 上班 干 打工
拖欠 欠 欠款 欠债 被欠
否认 不承认
讨要 索要 要求 要 问 催
询问 问
每次 都
报警 报了警 报了案 警察
作证 证明
店内 店里
网络 网上 线上 网
到货 收到 到手
号称 说是 声称 称
提出 要求
高声 大声
去了 到 去 找到 找
将 把
自己 我
食物 东西
篮球 球
砸向 砸 砸了
随后 后来 然后 之后 就
自费 自己花
支付 给
驳回 拒绝 不同意 不肯
不肯 拒绝 不愿 不同意
答应 同意 说
略有 一点 有些
推搡 推
电话 打电话 致电
孩子 儿子 女儿 小孩
丢弃 扔 丢
放置 放 摆
物品 东西
邻居 楼上 楼下 隔壁
未曾 没有 没 从来没有
曾 曾经
破 破裂 破损 裂 裂开
告 起诉 控告 告上法庭
掉 落 掉进 落入 掉入 落水
拿走 丢失 遗失 不见 被盗
通知 告知 打电话 告诉
查明 检查 检查以后
地点 地方 位置
愿意 愿 同意 肯
损 损坏 破损 坏 破
争吵 吵架 吵了 吵 争执
掀翻 翻倒 推翻
需要 需 要
前往 到 去 来到
愤怒 生气 气不过 一气之下 愤而
""".strip().splitlines()
)
"""Chinese words that may stand for each other."""


def is_synonym(stem: str, stems: frozenset[str]) -> bool:
    """Whether one of the stems is in a group with this one."""
    groups = SYNONYMS.get(stem, frozenset())
    return bool(groups) and any(groups & SYNONYMS.get(other, frozenset()) for other in stems if other != stem)
