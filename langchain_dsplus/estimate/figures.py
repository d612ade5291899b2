"""`estimate`: from a log of calls to figures; small models see no row that they are judged on."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from langchain_dsplus._imports import require
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.costs.prices import PRICES_DATE, Price, find_price
from langchain_dsplus.costs.usage import Usage, read_usage
from langchain_dsplus.estimate.record import LabelsWorth, LogEstimate, Money, Share
from langchain_dsplus.estimate.tasks import Task, count, find_tasks, prompt_of
from langchain_dsplus.losses import Loss, parse_loss
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.uses import blocks
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.encoder import Encoder, installed_backends
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.certify import certify
from langchain_dsplus.threshold.differences import coverage_grid, differences
from langchain_dsplus.threshold.exact import paired_p_value
from langchain_dsplus.traces.calls import outcomes_from_calls
from langchain_dsplus.traces.logs import Columns, Log

Small: TypeAlias = Literal["auto", "sentence", "tfidf"] | SmallModel

LOSSES = (0.005, 0.01, 0.02)
"""Losses that the table shows, as shares."""
FOLDS = 2
"""Halves: a `DataShunt` sets about as many inputs apart."""
SAMPLE = 20_000
"""Calls in which tasks are looked for."""
CHARACTERS = 20_000_000
"""Of prompts in which tasks are looked for."""
OTHER = "(no label)"
"""What stands in the table where the large model answered outside the closed set."""
_CHARACTERS_PER_TOKEN = 4
_USEFUL = 0.1
_HOPE = 0.5
"""Labels are worth naming where this share of them would have to speak for the small model, or less."""
_ENCODER = "minilm"
_KINDS = ("auto", "sentence", "tfidf")


def estimate(
    log: str | Path | Sequence[str | Path] | Log,
    *,
    columns: Columns | Mapping[str, str] | None = None,
    run_type: str | None = None,
    run_name: str | None = None,
    task: int | None = None,
    small: Small = "auto",
    max_loss: Loss = 0.01,
    level: float = 0.95,
    rows: int = 10_000,
    price: Price | None = None,
    seed: int = 0,
    progress: bool = False,
) -> LogEstimate:
    """Tell from a log of past calls what a shunt would save. No model is asked but a small one on this machine.

    The tasks of the log are found (`find_tasks`); for one of them a small model is fitted on each half of the calls, on
    the large model's own answers, and judged on the other half; equal inputs and groups stay together. Both halves say
    what share could stay local. The first half is certified by itself: the model that answers there has not seen its
    rows, and no threshold was chosen on them but by the test. Without gold every disagreement counts as lost, so the
    promise is about agreement. Halves, and half of the error probability for the first certificate: about so does a
    `DataShunt`, which goes on from there.

    The log is read a row at a time, once or (where it holds more than 20,000 calls) twice; counts are of the whole log,
    everything else is from a random sample of `rows` calls of the task.

    Args:
        log: A file, a folder, `langsmith:PROJECT`, several of them, or a `Log`.
        columns: Where rows hold what (`Columns`, or a dict of its fields); by default known by their keys.
        run_type: Of LangSmith runs, only these.
        run_name: Of LangSmith runs, only those of this name.
        task: Number of the task; by default the most frequent one that has a closed set of answers.
        small: `sentence` (a head on a sentence encoder), `tfidf` (word counts), or a small model with `fit` and
            `clone`. `auto` takes `sentence` where its weights are on this machine.
        max_loss: What is certified first and decides the verdict; the other losses of the table come after it, each
            with half of the error probability of the one before, so that all of them hold together.
        level: Of all certificates together, and of each interval.
        rows: Calls that are looked at, at least 60.
        price: Of the large model; by default its list price, by the name in the log.
        seed: Of the sample and the folds.
        progress: Show bars on stderr.

    Returns:
        A record that prints itself; `decision` is `CASCADE`, `SMALL ALONE`, `LARGE ALONE`, `NOT ENOUGH DATA` or, where
        the log has no task that a shunt could take, `NO TASK`.

    Raises:
        ValueError: If no call can be used, or an argument is out of range. The message carries nothing of the texts.

    Example:
        ```python
        print(estimate("calls.jsonl", columns={"input": "messages.-1.content", "output": "response"}))
        ```
    """
    main = parse_loss(max_loss)
    if rows < 60:
        raise ValueError("`rows` must be at least 60")
    if not isinstance(small, SmallModel) and small not in _KINDS:
        raise ValueError(f"`small` must be one of {_KINDS}, or a small model")
    if isinstance(columns, Mapping):
        columns = Columns(**columns)
    source = log if isinstance(log, Log) else Log(log, columns, run_type=run_type, run_name=run_name)
    tasks, chosen, calls = _read(source, task, rows, seed, progress=progress)
    found = LogEstimate(
        sources=tuple(source.names),
        kinds=tuple(sorted(source.kinds)),
        rows=source.rows,
        calls=source.calls,
        failed=source.failed,
        unreadable=source.unreadable,
        passed=source.passed,
        tasks=tuple(tasks),
        task=chosen,
        max_loss=main,
        level=level,
    )
    if chosen is None or chosen.why_not:
        return found
    return _figures(found, chosen, calls, small, price, seed, progress=progress)


# --- reading ----------------------------------------------------------------------------------------------------------


class _Reservoir:
    """A random sample of what is added, in order; every item with the same chance."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seen = size, 0
        self._kept: list[tuple[int, Any]] = []
        self._random = random.Random(seed)  # noqa: S311 - a sample

    def add(self, item: Any) -> None:
        self.seen += 1
        if len(self._kept) < self.size:
            self._kept.append((self.seen, item))
        elif (place := self._random.randrange(self.seen)) < self.size:
            self._kept[place] = (self.seen, item)

    @property
    def items(self) -> list[Any]:
        return [item for _, item in sorted(self._kept, key=lambda pair: pair[0])]


def _read(
    log: Log, number: int | None, rows: int, seed: int, *, progress: bool
) -> tuple[list[Task], Task | None, list[Mapping[str, Any]]]:
    """The tasks with exact counts, the one that is meant, and a sample of its calls."""
    sample = _Reservoir(max(SAMPLE, rows), seed)
    with progress_bar("reading", None, show=progress) as advance:
        for item in log:
            sample.add(item)
            advance(1)
    if not log.calls:
        raise ValueError(log.nothing())
    if log.empty_columns:
        raise ValueError(
            f"no call of this log has anything under the column that was named for {', '.join(log.empty_columns)}"
        )
    tasks = find_tasks(_few_enough(sample.items))
    if number is not None and not 1 <= number <= len(tasks):
        raise ValueError(f"`task` must be one of 1 to {len(tasks)}, not {number}")
    wanted = number if number is not None else next((task.number for task in tasks if not task.why_not), None)
    again: Iterable[Mapping[str, Any]] = log if log.calls > sample.size else sample.items
    kept = _Reservoir(rows, seed + 1)
    totals: Counter[int] = Counter()
    said: dict[int, Counter[str]] = {task.number: Counter() for task in tasks}
    for call, owners in count(tasks, again):
        for owner in owners:
            totals[owner.number] += 1
            if owner.labels:
                said[owner.number][owner.label(call["output"]) or ""] += 1
            if owner.number == wanted:
                kept.add(call)
    counted = [replace(task, calls=totals[task.number], answers=dict(said[task.number])) for task in tasks]
    chosen = next((task for task in counted if task.number == wanted), None)
    return counted, chosen, kept.items


def _few_enough(calls: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Fewer where prompts are long: templates show in fewer, and words take memory."""
    characters = sum(len(prompt_of(call)[1]) for call in calls)
    return calls[:: math.ceil(characters / CHARACTERS) or 1]


# --- the small model --------------------------------------------------------------------------------------------------


class KnownVectors:
    """An encoder that encodes each text once, however often a head is fitted."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.version = encoder.version
        self._known: dict[str, Any] = {}
        self.seconds = 0.0

    def learn(self, texts: Sequence[str], *, progress: bool = False) -> None:
        """Encode what is not known yet."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            began = time.perf_counter()
            self._known.update(zip(new, self.encoder.encode(new, progress=progress), strict=True))
            self.seconds += time.perf_counter() - began

    def encode(self, texts: list[str]) -> Any:
        """Return one row per text."""
        self.learn(texts)
        return np.array([self._known[text] for text in texts], dtype=np.float32)


@dataclass
class _Maker:
    """Makes fitted small models.

    Attributes:
        kind: What they are, in words.
        fit: From texts and labels to a fitted model.
        seconds: Of encoding a text.
        workers: Fits at a time: each runs on one core.
    """

    kind: str
    fit: Callable[[list[str], list[str]], SmallModel]
    seconds: float = 0.0
    workers: int = 2


def _maker(small: Small, task: Task, texts: list[str], seed: int, *, progress: bool) -> _Maker:
    labels = list(task.labels)
    if isinstance(small, SmallModel):
        model: Any = small
        if not callable(getattr(model, "clone", None)) or not callable(getattr(model, "fit", None)):
            raise TypeError(f"`small` must have `clone` and `fit`; {type(small).__name__} lacks one")
        return _Maker(type(small).__name__, lambda x, y: model.clone().fit(x, y), workers=1)
    if small == "auto":
        small = "sentence" if _has_encoder() else "tfidf"
    if small == "tfidf":
        return _Maker("word counts (TF-IDF) and a linear head", _fit_words)
    encoder = Encoder(_ENCODER)
    vectors = KnownVectors(encoder)
    encoder.load()
    vectors.learn(texts, progress=progress)
    return _Maker(
        f"a head on the sentence encoder {_ENCODER}",
        lambda x, y: SentenceClassifier(vectors, labels, seed=seed).fit(x, y),
        vectors.seconds / max(len(set(texts)), 1),
    )


def _has_encoder() -> bool:
    from langchain_dsplus.weights import WeightsError, cached_path

    if not installed_backends():
        return False
    try:
        return cached_path(_ENCODER) is not None
    except WeightsError:
        return False


def _fit_words(texts: list[str], labels: list[str]) -> SmallModel:
    text: Any = require("sklearn.feature_extraction.text", "sklearn")
    linear: Any = require("sklearn.linear_model", "sklearn")
    pipeline: Any = require("sklearn.pipeline", "sklearn")
    tokens = {"token_pattern": r"\S+"}  # of every script
    words = text.TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), max_features=20_000, **tokens)
    head = linear.LogisticRegression(C=10.0, tol=1e-3, max_iter=200)
    return SklearnClassifier(pipeline.make_pipeline(words, head).fit(texts, labels), trained_on=texts)


# --- figures ----------------------------------------------------------------------------------------------------------


def _figures(
    found: LogEstimate,
    task: Task,
    calls: list[Mapping[str, Any]],
    small: Small,
    price: Price | None,
    seed: int,
    *,
    progress: bool,
) -> LogEstimate:
    prompts = [prompt_of(call)[1] for call in calls]
    texts = [task.variable(prompt) for prompt in prompts]
    labels = [task.label(call["output"]) for call in calls]
    places = _folds(texts, calls, seed)
    maker = _maker(small, task, texts, seed, progress=progress)
    seen = [[p for p in np.flatnonzero(places != fold).tolist() if labels[p] is not None] for fold in range(FOLDS)]
    if any(len({labels[p] for p in rows}) < 2 for rows in seen) or len(set(places.tolist())) < FOLDS:
        why = "too few rows: too few different inputs, or one answer only in half of the calls"
        return replace(found, task=replace(task, why_not=why))
    with progress_bar("fitting", FOLDS, show=progress) as advance, ThreadPoolExecutor(maker.workers) as pool:
        fits = [pool.submit(maker.fit, [texts[p] for p in rows], [str(labels[p]) for p in rows]) for rows in seen]
        models: list[SmallModel] = []
        for fit in fits:
            models.append(fit.result())
            advance(1)
    tables = []
    for fold, model in enumerate(models):
        rows = [_row(calls[p], p, texts[p], labels[p], task) for p in np.flatnonzero(places == fold).tolist()]
        tables.append(outcomes_from_calls(model, rows, about={"labels": list(task.labels)}))
    order = [found.max_loss, *sorted({*LOSSES} - {found.max_loss}, reverse=True)]
    certificates = {loss: certify(tables[0], loss, (1.0 + found.level) / 2.0, seed=seed) for loss in order}
    losses, deff = _pooled(tables)
    shares = tuple(
        Share(loss, *kept_share(losses, loss, deff, found.level), certificate=certificates[loss])
        for loss in sorted(certificates)
    )
    return replace(
        found,
        small=maker.kind,
        n=len(calls),
        fitted=sum(label is not None and fold > 0 for label, fold in zip(labels, places.tolist(), strict=True)),
        held_out=len(tables[0]),
        distinct=len(set(texts)),
        shares=shares,
        decision=_decision(shares, found.max_loss),
        labels_worth=labels_worth(tables[0], certificates[found.max_loss]),
        money=_money(calls, prompts, tables, maker, price),
        model=models[0],
        table=tables[0],
    )


def _folds(texts: Sequence[str], calls: Sequence[Mapping[str, Any]], seed: int) -> Any:
    """The fold of each row; rows with equal inputs, or of one group, are in one."""
    table = Outcomes.from_records(
        {
            "id": str(place), "small": None, "confidence": None, "large": None, "group": call.get("group"),
            "input_hash": " ".join(text.split()),
        }
        for place, (text, call) in enumerate(zip(texts, calls, strict=True))
    )  # fmt: skip
    found = blocks(table)
    numbers = np.arange(len(texts)) if found is None else found
    sizes = np.bincount(numbers)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    ends = np.cumsum(sizes[shuffled])
    fold = np.empty(len(sizes), dtype=np.int64)
    fold[shuffled] = np.minimum((ends - 1) * FOLDS // len(texts), FOLDS - 1)
    return fold[numbers]


def _row(call: Mapping[str, Any], place: int, text: str, label: str | None, task: Task) -> dict[str, Any]:
    gold = call.get("gold")
    return {
        "kind": "call",
        "route_id": f"{call['id']}#{place}",
        "input": text,
        "output": OTHER if label is None else label,
        "gold": None if gold is None else task.label(gold),
        **{key: call.get(key) for key in ("group", "model", "usage", "large_seconds")},
    }


def _pooled(tables: Sequence[Outcomes]) -> tuple[Any, float]:
    """What each row loses if it stays local, the surest first, over all folds; and by how much rows count for less.

    Folds have a model each, so confidences are compared as ranks within the fold. Rows of one block (equal inputs)
    say the same thing again: n is divided by sum of squares / n, as for rows that are fully alike (Kish 1965).
    """
    ranks, losses, squares = [], [], 0
    for table in tables:
        side = differences(table).models[0]
        order = np.argsort(-np.nan_to_num(side.confidence, nan=-np.inf, neginf=-np.inf), kind="stable")
        losses.append(np.where(np.isfinite(side.confidence), side.loss, 0)[order])
        ranks.append((np.arange(len(order)) + 0.5) / len(order))
        found = blocks(table)
        squares += len(table) if found is None else int((np.bincount(found) ** 2).sum())
    together = np.argsort(np.concatenate(ranks), kind="stable")
    return np.concatenate(losses)[together], squares / len(together)


def kept_share(losses: Any, max_loss: float, deff: float = 1.0, level: float = 0.95) -> tuple[float, float, float]:
    """Return the share of inputs that could stay local at a loss, with its interval.

    Where the true loss of what is accepted reaches `max_loss`, the losses seen up to there are binomial about
    `max_loss` x n: so the share lies between the places where the counts of its lower and its upper quantile are
    reached. That a share of n rows is itself seen with an error is added (MOVER, Zou and Donner 2008).

    Args:
        losses: 1 lost, -1 won, 0 the same, the surest row first, shape (n,).
        max_loss: The loss, as a share of all inputs.
        deff: By how much more such counts vary than those of rows that are independent.
        level: Of the interval.

    Example:
        >>> kept_share(np.zeros(50), 0.01)
        (1.0, 0.0, 1.0)
    """
    special: Any = require("scipy.stats", "sklearn")
    n = len(losses)
    total = np.cumsum(losses)
    within = np.flatnonzero(total <= max_loss * n)
    share = float((within[-1] + 1) / n) if len(within) else 0.0
    at = max(int(share * n), 1)
    moved = float(np.abs(losses[:at]).sum()) / n
    tail = (1.0 - level) / 2.0
    if (losses < 0).any():  # gains too: harms less gains, about normal
        spread = float(special.norm.ppf(1.0 - tail)) * math.sqrt(deff * max(moved, max_loss) * n)
        least, most = max_loss * n - spread, max_loss * n + spread
    else:
        least, most = (deff * float(special.binom.ppf(q, max(round(n / deff), 1), max_loss)) for q in (tail, 1 - tail))
    reached, passed = np.flatnonzero(total >= least), np.flatnonzero(total > most)
    low = (float(reached[0]) / n if len(reached) else share) if least > 0 else 0.0
    high = float(passed[0]) / n if len(passed) else 1.0
    wide = float(special.norm.ppf(1.0 - tail)) * math.sqrt(share * (1.0 - share) * deff / n)
    low, high = min(low, share), max(high, share)
    return share, max(share - math.hypot(share - low, wide), 0.0), min(share + math.hypot(high - share, wide), 1.0)


def _decision(shares: Sequence[Share], max_loss: float) -> str:
    main = next(share for share in shares if share.max_loss == max_loss)
    if main.certificate.certified:
        return main.certificate.decision or "CASCADE"
    return "LARGE ALONE" if main.high < _USEFUL else "NOT ENOUGH DATA"


def labels_worth(table: Outcomes, certificate: Certificate) -> LabelsWorth | None:
    """Return how many labels of which held-out rows would certify more, if so many speak for the small model.

    For each coverage: the disagreements without gold that lie above it, and the fewest of them that a person would have
    to find to be the large model's errors. The largest coverage counts where these are half of them or less.
    """
    side = differences(table).models[0]
    alpha = (1.0 - certificate.level) / 2.0 ** float(table.about.get("certifications", 0))
    n, best = len(table), None
    for threshold in coverage_grid(side.confidence):
        kept = side.confidence > threshold
        coverage = float(kept.mean())
        open_ = int((kept & side.unlabeled).sum())
        if coverage <= certificate.coverage or not open_:
            continue
        harms, gains = int((kept & (side.loss > 0)).sum()), int((kept & (side.loss < 0)).sum())
        low, high = 0, open_ + 1  # the fewest that pass: a gain in the place of a harm only helps
        while low < high:
            middle = (low + high) // 2
            passes = (
                middle <= open_ and paired_p_value(harms - middle, gains + middle, n, certificate.max_loss) <= alpha
            )
            low, high = (low, middle) if passes or middle > open_ else (middle + 1, high)
        if low <= _HOPE * open_:
            best = LabelsWorth(open_, low, float(threshold), coverage)
    return best


def _money(
    calls: Sequence[Mapping[str, Any]],
    prompts: Sequence[str],
    tables: Sequence[Outcomes],
    maker: _Maker,
    price: Price | None,
) -> Money:
    """What a thousand calls cost and take, from what the log says of tokens, models and times."""
    names = Counter(call["model"] for call in calls if call.get("model"))
    prices = {name: price or find_price(name) for name in names}
    usages = [read_usage(call.get("usage")) for call in calls]
    guessed = sum(usage is None for usage in usages)
    dollars: list[float] = []
    for call, prompt, usage in zip(calls, prompts, usages, strict=True):
        rate = price if price is not None else prices.get(call.get("model"))
        if rate is not None:
            said = str(call["output"].get("content", "") if isinstance(call["output"], Mapping) else call["output"])
            tokens = usage or Usage(
                input=math.ceil(len(prompt) / _CHARACTERS_PER_TOKEN),
                output=math.ceil(len(said) / _CHARACTERS_PER_TOKEN),
            )
            dollars.append(rate.cost(tokens))
    times = [call["large_seconds"] for call in calls if call.get("large_seconds") is not None]
    small = [float(np.nanmean(table["latency_small"])) for table in tables]
    first = price or next((rate for name, _ in names.most_common() if (rate := prices[name]) is not None), None)
    return Money(
        models=tuple(name for name, _ in names.most_common(3)),
        currency=first.currency if first is not None else "USD",
        source="" if first is None else first.source or ("as given" if price else f"list prices of {PRICES_DATE}"),
        large=1000.0 * sum(dollars) / len(dollars) if dollars else None,
        tokens_guessed=guessed / len(calls),
        unpriced=1.0 - len(dollars) / len(calls),
        large_seconds=1000.0 * sum(times) / len(times) if times else None,
        small_seconds=1000.0 * (sum(small) / len(small) + maker.seconds),
    )
