"""`LiveRouter`: a router around whatever version of the small model is live."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda

from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import MismatchError, failure
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.routing.decision import read_mode, safer
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.routing.rows import Recorder, Row
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.threshold.certificate import Certificate

logger = logging.getLogger(__name__)

VERSION_KEY = "small_version"
"""Under this key a recorded row names the version of the small model that answered."""
_OURS = ("small", "large", "threshold")


class Versions(Protocol):
    """What a `LiveRouter` follows; a `ModelRegistry` is one."""

    def mark(self) -> str:
        """The state in short: another one says that something changed."""

    def in_force(self) -> tuple[int, str, Certificate | None]:
        """The live version, its SHA-256 and its certificate, by one look at the state."""

    def load(self, version: int | None = None) -> SmallModel:
        """Read a version's small model; by default the live one."""


def _follows(name: str) -> Any:
    """A method or property that is, at each use, that of the router that answers then."""
    theirs = getattr(ConfidenceRouter, name)
    if isinstance(theirs, property):
        return property(lambda self: getattr(self.router, name), doc=theirs.__doc__)

    @functools.wraps(theirs)
    def call(self: LiveRouter, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.router, name)(*args, **kwargs)

    return call


class LiveRouter(Shown, Runnable[Any, Any]):
    """A `ConfidenceRouter` around the version that is live in a `ModelRegistry`; `refresh` follows a change.

    It holds a whole router and, at `refresh`, puts another in its place. A call that is under way ends with the router
    that it began with, so no answer is ever judged by another model's threshold.

    Without a certificate in force nothing stays local: the router runs in shadow, which also records the rows that a
    new certificate needs. With one, it runs in `mode`.

    Args:
        registry: The registry.
        large: The large chain.
        first: Small models that are asked before the registry's one, such as the frozen one that it was distilled from.
            The certificate is then for all of them together.
        mode: What is wanted under a certificate: `live`, `shadow` or `off`.
        strict: Whether a certificate about another large chain is an error at construction; else it counts as none, as
            it does at `refresh`.
        follow: Look every so many seconds, as calls come, whether something else is live, and follow in the background
            (with `background=False` before the call is answered). None: only `refresh` looks.
        **settings: Of `ConfidenceRouter`: `recorder`, `monitor`, `audit_rate`, ... A `monitor` is reset when the
            certificate changes; it may also be a function that makes one for a certificate.

    Raises:
        RegistryError: If no version is live, or it cannot be loaded.
        MismatchError: At construction, if `strict` and the certificate is about another large chain or prompt.
        TypeError: If a setting is unknown, or comes from the registry.

    Example:
        ```python
        router = registry.router(large=chain, recorder=store, audit_rate=0.02)
        router.invoke("where is my parcel?")
        router.refresh()  # after `dsplus promote`, from a timer or an admin endpoint
        ```
    """

    def __init__(
        self,
        registry: Versions,
        large: Any,
        *,
        first: Sequence[Any] = (),
        mode: str = "live",
        name: str | None = None,
        strict: bool = True,
        follow: float | None = None,
        **settings: Any,
    ) -> None:
        wrong = sorted(set(settings).intersection(_OURS))
        if wrong:
            raise TypeError(f"{wrong} cannot be set: they come from the registry")
        self.registry = registry
        self.name = name
        self._large = large
        self._first = list(first)
        self._mode = read_mode(mode)
        self._settings = settings
        self._follow = follow
        self._look_at = 0.0 if follow is None else time.monotonic() + follow
        self._lock = threading.Lock()
        self._mark = registry.mark()
        self._known: tuple[str, str | None] | None = None
        self._router = self._build(strict=strict)

    # --- following ----------------------------------------------------------------------------------------------

    @property
    def router(self) -> ConfidenceRouter:
        """The router that answers now."""
        if self._follow is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self._follow
            if self._settings.get("background", True):
                threading.Thread(target=self._look, name="dsplus-follow", daemon=True).start()
            else:
                self._look()
        return self._router

    def _look(self) -> None:
        """Follow; what goes wrong is told, and everything goes to the large chain until it is right again."""
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - a call that is under way must not pay for it
            logger.warning("what is live could not be followed: %s", failure(error))

    @property
    def about(self) -> dict[str, Any]:
        """What outcomes recorded now are about: `Outcomes.from_traces(rows, about=router.about)`."""
        return self._router.about

    @property
    def certificate(self) -> Certificate | None:
        """The certificate in force, if there is one."""
        return self._router.certificate

    def outcomes(self, rows: Iterable[Mapping[str, Any]], **options: Any) -> Outcomes:
        """Return the shadow rows of the version that answers now, as outcomes that `registry.certify` takes.

        Rows that another version answered, before a `refresh` or in a process that has not followed yet, are left out.

        Args:
            rows: Of the recorder: `store.rows(since=registry.live.since)`, `JSONLRecorder.read(path)`.
            **options: Of `Outcomes.from_traces`.
        """
        version = self.about["small"]
        if isinstance(version, Mapping):
            version = list(version.values())[-1]
        kept = (row for row in rows if row.get("kind") == "gold" or row.get(VERSION_KEY) == version)
        return Outcomes.from_traces(kept, **{"about": self.about, **options})

    def refresh(self) -> bool:
        """Look whether another version or certificate is live, and follow. Cheap where nothing has changed.

        Where the new state cannot be followed, everything goes to the large chain (`off`) until a later `refresh`
        succeeds, and the error is raised. A certificate that does not fit the large chain counts as none.

        Returns:
            Whether anything that matters here has changed.

        Raises:
            RegistryError: If the registry cannot be read (then all stays as it was), or the version not be loaded.
        """
        with self._lock:
            mark = self.registry.mark()
            if mark == self._mark and self._known is not None:
                return False
            before, known = self._router, self._known
            try:
                router = self._build(strict=False)
            except Exception:
                self._known = None
                self._router = _copy(before, threshold=None, mode="off", monitor=None)
                raise
            self._mark = mark
            if self._known == known:
                return False
            self._router = router
            return True

    async def arefresh(self) -> bool:
        """Async twin of `refresh`; the model is loaded in a thread."""
        import asyncio

        return await asyncio.to_thread(self.refresh)

    def _build(self, *, strict: bool) -> ConfidenceRouter:
        number, sha256, certificate = self.registry.in_force()  # one look, so that they fit together
        key = (sha256, None if certificate is None else certificate.id)
        if key == self._known:
            return self._router
        model = self.registry.load(number)
        small = [*self._first, model] if self._first else model
        router = None
        if certificate is not None:
            try:
                router = self._make(small, certificate)
            except MismatchError as error:
                if strict:
                    raise
                logger.warning("certificate %s does not fit, so nothing stays local: %s", certificate.id, error)
        self._known = key
        return self._make(small, None) if router is None else router

    def _make(self, small: Any, certificate: Certificate | None) -> ConfidenceRouter:
        settings = dict(self._settings)
        monitor: Any = settings.get("monitor")
        if certificate is None:
            settings["monitor"] = None  # what it watches is another model's
        elif callable(monitor):
            settings["monitor"] = monitor(certificate)
        elif getattr(monitor, "certificate", None) is not None and monitor.certificate.id != certificate.id:
            # Looked at without the monitor first: nothing is forgotten for a certificate that does not fit.
            self._make_with(small, certificate, {**settings, "monitor": None})
            monitor.reset(certificate)
        return self._make_with(small, certificate, settings)

    def _make_with(self, small: Any, certificate: Certificate | None, settings: dict[str, Any]) -> ConfidenceRouter:
        mode = self._mode if certificate is not None else safer(self._mode, "shadow")
        recorder = settings.get("recorder")
        if isinstance(recorder, Recorder) and recorder is not settings.get("monitor"):
            settings = {**settings, "recorder": _Stamp(recorder, small[-1] if self._first else small)}
        return ConfidenceRouter(
            small=small, large=self._large, threshold=certificate, mode=mode, name=self.name, **settings
        )

    # --- being a router -----------------------------------------------------------------------------------------

    InputType = _follows("InputType")
    OutputType = _follows("OutputType")
    config_specs = _follows("config_specs")
    get_graph = _follows("get_graph")
    invoke = _follows("invoke")
    ainvoke = _follows("ainvoke")
    batch = _follows("batch")
    abatch = _follows("abatch")
    batch_as_completed = _follows("batch_as_completed")
    abatch_as_completed = _follows("abatch_as_completed")
    stream = _follows("stream")
    astream = _follows("astream")
    transform = _follows("transform")
    atransform = _follows("atransform")
    warmup = _follows("warmup")
    drain = _follows("drain")
    adrain = _follows("adrain")

    def as_node(self, *args: Any, **kwargs: Any) -> Runnable[Any, dict[str, Any]]:
        """Return the form for a LangGraph node, as `ConfidenceRouter.as_node`; it follows a `refresh` too."""

        def node(state: Any, config: RunnableConfig) -> Any:
            bound: Any = self.router.as_node(*args, **kwargs)
            return bound.func(state, config)

        async def anode(state: Any, config: RunnableConfig) -> Any:
            bound: Any = self.router.as_node(*args, **kwargs)
            return await bound.afunc(state, config)

        return RunnableLambda(node, afunc=anode, name=self.router.get_name())


class _Stamp:
    """A recorder that says which version's answers a row holds: rows of two versions lie side by side in one store."""

    def __init__(self, recorder: Recorder, model: SmallModel) -> None:
        self.recorder = recorder
        self.version = model.version
        self.key = getattr(recorder, "key", None)

    def record(self, row: Row) -> None:
        """Write a row down, with the version."""
        self.recorder.record(cast("Row", {**row, VERSION_KEY: self.version}))


def _copy(router: ConfidenceRouter, **changes: Any) -> ConfidenceRouter:
    fields = {name: getattr(router, name) for name in type(router).model_fields}
    return ConfidenceRouter(**{**fields, **changes})
