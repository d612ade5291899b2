"""A sentence encoder with a small trainable head: accurate on a few hundred examples, trained in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr

from langchain_dsplus._arrays import Floats, Singles
from langchain_dsplus._imports import require
from langchain_dsplus.answer import NotFittedError
from langchain_dsplus.calibration import softmax
from langchain_dsplus.confidence import ScoreFunction, energy
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel, read_text
from langchain_dsplus.small_models.encoder import DEFAULT_ENCODER, Backend, Choice, Encoder, as_encoder
from langchain_dsplus.small_models.explain import Because, nearest_rows
from langchain_dsplus.small_models.files import load_folder, pick, pick_score, plain_errors, read_trained, save_folder
from langchain_dsplus.small_models.softmax import SoftmaxHead, calibrate, fit_softmax
from langchain_dsplus.small_models.targets import check_classes, read_inputs, read_weighted

_FORMAT = 2
_HEAD = "head.safetensors"
_ROWS_TO_COMPARE = 100


class SentenceClassifier(SmallModel):
    """A frozen sentence encoder with a softmax head: fit in seconds, on labels or on soft targets.

    An input is a str, a message, or a dict with a text (`input_key`). Each text of a batch is encoded once. The empty
    string is a text like any other; of a very long text the beginning counts (`Encoder.encode`). Calls from many
    threads are safe; `fit` is not meant to run beside them: fit a `clone`, then put it in place.

    Args:
        encoder: A folder, a name of `dsplus models list`, a name on the Hugging Face hub, an `Encoder`, or any object
            with `encode(list of str) -> (n, d) array` (and `version`, so that certificates can name it).
        labels: The classes. By default `fit` takes them from the targets, sorted.
        backend: What runs the encoder: `torch`, `onnx`, `onnx-int8`, `openvino`, `static`, or `auto` (see `Encoder`).
            It is part of `version`: a certificate made on one backend is not taken on another. It is saved: a folder
            loads with the backend it was trained on, and `load(..., backend=)` takes another.
        l2: Penalty on the head's weights; scikit-learn's 1 / C. By default `fit` takes the best of 1, 0.1, 0.01 on
            held-out rows.
        seed: Of the folds on which penalty and temperature are fitted.
        **kwargs: `name`, `input_key`, `score`, `version` as in `SmallModel`. One more score is offered:
            `score="energy"`, T * logsumexp(z / T) of the logits z at the fitted temperature T: low where a text is far
            from all that was seen (`confidence.energy`).

    Example:
        ```python
        small = SentenceClassifier()
        small.fit(["great phone", "broke at once", "love it", "useless"], ["pos", "neg", "pos", "neg"])
        small.invoke("works well")["choice"]  # "pos"
        ```
    """

    encoder: Any = Field(exclude=True)
    l2: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    seed: int = 0

    own_scores: ClassVar[frozenset[str]] = frozenset({"energy"})
    reads_text: ClassVar[bool] = True

    _head: SoftmaxHead | None = PrivateAttr(default=None)
    _labels_given: bool = PrivateAttr(default=False)
    _rows: list[tuple[str, str]] = PrivateAttr(default_factory=list)
    """Texts and labels of the last `fit`, for `explain`; never saved."""

    def __init__(
        self,
        encoder: Any = DEFAULT_ENCODER,
        labels: Sequence[str] | None = None,
        *,
        backend: Choice = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder=as_encoder(encoder, backend), labels=list_labels(labels or ()), **kwargs)
        self._labels_given = bool(self.labels)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is saved with `save`, not with LangChain's `dumps`."""
        return False

    # --- training -----------------------------------------------------------------------------------------------

    def fit(
        self,
        texts: Sequence[Any],
        targets: Sequence[str | Mapping[str, float]],
        *,
        weights: Sequence[float] | None = None,
        progress: bool = False,
    ) -> Self:
        """Train the head anew.

        Penalty and temperature come from out-of-fold logits (stratified folds, equal texts together); the head then
        from all rows. The result is the same for the same rows, seed and machine.

        Args:
            texts: The inputs, as in `invoke`.
            targets: One for each text: a label, or a dict from label to probability.
            weights: How much each row counts; by default 1.
            progress: Show a bar on stderr while encoding.

        Raises:
            TypeError: If a text or a target has the wrong type; the message gives its place, never the text.
            ValueError: If there is no row, one class only, a target outside `labels`, or lengths differ.
        """
        rows = read_inputs(self.read, texts, "texts")
        known = self.labels if self._labels_given else None
        labels, wanted, mass = read_weighted(rows, targets, weights, known, "texts")
        check_classes(wanted, mass, "texts")
        features = self._encode(rows, progress=progress)
        places: dict[str, int] = {}
        groups = np.array([places.setdefault(text, len(places)) for text in rows], dtype=np.intp)
        l2, temperature = calibrate(features, wanted, mass, groups, l2=self.l2, seed=self.seed)
        weight, bias = fit_softmax(features, wanted, mass, l2=l2)
        self.labels = labels
        self._head = SoftmaxHead(weight, bias, temperature)
        self._rows = [(text, labels[place]) for text, place in zip(rows, wanted.argmax(axis=1), strict=True)]
        self.remember(rows, anew=True)
        self.set_version(None)
        return self

    # --- answers ------------------------------------------------------------------------------------------------

    @property
    def temperature(self) -> float:
        """The temperature T that `fit` found."""
        return self.head.temperature

    def read(self, value: Any) -> str:
        """Take the text out of an input, so that a wrong type harms only its own item."""
        return read_text(super().read(value))

    def embeddings(self, texts: Sequence[Any]) -> Singles:
        """Return the encoder's vectors, shape (len(texts), d), float32."""
        return self._encode(read_inputs(self.read, texts, "texts"), progress=False)

    def explain(self, value: Any, *, k: int = 5, rows: Sequence[tuple[str, str]] | None = None) -> list[Because]:
        """Return the labelled rows that are nearest to an input: a head on an encoder answers as they do.

        Args:
            value: The input, as in `invoke`.
            k: How many rows.
            rows: Texts and labels; by default those of the last `fit` in this process, since texts are not saved.

        Raises:
            ValueError: If there are none.
        """
        known = list(self._rows if rows is None else rows)
        if not known:
            raise ValueError(
                "there are no labelled rows to look at: pass `rows=[(text, label), ...]`, since texts are not saved"
            )
        vectors = self._encode([self.read(value), *(text for text, _ in known)], progress=False)
        return nearest_rows(vectors[0], vectors[1:], known, k)

    def predict_proba(self, inputs: list[Any]) -> Floats:
        """Return calibrated class probabilities, shape (len(inputs), len(labels)), float64; rows sum to 1."""
        return softmax(self._scaled(inputs, self.head))

    def _predict(self, values: list[Any]) -> tuple[Floats, Floats | None]:
        head = self.head
        scaled = self._scaled(values, head)
        scores = None
        if self.score == "energy":
            t = head.temperature
            scores = np.array([energy(row, temperature=t) for row in (scaled * t).tolist()])
        return softmax(scaled), scores

    def _scaled(self, inputs: list[Any], head: SoftmaxHead) -> Floats:
        """Return logits over temperature."""
        features = self._encode([read_text(value) for value in inputs], progress=False)
        # Not `features @ head.weight`: there a row's last digits would depend on how many rows are beside it.
        logits: Floats = np.einsum("nd,dk->nk", features, head.weight, dtype=np.float64) + head.bias
        return logits / head.temperature

    @property
    def head(self) -> SoftmaxHead:
        """The trained head.

        Raises:
            NotFittedError: If there is none yet.
        """
        if self._head is None:
            raise NotFittedError(
                f"small model {self.name!r} is not fitted: call `fit(texts, targets)`, or `load` a saved one"
            )
        return self._head

    def with_head(self, head: SoftmaxHead) -> Self:
        """Return a copy with another head on the same encoder."""
        copy = self.clone()
        copy._head = head  # noqa: SLF001 - its own
        return copy

    def with_backend(self, backend: Backend, *, equal_on: Sequence[Any] | None = None, tolerance: float = 1e-4) -> Self:
        """Return a copy with the same head, whose encoder runs on another backend.

        It is another version, so that no certificate of this one holds for it. With `equal_on` both are asked: where
        they agree on every row, the copy keeps this version, and certificates hold on.

        Args:
            backend: As in the constructor.
            equal_on: Inputs, 100 or more, such as those that the certificate was made on.
            tolerance: How far the probabilities of a row may lie apart.

        Raises:
            ValueError: If the choice, or a probability by more than `tolerance`, differs on some row, or there are
                fewer than 100; or the encoder is an object of your own.

        Example:
            ```python
            fast = small.with_backend("onnx", equal_on=texts)
            router = ConfidenceRouter(small=fast, large=large, threshold=certificate)
            ```
        """
        other = self.clone().model_copy(update={"encoder": as_encoder(self.encoder, backend)})
        other.set_version(None)
        if equal_on is None:
            return other
        rows = read_inputs(self.read, equal_on, "equal_on")
        if len(rows) < _ROWS_TO_COMPARE:
            raise ValueError(f"`equal_on` must hold at least {_ROWS_TO_COMPARE} inputs, not {len(rows)}")
        ours, theirs = self.predict_proba(rows), other.predict_proba(rows)
        unlike = (ours.argmax(axis=1) != theirs.argmax(axis=1)) | (np.abs(ours - theirs).max(axis=1) > tolerance)
        if unlike.any():
            raise ValueError(
                f"backend={backend!r} answers {int(unlike.sum())} of {len(rows)} rows of `equal_on` otherwise: it is "
                "another model. Leave `equal_on` out, and make a new certificate"
            )
        other.set_version(self.version)
        return other

    def _encode(self, texts: list[str], *, progress: bool) -> Singles:
        if isinstance(self.encoder, Encoder):
            return self.encoder.encode(texts, progress=progress)
        rows = np.asarray(self.encoder.encode(texts), dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(texts):
            raise ValueError(f"`encoder` returned shape {rows.shape}; expected ({len(texts)}, d)")
        return rows

    def warmup(self) -> None:
        """Load the encoder and run it once."""
        self._encode(["warm"], progress=False)

    # --- what it is ---------------------------------------------------------------------------------------------

    def clone(self) -> Self:
        """Return a copy with its own head; the encoder is frozen, and shared."""
        copy = self.model_copy(update={"labels": list(self.labels)})
        copy.set_version(None)
        return copy

    def fingerprint(self) -> str:
        """A hash of head, temperature and the encoder's files."""
        version = getattr(self.encoder, "version", None)
        if self._head is None or not isinstance(version, str):
            return UNVERIFIABLE
        digest = hashlib.sha256()
        for part in (self._head.weight, self._head.bias):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(part.tobytes())
        digest.update(f"{self._head.temperature!r} {version}".encode())
        return digest.hexdigest()

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write `head.safetensors` and `model.json` into a folder; the encoder is named, not copied.

        `model.json` is written last and holds a SHA-256 over itself and the head, so that damage is noticed, and a save
        that was cut off. It is no authentication.
        """
        head = self.head
        library = require("safetensors.numpy", "local")
        body = library.save({"weight": np.ascontiguousarray(head.weight), "bias": head.bias})
        settings = {
            "format": _FORMAT,
            "kind": "SentenceClassifier",
            "labels": self.labels,
            "labels_given": self._labels_given,
            "temperature": head.temperature,
            "encoder": self.encoder.name if isinstance(self.encoder, Encoder) else None,
            "encoder_version": _weights_of(self.encoder),
            "backend": self.encoder.backend if isinstance(self.encoder, Encoder) else None,
            "name": self.name,
            "input_key": self.input_key,
            "score": self.score if isinstance(self.score, str) else None,
            "l2": self.l2,
            "seed": self.seed,
        }
        save_folder(path, _HEAD, body, settings, self._trained)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        encoder: Any = None,
        score: ScoreFunction | None = None,
        backend: Choice | None = None,
    ) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        A SHA-256 over settings and head detects damage. It is no authentication: who can write to the folder can write
        a new one.

        Args:
            path: The folder.
            encoder: The encoder, where it lies elsewhere than when it was saved, or is an object of your own.
            score: The score, where it was a callable: those are not saved.
            backend: What runs the encoder; by default what ran it when the model was saved. Another one is another
                `version`.

        Raises:
            ValueError: If a file is missing, cut off or changed, or the encoder is another one than was trained with.
        """
        folder = Path(path)
        settings, body = load_folder(folder, _HEAD, kind="SentenceClassifier", version=_FORMAT)
        library = require("safetensors.numpy", "local")
        fields = pick(settings, folder, "name", "input_key", "l2", "seed")
        known = pick(settings, folder, "labels", "labels_given", "temperature", "encoder", "encoder_version", "score")
        labels, temperature, named = known["labels"], known["temperature"], known["encoder"]
        try:
            tensors = library.load(body)
            weight, bias = tensors["weight"], tensors["bias"]
        except Exception as error:  # the library has an error of its own
            raise ValueError(f"{folder / _HEAD} is damaged: it holds no head. Save the model again") from error
        if weight.ndim != 2 or bias.shape != (weight.shape[1],) or len(labels) != len(bias):
            raise ValueError(f"{folder} is damaged: the head does not fit the labels. Save the model again")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all() and 0.0 < temperature < float("inf")):
            raise ValueError(f"{folder} is damaged: the head holds a number that is not finite. Save the model again")
        if encoder is None and named is None:
            raise ValueError(f"{folder} was trained with an encoder of your own: pass it as `encoder=`")
        score = pick_score(known, score, folder)
        chosen = named if encoder is None else encoder
        # Folders of before there was a choice ran on torch; an object runs as it does.
        kept: Any = (settings.get("backend") or "torch") if isinstance(chosen, (str, Path)) else "auto"
        with plain_errors(folder):
            model = cls(chosen, labels, score=score, backend=kept if backend is None else backend, **fields)
        found = _weights_of(model.encoder)
        if found != known["encoder_version"]:
            raise ValueError(
                f"the encoder is not the one that {folder} was trained with: its files differ. "
                "Pass the right one as `encoder=`, or fit again"
            )
        model._labels_given = known["labels_given"]
        model._head = SoftmaxHead(weight, bias, temperature)
        model._trained = read_trained(settings, folder)
        return model


def _weights_of(encoder: Any) -> Any:
    """What names an encoder's weights, on whichever backend."""
    return encoder.weights if isinstance(encoder, Encoder) else getattr(encoder, "version", None)
