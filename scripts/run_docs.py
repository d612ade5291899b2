"""Run the Python blocks of a Markdown file, and compare what they print with the `text` block that follows each.

python scripts/run_docs.py docs/certify.md            compare
python scripts/run_docs.py docs/certify.md --write    put in what they print now
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def run(path: Path) -> tuple[str, list[str]]:
    """Return the file with what its blocks print now, and the blocks whose output differs."""
    names: dict[str, object] = {"__name__": "__docs__"}
    differing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(match["code"], str(path), "exec"), names)
        printed = "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())
        if printed != (match["shown"] or ""):
            differing.append(match["code"].strip().splitlines()[-1])
        shown = f"\n```text\n{printed}```\n" if printed else ""
        return f"```python\n{match['code']}```\n{shown}"

    text = path.resolve().read_text(encoding="utf-8")
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return BLOCK.sub(replace, text), differing
        finally:
            os.chdir(before)


def main() -> int:
    """Compare or write; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    status = 0
    for path in options.files:
        text, differing = run(path)
        if options.write:
            path.write_text(text, encoding="utf-8")
        elif differing:
            status = 1
            sys.stderr.write(f"{path}: prints something else after: {differing}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
