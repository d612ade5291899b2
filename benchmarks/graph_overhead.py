"""What the nodes of the graphs and the agent's middleware cost per call, against the same graph with trivial nodes.

All in one process, interleaved, with fakes in place of every model. "Bare" is an ordinary `StateGraph` of the same
shape whose nodes return, at once, what ours would: the rest is what LangGraph itself costs. `node.X` is a graph of one
node, ours over bare; `graph.X` the whole graph on one way through it; `agent.X` an agent with
`ConfidenceShuntMiddleware` over the same agent without it (local: its model is not even called). Ratios are medians
over rounds.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Context, Figures, Table, ainterleave, interleave, interval, number, quartiles, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

EASY, MIDDLING, HARD = "great, works as described", "not bad at all", "well, it is what it is"
SURE, DOUBT = {"pos": 0.99, "neg": 0.01}, {"pos": 0.6, "neg": 0.4}
SMALL = {EASY: SURE, MIDDLING: DOUBT, HARD: DOUBT}
LEARNED = {EASY: SURE, MIDDLING: SURE, HARD: DOUBT}
THRESHOLD = 0.9
ROUNDS, CALLS = (21, 5), (20, 4)
"""Full and quick: how often each is timed, and the calls each time."""
STATEMENT = "My neighbor Ada Lund parked on my lawn for 2 days. I let the air out of her tires."
REWRITE = "Ada Lund parked on the lawn of the narrator for 2 days. The narrator let the air out of her tires."

Pair = tuple[Any, Any, dict[str, Any]]
"""Ours, bare, input."""
NOT_RECHECKED = "every figure is a time, or a ratio of times, of the machine that it was measured on"


def fake_chat(text: str) -> Any:
    """A chat model that answers at once, with usage, as a real one would."""
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    def message() -> AIMessage:
        usage = {"input_tokens": 20, "output_tokens": 1, "total_tokens": 21}
        return AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "fake"})

    return GenericFakeChatModel(messages=(message() for _ in itertools.count()))


def bare(update: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    """A node that does nothing but return an update."""

    def node(_: Any) -> dict[str, Any]:
        return update

    return node


def one_node(schema: Any, node: Any) -> Any:
    """A graph of a single node."""
    from langgraph.graph import END, START, StateGraph

    graph = StateGraph(schema)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph.compile()


def twin(graph: Any, schema: Any, value: dict[str, Any]) -> Any:
    """A bare graph of the nodes that one run goes through, each returning what ours returned in that run."""
    from langgraph.graph import END, START, StateGraph

    copy = StateGraph(schema)
    before = START
    for step in graph.stream(value, stream_mode="updates"):
        for name, update in step.items():
            copy.add_node(name, bare(update))
            copy.add_conditional_edges(before, lambda _: "on", {"on": name, "end": END})
            before = name
    copy.add_edge(before, END)
    return copy.compile()


def classification() -> dict[str, Pair]:
    """The classification graph: its nodes, and the three ways through it."""
    from langchain_dsplus import FakeSmallModel, PromptPruner
    from langchain_dsplus.graphs import ClassificationState, GraphRouter, create_dsplus_graph

    pruner = PromptPruner.from_messages([("human", "{text}")], labels=["pos", "neg"])
    steps = GraphRouter(
        small=[FakeSmallModel(SMALL), FakeSmallModel(LEARNED, name="learned")],
        large=pruner.chain(fake_chat("neg")),
        threshold=THRESHOLD,
    )
    graph = create_dsplus_graph(steps)
    made: dict[str, Pair] = {}
    state: dict[str, Any] = {"text": HARD}
    for update in graph.stream(state, stream_mode="updates"):
        ((name, change),) = update.items()
        ours = one_node(ClassificationState, steps.node(name))
        made[f"node.{name}"] = (ours, one_node(ClassificationState, bare(change)), dict(state))
        state |= change
    for name, text in (("accepted_first", EASY), ("accepted_second", MIDDLING), ("escalated", HARD)):
        made[f"graph.{name}"] = (graph, twin(graph, ClassificationState, {"text": text}), {"text": text})
    return made


def dispute() -> dict[str, Pair]:
    """The dispute graph: its nodes, and the two ways through it that need no person."""
    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import FakeSmallModel
    from langchain_dsplus.graphs import Adjudicator, DisputeState, SwapCheck, Triage, create_dispute_graph
    from langchain_dsplus.transfer import PromptTransfer

    def rewrite(_: str) -> str:
        return REWRITE

    transfer = PromptTransfer(RunnableLambda(rewrite), "statement", "rewrite")
    judge = Adjudicator(model=fake_chat("both"))
    second = Adjudicator(model=fake_chat("both"), swapped=True)
    small = FakeSmallModel({STATEMENT: DOUBT, EASY: SURE})
    nodes = {
        "triage": Triage(small, threshold=THRESHOLD),
        "transfer": transfer,
        "adjudicate": judge,
        "check": SwapCheck(judge=second),
    }
    made: dict[str, Pair] = {}
    state: dict[str, Any] = {"statement": STATEMENT}
    for name, node in nodes.items():
        change = node.invoke(state)
        made[f"node.{name}"] = (one_node(DisputeState, node), one_node(DisputeState, bare(change)), dict(state))
        state |= change
    graph = create_dispute_graph(
        None, fake_chat("both"), transfer=transfer, triage=small, triage_threshold=THRESHOLD
    )  # fmt: skip
    for name, text in (("settled", EASY), ("judged", STATEMENT)):
        value = {"statement": text}
        made[f"graph.{name}"] = (graph, twin(graph, DisputeState, value), value)
    return made


def agent() -> dict[str, Pair]:
    """An agent with the middleware and without; nothing where `langchain` is not installed."""
    if importlib.util.find_spec("langchain") is None:
        return {}
    if importlib.util.find_spec("langchain_dsplus.middleware") is None:
        return {}
    from langchain.agents import create_agent
    from langchain_core.messages import HumanMessage

    from langchain_dsplus import FakeSmallModel
    from langchain_dsplus.middleware import ConfidenceShuntMiddleware

    shunt = ConfidenceShuntMiddleware(
        FakeSmallModel(SMALL), threshold=THRESHOLD, answers={"pos": "Thank you!", "neg": "We are sorry."}
    )
    ours = create_agent(fake_chat("hello"), middleware=[shunt])
    plain = create_agent(fake_chat("hello"))
    return {
        f"agent.{name}": (ours, plain, {"messages": [HumanMessage(text)]})
        for name, text in (("accepted", EASY), ("escalated", HARD))
    }


def check(made: dict[str, Pair]) -> None:
    """What is timed must do what is claimed.

    Raises:
        RuntimeError: If a graph takes another way than its name says.
    """
    wanted = {"accepted_first": "small", "accepted_second": "learned", "escalated": "large"}
    for name, model in wanted.items():
        ours, _, value = made[f"graph.{name}"]
        if ours.invoke(value)["route"]["model"] != model:
            msg = f"graph.{name} was not answered by {model}"
            raise RuntimeError(msg)
    for name, method in (("settled", "triage"), ("judged", "text")):
        ours, _, value = made[f"graph.{name}"]
        state = ours.invoke(value)
        if state["verdict"]["method"] != method:
            msg = f"graph.{name} was not decided by {method}"
            raise RuntimeError(msg)
    for name, text in (("accepted", "Thank you!"), ("escalated", "hello")):
        if f"agent.{name}" in made:
            ours, _, value = made[f"agent.{name}"]
            if ours.invoke(value)["messages"][-1].text != text:
                msg = f"agent.{name} got another answer"
                raise RuntimeError(msg)


def run(context: Context) -> Figures:
    made = {**classification(), **dispute(), **agent()}
    check(made)
    rounds, calls = context.pick(*ROUNDS), context.pick(*CALLS)
    sync: dict[str, Callable[[], Any]] = {}
    twins: dict[str, Callable[[], Any]] = {}
    for name, (ours, plain, value) in made.items():
        for side, graph in (("ours", ours), ("bare", plain)):
            sync[f"{name}.{side}"] = lambda graph=graph, value=value: graph.invoke(value)
            twins[f"{name}.{side}"] = lambda graph=graph, value=value: graph.ainvoke(value)
    figures: Figures = {}
    with context.progress("calls of graphs", 2 * rounds) as advance:
        seconds = interleave(sync, rounds=rounds, number=calls, rng=context.random("sync"), advance=advance)
        figures |= compare(made, seconds, "")
        seconds = asyncio.run(
            ainterleave(twins, rounds=rounds, number=calls, rng=context.random("async"), advance=advance)
        )
        figures |= compare(made, seconds, "_async")
    return figures


def compare(made: dict[str, Pair], seconds: dict[str, list[float]], twin: str) -> Figures:
    """Ratios, and what ours costs on top, in microseconds."""
    figures: Figures = {}
    for name in made:
        ours, plain = seconds[f"{name}.ours"], seconds[f"{name}.bare"]
        figures |= ratio(f"ratio{twin}.{name}", ours, plain)
        figures[f"microseconds{twin}.{name}.ours"] = 1e6 * quartiles(ours)[1]
        figures[f"microseconds{twin}.{name}.bare"] = 1e6 * quartiles(plain)[1]
    return figures


ROWS = {
    "node.small": "`small`: asks the small model",
    "node.learnable": "`learnable`: asks the next",
    "node.prune": "`prune`: the prompt",
    "node.large": "`large`: one fake chat call",
    "node.parse": "`parse`: the label",
    "graph.accepted_first": "classification, accepted by the first small model",
    "graph.accepted_second": "classification, accepted by the second",
    "graph.escalated": "classification, escalated",
    "node.triage": "`triage`: asks the small classifier",
    "node.transfer": "`transfer`: a fake rewrite and the fidelity check",
    "node.adjudicate": "`adjudicate`: one fake chat call",
    "node.check": "`check`: another",
    "graph.settled": "dispute, settled by the triage",
    "graph.judged": "dispute, judged twice",
    "agent.accepted": "agent with the middleware, answered locally",
    "agent.escalated": "agent with the middleware, passed on",
}


def tables(figures: Figures) -> list[Table]:
    rows = []
    for key, title in ROWS.items():
        if figures and f"ratio.{key}" not in figures:
            continue
        rows.append(
            [
                title,
                interval(figures, f"ratio.{key}", 2),
                interval(figures, f"ratio_async.{key}", 2),
                number(figures, f"microseconds.{key}.ours", 0),
                number(figures, f"microseconds.{key}.bare", 0),
            ]
        )
    return [
        Table(
            "graph_overhead",
            "Our nodes over trivial ones in the same graph, per call",
            ["", "ratio", "ratio, async", "microseconds, ours", "microseconds, bare"],
            rows,
            "Ratios are medians (quartiles) over interleaved rounds. The bare graph has the same nodes and edges, and "
            "returns the same updates at once; the bare agent is the same without the middleware, and always calls its "
            "fake model.",
        )
    ]
