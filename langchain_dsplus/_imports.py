"""Imports that happen late: optional dependencies, and the public names of the package and its folders."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
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
        msg = f"`{root}` is not installed. Run: pip install 'langchain-dsplus[{extra}]'{index}"
        raise ImportError(msg, name=error.name) from error


def lazy(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are loaded when they are first used (PEP 562).

    Args:
        package: Its `__name__`.
        homes: Module inside it -> the names that it gives, separated by blanks.

    Returns:
        The two functions to assign.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in home:
            msg = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return get, lambda: sorted(home)
