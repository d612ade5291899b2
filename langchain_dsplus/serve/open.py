"""A shunt whose large chain is what clients ask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import Answer
from langchain_dsplus.costs.prices import Price
from langchain_dsplus.identity import identify
from langchain_dsplus.losses import Loss
from langchain_dsplus.serve.tasks import DecisionTask, Task, read_task
from langchain_dsplus.serve.upstream import Upstream, UpstreamChain
from langchain_dsplus.shunt.folder import ShuntError, ShuntFolder
from langchain_dsplus.shunt.shunt import DataShunt

SERVED = "serve.json"
"""The task of a shunt that is served, in its folder."""


def open_shunt(
    folder: str | Path,
    task: Task | None,
    upstream: Upstream,
    *,
    labels: Sequence[str] | None = None,
    max_loss: Loss | None = None,
    version: str | None = None,
    **options: Any,
) -> DataShunt:
    """Open a shunt that stands in front of an upstream, or make it.

    Its large chain is the task (model, prompt or question) at the upstream. Where that is another one than before, the
    shunt starts to certify anew, as any `DataShunt`.

    Args:
        folder: The shunt's.
        task: What clients ask; None: what `serve.json` in the folder says, which the first start wrote.
        upstream: The user's provider.
        labels: Where the folder is new; a `DecisionTask` has its own.
        max_loss: Where the folder is new; 1 point by default.
        version: As in `DataShunt`; it takes up a folder that a chain with this `version=` has made.
        **options: Of `DataShunt`.

    Raises:
        ShuntError: If something is missing, or the folder promises something else.

    Example:
        ```python
        task = ChatTask("gpt-x", [("system", "Answer refund or other."), ("user", "{text}")])
        shunt = open_shunt("shunt/", task, Upstream("https://api.openai.com/v1"), labels=["refund", "other"])
        ```
    """
    here = ShuntFolder(folder)
    file = here.path / SERVED
    known = file.exists()
    if task is None:
        task = _saved(file)
    if isinstance(task, DecisionTask) and labels is None:
        labels = task.labels
    chain = UpstreamChain(task=task, base_url=upstream.base_url)
    settings: dict[str, Any] = {"max_loss": 0.01 if max_loss is None else max_loss, "labels": labels}
    if here.exists:
        terms = here.terms()
        same = ("level", "set_apart", "audit_rate", "never_local", "input_key")
        settings = {name: getattr(terms, name) for name in same} | {
            "max_loss": terms.max_loss if max_loss is None else max_loss,
            "labels": terms.labels if labels is None else labels,
            "price": None if terms.price is None else Price(**terms.price),
        }
        if not known and terms.large and identify(chain, version=version).large != terms.large.get("large"):
            raise ShuntError(
                f"{here.path} was made with another chain: give that one `version=` in DataShunt and the same one here "
                "(--version), or take a folder of its own"
            )
    if settings["labels"] is None:
        raise ShuntError(f"{here.path} is new: name the task's labels (`labels=`, --labels FILE)")
    if isinstance(task, DecisionTask) and set(settings["labels"]) != set(task.labels):
        raise ShuntError(f"the question's answers {task.labels} are not the shunt's labels: take a folder of its own")
    shunt = DataShunt(
        chain, folder=here.path, version=version, include_route=True, to_output=_as_is, **{**settings, **options}
    )
    replace_file(file, json.dumps(task.parts, ensure_ascii=False, indent=1) + "\n")
    return shunt


def _saved(file: Path) -> Task:
    if not file.exists():
        raise ShuntError(
            f"{file.parent} does not say what clients ask: name the model and its prompt (`task=`; --model with "
            "--prompt or --question)"
        )
    try:
        return read_task(load_json(file.read_bytes()))
    except (ValueError, KeyError, TypeError) as error:
        raise ShuntError(f"{file} is damaged: remove it, and name the task again") from error


def _as_is(answer: Answer, _: Any) -> Answer:
    """A local answer as the task takes it."""
    return answer
