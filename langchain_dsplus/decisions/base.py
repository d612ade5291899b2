"""A decision model whose answering is a plan: what is done stands once, for one request and many, sync and async."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from langchain_core.decisions import BaseDecisionModel, ClassifierRequest, ClassifierResponse, Question, State
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list, run_in_executor
from pydantic import ConfigDict

from langchain_dsplus import _drive
from langchain_dsplus._drive import Call, Plan
from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import pass_on
from langchain_dsplus.costs.usage import OWN_PROVIDER

T = TypeVar("T")


class PlannedDecisionModel(BaseDecisionModel):
    """A decision model that answers a batch at once, by one plan; a single request is a batch of one."""

    __str__ = fields_in_words

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    @property
    def _provider(self) -> str:
        return OWN_PROVIDER

    @abstractmethod
    def _answer(
        self, requests: Sequence[ClassifierRequest], runs: Sequence[Any], configs: Sequence[RunnableConfig]
    ) -> Plan[list[Any]]:
        """Per request its response or its exception; the runs are theirs, and so are the configs."""

    @property
    def embedded(self) -> bool:
        """Whether nothing below needs to know of the run: then it need not be told, which costs time."""
        return False

    def _alone(self, request: ClassifierRequest) -> Any:
        return _only(_drive.run(self._answer([request], [None], [{}])))

    def _one(self, request: ClassifierRequest, run: Any, config: RunnableConfig) -> Plan[Any]:
        return _only((yield from self._answer([request], [run], [config])))

    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        found: ClassifierResponse = self.invoke({"state": state, "questions": questions})
        return found

    async def _aclassify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        found: ClassifierResponse = await self.ainvoke({"state": state, "questions": questions})
        return found

    def invoke(self, input: ClassifierRequest, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Answer one request, as one traced run."""
        call = self._alone if self.embedded else _drive.driven(self._one)
        return self._call_with_config(call, input, self._traced_config(config), run_type="llm")

    async def ainvoke(self, input: ClassifierRequest, config: RunnableConfig | None = None, **_: Any) -> Any:
        """Async twin of `invoke`; embedded small models run in an executor thread."""
        call: Any = _drive.adriven(self._one)
        return await self._acall_with_config(call, input, self._traced_config(config), run_type="llm")

    def batch(
        self,
        inputs: list[ClassifierRequest],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[Any]:
        """Answer a list of requests: one batch of each small model.

        If one fails and `return_exceptions` is False, its error is raised with an attribute `dsplus_finished`: a dict
        from index to the responses that were finished, since they may have been paid for.
        """
        call: Any = _drive.driven(self._answer)
        configs = [self._traced_config(one) for one in get_config_list(config, len(inputs))]
        found = self._batch_with_config(call, inputs, configs, return_exceptions=True, run_type="llm")
        return _unpacked(found, return_exceptions=return_exceptions)

    async def abatch(
        self,
        inputs: list[ClassifierRequest],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[Any]:
        """Async twin of `batch`."""
        call: Any = _drive.adriven(self._answer)
        configs = [self._traced_config(one) for one in get_config_list(config, len(inputs))]
        found = await self._abatch_with_config(call, inputs, configs, return_exceptions=True, run_type="llm")
        return _unpacked(found, return_exceptions=return_exceptions)


def _only(found: Sequence[Any]) -> Any:
    (result,) = found
    if isinstance(result, Exception):
        raise result
    return result


def _unpacked(found: list[Any], *, return_exceptions: bool) -> list[Any]:
    error = next((one for one in pass_on(found) if isinstance(one, Exception)), None)
    if error is not None and not return_exceptions:
        finished(error, {place: one for place, one in enumerate(found) if not isinstance(one, Exception)})
        raise error
    return found


def finished(error: BaseException, done: Any) -> None:
    """Put on an error what was finished beside it: it may have been paid for."""
    with contextlib.suppress(AttributeError, TypeError):
        error.dsplus_finished = done  # type: ignore[attr-defined]


def small_side(plan: Plan[T], *, inline: bool) -> Call:
    """All that small models are asked about a request; embedded ones in async code in one thread, not one for each.

    Args:
        plan: Asks them.
        inline: Whether one of them waits for others (a chat model does): then the plan is awaited itself.
    """
    return Call(_drive.run, _drive.arun if inline else _in_thread, plan)


async def _in_thread(plan: Plan[T]) -> T:
    return await run_in_executor(None, partial(_drive.run, plan))
