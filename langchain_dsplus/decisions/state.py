"""The state of a decision as the text that a small model reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_dsplus.answer import InputError

_TOOL_CALL = frozenset({"name", "args", "id"})


def render_state(state: Any) -> str:
    r"""Return a decision's state as text; train small models on what this gives.

    A text stays as it is, and so does that of one message. Of several messages each has its line, with its role. All
    else is JSON with sorted keys. Ids of messages and tool calls are left out: they say nothing, and are new each time.

    Raises:
        InputError: If something in it is no text, message, or JSON.

    Example:
        >>> from langchain_core.messages import AIMessage, HumanMessage
        >>> render_state([HumanMessage("Delete it."), AIMessage("Shall I?")])
        'human: Delete it.\nai: Shall I?'
        >>> render_state({"b": 1, "a": [HumanMessage("hi")]})
        '{"a": ["human: hi"], "b": 1}'
    """
    if isinstance(state, str):
        return state
    if isinstance(state, BaseMessage):
        return _text(state)
    if _is_list(state) and len(state) and all(isinstance(part, BaseMessage) for part in state):
        return "\n".join(_line(part) for part in state)
    try:
        return json.dumps(_plain(state), ensure_ascii=False, sort_keys=True)
    except RecursionError:
        raise InputError("the state is nested too deep") from None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, BaseMessage):
        return _line(value)
    if isinstance(value, Mapping):
        call = value.keys() >= _TOOL_CALL
        return {str(key): _plain(part) for key, part in value.items() if not (call and key == "id")}
    if _is_list(value):
        return [_plain(part) for part in value]
    raise InputError(f"the state holds {type(value).__name__}: it must be text, messages or JSON")


def _line(message: BaseMessage) -> str:
    return f"{message.type}: {_text(message)}"


def _text(message: BaseMessage) -> str:
    calls = [
        f"{call['name']}({json.dumps(_plain(call['args']), ensure_ascii=False, sort_keys=True)})"
        for call in getattr(message, "tool_calls", None) or ()
    ]
    return "\n".join(part for part in (str(message.text), *calls) if part)
