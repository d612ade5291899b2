"""Logs of LLM calls as people have them, row by row: LangSmith, OpenAI, CSV, Parquet, LangChain's SQLite cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus.outcomes.cells import to_text
from langchain_dsplus.outcomes.files import csv_rows
from langchain_dsplus.traces.calls import iso_time, json_rows, plain_messages, plain_usage, run_output, run_to_call

PROJECT = "langsmith:"
"""What stands before the name of a LangSmith project."""
_SQLITE = b"SQLite format 3\0"
_CACHES = ("full_llm_cache", "full_md5_llm_cache")
_MODEL = re.compile(r"""model(?:_name)?["']\s*[:,]\s*["']([\w./:-]{1,80})""")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,40}")
_BROKEN = (TypeError, ValueError, AttributeError, LookupError, RecursionError)


@dataclass(frozen=True)
class Columns:
    """Where a row of a log that nobody knows holds what: paths such as `messages.-1.content`.

    A path goes through dicts by key (keys with dots count), through lists by place, from the end where it is negative,
    and through texts that hold JSON.

    Attributes:
        input: What the large model was asked.
        output: What it said.
        id: An id; by default the row's number.
        gold: What was true.
        group: What rows belong to (customer, thread).
        model: Name of the large model.
        seconds: How long the call took.
        usage: Tokens, in any form that `costs.usage.read_usage` reads.
        time: When it was: ISO (without a zone: UTC) or seconds since 1970.
    """

    input: str | None = None
    output: str | None = None
    id: str | None = None
    gold: str | None = None
    group: str | None = None
    model: str | None = None
    seconds: str | None = None
    usage: str | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        if (self.input is None) != (self.output is None):
            raise ValueError("pass both `input` and `output`: paths such as 'messages.-1.content' and 'response'")


_USUAL = Columns("input", "output", "id", "gold", "group", "model", "seconds", "usage", "time")
_BESIDE = ("id", "gold", "group", "model")
"""Columns that may stand beside a call of any kind."""


def dig(value: Any, path: str) -> Any:
    """Return what stands at a path, None where nothing does.

    Example:
        >>> dig({"messages": [{"content": "a"}, {"content": "b"}], "a.b": '{"c": 1}'}, "messages.-1.content")
        'b'
        >>> dig({"a.b": '{"c": 1}'}, "a.b.c")
        1
    """
    return _dig(value, path.split("."))


def _dig(value: Any, path: Sequence[str]) -> Any:
    if not path:
        return value
    if isinstance(value, str):
        try:
            value = load_json(value)
        except ValueError:
            return None
    if isinstance(value, dict):
        for size in range(len(path), 0, -1):
            key = ".".join(path[:size])
            if key in value:
                return _dig(value[key], path[size:])
    elif isinstance(value, list) and re.fullmatch(r"-?\d{1,9}", path[0]):
        place = int(path[0])
        if -len(value) <= place < len(value):
            return _dig(value[place], path[1:])
    return None


class Log:
    """Past calls of one or several sources; may be read again and again, a row at a time.

    JSON lines (one call each; a JSON list is read whole), CSV, Parquet, SQLite files, folders of them, and LangSmith
    projects (`langsmith:NAME`, when `LANGSMITH_API_KEY` is set; its runs are fetched once into a temporary file that
    goes with the object). Lines are LangSmith runs, OpenAI requests with their responses, lines of a batch's input and
    output files (joined by `custom_id`), pairs with `input` and `output`, or whatever `columns` says.

    Args:
        sources: Files, folders, projects.
        columns: Where rows hold what; by default they are known by their keys.
        run_type: Of LangSmith runs, only these; None for all.
        run_name: Of LangSmith runs, only those of this name.

    Attributes:
        rows: Rows in the last reading.
        calls: Of these, the calls that have an input and an answer.
        failed: Calls that ended in an error.
        unreadable: Rows that are no JSON, or lack input or output.
        passed: LangSmith runs of another type or name; decisions of a router that stayed local.
        kinds: What the rows are, such as `LangSmith runs`.

    Raises:
        ValueError: If a source cannot be a log; the message names it.
        FileNotFoundError: If a file is not there.

    Example:
        ```python
        for call in Log("runs.jsonl"):
            call["input"], call["output"]
        ```
    """

    def __init__(
        self,
        sources: str | Path | Sequence[str | Path],
        columns: Columns | None = None,
        *,
        run_type: str | None = None,
        run_name: str | None = None,
    ) -> None:
        listed = [sources] if isinstance(sources, (str, Path)) else list(sources)
        if not listed:
            raise ValueError("`sources` is empty: name a file, a folder, or 'langsmith:PROJECT'")
        self.columns = columns
        self._run_type, self._run_name = run_type, run_name
        self.names = [str(source) if str(source).startswith(PROJECT) else Path(source).name for source in listed]
        self._paths = [path for source in listed for path in self._files(source)]
        self._requests: dict[str, tuple[Path, int]] | None = None
        self._clear()

    def _clear(self) -> None:
        self.rows = self.calls = self.failed = self.unreadable = self.passed = 0
        self.kinds: set[str] = set()
        self._keys: dict[str, None] = {}
        self._held: set[str] = set()

    def _files(self, source: str | Path) -> list[Path]:
        if isinstance(source, str) and source.startswith(PROJECT):
            return [self._fetch(source.removeprefix(PROJECT))]
        path = Path(source)
        if path.is_dir():
            found = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
            # Spark, Ray and `route_dataset` write a folder of parts, with their bookkeeping beside them.
            found = sorted(path.glob("part-*.parquet")) or found
            if not found:
                raise ValueError(f"{path} is a folder without a file")
            return found
        with path.open("rb"):  # it is there, and may be read
            return [path]

    def _fetch(self, project: str) -> Path:
        """The runs of a LangSmith project, once, into a file that only this user may read."""
        if not (os.environ.get("LANGSMITH_API_KEY") or os.environ.get("LANGCHAIN_API_KEY")):
            raise ValueError(
                f"set LANGSMITH_API_KEY to read the LangSmith project of {PROJECT!r}, or export its runs as JSONL"
            )
        client = require("langsmith", "langsmith").Client()
        folder = tempfile.mkdtemp(prefix="dsplus-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / "runs.jsonl"
        wanted = {} if self._run_type is None else {"run_type": self._run_type}
        try:
            with path.open("w", encoding="utf-8") as file:
                for run in client.list_runs(project_name=project, **wanted):
                    file.write(json.dumps(run.model_dump(mode="json"), ensure_ascii=True) + "\n")
        except Exception as error:  # noqa: BLE001 - whatever the client raises may quote a key or a text
            raise ValueError(
                f"the LangSmith project could not be read ({type(error).__name__}): check its name and the key"
            ) from None
        return path

    # --- reading ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for call in self.every():
            if not call.get("error"):
                call["id"] = call.get("id") or f"row-{self.rows}"
                yield call

    def every(self) -> Iterator[dict[str, Any]]:
        """Yield the calls that ended in an error too; of that only its name is kept. An id may be missing."""
        self._clear()
        for path in self._paths:
            for row in self._rows_of(path):
                self.rows += 1
                try:
                    call = self._call(row)
                except _BROKEN:
                    call = None
                if call is None:
                    self.unreadable += 1
                    self._remember_keys(row)
                elif call:
                    self.failed += "error" in call
                    self.calls += "error" not in call
                    if call.get("input") is not None:
                        yield call | self._beside(row)

    def _beside(self, row: Any) -> dict[str, Any]:
        """What stands beside a call under the columns that were named, whatever kind of log it is."""
        found: dict[str, Any] = {}
        for name in _BESIDE if self.columns is not None else ():
            path = getattr(self.columns, name)
            value = None if path is None else dig(row, path)
            if value not in (None, ""):
                found[name] = value if name == "model" else to_text(value)
        self._held |= found.keys()
        return found

    @property
    def empty_columns(self) -> list[str]:
        """Columns that were named, and that no call of the last reading has anything under."""
        named = [] if self.columns is None else [name for name in _BESIDE if getattr(self.columns, name) is not None]
        return [name for name in named if name not in self._held] if self.calls else []

    def _rows_of(self, path: Path) -> Iterator[Any]:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
        if start == _SQLITE:
            yield from _cache_rows(path)
        elif start.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
            parquet = require("pyarrow.parquet", "parquet")
            try:
                with path.open("rb") as file:
                    for batch in parquet.ParquetFile(file).iter_batches(batch_size=1024):
                        yield from batch.to_pylist()
            except require("pyarrow", "parquet").ArrowException as error:
                raise ValueError(f"{path}: not a Parquet file that can be read ({type(error).__name__})") from None
        elif path.suffix.lower() in {".csv", ".tsv"}:
            with csv_rows(path, errors="replace") as (lines, _):
                header = next(lines, [])
                for cells in lines:
                    if cells:
                        yield dict(zip(header, cells, strict=True)) if len(cells) == len(header) else None
        else:
            for _, row in json_rows(path):
                yield row

    def _call(self, row: Any) -> dict[str, Any] | None:
        """A row as a call; {} for one that belongs to another (a batch's request)."""
        if not isinstance(row, dict):
            return None
        if self.columns is not None and self.columns.input is not None:
            return self._mapped(row, self.columns)
        if "inputs" in row and ("run_type" in row or "outputs" in row):
            self.kinds.add("LangSmith runs")
            for key, wanted in (("run_type", self._run_type), ("name", self._run_name)):
                if wanted is not None and row.get(key, wanted) != wanted:
                    self.passed += 1
                    return {}
            call = run_to_call(row)
            if call is None:
                return None
            if not call.get("error") and not _said(call["output"]):
                call["output"] = _arguments(row.get("outputs")) or call["output"]
            return call | {"id": call["route_id"], "name": row.get("name")}
        if "route_id" in row and (row.get("accepted") or row.get("kind") != "route" or row.get("error")):
            self.passed += 1  # of what a router wrote down: no call of the large model that was answered
            return {}
        if "custom_id" in row:
            return self._batch(row)
        found = _openai(row)
        if found is not None:
            self.kinds.add("OpenAI logs")
            return found
        if "prompt" in row and "llm" in row and "response" in row:  # LangChain's cache
            self.kinds.add("a LangChain cache, which holds each prompt once")
            return _cached(row)
        return self._mapped(row, _USUAL)

    def _mapped(self, row: Mapping[str, Any], columns: Columns) -> dict[str, Any] | None:
        self.kinds.add("pairs")
        found = {name: None if path is None else dig(row, path) for name, path in vars(columns).items()}
        if found["input"] in (None, "") or found["output"] in (None, ""):
            return None
        texts = {key: None if found[key] in (None, "") else to_text(found[key]) for key in ("id", "gold", "group")}
        seconds = found["seconds"]
        asked = _unpacked(found["input"])
        if isinstance(asked, dict) and isinstance(asked.get("messages"), list):  # a whole request
            asked = asked["messages"]
        return {
            **texts,
            "input": plain_messages(asked),
            "output": plain_messages(_unpacked(found["output"])),
            "model": found["model"] if isinstance(found["model"], str) else None,
            "large_seconds": float(seconds) if isinstance(seconds, (int, float, str)) and seconds != "" else None,
            "usage": plain_usage(_unpacked(found["usage"])),
            "time": iso_time(found["time"]),
        }

    def _batch(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """A line of a batch's output, with its request; wherever that stands."""
        if not isinstance(row.get("response"), dict):
            return {"error": "batch"} if row.get("error") else {} if isinstance(row.get("body"), dict) else None
        self.kinds.add("an OpenAI batch")
        response = row["response"]
        if response.get("status_code", 200) != 200 or row.get("error"):
            return {"error": "batch"}
        request = row if isinstance(row.get("body"), dict) else self._request(row["custom_id"])
        if request is None:
            return None
        call = _openai({"request": request["body"], "response": response["body"]})
        return None if call is None else call | {"id": str(row["custom_id"])}

    def _request(self, name: Any) -> Mapping[str, Any] | None:
        """The request of a batch by its id; where each one stands is looked up once."""
        if self._requests is None:
            self._requests = {}
            for path in self._paths:
                with path.open("rb") as file:
                    place = 0
                    for line in file:
                        if b'"custom_id"' in line and b'"body"' in line:
                            try:
                                row = load_json(line)
                            except ValueError:
                                row = None
                            if isinstance(row, dict) and isinstance(row.get("body"), dict):
                                self._requests[str(row.get("custom_id"))] = (path, place)
                        place += len(line)
        if str(name) not in self._requests:
            return None
        path, place = self._requests[str(name)]
        with path.open("rb") as file:
            file.seek(place)
            row = load_json(file.readline())
        return row if isinstance(row, dict) else None

    def _remember_keys(self, row: Any) -> None:
        if isinstance(row, dict) and len(self._keys) < 12:
            self._keys.update({key: None for key in row if isinstance(key, str) and _NAME.fullmatch(key)})

    def nothing(self) -> str:
        """Why the last reading gave no call, in words."""
        words = f"{', '.join(self.names)}: no call that can be used among {self.rows:,} rows"
        if self.failed:
            words += f"; {self.failed:,} ended in an error"
        if self.passed:
            words += f"; {self.passed:,} runs are of another `run_type` or `run_name`"
        if self.unreadable:
            words += f"; {self.unreadable:,} are no JSON, or lack input or output"
            if self._keys:
                keys = ", ".join(list(self._keys)[:12])
                words += f". Name the columns (--input, --output); the rows have: {keys}"
        return words


def read_calls(
    sources: str | Path | Sequence[str | Path],
    columns: Columns | None = None,
    *,
    run_type: str | None = "llm",
    run_name: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield past LLM calls as rows of kind `call`, as a `TraceStore` keeps them; those that failed, too.

    A call without an id of its own gets one from its input and output, and a count where they repeat.

    Args:
        sources: As in `Log`.
        columns: As in `Log`.
        run_type: Of LangSmith runs, only these: `llm` (the bare calls: the input is the whole prompt), `chain` (the
            input is the chain's own, which is what a router in its place would see), None for all.
        run_name: Of LangSmith runs, only those of this name (`RunnableSequence`, `ChatOpenAI`, your own).

    Warns:
        UserWarning: Where rows were skipped, since they are no JSON or lack input or output; it says how many.

    Raises:
        ValueError: If no row can be used, or as `Log`.

    Example:
        ```python
        calls = read_calls("runs.jsonl", run_type="chain", run_name="triage")
        ```
    """
    return _recorded(Log(sources, columns, run_type=run_type, run_name=run_name))


_RECORDED = ("input", "output", "gold", "group", "time", "model", "usage", "large_seconds", "error")


def _recorded(log: Log) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for call in log.every():
        name = call.get("id")
        if not name:
            said = json.dumps([call["input"], call.get("output")], sort_keys=True, default=repr)
            digest = hashlib.sha256(said.encode()).hexdigest()[:24]
            seen[digest] += 1
            name = f"{digest}-{seen[digest]}"
        uid = "call-" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:32]
        told = {key: call[key] for key in _RECORDED if call.get(key) is not None}
        yield {"kind": "call", "route_id": name, "uid": uid, **told}
    if not log.calls + log.failed:
        raise ValueError(log.nothing())
    if log.unreadable:
        text = f"{log.unreadable} rows of {', '.join(log.names)} were skipped: no JSON, or no input or output"
        warnings.warn(text, UserWarning, stacklevel=3)


def _unpacked(value: Any) -> Any:
    """A message, a list of them, or a dict, where a cell holds it as JSON; else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return load_json(value)
        except ValueError:
            return value
    return value


# --- OpenAI -----------------------------------------------------------------------------------------------------------


def _openai(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A request of the chat or responses API with its reply; None where the row is something else."""
    request: Any = next((row[key] for key in ("request", "request_body", "body") if key in row), row)
    reply: Any = next((row[key] for key in ("response", "response_body", "completion") if key in row), row)
    request, reply = _unpacked(request), _unpacked(reply)
    for part in ("body", "json"):
        request = request[part] if isinstance(request, dict) and isinstance(request.get(part), dict) else request
        reply = reply[part] if isinstance(reply, dict) and isinstance(reply.get(part), dict) else reply
    if not isinstance(request, dict):
        return None
    asked = request.get("messages") or (request.get("input") if isinstance(reply, dict) and reply is not row else None)
    output: Any = None
    usage = None
    if isinstance(reply, dict) and isinstance(reply.get("choices"), list):
        output, usage = run_output(reply)
        output = output if output is None or _said(output) else _arguments(reply) or output
    elif isinstance(reply, dict) and isinstance(reply.get("output"), list) and reply is not row:
        parts = [part for item in reply["output"] if isinstance(item, dict) for part in item.get("content") or ()]
        output = "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict)) or None
        usage = plain_usage(reply.get("usage"))
    elif isinstance(reply, str) and reply is not row:
        output = reply
    elif isinstance(asked, list) and len(asked) > 1 and _role(asked[-1]) == "assistant":  # as for fine-tuning
        asked, output = asked[:-1], plain_messages(asked[-1])
    if not asked or output is None:
        return None
    seconds = next(
        (row[key] for key in ("seconds", "duration", "latency") if isinstance(row.get(key), (int, float))), None
    )
    model = (reply.get("model") if isinstance(reply, dict) else None) or request.get("model")
    name = row.get("id") or (reply.get("id") if isinstance(reply, dict) else None)
    return {
        "id": name if isinstance(name, str) else None,
        "input": plain_messages(asked),
        "output": output,
        "model": model if isinstance(model, str) else None,
        "usage": usage,
        "large_seconds": seconds,
    }


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _said(output: Any) -> bool:
    return bool(output.get("content") if isinstance(output, dict) else output)


_REPLIES = (
    "choices.0.message",
    "generations.0.0.message.kwargs",
    "generations.0.0.message",
    "output",
    "message.kwargs",
)


def _arguments(reply: Any) -> Any:
    """What the only tool call of a reply says, a structured output: a dict or a text; None where there is none."""
    for place in _REPLIES:
        calls = dig(reply, f"{place}.tool_calls")
        if isinstance(calls, list) and len(calls) == 1 and isinstance(calls[0], dict):
            found = calls[0].get("args") or dig(calls[0], "function.arguments")
            if isinstance(found, (str, dict)):
                return found
    return None


# --- LangChain's cache ------------------------------------------------------------------------------------------------


def _cache_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of `SQLiteCache` (or of any SQLAlchemy cache in a SQLite file)."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            base.text_factory = lambda data: data.decode("utf-8", "replace")
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            found = [name for name in _CACHES if name in tables]
            if not found:
                raise ValueError(f"{path}: a SQLite file without LangChain's table {_CACHES[0]!r}")
            for table in found:
                for prompt, llm, response in base.execute(
                    f"SELECT prompt, llm, response FROM {table} WHERE idx = 0"  # noqa: S608 - one of two names
                ):
                    yield {"prompt": prompt, "llm": llm, "response": response}
    except sqlite3.Error as error:
        raise ValueError(f"{path}: not a SQLite file that can be read ({type(error).__name__})") from None


def _cached(row: Mapping[str, Any]) -> dict[str, Any] | None:
    generation = load_json(row["response"])
    body = generation.get("kwargs", generation)
    output, usage = run_output({"generations": [body]})
    if output is not None and not _said(output):
        output = _arguments(body) or output
    model = _MODEL.search(row["llm"]) if isinstance(row["llm"], str) else None
    if output is None:
        return None
    return {
        "input": plain_messages(_unpacked(row["prompt"])),
        "output": output,
        "model": None if model is None else model[1],
        "usage": usage,
    }
