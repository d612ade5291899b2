"""`create_dsplus_graph`: the paper's cascade in separate nodes: small, learnable, prune, large, parse."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, patch_config
from typing_extensions import TypedDict

from langchain_dsplus import _drive
from langchain_dsplus._drive import Attempt, Call, Plan, told
from langchain_dsplus.answer import Route, is_interrupt, unhidden
from langchain_dsplus.costs.usage import is_free
from langchain_dsplus.graphs.caching import cached_by
from langchain_dsplus.graphs.settings import GraphContext
from langchain_dsplus.labels import list_labels
from langchain_dsplus.prompts.pruner import PromptPruner, PrunedChain
from langchain_dsplus.routing.answering import follow
from langchain_dsplus.routing.decision import Item
from langchain_dsplus.routing.recording import record_route
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.routing.runs import announce, start, tell_failure
from langchain_dsplus.routing.shadow import after, jobs
from langchain_dsplus.routing.steps import finish, heard, large_config, large_input, localize, make_item
from langchain_dsplus.small_models.runnable import as_small_model
from langchain_dsplus.state import emit
from langchain_dsplus.tags import ROUTE_EVENT

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

Step: TypeAlias = Literal["small", "learnable", "prune", "large", "parse"]
STEPS: tuple[Step, ...] = get_args(Step)


class ClassificationState(TypedDict, total=False):
    """The state of a classification graph: plain types and messages, for any checkpointer.

    Where the prompt has other variables than `text`, pass `state_schema=`, a subclass with those.
    """

    text: str
    """The input."""
    route: Route
    """The decision, as far as it has gone."""
    prompt: list[AnyMessage] | None
    """What the large model is asked; only where it is."""
    candidates: list[str] | None
    """The labels it is offered."""
    reply: AIMessage | str | None
    """What it answered."""
    label: str | None
    """The result; None only while a further input of the same thread is on its way."""


_OWN = ("route", "prompt", "candidates", "reply", "label")


_Update: TypeAlias = dict[str, Any]


class GraphRouter(ConfidenceRouter):
    """A `ConfidenceRouter` whose steps are nodes of a graph.

    Its large chain is a `PrunedChain` (`PromptPruner.chain`). `node(step)` gives one step as a Runnable from the state
    to an update; what is known so far stands in the state's `route`, so that a graph may stop and go on between any two
    of them. All nodes together answer as `invoke` does, with the same route.

    A step reads the state's keys but its own (`route`, `prompt`, `candidates`, `reply`, `label`) as the input dict of
    models and prompt. Thresholds, modes, certificate, score, `never_local`, monitor, pacer, recorder, shadow answers
    and audits hold as in a router; what is decided in nodes is recorded once, without times.

    Args:
        small: The specific small model, or that and the learnable one.
        large: A `PrunedChain`.

    Example:
        ```python
        steps = GraphRouter(small=[specific, learnable], large=pruner.chain(chat_model), threshold=0.9)
        graph.add_node("first_look", steps.node("small"))
        graph.add_conditional_edges("first_look", steps.branch, {"accept": END, "unsure": "ask", "escalate": "ask"})
        ```
    """

    def model_post_init(self, context: Any, /) -> None:
        """Check the large chain too."""
        super().model_post_init(context)
        if not isinstance(self.large, PrunedChain):
            raise TypeError("`large` of a GraphRouter must be a PrunedChain: `pruner.chain(model)`")
        if len(self.small_models) > 2:
            raise ValueError("`small` of a GraphRouter takes at most two: the specific and the learnable small model")

    @property
    def chain(self) -> PrunedChain:
        """The large chain, by its parts."""
        assert isinstance(self.large, PrunedChain)
        return self.large

    def node(self, step: Step) -> Runnable[Any, dict[str, Any]]:
        """Return one step as a node, sync and async.

        Raises:
            ValueError: If there is no such step.
        """
        known = STEPS if len(self.small_models) > 1 else tuple(s for s in STEPS if s != "learnable")
        if step not in known:
            raise ValueError(f"`step` must be one of {list(known)}")
        return StepNode(self, step)

    def branch(self, state: Mapping[str, Any]) -> Literal["accept", "unsure", "escalate"]:
        """Where a decision goes on: `accept` is the answer, `unsure` asks the next small model, `escalate` the large.

        `escalate` also follows where a small model failed, a label is in `never_local`, or the mode is not live.
        """
        route = state["route"]
        if route["accepted"]:
            return "accept"
        final = route["reason"] in {"error", "never_local", "off", "shadow"}
        return "escalate" if final or len(route["answers"]) >= len(self.small_models) else "unsure"

    def stand_in_for(self, state: Mapping[str, Any], error: BaseException) -> dict[str, Any]:
        """The small answer in place of a failed large model: with `on_large_error="small"`, after all retries.

        Raises:
            BaseException: `error`, where there is no answer that may stand in.
        """
        item = self._resumed(state, ensure_config(None), None)
        if not isinstance(error, Exception):
            raise error
        output, route = finish(self._state, item, error)
        return {"label": output, "route": {**state["route"], **route}}

    # --- running one step ---------------------------------------------------------------------------------------

    def run_step(self, step: Step, state: Any, config: RunnableConfig | None) -> dict[str, Any]:
        """Run one step, as one traced run."""
        return _drive.run(self._step(step, state, config))

    async def arun_step(self, step: Step, state: Any, config: RunnableConfig | None) -> dict[str, Any]:
        """Async twin of `run_step`."""
        return await _drive.arun(self._step(step, state, config))

    def _step(self, step: Step, state: Any, config: RunnableConfig | None) -> Plan[_Update]:
        config = ensure_config(config)
        run = yield start(self._state, self._input(state), config)
        try:
            update = yield from self._plan(step, state, config, run)
        except BaseException as error:
            yield told(run.on_chain_error, error)
            raise
        yield told(run.on_chain_end, update)
        return dict(update)

    def _plan(self, step: Step, state: Any, config: RunnableConfig, run: Any) -> Plan[_Update]:
        if step in ("small", "learnable"):
            return self._ask_small(int(step == "learnable"), state, config, run)
        if "route" not in state:
            raise KeyError(f"the state has no 'route': the node {step!r} follows the small models")
        plans = {"prune": self._prune, "large": self._ask_large, "parse": self._parse}
        return plans[step](state, config, run)

    @staticmethod
    def _input(state: Any) -> dict[str, Any]:
        if not isinstance(state, Mapping):
            raise TypeError(f"a node of a classification graph needs a dict as state, not {type(state).__name__}")
        return {key: value for key, value in state.items() if key not in _OWN}

    def _resumed(self, state: Mapping[str, Any], config: RunnableConfig, run: Any) -> Item:
        """The decision so far, out of the state."""
        value = self._input(state)
        route: Route = state["route"]
        if run is None:
            item = Item(value, config, None, self._state.settings, route["route_id"])
        else:
            item = make_item(self._state, value, config, run)
        item.timed = False
        item.route_id = route["route_id"]
        item.answers = list(route["answers"])
        item.reason = route["reason"]
        item.threshold = math.inf if route["threshold"] is None else route["threshold"]
        item.error = route.get("error")
        item.failed = route["reason"] == "error"
        item.rated = route.get("score")
        return item

    # --- the steps ----------------------------------------------------------------------------------------------

    def _ask_small(self, model: int, state: Mapping[str, Any], config: RunnableConfig, run: Any) -> Plan[_Update]:
        follows = model > 0 and state.get("route") is not None
        item = self._resumed(state, config, run) if follows else make_item(self._state, self._input(state), config, run)
        item.timed = False
        settings = item.settings
        # One model of the cascade: with its own threshold, and the label set that it knows.
        item.settings = replace(settings, thresholds=(settings.thresholds[model],))
        yield from follow(self._state, self._state.decide([item], only=model), model)
        item.settings = settings
        if item.accepted is not None:
            item.accepted = model
        last = model + 1 == len(self.small_models) or self.branch({"route": item.route(self._state.names)}) != "unsure"
        if last:
            localize(self._state, [item])
        update: dict[str, Any] = {}
        if not follows:  # what an earlier input of the same thread has left
            update = {key: None for key in _OWN if state.get(key) is not None}
        if item.accepted is None:
            update["route"] = item.route(self._state.names)
        else:
            update["label"], update["route"] = finish(self._state, item, item.output)
            yield from announce(self._state, run, update["route"])
        shadows, audits = jobs([item])
        if audits or (shadows and not follows):
            yield from after(self._state, [item], {})
        emit(config, {"type": ROUTE_EVENT, "node": STEPS[model], "route": update["route"]})
        return update

    def _prune(self, state: Mapping[str, Any], config: RunnableConfig, run: Any) -> Plan[_Update]:
        item = self._resumed(state, config, run)
        value = large_input(self._state, item)
        child = patch_config(config, callbacks=run.get_child("dsplus:prompt"))
        pruner = self.chain.pruner
        prompt = yield Call(pruner.invoke, pruner.ainvoke, value, child)
        route = item.route(self._state.names)  # with the pruner's notes
        return {"prompt": prompt.to_messages(), "candidates": pruner.offered(value), "route": route}

    def _ask_large(self, state: Mapping[str, Any], config: RunnableConfig, run: Any) -> Plan[_Update]:
        item = self._resumed(state, config, run)
        model, prompt, child = self.chain.model, state["prompt"], large_config(self._state, item)
        with self._failing(item, state["route"]):
            said = yield Attempt(model.invoke, model.ainvoke, prompt, child)
            reply = heard(self._state, item, unhidden(said))
            if isinstance(reply, BaseException):
                tell_failure(self._state, run, item, reply)
                raise reply
        # Here, and not once the label is known: a ledger looks for the paid calls below the run that is announced.
        yield from announce(self._state, run, state["route"])
        emit(config, {"type": ROUTE_EVENT, "node": "large", "route": state["route"]})
        return {"reply": reply}

    def _parse(self, state: Mapping[str, Any], config: RunnableConfig, run: Any) -> Plan[_Update]:
        item = self._resumed(state, config, run)
        parser, child = self.chain.parser, patch_config(config, callbacks=run.get_child("dsplus:parser"))
        read = {"output": state["reply"], "candidates": state["candidates"]}
        with self._failing(item, state["route"], state["reply"]):
            label = yield Call(parser.invoke, parser.ainvoke, read, child)
        route: Route = state["route"].copy()
        if self.chain.pruner.conformal is not None:  # whether the label lies outside the set: a note of the pruner's
            self.chain.pruner.format_messages(**large_input(self._state, item))
            item.note_output(route, label)
        record_route(self._state, item, route, label, None, paid=state["reply"])
        return {"label": label, "route": route}

    @contextlib.contextmanager
    def _failing(self, item: Item, route: Route, paid: Any = None) -> Iterator[None]:
        """Record an attempt that came to nothing, if it may have been paid for all the same."""
        try:
            yield
        except BaseException as error:
            if not is_interrupt(error) and not is_free(error):
                record_route(self._state, item, route, None, error, paid=paid)
            raise


class StepNode(Runnable[Any, dict[str, Any]]):
    """One step of a `GraphRouter`; `GraphRouter.node` makes it."""

    def __init__(self, router: GraphRouter, step: Step) -> None:
        self.router = router
        self.step = step
        self.name = step

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Take the step."""
        return self.router.run_step(self.step, input, config)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Async twin of `invoke`."""
        return await self.router.arun_step(self.step, input, config)


def create_dsplus_graph(
    small: Any,
    large: Runnable[Any, Any] | None = None,
    *,
    learnable: Any = None,
    prompt: PromptPruner | None = None,
    parser: Runnable[Any, Any] | None = None,
    threshold: Any = 0.97,
    state_schema: type[Any] = ClassificationState,
    context_schema: type[Any] = GraphContext,
    checkpointer: Any = None,
    retry_policy: Any = None,
    cache_policy: Any = None,
    cache: Any = None,
    name: str | None = None,
    **settings: Any,
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Build the paper's cascade (Algorithm 2) as a graph: small, learnable, prune, large, parse.

    `graph.invoke({"text": ...})` returns a `ClassificationState` with `label` and `route`. It answers as a
    `ConfidenceRouter` with the same parts does; what a graph adds is a place to look at, stop, change and go on between
    any two steps. The nodes:

    - `small`, and `learnable` where there is one: `accept` ends, `unsure` asks the next, `escalate` goes to `prune`.
    - `prune`: the prompt, with the small model's knowledge (`PromptPruner`), and the candidates offered.
    - `large`: the only node that is paid for.
    - `parse`: the label, out of those offered.

    For a graph of your own take the nodes alone: `GraphRouter(...).node("small")`.

    Args:
        small: The specific small model: whatever `ConfidenceRouter` takes as one. Or a `GraphRouter`, which brings all
            that stands up to `threshold`, and `settings`.
        large: The large chat model, or a chain that begins with it.
        learnable: A second small model, asked where the first is unsure.
        prompt: A `PromptPruner`; by default one that shows `text` and the small models' labels, pruned softly.
        parser: See `PromptPruner.chain`; by default a `LabelParser`.
        threshold: As for `ConfidenceRouter`: a number, a list, a dict by name, or a `Certificate`. A run may set
            `dsplus_threshold`.
        state_schema: A subclass of `ClassificationState` with the prompt's further variables.
        context_schema: Of the graph's runtime context; see `GraphContext`.
        checkpointer: As for `StateGraph.compile`. Strict msgpack will do.
        retry_policy: LangGraph's `RetryPolicy` for the node `large`.
        cache_policy: LangGraph's `CachePolicy` for the node `large`; equal prompts to the same model hit. A hit costs
            nothing, and a `CostLedger` counts nothing.
        cache: As for `StateGraph.compile`.
        name: Name in traces; also of the per-run settings `dsplus_<name>_threshold` and so on.
        **settings: Further fields of `ConfidenceRouter`: `score`, `never_local`, `mode`, `recorder`, `on_large_error`
            (`small`: the small answer stands in after all retries) ...

    Returns:
        A compiled graph.

    Raises:
        ValueError: If there is no `large`, no label to offer, or a variable of the prompt is not in `state_schema`; or
            as `ConfidenceRouter` does.

    Example:
        ```python
        graph = create_dsplus_graph(small, ChatOpenAI(model="gpt-4o-mini"), learnable=distilled, threshold=0.9)
        state = graph.invoke({"text": "Where is my card?"})
        state["label"], state["route"]["model"], state["route"]["reason"]
        ```
    """
    from langgraph.graph import END, START, StateGraph

    if isinstance(small, GraphRouter):
        router = small
    else:
        router = _make_router(small, large, learnable, prompt, parser, threshold=threshold, name=name, **settings)
    missing = sorted(set(router.chain.pruner.input_variables) - set(_fields(state_schema)))
    if missing:
        raise ValueError(
            f"the prompt needs {missing}: pass `state_schema=`, a subclass of ClassificationState with these fields"
        )

    graph: Any = StateGraph(state_schema, context_schema=context_schema)
    smalls: tuple[Step, ...] = STEPS[: len(router.small_models)]
    for step in (*smalls, "prune"):
        graph.add_node(step, router.node(step))
    caught: dict[str, Any] = {}
    if router.on_large_error == "small":
        caught["error_handler"] = _stand_in(router, END)
    caching = {"cache_policy": cached_by(cache_policy, ["prompt"], [router.chain.model])}
    graph.add_node("large", router.node("large"), retry_policy=retry_policy, **caching, **caught)
    graph.add_node("parse", router.node("parse"), **caught)
    graph.add_edge(START, "small")
    for step, following in zip(smalls, (*smalls[1:], None), strict=True):
        # After the last one `unsure` is `escalate`: a score that is read before them may leave models unasked.
        branches: dict[str, str] = {"accept": END, "escalate": "prune", "unsure": following or "prune"}
        graph.add_conditional_edges(step, router.branch, branches)
    graph.add_edge("prune", "large")
    graph.add_edge("large", "parse")
    graph.add_edge("parse", END)
    return graph.compile(  # type: ignore[no-any-return]
        checkpointer=checkpointer, cache=cache, name=name or router.name or "dsplus"
    )


def _make_router(
    small: Any,
    large: Runnable[Any, Any] | None,
    learnable: Any,
    prompt: PromptPruner | None,
    parser: Runnable[Any, Any] | None,
    **settings: Any,
) -> GraphRouter:
    if large is None:
        raise ValueError("`large` is needed: the chat model that gets what the small models are unsure of")
    models = [as_small_model(model) for model in (small, learnable) if model is not None]
    if prompt is None:
        labels = list_labels(label for model in models for label in model.labels)
        if not labels:
            raise ValueError("`prompt` is needed, a PromptPruner with `labels`: the small models do not name theirs")
        messages = [("system", "Choose the label that fits the text."), ("human", "{text}")]
        prompt = PromptPruner.from_messages(messages, labels=list(dict.fromkeys(labels)))
    return GraphRouter(small=models, large=prompt.chain(large, parser=parser), **settings)


def _fields(schema: Any) -> Iterable[str]:
    """The names of the fields of a TypedDict, a dataclass or a Pydantic class."""
    for name in ("model_fields", "__dataclass_fields__", "__annotations__"):
        found: Mapping[str, Any] | None = getattr(schema, name, None)
        if found is not None:
            return found
    return ()


def _stand_in(router: GraphRouter, end: str) -> Callable[..., Any]:
    from langgraph.errors import NodeError
    from langgraph.types import Command

    def stand_in(state: Any, error: Any) -> Any:
        return Command(update=router.stand_in_for(state, error.error), goto=end)

    stand_in.__annotations__["error"] = NodeError  # by which LangGraph knows the parameter
    return stand_in
