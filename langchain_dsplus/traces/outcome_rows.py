"""A row of outcomes, from what the small models and the large one said: fresh replies and old ones alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_dsplus.answer import Answer
from langchain_dsplus.identity import Identity, score_name
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.runnable import as_small_model, distinct_names

EMPTY: dict[str, list[Any]] = {"id": [], "small": [], "confidence": [], "large": [], "gold": []}
"""The columns of a table without rows."""


class Replies(Protocol):
    """What the large model said, by row and side."""

    def get(self, name: str, side: str) -> Mapping[str, Any]:
        """The reply, or an empty dict."""

    def reported(self) -> list[str]:
        """What the large models called themselves."""


@dataclass
class Told:
    """What a small model said about a chunk."""

    answers: Sequence[Answer | Exception]
    seconds: float

    def at(self, place: int) -> tuple[Answer | Exception, float]:
        """One answer, and the seconds that it took on average."""
        return self.answers[place], self.seconds


def named_models(small: Any) -> dict[str, SmallModel]:
    """Small models by the names that a router gives them; one alone has none: `""`."""
    parts = list(small) if isinstance(small, (list, tuple)) else [small]
    if not parts:
        raise ValueError("`small` needs at least one small model")
    models = [as_small_model(part) for part in parts]
    if len(models) == 1:
        return {"": models[0]}
    return dict(zip(distinct_names(models), models, strict=True))


def table_facts(
    models: Mapping[str, SmallModel], identities: Mapping[str, Identity], store: Replies, score: Any = None
) -> dict[str, Any]:
    """What a table is about: the small models and the chains that were asked."""
    scores = {name: score_name(model.score if score is None else score) for name, model in models.items()}
    versions = {name: model.version for name, model in models.items()}
    one = "" in models
    facts: dict[str, Any] = {
        "score": next(iter(scores.values())) if len(set(scores.values())) == 1 else scores,
        "labels": list(dict.fromkeys(label for model in models.values() for label in model.labels)),
        "small": versions[""] if one else versions,
    }
    for side, identity in identities.items():
        known = {side: identity.large, side.replace("large", "prompt"): identity.prompt}
        facts |= {name: value for name, value in known.items() if value is not None}
    reported = store.reported()
    if reported:
        facts["large_reported"] = reported
    return facts


def outcome_row(
    row: dict[str, Any], answers: Mapping[str, tuple[Answer | Exception, float]], store: Replies, *, pruned: bool
) -> dict[str, Any]:
    """One row: `answers` by the small model's name, the large reply by the row's id."""
    reply = store.get(row["id"], "large")
    result: dict[str, Any] = {"id": row["id"]}
    optional: dict[str, Any] = {"group": row["group"]}
    seconds = 0.0
    for name, (answer, took) in answers.items():
        suffix = f".{name}" if name else ""
        said: Any = {} if isinstance(answer, Exception) else answer
        for column, key in (("small", "choice"), ("confidence", "confidence"), ("probabilities", "probabilities")):
            result[f"{column}{suffix}"] = said.get(key)
        optional[f"small_error{suffix}"] = type(answer).__name__ if isinstance(answer, Exception) else None
        if suffix:
            result[f"latency_small{suffix}"] = took
        seconds += took
    result["large"] = reply.get("label")
    result["gold"] = row["gold"]
    result["latency_small"] = seconds
    result["latency_large"] = reply.get("seconds")
    optional |= {
        "error": reply.get("error"),
        "tokens_input": reply.get("input_tokens"),
        "tokens_output": reply.get("output_tokens"),
        "tokens_cached": reply.get("cached_tokens"),
        "cost_large": reply.get("cost"),
    }
    if pruned:
        second = store.get(row["id"], "large_pruned")
        result["large_pruned"] = second.get("label")
        optional["tokens_input_pruned"] = second.get("input_tokens")
        optional["tokens_output_pruned"] = second.get("output_tokens")
        optional["cost_large_pruned"] = second.get("cost")
    result.update({key: value for key, value in optional.items() if value is not None})
    return result
