"""Which classes a prompt may leave out: those that the small model excels at, with a bound on what that can cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.cells import known_labels, other_gold
from langchain_dsplus.outcomes.columns import rows_of
from langchain_dsplus.outcomes.gold import GoldRules, read_labels
from langchain_dsplus.outcomes.sampling import refuse_chosen


class ProficientClasses(list[str]):
    """Classes that a prompt may leave out, in label order: a list of labels that also says what it rests on.

    Attributes:
        risk_upper: At most this share of the escalated rows is truly of one of these classes, at `level`. 0 without
            classes; None where no bound was asked for.
        level: Probability with which that holds, over the draw of the rows.
        leaked: How many of the rows that the bound rests on are of these classes.
        escalated: How many rows the bound rests on.
    """

    def __init__(
        self,
        classes: Iterable[str] = (),
        *,
        risk_upper: float | None = None,
        level: float = 0.95,
        leaked: int = 0,
        escalated: int = 0,
    ) -> None:
        super().__init__(classes)
        self.risk_upper = risk_upper
        self.level = level
        self.leaked = leaked
        self.escalated = escalated

    @property
    def text(self) -> str:
        """What is promised, in words."""
        if not self:
            return "No class may be left out."
        if self.risk_upper is None:
            return f"{len(self)} classes by a rule of thumb, without a bound."
        return (
            f"{len(self)} classes may be left out: with probability {self.level:g} at most {100 * self.risk_upper:g} % "
            f"of the escalated inputs belong to them ({self.leaked} of {self.escalated} did)."
        )


def proficient_classes(
    outcomes: Any,
    threshold: Any,
    *,
    labels: Sequence[str] | None = None,
    max_risk: float | None = 0.01,
    level: float = 0.95,
    order: Sequence[str] | None = None,
    seed: int = 0,
    min_recall: float = 0.9,
    min_precision: float = 0.95,
    min_rows: int = 10,
) -> ProficientClasses:
    """Find the classes that a prompt may leave out, as the small model excels at them (paper, Section 3.1).

    Leaving out a set E of classes costs the large model at most P(y in E | escalated) of accuracy, the share of
    escalated inputs that are truly of one of them. E is chosen so that this share is at most `max_risk` with
    probability `level`:

    1. One random half of the escalated rows, and all accepted ones, propose: classes with at least `min_rows` rows, of
       which the small model accepts (confidence > threshold, strictly) at least `min_recall` and gets at least
       `min_precision` of those right. They are ordered by how many of the half's rows are theirs, fewest first.
    2. The other half decides, as if it were new: E grows along that order while the upper Clopper-Pearson bound of its
       share there is at most `max_risk`. The sets are nested and their order is fixed without this half, so that
       testing one after the other and stopping at the first failure needs no further correction: the level holds for
       the set that comes out, however many classes were tried. (Accepted rows and escalated rows are independent
       samples, so the accepted ones may propose without spoiling that.)

    With no row of E in the second half, 1 % takes 299 rows there at 95 %: about 600 escalated rows. With an `order`
    fixed beforehand, on other rows, there is no first half and all escalated rows decide.

    The bound is for independent rows (not several of one thread), drawn as the traffic is, and for this threshold; a
    row without `gold` does not count, and is taken to lack it for no reason connected with its class. Choose the
    classes on rows that are not used to certify.

    Args:
        outcomes: Rows with `small` (the small model's choice), `confidence` and `gold`: an `Outcomes`, mappings, a
            DataFrame, or an object with `to_records()`. A row whose confidence is None (the small model failed) was
            escalated.
        threshold: Of the small model: a number, or what `choose_threshold` or `certify` found for one small model. None
            and infinity accept nothing, and then no class is proficient.
        labels: The classes, in the order to return; by default those of the rows' `probabilities`, else by name.
        max_risk: Largest share of the escalated inputs that may be of a class left out, in (0, 1). None asks for no
            bound: the rule of step 1 on all rows, a rule of thumb.
        level: Probability with which the bound holds.
        order: Classes in the order in which to try them, fixed without these rows; others are not tried.
        seed: Of the random halves.
        min_recall: Least share of a class's rows that is accepted, in (0, 1].
        min_precision: Least share right among those, in (0, 1].
        min_rows: Fewest rows of a class to judge it by; at least 1.

    Returns:
        The classes in label order, with the bound (`risk_upper`, `leaked` of `escalated`, `text`).

    Raises:
        TypeError: If a row is not a mapping, or `threshold` no number.
        ValueError: If a row lacks a field, gold is none of the labels, or an argument is out of range.

    Example:
        >>> sure = [{"small": "cat", "confidence": 0.99, "gold": "cat"}] * 400
        >>> unsure = [{"small": "cat", "confidence": 0.6, "gold": "dog"}] * 700
        >>> found = proficient_classes(sure + unsure, 0.9)
        >>> found, found.risk_upper, found.escalated
        (['cat'], 0.01, 350)
    """
    if not (0.0 < min_recall <= 1.0 and 0.0 < min_precision <= 1.0 and min_rows >= 1):
        raise ValueError("`min_recall` and `min_precision` must lie in (0, 1], `min_rows` must be at least 1")
    if not 0.0 < level < 1.0 or not (max_risk is None or 0.0 < max_risk < 1.0):
        raise ValueError("`max_risk` and `level` must lie between 0 and 1")
    threshold = getattr(threshold, "threshold", threshold)
    if not (threshold is None or (isinstance(threshold, Real) and not isinstance(threshold, bool))):
        raise TypeError(f"`threshold` must be a number or None, not {type(threshold).__name__}")
    accepted, escalated, seen, said = _read(outcomes, None if threshold is None else float(threshold))
    if labels or seen:
        _check(outcomes, [*(gold for _, gold in accepted), *escalated], {*(labels or seen), *said})
    if labels is not None:
        names = list(labels)
    else:
        golds = {gold for _, gold in accepted} | set(escalated)
        names = [*seen, *sorted(golds - seen.keys())]
    rule: dict[str, Any] = {"min_recall": min_recall, "min_precision": min_precision, "min_rows": min_rows}
    if max_risk is None:
        proposed = set(_proposed(names, accepted, escalated, scale=1.0, **rule))
        return ProficientClasses((label for label in names if label in proposed), level=level)
    if order is None:
        half = len(escalated) // 2
        place = np.random.default_rng(seed).permutation(len(escalated)).tolist()
        proposing, deciding = [escalated[i] for i in place[half:]], [escalated[i] for i in place[:half]]
        scale = len(escalated) / len(proposing) if proposing else 1.0
        tried = _proposed(names, accepted, proposing, scale=scale, **rule)
    else:
        deciding, tried = escalated, [label for label in dict.fromkeys(order) if label in set(names)]
    counts = dict.fromkeys(tried, 0)
    for gold in deciding:
        if gold in counts:
            counts[gold] += 1
    chosen: set[str] = set()
    leaked = 0
    for label in tried:
        if _at_most(leaked + counts[label], len(deciding), max_risk) > 1.0 - level:
            break
        chosen.add(label)
        leaked += counts[label]
    return ProficientClasses(
        [label for label in names if label in chosen],
        risk_upper=max_risk if chosen else 0.0,
        level=level,
        leaked=leaked,
        escalated=len(deciding),
    )


def _check(outcomes: Any, golds: list[str], labels: set[str]) -> None:
    """Refuse gold that is none of the labels: it would count as a class that nothing depends on."""
    about = outcomes.about if isinstance(outcomes, Outcomes) else {}
    labels = {*labels, *(known_labels(about) or ())}
    read_labels(golds, labels, GoldRules(other_gold=tuple(other_gold(about) - labels)), where="`outcomes`: ")


def _read(
    outcomes: Any, threshold: float | None
) -> tuple[list[tuple[bool, str]], list[str], dict[str, None], set[str]]:
    """Of the rows with gold: (right, gold) of the accepted ones, gold of the escalated ones; labels seen, and said."""
    if isinstance(outcomes, Outcomes):
        outcomes.known_gold()  # a value outside the labels is no evidence
        refuse_chosen(outcomes, "`proficient_classes`")
    rows = rows_of(outcomes)
    if rows is outcomes and hasattr(outcomes, "to_records"):
        rows = outcomes.to_records()
    accepted: list[tuple[bool, str]] = []
    escalated: list[str] = []
    seen: dict[str, None] = {}
    said: set[str] = set()
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(f"`outcomes` must hold mappings (records), not {type(row).__name__}")
        try:
            small, gold = row["small"], row["gold"]
            confidence = -math.inf if row["confidence"] is None else float(row["confidence"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "every row of `outcomes` needs `small`, `gold` and a number as `confidence` (None where it failed)"
            ) from error
        probabilities = row.get("probabilities")
        if isinstance(probabilities, Mapping):
            seen.update(dict.fromkeys(probabilities))
        if small is not None:
            said.add(small)
        if gold is None:
            continue
        if threshold is not None and confidence > threshold:
            accepted.append((small == gold, gold))
        else:
            escalated.append(gold)
    return accepted, escalated, seen, said


def _proposed(
    names: Sequence[str],
    accepted: Sequence[tuple[bool, str]],
    escalated: Sequence[str],
    *,
    scale: float,
    min_recall: float,
    min_precision: float,
    min_rows: int,
) -> list[str]:
    """Classes that the small model excels at, fewest escalated rows first; each of those stands for `scale` rows."""
    kept: dict[str, int] = {}
    right: dict[str, int] = {}
    lost: dict[str, int] = {}
    for hit, gold in accepted:
        kept[gold] = kept.get(gold, 0) + 1
        right[gold] = right.get(gold, 0) + hit
    for gold in escalated:
        lost[gold] = lost.get(gold, 0) + 1
    found = [
        label
        for label in dict.fromkeys(names)
        if (n := kept.get(label, 0))
        and n + scale * lost.get(label, 0) >= min_rows
        and n / (n + scale * lost.get(label, 0)) >= min_recall
        and right[label] / n >= min_precision
    ]
    return sorted(found, key=lambda label: (lost.get(label, 0), -kept[label]))


def _at_most(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) <= k). At most 1 - level: the upper Clopper-Pearson bound of k in n is at most p."""
    if k >= n:
        return 1.0
    log_p, log_q = math.log(p), math.log1p(-p)
    whole = math.lgamma(n + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(k + 1)
    )
