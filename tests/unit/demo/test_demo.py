"""The demo's parts that need no model; the whole of it is `make demo`, and the notebook runs its story."""

import json

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Price
from langchain_dsplus.demo.arms import Arm, run_arm
from langchain_dsplus.demo.report import difference, llm_of, words
from langchain_dsplus.demo.snippets import HELD_OUT, LABELS, read_snippets, split_snippets
from langchain_dsplus.demo.story import _folder

ROWS = [{"id": str(i), "text": f"t{i}", "gold": LABELS[i % 2]} for i in range(20)]
TABLE = {
    f"t{i}": {LABELS[i % 2]: 0.95 if i < 10 else 0.55, LABELS[1 - i % 2]: 0.05 if i < 10 else 0.45} for i in range(20)
}


class Large:
    def __init__(self):
        self.asked = []

    def runnable(self):
        def ask(value):
            self.asked.append(value["text"])
            if value["text"] == "t19":
                raise RuntimeError
            usage = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}
            return AIMessage("Positive.", usage_metadata=usage)

        return RunnableLambda(ask).with_types(output_type=AIMessage)


def router(large, **kwargs):
    small = FakeSmallModel(TABLE, LABELS, input_key="text")
    return ConfidenceRouter(small=small, large=large.runnable(), threshold=0.9, **kwargs)


def test_an_arm_measures_what_the_large_model_was_asked_and_how_often_it_was_right(tmp_path):
    large, steps = Large(), []
    arm = run_arm("x", router(large), ROWS, path=tmp_path / "a.jsonl", concurrency=1, advance=steps.append)
    assert (arm.calls, len(large.asked), sum(steps)) == (10, 10, 20)
    # Ten local rows are right; of ten escalated ones "positive" is right in five, and one of those failed.
    assert arm.accuracy == 14 / 20
    assert (arm.input_tokens, arm.output_tokens) == (90, 9)
    assert arm.dollars(Price(1.0, 10.0)) == pytest.approx((90 * 1 + 9 * 10) / 1e6)
    assert arm.seconds > 0


def test_a_run_that_was_cut_off_resumes_without_asking_again(tmp_path):
    path = tmp_path / "a.jsonl"
    run_arm("x", router(Large()), ROWS[:12], path=path, concurrency=1, advance=lambda _: None)
    path.write_text(path.read_text() + '{"id": "12", "cut')
    large = Large()
    arm = run_arm("x", router(large), ROWS, path=path, concurrency=1, advance=lambda _: None)
    assert large.asked == [f"t{i}" for i in range(12, 20)]
    assert [row["id"] for row in arm.rows] == [str(i) for i in range(20)]
    run_arm("x", router(large), ROWS, path=path, concurrency=1, advance=lambda _: None)
    assert large.asked[8:] == ["t19"]  # only what had failed is asked again


def test_a_paired_difference_and_what_is_said_of_it():
    gold = ["positive"] * 100

    def arm(name, right, calls):
        return Arm(
            name,
            [
                {
                    "label": "positive" if i < right else "negative",
                    "gold": g,
                    "model": "large" if i < calls else "small",
                }
                for i, g in enumerate(gold)
            ],
        )

    llm, better, worse = arm("LLM alone", 80, 100), arm("cascade, a", 90, 30), arm("cascade, b", 50, 10)
    assert llm_of([better, llm]) is llm
    mean, low, high = difference(better, llm)
    assert mean == pytest.approx(0.1)
    assert 0.03 < low < 0.1 < high < 0.17
    said = words([llm, better, worse], 0.7, "model")
    assert "70% of the calls" in said[0]
    assert "at least as right" in said[0]
    assert "less right: do not use" in said[1]


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


def test_an_unfinished_run_is_continued_and_a_finished_one_starts_anew(tmp_path):
    from rich.console import Console

    console = Console(quiet=True)
    setup = {"model": "m", "seed": 0, "sizes": [1, 2]}
    folder = _folder(tmp_path / "out", setup, console)
    mine = folder / "notes.txt"
    mine.write_text("mine")
    arm = folder / "arm-0.jsonl"
    arm.write_text("{}")
    assert _folder(folder, setup, console) == folder
    assert arm.exists()
    _folder(folder, {**setup, "seed": 1}, console)
    assert not arm.exists()
    arm.write_text("{}")
    (folder / "results.json").write_text("{}")
    _folder(folder, {**setup, "seed": 1}, console)
    assert not arm.exists()
    assert json.loads((folder / "setup.json").read_text())["seed"] == 1
    assert mine.exists()


def test_somebody_elses_folder_is_left_alone(tmp_path):
    from rich.console import Console

    from langchain_dsplus.demo import DemoError

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


def test_rows_on_which_the_large_model_failed_count_for_nobody(tmp_path):
    from rich.console import Console

    from langchain_dsplus.demo import DemoError
    from langchain_dsplus.demo.story import without_failures

    def arm(name, failed):
        rows = [{"id": str(i), "label": "a", "gold": "a", "model": "large"} for i in range(20)]
        for i in failed:
            rows[i].update(label=None, error="TimeoutError")
        return Arm(name, rows)

    arms = without_failures([arm("LLM alone", [3]), arm("cascade", [])], Console(quiet=True))
    assert [len(a.rows) for a in arms] == [19, 19]
    assert arms[0].accuracy == 1.0
    with pytest.raises(DemoError, match="TimeoutError"):
        without_failures([arm("LLM alone", range(5))], Console(quiet=True))
