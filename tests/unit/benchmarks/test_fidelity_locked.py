"""The locked sets of source and rewrite: unchanged since they were written, enough of each kind, distinct."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks"
RAW = {name: (FOLDER / f"{name}.json").read_bytes() for name in ("fidelity_locked", "fidelity_final")}
PAIRS = {name: json.loads(raw) for name, raw in RAW.items()}
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


@pytest.mark.parametrize("name", RAW)
def test_the_file_is_the_one_that_was_locked(name):
    locked = (FOLDER / f"{name}.sha256").read_text(encoding="ascii").strip()
    assert hashlib.sha256(RAW[name]).hexdigest() == locked


@pytest.mark.parametrize(
    ("name", "lang", "faithful", "faulty"),
    [
        ("fidelity_locked", "en", 40, 6),
        ("fidelity_locked", "zh", 20, 3),
        ("fidelity_final", "en", 30, 4),
        ("fidelity_final", "zh", 15, 2),
    ],
)
def test_each_kind_has_its_pairs(name, lang, faithful, faulty):
    counts = Counter(pair["kind"] for pair in PAIRS[name] if pair["lang"] == lang)
    assert counts == {"faithful": faithful, **dict.fromkeys(FAULTS, faulty)}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_distinct_and_complete(name):
    pairs = PAIRS[name]
    assert {pair["lang"] for pair in pairs} == {"en", "zh"}
    assert len({pair["id"] for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert set(pair) == {"id", "lang", "kind", "source", "rewrite", "note"}
        assert all(value.strip() for value in pair.values())
    uses = Counter((pair["source"], pair["kind"] == "faithful") for pair in pairs)
    assert max(uses.values()) == 1  # a source serves one faithful and one faulty rewrite at most
