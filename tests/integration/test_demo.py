"""The whole demo on real parts, on a handful of rows: what `make demo` runs."""

import io
import json

import pytest
from rich.console import Console

from langchain_dsplus import Outcomes, weights
from langchain_dsplus.demo import run_demo, story
from langchain_dsplus.demo.snippets import snippets_file

pytestmark = [pytest.mark.llm, pytest.mark.encoder, pytest.mark.timeout(600)]


def test_from_reviews_to_a_verdict(tmp_path, monkeypatch, encoder_path, qwen_path, unpooled_openai):
    pytest.importorskip("matplotlib")
    try:
        snippets_file(download=False)
    except weights.WeightsError:
        pytest.skip("needs the snippets: dsplus models pull amazon-snippets")
    monkeypatch.setattr(story, "_QUICK", (10, 10))
    screen = io.StringIO()
    results = run_demo(quick=True, output=tmp_path, console=Console(file=screen, width=120))
    shown = screen.getvalue()
    arms = results["arms"]
    assert list(arms) == [
        "small alone: TF-IDF",
        "small alone: sentence head",
        "LLM alone",
        "cascade, plain prompt",
        "cascade, soft prompt",
    ]
    assert [arms[name]["large_calls"] for name in list(arms)[:3]] == [0, 0, 10]
    cascade = arms["cascade, plain prompt"]
    assert cascade["large_calls"] <= 10
    assert cascade["large_calls"] == arms["cascade, soft prompt"]["large_calls"]
    assert arms["LLM alone"]["input_tokens"] > 10 * 30
    assert 0 < arms["LLM alone"]["dollars"] < 0.01
    assert results["dispute"]["verdict"]["verdict"] in {"narrator", "other party", "both", "unclear"}
    assert results["dispute"]["transfer"]["tokens_before"] > 100
    assert "Do not trust this verdict" in shown
    assert "10 untouched sentences" in shown
    assert len(Outcomes.from_jsonl(tmp_path / "test-outcomes.jsonl")) == 10
    assert len(Outcomes.from_jsonl(tmp_path / "validation-outcomes.jsonl")) == 10
    assert (tmp_path / "accuracy-against-calls.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "results.json").read_text())["large"] == "qwen2.5-coder-0.5b"
