"""Optional dependencies: import them late, and say what to install when one is missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Dotted name of the module.
        extra: The extra of this package that installs it.

    Returns:
        The imported module.

    Raises:
        ImportError: If it is missing; the message carries the pip command.

    Example:
        ```python
        torch = require("torch", "local")
        ```
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != root:
            raise  # the dependency is there, and something inside it is broken: hide nothing
        msg = f"`{root}` is not installed. Run: pip install 'langchain-dsplus[{extra}]'"
        raise ImportError(msg, name=error.name) from error
