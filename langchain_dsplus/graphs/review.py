"""Checking a verdict: a second one with the parties swapped, and a person where the two disagree."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config
from pydantic import ConfigDict, Field, PrivateAttr
from typing_extensions import TypedDict

from langchain_dsplus import _drive
from langchain_dsplus._planned import Planned
from langchain_dsplus._shared import Shared
from langchain_dsplus.graphs.adjudicator import Adjudicator, VerdictRecord
from langchain_dsplus.graphs.settings import read_setting
from langchain_dsplus.routing.decision import SettingsError
from langchain_dsplus.state import as_update, emit, latest
from langchain_dsplus.tags import CHECK_EVENT, VERDICT_EVENT
from langchain_dsplus.transfer.verdicts import VERDICTS

logger = logging.getLogger(__name__)

Doubt: TypeAlias = Literal["unreadable", "low_confidence", "disagreement", "judge_unfit"]

LEAST_CASES = 10
"""Cases that a judge was asked about twice, before anything is said of it."""


class CheckRecord(TypedDict):
    """What the check found, in plain Python types."""

    agree: bool
    """Whether the verdict stands."""
    reason: Doubt | None
    """Why it does not."""
    first: str
    """The first verdict."""
    second: VerdictRecord | None
    """The verdict with the parties swapped; None where it was not asked for, since the first did not stand anyway."""
    consistency: float | None
    """Share of the cases so far, asked twice, in which the judge agreed with itself; None before there are ten."""


class _Tally(Shared):
    """In how many cases a judge agreed with itself: one count for a check and its copies."""

    def __init__(self) -> None:
        self.agreed = self.asked = 0
        self._said = False
        self._lock = threading.Lock()

    def share(self) -> float | None:
        with self._lock:
            return None if self.asked < LEAST_CASES else self.agreed / self.asked

    def add(self, agree: bool, least: float) -> bool:
        """Count one case; whether the judge cannot judge."""
        with self._lock:
            self.asked += 1
            self.agreed += agree
            unfit = self.asked >= LEAST_CASES and self.agreed < least * self.asked
            say = unfit and not self._said
            self._said = self._said or unfit
            agreed, asked = self.agreed, self.asked
        if say:
            logger.warning(
                "this judge cannot judge these cases: asked twice, it agreed with itself in %d of %d. Its verdicts are "
                "`unclear` from here on; take another model, or decide yourself",
                agreed,
                asked,
            )
        return unfit


class SwapCheck(Planned[dict[str, Any], dict[str, Any]]):
    """A node that holds a verdict to a second one, asked with the parties swapped.

    A judge that decides by who tells the story, or by what is named first, contradicts itself when the other party
    asks. The verdict stands if both are readable and the same, and neither is less sure than `min_confidence`, where
    confidences are known. Else `state[verdict_key]` becomes `unclear` with `needs_review`; the check's record keeps
    both. The second verdict is not paid for where the first does not stand alone, or where there was no statement.

    Such a judge is also measured, on the cases that it is asked about: one that agrees with itself in fewer than
    `min_consistency` of at least ten cannot judge them. Then no verdict of it stands (`judge_unfit`), and the log says
    so once. The count is this object's, in this process; `measure` fills it beforehand.

    Args:
        judge: Asks for the second verdict: an `Adjudicator` with `swapped=True`. None only looks at the first.
        verdict_key: Where the first verdict is, and where it is marked.
        output_key: Where the `CheckRecord` goes.
        min_confidence: In [0, 1]. None asks for none; a run may set `dsplus_min_confidence`, no looser (ValueError).
        min_consistency: In [0, 1]; 0 lets every judge judge.

    Example:
        ```python
        graph.add_node("check", SwapCheck(judge=Adjudicator(model=large, input_key="statement", swapped=True)))
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    judge: Adjudicator | None = None
    name: str | None = "check"
    verdict_key: str = "verdict"
    output_key: str = "check"
    min_confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    min_consistency: float = Field(default=0.6, ge=0.0, le=1.0)

    _tally: Any = PrivateAttr(default_factory=_Tally)

    @property
    def consistency(self) -> float | None:
        """Share of the cases so far in which the judge agreed with itself; None before there are ten."""
        return self._tally.share()  # type: ignore[no-any-return]

    def measure(self, judge: Adjudicator, cases: Sequence[str], config: RunnableConfig | None = None) -> float | None:
        """Ask about cases of your own twice, and return in what share of them the judge agrees with itself.

        Args:
            judge: Who gives the first verdict; the second one is `judge` of this check.
            cases: Statements.
            config: Passed on to both.

        Returns:
            As `consistency`, over all cases so far.
        """
        for case in cases:
            value = {judge.input_key: case}
            first = judge.invoke(value, config)
            self.invoke({**value, self.verdict_key: first[judge.output_key]}, config)
        return self.consistency

    async def ameasure(
        self, judge: Adjudicator, cases: Sequence[str], config: RunnableConfig | None = None
    ) -> float | None:
        """Async twin of `measure`."""
        for case in cases:
            value = {judge.input_key: case}
            first = await judge.ainvoke(value, config)
            await self.ainvoke({**value, self.verdict_key: first[judge.output_key]}, config)
        return self.consistency

    def _plan(
        self, value: dict[str, Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> _drive.Plan[dict[str, Any]]:
        first, least, judge = self._begin(value, config)
        second = None
        if judge is not None:
            child = patch_config(config, callbacks=run_manager.get_child())
            said = yield _drive.Call(judge.invoke, judge.ainvoke, value, child, **kwargs)
            second = latest(said, judge.output_key)
        return self._end(value, first, second, least, config)

    def _begin(self, value: Any, config: RunnableConfig) -> tuple[VerdictRecord, float, Adjudicator | None]:
        first = latest(value, self.verdict_key) if isinstance(value, Mapping) else None
        if not isinstance(first, Mapping) or "verdict" not in first:
            raise TypeError(f"the check needs a dict with a verdict under {self.verdict_key!r} (`verdict_key`)")
        least = _read_least(read_setting(config, "dsplus_min_confidence"), self.min_confidence)
        stands = _doubt(first, least) is None and first.get("error") is None  # type: ignore[arg-type]
        return first, least, self.judge if stands else None  # type: ignore[return-value]

    def _end(
        self,
        state: dict[str, Any],
        first: VerdictRecord,
        second: VerdictRecord | None,
        least: float,
        config: RunnableConfig,
    ) -> dict[str, Any]:
        reason = _doubt(first, least)
        if reason is None and second is not None:
            reason = _doubt(second, least)
            # Two verdicts that differ are a disagreement, however sure the second is.
            if reason != "unreadable" and second["verdict"] != first["verdict"]:
                reason = "disagreement"
            if reason != "unreadable" and self._tally.add(reason != "disagreement", self.min_consistency):
                reason = reason or "judge_unfit"
        record: CheckRecord = {
            "agree": reason is None,
            "reason": reason,
            "first": first["verdict"],
            "second": second,
            "consistency": self.consistency,
        }
        emit(config, {"type": CHECK_EVENT, "node": self.name, "agree": reason is None, "reason": reason})
        update: dict[str, Any] = {self.output_key: record}
        if reason is not None:
            update[self.verdict_key] = {**first, "verdict": "unclear", "needs_review": True}
        return as_update(state, update)


def _read_least(setting: Any, default: float | None) -> float:
    least = default if setting is None else setting
    if least is None:
        return 0.0
    if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0.0 <= least <= 1.0:
        raise ValueError("`dsplus_min_confidence` must be a number from 0 to 1")
    if default is not None and least < default:  # whoever calls a graph may only make it stricter
        raise SettingsError("`dsplus_min_confidence` is looser than the graph's `min_confidence` and was refused")
    return float(least)


def _doubt(verdict: VerdictRecord, least: float) -> Doubt | None:
    """Why one verdict alone does not stand. No statement at all leaves nothing to look at: that stands."""
    error = verdict.get("error")
    if error is not None:
        return None if error == "EmptyStatement" else "unreadable"
    sure = verdict.get("confidence")
    known = isinstance(sure, (int, float)) and math.isfinite(sure)
    return "low_confidence" if known and sure < least else None  # type: ignore[operator]


class Review(Planned[dict[str, Any], dict[str, Any]]):
    """A node that asks a person for the verdict, by LangGraph's `interrupt`.

    A person who decides otherwise than the judge replaces its facts too: by `facts` of the answer, else by none. What
    the judge said stands under `overruled`.

    The graph stops; `graph.invoke(Command(resume={"verdict": "both", "reasons": [...]}), config)` goes on. An answer
    that is no verdict is asked for again. The node makes no paid call, so running it again from its start repeats none.

    The interrupt's value has `question`, `options` (the verdicts to choose from), `statement`, `read` (what the judge
    read), `verdict` (the judge's record) and `check` (the `CheckRecord`), as far as the state has them.

    Args:
        verdicts: What a person may answer; empty allows any text.
        verdict_key: Where the verdict is, and where the person's goes.
        shown: What of the state the person sees: names in the interrupt's value, with the state's keys.

    Example:
        ```python
        from langgraph.types import Command

        state = graph.invoke({"statement": statement}, config)
        if "__interrupt__" in state:
            state = graph.invoke(Command(resume={"verdict": "narrator"}), config)
        ```
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str | None = "review"
    verdicts: tuple[str, ...] = VERDICTS
    verdict_key: str = "verdict"
    shown: dict[str, str] = Field(
        default_factory=lambda: {"statement": "statement", "read": "rewrite", "verdict": "verdict", "check": "check"}
    )

    def _plan(
        self, value: dict[str, Any], run_manager: Any, config: RunnableConfig, **kwargs: Any
    ) -> _drive.Plan[dict[str, Any]]:
        """Ask the person, or take the answer that the graph is resumed with; nothing is waited for."""
        from langgraph.types import interrupt

        yield from ()
        question: dict[str, Any] = {
            "question": "Who is more at fault?",
            "options": list(self.verdicts),
            **{name: found for name, key in self.shown.items() if (found := latest(value, key)) is not None},
        }
        answer = interrupt(question)
        while True:
            found = _read_answer(answer, self.verdicts)
            if isinstance(found, dict):
                break
            answer = interrupt({**question, "error": found})
        before = latest(value, self.verdict_key) or {}
        record = {**before, "needs_review": False, "confidence": None, "error": None, "method": "person", **found}
        check = latest(value, self.shown.get("check", "check")) or {}
        judged = check.get("first", before.get("verdict"))
        if found["verdict"] != judged:  # what the judge relied on does not bear the person's verdict
            record["overruled"] = {"verdict": judged, **{k: before.get(k, []) for k in ("facts", "reasons")}}
            record["facts"] = found.get("facts", [])
            for name in ("quotes", "unsupported"):
                record.pop(name, None)
        told = {"verdict": record["verdict"], "confidence": None, "error": None}
        emit(config, {"type": VERDICT_EVENT, "node": self.name, **told})
        return as_update(value, {self.verdict_key: record})


def _read_answer(answer: Any, verdicts: Sequence[str]) -> dict[str, Any] | str:
    """The person's verdict and reasons, or what is wrong with the answer, in words that do not repeat it."""
    body = {"verdict": answer} if isinstance(answer, str) else answer
    if not isinstance(body, Mapping) or not isinstance(body.get("verdict"), str):
        return 'answer with {"verdict": ...}, and "facts": [...] and "reasons": [...] if you like'
    if verdicts and body["verdict"] not in verdicts:
        return f"`verdict` must be one of {list(verdicts)}"
    found: dict[str, Any] = {"verdict": body["verdict"], "reasons": []}
    for name in ("facts", "reasons"):
        if name not in body:
            continue
        texts = [body[name]] if isinstance(body[name], str) else body[name]
        if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
            return f"`{name}` must be a list of texts"
        found[name] = list(texts)
    return found
