"""Tools and structured output for several models at once, each in its provider's form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.base import RunnableBinding, RunnableBindingBase, RunnableParallel, RunnableSequence
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from langchain_dsplus.chat_dsplus.checks import Checks, DraftError, Tools, fits
from langchain_dsplus.chat_dsplus.draft import rebind
from langchain_dsplus.tags import ROUTE_KEY

_TOOLS = frozenset({"tools", "tool_choice", "functions", "function_call"})


@dataclass(frozen=True, eq=False)
class Bound:
    """Models with something bound to them.

    Attributes:
        models: They, in order.
        checks: What must hold of their drafts.
        shown: The same as arguments of a call, for traces and for whoever looks into a binding; not sent to models.
    """

    models: Sequence[Any]
    checks: Sequence[Checks]
    shown: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def plain(cls, models: Sequence[Any]) -> Bound:
        """Models as they are: tools that the caller bound to them are known."""
        return cls(models, [Checks(_tools_of(model)) for model in models])


def _tools_of(model: Any) -> Tools | None:
    while isinstance(model, RunnableBindingBase):
        if model.kwargs.get("tools"):
            return Tools.of(model.kwargs["tools"], model.kwargs.get("tool_choice"))
        model = model.bound
    return None


def bind(models: Sequence[Any], tools: Sequence[Any], choice: Any, kwargs: Mapping[str, Any]) -> Bound:
    """Bind tools to every model; tools bound before are replaced."""
    given = dict(kwargs) if choice is None else {**kwargs, "tool_choice": choice}
    bound = []
    for place, model in enumerate(models):
        try:
            bound.append(rebind(_without_tools(model), lambda one: one.bind_tools(list(tools), **given)))
        except NotImplementedError as error:
            raise NotImplementedError(
                f"{type(model).__name__} (number {place} of `models`) cannot call tools: take a model that can, or put "
                "a small classifier in front of an agent with `ConfidenceShuntMiddleware`"
            ) from error
    checks = Checks(Tools.of(tools, choice))
    shown: dict[str, Any] = {"tools": [_shown(tool) for tool in tools]}
    if choice is not None:
        shown["tool_choice"] = choice
    return Bound(bound, [checks] * len(bound), shown)


def _without_tools(model: Any) -> Any:
    """A model without the tools that were bound to it; what else is bound stays."""
    if not isinstance(model, RunnableBindingBase):
        return model
    inner = _without_tools(model.bound)
    kept = {name: value for name, value in model.kwargs.items() if name not in _TOOLS}
    if isinstance(model, RunnableBinding) and not kept and not model.config and kept != model.kwargs:
        return inner
    return model.model_copy(update={"bound": inner, "kwargs": kept})


def _shown(tool: Any) -> Any:
    try:
        return convert_to_openai_tool(tool)
    except (ValueError, TypeError, AttributeError, KeyError):
        return tool if isinstance(tool, dict) else str(type(tool).__name__)


# --- structured output ------------------------------------------------------------------------------------------------

Parser = Callable[[AIMessage], Mapping[str, Any]]
"""From a message to `{"raw", "parsed", "parsing_error"}`."""


def structure(models: Sequence[Any], schema: Any, kwargs: Mapping[str, Any]) -> tuple[Bound, list[Parser]]:
    """Let every model build its own structured output, and take it apart: the model bound, and its parser.

    Raises:
        NotImplementedError: If a model has none, or builds it in a way that cannot be taken apart.
    """
    bound: list[Any] = []
    parsers: list[Parser] = []
    for model in models:
        found: list[Parser] = []

        def split(one: Any, found: list[Parser] = found) -> Any:
            asked, parser = _split(one.with_structured_output(schema, include_raw=True, **kwargs), one)
            found.append(parser)
            return asked

        bound.append(rebind(_without_tools(model), split))
        parsers.extend(found)
    shape = _schema(schema)
    checks = [Checks(Tools(schemas=None), _strict(parser, shape)) for parser in parsers]
    return Bound(bound, checks), parsers


def _split(chain: Any, model: Any) -> tuple[Any, Parser]:
    if isinstance(chain, RunnableSequence) and isinstance(chain.first, RunnableParallel):
        asked = chain.first.steps__.get("raw")
        rest = [*chain.middle, chain.last]
        if asked is not None and len(chain.first.steps__) == 1:
            return _without_format(asked), _parser(rest)
    raise NotImplementedError(
        f"the structured output of {type(model).__name__} cannot be taken apart: use `bind_tools`, or put the parser "
        "behind the cascade"
    )


def _without_format(asked: Any) -> Any:
    """Without what is only for traces: the outer run says it."""
    if isinstance(asked, RunnableBinding):
        names = ("ls_structured_output_format", "structured_output_format")
        return asked.model_copy(update={"kwargs": {k: v for k, v in asked.kwargs.items() if k not in names}})
    return asked


def _parser(steps: Sequence[Runnable[Any, Any]]) -> Parser:
    def parse(message: AIMessage) -> Mapping[str, Any]:
        value: Any = {"raw": message}
        for step in steps:
            value = step.invoke(value, {"callbacks": []})
        result: Mapping[str, Any] = value
        return result

    return parse


def _schema(schema: Any) -> Mapping[str, Any] | None:
    try:
        return convert_to_json_schema(schema)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def _strict(parser: Parser, shape: Mapping[str, Any] | None) -> Callable[[AIMessage], Any]:
    """A parser that raises where there is nothing, or where a dict does not fit the schema."""

    def parse(message: AIMessage) -> Any:
        result = parser(message)
        parsed = result.get("parsed")
        if result.get("parsing_error") is not None or parsed is None:
            raise DraftError("the draft is not what the schema asks for")
        if isinstance(parsed, (dict, list)) and shape is not None and not fits(json.loads(json.dumps(parsed)), shape):
            raise DraftError("the draft does not fit the schema")
        return parsed

    return parse


def take_apart(asked: Runnable[Any, Any], parsers: Mapping[str, Parser], *, include_raw: bool) -> Runnable[Any, Any]:
    """The chain behind the cascade: the parser of whoever answered."""

    def read(raw: AIMessage) -> dict[str, Any]:
        name = str((raw.response_metadata.get(ROUTE_KEY) or {}).get("model"))
        # In a cascade around this one the route is that one's, and its names are others: then whoever can read it.
        results = [dict(parse(raw)) for parse in ([parsers[name]] if name in parsers else parsers.values())]
        whole = (one for one in results if one.get("parsing_error") is None and one.get("parsed") is not None)
        return next(whole, results[-1])

    def parse(found: Mapping[str, Any]) -> Any:
        raw = found["raw"]
        result = read(raw)
        if include_raw:
            return {**result, "raw": raw}
        if result.get("parsing_error") is not None:
            raise result["parsing_error"]
        return result.get("parsed")

    return RunnableParallel(raw=asked) | RunnableLambda(parse, name="parse")
