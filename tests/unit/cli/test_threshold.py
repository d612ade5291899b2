"""`dsplus plan`, `collect`, `certify`, `report`: what they print, write and refuse, and how they end."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from langchain_dsplus.cli import app
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.planning import plan_sample_size

pytest.importorskip("scipy")


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda *arguments, **kwargs: CliRunner().invoke(app, [str(a) for a in arguments], **kwargs)


def table(n=1500, *, skill=0.995, seed=0):
    draw = np.random.default_rng(seed)
    gold = [f"c{x}" for x in draw.integers(0, 3, n)]
    return Outcomes(
        {
            "id": [f"i{row}" for row in range(n)],
            "small": [g if draw.random() < skill else "c9" for g in gold],
            "confidence": draw.random(n).tolist(),
            "large": gold,
            "gold": gold,
            "slices": [{"language": "de" if row % 2 else "en"} for row in range(n)],
        },
        about={"score": "max_probability", "labels": ["c0", "c1", "c2", "c9"]},
    )


def says(result):
    """What was printed, in one line, without frames."""
    return re.sub(r"[\s│╭╮╰╯─┃━┏┓┗┛┡┩┳╇┴┬└┘]+", " ", result.output)


# --- plan -----------------------------------------------------------------------------------------------------------


def test_plan_says_what_the_function_says(run):
    result = run("plan", "--max-loss", "0.01", "--harm-rate", "0.01", "--gain-rate", "0.02")
    assert result.exit_code == 0, result.output
    found = plan_sample_size(0.01, harm_rate=0.01, gain_rate=0.02)
    assert found.note in says(result)
    assert f"{found.n:,}" in result.output
    assert "598" in result.output


def test_plan_says_so_where_no_number_is_enough(run):
    result = run("plan", "--harm-rate", "0.02", "--gain-rate", "0")
    assert result.exit_code == 0
    assert "no number is enough" in result.output


def test_plan_refuses_nonsense_in_one_line(run):
    result = run("plan", "--level", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


# --- certify --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_certify_writes_the_certificate_and_counts_it_in_the_table(run, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path, output = tmp_path / f"outcomes.{suffix}", tmp_path / "c.json"
    getattr(table(), f"to_{suffix}")(path)
    result = run("certify", path, "-o", output, "--max-loss", "0.02")
    assert result.exit_code == 0, result.output
    certificate = Certificate.from_json(output)
    assert certificate == certify(table(), 0.02)
    assert "CERTIFIED" in result.output
    assert certificate.verdict in says(result).replace("  ", " ")
    assert "was used once to certify" in says(result)
    back = getattr(Outcomes, f"from_{suffix}")(path)
    assert back.about["certifications"] == 1
    assert back.to_records() == table().to_records()
    second = run("certify", path, "-o", tmp_path / "d.json", "--max-loss", "0.02")
    assert Certificate.from_json(tmp_path / "d.json").alpha == pytest.approx(0.025)
    assert "was used 2 times to certify" in says(second)


def test_a_refusal_ends_with_3_and_says_what_would_help(run, tmp_path):
    path, output = tmp_path / "outcomes.jsonl", tmp_path / "c.json"
    table(200).to_jsonl(path)
    result = run("certify", path, "-o", output)
    assert result.exit_code == 3
    assert "NOT_CERTIFIED" in result.output
    assert "What would help" in result.output
    assert "Below 598 rows nothing can be shown" in says(result)
    assert Certificate.from_json(output).threshold == math.inf
    assert Outcomes.from_jsonl(path).about["certifications"] == 1


def test_options_reach_the_function(run, tmp_path):
    path, output = tmp_path / "outcomes.jsonl", tmp_path / "c.json"
    table().to_jsonl(path)
    options = ["--max-loss", "0.05", "--level", "0.9", "--slice", "language", "--never-local", "c1", "--steps", "20"]
    result = run(
        "certify", path, "-o", output, *options, "--start", "0.5", "--about", "prompt=v1", "--about", "large=[1]"
    )
    assert result.exit_code == 0, result.output
    found = Certificate.from_json(output)
    assert (found.max_loss, found.level, found.never_local) == (0.05, 0.9, ("c1",))
    assert found.slices == ("language=de", "language=en")
    assert found.steps[0].thresholds == {"small": 0.5}
    assert (found.about["prompt"], found.about["large"]) == ("v1", [1])


def test_a_path_for_several_small_models(run, tmp_path):
    draw = np.random.default_rng(0)
    columns = {"large": ["a"] * 900, "gold": ["a"] * 900}
    for name in ("x", "y"):
        columns |= {f"small.{name}": ["a"] * 900, f"confidence.{name}": draw.random(900).tolist()}
    Outcomes(columns).to_jsonl(tmp_path / "o.jsonl")
    (tmp_path / "path.json").write_text('[{"x": null, "y": 0.9}, {"x": 0.5, "y": 0.5}]')
    result = run("certify", tmp_path / "o.jsonl", "-o", tmp_path / "c.json", "--path", tmp_path / "path.json")
    assert result.exit_code == 0, result.output
    assert Certificate.from_json(tmp_path / "c.json").thresholds == {"x": 0.5, "y": 0.5}


def test_where_the_count_cannot_be_written_there_is_no_certificate(run, tmp_path, monkeypatch):
    path, output = tmp_path / "outcomes.jsonl", tmp_path / "c.json"
    table().to_jsonl(path)

    def full(self, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Outcomes, "to_jsonl", full)
    result = run("certify", path, "-o", output)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {path}: No space left on device\n"
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gone.jsonl"], "gone.jsonl: No such file or directory"),
        (["outcomes.txt"], "must be .jsonl, .csv or .parquet"),
        (["broken.jsonl"], "line 1 is not JSON"),
        (["broken.csv"], "row 1, column 'confidence'"),
        (["fine.jsonl", "--max-loss", "2"], "`--max-loss` has no unit"),
        (["fine.jsonl", "--max-loss", "0.5"], "write '0.5 points' or '50 points'"),
        (["fine.jsonl", "--slice", "country"], "no row of `outcomes` is in slice 'country'"),
        (["fine.jsonl", "--prompt", "pruned"], "large_pruned"),
        (["fine.jsonl", "--about", "certifications=0"], "--about takes NAME=VALUE"),
        (["fine.jsonl", "--path", "broken.csv"], "must hold a JSON list"),
        (["fine.jsonl", "-o", "fine.jsonl"], "--output is the table itself"),
        (["fine.jsonl", "-o", "other.csv"], "a certificate is JSON"),
        (["fine.jsonl", "-o", "used.json"], "used.json is there already"),
        (["fine.jsonl", "-o", "nowhere/c.json"], "there is no such folder"),
        (["fine.jsonl", "--never-local", "c7"], "--never-local c7: not one of the labels"),
        (["foreign.jsonl"], "no row's 'small' is one of the labels"),
        (["plain.csv", "--labels", "foreign.txt"], "no row's 'small' is one of the labels"),
        (["gold.csv", "--labels", "foreign.txt"], "gold.csv: row 1, column 'gold': 1 of 1 values of gold are none of"),
        (["fine.jsonl", "--gold-map", "c1"], "--gold-map takes VALUE=LABEL"),
        (["fine.jsonl", "--gold-map", "c1=nowhere"], '`gold_map` leads to "nowhere"'),
        (["fine.jsonl", "--about", "api_key=secret"], "looks like a key"),
        (["fine.jsonl", "--about", "note=sk-secretsecretsecretsecret"], "looks like a key"),
        (["named.csv"], "has the columns small, confidence, large"),
        (["routes.jsonl"], "A recorder wrote this"),
    ],
)
def test_errors_of_certify_are_one_line(run, tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    table(50).to_jsonl("fine.jsonl")
    before = Path("fine.jsonl").read_bytes()
    Path("outcomes.txt").write_text("x")
    Path("broken.jsonl").write_text("secret words\n")
    Path("broken.csv").write_text("small,confidence,large,gold\na,secret,a,a\n")
    Path("used.json").write_text("{}")
    Path("plain.csv").write_text("small,confidence,large,gold\na,0.5,a,\n")
    Path("foreign.txt").write_text("x\ny\n")
    Outcomes.from_csv("plain.csv", about={"labels": ["x", "y"]}).to_jsonl("foreign.jsonl")
    Path("gold.csv").write_text("small,confidence,large,gold\nx,0.5,x,a\n")
    Path("named.csv").write_text("prediction,score,gpt,label\na,0.5,a,secret\n")
    Path("routes.jsonl").write_text('{"kind": "route", "route_id": "1", "input": "secret"}\n')
    result = run("certify", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert error in result.stderr
    assert "secret" not in result.stderr
    assert Path("fine.jsonl").read_bytes() == before


def test_a_certificate_that_no_router_takes_yet_says_so(run, tmp_path):
    path, names = tmp_path / "o.jsonl", tmp_path / "labels.txt"
    Outcomes({name: table()[name].tolist() for name in ("small", "confidence", "large", "gold")}).to_jsonl(path)
    result = run("certify", path, "-o", tmp_path / "c.json", "--max-loss", "0.02")
    assert result.exit_code == 0, result.output
    assert "does not say which `score` and `labels` it is about" in says(result)
    assert ".bind(score=..., labels=...)" in says(result)
    names.write_text("c0\nc1\n\nc2\nc9\n")
    more = ["--labels", names, "--about", "score=max_probability", "--max-loss", "0.02"]
    result = run("certify", path, "-o", tmp_path / "d.json", *more)
    assert "does not say which" not in says(result)
    about = Certificate.from_json(tmp_path / "d.json").about
    assert (about["labels"], about["score"]) == (["c0", "c1", "c2", "c9"], "max_probability")


def test_what_only_gold_tells_is_not_shown_as_a_number(run, tmp_path):
    path, known = tmp_path / "o.jsonl", table()
    unknown = [
        None if small != large else gold
        for small, large, gold in zip(known.values("small"), known.values("large"), known.values("gold"), strict=True)
    ]
    columns = {name: known.values(name) for name in ("id", "small", "confidence", "large")}
    Outcomes({**columns, "gold": unknown}, about=known.about).to_jsonl(path)
    result = run("certify", path, "-o", tmp_path / "c.json", "--max-loss", "0.02")
    assert result.exit_code == 0, result.output
    rows = {line.split("│")[1].strip(): line for line in result.output.splitlines() if line.count("│") > 3}
    assert "needs gold" in rows["always small"]
    assert "at worst -" in rows["always small"]
    assert "at worst" not in rows["always large"]
    count = len(Outcomes.from_jsonl(path).to_label(agreements=0))
    assert count > 0
    assert f"{count} rows on which the models disagree have no gold" in says(result)


def test_an_unknown_option_ends_with_2(run):
    assert run("certify", "x.jsonl", "--unit", "day").exit_code == 2


# --- label ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_labels_go_out_and_come_back(run, tmp_path, suffix):
    known, path, file = table(), tmp_path / f"o.{suffix}", tmp_path / "to_label.csv"
    truth = dict(zip(known.values("id"), known.values("gold"), strict=True))
    columns = {name: known.values(name) for name in ("id", "small", "confidence", "large")}
    empty = Outcomes({**columns, "gold": [None] * len(known)}, about=known.about)
    getattr(empty, f"to_{suffix}")(path)
    with (tmp_path / "texts.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["id", "words"], *([name, f"text of {name}"] for name in truth)])
    open_ = len(empty.to_label(agreements=0))
    assert open_ > 3
    result = run(
        "label",
        path,
        "-o",
        file,
        "--max-rows",
        "3",
        "--agreements",
        "0",
        "--inputs",
        tmp_path / "texts.csv",
        "--text",
        "words",
    )
    assert result.exit_code == 0, result.output
    assert "3 of 1,500 rows to look at" in says(result)
    rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["input"] for row in rows] == [f"text of {row['id']}" for row in rows]
    with file.open("w", newline="") as out:  # as a spreadsheet writes it in many a country
        writer = csv.DictWriter(out, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows({**row, "gold": truth[row["id"]]} for row in rows)
    result = run("label", path, "--read", file)
    assert result.exit_code == 0, result.output
    assert f"3 labels are new in {path}; {open_ - 3} disagreements are left" in says(result)
    back = getattr(Outcomes, f"from_{suffix}")(path)
    found = dict(zip(back.values("id"), back.values("gold"), strict=True))
    assert {name: gold for name, gold in found.items() if gold is not None} == {
        row["id"]: truth[row["id"]] for row in rows
    }
    assert back.about == empty.about


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-o", "mine.csv"], "may hold somebody's labels"),
        (["-o", "x.xlsx"], "must end in .csv or .jsonl"),
        (["--read", "gone.csv"], "gone.csv: No such file or directory"),
        (["--read", "mine.csv"], "the table has no row with this id"),
        (["--inputs", "mine.csv"], "has no column 'text': name it with --text"),
    ],
)
def test_errors_of_label_are_one_line(run, tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    table(50).to_jsonl("o.jsonl")
    Path("mine.csv").write_text("id,gold\nsecret,a\n")
    before = Path("o.jsonl").read_bytes()
    result = run("label", "o.jsonl", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert error in result.stderr
    assert "secret" not in result.stderr
    assert Path("o.jsonl").read_bytes() == before
    assert Path("mine.csv").read_text() == "id,gold\nsecret,a\n"


# --- report ---------------------------------------------------------------------------------------------------------


def test_report_writes_one_page(run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address))
    path = tmp_path / "outcomes.jsonl"
    outcomes = table()
    certificate = certify(outcomes, 0.02)
    outcomes.to_jsonl(path)
    certificate.to_json(tmp_path / "c.json")
    with (tmp_path / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "words"])
        writer.writerows([name, f"text of {name}"] for name in outcomes.values("id"))
    page = tmp_path / "page.html"
    arguments = ["--inputs", tmp_path / "data.csv", "--text", "words", "--title", "Tickets", "--open"]
    result = run("report", path, "-c", tmp_path / "c.json", "-o", page, *arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Written: {page} (")
    source = page.read_text(encoding="utf-8")
    assert "<title>Tickets</title>" in source
    assert certificate.id in source
    assert "text of i" in source
    assert opened == [page.as_uri()]
    assert run("report", path, "-o", page).exit_code == 0
    assert "text of i" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-c", "gone.json"], "gone.json: No such file or directory"),
        (["-c", "o.jsonl"], "not a certificate"),
        (["--inputs", "d.csv"], "has no column 'text': name it with --text"),
        (["-o", "nowhere/page.html"], "No such file or directory"),
    ],
)
def test_errors_of_report_are_one_line(run, tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    table(50).to_jsonl("o.jsonl")
    Path("d.csv").write_text("id,words\n1,x\n")
    result = run("report", "o.jsonl", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert error in result.stderr


# --- collect --------------------------------------------------------------------------------------------------------

TEXTS = ["where is my parcel", "parcel lost", "charged twice", "refund my card", "parcel late", "card fee"]
GOLD = ["ship", "ship", "bill", "bill", "ship", "bill"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a data set and a saved small model, as the working directory."""
    pytest.importorskip("skops")
    pytest.importorskip("langchain_openai")
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus.small_models.sklearn import SklearnClassifier

    SklearnClassifier(make_pipeline(CountVectorizer(), MultinomialNB()).fit(TEXTS, GOLD)).save(tmp_path / "small")
    with (tmp_path / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "gold", "language"])
        writer.writerows(
            [f"t{row}", words, gold, "en"] for row, (words, gold) in enumerate(zip(TEXTS, GOLD, strict=True))
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(httpserver, unpooled_openai):
    """A server that answers like a chat model: `ship` where it reads of a parcel."""
    from werkzeug.wrappers import Response

    asked, lock = [], threading.Lock()

    def reply(request):
        body = json.loads(request.get_data())
        words = " ".join(message["content"] for message in body["messages"])
        with lock:
            asked.append({"words": words, "key": request.headers["Authorization"], "model": body["model"]})
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "ship" if "parcel" in words else "bill"},
        }
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }
        return Response(json.dumps(answer), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(reply)
    return {"url": httpserver.url_for("/v1"), "asked": asked}


def collected(server, *more):
    return [
        "collect",
        "data.csv",
        "--small",
        "small",
        "--large",
        "big",
        "--base-url",
        server["url"],
        "-o",
        "o.jsonl",
        "--quiet",
        *more,
    ]


def test_collect_asks_once_and_writes_the_table(run, folder, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-key")
    prices = ["--price-input", "1", "--price-output", "2", "--slice", "language"]
    result = run(*collected(server, *prices), input="y\n")
    assert result.exit_code == 0, result.output
    assert "big will be asked about 6 rows" in says(result)
    assert re.search(r"about [\d,]+ prompt tokens, about [\d.e-]+ USD", says(result))
    assert "sk-the-key" not in result.output
    assert len(server["asked"]) == 6
    assert {call["key"] for call in server["asked"]} == {"Bearer sk-the-key"}
    outcomes = Outcomes.from_jsonl("o.jsonl")
    assert outcomes.values("id") == [f"t{row}" for row in range(6)]
    assert outcomes.values("large") == GOLD
    assert outcomes.values("gold") == GOLD
    assert outcomes.values("slices") == [{"language": "en"}] * 6
    assert outcomes["cost_large"].tolist() == pytest.approx([(100 * 1 + 2) / 1e6] * 6)
    assert outcomes.about["score"] == "max_probability"
    assert set(outcomes.about["labels"]) == {"bill", "ship"}
    assert re.fullmatch("[0-9a-f]{64}", outcomes.about["large"])
    assert re.fullmatch("[0-9a-f]{64}", outcomes.about["prompt"])
    for file in folder.glob("o.jsonl*"):
        assert "sk-the-key" not in file.read_text(encoding="utf-8")
    # Once more: everything is there, and nobody has to say yes.
    again = run(*collected(server, *prices))
    assert again.exit_code == 0, again.output
    assert "nothing is asked" in again.output
    assert len(server["asked"]) == 6


def test_what_was_collected_fits_a_router_of_the_same_parts(run, folder, server):
    """The certificate's `about` names the same large model and prompt as the chain that a user builds by hand."""
    from langchain_openai import ChatOpenAI

    from langchain_dsplus.identity import identify
    from langchain_dsplus.prompts.parser import LabelParser
    from langchain_dsplus.prompts.pruner import PromptPruner

    Path("prompt.txt").write_text("Sort this: {text}\nOne of:\n{candidates}")
    assert run(*collected(server, "--yes", "--prompt", "prompt.txt")).exit_code == 0
    assert server["asked"][0]["words"].startswith("Sort this: ")
    labels = Outcomes.from_jsonl("o.jsonl").about["labels"]
    prompt = PromptPruner.from_messages([("human", Path("prompt.txt").read_text())], labels=labels, pruning="none")
    model = ChatOpenAI(model="big", base_url=server["url"], api_key="other", temperature=0, max_retries=3, timeout=120)
    mine = identify(prompt | model | LabelParser(labels))
    about = Outcomes.from_jsonl("o.jsonl").about
    assert (about["large"], about["prompt"]) == (mine.large, mine.prompt)


@pytest.mark.parametrize("kind", [None, "txt", "json"])
def test_the_code_that_collect_prints_is_the_chain_that_was_asked(run, folder, server, kind):
    from langchain_openai import ChatOpenAI

    from langchain_dsplus import LabelParser, PromptPruner, SklearnClassifier
    from langchain_dsplus.identity import identify

    Path("prompt.txt").write_text("Sort this: {text}\nOne of:\n{candidates}")
    Path("prompt.json").write_text('[["system", "You sort."], ["human", "{text}"]]')
    result = run(*collected(server, "--yes", *([] if kind is None else ["--prompt", f"prompt.{kind}"])))
    assert result.exit_code == 0, result.output
    code = "\n".join(
        line.strip() for line in result.output.splitlines() if re.match(r"  (small|labels|prompt|large) = ", line)
    )
    names = {"ChatOpenAI": ChatOpenAI, "LabelParser": LabelParser, "PromptPruner": PromptPruner, "Path": Path}
    names |= {"SklearnClassifier": SklearnClassifier, "json": json, "os": os}
    exec(code, names)
    about = Outcomes.from_jsonl("o.jsonl").about
    mine = identify(names["large"])
    assert (about["large"], about["prompt"], about["small"]) == (mine.large, mine.prompt, names["small"].version)


def test_collect_says_why_rows_failed_and_what_to_label(run, folder, server, httpserver):
    httpserver.clear_all_handlers()
    httpserver.expect_request("/v1/chat/completions").respond_with_json(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "big",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "no idea"}}],
        }
    )
    Path("data.csv").write_text("id,text\n1,parcel lost\n2,card fee\n")
    result = run(*collected(server, "--yes"))
    assert result.exit_code == 0, result.output
    assert re.search(r"its reply was none of the labels\W+2", result.output)
    assert "2 rows on which the models disagree have no gold" in says(result)
    assert "dsplus label o.jsonl -o to_label.csv --inputs data.csv" in says(result)


def test_a_stop_says_how_to_go_on(run, folder, server, monkeypatch):
    def stopped(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("langchain_dsplus.traces.collect.collect_outcomes", stopped)
    result = run(*collected(server, "--yes"))
    assert result.exit_code == 130
    assert "o.jsonl.answers.jsonl: the same command goes on from there" in says(result)


def test_collect_asks_before_it_spends(run, folder, server):
    result = run(*collected(server), input="n\n")
    assert result.exit_code == 1
    assert server["asked"] == []
    assert not Path("o.jsonl").exists()
    assert "What that costs is not known" in says(result)


def test_collect_keeps_to_max_cost(run, folder, server):
    options = ["--yes", "--price-input", "1000000", "--price-output", "1"]
    result = run(*collected(server, *options, "--max-cost", "3"))
    assert result.exit_code == 1
    assert "above `max_cost`" in result.stderr
    assert server["asked"] == []


def test_a_table_that_was_certified_is_not_written_over(run, folder, server):
    table(20).to_jsonl("o.jsonl")
    outcomes = Outcomes.from_jsonl("o.jsonl")
    outcomes.about["certifications"] = 1
    outcomes.to_jsonl("o.jsonl")
    result = run(*collected(server, "--yes"))
    assert result.exit_code == 1
    assert "has been used to certify" in result.stderr
    assert server["asked"] == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--small", "gone"], "gone holds no saved small model"),
        (["--text", "words"], "nothing in column 'words'; which one to read: --text"),
        (["--prompt", "p.txt"], "the prompt asks for ['subject']"),
        (["--prompt", "p.json"], "must hold JSON like"),
        (["--labels", "p.txt"], "at least two labels"),
        (["--price-input", "1"], "pass both --price-input and --price-output"),
        (["--max-cost", "1"], "--max-cost needs to know what big costs"),
        (["--slice", "country"], "no column ['country'] to slice by"),
        (["-o", "o.txt"], "must be .jsonl, .csv or .parquet"),
    ],
)
def test_errors_of_collect_are_one_line_before_anything_is_asked(run, folder, server, arguments, error):
    Path("p.txt").write_text("{subject}")
    Path("p.json").write_text("{}")
    result = run(*collected(server, "--yes", *arguments))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert error in result.stderr
    assert server["asked"] == []


def test_without_a_key_and_a_server_nothing_starts(run, folder):
    result = run("collect", "data.csv", "--small", "small", "--large", "gpt-5-mini", "-o", "o.jsonl", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: set OPENAI_API_KEY to your API key, or name a server with --base-url\n"


def test_data_sets_of_every_kind_are_read(run, folder, server):
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    rows = [{"id": row, "text": words, "gold": gold} for row, (words, gold) in enumerate(zip(TEXTS, GOLD, strict=True))]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), "data.parquet")
    found = []
    for suffix in ("jsonl", "parquet"):
        arguments = collected(server, "--yes", "--limit", "3")
        arguments[1], arguments[arguments.index("o.jsonl")] = f"data.{suffix}", f"{suffix}.csv"
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        found.append(Outcomes.from_csv(f"{suffix}.csv").values("large"))
    assert found == [GOLD[:3]] * 2
    Path("bad.jsonl").write_text("[]\n")
    arguments[1] = "bad.jsonl"
    assert "line 1 is not a JSON object" in run(*arguments).stderr


def test_from_a_data_set_to_a_page(run, folder, server):
    """The four commands in a row."""
    with Path("data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "gold"])
        writer.writerows([row, f"{TEXTS[row % 6]} {row}", GOLD[row % 6]] for row in range(120))
    assert run(*collected(server, "--yes")).exit_code == 0
    assert run("certify", "o.jsonl", "-o", "c.json", "--max-loss", "0.05").exit_code == 0
    assert run("report", "o.jsonl", "-c", "c.json", "-o", "r.html", "--inputs", "data.csv").exit_code == 0
    assert "Promise holds" in Path("r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("seed", range(3))
def test_the_title_says_where_a_class_loses(run, tmp_path, seed):
    draw = random.Random(seed)
    rows = []
    for place in range(2500):
        true = draw.choices("abx", [0.5, 0.44, 0.06])[0]
        small = "a" if true == "x" and draw.random() < 0.6 else true
        rows.append({"id": str(place), "small": small, "confidence": draw.random(), "large": true, "gold": true})
    path = tmp_path / "table.jsonl"
    Outcomes.from_records(rows, about={"labels": ["a", "b", "x"]}).to_jsonl(path)
    result = run("certify", path, "-o", tmp_path / "c.json", "--max-loss", "6 points")
    assert result.exit_code == 0, result.output
    first = result.output.splitlines()[0]
    assert "CERTIFIED, but not for every class" in first
    assert result.output.index("'x' falls from") < result.output.index("answers")
