"""README's first program, as it stands, on a real sentence head and the real local language model."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.llm
@pytest.mark.encoder
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_first_program_prints_who_answered(encoder_path, qwen_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, shown = re.search(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ).groups()
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert screen.getvalue() == shown
    assert {line.rpartition(" ")[2] for line in shown.splitlines()} == {"small", "large"}
