"""An application on a socket, until it is told to stop."""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from langchain_dsplus._imports import require

if TYPE_CHECKING:
    import uvicorn


def config_of(app: Any, host: str, port: int, drain_seconds: float) -> uvicorn.Config:
    """How uvicorn runs it: nothing of a request in a log, and no header of its own beside the upstream's.

    Args:
        app: ASGI application.
        host: Where to listen.
        port: 0 takes a free one.
        drain_seconds: That a shutdown waits for requests.

    Raises:
        ImportError: If uvicorn (extra `serve`) is not installed.
    """
    found: uvicorn.Config = require("uvicorn", "serve").Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=math.ceil(drain_seconds),
    )
    return found


def run(app: Any, host: str, port: int, *, drain_seconds: float = 30.0, say: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or Ctrl-C; then nothing new is taken, and what is under way is finished.

    Args:
        app: ASGI application.
        host: Where to listen.
        port: 0 takes a free one.
        drain_seconds: That a shutdown waits for requests.
        say: Is told the URL.

    Raises:
        ImportError: If uvicorn (extra `serve`) is not installed.
        OSError: If the port is taken.
    """
    config = config_of(app, host, port, drain_seconds)
    for name in ("httpx", "httpcore"):  # at INFO they log URLs, in which some providers want the key
        logging.getLogger(name).setLevel(logging.WARNING)
    server = require("uvicorn", "serve").Server(config)
    with _bound(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{listener.getsockname()[1]}")
        server.run(sockets=[listener])


def _bound(host: str, port: int) -> socket.socket:
    """A listener. Of TCP by name: else asyncio leaves Nagle's algorithm on, and each reply waits 40 ms for an ACK."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener
