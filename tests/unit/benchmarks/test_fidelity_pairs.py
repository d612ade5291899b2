"""The pairs of the fidelity benchmark are frozen, one fault each, never changed; the first set is for development."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from langchain_dsplus import Fidelity

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
FILE = BENCHMARKS / "fidelity_pairs.json"
PAIRS = json.loads(FILE.read_text(encoding="utf-8"))
FAULTS = {
    "invented_act", "detail", "changed_number", "swapped_party", "flipped_negation", "claim_as_fact",
    "invented_cause", "name_or_role", "time_order", "verdict", "instruction",
}  # fmt: skip


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("fidelity_*.json")), ids=lambda file: file.stem)
def test_the_file_is_the_one_that_was_frozen(file):
    told = file.with_suffix(".sha256").read_text(encoding="utf-8").split()[0]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == told


def refused(name, lang):
    check = Fidelity()
    pairs = json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))
    honest = [pair for pair in pairs if pair["kind"] == "faithful" and pair["lang"] == lang]
    return sum(not check(pair["source"], pair["rewrite"])["faithful"] for pair in honest) / len(honest)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["fidelity_pairs", "fidelity_locked", "fidelity_honest", "fidelity_fresh"])
def test_at_most_a_tenth_of_the_honest_development_rewrites_is_refused(name, lang):
    assert refused(name, lang) <= 0.1


@pytest.mark.parametrize(("kind", "share"), [("changed_number", 0.88), ("instruction", 0.9), ("verdict", 0.8)])
@pytest.mark.parametrize("name", ["fidelity_pairs", "fidelity_locked"])
def test_faults_of_the_kinds_that_rules_are_for_are_caught(name, kind, share):
    check = Fidelity()
    pairs = json.loads((BENCHMARKS / f"{name}.json").read_text(encoding="utf-8"))
    bad = [pair for pair in pairs if pair["kind"] == kind]
    assert sum(not check(pair["source"], pair["rewrite"])["faithful"] for pair in bad) >= share * len(bad)


@pytest.mark.parametrize(("lang", "pairs", "per_fault"), [("en", 60, 4), ("zh", 30, 2)])
def test_there_are_enough_pairs_of_each_kind(lang, pairs, per_fault):
    kinds = Counter(pair["kind"] for pair in PAIRS if pair["lang"] == lang)
    assert kinds.total() >= pairs
    assert set(kinds) == FAULTS | {"faithful"}
    assert min(kinds[fault] for fault in FAULTS) >= per_fault
    assert 0.35 <= kinds["faithful"] / kinds.total() <= 0.55


def test_no_pair_is_told_twice_or_copied():
    assert len({pair["id"] for pair in PAIRS}) == len(PAIRS)
    assert len({(pair["source"], pair["rewrite"]) for pair in PAIRS}) == len(PAIRS)
    assert all(pair["rewrite"].strip() and pair["rewrite"] not in pair["source"] for pair in PAIRS)
