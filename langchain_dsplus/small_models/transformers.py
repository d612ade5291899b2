"""Any text classifier of the transformers library as a small model."""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from langchain_dsplus._files import replace_file
from langchain_dsplus._imports import require
from langchain_dsplus._progress import quiet_transformers
from langchain_dsplus.answer import InputError
from langchain_dsplus.confidence import ScoreFunction
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import read_text, without_surrogates
from langchain_dsplus.small_models.files import (
    SETTINGS,
    load_folder,
    pick,
    pick_score,
    plain_errors,
    safetensors_folder,
    save_folder,
)
from langchain_dsplus.small_models.networks import (
    FORMAT,
    WEIGHTS,
    Network,
    TorchClassifier,
    import_torch,
    pack_weights,
    pick_device,
    take,
    unpack_weights,
)
from langchain_dsplus.small_models.refuse import refuse_code, refuse_kernels_in

_TOKENIZER = "tokenizer"
_CHARACTERS_PER_TOKEN = 32
_USUAL_LENGTH = 512
_SPELLED_OUT = 1_000_000  # a tokenizer without a limit says 10^30

UNTOLD = frozenset(
    {"transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype", "id2label", "label2id"}
)
"""Settings of a transformers config that change no answer."""


class _Tokenizer:
    """A tokenizer and its lock: fast tokenizers refuse concurrent use."""

    __slots__ = ("lock", "tokenizer")

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Tokenizer:
        with self.lock:
            return _Tokenizer(copy.deepcopy(self.tokenizer, memo))


class _Tokens(list[int]):
    """The token ids of one text."""


class TransformersClassifier(TorchClassifier):
    """Any `AutoModelForSequenceClassification` of the transformers library: BERT, DeBERTa, ModernBERT, ...

    An input is a str, a message, or a dict with a text (`input_key`). Long texts are cut at `max_length` tokens.
    Weights must be safetensors, and code from a folder or the hub is never run. Calls from many threads are safe.

    Args:
        model: A folder, a name on the Hugging Face hub, or a model of the transformers library (then with
            `tokenizer=`), which is used as it is, not copied. Where a folder holds an encoder without a head for as
            many classes, a new head is put on it: call `fit` before asking.
        labels: The classes, in the order of the model's outputs. By default the names in its config, and for a new head
            those of the targets, sorted.
        tokenizer: The tokenizer, where it does not lie beside the weights: an object, or a folder.
        max_length: Tokens that are read of a text, special ones included; by default what tokenizer and model allow.
        device: torch's name of a device; by default the first accelerator, else the CPU.
        batch_size: Texts in one step.
        **kwargs: `name`, `input_key`, `score`, `version` as in `SmallModel`. One more score is offered:
            `score="energy"`, T * logsumexp(z / T) of the logits z (`confidence.energy`).

    Raises:
        ValueError: If the labels do not fit the model, the model has one output or several labels at a time, or a
            folder holds no safetensors.
        TypeError: If `model` is neither a path nor a transformers model.

    Example:
        ```python
        small = TransformersClassifier("distilbert/distilbert-base-uncased", labels=["neg", "pos"])
        small.fit(["great phone", "broke at once"] * 50, ["pos", "neg"] * 50, epochs=3)
        small.save("my-classifier")
        ```
    """

    max_length: int | None = Field(default=None, ge=1)

    default_lr: ClassVar[float] = 5e-5
    saved_as: ClassVar[str] = "TransformersClassifier"
    reads_text: ClassVar[bool] = True

    _tokenizer: _Tokenizer | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)
    _config: Any = PrivateAttr(default=None)

    def __init__(
        self, model: Any, labels: Sequence[str] | None = None, *, tokenizer: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(labels=list_labels(labels or ()), **kwargs)
        self._labels_given = bool(self.labels)
        library = require("transformers", "local")
        if isinstance(model, (str, Path)):
            self._folder = folder = safetensors_folder(str(model))
            refuse_code(folder)
            self._config = library.AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
            tokenizer = folder if tokenizer is None else tokenizer
        else:
            check_own_class(model)
            self._config = model.config
        if tokenizer is None:
            raise ValueError("`tokenizer` is missing: a model object needs the tokenizer it was trained with")
        if isinstance(tokenizer, (str, Path)):
            if not has_tokenizer(Path(tokenizer)):  # the library would make an empty one, to which every word is new
                raise ValueError(f"{tokenizer} holds no tokenizer: pass it as `tokenizer=`")
            tokenizer = library.AutoTokenizer.from_pretrained(str(tokenizer), trust_remote_code=False)
        self._tokenizer = _Tokenizer(self._with_padding(copy.deepcopy(tokenizer)))
        if self._folder is not None:
            if has_head(self._config, "ForSequenceClassification", self.labels):
                self.labels = adopt_labels(self._config, self.labels)
                self._labels_given = True
                self._network = self._from_folder(len(self.labels), None)
        else:
            self.labels = adopt_labels(self._config, self.labels)
            self._labels_given = True
            self._network = Network(model.to(pick_device(self.device)))

    def _with_padding(self, tokenizer: Any) -> Any:
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise ValueError("`tokenizer` has neither a padding nor an end token: set its `pad_token`")
            tokenizer.pad_token = tokenizer.eos_token
        if getattr(self._config, "pad_token_id", None) is None:
            self._config.pad_token_id = tokenizer.pad_token_id
        return tokenizer

    def _from_folder(self, outputs: int, seed: int | None) -> Network:
        """Load the folder's weights; with a seed, put a new head on them."""
        config = copy.deepcopy(self._config)
        if seed is not None:
            config.num_labels = outputs
        module = read_weights(self._folder, "AutoModelForSequenceClassification", config, seed)
        return Network(module.to(pick_device(self.device)))

    def _new_network(self, labels: list[str], seed: int) -> Network:
        if self._folder is None:
            return super()._new_network(labels, seed)
        return self._from_folder(len(labels), seed)

    # --- answers ------------------------------------------------------------------------------------------------

    def read(self, value: Any) -> str:
        """Take the text out of an input, so that a wrong type harms only its own item."""
        return read_text(super().read(value))

    @property
    def length(self) -> int:
        """Tokens that are read of a text."""
        assert self._tokenizer is not None
        own = int(min(self._tokenizer.tokenizer.model_max_length, _SPELLED_OUT))
        positions = getattr(self._config, "max_position_embeddings", None)
        if own == _SPELLED_OUT:
            own = _USUAL_LENGTH if positions is None else min(int(positions), _USUAL_LENGTH)
        elif isinstance(positions, int) and positions > 0:
            own = min(own, positions)
        return own if self.max_length is None else min(own, self.max_length)

    def _prepare(self, values: list[Any]) -> list[Any]:
        assert self._tokenizer is not None
        length = self.length
        texts = [without_surrogates(read_text(value)[: length * _CHARACTERS_PER_TOKEN]) for value in values]
        with self._tokenizer.lock:
            ids = self._tokenizer.tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        if not all(ids):
            raise InputError("the text has no token that the model knows")
        return [_Tokens(row) for row in ids]

    def _collate(self, items: list[Any]) -> Any:
        assert self._tokenizer is not None
        torch = import_torch()
        longest = max(map(len, items))
        padding = int(self._tokenizer.tokenizer.pad_token_id)
        ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in items])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in items])
        return {"input_ids": ids, "attention_mask": mask}

    def _forward(self, module: Any, batch: Any) -> Any:
        return module(**batch).logits

    def warmup(self) -> None:
        """Run the model once."""
        self._logits(["warm"])

    # --- what it is ---------------------------------------------------------------------------------------------

    def _describe(self) -> dict[str, Any] | None:
        assert self._tokenizer is not None
        module = self._fitted().module
        tokenizer = self._tokenizer.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        with self._tokenizer.lock:
            body = json.loads(backend.to_str())
        body.update(truncation=None, padding=None)  # left there by the last call
        return {
            "class": type(module).__name__,
            "config": told(module.config),
            "tokenizer": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
            "padding": tokenizer.pad_token_id,
            "truncation_side": tokenizer.truncation_side,
            "length": self.length,
        }

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors), tokenizer and `model.json` into a folder.

        `model.json` is written last and holds a SHA-256 over itself and all the rest, so that damage is noticed, and a
        save that was cut off. It is no authentication.
        """
        network = self._fitted()
        assert self._tokenizer is not None
        with tempfile.TemporaryDirectory() as scratch, self._tokenizer.lock:
            self._tokenizer.tokenizer.save_pretrained(scratch)
            files = {file.name: file.read_bytes() for file in Path(scratch).iterdir() if file.is_file()}
        settings = {
            **self._settings(),
            "max_length": self.max_length,
            "config": plain_config(network.module.config),
            "tokenizer": {name: hashlib.sha256(body).hexdigest() for name, body in sorted(files.items())},
        }
        with network.lock:
            weights = pack_weights(network.module)
        folder = Path(path)
        (folder / _TOKENIZER).mkdir(parents=True, exist_ok=True)
        for name, body in files.items():
            replace_file(folder / _TOKENIZER / name, body)
        save_folder(folder, WEIGHTS, weights, settings, self._trained)

    @classmethod
    def load(cls, path: str | Path, *, device: str | None = None, score: ScoreFunction | None = None) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        A SHA-256 over all files detects damage. It is no authentication: who can write to the folder can write a new
        one.

        Args:
            path: The folder.
            device: torch's name of a device; by default the first accelerator, else the CPU.
            score: The score, where it was a callable: those are not saved.

        Raises:
            ValueError: If a file is missing, cut off or changed, or names a model that transformers does not know.
        """
        folder = Path(path)
        settings, body = load_folder(folder, WEIGHTS, kind=cls.saved_as, version=FORMAT)
        fields = pick(settings, folder, "labels", "name", "input_key")
        known = pick(settings, folder, "labels_given", "score")
        fields["batch_size"] = take(settings, folder, "batch_size", int)
        fields["max_length"] = take(settings, folder, "max_length", int, type(None))
        config = take(settings, folder, "config", dict)
        tokenizer = _read_tokenizer(folder, take(settings, folder, "tokenizer", dict), config)
        module = build_module(config, "AutoModelForSequenceClassification", folder)
        unpack_weights(module, body, folder)
        with plain_errors(folder):
            model = cls(module, tokenizer=tokenizer, device=device, score=pick_score(known, score, folder), **fields)
        model._labels_given = known["labels_given"]
        model._take_over(settings, folder)
        return model


def check_own_class(model: Any) -> None:
    """Refuse what is no model of the transformers library: it could not be loaded again without running its code.

    Raises:
        TypeError: If it is none.
    """
    if not type(model).__module__.startswith("transformers.") or not hasattr(model, "config"):
        raise TypeError(
            "`model` must be a folder, a name on the hub, or a model of the transformers library itself, not "
            f"{type(model).__name__}"
        )


def has_head(config: Any, ending: str, labels: Sequence[str]) -> bool:
    """Whether the weights come with a head for as many classes."""
    names = getattr(config, "architectures", None) or [""]
    return str(names[0]).endswith(ending) and (not labels or len(labels) == config.num_labels)


def adopt_labels(config: Any, labels: list[str]) -> list[str]:
    """Return the labels of a model with a head: those given, or those in its config.

    Raises:
        ValueError: If they do not fit.
    """
    if getattr(config, "problem_type", None) in ("regression", "multi_label_classification") or config.num_labels < 2:
        raise ValueError(
            "the model is no classifier of one class among several: it has one output, or several classes at a time"
        )
    own = [str(config.id2label[place]) for place in range(config.num_labels)]
    if not labels:
        return list_labels(own)
    if len(labels) != len(own):
        raise ValueError(f"`labels` has {len(labels)} names, the model has {len(own)} outputs")
    if set(labels) == set(own) and labels != own:
        raise ValueError(f"`labels` must be in the order of the model's outputs: {own}")
    return labels


def read_weights(folder: Path | None, auto: str, config: Any, seed: int | None) -> Any:
    """Load a folder's safetensors into a module of the transformers library; with a seed, put a new head on them."""
    torch = import_torch()
    kind = getattr(require("transformers", "local"), auto)
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed or 0)
        return kind.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=seed is not None,
        )


def plain_config(config: Any) -> dict[str, Any]:
    """A transformers config as plain JSON."""
    body: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in body.items() if key not in {"_name_or_path", "auto_map"}}


def told(config: Any) -> dict[str, Any]:
    """What of a config may change an answer."""
    body: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    return {key: value for key, value in body.items() if key not in UNTOLD and not key.startswith("_")}


def build_module(config: Mapping[str, Any], auto: str, folder: Path) -> Any:
    """Build an untrained module of the transformers library from a saved config.

    Raises:
        ValueError: If transformers does not know such a model.
    """
    torch = import_torch()
    library = require("transformers", "local")
    kinds: Any = require("transformers.models.auto.configuration_auto", "local").CONFIG_MAPPING
    kind = config.get("model_type")
    refuse_kernels_in(config, folder / SETTINGS)
    try:
        known = kinds[kind].from_dict({key: value for key, value in config.items() if key != "auto_map"})
        with quiet_transformers(), torch.random.fork_rng():
            module = getattr(library, auto).from_config(known, trust_remote_code=False)
    except Exception as error:
        raise ValueError(
            f"{folder / SETTINGS}: `config` names no model that this version of transformers can build"
        ) from error
    return module.float()


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has the words of a tokenizer."""
    return any(next(folder.glob(form), None) for form in ("tokenizer.json", "vocab.*", "*.model"))


def _read_tokenizer(folder: Path, hashes: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Load the tokenizer from its checked bytes, in a place where nothing else lies."""
    library = require("transformers", "local")
    with tempfile.TemporaryDirectory() as scratch:
        for name, wanted in hashes.items():
            if Path(name).name != name:
                raise ValueError(f"{folder / SETTINGS} is damaged: `tokenizer` names a file outside the folder")
            try:
                body = (folder / _TOKENIZER / name).read_bytes()
            except OSError:
                raise ValueError(
                    f"{folder} is no saved TransformersClassifier: {_TOKENIZER}/{name} is missing"
                ) from None
            if hashlib.sha256(body).hexdigest() != wanted:
                raise ValueError(
                    f"{folder}: {_TOKENIZER}/{name} is damaged or changed: the SHA-256 differs. Save the model again"
                )
            (Path(scratch) / name).write_bytes(body)
        (Path(scratch) / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
        if not has_tokenizer(Path(scratch)):
            raise ValueError(f"{folder / SETTINGS} is damaged: `tokenizer` names no tokenizer")
        try:
            return library.AutoTokenizer.from_pretrained(scratch, trust_remote_code=False, local_files_only=True)
        except Exception as error:
            raise ValueError(f"{folder}: transformers cannot read the tokenizer") from error
