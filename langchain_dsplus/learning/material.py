"""What there is to learn from: rows of files and traces, sorted into gold, large answers, audits and the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_dsplus.outcomes.traces import default_label


@dataclass
class Material:
    """Rows to learn from.

    Attributes:
        gold: Pairs of a text and its gold, as it came.
        large: Pairs (text, the large model's answer), of inputs that were chosen for being hard.
        audits: The same, of inputs that were not chosen: shadow rows, audits.
        unlabeled: Texts that the large model was not asked about.
        ids: Of the rows, where they have some.
        skipped: Rows without a text.
    """

    gold: list[tuple[str, Any]] = field(default_factory=list)
    large: list[tuple[str, Any]] = field(default_factory=list)
    audits: list[tuple[str, Any]] = field(default_factory=list)
    unlabeled: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    skipped: int = 0

    def without(self, texts: Collection[str]) -> Material:
        """The same without these texts: they are for the gate."""
        return Material(
            gold=[row for row in self.gold if row[0] not in texts],
            large=[row for row in self.large if row[0] not in texts],
            audits=[row for row in self.audits if row[0] not in texts],
            unlabeled=[text for text in self.unlabeled if text not in texts],
            ids=set(self.ids),
            skipped=self.skipped,
        )

    @property
    def texts(self) -> list[str]:
        """Every text that is learned from."""
        pairs = [*self.gold, *self.large, *self.audits]
        return [*(text for text, _ in pairs), *self.unlabeled]

    def add_rows(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        text: str,
        large: str,
        gold: str,
        id_: str,
        answers: Mapping[str, Any] | None = None,
        fair: bool = False,
    ) -> None:
        """Add rows of a data set.

        Args:
            rows: By column.
            text: Column of the text.
            large: Column of the large model's answer; may be missing.
            gold: Column of the truth; may be missing.
            id_: Column of the id; may be missing.
            answers: Further answers of the large model, by id, or by place where there is no id; of rows that were not
                chosen, as outcomes are.
            fair: Whether the rows with an answer in their column were not chosen either.
        """
        for place, row in enumerate(rows):
            value = row.get(text)
            if not isinstance(value, str):
                self.skipped += 1
                continue
            name = row.get(id_)
            if name is not None:
                self.ids.add(str(name))
            said, chosen = row.get(large), not fair
            if said is None:
                said, chosen = (answers or {}).get(str(place if name is None else name)), False
            if row.get(gold) is not None:
                self.gold.append((value, row[gold]))
            if said is None:
                self.unlabeled.append(value)
            else:
                (self.large if chosen else self.audits).append((value, said))

    def add_traces(
        self, rows: Iterable[Mapping[str, Any]], read: Callable[[Any], Any], *, text: str, router: str | None
    ) -> None:
        """Add what a recorder wrote down.

        Args:
            rows: In any order, joined by `route_id`.
            read: From a recorded input to what the model reads.
            text: Key of the text where that is still a dict.
            router: The router's name, where rows of several are mixed.
        """
        routes: dict[str, Mapping[str, Any]] = {}
        checked: dict[str, Any] = {}
        gold: dict[str, Any] = {}
        for row in rows:
            kind, name = row.get("kind"), row.get("route_id")
            if not isinstance(name, str):
                continue
            if kind == "gold":
                gold[name] = row.get("gold")
            elif router is not None and row.get("router") != router:
                continue
            elif kind == "route":
                routes[name] = row
            elif kind == "audit" and "error" not in row:
                checked[name] = row.get("output")
        for name, row in routes.items():
            value = _text(read(row.get("input")), text)
            if value is None:
                self.skipped += 1
                continue
            self.ids.add(name)
            route = row.get("route") or {}
            said, fair = _label(checked.get(name)), True
            if said is None:
                # A local answer is no answer of the large model, and one that came back for its failure is none either.
                asked = not route.get("accepted") and not route.get("degraded")
                said = _label(row.get("output")) if asked and "error" not in row and not row.get("cut") else None
                fair = route.get("reason") in {"shadow", "off"}
            if gold.get(name) is not None:
                self.gold.append((value, gold[name]))
            if said is None:
                self.unlabeled.append(value)
            else:
                (self.audits if fair else self.large).append((value, said))


def _text(value: Any, key: str) -> str | None:
    if isinstance(value, Mapping):
        value = value.get(key, value.get("content"))
    return value if isinstance(value, str) else None


def _label(output: Any) -> str | None:
    if output is None:
        return None
    try:
        return default_label(output)
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
