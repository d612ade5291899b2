"""What a router writes down: rows, and whoever takes them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, Protocol, runtime_checkable

from typing_extensions import TypedDict

from langchain_dsplus.answer import Answer, Route


class Row(TypedDict):
    """What a recorder gets. Rows with one `route_id` belong together.

    `kind` is `route` (a decision and what was returned), `shadow` (what the small models say, and under `route` what
    live mode would have decided), `audit` (what the large model says about an input that was answered locally), or
    `gold` (what was true, told later: `gold`). `cut` marks a stream whose reader stopped before its end: `output` is
    only what had come. `input_hash` is the input's keyed hash (of what the first small model reads), under the
    recorder's key where it has one; `in_training`: whether a small model was trained on the input.
    """

    kind: Literal["route", "shadow", "audit", "gold"]
    route_id: str
    router: str
    input: NotRequired[Any]
    input_hash: NotRequired[str]
    in_training: NotRequired[bool]
    output: NotRequired[Any]
    cut: NotRequired[bool]
    gold: NotRequired[str | None]
    route: NotRequired[Route]
    answers: NotRequired[list[Answer]]
    errors: NotRequired[dict[str, str]]
    error: NotRequired[str]
    usage: NotRequired[dict[str, Any]]
    """Tokens of the large chain's calls, as LangChain's `usage_metadata`; missing where none said."""
    calls_without_usage: NotRequired[int]
    """Calls that may have cost something and reported no tokens: cancelled, failed, or of a model that does not say."""
    small_seconds: NotRequired[float]
    large_seconds: NotRequired[float]


@runtime_checkable
class Recorder(Protocol):
    """Anything with `record`. It must be quick and thread-safe; what it raises is logged and never reaches a reply."""

    def record(self, row: Row) -> None:
        """Write one row down."""
