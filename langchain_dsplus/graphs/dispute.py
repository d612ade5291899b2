"""`create_dispute_graph`: triage, transfer, adjudicate, check, a person where it is needed (paper, 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable
from typing_extensions import TypedDict

from langchain_dsplus.answer import Route
from langchain_dsplus.graphs.adjudicator import Adjudicator, Verdict, VerdictRecord
from langchain_dsplus.graphs.caching import cached_by
from langchain_dsplus.graphs.review import CheckRecord, Review, SwapCheck
from langchain_dsplus.graphs.settings import GraphContext
from langchain_dsplus.graphs.triage import Triage, settled
from langchain_dsplus.transfer import PromptTransfer, TransferRecord

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph


class DisputeState(TypedDict, total=False):
    """The state of a dispute graph: plain types, for any checkpointer."""

    statement: str
    """The input: what the narrator says."""
    triage: Route
    """What the small classifier decided, where there is one."""
    rewrite: str
    """What the adjudicator read: the rewrite, the original, or both."""
    transfer: TransferRecord
    verdict: VerdictRecord
    check: CheckRecord
    """What the second verdict said, where one is asked for."""


class _Statement(TypedDict):
    statement: str


class _Rewrite(TypedDict):
    rewrite: str


class _JudgedStatement(_Statement):
    verdict: VerdictRecord


class _JudgedRewrite(_Rewrite):
    verdict: VerdictRecord


def create_dispute_graph(
    small: Any,
    large: Runnable[Any, Any],
    *,
    triage: Any = None,
    triage_threshold: Any = 0.97,
    transfer: PromptTransfer | None = None,
    verdict_schema: Any = Verdict,
    check: bool | Runnable[Any, Any] = True,
    min_confidence: float | None = None,
    min_consistency: float = 0.6,
    review: bool = False,
    context_schema: type[Any] = GraphContext,
    checkpointer: Any = None,
    retry_policy: Any = None,
    cache_policy: Any = None,
    cache: Any = None,
    name: str = "dispute",
) -> CompiledStateGraph[DisputeState, Any, DisputeState, DisputeState]:
    """Build the dispute workflow: a small model rewrites the narrator's statement, the large model judges.

    `graph.invoke({"statement": ...})` returns a `DisputeState`. The nodes are ordinary Runnables, each usable in a
    graph of your own:

    - `triage` (`Triage`), if wanted: what a small classifier is sure of is settled, and nothing is paid for.
    - `transfer` (`PromptTransfer`): the small model rewrites, the fidelity check guards.
    - `adjudicate` (`Adjudicator`): facts, reasons, verdict.
    - `check` (`SwapCheck`): a second verdict with the parties swapped. Unless it is the same, the verdict becomes
      `unclear` with `needs_review`.
    - `review` (`Review`), if wanted: what the check does not let stand goes to a person, by `interrupt`.

    What is replayed from a cache, or resumed from a checkpoint, keeps the `usage` of the call that was paid for: for
    money use a `CostLedger`, which counts calls.

    Args:
        small: Whatever `PromptTransfer` takes: a chat model, a Runnable from text to text, "extractive". None leaves
            the rewriting out: the large model reads the statement as it is.
        large: The adjudicator's model; see `Adjudicator`.
        triage: A small classifier of statements, or a `ConfidenceRouter` around one; see `Triage`.
        triage_threshold: For a small classifier: accept iff confidence > threshold; or a `Certificate`. A run may set
            `dsplus_threshold`.
        transfer: A `PromptTransfer` with settings of your own, in place of `small` (pass None there). Its keys are set
            to those of `DisputeState`.
        verdict_schema: See `Adjudicator`.
        check: Whether a second verdict is asked for, which doubles what the judging costs; or another model to ask.
        min_confidence: Least confidence of a verdict, in [0, 1], where the model returns log-probabilities. A run may
            set `dsplus_min_confidence`. Without `check` it is held to the first verdict alone.
        min_consistency: A judge that agrees with itself in fewer of at least ten cases, asked twice, cannot judge: its
            verdicts become `unclear`, and the log says so once. 0 lets every judge judge. See `SwapCheck`.
        review: Whether a person decides what the check does not let stand. Needs a checkpointer.
        context_schema: Of the graph's runtime context; see `GraphContext`.
        checkpointer: As for `StateGraph.compile`. The state is plain: strict msgpack will do. With `review`, True
            stands for one that a parent graph or a server brings.
        retry_policy: LangGraph's `RetryPolicy` for the nodes that ask models: transfer, adjudicate, check.
        cache_policy: LangGraph's `CachePolicy` for transfer and adjudicate; equal texts to the same models hit. The
            check is never cached: what it finds depends on the run's settings.
        cache: As for `StateGraph.compile`.
        name: Name in traces.

    Returns:
        A compiled graph.

    Raises:
        ValueError: If both `small` and `transfer` are given, the schema has no field `verdict`, `review` has no
            checkpointer, or nothing that it could follow.

    Example:
        ```python
        graph = create_dispute_graph(small_chat_model, large_chat_model)
        state = graph.invoke({"statement": "My neighbor left his garbage at my door again, so I punched him."})
        state["verdict"]["verdict"], state["check"]["agree"], state["transfer"]["used"]
        ```
    """
    from langgraph.graph import END, START, StateGraph

    if transfer is not None and small is not None:
        raise ValueError("give `small` or `transfer`, not both")
    if transfer is None and small is not None:
        transfer = PromptTransfer(small)
    read = "statement" if transfer is None else "rewrite"
    judge = Adjudicator(model=large, verdict_schema=verdict_schema, input_key=read)
    checker = _checker(judge, check, min_confidence, min_consistency)
    if review:
        _check_review(checker, checkpointer)
    graph: Any = StateGraph(DisputeState, context_schema=context_schema)
    first = "adjudicate"
    if transfer is not None:
        keys = {"input_key": "statement", "output_key": "rewrite", "record_key": "transfer", "keep_input": False}
        graph.add_node(
            "transfer",
            transfer.model_copy(update=keys),
            input_schema=_Statement,
            retry_policy=retry_policy,
            cache_policy=cached_by(cache_policy, ["statement"], [transfer.model, repr(transfer)]),
        )
        graph.add_edge("transfer", "adjudicate")
        first = "transfer"
    if triage is not None:
        node = Triage(triage, threshold=triage_threshold, clear=("rewrite", "transfer", "verdict", "check"))
        graph.add_node("triage", node)
        graph.add_edge(START, "triage")
        graph.add_conditional_edges("triage", _triaged, {"accept": END, "escalate": first})
    else:
        graph.add_edge(START, first)
    graph.add_node(
        "adjudicate",
        judge,
        input_schema=_Statement if transfer is None else _Rewrite,
        retry_policy=retry_policy,
        cache_policy=cached_by(cache_policy, [read], [judge.model, repr(verdict_schema)]),
    )
    if checker is None:
        graph.add_edge("adjudicate", END)
        return graph.compile(checkpointer=checkpointer, cache=cache, name=name)  # type: ignore[no-any-return]
    judged = _JudgedStatement if transfer is None else _JudgedRewrite
    graph.add_node("check", checker, input_schema=judged, retry_policy=retry_policy)
    graph.add_edge("adjudicate", "check")
    if review:
        graph.add_node("review", Review(verdicts=judge.verdicts))
        graph.add_conditional_edges("check", _checked, {"agree": END, "doubt": "review"})
        graph.add_edge("review", END)
    else:
        graph.add_edge("check", END)
    return graph.compile(checkpointer=checkpointer, cache=cache, name=name)  # type: ignore[no-any-return]


def _check_review(checker: SwapCheck | None, checkpointer: Any) -> None:
    """Refuse a person's review that could not keep its state, or that nothing would lead to."""
    if checkpointer is None or checkpointer is False:
        raise ValueError(
            "`review` needs a checkpointer, which keeps the state until a person answers: pass "
            "`checkpointer=InMemorySaver()`, a SqliteSaver or PostgresSaver, or True where a parent graph or a server "
            "brings one"
        )
    if checker is None:
        raise ValueError("`review` follows a check: leave `check` on, or set `min_confidence`")


def _checker(
    judge: Adjudicator, check: bool | Runnable[Any, Any], least: float | None, consistency: float
) -> SwapCheck | None:
    """The node that checks, or None where there is nothing to check."""
    if check is False:
        return None if least is None else SwapCheck(min_confidence=least)
    model = judge.model if check is True else check
    second = Adjudicator(
        model=model, verdict_schema=judge.verdict_schema, input_key=judge.input_key, swapped=True, name="swapped"
    )
    return SwapCheck(judge=second, min_confidence=least, min_consistency=consistency)


def _triaged(state: DisputeState) -> str:
    return settled(state.get("triage"))


def _checked(state: DisputeState) -> str:
    check = state.get("check")
    return "agree" if check is not None and check["agree"] else "doubt"
