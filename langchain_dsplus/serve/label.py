"""The page on which people label a shunt's disagreements: one at a time, blind to who said what."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from langchain_dsplus._imports import require
from langchain_dsplus.serve.upstream import TOKEN
from langchain_dsplus.shunt.folder import ShuntFolder
from langchain_dsplus.shunt.labels import add_gold, to_label

if TYPE_CHECKING:
    from fastapi import FastAPI

_LEASE_SECONDS = 600.0
_LOOK_SECONDS = 30.0
_PERSON = 64
_FILES = {
    "/": ("label.html", "text/html"),
    "/label.css": ("label.css", "text/css"),
    "/label.js": ("label.js", "text/javascript"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def label_app(folder: ShuntFolder, store: Any, token: str) -> FastAPI:
    """Make the ASGI application of the page.

    The page itself holds nothing; what it asks for needs the token, which stands behind `#` in the page's address, and
    so in no request line and no log.

    Args:
        folder: The shunt's.
        store: Its store.
        token: That whoever labels must have.

    Raises:
        ImportError: If FastAPI (extra `serve`) is not installed.
        ShuntError: If there is no shunt in the folder.
    """
    fastapi = require("fastapi", "serve")
    desk = Desk(folder, store)
    app: FastAPI = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for path, file in _FILES.items():
        app.get(path)(_file(*file))
    app.post("/api/next")(desk.next)
    app.post("/api/say")(desk.say)
    app.post("/api/undo")(desk.undo)
    app.add_middleware(_Guard, token=token)
    return app


class Desk:
    """Who looks at what: a row lies before one person at a time, and comes back when that one has gone."""

    def __init__(self, folder: ShuntFolder, store: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.store, self.clock = folder, store, clock
        self.labels = folder.terms().labels
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        self._looked: float | None = None
        self._leases: dict[str, tuple[str, float]] = {}
        self._said: dict[str, list[dict[str, Any]]] = {}
        self._told: set[str] = set()

    def next(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The row that lies before a person."""
        with self._lock:
            return self._next(_person(asked))

    def say(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Write down what a person says of the row before them; None: nobody can tell. Return the next."""
        with self._lock:
            who, name, label = _person(asked), str(asked.get("id")), asked.get("label")
            if self._leases.get(name, ("", 0.0))[0] != who or name not in self._rows:
                return self._next(who, "this row is with somebody else now: what you said was not written down")
            if label is not None and label not in self.labels:
                return self._next(who, "this is none of the labels")
            add_gold(self.folder, self.store, {name: label})
            self._said.setdefault(who, []).append(self._rows.pop(name))
            self._leases.pop(name, None)
            self._told.add(name)
            return self._next(who)

    def undo(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Take a person's last word back, and show the row again."""
        with self._lock:
            who = _person(asked)
            if not self._said.get(who):
                return self._next(who, "there is nothing to take back")
            for name in [name for name, (owner, _) in self._leases.items() if owner == who]:
                del self._leases[name]
            row = self._said[who].pop()
            add_gold(self.folder, self.store, {row["id"]: None})
            self._told.discard(row["id"])
            self._rows = {row["id"]: row, **self._rows}
            self._leases[row["id"]] = (who, self.clock() + _LEASE_SECONDS)
            return self._next(who)

    def _next(self, who: str, message: str = "") -> dict[str, Any]:
        now = self.clock()
        self._leases = {name: lease for name, lease in self._leases.items() if lease[1] > now}
        if self._looked is None or now - self._looked > _LOOK_SECONDS:
            self._look(now)
        mine = [name for name, (owner, _) in self._leases.items() if owner == who and name in self._rows]
        free = (name for name in self._rows if name not in self._leases)
        name = mine[0] if mine else next(free, None)
        row = None
        if name is not None:
            self._leases[name] = (who, now + _LEASE_SECONDS)
            row = {**self._rows[name], "input": _shown(self._rows[name]["input"])}
        mine_told = len(self._said.get(who, ()))
        progress = {"mine": mine_told, "told": len(self._told), "left": len(self._rows)}
        return {"row": row, "labels": self.labels, "progress": progress, "message": message}

    def _look(self, now: float) -> None:
        """Read what is wanted; rows that were taken back stay, though the store knows a word of them."""
        back = {name: row for name, row in self._rows.items() if name in self._leases}
        self._rows = back | {row["id"]: row for row in to_label(self.folder, self.store, None)}
        self._looked = now


def _person(asked: dict[str, Any]) -> str:
    return str(asked.get("person") or "")[:_PERSON]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _file(name: str, kind: str) -> Callable[[], Any]:
    content = resources.files("langchain_dsplus.serve").joinpath(name).read_bytes()

    def get() -> Any:
        from starlette.responses import Response

        return Response(content, media_type=kind)

    return get


class _Guard:
    """The token for what holds data, and headers that keep the page to itself for everything."""

    def __init__(self, app: Any, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def headed(message: Any) -> None:
            if message["type"] == "http.response.start":
                pairs = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *pairs]}
            await send(message)

        given = next((value for name, value in scope["headers"] if name == TOKEN), b"")
        if scope["path"] in _FILES or hmac.compare_digest(given, self.token):
            await self.app(scope, receive, headed)
            return
        from starlette.responses import JSONResponse

        await JSONResponse({"detail": "the address lacks the token: open the one that was printed"}, 401)(
            scope, receive, headed
        )
