"""`dsplus serve`: what it refuses, and a process that serves, follows SIGTERM and finishes what is under way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
from typer.testing import CliRunner

from langchain_dsplus.cli import app
from tests.unit.serve.conftest import MODEL, completion, messages, provider, whole  # noqa: F401 - a fixture
from tests.unit.shunt.conftest import LABELS


@pytest.fixture
def files(tmp_path):
    (tmp_path / "prompt.json").write_text(
        json.dumps([["system", "Say refund, delivery or login."], ["human", "{text}"]])
    )
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    return tmp_path


def options(files, url="http://127.0.0.1:9/v1"):
    return [str(files / "shunt"), "--upstream", url, "--model", MODEL, "--prompt", str(files / "prompt.json"), "--labels",
            str(files / "labels.txt"), "--max-loss", "2 points", "--port", "0"]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--host", "0.0.0.0"], "DSPLUS_SERVE_TOKEN"),
        (["--upstream", "api.openai.com"], "base URL"),
        (["--question", "q.json"], "either --prompt or --question"),
        (["--reply", "no place"], "{label}"),
        (["--max-loss", "much"], "points"),
        (["--labels", "missing.txt"], "missing.txt"),
        (["{folder}", "other"], "each new one alone first"),
    ],
)
def test_what_is_refused_says_why(files, change, said):
    arguments = ["serve", *options(files), *change]
    if change[0] == "{folder}":
        arguments = ["serve", "other", *options(files)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_says_nothing_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "new"), "--upstream", "http://127.0.0.1:9/v1"])
    assert result.exit_code == 1
    assert "--model" in result.output


def test_a_process_serves_and_drains(files, provider):  # noqa: F811
    provider.script = lambda _: [1.5, *whole("200 OK", completion("refund"))]
    command = [sys.executable, "-m", "langchain_dsplus.cli", "serve", *options(files, provider.url)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        url = re.search(r"http://\S+/v1", process.stdout.readline())[0]
        found = []

        def ask():
            body = {"model": MODEL, "messages": messages("refund1 please")}
            found.append(httpx.post(f"{url}/chat/completions", json=body, timeout=30, trust_env=False))

        thread = threading.Thread(target=ask)
        thread.start()
        while not provider.asked:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        thread.join(20)
        assert [reply.json()["choices"][0]["message"]["content"] for reply in found] == ["refund"]
        _, said = process.communicate(timeout=20)
        assert said == ""
    finally:
        process.kill()
        process.communicate()
    from langchain_dsplus.traces.store import TraceStore

    with TraceStore(f"sqlite:///{files / 'shunt' / 'traces.db'}") as store:
        (row,) = store.rows(kind="route")
    assert row["large_said"]["label"] == "refund"
    assert json.loads((files / "shunt" / "serve.json").read_text())["model"] == MODEL
