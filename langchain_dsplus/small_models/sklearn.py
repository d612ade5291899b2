"""scikit-learn estimators, and anything that looks like one, as small models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from langchain_dsplus._imports import require
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel

_FORMAT = 1


class SklearnClassifier(SmallModel):
    """Any object with `predict_proba(list of inputs)` and `classes_`: a text pipeline, a table model, your own.

    Args:
        estimator: A fitted classifier. It gets the inputs as a list, taken out of their dicts where `input_key` is set.
        **kwargs: `name`, `input_key`, `score`, `version` as in `SmallModel`.

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
            msg = f"`estimator` needs a `predict_proba` method; {type(estimator).__name__} has none"
            raise TypeError(msg)
        if "labels" not in kwargs:
            classes = getattr(estimator, "classes_", None)
            if classes is None:
                msg = "`estimator` has no `classes_`: fit it first"
                raise ValueError(msg)
            kwargs["labels"] = [str(c) for c in classes]
        super().__init__(estimator=estimator, **kwargs)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """An estimator is saved with `save`, not with LangChain's `dumps`."""
        return False

    def predict_proba(self, inputs: list[Any]) -> Any:
        """Ask the estimator."""
        return self.estimator.predict_proba(inputs)

    def fingerprint(self) -> str:
        """A hash of the fitted estimator, where it is one of scikit-learn's."""
        try:
            from sklearn.base import BaseEstimator  # noqa: PLC0415
        except ImportError:
            return UNVERIFIABLE
        if not isinstance(self.estimator, BaseEstimator):
            return UNVERIFIABLE
        digest = hashlib.sha256()
        return digest.hexdigest() if _feed(digest, self.estimator, depth=0) else UNVERIFIABLE

    def save(self, path: str | Path) -> None:
        """Write `model.skops` and `model.json` into a folder."""
        sio = require("skops.io", "sklearn")
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        sio.dump(self.estimator, folder / "model.skops")
        settings = {
            "format": _FORMAT,
            "kind": "SklearnClassifier",
            "labels": self.labels,
            "name": self.name,
            "input_key": self.input_key,
            "score": self.score if isinstance(self.score, str) else None,
        }
        (folder / "model.json").write_text(json.dumps(settings, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, *, trusted: Sequence[str] = ()) -> Self:
        """Read what `save` wrote.

        Args:
            path: The folder.
            trusted: Names of types outside scikit-learn and NumPy that you allow, as skops lists them.

        Raises:
            ValueError: If the file holds types that are not trusted; the message names them.
        """
        sio = require("skops.io", "sklearn")
        folder = Path(path)
        settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        unknown = set(sio.get_untrusted_types(file=folder / "model.skops")) - set(trusted)
        if unknown:
            msg = f"{folder / 'model.skops'} holds types that are not trusted: {sorted(unknown)}. Pass `trusted=[...]`"
            raise ValueError(msg)
        estimator = sio.load(folder / "model.skops", trusted=list(trusted))
        score = settings["score"] or "max_probability"
        return cls(
            estimator,
            labels=settings["labels"],
            name=settings["name"],
            input_key=settings["input_key"],
            score=score,
        )


def _feed(digest: Any, value: Any, *, depth: int) -> bool:
    """Hash a fitted estimator by its parameters and arrays. False where something cannot be seen into."""
    import numpy as np  # noqa: PLC0415 - not needed to import the package

    if depth > 12:
        return False
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
        return True
    if value is None or isinstance(value, (str, bytes, int, float, bool, np.generic, type)):
        digest.update(f"{type(value).__name__}:{value!r}".encode())
        return True
    if isinstance(value, dict):
        digest.update(f"dict{len(value)}".encode())
        return all(
            _feed(digest, k, depth=depth + 1) and _feed(digest, v, depth=depth + 1)
            for k, v in sorted(value.items(), key=lambda item: repr(item[0]))
        )
    if isinstance(value, (list, tuple, np.ndarray)):
        digest.update(f"{type(value).__name__}{len(value)}".encode())
        return all(_feed(digest, v, depth=depth + 1) for v in value)
    if hasattr(value, "indptr") and hasattr(value, "data"):  # a SciPy sparse matrix
        return all(_feed(digest, getattr(value, a), depth=depth + 1) for a in ("data", "indices", "indptr"))
    if type(value).__module__.partition(".")[0] == "sklearn" and hasattr(value, "__dict__"):
        digest.update(type(value).__qualname__.encode())
        return _feed(digest, vars(value), depth=depth + 1)
    return False
