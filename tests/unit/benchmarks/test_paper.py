"""The paper's experiments: each says what the paper reports, what differs here, and what follows from the figures."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from benchmarks import harness, paper
from benchmarks.paper import Routed, gain, mean, over_seeds

NAMES = sorted(name for name in harness.registry() if name.startswith("paper_"))
TEN = [
    "ablation",
    "captions",
    "chaosnli",
    "entropy",
    "longtail",
    "lora",
    "sentiment",
    "shunts",
    "threshold",
    "transfer",
]
RESULTS = sorted(path for path in harness.RESULTS.glob("paper_*.json") if ".quick" not in path.name)


def test_there_are_ten() -> None:
    assert [f"paper_{name}" for name in TEN] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_says_what_the_paper_reports_and_what_differs(name: str) -> None:
    module = harness.load(name)
    assert isinstance(module.PAPER["who"], str)
    assert module.DIFFERS
    assert all(isinstance(line, str) for line in module.DIFFERS)
    assert callable(module.verdict)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_result_carries_verdict_and_intervals(path) -> None:
    body = json.loads(path.read_text(encoding="utf-8"))
    module = harness.load(path.name.partition(".")[0])
    figures = body["figures"]
    assert body["verdict"] == module.verdict(figures), "the verdict follows from the figures"
    assert body["paper"] == module.PAPER
    assert body["differs"] == module.DIFFERS
    for arm in paper.arms_of(figures):
        assert f"{arm}.calls" in figures
        assert figures[f"{arm}.accuracy.low"] <= figures[f"{arm}.accuracy"] <= figures[f"{arm}.accuracy.high"]
    assert module.tables(figures)


def test_the_interval_over_seeds_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = mean("a", rng.normal(70, 3, 5).tolist())
        held += found["a.low"] <= 70 <= found["a.high"]
    assert 0.93 <= held / 2000 <= 0.97


def test_gains_are_paired_by_seed() -> None:
    runs = {"a": [Routed(50 + n, 30) for n in (0, 10, 20)], "b": [Routed(49 + n, 100) for n in (0, 10, 20)]}
    found = gain("a", "b", runs)
    assert found["gain.a.b"] == pytest.approx(1.0)
    assert found["gain.a.b.high"] - found["gain.a.b.low"] == pytest.approx(0.0, abs=1e-9)
    assert over_seeds("a", runs["a"])["a.calls"] == pytest.approx(30.0)
    assert "better than" in paper.against(found, "a", "b")


def test_the_threshold_is_chosen_by_accuracy_and_the_router_keeps_to_it() -> None:
    from langchain_dsplus import SklearnClassifier

    class Recorded:
        classes_ = ["no", "yes"]

        def predict_proba(self, rows):
            return [[1 - row["p"], row["p"]] for row in rows]

    rng = random.Random(0)
    rows = []
    for _ in range(600):
        p = rng.uniform(0.5, 1.0)
        # Above .8 the small model is always right, below never; the large one is right in 7 of 10.
        rows.append({"p": p, "gold": "yes" if p > 0.8 else "no", "large_right": rng.random() < 0.7})
    large = [row["gold"] if row["large_right"] else "?" for row in rows]
    for row, said in zip(rows, large, strict=True):
        row["large"] = said
    gold = [row["gold"] for row in rows]
    threshold = paper.choose([row["p"] for row in rows], ["yes"] * 600, large, gold)
    found = paper.route(SklearnClassifier(Recorded()), lambda row: row["large"], rows, gold, threshold)
    sure = sum(row["p"] > 0.8 for row in rows)
    expected = sure + sum(row["large_right"] for row in rows if row["p"] <= 0.8)
    assert found.accuracy == pytest.approx(100 * expected / 600, abs=0.6)
    assert found.calls == pytest.approx(100 * (600 - sure) / 600, abs=1.0)
