"""The dispute texts: how many, how balanced, how halved, and that both tellings admit what must be kept."""

import re
from collections import Counter

import pytest

from benchmarks.disputes import texts
from benchmarks.disputes.texts import Dispute, Fact, even_order, load, occurs, recall, split_of
from langchain_dsplus.graphs import VERDICTS

DISPUTES = load()
IDS = [dispute.id for dispute in DISPUTES]
SHARES = {"narrator": 0.40, "other party": 0.35, "both": 0.15, "unclear": 0.10}


def _han(text: str) -> int:
    return len(re.findall(r"[\u4e00-\u9fff]", text))


def _grams(dispute: Dispute, size: int) -> set[str]:
    found: set[str] = set()
    for text in (dispute.statement, dispute.twin):
        pieces = re.findall(r"[\u4e00-\u9fff]" if dispute.language == "zh" else r"\w+", text.lower())
        found |= {" ".join(pieces[n : n + size]) for n in range(len(pieces) - size + 1)}
    return found


def test_counts_and_balance() -> None:
    counts = Counter(dispute.language for dispute in DISPUTES)
    assert counts["en"] >= 60
    assert counts["zh"] >= 20
    assert len(set(IDS)) == len(IDS)
    for language, n in counts.items():
        verdicts = Counter(d.verdict for d in DISPUTES if d.language == language)
        assert set(verdicts) == set(VERDICTS) == set(texts.SWAP)
        for verdict, share in SHARES.items():
            assert abs(verdicts[verdict] / n - share) <= 0.05, (language, verdict)
        topics = Counter(d.topic for d in DISPUTES if d.language == language)
        assert {"neighbors", "traffic", "tenancy", "sales", "work", "damage"} <= set(topics)
        assert max(topics.values()) <= n / 5


def test_the_split_is_the_stated_rule_and_halves_every_stratum() -> None:
    assert {d.id: d.split for d in DISPUTES} == split_of(DISPUTES)
    for language in texts.LANGUAGES:
        halves = Counter(d.split for d in DISPUTES if d.language == language)
        assert halves["tune"] == halves["locked"]
        for verdict in VERDICTS:
            stratum = Counter(d.split for d in DISPUTES if (d.language, d.verdict) == (language, verdict))
            assert abs(stratum["tune"] - stratum["locked"]) <= 1


@pytest.mark.parametrize("dispute", DISPUTES, ids=IDS)
def test_each_pair(dispute: Dispute) -> None:
    assert re.fullmatch(r"(en|zh)-[a-z]+", dispute.id)
    for text, verdict in dispute.tellings:
        assert verdict in VERDICTS
        assert text == text.strip()
        assert "\n" not in text
        if dispute.language == "en":
            assert 90 <= len(text.split()) <= 220
            assert _han(text) == 0
        else:
            assert 150 <= len(text) <= 350
            assert _han(text) / len(text) > 0.8
        for fact in dispute.must_keep:
            assert fact.kept(text), (fact.fact, "is in one telling only")
    assert 3 <= len(dispute.must_keep) <= 6
    assert len({fact.fact for fact in dispute.must_keep}) == len(dispute.must_keep)
    assert "\n" not in dispute.reason
    assert 10 <= len(dispute.reason) <= 120
    assert dispute.tellings[1][1] == texts.SWAP[dispute.verdict]


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_no_two_disputes_share_a_long_run_of_words(language: str) -> None:
    size = 8 if language == "en" else 12
    owner: dict[str, str] = {}
    for dispute in load([language]):
        for gram in _grams(dispute, size):
            assert owner.setdefault(gram, dispute.id) == dispute.id, gram


def test_no_two_texts_begin_alike() -> None:
    starts = [
        " ".join(text.split()[:4]) if d.language == "en" else text[:6] for d in DISPUTES for text, _ in d.tellings
    ]
    assert len(set(starts)) == len(starts)


def test_every_beginning_of_the_even_order_is_balanced() -> None:
    english = load(["en"], "locked")
    ordered = even_order(english)
    assert sorted(d.id for d in ordered) == sorted(d.id for d in english)
    for n in (10, 20):
        counts = Counter(d.verdict for d in ordered[:n])
        for verdict, share in SHARES.items():
            assert abs(counts[verdict] - share * n) <= 1.5, (n, verdict)


@pytest.mark.parametrize(
    ("span", "text", "there"),
    [
        ("640", "a bill for 640 euros", True),
        ("640", "a bill for 1640 euros", False),
        ("1.2", "1.25 m", False),
        ("55", "at 55.", True),
        ("40", "paid 40, then left", True),
        ("40", "40,000 km", False),
        ("drink", "She Drinks.", True),
        ("lock", "a block", False),
        ("四次", "去了四次", True),
        ("四次", "去了三次", False),
    ],
)
def test_a_span_is_found_whole(span: str, text: str, there: bool) -> None:
    assert occurs(span, text) is there


def test_recall() -> None:
    facts = [Fact("a", ("640",)), Fact("b", ("two weeks", "2 weeks"))]
    assert recall(facts, "640 after 2 weeks") == 1.0
    assert recall(facts, "two weeks") == 0.5
    assert recall(facts, "nothing") == 0.0
