"""What a transfer and a chain of transfers have in common: keys, certificate, audits, and what is said once."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_dsplus import _drive
from langchain_dsplus._drive import Call, Plan
from langchain_dsplus._planned import Planned
from langchain_dsplus._shared import Shared
from langchain_dsplus.answer import is_context, pass_on
from langchain_dsplus.costs.usage import reported_by
from langchain_dsplus.identity import identify
from langchain_dsplus.monitoring.audit import AuditMonitor
from langchain_dsplus.outcomes import default_label
from langchain_dsplus.routing.background import Background
from langchain_dsplus.state import emit
from langchain_dsplus.tags import BACKGROUND_TAG, TRANSFER_EVENT
from langchain_dsplus.transfer.certificate import TransferCertificate
from langchain_dsplus.transfer.records import TransferRecord, told

logger = logging.getLogger(__name__)

STATEMENT = "STATEMENT OF ONE PARTY"
"""What a text is called in the marked lines around it."""


class Transferring(Planned[dict[str, Any], dict[str, Any]]):
    """The base of `PromptTransfer` and `Decompose`: what may go on, and how that is watched.

    Args:
        input_key: Where the text is.
        output_key: Where the text for the large model goes. May be the same.
        record_key: Where the `TransferRecord` goes; None leaves it out.
        label: Put what goes on between marked lines that say this of it, so that an instruction inside does not reach
            the large model unmarked. None leaves that to whoever writes the prompt (`quote_untrusted`).
        context_key: Where an escalation context is.
        keep_input: Whether the output holds the rest of the input too; see `as_assign`.
        certificate: A `TransferCertificate` of `certify_transfer`. Where it does not hold, the original goes on without
            a call: it is NOT_CERTIFIED, it is about another transfer (model, subtask, settings), or about another
            `large` chain. None proves nothing, and says so once in the log.
        large: The chain that follows and decides: prompt, large model, parser. A node cannot see it, so it is named
            here; it is compared with the certificate and asked by audits.
        audit_rate: Share of the transferred texts on which `large` is asked in the background about the original and,
            once more, about what was sent. Where both keep saying different things more often than at certification,
            an alarm follows, and the originals go on from then. Needs `large`.
        monitor: The `AuditMonitor` that hears of audits; by default one made from the certificate.
        version: Your own text for what the small model is, where `identify` cannot see into it.
        large_version: The same for `large`: the `version` that `certify_transfer` was given.
        name: Name in traces, and of the node.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    input_key: str = "text"
    output_key: str = "rewrite"
    record_key: str | None = "transfer"
    label: str | None = None
    context_key: str = "dsplus"
    keep_input: bool = False
    """Whether the output holds the rest of the input too; see `as_assign`."""
    certificate: Any = Field(default=None, exclude=True, repr=False)
    large: Any = Field(default=None, exclude=True, repr=False)
    audit_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    monitor: Any = Field(default=None, exclude=True, repr=False)
    version: str | None = None
    large_version: str | None = None

    _guard: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Check what belongs together."""
        super().model_post_init(context)
        if self.record_key is not None and self.record_key == self.output_key:
            raise ValueError("`record_key` and `output_key` must differ")
        if self.certificate is not None and not isinstance(self.certificate, TransferCertificate):
            raise TypeError(
                f"`certificate` must be what `certify_transfer` returns, not {type(self.certificate).__name__}"
            )
        if self.large is not None and not isinstance(self.large, Runnable):
            raise TypeError(f"`large` must be the chain that follows (a Runnable), not {type(self.large).__name__}")
        if self.audit_rate and self.large is None:
            raise ValueError("`audit_rate` needs `large`, the chain that audits ask")
        if self.monitor is not None and not isinstance(self.monitor, AuditMonitor):
            raise TypeError(f"`monitor` must be an `AuditMonitor`, not {type(self.monitor).__name__}")
        self._guard = _Guard(self)

    def as_assign(self, label: str | None = STATEMENT) -> Self:
        """The same, returning the whole input dict with the new keys added: for pipes.

        Args:
            label: What the marked lines say of the text. None leaves the text bare: mark it in your prompt then.
        """
        return self.model_copy(update={"keep_input": True, "label": self.label or label})

    def silent(self) -> Self:
        """A copy that says nothing in the log: what holds it speaks for it."""
        copy = self.model_copy()
        copy._guard = _Guard(copy, silent=True)  # noqa: SLF001 - of its own kind
        return copy

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for audits in the background. Returns False when the time ran out first."""
        return self._guard.background.drain(timeout)  # type: ignore[no-any-return]

    async def adrain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Async twin of `drain`."""
        return await self._guard.background.adrain(timeout)  # type: ignore[no-any-return]

    @property
    def audits(self) -> AuditMonitor | None:
        """Who hears of audits: the `monitor` given, or the one made from the certificate."""
        return self._guard.monitor  # type: ignore[no-any-return]

    def _tell(self, record: TransferRecord, config: RunnableConfig) -> None:
        """Tell a graph's `stream_mode="custom"`; the steps of a whole are told with it."""
        if not self._guard.quiet:
            emit(config, {"type": TRANSFER_EVENT, "node": self.name, **told(record)})

    def _read(self, value: Any) -> str:
        kind = type(self).__name__
        if not isinstance(value, Mapping):
            raise TypeError(f"{kind} needs a dict with the key {self.input_key!r}, not {type(value).__name__}")
        if self.input_key not in value:
            raise TypeError(f"the input has no key {self.input_key!r} (`input_key` of {kind} {self.name!r})")
        text = value[self.input_key]
        if not isinstance(text, str):
            raise TypeError(f"the input's {self.input_key!r} must be a str, not {type(text).__name__}")
        return text


class _Guard(Shared):
    """One for a transfer and its copies: the certificate is compared once, and things are said once."""

    def __init__(self, owner: Transferring, *, silent: bool = False) -> None:
        self.quiet = silent
        self.certificate: TransferCertificate | None = owner.certificate
        self.background = Background()
        self.monitor: AuditMonitor | None = owner.monitor
        self._lock = threading.Lock()
        self._said: set[str] = set()
        self._compared: dict[str | None, str | None] = {}
        self._random = random.Random()  # noqa: S311 - which text is audited is no secret
        if self.monitor is None and owner.audit_rate and self.certificate is not None and self.certificate.certified:
            bound = min(self.certificate.changed_upper, 0.999)
            self.monitor = AuditMonitor(max_disagreement=bound, level=self.certificate.level, ladder=("large",))

    def say(self, code: str, text: str, *values: object) -> None:
        """Log a warning, once."""
        with self._lock:
            if self.quiet or code in self._said:
                return
            self._said.add(code)
        logger.warning(text, *values)

    def refusal(self, owner: Transferring) -> str | None:
        """Why nothing is transferred now, as a reason; None where it may be."""
        if self.certificate is None:
            return self._alarm()
        if owner.label not in self._compared:  # copies differ in what they say around the text
            self._compared[owner.label] = self._compare(self.certificate, owner)
        return self._compared[owner.label] or self._alarm()

    def _alarm(self) -> str | None:
        limit = None if self.monitor is None else self.monitor.limit
        return None if limit is None else "alarm: audits disagree more often than at certification"

    def _compare(self, certificate: TransferCertificate, owner: Transferring) -> str | None:
        if not certificate.certified:
            return "not_certified: the certificate is a refusal"
        about = certificate.about
        mine = {"transfer": identify(owner).large}
        if owner.large is None:
            mine["large"] = owner.large_version
        else:
            mine["large"] = identify(owner.large, version=owner.large_version).large
        other = [n for n, found in mine.items() if None not in (found, about.get(n)) and found != about[n]]
        if other:
            return f"certificate_other: it is about another {' and another '.join(other)}"
        hidden = [name for name, found in mine.items() if None in (found, about.get(name))]
        if hidden:
            self.say(
                "hidden",
                "the certificate of the transfer %r cannot be compared with its %s: name `large=`, and give `version=` "
                "or `large_version=` where a model cannot be seen into",
                owner.name,
                " and ".join(hidden),
            )
        return None

    def strange(self, outputs: Sequence[Any]) -> str | None:
        """Whether the small model calls itself something that the certificate's replies did not."""
        known = None if self.certificate is None else self.certificate.about.get("reported")
        if not known:
            return None
        names = {reported_by(output)[0] for output in outputs} - {None}
        return None if names <= set(known) else "certificate_other: the small model reports another name"

    def sent(self, owner: Transferring, *, checked: bool) -> None:
        """Something is transferred: say once what nobody has proven."""
        if not checked:
            self.say("off", "the transfer %r checks no rewrite (fidelity='off'), as in the paper", owner.name)
        if self.certificate is None:
            self.say(
                "unproven",
                "the transfer %r changes what the large model reads, and nothing is proven about its decisions: "
                "`certify_transfer` measures them on your own cases",
                owner.name,
            )

    # --- audits -----------------------------------------------------------------------------------------------------

    def audit(
        self, owner: Transferring, update: Mapping[str, Any], value: Mapping[str, Any], original: str
    ) -> list[dict[str, Any]] | None:
        """The two inputs of an audit, in random order, or None where this text is not audited."""
        if owner.large is None or self._random.random() >= owner.audit_rate:
            return None
        base = {
            key: dict(item) if is_context(item) else item
            for key, item in {**value, **update}.items()
            if key != owner.record_key
        }
        inputs = [base, {**base, owner.output_key: original}]
        self._random.shuffle(inputs)
        return inputs

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """For runs of their own: no graph internals, no streaming handlers."""
        callbacks = config.get("callbacks")
        handlers = getattr(callbacks, "inheritable_handlers", callbacks if isinstance(callbacks, list) else [])
        from langchain_core.tracers._streaming import _StreamingCallbackHandler

        return RunnableConfig(
            callbacks=[handler for handler in handlers if not isinstance(handler, _StreamingCallbackHandler)],
            tags=[*(config.get("tags") or []), BACKGROUND_TAG],
            configurable={
                key: item
                for key, item in (config.get("configurable") or {}).items()
                if not key.startswith(("__pregel", "checkpoint")) and key not in {"thread_id", "session_id"}
            },
        )

    def later(self, owner: Transferring, inputs: list[dict[str, Any]], config: RunnableConfig) -> Call:
        """The start of an audit, in a thread or as a task: both are asked."""
        mine = self.config(config)

        def plan() -> Plan[None]:
            call = Call(owner.large.batch, owner.large.abatch, inputs, [mine, mine], return_exceptions=True)
            self._heard((yield call))

        async def aspawn() -> None:
            self.background.spawn(lambda: _drive.arun(plan()))

        return Call(lambda: self.background.submit(lambda: _drive.run(plan())), aspawn)

    def _heard(self, outputs: Sequence[Any]) -> None:
        pass_on(outputs)
        failed = next((output for output in outputs if isinstance(output, Exception)), None)
        if failed is not None:
            logger.warning("an audit of a transfer failed: %s", type(failed).__name__)
        elif self.monitor is not None:
            first, second = (_label(output) for output in outputs)
            self.monitor.observe(first == second)


def _label(output: Any) -> Any:
    try:
        return default_label(output)
    except TypeError:  # no single label: the whole output is the decision
        return output
