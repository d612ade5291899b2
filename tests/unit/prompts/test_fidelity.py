"""The fidelity check: what it keeps, what it lets pass, and the faults that small language models make."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

import json
import re
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from langchain_dsplus.fidelity.numbers import read_numbers
from langchain_dsplus.fidelity.sentences import split_sentences
from langchain_dsplus.prompts._reading import Reading
from langchain_dsplus.prompts._words import stem_of
from langchain_dsplus.prompts.fidelity import Fidelity, describe, must_keep

SOURCE = (
    "I have lived here for 12 years and I am a calm person. On Monday my neighbor Tomas Berg parked his van across my "
    "driveway again. I had told him three times not to do it. I asked him to move it, and he said he would be back in 20 "
    "minutes. He did not come back. People like him believe that the street is theirs. In the end I scratched his van "
    "with my key. Now he wants $1,250 for the repair."
)
GOOD = (
    "The narrator has lived there for 12 years. On Monday Tomas Berg parked his van across the narrator's driveway. The "
    "narrator had told him three times not to do it. The narrator asked him to move it; he said he would be back in 20 "
    "minutes, and did not come back. The narrator scratched the van with a key. He wants 1250 dollars for the repair."
)
CHINESE = "昨天晚上七点，邻居小明把垃圾放在我家门口。我说了他三次，他都不听。他说那是他自己家门口。我最后打了他一拳。他看病花了六百元。"
CHINESE_GOOD = "叙述者称，昨天晚上7点邻居小明把垃圾放在叙述者家门口。叙述者说了他三次，他不听，说那是他自己家门口。叙述者打了他一拳。他看病花了600元。"


def codes(source, rewrite, **kwargs):
    result = Fidelity(**kwargs)(source, rewrite)
    assert result["faithful"] == (not result["reasons"])
    return {reason.partition(":")[0] for reason in result["reasons"]}


@pytest.mark.parametrize(("source", "rewrite"), [(SOURCE, GOOD), (CHINESE, CHINESE_GOOD)])
def test_a_neutral_rewrite_passes(source, rewrite):
    assert Fidelity()(source, rewrite) == {"faithful": True, "reasons": [], "missing": [], "added": []}


# Each fault that was seen in small models' rewrites, put into a rewrite that passes without it.
@pytest.mark.parametrize(
    ("code", "rewrite"),
    [
        ("unsupported", GOOD.replace("Tomas Berg parked", "Tomas Berg, a young man, parked")),
        ("unsupported", GOOD + " He pulled a knife."),
        ("act_missing", GOOD.replace("The narrator scratched the van with a key. ", "")),
        ("party_swapped", GOOD.replace("The narrator scratched the van", "Tomas Berg scratched the van")),
        ("party_swapped", GOOD.replace("Tomas Berg parked his van", "The narrator parked the van")),
        ("party_swapped", GOOD.replace("The narrator scratched the van", "The van was scratched by Tomas Berg")),
        ("party_mixed", GOOD.replace("The narrator scratched the van", "I scratched the van")),
        ("verbatim", SOURCE),
        ("number_missing", GOOD.replace("20 minutes", "some minutes")),
        ("number_missing", GOOD.replace("three times", "often")),
        ("number_missing", GOOD.replace("On Monday ", "")),
        ("number_added", GOOD.replace("20 minutes", "20 or 30 minutes")),
        ("number_added", GOOD.replace("On Monday", "On Monday at 7:15")),
        ("number_added", GOOD.replace("On Monday", "On Tuesday, not Monday,")),
        ("number_missing", GOOD.replace("1250 dollars", "1250 euros")),
        ("name_missing", GOOD.replace("Tomas Berg", "the neighbor")),
        ("name_added", GOOD.replace("the repair", "the repair by Volvo")),
        ("negation_missing", GOOD.replace("and did not come back", "and came back")),
        (
            "negation_added",
            GOOD.replace("The narrator asked him to move it", "The narrator never asked him to move it"),
        ),
        ("verdict", GOOD + " Tomas Berg is at fault."),
        ("verdict", GOOD + " The narrator was right."),
        ("too_long", GOOD + " " + GOOD),
        ("too_short", "The narrator scratched a van."),
        ("empty", " .\n"),
        ("party_missing", "On Monday 12, three, 20, $1,250: Tomas Berg parked, did not come back, van scratched."),
    ],
)
def test_faults_are_found(code, rewrite):
    assert code in codes(SOURCE, rewrite)


@pytest.mark.parametrize(
    ("code", "rewrite"),
    [
        ("unsupported", CHINESE_GOOD.replace("邻居小明", "年轻的邻居小明")),
        ("act_missing", CHINESE_GOOD.replace("叙述者打了他一拳。", "")),
        ("party_swapped", CHINESE_GOOD.replace("叙述者打了他一拳", "他打了叙述者一拳")),
        ("party_swapped", CHINESE_GOOD.replace("叙述者打了他一拳", "叙述者被他打了一拳")),
        ("number_missing", CHINESE_GOOD.replace("600元", "一些钱")),
        ("number_added", CHINESE_GOOD.replace("三次", "三次，共两天")),
        ("name_missing", CHINESE_GOOD.replace("小明", "")),
        ("negation_missing", CHINESE_GOOD.replace("他不听，", "他听了，")),
        ("verbatim", CHINESE),
        ("verdict", CHINESE_GOOD + "小明应负全责。"),
    ],
)
def test_faults_are_found_in_chinese(code, rewrite):
    assert code in codes(CHINESE, rewrite)


# Honest rewrites, in other words where a rewriter would choose them: the gate must let these through.
@pytest.mark.parametrize(
    ("source", "rewrite"),
    [
        (
            (
                "I rented a room from Mrs. Okafor for 450 euros a month. It was small and ugly. In March the heating broke and "
                "she did not repair it for six weeks, although I wrote to her four times. I paid half of the rent. She shouted "
                "at me and changed the lock while I was at work. I never got my deposit of 900 euros back."
            ),
            (
                "The narrator rented a room from Mrs. Okafor for 450 euros a month. In March the heating broke and Mrs. Okafor did "
                "not repair it for six weeks, although the narrator wrote to her four times. The narrator paid half of the rent. "
                "Mrs. Okafor shouted at the narrator and changed the lock while the narrator was at work. The narrator claims "
                "never to have got the deposit of 900 euros back."
            ),
        ),
        (
            (
                "A man called Ravi sold me a bicycle for 80 dollars. He told me it had new brakes. Two days later they failed "
                "and I fell. He would not give me the money back, so I drove to his house and broke a window."
            ),
            (
                "A man called Ravi sold the narrator a bicycle for 80 dollars. The narrator claims that Ravi said it had new "
                "brakes. Two days later they failed and the narrator fell. Ravi did not return the money. The narrator drove to "
                "his house and broke a window."
            ),
        ),
        (
            "I saw the bag at my door, a bit to the left. I knocked. He said there was a fire in his flat last year.",
            "The narrator noted the bag at the door and knocked. He claimed a fire in his flat last year.",
        ),
    ],
)
def test_honest_rewrites_pass(source, rewrite):
    assert Fidelity()(source, rewrite)["reasons"] == []


@pytest.mark.parametrize(
    ("text", "acts"),
    [
        ("I punched him and he kicked my dog.", {"punch": "narrator", "kick": "other"}),
        ("He was hit by me.", {"hit": "narrator"}),
        ("The fence was broken by the neighbor.", {"break": "other"}),
        ("Mrs. Okafor shouted at the narrator and changed the lock.", {"shout": "other", "chang": "other"}),
        ("The narrator punched the neighbor and left.", {"punch": "narrator"}),
        ("I told him he broke it.", {"break": "other"}),
        ("My neighbor's dog barked.", {}),
        ("我打了他，他骂了我。", {"打": "narrator", "骂": "other"}),
        ("我被邻居推了一下。", {"推": "other"}),
    ],
)
def test_who_does_what(text, acts):
    found = Reading(text).actors
    for act, who in acts.items():
        assert found[act] == {who}
    if not acts:
        assert found == {}


def test_a_result_lists_the_spans_but_its_reasons_do_not_quote_the_text():
    result = Fidelity()(SOURCE, "A young man, Karl Zweig, parked and the narrator scratched it, 77 times.")
    assert {"20", "3", "1250 $", "tomas berg", "day 1"} <= set(result["missing"])
    assert {"77", "karl", "zweig", "young"} <= set(result["added"])
    line = describe(result)
    for word in ("Berg", "berg", "Karl", "young", "1250", "77"):
        assert word not in line
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert describe(Fidelity()(SOURCE, GOOD)) == "faithful"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,250", "1250"),
        ("1,250.50", "1250.5"),
        ("1.250,50", "1250.5"),
        ("3,5", "3.5"),
        ("12'000", "12000"),
        ("12\u202f000", "12,000"),
        ("three", "3"),
        ("twenty-five", "25"),
        ("two hundred and forty", "240"),
        ("three thousand", "3,000"),
        ("三千", "3000"),
        ("两百五十个", "250"),
        ("一万二千元", "12000元"),
        ("3万元", "30000元"),
        ("20 %", "20 percent"),
        ("百分之二十", "20%"),
        ("$50", "50 dollars"),
        ("50元", "50块"),
        ("10:00", "10 o'clock"),
        ("10:30 a.m.", "10:30 am"),
        ("５０", "50"),
        ("two of us and 4 dogs", "four dogs"),
        ("2024-03-05", "5 March 2024"),
        ("星期三", "Wednesday"),
        ("周日", "星期天"),
        ("3.5.2024", "3 May 2024"),
        ("flat B12", "flat b12"),
    ],
)
def test_equal_numbers_are_equal_in_every_writing(one, other):
    result = Fidelity(max_unsupported=1.0, max_ratio=99, min_ratio=0, must_keep={"numbers"})
    for source, rewrite in ((one, other), (other, one)):
        assert result(f"It was {source}.", f"It was {rewrite}.")["reasons"] == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,250", "1.25"),
        ("50 dollars", "50 euros"),
        ("20 %", "20 dollars"),
        ("5 am", "5 pm"),
        ("Monday", "1"),
        ("March 5", "April 5"),
        ("三百元", "三千元"),
        ("10:30", "10:31"),
        ("flat B12", "flat B13"),
    ],
)
def test_different_numbers_are_different(one, other):
    assert {"number_missing", "number_added"} <= codes(f"It was {one}.", f"It was {other}.")


@pytest.mark.parametrize(
    "text", ["十分生气", "万一着火", "我们两人", "一个人", "四周没有人", "he may march", "one day", "Mr. No"]
)
def test_words_that_look_like_numbers_are_none(text):
    assert list(read_numbers(text)) == []


@pytest.mark.parametrize(
    ("source", "rewrite", "code"),
    [
        ("He never hit me, he only shouted.", "He hit the narrator and shouted.", "negation_missing"),
        ("There was no contract between us.", "There was a contract.", "negation_missing"),
        ("I didn't pay the rent.", "The narrator paid the rent.", "negation_missing"),
        ("I paid the rent.", "The narrator did not pay the rent.", "negation_added"),
        ("I didn't pay the rent.", "The narrator left the rent unpaid.", None),
        ("I didn't pay the rent.", "The narrator refused to pay the rent.", None),
        ("He not only paid, he thanked me.", "He paid and thanked the narrator.", None),
        ("他没有还钱。", "他还钱了。", "negation_missing"),
        ("他还钱了。", "他没有还钱。", "negation_added"),
        ("他不小心摔坏了杯子。", "他摔坏了杯子。", None),
        ("他没有还钱。", "他拒绝还钱。", None),
    ],
)
def test_negations(source, rewrite, code):
    found = codes(source, rewrite, max_ratio=9, max_verbatim=None, parties=False)
    assert {c for c in found if c.startswith("negation")} == ({code} if code else set())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I met Anna Kovacs and Dr. Petrov in Riga.", {"anna kovacs", "petrov", "riga"}),
        ("Yesterday he left. Garbage was everywhere.", set()),
        ("Xiao Ming came early.", {"xiao ming"}),
        ("I know Eva Smith-Jones.", {"eva smith-jones"}),
        ("HE NEVER PAYS AND I HATE IT.", set()),
        ("He NEVER pays Lena's rent.", {"lena"}),
        ("On Monday in March I'm off.", set()),
        ("我和王先生、小李、张阿姨吵架，小时候就认识老陈。", {"王先生", "小李", "张阿姨", "老陈"}),
        ("小区里的小孩不小心。", set()),
    ],
)
def test_names(text, names):
    assert set(must_keep(text).names) == names


def test_a_part_of_a_name_will_do_if_it_is_no_one_elses():
    source = "I lent Anna Kovacs my drill and Peter Kovacs my saw."
    assert "name_missing" not in codes(source, "The narrator lent Anna a drill and Peter a saw.")
    assert "name_missing" in codes(source, "The narrator lent Kovacs a drill and a saw.")


def test_a_double_name_is_found_again():
    text = "I lent it to Smith-Jones and to B2B's O'Neil."
    assert not {"name_missing", "name_added"} & codes(text, text)
    assert "name_missing" in codes(text, text.replace("Smith-Jones", "him"))


def test_settings():
    source, rewrite = "阿里把车停在我的车位。我报警了。", "叙述者称有人把车停在车位，叙述者报警。"
    assert "name_missing" not in codes(source, rewrite)
    assert "name_missing" in codes(source, rewrite, names=("阿里",))
    acts = {"trespass": ("trespass", "闯入")}
    assert "act_missing" in codes("He trespassed. I left.", "He came. The narrator left.", acts=acts)
    assert "act_missing" not in codes("He trespassed. I left.", "He was trespassing; the narrator left.", acts=acts)
    young = GOOD.replace("Tomas Berg parked", "Tomas Berg, a young man, parked")
    assert codes(SOURCE, young, max_unsupported=0.2) == {"unsupported"}  # of a person: never soft
    assert codes(SOURCE, young, max_unsupported=0.2, preset="strict") == set()
    assert codes(SOURCE, young, neutral_words={"young", "man"}) == set()
    assert "number_missing" not in codes(SOURCE, GOOD.replace("20", "some"), must_keep={"names"})
    assert Fidelity().extractive()(SOURCE, SOURCE)["faithful"]
    with pytest.raises(ValueError, match="max_ratio"):
        Fidelity(max_ratio=0)
    with pytest.raises(ValueError, match="must_keep"):
        Fidelity(must_keep={"commas"})
    with pytest.raises(ValueError, match="strict"):
        Fidelity(strict=True)


def test_must_keep():
    spans = must_keep(SOURCE)
    assert set(spans.numbers) == {"12", "3", "20", "1250 $", "day 1"}
    assert spans.names == ("tomas berg",)
    assert "damage" in spans.acts
    assert spans.negations == 2
    assert spans.parties == ("narrator", "other")
    assert must_keep("") == ((), (), (), 0, ())


def test_stems_join_inflections():
    for forms in (
        "punch punched punches punching",
        "place placed placing places",
        "stop stopped stopping",
        "carry carried",
    ):
        assert len({stem_of(form) for form in forms.split()}) == 1, forms
    assert stem_of("paid") == stem_of("pays")


def test_sentences_are_verbatim_pieces():
    text = 'Mr. J. Lind paid 3.50 on 1. May. "Then he left!" said Eva?\nLast line'
    assert split_sentences("Mr. Lind paid 3.50. He left! 他走了。“别走！”我说。") == [
        "Mr. Lind paid 3.50.", "He left!", "他走了。", "“别走！”", "我说。"
    ]  # fmt: skip
    assert "Mr. J. Lind paid 3.50 on" in split_sentences(text)[0]
    assert split_sentences(" \n ") == []


def test_a_megabyte_takes_seconds_not_minutes():
    text = (SOURCE + " ") * 2500
    started = time.perf_counter()
    assert "too_short" in codes(text, GOOD)
    assert time.perf_counter() - started < 60


# --- properties -----------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "the",
        "van",
        "neighbor",
        "drove",
        "moved",
        "never",
        "asked",
        "fence",
        "door",
        "shouted",
        "Tomas",
        "Berg",
        "not",
        "paid",
        "他",
        "打了",
        "没有",
        "门",
        "。",
        ".",
    ]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=30).map(" ".join)
NUMBERS = st.integers(2, 9_999)


@given(st.one_of(TEXTS, st.text(max_size=300)))
@settings(max_examples=150, deadline=None)
def test_a_text_is_faithful_to_itself(text):
    loose = Fidelity(max_verbatim=None, verdicts=True)
    result = loose(text, text)
    # `I` beside `the narrator` in one text is a fault whatever the source; it cannot come from these words.
    assert {r.partition(":")[0] for r in result["reasons"]} <= {"party_mixed"}
    json.dumps(result, allow_nan=False)


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_two_texts_give_a_result(source, rewrite):
    result = Fidelity()(source, rewrite)
    assert result["faithful"] == (not result["reasons"])


@given(st.lists(NUMBERS, min_size=1, max_size=6, unique=True), st.data())
@settings(max_examples=100, deadline=None)
def test_a_number_lost_or_added_is_found(numbers, data):
    write = st.sampled_from(["{}", "{:,}", "${}", "{}%", "{} euros"])
    parts = [data.draw(write).format(n) for n in numbers]
    gone = data.draw(st.integers(0, len(parts) - 1))
    source = "I asked for " + " and then for ".join(parts) + "."
    fewer = "I asked for " + " and then for ".join([*parts[:gone], "more", *parts[gone + 1 :]]) + "."
    assert "number_missing" not in codes(source, source)
    assert "number_missing" in codes(source, fewer)
    assert "number_added" in codes(fewer, source)


@given(st.text(max_size=400))
@settings(max_examples=150, deadline=None)
def test_sentences_lose_nothing_but_white_space(text):
    joined = "".join(split_sentences(text))
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", text)
    for sentence in split_sentences(text):
        assert sentence in text


@given(NUMBERS)
@settings(deadline=None)
def test_numbers_in_words_are_read_back(number):
    assume(number < 1000)
    ones = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ]
    tens = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

    def below_hundred(n):
        return ones[n] if n < 20 else tens[n // 10] + (f"-{ones[n % 10]}" if n % 10 else "")

    words = below_hundred(number % 100) if number % 100 else ""
    if number >= 100:
        words = f"{ones[number // 100]} hundred" + (f" and {words}" if words else "")
    assume(not words.startswith("one"))
    assert [n.value for n in read_numbers(f"I saw {words} cars.")] == [str(number)]


# What the laxer preset must still refuse: each is one fault in a rewrite that passes otherwise.
STORY = (
    "On May 4 I asked Jana Pohl to water my plants. She did not come. I poured soup over her bicycle, and she told our "
    "landlord that I had poisoned her cat. I never saw her cat."
)
TOLD = (
    "The narrator asked Jana Pohl on May 4 to water the plants. Pohl did not come. The narrator emptied soup onto her "
    "bicycle, and she told the landlord that the narrator had poisoned her cat, which the narrator never saw."
)


def test_balanced_passes_a_free_paraphrase():
    assert codes(STORY, TOLD) == set()


@pytest.mark.parametrize(
    ("code", "rewrite"),
    [
        ("act_missing", TOLD.replace("The narrator emptied soup onto her bicycle, and she told", "She told")),
        ("party_swapped", TOLD.replace("had poisoned her cat", "had a cat").replace("asked Jana Pohl", "met Jana Pohl")
         .replace("The narrator emptied soup onto her", "Jana Pohl poured soup onto the narrator's")),
        ("negation_missing", TOLD.replace("did not come", "came")),
        ("unsupported", TOLD.replace("Pohl did not come", "Pohl, who was drunk, did not come")),
        ("unsupported", TOLD.replace("which the narrator", "and slashed the tires of the car, which the narrator")),
        ("number_missing", TOLD.replace("May 4", "May 5")),
        ("verdict", TOLD + " Pohl is at fault."),
    ],
)  # fmt: skip
def test_balanced_still_refuses_each_fault(code, rewrite):
    assert code in codes(STORY, rewrite)


def test_a_preset_by_name_in_the_transfer():
    from langchain_dsplus.transfer import PromptTransfer

    assert PromptTransfer(lambda _: TOLD, fidelity="strict").fidelity == Fidelity(preset="strict")
    with pytest.raises(ValueError, match="preset"):
        PromptTransfer(lambda _: TOLD, fidelity="lax")
