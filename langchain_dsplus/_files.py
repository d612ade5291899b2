"""Putting a file or a folder in its place as a whole: a reader sees the old one or the new one, also after a kill."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")

MARK = ".tmp-"
"""In the names of what is not whole yet: `.NAME.tmp-...`, beside NAME. A killed process leaves it behind."""


@contextmanager
def replacing(
    path: str | Path, *, binary: bool = False, encoding: str = "utf-8", durable: bool = True, mode: int = 0o666
) -> Iterator[IO[Any]]:
    r"""Open a temporary file beside `path`, and put it in its place once it is whole.

    A link stays a link, a file keeps its permissions, and what is no plain file (a pipe, a device) is written into.

    Args:
        path: The file.
        binary: Whether bytes are written, not text.
        encoding: Of text; line ends stay as they are written.
        durable: Wait for the disk, so that a power failure loses nothing either.
        mode: Permissions of a file that is new, before the umask.

    Raises:
        OSError: If it cannot be written; then the old file is still there. It names `path`.
    """
    options: dict[str, Any] = {} if binary else {"encoding": encoding, "newline": ""}
    mark = "b" if binary else ""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("w" + mark, **options) as file:
            yield file
        return
    temporary = _beside(target)
    try:
        with open(temporary, "x" + mark, opener=lambda name, how: os.open(name, how, mode), **options) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    if durable:
        _sync(target.parent)


def replace_file(path: str | Path, body: str | bytes, *, durable: bool = True, mode: int = 0o666) -> None:
    """Write a file as a whole, as `replacing` does; of half a surrogate pair in a text its escape, which JSON reads."""
    with replacing(path, binary=True, durable=durable, mode=mode) as file:
        file.write(body.encode("utf-8", "backslashreplace") if isinstance(body, str) else body)


def replace_folder(place: Path, fill: Callable[[Path], T]) -> T:
    """Put a folder in its place as a whole or not at all; folders above it are made.

    What was there goes only once the new one stands.

    Returns:
        What `fill` returned.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(place)
    scratch.mkdir()
    try:
        made = fill(scratch)
        for path in (*scratch.rglob("*"), scratch):
            if path.is_file():
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
            else:
                _sync(path)
        _put_in_place(scratch, place)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return made


def _put_in_place(scratch: Path, place: Path) -> None:
    # Until the second rename this is the one whole copy: not a name that `leftovers` finds.
    before = place.with_name(f".{place.name[:100]}.old-{secrets.token_hex(6)}") if place.exists() else None
    if before is not None:
        place.rename(before)
    try:
        scratch.rename(place)
    except BaseException:
        if before is not None:
            before.rename(place)
        raise
    _sync(place.parent)
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def leftovers(folder: Path) -> list[Path]:
    """What killed processes left half written in a folder."""
    return list(folder.glob(f".*{MARK}*"))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(files: Iterable[tuple[str, Path]]) -> str:
    """The SHA-256 over names and contents of files, in the order in which they are given."""
    digest = hashlib.sha256()
    for name, path in files:
        digest.update(name.encode())
        digest.update(bytes.fromhex(sha256_of(path)))
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    """A name next to a path that no other process thinks of; within what file systems allow."""
    return path.with_name(f".{path.name[:100]}{MARK}{secrets.token_hex(6)}")


def _sync(folder: Path) -> None:
    """Make the names in a folder durable where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
