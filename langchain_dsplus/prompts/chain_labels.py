"""Which labels a large chain offers, held against those of the small models in front of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableLambda

from langchain_dsplus.outcomes.likeness import Likeness, quoted

if TYPE_CHECKING:
    from langchain_dsplus.small_models.base import SmallModel

_SHOWN = 5


def check_chain_labels(models: Iterable[SmallModel], chain: Any, name: str = "large") -> list[str]:
    """Return the labels of a chain's `LabelParser`s, once they go with those of the small models.

    Labels that only one side knows are allowed: a small model may know the frequent ones only. Plainly wrong is a small
    model that shares no label with the parsers (or the `PromptPruner`s) of the chain, and one whose label the chain has
    in another spelling only: each of its answers would be another one than the large model's.

    Args:
        models: The small models; those without labels are passed over.
        chain: The large chain; None has no labels.
        name: Of its argument, for the error.

    Raises:
        ValueError: If the labels do not go together; the message names both sets.

    Example:
        >>> from langchain_dsplus import FakeSmallModel, LabelParser
        >>> small = FakeSmallModel({}, ["spam", "ham"])
        >>> check_chain_labels([small], LabelParser(["spam", "ham", "unclear"]))
        ['spam', 'ham', 'unclear']
    """
    found: dict[str, dict[str, None]] = {"LabelParser": {}, "PromptPruner": {}}
    for part in _parts(chain):
        kind = getattr(type(part), "speaks_labels", None)  # what the two say of themselves: neither is loaded for this
        if kind in found:
            found[kind].update(dict.fromkeys(getattr(part, "labels", ())))
    for model in models:
        for kind, labels in found.items():
            if model.labels and labels:
                _compare(model, list(labels), f"the {kind} in `{name}`")
    return list(found["LabelParser"])


def _compare(model: SmallModel, labels: list[str], who: str) -> None:
    own = set(model.labels)
    alike = Likeness([label for label in labels if label not in own])
    slips = {label: like for label in model.labels if label not in labels and (like := alike(label)) is not None}
    if own & set(labels) and not slips:
        return
    sets = f"the small model {model.name!r} has the labels {_listed(model.labels)}, {who} has {_listed(labels)}"
    if slips:
        label, (difference, other) = next(iter(slips.items()))
        why = f"{quoted(label)} and {quoted(other)} are one label with {difference}"
    else:
        why = "they share none"
    raise ValueError(
        f"{sets}: {why}, so their answers would never be the same. Give both the same labels, such as "
        "`LabelParser(small.labels)`; SklearnClassifier(labels=...) renames those of an estimator"
    )


def _listed(labels: list[str]) -> str:
    return f"({', '.join(map(quoted, labels[:_SHOWN]))}{', ...' if len(labels) > _SHOWN else ''})"


def _parts(chain: Any) -> Iterator[Any]:
    """The chain, and every Runnable in it that can be seen."""
    todo, seen = [chain], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Mapping):
            todo += list(part.values())
        elif isinstance(part, (list, tuple)):
            todo += part
        elif isinstance(part, Runnable):
            yield part
            if isinstance(part, RunnableLambda):
                with suppress(Exception):  # a function whose source cannot be seen
                    todo += part.deps
            names = [*getattr(type(part), "model_fields", ()), "bound", "nodes"]
            fields = (getattr(part, name, None) for name in names)
            todo += [value for value in fields if isinstance(value, (Runnable, Mapping, list, tuple))]
