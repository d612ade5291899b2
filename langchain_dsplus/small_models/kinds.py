"""The kinds of small model that have files of their own, by the name that stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langchain_dsplus._json import load_json
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.files import SETTINGS
from langchain_dsplus.small_models.image import ImageClassifier
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.small_models.transformers import TransformersClassifier

KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (SentenceClassifier, SklearnClassifier, TransformersClassifier, ImageClassifier)
}


def load_small_model(path: str | Path, options: Mapping[str, Any] | None = None) -> SmallModel:
    """Read a small model from the folder of its `save`, whatever kind it is; runs no code.

    Raises:
        ValueError: If it is no saved small model, or damaged.
    """
    try:
        kind = load_json((Path(path) / SETTINGS).read_text(encoding="utf-8"))["kind"]
        found = KINDS[kind]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} holds no saved small model of a kind that this version knows") from error
    model: SmallModel = found.load(path, **(options or {}))
    return model
