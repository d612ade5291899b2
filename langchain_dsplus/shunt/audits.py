"""Audits of a shunt: every process sees what any of them has audited, from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_dsplus.monitoring.audit import AuditMonitor
from langchain_dsplus.shunt.rows import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_dsplus.routing.rows import Row
    from langchain_dsplus.threshold.certificate import Certificate
    from langchain_dsplus.traces.store import TraceStore


class Audits:
    """What the store knows about a certificate, as its monitor sees it.

    Args:
        certificate: In force.
        store: A `TraceStore`.
        level: Of the monitor's alarms.
        since: When it came into force: older rows are not read.
        **options: Of `AuditMonitor`.

    Attributes:
        certificate: Its id.
    """

    def __init__(
        self, certificate: Certificate, store: TraceStore, level: float, since: str | None = None, **options: Any
    ) -> None:
        self.certificate = certificate.id
        self._news = store.follow(kind=KINDS, since=since)
        self._ours: set[str] = set()
        try:
            self._monitor: AuditMonitor | None = AuditMonitor(certificate, level=level, **options)
        except ValueError:  # its rows came in groups: nothing is known of single disagreements
            self._monitor = None

    def monitor(self) -> AuditMonitor | None:
        """The monitor, once it has seen what is new; None where the certificate cannot be audited."""
        if self._monitor is None:
            return None
        for row in cast("Iterator[Row]", self._news.rows()):
            if row["kind"] == "route":
                route = row.get("route")
                if route and route.get("certificate") == self.certificate:
                    self._ours.add(row["route_id"])
                    self._monitor.record(row)
            elif row["route_id"] in self._ours:
                self._monitor.record(row)
        return self._monitor
