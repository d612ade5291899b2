"""Where weights come from: your own path, the cache, the hub, a registered source. Nothing is downloaded."""

from __future__ import annotations

import errno
import hashlib
import re
import socket
import time
from pathlib import Path

import pytest

from langchain_dsplus import weights
from langchain_dsplus.weights import (
    Artifact,
    CorruptError,
    File,
    SourceError,
    WeightsError,
    cached_path,
    known_name,
    pull,
    register_source,
    resolve,
)

GGUF = b"GGUF" + bytes(range(256)) * 40
ENCODER = {"model.safetensors": b"S" * 500, "1_Pooling/config.json": b'{"pool": 1}', "config.json": b"{}"}


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DSPLUS_OFFLINE", raising=False)
    return tmp_path / "cache"


class Shop:
    """A source in memory: artefact name -> what `fetch` puts there, in turn: contents by file name, or an error."""

    name = "shop"

    def __init__(self):
        self.stock = {}
        self.calls = []

    def find(self, artifact):
        return None

    def fetch(self, wanted):
        name = wanted.artifact.name
        self.calls.append(name)
        had = self.stock[name].pop(0) if len(self.stock[name]) > 1 else self.stock[name][0]
        if isinstance(had, BaseException):
            raise had
        for path, content in had.items():
            (wanted.ready / path).parent.mkdir(parents=True, exist_ok=True)
            (wanted.ready / path).write_bytes(content)


@pytest.fixture
def shop(monkeypatch):
    """Empty shelves, and no other source but the hub."""
    made = Shop()
    monkeypatch.setattr(weights, "_SOURCES", {"hub": weights._SOURCES["hub"]})
    monkeypatch.setattr(weights, "_REGISTRY", dict(weights._REGISTRY))
    register_source(made)
    return made


@pytest.fixture
def toy(shop):
    """A GGUF in the shop, and on a hub that is not there (`HF_HUB_OFFLINE` is set in every test)."""
    shop.stock["toy-0.1b"] = [{"toy.gguf": GGUF}]
    artifact = Artifact(
        name="toy-0.1b",
        title="Toy",
        kind="gguf",
        license="MIT",
        files=(File("toy.gguf", len(GGUF), sha(GGUF)),),
        hub_repo="toys/Toy-GGUF",
        hub_revision="0" * 40,
        aliases=("toy",),
    )
    register_source(shop, artifact)
    return artifact


@pytest.fixture
def encoder(shop):
    """A folder, on the hub alone."""
    shop.stock["toy-encoder"] = [SourceError("not here")]
    files = tuple(File(n, len(d), sha(d)) for n, d in ENCODER.items())
    register_source(shop, Artifact("toy-encoder", "E", "encoder", files, "MIT", hub_repo="toys/encoder"))


@pytest.fixture
def hub(monkeypatch):
    """A hub that can be reached; returns a dict path -> content or exception, and counts."""
    files = {}
    calls = []

    def fetch(repo, path, revision, folder, progress):
        calls.append((repo, path, revision))
        content = files[path]
        if isinstance(content, list):
            content = content.pop(0)
        if isinstance(content, BaseException):
            raise content
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    monkeypatch.setattr(weights, "_hub_unreachable", lambda: None)
    monkeypatch.setattr(weights, "_hub_file", fetch)
    files["calls"] = calls
    return files


# --- the user's own path, names ---------------------------------------------------------------------------------


def test_a_path_of_ones_own_is_taken_as_it_is(tmp_path, shop, toy):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"anything")
    assert resolve(mine) == resolve(str(mine)) == mine
    assert shop.calls == []


def test_the_environment_variable_wins_over_everything(tmp_path, monkeypatch, shop, toy):
    pull("toy")
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"anything")
    assert toy.env == "DSPLUS_TOY_0_1B_PATH"
    monkeypatch.setenv(toy.env, str(mine))
    assert resolve("toy") == cached_path("toy") == pull("toy") == mine
    monkeypatch.setenv(toy.env, str(tmp_path / "gone"))
    with pytest.raises(WeightsError, match=f"{toy.env} is set, but there is nothing"):
        resolve("toy")


@pytest.mark.parametrize("name", ["toy-0.1b", "TOY-0.1B", "toy", "toys/Toy-GGUF"])
def test_names_and_aliases(name, shop, toy):
    assert known_name(name) == "toy-0.1b"
    assert resolve(name).read_bytes() == GGUF


@pytest.mark.parametrize("name", ["nope", "/no/such/file.gguf", ""])
def test_an_unknown_name_lists_the_known_ones(name, toy):
    assert known_name(name) is None
    with pytest.raises(WeightsError, match=r"neither a path that exists nor a known name.*minilm.*toy-0\.1b"):
        resolve(name)
    with pytest.raises(WeightsError):
        cached_path(name)


# --- sources ----------------------------------------------------------------------------------------------------


def test_what_a_source_brings_is_checked_and_kept(shop, toy, cache, capsys):
    path = resolve("toy")
    assert path == cache / "models" / "toy-0.1b" / "toy.gguf"
    assert path.read_bytes() == GGUF
    assert resolve("toy") == path
    assert shop.calls == ["toy-0.1b"], "the second call must use the cache"
    assert not (cache / "partial" / "toy-0.1b").exists(), "nothing is left over"
    said = capsys.readouterr().err
    assert "10 kB, MIT" in said
    assert "HF_HUB_OFFLINE is set" in said


BAD = [{"toy.gguf": GGUF[:-1]}, {"toy.gguf": GGUF[:-1] + b"?"}, {}, {"other": GGUF}, CorruptError("bad block")]


@pytest.mark.parametrize("bad", BAD)
def test_other_bytes_are_fetched_once_more_and_then_refused(bad, shop, toy, cache):
    shop.stock["toy-0.1b"] = [bad, {"toy.gguf": GGUF}]
    assert resolve("toy").read_bytes() == GGUF
    resolve("toy").unlink()
    shop.stock["toy-0.1b"], shop.calls = [bad], []
    with pytest.raises(WeightsError, match=r"shop: .*, twice"):
        resolve("toy")
    assert shop.calls == ["toy-0.1b"] * 2, "once more, and not for ever"
    assert cached_path("toy") is None
    assert not list((cache / "models").rglob("*.gguf"))


@pytest.mark.parametrize("error", [SourceError("sold out"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_source_that_does_not_work_is_named_with_its_reason(error, shop, toy):
    shop.stock["toy-0.1b"] = [error]
    with pytest.raises(WeightsError, match=r"shop: .*(sold out|No space left)"):
        resolve("toy")


def test_a_source_of_the_same_name_takes_the_place(shop, toy):
    other = Shop()
    other.stock["toy-0.1b"] = [{"toy.gguf": GGUF}]
    register_source(other)
    resolve("toy")
    assert (shop.calls, other.calls) == ([], ["toy-0.1b"])


def test_what_a_source_has_already_is_not_fetched(shop, toy, monkeypatch, tmp_path):
    monkeypatch.setattr(Shop, "find", lambda self, artifact: tmp_path)
    assert cached_path("toy") == resolve("toy") == pull("toy") == tmp_path
    assert shop.calls == []


# --- the cache --------------------------------------------------------------------------------------------------


def test_a_file_of_the_wrong_size_in_the_cache_does_not_count(shop, toy):
    path = resolve("toy")
    path.write_bytes(GGUF[:-1])
    assert cached_path("toy") is None
    assert resolve("toy").read_bytes() == GGUF


def test_pull_checks_what_is_there_and_repairs_it(shop, toy, capsys):
    path = resolve("toy")
    path.write_bytes(GGUF[:-1] + b"?")
    assert cached_path("toy") == path, "the size is right; only pull reads every byte"
    shop.calls.clear()
    capsys.readouterr()
    assert pull("toy").read_bytes() == GGUF
    assert shop.calls == ["toy-0.1b"]
    assert "damaged (the SHA-256 of toy.gguf is not the pinned one)" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_nothing_is_fetched_where_that_is_switched_off(how, shop, toy, hub, monkeypatch):
    if how == "environment":
        monkeypatch.setenv("DSPLUS_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"download(s are switched off|: DSPLUS_OFFLINE is set)"):
        resolve("toy", download=how == "environment")
    assert shop.calls == hub["calls"] == []


# --- the hub ----------------------------------------------------------------------------------------------------


def test_the_hub_comes_first(shop, toy, hub):
    hub["toy.gguf"] = GGUF
    assert resolve("toy").read_bytes() == GGUF
    assert hub["calls"] == [("toys/Toy-GGUF", "toy.gguf", "0" * 40)]
    assert shop.calls == []


def test_a_damaged_file_from_the_hub_is_fetched_once_more(shop, toy, hub, capsys):
    hub["toy.gguf"] = [GGUF[:-1], GGUF]
    assert resolve("toy").read_bytes() == GGUF
    assert len(hub["calls"]) == 2
    assert shop.calls == []
    assert "toy.gguf has 10,243 bytes, expected 10,244; fetching it once more" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b"changed", OSError("reset by peer\nlong story"), RuntimeError("gated")])
def test_where_the_hub_fails_the_next_source_follows(answer, shop, toy, hub, capsys):
    hub["toy.gguf"] = answer
    assert resolve("toy").read_bytes() == GGUF
    assert shop.calls == ["toy-0.1b"]
    said = capsys.readouterr().err
    assert re.search(r"hub: .*(twice|reset by peer|gated)", said)
    assert "long story" not in said


def test_everything_fails_and_the_error_lists_it(shop, toy, hub):
    hub["toy.gguf"] = OSError("no route")
    shop.stock["toy-0.1b"] = [SourceError("no match")]
    with pytest.raises(
        WeightsError, match=r"(?s)your own path.*cache:.*hub: toy\.gguf: OSError: no route.*no match"
    ) as e:
        resolve("toy")
    text = str(e.value)
    assert "DSPLUS_TOY_0_1B_PATH is not set" in text
    assert "huggingface.co/toys/Toy-GGUF" in text
    assert "dsplus models pull toy-0.1b" in text


def test_the_offline_switch_of_the_hub(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights._hub_unreachable() == "HF_HUB_OFFLINE is set"


@pytest.mark.parametrize("listening", [False, True])
def test_a_hub_that_is_away_or_silent_is_given_up_quickly(listening, monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(weights, "_HUB_PATIENCE", 0.3)
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        if listening:
            place.listen()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{place.getsockname()[1]}")
        start = time.monotonic()
        reason = weights._hub_unreachable()
        assert time.monotonic() - start < 3.0
    assert reason is not None
    assert "answer" in reason


def test_a_hub_that_answers_is_used(monkeypatch, httpserver):
    pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    httpserver.expect_request("/").respond_with_data("no such page", status=404)
    monkeypatch.setenv("HF_ENDPOINT", httpserver.url_for("").rstrip("/"))
    assert weights._hub_unreachable() is None


def test_an_endpoint_must_be_http(monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert weights._hub_unreachable() == "HF_ENDPOINT is not an http(s) address"


def test_every_file_from_the_hub_is_compared_with_its_pin(encoder, hub):
    """Small settings files too: no commit stands for bytes."""
    hub |= {**ENCODER, "config.json": b'{"newer": true}'}
    with pytest.raises(WeightsError, match=r"config\.json has 15 bytes, expected 2, twice"):
        resolve("toy-encoder")
    hub |= ENCODER
    folder = resolve("toy-encoder")
    assert {name: (folder / name).read_bytes() for name in ENCODER} == ENCODER
    assert cached_path("toy-encoder") == pull("toy-encoder") == folder


def test_files_that_came_from_the_hub_before_a_cut_are_kept(encoder, hub):
    hub |= {**ENCODER, "config.json": [KeyboardInterrupt(), ENCODER["config.json"]]}
    with pytest.raises(KeyboardInterrupt):
        resolve("toy-encoder")
    assert cached_path("toy-encoder") is None
    hub["calls"].clear()
    resolve("toy-encoder")
    assert [path for _, path, _ in hub["calls"]] == ["config.json"]


@pytest.mark.parametrize("progress", [False, True])
def test_the_hub_is_asked_for_the_pinned_commit(monkeypatch, tmp_path, progress):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    utils = pytest.importorskip("huggingface_hub.utils")
    before = utils.are_progress_bars_disabled()
    asked = []

    def fetch(repo, path, **kwargs):
        asked.append((repo, path, kwargs))
        assert utils.are_progress_bars_disabled() == (before or not progress)
        return str(tmp_path / path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert weights._hub_file("toys/a", "b.gguf", "c" * 40, tmp_path, progress) == tmp_path / "b.gguf"
    settings = {"revision": "c" * 40, "local_dir": tmp_path, "etag_timeout": weights._HUB_PATIENCE}
    assert asked == [("toys/a", "b.gguf", settings)]
    assert utils.are_progress_bars_disabled() == before


# --- the registry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("artifact", weights.list_artifacts(), ids=lambda artifact: artifact.name)
def test_every_artefact_is_pinned(artifact):
    assert artifact.license
    pins = [file.sha256 for file in artifact.files]
    assert all(re.fullmatch(r"[0-9a-f]{64}", pin) for pin in pins)
    assert len(set(pins)) == len(pins)
    assert all(part.size > 0 for part in artifact.files)
    assert re.fullmatch(r"DSPLUS_[A-Z0-9_]+_PATH", artifact.env)
    assert not any(Path(file.path).is_absolute() or ".." in file.path for file in artifact.files)


def test_names_are_unique():
    every = [
        n.lower() for a in weights.list_artifacts() for n in (a.name, *a.aliases, *([a.hub_repo] * bool(a.hub_repo)))
    ]
    assert len(set(every)) == len(every)


def test_a_cache_that_cannot_be_written_is_named(shop, toy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("DSPLUS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot write to .*DSPLUS_CACHE"):
        pull("toy")
    assert shop.calls == []
