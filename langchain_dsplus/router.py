"""`ConfidenceRouter`: small models answer what they are sure of, the large model gets the rest."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import secrets
import threading
import time
import typing
import warnings
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    get_config_list,
    merge_configs,
    patch_config,
    var_child_runnable_config,
)
from langchain_core.runnables.utils import (
    AddableDict,
    ConfigurableFieldSpec,
    get_unique_config_specs,
)
from pydantic import ConfigDict, Field, ValidationError, field_validator

from langchain_dsplus.answer import (
    Answer,
    Context,
    EmptyReplyError,
    EscalationContext,
    Route,
    describe_error,
    failure,
    is_context,
    is_empty_reply,
    is_interrupt,
    must_pass,
    pass_on,
    unhidden,
)
from langchain_dsplus.binding import MismatchError, ReportedNames, bind, facts, thresholds_of
from langchain_dsplus.confidence import ScoreFunction, resolve_score
from langchain_dsplus.costs.usage import UsageMeter
from langchain_dsplus.decision import (
    Item,
    Mode,
    Settings,
    call_settings,
    decide,
    judge,
    limited,
    read_mode,
    read_rate,
    read_thresholds,
    sampled,
)
from langchain_dsplus.identity import reported_by
from langchain_dsplus.operations.background import Background
from langchain_dsplus.operations.recorder import Recorder, Row
from langchain_dsplus.outputs import (
    ToOutput,
    check_labels,
    default_to_output,
    is_blank,
    is_message,
    to_chunk,
    with_route,
)
from langchain_dsplus.prompts.chain_labels import check_chain_labels
from langchain_dsplus.small_models.asking import Asker, SmallModelTimeoutError
from langchain_dsplus.small_models.runnable import as_small_model, distinct_names, mark_inputs
from langchain_dsplus.state import as_update, emit
from langchain_dsplus.threshold.certificate import Certificate

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables.graph import Graph

    from langchain_dsplus.small_models.base import SmallModel

logger = logging.getLogger(__name__)

BACKGROUND_TAG = "dsplus:background"
LARGE_TAG = "large"
EVENT = "dsplus_route"


class ConfidenceRouter(RunnableSerializable[Any, Any]):
    """Answers locally what the small models are sure of, and asks the large chain for the rest.

    The paper's Algorithm 2: the specific small model first, then the learnable one, then the large model. An answer
    is accepted only if its confidence is strictly above the threshold. A small model that fails, times out or returns
    something unusable never answers: that input escalates, with the plain prompt.

    The large chain gets a dict input with one extra key, `dsplus`:
    `{"answer": Answer | None, "probabilities": dict}`; empty probabilities mean the plain prompt. Any other input
    reaches it unchanged. What comes back has the large chain's own type, whoever answered.

    Args:
        small: A small model, or several in the order in which they are asked.
        large: The chain that costs money.
        threshold: Accept iff confidence > threshold: one number, one per small model, a dict by name, or a
            `Certificate`. None or infinity accept nothing, and so does a certificate that is NOT_CERTIFIED; then, and
            under a certificate made with `prompt="plain"`, the large chain gets the plain prompt.
        score: None uses the small model's own confidence; `max_probability`, `margin`, `entropy` or a callable
            recomputes it from the probabilities.
        mode: `live`; `shadow` (everything goes to the large chain, the small models run in the background and are
            recorded); `off` (plain prompt, small models not run). `DSPLUS_MODE` in the environment can only make it
            safer.
        audit_rate: Share of the locally answered inputs that the large chain is asked about as well, in the
            background.
        never_local: Labels that always escalate.
        small_timeout: Seconds that one call of a small model may take.
        on_large_error: `raise` lets the large chain's error through; `small` returns the small answer, marked
            `degraded` in the route.
        include_route: Return `{"output": ..., "route": Route}`.
        to_output: Turns `(answer, input)` into the large chain's type. By default chosen by its `OutputType`.
        to_large: Maps `(input, answer or None)` to what the large chain gets.
        context_key: The extra key in a dict input.
        recorder: Writes down every decision (see `JSONLRecorder`).
        monitor: An `AuditMonitor`: sees every decision and audit; while it has a `limit`, less or nothing is accepted.
        pacer: A `BudgetPacer`: sees every decision, and may keep an unsure input local for lack of budget.
        on_mismatch: What happens when small model, large chain, prompt or `never_local` are not those of the
            certificate: `raise` at construction; `warn` and go on; or `escalate_all`: everything goes to the large
            chain with the plain prompt. Score and labels always raise. A large model that calls itself by a new name
            is only seen in its replies: then `warn` warns once, and both others escalate all from there on. A new
            fingerprint is only warned about.
        version: Your own text for what the large chain is, where it cannot be seen into (functions, graphs): the same
            as at `collect_outcomes`.
        allow_override: Whether a call's config may loosen the mode, or the threshold below the certificate's.
        background: False does shadow work and audits before returning, for serverless functions.
        background_workers: Threads for background work.
        background_limit: While this many inputs wait for background work, more are skipped and counted.
        batch_wait: Seconds that concurrent `ainvoke`s may wait for each other, to share one call of the small model.
            None asks at once.
        batch_size: Inputs in such a shared call at most.
        name: Name in traces; also of this router's own settings, `dsplus_<name>_threshold` and so on.

    Raises:
        TypeError: At construction, if it cannot be told how a local answer becomes the large chain's type.
        ValueError: At construction, if a setting is malformed.
        MismatchError: At construction, if the certificate is about other parts.

    Example:
        ```python
        from langchain_core.runnables import RunnableLambda
        from langchain_dsplus import ConfidenceRouter, FakeSmallModel

        small = FakeSmallModel({"great!": {"pos": 0.99, "neg": 0.01}, "well...": {"pos": 0.6, "neg": 0.4}})


        def ask(text: str) -> str:
            return "neg"


        router = ConfidenceRouter(small=small, large=RunnableLambda(ask), threshold=0.9)
        router.batch(["great!", "well..."])  # ["pos", "neg"]: one call of the large model
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    small: Any
    large: Runnable[Any, Any]
    threshold: Any = 0.97
    score: str | ScoreFunction | None = None
    mode: Mode = "live"
    audit_rate: float = 0.0
    never_local: tuple[str, ...] = ()
    small_timeout: float | None = None
    on_large_error: Literal["raise", "small"] = "raise"
    include_route: bool = False
    to_output: ToOutput | None = None
    to_large: Callable[[Any, Answer | None], Any] | None = None
    context_key: str = "dsplus"
    recorder: Any = None
    monitor: Any = None
    pacer: Any = None
    on_mismatch: Literal["raise", "warn", "escalate_all"] = "raise"
    version: str | None = None
    allow_override: bool = False
    background: bool = True
    background_workers: int = Field(default=2, ge=1)
    background_limit: int = Field(default=1024, ge=1)
    batch_wait: float | None = Field(default=None, ge=0)
    batch_size: int = Field(default=64, ge=1)

    @field_validator("large", mode="before")
    @classmethod
    def _coerce_large(cls, value: Any) -> Any:
        return value if isinstance(value, Runnable) else coerce_to_runnable(value)

    @field_validator("never_local", mode="before")
    @classmethod
    def _collect_labels(cls, value: Any) -> Any:
        if isinstance(value, str):
            msg = "`never_local` must be a collection of labels, not one str"
            raise ValueError(msg)  # noqa: TRY004 - pydantic turns it into its own error
        return tuple(value)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be dumped where its parts can."""
        return True

    def model_post_init(self, context: Any, /) -> None:
        """Check everything that can be checked before the first input."""
        super().model_post_init(context)
        _ = self._state

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See the class."""
        try:
            super().__init__(*args, **kwargs)
        except ValidationError as error:
            causes = [(line.get("ctx") or {}).get("error") for line in error.errors()]
            if len(causes) == 1 and isinstance(causes[0], MismatchError):
                raise causes[0] from None  # a type of its own, so that it can be told from a typing error
            raise

    @cached_property
    def _state(self) -> _State:
        """What is derived from the fields, in one place that is quick to read."""
        return _State(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """A field that is set anew takes effect; a value that makes no sense is refused and changes nothing."""
        if name not in type(self).model_fields or "_state" not in self.__dict__:
            super().__setattr__(name, value)
            return
        before = getattr(self, name)
        super().__setattr__(name, value)
        try:
            self.__dict__["_state"] = _State(self, self._state)
        except Exception:
            super().__setattr__(name, before)
            raise

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        state["__dict__"] = {k: v for k, v in state["__dict__"].items() if k != "_state"}  # holds locks and threads
        return state

    def __copy__(self) -> Self:
        copy = super().__copy__()
        copy.__dict__.pop("_state", None)  # derived from fields that may differ in the copy
        return copy

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        state = self.__dict__.pop("_state", None)  # holds locks and threads
        try:
            return super().__deepcopy__(memo)
        finally:
            if state is not None:
                self.__dict__["_state"] = state

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def small_models(self) -> list[SmallModel]:
        """The small models, in the order in which they are asked."""
        return list(self._state.models)

    @property
    def small_names(self) -> list[str]:
        """Their names, as routes and thresholds use them."""
        return list(self._state.names)

    @property
    def about(self) -> dict[str, Any]:
        """What outcomes recorded by this router are about: `Outcomes.from_traces(rows, about=router.about)`."""
        state = self._state
        hidden = self.to_large is not None and self.version is None
        found = facts(state.models, state.names, score=self.score, large=self.large, version=self.version)
        return {name: value for name, value in found.items() if not (hidden and name in {"large", "prompt"})}

    @property
    def certificate(self) -> Certificate | None:
        """The certificate, where `threshold` is one."""
        return self.threshold if isinstance(self.threshold, Certificate) else None

    @property
    def unverifiable(self) -> tuple[str, ...]:
        """Parts that could not be compared with the certificate: `small`, `large`, `prompt`."""
        return self._state.unverifiable

    @property
    def void(self) -> tuple[str, ...]:
        """Parts that differ from the certificate, so that everything escalates with the plain prompt; empty if none."""
        return self._state.void

    @property
    def background_skipped(self) -> int:
        """Inputs whose shadow answer or audit was not done: too many waited, or their event loop ended first."""
        return 0 if self._state.background is None else self._state.background.skipped

    @property
    def recorder_errors(self) -> int:
        """Rows that the recorder failed to write."""
        return self._state.recorder_errors

    @property
    def InputType(self) -> Any:
        """Anything that the small models and the large chain can read."""
        return Any

    @property
    def OutputType(self) -> Any:
        """The large chain's, or a dict with output and route."""
        return dict[str, Any] if self.include_route else _output_type(self.large)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The per-call settings, and those of the large chain."""
        fields: list[tuple[str, Any]] = [
            ("threshold", Any),
            ("mode", str | None),
            ("audit_rate", float | None),
        ]
        prefixes = ["dsplus", *([f"dsplus_{self.name}"] if self.name else [])]
        own = [
            ConfigurableFieldSpec(
                id=f"{prefix}_{field}",
                annotation=annotation,
                name=f"{prefix} {field}".replace("_", " "),
                default=None,
                is_shared=True,
            )
            for prefix in prefixes
            for field, annotation in fields
        ]
        specs = [*own, *self.large.config_specs]
        for model in self._state.models:
            specs.extend(model.config_specs)
        return get_unique_config_specs(specs)

    def get_graph(self, config: RunnableConfig | None = None) -> Graph:
        """Draw both branches: the small models, and the large chain for what they are unsure of."""
        from uuid import uuid4

        from langchain_core.runnables.graph import Graph, Node

        graph = Graph()

        def add(part: Runnable[Any, Any], name: str) -> Node:
            node = Node(id=uuid4().hex, name=name, data=part, metadata=None)  # ids of their own: routers may be joined
            graph.nodes[node.id] = node
            return node

        previous = graph.add_node(self.get_input_schema(config))
        label = None
        smalls = []
        for name, model in zip(self._state.names, self._state.models, strict=True):
            node = add(model, name)
            graph.add_edge(previous, node, label, conditional=label is not None)
            smalls.append(node)
            previous, label = node, "unsure"
        large = add(self.large, LARGE_TAG)
        graph.add_edge(previous, large, "unsure", conditional=True)
        end = graph.add_node(self.get_output_schema(config))
        for node in smalls:
            graph.add_edge(node, end, "confident", conditional=True)
        graph.add_edge(large, end)
        return graph

    # --- lifetime -----------------------------------------------------------------------------------------------

    def warmup(self) -> Self:
        """Load the small models now, so that the first input does not pay for it."""
        for model in self._state.models:
            model.warmup()
        return self

    async def awarmup(self) -> Self:
        """Async twin of `warmup`."""
        await asyncio.to_thread(self.warmup)
        return self

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for background work (shadow answers, audits). Returns False when the time ran out first.

        Raises:
            RuntimeError: In the event loop whose tasks it would wait for: use `adrain` there.
        """
        return True if self._state.background is None else self._state.background.drain(timeout)

    async def adrain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Async twin of `drain`."""
        return True if self._state.background is None else await self._state.background.adrain(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.adrain()

    # --- one input ----------------------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Answer one input. Keyword arguments reach the large chain."""
        return self._present(*self._invoke(input, config, kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Async twin of `invoke`; embedded small models run in an executor thread."""
        return self._present(*await self._ainvoke(input, config, kwargs))

    def _invoke(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> tuple[Any, Route]:
        config = ensure_config(config)
        run = self._start(value, config)
        try:
            item = self._item(value, config, run)
            self._decide([item])
            if item.accepted is None:
                asked = self._large_input(item)
                started = time.perf_counter()
                try:
                    with _apart(config):
                        result = self.large.invoke(asked, self._large_config(item), **kwargs)
                except BaseException as error:  # noqa: BLE001 - judged in `_finish`
                    result = error
                item.large_seconds = time.perf_counter() - started
            else:
                result = item.output
            finished = self._try_finish(item, result)
            if isinstance(finished, BaseException):
                if not must_pass(finished):
                    self._after([item], kwargs)
                raise finished
            self._after([item], kwargs)
            output, route = finished
            self._announce(run, route)
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(self._present(output, route))
        return output, route

    async def _ainvoke(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> tuple[Any, Route]:
        config = ensure_config(config)
        run = await self._astart(value, config)
        try:
            item = self._item(value, config, run)
            await self._adecide([item])
            if item.accepted is None:
                asked = self._large_input(item)
                started = time.perf_counter()
                try:
                    with _apart(config):
                        result = await self.large.ainvoke(asked, self._large_config(item), **kwargs)
                except BaseException as error:  # noqa: BLE001 - judged in `_finish`
                    result = error
                item.large_seconds = time.perf_counter() - started
            else:
                result = item.output
            finished = self._try_finish(item, result)
            if isinstance(finished, BaseException):
                if not must_pass(finished):
                    await self._aafter([item], kwargs)
                raise finished
            await self._aafter([item], kwargs)
            output, route = finished
            await self._aannounce(run, route)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(self._present(output, route))
        return output, route

    # --- batches ------------------------------------------------------------------------------------------------

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Any]:
        """Answer a list: one batch of each small model, one of the large chain on the hard rest; order kept.

        If an item fails and `return_exceptions` is False, its error is raised, unchanged but for an attribute
        `dsplus_finished`: a dict from index to the outputs that were finished, since they were paid for.
        """
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs))
        runs = [self._start(value, c) for value, c in zip(inputs, configs, strict=True)]
        try:
            items = self._items(inputs, configs, runs)
            self._decide([i for i in items if isinstance(i, Item)])
            items, hard, asked = self._ready(items)
            answers: list[Any] = []
            if hard:
                started = time.perf_counter()
                try:
                    with _apart(hard[0].config):
                        answers = self.large.batch(
                            asked, [self._large_config(i) for i in hard], return_exceptions=True, **kwargs
                        )
                except BaseException as error:  # noqa: BLE001 - judged in `_finish`
                    answers = [error] * len(hard)
                self._share_time(hard, time.perf_counter() - started)
            results = self._gather(items, hard, answers)
        except BaseException as error:
            for run in runs:
                run.on_chain_error(error)
            raise
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, Exception):
                run.on_chain_error(result)
            else:
                self._announce(run, result[1])
                run.on_chain_end(self._present(*result))
        self._after([i for i in items if isinstance(i, Item)], kwargs)
        return self._unpack(results, return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Any]:
        """Async twin of `batch`."""
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs))
        runs = await asyncio.gather(*(self._astart(v, c) for v, c in zip(inputs, configs, strict=True)))
        try:
            items = self._items(inputs, configs, runs)
            await self._adecide([i for i in items if isinstance(i, Item)])
            items, hard, asked = self._ready(items)
            answers: list[Any] = []
            if hard:
                started = time.perf_counter()
                try:
                    with _apart(hard[0].config):
                        answers = await self.large.abatch(
                            asked, [self._large_config(i) for i in hard], return_exceptions=True, **kwargs
                        )
                except BaseException as error:  # noqa: BLE001 - judged in `_finish`
                    answers = [error] * len(hard)
                self._share_time(hard, time.perf_counter() - started)
            results = self._gather(items, hard, answers)
        except BaseException as error:
            await asyncio.gather(*(run.on_chain_error(error) for run in runs))
            raise
        for run, result in zip(runs, results, strict=True):
            if isinstance(result, Exception):
                await run.on_chain_error(result)
            else:
                await self._aannounce(run, result[1])
                await run.on_chain_end(self._present(*result))
        await self._aafter([i for i in items if isinstance(i, Item)], kwargs)
        return self._unpack(results, return_exceptions=return_exceptions)

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield `(index, output)`: the local answers first, then the large chain's as they come."""
        if not inputs:
            return
        configs = get_config_list(config, len(inputs))
        runs = [self._start(value, c) for value, c in zip(inputs, configs, strict=True)]
        still_open = set(range(len(runs)))

        def close(place: int, result: tuple[Any, Route] | BaseException) -> Any:
            still_open.discard(place)
            if isinstance(result, BaseException):
                runs[place].on_chain_error(result)
                if return_exceptions and not must_pass(result):
                    return result
                raise result
            self._announce(runs[place], result[1])
            output = self._present(*result)
            runs[place].on_chain_end(output)
            return output

        items: list[Any] = []
        waiting: dict[int, Item] = {}
        try:
            items = self._items(inputs, configs, runs)
            self._decide([i for i in items if isinstance(i, Item)])
            items, hard, asked = self._ready(items)
            places = {id(item): place for place, item in enumerate(items)}
            local = [place for place, item in enumerate(items) if isinstance(item, Item) and item.accepted is not None]
            for place in local:
                yield place, close(place, self._try_finish(items[place], items[place].output))
            for place in [place for place, item in enumerate(items) if isinstance(item, Exception)]:
                yield place, close(place, items[place])
            if hard:
                started = time.perf_counter()
                source = self.large.batch_as_completed(
                    asked, [self._large_config(i) for i in hard], return_exceptions=True, **kwargs
                )
                waiting = dict(enumerate(hard))
                with contextlib.closing(_each_apart(hard[0].config, source)) as answers:
                    for number, answer in answers:
                        item = waiting.pop(number)
                        item.large_seconds = time.perf_counter() - started
                        yield places[id(item)], close(places[id(item)], self._try_finish(item, answer))
        except BaseException as error:
            self._given_up(waiting.values(), error)
            for place in still_open:
                runs[place].on_chain_error(error)
            raise
        finally:
            self._after([i for i in items if isinstance(i, Item)], kwargs)

    async def abatch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> AsyncIterator[tuple[int, Any]]:
        """Async twin of `batch_as_completed`."""
        if not inputs:
            return
        configs = get_config_list(config, len(inputs))
        runs = await asyncio.gather(*(self._astart(v, c) for v, c in zip(inputs, configs, strict=True)))
        still_open = set(range(len(runs)))

        async def close(place: int, result: tuple[Any, Route] | BaseException) -> Any:
            still_open.discard(place)
            if isinstance(result, BaseException):
                await runs[place].on_chain_error(result)
                if return_exceptions and not must_pass(result):
                    return result
                raise result
            await self._aannounce(runs[place], result[1])
            output = self._present(*result)
            await runs[place].on_chain_end(output)
            return output

        items: list[Any] = []
        waiting: dict[int, Item] = {}
        try:
            items = self._items(inputs, configs, runs)
            await self._adecide([i for i in items if isinstance(i, Item)])
            items, hard, asked = self._ready(items)
            places = {id(item): place for place, item in enumerate(items)}
            local = [place for place, item in enumerate(items) if isinstance(item, Item) and item.accepted is not None]
            for place in local:
                yield place, await close(place, self._try_finish(items[place], items[place].output))
            for place in [place for place, item in enumerate(items) if isinstance(item, Exception)]:
                yield place, await close(place, items[place])
            if hard:
                started = time.perf_counter()
                source = self.large.abatch_as_completed(
                    asked, [self._large_config(i) for i in hard], return_exceptions=True, **kwargs
                )
                waiting = dict(enumerate(hard))
                async with contextlib.aclosing(_aeach_apart(hard[0].config, source)) as answers:
                    async for number, answer in answers:
                        item = waiting.pop(number)
                        item.large_seconds = time.perf_counter() - started
                        yield places[id(item)], await close(places[id(item)], self._try_finish(item, answer))
        except BaseException as error:
            self._given_up(waiting.values(), error)
            for place in still_open:
                await runs[place].on_chain_error(error)
            raise
        finally:
            await self._aafter([i for i in items if isinstance(i, Item)], kwargs)

    # --- streams ------------------------------------------------------------------------------------------------

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream one answer, never a draft: a local answer in one chunk, the large chain's as it comes."""
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Async twin of `stream`."""

        async def once() -> AsyncIterator[Any]:
            yield input

        async for chunk in self.atransform(once(), config, **kwargs):
            yield chunk

    def transform(
        self,
        input: Iterator[Any],
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Any]:
        """Stream the answer to an input that itself arrives in chunks; deciding needs all of it."""
        yield from self._transform_stream_with_config(input, self._stream, config, **kwargs)

    async def atransform(
        self,
        input: AsyncIterator[Any],
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> AsyncIterator[Any]:
        """Async twin of `transform`."""
        async for chunk in self._atransform_stream_with_config(input, self._astream, config, **kwargs):
            yield chunk

    def _stream(
        self,
        chunks: Iterator[Any],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[Any]:
        value = None
        for number, chunk in enumerate(chunks):
            value = chunk if number == 0 else _add(value, chunk)
        item = self._item(value, config, run_manager)
        self._decide([item])
        try:
            if item.accepted is not None:
                output, route = self._finish(item, item.output)
                self._announce(run_manager, route)
                yield from self._chunks(to_chunk(output), route)
            else:
                yield from self._stream_large(item, run_manager, kwargs)
        finally:
            self._after([item], kwargs)

    def _stream_large(self, item: Item, run: CallbackManagerForChainRun, kwargs: dict[str, Any]) -> Iterator[Any]:
        asked = self._large_input(item)
        started = time.perf_counter()
        try:
            source = iter(self.large.stream(asked, self._large_config(item), **kwargs))
            first = next(source, _NOTHING)
            while self.on_large_error == "small" and is_blank(
                first
            ):  # shows nothing yet: the small answer may still come
                following = next(source, _NOTHING)
                if following is _NOTHING:
                    break
                first = _add(first, following)
            if self.on_large_error == "small" and isinstance(heard := self._heard(item, _sum([first])), Exception):
                raise heard
        except BaseException as error:  # noqa: BLE001 - nothing was shown yet
            item.large_seconds = time.perf_counter() - started
            output, route = self._finish(item, error)
            self._announce(run, route)
            yield from self._chunks(to_chunk(output), route)
            return
        route = item.route(self._state.names)
        parts = [first]
        try:
            self._announce(run, route)
            yield from self._chunks(first, route)
            for chunk in source:
                parts.append(chunk)
                yield self._wrap(chunk)
        except BaseException as error:
            item.large_seconds = time.perf_counter() - started
            if not is_interrupt(error):
                self._record_stream(item, route, parts, error)
            raise
        item.large_seconds = time.perf_counter() - started
        whole = self._heard(item, _sum(parts))
        if isinstance(whole, Exception):
            self._record_stream(item, route, parts, whole)
            raise whole
        self._record_stream(item, route, parts)

    async def _astream(
        self,
        chunks: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        value, number = None, 0
        async for chunk in chunks:
            value = chunk if number == 0 else _add(value, chunk)
            number += 1
        item = self._item(value, config, run_manager)
        await self._adecide([item])
        try:
            if item.accepted is not None:
                output, route = self._finish(item, item.output)
                await self._aannounce(run_manager, route)
                for out in self._chunks(to_chunk(output), route):
                    yield out
            else:
                async with contextlib.aclosing(self._astream_large(item, run_manager, kwargs)) as source:
                    async for out in source:
                        yield out
        finally:
            await self._aafter([item], kwargs)

    async def _astream_large(
        self, item: Item, run: AsyncCallbackManagerForChainRun, kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        asked = self._large_input(item)
        started = time.perf_counter()
        try:
            source = aiter(self.large.astream(asked, self._large_config(item), **kwargs))
            first = await anext(source, _NOTHING)
            while self.on_large_error == "small" and is_blank(
                first
            ):  # shows nothing yet: the small answer may still come
                following = await anext(source, _NOTHING)
                if following is _NOTHING:
                    break
                first = _add(first, following)
            if self.on_large_error == "small" and isinstance(heard := self._heard(item, _sum([first])), Exception):
                raise heard
        except BaseException as error:  # noqa: BLE001 - nothing was shown yet
            item.large_seconds = time.perf_counter() - started
            output, route = self._finish(item, error)
            await self._aannounce(run, route)
            for out in self._chunks(to_chunk(output), route):
                yield out
            return
        route = item.route(self._state.names)
        parts = [first]
        try:
            await self._aannounce(run, route)
            for out in self._chunks(first, route):
                yield out
            async for chunk in source:
                parts.append(chunk)
                yield self._wrap(chunk)
        except BaseException as error:
            item.large_seconds = time.perf_counter() - started
            if not is_interrupt(error):
                self._record_stream(item, route, parts, error)
            raise
        item.large_seconds = time.perf_counter() - started
        whole = self._heard(item, _sum(parts))
        if isinstance(whole, Exception):
            self._record_stream(item, route, parts, whole)
            raise whole
        self._record_stream(item, route, parts)

    def _chunks(self, first: Any, route: Route) -> Iterator[Any]:
        """The start of a stream: the route, where it is asked for, then the first chunk."""
        if self.include_route:
            yield AddableDict(route=route)
        if first is not _NOTHING:
            yield self._wrap(with_route(first, route))

    def _wrap(self, chunk: Any) -> Any:
        return AddableDict(output=chunk) if self.include_route else chunk

    # --- nodes --------------------------------------------------------------------------------------------------

    def as_node(
        self,
        input_key: str | None = None,
        output_key: str = "output",
        route_key: str | None = None,
        config: RunnableConfig | None = None,
    ) -> Runnable[Any, dict[str, Any]]:
        """Return the form for a LangGraph node, sync and async.

        Args:
            input_key: The state's key that holds the input: its bare value goes to both sides. None passes the whole
                state, as a large chain with a prompt of named variables wants it.
            output_key: The state's key that gets the output.
            route_key: The state's key that gets the `Route`, if any.
            config: Settings that hold in this node, under those of the graph. `router.with_config(...).as_node(...)`
                passes its own.

        Returns:
            A Runnable from the state to an update with only those keys. Where the state keeps a list under one (as with
            the reducers `operator.add` and `add_messages`), the output is appended. `stream_mode="custom"` gets the
            route.

        Example:
            ```python
            graph.add_node("classify", router.as_node(output_key="label", route_key="route"))
            ```
        """
        from langchain_core.runnables import RunnableLambda

        def read(state: Any) -> Any:
            if input_key is None:
                return state
            try:
                return state[input_key] if isinstance(state, Mapping) else getattr(state, input_key)
            except (KeyError, AttributeError):
                msg = f"the state has no {input_key!r} (`input_key` of the node of {self.get_name()})"
                raise KeyError(msg) from None

        def update(state: Any, config: RunnableConfig, output: Any, route: Route) -> dict[str, Any]:
            emit(config, {"type": "dsplus_route", "node": self.get_name(), "route": route})
            return as_update(state, {output_key: output} | ({} if route_key is None else {route_key: route}))

        bound = config

        def node(state: Any, config: RunnableConfig) -> dict[str, Any]:
            return update(state, config, *self._invoke(read(state), merge_configs(bound, config), {}))

        async def anode(state: Any, config: RunnableConfig) -> dict[str, Any]:
            return update(state, config, *await self._ainvoke(read(state), merge_configs(bound, config), {}))

        return RunnableLambda(node, afunc=anode, name=self.get_name())

    # --- the decision alone -------------------------------------------------------------------------------------

    def triage(self, input: Any, config: RunnableConfig | None = None) -> tuple[Any, Route]:
        """Decide without asking the large chain: for graphs whose next nodes are the large side.

        Thresholds, modes, certificate, monitor, pacer and audits hold as in `invoke`. What is accepted is recorded;
        what escalates is left to whoever answers it.

        Returns:
            The local answer, as the large chain's type, and its route. Where nothing is accepted, None and the route.
        """
        config = ensure_config(config)
        run = self._start(input, config)
        try:
            item = self._item(input, config, run)
            self._decide([item])
            output, route = self._sorted(item)
            self._after([item], {})
            if route["accepted"]:
                self._announce(run, route)
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(route)
        return output, route

    async def atriage(self, input: Any, config: RunnableConfig | None = None) -> tuple[Any, Route]:
        """Async twin of `triage`."""
        config = ensure_config(config)
        run = await self._astart(input, config)
        try:
            item = self._item(input, config, run)
            await self._adecide([item])
            output, route = self._sorted(item)
            await self._aafter([item], {})
            if route["accepted"]:
                await self._aannounce(run, route)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(route)
        return output, route

    def _sorted(self, item: Item) -> tuple[Any, Route]:
        return (None, item.route(self._state.names)) if item.accepted is None else self._finish(item, item.output)

    # --- the steps, each once -----------------------------------------------------------------------------------

    def _start(self, value: Any, config: RunnableConfig) -> CallbackManagerForChainRun:
        manager = get_callback_manager_for_config(config)
        name = config.get("run_name") or self.get_name()
        return manager.on_chain_start(None, value, name=name, run_id=config.pop("run_id", None))

    async def _astart(self, value: Any, config: RunnableConfig) -> AsyncCallbackManagerForChainRun:
        manager = get_async_callback_manager_for_config(config)
        name = config.get("run_name") or self.get_name()
        return await manager.on_chain_start(None, value, name=name, run_id=config.pop("run_id", None))

    def _item(self, value: Any, config: RunnableConfig, run: Any) -> Item:
        settings = call_settings(
            self._state.settings,
            config.get("configurable") or {},
            router=self.name,
            names=self._state.names,
            allow_override=self.allow_override,
            certified=self._state.certified,
        )
        if self._state.void:  # whatever the call asks for
            nothing = (math.inf,) * len(self._state.names)
            settings = replace(settings, thresholds=nothing, plain=True, refused="mismatch", certificate=None)
        elif self.monitor is not None and self.monitor.limit is not None:
            settings = limited(settings, self.monitor.limit.thresholds, self._state.names)
        if isinstance(value, Mapping) and self.context_key in value and not is_context(value[self.context_key]):
            msg = (
                f"the input already has a key {self.context_key!r} with something else in it: rename it, or choose "
                "another with `context_key=`"
            )
            raise ValueError(msg)
        return Item(value, config, run, settings, str(run.run_id))

    def _items(self, values: Sequence[Any], configs: Sequence[RunnableConfig], runs: Sequence[Any]) -> list[Any]:
        """Items, or what is wrong with an input or its settings."""
        items: list[Item | Exception] = []
        for value, config, run in zip(values, configs, runs, strict=True):
            try:
                items.append(self._item(value, config, run))
            except ValueError as error:
                items.append(error)
        return items

    def _steps(self, items: Sequence[Item]) -> Generator[tuple[int, list[Item]], Sequence[Answer | Exception], None]:
        return decide(
            items,
            [m.labels for m in self._state.models],
            score=self._state.score,
            never_local=self._state.never_local,
        )

    def _decide(self, items: Sequence[Item]) -> None:
        steps = self._steps(items)
        results: Sequence[Answer | Exception] | None = None
        with contextlib.suppress(StopIteration):
            while True:
                model, pending = next(steps) if results is None else steps.send(results)
                started = time.perf_counter()
                with _apart(pending[0].config):
                    results = self._state.askers[model].ask(
                        [i.input for i in pending], *self._small_configs(model, pending)
                    )
                _add_time(pending, time.perf_counter() - started)
                self._tell_time(pending, model, time.perf_counter() - started)
        self._localize(items)

    async def _adecide(self, items: Sequence[Item]) -> None:
        steps = self._steps(items)
        results: Sequence[Answer | Exception] | None = None
        with contextlib.suppress(StopIteration):
            while True:
                model, pending = next(steps) if results is None else steps.send(results)
                started = time.perf_counter()
                with _apart(pending[0].config):
                    results = await self._state.askers[model].aask(
                        [i.input for i in pending], *self._small_configs(model, pending)
                    )
                _add_time(pending, time.perf_counter() - started)
                self._tell_time(pending, model, time.perf_counter() - started)
        self._localize(items)

    def _small_configs(
        self, model: int, items: Sequence[Item]
    ) -> tuple[list[RunnableConfig] | None, RunnableConfig | None]:
        """Child configs for a model whose calls are traced; else what Runnables inside an embedded one inherit."""
        part, name = self._state.models[model], self._state.names[model]

        def child(item: Item) -> RunnableConfig:
            callbacks = item.run.get_child(name)
            # Keeps a small chat model's draft out of LangGraph's message stream.
            callbacks.add_tags(["nostream"], inherit=True)
            return patch_config(item.config, callbacks=callbacks)

        if part.traces_calls:
            return [child(item) for item in items], None
        return None, child(items[0]) if items[0].run.handlers else None

    def _pace(self, items: Sequence[Item]) -> None:
        """Tell the pacer what escalates; where it says so, an unsure small answer has to do."""
        for item in items:
            unsure = item.reason == "unsure" and bool(item.answers)
            if unsure and item.answers[-1]["choice"] not in self._state.never_local:
                if not self.pacer.escalate(item.answers[-1]):
                    item.accepted, item.reason = len(item.answers) - 1, "budget"
            else:
                self.pacer.count(escalated=item.accepted is None)

    def _localize(self, items: Sequence[Item]) -> None:
        """Turn accepted answers into the large chain's type; one that cannot be turned escalates."""
        if self.pacer is not None:
            self._pace(items)
        for item in items:
            if item.accepted is None:
                continue
            try:
                item.output = self._state.to_output(item.answers[-1], item.input)
            except Exception as error:  # noqa: BLE001
                failure(error)
                logger.warning("`to_output` failed with %s: the input escalates", type(error).__name__)
                item.accepted = None
                item.failed = True
                item.reason = "error"
                item.error = f"to_output: {describe_error(error)}"
            else:
                rate = item.settings.audit_rate if item.reason == "confident" else 0.0
                item.audited = sampled(item.route_id, self._state.salt, rate)
                if item.audited and self.pacer is not None:
                    self.pacer.charge()

    def _large_config(self, item: Item) -> RunnableConfig:
        callbacks = item.run.get_child(LARGE_TAG)
        item.meter = UsageMeter()
        callbacks.add_handler(item.meter, inherit=True)
        if self._state.reported is not None:
            callbacks.add_handler(self._state.reported, inherit=True)
        return patch_config(item.config, callbacks=callbacks)

    def _large_input(self, item: Item) -> Any:
        return self._for_large(item.input, item.escalation())

    def _for_large(self, value: Any, context: EscalationContext) -> Any:
        mapped = value if self.to_large is None else self.to_large(value, context["answer"])
        if isinstance(mapped, Mapping):
            theirs: Any = mapped.get(self.context_key)
            if mapped is not value and is_context(theirs):  # made by `to_large`: its notes belong to the Route
                own = EscalationContext(theirs["answer"], theirs["probabilities"])
                own.take_over(context)
                return {**mapped, self.context_key: own}
            if isinstance(value, Mapping):
                return {**mapped, self.context_key: context}
        return mapped

    def _ready(self, items: Sequence[Any]) -> tuple[list[Any], list[Item], list[Any]]:
        """What goes to the large chain; an item whose input `to_large` cannot map becomes that error."""
        ready: list[Any] = []
        hard: list[Item] = []
        asked: list[Any] = []
        for item in items:
            ready.append(item)
            if isinstance(item, Item) and item.accepted is None:
                try:
                    asked.append(self._large_input(item))
                except Exception as error:  # noqa: BLE001
                    ready[-1] = failure(error)
                else:
                    hard.append(item)
        return ready, hard, asked

    def _finish(self, item: Item, result: Any) -> tuple[Any, Route]:
        """Turn what came back into the output and its route; record it; raise what must be raised."""
        if item.accepted is None:
            result = self._heard(item, unhidden(result))
        error = result if isinstance(result, BaseException) else None
        if error is not None:
            stand_in = self._stand_in(item, error)
            if stand_in is None:
                if not is_interrupt(error):
                    self._record_route(item, item.route(self._state.names), None, error)
                raise error
            item.degraded, result = stand_in
            item.error = f"large: {describe_error(error)}"
            logger.warning("the large model failed with %s: the small answer stands in", type(error).__name__)
        route = item.route(self._state.names)
        if error is None:
            item.note_output(route, result)
        self._record_route(item, route, result, None)
        return with_route(result, route), route

    def _heard(self, item: Item, result: Any) -> Any:
        """What came back, or the error that the large model said nothing, whatever was made of that."""
        if must_pass(result):
            return result
        silent = item.meter is not None and item.meter.empty
        if isinstance(result, BaseException):
            cause: BaseException | None = result
            empty = silent
        else:
            cause = None
            # A message of a class of its own means what its maker says; a text may only be empty where it is a reply.
            empty = type(result) in {AIMessage, AIMessageChunk} and is_empty_reply(result)
            if self._state.replies and (result is None or isinstance(result, str)):
                empty = not (result or "").strip()
        if not empty:
            return result
        name = reported_by(result)[0] or (item.meter.model if item.meter is not None else None)
        error = EmptyReplyError(f"the large model {name or self.large.get_name()!r} said nothing: its reply is empty")
        error.__cause__ = cause
        return error

    def _try_finish(self, item: Item, result: Any) -> tuple[Any, Route] | BaseException:
        try:
            return self._finish(item, result)
        except BaseException as error:
            if error is unhidden(result) or not must_pass(error):
                return error
            raise

    def _given_up(self, items: Iterable[Item], error: BaseException) -> None:
        """Record those whose call nobody waits for any more: it may have been paid for all the same."""
        if is_interrupt(error):
            return
        for item in items:
            reason = error if must_pass(error) else GeneratorExit()
            self._record_route(item, item.route(self._state.names), None, reason)

    def _stand_in(self, item: Item, error: BaseException) -> tuple[int, Any] | None:
        """The small answer in place of a failed large one, where that is wanted and there is one."""
        if self.on_large_error != "small" or not item.answers or must_pass(error):
            return None
        answer = item.answers[-1]
        if answer["choice"] in self._state.never_local:
            return None
        try:
            return len(item.answers) - 1, self._state.to_output(answer, item.input)
        except Exception as broken:  # noqa: BLE001
            failure(broken)
            return None

    def _gather(self, items: Sequence[Any], hard: Sequence[Item], answers: Sequence[Any]) -> list[Any]:
        """Per input `(output, route)` or its exception, in order.

        Raises:
            BaseException: One that passes through everything, once all that came back is recorded.
        """
        by_item = {id(item): answer for item, answer in zip(hard, answers, strict=True)}
        results = [
            self._try_finish(item, by_item.get(id(item), item.output)) if isinstance(item, Item) else item
            for item in items
        ]
        passing = next((r for r in results if isinstance(r, BaseException) and must_pass(r)), None)
        if passing is not None:
            _raise_with(passing, self._finished(results))
        return results

    def _finished(self, results: Sequence[Any]) -> dict[int, Any]:
        return {i: self._present(*r) for i, r in enumerate(results) if not isinstance(r, BaseException)}

    def _unpack(self, results: Sequence[Any], *, return_exceptions: bool) -> list[Any]:
        error = next((r for r in results if isinstance(r, Exception)), None)
        if error is not None and not return_exceptions:
            _raise_with(error, self._finished(results))
        return [r if isinstance(r, Exception) else self._present(*r) for r in results]

    def _present(self, output: Any, route: Route) -> Any:
        return {"output": output, "route": route} if self.include_route else output

    @staticmethod
    def _share_time(items: Sequence[Item], seconds: float) -> None:
        for item in items:
            item.large_seconds = seconds

    # --- what others hear about it ------------------------------------------------------------------------------

    def _announce(self, run: CallbackManagerForChainRun, route: Route) -> None:
        if any(_listens(handler) for handler in run.handlers):
            run.get_child().on_custom_event(EVENT, route, run_id=run.run_id)
            for name, body in self._events():
                run.get_child().on_custom_event(name, body, run_id=run.run_id)

    async def _aannounce(self, run: AsyncCallbackManagerForChainRun, route: Route) -> None:
        if any(_listens(handler) for handler in run.handlers):
            await run.get_child().on_custom_event(EVENT, route, run_id=run.run_id)
            for name, body in self._events():
                await run.get_child().on_custom_event(name, body, run_id=run.run_id)

    def _events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What monitor and pacer have to say that no run was there to hear."""
        for part in (self.monitor, self.pacer):
            if part is not None:
                yield from part.events()

    def _tell_time(self, items: Sequence[Item], model: int, seconds: float) -> None:
        """Tell the handlers that ask for it how long an embedded small model took: it has no run. Inputs share it."""
        if self._state.models[model].traces_calls:
            return
        for item in items:
            for handler in dict.fromkeys(item.run.handlers):
                tell = getattr(handler, "on_small_model", None)  # as `CostLedger` has it
                if tell is not None:
                    tell(self._state.names[model], seconds / len(items))

    def _record(self, row: Row) -> None:
        for recorder in self._state.recorders:
            try:
                recorder.record(self._hashed(row, recorder))
            except Exception as error:  # noqa: BLE001 - a broken recorder never breaks an answer
                failure(error)
                with self._state.lock:
                    self._state.recorder_errors += 1
                    first = self._state.recorder_errors == 1
                if first:
                    logger.warning("the recorder failed with %s; later failures are only counted", type(error).__name__)

    def _hashed(self, row: Row, recorder: Any) -> Row:
        """The row with its input's hash under the recorder's key, where it has one."""
        key = getattr(recorder, "key", None)
        if row["kind"] != "route" or not isinstance(key, bytes):
            return row
        mark = mark_inputs(self._state.models, [row["input"]], key)[0].get("input_hash")
        return row if mark is None else {**row, "input_hash": mark}

    def _record_route(
        self,
        item: Item,
        route: Route,
        output: Any,
        error: BaseException | None,
        *,
        cut: bool = False,
        paid: Any = None,
    ) -> None:
        """Record a decision; `paid` is the reply that carries the usage, where that is not the output."""
        if not self._state.recorders:
            return
        row = Row(
            kind="route",
            route_id=item.route_id,
            router=self.get_name(),
            input=self._without_context(item.input),
            output=output,
            route=route,
            small_seconds=item.small_seconds,
            large_seconds=item.large_seconds,
        )
        if error is not None:
            row["error"] = f"large: {describe_error(error)}"
        if cut:
            row["cut"] = True
        self._count(row, item.meter, output if paid is None else paid)
        self._record(self._marked(row))

    def _marked(self, row: Row) -> Row:
        """The row, and whether a small model was trained on its input."""
        flags = {model.in_training([row["input"]])[0] for model in self._state.models}
        if True in flags:
            row["in_training"] = True
        elif None not in flags:
            row["in_training"] = False
        return row

    @staticmethod
    def _count(row: Row, meter: UsageMeter | None, output: Any) -> None:
        """Write down the tokens of the large chain's calls, and how many of them did not say."""
        said = getattr(output, "usage_metadata", None)
        heard = None if meter is None else meter.usage
        if said and (meter is None or meter.calls <= 1):
            row["usage"] = dict(said)
        elif heard is not None:
            row["usage"] = heard.to_metadata()
        if meter is not None and meter.unreported:
            row["calls_without_usage"] = meter.unreported

    def _record_stream(
        self, item: Item, route: Route, chunks: Sequence[Any], error: BaseException | None = None
    ) -> None:
        """Record what a stream gave; `error` is what ended it early, `GeneratorExit` where its reader had enough."""
        if not self._state.recorders:
            return
        if isinstance(error, Exception):
            self._record_route(item, route, None, error)
            return
        output = _sum(chunks)
        if error is None and output is not None:
            route = route.copy()  # the consumer has the other one already
            item.note_output(route, output)
        failed = None if isinstance(error, GeneratorExit) else error
        self._record_route(item, route, output, failed, cut=error is not None)

    def _without_context(self, value: Any) -> Any:
        if isinstance(value, Mapping) and self.context_key in value:
            return {k: v for k, v in value.items() if k != self.context_key}
        return value

    # --- shadow and audits --------------------------------------------------------------------------------------

    def _jobs(self, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        return [i for i in items if i.settings.mode == "shadow"], [i for i in items if i.audited]

    def _after(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        """Start what no reply waits for."""
        shadows, audits = self._jobs(items)
        if shadows:
            self._later(lambda: self._shadow(shadows), len(shadows))
        if audits:
            self._later(lambda: self._audit(audits, kwargs), len(audits))

    async def _aafter(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        shadows, audits = self._jobs(items)
        if shadows:
            await self._alater(lambda: self._ashadow(shadows), len(shadows))
        if audits:
            await self._alater(lambda: self._aaudit(audits, kwargs), len(audits))

    async def _alater(self, job: Callable[[], Coroutine[Any, Any, None]], size: int) -> None:
        if self.background:
            self._workers().spawn(job, size)
        else:
            with contextlib.suppress(Exception):
                await job()

    def _later(self, job: Callable[[], None], size: int) -> None:
        if self.background:
            self._workers().submit(job, size)
        else:
            with contextlib.suppress(Exception):
                job()

    def _workers(self) -> Background:
        with self._state.lock:
            if self._state.background is None:
                self._state.background = Background(self.background_workers, self.background_limit)
            return self._state.background

    def _shadow(self, items: Sequence[Item]) -> None:
        """Ask every small model, whatever the first says: a certificate wants all of them."""
        configs = [self._background_config(i) for i in items]
        values = [i.input for i in items]
        asked = []
        for model, asker in enumerate(self._state.askers):
            started = time.perf_counter()
            with _apart(items[0].config):
                asked.append(asker.ask(values, *self._shadow_configs(model, configs)))
            self._tell_time(items, model, time.perf_counter() - started)
        self._record_shadow(items, asked)

    async def _ashadow(self, items: Sequence[Item]) -> None:
        configs = [self._background_config(i) for i in items]
        values = [i.input for i in items]
        asked = []
        for model, asker in enumerate(self._state.askers):
            started = time.perf_counter()
            with _apart(items[0].config):
                asked.append(await asker.aask(values, *self._shadow_configs(model, configs)))
            self._tell_time(items, model, time.perf_counter() - started)
        self._record_shadow(items, asked)

    def _shadow_configs(
        self, model: int, configs: list[RunnableConfig]
    ) -> tuple[list[RunnableConfig] | None, RunnableConfig | None]:
        name = self._state.names[model]
        named = [RunnableConfig(**{**c, "tags": [*(c.get("tags") or []), name, "nostream"]}) for c in configs]
        if self._state.models[model].traces_calls:
            return named, None
        return None, named[0] if named[0]["callbacks"] else None

    def _record_shadow(self, items: Sequence[Item], asked: Sequence[Sequence[Answer | Exception]]) -> None:
        if not self._state.recorders:
            return
        state = self._state
        for place, item in enumerate(items):
            results = [answers[place] for answers in asked]
            live = Settings(item.settings.thresholds, "live", 0.0)
            would = Item(item.input, item.config, item.run, live, item.route_id)
            steps = self._steps([would])
            with contextlib.suppress(StopIteration):
                model, _ = next(steps)
                while True:
                    model, _ = steps.send([results[model]])
            row = Row(kind="shadow", route_id=item.route_id, router=self.get_name(), answers=[])
            for name, part, result in zip(state.names, state.models, results, strict=True):
                checked = judge(result, part.labels, state.score)
                if isinstance(checked, Exception):
                    row.setdefault("errors", {})[name] = describe_error(checked)
                else:
                    row["answers"].append(checked)
            row["route"] = would.route(state.names)
            self._record(row)

    def _audit(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        """Ask the large chain, with the plain prompt, about inputs that were answered locally."""
        with _apart(items[0].config):
            outputs = self.large.batch(
                [self._for_large(i.input, EscalationContext(None, {})) for i in items],
                [self._audit_config(i) for i in items],
                return_exceptions=True,
                **kwargs,
            )
        self._record_audits(items, outputs)

    async def _aaudit(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        with _apart(items[0].config):
            outputs = await self.large.abatch(
                [self._for_large(i.input, EscalationContext(None, {})) for i in items],
                [self._audit_config(i) for i in items],
                return_exceptions=True,
                **kwargs,
            )
        self._record_audits(items, outputs)

    def _record_audits(self, items: Sequence[Item], outputs: Sequence[Any]) -> None:
        if not self._state.recorders:
            pass_on(outputs)
            return
        for item, output in zip(items, outputs, strict=True):
            row = Row(kind="audit", route_id=item.route_id, router=self.get_name(), answers=item.answers)
            if isinstance(output, BaseException):
                row["error"] = f"large: {describe_error(output)}"
            else:
                row["output"] = output
            self._count(row, item.audit_meter, output)
            self._record(row)
        pass_on(outputs)

    def _audit_config(self, item: Item) -> RunnableConfig:
        config = self._background_config(item)
        item.audit_meter = UsageMeter(background=True)
        return {**config, "callbacks": [*cast("list[Any]", config["callbacks"]), item.audit_meter]}

    def _background_config(self, item: Item) -> RunnableConfig:
        """A config for work whose run has ended: runs of its own, for the same handlers, tagged.

        Streaming handlers are left out, since a stream shows one answer; so are a graph's internals.
        """
        from langchain_core.tracers._streaming import _StreamingCallbackHandler

        manager = item.run.get_child()
        config = RunnableConfig(
            callbacks=[h for h in manager.inheritable_handlers if not isinstance(h, _StreamingCallbackHandler)],
            tags=[*manager.inheritable_tags, BACKGROUND_TAG],
            metadata={**manager.inheritable_metadata, "dsplus_route_id": item.route_id},
            configurable={
                # A check must not write into the user's own thread or history.
                key: f"dsplus-{item.route_id}" if key in {"thread_id", "session_id"} else value
                for key, value in (item.config.get("configurable") or {}).items()
                if not key.startswith(("__pregel", "checkpoint"))
            },
        )
        if item.config.get("max_concurrency") is not None:
            config["max_concurrency"] = item.config["max_concurrency"]
        return config


_NOTHING: Any = object()


@contextlib.contextmanager
def _apart(config: RunnableConfig) -> Iterator[None]:
    """Hold off what LangChain keeps in the context about the runs around the router.

    A Runnable with something bound to it (`bind`, `with_retry`) takes its parent run from there before it looks at the
    config that it is given, and so would hang beside the router in a trace, not below it.
    """
    own = {"callbacks", "run_name", "run_id"}
    token = var_child_runnable_config.set(cast("RunnableConfig", {k: v for k, v in config.items() if k not in own}))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


def _each_apart(config: RunnableConfig, source: Iterator[Any]) -> Generator[Any, None, None]:
    """The same for every step of an iterator, and never while its consumer works; the iterator is closed at the end.

    LangChain's waits there for threads, so it must not be left to whichever thread collects garbage.
    """
    try:
        while True:
            with _apart(config):
                item = next(source, _NOTHING)
            if item is _NOTHING:
                return
            yield item
    finally:
        if isinstance(source, Generator):
            source.close()


async def _aeach_apart(config: RunnableConfig, source: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """Async twin of `_each_apart`."""
    try:
        while True:
            with _apart(config):
                item = await anext(source, _NOTHING)
            if item is _NOTHING:
                return
            yield item
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


class _State:
    """What a router derives from its fields, and what changes while it runs."""

    def __init__(self, router: ConfidenceRouter, before: _State | None = None) -> None:
        parts = list(router.small) if isinstance(router.small, (list, tuple)) else [router.small]
        if not parts:
            msg = "`small` needs at least one small model"
            raise ValueError(msg)
        self.models = [as_small_model(part) for part in parts]
        self.names = distinct_names(self.models)
        if LARGE_TAG in self.names:
            msg = f"a small model must not be named {LARGE_TAG!r}: routes could not tell who answered"
            raise ValueError(msg)
        self.certified: tuple[float, ...] | None = None
        self.unverifiable: tuple[str, ...] = ()
        self.void: tuple[str, ...] = ()
        self.reported: ReportedNames | None = None
        certificate = router.threshold if isinstance(router.threshold, Certificate) else None
        threshold = router.threshold if certificate is None else thresholds_of(certificate, self.names)
        self.settings = Settings(
            read_thresholds(threshold, self.names),
            read_mode(router.mode),
            read_rate(router.audit_rate),
        )
        self.score = None if router.score is None else resolve_score(router.score)
        self.never_local = frozenset(router.never_local)
        known = {label for model in self.models for label in model.labels}
        if all(model.labels for model in self.models) and not self.never_local <= known:
            msg = f"`never_local` names labels that no small model has: {sorted(self.never_local - known)}"
            raise ValueError(msg)
        if certificate is not None:
            self._bind(router, certificate)
        output_type = _output_type(router.large)
        local = sorted(known - self.never_local) if all(model.labels for model in self.models) else []
        self.replies = output_type is str or is_message(output_type)
        self.to_output = router.to_output or default_to_output(output_type, local)
        if router.to_output is None:
            check_labels(self.to_output, output_type, local)
            check_chain_labels(self.models, router.large)
        if router.small_timeout is not None and not router.small_timeout > 0:
            msg = "`small_timeout` must be a positive number of seconds, or None"
            raise ValueError(msg)
        if router.recorder is not None and (
            not isinstance(router.recorder, Recorder) or inspect.iscoroutinefunction(router.recorder.record)
        ):
            msg = "`recorder` needs a plain method `record(row)`; for a file: `JSONLRecorder(path)`"
            raise TypeError(msg)
        if router.monitor is not None and not all(hasattr(router.monitor, name) for name in ("record", "limit")):
            msg = "`monitor` must be an `AuditMonitor`"
            raise TypeError(msg)
        watched = getattr(router.monitor, "certificate", None)
        if watched is not None:
            wanted = thresholds_of(watched, self.names)
            if certificate is not None and wanted != threshold:
                msg = "`monitor` watches another certificate than `threshold`: pass the same to both"
                raise ValueError(msg)
        if router.pacer is not None and not all(hasattr(router.pacer, name) for name in ("escalate", "count")):
            msg = "`pacer` must be a `BudgetPacer`"
            raise TypeError(msg)
        parts = [router.recorder, *([] if router.monitor is router.recorder else [router.monitor])]
        self.recorders = [part for part in parts if part is not None]
        self.askers = [
            Asker(
                model,
                name,
                timeout=router.small_timeout,
                batch_wait=router.batch_wait,
                batch_size=router.batch_size,
            )
            for model, name in zip(self.models, self.names, strict=True)
        ]
        self.salt: bytes = secrets.token_bytes(16) if before is None else before.salt
        self.lock: Any = threading.Lock() if before is None else before.lock
        self.background: Background | None = None if before is None else before.background
        self.recorder_errors: int = 0 if before is None else before.recorder_errors
        self.new_names: set[str] = set()

    def _bind(self, router: ConfidenceRouter, certificate: Certificate) -> None:
        """Take the certificate's word for the thresholds, if the parts are those it is about."""
        self.certified = self.settings.thresholds
        self.settings = replace(
            self.settings,
            plain=certificate.prompt == "plain" or not certificate.certified,
            refused=None if certificate.certified else "not_certified",
            certificate=certificate.id,
        )
        binding = bind(
            certificate,
            self.models,
            self.names,
            score=router.score,
            large=router.large,
            never_local=self.never_local,
            version=router.version,
            hidden=router.to_large is not None,
        )
        self.unverifiable = binding.unverifiable
        if binding.unverifiable:
            shown = ", ".join(binding.unverifiable)
            logger.warning(
                "nobody can tell whether these are the parts that the certificate is about: %s. Collect with "
                "`collect_outcomes`, or name them in `about=`; `version=` names what cannot be seen into",
                shown,
            )
        if binding.mismatches:
            self._mismatch(router.on_mismatch, binding.mismatches)
        names = certificate.about.get("large_reported")
        if names:
            self.reported = ReportedNames(names, partial(self._new_name, router.on_mismatch))

    def _mismatch(self, reaction: str, parts: Sequence[str]) -> None:
        msg = f"the certificate is about something else: {', '.join(parts)} differ. Collect and certify again"
        if reaction == "raise":
            raise MismatchError(msg, parts)
        warnings.warn(msg, UserWarning, stacklevel=6)
        if reaction == "escalate_all":
            self.void = tuple(parts)

    def _new_name(self, reaction: str, name: str, is_name: bool) -> None:
        """The large model has a name that the certificate has not seen: this answer was paid for, so go on."""
        with self.lock:
            if name in self.new_names:
                return
            self.new_names.add(name)
            if is_name and reaction != "warn":
                self.void = (*self.void, "large_reported")
        if not is_name:
            logger.warning("the large model has a fingerprint that the certificate has not seen: %r", name[:80])
            return
        then = "" if reaction == "warn" else ": from here on everything goes to the large model with the plain prompt"
        logger.warning("the large model now calls itself %r, which the certificate has not seen%s", name[:80], then)


def _output_type(large: Runnable[Any, Any]) -> Any:
    """The large chain's OutputType; Any where it cannot be inferred."""
    try:
        output_type = large.OutputType
    except TypeError:
        return Any
    if isinstance(output_type, str):  # a RunnableLambda in a module with `from __future__ import annotations`
        last = getattr(large, "last", large)
        function = getattr(last, "func", None) or getattr(last, "afunc", None)
        try:
            return typing.get_type_hints(function).get("return", Any)
        except (NameError, TypeError):
            return Any
    return output_type


def _listens(handler: Any) -> bool:
    """Whether a handler has an `on_custom_event` of its own."""
    from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler

    own = getattr(type(handler), "on_custom_event", None)
    inherited = (BaseCallbackHandler.on_custom_event, AsyncCallbackHandler.on_custom_event)
    return own not in inherited and not getattr(handler, "ignore_custom_event", False)


def _add(first: Any, second: Any) -> Any:
    try:
        return first + second
    except TypeError:
        return second


def _sum(chunks: Sequence[Any]) -> Any:
    """All of a stream; None where nothing came."""
    output: Any = None
    for chunk in chunks:
        if chunk is not _NOTHING:
            output = chunk if output is None else _add(output, chunk)
    return output


def _add_time(items: Sequence[Item], seconds: float) -> None:
    for item in items:
        item.small_seconds += seconds


def _raise_with(error: BaseException, finished: dict[int, Any]) -> NoReturn:
    with contextlib.suppress(AttributeError, TypeError):
        error.dsplus_finished = finished  # type: ignore[attr-defined]
        if not getattr(error, "__notes__", None):  # the same error may be raised again and again
            error.add_note(f"{len(finished)} items of this batch are finished: see the attribute `dsplus_finished`")
    raise error


__all__ = ["ConfidenceRouter", "Context", "SmallModelTimeoutError"]
