"""The labeled pairs of the fidelity benchmark: what the check catches, and what it refuses without need."""

import json
from pathlib import Path

import pytest

from langchain_dsplus.prompts.fidelity import Fidelity

FILE = Path(__file__).parents[3] / "benchmarks" / "fidelity_pairs.json"
ITEMS = json.loads(FILE.read_text(encoding="utf-8"))["items"]


def counts(check, split, language):
    caught = refused = bad = good = 0
    for item in ITEMS:
        if (item["split"], item["language"]) != (split, language):
            continue
        refused += sum(not check(item["text"], rewrite)["faithful"] for rewrite in item["faithful"])
        good += len(item["faithful"])
        caught += sum(not check(item["text"], rewrite)["faithful"] for rewrite in item["unfaithful"].values())
        bad += len(item["unfaithful"])
    return caught / bad, refused / good


def test_the_set_is_what_it_says():
    for language, least in (("en", 30), ("zh", 15)):
        of = [item for item in ITEMS if item["language"] == language]
        assert sum(len(item["faithful"]) + len(item["unfaithful"]) for item in of) >= least
        assert {item["split"] for item in of} == {"tune", "locked"}
    assert len({item["id"] for item in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_rules_catch_nearly_all(language):
    for split in ("tune", "locked"):
        caught, _ = counts(Fidelity(), split, language)
        assert caught >= 0.85, split


@pytest.mark.parametrize("language", ["en", "zh"])
def test_balanced_lets_honest_paraphrases_pass_that_strict_refuses(language):
    _, balanced = counts(Fidelity(), "tune", language)
    caught, strict = counts(Fidelity(preset="strict"), "tune", language)
    assert balanced <= 0.2
    assert strict >= balanced + 0.2
    assert caught >= 0.85


@pytest.mark.encoder
def test_the_encoder_forgives_paraphrases_and_still_catches(encoder_path):
    from langchain_dsplus.small_models.sentence import Encoder

    check, plain = Fidelity(encoder=Encoder(encoder_path)), Fidelity()
    items = [item for item in ITEMS if item["language"] == "en" and item["split"] == "tune"]
    refused = [(i["text"], r) for i in items for r in i["faithful"] if not plain(i["text"], r)["faithful"]]
    assert any(check(*pair)["faithful"] for pair in refused)
    faults = [(i["text"], r) for i in items[:8] for r in i["unfaithful"].values()]
    assert sum(not check(*pair)["faithful"] for pair in faults) >= 0.9 * len(faults)
