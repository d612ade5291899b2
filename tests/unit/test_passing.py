"""Cancellation, Ctrl-C, the end of a program and LangGraph's interrupts pass through every door; answers they never are."""

import asyncio
import itertools
import math

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.errors import GraphInterrupt, NodeCancelledError

from langchain_dsplus import (
    ConfidenceRouter,
    CostLedger,
    FakeSmallModel,
    LabelParser,
    PromptPruner,
    PromptTransfer,
    SmallModel,
    collect_outcomes,
    create_dsplus_graph,
)
from langchain_dsplus.answer import must_pass, pass_on
from langchain_dsplus.learning.targets import ask_large

KINDS = [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit, GraphInterrupt]
LABELS = ["a", "b"]
HARD = {"a": 0.5, "b": 0.5}
INPUTS = [{"text": "hard"}, {"text": "easy"}, {"text": "hard"}]


class Chat(BaseChatModel):
    """Says `a`, or raises."""

    kind: object = None
    told: dict | None = None

    @property
    def _llm_type(self):
        return "chat"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.kind is not None:
            raise self.kind()
        usage = None if self.told is None else {**self.told, "total_tokens": sum(self.told.values())}
        return ChatResult(generations=[ChatGeneration(message=AIMessage("a", usage_metadata=usage))])


class Rows:
    """A recorder."""

    def __init__(self, kind=None):
        self.rows, self.kind = [], kind

    def record(self, row):
        self.rows.append(row)
        if self.kind is not None:
            raise self.kind()


class Returning(RunnableLambda):
    """Gives what it should raise back from a batch, as LangChain's sequences do."""

    def __init__(self, kind):
        def answer(_):
            raise kind

        self.kind = kind
        super().__init__(answer)

    def invoke(self, *args, **kwargs):
        raise self.kind

    async def ainvoke(self, *args, **kwargs):
        raise self.kind

    def batch(self, inputs, *args, **kwargs):
        return ["a", *(self.kind() for _ in inputs[1:])] if len(inputs) > 1 else [self.kind()]

    async def abatch(self, inputs, *args, **kwargs):
        return self.batch(inputs)


class Broken(SmallModel):
    """An embedded model that raises."""

    kind: object

    def predict_proba(self, inputs):
        raise self.kind


def small():
    return FakeSmallModel({"easy": {"a": 0.99, "b": 0.01}}, LABELS, default=HARD, input_key="text")


def chain(kind=None, **more):
    return (
        PromptPruner.from_messages([("human", "{text}")], labels=LABELS) | Chat(kind=kind, **more) | LabelParser(LABELS)
    )


def raising(kind):
    def answer(_):
        raise kind

    return RunnableLambda(answer)


PLACES = {
    "small": lambda kind: {"small": Broken(kind=kind, labels=LABELS), "large": chain()},
    "small-runnable": lambda kind: {"small": raising(kind), "large": chain()},
    "small-sequence": lambda kind: {"small": RunnableLambda(lambda x: x) | raising(kind), "large": chain()},
    "small-returned": lambda kind: {"small": Returning(kind), "large": chain()},
    "small-timed": lambda kind: {"small": Broken(kind=kind, labels=LABELS), "large": chain(), "small_timeout": 5},
    "large": lambda kind: {"small": small(), "large": chain(kind)},
    "large-lambda": lambda kind: {"small": small(), "large": raising(kind).with_types(output_type=str)},
    "large-sequence": lambda kind: {
        "small": small(),
        "large": RunnableLambda(lambda x: x) | raising(kind).with_types(output_type=str),
    },
    "large-returned": lambda kind: {"small": small(), "large": Returning(kind).with_types(output_type=str)},
    "large-retried": lambda kind: {
        "small": small(),
        "large": chain(kind).with_retry(retry_if_exception_type=(ValueError,)),
    },
    "recorder": lambda kind: {"small": small(), "large": chain(), "recorder": Rows(kind)},
}


async def drained(source):
    return [part async for part in source]


DOORS = {
    "invoke": lambda r, **_: r.invoke(INPUTS[0]),
    "ainvoke": lambda r, **_: asyncio.run(r.ainvoke(INPUTS[0])),
    "batch": lambda r, **more: r.batch(INPUTS, **more),
    "abatch": lambda r, **more: asyncio.run(r.abatch(INPUTS, **more)),
    "batch_as_completed": lambda r, **more: list(r.batch_as_completed(INPUTS, **more)),
    "abatch_as_completed": lambda r, **more: asyncio.run(drained(r.abatch_as_completed(INPUTS, **more))),
    "stream": lambda r, **_: list(r.stream(INPUTS[0])),
    "astream": lambda r, **_: asyncio.run(drained(r.astream(INPUTS[0]))),
    "node": lambda r, **_: r.as_node().invoke(INPUTS[0]),
    "anode": lambda r, **_: asyncio.run(r.as_node().ainvoke(INPUTS[0])),
}
BATCHES = ("batch", "abatch", "batch_as_completed", "abatch_as_completed")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("door", DOORS)
def test_they_pass_through_every_door(place, door):
    for kind, on_large_error in itertools.product(KINDS, ["raise", "small"]):
        # GeneratorExit ends a stream, for Python and for LangChain, and no coroutine can pass it on.
        if kind is GeneratorExit and (door == "stream" or door.startswith("a")):
            continue
        router = ConfidenceRouter(threshold=0.9, on_large_error=on_large_error, **PLACES[place](kind))
        for options in ({}, {"return_exceptions": True}) if door in BATCHES else ({},):
            with pytest.raises(kind):
                DOORS[door](router, **options)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_call_that_was_cut_short_has_a_row(door, kind):
    rows = Rows()
    with CostLedger() as ledger, pytest.raises(kind):
        DOORS[door](ConfidenceRouter(small=small(), large=chain(kind), threshold=0.9, recorder=rows))
    failed = [row for row in rows.rows if "error" in row]
    # Where it ends the event loop, the loop cancels what runs.
    assert {row["error"] for row in failed} <= {f"large: {kind.__name__}", "large: CancelledError"}
    # A call that a batch did not come to has cost nothing.
    assert {row.get("calls_without_usage", 0) for row in failed} in ({1}, {0, 1})
    assert all(row["kind"] == "route" and "usage" not in row for row in failed)
    total = ledger.total()
    assert total["unmetered"] >= 1
    assert not total["complete"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_finished_is_recorded_and_goes_with_the_error(kind):
    rows = Rows()
    router = ConfidenceRouter(
        small=small(), large=Returning(kind).with_types(output_type=str), threshold=0.9, recorder=rows
    )
    with pytest.raises(kind) as caught:
        router.batch(INPUTS)
    assert caught.value.dsplus_finished == {0: "a", 1: "a"}
    assert [row.get("output") for row in rows.rows if "error" not in row] == ["a", "a"]


@pytest.mark.parametrize("return_exceptions", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda kind: ConfidenceRouter(small=small(), large=chain(kind), threshold=0.9),
        lambda kind: PromptPruner.from_messages([("human", "{text}")], labels=LABELS).chain(Chat(kind=kind)),
        lambda kind: Broken(kind=kind, labels=LABELS),
    ],
    ids=["router", "chain", "small"],
)
def test_a_cancelled_batch_cancels_its_task_group(make, return_exceptions):
    async def run():
        part = make(asyncio.CancelledError)
        async with asyncio.TaskGroup() as group:
            return group.create_task(part.abatch(INPUTS, return_exceptions=return_exceptions))

    assert asyncio.run(run()).cancelled()


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_ready_made_graph(kind):
    rows = Rows()
    graph = create_dsplus_graph(small(), Chat(kind=kind), threshold=0.9, recorder=rows)
    if kind is GraphInterrupt:  # that is how a graph stops
        assert "label" not in graph.invoke({"text": "hard"})
        assert rows.rows == []
        return
    with pytest.raises((kind, NodeCancelledError)):  # LangGraph's own name for it
        graph.invoke({"text": "hard"})
    assert [row["error"] for row in rows.rows] == [f"large: {kind.__name__}"]


@pytest.mark.parametrize("kind", KINDS)
def test_in_what_asks_many(kind, tmp_path):
    with pytest.raises(kind):
        PromptTransfer(raising(kind), input_key="text", output_key="short").invoke({"text": "He left at nine."})
    with pytest.raises(kind):
        ask_large(Returning(kind), ["x", "y"], [0, 1])
    rows = [{"id": str(n), "input": {"text": "hard"}} for n in range(2)]
    with pytest.raises(kind):
        collect_outcomes(small(), chain(kind), rows, path=tmp_path / "kept.jsonl", progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_rule(kind):
    assert must_pass(kind())
    with pytest.raises(kind):
        pass_on(["a", ValueError(), kind()])
    failed = ValueError()
    assert pass_on(["a", failed]) == ["a", failed]
    assert not must_pass(kind)  # a class is no exception


@pytest.mark.parametrize("asynchronous", [False, True])
def test_usage_of_a_chain_that_gives_a_text_is_recorded(asynchronous):
    rows = Rows()
    large = chain(told={"input_tokens": 7, "output_tokens": 2})
    router = ConfidenceRouter(small=small(), large=large, threshold=math.inf, recorder=rows)
    asyncio.run(router.abatch(INPUTS)) if asynchronous else router.batch(INPUTS)
    assert [row["usage"] for row in rows.rows] == [{"input_tokens": 7, "output_tokens": 2, "total_tokens": 9}] * 3
    assert not any("calls_without_usage" in row for row in rows.rows)
