"""How small models lie on disk: one body of numbers, and a `model.json` that names it by its SHA-256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SETTINGS = "model.json"


def save_folder(path: str | Path, body_name: str, body: bytes, settings: dict[str, Any]) -> None:
    """Write both files; each is there as a whole or not at all, and `model.json` comes last."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**settings, "sha256": hashlib.sha256(body).hexdigest()}
    text = json.dumps(settings, ensure_ascii=False, indent=1, allow_nan=False)
    _write(folder / body_name, body)
    _write(folder / SETTINGS, text.encode())


def load_folder(path: str | Path, body_name: str, *, kind: str, version: int) -> tuple[dict[str, Any], bytes]:
    """Read what `save_folder` wrote.

    Raises:
        ValueError: If a file is missing, cut off, changed, or of another kind.
    """
    folder = Path(path)
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        body = (folder / body_name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = f"{folder} is no saved {kind}: {Path(str(error.filename)).name} is missing"
        raise ValueError(msg) from None
    except ValueError as error:
        msg = f"{folder / SETTINGS} is damaged: it is not JSON. Save the model again"
        raise ValueError(msg) from error
    if not isinstance(settings, dict) or settings.get("kind") != kind:
        msg = f"{folder} is no saved {kind}"
        raise ValueError(msg)
    if settings.get("format") != version:
        msg = f"{folder} has format {settings.get('format')!r}; this version reads {version}"
        raise ValueError(msg)
    if settings.get("sha256") != hashlib.sha256(body).hexdigest():
        msg = f"{folder / body_name} is damaged, or from another save: its SHA-256 differs. Save the model again"
        raise ValueError(msg)
    return settings, body


def pick_score(settings: dict[str, Any], score: Any, path: str | Path) -> Any:
    """Return the score given, or the saved one. A callable is not saved, and must be given again."""
    if score is not None:
        return score
    if settings["score"] is None:
        msg = f"{path} was saved with a callable as score: pass it as `score=`"
        raise ValueError(msg)
    return settings["score"]


def _write(path: Path, body: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(body)
    temporary.replace(path)
