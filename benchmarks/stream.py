"""A stream of queries, its whole life: shadow, certify, live, audit, distil, gate, certify again; calls and accuracy.

Banking77: 3,080 queries with GPT-4's recorded answers arrive in time, in another order for each seed. The small model
is made from the 231 few-shot gold rows. Three ways to answer the same stream: GPT-4 alone; a cascade that is certified
once, with the whole 5 % and on a number of rows that suits it, and then left alone, without audits; and the loop,
through the package's own parts: `ConfidenceRouter` in its modes with the recorded model as a Runnable that counts its
calls, `TraceStore` as the recorder, `certify` on shadow rows, `AuditMonitor`, `Distiller`, and the gate of a
`ModelRegistry`, which keeps the versions.

What the loop may use. Training: the 231 gold rows and what the stream has shown so far, never the rows that the gate or
a certificate is about to judge. Certificates: shadow rows that came after the model was promoted, each certification
with half the error probability of the one before, so that all of one stream together keep to 5 %. Gate: a random half
of the live rows, whose gold a person tells; they become training rows once the gate has spoken. Gold is also asked for
shadow rows and audits on which small and large model disagree. All of it is counted. A new round is started only where
it can pay: if all that escalates stayed local from then on, that would have to save more calls than certifying costs.
What there was to choose (sizes, gate, TF-IDF of single words) was chosen on the few-shot development rows; where those
showed no difference between numbers of rows to certify on once, the one that is best on the stream itself was taken.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.certify_real_models import Banking, _Rows
from benchmarks.distil import Rows, fit_anew, make_small
from benchmarks.harness import Context, Figures, Table, interval, number

LEVEL = 0.95
BATCH = 20
AUDIT_RATE = 0.05
HELD_SHARE = 0.5
"""Of live rows, while a new round could pay: gold is told, and they are kept for the gate."""
HELD = 300
"""Rows that the gate is asked with at most."""
GATE_LOSS = 0.05
"""What the gate must exclude on rows that the live model answers. The promise is the certificate's business."""
ROOM = 1.5
"""Certification and gate wait for this times the least rows that could show anything."""
WINDOW = 280
LAST = 1000
QUICK = 1540


@dataclass(frozen=True)
class Setting:
    """One small model under one promise; `once` rows are certified on where that is done once."""

    title: str
    student: str
    max_loss: float
    once: int


SETTINGS = {
    "minilm": Setting("MiniLM, 2 points", "minilm", 0.02, 400),
    "minilm_one": Setting("MiniLM, 1 point", "minilm", 0.01, 600),
    "tfidf": Setting("TF-IDF, 2 points", "tfidf", 0.02, 400),
}
ARMS = ("frozen", "loop")


def level_of(certification: int) -> float:
    """The level of the first, second, ... certification of a stream: the chances of an error sum to 1 - LEVEL."""
    return 1.0 - (1.0 - LEVEL) / 2.0**certification


def rows_of(max_loss: float, level: float) -> int:
    """Shadow rows that a certification waits for."""
    from langchain_dsplus.threshold.exact import least_rows

    return math.ceil(ROOM * least_rows(max_loss, level))


def _gate_rows() -> int:
    """Rows that the live model answered, for the gate."""
    from langchain_dsplus.threshold.exact import least_rows

    return math.ceil(ROOM * least_rows(GATE_LOSS, LEVEL))


@dataclass
class Life:
    """What happened to one stream.

    Attributes:
        right: Whether the output was right, by time.
        called: Calls of the large model, audits included, by time.
        phase: What the stream was in, by time.
        counts: Certifications, refusals, alarms, gold labels, ...
        coverage: Of each certificate.
        notes: What was decided, in words.
        seconds: Spent on training and judging, and in all.
    """

    right: list[bool] = field(default_factory=list)
    called: list[int] = field(default_factory=list)
    phase: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    coverage: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class Stream:
    """One stream from its first row to its last.

    Args:
        rows: The rows in the order in which they arrive.
        gold: What the small model was made from.
        small: The small model.
        max_loss: The promise.
        folder: For the trace store and the registry of models.
        seed: Of the training, of which rows get gold, and of the audits.
        once: Certify once, on so many rows, with the whole error probability, and change nothing more. None: the loop.
        options: Of the registry, to load models.
    """

    def __init__(
        self,
        rows: Rows,
        gold: Rows,
        small: Any,
        max_loss: float,
        folder: Path,
        *,
        seed: int,
        once: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        from langchain_core.runnables import RunnableLambda

        from langchain_dsplus import TraceStore
        from langchain_dsplus.registry.registry import ModelRegistry

        self.rows, self.gold, self.max_loss, self.seed = rows, gold, max_loss, seed
        self.once, self.learns = once, once is None
        self.life = Life()
        self.asked = 0
        self._said = dict(zip(rows.texts, rows.large, strict=True))
        self._large = RunnableLambda(self._ask).with_types(output_type=str)
        self.store = TraceStore(folder / "traces.db")
        self.registry = ModelRegistry(folder / "models", options=options)
        self.registry.start(small, trained_on=gold.texts)
        self.monitors: dict[str, Any] = {}
        """By certificate: one that comes back with a rollback goes on with what its monitor has seen."""
        self.place: dict[str, int] = {}
        """Of each route, its row."""
        self.held: dict[str, bool] = {}
        """Routes whose rows are kept for the gate, and whether the live model answered them."""
        self.certifications = 0
        self.waiting = True
        """Whether shadow rows are gathered to certify on."""
        self.new = False
        """Whether what is live was promoted and is not certified yet."""
        self.seen = 0
        self._rng = np.random.default_rng([seed, 1])
        self._follow()

    def _ask(self, text: str) -> str:
        self.asked += 1
        return self._said[text]

    # --- time -------------------------------------------------------------------------------------------------------

    def run(self) -> Life:
        """Let all rows arrive."""
        started = time.perf_counter()
        for start in range(0, len(self.rows.texts), BATCH):
            self._step(range(start, min(start + BATCH, len(self.rows.texts))))
        self.store.close()
        if self.asked != sum(self.life.called):
            msg = f"the large model was asked {self.asked} times, the routes say {sum(self.life.called)}"
            raise RuntimeError(msg)
        self.life.seconds["all"] += time.perf_counter() - started
        return self.life

    def _follow(self) -> None:
        """A router around what is live now: in shadow where no certificate is in force."""
        from langchain_dsplus import AuditMonitor

        self.certificate = self.registry.certificate
        monitor: Any = None
        if self.learns and self.certificate is not None:
            made = self.monitors.get(self.certificate.id)
            monitor = self.monitors[self.certificate.id] = made or AuditMonitor(self.certificate, level=LEVEL)
        self.monitor: Any = monitor
        self.router = self.registry.router(
            self._large,
            recorder=self.store,
            monitor=monitor,
            background=False,
            include_route=True,
            version="recorded",
        )
        self.seen = 0

    def _step(self, places: range) -> None:
        ids = [str(uuid.UUID(int=(self.seed << 64) + place)) for place in places]
        configs: Any = [{"run_id": uuid.UUID(route_id), "configurable": self._audits(route_id)} for route_id in ids]
        results = self.router.batch([self.rows.texts[place] for place in places], configs)
        phase = "live" if self.certificate is not None else "shadow" if self.waiting else "closed"
        holding = self.learns and not self.waiting and self.pays()
        told: dict[str, str | None] = {}
        for place, route_id, result in zip(places, ids, results, strict=True):
            route, gold = result["route"], self.rows.gold[place]
            self.place[route_id] = place
            self.life.right.append(result["output"] == gold)
            self.life.called.append(int(not route["accepted"] or bool(route.get("audited"))))
            self.life.phase.append(phase)
            if route.get("audited"):
                self.life.counts["audits"] += 1
                if self.monitor.observe_gold(route_id, gold):
                    told[route_id] = gold
            if holding and self._rng.random() < HELD_SHARE:
                self.held[route_id] = bool(route["accepted"])
                told[route_id] = gold
        self._tell("gold_live", told)
        self.seen += len(places)
        self._consider()

    def _audits(self, route_id: str) -> dict[str, float]:
        """Whether this row is audited if it stays local: drawn here, so that a second run audits the same rows."""
        from langchain_dsplus.routing.decision import sampled

        drawn = self.learns and sampled(route_id, self.seed.to_bytes(16), AUDIT_RATE)
        return {"dsplus_audit_rate": float(drawn)}

    def _tell(self, what: str, gold: dict[str, str | None]) -> None:
        """A person says what is true."""
        self.life.counts[what] += len(gold)
        self.life.counts["gold"] += len(gold)
        if gold:
            self.store.flush()
            self.store.add_gold(gold)

    def _note(self, text: str) -> None:
        self.life.notes.append(f"{len(self.life.right)}: {text}")

    # --- what to do next --------------------------------------------------------------------------------------------

    @property
    def level(self) -> float:
        """Of the next certification."""
        return level_of(self.certifications + 1) if self.learns else LEVEL

    @property
    def coverage(self) -> float:
        """What the certificate in force keeps local."""
        return 0.0 if self.certificate is None else float(self.certificate.coverage)

    def pays(self) -> bool:
        """Whether another round could save more calls than certifying it costs."""
        left = len(self.rows.texts) - len(self.life.right)
        rows = rows_of(self.max_loss, self.level)
        return (1.0 - self.coverage) * (left - rows) > self.coverage * rows

    def _consider(self) -> None:
        """Between two batches: is there anything to be done?"""
        if self.waiting:
            if self.seen >= (self.once or rows_of(self.max_loss, self.level)):
                self._certify()
        elif self.learns and self.monitor is not None and self.monitor.needs_certification:
            self.life.counts["alarms"] += 1
            self._note(f"alarm: {self.monitor.alarms[-1].message}")
            self.registry.void("alarm")
            self._begin()
        elif self.pays() and (len(self.held) >= HELD or sum(self.held.values()) >= _gate_rows()):
            self._learn()

    def _begin(self) -> None:
        """Shadow from here on: the rows will certify what is live now."""
        self.waiting = True
        self.held = {}
        self._follow()

    # --- certify ----------------------------------------------------------------------------------------------------

    def _certify(self) -> None:
        """Certify on the latest shadow rows: none of them came before the model was in place."""
        from langchain_dsplus.losses import points

        started = time.perf_counter()
        self.waiting = False
        n = len(self.life.right)
        recent = {route_id for route_id, place in self.place.items() if place >= n - self.seen}
        rows = [row for row in self.store.rows() if row["route_id"] in recent]
        outcomes = self.router.outcomes(rows)
        told = {row["id"]: self.rows.gold[self.place[row["id"]]] for row in outcomes.to_label(agreements=0)}
        self._tell("gold_shadow", dict(told))
        promise = points(self.max_loss)
        certificate = self.registry.certify(outcomes.with_gold(told), promise, self.level, since_promotion=True)
        self.certifications += 1
        self.life.seconds["certify"] += time.perf_counter() - started
        self.life.counts["certified" if certificate.certified else "not_certified"] += 1
        self._note(
            f"{certificate.status} on {certificate.n} rows at level {certificate.level:.5f}, "
            f"coverage {certificate.coverage:.3f}"
        )
        if certificate.certified:
            self.life.coverage.append(float(certificate.coverage))
        elif self.new and self._came_from_certified():
            # Back to the version before, with its certificate: nothing that it is about has changed.
            self.life.counts["rolled_back"] += 1
            self.registry.rollback("not certified")
        self.new = False
        self._follow()

    def _came_from_certified(self) -> bool:
        """Whether the version before this one had a certificate until the promotion."""
        parent = self.registry.live.parent
        before = [version for version in self.registry.versions if version.number == parent]
        return bool(before) and any(entry.get("cause") == "promotion" for entry in before[0].certificates[-1:])

    # --- distil -----------------------------------------------------------------------------------------------------

    def lessons(self) -> dict[str, Any]:
        """What the stream has taught so far, without the rows that are held for the gate."""
        held = set(self.held)
        texts: dict[str, str] = {}
        said: dict[str, str] = {}
        drawn: set[str] = set()
        known: dict[str, str] = {}
        for row in self.store.rows(kind=("route", "audit", "gold")):
            route_id = row["route_id"]
            if row["kind"] == "gold":
                known[route_id] = row["gold"]
            elif row["kind"] == "audit":
                said[route_id] = row["output"]
                drawn.add(route_id)
            else:
                texts[route_id] = row["input"]
                if not row["route"]["accepted"]:
                    said[route_id] = row["output"]
                if row["route"]["reason"] == "shadow":
                    drawn.add(route_id)
        free = [route_id for route_id in texts if route_id not in held]
        # Gold was told for live rows that were drawn at random. Of shadow rows and audits only disagreements have gold:
        # there it takes the place of the large model's answer, so that they stay one fair sample.
        asked = [route_id for route_id in free if route_id in said]
        whole = [route_id for route_id in free if route_id in known and route_id not in drawn]
        return {
            "gold": [
                *zip(self.gold.texts, self.gold.gold, strict=True),
                *((texts[route_id], known[route_id]) for route_id in whole),
            ],
            "large": [(texts[i], said[i]) for i in asked if i not in drawn and i not in known],
            "audits": [(texts[i], known.get(i, said[i])) for i in asked if i in drawn],
            "unlabeled": [texts[i] for i in free if i not in said and i not in known],
        }

    def _learn(self) -> None:
        """Distil, hold the candidate against the live model on the rows held for that, and promote it if it may be."""
        from langchain_dsplus import Distiller

        started = time.perf_counter()
        lessons = self.lessons()
        gold, large = lessons.pop("gold"), lessons.pop("large")
        made = Distiller(self.registry.load(), seed=self.seed).distil(gold, large, **lessons)
        trained = [*gold, *large, *lessons["audits"], *lessons["unlabeled"]]
        added = self.registry.add(made.model, trained_on=trained, teacher="GPT-4, recorded", seed=self.seed)
        pairs = [(self.rows.texts[self.place[i]], self.rows.gold[self.place[i]]) for i in self.held]
        # A model that answers next to nothing has nothing to forget there: then all rows are compared.
        few = sum(self.held.values()) < _gate_rows()
        threshold = -math.inf if few else None
        report = self.registry.gate(added.number, pairs, old_threshold=threshold, max_loss=GATE_LOSS).report
        self.held = {}
        self.life.seconds["learn"] += time.perf_counter() - started
        self.life.counts["promoted" if report.promoted else "refused"] += 1
        self._note(
            f"{'promoted' if report.promoted else 'refused'}: {made.n_gold} gold, {made.n_large} of the large model; "
            f"accuracy {report.accuracy_old:.3f} -> {report.accuracy_new:.3f} {'; '.join(report.reasons)}"
        )
        if report.promoted:
            self.registry.promote(added.number)
            self.new = True
            self._begin()


def one_life(rows: Rows, gold: Rows, small: Any, max_loss: float, **options: Any) -> Life:
    """A stream in folders of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return Stream(rows, gold, small, max_loss, Path(folder), **options).run()


# --- going on where it was cut off ------------------------------------------------------------------------------------


def sources() -> str:
    """SHA-256 over everything that a stream hangs on: what another version of it has measured is of no use."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for path in sorted([*root.glob("langchain_dsplus/**/*.py"), *root.glob("benchmarks/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def resumed(part: Path, state: str, live: Callable[[], Life]) -> Life:
    """What a file says a stream was like, or, where there is none of today's sources, the stream itself."""
    if part.exists():
        body = json.loads(part.read_text(encoding="utf-8"))
        if body.pop("state") == state:
            return Life(**{**body, "counts": Counter(body["counts"]), "seconds": defaultdict(float, body["seconds"])})
    life = live()
    part.parent.mkdir(parents=True, exist_ok=True)
    beside = part.with_suffix(".tmp")
    beside.write_text(json.dumps({**vars(life), "state": state}), encoding="utf-8")
    beside.replace(part)
    return life


# --- many streams -----------------------------------------------------------------------------------------------------


def make(setting: Setting, gold: Rows, labels: list[str], encoder: Any) -> Any:
    """The first small model, from the gold rows alone."""
    if setting.student == "minilm":
        return make_small("minilm", gold, labels, encoder)
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from langchain_dsplus import SklearnClassifier

    pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=30.0, max_iter=1000))
    return SklearnClassifier(pipeline.fit(gold.texts, gold.gold))


def _mean(key: str, by_seed: Sequence[float], row_error: float = 0.0) -> Figures:
    """A mean over orders with its t interval; `row_error` is the standard error that the rows add."""
    from scipy.stats import t

    values = np.asarray(by_seed, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return {key: mean}
    half = math.hypot(
        float(t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values)), 1.96 * row_error
    )
    return {key: mean, f"{key}.low": mean - half, f"{key}.high": mean + half}


def gather(lives: dict[str, list[Life]], orders: Sequence[Sequence[int]], large: np.ndarray) -> Figures:
    """The figures of one setting.

    All orders are of the same rows, so intervals of whole streams count both: how orders differ, and how the rows do
    (their standard error, each row averaged over the orders). Windows hold other rows in each order.

    Args:
        lives: Of each arm, one for each order.
        orders: Which row arrived when.
        large: Whether the large model is right, by row.
    """
    figures: Figures = {}
    columns: dict[str, dict[str, np.ndarray]] = {}
    for arm, streams in lives.items():
        columns[arm] = {
            "calls": 100.0 * np.array([life.called for life in streams]),
            "accuracy": 100.0 * np.array([life.right for life in streams]),
        }
    alone = 100.0 * np.array([large[list(order)] for order in orders])
    n = alone.shape[1]

    def both(key: str, values: np.ndarray) -> None:
        figures.update(whole_and_last(key, values, orders))

    both("large.accuracy", alone)
    for arm, found in columns.items():
        for measure, values in found.items():
            both(f"{arm}.{measure}", values)
            for place, start in enumerate(range(0, n - WINDOW + 1, WINDOW)):
                part = values[:, start : start + WINDOW].mean(axis=1)
                figures.update(_mean(f"{arm}.{measure}.window{place}", part))
        both(f"{arm}.accuracy_over_large", found["accuracy"] - alone)
    for measure in ("calls", "accuracy"):
        both(f"{measure}_over_frozen", columns["loop"][measure] - columns["frozen"][measure])
    for arm, streams in lives.items():
        for name in COUNTED:
            figures[f"{arm}.{name}"] = float(np.mean([life.counts[name] for life in streams]))
        for name in ("all", "learn", "certify"):
            figures[f"{arm}.seconds.{name}"] = float(np.mean([life.seconds[name] for life in streams]))
        covered = [100.0 * life.coverage[0] for life in streams if life.coverage]
        if covered:
            figures[f"{arm}.coverage_first"] = float(np.mean(covered))
            figures[f"{arm}.coverage_last"] = float(
                np.mean([100.0 * life.coverage[-1] for life in streams if life.coverage])
            )
        figures[f"{arm}.never"] = sum(not life.coverage for life in streams)
    return figures


def whole_and_last(key: str, values: np.ndarray, orders: Sequence[Sequence[int]]) -> Figures:
    """A figure of whole streams and of their last queries, from values by order and time."""
    n = values.shape[1]
    by_row = np.zeros(n)
    for order, row in zip(orders, values, strict=True):
        by_row[np.asarray(order)] += row / len(orders)
    return {
        **_mean(key, values.mean(axis=1), float(by_row.std(ddof=1)) / math.sqrt(n)),
        **_mean(f"{key}_last", values[:, -min(LAST, n // 2) :].mean(axis=1)),
    }


def baselines(small: Any, gold: Rows, whole: Rows, orders: Sequence[Sequence[int]], *, calls: float) -> Figures:
    """The small model alone; and what anybody would write, with as many calls as the loop makes on average.

    `one_fit`: the large model answers first, until the calls are spent; then the small model is fitted once, on gold
    and on those answers as they are, and answers all the rest. It promises nothing.

    Args:
        small: The small model that the streams begin with.
        gold: What it was made from.
        whole: All rows.
        orders: Which row arrived when.
        calls: Of the loop, in percent.
    """
    figures = small_alone(small, whole, orders)
    count = round(calls / 100.0 * len(whole.texts))
    right = []
    for order in orders:
        rows = whole.take(order)
        fitted = fit_anew(small, gold, rows.take(range(count)))
        large = [said == truth for said, truth in zip(rows.large[:count], rows.gold[:count], strict=True)]
        right.append([*large, *_right(fitted, rows.take(range(count, len(rows.texts))))])
    return {**figures, "one_fit.calls": 100.0 * count / len(whole.texts)} | whole_and_last(
        "one_fit.accuracy", 100.0 * np.array(right), orders
    )


def small_alone(small: Any, whole: Rows, orders: Sequence[Sequence[int]]) -> Figures:
    right = 100.0 * _right(small, whole)
    return whole_and_last("small.accuracy", np.array([right[np.asarray(order)] for order in orders]), orders)


def _right(small: Any, rows: Rows) -> np.ndarray:
    if not rows.texts:
        return np.zeros(0, dtype=bool)
    said = np.asarray(small.predict_proba(rows.texts)).argmax(axis=1)
    return np.array([small.labels[place] == truth for place, truth in zip(said, rows.gold, strict=True)])


def rows_in_time(context: Context, banking: Banking) -> tuple[Rows, Rows, np.ndarray]:
    """Gold rows; the rows of the stream, before they are put into an order; whether GPT-4 is right on each."""
    names = [*banking.labels, "no class"]
    gold = Rows(banking.few.texts, [names[place] for place in banking.few.gold], [])
    final = banking.final
    whole = Rows(final.texts, [names[place] for place in final.gold], [names[place] for place in final.large])
    whole = whole.take(np.random.default_rng(context.seed).permutation(len(whole.texts)).tolist())
    whole = whole.take(range(context.pick(len(whole.texts), QUICK)))
    large = np.array([said == truth for said, truth in zip(whole.large, whole.gold, strict=True)])
    return gold, whole, large


def order_of(context: Context, turn: int, n: int) -> list[int]:
    """In which order the rows arrive."""
    order: list[int] = np.random.default_rng([context.seed, turn]).permutation(n).tolist()
    return order


COUNTED = (
    "gold",
    "gold_shadow",
    "gold_live",
    "audits",
    "alarms",
    "certified",
    "not_certified",
    "rolled_back",
    "promoted",
    "refused",
)


def run(context: Context) -> Figures:
    import logging

    banking = Banking(context)
    gold, whole, large = rows_in_time(context, banking)
    chosen = context.pick(list(SETTINGS), ["minilm"])
    seeds = context.pick(10, 2)
    encoder = _Rows(banking)
    banking.embed([*gold.texts, *whole.texts])
    figures: Figures = {"seeds": seeds, "rows": len(whole.texts)}
    parts, state = context.result_path("parts"), sources()
    logger = logging.getLogger("langchain_dsplus")
    level = logger.level
    logger.setLevel(logging.ERROR)  # alarms and refusals are counted
    try:
        with context.progress("stream", len(chosen) * seeds * len(ARMS)) as advance:
            for key in chosen:
                setting = SETTINGS[key]
                small = make(setting, gold, banking.labels, encoder)
                options = {"encoder": encoder} if setting.student == "minilm" else {}
                lives: dict[str, list[Life]] = {arm: [] for arm in ARMS}
                orders = []
                for number in range(seeds):
                    order = order_of(context, number, len(whole.texts))
                    orders.append(order)
                    for arm in ARMS:
                        stream = partial(
                            one_life,
                            whole.take(order),
                            gold,
                            small,
                            setting.max_loss,
                            seed=1000 * context.seed + number,
                            once=setting.once if arm == "frozen" else None,
                            options=options,
                        )
                        part = parts / f"{key}.{context.seed}.{number}.{arm}.json"
                        lives[arm].append(resumed(part, state, stream))
                        advance(1)
                    context.facts[f"{key}.{number}"] = lives["loop"][-1].notes
                found = gather(lives, orders, large)
                found |= baselines(small, gold, whole, orders, calls=found["loop.calls"])
                figures |= {f"{key}.{name}": value for name, value in found.items()}
    finally:
        logger.setLevel(level)
    draw(figures, context.result_path("png"))
    shutil.rmtree(parts, ignore_errors=True)
    return figures


def draw(figures: Figures, path: Path) -> None:
    """Calls and accuracy over time, one row of panels for each setting."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    keys = [key for key in SETTINGS if f"{key}.loop.calls" in figures]
    figure, axes = plt.subplots(len(keys), 2, figsize=(10, 3.4 * len(keys)), layout="constrained", squeeze=False)
    titles = {"frozen": "certified once, then left alone", "loop": "the loop"}
    for row, key in zip(axes, keys, strict=True):
        for axis, measure, alone in zip(row, ("calls", "accuracy"), (100.0, None), strict=True):
            for arm, color in zip(ARMS, ("tab:orange", "tab:blue"), strict=True):
                stem = f"{key}.{arm}.{measure}.window"
                places = [place for place in range(1000) if f"{stem}{place}" in figures]
                x = [(place + 0.5) * WINDOW for place in places]
                y = [figures[f"{stem}{place}"] for place in places]
                low = [figures.get(f"{stem}{place}.low", value) for place, value in zip(places, y, strict=True)]
                high = [figures.get(f"{stem}{place}.high", value) for place, value in zip(places, y, strict=True)]
                axis.fill_between(x, low, high, alpha=0.15, linewidth=0, color=color)
                axis.plot(x, y, marker="o", markersize=3, color=color, label=titles[arm])
            level = figures[f"{key}.large.accuracy"] if alone is None else alone
            axis.axhline(level, color="black", linewidth=1, label="GPT-4 alone")
            what = "calls of the large model, %" if measure == "calls" else "right, %"
            axis.set(title=SETTINGS[key].title, xlabel="queries", ylabel=what)
            if measure == "calls":
                axis.set_ylim(0, 105)
    figure.legend(*axes[0][0].get_legend_handles_labels(), ncols=3, fontsize=8, loc="outside lower center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def recheck(context: Context, figures: Figures) -> Figures:
    """The models alone in every order: GPT-4, and the small TF-IDF model. A whole life takes a minute."""
    banking = Banking(context)
    gold, whole, large = rows_in_time(context, banking)
    orders = [order_of(context, turn, len(whole.texts)) for turn in range(int(figures["seeds"]))]
    alone = whole_and_last("large.accuracy", 100.0 * np.array([large[order] for order in orders]), orders)
    found = {f"{key}.{name}": value for key in SETTINGS for name, value in alone.items()}
    small = small_alone(make(SETTINGS["tfidf"], gold, banking.labels, None), whole, orders)
    return found | {f"tfidf.{name}": value for name, value in small.items()}


def tables(figures: Figures) -> list[Table]:
    rows, gaps, counts = [], [], []
    for key, setting in SETTINGS.items():
        if f"{key}.loop.calls" not in figures:
            continue
        large = figures[f"{key}.large.accuracy"]
        rows += [
            [
                f"{setting.title}: {name}",
                calls,
                interval(figures, f"{key}.{arm}.accuracy"),
                f"{figures[f'{key}.{arm}.accuracy'] - large:+.1f}" if f"{key}.{arm}.accuracy" in figures else "-",
                _random(figures, key, f"{key}.{arm}.calls"),
                last,
                interval(figures, f"{key}.{arm}.accuracy_last"),
                "0",
            ]
            for arm, name, calls, last in (
                ("large", "GPT-4 alone", "100", "100"),
                ("small", "small model alone", "0", "0"),
                ("one_fit", "GPT-4 first, then one fit alone", number(figures, f"{key}.one_fit.calls", 1), "0"),
            )
        ]
        rows += [
            [
                f"{setting.title}: {name}",
                interval(figures, f"{key}.{arm}.calls"),
                interval(figures, f"{key}.{arm}.accuracy"),
                interval(figures, f"{key}.{arm}.accuracy_over_large", sign=True),
                _random(figures, key, f"{key}.{arm}.calls"),
                interval(figures, f"{key}.{arm}.calls_last"),
                interval(figures, f"{key}.{arm}.accuracy_last"),
                number(figures, f"{key}.{arm}.gold", 0),
            ]
            for arm, name in (("frozen", "certified once"), ("loop", "loop"))
        ]
        gaps.append(
            [
                setting.title,
                *(
                    interval(figures, f"{key}.{measure}_over_frozen{end}", sign=True)
                    for end in ("", "_last")
                    for measure in ("calls", "accuracy")
                ),
            ]
        )
        counts.append(
            [
                setting.title,
                number(figures, f"{key}.frozen.coverage_first", 0, " %"),
                *(
                    " / ".join(number(figures, f"{key}.loop.coverage_{end}", 0, " %") for end in ends)
                    for ends in [("first", "last")]
                ),
                *(
                    f"{number(figures, f'{key}.loop.{one}', 1)} / {number(figures, f'{key}.loop.{other}', 1)}"
                    for one, other in (
                        ("certified", "not_certified"),
                        ("promoted", "refused"),
                        ("audits", "alarms"),
                        ("gold_shadow", "gold_live"),
                    )
                ),
                f"{number(figures, f'{key}.loop.seconds.all', 0)} / {number(figures, f'{key}.loop.seconds.learn', 0)}",
            ]
        )
    seeds, n = number(figures, "seeds", 0), number(figures, "rows", 0)
    main = Table(
        "stream",
        f"{n} queries in time: calls of the large model and accuracy",
        [
            "",
            "calls, % (95 %)",
            "right, %",
            "over GPT-4 alone, points",
            "random at equal calls: right, %",
            f"calls, last {LAST:,} queries",
            f"right, last {LAST:,}",
            "gold labels",
        ],
        rows,
        f"{seeds} orders. Intervals count how orders differ and, for whole streams, how rows do. Calls of shadow "
        "phases and audits are counted. Random: as many queries escalated, drawn without looking, to GPT-4 in front of "
        "the first small model. GPT-4 first: the ten lines that anybody would write; it answers until as many calls "
        "are spent as the loop makes, then the small model is fitted once on gold and those answers, and answers the "
        "rest. That promises nothing, and nothing watches over it.",
    )
    gap = Table(
        "stream.gaps",
        "The loop over the cascade that was certified once, on the same order",
        ["", "calls, points", "right, points", f"calls, last {LAST:,} queries", f"right, last {LAST:,}"],
        gaps,
        "Below 0 in calls is a saving.",
    )
    inside = Table(
        "stream.inside",
        "What happened, on average of a stream",
        [
            "",
            "kept local, certified once",
            "first / last certificate of the loop",
            "certified / refused",
            "promoted / kept aside",
            "audits / alarms",
            "gold labels, shadow / live",
            "seconds, all / learning",
        ],
        counts,
        "",
    )
    return [main, gap, inside]


def _random(figures: Figures, key: str, calls: str) -> str:
    """The accuracy of random routing with as many calls, in expectation."""
    if f"{key}.small.accuracy" not in figures or calls not in figures:
        return "-"
    small, large = (figures[f"{key}.{side}.accuracy"] for side in ("small", "large"))
    return f"{small + figures[calls] / 100.0 * (large - small):.1f}"
