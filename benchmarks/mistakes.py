"""Honest mistakes in a table: how often `certify` refuses, names the mistake, or certifies in silence and is wrong.

Each mistake is made in clean tables of two sets: a synthetic stream (three labels, the stream of `certify_power`) and
Banking77 with the recorded answers of GPT-4 and a TF-IDF model trained on 1,000 rows and those that leak. The true loss
at a threshold is known: of the stream by its formula, of Banking77 from all final rows, of which a table holds a part.
Beside the clean tables stands how often the exact test alone certifies them: it must not be more. A draw counts as

- refused: an error, or NOT_CERTIFIED;
- named: CERTIFIED, and the verdict says what is wrong. That report and command line say it too is checked once for
  each mistake and set: they show the same list;
- silent and wrong: CERTIFIED without a word, and the true loss is above `max_loss`;
- silent and right: CERTIFIED without a word, and the promise holds all the same.

Mistakes that leave no trace in the table and the models are measured too, and stand apart with the sentence that every
certificate prints about them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import streams
from benchmarks.harness import Context, Figures, Table, interval, number, wilson

KEY = b"the key of the benchmark"
ATTEMPTS = 6
"""How often somebody certifies the same rows again."""
SHOWN = "shown"


# --- clean tables ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A table's columns, and the texts behind them, which the table never holds."""

    columns: dict[str, np.ndarray]
    labels: tuple[str, ...]
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["small"])

    def take(self, places: Any) -> Rows:
        """Some rows, repeats allowed."""
        return replace(self, columns={name: values[places] for name, values in self.columns.items()})

    def put(self, **columns: Any) -> Rows:
        """The same with other columns; None drops one."""
        made = {name: values for name, values in {**self.columns, **columns}.items() if values is not None}
        return replace(self, columns=made)

    def outcomes(self) -> Any:
        """The table."""
        from langchain_dsplus.outcomes import Outcomes

        return Outcomes({name: values.tolist() for name, values in self.columns.items()}, about=self.about)


def join(one: Rows, other: Rows) -> Rows:
    """Rows of two tables with the same columns."""
    return one.put(**{name: np.concatenate([one.columns[name], other.columns[name]]) for name in one.columns})


class Synthetic:
    """The stream of `certify_power`, with labels."""

    name, title, n, max_loss = "synthetic", "synthetic stream", 1500, 0.005
    labels = ("billing", "delivery", "refund")

    def _label(self, rng: np.random.Generator, confidence: Any, small_right: Any) -> Rows:
        n, labels = len(confidence), np.array(self.labels, dtype=object)
        large_right = rng.random(n) < streams.large_right(confidence, small_right)
        gold = rng.integers(0, 3, n)
        wrong = (gold + rng.integers(1, 3, n)) % 3
        # Half of the time that both are wrong they say the same.
        other = np.where(small_right | (rng.random(n) < 0.5), wrong, 3 - gold - wrong)
        ids = rng.integers(0, 2**62, n)
        return Rows(
            {
                "small": labels[np.where(small_right, gold, wrong)],
                "confidence": confidence,
                "large": labels[np.where(large_right, gold, other)],
                "gold": labels[gold],
                "input_hash": np.array([f"k-{place:016x}" for place in ids], dtype=object),
                "in_training": np.zeros(n, dtype=bool),
            },
            self.labels,
            {"labels": list(self.labels)},
        )

    def draw(self, rng: np.random.Generator, n: int) -> Rows:
        """A clean table."""
        confidence = 0.5 + 0.5 * rng.beta(3.2, 0.45, n)
        return self._label(rng, confidence, rng.random(n) < streams.small_right(confidence))

    def trained(self, rng: np.random.Generator, n: int) -> Rows:
        """Rows that the small model was trained on: it knows them by heart."""
        confidence = 0.5 + 0.5 * rng.beta(8.0, 0.3, n)
        rows = self._label(rng, confidence, rng.random(n) < 0.995)
        return rows.put(in_training=np.ones(n, dtype=bool))

    def loss(self, threshold: float) -> float:
        """The true loss per input."""
        return float(streams.SYNTHETIC.truth(np.array([threshold]))[0])


class Banking77:
    """Banking77 with GPT-4: the final rows are the traffic."""

    name, title, n, max_loss = "banking77", "Banking77, GPT-4", 1500, 0.01

    def __init__(self, context: Context) -> None:
        self._context = context

    @cached_property
    def _rows(self) -> tuple[Rows, Rows]:
        from benchmarks.certify_real_models import Banking, Recorded
        from langchain_dsplus import FakeSmallModel
        from langchain_dsplus._inputs import hash_input

        banking = Banking(self._context)
        # The development rows, which have recorded answers, are trained on: they are what leaks.
        first, more = banking.draw(1000, 0), banking.develop
        train = Recorded(
            first.texts + more.texts,
            np.concatenate([first.gold, more.gold]),
            np.concatenate([first.large, more.large]),
        )
        ask = banking._tfidf(train, characters=False)  # noqa: SLF001
        labels = np.array(banking.labels, dtype=object)
        knows = FakeSmallModel({}, banking.labels, trained_on=train.texts)

        def table(recorded: Any) -> Rows:
            recorded = recorded.take(np.flatnonzero(recorded.large >= 0))
            probabilities = ask(recorded.texts)
            return Rows(
                {
                    "small": labels[probabilities.argmax(axis=1)],
                    "confidence": probabilities.max(axis=1),
                    "large": labels[recorded.large],
                    "gold": labels[recorded.gold],
                    "input_hash": np.array([hash_input(text, KEY) for text in recorded.texts], dtype=object),
                    "in_training": np.array(knows.in_training(recorded.texts), dtype=bool),
                },
                tuple(banking.labels),
                {"labels": banking.labels},
            )

        final = table(banking.final)
        fresh = final.take(np.flatnonzero(~final.columns["in_training"]))
        return fresh, table(more)

    def draw(self, rng: np.random.Generator, n: int) -> Rows:
        """A clean table."""
        rows = self._rows[0]
        return rows.take(rng.permutation(len(rows))[:n])

    def trained(self, rng: np.random.Generator, n: int) -> Rows:
        """Rows that the small model was trained on."""
        rows = self._rows[1]
        return rows.take(rng.permutation(len(rows))[: min(n, len(rows))])

    def loss(self, threshold: float) -> float:
        """The loss per input on all final rows."""
        rows = self._rows[0].columns
        right = [(rows[name] == rows["gold"]).astype(int) for name in ("large", "small")]
        return float(np.where(rows["confidence"] > threshold, right[0] - right[1], 0).mean())


Source = Synthetic | Banking77


# --- the mistakes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        title: For the table.
        make: (source, generator) -> the table with the mistake in it.
        kinds: What a certificate calls it (`Finding.kind`); empty where it refuses or cannot be seen.
        unseen: The kind of the sentence that is printed where it leaves no trace; None where it can be seen.
        again: Whether the same rows are certified again and again, until something passes.
    """

    title: str
    make: Callable[[Source, np.random.Generator], Rows]
    kinds: tuple[str, ...] = ()
    unseen: str | None = None
    again: bool = False


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.5)


def clean(source: Source, rng: np.random.Generator) -> Rows:
    """No mistake."""
    return source.draw(rng, source.n)


def _unnamed(rows: Rows, rng: np.random.Generator) -> Rows:
    """In half of the draws the table does not say which labels there are."""
    return replace(rows, about={}) if _coin(rng) else rows


def unusable_gold(source: Source, rng: np.random.Generator) -> Rows:
    """Gold in the writing of another export, `nan` where the models differ, or the codes of another list."""
    rows = _unnamed(clean(source, rng), rng)
    gold = rows.columns["gold"]
    how = rng.integers(0, 3)
    if how == 0:
        changed = np.array([f"{label}.0" for label in gold], dtype=object)
    elif how == 1:
        changed = np.where(rows.columns["small"] == rows.columns["large"], gold, "nan")
    else:
        changed = np.array([str(rows.labels.index(label)) for label in gold], dtype=object)
    return rows.put(gold=changed)


def gold_shuffled(source: Source, rng: np.random.Generator) -> Rows:
    """Gold against rows: shuffled, or moved by some rows."""
    rows = _unnamed(clean(source, rng), rng)
    gold = rows.columns["gold"]
    return rows.put(gold=rng.permutation(gold) if _coin(rng) else np.roll(gold, int(rng.integers(1, 50))))


def copied(column: str, other: str) -> Callable[[Source, np.random.Generator], Rows]:
    """One column copied from another."""
    return lambda source, rng: (rows := clean(source, rng)).put(**{column: rows.columns[other]})


def repeated(source: Source, rng: np.random.Generator, *, hashed: bool = True, ids: bool = True) -> Rows:
    """Every row four times: under new ids, or in a file without ids."""
    rows = source.draw(rng, source.n // 4)
    rows = rows.take(rng.permutation(np.repeat(np.arange(len(rows)), 4)))
    if ids:
        rows = rows.put(id=np.array([f"row {place}" for place in range(len(rows))], dtype=object))
    return rows if hashed else rows.put(input_hash=None)


def cloned(source: Source, rng: np.random.Generator) -> Rows:
    """Customers with four rows each that hardly differ, and no column `group`."""
    rows = repeated(source, rng)
    fresh = np.array([f"k-{place:016x}" for place in rng.integers(0, 2**62, len(rows))], dtype=object)
    jitter = rows.columns["confidence"] - 1e-6 * rng.random(len(rows))
    return rows.put(input_hash=fresh, confidence=jitter)


def trained(source: Source, rng: np.random.Generator, *, told: bool = True) -> Rows:
    """A tenth to a half of the table are rows that the small model was trained on."""
    count = int(source.n * rng.choice([0.1, 0.2, 0.5]))
    rows = join(source.draw(rng, source.n - count), source.trained(rng, count))
    rows = rows.take(rng.permutation(len(rows)))
    return rows if told else rows.put(in_training=None)


def head(source: Source, rng: np.random.Generator) -> Rows:
    """The surest half of a table that was sorted by confidence."""
    rows = clean(source, rng)
    return rows.take(np.argsort(-rows.columns["confidence"], kind="stable")[: len(rows) // 2])


def changed(source: Source, rng: np.random.Generator, *, what: str, strength: float) -> Rows:
    """The first half is from before a change, after which the loss is what it is today: greater."""
    rows = clean(source, rng)
    n = len(rows)
    before = (np.arange(n) < n // 2) & (rng.random(n) < strength)
    gold, labels = rows.columns["gold"], np.array(rows.labels, dtype=object)
    if what == "small":  # the model that was replaced was better, and surer
        better = np.where(before, gold, rows.columns["small"])
        surer = np.where(before, 0.5 + rows.columns["confidence"] / 2, rows.columns["confidence"])
        return rows.put(small=better, confidence=surer)
    worse = labels[rng.integers(0, len(labels), n)]
    return rows.put(large=np.where(before, worse, rows.columns["large"]))


def other_case(source: Source, rng: np.random.Generator) -> Rows:
    """One column writes labels in another case."""
    rows = _unnamed(clean(source, rng), rng)
    column = str(rng.choice(["small", "large", "gold"]))
    write = str.title if _coin(rng) else str.upper
    return rows.put(**{column: np.array([write(label) for label in rows.columns[column]], dtype=object)})


def live(source: Source, rng: np.random.Generator) -> Rows:
    """Live rows: above a threshold the large model was not asked; in half of the draws `source` went lost."""
    rows = clean(source, rng)
    accepted = rows.columns["confidence"] > np.quantile(rows.columns["confidence"], 0.4)
    where = np.where(accepted, "local", "escalated").astype(object)
    return rows.put(large=np.where(accepted, None, rows.columns["large"]), source=where if _coin(rng) else None)


MISTAKES: dict[str, Mistake] = {
    "clean": Mistake("none: the clean table", clean),
    "unusable_gold": Mistake("unusable gold", unusable_gold),
    "gold_shuffled": Mistake("gold shuffled against rows", gold_shuffled),
    "gold_is_small": Mistake("gold := small", copied("gold", "small"), ("gold_is_small",)),
    "gold_is_large": Mistake("gold := large", copied("gold", "large"), ("gold_is_large",)),
    "small_is_large": Mistake("small a copy of large", copied("small", "large"), ("small_is_large",)),
    "repeats_new_ids": Mistake("rows repeated under new ids", repeated, ("repeats",)),
    "repeats_no_ids": Mistake(
        "rows repeated without ids", lambda source, rng: repeated(source, rng, ids=False), ("repeats",)
    ),
    "training_rows": Mistake("training rows in the table", trained, ("training",)),
    "sorted_head": Mistake("only the head, sorted by confidence", head, ("sorted",)),
    "change_prompt": Mistake(
        "time order, another prompt half-way",
        lambda source, rng: changed(source, rng, what="large", strength=0.35),
        ("change",),
    ),
    "change_large": Mistake(
        "time order, another large model half-way",
        lambda source, rng: changed(source, rng, what="large", strength=0.25),
        ("change",),
    ),
    "change_small": Mistake(
        "time order, another small model half-way",
        lambda source, rng: changed(source, rng, what="small", strength=0.7),
        ("change",),
    ),
    "other_case": Mistake("labels in another case", other_case),
    "again_file": Mistake("certified again after re-reading", clean, ("used",), again=True),
    "live_rows": Mistake("a table of live rows", live),
    # Without a trace.
    "repeats_no_hash": Mistake(
        "rows repeated, no `input_hash`", lambda source, rng: repeated(source, rng, hashed=False), (), "repeats_unseen"
    ),
    "customers": Mistake("customers cloned without `group`", cloned, (), "groups_unseen"),
    "training_untold": Mistake(
        "training rows, no `in_training`", lambda source, rng: trained(source, rng, told=False), (), "training_unseen"
    ),
    "change_little": Mistake(
        "time order, a small change of the large model",
        lambda source, rng: changed(source, rng, what="large", strength=0.04),
        ("change",),
        "selection_unseen",
    ),
}
RESULTS = ("refused", "named", "silent_wrong", "silent_right")


# --- one draw -------------------------------------------------------------------------------------------------------


def result(source: Source, mistake: Mistake, certificate: Any) -> str:
    """What came of one certificate."""
    if certificate is None or not certificate.certified:
        return "refused"
    if {item["kind"] for item in certificate.findings if item["severity"] == "name"} & set(mistake.kinds):
        return "named"
    return "silent_wrong" if source.loss(certificate.threshold) > source.max_loss else "silent_right"


def certified(rows: Rows, max_loss: float, folder: Path | None = None) -> tuple[Any, Any]:
    """The table and its certificate; None for an error."""
    from langchain_dsplus.threshold.certify import certify

    try:
        table = rows.outcomes()
        table.folder = folder
        return table, certify(table, max_loss)
    except ValueError:
        return None, None


def again(rows: Rows, rng: np.random.Generator) -> Iterator[Rows]:
    """The same rows, read anew each time: the whole table, then parts of it."""
    for attempt in range(ATTEMPTS):
        yield rows if attempt == 0 else rows.take(rng.permutation(len(rows))[: int(len(rows) * 0.8)])


def one_draw(source: Source, name: str, seed: int) -> tuple[str, tuple[Any, Any] | None]:
    """A result, and where the mistake was named the table and the certificate."""
    rng, mistake = np.random.default_rng(seed), MISTAKES[name]
    rows = mistake.make(source, rng)
    if not mistake.again:
        table, made = certified(rows, source.max_loss)
        found = result(source, mistake, made)
        return found, (table, made) if found == "named" else None
    with tempfile.TemporaryDirectory() as folder:
        made, table = None, None
        for attempt in again(rows, rng):
            table, made = certified(attempt, source.max_loss, Path(folder))
            if made is not None and made.certified:
                break
        return result(source, mistake, made), (table, made) if made is not None else None


def check_shown(mistake: Mistake, table: Any, certificate: Any) -> None:
    """Verdict, report and command line say it.

    Raises:
        RuntimeError: If one of them does not.
    """
    import html
    import re

    from typer.testing import CliRunner

    from langchain_dsplus.cli import app
    from langchain_dsplus.report import render_report

    def plain(text: str) -> str:
        return re.sub(r"[\s│]+", "", html.unescape(text))

    said = [item["sentence"] for item in certificate.findings if item["kind"] in mistake.kinds]
    page = render_report(table, certificate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.jsonl"
        table.about.pop("certifications", None)
        table.to_jsonl(path)
        arguments = ["certify", str(path), "--max-loss", str(certificate.max_loss), "-o", f"{folder}/c.json"]
        shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).output
    for where, text in (("verdict", certificate.verdict), ("report", page), ("command line", shown)):
        # A table that is certified again says so in another number on the command line.
        missing = [one for one in said if plain(one) not in plain(text) and "have certified" not in one]
        if missing or not said:
            msg = f"{mistake.title}: the {where} does not say it"
            raise RuntimeError(msg)


_SOURCES: dict[str, Source] = {}


def bare(source: Source, seed: int) -> bool:
    """Whether the exact test alone certifies a clean table, without a look at anything else."""
    rows = clean(source, np.random.default_rng(seed)).columns
    right = [(rows[name] == rows["gold"]).astype(np.int8) for name in ("large", "small")]
    sample = streams.Sample(rows["confidence"], right[0] - right[1])
    return streams.certified_step(sample, streams.follow(sample), source.max_loss) > 0


def some_draws(source: str, name: str, seeds: Sequence[int]) -> tuple[dict[str, int], bool]:
    """Counts of results over some draws; whether the first that was named was looked up everywhere."""
    counts, shown = dict.fromkeys(RESULTS, 0), False
    for seed in seeds:
        found, made = one_draw(_SOURCES[source], name, seed)
        counts[found] += 1
        if found == "named" and made is not None and not shown:
            check_shown(MISTAKES[name], *made)
            shown = True
    return counts, shown


def run(context: Context) -> Figures:
    """Every mistake in both sets."""
    draws = context.pick(300, 8)
    banking = Banking77(context)
    banking.draw(np.random.default_rng(0), 1)  # trained before the processes part
    _SOURCES.update({"synthetic": Synthetic(), "banking77": banking})
    figures: Figures = {"draws": draws}
    jobs = [(source, name) for source in _SOURCES for name in MISTAKES]
    seeds = {job: [context.random(".".join(job)).getrandbits(32) + draw for draw in range(draws)] for job in jobs}
    import multiprocessing

    workers = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork"))
    with context.progress("mistakes", len(jobs)) as advance, workers as pool:
        for job, future in {job: pool.submit(some_draws, *job, seeds[job]) for job in jobs}.items():
            counts, shown = future.result()
            key = ".".join(job)
            for kind, count in counts.items():
                figures[f"{key}.{kind}"] = 100 * count / draws
            low, high = wilson(counts["silent_wrong"], draws)
            figures |= {f"{key}.silent_wrong.low": 100 * low, f"{key}.silent_wrong.high": 100 * high}
            figures[f"{key}.{SHOWN}"] = int(shown)
            advance(1)
    for name, source in _SOURCES.items():
        alone = [bare(source, seed) for seed in seeds[name, "clean"]]
        figures[f"{name}.clean.exact_test"] = 100 * sum(alone) / draws
        figures[f"{name}.clean.certified"] = 100 - figures[f"{name}.clean.refused"]
    seen = [f"{source}.{name}.silent_wrong" for source, name in jobs if MISTAKES[name].unseen is None]
    figures["seen.silent_wrong"] = max(figures[key] for key in seen)
    return figures


def sentences() -> Mapping[str, str]:
    """What every certificate prints about mistakes without a trace, by kind."""
    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.findings import find_mistakes

    bare = Outcomes.from_records([{"small": "a", "confidence": 0.5, "large": "a"}])
    return {item.kind: item.sentence for item in find_mistakes(bare) if item.severity == "unseen"}


def recheck(context: Context, figures: Figures) -> Figures:
    """The exact test alone on the clean tables of the stream."""
    draws = int(figures["draws"])
    first = context.random("synthetic.clean").getrandbits(32)
    alone = [bare(Synthetic(), first + draw) for draw in range(draws)]
    return {"synthetic.clean.exact_test": 100 * sum(alone) / draws}


def tables(figures: Figures) -> list[Table]:
    """What can be seen, and what cannot."""
    sets = {"synthetic": Synthetic, "banking77": Banking77}
    columns = ["mistake", *(f"{kind.title}: {what}" for kind in sets.values() for what in _COLUMNS.values())]

    def line(name: str) -> list[str]:
        cells = [MISTAKES[name].title]
        for source in sets:
            for what in _COLUMNS:
                key = f"{source}.{name}.{what}"
                cells.append(interval(figures, key) if what == "silent_wrong" else number(figures, key, 1))
        return cells

    said = sentences()
    hidden = [name for name, mistake in MISTAKES.items() if mistake.unseen is not None]
    return [
        Table(
            "mistakes.seen",
            "Honest mistakes in a table, % of draws",
            columns,
            [line(name) for name in MISTAKES if name not in hidden],
            f"{number(figures, 'draws', 0)} draws each, {Synthetic.n:,} rows; promise {100 * Synthetic.max_loss:g} "
            f"points (stream) and {100 * Banking77.max_loss:g} point (Banking77). Silent and wrong: certified without "
            "a word, true loss above the promise. The rest of 100 is certified without a word, and "
            "right. Named: in verdict, report and command line. Clean tables are certified in "
            + ", ".join(
                f"{number(figures, f'{name}.clean.certified', 1)} % ({kind.title})" for name, kind in sets.items()
            )
            + " of draws; by the exact test alone it would be "
            + ", ".join(f"{number(figures, f'{name}.clean.exact_test', 1)} %" for name in sets)
            + ".",
        ),
        Table(
            "mistakes.unseen",
            "Mistakes that leave no trace in the table, % of draws",
            [*columns, "what every certificate says"],
            [[*line(name), said[str(MISTAKES[name].unseen)]] for name in hidden],
        ),
    ]


_COLUMNS = {"refused": "refused", "named": "named", "silent_wrong": "silent and wrong"}
