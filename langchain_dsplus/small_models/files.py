"""How small models lie on disk: a body of numbers, and a `model.json` with a SHA-256 over itself and the body.

The SHA-256 detects damage and mixed-up files. It is no authentication: who can write the folder can write a new one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from langchain_dsplus._files import replace_file
from langchain_dsplus._imports import require
from langchain_dsplus._inputs import Seen
from langchain_dsplus._json import load_json

SETTINGS = "model.json"


def save_folder(
    path: str | Path, body_name: str, body: bytes, settings: dict[str, Any], trained: Seen | None = None
) -> None:
    """Write both files; each is there as a whole or not at all, and `model.json` comes last.

    `trained`: what the model was trained on, where that is known.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if trained is not None:
        settings = {**settings, "trained_on": trained.to_dict()}
    settings = {**settings, "sha256": checksum(settings, body)}
    text = json.dumps(settings, ensure_ascii=False, indent=1, allow_nan=False)
    replace_file(folder / body_name, body)
    replace_file(folder / SETTINGS, text)


def checksum(settings: Mapping[str, Any], body: bytes) -> str:
    """SHA-256 over the settings as canonical JSON (without `sha256`) and the body, hexadecimal.

    Raises:
        ValueError: If the settings hold a number that is not finite.
    """
    kept = {key: value for key, value in settings.items() if key != "sha256"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(hashlib.sha256(text.encode()).digest() + body).hexdigest()


def load_folder(path: str | Path, body_name: str, *, kind: str, version: int) -> tuple[dict[str, Any], bytes]:
    """Read what `save_folder` wrote.

    Raises:
        ValueError: If a file is missing, cut off, changed since it was saved, or of another kind. It is no protection
            against someone who changes the SHA-256 too.
    """
    folder = Path(path)
    try:
        settings = load_json((folder / SETTINGS).read_text(encoding="utf-8"))
        body = (folder / body_name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{folder} is no saved {kind}: {Path(str(error.filename)).name} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / SETTINGS} is damaged: it is not JSON. Save the model again") from error
    if not isinstance(settings, dict) or settings.get("kind") != kind:
        raise ValueError(f"{folder} is no saved {kind}")
    if settings.get("format") != version:
        raise ValueError(f"{folder} has format {settings.get('format')!r}; this version reads {version}")
    try:
        same = settings.get("sha256") == checksum(settings, body)
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise ValueError(
            f"{folder}: {SETTINGS} or {body_name} is damaged, changed, or from another save: the SHA-256 differs. "
            "Save the model again"
        )
    return settings, body


def read_trained(settings: Mapping[str, Any], path: str | Path) -> Seen | None:
    """Return what a saved model was trained on; None where it does not say.

    Raises:
        ValueError: If it is not what `save_folder` writes.
    """
    return Seen.from_dict(settings.get("trained_on"), Path(path) / SETTINGS)


_OPTIONAL_TEXT = (str, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "labels": (list,),
    "labels_given": (bool,),
    "temperature": (int, float),
    "encoder": _OPTIONAL_TEXT,
    "encoder_version": _OPTIONAL_TEXT,
    "name": (str,),
    "input_key": _OPTIONAL_TEXT,
    "score": _OPTIONAL_TEXT,
    "l2": (int, float, type(None)),
    "seed": (int,),
}


def pick(settings: Mapping[str, Any], path: str | Path, *names: str) -> dict[str, Any]:
    """Return some of the settings.

    Raises:
        ValueError: If one is missing or has another type than `save` writes; the message names it.
    """
    where = Path(path) / SETTINGS
    for name in names:
        if name not in settings:
            raise ValueError(f"{where} is damaged: `{name}` is missing. Save the model again")
        value, allowed = settings[name], _TYPES[name]
        fine = isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
        if not fine or (name == "labels" and not all(isinstance(label, str) for label in value)):
            raise ValueError(f"{where} is damaged: `{name}` has a wrong type. Save the model again")
    return {name: settings[name] for name in names}


@contextmanager
def plain_errors(path: str | Path) -> Iterator[None]:
    """Turn pydantic's error about a loaded value into a ValueError that names folder and field."""
    try:
        yield
    except ValidationError as error:
        fields = sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]})
        named = f" for {fields}" if fields else ""
        why = "" if fields else "".join(f": {item['msg']}" for item in error.errors())
        raise ValueError(
            f"{path}: `{SETTINGS}` or an argument of `load` holds a value that is not allowed{named}{why}"
        ) from None


def pick_score(settings: dict[str, Any], score: Any, path: str | Path) -> Any:
    """Return the score given, or the saved one. A callable is not saved, and must be given again."""
    if score is not None:
        return score
    if settings["score"] is None:
        raise ValueError(f"{path} was saved with a callable as score: pass it as `score=`")
    return settings["score"]


def model_folder(name: str) -> Path:
    """The folder of a model: a path, a name that `weights` knows, or a repository on the hub, fetched if need be.

    `wordllama` is the installed package of that name, whose wheel brings its vectors.

    Raises:
        WeightsError: If a known name cannot be had.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.lower() == "wordllama":
        found = importlib.util.find_spec("wordllama")  # its files are read; its code is not run
        if found is None or not found.submodule_search_locations:
            require("wordllama", "static")
        else:
            return Path(found.submodule_search_locations[0])
    from langchain_dsplus.weights import list_artifacts, resolve

    known = {n for a in list_artifacts() for n in (a.name, a.hub_repo, *a.aliases) if n is not None}
    if name.lower() in {n.lower() for n in known} or name.count("/") != 1 or name.startswith((".", "/", "~")):
        return resolve(name)
    hub: Any = require("huggingface_hub", "local")
    return Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"]))


def safetensors_folder(name: str) -> Path:
    """The folder of a model as `model_folder` finds it, with weights that cannot run code.

    Raises:
        ValueError: If it holds no safetensors.
    """
    folder = model_folder(name)
    if not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"{folder} holds no .safetensors file: other kinds of weights could run code, and are not read"
        )
    return folder
