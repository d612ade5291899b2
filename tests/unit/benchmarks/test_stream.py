"""The benchmark `stream` on made-up rows: what it may use, what it counts, how it goes on where it was cut off."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("sqlalchemy")
pytest.importorskip("skops")

from benchmarks import stream
from benchmarks.distil import Rows, make_small
from benchmarks.stream import ARMS, SETTINGS, WINDOW, Life, Setting, Stream, gather, level_of, make, resumed, rows_of

LABELS = ["cat", "dog", "owl"]
WORDS = {label: [f"{label}{place}" for place in range(30)] for label in LABELS}


def made(n: int, seed: int) -> Rows:
    """Texts of words that stand for a class; the large model is wrong now and then."""
    random = np.random.default_rng(seed)
    gold = [LABELS[place] for place in random.integers(0, 3, n)]
    texts = [f"{' '.join(random.choice(WORDS[label], 2))} number {seed}x{place}" for place, label in enumerate(gold)]
    large = [label if random.random() < 0.9 else LABELS[random.integers(0, 3)] for label in gold]
    return Rows(texts, gold, large)


@pytest.fixture
def small():
    gold = made(25, 1)
    return gold, make(Setting("", "tfidf", 0.1, 90), gold, LABELS, None)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(stream, "HELD", 60)
    monkeypatch.setattr(stream, "AUDIT_RATE", 0.2)


def live(small, folder, rows, *, once=None, max_loss=0.1):
    gold, model = small
    return Stream(rows, gold, model, max_loss, folder, seed=3, once=once)


def test_the_loop_learns_and_keeps_apart_what_trains_and_what_judges(small, tmp_path, quick):
    rows = made(500, 2)
    found = live(small, tmp_path, rows)
    taught, judged = [], []
    learn = found._learn

    def watched():
        lessons = found.lessons()
        texts = {text for part in ("gold", "large", "audits") for text, _ in lessons[part]} | {*lessons["unlabeled"]}
        taught.append(texts)
        judged.append({rows.texts[found.place[route_id]] for route_id in found.held})
        told = {**dict(lessons["gold"]), **dict(lessons["audits"])}
        truth = dict(zip(rows.texts, rows.gold, strict=True))
        assert all(told[text] == truth[text] for text, _ in lessons["gold"] if text in truth)
        learn()

    found._learn = watched
    life = found.run()
    assert len(life.right) == len(life.called) == len(life.phase) == 500
    assert life.phase[0] == "shadow"
    assert {"shadow", "live"} <= set(life.phase)
    assert all(called for called, phase in zip(life.called, life.phase, strict=True) if phase != "live")
    assert life.counts["promoted"] + life.counts["refused"] == len(taught) > 0
    assert all(not (texts & gate) for texts, gate in zip(taught, judged, strict=True))
    assert life.counts["gold"] == life.counts["gold_shadow"] + life.counts["gold_live"]
    assert life.counts["gold"] >= sum(map(len, judged))
    assert np.mean(life.called[-150:]) < np.mean(life.called[:150])
    versions = found.registry.versions
    assert len(versions) == 1 + len(taught)
    # A certificate is about rows that came after its version went live.
    assert life.counts["certified"] + life.counts["not_certified"] == found.certifications
    assert found.certifications >= 1 + life.counts["promoted"] - (life.phase[-1] == "shadow")


def test_the_other_arm_certifies_once_and_changes_nothing(small, tmp_path):
    life = live(small, tmp_path, made(400, 2), once=90).run()
    assert (life.counts["certified"] + life.counts["not_certified"]) == 1
    assert not {"promoted", "refused", "audits", "gold_live"} & set(+life.counts)
    assert life.notes[0].partition(" on ")[2].endswith(f"level 0.95000, coverage {life.coverage[0]:.3f}")
    assert life.phase.count("shadow") == 100  # whole batches


def test_a_second_run_is_the_same(small, tmp_path, quick):
    rows = made(300, 2)
    first, second = (live(small, tmp_path / name, rows).run() for name in ("a", "b"))
    assert (first.right, first.called, first.counts) == (second.right, second.called, second.counts)


def test_a_model_that_cannot_be_certified_is_rolled_back(small, tmp_path, quick, monkeypatch):
    from langchain_dsplus.registry.registry import ModelRegistry

    certify, asked = ModelRegistry.certify, []

    def strict(self, outcomes, max_loss, level, **options):
        asked.append(level)
        return certify(self, outcomes, max_loss if len(asked) == 1 else 1e-6, level, **options)

    monkeypatch.setattr(ModelRegistry, "certify", strict)
    found = live(small, tmp_path, made(560, 2))
    life = found.run()
    assert life.counts["promoted"] >= 1
    assert life.counts["rolled_back"] == life.counts["not_certified"] >= 1
    assert asked == [level_of(place + 1) for place in range(len(asked))]
    after = life.phase[len(life.phase) - 1 - life.phase[::-1].index("shadow") + 1 :]
    assert set(after) <= {"live"}
    if after:
        assert found.registry.live.number == 1
        assert found.certificate is not None


def test_the_chances_of_an_error_stay_below_five_percent():
    assert sum(1 - level_of(place) for place in range(1, 60)) <= 0.05 + 1e-12
    assert rows_of(0.02, 0.95) < rows_of(0.02, level_of(1)) < rows_of(0.01, level_of(1))


def test_a_part_is_read_again_unless_the_sources_have_changed(tmp_path):
    calls = []

    def make_one():
        calls.append(1)
        life = Life([True], [1], ["shadow"], coverage=[0.5], notes=["x"])
        life.counts["gold"] += 2
        life.seconds["all"] += 0.5
        return life

    part = tmp_path / "parts" / "x.json"
    first = resumed(part, "a", make_one)
    again = resumed(part, "a", make_one)
    assert again == first
    again.counts["new"] += 1
    again.seconds["new"] += 1.0
    assert len(calls) == 1
    resumed(part, "b", make_one)
    assert len(calls) == 2
    assert json.loads(part.read_text())["state"] == "b"


def lives(n: int, orders, large) -> dict[str, list[Life]]:
    found: dict[str, list[Life]] = {arm: [] for arm in ARMS}
    for order in orders:
        for arm in ARMS:
            called = [1] * (n // 2) + ([0] if arm == "loop" else [1]) * (n - n // 2)
            right = [bool(large[row]) for row in order]
            found[arm].append(Life(right, called, ["live"] * n, coverage=[0.4, 0.8]))
    return found


def test_figures_count_how_orders_and_rows_differ():
    n = 2 * WINDOW
    random = np.random.default_rng(0)
    large = random.random(n) < 0.8
    orders = [random.permutation(n).tolist() for _ in range(4)]
    figures = gather(lives(n, orders, large), orders, large)
    share = 100 * large.mean()
    assert figures["large.accuracy"] == pytest.approx(share)
    error = 1.96 * 100 * large.std(ddof=1) / np.sqrt(n)
    assert figures["large.accuracy.high"] - share == pytest.approx(error)  # orders agree, rows do not
    assert figures["loop.calls"] == 50
    assert figures["frozen.calls"] == 100
    assert figures["calls_over_frozen"] == -50
    assert figures["calls_over_frozen_last"] == -100
    assert figures["loop.calls.window0"] == 100
    assert figures["loop.calls.window1"] == 0
    assert figures["loop.accuracy_over_large"] == figures["loop.accuracy_over_large.high"] == 0
    assert (figures["loop.coverage_first"], figures["loop.coverage_last"]) == (40, 80)


def test_the_baseline_of_ten_lines():
    labels = ["cat", "dog"]
    texts = [f"{labels[place % 2]} number {place}" for place in range(40)]
    gold = [labels[place % 2] for place in range(40)]
    rows = Rows(texts, gold, [*gold[:20], *["no class"] * 20])
    small = make_small("tfidf", Rows(["cat", "dog"], labels, []), labels, None)
    figures = stream.baselines(small, Rows(["cat", "dog"], labels, []), rows, [list(range(40))] * 2, calls=50.0)
    assert figures["one_fit.calls"] == 50.0
    assert figures["small.accuracy"] == figures["one_fit.accuracy"] == figures["one_fit.accuracy_last"] == 100.0
    # With all calls it is the large model, and half of its answers are none.
    spent = stream.baselines(small, Rows(["cat", "dog"], labels, []), rows, [list(range(40))] * 2, calls=99.0)
    assert spent["one_fit.accuracy"] == pytest.approx(50.0)


def test_tables_and_plot(tmp_path):
    assert all(not table.rows for table in stream.tables({}))
    n = 2 * WINDOW
    large = np.ones(n, dtype=bool)
    orders = [list(range(n))] * 2
    found = gather(lives(n, orders, large), orders, large)
    figures = {"seeds": 2, "rows": n} | {f"{key}.{name}": value for key in SETTINGS for name, value in found.items()}
    for table in stream.tables(figures):
        assert len(table.rows) in {len(SETTINGS), 5 * len(SETTINGS)}
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert not any("nan" in cell for row in table.rows for cell in row)
    stream.draw(figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
