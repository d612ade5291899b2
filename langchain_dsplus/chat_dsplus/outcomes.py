"""Outcomes of a cascade of chat models, judged by the user: what `certify` needs for texts that nobody can compare."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

from langchain_dsplus.chat_dsplus.checks import answer_text
from langchain_dsplus.chat_dsplus.draft import read_messages
from langchain_dsplus.chat_dsplus.judges import ReadyJudge
from langchain_dsplus.chat_dsplus.model import ChatDSPlus
from langchain_dsplus.outcomes import Outcomes
from langchain_dsplus.threshold.judged import JUDGE
from langchain_dsplus.traces.collect import acollect_outcomes, collect_outcomes, read_dataset

Judge: TypeAlias = Callable[[Any, str, Any], bool | Awaitable[bool | None] | None]
"""From input, output and gold to whether the output is right; None where nobody can say. See `judges`."""


def collect_chat_outcomes(
    cascade: Any,
    dataset: Iterable[Any],
    ok: Judge,
    *,
    prompt: Runnable[Any, Any] | None = None,
    **options: Any,
) -> Outcomes:
    """Ask all models of a cascade about every row, judge what they say, and return the outcomes.

    `certify` compares who is right. Two texts that say the same in other words are both right, so right and wrong come
    from `ok`: an equality after cleaning, a test that runs, a judge model. It is asked about every output, also about
    the large model's, so a lenient judge does not favor either side.

    Args:
        cascade: A `ChatDSPlus`, or what its `bind_tools` returned.
        dataset: Mappings, or (input, gold) pairs.
        ok: Gets the input as it stands in the dataset, the output's text (tool calls as JSON, see `answer_text`) and
            gold, and says whether the output is right; or a ready judge (`chat_dsplus.judges`): `CallJudge(tools)` for
            tool calls, `ExactJudge`, `NumericJudge`, `SimilarityJudge`, `NLIJudge`, `LLMJudge`. What a ready judge was
            found wrong about (`calibrate`) is counted by `certify`.
        prompt: Makes the messages of an input, where it is none itself.
        **options: As in `collect_outcomes`: `input_key`, `gold_key` (gold may be whatever `ok` takes; in the table it
            is a text), `id_key`, `group_key`, `path` to resume from, `price`, `max_cost`, `progress`, `version`, ...

    Returns:
        As `collect_outcomes`, with `small_ok` (of several small models `small.<name>_ok`) and `large_ok`; None where a
        model failed. Its `about` fits a `ChatDSPlus` of the same models.

    Raises:
        TypeError: If `cascade` is none.
        ValueError: As `collect_outcomes`.

    Example:
        ```python
        def ok(question, answer, gold):
            return gold.lower() in answer.lower()


        outcomes = collect_chat_outcomes(cascade, rows, ok, path="answers.jsonl")
        certificate = certify(outcomes, max_loss=0.02)
        live = ChatDSPlus(models=cascade.models, accept=cascade.accept, threshold=certificate)
        ```
    """
    asked, inputs = _prepared(cascade, dataset, {"prompt": prompt, **options})
    outcomes = collect_outcomes(**asked)
    items = _items(outcomes, inputs)
    if isinstance(ok, ReadyJudge):
        return _with(outcomes, ok.judge(items), ok)
    verdicts = []
    for item in items:
        verdict = ok(*item)
        if inspect.isawaitable(verdict):
            if inspect.iscoroutine(verdict):
                verdict.close()
            raise TypeError("`ok` is async: use `acollect_chat_outcomes`")
        verdicts.append(verdict)
    return _with(outcomes, verdicts)


async def acollect_chat_outcomes(cascade: Any, dataset: Iterable[Any], ok: Judge, **options: Any) -> Outcomes:
    """Async twin of `collect_chat_outcomes`; `ok` may be async too."""
    asked, inputs = _prepared(cascade, dataset, options)
    outcomes = await acollect_outcomes(**asked)
    items = _items(outcomes, inputs)
    if isinstance(ok, ReadyJudge):
        return _with(outcomes, await ok.ajudge(items), ok)
    verdicts = []
    for item in items:
        verdict = ok(*item)
        verdicts.append(await verdict if inspect.isawaitable(verdict) else verdict)
    return _with(outcomes, verdicts)


def _prepared(
    cascade: Any, dataset: Iterable[Any], options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """The arguments of `collect_outcomes`, with rows whose input is messages; and input and gold by id."""
    model = cascade
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    if not isinstance(model, ChatDSPlus):
        raise TypeError(
            f"`cascade` must be a ChatDSPlus, or what its `bind_tools` returned, not {type(model).__name__}"
        )
    prompt: Runnable[Any, Any] | None = options.pop("prompt", None)
    keys = [options.pop(f"{name}_key", name) for name in ("input", "gold", "id", "group")]
    rows: list[dict[str, Any]] = []
    inputs: dict[str, tuple[Any, Any]] = {}
    for row in read_dataset(dataset, *keys, any_gold=True):
        value, gold = row["input"], row["gold"]
        messages: list[BaseMessage] = read_messages(
            value if prompt is None else prompt.invoke(value, {"callbacks": []})
        )
        sent = [message.model_copy(update={"id": None}) for message in messages]
        rows.append({"id": row["id"], "input": sent, "gold": _gold_text(gold), "group": row["group"]})
        inputs[row["id"]] = (value, gold)
    asked = {"small": model.router.small_models, "large": model.router.large, "dataset": rows, "to_label": answer_text}
    return {**asked, "version": model.version, "score": model.score, **options}, inputs


def _gold_text(gold: Any) -> Any:
    """What stands in the table for a gold that is no text: calls, structures and fractions as JSON."""
    if gold is None or isinstance(gold, (str, int)):
        return gold
    if isinstance(gold, BaseMessage):
        return answer_text(gold)
    return json.dumps(gold, sort_keys=True, ensure_ascii=False, default=str)


def _outputs(outcomes: Outcomes) -> list[tuple[str, str | None, str]]:
    """All outputs, the same order each time: column of the verdict, text, id."""
    names = outcomes.small_names
    columns = [*([f"small.{name}" for name in names] or ["small"]), "large"]
    ids = outcomes.values("id")
    return [
        (f"{column}_ok", output, place)
        for column in columns
        for output, place in zip(outcomes.values(column), ids, strict=True)
    ]


def _items(outcomes: Outcomes, inputs: Mapping[str, tuple[Any, Any]]) -> list[tuple[Any, str, Any]]:
    """What is to be judged: input, output and gold of every output that there is."""
    return [(inputs[place][0], text, inputs[place][1]) for _, text, place in _outputs(outcomes) if text is not None]


def _with(outcomes: Outcomes, verdicts: Sequence[Any], judge: ReadyJudge | None = None) -> Outcomes:
    """The table with the verdicts in their columns, and the judge in `about`."""
    said = iter(verdicts)
    marks: dict[str, list[bool | None]] = {}
    for column, output, _ in _outputs(outcomes):
        verdict = None if output is None else next(said)
        marks.setdefault(column, []).append(None if verdict is None else bool(verdict))
    columns = {name: outcomes.values(name) for name in outcomes.columns}
    about = outcomes.about if judge is None else {**outcomes.about, JUDGE: judge.about()}
    return Outcomes({**columns, **marks}, about=about)
