"""Kinds of fault in drawn pairs: caught as often as the gate promises, and honest rewrites left alone."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

import pytest

from langchain_dsplus.fidelity import Fidelity
from langchain_dsplus.fidelity.arithmetic import Numbers
from tests.unit.fidelity.generated import drawn

CHECK = Fidelity()
AT_LEAST = {
    ("changed_number", "en"): 0.9,
    ("changed_number", "zh"): 0.9,
    ("verdict", "en"): 0.7,
    ("verdict", "zh"): 0.8,
    ("other_name", "en"): 0.8,
    ("other_name_lower", "en"): 0.8,
    ("other_name", "zh"): 0.7,
    ("exchanged_names", "en"): 0.5,
}


def refused(kind, lang):
    pairs = drawn(kind, lang, 40, seed="test")
    return sum(not CHECK(*pair)["faithful"] for pair in pairs) / len(pairs)


@pytest.mark.parametrize(("kind", "lang"), AT_LEAST)
def test_faults_are_caught(kind, lang):
    assert refused(kind, lang) >= AT_LEAST[kind, lang]


@pytest.mark.parametrize(("kind", "lang"), [("honest", "en"), ("honest_lower", "en"), ("honest", "zh")])
def test_honest_rewrites_pass(kind, lang):
    assert refused(kind, lang) <= 0.1


@pytest.mark.parametrize("minutes", [65, 80, 110])
def test_an_amount_in_two_units_is_one(minutes):
    rest = minutes - 60
    for told in (f"an hour and {rest} minutes", f"1 hour {rest} minutes", f"一个小时{rest}分钟", f"1小时{rest}分"):
        assert not Numbers(f"{minutes} minutes").added(Numbers(told))
        assert not Numbers(told).added(Numbers(f"{minutes} minutes"))
        assert Numbers(told).added(Numbers(f"{minutes + 5} minutes"))


@pytest.mark.parametrize(
    ("source", "honest", "changed"),
    [
        ("I lent him 1,500, he gave back 600.", "He still owes 900.", "The narrator lent him 2,100; he gave back 600."),
        ("水费一百二，电费三百。", "水电费共420元。", "水费420元，电费300元。"),
    ],
)
def test_a_number_that_follows_and_one_that_does_not(source, honest, changed):
    assert not Numbers(source).added(Numbers(honest))
    assert Numbers(source).added(Numbers(changed))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("He sent it late.", "It was sent late, twice, in November and December."),
        ("They broke things.", "They broke three things: a vase, a lamp and a cup."),
    ],
)
def test_a_rewrite_may_count_its_own_list(source, told):
    own = Numbers(told)
    months = {n.text for n in own.all if any(unit == "month" for _, unit in n.readings)}
    assert set(Numbers(source).added(own)) <= months


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("I must be out of the flat by Friday.", "The narrator must be out of the flat by Friday."),
        ("He should give back the ladder, I think.", "He should give back the ladder."),
        ("I asked for the ladder.", "The narrator asks whether he should give it back."),
        ("我必须周五前搬走。", "叙述者必须周五前搬走。"),
    ],
)
def test_a_duty_that_the_source_tells_is_no_verdict(source, told):
    assert not any(r.startswith("verdict") for r in CHECK(f"{source} It was late.", told)["reasons"])


@pytest.mark.parametrize("name", ["Andrea", "Theresa", "Wasim", "Toomas", "Hermine"])
def test_a_name_that_begins_like_a_common_word_is_a_name(name):
    source = "Then Oskar and Ben had a row, and the dog was there too, but not for her."
    assert CHECK(source, f"Later {name} had a row with Ben.")["added"] == [name]


@pytest.mark.parametrize(
    ("source", "told", "swapped"),
    [
        ("Oskar kept my deposit. Ben painted the wall.", "Ben kept the deposit.", True),
        ("Oskar kept my deposit. Ben painted the wall.", "Oskar kept the deposit; Ben painted a wall.", False),
        ("Oskar and Ben painted the wall.", "Ben painted the wall.", False),
        ("Ben Miller painted the wall. Oskar left.", "Ben painted the wall, and Oskar left.", False),
        ("我拉住了小周。", "小周拉住了叙述者。", True),
        ("小周拉住了他。老孙录了像。", "小周拉住了他，老孙录了像。", False),
    ],
)
def test_names_that_change_places(source, told, swapped):
    assert any(r.startswith("party_swapped") for r in CHECK(source, told)["reasons"]) is swapped
