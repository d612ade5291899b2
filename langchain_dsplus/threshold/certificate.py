"""`Certificate`: what was promised, on what evidence, and what it is bound to."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, cast, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import CertificateError
from langchain_dsplus.losses import points, threshold_words
from langchain_dsplus.outcomes.cells import known_labels, other_gold
from langchain_dsplus.outcomes.likeness import quoted

Status: TypeAlias = Literal["CERTIFIED", "NOT_CERTIFIED"]
Decision: TypeAlias = Literal["CASCADE", "LARGE ALONE", "SMALL ALONE", "NOT ENOUGH DATA"]
DECISIONS: tuple[Decision, ...] = get_args(Decision)
Unit: TypeAlias = Literal["input", "group"]

_NEARLY = 1.0 + 1e-9

# What may stand in a file, checked when one is read.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)
Count: TypeAlias = Annotated[int, Field(ge=0, lt=2**53)]
_Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
_Change: TypeAlias = Annotated[float, Field(ge=-1.0, le=1.0)]
_Limit: TypeAlias = Annotated[float, WrapValidator(lambda value, read: math.inf if value is None else read(value))]
"""A threshold; null stands for infinity."""


class _WhenAsked:
    """A field that may be given as a function of nothing: it is called the first time that the field is read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, record: Any, owner: type) -> Any:
        value = record.__dict__[self.name]
        if isinstance(value, Callable):  # type: ignore[arg-type]
            value = record.__dict__[self.name] = value()
        return value

    def __set__(self, record: Any, value: Any) -> None:
        record.__dict__[self.name] = value


@dataclass(frozen=True)
class TestResult:
    """One test at one threshold.

    Attributes:
        harms: Rows that the cascade loses against the large model alone.
        gains: Rows that it wins.
        n: All rows of the test.
        p_value: Of "the loss is below `max_loss`"; None where an earlier step had failed, so that it was not tested.
            Exact p-values take long: `certify` gives it as a function, which is called when this is first read.
    """

    __pydantic_config__ = STRICT

    __test__ = False  # not for pytest

    harms: Count
    gains: Count
    n: Count
    p_value: _Share | None


@dataclass(frozen=True)
class Step:
    """One threshold of the fixed sequence.

    Attributes:
        thresholds: By small model's name.
        coverage: Share of rows that are answered locally.
        accepted: The same in rows.
        harms: Rows that the cascade loses.
        gains: Rows that it wins.
        p_value: The largest over the tests of this step; None where it was not tested. Counted when it is first read,
            as that of a `TestResult`: that a step passed is known without.
        passed: Whether this and every earlier step passed all tests.
        tests: Of the named slices.
        cost: Per input: money where the table knows costs (`cascade.Costs`), calls of the large model otherwise.
        disagreements: Accepted rows on which small and large model say different things, a large model that failed
            included; None where the table has not both answers. Audits are held against it.
    """

    __pydantic_config__ = STRICT

    thresholds: dict[str, _Limit]
    coverage: _Share
    accepted: Count
    harms: Count
    gains: Count
    p_value: _Share | None
    passed: bool
    tests: dict[str, TestResult] = field(default_factory=dict)
    cost: float | None = None
    disagreements: Count | None = None


TestResult.p_value = _WhenAsked("p_value")  # type: ignore[assignment]
Step.p_value = _WhenAsked("p_value")  # type: ignore[assignment]


@dataclass(frozen=True)
class Baseline:
    """What another way would have given on the same rows.

    Attributes:
        name: `always large`, `always small`, `random at equal budget`, `oracle` or `cascade`.
        escalation_rate: Share of inputs that reach the large model.
        accuracy: Share right, over the rows on which the large model gave a label (all ways over the same rows); None
            where gold is missing.
        low: Lower end of its interval; where gold is missing, the bound if every unknown were wrong.
        high: Upper end; where gold is missing, the bound if every unknown were right.
        loss: Accuracy lost against the large model alone, unlabeled disagreements counted as lost.
        loss_low: Lower end of its interval.
        loss_high: Upper end.
        needs_gold: About how many more labels the accuracy needs; 0 where it is known.
        unlabeled: Rows that count as lost for lack of gold: with any, `loss` is the worst that can be.
    """

    __pydantic_config__ = STRICT

    name: str
    escalation_rate: _Share
    accuracy: _Share | None
    low: _Change
    high: _Change
    loss: _Change
    loss_low: _Change
    loss_high: _Change
    needs_gold: Count
    unlabeled: Count = 0


@dataclass(frozen=True)
class Alternative:
    """A certified threshold that somebody may prefer: all that passed hold together, so any of them may be taken.

    Attributes:
        name: What speaks for it.
        thresholds: By small model; pass them to a router, with the certificate's `never_local`.
        calls: Share of inputs that reach the large model.
        loss: Accuracy lost against the large model alone, as seen; below 0 it is won.
        loss_low: Lower end of its 95 % interval, for rows that count singly.
        loss_high: Upper end.
        cost: Per input, as in `Step`.
    """

    name: str
    thresholds: dict[str, float]
    calls: float
    loss: float
    loss_low: float
    loss_high: float
    cost: float | None


@dataclass(frozen=True)
class ClassFloor:
    """What `certify(class_floor=)` shows of the classes.

    Attributes:
        floor: What each class may lose at most, a share of its inputs.
        covered: Rows of each class that the promise names.
        not_shown: Rows of each class that has too few to show it.
        kept: Labels that the small model may not answer, chosen on other rows: part of `never_local`.
        coverage_without: Share that would stay local without the floor.
        fit_rows: Rows on which the labels were chosen.
    """

    __pydantic_config__ = STRICT

    floor: _Share
    covered: dict[str, Count]
    not_shown: dict[str, Count]
    kept: tuple[str, ...]
    coverage_without: _Share
    fit_rows: Count

    def words(self, coverage: float) -> str:
        """Say it, beside the coverage with the floor."""
        points = f"{100 * self.floor:g} points"
        names = ", ".join(repr(name) for name in self.covered)
        text = (
            f"No class of these loses {points} or more: {names}." if names else f"No class is shown to lose {points}."
        )
        if self.not_shown:
            n = sum(self.not_shown.values())
            few = ", ".join(repr(name) for name in list(self.not_shown)[:5])
            more = f" and {len(self.not_shown) - 5} more" if len(self.not_shown) > 5 else ""
            text += f" Not shown, n = {n:,}: {few}{more}."
        if self.kept:
            text += f" The small model may not answer {', '.join(repr(name) for name in self.kept)}."
        return f"{text} Without the floor {self.coverage_without:.1%} would stay local, with it {coverage:.1%}."


def say_losing(losing: Sequence[Mapping[str, Any]], *, most: int = 3) -> str:
    """Return the losing classes as a sentence; empty without any.

    Example:
        >>> say_losing(
        ...     [
        ...         {
        ...             "class": "refund",
        ...             "n": 120,
        ...             "harms": 61,
        ...             "gains": 1,
        ...             "unlabeled": 0,
        ...             "loss": 0.5,
        ...             "large": 0.8,
        ...             "cascade": 0.3,
        ...         }
        ...     ]
        ... )
        "not for every class: 'refund' falls from 80.0% to 30.0% right (n = 120, 61 lost, 1 won)"
    """
    if not losing:
        return ""
    told = []
    for item in losing[:most]:
        counts = f"n = {item['n']:,}, {item['harms']:,} lost, {item['gains']:,} won"
        if item["unlabeled"]:
            counts += f", {item['unlabeled']:,} of the lost only for lack of gold"
        if item["large"] is None or item["unlabeled"]:
            told.append(f"{item['class']!r} loses {100 * item['loss']:.1f} points ({counts})")
        else:
            told.append(f"{item['class']!r} falls from {item['large']:.1%} to {item['cascade']:.1%} right ({counts})")
    rest = len(losing) - most
    more = f", and {rest} further class{'' if rest == 1 else 'es'}" if rest > 0 else ""
    return f"not for every class: {'; '.join(told)}{more}"


class Written:
    """What a certificate of any kind, a dataclass, does to become JSON and to be read from it."""

    kind: ClassVar = "certificate"
    """What it is called where something is none."""
    head: ClassVar[dict[str, Any]] = {"format": 1}
    """What its JSON begins with."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; infinity becomes None."""
        return {**self.head, **_plain(asdict(cast("Any", self)))}

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the certificate as JSON, and write it to `path` where one is given."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=1)
        if path is not None:
            replace_file(path, text + "\n")
        return text

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> Self:
        """Build a certificate from what `to_dict` returned.

        Raises:
            CertificateError: If something is missing, unknown, of the wrong type or out of range, or if the fields do
                not go together: a p-value above `alpha` where it is CERTIFIED, more harms than rows, a threshold that
                no step passed with, ... The message names the field.
        """
        if not isinstance(body, Mapping) or any(body.get(name) != item for name, item in cls.head.items()):
            raise CertificateError(
                f"not a {cls.kind}: {' and '.join(f'`{name}` must be {item!r}' for name, item in cls.head.items())}"
            )
        try:
            text = json.dumps({name: item for name, item in body.items() if name not in cls.head})
            found: Self = _reader(cast("Any", cls)).validate_json(text)
            return found._checked()
        except ValidationError as error:
            first = error.errors()[0]
            raise CertificateError(f"not a {cls.kind}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}") from None
        except (TypeError, ValueError) as error:
            raise CertificateError(f"not a {cls.kind}: {error}") from error

    def _checked(self) -> Self:
        """Refuse what could not have been written, though every field by itself might be."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, source: str | Path) -> Self:
        """Read a certificate from a file, or from JSON text.

        Raises:
            CertificateError: If it is no certificate of this kind.
        """
        if isinstance(source, Path) or source.lstrip("\ufeff \t\r\n")[:1] not in ("", "{", "["):
            source = Path(source).read_text(encoding="utf-8")
        try:
            body = load_json(source.removeprefix("\ufeff"))
        except ValueError as error:
            raise CertificateError(f"not a {cls.kind}: it is not JSON") from error
        return cls.from_dict(body)


@dataclass(frozen=True)
class Certificate(Written):
    """The result of `certify`. Pass it as `ConfidenceRouter(threshold=certificate)`.

    Attributes:
        status: `CERTIFIED`, or `NOT_CERTIFIED`: then nothing is accepted.
        threshold: Accept iff confidence > threshold; infinity when not certified, None when certified for several
            small models.
        thresholds: By small model's name.
        max_loss: The promise: the cascade loses less than this share of inputs against the large model alone.
        level: With this probability.
        alpha: Error probability that this certification spent.
        p_value: Of the certified step (largest over its tests), or of the first step tested.
        harms: Of that step.
        gains: Of that step.
        coverage: Share answered locally; 0 when not certified.
        n: Rows, or groups with `unit="group"`.
        unit: `input`, or `group`: the promise is then per group.
        prompt: What escalated rows are asked, `plain` or `pruned`.
        about: What it is bound to: score, labels, small, large, prompt, data, ...
        certification: How often this table has been used to certify, this time included.
        slices: Named slices in each of which the promise holds too.
        never_local: Labels that were always escalated.
        loss: (harms - gains) / n of that step: the estimate.
        loss_upper: Upper confidence bound of the loss at 1 - alpha, for this threshold as if it had been fixed
            beforehand (the promise is `max_loss`); None where the test has none.
        steps: The whole sequence, from strict to lax.
        baselines: Other ways on the same rows.
        by_class: By the small model's choice, without a promise.
        by_slice: By slice, without a promise.
        unlabeled: Disagreements that counted as harms at that step for lack of gold.
        help: When not certified: what would help.
        verdict: In words, against the baselines: starts with CASCADE, LARGE ALONE, SMALL ALONE or NOT ENOUGH DATA (see
            `decision`). It changes neither status nor threshold.
        groups: Number of groups; None where rows count singly.
        error_cost: Price of one error that chose among the certified thresholds; 0 is the cheapest.
        unusable_large: What a reply of the large model counted as that is no label.
        unusable: Rows with such a reply.
        unanswered: Rows on which it gave no reply.
        unusable_pruned: Rows on which its reply to the pruned prompt is no label: it counts as wrong.
        findings: What was seen of honest mistakes in the table, and what could not be (`find_mistakes`): dicts with
            `kind`, `severity` (`name` or `unseen`), `sentence`, `rows`. The verdict says them.
        losing_classes: Classes that lose significantly under the average (`classes.losing_classes`); the text and the
            verdict name them first.
        class_floor: What is promised of the classes, where `class_floor=` was asked for.
    """

    __pydantic_config__ = STRICT

    status: Status
    threshold: float | None
    thresholds: Annotated[dict[str, _Limit], Field(min_length=1)]
    max_loss: _Share
    level: _Share
    alpha: _Share
    p_value: _Share
    harms: Count
    gains: Count
    coverage: _Share
    n: Count
    unit: Unit
    prompt: Literal["plain", "pruned"]
    about: dict[str, Any]
    certification: Count = 1
    slices: tuple[str, ...] = ()
    never_local: tuple[str, ...] = ()
    loss: _Change = 0.0
    loss_upper: _Change | None = None
    steps: tuple[Step, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    by_class: tuple[dict[str, Any], ...] = ()
    by_slice: tuple[dict[str, Any], ...] = ()
    unlabeled: Count = 0
    help: dict[str, Any] | None = None
    verdict: str = ""
    groups: Count | None = None
    error_cost: Annotated[float, Field(ge=0.0)] = 0.0
    unusable_large: Literal["unknown", "wrong"] = "unknown"
    unusable: Count = 0
    unanswered: Count = 0
    unusable_pruned: Count = 0
    findings: tuple[dict[str, Any], ...] = ()
    losing_classes: tuple[dict[str, Any], ...] = ()
    class_floor: ClassFloor | None = None

    @property
    def certified(self) -> bool:
        """Whether anything may be accepted."""
        return self.status == "CERTIFIED"

    @property
    def decision(self) -> Decision | None:
        """What the verdict comes to; None without a verdict.

        `CASCADE`: let the small model keep what it is sure of. `SMALL ALONE`: it, or several together, may keep
        everything that they may answer at all. `LARGE ALONE`: wherever a cascade would save something it loses too
        much. `NOT ENOUGH DATA`: neither could be shown yet.
        """
        return next((name for name in DECISIONS if self.verdict.startswith(f"{name}:")), None)

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """The certified thresholds that differ in what they are good for; empty when not certified.

        `laxest certified` makes the fewest calls; it is the default, since `max_loss` is the caller's own word for what
        a saved call may cost, and since it is the only one that is not chosen by its loss on these rows: the others
        look better here than they will on new inputs. `most accurate certified` has the least loss seen; `cheapest
        under error_cost` the least cost with errors priced (without `error_cost` that is the laxest).
        """
        from langchain_dsplus.threshold.exact import loss_interval

        passed = [step for step in self.steps if step.passed and any(map(math.isfinite, step.thresholds.values()))]
        if not self.certified or not passed:
            return ()
        losses = [(step.harms - step.gains) / self.n for step in passed]
        priced = [(step.cost or 0.0) + self.error_cost * loss for step, loss in zip(passed, losses, strict=True)]
        last, places = len(passed) - 1, range(len(passed))
        accurate = min(places, key=lambda place: (losses[place], -place))
        cheapest = min(places, key=lambda place: (priced[place], -place)) if self.error_cost else last
        found = []
        for name, place in (
            ("laxest certified", last),
            ("most accurate certified", accurate),
            ("cheapest under error_cost", cheapest),
        ):
            step = passed[place]
            low, high = loss_interval(step.harms, step.gains, self.n, 0.95)
            found.append(
                Alternative(name, dict(step.thresholds), 1.0 - step.coverage, losses[place], low, high, step.cost)
            )
        return tuple(found)

    @property
    def next_line(self) -> str:
        """The one line of code to run next, as the verdict has it; empty without a verdict."""
        several = len(self.thresholds) > 1
        small = f"[{', '.join(self.thresholds)}]" if several else "small"
        barred = f", never_local={list(self.never_local)!r}" if self.never_local else ""
        router = f"ConfidenceRouter(small={small}, large=large, threshold=certificate{barred})"
        decision = self.decision
        if decision == "SMALL ALONE":
            alone = self.coverage == 1.0 and not several
            return 'answer = small.invoke(input)["choice"]' if alone else f"router = {router}"
        if decision == "CASCADE":
            return f"router = {router}"
        if decision == "LARGE ALONE":
            return "answer = large.invoke(input)"
        if decision is None:
            return ""
        if (self.help or {}).get("labels_needed"):
            return 'outcomes.to_label("to_label.csv")'
        shadow = f'ConfidenceRouter(small={small}, large=large, mode="shadow", recorder=JSONLRecorder("routes.jsonl"))'
        return f"router = {shadow}"

    @property
    def id(self) -> str:
        """A short name for exactly this certificate: the first 16 hex digits of the SHA-256 of its JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def unverifiable(self) -> tuple[str, ...]:
        """Which of `small`, `large` and `prompt` nobody can compare later, since `about` does not name them."""
        return tuple(name for name in ("small", "large", "prompt") if _hidden(self.about.get(name)))

    @property
    def text(self) -> str:
        """The certificate in plain words."""
        per = "inputs" if self.unit == "input" else "groups, one input drawn from each"
        rows = f"{self.n:,} {per}"
        if self.certified:
            where = self._where()
            saved = f"answers {self.coverage:.1%} of inputs locally"
            losing = say_losing(self.losing_classes)
            promise = (
                f"CERTIFIED{', but ' + losing if losing else ''}. With {where} the cascade {saved} and is less than "
                f"{points(self.max_loss)} worse than the large model alone with its plain prompt. A procedure that "
                f"says so is wrong in at most {self.alpha:.2%} of all cases."
            )
            if self.unit == "group":
                promise += " The promise is per group, one input drawn from each: large groups count as small ones do."
            if self.slices:
                promise += f" The same holds within {', '.join(self.slices)}."
            if self.class_floor is not None:
                promise += f" {self.class_floor.words(self.coverage)}"
            seen = (
                f"Seen on {rows}: {self.harms} lost, {self.gains} won"
                + (f" ({self.unlabeled} of the lost only for lack of gold)" if self.unlabeled else "")
                + f"; p = {self.p_value:.3g}."
            )
        else:
            promise = (
                f"NOT_CERTIFIED. It could not be shown that any share of inputs may stay local at a loss below "
                f"{points(self.max_loss)}: everything goes to the large model with its plain prompt."
            )
            seen = (
                f"Tested on {rows}; at the first threshold {self.harms} lost, {self.gains} won; p = {self.p_value:.3g}."
            )
        limits = "It is about inputs like these, the same models and the same prompts."
        if self.certification > 1:
            limits += f" The table was used {self.certification} times; this time {self.alpha:.3%} was spent."
        lines = [promise, seen, limits, self.verdict, f"Next: {self.next_line}" if self.verdict else ""]
        return "\n".join(lines).rstrip("\n")

    def __str__(self) -> str:
        return self.text

    def _where(self) -> str:
        if self.threshold is None:
            return f"thresholds {threshold_words(self.thresholds)}"
        return f"threshold {threshold_words(self.threshold)}"

    def bind(self, **about: Any) -> Certificate:
        """Return the certificate with more said about what it is bound to, such as `score=` and `labels=`.

        What is said already cannot be changed. Labels that come only now are held against what stood in the rows: a
        value of gold outside them counted as "both wrong", and an answer outside them as an answer.

        Raises:
            CertificateError: If a value differs from the one that is there, or the rows hold what is none of `labels`.
        """
        for name, value in about.items():
            if not _hidden(self.about.get(name)) and self.about[name] != value:
                raise CertificateError(f"the certificate already says something else about {name!r}")
        if "labels" in about and self.about.get("labels") is None:
            self._check_said({**self.about, **about})
        bound = replace(self, about={**self.about, **about})
        before = unnamed(self.unverifiable)
        if before and self.verdict.endswith(before):
            bound = replace(bound, verdict=self.verdict.removesuffix(before) + unnamed(bound.unverifiable))
        return bound

    def _check_said(self, about: Mapping[str, Any]) -> None:
        """Refuse labels that are not those of the rows, where the certificate keeps what they said."""
        said = about.get("said")
        for column, values in (said if isinstance(said, Mapping) else {}).items():
            known = known_labels(about, column) or frozenset()
            known |= other_gold(about) if column == "gold" else frozenset()
            strange = [value for value in values if value not in known]
            if strange:
                shown = ", ".join(quoted(value) for value in strange[:3])
                raise CertificateError(
                    f"the rows of the certificate hold {len(strange)} values in column {column!r} that are none of "
                    f"`labels`: {shown}. They were counted before anybody knew: set `outcomes.about['labels']`, say "
                    "what they mean (`gold_map=`, `unknown_gold=`, `other_gold=`), and certify again"
                )

    def _checked(self) -> Self:
        return cast("Self", _checked(self))


@cache
def _reader(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _hidden(value: Any) -> bool:
    """Whether a part is not named, or cannot be seen into; of several small models, one of them."""
    if isinstance(value, Mapping):
        return any(_hidden(one) for one in value.values())
    return value is None or value == "unverifiable"


def unnamed(parts: Sequence[str]) -> str:
    """What a verdict says of parts that nobody can compare later."""
    return f" Unverifiable, since `about` does not name them: {', '.join(parts)}." if parts else ""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _checked(read: Certificate) -> Certificate:
    """Refuse what no `certify` could have written, though every field by itself might be; null becomes infinity."""
    finite = any(map(math.isfinite, read.thresholds.values()))
    if not read.certified:
        if read.threshold is not None or finite:
            raise ValueError("`threshold` must be null in a certificate that is NOT_CERTIFIED")
        read = replace(read, threshold=math.inf)
    elif not finite:
        raise ValueError("`threshold` must be finite in a certificate that is CERTIFIED")
    elif read.threshold is None and len(read.thresholds) < 2:
        raise ValueError("`threshold` must be a number in a certificate for one small model")
    elif read.threshold is not None and list(read.thresholds.values()) != [read.threshold]:
        raise ValueError("`threshold` and `thresholds` differ")
    _labels_make_sense(read)
    for name, texts in _TEXTS.items():
        for item in getattr(read, name):
            _words_and_counts(name, texts, item)
    _counts_make_sense(read)
    _steps_make_sense(read)
    return read


def _counts_make_sense(read: Certificate) -> None:
    certified, n, harms, gains = read.certified, read.n, read.harms, read.gains
    spent = (1.0 - read.level) / 2.0 ** (min(read.certification, 1000) - 1)
    rules = {
        "`max_loss` must lie between 0 and 1": 0.0 < read.max_loss < 1.0,
        "`level` must lie in [0.5, 1)": 0.5 <= read.level < 1.0,
        "`certification` must be at least 1": read.certification >= 1,
        "`alpha` is more than 1 - `level` allows": 0.0 < read.alpha <= spent * _NEARLY,
        "`harms` and `gains` are more than `n`": harms + gains <= n,
        "`unlabeled` is more than `harms`": read.unlabeled <= harms,
        "`unusable` and `unanswered` are more than `n`": read.unusable + read.unanswered <= n,
        "`unusable_pruned` is more than `n`": read.unusable_pruned <= n,
        "`groups` are more than `n`": read.groups is None or 0 < read.groups <= n,
        "`loss` is not what `harms` and `gains` say": not read.loss  # 0 is also "not said"
        or not (n or harms + gains)
        or abs(read.loss - (harms - gains) / max(n, 1)) < 1e-9,
        "`p_value` is above `alpha`, so it is not CERTIFIED": not certified or read.p_value <= read.alpha * _NEARLY,
        "`n` must be at least 1 where something is certified": not certified or n > 0,
        "`harms` are too many for `max_loss`": not certified or harms - gains < read.max_loss * n * _NEARLY,
        "`harms` and `gains` are more than `coverage` accepts": not certified
        or read.prompt == "pruned"
        or harms + gains <= round(read.coverage * n),
        "`low` of a baseline is above `high`": all(item.low <= item.high for item in read.baselines),
        "`loss_low` of a baseline is above `loss_high`": all(
            item.loss_low <= item.loss_high for item in read.baselines
        ),
        "`verdict` is not that of its `status`": read.decision in _VERDICTS[read.status],
    }
    broken = next((rule for rule, holds in rules.items() if not holds), None)
    if broken is not None:
        raise ValueError(broken)


_VERDICTS: dict[Status, tuple[Decision | None, ...]] = {
    "CERTIFIED": ("CASCADE", "SMALL ALONE", "NOT ENOUGH DATA", None),
    "NOT_CERTIFIED": ("LARGE ALONE", "NOT ENOUGH DATA", None),
}


def _steps_make_sense(read: Certificate) -> None:
    steps = read.steps
    for step in steps:
        if set(step.thresholds) != set(read.thresholds):
            raise ValueError("a step of `steps` does not name the small models of the certificate")
        if step.harms + step.gains > read.n or step.accepted > read.n:
            raise ValueError("a step of `steps` counts more than `n` rows")
        if step.passed and (step.p_value is None or step.p_value > read.alpha * _NEARLY):
            raise ValueError("a step of `steps` passed with a p-value above `alpha`")
    for before, after in pairwise(steps):
        if after.passed and not before.passed:
            raise ValueError("a step of `steps` passed after one that had failed")
        if any(after.thresholds[name] > value for name, value in before.thresholds.items()):
            raise ValueError("the thresholds of `steps` do not go from strict to lax")
    if read.certified and steps:
        mine = [step for step in steps if step.passed and step.thresholds == read.thresholds]
        counts = read.harms, read.gains, read.coverage
        if not any((step.harms, step.gains, step.coverage) == counts for step in mine):
            raise ValueError("`thresholds`, `harms`, `gains` and `coverage` are those of no step that passed")


_TEXTS = {
    "by_class": ("class",),
    "by_slice": ("slice",),
    "losing_classes": ("class",),
    "findings": ("kind", "severity", "sentence"),
}


def _words_and_counts(name: str, texts: Sequence[str], item: Mapping[str, Any]) -> None:
    """Check one entry of a list that texts and reports show."""
    if not all(isinstance(item.get(key), str) for key in texts):
        raise TypeError(f"`{name}` must hold texts under {list(texts)}")
    if name != "findings" and not (
        all(type(item.get(key)) is int and 0 <= item[key] < 2**53 for key in ("n", "harms", "gains"))
        and item["harms"] + item["gains"] <= item["n"]
        and isinstance(item.get("loss"), (int, float))
        and -1.0 <= item["loss"] <= 1.0
    ):
        raise ValueError(f"`{name}` must hold whole numbers `n`, `harms` and `gains` that fit together, and a `loss`")


def _labels_make_sense(read: Certificate) -> None:
    """Check the labels, by small model or of all, and that `never_local` names some of them."""
    labels = read.about.get("labels")
    lists = list(labels.values()) if isinstance(labels, Mapping) else [labels]
    for part in lists:
        whole = isinstance(part, list | tuple) and all(isinstance(label, str | int | float) for label in part)
        if part is not None and not (whole and len(set(part)) == len(part)):
            raise ValueError("`about['labels']` must be a list of distinct labels")
    known = known_labels(read.about)
    if known is not None and not known.issuperset(read.never_local):
        raise ValueError("`never_local` names what is none of `about['labels']`")
