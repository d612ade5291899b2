"""Small language models really do invent and lose things when they rewrite: the gate must not let it through."""

import re

import pytest

from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.transfer import PromptTransfer

# Texts, with what every faithful rewrite of them holds: written by hand, not read by the code that is tested.
TEXTS = [
    (
        (
            "I am a patient man. On May 3 Piet Vos borrowed my ladder. He did not bring it back for 10 days. I smashed two "
            "panes of his greenhouse. The glass cost 310 euros."
        ),
        [r"\b10\b|\bten\b", r"\b310\b", r"Vos", r"smash|broke|break|shatter|destroy"],
    ),
    (
        (
            "It was a sunny day. Nadia Roth parked in front of my garage for 3 hours. I was late, so I cut her tires. Now she "
            "wants 480 dollars from me."
        ),
        [r"\b3\b|\bthree\b", r"\b480\b", r"Roth|Nadia", r"\bcut|slash|slit"],
    ),
    (
        (
            "My dog Bruno is sweet. He was not on a leash. A jogger sprayed something into his eyes. I ran after the jogger "
            "and tore his headphones off. The vet charged 190 dollars."
        ),
        [r"\b190\b", r"Bruno", r"\bnot\b|n't|without|off (?:the|a|his) leash|unleash", r"tore|rip|pull|grab"],
    ),
]


@pytest.mark.llm
@pytest.mark.parametrize("server", ["smollm_server", "qwen_server"])
def test_the_gate_lets_no_rewrite_through_that_lost_what_must_stay(server, request):
    served = request.getfixturevalue(server)
    # The texts have some 45 tokens: a rewrite that goes on is cut off, and refused for that.
    model = served.chat_model(temperature=0, max_tokens=60)
    ledger = CostLedger(Price(1.0, 1.0))
    transfer = PromptTransfer(model, on_unfaithful="both", large_price=Price(100.0, 100.0), price=Price(1.0, 1.0))
    refused = lossy = 0
    for text, must in TEXTS:
        out = transfer.invoke({"text": text}, {"callbacks": [ledger]})
        record = out["transfer"]
        assert record["calls"] == record["chunks"] == 1
        assert record["seconds"] > 0
        if record["used"] == "rewrite":
            assert all(re.search(pattern, out["rewrite"], re.IGNORECASE) for pattern in must)
            continue
        refused += 1
        assert record["reasons"]
        if record["used"] == "both":
            rewrite = out["rewrite"].partition("<<<ORIGINAL")[0]
            lossy += not all(re.search(pattern, rewrite, re.IGNORECASE) for pattern in must)
            assert text in out["rewrite"]
        else:
            assert out["rewrite"] == text
    assert refused >= 1  # models of this size do not manage all three
    assert lossy <= refused
    (row,) = ledger.table()
    assert (row["side"], row["calls"]) == ("transfer", len(TEXTS))
    assert row["input_tokens"] > 300
    print(f"{served.model}: {refused} of {len(TEXTS)} refused, {lossy} of them lost a fact")
