"""Figures from answers: plain lists in, figures with intervals out. A pair is the unit that is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from benchmarks.disputes.asking import Verdict, best
from benchmarks.disputes.texts import SWAP, Dispute
from benchmarks.harness import Figures, share

Pair = tuple[Verdict, Verdict]
"""What a judge makes of a statement and of its twin."""


def bootstrap(key: str, values: Sequence[float], rng: Random, draws: int = 4000) -> Figures:
    """The mean of one value a pair, in percent, with a 95 % percentile-bootstrap interval over pairs."""
    import numpy as np

    column: Any = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(rng.getrandbits(32)).integers(0, len(column), size=(draws, len(column)))
    low, high = np.percentile(column[drawn].mean(axis=1), [2.5, 97.5])
    return {key: 100 * float(column.mean()), f"{key}.low": 100 * float(low), f"{key}.high": 100 * float(high)}


def both_told(pair: Pair) -> str:
    """The verdict, in the statement's words, of a judge who hears both parties: the mean of both distributions."""
    statement, twin = (verdict.probabilities for verdict in pair)
    return best({v: (statement[v] + twin[SWAP[v]]) / 2 for v in statement})


def unbiased(disputes: Sequence[Dispute], pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Verdicts after the judge's own leaning is divided out: its mean distribution over the language's other pairs.

    No gold verdict is used (batch calibration, Zhou et al. 2023, 2309.17249).
    """
    total: dict[str, dict[str, float]] = {}
    for dispute, pair in zip(disputes, pairs, strict=True):
        sums = total.setdefault(dispute.language, dict.fromkeys(SWAP, 0.0))
        for verdict in pair:
            for name, probability in verdict.probabilities.items():
                sums[name] += probability
    found = []
    for dispute, pair in zip(disputes, pairs, strict=True):
        own = {v: math.fsum(verdict.probabilities[v] for verdict in pair) for v in SWAP}
        rest = {v: max(total[dispute.language][v] - own[v], 1e-9) for v in SWAP}
        first, second = (best({v: verdict.probabilities[v] / rest[v] for v in SWAP}) for verdict in pair)
        found.append((first, second))
    return found


def right(dispute: Dispute, choices: Sequence[str]) -> float:
    """The share of a pair's two verdicts that are gold."""
    return sum(choice == gold for choice, (_, gold) in zip(choices, dispute.tellings, strict=True)) / 2


def values(disputes: Sequence[Dispute], pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """One value a pair for each measure that is compared between arms."""
    corrected = unbiased(disputes, pairs)
    rows = list(zip(disputes, pairs, strict=True))
    return {
        "accuracy": [right(d, [verdict.choice for verdict in pair]) for d, pair in rows],
        "unbiased": [right(d, choices) for d, choices in zip(disputes, corrected, strict=True)],
        "both_told": [float(both_told(pair) == d.verdict) for d, pair in rows],
        "gold_probability": [
            math.fsum(v.probabilities[gold] for v, (_, gold) in zip(pair, d.tellings, strict=True)) / 2
            for d, pair in rows
        ],
        "swap": [float(pair[1].choice == SWAP[pair[0].choice]) for _, pair in rows],
    }


def leanings(pairs: Sequence[Pair]) -> Figures:
    """What a judge does whatever the text says."""
    verdicts = [verdict for pair in pairs for verdict in pair]
    # The first of the two orders offers the narrator first and the other party second; the second one, the reverse.
    shift = [v.forward["narrator"] - v.backward["narrator"] for v in verdicts]
    shift += [v.backward["other party"] - v.forward["other party"] for v in verdicts]
    return {
        **share("sides_with_narrator", [verdict.choice == "other party" for verdict in verdicts]),
        "position_bias": 100 * math.fsum(shift) / len(shift),
        "unlabelled": 100 * math.fsum(verdict.unlabelled for verdict in verdicts) / len(verdicts),
        "tokens_in": math.fsum(verdict.tokens_in for verdict in verdicts) / len(verdicts),
        "tokens_out": math.fsum(verdict.tokens_out for verdict in verdicts) / len(verdicts),
        **share("swap_named", [_named(pair) for pair in pairs]),
    }


def _named(pair: Pair) -> bool:
    """Whether both tellings lead to the same named party."""
    first, second = (verdict.choice for verdict in pair)
    return first in {"narrator", "other party"} and second == SWAP[first]
