"""The encoder behind a score: texts of inputs in, unit vectors out, and its name on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from langchain_dsplus._arrays import Floats
from langchain_dsplus.small_models.base import UNVERIFIABLE, read_text
from langchain_dsplus.small_models.encoder import DEFAULT_ENCODER, Choice, Encoder, as_encoder

_DIGITS = 6  # the last digits of a vector depend on the texts beside it


class InputEncoder:
    """Turns inputs into unit vectors.

    Args:
        encoder: A folder, a name, an `Encoder`, or any object with `encode(list of str) -> (n, d) array`.
        input_key: Where a dict input holds its text; without it, its one text.
        backend: As in `Encoder`.
    """

    def __init__(self, encoder: Any = DEFAULT_ENCODER, input_key: str | None = None, backend: Choice = "auto") -> None:
        self.encoder = as_encoder(encoder, backend)
        self.input_key = input_key

    def __call__(self, inputs: Sequence[Any]) -> Floats:
        """Return one unit vector for each input, shape (n, d). Raises InputError if an input holds no text."""
        keyed = [
            value[self.input_key] if self.input_key is not None and isinstance(value, Mapping) else value
            for value in inputs
        ]
        return unit_rows(self.encoder.encode([read_text(value) for value in keyed]), len(keyed)).round(_DIGITS)

    def settings(self) -> dict[str, Any]:
        """What is written down of it."""
        version = getattr(self.encoder, "version", None)
        return {
            "encoder": self.encoder.name if isinstance(self.encoder, Encoder) else None,
            "backend": self.encoder.backend if isinstance(self.encoder, Encoder) else None,
            "encoder_version": version if isinstance(version, str) else UNVERIFIABLE,
            "input_key": self.input_key,
        }

    @classmethod
    def made(cls, settings: Mapping[str, Any], folder: Path, options: Mapping[str, Any]) -> InputEncoder:
        """Find the encoder that was written down; one of the user's own is given again.

        Raises:
            ValueError: If there is none, or it is another one.
        """
        given = options.get("encoder", settings["encoder"])
        if given is None:
            raise ValueError(f"{folder} was fitted with an encoder of your own: pass it as `encoder=`")
        kept: Any = (settings.get("backend") or "torch") if isinstance(given, (str, Path)) else "auto"
        made = cls(given, settings["input_key"], kept)
        if made.settings()["encoder_version"] != settings["encoder_version"]:
            raise ValueError(
                f"the encoder is not the one that {folder} was fitted with: pass that one as `encoder=`, or fit again"
            )
        return made


def unit_rows(vectors: Any, n: int) -> Floats:
    """Check vectors, shape (n, d), and give each the length 1.

    Raises:
        ValueError: If one is not finite, or the shape is another.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or len(rows) != n or not np.isfinite(rows).all():
        raise ValueError(f"`embeddings` must be finite and have shape ({n}, d); the shape is {rows.shape}")
    result: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return result
