"""Every mechanism of the survey says where it is; `test_docs.py` runs the blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "survey.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_mechanism_says_where_it_is() -> None:
    rows = [line.split(" | ") for line in TEXT.splitlines() if re.match(r"\| [23]\.\d", line)]
    sections = {row[0].strip("| ") for row in rows}
    assert sections == {*(f"2.1.{n}" for n in range(1, 9)), "2.2.1", "2.2.2", "3.1", "3.2", "3.3"}
    for row in rows:
        assert row[3].strip(" |").startswith(("here", "LangChain", "outside: ")), row
    for link in re.findall(r"\]\(#([\w-]+)\)", TEXT):
        assert re.search(rf"^## {link.replace('-', ' ')}$", TEXT, re.MULTILINE | re.IGNORECASE), link
    for link in re.findall(r"\]\((\w+\.md)\)", TEXT):
        assert (PAGE.parent / link).is_file(), link
