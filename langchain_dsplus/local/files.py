"""Where a `ChatLocal` finds its weights, and what identifies them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from langchain_dsplus._files import hash_files
from langchain_dsplus._imports import require
from langchain_dsplus.weights import known_name, list_artifacts, resolve

_READ = (".safetensors", ".json", ".txt", ".model", ".jinja")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/(.+\.gguf)")


class Place(NamedTuple):
    """Weights on this machine."""

    kind: Literal["gguf", "folder"]
    path: Path


def shown_name(model: str) -> str:
    """The model's name in replies and traces: a known or hub name as it is, a file's or folder's own name.

    Example:
        >>> shown_name("smollm2"), shown_name("/models/my.Q4.gguf"), shown_name("zai-org/glm-4-9b-chat-hf")
        ('smollm2-135m', 'my.Q4', 'zai-org/glm-4-9b-chat-hf')
    """
    known = known_name(model)
    if known is not None:
        return known
    if _is_hub(model) and not Path(model).expanduser().exists():
        return model
    path = Path(model)
    return path.stem if path.suffix == ".gguf" else path.resolve().name


def check_model(model: str) -> str:
    """Refuse at once what can be no model.

    Raises:
        ValueError: If it is no path that exists, no known name and no hub name.
    """
    known = known_name(model)
    if known is not None:
        kinds = {artifact.name: artifact.kind for artifact in list_artifacts()}
        if kinds[known] != "gguf":
            raise ValueError(f"`model={model!r}` is no language model; `dsplus models list` shows which there are")
        return model
    path = Path(model).expanduser()
    if model.strip() and (path.exists() or _is_hub(model)):
        return model
    raise ValueError(
        "`model` must be a GGUF file, a transformers folder, a name that `dsplus models list` shows, or a name on the "
        f"Hugging Face hub (owner/name, owner/name/file.gguf), not {model!r}"
    )


def locate(model: str, revision: str | None) -> Place:
    """Return where the weights lie, fetching them first if they must be.

    Raises:
        ValueError: If a folder holds no weights that are read.
        langchain_dsplus.weights.WeightsError: If a known model cannot be had.
    """
    if known_name(model) is not None:
        return _place(resolve(model))
    path = Path(model).expanduser()
    if path.exists():
        return _place(path)
    hub: Any = require("huggingface_hub", "local")
    file = _HUB_FILE.fullmatch(model)
    if file is not None:
        return _place(Path(hub.hf_hub_download(file[1], file[2], revision=revision)))
    patterns = [f"*{ending}" for ending in _READ]
    return _place(Path(hub.snapshot_download(model, revision=revision, allow_patterns=patterns)))


def stamp(model: str) -> list[list[Any]] | None:
    """Name, size and change time of a local model's files; None where they are not on this machine by that name.

    Cheap, unlike `hash_weights`: it tells one file from another under the same name.
    """
    path = Path(model).expanduser()
    if known_name(model) is not None or not path.exists():
        return None
    return [[name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in _files(path)]


def hash_weights(place: Place) -> str:
    """SHA-256 over what decides the answers: weights, tokenizer, chat template, configuration."""
    return hash_files(_files(place.path))


def _is_hub(model: str) -> bool:
    if model.startswith((".", "~", os.sep)):
        return False
    return _HUB.fullmatch(model) is not None or _HUB_FILE.fullmatch(model) is not None


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [("model.gguf", path)]
    found = (file for file in path.iterdir() if file.is_file() and file.suffix in _READ)
    return sorted((file.name, file) for file in found)


def _place(path: Path) -> Place:
    if path.is_file():
        return Place("gguf", path)
    if any(path.glob("*.safetensors")):
        return Place("folder", path)
    inside = sorted(path.glob("*.gguf"))
    if len(inside) == 1:
        return Place("gguf", inside[0])
    if inside:
        raise ValueError(f"{path} holds {len(inside)} GGUF files: name one of them as `model`")
    raise ValueError(
        f"{path} holds no .safetensors or .gguf file: other kinds of weights could run code, and are not read"
    )
