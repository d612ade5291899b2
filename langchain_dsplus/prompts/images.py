"""A large model for images that reads prompts: CLIP and its like, with a prompt for each class (paper, Section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_dsplus._imports import require
from langchain_dsplus._progress import quiet_transformers
from langchain_dsplus._shown import Shown
from langchain_dsplus.answer import Answer, InputError, pass_on
from langchain_dsplus.prompts.pruner import Offer, PromptPruner, Pruning
from langchain_dsplus.small_models.files import safetensors_folder
from langchain_dsplus.small_models.image import ImageClassifier, read_preprocess
from langchain_dsplus.small_models.networks import import_torch, place_of
from langchain_dsplus.small_models.refuse import refuse_code
from langchain_dsplus.small_models.transformers import check_own_class, has_tokenizer

_KEPT = 65_536
"""Texts whose features are kept: a hundred classes with two digits each make some ten thousand."""


class ClipClassifier(Shown, Runnable[dict[str, Any], str]):
    """The large model of a router for images: CLIP, which compares an image with a text for each class.

    What the small model said (the `dsplus` key of a `ConfidenceRouter`, or a variable `probabilities`) goes into the
    texts, in the modes of `PromptPruner`: with `soft` each class has its probability in its text, the paper's prompt
    for such models; with `hard` and `keep` only the classes that are left are compared; with `none`, and wherever the
    small model said nothing, each class has the plain text. The `Route` says what was done. Weights must be
    safetensors, and code from a folder or the hub is never run. Calls from many threads are safe.

    Args:
        model: A folder of a CLIP model of the transformers library, its name on the hub, or the model itself (then with
            `tokenizer=` and `preprocess=`): anything with `get_text_features` and `get_image_features`.
        labels: The classes.
        pruning: `keep`, `soft`, `hard` or `none`.
        prompt: The text of a class, with `{label}`.
        soft_prompt: The text of a class that has a probability, with `{label}` and `{p}`.
        names: What a label is called in its text; by default itself, with blanks for underscores.
        tokenizer: The tokenizer, where it does not lie beside the weights.
        preprocess: As in `ImageClassifier`; by default what lies in the folder.
        input_key: The key of the image in the input dict. An image is whatever `ImageClassifier` reads.
        image: Further arguments of that `ImageClassifier`: `device`, `batch_size`, `max_pixels`, `max_bytes`, `root`.
        **pruner: Further fields of `PromptPruner`: `proficient`, `top_k`, `conformal`, `hide_below`, `context_key`, ...

    Raises:
        ValueError: If a prompt lacks its place, or the folder holds no safetensors, tokenizer or preprocessing.
        TypeError: If `model` is no such model.

    Example:
        ```python
        small = ImageClassifier(resnet, labels, input_key="image")
        large = ClipClassifier("openai/clip-vit-base-patch32", labels)
        router = ConfidenceRouter(small=small, large=large, threshold=0.9)
        router.invoke({"image": "cat.png"})
        ```
    """

    def __init__(
        self,
        model: Any,
        labels: Sequence[str],
        *,
        pruning: Pruning = "keep",
        prompt: str = "a photo of a {label}",
        soft_prompt: str = "a photo of a {label} with probability {p}",
        names: Mapping[str, str] | None = None,
        tokenizer: Any = None,
        preprocess: Any = None,
        input_key: str = "image",
        image: Mapping[str, Any] | None = None,
        **pruner: Any,
    ) -> None:
        if "{label}" not in prompt or "{label}" not in soft_prompt or "{p}" not in soft_prompt:
            raise ValueError("`prompt` needs {label} in it, `soft_prompt` {label} and {p}")
        self.pruner = PromptPruner.from_messages([("human", "{candidates}")], labels=labels, pruning=pruning, **pruner)
        self.labels, self.prompt, self.soft_prompt = list(self.pruner.labels), prompt, soft_prompt
        self.names, self.input_key = dict(names or {}), input_key
        if isinstance(model, (str, Path)):
            model, tokenizer, preprocess = _read_folder(str(model), tokenizer, preprocess)
        check_own_class(model)
        if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
            raise TypeError(
                f"`model` must have `get_text_features` and `get_image_features`, as CLIP: not {type(model).__name__}"
            )
        if tokenizer is None or preprocess is None:
            raise ValueError("`tokenizer` and `preprocess` are needed where `model` is no folder")
        see = _eye(model.eval())
        # Reads images within its limits, knows the device, and hashes the weights.
        self._reader = ImageClassifier(see, self.labels, preprocess=preprocess, **(image or {}))
        self._model, self._see, self._tokenizer = model, see, tokenizer
        self._texts: dict[str, Any] = {}

    @property
    def OutputType(self) -> Any:
        """A label."""
        return str

    def identity_parts(self) -> list[Any]:
        """What decides the answers: for certificates."""
        tokenizer = self._tokenizer.backend_tokenizer.to_str()
        return [self._reader, tokenizer, self.pruner, self.prompt, self.soft_prompt, self.names, self.input_key]

    # --- answers ------------------------------------------------------------------------------------------------

    def answers(self, inputs: Sequence[Mapping[str, Any]]) -> list[Answer | Exception]:
        """Return for each input an `Answer` over all labels (0 for those not offered), or what it failed with."""
        results: list[Any] = []
        ready: list[tuple[int, Any, Offer]] = []
        for place, value in enumerate(inputs):
            results.append(None)
            try:
                if not isinstance(value, Mapping) or self.input_key not in value:
                    raise InputError(f"the input must be a dict with the image under {self.input_key!r} (`input_key`)")
                ready.append((place, self._reader.read(value[self.input_key]).array, self.pruner.offer(value)))
            except (TypeError, ValueError) as error:
                results[place] = error
        size = self._reader.batch_size
        for start in range(0, len(ready), size):
            some = ready[start : start + size]
            try:
                rows = self._compare([array for _, array, _ in some], [self._written(offer) for _, _, offer in some])
            except Exception as error:  # noqa: BLE001
                rows = [error] * len(some)
            for (place, _, offer), row in zip(some, rows, strict=True):
                results[place] = row if isinstance(row, Exception) else self._answer(offer, row)
        return results

    def _written(self, offer: Offer) -> list[str]:
        """The text of each class that is offered."""
        texts = []
        for label in offer.labels:
            p = offer.numbers.get(label)
            put = {"{label}": self.names.get(label, label.replace("_", " "))}
            if p is not None:
                put["{p}"] = self.pruner.write_number(p)
            # In one pass: a label may hold braces.
            template = self.prompt if p is None else self.soft_prompt
            texts.append("".join(put.get(part, part) for part in re.split(r"(\{label\}|\{p\})", template)))
        return texts

    def _compare(self, arrays: Sequence[Any], texts: Sequence[list[str]]) -> list[Any]:
        """For each image the probabilities of its texts."""
        import numpy as np

        torch = import_torch()
        device = place_of(self._model, torch)
        with torch.inference_mode():
            pixels = torch.from_numpy(np.stack(arrays)).to(device)
            seen = self._see(pixels)
            told = self._read_texts(list(dict.fromkeys(text for row in texts for text in row)), device)
            scale = self._model.logit_scale.exp()
            return [
                torch.softmax(scale * (torch.stack([told[text] for text in row]) @ image), 0).double().tolist()
                for image, row in zip(seen, texts, strict=True)
            ]

    def _read_texts(self, texts: Sequence[str], device: Any) -> dict[str, Any]:
        known = self._texts
        new = [text for text in texts if text not in known]
        found = {text: known[text] for text in texts if text in known}
        for start in range(0, len(new), self._reader.batch_size):
            some = new[start : start + self._reader.batch_size]
            limit = self._model.config.text_config.max_position_embeddings
            tokens = self._tokenizer(some, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            read = _features(self._model.get_text_features(**tokens.to(device)))
            found |= dict(zip(some, read, strict=True))
        if len(known) + len(new) > _KEPT:
            known = {}
        self._texts = {**known, **found}  # replaced as a whole: other threads read the old one
        return found

    def _answer(self, offer: Offer, row: Sequence[float]) -> Answer:
        total = sum(row)
        given = dict(zip(offer.labels, (p / total for p in row), strict=True))
        probabilities = {label: given.get(label, 0.0) for label in self.labels}
        choice = max(given, key=given.__getitem__)
        return {"choice": choice, "probabilities": probabilities, "confidence": given[choice]}

    # --- Runnable -----------------------------------------------------------------------------------------------

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> str:
        """Return the label of one image.

        Raises:
            InputError: If there is no image in the input, or it cannot be read.
        """
        return self._call_with_config(lambda value: self._labels([value])[0], input, config)

    def batch(
        self,
        inputs: list[dict[str, Any]],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Return the labels of several images, read together; one that fails spoils no other."""

        def answer(values: list[Any]) -> list[str | Exception]:
            return [one if isinstance(one, Exception) else one["choice"] for one in self.answers(values)]

        return list(pass_on(self._batch_with_config(answer, inputs, config, return_exceptions=return_exceptions)))

    async def abatch(
        self,
        inputs: list[dict[str, Any]],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Async twin of `batch`: the same work, in an executor thread."""
        return await run_in_executor(None, self.batch, inputs, config, return_exceptions=return_exceptions)

    def _labels(self, values: list[Any]) -> list[str]:
        found = []
        for answer in self.answers(values):
            if isinstance(answer, Exception):
                raise answer
            found.append(answer["choice"])
        return found


def _eye(model: Any) -> Any:
    """The image side as a torch module, which `ImageClassifier` takes: the model itself has no head with classes."""

    class Eye(import_torch().nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: Any) -> Any:
            return _features(self.model.get_image_features(pixel_values=pixels))

    return Eye()


def _features(output: Any) -> Any:
    """Features of length 1, as older and newer versions of the library return them."""
    found = getattr(output, "pooler_output", output)
    return found / found.norm(dim=-1, keepdim=True)


def _read_folder(name: str, tokenizer: Any, preprocess: Any) -> tuple[Any, Any, Any]:
    torch, library = import_torch(), require("transformers", "local")
    folder = safetensors_folder(name)
    refuse_code(folder)
    if tokenizer is None:
        if not has_tokenizer(folder):
            raise ValueError(f"{folder} holds no tokenizer: pass it as `tokenizer=`")
        tokenizer = library.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    with quiet_transformers():
        model = library.AutoModel.from_pretrained(
            str(folder), dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    return model, tokenizer, read_preprocess(folder) if preprocess is None else preprocess
