"""Static vectors: a text is the mean of its tokens' vectors, out of a table. No network runs.

Read are the folders of model2vec and of sentence-transformers' StaticEmbedding, and WordLlama's package.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Singles
from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus.small_models.onnx_engine import Tokens

_TABLES = ("embeddings", "embedding.weight")
_TOKENS = 512
_HEADER_LIMIT = 1 << 24


def find_table(folder: Path) -> tuple[Path, str] | None:
    """Return the safetensors file that holds a table of static vectors, and the tensor's name; None if there is none.

    Reads the file's header only.
    """
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]):
        header = _header(file)
        for name in _TABLES:
            entry = header.get(name)
            if isinstance(entry, Mapping) and len(entry.get("shape", ())) == 2:
                return file, name
    return None


def _header(file: Path) -> Mapping[str, Any]:
    with file.open("rb") as stream:
        size = stream.read(8)
        length = struct.unpack("<Q", size)[0] if len(size) == 8 else _HEADER_LIMIT + 1
        try:
            body = load_json(stream.read(length).decode()) if length <= _HEADER_LIMIT else {}
        except (ValueError, RecursionError):
            body = {}
    return body if isinstance(body, dict) else {}


class StaticEngine:
    """A table of vectors and a tokenizer.

    Args:
        folder: Where `find_table` finds a table, with one tokenizer's JSON beside or below it.

    Raises:
        ImportError: If `tokenizers` or `safetensors` is missing; the message carries the pip command.
        ValueError: If the folder is not whole.
    """

    def __init__(self, folder: Path) -> None:
        found = find_table(folder)
        tokenizer = next((f for name in ("tokenizer.json", "*/*tokenizer*.json") for f in folder.glob(name)), None)
        if found is None or tokenizer is None:
            raise ValueError(f"{folder} holds no table of static vectors with a tokenizer: use another `backend`")
        file, name = found
        tensors = require("safetensors.numpy", "static").load_file(file)
        table: Singles = tensors[name].astype(np.float32)
        if "mapping" in tensors:  # model2vec: several tokens share a vector
            table = table[tensors["mapping"].astype(np.intp)]
        if "weights" in tensors:
            table = table * tensors["weights"].astype(np.float32)[:, None]
        self._table, self.dimension, self.tokens = np.ascontiguousarray(table), table.shape[1], _TOKENS
        self._tokens = Tokens(tokenizer, _TOKENS, special=False)
        model = load_json(tokenizer.read_text(encoding="utf-8")).get("model", {})
        unknown = model.get("unk_token", "[UNK]" if model.get("type") == "WordPiece" else None)
        self._unknown = None if unknown is None else self._tokens.token_to_id(unknown)

    def encode(self, texts: list[str]) -> Iterator[tuple[list[int], Singles]]:
        """Yield places in `texts` with their rows, not of unit length; of a text without known tokens, zeros."""
        from scipy.sparse import csr_array

        last = len(self._table) - 1
        tokens = [[min(t, last) for t in item if t != self._unknown] for item in self._tokens.read(texts)]
        ends = np.cumsum([0, *map(len, tokens)])
        flat = np.fromiter((t for item in tokens for t in item), dtype=np.int64, count=int(ends[-1]))
        # A sparse product adds up each row by itself: what stands beside a text cannot change its last digits.
        counts = csr_array((np.ones(len(flat), np.float32), flat, ends), shape=(len(tokens), len(self._table)))
        lengths = np.maximum(np.diff(ends), 1).astype(np.float32)
        yield list(range(len(texts))), np.asarray(counts @ self._table, dtype=np.float32) / lengths[:, None]
