"""A chat model as the last layer of the check: asked once for each sentence, in one batch, counted."""

# ruff: noqa: RUF001 - Chinese punctuation is meant

import asyncio

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import CostLedger, Fidelity
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.fidelity.judge import read_yes_no
from langchain_dsplus.transfer import PromptTransfer

SOURCE = (
    "I lent my drill to Oskar Lund on April 2. He kept it for 9 days. I poured water over his balcony. It was late."
)
REWRITE = "The narrator lent a drill to Oskar Lund. He kept it for 9 days. The narrator poured water over his balcony."


class Judge(FakeListChatModel):
    """Says no to claims with a word of `denied`, and reports usage."""

    denied: tuple = ()
    responses: list = ["yes"]
    sent: list = []

    def _generate(self, messages, *args, **kwargs):
        self.sent.append(messages)
        claim = messages[-1].text.partition("CLAIM")[2]
        result = super()._generate(messages, *args, **kwargs)
        said = "no" if any(word in claim for word in self.denied) else self.responses[0]
        usage = {"input_tokens": 7, "output_tokens": 1, "total_tokens": 8}
        result.generations[0].message = AIMessage(said, usage_metadata=usage)
        return result


def test_each_sentence_is_asked_once_and_what_is_denied_refuses():
    judge = Judge(denied=("kept",), sent=[])
    check = Fidelity(judge=judge)
    result = check(SOURCE, REWRITE)
    assert result["reasons"] == ["judged_unsupported: 1 of 3 sentences are not in the source, says the judge"]
    assert result["added"] == ["He kept it for 9 days."]
    assert (result["spoke"], result["refused_by"]) == (["rules", "judge"], "judge")
    assert len(judge.sent) == 3
    assert check(SOURCE, REWRITE) == result
    assert len(judge.sent) == 3  # it remembers
    assert all("I lent" not in messages[-1].text for messages in judge.sent)


def test_the_judge_is_not_asked_where_a_layer_before_it_refused():
    judge = Judge(sent=[])
    assert Fidelity(judge=judge)(SOURCE, REWRITE.replace("9", "90"))["spoke"] == ["rules"]
    check = Fidelity(judge=judge, nli=lambda pairs: [0.1] * len(pairs))
    assert check(SOURCE, REWRITE)["refused_by"] == "nli"
    assert judge.sent == []
    result = Fidelity(judge=judge, nli=lambda pairs: [0.9] * len(pairs))(SOURCE, REWRITE)
    assert (result["faithful"], result["spoke"]) == (True, ["rules", "nli", "judge"])


@pytest.mark.parametrize("said", ["perhaps", "", "yes and no"])
def test_an_answer_that_is_none_is_no_support_and_is_asked_again(said):
    judge = Judge(responses=[said], sent=[])
    check = Fidelity(judge=judge)
    assert [r.partition(":")[0] for r in check(SOURCE, REWRITE)["reasons"]] == ["judge_unclear"]
    check(SOURCE, REWRITE)
    assert len(judge.sent) == 6


def test_a_judge_that_fails_is_named_without_its_message():
    def broken(_):
        msg = "secret text"
        raise RuntimeError(msg)

    (reason,) = Fidelity(judge=RunnableLambda(broken))(SOURCE, REWRITE)["reasons"]
    assert reason == "judge_unclear: 3 of 3 questions without a yes or no (3 failed)"


def test_cancellation_passes_through():
    def cancelled(_):
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        Fidelity(judge=RunnableLambda(cancelled))(SOURCE, REWRITE)


def test_a_judge_that_is_no_runnable_is_an_error():
    with pytest.raises(TypeError, match="judge"):
        Fidelity(judge=3)(SOURCE, REWRITE)


def test_chinese_is_asked_in_chinese():
    judge = Judge(responses=["是"], sent=[])
    source = "我把电钻借给小李，他用了九天才还。我生气了，就往他阳台泼水。那天很晚。"
    assert Fidelity(judge=judge)(source, "叙述者把电钻借给小李，后来往他阳台泼水。")["faithful"]
    assert "陈述" in judge.sent[0][-1].text


@pytest.mark.parametrize("async_", [False, True])
async def test_the_ledger_counts_what_the_judge_takes(async_):
    ledger = CostLedger(Price(1, 1))
    transfer = PromptTransfer(lambda _: REWRITE, fidelity=Fidelity(judge=Judge(sent=[])))
    config = {"callbacks": [ledger]}
    out = await transfer.ainvoke({"text": SOURCE}, config) if async_ else transfer.invoke({"text": SOURCE}, config)
    assert out["transfer"]["used"] == "rewrite"
    assert [(row["side"], row["calls"], row["input_tokens"]) for row in ledger.table()] == [("transfer", 3, 21)]
    alone = CostLedger(Price(1, 1))
    Fidelity(judge=Judge(sent=[])).check(SOURCE, REWRITE, {"callbacks": [alone]})
    assert sum(row["calls"] for row in alone.table()) == 3


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("No.", False),
        (AIMessage("YES"), True),
        ("是", True),
        ("否。", False),
        (True, True),
        ("maybe", None),
        (None, None),
    ],
)
def test_answers(output, wanted):
    assert read_yes_no(output) is wanted
