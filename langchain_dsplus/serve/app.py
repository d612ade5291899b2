"""The proxy: what a shunt may answer goes through it, everything else passes to the upstream untouched."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_dsplus._imports import require
from langchain_dsplus._json import load_json
from langchain_dsplus.answer import failure
from langchain_dsplus.costs.usage import Usage, UsageMeter
from langchain_dsplus.serve.metrics import Metrics
from langchain_dsplus.serve.upstream import (
    EXCHANGE,
    TOKEN,
    Exchange,
    Header,
    Upstream,
    UpstreamChain,
    UpstreamError,
    gather,
    request_headers,
    response_headers,
)

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI, Request

    from langchain_dsplus.serve.tasks import Task
    from langchain_dsplus.shunt.shunt import DataShunt

logger = logging.getLogger(__name__)

ROUTE_HEADER = b"x-dsplus-route"
ID_HEADER = b"x-dsplus-route-id"
_OPEN = "/healthz"
_ROUTE = "dsplus.route"  # in the scope of a request: who answered


@dataclass(frozen=True)
class Limits:
    """What the proxy bears.

    Attributes:
        requests: At a time; more get 503 with `Retry-After`.
        body: Bytes of a request; more gets 413.
        body_seconds: Until a request's body is there; later gets 408.
        drain_seconds: That a shutdown waits for requests, and after them for audits and rows.
    """

    requests: int = 256
    body: int = 16 << 20
    body_seconds: float = 30.0
    drain_seconds: float = 30.0


class _RefusedError(Exception):
    """A request that gets no answer from anybody."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers


def create_app(
    shunts: DataShunt | Sequence[DataShunt],
    upstream: Upstream,
    *,
    token: str | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """Make the ASGI application of a proxy.

    A request that is a shunt's task, and nothing else, goes through that shunt; `x-dsplus-route` says who answered:
    `small`, `large`, or `untouched` where no shunt was asked. Whatever the upstream says passes as it is. The client's
    headers go to the upstream and nowhere else.

    Args:
        shunts: Made by `open_shunt`.
        upstream: The user's provider.
        token: What clients must send as `x-dsplus-token`; `/healthz` is open.
        limits: What it bears.

    Raises:
        ImportError: If FastAPI (extra `serve`) is not installed.
        TypeError: If a shunt's large chain is not the upstream.

    Example:
        ```python
        upstream = Upstream("https://api.openai.com/v1")
        task = ChatTask("gpt-x", [("system", "Answer refund or other."), ("user", "{text}")])
        app = create_app(open_shunt("shunt/", task, upstream, labels=["refund", "other"]), upstream)
        ```
    """
    fastapi = require("fastapi", "serve")
    listed = list(shunts) if isinstance(shunts, Sequence) else [shunts]
    proxy = _Proxy(listed, upstream, limits or Limits())
    app: FastAPI = fastapi.FastAPI(lifespan=proxy.lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_route("/healthz", proxy.health, methods=["GET"])
    app.add_route("/metrics", proxy.measured, methods=["GET"])
    app.add_route("/v1/{path:path}", proxy.answer, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    app.add_middleware(_Gate, proxy=proxy, token=token)
    return app


class _Gate:
    """Before everything else: the token, how many requests there are, and what is counted."""

    def __init__(self, app: Any, proxy: _Proxy, token: str | None) -> None:
        self.app, self.proxy = app, proxy
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] == _OPEN:
            await self.app(scope, receive, send)
            return
        if self.token is not None and not self._known(scope["headers"]):
            await _refusal(401, "send the proxy's token as x-dsplus-token")(scope, receive, send)
            return
        if scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        metrics = self.proxy.metrics
        if self.proxy.running >= self.proxy.limits.requests:
            metrics.rejected.inc()
            await _refusal(503, "the proxy is full: try again", **{"retry-after": "1"})(scope, receive, send)
            return
        status, began = 499, time.perf_counter()  # 499: the client went away first

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.proxy.running += 1
        try:
            await self.app(scope, receive, counted)
        finally:
            self.proxy.running -= 1
            metrics.done(scope.get(_ROUTE, "none"), status, time.perf_counter() - began)

    def _known(self, headers: Sequence[Header]) -> bool:
        given = next((value for name, value in headers if name == TOKEN), b"")
        return self.token is not None and hmac.compare_digest(given, self.token)


class _Proxy:
    """What the routes share."""

    def __init__(self, shunts: Sequence[DataShunt], upstream: Upstream, limits: Limits) -> None:
        self.upstream, self.limits = upstream, limits
        self.shunts = [(shunt, task_of(shunt)) for shunt in shunts]
        self.metrics = Metrics(shunts, self)
        self.running = 0

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        """Open while it runs; at the end the audits are finished and the rows are written."""
        yield
        for shunt, _task in self.shunts:
            if not await shunt.adrain(self.limits.drain_seconds):
                logger.warning("audits were still under way at the end: they are not recorded")
            await asyncio.to_thread(shunt.store.close, self.limits.drain_seconds)
        await self.upstream.close()

    async def health(self, _: Request) -> Any:
        """Whether it runs, and what is live."""
        live = [shunt.certificate is not None for shunt, _task in self.shunts]
        return _reply(200, {"status": "ok", "live": live, "requests": self.running})

    async def measured(self, _: Request) -> Any:
        """For Prometheus."""
        from starlette.responses import Response

        content, kind = self.metrics.text()
        return Response(content, headers={"content-type": kind})

    # --- one request ------------------------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Any:
        """Answer a request: a shunt, or the upstream."""
        path = request.scope["raw_path"].decode("latin-1").partition("/v1/")[2]
        try:
            if ".." in request.scope["path"].split("/"):
                raise _RefusedError(400, "the path leads out of /v1/")
            body = await self._body(request)
        except _RefusedError as error:
            return _refusal(error.status, str(error), **error.headers)
        gone = asyncio.create_task(_gone(request.receive))
        call = _Call(self.upstream, request, path, body, gone)
        try:
            shunt, task, asked, value = self._match(request.method, path, body)
            found = await (self._untouched(call) if shunt is None else self._through(call, shunt, task, asked, value))
        except UpstreamError as error:
            found = _refusal(error.status, str(error))
        if not isinstance(found, _Relay):
            gone.cancel()
        return found

    async def _body(self, request: Request) -> bytes:
        length = request.headers.get("content-length", "0")
        size, parts = 0, []
        too_much = _RefusedError(413, f"the request is longer than {self.limits.body:,} bytes", connection="close")
        if length.isdecimal() and int(length) > self.limits.body:
            raise too_much
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > self.limits.body:
                        raise too_much
                    parts.append(part)
        except TimeoutError:
            raise _RefusedError(408, "the request's body did not come in time", connection="close") from None
        return b"".join(parts)

    def _match(self, method: str, path: str, body: bytes) -> tuple[Any, Any, Any, Any]:
        """The shunt whose task a request is, the task, the request and the input; None where there is none."""
        wanted = [pair for pair in self.shunts if pair[1].path == path] if method == "POST" else []
        if wanted:
            with contextlib.suppress(ValueError):
                asked = load_json(body)
                for shunt, task in wanted:
                    text = task.read(asked) if isinstance(asked, Mapping) else None
                    if text is not None:
                        key = shunt.terms.input_key
                        return shunt, task, asked, text if key is None else {key: text}
        return None, None, None, None

    async def _untouched(self, call: _Call) -> Any:
        call.route("untouched")
        return _Relay(call, await call.waited(call.send(plain=False)), [])

    async def _through(self, call: _Call, shunt: DataShunt, task: Task, asked: Any, value: Any) -> Any:
        """Ask the shunt: its own answer, or the reply that it got from the upstream."""
        name = uuid.uuid4()

        def send(quiet: bool) -> Any:
            return call.send(plain=True, body=task.alone(call.body) if quiet else None)

        exchange = Exchange(send, self.upstream)
        meter = UsageMeter() if any(model.traces_calls for model in shunt.router.small_models) else None
        context = copy_context()
        context.run(EXCHANGE.set, exchange)
        config: Any = {"run_id": name, "callbacks": [] if meter is None else [meter]}
        run = asyncio.create_task(_ask(shunt, value, config), context=context)
        try:
            await asyncio.wait({run, exchange.head, call.gone}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            run.cancel()
            raise
        identity = [(ID_HEADER, str(name).encode())]
        if exchange.head.done():
            call.route("large")
            return _Relay(call, exchange.head.result(), identity, exchange, run)
        if not run.done():  # the client went away
            run.cancel()
            await asyncio.wait({run})
            return _refusal(499, "the client went away")
        error = run.exception()
        if isinstance(error, UpstreamError):
            call.route("large")
            raise error
        used = (meter.usage if meter is not None else None) or Usage()
        try:
            kind, content = task.reply(run.result()["output"], asked, str(name), used)
        except Exception as error:  # noqa: BLE001 - the shunt is broken: the client has its answer all the same
            failure(error)
            logger.error("the shunt failed with %s: the request passes to the upstream", type(error).__name__)  # noqa: TRY400
            return await self._untouched(call)
        call.route("small")
        self.metrics.tokens(used)
        return _response(200, content, [(b"content-type", kind.encode()), (ROUTE_HEADER, b"small"), *identity])


async def _ask(shunt: DataShunt, value: Any, config: Any) -> Any:
    return await shunt.ainvoke(value, config)


def task_of(shunt: DataShunt) -> Task:
    """The task of a shunt that is served. Raises TypeError if it is another one."""
    chain = shunt.router.large
    if not isinstance(chain, UpstreamChain):
        raise TypeError("`shunts` must be made by `open_shunt`: what they ask is the client's own request")
    return chain.task  # type: ignore[no-any-return]


@dataclass
class _Call:
    """A request on its way."""

    upstream: Upstream
    request: Request
    path: str
    body: bytes
    gone: asyncio.Task[None]

    def send(self, *, plain: bool, body: bytes | None = None) -> Any:
        """To the upstream."""
        scope = self.request.scope
        headers = request_headers(scope["headers"], plain=plain)
        return self.upstream.send(
            scope["method"], self.path, scope["query_string"], headers, self.body if body is None else body
        )

    def route(self, name: str) -> None:
        """Say who answers."""
        self.request.scope[_ROUTE] = name

    async def waited(self, coming: Any) -> Any:
        """What comes, unless the client goes away first."""
        task = asyncio.ensure_future(coming)
        try:
            await asyncio.wait({task, self.gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise UpstreamError("the client went away", 499)
            return task.result()
        finally:
            task.cancel()


class _Relay:
    """A reply of the upstream, handed to the client as it comes.

    Where it is cut, so is what the client gets: without the end that says that it is whole.
    """

    def __init__(
        self,
        call: _Call,
        response: httpx.Response,
        headers: Sequence[Header],
        exchange: Exchange | None = None,
        run: asyncio.Task[Any] | None = None,
    ) -> None:
        self.call, self.response, self.exchange, self.run = call, response, exchange, run
        route = call.request.scope[_ROUTE].encode()
        self.headers = [*response_headers(response), (ROUTE_HEADER, route), *headers]

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Hand it on, until it ends or the client goes away."""
        pump = asyncio.create_task(self._pump(send))
        try:
            await asyncio.wait({pump, self.call.gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            self.call.gone.cancel()
            (error,) = await asyncio.gather(pump, return_exceptions=True)
            await self.response.aclose()
            await self._record(error)

    async def _pump(self, send: Any) -> bytes:
        await send({"type": "http.response.start", "status": self.response.status_code, "headers": self.headers})

        async def hand_on(chunk: bytes) -> None:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

        found = await gather(self.call.upstream.chunks(self.response), hand_on)
        await send({"type": "http.response.body", "body": b""})
        return found

    async def _record(self, found: bytes | BaseException) -> None:
        """Let the shunt's run end, with what was heard or with what went wrong."""
        if self.run is None or self.exchange is None:
            return
        if not self.run.done():
            if isinstance(found, bytes):
                self.exchange.read.set_result(found)
            elif isinstance(found, UpstreamError):
                self.exchange.read.set_exception(found)
            else:
                self.run.cancel()
            await asyncio.wait({self.run})
        if not self.run.cancelled() and self.run.exception() is not None:
            logger.debug("a reply was no answer: %s", type(self.run.exception()).__name__)


async def _gone(receive: Any) -> None:
    """End when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _reply(status: int, content: Any, **headers: str) -> Any:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return _response(status, json.dumps(content).encode(), [(b"content-type", b"application/json"), *pairs])


def _response(status: int, content: bytes, headers: Sequence[Header]) -> Any:
    from starlette.responses import Response

    found = Response(content, status)
    found.raw_headers = [(b"content-length", str(len(content)).encode()), *headers]
    return found


def _refusal(status: int, message: str, **headers: str) -> Any:
    """An error of the proxy itself, in the provider's form."""
    error = {"message": message, "type": "dsplus_proxy_error", "param": None, "code": None}
    return _reply(status, {"error": error}, **headers)
