"""The site's reference has every public name, and its navigation every page."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import langchain_dsplus

ROOT = Path(__file__).parents[3]
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("langchain.agents")  # what the middleware stands on
    spec = importlib.util.spec_from_file_location("docs_reference", ROOT / "scripts" / "docs_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_a_place(reference) -> None:
    pages = {folder: reference.page(folder) for folder in reference.folders()}
    shown = {folder: re.findall(r"^::: (\S+)$", page, re.MULTILINE) for folder, page in pages.items()}
    for folder, page in pages.items():
        named = {path.rpartition(".")[2] for path in shown[folder]} | set(
            re.findall(r"^`(\w+)`: see", page, re.MULTILINE)
        )
        assert named == set(reference.public(folder))
    everything = [path for paths in shown.values() for path in paths]
    assert len(everything) == len(set(everything))
    for path in everything:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name), path
    everywhere = {path.rpartition(".")[2] for paths in shown.values() for path in paths}
    assert set(dir(langchain_dsplus)) - {"__version__"} - everywhere == set()


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r": ([\w-]+\.md)$", CONFIG, re.MULTILINE))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_first_page_names_each_how_to() -> None:
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page}" not in first} == set()


def test_diagrams_name_every_node_that_they_join() -> None:
    """A diagram that ends in a bare bracket does not draw."""
    for path in (ROOT / "docs").glob("*.md"):
        for diagram in re.findall(
            r"^```mermaid\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            assert diagram.split()[0] == "flowchart", path.name
            for opening, closing in ("[]", "()", "{}"):
                assert diagram.count(opening) == diagram.count(closing), path.name
            assert diagram.count('"') % 2 == 0, path.name
