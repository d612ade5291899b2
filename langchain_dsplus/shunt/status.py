"""What a shunt says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_dsplus.losses import points
from langchain_dsplus.registry.registry import ModelRegistry
from langchain_dsplus.shunt.folder import ShuntFolder, open_use, spent
from langchain_dsplus.shunt.report import shunt_outcomes
from langchain_dsplus.shunt.rows import KINDS, Ledger, PaidRow, no_label_words
from langchain_dsplus.shunt.worker import outcome_words, what_it_waits_for
from langchain_dsplus.threshold.certificate import say_losing
from langchain_dsplus.threshold.classes import losing_classes
from langchain_dsplus.threshold.differences import differences

_UNREAD = 10
"""Outputs that name no label, from which on the labels may be wrong."""


@dataclass(frozen=True)
class ShuntStatus:
    """What is live and why not more; `print` it.

    Attributes:
        live: Whether anything is answered locally.
        version: Of the small model; None before the first.
        since: When it went live, UTC.
        coverage: Share that it was certified to keep local.
        promise: In words.
        inputs: Decisions so far.
        local: Of these, answered locally.
        calls: Of the large model, audits included.
        saved: Money, where a price was told.
        currency: Of it.
        labels: Told so far.
        worth: What the next 50 labels would add to the share that stays local; None where that is not known yet.
        spent: Error probability that the certifications so far have used, of 1 - level.
        certifications: How they ended, in words.
        why_not_more: In words.
        waits: What happens next.
        losing: Classes that lose under a good average, as seen on rows that teach; empty without any.
    """

    live: bool
    version: int | None
    since: str | None
    coverage: float
    promise: str
    inputs: int
    local: int
    calls: int
    saved: float | None
    currency: str
    labels: int
    worth: float | None
    spent: float
    certifications: str
    why_not_more: str
    waits: str
    losing: str = ""

    def __str__(self) -> str:
        share = self.local / self.inputs if self.inputs else 0.0
        if self.live:
            but = f", but {self.losing}. It is" if self.losing else ":"
            first = (
                f"LIVE since {self.since}{but} version {self.version}, about {self.coverage:.0%} local, {self.promise}."
            )
        else:
            first = "Everything goes to the large model."
        lines = [
            first,
            f"{self.inputs:,} inputs, {self.local:,} ({share:.0%}) answered locally, {self.calls:,} calls of the chain"
            + (f", {self.saved:.2f} {self.currency} saved." if self.saved is not None else "."),
            f"Why not more: {self.why_not_more}",
            f"Labels: {self.labels:,} told."
            + (f" The next 50 would keep about {self.worth:+.0%} more local." if self.worth is not None else ""),
            f"Certifications: {self.certifications or 'none'}; error probability spent {self.spent:.4f}.",
            f"Next: {self.waits}",
        ]
        return "\n".join(lines)


def shunt_status(folder: ShuntFolder, store: Any, registry: ModelRegistry) -> ShuntStatus:
    """Look at a shunt.

    Args:
        folder: The shunt's.
        store: Its store.
        registry: Its registry.
    """
    terms, life = folder.terms(), folder.life()
    ledger = Ledger(terms, store.rows(kind=KINDS))
    held = registry.certificate if registry.exists else None
    rows = list(ledger.rows.values())
    local = [row for row in rows if row.way in ("local", "audit")]
    paid = [row.cost for row in rows if row.cost is not None and row.way in ("fair", "escalated")]
    audits = sum(row.way == "audit" for row in rows)
    saved = None if not paid else sum(paid) / len(paid) * (len(local) - audits)
    found = life["forecast"]
    since = registry.live.certificates[-1]["time"][:19] if held is not None else None
    coverage = next((use["coverage"] for use in reversed(life["uses"]) if use["state"] == "certified"), 0.0)
    return ShuntStatus(
        live=held is not None,
        version=registry.live.number if registry.exists else None,
        since=since,
        coverage=coverage if held is not None else 0.0,
        promise=f"less than {points(terms.max_loss)} below the large model ({terms.level:.0%} over the folder's life)",
        inputs=len(rows),
        local=len(local),
        calls=len(rows) - len(local) + audits,
        saved=saved,
        currency=(terms.price or {}).get("currency", ""),
        labels=sum(row.gold is not None for row in rows),
        worth=max(0.0, found["labels"] - found["expected"]) if found else None,
        spent=spent(life, terms.level),
        certifications=outcome_words(life["uses"]),
        why_not_more=unread_words(terms.labels, rows) or _why(life, ledger, live=held is not None),
        waits=what_it_waits_for(terms, life, ledger, held, len(folder.gold())),
        losing="" if held is None else losing_words(folder, store, held.thresholds.values()),
    )


def unread_words(labels: Sequence[str], rows: Sequence[PaidRow]) -> str:
    """Say that most of what the large chain said names none of the labels; empty where that is not so."""
    said = [row.label for row in rows if row.way in ("fair", "escalated")]
    none = sum(label is None for label in said)
    if none < _UNREAD or none < len(said) / 2:
        return ""
    return no_label_words(labels, f"{none:,} of {len(said):,}")


def losing_words(folder: ShuntFolder, store: Any, thresholds: Iterable[float]) -> str:
    """Name the classes that lose, on rows that teach: what rows that certify say of classes may not be looked at yet.

    Args:
        folder: The shunt's.
        store: Its store.
        thresholds: Of what is live.
    """
    if not folder.evidence():
        return ""
    table = shunt_outcomes(folder, store)
    found = differences(table)
    live = dict(zip((model.name for model in found.models), thresholds, strict=True))
    return say_losing(losing_classes(table, found, live, np.ones(len(table), dtype=bool), folder.terms().max_loss))


def _why(life: Any, ledger: Ledger, *, live: bool) -> str:
    found = life["forecast"]
    if open_use(life) is not None:
        return "a certification is under way."
    if not found:
        return "nothing was trained yet."
    if found["n"] < found["needed"] and live:
        return f"more is tested on new rows: {found['n']:,} are set apart, of {found['needed']:,} at least."
    if found["n"] < found["needed"]:
        return f"{found['n']:,} rows are set apart, and at least {found['needed']:,} are needed to show anything."
    if live:
        return "no further test is worth its risk now."
    differ = found["disagreements"]
    told = sum(row.gold is not None for row in ledger.rows.values())
    more = " Labels would say who is right there." if differ and not told else ""
    now = found["expected"]
    return (
        f"{now:.0%} may be expected now, and {found['with_twice']:.0%} with twice the rows; the "
        f"models disagree on {differ:.0%} of the inputs without a label.{more}"
    )
