"""What a `ModelRegistry` keeps in `live.json`: one small file, replaced as a whole, with everything that changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NotRequired, TypeAlias, cast

from typing_extensions import TypedDict

from langchain_dsplus._files import replace_file
from langchain_dsplus._json import load_json
from langchain_dsplus.traces.shared import SharedState, SharedStateError

FORMAT = 1
KIND = "langchain-dsplus model registry"
STATE = "live.json"
LOCK = "live.lock"
_LARGEST = 64 * 1024 * 1024

VersionState: TypeAlias = Literal["candidate", "kept aside", "live", "earlier", "rolled back"]
Cause: TypeAlias = Literal["promotion", "rollback", "replaced", "other"]


class RegistryError(ValueError):
    """What was asked of a model registry cannot be done; the message says why, and what to do."""


class CertificateEntry(TypedDict):
    """A certificate of a version. A void one is kept for the record."""

    id: str
    state: Literal["in force", "void"]
    time: str
    cause: NotRequired[Cause]
    reason: NotRequired[str]


class VersionEntry(TypedDict):
    """What changes about a version; the rest is in its folder."""

    sha256: str
    model: str
    name: str
    made: str
    parent: int | None
    state: VersionState
    since: str | None
    reasons: list[str]
    certificates: list[CertificateEntry]


class GateEntry(TypedDict):
    """One run of the gate; report and rows are in a file of their own."""

    old: int
    new: int
    old_sha256: str
    new_sha256: str
    file: str
    sha256: str
    promoted: bool
    spent: bool
    level: float
    earlier: int
    time: str


class Event(TypedDict):
    """One line of the history."""

    time: str
    event: str
    version: int | None
    note: str


class State(TypedDict):
    """The whole file."""

    salt: str
    serial: int
    stack: list[int]
    """Versions that went live, each above the one it replaced; the last one is live."""
    versions: dict[str, VersionEntry]
    gates: list[GateEntry]
    history: list[Event]


def now() -> str:
    """The time, UTC, as an ISO text."""
    return datetime.now(UTC).isoformat()


def fresh_state() -> State:
    """A registry without a version."""
    return State(salt=secrets.token_hex(16), serial=0, stack=[], versions={}, gates=[], history=[])


def read_state(folder: Path) -> State:
    """Read `live.json`. Raises RegistryError if there is none, or it was changed by hand or damaged."""
    file = folder / STATE
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(folder, STATE) from None
    try:
        body = load_json(text) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        body = None
    return _opened(body, file)


def _missing(folder: Path, what: str) -> RegistryError:
    return RegistryError(f"{folder} is no model registry: it has no {what} (`ModelRegistry.start` makes one)")


def _opened(body: Any, place: Any) -> State:
    """The state in what was read."""
    if not isinstance(body, dict) or body.get("kind") != KIND:
        raise RegistryError(f"{place} is damaged, or not that of a model registry: it was put there by something else")
    if body.get("format") != FORMAT:
        raise RegistryError(f"{place} has format {body.get('format')!r}; this version reads {FORMAT}")
    state = body.get("state")
    try:
        whole = isinstance(state, dict) and body.get("sha256") == _checksum(state)
    except (ValueError, RecursionError):  # no JSON that was ever written here: NaN, thousands of brackets
        whole = False
    if not whole:
        raise RegistryError(f"{place} is damaged or was changed by hand: its SHA-256 differs. Restore it from a backup")
    return cast("State", state)


def _closed(state: State) -> dict[str, Any]:
    """A changed state as it is written."""
    state["serial"] += 1
    return {"format": FORMAT, "kind": KIND, "state": state, "sha256": _checksum(state)}


def write_state(folder: Path, state: State) -> None:
    """Put a new `live.json` in the place of the old one, as a whole; durable when this returns."""
    replace_file(folder / STATE, json.dumps(_closed(state), ensure_ascii=False, allow_nan=False, indent=1) + "\n")


class FileState:
    """The state of a registry in its folder, `live.json`."""

    def __init__(self, folder: Path, timeout: float) -> None:
        self.folder, self.timeout = folder, timeout

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return (self.folder / STATE).exists()

    def read(self) -> State:
        """As it is now. Raises RegistryError as `read_state`."""
        return read_state(self.folder)

    @contextlib.contextmanager
    def changing(self, *, make: bool) -> Iterator[State]:
        """Change it alone; it is written if nothing is raised."""
        with locked(self.folder, self.timeout):
            state = fresh_state() if make and not self.exists else self.read()
            yield state
            write_state(self.folder, state)


class DatabaseState:
    """The state of a registry in a database, for processes on several hosts; versions are in the folder still."""

    def __init__(self, folder: Path, shared: SharedState) -> None:
        self.folder, self.shared = folder, shared

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._reached(self.shared.read) is not None

    def read(self) -> State:
        """As it is now. Raises RegistryError if there is none, it is damaged, or the database cannot be reached."""
        body = self._reached(self.shared.read)
        if body is None:
            raise _missing(self.folder, f"state in {self.shared!r}")
        return _opened(body, self.shared)

    @contextlib.contextmanager
    def changing(self, *, make: bool) -> Iterator[State]:
        """Change it alone; it is written if nothing is raised."""
        try:
            with self.shared.changing() as held:
                if held.value is None and not make:
                    raise _missing(self.folder, f"state in {self.shared!r}")
                state = fresh_state() if held.value is None else _opened(held.value, self.shared)
                yield state
                held.value = _closed(state)
        except SharedStateError as error:
            raise RegistryError(str(error)) from None

    @staticmethod
    def _reached(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except SharedStateError as error:
            raise RegistryError(str(error)) from None


def mark_of(state: State) -> str:
    """What tells this state from every other one, also from one that a backup brought back under the same serial."""
    return _checksum(state)


@contextlib.contextmanager
def locked(folder: Path, timeout: float) -> Iterator[None]:
    """Let one process at a time change a registry. The lock is the kernel's, so it ends with whoever held it.

    Raises:
        RegistryError: If another one changes it for longer than `timeout` seconds.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(folder / LOCK), timeout=timeout)
    try:
        lock.acquire()
    except Timeout:
        raise RegistryError(f"another process has been changing {folder} for {timeout:g} seconds: try again") from None
    try:
        yield
    finally:
        lock.release()


def _checksum(state: Mapping[str, Any]) -> str:
    text = json.dumps(state, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# --- rows -----------------------------------------------------------------------------------------------------------


class RowHash:
    """Hashes of inputs and ids under a registry's own salt: they tell whether a row was used, and not what it says."""

    def __init__(self, salt: str) -> None:
        self._key = bytes.fromhex(salt)

    def input(self, value: Any) -> str:
        """The hash of what a model read: a text, a message, an array, an image, or JSON values.

        Raises:
            RegistryError: If it cannot be seen into.
        """
        return self._hash(b"input", _bytes(value))

    def inputs(self, values: Iterable[Any]) -> list[str]:
        """Of several."""
        return [self.input(value) for value in values]

    def id(self, value: str) -> str:
        """The hash of a row's id."""
        return self._hash(b"id", value.encode("utf-8", "backslashreplace"))

    def share(self, value: Any) -> float:
        """A number in [0, 1) that an input always gets in this registry: by it rows are split once and for all."""
        return int(self._hash(b"split", _bytes(value))[:13], 16) / 16.0**13

    def _hash(self, what: bytes, data: bytes) -> str:
        return hashlib.blake2b(data, key=self._key, person=what, digest_size=16).hexdigest()


def _bytes(value: Any) -> bytes:
    content = getattr(value, "content", None)
    if isinstance(content, str):  # a message says what its text says
        value = content
    if isinstance(value, str):
        return b"s" + value.encode("utf-8", "backslashreplace")
    if isinstance(value, (bytes, bytearray)):
        return b"b" + bytes(value)
    if isinstance(value, Path):
        return b"p" + str(value).encode("utf-8", "backslashreplace")
    if callable(getattr(value, "tobytes", None)):  # an array, an image
        about = [getattr(value, name, None) for name in ("dtype", "shape", "mode", "size")]
        return f"a{about}".encode() + bytes(value.tobytes())
    try:
        text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise RegistryError(
            f"an input of type {type(value).__name__} cannot be hashed: use texts, JSON values, arrays or images"
        ) from None
    return b"j" + text.encode()
