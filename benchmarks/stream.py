"""A stream of queries, its whole life under `DataShunt`: calls of the large model, accuracy, labels asked.

Two streams arrive in time, in another order for each seed: Banking77, 3,080 queries with GPT-4's recorded answers, a
small model begun with the 231 few-shot gold rows; and 3,000 rows of CLINC150 (150 classes, three gold rows each) with a
simulated large model: it is wrong on 8 % of the rows, those nearest to another class, and says that class. The loop is
the package's: `DataShunt` in the chain's place, `work` every eighty queries, and a person who labels whatever it asks
for. Beside it, on the same orders:

- the large model alone;
- certified once: the same shunt, never called to work again after its first certificate, no audits;
- always retrain: what many would write. Every 600 queries a fresh fit on gold and all answers that were paid for, local
  above the confidence at which held-out answers lose less than the promise; no test, no gold, no promise;
- hindsight: the shunt's last model from the first query on, at the laxest threshold that keeps the promise on this very
  stream. Nobody can have that.

An order is kept where the whole stream's accuracy is not below the large model's by more than the promise. What there
was to choose was chosen on other rows (Banking77's training rows, answers made up after the nearest development row of
the same class).
"""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.certify_real_models import Banking, _Rows
from benchmarks.distil import Rows, fit_anew, make_small, mean_interval
from benchmarks.harness import Context, Figures, Table, interval, number, wilson

BATCH, WORK_EVERY, REFIT_EVERY, LAST, QUICK = 20, 80, 600, 1000, 1000
ARMS = ("shunt", "once", "retrain", "hindsight")
CLINC_ROWS, CLINC_GOLD, CLINC_WRONG = 3000, 3, 0.08


@dataclass(frozen=True)
class Setting:
    """One stream under one promise."""

    title: str
    stream: str
    max_loss: float
    orders: int


SETTINGS = {
    "banking_two": Setting("Banking77, 2 points", "banking", 0.02, 10),
    "banking_one": Setting("Banking77, 1 point", "banking", 0.01, 2),
    "clinc_two": Setting("CLINC150, 2 points", "clinc", 0.02, 2),
}
TITLES = {
    "large": "the large model alone",
    "shunt": "DataShunt",
    "once": "certified once",
    "retrain": "always retrain, no promise",
    "hindsight": "hindsight",
}
WINDOW, WORKERS, FEW = 200, 2, 5


@dataclass
class Life:
    """What happened to one stream, by time."""

    right: dict[str, list[bool]] = field(default_factory=dict)
    called: dict[str, list[bool]] = field(default_factory=dict)
    labels: int = 0
    first: int | None = None
    """When the first certificate came."""
    notes: list[str] = field(default_factory=list)


def live(rows: Rows, gold: Rows, small: Any, max_loss: float, folder: Path, *, seed: int, **options: Any) -> Life:
    """One stream through a shunt: the thin loop."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus.shunt import DataShunt

    said, truth = dict(zip(rows.texts, rows.large, strict=True)), dict(zip(rows.texts, rows.gold, strict=True))
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return said[text]

    life, once = Life(), None
    right, called = life.right.setdefault("shunt", []), life.called.setdefault("shunt", [])
    with DataShunt(
        RunnableLambda(ask).with_types(output_type=str), small.labels, folder, max_loss, small=small,
        gold=list(zip(gold.texts, gold.gold, strict=True)), version="recorded", background=False, label_wait=3600.0,
        key=f"order {seed:010d}", seed=seed, include_route=True, **options,
    ) as shunt:  # fmt: skip
        for start in range(0, len(rows.texts), BATCH):
            texts = rows.texts[start : start + BATCH]
            for text, found in zip(texts, shunt.batch(texts), strict=True):
                route = found["route"]
                right.append(found["output"] == truth[text])
                called.append(not route["accepted"] or bool(route.get("audited")))
            if (start + BATCH) % WORK_EVERY == 0:
                _work(shunt, life, truth)
                if once is None and shunt.certificate is not None:
                    life.first, threshold = len(right), next(iter(shunt.certificate.thresholds.values()))
                    once = (life.first, shunt.worker.registry.load(), threshold)
        learned = small if shunt.certificate is None else shunt.worker.registry.load()
    if len(asked) != sum(called):
        msg = f"the large model was asked {len(asked)} times, the routes say {sum(called)}"
        raise RuntimeError(msg)
    _beside(life, rows, once, learned, max_loss)
    life.right["retrain"], life.called["retrain"] = _retrain(rows, gold, small, max_loss)
    return life


def _work(shunt: Any, life: Life, truth: dict[str, str]) -> None:
    """What is due; a person labels what is asked for, and what waits for that is done."""
    while True:
        done = shunt.work()
        if done:
            life.notes.append(f"{len(life.right['shunt'])}: {' '.join(done.did)}")
        told = {row["id"]: truth[row["input"]] for row in shunt.to_label(None)}
        if not told:
            return
        life.labels += len(told)
        shunt.add_gold({name: label if label in shunt.terms.labels else None for name, label in told.items()})


def _asked(small: Any, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and what the model says."""
    if not rows.texts:
        return np.zeros(0), np.zeros(0, dtype=object)
    found = np.asarray(small.predict_proba(rows.texts))
    return found.max(axis=1), np.array(small.labels, dtype=object)[found.argmax(axis=1)]


def _beside(life: Life, rows: Rows, once: tuple[int, Any, float] | None, learned: Any, max_loss: float) -> None:
    """The large model alone, certified once, and hindsight on the same order."""
    truth, large = np.array(rows.gold, dtype=object), np.array(rows.large, dtype=object)
    n, nobody = len(truth), np.zeros(len(truth), dtype=bool)
    place, model, threshold = once or (n, learned, np.inf)
    confidence, earlier = _asked(model, rows)
    sure = (confidence > threshold) & (np.arange(n) >= place)
    confidence, later = _asked(learned, rows)
    order = np.argsort(-confidence, kind="stable")
    loss = np.cumsum((large == truth)[order].astype(int) - (later == truth)[order].astype(int))
    kept, best = np.flatnonzero(loss < max_loss * n), nobody.copy()
    best[order[: int(kept[-1]) + 1 if len(kept) else 0]] = True
    for arm, local, said in (("large", nobody, large), ("once", sure, earlier), ("hindsight", best, later)):
        life.right[arm] = (np.where(local, said, large) == truth).tolist()
        life.called[arm] = (~local).tolist()


def _retrain(rows: Rows, gold: Rows, small: Any, max_loss: float) -> tuple[list[bool], list[bool]]:
    """Fit again and again; a fifth of the paid answers chooses the threshold, and tests nothing."""
    model, threshold = small, np.inf
    right: list[bool] = []
    called: list[bool] = []
    paid: list[int] = []
    for start in range(0, len(rows.texts), REFIT_EVERY):
        part = rows.take(range(start, min(start + REFIT_EVERY, len(rows.texts))))
        confidence, choice = _asked(model, part)
        local = confidence > threshold
        said = np.where(local, choice, np.array(part.large, dtype=object))
        right += (said == np.array(part.gold, dtype=object)).tolist()
        called += (~local).tolist()
        paid += [start + place for place in np.flatnonzero(~local)]
        held = paid[::5]
        model = fit_anew(small, gold, rows.take([place for place in paid if place not in set(held)]))
        confidence, choice = _asked(model, rows.take(held))
        order = np.argsort(-confidence, kind="stable")
        wrong = np.cumsum(choice[order] != np.array([rows.large[p] for p in held], dtype=object)[order])
        fine = np.flatnonzero(wrong <= max_loss * np.arange(1, len(held) + 1))
        threshold = float(confidence[order[fine[-1]]]) if len(fine) else np.inf
    return right, called


# --- the streams ------------------------------------------------------------------------------------------------------


def banking_rows(banking: Banking) -> tuple[Rows, Rows, list[str]]:
    """Gold, the stream before it is put into an order, labels."""
    names = [*banking.labels, "no class"]
    final = banking.final
    whole = Rows(final.texts, [names[place] for place in final.gold], [names[place] for place in final.large])
    return Rows(banking.few.texts, [names[place] for place in banking.few.gold], []), whole, banking.labels


def clinc_rows(embed: Any, seed: int) -> tuple[Rows, Rows, list[str]]:
    """The same of CLINC150, with a large model that takes the rows nearest to another class for that one."""
    rows = list({row.text: row for row in data.clinc150("train")}.values())
    labels = sorted({row.label for row in rows})
    order = np.random.default_rng([seed, 150]).permutation(len(rows))
    count = dict.fromkeys(labels, 0)
    gold, rest = [], []
    for place in order:
        row = rows[place]
        (gold if count[row.label] < CLINC_GOLD else rest).append(row)
        count[row.label] += 1
    rest = rest[:CLINC_ROWS]
    vectors, own = embed([row.text for row in rest]), np.array([labels.index(row.label) for row in rest])
    centres = np.stack(
        [vectors[own == k].mean(axis=0) if (own == k).any() else vectors.mean(axis=0) for k in range(len(labels))]
    )
    near = vectors @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    mine = near[np.arange(len(rest)), own]
    near[np.arange(len(rest)), own] = -np.inf
    wrong = np.argsort(mine - near.max(axis=1))[: round(CLINC_WRONG * len(rest))]
    said = own.copy()
    said[wrong] = near[wrong].argmax(axis=1)
    stream = Rows([row.text for row in rest], [row.label for row in rest], [labels[place] for place in said])
    return Rows([row.text for row in gold], [row.label for row in gold], []), stream, labels


def order_of(context: Context, turn: int, n: int) -> list[int]:
    """In which order the rows arrive."""
    order: list[int] = np.random.default_rng([context.seed, turn]).permutation(n).tolist()
    return order[: context.pick(n, QUICK)]


# --- figures ----------------------------------------------------------------------------------------------------------


def gather(lives: Sequence[Life], max_loss: float) -> Figures:
    """The figures of one setting."""
    figures: Figures = {}
    mean = partial(mean_interval, ratio=0.0)
    for arm in ("large", *ARMS):
        right = 100.0 * np.array([life.right[arm] for life in lives])
        called = 100.0 * np.array([life.called[arm] for life in lives])
        over = right - 100.0 * np.array([life.right["large"] for life in lives])
        last = slice(-min(LAST, right.shape[1] // 3), None)
        parts = {"calls": called, "calls_last": called[:, last], "accuracy": right, "over_large": over}
        for name, found in parts.items():
            figures |= mean(f"{arm}.{name}", found.mean(axis=1).tolist())
        kept = over.mean(axis=1) >= -100.0 * max_loss - 1e-9
        low, high = wilson(int(kept.sum()), len(kept))
        figures |= {f"{arm}.kept": float(kept.mean()), f"{arm}.kept.low": low, f"{arm}.kept.high": high}
    figures |= mean("shunt.labels", [life.labels for life in lives])
    figures["shunt.first"] = float(np.mean([life.first or len(life.right["large"]) for life in lives]))
    figures |= {"shunt.never": sum(life.first is None for life in lives), "orders": len(lives)}
    for arm in ARMS:
        called = 100.0 * np.array([life.called[arm] for life in lives]).mean(axis=0)
        for start in range(0, len(called) - WINDOW // 2, WINDOW):
            figures[f"{arm}.window{start}"] = float(called[start : start + WINDOW].mean())
    return figures


_SHARED: dict[str, Any] = {}
"""What each process has from the beginning: vectors, streams, small models."""


def _one(job: tuple[str, int]) -> Life:
    """One order, in a process of its own."""
    key, turn = job
    context, encoder = _SHARED["context"], _SHARED["encoder"]
    (gold, whole, _), small = _SHARED[SETTINGS[key].stream]
    rows = whole.take(order_of(context, turn, len(whole.texts)))
    seed = 1000 * context.seed + turn
    logging.getLogger("langchain_dsplus").setLevel(logging.ERROR)  # what is refused is counted
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "shunt"
        return live(rows, gold, small, SETTINGS[key].max_loss, place, options={"encoder": encoder}, seed=seed)


def run(context: Context) -> Figures:
    from langchain_dsplus.learning.heads import spoken_names

    banking = Banking(context)
    context.hash_file(data.find("clinc150") / "data_full.json")
    chosen = context.pick(list(SETTINGS), ["banking_two"])
    jobs = [(key, turn) for key in chosen for turn in range(context.pick(SETTINGS[key].orders, 2))]
    streams = {"banking": banking_rows(banking)}
    if "clinc_two" in chosen:
        streams["clinc"] = clinc_rows(banking.embed, context.seed)
    _SHARED.update(context=context, encoder=_Rows(banking))
    for name, (gold, whole, labels) in streams.items():
        small = make_small("minilm", gold, labels, _SHARED["encoder"])
        banking.embed(["x", *gold.texts, *whole.texts, *(text for _, text in spoken_names(small))])  # "x": `is_fitted`
        _SHARED[name] = (gold, whole, labels), small
    lives: dict[str, list[Life]] = {key: [] for key in chosen}
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(WORKERS, fork) as pool, context.progress("stream", len(jobs)) as advance:
        for (key, turn), life in zip(jobs, pool.map(_one, jobs), strict=True):
            lives[key].append(life)
            context.facts[f"{key}.{turn}"] = life.notes
            advance(1)
    figures: Figures = {}
    for key, found in lives.items():
        figures |= {f"{key}.{name}": value for name, value in gather(found, SETTINGS[key].max_loss).items()}
    draw(figures, context.result_path("png"))
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """The recorded model alone, in every order. A whole life takes a minute."""
    _, whole, _ = banking_rows(Banking(context))
    right = np.array([said == truth for said, truth in zip(whole.large, whole.gold, strict=True)])
    orders = [order_of(context, turn, len(right)) for turn in range(int(figures["banking_two.orders"]))]
    return mean_interval("banking_two.large.accuracy", [100.0 * float(right[order].mean()) for order in orders], 0.0)


def tables(figures: Figures) -> list[Table]:
    found = {key: setting for key, setting in SETTINGS.items() if f"{key}.shunt.calls" in figures}

    def told(key: str, setting: Setting, *, sign: bool = False) -> str:
        few = setting.orders < FEW  # an interval of two orders says nothing
        return interval({key: figures[key]} if few else figures, key, sign=sign)

    rows = [
        [
            f"{setting.title}: {title}",
            *(told(f"{key}.{arm}.{name}", setting) for name in ("calls", "calls_last", "accuracy")),
            told(f"{key}.{arm}.over_large", setting, sign=True),
            f"{figures[f'{key}.{arm}.kept']:.0%}",
            {"shunt": number(figures, f"{key}.shunt.labels", 0), "once": "-"}.get(arm, "0"),
        ]
        for key, setting in found.items()
        for arm, title in TITLES.items()
    ]
    orders = ", ".join(f"{setting.title}: {number(figures, f'{key}.orders', 0)}" for key, setting in found.items())
    return [
        Table(
            "stream",
            "Queries in time: calls of the large model, accuracy, labels",
            ["", "calls, % (95 %)", f"calls, last {LAST:,}", "right, %", "over the large model, points", "orders kept",
             "labels"],
            rows,
            f"Orders: {orders}. Calls of the first days and audits are counted. An order is kept where the stream's "
            "accuracy is not below the large model's by more than the promise.",
        )
    ]  # fmt: skip


def draw(figures: Figures, path: Path) -> None:
    """Calls over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = {key: setting for key, setting in SETTINGS.items() if f"{key}.shunt.calls" in figures}
    figure, axes = plt.subplots(1, len(found), figsize=(5.0 * len(found), 3.6), layout="constrained", squeeze=False)
    for axis, (key, setting) in zip(axes[0], found.items(), strict=True):
        for arm in ARMS:
            at = f"{key}.{arm}.window"
            seen = sorted((int(name.removeprefix(at)), value) for name, value in figures.items() if name.startswith(at))
            axis.plot([start + WINDOW for start, _ in seen], [value for _, value in seen], label=TITLES[arm])
        axis.set(title=setting.title, xlabel="queries", ylabel="calls of the large model, %", ylim=(0, 103))
    axes[0][0].legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
