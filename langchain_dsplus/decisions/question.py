"""The router of one question, and the large model as it is asked that question alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from langchain_dsplus._drive import Plan
from langchain_dsplus.answer import Answer
from langchain_dsplus.decisions.large import as_answer, identity_of, one_answer
from langchain_dsplus.questions import fingerprint
from langchain_dsplus.routing.answering import ask_small
from langchain_dsplus.routing.decision import Item
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.routing.rows import Row
from langchain_dsplus.routing.runs import announce
from langchain_dsplus.routing.shadow import after
from langchain_dsplus.routing.steps import gather, large_config, make_item

_ID = "question"


class OneQuestion(RunnableSerializable[Any, Answer]):
    """A Runnable from a state to a large model's `Answer` to one question: for audits, and for what it is.

    Args:
        asks: From LangChain's requests to its responses, see `as_decisions`.
        question: The question.
        cut: From which probability on a `Noul` counts as yes.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    asks: Any
    question: Any
    cut: float = 0.5

    @property
    def InputType(self) -> Any:
        """A state."""
        return Any

    @property
    def OutputType(self) -> Any:
        """An `Answer`."""
        return dict[str, Any]

    def identity_parts(self) -> Any:
        """What it is, for certificates."""
        return [identity_of(self.asks), fingerprint(self.question), self.cut]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        """Ask about one state."""
        return self._raised(self.asks.invoke(self._request(input), config, **kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        """Async twin of `invoke`."""
        return self._raised(await self.asks.ainvoke(self._request(input), config, **kwargs))

    def _request(self, state: Any) -> dict[str, Any]:
        return {"state": state, "questions": {_ID: self.question}}

    def _raised(self, said: Any) -> Answer:
        found = as_answer(one_answer(said, _ID, self.question), self.question, self.cut)
        if isinstance(found, Exception):
            raise found
        return found


class QuestionRouter(ConfidenceRouter):
    """A `ConfidenceRouter` whose large model is asked together with those of other questions.

    `invoke` and all else works as in any router, with a state as its input and an `Answer` as its output; a
    `CascadeDecisionModel` takes its steps one by one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"to_output": _as_is, **kwargs})

    @property
    def waits(self) -> bool:
        """Whether its small model waits for others, so that async code must await it."""
        state = self._state
        return self.batch_wait is not None or any(model.traces_calls for model in state.models)

    def take(self, value: Any, run: Any, config: RunnableConfig, name: str) -> Item:
        """An input with what holds for it; the run is that of the whole request.

        Raises:
            ValueError: If a setting of the call is malformed or refused.
        """
        item = make_item(self._state, value, config, run)
        item.route_id = f"{item.route_id}:{name}"
        return item

    def ask(self, items: Sequence[Item]) -> Plan[None]:
        """Ask the small model, and write into the items what is accepted."""
        return ask_small(self._state, items)

    def for_large(self, item: Item, others: Sequence[QuestionRouter] = ()) -> RunnableConfig:
        """The config of the large model's run, for all that asks it together with this item.

        What it uses is written down with this item; what it calls itself all certificates hear.
        """
        config = large_config(self._state, item)
        for other in others:
            if other._state.reported is not None:  # noqa: SLF001 - of its own class
                config["callbacks"].add_handler(other._state.reported, inherit=True)  # type: ignore[union-attr] # noqa: SLF001
        return config

    def conclude(self, items: Sequence[Item], hard: Sequence[Item], answers: Sequence[Any]) -> Plan[list[Any]]:
        """Per item its `Answer` and route, or its exception; recorded, told, and what no reply waits for started."""
        state = self._state
        results = gather(state, items, hard, answers)
        for item, result in zip(items, results, strict=True):
            if not isinstance(result, BaseException):
                yield from announce(state, item.run, result[1])
        yield from after(state, items, {})
        return results


class AsRead:
    """A recorder that gets what the small model reads of a state in its place: rows that it can be taught with."""

    def __init__(self, recorder: Any, read: Callable[[Any], Any]) -> None:
        self._recorder, self._read = recorder, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)

    def record(self, row: Row) -> None:
        """Hand a row on; a state that cannot be read stays as it is."""
        if "input" in row:
            with contextlib.suppress(Exception):
                row = {**row, "input": self._read(row["input"])}
        self._recorder.record(row)


def _as_is(answer: Answer, _: Any) -> Answer:
    return answer
