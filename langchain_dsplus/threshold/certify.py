"""`certify`: a threshold with a promise about new inputs, or an honest refusal."""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from langchain_dsplus._arrays import Numbers
from langchain_dsplus.losses import Loss, parse_loss
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.uses import blocks, earlier_uses, note_use
from langchain_dsplus.threshold.certificate import Certificate, ClassFloor, Step
from langchain_dsplus.threshold.choose import ThresholdChoice
from langchain_dsplus.threshold.classes import halves, keep_from_answering, losing_classes
from langchain_dsplus.threshold.differences import (
    Differences,
    UnusableLarge,
    coverage_grid,
    differences,
    model_names,
)
from langchain_dsplus.threshold.findings import find_mistakes, refuse, said_of_judge, without_training
from langchain_dsplus.threshold.hypotheses import Hypotheses, Hypothesis, draw_rows, walk
from langchain_dsplus.threshold.judged import hidden_by_judge
from langchain_dsplus.threshold.verdict import (
    baselines,
    by_class,
    by_slice,
    give_verdict,
    what_would_help,
    with_findings,
)

logger = logging.getLogger(__name__)

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

    Where a ready judge said who was right (`chat_dsplus.judges`), an upper bound of what its errors hide is counted
    against `max_loss`, with half of the error probability; `p_value` is then of what is left.

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
    _check_rows(outcomes)
    mistakes = find_mistakes(outcomes, seed=seed)
    refuse(mistakes)
    earlier = _earlier(outcomes)
    spent = (1.0 - level) / 2.0**earlier
    parts = bool(slices or floor or unit == "group" or prompt == "pruned")
    judge = hidden_by_judge(outcomes.about, spent, len(model_names(outcomes)), parts=parts)
    alpha, mistakes = judge.alpha, (*said_of_judge(judge), *mistakes)
    table, outcomes = outcomes, without_training(outcomes)
    barred = tuple([never_local] if isinstance(never_local, str) else never_local)
    read: dict[str, Any] = {"prompt": prompt, "unusable_large": unusable_large}
    kept: tuple[str, ...] = ()
    fit_rows = 0
    if floor is not None:
        chosen, outcomes = _halves(outcomes, seed)
        kept = keep_from_answering(chosen, floor, max_loss, never_local=barred, path=path, **read)
        fit_rows = len(chosen)
    found = differences(outcomes, never_local=(*barred, *kept), **read)
    sequence = _sequence(found, thresholds, path, steps, start, prompt)
    groups = _groups(outcomes, unit)
    draw = draw_rows(groups, seed) if groups is not None and unit == "group" else None
    tests = Hypotheses(outcomes, max_loss, slices=slices, groups=groups, draw=draw, hidden=judge.hidden)
    if floor is not None:
        tests.add_classes(outcomes, floor, alpha)
    records = walk(outcomes, found, sequence, tests)
    passed = tests.passed(alpha)
    tests.mark(records, passed)
    promised = None
    if floor is not None:
        without = _coverage_without(outcomes, tests, sequence, alpha, never_local=barred, **read)
        promised = ClassFloor(floor, tests.covered, tests.few, kept, without, fit_rows)
    _note(table, earlier)
    idle = _idle(records)
    certificate = _write(
        outcomes,
        found,
        tests.whole,
        records,
        (idle, passed),
        alphas=(spent, alpha),
        error_cost=float(error_cost),
        level=float(level),
        unit=unit,
        about={**copy.deepcopy(table.about), **table.labels_said()},
        certification=earlier + 1,
        slices=tuple(tests.named),
        never_local=(*barred, *(label for label in kept if label not in barred)),
        unusable_large=unusable_large,
        groups=None if groups is None else len(np.unique(groups[tests.whole.rows])),
        findings=tuple(item.to_dict() for item in mistakes),
        class_floor=promised,
    )
    if not certificate.certified:
        refused = tests.refused(alpha, passed, idle)
        helping = what_would_help(found, certificate, {"": tests.whole, **tests.named}, refused)
        certificate = replace(certificate, help=helping)
    return replace(certificate, verdict=with_findings(give_verdict(certificate), certificate))


def _write(
    outcomes: Outcomes,
    found: Differences,
    whole: Hypothesis,
    records: list[Step],
    leading: tuple[int, int],
    *,
    alphas: tuple[float, float],
    error_cost: float,
    **said: Any,
) -> Certificate:
    """The certificate: which threshold the tested steps give, and what was counted there.

    Args:
        outcomes: The rows that certify.
        found: Their losses.
        whole: The test of all rows.
        records: The steps.
        leading: How many of the first steps accept nothing, and how many pass.
        alphas: Error probability that is spent, and what of it is left for the tests.
        error_cost: As in `certify`.
        **said: Fields that hang on no step.
    """
    idle, passed = leading
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
        max_loss=float(whole.max_loss),
        alpha=alphas[0],
        p_value=1.0 if shown is None or shown.p_value is None else min(shown.p_value, 1.0),
        harms=harms,
        gains=gains,
        coverage=shown.coverage if certified and shown is not None else 0.0,
        n=whole.n,
        prompt=found.prompt,
        loss=(harms - gains) / whole.n,
        loss_upper=None if shown is None else whole.upper(chosen, alphas[1]),
        steps=tuple(records),
        unlabeled=0 if shown is None else int(found.at(shown.thresholds)[2][whole.rows].sum()),
        unusable=int(found.unusable[whole.rows].sum()),
        unanswered=int(found.unanswered[whole.rows].sum()),
        unusable_pruned=int(found.unusable_pruned[whole.rows].sum()),
        error_cost=error_cost,
        by_class=by_class(outcomes, found, final) if certified else (),
        by_slice=by_slice(outcomes, found, final) if certified else (),
        losing_classes=losing_classes(outcomes, found, final, whole.rows, whole.max_loss) if certified else (),
        **said,
    )
    return replace(certificate, baselines=baselines(outcomes, found, certificate, whole.rows))


def _idle(records: Sequence[Step]) -> int:
    """Steps that accept nothing, a first one at infinity (pruned prompt): that they pass shows no threshold."""
    return sum(not _accepts(record.thresholds) for record in records)


def _halves(outcomes: Outcomes, seed: int) -> tuple[Outcomes, Outcomes]:
    """Rows that choose labels, and rows that certify."""
    chosen_on, tested_on = halves(_groups(outcomes, "input"), len(outcomes), _FIT, seed)
    return outcomes.select(chosen_on), outcomes.select(tested_on)


def _note(table: Outcomes, earlier: int) -> None:
    """Count this certification, in the table and in the journal of its folder."""
    table.about["certifications"] = earlier + 1
    table.about["data"] = table.data_hash()
    note_use(table)


# --- arguments ------------------------------------------------------------------------------------------------------


def _check(level: float, steps: int, error_cost: float, unit: str) -> None:
    if not 0.5 <= level < 1.0:
        raise ValueError(f"`level` must lie in [0.5, 1), not {level}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError("`steps` must be a whole number, at least 1")
    if not (error_cost >= 0.0 and math.isfinite(error_cost)):
        raise ValueError("`error_cost` must be a number, at least 0")
    if unit not in ("input", "group"):
        raise ValueError(f"`unit` must be 'input' or 'group', not {unit!r}")


def _check_rows(outcomes: Outcomes) -> None:
    """Refuse rows that were chosen by what a router decided about them, and a large model that speaks in no labels."""
    if "source" in outcomes and any(value not in (None, "shadow") for value in outcomes.values("source")):
        raise ValueError(
            "`outcomes` holds rows of live traffic (column 'source'): which of them the large model answered hangs on "
            "the router's decision, so they are no fair sample. Certify on shadow rows: `from_traces` without `live`"
        )
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
        raise ValueError("`outcomes.about['certifications']` must be a whole number, at least 0")
    value = max(value, earlier_uses(outcomes) or 0)
    if value > 15:
        raise ValueError(
            f"this table was used {value} times to certify: no error probability is left, collect fresh rows"
        )
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
        raise ValueError(
            "`prompt='pruned'` needs `start`: the threshold that `choose_threshold(..., prompt='pruned')` found on "
            "other rows. At the strict end nearly every row is asked the pruned prompt, so nothing could pass there"
        )
    if len(names) > 1:
        if thresholds is not None or path is None:
            raise ValueError(
                f"for several small models pass `path`, dicts from {names} to thresholds (see `coverage_path`)"
            )
        sequence = [_place(step, names) for step in path]
    elif path is not None:
        sequence = [_place(step, names) for step in path]
    elif thresholds is not None:
        sequence = [{names[0]: _number(value)} for value in thresholds]
    else:
        sequence = [{names[0]: value} for value in coverage_grid(found.models[0].confidence, steps)]
    if not sequence and (thresholds is not None or path is not None):
        raise ValueError(f"`{'path' if thresholds is None else 'thresholds'}` is empty: it needs at least one step")
    for name in names:
        values = [step[name] for step in sequence]
        if any(later > earlier for earlier, later in pairwise(values)):
            raise ValueError(
                f"the thresholds of {name!r} must go from strict to lax: none may be higher than the one before"
            )
    if isinstance(start, ThresholdChoice):
        start = start.thresholds if start.threshold is None else start.threshold
    if start is not None:
        first = _place(start, names) if isinstance(start, Mapping) else {names[0]: _number(start)}
        if set(first) != set(names):
            raise ValueError(f"`start` must be a dict from {names} to thresholds")
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
        raise ValueError(f"each step of `path` (and `start`) must be a dict with exactly the keys {list(names)}")
    return {name: _number(step[name]) for name in names}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or math.isnan(value):
        raise ValueError("a threshold must be a number")
    # As the router reads it: minus infinity is no JSON, and accepts no more.
    return max(float(value), -sys.float_info.max)


def _groups(outcomes: Outcomes, unit: str) -> Numbers | None:
    """A number for each row's group, repeats of an input joined; None where every row is its own."""
    if unit == "group" and ("group" not in outcomes or all(value is None for value in outcomes.values("group"))):
        raise ValueError("`unit='group'` needs the column 'group'")
    found = blocks(outcomes)
    return np.arange(len(outcomes)) if found is None and unit == "group" else found


# --- the sequence ---------------------------------------------------------------------------------------------------


def _coverage_without(
    outcomes: Outcomes,
    hypotheses: Hypotheses,
    sequence: Sequence[dict[str, float]],
    alpha: float,
    **how: Any,
) -> float:
    """What would stay local on these rows without a floor under the classes."""
    found = differences(outcomes, **how)
    plain = hypotheses.without_classes()
    records = walk(outcomes, found, sequence, plain)
    passed = plain.passed(alpha)
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
