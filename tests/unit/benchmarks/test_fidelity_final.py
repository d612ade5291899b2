"""The final pairs of source and rewrite: unchanged since they were written, enough of each kind, distinct."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"
RAW = (FOLDER / "fidelity_final.json").read_bytes()
PAIRS = json.loads(RAW)
FAULTS = (
    "invented_act",
    "detail",
    "changed_number",
    "swapped_party",
    "flipped_negation",
    "claim_as_fact",
    "invented_cause",
    "name_or_role",
    "time_order",
    "verdict",
    "instruction",
)


def test_the_file_is_the_one_that_was_locked():
    locked = (FOLDER / "fidelity_final.sha256").read_text(encoding="ascii").strip()
    assert hashlib.sha256(RAW).hexdigest() == locked


@pytest.mark.parametrize(("lang", "faithful", "faulty"), [("en", 30, 4), ("zh", 15, 2)])
def test_each_kind_has_its_pairs(lang, faithful, faulty):
    counts = Counter(pair["kind"] for pair in PAIRS if pair["lang"] == lang)
    assert counts == {"faithful": faithful, **dict.fromkeys(FAULTS, faulty)}


def test_pairs_are_distinct_and_complete():
    assert {pair["lang"] for pair in PAIRS} == {"en", "zh"}
    assert len({pair["id"] for pair in PAIRS}) == len(PAIRS)
    for pair in PAIRS:
        assert set(pair) == {"id", "lang", "kind", "source", "rewrite", "note"}
        assert all(value.strip() for value in pair.values())
    uses = Counter((pair["source"], pair["kind"] == "faithful") for pair in PAIRS)
    assert max(uses.values()) == 1  # a source serves one faithful and one faulty rewrite at most
