"""What the store knows: what was paid for, what stayed local, and which rows certify."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import BaseMessage

from langchain_dsplus.answer import failure
from langchain_dsplus.labels import (
    NoLabelMassError,
    ending,
    label_mass,
    match_reply,
    token_logprobs,
)
from langchain_dsplus.outcomes.traces import default_label
from langchain_dsplus.registry.folders import reader
from langchain_dsplus.shunt.folder import Terms

SAID = "large_said"
"""Under this key a recorded row holds what the large model said: label, and probabilities where it gave them."""
BOUND = "large_bound"
"""And under this, which large chain that was."""

KINDS = ("route", "audit", "gold")
"""Of the store's rows, those that are read."""

Way = Literal["fair", "escalated", "audit", "local"]


@dataclass(slots=True)
class PaidRow:
    """One decision, with what is known of it.

    Attributes:
        route_id: Of the decision.
        value: What the small model reads.
        time: When, UTC.
        way: `fair`: everything went to the large model then; `escalated`; `audit`: answered locally, and checked;
            `local`: nobody asked.
        certify: Whether the row may certify, in the table of its time: its input is set apart, and was asked with
            certainty when it first came. One that was not, while no more rows were wanted, teaches like any other.
        share: The number that its input always gets, see `Terms.share`.
        label: What the large model said; None where that was no label, or nobody asked.
        probabilities: Of the large model, where it gave them.
        gold: What was true, where somebody said so.
        bound: Which large chain answered.
        mark: The input's hash, under which repeats are seen.
        asked: Whether the large model was to be asked whoever answers: with certainty, like the fair ones.
        certificate: Under which certificate.
        cost: Of the call, where it is known.
        number: In which place it came.
    """

    route_id: str
    value: Any
    time: str
    way: Way
    certify: bool
    share: float = 0.0
    label: str | None = None
    probabilities: dict[str, float] | None = None
    gold: str | None = None
    bound: str | None = None
    mark: str | None = None
    asked: bool = False
    certificate: str | None = None
    cost: float | None = None
    number: int = 0

    @property
    def answer(self) -> Any:
        """What there is to learn: gold, else the large model's probabilities or label."""
        return self.gold or self.probabilities or self.label


class Ledger:
    """All rows of a shunt, by route id, in the order in which they came; it grows with the store.

    Args:
        terms: Of the shunt.
        rows: What a recorder wrote down so far; `add` takes what comes later, each row once.

    Attributes:
        rows: By route id.
    """

    def __init__(self, terms: Terms, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.rows: dict[str, PaidRow] = {}
        self._terms, self._value = terms, reader(terms.input_key)
        self._paid: dict[str, int] = {}
        self._gold: dict[str, str | None] = {}
        self._apart: dict[float, list[PaidRow]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Join a row with what is known of its decision."""
        kind, name, terms = row.get("kind"), row.get("route_id"), self._terms
        if not isinstance(name, str):
            return
        known = self.rows.get(name)
        if kind == "gold":
            gold = row.get("gold") if row.get("gold") in terms.labels else None
            if known is None:
                self._gold[name] = gold
            else:
                known.gold = gold
                self._paid.setdefault(name, known.number)
        elif kind == "route":
            made = _paid(row, name, self._value, terms)
            if made is not None:
                made.gold = self._gold.pop(name, None) if known is None else known.gold
                if known is not None and known in self._apart.get(known.share, []):
                    self._apart[known.share].remove(known)
                made.number = len(self.rows) if known is None else known.number
                self.rows[name] = made
                if made.way != "local" or made.asked or made.gold is not None:
                    self._paid[name] = made.number
                if made.certify:
                    alike = self._apart.setdefault(made.share, [])
                    alike.append(made)
                    made.certify = alike[0].certify if alike[1:] else made.way == "fair" or made.asked
        elif kind == "audit" and known is not None:
            if "error" in row:  # as where it fails on an input that escalates: the row is none
                known.asked = False
                alike = self._apart.get(known.share, [known])
                if alike[0] is known:
                    for each in alike:
                        each.certify = known.way == "fair"
                return
            _say(known, row, terms)
            known.way = "audit"
            self._paid.setdefault(name, known.number)

    def paid(self) -> list[PaidRow]:
        """Rows of which more is known than what the small model says, or will be, in the order in which they came."""
        return [self.rows[name] for name in sorted(self._paid, key=self._paid.__getitem__)]

    def learn(self, since: str) -> list[PaidRow]:
        """Rows that teach: paid for, or labelled, and not in the table that began at that time."""
        return [row for row in self.paid() if not (row.certify and row.time > since) and row.answer is not None]

    def table(self, since: str, until: str | None, bound: str) -> list[PaidRow]:
        """Rows that certify: a fair sample of what came in that time, answered by this large chain.

        What was only asked because it escalated, or by the luck of an audit, is not among them. An input may have come
        before that time and teach, as traffic repeats itself.
        """
        return [
            row
            for row in self.paid()
            if row.certify
            and row.time > since
            and (row.way == "fair" or row.asked)
            and (until is None or row.time <= until)
            and row.bound in (None, bound)
        ]


def _paid(row: Mapping[str, Any], name: str, read: Any, terms: Terms) -> PaidRow | None:
    route, value = row.get("route") or {}, read(row.get("input"))
    if value is None:  # recorded without texts, or redacted
        return None
    try:
        share = terms.share(value)
    except ValueError as error:  # an input that cannot be hashed
        failure(error)
        return None
    made = PaidRow(
        name, value, str(row.get("time")), "escalated", share < terms.set_apart, share=share,
        mark=row.get("input_hash"), certificate=route.get("certificate"), cost=row.get("cost"),
    )  # fmt: skip
    made.asked = bool(route.get("asked"))
    if route.get("accepted"):
        made.way = "local"
        return made
    if "error" in row or row.get("cut") or route.get("degraded"):
        return None
    if route.get("reason") in ("shadow", "off"):
        made.way = "fair"
    _say(made, row, terms)
    return made


def _say(made: PaidRow, row: Mapping[str, Any], terms: Terms) -> None:
    said = row.get(SAID)
    if not isinstance(said, Mapping):
        said = what_was_said(row.get("output"), terms.labels)
    made.label, made.probabilities, made.bound = said.get("label"), said.get("probabilities"), row.get(BOUND)


def what_was_said(output: Any, labels: list[str], to_label: Any = None) -> dict[str, Any]:
    """Return the label in the large model's output, and its probabilities where it gave log-probabilities or an Answer.

    Args:
        output: As the chain gave it, or as a recorder wrote it down.
        labels: Of the task.
        to_label: From an output to the label, where it cannot be read otherwise.
    """
    try:
        text = output if to_label is None else to_label(output)
        label = match_reply(text if isinstance(text, (str, BaseMessage)) else default_label(text), labels)
    except Exception as error:  # noqa: BLE001 - the user's, or an output that cannot be read: it teaches nothing
        failure(error)
        return {"label": None}
    if label is None:
        return {"label": None}
    probabilities = _seen(output, labels)
    fits = probabilities is not None and max(probabilities, key=probabilities.__getitem__) == label
    return {"label": label, **({"probabilities": probabilities} if fits else {})}


def no_label_words(labels: Sequence[str], how_many: str) -> str:
    """What to do where the large chain's outputs name none of the labels."""
    named = ", ".join([*labels[:5], *(["..."] if labels[5:] else [])])
    return (
        f"{how_many} outputs of the chain name none of `labels` ({named}), so they teach nothing: are these the labels "
        "of this chain, and does it say them? Else pass `to_label=`."
    )


def _seen(output: Any, labels: list[str]) -> dict[str, float] | None:
    if isinstance(output, Mapping) and isinstance(output.get("probabilities"), Mapping):
        given = {name: float(p) for name, p in output["probabilities"].items() if name in labels}
    else:
        tokens = token_logprobs(output)
        if not tokens:
            return None
        try:
            given = dict(label_mass(tokens, labels, finish_reason=ending(output)).labels)
        except NoLabelMassError:
            return None
    total = sum(given.values())
    return {name: p / total for name, p in given.items() if p > 0.0} if total >= 0.5 else None
