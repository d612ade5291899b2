"""What a router derives from its fields, once, and what changes while it runs."""

from __future__ import annotations

import inspect
import logging
import secrets
import threading
import typing
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.runnables import Runnable, RunnableSerializable
from langchain_core.runnables.base import coerce_to_runnable
from pydantic import ConfigDict, Field, field_validator

from langchain_dsplus.answer import Answer, MismatchError
from langchain_dsplus.confidence import is_route_score, resolve_score
from langchain_dsplus.prompts.chain_labels import check_chain_labels
from langchain_dsplus.routing.asking import Asker
from langchain_dsplus.routing.background import Background
from langchain_dsplus.routing.decision import (
    BEFORE,
    Asked,
    Item,
    Mode,
    Settings,
    certificate_in,
    decide,
    read_mode,
    read_rate,
    read_thresholds,
    thresholds_of,
)
from langchain_dsplus.routing.outputs import ToOutput, check_labels, default_to_output, is_message
from langchain_dsplus.routing.rows import Recorder
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.runnable import as_small_model, distinct_names
from langchain_dsplus.tags import LARGE_TAG, ROUTE_KEY

if TYPE_CHECKING:
    from langchain_dsplus.routing.binding import ReportedNames
    from langchain_dsplus.threshold.certificate import Certificate

logger = logging.getLogger(__name__)


class Fields(RunnableSerializable[Any, Any]):
    """The fields of a `ConfidenceRouter`, which says what they mean."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    small: Any
    large: Runnable[Any, Any]
    threshold: Any = 0.97
    score: Any = None
    mode: Mode = "live"
    audit_rate: float = 0.0
    always_ask: Callable[[Any], bool] | None = None
    never_local: tuple[str, ...] = ()
    small_timeout: float | None = None
    on_large_error: Literal["raise", "small"] = "raise"
    include_route: bool = False
    to_output: ToOutput | None = None
    to_large: Callable[[Any, Answer | None], Any] | None = None
    context_key: str = ROUTE_KEY
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
            raise ValueError("`never_local` must be a collection of labels, not one str")  # noqa: TRY004 - pydantic turns it into its own error
        return tuple(value)


class State:
    """What a router derives from its fields, and what changes while it runs.

    Args:
        router: The fields, checked here.
        before: What it was before a field was set anew: counters and background work go on.

    Raises:
        ValueError: If a field is malformed.
        TypeError: If a part is none of what is needed, or a local answer cannot become the large chain's type.
        MismatchError: If the certificate is about other parts.
    """

    def __init__(self, router: Fields, before: State | None = None) -> None:
        self.name = router.name
        self.shown_name = router.get_name()
        self.models = _read_small(router.small)
        self.names = distinct_names(self.models)
        if LARGE_TAG in self.names:
            raise ValueError(f"a small model must not be named {LARGE_TAG!r}: routes could not tell who answered")
        self.certified: tuple[float, ...] | None = None
        self.unverifiable: tuple[str, ...] = ()
        self.void: tuple[str, ...] = ()
        self.reported: ReportedNames | None = None
        certificate = certificate_in(router.threshold)
        threshold = router.threshold if certificate is None else thresholds_of(certificate, self.names)
        self.settings = Settings(
            read_thresholds(threshold, self.names),
            read_mode(router.mode),
            read_rate(router.audit_rate),
        )
        self.score = None if router.score is None or is_route_score(router.score) else resolve_score(router.score)
        self.never_local = frozenset(router.never_local)
        known = {label for model in self.models for label in model.labels}
        named = all(model.labels for model in self.models)
        if named and not self.never_local <= known:
            raise ValueError(f"`never_local` names labels that no small model has: {sorted(self.never_local - known)}")
        self.lock: Any = threading.Lock() if before is None else before.lock
        self.new_names: set[str] = set()
        if certificate is not None:
            self._bind(router, certificate)
        self.allow_override = router.allow_override
        self._take_large(router, sorted(known - self.never_local) if named else [])
        self.askers = self._make_askers(router)
        self._take_listeners(router, certificate, threshold)
        self.salt: bytes = secrets.token_bytes(16) if before is None else before.salt
        self.in_background = router.background
        self.workers = router.background_workers, router.background_limit
        self.background: Background | None = None if before is None else before.background
        self.recorder_errors: int = 0 if before is None else before.recorder_errors

    def _take_large(self, router: Fields, labels: list[str]) -> None:
        """The large chain, and how a local answer becomes one of its own."""
        self.large = router.large
        self.on_large_error = router.on_large_error
        self.include_route = router.include_route
        self.to_large = router.to_large
        self.context_key = router.context_key
        output_type = output_type_of(router.large)
        self.replies = output_type is str or is_message(output_type)
        self.to_output = router.to_output or default_to_output(output_type, labels)
        if router.to_output is None:
            check_labels(self.to_output, output_type, labels)
            check_chain_labels(self.models, router.large)

    def _make_askers(self, router: Fields) -> dict[int, Asker]:
        """Who is asked by the number of the small model; a score that needs no answer of one is `BEFORE` them."""
        if router.small_timeout is not None and not router.small_timeout > 0:
            raise ValueError("`small_timeout` must be a positive number of seconds, or None")
        asked: dict[int, Any] = dict(enumerate(self.models))
        if self.score is None and router.score is not None:
            from langchain_dsplus.scores.protocol import around

            asked = around(router.score, asked, BEFORE)
        return {
            number: Asker(
                part,
                "score" if number == BEFORE else self.names[number],
                timeout=router.small_timeout,
                batch_wait=router.batch_wait,
                batch_size=router.batch_size,
            )
            for number, part in asked.items()
        }

    def _take_listeners(self, router: Fields, certificate: Certificate | None, threshold: Any) -> None:
        """Recorder, monitor and pacer, checked."""
        if router.recorder is not None and (
            not isinstance(router.recorder, Recorder) or inspect.iscoroutinefunction(router.recorder.record)
        ):
            raise TypeError("`recorder` needs a plain method `record(row)`; for a file: `JSONLRecorder(path)`")
        if router.monitor is not None and not all(hasattr(router.monitor, name) for name in ("record", "limit")):
            raise TypeError("`monitor` must be an `AuditMonitor`")
        watched = getattr(router.monitor, "certificate", None)
        if watched is not None:
            wanted = thresholds_of(watched, self.names)
            if certificate is not None and wanted != threshold:
                raise ValueError("`monitor` watches another certificate than `threshold`: pass the same to both")
        if router.pacer is not None and not all(hasattr(router.pacer, name) for name in ("escalate", "count")):
            raise TypeError("`pacer` must be a `BudgetPacer`")
        self.always_ask = router.always_ask
        self.monitor = router.monitor
        self.pacer = router.pacer
        parts = [router.recorder, *([] if router.monitor is router.recorder else [router.monitor])]
        self.recorders = [part for part in parts if part is not None]

    def decide(
        self, items: Sequence[Item], only: int | None = None
    ) -> Generator[Asked, Sequence[Answer | Exception], None]:
        """Algorithm 2 with these small models, or `only` one of them, see `decision.decide`."""
        labels = [m.labels for m in (self.models if only is None else [self.models[only]])]
        before = BEFORE in self.askers
        return decide(items, labels, score=self.score, before=before, never_local=self.never_local)

    def working(self) -> Background:
        """What does background work, made when it is first needed."""
        with self.lock:
            if self.background is None:
                self.background = Background(*self.workers)
            return self.background

    def _bind(self, router: Fields, certificate: Certificate) -> None:
        """Take the certificate's word for the thresholds, if the parts are those it is about."""
        from langchain_dsplus.routing.binding import ReportedNames, bind

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


def _read_small(small: Any) -> list[SmallModel]:
    parts = list(small) if isinstance(small, (list, tuple)) else [small]
    if not parts:
        raise ValueError("`small` needs at least one small model")
    return [as_small_model(part) for part in parts]


def output_type_of(large: Runnable[Any, Any]) -> Any:
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
