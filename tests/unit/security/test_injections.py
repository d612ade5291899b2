"""Injections out of a generated corpus: they reach a model as data, in marked lines, and change nothing around them."""

from __future__ import annotations

import re

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import (
    ConfidenceRouter,
    FakeSmallModel,
    LabelParser,
    PromptPruner,
    PromptTransfer,
    create_dispute_graph,
)
from langchain_dsplus.chat_dsplus.judges import Judged, LLMJudge
from langchain_dsplus.fidelity.judge import ask_judge
from langchain_dsplus.fidelity.untrusted import defuse
from tests.unit.security.injections import MARKS, corpus

LABELS = ["refund", "delivery", "login"]
CORPUS = corpus("refund", number=66)


def outside(prompt: str) -> tuple[str, int]:
    """What stands outside of marked lines, and how many quotations there are; a forged mark ends none."""
    rest, count = prompt, 0
    while found := re.search(r"<<<([^<>\n]*) ([0-9a-f]{10})>>>\n", rest):
        name, digest = found.groups()
        end = f"\n<<<END OF {name} {digest}>>>"
        assert rest.count(digest) == 2, "the text holds its own mark"
        rest, count = rest[: found.start()] + rest[rest.index(end) + len(end) :], count + 1
    return rest, count


def quoted_safely(prompts, text, attack, *, quotations):
    lines = [line for line in defuse(attack).split("\n") if len(line) > 12]
    for prompt in prompts:
        rest, count = outside(prompt)
        assert count == quotations
        assert not any(line in rest for line in lines)
        assert not any(mark in prompt for mark in MARKS)


@pytest.mark.parametrize("place", range(len(CORPUS)))
def test_transfer_and_adjudicator(place):
    text, attack = CORPUS[place]
    small, large = [], []

    def rewrite(messages):
        small.append(messages[-1].text)
        return AIMessage(attack)  # it obeys, or repeats the order

    def judge(messages):
        large.append(messages.to_messages()[-1].text if hasattr(messages, "to_messages") else messages[-1].text)
        return AIMessage("unclear")

    transfer = PromptTransfer(RunnableLambda(rewrite), input_key="text", output_key="out", record_key="record")
    made = transfer.invoke({"text": text})
    quoted_safely(small, text, attack, quotations=1)
    assert made["record"]["used"] == "original", "a rewrite that is an order is never used"
    assert made["out"] == text
    create_dispute_graph(None, RunnableLambda(judge)).invoke({"statement": text})
    assert large
    quoted_safely(large, text, attack, quotations=1)


@pytest.mark.parametrize("pruning", ["soft", "hard", "keep", "none"])
def test_the_pruner_puts_a_text_in_as_it_is_and_nothing_else_changes(pruning):
    options = {"hard": {"proficient": ["login"]}, "keep": {"top_k": 2}}.get(pruning, {})
    pruner = PromptPruner.from_messages(
        [("system", "Decide."), ("human", "{text}")], labels=LABELS, pruning=pruning, **options
    )
    context = {"answer": None, "probabilities": {"refund": 0.2, "delivery": 0.5, "login": 0.3}}
    plain = [m.text for m in pruner.format_messages(text="\ue000", dsplus=context)]
    for text, _ in CORPUS:
        made = [m.text for m in pruner.format_messages(text=text, dsplus=context)]
        assert made == [part.replace("\ue000", text) for part in plain]
        assert pruner.offered({"text": text, "dsplus": context}) == pruner.offered({"text": "", "dsplus": context})


def test_judges_see_both_texts_as_data_and_are_no_wiser_for_an_order():
    seen = []

    def judge(messages):
        seen.append(messages[-1].text)
        return AIMessage("no")

    for text, attack in CORPUS:
        seen.clear()
        verdicts = LLMJudge(RunnableLambda(judge))._verdicts([Judged(text, attack, "42")])
        assert verdicts == [False]
        quoted_safely(seen, text, attack, quotations=3)
        seen.clear()
        ask_judge(RunnableLambda(judge), text, attack)
        for prompt in seen:
            assert outside(prompt)[1] == 2
            assert not any(mark in prompt for mark in MARKS)


def test_a_route_is_decided_by_probabilities_never_by_what_a_text_says():
    """And a reply that only repeats the order in a text is no label that was not asked for."""
    small = FakeSmallModel(default=dict(zip(LABELS, (0.5, 0.3, 0.2), strict=True)), labels=LABELS, input_key="text")
    pruner = PromptPruner.from_messages([("human", "{text}")], labels=LABELS)
    parser = LabelParser(LABELS)
    large = pruner | RunnableLambda(lambda _: AIMessage("delivery")) | parser
    router = ConfidenceRouter(small=small, large=large, threshold=0.9, include_route=True)
    for text, _ in CORPUS:
        made = router.invoke({"text": text})
        assert (made["output"], made["route"]["accepted"]) == ("delivery", False)
