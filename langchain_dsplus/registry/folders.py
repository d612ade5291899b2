"""What a `ModelRegistry` writes once and never changes: versions, gates, certificates. `live.json` says which count."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from langchain_dsplus._files import leftovers, replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import CertificateError
from langchain_dsplus.identity import score_name
from langchain_dsplus.registry.state import GateEntry, RegistryError, RowHash, VersionEntry, now
from langchain_dsplus.routing.persistence import (
    SmallRecord,
    check_folder,
    read_json,
    read_small,
    to_json,
    write_folder,
    write_small,
    write_text,
)
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel
from langchain_dsplus.threshold.certificate import Certificate

_KIND = "langchain-dsplus model version"
_VERSION = "version.json"
_ROWS = "rows.json"
_SMALL = "small"


class Folders:
    """The files of a registry but for its state."""

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = options

    def sweep(self) -> None:
        """Remove what a killed process left half written; the lock is held, so nobody is at it.

        A whole version that `live.json` does not list stays: it may have been restored from an older copy.
        """
        for folder in (self.path, self.path / "versions", self.path / "gates", self.path / "certificates"):
            for left in leftovers(folder):
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    with suppress(OSError):
                        left.unlink()

    # --- versions -----------------------------------------------------------------------------------------------

    def write_version(
        self,
        model: SmallModel,
        hashes: RowHash,
        trained_on: Iterable[Any],
        ids: Iterable[str],
        *,
        after: int,
        parent: int | None,
        teacher: str | None,
        seed: int | None,
    ) -> tuple[int, VersionEntry]:
        """Write a version under the next free number above `after`, and look whether it comes back the same."""
        version = model.version
        if version == UNVERIFIABLE:
            raise RegistryError(
                f"nobody can tell one {type(model).__name__} like this from another: construct it with `version=`"
            )
        read = reader(model.input_key)
        inputs = sorted({hashes.input(read(input_of(row))) for row in trained_on})
        named = sorted({hashes.id(name) for name in ids})
        there = [int(folder.name) for folder in (self.path / "versions").glob("[0-9]*") if folder.name.isdecimal()]
        number = max([after, *there]) + 1
        made = now()

        def write(folder: Path) -> None:
            record = write_small(model, str(model.name), folder / _SMALL, encoders=False)
            if record.kind is None:
                raise RegistryError(
                    f"a {type(model).__name__} has no files of its own, so it cannot be kept as a version"
                )
            about = {
                "number": number,
                "made": made,
                "parent": parent,
                "teacher": teacher,
                "seed": seed,
                "input_key": model.input_key,
                "score": score_name(model.score),
                "n_rows": len(inputs),
                "data": hashlib.sha256("\n".join(inputs).encode()).hexdigest(),
                "small": record._asdict(),
            }
            write_text(folder / _ROWS, to_json({"inputs": inputs, "ids": named}))
            write_text(folder / _VERSION, to_json(about))

        digest = write_folder(self._folder(number), _KIND, write)
        try:
            same = self.load(number, digest).version == version
        except RegistryError:
            shutil.rmtree(self._folder(number), ignore_errors=True)
            raise
        if not same:
            shutil.rmtree(self._folder(number), ignore_errors=True)
            raise RegistryError("the model was saved, and is another one when it is loaded: its `version` differs")
        entry = VersionEntry(
            sha256=digest,
            model=version,
            name=str(model.name),
            made=made,
            parent=parent,
            state="candidate",
            since=None,
            reasons=[],
            certificates=[],
        )
        return number, entry

    def load(self, number: int, sha256: str) -> SmallModel:
        """Read a version's small model, after every file was compared."""
        folder = self._folder(number)
        about = self.about(number, sha256)
        with _plain(number):
            return read_small(folder, folder / _SMALL, SmallRecord(**about["small"]), None, self.options)

    def about(self, number: int, sha256: str | None = None) -> dict[str, Any]:
        """What `version.json` says; with `sha256` every file of the version is compared first."""
        folder = self._folder(number)
        with _plain(number):
            if sha256 is not None:
                check_folder(folder, _KIND, _VERSION, sha256)
            return read_json(folder, _VERSION)

    def rows(self, number: int) -> dict[str, set[str]]:
        """Hashes of the inputs and ids that trained a version."""
        with _plain(number):
            body = read_json(self._folder(number), _ROWS)
            return {name: set(body[name]) for name in ("inputs", "ids")}

    def _folder(self, number: int) -> Path:
        return self.path / "versions" / f"{number:04d}"

    # --- gates and certificates ---------------------------------------------------------------------------------

    def _put(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text)

    def write_gate(self, place: int, body: Mapping[str, Any]) -> tuple[str, str]:
        """Write a gate's report and rows; return the file's name and SHA-256."""
        text = to_json(body)
        digest = hashlib.sha256(text.encode()).hexdigest()
        name = f"gates/{place:04d}-{digest[:16]}.json"
        self._put(self.path / name, text)
        return name, digest

    def read_gate(self, entry: GateEntry) -> dict[str, Any]:
        """Read what `write_gate` wrote."""
        file = self.path / entry["file"]
        try:
            text = file.read_bytes()
        except OSError as error:
            raise RegistryError(f"{file} cannot be read: restore it from a backup") from error
        if hashlib.sha256(text).hexdigest() != entry["sha256"]:
            raise RegistryError(f"{file} was changed: its SHA-256 differs. Restore it from a backup")
        return cast("dict[str, Any]", load_json(text))

    def write_certificate(self, certificate: Certificate) -> None:
        """Keep a certificate under its id, which is its hash."""
        self._put(self.path / "certificates" / f"{certificate.id}.json", certificate.to_json() + "\n")

    def read_certificate(self, name: str) -> Certificate:
        """Read the certificate with this id."""
        file = self.path / "certificates" / f"{name}.json"
        try:
            found = Certificate.from_json(file)
        except (OSError, UnicodeError, CertificateError) as error:
            raise RegistryError(f"{file} cannot be read: restore it from a backup, or certify again") from error
        if found.id != name:
            raise RegistryError(f"{file} was changed: restore it from a backup, or certify again")
        return found


def reader(input_key: str | None) -> Callable[[Any], Any]:
    """A function from what a chain passes to what the model reads."""

    def read(value: Any) -> Any:
        return value[input_key] if isinstance(value, Mapping) and input_key in value else value

    return read


def input_of(row: Any) -> Any:
    """The input of a gold row, of a pair (input, answer), or a bare input."""
    if isinstance(row, tuple) and len(row) == 2:
        return row[0]
    if isinstance(row, Mapping) and {"input", "gold"} <= row.keys():
        return row["input"]
    return row


@contextmanager
def _plain(number: int) -> Iterator[None]:
    """Whatever is wrong with a version's folder, as one kind of error that names it."""
    try:
        yield
    except RegistryError:
        raise
    except ValueError as error:
        raise RegistryError(f"version {number} cannot be used: {error}") from error
    except (KeyError, TypeError, OSError) as error:
        raise RegistryError(f"version {number} cannot be used: {_VERSION} or {_ROWS} is missing or damaged") from error
