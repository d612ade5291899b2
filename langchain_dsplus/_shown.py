"""How an object of ours prints itself: by what it was made with."""

from __future__ import annotations

import inspect
from typing import Any

_LONG = 60


class Shown:
    """Prints as its name with the plain arguments that it was made with, as far as it kept them.

    Example:
        >>> class Reader(Shown):
        ...     def __init__(self, path, key=None):
        ...         self.path, self._key = path, key
        >>> Reader("rows.jsonl")
        Reader(path='rows.jsonl')
    """

    def __repr__(self) -> str:
        parts = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, name, getattr(self, f"_{name}", None))
            if value is None or value is parameter.default or parameter.kind is parameter.VAR_KEYWORD:
                continue
            shown = _brief(value)
            if shown is not None:
                parts.append(f"{name}={shown}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _brief(value: Any) -> str | None:
    """A value in a few words; None where it has none that are worth reading, or that may hold a secret."""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return None if "@" in value else repr(value if len(value) <= _LONG else f"{value[:_LONG]}...")
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        return f"{len(value)} of them" if value else None
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    return f"<{type(value).__name__}>"
