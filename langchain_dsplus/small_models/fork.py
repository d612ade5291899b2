"""torch and ONNX Runtime after a fork: their threads stay behind, and who waits for them waits for ever."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any

from langchain_dsplus._imports import require

logger = logging.getLogger(__name__)

_here = threading.local()
_first: int | None = None
"""The process that used torch first."""
_told: int | None = None


def mind_forks(torch: Any) -> None:
    """Call this before torch works: in the fork of a process that has used it, it works with one thread.

    OpenMP's pool of threads is not there in the child (a worker of `gunicorn --preload`), and the first step that is
    shared out among them would hang. How many threads share a step is kept by each thread for itself, so each one is
    told. A child on an accelerator gets torch's own error.
    """
    global _first, _told  # noqa: PLW0603 - one per process
    pid = os.getpid()
    if _first is None:
        _first = pid
    if pid == _first or getattr(_here, "pid", None) == pid:
        return
    torch.set_num_threads(1)
    _here.pid = pid
    if _told != pid:
        _told = pid
        logger.warning(
            "this process is a fork of one that had used torch, so torch works with one thread here; load small models "
            "after the fork (gunicorn without --preload) to use more"
        )


def load_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry, unless `ORT_DISABLE_TELEMETRY` says otherwise.

    It calls home; and its thread keeps a fork of the process from ever ending, since the exit waits for it there.

    Raises:
        ImportError: If it is missing; the message carries the pip command.
    """
    if "onnxruntime" not in sys.modules:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return require("onnxruntime", "onnx")
