"""What one decision costs: local and escalated, sync and async, with fakes in place of both models.

All in one process, interleaved: a bare `if`, a bare fake chat call, a hand-written LCEL cascade (a
small-model lambda piped into `RunnableBranch`), the router, and cascadeflow where it is installed. The
router is used as it comes: one traced run for each decision and a full `Route` on the message. Ratios are
medians over rounds; `local_vs_chat` below 1 means that answering locally costs less than calling even a
fake chat model.

cascadeflow lives in an environment of its own: `python -m venv .venv-rivals`, then `.venv-rivals/bin/pip
install -e . "cascadeflow[langchain]"`, then `.venv-rivals/bin/python -m benchmarks overhead`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import itertools
from typing import TYPE_CHECKING, Any

from benchmarks.harness import (
    Context,
    Figures,
    Table,
    ainterleave,
    interleave,
    interval,
    number,
    quartiles,
    ratio,
)

if TYPE_CHECKING:
    from collections.abc import Callable

EASY, HARD = "great, works as described", "well, it is what it is"
ANSWERS = {EASY: {"pos": 0.99, "neg": 0.01}, HARD: {"pos": 0.6, "neg": 0.4}}
THRESHOLD = 0.9
RATIOS = {
    "local_vs_chat": "local, against a bare fake chat call",
    "escalated_vs_chat": "escalated, against a bare fake chat call",
    "local_vs_branch": "local, against `RunnableBranch`",
    "escalated_vs_branch": "escalated, against `RunnableBranch`",
}
NOT_RECHECKED = "every figure is a time, or a ratio of times, of the machine that it was measured on"


def fake_chat() -> Any:
    """A chat model that answers at once, with usage, as a real one would."""
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    def message() -> AIMessage:
        usage = {"input_tokens": 20, "output_tokens": 1, "total_tokens": 21}
        return AIMessage("neg", usage_metadata=usage, response_metadata={"model_name": "fake"})

    return GenericFakeChatModel(messages=(message() for _ in itertools.count()))


def lookup(text: str) -> tuple[str, float]:
    """The small model of the hand-written rivals: label and confidence."""
    probabilities = ANSWERS[text]
    label = max(probabilities, key=probabilities.__getitem__)
    return label, probabilities[label]


def contestants() -> dict[str, Any]:
    """Everything that is measured: a callable, or a Runnable."""
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableBranch, RunnableLambda

    from langchain_dsplus import ConfidenceRouter, FakeSmallModel

    chat = fake_chat()

    def ask_small(text: str) -> dict[str, Any]:
        label, confidence = lookup(text)
        return {"text": text, "label": label, "confidence": confidence}

    def confident(state: dict[str, Any]) -> bool:
        return bool(state["confidence"] > THRESHOLD)

    def answer(state: dict[str, Any]) -> AIMessage:
        return AIMessage(state["label"])

    def get_text(state: dict[str, Any]) -> str:
        return str(state["text"])

    branch = RunnableLambda(ask_small) | RunnableBranch(
        (confident, RunnableLambda(answer)), RunnableLambda(get_text) | fake_chat()
    )
    router = ConfidenceRouter(small=FakeSmallModel(ANSWERS), large=fake_chat(), threshold=THRESHOLD)
    found = {"chat": chat, "branch": branch, "router": router}
    if importlib.util.find_spec("cascadeflow") is not None:
        found["cascadeflow"] = cascadeflow(pre_router=False)
        found["cascadeflow_default"] = cascadeflow(pre_router=True)
    return found


def cascadeflow(*, pre_router: bool) -> Any:
    """cascadeflow with our confidence as its gate: the drafter is a chat model, as it must be."""
    from cascadeflow.integrations.langchain import CascadeFlow
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Drafter(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "gpt-4o-mini"  # a name that it has a price for: another prints a warning on each call

        def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
            label, confidence = lookup(messages[-1].text)
            message = AIMessage(label, additional_kwargs={"confidence": confidence})
            return ChatResult(generations=[ChatGeneration(message=message)])

    class Verifier(Drafter):
        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=AIMessage("neg"))])

    def confidence(result: Any) -> float:
        return float(result.generations[0].message.additional_kwargs["confidence"])

    return CascadeFlow(
        drafter=Drafter(),
        verifier=Verifier(),
        enable_pre_router=pre_router,
        quality_threshold=THRESHOLD,
        quality_validator=confidence,
    )


def run(context: Context) -> Figures:
    rounds, calls = context.pick(41, 11), context.pick(50, 20)
    made = contestants()
    chat = made["chat"]

    def bare_if(text: str) -> Any:
        label, confidence = lookup(text)
        return label if confidence > THRESHOLD else chat.invoke(text)

    async def abare_if(text: str) -> Any:
        label, confidence = lookup(text)
        return label if confidence > THRESHOLD else await chat.ainvoke(text)

    sync: dict[str, Callable[[], Any]] = {}
    twins: dict[str, Callable[[], Any]] = {}
    for side, text in (("local", EASY), ("escalated", HARD)):
        sync[f"{side}.if"] = lambda text=text: bare_if(text)
        twins[f"{side}.if"] = lambda text=text: abare_if(text)
        for name, runnable in made.items():
            if name != "chat":
                sync[f"{side}.{name}"] = lambda runnable=runnable, text=text: runnable.invoke(text)
                twins[f"{side}.{name}"] = lambda runnable=runnable, text=text: runnable.ainvoke(text)
    sync["chat"] = lambda: chat.invoke(HARD)
    twins["chat"] = lambda: chat.ainvoke(HARD)
    check(made["router"])

    figures: Figures = {}
    noise = io.StringIO()
    with context.progress("decisions", 2 * rounds) as advance, contextlib.redirect_stdout(noise):
        seconds = interleave(sync, rounds=rounds, number=calls, rng=context.random("sync"), advance=advance)
        figures |= compare(seconds, "")
        seconds = asyncio.run(
            ainterleave(twins, rounds=rounds, number=calls, rng=context.random("async"), advance=advance)
        )
        figures |= compare(seconds, "_async")
    return figures


def check(router: Any) -> None:
    """What is timed must do what is claimed.

    Raises:
        RuntimeError: If the router takes the wrong side.
    """
    sides = [router.invoke(text).response_metadata["dsplus"]["accepted"] for text in (EASY, HARD)]
    if sides != [True, False]:
        msg = f"the router took the wrong side: {sides}"
        raise RuntimeError(msg)


def compare(seconds: dict[str, list[float]], twin: str) -> Figures:
    """Ratios and microseconds of one round of measurements."""
    figures: Figures = {}
    for side in ("local", "escalated"):
        ours = seconds[f"{side}.router"]
        figures |= ratio(f"{side}_vs_chat{twin}", ours, seconds["chat"])
        for name in ("if", "branch", "cascadeflow", "cascadeflow_default"):
            if f"{side}.{name}" in seconds:
                figures |= ratio(f"{side}_vs_{name}{twin}", ours, seconds[f"{side}.{name}"])
    for name, values in seconds.items():
        figures[f"microseconds{twin}.{name}"] = 1e6 * quartiles(values)[1]
    return figures


def tables(figures: Figures) -> list[Table]:
    names = {
        "if": "bare `if`",
        "branch": "LCEL: lambda, `RunnableBranch`",
        "router": "`ConfidenceRouter`",
        "cascadeflow": "cascadeflow, pre-router off",
        "cascadeflow_default": "cascadeflow, default",
    }
    rows = [
        [
            "bare fake chat call",
            "",
            number(figures, "microseconds.chat", 0),
            "",
            number(figures, "microseconds_async.chat", 0),
        ]
    ]
    for key, title in names.items():
        if f"microseconds.local.{key}" not in figures:
            continue
        cells = [
            number(figures, f"microseconds{twin}.{side}.{key}", 0)
            for twin in ("", "_async")
            for side in ("local", "escalated")
        ]
        rows.append([title, *cells])
    times = Table(
        "overhead.microseconds",
        "One decision, microseconds",
        ["", "local", "escalated", "local, async", "escalated, async"],
        rows,
        "Medians over interleaved rounds. An escalated decision contains one fake chat call.",
    )
    ratios = [
        [title, *(interval(figures, f"{key}{twin}", 2) for twin in ("", "_async"))] for key, title in RATIOS.items()
    ]
    return [
        times,
        Table(
            "overhead.ratios",
            "The router against others",
            ["one decision of the router", "ratio, median (quartiles)", "async"],
            ratios,
        ),
    ]
