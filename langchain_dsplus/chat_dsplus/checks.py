"""What must hold of a draft before its confidence counts: it is whole, its tool calls and its JSON are well-formed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_dsplus.answer import InvalidAnswerError, failure
from langchain_dsplus.labels import ending, is_cut

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class DraftError(InvalidAnswerError):
    """A small model's draft cannot be used: such an input escalates. The message never carries the draft."""


def answer_text(message: Any) -> str:
    """What a reply says, as a text: its tool calls as JSON where it has some, else its text.

    This is what an `Answer` holds as `choice`, and what stands in `Outcomes`.

    Example:
        >>> answer_text(AIMessage("", tool_calls=[{"name": "add", "args": {"b": 2, "a": 1}, "id": "1"}]))
        '[{"args": {"a": 1, "b": 2}, "name": "add"}]'
    """
    calls = getattr(message, "tool_calls", None)
    if calls:
        shown = [{"name": call["name"], "args": call["args"]} for call in calls]
        return json.dumps(shown, sort_keys=True, ensure_ascii=False, default=str)
    text = getattr(message, "text", message)
    return str(text) if isinstance(text, str) else str(message)


def fits(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> bool:
    """Whether a value is what a JSON schema asks for: types, required fields, enums, references.

    What it does not know (formats, bounds) it does not check.

    Example:
        >>> schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        >>> fits({"a": 1}, schema), fits({"a": "1"}, schema), fits({}, schema)
        (True, False, False)
    """
    root = schema if root is None else root
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return fits(value, _resolve(reference, root), root)
    if "enum" in schema and not any(_equals(value, one) for one in schema["enum"]):
        return False
    if "const" in schema and not _equals(value, schema["const"]):
        return False
    for key in ("anyOf", "oneOf"):
        if key in schema and not any(fits(value, one, root) for one in schema[key]):
            return False
    if not all(fits(value, one, root) for one in schema.get("allOf", ())):
        return False
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted or []
    if names and not any(_is(value, name) for name in names):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        if any(name not in value for name in schema.get("required") or ()):
            return False
        if schema.get("additionalProperties") is False and not value.keys() <= properties.keys():
            return False
        return all(fits(value[name], part, root) for name, part in properties.items() if name in value)
    items = schema.get("items")
    if isinstance(value, list) and isinstance(items, Mapping):
        return all(fits(item, items, root) for item in value)
    return True


def _equals(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _is(value: Any, name: str) -> bool:
    if name not in _TYPES:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Tools:
    """The tools that a draft may call.

    Attributes:
        schemas: JSON schema of the arguments by name; None where some tool cannot be seen into (a provider's own).
        classes: What validates the arguments more closely, where a tool has a class.
        choice: Which tool must be called: a name, `any`, or None.
    """

    schemas: Mapping[str, Mapping[str, Any]] | None = None
    classes: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    choice: str | None = None

    @classmethod
    def of(cls, tools: Iterable[Any], choice: Any = None) -> Tools:
        """Read tools in any of the forms that `bind_tools` takes."""
        schemas: dict[str, Mapping[str, Any]] | None = {}
        classes: dict[str, Callable[[Any], Any]] = {}
        for tool in tools:
            try:
                function = convert_to_openai_tool(tool)["function"]
                name = function["name"]
            except (KeyError, ValueError, TypeError, AttributeError):
                schemas = None
                continue
            if schemas is not None:
                schemas[name] = function.get("parameters") or {}
            validate = _validator(tool)
            if validate is not None:
                classes[name] = validate
        return cls(schemas, classes, _forced(choice))

    def check(self, message: AIMessage) -> None:
        """Check a draft's tool calls. Raises DraftError if one is malformed, or a tool had to be called and was not."""
        if message.invalid_tool_calls:
            raise DraftError("a tool call is malformed")
        if self.choice is not None:
            called = {call["name"] for call in message.tool_calls}
            if not called or (self.choice != "any" and called != {self.choice}):
                raise DraftError("`tool_choice` asks for a tool call that the draft does not make")
        for call in message.tool_calls:
            self._check_call(call["name"], call["args"])

    def _check_call(self, name: str, args: Any) -> None:
        if self.schemas is None:
            return
        if name not in self.schemas:
            raise DraftError("the draft calls a tool that does not exist")
        if not fits(args, self.schemas[name]):
            raise DraftError(f"the arguments for the tool {name!r} do not fit its schema")
        validate = self.classes.get(name)
        if validate is not None:
            try:
                validate(args)
            except Exception as error:  # noqa: BLE001 - it carries the draft
                failure(error)
                raise DraftError(f"the arguments for the tool {name!r} are not valid") from None


def _forced(choice: Any) -> str | None:
    """Which tool must be called, out of the forms that providers take."""
    if choice is True or choice in ("any", "required"):
        return "any"
    if isinstance(choice, str) and choice not in ("", "auto", "none"):
        return choice
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        return name if isinstance(name, str) else "any" if choice.get("type") == "any" else None
    return None


def _validator(tool: Any) -> Callable[[Any], Any] | None:
    """What validates a call's arguments, where a class says how."""
    kind = tool if isinstance(tool, type) else getattr(tool, "tool_call_schema", None)
    if not isinstance(kind, type):
        return None
    validate = getattr(kind, "model_validate", None) or getattr(kind, "parse_obj", None)
    return validate if callable(validate) else None


@dataclass(frozen=True)
class Checks:
    """All that is checked of a draft.

    Attributes:
        tools: The tools that were bound.
        parse: Takes a draft apart as the caller will, and raises where that fails; for structured output.
    """

    tools: Tools | None = None
    parse: Callable[[AIMessage], Any] | None = None

    def check(self, message: Any, kwargs: Mapping[str, Any]) -> AIMessage:
        """Check a draft. Raises DraftError if it cannot be used; the message says why, and never carries the draft."""
        if not isinstance(message, AIMessage):
            raise DraftError(f"a chat model returns an AIMessage, not {type(message).__name__}")
        _check_whole(message)
        tools = self.tools
        if tools is None:
            given = kwargs.get("tools")
            known = isinstance(given, Sequence) and not isinstance(given, str)
            tools = Tools.of(given) if known and given is not None else Tools({})
        if kwargs.get("tool_choice") is not None:
            tools = replace(tools, choice=_forced(kwargs["tool_choice"]))
        tools.check(message)
        if not message.tool_calls and not message.text.strip():
            raise DraftError("the draft is empty")
        if self.parse is not None:
            try:
                self.parse(message)
            except Exception as error:  # noqa: BLE001 - it carries the draft
                failure(error)
                raise DraftError("the draft is not what the schema asks for") from None
        return message


def _check_whole(message: AIMessage) -> None:
    reason = ending(message)
    if is_cut(reason):
        raise DraftError(f"the draft is not whole ({reason})")
    if message.additional_kwargs.get("refusal"):
        raise DraftError("the model refused")
