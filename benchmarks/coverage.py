"""Share that stays local at a promise of at most 2 % disagreement with the large model, without any gold label.

Recorded six-option logits of open models (`llm_uncertainty_bench`): a small model's and a large one's choices on 10,000
questions of CosmosQA and of MMLU. 2,000 rows certify, the other 8,000 are scored, again and again. Rivals: a
fixed-sequence Clopper-Pearson test on answered-and-disagreeing, as jevstiller does it, with 100 thresholds out of the
certify rows; `certify` on the largest probability, with its 50 steps and with 1,000; and `certify` on a
`LearnedAgreement` fitted on 317 of the 2,000 rows, which then do not certify, once from the large model's choices and
once from its probabilities. Hindsight is the best threshold in sight of the scored rows. How the score is fitted was
chosen on other pairs of models; what was tried there is in the note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval, number, wilson

if TYPE_CHECKING:
    import numpy as np

    from langchain_dsplus.outcomes import Outcomes

PAIRS = (("Yi-6B", "Yi-34B"), ("Qwen-7B", "Qwen-72B"))
SETS = ("cosmosqa", "mmlu")
LABELS = list("ABCDEF")
PROMISE = "2 points"
LOSS = 0.02
CERTIFY = 2000
FIT = 317
"""As few as learn, and as many as leave 1,683: with one row less, one disagreement less would be allowed."""
FIT_HINDSIGHT = 5000
STEPS = 1000
ARMS = {
    "rival": "fixed-sequence Clopper-Pearson, largest probability",
    "max": "`certify`, largest probability, 50 steps",
    "max_fine": "`certify`, largest probability, 1,000 steps",
    "learned": "`certify`, `LearnedAgreement` from choices",
    "soft": "`certify`, `LearnedAgreement` from probabilities",
}


def softmax(logits: np.ndarray) -> np.ndarray:
    import numpy as np

    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = e / e.sum(axis=1, keepdims=True)
    return found


class World:
    """One pair's answers on all questions."""

    def __init__(self, name: str, small: str, large: str) -> None:
        logits = data.llm_uncertainty(name)
        self.p, q = softmax(logits[small]), softmax(logits[large])
        self.small, self.large = self.p.argmax(axis=1), q.argmax(axis=1)
        self.lost = self.small != self.large
        self.doubt = 1.0 - q[range(len(q)), self.small]
        """How likely the large model holds that the small one's choice is not its own."""

    def table(self, rows: np.ndarray, score: np.ndarray, name: str = "max_probability") -> Outcomes:
        """Some rows as a table without gold, with a score as its confidence."""
        from langchain_dsplus.outcomes import Outcomes

        columns = {
            "small": [LABELS[k] for k in self.small[rows]],
            "confidence": score[rows].tolist(),
            "large": [LABELS[k] for k in self.large[rows]],
        }
        return Outcomes(columns, about={"score": name, "labels": LABELS})


def rival(score: np.ndarray, lost: np.ndarray, steps: int = 100) -> float:
    """Its threshold: from strict to lax while the upper bound of answered-and-disagreeing is at most the promise."""
    import numpy as np
    from scipy.stats import beta

    kept = np.inf
    for threshold in np.quantile(score, 1.0 - np.arange(1, steps + 1) / steps):
        harms = int(lost[score > threshold].sum())
        if harms < len(lost) and beta.ppf(0.95, harms + 1, len(lost) - harms) > LOSS:
            break
        kept = threshold
    return float(kept)


def hindsight(score: np.ndarray, lost: np.ndarray) -> float:
    """The largest share that could have stayed local on these rows."""
    import numpy as np

    order = np.argsort(-score, kind="stable")
    fine = np.flatnonzero(np.cumsum(lost[order]) <= LOSS * len(lost))
    return (int(fine[-1]) + 1) / len(lost) if len(fine) else 0.0


def threshold_of(certificate: Any) -> float:
    """Infinity where nothing was shown."""
    return float(certificate.threshold) if certificate.certified else float("inf")


def one_split(world: World, order: np.ndarray) -> dict[str, tuple[float, float, float, float]]:
    """For each arm: share local on the scored rows, what was lost there and on all rows, and hindsight."""

    from langchain_dsplus import certify
    from langchain_dsplus.identity import score_name
    from langchain_dsplus.scores import LearnedAgreement

    fit, others, rest = order[:FIT], order[FIT:CERTIFY], order[CERTIFY:]
    lost, top = world.lost[rest], world.p.max(axis=1)
    found: dict[str, tuple[float, float, float, float]] = {}

    def judge(name: str, threshold: float, score: np.ndarray) -> None:
        kept = score > threshold
        there, everywhere = (world.lost & kept)[rest].mean(), (world.lost & kept).mean()
        found[name] = (float(kept[rest].mean()), float(there), float(everywhere), hindsight(score[rest], lost))

    judge("rival", rival(top[order[:CERTIFY]], world.lost[order[:CERTIFY]]), top)
    for name, steps in (("max", 50), ("max_fine", STEPS)):
        judge(name, threshold_of(certify(world.table(order[:CERTIFY], top), PROMISE, steps=steps)), top)
    for name, target in (("learned", world.lost), ("soft", world.doubt)):
        learned = LearnedAgreement().fit_rows(world.p[fit], target[fit], labels=LABELS)
        score = learned.scores(world.p)
        made = certify(world.table(others, score, score_name(learned)), PROMISE, steps=STEPS)
        judge(name, threshold_of(made), score)
    return found


def best(world: World, order: np.ndarray) -> float:
    """Hindsight of the score fitted on many of the scored rows, on the others."""
    from langchain_dsplus.scores import LearnedAgreement

    many, last = order[CERTIFY : CERTIFY + FIT_HINDSIGHT], order[CERTIFY + FIT_HINDSIGHT :]
    learned = LearnedAgreement().fit_rows(world.p[many], world.lost[many], labels=LABELS)
    return hindsight(learned.scores(world.p[last]), world.lost[last])


def measure(name: str, pair: tuple[str, str], orders: list[np.ndarray], advance: Any) -> Figures:
    """All arms of one pair over the splits."""
    import numpy as np

    world = World(name, *pair)
    found = []
    for order in orders:
        found.append(one_split(world, order))
        advance(1)
    key = f"{name}.{pair[0]}"
    last = 100 * float(np.mean([best(world, order) for order in orders]))
    figures: Figures = {f"{key}.hindsight": last}
    reference = {arm: 100 * float(np.mean([one[arm][0] for one in found])) for arm in ARMS}
    for arm in ARMS:
        shares = 100 * np.array([one[arm][0] for one in found])
        broken = sum(one[arm][1] > LOSS for one in found)
        low, high = wilson(broken, len(found))
        half = 1.96 * shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else 0.0
        figures |= {
            f"{key}.{arm}.local": reference[arm],
            f"{key}.{arm}.local.low": reference[arm] - half,
            f"{key}.{arm}.local.high": reference[arm] + half,
            f"{key}.{arm}.broken": 100 * broken / len(found),
            f"{key}.{arm}.broken_all": 100 * float(np.mean([one[arm][2] > LOSS for one in found])),
            f"{key}.{arm}.broken.low": 100 * low,
            f"{key}.{arm}.broken.high": 100 * high,
            f"{key}.{arm}.hindsight": 100 * float(np.mean([one[arm][3] for one in found])),
        }
        for base in ("rival", "max"):
            gap = last - reference[base]
            if arm != base and gap > 0:
                figures[f"{key}.{arm}.closed_{base}"] = 100 * (reference[arm] - reference[base]) / gap
    return figures


def orders_of(context: Context, count: int) -> list[np.ndarray]:
    import numpy as np

    rng = np.random.default_rng(context.random("splits").randrange(2**32))
    return [rng.permutation(10_000) for _ in range(count)]


def run(context: Context) -> Figures:
    folder = data.find("llm_uncertainty_bench")
    for name in SETS:
        context.hash_file(folder / f"{name}_10k.npz")
    orders = orders_of(context, context.pick(100, 4))
    figures: Figures = {"splits": len(orders), "certify": CERTIFY, "fit": FIT}
    with context.progress("splits", len(SETS) * len(PAIRS) * len(orders)) as advance:
        for name in SETS:
            for pair in PAIRS:
                figures |= measure(name, pair, orders, advance)
    return figures


NOT_RECHECKED = "a test of its own measures one split again (tests/unit/benchmarks/test_coverage.py)"


def tables(figures: Figures) -> list[Table]:
    rows = []
    for name in SETS:
        for small, large in PAIRS:
            key = f"{name}.{small}"
            for arm, words in ARMS.items():
                rows.append(
                    [
                        f"{name}, {small} to {large}: {words}",
                        interval(figures, f"{key}.{arm}.local"),
                        interval(figures, f"{key}.{arm}.broken", 0),
                        number(figures, f"{key}.{arm}.broken_all", 0),
                        number(figures, f"{key}.{arm}.hindsight", 1),
                        number(figures, f"{key}.{arm}.closed_rival", 0),
                        number(figures, f"{key}.{arm}.closed_max", 0),
                    ]
                )
            rows.append(
                [
                    f"{name}, {small} to {large}: the score fitted on {FIT_HINDSIGHT:,} scored rows",
                    "-",
                    "-",
                    "-",
                    number(figures, f"{key}.hindsight", 1),
                    "-",
                    "-",
                ]
            )
    note = (
        f"{number(figures, 'splits', 0)} splits of 10,000 rows: {CERTIFY:,} certify, the others are scored; local with "
        "the 95 % interval of its mean. Broken: splits in which more than 2 % of the scored rows are answered and "
        "disagree (95 %); behind it the same of all 10,000 rows, which the promise is about: the scored rows lack what "
        "the certify rows have too much of. Hindsight: the best threshold in sight of the scored rows. Gap closed: of "
        "the way from the rival's, or `certify`'s own, share to the hindsight of the score fitted on many rows, in %. "
        "Where that hindsight is hardly above the largest probability's (MMLU), no score has much to win; what is left "
        f"everywhere is the margin that rows need to show 2 %. {FIT} rows fit the learned scores and do not certify."
    )
    columns = ["", "local", "broken", "of all rows", "hindsight", "closed, rival", "closed, `certify`"]
    title = "Local at most 2 % disagreement with the large model, no gold, in %"
    return [Table("coverage", title, columns, rows, note)]
