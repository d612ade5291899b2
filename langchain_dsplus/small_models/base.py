"""`SmallModel`: what every small model is, whatever is inside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, Field, PrivateAttr

from langchain_dsplus import _drive
from langchain_dsplus._inputs import Seen, canonical
from langchain_dsplus._planned import PlannedBatch
from langchain_dsplus._shown import fields_in_words
from langchain_dsplus.answer import Answer, AttachmentError, InputError, InvalidAnswerError, failure
from langchain_dsplus.confidence import SCORES, ScoreFunction, resolve_score
from langchain_dsplus.small_models.attachments import find_attachment, is_row, row_to_dict

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

UNVERIFIABLE = "unverifiable"
"""The version of a model that cannot be seen into. A certificate says so."""

_GIVE_UP_AFTER = 5
_PATIENCE = 1.0


class _Patience:
    """Tells a broken model from bad inputs: nothing has come back from several inputs, for a second or more.

    Time decides, not the count alone: where failing is quick, every input gets its own try.
    """

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.failures = 0
        self.hopeful = False
        self.error: Exception = InvalidAnswerError("not asked")

    def failed(self, error: Exception) -> None:
        self.failures += 1
        self.error = error

    def lost(self) -> bool:
        if self.hopeful or self.failures < _GIVE_UP_AFTER:
            return False
        return time.monotonic() - self.began > _PATIENCE


class SmallModel(PlannedBatch[Any, Answer]):
    """A cheap local model that returns class probabilities.

    A subclass implements one method, `predict_proba`, over a list of inputs. Everything else follows: `invoke`,
    `batch` and their async twins, one model call for each batch, checks, confidence, tracing.

    An input is a `str` (or whatever the model takes), or a dict that holds it under `input_key`. An empty batch gives
    an empty list and asks the model nothing. An item that cannot be answered (wrong type, NaN, unknown label, an
    exception) raises from `invoke`, comes back as an exception from `batch(..., return_exceptions=True)`, and
    escalates in a `ConfidenceRouter`; it never spoils the items beside it.

    Args:
        labels: The classes, in the order of the columns of `predict_proba`.
        name: Name in routes, traces and thresholds.
        input_key: Where a dict input holds what the model reads. Without it a model that reads text takes a dict's one
            text, and passes over numbers, dates and empty values beside it; a dict with several texts is an error.
        score: What `Answer.confidence` is: `max_probability` (the paper's Eq. 1), `margin`, `entropy`, a callable from
            probabilities to a float, or one of the kind's `own_scores`. Fixed at construction: a threshold holds for
            the score it was chosen with.
        ignore_attachments: Whether a model that reads text answers for inputs that hold images, files or audio beside
            it: in any message of a conversation, or in a dict. By default such an input cannot be answered, and so
            escalates.
        version: What this model is, for certificates. By default a hash of it, or `unverifiable`.
        trained_on: The inputs that it was trained or calibrated on, where that happened elsewhere. Kinds with a `fit`
            remember theirs. Only keyed hashes are kept, and saved beside the model: `in_training` compares with them.

    Example:
        ```python
        class Length(SmallModel):
            labels: list[str] = ["short", "long"]

            def predict_proba(self, inputs):
                return [[1.0, 0.0] if len(text) < 20 else [0.1, 0.9] for text in inputs]


        Length().invoke("hello")["choice"]  # "short"
        ```
    """

    __str__ = fields_in_words

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    labels: list[str] = Field(default_factory=list)
    name: str | None = "small"
    input_key: str | None = None
    score: str | ScoreFunction = Field(default="max_probability", frozen=True)
    ignore_attachments: bool = False

    own_scores: ClassVar[frozenset[str]] = frozenset()
    """Scores beyond those of `confidence.SCORES` that this kind of model computes itself."""
    traces_calls: ClassVar[bool] = False
    """Whether asking the model makes traced runs of its own (a chat model does)."""
    reads_text: ClassVar[bool] = False
    """Whether the model reads the text of an input and nothing else."""

    _version: str | None = PrivateAttr(default=None)
    _trained: Seen | None = PrivateAttr(default=None)

    def __init__(
        self, *args: Any, version: str | None = None, trained_on: Sequence[Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._version = version
        if trained_on is not None:
            if isinstance(trained_on, (str, bytes)):
                raise TypeError("`trained_on` must be a list of inputs, not one of them")
            self.remember(trained_on)

    def model_post_init(self, context: Any, /) -> None:
        """Check the labels and the score."""
        super().model_post_init(context)
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("`labels` must be distinct")
        offered = self.own_scores.union(SCORES)
        if isinstance(self.score, str) and self.score not in offered:
            raise ValueError(
                f"`score` of a {type(self).__name__} must be one of {sorted(offered)} or a callable, not {self.score!r}"
            )

    # --- what a subclass provides -------------------------------------------------------------------------------

    @abstractmethod
    def predict_proba(self, inputs: list[Any]) -> ArrayLike:
        """Return the class probabilities of a batch.

        Args:
            inputs: At least one input, already taken out of its dict.

        Returns:
            Shape (len(inputs), len(labels)), rows sum to 1. A row with NaN means "no answer": that input escalates.
        """

    def fingerprint(self) -> str:
        """What `version` hashes: a string that changes when the model's answers may change."""
        return UNVERIFIABLE

    def read(self, value: Any) -> Any:
        """Take the model's input out of what the chain passes.

        A row of a table (a pandas Series, a named tuple) counts as the dict of its columns.

        Raises:
            InputError: If a dict lacks `input_key`, or holds attachments that the model would not see.
        """
        if is_row(value):
            value = row_to_dict(value)
            if self.input_key is None and self._unread(value) is value:
                raise InputError("the input is a row of a table: name the column that holds the text with `input_key=`")
        keyed = self.input_key is not None and isinstance(value, Mapping)
        if keyed and self.input_key not in value:
            raise InputError(
                f"the input has no key {self.input_key!r}: name its text as `input_key=` of small model {self.name!r}"
            )
        if not self.ignore_attachments:
            found = find_attachment(self._unread(value))
            if found is not None:
                raise AttachmentError(
                    f"the input has an attachment ({found}) that small model {self.name!r} does not read; "
                    "`ignore_attachments=True` answers without it"
                )
        return value[self.input_key] if keyed else value

    def _unread(self, value: Any) -> Any:
        """What of an input is not handed to the model as it is: there no attachment may be."""
        if self.reads_text:
            return value
        if self.input_key is not None and isinstance(value, Mapping):
            return {key: part for key, part in value.items() if key != self.input_key}
        return None

    def identity(self, value: Any) -> bytes | None:
        """Return the canonical form of what this model reads of an input; None where it cannot be seen into."""
        try:
            return canonical(self.read(value))
        except Exception:  # noqa: BLE001 - `read` may be the user's: an input that cannot be read has no form
            return None

    def in_training(self, inputs: Sequence[Any]) -> list[bool | None]:
        """Return which inputs this model was trained on, as far as it knows; None where nobody can tell.

        Example:
            >>> from langchain_dsplus import FakeSmallModel
            >>> small = FakeSmallModel({}, ["a", "b"], trained_on=["one text"])
            >>> small.in_training(["one  text", "another"]), FakeSmallModel({}, ["a", "b"]).in_training(["one text"])
            ([True, False], [None])
        """
        seen = self._trained
        return [None] * len(inputs) if seen is None else [seen.has(self.identity(value)) for value in inputs]

    def remember(self, inputs: Sequence[Any], *, anew: bool = False) -> None:
        """Remember what the model was trained on, `anew` or besides what it was trained on before."""
        before = None if anew else self._trained
        self._trained = (before or Seen()).add(self.identity(value) for value in inputs)

    def warmup(self) -> None:
        """Load what is loaded late, so that the first input does not pay for it."""

    def clone(self) -> Self:
        """Return an untied copy: training one never changes the other."""
        copy = self.model_copy(deep=True)
        copy.set_version(None)
        return copy

    def save(self, path: str | Path) -> None:
        """Write the model into a folder: safetensors and JSON, never pickle."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved: {path}")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a saved model. Executes no code from the folder."""
        raise NotImplementedError(f"{cls.__name__} cannot be loaded: {path}")

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """SHA-256 of what the model is, or the version given at construction, or `unverifiable`."""
        if self._version is None:
            body = self.fingerprint()
            if body == UNVERIFIABLE:
                return UNVERIFIABLE
            score = self.score if isinstance(self.score, str) else UNVERIFIABLE
            text = json.dumps([type(self).__qualname__, self.labels, score, body], ensure_ascii=False)
            self._version = hashlib.sha256(text.encode()).hexdigest()
        return self._version

    def set_version(self, version: str | None) -> None:
        """Name the version by hand; None, after a change: it is what the model is, found anew at the next look."""
        self._version = version

    @property
    def label_set(self) -> frozenset[str]:
        """The labels, for membership tests."""
        return frozenset(self.labels)

    # --- answers ------------------------------------------------------------------------------------------------

    def answers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Answer a batch without a traced run: one call of the model, an exception in place of a failed item.

        This is what a router calls. `configs` matters only to models whose calls are traced themselves.
        """
        results, places, values = self.read_all(inputs)
        if values:
            for place, answer in zip(places, self._isolated(values), strict=True):
                results[place] = answer
        return results

    def read_all(self, inputs: Sequence[Any]) -> tuple[list[Answer | Exception], list[int], list[Any]]:
        """One place for each answer, with an exception where `read` raised; where it did not, places and values."""
        results: list[Answer | Exception] = [InvalidAnswerError("not asked")] * len(inputs)
        places: list[int] = []
        values: list[Any] = []
        for place, item in enumerate(inputs):
            try:
                values.append(self.read(item))
            except Exception as error:  # noqa: BLE001 - `read` may be the user's
                results[place] = failure(error)
            else:
                places.append(place)
        return results, places, values

    async def aanswers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Async twin of `answers`: the same work, in an executor thread."""
        if not inputs:
            return []
        return await run_in_executor(None, self.answers, inputs, configs)

    def _isolated(self, values: list[Any]) -> list[Answer | Exception]:
        """Answer all at once; if that raises, by halves, so that a bad input harms only itself."""
        return self._halves(values, _Patience())

    def _halves(self, values: list[Any], patience: _Patience) -> list[Answer | Exception]:
        if patience.lost():
            return [patience.error] * len(values)
        try:
            results = self._answer(values)
        except Exception as error:  # noqa: BLE001
            failure(error)
            if len(values) == 1:
                patience.failed(error)
                return [error]
        else:
            patience.hopeful = True
            return results
        middle = len(values) // 2
        return self._halves(values[:middle], patience) + self._halves(values[middle:], patience)

    def _predict(self, values: list[Any]) -> tuple[ArrayLike, Sequence[float] | NDArray[Any] | None]:
        """Return probabilities and, where the model computes its own score, the confidences."""
        return self.predict_proba(values), None

    def _answer(self, values: list[Any]) -> list[Answer | Exception]:
        raw, confidences = self._predict(values)
        labels = self.labels
        rows = _rows(raw)
        widths = {len(row) for row in rows}
        if len(rows) != len(values) or widths != {len(labels)}:
            raise InvalidAnswerError(
                f"`predict_proba` of {self.name!r} returned {len(rows)} rows of {sorted(widths)} numbers; "
                f"expected {len(values)} of {len(labels)}: one row per input, one column per label"
            )
        function = None if self.score == "max_probability" else self._score_function()
        results: list[Answer | Exception] = []
        for place, row in enumerate(rows):
            # NaN fails every comparison, so it is caught by the sum.
            if not (abs(sum(row) - 1.0) <= 1e-3 and min(row) >= 0.0):
                results.append(InvalidAnswerError("probabilities are NaN, negative, or do not sum to 1"))
                continue
            largest = max(row)
            probabilities = dict(zip(labels, row, strict=True))
            try:
                if confidences is not None:
                    confidence = float(confidences[place])
                elif function is None:
                    confidence = largest
                else:
                    confidence = float(function(probabilities))
            except Exception as error:  # noqa: BLE001
                results.append(failure(error))
                continue
            if not math.isfinite(confidence):
                results.append(InvalidAnswerError("`confidence` is not finite"))
                continue
            results.append(
                {
                    "choice": labels[row.index(largest)],
                    "probabilities": probabilities,
                    "confidence": confidence,
                }
            )
        return results

    def _score_function(self) -> ScoreFunction | None:
        """None where the model computes the score itself."""
        if isinstance(self.score, str) and self.score in self.own_scores:
            return None
        return resolve_score(self.score)

    # --- Runnable -----------------------------------------------------------------------------------------------

    def _plan(self, value: Any, run_manager: Any, config: RunnableConfig) -> _drive.Plan[Answer]:
        (result,) = yield _drive.Call(self.answers, self.aanswers, [value], [config])
        if isinstance(result, Exception):
            raise result
        return cast("Answer", result)

    def _plan_all(
        self, values: list[Any], run_manager: Any, config: list[RunnableConfig]
    ) -> _drive.Plan[list[Exception | Answer]]:
        return cast("list[Exception | Answer]", (yield _drive.Call(self.answers, self.aanswers, values, config)))


class AskingModel(SmallModel):
    """A small model that asks somebody else, such as a chat model: `_answering` says how, for sync and async code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    def _answering(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None
    ) -> _drive.Plan[list[Answer | Exception]]:
        raise NotImplementedError

    def answers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Answer a batch; an exception in place of an item that failed."""
        return _drive.run(self._answering(inputs, configs))

    async def aanswers(
        self, inputs: Sequence[Any], configs: Sequence[RunnableConfig] | None = None
    ) -> list[Answer | Exception]:
        """Async twin of `answers`."""
        return await _drive.arun(self._answering(inputs, configs))

    def predict_proba(self, inputs: list[Any]) -> list[list[float]]:
        """Return the probabilities alone."""
        return probability_rows(self.answers(inputs), self.labels)


def _rows(raw: Any) -> list[list[float]]:
    """Take an array, a tensor, a data frame or lists apart into plain floats, without importing NumPy for it."""
    if hasattr(raw, "to_numpy"):
        raw = raw.to_numpy()
    if hasattr(raw, "tolist"):
        raw = raw.tolist()
    try:
        return [[float(p) for p in row] for row in raw]
    except TypeError as error:
        raise InvalidAnswerError("`predict_proba` must return numbers in rows, one row per input") from error


def probability_rows(answers: Iterable[Answer | Exception], labels: Sequence[str]) -> list[list[float]]:
    """Rows of probabilities in the order of the labels, for a model that makes whole answers.

    Raises:
        Exception: The first one among the answers.
    """
    rows = []
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
        rows.append([answer["probabilities"].get(label, 0.0) for label in labels])
    return rows


def read_text(value: Any) -> str:
    """Take the text out of an input: a str, a message, a prompt, a list of messages (the last), a dict with one text.

    Raises:
        InputError: If there is no text to be found. The message never carries the value.
    """
    if isinstance(value, str):
        return value
    if hasattr(value, "to_messages"):  # a prompt value
        value = value.to_messages()
    if isinstance(value, BaseMessage):
        return str(value.text)
    if isinstance(value, Mapping):
        texts = [v for k, v in value.items() if isinstance(v, str) and k != "dsplus"]
        if len(texts) == 1:
            return texts[0]
        raise InputError(f"the input is a dict with {len(texts)} texts: name the key with `input_key=`")
    if (
        isinstance(value, Sequence)
        and len(value) > 0
        and not isinstance(value, (bytes, bytearray))
        and not is_row(value)
    ):
        last = value[-1]
        if isinstance(last, (Mapping, tuple)):  # a message in one of LangChain's short forms
            from langchain_core.messages import convert_to_messages

            with contextlib.suppress(ValueError, NotImplementedError, TypeError):
                last = convert_to_messages([cast("Any", last)])[0]
        if isinstance(last, BaseMessage):
            return str(last.text)
    raise InputError(f"a text model needs a str, a message, or a dict with a text, not {type(value).__name__}")


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which no tokenizer can read."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
