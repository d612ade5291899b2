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


@pytest.mark.encoder
def test_the_encoder_forgives_paraphrases_and_still_catches(encoder_path):
    from langchain_dsplus.small_models.sentence import Encoder

    check = Fidelity(encoder=Encoder(encoder_path))
    plain = counts(Fidelity(), "tune", "en")
    near = counts(check, "tune", "en")
    assert near[1] < plain[1]
    assert near[0] >= plain[0] - 0.05
    assert counts(check, "locked", "en")[0] >= 0.75
