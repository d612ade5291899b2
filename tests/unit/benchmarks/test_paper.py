"""The paper's experiments: each says what the paper reports, what differs here, and what follows from the figures."""

from __future__ import annotations

import json
import random
import re

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


def test_make_paper_takes_as_long_as_it_says_and_at_most_90_minutes() -> None:
    makefile = (harness.ROOT.parent / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\npaper:")[2].partition("\n\n")[0]
    names = re.findall(r"in (.+); do", recipe)[0].split()
    assert {*names} == {*TEN} - {"lora"}
    bodies = [harness.runs(f"paper_{name}")[0] for name in names]
    assert not any("--full" in body["command"] for body in bodies)
    minutes = sum(body["seconds"] + body.get("seconds_remembered", 0.0) for body in bodies) / 60
    assert minutes <= 90
    assert f"about {minutes:.0f} minutes" in recipe


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


def test_prompts_are_compared_with_the_plain_one_seed_by_seed() -> None:
    from benchmarks.paper import entropy

    found = {}
    for place, task in enumerate(entropy.TASKS):
        for mode, gap in {"plain": 0, "soft": -10, "hard": 5, "keep": 20}.items():
            # Sets and seeds differ by much more than the prompts do.
            found[f"qwen_0_5b.{task}.{mode}.accuracy"] = [30.0 * place + 5 * seed + gap for seed in range(3)]
            found[f"qwen_0_5b.{task}.{mode}.entropy"] = [1.0 + seed - gap / 100 for seed in range(3)]
    figures = entropy.summarize(found, ["qwen_0_5b"])
    for mode, gap in {"soft": -10, "hard": 5, "keep": 20}.items():
        for end in ("", ".low", ".high"):
            assert figures[f"qwen_0_5b.accuracy_over_plain.{mode}{end}"] == pytest.approx(gap)
            assert figures[f"qwen_0_5b.entropy_over_plain.{mode}{end}"] == pytest.approx(-gap / 100)
    said = entropy.verdict(figures)
    assert "Of 9 pruned prompts 6 make the model surer (lower entropy), 6 make it right more often, 6 do both." in said
    assert said.endswith(
        "Qwen-0.5B soft -10.0 (-10.0 to -10.0), hard +5.0 (+5.0 to +5.0), keep +20.0 (+20.0 to +20.0)."
    )
    assert len(entropy.tables(figures)[1].rows) == 12 + 3


def test_no_two_seeds_are_scored_on_the_same_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import data, prompts
    from benchmarks.paper import entropy

    rows = [data.TextRow(f"row-{n}", f"text {n}", "ab"[n % 2]) for n in range(100)]

    def task(context, rng, **options):
        drawn = rng.sample(rows, 100)
        sizes = {"shots": 1, "rows": 1000, "right": 0.9, "keep": 2}
        return prompts.Task("t", "", ["a", "b"], drawn[:10], drawn[10:20], drawn, **sizes)

    monkeypatch.setattr(prompts, "trec", task)
    monkeypatch.setattr(prompts, "banking", task)
    monkeypatch.setattr(entropy, "clinc", task)
    context = harness.Context("paper_entropy")
    seeds = [entropy.tasks(context, seed, 5)[0] for seed in range(5)]
    tested = [row.id for each in seeds for row in each.test]
    assert len(tested) == len(set(tested)) == 100
    assert len({tuple(row.id for row in each.train) for each in seeds}) == 5
    assert {row.label for row in seeds[0].test} == {"a", "b"}


@pytest.mark.parametrize(("size", "asked"), [({"full": True}, True), ({}, False), ({"quick": True}, False)])
def test_the_model_of_a_users_key_is_asked_with_full_alone(monkeypatch, tmp_path, size, asked) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("OPENAI_MODEL", "large-1")
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path))
    context = harness.Context("paper_sentiment", **{"quick": False, "full": False, **size}, seed=0, console=None)
    found = paper.with_paid(context, {"local": "small-1"})
    assert found == {"local": "small-1"} | ({"api": "large-1"} if asked else {})
    assert context.facts.get("api") == ("large-1" if asked else None)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert paper.with_paid(context, {"local": "small-1"}) == {"local": "small-1"}


def test_each_review_is_put_to_the_model_of_a_key_once(monkeypatch, tmp_path) -> None:
    from langchain_core.language_models import GenericFakeChatModel

    from benchmarks import disputes
    from benchmarks.disputes.memory import Remembered
    from benchmarks.paper import sentiment

    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path))
    monkeypatch.setattr(disputes.Models, "local", lambda *_: pytest.fail("a local model was asked"))

    def paid(models, name) -> Remembered:
        return Remembered(
            model=name, start=lambda: GenericFakeChatModel(messages=iter(["positive"])), answers=models.answers
        )

    monkeypatch.setattr(disputes.Models, "paid", paid)
    context = harness.Context("paper_sentiment", quick=False, seed=0, console=None, full=True)
    rows = [sentiment.data.SourceRow(id="r", text="A fine lamp.", label="positive", source="amazon")] * 2
    assert [reply.text for reply in sentiment.ask(context, rows, "large-1", paid=True)] == ["positive"] * 2
