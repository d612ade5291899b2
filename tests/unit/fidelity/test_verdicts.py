"""Judgements that a rewrite adds: caught in their many forms, and left alone where somebody in the source judges."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

import pytest

from langchain_dsplus.fidelity import Fidelity

CHECK = Fidelity()
SOURCE = (
    "I parked in front of the bakery for ten minutes. Mrs. Okoye told me to move. I said in a minute. She called the "
    "tow truck and it cost me 210. My sister Ada drove me to the pound. I left a bad review."
)
TOLD = "The narrator parked in front of the bakery for ten minutes. "
HAN = "我把车停在面包店门口十分钟，周老板娘让我挪车，我说马上。她叫了拖车，我花了二百一。妹妹送我去取车。我写了差评。"
HAN_TOLD = "讲述者把车停在面包店门口十分钟，老板娘让挪车。"
ADDED = """Mrs. Okoye was entirely justified in calling the tow truck.
The narrator wrongly parked there and was towed.
Calling the tow truck was an unreasonable response.
The narrator should have moved the car at once.
Mrs. Okoye had every right to call the tow truck.
The review, which was unfair to the bakery, was bad.
The bad review was an unjustified act of revenge.
The narrator was told to move, which was only fair.
Mrs. Okoye acted within her rights.
The narrator should have left no review."""
HAN_ADDED = """讲述者有错在先。
老板娘叫拖车并不过分。
这件事老板娘做得没错。
老板娘的做法合情合理。
讲述者不该占道停车。
两人都有责任。
显然是讲述者不对。"""


def codes(source, rewrite):
    return {reason.split(":")[0] for reason in CHECK(source, rewrite)["reasons"]}


@pytest.mark.parametrize("judged", ADDED.splitlines())
def test_a_judgement_that_nobody_speaks_is_added(judged):
    assert "verdict" in codes(SOURCE, TOLD + judged)


@pytest.mark.parametrize("judged", HAN_ADDED.splitlines())
def test_a_chinese_judgement_that_nobody_speaks_is_added(judged):
    assert "verdict" in codes(HAN, HAN_TOLD + judged)


@pytest.mark.parametrize(
    "honest",
    [
        "Mrs. Okoye told the narrator to move and had the car towed for 210.",
        "Mrs. Okoye says that the narrator was unfair.",
        "The bakery is on the right side of the road.",
        "The car was in the wrong place.",
        "Ada was responsible for driving to the pound.",
    ],
)
def test_a_report_judges_nothing(honest):
    assert "verdict" not in codes(SOURCE, TOLD + honest)


def test_a_judgement_of_the_source_may_stay():
    assert not codes(SOURCE + " I acted unreasonably.", TOLD + "The narrator acted unreasonably.")


@pytest.mark.parametrize("allowed", [True, False])
def test_judgements_may_be_allowed(allowed):
    reasons = Fidelity(verdicts=allowed)(SOURCE, TOLD + "The narrator acted unreasonably.")["reasons"]
    assert bool(reasons) is not allowed
