"""Audits of a shunt: every process sees what any of them has audited, from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_dsplus.monitoring.audit import AuditMonitor

if TYPE_CHECKING:
    from langchain_dsplus.threshold.certificate import Certificate


def replay(
    certificate: Certificate, store: Any, level: float, since: str | None = None, **options: Any
) -> AuditMonitor | None:
    """A monitor of a certificate that has seen all that the store knows of it; None where it cannot be audited.

    Args:
        certificate: In force.
        store: With `rows`.
        level: Of its alarms.
        since: When it came into force: older rows are not read.
        **options: Of `AuditMonitor`.
    """
    try:
        monitor = AuditMonitor(certificate, level=level, **options)
    except ValueError:  # its rows came in groups: nothing is known of single disagreements
        return None
    ours: set[str] = set()
    name = certificate.id  # a hash of all of it, each time
    for row in store.rows(kind=("route", "audit", "gold"), since=since):
        if row["kind"] == "route":
            if (row.get("route") or {}).get("certificate") == name:
                ours.add(row["route_id"])
                monitor.record(row)
        elif row["route_id"] in ours:
            monitor.record(row)
    return monitor
