"""A chat model that does what a script says, with all that LangChain asks of one."""

import json
import math
import threading
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1


def example(schema, root=None):
    """A value that fits a JSON schema."""
    root = root or schema
    if "$ref" in schema:
        found = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return example(found, root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example(schema[key][0], root)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        return {name: example(part, root) for name, part in (schema.get("properties") or {}).items()}
    return {"integer": 3, "number": 0.5, "boolean": True, "array": [], "null": None}.get(kind, "你好 こんにちは")


class Scripted(BaseChatModel):
    """Says `text` (or what `reply` makes of the messages), each token with probability `p`.

    With tools it calls one, with a response format it writes JSON. It keeps what it was asked in `calls`.
    """

    model_name: str = "scripted"
    text: str = "A short answer."
    p: float | None = 0.9
    reply: Any = None
    usage: tuple[int, int] = (10, 5)
    metadata_extra: dict[str, Any] = Field(default_factory=dict)
    error: Any = None
    malformed: bool = False
    calls: list[Any] = Field(default_factory=list, exclude=True)
    lock: Any = Field(default_factory=threading.Lock, exclude=True)

    @property
    def _llm_type(self):
        return "scripted"

    @property
    def _identifying_params(self):
        return {"model_name": self.model_name}

    @classmethod
    def is_lc_serializable(cls):
        return True

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        choice = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=formatted, **choice, **kwargs)

    def with_structured_output(self, schema, *, include_raw=False, method="function_calling", strict=None, **kwargs):
        if method == "function_calling":
            return super().with_structured_output(schema, include_raw=include_raw, **kwargs)
        shape = {"type": "json_object"} if method == "json_mode" else {"type": "json_schema"}
        llm = self.bind(
            response_format={**shape, "schema": convert_to_json_schema(schema)},
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
        )
        is_model = isinstance(schema, type) and issubclass(schema, (BaseModel, BaseModelV1))
        parser = PydanticOutputParser(pydantic_object=schema) if is_model else JsonOutputParser()
        if not include_raw:
            return llm | parser
        assign = RunnablePassthrough.assign(
            parsed=lambda found: parser.invoke(found["raw"]), parsing_error=lambda _: None
        )
        none = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=llm) | assign.with_fallbacks([none], exception_key="parsing_error")

    def _message(self, messages, stop, kwargs):
        with self.lock:
            self.calls.append({"messages": messages, "stop": stop, **kwargs})
            number = len(self.calls)
        error = self.error(number) if callable(self.error) else self.error
        if error is not None:
            raise error
        said = self.reply(messages, number) if self.reply is not None else self.text
        if isinstance(said, AIMessage):
            return said
        tools = kwargs.get("tools")
        calls = []
        if tools and not any(isinstance(m, ToolMessage) for m in messages[-1:]):
            choice = kwargs.get("tool_choice")
            functions = [tool["function"] for tool in tools]
            chosen = next((f for f in functions if f["name"] == choice), functions[0])
            args = example(chosen.get("parameters") or {})
            calls = [{"name": chosen["name"], "args": args, "id": f"call_{number}", "type": "tool_call"}]
            if self.malformed:
                calls[0]["args"] = {"nonsense": 1}
            said = ""
        elif kwargs.get("response_format"):
            said = json.dumps(example(kwargs["response_format"]["schema"])) if not self.malformed else "no JSON"
        metadata = {"model_name": self.model_name, "finish_reason": "stop", **self.metadata_extra}
        if kwargs.get("logprobs") and self.p is not None:
            words = (said or json.dumps(calls)).split()
            metadata["logprobs"] = {"content": [{"token": word, "logprob": math.log(self.p)} for word in words]}
        tokens_in, tokens_out = self.usage
        usage = {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        return AIMessage(said, tool_calls=calls, response_metadata=metadata, usage_metadata=usage)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._message(messages, stop, kwargs))])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        message = self._message(messages, stop, kwargs)
        words = message.content.split(" ") if message.content else []
        for place, word in enumerate(words):
            yield ChatGenerationChunk(message=AIMessageChunk(word if place == 0 else f" {word}"))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                "",
                tool_call_chunks=[
                    {
                        "name": c["name"],
                        "args": json.dumps(c["args"]),
                        "id": c["id"],
                        "index": n,
                        "type": "tool_call_chunk",
                    }
                    for n, c in enumerate(message.tool_calls)
                ],
                response_metadata=message.response_metadata,
                usage_metadata=message.usage_metadata,
                chunk_position="last",
            )
        )


@pytest.fixture
def scripted():
    """The class."""
    return Scripted


@pytest.fixture(autouse=True, scope="class")
def _scripted_of_a_class(request):
    """The same for a class of tests, whose properties cannot take fixtures."""
    if request.cls is not None:
        request.cls.scripted = Scripted
