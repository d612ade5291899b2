"""What a teacher says, as distributions over the small model's labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_dsplus._arrays import Floats
from langchain_dsplus._journal import Journal
from langchain_dsplus.answer import pass_on
from langchain_dsplus.labels import match_reply
from langchain_dsplus.traces.lanes import AskEach

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.small_models.base import SmallModel


def read_target(value: Any, labels: Sequence[str]) -> Floats | None:
    """Return one answer of a teacher as a distribution, shape (len(labels),); None where it is no answer.

    Args:
        value: A label, or a text or message that names one (all mass on it); a mapping from label to probability
            (log-probabilities and vote shares give one); an `Answer`; or None.
        labels: The labels of the small model.

    Returns:
        None for None, an exception, a text without one of `labels`, or numbers that are no distribution: such a row
        teaches nothing, and a large model's slip must not stop the training. A mapping that puts mass outside `labels`
        is scaled to those inside, unless they hold less than half.

    Example:
        >>> read_target("a", ["a", "b"]).tolist(), read_target({"a": 0.25, "b": 0.75}, ["a", "b"]).tolist()
        ([1.0, 0.0], [0.25, 0.75])
    """
    if isinstance(value, Mapping) and "choice" in value and isinstance(value.get("probabilities"), Mapping):
        value = value["probabilities"] or value["choice"]
    row = np.zeros(len(labels))
    if isinstance(value, (str, BaseMessage)):
        label = match_reply(value, labels)
        if label is None:
            return None
        row[labels.index(label)] = 1.0
        return row
    if not isinstance(value, Mapping):
        return None
    try:
        numbers = {str(label): float(number) for label, number in value.items()}
    except (TypeError, ValueError, OverflowError):
        return None
    if not all(math.isfinite(number) and number >= 0.0 for number in numbers.values()):
        return None
    if not abs(math.fsum(numbers.values()) - 1.0) <= 1e-3:
        return None
    for place, label in enumerate(labels):
        row[place] = numbers.get(label, 0.0)
    inside = float(row.sum())
    return row / inside if inside >= 0.5 else None


def read_targets(values: Sequence[Any], labels: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the answers as distributions, shape (n, K), and which of them are answers at all, shape (n,)."""
    rows = np.zeros((len(values), len(labels)))
    usable = np.zeros(len(values), dtype=bool)
    for place, value in enumerate(values):
        row = read_target(value, labels)
        if row is not None:
            rows[place], usable[place] = row, True
    return rows, usable


def read_teacher(
    answers: Sequence[Any], labels: Sequence[str], paid: PaidAnswers | None = None
) -> tuple[Floats, NDArray[np.bool_]]:
    """As `read_targets`, for all that one teacher was asked: none of it usable is a broken teacher, not zero rows.

    Where it is broken, `paid` is emptied: nothing in it is worth keeping, and a mended teacher must be asked anew.

    Raises:
        ValueError: If there are answers, and none is usable. The message counts what came instead, by type: no text of
            an answer or an error.
    """
    rows, usable = read_targets(answers, labels)
    if len(usable) and not usable.any():
        if paid is not None:
            paid.path.unlink(missing_ok=True)
        kinds = Counter(type(answer).__name__ for answer in answers)
        came = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
        raise ValueError(
            f"`large` gave no usable answer to any of {len(usable)} inputs ({came}): each must be one of the small "
            "model's labels, a mapping from these to probabilities that sum to 1, or an Answer; errors mean that its "
            "calls failed"
        )
    return rows, usable


def ask(model: SmallModel, inputs: Sequence[Any]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Ask a small model about many inputs, one batch.

    Returns:
        Probabilities (n, K), confidences (n,) by the model's own score, and which inputs it answered (n,). Rows that it
        did not answer hold 0 and minus infinity.
    """
    rows = np.zeros((len(inputs), len(model.labels)))
    confidence = np.full(len(inputs), -math.inf)
    answered = np.zeros(len(inputs), dtype=bool)
    for place, answer in enumerate(model.answers(list(inputs)) if len(inputs) else []):
        if isinstance(answer, Exception):
            continue
        rows[place] = [answer["probabilities"].get(label, 0.0) for label in model.labels]
        confidence[place] = answer["confidence"]
        answered[place] = True
    return rows, confidence, answered


def ask_large(large: Any, values: Sequence[Any], chosen: Sequence[int], paid: PaidAnswers | None = None) -> list[Any]:
    """Return the large model's answers on the chosen inputs; an exception where it failed, which teaches nothing.

    Args:
        large: A Runnable (one batch), a callable from one input to an answer, or recorded answers, one per input.
        values: All inputs.
        chosen: Places of those to ask about.
        paid: Where answers are kept as they come, and found again after an interruption. What is found is not asked
            again; a failure is not kept. Recorded answers need none.

    Returns:
        One per chosen input; of kept ones the distribution, or None.

    Raises:
        ValueError: If there are not as many recorded answers as inputs.
    """
    runnable = hasattr(large, "batch") and hasattr(large, "invoke")
    if paid is not None and (runnable or callable(large)):
        rest = [place for place in chosen if place not in paid]
        failed = dict(zip(rest, _ask_and_keep(large, values, rest, paid, runnable=runnable), strict=True))
        return [paid[place] if place in paid else failed[place] for place in chosen]
    if runnable:
        if not len(chosen):
            return []
        return list(pass_on(large.batch([values[place] for place in chosen], return_exceptions=True)))
    if callable(large):
        return [large(values[place]) for place in chosen]
    if len(large) != len(values):
        raise ValueError(f"`large` has {len(large)} answers, `inputs` has {len(values)} rows")
    return [large[place] for place in chosen]


def _ask_and_keep(
    large: Any, values: Sequence[Any], places: Sequence[int], paid: PaidAnswers, *, runnable: bool
) -> list[Exception | None]:
    """Ask, and keep each answer where it arrives, in the thread that asked; return what failed."""
    if not runnable:
        for place in places:
            paid.keep(place, large(values[place]))
        return [None] * len(places)

    failed: list[Exception | None] = [None] * len(places)

    def take(number: int, output: Any) -> None:
        if isinstance(output, Exception):
            pass_on([output])
            failed[number] = output
        else:
            paid.keep(places[number], output)  # where it cannot be kept, nothing more is asked and paid for

    own = getattr(large, "config", None)  # of `with_config`: a rate that the user chose
    limit = own.get("max_concurrency") if isinstance(own, Mapping) else None
    config: RunnableConfig = {} if limit is None else {"max_concurrency": limit}
    AskEach([(large, values[place]) for place in places], [config] * len(places), take).run()
    return failed


class PaidAnswers:
    """The large model's answers in a JSONL file, each written as it comes, so that none is paid for twice.

    Kept are distributions over the labels, no texts. A line that was cut off while it was written is dropped.

    Args:
        path: The file; made when the first answer comes.
        key: A hash of what the answers belong to: inputs and labels.
        labels: The labels of the small model.

    Raises:
        ValueError: If the file belongs to another key, or is damaged.
    """

    def __init__(self, path: Path, key: str, labels: Sequence[str]) -> None:
        self.path, self.key, self.labels = path, key, list(labels)
        self._rows: dict[int, dict[str, float] | None] = {}
        self._journal = Journal(path)
        if self._journal.entries:
            self._read(self._journal.entries)

    def __contains__(self, place: int) -> bool:
        return place in self._rows

    def __getitem__(self, place: int) -> dict[str, float] | None:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def keep(self, place: int, answer: Any) -> None:
        """Write one answer; it is on the disk when this returns."""
        row = read_target(answer, self.labels)
        self._rows[place] = None if row is None else soften(row, self.labels)
        head = [] if self._journal.entries else [{"key": self.key}]
        self._journal.append(*head, {"place": place, "answer": self._rows[place]})

    def _read(self, lines: Sequence[Any]) -> None:
        try:
            same = lines[0]["key"] == self.key
            self._rows = {line["place"]: line["answer"] for line in lines[1:]}
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged: delete it to ask anew") from error
        if not same:
            raise ValueError(
                f"{self.path} holds answers on other inputs or labels: name another `checkpoint`, or delete it"
            )


def soften(row: Floats, labels: Sequence[str]) -> dict[str, float]:
    """Return a distribution as a dict of plain floats, without the labels that have none."""
    return {label: float(p) for label, p in zip(labels, row, strict=True) if p > 0.0}
