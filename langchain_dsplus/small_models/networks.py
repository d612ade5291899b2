"""What the torch small models share: one lock, batches, training on soft targets, the hash of the weights."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import math
import os
import sys
import textwrap
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from langchain_dsplus._arrays import Floats
from langchain_dsplus._imports import require
from langchain_dsplus._progress import progress_bar
from langchain_dsplus.answer import InvalidAnswerError, NotFittedError
from langchain_dsplus.calibration import TemperatureScaling, softmax
from langchain_dsplus.confidence import energy
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel
from langchain_dsplus.small_models.files import SETTINGS, pick, read_trained, save_folder
from langchain_dsplus.small_models.fork import mind_forks
from langchain_dsplus.small_models.targets import check_classes, read_inputs, read_weighted

FORMAT = 2
WEIGHTS = "model.safetensors"
_WARM_UP = 0.1
_LARGEST_GRADIENT = 1.0


class Network:
    """A torch module and the lock under which it runs; a copy has both of its own."""

    __slots__ = ("lock", "module")

    def __init__(self, module: Any) -> None:
        self.module = module.eval()
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        with self.lock:
            return Network(copy.deepcopy(self.module, memo))


class TorchClassifier(SmallModel):
    """A torch module whose logits become class probabilities; trained on labels or soft targets.

    Calls from many threads are safe, one at a time: torch runs each step on every core already.
    """

    batch_size: int = Field(default=32, ge=1)
    device: str | None = None

    own_scores: ClassVar[frozenset[str]] = frozenset({"energy"})
    default_lr: ClassVar[float] = 1e-3
    saved_as: ClassVar[str] = ""
    """The kind's name in `model.json`."""

    _network: Network | None = PrivateAttr(default=None)
    _temperature: float = PrivateAttr(default=1.0)
    _labels_given: bool = PrivateAttr(default=False)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is saved with `save`, not with LangChain's `dumps`."""
        return False

    # --- what a subclass provides -------------------------------------------------------------------------------

    @abstractmethod
    def _prepare(self, values: list[Any]) -> list[Any]:
        """Turn inputs into items that `_collate` puts together; `len` of an item, where it has one, is its size."""

    @abstractmethod
    def _collate(self, items: list[Any]) -> Any:
        """Put items together into the tensors of one step, on the CPU."""

    @abstractmethod
    def _forward(self, module: Any, batch: Any) -> Any:
        """Return logits, shape (n, K), of a batch that is on the module's device."""

    @abstractmethod
    def _describe(self) -> dict[str, Any] | None:
        """What beside the weights decides the answers, as plain JSON; None where it cannot be seen into."""

    def _new_network(self, labels: list[str], seed: int) -> Network:
        """Return a network with an untrained head for these labels."""
        self._fitted()
        raise ValueError("`targets` need the labels of the model")

    # --- training -----------------------------------------------------------------------------------------------

    def fit(
        self,
        inputs: Sequence[Any],
        targets: Sequence[str | Mapping[str, float]],
        *,
        weights: Sequence[float] | None = None,
        epochs: int = 5,
        lr: float | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> Self:
        """Train all weights by AdamW on the cross-entropy with the targets, from where they are.

        The learning rate rises over the first tenth of the steps and falls to 0. The training happens on a copy that
        is put in place at the end: until then, and if it fails, the model answers as before. The temperature goes back
        to 1: see `calibrate`. The same rows, weights, seed and machine give the same model.

        Args:
            inputs: The inputs, as in `invoke`.
            targets: One for each input: a label, or a dict from label to probability.
            weights: How much each row counts; by default 1.
            epochs: How often each row is seen.
            lr: The largest learning rate; by default the kind's own.
            seed: Of the order of the rows, of dropout and of a new head.
            progress: Show a bar on stderr.

        Raises:
            TypeError: If an input or a target has the wrong type; the message gives its place, never the input.
            ValueError: If there is no row, one class only, a target outside the labels, or lengths differ.
            FloatingPointError: If the loss is no longer finite.
        """
        rows, labels, wanted, mass = self._read_rows(inputs, targets, weights)
        check_classes(wanted, mass, "inputs")
        same = self._network is not None and labels == self.labels
        network = copy.deepcopy(self._network) if same else self._new_network(labels, seed)
        assert network is not None
        settings = _Training(epochs, self.default_lr if lr is None else lr, seed, self.batch_size, whole=True)
        self._train(network, rows, wanted, mass, settings, temperature=1.0, progress=progress)
        self.labels, self._network, self._temperature = labels, network, 1.0
        self.remember(rows)
        self.set_version(None)
        return self

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
        """Train some epochs in place, at a constant learning rate: a building block of distillation.

        The loss is the cross-entropy with the targets, which differs from the Kullback-Leibler divergence (paper, 3.2)
        by a constant. The statistics of batch norm stay as they are, since rows picked by confidence are not like the
        rest. Train a `clone` where the model must stay as it is.

        Args:
            inputs: The inputs, as in `invoke`. None of them: nothing happens.
            soft_targets: One for each input: a dict from label to probability, or a label.
            epochs: How often each row is seen.
            lr: The learning rate; by default the kind's own.
            seed: Of the order of the rows and of dropout.
            weights: How much each row counts; by default 1.

        Returns:
            The mean loss of each epoch, in nats.

        Raises:
            TypeError: As `fit`.
            ValueError: As `fit`; one class alone is allowed here.
            FloatingPointError: If the loss is no longer finite.
        """
        if not len(inputs) and not len(soft_targets):
            return []
        rows, labels, wanted, mass = self._read_rows(inputs, soft_targets, weights)
        if self._network is None:
            self._network, self.labels = self._new_network(labels, seed), labels
        elif labels != self.labels:
            raise ValueError("`soft_targets` hold labels that the model does not have")
        settings = _Training(epochs, self.default_lr if lr is None else lr, seed, self.batch_size, whole=False)
        self.remember(rows)
        try:
            return self._train(
                self._network, rows, wanted, mass, settings, temperature=self._temperature, progress=False
            )
        finally:
            self.set_version(None)

    def calibrate(self, inputs: Sequence[Any], targets: Sequence[str | Mapping[str, float]]) -> float:
        """Fit the temperature T on rows that the model was not trained on; returns it.

        Probabilities become softmax(z / T), and energy T * logsumexp(z / T). No choice changes, but scores do: choose
        or certify the threshold afterwards.
        """
        self._fitted()
        rows, labels, wanted, _ = self._read_rows(inputs, targets, None)
        if labels != self.labels:
            raise ValueError("`targets` need the labels of the model")
        if not rows:
            raise ValueError("`inputs` is empty: there is nothing to calibrate on")
        self._temperature = float(TemperatureScaling().fit(self._logits(rows), wanted).temperature)
        self.remember(rows)
        self.set_version(None)
        return self._temperature

    def _read_rows(
        self, inputs: Sequence[Any], targets: Sequence[Any], weights: Sequence[float] | None
    ) -> tuple[list[Any], list[str], Floats, Floats]:
        rows = read_inputs(self._read_for_training, inputs, "inputs")
        fixed = self._labels_given or (self._network is not None and _covered(targets, self.label_set))
        return rows, *read_weighted(rows, targets, weights, self.labels if fixed else None, "inputs")

    def _read_for_training(self, item: Any) -> Any:
        return self.read(item)

    def _train(
        self,
        network: Network,
        rows: list[Any],
        wanted: Floats,
        mass: Floats,
        settings: _Training,
        *,
        temperature: float,
        progress: bool,
    ) -> list[float]:
        torch = import_torch()
        settings.check()
        module = network.module
        device = place_of(module, torch)
        items = self._prepare(rows)
        counting = np.flatnonzero(mass)
        scaled = mass / mass[counting].mean()
        optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=settings.lr)
        rng = np.random.default_rng(settings.seed)
        per_epoch = len(_cut(counting, settings.batch_size))
        total = per_epoch * settings.epochs
        done = 0
        losses = []
        # torch draws dropout from one generator for the whole process: give it back as it was.
        with progress_bar("training", total, show=progress) as advance, torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            for _ in range(settings.epochs):
                order = rng.permutation(counting)
                summed = 0.0
                for places in _cut(order, settings.batch_size):
                    batch = to_device(self._collate([items[place] for place in places]), device)
                    target = torch.as_tensor(wanted[places], dtype=torch.float32, device=device)
                    weight = torch.as_tensor(scaled[places], dtype=torch.float32, device=device)
                    for group in optimizer.param_groups:
                        group["lr"] = settings.rate(done, total)
                    with network.lock:
                        module.train()
                        if not settings.whole:
                            _freeze_statistics(module, torch)
                        try:
                            logits = self._forward(module, batch).float() / temperature
                            _check_shape(logits, len(places), wanted.shape[1])
                            loss = -(weight * (target * torch.log_softmax(logits, dim=-1)).sum(dim=-1)).mean()
                            value = float(loss.detach())
                            if not math.isfinite(value):
                                raise FloatingPointError(
                                    f"the loss is not finite after {done} steps: use a smaller `lr`"
                                )
                            optimizer.zero_grad(set_to_none=True)
                            loss.backward()
                            torch.nn.utils.clip_grad_norm_(module.parameters(), _LARGEST_GRADIENT)
                            optimizer.step()
                        finally:
                            module.eval()
                    summed += value * len(places)
                    done += 1
                    advance(1)
                losses.append(summed / len(counting))
        for parameter in module.parameters():
            parameter.grad = None
        return losses

    # --- answers ------------------------------------------------------------------------------------------------

    @property
    def temperature(self) -> float:
        """The temperature T; 1 until `calibrate` is called."""
        return self._temperature

    def predict_proba(self, inputs: list[Any]) -> Floats:
        """Return class probabilities, shape (len(inputs), len(labels)), float64; rows sum to 1."""
        return softmax(self._logits(inputs) / self._temperature)

    def _predict(self, values: list[Any]) -> tuple[Floats, Floats | None]:
        t = self._temperature
        logits = self._logits(values)
        scores = None
        if self.score == "energy":
            scores = np.array([energy(row, temperature=t) for row in logits.tolist()])
        return softmax(logits / t), scores

    def _logits(self, values: list[Any]) -> Floats:
        network = self._fitted()
        torch = import_torch()
        items = self._prepare(values)
        sizes = [len(item) if hasattr(item, "__len__") else 0 for item in items]
        order = sorted(range(len(items)), key=sizes.__getitem__)  # little padding
        out = np.empty((len(items), len(self.labels)))
        device = place_of(network.module, torch)
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch = to_device(self._collate([items[place] for place in places]), device)
            with network.lock, torch.inference_mode():
                logits = self._forward(network.module, batch)
            _check_shape(logits, len(places), len(self.labels))
            out[places] = logits.float().cpu().numpy()
        return out

    def _fitted(self) -> Network:
        if self._network is None:
            raise NotFittedError(
                f"small model {self.name!r} is not fitted: call `fit(inputs, targets)`, or `load` a saved one"
            )
        return self._network

    # --- what it is ---------------------------------------------------------------------------------------------

    @property
    def module(self) -> Any:
        """The torch module. Who changes its weights by hand must make a new small model of it: the version is kept."""
        return self._fitted().module

    def fingerprint(self) -> str:
        """A hash of the weights and of what else decides the answers."""
        if self._network is None:
            return UNVERIFIABLE
        described = self._describe()
        if described is None:
            return UNVERIFIABLE
        described = {**described, "temperature": self._temperature}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        torch = import_torch()
        for name, tensor in sorted(self._network.module.state_dict().items()):
            digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _write(self, path: str | Path, settings: dict[str, Any]) -> None:
        """Write the weights as they are now, and `model.json` with these settings."""
        network = self._fitted()
        with network.lock:
            weights = pack_weights(network.module)
        save_folder(path, WEIGHTS, weights, settings, self._trained)

    def _take_over(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Take over what a folder says beside the weights: the temperature, and what the model was trained on."""
        self._temperature = checked_temperature(pick(settings, folder, "temperature")["temperature"], folder)
        self._trained = read_trained(settings, folder)

    def _settings(self) -> dict[str, Any]:
        """What every kind writes into `model.json`."""
        return {
            "format": FORMAT,
            "kind": self.saved_as,
            "labels": self.labels,
            "labels_given": self._labels_given,
            "temperature": self._temperature,
            "name": self.name,
            "input_key": self.input_key,
            "score": self.score if isinstance(self.score, str) else None,
            "batch_size": self.batch_size,
        }


class _Training:
    """How to train; `whole` with a falling learning rate, as one training and not a step of a longer one."""

    def __init__(self, epochs: int, lr: float, seed: int, batch_size: int, *, whole: bool) -> None:
        self.epochs, self.lr, self.seed, self.batch_size, self.whole = epochs, lr, seed, batch_size, whole

    def check(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise ValueError("`epochs` must be a whole number, at least 1")
        if not 0.0 < self.lr < math.inf:
            raise ValueError("`lr` must be a finite number, greater than 0")

    def rate(self, done: int, total: int) -> float:
        """The learning rate of a step."""
        if not self.whole:
            return self.lr
        warm = max(1, round(_WARM_UP * total))
        if done < warm:
            return self.lr * (done + 1) / warm
        return self.lr * (total - done) / max(1, total - warm)


def import_torch() -> Any:
    """Import torch, with threads that sleep while they wait (see `Encoder`)."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch = require("torch", "local")
    mind_forks(torch)
    return torch


def pick_device(device: str | None) -> str:
    """Return the device named, or the first accelerator, or the CPU.

    Raises:
        ValueError: If a GPU is named, and torch sees none.
    """
    torch = import_torch()
    if device is not None:
        if device.partition(":")[0] == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"`device` is {device!r}, but torch sees no GPU here: leave `device` out, or install torch with CUDA"
            )
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def place_of(module: Any, torch: Any) -> Any:
    """The device of a module's weights."""
    first = next(module.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def to_device(batch: Any, device: Any) -> Any:
    """Move a tensor, or the tensors of a dict."""
    if isinstance(batch, Mapping):
        return {key: value.to(device) for key, value in batch.items()}
    return batch.to(device)


def pack_weights(module: Any) -> bytes:
    """A module's state as safetensors. Raises ValueError if the state holds something that is no tensor."""
    torch = import_torch()
    state = module.state_dict()
    strange = sorted(name for name, value in state.items() if not isinstance(value, torch.Tensor))
    if strange:
        raise ValueError(f"the model cannot be saved: {strange[:5]} in its state are no tensors")
    # Copies, since safetensors refuses tensors that share memory (tied weights).
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    packed: bytes = require("safetensors.torch", "local").save(copies)
    return packed


def unpack_weights(module: Any, body: bytes, path: Path) -> None:
    """Put saved weights into a module. Raises ValueError if they are damaged, or not those of such a module."""
    try:
        state = require("safetensors.torch", "local").load(body)
    except Exception as error:  # the library has an error of its own
        raise ValueError(f"{path / WEIGHTS} is damaged: it is no safetensors file. Save the model again") from error
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path / WEIGHTS} does not fit the model: names or shapes of its weights differ") from error


def hash_of_source(thing: Any) -> str | None:
    """SHA-256 of the source of a class or a function; None where it cannot be read."""
    try:
        source = textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return None
    return hashlib.sha256(source.encode()).hexdigest()


def built_like(build: Callable[[], Any], outline: Any, folder: Path) -> Any:
    """A new module of a user's function, where its layers are those that were saved.

    Raises:
        ValueError: If they are others.
    """
    module = build()
    if outline_of(module) != outline:
        raise ValueError(f"`build` makes another module than the one saved in {folder}: its layers differ")
    return module


def describe_module(module: Any) -> dict[str, Any] | None:
    """A torch module by its layers, and the source and plain attributes of its own classes.

    None where a source cannot be read.
    """
    sources = {}
    attributes = {}
    for name, part in module.named_modules():
        kind = type(part)
        if kind.__module__.startswith("torch."):
            continue
        found = hash_of_source(kind)
        if found is None:
            return None
        sources[kind.__qualname__] = found
        attributes[name] = {
            key: repr(value)
            for key, value in vars(part).items()
            if isinstance(value, (bool, int, float, str)) and key != "training" and not key.startswith("_")
        }
    return {"layers": outline_of(module), "sources": sources, "attributes": attributes}


def outline_of(module: Any) -> str:
    """The layers with their settings, as torch writes them."""
    return repr(module)


def take(settings: Mapping[str, Any], path: str | Path, name: str, *kinds: type) -> Any:
    """Return a setting of a saved model.

    Raises:
        ValueError: If it is missing or has another type than was saved.
    """
    value = settings.get(name)
    if name not in settings or not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(
            f"{Path(path) / SETTINGS} is damaged: `{name}` is missing or has a wrong type. Save the model again"
        )
    return value


def _covered(targets: Sequence[Any], labels: frozenset[str]) -> bool:
    """Whether targets name known labels only."""
    named = (target if isinstance(target, Mapping) else (target,) for target in targets)
    return all(label in labels for group in named for label in group)


def checked_temperature(value: Any, folder: Path) -> float:
    """Return a saved temperature. Raises ValueError if it is not a number greater than 0."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{folder / SETTINGS} is damaged: `temperature` must be a finite number, greater than 0")
    return float(value)


def _freeze_statistics(module: Any, torch: Any) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._NormBase):  # noqa: SLF001 - torch has no public name for it
            part.eval()


def _check_shape(logits: Any, n: int, k: int) -> None:
    shape = tuple(getattr(logits, "shape", ()))
    if shape != (n, k):
        raise InvalidAnswerError(
            f"the model returned logits of shape {shape} for {n} inputs and {k} labels; expected ({n}, {k})"
        )


def _cut(order: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    """Cut into batches; a single row at the end goes to the batch before, since batch norm cannot train on one."""
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts)
