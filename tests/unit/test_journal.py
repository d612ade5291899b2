"""Lines that outlive a crash: whatever is cut off, nothing whole is lost and nothing half is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_dsplus import _journal
from langchain_dsplus._journal import Journal, append_lines, parse_line, to_line

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ENTRIES = st.lists(st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.none())), min_size=1, max_size=5)


@given(entries=ENTRIES, data=st.data())
def test_a_file_cut_anywhere_goes_on(tmp_path_factory, entries, data):
    path = tmp_path_factory.mktemp("j") / "deep" / "journal.jsonl"
    Journal(path).append(*entries)
    body = path.read_bytes()
    cut = data.draw(st.integers(0, len(body)))
    path.write_bytes(body[:cut])
    whole = [entry for n, entry in enumerate(entries, 1) if len(b"".join(map(to_line, entries[:n]))) - 1 <= cut]
    again = Journal(path)
    assert path.read_bytes() == body[:cut], "reading changes nothing"
    assert again.entries == whole
    again.append({"new": 1})
    again.append({"new": 2})
    assert again.entries == Journal(path).entries == [*whole, {"new": 1}, {"new": 2}]
    assert path.read_bytes() == b"".join(map(to_line, [*whole, {"new": 1}, {"new": 2}]))


@pytest.mark.parametrize("line", [b"", b"5", b"[]", b'"a"', b'{"a": NaN}', b'{"a": 1', b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_object_is_none(tmp_path, line):
    assert parse_line(line) is None
    path = tmp_path / "journal.jsonl"
    path.write_bytes(to_line({"a": 1}) + line + b"\n" + to_line({"b": 2}))
    assert Journal(path).entries == [{"a": 1}, None, {"b": 2}]


@pytest.mark.parametrize("where", ["write", "fsync"])
def test_an_entry_that_could_not_be_written_leaves_no_trace(tmp_path, monkeypatch, where):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"a": 1})
    write = os.write

    def fail(file, data=b""):
        if where == "write":
            write(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, where, fail)
    with pytest.raises(OSError, match="No space"):
        journal.append({"b": 2}, {"c": 3})
    monkeypatch.undo()
    assert Journal(journal.path).entries == journal.entries == [{"a": 1}]
    journal.append({"d": 4})
    assert Journal(journal.path).entries == [{"a": 1}, {"d": 4}]


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        journal.append({"a": 1}, {"b": float("nan")})
    assert not journal.path.exists()


def test_a_killed_process_keeps_what_was_appended(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from langchain_dsplus._journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.append({'a': 1}); journal.append({'b': 2}); os._exit(9)"
    )
    path = tmp_path / "journal.jsonl"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert Journal(path).entries == [{"a": 1}, {"b": 2}]


def test_threads_share_one(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    threads = [threading.Thread(target=journal.append, args=({"n": n}, {"n": n})) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [entry["n"] for entry in Journal(journal.path).entries]
    assert sorted(found[::2]) == list(range(12))
    assert found[::2] == found[1::2], "what is appended together stands together"


@pytest.mark.parametrize(("there", "ended"), [(b"", b""), (b"whole\n", b""), (b"cut", b"\n")])
def test_lines_begin_on_a_line_of_their_own(tmp_path, there, ended):
    path = tmp_path / "lines"
    path.write_bytes(there)
    with path.open("a+b", buffering=0) as opened:
        end = append_lines(opened.fileno(), b"one\n")
        assert append_lines(opened.fileno(), b"two\n", end) == end + 4
    assert path.read_bytes() == there + ended + b"one\ntwo\n"


def test_nobody_else_mends_lines_that_were_cut_off():
    for path in Path(_journal.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "_journal.py":
            for sign in ("os.pread(", 'rfind(b"\\n")', ".truncate("):
                assert sign not in text, f"{path}: {sign}"


@given(st.text())
def test_any_text_makes_a_line(text):
    line = to_line({"text": text})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["text"] == text.encode("utf-8", "replace").decode()
