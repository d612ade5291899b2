"""How processor time grows with the size of what is read."""

from collections.abc import Callable

import pytest


def assert_grows_at_most(seconds: Callable[[int], float], sizes: tuple[int, int], times: float, least: float) -> None:
    """The larger takes at most `times` as long as the smaller, or as `least` seconds, each the best of three.

    Args:
        seconds: The processor time that a size takes: what else the machine does is not measured.
        sizes: The smaller and the larger one.
        times: The bound.
        least: Below this many seconds a time is noise.
    """
    small = max(min(seconds(sizes[0]) for _ in range(3)), least)
    large = float("inf")
    for _ in range(3):
        large = min(large, seconds(sizes[1]))
        if large <= times * small:
            return
    pytest.fail(f"{sizes[1]:,} take {large / small:.1f} times as long as {sizes[0]:,}")
