"""`ConfidenceShuntMiddleware`: a small model in front of an agent's model calls. Needs the extra `middleware`."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from pydantic import PrivateAttr, PydanticUserError, TypeAdapter

from langchain_dsplus._imports import require
from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Answer, EscalationContext, Route, describe_error, failure
from langchain_dsplus.conversation import render_conversation, stands_alone, user_turn
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.outputs import label_field, with_route
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.runnable import as_small_model
from langchain_dsplus.tags import CHEAPER_TAG, LARGE_TAG, NOSTREAM_TAG, ROUTE_EVENT, ROUTE_KEY

require("langchain.agents.middleware", "middleware")

from langchain.agents.middleware.types import (  # noqa: E402 - only after the message about the extra
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
)
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy  # noqa: E402

logger = logging.getLogger(__name__)

Reply: TypeAlias = str | AIMessage | ModelResponse[Any]
Answers: TypeAlias = Mapping[str, str | AIMessage] | Callable[[Answer, ModelRequest[Any]], Reply]
Handler: TypeAlias = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncHandler: TypeAlias = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]


_NODE = "model"
"""How `create_agent` calls the node that asks the model."""

_READS = ("turn", "conversation")
_AS_LARGE = RunnableConfig(tags=[LARGE_TAG])
_CHEAPER = [CHEAPER_TAG, NOSTREAM_TAG]


def _latest(_: Any, new: Any) -> Any:
    """Two shunts in one agent may write in one step; the outer one comes last."""
    return new


class ShuntState(AgentState[Any]):
    """An agent's state, and what was decided about its last turn."""

    dsplus_route: NotRequired[Annotated[dict[str, Any] | None, _latest]]
    """The `Route` of the last model call; None where the small model was not asked. Of several, the outermost one's."""


class _Turn(str):
    """A turn's text, as the small models read it, with what the large side needs to go on."""

    __slots__ = ("handler", "request")

    request: ModelRequest[Any]
    handler: Any


class _Reply(AIMessage):
    """What router, recorder and ledger see of a `ModelResponse`: its message. The whole goes with it."""

    _response: Any = PrivateAttr(default=None)


class ConfidenceShuntMiddleware(Shown, AgentMiddleware[ShuntState, Any, Any]):
    """Lets a small model answer an agent's turn, choose a cheaper model for it, or pass it on with a hint.

    Before a model call the small model reads the user's turn. If its confidence is strictly above the threshold, the
    label decides: a label in `answers` is answered without a call (by a text, or by a message that calls tools); a
    label in `models` goes to that model in place of the agent's. Everything else goes to the agent's model: unchanged,
    or, with a `pruner`, with the likely candidates behind the system prompt. A turn that is not a user's text (a tool's
    result, an image) is not looked at, and neither is one that answers the assistant: "yes" alone says nothing.

    It fails open: where the small model, its answer or a cheaper model fails, the agent's model is asked as if the
    middleware were not there. Errors of that model pass through unchanged, so `ModelFallbackMiddleware`,
    `ModelRetryMiddleware` and others work around it as usual. The decision itself is a `ConfidenceRouter`'s: modes
    (shadow, off, `DSPLUS_MODE`), per-call settings, certificates, recorders, audits and custom events are the same.

    The message that comes back carries its `Route` in `response_metadata["dsplus"]`, and the state has that of the last
    model call under `dsplus_route`, in plain types for any checkpointer: None where the small model was not asked, as
    after a tool's result. `stream_mode="custom"` gets each as `{"type": "dsplus_route", "node": name, "route": route}`.
    `stream_mode="messages"` shows one answer: token by token that of the agent's model; whole a local one, and that of
    a cheaper model, since it may yet fail. A `CostLedger` books every call of the agent as `large`.

    An audit asks whatever lies inside this middleware once more, in the background. Commands that such inner middleware
    returns would be counted twice where `background=False`: then put this one last in the list.

    Args:
        small: A small model over the user's text, or several in the order in which they are asked.
        threshold: As for `ConfidenceRouter`: answer iff confidence > threshold. A `Certificate` will do.
        answers: What a label is answered with: a text or an `AIMessage` (with tool calls, if its tools are the
            agent's), or a callable of `(Answer, ModelRequest)` for every label. Where neither `answers` nor `models` is
            given, the label itself is the answer. Labels that are in neither are passed on.
        models: Which model takes turns of this label: chat models, or names for `init_chat_model`.
        pruner: A `PromptPruner` with variables `{text}` and `{candidates}` at most. Its messages' text is put behind
            the system prompt of a turn that is passed on, if the small model said something; else nothing is added.
        read: What the small models read. "turn": the user's last message, only where it stands alone, by the rule of
            `stands_alone` in `langchain_dsplus.conversation`: the first turn, or one after an answer that asked
            nothing. "conversation": the last turns, as `render_conversation` there writes them, whatever was asked;
            train and certify the small models on the same form (in shadow mode a recorder keeps it as `input`). Or a
            callable from the request to a text, or to None, which passes the turn on unseen.
        name: Of the middleware and of its router; two in one agent need different ones.
        **router: Further arguments of `ConfidenceRouter`: `mode`, `score`, `audit_rate`, `never_local`,
            `small_timeout`, `recorder`, `monitor`, `pacer`, `on_mismatch`, `version`, `allow_override`, `background`
            and so on.

    Structured output: a text answer fills the schema's field whose type is a Literal, an Enum or a constrained str of
    the answers, or its only field. Where none or several are so, or another one is required, an `answers` callable must
    return a `ModelResponse` with a `structured_response`; else such turns are passed on.

    Raises:
        ImportError: At import, if `langchain` is not installed.
        ValueError: If `answers` or `models` names a label that no small model has, `read` is another text, `name` is
            the agent's own node "model", or an argument is the router's own.

    Example:
        ```python
        from langchain.agents import create_agent
        from langchain_dsplus import ConfidenceShuntMiddleware

        shunt = ConfidenceShuntMiddleware(
            intents,
            threshold=0.9,
            answers={"opening hours": "We are open from 9 to 17 on weekdays."},
            models={"small talk": "openai:gpt-4o-mini"},
        )
        agent = create_agent("openai:gpt-4o", tools=[...], middleware=[shunt])
        ```
    """

    state_schema = ShuntState
    tools = ()

    def __init__(
        self,
        small: Any,
        *,
        threshold: Any = 0.97,
        answers: Answers | None = None,
        models: Mapping[str, Any] | None = None,
        pruner: PromptPruner | None = None,
        read: Literal["turn", "conversation"] | Callable[[ModelRequest[Any]], str | None] = "turn",
        name: str | None = None,
        **router: Any,
    ) -> None:
        super().__init__()
        own = sorted({"large", "to_output", "to_large", "include_route", "context_key"} & router.keys())
        if own:
            raise ValueError(f"{own} are set by the middleware; for a local answer's form pass `answers=`")
        if name == _NODE:  # streams would take the shunt's runs for the node's
            raise ValueError(f"`name` must not be {_NODE!r}, which is the agent's own node")
        if not callable(read) and read not in _READS:
            raise ValueError(f"`read` must be one of {list(_READS)}, or a callable from the request to a text or None")
        self._name = name
        self._read = read
        self._answers = answers
        self._pruner = pruner
        self._models = {label: _chat_model(model) for label, model in (models or {}).items()}
        labels = _labels(small)
        named = {*self._models, *(answers if isinstance(answers, Mapping) else ())}
        if labels and not named <= labels:
            raise ValueError(f"`answers` or `models` names labels that no small model has: {sorted(named - labels)}")
        both = sorted(self._models.keys() & (answers.keys() if isinstance(answers, Mapping) else ()))
        if both:
            raise ValueError(f"these labels are in `answers` and in `models`: {both}")
        if pruner is not None and not isinstance(pruner, PromptPruner):
            raise TypeError(f"`pruner` must be a PromptPruner, not {type(pruner).__name__}")
        if pruner is not None and not set(pruner.input_variables) <= {"text"}:
            raise ValueError(
                f"`pruner` may use the variables text and candidates, not {sorted(pruner.input_variables)}"
            )
        local = labels if callable(answers) or (answers is None and not models) else set(answers or ())
        never = {*router.pop("never_local", ()), *(labels - local), *self._models}
        self._large = RunnableLambda(self._pass_on, afunc=self._apass_on, name=LARGE_TAG)
        self._cheaper = RunnableLambda(_handle, afunc=_ahandle, name="cheaper").with_config(tags=_CHEAPER)
        self.router = ConfidenceRouter(
            small=small,
            large=self._large,
            threshold=threshold,
            never_local=tuple(sorted(never)),
            to_output=self._answer,
            to_large=_for_large,
            include_route=True,
            name=self.name,
            **router,
        )
        self._texts = frozenset(local)
        if isinstance(answers, Mapping):
            self._texts = frozenset(a if isinstance(a, str) else str(a.text) for a in answers.values())
        self._warned = False

    @property
    def name(self) -> str:
        """The name that tells two of them in one agent apart."""
        return self._name or super().name

    def wrap_model_call(self, request: ModelRequest[Any], handler: Handler) -> Any:
        """Answer the turn, or let `handler` do it."""
        turn = self._turn(request, handler)
        if not turn:
            return _passed(self._large.invoke(_for_large(turn, None), _AS_LARGE))
        return self._decided(request, self.router.invoke(turn))

    async def awrap_model_call(self, request: ModelRequest[Any], handler: AsyncHandler) -> Any:
        """Async twin of `wrap_model_call`."""
        turn = self._turn(request, handler)
        if not turn:
            return _passed(await self._large.ainvoke(_for_large(turn, None), _AS_LARGE))
        return self._decided(request, await self.router.ainvoke(turn))

    def _decided(self, request: ModelRequest[Any], decided: Mapping[str, Any]) -> ExtendedModelResponse[Any]:
        writer = getattr(request.runtime, "stream_writer", None)
        if writer is not None:
            writer({"type": ROUTE_EVENT, "node": self.name, "route": decided["route"]})
        return _extended(decided)

    # --- the turn -----------------------------------------------------------------------------------------------

    def _turn(self, request: ModelRequest[Any], handler: Any) -> _Turn:
        """The turn as the router's input; empty where the small model is not asked."""
        turn = _Turn(self._text(request) or "")
        turn.request = request
        turn.handler = handler
        return turn

    def _text(self, request: ModelRequest[Any]) -> str | None:
        try:
            text = self._read(request) if callable(self._read) else self._read_turns(request)
        except Exception as error:  # noqa: BLE001 - fails open
            failure(error)
            logger.warning("`read` failed with %s: the turn is passed on", type(error).__name__)
            return None
        wanted = request.response_format
        if text and wanted is not None and not callable(self._answers) and not _fits(wanted, self._texts):
            if not self._warned:
                self._warned = True
                logger.warning(
                    "`response_format` needs more than a label, so turns are passed on; an `answers` callable that "
                    "returns a ModelResponse with a `structured_response` can answer them"
                )
            return None
        return text

    def _read_turns(self, request: ModelRequest[Any]) -> str | None:
        """What the small models read, by the two rules that have names.

        Other middleware may have shortened the request, or put reminders behind it: what the state has counts too.
        """
        kept = request.state.get("messages") or request.messages
        if self._read == "conversation":
            return render_conversation(request.messages) if isinstance(kept[-1], HumanMessage) else None
        alone = all(stands_alone(messages, self._answered) for messages in (request.messages, kept))
        return user_turn(request.messages) if alone else None

    def _answered(self, message: AIMessage) -> bool:
        """Whether a message is a local answer of this middleware."""
        route = message.response_metadata.get(ROUTE_KEY)
        return (
            isinstance(route, Mapping) and bool(route.get("accepted")) and route.get("model") in self.router.small_names
        )

    # --- the local side -----------------------------------------------------------------------------------------

    def _answer(self, answer: Answer, turn: _Turn) -> _Reply:
        """Turn a confident answer into what the model node returns."""
        if callable(self._answers):
            reply: Reply = self._answers(answer, turn.request)
        else:
            reply = answer["choice"] if self._answers is None else self._answers[answer["choice"]]
        if isinstance(reply, ModelResponse):
            response = reply
        elif turn.request.response_format is not None and not (isinstance(reply, AIMessage) and reply.tool_calls):
            said = reply if isinstance(reply, str) else str(reply.text)
            structured = _fill(turn.request.response_format, said, self._texts)
            plain = TypeAdapter(type(structured)).dump_python(structured, mode="json")
            shown = json.dumps(plain, ensure_ascii=False, allow_nan=False)
            response = ModelResponse(result=[AIMessage(shown)], structured_response=structured)
        else:
            response = ModelResponse(result=[AIMessage(reply) if isinstance(reply, str) else reply])
        known = {_tool_name(tool) for tool in turn.request.tools}
        result: list[BaseMessage] = []
        for message in response.result:
            if not isinstance(message, AIMessage):
                result.append(message)
                continue
            calls = [{**call, "id": call.get("id") or f"call_{uuid.uuid4().hex}"} for call in message.tool_calls]
            unknown = sorted({str(call["name"]) for call in calls} - known)
            if unknown:
                raise ValueError(f"`answers` calls tools that the agent does not have: {unknown}")
            # An id of its own each time: equal ids would replace each other in the state.
            fresh: dict[str, Any] = {"id": str(uuid.uuid4()), "tool_calls": calls}
            result.append(message.model_copy(update=fresh, deep=True))
        return _reply(ModelResponse(result=result, structured_response=response.structured_response))

    # --- the large side -----------------------------------------------------------------------------------------

    def _pass_on(self, passed: dict[str, Any]) -> _Reply:
        turn, request, cheaper = self._request(passed)
        if cheaper is not None:
            try:
                return _reply(self._cheaper.invoke((turn.handler, request.override(model=cheaper))))
            except Exception as error:  # noqa: BLE001 - fails open
                _or_go_on(error)
        return _reply(turn.handler(request))

    async def _apass_on(self, passed: dict[str, Any]) -> _Reply:
        turn, request, cheaper = self._request(passed)
        if cheaper is not None:
            try:
                return _reply(await self._cheaper.ainvoke((turn.handler, request.override(model=cheaper))))
            except Exception as error:  # noqa: BLE001 - fails open
                _or_go_on(error)
        return _reply(await turn.handler(request))

    def _request(self, passed: dict[str, Any]) -> tuple[_Turn, ModelRequest[Any], Any]:
        """What goes on: the request, with candidates where there are some, and the cheaper model, if one is chosen."""
        turn: _Turn = passed["turn"]
        context: EscalationContext = passed[ROUTE_KEY]
        request, answer = turn.request, context["answer"]
        cheaper = None
        if answer is not None and context.reason == "never_local":  # confident, and not to be answered here
            cheaper = self._models.get(answer["choice"])
        if self._pruner is not None and context["probabilities"]:
            try:
                messages = self._pruner.format_messages(
                    **{"text": str(turn), self._pruner.context_key: context},
                )
            except Exception as error:  # noqa: BLE001 - fails open
                failure(error)
                logger.warning("`pruner` failed with %s: the prompt stays as it is", describe_error(error))
            else:
                request = request.override(system_message=_behind(request.system_message, messages))
        return turn, request, cheaper


def _handle(passed: tuple[Handler, ModelRequest[Any]]) -> Any:
    handler, request = passed
    return handler(request)


async def _ahandle(passed: tuple[AsyncHandler, ModelRequest[Any]]) -> Any:
    handler, request = passed
    return await handler(request)


def _for_large(turn: _Turn, answer: Answer | None) -> dict[str, Any]:
    probabilities = {} if answer is None else answer["probabilities"]
    return {"turn": turn, ROUTE_KEY: EscalationContext(answer, probabilities)}


def _labels(small: Any) -> set[str]:
    parts = small if isinstance(small, (list, tuple)) else [small]
    return {label for part in parts for label in as_small_model(part).labels}


def _chat_model(model: Any) -> Any:
    if not isinstance(model, str):
        return model
    from langchain.chat_models import init_chat_model

    return init_chat_model(model)


def _tool_name(tool: Any) -> str | None:
    if isinstance(tool, Mapping):
        function = tool.get("function")
        return str((function if isinstance(function, Mapping) else tool).get("name"))
    return getattr(tool, "name", None)


def _or_go_on(error: Exception) -> None:
    failure(error)
    logger.warning("the cheaper model failed with %s: the agent's own model is asked", type(error).__name__)


def _behind(system: SystemMessage | None, messages: list[Any]) -> SystemMessage:
    """The system message with more text at its end, so that a provider's prompt cache keeps its beginning."""
    text = "\n\n".join(str(message.text) for message in messages)
    if system is None:
        return SystemMessage(text)
    blocks = [{"type": "text", "text": system.content}] if isinstance(system.content, str) else list(system.content)
    if isinstance(system.content, str):
        return system.model_copy(update={"content": f"{system.content}\n\n{text}"})
    return system.model_copy(update={"content": [*blocks, {"type": "text", "text": text}]})


# --- structured output ------------------------------------------------------------------------------------------


def _schema(response_format: Any) -> Any:
    strategy = isinstance(response_format, (AutoStrategy, ProviderStrategy, ToolStrategy))
    return response_format.schema if strategy else response_format


def _fits(response_format: Any, texts: Collection[str]) -> bool:
    """Whether one field of the schema takes what may be answered."""
    try:
        label_field(_schema(response_format), texts)
    except (TypeError, PydanticUserError):
        return False
    return True


def _fill(response_format: Any, text: str, texts: Collection[str]) -> Any:
    schema = _schema(response_format)
    values = {label_field(schema, texts): text}
    return values if isinstance(schema, Mapping) else TypeAdapter(schema).validate_python(values)


# --- what comes back --------------------------------------------------------------------------------------------


def _passed(reply: _Reply) -> ExtendedModelResponse[Any]:
    """A turn that was not looked at: the state must not keep the route of an earlier one."""
    return _with_state(reply._response, None)  # noqa: SLF001 - our own class


def _extended(decided: Mapping[str, Any]) -> ExtendedModelResponse[Any]:
    reply: _Reply = decided["output"]
    route: Route = decided["route"]
    response = reply._response  # noqa: SLF001 - our own class
    last = _last(response)
    result = [with_route(message, route) if place == last else message for place, message in enumerate(response.result)]
    shown = ModelResponse(result=result, structured_response=response.structured_response)
    return _with_state(shown, dict(route))


def _with_state(response: ModelResponse[Any], route: dict[str, Any] | None) -> ExtendedModelResponse[Any]:
    from langgraph.types import Command

    return ExtendedModelResponse(response, Command(update={"dsplus_route": route}))


def _reply(response: Any) -> _Reply:
    response = _normal(response)
    last = _last(response)
    reply = _Reply(content="") if last is None else _Reply(**dict(response.result[last]))
    reply._response = response  # noqa: SLF001 - our own class
    return reply


def _last(response: ModelResponse[Any]) -> int | None:
    """Where the last message of the model is."""
    places = [place for place, message in enumerate(response.result) if isinstance(message, AIMessage)]
    return places[-1] if places else None


def _normal(response: Any) -> ModelResponse[Any]:
    return ModelResponse(result=[response]) if isinstance(response, AIMessage) else response
