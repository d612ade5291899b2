"""`DriftMonitor`: does the traffic still look like the rows of the certificate? It needs no calls, and only warns."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from langchain_dsplus.monitoring.monitor import Monitor
from langchain_dsplus.tags import DRIFT_EVENT

if TYPE_CHECKING:
    from langchain_dsplus.threshold.certificate import Certificate

logger = logging.getLogger(__name__)

_BINS = 10
_OTHER = ""
"""Stands for classes that the reference has not seen."""


@dataclass(frozen=True)
class Drift:
    """One way in which the latest inputs differ from the reference.

    Attributes:
        kind: `confidence` (how sure the small model is), `accept_rate` (share above the threshold), or `classes` (what
            it answers).
        size: Of the difference: the population stability index of confidence or classes, where 0.1 counts as moderate
            and 0.25 as large; for the accept rate the difference of the two shares.
        distance: The largest difference between the two distribution functions (Kolmogorov-Smirnov); 0 for classes.
        p_value: That chance alone gives as much, approximately.
        inputs: How many inputs it rests on.
        message: In words.
    """

    kind: Literal["confidence", "accept_rate", "classes"]
    size: float
    distance: float
    p_value: float
    inputs: int
    message: str


class DriftMonitor(Monitor):
    """Compares every `window` inputs with a reference: confidence, accept rate, mix of classes. It only warns.

    A change of these may be harmless, and harm may come without one; only audits tell (`AuditMonitor`). Pass it as
    `AuditMonitor(drift=...)`, or call `observe`.

    Args:
        edges: Confidences that cut the reference into bins, rising.
        shares: Of the reference, in each of the len(edges) + 1 bins; they sum to 1.
        size: Rows of the reference.
        accept_rate: Of the reference; None leaves it out.
        classes: Share of each choice in the reference; None leaves it out.
        window: Inputs that are compared at a time.
        least: A smaller stability index, or accept rate difference, is no warning.
        p_value: A larger p-value is no warning.

    Raises:
        ValueError: If the numbers do not fit together.

    Example:
        >>> monitor = DriftMonitor.from_confidences([i / 1000 for i in range(1000)], window=500)
        >>> found = [monitor.observe(0.5 + i / 1000) for i in range(500)]
        >>> [drift.kind for drift in found[-1]]
        ['confidence']
    """

    def __init__(
        self,
        edges: Sequence[float],
        shares: Sequence[float],
        size: int,
        *,
        accept_rate: float | None = None,
        classes: Mapping[str, float] | None = None,
        window: int = 1000,
        least: float = 0.1,
        p_value: float = 1e-3,
    ) -> None:
        super().__init__()
        self.edges = np.asarray(edges, dtype=np.float64)
        self.shares = np.asarray(shares, dtype=np.float64)
        if len(self.shares) != len(self.edges) + 1 or np.any(np.diff(self.edges) <= 0) or np.any(self.shares < 0):
            raise ValueError("`edges` must rise, and `shares` must have one entry more, none below 0")
        if abs(self.shares.sum() - 1.0) > 1e-6 or size < 1:
            raise ValueError("`shares` must sum to 1, and `size` be at least 1")
        if window < 2:
            raise ValueError("`window` must be at least 2")
        self.size = int(size)
        self.accept_rate = accept_rate
        self.classes = None if classes is None else dict(classes)
        self.window = int(window)
        self.least = float(least)
        self.p_value = float(p_value)
        self.windows = 0
        """Windows compared so far."""
        self.found: tuple[Drift, ...] = ()
        """What the latest window showed."""
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._bins = np.zeros(len(self.shares), dtype=np.int64)
        self._choices: Counter[str] = Counter()
        self._kept = 0
        self._inputs = 0

    @classmethod
    def from_confidences(
        cls,
        confidences: Iterable[float],
        *,
        threshold: float | None = None,
        choices: Iterable[str] | None = None,
        **options: Any,
    ) -> Self:
        """Take rows as the reference: the small model's confidences, its choices, and the threshold."""
        scores = np.asarray([value for value in confidences if value is not None and math.isfinite(value)])
        if not len(scores):
            raise ValueError("`confidences` holds no finite number")
        edges = np.unique(np.quantile(scores, np.arange(1, _BINS) / _BINS))
        shares = np.bincount(np.searchsorted(edges, scores, side="left"), minlength=len(edges) + 1) / len(scores)
        rate = None if threshold is None else float((scores > threshold).mean())
        classes = None
        if choices is not None:
            counted = Counter(choice for choice in choices if choice is not None)
            classes = {choice: count / counted.total() for choice, count in counted.items()}
        return cls(edges.tolist(), shares.tolist(), len(scores), accept_rate=rate, classes=classes, **options)

    @classmethod
    def from_certificate(cls, certificate: Certificate, **options: Any) -> Self:
        """Take the rows of a certificate for one small model as the reference: it knows thresholds and coverages.

        Raises:
            ValueError: If it is for several small models, or has fewer than two steps.
        """
        if len(certificate.thresholds) != 1 or len(certificate.steps) < 2:
            raise ValueError(
                "the certificate must be for one small model, with at least two steps: use `from_confidences`"
            )
        points: list[tuple[float, float]] = []  # threshold, share at or below it; from lax to strict
        for step in reversed(certificate.steps):
            below = 1.0 - step.coverage
            if below > 0.0 and (not points or below - points[-1][1] >= 0.9 / _BINS):
                points.append((next(iter(step.thresholds.values())), below))
        if not points:
            raise ValueError("the certificate's steps do not tell confidences apart: use `from_confidences`")
        edges = [threshold for threshold, _ in points]
        shares = np.diff([0.0, *(below for _, below in points), 1.0])
        counted = {row["class"]: row["n"] for row in certificate.by_class}
        total = sum(counted.values())
        classes = {name: n / total for name, n in counted.items()} if total else None
        rate = certificate.coverage if certificate.certified else None
        return cls(edges, shares.tolist(), certificate.n, accept_rate=rate, classes=classes, **options)

    def observe(self, confidence: float, choice: str | None = None, *, accepted: bool | None = None) -> list[Drift]:
        """Take one input.

        Args:
            confidence: Of the first small model.
            choice: Of the same.
            accepted: Whether it was answered locally; unknown in a window, the accept rate is left out.

        Returns:
            What a window that this input fills differs in; else nothing.
        """
        if not math.isfinite(confidence):
            return []
        with self._lock:
            self._bins[int(np.searchsorted(self.edges, confidence, side="left"))] += 1
            self._inputs += 1
            self._kept += 1 if accepted else 0
            if accepted is None:
                self._kept = -(10**9)
            if choice is not None and self.classes is not None:
                self._choices[choice if choice in self.classes else _OTHER] += 1
            if self._inputs < self.window:
                return []
            found = self._compare()
            self.windows += 1
            self.found = tuple(found)
            self._start()
        for drift in found:
            logger.warning("%s", drift.message)
            self._pending.append((DRIFT_EVENT, asdict(drift)))
        return found

    def _compare(self) -> list[Drift]:
        from scipy import special

        n = self._inputs
        found = []
        size = stability_index(self.shares, self._bins / n, self.size, n)
        gaps = np.cumsum(self.shares)[:-1] - np.cumsum(self._bins / n)[:-1]
        distance = float(np.abs(gaps).max()) if len(gaps) else 0.0
        p = special.kolmogorov(distance * math.sqrt(n * self.size / (n + self.size)))
        if p <= self.p_value and size >= self.least:
            less = "less" if gaps[int(np.abs(gaps).argmax())] < 0 else "more"
            text = f"over the latest {n} inputs the small model is {less} sure than on the certificate's rows"
            found.append(Drift("confidence", size, distance, p, n, self._words(text, size)))
        if self.accept_rate is not None and self._kept >= 0:
            rate, before = self._kept / n, self.accept_rate
            pooled = (self._kept + before * self.size) / (n + self.size)
            deviation = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / n + 1 / self.size))
            p = math.erfc(abs(rate - before) / deviation / math.sqrt(2))
            if p <= self.p_value and abs(rate - before) >= self.least:
                text = f"over the latest {n} inputs {rate:.1%} are answered locally, {before:.1%} at certification"
                found.append(Drift("accept_rate", rate - before, abs(rate - before), p, n, f"drift: {text}."))
        counted = self._choices.total()
        if self.classes is not None and counted:
            names = [*self.classes, _OTHER]
            before_shares = np.asarray([*self.classes.values(), 0.0])
            now = np.asarray([self._choices[name] / counted for name in names])
            size = stability_index(before_shares, now, self.size, counted)
            p = _chi_square(before_shares * self.size, now * counted)
            if p <= self.p_value and size >= self.least:
                text = f"over the latest {n} inputs the small model's answers are of other classes than before"
                found.append(Drift("classes", size, 0.0, p, n, self._words(text, size)))
        return found

    @staticmethod
    def _words(text: str, size: float) -> str:
        return f"drift: {text} (stability index {size:.2f}). Audits tell whether it does harm."


def stability_index(reference: Any, now: Any, reference_n: int, n: int) -> float:
    """Return the population stability index: sum (now - reference) ln(now / reference).

    Args:
        reference: Shares, shape (bins,).
        now: Shares, shape (bins,).
        reference_n: Rows behind `reference`; half a row is added to every bin, so that empty ones stay finite.
        n: Rows behind `now`.
    """
    bins = len(reference)
    first = (np.asarray(reference) * reference_n + 0.5) / (reference_n + 0.5 * bins)
    second = (np.asarray(now) * n + 0.5) / (n + 0.5 * bins)
    return float(((second - first) * np.log(second / first)).sum())


def _chi_square(first: Any, second: Any) -> float:
    """P-value of "two lists of counts are of one distribution" (chi-square).

    Classes that are rare in both are counted as one.
    """
    total = first + second
    rare = total * min(first.sum(), second.sum()) / total.sum() < 3.0
    first = np.append(first[~rare], first[rare].sum())
    second = np.append(second[~rare], second[rare].sum())
    total = first + second
    kept = total > 0
    first, second, total = first[kept], second[kept], total[kept]
    freedom = len(total) - 1
    if freedom < 1:
        return 1.0
    share = first.sum() / total.sum()
    expected = np.stack([total * share, total * (1 - share)])
    statistic = float((((np.stack([first, second]) - expected) ** 2) / expected).sum())
    from scipy import special

    return float(special.chdtrc(freedom, statistic))
