"""The rounds of the benchmark `retention`, on made-up rows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks import retention
from benchmarks.distil import Rows, make_small

LABELS = ["cat", "dog", "owl"]


def made(n: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    gold = [LABELS[place] for place in random.integers(0, 3, n)]
    texts = [f"{label if random.random() < 0.8 else 'beast'} number {place}" for place, label in enumerate(gold)]
    return Rows(texts, gold, gold)


@pytest.mark.parametrize("method", retention.METHODS)
def test_each_round_gives_a_model_and_reads_no_more_than_it_may(method, monkeypatch) -> None:
    monkeypatch.setattr(retention, "CALLS", 5)
    gold, parts, hold = made(30, 0), [made(40, seed) for seed in (1, 2)], made(60, 3)
    small = make_small("tfidf", gold, LABELS, None)
    knew = retention._right(small, hold)
    models = list(retention.rounds_of(method, small, gold, parts, 0))
    assert len(models) == 2
    found = [retention.judge(model, hold, knew) for model in models]
    assert all(one["accuracy"] > 0.5 for one in found)
    assert retention.judge(small, hold, knew)["kept"] == 1.0


def test_a_table_of_nothing_is_empty() -> None:
    assert retention.tables({})[0].rows == []
