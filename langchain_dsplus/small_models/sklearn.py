"""scikit-learn estimators, and anything that looks like one, as small models."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from langchain_dsplus._imports import require
from langchain_dsplus.answer import InputError
from langchain_dsplus.confidence import ScoreFunction
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel
from langchain_dsplus.small_models.explain import Because, terms_of
from langchain_dsplus.small_models.files import load_folder, pick, pick_score, plain_errors, read_trained, save_folder

_FORMAT = 2
_MODEL = "model.skops"


class SklearnClassifier(SmallModel):
    """Any object with `predict_proba(list of inputs)` and `classes_`: a text pipeline, a table model, your own.

    Args:
        estimator: A fitted classifier. It gets the inputs as a list, taken out of their dicts where `input_key` is set;
            one that was fitted on a DataFrame (`feature_names_in_`, as with a `ColumnTransformer`) gets a DataFrame of
            the inputs' columns: inputs are dicts, pandas rows, named tuples, or lists in the columns' order.
        **kwargs: `name`, `input_key`, `score`, `version`, `trained_on` as in `SmallModel`: an estimator does not know
            what it was fitted on, so leakage is seen only where `trained_on` says; `labels` renames `classes_`, in
            their order.

    Raises:
        TypeError: If the estimator has no `predict_proba`.
        ValueError: If it is not fitted (no `classes_`).

    Example:
        ```python
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
        small = SklearnClassifier(pipeline)
        ```
    """

    estimator: Any = Field(exclude=True)

    def __init__(self, estimator: Any = None, **kwargs: Any) -> None:
        if not callable(getattr(estimator, "predict_proba", None)):
            raise TypeError(f"`estimator` needs a `predict_proba` method; {type(estimator).__name__} has none")
        classes = getattr(estimator, "classes_", None)
        if "labels" not in kwargs:
            if classes is None:
                raise ValueError("`estimator` has no `classes_`: fit it first")
            kwargs["labels"] = [str(c) for c in classes]
        elif classes is not None:
            known, labels = [str(c) for c in classes], list_labels(kwargs["labels"])
            if set(labels) == set(known) and labels != known:
                raise ValueError(f"`labels` must be in the order of the estimator's `classes_`: {known}")
        super().__init__(estimator=estimator, **kwargs)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """An estimator is saved with `save`, not with LangChain's `dumps`."""
        return False

    def predict_proba(self, inputs: list[Any]) -> Any:
        """Ask the estimator; one that was fitted on a DataFrame gets a DataFrame."""
        columns = self._columns
        if columns is None:
            return self.estimator.predict_proba(inputs)
        rows = [value if isinstance(value, Mapping) else _in_order(value, columns) for value in inputs]
        frame = require("pandas", "sklearn").DataFrame([{name: row[name] for name in columns} for row in rows])
        return self.estimator.predict_proba(frame)

    def read(self, value: Any) -> Any:
        """Take the estimator's input out of what the chain passes.

        Raises:
            InputError: If a dict lacks a column that the estimator was fitted on.
        """
        found = super().read(value)
        if self._columns is not None and isinstance(found, Mapping):
            missing = [name for name in self._columns if name not in found]
            if missing:
                raise InputError(
                    f"the input lacks columns that the estimator of small model {self.name!r} needs: {missing}"
                )
        return found

    def _unread(self, value: Any) -> Any:
        if self._columns is not None and self.input_key is None and isinstance(value, Mapping):
            return {key: part for key, part in value.items() if key not in self._columns}
        return super()._unread(value)

    @property
    def _columns(self) -> list[str] | None:
        """The columns of the DataFrame that the estimator was fitted on, where it was one."""
        names = getattr(self.estimator, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    def explain(self, value: Any, *, k: int = 5) -> list[Because]:
        """Return the terms of an input that speak most for the answer, against the runner-up.

        Args:
            value: The input, as in `invoke`.
            k: How many terms at most.

        Raises:
            TypeError: If the estimator is no pipeline with named features and a linear head.
        """
        return terms_of(self.estimator, self.read(value), self.labels, k)

    def fingerprint(self) -> str:
        """A hash of the fitted estimator, where it is one of scikit-learn's."""
        try:
            from sklearn.base import BaseEstimator
        except ImportError:
            return UNVERIFIABLE
        if not isinstance(self.estimator, BaseEstimator):
            return UNVERIFIABLE
        digest = hashlib.sha256()
        return digest.hexdigest() if _feed(digest, self.estimator, depth=0) else UNVERIFIABLE

    def save(self, path: str | Path) -> None:
        """Write `model.skops` and `model.json` into a folder, with a SHA-256 over both.

        It detects damage; it is no authentication.
        """
        sio = require("skops.io", "sklearn")
        settings = {
            "format": _FORMAT,
            "kind": "SklearnClassifier",
            "labels": self.labels,
            "name": self.name,
            "input_key": self.input_key,
            "score": self.score if isinstance(self.score, str) else None,
        }
        save_folder(path, _MODEL, sio.dumps(self.estimator), settings, self._trained)

    @classmethod
    def load(cls, path: str | Path, *, trusted: Sequence[str] = (), score: ScoreFunction | None = None) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        A SHA-256 over settings and estimator detects damage. It is no authentication: who can write to the folder can
        write a new one.

        Args:
            path: The folder.
            trusted: Names of further types that you allow, as the error lists them: your own, and compiled ones such
                as `sklearn.tree._tree.Tree` in a forest, where the folder comes from someone you trust.
            score: The score, where it was a callable: those are not saved.

        Raises:
            ValueError: If a file is missing, cut off or changed, holds a setting of a wrong type, or holds types that
                are not trusted; the message names them.
        """
        sio = require("skops.io", "sklearn")
        settings, body = load_folder(path, _MODEL, kind="SklearnClassifier", version=_FORMAT)
        _refuse_bombs(body, Path(path) / _MODEL)
        allowed = _HARMLESS.union(trusted)
        unknown = sorted(set(sio.get_untrusted_types(data=body)) - allowed)
        if unknown:
            raise ValueError(f"{Path(path) / _MODEL} holds types that are not trusted: {unknown}. Pass `trusted=[...]`")
        fields = pick(settings, path, "labels", "name", "input_key")
        score = pick_score(pick(settings, path, "score"), score, path)
        estimator = sio.loads(body, trusted=sorted(allowed))
        with plain_errors(path):
            model = cls(estimator, score=score, **fields)
        model._trained = read_trained(settings, path)
        return model


def _refuse_bombs(body: bytes, file: Path) -> None:
    """Refuse an archive that unpacks to more than it is: `save` writes without compression, each byte once.

    What the archive declares is what would be read of it at most.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            size = sum(item.file_size for item in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} is damaged: it is no archive. Save the model again") from error
    if size > len(body):
        raise ValueError(
            f"{file} would unpack to {size:,} bytes from {len(body):,}: refused. `save` writes it without compression"
        )


def _in_order(value: Any, columns: Sequence[str]) -> dict[str, Any]:
    """A row without names, as the columns stand; a text is a row of one column."""
    listed = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
    row = list(value) if listed else [value]
    if len(row) != len(columns):
        raise InputError(f"the estimator needs a dict with the columns {list(columns)}")
    return dict(zip(columns, row, strict=True))


_HARMLESS = frozenset(
    {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
"""Plain Python holders of numbers that skops does not know. Trees and neighbor indexes are not here: they are read by
compiled code that believes every index in them, so a forged one could reach outside its memory."""

_NOT_PART_OF_IT = frozenset(
    {
        *("n_jobs", "verbose", "random_state", "_random_state", "_rng", "_feature_subsample_rng"),
        *("_stop_words_id", "_sklearn_version"),  # an object's address; what it was saved with
        *("f_", "closs"),  # rebuilt from thresholds, and from the name of the loss, which are hashed
    }
)
"""Attributes that change no answer."""


def _feed(digest: Any, value: Any, *, depth: int) -> bool:
    """Hash a fitted estimator by its parameters and arrays. False where something cannot be seen into.

    The same before and after `save` and `load`: a NumPy number counts as the Python number, a tuple as a list.
    """
    import numpy as np

    if depth > 20:
        return False
    if isinstance(value, np.ndarray) and value.dtype.names:  # field by field: what lies between them is not set
        return all(_feed(digest, value[name], depth=depth + 1) for name in value.dtype.names)
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
        return True
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bytes, int, float, bool)):
        digest.update(f"{value!r};".encode("utf-8", "backslashreplace"))
        return True
    if isinstance(value, (type, np.dtype)):
        digest.update(f"{np.dtype(value) if isinstance(value, np.dtype) else value.__qualname__};".encode())
        return True
    if isinstance(value, Mapping):
        digest.update(f"dict{len(value)}".encode())
        items = sorted(value.items(), key=lambda item: str(item[0]))
        return all(_feed(digest, k, depth=depth + 1) and _feed(digest, v, depth=depth + 1) for k, v in items)
    if isinstance(value, (set, frozenset)):
        return _feed(digest, sorted(value, key=str), depth=depth + 1)
    if isinstance(value, (list, tuple, np.ndarray)):
        digest.update(f"list{len(value)}".encode())
        return all(_feed(digest, v, depth=depth + 1) for v in value)
    if hasattr(value, "indptr") and hasattr(value, "data"):  # a SciPy sparse matrix
        digest.update(f"{value.format}{value.shape}".encode())
        return all(_feed(digest, getattr(value, a), depth=depth + 1) for a in ("data", "indices", "indptr"))
    if type(value).__module__.partition(".")[0] == "sklearn":
        digest.update(type(value).__qualname__.encode())
        if hasattr(value, "__dict__"):
            state = {k: v for k, v in vars(value).items() if k not in _NOT_PART_OF_IT}
        else:  # compiled: a tree
            state = value.__getstate__()
        return state is not None and _feed(digest, state, depth=depth + 1)
    return False
