"""Tags, keys and names of events stand in one file: a word that is typed again somewhere would part in silence."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import langchain_dsplus
from langchain_dsplus import tags

PACKAGE = Path(langchain_dsplus.__file__).parent
WORDS = {value: name for name, value in vars(tags).items() if name.isupper()}
# Words that mean other things elsewhere too: a side of a table, a step of a graph, the name of the command.
COMMON = {tags.LARGE_TAG, tags.TRANSFER_TAG, tags.ROUTE_KEY}
# The key of a graph's or an agent's state, which a user's schema names; not an event.
STATE_KEY = {("middleware.py", tags.ROUTE_EVENT), ("evaluation.py", tags.ROUTE_EVENT)}


def test_every_word_has_one_name():
    assert len(WORDS) == sum(name.isupper() for name in vars(tags))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_word_is_typed_again(path):
    if path.name == "tags.py":
        return
    place = path.relative_to(PACKAGE).as_posix()
    again = {
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and node.value in WORDS.keys() - COMMON
        and (place, node.value) not in STATE_KEY
    }
    assert not again, f"import {sorted(WORDS[word] for word in again)} from langchain_dsplus.tags"


def test_names_of_tags_are_assigned_nowhere_else():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign) and path.name != "tags.py":
                names = {target.id.lstrip("_") for target in node.targets if isinstance(target, ast.Name)}
                assert not names & set(WORDS.values()), f"{path}:{node.lineno}"
