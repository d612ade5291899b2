"""What others offer for the same question, on the same recorded answers and splits: calls, accuracy, broken promises.

Each split has certify rows, for which the large model's answers are known (and gold, where the two models disagree),
and new rows. A way to decide is fitted on the first and scored on the second. All that take a score get the same one,
the margin of a small model: TF-IDF and logistic regression in front of GPT-4 or GPT-3.5, RoBERTa in front of o4-mini.
L is the loss that may be promised away: half a point of accuracy on Banking77, two points on the small sets.

`langchain-dsplus`: `certify`. Promise: the cascade loses at most L against the large model, 95 %.
`BARGAIN` decides about one batch and draws its own sample in it: it gets certify rows and new rows as one batch.
    Promise: the output agrees with the large model on a share T of this batch, 1 - delta. The equal promise is
    T = 1 - L, delta = .05. "Harms" gives it gold where it asks and the models disagree: an answer is wrong only if the
    large model alone was right. "Carried": the threshold that it found on the certify rows, used on new rows.
`deferguard`: at most alpha of the accepted answers are wrong (not the large model's), 1 - alpha. It runs at the alpha
    that it recommends for so many rows. The equal promise counts harms at alpha = L, and waives its factor of safety
    on the number of rows, without which it would refuse by size alone.
`TRACER` trains a model of its own from the large model's answers; it gets the small model's probabilities as
    embeddings. Promise: what it accepts agrees with the large model on a share T, 90 %. Slow, so few splits; gradient
    boosting, which its documentation says to leave out with many classes, is left out with 77.
`cascadeflow`: no promise; threshold .7, its default, on its score of the text, of log-probabilities, or on our score.
`LCEL`: a `RunnableBranch` at .9 on the largest probability, and at what `choose_threshold` finds on the certify rows.
`RouteLLM`: its rule only, written anew (its import needs the network): the quantile of the scores that sends half of
    the inputs to the large model. `Random`: as many inputs as `langchain-dsplus` escalates, drawn.

Calls, accuracy and the difference are those of the new rows: mean and middle 95 % over the splits. "All rows" counts
what was spent on the certify rows too: who must see the large model's answers to all of them pays for all of them.
Beside them stand the models alone, and random routing at our share of calls. For everybody alike, on the new rows of
the same splits: in how many the loss was above L, as it was, how far chance alone takes the loss of one split, and in
how many it was above L by more than that. The noise on a thousand new rows is larger than the promise, so that the raw
share cannot tell whether a promise broke. For that, thresholds are fitted on rows drawn with replacement and judged on
the recorded rows, which then are the whole population. A batch of BARGAIN's is judged on itself, as it promises. TRACER
is judged on the new rows, since copies of a row would leak from its training rows to its calibration rows.

The rivals live in an environment of their own:
`python -m venv .venv-rivals`, `.venv-rivals/bin/pip install -r benchmarks/rivals.txt`, then
`DSPLUS_RIVALS_PYTHON=.venv-rivals/bin/python python -m benchmarks rivals`. Without it, only what needs no rival runs.
Seconds are taken side by side: in every split, ours and each rival's one after the other, in two processes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import data
from benchmarks.harness import ROOT, Context, Figures, Table, interval, number, quartiles, share
from benchmarks.rivals_streams import QUICK, STREAMS, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LEVEL = 0.95
LOSSES = (0.005, 0.01, 0.02, 0.05)  # at which those with an equal promise are compared
STRONG = 0.5  # RouteLLM's wanted share of calls to the large model
FIXED = 0.9
CASCADEFLOW = {"cascadeflow": "text", "cascadeflow_logprobs": "logprobs", "cascadeflow_validator": "validator"}
TIMED = 20  # inputs that are decided one by one for the seconds per call


@dataclass(frozen=True)
class Way:
    """A way to decide, with what it promises; `equal` where that implies a loss of at most `max_loss`, at 95 %."""

    key: str
    title: str
    promise: str = "none"
    equal: bool = False


WAYS = (
    Way("ours", "langchain-dsplus", "loss <= L", equal=True),
    Way("ours_no_gold", "langchain-dsplus, no gold labels", "loss <= L", equal=True),
    Way("bargain", "BARGAIN, its defaults", "agreement >= 90 % (90 %)"),
    Way("bargain_equal", "BARGAIN", "agreement >= 1 - L", equal=True),
    Way("bargain_harms", "BARGAIN on harms", "harms <= L", equal=True),
    Way("bargain_carried", "BARGAIN on harms, carried to new rows"),
    Way("deferguard", "deferguard, alpha as it recommends", "wrong of accepted <= alpha"),
    Way("deferguard_equal", "deferguard on harms", "harms of accepted <= L", equal=True),
    Way("tracer", "TRACER, its default", "agreement of accepted >= 90 % (90 %)"),
    Way("tracer_equal", "TRACER", "agreement of accepted >= 1 - L (90 %)", equal=True),
    Way("cascadeflow", "cascadeflow, its own gate"),
    Way("cascadeflow_logprobs", "cascadeflow, gate with log-probabilities"),
    Way("cascadeflow_validator", "cascadeflow, our score as validator"),
    Way("lcel", f"LCEL, fixed threshold {FIXED:g}"),
    Way("tuned", "LCEL, threshold chosen on the certify rows"),
    Way("routellm", f"RouteLLM's rule, {STRONG:.0%} of the calls"),
    Way("random", "random, at our share of calls"),
)


@dataclass
class Decision:
    """What a way did with all rows of a split, the certify rows included.

    `broke`: whether its own promise, and ours, broke, where that is known for this very split.
    """

    escalated: np.ndarray
    answers: np.ndarray
    gold: int = 0
    fit: float | None = None
    call: float | None = None
    broke: tuple[bool | None, bool | None] = (None, None)


# --- ours, and what needs no rival ------------------------------------------------------------------------------


def outcomes(stream: Stream, rows: np.ndarray, *, gold: bool = True) -> Any:
    from langchain_dsplus import Outcomes

    def named(answers: np.ndarray) -> list[str]:
        return [stream.labels[answer] for answer in answers[rows]]

    columns = {
        "small": named(stream.small),
        "confidence": stream.score[rows].tolist(),
        "large": named(stream.large),
        "gold": named(stream.gold) if gold else [None] * len(rows),
    }
    return Outcomes(columns, about={"score": "margin", "labels": stream.labels})


def certified(stream: Stream, rows: np.ndarray, *, gold: bool = True) -> float:
    """The threshold of a certificate; infinity where nothing is certified."""
    from langchain_dsplus.threshold.certify import certify

    return float(certify(outcomes(stream, rows, gold=gold), max_loss=stream.max_loss, level=LEVEL).threshold)


def chosen(stream: Stream, rows: np.ndarray) -> float:
    """The threshold that matches the large model on these rows, without any promise."""
    from langchain_dsplus import choose_threshold

    return choose_threshold(outcomes(stream, rows), "match_large", bootstrap=0).threshold


def quantile(stream: Stream, rows: np.ndarray) -> float:
    """RouteLLM's rule: strong iff P(strong wins) >= the quantile that leaves the wanted share of strong calls above."""
    strong_wins = 1 - stream.score
    return float(1 - np.quantile(strong_wins[rows], 1 - STRONG))


def seconds_per_call(stream: Stream, rows: np.ndarray, threshold: float) -> dict[str, float]:
    """Deciding inputs one by one with recorded answers: our router, and the same as a `RunnableBranch`."""
    from langchain_core.runnables import RunnableBranch, RunnableLambda

    from benchmarks.replay import Recorded, ask_recorded
    from langchain_dsplus import ConfidenceRouter, SklearnClassifier

    inputs = [
        {"number": int(row), "recorded": stream.probabilities[row].tolist(), "large": stream.labels[stream.large[row]]}
        for row in rows
    ]
    small = SklearnClassifier(Recorded(stream.labels[: stream.probabilities.shape[1]]))
    large = RunnableLambda(ask_recorded).with_types(output_type=str)
    top = stream.top
    branch = RunnableBranch(
        (
            lambda row: top[row["number"]] >= FIXED,
            RunnableLambda(lambda row: stream.labels[stream.small[row["number"]]]),
        ),
        large,
    )
    found = {}
    with ConfidenceRouter(small=small, large=large, threshold=threshold, score="margin") as router:
        for name, runnable in (("ours", router), ("lcel", branch)):
            runnable.invoke(inputs[0])
            start = time.perf_counter()
            for one in inputs:
                runnable.invoke(one)
            found[name] = (time.perf_counter() - start) / len(inputs)
    return found


# --- the rivals' environment ------------------------------------------------------------------------------------


class Worker:
    """`rivals_worker.py` in the rivals' interpreter: one request, one reply, both a JSON line."""

    def __init__(self, python: str, stream: Stream, folder: Path) -> None:
        path = folder / f"{stream.name}.npz"
        columns = {name: getattr(stream, name) for name in ("small", "large", "gold", "score", "top", "probabilities")}
        np.savez(path, **columns)
        try:
            self.process = subprocess.Popen(
                [python, str(ROOT / "rivals_worker.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            msg = f"DSPLUS_RIVALS_PYTHON={python!r} does not start: {error}"
            raise RuntimeError(msg) from error
        self.versions = self.ask("load", path=str(path), labels=stream.labels)["versions"]

    def ask(self, what: str, **settings: Any) -> dict[str, Any]:
        """Ask for decisions.

        Raises:
            RuntimeError: If the rival failed, or its environment lacks it.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in settings.items()}
        self.process.stdin.write(json.dumps({"do": what, **plain}) + "\n")
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline() or '{"error": "the rivals\' interpreter ended"}')
        if "error" in reply:
            raise RuntimeError(reply["error"])
        return dict(reply)

    def close(self) -> None:
        self.process.communicate(timeout=60)  # closes its stdin, at which it ends


@contextmanager
def rivals(stream: Stream) -> Iterator[Worker | None]:
    """The rivals' worker for a stream; None where `DSPLUS_RIVALS_PYTHON` names no interpreter."""
    python = os.environ.get("DSPLUS_RIVALS_PYTHON")
    if not python:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(python, stream, Path(folder))
        try:
            yield worker
        finally:
            worker.close()


def at_least(cut: float | None) -> float:
    """The threshold that accepts what lies above it, from one that accepts what equals it; infinity for None."""
    return math.inf if cut is None else math.nextafter(cut, -math.inf)


def bargain(worker: Worker, stream: Stream, rows: np.ndarray, seed: int, **settings: Any) -> Decision:
    """One batch of all rows, judged on itself."""
    settings = {"target": 1 - stream.max_loss, "delta": 1 - LEVEL, "harms": False} | settings
    reply = worker.ask("bargain", rows=rows, seed=seed, **settings)
    escalated, answers = np.ones(len(stream.gold), dtype=bool), stream.large.copy()
    escalated[rows], answers[rows] = reply["used"], reply["answers"]
    bad = stream.harm & ~escalated if settings["harms"] else answers != stream.large
    broke = bool(bad[rows].mean() > 1 - settings["target"] + 1e-12)
    return Decision(escalated, answers, reply["gold"], reply["fit"], None, (broke, stream.breaks(answers, rows)))


def tracer(worker: Worker, stream: Stream, certify: np.ndarray, new: np.ndarray, target: float) -> Decision:
    skip = ["gbt"] if len(stream.labels) > 10 else []
    reply = worker.ask("tracer", certify=certify, rows=new, target=target, skip=skip)
    escalated, answers = np.ones(len(stream.gold), dtype=bool), stream.large.copy()
    for row, answer in zip(new, reply["answers"] or [], strict=bool(reply["answers"])):
        if answer is not None:
            escalated[row], answers[row] = False, answer
    kept = ~escalated
    broke = bool(kept.any() and (answers == stream.large)[kept].mean() < target)
    return Decision(escalated, answers, 0, reply["fit"], reply["call"], (broke, stream.breaks(answers, new)))


# --- measuring --------------------------------------------------------------------------------------------------


def thresholds(
    stream: Stream, rows: np.ndarray, worker: Worker | None, seed: int
) -> dict[str, tuple[float, dict[str, Any]]]:
    """The threshold of each way that fits one on certify rows, with what else is known of the fit."""
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    differ = int((stream.small != stream.large)[rows].sum())
    own: dict[str, tuple[Callable[[], float], int]] = {
        "ours": (lambda: certified(stream, rows), differ),
        "ours_no_gold": (lambda: certified(stream, rows, gold=False), 0),
        "tuned": (lambda: chosen(stream, rows), differ),
        "routellm": (lambda: quantile(stream, rows), 0),
    }
    for key, (fit, gold) in own.items():
        start = time.perf_counter()
        threshold = fit()
        found[key] = threshold, {"fit": time.perf_counter() - start, "gold": gold}
    if worker is not None:
        reply = worker.ask("bargain", rows=rows, target=1 - stream.max_loss, delta=1 - LEVEL, harms=True, seed=seed)
        found["bargain_carried"] = at_least(reply["cut"]), reply
        for key, alpha in (("deferguard", None), ("deferguard_equal", stream.max_loss)):
            reply = worker.ask("deferguard", certify=rows, alpha=alpha, harms=alpha is not None)
            found[key] = at_least(reply["cut"]), reply | {"gold": 0 if alpha is None else differ}
    return found


def fixed(stream: Stream, worker: Worker | None) -> dict[str, np.ndarray]:
    """Which rows are escalated by the ways that fit nothing."""
    from langchain_core.runnables import RunnableBranch, RunnableLambda

    top = stream.top
    branch = RunnableBranch(
        (lambda row: top[row] >= FIXED, RunnableLambda(lambda _row: False)), RunnableLambda(lambda _row: True)
    )
    rows = np.arange(len(stream.gold))
    found = {"lcel": np.array(branch.batch(rows.tolist()))}
    if worker is not None:
        for key, gate in CASCADEFLOW.items():
            found[key] = np.array(worker.ask("cascadeflow", rows=rows, gate=gate)["used"])
    return found


def split(
    stream: Stream,
    masks: dict[str, np.ndarray],
    worker: Worker | None,
    generator: np.random.Generator,
    *,
    slow: Sequence[str],
) -> tuple[np.ndarray, dict[str, Decision]]:
    """Cut the rows into certify rows and new ones, and let everyone decide; the new rows with the decisions."""
    order = generator.permutation(len(stream.gold))
    seed = int(generator.integers(2**31))
    certify, new = order[: stream.certify], order[stream.certify :]
    found = {}
    for key, (threshold, known) in thresholds(stream, certify, worker, seed).items():
        escalated = ~(stream.score > threshold)
        if key == "bargain_carried":  # of the certify rows it asked only for these
            escalated[certify] = known["used"]
        elif key != "routellm":  # its rule needs no answers of the large model
            escalated[certify] = True
        found[key] = Decision(escalated, stream.answers(escalated), known["gold"], known["fit"], known.get("call"))
        if key == "ours":
            calls = seconds_per_call(stream, new[:TIMED], threshold)
            found[key].call = calls["ours"]
    for key, escalated in masks.items():
        found[key] = Decision(escalated, stream.answers(escalated))
    found["lcel"].call = calls["lcel"]
    budget = found["ours"].escalated[new].mean()
    escalated = found["ours"].escalated.copy()
    escalated[new] = generator.random(len(new)) < budget
    found["random"] = Decision(escalated, stream.answers(escalated))
    if worker is not None:
        found["bargain"] = bargain(worker, stream, order, seed, target=0.9, delta=0.1)
        found["bargain_equal"] = bargain(worker, stream, order, seed)
        found["bargain_harms"] = bargain(worker, stream, order, seed, harms=True)
        for key, gate in CASCADEFLOW.items():
            found[key].call = worker.ask("cascadeflow", rows=new[:TIMED], gate=gate)["call"]
        for key in slow:
            target = 0.9 if key == "tracer" else 1 - stream.max_loss
            found[key] = tracer(worker, stream, certify, new, target)
    return new, found


def draw(stream: Stream, worker: Worker | None, generator: np.random.Generator) -> dict[str, tuple[bool | None, bool]]:
    """Fit on rows drawn with replacement; whether each way's own promise, and ours, broke on the whole population."""
    rows = generator.integers(len(stream.gold), size=stream.certify)
    broke: dict[str, tuple[bool | None, bool]] = {}
    large, small = (stream.large == stream.gold).mean(), (stream.small == stream.gold).mean()
    for key, (threshold, known) in thresholds(stream, rows, worker, int(generator.integers(2**31))).items():
        escalated = ~(stream.score > threshold)
        worse = stream.breaks(stream.answers(escalated))
        own: bool | None = None
        if key in {"ours", "ours_no_gold"}:
            own = worse
            if key == "ours":
                broke["random"] = None, bool((~escalated).mean() * (large - small) > stream.max_loss + 1e-12)
        elif "alpha" in known:
            wrong = stream.harm if key == "deferguard_equal" else stream.small != stream.large
            own = bool((~escalated).any() and wrong[~escalated].mean() > known["alpha"])
        broke[key] = own, worse
    return broke


def spread(key: str, values: Sequence[float]) -> Figures:
    """The mean in percent, with the middle 95 % of the splits."""
    low, high = np.percentile(values, [2.5, 97.5])
    return {key: 100 * float(np.mean(values)), f"{key}.low": 100 * float(low), f"{key}.high": 100 * float(high)}


def untouched(stream: Stream, pairs: Sequence[tuple[np.ndarray, Decision]]) -> Figures:
    """Whether the new rows of a split lost more than may be lost: raw, and beyond what chance does one time in twenty.

    Returns:
        `above` and `beyond`: shares of the splits in percent; `noise`: in points, how far chance alone takes the loss
        of one split from the true one, 95 %, one-sided.
    """
    large = (stream.large == stream.gold).astype(int)
    above, beyond, noises = [], [], []
    for new, decision in pairs:
        lost = (large - (decision.answers == stream.gold))[new]
        noise = 1.645 * math.sqrt(float(lost.var()) / len(lost))
        above.append(float(lost.mean()) > stream.max_loss + 1e-12)
        beyond.append(float(lost.mean()) > stream.max_loss + noise + 1e-12)
        noises.append(noise)
    return {
        "above": 100 * float(np.mean(above)),
        "beyond": 100 * float(np.mean(beyond)),
        "noise": 100 * float(np.mean(noises)),
    }


def figures_of(stream: Stream, pairs: Sequence[tuple[np.ndarray, Decision]]) -> Figures:
    """Of one way, over the splits: what it cost and what it brought, all but seconds."""
    right = [(decision.answers == stream.gold)[new].mean() for new, decision in pairs]
    large = stream.large == stream.gold
    return {
        "splits": len(pairs),
        **spread("calls", [decision.escalated[new].mean() for new, decision in pairs]),
        **spread("all_calls", [decision.escalated.mean() for _, decision in pairs]),
        **spread("right", right),
        **spread("gain", [r - large[new].mean() for r, (new, _) in zip(right, pairs, strict=True)]),
        **share("refused", [bool(decision.escalated[new].all()) for new, decision in pairs]),
        **untouched(stream, pairs),
        "gold": float(np.mean([decision.gold for _, decision in pairs])),
    }


def equal(
    stream: Stream, worker: Worker | None, generator: np.random.Generator, rounds: int, advance: Callable[[int], None]
) -> Figures:
    """The calls of those who promise the same, at the stream's `max_loss`."""
    calls: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        order = generator.permutation(len(stream.gold))
        certify, new = order[: stream.certify], order[stream.certify :]
        cuts = {"ours": certified(stream, certify), "ours_no_gold": certified(stream, certify, gold=False)}
        if worker is not None:
            reply = worker.ask("deferguard", certify=certify, alpha=stream.max_loss, harms=True)
            cuts["deferguard_equal"] = at_least(reply["cut"])
            for key, harms in (("bargain_equal", False), ("bargain_harms", True)):
                escalated = bargain(worker, stream, order, int(generator.integers(2**31)), harms=harms).escalated
                calls[key].append((escalated[new].mean(), escalated.mean()))
        for key, cut in cuts.items():
            escalated = ~(stream.score > cut)
            escalated[certify] = True
            calls[key].append((escalated[new].mean(), escalated.mean()))
        advance(1)
    figures: Figures = {}
    for key, pairs in calls.items():
        for place, name in enumerate(("calls", "all_calls")):
            figures |= spread(f"equal_{100 * stream.max_loss:g}.{key}.{name}", [pair[place] for pair in pairs])
    return figures


def measure(context: Context, stream: Stream) -> Figures:
    """All figures of a stream."""
    splits, draws, rounds = context.pick((30, 100, 6), (2, 4, 1))
    # TRACER takes a minute and more with 77 classes; that it refuses the equal promise, one split shows.
    slow = context.pick([("tracer", "tracer_equal"), ("tracer",), ("tracer",)], [("tracer",)])
    slow = [] if context.quick and len(stream.labels) > 10 else slow
    n, large, small = len(stream.gold), stream.large == stream.gold, stream.small == stream.gold
    figures: Figures = {"n": n, "certify": stream.certify, "max_loss": 100 * stream.max_loss, "splits": splits}
    figures |= {"draws": draws, "disagree": 100 * (stream.small != stream.large).mean()}
    figures |= share("large", large) | share("small", small)
    numbers = np.random.default_rng(context.random(f"{stream.name}: splits").getrandbits(32))
    decided: dict[str, list[tuple[np.ndarray, Decision]]] = defaultdict(list)
    broke: dict[str, list[tuple[bool | None, bool | None]]] = defaultdict(list)
    with rivals(stream) as worker:
        if worker is not None:
            context.facts["rivals"] = worker.versions
        masks = fixed(stream, worker)
        with context.progress(f"{stream.name}: splits", splits) as advance:
            for place in range(splits):
                new, decisions = split(stream, masks, worker, numbers, slow=slow[place] if place < len(slow) else ())
                for key, decision in decisions.items():
                    decided[key].append((new, decision))
                    if decision.broke[1] is not None:
                        broke[key].append(decision.broke)
                advance(1)
        with context.progress(f"{stream.name}: promises", draws) as advance:
            for _ in range(draws):
                for key, pair in draw(stream, worker, numbers).items():
                    broke[key].append(pair)
                advance(1)
        with context.progress(f"{stream.name}: equal promises", rounds * len(LOSSES)) as advance:
            for loss in LOSSES:
                figures |= equal(replace(stream, max_loss=loss), worker, numbers, rounds, advance)
    for key, mask in masks.items():  # nothing is fitted: it loses this, or it does not
        figures[f"{key}.loss_broken"] = 100.0 * stream.breaks(stream.answers(mask))
    for key, pairs in decided.items():
        figures |= {f"{key}.{name}": value for name, value in figures_of(stream, pairs).items()}
        for what in ("fit", "call"):
            times = [value for _, d in pairs if (value := getattr(d, what)) is not None]
            if times:
                middle = quartiles(times)
                figures |= dict(zip((f"{key}.{what}.low", f"{key}.{what}", f"{key}.{what}.high"), middle, strict=True))
    for key, outcomes_ in broke.items():
        for name, place in (("broken", 0), ("loss_broken", 1)):
            known = [bool(pair[place]) for pair in outcomes_ if pair[place] is not None]
            if known:
                figures |= share(f"{key}.{name}", known)
    return {f"{stream.name}.{key}": value for key, value in figures.items()}


def run(context: Context) -> Figures:
    if not os.environ.get("DSPLUS_RIVALS_PYTHON"):
        context.facts["missing"] = "DSPLUS_RIVALS_PYTHON: BARGAIN, deferguard, TRACER and cascadeflow did not run"
        context.say(f"missing: {context.facts['missing']}; see `benchmarks/rivals.txt`")
    figures: Figures = {}
    for name in context.pick(tuple(STREAMS), QUICK):
        for one in STREAMS[name].data_sets:
            for file in data.DATA_SETS[one].files:
                if file.required:
                    context.hash_file(data.find(one) / file.path)
        figures |= measure(context, STREAMS[name].make(context))
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """ChaosNLI, whose small model is recorded: the splits of all that needs no rival."""
    stream = STREAMS["chaosnli"].make(context)
    numbers = np.random.default_rng(context.random(f"{stream.name}: splits").getrandbits(32))
    masks = fixed(stream, None)
    decided: dict[str, list[tuple[np.ndarray, Decision]]] = defaultdict(list)
    for _ in range(int(figures[f"{stream.name}.splits"])):
        new, decisions = split(stream, masks, None, numbers, slow=())
        for key, decision in decisions.items():
            decided[key].append((new, decision))
    found: Figures = {
        "n": len(stream.gold),
        **share("large", stream.large == stream.gold),
        **share("small", stream.small == stream.gold),
    }
    for key, pairs in decided.items():
        found |= {f"{key}.{name}": value for name, value in figures_of(stream, pairs).items()}
    return {f"{stream.name}.{key}": value for key, value in found.items()}


def tables(figures: Figures) -> list[Table]:
    found = [equal_promise(figures)]
    for stream, source in STREAMS.items():
        ways = [way for way in WAYS if f"{stream}.{way.key}.calls" in figures]
        title = f"{source.title}; L = {number(figures, f'{stream}.max_loss', 1)} points"
        ends = [f"{side} model alone {number(figures, f'{stream}.{side}', 1)} %" for side in ("small", "large")]
        sizes = {name: number(figures, f"{stream}.{name}", 0) for name in ("n", "certify", "splits", "draws")}
        tracers = number(figures, f"{stream}.tracer.splits", 0)
        calls = [
            [
                way.title,
                interval(figures, f"{stream}.{way.key}.calls"),
                number(figures, f"{stream}.{way.key}.all_calls", 1),
                number(figures, f"{stream}.{way.key}.right", 1),
                interval(figures, f"{stream}.{way.key}.gain", sign=True),
                number(figures, f"{stream}.{way.key}.above", 0),
                number(figures, f"{stream}.{way.key}.noise", 1),
                number(figures, f"{stream}.{way.key}.beyond", 0),
                number(figures, f"{stream}.{way.key}.gold", 0),
            ]
            for way in ways
        ]
        if f"{stream}.small" in figures:
            calls = [*_alone(figures, stream), *calls]
        promises = [
            [
                way.title,
                way.promise,
                interval(figures, f"{stream}.{way.key}.broken"),
                interval(figures, f"{stream}.{way.key}.loss_broken"),
                number(figures, f"{stream}.{way.key}.fit", 3),
                "-" if (call := figures.get(f"{stream}.{way.key}.call")) is None else f"{1000 * call:.2f}",
            ]
            for way in ways
        ]
        found += [
            Table(
                f"rivals.{stream}",
                title,
                [
                    "",
                    "LLM calls, % of new rows",
                    "% of all rows",
                    "right, %",
                    "against the large model, points",
                    "loss above L, % of splits",
                    "noise of one split, points",
                    "beyond the noise, % of splits",
                    "gold labels, at most",
                ],
                calls,
                f"{sizes['n']} rows, {sizes['certify']} of them certify rows; {sizes['splits']} splits (TRACER "
                f"{tracers}), in brackets the middle 95 % of them; {', '.join(ends)}. Loss above L: on the new rows, "
                "promised or not. Noise: how far chance alone takes that loss, 95 %, one-sided.",
            ),
            Table(
                f"rivals.{stream}_promises",
                f"{title}: promises and seconds",
                ["", "promise", "broken, % (95 %)", "loss above L, % (95 %)", "fit, s", "call, ms"],
                promises,
                f"Promises hold with 95 % where nothing else is said. {sizes['draws']} draws; BARGAIN: its "
                f"{sizes['splits']} batches; TRACER: {tracers} splits. No interval: nothing is fitted.",
            ),
        ]
    return found


def _alone(figures: Figures, stream: str) -> list[list[str]]:
    """The two models alone, on all rows."""
    small, large = figures[f"{stream}.small"], figures[f"{stream}.large"]
    blank = ["-"] * 4
    return [
        ["small model alone", "0", "0", f"{small:.1f}", f"{small - large:+.1f}", *blank],
        ["large model alone", "100", "100", f"{large:.1f}", "0", *blank],
    ]


def equal_promise(figures: Figures) -> Table:
    """Only those who promise the same, for several losses: calls on new rows, and on all rows."""
    keys = {(stream, way): f"{stream}.equal_{{}}.{way.key}" for stream in STREAMS for way in WAYS}
    losses = [f"{100 * loss:g}" for loss in LOSSES]
    rows = [
        [
            f"{stream} (small alone {_gap(figures, stream)})",
            f"{way.title} ({way.promise})",
            *(
                f"{number(figures, f'{key.format(loss)}.calls', 1)} / "
                f"{number(figures, f'{key.format(loss)}.all_calls', 1)}"
                for loss in losses
            ),
        ]
        for (stream, way), key in keys.items()
        if f"{key.format(losses[0])}.calls" in figures
    ]
    return Table(
        "rivals.equal",
        "Equal promise: LLM calls, % of new rows / % of all rows",
        ["recorded answers", "", *(f"L = {loss} points" for loss in losses)],
        rows,
        "LLM calls in % of the new rows, behind the slash of all rows, those included that certify. Each implies: the "
        "cascade loses at most L against the large model, 95 %. Small alone: its accuracy against the large model's, "
        "without any call; the large model alone takes 100 / 100 and loses nothing, and at random as many inputs "
        "escalated lose that much times the share kept local.",
    )


def _gap(figures: Figures, stream: str) -> str:
    small, large = figures.get(f"{stream}.small"), figures.get(f"{stream}.large")
    return "-" if small is None or large is None else f"{small - large:+.1f} points"
