"""`dsplus distil`, `status`, `promote`, `rollback`: what they print, write and refuse, and how they end."""

from __future__ import annotations

import json
import re
import threading

import pytest
from typer.testing import CliRunner

pytest.importorskip("sklearn")
pytest.importorskip("skops")
pytest.importorskip("filelock")

from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from langchain_dsplus.cli import app
from langchain_dsplus.learning.material import Material
from langchain_dsplus.registry.registry import ModelRegistry
from langchain_dsplus.routing.persistence import save_router
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.traces.collect import collect_outcomes
from langchain_dsplus.traces.recorder import JSONLRecorder
from tests.unit.topics import large, texts


def write(path, rows, **columns):
    with path.open("w", encoding="utf-8") as file:
        for place, (text, topic) in enumerate(rows):
            row = {"id": f"{path.stem}-{place}", "text": text}
            row |= {name: value(text, topic) for name, value in columns.items()}
            file.write(json.dumps(row) + "\n")
    return path


def says(result):
    """What was printed, in one line, without frames."""
    return re.sub(r"[\s│╭╮╰╯─┃━┏┓┗┛┡┩┳╇┴┬└┘]+", " ", result.output)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments, **kwargs: CliRunner().invoke(app, [str(a) for a in arguments], **kwargs)


@pytest.fixture(scope="session")
def old_model():
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=30, max_iter=500))
    return SklearnClassifier(pipeline.fit(*zip(*texts(24, 1), strict=True)))


@pytest.fixture
def place(tmp_path, old_model):
    """A folder with a small model, gold rows, and rows that the large model answered."""
    old_model.save(tmp_path / "small")
    write(tmp_path / "gold.jsonl", texts(900, 2), gold=lambda _, topic: topic)
    write(tmp_path / "data.jsonl", texts(400, 3), large=lambda text, _: large(text))
    return tmp_path


LOOSE = ["--max-calibration-error", "0.2"]


def distilled(run, place, *more):
    return run(
        "distil", place / "models", "--start", place / "small", "--gold", place / "gold.jsonl",
        "--data", place / "data.jsonl", *LOOSE, *more,
    )  # fmt: skip


def test_distil_trains_judges_and_leaves_what_is_live(run, place):
    result = distilled(run, place, "--teacher", "gpt-x", "--seed", "5")
    assert result.exit_code == 0, result.output
    said = says(result)
    assert "PASSED" in said
    assert f"dsplus promote {place / 'models'} 2" in said
    registry = ModelRegistry(place / "models")
    assert registry.live.number == 1
    new = registry.versions[1]
    assert (new.state, new.teacher, new.seed, new.parent) == ("candidate", "gpt-x", 5, 1)
    report = registry.gates()[0].report
    assert report.accuracy_new > report.accuracy_old
    assert f"{report.accuracy_new:.1%}" in said
    gold = [(row["text"], row["gold"]) for row in map(json.loads, (place / "gold.jsonl").read_text().splitlines())]
    train, gate = registry.split(gold)
    assert report.n == len(gate)
    assert new.n_rows == len(train) + 400
    assert not any(text in result.output for text, _ in gold)


def test_the_whole_way(run, place):
    assert distilled(run, place).exit_code == 0
    models = place / "models"
    result = run("status", models)
    assert result.exit_code == 0, result.output
    assert "Live: version 1" in says(result)
    assert f"dsplus promote {models}" in says(result)
    result = run("promote", models)
    assert result.exit_code == 0, result.output
    assert "Version 2 is live" in says(result)
    assert "no certificate in force" in says(result)

    registry = ModelRegistry(models)
    rows = [{"id": f"f{n}", "input": text, "gold": topic} for n, (text, topic) in enumerate(texts(900, 9))]
    table = collect_outcomes(registry.load(), RunnableLambda(large), rows, progress=False)
    table.to_jsonl(place / "outcomes.jsonl")
    write_inputs = [json.dumps({"id": row["id"], "text": row["input"]}) for row in rows]
    (place / "inputs.jsonl").write_text("\n".join(write_inputs), encoding="utf-8")
    result = run("certify", place / "outcomes.jsonl", "-o", place / "c.json", "--max-loss", "0.05")
    assert result.exit_code == 0, result.output
    attach = ["promote", models, "--certificate", place / "c.json", "--outcomes", place / "outcomes.jsonl"]
    refused = run(*attach)
    assert refused.exit_code == 1
    assert "`inputs`: without them nobody can tell" in says(refused)
    result = run(*attach, "--inputs", place / "inputs.jsonl")
    assert result.exit_code == 0, result.output
    certificate = Certificate.from_json(place / "c.json")
    assert registry.certificate == certificate
    assert certificate.id in run("status", models).output
    assert "Nothing: version 2 is live under certificate" in says(run("status", models))

    result = run("rollback", models, "--reason", "complaints")
    assert result.exit_code == 0, result.output
    assert "Version 1 is live again, without a certificate" in says(result)
    assert "complaints" in says(run("status", models))
    again = run("promote", models, "2")
    assert again.exit_code == 3
    assert "rolled back since its gate" in says(again)
    assert run("rollback", models).exit_code == 1
    assert registry.live.number == 1


# --- distil: what it learns from ------------------------------------------------------------------------------------


def test_a_candidate_that_is_not_shown_to_be_as_good_is_kept_aside(run, place):
    write(place / "gold.jsonl", texts(40, 2), gold=lambda _, topic: topic)
    write(place / "data.jsonl", texts(400, 3), large=lambda *_: "parcel")  # a large model that is of no use
    result = distilled(run, place)
    assert result.exit_code == 3, result.output
    assert "KEPT ASIDE" in result.output
    assert "Version 1 stays live" in says(result)
    registry = ModelRegistry(place / "models")
    for reason in registry.versions[1].reasons:
        assert reason.split(":")[0] in says(result)
        assert reason.split(":")[0] in says(run("status", place / "models"))
    refused = run("promote", place / "models", "2")
    assert refused.exit_code == 3
    assert "Not promoted: version 2 is kept aside" in refused.stderr
    assert registry.live.number == 1


def routed(place, model, store, mode="shadow", n=200, **settings):
    with ConfidenceRouter(
        small=model, large=RunnableLambda(large), mode=mode, recorder=store, background=False, **settings
    ) as router:
        router.batch([text for text, _ in texts(n, 30)])
    return router


@pytest.mark.parametrize("kind", ["jsonl", "sqlite"])
def test_distil_reads_traces(run, place, old_model, kind):
    if kind == "jsonl":
        url = str(place / "routes.jsonl")
        store = JSONLRecorder(url)
    else:
        traces = pytest.importorskip("langchain_dsplus.traces.store")
        pytest.importorskip("sqlalchemy")
        url = f"sqlite:///{place / 'traces.db'}"
        store = traces.TraceStore(url)
    with store:
        routed(place, old_model, store)
        routed(place, old_model, store, mode="live", threshold=0.7, audit_rate=0.5)
    result = run(
        "distil", place / "models", "--start", place / "small", "--gold", place / "gold.jsonl", "--traces", url, *LOOSE
    )
    assert result.exit_code == 0, result.output
    registry = ModelRegistry(place / "models")
    ids = registry._folders.rows(2)["ids"]
    assert len(ids) == 400
    shown = run("status", place / "models", "--traces", url)
    assert shown.exit_code == 0, shown.output
    assert "Nothing was decided live" in says(shown)  # it all happened before the registry was made
    with JSONLRecorder(url) if kind == "jsonl" else traces.TraceStore(url) as store:
        routed(place, old_model, store, mode="live", threshold=0.7, n=50)
    body = json.loads(run("status", place / "models", "--traces", url, "--json").stdout)
    assert body["traces"]["decisions"] == 50
    assert 0 < body["traces"]["escalation_rate"] < 1
    assert body["traces"]["reasons"].keys() == {"confident", "unsure"}
    shown = says(run("status", place / "models", "--traces", url))
    assert f"Escalated: {body['traces']['escalation_rate']:.1%} of live decisions." in shown


def test_rows_of_traces_are_sorted_by_what_they_tell(old_model):
    def route(name, reason, output, **more):
        return {
            "kind": "route", "route_id": name, "router": "r", "input": {"text": name}, "output": output,
            "route": {"accepted": reason == "confident", "reason": reason, **more},
        }  # fmt: skip

    rows = [
        route("sure", "confident", "parcel"),
        route("checked", "confident", "parcel"),
        {"kind": "audit", "route_id": "checked", "router": "r", "output": "refund"},
        route("unsure", "unsure", {"type": "ai", "content": "refund"}),
        route("degraded", "unsure", "parcel", degraded=True),
        route("shadow", "shadow", "refund"),
        {"kind": "shadow", "route_id": "shadow", "router": "r", "answers": []},
        route("off", "off", "refund"),
        {**route("failed", "unsure", None), "error": "large: TimeoutError"},
        {**route("cut", "unsure", "ref"), "cut": True},
        {"kind": "gold", "route_id": "sure", "router": "r", "gold": "password"},
        {**route("other", "unsure", "refund"), "router": "else"},
        {**route("no text", "unsure", "refund"), "input": 3},
        {"kind": "call", "route_id": None},
    ]
    material = Material()
    material.add_traces(rows, lambda value: value, text="text", router="r")
    assert material.gold == [("sure", "password")]
    assert material.large == [("unsure", "refund")]
    assert material.audits == [("checked", "refund"), ("shadow", "refund"), ("off", "refund")]
    assert material.unlabeled == ["sure", "degraded", "failed", "cut"]
    assert material.skipped == 1
    assert "other" not in material.ids
    left = material.without({"sure", "shadow"})
    assert (left.gold, left.audits[1:], left.unlabeled) == ([], [("off", "refund")], ["degraded", "failed", "cut"])


def test_distil_reads_outcomes(run, place, old_model):
    rows = texts(300, 40)
    write(place / "asked.jsonl", rows)
    data = [{"id": f"asked-{n}", "input": text} for n, (text, _) in enumerate(rows)]
    collect_outcomes(old_model, RunnableLambda(large), data, progress=False).to_jsonl(place / "outcomes.jsonl")
    base = ["distil", place / "models", "--start", place / "small", "--gold", place / "gold.jsonl"]
    alone = run(*base, "--outcomes", place / "outcomes.jsonl")
    assert (alone.exit_code, "--data" in alone.stderr) == (1, True)
    result = run(*base, "--data", place / "asked.jsonl", "--outcomes", place / "outcomes.jsonl", *LOOSE)
    assert result.exit_code == 0, result.output
    assert "the large model's answers 300" in says(result)
    assert len(ModelRegistry(place / "models")._folders.rows(2)["ids"]) == 300


def test_rows_that_judge_are_never_learned_from(run, place):
    gold = [json.loads(line) for line in (place / "gold.jsonl").read_text().splitlines()]
    with (place / "data.jsonl").open("a") as file:
        for row in gold:
            file.write(json.dumps({"text": row["text"], "large": row["gold"]}) + "\n")
    (place / "gate.jsonl").write_text("\n".join(json.dumps(row) for row in gold[:300]))
    result = distilled(run, place, "--gate", place / "gate.jsonl")
    assert result.exit_code == 0, result.output
    registry = ModelRegistry(place / "models")
    assert registry.gates()[0].report.n == 300
    assert len(registry.fresh([(row["text"], row["gold"]) for row in gold], 2)) == 300


@pytest.fixture
def server(httpserver, unpooled_openai):
    """A server that answers like a chat model, by the words of the text."""
    pytest.importorskip("langchain_openai")
    from werkzeug.wrappers import Response

    asked, lock = [], threading.Lock()

    def reply(request):
        body = json.loads(request.get_data())
        words = body["messages"][-1]["content"]
        with lock:
            asked.append(words)
        message = {"role": "assistant", "content": large(words.split("\n\n")[1])}
        answer = {
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101},
        }  # fmt: skip
        return Response(json.dumps(answer), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(reply)
    return {"url": httpserver.url_for("/v1"), "asked": asked}


def test_distil_asks_the_large_model_within_a_budget(run, place, server):
    write(place / "data.jsonl", texts(150, 3))
    ask = ["--ask", "big", "--base-url", server["url"], "--calls", "40", "--price-input", "1", "--price-output", "2"]
    refused = run(
        "distil", place / "models", "--start", place / "small", "--gold", place / "gold.jsonl", "--data",
        place / "data.jsonl", *ask, input="n\n",
    )  # fmt: skip
    assert refused.exit_code == 1
    assert server["asked"] == []
    assert "big will be asked about 40 rows" in says(refused)
    result = distilled(run, place, *ask, "--yes", "--quiet")
    assert result.exit_code == 0, result.output
    assert len(server["asked"]) == 40
    assert "the large model's answers 40" in says(result)
    registry = ModelRegistry(place / "models")
    assert registry.versions[1].teacher == "big"
    again = distilled(run, place, *ask, "--yes", "--quiet")
    assert "nothing is asked" in says(again)
    assert len(server["asked"]) == 40
    assert "each halves the error probability" in says(again)
    write(place / "data.jsonl", texts(50, 33))
    assert distilled(run, place, *ask, "--yes", "--quiet").exit_code in (0, 3)
    assert len(server["asked"]) == 80
    kept = (place / "models" / "answers.jsonl").read_text()
    assert kept.count('"side": "large"') + kept.count('"side":"large"') == 80


# --- starts and refusals --------------------------------------------------------------------------------------------


def test_a_saved_router_starts_a_registry_with_its_certificate(run, place, old_model):
    rows = [{"id": f"f{n}", "input": text, "gold": topic} for n, (text, topic) in enumerate(texts(600, 9))]
    table = collect_outcomes(old_model, RunnableLambda(large), rows, progress=False)
    certificate = certify(table, 0.05)
    router = ConfidenceRouter(small=old_model, large=RunnableLambda(large), threshold=certificate)
    save_router(router, place / "router")
    result = run(
        "distil", place / "models", "--start", place / "router", "--gold", place / "gold.jsonl", "--data",
        place / "data.jsonl", *LOOSE,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    registry = ModelRegistry(place / "models")
    assert registry.certificate == certificate
    assert "CERTIFIED" in run("status", place / "models").output
    assert run("promote", place / "models").exit_code == 0
    shown = says(run("status", place / "models"))
    assert "No certificate is in force: nothing stays local" in shown
    assert run("rollback", place / "models").exit_code == 0
    assert f"under certificate {certificate.id}" in says(run("status", place / "models"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["distil", "models", "--gold", "gold.jsonl", "--data", "data.jsonl"], "--start"),
        (["distil", "models", "--gold", "gold.jsonl", "--start", "small"], "--data, --traces, or both"),
        (["distil", "models", "--gold", "none.jsonl", "--start", "small", "--data", "data.jsonl"], "none.jsonl"),
        (["distil", "models", "--gold", "data.jsonl", "--start", "small", "--data", "data.jsonl"], "no column 'gold'"),
        (["distil", "models", "--gold", "gold.jsonl", "--start", "gold.jsonl", "--data", "data.jsonl"], "gold.jsonl"),
        (
            ["distil", "models", "--gold", "else.jsonl", "--start", "small", "--data", "data.jsonl"],
            "else.jsonl: row 1, column 'gold'",
        ),
        (
            ["distil", "models", "--gold", "gold.jsonl", "--start", "small", "--traces", "ftp://x/y"],
            "sqlite:///",
        ),
        (
            ["distil", "models", "--gold", "gold.jsonl", "--start", "small", "--traces", "sqlite:///typo.db"],
            "typo.db: there is no such trace store",
        ),
        (["status", "models"], "models is neither a shunt"),
        (["promote", "models"], "models is neither a shunt"),
        (["rollback", "models"], "models is neither a shunt"),
    ],
)
def test_mistakes_are_told_in_one_line(run, place, monkeypatch, arguments, words):
    monkeypatch.chdir(place)
    write(place / "else.jsonl", texts(3, 2), gold=lambda *_: "else")
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not (place / "models").exists()


def test_a_certificate_needs_its_table(run, place):
    assert distilled(run, place).exit_code == 0
    result = run("promote", place / "models", "--certificate", place / "c.json")
    assert (result.exit_code, "--outcomes" in result.stderr) == (1, True)


def test_alarms_are_shown(run, place, tmp_path):
    assert distilled(run, place).exit_code == 0
    alarm = {"kind": "evidence", "message": "they disagree more often", "time": "2026-01-02T03:04:05+00:00"}
    (tmp_path / "audits.json").write_text(json.dumps({"format": 1, "alarms": [{**alarm, "rung": "large"}]}))
    result = run("status", place / "models", "--audits", tmp_path / "audits.json")
    assert "Alarm (evidence), 2026-01-02 03:04 UTC: they disagree more often" in says(result)
    (tmp_path / "audits.json").write_text("{}")
    assert (
        "is no file of an AuditMonitor" in run("status", place / "models", "--audits", tmp_path / "audits.json").stderr
    )


def test_status_for_programs(run, place):
    assert distilled(run, place).exit_code == 0
    body = json.loads(run("status", place / "models", "--json").stdout)
    assert (body["live"], body["certificate"], body["traces"], body["alarms"]) == (1, None, None, None)
    assert [version["state"] for version in body["versions"]] == ["live", "candidate"]
    assert body["gates"][0]["report"]["promoted"] is True
    assert "promote it" in body["next_step"]
