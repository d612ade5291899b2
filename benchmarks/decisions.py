"""What a request to our decision models costs beside a bare one: local and cascade, 1 and 5 questions, sync and async.

All in one process, interleaved, with fakes in place of all models: a bare `BaseDecisionModel` that answers at once, a
`LocalDecisionModel` and a `CascadeDecisionModel` over small models that look their answer up, and the same cascade
where everything is left to the bare one. Ours read the state, know the question by what it is, decide, and say in a
`Route` why. Ratios are medians over rounds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Context, Figures, Table, ainterleave, interleave, interval, number, quartiles, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EASY, HARD = "great, works as described", "well, it is what it is"
ANSWERS = {EASY: {"yes": 0.99, "no": 0.01}, HARD: {"yes": 0.6, "no": 0.4}}
QUESTIONS = (1, 5)
KINDS = {
    "local": "`LocalDecisionModel`",
    "cascade": "`CascadeDecisionModel`, all answered locally",
    "escalated": "`CascadeDecisionModel`, all left to the large model",
}
NOT_RECHECKED = "every figure is a time, or a ratio of times, of the machine that it was measured on"


def contestants(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The models for so many questions, and the requests: by kind."""
    from langchain_core.decisions import BaseDecisionModel, ClassifierResponse, Noul, NoulAnswer

    from langchain_dsplus import FakeSmallModel
    from langchain_dsplus.decisions import CascadeDecisionModel, LocalDecisionModel

    class Bare(BaseDecisionModel):
        model: str = "bare"

        @property
        def _provider(self) -> str:
            return "bare"

        def _classify(self, state: Any, questions: Any) -> ClassifierResponse:
            del state
            answers = {name: NoulAnswer(type="noul", noul=0.3) for name in questions}
            return ClassifierResponse(model="bare", answers=answers)

    questions = {f"question_{place}": Noul(instructions=f"Is it {place}?") for place in range(count)}
    models = {name: FakeSmallModel(ANSWERS) for name in questions}
    local = LocalDecisionModel(models, questions=questions)
    cascade = CascadeDecisionModel(small=local, large=Bare(), threshold=0.9)
    made = {"fake": Bare(), "local": local, "cascade": cascade, "escalated": cascade}
    requests = {kind: {"state": HARD if kind == "escalated" else EASY, "questions": questions} for kind in made}
    return made, requests


def check(made: Mapping[str, Any], requests: Mapping[str, Any]) -> None:
    """What is timed must do what is claimed.

    Raises:
        RuntimeError: If an answer is not from where it should be.
    """
    wanted = {"fake": 0.3, "local": 0.99, "cascade": 0.99, "escalated": 0.3}
    for kind, model in made.items():
        said = {answer.noul for answer in model.invoke(requests[kind]).nouls.values()}
        if said != {wanted[kind]}:
            msg = f"{kind} answered {said}"
            raise RuntimeError(msg)


def run(context: Context) -> Figures:
    rounds, calls = context.pick(41, 11), context.pick(40, 15)
    sync: dict[str, Callable[[], Any]] = {}
    twins: dict[str, Callable[[], Any]] = {}
    for count in QUESTIONS:
        made, requests = contestants(count)
        check(made, requests)
        for kind, model in made.items():
            sync[f"{kind}.{count}"] = lambda model=model, asked=requests[kind]: model.invoke(asked)
            twins[f"{kind}.{count}"] = lambda model=model, asked=requests[kind]: model.ainvoke(asked)
    figures: Figures = {}
    with context.progress("requests", 2 * rounds) as advance:
        seconds = interleave(sync, rounds=rounds, number=calls, rng=context.random("sync"), advance=advance)
        figures |= compare(seconds, "")
        seconds = asyncio.run(
            ainterleave(twins, rounds=rounds, number=calls, rng=context.random("async"), advance=advance)
        )
        figures |= compare(seconds, "_async")
    return figures


def compare(seconds: Mapping[str, list[float]], twin: str) -> Figures:
    """Ratios and microseconds of one round of measurements; the key without a number is about one question."""
    figures: Figures = {}
    for kind in KINDS:
        for count in QUESTIONS:
            key = f"{kind}_vs_fake{twin}" + ("" if count == 1 else f".{count}")
            figures |= ratio(key, seconds[f"{kind}.{count}"], seconds[f"fake.{count}"])
    for name, values in seconds.items():
        figures[f"microseconds{twin}.{name}"] = 1e6 * quartiles(values)[1]
    return figures


def tables(figures: Figures) -> list[Table]:
    places = [(twin, count) for twin in ("", "_async") for count in QUESTIONS]

    def key(kind: str, twin: str, count: int) -> str:
        return f"{kind}_vs_fake{twin}" + ("" if count == 1 else f".{count}")

    rows = [[shown, *(interval(figures, key(kind, *place), 2) for place in places)] for kind, shown in KINDS.items()]
    bare = [number(figures, f"microseconds{twin}.fake.{count}", 0) for twin, count in places]
    columns = ["times a bare fake decision model", "sync, 1 question", "sync, 5", "async, 1", "async, 5"]
    note = "Medians over interleaved rounds. What is left to the large model contains one bare request."
    rows.append(["the bare one, microseconds", *bare])
    return [Table("decisions", "A request to our decision models", columns, rows, note)]
