"""Every mechanism of the survey says where it is; each *here* leads to blocks of code, which `test_docs.py` runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import harness

PAGE = Path(__file__).resolve().parents[2] / "docs" / "survey.md"
ROWS = [
    line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d", line)
]


def sections(page: str) -> dict[str, str]:
    """What stands under each heading, by its anchor."""
    text = (PAGE.parent / (page or PAGE.name)).read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)[1:]
    slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in parts[::2]]
    return dict(zip(slugs, parts[1::2], strict=True))


def test_every_mechanism_says_where_it_is() -> None:
    assert {row[0] for row in ROWS} == {*(f"2.1.{n}" for n in range(1, 9)), "2.2.1", "2.2.2", "3.1", "3.2", "3.3"}
    assert all(re.match("here: |LangChain's |outside: ", row[3]) for row in ROWS)


@pytest.mark.parametrize("row", [row for row in ROWS if not row[3].startswith("outside")], ids=lambda row: row[1])
def test_each_that_is_here_leads_to_code_that_runs(row: list[str]) -> None:
    links = re.findall(r"\]\(([\w.-]*)#([\w-]+)\)", row[3])
    assert links
    for page, anchor in links:
        assert "```python\n" in sections(page)[anchor], anchor
    for name in re.findall(r"`benchmarks (\w+)`", row[3]):
        assert name in harness.registry()
