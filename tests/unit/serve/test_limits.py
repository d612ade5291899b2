"""What the proxy bears, what it keeps to itself, and what it tells Prometheus."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from langchain_dsplus.serve import Limits
from tests.unit.serve.conftest import MODEL, Provider, Proxy, chunked, completion, events, eventually, messages, whole
from tests.unit.serve.test_proxy import KEY, post

Make = Callable[..., Proxy]


def raw(proxy: Proxy, *parts: Any) -> bytes:
    """Bytes as they are, with rests between; what comes until the other side closes."""
    host, port = proxy.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for part in parts:
            if isinstance(part, bytes):
                connection.sendall(part)
            else:
                time.sleep(part)
        return b"".join(iter(lambda: connection.recv(9999), b""))


@pytest.mark.parametrize("known", [False, True])
def test_more_than_it_bears_is_refused_and_then_it_goes_on(proxy: Make, provider: Provider, known: bool) -> None:
    provider.script = lambda _: [0.6, *whole("200 OK", completion("refund"))]
    here = proxy(limits=Limits(requests=2))
    body = {"model": MODEL if known else "big-2", "messages": messages("x")}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: post(here, body), range(6)))
    status = sorted(reply.status_code for reply in found)
    assert set(status) == {200, 503}
    assert 2 <= status.count(200) < 6
    refused = next(reply for reply in found if reply.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "dsplus_proxy_error"
    assert post(here, body).status_code == 200
    assert len(provider.asked) == status.count(200) + 1


def test_a_body_that_is_too_long_is_refused_however_it_comes(proxy: Make, provider: Provider) -> None:
    here = proxy(limits=Limits(body=1000))
    assert post(here, b"x" * 1000).status_code != 413
    assert post(here, b"x" * 1001).status_code == 413

    def parts() -> Any:
        for _ in range(20):
            yield b"x" * 100

    reply = httpx.post(here.base_url + "/files", content=parts(), trust_env=False)
    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "dsplus_proxy_error")
    assert len(provider.asked) == 1


def test_a_body_that_does_not_come_is_not_waited_for(proxy: Make, provider: Provider) -> None:
    here = proxy(limits=Limits(body_seconds=0.3))
    reply = raw(here, b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n{", 0.5)
    assert b" 408 " in reply.split(b"\r\n")[0]
    assert not provider.asked


def test_a_token_is_wanted_and_goes_no_further(proxy: Make, provider: Provider) -> None:
    here = proxy(token="s3cret")
    body = {"model": MODEL, "messages": messages("refund1")}
    provider.world.truth["refund1"] = "refund"
    for given in ({}, {"x-dsplus-token": "wrong"}, {"x-dsplus-token": ""}, {"authorization": "Bearer s3cret"}):
        assert post(here, body, headers=given).status_code == 401
    assert httpx.get(here.root + "/metrics", trust_env=False).status_code == 401
    assert httpx.get(here.root + "/healthz", trust_env=False).json()["status"] == "ok"
    assert not provider.asked
    assert post(here, body, headers={"x-dsplus-token": "s3cret"}).status_code == 200
    assert not provider.asked[0].header("x-dsplus-token")
    assert b"s3cret" not in provider.asked[0].body


@pytest.mark.parametrize("model", [MODEL, "big-2"])
def test_headers_of_one_hop_stay_there(proxy: Make, provider: Provider, model: str) -> None:
    provider.script = lambda _: whole(
        "200 OK", completion("refund"), "connection: x-up, close", "x-up: 1", "keep-alive: timeout=5", "x-kept: 2",
        "proxy-authenticate: Basic", "server: theirs", "date: Thu, 01 Jan 1970 00:00:00 GMT",
    )  # fmt: skip
    body = json.dumps({"model": model, "messages": messages("x")}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nConnection: close, X-Hop\r\n"
        "X-Hop: 1\r\nTE: trailers\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\nX-Kept: 2\r\n"
        "Accept-Encoding: gzip, br\r\nX-Twice: a\r\nX-Twice: b\r\n\r\n"
    ).encode()
    reply, _, content = raw(proxy(), head, body).partition(b"\r\n\r\n")
    assert content == completion("refund")
    lines = [line.lower() for line in reply.decode().split("\r\n")[1:]]
    assert not [line for line in lines if line.startswith(("x-up", "keep-alive", "proxy-"))]
    assert [line for line in lines if line.startswith("server")] == ["server: theirs"]
    assert [line for line in lines if line.startswith("date")] == ["date: thu, 01 jan 1970 00:00:00 gmt"]
    assert "x-kept: 2" in lines
    (asked,) = provider.asked
    for name in ("x-hop", "te", "proxy-authorization", "upgrade"):
        assert not asked.header(name)
    assert asked.header("x-twice") == ["a", "b"]
    assert asked.header("x-kept") == ["2"]
    assert asked.header("accept-encoding") == ["identity" if model == MODEL else "gzip, br"]


def test_a_client_that_goes_away_frees_the_upstream(proxy: Make, provider: Provider) -> None:
    provider.script = lambda _: [20.0]
    here = proxy()
    for model in (MODEL, "big-2"):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                here.base_url + "/chat/completions", json={"model": model, "messages": messages("x")}, timeout=0.3,
                trust_env=False,
            )  # fmt: skip
    eventually(lambda: provider.closed == 2)
    eventually(lambda: httpx.get(here.root + "/healthz", trust_env=False).json()["requests"] == 0)
    (row,) = here.rows(1)
    assert row.get("error") or row.get("cut")


@pytest.mark.parametrize("stream", [False, True])
def test_an_audit_asks_the_upstream_once_more_in_the_callers_name(
    proxy: Make, provider: Provider, live: Any, stream: bool
) -> None:
    here = proxy(**live, audit_rate=0.999)
    texts = [provider.world.text(label) for label in ("refund", "delivery") * 3]
    for text in texts:
        assert post(here, {"model": MODEL, "messages": messages(text), "stream": stream}).headers["x-dsplus-route"]
    audits = here.rows(sum(row["route"]["accepted"] for row in here.rows(6)), "audit")
    assert {row["large_said"]["label"] for row in audits} <= {"refund", "delivery"}
    assert len(provider.asked) == 6
    assert {asked.header("authorization")[0] for asked in provider.asked} == {f"Bearer {KEY}"}
    local = {row["route_id"]: row["input"] for row in here.rows(6) if row["route"]["accepted"]}
    for asked in provider.asked:
        if asked.json["messages"][-1]["content"] in local.values():
            assert "stream" not in asked.json


def test_a_key_is_nowhere(
    proxy: Make, provider: Provider, live: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    here = proxy(**live)
    text = provider.world.text()
    deeds: list[Any] = [
        None, lambda _: whole("500 Oh", b"{}"), lambda _: whole("200 OK", b"odd"),
        lambda _: chunked(events("refund")[:2], ends=False),
    ]  # fmt: skip
    for script in deeds:
        provider.script = script
        for model in (MODEL, "big-2"):
            with contextlib.suppress(httpx.HTTPError):
                post(
                    here,
                    {"model": model, "messages": messages(text), "stream": True},
                    path=f"/chat/completions?key={KEY}",
                )
    here.shunt.store.flush()
    for file in (tmp_path / "shunt").rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("langchain_dsplus", "uvicorn"))]
    assert KEY not in "".join(ours)
    assert KEY not in httpx.get(here.root + "/metrics", trust_env=False).text


def test_prometheus_is_told(proxy: Make, provider: Provider, live: Any) -> None:
    here = proxy(**live)
    for label in ("refund", "login"):
        post(here, {"model": MODEL, "messages": messages(provider.world.text(label))})
    post(here, {"model": "big-2", "messages": []})
    provider.script = lambda _: whole("429 No", b"{}")
    post(here, {"model": MODEL, "messages": messages(provider.world.text("login"))})
    expected = {
        'dsplus_requests_total{route="small",status="200"} 1.0', 'dsplus_requests_total{route="large",status="200"} 1.0',
        'dsplus_requests_total{route="untouched",status="200"} 1.0',
        'dsplus_requests_total{route="large",status="429"} 1.0', "dsplus_live 1.0", "dsplus_requests_running 0.0",
        "dsplus_rows_lost 0.0", 'dsplus_request_seconds_count{route="small"} 1.0',
    }  # fmt: skip

    def told() -> httpx.Response:
        return httpx.get(here.root + "/metrics", trust_env=False)

    # A request is counted a moment after its answer went out.
    eventually(lambda: expected <= {*told().text.splitlines()})
    assert told().headers["content-type"].startswith("text/plain")
