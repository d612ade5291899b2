"""The words by which parts know each other from afar: tags of runs, keys in messages and metadata, names of events."""

from __future__ import annotations

from typing import Final

# --- tags of runs -----------------------------------------------------------------------------------------------

LARGE_TAG: Final = "large"
"""The large chain's run; in a route also the name of who answered."""
TRANSFER_TAG: Final = "transfer"
"""The run of a model that rewrites for another one."""
NOSTREAM_TAG: Final = "nostream"
"""LangGraph's own: what such a run says is never streamed. Runs of small models carry it."""
BACKGROUND_TAG: Final = "dsplus:background"
"""A run that nobody waits for: shadow, audits."""
CHEAPER_TAG: Final = "dsplus:cheaper"
"""A model that answers in the place of the large one, is paid for, and is no small model of a router."""

# --- keys -------------------------------------------------------------------------------------------------------

ROUTE_KEY: Final = "dsplus"
"""Where an AIMessage carries its `Route` in `response_metadata`, and the key that a large chain's input gets."""
ROUTE_ID_KEY: Final = "dsplus_route_id"
"""Metadata of a run in the background: the `Route` that it belongs to."""

# --- custom events, also as the `type` of what a graph's node tells -----------------------------------------------

ROUTE_EVENT: Final = "dsplus_route"
TRANSFER_EVENT: Final = "dsplus_transfer"
CHECK_EVENT: Final = "dsplus_check"
VERDICT_EVENT: Final = "dsplus_verdict"
ALARM_EVENT: Final = "dsplus_alarm"
DRIFT_EVENT: Final = "dsplus_drift"
BUDGET_EVENT: Final = "dsplus_budget"
