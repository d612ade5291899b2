"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_dsplus._imports import require

if TYPE_CHECKING:
    from langchain_dsplus.costs.usage import Usage
    from langchain_dsplus.shunt.shunt import DataShunt


class Metrics:
    """Counters of one proxy, in a registry of its own.

    Args:
        shunts: Those that are served.
        proxy: With `running`, requests under way.

    Raises:
        ImportError: If prometheus-client (extra `serve`) is not installed.
    """

    def __init__(self, shunts: Sequence[DataShunt], proxy: Any) -> None:
        self._client: Any = require("prometheus_client", "serve")
        self._registry = self._client.CollectorRegistry(auto_describe=True)
        self._requests = self._counter("dsplus_requests", "Requests by who answered.", ["route", "status"])
        self._seconds = self._client.Histogram(
            "dsplus_request_seconds", "Seconds from a request to the end of its reply.", ["route"],
            registry=self._registry,
        )  # fmt: skip
        self.rejected = self._counter("dsplus_rejected", "Requests that found the proxy full.")
        self._tokens = self._counter("dsplus_small_tokens", "Tokens of the small side.", ["kind"])
        self._gauge("dsplus_requests_running", "Requests under way.", lambda: proxy.running)
        self._gauge(
            "dsplus_live", "Shunts that answer locally.",
            lambda: sum(shunt.certificate is not None for shunt in shunts),
        )  # fmt: skip
        self._gauge("dsplus_rows_pending", "Rows not yet written.", lambda: sum(_of(s, "pending") for s in shunts))
        self._gauge(
            "dsplus_rows_lost", "Rows that were dropped or refused by the store.",
            lambda: sum(_of(s, "dropped") + _of(s, "errors") for s in shunts),
        )  # fmt: skip

    def _counter(self, name: str, about: str, labels: Sequence[str] = ()) -> Any:
        return self._client.Counter(name, about, labels, registry=self._registry)

    def _gauge(self, name: str, about: str, read: Any) -> None:
        self._client.Gauge(name, about, registry=self._registry).set_function(read)

    def done(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def tokens(self, used: Usage) -> None:
        """Count what the small side read and wrote."""
        self._tokens.labels("input").inc(used.input)
        self._tokens.labels("output").inc(used.output)

    def text(self) -> tuple[bytes, str]:
        """What a scrape gets, and its type."""
        return self._client.generate_latest(self._registry), self._client.CONTENT_TYPE_LATEST


def _of(shunt: DataShunt, name: str) -> int:
    return int(getattr(shunt.store, name, 0))
