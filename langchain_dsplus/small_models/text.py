"""Any torch module that reads token ids as a small model: a TextCNN or an LSTM in a few lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, PrivateAttr

from langchain_dsplus.confidence import ScoreFunction
from langchain_dsplus.labels import list_labels
from langchain_dsplus.small_models.base import read_text, without_surrogates
from langchain_dsplus.small_models.files import load_folder, pick, pick_score, plain_errors
from langchain_dsplus.small_models.networks import (
    FORMAT,
    WEIGHTS,
    Network,
    TorchClassifier,
    built_like,
    describe_module,
    hash_of_source,
    import_torch,
    outline_of,
    pick_device,
    take,
    unpack_weights,
)


class TorchTextClassifier(TorchClassifier):
    """A torch module from token ids to logits (TextCNN, LSTM: the paper's small models, 4.1) as a small model.

    Args:
        model: A torch module from ids (n, T), int64, to logits (n, K). 0 is padding, behind the text; the ids of the
            tokenizer come with 1 added. It is used as it is, not copied; its own code is hashed into `version`.
        labels: The classes, in the order of the model's outputs.
        tokenizer: From a text to the ids of its tokens, from 0 on: a `tokenizers.Tokenizer`, or a function.
        max_tokens: What is read of a text.
        device: torch's name of a device; by default the first accelerator, else the CPU.
        batch_size: Texts in one step.
        **kwargs: `name`, `input_key`, `score`, `version` as in `SmallModel`; also `score="energy"`.

    Raises:
        ValueError: If there are fewer than two labels.
        TypeError: If `model` or `tokenizer` is something else.

    Example:
        ```python
        from torch import nn


        class TextCNN(nn.Module):
            def __init__(self, words: int, classes: int) -> None:
                super().__init__()
                self.vectors = nn.Embedding(words + 1, 100, padding_idx=0)
                self.convolution = nn.Conv1d(100, 100, 3, padding=1)
                self.head = nn.Linear(100, classes)

            def forward(self, ids):
                return self.head(self.convolution(self.vectors(ids).transpose(1, 2)).relu().amax(2))


        small = TorchTextClassifier(TextCNN(30_000, 2), labels=["negative", "positive"], tokenizer=tokenizer)
        small.fit(texts, labels, epochs=5)
        ```
    """

    max_tokens: int = Field(default=256, ge=1)

    saved_as: ClassVar[str] = "TorchTextClassifier"

    _tokenizer: Any = PrivateAttr(default=None)

    def __init__(self, model: Any, labels: Sequence[str], *, tokenizer: Any, **kwargs: Any) -> None:
        super().__init__(labels=list_labels(labels), **kwargs)
        if not isinstance(model, import_torch().nn.Module):
            raise TypeError(f"`model` must be a torch module, not {type(model).__name__}")
        if not (callable(tokenizer) or hasattr(tokenizer, "encode")):
            raise TypeError("`tokenizer` must be a tokenizers.Tokenizer, or a function from a text to a list of ids")
        if len(self.labels) < 2:
            raise ValueError("`labels` needs at least two labels, in the order of the model's outputs")
        self._tokenizer = tokenizer
        self._labels_given = True
        self._network = Network(model.to(pick_device(self.device)))

    def read(self, value: Any) -> str:
        """Return the text of an input."""
        return without_surrogates(read_text(super().read(value)))

    def _prepare(self, values: list[Any]) -> list[Any]:
        return [self._ids(self.read(value)) for value in values]

    def _ids(self, text: str) -> list[int]:
        tokenizer = self._tokenizer
        # A tokenizer's own cut would need its settings changed, and it may be shared.
        has_ids = hasattr(tokenizer, "encode")
        ids = tokenizer.encode(text, add_special_tokens=False).ids if has_ids else tokenizer(text)
        return [int(number) + 1 for number in ids[: self.max_tokens]]

    def _collate(self, items: list[Any]) -> Any:
        ids = np.zeros((len(items), max(1, *map(len, items))), dtype=np.int64)
        for place, item in enumerate(items):
            ids[place, : len(item)] = item
        return import_torch().from_numpy(ids)

    def _forward(self, module: Any, batch: Any) -> Any:
        return module(batch)

    def _describe(self) -> dict[str, Any] | None:
        net = describe_module(self._fitted().module)
        told = self._told()
        if net is None or told is None:
            return None
        return {"tokenizer": told, "max_tokens": self.max_tokens, **net}

    def _told(self) -> str | None:
        """A hash of the tokenizer; None where it cannot be seen into."""
        tokenizer = self._tokenizer
        if hasattr(tokenizer, "to_str"):
            return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        if getattr(tokenizer, "__closure__", True) is not None:
            return None
        return hash_of_source(tokenizer)

    # --- files --------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write weights (safetensors) and `model.json` into a folder. Neither module nor tokenizer is saved."""
        network = self._fitted()
        settings = {
            **self._settings(),
            "max_tokens": self.max_tokens,
            "module": outline_of(network.module),
            "tokenizer": self._told(),
        }
        self._write(path, settings)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        build: Callable[[], Any] | None = None,
        tokenizer: Any = None,
        device: str | None = None,
        score: ScoreFunction | None = None,
    ) -> Self:
        """Read what `save` wrote; runs no code from the folder.

        Args:
            path: The folder.
            build: Returns a new module of the same shape: its code is yours, and is not in the folder.
            tokenizer: The tokenizer that the model was made with.
            device: torch's name of a device; by default the first accelerator, else the CPU.
            score: The score, where it was a callable: those are not saved.

        Raises:
            ValueError: If a file is missing, cut off or changed, or `build` or `tokenizer` is another one.
        """
        folder = Path(path)
        settings, body = load_folder(folder, WEIGHTS, kind=cls.saved_as, version=FORMAT)
        fields = pick(settings, folder, "labels", "name", "input_key")
        known = pick(settings, folder, "score")
        fields.update({name: take(settings, folder, name, int) for name in ("batch_size", "max_tokens")})
        if build is None or tokenizer is None:
            raise ValueError(
                f"{folder} holds no code: pass `build=`, a function that returns a new module, and `tokenizer=`"
            )
        module = built_like(build, take(settings, folder, "module", str), folder)
        unpack_weights(module, body, folder)
        with plain_errors(folder):
            model = cls(module, tokenizer=tokenizer, device=device, score=pick_score(known, score, folder), **fields)
        if model._told() != take(settings, folder, "tokenizer", str, type(None)):
            raise ValueError(f"`tokenizer` is not the one that the model in {folder} was made with")
        model._take_over(settings, folder)
        return model
