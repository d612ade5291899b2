"""Honest mistakes in a table: the benchmark's own tables and truths."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import mistakes
from benchmarks.harness import clean

SOURCE = mistakes.Synthetic()


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    monkeypatch.setattr(mistakes, "_SOURCES", {"synthetic": SOURCE})


@pytest.mark.parametrize("name", mistakes.MISTAKES)
def test_what_can_be_seen_is_never_silent(name):
    mistake = mistakes.MISTAKES[name]
    found = [mistakes.one_draw(SOURCE, name, seed)[0] for seed in range(4)]
    if mistake.unseen is None:
        assert "silent_wrong" not in found
    if name not in ("clean", "again_file") and mistake.unseen is None:
        assert "silent_right" not in found


def test_a_clean_table_certifies_as_by_the_exact_test_alone():
    for seed in range(6):
        found, _ = mistakes.one_draw(SOURCE, "clean", seed)
        assert (found != "refused") == mistakes.bare(SOURCE, seed)


@pytest.mark.parametrize("name", ["gold_is_small", "training_rows", "sorted_head"])
def test_verdict_report_and_command_line_say_it(name):
    made = next(made for seed in range(9) if (made := mistakes.one_draw(SOURCE, name, seed)[1]) is not None)
    mistakes.check_shown(mistakes.MISTAKES[name], *made)
    with pytest.raises(RuntimeError, match="does not say it"):
        mistakes.check_shown(mistakes.MISTAKES["clean"], *made)


def test_the_truth_of_the_stream():
    rows = SOURCE.draw(np.random.default_rng(0), 200_000).columns
    right = [(rows[name] == rows["gold"]).astype(int) for name in ("large", "small")]
    for threshold in (0.7, 0.9, 0.97):
        seen = np.where(rows["confidence"] > threshold, right[0] - right[1], 0).mean()
        assert seen == pytest.approx(SOURCE.loss(threshold), abs=0.003)


def test_tables_name_every_mistake_and_every_sentence():
    figures = {
        f"{source}.{name}.{kind}": 1.0
        for source in ("synthetic", "banking77")
        for name in mistakes.MISTAKES
        for kind in (*mistakes.RESULTS, "silent_wrong.low", "silent_wrong.high", "certified", "exact_test")
    }
    seen, hidden = mistakes.tables(clean({**figures, "draws": 300}))
    assert len(seen.rows) + len(hidden.rows) == len(mistakes.MISTAKES)
    assert all(row[-1].endswith(".") for row in hidden.rows)
    assert "300 draws" in seen.note
