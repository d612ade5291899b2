"""Does one text follow from another? Models of natural language inference (NLI), for the fidelity check."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from langchain_dsplus._imports import require
from langchain_dsplus.small_models._fork import mind_forks

Pair: TypeAlias = tuple[str, str]
"""Premise and hypothesis."""
Entailment: TypeAlias = Callable[[list[Pair]], Sequence[float]]
"""From pairs to the probability, for each, that the hypothesis follows from the premise."""

PAIR_TEMPLATE = "Premise: {premise}\nHypothesis: {hypothesis}"
"""What a classifier of single texts is asked."""

_CHARACTERS_PER_TOKEN = 32
_USUAL_LENGTH = 512


class NLIModel:
    """A sequence classifier of the transformers library that was trained on NLI: DeBERTa-MNLI, XNLI models, ...

    It loads when first used, from a folder or the hub's cache; weights must be safetensors, and no code of the folder
    runs. May be called from many threads. The output for entailment is found by its name in the model's `id2label`.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        entailment: The label that means entailment, where its name does not start with `entail`.
        batch_size: Pairs for each step.
        max_length: Tokens that are read of a pair; by default the model's own limit. The longer text is cut first.
        device: torch's name of a device; by default the first accelerator, else the CPU.

    Example:
        ```python
        check = Fidelity(nli=NLIModel("MoritzLaurer/mDeBERTa-v3-base-mnli-xnli"))
        ```
    """

    def __init__(
        self,
        model: str | Path,
        *,
        entailment: str | None = None,
        batch_size: int = 16,
        max_length: int | None = None,
        device: str | None = None,
    ) -> None:
        if batch_size < 1:
            msg = "`batch_size` must be at least 1"
            raise ValueError(msg)
        self.name = str(model)
        self.entailment = entailment
        self.batch_size = batch_size
        self.max_length = max_length
        self.device = device
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, int, int] | None = None

    def __repr__(self) -> str:
        return f"NLIModel({self.name!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> NLIModel:
        return self  # frozen: copies share it

    def load(self) -> NLIModel:
        """Load the weights now; returns itself.

        Raises:
            ImportError: If torch or transformers is missing; the message carries the pip command.
            ValueError: If the folder holds no safetensors or no tokenizer, asks for code, or names no entailment.
        """
        with self._lock:
            self._get()
        return self

    def _get(self) -> tuple[Any, Any, int, int]:
        if self._loaded is None:
            library = require("transformers", "local")
            from langchain_dsplus.small_models._refuse import refuse_code  # noqa: PLC0415
            from langchain_dsplus.small_models._torch import pick_device  # noqa: PLC0415
            from langchain_dsplus.small_models.transformers import (  # noqa: PLC0415
                _checked_folder,
                has_tokenizer,
                quiet,
            )

            folder = _checked_folder(self.name)
            refuse_code(folder)
            if not has_tokenizer(folder):
                msg = f"{folder} holds no tokenizer"
                raise ValueError(msg)
            options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
            config = library.AutoConfig.from_pretrained(str(folder), **options)
            names = {int(place): str(name) for place, name in config.id2label.items()}
            place = find_entailment(names, self.entailment)
            tokenizer = library.AutoTokenizer.from_pretrained(str(folder), **options)
            with quiet():
                module = library.AutoModelForSequenceClassification.from_pretrained(
                    str(folder), config=config, use_safetensors=True, **options
                )
            module = module.float().eval().to(pick_device(self.device))
            limits = [self.max_length, tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
            length = min([int(x) for x in limits if x and x < 100_000] or [_USUAL_LENGTH])
            self._loaded = (module, tokenizer, place, length)
        return self._loaded

    def __call__(self, pairs: list[Pair]) -> list[float]:
        """Return the probability of entailment for each pair of premise and hypothesis."""
        if not pairs:
            return []
        torch = require("torch", "local")
        mind_forks(torch)
        found: list[float] = []
        with self._lock:  # fast tokenizers refuse concurrent use, and torch uses every core anyway
            module, tokenizer, place, length = self._get()
            cut = length * _CHARACTERS_PER_TOKEN
            for start in range(0, len(pairs), self.batch_size):
                batch = pairs[start : start + self.batch_size]
                tokens = tokenizer(
                    [_clean(premise[:cut]) for premise, _ in batch],
                    [_clean(hypothesis[:cut]) for _, hypothesis in batch],
                    truncation=True,
                    max_length=length,
                    padding=True,
                    return_tensors="pt",
                )
                with torch.inference_mode():
                    logits = module(**{k: v.to(module.device) for k, v in tokens.items()}).logits
                found += torch.softmax(logits.float(), dim=-1)[:, place].tolist()
        return found


def find_entailment(names: Mapping[int, str], wanted: str | None = None) -> int:
    """The place of the label that means entailment.

    Args:
        names: A model's `id2label`.
        wanted: The label's name, where it does not start with `entail`.

    Raises:
        ValueError: If there is none, or more than one.

    Example:
        >>> find_entailment({0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"})
        2
    """
    if wanted is not None:
        places = [place for place, name in names.items() if name.casefold() == wanted.casefold()]
    else:
        places = [place for place, name in names.items() if name.casefold().startswith("entail")]
    if len(places) != 1:
        msg = f"no single label of {sorted(names.values())} means entailment: name it with `entailment=`"
        raise ValueError(msg)
    return places[0]


class ClassifierNLI:
    """Any classifier as an NLI model: a `SmallModel`, a `ConfidenceRouter`, a chain that ends in a label.

    Each pair is one input, and all pairs one `batch`. What comes back is read as a probability: a number; an `Answer`
    by its probabilities; a text, a message or a router's output by its label, as 1 or 0. What cannot be read counts
    as 0: no proof.

    Args:
        classifier: A Runnable.
        entailment: The label that means entailment. By default, the one that starts with `entail`.
        template: The input for a pair, with `{premise}` and `{hypothesis}`; or a function of the two.

    Example:
        ```python
        judge = ChatClassifier(model, labels=["entailed", "not entailed"], ...)
        check = Fidelity(nli=ClassifierNLI(judge, entailment="entailed"))
        ```
    """

    def __init__(
        self,
        classifier: Runnable[Any, Any],
        *,
        entailment: str | None = None,
        template: str | Callable[[str, str], Any] = PAIR_TEMPLATE,
    ) -> None:
        if not isinstance(classifier, Runnable):
            msg = f"`classifier` must be a Runnable, not {type(classifier).__name__}"
            raise TypeError(msg)
        if isinstance(template, str) and not ("{premise}" in template and "{hypothesis}" in template):
            msg = "`template` must hold {premise} and {hypothesis}"
            raise ValueError(msg)
        self.classifier = classifier
        self.entailment = entailment
        self.template = template

    def __call__(self, pairs: list[Pair]) -> list[float]:
        """Return the probability of entailment for each pair of premise and hypothesis."""
        if not pairs:
            return []
        if isinstance(self.template, str):
            inputs: list[Any] = [self.template.format(premise=p, hypothesis=h) for p, h in pairs]
        else:
            inputs = [self.template(p, h) for p, h in pairs]
        return [self._read(output) for output in self.classifier.batch(inputs)]

    def _is(self, label: object) -> bool:
        name = str(label).strip().strip(".\"'").casefold()
        return name == self.entailment.casefold() if self.entailment is not None else name.startswith("entail")

    def _read(self, output: Any) -> float:
        if isinstance(output, Mapping) and "route" in output and "output" in output:  # a router with `include_route`
            output = output["output"]
        if isinstance(output, bool):
            return float(output)
        if isinstance(output, (int, float)):
            return float(output)
        if isinstance(output, Mapping):
            shares = output.get("probabilities") or {}
            if shares:
                return math.fsum(float(p) for label, p in shares.items() if self._is(label))
            return float(self._is(output.get("choice", "")))
        if isinstance(output, BaseMessage):
            output = output.text
        return float(isinstance(output, str) and self._is(output))


def as_entailment(nli: Any) -> Entailment:
    """What `Fidelity(nli=...)` takes, as a function from pairs to probabilities.

    A folder or hub name becomes an `NLIModel`, a Runnable a `ClassifierNLI`, and a callable stays what it is.

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(nli, (str, Path)):
        return NLIModel(nli)
    if isinstance(nli, Runnable):
        return ClassifierNLI(nli)
    if callable(nli):
        return nli  # type: ignore[no-any-return]
    msg = f"`nli` must be a folder, a Runnable, or a callable from pairs to probabilities, not {type(nli).__name__}"
    raise TypeError(msg)


def entailed(nli: Entailment, pairs: list[Pair]) -> list[float]:
    """Ask, and check what comes back.

    Raises:
        ValueError: If there is not one finite number between 0 and 1 for each pair.
    """
    if not pairs:
        return []
    found = [float(p) for p in nli(pairs)]
    if len(found) != len(pairs) or not all(-1e-6 <= p <= 1 + 1e-6 for p in found):
        msg = f"`nli` must return one probability for each of {len(pairs)} pairs"
        raise ValueError(msg)
    return found


def _clean(text: str) -> str:
    """A text that a tokenizer can encode: lone surrogates replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
