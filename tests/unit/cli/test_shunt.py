"""`dsplus work`, `status`, `report` and `check` on a shunt's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")
pytest.importorskip("sqlalchemy")

from typer.testing import CliRunner

from langchain_dsplus.cli import app
from langchain_dsplus.costs.prices import Price
from tests.unit.shunt.conftest import LABELS, World

RUN = CliRunner()


def run(*arguments: Any) -> Any:
    return RUN.invoke(app, [str(part) for part in arguments])


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A shunt that is live."""
    here = World(tmp_path_factory.mktemp("world"))
    with here.shunt(price=Price(1.0, 2.0)) as shunt:
        here.live(shunt)
    return here


def test_work_does_what_is_due_without_the_chain(tmp_path: Path) -> None:
    here = World(tmp_path)
    with here.shunt() as shunt:
        shunt.batch(here.texts(300))
        shunt.store.flush()
    done = run("work", tmp_path / "shunt")
    assert done.exit_code == 0, done.output
    assert "Trained version" in done.output
    again = run("work", tmp_path / "shunt")
    assert "Nothing was due" in again.output


def test_status_says_what_is_live(lived: World) -> None:
    folder = lived.folder / "shunt"
    found = run("status", folder)
    assert found.exit_code == 0, found.output
    for part in ("LIVE since", "Why not more", "Labels", " certified; error probability spent 0.0350", "Next:"):
        assert part in " ".join(found.output.split())
    body = json.loads(run("status", folder, "--json").output)
    assert body["live"] is True
    assert body["version"] >= 1


def test_report_is_a_page(lived: World, tmp_path: Path) -> None:
    found = run("report", lived.folder / "shunt", "-o", tmp_path / "page.html")
    assert found.exit_code == 0, found.output
    assert "what may stay local" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_check_is_quiet_where_nothing_has_moved(lived: World) -> None:
    found = run("check", lived.folder / "shunt")
    assert (found.exit_code, found.output.strip()) == (0, "Nothing has moved.")


def test_check_names_a_prompt_that_has_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    from langchain_dsplus.shunt import DataShunt

    def chain(words: str) -> Any:
        model = FakeListChatModel(responses=[LABELS[0]])
        return ChatPromptTemplate.from_messages([("human", words + " {text}")]) | model | StrOutputParser()

    here = World(tmp_path)
    DataShunt(chain("Which class?"), LABELS, tmp_path / "s", small=here.small(), background=False).close()
    monkeypatch.chdir(tmp_path)
    code = (
        "from langchain_core.language_models import FakeListChatModel\n"
        "from langchain_core.output_parsers import StrOutputParser\n"
        "from langchain_core.prompts import ChatPromptTemplate\n"
        "def make(words):\n"
        "    model = FakeListChatModel(responses=['refund'])\n"
        "    return ChatPromptTemplate.from_messages([('human', words + ' {text}')]) | model | StrOutputParser()\n"
        "same, other = make('Which class?'), make('Which of these?')\n"
    )
    (tmp_path / "mychains.py").write_text(code, encoding="utf-8")
    assert run("check", tmp_path / "s", "--chain", "mychains:same").exit_code == 0
    moved = run("check", tmp_path / "s", "--chain", "mychains:other")
    assert moved.exit_code == 1
    assert "MOVED prompt" in moved.output


@pytest.mark.parametrize("part", ["labels", "price", "model", "data"])
def test_check_names_what_has_moved(lived: World, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(lived.folder / "shunt", tmp_path / "shunt")
    options: list[Any] = []
    if part == "labels":
        (tmp_path / "labels.txt").write_text("\n".join([*LABELS, "other"]), encoding="utf-8")
        options = ["--labels", tmp_path / "labels.txt"]
    elif part == "price":
        options = ["--price-input", "3", "--price-output", "2"]
    elif part == "model":
        file = next(path for path in sorted((folder / "models").rglob("*.skops")) if path.is_file())
        for path in (folder / "models").rglob("*.skops"):
            path.write_bytes(file.read_bytes()[:-1])
    else:
        from langchain_dsplus.traces.store import TraceStore

        with TraceStore(f"sqlite:///{folder / 'traces.db'}") as store:
            store.prune(0.0)
    found = run("check", folder, *options)
    assert found.exit_code == 1, found.output
    assert f"MOVED {part}" in found.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["work", "nowhere"], "is no shunt"),
        (["check", "nowhere"], "is no shunt"),
        (["work", "SHUNT", "--every", "soon"], "a number and a unit"),
        (["check", "SHUNT", "--chain", "no_such_module_anywhere:x"], "--chain"),
        (["check", "SHUNT", "--price-input", "1"], "--price-output"),
    ],
)
def test_an_error_says_what_to_do(lived: World, arguments: list[str], words: str) -> None:
    folder = str(lived.folder / "shunt")
    found = run(*[folder if part == "SHUNT" else part for part in arguments])
    assert found.exit_code == 1
    assert words in found.output
