"""`Worker`: does what is due in a shunt's folder, beside whatever serves from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._shown import Shown
from langchain_dsplus.learning.targets import ask
from langchain_dsplus.losses import points
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.registry.state import RegistryError, now
from langchain_dsplus.routing.binding import facts
from langchain_dsplus.shunt.audits import Audits
from langchain_dsplus.shunt.folder import (
    GIVEN,
    Life,
    ShuntError,
    ShuntFolder,
    Terms,
    Use,
    close,
    end_table,
    next_alpha,
    open_use,
)
from langchain_dsplus.shunt.plan import FIRST, Bit, Evidence, Forecast, Judged, forecast
from langchain_dsplus.shunt.rows import KINDS, Ledger, PaidRow
from langchain_dsplus.shunt.training import Trained, Trainer, rare_labels, write_rows
from langchain_dsplus.threshold.exact import least_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.monitoring.audit import AuditMonitor
    from langchain_dsplus.registry.registry import ModelRegistry
    from langchain_dsplus.small_models.base import SmallModel
    from langchain_dsplus.threshold.certificate import Certificate

_FEWEST = 40
"""Rows that teach, before anything is trained."""
_GROWTH = 1.15
"""A new candidate is trained once there are this many times the rows of the last one."""
_AGAIN = 1.05
"""A candidate is judged again once this many times the certify rows are there, or labels came."""
_NEAR_LIMIT = 0.75
"""The first certification waits until it should give this part of what twice the rows would, or of `FIRST`."""
_AHEAD = 2000
"""Rows for a later certification must earn their price within so many inputs, or as many as came so far."""
_PLATEAU = 0.9
"""Where nobody tells labels it waits no longer than until it may expect this part of what twice the rows would give."""
_SOON = 0.7
"""Training begins once this share of the rows that the first certification needs at least are set apart."""
_REACH = 0.7
"""Share of the inputs, the surest first, whose disagreements are worth a label from the beginning."""


@dataclass
class Work:
    """What a call of `work` did, in words.

    Attributes:
        did: One sentence for each thing that was done, in order; empty where nothing was due.
        waits: What happens next, and what it waits for.
    """

    did: list[str] = field(default_factory=list)
    waits: str = ""

    def __bool__(self) -> bool:
        return bool(self.did)

    def __str__(self) -> str:
        return " ".join([*self.did, self.waits] if self.did else ["Nothing was due.", self.waits]).strip()


class Worker(Shown):
    """Trains, certifies, promotes, and certifies again after an alarm; one process at a time, never in a request.

    Every certification tests one policy, a version with one threshold, chosen on rows that only teach. It is written
    down with its error probability before a row that certifies is looked at, and will be tested whatever comes. As long
    as they pass, the same rows judge further policies; a refusal ends their table, and they teach from then on
    (`folder.next_alpha`). Killed at any point, the next call goes on.

    Args:
        folder: The shunt's.
        store: A `TraceStore`, where the rows are.
        registry: Of the versions.
        small: See `Trainer`.
        writer: A language model that writes rows for rare classes (`write_rows`).
        label_wait: Seconds that a certification waits for labels of its disagreements. None: a week where anybody ever
            told a label, else not at all.
        seed: Of the training.
    """

    def __init__(
        self,
        folder: ShuntFolder,
        store: Any,
        registry: ModelRegistry,
        *,
        small: SmallModel | None = None,
        writer: Any = None,
        label_wait: float | None = None,
        seed: int = 0,
    ) -> None:
        self.folder, self.store, self.registry = folder, store, registry
        self.small, self.writer, self.label_wait, self.seed = small, writer, label_wait, seed
        self._ledger: Ledger | None = None
        self._news = store.follow(kind=KINDS)
        self._audits: Audits | None = None

    @classmethod
    def open(cls, path: str | Path, *, traces: str | None = None, options: Mapping[str, Any] | None = None) -> Worker:
        """Take up a folder without its chain: what it needs to know of that, the folder says.

        Args:
            path: Of the shunt.
            traces: URL of the trace store, where it is not in the folder.
            options: Of the small model's `load`.

        Raises:
            ShuntError: If there is no shunt.
        """
        from langchain_dsplus.costs.prices import Price
        from langchain_dsplus.registry.registry import ModelRegistry
        from langchain_dsplus.traces.store import TraceStore

        folder = ShuntFolder(path)
        terms = folder.terms()
        price = None if terms.price is None else Price(**terms.price)
        store = TraceStore(folder.traces if traces is None else traces, price=price)
        return cls(folder, store, ModelRegistry(folder.models, options=options))

    def first(self) -> SmallModel | None:
        """What everything begins with, where that is not the default."""
        kind = self.folder.terms().begun_with
        if self.small is not None or kind is None:
            return self.small
        if kind == GIVEN:
            return self.registry.load(1)
        from langchain_dsplus.small_models.sentence import SentenceClassifier

        return SentenceClassifier(kind, labels=self.folder.terms().labels, input_key=self.folder.terms().input_key)

    def work(self) -> Work:
        """Do what is due, and say what was done.

        The first call reads the whole store, each later one what is new: a worker that stays (`dsplus work --every`)
        does less than one that is started anew each time.

        Raises:
            ShuntError: If another process is at work here, or the folder is damaged.
        """
        with self.folder.working():
            return _Turn(self).work()

    def ledger(self, terms: Terms) -> Ledger:
        """All rows, up to now."""
        self._ledger = self._ledger or Ledger(terms)
        for row in self._news.rows():
            self._ledger.add(row)
        return self._ledger

    def audits(self, certificate: Certificate, terms: Terms, since: str) -> AuditMonitor | None:
        """What is known of the certificate in force; None where it cannot be audited."""
        if self._audits is None or self._audits.certificate != certificate.id:
            self._audits = Audits(certificate, self.store, terms.level, since)
        return self._audits.monitor()


class _Turn:
    """One call of `work`: the state as it is now."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.folder, self.registry = worker, worker.folder, worker.registry
        self.terms: Terms = self.folder.terms()
        self.life: Life = self.folder.life()
        self.ledger = worker.ledger(self.terms)
        self.done = Work()
        self._said: tuple[Any, tuple[Any, Any, Any]] = (None, (None, None, None))
        self._held: tuple[str | None, Certificate | None] = (None, None)

    @property
    def table(self) -> list[PaidRow]:
        """Rows that certify, as far as they came."""
        return self.ledger.table(self.life["tables"][-1], None, self.terms.bound)

    @property
    def teaching(self) -> list[PaidRow]:
        """Rows that teach, as far as they came."""
        return self.ledger.learn(self.life["tables"][-1])

    @property
    def certificate(self) -> Certificate | None:
        """The one in force, read again where the registry has changed."""
        mark = self.registry.mark() if self.registry.exists else None
        if mark is not None and mark != self._held[0]:
            self._held = mark, self.registry.certificate
        return self._held[1]

    @property
    def labelling(self) -> bool:
        """Whether people tell labels here."""
        return bool(self.worker.label_wait) or any(row.gold is not None for row in self.ledger.paid())

    def work(self) -> Work:
        self._look_after()
        self._certify()
        self._learn()
        self._certify()
        self.done.waits = self._waits()
        return self.done

    # --- alarms -------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Void a certificate that an alarm or another large chain has overtaken; its rows are retired with it."""
        held = self.certificate
        if held is None:
            return
        about = {name: held.about.get(name) for name in ("large", "prompt") if held.about.get(name) is not None}
        if about and about != {name: value for name, value in self.terms.large.items() if name in about}:
            self._void("the large chain or its prompt is another one")  # its table ended with it: `ShuntFolder.begin`
            return
        message = self.folder.alarm(held.id)
        if message is None:
            monitor = self.worker.audits(held, self.terms, self._in_force_since())
            message = monitor.alarms[-1].message if monitor is not None and monitor.needs_certification else None
        if message is None:
            return
        if self.table:  # else a kill came between the two
            self.folder.retire(f"alarm: {message}")
            self.life = self.folder.life()
        self._void(f"alarm: {message}")

    def _void(self, why: str) -> None:
        self.registry.void(why)
        self.done.did.append(
            f"The certificate is void ({why}): everything goes to the large model until fresh rows certify."
        )

    def _in_force_since(self) -> str:
        entries = self.registry.live.certificates
        return entries[-1]["time"] if entries else ""

    # --- learning -----------------------------------------------------------------------------------------------

    def _due(self) -> bool:
        """Whether enough is new since the last training."""
        rows = len(self.teaching)
        needed = least_rows(self.terms.max_loss, 1.0 - next_alpha(self.life, self.terms.level))
        early = self.certificate is None and different(self.table) < _SOON * needed
        if rows + len(self.folder.gold()) < _FEWEST or early:
            return False
        return rows >= max(1, _GROWTH * self.life["learned"])

    def _learn(self) -> None:
        """Train a candidate on all that teaches, and keep it."""
        if open_use(self.life) is not None or not self._due():
            return
        rows, gold = self.teaching, self.folder.gold()
        trainer = Trainer(
            self.worker.first(), self.terms.labels, gold, written=self._written(rows, gold),
            input_key=self.terms.input_key, seed=self.worker.seed,
        )  # fmt: skip
        try:
            made = trainer.train(rows)
        except ShuntError as error:
            self.done.did.append(f"No candidate: {error}.")
            return
        self.folder.save_evidence([row._asdict() for row in made.evidence.rows])
        version = self._keep(made)
        self.life["learned"], self.life["candidate"], self.life["forecast"] = len(rows), version, {}
        self.folder.save_life(self.life)
        self.done.did.append(f"Trained version {version} on {made.rows:,} rows.")

    def _judge(self) -> bool:
        """Say what a certification of the candidate should give; where that is enough, write it down."""
        version, before = self.life["candidate"], self.life["forecast"]
        if open_use(self.life) is not None or version is None:
            return False
        table, gold = self._fresh(self.table), self._gold_count()
        n = different(table)
        if before and n < _AGAIN * before["n"] and gold == before["gold"]:
            return False
        model, held = self.registry.load(version), held_share(self.life, self.certificate)
        _, confidence, answered = self._ask(model, version, table)
        evidence = Evidence.of(
            [Judged(**{**row, "gold": self._gold_of(row["route_id"])}) for row in self.folder.evidence()],
            held or 1.0,
        )
        alpha, labelled = next_alpha(self.life, self.terms.level), 1.0 if self.labelling else 0.0
        tested = [
            Bit(use["coverage"], use["n"], use["alpha"], use["state"] == "certified")
            for use in self.life["uses"]
            if use["table"] == len(self.life["tables"]) and (use["version"] == version or use["coverage"] == held)
        ]
        price = held / max(_AHEAD, len(self.ledger.rows))
        found = forecast(evidence, n, self.terms.max_loss, alpha, labelled, held, tested, price)
        self.life["forecast"] = {**found.to_dict(), "gold": gold}
        worth = self._worth(found, held)
        threshold = cut_at(confidence[answered], found.coverage, len(table)) if worth else None
        if threshold is not None:
            self.life["uses"].append(
                Use(
                    version=version, threshold=threshold, coverage=found.coverage, alpha=alpha, n=n,
                    table=len(self.life["tables"]), until=max(row.time for row in table), opened=now(), state="open",
                )
            )  # fmt: skip
        self._wish(model, version, evidence, found, threshold)
        self.folder.asking = held > 0.0 and found.wish > n
        self.folder.save_life(self.life)
        return worth

    def _ask(self, model: SmallModel, version: int, table: list[PaidRow]) -> tuple[Any, Any, Any]:
        """What a version says of the table: once, for all steps of a chain."""
        key = (version, [row.route_id for row in table])
        if key != self._said[0]:
            self._said = key, ask(model, [row.value for row in table])
        return self._said[1]

    def _gold_of(self, route_id: str) -> str | None:
        row = self.ledger.rows.get(route_id)
        return None if row is None else row.gold

    def _gold_count(self) -> int:
        return sum(row.gold is not None for row in self.teaching)

    def _worth(self, found: Forecast, held: float) -> bool:
        """Whether a certification is worth its risk, now."""
        if found.coverage == 0.0 or held > 0.0:
            return found.coverage > 0.0
        enough = found.coverage >= _NEAR_LIMIT * min(FIRST, found.with_twice)
        # Where nobody tells labels, only rows are waited for, and these no longer bring much.
        return enough or (not self.labelling and found.expected >= _PLATEAU * found.with_twice)

    def _keep(self, made: Trained) -> int:
        if not self.registry.exists:
            note = "trained on the large model's answers"
            return self.registry.start(made.model, trained_on=made.inputs, note=note).number
        return self.registry.add(made.model, trained_on=made.inputs, teacher="the large chain").number

    def _fresh(self, rows: list[PaidRow]) -> list[PaidRow]:
        """Without inputs that stand among the labelled rows from the start."""
        given = {repr(value) for value, _ in self.folder.gold()}
        return [row for row in rows if repr(row.value) not in given]

    def _written(self, rows: Sequence[PaidRow], gold: Sequence[tuple[Any, str]]) -> list[tuple[Any, str]]:
        writer = self.worker.writer
        rare = rare_labels(rows, gold, self.terms.labels, least=3) if writer is not None else []
        if not rare:
            return []
        texts = [row.value for row in rows if isinstance(row.value, str)]
        return write_rows(writer, rare, texts, 5)

    # --- certifying ---------------------------------------------------------------------------------------------

    def _certify(self) -> None:
        """Test what is worth a test, one threshold after the other, until one is refused or waits for labels."""
        begun = len(self.life["uses"]) - (open_use(self.life) is not None)
        while self._test() or self._judge():
            pass
        self.done.did += chain_words(self.life["uses"][begun:], self.terms.max_loss)

    def _test(self) -> bool:
        """Test the policy that is written down, once labels are there or were waited for long enough."""
        use = open_use(self.life)
        if use is None:
            return False
        if self._in_force(use):  # a kill came between the registry and the ledger
            return self._closed("certified")
        model = self.registry.load(use["version"])
        table = self._fresh(self.ledger.table(self.life["tables"][use["table"] - 1], use["until"], self.terms.bound))
        rows, confidence, answered = self._ask(model, use["version"], table)
        said = [
            model.labels[place] if fine else None for place, fine in zip(rows.argmax(axis=1), answered, strict=True)
        ]
        open_ = [
            row.route_id
            for row, small, score in zip(table, said, confidence, strict=True)
            if score > use["threshold"] and small != row.label and row.gold is None
        ]
        if open_ and self._waiting(use):
            return False
        outcomes = Outcomes.from_records(
            [
                {
                    "id": row.route_id, "small": small, "confidence": float(score) if fine else None,
                    "large": row.label, "gold": row.gold, "input_hash": row.mark,
                }
                for row, small, score, fine in zip(table, said, confidence, answered, strict=True)
            ],
            about={**facts([model], [str(model.name)], score=None, large=None, version=None), **self.terms.large},
        )  # fmt: skip
        try:
            certificate = self.registry.certify(
                outcomes, self.terms.max_loss, 1.0 - use["alpha"], number=use["version"],
                since_promotion=True,  # no row of a table taught, though an input may come again
                thresholds=[use["threshold"]], never_local=self.terms.never_local,
            )  # fmt: skip
        except (RegistryError, ValueError) as error:
            return self._closed("given up", str(error))
        return self._closed("certified" if certificate.certified else "refused")

    def _waiting(self, use: Use) -> bool:
        """Whether labels may still come."""
        seconds = self.worker.label_wait
        if seconds is None:
            seconds = 7 * 86_400.0 if self.labelling else 0.0
        return datetime.now(UTC) < datetime.fromisoformat(use["opened"]) + timedelta(seconds=seconds)

    def _in_force(self, use: Use) -> bool:
        held = self.certificate
        return (
            held is not None and self.registry.live.number == use["version"] and self._in_force_since() >= use["opened"]
        )

    def _closed(self, state: Any, why: str = "") -> bool:
        close(self.life, state, why)
        self.life["forecast"] = {}
        if state != "certified":  # what a refusal lets out may steer what comes: that is tested on rows that come
            end_table(self.life)
            self.life["candidate"] = None
        self.folder.save_life(self.life)
        return True

    # --- labels -------------------------------------------------------------------------------------------------

    def _wish(
        self, model: SmallModel, version: int, evidence: Evidence, found: Forecast, threshold: float | None
    ) -> None:
        """Write down which disagreements are worth a label: of rows that teach, and those that a test waits for."""
        reach = max(_REACH, found.reach, found.coverage)
        wanted = [
            {"id": row.route_id, "small": row.small, "large": row.large, "needed": False}
            for row in evidence.open(reach)
        ]
        if threshold is not None:
            table = self._fresh(self.table)
            rows, confidence, _ = self._ask(model, version, table)
            for row, said, score in zip(table, rows, confidence, strict=True):
                small = model.labels[int(said.argmax())]
                if row.gold is None and score > threshold and small != row.label:
                    wanted.append({"id": row.route_id, "small": small, "large": row.label, "needed": True})
        self.folder.save_wanted(sorted(wanted, key=lambda row: not row["needed"]))

    # --- words --------------------------------------------------------------------------------------------------

    def _waits(self) -> str:
        return what_it_waits_for(self.terms, self.life, self.ledger, self.certificate, len(self.folder.gold()))


def held_share(life: Life, certificate: Certificate | None) -> float:
    """Which share of the inputs was certified last to stay local."""
    if certificate is None:
        return 0.0
    return next((use["coverage"] for use in reversed(life["uses"]) if use["state"] == "certified"), 0.0)


def different(table: Sequence[PaidRow]) -> int:
    """How many inputs a table has: what comes again is no further evidence, `certify` counts it as a group."""
    return len({row.share for row in table})


def cut_at(confidence: NDArray[np.float64], coverage: float, n: int) -> float:
    """The threshold above which that share of n inputs is, which needs no answer of anybody."""
    scores = np.sort(confidence)[::-1]
    least = scores[min(len(scores), max(1, round(coverage * n))) - 1]
    below = scores[scores < least]
    return float((least + below[0]) / 2.0) if len(below) else math.nextafter(float(least), -math.inf)


def what_it_waits_for(terms: Terms, life: Life, ledger: Ledger, certificate: Certificate | None, given: int) -> str:
    """Say what happens next, and what it waits for."""
    use = open_use(life)
    if use is not None:
        return (
            f"Whether version {use['version']} may keep {use['coverage']:.0%} local waits for labels of disagreements."
        )
    rows, table = ledger.learn(life["tables"][-1]), ledger.table(life["tables"][-1], None, terms.bound)
    if len(rows) + given < _FEWEST:
        return f"The first candidate needs {_FEWEST - len(rows) - given:,} more rows."
    early = math.ceil(_SOON * least_rows(terms.max_loss, 1.0 - next_alpha(life, terms.level))) - different(table)
    if certificate is None and early > 0:
        return f"A candidate is trained after {early:,} more rows that are set apart."
    more = max(0, math.ceil(_GROWTH * life["learned"]) - len(rows))
    following = f"A new candidate is trained after {more:,} more rows that teach" if more else "A new candidate is due"
    found = life["forecast"]
    if found and found["n"] < found["needed"]:
        if certificate is not None and found["wish"] <= found["n"]:
            return f"{following}; to be certified for more it needs new rows, once these are worth what they cost."
        needed = found["needed"] - different(table)
        return f"{following}; {needed:,} more rows must be set apart before anything can be certified."
    if found:
        twice = f"{found['expected']:.0%} local, twice as many {found['with_twice']:.0%}"
        return f"{following}; the {found['n']:,} rows that are set apart should give {twice}."
    return f"{following}."


def chain_words(uses: Sequence[Use], max_loss: float) -> list[str]:
    """What certifications one after the other came to: a sentence for the last that passed, one for what ended them."""
    passed = [use for use in uses if use["state"] == "certified"]
    said = []
    for use in [*passed[-1:], *(use for use in uses if use["state"] in ("refused", "given up"))]:
        share, why = f"{use['coverage']:.0%} local", use.get("why")
        if use["state"] == "certified":
            below = f"at most {points(max_loss)} below the large model"
            said.append(f"Certified: version {use['version']} is live and keeps about {share}, {below}.")
        else:
            because = f" ({why})" if why else ""
            said.append(f"Version {use['version']} was not certified to keep {share}{because}: nothing changes.")
    return said


def outcome_words(uses: Iterable[Use]) -> str:
    """How the certifications so far ended."""
    ends = [use["state"] for use in uses]
    return ", ".join(
        f"{ends.count(state)} {state}" for state in ("certified", "refused", "given up", "open") if state in ends
    )
