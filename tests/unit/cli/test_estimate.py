"""`dsplus estimate`: what it prints, writes and refuses, and how it ends."""

from __future__ import annotations

import json
import random

import pytest
from typer.testing import CliRunner

pytest.importorskip("sklearn")

from langchain_dsplus.cli import app
from langchain_dsplus.outcomes import Outcomes


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in ("estimate", *arguments, "--quiet")])


@pytest.fixture
def log(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "log.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(1200):
            label = draw.choice(["billing", "refund"])
            words = draw.choices([a + b for a in "abcdefghij" for b in "klmnopqrst"], k=6)
            messages = [{"role": "user", "content": " ".join([*words, f"about-{label}"])}]
            file.write(json.dumps({"messages": messages, "answer": {"label": label}}) + "\n")
    return path


def test_it_prints_a_table_and_three_lines(run, log, tmp_path):
    mapped = ("--input", "messages.-1.content", "--output", "answer.label")
    outputs = ("--html", tmp_path / "report.html", "--table", tmp_path / "held.jsonl")
    result = run(log, *mapped, "--small", "tfidf", *outputs)
    assert result.exit_code == 0, result.output
    assert "SMALL ALONE" in result.output
    assert "could stay local" in result.output
    lines = result.output.splitlines()
    start = lines.index("from langchain_dsplus import DataShunt")
    assert lines[start + 1].startswith("shunt = DataShunt(chain, labels=[")
    compile("\n".join(lines[start : start + 3]), "snippet", "exec")
    assert len(Outcomes.from_jsonl(tmp_path / "held.jsonl")) > 300
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_json(run, log):
    result = run(
        log, "--input", "messages", "--output", "answer", "--small", "tfidf", "--json", "--max-loss", "2 points"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["decision"] == "SMALL ALONE"
    assert found["tasks"][0]["key"] == "label"
    assert found["max_loss"] == 0.02


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--input, --output"),
        (("--input", "messages"), "both"),
        (("--input", "messages", "--output", "answer", "--task", "7"), "1 to 1"),
        (("--input", "messages", "--output", "answer", "--max-loss", "0.5"), "two ways"),
        (("--input", "messages", "--output", "answer", "--price-input", "1"), "--price-output"),
        (("--input", "messages", "--output", "answer", "--small", "big"), "`small`"),
    ],
)
def test_errors_are_one_line(run, log, arguments, words):
    result = run(log, *arguments)
    assert result.exit_code == 1
    assert words in result.output
    assert result.output.startswith("Error: ")
    assert len(result.output.strip().splitlines()) == 1


def test_a_file_that_is_not_there(run, tmp_path):
    result = run(tmp_path / "nowhere.jsonl")
    assert result.exit_code == 1
    assert "nowhere.jsonl" in result.output


def test_a_log_without_a_task_ends_with_its_own_code(run, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        "".join(json.dumps({"input": f"a {n}", "output": f"story {n} of many words"}) + "\n" for n in range(99))
    )
    result = run(path)
    assert result.exit_code == 3
    assert "free text" in result.output
