"""How each kind of small model is trained a little further: the `Student` behind distillation."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from langchain_dsplus._arrays import Floats, Places
from langchain_dsplus._json import load_json
from langchain_dsplus.calibration import log_softmax, softmax
from langchain_dsplus.learning.heads import Head, is_sparse, read_head
from langchain_dsplus.learning.targets import ask, soften
from langchain_dsplus.small_models.base import SmallModel
from langchain_dsplus.small_models.sklearn import SklearnClassifier

_BATCH = 32
_HEAD_RATE = 1.0
_TINY = 1e-12
_LEAST_SHARE = 0.01


@runtime_checkable
class DistillableModel(Protocol):
    """A small model that can be trained a little further: what distillation asks of a kind of its own.

    `TransformersClassifier` and `ImageClassifier` have it. `SentenceClassifier` and `SklearnClassifier` need not: the
    package trains their heads itself.
    """

    labels: list[str]

    def clone(self) -> Any:
        """Return an untied copy."""

    def train_steps(
        self,
        inputs: Sequence[Any],
        soft_targets: Sequence[str | Mapping[str, float]],
        *,
        epochs: int = 1,
        lr: float | None = None,
        seed: int = 0,
        weights: Sequence[float] | None = None,
    ) -> list[float]:
        """Train some epochs in place on soft targets; return each epoch's mean cross-entropy, in nats."""


class Student(ABC):
    """A copy of a small model in training on a fixed list of inputs. Made by `make_student`."""

    exact = True
    """Whether `train` makes gradient steps from where the copy stands. False: it is fitted anew each round."""
    rounds = 10
    """How many rounds of `TwoStageConfidenceDistillation` are usual."""

    @abstractmethod
    def train(self, places: Places, targets: Floats, *, seed: int) -> float:
        """Make one pass over some inputs.

        Args:
            places: Which of the inputs, shape (n,); at least one.
            targets: Distributions that they are to match, shape (n, K).
            seed: Of their order.

        Returns:
            The mean Kullback-Leibler divergence from the targets, in nats, seen during the pass.
        """

    def end_round(self) -> None:  # noqa: B027
        """A round is over; most kinds have nothing to do then."""

    @abstractmethod
    def finish(self) -> Any:
        """Return the small model as it is now, untied from the student."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what is needed to go on."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""


def make_student(model: SmallModel, inputs: Sequence[Any], *, lr: float | None = None) -> Student:
    """Copy a small model and make the copy ready to learn; the model itself is never touched.

    Args:
        model: A fitted `SentenceClassifier`, a `SklearnClassifier`, or anything with `clone` and `train_steps`
            (`DistillableModel`).
        inputs: Everything that it will be trained on; read and encoded once.
        lr: Learning rate. For heads of the package in units of the inverse mean squared length of the features (by
            default 1: half of what is stable); for others passed on, None being their own.

    Raises:
        TypeError: If this kind of model cannot be trained.
    """
    head = read_head(model, inputs)
    if head is not None:
        return _HeadStudent(head, lr=lr)
    if isinstance(model, SklearnClassifier):
        return _RefitStudent(model, inputs)
    if isinstance(model, DistillableModel):
        return _StepsStudent(model, inputs, lr=lr)
    raise untrainable(model)


def untrainable(model: Any) -> TypeError:
    """The error about a kind of small model that has no way to be trained."""
    return TypeError(
        f"{type(model).__name__} cannot be trained: use a SentenceClassifier, a SklearnClassifier, or a model with "
        "`clone` and `train_steps` (DistillableModel)"
    )


# --- softmax heads on fixed features --------------------------------------------------------------------------------


class _HeadStudent(Student):
    """Softmax regression on fixed features: plain stochastic gradient descent, so that nothing but W and b is kept."""

    rounds = 100  # small steps, each for next to nothing

    def __init__(self, head: Head, *, lr: float | None) -> None:
        self.features, self.weight, self.bias, self._put = head.features, head.weight.copy(), head.bias.copy(), head.put
        # The loss curves at most half as much as the squared length of a feature row (and 1 for the bias).
        x = self.features
        lengths = x.multiply(x).sum(axis=1) if is_sparse(x) else x**2
        length = float(lengths.sum()) / max(1, x.shape[0])
        self.rate = (_HEAD_RATE if lr is None else lr) * 2.0 / (1.0 + length)

    def train(self, places: Places, targets: Floats, *, seed: int) -> float:
        order = np.random.default_rng(seed).permutation(len(places))
        total = 0.0
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            x, wanted = self.features[places[chosen]], targets[chosen]
            z = np.asarray(x @ self.weight) + self.bias
            total += float((wanted * (np.log(np.maximum(wanted, _TINY)) - log_softmax(z))).sum())
            gradient = (softmax(z) - wanted) / len(chosen)
            self.weight -= self.rate * np.asarray(x.T @ gradient)
            self.bias -= self.rate * gradient.sum(axis=0)
        return total / len(places)

    def finish(self) -> Any:
        return self._put(self.weight.copy(), self.bias.copy())

    def save(self, folder: Path) -> None:
        np.savez(folder / "student.npz", weight=self.weight, bias=self.bias)

    def restore(self, folder: Path) -> None:
        with np.load(folder / "student.npz", allow_pickle=False) as arrays:
            self.weight, self.bias = arrays["weight"], arrays["bias"]


# --- estimators that can only be fitted anew ------------------------------------------------------------------------


class _RefitStudent(Student):
    """A scikit-learn estimator without gradient steps: fitted anew on all that a round showed it."""

    exact = False

    def __init__(self, model: SklearnClassifier, inputs: Sequence[Any]) -> None:
        self.model, self.inputs = model, list(inputs)
        self._seen: dict[int, Floats] = {}
        self._now = model

    def train(self, places: Places, targets: Floats, *, seed: int) -> float:
        self._seen |= dict(zip(places.tolist(), targets, strict=True))
        rows, _, _ = ask(self._now, [self.inputs[place] for place in places])
        logs = np.log(np.maximum(targets, _TINY)) - np.log(np.maximum(rows, _TINY))
        return float((targets * logs).sum() / len(places))

    def end_round(self) -> None:
        places = sorted(self._seen)
        targets = np.array([self._seen[place] for place in places])
        self._now = refit(self.model, [self.inputs[place] for place in places], targets)

    def finish(self) -> Any:
        return self._now.clone()

    def save(self, folder: Path) -> None:
        body = {str(place): row.tolist() for place, row in self._seen.items()}
        (folder / "student.json").write_text(json.dumps(body), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        body = load_json((folder / "student.json").read_text(encoding="utf-8"))
        self._seen = {int(place): np.array(row) for place, row in body.items()}
        self.end_round()


def remember(model: Any, inputs: Sequence[Any]) -> None:
    """Have a small model remember what it was trained on, so that nobody certifies it on those rows in silence."""
    if isinstance(model, SmallModel):
        model.remember(inputs)


def refit(
    model: SklearnClassifier, inputs: Sequence[Any], targets: Floats, weights: Floats | None = None
) -> SklearnClassifier:
    """Fit an untied copy of an estimator anew on soft targets: each row once per class, weighted by its probability.

    For an estimator whose loss is a cross-entropy this is the cross-entropy with the soft target itself. Probabilities
    below one in a hundred are dropped, and the rest scaled up.

    Args:
        model: Its estimator must be scikit-learn's (`sklearn.base.clone` makes the empty copy) and take
            `sample_weight`; of a pipeline the last step must.
        inputs: As in `invoke`.
        targets: Distributions, shape (n, K). Labels that no row has any mass on are added with a weight near 0, so that
            the classes stay those of the model.
        weights: How much each row counts, shape (n,).

    Raises:
        TypeError: If the estimator cannot be copied, or takes no weights.
        ValueError: If no row counts.
    """
    base: Any = __import__("sklearn.base", fromlist=["clone"])
    mass = np.ones(len(inputs)) if weights is None else np.asarray(weights, dtype=np.float64)
    values = [model.read(value) for value in inputs]
    kept = np.where(targets >= _LEAST_SHARE, targets, 0.0)
    kept = kept / np.maximum(kept.sum(axis=1, keepdims=True), _TINY) * mass[:, None]
    rows, columns = np.nonzero(kept)
    if not len(rows):
        raise ValueError("no row has a target and a weight: there is nothing to fit on")
    counted = kept[rows, columns]
    missing = np.setdiff1d(np.arange(len(model.labels)), columns)
    rows = np.concatenate([rows, np.repeat(rows[0], len(missing))])
    columns = np.concatenate([columns, missing])
    counted = np.concatenate([counted, np.full(len(missing), 1e-6)])
    try:
        estimator = base.clone(model.estimator)
    except TypeError as error:
        raise TypeError(
            f"{type(model.estimator).__name__} cannot be fitted anew: it is no scikit-learn estimator"
        ) from error
    steps = getattr(estimator, "steps", None)
    name = f"{steps[-1][0]}__sample_weight" if steps else "sample_weight"
    classes = np.asarray(model.estimator.classes_)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=_convergence())  # the solver's own limit is the user's choice
        estimator.fit([values[row] for row in rows], classes[columns], **{name: counted})
    copy = model.model_copy(update={"estimator": estimator, "labels": list(model.labels)})
    copy.set_version(None)
    return copy


def _convergence() -> type[Warning]:
    from sklearn.exceptions import ConvergenceWarning

    return cast("type[Warning]", ConvergenceWarning)


# --- models that train themselves -----------------------------------------------------------------------------------


class _StepsStudent(Student):
    """A model with `train_steps`: torch text and image classifiers."""

    def __init__(self, model: Any, inputs: Sequence[Any], *, lr: float | None) -> None:
        self.model, self.inputs, self.lr = model.clone(), list(inputs), lr

    def train(self, places: Places, targets: Floats, *, seed: int) -> float:
        labels = list(self.model.labels)
        wanted = [soften(row, labels) for row in targets]
        losses = self.model.train_steps(
            [self.inputs[place] for place in places], wanted, epochs=1, lr=self.lr, seed=seed
        )
        entropy = float(-(targets * np.log(np.maximum(targets, _TINY))).sum() / len(places))
        return float(losses[-1]) - entropy

    def finish(self) -> Any:
        return self.model.clone()

    def save(self, folder: Path) -> None:
        self.model.save(folder / "student")

    def restore(self, folder: Path) -> None:
        self.model = type(self.model).load(folder / "student")
