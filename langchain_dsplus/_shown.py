"""How an object of ours prints itself: by what it was made with."""

from __future__ import annotations

import inspect
from typing import Any

_LONG = 60
_QUIET = ("metadata", "callbacks", "rate_limiter", "cache", "verbose")
"""Fields of LangChain's own that say nothing of an object."""


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


def fields_in_words(model: Any) -> str:
    """What `str` of a pydantic object says: its kind, and what it was made with as far as that is worth reading.

    Its own `__str__` leaves out the kind, spells out every part of every part, and may show a user's texts.
    """
    parts = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name, None)
        if value is None or name in _QUIET or value == field.get_default(call_default_factory=False):
            continue
        whole = name == "labels" and len(repr(list(value))) <= _LONG
        shown = repr(list(value)) if whole else _brief(value)
        if shown is not None:
            parts.append(f"{name}={shown}")
    return f"{type(model).__name__}({', '.join(parts)})"


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
    kind: Any = type(value)
    ours = kind.__module__.startswith("langchain_dsplus") and not hasattr(kind, "model_fields")
    if ours and kind.__repr__ is not object.__repr__ and len(repr(value)) <= _LONG:
        return repr(value)
    return f"<{kind.__name__}>"
