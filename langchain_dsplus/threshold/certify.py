"""`certify`: a threshold with a promise about new inputs, or an honest refusal."""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from langchain_dsplus.losses import Loss, parse_loss, points
from langchain_dsplus.outcomes.uses import blocks, earlier_uses, note_use
from langchain_dsplus.threshold.cascade import Costs
from langchain_dsplus.threshold.certificate import Certificate, ClassFloor, Step, TestResult
from langchain_dsplus.threshold.choose import ThresholdChoice
from langchain_dsplus.threshold.classes import Classes, halves, keep_from_answering, losing_classes
from langchain_dsplus.threshold.clusters import check_groups, clustered_p_value, clustered_upper_bound
from langchain_dsplus.threshold.differences import Differences, UnusableLarge, coverage_grid, differences
from langchain_dsplus.threshold.exact import count_significant, least_rows, loss_upper_bound, paired_p_value
from langchain_dsplus.threshold.findings import find_mistakes, refuse, without_training
from langchain_dsplus.threshold.verdict import (
    baselines,
    by_class,
    by_slice,
    give_verdict,
    what_would_help,
    with_findings,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes

    Bools: TypeAlias = NDArray[np.bool_]
    Numbers: TypeAlias = NDArray[np.int64]

logger = logging.getLogger(__name__)

_OVERALL = ""
_FIT = 0.3
"""Share of the rows on which `class_floor` chooses labels: they certify nothing."""


def certify(
    outcomes: Outcomes,
    max_loss: Loss = 0.005,
    level: float = 0.95,
    *,
    thresholds: Sequence[float] | None = None,
    path: Sequence[Mapping[str, float]] | None = None,
    steps: int = 50,
    start: float | Mapping[str, float] | ThresholdChoice | None = None,
    prompt: Literal["plain", "pruned"] = "plain",
    unusable_large: UnusableLarge = "unknown",
    unit: Literal["input", "group"] = "input",
    slices: Sequence[str] = (),
    never_local: Sequence[str] = (),
    class_floor: Loss | None = None,
    error_cost: float = 0.0,
    seed: int = 0,
) -> Certificate:
    """Find the laxest threshold at which the cascade provably loses less than `max_loss` against the large model alone.

    The promise: with probability `level`, the cascade's accuracy on inputs like these is less than `max_loss` below
    that of the large model with its plain prompt. Thresholds are tested from strict to lax, each with an exact paired
    test at the full error probability, up to the first that fails; so all that passed hold together. The sequence is
    fixed without looking at who was right. Gold is needed only where small and large model disagree: see
    `differences` for the rule, and `Outcomes.to_label` for the rows to look at.

    The rows must be a random sample of the inputs the promise is about, asked with today's models and prompts, and must
    not have been used to train the small model, to calibrate it or to choose a prompt. Every call counts in
    `outcomes.about["certifications"]`: the second and later certification of the same table spend half as much error
    probability as the one before. The sum over all of them stays below twice 1 - level. Where the table has hashes of
    its inputs (`input_hash`) and a folder, a journal there counts too: the file read again, a part of it and a larger
    table that holds it are the same table.

    Honest mistakes that the table shows (`find_mistakes`) refuse, or are named in the verdict, and so are those that it
    cannot show. Inputs that stand twice count as one group; rows in a model's training set are left out.

    Args:
        outcomes: The table; its `about` is what the certificate is bound to.
        max_loss: Accuracy that may be lost: `"0.5 points"`, or a share of inputs below .1 (0.005). From .1 on only a
            text with its unit, since 0.5 could as well be meant in points (`losses.parse_loss`).
        level: Confidence level, in [0.5, 1).
        thresholds: The sequence for one small model, strict to lax; fixed beforehand, not in sight of these labels. By
            default at coverage 1/steps, 2/steps, ... of the scores seen here.
        path: The sequence for several small models: dicts from name to threshold, strict to lax, fixed on other rows
            (`coverage_path`).
        steps: Length of the default sequence.
        start: Where to start; stricter steps are not tested. With the pruned prompt it is needed: the threshold that
            `choose_threshold` found on other rows, or what it returned.
        prompt: What escalated rows are asked. `pruned` counts what the other prompt loses or wins there too, from the
            column `large_pruned`.
        unusable_large: What a reply of the large model counts as that is none of `about["labels"]`. `unknown`: the row
            is never won, and lost where the small model would answer and is not known to be right. `wrong`: the small
            model may gain there. Either way such replies are counted, and named in the verdict.
        unit: With `input` (default) the promise is per input; where the table has groups (threads, customers), a
            cluster-robust test is used. With `group` it is per group: one input is drawn from each.
        slices: Slices in which the promise must hold too: `"language=de"` for one, `"language"` for each of its values.
        never_local: Labels that always escalate; pass the same to the router.
        class_floor: What each class may lose at most, such as `"10 points"`: a good average must not hide a class that
            collapses. The class of a row is its gold, or what the large model said where that is unknown. On three
            tenths of the rows labels are chosen that the small model may not answer; on the others every class with
            enough rows (29 at 10 points) is tested, each at full error probability, since all must pass. Pass the
            certificate's `never_local` to the router. The certificate names the classes that the promise covers.
        error_cost: Price of one more error, in the unit of the table's costs (in calls of the large model where it has
            none). Among the certified thresholds, the one with the least cost + error_cost x loss is taken; 0 takes the
            cheapest.
        seed: For the draw from each group, and for the rows on which `class_floor` chooses.

    Returns:
        A `Certificate`; when nothing could be shown its threshold is infinity, so that nothing is accepted.

    Raises:
        ValueError: If an argument is out of range or the table lacks a column; nothing is counted then.

    Example:
        >>> from langchain_dsplus import Outcomes
        >>> rows = [{"small": "a", "confidence": i / 600, "large": "a"} for i in range(600)]
        >>> certificate = certify(Outcomes.from_records(rows))
        >>> certificate.status, certificate.coverage, round(certificate.p_value, 4)
        ('CERTIFIED', 1.0, 0.0494)
    """
    max_loss = parse_loss(max_loss)
    floor = None if class_floor is None else parse_loss(class_floor, "class_floor")
    _check(level, steps, error_cost, unit)
    _fair(outcomes)
    _in_labels(outcomes)
    found_out = find_mistakes(outcomes, seed=seed)
    refuse(found_out)
    earlier = _earlier(outcomes)
    table, outcomes = outcomes, without_training(outcomes)
    alpha = (1.0 - level) / 2.0**earlier
    barred = tuple([never_local] if isinstance(never_local, str) else never_local)
    kept: tuple[str, ...] = ()
    fit_rows = 0
    if floor is not None:
        chosen_on, tested_on = halves(_groups(outcomes, "input"), len(outcomes), _FIT, seed)
        fit_rows = int(chosen_on.sum())
        kept = keep_from_answering(
            outcomes.select(chosen_on),
            floor,
            max_loss,
            never_local=barred,
            prompt=prompt,
            unusable_large=unusable_large,
            path=path,
        )
        outcomes = outcomes.select(tested_on)
    found = differences(outcomes, never_local=(*barred, *kept), prompt=prompt, unusable_large=unusable_large)
    sequence = _sequence(found, thresholds, path, steps, start, prompt)
    groups = _groups(outcomes, unit)
    draw = _draw(groups, seed) if groups is not None and unit == "group" else None

    def hypothesis(mask: Bools, limit: float) -> _Hypothesis:
        return _Hypothesis(mask, groups, limit) if draw is None else _Hypothesis(mask & draw, None, limit)

    hypotheses = {name: hypothesis(mask, max_loss) for name, mask in _masks(outcomes, slices).items()}
    named = tuple(name for name in hypotheses if name != _OVERALL)
    covered: dict[str, int] = {}
    few: dict[str, int] = {}
    if floor is not None:
        classes = Classes.of(outcomes)
        for code, name in enumerate(classes.names):
            mask = classes.codes == code
            n = int((mask if draw is None else mask & draw).sum())
            one = hypothesis(mask, floor) if n >= least_rows(floor, 1.0 - alpha) else None
            if one is None or one.refused:
                few[name] = n
            else:
                hypotheses[f"class={name}"] = one
                covered[name] = n
    whole = hypotheses[_OVERALL]

    records = _walk(outcomes, found, sequence, hypotheses)
    passed = min(one.leading(alpha) for one in hypotheses.values())
    if floor is not None and not covered:
        passed = 0
    for place in range(min(passed + 1, len(records))):  # one more is shown: the step that failed
        results = {name: one.result(place) for name, one in hypotheses.items()}
        records[place] = replace(
            records[place],
            p_value=partial(_largest, results),  # type: ignore[arg-type]  # counted when it is read
            passed=place < passed,
            tests={name: result for name, result in results.items() if name != _OVERALL},
        )
    promised, tested = None, {name: hypotheses[name] for name in (_OVERALL, *named)}
    if floor is not None:
        without = _coverage_without(
            outcomes, tested, sequence, alpha, never_local=barred, prompt=prompt, unusable_large=unusable_large
        )
        promised = ClassFloor(floor, covered, few, kept, without, fit_rows)
    table.about["certifications"] = earlier + 1
    table.about["data"] = table.data_hash()
    note_use(table)

    # A first step at infinity (pruned prompt) accepts nothing: that it passes shows no threshold.
    idle = sum(not _accepts(record.thresholds) for record in records)
    certified = passed > idle
    if certified:
        chosen = idle + _choose(records[idle:passed], error_cost, whole.n)
    else:
        chosen = min(idle, len(records) - 1) if passed == idle else 0
    shown = records[chosen] if records else None
    nothing = dict.fromkeys((model.name for model in found.models), math.inf)
    final = shown.thresholds if certified and shown is not None else nothing
    harms, gains = (0, 0) if shown is None else (shown.harms, shown.gains)
    certificate = Certificate(
        status="CERTIFIED" if certified else "NOT_CERTIFIED",
        threshold=None if certified and len(final) > 1 else next(iter(final.values())),
        thresholds=dict(final),
        max_loss=float(max_loss),
        level=float(level),
        alpha=alpha,
        p_value=1.0 if shown is None or shown.p_value is None else min(shown.p_value, 1.0),
        harms=harms,
        gains=gains,
        coverage=shown.coverage if certified and shown is not None else 0.0,
        n=whole.n,
        unit=unit,
        prompt=prompt,
        about={**copy.deepcopy(table.about), **table.labels_said()},
        certification=earlier + 1,
        slices=named,
        never_local=(*barred, *(label for label in kept if label not in barred)),
        loss=(harms - gains) / whole.n,
        loss_upper=None if shown is None else whole.upper(chosen, alpha),
        steps=tuple(records),
        unlabeled=0 if shown is None else int(found.at(shown.thresholds)[2][whole.rows].sum()),
        unusable_large=unusable_large,
        unusable=int(found.unusable[whole.rows].sum()),
        unanswered=int(found.unanswered[whole.rows].sum()),
        unusable_pruned=int(found.unusable_pruned[whole.rows].sum()),
        groups=None if groups is None else len(np.unique(groups[whole.rows])),
        error_cost=float(error_cost),
        by_class=by_class(outcomes, found, final) if certified else (),
        by_slice=by_slice(outcomes, found, final) if certified else (),
        findings=tuple(item.to_dict() for item in found_out),
        losing_classes=losing_classes(outcomes, found, final, whole.rows, max_loss) if certified else (),
        class_floor=promised,
    )
    certificate = replace(certificate, baselines=baselines(outcomes, found, certificate, whole.rows))
    if not certified:
        refused = next((one.refused for one in hypotheses.values() if one.refused), None)
        if floor is not None and not covered:
            refused = (
                f"no class has the {least_rows(floor, 1.0 - alpha):,} rows that show a loss below {points(floor)}, "
                "so `class_floor` would promise nothing"
            )
        elif floor is not None and passed == idle:
            stopped = [
                name for name, one in hypotheses.items() if name.startswith("class=") and one.leading(alpha) == passed
            ]
            if stopped and whole.leading(alpha) > passed:
                name = stopped[0].removeprefix("class=")
                refused = refused or (
                    f"class {name!r} could not be shown to lose less than {points(floor)} at any threshold "
                    f"(n = {covered[name]:,})"
                )
        certificate = replace(certificate, help=what_would_help(found, certificate, tested, refused))
    return replace(certificate, verdict=with_findings(give_verdict(certificate), certificate))


# --- arguments ------------------------------------------------------------------------------------------------------


def _check(level: float, steps: int, error_cost: float, unit: str) -> None:
    if not 0.5 <= level < 1.0:
        msg = f"`level` must lie in [0.5, 1), not {level}"
        raise ValueError(msg)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        msg = "`steps` must be a whole number, at least 1"
        raise ValueError(msg)
    if not (error_cost >= 0.0 and math.isfinite(error_cost)):
        msg = "`error_cost` must be a number, at least 0"
        raise ValueError(msg)
    if unit not in ("input", "group"):
        msg = f"`unit` must be 'input' or 'group', not {unit!r}"
        raise ValueError(msg)


def _fair(outcomes: Outcomes) -> None:
    """Refuse rows that were chosen by what a router decided about them."""
    if "source" in outcomes and any(value not in (None, "shadow") for value in outcomes.values("source")):
        msg = (
            "`outcomes` holds rows of live traffic (column 'source'): which of them the large model answered hangs on "
            "the router's decision, so they are no fair sample. Certify on shadow rows: `from_traces` without `live`"
        )
        raise ValueError(msg)


def _in_labels(outcomes: Outcomes) -> None:
    """Refuse a table whose large model never speaks in labels: then the list is another one, or nothing reads it."""
    if "large" not in outcomes or not outcomes.about.get("labels") or "large_ok" in outcomes:
        return
    answered = np.fromiter((value is not None for value in outcomes["large"]), dtype=bool, count=len(outcomes))
    other = int((answered & ~outcomes.valid("large")).sum())
    if not answered.any() or other < 0.01 * answered.sum():
        return
    msg = (
        f"{other:,} of {int(answered.sum()):,} answers of the large model are none of the labels in "
        "`outcomes.about['labels']`. End the chain with `LabelParser(labels)`, or pass `to_label=` where the table is "
        "made"
    )
    if other == answered.sum():
        raise ValueError(msg)
    logger.warning("%s", msg)


def _earlier(outcomes: Outcomes) -> int:
    """How often the table has certified before."""
    value = outcomes.about.get("certifications", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        msg = "`outcomes.about['certifications']` must be a whole number, at least 0"
        raise ValueError(msg)
    value = max(value, earlier_uses(outcomes) or 0)
    if value > 15:
        msg = f"this table was used {value} times to certify: no error probability is left, collect fresh rows"
        raise ValueError(msg)
    return value


def _sequence(
    found: Differences,
    thresholds: Sequence[float] | None,
    path: Sequence[Mapping[str, float]] | None,
    steps: int,
    start: float | Mapping[str, float] | ThresholdChoice | None,
    prompt: str,
) -> list[dict[str, float]]:
    """The thresholds to test, strict to lax, fixed without the labels."""
    names = [model.name for model in found.models]
    if prompt == "pruned" and start is None:
        msg = (
            "`prompt='pruned'` needs `start`: the threshold that `choose_threshold(..., prompt='pruned')` found on "
            "other rows. At the strict end nearly every row is asked the pruned prompt, so nothing could pass there"
        )
        raise ValueError(msg)
    if len(names) > 1:
        if thresholds is not None or path is None:
            msg = f"for several small models pass `path`, dicts from {names} to thresholds (see `coverage_path`)"
            raise ValueError(msg)
        sequence = [_place(step, names) for step in path]
    elif path is not None:
        sequence = [_place(step, names) for step in path]
    elif thresholds is not None:
        sequence = [{names[0]: _number(value)} for value in thresholds]
    else:
        sequence = [{names[0]: value} for value in coverage_grid(found.models[0].confidence, steps)]
    if not sequence and (thresholds is not None or path is not None):
        msg = f"`{'path' if thresholds is None else 'thresholds'}` is empty: it needs at least one step"
        raise ValueError(msg)
    for name in names:
        values = [step[name] for step in sequence]
        if any(later > earlier for earlier, later in pairwise(values)):
            msg = f"the thresholds of {name!r} must go from strict to lax: none may be higher than the one before"
            raise ValueError(msg)
    if isinstance(start, ThresholdChoice):
        start = start.thresholds if start.threshold is None else start.threshold
    if start is not None:
        first = _place(start, names) if isinstance(start, Mapping) else {names[0]: _number(start)}
        if set(first) != set(names):
            msg = f"`start` must be a dict from {names} to thresholds"
            raise ValueError(msg)
        sequence = [first, *(step for step in sequence if step != first and _laxer(step, first))]
    if prompt == "plain":  # where nothing is accepted nothing can be lost: no test is needed, and none shows anything
        sequence = [step for step in sequence if _accepts(step)]
    return sequence


def _accepts(step: Mapping[str, float]) -> bool:
    """Whether a step's thresholds accept anything at all."""
    return any(value < math.inf for value in step.values())


def _laxer(step: Mapping[str, float], than: Mapping[str, float]) -> bool:
    return all(step[name] <= value for name, value in than.items())


def _place(step: Any, names: Sequence[str]) -> dict[str, float]:
    if not isinstance(step, Mapping) or set(step) != set(names):
        msg = f"each step of `path` (and `start`) must be a dict with exactly the keys {list(names)}"
        raise ValueError(msg)
    return {name: _number(step[name]) for name in names}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or math.isnan(value):
        msg = "a threshold must be a number"
        raise ValueError(msg)
    # As the router reads it: minus infinity is no JSON, and accepts no more.
    return max(float(value), -sys.float_info.max)


def _masks(outcomes: Outcomes, slices: Sequence[str]) -> dict[str, Bools]:
    """The rows of the whole and of every named slice."""
    masks: dict[str, Bools] = {_OVERALL: np.ones(len(outcomes), dtype=bool)}
    wanted = [slices] if isinstance(slices, str) else list(slices)
    if not wanted:
        return masks
    if "slices" not in outcomes:
        msg = '`slices` needs the column \'slices\': a dict per row, such as {"language": "de"}'
        raise ValueError(msg)
    kept = [value or {} for value in outcomes.values("slices")]
    for name in wanted:
        key, equals, value = str(name).partition("=")
        values = {str(row[key]) for row in kept if row.get(key) is not None}
        if (not equals and not values) or (equals and value not in values):
            msg = f"no row of `outcomes` is in slice {name!r}"
            raise ValueError(msg)
        for one in [value] if equals else sorted(values):
            row_in = (row.get(key) is not None and str(row[key]) == one for row in kept)
            masks[f"{key}={one}"] = np.fromiter(row_in, dtype=bool, count=len(kept))
    return masks


def _groups(outcomes: Outcomes, unit: str) -> Numbers | None:
    """A number for each row's group, repeats of an input joined; None where every row is its own."""
    if unit == "group" and ("group" not in outcomes or all(value is None for value in outcomes.values("group"))):
        msg = "`unit='group'` needs the column 'group'"
        raise ValueError(msg)
    found = blocks(outcomes)
    return np.arange(len(outcomes)) if found is None and unit == "group" else found


def _draw(groups: Numbers, seed: int) -> Bools:
    """One row of each group, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[first]] = True
    return mask


# --- the sequence ---------------------------------------------------------------------------------------------------


class _Hypothesis:
    """The null hypothesis about some rows, and their groups where they do not count singly."""

    def __init__(self, rows: Bools, groups: Numbers | None, max_loss: float) -> None:
        self.rows = rows
        self.max_loss = max_loss
        self.n = int(rows.sum())
        self.harms: list[int] = []
        self.gains: list[int] = []
        self.sums: list[Any] = []
        self.codes: Any = None
        self.sizes: Any = None
        self.refused: str | None = None
        if not self.n:
            msg = "a named slice has no row left to test"
            raise ValueError(msg)
        if groups is None:
            return
        _, codes = np.unique(groups[rows], return_inverse=True)
        sizes = np.bincount(codes)
        if sizes.max() > 1:
            self.codes, self.sizes = codes, sizes
            try:
                check_groups(sizes)
            except ValueError as error:
                self.refused = str(error)

    def anew(self) -> _Hypothesis:
        """The same without any step."""
        fresh = copy.copy(self)
        fresh.harms, fresh.gains, fresh.sums = [], [], []
        return fresh

    def add(self, loss: NDArray[np.int8]) -> None:
        """One more step: every row's loss there."""
        mine = loss[self.rows]
        self.harms.append(int((mine > 0).sum()))
        self.gains.append(int((mine < 0).sum()))
        if self.codes is not None:
            self.sums.append(np.bincount(self.codes, weights=mine))

    def leading(self, alpha: float) -> int:
        """How many steps pass before the first that fails."""
        if self.codes is None:
            return count_significant(self.harms, self.gains, self.n, self.max_loss, alpha)
        for place in range(len(self.harms)):
            if (self.result(place).p_value or 0.0) > alpha:
                return place
        return len(self.harms)

    def result(self, place: int) -> TestResult:
        """The test at one step."""
        harms, gains = self.harms[place], self.gains[place]
        p: Any
        if self.refused:
            p = 1.0
        elif self.codes is None:  # an exact p-value takes long, and most are never looked at
            p = partial(paired_p_value, harms, gains, self.n, self.max_loss)
        else:
            p = clustered_p_value(self.sums[place], self.sizes, self.max_loss)
        return TestResult(harms, gains, self.n, p)

    def upper(self, place: int, alpha: float) -> float | None:
        """An upper confidence bound of the loss at one step."""
        if self.refused:
            return None
        if self.codes is not None:
            return clustered_upper_bound(self.sums[place], self.sizes, 1.0 - alpha)
        return loss_upper_bound(self.harms[place], self.gains[place], self.n, 1.0 - alpha)


def _disagreeing(outcomes: Outcomes, found: Differences) -> list[Bools] | None:
    """By small model, the rows that it answers otherwise than the large one; None where an answer is no column."""
    several = len(found.models) > 1 or f"confidence.{found.models[0].name}" in outcomes
    columns = [f"small.{model.name}" if several else "small" for model in found.models]
    if "large" not in outcomes or any(column not in outcomes for column in columns):
        return None
    large = outcomes["large"]
    failed = np.fromiter((value is None for value in large), dtype=bool, count=len(large))
    return [np.asarray(outcomes[column] != large, dtype=bool) | failed for column in columns]


def _largest(results: Mapping[str, TestResult]) -> float:
    return max(result.p_value or 0.0 for result in results.values())


def _walk(
    outcomes: Outcomes,
    found: Differences,
    sequence: Sequence[dict[str, float]],
    hypotheses: Mapping[str, _Hypothesis],
) -> list[Step]:
    """Count harms, gains, disagreements and costs at every step."""
    whole = hypotheses[_OVERALL]
    models, every = len(found.models), np.arange(found.n)
    disagreeing = _disagreeing(outcomes, found)
    names = [model.name for model in found.models]
    costs = Costs.of(outcomes, names, found.prompt).take(whole.rows).along(found.turns(sequence, whole.rows))
    records = []
    for place, who in enumerate(found.turns(sequence).walk()):
        for hypothesis in hypotheses.values():
            hypothesis.add(found.loss[who, every])
        mine = (who < models)[whole.rows]
        differing = None
        if disagreeing is not None:
            differing = sum(int((other & (who == m) & whole.rows).sum()) for m, other in enumerate(disagreeing))
        records.append(
            Step(
                thresholds=dict(sequence[place]),
                coverage=float(mine.mean()),
                accepted=int(mine.sum()),
                harms=whole.harms[-1],
                gains=whole.gains[-1],
                p_value=None,
                passed=False,
                cost=float(costs[place]) / whole.n,
                disagreements=differing,
            )
        )
    return records


def _coverage_without(
    outcomes: Outcomes,
    hypotheses: Mapping[str, _Hypothesis],
    sequence: Sequence[dict[str, float]],
    alpha: float,
    **how: Any,
) -> float:
    """What would stay local on these rows without a floor under the classes."""
    found = differences(outcomes, **how)
    plain = {name: one.anew() for name, one in hypotheses.items()}
    records = _walk(outcomes, found, sequence, plain)
    passed = min(one.leading(alpha) for one in plain.values())
    return records[passed - 1].coverage if passed else 0.0


# --- choosing among the certified -----------------------------------------------------------------------------------


def _choose(certified: Sequence[Step], error_cost: float, n: int) -> int:
    """The cheapest certified step, errors priced; the laxest of equals."""
    if error_cost == 0.0:
        return len(certified) - 1

    def price(place: int) -> tuple[float, int]:
        step = certified[place]
        return (step.cost or 0.0) + error_cost * (step.harms - step.gains) / n, -place

    return min(range(len(certified)), key=price)
