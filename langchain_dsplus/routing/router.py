"""`ConfidenceRouter`: small models answer what they are sure of, the large model gets the rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncIterator,
    Iterator,
    Sequence,
)
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    get_config_list,
)
from langchain_core.runnables.utils import (
    ConfigurableFieldSpec,
    get_unique_config_specs,
)

from langchain_dsplus import _drive
from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import (
    Route,
    plain_mismatch,
)
from langchain_dsplus.routing.answering import answer, answer_all, triage
from langchain_dsplus.routing.decision import certificate_in
from langchain_dsplus.routing.state import Fields, State, output_type_of
from langchain_dsplus.routing.steps import present, unpack
from langchain_dsplus.routing.stream import as_completed, stream
from langchain_dsplus.small_models.base import SmallModel

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph

    from langchain_dsplus.routing.typed import RouterDecisionModel
    from langchain_dsplus.threshold.certificate import Certificate


class ConfidenceRouter(Fields):
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
            recomputes it from the probabilities. A `RouteScore` sees inputs and answers; one that needs no answer
            (`before`) is asked first, and the small models are not run for what escalates.
        mode: `live`; `shadow` (everything goes to the large chain, the small models run in the background and are
            recorded); `off` (plain prompt, small models not run). `DSPLUS_MODE` in the environment can only make it
            safer.
        audit_rate: Share of the locally answered inputs that the large chain is asked about as well, in the
            background.
        always_ask: Whether the large chain is asked about an input whoever answers it: where that is a small model, it
            is audited. For inputs that are to be a fair sample; decides by the input alone.
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
        allow_override: Whether a call's config may loosen the mode or the threshold (a number or a certificate's).
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

    __str__ = fields_in_words

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
        with plain_mismatch():
            super().__init__(*args, **kwargs)

    @cached_property
    def _state(self) -> State:
        """What is derived from the fields, in one place that is quick to read."""
        return State(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """A field that is set anew takes effect; a value that makes no sense is refused and changes nothing."""
        if name not in type(self).model_fields or "_state" not in self.__dict__:
            super().__setattr__(name, value)
            return
        before = getattr(self, name)
        super().__setattr__(name, value)
        try:
            self.__dict__["_state"] = State(self, self._state)
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
        from langchain_dsplus.routing.binding import facts

        state = self._state
        hidden = self.to_large is not None and self.version is None
        found = facts(state.models, state.names, score=self.score, large=self.large, version=self.version)
        return {name: value for name, value in found.items() if not (hidden and name in {"large", "prompt"})}

    @property
    def certificate(self) -> Certificate | None:
        """The certificate, where `threshold` is one."""
        return certificate_in(self.threshold)

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
        return dict[str, Any] if self.include_route else output_type_of(self.large)

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
        from langchain_dsplus.routing.drawing import draw

        return draw(self._state, self.get_input_schema(config), self.get_output_schema(config))

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

    def take_over(self, before: ConfidenceRouter) -> Self:
        """Go on with the background work of the router that this one replaces, so that `drain` waits for it too."""
        self._state.background = before._state.working()
        return self

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
        state = self._state
        return present(state, *_drive.run(answer(state, input, config, kwargs)))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Async twin of `invoke`; embedded small models run in an executor thread."""
        state = self._state
        return present(state, *await _drive.arun(answer(state, input, config, kwargs)))

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
        state = self._state
        plan = answer_all(state, inputs, get_config_list(config, len(inputs)), kwargs)
        return unpack(state, _drive.run(plan), return_exceptions=return_exceptions)

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
        state = self._state
        plan = answer_all(state, inputs, get_config_list(config, len(inputs)), kwargs)
        return unpack(state, await _drive.arun(plan), return_exceptions=return_exceptions)

    def batch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield `(index, output)`: the local answers first, then the large chain's as they come."""
        if inputs:
            configs = get_config_list(config, len(inputs))
            plan = as_completed(self._state, inputs, configs, kwargs, return_exceptions=return_exceptions)
            yield from _drive.iterate(plan)

    async def abatch_as_completed(
        self,
        inputs: Sequence[Any],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> AsyncIterator[tuple[int, Any]]:
        """Async twin of `batch_as_completed`."""
        if inputs:
            configs = get_config_list(config, len(inputs))
            plan = as_completed(self._state, inputs, configs, kwargs, return_exceptions=return_exceptions)
            async with contextlib.aclosing(_drive.aiterate(plan)) as pairs:
                async for pair in pairs:
                    yield pair

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
        return _drive.iterate(stream(self._state, chunks, run_manager, config, kwargs))

    def _astream(
        self,
        chunks: AsyncIterator[Any],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        return _drive.aiterate(stream(self._state, chunks, run_manager, config, kwargs))

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
        from langchain_dsplus.routing.node import make_node

        return make_node(lambda: self._state, input_key, output_key, route_key, config)

    def as_decision_model(self, question: Any, **options: Any) -> RouterDecisionModel:
        """Return the form for what takes LangChain's decision models; see `RouterDecisionModel` for the options."""
        from langchain_dsplus.routing.typed import RouterDecisionModel

        return RouterDecisionModel(lambda: self._state, question, **options)

    # --- the decision alone -------------------------------------------------------------------------------------

    def triage(self, input: Any, config: RunnableConfig | None = None) -> tuple[Any, Route]:
        """Decide without asking the large chain: for graphs whose next nodes are the large side.

        Thresholds, modes, certificate, monitor, pacer and audits hold as in `invoke`. What is accepted is recorded;
        what escalates is left to whoever answers it.

        Returns:
            The local answer, as the large chain's type, and its route. Where nothing is accepted, None and the route.
        """
        return _drive.run(triage(self._state, input, config))

    async def atriage(self, input: Any, config: RunnableConfig | None = None) -> tuple[Any, Route]:
        """Async twin of `triage`."""
        return await _drive.arun(triage(self._state, input, config))
