"""Distillation at equal LLM calls: the Distiller against one plain fit, and the paper's two-stage distillation (2CD).

Banking77. The small model is made from the 231 few-shot gold rows. Of the 3,080 queries with recorded GPT-4 labels,
2,000 are unlabeled traffic and 1,080 a hold-out that nothing else sees; each seed splits anew. Every method may read
400 of GPT-4's labels, and chooses them itself. The hold-out then says: accuracy of the new small model; negative flips,
the share that the old one has right and the new one wrong; and the local share, the most that it may answer (largest
probability first, in hindsight) while the cascade is at most half a point below GPT-4 alone. All settings,
those of 2CD included (for its own accuracy), were chosen on other rows: the few-shot development rows with GPT-4's
labels, and training rows whose GPT-4 label was made up after the nearest development row of the same class. The
Distiller also reads the names of the classes, for which 2CD has no place: `distiller_no_names` does without. Each of
its parts is taken away alone; it is taught by the least sure rows and a tenth of random ones, as a router escalates and
audits, `distiller_random` by random ones alone, which is what `Distiller.learn` asks about.

`one_fit` is the ten lines that anybody would write: the large model's labels of as many random rows, as they are, added
to gold, one fit. With few classes there is little that a method could do better, and it should be the first thing to
try: that is IMDB, two classes and GPT-3.5, 100 gold rows, 200 labels of 500 rows of traffic.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.certify_real_models import Banking, _Rows
from benchmarks.harness import Context, Figures, Table, interval, number

STUDENTS = ("tfidf", "minilm")
METHODS = (
    "none", "one_fit", "naive", "2cd", "replay_random", "replay_margin", "distiller_no_gold", "distiller_no_doubts",
    "distiller_no_names", "distiller_random", "distiller",
)  # fmt: skip
OTHERS = ("2cd", "one_fit", "distiller")
"""With whom every method is compared."""
TITLES = {
    "none": "small model before, alone",
    "one_fit": "one fit on gold and random rows",
    "naive": "2CD without its second stage",
    "2cd": "2CD",
    "replay_random": "replay of gold, random rows",
    "replay_margin": "replay of gold, least sure rows",
    "distiller_no_gold": "Distiller without gold",
    "distiller_no_doubts": "Distiller that takes GPT-4 at its word",
    "distiller_no_names": "Distiller without class names",
    "distiller_random": "Distiller, random rows",
    "distiller": "Distiller, least sure rows",
}
PARTS = {
    "no_gold": "gold replay",
    "no_doubts": "doubts about the large model's answers",
    "no_names": "names of the classes",
    "random": "the least sure rows instead of random ones",
}
"""What the Distiller has and the arm of this name lacks."""
SETS = {"tfidf": "Banking77, TF-IDF", "minilm": "Banking77, MiniLM", "imdb.tfidf": "IMDB, TF-IDF"}
_GAINS = [f"{title}: {gain}" for title in SETS.values() for gain in ("accuracy", "fewer flips")]
MEASURES = ("accuracy", "negative_flips", "local_share")
CALLS = 400
HOLD_OUT = 1080
MAX_LOSS = 0.005
INVERSE_PENALTY = 30.0
SURE_SHARE = 0.7
"""2CD's threshold accepts this share of the unlabeled rows: x1."""
ROUNDS = 30
RATE = 4.0
"""2CD's best on the development rows; its defaults, more and smaller steps, lose up to half a point to them there."""


@dataclass(frozen=True)
class Rows:
    """Texts, what is true, what GPT-4 said."""

    texts: list[str]
    gold: list[str]
    large: list[str]

    def take(self, places: Sequence[int]) -> Rows:
        return Rows(*([column[place] for place in places] for column in (self.texts, self.gold, self.large)))


def make_small(student: str, gold: Rows, labels: list[str], encoder: Any) -> Any:
    """F_s1, from the gold rows alone."""
    from langchain_dsplus import SentenceClassifier, SklearnClassifier

    if student == "minilm":
        return SentenceClassifier(encoder, labels=labels).fit(gold.texts, gold.gold)
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=INVERSE_PENALTY, max_iter=1000)
    )
    return SklearnClassifier(pipeline.fit(gold.texts, gold.gold))


# --- methods: (F_s1, gold rows, unlabeled rows with GPT-4's recorded labels, calls, seed) -> the new small model ------


def confidence_of(small: Any, texts: list[str]) -> np.ndarray:
    return np.asarray(small.predict_proba(texts)).max(axis=1)


def twocd(small: Any, gold: Rows, pool: Rows, calls: int, seed: int, **options: Any) -> Any:
    from langchain_dsplus.learning.two_stage import TwoStageConfidenceDistillation

    del gold
    share = options.pop("share", SURE_SHARE)
    threshold = float(np.quantile(confidence_of(small, pool.texts), 1.0 - share))
    # The pool is shuffled already: the first escalations are asked, as in a stream.
    options = {"rounds": ROUNDS, "lr": RATE, **options}
    distillation = TwoStageConfidenceDistillation(small, threshold=threshold, max_calls=calls, seed=seed, **options)
    return distillation.distil(pool.texts, pool.large).model


def naive(small: Any, gold: Rows, pool: Rows, calls: int, seed: int) -> Any:
    """2CD without its second stage: the same calls, the same passes, nothing kept."""
    from langchain_dsplus.learning.students import make_student
    from langchain_dsplus.learning.targets import read_targets

    del gold
    confidence = confidence_of(small, pool.texts)
    chosen = np.flatnonzero(confidence <= np.quantile(confidence, 1.0 - SURE_SHARE))[:calls]
    rows = pool.take(chosen.tolist())
    targets, usable = read_targets(rows.large, small.labels)
    student = make_student(small, rows.texts, lr=RATE)
    for turn in range(ROUNDS):
        student.train(np.flatnonzero(usable), targets[usable], seed=1000 * seed + turn)
    return student.finish()


def one_fit(small: Any, gold: Rows, pool: Rows, calls: int, seed: int) -> Any:
    """What anybody would do first."""
    places = np.random.default_rng(seed).permutation(len(pool.texts))[:calls]
    return fit_anew(small, gold, pool.take(places.tolist()))


def fit_anew(small: Any, gold: Rows, answered: Rows) -> Any:
    """A model like this one, fitted once on gold and on the large model's labels as they are."""
    from langchain_dsplus import SentenceClassifier, SklearnClassifier

    known = set(small.labels)
    told = [pair for pair in zip(answered.texts, answered.large, strict=True) if pair[1] in known]
    texts, labels = [*gold.texts, *(text for text, _ in told)], [*gold.gold, *(label for _, label in told)]
    if isinstance(small, SentenceClassifier):
        return small.clone().fit(texts, labels)
    from sklearn.base import clone

    return SklearnClassifier(clone(small.estimator).fit(texts, labels))


def replay(small: Any, gold: Rows, pool: Rows, calls: int, seed: int, *, by_margin: bool) -> Any:
    """Gold and GPT-4's labels, weighing the same, with nothing else."""
    from langchain_dsplus.learning.distiller import Distiller

    if by_margin:
        top = np.sort(np.asarray(small.predict_proba(pool.texts)), axis=1)
        places = np.argsort(top[:, -1] - top[:, -2], kind="stable")[:calls]
    else:
        places = np.random.default_rng(seed).permutation(len(pool.texts))[:calls]
    rows = pool.take(places.tolist())
    nothing = {"large_error": 0.0, "caution": 0.0, "name_weight": 0.0, "anchor_weight": 0.0, "keep": 0.0}
    plain = Distiller(small, large_weight=1.0, seed=seed, **nothing)
    pairs = list(zip(rows.texts, rows.large, strict=True))
    return plain.distil(list(zip(gold.texts, gold.gold, strict=True)), pairs).model


def distiller(
    small: Any, gold: Rows, pool: Rows, calls: int, seed: int, *, at_random: bool = False, **options: Any
) -> Any:
    """As it comes, with its defaults, taught by what a router would escalate and audit, or by random rows."""
    from langchain_dsplus.learning.distiller import Distiller

    made = Distiller(small, seed=seed, **options)
    pairs = list(zip(gold.texts, gold.gold, strict=True))
    if at_random:
        return made.learn(pool.texts, pool.large, pairs, budget=calls).model
    unsure, random = asked(made, pool.texts, calls)
    large, audits = ([(pool.texts[n], pool.large[n]) for n in places] for places in (unsure, random))
    return made.distil(pairs, large, audits=audits, unlabeled=pool.texts).model


def asked(made: Any, texts: list[str], calls: int) -> tuple[list[int], list[int]]:
    """The least sure rows, predicted class after predicted class, and a tenth of the calls for random others."""
    rows = np.asarray(made.model.predict_proba(texts))
    top = np.sort(rows, axis=1)
    margins, choice, turn = top[:, -1] - top[:, -2], rows.argmax(axis=1), np.zeros(len(rows))
    for label in np.unique(choice):
        members = np.flatnonzero(choice == label)
        turn[members[np.argsort(margins[members], kind="stable")]] = np.arange(len(members))
    drawn = round(calls * 0.1)
    unsure = np.lexsort((margins, turn))[: calls - drawn].tolist()
    return unsure, made.acquire(texts, drawn, exclude=set(unsure))


METHOD: dict[str, Callable[..., Any]] = {
    "none": lambda small, *_: small,
    "one_fit": one_fit,
    "naive": naive,
    "2cd": twocd,
    "replay_random": lambda *given: replay(*given, by_margin=False),
    "replay_margin": lambda *given: replay(*given, by_margin=True),
    "distiller_no_gold": lambda small, gold, *rest: distiller(small, gold.take([]), *rest),
    "distiller_no_doubts": lambda *given: distiller(*given, large_error=0.0, caution=0.0),
    "distiller_no_names": lambda *given: distiller(*given, name_weight=0.0),
    "distiller_random": lambda *given: distiller(*given, at_random=True),
    "distiller": distiller,
}


# --- measures ---------------------------------------------------------------------------------------------------------


def judge(old: np.ndarray, new: np.ndarray, labels: list[str], hold: Rows) -> dict[str, float]:
    """The three measures of a new model's probabilities on the hold-out."""
    gold = np.array([labels.index(label) for label in hold.gold])
    large = np.array([label == truth for label, truth in zip(hold.large, hold.gold, strict=True)])
    before, after = old.argmax(axis=1) == gold, new.argmax(axis=1) == gold
    return {
        "accuracy": float(after.mean()),
        "negative_flips": float((before & ~after).mean()),
        "local_share": local_share(new.max(axis=1), after, large),
    }


def local_share(confidence: np.ndarray, small: np.ndarray, large: np.ndarray) -> float:
    """The largest share whose acceptance costs at most half a point; equal scores stand or fall together."""
    order = np.argsort(-confidence, kind="stable")
    gain = np.cumsum(small[order].astype(int) - large[order].astype(int)) / len(order)
    scores = confidence[order]
    last = np.append(scores[1:] != scores[:-1], True)
    fits = np.flatnonzero(last & (gain >= -MAX_LOSS))
    return float((fits[-1] + 1) / len(order)) if len(fits) else 0.0


def mean_interval(key: str, values: Sequence[float], ratio: float) -> Figures:
    """A mean over random splits of one set, with the corrected resampled t interval.

    The splits overlap, so they are not independent: the variance of the mean is taken as (1/J + test/train) times that
    of the splits, not 1/J (Nadeau and Bengio 2003, Machine Learning 52).
    """
    from scipy.stats import t

    mean = statistics.fmean(values)
    if len(values) < 2:
        return {key: mean}
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) * math.sqrt(1 / len(values) + ratio)
    return {key: mean, f"{key}.low": mean - half, f"{key}.high": mean + half}


def trial(
    small: Any, gold: Rows, pool: Rows, hold: Rows, *, calls: int, seed: int, methods: dict[str, Callable[..., Any]]
) -> dict[str, dict[str, float]]:
    """Every method on one split."""
    labels = list(small.labels)
    old = np.asarray(small.predict_proba(hold.texts))
    found = {}
    for name, method in methods.items():
        new = method(small, gold, pool, calls, seed)
        found[name] = judge(old, np.asarray(new.predict_proba(hold.texts)), labels, hold)
    return found


@dataclass(frozen=True)
class Setting:
    """One data set with its sizes; `gold` is None where the gold rows are drawn from `whole` for each seed."""

    key: str
    labels: list[str]
    gold: Rows | None
    whole: Rows
    hold_out: int
    calls: int
    drawn: int = 0

    def split(self, seed: int, number: int) -> tuple[Rows, Rows, Rows]:
        """Gold, traffic, hold-out."""
        order = np.random.default_rng([seed, number]).permutation(len(self.whole.texts)).tolist()
        hold, rest = self.whole.take(order[: self.hold_out]), order[self.hold_out :]
        gold = self.gold or self.whole.take(rest[: self.drawn])
        return gold, self.whole.take(rest[self.drawn :]), hold

    @property
    def ratio(self) -> float:
        """Rows that test to rows that train, for `mean_interval`."""
        return self.hold_out / (len(self.whole.texts) - self.hold_out)


def banking77(banking: Banking) -> Setting:
    names = [*banking.labels, "no class"]  # -1, the last one, is an answer of GPT-4 that names no class
    gold = [names[place] for place in banking.few.gold]
    final = banking.final
    whole = Rows(final.texts, [names[place] for place in final.gold], [names[place] for place in final.large])
    return Setting("", banking.labels, Rows(banking.few.texts, gold, gold), whole, HOLD_OUT, CALLS)


def imdb(context: Context) -> Setting:
    """Reviews with GPT-3.5's labels: two classes."""
    context.hash_file(data.find("imdb_gpt35") / "dev.csv")
    rows = data.imdb_gpt35()
    whole = Rows([row.text for row in rows], [row.label for row in rows], [row.large["gpt-3.5"] for row in rows])
    return Setting("imdb.", ["negative", "positive"], None, whole, len(rows) - 600, 200, drawn=100)


def run(context: Context) -> Figures:
    banking = Banking(context)
    setting = banking77(banking)
    encoder = _Rows(banking)
    banking.embed([*banking.few.texts, *setting.whole.texts])
    seeds = context.pick(10, 2)
    figures: Figures = {"seeds": seeds, "calls": CALLS, "hold_out": HOLD_OUT}
    runs = [(setting, student) for student in STUDENTS] + [(imdb(context), "tfidf")]
    with context.progress("distil", len(runs) * seeds) as advance:
        for setting, student in runs:
            found = []
            small = None
            for turn in range(seeds):
                gold, pool, hold = setting.split(context.seed, turn)
                if small is None or setting.gold is None:
                    small = make_small(student, gold, setting.labels, encoder)
                seed = context.seed + turn
                found.append(trial(small, gold, pool, hold, calls=setting.calls, seed=seed, methods=METHOD))
                advance(1)
            figures |= summarize(f"{setting.key}{student}", found, setting.ratio)
            figures |= alone(setting)
    return figures


def summarize(key: str, found: Sequence[dict[str, dict[str, float]]], ratio: float) -> Figures:
    """Means of every method, and of its differences to those that it is compared with."""
    figures: Figures = {}
    for method in found[0]:
        for measure in MEASURES:
            values = [one[method][measure] for one in found]
            figures |= mean_interval(f"{key}.{method}.{measure}", values, ratio)
            for other in OTHERS:
                if other in found[0] and method != other:
                    gaps = [one[method][measure] - one[other][measure] for one in found]
                    figures |= mean_interval(f"{key}.{method}.{measure}_over_{other}", gaps, ratio)
    return figures


def alone(setting: Setting) -> Figures:
    """The large model by itself, on all rows."""
    right = [said == truth for said, truth in zip(setting.whole.large, setting.whole.gold, strict=True)]
    return {f"{setting.key}large.accuracy": statistics.fmean(right)}


def recheck(context: Context, figures: Figures) -> Figures:
    """What takes one fit: the small TF-IDF model of Banking77 alone, on every split, and the large models."""
    setting = banking77(Banking(context))
    small = make_small("tfidf", setting.split(context.seed, 0)[0], setting.labels, None)
    scored = []
    for turn in range(int(figures["seeds"])):
        gold, pool, hold = setting.split(context.seed, turn)
        seed = context.seed + turn
        scored.append(trial(small, gold, pool, hold, calls=CALLS, seed=seed, methods={"none": METHOD["none"]}))
    return summarize("tfidf", scored, setting.ratio) | alone(setting) | alone(imdb(context))


def tables(figures: Figures) -> list[Table]:
    calls, seeds = figures.get("calls", CALLS), figures.get("seeds", 0)
    return [
        _table(figures, "tfidf", f"Banking77, TF-IDF and logistic regression, {calls:.0f} labels of GPT-4", seeds),
        _table(figures, "minilm", f"Banking77, MiniLM and a softmax head, {calls:.0f} labels of GPT-4", seeds),
        _table(figures, "imdb.tfidf", "IMDB, two classes: TF-IDF, 200 labels of GPT-3.5", seeds),
        _parts(figures),
    ]


def _parts(figures: Figures) -> Table:
    """What each part of the Distiller gains over the Distiller without it."""
    rows = []
    for arm, title in PARTS.items():
        found = [gain(figures, key, arm, measure) for key in SETS for measure in ("accuracy", "negative_flips")]
        if any(found):
            up = [each.get("x.low", 0.0) > 0.0 for each in found]
            shown = [
                f"{name} on {sum(up[n::2])} of {len(SETS)}"
                for n, name in enumerate(("accuracy", "flips"))
                if any(up[n::2])
            ]
            rows.append([title, *(interval(each, "x", sign=True) for each in found), ", ".join(shown) or "nothing"])
    return Table("distil.parts", "What each part of the Distiller adds, in points", ["", *_GAINS, "shown"], rows)


def gain(figures: Figures, key: str, arm: str, measure: str) -> Figures:
    """What a part gains on a set, in points, under `x`: accuracy that it adds, or flips that it avoids."""
    name = f"{key}.distiller_{arm}.{measure}_over_distiller"
    if f"{name}.low" not in figures:
        return {}
    sign = -100 if measure == "accuracy" else 100  # the arm without the part is compared with the Distiller
    low, high = sorted(sign * figures[f"{name}.{end}"] for end in ("low", "high"))
    return {"x": sign * figures[name], "x.low": low, "x.high": high}


def _table(figures: Figures, key: str, title: str, seeds: float) -> Table:
    rows = []
    for method in METHODS:
        k = f"{key}.{method}"
        if f"{k}.accuracy" not in figures:
            continue
        rows.append(
            [
                TITLES[method],
                *(interval(figures, f"{k}.{measure}", 3) for measure in MEASURES),
                interval(figures, f"{k}.accuracy_over_one_fit", 3, sign=True),
                interval(figures, f"{k}.local_share_over_one_fit", 3, sign=True),
                *(interval(figures, f"{k}.{measure}_over_2cd", 3, sign=True) for measure in MEASURES),
            ]
        )
    large = f"{key.removesuffix('tfidf').removesuffix('minilm')}large.accuracy"
    if rows and large in figures:
        rows.append(["large model, alone", number(figures, large, 3), *["-"] * 7])
    return Table(
        f"distil.{key.removesuffix('.tfidf')}",
        title,
        [
            "method",
            "accuracy (95 %)",
            "negative flips",
            "local share",
            "accuracy over one fit",
            "local share over one fit",
            "accuracy over 2CD",
            "flips over 2CD",
            "local share over 2CD",
        ],
        rows,
        f"{seeds:.0f} random splits; corrected resampled t intervals. The local share is in hindsight, at the large "
        f"model minus half a point. {_verdict(figures, key)}",
    )


def _verdict(figures: Figures, key: str) -> str:
    """Whether the Distiller is shown to be better than one fit, in words that follow from the interval."""
    gap = f"{key}.distiller.accuracy_over_one_fit"
    low, high = figures.get(f"{gap}.low"), figures.get(f"{gap}.high")
    if low is None or high is None:
        return ""
    if low > 0:
        return "The Distiller is more accurate than one fit on gold and random rows."
    if high < 0:
        return "One fit on gold and random rows is more accurate than the Distiller."
    return "In accuracy no difference to one fit on gold and random rows was shown: try that first."
