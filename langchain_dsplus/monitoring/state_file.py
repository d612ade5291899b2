"""Writing a small file of state as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str, *, surely: bool) -> None:
    """Replace a file: a reader sees the old one or the new one, also after a kill.

    Args:
        path: The file; missing folders are made.
        text: What it is to hold.
        surely: Wait for the disk, so that a power failure loses nothing either.

    Raises:
        OSError: If it cannot be written; then the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if surely:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
