"""What the ready scores share: what they were fitted on, what they are, and how they lie on disk."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus._imports import require
from langchain_dsplus.answer import Answer, NotFittedError
from langchain_dsplus.outcomes.uses import INPUT_HASH
from langchain_dsplus.small_models.base import UNVERIFIABLE
from langchain_dsplus.small_models.files import load_folder, save_folder
from langchain_dsplus.threshold.differences import differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_dsplus.outcomes import Outcomes


Arrays: TypeAlias = dict[str, Any]
"""By name."""
_BODY = "score.safetensors"
_FORMAT = 1


class ReadyScore(ABC):
    """A score of this package: a `RouteScore` that can be saved.

    Attributes:
        fitted_on: The keyed hashes (`input_hash`) of the rows that it was fitted on, where the table had them.
            `score_outcomes` marks such rows as `in_training`, so that `certify` leaves them out.
    """

    name: ClassVar[str]
    before: bool = True

    def __init__(self) -> None:
        self.fitted_on: frozenset[str] = frozenset()

    @abstractmethod
    def fit(self, outcomes: Outcomes, inputs: Sequence[Any] | None = None) -> Self:
        """Learn from a table and the inputs of its rows; never from rows that certify."""

    @abstractmethod
    def __call__(self, inputs: Sequence[Any], answers: Sequence[Answer] | None = None) -> Sequence[float]:
        """Return one number for each input; higher keeps local."""

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """Everything but arrays that numbers depend on, as plain JSON; raises where it is not fitted."""

    def _arrays(self) -> Arrays:
        """Arrays that numbers depend on."""
        return {}

    @classmethod
    @abstractmethod
    def _made(cls, settings: Mapping[str, Any], arrays: Arrays, folder: Path, options: Mapping[str, Any]) -> Self:
        """The score that was saved; raises KeyError, TypeError or ValueError where something is missing or wrong."""

    @property
    def version(self) -> str:
        """SHA-256 of everything that its numbers depend on; `unverifiable` where a part cannot be seen into.

        Raises:
            NotFittedError: If it is not fitted.
        """
        settings = self._settings()
        if UNVERIFIABLE in settings.values():
            return UNVERIFIABLE
        digest = hashlib.sha256(json.dumps([self.name, settings], sort_keys=True, ensure_ascii=False).encode())
        for key, array in sorted(self._arrays().items()):
            digest.update(f"{key}{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write `model.json` and `score.safetensors` into a folder, with a SHA-256 over both."""
        library = require("safetensors.numpy", "local")
        body = library.save({key: np.ascontiguousarray(array) for key, array in self._arrays().items()})
        settings = {"format": _FORMAT, "kind": type(self).__name__, "fitted_on": sorted(self.fitted_on)}
        save_folder(path, _BODY, body, {**settings, "settings": self._settings()})

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        Raises:
            ValueError: If it is something else, or damaged.
        """
        library = require("safetensors.numpy", "local")
        found, body = load_folder(path, _BODY, kind=cls.__name__, version=_FORMAT)
        try:
            score = cls._made(found["settings"], library.load(body), Path(path), options)
            score.fitted_on = frozenset(map(str, found["fitted_on"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is damaged: it holds no whole {cls.__name__}. Save the score again") from error
        return score

    def _remember(self, outcomes: Outcomes) -> None:
        held = outcomes.values(INPUT_HASH) if INPUT_HASH in outcomes else []
        self.fitted_on = frozenset(str(value) for value in held if value is not None)

    def _unfitted(self) -> NotFittedError:
        return NotFittedError(f"this {type(self).__name__} is not fitted: call `fit(outcomes, inputs)`, or load one")


def inputs_of(outcomes: Outcomes, inputs: Sequence[Any] | None) -> list[Any]:
    """The inputs of a table's rows: those given, or its column `input`.

    Raises:
        ValueError: If there are none, or another number of them than rows.
    """
    if inputs is None:
        if "input" not in outcomes:
            raise ValueError(
                "this score reads inputs, and tables keep none: pass `inputs=`, one for each row, in its order"
            )
        return outcomes.values("input")
    if isinstance(inputs, str) or len(inputs) != len(outcomes):
        raise ValueError(f"`inputs` must be a list with one input for each of the {len(outcomes)} rows")
    return list(inputs)


def losses_of(outcomes: Outcomes) -> tuple[Floats, NDArray[np.bool_]]:
    """What accepting each row loses (1), wins (-1) or neither, and where both models answered.

    Raises:
        ValueError: If the table is about several small models.
    """
    found = differences(outcomes)
    if len(found.models) != 1:
        raise ValueError("`outcomes` must be about one small model")
    return found.models[0].loss.astype(np.float64), np.isfinite(found.models[0].confidence) & ~found.unanswered
