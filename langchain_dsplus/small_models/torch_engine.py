"""Runs an encoder's folder with sentence-transformers: every kind of encoder, on every device."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_dsplus._imports import require
from langchain_dsplus._progress import quiet_transformers
from langchain_dsplus.small_models.fork import mind_forks
from langchain_dsplus.small_models.refuse import refuse_code

_TOKENS_PER_STEP = 1024  # measured: the best of 512, 1024, 2048 on two CPU cores


class TorchEngine:
    """A loaded sentence-transformers model.

    Where torch is not imported yet, loading sets `OMP_WAIT_POLICY=PASSIVE` (unless it is set).

    Args:
        path: The encoder's folder; it may bring no code of its own.
        device: torch's name of a device; by default what sentence-transformers picks.

    Raises:
        ImportError: If sentence-transformers is missing; the message carries the pip command.
        ValueError: If the folder asks for code of its own.
    """

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
        self.preprocess: Callable[[list[str]], Any] = getattr(self.model, "preprocess", None) or self.model.tokenize
        method = getattr(self.model, "get_embedding_dimension", None) or self.model.get_sentence_embedding_dimension
        self.dimension = int(method())

    def encode(self, texts: list[str]) -> Iterator[tuple[list[int], Any]]:
        """Yield places in `texts` with their rows, sorted by tokens, so that little is padding."""
        torch = require("torch", "local")
        mind_forks(torch)
        model = self.model
        features: dict[str, Any] | None = None
        if self.sliceable:
            with self.lock:
                features = dict(self.preprocess(texts))
        mask = None if features is None else features.get("attention_mask")
        if features is None or mask is None or getattr(mask, "ndim", 0) != 2:
            # A kind of model whose features cannot be cut: leave the batching to sentence-transformers.
            with self.lock:
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
            with self.lock, torch.inference_mode():
                step = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in step.items()}
                rows = model(step)["sentence_embedding"].float().cpu().numpy()
            yield places, rows
            start = stop
