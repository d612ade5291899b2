"""What a `ModelRegistry` tells about its versions and gates."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_dsplus.learning.promotion import PromotionReport
from langchain_dsplus.registry.state import CertificateEntry, Event, VersionState
from langchain_dsplus.threshold.certificate import Certificate


@dataclass(frozen=True)
class ModelVersion:
    """One version of the small model. Its folder never changes.

    Attributes:
        number: Counts from 1.
        state: `candidate`; `kept aside` (its gate found `reasons`); `live`; `earlier` (was live); `rolled back`.
        name: The small model's name.
        model: The small model's own `version`.
        sha256: Of the folder's manifest.
        made: When, UTC.
        since: When it last went live, UTC.
        parent: The version that it was made from.
        reasons: Why it was kept aside or rolled back.
        teacher: What it learned from, in the words given.
        seed: Of its training.
        n_rows: Inputs that it was trained on, as far as was said.
        data: SHA-256 over the hashes of those inputs.
        certificates: Every certificate that it had: `id`, `state` (`in force` or `void`), `time`, and where void the
            `reason`.
    """

    number: int
    state: VersionState
    name: str
    model: str
    sha256: str
    made: str
    since: str | None
    parent: int | None
    reasons: list[str]
    teacher: str | None
    seed: int | None
    n_rows: int
    data: str
    certificates: list[CertificateEntry]


@dataclass(frozen=True)
class Gate:
    """One run of the gate between two versions.

    Attributes:
        old: The version that was live.
        new: The candidate.
        report: What was found.
        level: Confidence that was asked for, corrected for `earlier`.
        earlier: Gates before this one on some of the same rows, or for the same two versions. Each halves the error
            probability, so that trying again and again does not help.
        spent: Whether the version was rolled back since: then it no longer counts.
        time: When, UTC.
    """

    old: int
    new: int
    report: PromotionReport
    level: float
    earlier: int
    spent: bool
    time: str


@dataclass(frozen=True)
class RegistryStatus:
    """What there is.

    Attributes:
        live: The version that is live; None in a registry without any.
        certificate: The one in force; None: then nothing may stay local.
        versions: All, the oldest first.
        gates: All runs of the gate, the oldest first.
        history: Every change: `time`, `event`, `version`, `note`.
        next_step: What to do now, in words.
    """

    live: ModelVersion | None
    certificate: Certificate | None
    versions: list[ModelVersion]
    gates: list[Gate]
    history: list[Event]
    next_step: str

    def __str__(self) -> str:
        held = self.certificate
        lines = ["Nothing is live." if self.live is None else f"Live: {_line(self.live)}"]
        lines.append(
            "No certificate is in force: nothing may stay local."
            if held is None
            else f"Certificate {held.id}: {held.coverage:.1%} of inputs may stay local."
        )
        others = [version for version in self.versions if self.live is None or version.number != self.live.number]
        lines += [f"Also: {_line(version)}" for version in others[-_SHOWN:]]
        if len(others) > _SHOWN:
            lines.append(f"and {len(others) - _SHOWN} older versions.")
        lines.append(f"{len(self.gates)} runs of the gate, {len(self.history)} changes. Next: {self.next_step}")
        return "\n".join(lines)


_SHOWN = 5


def _line(version: ModelVersion) -> str:
    why = f" ({'; '.join(version.reasons)})" if version.reasons else ""
    return f"version {version.number}, {version.name}, {version.state}{why}, made {version.made[:19]}."
