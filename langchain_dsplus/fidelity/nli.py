"""The second layer: models of natural language inference (NLI) say whether one text follows from another."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from langchain_dsplus._imports import require
from langchain_dsplus._progress import quiet_transformers
from langchain_dsplus._shown import Shown
from langchain_dsplus.fidelity.nearest import facts_of
from langchain_dsplus.fidelity.sentences import HAN
from langchain_dsplus.small_models.base import without_surrogates
from langchain_dsplus.small_models.fork import load_onnxruntime, mind_forks

Pair: TypeAlias = tuple[str, str]
"""Premise and hypothesis."""


class Follows(NamedTuple):
    """What a model says of one pair. None where it does not know that class."""

    entailed: float | None
    """Probability that the hypothesis follows from the premise."""
    contradicted: float | None = None
    """Probability that the premise contradicts it."""


Inference: TypeAlias = Callable[[list[Pair]], Sequence[float | Follows | Sequence[float | None]]]
"""From pairs to a `Follows` for each, or to the bare probability of entailment."""

DEFAULT_REVISION = "0a71e92a985b6e1ad1828cf67ce9c459639c1dca"
DEFAULT_NLI = "MoritzLaurer/multilingual-MiniLMv2-L6-mnli-xnli"
"""A small multilingual cross-encoder (107 million parameters, MIT) for English, Chinese and 13 more languages."""

PAIR_TEMPLATE = "Premise: {premise}\nHypothesis: {hypothesis}"
"""What a classifier of single texts is asked."""

_CHARACTERS_PER_TOKEN = 32
_USUAL_LENGTH = 512


class _Loaded:
    """What loads its weights when it is first used, and is frozen from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # frozen: copies share it

    def load(self) -> Self:
        """Load the weights now; returns itself.

        Raises:
            ImportError: If the library that runs them is missing; the message carries the pip command.
            ValueError: If the folder does not hold what is read, asks for code, or names no entailment.
        """
        with self._lock:
            self._get()
        return self

    def _get(self) -> Any:
        raise NotImplementedError


class NLIModel(_Loaded):
    """A sequence classifier of the transformers library that was trained on NLI: DeBERTa-MNLI, XNLI models, ...

    It loads when first used, from a folder or the hub's cache; weights must be safetensors, and no code of the folder
    runs. May be called from many threads. Entailment and contradiction are found by their names in the model's
    `id2label`.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        entailment: The label that means entailment, where its name does not start with `entail`.
        revision: Commit of a hub repository, in the hub's cache. Pin it: a name alone may mean other weights tomorrow.
        batch_size: Pairs for each step.
        max_length: Tokens that are read of a pair; by default the model's own limit. The longer text is cut first.
        device: torch's name of a device; by default the first accelerator, else the CPU.

    Example:
        ```python
        check = Fidelity(nli=NLIModel(DEFAULT_NLI, revision="..."))
        ```
    """

    def __init__(
        self,
        model: str | Path,
        *,
        entailment: str | None = None,
        revision: str | None = None,
        batch_size: int = 16,
        max_length: int | None = None,
        device: str | None = None,
    ) -> None:
        if batch_size < 1:
            msg = "`batch_size` must be at least 1"
            raise ValueError(msg)
        self.name = str(model)
        self.entailment = entailment
        self.revision = revision
        self.batch_size = batch_size
        self.max_length = max_length
        self.device = device
        super().__init__()

    def __repr__(self) -> str:
        return f"NLIModel({self.name!r})"

    def _get(self) -> Any:
        if self._loaded is None:
            library = require("transformers", "local")
            from langchain_dsplus.small_models.files import safetensors_folder
            from langchain_dsplus.small_models.networks import pick_device
            from langchain_dsplus.small_models.refuse import refuse_code
            from langchain_dsplus.small_models.transformers import (
                has_tokenizer,
            )

            folder = safetensors_folder(_at_revision(self.name, self.revision))
            refuse_code(folder)
            if not has_tokenizer(folder):
                msg = f"{folder} holds no tokenizer"
                raise ValueError(msg)
            options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
            config = library.AutoConfig.from_pretrained(str(folder), **options)
            names = {int(place): str(name) for place, name in config.id2label.items()}
            places = (find_entailment(names, self.entailment), _find_contradiction(names))
            tokenizer = library.AutoTokenizer.from_pretrained(str(folder), **options)
            with quiet_transformers():
                module = library.AutoModelForSequenceClassification.from_pretrained(
                    str(folder), config=config, use_safetensors=True, **options
                )
            module = module.float().eval().to(pick_device(self.device))
            limits = [self.max_length, tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
            length = min([int(x) for x in limits if x and x < 100_000] or [_USUAL_LENGTH])
            self._loaded = (module, tokenizer, places, length)
        return self._loaded

    def __call__(self, pairs: list[Pair]) -> list[Follows]:
        """Return what the model says of each pair of premise and hypothesis."""
        if not pairs:
            return []
        torch = require("torch", "local")
        mind_forks(torch)
        found: list[Follows] = []
        with self._lock:  # fast tokenizers refuse concurrent use, and torch uses every core anyway
            module, tokenizer, (yes, no), length = self._get()
            cut = length * _CHARACTERS_PER_TOKEN
            for start in range(0, len(pairs), self.batch_size):
                batch = pairs[start : start + self.batch_size]
                tokens = tokenizer(
                    [without_surrogates(premise[:cut]) for premise, _ in batch],
                    [without_surrogates(hypothesis[:cut]) for _, hypothesis in batch],
                    truncation=True,
                    max_length=length,
                    padding=True,
                    return_tensors="pt",
                )
                with torch.inference_mode():
                    logits = module(**{k: v.to(module.device) for k, v in tokens.items()}).logits
                for row in torch.softmax(logits.float(), dim=-1).tolist():
                    found.append(Follows(row[yes], None if no is None else row[no]))
        return found


class OnnxNLI(_Loaded):
    """An NLI cross-encoder as an ONNX file with its `tokenizer.json` beside it, run by onnxruntime.

    It loads when first used; may be called from many threads.

    Args:
        folder: Holds one `.onnx` file, and one `tokenizer.json` beside or below it.
        contradiction: Place of the class that means contradiction; None where the model has none.
        entailment: Place of the class that means entailment; None where the model has none.
        length: Tokens of a pair, padded to: some exported models take this length and no other.
        han: Whether the model reads Chinese. What it cannot read it says nothing of.
        batch_size: Pairs for each step.

    Example:
        ```python
        check = Fidelity(nli=OnnxNLI("models/nli", contradiction=0, entailment=2))
        ```
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        contradiction: int | None,
        entailment: int | None = None,
        length: int = 160,
        han: bool = True,
        batch_size: int = 16,
    ) -> None:
        if contradiction is None and entailment is None:
            msg = "name the place of a class: `contradiction=` or `entailment=`"
            raise ValueError(msg)
        self.folder = Path(folder)
        self.contradiction, self.entailment = contradiction, entailment
        self.length, self.han, self.batch_size = length, han, batch_size
        super().__init__()

    def __repr__(self) -> str:
        return f"OnnxNLI({self.folder.name!r})"

    def _get(self) -> Any:
        if self._loaded is None:
            runtime = load_onnxruntime()
            tokenizers = require("tokenizers", "onnx")
            found = sorted(self.folder.glob("*.onnx"))
            places = sorted(self.folder.rglob("tokenizer.json"))
            if len(found) != 1 or len(places) != 1:
                msg = f"{self.folder} must hold one .onnx file and one tokenizer.json"
                raise ValueError(msg)
            tokenizer = tokenizers.Tokenizer.from_file(str(places[0]))
            tokenizer.enable_truncation(self.length, strategy="longest_first")
            tokenizer.enable_padding(length=self.length)
            self._loaded = (runtime.InferenceSession(str(found[0]), providers=["CPUExecutionProvider"]), tokenizer)
        return self._loaded

    def __call__(self, pairs: list[Pair]) -> list[Follows]:
        """Return what the model says of each pair; nothing of a pair in a language that it does not read."""
        found = [Follows(None, None)] * len(pairs)
        asked = [i for i, pair in enumerate(pairs) if self.han or not HAN.search(pair[0] + pair[1])]
        if not asked:
            return found
        with self._lock:
            session, tokenizer = self._get()
            names = {node.name for node in session.get_inputs()}
            for start in range(0, len(asked), self.batch_size):
                batch = asked[start : start + self.batch_size]
                texts = [(without_surrogates(pairs[i][0]), without_surrogates(pairs[i][1])) for i in batch]
                encoded = tokenizer.encode_batch(texts)
                columns = {
                    "input_ids": [e.ids for e in encoded],
                    "attention_mask": [e.attention_mask for e in encoded],
                    "token_type_ids": [e.type_ids for e in encoded],
                }
                feed = {name: np.asarray(rows, dtype=np.int64) for name, rows in columns.items() if name in names}
                for i, row in zip(batch, np.asarray(session.run(None, feed)[0], dtype=np.float64), strict=True):
                    shares = np.exp(row - row.max())
                    shares /= shares.sum()
                    found[i] = Follows(
                        None if self.entailment is None else float(shares[self.entailment]),
                        None if self.contradiction is None else float(shares[self.contradiction]),
                    )
        return found


def default_nli() -> NLIModel:
    """The model for users: a small multilingual cross-encoder from the hub, at the commit that is pinned here.

    It is fetched by the hub's own client when it is first used, and never code.
    """
    return NLIModel(DEFAULT_NLI, revision=DEFAULT_REVISION)


def _at_revision(name: str, revision: str | None) -> str:
    """The folder of a hub repository at a commit, from the cache or the hub; any other name as it is."""
    if revision is None or Path(name).exists():
        return name
    hub = require("huggingface_hub", "local")
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt"]
    return str(hub.snapshot_download(name, revision=revision, allow_patterns=patterns))


def _find_contradiction(names: Mapping[int, str]) -> int | None:
    """The place of the label that means contradiction, if there is one."""
    places = [place for place, name in names.items() if name.casefold().startswith("contradict")]
    return places[0] if len(places) == 1 else None


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


class ClassifierNLI(Shown):
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


def as_inference(nli: Any) -> Inference:
    """What `Fidelity(nli=...)` takes, as a function from pairs to what follows.

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


def inferred(nli: Inference, pairs: list[Pair]) -> list[Follows]:
    """Ask, and check what comes back.

    Raises:
        ValueError: If there is not one finite number between 0 and 1 for each pair.
    """
    if not pairs:
        return []
    found = [Follows(float(x)) if isinstance(x, (int, float)) else Follows(*x) for x in nli(pairs)]
    if len(found) != len(pairs) or not all(p is None or -1e-6 <= p <= 1 + 1e-6 for each in found for p in each):
        msg = f"`nli` must return one probability for each of {len(pairs)} pairs"
        raise ValueError(msg)
    return found


def ask_nli(
    nli: Any, source: str, rewrite: str, *, encoder: Any, min_entailment: float, max_contradiction: float
) -> tuple[bool, list[str], list[str]]:
    """The layer: compare each sentence of a rewrite with the sentences of the source that are nearest to it.

    Returns:
        Whether the model had anything to say; the reasons; the sentences that they are about.
    """
    facts = facts_of(source, rewrite, encoder)
    answers = inferred(as_inference(nli), [(passage, sentence) for sentence, passage in facts])
    against: list[str] = []
    open_: list[str] = []
    for (sentence, _), said in zip(facts, answers, strict=True):
        if said.contradicted is not None and said.contradicted > max_contradiction:
            against.append(sentence)
        elif said.entailed is not None and said.entailed < min_entailment:
            open_.append(sentence)
    reasons = []
    if against:
        reasons.append(f"contradicted: {len(against)} of {len(facts)} sentences contradict the source")
    if open_:
        reasons.append(f"not_entailed: {len(open_)} of {len(facts)} sentences do not follow from the source")
    return any(x.entailed is not None or x.contradicted is not None for x in answers), reasons, [*against, *open_]
