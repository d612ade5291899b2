"""The decision itself, without any input or output: settings, Algorithm 2, and what follows from it.

A router drives it, in sync or async code; nothing in here waits, calls a model or knows a callback.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from langchain_dsplus.answer import (
    Answer,
    EscalationContext,
    InvalidAnswerError,
    MismatchError,
    Reason,
    Route,
    describe_error,
    failure,
    with_confidence,
)
from langchain_dsplus.confidence import ScoreFunction
from langchain_dsplus.costs.usage import UsageMeter
from langchain_dsplus.tags import LARGE_TAG

if TYPE_CHECKING:
    from langchain_dsplus.threshold.certificate import Certificate

logger = logging.getLogger(__name__)

Mode: TypeAlias = Literal["live", "shadow", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)
_LOOSENESS = {"off": 0, "shadow": 1, "live": 2}
MODE_VARIABLE = "DSPLUS_MODE"
"""The kill switch: an environment variable, read at every call."""

_warned: set[str] = set()


class SettingsError(ValueError):
    """A per-call setting is malformed, or looser than the router allows."""


def read_threshold(value: Any, where: str = "threshold") -> float:
    """Check one threshold. None and infinity accept nothing. Raises SettingsError if it is no number or NaN."""
    if value is None:
        return math.inf
    if isinstance(value, float) and math.isnan(value):
        raise SettingsError(f"`{where}` must not be NaN; None accepts nothing")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
            return read_threshold(value.item(), where)
        raise SettingsError(f"`{where}` must be a number, or None to accept nothing, not {type(value).__name__}")
    # Minus infinity accepts whatever is finite; as a number it can be told from "accepts nothing" in a Route.
    return max(float(value), -sys.float_info.max)


def read_thresholds(value: Any, names: Sequence[str], where: str = "threshold") -> tuple[float, ...]:
    """Return one threshold per small model, from a number for all, a list, or a dict by name.

    Raises:
        SettingsError: If one is missing, unknown or no number.
    """
    if isinstance(value, Mapping):
        if value.keys() != set(names):
            raise SettingsError(f"`{where}` must name every small model and no other: {list(names)}, not {list(value)}")
        return tuple(read_threshold(value[name], f"{where}[{name!r}]") for name in names)
    if isinstance(value, (list, tuple)):
        if len(value) != len(names):
            raise SettingsError(f"`{where}` has {len(value)} entries for {len(names)} small models")
        return tuple(read_threshold(v, f"{where}[{i}]") for i, v in enumerate(value))
    return (read_threshold(value, where),) * len(names)


def read_mode(value: Any, where: str = "mode") -> Mode:
    """Check a mode. Raises SettingsError if there is no such mode."""
    for mode in MODES:
        if value == mode:
            return mode
    shown = repr(value) if isinstance(value, str) and len(value) < 40 else type(value).__name__
    raise SettingsError(f"`{where}` must be one of {list(MODES)}, not {shown}")


def read_rate(value: Any, where: str = "audit_rate") -> float:
    """Check a share in [0, 1]. Raises SettingsError if it is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise SettingsError(f"`{where}` must be a number from 0 to 1")
    return float(value)


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one input."""

    thresholds: tuple[float, ...]
    mode: Mode
    audit_rate: float
    plain: bool = False
    """Whether the large model gets the plain prompt, as it does under a certificate that counts on it."""
    refused: Reason | None = None
    """Why nothing stays local, where a certificate says so."""
    certificate: str | None = None
    """Under which certificate; None where the thresholds are others than its own."""


def kill_switch() -> Mode:
    """What `DSPLUS_MODE` asks for; `live` where it is not set. A word that it does not know means `off`."""
    raw = os.environ.get(MODE_VARIABLE)
    if not raw:
        return "live"
    word = raw.strip().lower()
    if word in _LOOSENESS:
        return read_mode(word)
    if raw not in _warned:
        _warned.add(raw)
        logger.warning("%s=%r is none of %s: everything goes to the large model", MODE_VARIABLE, raw, list(MODES))
    return "off"


def safer(first: Mode, second: Mode) -> Mode:
    """The safer of two modes: off before shadow before live."""
    return first if _LOOSENESS[first] <= _LOOSENESS[second] else second


def call_settings(
    base: Settings,
    configurable: Mapping[str, Any],
    *,
    router: str | None,
    names: Sequence[str],
    allow_override: bool,
    certified: tuple[float, ...] | None = None,
) -> Settings:
    """Merge a call's settings into the router's own.

    Order: configurable, then the graph runtime's context, then the constructor. `dsplus_<router>_<setting>` wins over
    `dsplus_<setting>`. `DSPLUS_MODE` can only make it safer.

    Args:
        base: The router's own.
        configurable: Of the call's config.
        router: The router's name.
        names: Of the small models.
        allow_override: Whether a call may be looser than the router.
        certified: The certificate's thresholds, where the router has one.

    Raises:
        SettingsError: If a setting is malformed, or a mode or a threshold looser than the router's own, is not
            allowed.
    """
    runtime = configurable.get("__pregel_runtime")
    context = getattr(runtime, "context", None)
    thresholds, mode, rate = base.thresholds, base.mode, base.audit_rate
    switch = kill_switch()
    if switch == "off":  # in an emergency a malformed setting must not stand in the way
        return replace(base, mode="off")
    if context is not None or any(key.startswith("dsplus_") for key in configurable):
        value = _lookup("threshold", configurable, context, router)
        if value is not None:
            thresholds = read_thresholds(value, names, "dsplus_threshold")
            # Also than a plain number: servers let their clients set configurables.
            own = base.thresholds if certified is None else certified
            looser = any(t < o for t, o in zip(thresholds, own, strict=True))
            if looser and not allow_override:
                whose = "router's" if certified is None else "certificate's"
                raise SettingsError(
                    f"`dsplus_threshold` is looser than the {whose} and was refused; construct the router with "
                    "`allow_override=True` to allow it"
                )
        value = _lookup("mode", configurable, context, router)
        if value is not None:
            mode = read_mode(value, "dsplus_mode")
            if _LOOSENESS[mode] > _LOOSENESS[base.mode] and not allow_override:
                raise SettingsError(
                    f"`dsplus_mode`={mode!r} is looser than the router's {base.mode!r} and was refused; "
                    "construct the router with `allow_override=True` to allow it"
                )
        value = _lookup("audit_rate", configurable, context, router)
        if value is not None:
            rate = read_rate(value, "dsplus_audit_rate")
    mode = safer(switch, mode)
    if (thresholds, mode, rate) == (base.thresholds, base.mode, base.audit_rate):
        return base
    same = thresholds == base.thresholds
    return replace(
        base,
        thresholds=thresholds,
        mode=mode,
        audit_rate=rate,
        # A pruned prompt was certified at the certificate's thresholds: at stricter ones more inputs would see it.
        plain=base.plain or (certified is not None and not same),
        refused=base.refused if same else None,
        certificate=base.certificate if same else None,
    )


def certificate_in(threshold: Any) -> Certificate | None:
    """The certificate, where a router's `threshold` is one; known by its fields, so that plain numbers load none."""
    return threshold if hasattr(threshold, "thresholds") and hasattr(threshold, "certified") else None


def thresholds_of(certificate: Certificate, names: Sequence[str]) -> dict[str, float]:
    """The thresholds by the router's names for its small models. Raises MismatchError if the names are others."""
    if len(names) == 1 == len(certificate.thresholds):
        return {names[0]: next(iter(certificate.thresholds.values()))}
    if set(certificate.thresholds) != set(names):
        raise MismatchError(
            f"the certificate is for small models {sorted(certificate.thresholds)}, the router has {sorted(names)}",
            ["small"],
        )
    return {name: certificate.thresholds[name] for name in names}


def limited(settings: Settings, thresholds: Mapping[str, float] | None, names: Sequence[str]) -> Settings:
    """Hold settings to what a monitor still allows: at least these thresholds by name; None accepts nothing."""
    if thresholds is not None and len(names) == 1 == len(thresholds):
        thresholds = {names[0]: next(iter(thresholds.values()))}
    if thresholds is None or not thresholds.keys() >= set(names):
        nothing = (math.inf,) * len(names)
        return replace(settings, thresholds=nothing, plain=True, refused="alarm", certificate=None)
    least = tuple(thresholds[name] for name in names)
    tighter = tuple(max(pair) for pair in zip(settings.thresholds, least, strict=True))
    if tighter == settings.thresholds:
        return settings
    return replace(settings, thresholds=tighter, certificate=None)


def _lookup(setting: str, configurable: Mapping[str, Any], context: Any, router: str | None) -> Any:
    keys = [f"dsplus_{setting}"]
    if router:
        keys.insert(0, f"dsplus_{router}_{setting}")
    for key in keys:
        if configurable.get(key) is not None:
            return configurable[key]
    for key in keys:
        value = context.get(key) if isinstance(context, Mapping) else getattr(context, key, None)
        if value is not None:
            return value
    return None


def sampled(route_id: str, salt: bytes, rate: float) -> bool:
    """Whether this decision is audited: by a keyed hash of its id, never of its content."""
    if rate <= 0.0:
        return False
    digest = hashlib.blake2b(route_id.encode(), key=salt, digest_size=8).digest()
    return int.from_bytes(digest) < rate * 2.0**64


@dataclass(slots=True)
class Item:
    """One input on its way through a router."""

    input: Any
    config: Any
    run: Any
    """The traced run of this decision: a run manager."""
    settings: Settings
    route_id: str
    answers: list[Answer] = field(default_factory=list)
    reason: Reason = "unsure"
    accepted: int | None = None
    """Which small model's answer was accepted."""
    threshold: float = math.inf
    failed: bool = False
    """Whether a small model failed: then the large model gets the plain prompt."""
    error: str | None = None
    output: Any = None
    """The local answer as the large chain's type, where one was accepted."""
    context: EscalationContext | None = None
    rated: float | None = None
    """What a score says that is asked before the small model."""
    degraded: int | None = None
    meter: UsageMeter | None = None
    """Hears the large chain's calls, where somebody records them."""
    audit_meter: UsageMeter | None = None
    audited: bool = False
    asked: bool = False
    """Whether the large chain is asked whoever answers."""
    timed: bool = True
    """False where it goes through the nodes of a graph, which do not know of each other's times."""
    small_seconds: float = 0.0
    large_seconds: float = 0.0

    def fail(self, error: Exception) -> None:
        """Escalate with the plain prompt, since a small model or a score failed."""
        self.reason = "error"
        self.error = describe_error(error)
        self.failed = True

    def escalation(self) -> EscalationContext:
        """What the large chain may know. Empty probabilities mean the plain prompt."""
        if self.context is None:
            if self.settings.mode != "live" or self.failed or not self.answers:
                self.context = EscalationContext(None, {})
            elif self.settings.plain:
                self.context = EscalationContext(None, {}, self.reason, watched=self.answers[-1])
            else:
                answer = self.answers[-1]
                # A copy: what the large chain does with it is not what was decided on.
                copy = Answer(**{**answer, "probabilities": dict(answer["probabilities"])})
                self.context = EscalationContext(copy, answer["probabilities"], self.reason)
        return self.context

    def route(self, names: Sequence[str]) -> Route:
        """The record of this decision."""
        who = self.accepted if self.degraded is None else self.degraded
        route = Route(
            route_id=self.route_id,
            model=LARGE_TAG if who is None else names[who],
            accepted=self.accepted is not None,
            threshold=self.threshold if math.isfinite(self.threshold) else None,
            answers=list(self.answers),
            reason=self.reason,
        )
        if self.settings.certificate is not None and self.reason != "budget":
            route["certificate"] = self.settings.certificate
        if self.rated is not None:
            route["score"] = self.rated
        if self.error is not None:
            route["error"] = self.error
        if self.degraded is not None:
            route["degraded"] = True
        if self.audited:
            route["audited"] = True
        if self.asked:
            route["asked"] = True
        if self.context is not None and self.context.notes:
            route.update(self.context.notes)  # type: ignore[typeddict-item]
        return route

    def note_output(self, route: Route, output: Any) -> None:
        """Add the notes that need the large model's output."""
        if self.context is None:
            return
        for name, function in self.context.later.items():
            try:
                value = function(output)
            except Exception as error:  # noqa: BLE001 - a note never costs an answer
                failure(error)
                logger.warning("the note %r of a route failed with %s", name, type(error).__name__)
            else:
                if value is not None:
                    route[name] = value  # type: ignore[literal-required]


BEFORE = -1
"""In the place of a small model's number: the score that needs no answer of one is asked."""

Asked: TypeAlias = tuple[int, list[Item]]
"""Which small model to ask, about which items."""


def decide(
    items: Sequence[Item],
    labels: Sequence[Sequence[str]],
    *,
    score: ScoreFunction | None = None,
    before: bool = False,
    never_local: frozenset[str] = frozenset(),
) -> Generator[Asked, Sequence[Answer | Exception], None]:
    """Algorithm 2 of the paper over a batch: specific, then learnable, then large.

    Yields which model to ask about which items, takes the answers, and writes the outcome into the items. Confidence
    must be strictly above the threshold.

    Args:
        items: The inputs; those not in live mode are left alone.
        labels: For every small model its labels; none means any choice counts as known.
        score: Recomputes the confidence from the probabilities.
        before: Whether a score is asked first, `BEFORE` in the place of a model. Then a small model is asked only about
            what is above its threshold.
        never_local: Labels that always escalate.
    """
    pending: list[Item] = []
    for item in items:
        if item.settings.mode == "live":
            item.reason = item.settings.refused or "unsure"
            pending.append(item)
        else:
            item.reason = item.settings.mode
    if before and (unrated := [item for item in pending if item.rated is None]):
        for item, result in zip(unrated, (yield BEFORE, unrated), strict=True):
            if isinstance(result, Exception):
                item.fail(result)
            else:
                item.rated = result["confidence"]
        pending = [item for item in pending if item.rated is not None]
    for model, known in enumerate(labels):
        for item in pending:
            item.threshold = item.settings.thresholds[model]
        asked = [item for item in pending if item.rated is None or item.rated > item.threshold]
        if not asked:
            continue
        results = yield model, asked
        for item, result in zip(asked, results, strict=True):
            checked = judge(result, known, score, item.rated)
            if isinstance(checked, Exception):
                item.fail(checked)
            else:
                item.answers.append(checked)
                if checked["confidence"] > item.threshold:
                    barred = checked["choice"] in never_local
                    item.reason, item.accepted = ("never_local", None) if barred else ("confident", model)
        pending = [item for item in pending if item.reason not in ("confident", "never_local", "error")]


def judge(
    result: Answer | Exception, known: Sequence[str], score: ScoreFunction | None, rated: float | None = None
) -> Answer | Exception:
    """Check an answer before it counts; its confidence is what a score said before, or says of the probabilities."""
    if isinstance(result, Exception):
        return result
    try:
        if rated is not None:
            result = with_confidence(result, rated)
        elif score is not None:
            confidence = float(score(dict(result["probabilities"])))
            result = {**result, "confidence": confidence}
        if not math.isfinite(result["confidence"]):
            return InvalidAnswerError("`confidence` is not finite")
        if known and result["choice"] not in known:
            return InvalidAnswerError("`choice` is a label that the small model does not have")
    except Exception as error:  # noqa: BLE001 - whatever it is, accepting needs proof
        return failure(error)
    return result
