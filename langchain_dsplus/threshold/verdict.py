"""What else could have been done on the same rows, and what that says: words around a certificate, never its status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_dsplus._arrays import Bools, Floats
from langchain_dsplus.losses import points, signed_points
from langchain_dsplus.outcomes.sampling import LabelSample
from langchain_dsplus.threshold.certificate import Baseline, Certificate, say_losing, unnamed
from langchain_dsplus.threshold.clusters import clustered_upper_bound, least_groups
from langchain_dsplus.threshold.curves import accuracy_interval
from langchain_dsplus.threshold.differences import Differences
from langchain_dsplus.threshold.exact import least_rows, loss_interval, loss_upper_bound
from langchain_dsplus.threshold.findings import say
from langchain_dsplus.threshold.planning import plan_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes


_INTERVAL = 0.95
_USEFUL = 0.1
"""Coverage from which a clear loss counts against cascading at all."""


def baselines(outcomes: Outcomes, found: Differences, certificate: Certificate, rows: Bools) -> tuple[Baseline, ...]:
    """Return the other ways to spend the money, on the rows of the test.

    Random at equal budget keeps as many inputs local as the certificate does, whichever they are. The oracle knows who
    is right and asks the large model only where it alone is. Intervals are for rows that count singly.

    Accuracies are over the rows on which the large model gave a label, each way over the same ones: where it gave none
    nobody knows what it would have been worth. Where some of these lack gold, the others count by how they were chosen
    (`outcomes.sampling`). Losses are over all rows.

    Args:
        outcomes: The table.
        found: Its losses.
        certificate: What was certified.
        rows: Which rows count, shape (n,).
    """
    everything = {model.name: -math.inf for model in found.models}
    nothing = {model.name: math.inf for model in found.models}
    large = found.large
    local, inside, local_unlabeled = found.at(everything)
    small = found.correct(everything)
    if certificate.certified:
        lost, accepted, unlabeled = found.at(certificate.thresholds)
        cascade = found.correct(certificate.thresholds)
    else:  # then the large model gets the plain prompt
        accepted, cascade = found.who(nothing)[0] >= 0, large
        lost, unlabeled = np.zeros_like(local), np.zeros_like(inside)
    if found.prompt == "pruned":  # these ways know no other prompt
        small = np.where(inside, small, large)
        local = np.where(inside, local, 0).astype(np.int8)
    either = np.where((large == 1.0) | (small == 1.0), 1.0, np.where(np.isnan(large + small), np.nan, 0.0))
    counts = rows & found.compared
    sample = LabelSample.of(outcomes, large, level=_INTERVAL)
    coverage = float(accepted[rows].mean())
    ways = (
        ("always large", 1.0, large, np.zeros_like(local), 1.0, np.zeros_like(inside)),
        ("always small", 1.0 - float(inside[rows].mean()), small, local, 1.0, local_unlabeled & (local > 0)),
        ("random at equal budget", 1.0 - coverage, small, local, coverage, local_unlabeled & (local > 0)),
        # The oracle keeps local what it may: all but the harms.
        (
            "oracle",
            1.0 - float((inside & (local <= 0))[rows].mean()),
            either,
            np.minimum(local, 0),
            1.0,
            np.zeros_like(inside),
        ),
        ("cascade", 1.0 - coverage, cascade, lost, 1.0, unlabeled & (lost > 0)),
    )
    return tuple(
        replace(
            _baseline(name, asked, (right[counts], large[counts]), sample.within(counts), loss[rows], share=share),
            unlabeled=int(unknown[rows].sum()),
        )
        for name, asked, right, loss, share, unknown in ways
    )


def _column(found: Differences, name: str) -> str:
    """Where the answers of a small model stand; one of several may be named `small`, too."""
    return "small" if [model.name for model in found.models] == ["small"] else f"small.{name}"


def _baseline(
    name: str,
    asked: float,
    right: tuple[Floats, Floats],
    sample: LabelSample,
    loss: NDArray[np.int8],
    *,
    share: float,
) -> Baseline:
    """One way: who is right in a share of the rows, drawn at random, and the large model in the others."""
    n, counted = len(loss), len(sample)
    harms, gains = int((loss > 0).sum()), int((loss < 0).sum())
    low, high = loss_interval(harms, gains, n, _INTERVAL)
    value = np.asarray((share * right[0] if share else 0.0) + ((1.0 - share) * right[1] if share < 1.0 else 0.0))
    known = ~np.isnan(value)
    needed = 0
    if not counted or not known.all():
        found = replace(sample, labelled=known, skipped=sample.skipped & ~known).rate(value)
        mean, bounds = (found.value if found.known else None), (found.low, found.high)
        needed = max(found.needed, 1) if mean is None and counted else 0
    else:
        mean = float(value.mean())
        if 0.0 < share < 1.0:
            half = 1.96 * math.sqrt(mean * (1.0 - mean) / counted)
            bounds = max(mean - half, 0.0), min(mean + half, 1.0)
        else:
            bounds = accuracy_interval(round(mean * counted), counted, level=_INTERVAL)
    return Baseline(
        name=name,
        escalation_rate=asked,
        accuracy=mean,
        low=bounds[0],
        high=bounds[1],
        loss=share * (harms - gains) / n,
        loss_low=share * low,
        loss_high=share * high,
        needs_gold=needed,
    )


def by_class(outcomes: Outcomes, found: Differences, thresholds: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """Return coverage, harms and gains by the (first) small model's choice; a table without a promise."""
    column = _column(found, found.models[0].name)
    if column not in outcomes:
        return ()
    return _table("class", *outcomes.coded(column), found, thresholds)


def by_slice(outcomes: Outcomes, found: Differences, thresholds: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """Return the same by every slice that the table names; a table without a promise."""
    if "slices" not in outcomes:
        return ()
    kept = [value or {} for value in outcomes.values("slices")]
    keys = sorted({str(key) for row in kept for key in row})
    rows: list[dict[str, Any]] = []
    for key in keys:
        place: dict[str, int] = {}
        values = (-1 if row.get(key) is None else place.setdefault(f"{key}={row[key]}", len(place)) for row in kept)
        codes = np.fromiter(values, dtype=np.int64, count=len(kept))
        rows += _table("slice", codes, list(place), found, thresholds)
    return tuple(rows)


def _table(
    kind: str, codes: NDArray[Any], names: Sequence[str], found: Differences, thresholds: Mapping[str, float]
) -> tuple[dict[str, Any], ...]:
    loss, accepted, _ = found.at(thresholds)
    inside = codes >= 0

    def count(mask: Any) -> list[int]:
        return [int(x) for x in np.bincount(codes[mask & inside], minlength=len(names))]

    counted = zip(names, count(inside), count(accepted), count(loss > 0), count(loss < 0), strict=True)
    return tuple(
        {kind: name, "n": n, "coverage": a / n, "harms": h, "gains": g, "loss": (h - g) / n}
        for name, n, a, h, g in sorted(counted)
        if n
    )


# --- when nothing could be shown ------------------------------------------------------------------------------------


def what_would_help(
    found: Differences, certificate: Certificate, parts: Mapping[str, Any], refused: str | None = None
) -> dict[str, Any]:
    """Return what would help: rows, labels, another loss. All of it is exploratory: it was read off these rows.

    Args:
        found: The table's losses.
        certificate: The refusal.
        parts: What was tested, by name (the whole is ""): rows, counts and sums of each step, sizes of groups.
        refused: Why a test refused, where one did.

    Returns:
        `least_n`: rows (groups with `unit="group"`) below which nothing can be shown. `planned_n`: by coverage in
        percent, rows that would show it with probability .8 at the rates seen here; None where the loss seen is too
        large. `smallest_loss`: the smallest `max_loss` that these rows would have shown, and `smallest_loss_at` the
        same by coverage. `labels_needed`: disagreements without gold. With groups `least_groups`, with named slices
        `slices`: the rows of each, and the fewest that it needs. `reason`: why nothing was tested, where that is so.
    """
    level = 1.0 - certificate.alpha
    whole = parts[""]
    planned: dict[str, int | None] = {}
    smallest: dict[str, float | None] = {}
    worst = dict.fromkeys(parts, 0.0)
    remaining = [25, 50, 75]
    for place, step in enumerate(certificate.steps):
        for name, part in parts.items():
            if part.sizes is None and place:  # the asymptotic bound: the exact one takes long, and these are many
                interval = loss_interval(part.harms[place], part.gains[place], part.n, 2.0 * level - 1.0)
                worst[name] = max(worst[name], interval[1])
        if place == 0:
            worst = {name: _shows(part, 0, level) for name, part in parts.items()}
            smallest["any"] = None if refused else max(worst.values())
        while remaining and step.coverage >= remaining[0] / 100.0 - 0.01:
            coverage = str(remaining.pop(0))
            plans = [_planned(part, place, certificate.max_loss, level, whole.n) for part in parts.values()]
            planned[coverage] = None if None in plans else max(plan for plan in plans if plan is not None)
            at = [_shows(part, place, level) for part in parts.values() if part.sizes is not None]
            smallest[coverage] = None if refused else max([*worst.values(), *at])
    least = {name: _least(part, certificate.max_loss, level) for name, part in parts.items()}
    unlabeled = np.zeros(found.n, dtype=bool)
    if any(model.unlabeled.any() for model in found.models) or found.escalated_unlabeled.any():
        for step in certificate.steps:
            unlabeled |= found.at(step.thresholds)[2]
    help_: dict[str, Any] = {
        "least_n": least[""],
        "planned_n": planned,
        "smallest_loss": smallest.pop("any", None),
        "smallest_loss_at": smallest,
        "labels_needed": int((unlabeled & whole.rows).sum()),
        "note": "Read off these rows, so exploratory: it is a plan for new rows, not a result.",
    }
    if whole.sizes is not None:
        help_["least_groups"] = least_groups(whole.sizes, certificate.max_loss, level)
    if len(parts) > 1:
        help_["slices"] = {name: {"n": part.n, "least_n": least[name]} for name, part in parts.items() if name}
    if refused:
        help_["reason"] = refused
    elif not certificate.steps:
        usable = any(bool(np.isfinite(model.confidence).any()) for model in found.models)
        help_["reason"] = (
            "the thresholds accept nothing, so there is nothing to test"
            if usable
            else "no row has a small model's answer to accept"
        )
    return help_


def _least(part: Any, max_loss: float, level: float) -> int:
    """Fewest rows of a part at which anything can be shown."""
    if part.sizes is None:
        return least_rows(max_loss, level)
    return math.ceil(least_groups(part.sizes, max_loss, level) * float(np.mean(part.sizes)))


def _planned(part: Any, place: int, max_loss: float, level: float, n: int) -> int | None:
    """Rows of the whole table at which a part would pass at this step, at the rates seen; None where none would do."""
    harms, gains = part.harms[place], part.gains[place]
    rows = plan_rows(max_loss, level, harm_rate=harms / part.n, gain_rate=gains / part.n).n
    if rows is None:
        return None
    if part.sizes is not None:
        # Rows of a group resemble each other: as many more are needed as the sums of groups vary more than rows would.
        loss = (harms - gains) / part.n
        single = harms + gains - part.n * loss * loss
        if single > 0.0:
            spread = float(((part.sums[place] - loss * part.sizes) ** 2).sum())
            rows = math.ceil(rows * max(spread / single, 1.0))
        rows = max(rows, _least(part, max_loss, level))
    return rows if part.n == n else math.ceil(rows * n / part.n)


def _shows(part: Any, place: int, level: float) -> float:
    if part.refused:
        return 1.0
    if part.sizes is not None:
        return clustered_upper_bound(part.sums[place], part.sizes, level)
    if part.n > 20_000:  # the exact bound takes seconds there, and differs in the fifth digit
        return max(loss_interval(part.harms[place], part.gains[place], part.n, 2.0 * level - 1.0)[1], 0.0)
    return loss_upper_bound(part.harms[place], part.gains[place], part.n, level)


# --- words ----------------------------------------------------------------------------------------------------------


def give_verdict(certificate: Certificate) -> str:
    """Return the verdict: one of `certificate.DECISIONS`, a colon, and the reason."""
    words = _shown(certificate) if certificate.certified else _not_shown(certificate)
    return words + _no_labels(certificate) + (unnamed(certificate.unverifiable) if certificate.certified else "")


def _shown(certificate: Certificate) -> str:
    """The verdict of a certificate that is CERTIFIED."""
    rows = {baseline.name: baseline for baseline in certificate.baselines}
    small, random, cascade = rows["always small"], rows["random at equal budget"], rows["cascade"]
    if certificate.coverage == 0.0:
        return "NOT ENOUGH DATA: the threshold passes, but it lies above all scores seen here, so nothing stays local."
    losing = say_losing(certificate.losing_classes)
    losing = f"{losing}. Over all classes together " if losing else ""
    # One that may not give all of its answers, for the sake of a class, remains a cascade.
    kept = certificate.class_floor is not None and certificate.class_floor.kept
    several = len(certificate.thresholds) > 1
    if not kept and cascade.escalation_rate <= small.escalation_rate + 1e-9:
        who = "the small models by themselves pass" if several else "the small model by itself passes"
        rest = "no input needs the large model"
        if small.escalation_rate > 0.0:
            rest = (
                f"no input needs the large model but the {small.escalation_rate:.1%} that may not stay local or that "
                f"{'a' if several else 'the'} small model did not answer"
            )
        return (
            f"SMALL ALONE: {losing}{who} the test, so {rest}. Against the large model alone "
            f"that changes accuracy by {_change(cascade)}. {_accuracies(rows)} To buy accuracy with calls, "
            "certify with `error_cost`."
        )
    return (
        f"CASCADE: {losing}{certificate.coverage:.1%} of inputs need no call of the large model; accuracy changes by "
        f"{_change(cascade)}. Always small would change it by {_change(small)}, as many inputs kept local at "
        f"random by {_change(random)}. {_accuracies(rows)}"
    )


def _no_labels(certificate: Certificate) -> str:
    """What became of the rows on which the large model gave no label."""
    words = ""
    if certificate.unusable:
        share = certificate.unusable / certificate.n
        worth = (
            "never a gain for the small model, and a harm where it would answer and is not known to be right"
            if certificate.unusable_large == "unknown"
            else "wrong, as was asked for: the small model may gain there"
        )
        words = (
            f" On {certificate.unusable:,} of {certificate.n:,} rows ({share:.1%}) the large model's reply is none of "
            f"the labels: counted as {worth}."
        )
    if certificate.unanswered:
        share = certificate.unanswered / certificate.n
        words += (
            f" On {certificate.unanswered:,} of {certificate.n:,} rows ({share:.1%}) the large model gave no reply: "
            "never a gain for the small model, and a harm where it would answer and is not known to be right."
        )
    if certificate.unusable_pruned:
        share = certificate.unusable_pruned / certificate.n
        words += (
            f" On {certificate.unusable_pruned:,} of {certificate.n:,} rows ({share:.1%}) its reply to the pruned "
            "prompt is none of the labels: counted as wrong."
        )
    left = certificate.unanswered + (certificate.unusable if certificate.unusable_large == "unknown" else 0)
    if left and left < certificate.n:
        words += f" Accuracies are over the other {certificate.n - left:,} rows."
    return words


def _not_shown(certificate: Certificate) -> str:
    """The verdict of a certificate that is NOT_CERTIFIED."""
    rows = {baseline.name: baseline for baseline in certificate.baselines}
    small = rows["always small"]
    help_ = certificate.help or {}
    if reason := help_.get("reason"):
        return f"NOT ENOUGH DATA: {reason}."
    unit = "rows" if certificate.unit == "input" else "groups"
    groups = "" if "least_groups" not in help_ else f" in groups like these (about {help_['least_groups']:,} groups)"
    if certificate.n < help_["least_n"]:
        return (
            f"NOT ENOUGH DATA: {certificate.n:,} {unit}, and below {help_['least_n']:,}{groups} nothing can be shown "
            f"at a loss of {points(certificate.max_loss)}."
        )
    for name, part in help_.get("slices", {}).items():
        if part["n"] < part["least_n"]:
            return (
                f"NOT ENOUGH DATA: {part['n']:,} {unit} in slice {name}, and below {part['least_n']:,} nothing can be "
                f"shown there at a loss of {points(certificate.max_loss)}."
            )
    if certificate.unlabeled and help_["labels_needed"]:
        return (
            f"NOT ENOUGH DATA: {help_['labels_needed']:,} disagreements have no gold and count as lost. Label "
            "them first (`Outcomes.to_label`)."
        )
    useful = [step for step in certificate.steps if step.coverage >= _USEFUL]
    lows = [loss_interval(step.harms, step.gains, certificate.n, _INTERVAL)[0] for step in useful]
    if certificate.groups is not None and certificate.unit == "input":
        lows = []  # these intervals are for rows that count singly
    if lows and min(lows) > certificate.max_loss:
        return (
            f"LARGE ALONE: wherever {_USEFUL:.0%} of inputs or more stay local, the loss is above "
            f"{points(certificate.max_loss)}. Always small changes accuracy by {_change(small)}. {_accuracies(rows)}"
        )
    planned = [n for n in help_["planned_n"].values() if n is not None]
    more = (
        f"About {min(planned):,} {unit} would do at the rates seen here"
        if planned
        else "At the rates seen here no number would do"
    )
    also = " over all and in each named slice" if certificate.slices else ""
    return (
        f"NOT ENOUGH DATA: on {certificate.n:,} {unit} no share could be shown to lose less than "
        f"{points(certificate.max_loss)}{also}. {more}."
    )


def with_findings(verdict: str, certificate: Certificate) -> str:
    """Return the verdict with what was seen of the table and what could not be, before the parts not named."""
    tail = unnamed(certificate.unverifiable)
    tail = tail if tail and verdict.endswith(tail) else ""
    return verdict.removesuffix(tail) + say(certificate.findings) + tail


def _change(baseline: Baseline) -> str:
    """What a way wins (+) or loses (-) against the large model alone, in points."""
    if baseline.unlabeled:
        return (
            f"{signed_points(-baseline.loss)} points at worst ({baseline.unlabeled:,} disagreements have no gold and "
            "count as lost)"
        )
    low, high = signed_points(-baseline.loss_high), signed_points(-baseline.loss_low)
    return f"{signed_points(-baseline.loss)} points (95 %: {low} to {high})"


def _accuracies(rows: Mapping[str, Baseline]) -> str:
    large = rows["always large"]
    if large.accuracy is None and not large.needs_gold:
        return "The large model gave a label on none of the rows."
    if large.accuracy is None:
        return f"How accurate each is needs about {large.needs_gold:,} more labels."
    shown = ", ".join(
        f"{name} {baseline.accuracy:.1%} ({baseline.low:.1%} to {baseline.high:.1%})"
        for name in ("cascade", "always large", "always small", "oracle")
        if (baseline := rows[name]).accuracy is not None
    )
    return f"Accuracy: {shown}."
