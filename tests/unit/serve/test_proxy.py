"""The proxy with real servers on both sides: what passes, who answers, and what goes wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.unit.serve.conftest import (
    CUT,
    MODEL,
    Asked,
    Provider,
    Proxy,
    chunked,
    completion,
    events,
    eventually,
    messages,
    whole,
)

Make = Callable[..., Proxy]
KEY = "sk-secret-of-the-user-1234567890"


def post(proxy: Proxy, body: Any, path: str = "/chat/completions", **options: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **options.pop("headers", {})}
    return httpx.post(proxy.base_url + path, content=content, headers=headers, timeout=30, trust_env=False, **options)


def test_without_a_live_model_everything_goes_up_and_is_recorded(proxy: Make, provider: Provider) -> None:
    here = proxy()
    texts = provider.world.texts(4)
    for text in texts:
        reply = post(here, {"model": MODEL, "messages": messages(text)})
        assert reply.content == completion(provider.world.truth[text])
        assert reply.headers["x-dsplus-route"] == "large"
        assert reply.headers["x-request-id"] == "req-7"
    rows = here.rows(4)
    assert [row["input"] for row in rows] == texts
    assert [row["large_said"]["label"] for row in rows] == [provider.world.truth[text] for text in texts]
    assert {row["route"]["reason"] for row in rows} == {"shadow"}
    assert rows[-1]["route_id"] == reply.headers["x-dsplus-route-id"]
    assert rows[-1]["usage"]["input_tokens"] == 20


def test_a_live_model_answers_and_nobody_else_is_asked(proxy: Make, provider: Provider, live: Any) -> None:
    here = proxy(**live)
    texts = provider.world.texts(20)
    routes = []
    for text in texts:
        reply = post(here, {"model": MODEL, "messages": messages(text)}).json()
        assert reply["choices"][0]["message"]["content"] == provider.world.truth[text]
        routes.append(reply["model"])
    local = sum(model.startswith("dsplus/") for model in routes)
    assert local > 5
    assert sum(row["route"]["accepted"] for row in here.rows(20)) == local
    audits = len(provider.asked) - (len(texts) - local)  # a small random share of the local ones is checked
    assert 0 <= audits <= local / 2


OTHERS: dict[str, Any] = {
    "another model": {"model": "big-2"},
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    "functions": {"functions": [{"name": "f", "parameters": {}}]},
    "n": {"n": 2},
    "a format": {"response_format": {"type": "json_object"}},
    "log-probabilities": {"logprobs": True},
    "a stop": {"stop": ["x"]},
    "a bias": {"logit_bias": {"1": 2}},
    "audio": {"modalities": ["text", "audio"]},
    "what comes next year": {"telepathy": {"on": True}},
    "a number that is a text": {"temperature": "hot"},
    "another system prompt": {"messages": [{"role": "system", "content": "Sing."}, {"role": "user", "content": "a"}]},
    "no system prompt": {"messages": [{"role": "user", "content": "a"}]},
    "several turns": {"messages": [*messages("a"), {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]},
    "an image": {"messages": [messages("a")[0], {"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}]}]},
    "a last word of the assistant": {"messages": [messages("a")[0], {"role": "assistant", "content": "b"}]},
    "nothing": {"messages": []},
    "no text": {"messages": [messages("a")[0], {"role": "user", "content": None}]},
    "half a surrogate": {"messages": [messages("a")[0], {"role": "user", "content": "\ud800"}]},
    "a name": {"messages": [messages("a")[0], {"role": "user", "content": "a", "name": "bob"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_task_of_the_shunt_passes_untouched(proxy: Make, provider: Provider, live: Any, name: str) -> None:
    reply_bytes = b'{"odd":  1,\n "spacing": [ ] }'
    provider.script = lambda _: whole("200 OK", reply_bytes, "x-custom: 1", "set-cookie: a=1", "set-cookie: b=2")
    here = proxy(**live)
    sent = json.dumps(
        {"model": MODEL, "messages": messages("refund1 refund2 refund3"), **OTHERS[name]}, indent=3
    ).encode()
    reply = post(here, sent, headers={"x-mine": "yes"})
    assert reply.content == reply_bytes
    assert reply.headers["x-dsplus-route"] == "untouched"
    assert reply.headers.get_list("set-cookie") == ["a=1", "b=2"]
    (asked,) = provider.asked
    assert asked.body == sent
    assert asked.header("x-mine") == ["yes"]
    assert asked.header("authorization") == [f"Bearer {KEY}"]
    assert asked.header("host") == [provider.url.split("/")[2]]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"[" * 5000, b'{"model": NaN}', b"null"])
def test_what_is_no_request_is_for_the_upstream_to_refuse(proxy: Make, provider: Provider, body: bytes) -> None:
    provider.script = lambda _: whole("400 Bad Request", b'{"error": {"message": "theirs"}}')
    reply = post(proxy(), body)
    assert (reply.status_code, reply.json()) == (400, {"error": {"message": "theirs"}})
    assert provider.asked[0].body == body


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/models"), ("GET", "/models/a%2Fb?x=1&y=%20"), ("POST", "/embeddings"), ("DELETE", "/files/f-1"),
     ("GET", "/chat/completions/abc"), ("PUT", "/x")],
)  # fmt: skip
def test_every_other_path_passes(proxy: Make, provider: Provider, method: str, path: str) -> None:
    here = proxy()
    reply = httpx.request(method, here.base_url + path, trust_env=False)
    assert reply.status_code == 200
    assert reply.headers["x-dsplus-route"] == "untouched"
    assert (provider.asked[0].method, provider.asked[0].path) == (method, "/v1" + path)


@pytest.mark.parametrize("path", ["/../admin", "/a/../../admin", "/%2e%2e/admin", "/a/%2E%2E/%2e%2e/x"])
def test_no_path_leads_out(proxy: Make, provider: Provider, path: str) -> None:
    here = proxy()
    host, port = here.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(f"GET /v1{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        reply = b"".join(iter(lambda: raw.recv(9999), b""))
    assert b" 400 " in reply.split(b"\r\n")[0]
    assert not provider.asked


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_passes_byte_for_byte_and_is_recorded(proxy: Make, provider: Provider, usage: bool) -> None:
    here = proxy()
    text = provider.world.text()
    asked = {"model": MODEL, "messages": messages(text), "stream": True}
    reply = post(here, asked | ({"stream_options": {"include_usage": True}} if usage else {}))
    assert reply.content == b"".join(events(provider.world.truth[text], usage=usage))
    assert reply.headers["content-type"] == "text/event-stream"
    (row,) = here.rows(1)
    assert row["large_said"]["label"] == provider.world.truth[text]
    assert ("usage" in row) == usage


def test_a_stream_comes_as_it_comes(proxy: Make, provider: Provider) -> None:
    parts = events("refund")
    provider.script = lambda _: chunked([parts[0], 20.0, *parts[1:]])
    here = proxy()
    with httpx.stream(
        "POST", here.base_url + "/chat/completions", trust_env=False, timeout=5,
        json={"model": MODEL, "messages": messages("x"), "stream": True},
    ) as reply:  # fmt: skip
        assert next(reply.iter_raw()) == parts[0]
    row = here.rows(1)[0]
    assert row.get("cut") or row.get("error"), "the client went away: the call was paid for, and has its row"
    eventually(lambda: provider.closed)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_cut_is_a_cut(proxy: Make, provider: Provider, stream: bool, known: bool) -> None:
    if stream:
        provider.script = lambda _: chunked(events("refund")[:3], ends=False)
    else:
        reply = whole("200 OK", completion("refund"))[0]
        provider.script = lambda _: [reply[:-30], 0.05, CUT]
    here = proxy()
    with pytest.raises(httpx.RemoteProtocolError):
        post(here, {"model": MODEL if known else "big-2", "messages": messages("x"), "stream": stream})
    assert [("error" in row) for row in here.rows(known)] == [True] * known
    assert httpx.get(here.root + "/healthz", trust_env=False).json()["requests"] == 0


# --- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("status", "header"),
    [("429 Too Many Requests", "retry-after: 17"), ("500 Internal Server Error", "x-a: b"), ("401 Unauthorized", "www-authenticate: Bearer"),
     ("400 Bad Request", "x-a: b"), ("503 Service Unavailable", "retry-after: 3"), ("302 Found", "location: http://elsewhere/")],
)  # fmt: skip
def test_a_fault_passes_as_itself(proxy: Make, provider: Provider, status: str, header: str, known: bool) -> None:
    provider.script = lambda _: whole(status, b'{"error": {"message": "theirs", "code": 7}}', header)
    here = proxy()
    reply = post(here, {"model": MODEL if known else "big-2", "messages": messages("x")})
    assert reply.status_code == int(status[:3])
    assert reply.json() == {"error": {"message": "theirs", "code": 7}}
    name, _, value = header.partition(": ")
    assert reply.headers[name] == value
    assert len(provider.asked) == 1, "retries are the client's"
    rows = here.rows(known)
    assert all("error" in row for row in rows)
    assert KEY not in json.dumps(rows)


@pytest.mark.parametrize("known", [False, True])
def test_a_slow_upstream_is_a_timeout_and_a_missing_one_is_said(proxy: Make, provider: Provider, known: bool) -> None:
    here = proxy(timeout=0.3)
    body = {"model": MODEL if known else "big-2", "messages": messages("x")}
    provider.script = lambda _: [3.0]
    slow = post(here, body)
    assert (slow.status_code, slow.json()["error"]["type"]) == (504, "dsplus_proxy_error")
    provider.script = lambda _: [CUT]
    gone = post(here, body)
    assert gone.status_code == 502
    assert [row["error"].startswith("large:") for row in here.rows(2 * known)] == [True, True] * known


def test_a_reply_that_cannot_be_read_passes_and_teaches_nothing(proxy: Make, provider: Provider) -> None:
    here = proxy()
    odd = [b"not json", b'{"choices": 7}', b"[]", b'{"choices": [{"message": {"content": null}}]}', b""]
    for content in odd:
        provider.script = lambda _, content=content: whole("200 OK", content)
        reply = post(here, {"model": MODEL, "messages": messages("x")})
        assert (reply.status_code, reply.content) == (200, content)
    assert all("error" in row and "large_said" not in row for row in here.rows(len(odd)))


def test_asked_is_what_was_sent() -> None:
    assert Asked("GET", "/", [("A", "1")], b"").header("a") == ["1"]
