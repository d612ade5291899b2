"""A hook of MkDocs: the pages of the API reference, one for each folder with public names, written at the build.

Nothing is listed by hand: a folder's page has what its `__all__` has, read from where each name is defined.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1] / "langchain_dsplus"
TOP = "langchain_dsplus"
MODULES = ("answer", "calibration", "confidence", "evaluation", "identity", "middleware", "weights")
"""Public modules that are no folder."""


def folders() -> list[str]:
    """Name the folders and modules that have public names."""
    found = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    return [name for name in (*found, *MODULES) if public(name)]


def public(folder: str) -> list[str]:
    """Name what a folder, or a module, makes public: its `__all__`, or the classes and functions that it defines."""
    module = importlib.import_module(f"{TOP}.{folder}")
    names = getattr(module, "__all__", None)
    if names is None and folder in MODULES:
        names = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    found = [name for name in names or () if not name.startswith("_")]
    # A name that is also a module's is at the top alone: `certify`, in `threshold/certify.py`.
    return found + [name for name in at_the_top(folder) if name not in found]


def at_the_top(folder: str) -> list[str]:
    """Name what the package itself hands on from a folder."""
    top = importlib.import_module(TOP)
    homes = {name: getattr(getattr(top, name), "__module__", "") for name in dir(top)}
    return [name for name, home in homes.items() if f"{home}.".startswith(f"{TOP}.{folder}.")]


def home(folder: str, name: str) -> str:
    """Return the path of a public name where it is defined, which mkdocstrings reads without running it."""
    at_top = name in at_the_top(folder)
    value = getattr(importlib.import_module(TOP if at_top else f"{TOP}.{folder}"), name)
    defined = getattr(value, "__module__", None)
    if isinstance(defined, str) and defined.startswith(f"{TOP}.") and getattr(value, "__qualname__", name) == name:
        return f"{defined}.{name}"
    for inner in sorted((ROOT / folder).glob("*.py")):  # a constant or an alias does not know where it stands
        if not inner.stem.startswith("_") and f"\n{name}" in inner.read_text(encoding="utf-8"):
            return f"{TOP}.{folder}.{inner.stem}.{name}"
    return f"{TOP}.{folder}.{name}"


def page(folder: str) -> str:
    """Return the Markdown of a folder's page."""
    module = importlib.import_module(f"{TOP}.{folder}")
    lead = (module.__doc__ or "").strip().partition("\n\n")[0]
    parts = [f"# {folder}", lead, f"`from {TOP}.{folder} import ...`"]
    where = places()
    for name in public(folder):
        path = home(folder, name)
        other = where[path]
        parts.append(f"::: {path}" if other == folder else f"`{name}`: see [{other}]({other}.md).")
    return "\n\n".join(parts) + "\n"


@functools.cache
def places() -> dict[str, str]:
    """Return the page of each name, by its path: the first folder that hands it on."""
    found: dict[str, str] = {}
    for folder in folders():
        for name in public(folder):
            found.setdefault(home(folder, name), folder)
    return found


def index() -> str:
    """Return the Markdown of the first page: every public name, and where it is."""
    rows = [f"| [{folder}]({folder}.md) | {' '.join(f'`{name}`' for name in public(folder))} |" for folder in folders()]
    top = importlib.import_module(TOP)
    names = " ".join(f"`{name}`" for name in sorted(dir(top)) if name != "__version__")
    lead = f"`from {TOP} import ...` has {names}. Everything else is public in its folder:"
    return "\n".join(["# Reference", "", lead, "", "| folder | names |", "|---|---|", *rows, ""])


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages, and their place in the navigation."""
    from mkdocs.structure.files import File

    pages = {"reference/index.md": index()} | {f"reference/{folder}.md": page(folder) for folder in folders()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    nav: list[Any] = config.nav or []
    nav.append({"Reference": list(pages)})
    config.nav = nav
    return files
