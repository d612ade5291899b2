"""Runnables whose work is a plan: one traced run, driven by sync and async code alike."""

from __future__ import annotations

from typing import Any, Generic

from langchain_core.runnables import RunnableConfig, RunnableSerializable
from langchain_core.runnables.utils import Input, Output

from langchain_dsplus import _drive
from langchain_dsplus.answer import pass_on


class Planned(RunnableSerializable[Input, Output], Generic[Input, Output]):
    """A Runnable that does `_plan(value, run_manager, config, **kwargs)`."""

    def _plan(self, *args: Any, **kwargs: Any) -> _drive.Plan[Output]:
        raise NotImplementedError

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Do it for one input, as one traced run; what fails raises."""
        return self._call_with_config(_drive.driven(self._plan), input, config, **kwargs)

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Async twin of `invoke`; embedded models run in an executor thread."""
        return await self._acall_with_config(_drive.adriven(self._plan), input, config, **kwargs)


class PlannedBatch(Planned[Input, Output], Generic[Input, Output]):
    """One that does a list of inputs as one, too: `_plan_all(values, run_managers, configs, **kwargs)`.

    The plan gives an exception in the place of a result that failed.
    """

    def _plan_all(self, *args: Any, **kwargs: Any) -> _drive.Plan[list[Any]]:
        raise NotImplementedError

    def batch(
        self,
        inputs: list[Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Output]:
        """Do it for a list of inputs with one call of each model; an input that fails spoils no other."""
        plan = _drive.driven(self._plan_all)
        found = self._batch_with_config(plan, inputs, config, return_exceptions=return_exceptions, **kwargs)
        return list(pass_on(found))

    async def abatch(
        self,
        inputs: list[Input],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any | None,
    ) -> list[Output]:
        """Async twin of `batch`."""
        plan = _drive.adriven(self._plan_all)
        found = await self._abatch_with_config(plan, inputs, config, return_exceptions=return_exceptions, **kwargs)
        return list(pass_on(found))
