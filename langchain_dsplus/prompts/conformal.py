"""`ConformalCandidates`: the labels that stay possible for an input, with a promise that the true one is among them."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.confidence import SCORES
from langchain_dsplus.labels import list_labels
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.outcomes.columns import rows_of
from langchain_dsplus.outcomes.sampling import refuse_chosen
from langchain_dsplus.prompts.parser import named_label
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.threshold.choose import ThresholdChoice

_FORMAT = 1
_MOST_BANDS = 10
_MISSES_PER_BAND = 5
"""A band by default has rows enough for this many misses, so that its cut does not hang on one row."""
_SAME_SCORE = 1e-5
_OUTSIDE = -1.0
"""Stands for the probability of a true class that the labels lack: below every cut."""
_ABOUT = ("score", "labels", "small")


@dataclass(frozen=True)
class Band:
    """One band of confidence, `low < confidence <= high`, and what was found in it.

    Attributes:
        low: Lower end, not in the band; -inf in the first.
        high: Upper end, in the band, so that the inputs escalated at a threshold equal to it are whole bands; inf in
            the last.
        n: Rows that it was calibrated on.
        share: Its share of all rows with a confidence, in [0, 1].
        least: Labels with at least this probability are in the set. 0 keeps every label.
        mean_size: Mean size of the set over its rows.
        outside: How many of the n rows have a true class that is none of the labels.
        promised: False where so many are, or so few rows, that not even the full list holds the promise for sure.
    """

    low: float
    high: float
    n: int
    share: float
    least: float
    mean_size: float
    outside: int = 0
    promised: bool = True

    @property
    def quantile(self) -> float:
        """The conformal quantile of the score 1 - p(true class), in [0, 1]; 1 keeps every label."""
        return 1.0 - self.least


class BandCoverage(NamedTuple):
    """How one band did on other rows."""

    low: float
    high: float
    n: int
    covered: int
    """Rows whose true class is in their set."""
    total_size: int
    """Sizes of the sets, summed."""

    @property
    def coverage(self) -> float:
        """Share covered; NaN without rows."""
        return self.covered / self.n if self.n else math.nan

    @property
    def mean_size(self) -> float:
        """Mean size of the set; NaN without rows."""
        return self.total_size / self.n if self.n else math.nan


class Offered(NamedTuple):
    """What one input is offered."""

    labels: list[str]
    """The candidates, in label order."""
    conformal_set: list[str]
    """The set itself, in label order; empty where there is none to speak of."""
    why_all: str | None
    """Why all labels are offered; None where they were cut."""


@dataclass(frozen=True)
class ConformalCandidates:
    """Labels that stay possible for an input: the true one is among them with probability 1 - alpha, in every band.

    Split conformal prediction with the score 1 - p(true class) (LAC; Sadinle, Lei and Wasserman 2019), calibrated for
    each band of confidence by itself (Mondrian; Vovk 2003). A large model sees only escalated inputs, and among those
    one quantile for all inputs covers too little, since they are the hard ones; in bands the promise holds among the
    inputs escalated at any threshold that is a band's upper end, as a mixture of bands that each keep it.

    The promise: for an input drawn as the calibration rows were, P(true class in the set | band) >= 1 - alpha, over the
    draw of that input and of the calibration rows. It needs rows that are exchangeable with the traffic and were not
    used to fit the small model, and rows with unknown `gold` that lack it for no reason connected with the true class
    (given the confidence). A threshold should be fixed without these rows' labels. Within a band nothing is promised
    for a part of it: see `promised`. Among the inputs with one true class, or in one slice, nothing is promised either.

    A band with too few rows for `alpha` (fewer than 1 / alpha - 1) keeps all labels. Inputs for which the small model
    failed have no set; they get all labels anyway. A row whose true class is none of the labels counts as missed.

    With several small models the large one sees what all of them escalate: calibrate on the rows that reach the last
    one, `fit(outcomes.select(...), model=its_name)`.

    Use `fit`; the fields are what it found.

    Attributes:
        alpha: Largest share of misses.
        labels: The labels it was calibrated over.
        bands: The bands, in ascending order, without gaps.
        about: What it was calibrated on: score, labels, small model, hash of the data, where the outcomes say so.

    Example:
        >>> easy = [{"probabilities": {"cat": 0.9, "dog": 0.07, "owl": 0.03}, "gold": "cat", "confidence": 0.9}] * 19
        >>> hard = [{"probabilities": {"cat": 0.5, "dog": 0.4, "owl": 0.1}, "gold": "dog", "confidence": 0.5}] * 19
        >>> conformal = ConformalCandidates.fit([*easy, *hard], bands=[0.7])
        >>> conformal.predict_set({"cat": 0.45, "dog": 0.42, "owl": 0.13}, 0.45)
        ['cat', 'dog']
        >>> conformal.predict_set({"cat": 0.92, "dog": 0.05, "owl": 0.03}, 0.92)
        ['cat']
    """

    alpha: float
    labels: tuple[str, ...]
    bands: tuple[Band, ...]
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what is read from a file as strictly as what is fitted."""
        _check_alpha(self.alpha)
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` needs at least two labels, and they must be distinct")
        ends = [-math.inf, *(band.high for band in self.bands)]
        starts = [*(band.low for band in self.bands), math.inf]
        ordered = all(a < b for a, b in pairwise(ends))
        if not self.bands or ends != starts or not ordered:
            raise ValueError("`bands` must follow one another without gaps, from -inf to inf")
        if not all(0.0 <= band.least <= 1.0 + 1e-6 and band.n >= 0 for band in self.bands):
            raise ValueError("`bands` need `least` in [0, 1] and `n` of at least 0")

    # --- calibration --------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        outcomes: Outcomes | Iterable[Mapping[str, Any]],
        alpha: float = 0.05,
        *,
        bands: int | Sequence[float] | None = None,
        threshold: float | Sequence[float] | Certificate | ThresholdChoice | None = None,
        labels: Sequence[str] | None = None,
        model: str | None = None,
    ) -> Self:
        """Calibrate on rows with known `gold`.

        Bands are fixed by the confidences alone. By default there are up to ten with equally many rows, and fewer where
        a band would have less than 5 / alpha labeled ones. A row whose confidence became an edge tells where it lies,
        and is left out of its band; the rest of a band is then as good as drawn from it.

        Args:
            outcomes: Rows with `probabilities`, `confidence` and `gold`; an `Outcomes` or an iterable of mappings. Not
                those that the small model was fitted on.
            alpha: Largest share of misses, in (0, 1).
            bands: How many, or their inner edges (fixed before these rows were seen), ascending.
            threshold: Of the router, or several, or a certificate, or what `choose_threshold` returned: each becomes an
                edge, so that the promise holds for what it escalates. Chosen on other rows. None and infinity (nothing
                accepted) add no edge.
            labels: All labels, in the order to return; by default `about["labels"]` of the outcomes, else those of the
                rows' probabilities. Name those that the large model may answer and the small one lacks, too.
            model: With several small models, the name in `probabilities.<name>` and `confidence.<name>`.

        Raises:
            ValueError: If an argument is out of range, a column is missing, no row can be used, or a row's
                probabilities name other labels; the message names the row and never its text.
            TypeError: If a row is not a mapping.
        """
        _check_alpha(alpha)
        rows = _Rows(outcomes, model)
        about = {key: rows.about[key] for key in _ABOUT if rows.about.get(key) is not None}
        if isinstance(outcomes, Outcomes):
            about["data"] = outcomes.data_hash()
        if isinstance(about.get("labels"), Mapping):  # by small model
            about["labels"] = about["labels"].get(model)
        named = labels if labels is not None else about.get("labels")
        known = list_labels(named) if named is not None else rows.labels()
        if len(known) < 2:
            raise ValueError("`labels` needs at least two labels; the rows' `probabilities` name fewer")
        rows.check(known)
        if not any(gold is not None for gold in rows.gold):
            raise ValueError(
                "no row has a confidence, `probabilities` and a known `gold`: there is nothing to calibrate on"
            )
        if isinstance(threshold, (Certificate, ThresholdChoice)):
            if threshold.threshold is None and model not in threshold.thresholds:
                raise ValueError(
                    f"`threshold` is for several small models: name one of {list(threshold.thresholds)} as `model`"
                )
            of_model = threshold.thresholds.get(model or "")
            threshold = of_model if threshold.threshold is None else threshold.threshold
        about = {**about, "labels": list(known), "rows": len(rows.gold)}
        if model is not None:
            about["model"] = model
        labeled = np.array([gold is not None for gold in rows.gold])
        edges, defining = _edges(rows.confidence, labeled, alpha, bands, _thresholds(threshold))
        place = np.searchsorted(np.array(edges), rows.confidence, side="left")
        found = []
        for number, (low, high) in enumerate(zip([-math.inf, *edges], [*edges, math.inf], strict=True)):
            members = np.flatnonzero(place == number).tolist()
            used = [row for row in members if labeled[row] and row not in defining]
            found.append(_calibrate(rows, used, set(known), alpha=alpha, low=low, high=high, members=len(members)))
        return cls(float(alpha), tuple(known), tuple(found), about)

    # --- use ----------------------------------------------------------------------------------------------------

    def predict_set(self, answer: Mapping[str, Any], confidence: float | None = None) -> list[str]:
        """Return the conformal set of one input, in label order. It may be empty, which counts as a miss.

        Args:
            answer: The small model's `Answer`, or its probabilities, label to number.
            confidence: The score that the bands are made of; by default the Answer's own. For bare probabilities it is
                computed where `about` names a score that can be (max_probability, margin, entropy).

        Raises:
            ValueError: If a label is unknown, the confidence is missing or not finite, or it is not the score that this
                was calibrated on.
        """
        probabilities, score = self._read(answer, confidence)
        return self._set(probabilities, self._band(score))

    def candidates(
        self, answer: Mapping[str, Any], confidence: float | None = None, *, max_share: float = 0.5
    ) -> list[str]:
        """Return what a prompt should offer, in label order: the set, or all labels (see `offer`)."""
        return self.offer(answer, confidence, max_share=max_share).labels

    def offer(
        self,
        answer: Mapping[str, Any],
        confidence: float | None = None,
        *,
        max_share: float = 0.5,
        exclude: Iterable[str] = (),
    ) -> Offered:
        """Return what a prompt should offer, with the set behind it and the reason where all labels are offered.

        All labels are offered where the set is empty or larger than `max_share` of them, where its band was calibrated
        on too few rows, and where the confidence is missing or another score than the one calibrated on. A single label
        would decide the answer: then the next likely one is offered too.

        Args:
            answer: The small model's `Answer`, or its probabilities.
            confidence: As in `predict_set`.
            max_share: Largest share of the labels that is worth offering, in (0, 1].
            exclude: Labels to leave out in addition (`proficient_classes`); all stay if fewer than two would remain or
                the small model's own choice would go. The chances of a miss add up: alpha, plus the risk of these.

        Raises:
            ValueError: If the probabilities name an unknown label.
        """
        everything = list(self.labels)
        try:
            probabilities, score = self._read(answer, confidence)
        except _ConfidenceError as error:
            return Offered(everything, [], str(error))
        band = self._band(score)
        if not band.least > 0.0:
            return Offered(everything, [], "too few rows to calibrate its band")
        found = self._set(probabilities, band)
        if not found:
            return Offered(everything, [], "the conformal set is empty")
        ranked = sorted(self.labels, key=lambda label: -probabilities.get(label, 0.0))
        kept = set(found) if len(found) > 1 else {*found, *ranked[:2]}
        choice = answer["choice"] if isinstance(answer.get("choice"), str) else ranked[0]
        left = kept - set(exclude)
        if len(left) >= 2 and choice in left:
            kept = left
        if len(kept) > max_share * len(everything):
            return Offered(everything, found, "the conformal set is too big")
        return Offered([label for label in self.labels if label in kept], found, None)

    def coverage(
        self, outcomes: Outcomes | Iterable[Mapping[str, Any]], *, threshold: float | None = None
    ) -> list[BandCoverage]:
        """Count how many true classes are in the sets, band by band, on rows that it was not calibrated on.

        Args:
            outcomes: As for `fit`. Rows without `gold` or without an answer of the small model do not count.
            threshold: Only rows that are escalated there (confidence at most the threshold).

        Returns:
            One entry for each band, also where it has no rows; add up `n` and `covered` for a whole.
        """
        rows = _Rows(outcomes, self.about.get("model"))
        rows.check(self.labels)
        counts = [[0, 0, 0] for _ in self.bands]
        for confidence, probabilities, gold in zip(
            rows.confidence.tolist(), rows.probabilities, rows.gold, strict=True
        ):
            if gold is None or (threshold is not None and confidence > threshold):
                continue
            number = bisect_left(self._inner, confidence)
            found = self._set(probabilities, self.bands[number])
            for column, more in enumerate((1, int(gold in found), len(found))):
                counts[number][column] += more
        return [BandCoverage(b.low, b.high, *count) for b, count in zip(self.bands, counts, strict=True)]

    def promised(self, threshold: float) -> float:
        """Return the least coverage among the inputs escalated at a threshold, in [0, 1]. 0 promises nothing.

        At a band's upper end it is 1 - alpha. Inside a band the misses of the whole band may all lie below the
        threshold, so it is 1 - alpha x P(confidence <= upper end) / P(confidence <= lower end); in the lowest band that
        is nothing. The shares are those of the calibration rows. `fit(..., threshold=...)` puts an edge there instead.
        """
        last = bisect_left(self._inner, threshold)
        missed = sum(b.share * (self.alpha if b.promised else 1.0) for b in self.bands[: last + 1])
        whole = threshold == self.bands[last].high or threshold == math.inf
        escalated = sum(b.share for b in self.bands[: last + whole])
        return max(0.0, 1.0 - missed / escalated) if escalated > 0.0 else 0.0

    @property
    def mean_size(self) -> float:
        """Mean size of the set over all calibration rows."""
        n = sum(band.n for band in self.bands)
        return sum(band.n * band.mean_size for band in self.bands) / n

    @cached_property
    def _inner(self) -> list[float]:
        return [band.high for band in self.bands[:-1]]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.labels)

    def _band(self, confidence: float) -> Band:
        return self.bands[bisect_left(self._inner, confidence)]

    def _set(self, probabilities: Mapping[str, float], band: Band) -> list[str]:
        return [label for label in self.labels if probabilities.get(label, 0.0) >= band.least]

    def _read(self, answer: Mapping[str, Any], confidence: float | None) -> tuple[Mapping[str, float], float]:
        probabilities = answer
        if isinstance(answer.get("probabilities"), Mapping):
            probabilities = answer["probabilities"]
            confidence = answer.get("confidence") if confidence is None else confidence
        unknown = sum(label not in self._known for label in probabilities)
        if unknown or not probabilities:
            raise ValueError(
                f"the probabilities name {unknown} label(s) that this was not calibrated on, or none at all"
            )
        score = SCORES.get(str(self.about.get("score")))
        expected = None if score is None else score(probabilities)
        if confidence is None:
            confidence = expected
        if not isinstance(confidence, (int, float)) or not math.isfinite(confidence):
            raise _ConfidenceError("the confidence is missing")
        if expected is not None and abs(confidence - expected) > _SAME_SCORE:
            raise _ConfidenceError(f"the confidence is not the {self.about['score']} that the bands were calibrated on")
        return probabilities, float(confidence)

    # --- files --------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; an open end of a band is None."""
        return {
            "alpha": self.alpha,
            "labels": list(self.labels),
            "bands": [
                {
                    "low": band.low if math.isfinite(band.low) else None,
                    "high": band.high if math.isfinite(band.high) else None,
                    "n": band.n,
                    "share": band.share,
                    "least": band.least,
                    "mean_size": band.mean_size,
                    "outside": band.outside,
                    "promised": band.promised,
                }
                for band in self.bands
            ],
            "about": dict(self.about),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned.

        Raises:
            ValueError: If it is something else; the message names the field.
        """
        try:
            bands = tuple(
                Band(
                    low=-math.inf if band["low"] is None else float(band["low"]),
                    high=math.inf if band["high"] is None else float(band["high"]),
                    n=int(band["n"]),
                    share=float(band["share"]),
                    least=float(band["least"]),
                    mean_size=float(band["mean_size"]),
                    outside=int(band["outside"]),
                    promised=band["promised"] is True,
                )
                for band in value["bands"]
            )
            return cls(float(value["alpha"]), tuple(map(str, value["labels"])), bands, dict(value["about"]))
        except (KeyError, TypeError) as error:
            raise ValueError("these are no conformal candidates: a field is missing or of the wrong kind") from error

    def to_json(self) -> str:
        """Return it as strict JSON."""
        return json.dumps({"format": _FORMAT, **self.to_dict()}, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` returned.

        Raises:
            ValueError: If the text is something else.
        """
        value = load_json(text)
        if not isinstance(value, Mapping):
            raise ValueError("these are no conformal candidates: the JSON is no object")  # noqa: TRY004
        if value.get("format", _FORMAT) != _FORMAT:  # older files have none
            raise ValueError(f"these conformal candidates have another `format`; this version reads {_FORMAT}")
        return cls.from_dict(value)

    def save(self, path: str | Path) -> None:
        """Write it as a JSON file."""
        replace_file(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file that `save` wrote.

        Raises:
            ValueError: If the file holds something else.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


def contradicts(output: Any, conformal_set: Sequence[str], labels: Sequence[str]) -> bool | None:
    """Whether a large model's output names a label outside a conformal set.

    Args:
        output: A label, a text that names one, a message, an `Answer`, or an object or dict with one text in it.
        conformal_set: The labels that the small model holds possible.
        labels: All labels.

    Returns:
        None where the output names no label, or more than one: then there is nothing to compare.

    Example:
        >>> contradicts("It is an owl.", ["cat", "dog"], ["cat", "dog", "owl"])
        True
    """
    label = named_label(output, labels)
    return None if label is None else label not in conformal_set


class _ConfidenceError(ValueError):
    """There is no confidence to find the band by."""


class _Rows:
    """The rows that the small model answered, by columns."""

    def __init__(self, outcomes: Any, model: str | None) -> None:
        suffix = "" if model is None else f".{model}"
        names = (f"confidence{suffix}", f"probabilities{suffix}", "gold")
        self.about: dict[str, Any] = dict(getattr(outcomes, "about", None) or {})
        if isinstance(outcomes, Outcomes):
            outcomes.known_gold()  # a value outside the labels is no evidence
            refuse_chosen(outcomes, "`ConformalCandidates`")
            missing = [name for name in names if name not in outcomes]
            columns = [] if missing else [outcomes.values(name) for name in names]
        else:
            records = list(rows_of(outcomes))
            for number, row in enumerate(records, 1):
                if not isinstance(row, Mapping):
                    raise TypeError(f"row {number} of `outcomes` is {type(row).__name__}, not a mapping")
            missing = [name for name in names if not any(name in row for row in records)]
            columns = [[row.get(name) for row in records] for name in names]
        if missing:
            raise ValueError(f"`outcomes` need the columns {', '.join(missing)}")
        usable = [
            (number, confidence, probabilities, gold)
            for number, (confidence, probabilities, gold) in enumerate(zip(*columns, strict=True), 1)
            if confidence is not None and probabilities
        ]
        self.number = [row[0] for row in usable]
        try:
            self.confidence = np.array([row[1] for row in usable], dtype=np.float64)
            self.probabilities: list[dict[str, float]] = [dict(row[2]) for row in usable]
        except (TypeError, ValueError):
            raise ValueError(f"`{names[0]}` must be numbers and `{names[1]}` dicts from label to number") from None
        if not np.isfinite(self.confidence).all():
            raise ValueError(
                f"row {self.number[int(np.argmin(np.isfinite(self.confidence)))]}: `{names[0]}` is not finite"
            )
        self.gold: list[str | None] = [row[3] for row in usable]

    def labels(self) -> list[str]:
        return list(dict.fromkeys(label for row in self.probabilities for label in row))

    def check(self, known: Sequence[str]) -> None:
        names = set(known)
        for number, row in zip(self.number, self.probabilities, strict=True):
            if not names.issuperset(row):
                raise ValueError(f"row {number}: `probabilities` name a label that is not in `labels`")


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise ValueError("`alpha` must lie between 0 and 1")


def _thresholds(threshold: Any) -> list[float]:
    if threshold is None:
        return []
    values = [threshold] if isinstance(threshold, (int, float)) else list(threshold)
    if any(isinstance(value, bool) or math.isnan(float(value)) for value in values):
        raise ValueError("`threshold` must be a number, or several")
    return sorted({float(value) for value in values if math.isfinite(value)})


def _edges(
    confidence: np.ndarray, labeled: np.ndarray, alpha: float, bands: int | Sequence[float] | None, cuts: list[float]
) -> tuple[list[float], set[int]]:
    """The inner edges, and the rows whose confidence became one."""
    if bands is not None and not isinstance(bands, int):
        edges = [float(edge) for edge in bands]
        if not all(map(math.isfinite, edges)) or any(a >= b for a, b in pairwise(edges)):
            raise ValueError("`bands` must be a number of bands, or finite edges in ascending order")
        return sorted({*edges, *cuts}), set()
    if bands is not None and (isinstance(bands, bool) or bands < 1):
        raise ValueError("`bands` must be at least 1")
    edges, defining = list(cuts), set()
    order = np.argsort(confidence, kind="stable")
    ordered = confidence[order]
    start = 0
    for cut in [*cuts, math.inf]:  # the rows between two thresholds are a sample of their own
        stop = int(np.searchsorted(ordered, cut, side="right"))
        size = stop - start
        wanted = max(1, round((bands or _MOST_BANDS) * size / max(1, len(ordered))))
        if bands is None:
            wanted = max(1, min(wanted, int(labeled[order[start:stop]].sum() * alpha / _MISSES_PER_BAND)))
        for number in range(1, wanted):
            at = start + round(number * size / wanted) - 1
            if at >= start and ordered[at] < ordered[stop - 1] and ordered[at] not in edges:
                edges.append(float(ordered[at]))
                defining.add(int(order[at]))
        start = stop
    return sorted(edges), defining


def _calibrate(
    rows: _Rows, used: Sequence[int], known: set[str], *, alpha: float, low: float, high: float, members: int
) -> Band:
    true = sorted(_probability(rows.probabilities[row], rows.gold[row], known) for row in used)
    n, outside = len(true), sum(p == _OUTSIDE for p in true)
    # The ceil((n + 1)(1 - alpha))-th smallest 1 - p is the floor((n + 1) alpha)-th smallest p. As a fraction: 0.05 x 60
    # must be 3.
    rank = math.floor((n + 1) * Fraction(str(alpha)))
    cut = true[rank - 1] if rank else 0.0
    least = max(0.0, cut)
    promised = cut >= 0.0 if rank else outside == 0
    kept = sum(p >= least for row in used for p in rows.probabilities[row].values())
    mean = kept / n if n and least > 0.0 else float(len(known))
    return Band(low, high, n, members / max(1, len(rows.gold)), least, mean, outside, promised)


def _probability(probabilities: Mapping[str, float], gold: str | None, known: set[str]) -> float:
    return float(probabilities.get(gold, 0.0)) if gold is not None and gold in known else _OUTSIDE
