"""Past LLM calls: runs and messages in one form, and outcomes made of them without asking the LLM again."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from langchain_core.runnables import Runnable

from langchain_dsplus._json import load_json
from langchain_dsplus.costs.usage import read_usage
from langchain_dsplus.identity import identify
from langchain_dsplus.outcomes import Outcomes, default_label
from langchain_dsplus.outcomes.gold import GoldOptions
from langchain_dsplus.outcomes.uses import table_key
from langchain_dsplus.small_models.runnable import mark_inputs
from langchain_dsplus.traces.outcome_rows import EMPTY, Told, named_models, outcome_row, table_facts
from langchain_dsplus.traces.recorder import plain

_ROLES = {
    "user": "human",
    "assistant": "ai",
    "developer": "system",
    "HumanMessage": "human",
    "AIMessage": "ai",
    "AIMessageChunk": "ai",
    "SystemMessage": "system",
    "ToolMessage": "tool",
}
_ERROR = re.compile(r"[A-Za-z_][\w.]*")


def json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line numbers and what stands there, None where that is no JSON; a JSON list is a line per item."""
    with path.open("rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
            file.seek(0)
            try:
                items = load_json(file.read().decode("utf-8-sig"))
            except ValueError:
                items = None
            if isinstance(items, list):
                yield from enumerate(items, 1)
                return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, load_json(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                yield number, None


# --- LangSmith ------------------------------------------------------------------------------------------------------


def run_to_call(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a LangSmith run as a row of kind `call`; None where it lacks input or output."""
    inputs, outputs = _unpack(run.get("inputs")), _unpack(run.get("outputs"))
    name = run.get("id") or run.get("run_id")
    if not isinstance(inputs, Mapping) or not inputs or not (name is None or isinstance(name, str)):
        return None
    error = run.get("error")
    output, usage = run_output(outputs) if isinstance(outputs, Mapping) else (None, None)
    if output is None and not error:
        return None
    extra = _unpack(run.get("extra"))
    metadata = extra.get("metadata") if isinstance(extra, Mapping) else None
    model = metadata.get("ls_model_name") if isinstance(metadata, Mapping) else None
    start, end = iso_time(run.get("start_time")), iso_time(run.get("end_time"))
    call: dict[str, Any] = {
        "kind": "call",
        "route_id": name,
        "input": _run_input(inputs),
        "output": output,
        "model": model if isinstance(model, str) else None,
        "usage": usage or _run_usage(run),
        "time": start,
    }
    if start is not None and end is not None:
        call["large_seconds"] = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    if error:
        kind = _ERROR.match(str(error))
        call["error"] = f"large: {kind[0].rpartition('.')[2] if kind else 'Error'}"
        call["output"] = None
    return _known(call)


def _known(call: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if value is not None or key == "route_id"}


def _unpack(value: Any) -> Any:
    """The bulk export has dicts as JSON texts."""
    if isinstance(value, str):
        try:
            return load_json(value)
        except (ValueError, RecursionError):
            return None
    return value


def _run_input(inputs: Mapping[str, Any]) -> Any:
    for key in ("messages", "prompts"):
        value = inputs.get(key)
        if isinstance(value, list) and value:
            if len(value) == 1 and isinstance(value[0], (list, str)):
                value = value[0]  # LangChain's batch of one
            return plain_messages(value)
    if inputs.keys() == {"input"}:  # what LangChain calls an input that is no dict
        return plain_messages(inputs["input"])
    return plain(inputs)


def run_output(outputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """What came back, and its usage where the reply says so."""
    generations = outputs.get("generations")
    if isinstance(generations, list) and generations:
        first = generations[0]
        if isinstance(first, list):
            first = first[0] if first else None
        if not isinstance(first, Mapping):
            return None, None
        message = first.get("message")
        body = message.get("kwargs", message) if isinstance(message, Mapping) else {}
        output = _message(message) if isinstance(message, Mapping) else None
        told = outputs.get("llm_output")
        usage = body.get("usage_metadata") or (told.get("token_usage") if isinstance(told, Mapping) else None)
        return first.get("text") if output is None else output, plain_usage(usage)
    choices = outputs.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        output = _message(choices[0].get("message")) or choices[0].get("text")
        return output, plain_usage(outputs.get("usage") or outputs.get("usage_metadata"))
    usage = plain_usage(outputs.get("usage_metadata") or outputs.get("usage"))
    message = _message(outputs)
    if message is not None:
        return message, usage
    if outputs.keys() - {"usage_metadata"} in ({"output"}, {"message"}):
        value = next(value for key, value in outputs.items() if key != "usage_metadata")
        inner = value.get("usage_metadata") if isinstance(value, Mapping) else None
        return plain_messages(value), usage or plain_usage(inner)
    return (plain(outputs) or None), usage


def plain_usage(value: Any) -> dict[str, Any] | None:
    """LangChain's `usage_metadata`, whoever counted."""
    found = read_usage(value) if isinstance(value, Mapping) else None
    return None if found is None else found.to_metadata()


def _run_usage(run: Mapping[str, Any]) -> dict[str, Any] | None:
    return plain_usage(run) if run.get("prompt_tokens") or run.get("completion_tokens") else None


def _message(value: Any) -> dict[str, Any] | None:
    """`{"type", "content"}` of a message in whatever form; None where it is none."""
    if not isinstance(value, Mapping):
        return None
    body = value
    kind: Any = None
    if value.get("lc") == 1 and isinstance(value.get("kwargs"), Mapping):
        body = value["kwargs"]
        names = value.get("id")
        kind = names[-1] if isinstance(names, list) and names else None
    elif isinstance(value.get("data"), Mapping) and "content" in value["data"]:  # `message_to_dict`
        body, kind = value["data"], value.get("type")
    kind = body.get("role") or body.get("type") or kind
    if "content" not in body or not isinstance(kind, str):
        return None
    content = body["content"]
    if content is not None and not isinstance(content, (str, list)):
        return None
    return {"type": _ROLES.get(kind, kind), "content": "" if content is None else plain(content)}


def plain_messages(value: Any) -> Any:
    """Messages, alone or in a list, in one form; anything else as it is."""
    message = _message(value)
    if message is not None:
        return message
    if isinstance(value, list) and value:
        messages = [_message(item) for item in value]
        if all(item is not None for item in messages):
            return messages
        if all(isinstance(v, list) and len(v) == 2 and all(isinstance(part, str) for part in v) for v in value):
            return [{"type": _ROLES.get(kind, kind), "content": content} for kind, content in value]
    return plain(value)


def iso_time(value: Any) -> str | None:
    """An ISO time with its zone; LangSmith's have none and are UTC."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).isoformat()
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()
    except (ValueError, OverflowError, OSError):
        pass
    return None


# --- outcomes -------------------------------------------------------------------------------------------------------


def default_input(value: Any) -> Any:
    """Return what a small model is asked about a recorded input.

    Messages of which exactly one is the user's become its text: what stands around it, the system's, is the same for
    every input. Everything else, a conversation too, stays as it is.

    Example:
        >>> default_input([{"type": "system", "content": "Sort mail."}, {"type": "human", "content": "hi"}])
        'hi'
    """
    messages = [value] if isinstance(value, Mapping) else value
    if isinstance(messages, list) and messages and all(_message(m) is not None and len(m) == 2 for m in messages):
        kinds = Counter(message["type"] for message in messages)
        if kinds.keys() <= {"human", "system"} and kinds["human"] == 1:
            content = next(message["content"] for message in messages if message["type"] == "human")
            if isinstance(content, str):
                return content
            if all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
                return "".join(str(part.get("text", "")) for part in content)
    return value


class _Replies:
    """What the large model said long ago, where `collect_outcomes` would ask it."""

    def __init__(self) -> None:
        self.replies: dict[str, dict[str, Any]] = {}
        self.names: set[str] = set()

    def get(self, name: str, side: str) -> dict[str, Any]:
        return self.replies.get(name, {})

    def reported(self) -> list[str]:
        return sorted(self.names)


def outcomes_from_calls(
    small: Any,
    calls: Iterable[Mapping[str, Any]],
    *,
    to_label: Callable[[Any], str] | None = None,
    to_input: Callable[[Any], Any] | None = None,
    large: Runnable[Any, Any] | None = None,
    version: str | None = None,
    chunk_size: int = 256,
    about: Mapping[str, Any] | None = None,
    key: str | bytes | None = None,
    **gold_rules: Unpack[GoldOptions],
) -> Outcomes:
    """Ask only the small models about past LLM calls, and return the outcomes. The LLM is not asked.

    The calls must be a fair sample of the traffic, and answered by the plain prompt that is in use today: then a
    threshold can be chosen and certified on them as on rows of shadow mode.

    Args:
        small: A small model, or several, as in `collect_outcomes`.
        calls: Rows of kind `call`: `store.rows(kind=("call", "gold"))` or `logs.read_calls(path)`. Rows of kind `gold`
            say what was true; other kinds are passed over.
        to_label: From the recorded output to a label; by default as `default_label`. Where it raises, the row gets an
            `error`.
        to_input: From the recorded input to what the small models take; by default as `default_input`.
        large: The chain that the calls were made with, if it is the one in use. It is not asked: it only names the
            `large` and `prompt` in `about`, which a router compares with a certificate's.
        version: Your own text for it, where `identify` cannot see into it.
        chunk_size: Inputs that are handed to a small model at a time.
        about: Said about the rows, next to score, labels, and versions.
        key: Under which inputs are hashed for `input_hash`, at least 16 characters; by default a fresh one, which
            nobody keeps: then repeats inside the table are seen, and no earlier table is recognized.
        **gold_rules: `gold_map`, `unknown_gold`, `other_gold`, as in `Outcomes`.

    Returns:
        The columns of `collect_outcomes`, as far as they are known.

    Raises:
        ValueError: If ids repeat, a call has no input, or no output can be read as a label.

    Example:
        ```python
        store.import_calls("runs.jsonl", run_type="chain")
        outcomes = outcomes_from_calls(small, store.rows(kind=("call", "gold")), large=chain)
        threshold = choose_threshold(outcomes)
        ```
    """
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be at least 1")
    models = named_models(small)
    replies = _Replies()
    secret = table_key(key, None)
    gold: dict[str, str | None] = {}
    rows: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    chunk: list[tuple[dict[str, Any], Any]] = []

    def ask() -> None:
        """The inputs are not kept: a year of calls may be large."""
        told = {}
        for name, model in models.items():
            began = time.perf_counter()
            answers = model.answers([value for _, value in chunk])
            told[name] = Told(answers, (time.perf_counter() - began) / len(chunk))
        marks = mark_inputs(list(models.values()), [value for _, value in chunk], secret)
        for place, (row, _) in enumerate(chunk):
            said: Any = {name: answers.at(place) for name, answers in told.items()}
            done.append(outcome_row(row, said, replies, pruned=False) | marks[place])
        chunk.clear()

    for number, call in enumerate(calls, 1):
        name = _name_of(call, number)
        if name is None:
            continue
        if call["kind"] == "gold":
            gold[name] = call.get("gold")
            continue
        if name in replies.replies:
            raise ValueError(f"row {number} of `calls` repeats the id of a row before: ids must be distinct")
        replies.replies[name] = _reply(call, to_label or default_label)
        if isinstance(call.get("model"), str):
            replies.names.add(call["model"])
        row = {"id": name, "gold": call.get("gold"), "group": call.get("group")}
        rows.append(row)
        chunk.append((row, (to_input or default_input)(call["input"])))
        if len(chunk) >= chunk_size:
            ask()
    if chunk:
        ask()
    for result in done:
        if result["id"] in gold:
            result["gold"] = gold[result["id"]]
    if done and all(result["large"] is None for result in done):
        kinds = sorted({str(result.get("error", "no output")) for result in done})
        raise ValueError(f"no output of the calls could be read as a label ({', '.join(kinds)}): pass `to_label=`")
    identities = {} if large is None else {"large": identify(large, version=version)}
    facts = {**table_facts(models, identities, replies), **(about or {})}
    make: Any = Outcomes.from_records if done else Outcomes
    return make(done or EMPTY, about=facts, **gold_rules)  # type: ignore[no-any-return]


def _name_of(call: Any, number: int) -> str | None:
    """The id of a row that holds a call with its input, or gold; None for other rows of a recorder."""
    if not isinstance(call, Mapping):
        raise TypeError(f"row {number} of `calls` is {type(call).__name__}, not a dict")
    name = call.get("route_id")
    if call.get("kind") not in {"call", "gold"}:
        return None
    if not isinstance(name, str) or not name:
        raise ValueError(f"row {number} of `calls`, 'route_id': must be a text")
    if call["kind"] == "call" and call.get("input") is None:
        raise ValueError(f"row {number} of `calls` has no `input`: it was recorded with `texts=False`, or redacted")
    return name


def _reply(call: Mapping[str, Any], to_label: Callable[[Any], str]) -> dict[str, Any]:
    usage = call.get("usage")
    counts = read_usage(usage)
    reply: dict[str, Any] = {
        "seconds": call.get("large_seconds"),
        "cost": call.get("cost"),
        "input_tokens": None if counts is None else counts.input,
        "output_tokens": None if counts is None else counts.output,
        "cached_tokens": None if counts is None else counts.cached or None,
    }
    error = call.get("error")
    if error is not None:
        reply["error"] = str(error).removeprefix("large: ").partition(":")[0]
    elif call.get("output") is None:
        reply["error"] = "no output"
    else:
        try:
            label = to_label(call["output"])
            if not isinstance(label, str):
                raise TypeError(f"`to_label` returned {type(label).__name__}, not a str")
            reply["label"] = label
        except Exception as problem:  # noqa: BLE001 - the user's `to_label`, or an output it cannot read
            reply["error"] = type(problem).__name__
    return reply
