"""Sentence encoders: texts in, unit vectors out, by whichever library runs them here."""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable
from weakref import WeakValueDictionary

import numpy as np

from langchain_dsplus._arrays import Singles
from langchain_dsplus._files import hash_files
from langchain_dsplus._imports import require
from langchain_dsplus._progress import progress_bar
from langchain_dsplus._shared import Shared
from langchain_dsplus.small_models.base import without_surrogates
from langchain_dsplus.small_models.files import model_folder
from langchain_dsplus.small_models.refuse import refuse_code

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"

Backend = Literal["torch", "onnx", "onnx-int8", "openvino", "static"]
Choice = Backend | Literal["auto"]

_NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "torch": (("sentence_transformers",), "local"),
    "onnx": (("onnxruntime", "onnx", "tokenizers", "safetensors"), "onnx"),
    "onnx-int8": (("onnxruntime", "onnx", "tokenizers", "safetensors"), "onnx"),
    "openvino": (("openvino", "onnx", "tokenizers", "safetensors"), "openvino"),
    "static": (("tokenizers", "safetensors"), "static"),
}
_CHARACTERS_PER_TOKEN = 32
_TEXTS_PER_CHUNK = 4096


@runtime_checkable
class TextEncoder(Protocol):
    """Anything with `encode(list of str) -> (n, d) float array`; `version`, where it has one, names its weights."""

    def encode(self, texts: list[str]) -> Any:
        """Return one row per text."""


class Engine(Protocol):
    """What a backend brings."""

    tokens: int
    dimension: int

    def encode(self, texts: list[str]) -> Iterator[tuple[list[int], Any]]:
        """Yield places in `texts` with their rows (float32, not yet of unit length), each place once."""


_loaded: WeakValueDictionary[tuple[str, str | None, str], Engine] = WeakValueDictionary()
_loading = threading.Lock()


class Encoder(Shared):
    """A sentence encoder: texts in, unit vectors out.

    It loads when first used, once for each folder, backend and device however many encoders name it, may be called
    from many threads, and never runs code from the folder. Weights must be safetensors.

    Args:
        path_or_name: A folder, a name that `dsplus models list` shows, or a name on the Hugging Face hub. Folders of
            static vectors (model2vec, StaticEmbedding) are read too; `wordllama` is the installed package's.
        device: torch's name of a device; by default what sentence-transformers picks. Only for torch.
        backend: What runs it. `torch`: sentence-transformers, every kind of encoder. `onnx`, `onnx-int8`: ONNX Runtime
            without torch, for encoders of the BERT and RoBERTa kinds; int8 is for processors with 8-bit products
            (AVX512-VNNI, AMX), and may cost accuracy (`python -m benchmarks encoder`). `openvino`: the same graph.
            `static`: a table of vectors. `auto` takes `static` for such a folder, else `onnx` on a CPU where it can run
            the folder, else `torch`; never int8.

    Raises:
        ValueError: If `backend` is none of these.

    Example:
        ```python
        encoder = Encoder("sentence-transformers/all-MiniLM-L6-v2")
        encoder.encode(["a text", "another"]).shape  # (2, 384)
        ```
    """

    def __init__(
        self,
        path_or_name: str | Path = DEFAULT_ENCODER,
        *,
        device: str | None = None,
        backend: Choice = "auto",
    ) -> None:
        if backend != "auto" and backend not in _NEEDS:
            raise ValueError(f"`backend` must be 'auto' or one of {list(get_args(Backend))}")
        if device is not None and backend not in ("auto", "torch"):
            raise ValueError(f"`device` is torch's; backend={backend!r} runs on the processor: leave `device` out")
        self.name = str(path_or_name)
        self.device = device
        self._wanted = backend
        self._path: Path | None = None
        self._backend: Backend | None = None
        self._weights: str | None = None
        self._engine: Engine | None = None

    def __repr__(self) -> str:
        return f"Encoder({self.name!r})" if self._wanted == "auto" else f"Encoder({self.name!r}, {self._wanted!r})"

    @property
    def path(self) -> Path:
        """The folder with the weights; fetched at the first use where it is not here yet."""
        if self._path is None:
            if self._wanted != "auto":
                _check_installed(self._wanted)
            elif not installed_backends():
                _check_installed("torch")  # says what is missing, before anything is downloaded
            self._path = model_folder(self.name)
        return self._path

    @property
    def backend(self) -> Backend:
        """What runs it. `auto` is settled at the first look, by the folder, the processor and what is installed.

        Static vectors are `static`. torch, where `device` is given, the machine has a GPU, or the folder is of a kind
        that only torch runs. Else ONNX Runtime where it is installed: in 8 bits where the processor multiplies these
        fast, in 32 otherwise. Else torch.
        """
        if self._backend is None:
            self._backend = _choose(self.path, self.device) if self._wanted == "auto" else self._wanted
        return self._backend

    @property
    def weights(self) -> str:
        """SHA-256 over the folder's weights, tokenizer and configuration; needs no torch."""
        if self._weights is None:
            self._weights = _hash_folder(self.path)
        return self._weights

    @property
    def version(self) -> str:
        """What decides the vectors: `weights`, and the backend, since each one rounds in its own way."""
        if self.backend == "torch":
            return self.weights
        from langchain_dsplus.small_models.onnx_graph import REVISION

        return hashlib.sha256(f"{self.weights} {self.backend} {REVISION}".encode()).hexdigest()

    @property
    def dimension(self) -> int:
        """The length d of the vectors."""
        return self.engine.dimension

    def load(self) -> Encoder:
        """Load the weights now; returns itself.

        Raises:
            ImportError: If what the backend needs is missing; the message carries the pip command.
            ValueError: If the folder asks for code of its own, or is of a kind that the backend does not run.
        """
        _ = self.engine
        return self

    @property
    def engine(self) -> Engine:
        """What does the work; loaded at the first look."""
        if self._engine is None:
            key = (str(self.path.resolve()), self.device, self.backend)
            with _loading:
                engine = _loaded.get(key)
                if engine is None:
                    engine = _loaded[key] = self._open()
            self._engine = engine
        return self._engine

    def _open(self) -> Engine:
        refuse_code(self.path)
        _check_installed(self.backend)
        if self.backend == "torch":
            from langchain_dsplus.small_models.torch_engine import TorchEngine

            return TorchEngine(self.path, self.device)
        if self.backend == "static":
            from langchain_dsplus.small_models.static_engine import StaticEngine

            return StaticEngine(self.path)
        from langchain_dsplus.small_models.onnx_engine import OnnxEngine

        runtime = "openvino" if self.backend == "openvino" else "onnxruntime"
        return OnnxEngine(self.path, self.weights, int8=self.backend == "onnx-int8", runtime=runtime)

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Singles:
        """Return one unit vector per text, shape (len(texts), d), float32.

        Equal texts are encoded once. A text is cut at the encoder's `max_seq_length` tokens; of a very long one only
        the first 32 characters per token are read at all, so that a megabyte costs no more than a page. The empty
        string is a text like any other.

        But for torch, a text has the same vector alone and beside any others, to the last bit. With torch it may differ
        by about 1e-7, since padding changes the order of the sums.

        Raises:
            TypeError: If an item is not a str; the message gives its place, never the value.
        """
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"`texts` must hold str only; item {place} is {type(text).__name__}")
        engine = self.engine
        limit = engine.tokens * _CHARACTERS_PER_TOKEN
        cut = [without_surrogates(text[:limit]) for text in texts]
        places = {text: place for place, text in enumerate(dict.fromkeys(cut))}
        unique = list(places)
        rows = np.empty((len(unique), engine.dimension), dtype=np.float32)
        with progress_bar("encoding", len(unique), show=progress) as advance:
            for start in range(0, len(unique), _TEXTS_PER_CHUNK):
                for found, part in engine.encode(unique[start : start + _TEXTS_PER_CHUNK]):
                    rows[[start + place for place in found]] = part
                    advance(len(found))
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
        return rows if len(unique) == len(cut) else rows[[places[text] for text in cut]]


def as_encoder(encoder: Any, backend: Choice = "auto") -> TextEncoder:
    """Make an encoder of a folder or a name; an object with `encode` passes.

    Args:
        encoder: The folder, name or object.
        backend: As in `Encoder`. An `Encoder` of another backend is made anew with this one.

    Raises:
        TypeError: If it is none of these.
        ValueError: If `backend` is given for an object of your own, or is unknown.
    """
    if isinstance(encoder, (str, Path)):
        return Encoder(encoder, backend=backend)
    if not isinstance(encoder, TextEncoder):
        raise TypeError(
            f"`encoder` must be a path, a name, or have an `encode` method; {type(encoder).__name__} has none"
        )
    if backend == "auto":
        return encoder
    if not isinstance(encoder, Encoder):
        raise ValueError("`backend` is for encoders that are a path or a name; an object of your own runs as it does")  # noqa: TRY004 - the encoder is fine, `backend` is not
    return Encoder(encoder.name, device=encoder.device if backend == "torch" else None, backend=backend)


def installed_backends() -> list[Backend]:
    """Return the backends whose packages are here; nothing is imported."""
    return [name for name in get_args(Backend) if all(importlib.util.find_spec(m) is not None for m in _NEEDS[name][0])]


def _check_installed(backend: str) -> None:
    modules, extra = _NEEDS[backend]
    for module in modules:
        if importlib.util.find_spec(module) is None:
            require(module, extra)


def _choose(folder: Path, device: str | None) -> Backend:
    from langchain_dsplus.small_models.onnx_graph import NotReadableError, read_layout
    from langchain_dsplus.small_models.static_engine import find_table

    if find_table(folder) is not None:
        return "static"
    here = installed_backends()
    if "onnx" not in here or device is not None or ("torch" in here and _has_gpu()):
        return "torch"
    try:
        read_layout(folder)
    except NotReadableError:
        return "torch"
    return "onnx"  # not int8: it is twice as fast and may cost accuracy, so whoever wants it names it


def _has_gpu() -> bool:
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))


def _hash_folder(path: Path) -> str:
    """SHA-256 over what decides the vectors: weights, tokenizer, configuration."""
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and file.suffix in {".safetensors", ".json", ".txt", ".model"}
    )
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(f"{path} holds no .safetensors file: not an encoder's folder")
    return hash_files((name, path / name) for name in names)
