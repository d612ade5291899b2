"""Small models that are a softmax head on features: taken apart for training, put together again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.messages import BaseMessage

from langchain_dsplus._arrays import Floats
from langchain_dsplus.calibration import softmax
from langchain_dsplus.learning.targets import ask
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.small_models.softmax import SoftmaxHead

_MOST_NUMBERS = 50_000_000


@dataclass(frozen=True)
class Head:
    """A head as it is: the features of some inputs, W (d, K) and b (K,), and how to make a model of another W and b."""

    features: Any
    weight: Floats
    bias: Floats
    put: Callable[[Floats, Floats], Any]


@dataclass(frozen=True)
class HeadKind:
    """A head to be fitted anew: features, shape (n, d), its penalty, and how to make a model of W, b and T.

    `old` is the head as it is, temperature included, where the features are still those that it reads; else None.
    """

    features: Any
    l2: float | None
    put: Callable[[Any, Any, float], Any]
    old: tuple[Any, Any] | None = None


def is_sparse(features: Any) -> bool:
    """Whether features are a SciPy sparse matrix."""
    return hasattr(features, "multiply")


def read_head(model: SmallModel, inputs: Sequence[Any]) -> Head | None:
    """Take a fitted model apart, features as it has them now; None where it is no softmax head."""
    if isinstance(model, SentenceClassifier):
        head = model.head
        features = model.embeddings(inputs).astype(np.float64)

        def put_sentence(weight: Floats, bias: Floats) -> SentenceClassifier:
            return model.with_head(SoftmaxHead(weight, bias, 1.0))

        # The temperature goes into the head: what is distilled are the probabilities that the model gives.
        weight, bias = head.weight.astype(np.float64), head.bias.astype(np.float64)
        return Head(features, weight / head.temperature, bias / head.temperature, put_sentence)
    if isinstance(model, SklearnClassifier) and len(inputs) and _logistic(model):
        return _read_linear(model, [model.read(value) for value in inputs])
    return None


def find_head(
    model: SmallModel, inputs: Sequence[Any], targets: Floats, further: Sequence[Any] = ()
) -> HeadKind | None:
    """Prepare a model's head for fitting it anew; None where it is no softmax head.

    The steps before a pipeline's logistic regression are fitted anew on the inputs, so a vocabulary grows with them.
    `further` inputs get features too, behind the others, and fit nothing.
    """
    if isinstance(model, SentenceClassifier):
        head = model.head
        return HeadKind(
            model.embeddings([*inputs, *further]),
            model.l2,
            lambda weight, bias, temperature: model.with_head(SoftmaxHead(weight, bias, temperature)),
            (head.weight / head.temperature, head.bias / head.temperature),
        )
    if not isinstance(model, SklearnClassifier) or not _logistic(model):
        return None
    values = [model.read(value) for value in inputs]
    if _read_linear(model, values[:8]) is None:
        return None
    copy = model.clone()
    before = _before(copy)
    more = [model.read(value) for value in further]
    if before is None:
        parts: list[Any] = [np.asarray(values)]
        parts += [np.asarray(more)] if more else []
    else:
        parts = [before.fit_transform(values, targets.argmax(axis=1))]
        parts += [before.transform(more)] if more else []
    if sum(part.shape[0] for part in parts) * parts[0].shape[1] > _MOST_NUMBERS:
        return None
    features = np.vstack([part.toarray() if is_sparse(part) else np.asarray(part) for part in parts])

    def put(weight: Any, bias: Any, temperature: float) -> SklearnClassifier:
        _set_linear(copy, weight.astype(np.float64) / temperature, bias.astype(np.float64) / temperature)
        return copy

    last = _last(copy)
    return HeadKind(features.astype(np.float32), 1.0 / float(last.C), put)


def name_rows(model: SmallModel, inputs: Sequence[Any]) -> list[tuple[int, Any]]:
    """The names of the labels as inputs, with the labels' places, for a model whose inputs are texts.

    A name without a word of three letters says nothing, and is left out, as is one that the model cannot read.
    """
    if not isinstance(model, (SentenceClassifier, SklearnClassifier)):
        return []
    if not all(isinstance(model.read(value), (str, BaseMessage)) for value in inputs):
        return []
    named = spoken_names(model)
    _, _, answered = ask(model, [value for _, value in named])
    return [row for row, fine in zip(named, answered, strict=True) if fine]


def spoken_names(model: SmallModel) -> list[tuple[int, Any]]:
    """The names of the labels as texts, with the labels' places; those without a word of three letters say nothing."""
    spaced = [re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label)).strip() for label in model.labels]
    return [
        (place, name if model.input_key is None else {model.input_key: name})
        for place, name in enumerate(spaced)
        if re.search(r"[^\W\d_]{3}", name)
    ]


def _logistic(model: SklearnClassifier) -> bool:
    """Whether the estimator is, or ends in, scikit-learn's logistic regression with its usual penalty."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return False
    last = _last(model)
    return type(last) is LogisticRegression and last.class_weight is None and last.fit_intercept and last.C > 0


def _last(model: SklearnClassifier) -> Any:
    return model.estimator[-1] if hasattr(model.estimator, "steps") else model.estimator


def _before(model: SklearnClassifier) -> Any:
    """The steps before the last, or None."""
    whole = model.estimator
    return whole[:-1] if hasattr(whole, "steps") and len(whole.steps) > 1 else None


def _read_linear(model: SklearnClassifier, values: list[Any]) -> Head | None:
    before, last = _before(model), _last(model)
    features: Any = np.asarray(values) if before is None else before.transform(values)
    features = features.tocsr().astype(np.float64) if is_sparse(features) else np.asarray(features, dtype=np.float64)
    weight, bias = last.coef_.T.astype(np.float64), last.intercept_.astype(np.float64)
    if weight.shape[1] == 1:  # two classes have one column: the second's logit over the first's
        weight, bias = np.hstack([-weight / 2.0, weight / 2.0]), np.array([-bias[0] / 2.0, bias[0] / 2.0])
    few = slice(0, 8)
    if not np.allclose(
        softmax(np.asarray(features[few] @ weight) + bias), model.estimator.predict_proba(values[few]), atol=1e-6
    ):
        return None  # one-versus-rest, or a step that does more than transform

    def put(weight: Floats, bias: Floats) -> SklearnClassifier:
        copy = model.clone()
        _set_linear(copy, weight, bias)
        return copy

    return Head(features, weight, bias, put)


def _set_linear(model: SklearnClassifier, weight: Floats, bias: Floats) -> None:
    last = _last(model)
    if len(last.classes_) == 2:
        weight, bias = weight[:, 1:] - weight[:, :1], bias[1:] - bias[:1]
    last.coef_, last.intercept_ = np.ascontiguousarray(weight.T), np.ascontiguousarray(bias)
    last.n_features_in_ = int(weight.shape[0])
