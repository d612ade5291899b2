"""Tags, keys and names of events stand in one file: a word that is typed again somewhere would part in silence."""

from __future__ import annotations

import ast
from pathlib import Path

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


def test_no_word_is_typed_again_and_no_name_assigned():
    again, words = set(), WORDS.keys() - COMMON
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if place != "tags.py" else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if node.value in words and (place, node.value) not in STATE_KEY:
                    again.add((place, node.lineno, WORDS[node.value]))
            elif isinstance(node, ast.Assign):
                names = {target.id.lstrip("_") for target in node.targets if isinstance(target, ast.Name)}
                again |= {(place, node.lineno, name) for name in names & set(WORDS.values())}
    assert not again, "import it from langchain_dsplus.tags"
