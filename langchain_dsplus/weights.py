"""Where model weights come from: your own path, the cache, the Hugging Face hub, and sources that were registered.

Every artefact is pinned: each file is checked against a size and a SHA-256 before it enters the cache, whatever source
it came from.

The cache is the user's cache folder for `langchain-dsplus` (`DSPLUS_CACHE` names another). `DSPLUS_OFFLINE=1` or
`HF_HUB_OFFLINE=1` keep this module from fetching (the second one only from the hub).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import shutil
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import platformdirs
from pydantic import TypeAdapter

from langchain_dsplus._files import sha256_of
from langchain_dsplus._json import load_json

logger = logging.getLogger(__name__)

Kind = Literal["encoder", "gguf", "data"]

_CHUNK = 1 << 20
_HUB_PATIENCE = 4.0  # seconds: a machine without a hub must not wait for minutes


class WeightsError(RuntimeError):
    """An artefact cannot be had. The message lists each source that was tried, why it failed, and what to do."""


@dataclass(frozen=True)
class File:
    """One file of an artefact.

    Attributes:
        path: Where it lies inside the artefact's folder, with forward slashes.
        size: Bytes.
        sha256: Of its content, lower-case hexadecimal.
        hub_path: Its name in the hub repository, where that differs.
    """

    path: str
    size: int
    sha256: str
    hub_path: str | None = None


@dataclass(frozen=True)
class Artifact:
    """Something that can be resolved by name.

    Attributes:
        name: The name to pass to `resolve` and to `dsplus models pull`.
        title: What it is.
        kind: `encoder` (a folder), `gguf` (one file) or `data` (one file).
        files: What it consists of.
        license: SPDX identifier.
        hub_repo: Repository on the Hugging Face hub; None where it is on no hub.
        hub_revision: A commit. `main` where the commit is not known: the SHA-256 pins the bytes then.
        aliases: Other names for the same thing.
    """

    name: str
    title: str
    kind: Kind
    files: tuple[File, ...]
    license: str
    hub_repo: str | None = None
    hub_revision: str = "main"
    aliases: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def env(self) -> str:
        """The environment variable that names the user's own copy."""
        return "DSPLUS_" + re.sub(r"[^A-Z0-9]+", "_", self.name.upper()) + "_PATH"


def read_artifacts(body: Any) -> tuple[Artifact, ...]:
    """Artefacts and their pins out of plain JSON values."""
    return TypeAdapter(tuple[Artifact, ...]).validate_python(body)


_PINNED = load_json(Path(__file__).with_suffix(".json").read_bytes())
_REGISTRY: dict[str, Artifact] = {artifact.name: artifact for artifact in read_artifacts(_PINNED)}


# --- sources ----------------------------------------------------------------------------------------------------


class SourceError(Exception):
    """A source that did not work; the next one is tried. The message says why."""


class CorruptError(SourceError):
    """Bytes arrived, and they are not those that were pinned: they are fetched once more."""


@dataclass(frozen=True)
class Fetch:
    """One artefact on its way.

    Attributes:
        artifact: What is wanted.
        ready: The folder where its files belong; they are checked there before they enter the cache.
        kept: A folder for what should outlive a run that is cut off.
        say: Tells the user one line.
        progress: Whether bars may be shown.
    """

    artifact: Artifact
    ready: Path
    kept: Path
    say: Callable[[str], None]
    progress: bool

    def need_space(self, size: int) -> None:
        """Raise `SourceError` where the disk has no room for `size` bytes, what was kept counted in."""
        have = sum(path.stat().st_size for path in self.kept.parent.rglob("*") if path.is_file())
        free = shutil.disk_usage(self.kept).free
        if free + have < size:
            msg = f"{shown_size(size)} are needed on the disk of {cache_dir()}, and {shown_size(free)} are free"
            msg = f"{msg} (DSPLUS_CACHE moves it)"
            raise SourceError(msg)


class Source(Protocol):
    """Something that brings artefacts. `name` stands in messages."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def find(self, artifact: Artifact) -> Path | None:
        """Return where the artefact lies on this machine outside the cache, or None. Fetches nothing."""

    def fetch(self, wanted: Fetch) -> None:
        """Put the artefact's files into `wanted.ready`. What they hold is checked by the caller.

        Raises:
            SourceError: If it cannot be had here.
        """


def register_source(source: Source, *artifacts: Artifact) -> None:
    """Add a source, which is tried after those that are there, and artefacts that can be resolved from now on.

    A source or artefact of the same name is replaced.

    Example:
        ```python
        register_source(OurMirror(), Artifact("ours", "Our model", "gguf", (File("ours.gguf", 5, "..."),), "MIT"))
        resolve("ours")
        ```
    """
    _SOURCES[source.name] = source
    _REGISTRY.update({artifact.name: artifact for artifact in artifacts})


# --- public -----------------------------------------------------------------------------------------------------


def list_artifacts() -> list[Artifact]:
    """Return everything that can be resolved by name."""
    return list(_REGISTRY.values())


def cache_dir() -> Path:
    """Return the cache folder: `DSPLUS_CACHE`, or the user's cache folder for `langchain-dsplus`."""
    named = os.environ.get("DSPLUS_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("langchain-dsplus"))


def cached_path(name: str) -> Path | None:
    """Return where an artefact lies on this machine, or None. Fetches nothing.

    Looks at the artefact's environment variable, the cache, and where the sources have it already.

    Raises:
        WeightsError: If the name is unknown, or its environment variable names something that is not there.
    """
    artifact = _find(name)
    return _own_path(artifact) or _in_cache(artifact) or _elsewhere(artifact)


def known_name(name_or_path: str | os.PathLike[str]) -> str | None:
    """Return the name that `list_artifacts` has for this name or alias; None for anything else, such as a path."""
    if not isinstance(name_or_path, str):
        return None
    artifact = _names().get(name_or_path.lower())
    return None if artifact is None else artifact.name


def resolve(name_or_path: str | os.PathLike[str], *, progress: bool = True, download: bool = True) -> Path:
    """Return the path of a model or data set, fetching it first if it must be.

    Args:
        name_or_path: A name of `list_artifacts`, one of its aliases, or a path of your own, which is taken as it is.
        progress: Say on stderr what is fetched, how big it is and from where, with a progress bar.
        download: False never fetches anything.

    Returns:
        The folder of an encoder, or the file of anything else.

    Raises:
        WeightsError: If there is no such name or path, or every source failed; the message lists them.

    Example:
        ```python
        gguf = resolve("smollm2-135m")  # fetched once, then from the cache
        mine = resolve("/models/my.gguf")  # your own file
        ```
    """
    text = os.fspath(name_or_path)
    if known_name(name_or_path) is None:
        path = Path(text).expanduser()
        if text and path.exists():
            return path
    artifact = _find(text)
    found = cached_path(artifact.name)
    if found is not None:
        return found
    if not download or os.environ.get("DSPLUS_OFFLINE", "") not in ("", "0"):
        why = "downloads are switched off" if not download else "DSPLUS_OFFLINE is set"
        raise _missing(artifact, [f"download: {why}"])
    return pull(artifact.name, progress=progress)


def pull(name: str, *, progress: bool = True) -> Path:
    """Fetch an artefact into the cache, from the first source that has it. One already there is checked again.

    A fetch that was cut off goes on where it stopped: finished parts are kept. What does not match its SHA-256 is
    deleted and fetched once more.

    Returns:
        As in `resolve`.

    Raises:
        WeightsError: If every source failed; the message lists them.
    """
    artifact = _find(name)
    own = _own_path(artifact)
    if own is not None:
        return own
    say = _speaker(progress)
    with _lock(artifact):
        found = _in_cache(artifact)
        if found is not None:
            wrong = _mismatch(artifact, _folder(artifact))
            if wrong is None:
                return found
            say(f"{artifact.name}: the copy in the cache is damaged ({wrong}); fetching it again")
            try:
                _remove(artifact)
            except OSError as error:
                raise WeightsError(_unwritable(error)) from error
        else:
            found = _elsewhere(artifact)
            if found is not None:
                return found
        say(f"Fetching {artifact.name}: {artifact.title} ({shown_size(artifact.size)}, {artifact.license})")
        failures = []
        for source in _SOURCES.values():
            try:
                _take(source, artifact, say, progress)
            except SourceError as error:
                failures.append(f"{source.name}: {error}")
            except OSError as error:
                failures.append(f"{source.name}: {_unwritable(error)}")
            else:
                shutil.rmtree(_staging(artifact), ignore_errors=True)
                path = _result(artifact, _folder(artifact))
                say(f"  saved to {path}")
                return path
            say(f"  {failures[-1]}")
    raise _missing(artifact, failures)


def _take(source: Source, artifact: Artifact, say: Callable[[str], None], progress: bool) -> None:
    """Fetch, check, and move into the cache; bytes that are not the pinned ones are fetched once more."""
    place = _staging(artifact) / source.name
    for attempt in (1, 2):
        wanted = Fetch(artifact, place / "ready", place / "kept", say, progress)
        wanted.ready.mkdir(parents=True, exist_ok=True)
        wanted.kept.mkdir(exist_ok=True)
        try:
            source.fetch(wanted)
            wrong = _mismatch(artifact, wanted.ready)
        except CorruptError as error:
            wrong = str(error)
        if wrong is None:
            _install(artifact, wanted.ready)
            return
        shutil.rmtree(place, ignore_errors=True)
        if attempt == 1:
            say(f"  {source.name}: {wrong}; fetching it once more")
    raise SourceError(f"{wrong}, twice")


# --- names and places -------------------------------------------------------------------------------------------


def _names() -> dict[str, Artifact]:
    names = {}
    for artifact in _REGISTRY.values():
        for name in (artifact.name, artifact.hub_repo, *artifact.aliases):
            if name is not None:
                names[name.lower()] = artifact
    return names


def _find(name: str) -> Artifact:
    artifact = _names().get(name.lower())
    if artifact is None:
        raise WeightsError(
            f"{name!r} is neither a path that exists nor a known name. Known names: {', '.join(_REGISTRY)}"
        )
    return artifact


def _folder(artifact: Artifact) -> Path:
    if artifact.kind == "data":
        return cache_dir() / "data" / artifact.name.replace("-", "_")
    return cache_dir() / "models" / artifact.name


def _staging(artifact: Artifact) -> Path:
    return cache_dir() / "partial" / artifact.name


def _result(artifact: Artifact, folder: Path) -> Path:
    return folder if artifact.kind == "encoder" else folder / artifact.files[0].path


def _own_path(artifact: Artifact) -> Path | None:
    named = os.environ.get(artifact.env)
    if not named:
        return None
    path = Path(named).expanduser()
    if not path.exists():
        raise WeightsError(f"{artifact.env} is set, but there is nothing at {path}")
    return path


def _in_cache(artifact: Artifact) -> Path | None:
    # Sizes only: every byte was checked on the way in, and hashing a gigabyte at each start would be felt.
    folder = _folder(artifact)
    for file in artifact.files:
        try:
            size = (folder / file.path).stat().st_size
        except OSError:
            return None
        if size != file.size:
            return None
    return _result(artifact, folder)


def _elsewhere(artifact: Artifact) -> Path | None:
    """Where a source has it already: in a package that is installed, say."""
    return next((path for source in _SOURCES.values() if (path := source.find(artifact)) is not None), None)


def _missing(artifact: Artifact, failures: Sequence[str]) -> WeightsError:
    tried = [
        f"your own path: {artifact.env} is not set",
        f"cache: nothing complete in {_folder(artifact)}",
        *failures,
    ]
    lines = "\n".join(f"  - {line}" for line in tried)
    origin = f" from https://huggingface.co/{artifact.hub_repo}" if artifact.hub_repo else ""
    msg = (
        f"{artifact.name!r} ({artifact.title}, {shown_size(artifact.size)}) cannot be had. Tried:\n{lines}\n"
        f"What you can do: run `dsplus models pull {artifact.name}` where there is a network; or get it{origin} "
        f"({', '.join(file.path for file in artifact.files[:1])}{', ...' if len(artifact.files) > 1 else ''}) and pass "
        f"its path, or set {artifact.env}."
    )
    return WeightsError(msg)


def shown_size(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _speaker(progress: bool) -> Callable[[str], None]:
    if not progress:
        return lambda text: logger.info("%s", text)
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return lambda text: console.print(text, markup=False)


def _unwritable(error: OSError) -> str:
    why = error.strerror or type(error).__name__
    return f"cannot write to {cache_dir()} ({why}); DSPLUS_CACHE names another folder"


@contextlib.contextmanager
def _lock(artifact: Artifact) -> Iterator[None]:
    """Let one process fetch an artefact while the others wait; the operating system lifts the lock of a dead one."""
    from filelock import FileLock

    place = cache_dir() / "locks"
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / f"{artifact.name}.lock")
        lock.acquire()
    except OSError as error:
        raise WeightsError(_unwritable(error)) from error
    try:
        yield
    finally:
        lock.release()


# --- checking and moving into place -----------------------------------------------------------------------------


def _mismatch(artifact: Artifact, folder: Path) -> str | None:
    for file in artifact.files:
        path = folder / file.path
        if not path.is_file():
            return f"{file.path} is missing"
        size = path.stat().st_size
        if size != file.size:
            return f"{file.path} has {size:,} bytes, expected {file.size:,}"
        if sha256_of(path) != file.sha256:
            return f"the SHA-256 of {file.path} is not the pinned one"
    return None


def _remove(artifact: Artifact) -> None:
    for file in artifact.files:
        (_folder(artifact) / file.path).unlink(missing_ok=True)


def _install(artifact: Artifact, ready: Path) -> None:
    """Move checked files into the cache. Each move is atomic, the file that matters most last."""
    folder = _folder(artifact)
    for file in sorted(artifact.files, key=lambda file: file.size):
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (ready / file.path).replace(target)


# --- the hub ----------------------------------------------------------------------------------------------------


def _hub_endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hub_unreachable() -> str | None:
    """Say within seconds why the hub cannot be reached, or None. Its own client retries for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    if importlib.util.find_spec("huggingface_hub") is None:
        return "huggingface_hub is not installed (pip install 'langchain-dsplus[local]')"
    endpoint = _hub_endpoint()
    if not endpoint.startswith(("https://", "http://")):
        return "HF_ENDPOINT is not an http(s) address"
    outcome: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_HUB_PATIENCE):  # noqa: S310
                outcome.append(None)
        except urllib.error.HTTPError as error:
            error.close()
            outcome.append(None)  # it answered
        except urllib.error.URLError as error:
            # The hub's client may trust another list of certificates than this probe.
            outcome.append(None if isinstance(error.reason, ssl.SSLError) else f"{endpoint} does not answer")
        except Exception as error:  # noqa: BLE001
            outcome.append(f"{endpoint} does not answer ({type(error).__name__})")

    # A thread, since looking up a name has no timeout of its own.
    thread = threading.Thread(target=ask, name="dsplus-hub-probe", daemon=True)
    thread.start()
    thread.join(_HUB_PATIENCE)
    return outcome[0] if outcome else f"{endpoint} did not answer within {_HUB_PATIENCE:g} seconds"


def _hub_file(repo: str, path: str, revision: str, folder: Path, progress: bool) -> Path:
    """Download one file of the hub with its own client, which resumes what was cut off."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    quiet = not progress and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        return Path(hf_hub_download(repo, path, revision=revision, local_dir=folder, etag_timeout=_HUB_PATIENCE))
    finally:
        if quiet:
            enable_progress_bars()


class _Hub:
    """The Hugging Face hub."""

    name = "hub"

    def find(self, artifact: Artifact) -> None:
        """It keeps nothing here but in the cache."""

    def fetch(self, wanted: Fetch) -> None:
        """Download each file at the pinned commit."""
        artifact = wanted.artifact
        if artifact.hub_repo is None:
            raise SourceError("it is on no hub")
        reason = _hub_unreachable()
        if reason is not None:
            raise SourceError(reason)
        wanted.need_space(artifact.size)
        wanted.say(f"  hub: {_hub_endpoint()}/{artifact.hub_repo} at {artifact.hub_revision}")
        for file in artifact.files:
            target = wanted.ready / file.path
            if target.is_file() and target.stat().st_size == file.size and sha256_of(target) == file.sha256:
                continue  # left by a run that was cut off
            name = file.hub_path or file.path
            try:
                got = _hub_file(artifact.hub_repo, name, artifact.hub_revision, wanted.kept, wanted.progress)
            except Exception as error:
                first = (str(error).strip().splitlines() or [""])[0]
                raise SourceError(f"{name}: {type(error).__name__}: {first[:200]}") from error
            target.parent.mkdir(parents=True, exist_ok=True)
            got.replace(target)


_SOURCES: dict[str, Source] = {"hub": _Hub()}
