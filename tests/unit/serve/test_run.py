"""The socket that is served on."""

from __future__ import annotations

import socket

import pytest

from langchain_dsplus.serve import run


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_reply_does_not_wait_for_the_clients_acknowledgement(host: str) -> None:
    """asyncio switches Nagle's algorithm off where a socket says that it is TCP, and nowhere else."""
    with run._bound(host, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)


def test_a_port_that_is_taken_is_an_error() -> None:
    with run._bound("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        run._bound("127.0.0.1", listener.getsockname()[1])
