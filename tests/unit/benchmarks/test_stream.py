"""The benchmark `stream` on made-up rows: what the loop is told, what is counted, and the others beside it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("sqlalchemy")
pytest.importorskip("skops")

from benchmarks.distil import Rows, make_small
from benchmarks.stream import ARMS, SETTINGS, Life, clinc_rows, gather, live, tables

LABELS = ["cat", "dog", "owl"]


def made(n: int, seed: int) -> Rows:
    """Texts of words that stand for a class; the large model is wrong now and then."""
    random = np.random.default_rng(seed)
    gold = [LABELS[place] for place in random.integers(0, 3, n)]
    texts = [
        f"{label}{random.integers(9)} {label}{random.integers(9)} number {seed}x{n}" for n, label in enumerate(gold)
    ]
    large = [label if random.random() < 0.95 else LABELS[random.integers(0, 3)] for label in gold]
    return Rows(texts, gold, large)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    gold = made(25, 1)
    small = make_small("tfidf", gold, LABELS, None)
    return live(made(700, 2), gold, small, 0.05, tmp_path_factory.mktemp("s") / "shunt", seed=3)


def test_every_arm_answers_every_query_and_the_calls_are_those_that_were_made(life: Life) -> None:
    for arm in ("large", *ARMS):
        assert len(life.right[arm]) == len(life.called[arm]) == 700
    assert all(life.called["large"])
    assert life.first is not None
    place = life.first
    assert all(life.called["shunt"][:place])
    assert life.called["once"][:place] == life.called["shunt"][:place]
    assert np.mean(life.called["shunt"][place:]) < 0.6
    assert 0 < life.labels < 300


def test_hindsight_keeps_the_promise_on_the_very_stream(life: Life) -> None:
    lost = np.mean(life.right["large"]) - np.mean(life.right["hindsight"])
    assert lost <= 0.05
    assert np.mean(life.called["hindsight"]) <= np.mean(life.called["shunt"])


def test_figures_say_how_many_orders_were_kept(life: Life) -> None:
    bad = Life({**life.right, "shunt": [False] * 700}, life.called, 7, life.first)
    figures = {f"banking_two.{key}": value for key, value in gather([life, bad], 0.05).items()}
    assert figures["banking_two.shunt.kept"] == 0.5
    assert figures["banking_two.large.kept"] == 1.0
    assert figures["banking_two.large.calls"] == 100.0
    (table,) = tables(figures)
    assert len(table.rows) == 1 + len(ARMS)
    assert [row[0] for row in table.rows][1].startswith(SETTINGS["banking_two"].title)


def test_the_simulated_large_model_is_wrong_where_rows_are_near_another_class() -> None:
    def embed(texts: list[str]) -> np.ndarray:
        random = np.random.default_rng(0)
        found = random.normal(size=(len(texts), 16))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    pytest.importorskip("benchmarks.data")
    try:
        gold, stream, labels = clinc_rows(embed, 0)
    except FileNotFoundError:
        pytest.skip("CLINC150 is not here")
    assert len(labels) == 150
    assert len(gold.texts) == 450
    assert not set(gold.texts) & set(stream.texts)
    assert abs(np.mean([said != truth for said, truth in zip(stream.large, stream.gold, strict=True)]) - 0.08) < 0.01
