"""Inputs as keyed hashes: the same input is recognized again, and no text is kept.

A hash is the first 64 bits of an HMAC-SHA256 over an input's canonical form. Who has no key cannot try texts out; who
has the key can, so it lies in a file that only its owner reads.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LEAST = 16
_DIGITS = 16


def canonical(value: Any) -> bytes | None:
    r"""Return an input's canonical form: the same for inputs that say the same; None where it cannot be seen into.

    Texts are taken in Unicode's composed form with runs of white space as one blank, since exports change those; upper
    and lower case differ. Keys of dicts are sorted, 1.0 is 1, a message is its type and content.

    Example:
        >>> canonical({"b": "x  y\n", "a": 1.0}) == canonical({"a": 1, "b": "x y"})
        True
        >>> canonical(object()) is None
        True
    """
    try:
        return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    except (_Unseen, TypeError, ValueError, RecursionError):
        return None


class _Unseen(Exception):  # noqa: N818 - never leaves this module
    """A part of an input that cannot be seen into."""


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFC", value).split())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    if callable(messages := getattr(value, "to_messages", None)):
        return _plain(messages())
    if hasattr(value, "content") and isinstance(kind := getattr(value, "type", None), str):
        return {"type": kind, "content": _plain(value.content)}
    if callable(dump := getattr(value, "model_dump", None)):
        return _plain(dump())
    if callable(raw := getattr(value, "tobytes", None)):  # an array, a picture
        if getattr(value, "ndim", None) == 0:
            return _plain(value.item())
        shape = [str(getattr(value, name, "")) for name in ("dtype", "shape", "mode", "size")]
        return {"shape": shape, "bytes": hashlib.sha256(raw()).hexdigest()}
    raise _Unseen


def hash_form(form: bytes, key: bytes) -> str:
    """Return the keyed hash of a canonical form: 16 hexadecimal digits."""
    return hmac.new(key, form, hashlib.sha256).hexdigest()[:_DIGITS]


def hash_input(value: Any, key: bytes) -> str | None:
    """Return what a table keeps of an input: the key's name, a hyphen, the keyed hash; None where it is hidden.

    Args:
        value: The input, or its canonical form as bytes.
        key: The key. Under another one the same input has another hash, and its name says so.
    """
    form = value if isinstance(value, bytes) else canonical(value)
    return None if form is None else f"{key_name(key)}-{hash_form(form, key)}"


def hash_of(value: Any) -> str:
    """Return a short name for an input, the same in every process: no key, so it is for files that hold the text too.

    Exact, unlike `canonical`: a chain may reply otherwise to another blank. Of an array all bytes count, wherever
    in the input it stands; what it prints is rounded and cut.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=_exact)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _exact(value: Any) -> str:
    return (canonical(value) or b"").decode() if callable(getattr(value, "tobytes", None)) else repr(value)


def feed_inputs(digest: Any, values: Iterable[Any]) -> None:
    """Add the canonical forms of inputs to a hash; of an input that cannot be seen into, only its type."""
    for value in values:
        digest.update(canonical(value) or type(value).__name__.encode())
        digest.update(b"\0")


def read_key(key: str | bytes) -> bytes:
    """Return a key as bytes.

    Raises:
        TypeError: If it is neither text nor bytes.
        ValueError: If it is so short that it could be guessed; the message never carries it.
    """
    if not isinstance(key, (str, bytes)):
        raise TypeError(f"`key` must be a text or bytes, not {type(key).__name__}")
    body = key.encode() if isinstance(key, str) else key
    if len(body) < _LEAST:
        raise ValueError(f"`key` must have at least {_LEAST} characters; `secrets.token_hex(32)` makes a good one")
    return body


def new_key() -> bytes:
    """Return a fresh key."""
    return secrets.token_bytes(32)


def key_name(key: bytes) -> str:
    """Return what a key is called: it tells keys apart, and says nothing about them."""
    return hmac.new(key, b"name of the key", hashlib.sha256).hexdigest()[:8]


@dataclass(frozen=True)
class Seen:
    """What a model was trained on, as hashes under a key of its own.

    Attributes:
        key: The model's key.
        hashes: Of the inputs.
        hidden: How many inputs could not be seen into.
    """

    key: bytes = field(default_factory=new_key, repr=False)
    hashes: frozenset[str] = frozenset()
    hidden: int = 0

    def add(self, forms: Iterable[bytes | None]) -> Seen:
        """Return the same with more inputs, in canonical form."""
        found = [None if form is None else hash_form(form, self.key) for form in forms]
        known = [item for item in found if item is not None]
        return Seen(self.key, self.hashes.union(known), self.hidden + len(found) - len(known))

    def has(self, form: bytes | None) -> bool | None:
        """Whether an input is one of them; None where nobody can tell."""
        found = None if form is None else hash_form(form, self.key)
        if found is None:
            return None
        return True if found in self.hashes else None if self.hidden else False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values: what a saved model keeps."""
        return {"key": self.key.hex(), "hidden": self.hidden, "hashes": sorted(self.hashes)}

    @classmethod
    def from_dict(cls, body: Any, path: str | Path) -> Seen | None:
        """Read what `to_dict` returned; None where nothing was kept.

        Raises:
            ValueError: If it is something else; the message names `path`.
        """
        if body is None:
            return None
        try:
            hashes, hidden = body["hashes"], body["hidden"]
            if not (isinstance(hashes, list) and all(isinstance(item, str) for item in hashes)):
                raise TypeError
            return cls(read_key(bytes.fromhex(body["key"])), frozenset(hashes), int(hidden))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path} is damaged: `trained_on` is not what `save` writes. Save the model again"
            ) from None
