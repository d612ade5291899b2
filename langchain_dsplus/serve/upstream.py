"""The user's provider: requests go there, and its replies come back, as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from langchain_dsplus._imports import require
from langchain_dsplus._shown import Shown
from langchain_dsplus.tags import BACKGROUND_TAG

if TYPE_CHECKING:
    import httpx

    from langchain_dsplus.serve.tasks import Task

TOKEN = b"x-dsplus-token"
"""The header that holds the proxy's own token; it goes no further."""
MAX_HEARD = 4 << 20
"""Bytes of a reply that are read for the shunt; of a longer one nothing is learned, and it passes all the same."""

Header = tuple[bytes, bytes]
_HOPS = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
    | {b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Headers of one hop alone (RFC 9110, 7.6.1)."""


class UpstreamError(RuntimeError):
    """The upstream gave no answer that could be recorded. The message holds nothing of the user's.

    Args:
        message: What went wrong.
        status: What the client gets, where the upstream said nothing.
    """

    def __init__(self, message: str, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


class Upstream(Shown):
    """The user's provider.

    Args:
        base_url: Such as `https://api.openai.com/v1`.
        timeout: Seconds between two bytes of a reply.
        connect_timeout: Seconds until it is connected.

    Raises:
        ImportError: If httpx (extra `serve`) is not installed.
        ValueError: If the URL is none of HTTP.
    """

    def __init__(self, base_url: str, *, timeout: float = 600.0, connect_timeout: float = 10.0) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("`upstream` must be a base URL such as https://api.openai.com/v1")
        self.base_url = base_url.rstrip("/")
        self._httpx = require("httpx", "serve")
        self._timeout = self._httpx.Timeout(timeout, connect=connect_timeout)
        self._client: httpx.AsyncClient | None = None

    async def send(
        self, method: str, path: str, query: bytes, headers: Sequence[Header], body: bytes
    ) -> httpx.Response:
        """Send a request, as it is; return when the head of the reply is there.

        Raises:
            UpstreamError: If none came.
        """
        httpx = self._httpx
        if self._client is None:
            # Cookies of one user must not reach another, and nothing waits for a connection: the gate counts.
            jar = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            self._client = httpx.AsyncClient(cookies=jar, limits=limits, timeout=self._timeout)
        url = f"{self.base_url}/{path}" + (f"?{query.decode('latin-1')}" if query else "")
        try:
            request = httpx.Request(method, url, headers=list(headers), content=body or None)
            return await self._client.send(request, stream=True)
        except httpx.TimeoutException:
            raise UpstreamError("the upstream did not answer in time", 504) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(f"the upstream cannot be reached ({type(error).__name__})") from None

    async def chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The bytes of a reply, as they come.

        Raises:
            UpstreamError: If it is cut.
        """
        try:
            async for chunk in response.aiter_raw():
                yield chunk
        except self._httpx.HTTPError as error:
            raise UpstreamError(f"the upstream cut its reply ({type(error).__name__})") from None

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()


def request_headers(headers: Sequence[Header], *, plain: bool = False) -> list[Header]:
    """What of a client's headers goes to the upstream; with `plain` a reply that is not compressed is asked for."""
    gone = {b"host", b"content-length", b"expect", TOKEN} | ({b"accept-encoding"} if plain else set())
    return [*_end_to_end(headers, gone), *([(b"accept-encoding", b"identity")] if plain else [])]


def response_headers(response: httpx.Response) -> list[Header]:
    """What of a reply's headers goes to the client."""
    return [(name.lower(), value) for name, value in _end_to_end(response.headers.raw, set())]


def _end_to_end(headers: Sequence[Header], gone: set[bytes]) -> list[Header]:
    for name, value in headers:
        if name.lower() == b"connection":
            gone |= {one.strip().lower() for one in value.split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in gone | _HOPS]


# --- the large chain of a shunt --------------------------------------------------------------------------------------


class Exchange:
    """One request that a shunt may answer: how it is sent, and who waits for the reply."""

    def __init__(self, send: Callable[[bool], Awaitable[httpx.Response]], upstream: Upstream) -> None:
        self.send, self.upstream = send, upstream
        loop = asyncio.get_running_loop()
        self.head: asyncio.Future[httpx.Response] = loop.create_future()
        """The reply, for whoever hands it to the client."""
        self.read: asyncio.Future[bytes] = loop.create_future()
        """Its bytes, once they were handed on."""

    async def ask(self, *, quiet: bool) -> bytes:
        """Send the request, and return the bytes of the reply.

        Args:
            quiet: Nobody waits for it: it is read here.

        Raises:
            UpstreamError: If there is none, it is cut, too long to be read, or an error.
        """
        response = await self.send(quiet)
        if quiet:
            try:
                found = await gather(self.upstream.chunks(response))
            finally:
                await response.aclose()
        else:
            self.head.set_result(response)
            found = await self.read
        if response.status_code >= 400:
            raise UpstreamError(f"the upstream answered with status {response.status_code}", response.status_code)
        return found


async def gather(chunks: AsyncIterator[bytes], hand_on: Callable[[bytes], Awaitable[None]] | None = None) -> bytes:
    """Read a reply, and hand on every part as it comes; of one that is too long nothing is kept."""
    kept, size = bytearray(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size <= MAX_HEARD:
            kept += chunk
        if hand_on is not None:
            await hand_on(chunk)
    return bytes(kept) if size <= MAX_HEARD else b""


EXCHANGE: ContextVar[Exchange] = ContextVar("dsplus_exchange")
"""The request that is being answered; not in a config or message: those are traced and recorded, and it holds a key."""


class UpstreamChain(RunnableSerializable[Any, Any]):
    """The large chain of a shunt that is served: the client's own request, as it is."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", hide_input_in_errors=True)

    task: Any
    base_url: str

    def identity_parts(self) -> Any:
        """What it is, for certificates."""
        task: Task = self.task
        return {"base_url": self.base_url, "task": task.parts}

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Not there: it answers requests of a server, which is async."""
        raise NotImplementedError("a served shunt answers requests alone: use `ainvoke`, inside the server")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Send the request that is being answered."""
        return await self._acall_with_config(self._ask, input, config, **kwargs)

    async def _ask(self, _: Any, run_manager: Any) -> Any:
        quiet = BACKGROUND_TAG in run_manager.tags
        return self.task.heard(await EXCHANGE.get().ask(quiet=quiet))
