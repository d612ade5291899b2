"""`dsplus route`, and the verbs that read its folder."""

from __future__ import annotations

import json
import threading

import pytest
from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

from langchain_dsplus import ConfidenceRouter, Outcomes, SklearnClassifier
from langchain_dsplus.cli import app
from langchain_dsplus.dataset import Routed
from langchain_dsplus.routing.persistence import save_router
from langchain_dsplus.traces.collect import collect_outcomes
from langchain_dsplus.traces.logs import Log
from tests.unit.topics import large, texts

pytest.importorskip("langchain_openai")


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def small():
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=30, max_iter=500))
    return SklearnClassifier(pipeline.fit(*zip(*texts(24, 1), strict=True)))


@pytest.fixture
def server(httpserver, unpooled_openai):
    from werkzeug.wrappers import Response

    asked, lock = [], threading.Lock()

    def reply(request):
        words = json.loads(request.get_data())["messages"][-1]["content"]
        with lock:
            asked.append(words)
        message = {"role": "assistant", "content": large(words.split("\n\n")[1])}
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "big",
            "choices": [choice],
            "usage": usage,
        }
        return Response(json.dumps(body), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(reply)
    return {"url": httpserver.url_for("/v1"), "asked": asked}


def routed(run, place, server, *more):
    return run(
        "route", place / "rows.jsonl", place / "out", "--router", place / "router", "--large", "big",
        "--base-url", server["url"], "--price-input", "1", "--price-output", "2", "--quiet", "--block-size", "50", *more,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_a_folder_is_routed_and_read(run, small, server, tmp_path, mode):
    rows = [text for text, _ in texts(120, 3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(rows)))
    save_router(
        ConfidenceRouter(small=small, large=RunnableLambda(large), threshold=0.9, mode=mode), tmp_path / "router"
    )
    result = routed(run, tmp_path, server)
    assert result.exit_code == 0, result.output
    assert "120 rows" in result.output
    found = Routed(tmp_path / "out")
    asked = sum(row["route"]["model"] == "large" for row in found.rows() if row["kind"] == "route")
    assert len(server["asked"]) == asked == next(r for r in found.ledger().table() if r["side"] == "large")["calls"]
    assert routed(run, tmp_path, server).exit_code == 0
    assert len(server["asked"]) == asked, "nothing is asked again"
    log = Log(tmp_path / "out")
    assert {call["model"] for call in log} == {"large"}
    assert (log.calls, log.unreadable) == (asked, 0)
    if mode == "shadow":
        for times in (1, 2):
            certified = run("certify", tmp_path / "out", "-o", tmp_path / f"c{times}.json", "--max-loss", "20 points")
            assert certified.exit_code in (0, 3), certified.output
            about = Outcomes.from_parquet(tmp_path / "out" / "outcomes.parquet").about
            assert about["certifications"] == times
    rows = [{"id": row["route_id"], "input": row["input"]} for row in found.rows() if row["kind"] == "route"]
    collected = collect_outcomes(small, RunnableLambda(lambda row: large(row["text"])), rows, progress=False)
    assert len(collected) == 120


def test_refusals_name_the_fix(run, small, server, tmp_path):
    save_router(ConfidenceRouter(small=small, large=RunnableLambda(large)), tmp_path / "router")
    (tmp_path / "rows.jsonl").write_text('{"note": "a"}\n')
    result = routed(run, tmp_path, server)
    assert result.exit_code == 1
    assert "--text" in result.output
    result = run("certify", tmp_path)
    assert result.exit_code == 1
    assert "dsplus route" in result.output


def test_the_budget_is_said_in_one_line(run, small, server, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t, _ in texts(60, 3)))
    save_router(ConfidenceRouter(small=small, large=RunnableLambda(large), threshold=1.0), tmp_path / "router")
    result = routed(run, tmp_path, server, "--max-cost", "0.00051")
    assert result.exit_code == 1
    assert "max_cost" in result.output
    assert len(server["asked"]) == 5
