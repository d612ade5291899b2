"""Runs an encoder's folder with `tokenizers` and ONNX Runtime (or OpenVINO) alone: neither torch nor transformers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Numbers, Singles
from langchain_dsplus._files import replace_file
from langchain_dsplus._imports import require
from langchain_dsplus.small_models.fork import load_onnxruntime
from langchain_dsplus.small_models.onnx_graph import REVISION, build_graph, read_layout
from langchain_dsplus.weights import cache_dir

_TOKENS_PER_STEP = 1024
_REMEMBERED = 4096  # texts whose tokens are kept


class Tokens:
    """A `tokenizer.json` that remembers the tokens of the last texts; safe to use from many threads."""

    def __init__(self, file: Path, tokens: int | None, *, special: bool) -> None:
        self._tokenizer: Any = require("tokenizers", "static").Tokenizer.from_file(str(file))
        self._tokenizer.no_padding()
        if tokens is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(tokens)
        self._special = special
        self._known: dict[str, list[int]] = {}

    def token_to_id(self, token: str) -> int | None:
        """The number of a token."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def read(self, texts: list[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        known = self._known
        new = [text for text in texts if text not in known]
        fresh: dict[str, list[int]] = {}
        if new:
            made = self._tokenizer.encode_batch_fast(new, add_special_tokens=self._special)
            fresh = {text: item.ids for text, item in zip(new, made, strict=True)}
        found = [fresh[text] if text in fresh else known[text] for text in texts]
        # A new table in place of the old one: who is reading the old one goes on reading it.
        if fresh and len(fresh) <= _REMEMBERED:
            self._known = {**(known if len(known) + len(fresh) <= _REMEMBERED else {}), **fresh}
        return found


def thread_count() -> int:
    """How many threads one step may use: `OMP_NUM_THREADS`, or the cores that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if named.isdecimal() and int(named):
        return int(named)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def graph_file(version: str, *, int8: bool) -> Path:
    """Where the graph of a folder with this hash is kept."""
    return cache_dir() / "onnx" / f"{version[:32]}-{'int8' if int8 else 'fp32'}-{REVISION}.onnx"


class OnnxEngine:
    """An encoder's folder as a graph. It is made once and kept in the weights' cache under the folder's hash.

    Texts of one length run together, without padding, so that a text has the same vector alone and in any batch, to
    the last bit. Threads sleep while they wait, and there are as many as `OMP_NUM_THREADS` says. In a fork the session
    is opened anew.

    Args:
        folder: The encoder's folder.
        version: Hash of the folder.
        int8: Whether the layers' matrices are in 8 bits.
        runtime: `onnxruntime` or `openvino`.

    Raises:
        ImportError: If a package is missing; the message carries the pip command.
        NotReadableError: If only torch can run the folder.
    """

    def __init__(self, folder: Path, version: str, *, int8: bool, runtime: str = "onnxruntime") -> None:
        layout = read_layout(folder)
        self.tokens, self.dimension = layout.tokens, layout.dimension
        self._lower, self._pooling = layout.lower, layout.pooling
        self._tokens = Tokens(folder / "tokenizer.json", layout.tokens, special=True)
        self._open = {"onnxruntime": _open_onnxruntime, "openvino": _open_openvino}[runtime]
        file = graph_file(version, int8=int8)
        self._graph = _kept_graph(folder, file, int8=int8)
        try:
            run = self._open(self._graph)
        except Exception:
            if not file.is_file():
                raise
            file.unlink()  # damaged on the disk: made anew
            self._graph = _kept_graph(folder, file, int8=int8)
            run = self._open(self._graph)
        self._session: tuple[int, Callable[[Numbers], Singles]] = os.getpid(), run

    def encode(self, texts: list[str]) -> Iterator[tuple[list[int], Singles]]:
        """Yield places in `texts` with their rows, not of unit length."""
        run = self._run()
        tokens = self._tokens.read([text.lower() for text in texts] if self._lower else texts)
        for places in by_length([len(item) for item in tokens], _TOKENS_PER_STEP):
            hidden = run(np.array([tokens[place] for place in places], dtype=np.int64))
            # numpy, since the runtime's own mean depends on how many texts are in the batch.
            yield places, hidden[:, 0] if self._pooling == "cls" else hidden.mean(axis=1, dtype=np.float32)

    def _run(self) -> Callable[[Numbers], Singles]:
        pid, run = self._session
        if pid != os.getpid():
            # Its threads stayed behind in the parent. Closing it would wait for them for ever, so it is never closed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(run))
            run = self._open(self._graph)
            self._session = os.getpid(), run
        return run


def by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield the places of items of one length, shortest first, at most `budget` tokens at a time."""
    groups: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        groups.setdefault(length, []).append(place)
    for length, places in sorted(groups.items()):
        size = max(1, budget // max(length, 1))
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _kept_graph(folder: Path, file: Path, *, int8: bool) -> Path | bytes:
    """The graph from the cache, made first where it is not there yet; its bytes where the cache cannot be written."""
    if file.is_file():
        return file
    body = build_graph(folder, int8=int8)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, body)
        return file
    return body


def _open_onnxruntime(graph: Path | bytes) -> Callable[[Numbers], Singles]:
    library = load_onnxruntime()
    options = library.SessionOptions()
    options.intra_op_num_threads = thread_count()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = graph if isinstance(graph, bytes) else str(graph)
    session = library.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(ids: Numbers) -> Singles:
        hidden: Singles = session.run(None, {"ids": ids})[0]
        return hidden

    return run


def _open_openvino(graph: Path | bytes) -> Callable[[Numbers], Singles]:
    core = require("openvino", "openvino").Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": thread_count()}
    compiled = core.compile_model(core.read_model(graph if isinstance(graph, bytes) else str(graph)), "CPU", hints)

    def run(ids: Numbers) -> Singles:
        hidden: Singles = compiled.create_infer_request().infer({"ids": ids})[0].copy()
        return hidden

    return run
