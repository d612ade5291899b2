"""What a chain is, as a hash: so that a certificate can tell today's large model and prompt from those it is about."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from langchain_core.load.serializable import Serializable


@dataclass(frozen=True)
class Identity:
    """What a chain is.

    Attributes:
        large: SHA-256 of the whole chain in hex, or the user's `version`; None where it cannot be known.
        prompt: SHA-256 of its prompt templates in hex, or the user's `version`; None where it cannot be known.
        unverifiable: Whether some part cannot be seen into, and no `version` stands in for it.
    """

    large: str | None
    prompt: str | None
    unverifiable: bool


def identify(runnable: Any, *, version: str | None = None) -> Identity:
    """Return what a chain is, the same in every process.

    The hash is over what LangChain's `dumpd` sees: classes, templates, model names, settings; keys sorted. In addition
    it sees into Pydantic classes (their JSON schema), exception classes (their names), few-shot templates, small models
    (their `version`), whatever lists what makes it in `identity_parts()`, and what a Runnable that only passes calls on
    names in `identity_of()`. It cannot see into functions
    (`RunnableLambda`), graphs and objects that LangChain does not serialize: then `large` is None and `unverifiable`
    True, unless `version=` says what they are. Another release of LangChain may see a chain differently; then the hash
    differs too, which is the safe side.

    Left out, so that it may change: API keys, secrets in parameters and URLs, the values of HTTP headers, names, tags,
    metadata, callbacks, caches, rate limiters, timeouts, retries, streaming. Of a server on this machine (`localhost`,
    `127.0.0.1`, `[::1]`) the port is left out, since it is often a random one; so what tells one local model from
    another is the model's name: name it after its file's hash, or pass `version=`. Any other address counts.

    Args:
        runnable: The chain, prompt and parser included.
        version: Your own text for what the chain is. It stands for both parts and is not checked: change it whenever
            prompt, model or parser change.

    Raises:
        TypeError: If `version` is no text.
        ValueError: If `version` is empty.

    Example:
        >>> from langchain_core.prompts import ChatPromptTemplate
        >>> one, two = (ChatPromptTemplate.from_messages([("human", text)]) for text in ("{a}", "Please: {a}"))
        >>> identify(one) == identify(one), identify(one) == identify(two)
        (True, False)
        >>> identify(one | str.strip).unverifiable, identify(one | str.strip, version="3").large
        (True, '3')
    """
    if version is not None:
        if not isinstance(version, str):
            raise TypeError(f"`version` must be a text, not {type(version).__name__}")
        if not version.strip():
            raise ValueError("`version` must not be empty")
        return Identity(version, version, unverifiable=False)
    seen = _Seen()
    try:
        whole: Any = seen.form(runnable)
    except Exception:  # noqa: BLE001 - a part that breaks when looked at is one that cannot be seen into
        return Identity(None, None, unverifiable=True)
    # Without any template the input itself is the prompt, if nothing is hidden.
    prompt = None if seen.hidden_prompt or (seen.hidden and not seen.prompts) else _sha256(seen.prompts)
    return Identity(None if seen.hidden else _sha256(whole), prompt, unverifiable=seen.hidden > 0)


def score_name(score: Any) -> str:
    """Return what a score is called in `about`: its name, a `version`, or module and name of a function.

    A `RouteScore` is called by its name and its version.

    Lambdas of one module share a name: a hash of the code tells them apart (another release of Python may give another
    one, which is the safe side). Of `functools.partial` the arguments count. An object without `version` is its class.
    """
    if isinstance(score, str):
        return score
    version = getattr(score, "version", None)
    if isinstance(version, str) and version:
        name = getattr(score, "name", None)
        return f"{name} {version}" if isinstance(name, str) and name and hasattr(score, "fit") else version
    if isinstance(score, functools.partial):
        return f"{score_name(score.func)} {_sha256([repr(score.args), repr(sorted(score.keywords.items()))])[:12]}"
    name = f"{getattr(score, '__module__', '?')}.{getattr(score, '__qualname__', type(score).__qualname__)}"
    if getattr(score, "__name__", "") == "<lambda>":
        name += f" {_sha256(_code(score.__code__))[:12]}"
    return name


def _code(code: Any) -> list[Any]:
    """What a function does, without where it stands."""
    constants = [_code(item) if hasattr(item, "co_code") else repr(item) for item in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_OBJECT = "__object__"
_MUTE = frozenset(
    {"name", "tags", "metadata", "callbacks", "callback_manager", "verbose", "cache", "rate_limiter"}
    | {"max_retries", "request_timeout", "timeout", "streaming", "disable_streaming", "stream_usage"}
    | {"stream_chunk_timeout", "http_socket_options"}
)
"""Fields of a Runnable that change no answer, only how and when it comes."""
_SETTINGS = frozenset({"tags", "metadata", "callbacks", "run_name", "run_id", "max_concurrency", "recursion_limit"})
"""Keys of a `RunnableConfig` that change no answer."""
_HEADERS = re.compile(r"headers?$", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:url|uri|base|endpoint|host|proxy)$", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"(?:(?:api|access|auth|secret|private|subscription|account|service|license|session|signing|client)[_-]?(?:key|token)"
    r"|_token|^token|^key|password|passwd|secret|authorization|cookie|credentials?|bearer)$",
    re.IGNORECASE,
)
_SECRET = re.compile(r"(?:Bearer\s+\S+|(?:sk|pk|rk|gsk|hf|ghp|gho|xai|AIza|xox[abp])[-_]?[A-Za-z0-9_\-]{16,})")


class _Seen:
    """One walk over a chain: its canonical form in plain JSON, its templates, and how much stayed hidden."""

    def __init__(self) -> None:
        self.prompts: list[Any] = []
        self.hidden = 0
        self.hidden_prompt = False
        self._depth = 0

    def form(self, value: Any, name: str = "") -> Any:
        """The canonical form of a value; `name` is the field or key that holds it."""
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, enum.Enum):
            return {_OBJECT: ["enum", type(value).__name__], "name": value.name}
        if isinstance(value, str):
            return _text(str(value), name)
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        if isinstance(value, (list, tuple)):
            return [self.form(item, name) for item in value]
        if isinstance(value, (set, frozenset)):
            return {_OBJECT: ["set"], "items": sorted((self.form(item, name) for item in value), key=_sha256)}
        if isinstance(value, (bytes, bytearray)):
            return {_OBJECT: ["bytes"], "sha256": hashlib.sha256(value).hexdigest()}
        if isinstance(value, type):
            return self._class(value)
        return self._object(value)

    def _mapping(self, value: Mapping[Any, Any], name: str) -> Any:
        if not all(isinstance(key, str) for key in value):
            pairs = [[self.form(key), self.form(item)] for key, item in value.items()]
            return {_OBJECT: ["dict"], "items": sorted(pairs, key=_sha256)}
        if value.get("lc") == 1 and value.get("type") == "secret":
            return None
        if _HEADERS.search(name):
            return sorted(key.lower() for key in value)
        return {key: self.form(item, key) for key, item in value.items() if not _is_secret(key, item)}

    def _class(self, kind: type) -> Any:
        """A class stands for what the model sees of it, and not for its module, which is `__main__` in a script."""
        from pydantic import BaseModel

        if issubclass(kind, BaseModel):
            return {_OBJECT: ["class", kind.__name__], "schema": kind.model_json_schema()}
        if issubclass(kind, enum.Enum):
            return {_OBJECT: ["class", kind.__name__], "members": {item.name: self.form(item.value) for item in kind}}
        if issubclass(kind, BaseException) or kind.__module__ == "builtins":
            return {_OBJECT: ["class", kind.__name__]}
        return self._hide()

    def _object(self, value: Any) -> Any:
        from langchain_core.load.serializable import Serializable
        from langchain_core.prompts import BasePromptTemplate
        from langchain_core.prompts.message import BaseMessagePromptTemplate
        from pydantic import SecretBytes, SecretStr

        from langchain_dsplus.local.chat import ChatLocal
        from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel

        if isinstance(value, (SecretStr, SecretBytes)):
            return None
        if isinstance(value, SmallModel):
            if value.version == UNVERIFIABLE:
                return self._hide()
            return {_OBJECT: _class_id(type(value)), "version": value.version}
        behind = getattr(value, "identity_of", None)
        if callable(behind) and not isinstance(value, type):
            return self.form(behind())
        parts = getattr(value, "identity_parts", None)
        if callable(parts) and not isinstance(value, type):
            return {_OBJECT: _class_id(type(value)), "parts": self.form(parts())}
        if isinstance(value, ChatLocal):  # where its files lie says nothing: its version is a hash of them
            settings = {k: v for k, v in value._identifying_params.items() if k not in {"files", "model"}}  # noqa: SLF001
            return {_OBJECT: _class_id(type(value)), "version": value.version, "kwargs": self.form(settings)}
        if isinstance(value, BasePromptTemplate):
            return self._prompt(value)
        if isinstance(value, BaseMessagePromptTemplate) and not value.is_lc_serializable():
            return self._fields(value)
        if isinstance(value, Serializable):
            return self._serializable(value) if value.is_lc_serializable() else self._hide()
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return {_OBJECT: ["dataclass", type(value).__name__], "fields": self._mapping(fields, "")}
        if type(value).__module__ == "numpy":
            import numpy as np

            if isinstance(value, np.generic):
                return self.form(value.item())
            if isinstance(value, np.ndarray):
                return self.form(value.tolist())
        return self._hide()

    def _prompt(self, prompt: Any) -> Any:
        """A template; where it stands in a template already, it is part of that one."""
        before, self._depth = self.hidden, self._depth + 1
        form = self._serializable(prompt) if prompt.is_lc_serializable() else self._fields(prompt)
        self._depth -= 1
        if not self._depth:
            self.prompts.append(form)
            self.hidden_prompt = self.hidden_prompt or self.hidden > before
        return form

    def _serializable(self, value: Serializable) -> Any:
        dumped: Any = value.to_json()
        if dumped["type"] != "constructor":
            return self._hide()
        return {_OBJECT: list(dumped["id"]), "kwargs": self._kept(value, dumped["kwargs"])}

    def _fields(self, value: Any) -> Any:
        """A template that LangChain does not serialize, by its fields."""
        kind = type(value)
        fields = {name: getattr(value, name) for name, field in kind.model_fields.items() if not field.exclude}
        return {_OBJECT: _class_id(kind), "kwargs": self._kept(value, fields)}

    def _kept(self, value: Any, kwargs: Mapping[str, Any]) -> Any:
        from langchain_core.runnables import Runnable
        from langchain_core.runnables.base import RunnableBindingBase

        kept = dict(kwargs)
        if isinstance(value, Runnable):
            kept = {key: item for key, item in kept.items() if key not in _MUTE}
        if isinstance(value, RunnableBindingBase):
            config = {key: item for key, item in (kept.pop("config", None) or {}).items() if key not in _SETTINGS}
            if config:
                kept["config"] = config
        return {
            key: self.form(item, key) for key, item in kept.items() if item is not None and not _is_secret(key, item)
        }

    def _hide(self) -> None:
        self.hidden += 1


def _class_id(kind: type) -> list[str]:
    return [*kind.__module__.split("."), kind.__qualname__]


def _is_secret(key: str, value: Any) -> bool:
    """Whether a setting holds a key: it may be renewed without anything else changing, and enters no hash."""
    if isinstance(value, Mapping):
        return value.get("lc") == 1 and value.get("type") == "secret"
    return isinstance(value, str) and _SECRET_NAME.search(key) is not None


def _text(text: str, name: str) -> str:
    if _SECRET.fullmatch(text):
        return ""
    if _ADDRESS.search(name) and "://" in text:
        return _address(text)
    return text


def _address(text: str) -> str:
    """A URL without user, password, query and, on this machine, port."""
    try:
        parts = urlsplit(text.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return text
    if host == "localhost" or host.startswith("127.") or host in ("::1", "0.0.0.0"):  # noqa: S104 - read, not bound
        host, port = "localhost", None
    return urlunsplit(
        (parts.scheme.lower(), host if port is None else f"{host}:{port}", parts.path.rstrip("/"), "", "")
    )
