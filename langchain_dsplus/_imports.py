"""Imports that happen late: optional dependencies, and the public names of the package and its folders."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""Has the same torch without CUDA; PyPI's for Linux brings several GB of it."""
_WITH_TORCH = ("local", "all")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        ImportError: If it is missing; the message carries the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != root:
            raise  # the dependency is there, and something inside it is broken: hide nothing
        index = f" --extra-index-url {CPU_INDEX} (for a GPU without the index)" if extra in _WITH_TORCH else ""
        raise ImportError(
            f"`{root}` is not installed. Run: pip install 'langchain-dsplus[{extra}]'{index}", name=error.name
        ) from error


def lazy(spec: Any, *apart: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package whose public names are loaded when they are first used.

    Each name stands once: in the `__init__.pyi` beside the `__init__.py`, where type checkers look for it, on a line of
    its own, `from package.module import Name as Name` (PEP 562, and SPEC 1 of Scientific Python).

    Args:
        spec: The package's `__spec__`.
        *apart: Names that a star import leaves out.

    Returns:
        What to assign to the three.
    """
    lines = spec.loader.get_data(f"{spec.origin}i").decode().splitlines()
    home = {words[3]: words[1] for words in map(str.split, lines) if words[:1] == ["from"]}
    names = sorted(home)

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home[name]), name)

    return get, names.copy, [name for name in names if name not in apart]
