"""The local server: what is refused before it starts, how it starts, ends, and reports failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from langchain_dsplus import weights
from langchain_dsplus.local import server as server_module
from langchain_dsplus.local.server import LocalServer, LocalServerError, serve_model


@pytest.fixture
def no_model(tmp_path):
    """A file that begins like a GGUF and is none."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    return path


@pytest.fixture
def play(monkeypatch, no_model):
    """Start a Python program in place of the server."""
    real = subprocess.Popen

    def start(program, **kwargs):
        def popen(command, **settings):
            assert command[1:4] == ["-P", "-m", "langchain_dsplus.local.server"]
            return real([sys.executable, "-c", textwrap.dedent(program), command[-1]], **settings)

        monkeypatch.setattr(server_module.subprocess, "Popen", popen)
        return serve_model(no_model, **kwargs)

    return start


READY = """
    import json, sys, os
    print(json.dumps({"base_url": "http://127.0.0.1:1/v1"}), flush=True)
    print(os.environ.get("OMP_WAIT_POLICY"), sys.argv[1], file=sys.stderr, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_ctx": 8}, "`n_ctx` must be at least 64, not 8"),
        ({"parallel": 0}, "`parallel` must be at least 1, not 0"),
        ({"port": -1}, "`port` must be at least 0, not -1"),
        ({"threads": 0}, "`threads` must be at least 1, not 0"),
        ({"host": "0.0.0.0"}, "can be reached from other machines: pass an `api_key`"),
        ({"host": "example.org"}, "can be reached from other machines"),
    ],
)
def test_settings_are_checked_before_anything_starts(settings, says, no_model, monkeypatch):
    monkeypatch.setattr(server_module.subprocess, "Popen", None)
    with pytest.raises(ValueError, match=says):
        serve_model(no_model, **settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    assert server_module._loopback(host)


def test_only_a_gguf_is_served(tmp_path):
    pytest.importorskip("xllamacpp")
    text = tmp_path / "model.gguf"
    text.write_text("<html>")
    with pytest.raises(ValueError, match="`gguf` is not a GGUF file"):
        serve_model(text)
    with pytest.raises(ValueError, match="`gguf` must be a file that can be read"):
        serve_model(tmp_path)
    with pytest.raises(weights.WeightsError, match="neither a path that exists"):
        serve_model(tmp_path / "gone.gguf")


def test_without_xllamacpp_the_error_says_what_to_install(no_model, monkeypatch):
    monkeypatch.setattr(server_module, "_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ImportError, match=r"pip install 'langchain-dsplus\[local\]'"):
        serve_model(no_model)


@pytest.mark.parametrize(
    ("cores", "affinity", "quota", "expected"),
    [
        (8, 8, "max 100000", None),
        (8, 8, "200000 100000", 2),
        (8, 3, "max 100000", 3),
        (8, 3, "200000 100000", 2),
        (8, 8, "10000 100000", 1),
        (8, 8, "1600000 100000", None),
        (8, 8, None, None),
        (8, 8, "nonsense", None),
    ],
)
def test_threads_follow_what_the_process_may_use(cores, affinity, quota, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(server_module.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(server_module.os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    assert server_module._fewer_cores(file) == expected


def test_a_server_that_came_up_and_went(play, no_model):
    with play(READY, n_ctx=512, parallel=3, threads=2) as server:
        assert server.running
        assert server.base_url == "http://127.0.0.1:1/v1"
        assert server.model == "broken"
        assert server.api_key == "local"
        assert "running=True" in repr(server)
        deadline = time.monotonic() + 10
        while not server.log_tail() and time.monotonic() < deadline:
            time.sleep(0.02)
        policy, _, settings = server.log_tail().partition(" ")
        assert policy == "PASSIVE"
        assert json.loads(settings) == {
            "path": str(no_model), "host": "127.0.0.1", "port": 0, "n_ctx": 512, "threads": 2, "parallel": 3,
            "name": "broken",
        }  # fmt: skip
        log = server._log
    assert not server.running
    assert not log.exists()
    assert server.log_tail() == ""
    server.stop()  # twice is once


def test_a_key_is_not_among_the_arguments(play):
    program = """
        import os, sys, json
        assert "secret" not in sys.argv[1]
        print(json.dumps({"base_url": os.environ["DSPLUS_SERVER_API_KEY"]}), flush=True)
        sys.stdin.read()
    """
    with play(program, api_key="secret", host="0.0.0.0") as server:
        assert server.base_url == server.api_key == "secret"
        assert "secret" not in repr(server).replace(server.base_url, "", 1)


def test_a_key_of_the_caller_is_not_handed_down(play, monkeypatch):
    monkeypatch.setenv("DSPLUS_SERVER_API_KEY", "of somebody else")
    program = """
        import os, sys, json
        print(json.dumps({"base_url": str(os.environ.get("DSPLUS_SERVER_API_KEY"))}), flush=True)
        sys.stdin.read()
    """
    with play(program) as server:
        assert server.base_url == "None"


def test_a_server_that_dies_shows_the_end_of_its_log(play):
    program = """
        import sys
        for n in range(100):
            print("line", n, file=sys.stderr)
        sys.exit(7)
    """
    with pytest.raises(LocalServerError) as caught:
        play(program)
    text = str(caught.value)
    assert "its process ended with code 7" in text
    assert text.endswith("line 99")
    assert "line 80\n" not in text


def test_a_server_that_hangs_is_given_up_and_killed(play, monkeypatch):
    started = []
    monkeypatch.setattr(server_module, "_end", lambda process, timeout, end=server_module._end: (started.append(process), end(process, timeout)))  # fmt: skip
    with pytest.raises(LocalServerError, match=r"not ready within 0\.3 seconds"):
        play("import time; time.sleep(60)", timeout=0.3)
    assert started[0].poll() is not None


def test_a_server_that_ignores_the_request_to_end_is_killed(play):
    program = """
        import signal, sys, time, json
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(json.dumps({"base_url": "x"}), flush=True)
        time.sleep(60)
    """
    server = play(program)
    server.stop(timeout=0.2)
    assert not server.running


def test_a_broken_model_is_an_error_with_the_reason(no_model):
    pytest.importorskip("xllamacpp")
    with pytest.raises(LocalServerError, match="the local server did not start: its process ended") as caught:
        serve_model(no_model)
    assert "broken.gguf" in str(caught.value)


# --- with a real model ------------------------------------------------------------------------------------------


def get(url, **headers):
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.llm
def test_the_real_server_answers_on_loopback_under_its_name(smollm_server):
    assert smollm_server.base_url.startswith("http://127.0.0.1:")
    assert smollm_server.base_url.endswith("/v1")
    assert [model["id"] for model in get(f"{smollm_server.base_url}/models")["data"]] == ["smollm2-135m"]
    connections = psutil.Process(smollm_server.pid).net_connections()
    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


@pytest.mark.llm
def test_prompts_cannot_be_read_back_and_web_pages_are_kept_out(smollm_server):
    root = smollm_server.base_url.removesuffix("/v1")
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(f"{root}/slots")
    caught.value.close()
    request = urllib.request.Request(f"{root}/health", headers={"Origin": "https://evil.example"})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers.get("Access-Control-Allow-Origin") not in {"*", "https://evil.example"}


@pytest.mark.llm
def test_a_key_is_asked_for(smollm_path):
    with serve_model(smollm_path, n_ctx=256, api_key="let-me-in", name="mine") as server:
        url = f"{server.base_url}/completions"

        def ask(**headers):
            body = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
            request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)

        with pytest.raises(urllib.error.HTTPError) as caught:
            ask()
        assert caught.value.code == 401
        caught.value.close()
        assert ask(Authorization="Bearer let-me-in")["model"] == "mine"


@pytest.mark.llm
def test_a_port_that_is_taken_is_an_error(smollm_server, smollm_path):
    port = int(smollm_server.base_url.split(":")[2].split("/")[0])
    with pytest.raises(LocalServerError, match="did not start"):
        serve_model(smollm_path, port=port, n_ctx=256)


@pytest.mark.llm
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process with SIGKILL")
@pytest.mark.parametrize("forked", [False, True])
def test_the_server_ends_with_its_caller(smollm_path, tmp_path, forked):
    """Also when the caller is killed, and when a fork of it still holds the pipe open."""
    program = f"""
        import os, sys, time
        from langchain_dsplus.local.server import serve_model
        server = serve_model({str(smollm_path)!r}, n_ctx=256)
        fork = os.fork() if {forked} else -1
        if fork == 0:
            time.sleep(30)
            os._exit(0)
        print(server.pid, fork, flush=True)
        time.sleep(60)
    """
    caller = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    try:
        pid, fork = map(int, caller.stdout.readline().split())
        child = psutil.Process(pid)
    finally:
        caller.kill()
        caller.wait()
        caller.stdout.close()
    try:
        child.wait(10)
    except psutil.NoSuchProcess:
        pass
    finally:
        if forked:
            os.kill(fork, 9)
    assert not psutil.pid_exists(pid) or not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_module_imports_nothing_native():
    code = "import sys, langchain_dsplus.local.server; print([m for m in ('xllamacpp', 'openai', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert out.stdout.strip() == "[]"


def test_the_class_is_what_serve_model_promises():
    assert serve_model.__annotations__["return"] == LocalServer.__name__
