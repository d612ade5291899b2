"""What else could have been done on the same rows, and what that says: words around a certificate, never its status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from langchain_dsplus.threshold.certificate import Baseline
from langchain_dsplus.threshold.curves import accuracy_interval
from langchain_dsplus.threshold.exact import least_rows, loss_interval, loss_upper_bound
from langchain_dsplus.threshold.planning import plan_sample_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes
    from langchain_dsplus.threshold.certificate import Certificate, Step
    from langchain_dsplus.threshold.differences import Differences

    Bools: TypeAlias = NDArray[np.bool_]
    Floats: TypeAlias = NDArray[np.float64]

_INTERVAL = 0.95
_USEFUL = 0.1
"""Coverage from which a clear loss counts against cascading at all."""


def baselines(outcomes: Outcomes, found: Differences, certificate: Certificate, rows: Bools) -> tuple[Baseline, ...]:
    """Return the other ways to spend the money, on the rows of the test.

    Random at equal budget keeps as many inputs local as the certificate does, whichever they are. The oracle knows who
    is right and asks the large model only where it alone is. Intervals are for rows that count singly.

    Args:
        outcomes: The table.
        found: Its losses.
        certificate: What was certified.
        rows: Which rows count, shape (n,).
    """
    large = outcomes.correct("large")[rows]
    nothing = {model.name: math.inf for model in found.models}
    everything = {model.name: -math.inf for model in found.models}
    local, inside, _ = found.at(everything)
    cascade, accepted, _ = found.at(certificate.thresholds if certificate.certified else nothing)
    if not certificate.certified:  # then the large model gets the plain prompt
        cascade = np.zeros_like(cascade)
    inside, accepted = inside[rows], accepted[rows]
    coverage = float(accepted.mean())
    best = np.minimum(local, 0)
    # The oracle keeps local what it may: all but the harms.
    asked = 1.0 - float((inside & (local[rows] <= 0)).mean())
    plain = np.zeros_like(local)
    cascade_, local_, best_ = cascade[rows], local[rows], best[rows]
    return (
        _baseline("always large", 1.0, large, plain[rows]),
        _baseline("always small", 1.0 - float(inside.mean()), large, local_),
        _baseline("random at equal budget", 1.0 - coverage, large, local_, share=coverage),
        _baseline("oracle", asked, large, best_),
        _baseline("cascade", 1.0 - coverage, large, cascade_),
    )


def _baseline(name: str, asked: float, large: Floats, loss: NDArray[np.int8], *, share: float = 1.0) -> Baseline:
    """One way: right where the large model is, less the loss; of which only a share counts for a random choice."""
    n = len(loss)
    harms, gains = int((loss > 0).sum()), int((loss < 0).sum())
    low, high = loss_interval(harms, gains, n, _INTERVAL)
    right = large - loss
    unknown = int(np.isnan(large).sum())
    known = np.clip(np.nan_to_num(large), 0, 1)
    mean = float(known.mean()) - share * (harms - gains) / n
    if unknown:
        bounds = max(mean, 0.0), min(mean + unknown / n, 1.0)
    elif share < 1.0:
        half = 1.96 * math.sqrt(float(known.var() + share * loss.astype(np.float64).var()) / n)
        bounds = max(mean - half, 0.0), min(mean + half, 1.0)
    else:
        bounds = accuracy_interval(round(float(np.clip(right, 0, 1).sum())), n, level=_INTERVAL)
    return Baseline(
        name=name,
        escalation_rate=asked,
        accuracy=None if unknown else mean,
        low=bounds[0],
        high=bounds[1],
        loss=share * (harms - gains) / n,
        loss_low=share * low,
        loss_high=share * high,
        needs_gold=unknown,
    )


def by_class(outcomes: Outcomes, found: Differences, thresholds: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """Return coverage, harms and gains by the (first) small model's choice; a table without a promise."""
    column = "small" if found.models[0].name == "small" else f"small.{found.models[0].name}"
    if column not in outcomes:
        return ()
    return _table("class", outcomes.values(column), found, thresholds)


def by_slice(outcomes: Outcomes, found: Differences, thresholds: Mapping[str, float]) -> tuple[dict[str, Any], ...]:
    """Return the same by every slice that the table names; a table without a promise."""
    if "slices" not in outcomes:
        return ()
    kept = [value or {} for value in outcomes.values("slices")]
    keys = sorted({str(key) for row in kept for key in row})
    rows: list[dict[str, Any]] = []
    for key in keys:
        values = [None if row.get(key) is None else f"{key}={row[key]}" for row in kept]
        rows += _table("slice", values, found, thresholds)
    return tuple(rows)


def _table(
    kind: str, values: Sequence[Any], found: Differences, thresholds: Mapping[str, float]
) -> tuple[dict[str, Any], ...]:
    loss, accepted, _ = found.at(thresholds)
    names = sorted({value for value in values if value is not None})
    code = {name: place for place, name in enumerate(names)}
    codes = np.fromiter((code.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    inside = codes >= 0

    def count(mask: Any) -> list[int]:
        return [int(x) for x in np.bincount(codes[mask & inside], minlength=len(names))]

    return tuple(
        {kind: name, "n": n, "coverage": a / n, "harms": h, "gains": g, "loss": (h - g) / n}
        for name, n, a, h, g in zip(
            names, count(inside), count(accepted), count(loss > 0), count(loss < 0), strict=True
        )
    )


# --- when nothing could be shown ------------------------------------------------------------------------------------


def what_would_help(
    found: Differences, certificate: Certificate, rows: Bools, refused: str | None = None
) -> dict[str, Any]:
    """Return what would help: rows, labels, another loss. All of it is exploratory: it was read off these rows.

    Returns:
        `least_n`: rows below which nothing can be shown. `planned_n`: by coverage in percent, rows that would show it
        with probability .8 at the rates seen here; None where the loss seen is too large. `smallest_loss`: the smallest
        `max_loss` that these rows would have shown, and `smallest_loss_at` the same by coverage. `labels_needed`:
        disagreements without gold. `reason`: why nothing was tested, where that is so.
    """
    n, alpha = certificate.n, certificate.alpha
    least = least_rows(certificate.max_loss, 1.0 - alpha)
    planned: dict[str, int | None] = {}
    smallest: dict[str, float] = {}
    worst = 0.0
    remaining = [25, 50, 75]
    for place, step in enumerate(certificate.steps):
        if place == 0:
            smallest["any"] = worst = _shown(step, n, 1.0 - alpha)
        else:  # the asymptotic bound: the exact one takes a tenth of a second, and these are many
            worst = max(worst, loss_interval(step.harms, step.gains, n, 1.0 - 2.0 * alpha)[1])
        while remaining and step.coverage >= remaining[0] / 100.0 - 0.01:
            plan = plan_sample_size(
                certificate.max_loss, 1.0 - alpha, harm_rate=step.harms / n, gain_rate=step.gains / n
            )
            planned[str(remaining[0])] = plan.n
            smallest[str(remaining[0])] = worst
            remaining.pop(0)
    unlabeled = np.zeros(len(rows), dtype=bool)
    for model in found.models:
        unlabeled |= model.unlabeled
    help_: dict[str, Any] = {
        "least_n": least,
        "planned_n": planned,
        "smallest_loss": smallest.pop("any", None),
        "smallest_loss_at": smallest,
        "labels_needed": int((unlabeled & rows).sum()),
        "note": "Read off these rows, so exploratory: it is a plan for new rows, not a result.",
    }
    if refused:
        help_["reason"] = refused
    elif not certificate.steps:
        help_["reason"] = "no row has a small model's answer to accept"
    return help_


def _shown(step: Step, n: int, level: float) -> float:
    if n > 20_000:  # the exact bound takes seconds there, and differs in the fifth digit
        return max(loss_interval(step.harms, step.gains, n, 2.0 * level - 1.0)[1], 0.0)
    return loss_upper_bound(step.harms, step.gains, n, level)


# --- words ----------------------------------------------------------------------------------------------------------


def give_verdict(certificate: Certificate) -> str:
    """Return the verdict: `CASCADE: ...`, `DO NOT CASCADE: ...` or `NOT ENOUGH DATA: ...`, with the reason."""
    rows = {baseline.name: baseline for baseline in certificate.baselines}
    small, random, cascade = rows["always small"], rows["random at equal budget"], rows["cascade"]
    if certificate.certified:
        if cascade.escalation_rate <= small.escalation_rate + 1e-9:
            return (
                "DO NOT CASCADE: the small model alone passes the same test, so nothing needs to be escalated. It "
                f"loses {_loss(small)}. {_accuracies(rows)} To buy accuracy with calls, certify with `error_cost`."
            )
        words = (
            f"CASCADE: {certificate.coverage:.1%} of inputs need no call of the large model, at a loss of "
            f"{_loss(cascade)}. Always small would lose {_loss(small)}, and as many inputs kept local at random "
            f"{_loss(random)}. {_accuracies(rows)}"
        )
        if certificate.unverifiable:
            words += f" Unverifiable, since `about` does not name them: {', '.join(certificate.unverifiable)}."
        return words
    help_ = certificate.help or {}
    if reason := help_.get("reason"):
        return f"NOT ENOUGH DATA: {reason}."
    if certificate.n < help_["least_n"]:
        return (
            f"NOT ENOUGH DATA: {certificate.n:,} rows, and below {help_['least_n']:,} nothing can be shown at a loss "
            f"of {certificate.max_loss:.2%}."
        )
    if certificate.unlabeled and help_["labels_needed"]:
        return (
            f"NOT ENOUGH DATA: {help_['labels_needed']:,} disagreements have no gold and count as lost. Fill in those "
            "with the highest confidence first (`Outcomes.to_label`)."
        )
    useful = [step for step in certificate.steps if step.coverage >= _USEFUL]
    lows = [loss_interval(step.harms, step.gains, certificate.n, _INTERVAL)[0] for step in useful]
    if lows and min(lows) > certificate.max_loss:
        return (
            f"DO NOT CASCADE: wherever {_USEFUL:.0%} of inputs or more stay local, the loss is above "
            f"{certificate.max_loss:.2%}. Always small loses {_loss(small)}."
        )
    planned = [n for n in help_["planned_n"].values() if n is not None]
    more = (
        f"About {min(planned):,} rows would do at the rates seen here"
        if planned
        else "At the rates seen here no number would do"
    )
    return (
        f"NOT ENOUGH DATA: on {certificate.n:,} rows no share could be shown to lose less than "
        f"{certificate.max_loss:.2%}. {more}."
    )


def _loss(baseline: Baseline) -> str:
    low, high = 100 * baseline.loss_low, 100 * baseline.loss_high
    return f"{100 * baseline.loss:.2f} points ({low:.2f} to {high:.2f})"


def _accuracies(rows: Mapping[str, Baseline]) -> str:
    large = rows["always large"]
    if large.accuracy is None:
        return f"How accurate each is needs {large.needs_gold:,} more labels."
    shown = ", ".join(
        f"{name} {baseline.accuracy:.1%} ({baseline.low:.1%} to {baseline.high:.1%})"
        for name in ("cascade", "always large", "always small", "oracle")
        if (baseline := rows[name]).accuracy is not None
    )
    return f"Accuracy: {shown}."
