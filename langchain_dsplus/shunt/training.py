"""A candidate from what was paid for: cold start, distillation, rows that a language model writes for rare classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from langchain_dsplus.answer import NotFittedError, failure
from langchain_dsplus.learning.distiller import Distiller
from langchain_dsplus.learning.heads import spoken_names
from langchain_dsplus.shunt.folder import ShuntError
from langchain_dsplus.shunt.plan import Evidence, Judged
from langchain_dsplus.shunt.rows import PaidRow
from langchain_dsplus.small_models.base import SmallModel

_FOLDS = 3


@dataclass(frozen=True)
class Trained:
    """A candidate, and what models that had not seen its rows say about them."""

    model: Any
    evidence: Evidence
    inputs: list[Any]
    """Everything that it learned from."""
    rows: int


class Trainer:
    """Makes candidates.

    Args:
        small: What everything begins with: a fitted model, or an empty one with `fit`. None: a `SentenceClassifier` on
            the default encoder.
        labels: Of the task.
        gold: Labelled rows from the start.
        written: Rows that a language model wrote, with their label; used where they do no harm.
        input_key: As in the terms.
        seed: Of folds and draws.
    """

    def __init__(
        self,
        small: SmallModel | None,
        labels: Sequence[str],
        gold: Sequence[tuple[Any, str]] = (),
        *,
        written: Sequence[tuple[Any, str]] = (),
        input_key: str | None = None,
        seed: int = 0,
    ) -> None:
        self.small, self.labels, self.gold, self.written = small, list(labels), list(gold), list(written)
        self.input_key, self.seed = input_key, seed

    def train(self, rows: Sequence[PaidRow]) -> Trained:
        """Train a candidate, from the beginning each time: what the live version says has seen the rows that judge.

        Args:
            rows: That teach.

        Raises:
            ShuntError: If there is too little to begin with.
        """
        result, judged = self._distil(rows, self.gold)
        if self.written:
            more, better = self._distil(rows, [*self.gold, *self.written])
            if _score(better) >= _score(judged):
                result, judged = more, better
        inputs = [*(value for value, _ in self.gold), *(row.value for row in rows)]
        return Trained(result.model, judged, inputs, len(rows) + len(self.gold))

    def begin(self, rows: Sequence[PaidRow]) -> SmallModel:
        """A first model: the one that was given, fitted where it is not yet, on gold and the labels' names.

        Where these are too few, on the answers too.
        """
        from langchain_dsplus.small_models.sentence import SentenceClassifier

        model: Any = self.small
        if model is None:
            model = SentenceClassifier(labels=self.labels, input_key=self.input_key)
        elif isinstance(model, SentenceClassifier) and not model.labels:
            # It was given for its encoder: the labels are the task's.
            told: dict[str, Any] = {"l2": model.l2, "seed": model.seed, "name": model.name, "score": model.score}
            model = SentenceClassifier(model.encoder, self.labels, input_key=model.input_key or self.input_key, **told)
        if set(model.labels) != set(self.labels):
            raise ShuntError(f"`small` has the labels {sorted(model.labels)}, and `labels` are {sorted(self.labels)}")
        if is_fitted(model):
            return model  # type: ignore[no-any-return]
        taught = [*self.gold, *((value, model.labels[place]) for place, value in spoken_names(model))]
        if len({label for _, label in taught}) < len(self.labels):
            taught += [(row.value, row.answer) for row in rows]
        if len({str(answer) for _, answer in taught}) < 2:
            raise ShuntError("there is nothing to learn from yet: the large model has named one label only")
        return model.clone().fit([value for value, _ in taught], [answer for _, answer in taught])  # type: ignore[no-any-return]

    def _distil(self, rows: Sequence[PaidRow], gold: Sequence[tuple[Any, str]]) -> tuple[Any, Evidence]:
        """A new model, and the evidence from its folds; kinds without folds are trained on two thirds for that."""
        made = self._once(rows, gold)
        paid: defaultdict[str, list[PaidRow]] = defaultdict(list)  # an input may come again: each time is a row
        for row in sorted(rows, key=lambda row: row.gold is not None):
            if row.label is not None:
                paid[repr(row.value)].append(row)
        held: list[tuple[Any, Any]] = list(made.held_out)
        if not held and paid:
            _, same = np.unique([repr(row.value) for row in rows], return_inverse=True)  # equal inputs in one fold
            fold = np.random.default_rng(self.seed).integers(0, _FOLDS, len(rows))[same]
            for number in range(_FOLDS):
                inside = [row for row, place in zip(rows, fold, strict=True) if place != number]
                out = [row.value for row, place in zip(rows, fold, strict=True) if place == number]
                if not inside or not out:
                    continue
                model = self._once(inside, gold).model
                held += zip(out, np.asarray(model.predict_proba([model.read(value) for value in out])), strict=True)
        found = []
        for value, said in held:
            if paid[repr(value)]:
                row, place = paid[repr(value)].pop(), int(np.argmax(said))  # those with gold first
                found.append(
                    Judged(
                        row.route_id, float(said[place]), made.model.labels[place], str(row.label), row.gold,
                        row.way != "escalated",
                    )
                )  # fmt: skip
        return made, Evidence.of(found)

    def _once(self, rows: Sequence[PaidRow], gold: Sequence[tuple[Any, str]]) -> Any:
        # What escalated counts as drawn by chance too: so all that was paid for is held out in folds.
        return Distiller(self.begin(rows), seed=self.seed).distil(
            [*gold, *((row.value, row.gold) for row in rows if row.gold is not None)],
            [],
            audits=[(row.value, row.answer if row.gold is None else row.probabilities or row.label) for row in rows],
        )


def is_fitted(model: Any) -> bool:
    """Whether a model was fitted: an empty one says so when it is asked."""
    try:
        answer = model.answers(["x"])[0]
    except NotFittedError:
        return False
    except Exception as error:  # noqa: BLE001 - it reads something else than texts, and so was made for that
        failure(error)
        return True
    return not isinstance(answer, NotFittedError)


def _score(found: Evidence) -> float:
    """Agreement with the large model on real rows, the sure ones counting most."""
    agree = found.agree.astype(float)
    return float((np.cumsum(agree) / np.arange(1, len(agree) + 1)).mean()) if len(agree) else 0.0


# --- rows that a language model writes -------------------------------------------------------------------------------


def rare_labels(
    rows: Sequence[PaidRow], gold: Sequence[tuple[Any, str]], labels: Sequence[str], least: int
) -> list[str]:
    """Labels that fewer rows than `least` stand for."""
    count = Counter([label for _, label in gold])
    count.update(row.gold or row.label or "" for row in rows)
    return [label for label in labels if count[label] < least]


def write_rows(
    writer: Any, labels: Sequence[str], examples: Sequence[str], count: int, input_key: str | None = None
) -> list[tuple[Any, str]]:
    """Ask a language model for examples of rare classes; equal ones, and those like a real one, are dropped.

    Args:
        writer: A chat model, or a chain from a text to a text or message.
        labels: The rare classes.
        examples: Real texts, so that it knows how people write.
        count: How many for each.
        input_key: The key that a text stands under.
    """
    seen = {_plain(text) for text in examples}
    found: list[tuple[Any, str]] = []
    shown = "\n".join(f"- {text[:200]}" for text in examples[:8])
    for label in labels:
        reply = writer.invoke(
            f"Write {count} different short texts, one a line and nothing else, that belong into the class "
            f"{label!r}.\nSo do people write here (other classes):\n{shown}"
        )
        text = reply if isinstance(reply, str) else str(getattr(reply, "text", ""))
        for line in text.splitlines():
            row = line.strip().lstrip("-*0123456789.) ").strip().strip('"')
            if len(row) >= 3 and _plain(row) not in seen:
                seen.add(_plain(row))
                found.append((row if input_key is None else {input_key: row}, label))
    return found


def _plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
