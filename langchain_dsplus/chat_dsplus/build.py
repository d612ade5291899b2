"""What is inside a `ChatDSPlus`: drafts of small chat models in front of a large one, in a `ConfidenceRouter`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from pydantic import ConfigDict, Field

from langchain_dsplus.answer import Answer
from langchain_dsplus.chat_dsplus.draft import ACCEPTS, DraftModel, inner_model, make_verifier
from langchain_dsplus.chat_dsplus.scores import Equal, Sequence_
from langchain_dsplus.chat_dsplus.tools import Bound
from langchain_dsplus.confidence import is_route_score
from langchain_dsplus.routing.decision import Mode
from langchain_dsplus.routing.outputs import to_message
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.runnable import distinct_names


class Cascade(BaseChatModel):
    """The fields of a `ChatDSPlus` that its router is made of; there it is said what they mean."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    models: Sequence[Any] = Field(repr=False)  # their headers may hold a key
    threshold: Any = 0.97
    accept: Any = "sequence"
    score: Any = Field(default=None, repr=False)
    sequence: Sequence_ = "mean"
    samples: int = Field(default=5, ge=2)
    equal: Equal | None = None
    peers: Sequence[Any] = Field(default=(), repr=False)
    verifier: Any = Field(default=None, repr=False)
    verifier_prompt: str | None = None
    mode: Mode = "live"
    audit_rate: float = 0.0
    small_timeout: float | None = None
    on_large_error: Literal["raise", "small"] = "raise"
    recorder: Any = None
    on_mismatch: Literal["raise", "warn", "escalate_all"] = "raise"
    version: str | None = None
    allow_override: bool = False
    background: bool = True
    background_workers: int = Field(default=2, ge=1)
    background_limit: int = Field(default=1024, ge=1)
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None


ROUTED = ("name", *(name for name in Cascade.__annotations__ if name != "models"))
"""Fields that the router is made of, besides the models."""


def build_router(model: Cascade, bound: Bound | None) -> ConfidenceRouter:
    """Build the router out of a cascade's fields.

    Raises:
        TypeError: If `models` holds something else than chat models.
        ValueError: If a setting is malformed.
    """
    models, peers = list(model.models), list(model.peers)
    accept = _accept(model)
    inner = [inner_model(one) for one in (*models, *peers)]
    bound = bound or Bound.plain([*models, *peers])
    large = len(models) - 1
    drafts = []
    for place, one in enumerate(bound.models[:large]):
        name = inner[place].name or "small"
        drafts.append(
            DraftModel(
                model=one,
                name=name,
                accept=accept,
                sequence=model.sequence,
                samples=model.samples,
                equal=model.equal,
                peers=bound.models[large + 1 :],
                peer_checks=bound.checks[large + 1 :],
                verifier=make_verifier(model.verifier or models[place], model.verifier_prompt, name)
                if accept == "verifier"
                else None,
                settings=settings_of(model),
                checks=bound.checks[place],
            )
        )
    for draft, name in zip(drafts, distinct_names(drafts), strict=True):
        draft.name = name
        if draft.verifier is not None and draft.verifier is not model.verifier:
            draft.verifier.name = name
    settings = settings_of(model)
    return _Router(
        small=drafts,
        large=bound.models[large].bind(**settings) if settings else bound.models[large],
        threshold=model.threshold,
        score=model.score,
        mode=model.mode,
        audit_rate=model.audit_rate,
        small_timeout=model.small_timeout,
        on_large_error=model.on_large_error,
        to_output=_to_message,
        recorder=model.recorder,
        on_mismatch=model.on_mismatch,
        version=model.version,
        allow_override=model.allow_override,
        background=model.background,
        background_workers=model.background_workers,
        background_limit=model.background_limit,
        name=model.name,
    )


def _accept(model: Cascade) -> Any:
    """How drafts are judged; checks what belongs together."""
    if len(model.models) < 2:
        raise ValueError("`models` needs at least two chat models, the large one last")
    if not callable(model.accept) and model.accept not in ACCEPTS:
        raise ValueError(
            f"`accept` must be one of {list(ACCEPTS)} or a function of messages and draft, not {model.accept!r}"
        )
    if bool(model.peers) != (model.accept == "agreement"):
        raise ValueError(
            "`accept='agreement'` needs `peers`, at least one other cheap chat model, and nothing else takes them"
        )
    if model.score is not None and not is_route_score(model.score):
        raise ValueError(
            "`score` must be a `RouteScore`: drafts have no class probabilities that a name or a function could read"
        )
    return unjudged if getattr(model.score, "before", False) else model.accept


def unjudged(messages: Any, draft: Any) -> float:
    """What is said of a draft that a score has chosen beforehand: nothing but that it can be used."""
    del messages, draft
    return 1.0


def settings_of(model: Cascade) -> dict[str, Any]:
    """What is sent to every model with every call."""
    given = {"temperature": model.temperature, "max_tokens": model.max_tokens, "stop": model.stop or None}
    return {name: value for name, value in given.items() if value is not None}


class _Router(ConfidenceRouter):
    """The router inside, under the name of what is around it."""

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        return super().get_name(suffix, name=name or self.name or "ChatDSPlus")


def _to_message(answer: Answer, value: Any) -> AIMessage:
    message: AIMessage = getattr(answer, "message", None) or to_message(answer, value)
    return message


def model_name(model: Any) -> str:
    """What a provider calls a model."""
    inner = inner_model(model)
    name: Any = inner._get_ls_params().get("ls_model_name")  # noqa: SLF001 - LangChain's own hook for it
    return name if isinstance(name, str) and name else type(inner).__name__
