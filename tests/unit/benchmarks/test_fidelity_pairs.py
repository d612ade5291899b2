"""The pairs of the fidelity benchmark are frozen, one fault each, never changed; `dev` is for development."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from langchain_dsplus import Fidelity

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
PAIRS = {
    name: json.loads((BENCHMARKS / f"fidelity_{name}.json").read_text(encoding="utf-8")) for name in ("dev", "unseen")
}
FAULTS = {
    "invented_act", "detail", "changed_number", "swapped_party", "flipped_negation", "claim_as_fact",
    "invented_cause", "name_or_role", "time_order", "verdict", "instruction",
}  # fmt: skip


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("fidelity_*.json")), ids=lambda file: file.stem)
def test_the_file_is_the_one_that_was_frozen(file):
    told = file.with_suffix(".sha256").read_text(encoding="utf-8").split()[0]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == told


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_hardly_any_honest_development_rewrite_is_refused(lang):
    check = Fidelity()
    honest = [pair for pair in PAIRS["dev"] if pair["kind"] == "faithful" and pair["lang"] == lang]
    assert sum(not check(pair["source"], pair["rewrite"])["faithful"] for pair in honest) <= 0.06 * len(honest)


@pytest.mark.parametrize(
    ("kind", "share"), [("changed_number", 0.9), ("instruction", 0.9), ("verdict", 0.8), ("name_or_role", 0.75)]
)
def test_faults_of_the_kinds_that_rules_are_for_are_caught(kind, share):
    check = Fidelity()
    bad = [pair for pair in PAIRS["dev"] if pair["kind"] == kind]
    assert sum(not check(pair["source"], pair["rewrite"])["faithful"] for pair in bad) >= share * len(bad)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("lang", "pairs", "per_fault"), [("en", 60, 1), ("zh", 30, 1)])
def test_there_are_enough_pairs_of_each_kind(name, lang, pairs, per_fault):
    kinds = Counter(pair["kind"] for pair in PAIRS[name] if pair["lang"] == lang)
    assert kinds.total() >= pairs
    assert set(kinds) - {"changed_name"} == FAULTS | {"faithful"}
    assert min(kinds[fault] for fault in FAULTS) >= per_fault


@pytest.mark.parametrize("name", PAIRS)
def test_no_pair_is_told_twice(name):
    pairs = PAIRS[name]
    assert len({pair["id"] for pair in pairs}) == len(pairs)
    assert len({(pair["source"], pair["rewrite"]) for pair in pairs}) == len(pairs)
    assert all(pair["rewrite"].strip() for pair in pairs)


def test_the_unseen_pairs_share_no_source_with_the_development_pairs():
    assert {p["source"] for p in PAIRS["unseen"]}.isdisjoint(p["source"] for p in PAIRS["dev"])
