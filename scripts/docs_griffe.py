"""An extension of Griffe: an `Example:` of lines with `>>>` is shown as code, as an `Examples:` section is."""

from __future__ import annotations

import re
from typing import Any

import griffe

_DOCTEST = re.compile(r"^Example:(?=\n\s+>>> )", re.MULTILINE)


class Doctests(griffe.Extension):
    """Rename the section before its docstring is read; Griffe knows the plural only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Look at each docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _DOCTEST.sub("Examples:", obj.docstring.value)
