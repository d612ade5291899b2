"""The demo's parts that need no language model; the whole of it is `make demo`."""

import json

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from rich.console import Console

from langchain_dsplus import DataShunt, Price
from langchain_dsplus.demo import DemoError
from langchain_dsplus.demo.answers import Answers, Arm, arm
from langchain_dsplus.demo.report import LLM, SHUNT, SMALL, Day, difference, dispute_panel, named, plot, words
from langchain_dsplus.demo.snippets import HELD_OUT, LABELS, read_snippets, split_snippets
from langchain_dsplus.demo.story import Parts, Sizes, _folder, compare, live, split

ROWS = [{"id": str(i), "text": f"{LABELS[i % 2]} t{i}", "gold": LABELS[i % 2]} for i in range(20)]


class Large:
    """Says what is true, but fails on one sentence as long as it is told to."""

    def __init__(self, failing=()):
        self.asked, self.failing = [], set(failing)

    def answers(self, path):
        def ask(value):
            self.asked.append(value["text"])
            if value["text"] in self.failing:
                raise TimeoutError
            usage = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
            return AIMessage(f"{value['text'].split()[0].capitalize()}.", usage_metadata=usage)

        return Answers(path, RunnableLambda(ask))


def test_each_sentence_is_asked_about_once_and_a_run_that_was_cut_off_goes_on(tmp_path):
    path, texts = tmp_path / "a.jsonl", [row["text"] for row in ROWS]
    first, steps = Large(), []
    first.answers(path).ask(texts[:12])
    path.write_text(path.read_text() + '{"text": "cut')
    second = Large(failing=[texts[19]])
    answers = second.answers(path)
    entries = answers.ask([*texts, texts[0]], steps.append)
    assert second.asked == texts[12:]
    assert sum(steps) == 21
    assert [entry["label"] for entry in entries[:19]] == [row["gold"] for row in ROWS[:19]]
    assert (entries[0]["input"], entries[0]["output"]) == (10, 1)
    assert entries[19]["error"] == "TimeoutError"
    second.failing.clear()
    assert answers({"text": texts[19]}) == ROWS[19]["gold"]  # only what had failed is asked again


def test_a_failure_of_the_large_model_is_an_error_of_the_chain(tmp_path):
    with pytest.raises(RuntimeError, match="TimeoutError"):
        Large(failing=["a b"]).answers(tmp_path / "a.jsonl")({"text": "a b"})


def test_an_arm_counts_what_was_paid_for():
    entry = {"input": 10, "output": 1}
    found = arm("x", ROWS[:4], ["negative", "negative", None, "positive"], [None, entry, entry, None])
    assert found.correct == [True, False, False, True]
    assert (found.calls, found.share, found.tokens("input"), found.tokens("output")) == (2, 0.5, 20, 2)
    assert found.dollars(Price(1.0, 10.0)) == pytest.approx((20 * 1 + 2 * 10) / 1e6)


def made(name, right, calls):
    rows = [
        {
            "id": str(i), "gold": "positive", "label": "positive" if i < right else "negative",
            "model": "large" if i < calls else "small", "input": 60, "output": 2,
        }
        for i in range(100)
    ]  # fmt: skip
    return Arm(name, rows)


def test_a_paired_difference_and_what_is_said_of_it():
    arms = [made(LLM, 80, 100), made(SMALL, 70, 0), made(SHUNT, 90, 30)]
    mean, low, high = difference(named(arms, SHUNT), named(arms, LLM))
    assert mean == pytest.approx(0.1)
    assert 0.03 < low < 0.1 < high < 0.17
    said = words(arms, certified=True, promise="less than 2 points below it")
    assert "about 30% of the sentences" in said[0]
    assert "promises less than 2 points below it" in said[0]
    assert "-10.0 points" in said[1]
    assert len(said) == 2
    assert "Nothing was certified" in words(arms, certified=False, promise="")[0]
    level = [made(LLM, 80, 100), made(SMALL, 90, 0), made(SHUNT, 90, 30)]
    assert "as right as the shunt" in words(level, certified=True, promise="")[2]  # a win that is none is said


@pytest.mark.parametrize("certified", [True, False])
def test_the_plot_is_drawn_either_way(tmp_path, certified):
    pytest.importorskip("matplotlib")
    arms = [made(LLM, 80, 100), made(SMALL, 70, 0), made(SHUNT, 90, 30)]
    days = [Day(100, 60 if certified and n else 0, 5, "") for n in range(3)]
    assert plot(arms, days, tmp_path / "p.png", "m", certified=certified).stat().st_size > 10_000


def test_the_dispute_says_what_it_saved():
    console = Console(width=120, record=True, quiet=False, file=None)
    transfer = {"faithful": True, "reasons": [], "used": "rewrite", "tokens_before": 200, "tokens_after": 120}
    with console.capture() as shown:
        console.print(
            dispute_panel("Long.", {"rewrite": "Short.", "transfer": transfer, "verdict": {"verdict": "both"}})
        )
    assert "200 tokens before, 120 after, 40% fewer" in shown.get()
    assert "Short." in shown.get()


def test_the_splits_never_overlap_and_the_held_out_part_stays_held_out(tmp_path):
    path = tmp_path / "snippets.txt"
    lines = [f"{i}_1\t{(i % 9) - 4}\tsentence {i}" for i in range(2000)]
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    rows = read_snippets(path)
    assert {row["gold"] for row in rows} == set(LABELS)
    assert not [row for row in rows if int(row["id"].partition("_")[0]) % 9 == 4]
    splits = split_snippets(rows, validation=300, test=400)
    ids = [[row["id"] for row in part] for part in splits]
    assert len(set(ids[0] + ids[1] + ids[2])) == len(rows)
    assert len(splits.train) == len(rows) - HELD_OUT
    assert splits == split_snippets(rows, validation=300, test=400)
    with pytest.raises(ValueError, match="700"):
        split_snippets(rows, validation=400, test=400)
    sizes = Sizes()
    parts = split(rows, sizes, 0)
    every = [*parts.gold, *parts.log, *(row for day in parts.days for row in day), *parts.test]
    assert len({row["text"] for row in every}) == len(every) == 100 + 400 + 3 * 100 + 200
    assert not {row["text"] for row in parts.test} & {row["text"] for row in splits.train}


def test_days_pass_labels_are_told_and_a_certificate_shows_in_the_arms(tmp_path):
    """On sentences that a small model can learn, the story ends in a cascade."""
    pytest.importorskip("sklearn")
    pytest.importorskip("sqlalchemy")
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    rows = [{"id": str(i), "text": f"{LABELS[i % 2]} t{i}", "gold": LABELS[i % 2]} for i in range(1300)]
    gold = rows[:40]
    parts = Parts(gold, rows[40:640], [rows[640:940], rows[940:1240]], rows[1240:])
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    pipeline.fit([row["text"] for row in gold], [row["gold"] for row in gold])
    large = Large(failing=[rows[700]["text"]])
    answers = large.answers(tmp_path / "a.jsonl")
    with DataShunt(
        RunnableLambda(answers).with_types(output_type=str), LABELS, tmp_path / "shunt", "2 points",
        small=SklearnClassifier(pipeline, input_key="text"), input_key="text", version="1", include_route=True,
        gold=[({"text": row["text"]}, row["gold"]) for row in gold], background=False,
    ) as shunt:  # fmt: skip
        days = live(shunt, parts, 10, Console(quiet=True))
        assert shunt.certificate is not None
        arms = compare(shunt, parts.test, answers, Console(quiet=True))
    assert [day.sentences for day in days] == [600, 300, 300]
    assert days[0].local == 0
    assert days[-1].local > 150
    assert named(arms, LLM).calls == len(parts.test)
    assert named(arms, SMALL).calls == 0
    assert named(arms, SHUNT).calls < len(parts.test)
    assert named(arms, SHUNT).accuracy == 1.0


def test_a_large_model_that_fails_too_often_ends_the_demo(tmp_path):
    answers = Large(failing=[row["text"] for row in ROWS[:5]]).answers(tmp_path / "a.jsonl")
    with pytest.raises(DemoError, match="5 of 20"):
        compare(None, ROWS, answers, Console(quiet=True))


def test_an_unfinished_run_is_continued_and_a_finished_one_starts_anew(tmp_path):
    console = Console(quiet=True)
    setup = {"model": "m", "seed": 0, "sizes": [1, 2]}
    folder = _folder(tmp_path / "out", setup, console)
    mine = folder / "notes.txt"
    mine.write_text("mine")
    answers = folder / "answers.jsonl"
    answers.write_text("{}")
    assert _folder(folder, setup, console) == folder
    assert answers.exists()
    _folder(folder, {**setup, "seed": 1}, console)
    assert not answers.exists()
    answers.write_text("{}")
    (folder / "results.json").write_text("{}")
    _folder(folder, {**setup, "seed": 1}, console)
    assert not answers.exists()
    assert json.loads((folder / "setup.json").read_text())["seed"] == 1
    assert mine.exists()


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "results.json").write_text("theirs")
    (tmp_path / "holiday.png").write_bytes(b"x")
    with pytest.raises(DemoError, match="choose another folder"):
        _folder(tmp_path, {"model": "m"}, Console(quiet=True))
    assert (tmp_path / "results.json").read_text() == "theirs"
    (tmp_path / "results.json").unlink()
    (tmp_path / "setup.json").write_text('{"cut')
    _folder(tmp_path, {"model": "m"}, Console(quiet=True))
    assert (tmp_path / "holiday.png").exists()
    assert json.loads((tmp_path / "setup.json").read_text()) == {"model": "m"}
