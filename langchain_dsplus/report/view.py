"""What all parts of the page share: the numbers, where the slider stops, and what is promised there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.losses import threshold_words
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.report.numbers import (
    Part,
    Rows,
    Tally,
    class_members,
    intervals,
    parts,
    read_rows,
    slice_members,
    tally,
    threshold_grid,
)
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.curves import Prompt


@dataclass(frozen=True)
class View:
    """Everything that the parts of the page share."""

    outcomes: Outcomes
    certificate: Certificate | None
    prompt: Prompt
    level: float
    rows: Rows
    tally: Tally
    low: Floats
    high: Floats
    loss_low: Floats
    loss_high: Floats
    states: list[dict[str, str]]
    state: list[int]
    start: int
    jumps: list[tuple[str, int]]
    parts: dict[str, list[Part]]

    @classmethod
    def of(
        cls,
        outcomes: Outcomes,
        certificate: Certificate | None,
        *,
        prompt: Prompt | None,
        never_local: Sequence[str] | None,
        level: float,
    ) -> View:
        """Count everything that the page shows."""
        asked: Prompt = prompt or "plain"
        barred: Sequence[str] = never_local or ()
        if certificate is not None:
            asked, barred = certificate.prompt, certificate.never_local
        unusable = "unknown" if certificate is None else certificate.unusable_large
        rows = read_rows(outcomes, prompt=asked, never_local=barred, unusable_large=unusable, level=level)
        wanted = _certificate_thresholds(certificate, rows.names)
        grid = threshold_grid(outcomes, rows, np.array(wanted) if wanted else None)
        count = tally(outcomes, rows, grid, prompt=asked)
        low, high, loss_low, loss_high = intervals(rows, count, level=level)
        states, state, at = _promises(count, certificate, rows.names)
        start, jumps = _jumps(count, certificate, at)
        return cls(
            outcomes=outcomes,
            certificate=certificate,
            prompt=asked,
            level=level,
            rows=rows,
            tally=count,
            low=low,
            high=high,
            loss_low=loss_low,
            loss_high=loss_high,
            states=states,
            state=state,
            start=start,
            jumps=jumps,
            parts={
                "classes": parts(rows, grid, class_members(outcomes, column=_class_column(outcomes, rows))),
                "slices": parts(rows, grid, slice_members(outcomes)),
            },
        )

    @property
    def steps(self) -> int:
        """Stops of the slider."""
        return len(self.tally.thresholds)

    @property
    def certified_step(self) -> int | None:
        """Where the certificate's threshold is, if it is certified."""
        if self.certificate is None or not self.certificate.certified:
            return None
        return next(step for label, step in self.jumps if label == CERTIFIED)

    def threshold(self, step: int) -> str:
        """The threshold in words."""
        return threshold_words(dict(zip(self.rows.names, self.tally.thresholds[step].tolist(), strict=True)), None)

    def quality(self) -> tuple[Floats, Floats, Floats, float]:
        """What the main chart shows at each step, with its interval, and for the large model alone; in percent."""
        if self.tally.has_accuracy:
            return 100 * self.tally.accuracy, 100 * self.low, 100 * self.high, 100 * self.large_accuracy
        return -100 * self.tally.loss, -100 * self.loss_high, -100 * self.loss_low, 0.0

    @property
    def large_accuracy(self) -> float:
        """Of the large model alone."""
        return self.tally.large_accuracy

    @property
    def class_column(self) -> str:
        """What a row's class is read from: gold, or what the large model said where gold was chosen."""
        return _class_column(self.outcomes, self.rows)


def _class_column(outcomes: Outcomes, rows: Rows) -> str:
    return "gold" if rows.census or "large" not in outcomes or not rows.known.any() else "large"


CERTIFIED = "Certified threshold"


def _certificate_thresholds(certificate: Certificate | None, names: list[str]) -> list[list[float]]:
    """The thresholds that a certificate speaks of, in the order of `names`."""
    if certificate is None:
        return []
    if len(names) != len(certificate.thresholds) or (len(names) > 1 and set(names) != set(certificate.thresholds)):
        raise ValueError(
            f"the certificate is for the small models {sorted(certificate.thresholds)}, the outcomes hold "
            f"{sorted(names)}: take the outcomes of the same models"
        )
    found = [
        _in_order(values, names) for values in (certificate.thresholds, *(s.thresholds for s in certificate.steps))
    ]
    return [row for row in found if any(math.isfinite(value) for value in row)]


def _in_order(values: Mapping[str, float], names: list[str]) -> list[float]:
    return [float(next(iter(values.values())))] if len(names) == 1 else [float(values[name]) for name in names]


_STATES: dict[str, tuple[str, str, str]] = {
    "none": (
        "",
        "No certificate",
        "Nothing here is a promise: it is hindsight on these rows. `certify` makes a promise.",
    ),
    "nothing": (
        "sure",
        "Nothing stays local",
        "Every input goes to the large model with its plain prompt: nothing can be lost, and nothing is saved.",
    ),
    "pruned": (
        "between",
        "Nothing stays local",
        "Every input goes to the large model with the pruned prompt: that was not certified by itself.",
    ),
    "certified": ("sure", "Promise holds", "This is the certificate's threshold."),
    "passed": (
        "sure",
        "Promise holds",
        "Stricter than the certificate's threshold; this step passed the test as well.",
    ),
    "spare": (
        "between",
        "Passed, not chosen",
        "This step passed the test too, but the certificate chose a stricter one: a router refuses this one.",
    ),
    "between": (
        "between",
        "Not tested here",
        "Stricter than the certificate's threshold, but this very threshold was not tested: the numbers are hindsight.",
    ),
    "beyond": (
        "beyond",
        "No promise here",
        "Laxer than the certificate's threshold: the numbers are hindsight on these rows, and a router refuses it.",
    ),
    "refused": (
        "beyond",
        "No promise here",
        "The certificate is NOT_CERTIFIED: nothing may stay local, and the numbers are hindsight on these rows.",
    ),
}


def _promises(
    count: Tally, certificate: Certificate | None, names: list[str]
) -> tuple[list[dict[str, str]], list[int], int | None]:
    """What is promised at each step: the states there are, the state of each step, the certificate's step."""
    order = list(_STATES)
    states = [dict(zip(("kind", "text", "why"), _STATES[name], strict=True)) for name in order]
    places = {tuple(row): step for step, row in enumerate(count.thresholds.tolist())}
    at = None
    passed: set[int] = set()
    if certificate is not None and certificate.certified:
        at = places[tuple(_in_order(certificate.thresholds, names))]
        passed = {
            places[key]
            for s in certificate.steps
            if s.passed and (key := tuple(_in_order(s.thresholds, names))) in places
        }
    found = []
    for step, accepted in enumerate(count.accepted.tolist()):
        if accepted == 0 and step != at:
            name = "nothing" if certificate is None or certificate.prompt == "plain" else "pruned"
        elif certificate is None:
            name = "none"
        elif at is None:
            name = "refused"
        elif step == at:
            name = "certified"
        elif step > at:
            name = "spare" if step in passed else "beyond"
        else:
            name = "passed" if step in passed else "between"
        found.append(order.index(name))
    return states, found, at


def _jumps(count: Tally, certificate: Certificate | None, at: int | None) -> tuple[int, list[tuple[str, int]]]:
    """Where the slider starts, and the places that a button goes to."""
    net = count.gains - count.harms
    match = int(np.flatnonzero(net >= 0)[-1]) if (net >= 0).any() else 0
    best = int(np.flatnonzero(net == net.max())[-1])
    last = len(net) - 1
    jumps = [("Nothing local", 0)]
    if at is not None:
        jumps.append((CERTIFIED, at))
    jumps += [("Most right here (hindsight)", best), ("As right as the large model here (hindsight)", match)]
    jumps.append(("All local", last))
    start = at if at is not None else (match if certificate is None else 0)
    return start, jumps
