"""What all monitors are: one object for all copies of a router, with events that no run has heard yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from langchain_dsplus._shared import Shared
from langchain_dsplus._shown import Shown

_KEPT = 64


class Monitor(Shared, Shown):
    """The base of `AuditMonitor`, `BudgetPacer` and `DriftMonitor`."""

    def __init__(self) -> None:
        self._pending: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_KEPT)

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what no run has heard yet, once: a router tells it to the handlers of its next run."""
        while True:
            try:
                yield self._pending.popleft()
            except IndexError:
                return
