"""One progress bar for long work, on standard error; and silence for the bars of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_dsplus._imports import require

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def progress_bar(
    what: str, total: int | None, *, show: bool, done: int = 0, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """Show how far work is, and yield the function that tells of more; silent without `show`.

    Args:
        what: The word in front of the bar.
        total: Steps in all; None where nobody knows.
        show: Whether there is a bar at all.
        done: Steps that an earlier run has done.
        console: Where; by default standard error.

    Example:
        >>> with progress_bar("training", 3, show=False) as advance:
        ...     advance(1)
    """
    if not show:
        yield lambda _: None
        return
    from rich import console as consoles
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console or consoles.Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda count: progress.advance(task, count)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' bar and its table of new weights off the terminal."""
    logging: Any = require("transformers.utils.logging", "local")
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
