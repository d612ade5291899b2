"""The one progress bar."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

import langchain_dsplus
from langchain_dsplus._progress import progress_bar, quiet_transformers


@pytest.mark.parametrize("show", [False, True])
def test_a_bar_tells_how_far_the_work_is(show):
    screen = io.StringIO()
    with progress_bar("asking", 4, show=show, done=1, console=Console(file=screen, width=100)) as advance:
        advance(1)
        advance(2)
    assert ("asking" in screen.getvalue(), "4/4" in screen.getvalue()) == (show, show)


def test_it_goes_to_standard_error(capsys):
    with progress_bar("asking", 1, show=True) as advance:
        advance(1)
    assert capsys.readouterr().out == ""


def test_others_get_their_bars_back():
    logging = pytest.importorskip("transformers.utils.logging")
    before = (logging.is_progress_bar_enabled(), logging.get_verbosity())
    with pytest.raises(KeyboardInterrupt), quiet_transformers():
        assert not logging.is_progress_bar_enabled()
        raise KeyboardInterrupt
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before


def test_nobody_else_draws_one():
    """But for the bytes of a download, which are no steps."""
    package = Path(langchain_dsplus.__file__).parent
    for path in package.rglob("*.py"):
        imported = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if path.name not in {"_progress.py", "packages.py"}:
            assert "rich.progress.Progress" not in imported, path
