"""`ConfidenceRouter`: small models answer what they are sure of, the large model gets the rest."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import secrets
import threading
import time
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, cast

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import (
    ensure_config,
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    get_config_list,
    patch_config,
)
from langchain_core.runnables.utils import (
    AddableDict,
    ConfigurableFieldSpec,
    get_unique_config_specs,
)
from pydantic import ConfigDict, Field

from langchain_dsplus.answer import Answer, Context, EscalationContext, Route, is_context
from langchain_dsplus.confidence import ScoreFunction, resolve_score
from langchain_dsplus.decision import (
    Item,
    Mode,
    Settings,
    call_settings,
    decide,
    describe,
    judge,
    read_mode,
    read_rate,
    read_thresholds,
    sampled,
)
from langchain_dsplus.operations.background import Background
from langchain_dsplus.operations.recorder import Row
from langchain_dsplus.outputs import ToOutput, default_to_output, to_chunk, with_route
from langchain_dsplus.small_models.microbatch import MicroBatcher
from langchain_dsplus.small_models.runnable import as_small_model

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
    from langchain_core.runnables.graph import Graph

    from langchain_dsplus.small_models.base import SmallModel

logger = logging.getLogger(__name__)
T = TypeVar("T")

BACKGROUND_TAG = "dsplus:background"
LARGE_TAG = "large"
EVENT = "dsplus_route"
_MAX_HUNG = 8


class SmallModelTimeoutError(TimeoutError):
    """A small model took longer than `small_timeout`. Such inputs escalate."""


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
        threshold: Accept iff confidence > threshold: one number, one per small model, or a dict by name. None or
            infinity accept nothing.
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
        on_mismatch: What happens when the parts are not those of the certificate.
        allow_override: Whether a call's config may loosen the mode.
        background: False does shadow work and audits before returning, for serverless functions.
        background_workers: Threads for background work.
        background_limit: Background jobs that may wait or run; one more is skipped and counted.
        batch_wait: Seconds that concurrent `ainvoke`s may wait for each other, to share one call of the small model.
            None asks at once.
        batch_size: Inputs in such a shared call at most.
        name: Name in traces; also of this router's own settings, `dsplus_<name>_threshold` and so on.

    Raises:
        TypeError: At construction, if it cannot be told how a local answer becomes the large chain's type.
        ValueError: At construction, if a setting is malformed.

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

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    small: Any
    large: Runnable[Any, Any]
    threshold: Any = 0.97
    score: str | ScoreFunction | None = None
    mode: Mode = "live"
    audit_rate: float = 0.0
    never_local: Sequence[str] = ()
    small_timeout: float | None = None
    on_large_error: Literal["raise", "small"] = "raise"
    include_route: bool = False
    to_output: ToOutput | None = None
    to_large: Callable[[Any, Answer | None], Any] | None = None
    context_key: str = "dsplus"
    recorder: Any = None
    on_mismatch: Literal["raise", "warn", "escalate_all"] = "raise"
    allow_override: bool = False
    background: bool = True
    background_workers: int = Field(default=2, ge=1)
    background_limit: int = Field(default=256, ge=1)
    batch_wait: float | None = Field(default=None, ge=0)
    batch_size: int = Field(default=64, ge=1)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It can be dumped where its parts can."""
        return True

    def model_post_init(self, context: Any, /) -> None:
        """Check everything that can be checked before the first input."""
        super().model_post_init(context)
        if self.small_timeout is not None and not self.small_timeout > 0:
            msg = "`small_timeout` must be a positive number of seconds, or None"
            raise ValueError(msg)
        _ = self._state

    @cached_property
    def _state(self) -> _State:
        """What is derived from the fields, in one place that is quick to read."""
        return _State(self)

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
    def background_skipped(self) -> int:
        """Shadow answers and audits that were not done, since the queue was full."""
        return 0 if self._state.background is None else self._state.background.skipped

    @property
    def recorder_errors(self) -> int:
        """Rows that the recorder failed to write."""
        return self._state.recorder_errors

    @property
    def InputType(self) -> Any:  # noqa: N802
        """Anything that the small models and the large chain can read."""
        return Any

    @property
    def OutputType(self) -> Any:  # noqa: N802
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
        from langchain_core.runnables.graph import Graph  # noqa: PLC0415

        graph = Graph()
        start = graph.add_node(self.get_input_schema(config))
        end_type = self.get_output_schema(config)
        previous, label = start, None
        smalls = []
        for name, model in zip(self._state.names, self._state.models, strict=True):
            node = graph.add_node(model, id=name)
            graph.add_edge(previous, node, label)
            smalls.append(node)
            previous, label = node, "unsure"
        large = graph.add_node(self.large, id=LARGE_TAG if LARGE_TAG not in self._state.names else None)
        graph.add_edge(previous, large, "unsure", conditional=True)
        end = graph.add_node(end_type)
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

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Answer one input. Keyword arguments reach the large chain."""
        return self._present(*self._invoke(input, config, kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Async twin of `invoke`; embedded small models run in an executor thread."""
        return self._present(*await self._ainvoke(input, config, kwargs))

    def _invoke(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> tuple[Any, Route]:
        config = ensure_config(config)
        run = self._start(value, config)
        try:
            item = self._item(value, config, run)
            self._decide([item])
            if item.accepted is None:
                started = time.perf_counter()
                try:
                    result = self.large.invoke(self._large_input(item), _large_config(item), **kwargs)
                except Exception as error:  # noqa: BLE001 - judged in `_finish`
                    result = error
                item.large_seconds = time.perf_counter() - started
            else:
                result = item.output
            output, route = self._finish(item, result)
        except BaseException as error:
            run.on_chain_error(error)
            raise
        self._announce(run, route)
        self._after([item], kwargs)
        run.on_chain_end(self._present(output, route))
        return output, route

    async def _ainvoke(self, value: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> tuple[Any, Route]:
        config = ensure_config(config)
        run = await self._astart(value, config)
        try:
            item = self._item(value, config, run)
            await self._adecide([item])
            if item.accepted is None:
                started = time.perf_counter()
                try:
                    result = await self.large.ainvoke(self._large_input(item), _large_config(item), **kwargs)
                except Exception as error:  # noqa: BLE001 - judged in `_finish`
                    result = error
                item.large_seconds = time.perf_counter() - started
            else:
                result = item.output
            output, route = self._finish(item, result)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await self._aannounce(run, route)
        await self._aafter([item], kwargs)
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
            hard = [i for i in items if isinstance(i, Item) and i.accepted is None]
            answers: list[Any] = []
            if hard:
                started = time.perf_counter()
                answers = self.large.batch(
                    [self._large_input(i) for i in hard],
                    [_large_config(i) for i in hard],
                    return_exceptions=True,
                    **kwargs,
                )
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
            hard = [i for i in items if isinstance(i, Item) and i.accepted is None]
            answers: list[Any] = []
            if hard:
                started = time.perf_counter()
                answers = await self.large.abatch(
                    [self._large_input(i) for i in hard],
                    [_large_config(i) for i in hard],
                    return_exceptions=True,
                    **kwargs,
                )
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

        def close(place: int, result: tuple[Any, Route] | Exception) -> Any:
            still_open.discard(place)
            if isinstance(result, Exception):
                runs[place].on_chain_error(result)
                if return_exceptions:
                    return result
                raise result
            self._announce(runs[place], result[1])
            output = self._present(*result)
            runs[place].on_chain_end(output)
            return output

        try:
            items = self._items(inputs, configs, runs)
            self._decide([i for i in items if isinstance(i, Item)])
            self._after([i for i in items if isinstance(i, Item)], kwargs)
            hard = [p for p, i in enumerate(items) if isinstance(i, Item) and i.accepted is None]
            for place in sorted(still_open - set(hard)):
                item = items[place]
                yield (
                    place,
                    close(place, self._try_finish(item, item.output) if isinstance(item, Item) else item),
                )
            if hard:
                waiting = [cast("Item", items[p]) for p in hard]
                started = time.perf_counter()
                for number, answer in self.large.batch_as_completed(
                    [self._large_input(i) for i in waiting],
                    [_large_config(i) for i in waiting],
                    return_exceptions=True,
                    **kwargs,
                ):
                    waiting[number].large_seconds = time.perf_counter() - started
                    yield hard[number], close(hard[number], self._try_finish(waiting[number], answer))
        except BaseException as error:
            for place in still_open:
                runs[place].on_chain_error(error)
            raise

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

        async def close(place: int, result: tuple[Any, Route] | Exception) -> Any:
            still_open.discard(place)
            if isinstance(result, Exception):
                await runs[place].on_chain_error(result)
                if return_exceptions:
                    return result
                raise result
            await self._aannounce(runs[place], result[1])
            output = self._present(*result)
            await runs[place].on_chain_end(output)
            return output

        try:
            items = self._items(inputs, configs, runs)
            await self._adecide([i for i in items if isinstance(i, Item)])
            await self._aafter([i for i in items if isinstance(i, Item)], kwargs)
            hard = [p for p, i in enumerate(items) if isinstance(i, Item) and i.accepted is None]
            for place in sorted(still_open - set(hard)):
                item = items[place]
                result = self._try_finish(item, item.output) if isinstance(item, Item) else item
                yield place, await close(place, result)
            if hard:
                waiting = [cast("Item", items[p]) for p in hard]
                started = time.perf_counter()
                async for number, answer in self.large.abatch_as_completed(
                    [self._large_input(i) for i in waiting],
                    [_large_config(i) for i in waiting],
                    return_exceptions=True,
                    **kwargs,
                ):
                    waiting[number].large_seconds = time.perf_counter() - started
                    yield hard[number], await close(hard[number], self._try_finish(waiting[number], answer))
        except BaseException as error:
            for place in still_open:
                await runs[place].on_chain_error(error)
            raise

    # --- streams ------------------------------------------------------------------------------------------------

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:  # noqa: A002
        """Stream one answer, never a draft: a local answer in one chunk, the large chain's as it comes."""
        yield from self.transform(iter([input]), config, **kwargs)

    async def astream(
        self,
        input: Any,  # noqa: A002
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
        input: Iterator[Any],  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Any]:
        """Stream the answer to an input that itself arrives in chunks; deciding needs all of it."""
        yield from self._transform_stream_with_config(input, self._stream, config, **kwargs)

    async def atransform(
        self,
        input: AsyncIterator[Any],  # noqa: A002
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
        if item.accepted is not None:
            output, route = self._finish(item, item.output)
            self._announce(run_manager, route)
            self._after([item], kwargs)
            yield from self._chunks(to_chunk(output), route)
            return
        started = time.perf_counter()
        parts: list[Any] = []
        try:
            source = iter(self.large.stream(self._large_input(item), _large_config(item), **kwargs))
            first = next(source, _NOTHING)
        except Exception as error:  # noqa: BLE001 - nothing was shown yet: the small answer may still stand in
            output, route = self._finish(item, error)
            self._announce(run_manager, route)
            yield from self._chunks(to_chunk(output), route)
            return
        route = item.route(self._state.names)
        self._announce(run_manager, route)
        self._after([item], kwargs)
        yield from self._chunks(first, route)
        parts.append(first)
        try:
            for chunk in source:
                parts.append(chunk)
                yield self._wrap(chunk)
        except BaseException as error:
            if isinstance(error, Exception):
                self._record_route(item, route, None, error)
            raise
        item.large_seconds = time.perf_counter() - started
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
        if item.accepted is not None:
            output, route = self._finish(item, item.output)
            await self._aannounce(run_manager, route)
            await self._aafter([item], kwargs)
            for out in self._chunks(to_chunk(output), route):
                yield out
            return
        started = time.perf_counter()
        parts: list[Any] = []
        try:
            source = aiter(self.large.astream(self._large_input(item), _large_config(item), **kwargs))
            first = await anext(source, _NOTHING)
        except Exception as error:  # noqa: BLE001 - nothing was shown yet: the small answer may still stand in
            output, route = self._finish(item, error)
            await self._aannounce(run_manager, route)
            for out in self._chunks(to_chunk(output), route):
                yield out
            return
        route = item.route(self._state.names)
        await self._aannounce(run_manager, route)
        await self._aafter([item], kwargs)
        for out in self._chunks(first, route):
            yield out
        parts.append(first)
        try:
            async for chunk in source:
                parts.append(chunk)
                yield self._wrap(chunk)
        except BaseException as error:
            if isinstance(error, Exception):
                self._record_route(item, route, None, error)
            raise
        item.large_seconds = time.perf_counter() - started
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
        self, input_key: str | None = None, output_key: str = "output", route_key: str | None = None
    ) -> Runnable[Any, dict[str, Any]]:
        """Return the form for a LangGraph node, sync and async.

        Args:
            input_key: The state's key that holds the input; None passes the whole state.
            output_key: The state's key that gets the output.
            route_key: The state's key that gets the `Route`, if any.

        Returns:
            A Runnable from the state to an update with only those keys.

        Example:
            ```python
            graph.add_node("classify", router.as_node(input_key="text", output_key="label"))
            ```
        """
        from langchain_core.runnables import RunnableLambda  # noqa: PLC0415

        def read(state: Any) -> Any:
            if input_key is None:
                return state
            try:
                return state[input_key] if isinstance(state, Mapping) else getattr(state, input_key)
            except (KeyError, AttributeError):
                msg = f"the state has no {input_key!r} (`input_key` of the node of {self.get_name()})"
                raise KeyError(msg) from None

        def update(output: Any, route: Route) -> dict[str, Any]:
            return {output_key: output} | ({} if route_key is None else {route_key: route})

        def node(state: Any, config: RunnableConfig) -> dict[str, Any]:
            return update(*self._invoke(read(state), config, {}))

        async def anode(state: Any, config: RunnableConfig) -> dict[str, Any]:
            return update(*await self._ainvoke(read(state), config, {}))

        return RunnableLambda(node, afunc=anode, name=self.get_name())

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
        )
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
                results = self._ask(model, [i.input for i in pending], self._small_configs(model, pending))
                _add_time(pending, time.perf_counter() - started)
        self._localize(items)

    async def _adecide(self, items: Sequence[Item]) -> None:
        steps = self._steps(items)
        results: Sequence[Answer | Exception] | None = None
        with contextlib.suppress(StopIteration):
            while True:
                model, pending = next(steps) if results is None else steps.send(results)
                started = time.perf_counter()
                results = await self._aask(model, [i.input for i in pending], self._small_configs(model, pending))
                _add_time(pending, time.perf_counter() - started)
        self._localize(items)

    def _small_configs(self, model: int, items: Sequence[Item]) -> list[RunnableConfig] | None:
        """Child configs for a small model whose calls are traced (a chat model): tagged with its name."""
        if not self._state.models[model].traces_calls:
            return None
        name = self._state.names[model]
        configs = []
        for item in items:
            callbacks = item.run.get_child(name)
            # Keeps a small chat model's draft out of LangGraph's message stream.
            callbacks.add_tags(["nostream"], inherit=True)
            configs.append(patch_config(item.config, callbacks=callbacks))
        return configs

    def _ask(self, model: int, values: list[Any], configs: list[RunnableConfig] | None) -> Sequence[Answer | Exception]:
        part = self._state.models[model]
        try:
            if self.small_timeout is None:
                return part.answers(values, configs)
            return self._within(self.small_timeout, lambda: part.answers(values, configs))
        except Exception as error:  # noqa: BLE001 - a small model that fails escalates
            return [error] * len(values)

    async def _aask(
        self, model: int, values: list[Any], configs: list[RunnableConfig] | None
    ) -> Sequence[Answer | Exception]:
        part = self._state.models[model]
        try:
            asked: Awaitable[Sequence[Answer | Exception]]
            if self._state.batchers and len(values) == 1:
                asked = self._ask_together(model, values[0], configs[0] if configs else RunnableConfig())
            elif self.small_timeout is None or part.traces_calls:
                asked = part.aanswers(values, configs)
            else:
                asked = asyncio.wrap_future(self._in_thread(lambda: part.answers(values, configs)))
            if self.small_timeout is None:
                return await asked
            try:
                return await asyncio.wait_for(asked, self.small_timeout)
            except TimeoutError:
                raise self._timed_out() from None
        except Exception as error:  # noqa: BLE001 - a small model that fails escalates
            return [error] * len(values)

    async def _ask_together(self, model: int, value: Any, config: RunnableConfig) -> list[Answer | Exception]:
        return [await self._state.batchers[model].ask(value, config)]

    def _timed_out(self) -> SmallModelTimeoutError:
        return SmallModelTimeoutError(f"no answer within {self.small_timeout:g} s")

    def _within(self, seconds: float, job: Callable[[], T]) -> T:
        """Run a job in a thread and stop waiting after some time; the thread itself cannot be stopped."""
        future = self._in_thread(job)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            if future.done():  # the job's own error
                raise
            raise self._timed_out() from None

    def _in_thread(self, job: Callable[[], T]) -> Future[T]:
        """Run a job in a daemon thread, so that one that hangs holds up neither an executor nor the exit."""
        state = self._state
        with state.lock:
            if state.hung >= _MAX_HUNG:  # do not pile up threads behind a model that hangs
                raise self._timed_out()
            state.hung += 1
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on a cancelled waiter leaves it alone
        context = contextvars.copy_context()

        def work() -> None:
            try:
                result = context.run(job)
            except Exception as error:  # noqa: BLE001
                future.set_exception(error)
            else:
                future.set_result(result)
            finally:
                with state.lock:
                    state.hung -= 1

        threading.Thread(target=work, name="dsplus-small", daemon=True).start()
        return future

    def _localize(self, items: Sequence[Item]) -> None:
        """Turn accepted answers into the large chain's type; one that cannot be turned escalates."""
        for item in items:
            if item.accepted is None:
                continue
            try:
                item.output = self._state.to_output(item.answers[-1], item.input)
            except Exception as error:  # noqa: BLE001
                logger.warning("`to_output` failed with %s: the input escalates", type(error).__name__)
                item.accepted = None
                item.failed = True
                item.reason = "error"
                item.error = f"to_output: {describe(error)}"
            else:
                item.audited = sampled(item.route_id, self._state.salt, item.settings.audit_rate)

    def _large_input(self, item: Item) -> Any:
        return self._for_large(item.input, item.escalation())

    def _for_large(self, value: Any, context: EscalationContext) -> Any:
        if self.to_large is not None:
            return self.to_large(value, context["answer"])
        if isinstance(value, Mapping):
            return {**value, self.context_key: context}
        return value

    def _finish(self, item: Item, result: Any) -> tuple[Any, Route]:
        """Turn what came back into the output and its route; record it; raise what must be raised."""
        error = result if isinstance(result, Exception) else None
        if error is not None:
            stand_in = self._stand_in(item, error)
            if stand_in is None:
                self._record_route(item, item.route(self._state.names), None, error)
                raise error
            item.degraded, result = stand_in
            item.error = f"large: {describe(error)}"
            logger.warning("the large model failed with %s: the small answer stands in", type(error).__name__)
        route = item.route(self._state.names)
        self._record_route(item, route, result, None)
        return with_route(result, route), route

    def _try_finish(self, item: Item, result: Any) -> tuple[Any, Route] | Exception:
        try:
            return self._finish(item, result)
        except Exception as error:  # noqa: BLE001
            return error

    def _stand_in(self, item: Item, error: Exception) -> tuple[int, Any] | None:
        """The small answer in place of a failed large one, where that is wanted and there is one."""
        if self.on_large_error != "small" or item.failed or not item.answers:
            return None
        if any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__):
            return None  # an interrupt of LangGraph is no failure
        answer = item.answers[-1]
        if answer["choice"] in self._state.never_local:
            return None
        try:
            return len(item.answers) - 1, self._state.to_output(answer, item.input)
        except Exception:  # noqa: BLE001
            return None

    def _gather(self, items: Sequence[Any], hard: Sequence[Item], answers: Sequence[Any]) -> list[Any]:
        """Per input `(output, route)` or its exception, in order."""
        by_item = {id(item): answer for item, answer in zip(hard, answers, strict=True)}
        return [
            self._try_finish(item, by_item.get(id(item), item.output)) if isinstance(item, Item) else item
            for item in items
        ]

    def _unpack(self, results: Sequence[Any], *, return_exceptions: bool) -> list[Any]:
        outputs = [r if isinstance(r, Exception) else self._present(*r) for r in results]
        error = next((r for r in results if isinstance(r, Exception)), None)
        if error is not None and not return_exceptions:
            finished = {i: out for i, out in enumerate(outputs) if not isinstance(out, Exception)}
            _raise_with(error, finished)
        return outputs

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

    async def _aannounce(self, run: AsyncCallbackManagerForChainRun, route: Route) -> None:
        if any(_listens(handler) for handler in run.handlers):
            await run.get_child().on_custom_event(EVENT, route, run_id=run.run_id)

    def _record(self, row: Row) -> None:
        try:
            self.recorder.record(row)
        except Exception as error:  # noqa: BLE001 - a broken recorder never breaks an answer
            with self._state.lock:
                self._state.recorder_errors += 1
                first = self._state.recorder_errors == 1
            if first:
                logger.warning("the recorder failed with %s; later failures are only counted", type(error).__name__)

    def _record_route(self, item: Item, route: Route, output: Any, error: Exception | None) -> None:
        if self.recorder is None:
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
            row["error"] = f"large: {describe(error)}"
        usage = getattr(output, "usage_metadata", None)
        if usage:
            row["usage"] = dict(usage)
        self._record(row)

    def _record_stream(self, item: Item, route: Route, chunks: Sequence[Any]) -> None:
        if self.recorder is None:
            return
        whole: Any = None
        for chunk in chunks:
            if chunk is not _NOTHING:
                whole = chunk if whole is None else _add(whole, chunk)
        self._record_route(item, route, whole, None)

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
            self._later(lambda: self._shadow(shadows))
        if audits:
            self._later(lambda: self._audit(audits, kwargs))

    async def _aafter(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        shadows, audits = self._jobs(items)
        if shadows:
            await self._alater(lambda: self._ashadow(shadows))
        if audits:
            await self._alater(lambda: self._aaudit(audits, kwargs))

    async def _alater(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.background:
            self._workers().spawn(job)
        else:
            with contextlib.suppress(Exception):
                await job()

    def _later(self, job: Callable[[], None]) -> None:
        if self.background:
            self._workers().submit(job)
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
        asked = []
        configs = [self._background_config(i) for i in items]
        for model in range(len(self._state.models)):
            asked.append(self._ask(model, [i.input for i in items], self._shadow_configs(model, configs)))
        self._record_shadow(items, asked)

    async def _ashadow(self, items: Sequence[Item]) -> None:
        asked = []
        configs = [self._background_config(i) for i in items]
        for model in range(len(self._state.models)):
            asked.append(await self._aask(model, [i.input for i in items], self._shadow_configs(model, configs)))
        self._record_shadow(items, asked)

    def _shadow_configs(self, model: int, configs: list[RunnableConfig]) -> list[RunnableConfig]:
        name = self._state.names[model]
        return [{**c, "tags": [*(c.get("tags") or []), name]} for c in configs]

    def _record_shadow(self, items: Sequence[Item], asked: Sequence[Sequence[Answer | Exception]]) -> None:
        if self.recorder is None:
            return
        for place, item in enumerate(items):
            row = Row(kind="shadow", route_id=item.route_id, router=self.get_name(), answers=[])
            for model, results in zip(self._state.models, asked, strict=True):
                checked = judge(results[place], model.labels, self._state.score)
                if isinstance(checked, Exception):
                    row["error"] = describe(checked)
                    break
                row["answers"].append(checked)
            self._record(row)

    def _audit(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        """Ask the large chain, with the plain prompt, about inputs that were answered locally."""
        outputs = self.large.batch(
            [self._for_large(i.input, EscalationContext(None, {})) for i in items],
            [self._background_config(i) for i in items],
            return_exceptions=True,
            **kwargs,
        )
        self._record_audits(items, outputs)

    async def _aaudit(self, items: Sequence[Item], kwargs: dict[str, Any]) -> None:
        outputs = await self.large.abatch(
            [self._for_large(i.input, EscalationContext(None, {})) for i in items],
            [self._background_config(i) for i in items],
            return_exceptions=True,
            **kwargs,
        )
        self._record_audits(items, outputs)

    def _record_audits(self, items: Sequence[Item], outputs: Sequence[Any]) -> None:
        if self.recorder is None:
            return
        for item, output in zip(items, outputs, strict=True):
            row = Row(kind="audit", route_id=item.route_id, router=self.get_name(), answers=item.answers)
            if isinstance(output, Exception):
                row["error"] = f"large: {describe(output)}"
            else:
                row["output"] = output
                usage = getattr(output, "usage_metadata", None)
                if usage:
                    row["usage"] = dict(usage)
            self._record(row)

    def _background_config(self, item: Item) -> RunnableConfig:
        """A config for work whose run has ended: runs of its own, for the same handlers, tagged.

        Streaming handlers are left out, since a stream shows one answer; so are a graph's internals.
        """
        from langchain_core.tracers._streaming import _StreamingCallbackHandler  # noqa: PLC0415

        manager = item.run.get_child()
        config = RunnableConfig(
            callbacks=[h for h in manager.inheritable_handlers if not isinstance(h, _StreamingCallbackHandler)],
            tags=[*manager.inheritable_tags, BACKGROUND_TAG],
            metadata={**manager.inheritable_metadata, "dsplus_route_id": item.route_id},
            configurable={
                key: value
                for key, value in (item.config.get("configurable") or {}).items()
                if not key.startswith(("__pregel", "checkpoint"))
            },
        )
        if item.config.get("max_concurrency") is not None:
            config["max_concurrency"] = item.config["max_concurrency"]
        return config


_NOTHING: Any = object()


def _large_config(item: Item) -> RunnableConfig:
    return patch_config(item.config, callbacks=item.run.get_child(LARGE_TAG))


class _State:
    """What a router derives from its fields, and what changes while it runs."""

    def __init__(self, router: ConfidenceRouter) -> None:
        parts = list(router.small) if isinstance(router.small, (list, tuple)) else [router.small]
        if not parts:
            msg = "`small` needs at least one small model"
            raise ValueError(msg)
        self.models = [as_small_model(part) for part in parts]
        self.names = _distinct_names(self.models)
        self.settings = Settings(
            read_thresholds(router.threshold, self.names),
            read_mode(router.mode),
            read_rate(router.audit_rate),
        )
        self.score = None if router.score is None else resolve_score(router.score)
        self.never_local = frozenset(router.never_local)
        known = {label for model in self.models for label in model.labels}
        if all(model.labels for model in self.models) and not self.never_local <= known:
            msg = f"`never_local` names labels that no small model has: {sorted(self.never_local - known)}"
            raise ValueError(msg)
        self.to_output = router.to_output or default_to_output(_output_type(router.large))
        self.batchers: list[MicroBatcher] = []
        if router.batch_wait is not None:
            self.batchers = [
                MicroBatcher(model, max_wait=router.batch_wait, max_size=router.batch_size) for model in self.models
            ]
        self.salt = secrets.token_bytes(16)
        self.lock = threading.Lock()
        self.background: Background | None = None
        self.hung = 0
        self.recorder_errors = 0


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


def _distinct_names(models: Sequence[SmallModel]) -> list[str]:
    names: list[str] = []
    for model in models:
        base = name = model.name or "small"
        number = 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names.append(name)
    return names


def _listens(handler: Any) -> bool:
    """Whether a handler has an `on_custom_event` of its own."""
    from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler  # noqa: PLC0415

    own = getattr(type(handler), "on_custom_event", None)
    inherited = (BaseCallbackHandler.on_custom_event, AsyncCallbackHandler.on_custom_event)
    return own not in inherited and not getattr(handler, "ignore_custom_event", False)


def _add(first: Any, second: Any) -> Any:
    try:
        return first + second
    except TypeError:
        return second


def _add_time(items: Sequence[Item], seconds: float) -> None:
    for item in items:
        item.small_seconds += seconds


def _raise_with(error: Exception, finished: dict[int, Any]) -> NoReturn:
    with contextlib.suppress(AttributeError, TypeError):
        error.dsplus_finished = finished  # type: ignore[attr-defined]
        error.add_note(f"{len(finished)} items of this batch are finished: see the attribute `dsplus_finished`")
    raise error


__all__ = ["ConfidenceRouter", "Context", "SmallModelTimeoutError"]
