"""Every ready score on recorded answers: does it know who is right, what it lets certify, and whether that pays.

Banking77: TF-IDF and logistic regression, trained on 1,000 gold rows, in front of GPT-4's recorded labels. ChaosNLI:
RoBERTa's recorded probabilities in front of o4-mini's recorded labels. In each split a third of the rows fits a score,
a bit less than a half certifies a loss of at most 2 points, the rest is scored. Scores that need no fit certify on the
first two parts together: those rows are the price of the others. Scores of the input alone are asked before the small
model, which then is not run for what escalates. Texts are encoded by MiniLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.conformal import probabilities
from benchmarks.harness import Context, Figures, Table, interval, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from langchain_dsplus.outcomes import Outcomes

PROMISE = "2 points"
GOLD = 1000
PARTS = (0.33, 0.42)
"""Shares that fit and that certify; the rest is scored."""
NAMES = {
    "max_probability": ("largest probability", "-"),
    "margin": ("margin", "-"),
    "entropy": ("entropy", "-"),
    "predicted_distribution": ("predicted distribution (paper 4.8)", "encoder, gold"),
    "predicted_correctness": ("predicted correctness (paper 4.8)", "encoder, gold"),
    "win_probability": ("win probability (RouteLLM, Hybrid LLM)", "encoder"),
    "nearest_outcomes": ("nearest outcomes (OrchestraLLM)", "encoder"),
    "learned_gain": ("learned gain (FORC)", "small model"),
    "learned_gain_encoded": ("learned gain, with embeddings", "small model, encoder"),
    "learned_agreement": ("learned agreement", "small model"),
}
SHOWN = (("small", 1), ("large", 1), ("n", 0))
SETS = {"banking77": "Banking77, GPT-4", "chaosnli": "ChaosNLI, o4-mini"}


class Vectors:
    """MiniLM's vectors, each text encoded once."""

    version = "MiniLM, looked up"

    def __init__(self, texts: Sequence[str] = ()) -> None:
        from langchain_dsplus.small_models.encoder import Encoder

        self._encoder = Encoder(backend="torch")
        self._rows: dict[str, np.ndarray] = {}
        self._add(texts)

    def _add(self, texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._rows |= dict(zip(new, self._encoder.encode(new), strict=True))

    def encode(self, texts: list[str]) -> np.ndarray:
        import numpy as np

        self._add(texts)
        return np.stack([self._rows[text] for text in texts])


def table_of(p: np.ndarray, labels: Sequence[str], large: Sequence[str], gold: Sequence[str]) -> Outcomes:
    from langchain_dsplus.outcomes import Outcomes

    columns = {
        "small": [labels[k] for k in p.argmax(axis=1)],
        "confidence": p.max(axis=1).tolist(),
        "probabilities": [dict(zip(labels, row, strict=True)) for row in p.tolist()],
        "large": list(large),
        "gold": list(gold),
    }
    return Outcomes(columns, about={"score": "max_probability", "labels": sorted({*labels, *large, *gold})})


def banking(context: Context) -> tuple[Outcomes, list[str]]:
    folder = data.find("banking77_gpt")
    for file in ("train.csv", "test.csv"):
        context.hash_file(folder / file)
    train = data.banking77_gpt("train")
    train = [train[k] for k in context.random("training rows").sample(range(len(train)), GOLD)]
    test = data.banking77_gpt("test")
    labels, p = probabilities(train, test)
    return table_of(p, labels, [row.large["gpt-4"] for row in test], [row.label for row in test]), [
        row.text for row in test
    ]


def chaosnli(context: Context) -> tuple[Outcomes, list[str]]:
    import numpy as np

    context.hash_file(data.find("chaosnli") / "mnli_matched.csv")
    labels = list(data.NLI_LABELS.values())
    rows = [row for row in data.chaosnli() if row.o4mini is not None and row.probabilities is not None]
    p = np.array([[(row.probabilities or {})[label] for label in labels] for row in rows])
    texts = [f"{row.premise}\n{row.hypothesis}" for row in rows]
    return table_of(p, labels, [str(row.o4mini) for row in rows], [row.label for row in rows]), texts


def ready(vectors: Vectors) -> dict[str, Any]:
    """Every score that is fitted."""
    from langchain_dsplus import SentenceClassifier, scores

    def model() -> SentenceClassifier:
        return SentenceClassifier(vectors, l2=0.1)

    return {
        "predicted_distribution": scores.PredictedDistribution(model()),
        "predicted_correctness": scores.PredictedCorrectness(model()),
        "win_probability": scores.WinProbability(model()),
        "nearest_outcomes": scores.NearestOutcomes(vectors),
        "learned_gain": scores.LearnedGain(),
        "learned_gain_encoded": scores.LearnedGain(encoder=vectors),
        "learned_agreement": scores.LearnedAgreement(),
    }


def one_split(table: Outcomes, texts: list[str], order: np.ndarray, vectors: Vectors) -> dict[str, Figures]:
    """Fit, certify and score every score once."""
    import numpy as np

    from langchain_dsplus import certify
    from langchain_dsplus.confidence import SCORES
    from langchain_dsplus.scores import score_outcomes

    ends = np.cumsum([round(share * len(order)) for share in PARTS])
    fit, proof, rest = np.split(order, ends)

    def read(places: np.ndarray) -> list[str]:
        return [texts[k] for k in places]

    found = {}
    spreads = table.values("probabilities")
    for name, function in SCORES.items():
        columns = {key: table.values(key) for key in table.columns}
        columns["confidence"] = [function(spread) for spread in spreads]
        scored = type(table)(columns, about={**table.about, "score": name})
        found[name] = judge(certify(scored.select(order[: ends[1]]), PROMISE), scored.select(rest))
    for name, score in ready(vectors).items():
        fitted = score.fit(table.select(fit), read(fit))
        certificate = certify(score_outcomes(table.select(proof), fitted, read(proof)), PROMISE)
        found[name] = judge(certificate, score_outcomes(table.select(rest), fitted, read(rest)))
    return found


def judge(certificate: Any, rest: Outcomes) -> Figures:
    """What a score knows about fresh rows, and what its certificate makes of them; in percent."""
    import numpy as np

    from langchain_dsplus.calibration import auroc

    score = np.asarray(rest["confidence"], dtype=np.float64)
    small, large = rest.correct("small"), rest.correct("large")
    kept = score > certificate.threshold if certificate.certified else np.zeros(len(score), dtype=bool)
    right = np.where(kept, small, large)
    return {
        "small_right": 100 * auroc(score, small),
        "large_better": 100 * auroc(-score, large > small),
        "local": 100 * float(kept.mean()),
        "certified": 100.0 * certificate.certified,
        "right": 100 * float(right.mean()),
        "gain": 100 * float((right - large).mean()),
    }


def run(context: Context) -> Figures:
    import numpy as np

    figures: Figures = {"splits": context.pick(20, 2)}
    with context.progress("splits", len(SETS) * int(figures["splits"])) as advance:
        for name, load in (("banking77", banking), ("chaosnli", chaosnli)):
            table, texts = load(context)
            vectors = Vectors(texts)
            rng = np.random.default_rng(context.random(f"{name}: splits").randrange(2**32))
            found = []
            for _ in range(int(figures["splits"])):
                found.append(one_split(table, texts, rng.permutation(len(texts)), vectors))
                advance(1)
            figures |= {
                f"{name}.n": len(texts),
                f"{name}.small": 100 * float(np.mean(table.correct("small"))),
                f"{name}.large": 100 * float(np.mean(table.correct("large"))),
            }
            for score in NAMES:
                for key in found[0][score]:
                    values = [one[score][key] for one in found]
                    low, high = np.percentile(values, [5, 95])
                    at = f"{name}.{score}.{key}"
                    figures |= {at: float(np.mean(values)), f"{at}.low": float(low), f"{at}.high": float(high)}
    return figures


NOT_RECHECKED = "it needs an encoder; tests/unit/benchmarks/test_coverage.py measures a split of the other one again"


def tables(figures: Figures) -> list[Table]:
    made = []
    for name, words in SETS.items():
        rows = [
            [
                title,
                needs,
                interval(figures, f"{name}.{score}.small_right"),
                interval(figures, f"{name}.{score}.large_better"),
                interval(figures, f"{name}.{score}.local"),
                number(figures, f"{name}.{score}.certified", 0),
                interval(figures, f"{name}.{score}.gain", sign=True),
            ]
            for score, (title, needs) in NAMES.items()
        ]
        small, large, n = (number(figures, f"{name}.{key}", digits) for key, digits in SHOWN)
        note = (
            f"{number(figures, 'splits', 0)} splits of {n} rows, in brackets what nine in ten lie between. Small alone "
            f"{small} %, large alone {large} %. Promise: at most 2 points worse than the large model. Local: share of "
            "the scored rows that stays local, 0 where nothing is certified. A score that needs the encoder alone is "
            "asked before the small model."
        )
        columns = ["score", "needs", "AUROC, small right", "AUROC, large better", "local", "certified", "to large"]
        made.append(Table(f"scores.{name}", f"{words}: ready scores, in %", columns, rows, note))
    return made
