"""Objects of which there is one, however often what holds them is copied."""

from __future__ import annotations

from typing import Any, Self


class Shared:
    """Is itself when it is copied, since LangChain copies chains: of two counters, each would know half.

    Example:
        >>> import copy
        >>> one = Shared()
        >>> copy.copy(one) is one, copy.deepcopy([one])[0] is one
        (True, True)
    """

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
