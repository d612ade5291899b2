"""A small model for users' tests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pydantic import Field, PrivateAttr

from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel, read_text

Response = Mapping[str, float] | Exception

_LOCK = threading.Lock()  # one for all: a model with a lock of its own could not be copied


class FakeSmallModel(SmallModel):
    """Answers from a table or a function, and remembers what it was asked.

    Args:
        responses: A dict from text to probabilities, or a callable from input to probabilities. An exception in
            place of probabilities is raised for that input.
        labels: The classes; by default those named in a dict of responses.
        default: Probabilities for inputs that the table lacks; without it such an input raises `KeyError`.
        latency: Seconds that each batch takes.

    Attributes:
        calls: Every batch that the model was asked, in order.

    Example:
        ```python
        small = FakeSmallModel({"great": {"pos": 0.99, "neg": 0.01}, "hm": {"pos": 0.6, "neg": 0.4}})
        small.invoke("great")["choice"]  # "pos"
        ```
    """

    responses: Mapping[str, Any] | Callable[[Any], Any] = Field(default_factory=dict)
    default: Mapping[str, float] | None = None
    latency: float = 0.0

    _calls: list[list[Any]] = PrivateAttr(default_factory=list)

    def __init__(
        self,
        responses: Mapping[str, Response] | Callable[[Any], Response] | None = None,
        labels: Sequence[str] | None = None,
        *,
        default: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        responses = {} if responses is None else responses
        if labels is None:
            tables = [*(responses.values() if isinstance(responses, Mapping) else ()), default]
            labels = list(dict.fromkeys(label for t in tables if isinstance(t, Mapping) for label in t))
        if not labels:
            raise ValueError("`labels` is needed where `responses` does not name them")
        super().__init__(responses=responses, labels=list_labels(labels), default=default, **kwargs)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """A table of responses can be dumped and loaded."""
        return True

    @property
    def calls(self) -> list[list[Any]]:
        """Every batch that the model was asked, in order."""
        return self._calls

    def clone(self) -> Self:
        """Return a copy that remembers its own calls."""
        copy = self.model_copy(update={"labels": list(self.labels)})
        if not callable(self.responses):
            copy.responses = dict(self.responses)
        copy._calls = []  # noqa: SLF001
        copy.set_version(None)
        return copy

    def fingerprint(self) -> str:
        """The table itself."""
        if callable(self.responses):
            return UNVERIFIABLE
        return json.dumps([dict(self.responses), self.default], default=repr, sort_keys=True)

    def _unread(self, value: Any) -> Any:
        return super()._unread(value) if callable(self.responses) else value

    def predict_proba(self, inputs: list[Any]) -> list[list[float]]:
        """Look the inputs up."""
        with _LOCK:
            self._calls.append(list(inputs))
        if self.latency:
            time.sleep(self.latency)
        return [self._row(value) for value in inputs]

    def _row(self, value: Any) -> list[float]:
        if callable(self.responses):
            response = self.responses(value)
        else:
            response = self.responses.get(read_text(value), self.default)
        if response is None:
            raise KeyError("`responses` has no entry for this input, and there is no `default`")
        if isinstance(response, Exception):
            raise response
        return [float(response.get(label, 0.0)) for label in self.labels]
