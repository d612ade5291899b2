"""`AuditMonitor`: notices while a router runs that its evidence no longer fits, and steps back by itself."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import failure
from langchain_dsplus.calibration import binomial_lower, binomial_upper
from langchain_dsplus.labels import ending, match_label
from langchain_dsplus.losses import Loss, parse_loss
from langchain_dsplus.monitoring.betting import BettingProcess
from langchain_dsplus.monitoring.monitor import Monitor
from langchain_dsplus.outcomes.cells import other_gold
from langchain_dsplus.outcomes.gold import GoldRules, read_labels
from langchain_dsplus.outcomes.traces import default_label
from langchain_dsplus.tags import ALARM_EVENT
from langchain_dsplus.traces.shared import SharedStateError, shared_state

if TYPE_CHECKING:
    from langchain_dsplus.monitoring.drift import DriftMonitor
    from langchain_dsplus.routing.rows import Row
    from langchain_dsplus.threshold.certificate import Certificate, Step

_NEARLY_SINGLE = 0.9
"""Groups per row from which on rows count singly: an input that now and then stands twice makes no customer of it."""

logger = logging.getLogger(__name__)

Rung: TypeAlias = Literal["warn", "tighter", "large"]
Agree: TypeAlias = Callable[[Mapping[str, Any], Any], bool | None]

_FORMAT = 1
_BLOCK = 2000
_RECENT = 200
_NEEDED = 20
_COVERAGE_SHARE = 0.1
"""Of Alarm B's error probability, what the bound of the coverage takes."""
_OWED = 200
"""Decisions after which a shared state is told of them, where no audit comes first."""
_REST_SECONDS = 5.0
"""After a failure of the shared state's database."""
_LIVE = frozenset({"confident", "unsure", "error", "never_local", "budget"})
"""Reasons of decisions that were made by the thresholds."""


class AuditStateError(ValueError):
    """A monitor's file cannot be read. It may hold an alarm, so it is never ignored."""


@dataclass(frozen=True)
class Limit:
    """What a router may still accept.

    Attributes:
        thresholds: By small model's name, at least these; None accepts nothing.
    """

    thresholds: Mapping[str, float] | None


@dataclass(frozen=True)
class Alarm:
    """One alarm.

    Attributes:
        kind: `evidence`: small and large model disagree more often than they did when it was certified, so the
            evidence no longer fits. `broken`: gold says that the loss exceeds the promise.
        message: In words.
        audits: Audits that this alarm rests on.
        observed: Share of disagreements, or net loss per accepted input, over those audits. What set the alarm off may
            have come late among them.
        allowed: What was allowed of it.
        evidence: The capital of the test by betting; 1 / evidence bounds the probability of a false alarm.
        rung: What followed: `warn`, `tighter` or `large`.
        time: When, UTC.
    """

    kind: Literal["evidence", "broken"]
    message: str
    audits: int
    observed: float
    allowed: float
    evidence: float
    rung: Rung
    time: str


class AuditMonitor(Monitor):
    """Watches the audits of a router, raises alarms that may be trusted, and steps back.

    Pass it as `ConfidenceRouter(monitor=...)` with an `audit_rate` above 0. Then it sees every decision and every
    audit, and the router obeys its `limit`. Both alarms may be looked at after every audit; nothing needs to be
    planned (betting and Ville's inequality, see `betting`).

    *Alarm A* needs no gold. Among accepted inputs, small and large model disagree more often than the upper bound of
    that share at certification. It says that the evidence no longer fits, not that the promise is broken: who is right
    where they disagree is not known. Half of 1 - level goes to the bound, half to the alarm.

    *Alarm B* needs gold where an audit disagrees (`observe_gold`); an audit that agrees loses nothing. It tests the net
    loss per accepted input against max_loss / coverage, coverage being bounded from below by what is seen. It is the
    only one that says "broken". Audits count in their order, so those behind a disagreement wait for its gold, for
    `gold_within` audits; what has none by then counts as nothing lost. So label all disagreements, or a random share.
    It knows nothing of what escalated inputs lose by a pruned prompt.

    Each alarm is false with probability 1 - level at most over the whole life of a certificate, if audited inputs are
    independent draws of the traffic. Every alarm is a warning, asks for a new certification
    (`needs_certification`), and takes one step on the ladder; Alarm B goes to its end at once.

    Args:
        certificate: What was promised, on what evidence; the router's own. After a new certification: `reset` first,
            then the router's `threshold`.
        level: Confidence of each alarm, in [0.5, 1).
        max_disagreement: Allowed share of disagreements among accepted inputs; needed without a certificate, and for
            one whose rows were grouped or held no answers.
        max_loss: Of Alarm B, `"0.5 points"` or a share below .1; by default the certificate's.
        coverage: Share of inputs accepted. By default the certificate's lower bound, and once 2,000 inputs were seen
            the lower bound of the latest such block.
        ladder: What the first, second, ... alarm does; the last is repeated. `warn` changes nothing; `tighter` goes to
            the laxest stricter step of the certificate at which the latest audits still agree as they should, a
            fallback without promise, or on to `large` if there is none; `large` sends everything to the large model
            with the plain prompt.
        path: A JSON file that keeps the state, written after every audit and as a whole: a restart forgets no alarm.
            One process per file. Another certificate starts it anew. Or the URL of a trace store's database,
            `postgresql://user@host/database#name`: processes on any hosts then count as one, an alarm is raised once,
            in the process that noticed it, and all obey within seconds. Each certificate has a state of its own there.
        agree: Whether a small model's `Answer` and the large chain's output say the same; None skips the audit. By
            default the output's text, read as one of the certificate's labels, is compared with the choice.
        gold_within: For how many later audits Alarm B waits for the gold of a disagreement.
        drift: Sees every decision too; only warns.
        on_alarm: Called with each `Alarm`, in the thread that noticed it.

    Raises:
        ValueError: If something is missing or out of range.
        AuditStateError: If the file at `path` is no state of a monitor.

    Example:
        ```python
        monitor = AuditMonitor(certificate, path="audits.json")
        router = ConfidenceRouter(small=small, large=llm, threshold=certificate, audit_rate=0.02, monitor=monitor)
        ```
    """

    def __init__(
        self,
        certificate: Certificate | None = None,
        *,
        level: float = 0.95,
        max_disagreement: float | None = None,
        max_loss: Loss | None = None,
        coverage: float | None = None,
        ladder: Sequence[Rung] = ("tighter", "large"),
        path: str | Path | None = None,
        agree: Agree | None = None,
        gold_within: int = 2000,
        drift: DriftMonitor | None = None,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        super().__init__()
        if not 0.5 <= level < 1.0:
            raise ValueError(f"`level` must lie in [0.5, 1), not {level}")
        if isinstance(ladder, str) or not ladder or set(ladder) - {"warn", "tighter", "large"}:
            raise ValueError("`ladder` must be a sequence of 'warn', 'tighter' and 'large', not empty")
        for name, value in (("max_disagreement", max_disagreement), ("coverage", coverage)):
            if value is not None and not 0.0 < value <= 1.0:
                raise ValueError(f"`{name}` must lie in (0, 1]")
        if gold_within < 0:
            raise ValueError("`gold_within` must be a number of audits, at least 0")
        if certificate is not None and not certificate.certified:
            raise ValueError("the certificate is NOT_CERTIFIED: nothing is accepted, so there is nothing to audit")
        self.gold_within = gold_within
        self.certificate = certificate
        self.level = float(level)
        self.ladder: tuple[Rung, ...] = tuple(ladder)
        self._url = path if isinstance(path, str) and "://" in path else None
        self.path = None if path is None or self._url is not None else Path(path)
        self.drift = drift
        self.on_alarm = on_alarm
        self.max_loss: float | None = None if certificate is None else certificate.max_loss
        if max_loss is not None:
            self.max_loss = parse_loss(max_loss)
        self._alpha = 1.0 - level
        self._given = max_disagreement
        self._given_coverage = coverage
        self._agree = agree or self._same
        self._labels = _labels(certificate)
        self._lock = threading.RLock()
        self._blind = False
        self._unwritten = False
        self._start()

    def _start(self) -> None:
        """Start with what is known of the certificate."""
        self._fresh()
        self._owed: list[Callable[[list[Alarm]], None]] = []
        """What a shared state does not know yet."""
        name = "audits" if self.certificate is None else f"audits {self.certificate.id}"
        self._shared = shared_state(self._url, name, rest=_REST_SECONDS)
        if self.path is not None and self.path.exists():
            try:
                self._take(load_json(self.path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise self._unreadable(error, str(self.path)) from error

    def _fresh(self) -> None:
        """Nothing seen."""
        self.audits = 0
        """Audits that could be read, under the certificate."""
        self.disagreements = 0
        """Of these, how often the large model said something else."""
        self.failed = 0
        """Audits that told nothing: the large model failed, or its output could not be read."""
        self.inputs = 0
        """Decisions seen."""
        self.accepted = 0
        """Of these, how many were answered locally by their confidence."""
        self.harms = 0
        """Disagreements where gold says that only the large model was right."""
        self.gains = 0
        """Disagreements where gold says that only the small model was right."""
        self._alarms: tuple[Alarm, ...] = ()
        self._limit: Limit | None = None
        self._block = [0, 0]
        self._blocks = 0
        self._covered: float | None = None
        self._recent: deque[tuple[list[float], bool]] = deque(maxlen=_RECENT)
        self._waiting: deque[_Waiting] = deque()
        self._open: dict[str, _Waiting] = {}
        place = self._place()
        self._evidence = BettingProcess(self._bound(place))
        self._count = [0, 0]
        """Audits and disagreements since the evidence was last started."""
        self._net = 0
        """Losses less gains among the audits that Alarm B has seen."""
        self._loss: BettingProcess | None = None
        if self.max_loss is not None and (self.certificate is not None or self._given_coverage is not None):
            self._loss = BettingProcess(self._allowed_loss(), -1.0)

    # --- what holds -------------------------------------------------------------------------------------------------

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """All so far, the oldest first."""
        self._follow()
        return self._alarms

    @property
    def limit(self) -> Limit | None:
        """What the router may still accept; None leaves its thresholds as they are."""
        self._follow()
        return self._limit

    @property
    def max_disagreement(self) -> float:
        """Allowed share of disagreements among accepted inputs, at the threshold that holds now."""
        return self._evidence.limit

    @property
    def evidence(self) -> float:
        """Against "they disagree as rarely as before": the alarm goes off at 2 / (1 - level)."""
        return float(self._evidence.evidence)

    @property
    def needs_certification(self) -> bool:
        """Whether an alarm asks for fresh outcomes and a new certificate."""
        return bool(self.alarms)

    @property
    def broken(self) -> bool:
        """Whether gold has shown that the loss exceeds the promise."""
        return any(alarm.kind == "broken" for alarm in self.alarms)

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what no run has heard yet, once: alarms, and what `drift` found."""
        yield from super().events()
        if self.drift is not None:
            yield from self.drift.events()

    # --- what is seen -----------------------------------------------------------------------------------------------

    def record(self, row: Row) -> None:
        """Take a recorder's row: decisions count for coverage and drift, audits and gold for the alarms."""
        if row["kind"] == "gold":
            gold = row.get("gold")
            if gold is not None:
                self.observe_gold(row["route_id"], gold)
            return
        if row["kind"] == "route":
            route = row.get("route")
            if route is not None and route["reason"] in _LIVE:
                self._seen(accepted=route["reason"] == "confident")
                if self.drift is not None and route["answers"]:
                    answer = route["answers"][0]
                    self.drift.observe(answer["confidence"], answer["choice"], accepted=route["reason"] == "confident")
            return
        answers = row.get("answers")
        if row["kind"] != "audit" or not answers:
            return
        same: bool | None = None
        if "error" not in row:
            try:
                same = self._agree(answers[-1], row.get("output"))
            except Exception as error:  # noqa: BLE001 - the user's, or an output that it cannot read
                failure(error)
                if not self._blind:
                    self._blind = True
                    logger.warning(
                        "an audit could not be read (%s): pass `agree=` to AuditMonitor; later ones are only counted",
                        type(error).__name__,
                    )
        if same is None:
            self._change(self._fail)
            return
        small = large = None
        if not same and self._labels:  # free text is not kept
            small, large = answers[-1]["choice"], self._label(row.get("output"))
        waiting = _Waiting(row["route_id"], small, large)
        self._observe(same, [answer["confidence"] for answer in answers], waiting)

    def observe(self, agree: bool, *, route_id: str = "", confidences: Sequence[float] = ()) -> None:
        """Take one audit: whether the large model says the same as the small one did about an accepted input.

        Args:
            agree: Whether they say the same.
            route_id: Any name for a disagreement under which `observe_loss` says later what it lost.
            confidences: Of the small models that were asked, in order; the ladder chooses its tighter step by them.
        """
        self._observe(bool(agree), confidences, _Waiting(route_id))

    def _fail(self, _: list[Alarm]) -> None:
        self.failed += 1

    def _observe(self, agree: bool, confidences: Sequence[float], waiting: _Waiting) -> None:
        def do(raised: list[Alarm]) -> None:
            self.audits += 1
            self.disagreements += not agree
            self._recent.append(([float(value) for value in confidences], agree))
            waiting.number = self.audits
            waiting.loss = 0 if agree or not waiting.route_id else None
            if waiting.loss is None:
                self._open[waiting.route_id] = waiting
            self._waiting.append(waiting)
            self._advance(raised)
            if not self._counts(confidences):
                return
            self._count[0] += 1
            self._count[1] += not agree
            evidence = self._evidence.add(0.0 if agree else 1.0)
            if evidence >= 2.0 / self._alpha:
                raised.append(self._disagree_alarm(evidence))

        self._change(do)

    def _counts(self, confidences: Sequence[float]) -> bool:
        """Whether an audit is about what is still accepted; others were under way when the ladder stepped back."""
        if self._limit is None:
            return True
        limits = self._limit.thresholds
        return limits is not None and (not confidences or _stays(confidences, list(limits.values())))

    def observe_gold(self, route_id: str, gold: Any) -> bool:
        """Take the truth about an audited input on which the two disagreed.

        Args:
            route_id: Of its Route.
            gold: The true label, or one of the `other_gold` that the certificate's table named; None, or what means
                nothing (NaN), leaves it unknown.

        Returns:
            False where no such disagreement waits for it: it agreed, was never audited, has its gold already, or that
            came too late; or the labels are not known, so that `observe_loss` has to say what was lost.

        Raises:
            ValueError: If `gold` is none of the labels: it is unknown, and no evidence that both were wrong.
        """
        if self._shared is not None:  # the audit may be another process's
            self._change(None)
        with self._lock:
            found = self._open.get(route_id)
        if found is None or found.small is None:
            return False
        about = {} if self.certificate is None else self.certificate.about
        rules = GoldRules.of(other_gold=other_gold(about))
        (truth,) = read_labels([gold], self._labels, rules, where="`gold`: ")
        if truth is None:
            return False
        return self.observe_loss(route_id, int(found.large == truth) - int(found.small == truth))

    def observe_loss(self, route_id: str, loss: int) -> bool:
        """Take what an audited, accepted input lost on which the two disagreed.

        Args:
            route_id: Of its Route, or the name that `observe` was given.
            loss: 1 where only the large model was right, -1 where only the small one was, else 0.

        Returns:
            False where no such disagreement waits for it.

        Raises:
            ValueError: If `loss` is something else.
        """
        if loss not in (-1, 0, 1):
            raise ValueError("`loss` is 1 (only the large model was right), -1 (only the small one) or 0")
        known = False

        def do(raised: list[Alarm]) -> None:
            nonlocal known
            found = self._open.pop(route_id, None)
            if found is not None:
                known = True
                found.loss = int(loss)
                self.harms += loss > 0
                self.gains += loss < 0
                self._advance(raised)

        self._change(do)
        return known

    def _advance(self, raised: list[Alarm]) -> None:
        """Let Alarm B see audits in their order, as far as is known what they lost.

        Seen in the order in which gold arrives, a batch of labels would look like a burst of losses.
        """
        while self._waiting:
            first = self._waiting[0]
            if first.loss is None:
                if self.audits - first.number < self.gold_within:
                    return
                self._open.pop(first.route_id, None)
            self._waiting.popleft()
            self._lost(first.loss or 0, raised)

    def reset(self, certificate: Certificate | None = None) -> None:
        """Forget all alarms and audits, after a new certification: then pass its certificate.

        Raises:
            ValueError: If nothing can be audited under that certificate; then nothing is forgotten.
        """
        with self._lock:
            if certificate is not None:
                AuditMonitor(certificate, level=self.level, max_disagreement=self._given)
                if self.certificate is not None and self.max_loss == self.certificate.max_loss:
                    self.max_loss = certificate.max_loss
                anew = self.certificate is None or certificate.id != self.certificate.id
                self.certificate, self._labels = certificate, _labels(certificate)
                if anew and self._url is not None:  # what other processes know of it holds
                    self._start()
                    return
            self._change(lambda _: self._fresh())

    def _seen(self, *, accepted: bool) -> None:
        def do(_: list[Alarm]) -> None:
            self._cover(accepted=accepted)

        with self._lock:
            if self._shared is None:
                self._cover(accepted=accepted)
                if self._block[0] == 0:
                    self._save()
                return
            self._owed.append(do)
            due = len(self._owed) >= _OWED
        if due:
            self._change(None)

    def _cover(self, *, accepted: bool) -> None:
        """Count one decision; after a block of them the bound of the coverage is another."""
        self.inputs += 1
        self.accepted += accepted
        self._block[0] += 1
        self._block[1] += accepted
        if self._block[0] < _BLOCK:
            return
        self._blocks += 1
        spent = self._alpha * _COVERAGE_SHARE / (self._blocks * (self._blocks + 1))
        self._covered = binomial_lower(self._block[1], self._block[0], spent)
        self._block = [0, 0]

    def _lost(self, loss: int, raised: list[Alarm]) -> None:
        if self._loss is None:
            return
        self._net += loss
        allowed = self._allowed_loss()
        evidence = self._loss.add(float(loss), allowed)
        if evidence >= 1.0 / ((1.0 - _COVERAGE_SHARE) * self._alpha) and not self.broken:
            n = self._loss.n
            observed = self._net / n
            message = (
                f"BROKEN: over {n} audits accepted inputs lost {observed:.2%} net, where {allowed:.2%} keeps the "
                f"promise. {_WHAT['large']} Collect fresh outcomes and certify again."
            )
            raised.append(self._step_back("broken", message, n, observed, allowed, evidence, "large"))

    def _disagree_alarm(self, evidence: float) -> Alarm:
        n, differing = self._count
        allowed = self._evidence.limit
        number = sum(alarm.kind == "evidence" for alarm in self._alarms)
        rung = self.ladder[min(number, len(self.ladder) - 1)]
        place = self._tighter() if rung == "tighter" else None
        if rung == "tighter" and place is None:
            rung = "large"
        message = (
            f"the evidence no longer fits: {differing} of {n} audits disagree ({differing / n:.2%}), where at most "
            f"{allowed:.2%} fits the certificate. {_WHAT[rung]} Collect fresh outcomes and certify again."
        )
        alarm = self._step_back("evidence", message, n, differing / n, allowed, evidence, rung, place)
        self._evidence = BettingProcess(allowed if place is None else self._bound(place))
        self._count = [0, 0]
        return alarm

    def _step_back(
        self,
        kind: Literal["evidence", "broken"],
        message: str,
        audits: int,
        observed: float,
        allowed: float,
        evidence: float,
        rung: Rung,
        place: int | None = None,
    ) -> Alarm:
        if rung == "large":
            self._limit = Limit(None)
        elif place is not None and (self._limit is None or self._limit.thresholds is not None):
            self._limit = Limit(dict(self._steps[place].thresholds))
        time = datetime.now(UTC).isoformat(timespec="seconds")
        alarm = Alarm(kind, message, audits, observed, allowed, float(evidence), rung, time)
        self._alarms = (*self._alarms, alarm)
        return alarm

    def _change(self, do: Callable[[list[Alarm]], None] | None) -> None:
        """Change the state and write it down; what was raised is told afterwards, outside the lock."""
        raised: list[Alarm] = []
        with self._lock:
            if self._shared is not None:
                self._change_shared(do, raised)
            else:
                if do is not None:
                    do(raised)
                self._save(surely=bool(raised))
        for alarm in raised:
            self._tell(alarm)

    def _change_shared(self, do: Callable[[list[Alarm]], None] | None, raised: list[Alarm]) -> None:
        """The same from the newest state, with all that it does not know yet."""
        assert self._shared is not None
        self._owed += [] if do is None else [do]
        done = False
        try:
            with self._shared.changing() as held:
                self._take(held.value)
                for owed in self._owed:
                    owed(raised)
                done = True
                held.value = self.to_dict()
        except (SharedStateError, AuditStateError) as error:
            # It counts here all the same, and from the newest state once that is there again.
            self._warn_once(error)
            if do is not None and not done:
                do(raised)
        else:
            self._owed.clear()
            self._unwritten = False

    def _tell(self, alarm: Alarm) -> None:
        logger.warning("%s", alarm.message)
        body = {**asdict(alarm), "certificate": None if self.certificate is None else self.certificate.id}
        if not dispatch(ALARM_EVENT, body):
            self._pending.append((ALARM_EVENT, body))
        if self.on_alarm is not None:
            try:
                self.on_alarm(alarm)
            except Exception as error:  # noqa: BLE001 - who listens never harms who counts
                failure(error)
                logger.warning("`on_alarm` failed with %s", type(error).__name__)

    # --- bounds -----------------------------------------------------------------------------------------------------

    @property
    def _steps(self) -> tuple[Step, ...]:
        return () if self.certificate is None else self.certificate.steps

    def _place(self) -> int | None:
        """The certified step, or the one that the ladder went to."""
        if self.certificate is None:
            return None
        wanted = self.certificate.thresholds
        if self._limit is not None and self._limit.thresholds is not None:
            wanted = dict(self._limit.thresholds)
        return next((place for place, step in enumerate(self._steps) if step.thresholds == wanted), None)

    def _bound(self, place: int | None) -> float:
        """Upper bound of the share of disagreements among accepted inputs at one step."""
        if self._given is not None:
            return min(self._given, 0.999)
        if self.certificate is None:
            raise ValueError(
                "pass a certificate, or `max_disagreement`: the share of disagreements that is still allowed"
            )
        groups = self.certificate.groups
        if groups is not None and groups < _NEARLY_SINGLE * self.certificate.n:
            raise ValueError(
                "the certificate's rows come in groups, which says little about single audits: pass `max_disagreement`"
            )
        step = None if place is None else self._steps[place]
        if step is None or step.disagreements is None or not step.accepted:
            raise ValueError(
                "the certificate does not say how often small and large model disagreed: pass `max_disagreement`"
            )
        return min(binomial_upper(step.disagreements, step.accepted, self._alpha / 2.0), 0.999)

    def _allowed_loss(self) -> float:
        """Net loss per accepted input that keeps the promise, at the least coverage that fits what was seen."""
        assert self.max_loss is not None
        coverage = self._given_coverage or self._covered
        if coverage is None:
            assert self.certificate is not None
            n, spent = self.certificate.n, self._alpha * _COVERAGE_SHARE / 2.0
            coverage = binomial_lower(round(self.certificate.coverage * n), n, spent)
        return min(self.max_loss / max(coverage, 1e-9), 0.999)

    def _tighter(self) -> int | None:
        """The laxest stricter certified step at which the latest audits disagree as rarely as they should."""
        here = self._place()
        if here is None or self._given is not None:
            return None
        for place in range(here - 1, -1, -1):
            step = self._steps[place]
            if not (step.passed and step.accepted):
                continue
            limits = list(step.thresholds.values())
            kept = [agree for scores, agree in self._recent if _stays(scores, limits)]
            if len(kept) >= _NEEDED and kept.count(False) / len(kept) <= self._bound(place):
                return place
        return None

    def _label(self, output: Any) -> str | None:
        """The label that the large model named, None where it named none."""
        try:
            text = default_label(output)
        except TypeError:
            return None
        return match_label(text, self._labels, finish_reason=ending(output))

    def _same(self, answer: Mapping[str, Any], output: Any) -> bool:
        text = default_label(output)
        return bool(self._label(output) == answer["choice"] if self._labels else text == answer["choice"])

    # --- the file ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        with self._lock:
            return {
                "format": _FORMAT,
                "certificate": None if self.certificate is None else self.certificate.id,
                "limit": None if self._limit is None else {"thresholds": self._plain_limit()},
                "alarms": [asdict(alarm) for alarm in self._alarms],
                "counts": {name: int(getattr(self, name)) for name in _COUNTS},
                "since": list(self._count),
                "block": [*self._block, self._blocks],
                "coverage": self._covered,
                "recent": [[scores, agree] for scores, agree in self._recent],
                "waiting": _pack(self._waiting),
                "net": self._net,
                "evidence": self._evidence.to_dict(),
                "loss": None if self._loss is None else self._loss.to_dict(),
            }

    def _plain_limit(self) -> dict[str, float | None] | None:
        assert self._limit is not None
        if self._limit.thresholds is None:
            return None
        return {name: value if math.isfinite(value) else None for name, value in self._limit.thresholds.items()}

    def _save(self, *, surely: bool = False) -> None:
        """Write the state; `surely` waits for the disk, which only an alarm is worth."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, json.dumps(self.to_dict(), allow_nan=False), durable=surely, mode=0o600)
            self._unwritten = False
        except OSError as error:
            self._warn_once(error)

    def _warn_once(self, error: Exception) -> None:
        """Say the first of a row: no answer is to fail for it."""
        if not self._unwritten:
            self._unwritten = True
            logger.warning("the state of AuditMonitor could not be written: %s", type(error).__name__)

    def _unreadable(self, error: Exception, place: str) -> AuditStateError:
        return AuditStateError(
            f"{place} is no state of an AuditMonitor ({type(error).__name__}), and may have held an alarm: restore it, "
            "or remove it to start anew"
        )

    def _follow(self) -> None:
        """Look now and then for what other processes have seen."""
        if self._shared is not None:
            self._shared.follow(self._heard)

    def _heard(self, body: Any) -> None:
        with self._lock:
            self._take(body)

    def _take(self, body: Any) -> None:
        """Go on from a state; where there is none, from nothing; where it is another certificate's, nothing changes.

        Raises:
            AuditStateError: If it is no state; then the monitor is as it was.
        """
        if body is None:
            self._fresh()
            return
        before = dict(vars(self))
        try:
            if body["format"] != _FORMAT:
                raise ValueError(f"`format` must be {_FORMAT}")
            if body["certificate"] != (None if self.certificate is None else self.certificate.id):
                logger.info("the audits in the file belong to another certificate: starting anew")
                return
            self._fresh()
            self._fill(body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            vars(self).update(before)
            place = str(self.path) if self._shared is None else repr(self._shared)
            raise self._unreadable(error, place) from error

    def _fill(self, body: Mapping[str, Any]) -> None:
        """Fill a fresh state."""
        self._alarms = tuple(Alarm(**alarm) for alarm in body["alarms"])
        for name in _COUNTS:
            setattr(self, name, int(body["counts"][name]))
        limit = body["limit"]
        if limit is not None:
            thresholds = limit["thresholds"]
            if thresholds is not None:
                thresholds = {k: math.inf if v is None else float(v) for k, v in thresholds.items()}
            self._limit = Limit(thresholds)
        *self._block, self._blocks = map(int, body["block"])
        self._covered = None if body["coverage"] is None else float(body["coverage"])
        self._recent.extend(([float(value) for value in scores], bool(agree)) for scores, agree in body["recent"])
        self._waiting.extend(_unpack(body["waiting"]))
        self._open.update((one.route_id, one) for one in self._waiting if one.loss is None)
        evidence = BettingProcess.from_dict(body["evidence"])
        if math.isclose(evidence.limit, self._bound(self._place()), rel_tol=1e-9):
            self._evidence, self._count = evidence, [int(value) for value in body["since"]]
        else:  # other settings than before: alarms stay, the evidence starts anew
            self._evidence = BettingProcess(self._bound(self._place()))
        if body["loss"] is not None and self._loss is not None:
            loss = BettingProcess.from_dict(body["loss"])
            if math.isclose(loss.limit, self._loss.limit, rel_tol=1e-9):
                self._loss, self._net = loss, int(body["net"])


_COUNTS = ("audits", "disagreements", "failed", "inputs", "accepted", "harms", "gains")
_WHAT: dict[str, str] = {
    "warn": "Nothing else was changed.",
    "tighter": "From here on a stricter threshold holds, a fallback without promise.",
    "large": "From here on everything goes to the large model with the plain prompt.",
}


def _labels(certificate: Certificate | None) -> list[str]:
    found = None if certificate is None else certificate.about.get("labels")
    if isinstance(found, Mapping):  # by small model
        return sorted({label for labels in found.values() for label in labels})
    return list(found or ())


@dataclass(slots=True)
class _Waiting:
    """An audit that Alarm B has not seen yet: it, or one before it, waits for its gold."""

    route_id: str
    small: str | None = None
    large: str | None = None
    number: int = 0
    loss: int | None = None


def _pack(waiting: Iterable[_Waiting]) -> list[list[Any]]:
    """As JSON: runs of audits that lost nothing as one entry."""
    rows: list[list[Any]] = []
    for one in waiting:
        if one.loss == 0 and rows and len(rows[-1]) == 2 and sum(rows[-1]) == one.number:
            rows[-1][1] += 1
        elif one.loss == 0:
            rows.append([one.number, 1])
        else:
            rows.append([one.number, one.loss, one.route_id, one.small, one.large])
    return rows


def _unpack(rows: Iterable[Sequence[Any]]) -> Iterator[_Waiting]:
    for row in rows:
        if len(row) == 2:
            yield from (_Waiting("", None, None, number, 0) for number in range(row[0], row[0] + row[1]))
        else:
            number, loss, route_id, small, large = row
            yield _Waiting(str(route_id), small, large, int(number), loss)


def _stays(scores: Sequence[float], limits: Sequence[float]) -> bool:
    """Whether the answer that was accepted last would be so at other thresholds, one per small model."""
    return bool(scores) and len(scores) <= len(limits) and scores[-1] > limits[len(scores) - 1]


def dispatch(event: str, body: dict[str, Any]) -> bool:
    """Send a LangChain custom event from where we are. Returns False where no run is there to carry it."""
    from langchain_core.callbacks import dispatch_custom_event

    try:
        dispatch_custom_event(event, body)
    except Exception:  # noqa: BLE001 - no run here, or a handler of the user's failed
        return False
    return True
