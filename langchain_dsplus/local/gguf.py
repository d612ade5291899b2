"""The engine of `ChatLocal` for GGUF files: llama.cpp in this process, through xllamacpp."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus.local.jobs import (
    Emit,
    End,
    Engine,
    LocalModelError,
    LogprobEntry,
    PromptTooLongError,
    Request,
    Tokens,
)
from langchain_dsplus.local.server import gguf_file, server_parameters

_SILENT = -1
_SHOWN = 300


class GgufEngine(Engine):
    """llama.cpp with `parallel` slots.

    Its server object answers calls inside the process. It also listens on a loopback port, which llama.cpp cannot do
    without; a random key, told to nobody, closes that door.

    Args:
        path: The file.
        n_ctx: Tokens of context for each request.
        threads: CPU threads; None takes llama.cpp's choice, within what the process may use.
        parallel: Requests at a time.
        chat_template: Jinja text instead of the file's own template.
    """

    def __init__(
        self, path: Path, *, n_ctx: int, threads: int | None, parallel: int, chat_template: str | None
    ) -> None:
        super().__init__(parallel)
        require("xllamacpp", "local")
        path = gguf_file(path)
        parameters = server_parameters(
            {
                "path": str(path), "host": "127.0.0.1", "port": 0, "n_ctx": n_ctx, "threads": threads,
                "parallel": parallel, "name": path.stem,
            }
        )  # fmt: skip
        self._key = secrets.token_hex(32)
        parameters.api_keys = [self._key]
        parameters.verbosity = _SILENT
        if chat_template is not None:
            parameters.chat_template = chat_template
        self.n_ctx = n_ctx
        try:
            self._server: Any = require("xllamacpp", "local").Server(parameters)
        except RuntimeError as error:
            raise LocalModelError(
                f"llama.cpp cannot load {path}: the file is damaged, of a kind that this xllamacpp does not know, or "
                f"too large for the memory with `n_ctx={n_ctx}`"
            ) from error

    def run(self, request: Request, emit: Emit) -> End:
        """Make a reply."""
        # Always as a stream, which can be ended. Stop strings are not told to llama.cpp: while it waits whether one
        # comes, it leaves the waiting tokens out of the log-probabilities.
        finish = "stop"
        tokens = Tokens(0, 0)
        failures: list[BaseException] = []

        def take(chunk: dict[str, Any]) -> bool:  # what it raises, xllamacpp drops
            nonlocal finish, tokens
            try:
                if "error" in chunk:
                    failures.append(self._refused(request, chunk["error"]))
                    return True
                if chunk.get("usage"):
                    tokens = _usage(chunk["usage"])
                elif "timings" in chunk:
                    tokens = _timed(chunk["timings"])
                for choice in chunk.get("choices") or ():
                    finish = choice["finish_reason"] or finish
                    text = choice["delta"].get("content") or ""
                    entries = _entries(choice)
                    if (text or entries) and emit(text, entries):
                        return True
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
                return True
            return False

        body = {**_body(request), "stream": True, "stream_options": {"include_usage": True}, "timings_per_token": True}
        self._ask(request, body, take)
        if failures:
            raise failures[0]
        return End(finish, tokens)

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        call = urllib.request.Request(  # noqa: S310
            f"{self._server.listening_address}/tokenize",
            json.dumps({"content": text}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(call) as reply:
            return [int(token) for token in load_json(reply.read())["tokens"]]

    def _ask(self, request: Request, body: dict[str, Any], take: Any) -> Any:
        try:
            reply = self._server.handle_chat_completions(body, take)
        except (RuntimeError, TypeError, ValueError) as error:
            raise self._refused(request, {"message": str(error)}) from error
        if isinstance(reply, dict) and "error" in reply:
            raise self._refused(request, reply["error"])
        return reply

    def _refused(self, request: Request, error: dict[str, Any]) -> Exception:
        if error.get("type") == "exceed_context_size_error":
            return PromptTooLongError(int(error["n_prompt_tokens"]), int(error["n_ctx"]))
        said = str(error.get("message", ""))[:_SHOWN]
        if request.schema is not None and "schema" in said.lower():
            return ValueError(f"`response_format` holds a JSON schema that llama.cpp cannot follow: {said}")
        return LocalModelError(f"llama.cpp refused the request: {said}")


def _body(request: Request) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": request.messages,
        "temperature": request.temperature,
        "max_tokens": -1 if request.max_tokens is None else request.max_tokens,
        "reasoning_format": "none",  # the text as it was written, which is also what the log-probabilities are about
    }
    for name in ("top_p", "top_k", "seed"):
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.top_logprobs is not None:
        # llama.cpp reports nothing for 0.
        body.update(logprobs=True, top_logprobs=max(1, request.top_logprobs))
    if request.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "reply", "schema": request.schema}}
    if request.template:
        body["chat_template_kwargs"] = dict(request.template)
    return body


def _entries(choice: dict[str, Any]) -> list[LogprobEntry]:
    content: Sequence[dict[str, Any]] = (choice.get("logprobs") or {}).get("content") or ()
    return [
        {**_plain(entry), "top_logprobs": [_plain(other) for other in entry.get("top_logprobs") or ()]}
        for entry in content
    ]


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "token": str(entry["token"]),
        "bytes": [int(byte) for byte in entry.get("bytes") or ()],
        "logprob": float(entry["logprob"]),
    }


def _usage(usage: dict[str, Any]) -> Tokens:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Tokens(int(usage["prompt_tokens"]), int(usage["completion_tokens"]), int(cached))


def _timed(timings: dict[str, Any]) -> Tokens:
    cached = int(timings.get("cache_n", 0))
    return Tokens(cached + int(timings["prompt_n"]), int(timings["predicted_n"]), cached)
