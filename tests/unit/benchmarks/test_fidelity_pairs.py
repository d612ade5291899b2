"""The pairs of the fidelity benchmark are frozen: written before the rules, one fault each, never changed."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
FILE = BENCHMARKS / "fidelity_pairs.json"
PAIRS = json.loads(FILE.read_text(encoding="utf-8"))
FAULTS = {
    "invented_act", "detail", "changed_number", "swapped_party", "flipped_negation", "claim_as_fact",
    "invented_cause", "name_or_role", "time_order", "verdict", "instruction",
}  # fmt: skip


def test_the_file_is_the_one_that_was_frozen():
    told = (BENCHMARKS / "fidelity_pairs.sha256").read_text(encoding="utf-8").split()[0]
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == told


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
