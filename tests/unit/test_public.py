"""The public names: complete, lazy, typed, there without any extra."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import langchain_dsplus

HEAVY = [
    "langchain",
    "huggingface_hub",
    "langchain_openai",
    "langgraph",
    "matplotlib",
    "openai",
    "pandas",
    "alembic",
    "psycopg",
    "pyarrow",
    "safetensors",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "skops",
    "sqlalchemy",
    "torch",
    "transformers",
    "xllamacpp",
]
EXTRAS = [name for name in HEAVY if name not in {"langgraph", "scipy"}]
PUBLIC = [name for name in langchain_dsplus.__all__ if name != "__version__"]
# Its base class comes from an extra, so that a star import leaves it out.
NEEDS_EXTRA = ["ConfidenceShuntMiddleware"]
SOURCE = Path(langchain_dsplus.__file__)
STUBS = sorted(SOURCE.parent.rglob("__init__.pyi"))


def fresh(code: str) -> list[str]:
    """Run code in a fresh interpreter; the JSON list that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", [*PUBLIC, *NEEDS_EXTRA])
def test_each_name_is_importable_and_documented(name: str) -> None:
    value = getattr(langchain_dsplus, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"{name} has no docstring"
        assert value.__module__.startswith("langchain_dsplus."), f"{name} is not ours"


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.parent.name)
def test_each_name_of_a_stub_is_what_its_home_defines(stub: Path) -> None:
    """The names stand in `__init__.pyi` alone: there `lazy` reads them, line by line, and type checkers."""
    package = importlib.import_module(".".join(stub.parent.relative_to(SOURCE.parents[1]).parts))
    names = []
    for line in stub.read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"from (langchain_dsplus\.[\w.]+) import (\w+) as \2", line)
        assert found, line
        names.append(found[2])
        assert getattr(package, found[2]) is getattr(importlib.import_module(found[1]), found[2])
    assert dir(package) == sorted(set(names))
    assert len(set(names)) == len(names)
    assert set(package.__all__) == set(names) - set(NEEDS_EXTRA)


def test_star_import_gives_exactly_the_public_names() -> None:
    space: dict[str, object] = {}
    exec("from langchain_dsplus import *", space)
    assert space.keys() - {"__builtins__"} == set(langchain_dsplus.__all__)


@pytest.mark.parametrize("name", ["NoSuchName", "_nothing", "torch"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(langchain_dsplus, name)


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = fresh(
        "import sys, json; import langchain_dsplus; "
        "print(json.dumps([m for m in ('langchain_core', 'numpy', 'pydantic') if m in sys.modules]))"
    )
    assert loaded == []


def test_all_names_together_import_nothing_heavy() -> None:
    loaded = fresh(
        "import sys, json, langchain_dsplus as d; [getattr(d, n) for n in d.__all__]; "
        f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    assert loaded == []


def test_all_names_are_there_without_extras() -> None:
    missing = fresh(
        f"import sys, json; sys.modules.update(dict.fromkeys({EXTRAS}))\n"
        "import langchain_dsplus as d\n"
        "print(json.dumps([n for n in d.__all__ if not hasattr(d, n)]))"
    )
    assert missing == []


def test_version_and_typing_marker() -> None:
    assert langchain_dsplus.__version__ == importlib.metadata.version("langchain-dsplus")
    assert (SOURCE.parent / "py.typed").is_file()


def test_a_missing_extra_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_dsplus._imports import require

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install 'langchain-dsplus\[local\]'"):
        require("torch", "local")


def test_a_broken_dependency_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_dsplus._imports import require

    (tmp_path / "brokenthing.py").write_text("import surely_not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="surely_not_installed_anywhere"):
        require("brokenthing", "local")


FOLDERS = sorted(path.parent.name for path in SOURCE.parent.glob("*/__init__.py"))


def test_the_top_holds_what_the_five_steps_need() -> None:
    assert len(dir(langchain_dsplus)) <= 45


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_public_names_of_a_folder_are_no_modules(folder: str) -> None:
    """A module of the same name would take the name's place as soon as somebody loads it."""
    home = importlib.import_module(f"langchain_dsplus.{folder}")
    names = getattr(home, "__all__", [])
    for name in names:
        assert not inspect.ismodule(getattr(home, name)), name
        assert not (SOURCE.parent / folder / f"{name}.py").is_file(), name
    assert set(names) <= set(dir(home))
