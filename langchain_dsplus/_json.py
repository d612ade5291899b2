"""Reading JSON that somebody else may have written: what no record of ours could hold is a ValueError, nothing else."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_DEEPEST = 200
_LARGE = re.compile(r"[eE]\+?[0-9]{3}|[0-9]{200}")
_LARGE_BYTES = re.compile(_LARGE.pattern.encode())


def load_json(text: str | bytes) -> Any:
    """Read strict JSON.

    Args:
        text: Bytes are UTF-8, UTF-16 or UTF-32, as `json.loads` reads them.

    Raises:
        ValueError: If it is none, holds NaN, Infinity or a number that no float holds (`1e999`, a whole number of
            hundreds of digits), or is nested more than 200 deep. The message quotes nothing of it.

    Example:
        >>> load_json('{"a": [1, 2.5]}')
        {'a': [1, 2.5]}
        >>> load_json("[1e999]")
        Traceback (most recent call last):
        ...
        ValueError: not JSON: a number is beyond what a float holds
    """
    try:
        if _may_be_large(text):
            value = json.loads(text, parse_float=_real, parse_int=_whole, parse_constant=_constant)
        else:  # several times as fast
            value = json.loads(text, parse_constant=_constant)
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not JSON: it is not UTF-8") from None
    marks = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    if marks > _DEEPEST and _deep(value):
        raise ValueError("not JSON: nested too deeply")
    return value


def _may_be_large(text: str | bytes) -> bool:
    """Whether a number in it may be beyond what a float holds; bytes of another encoding than UTF-8 always may."""
    if isinstance(text, str):
        return _LARGE.search(text) is not None
    return b"\x00" in text or _LARGE_BYTES.search(text) is not None


def _real(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("not JSON: a number is beyond what a float holds")
    return value


def _whole(text: str) -> int:
    if len(text) > 300:
        _real(text)
    return int(text)


def _constant(name: str) -> Any:
    raise ValueError(f"not JSON: {name} is not a number")


def _deep(value: Any) -> bool:
    """Whether something is nested more than is read."""
    level = [value]
    for _ in range(_DEEPEST + 1):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
