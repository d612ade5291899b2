"""Every Python block of the docs runs, and prints what the docs show."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def run_docs():
    spec = importlib.util.spec_from_file_location("run_docs", ROOT / "scripts" / "run_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_docs_print_what_they_show(path: Path, run_docs) -> None:
    text, differing = run_docs.run(path)
    assert not differing
    assert text == path.read_text(encoding="utf-8")


def test_a_difference_is_noticed(tmp_path: Path, run_docs, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    assert run_docs.run(page)[1] == ["print(1 + 1)"]
