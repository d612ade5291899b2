"""A tag becomes a version and notes, or a reason why not."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tree(folder: Path, changelog: str) -> Path:
    (folder / "langchain_dsplus").mkdir()
    (folder / "langchain_dsplus" / "_version.py").write_text('"""The version."""\n\n__version__ = "0.0.1"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    return folder


CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n- later\n\n## [1.2.0] - 2026-12-01\n\n### Added\n\n- now\n\n## [1.1.0]\n\n- old\n"


@pytest.mark.parametrize(("tag", "version"), [("v1.2.0", "1.2.0"), ("v1.2.0rc1", "1.2.0rc1")])
def test_a_tag_becomes_version_and_notes(release, tmp_path: Path, tag: str, version: str) -> None:
    root = tree(tmp_path, CHANGELOG.replace("[1.2.0]", f"[{version}]"))
    assert release.main([tag, "--root", str(root), "--notes", str(tmp_path / "notes.md")]) == 0
    assert f'__version__ = "{version}"' in (root / "langchain_dsplus" / "_version.py").read_text()
    assert (tmp_path / "notes.md").read_text() == "### Added\n\n- now\n"


@pytest.mark.parametrize(
    ("tag", "changelog", "says"),
    [
        ("1.2.0", CHANGELOG, "names no version"),
        ("v1.2", CHANGELOG, "names no version"),
        ("v1.2.0; rm -rf", CHANGELOG, "names no version"),
        ("v1.3.0", CHANGELOG, "says nothing under"),
        ("v1.2.0", "## [1.2.0]\n\n## [1.1.0]\n\n- old\n", "says nothing under"),
    ],
    ids=["no v", "two parts", "a shell", "no section", "empty section"],
)
def test_what_is_no_release_changes_nothing(release, tmp_path: Path, capsys, tag, changelog, says) -> None:
    root = tree(tmp_path, changelog)
    assert release.main([tag, "--root", str(root), "--notes", str(tmp_path / "notes.md")]) == 1
    assert says in capsys.readouterr().err
    assert "0.0.1" in (root / "langchain_dsplus" / "_version.py").read_text()
    assert not (tmp_path / "notes.md").exists()


def test_the_real_files_have_the_form_that_is_read(release) -> None:
    assert re.search(r'^__version__ = ".*"$', (ROOT / "langchain_dsplus" / "_version.py").read_text(), re.MULTILINE)
    assert release.notes_of((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("Unreleased", "9.9.9"), "9.9.9")


def test_the_workflow_publishes_without_a_token() -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "pypi"
    assert {job.get("if") for name, job in jobs.items() if name != "build"} == {"vars.RELEASES == 'on'"}
    assert "secrets." not in text
    assert "python -m build" in str(jobs["build"])
