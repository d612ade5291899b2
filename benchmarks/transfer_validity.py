"""How often a transfer's certificate is wrong: thousands of certifications of transfers whose true loss is known.

A certificate is wrong if the decisions on transferred texts are truly worse by `max_loss` or more; at level 95 % that
may happen in 5 % of certifications. The plain prompt wavers on some inputs: there it is right every other time. On some
of these the transferred prompt is always wrong, on others it is steadier and always right. Beside it: `exact`, the same
probability worked out instead of drawn, over all counts of harms and gains; `netted`, which takes off how often the
plain prompt differs from itself, as one might be tempted to without gold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.certify_validity import percent, share
from benchmarks.harness import Context, Figures, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
LABELS = ("right", "wrong", "also wrong")


@dataclass(frozen=True)
class Stream:
    """A kind of traffic, by shares of inputs.

    Attributes:
        title: For people.
        lost: Where the plain prompt is right and the transferred one wrong.
        won: The other way round.
        waver_wrong: Where the plain prompt is right every other time, and the transferred one always wrong.
        waver_right: Where it is so, and the transferred one always right.
        both_wrong: Where both are wrong, differently: a change that is no loss.
        gold: Share of inputs whose gold is known.
        max_loss: The promise.
    """

    title: str
    lost: float = 0.0
    won: float = 0.0
    waver_wrong: float = 0.0
    waver_right: float = 0.0
    both_wrong: float = 0.0
    gold: float = 1.0
    max_loss: float = 0.02

    @property
    def loss(self) -> float:
        """What is truly lost of the accuracy."""
        return self.lost - self.won + 0.5 * (self.waver_wrong - self.waver_right)


STREAMS = {
    "waver": Stream("wavers on 15 %, transfer always wrong there", waver_wrong=0.15),
    "waver_no_gold": Stream("the same, no gold", waver_wrong=0.15, gold=0.0),
    "mixed": Stream("wavers on 10 % (always wrong) and 6 % (steadier)", waver_wrong=0.10, waver_right=0.06),
    "mixed_no_gold": Stream("wavers on 4 % (always wrong), no gold", waver_wrong=0.04, gold=0.0),
    "edge": Stream("loses 2 % and wins none", lost=0.02),
    "edge_no_gold": Stream("loses 2 % and wins none, no gold", lost=0.02, gold=0.0),
    "balance": Stream("loses 7 % and wins 5 %", lost=0.07, won=0.05),
    "half_gold": Stream("loses 3 %, wins 1 %, half of the gold missing", lost=0.03, won=0.01, gold=0.5),
    "fine": Stream("loses and wins 0.5 %, steadier on 4 %", lost=0.005, won=0.005, waver_right=0.04),
    "fine_no_gold": Stream("loses 0.5 %, no gold", lost=0.005, gold=0.0),
}
"""All but the last two lose as much as the promise allows, or more: there every certificate is wrong."""
FINE = ("fine", "fine_no_gold")
CASES = (300, 1000)


def draw(rng: np.random.Generator, stream: Stream, runs: int, n: int) -> tuple[NDArray[Any], ...]:
    """What the plain prompt says twice, what the transferred one says, and whether gold is known; shape (runs, n)."""
    import numpy as np

    shares = [stream.lost, stream.won, stream.waver_wrong, stream.waver_right, stream.both_wrong]
    kind = rng.choice(6, p=[*shares, 1.0 - sum(shares)], size=(runs, n))
    first, again = (np.zeros((runs, n), dtype=np.int8) for _ in range(2))
    for said in (first, again):
        said[(kind == 1) | (kind == 4)] = 1
        wavers = (kind == 2) | (kind == 3)
        said[wavers] = rng.integers(0, 2, size=int(wavers.sum()))
    changed = np.zeros((runs, n), dtype=np.int8)
    changed[(kind == 0) | (kind == 2)] = 1
    changed[kind == 4] = 2
    return first, again, changed, rng.random((runs, n)) < stream.gold


def counts(first: NDArray[Any], changed: NDArray[Any], known: NDArray[Any]) -> tuple[Any, Any]:
    """Harms and gains of each run, as `certify_transfer` counts them; label 0 is right."""
    harm = ((first != changed) & ~known) | ((first == 0) & (changed != 0) & known)
    gain = (first != 0) & (changed == 0) & known
    return harm.sum(axis=1), gain.sum(axis=1)


def passes(harms: int, gains: int, n: int, stream: Stream) -> bool:
    """The test of `certify_transfer`, without the rest of a certificate."""
    from scipy.special import bdtr

    from langchain_dsplus.threshold.exact import significant

    if stream.gold:
        return significant(harms, gains, n, stream.max_loss, 1.0 - LEVEL)
    return float(bdtr(harms, n, stream.max_loss)) <= 1.0 - LEVEL


def exact(stream: Stream, n: int, certified: Callable[[int, int], bool]) -> float:
    """The probability of a certificate: each count of harms and gains, times whether it passes."""
    from scipy.stats import binom

    changed = stream.lost + stream.won + 0.5 * (stream.waver_wrong + stream.waver_right) + stream.both_wrong
    harm = stream.gold * (stream.lost + 0.5 * stream.waver_wrong) + (1.0 - stream.gold) * changed
    gain = stream.gold * (stream.won + 0.5 * stream.waver_right)

    def likely(trials: int, share_of: float) -> range:
        """All counts but those of a probability below one in a billion."""
        low, high = binom.ppf([1e-9, 1.0 - 1e-9], trials, share_of)
        return range(max(0, int(low)), int(high) + 1)

    total = 0.0
    for harms in likely(n, harm):
        weight, of = binom.pmf(harms, n, harm), gain / (1.0 - harm)
        gains = [g for g in likely(n - harms, of) if certified(harms, g)]
        total += float(weight * binom.pmf(gains, n - harms, of).sum())
    return total


def measure(context: Context, name: str, n: int, runs: int, asked: int) -> Figures:
    """One stream, one size."""
    import numpy as np

    stream = STREAMS[name]
    rng = np.random.default_rng(context.random(f"{name}.{n}").getrandbits(64))
    first, again, changed, known = draw(rng, stream, runs, n)
    harms, gains = counts(first, changed, known)
    noise = (first != again).sum(axis=1)
    known_status: dict[tuple[int, int], bool] = {}

    def certified(h: int, g: int) -> bool:
        if (h, g) not in known_status:
            known_status[h, g] = passes(h, g, n, stream)
        return known_status[h, g]

    found = [certified(int(h), int(g)) for h, g in zip(harms, gains, strict=True)]
    netted = [certified(max(int(h) - int(e), 0), int(g)) for h, g, e in zip(harms, gains, noise, strict=True)]
    for run in range(asked):
        theirs = by_certify(first[run], again[run], changed[run], known[run], stream.max_loss)
        if theirs != found[run]:
            msg = f"certify_transfer and its counts disagree: {name}, n = {n}, run {run}"
            raise AssertionError(msg)
    key = f"{name}.{n}"
    figures = share(f"{key}.certified", sum(found), runs) | share(f"{key}.netted_certified", sum(netted), runs)
    if name not in FINE:
        figures |= share(f"{key}.wrong", sum(found), runs) | {f"{key}.exact": exact(stream, n, certified)}
    return figures | {f"{key}.loss": stream.loss}


def by_certify(*columns: Any) -> bool:
    """The same through `certify_transfer`, asked of chains that say what was drawn."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus.transfer import certify_transfer

    first, again, changed, known, max_loss = columns
    said: dict[int, list[Any]] = {}

    def plain(place: int) -> str:
        once = said.setdefault(place, [first[place], again[place]])
        return LABELS[int(once.pop(0))]

    cases = [(place, LABELS[0] if is_known else None) for place, is_known in enumerate(known)]
    certificate = certify_transfer(
        cases,
        plain=RunnableLambda(plain),
        transferred=RunnableLambda(lambda place: LABELS[int(changed[place])]),
        max_loss=max_loss,
        level=LEVEL,
        progress=False,
        max_concurrency=1,
    )
    return bool(certificate.certified)


def run(context: Context) -> Figures:
    runs, asked = context.pick(3000, 200), context.pick(3, 1)
    figures: Figures = {"runs": runs, "asked": asked * len(CASES) * len(STREAMS)}
    with context.progress("certifying", len(CASES) * len(STREAMS)) as advance:
        for name in STREAMS:
            for n in CASES:
                figures |= measure(context, name, n, runs, asked)
                advance(1)
    wrong = [f"{name}.{n}.wrong" for name in STREAMS if name not in FINE for n in CASES]
    figures |= share("wrong", round(runs * sum(figures[key] for key in wrong)), runs * len(wrong))
    for end in ("", ".low", ".high"):
        figures[f"worst{end}"] = max(figures[f"{key}{end}"] for key in wrong)
    figures["worst.exact"] = max(figures[key.replace(".wrong", ".exact")] for key in wrong)
    return figures


def recheck(context: Context, figures: Figures) -> Figures:
    """One stream; that `certify_transfer` itself says the same is for the run."""
    return measure(context, "balance", CASES[0], int(figures["runs"]), 0)


def tables(figures: Figures) -> list[Table]:
    rows = []
    for name, stream in STREAMS.items():
        for n in CASES:
            key = f"{name}.{n}"
            if f"{key}.certified" in figures:
                rows.append(
                    [
                        stream.title,
                        f"{n:,}",
                        f"{100 * figures[f'{key}.loss']:.1f}",
                        percent(figures, f"{key}.wrong"),
                        f"{100 * figures[f'{key}.exact']:.2f}" if f"{key}.exact" in figures else "",
                        f"{100 * figures[f'{key}.certified']:.0f}",
                        f"{100 * figures[f'{key}.netted_certified']:.0f}",
                    ]
                )
    columns = [
        "traffic",
        "cases",
        "true loss, points",
        "wrong certificates, % (95 %)",
        "worked out, %",
        "certified, %",
        "netted, %",
    ]
    note = (
        f"{int(figures.get('runs', 0)):,} certifications each, promise 2 points at 95 %. Where the true loss is 2 "
        "points or more, every certificate is wrong; 5 % may be. Netted: the rate at which the plain prompt differs "
        "from itself is taken off first. Over all kinds where a certificate is wrong: "
        f"{percent(figures, 'wrong')} %. Worked out, not drawn: the probability over all counts of harms and gains; at "
        f"most {100 * figures.get('worst.exact', 0.0):.2f} %, the draws scatter around it."
    )
    return [Table("transfer_validity", "Wrong certificates of transfers", columns, rows, note)]
