"""Classes under a good average: which of them lose, and which answers to keep from being given for their sake."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from langchain_dsplus._arrays import Bools
from langchain_dsplus._imports import require
from langchain_dsplus.threshold.differences import Differences, UnusableLarge, coverage_grid, differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes

    Codes: TypeAlias = NDArray[np.int64]

_ERROR = 0.05
_MOST = 200
"""Classes beyond so many, of the rarest ones, are not looked at one by one."""
_MARGIN = 0.5
"""Share of the floor that a class may lose on the rows on which labels are chosen: it must still pass on other rows."""


@dataclass(frozen=True)
class Classes:
    """The class of each row: its gold, and where that is unknown what the large model said.

    Attributes:
        names: Of the classes, the most frequent first.
        codes: A place in `names` for each row, -1 where neither is known, shape (n,).
    """

    names: tuple[str, ...]
    codes: Codes

    @classmethod
    def of(cls, outcomes: Outcomes) -> Classes:
        """Read them off a table; none where the answers are free text, every row its own."""
        gold, words = outcomes.coded("gold")
        words, codes = list(words), np.asarray(gold, dtype=np.int64)
        if "large" in outcomes:
            said, theirs = outcomes.coded("large")
            place = {word: code for code, word in enumerate(words)}
            same = np.array([*(place.setdefault(word, len(place)) for word in theirs), -1], dtype=np.int64)
            words, codes = list(place), np.where(codes >= 0, codes, np.where(outcomes.valid("large"), same[said], -1))
        counts = np.bincount(codes[codes >= 0], minlength=len(words))
        used = [code for code in range(len(words)) if counts[code]]
        if len(used) > 20 and len(used) > len(codes) / 4:
            used = []
        used = sorted(used, key=lambda code: (-counts[code], words[code]))[:_MOST]
        rank = np.full(len(words) + 1, -1, dtype=np.int64)
        rank[used] = np.arange(len(used))
        names, codes = [words[code] for code in used], rank[codes]
        return cls(tuple(names), codes)

    def count(self, rows: Bools) -> list[int]:
        """How many of some rows are of each class."""
        mine = self.codes[rows]
        return [int(x) for x in np.bincount(mine[mine >= 0], minlength=len(self.names))]


def losing_classes(
    outcomes: Outcomes, found: Differences, thresholds: Mapping[str, float], rows: Bools, max_loss: float
) -> tuple[dict[str, Any], ...]:
    """Return the classes that lose significantly, the greatest loss first: what a good average may hide.

    A class is named if it loses more than `max_loss`, and more rows are lost than won beyond chance: by the exact sign
    test at 5 %, counted for all classes together (Holm 1979).

    Args:
        outcomes: The table.
        found: Its losses.
        thresholds: By small model.
        rows: Which rows count, shape (n,).
        max_loss: What may be lost, a share of inputs.

    Returns:
        Dicts with `class`, `n`, `harms`, `gains`, `loss`, `p_value`, `unlabeled` (harms for lack of gold alone), and
        `large`, `cascade`: the shares right, or None where that is not known of every row: those with gold are no
        sample of the others.
    """
    classes = Classes.of(outcomes)
    loss, _, unlabeled = found.at(thresholds)
    right = found.correct(thresholds)
    both = ~np.isnan(right) & ~np.isnan(found.large)
    open_ = found.compared & ~both
    tested = []
    for code, name in enumerate(classes.names):
        mine = rows & (classes.codes == code)
        n, harms, gains = int(mine.sum()), int((loss[mine] > 0).sum()), int((loss[mine] < 0).sum())
        if harms > gains:
            tested.append((_sign_test(harms, gains), name, mine, n, harms, gains))
    tested.sort(key=lambda item: (item[0], item[1]))
    of = len(classes.names)
    named = []
    for place, (p, name, mine, n, harms, gains) in enumerate(tested):
        if p * (of - place) > _ERROR:
            break  # Holm: what comes later has a larger p-value
        if (harms - gains) / n <= max_loss:
            continue
        known = mine & both
        some = bool(known.any()) and not (mine & open_).any()
        named.append(
            {
                "class": name,
                "n": n,
                "harms": harms,
                "gains": gains,
                "loss": (harms - gains) / n,
                "p_value": p,
                "unlabeled": int((unlabeled & (loss > 0))[mine].sum()),
                "large": float(found.large[known].mean()) if some else None,
                "cascade": float(right[known].mean()) if some else None,
            }
        )
    return tuple(sorted(named, key=lambda item: -item["loss"]))


def _sign_test(harms: int, gains: int) -> float:
    """Probability of so many harms or more among so many differences, if either were as likely."""
    special: Any = require("scipy.special", "sklearn")
    return float(special.betainc(harms, gains + 1, 0.5)) if harms else 1.0


# --- a floor under every class --------------------------------------------------------------------------------------


def keep_from_answering(
    outcomes: Outcomes,
    floor: float,
    max_loss: float,
    *,
    never_local: Sequence[str] = (),
    prompt: Any = "plain",
    unusable_large: UnusableLarge = "unknown",
    path: Sequence[Mapping[str, float]] | None = None,
) -> tuple[str, ...]:
    """Choose labels that the small model may not answer, so that much stays local and no class loses too much.

    Thresholds are followed from strict to lax as long as, on these rows, all inputs together lose at most `max_loss`
    and each class at most half of `floor`. Where a class ends the walk, the label that does it the most harm is kept
    from answering, and the walk starts anew; the choice under which the most stays local is returned.

    Args:
        outcomes: Rows that certify nothing.
        floor: What a class may lose.
        max_loss: What all inputs together may lose.
        never_local: Labels that never stay local anyway.
        prompt: What escalated rows are asked.
        unusable_large: As in `certify`.
        path: Steps to follow; by default those of one small model's coverage.
    """
    classes = Classes.of(outcomes)
    kept: list[str] = []
    best: tuple[float, int] = (-1.0, 0)
    for _ in range(len(classes.names) + 1):
        found = differences(outcomes, never_local=(*never_local, *kept), prompt=prompt, unusable_large=unusable_large)
        steps = path or [{found.models[0].name: value} for value in coverage_grid(found.models[0].confidence)]
        coverage, culprit = _follow(outcomes, found, classes, steps, floor=floor * _MARGIN, max_loss=max_loss)
        if coverage > best[0] + 1e-12:
            best = coverage, len(kept)
        if culprit is None or culprit in kept:
            break
        kept.append(culprit)
    return tuple(kept[: best[1]])


def _follow(
    outcomes: Outcomes,
    found: Differences,
    classes: Classes,
    steps: Sequence[Mapping[str, float]],
    *,
    floor: float,
    max_loss: float,
) -> tuple[float, str | None]:
    """How much stays local before the first step that loses too much; the label that ends it, where a class does."""
    sizes = np.maximum(np.bincount(classes.codes[classes.codes >= 0], minlength=len(classes.names)), 1)
    loss, coverage = np.zeros(found.n), 0.0
    for who, changed in found.turns(steps).walk():
        loss[changed] = found.loss[who[changed], changed]
        inside = classes.codes >= 0
        by_class = np.bincount(classes.codes[inside], weights=loss[inside], minlength=len(sizes)) / sizes
        worst = int(by_class.argmax()) if len(by_class) else -1
        if worst >= 0 and by_class[worst] > floor + 1e-12:
            harmed = (classes.codes == worst) & (loss > 0) & (who < len(found.models))
            return coverage, _most_said(outcomes, found, who, harmed)
        if loss.mean() > max_loss:
            return coverage, None
        coverage = float((who < len(found.models)).mean())
    return coverage, None


def _most_said(outcomes: Outcomes, found: Differences, who: Any, rows: Bools) -> str | None:
    """The label that the small models say most often on some rows."""
    several = len(found.models) > 1 or f"small.{found.models[0].name}" in outcomes
    counts: dict[str, int] = {}
    for place, model in enumerate(found.models):
        column = f"small.{model.name}" if several else "small"
        if column not in outcomes:
            continue
        said = outcomes[column]
        for row in np.flatnonzero(rows & (who == place)).tolist():
            counts[said[row]] = counts.get(said[row], 0) + 1
    return min(counts, key=lambda name: (-counts[name], name)) if counts else None


def halves(groups: Codes | None, n: int, share: float, seed: int) -> tuple[Bools, Bools]:
    """Part rows at random into those that choose and those that certify; rows of a group stay together."""
    units = np.arange(n) if groups is None else groups
    distinct = np.unique(units)
    drawn = np.random.default_rng(seed).permutation(distinct)[: math.ceil(share * len(distinct))]
    fit = np.isin(units, drawn)
    return fit, ~fit
