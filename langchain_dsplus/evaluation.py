"""Ready-made evaluators for LangSmith's `evaluate`, online or offline: accuracy, escalation, cost, swap consistency.

They are plain functions of `outputs` and `reference_outputs`, and so work in a loop of your own as well.

Example:
    ```python
    from uuid import uuid4

    from langsmith import evaluate
    from langsmith.schemas import Example
    from langchain_dsplus import ConfidenceRouter, evaluation

    router = ConfidenceRouter(small=small, large=chain, threshold=0.9)
    rows = [("Where is my parcel?", "shipping")]
    examples = [Example(id=uuid4(), inputs={"text": text}, outputs={"label": label}) for text, label in rows]
    evaluate(
        evaluation.Target(router),  # `input_key="text"` for a router whose input is the text alone
        data=examples,
        evaluators=[evaluation.accuracy, evaluation.escalation, evaluation.cost],
        upload_results=False,
    )
    ```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Unpack

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel
from typing_extensions import TypedDict

from langchain_dsplus._shown import Shown
from langchain_dsplus.costs.ledger import CostLedger
from langchain_dsplus.outcomes.cells import to_text
from langchain_dsplus.outcomes.gold import GoldOptions, GoldRules, read_labels
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.tags import ROUTE_KEY
from langchain_dsplus.traces.recorder import plain
from langchain_dsplus.transfer.verdicts import SWAPPED

_LABEL_KEYS = ("label", "verdict", "choice", "output", "answer")
_ROUTE_KEYS = ("route", "dsplus_route", "triage")


class Feedback(TypedDict):
    """What an evaluator says, as LangSmith reads it."""

    key: str
    score: float | None
    """None where it could not be told; then `comment` says why."""
    comment: str | None


class Target(Shown):
    """Makes a router, a graph or a chat model a target for `evaluate`, with the cost of each input beside its output.

    It returns a plain dict: `output` (a graph's state: its keys), `route` where there is one, `cost` in the ledger's
    currency (None where a price is unknown), and `ledger`, the rows of the `CostLedger`. With `upload_results=False`
    nothing is sent. For `aevaluate` pass its method `acall`; LangSmith's own async runs are sent all the same (0.15).

    Args:
        runnable: A `ConfidenceRouter`, a compiled graph, a chat model, or any other Runnable.
        input_key: Which of an example's inputs the Runnable gets; None passes the whole dict.
        prices: As for `CostLedger`.
        config: Passed to every call, for example `{"configurable": {"dsplus_mode": "off"}}`.

    Example:
        >>> from langchain_dsplus import ConfidenceRouter, FakeSmallModel
        >>> small = FakeSmallModel({"great!": {"pos": 0.99, "neg": 0.01}})
        >>> router = ConfidenceRouter(small=small, large=lambda text: "neg", to_output=lambda a, _: a["choice"])
        >>> outputs = Target(router, input_key="text")({"text": "great!"})
        >>> outputs["output"], outputs["cost"]
        ('pos', 0.0)
    """

    def __init__(
        self,
        runnable: Runnable[Any, Any],
        *,
        input_key: str | None = None,
        prices: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        # Whatever the router's outputs are: the evaluators want the route beside them.
        if isinstance(runnable, ConfidenceRouter) and not runnable.include_route:
            runnable = runnable.model_copy(update={"include_route": True})
        self.runnable = runnable
        self.input_key = input_key
        self.prices = prices
        self.config = dict(config or {})
        self.__name__ = runnable.get_name()

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run one example."""
        ledger, config = self._begin()
        with _offline():
            return self._end(self.runnable.invoke(self._read(inputs), config), ledger)

    async def acall(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Async twin of calling it."""
        ledger, config = self._begin()
        with _offline():
            return self._end(await self.runnable.ainvoke(self._read(inputs), config), ledger)

    def _begin(self) -> tuple[CostLedger, Any]:
        ledger = CostLedger(self.prices)
        return ledger, {**self.config, "callbacks": [*(self.config.get("callbacks") or []), ledger]}

    def _read(self, inputs: dict[str, Any]) -> Any:
        if self.input_key is None:
            return inputs
        if self.input_key not in inputs:
            raise KeyError(f"the example's inputs have no {self.input_key!r} (`input_key`), only {sorted(inputs)}")
        return inputs[self.input_key]

    @staticmethod
    def _end(output: Any, ledger: CostLedger) -> dict[str, Any]:
        route = read_route(output)
        shown = plain(output)
        outputs = dict(shown) if isinstance(shown, dict) and isinstance(output, Mapping) else {"output": shown}
        if isinstance(output, BaseMessage):
            outputs = {"output": str(output.text)}
        if route is not None:
            outputs["route"] = plain(route)
        outputs["cost"] = ledger.cost
        outputs["ledger"] = ledger.table()
        return outputs


def accuracy(outputs: Mapping[str, Any], reference_outputs: Mapping[str, Any]) -> Feedback:
    """1 if the label is the reference's, else 0; capitals and blanks around do not count.

    The label is the value of the first of these keys that is there: `label`, `verdict`, `choice`, `output`, `answer`,
    or the text of the last of `messages`.

    Example:
        >>> accuracy({"output": " Narrator"}, {"verdict": "narrator"})["score"]
        1.0
    """
    wanted = read_label(reference_outputs)
    if wanted is None:
        return Feedback(key="accuracy", score=None, comment=f"the reference has none of {_LABEL_KEYS}")
    found = read_label(outputs)
    if found is None:
        return Feedback(key="accuracy", score=0.0, comment="no label in the outputs")
    return Feedback(key="accuracy", score=float(_same(found, wanted)), comment=None)


class Accuracy(Shown):
    """`accuracy` over a known list of labels: a reference that is none of them is an error, never a miss.

    Labels are compared exactly as they are spelled.

    Raises:
        ValueError: When it is called, if the reference is none of the labels; the message says what to pass.

    Example:
        >>> judge = Accuracy(["0", "1"], gold_map={"yes": "1"}, unknown_gold="n/a")
        >>> [judge({"label": "1"}, {"label": gold})["score"] for gold in ("yes", 0.0, "n/a")]
        [1.0, 0.0, None]
    """

    def __init__(
        self,
        labels: Sequence[str],
        **gold_rules: Unpack[GoldOptions],
    ) -> None:
        self.labels = list(labels)
        self.rules = GoldRules.of(**gold_rules)
        self.rules.fit(self.labels)
        self.__name__ = "accuracy"

    def __call__(self, outputs: Mapping[str, Any], reference_outputs: Mapping[str, Any]) -> Feedback:
        """Judge one example."""
        wanted = read_labels([read_label(reference_outputs)], self.labels, self.rules, where="`reference_outputs`: ")[0]
        if wanted is None:
            return Feedback(key="accuracy", score=None, comment="nobody knows the label of this reference")
        return Feedback(key="accuracy", score=float(read_label(outputs) == wanted), comment=None)


def escalation(outputs: Mapping[str, Any]) -> Feedback:
    """1 if the large model was asked, 0 if a small model answered; the mean is the escalation rate.

    Example:
        >>> escalation({"route": {"accepted": True, "reason": "confident"}})["score"]
        0.0
    """
    route = read_route(outputs)
    if route is None:
        return Feedback(key="escalation", score=None, comment="no Route in the outputs: wrap the router in `Target`")
    return Feedback(key="escalation", score=float(not route["accepted"]), comment=str(route.get("reason")))


def cost(outputs: Mapping[str, Any]) -> Feedback:
    """What the input cost on both sides together, in the ledger's currency.

    Example:
        >>> cost({"cost": 0.002})["score"]
        0.002
    """
    if "cost" not in outputs:
        return Feedback(key="cost", score=None, comment="no cost in the outputs: wrap the Runnable in `Target`")
    unknown = None if outputs["cost"] is not None else "a model's price is unknown: pass `prices=` to `Target`"
    return Feedback(key="cost", score=outputs["cost"], comment=unknown)


def swap_consistency(outputs: Sequence[Mapping[str, Any]], reference_outputs: Sequence[Mapping[str, Any]]) -> Feedback:
    """Share of disputes whose verdict is the same whoever tells the story; a summary evaluator.

    The two accounts of one dispute are the examples whose reference outputs have the same `pair`; in the second one the
    narrator is the other party of the first.

    Example:
        >>> pair = {"pair": "garden"}
        >>> swap_consistency([{"verdict": "narrator"}, {"verdict": "other party"}], [pair, pair])["score"]
        1.0
    """
    pairs: dict[Any, list[str | None]] = {}
    for output, reference in zip(outputs, reference_outputs, strict=True):
        if reference.get("pair") is not None:
            pairs.setdefault(reference["pair"], []).append(read_label(output))
    whole = [verdicts for verdicts in pairs.values() if len(verdicts) == 2]
    if not whole:
        return Feedback(key="swap_consistency", score=None, comment="no two references have the same `pair`")
    same = sum(
        first is not None and second is not None and _same(first, SWAPPED.get(second, second))
        for first, second in whole
    )
    comment = f"{len(whole)} pairs; {len(pairs) - len(whole)} without exactly two accounts"
    return Feedback(key="swap_consistency", score=same / len(whole), comment=comment)


def read_label(outputs: Any) -> str | None:
    """The label in an example's outputs; None where there is none."""
    if isinstance(outputs, str):
        return outputs.strip()
    if isinstance(outputs, (int, float)):  # of a data set whose labels are numbers, or true and false
        try:
            return to_text(outputs)
        except TypeError:
            return str(outputs)
    if isinstance(outputs, BaseMessage):
        return str(outputs.text).strip()
    if isinstance(outputs, BaseModel):
        return read_label(outputs.model_dump())
    if isinstance(outputs, Mapping):
        for key in _LABEL_KEYS:
            if outputs.get(key) is not None:
                return read_label(outputs[key])
        messages = outputs.get("messages")
        if messages:
            return read_label(messages[-1])
        content = outputs.get("content")
        return content.strip() if isinstance(content, str) else None
    return None


def read_route(outputs: Any) -> Mapping[str, Any] | None:
    """The `Route` in an output: beside it, in its message, or in the last message of a state."""
    if isinstance(outputs, BaseMessage):
        found = outputs.response_metadata.get(ROUTE_KEY)
        return found if isinstance(found, Mapping) else None
    if not isinstance(outputs, Mapping):
        return None
    for key in _ROUTE_KEYS:
        route = outputs.get(key)
        if isinstance(route, Mapping) and "accepted" in route:
            return route
    for inner in (outputs.get("output"), (outputs.get("messages") or [None])[-1]):
        if isinstance(inner, BaseMessage):
            return read_route(inner)
    return None


def _offline() -> AbstractContextManager[Any]:
    """With `upload_results=False` LangSmith keeps its own runs local, but LangChain's tracer would still send."""
    from langsmith.run_helpers import get_tracing_context, tracing_context

    return tracing_context(enabled=False) if get_tracing_context().get("enabled") == "local" else nullcontext()


def _same(first: str, second: str) -> bool:
    return first.strip().casefold() == second.strip().casefold()
