"""A router in a folder: small models, thresholds or certificate, pruner and settings; loaded without running code.

The large chain is never saved, since it holds keys and code: it is given when loading, and a certificate tells whether
it is the one that was certified.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from langchain_core.runnables import Runnable
from pydantic import BaseModel

from langchain_dsplus._files import replace_folder, sha256_of
from langchain_dsplus._json import load_json
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.decision import read_thresholds
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.scores.kinds import load_score
from langchain_dsplus.scores.ready import ReadyScore
from langchain_dsplus.small_models.base import UNVERIFIABLE, SmallModel
from langchain_dsplus.small_models.encoder import Encoder
from langchain_dsplus.small_models.files import SETTINGS
from langchain_dsplus.small_models.kinds import KINDS
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.threshold.certificate import Certificate

_FORMAT = 1
_KIND = "langchain-dsplus router"
_MANIFEST = "manifest.json"
_ROUTER = "router.json"
_CERTIFICATE = "certificate.json"
_PRUNER = "pruner.json"
_ENCODER = "encoder"
_SCORE = "score"
_LARGEST_MANIFEST = 16 * 1024 * 1024

_SAVED = (
    "score", "mode", "audit_rate", "never_local", "small_timeout", "on_large_error", "include_route", "context_key",
    "on_mismatch", "allow_override", "background", "background_workers", "background_limit", "batch_wait",
    "batch_size", "name",
)  # fmt: skip
_FUNCTIONS = ("to_output", "to_large", "always_ask")
_OURS = ("small", "large", "threshold")


class SavedRouterError(ValueError):
    """A folder that is no whole, unchanged saved router, or that does not fit what is given beside it."""


def save_router(
    router: ConfidenceRouter, path: str | Path, *, pruner: PromptPruner | None = None, encoders: bool | None = None
) -> str:
    """Write a router into a folder, as a whole or not at all.

    The folder is written beside its place under another name, `manifest.json` last, with the SHA-256 of every file;
    then it is renamed. A saved router that is already there is replaced; anything else there is an error.

    What is saved: each small model (safetensors, JSON, skops), the thresholds or the certificate, the settings, and the
    prompt pruner with its conformal candidates. What is not: the large chain and the `version` that names it, the
    recorder, functions (`to_output`, `to_large`, `always_ask`, a callable score) and a `RouteScore` of your own, which
    are given when loading. So is a small model that has no files of its own, such as a `ChatClassifier`.

    Args:
        router: The router.
        path: The folder.
        pruner: The prompt pruner; by default the one found in the large chain.
        encoders: Whether the encoders of `SentenceClassifier`s are copied too, which may be large. By default those
            that lie in a folder of this machine are, and those with a public name are not.

    Returns:
        The SHA-256 of the manifest, hexadecimal. Kept elsewhere, it makes `load_router(..., sha256=...)` notice every
        change, also one by somebody who wrote a new manifest.

    Raises:
        FileExistsError: If something else is at `path`.
        ValueError: If the large chain has several pruners, or one that cannot be saved.

    Example:
        ```python
        digest = save_router(router, "routers/intents")
        router = load_router("routers/intents", large=chain, sha256=digest)
        ```
    """
    place = Path(path).expanduser().resolve()
    _check_place(place)
    if pruner is None:
        found = _unique_pruners(router.large)
        if len(found) > 1:
            raise ValueError(f"the large chain has {len(found)} different pruners: name the one to save with `pruner=`")
        pruner = found[0] if found else None
    return write_folder(place, _KIND, lambda folder: _write_parts(router, folder, pruner, encoders=encoders))


def load_router(
    path: str | Path,
    large: Any,
    *,
    small: Mapping[str, SmallModel] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    score_options: Mapping[str, Any] | None = None,
    sha256: str | None = None,
    **settings: Any,
) -> ConfidenceRouter:
    """Read what `save_router` wrote; runs no code from the folder.

    Every file is compared with the manifest first: a folder in which one is missing, changed, cut off or not listed is
    refused, and so is one without a manifest. That notices damage and half-written folders; against somebody who may
    write there, pass `sha256`.

    Args:
        path: The folder.
        large: The large chain. A certificate is compared with it, as at construction (`on_mismatch`). To use the saved
            pruner in it: `load_pruner(path).chain(model)`.
        small: Small models by name, where they have no files of their own. Their labels and versions are compared.
        options: Arguments of a small model's `load`, by its name: `{"small": {"trusted": [...]}}` for scikit-learn,
            `encoder=`, `build=`, `device=`, `score=`.
        score_options: Arguments of the `load` of a `RouteScore`, such as `encoder=`.
        sha256: What `save_router` returned.
        **settings: Of the router, in place of those saved: `recorder`, `mode`, `to_output`, ...

    Raises:
        SavedRouterError: If the folder is not a whole, unchanged saved router, or something given does not fit.
        MismatchError: If the certificate is about another large chain, prompt or small model.
        TypeError: If a setting is unknown, or one that belongs to the folder.
    """
    folder = Path(path).expanduser()
    wrong = sorted(set(settings) & set(_OURS))
    if wrong:
        raise TypeError(f"{wrong} cannot be set when loading: they come from the folder")
    check_folder(folder, _KIND, _ROUTER, sha256)
    body = read_json(folder, _ROUTER)
    records = _records(folder, body)
    try:
        missing = sorted(name for name in body["given"] if settings.get(name) is None)
        chosen = {**{name: body["settings"][name] for name in _SAVED if name != "score"}, **settings}
        chosen.setdefault("score", body["settings"]["score"])
        threshold = body["threshold"]
        has_pruner = body["pruner"] is True
        scored = body.get("scored") is True and settings.get("score") is None
    except (KeyError, TypeError, AttributeError) as error:
        raise SavedRouterError(_DAMAGED.format(folder / _ROUTER)) from error
    if missing:
        raise SavedRouterError(
            f"{folder} was saved with {missing} set: pass them, since functions and what names `large` are not saved"
        )
    if scored:
        chosen["score"] = load_score(folder / _SCORE, **(score_options or {}))
    _check_names(folder, records, small, options)
    if has_pruner:
        _check_pruner(large, _read_pruner(folder), folder)
    models = _read_all(folder, records, small, options)
    held: Any = Certificate.from_json(folder / _CERTIFICATE) if threshold == "certificate" else threshold
    return ConfidenceRouter(small=models, large=large, threshold=held, **chosen)


def load_small_models(
    path: str | Path,
    *,
    small: Mapping[str, SmallModel] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    sha256: str | None = None,
) -> tuple[list[SmallModel], Certificate | None]:
    """Read only the small models of a saved router, and its certificate where it has one; no large chain is needed.

    Args:
        path: The folder.
        small: As in `load_router`.
        options: As in `load_router`.
        sha256: What `save_router` returned.

    Example:
        ```python
        models, certificate = load_small_models("routers/intents")
        ```
    """
    folder = Path(path).expanduser()
    held = _CERTIFICATE in check_folder(folder, _KIND, _ROUTER, sha256)
    records = _records(folder, read_json(folder, _ROUTER))
    _check_names(folder, records, small, options)
    models = _read_all(folder, records, small, options)
    return models, Certificate.from_json(folder / _CERTIFICATE) if held else None


def load_any_small_model(
    path: str | Path, options: Mapping[str, Any] | None = None
) -> tuple[SmallModel, Certificate | None]:
    """Read a small model from the folder of its `save`, or of a saved router with only one; code is never run.

    Returns:
        The small model, and the router's certificate where there is one.

    Raises:
        SavedRouterError: If the folder is neither, or of a router with several small models.
        ValueError: As `load`.

    Example:
        ```python
        model, certificate = load_any_small_model("models/intents")
        ```
    """
    folder = Path(path).expanduser()
    if (folder / _MANIFEST).exists():
        check_folder(folder, _KIND, _ROUTER, None)
        records = _records(folder, read_json(folder, _ROUTER))
        if len(records) != 1:
            names = [record.name for record in records]
            raise SavedRouterError(
                f"{folder} is a router with several small models, {names}: save the one to take on its own"
            )
        chosen = {records[0].name: options} if options else None
        models, certificate = load_small_models(folder, options=chosen)
        return models[0], certificate
    if not folder.is_dir():
        _refuse(folder, "there is no such folder")
    if not (folder / SETTINGS).is_file():
        _refuse(
            folder, f"it holds neither a saved router nor a saved small model: {_MANIFEST} or {SETTINGS} is missing"
        )
    kind = read_json(folder, SETTINGS).get("kind")
    if kind not in KINDS:
        _refuse(folder, f"it names a kind of small model that this version does not know: {kind!r}")
    model: SmallModel = KINDS[kind].load(folder, **(options or {}))
    return model, None


def load_pruner(path: str | Path, *, sha256: str | None = None) -> PromptPruner:
    """Read the prompt pruner of a saved router, to build the large chain with.

    Raises:
        SavedRouterError: If the folder is not a whole, unchanged saved router, or has no pruner.

    Example:
        ```python
        large = load_pruner("routers/intents").chain(ChatOpenAI())
        router = load_router("routers/intents", large=large)
        ```
    """
    folder = Path(path).expanduser()
    if _PRUNER not in check_folder(folder, _KIND, _ROUTER, sha256):
        raise SavedRouterError(f"{folder} holds no pruner")
    return _read_pruner(folder)


# --- writing --------------------------------------------------------------------------------------------------------


class SmallRecord(NamedTuple):
    """What is said in JSON about one small model in a folder."""

    name: str
    kind: str | None
    """None: it has no files, and is given when loading."""
    version: str
    own: str
    """The version that it computes of itself, whatever version it was given."""
    labels: list[str]


def _check_place(place: Path) -> None:
    if not place.exists():
        return
    if place.is_dir():
        if not any(place.iterdir()):
            return
        try:
            known = read_json(place, _MANIFEST).get("kind") == _KIND
        except SavedRouterError:
            known = False
        if known:
            return
    raise FileExistsError(f"{place} exists and is no saved router: choose another folder")


def _write_parts(router: ConfidenceRouter, folder: Path, pruner: PromptPruner | None, *, encoders: bool | None) -> None:
    records = []
    for number, (name, model) in enumerate(zip(router.small_names, router.small_models, strict=True)):
        records.append(write_small(model, name, _folder_of(folder, number), encoders=encoders)._asdict())
    given = [name for name in _FUNCTIONS if callable(getattr(router, name))]
    scored = isinstance(router.score, ReadyScore)
    if scored:
        router.score.save(folder / _SCORE)
    elif callable(router.score):
        given.append("score")
    if router.version is not None:  # says what the large chain is, so it comes with that
        given.append("version")
    settings = {name: getattr(router, name) for name in _SAVED}
    settings["never_local"] = list(router.never_local)
    if callable(router.score):
        settings["score"] = None
    threshold: Any = "certificate"
    if router.certificate is None:
        numbers = read_thresholds(router.threshold, router.small_names)
        threshold = {
            name: number if math.isfinite(number) else None
            for name, number in zip(router.small_names, numbers, strict=True)
        }
    else:
        write_text(folder / _CERTIFICATE, router.certificate.to_json())
    if pruner is not None:
        write_text(folder / _PRUNER, _pruner_text(pruner))
    body = {
        "format": _FORMAT,
        "settings": settings,
        "given": given,
        "scored": scored,
        "threshold": threshold,
        "small": records,
        "pruner": pruner is not None,
    }
    write_text(folder / _ROUTER, to_json(body))


def write_small(model: SmallModel, name: str, where: Path, *, encoders: bool | None) -> SmallRecord:
    """Save a small model, where its kind has files, and return what is to be remembered about it."""
    kind = type(model).__name__ if type(model) in KINDS.values() else None
    if kind is not None:
        (model if model.name == name else model.model_copy(update={"name": name})).save(where)
        if isinstance(model, SentenceClassifier):
            _copy_encoder(model.encoder, where / _ENCODER, wanted=encoders)
    return SmallRecord(name, kind, model.version, _own(model), model.labels)


def _folder_of(folder: Path, number: int) -> Path:
    return folder / "small" / str(number)


def _own(model: SmallModel) -> str:
    copy = model.model_copy()
    copy.set_version(None)
    return copy.version


def _copy_encoder(encoder: Any, goal: Path, *, wanted: bool | None) -> None:
    """Copy what decides the vectors: the files that an encoder's version is made of."""
    if not isinstance(encoder, Encoder):
        return
    if wanted is None:
        wanted = Path(encoder.name).expanduser().is_dir()
    if not wanted:
        return
    source = encoder.path
    for file in sorted(source.rglob("*")):
        if file.is_file() and file.suffix in {".safetensors", ".json", ".txt", ".model"}:
            target = goal / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)  # also where it is a link, as in the hub's cache


def write_folder(place: Path, kind: str, write: Callable[[Path], None]) -> str:
    """Write a folder as a whole or not at all, with a manifest; return the manifest's SHA-256."""

    def fill(folder: Path) -> str:
        write(folder)
        return _write_manifest(folder, kind)

    return replace_folder(place, fill)


def _write_manifest(folder: Path, kind: str) -> str:
    files = {name: _entry(folder / name) for name in sorted(_list(folder))}
    text = to_json({"format": _FORMAT, "kind": kind, "files": files})
    write_text(folder / _MANIFEST, text)
    return hashlib.sha256(text.encode()).hexdigest()


def _entry(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)}


def to_json(body: Any) -> str:
    """A file's JSON text."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_text(file: Path, text: str) -> None:
    """A file of a folder that `write_folder` puts in its place, and makes durable, as a whole."""
    file.write_bytes(text.encode())


# --- reading --------------------------------------------------------------------------------------------------------


def _list(folder: Path) -> Iterator[str]:
    """Every file below a folder, as a relative name with slashes; a link or a device is an error."""
    with os.scandir(folder) as entries:
        found = list(entries)
    for entry in found:
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from (f"{entry.name}/{name}" for name in _list(Path(entry.path)))
        elif stat.S_ISREG(mode):
            yield entry.name
        else:
            _refuse(folder, f"{entry.name} is no plain file")


def _refuse(folder: Path, why: str) -> NoReturn:
    raise SavedRouterError(f"{folder} is refused: {why}")


def check_folder(folder: Path, kind: str, needs: str, sha256: str | None) -> frozenset[str]:
    """Compare every file of a folder with its manifest; return their names.

    Args:
        folder: What `write_folder` wrote.
        kind: What the manifest must say it is.
        needs: A file that must be listed.
        sha256: What `write_folder` returned, if known.

    Raises:
        SavedRouterError: If one is missing, changed, cut off or not listed, or it is another kind of folder.
    """
    if not folder.is_dir():
        _refuse(folder, "there is no such folder")
    manifest = folder / _MANIFEST
    if not manifest.is_file() or manifest.is_symlink():
        _refuse(folder, f"it has no {_MANIFEST}: it is no {_word(kind)}, or was only half written")
    body = read_json(folder, _MANIFEST)
    if body.get("kind") != kind:
        _refuse(folder, f"{_MANIFEST} is not that of a {_word(kind)}")
    if body.get("format") != _FORMAT:
        _refuse(folder, f"it has format {body.get('format')!r}; this version reads {_FORMAT}")
    if sha256 is not None and hashlib.sha256(manifest.read_bytes()).hexdigest() != sha256.lower():
        _refuse(folder, f"{_MANIFEST} is not the one with this `sha256`")
    wanted = body.get("files")
    if not isinstance(wanted, dict) or needs not in wanted:
        _refuse(folder, f"{_MANIFEST} is damaged")
    found = set(_list(folder)) - {_MANIFEST}
    if missing := sorted(wanted.keys() - found):
        _refuse(folder, f"{missing[:5]} are missing")
    if extra := sorted(found - wanted.keys()):
        _refuse(folder, f"{extra[:5]} are not in {_MANIFEST}")
    changed = [name for name in sorted(wanted) if _entry(folder / name) != wanted[name]]
    if changed:
        _refuse(folder, f"{changed[:5]} have been changed, or were only half written: the SHA-256 differs")
    return frozenset(wanted)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """What `to_json` wrote into a file of a saved folder."""
    try:
        with (folder / name).open("rb") as file:
            text = file.read(_LARGEST_MANIFEST + 1)
        body = load_json(text) if len(text) <= _LARGEST_MANIFEST else None
    except (OSError, ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        _refuse(folder, f"{name} is damaged")
    return body


_DAMAGED = "{} is damaged: a part is missing or of the wrong kind. Save the router again"


def _word(kind: str) -> str:
    return f"saved {kind.removeprefix('langchain-dsplus ')}"


def _records(folder: Path, body: Mapping[str, Any]) -> list[SmallRecord]:
    try:
        return [SmallRecord(**record) for record in body["small"]]
    except (KeyError, TypeError) as error:
        raise SavedRouterError(_DAMAGED.format(folder / _ROUTER)) from error


def _check_names(
    folder: Path,
    records: list[SmallRecord],
    small: Mapping[str, SmallModel] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
) -> None:
    names = [record.name for record in records]
    strange = sorted({*(small or {}), *(options or {})} - set(names))
    if strange:
        raise SavedRouterError(f"`small` or `options` name {strange}; the small models in {folder} are {names}")


def _read_all(
    folder: Path,
    records: list[SmallRecord],
    small: Mapping[str, SmallModel] | None,
    options: Mapping[str, Mapping[str, Any]] | None,
) -> list[SmallModel]:
    return [
        read_small(
            folder,
            _folder_of(folder, number),
            record,
            (small or {}).get(record.name),
            (options or {}).get(record.name) or {},
        )
        for number, record in enumerate(records)
    ]


def read_small(
    folder: Path, where: Path, record: SmallRecord, given: SmallModel | None, options: Mapping[str, Any]
) -> SmallModel:
    """Read what `write_small` wrote, or check what is given in its place.

    Args:
        folder: The whole, for messages.
        where: The small model's own folder.
        record: What `write_small` returned.
        given: The model itself, where it has no files.
        options: Of the model's `load`.

    Raises:
        SavedRouterError: If something does not fit.
    """
    if given is not None or record.kind is None:
        if given is None:
            raise SavedRouterError(
                f"small model {record.name!r} has no files of its own: pass it as `small={{{record.name!r}: ...}}`"
            )
        if record.kind is not None or options:
            raise SavedRouterError(
                f"small model {record.name!r} is in the folder: do not pass it, or pass no `options` for it"
            )
        return _checked(given, record)
    if record.kind not in KINDS:
        _refuse(folder, f"it names a kind of small model that this version does not know: {record.kind!r}")
    chosen = dict(options)
    if (where / _ENCODER).is_dir():
        chosen.setdefault("encoder", where / _ENCODER)
    model: SmallModel = KINDS[record.kind].load(where, **chosen)
    if model.labels != record.labels or model.name != record.name:
        _refuse(folder, f"the record and the files of small model {record.name!r} do not belong together")
    own = model.version
    if record.own != own and UNVERIFIABLE not in (record.own, own):
        warnings.warn(
            f"small model {record.name!r} is not quite the one that was saved: other code, or another version of a "
            "library. Measure again before you rely on its threshold",
            stacklevel=4,
        )
    elif record.version not in (own, UNVERIFIABLE):
        model.set_version(record.version)  # a version of the user's own
    return model


def _checked(given: SmallModel, record: SmallRecord) -> SmallModel:
    """Compare a small model that is given with the one that was saved."""
    if list(given.labels) != list(record.labels):
        raise SavedRouterError(f"small model {record.name!r} has other labels than when the router was saved")
    if given.version != record.version and UNVERIFIABLE not in (given.version, record.version):
        raise SavedRouterError(
            f"small model {record.name!r} is another one than when the router was saved: its `version` differs"
        )
    return given if given.name == record.name else given.model_copy(update={"name": record.name})


# --- the pruner -----------------------------------------------------------------------------------------------------


def _pruner_text(pruner: PromptPruner) -> str:
    """A pruner as JSON, after a look whether it can be read again."""
    from langchain_core.load import dumpd

    body = dumpd(pruner)
    try:
        same = _revive(body) == pruner
    except Exception:  # noqa: BLE001
        same = False
    if not same:
        raise ValueError(
            "the pruner cannot be saved: its prompt must be made of text templates in f-string or mustache form, "
            "messages and placeholders, without functions"
        )
    return to_json(body)


def _read_pruner(folder: Path) -> PromptPruner:
    try:
        pruner = _revive(read_json(folder, _PRUNER))
    except Exception as error:
        raise SavedRouterError(f"{folder / _PRUNER} is damaged, or of another version: it is no pruner") from error
    return pruner


def _revive(body: Any) -> PromptPruner:
    """Make a pruner of JSON; nothing but templates and messages can come of it."""
    from langchain_core import messages, prompts
    from langchain_core._api import LangChainBetaWarning
    from langchain_core.load import load

    allowed: list[Any] = [
        PromptPruner,
        prompts.ChatPromptTemplate,
        prompts.PromptTemplate,
        prompts.MessagesPlaceholder,
        prompts.HumanMessagePromptTemplate,
        prompts.SystemMessagePromptTemplate,
        prompts.AIMessagePromptTemplate,
        prompts.ChatMessagePromptTemplate,
        messages.HumanMessage,
        messages.SystemMessage,
        messages.AIMessage,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        found = load(body, allowed_objects=allowed, valid_namespaces=["langchain_dsplus"], secrets_from_env=False)
    if not isinstance(found, PromptPruner):
        raise TypeError("it is no pruner")
    return found


def _check_pruner(large: Any, saved: PromptPruner, folder: Path) -> None:
    """Refuse a large chain whose pruner is another one. In functions and graphs none can be seen."""
    found = _unique_pruners(large)
    if found and saved not in found:
        raise SavedRouterError(
            f"the pruner in `large` is not the one saved in {folder}: build the chain with load_pruner(path), or save "
            "the router again"
        )


def _unique_pruners(large: Any) -> list[PromptPruner]:
    unique: list[PromptPruner] = []
    for pruner in _pruners(large, set(), 0):
        if pruner not in unique:
            unique.append(pruner)
    return unique


def _pruners(value: Any, seen: set[int], depth: int) -> Iterator[PromptPruner]:
    if depth > 20 or id(value) in seen:
        return
    if isinstance(value, PromptPruner):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _pruners(item, seen, depth + 1)
    elif isinstance(value, Mapping):
        yield from _pruners(list(value.values()), seen, depth + 1)
    elif isinstance(value, Runnable) and isinstance(value, BaseModel):
        seen.add(id(value))
        for name in type(value).model_fields:
            yield from _pruners(getattr(value, name, None), seen, depth + 1)
