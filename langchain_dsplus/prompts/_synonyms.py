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
sue lawsuit court legal
lawyer attorney
""".strip().splitlines()

SYNONYMS: dict[str, frozenset[int]] = {}
"""From a stem to the groups that it is in."""
for _place, _line in enumerate(_GROUPS):
    for _word in _line.split():
        _stem = stem_of(_word)
        SYNONYMS[_stem] = SYNONYMS.get(_stem, frozenset()) | {_place}

_LOOSE = """
absence away absent while; abuse insult curse; accuse claim say blame; acquaintance friend;
additional more other another extra; adjacent next beside neighbor; advance deposit down upfront front; afternoon pm;
again repeat; aged old year; ahead front past before; aim want; alcohol beer wine drink; allow let;
animal dog cat pet; announce told said; annoyed angry; annual year; apartment room flat kitchen house;
approach walk went come came near; approximately about around; area place; argue argument quarrel fight dispute;
arrears owe rent unpaid; aside way; asleep sleep; assist help; attempt try; attend go come visit;
attention doctor medical hospital treatment; attic loft; awake wake woke sleep; awoke wake woke; baby infant child;
ban exclude suspend; bark noise; barking bark; basement cellar; begin start; belongings thing box things bag;
beverage drink coffee beer; bill invoice send charge; birthday birth; bonnet hood; box package parcel crate;
brand new; bruise hit mark blue; burst break explode; buyer buy bought customer sell sold; call name phone;
cancel end terminate; canceled cancel; cancelled cancel; capture photo film take; cash money paid; cause make made;
change alter differ different; chase run ran follow; cheek face slap; chef cook; cite say says claim;
claim want demand; class school course; clean wash; cleaning clean; close shut closed;
clothing clothes shirt jacket dress coat; coins cash money; collect pick fetch get take;
comment word said wrote remark; companion friend; company firm business; compel make made must;
compensate pay cost damages; compensation pay money damages compensate; complete finish; computer laptop;
confront ask told went talk; consent agree permission allow ask; constantly always all time keep;
consult ask permission; consume eat drink ate drank; contact touch call reach write phone police;
contain full include; continually always all time keep; contract sign agree paper; cook chef kitchen; cost lose lost;
couple we wife husband; courier driver delivery; course class lesson; cover pay; cracked crack broken; crate box;
crew worker team staff colleague; criticize complain criticism complaint object; cry tear weep sob;
customer client couple guest buyer; daily day every; damage break broken wreck ruin spoil crack destroy;
deactivate cancel block disable; dead die death; death die dead; debt owe; deceased die dead;
decline fall fell drop refuse no; defect broken fault leak; defective broken work defect fault; deflate air;
delay late wait; delayed late; demand want ask request seek claim require charge; dent scratch damage;
deposit advance; describe call name; developer programmer engineer; device phone machine;
different various several other; dine eat ate; dinner meal food evening; direct lead led manage conduct;
dirt stain mud; disappear take took gone lose lost steal; discard throw trash bin dump; disclose forget mention;
discover find found see notice learn; dismiss fire sack lose lost job; dispose throw trash bin dump; divorce separate;
document paper contract; drink beer wine coffee; drive driver drove; driveway entrance garage; dropped fall fell;
dump empty pour throw; earlier before; eject throw out remove; elder elderly old; elderly old; elevator lift;
email mail write; embarrass laugh front; employee staff worker colleague; empty pour; enraged angry;
enter go come break; entertain guest host; entire whole all; entrance door gate; erase delete wipe remove;
escort throw out lead; estimate quote offer price; evict throw out; exam test; examine check look inspect;
exceed more over; excess more over too; exchange pay; exit leave; expel expulsion; expelled expulsion;
expense cost bill price; extra more additional; fail stop work break; fall fell drop;
family wife children son daughter parents; film video record; final last; find come discover notice;
fine penalty ticket charge; finger hand; finish end complete; fire dismiss sack job lose; fix repair;
flaw defect mistake error; flee run ran; flood water; food eat lunch dessert; force make made must; former old ex;
fracture break broke; free no without; friend friends; frustrated angry; function work; functional work; further more;
garage workshop; garment clothes shirt jacket dress coat; gate door entrance; gift present; glasses eyeglasses;
grab seize collar; guarantee promise warranty; had keep; half part; halt stop; hammer bang knock pound;
hand arm give gave; handle treat deal; heavily bad; hire engage employ order commission book hired;
hold have host organize throw keep kept; holding keep kept; hope want; hose spray water;
hospital ambulance clinic doctor; hospitalize hospital; hourly hour; howl bark; huge big large;
humiliate laugh mock front; hungry eat; hurry run ran; identical same; ignore answer reply respond react;
ill sick illness sickness unwell; immediate once right away; impose fine; imposed fine; increase rise grow more;
infant baby; inform tell say write notify message; initial first; injure hurt wound injury break bleed;
inquiry ask question write; inside in get enter; inspect look check examine; install put fit build mount;
installment pay rate; instruct tell told order; instrument guitar piano violin; insult call name curse offend;
insurance insurer insured; intend want plan mean going; intention want plan mean; internet online web net;
invoice bill charge; irritated angry; item thing; jacket coat; job work task; joke laugh funny; key lock;
kill die died dead; kitchen cook; knock kick hit push; label name mark call; lamp light; laptop computer notebook;
late after; later after; laugh laughed mocked; leak water come drip; leave depart gone away home walk; lend loan;
lesson class course; let allow; letter write wrote written writing; light less weight weigh; lighter less;
live reside upstairs downstairs above below; locate find; location place spot; lock shut; locked lock shut;
lounge living room; lunch food meal; machine device; mad angry; mailbox letterbox mail; majority most;
malfunction fail broken work break; man guy fellow gentleman; mark scratch stain; marriage marry married wedding;
meal restaurant food lunch dinner; mechanic garage repair; mention tell disclose say inform reveal state;
message text write email note; midnight night; minor small; miss missed skip absent; mistake error fault wrong;
money half sum payment; monthly month; morning a.m. am; mount put install attach; move step go; mud dirt;
multiple times; near beside close next; necessary must need have; need must have; negative bad unfavorable poor;
neighbor next upstairs downstairs door live; neighboring neighbor next; night p.m. evening; nightly night;
noise loud music sound; noon midday; nose face; notify tell inform write; number figure; numerous many times;
obliged must have; observe see saw watch notice; obtain get receive buy; occasionally sometimes;
occupy sit sat seat occupied; odor smell; older elderly old; once after; open unlock; opened start begin;
operate work run use; oral written writing verbal; order tell told; overdue late owe owed; overhear hear heard;
overnight night; overtime hours extra; overturn kick push knock tip; owed owe; own have had has property mine;
owner own; package parcel box; paint painted; pane window glass; paper document contract; parcel package;
parent mother father; parents mother father; park parked; parked stand stood park; partial half part;
partner wife husband boyfriend girlfriend; pass past ride rode overtake; path way trail; pavement sidewalk street;
penalty fine ticket; permission allow let permit may ask; permit allow think let; pet dog cat animal;
physical touch contact; picture paint art photo photograph; place put lay set position deposit; plan want;
portion part half; possession things bag own; premises house shop place; present meeting there gift; pretend act;
prevent stop block keep; previous before old former last; prior before; professor teacher; program code software;
prohibit forbid ban allow; promptly soon once; property things own land; public front everyone everybody openly;
publish post upload online put write share; pupil student; purchase buy acquire; purse bag wallet;
pursue run ran follow; quarrel argue fight shout; queue line wait; quick fast speed rapid quickly;
quit left leave resign; rarely seldom; rating review star; reach grow get high; react respond answer say;
rear back behind; receipt proof invoice; receive get got send sent give gave pay paid lend; recent new;
record film video tape; reduce lower cut; refer call; refrigerator fridge; refund money back return pay;
refuse not accept agree allow; regularly every often always; reimbursement reimburse money back;
reject not refuse accept; relative cousin uncle aunt brother sister family; release let loose; remain still stay left;
remaining other rest outstanding balance left; remark said word comment; remove take pull withdraw clear detach;
rent lease tenancy; rented live let; repair fix; repeat again; repeatedly times again; replace new;
replacement new replace; request asked told; resell sell; reserve book reservation;
residence house home place live flat apartment; resident neighbor tenant live; resign quit leave job;
restaurant meal table waiter; restore recover save repair; retain keep kept;
retract withdraw withdrawn rescind revoke; retrieve get take back collect fetch pick; return bring give come back;
revenue sales money; reverse roll back; review rating; reward pay; ridicule laugh mock; ring bell; rip tear;
room bedroom; roommate flatmate; roughly about around; rush run ran; salary wage pay; school class; scratch mark;
season spice; seek want demand look; seller sell sold; send write receive mail message; separate divorce; serious bad;
several many few days number; severe bad heavy; share percent post send; shatter break smash; shift work hours;
shin leg; shirt clothes; shoes boots; shoulder arm; shout words called yell scream holler bellow loud; shove push;
sibling brother sister; sidewalk pavement street; signature sign; site place; slam shut bang door; sleep asleep;
smash break; smell odor stink; smile laugh; soak wet pour water; sound noise music; space spot place parking;
speak talk say; spectacles glasses; spend spent buy bought cost pay paid; splash pour spray throw water; spoil ruin;
spot place space; spouse wife husband; spray squirt; stain dirt spot; staircase stairs steps; stairs steps upstairs;
stand park; started open begin; stench smell stink; stop fail cease end; strike hit punch; stroll walk; stumble fall;
substance something liquid spray; substitute replace; sum money; supervisor boss manager chief; supposed ask should;
swap exchange; swear curse; tardy late; teacher school; tear rip; technician repair mechanic plumber;
teen boy girl young; teenager boy girl son daughter young; television tv; term call; terminate end cancel fire;
test exam; thirsty drink; threat threaten; throw out expel eject; tier floor level layer; tiny small; tip over kick;
tool drill hammer saw; topple kick push knock over; torch flashlight lamp; toss throw hurl fling; total all sum;
tow towed remove truck; trade sell exchange; trail path way; transfer pay send money bank; translation translate;
treasurer treasure; treat treatment doctor hospital; trim cut shorten; trip fall stumble; trunk boot; twice again two;
tyre tire wheel; unable could can cannot; unanswered answer reply; unauthorized permission ask without;
university college; unlock open; unpaid salary pay paid; unresolved not; until till; unwilling refuse want;
upfront advance front; upset tears cry angry; usually often always; vacation holiday away trip;
valued like liked love value; vehicle van car truck automobile motorcycle; verbal words told say; verbally told say;
verify check; version story account statement; video film record; visit see come go attend; vocal sing song;
vocation job; volume turn quiet loud music noise; voucher coupon; wage salary pay; waiter waitress server;
wake woke sleep; walk go; wall fence; wallet purse; warn told said tell; warranty guarantee; wash clean;
wear cap hat dress; website online internet; wedding marry married; weekend saturday sunday; weekly week;
wet water pour; wheel tire; window pane glass; windscreen windshield; windshield windscreen; wish want;
withhold keep kept; witness see saw watch; woman lady girl; workshop garage shop mechanic;
worth cost price value buy bought pay paid; wrist arm hand; writing written write wrote; written writing write wrote;
yearly year annual; youngster kid boy child
""".replace("\n", " ").split(";")

LOOSE: dict[str, frozenset[str]] = {}
"""From a stem to stems that justify it as a word of a rewrite, though the two are no synonyms: `hospital`, `doctor`.

The first word of a group goes with each of the others, both ways.
"""
for _line in _LOOSE:
    _first, *_others = (stem_of(w) for w in _line.split())
    LOOSE[_first] = LOOSE.get(_first, frozenset()) | frozenset(_others)
    for _word in _others:
        LOOSE[_word] = LOOSE.get(_word, frozenset()) | {_first}

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
手臂 胳膊 手 臂
击打 打 打了
雨伞 伞
丢 扔 抛
摔碎 碎 碎了 破碎
标注 写 注明
负责 管 不管 负责任
不予处理 不管 拒绝负责 不处理 不负责
拒绝负责 不管
拦住 堵 拦
推搡 推 推了
罚款 罚 罚了
先后 一共 每次
聘请 请了 请 雇 雇佣
补习 补课 上课
教学 教课 教
反映 说 称 表示 举报
费用 钱 学费 课费
课费 钱 费
支付 付 给 给钱 没给 交
拒付 没有付 没付 不付
拒绝给付 没给 没付 不给
给付 给 付
无法 不能 不了 不到 没法
失去 拿不到 丢
获得 拿 得到 拿到 得
爆裂 爆了 爆 破裂
浸坏 泡坏 浸 泡
受损 坏 泡坏 损坏
均 都
等待 等 在等
停放 停 停在
支出 花 花了
答复 回 说
上锁 锁 锁了
次 遍
提醒 说过 说 跟他说 告诉
经常 总是 老是 每次
位置 地方 摊位
占用 占 占了
踢倒 踢翻 踢
踢翻 踢倒
砸中 砸到 打中
未砸中 没砸到 没有砸中
其妻 老婆 妻子 他老婆 他妻子
妻子 老婆 太太
丈夫 老公
各 每人 都
二人 两人 我们 每人
摊主 摊 老板
妻 老婆
夫 老公
购 买
售 卖
殴打 打
打伤 打
受伤 伤 流血
治疗 医院 看病 医药
医疗费 医药费 看病
医院 看病
报案 报警
派出所 警察 公安
民警 警察
驾驶 开车 开
停车 停 车位
车位 停车 位置
挡住 挡 堵
噪音 吵 声音 响
噪声 吵 声音 响
音乐 歌
深夜 半夜 晚上 夜里 夜
凌晨 半夜 夜里 早上
夜间 晚上 夜里
清晨 早上 早晨
上午 早上
中午 午
傍晚 晚上
当晚 晚上 那天
当天 那天 今天
次日 第二天
翌日 第二天
同日 那天
此后 后来 之后 以后
此前 以前 之前
至今 到现在 还 一直
目前 现在
近期 最近
多次 很多次 几次 好几次
数次 几次
两次 两回
曾 过
称呼 叫
称 说 叫
斥责 骂
指责 骂 说
发送 发
发布 发 贴 发到
张贴 贴
照片 拍 拍了 相片
拍摄 拍
录像 录 拍
视频 录 拍
删除 删
微信群 群 群里
群内 群里 群
母亲 妈妈 妈
父亲 爸爸 爸
双亲 爸妈 父母
子女 孩子 儿子 女儿
未成年 孩子
男子 男的 他
女子 女的 她
顾客 客人 客户
商家 店 老板 卖家
店主 老板 店
雇主 老板
员工 工人 店员
工资 钱 薪水 薪
薪资 工资 工钱
定金 押金 钱
余款 剩下的钱 剩下 钱
剩余 剩下 其余 还有
其余 剩下
金额 钱
款项 钱
借款 借 钱
欠款 欠 钱
合同 协议 签
协议 合同 签
书面 写 合同
口头 说
允诺 答应 说
承诺 答应 保证 说
保证 答应 说
擅自 没问 没有问
未经 没问 没有 不
允许 同意 让
许可 同意 让
强行 硬
离去 走 离开
返回 回 回来
抵达 到 来
进入 进 闯
扔掉 扔 丢
倾倒 倒 泼
泼洒 泼 倒
剪断 剪
切断 拉 剪 断 关
断电 电闸 拉
破坏 坏 砸 弄坏
毁坏 坏 砸 毁
砸坏 砸 坏
砸毁 砸 坏
撕毁 撕
撕下 撕
夺走 抢 拿
抢走 抢 拿
扣留 扣 留
没收 拿走 扣
致使 让 把
使得 让
造成 让 把
导致 让 把
因此 所以
""".strip().splitlines()
)
"""Chinese words that may stand for each other."""


def is_synonym(stem: str, stems: frozenset[str]) -> bool:
    """Whether one of the stems is in a group with this one."""
    groups = SYNONYMS.get(stem, frozenset())
    return bool(groups) and any(groups & SYNONYMS.get(other, frozenset()) for other in stems if other != stem)


def related_words(stem: str, other: str) -> bool:
    """Whether two stems are the same, synonyms, or near enough that one may stand for the other in a rewrite."""
    return stem == other or is_synonym(stem, frozenset({other})) or other in LOOSE.get(stem, frozenset())
