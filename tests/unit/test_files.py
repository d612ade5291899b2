"""A file or folder is there as a whole: what stood there before stays until the new one is on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus import _files
from langchain_dsplus._files import leftovers, replace_file, replace_folder, replacing, sha256_of


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@given(st.one_of(st.binary(), st.text()))
def test_what_was_written_is_read(tmp_path_factory, body):
    path = tmp_path_factory.mktemp("f") / "file"
    for _ in range(2):
        replace_file(path, body)
        assert path.read_bytes() == (body if isinstance(body, bytes) else body.encode())
    assert names(path.parent) == ["file"]
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@given(st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDBFF), min_size=1))
def test_half_a_surrogate_pair_comes_back_out_of_json(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("f") / "file.json"
    replace_file(path, json.dumps(text, ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == text


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("not this")])
@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("where", ["writing", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch, error, before, where):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def fail(*_):
        raise error

    if where != "writing":
        monkeypatch.setattr(*((os, "fsync", fail) if where == "fsync" else (Path, "replace", fail)))

    def write():
        with replacing(path) as file:
            file.write("new")
            if where == "writing":
                fail()

    with pytest.raises(type(error)):
        write()
    assert (path.read_bytes() if path.exists() else None) == before
    assert leftovers(tmp_path) == []


def test_a_killed_process_leaves_the_old_one_and_something_to_sweep(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import os, sys; from langchain_dsplus._files import replacing\n"
        "with replacing(sys.argv[1]) as file: file.write('half'); file.flush(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"
    (left,) = leftovers(tmp_path)
    assert left.read_text() == "half"


@pytest.mark.parametrize(("durable", "synced"), [(True, 2), (False, 0)])
def test_file_and_folder_wait_for_the_disk(tmp_path, monkeypatch, durable, synced):
    seen = []
    monkeypatch.setattr(os, "fsync", seen.append)
    replace_file(tmp_path / "file", "x", durable=durable)
    assert len(seen) == synced


def test_two_writers_have_two_temporary_files(tmp_path):
    with replacing(tmp_path / "file") as one, replacing(tmp_path / "file") as other:
        assert one.name != other.name
        one.write("one")
        other.write("other")
    assert (tmp_path / "file").read_text() == "one"
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")
def test_permissions_links_and_pipes(tmp_path):
    private = tmp_path / "private"
    replace_file(private, "x", mode=0o600)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    private.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(private)
    replace_file(link, "y")
    assert link.is_symlink()
    assert (private.read_text(), stat.S_IMODE(private.stat().st_mode)) == ("y", 0o640)
    replace_file("/dev/null", "z")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("name", ["file", "n" * 200])
def test_an_error_names_the_file_that_was_asked_for(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(tmp_path / "missing" / name, "x")
    assert caught.value.filename == str(tmp_path / "missing" / name)


# --- folders ----------------------------------------------------------------------------------------------------


def fill(text):
    def write(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)
        return text

    return write


def test_a_folder_takes_the_place_of_the_one_before(tmp_path):
    place = tmp_path / "a" / "b"
    for text in ("one", "two"):
        assert replace_folder(place, fill(text)) == text
        assert (place / "deep" / "file").read_text() == text
        assert names(place.parent) == ["b"]


@pytest.mark.parametrize("where", ["filling", "fsync", "rename"])
@pytest.mark.parametrize("before", [False, True])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path, monkeypatch, where, before):
    place = tmp_path / "folder"
    if before:
        replace_folder(place, fill("old"))

    def fail(*_):
        raise OSError(28, "No space left on device")

    def write(folder):
        fill("new")(folder)
        if where == "filling":
            fail()

    rename = Path.rename
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    if where == "rename":
        monkeypatch.setattr(Path, "rename", lambda self, to: fail() if _files.MARK in self.name else rename(self, to))
    with pytest.raises(OSError, match="No space"):
        replace_folder(place, write)
    assert names(tmp_path) == ["folder"] * before
    if before:
        assert (place / "deep" / "file").read_text() == "old"


def test_nothing_else_in_the_package_puts_files_in_their_place():
    """One home: whoever needs it imports it. A key that the first of several processes makes is another matter."""
    root = Path(_files.__file__).parent
    told = {
        "_files.py": "all",
        "outcomes/uses.py": "first one wins",
        "weights.py": "moves",
        "demo/packages.py": "moves",
    }
    for path in root.rglob("*.py"):
        if path.relative_to(root).as_posix() not in told:
            text = path.read_text(encoding="utf-8")
            for sign in ("os.replace(", "mkstemp(prefix=f", ".write_text(text", 'with_name(f".'):
                assert sign not in text, f"{path}: {sign}"
