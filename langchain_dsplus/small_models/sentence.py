"""A sentence encoder with a small trainable head: accurate on a few hundred examples, trained in seconds."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, runtime_checkable
from weakref import WeakValueDictionary

import numpy as np
from pydantic import Field, PrivateAttr

from langchain_dsplus._files import hash_files
from langchain_dsplus._imports import require
from langchain_dsplus._progress import progress_bar, quiet_transformers
from langchain_dsplus.answer import NotFittedError
from langchain_dsplus.calibration import softmax
from langchain_dsplus.confidence import energy
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel, read_text, without_surrogates
from langchain_dsplus.small_models.explain import Because, nearest_rows
from langchain_dsplus.small_models.files import (
    load_folder,
    model_folder,
    pick,
    pick_score,
    plain_errors,
    read_trained,
    save_folder,
)
from langchain_dsplus.small_models.fork import mind_forks
from langchain_dsplus.small_models.refuse import refuse_code
from langchain_dsplus.small_models.softmax import SoftmaxHead, calibrate, fit_softmax
from langchain_dsplus.small_models.targets import read_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from langchain_dsplus.confidence import ScoreFunction

    Array: TypeAlias = NDArray[np.float32]
    Floats: TypeAlias = NDArray[np.float64]

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

_FORMAT = 2
_HEAD = "head.safetensors"
_CHARACTERS_PER_TOKEN = 32
_TOKENS_PER_STEP = 1024  # measured: the best of 512, 1024, 2048 on two CPU cores
_TEXTS_PER_CHUNK = 4096


@runtime_checkable
class TextEncoder(Protocol):
    """Anything with `encode(list of str) -> (n, d) float array`; `version`, where it has one, names its weights."""

    def encode(self, texts: list[str]) -> Any:
        """Return one row per text."""


class _Loaded:
    """A loaded sentence-transformers model; shared by every `Encoder` of the same folder and device."""

    def __init__(self, path: Path, device: str | None) -> None:
        refuse_code(path)
        if "torch" not in sys.modules:
            # torch's threads spin while they wait for each other. Where another process wants the same cores (a local
            # LLM server, say) that makes a text cost 500 ms instead of 20; sleeping costs next to nothing.
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        library = require("sentence_transformers", "local")
        with quiet_transformers():
            self.model: Any = library.SentenceTransformer(
                str(path),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        self.model.eval()
        # One at a time: fast tokenizers refuse concurrent use, and torch already runs each step on every core.
        self.lock = threading.Lock()
        self.tokens = int(self.model.max_seq_length or 512)
        side = getattr(getattr(self.model, "tokenizer", None), "padding_side", None)
        self.sliceable = side == "right" and getattr(self.model, "default_prompt_name", None) is None
        self.preprocess: Callable[[list[str]], Any] = getattr(self.model, "preprocess", None) or (self.model.tokenize)


_loaded: WeakValueDictionary[tuple[str, str | None], _Loaded] = WeakValueDictionary()
_loading = threading.Lock()


class Encoder:
    """A sentence-transformers model: texts in, unit vectors out.

    It loads when first used, once for each folder and device however many encoders name it, may be called from many
    threads, and never runs code from the folder. Weights must be safetensors. Where torch is not imported yet, loading
    sets `OMP_WAIT_POLICY=PASSIVE` (unless it is set), without which torch is many times slower on a busy machine.

    Args:
        path_or_name: A folder, a name that `dsplus models list` shows, or a name on the Hugging Face hub.
        device: torch's name of a device; by default what sentence-transformers picks.

    Example:
        ```python
        encoder = Encoder("sentence-transformers/all-MiniLM-L6-v2")
        encoder.encode(["a text", "another"]).shape  # (2, 384)
        ```
    """

    def __init__(self, path_or_name: str | Path = DEFAULT_ENCODER, *, device: str | None = None) -> None:
        self.name = str(path_or_name)
        self.device = device
        self._path: Path | None = None
        self._version: str | None = None
        self._model: _Loaded | None = None

    def __repr__(self) -> str:
        return f"Encoder({self.name!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoder:
        return self  # frozen: copies share it

    @property
    def path(self) -> Path:
        """The folder with the weights; fetched at the first use where it is not here yet."""
        if self._path is None:
            self._path = model_folder(self.name)
        return self._path

    @property
    def version(self) -> str:
        """SHA-256 over the folder's weights, tokenizer and configuration; needs no torch."""
        if self._version is None:
            self._version = _hash_folder(self.path)
        return self._version

    def load(self) -> Encoder:
        """Load the weights now; returns itself.

        Raises:
            ImportError: If sentence-transformers is missing; the message carries the pip command.
            ValueError: If the folder asks for code of its own.
        """
        self._get()
        return self

    def _get(self) -> _Loaded:
        if self._model is None:
            if importlib.util.find_spec("sentence_transformers") is None:
                require("sentence_transformers", "local")  # says what is missing, before anything is downloaded
            key = (str(self.path.resolve()), self.device)
            with _loading:
                model = _loaded.get(key)
                if model is None:
                    model = _loaded[key] = _Loaded(self.path, self.device)
            self._model = model
        return self._model

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Array:
        """Return one unit vector per text, shape (len(texts), d), float32.

        Equal texts are encoded once. A text is cut at the encoder's `max_seq_length` tokens; of a very long one only
        the first 32 characters per token are read at all, so that a megabyte costs no more than a page. The empty
        string is a text like any other.

        The same text may come out differently by about 1e-7 beside other texts, since padding changes the order
        of the sums.

        Args:
            texts: The texts; may be empty.
            progress: Show a progress bar on stderr.

        Raises:
            TypeError: If an item is not a str; the message gives its place, never the value.
        """
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                msg = f"`texts` must hold str only; item {place} is {type(text).__name__}"
                raise TypeError(msg)
        if not len(texts):
            return np.zeros((0, self.dimension), dtype=np.float32)
        loaded = self._get()
        limit = loaded.tokens * _CHARACTERS_PER_TOKEN
        cut = [without_surrogates(text[:limit]) for text in texts]
        places = {text: place for place, text in enumerate(dict.fromkeys(cut))}
        unique = list(places)
        rows = _encode_unique(loaded, unique, progress=progress)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows /= np.maximum(norms, np.float32(1e-12))
        if len(unique) == len(cut):
            return rows
        return rows[[places[text] for text in cut]]

    @property
    def dimension(self) -> int:
        """The length d of the vectors."""
        model = self._get().model
        method = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        return int(method())


def as_encoder(encoder: Any) -> TextEncoder:
    """Make an encoder of a folder or a name; an object with `encode` passes.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(encoder, (str, Path)):
        return Encoder(encoder)
    if not isinstance(encoder, TextEncoder):
        msg = f"`encoder` must be a path, a name, or have an `encode` method; {type(encoder).__name__} has none"
        raise TypeError(msg)
    return encoder


def _encode_unique(loaded: _Loaded, texts: list[str], *, progress: bool) -> Array:
    """Encode distinct texts, sorted by tokens and batched by a token budget, so that little is padding."""
    torch = require("torch", "local")
    mind_forks(torch)
    out: Array | None = None
    with progress_bar("encoding", len(texts), show=progress) as advance:
        for start in range(0, len(texts), _TEXTS_PER_CHUNK):
            chunk = texts[start : start + _TEXTS_PER_CHUNK]
            for places, rows in _steps(loaded, torch, chunk):
                if out is None:
                    out = np.empty((len(texts), rows.shape[1]), dtype=np.float32)
                out[[start + place for place in places]] = rows
                advance(len(places))
    assert out is not None
    return out


def _steps(loaded: _Loaded, torch: Any, texts: list[str]) -> Iterator[tuple[list[int], Any]]:
    model = loaded.model
    features: dict[str, Any] | None = None
    if loaded.sliceable:
        with loaded.lock:
            features = dict(loaded.preprocess(texts))
    mask = None if features is None else features.get("attention_mask")
    if features is None or mask is None or getattr(mask, "ndim", 0) != 2:
        # A kind of model whose features cannot be cut: leave the batching to sentence-transformers.
        with loaded.lock:
            rows = model.encode(texts, batch_size=32, show_progress_bar=False)
        yield list(range(len(texts))), rows
        return
    lengths = mask.sum(dim=1).tolist()
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= _TOKENS_PER_STEP:
            stop += 1
        places = order[start:stop]
        longest = max(lengths[places[-1]], 1)
        step = {
            key: (value[places, :longest] if getattr(value, "shape", None) == mask.shape else value)
            for key, value in features.items()
        }
        with loaded.lock, torch.inference_mode():
            step = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in step.items()}
            rows = model(step)["sentence_embedding"].float().cpu().numpy()
        yield places, rows
        start = stop


class SentenceClassifier(SmallModel):
    """A frozen sentence encoder with a softmax head: fit in seconds, on labels or on soft targets.

    An input is a str, a message, or a dict with a text (`input_key`). Each text of a batch is encoded once. The empty
    string is a text like any other; of a very long text the beginning counts (`Encoder.encode`). Calls from many
    threads are safe; `fit` is not meant to run beside them: fit a `clone`, then put it in place.

    Args:
        encoder: A folder, a name of `dsplus models list`, a name on the Hugging Face hub, an `Encoder`, or any object
            with `encode(list of str) -> (n, d) array` (and `version`, so that certificates can name it).
        labels: The classes. By default `fit` takes them from the targets, sorted.
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

    def __init__(self, encoder: Any = DEFAULT_ENCODER, labels: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(encoder=as_encoder(encoder), labels=list_labels(labels or ()), **kwargs)
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

        Returns:
            Itself.

        Raises:
            TypeError: If a text or a target has the wrong type; the message gives its place, never the text.
            ValueError: If there is no row, one class only, a target outside `labels`, or lengths differ.
        """
        rows = _read_texts(self, texts)
        if len(rows) != len(targets):
            msg = f"`texts` has {len(rows)} rows, `targets` has {len(targets)}"
            raise ValueError(msg)
        if not rows:
            msg = "`texts` is empty: there is nothing to fit on"
            raise ValueError(msg)
        labels, wanted = read_targets(targets, self.labels if self._labels_given else None)
        mass = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        if mass.shape != (len(rows),) or not (np.isfinite(mass) & (mass >= 0)).all() or not mass.any():
            msg = f"`weights` must be {len(rows)} finite numbers, at least 0, not all 0"
            raise ValueError(msg)
        if (wanted[mass > 0] > 0).any(axis=0).sum() < 2:
            msg = "`targets` hold one class only: a classifier needs at least two"
            raise ValueError(msg)
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

    def embeddings(self, texts: Sequence[Any]) -> Array:
        """Return the encoder's vectors, shape (len(texts), d), float32."""
        return self._encode(_read_texts(self, texts), progress=False)

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
            msg = "there are no labelled rows to look at: pass `rows=[(text, label), ...]`, since texts are not saved"
            raise ValueError(msg)
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
            msg = f"small model {self.name!r} is not fitted: call `fit(texts, targets)`, or `load` a saved one"
            raise NotFittedError(msg)
        return self._head

    def with_head(self, head: SoftmaxHead) -> Self:
        """Return a copy with another head on the same encoder."""
        copy = self.clone()
        copy._head = head  # noqa: SLF001 - its own
        return copy

    def _encode(self, texts: list[str], *, progress: bool) -> Array:
        if isinstance(self.encoder, Encoder):
            return self.encoder.encode(texts, progress=progress)
        rows = np.asarray(self.encoder.encode(texts), dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(texts):
            msg = f"`encoder` returned shape {rows.shape}; expected ({len(texts)}, d)"
            raise ValueError(msg)
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
            "encoder_version": getattr(self.encoder, "version", None),
            "name": self.name,
            "input_key": self.input_key,
            "score": self.score if isinstance(self.score, str) else None,
            "l2": self.l2,
            "seed": self.seed,
        }
        save_folder(path, _HEAD, body, settings, self._trained)

    @classmethod
    def load(cls, path: str | Path, *, encoder: Any = None, score: ScoreFunction | None = None) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        A SHA-256 over settings and head detects damage. It is no authentication: who can write to the folder can write
        a new one.

        Args:
            path: The folder.
            encoder: The encoder, where it lies elsewhere than when it was saved, or is an object of your own.
            score: The score, where it was a callable: those are not saved.

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
            msg = f"{folder / _HEAD} is damaged: it holds no head. Save the model again"
            raise ValueError(msg) from error
        if weight.ndim != 2 or bias.shape != (weight.shape[1],) or len(labels) != len(bias):
            msg = f"{folder} is damaged: the head does not fit the labels. Save the model again"
            raise ValueError(msg)
        if not (np.isfinite(weight).all() and np.isfinite(bias).all() and 0.0 < temperature < float("inf")):
            msg = f"{folder} is damaged: the head holds a number that is not finite. Save the model again"
            raise ValueError(msg)
        if encoder is None and named is None:
            msg = f"{folder} was trained with an encoder of your own: pass it as `encoder=`"
            raise ValueError(msg)
        score = pick_score(known, score, folder)
        with plain_errors(folder):
            model = cls(named if encoder is None else encoder, labels, score=score, **fields)
        found = getattr(model.encoder, "version", None)
        if found != known["encoder_version"]:
            msg = (
                f"the encoder is not the one that {folder} was trained with: its files differ. "
                "Pass the right one as `encoder=`, or fit again"
            )
            raise ValueError(msg)
        model._labels_given = known["labels_given"]
        model._head = SoftmaxHead(weight, bias, temperature)
        model._trained = read_trained(settings, folder)
        return model


def _read_texts(model: SmallModel, texts: Sequence[Any]) -> list[str]:
    if isinstance(texts, str):
        msg = "`texts` must be a list of texts, not one str"
        raise TypeError(msg)
    rows = []
    for place, item in enumerate(texts):
        try:
            rows.append(model.read(item))
        except TypeError as error:
            msg = f"item {place} of `texts`: {error}"
            raise TypeError(msg) from None
    return rows


def _hash_folder(path: Path) -> str:
    """SHA-256 over what decides the vectors: weights, tokenizer, configuration."""
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and file.suffix in {".safetensors", ".json", ".txt", ".model"}
    )
    if not any(name.endswith(".safetensors") for name in names):
        msg = f"{path} holds no .safetensors file: not an encoder's folder"
        raise ValueError(msg)
    return hash_files((name, path / name) for name in names)
