"""The rivals benchmark: what is counted, how promises are judged, and the talk with the rivals' interpreter."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import rivals
from benchmarks.harness import Context
from benchmarks.rivals import Stream

if TYPE_CHECKING:
    from pathlib import Path

# Stands where BARGAIN would: it prints, as rivals do, asks about two rows, and leaves the rest to the small model.
FAKE_BARGAIN = """
class Proxy:
    def __init__(self, **_): pass
class Oracle:
    def __init__(self, **_): pass
    def get_number_preds(self): return 2
class BARGAIN_A:
    def __init__(self, proxy, oracle, **settings):
        self.proxy, self.oracle, self.settings = proxy, oracle, settings
    def process(self, rows, return_oracle_usage):
        print("noise that is no reply")
        used = [row < 2 for row in rows]
        answers = []
        for row, by_large in zip(rows, used):
            small = self.proxy.proxy_func(row)[0]
            same, large = self.oracle.oracle_func(row, small) if by_large else (None, None)
            answers.append(large if by_large else small)
        return answers, used
"""


def make_stream(n: int = 600, seed: int = 0, certify: int = 400, max_loss: float = 0.05) -> Stream:
    """A small model that is right as often as it says, before a large one that is right in 90 %."""
    generator = np.random.default_rng(seed)
    top = generator.uniform(0.5, 1.0, n)
    guess = generator.integers(2, size=n)
    probabilities = np.where(np.arange(2) == guess[:, None], top[:, None], 1 - top[:, None])
    gold = np.where(generator.random(n) < top, guess, 1 - guess)
    large = np.where(generator.random(n) < 0.9, gold, 1 - gold)
    labels = np.array(["no", "yes"])
    return Stream.of(
        ["no", "yes"],
        probabilities,
        labels[large].tolist(),
        labels[gold].tolist(),
        name="toy",
        certify=certify,
        max_loss=max_loss,
    )


@pytest.fixture(scope="module")
def stream() -> Stream:
    return make_stream()


def test_an_answer_that_the_small_model_has_no_class_for_gets_a_place_behind_them() -> None:
    found = Stream.of(["b"], np.array([[1.0], [1.0]]), ["c", "b"], ["a", "b"], name="x", certify=1, max_loss=0.1)
    assert found.labels == ["b", "a", "c"]
    assert found.large.tolist() == [2, 0]
    assert found.gold.tolist() == [1, 0]
    assert found.small.tolist() == [0, 0]


def test_the_loss_is_what_accepted_rows_lose(stream: Stream) -> None:
    nothing, everything = np.ones(600, dtype=bool), np.zeros(600, dtype=bool)
    right = {name: (getattr(stream, name) == stream.gold).mean() for name in ("small", "large")}
    assert stream.lost(stream.answers(nothing)) == 0
    assert stream.lost(stream.answers(everything)) == pytest.approx(right["large"] - right["small"])
    assert stream.breaks(stream.small) == (right["large"] - right["small"] > stream.max_loss)
    kept = stream.top > 0.9
    answers = np.where(kept, stream.small, stream.large)
    assert stream.lost(stream.answers(~kept)) == pytest.approx(right["large"] - (answers == stream.gold).mean())


def test_a_cut_that_accepts_what_equals_it_becomes_a_threshold(stream: Stream) -> None:
    cut = float(np.sort(stream.score)[-10])
    assert (stream.score > rivals.at_least(cut)).sum() == 10
    assert math.isinf(rivals.at_least(None))


def test_the_quantile_rule_sends_the_wanted_share_to_the_large_model(stream: Stream) -> None:
    escalated = ~(stream.score > rivals.quantile(stream, np.arange(600)))
    assert escalated.mean() == pytest.approx(rivals.STRONG, abs=0.01)


def test_without_gold_a_certificate_accepts_less_and_no_evidence_accepts_nothing(stream: Stream) -> None:
    rows = np.arange(400)
    threshold = rivals.certified(stream, rows)
    assert -1 < threshold < rivals.certified(stream, rows, gold=False) <= math.inf
    assert math.isinf(rivals.certified(stream, rows[:20]))


# --- measuring ---


def test_without_the_rivals_interpreter_the_rest_is_measured(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSPLUS_RIVALS_PYTHON", raising=False)
    monkeypatch.setattr(rivals, "LOSSES", (0.02,))
    figures = rivals.measure(Context("rivals", quick=True), stream)
    measured = {way.key for way in rivals.WAYS if f"toy.{way.key}.calls" in figures}
    assert measured == {"ours", "ours_no_gold", "lcel", "tuned", "routellm", "random"}
    assert figures["toy.ours.call"] > 0
    # Who needs the large model's answers to the certify rows pays for them.
    for way in ("ours", "tuned"):
        calls, everywhere = figures[f"toy.{way}.calls"], figures[f"toy.{way}.all_calls"]
        assert everywhere == pytest.approx((400 * 100 + 200 * calls) / 600)
    assert figures["toy.routellm.all_calls"] < 60
    assert figures["toy.ours.broken"] == figures["toy.ours.loss_broken"]
    assert figures["toy.ours.calls"] <= figures["toy.ours_no_gold.calls"]
    assert "toy.lcel.broken" not in figures, "it promises nothing"


def test_missing_rivals_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSPLUS_RIVALS_PYTHON", raising=False)
    monkeypatch.setattr(rivals, "QUICK", ())
    context = Context("rivals", quick=True)
    assert rivals.run(context) == {}
    assert "DSPLUS_RIVALS_PYTHON" in context.facts["missing"]


def test_tables_show_who_was_measured_and_nobody_else() -> None:
    figures = {"imdb.ours.calls": 70.0, "imdb.ours.call": 0.00025, "imdb.equal_0.5.ours.calls": 90.0}
    shown = {table.name: table for table in rivals.tables(figures)}
    assert [row[0] for row in shown["rivals.imdb"].rows] == ["langchain-dsplus"]
    assert shown["rivals.imdb_promises"].rows[0][-1] == "0.25"
    assert len(shown["rivals.equal"].rows) == 1
    assert shown["rivals.equal"].rows[0][2] == "90.0 / -"
    assert not shown["rivals.chaosnli"].rows
    assert all(len(row) == len(table.columns) for table in shown.values() for row in table.rows)


# --- the rivals' interpreter ---


@pytest.fixture
def worker(stream: Stream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """This interpreter as the rivals', with a stand-in for BARGAIN."""
    (tmp_path / "BARGAIN.py").write_text(FAKE_BARGAIN, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DSPLUS_RIVALS_PYTHON", sys.executable)
    with rivals.rivals(stream) as found:
        yield found


def test_a_batch_is_judged_on_itself(worker: rivals.Worker, stream: Stream) -> None:
    assert worker.versions["python"] == sys.version.split()[0]
    rows = np.arange(50, 150)
    decision = rivals.bargain(worker, stream, rows, seed=1)
    assert decision.escalated[50:52].all()
    assert not decision.escalated[52:150].any()
    assert decision.escalated[:50].all(), "rows outside the batch are nobody's"
    assert (decision.answers[52:150] == stream.small[52:150]).all()
    disagree = (stream.small != stream.large)[52:150].sum() / 100
    assert decision.broke[0] == (disagree > stream.max_loss)
    harms = rivals.bargain(worker, stream, rows, seed=1, harms=True)
    assert harms.gold == (stream.small != stream.large)[50:52].sum()


def test_a_rival_that_fails_is_named(worker: rivals.Worker) -> None:
    with pytest.raises(RuntimeError, match="tracer: ModuleNotFoundError"):
        worker.ask("tracer", certify=[0], rows=[1], target=0.9, skip=[])
    assert worker.ask("bargain", rows=[0, 1], target=0.9, delta=0.1, harms=False, seed=0)["calls"] == 2


def test_an_interpreter_that_does_not_start_is_named(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DSPLUS_RIVALS_PYTHON", str(tmp_path / "no-python"))
    with pytest.raises(RuntimeError, match="DSPLUS_RIVALS_PYTHON"), rivals.rivals(stream):
        pass
