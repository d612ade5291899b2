"""A local language model behind the OpenAI protocol, for as long as a `with` block lasts.

The model runs in a process of its own (`python -m langchain_dsplus.local.server`): a crash in native code, its threads
and its memory stay away from the caller, and the process ends with the caller, however that ends. It listens on
loopback only unless told otherwise.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ipaddress
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langchain_dsplus._imports import require
from langchain_dsplus.weights import known_name, resolve

_KEY = "DSPLUS_SERVER_API_KEY"  # by environment: arguments can be read by every user of a machine
_TAIL = 15


class LocalServerError(RuntimeError):
    """The server did not come up. The message ends with the last lines of its log."""


class LocalServer:
    """A running server. `serve_model` makes one; it is a context manager, and stops at exit at the latest.

    Attributes:
        base_url: For OpenAI clients, ending in `/v1`.
        model: The name under which the server answers.
        api_key: What clients must send; `local` where the server asks for none.
        pid: Of the server's process.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], base_url: str, model: str, api_key: str | None, log: Path
    ) -> None:
        self._process = process
        self._log = log
        self.base_url = base_url
        self.model = model
        self.api_key = api_key or "local"
        self.pid = process.pid
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"LocalServer(base_url={self.base_url!r}, model={self.model!r}, running={self.running})"

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def log_tail(self, lines: int = _TAIL) -> str:
        """Return the last lines that the server wrote; empty once it was stopped."""
        return _tail(self._log, lines)

    def chat_model(self, **kwargs: Any) -> Any:
        """Return a `ChatOpenAI` for this server; keyword arguments go to it, over `temperature=0`.

        Example:
            ```python
            llm = server.chat_model(logprobs=True, top_logprobs=5, max_tokens=1)
            ```
        """
        chat_openai = require("langchain_openai", "openai").ChatOpenAI
        settings = {"base_url": self.base_url, "api_key": self.api_key, "model": self.model, "temperature": 0}
        return chat_openai(**{**settings, **kwargs})

    def stop(self, timeout: float = 5.0) -> None:
        """End the server; nothing happens if it has ended.

        Args:
            timeout: Seconds to wait before the process is killed.
        """
        atexit.unregister(self.stop)
        _end(self._process, timeout)
        self._log.unlink(missing_ok=True)


def serve_model(
    gguf: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    n_ctx: int = 4096,
    threads: int | None = None,
    parallel: int = 1,
    name: str | None = None,
    api_key: str | None = None,
    timeout: float = 180.0,
) -> LocalServer:
    """Serve a GGUF model over the OpenAI protocol, and return when it is ready.

    The prompt cache is on: a prompt that begins like an earlier one costs only what is new. So put what changes last.

    Args:
        gguf: A GGUF file, or a name that `langchain_dsplus.weights.resolve` knows, which may fetch it first.
        host: Where to listen. An address that others can reach needs an `api_key`.
        port: 0 takes a free one.
        n_ctx: Tokens of context for each request.
        threads: CPU threads; by default the physical cores, or as many as this process may use.
        parallel: Requests that are worked on at the same time; others wait their turn. On two cores more than one
            gains nothing; with many it does. Each costs memory for `n_ctx` tokens.
        name: The model's name in replies; by default the known name, or the file's without its ending.
        api_key: What clients must send; None asks for nothing.
        timeout: Seconds to wait for the model to load.

    Returns:
        A running server, to be used as a context manager or stopped with `stop()`.

    Raises:
        ValueError: If a number is out of range, the file is no GGUF, or `host` is not loopback and no key is set.
        LocalServerError: If the server does not come up; with the end of its log.
        ImportError: If xllamacpp is not installed.
        langchain_dsplus.weights.WeightsError: If the model cannot be had.

    Example:
        ```python
        with serve_model("smollm2-135m") as server:
            llm = ChatOpenAI(base_url=server.base_url, api_key="local", model=server.model)
            llm.invoke("Hello")
        ```
    """
    for label, value, least in (("n_ctx", n_ctx, 64), ("parallel", parallel, 1), ("port", port, 0)):
        if value < least:
            raise ValueError(f"`{label}` must be at least {least}, not {value}")
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` must be at least 1, not {threads}")
    if not api_key and not _loopback(host):
        raise ValueError(f"`host={host!r}` can be reached from other machines: pass an `api_key`, or use 127.0.0.1")
    if not _installed():
        require("xllamacpp", "local")
    path = gguf_file(gguf)
    shown = name or known_name(gguf) or path.stem
    settings = {
        "path": str(path), "host": host, "port": port, "n_ctx": n_ctx, "threads": threads, "parallel": parallel,
        "name": shown,
    }  # fmt: skip
    # A wait policy of PASSIVE lets idle OpenMP threads sleep; spinning ones take the cores that others need.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    environment.pop(_KEY, None)
    if api_key:
        environment[_KEY] = api_key
    handle, log_name = tempfile.mkstemp(prefix="dsplus-server-", suffix=".log")
    log = Path(log_name)
    try:
        # -P: a folder called like one of our modules in the working directory must not be imported.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "langchain_dsplus.local.server", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
            env=environment,
        )
    finally:
        os.close(handle)
    try:
        base_url = _wait(process, log, timeout)
    except BaseException:
        _end(process, 0.0)
        log.unlink(missing_ok=True)
        raise
    return LocalServer(process, base_url, shown, api_key, log)


# --- the caller's side ------------------------------------------------------------------------------------------


def _installed() -> bool:
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None  # without importing its native code here


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def gguf_file(gguf: str | os.PathLike[str]) -> Path:
    """Find a GGUF file by its path or by a name that `weights` knows.

    Raises:
        ValueError: If it cannot be read, or is no GGUF file.
    """
    path = resolve(gguf)
    try:
        with path.open("rb") as handle:
            magic = handle.read(4)
    except OSError as error:
        raise ValueError(f"`gguf` must be a file that can be read: {path} ({type(error).__name__})") from error
    if magic != b"GGUF":
        raise ValueError(f"`gguf` is not a GGUF file: {path}")
    return path


def _wait(process: subprocess.Popen[bytes], log: Path, timeout: float) -> str:
    """Read the one line that the server writes when it is ready."""
    said: list[bytes] = []

    def listen() -> None:
        if process.stdout is not None:
            with contextlib.suppress(OSError, ValueError):
                said.append(process.stdout.readline())

    thread = threading.Thread(target=listen, name="dsplus-server-ready", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        reason = f"it was not ready within {timeout:g} seconds"
    elif said and said[0].strip():
        return str(json.loads(said[0])["base_url"])
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5.0)
        reason = f"its process ended with code {process.returncode}"
    raise LocalServerError(
        f"the local server did not start: {reason}. The end of its log:\n{_tail(log, _TAIL) or '(nothing)'}"
    )


def _end(process: subprocess.Popen[bytes], timeout: float) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _tail(log: Path, lines: int) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


# --- the server's side ------------------------------------------------------------------------------------------


def _follow_parent(parent: int) -> None:
    """End this process when its parent does: the pipe closes, or (where a fork holds it open) another adopts us."""

    def pipe() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os._exit(0)

    def adoption() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=pipe, name="dsplus-parent-pipe", daemon=True).start()
    if sys.platform != "win32":
        threading.Thread(target=adoption, name="dsplus-parent", daemon=True).start()


def _fewer_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Return how many cores this process may use where that is fewer than there are; llama.cpp counts them all.

    More threads than cores wait for each other at every layer: in a container with 2 of 64 cores, nothing moves.
    """
    there = os.cpu_count() or 1
    allowed = there
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
        share, period = quota.read_text(encoding="ascii").split()
        allowed = min(allowed, max(1, round(int(share) / int(period))))
    return allowed if allowed < there else None


def server_parameters(settings: dict[str, Any]) -> Any:
    """What llama.cpp is started with, the same in a server and in this process."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["path"]
    parameters.model_alias = {settings["name"]}
    parameters.hostnames = [settings["host"]]
    parameters.port = settings["port"]
    parameters.n_parallel = settings["parallel"]
    parameters.n_ctx = settings["n_ctx"] * settings["parallel"]  # llama.cpp divides it among its slots
    threads = settings["threads"] or _fewer_cores()
    if threads:
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
    parameters.cache_prompt = True
    # Room for the states of other beginnings: where two prompts take turns, the second read costs 70 ms, not seconds.
    # llama.cpp's own default would take up to 8 GB.
    parameters.cache_ram_mib = 256
    parameters.endpoint_slots = False  # it would show prompts
    parameters.ui = False
    parameters.cors_origins = "http://localhost"  # by default, any web page open on this machine could ask the model
    parameters.verbosity = 2
    key = os.environ.pop(_KEY, None)
    if key:
        parameters.api_keys = [key]
    return parameters


def main(arguments: list[str] | None = None) -> None:
    """Run the server until the parent goes away. `serve_model` starts this; it is no interface."""
    parser = argparse.ArgumentParser(prog="langchain_dsplus.local.server")
    parser.add_argument("settings", help="JSON, as written by `serve_model`")
    settings = json.loads(parser.parse_args(arguments).settings)
    parent = os.getppid()
    # llama.cpp logs to both streams: keep the first for the one line that the parent waits for.
    ready = os.dup(1)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches both; the parent decides
    _follow_parent(parent)
    import xllamacpp

    server = xllamacpp.Server(server_parameters(settings))
    address = server.listening_address
    with os.fdopen(ready, "wb") as line:
        line.write(json.dumps({"base_url": f"{address}/v1"}).encode() + b"\n")
    threading.Event().wait()


if __name__ == "__main__":
    main()
