"""The command line: what it prints, how it fails, and that it starts quickly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import types
from functools import partial

import pytest
from typer.testing import CliRunner

from langchain_dsplus import __version__, weights
from langchain_dsplus.cli import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DSPLUS_OFFLINE", "1")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"langchain-dsplus {__version__}\n"


def test_list_names_everything_and_where_it_lies(run, tmp_path, monkeypatch):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"GGUF")
    monkeypatch.setenv("DSPLUS_SMOLLM2_135M_PATH", str(mine))
    monkeypatch.setenv("DSPLUS_AMAZON_SNIPPETS_PATH", str(tmp_path / "gone"))
    result = run("models", "list")
    assert result.exit_code == 0
    for artifact in weights.list_artifacts():
        assert f"{artifact.name}\n" in result.output
        assert artifact.license in result.output
    assert f"here: {mine}" in result.output
    assert "not here" in result.output
    assert "DSPLUS_AMAZON_SNIPPETS_PATH is set, but there is nothing" in result.output
    assert f"Cache: {tmp_path / 'cache'}" in result.output


def test_pull_prints_the_paths(run, tmp_path, monkeypatch):
    for name, env in (("smollm2-135m", "DSPLUS_SMOLLM2_135M_PATH"), ("minilm", "DSPLUS_MINILM_PATH")):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(env, str(tmp_path / name))
    result = run("models", "pull", "smollm2-135m", "minilm", "--quiet")
    assert result.exit_code == 0
    assert result.output == f"smollm2-135m: {tmp_path / 'smollm2-135m'}\nminilm: {tmp_path / 'minilm'}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("models", "pull", "no-such-model"), "Known names: minilm"),
        (("serve-model", "no-such-model"), "Known names: minilm"),
        (("serve-model", __file__), "is not a GGUF file"),
        (("serve-model", __file__, "--host", "0.0.0.0"), "pass an `api_key`"),
        (("serve-model", __file__, "--n-ctx", "3"), "`n_ctx` must be at least 64"),
        (("serve-model", "qwen2.5-coder-1.5b"), "DSPLUS_OFFLINE is set"),
    ],
)
def test_errors_are_a_message_and_not_a_traceback(run, arguments, says):
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert says in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ((), {"model": "qwen2.5-coder-0.5b", "quick": False}),
        (("--quick",), {"model": "qwen2.5-coder-0.5b", "quick": True}),
        (("--large",), {"model": "qwen2.5-coder-1.5b", "quick": False}),
        (("--model", "qwen2.5-coder-1.5b"), {"model": "qwen2.5-coder-1.5b", "quick": False}),
    ],
)
def test_demo_is_called_with_what_was_asked_for(run, monkeypatch, tmp_path, arguments, asked):
    calls = []
    module = types.ModuleType("langchain_dsplus.demo")
    module.run_demo = lambda **kwargs: calls.append(kwargs)
    module.DemoError = type("DemoError", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "langchain_dsplus.demo", module)
    result = run("demo", "--output", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 0, result.output
    assert calls == [{**asked, "output": tmp_path / "out"}]


@pytest.mark.parametrize("error", [weights.WeightsError("get it there"), ImportError("pip install x")])
def test_what_the_demo_lacks_is_a_message(run, monkeypatch, error):
    def run_demo(**kwargs):
        raise error

    module = types.ModuleType("langchain_dsplus.demo")
    module.run_demo = run_demo
    module.DemoError = type("DemoError", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "langchain_dsplus.demo", module)
    result = run("demo")
    assert (result.exit_code, result.stderr) == (1, f"Error: {error}\n")


def test_a_bug_keeps_its_traceback(run, monkeypatch):
    def run_demo(**kwargs):
        raise ValueError("a bug")

    module = types.ModuleType("langchain_dsplus.demo")
    module.run_demo = run_demo
    module.DemoError = type("DemoError", (RuntimeError,), {})
    monkeypatch.setitem(sys.modules, "langchain_dsplus.demo", module)
    assert isinstance(run("demo").exception, ValueError)


def test_an_unknown_model_for_the_demo_is_refused(run):
    assert run("demo", "--model", "gpt-4").exit_code == 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys, json\n"
        "from typer.testing import CliRunner\n"
        "from langchain_dsplus.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = ('numpy', 'langchain_core', 'torch', 'sklearn', 'openai', 'xllamacpp', 'huggingface_hub')\n"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == []


@pytest.mark.llm
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_serve_model_prints_how_to_use_it_and_stops_at_ctrl_c(smollm_path):
    command = [sys.executable, "-m", "langchain_dsplus.cli", "serve-model", str(smollm_path), "--n-ctx", "256"]
    # A shell that runs the tests in the background lets its children ignore SIGINT.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,  # noqa: PLW1509 - no threads yet
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(3)]
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    name = smollm_path.stem
    assert lines[0].startswith(f"Serving {name} at http://127.0.0.1:")
    assert "ChatOpenAI(base_url='http://127.0.0.1:" in lines[1]
    assert rest == "Stopped.\n"
    assert errors == ""
    assert process.returncode == 0
