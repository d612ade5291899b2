"""The disputes: reading them, which half a pair belongs to, what is kept of a pair's facts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langchain_dsplus.graphs import VERDICTS

FOLDER = Path(__file__).resolve().parent
LANGUAGES = ("en", "zh")
SWAP = {"narrator": "other party", "other party": "narrator", "both": "both", "unclear": "unclear"}
"""A verdict as the other party's telling calls it."""

Language = Literal["en", "zh"]
Split = Literal["tune", "locked"]


@dataclass(frozen=True)
class Fact:
    """What a rewrite must not lose: said in a few words, and the spans by which it is found, any of them."""

    fact: str
    spans: tuple[str, ...]

    def kept(self, text: str) -> bool:
        """Whether one of the spans occurs in a text."""
        return any(occurs(span, text) for span in self.spans)


@dataclass(frozen=True)
class Dispute:
    """One pair: the same dispute as told by both parties, each with an interest."""

    id: str
    language: Language
    topic: str
    split: Split
    statement: str
    twin: str
    must_keep: tuple[Fact, ...]
    verdict: str
    """Who is more at fault, as the statement calls the parties."""
    reason: str

    @property
    def tellings(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both texts, each with its gold verdict."""
        return (self.statement, self.verdict), (self.twin, SWAP[self.verdict])


def path(language: str) -> Path:
    """The file of a language."""
    return FOLDER / f"{language}.jsonl"


def load(languages: Iterable[str] = LANGUAGES, split: Split | None = None) -> list[Dispute]:
    """Read the disputes, in the order of the files."""
    found = []
    for language in languages:
        for line in path(language).read_text(encoding="utf-8").splitlines():
            row: dict[str, Any] = json.loads(line)
            facts = tuple(Fact(each["fact"], tuple(each["spans"])) for each in row.pop("must_keep"))
            dispute = Dispute(**row, must_keep=facts)
            if split is None or dispute.split == split:
                found.append(dispute)
    return found


def split_of(disputes: Sequence[Dispute]) -> dict[str, Split]:
    """The rule that parts the halves: the strata (language, then verdict) one after another, each by the SHA-256 of the
    ids; first to `tune`, second to `locked`, and so on, across the borders of the strata."""
    return {dispute.id: ("locked" if n % 2 else "tune") for n, dispute in enumerate(_by_stratum(disputes))}


def even_order(disputes: Sequence[Dispute]) -> list[Dispute]:
    """An order in which every beginning holds the verdicts in about the proportion of the whole."""
    places: list[tuple[float, str, Dispute]] = []
    for stratum in {(d.language, d.verdict) for d in disputes}:
        members = [d for d in _by_stratum(disputes) if (d.language, d.verdict) == stratum]
        places += [((n + 0.5) / len(members), _digest(d.id), d) for n, d in enumerate(members)]
    return [dispute for _, _, dispute in sorted(places, key=lambda place: place[:2])]


def occurs(span: str, text: str) -> bool:
    """Whether a span is in a text: words from their beginning, whole numbers, any case; Chinese as it stands."""
    if not span.isascii():
        return span in text
    after = r"(?!\d|[.,:]\d)" if span[-1].isdigit() else ""
    return re.search(rf"(?<!\w){re.escape(span)}{after}", text, re.IGNORECASE) is not None


def recall(facts: Sequence[Fact], text: str) -> float:
    """The share of the facts that a text keeps, found lexically: a paraphrase without the span counts as lost."""
    return sum(fact.kept(text) for fact in facts) / len(facts)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _by_stratum(disputes: Sequence[Dispute]) -> list[Dispute]:
    return sorted(disputes, key=lambda d: (LANGUAGES.index(d.language), VERDICTS.index(d.verdict), _digest(d.id)))
