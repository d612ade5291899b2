"""What follows from a registry's state: which version is live, which may be promoted, what comes next."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_dsplus.registry.state import Cause, Event, GateEntry, RegistryError, State, now
from langchain_dsplus.threshold.certificate import Certificate


class NotPromotedError(RegistryError):
    """A version did not go live.

    Attributes:
        reasons: What its gate found; empty where there was none.
    """

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reasons = list(reasons)


def numbers_in(state: State) -> list[int]:
    """All versions, the oldest first."""
    return sorted(int(number) for number in state["versions"])


def known_in(state: State, number: int) -> int:
    """The number, if there is such a version."""
    if str(number) not in state["versions"]:
        raise RegistryError(f"there is no version {number}; there are {numbers_in(state)}")
    return number


def live_in(state: State) -> int:
    """The version that is live."""
    if not state["stack"]:
        raise RegistryError("no version is live: `start` the registry with one")
    return state["stack"][-1]


def family_of(state: State, number: int) -> list[int]:
    """A version and those that it comes from."""
    found: list[int] = []
    current: int | None = number
    while current is not None and current not in found:
        found.append(current)
        current = state["versions"][str(current)]["parent"]
    return found


def last_gate(state: State, old: int, new: int) -> GateEntry | None:
    """The last run of the gate between just these two that still counts."""
    pair = tuple(state["versions"][str(number)]["sha256"] for number in (old, new))
    for entry in reversed(state["gates"]):
        if (entry["old_sha256"], entry["new_sha256"]) == pair and not entry["spent"]:
            return entry
    return None


def passed_in(state: State) -> list[int]:
    """Versions that may be promoted now, the oldest first."""
    live = live_in(state)
    gates = {number: last_gate(state, live, number) for number in numbers_in(state) if number != live}
    return [number for number, gate in gates.items() if gate is not None and gate["promoted"]]


def ready_in(state: State) -> int:
    """The newest version that may be promoted now."""
    passed = passed_in(state)
    if not passed:
        raise NotPromotedError(
            f"no version has passed a gate against version {live_in(state)}, which is live: nothing to promote"
        )
    return passed[-1]


def void(state: State, number: int, cause: Cause, reason: str) -> bool:
    """Mark the certificate in force as void; whether there was one."""
    found = False
    for entry in state["versions"][str(number)]["certificates"]:
        if entry["state"] == "in force":
            entry["state"], entry["cause"], entry["reason"], found = "void", cause, reason, True
    return found


def tell(state: State, event: str, number: int | None, note: str) -> None:
    """Add a line to the history."""
    state["history"].append(Event(time=now(), event=event, version=number, note=note))


def next_step(state: State, certificate: Certificate | None) -> str:
    """What to do now, in words."""
    if not state["stack"]:
        return "Start with a first version."
    live = live_in(state)
    if passed := passed_in(state):
        return f"Version {passed[-1]} has passed its gate: promote it."
    if certificate is None:
        return (
            f"Version {live} has no certificate in force, so nothing stays local: run the router in shadow, collect "
            "rows that come from now on, and certify them."
        )
    waiting = [number for number in numbers_in(state) if state["versions"][str(number)]["state"] == "candidate"]
    if waiting:
        return f"Version {waiting[-1]} has had no gate against version {live}: give it gold rows that it never saw."
    return f"Nothing: version {live} is live under certificate {certificate.id}."
