"""Make the tree ready to be built as a release: `python scripts/release.py v0.2.0 --notes notes.md`.

The version is the tag's: it is written into `langchain_dsplus/_version.py`. The notes are the version's section of
CHANGELOG.md (`## [0.2.0] - 2026-12-01`); without one, or with an empty one, there is no release.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_VERSION = re.compile(r"v(?P<version>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")


def version_of(tag: str) -> str:
    """Return the version that a tag names.

    Raises:
        ValueError: If it names none.
    """
    match = _VERSION.fullmatch(tag)
    if match is None:
        msg = f"the tag {tag!r} names no version: v1.2.3, or v1.2.3rc1"
        raise ValueError(msg)
    return match["version"]


def notes_of(changelog: str, version: str) -> str:
    """Return the section of a version.

    Raises:
        ValueError: If there is none, or it is empty.
    """
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    found = next((section for section in sections if section.startswith(f"[{version}]")), None)
    notes = "" if found is None else found.partition("\n")[2].strip()
    if not notes:
        msg = f"CHANGELOG.md says nothing under `## [{version}]`: give what is under Unreleased this heading"
        raise ValueError(msg)
    return f"{notes}\n"


def write_version(path: Path, version: str) -> None:
    """Put a version into `_version.py`.

    Raises:
        ValueError: If the file holds no version.
    """
    text, count = re.subn(
        r'^__version__ = ".*"$', f'__version__ = "{version}"', path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    if count != 1:
        msg = f"{path.name} holds {count} lines of `__version__`, expected one"
        raise ValueError(msg)
    path.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Write version and notes; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tag")
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--notes", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        version = version_of(options.tag)
        notes = notes_of((options.root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
        write_version(options.root / "langchain_dsplus" / "_version.py", version)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options.notes.write_text(notes, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
