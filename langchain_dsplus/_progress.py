"""One progress bar for long work, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int, *, show: bool, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how far work is, and yield the function that tells of more; silent without `show`.

    Args:
        what: The word in front of the bar.
        total: Steps in all.
        show: Whether there is a bar at all.
        done: Steps that an earlier run has done.

    Example:
        >>> with progress_bar("training", 3, show=False) as advance:
        ...     advance(1)
    """
    if not show:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
