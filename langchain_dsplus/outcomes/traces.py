"""From what a router's recorder wrote down to rows of outcomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import BaseMessage

from langchain_dsplus.costs.usage import read_usage
from langchain_dsplus.outcomes.cells import to_text

_KINDS = ("route", "shadow", "audit", "gold")
_PLACEHOLDER = re.compile(r"<[A-Za-z_]\w*>")
"""What a recorder writes for an object that is no JSON."""


def default_label(output: Any) -> str:
    """Return the label in a large chain's output: a message's text, a str, the only field of a model or a dict.

    It reads an output as the chain gave it, or as a recorder wrote it down.

    Raises:
        TypeError: If there is no such thing; pass `to_label`.

    Example:
        >>> default_label({"type": "ai", "content": "cat "}), default_label({"label": "cat"})
        ('cat', 'cat')
    """
    if isinstance(output, str):
        return output.strip()
    if isinstance(output, BaseMessage):
        return str(output.text).strip()
    fields: Any = output if isinstance(output, Mapping) else getattr(output, "__dict__", None)
    if isinstance(fields, Mapping):
        if isinstance(fields.get("choice"), str):
            return str(fields["choice"])
        if fields.keys() == {"type", "content"} and isinstance(fields["content"], (str, list)):  # a recorded message
            return _content(fields["content"]).strip()
        if len(fields) == 1:
            value = next(iter(fields.values()))
            value = getattr(value, "value", value)  # an enum
            if isinstance(value, str) and not _PLACEHOLDER.fullmatch(value):
                return value.strip()
    raise TypeError(f"cannot read a label from {type(output).__name__}: pass `to_label=`")


def _content(content: str | list[Any]) -> str:
    if isinstance(content, str):
        return content
    parts = [
        part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, (str, Mapping))
    ]
    return "".join(part for part in parts if isinstance(part, str))


_READ = ("accepted", "model", "reason", "degraded", "error", "pruning", "transfer")
"""What is read of a Route."""
_PLAIN = frozenset({"error", "not_certified", "mismatch", "alarm"})
"""Reasons for which a router asks with the plain prompt."""


@dataclass(slots=True)
class _Said:
    """What is kept of one recorded output."""

    label: str | None = None
    error: str | None = None
    silent: bool = False
    """Whether the row carries no output at all."""
    usage: Mapping[str, Any] | None = None
    seconds: float | None = None


@dataclass(slots=True)
class _Decision:
    """What is kept of the rows of one `route_id`; not the texts."""

    number: int
    reason: str | None = None
    route: Mapping[str, Any] = field(default_factory=dict)
    said: _Said = field(default_factory=_Said)
    group: str | None = None
    small_seconds: float | None = None
    input_hash: str | None = None
    in_training: bool | None = None
    shadow: tuple[list[Any], dict[str, str]] | None = None
    audit: _Said | None = None


class _Reader:
    def __init__(
        self,
        names: Sequence[str] | None,
        to_label: Callable[[Any], str] | None,
        router: str | None,
        group_key: str | None,
    ) -> None:
        self.names = None if names is None else list(names)
        self.to_label = to_label or default_label
        self.router = router
        self.group_key = group_key
        self.decisions: dict[str, _Decision] = {}
        self.gold: dict[str, str | None] = {}
        self.routers: dict[str, None] = {}
        self.words: dict[str, str] = {}
        self.count = 0

    def read(self, row: Any) -> None:
        """Take one row of whatever kind; of unknown kinds nothing."""
        self.count += 1
        if not isinstance(row, Mapping):
            raise TypeError(
                f"row {self.count} of the traces is {type(row).__name__}, not a dict; from a file: "
                "`JSONLRecorder.read(path)`"
            )
        kind = row.get("kind")
        if kind not in _KINDS:
            return
        name = row.get("route_id")
        if not isinstance(name, str) or not name:
            raise ValueError(f"row {self.count} of the traces, 'route_id': must be a text")
        if kind == "gold":
            self.gold[name] = self._text(row.get("gold"), "gold")
            return
        who = row.get("router")
        if self.router is not None and who != self.router:
            return
        self.routers.setdefault(str(who))
        if len(self.routers) > 1:
            raise ValueError(
                f"the traces hold rows of several routers, {list(self.routers)}: choose one with `router=`"
            )
        decision = self.decisions.setdefault(name, _Decision(self.count))
        try:
            getattr(self, f"_{kind}")(decision, row)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"row {self.count} of the traces is not what a router writes: {type(error).__name__} in a {kind!r} row"
            ) from None

    def _route(self, decision: _Decision, row: Mapping[str, Any]) -> None:
        route = row["route"]
        kept = {name: route[name] for name in _READ if name in route} | {"answers": self._slim(route.get("answers"))}
        said = self._said(row)
        if decision.reason is not None and (said.error is not None or decision.said.error is None):
            if said.error is None or decision.said.error is not None:  # else an attempt that failed before or after
                self._same((decision.route, decision.said.label), (kept, said.label))
            return
        decision.reason, decision.route, decision.said = str(route["reason"]), kept, said
        value = row.get("input")
        if self.group_key is not None and isinstance(value, Mapping):
            decision.group = self._text(value.get(self.group_key), self.group_key)
        decision.small_seconds = row.get("small_seconds")
        mark, trained = row.get("input_hash"), row.get("in_training")
        decision.input_hash = mark if isinstance(mark, str) else None
        decision.in_training = trained if isinstance(trained, bool) else None

    def _shadow(self, decision: _Decision, row: Mapping[str, Any]) -> None:
        found = (self._slim(row.get("answers")), dict(row.get("errors") or {}))
        if decision.shadow is not None:
            self._same(decision.shadow, found)
        decision.shadow = found

    def _audit(self, decision: _Decision, row: Mapping[str, Any]) -> None:
        said = self._said(row)
        if decision.audit is not None:
            self._same(decision.audit.label, said.label)
        decision.audit = said

    def _slim(self, answers: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
        """Answers in which a label that stands in every row is one object."""
        word = self.words.setdefault
        return [
            {
                "choice": word(answer["choice"], answer["choice"]),
                "confidence": answer["confidence"],
                "probabilities": {word(label, label): p for label, p in answer["probabilities"].items()},
            }
            for answer in answers or ()
        ]

    def _same(self, one: Any, other: Any) -> None:
        """The same file read twice is no harm; two decisions under one id are."""
        if one != other:
            raise ValueError(f"row {self.count} of the traces, 'route_id': stands for two different decisions")

    def _text(self, value: Any, name: str) -> str | None:
        try:
            return None if value is None else to_text(value)
        except TypeError:
            raise ValueError(f"row {self.count} of the traces, {name!r}: must be a text, or None") from None

    def _said(self, row: Mapping[str, Any]) -> _Said:
        said = _Said(usage=row.get("usage"), seconds=row.get("large_seconds") or None)
        error = row.get("error")
        if error is not None:
            said.error = _error_type(str(error))
        elif row.get("output") is None or row.get("cut"):  # nobody heard the end of a stream that was cut short
            said.silent = True
        else:
            try:
                label = self.to_label(row["output"])
                if not isinstance(label, str):
                    raise TypeError(f"`to_label` returned {type(label).__name__}, not a str")
                said.label = self.words.setdefault(label, str(label))
            except Exception as problem:  # noqa: BLE001 - the user's `to_label`, or an output it cannot read
                said.error = type(problem).__name__
        return said


def read_traces(
    rows: Iterable[Mapping[str, Any]],
    *,
    names: Sequence[str] | None,
    to_label: Callable[[Any], str] | None,
    router: str | None,
    group_key: str | None,
    live: bool,
) -> Iterator[dict[str, Any]]:
    """Yield rows of outcomes; see `Outcomes.from_traces`."""
    reader = _Reader(names, to_label, router, group_key)
    for row in rows:
        reader.read(row)
    found: list[tuple[str, _Decision]] = []
    for route_id, decision in reader.decisions.items():
        shadowed = decision.reason == "shadow" and decision.shadow is not None
        if shadowed or (live and decision.reason not in (None, "shadow", "off")):
            found.append((route_id, decision))
    asked = [d.audit or d.said for _, d in found if d.reason == "shadow" or not d.route.get("accepted") or d.audit]
    if asked and all(said.silent for said in asked):
        raise ValueError(
            "the traces carry no outputs, so nobody knows what the large model said: record with `texts=True`"
        )
    if asked and not any(said.label is not None for said in asked):
        kinds = sorted({said.error for said in asked if said.error})
        raise ValueError(
            f"no output of the large chain could be read as a label ({', '.join(kinds)}): pass `to_label=`"
        )
    # An output that was not recorded is no failure: nothing is known about such a row.
    result = [
        (route_id, decision)
        for route_id, decision in found
        if not (decision.reason == "shadow" and decision.said.silent)
    ]
    del asked, found
    if reader.decisions and not result:
        reasons = sorted({d.reason or "no route row" for d in reader.decisions.values()})
        raise ValueError(
            f"the traces hold no finished row of shadow mode (only: {', '.join(reasons)}). Run the router with "
            "mode='shadow' and drain it; `live=True` reads live mode too, which is no fair sample"
        )
    several = _names(reader.names, [decision for _, decision in result])
    reader.decisions.clear()
    result.reverse()
    while result:  # a decision goes when its row is there
        yield _row(*result.pop(), several, reader, live=live)


def _names(names: list[str] | None, decisions: Sequence[_Decision]) -> list[str]:
    """The small models; `[""]` where there is one without a name."""
    most = max(
        (
            len(d.shadow[0]) + len(d.shadow[1]) if d.shadow is not None else len(d.route.get("answers") or ())
            for d in decisions
        ),
        default=1,
    )
    if names is None:
        if most > 1:
            raise ValueError(
                f"the traces are of {most} small models: name them in order with `small=` (`router.small_names`)"
            )
        return [""]
    if len(names) < most or len(set(names)) != len(names) or not names:
        raise ValueError(f"`small` has {len(names)} distinct names at most, and the traces are of {most} small models")
    return names if len(names) > 1 else [""]


def _row(route_id: str, decision: _Decision, names: Sequence[str], reader: _Reader, *, live: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"id": route_id}
    plain: _Said | None = decision.said
    pruned: _Said | None = None
    if decision.reason == "shadow":
        answers, source = _shadow_answers(decision, names), "shadow"
    else:
        answers = _live_answers(decision, names)
        source, plain, pruned = _live_said(decision)
    for name, (answer, error) in answers.items():
        suffix = f".{name}" if name else ""
        row[f"small{suffix}"] = None if answer is None else answer["choice"]
        row[f"confidence{suffix}"] = None if answer is None else answer["confidence"]
        row[f"probabilities{suffix}"] = None if answer is None else answer["probabilities"]
        if error is not None:
            row[f"small_error{suffix}"] = error
    row["large"] = None if plain is None else plain.label
    row["gold"] = reader.gold.get(route_id)
    if pruned is not None:
        row["large_pruned"] = pruned.label
    said = plain if plain is not None else pruned
    optional = {
        "group": decision.group,
        "input_hash": decision.input_hash,
        "in_training": decision.in_training,
        "error": said.error if said is not None else None,
        "source": source if live else None,
        "latency_small": decision.small_seconds or None,
        "latency_large": said.seconds if said is not None else None,
    }
    usage = read_usage(said.usage) if said is not None else None
    if usage is not None:
        optional["tokens_input"] = usage.input
        optional["tokens_output"] = usage.output
        optional["tokens_cached"] = usage.cached or None
    row.update({key: value for key, value in optional.items() if value is not None})
    return row


_Found = dict[str, tuple[Mapping[str, Any] | None, str | None]]


def _shadow_answers(decision: _Decision, names: Sequence[str]) -> _Found:
    """A shadow row has an answer or an error of every small model; answers stand in the models' order."""
    assert decision.shadow is not None
    answers, errors = decision.shadow
    if list(names) == [""]:
        error = next(iter(errors.values()), None)
        return {"": (answers[0] if answers else None, None if error is None else _error_type(error))}
    there = [name for name in names if name not in errors]
    if len(there) != len(answers):
        raise ValueError(f"row {decision.number} of the traces: `small` does not name the small models that were asked")
    given = dict(zip(there, answers, strict=True))
    return {name: (given.get(name), _error_type(errors[name]) if name in errors else None) for name in names}


def _live_answers(decision: _Decision, names: Sequence[str]) -> _Found:
    """In live mode the models are asked in order until one decides or fails, so answers are of the first ones."""
    answers = list(decision.route.get("answers") or ())
    found: _Found = dict.fromkeys(names, (None, None))
    found.update({name: (answer, None) for name, answer in zip(names, answers, strict=False)})
    error = decision.route.get("error")
    failed = isinstance(error, str) and not error.startswith(("large: ", "to_output: "))
    if failed and len(answers) < len(names):
        found[names[len(answers)]] = (None, _error_type(str(error)))
    return found


def _live_said(decision: _Decision) -> tuple[str, _Said | None, _Said | None]:
    """Where a live row is from, what the large model said to the plain prompt, and what to another."""
    route = decision.route
    if route.get("accepted") and route.get("model") != "large":
        return ("local", None, None) if decision.audit is None else ("audit", decision.audit, None)
    said = decision.said
    if route.get("degraded"):  # what came back is the small model's
        said = _Said(error=_error_type(str(route.get("error") or "")), usage=said.usage, seconds=said.seconds)
    error = str(route.get("error") or "large: ")
    small_failed = not error.startswith("large: ")
    pruning = str(route.get("pruning") or "")
    told = route.get("answers") and not small_failed and decision.reason not in _PLAIN
    plain = (not told or pruning == "none" or ": all offered" in pruning) and "transfer" not in route
    return ("escalated", said, None) if plain else ("escalated", None, said)


def _error_type(error: str) -> str:
    """The type alone: texts of errors may be a user's."""
    return error.removeprefix("large: ").removeprefix("to_output: ").partition(":")[0].strip() or "Error"
