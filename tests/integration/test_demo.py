"""The whole demo on real parts, on a handful of rows: what `make demo` runs."""

import contextlib
import io
import json

import pytest
from rich.console import Console

from langchain_dsplus import weights
from langchain_dsplus.demo import run_demo, story
from langchain_dsplus.demo.snippets import snippets_file

pytestmark = [pytest.mark.llm, pytest.mark.encoder, pytest.mark.timeout(600)]


def test_from_a_log_to_a_verdict(tmp_path, monkeypatch, encoder_path, qwen_server):
    pytest.importorskip("matplotlib")
    try:
        snippets_file(download=False)
    except weights.WeightsError:
        pytest.skip("needs the snippets: dsplus models pull amazon-snippets")
    monkeypatch.setattr(story, "_QUICK", story.Sizes(gold=12, asked=4, log=6, days=1, day=3, test=3))
    monkeypatch.setattr(
        "langchain_dsplus.local.server.serve_model", lambda *_, **__: contextlib.nullcontext(qwen_server)
    )
    screen = io.StringIO()
    results = run_demo(quick=True, output=tmp_path, console=Console(file=screen, width=120))
    shown = screen.getvalue()
    arms = results["arms"]
    assert list(arms) == ["LLM alone", "small model alone", "DataShunt"]
    assert [arms[name]["large_calls"] for name in arms] == [3, 0, 3]  # a handful certifies nothing
    assert not results["certified"]
    assert "Nothing was certified" in shown
    assert arms["LLM alone"]["input_tokens"] > 3 * 30
    assert 0 < arms["LLM alone"]["dollars"] < 0.01
    assert [day["sentences"] for day in results["days"]] == [6, 3]
    assert results["estimate"]["decision"] in {"NO TASK", "NOT ENOUGH DATA", "LARGE ALONE"}
    transfer = results["dispute"]["transfer"]
    assert transfer["faithful"]
    assert transfer["used"] == "rewrite"
    assert transfer["tokens_after"] < 0.7 * transfer["tokens_before"]
    assert results["dispute"]["verdict"]["verdict"] in {"narrator", "other party", "both", "unclear"}
    assert "Do not trust this verdict" in shown
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 6 + 3 + 3
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "results.json").read_text())["large"] == "qwen2.5-coder-0.5b"
