"""Equality of tool calls: the one rule for gates, judges and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage

from langchain_dsplus._json import load_json
from langchain_dsplus.chat_dsplus.checks import Tools, fits


def same_calls(one: Any, other: Any, tools: Tools | Sequence[Any] | None = None) -> bool:
    """Whether two replies make the same tool calls: the same tools with the same arguments, in any order.

    Arguments are compared as JSON: the order of keys and of calls does not count, 1 and 1.0 are one number, "1" and
    true are not. With `tools` they are compared as the tool would get them: defaults filled in, read by the tool's
    class where it has one. A call that is malformed, unknown, or does not fit its tool's schema equals nothing, not
    even itself. Two replies without any call are the same: what they say does not count here.

    Args:
        one: An AIMessage, a list of calls (`{"name", "args"}`, or OpenAI's `{"function": {"name", "arguments"}}`), or
            such a list as JSON, as `answer_text` writes it. Any other text is a reply without a call.
        other: The same.
        tools: What could be called, in any form that `bind_tools` takes.

    Example:
        >>> one = [{"name": "add", "args": {"a": 1, "b": 2.0}}, {"name": "now", "args": {}}]
        >>> other = '[{"args": {}, "name": "now"}, {"args": {"b": 2, "a": 1}, "name": "add"}]'
        >>> same_calls(one, other), same_calls(one, one[:1]), same_calls("Hello.", "Good day.")
        (True, False, True)
    """
    known = known_tools(tools)
    keys = call_keys(one, known)
    return keys is not None and keys == call_keys(other, known)


def known_tools(tools: Tools | Sequence[Any] | None) -> Tools | None:
    """Tools in any form as `Tools`."""
    return tools if tools is None or isinstance(tools, Tools) else Tools.of(tools)


def call_keys(reply: Any, tools: Tools | None = None) -> tuple[str, ...] | None:
    """What a reply calls, as sorted texts that are equal where the calls are; None where a call equals nothing.

    Example:
        >>> call_keys([{"name": "add", "args": {"b": 2.0, "a": 1}}]), call_keys("Hello.")
        (('["add", {"a": 1, "b": 2}]',), ())
    """
    calls = _calls(reply)
    if calls is None:
        return None
    keys = [_key(call, tools) for call in calls]
    return None if None in keys else tuple(sorted(str(key) for key in keys))


def _calls(reply: Any) -> list[Any] | None:
    """The calls of a reply in whatever form; None where one is malformed."""
    if isinstance(reply, AIMessage):
        return None if reply.invalid_tool_calls else list(reply.tool_calls)
    if isinstance(reply, str):
        if reply.strip()[:1] not in ("[", "{"):
            return []
        try:
            reply = load_json(reply.strip())
        except ValueError:
            return None  # cut off, it may be, in the middle of a call
    if isinstance(reply, Mapping):
        inside = reply.get("tool_calls")
        reply = inside if isinstance(inside, list) else [reply]
    if not isinstance(reply, Sequence):
        return []
    named = [isinstance(call, Mapping) and _named(call) for call in reply]
    return list(reply) if all(named) else None if any(named) else []


def _named(call: Mapping[str, Any]) -> bool:
    inner = call.get("function", call)
    return (
        isinstance(inner, Mapping)
        and isinstance(inner.get("name"), str)
        and {"args", "arguments"} & set(inner) != set()
    )


def _key(call: Mapping[str, Any], tools: Tools | None) -> str | None:
    inner = call.get("function", call)
    name, args = inner["name"], inner["args"] if "args" in inner else inner["arguments"]
    try:
        args = load_json(args) if isinstance(args, str) else args
        if not isinstance(args, Mapping):
            return None
        args = json.loads(json.dumps(args, allow_nan=False))
        if tools is not None and tools.schemas is not None:
            if name not in tools.schemas or not fits(args, tools.schemas[name]):
                return None
            args = _received(args, tools.schemas[name], tools.classes.get(name))
        return json.dumps([name, _numbers(args)], sort_keys=True, ensure_ascii=False, allow_nan=False)
    except Exception:  # noqa: BLE001 - a tool's own class raises what it likes; such a call equals nothing
        return None


def _received(args: dict[str, Any], schema: Mapping[str, Any], validate: Any) -> Any:
    """The arguments as the tool gets them."""
    if validate is not None:
        model = validate(args)
        dump = getattr(model, "model_dump_json", None) or getattr(model, "json", None)
        if callable(dump):
            return json.loads(str(dump()))
    parts = (schema.get("properties") or {}).items()
    return {
        **{name: part["default"] for name, part in parts if isinstance(part, Mapping) and "default" in part},
        **args,
    }


def _numbers(value: Any) -> Any:
    """Whole floats as integers: JSON has one kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _numbers(part) for name, part in value.items()}
    return [_numbers(part) for part in value] if isinstance(value, list) else value
