"""Replies in the form of a JSON schema: reading the request, and parsing nothing that was cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import Generation
from langchain_core.utils.pydantic import TBaseModel  # noqa: F401 - mypy looks for it where the parser is subclassed

from langchain_dsplus.labels import ending, is_cut

_BOUND = frozenset({"const", "enum", "format", "maxLength", "pattern"})


class WholeJson(JsonOutputParser):
    """JSON that was written to its end: the usual parser would close a reply that was cut off, and keep quiet."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse; a cut reply is an error unless `partial`."""
        if not partial:
            _check_whole(result)
        return super().parse_result(result, partial=partial)


class WholeModel(PydanticOutputParser):  # type: ignore[type-arg]
    """The same for a pydantic class."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse; a cut reply is an error unless `partial`."""
        if not partial:
            _check_whole(result)
        return super().parse_result(result, partial=partial)


def _check_whole(result: Sequence[Generation]) -> None:
    message = getattr(result[0], "message", None)
    if is_cut(ending(message)):
        raise OutputParserException(
            "the reply was cut off before its JSON was whole: raise `max_tokens`, or give text fields a `maxLength`"
        )


def read_schema(response_format: Any) -> dict[str, Any] | None:
    """The JSON schema of OpenAI's `response_format`."""
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    schema = (response_format.get("json_schema") or {}).get("schema") if kind == "json_schema" else None
    if not isinstance(schema, Mapping):
        raise ValueError(  # noqa: TRY004
            "`response_format` must be {'type': 'json_schema', 'json_schema': {'schema': ...}}, "
            "{'type': 'json_object'} or {'type': 'text'}"
        )
    return dict(schema)


def closed(schema: Any, longest: int | None = None) -> Any:
    """A schema whose objects have no properties but those that it names, as OpenAI's strict mode has it.

    With `longest`, texts that state no bound of their own get it as `maxLength`.
    """
    if isinstance(schema, list):
        return [closed(item, longest) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    form = {key: closed(value, longest) for key, value in schema.items()}
    if isinstance(form.get("properties"), Mapping) and form.get("type", "object") == "object":
        form.setdefault("additionalProperties", False)
    if longest is not None and form.get("type") == "string" and not form.keys() & _BOUND:
        form["maxLength"] = longest
    return form


def with_schema(messages: list[dict[str, str]], schema: Mapping[str, Any]) -> list[dict[str, str]]:
    """Put the schema behind the last message, as the user's word: not every chat template knows a system role."""
    note = f"Answer with JSON only, in the form of this JSON schema: {json.dumps(schema, ensure_ascii=False)}"
    *before, last = messages
    if last["role"] != "user":
        return [*messages, {"role": "user", "content": note}]
    return [*before, {"role": "user", "content": f"{last['content']}\n\n{note}"}]
